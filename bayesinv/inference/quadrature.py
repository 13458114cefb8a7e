"""Adaptive quadrature over a few hyperparameters: a lattice along the posterior's own axes.

The trapezoid rule on a lattice converges exponentially for smooth densities that fall off. The lattice is centred
on the mode, scaled by the curvature there and transformed in the tails (a hyperbolic sine, so that a tail which
falls off only exponentially costs few nodes); it grows until its faces hold no mass, and is refined until evidence
and moments are stable. Along axes of the structure, where a node costs a decomposition, the density is worked out at a
few places and interpolated between them (see `interpolant`).

Reference: Rue, Martino & Chopin (2009), J. R. Stat. Soc. B 71, 319-392, for the strategy.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from bayesinv.axes import Array
from bayesinv.inference.interpolant import WIDENING, Interpolant, grid_points, log_jacobian, nodes_at
from bayesinv.inference.methods import UnsettledError
from bayesinv.inference.modes import modes
from bayesinv.inference.result import assemble
from bayesinv.interpolation.scattered import on_lattice
from bayesinv.posterior.checks import Check, Evidence
from bayesinv.posterior.posterior import Posterior
from bayesinv.prior.density import Density

EDGE = 1e-8
"""Share of the mass that a face of the lattice may hold."""

EDGE_STRUCTURE = 1e-5
"""The same along axes of the structure, where a face costs decompositions."""

STABLE = 1e-3
"""Change of mean and sd under refinement, in units of the sd, below which the nodes are kept."""

STABLE_EVIDENCE = 1e-3
"""Change of the log evidence under refinement, in nats, below which it is final."""

MOST_NODES = 2_000_000

WORST = 1e-2
"""Error of the density between structures, in nats, beyond which a lattice is not to be trusted."""

BEYOND = 5.0
"""How many times the mass on the faces of a lattice may lie beyond them, where tails fall off slowly."""

UNSETTLED = (
    "quadrature did not settle: the posterior of the hyperparameters is too rough or too wide for a lattice; use "
    "method='nuts'"
)


@dataclass(frozen=True, eq=False)
class Lattice:
    """Nodes and weights of the posterior of the hyperparameters.

        node = centre + axes @ sinh(WIDENING * step * index) / WIDENING

    index : (node, coordinate), integer places on the lattice
    weights : (node,), sum to 1
    log_density : (node,), log of prior, likelihood and the transform's Jacobian
    centre, axes : (coordinate,) mode; (coordinate, coordinate) axes in columns
    step : distance of neighbours on the lattice
    log_evidence, error : log marginal likelihood of the recording, and its numerical error
    edge : share of the mass on the outermost faces
    change_of_moments : last change of the moments under refinement, in sd
    interpolant : what the density was interpolated by along axes of the structure, where there are any
    """

    index: Array
    weights: Array
    log_density: Array
    centre: Array
    axes: Array
    step: float
    log_evidence: float
    error: float
    edge: float
    change_of_moments: float
    interpolant: Interpolant | None = None

    def nodes_of(self, index: Array) -> Array:
        """Unconstrained hyperparameters (node, coordinate) at places on the lattice."""
        return nodes_at(self.centre, self.axes, self.step * index)

    @property
    def nodes(self) -> Array:
        """(node, coordinate), unconstrained hyperparameters."""
        return self.nodes_of(self.index)

    @property
    def structural(self) -> int:
        """Number of axes of the structure, which come first."""
        return 0 if self.interpolant is None else self.interpolant.structural

    def log_target(self, density: Density, index: Array) -> Array:
        """Log density (node,) with respect to the lattice's own coordinates."""
        log_densities = density(self.nodes_of(index)) if len(index) else np.zeros(0)
        return log_densities + log_jacobian(self.step * index)


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
        lattice = _grow(density, empty, low, high, coarse, several)
        between = 0.0 if interpolant is None else interpolant.error
        if between > WORST:
            raise UnsettledError(UNSETTLED)
        if coarse is None:
            change_of_moments, change = _by_parity(lattice)
            if change_of_moments < STABLE and change < STABLE_EVIDENCE:
                return _pruned(
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
                return _pruned(
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
    return _pruned(coarse)


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


def _grow(
    density: Density, lattice: Lattice, low: Array, high: Array, coarse: Lattice | None, several: bool
) -> Lattice:
    """Evaluate the lattice between `low` and `high` (moved in point), outwards until its faces hold no mass.

    Places around which the lattice of twice the step has no mass are left out.
    """
    size, step = len(low), lattice.step
    heavy: set[str] = set()
    for _ in range(60):
        axes_points = [np.arange(np.floor(low[a] / step), np.ceil(high[a] / step) + 1) for a in range(size)]
        if np.prod([float(len(side)) for side in axes_points]) > MOST_NODES:
            break
        index = grid_points(axes_points)
        if lattice.interpolant is not None:
            places, columns = (
                step * grid_points(part)
                for part in (axes_points[: lattice.structural], axes_points[lattice.structural :])
            )
            lattice.interpolant.explore(places.min(axis=0), places.max(axis=0), columns, whole=several)
            log_densities = lattice.interpolant.at(places, columns).ravel()
        elif coarse is None:
            log_densities = lattice.log_target(density, index)
        else:
            log_densities = np.full(len(index), -np.inf)
            alive = _near_mass(coarse, index)
            log_densities[alive] = lattice.log_target(density, index[alive])
        shares = np.exp(log_densities - log_densities.max())
        weights = shares / shares.sum()
        grown = False
        for a in range(size):
            for bound, way, face in (
                (low, "downwards", index[:, a].min()),
                (high, "upwards", index[:, a].max()),
            ):
                if weights[index[:, a] == face].sum() > (EDGE if a >= len(density.structural) else EDGE_STRUCTURE):
                    bound[a] += np.copysign(1.5, bound[a])
                    heavy.add(f"{density.names[a]} {way}")
                    grown = True
        if not grown:
            log_evidence = (
                log_densities.max() + np.log(shares.sum()) + size * np.log(step) + np.linalg.slogdet(lattice.axes)[1]
            )
            edge = _edge(index, weights)
            return replace(
                lattice,
                index=index,
                weights=weights,
                log_density=log_densities,
                log_evidence=float(log_evidence),
                edge=edge,
            )
        if max(np.abs(low).max(), high.max()) > 40:
            break
    raise ValueError(
        f"posterior mass lies at the edge of the lattice however far it grows (from {', '.join(sorted(heavy))}): the "
        "posterior does not fall off, because a prior is improper or far too wide for these data; give a proper prior"
    )


def _near_mass(coarse: Lattice, index: Array) -> Array:
    """Whether each point (node, coordinate) of the lattice of half the step lies next to mass of the coarse one."""
    from scipy.ndimage import binary_dilation

    corner = coarse.index.min(axis=0)
    cells = (coarse.index - corner).astype(np.int64)
    heavy = np.zeros(tuple(cells.max(axis=0) + 3), dtype=bool)
    heavy[tuple((cells + 1).T)] = coarse.log_density > coarse.log_density.max() + np.log(EDGE) - 7
    heavy = binary_dilation(heavy, np.ones((3,) * heavy.ndim))
    near = np.floor(index / 2).astype(np.int64) - corner.astype(np.int64) + 1
    inside = ((near >= 0) & (near < heavy.shape)).all(axis=1)
    out = np.zeros(len(index), dtype=bool)
    out[inside] = heavy[tuple(near[inside].T)]
    return out


def _edge(index: Array, weights: Array) -> float:
    """Share of the mass on the outermost faces."""
    outer = ((index == index.min(axis=0)) | (index == index.max(axis=0))).any(axis=1)
    return float(weights[outer].sum())


def _pruned(lattice: Lattice) -> Lattice:
    """Drop nodes that together hold less than a hundred-millionth of the mass."""
    order = np.argsort(lattice.weights)
    keep = np.sort(order[np.cumsum(lattice.weights[order]) > EDGE])
    weights = lattice.weights[keep]
    return replace(
        lattice,
        index=lattice.index[keep],
        weights=weights / weights.sum(),
        log_density=lattice.log_density[keep],
    )


def draw(density: Density, lattice: Lattice, count: int, rng: np.random.Generator) -> Array:
    """Independent draws (draw, coordinate) from the posterior density itself.

    A node is drawn by weight and jittered by a triangle in every axis, which samples the multilinear interpolant
    of the density; rejection against the density makes the draws exact up to the largest ratio met.
    """
    size = lattice.index.shape[1]
    if not size:
        return np.zeros((count, 0))
    kept: list[Array] = []
    have = 0
    corner = lattice.index.min(axis=0) - 1
    top = lattice.log_density.max()
    table = np.zeros(tuple((lattice.index.max(axis=0) + 2 - corner).astype(int)))
    table[tuple((lattice.index - corner).astype(int).T)] = np.exp(lattice.log_density - top)
    smooth = on_lattice(lattice.index, lattice.log_density) if density.structural else None
    while have < count:
        tries = int(1.3 * (count - have)) + 64
        pick = rng.choice(len(lattice.index), size=tries, p=lattice.weights)
        point = lattice.index[pick] + rng.triangular(-1, 0, 1, size=(tries, size))
        proposed = _multilinear(table, point - corner)
        # Every new structure would be a decomposition, so between structures the density is interpolated smoothly.
        log_density = lattice.log_target(density, point) if smooth is None else smooth(point)
        ratio = np.exp(log_density - top) / np.maximum(proposed, 1e-300)
        # Beyond four times the interpolant there is next to no mass, and waiting for it would cost all draws.
        bound = min(float(ratio.max()), 4.0)
        taken = point[rng.uniform(size=tries) * bound < ratio]
        kept.append(taken)
        have += len(taken)
    return lattice.nodes_of(np.concatenate(kept)[:count])


def _multilinear(table: Array, point: Array) -> Array:
    """Interpolate `table` multilinearly at fractional indices (point, axis)."""
    base = np.floor(point).astype(np.int64)
    base = np.clip(base, 0, np.array(table.shape) - 2)
    part = point - base
    out = np.zeros(len(point))
    for corner in product((0, 1), repeat=table.ndim):
        share = np.prod(np.where(corner, part, 1 - part), axis=1)
        out += share * table[tuple((base + corner).T)]
    return out


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
