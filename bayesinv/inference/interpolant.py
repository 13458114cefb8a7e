"""Interpolation of the posterior density between structures.

A new structure costs a decomposition, new scales almost nothing. So the density is evaluated at a few structures, for
all scales of a lattice at once, and interpolated between them, scale by scale, by radial basis functions; structures
that were held out measure its error.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import factorial

import numpy as np
from scipy.special import logsumexp

from bayesinv.axes import Array
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.interpolation.gauss_rules import gauss_rule
from bayesinv.interpolation.scattered import Scattered, measured_error
from bayesinv.prior.density import Density

WIDENING = 0.3
"""Rate at which the spacing of a lattice widens in the tails."""

SPACINGS = {2.0: 1e-6, 1.0: 1e-2, 0.5: 1e-2, 0.25: 1e-2}
"""Spacings of structures that are tried, in units of the curvature, each with the probability, relative to the largest,
from which a structure is evaluated."""

WIDEST_SPACING = max(SPACINGS)
"""The first spacing, and the distance from the mode up to which structures are always evaluated."""

DENSITY_TOLERANCE = 1e-3
"""Largest error of the interpolated log density, in nats, weighted by probability."""

MAX_EVALUATED_STRUCTURES = 1000
"""Largest number of structures that are evaluated."""

VARIANCE_TOLERANCE = 1e-4
"""Largest relative error of the currents' variance by a Gauss rule over structures."""

MAX_GAUSS_POINTS = 7
"""Largest number of points of a Gauss rule along one axis."""


def nodes_at(centre: Array, axes: Array, points: Array) -> Array:
    """Unconstrained hyperparameters (node, coordinate) at points (node, axis) along transformed axes."""
    return centre + np.sinh(WIDENING * points) / WIDENING @ axes.T


def log_jacobian(points: Array) -> Array:
    """Log Jacobian (node,) of the transform at points (node, axis)."""
    return np.asarray(np.log(np.cosh(WIDENING * points)).sum(axis=1))


def grid_points(axes_points: list[Array]) -> Array:
    """Points (point, axis) of the grid over some axes; (1, 0) where there is no axis."""
    if not axes_points:
        return np.zeros((1, 0))
    return np.stack(np.meshgrid(*axes_points, indexing="ij"), axis=-1).reshape(-1, len(axes_points))


