"""A surface made closed and consistently oriented, or the reason why it cannot be."""

from __future__ import annotations

import warnings

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components

from bayesinv.geometry.surfaces import Surface, check_size, enclosed_volume


def closed(surface: Surface, name: str = "surface", *, handles: bool = False) -> Surface:
    """Return a closed surface, of the size of a head, with all its triangles oriented outwards.

    Triangles that face inwards or inconsistently are flipped, with a warning. A surface that crosses itself is not
    detected here but by `crossings`.

    name : of the surface, for messages
    handles : allow a surface other than a deformed sphere

    Raises
    ------
    ValueError
        If it is not in metres, has a hole, several pieces, a handle, a vertex in no triangle, coincident vertices, or
        triangles without area.
    """
    vertices, triangles = surface.vertices, surface.triangles
    if not len(triangles):
        raise ValueError(f"{name} has no triangles")
    size = float(np.ptp(vertices, axis=0).max())
    check_size(size, name)
    unused = len(vertices) - len(np.unique(triangles))
    if unused:
        raise ValueError(f"{name} has {unused} vertices that are in no triangle; drop them")
    duplicates = len(vertices) - len(np.unique(np.round(vertices / (1e-9 * size)), axis=0))
    if duplicates:
        raise ValueError(
            f"{name} has {duplicates} vertices at the place of another: it touches itself or is not "
            "sewn together; merge them"
        )
    normals = np.cross(
        vertices[triangles[:, 1]] - vertices[triangles[:, 0]],
        vertices[triangles[:, 2]] - vertices[triangles[:, 0]],
    )
    longest = max(
        float(np.linalg.norm(vertices[triangles[:, i]] - vertices[triangles[:, i - 1]], axis=1).max()) for i in range(3)
    )
    flat = int(np.count_nonzero(np.linalg.norm(normals, axis=1) < 1e-9 * longest**2))
    if flat:
        raise ValueError(f"{name} has {flat} triangles without area; collapse or mesh anew")
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    unique, edge, count = np.unique(np.sort(edges, axis=1), axis=0, return_inverse=True, return_counts=True)
    if (count < 2).any():
        raise ValueError(f"{name} is open: {int((count < 2).sum())} edges belong to one triangle only")
    if (count > 2).any():
        raise ValueError(f"{name} touches itself: {int((count > 2).sum())} edges belong to more than two triangles")
    # Each edge joins two triangles; a breadth-first search orients every triangle like its neighbour.
    order = np.argsort(edge.ravel(), kind="stable").reshape(-1, 2)
    owner = np.tile(np.arange(len(triangles)), 3)
    one, two = owner[order[:, 0]], owner[order[:, 1]]
    consistent = edges[order[:, 0], 0] != edges[order[:, 1], 0]
    links = csr_matrix((np.ones(len(one)), (one, two)), shape=(len(triangles),) * 2)
    pieces, _ = connected_components(links, directed=False)
    if pieces > 1:
        raise ValueError(f"{name} has {pieces} separate pieces; keep one")
    if not handles and len(vertices) - len(unique) + len(triangles) != 2:
        raise ValueError(
            f"{name} has a handle or touches itself in a vertex "
            f"(vertices - edges + triangles = {len(vertices) - len(unique) + len(triangles)}, a sphere has 2)"
        )
    flip = np.zeros(len(triangles), dtype=bool)
    if not consistent.all():
        signed_links = csr_matrix((np.where(consistent, 1.0, 2.0), (one, two)), shape=links.shape)
        signed_links = (signed_links + signed_links.T).tocsr()
        visited, parent = breadth_first_order(signed_links, 0, directed=False)
        for triangle in visited[1:]:
            flip[triangle] = flip[parent[triangle]] ^ (signed_links[triangle, parent[triangle]] == 2.0)
    if enclosed_volume(Surface(vertices, np.where(flip[:, None], triangles[:, ::-1], triangles))) < 0:
        flip = ~flip
    if flip.any():
        warnings.warn(
            f"{name}: {int(flip.sum())} of {len(triangles)} triangles were turned inwards; "
            "they are now counter-clockwise seen from outside",
            stacklevel=3,
        )
        return Surface(vertices, np.where(flip[:, None], triangles[:, ::-1], triangles))
    return surface
