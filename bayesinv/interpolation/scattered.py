"""Functions of several variables: polyharmonic splines through scattered points, and splines on a lattice.

References: Duchon (1977), Lect. Notes Math. 571, 85-100 (polyharmonic splines); Berrut & Trefethen (2004), SIAM Rev.
46, 501-517 (polynomials through points).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import RBFInterpolator
from scipy.special import logsumexp

from bayesinv.axes import Array

LOG_DENSITY_RANGE = 1e4
"""Nats below the peak at which a density is negligible; lower values are raised to it."""

FEW_POINTS = 9
"""Points along one axis up to which a polynomial goes through all of them; with more, equally spaced, it may swing."""

MAX_ERROR = 10.0
"""Nats at which the error of a log density is truncated."""

MAX_RESIDUAL = 15.0
"""Nats off a parabola at which residuals of the log density saturate."""


@dataclass(frozen=True, eq=False)
class Scattered:
    """Log densities between scattered points, each column a function of its own; parabolas are reproduced exactly.

    Along one axis a polynomial through few points is far more exact than splines, for log densities are analytic.

    below : from points (point, axis) to log densities below their peak (point, column)
    peak : nats
    """

    below: Callable[[Array], Array]
    peak: float

    @classmethod
    def of(cls, points: Array, log_density: Array) -> Scattered:
        """Interpolate log densities (point, column) between points (point, axis)."""
        peak = float(log_density.max())
        below = log_density - peak
        if points.shape[1] == 1 and len(points) <= FEW_POINTS and below.min() > -LOG_DENSITY_RANGE:
            return cls(lambda at: _polynomial(points[:, 0], at[:, 0]) @ below, peak)
        # Far from the peak a log density may be minus infinity, and must not make the splines oscillate.
        below = np.maximum(below, -LOG_DENSITY_RANGE)
        return cls(RBFInterpolator(points, below, kernel="quintic", degree=2), peak)

    def at(self, points: Array) -> Array:
        """Log densities (point, column) at points (point, axis)."""
        return np.asarray(self.below(points)) + self.peak


def interpolate_scattered(points: Array, log_density: Array, at: Array) -> Array:
    """Return log densities (target, column) at the points `at` (target, axis), from those at `points` (point, axis).

    log_density : (point, column)
    """
    return Scattered.of(points, log_density).at(at)


def _polynomial(points: Array, at: Array) -> Array:
    """Matrix (target, point) from values at points (point,) to those of the polynomial through them at (target,)."""
    apart = points[:, None] - points + np.eye(len(points))
    left = at[:, None] - points
    each = np.repeat(left[:, None], len(points), axis=1)
    each[:, np.arange(len(points)), np.arange(len(points))] = 1.0
    return np.asarray(each.prod(axis=2) / apart.prod(axis=1))


def measured_error(interpolated: Array, exact: Array, log_density: Array) -> float:
    """Return the largest error in nats, weighted by mass, of interpolated log densities.

    interpolated, exact : (target, column), at points where both are known
    log_density : (point, column), exact at all points; the point of the largest mass has mass one
    """
    mass = np.exp(exact - logsumexp(log_density, axis=1).max())
    # A larger error than this would not be worse.
    error = np.minimum(np.abs(interpolated - np.maximum(exact, interpolated.max() - LOG_DENSITY_RANGE)), MAX_ERROR)
    return float(np.sum(mass * error, axis=1).max())


def interpolant_on_lattice(index: Array, log_density: Array) -> Callable[[Array], Array]:
    """Return the interpolant of a log density on a lattice, a parabola and quintic splines: (point, axis) to (point,).

    index : (node, axis), integers, not necessarily all of a box
    log_density : (node,), at the nodes

    `interpolate_scattered` solves one system for all points, which is too large for a lattice of thousands of nodes;
    these splines need a lattice, which points chosen for their mass do not form.
    """
    from scipy.ndimage import map_coordinates, spline_filter

    corner, size = index.min(axis=0), index.shape[1]
    peak = log_density.max()
    drop = peak - log_density
    finite = drop < np.inf
    scale = np.abs(index).max(axis=0)
    scaled = index / scale

    def terms(points: Array) -> Array:
        pairs = [points[:, i] * points[:, j] for i in range(size) for j in range(i + 1)]
        return np.column_stack([np.ones(len(points)), points, *pairs])

    weights = np.exp(-np.minimum(drop, 40.0) / 8)[finite]
    fit = np.linalg.lstsq(weights[:, None] * terms(scaled[finite]), weights * drop[finite], rcond=None)[0]
    # Residuals far from the peak, where there is no mass, must not make the splines oscillate.
    residual = np.ones(tuple((index.max(axis=0) + 1 - corner).astype(int)))
    residual[tuple((index - corner).astype(int).T)] = np.tanh(
        (np.minimum(drop, 1e6) - terms(scaled) @ fit) / MAX_RESIDUAL
    )
    splines = spline_filter(residual, order=5)

    def interpolant(points: Array) -> Array:
        residuals = map_coordinates(splines, (points - corner).T, order=5, prefilter=False, mode="nearest")
        return np.asarray(
            peak - terms(points / scale) @ fit - MAX_RESIDUAL * np.arctanh(np.clip(residuals, -0.999, 0.999))
        )

    return interpolant
