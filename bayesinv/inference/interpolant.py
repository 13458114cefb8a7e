"""The posterior density at a few structures, and smoothly between them.

A new structure costs a decomposition, scales next to nothing. So the density is worked out at a few structures, for
all scales of a lattice at once, and interpolated between them, scale by scale, by radial basis functions; structures
that took no part in it tell how well that goes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import factorial

import numpy as np
from scipy.special import logsumexp

from bayesinv.axes import Array
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.interpolation.gauss_rules import gauss_rule
from bayesinv.interpolation.scattered import interpolate_scattered, measured_error
from bayesinv.prior.density import Density

WIDENING = 0.3
"""How fast a lattice widens in the tails."""

SPACINGS = {2.0: 1e-6, 1.0: 1e-2, 0.5: 1e-2, 0.25: 1e-2}
"""Distances of structures that are tried, in units of the curvature, and the mass, relative to the heaviest, from which
one is worked out: what little lies in the tails need not be known as closely."""

CORE = max(SPACINGS)
"""Distance from the mode to which structures are worked out whatever they weigh."""

EXACT = 1e-3
"""Error of the log density, in nats and in proportion to its mass, with which structures are close enough."""

MOST = 1000
"""Structures that may be worked out."""

SETTLED = 1e-4
"""Relative error of the currents' variance that a Gauss rule over structures may have."""

MOST_POINTS = 7
"""Points of a Gauss rule along one axis."""


def nodes_at(centre: Array, axes: Array, points: Array) -> Array:
    """Unconstrained hyperparameters (node, coordinate) at points (node, axis) along transformed axes."""
    return centre + np.sinh(WIDENING * points) / WIDENING @ axes.T


def log_jacobian(points: Array) -> Array:
    """Log Jacobian (node,) of the transform at points (node, axis)."""
    return np.asarray(np.log(np.cosh(WIDENING * points)).sum(axis=1))


def grid_points(axes_points: list[Array]) -> Array:
    """Points (point, axis) of the grid over some axes; one point without numbers where there is no axis."""
    if not axes_points:
        return np.zeros((1, 0))
    return np.stack(np.meshgrid(*axes_points, indexing="ij"), axis=-1).reshape(-1, len(axes_points))


