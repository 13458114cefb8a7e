"""Tetrahedral meshes: volume, quality, neighbours, boundary, and checks for finite elements."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from bayesinv.axes import Array, Index, freeze, real
from bayesinv.geometry.surfaces import Surface, check_size, checked_corners
from bayesinv.wording import listed

# Corners of the facet opposite to each corner, counter-clockwise seen from outside a positive element.
FACETS = np.array([[1, 2, 3], [0, 3, 2], [0, 1, 3], [0, 2, 1]])
EDGES = np.array([[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]])
MIN_QUALITY = 1e-5  # an element of lower quality counts as flat


@dataclass(frozen=True, eq=False)
class Tetrahedra:
    """A conforming tetrahedral mesh with a compartment label per element.

    nodes : (node, 3), m
    elements : (element, 4), indices of nodes
    labels : (element,), 0 for the innermost compartment and so on outwards
    """

    nodes: Array
    elements: Index
    labels: Index

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", real("nodes", self.nodes, "node 3"))
        object.__setattr__(self, "elements", checked_corners("elements", self.elements, 4, len(self.nodes)))
        labels = np.asarray(self.labels, dtype=np.int64)
        if labels.shape != (len(self.elements),):
            raise ValueError(f"labels has shape {labels.shape}, but elements has element = {len(self.elements)}")
        if labels.size and labels.min() < 0:
            raise ValueError(
                f"{np.count_nonzero(labels < 0)} of {labels.size} elements are unlabelled (label below 0); "
                "label them with their compartment, 0 for the innermost, or drop them"
            )
        object.__setattr__(self, "labels", labels)
        freeze(self.nodes, self.elements, self.labels)


def volumes(mesh: Tetrahedra) -> Array:
    """Return the volume (element,) in m³ of each element, whatever the order of its corners."""
    return np.abs(signed_volumes(mesh.nodes, mesh.elements))


def signed_volumes(nodes: Array, elements: Index) -> Array:
    """Return the signed volume (element,) in m³ of elements, negative if inverted."""
    a, b, c, d = (nodes[elements[:, i]] for i in range(4))
    return np.einsum("ij,ij->i", b - a, np.cross(c - a, d - a)) / 6


def corner_quality(corners: Array) -> Array:
    """Return the quality (element,) of elements given by corners (element, 4, 3), negative if inverted."""
    edge_vectors = corners[:, 1:] - corners[:, :1]
    volume = np.einsum("ij,ij->i", edge_vectors[:, 0], np.cross(edge_vectors[:, 1], edge_vectors[:, 2])) / 6
    edges = corners[:, EDGES[:, 1]] - corners[:, EDGES[:, 0]]
    length = np.sqrt(np.einsum("eki,eki->e", edges, edges) / 6)
    return 6 * np.sqrt(2) * volume / np.where(length > 0, length, 1) ** 3


def quality(mesh: Tetrahedra) -> Array:
    r"""Return the quality (element,) of each element: 1 for a regular tetrahedron, 0 for a flat one.

        q = 6 sqrt(2) volume / (root mean square edge)³

    Reference: Parthasarathy, Graichen & Hathaway (1994), Finite Elem. Anal. Des. 15, 255-261.
    """
    return np.abs(corner_quality(mesh.nodes[mesh.elements]))


def positive(mesh: Tetrahedra) -> Index:
    """Return the elements (element, 4) with two corners swapped where the volume was negative."""
    elements = mesh.elements.copy()
    inverted = signed_volumes(mesh.nodes, elements) < 0
    elements[inverted] = elements[inverted][:, [0, 1, 3, 2]]
    return elements


def neighbours(elements: Index) -> Index:
    """Return the element (element, 4) across the facet opposite to each corner, -1 where there is none.

    Raises
    ------
    ValueError
        If a facet belongs to more than two elements.
    """
    count = int(elements.max()) + 1 if elements.size else 0
    facet = np.sort(elements[:, FACETS].reshape(-1, 3), axis=1)
    if count < 2_000_000:
        key = (facet[:, 0] * count + facet[:, 1]) * count + facet[:, 2]
        order = np.argsort(key, kind="stable")
        shared = key[order[1:]] == key[order[:-1]]
    else:
        order = np.lexsort(facet.T)
        shared = (facet[order[1:]] == facet[order[:-1]]).all(axis=1)
    if (shared[1:] & shared[:-1]).any():
        raise ValueError(
            f"{np.count_nonzero(shared[1:] & shared[:-1])} facets belong to more than two elements; drop duplicates"
        )
    across = np.full(facet.shape[0], -1)
    left, right = order[:-1][shared], order[1:][shared]
    across[left], across[right] = right // 4, left // 4
    return across.reshape(-1, 4)


def boundary(mesh: Tetrahedra) -> Surface:
    """Return the outer boundary as a surface on the same nodes, triangles counter-clockwise from outside."""
    elements = positive(mesh)
    return Surface(mesh.nodes, elements[:, FACETS][neighbours(elements) < 0])


def check_mesh(mesh: Tetrahedra, name: str = "mesh") -> Index:
    """Check that a mesh is valid for finite elements; return its `neighbours` (element, 4).

    Raises
    ------
    ValueError
        If it has no elements, not the size of a head, flat elements, elements that overlap their neighbours,
        several components, or nodes that no element uses.
    """
    if not len(mesh.elements):
        raise ValueError(f"{name} has no elements")
    check_size(float(np.ptp(mesh.nodes, axis=0).max()), name)
    flat = np.flatnonzero(quality(mesh) < MIN_QUALITY)
    if flat.size:
        raise ValueError(
            f"{name} has {flat.size} flat elements (quality below {MIN_QUALITY:g}), the first are {listed(flat)}; "
            "collapse them or mesh again"
        )
    elements = positive(mesh)
    across = neighbours(elements)
    # Two positive elements on opposite sides of a facet have its corners in opposite orientations.
    shared = np.argwhere((across >= 0) & (across > np.arange(len(across))[:, None]))
    facet = elements[shared[:, 0][:, None], FACETS[shared[:, 1]]]
    neighbour = across[shared[:, 0], shared[:, 1]]
    neighbour_side = np.argmax(across[neighbour] == shared[:, :1], axis=1)
    neighbour_facet = elements[neighbour[:, None], FACETS[neighbour_side]]
    folded = _is_odd(facet) == _is_odd(neighbour_facet)
    if folded.any():
        raise ValueError(
            f"{name} has {np.count_nonzero(folded)} inverted elements that overlap a neighbour, the first are "
            f"{listed(shared[folded, 0])}; move their nodes or mesh again"
        )
    links = coo_matrix((np.ones(len(shared)), (shared[:, 0], neighbour)), shape=(len(elements),) * 2)
    pieces, piece = connected_components(links, directed=False)
    if pieces > 1:
        sizes = np.sort(np.bincount(piece))[::-1]
        raise ValueError(
            f"{name} has {pieces} components of {', '.join(map(str, sizes[:5]))} elements that share no facet; "
            "current cannot pass between them: join them or keep one by `largest(mesh)`"
        )
    used = np.zeros(len(mesh.nodes), bool)
    used[mesh.elements] = True
    if not used.all():
        raise ValueError(
            f"{name} has {np.count_nonzero(~used)} nodes that no element uses; drop them by `largest(mesh)`"
        )
    return across


def _is_odd(facet: Index) -> NDArray[np.bool_]:
    """Return the parity (facet,) of the permutations that sort the corners (facet, 3)."""
    a, b, c = facet.T
    return ((a < b) ^ (b < c)) ^ (a < c)


def largest(mesh: Tetrahedra) -> Tetrahedra:
    """Return the largest component (elements joined by facets), without unused nodes."""
    across = neighbours(mesh.elements)
    shared = np.argwhere(across >= 0)
    links = coo_matrix(
        (np.ones(len(shared)), (shared[:, 0], across[shared[:, 0], shared[:, 1]])), shape=(len(across),) * 2
    )
    _, piece = connected_components(links, directed=False)
    kept_elements = piece == np.argmax(np.bincount(piece))
    return compact(mesh.nodes, mesh.elements[kept_elements], mesh.labels[kept_elements])


def compact(nodes: Array, elements: Index, labels: Index) -> Tetrahedra:
    """Return a mesh of these elements without the nodes that none of them uses."""
    used, corners = np.unique(elements, return_inverse=True)
    return Tetrahedra(nodes[used], corners.reshape(-1, 4), labels)


def describe(mesh: Tetrahedra) -> dict[str, str]:
    """Return a description of a mesh: its size, its quality, and the number of elements of each compartment."""
    values = quality(mesh)
    quantiles = np.quantile(values, [0.5, 0.01])
    return {
        "nodes": str(len(mesh.nodes)),
        "elements": f"{len(mesh.elements)} ({', '.join(map(str, np.bincount(mesh.labels)))} by compartment)",
        "quality": f"median {quantiles[0]:.2f}, first percentile {quantiles[1]:.2f}, least {values.min():.2g}",
    }
