"""Geodesic distances on a triangle surface: along its edges, or across its triangles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components

from bayesinv.axes import Array, Index


class SurfacePoints(Protocol):
    """Points of a triangle surface, such as sources on a cortex.

    positions : (source, 3), m
    triangles : (triangle, 3), indices of points, or None
    """

    @property
    def positions(self) -> Array: ...

    @property
    def triangles(self) -> Index | None: ...

    def __len__(self) -> int: ...


def edge_lengths(sources: SurfacePoints) -> csr_matrix:
    """Return the lengths in m of the edges of the sources' triangles: sparse (source, source), each edge once."""
    if sources.triangles is None:
        raise ValueError("sources without triangles have no edges")
    start, end = np.unique(np.sort(sources.triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0).T
    length = np.linalg.norm(sources.positions[start] - sources.positions[end], axis=1)
    return csr_matrix((length, (start, end)), shape=(len(sources),) * 2)


@dataclass(frozen=True, eq=False)
class Geodesic:
    """Distances along the cortex from one source to all others, infinite between connected components of the mesh.

    solvers : for each component of the mesh, its sources and a function from the index of one of them within the
        component to distances in m
    component : (source,), the component that a source lies on
    """

    solvers: tuple[tuple[Index, Callable[[int], Array]], ...]
    component: Index

    @classmethod
    def of(cls, sources: SurfacePoints | None) -> Geodesic:
        """Return the distances on the mesh of some sources.

        Raises
        ------
        ValueError
            If the sources have no mesh, some lie on no triangle, or no library that computes distances is installed.
        """
        if sources is None or sources.triangles is None or not len(sources.triangles):
            raise ValueError(
                "geodesic distances want a mesh, but these sources have no triangles; give them to Sources, or use "
                "distance='euclidean'"
            )
        triangles, count = sources.triangles, len(sources)
        isolated = np.setdiff1d(np.arange(count), triangles)
        if isolated.size:
            raise ValueError(
                f"geodesic distances want a mesh through all sources, but {isolated.size} of {count} lie on no "
                f"triangle (first: {isolated[0]}); use distance='euclidean'"
            )
        make = _geodesic_library()
        edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]]])
        graph = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (count, count))
        number, component = connected_components(graph, directed=False)
        solvers = []
        for label in range(number):
            members = np.flatnonzero(component == label)
            local = np.full(count, -1)
            local[members] = np.arange(len(members))
            faces = local[triangles[component[triangles[:, 0]] == label]]
            solvers.append((members, make(np.ascontiguousarray(sources.positions[members]), faces)))
        return cls(tuple(solvers), component.astype(np.int64))

    def __call__(self, source: int) -> Array:
        """Distances in m from one source: (source,)."""
        members, solve = self.solvers[int(self.component[source])]
        distance = np.full(len(self.component), np.inf)
        distance[members] = solve(int(np.searchsorted(members, source)))
        distance[source] = 0.0
        return distance


def _geodesic_library() -> Callable[[Array, Index], Callable[[int], Array]]:
    """Return a solver of distances: exact by `pygeodesic` if that is installed, else by the heat method."""
    try:
        from pygeodesic import geodesic
    except ImportError:
        pass
    else:

        def exact(points: Array, faces: Index) -> Callable[[int], Array]:
            solver = geodesic.PyGeodesicAlgorithmExact(points, faces.astype(np.int32))
            return lambda source: np.asarray(solver.geodesicDistances(np.array([source]), None)[0], dtype=np.float64)

        return exact
    try:
        import potpourri3d
    except ImportError:
        raise ValueError(
            "geodesic distances want pygeodesic (exact) or potpourri3d (heat method): pip install one of them, or use "
            "distance='euclidean'"
        ) from None

    def heat(points: Array, faces: Index) -> Callable[[int], Array]:
        solver = potpourri3d.MeshHeatMethodDistanceSolver(points, faces)
        return lambda source: np.asarray(solver.compute_distance(source), dtype=np.float64)

    return heat