@dataclass(eq=False)
class Interpolant:
    """The log density over transformed axes, of which the first few shape the structure.

    density : of the hyperparameters
    centre, axes : (coordinate,) and (coordinate, axis); structures do not change along the later axes
    structural : number of the first
    spacing : of the structures that are worked out
    error : largest of the density between them, nats in proportion to mass
    """

    density: Density
    centre: Array
    axes: Array
    structural: int
    spacing: float = CORE
    error: float = np.inf
    known: list[tuple[float, ...]] = field(default_factory=list)
    rows: dict[bytes, list[Array]] = field(default_factory=dict)

    def log_densities(self, points: Array, columns: Array) -> Array:
        """Log density (point, column) of the hyperparameters, worked out."""
        nodes = np.concatenate(
            [np.repeat(points, len(columns), axis=0), np.tile(columns, (len(points), 1))], axis=1
        ).reshape(len(points) * len(columns), -1)
        return self.density(nodes_at(self.centre, self.axes, nodes)).reshape(len(points), len(columns))

    def _rows(self, columns: Array) -> Array:
        """Log density (known, column) at the structures that are known."""
        rows = self.rows.setdefault(columns.tobytes(), [])
        if len(rows) < len(self.known):
            rows.extend(self.log_densities(np.array(self.known[len(rows) :]), columns))
        return np.array(rows)

    def at(self, points: Array, columns: Array) -> Array:
        """Log density (point, column) with respect to the transformed axes, at any structures and known scales."""
        return self._between(points, columns) + log_jacobian(points)[:, None] + log_jacobian(columns)

    def _between(self, points: Array, columns: Array) -> Array:
        """Log density (point, column) of the hyperparameters, interpolated."""
        # Without the transform the log density is all but a parabola, which the interpolation has for nothing.
        known, wanted = (np.sinh(WIDENING * one) for one in (np.array(self.known), points))
        return interpolate_scattered(known, self._rows(columns), wanted)

    def _add(self, points: list[tuple[float, ...]]) -> None:
        self.known += [point for point in points if point not in self.known]

    def explore(self, low: Array, high: Array, columns: Array, *, whole: bool = False) -> None:
        """Work out structures wherever there is mass between `low` and `high` (axis,), until none is missing between.

        whole : do not follow the mass, which may lie in several places
        """
        for spacing in [one for one in SPACINGS if one <= self.spacing]:
            self.spacing = spacing
            self._follow(low, high, columns, whole)
            if self.error > EXACT:
                self._check(columns)
            if self.error <= EXACT:
                return

    def _follow(self, low: Array, high: Array, columns: Array, whole: bool) -> None:
        axes_points = [
            self.spacing * np.arange(np.ceil(a / self.spacing), np.floor(b / self.spacing) + 1)
            for a, b in zip(low, high, strict=True)
        ]
        every = [tuple(point) for point in grid_points(axes_points).tolist()]
        self._add([point for point in every if whole or max(map(abs, point)) <= min(CORE, self.spacing)])
        while len(self.known) < MOST:
            left = [point for point in every if point not in self.known]
            if not left:
                return
            mass = logsumexp(self.at(np.array([*left, *self.known]), columns), axis=1)
            least = mass[len(left) :].max() + np.log(SPACINGS[self.spacing])
            heavy = [point for point, one in zip(left, mass, strict=False) if one > least]
            if not heavy:
                return
            self._add(heavy)

    def _check(self, columns: Array) -> None:
        """Compare what is interpolated with the density halfway between structures around the mode."""
        half = self.spacing / 2
        points = grid_points([np.array([-half, half])] * self.structural)
        if self.spacing < CORE:
            # Structures that are closer are so because the density bends, which shows beside the mode.
            points = np.concatenate([points, 3 * half * np.eye(self.structural), -3 * half * np.eye(self.structural)])
        points = np.array([point for point in points if tuple(point.tolist()) not in self.known]).reshape(
            -1, self.structural
        )
        if not len(points):
            # A wider box brings no new structures here, and what was interpolated of these holds.
            return
        interpolated = self._between(points, columns)
        self._add([tuple(point) for point in points.tolist()])
        rows = self._rows(columns)
        exact = np.array([rows[self.known.index(tuple(point))] for point in points.tolist()])
        self.error = measured_error(interpolated, exact, rows)

    def gauss(self, axes_points: list[Array], columns: Array) -> tuple[Array, Array]:
        """Few nodes (node, coordinate) and weights (node,), summing to 1, that currents are mixed over.

        Along every axis of the structure stands the Gauss rule of the posterior itself, with as many points as the
        variances of the currents want; the scales keep the lattice at every one of its structures.

        axes_points : points along every axis of the structure
        columns : (column, axis), points of the scales
        """
        counts = [self._points(axis) for axis in range(self.structural)]
        rules: list[tuple[tuple[float, ...], float]] = [((), 1.0)]
        for axis, axis_points in enumerate(axes_points):
            rest = grid_points(axes_points[axis + 1 :])
            finer = []
            for point, weight in rules:
                given = np.array([(*point, x, *other) for x in axis_points for other in rest])
                mass = logsumexp(self.at(given, columns).reshape(len(axis_points), -1), axis=1)
                rule, shares = gauss_rule(axis_points, np.exp(mass - mass.max()), counts[axis])
                finer += [((*point, float(x)), weight * float(w)) for x, w in zip(rule, shares, strict=True)]
            rules = finer
        nodes, weights = [], []
        for point, weight in rules:
            row = self.at(np.array([point]), columns)[0]
            share = np.exp(row - logsumexp(row))
            kept = share > 1e-9
            where = np.concatenate([np.tile(point, (int(kept.sum()), 1)), columns[kept]], axis=1)
            nodes.append(nodes_at(self.centre, self.axes, where))
            weights.append(weight * share[kept] / share[kept].sum())
        return np.concatenate(nodes), np.concatenate(weights)

    def _points(self, axis: int) -> int:
        """Points of a Gauss rule that hold the variance of the currents along an axis.

        The n points of exp(2 a u), u ~ Normal(0, 1), leave n! (2a)²ⁿ / (2n)! out; a is by how much a variance changes,
        as a logarithm: that of a current, or that of the recording in the direction in which it changes most.
        """
        ends = np.zeros((2, len(self.centre)))
        ends[:, axis] = -CORE, CORE
        nodes = nodes_at(self.centre, self.axes, ends)
        variance, noise = self.density.scales(nodes)
        problem = self.density.observation.problem
        spectra = [
            Spectrum.of(problem, one) for one in self.density.structures(nodes[:, list(self.density.structural)])
        ]
        totals = [v * one.likelihood.eigenvalues + n**2 for v, n, one in zip(variance, noise, spectra, strict=True)]
        if spectra[0].modes is None:
            white = spectra[0].to_components / np.sqrt(totals[0])
            relative = white.T @ (spectra[1].from_components * np.sqrt(totals[1]))
            ratios = [np.linalg.eigvalsh(relative @ relative.T)]
        else:
            ratios = [np.sort(totals[1]) / np.sort(totals[0])]
        weights = [v * one.weights for v, one in zip(variance, spectra, strict=True)]
        ratios.append(weights[1][weights[0] > 0] / weights[0][weights[0] > 0])
        apart = 2 * np.sinh(WIDENING * CORE) / WIDENING
        rate = max(float(np.abs(np.log(one)).max()) for one in ratios) / apart
        left = [factorial(n) * (2 * rate) ** (2 * n) / factorial(2 * n) for n in range(2, MOST_POINTS)]
        return next((n for n, one in enumerate(left, 2) if one < SETTLED), MOST_POINTS)
