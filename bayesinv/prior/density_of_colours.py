"""The posterior density of the hyperparameters where currents have courses and noise several colours.

That of modes of time which the colours share is only nearly this one. What it lacks depends smoothly on the structure
and on the ratio of the variances of currents and noise, so that it is worked out at few of these and interpolated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from scipy.interpolate import RBFInterpolator

from bayesinv.axes import Array
from bayesinv.evidence.several_colours import BesideModes
from bayesinv.memory import cached_property
from bayesinv.prior.density import Density

MAX_DEGREE = 4
"""Largest degree of the polynomials of which splines make up what is left."""

SLOPE_STEP = 1e-4
"""Step of finite differences along an unconstrained coordinate."""


def has_several_colours(density: Density) -> bool:
    """Whether currents have courses and noise has several colours, so that modes are only nearly independent."""
    observation, whitening = density.observation, density.observation.problem.time_whitening
    courses = "time" in observation.learned or observation.base.time is not None
    return courses and whitening is not None and whitening.groups > 1


def places(density: Density, nodes: Array) -> tuple[Array, Array]:
    """Structural coordinates and log ratio of variances (node, axis), and the noise's scale (node,), at nodes."""
    variance, noise = density.scales(nodes)
    # A variance that underflows is none, whatever its logarithm.
    log_ratio = np.log(np.maximum(variance, np.finfo(float).tiny)) - 2 * np.log(noise)
    return np.column_stack([nodes[:, list(density.structural)], log_ratio]), noise


def lacking(density: Density, found: Array) -> Array:
    """What shared modes lack at places (place, axis): the log density's term at noise 1, and the power's, (place, 2).

    Raises
    ------
    ColoursTogetherError
        If too many parts of the signal depend on each other.
    """
    coordinates, which = np.unique(found[:, :-1], axis=0, return_inverse=True)
    out = np.empty((len(found), 2))
    for k, structure in enumerate(density.structures(coordinates)):
        beside = BesideModes.of(density.observation.problem, structure)
        for i in np.flatnonzero(which.reshape(-1) == k):
            out[i] = beside.at(float(found[i, -1]))
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
    """What shared modes lack, between places, and beyond a distance from their middle as it is there.

    middle : (axis,); root : (axis, axis), of the covariance of places by which distances are measured
    reach : that distance
    known : (place, axis); terms : (place, 2), see `lacking`
    """

    middle: Array
    root: Array
    reach: float
    known: Array
    terms: Array

    def _scaled(self, found: Array) -> Array:
        unit = np.linalg.solve(self.root, (found - self.middle).T).T
        distance = np.linalg.norm(unit, axis=1)
        return np.asarray(unit * np.minimum(1.0, self.reach / np.maximum(distance, 1e-12))[:, None])

    @cached_property
    def _between(self) -> RBFInterpolator:
        """Splines about the polynomial of the highest degree that the places determine."""
        unit = np.asarray(np.linalg.solve(self.root, (self.known - self.middle).T).T, dtype=float)
        degree = next(one for one in range(MAX_DEGREE, -1, -1) if _determined(unit, one))
        return RBFInterpolator(unit, self.terms, kernel="quintic" if degree > 1 else "linear", degree=degree)

    def at(self, found: Array) -> Array:
        """Both terms at places (place, axis): (place, 2)."""
        return np.asarray(self._between(self._scaled(found)))


def _determined(unit: Array, degree: int) -> bool:
    """Whether points (point, axis) determine a polynomial of a degree."""
    axes = range(unit.shape[1])
    powers = [one for size in range(degree + 1) for one in combinations_with_replacement(axes, size)]
    terms = np.stack([unit[:, list(one)].prod(axis=1) for one in powers], axis=1)
    return len(unit) >= len(powers) and int(np.linalg.matrix_rank(terms)) == len(powers)


@dataclass(frozen=True, eq=False)
class DensityOfColours(Density):
    """The density by shared modes, and what they lack."""

    lacking: Lacking

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
