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

    def along(self, values: Array) -> Along:
        """The Gaussians at values of the one."""
        return Along(self, values)


@dataclass(frozen=True, eq=False)
class Along:
    """Gaussians at values (value,) of the one."""

    gaussians: Gaussians
    values: Array

    @cached_property
    def _below(self) -> Index:
        """Point below each value."""
        return np.clip(np.searchsorted(self.gaussians.points, self.values) - 1, 0, len(self.gaussians.points) - 2)

    @cached_property
    def _place(self) -> Array:
        """Each value's place between that point and the next."""
        return (self.values - self.gaussians.points[self._below]) / np.diff(self.gaussians.points)[self._below]

    def _mixed(self, below: Array, above: Array) -> Array:
        """What is linear between two points, from its values (value, ...) at both."""
        weight = self._place.reshape(-1, *[1] * (below.ndim - 1))
        return np.asarray((1 - weight) * below + weight * above)

    @cached_property
    def root(self) -> Array:
        """L (value, other, other)."""
        roots = self.gaussians.roots
        return self._mixed(roots[self._below], roots[self._below + 1])

    @cached_property
    def _centre(self) -> Array:
        """c (value, coordinate)."""
        centres = self.gaussians.centres
        out = self._mixed(centres[self._below], centres[self._below + 1])
        out[:, self.gaussians.outer] = self.values
        return out

    def nodes(self, unit: Array) -> Array:
        """Nodes (value, coordinate) with all others c + L unit: (value, other)."""
        out = self._centre.copy()
        out[:, self.gaussians.others] += np.matmul(self.root, unit[:, :, None])[:, :, 0]
        return out

    @cached_property
    def log_volume(self) -> Array:
        """log|L| (value,)."""
        return np.asarray(np.log(np.diagonal(self.root, axis1=1, axis2=2)).sum(axis=1))

    @cached_property
    def slopes(self) -> tuple[Array, Array, Array]:
        """Slopes of c (value, other), of L (value, other, other) and of log|L| (value,) by the one."""
        known, below = self.gaussians, self._below
        width = np.diff(known.points)[below]
        centre = (known.centres[below + 1] - known.centres[below])[:, known.others] / width[:, None]
        root = (known.roots[below + 1] - known.roots[below]) / width[:, None, None]
        diagonal = np.diagonal(root, axis1=1, axis2=2) / np.diagonal(self.root, axis1=1, axis2=2)
        return centre, root, diagonal.sum(axis=1)
