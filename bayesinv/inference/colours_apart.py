"""The posterior of the hyperparameters where currents have courses and noise several colours, by a few exact densities.

Modes of time that the colours share give a density that is tens of nats off on a recording of MEG and EEG, by more at
one time constant than at another: its mode lies two standard deviations off. What it lacks is worked out on a lattice
of structures and ratios of variances where the posterior is, and interpolated; with it the posterior moves, and the
lattice follows until it covers it. Between its points the error is measured, and the lattice refined until it is small.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bayesinv.axes import Array
from bayesinv.evidence.several_colours import MAX_PARTS
from bayesinv.evidence.unsettled import ColoursTogetherError
from bayesinv.inference.grid import Lattice
from bayesinv.inference.integration import integrate
from bayesinv.inference.interpolant import grid_points
from bayesinv.prior.density import Density
from bayesinv.prior.density_of_colours import (
    DensityOfColours,
    Lacking,
    has_several_colours,
    lacking,
    places,
)

SPACINGS = (2.0, 1.0, 0.5)
"""Spacings of the lattice that are tried in turn, in standard deviations."""

OUTSIDE = 1e-3
"""Probability of the places that are so improbable that the lattice does not reach them."""

TOLERANCE, TOLERANCE_BY_PARTS = 5e-3, 0.03
"""Error between the points, in nats, weighted by probability, that is wanted. Where parts of the signal are taken as
independent, others at every place, a finer lattice would follow that."""

MAX_PLACES = 500
"""Most places at which it is worked out; where more are wanted for the tolerance, the error is what it is."""

ROUNDS = 8
"""Most times that the lattice follows the posterior."""

LEAST_SPREAD = 1e-3
"""Spread of a coordinate below which it is as good as fixed."""


def integrate_apart(density: Density) -> tuple[Density, Lattice]:
    """Integrate a density of up to four hyperparameters, where noise has several colours with each of these.

    Raises
    ------
    UnsettledError
        If the moments do not settle.
    ColoursTogetherError
        If the noise's colours cannot be told apart: places are too many, or moments settle by shared modes alone.
    """
    lattice = integrate(density)
    if not has_several_colours(density):
        return density, lattice
    found = Lacking.nowhere(*_moments(density, lattice))
    nodes, weights = lattice.nodes, lattice.weights
    best: tuple[float, tuple[float, float], DensityOfColours, Lattice] | None = None
    for spacing in SPACINGS:
        exact: DensityOfColours | None = None
        settled: Lattice | None = lattice
        for _ in range(ROUNDS):
            new = _new(_around(found, density, nodes, weights, spacing), found.index)
            if not len(new):
                break
            if len(found.index) + len(new) > MAX_PLACES:
                exact = None
                break
            found = found.with_terms(new, lacking(density, found.places(new)))
            exact = DensityOfColours(density.model, density.observation, found)
            settled = _settled(exact)
            if settled is None:
                # Between places so far apart it may be anything.
                break
            lattice, nodes, weights = settled, settled.nodes, settled.weights
        if exact is None:
            break
        if settled is None:
            continue
        at, terms, off = _error(exact, lattice, spacing)
        found = found.with_terms(at, terms)
        if best is None or off < best[0]:
            best = off, _by_parts(exact, lattice), exact, lattice
        if off < (TOLERANCE_BY_PARTS if best[1][0] else TOLERANCE):
            break
    if best is None:
        raise ColoursTogetherError(
            "MEG and EEG have noise of different colours, and their likelihood is not smooth enough to be interpolated "
            f"between at most {MAX_PLACES} places"
        )
    between, (off, slope), exact, lattice = best
    if off:
        return replace(exact, off=off + between, slope_off=slope), lattice
    return exact, replace(lattice, error=lattice.error + between)


def _settled(density: DensityOfColours) -> Lattice | None:
    """The lattice of a density; None where its moments do not settle, or it is not finite everywhere."""
    try:
        return integrate(density)
    except ValueError:
        return None


def _by_parts(density: DensityOfColours, lattice: Lattice) -> tuple[float, float]:
    """Error of the log density, in nats, by parts that depend to second order: what twice as many exact ones change.

    In the middle, and by how much that differs a standard deviation further along any axis.
    """
    middle, root = _moments(density, lattice)
    noise = lattice.weights @ density.scales(lattice.nodes)[1]

    def changes(at: Array) -> Array:
        return np.asarray((lacking(density, at, 2 * MAX_PARTS) - lacking(density, at)) @ [1, -0.5 / noise**2, 0])

    off = float(changes(middle[None])[0])
    if off == 0:
        return 0.0, 0.0
    around = middle + np.concatenate([root.T, -root.T])
    around[:, -1] = np.maximum(around[:, -1], 0)
    return abs(off), float(np.abs(changes(around) - off).max())


def _moments(density: Density, lattice: Lattice) -> tuple[Array, Array]:
    """Mean (axis,) of places under a lattice, and the root (axis, axis), lower triangular, of their covariance."""
    found, _ = places(density, lattice.nodes)
    middle = lattice.weights @ found
    left = (found - middle) * np.sqrt(lattice.weights)[:, None]
    return middle, np.asarray(np.linalg.cholesky(left.T @ left + LEAST_SPREAD**2 * np.eye(len(middle))))


def _around(found: Lacking, density: Density, nodes: Array, weights: Array, spacing: float) -> Array:
    """Corners (place, axis) of the cells, of a width, that hold all of a lattice but the least probable places."""
    cells = np.floor(found.index_of(places(density, nodes)[0]) / spacing)
    each, which = np.unique(cells, axis=0, return_inverse=True)
    mass = np.bincount(which.reshape(-1), weights)
    order = np.argsort(mass)
    inside = each[order[np.cumsum(mass[order]) > OUTSIDE]]
    corners = grid_points([np.array([0.0, 1.0])] * cells.shape[1])
    return spacing * np.unique((inside[:, None] + corners).reshape(-1, cells.shape[1]), axis=0)


def _new(wanted: Array, known: Array) -> Array:
    """The places that are wanted and not known."""
    have = set(map(tuple, known.tolist()))
    return np.array([one for one in wanted.tolist() if tuple(one) not in have]).reshape(-1, wanted.shape[1])


def _error(density: DensityOfColours, lattice: Lattice, spacing: float) -> tuple[Array, Array, float]:
    """Places halfway between those around the middle, what they lack, and the largest error there, in nats.

    Errors are weighted by the probability of the places, the middle having one.
    """
    found, (middle, root) = density.lacking, _moments(density, lattice)
    noise = lattice.weights @ density.scales(lattice.nodes)[1]
    cell = spacing * (np.floor(found.index_of(middle[None])[0] / spacing) + 0.5)
    ones = spacing * np.eye(len(cell))
    between = np.concatenate([cell[None], cell + ones, cell - ones])
    at = found.places(between)
    exact = lacking(density, at)
    off = np.abs(found.at(at) - exact[:, :2]) @ [1, 0.5 / noise**2]
    distance = np.linalg.norm(np.linalg.solve(root, (at - middle).T), axis=0)
    return between, exact, float(np.max(off * np.exp(-0.5 * distance**2)))
