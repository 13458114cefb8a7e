"""Slices: the posterior density at a few structures, and smoothly between them.

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
from bayesinv.evidence import Spectrum
from bayesinv.inference.density import Density
from bayesinv.interpolation.gauss_rules import gauss_rule
from bayesinv.interpolation.scattered import between, measured_error

STRETCH = 0.3
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


def spots(centre: Array, axes: Array, places: Array) -> Array:
    """Unconstrained hyperparameters (node, coordinate) at places (node, axis) along stretched axes."""
    return centre + np.sinh(STRETCH * places) / STRETCH @ axes.T


def log_stretch(places: Array) -> Array:
    """Log Jacobian (node,) of the stretch at places (node, axis)."""
    return np.asarray(np.log(np.cosh(STRETCH * places)).sum(axis=1))


def combined(sides: list[Array]) -> Array:
    """Every combination (combination, side) of one number of each side; one without numbers where there is no side."""
    if not sides:
        return np.zeros((1, 0))
    return np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, len(sides))


@dataclass(eq=False)
class Slices:
    """The log density over stretched axes, of which the first few shape the structure.

    density : of the hyperparameters
    centre, axes : (coordinate,) and (coordinate, axis); structures do not change along the later axes
    few : number of the first
    spacing : of the structures that are worked out
    error : largest of the density between them, nats in proportion to mass
    """

    density: Density
    centre: Array
    axes: Array
    few: int
    spacing: float = CORE
    error: float = np.inf
    known: list[tuple[float, ...]] = field(default_factory=list)
    rows: dict[bytes, list[Array]] = field(default_factory=dict)

    def heights(self, places: Array, columns: Array) -> Array:
        """Log density (place, column) of the hyperparameters, worked out."""
        nodes = np.concatenate(
            [np.repeat(places, len(columns), axis=0), np.tile(columns, (len(places), 1))], axis=1
        ).reshape(len(places) * len(columns), -1)
        return self.density(spots(self.centre, self.axes, nodes)).reshape(len(places), len(columns))

    def _rows(self, columns: Array) -> Array:
        """Log density (known, column) at the structures that are known."""
        rows = self.rows.setdefault(columns.tobytes(), [])
        if len(rows) < len(self.known):
            rows.extend(self.heights(np.array(self.known[len(rows) :]), columns))
        return np.array(rows)

    def at(self, places: Array, columns: Array) -> Array:
        """Log density (place, column) with respect to the stretched axes, at any structures and known scales."""
        return self._between(places, columns) + log_stretch(places)[:, None] + log_stretch(columns)

    def _between(self, places: Array, columns: Array) -> Array:
        """Log density (place, column) of the hyperparameters, interpolated."""
        # Without the stretch the log density is all but a parabola, which the interpolation has for nothing.
        known, wanted = (np.sinh(STRETCH * one) for one in (np.array(self.known), places))
        return between(known, self._rows(columns), wanted)

    def _add(self, places: list[tuple[float, ...]]) -> None:
        self.known += [place for place in places if place not in self.known]

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
        sides = [
            self.spacing * np.arange(np.ceil(a / self.spacing), np.floor(b / self.spacing) + 1)
            for a, b in zip(low, high, strict=True)
        ]
        every = [tuple(place) for place in combined(sides).tolist()]
        self._add([place for place in every if whole or max(map(abs, place)) <= min(CORE, self.spacing)])
        while len(self.known) < MOST:
            left = [place for place in every if place not in self.known]
            if not left:
                return
            mass = logsumexp(self.at(np.array([*left, *self.known]), columns), axis=1)
            least = mass[len(left) :].max() + np.log(SPACINGS[self.spacing])
            heavy = [place for place, one in zip(left, mass, strict=False) if one > least]
            if not heavy:
                return
            self._add(heavy)

    def _check(self, columns: Array) -> None:
        """Compare what is interpolated with the density halfway between structures around the mode."""
        half = self.spacing / 2
        places = combined([np.array([-half, half])] * self.few)
        if self.spacing < CORE:
            # Structures that are closer are so because the density bends, which shows beside the mode.
            places = np.concatenate([places, 3 * half * np.eye(self.few), -3 * half * np.eye(self.few)])
        places = np.array([place for place in places if tuple(place.tolist()) not in self.known]).reshape(-1, self.few)
        if not len(places):
            # A wider box brings no new structures here, and what was told of these holds.
            return
        told = self._between(places, columns)
        self._add([tuple(place) for place in places.tolist()])
        rows = self._rows(columns)
        exact = np.array([rows[self.known.index(tuple(place))] for place in places.tolist()])
        self.error = measured_error(told, exact, rows)

    def gauss(self, sides: list[Array], columns: Array) -> tuple[Array, Array]:
        """Few nodes (node, coordinate) and weights (node,), summing to 1, that currents are mixed over.

        Along every axis of the structure stands the Gauss rule of the posterior itself, with as many points as the
        variances of the currents want; the scales keep the lattice at every one of its structures.

        sides : places along every axis of the structure
        columns : (column, axis), places of the scales
        """
        counts = [self._points(axis) for axis in range(self.few)]
        rules: list[tuple[tuple[float, ...], float]] = [((), 1.0)]
        for axis, side in enumerate(sides):
            rest = combined(sides[axis + 1 :])
            finer = []
            for place, weight in rules:
                given = np.array([(*place, x, *other) for x in side for other in rest])
                mass = logsumexp(self.at(given, columns).reshape(len(side), -1), axis=1)
                points, shares = gauss_rule(side, np.exp(mass - mass.max()), counts[axis])
                finer += [((*place, float(x)), weight * float(w)) for x, w in zip(points, shares, strict=True)]
            rules = finer
        nodes, weights = [], []
        for place, weight in rules:
            row = self.at(np.array([place]), columns)[0]
            share = np.exp(row - logsumexp(row))
            kept = share > 1e-9
            where = np.concatenate([np.tile(place, (int(kept.sum()), 1)), columns[kept]], axis=1)
            nodes.append(spots(self.centre, self.axes, where))
            weights.append(weight * share[kept] / share[kept].sum())
        return np.concatenate(nodes), np.concatenate(weights)

    def _points(self, axis: int) -> int:
        """Points of a Gauss rule that hold the variance of the currents along an axis.

        The n points of exp(2 a u), u ~ Normal(0, 1), leave n! (2a)²ⁿ / (2n)! out; a is by how much a variance changes,
        as a logarithm: that of a current, or that of the recording in the direction in which it changes most.
        """
        ends = np.zeros((2, len(self.centre)))
        ends[:, axis] = -CORE, CORE
        nodes = spots(self.centre, self.axes, ends)
        variance, noise = self.density.scales(nodes)
        problem = self.density.seen.problem
        spectra = [
            Spectrum.of(problem, one) for one in self.density.structures(nodes[:, list(self.density.structural)])
        ]
        totals = [v * one.cells.reach + n**2 for v, n, one in zip(variance, noise, spectra, strict=True)]
        if spectra[0].modes is None:
            white = spectra[0].inward / np.sqrt(totals[0])
            seen = white.T @ (spectra[1].outward * np.sqrt(totals[1]))
            ratios = [np.linalg.eigvalsh(seen @ seen.T)]
        else:
            ratios = [np.sort(totals[1]) / np.sort(totals[0])]
        weights = [v * one.weights for v, one in zip(variance, spectra, strict=True)]
        ratios.append(weights[1][weights[0] > 0] / weights[0][weights[0] > 0])
        apart = 2 * np.sinh(STRETCH * CORE) / STRETCH
        rate = max(float(np.abs(np.log(one)).max()) for one in ratios) / apart
        left = [factorial(n) * (2 * rate) ** (2 * n) / factorial(2 * n) for n in range(2, MOST_POINTS)]
        return next((n for n, one in enumerate(left, 2) if one < SETTLED), MOST_POINTS)
