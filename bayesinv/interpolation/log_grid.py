"""Sums over products of two numbers as sums over few points: products are moved to a grid of their logarithms.

    Σ_ij w_ij f(a_i b_j) = Σ_k mass_k f(exp(SPACING k))

for functions f(x) that are analytic in log x within π of the real axis, such as log(1 + x) and 1 / (1 + x). Between
equally spaced points they are polynomials to nine digits, so that a product counts as products at `STENCIL` points
around it, with the weights of polynomial interpolation. The logarithm of a product is a sum: the a_i are moved first,
and then all of one b_j together.

Reference: Trefethen (2019), Approximation Theory and Approximation Practice, chapters 5 and 11.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import factorial

import numpy as np

from bayesinv.axes import Array, Index

SPACING, STENCIL = 0.2, 10
"""Distance of the grid's points in the logarithm, and points that a product is moved to. The error of polynomial
interpolation between them is 2e-10 of log(1 + x) and 2e-9 of 1 / (1 + x) where x is 1, and less elsewhere."""

SMALLEST_SHARE = 1e-18
"""Eigenvalue, relative to the largest, below which it is taken for zero."""


@dataclass(frozen=True, eq=False)
class MovedComponents:
    """Components in modes of time, moved to a grid of eigenvalues, whatever variance currents have in the modes.

    mass : (2, point, mode), counts and powers at the eigenvalues exp(SPACING (first + point))
    zero : (2, mode), the same of components whose eigenvalue is zero
    """

    mass: Array
    zero: Array
    first: int

    @classmethod
    def of(cls, blocks: Sequence[tuple[Array, Array]]) -> MovedComponents:
        """Move components: values (component,) and squared coefficients (component, mode) of each block of modes."""
        largest = max(float(values.max()) for values, _ in blocks)
        moved, zero = [], []
        for values, table in blocks:
            live = values > SMALLEST_SHARE * largest
            points, weights = _stencil(np.log(values[live]) / SPACING)
            moved.append((points, weights, table[live]))
            counts = np.full(table.shape[1], float(np.count_nonzero(~live)))
            zero.append(np.stack([counts, table[~live].sum(axis=0)]))
        first = min((int(points.min()) for points, _, _ in moved if len(points)), default=0)
        last = max((int(points.max()) for points, _, _ in moved if len(points)), default=0)
        mass = np.zeros((2, last - first + STENCIL, sum(one.shape[1] for one in zero)))
        start = 0
        for points, weights, table in moved:
            stop = start + table.shape[1]
            to_points = _to_points(points - first, weights, mass.shape[1])
            mass[0, :, start:stop] = to_points.sum(axis=1)[:, None]
            np.matmul(to_points, table, out=mass[1, :, start:stop])
            start = stop
        return cls(mass, np.concatenate(zero, axis=1), first)

    def over(self, powers: Array) -> tuple[Array, Array]:
        """Return eigenvalues (part,), and counts and powers of the recording (2, part), at variances (mode,)."""
        on = powers > SMALLEST_SHARE * powers.max(initial=0.0)
        zero = self.zero.sum(axis=1) + self.mass[:, :, ~on].sum(axis=(1, 2))
        if not on.any():
            return np.zeros(1), zero[:, None]
        points, weights = _stencil(np.log(powers[on]) / SPACING)
        first = int(points.min())
        to_points = _to_points(points - first, weights, int(points.max()) - first + STENCIL)
        found = self.mass[:, :, on] @ to_points.T
        # A point of the components and one of the modes add up to the point of their product.
        place = np.arange(found.shape[1])[:, None] + np.arange(found.shape[2])
        mass = np.stack([np.bincount(place.ravel(), one.ravel()) for one in found])
        low = max(0, mass.shape[1] - round(-np.log(SMALLEST_SHARE) / SPACING) - 4 * STENCIL)
        zero += mass[:, :low].sum(axis=1)
        eigenvalues = np.exp(SPACING * (self.first + first + np.arange(low, mass.shape[1])))
        return np.append(0.0, eigenvalues), np.hstack([zero[:, None], mass[:, low:]])


def _to_points(first: Index, weights: Array, size: int) -> Array:
    """Matrix (point, part) that moves parts to points, given the first point of each and its weights (point, part)."""
    out = np.zeros((size, len(first)))
    out[first + np.arange(STENCIL)[:, None], np.arange(len(first))] = weights
    return out


def _stencil(place: Array) -> tuple[Index, Array]:
    """First of the points around places (part,), and weights (point, part) of polynomial interpolation from them."""
    first = np.floor(place).astype(np.int64) - (STENCIL // 2 - 1)
    distance = place - first - np.arange(STENCIL)[:, None]
    # So small a number cancels where a place is a point.
    distance[distance == 0] = 1e-200
    lone = [factorial(k) * factorial(STENCIL - 1 - k) * (-1.0) ** (STENCIL - 1 - k) for k in range(STENCIL)]
    return first, np.asarray(np.prod(distance, axis=0) / distance / np.array(lone)[:, None])
