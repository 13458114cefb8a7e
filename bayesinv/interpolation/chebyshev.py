"""Functions of one variable on an interval: Chebyshev series, refined until a measured error is below a tolerance.

Reference: Trefethen (2019), Approximation Theory and Approximation Practice, extended edition, SIAM.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.polynomial import chebyshev as polynomial
from scipy.special import iv

from bayesinv.axes import Array
from bayesinv.memory import PickledByFields, cached_property

POINT_COUNTS = (17, 33, 65)
"""Numbers of points that are tried in turn; each set holds the one before."""

V = TypeVar("V")
S = TypeVar("S")


@dataclass(frozen=True, eq=False)
class Chebyshev(PickledByFields):
    """Points on an interval, and the Chebyshev series through values there.

        f(x) = Σ_k c_k T_k(unit),   unit = 2 (x - low) / (high - low) - 1,   c = transform @ f(points)

    points : (node,), ascending, in [low, high]; as many as the series has coefficients
    """

    points: Array
    low: float
    high: float

    @classmethod
    def nested(cls, low: float, high: float, count: int) -> Chebyshev:
        """Points of the second kind: they include the ends, and are a subset of those of 2 count - 1 points."""
        unit = (1 - np.cos(np.pi * np.arange(count) / (count - 1))) / 2
        return cls(low + (high - low) * unit, low, high)

    @classmethod
    def inner(cls, low: float, high: float, count: int) -> Chebyshev:
        """Points of the first kind: the zeros of the first polynomial beyond the series."""
        unit = (1 - np.cos(np.pi * (np.arange(count) + 0.5) / count)) / 2
        return cls(low + (high - low) * unit, low, high)

    @property
    def degree(self) -> int:
        """Degree of the series."""
        return len(self.points) - 1

    @property
    def between(self) -> tuple[float, float]:
        """Places between the points where the error is measured: next to the lower end, and in the middle."""
        half = len(self.points) // 2
        one, two = ((self.points[j] + self.points[j + 1]) / 2 for j in (0, half))
        return float(one), float(two)

    def to_unit(self, place: Any) -> Any:
        """Return a place, an array of them or a graph mapped from [low, high] to [-1, 1]."""
        return 2 * (place - self.low) / (self.high - self.low) - 1

    @cached_property
    def transform(self) -> Array:
        """From values at the points to coefficients: (coefficient, node)."""
        return np.asarray(np.linalg.inv(self.polynomials(self.points)))

    def coefficients(self, values: Array) -> Array:
        """Coefficients (coefficient, ...) of the series through values (node, ...) at the points."""
        return np.asarray(np.tensordot(self.transform, values, axes=1))

    def polynomials(self, place: float | Array) -> Array:
        """Polynomials at places: (..., coefficient)."""
        return np.asarray(polynomial.chebvander(self.to_unit(place), self.degree))

    def slopes(self, place: float) -> Array:
        """Derivatives of the polynomials by the place: (coefficient,)."""
        unit = self.to_unit(place)
        by_unit = [polynomial.chebval(unit, polynomial.chebder(one)) for one in np.eye(self.degree + 1)]
        return 2 * np.array(by_unit) / (self.high - self.low)

    def cardinal(self, place: Array) -> Array:
        """Weights (place, node) with which values at the points give the value at each place."""
        return np.asarray(self.polynomials(place) @ self.transform)

    def graph(self, place: Any) -> Any:
        """Polynomials (coefficient,) at a place that is a PyTensor scalar; beyond the interval those of its end.

        A recurrence would be a graph of as many steps as there are points, whose compilation takes minutes. At the
        ends of the interval the derivative of the angle is infinite, so the angle stops a millionth of a radian short.
        """
        import pytensor.tensor as pt

        angle = pt.arccos(pt.clip(self.to_unit(place), -1 + 1e-12, 1 - 1e-12))
        return pt.cos(np.arange(self.degree + 1) * angle)


def refined(
    low: float,
    high: float,
    at: Callable[[float], V],
    through: Callable[[Chebyshev, tuple[V, ...]], S],
    error: Callable[[S, float, V], float],
    tolerance: float,
    counts: tuple[int, ...] = POINT_COUNTS,
) -> tuple[S, float]:
    """Return an interpolant through as many nested points as the tolerance needs, and its measured error.

    at : the function at a place; evaluated once for each
    through : the interpolant, from points and the function's values there
    error : of an interpolant, at a place between its points, from the function's value there
    counts : of points that are tried in turn, each one less than twice the one before

    The error of the finest is above the tolerance if no number of points reaches it; the caller handles that.
    """
    known: dict[float, V] = {}

    def once(x: float) -> V:
        place = round(float(x), 15)
        if place not in known:
            known[place] = at(place)
        return known[place]

    for count in counts:
        series = Chebyshev.nested(low, high, count)
        found = through(series, tuple(once(x) for x in series.points))
        off = max(error(found, x, once(x)) for x in series.between)
        if off <= tolerance:
            break
    return found, off


def terms_of_exponential(rate: float, precise: float) -> int:
    """Return how many coefficients of exp(rate x) on [-1, 1] are above `precise`, relative to its largest value.

    The coefficients are modified Bessel functions of the rate.
    """
    orders = np.arange(200)
    small = iv(orders, rate) * np.exp(-rate) < precise
    return int(orders[small][0]) + 1


def weighted(weights: Array, table: Array) -> Array:
    """Return the sum (row, column) of matrices (coefficient, row, column) with weights (coefficient,)."""
    return np.asarray((weights @ table.reshape(len(table), -1)).reshape(table.shape[1:]))
