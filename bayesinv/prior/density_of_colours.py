"""The posterior density of the hyperparameters where currents have courses and noise several colours.

That of modes of time which the colours share is only nearly this one. What it lacks depends smoothly on the structure
and on the ratio of the variances of currents and noise, so that it is worked out at few of these and interpolated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from numpy.polynomial.chebyshev import chebvander
from scipy.interpolate import RBFInterpolator

from bayesinv.axes import Array
from bayesinv.covariance.time_modes import gain_decomposition
from bayesinv.evidence.several_colours import BesideModes
from bayesinv.memory import cached_property
from bayesinv.prior.density import MAX_VARIANCE, Density
from bayesinv.problem.time_whitening import several_colours

MAX_DEGREE = 4
"""Largest degree of the polynomials of which splines make up what is left."""

MAX_CONDITION = 30.0
"""Largest condition number of the values of polynomials at the places."""

TINY = 1e-100
"""Smallest noise that is divided by, and inverse of the largest."""

MOST_TAKEN, FADED = 0.999, 2.0
"""Largest share of the power by shared modes that may be taken from it, and the distance from the box, in units of it,
from which nothing is."""

SLOPE_STEP = 1e-4
"""Step of finite differences along an unconstrained coordinate."""


def has_several_colours(density: Density) -> bool:
    """Whether currents have courses and noise has several colours, so that modes are only nearly independent."""
    observation = density.observation
    courses = "time" in observation.learned or observation.base.time is not None
    return courses and several_colours(observation.problem.time_whitening)


def places(density: Density, nodes: Array) -> tuple[Array, Array]:
    """Coordinates (node, axis) along which what shared modes lack is smooth, and the noise's scale (node,), at nodes.

    They are the structural ones, of which a time constant alone is taken by its logarithm, and log(1 + the ratio of
    signal to noise in the strongest component), for a signal that is drowned makes no difference.
    """
    variance, noise = density.scales(nodes)
    structural = nodes[:, list(density.structural)]
    if _time_alone(density):
        structural = np.log(density.learned(nodes)["time"]).reshape(-1, 1)
    log_ratio = np.log(np.clip(variance, 1 / MAX_VARIANCE, MAX_VARIANCE)) - 2 * np.log(np.clip(noise, TINY, 1 / TINY))
    return np.column_stack([structural, np.logaddexp(0.0, np.log(_largest(density)) + log_ratio)]), noise


def _time_alone(density: Density) -> bool:
    """Whether the only structural coordinate is that of a time constant."""
    return len(density.structural) == 1 and list(density.observation.learned) == ["time"]


def _largest(density: Density) -> float:
    """Largest eigenvalue of the gain's Gram matrix, 1/(A m)²."""
    return float(gain_decomposition(density.observation.problem)[0][-1])


def lacking(density: Density, found: Array, most: int | None = None) -> Array:
    """What shared modes lack at places (place, axis): the log density's term at noise 1, and the power's.

    And the power by shared modes: (place, 3).

    most : parts of the signal that are integrated over together; None for as many as may be
    """
    coordinates, which = np.unique(found[:, :-1], axis=0, return_inverse=True)
    if _time_alone(density):
        structures = [density.observation.structure({"time": time}) for time in np.exp(coordinates[:, 0])]
    else:
        structures = density.structures(coordinates)
    ratios = np.expm1(found[:, -1]) / _largest(density)
    out = np.empty((len(found), 3))
    for k, structure in enumerate(structures):
        beside = BesideModes.of(density.observation.problem, structure)
        for i in np.flatnonzero(which.reshape(-1) == k):
            out[i] = beside.at(float(ratios[i]), most)
    return out


def log_densities(density: Density, nodes: Array) -> Array:
    """Log density (node,) at nodes, worked out for each where noise has several colours."""
    found = density(nodes)
    if has_several_colours(density):
        at, noise = places(density, nodes)
        terms = lacking(density, at)
        found = found + terms[:, 0] - 0.5 * terms[:, 1] / noise**2
    return found