@dataclass(eq=False)
class Interpolant:
    """The log density over transformed axes, of which the first are structural.

    density : of the hyperparameters
    centre, axes : (coordinate,) and (coordinate, axis); structures do not change along the later axes
    structural : number of structural axes
    spacing : of the structures that are evaluated
    error : largest error of the density between them, nats, weighted by probability
    evaluated : structural coordinates of the structures that are evaluated
    columns : points of the scales, as bytes, to their columns of the table
    table : log densities (structure, column) of the evaluated structures; NaN where they were not asked for
    between, known_by : the splines that were made last, and of how many structures and which columns
    """

    density: Density
    centre: Array
    axes: Array
    structural: int
    spacing: float = WIDEST_SPACING
    error: float = np.inf
    evaluated: list[tuple[float, ...]] = field(default_factory=list)
    columns: dict[bytes, int] = field(default_factory=dict)
    table: Array = field(default_factory=lambda: np.zeros((0, 0)))
    between: Scattered | None = None
    known_by: tuple[int, bytes] = (0, b"")

    def log_densities(self, points: Array, columns: Array) -> Array:
        """Log density (point, column) of the hyperparameters, evaluated exactly."""
        nodes = np.concatenate(
            [np.repeat(points, len(columns), axis=0), np.tile(columns, (len(points), 1))], axis=1
        ).reshape(len(points) * len(columns), -1)
        return self.density(nodes_at(self.centre, self.axes, nodes)).reshape(len(points), len(columns))

    def _rows(self, columns: Array) -> Array:
        """Log density (structure, column) at the evaluated structures; each is worked out once."""
        which = np.array([self.columns.setdefault(one.tobytes(), len(self.columns)) for one in columns])
        structures = np.array(self.evaluated)
        known = np.full((len(structures), len(self.columns)), np.nan)
        known[: self.table.shape[0], : self.table.shape[1]] = self.table
        self.table = known
        missing = np.isnan(known[:, which])
        # All structures lack the new columns of a lattice that has grown or become finer; those just added lack all.
        alike: dict[bytes, list[int]] = {}
        for i, row in enumerate(missing):
            alike.setdefault(row.tobytes(), []).append(i)
        for rows in alike.values():
            wanted = missing[rows[0]]
            if wanted.any():
                known[np.ix_(rows, which[wanted])] = self.log_densities(structures[rows], columns[wanted])
        return np.asarray(known[:, which])

    def at(self, points: Array, columns: Array) -> Array:
        """Log density (point, column) with respect to the transformed axes, interpolated between structures."""
        return self._between(points, columns) + log_jacobian(points)[:, None] + log_jacobian(columns)

    def _between(self, points: Array, columns: Array) -> Array:
        """Log density (point, column) of the hyperparameters, interpolated."""
        # Before the transform the log density is nearly quadratic, which the interpolation reproduces exactly.
        key = len(self.evaluated), columns.tobytes()
        if key != self.known_by:
            made = Scattered.of(np.sinh(WIDENING * np.array(self.evaluated)), self._rows(columns))
            self.known_by, self.between = key, made
        assert self.between is not None
        return self.between.at(np.sinh(WIDENING * points))

    def _add(self, points: list[tuple[float, ...]]) -> None:
        known = set(self.evaluated)
        self.evaluated += [point for point in points if point not in known]

    def explore(self, low: Array, high: Array, columns: Array, *, everywhere: bool = False) -> None:
        """Evaluate structures between `low` and `high` (axis,) until the density between them is exact to tolerance.

        everywhere : evaluate all of them, since mass may lie in several places, not only neighbours of probable ones
        """
        for spacing in [one for one in SPACINGS if one <= self.spacing]:
            self.spacing = spacing
            self._extend(low, high, columns, everywhere)
            if self.error > DENSITY_TOLERANCE:
                self._check(columns)
            if self.error <= DENSITY_TOLERANCE:
                return

    def _extend(self, low: Array, high: Array, columns: Array, everywhere: bool) -> None:
        """Evaluate structures of the current spacing until no others are probable."""
        axes_points = [
            self.spacing * np.arange(np.ceil(a / self.spacing), np.floor(b / self.spacing) + 1)
            for a, b in zip(low, high, strict=True)
        ]
        candidates = [tuple(point) for point in grid_points(axes_points).tolist()]
        radius = min(WIDEST_SPACING, self.spacing)
        self._add([point for point in candidates if everywhere or max(map(abs, point)) <= radius])
        while len(self.evaluated) < MAX_EVALUATED_STRUCTURES:
            known = set(self.evaluated)
            remaining = [point for point in candidates if point not in known]
            if not remaining:
                return
            mass = logsumexp(self.at(np.array([*remaining, *self.evaluated]), columns), axis=1)
            least = mass[len(remaining) :].max() + np.log(SPACINGS[self.spacing])
            probable = [point for point, one in zip(remaining, mass, strict=False) if one > least]
            if not probable:
                return
            self._add(probable)

    def _check(self, columns: Array) -> None:
        """Compare what is interpolated with the density halfway between structures around the mode."""
        half = self.spacing / 2
        points = grid_points([np.array([-half, half])] * self.structural)
        if self.spacing < WIDEST_SPACING:
            # A finer spacing was needed because the density is no quadratic, which shows beside the mode.
            points = np.concatenate([points, 3 * half * np.eye(self.structural), -3 * half * np.eye(self.structural)])
        points = np.array([point for point in points if tuple(point.tolist()) not in self.evaluated]).reshape(
            -1, self.structural
        )
        if not len(points):
            # These were checked before, within narrower bounds, and their error still holds.
            return
        interpolated = self._between(points, columns)
        self._add([tuple(point) for point in points.tolist()])
        rows = self._rows(columns)
        exact = np.array([rows[self.evaluated.index(tuple(point))] for point in points.tolist()])
        self.error = measured_error(interpolated, exact, rows)

    def gauss(self, axes_points: list[Array], columns: Array) -> tuple[Array, Array]:
        """Return nodes (node, coordinate) and weights (node,), summing to 1, of few structures to mix currents over.

        Along each structural axis they are a Gauss rule for the posterior itself, with as many points as the currents'
        variances need; at each of these structures the scales keep the points of the lattice.

        axes_points : points along each structural axis
        columns : (column, axis), points of the scales
        """
        counts = [self._points(axis) for axis in range(self.structural)]
        rules: list[tuple[tuple[float, ...], float]] = [((), 1.0)]
        for axis, axis_points in enumerate(axes_points):
            rest = grid_points(axes_points[axis + 1 :])
            extended = []
            for point, weight in rules:
                given = np.array([(*point, x, *other) for x in axis_points for other in rest])
                mass = logsumexp(self.at(given, columns).reshape(len(axis_points), -1), axis=1)
                rule, shares = gauss_rule(axis_points, np.exp(mass - mass.max()), counts[axis])
                extended += [((*point, float(x)), weight * float(w)) for x, w in zip(rule, shares, strict=True)]
            rules = extended
        nodes, weights = [], []
        for point, weight in rules:
            row = self.at(np.array([point]), columns)[0]
            share = np.exp(row - logsumexp(row))
            retained = share > 1e-9
            points = np.concatenate([np.tile(point, (int(retained.sum()), 1)), columns[retained]], axis=1)
            nodes.append(nodes_at(self.centre, self.axes, points))
            weights.append(weight * share[retained] / share[retained].sum())
        return np.concatenate(nodes), np.concatenate(weights)

    def _points(self, axis: int) -> int:
        """Number of points of a Gauss rule along an axis that integrate the currents' variances to tolerance.

        A rule of n points for exp(2 a u), u ~ Normal(0, 1), has the error n! (2a)²ⁿ / (2n)!; a is the rate at which
        the logarithm of a variance changes: of a current, or of the recording in the direction that changes most.
        """
        ends = np.zeros((2, len(self.centre)))
        ends[:, axis] = -WIDEST_SPACING, WIDEST_SPACING
        nodes = nodes_at(self.centre, self.axes, ends)
        variance, noise = self.density.scales(nodes)
        problem = self.density.observation.problem
        spectra = [
            Spectrum.of(problem, self.density.structures(self.density.structural_nodes(one[None])[0])[0])
            for one in nodes
        ]
        totals = [(v * one.levels + n**2).ravel() for v, n, one in zip(variance, noise, spectra, strict=True)]
        if not spectra[0].structure.correlated:
            white = spectra[0].to_components / np.sqrt(totals[0])
            relative = white.T @ (spectra[1].from_components * np.sqrt(totals[1]))
            ratios = [np.linalg.eigvalsh(relative @ relative.T)]
        else:
            ratios = [np.sort(totals[1]) / np.sort(totals[0])]
        weights = [v * one.weights for v, one in zip(variance, spectra, strict=True)]
        ratios.append(weights[1][weights[0] > 0] / weights[0][weights[0] > 0])
        distance = 2 * np.sinh(WIDENING * WIDEST_SPACING) / WIDENING
        rate = max(float(np.abs(np.log(one)).max()) for one in ratios) / distance
        errors = [factorial(n) * (2 * rate) ** (2 * n) / factorial(2 * n) for n in range(2, MAX_GAUSS_POINTS)]
        return next((n for n, one in enumerate(errors, 2) if one < VARIANCE_TOLERANCE), MAX_GAUSS_POINTS)
