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
from bayesinv.evidence.unsettled import ColoursTogetherError
from bayesinv.inference.grid import Lattice
from bayesinv.inference.integration import integrate
from bayesinv.inference.interpolant import grid_points
from bayesinv.prior.density import Density
from bayesinv.prior.density_of_colours import DensityOfColours, Lacking, has_several_colours, lacking, places

SPACINGS = (2.0, 1.0, 0.5)
"""Spacings of the lattice that are tried in turn, in standard deviations."""

REACH = 4.5
"""Distance from the posterior's mean, in standard deviations, up to which it is worked out."""

TOLERANCE, MAX_ERROR = 5e-3, 1e-2
"""Error between the points, in nats: wanted, and largest."""

MAX_PLACES = 300
"""Most places at which it is worked out."""

ROUNDS = 8
"""Most times that the lattice follows the posterior."""

LEAST_SPREAD = 1e-2
"""Spread of a coordinate below which it is as good as fixed."""


def integrate_apart(density: Density) -> tuple[Density, Lattice]:
    """Integrate a density of up to four hyperparameters, where noise has several colours with each of these.

    Raises
    ------
    UnsettledError
        If the moments do not settle.
    ColoursTogetherError
        If the noise's colours cannot be told apart: parts of the signal that depend on each other are too many, or
        places are.
    """
    lattice = integrate(density)
    if not has_several_colours(density):
        return density, lattice
    origin, axes = _moments(density, lattice)
    known, terms = np.zeros((0, len(origin))), np.zeros((0, 2))
    exact: DensityOfColours | None = None
    for spacing in SPACINGS:
        for _ in range(ROUNDS):
            middle, root = _moments(density, lattice)
            new = _new(_around(origin, spacing * axes, middle, root), known)
            if not len(new):
                break
            if len(known) + len(new) > MAX_PLACES:
                raise ColoursTogetherError(
                    f"MEG and EEG have noise of different colours, and their likelihood is wanted at more than "
                    f"{MAX_PLACES} places"
                )
            known, terms = np.concatenate([known, new]), np.concatenate([terms, lacking(density, new)])
            exact = DensityOfColours(density.model, density.observation, Lacking(middle, root, REACH, known, terms))
            lattice = integrate(exact)
        assert exact is not None
        off, between, found = _error(exact, middle, spacing * axes, float(density.scales(lattice.nodes)[1].min()))
        known, terms = np.concatenate([known, between]), np.concatenate([terms, found])
        if off < TOLERANCE:
            break
    assert exact is not None
    if off > MAX_ERROR:
        raise ColoursTogetherError(
            f"MEG and EEG have noise of different colours, and their likelihood between {len(known)} places is off by "
            f"{off:.2g} nats"
        )
    return exact, replace(lattice, error=lattice.error + off)


def _moments(density: Density, lattice: Lattice) -> tuple[Array, Array]:
    """Mean (axis,) of places under a lattice, and the root (axis, axis), lower triangular, of their covariance."""
    found, _ = places(density, lattice.nodes)
    middle = lattice.weights @ found
    left = (found - middle) * np.sqrt(lattice.weights)[:, None]
    return middle, np.asarray(np.linalg.cholesky(left.T @ left + LEAST_SPREAD**2 * np.eye(len(middle))))


def _around(origin: Array, axes: Array, middle: Array, root: Array) -> Array:
    """Points (place, axis) of the lattice origin + axes k, k integer, within `REACH` of the middle."""
    # A ball of that distance has these half widths along the lattice's axes.
    turned = np.linalg.solve(axes, root)
    centre, half = np.linalg.solve(axes, middle - origin), REACH * np.linalg.norm(turned, axis=1)
    index = grid_points([np.arange(np.ceil(a - b), np.floor(a + b) + 1) for a, b in zip(centre, half, strict=True)])
    distance = np.linalg.norm(np.linalg.solve(turned, (index - centre).T), axis=0)
    return np.asarray(origin + index[distance <= REACH] @ axes.T)


def _new(wanted: Array, known: Array) -> Array:
    """The places that are wanted and not known."""
    have = {one.tobytes() for one in known}
    return np.array([one for one in wanted if one.tobytes() not in have]).reshape(-1, wanted.shape[1])


def _error(density: DensityOfColours, middle: Array, axes: Array, noise: float) -> tuple[float, Array, Array]:
    """Largest error, in nats, at the points halfway between those around the middle, with these and what they lack."""
    origin = density.lacking.known[0]
    cell = np.floor(np.linalg.solve(axes, middle - origin)) + 0.5
    ones = np.eye(len(middle))
    between = origin + np.concatenate([cell[None], cell + ones, cell - ones]) @ axes.T
    exact = lacking(density, between)
    off = np.abs(density.lacking.at(between) - exact)
    return float(np.max(off[:, 0] + 0.5 * off[:, 1] / noise**2)), between, exact
