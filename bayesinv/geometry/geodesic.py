"""Distances along a triangle surface: edge by edge, or exactly across its triangles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import connected_components

from bayesinv.axes import Array, Index


class Meshed(Protocol):
    """Points of a triangle surface, such as sources on a cortex.

    positions : (source, 3), m
    triangles : (triangle, 3), indices of points, or None
    """

    @property
    def positions(self) -> Array: ...

    @property
    def triangles(self) -> Index | None: ...

    def __len__(self) -> int: ...


def edge_lengths(sources: Meshed) -> csr_matrix:
    """Return the lengths in m of the edges of the sources' triangles: sparse (source, source), each edge once."""
    if sources.triangles is None:
        raise ValueError("sources without triangles have no edges")
    one, two = np.unique(np.sort(sources.triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0).T
    length = np.linalg.norm(sources.positions[one] - sources.positions[two], axis=1)
    return csr_matrix((length, (one, two)), shape=(len(sources),) * 2)


@dataclass(frozen=True, eq=False)
class Geodesic:
    """Distances along the cortex from one source to all others, infinite where no path leads.

    solvers : for each connected sheet, its sources and a function from the number of one of them to distances
    sheet : (source,), which sheet a source lies on
    """

    solvers: tuple[tuple[Index, Callable[[int], Array]], ...]
    sheet: Index

    @classmethod
    def of(cls, sources: Meshed | None) -> Geodesic:
        """Prepare the sheets of a mesh of sources.

        Raises
        ------
        ValueError
            If the sources have no mesh, some lie on no triangle, or no library is there to solve it.
        """
        if sources is None or sources.triangles is None or not len(sources.triangles):
            raise ValueError(
                "geodesic distances want a mesh, but these sources have no triangles; give them to Sources, or use "
                "distance='euclidean'"
            )
        triangles, count = sources.triangles, len(sources)
        lonely = np.setdiff1d(np.arange(count), triangles)
        if lonely.size:
            raise ValueError(
                f"geodesic distances want a mesh through all sources, but {lonely.size} of {count} lie on no triangle "
                f"(first: {lonely[0]}); use distance='euclidean'"
            )
        make = _geodesic_library()
        edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]]])
        graph = coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (count, count))
        number, sheet = connected_components(graph, directed=False)
        solvers = []
        for label in range(number):
            mine = np.flatnonzero(sheet == label)
            place = np.full(count, -1)
            place[mine] = np.arange(len(mine))
            faces = place[triangles[sheet[triangles[:, 0]] == label]]
            solvers.append((mine, make(np.ascontiguousarray(sources.positions[mine]), faces)))
        return cls(tuple(solvers), sheet.astype(np.int64))

    def __call__(self, source: int) -> Array:
        """Distances in m from one source: (source,)."""
        mine, solve = self.solvers[int(self.sheet[source])]
        out = np.full(len(self.sheet), np.inf)
        out[mine] = solve(int(np.searchsorted(mine, source)))
        out[source] = 0.0
        return out


def _geodesic_library() -> Callable[[Array, Index], Callable[[int], Array]]:
    """Exact distances by `pygeodesic` where it is installed, else the heat method by `potpourri3d`."""
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
