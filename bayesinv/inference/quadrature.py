"""Adaptive quadrature over a few hyperparameters: a grid along the posterior's own axes.

The trapezoid rule on a lattice converges exponentially for smooth densities that fall off. The lattice is centred
on the mode, scaled by the curvature there and transformed in the tails (a hyperbolic sine, so that a tail which
falls off only exponentially costs few nodes); it grows until its faces hold no mass, and is refined until evidence
and moments are stable. Along axes of the structure, where a node costs a decomposition, the density is worked out at a
few places and interpolated between them (see `interpolant`).

Reference: Rue, Martino & Chopin (2009), J. R. Stat. Soc. B 71, 319-392, for the strategy.
"""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from bayesinv.axes import Array
from bayesinv.inference.assemble import assemble
from bayesinv.inference.grid import EDGE, MOST_NODES, Lattice, grown, pruned
from bayesinv.inference.grid_draws import draw
from bayesinv.inference.interpolant import WIDENING, Interpolant, grid_points
from bayesinv.inference.modes import modes
from bayesinv.inference.unsettled import UnsettledError
from bayesinv.posterior.checks import Check, Evidence
from bayesinv.posterior.posterior import Posterior
from bayesinv.prior.density import Density

STABLE = 1e-3
"""Change of mean and sd under refinement, in units of the sd, below which the nodes are kept."""

STABLE_EVIDENCE = 1e-3
"""Change of the log evidence under refinement, in nats, below which it is final."""

WORST = 1e-2
"""Error of the density between structures, in nats, beyond which a lattice is not to be trusted."""

BEYOND = 5.0
"""How many times the mass on the faces of a lattice may lie beyond them, where tails fall off slowly."""

UNSETTLED = (
    "quadrature did not settle: the posterior of the hyperparameters is too rough or too wide for a lattice; use "
    "method='nuts'"
)


def integrate(density: Density) -> Lattice:
    """Integrate the posterior density of up to four hyperparameters.

    Raises
    ------
    ValueError
        If mass lies at the edge however far the lattice grows (an improper posterior), or the moments do not
        settle.
    """
    (log_density, centre, covariance), *others = modes(density)
    size = len(centre)
    # Triangular axes, the structural coordinate first, keep the number of different structures small.
    first = density.structural
    order = np.array([*first, *(i for i in range(size) if i not in first)])
    triangle = np.linalg.cholesky(covariance[np.ix_(order, order)])
    axes = np.empty((size, size))
    axes[order] = triangle
    low, high = np.full(size, -4.0), np.full(size, 4.0)
    for lower, point, spread in others:
        fall = log_density - lower + 0.5 * float(np.linalg.slogdet(covariance)[1] - np.linalg.slogdet(spread)[1])
        if fall < -np.log(EDGE):
            # A lower mode that still holds mass: the lattice reaches over it.
            around = point + np.array([-3.0, 0.0, 3.0])[:, None, None] * np.linalg.cholesky(spread).T
            index = np.arcsinh(WIDENING * np.linalg.solve(axes, (around.reshape(-1, size) - centre).T).T) / WIDENING
            low, high = np.minimum(low, index.min(axis=0)), np.maximum(high, index.max(axis=0))
    step = 1.0
    interpolant = Interpolant(density, centre, axes, len(first)) if first else None
    several = bool((np.abs(np.r_[low, high]) > 4).any())
    coarse: Lattice | None = None
    for _ in range(5):
        nothing = np.zeros((0, size)), np.zeros(0), np.zeros(0)
        empty = Lattice(*nothing, centre, axes, step, 0.0, 0.0, 0.0, 0.0, interpolant)
        lattice = grown(density, empty, low, high, coarse, several)
        between = 0.0 if interpolant is None else interpolant.error
        if between > WORST:
            raise UnsettledError(UNSETTLED)
        if coarse is None:
            change_of_moments, change = _by_parity(lattice)
            if change_of_moments < STABLE and change < STABLE_EVIDENCE:
                return pruned(
                    replace(
                        lattice, error=change + between + BEYOND * lattice.edge, change_of_moments=change_of_moments
                    )
                )
        else:
            before, after = _moments(coarse), _moments(lattice)
            change_of_moments = float(
                np.max(np.abs(np.r_[(before[0] - after[0]) / after[1], before[1] / after[1] - 1]))
            )
            change = abs(lattice.log_evidence - coarse.log_evidence)
            if change_of_moments < STABLE and change < STABLE_EVIDENCE:
                # The coarse nodes are this accurate already, and the finer evidence is free.
                error = change + between + BEYOND * coarse.edge
                return pruned(
                    replace(coarse, log_evidence=lattice.log_evidence, error=error, change_of_moments=change_of_moments)
                )
            lattice = replace(
                lattice, change_of_moments=change_of_moments, error=change + between + BEYOND * lattice.edge
            )
        coarse = lattice
        if len(lattice.index) * 2**size > MOST_NODES:
            break
        step /= 2
    if coarse is None or not 0 < coarse.change_of_moments < 0.02:
        raise UnsettledError(UNSETTLED)
    return pruned(coarse)


