"""Gaussians of all coordinates but one, on a lattice of that one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline, PchipInterpolator

from bayesinv.axes import Array, Index
from bayesinv.memory import cached_property

FINE = 801
"""Points of the interpolated density."""


@dataclass(frozen=True, eq=False)
class Gaussians:
    """Gaussians of all coordinates but one, on a lattice of that one; between its points centres and roots are linear.

    outer : index of the one
    points : (point,), its values
    centres : (point, coordinate), modes at these
    roots : (point, other, other), lower triangles of the covariances of all others
    log_masses : (point,), log of the integral over all others, by Laplace's approximation
    """

    outer: int
    points: Array
    centres: Array
    roots: Array
    log_masses: Array

    @cached_property
    def others(self) -> Index:
        """Indices of all other coordinates."""
        return np.delete(np.arange(self.centres.shape[1]), self.outer)

    @cached_property
    def spline(self) -> tuple[Array, CubicSpline]:
        """A fine grid of the one, and the log masses between the points."""
        return np.linspace(self.points[0], self.points[-1], FINE), CubicSpline(self.points, self.log_masses)

    def density(self) -> tuple[Array, Array, float, float]:
        """A fine grid of the one, its probabilities there, and the log integral with its error by interpolation."""
        grid, spline = self.spline
        found, step = [], grid[1] - grid[0]
        for kind in (spline, PchipInterpolator(self.points, self.log_masses)):
            logs = kind(grid)
            found.append((logs, float(logs.max() + np.log(np.exp(logs - logs.max()).sum() * step))))
        (logs, total), (_, other) = found
        return grid, np.exp(logs - total) * step, total, abs(total - other)

    def _between(self, values: Array) -> tuple[Index, Array]:
        """Point below each value, and the value's place between that and the next."""
        below = np.clip(np.searchsorted(self.points, values) - 1, 0, len(self.points) - 2)
        return below, (values - self.points[below]) / np.diff(self.points)[below]

    def root(self, values: Array) -> Array:
        """L (value, other, other) at values of the one."""
        below, place = self._between(values)
        weight = place[:, None, None]
        return np.asarray((1 - weight) * self.roots[below] + weight * self.roots[below + 1])

    def nodes(self, values: Array, unit: Array) -> Array:
        """Nodes (value, coordinate) with all others c + L unit: (value, other)."""
        below, place = self._between(values)
        out = (1 - place[:, None]) * self.centres[below] + place[:, None] * self.centres[below + 1]
        out[:, self.outer] = values
        out[:, self.others] += np.einsum("nab,nb->na", self.root(values), unit)
        return np.asarray(out)

    def log_volume(self, values: Array) -> Array:
        """log|L| (value,)."""
        return np.asarray(np.log(np.diagonal(self.root(values), axis1=1, axis2=2)).sum(axis=1))

    def slopes(self, values: Array) -> tuple[Array, Array, Array]:
        """Slopes of c (value, other), of L (value, other, other) and of log|L| (value,) by the one."""
        below, _ = self._between(values)
        width = np.diff(self.points)[below]
        centre = (self.centres[below + 1] - self.centres[below])[:, self.others] / width[:, None]
        root = (self.roots[below + 1] - self.roots[below]) / width[:, None, None]
        diagonal = np.diagonal(root, axis1=1, axis2=2) / np.diagonal(self.root(values), axis1=1, axis2=2)
        return centre, root, diagonal.sum(axis=1)