@dataclass(frozen=True, eq=False)
class Lacking:
    """What shared modes lack, between places on a lattice; far beyond the box around these as it is a unit beyond it.

    But the power's term fades there, and takes at most `MOST_TAKEN` of the power by shared modes: at noise that
    vanishes a power below zero would outweigh everything.

        place = origin + axes @ index

    origin : (axis,); axes : (axis, axis), lower triangular, so that few structures are different
    index : (place, axis); terms : (place, 3), see `lacking`
    """

    origin: Array
    axes: Array
    index: Array
    terms: Array

    @classmethod
    def nowhere(cls, origin: Array, axes: Array) -> Lacking:
        """A lattice on which no place is known."""
        return cls(origin, axes, np.zeros((0, len(origin))), np.zeros((0, 3)))

    def with_terms(self, index: Array, terms: Array) -> Lacking:
        """The same lattice with more places."""
        return replace(self, index=np.concatenate([self.index, index]), terms=np.concatenate([self.terms, terms]))

    def places(self, index: Array) -> Array:
        """Places (place, axis) at indices (place, axis); of less signal than none there is none."""
        # Column by column, so that equal indices give equal coordinates.
        found = self.origin + sum(index[:, [k]] * self.axes[:, k] for k in range(len(self.axes)))
        found[:, -1] = np.maximum(found[:, -1], 0.0)
        return np.asarray(found)

    def index_of(self, found: Array) -> Array:
        """Indices (place, axis), not whole, of places (place, axis)."""
        return np.asarray(np.linalg.solve(self.axes, (found - self.origin).T).T)

    @cached_property
    def _known(self) -> Array:
        return self.index_of(self.places(self.index))

    @cached_property
    def _between(self) -> RBFInterpolator:
        """Splines about the polynomial of the highest degree that the places determine."""
        known, which = np.unique(np.round(self._known, 9), axis=0, return_index=True)
        degree = next(one for one in range(MAX_DEGREE, -1, -1) if _determined(known, one))
        values = np.column_stack([self.terms[which, :2], np.log(np.maximum(self.terms[which, 2], TINY))])
        return RBFInterpolator(known, values, kernel="quintic" if degree > 1 else "linear", degree=degree)

    def at(self, found: Array) -> Array:
        """Both terms at places (place, axis): (place, 2)."""
        index = self.index_of(found)
        inside = np.clip(index, self._known.min(axis=0), self._known.max(axis=0))
        away = np.linalg.norm(index - inside, axis=1)
        # A kink would be felt by a lattice of nodes.
        inside = inside + np.tanh(index - inside)
        log_density, power, log_whole = self._between(inside).T
        # In a corner of the box that holds no place the polynomial may run away.
        low, high = self.terms[:, :2].min(axis=0), self.terms[:, :2].max(axis=0)
        out = np.clip(np.column_stack([log_density, power]), low - (high - low) / 2, high + (high - low) / 2)
        whole = np.exp(np.minimum(log_whole, np.log(self.terms[:, 2].max())))
        beyond = np.maximum(found[:, -1] - self.places(inside)[:, -1], 0)
        out[:, 1] = np.maximum(out[:, 1], -MOST_TAKEN * whole) * np.exp(-(beyond**2) / (1 + beyond))
        # More power than by shared modes makes what is far away less probable, as it should be; less does not.
        out[:, 1] *= np.where(out[:, 1] < 0, np.maximum(1 - (away / FADED) ** 2, 0) ** 2, 1.0)
        return out


def _determined(unit: Array, degree: int) -> bool:
    """Whether points (point, axis) determine a polynomial of a degree, without magnifying their errors much."""
    low, high = unit.min(axis=0), unit.max(axis=0)
    values = chebvander(2 * (unit - low) / np.maximum(high - low, 1e-12) - 1, degree)
    powers = [one for one in product(range(degree + 1), repeat=unit.shape[1]) if sum(one) <= degree]
    terms = np.stack([values[:, np.arange(unit.shape[1]), one].prod(axis=1) for one in powers], axis=1)
    return len(unit) >= len(powers) and float(np.linalg.cond(terms)) < MAX_CONDITION


@dataclass(frozen=True, eq=False)
class DensityOfColours(Density):
    """The density by shared modes, and what they lack.

    off : error, in nats, by parts of the signal that depend on each other to second order
    slope_off : by how much more or less it is a standard deviation of the hyperparameters further
    """

    lacking: Lacking
    off: float = 0.0
    slope_off: float = 0.0

    def _added(self, nodes: Array) -> Array:
        found, noise = places(self, nodes)
        terms = self.lacking.at(found)
        return np.asarray(terms[:, 0] - 0.5 * terms[:, 1] / noise**2)

    def __call__(self, nodes: Array) -> Array:
        """Log prior times likelihood (node,) at unconstrained nodes; -inf where it is not defined."""
        whole = super().__call__(nodes)
        inside = np.isfinite(whole)
        if inside.any():
            whole[inside] += self._added(nodes[inside])
        return whole

    def slope(self, node: Array) -> tuple[float, Array]:
        """Log density and its gradient (coordinate,) at one unconstrained node."""
        log_density, slope = super().slope(node)
        if not np.isfinite(log_density):
            return log_density, slope
        here, other = by_differences(self._added, node)
        return log_density + here, slope + other


def by_differences(function: Callable[[Array], Array], node: Array) -> tuple[float, Array]:
    """A function of nodes (node, coordinate) and its gradient (coordinate,) at one, by central differences."""
    step = SLOPE_STEP * np.eye(len(node))
    here, *around = function(np.concatenate([node[None], node + step, node - step])).tolist()
    up, down = np.split(np.array(around), 2)
    return here, (up - down) / (2 * SLOPE_STEP)
