"""A grid on transformed axes that widen in the tails, grown until it holds the posterior mass."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bayesinv.axes import Array
from bayesinv.inference.interpolant import Interpolant, grid_points, log_jacobian, nodes_at
from bayesinv.prior.density import Density

EDGE_MASS = 1e-8
"""Largest share of the mass on a face of the lattice."""

STRUCTURE_EDGE_MASS = 1e-5
"""The same for faces across structural axes, where growing costs decompositions."""

MAX_GRID_NODES = 2_000_000
"""Largest number of nodes of a lattice."""


@dataclass(frozen=True, eq=False)
class Lattice:
    """Nodes and weights of the posterior of the hyperparameters.

        node = centre + axes @ sinh(WIDENING * step * index) / WIDENING

    index : (node, coordinate), integer grid coordinates
    weights : (node,), sum to 1
    log_density : (node,), log of prior, likelihood and the transform's Jacobian
    centre, axes : (coordinate,) mode; (coordinate, coordinate) axes in columns
    step : spacing of the lattice along the transformed axes
    log_evidence, error : log marginal likelihood of the recording, and its numerical error
    edge : share of the mass on the outermost faces
    change_of_moments : last change of the moments under refinement, in sd
    interpolant : of the density along structural axes, where there are any
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
        """Unconstrained hyperparameters (node, coordinate) at grid coordinates."""
        return nodes_at(self.centre, self.axes, self.step * index)

    @property
    def nodes(self) -> Array:
        """(node, coordinate), unconstrained hyperparameters."""
        return self.nodes_of(self.index)

    @property
    def structural(self) -> int:
        """Number of structural axes, which come first."""
        return 0 if self.interpolant is None else self.interpolant.structural

    def log_target(self, density: Density, index: Array) -> Array:
        """Log density (node,) with respect to the transformed axes."""
        log_densities = density(self.nodes_of(index)) if len(index) else np.zeros(0)
        return log_densities + log_jacobian(self.step * index)


def grown(
    density: Density, lattice: Lattice, low: Array, high: Array, coarse: Lattice | None, multimodal: bool
) -> Lattice:
    """Return the lattice between `low` and `high`, grown until its faces hold no more than `EDGE_MASS`.

    low, high : (axis,), bounds along the transformed axes; widened in place
    coarse : lattice of twice the step; points without mass around them in it are left out
    multimodal : whether mass may lie in several places, so that every structure is evaluated
    """
    size, step = len(low), lattice.step
    open_ends: set[str] = set()
    for _ in range(60):
        axes_points = [np.arange(np.floor(low[a] / step), np.ceil(high[a] / step) + 1) for a in range(size)]
        if np.prod([float(len(points)) for points in axes_points]) > MAX_GRID_NODES:
            break
        index = grid_points(axes_points)
        if lattice.interpolant is not None:
            structures, columns = (
                step * grid_points(part)
                for part in (axes_points[: lattice.structural], axes_points[lattice.structural :])
            )
            lattice.interpolant.explore(structures.min(axis=0), structures.max(axis=0), columns, everywhere=multimodal)
            log_densities = lattice.interpolant.at(structures, columns).ravel()
        elif coarse is None:
            log_densities = lattice.log_target(density, index)
        else:
            log_densities = np.full(len(index), -np.inf)
            near_mass = _near_mass(coarse, index)
            log_densities[near_mass] = lattice.log_target(density, index[near_mass])
        shares = np.exp(log_densities - log_densities.max())
        weights = shares / shares.sum()
        grown = False
        for a in range(size):
            for bound, direction, face in (
                (low, "downwards", index[:, a].min()),
                (high, "upwards", index[:, a].max()),
            ):
                allowed = EDGE_MASS if a >= len(density.structural) else STRUCTURE_EDGE_MASS
                if weights[index[:, a] == face].sum() > allowed:
                    bound[a] += np.copysign(1.5, bound[a])
                    open_ends.add(f"{density.names[a]} {direction}")
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
        f"posterior mass lies at the edge of the lattice however far it grows (from {', '.join(sorted(open_ends))}): "
        "the posterior does not fall off, because a prior is improper or far too wide for these data; "
        "give a proper prior"
    )


def _near_mass(coarse: Lattice, index: Array) -> Array:
    """Whether each point (node, coordinate) of the lattice of half the step lies next to mass of the coarse lattice."""
    from scipy.ndimage import binary_dilation

    corner = coarse.index.min(axis=0)
    offsets = (coarse.index - corner).astype(np.int64)
    has_mass = np.zeros(tuple(offsets.max(axis=0) + 3), dtype=bool)
    has_mass[tuple((offsets + 1).T)] = coarse.log_density > coarse.log_density.max() + np.log(EDGE_MASS) - 7
    has_mass = binary_dilation(has_mass, np.ones((3,) * has_mass.ndim))
    coarse_cell = np.floor(index / 2).astype(np.int64) - corner.astype(np.int64) + 1
    inside = ((coarse_cell >= 0) & (coarse_cell < has_mass.shape)).all(axis=1)
    out = np.zeros(len(index), dtype=bool)
    out[inside] = has_mass[tuple(coarse_cell[inside].T)]
    return out


def _edge(index: Array, weights: Array) -> float:
    """Share of the mass on the outermost faces."""
    outer = ((index == index.min(axis=0)) | (index == index.max(axis=0))).any(axis=1)
    return float(weights[outer].sum())


def pruned(lattice: Lattice) -> Lattice:
    """Return the lattice without the least probable nodes, which together hold less than `EDGE_MASS`."""
    order = np.argsort(lattice.weights)
    retained = np.sort(order[np.cumsum(lattice.weights[order]) > EDGE_MASS])
    weights = lattice.weights[retained]
    return replace(
        lattice,
        index=lattice.index[retained],
        weights=weights / weights.sum(),
        log_density=lattice.log_density[retained],
    )
