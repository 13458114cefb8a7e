"""A dipole in finite elements as charges on nodes: partial integration and Saint-Venant; and its element."""

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
    inner = np.linalg.solve((corner[:, 1:] - corner[:, :1]).transpose(0, 2, 1), (points - corner[:, 0])[..., None])
    return np.column_stack([1 - inner.sum(axis=1), inner[..., 0]])


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
    middle = corner.mean(axis=1)
    tree = cKDTree(middle)
    radius = float(np.linalg.norm(corner - middle[:, None], axis=2).max())
    home = np.full(len(points), -1)
    missing = np.arange(len(points))
    # The element that holds a point is nearly always among those with the nearest middles.
    for count in (12, 64):
        near = np.asarray(tree.query(points[missing], k=min(count, len(allowed)))[1]).reshape(len(missing), -1)
        for column in near.T:
            inner = _barycentric(mesh.nodes, mesh.elements[allowed[column]], points[missing]).min(axis=1) >= -1e-9
            newly = inner & (home[missing] < 0)
            home[missing[newly]] = allowed[column[newly]]
        missing = missing[home[missing] < 0]
        if not missing.size:
            return home
    for i in missing:
        near = allowed[tree.query_ball_point(points[i], radius)]
        if len(near):
            inner = _barycentric(mesh.nodes, mesh.elements[near], np.tile(points[i], (len(near), 1))).min(axis=1)
            if inner.max() >= -1e-9:
                home[i] = near[np.argmax(inner)]
    missing = missing[home[missing] < 0]
    if missing.size:
        used = np.unique(mesh.elements[allowed])
        away, _ = cKDTree(mesh.nodes[used]).query(points[missing])
        raise ValueError(
            f"{missing.size} of {len(points)} sources are outside {name}: "
            + ", ".join(
                f"source {i} ({d * 1e3:.2g} mm from its nearest node)" for i, d in zip(missing[:5], away, strict=False)
            )
            + (", ..." if missing.size > 5 else "")
            + "; move or drop them, check the coordinate frame, or name more compartments by `within`"
        )
    return home


def partial_integration(mesh: Tetrahedra, home: Index) -> csr_matrix:
    """Return monopoles (source * 3, node): the slope of the hat functions at the source."""
    slope, _ = gradients(mesh.nodes, mesh.elements[home])
    start = np.arange(0, 12 * len(home) + 1, 4)
    nodes = np.repeat(mesh.elements[home], 3, axis=0).ravel()
    return csr_matrix((slope.transpose(0, 2, 1).ravel(), nodes, start), shape=(3 * len(home), len(mesh.nodes)))


def venant(mesh: Tetrahedra, chosen: Sequence[int], positions: Array, reference: float = 0.02) -> csr_matrix:
    """Return monopoles (source * 3, node) on the neighbours of the nearest interior node of the compartments.

    Their moments up to the second order about the source are those of the dipole, in the least squares sense, with
    a small penalty on far monopoles (Buchner et al. 1997; Vorwerk, Hanrath, Wolters & Grasedyck 2019, NeuroImage
    188, 489-503). `reference` in m makes the moments comparable.
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
    power = np.array([p for p in np.ndindex(3, 3, 3) if sum(p) <= 2])
    wanted = np.zeros((len(power), 3))
    wanted[power.sum(axis=1) == 1] = power[power.sum(axis=1) == 1] / reference
    indices, charges, start = [], [], [0]
    for middle, position in zip(centre, positions, strict=True):
        near = links.indices[links.indptr[middle] : links.indptr[middle + 1]]
        away = (mesh.nodes[near] - position) / reference
        moments = np.prod(away[None] ** power[:, None, :], axis=2)
        penalty = 1e-6 * np.diag(np.einsum("ni,ni->n", away, away))
        charge = np.linalg.solve(moments.T @ moments + penalty, moments.T @ wanted)
        for axis in range(3):
            indices.append(near)
            charges.append(charge[:, axis])
            start.append(start[-1] + len(near))
    return csr_matrix((np.concatenate(charges), np.concatenate(indices), start), shape=(3 * len(positions), count))
