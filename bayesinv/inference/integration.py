"""Adaptive quadrature over a few hyperparameters: a grid along axes from the curvature at the mode.

The trapezoid rule on a lattice converges exponentially for smooth densities that fall off. The lattice is centred
on the mode, scaled by the curvature there and transformed in the tails (a hyperbolic sine, so that a tail which
falls off only exponentially costs few nodes); it grows until its faces hold no mass, and is refined until evidence
and moments are stable. Along structural axes, where a node costs a decomposition, the density is evaluated at a few
points and interpolated between them (see `interpolant`).

Reference: Rue, Martino & Chopin (2009), J. R. Stat. Soc. B 71, 319-392, for the strategy.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bayesinv.axes import Array
from bayesinv.evidence.unsettled import UnsettledError
from bayesinv.inference.grid import EDGE_MASS, MAX_GRID_NODES, Lattice, grown, pruned
from bayesinv.inference.interpolant import WIDENING, Interpolant
from bayesinv.inference.modes import modes
from bayesinv.prior.density import Density

MOMENT_TOLERANCE = 1e-3
"""Largest change of mean and sd under refinement, in units of the sd, of an accepted lattice."""

EVIDENCE_TOLERANCE = 1e-3
"""Largest change of the log evidence under refinement, in nats, of an accepted lattice."""

MAX_INTERPOLATION_ERROR = 1e-2
"""Largest error of the density between structures, in nats, of an accepted lattice."""

TAIL_FACTOR = 5.0
"""Bound on the mass beyond the faces of a lattice, relative to that on them, for tails that fall off slowly."""

UNSETTLED_MESSAGE = (
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
        if fall < -np.log(EDGE_MASS):
            # A lower mode that still holds mass: the lattice is extended over it.
            around = point + np.array([-3.0, 0.0, 3.0])[:, None, None] * np.linalg.cholesky(spread).T
            index = np.arcsinh(WIDENING * np.linalg.solve(axes, (around.reshape(-1, size) - centre).T).T) / WIDENING
            low, high = np.minimum(low, index.min(axis=0)), np.maximum(high, index.max(axis=0))
    step = 1.0
    interpolant = Interpolant(density, centre, axes, len(first)) if first else None
    multimodal = bool((np.abs(np.r_[low, high]) > 4).any())
    coarse: Lattice | None = None
    for _ in range(5):
        no_nodes = np.zeros((0, size)), np.zeros(0), np.zeros(0)
        empty = Lattice(*no_nodes, centre, axes, step, 0.0, 0.0, 0.0, 0.0, interpolant)
        lattice = grown(density, empty, low, high, coarse, multimodal)
        between = 0.0 if interpolant is None else interpolant.error
        if between > MAX_INTERPOLATION_ERROR:
            raise UnsettledError(UNSETTLED_MESSAGE)
        if coarse is None:
            change_of_moments, change = _by_parity(lattice)
            if change_of_moments < MOMENT_TOLERANCE and change < EVIDENCE_TOLERANCE:
                error = change + between + TAIL_FACTOR * lattice.edge
                return pruned(replace(lattice, error=error, change_of_moments=change_of_moments))
        else:
            before, after = _moments(coarse), _moments(lattice)
            change_of_moments = _largest_change(before, after)
            change = abs(lattice.log_evidence - coarse.log_evidence)
            if change_of_moments < MOMENT_TOLERANCE and change < EVIDENCE_TOLERANCE:
                # The coarse nodes are accurate enough, and the finer lattice's evidence has been computed.
                error = change + between + TAIL_FACTOR * coarse.edge
                return pruned(
                    replace(coarse, log_evidence=lattice.log_evidence, error=error, change_of_moments=change_of_moments)
                )
            error = change + between + TAIL_FACTOR * lattice.edge
            lattice = replace(lattice, change_of_moments=change_of_moments, error=error)
        coarse = lattice
        if len(lattice.index) * 2**size > MAX_GRID_NODES:
            break
        step /= 2
    if coarse is None or not 0 < coarse.change_of_moments < 0.02:
        raise UnsettledError(UNSETTLED_MESSAGE)
    return pruned(coarse)


def _by_parity(lattice: Lattice) -> tuple[float, float]:
    """Errors of a lattice, estimated from itself: of the moments, in sd, and of the log evidence, in nats.

    Every other node along each axis makes a lattice of twice the step. The trapezoid rule on smooth densities
    converges exponentially in the inverse step, so halving the step squares the error; twice that square is reported.
    """
    all_moments = _moments(lattice)
    parity = (lattice.index.astype(np.int64) % 2) @ 2 ** np.arange(lattice.index.shape[1])
    change_of_moments = change = 0.0
    for which in range(2 ** lattice.index.shape[1]):
        members = parity == which
        share = float(lattice.weights[members].sum())
        if not share:
            return np.inf, np.inf
        part = replace(lattice, index=lattice.index[members], weights=lattice.weights[members] / share)
        change_of_moments = max(change_of_moments, _largest_change(_moments(part), all_moments))
        change = max(change, abs(np.log(share * 2 ** lattice.index.shape[1])))
    return 2 * change_of_moments**2, 2 * change**2


def _largest_change(moments: tuple[Array, Array], reference: tuple[Array, Array]) -> float:
    """Largest difference of means and sds (coordinate,) from a reference, in units of its sd."""
    (mean, sd), (other, unit) = moments, reference
    return float(np.max(np.abs(np.r_[(mean - other) / unit, sd / unit - 1])))


def _moments(lattice: Lattice) -> tuple[Array, Array]:
    """Mean and standard deviation (coordinate,) of the unconstrained hyperparameters."""
    nodes = lattice.nodes
    mean = lattice.weights @ nodes
    return mean, np.sqrt(np.maximum(lattice.weights @ (nodes - mean) ** 2, 1e-300))
