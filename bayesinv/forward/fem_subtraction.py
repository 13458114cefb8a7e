"""Dipoles in finite elements by localised subtraction of their singular potential."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from bayesinv.axes import Array, Index, read_only
from bayesinv.forward.fem_arrays import Dipoles, Loads, Mesh, Sizes
from bayesinv.forward.fem_assembly import gradients
from bayesinv.forward.fem_facets import RULE, count_range, fill_range
from bayesinv.forward.threads import share_work
from bayesinv.geometry.tetrahedra import Tetrahedra

MIN_BOUNDARY_DISTANCE = 1e-5  # m, of a source to the boundary of its compartment


def elements_of_nodes(elements: Index, nodes: int) -> tuple[Index, Index]:
    """Return, in compressed rows, the elements around each node."""
    order = np.argsort(elements.ravel(), kind="stable")
    return np.searchsorted(elements.ravel()[order], np.arange(nodes + 1)), order // 4


def check_distance(
    mesh: Tetrahedra, elements: Index, across: Index, points: Array, host: Index, names: Sequence[str]
) -> None:
    """Check that no source lies on the boundary of its compartment, where the subtracted potential is singular.

    Raises
    ------
    ValueError
        If one does.
    """
    corner = mesh.nodes[elements[host]]
    slope, _ = gradients(mesh.nodes, elements[host])
    height = np.einsum("eki,eki->ek", slope, points[:, None] - np.roll(corner, -1, axis=1))
    height /= np.linalg.norm(slope, axis=2)
    beyond = across[host]
    on_boundary = (beyond < 0) | (mesh.labels[beyond] != mesh.labels[host][:, None])
    distance = np.where(on_boundary, height, np.inf).min(axis=1)
    too_close = np.flatnonzero(distance < MIN_BOUNDARY_DISTANCE)
    if too_close.size:
        raise ValueError(
            f"{too_close.size} of {len(points)} sources lie on the boundary of "
            f"{names[mesh.labels[host[too_close[0]]]]}: "
            + ", ".join(f"source {i} ({distance[i] * 1e6:.2g} µm from it)" for i in too_close[:5])
            + f"; move them inwards by more than {MIN_BOUNDARY_DISTANCE * 1e6:g} µm, or use source_model='venant'"
        )


def unbounded_potential(offsets: Array, tensor: Array) -> Array:
    r"""Return the potential (point, axis) in V/(A m) of unit dipoles in an unbounded anisotropic conductor.

    V = M . s / (4 pi sqrt(det sigma) (d . s)^(3/2)),   s = sigma^-1 d
    """
    scaled = np.linalg.solve(tensor, offsets.T).T
    square = np.einsum("pi,pi->p", offsets, scaled)
    return scaled / (4 * np.pi * np.sqrt(np.linalg.det(tensor)) * square**1.5)[:, None]


@dataclass(frozen=True, eq=False)
class SubtractionLoads:
    """The right-hand sides of localised subtraction.

    monopoles : (source * 3, node), nodes of the patch first
    begin : (source + 1,), where the facets of each source begin
    middle, current : (facet, 3) m and (facet, 3, moment) in m: centroids of facets between two conductivities, and the
        current of the subtracted potential there, which coils measure
    patch : (source,), number of nodes of the patch if it touches the scalp, else 0
    gauge : (source, 3), integral of the subtracted potential over the scalp
    """

    monopoles: csr_matrix
    begin: Index
    middle: Array
    current: Array
    patch: Index
    gauge: Array


def split_dipoles(
    mesh: Tetrahedra,
    elements: Index,
    across: Index,
    elements_around: tuple[Index, Index],
    tensors: Array,
    positions: Array,
    host: Index,
    coils: bool,
    rings: int = 2,
) -> SubtractionLoads:
    r"""Return the right-hand sides of localised subtraction for sources (source, 3) in the elements `host`.

    V = u + chi V0, where V0 is the potential in an unbounded conductor of the source element's tensor sigma0 and chi
    is 1 on the patch (`rings` layers of elements of the source's compartment) and falls to 0 over the elements
    around it. For every hat function v, the correction potential u solves

        ∫ sigma grad u . grad v = - ∮patch v n . sigma0 grad V0 - ∫patch (sigma - sigma0) grad V0 . grad v
                                  - ∫around sigma grad(chi V0) . grad v

    Gradients are constant on elements, so that the volume integrals become integrals over facets. Coils measure

        -mu0/(4 pi) ∫ sigma grad(chi V0) x K = -mu0/(4 pi) sum over facets of ∮ chi V0 (sigma' - sigma") n x K,

    K being the gradient of the inverse distance; only facets between two conductivities contribute.

    Reference: Höltershinken, Lange, Erdbrügger, Buschermöhle, Wallois, Buyx, Pursiainen, Vorwerk, Engwer & Wolters
    (2024), The local subtraction approach for EEG and MEG forward modeling, arXiv:2402.10600.
    """
    count = len(positions)
    host_tensors = tensors[host]
    inverse = np.ascontiguousarray(np.linalg.inv(host_tensors))
    scale = 1 / (4 * np.pi * np.sqrt(np.linalg.det(host_tensors)))
    fem_mesh = Mesh(mesh.nodes, elements, mesh.labels, across, *elements_around, tensors)
    dipoles = Dipoles(read_only(positions), host, inverse, scale)
    sizes = Sizes(*(np.zeros(count, np.int64) for _ in range(3)))
    share_work(count_range, count, fem_mesh, dipoles, rings, coils, sizes)
    first, begin = (np.append(0, np.cumsum(size)) for size in (3 * sizes.columns, sizes.jumps))
    loads = Loads(
        first,
        np.zeros(first[-1], np.int32),
        np.zeros(first[-1]),
        begin,
        np.zeros((begin[-1], 3)),
        np.zeros((begin[-1], 3, 3)),
        np.zeros((count, 3)),
    )
    share_work(fill_range, count, fem_mesh, dipoles, rings, coils, RULE, loads)
    start = np.concatenate([[0], np.cumsum(np.repeat(sizes.columns, 3))])
    monopoles = csr_matrix((loads.charges, loads.indices, start), shape=(3 * count, len(mesh.nodes)))
    return SubtractionLoads(monopoles, begin, loads.middle, loads.current, sizes.patch, loads.gauge)
