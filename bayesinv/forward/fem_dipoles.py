"""Dipoles as monopoles on the nodes of finite elements: partial integration and Saint-Venant; the host elements."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix
from scipy.spatial import cKDTree

from bayesinv.axes import Array, Index
from bayesinv.forward.fem_assembly import gradients
from bayesinv.geometry.tetrahedra import EDGES, FACETS, Tetrahedra, neighbours


def _barycentric(nodes: Array, elements: Index, points: Array) -> Array:
    """Return the barycentric coordinates (point, 4) of points, each in its own element."""
    corner = nodes[elements]
    coordinates = np.linalg.solve(
        (corner[:, 1:] - corner[:, :1]).transpose(0, 2, 1), (points - corner[:, 0])[..., None]
    )
    return np.column_stack([1 - coordinates.sum(axis=1), coordinates[..., 0]])


def locate(mesh: Tetrahedra, chosen: Sequence[int], points: Array, name: str) -> Index:
    """Return the element (point,) of the chosen compartments that holds each point.

    Raises
    ------
    ValueError
        If a point is in none: which, and how far from the nearest node.
    """
    allowed = np.flatnonzero(np.isin(mesh.labels, chosen))
    if not allowed.size:
        raise ValueError(f"the mesh has no element in {name}")
    corner = mesh.nodes[mesh.elements[allowed]]
    centroid = corner.mean(axis=1)
    tree = cKDTree(centroid)
    radius = float(np.linalg.norm(corner - centroid[:, None], axis=2).max())
    host = np.full(len(points), -1)
    unlocated = np.arange(len(points))
    # The element that holds a point is nearly always among those with the nearest centroids.
    for count in (12, 64):
        candidates = np.asarray(tree.query(points[unlocated], k=min(count, len(allowed)))[1]).reshape(
            len(unlocated), -1
        )
        for candidate in candidates.T:
            is_inside = (
                _barycentric(mesh.nodes, mesh.elements[allowed[candidate]], points[unlocated]).min(axis=1) >= -1e-9
            )
            found = is_inside & (host[unlocated] < 0)
            host[unlocated[found]] = allowed[candidate[found]]
        unlocated = unlocated[host[unlocated] < 0]
        if not unlocated.size:
            return host
    for i in unlocated:
        candidates = allowed[tree.query_ball_point(points[i], radius)]
        if len(candidates):
            is_inside = _barycentric(
                mesh.nodes, mesh.elements[candidates], np.tile(points[i], (len(candidates), 1))
            ).min(axis=1)
            if is_inside.max() >= -1e-9:
                host[i] = candidates[np.argmax(is_inside)]
    unlocated = unlocated[host[unlocated] < 0]
    if unlocated.size:
        used = np.unique(mesh.elements[allowed])
        distance, _ = cKDTree(mesh.nodes[used]).query(points[unlocated])
        raise ValueError(
            f"{unlocated.size} of {len(points)} sources are outside {name}: "
            + ", ".join(
                f"source {i} ({d * 1e3:.2g} mm from its nearest node)"
                for i, d in zip(unlocated[:5], distance, strict=False)
            )
            + (", ..." if unlocated.size > 5 else "")
            + "; move or drop them, check the coordinate frame, or name more compartments by `within`"
        )
    return host


def partial_integration(mesh: Tetrahedra, host: Index) -> csr_matrix:
    """Return monopoles (source * 3, node) in 1/m: the gradients of the hat functions at the source."""
    slope, _ = gradients(mesh.nodes, mesh.elements[host])
    start = np.arange(0, 12 * len(host) + 1, 4)
    nodes = np.repeat(mesh.elements[host], 3, axis=0).ravel()
    return csr_matrix((slope.transpose(0, 2, 1).ravel(), nodes, start), shape=(3 * len(host), len(mesh.nodes)))


def venant(mesh: Tetrahedra, chosen: Sequence[int], positions: Array, reference: float = 0.02) -> csr_matrix:
    """Return monopoles (source * 3, node) on the neighbours of the nearest interior node of the compartments.

    Their moments up to the second order about the source are those of the dipole, in the least squares sense, with
    a small penalty on distant monopoles (Buchner et al. 1997; Vorwerk, Hanrath, Wolters & Grasedyck 2019, NeuroImage
    188, 489-503). `reference` is the length in m by which moments are scaled.
    """
    member = np.isin(mesh.labels, chosen)
    count = len(mesh.nodes)
    interior = np.zeros(count, bool)
    interior[mesh.elements[member]] = True
    interior[mesh.elements[~member]] = False
    scalp = np.bincount(mesh.elements[:, FACETS][neighbours(mesh.elements) < 0].ravel(), minlength=count) > 0
    candidate = np.flatnonzero(interior & ~scalp)
    if not candidate.size:
        raise ValueError("the compartment has no node inside; use a finer mesh, or source_model='subtraction'")
    pair = mesh.elements[member][:, EDGES].reshape(-1, 2)
    both = np.vstack([pair, pair[:, ::-1], np.repeat(candidate, 2).reshape(-1, 2)])
    links = coo_matrix((np.ones(len(both), np.int8), (both[:, 0], both[:, 1])), shape=(count, count)).tocsr()
    centre = candidate[cKDTree(mesh.nodes[candidate]).query(positions)[1]]
    exponents = np.array([p for p in np.ndindex(3, 3, 3) if sum(p) <= 2])
    target = np.zeros((len(exponents), 3))
    target[exponents.sum(axis=1) == 1] = exponents[exponents.sum(axis=1) == 1] / reference
    indices, charges, start = [], [], [0]
    for node, position in zip(centre, positions, strict=True):
        neighbourhood = links.indices[links.indptr[node] : links.indptr[node + 1]]
        offsets = (mesh.nodes[neighbourhood] - position) / reference
        moments = np.prod(offsets[None] ** exponents[:, None, :], axis=2)
        penalty = 1e-6 * np.diag(np.einsum("ni,ni->n", offsets, offsets))
        charge = np.linalg.solve(moments.T @ moments + penalty, moments.T @ target)
        for axis in range(3):
            indices.append(neighbourhood)
            charges.append(charge[:, axis])
            start.append(start[-1] + len(neighbourhood))
    return csr_matrix((np.concatenate(charges), np.concatenate(indices), start), shape=(3 * len(positions), count))