def _by_parity(lattice: Lattice) -> tuple[float, float]:
    """What one lattice says of its own errors: of the moments in sd, and of the log evidence in nats.

    Every other node along each axis makes a lattice of twice the step. The trapezoid rule on smooth densities
    converges exponentially in the inverse step, so halving the step squares the error; twice that square is reported.
    """
    mean, sd = _moments(lattice)
    parity = (lattice.index.astype(np.int64) % 2) @ 2 ** np.arange(lattice.index.shape[1])
    change_of_moments = change = 0.0
    for which in range(2 ** lattice.index.shape[1]):
        mine = parity == which
        share = float(lattice.weights[mine].sum())
        if not share:
            return np.inf, np.inf
        part = replace(lattice, index=lattice.index[mine], weights=lattice.weights[mine] / share)
        other = _moments(part)
        change_of_moments = max(
            change_of_moments, float(np.max(np.abs(np.r_[(other[0] - mean) / sd, other[1] / sd - 1])))
        )
        change = max(change, abs(np.log(share * 2 ** lattice.index.shape[1])))
    return 2 * change_of_moments**2, 2 * change**2


def _moments(lattice: Lattice) -> tuple[Array, Array]:
    """Mean and standard deviation (coordinate,) of the unconstrained hyperparameters."""
    mean = lattice.weights @ lattice.nodes
    return mean, np.sqrt(np.maximum(lattice.weights @ (lattice.nodes - mean) ** 2, 1e-300))


def posterior(
    density: Density, name: str, rng: np.random.Generator, draws: int, timings: dict[str, float]
) -> Posterior:
    """Return the posterior with hyperparameters integrated on an adaptive lattice, evidence and its error included."""
    started = time.perf_counter()
    lattice = integrate(density)
    timings["quadrature"] = time.perf_counter() - started
    started = time.perf_counter()
    drawn = draw(density, lattice, draws, rng)
    timings["draws"] = time.perf_counter() - started
    error = lattice.error
    checks = (
        Check("quadrature edge", lattice.edge, "< 1e-4", lattice.edge < 1e-4, "posterior mass on the lattice's faces"),
        Check(
            "quadrature drift",
            lattice.change_of_moments,
            "< 0.01 sd",
            lattice.change_of_moments < 0.01,
            "change of moments on refinement",
        ),
        Check("evidence error", error, "< 0.01 nats", error < 0.01, "numerical error of the log evidence"),
    )
    evidence = Evidence(lattice.log_evidence, error) if density.proper else None
    mixed = None
    if lattice.interpolant is not None:
        started = time.perf_counter()
        axes_points = [lattice.step * np.unique(lattice.index[:, axis]) for axis in range(lattice.index.shape[1])]
        mixed = lattice.interpolant.gauss(
            axes_points[: lattice.structural], grid_points(axes_points[lattice.structural :])
        )
        timings["structures"] = time.perf_counter() - started
    return assemble(
        density, name, "quadrature", lattice.nodes, lattice.weights, drawn, evidence, checks, timings, mixed
    )
