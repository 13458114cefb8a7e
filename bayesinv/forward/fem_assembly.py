"""Stiffness matrix and gradients of linear finite elements."""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_matrix, csr_matrix, diags

from bayesinv.axes import Array, Index
from bayesinv.geometry.tetrahedra import EDGES


def gradients(nodes: Array, elements: Index) -> tuple[Array, Array]:
    """Return the gradients (element, 4, 3) in 1/m of the hat functions and the volumes (element,) in m³."""
    corner = nodes[elements]
    a, b, c = (corner[:, i] - corner[:, 0] for i in (1, 2, 3))
    slope = np.empty((len(elements), 4, 3))
    slope[:, 1], slope[:, 2], slope[:, 3] = np.cross(b, c), np.cross(c, a), np.cross(a, b)
    six = np.einsum("ei,ei->e", a, slope[:, 1])
    slope[:, 1:] /= six[:, None, None]
    slope[:, 0] = -slope[:, 1:].sum(axis=1)
    return slope, np.abs(six) / 6


def stiffness(nodes: Array, elements: Index, tensors: Array) -> csr_matrix:
    """Return the stiffness matrix (node, node) in S, ∫ ∇φi . σ ∇φj.

    Its rows sum to zero by construction: the potential is determined up to a constant.
    """
    count = len(nodes)
    weight = np.empty((len(elements), 6))
    for chunk in np.array_split(np.arange(len(elements)), len(elements) // 100_000 + 1):
        slope, volume = gradients(nodes, elements[chunk])
        flux = slope @ tensors[chunk] * volume[:, None, None]
        weight[chunk] = np.einsum("eki,eki->ek", flux[:, EDGES[:, 0]], slope[:, EDGES[:, 1]])
    pair = np.sort(elements[:, EDGES].reshape(-1, 2), axis=1).astype(np.int32)
    upper = coo_matrix((weight.ravel(), (pair[:, 0], pair[:, 1])), shape=(count, count)).tocsr()
    both = upper + upper.T
    matrix = (both - diags(np.asarray(both.sum(axis=1)).ravel())).tocsr()
    matrix.sort_indices()
    return matrix
