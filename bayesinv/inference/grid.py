"""A grid on axes that widen in the tails, grown until it holds the mass, and thinned where there is none."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bayesinv.axes import Array
from bayesinv.inference.interpolant import Interpolant, grid_points, log_jacobian, nodes_at
from bayesinv.prior.density import Density

EDGE = 1e-8
"""Share of the mass that a face of the lattice may hold."""

EDGE_STRUCTURE = 1e-5
"""The same along axes of the structure, where a face costs decompositions."""

MOST_NODES = 2_000_000


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


def grown(
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


def pruned(lattice: Lattice) -> Lattice:
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
