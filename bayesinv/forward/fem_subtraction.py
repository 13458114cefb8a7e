"""A dipole in finite elements by localised subtraction of its singular potential."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from bayesinv.axes import Array, Index
from bayesinv.forward.fem_arrays import Dipoles, Loads, Mesh, Sizes
from bayesinv.forward.fem_assembly import gradients
from bayesinv.forward.fem_facets import RULE, count_range, fill_range
from bayesinv.forward.threads import share_work
from bayesinv.geometry.tetrahedra import Tetrahedra

CLOSEST = 1e-5  # m, of a source to the boundary of its compartment


def elements_of_nodes(elements: Index, nodes: int) -> tuple[Index, Index]:
    """Return, in compressed rows, the elements around each node."""
    order = np.argsort(elements.ravel(), kind="stable")
    return np.searchsorted(elements.ravel()[order], np.arange(nodes + 1)), order // 4


def check_distance(
    mesh: Tetrahedra, elements: Index, across: Index, points: Array, home: Index, names: Sequence[str]
) -> None:
    """Check that no source lies on the boundary of its compartment, where the subtracted potential is singular.

    Raises
    ------
    ValueError
        If one does: which, and how near.
    """
    corner = mesh.nodes[elements[home]]
    slope, _ = gradients(mesh.nodes, elements[home])
    height = np.einsum("eki,eki->ek", slope, points[:, None] - np.roll(corner, -1, axis=1))
    height /= np.linalg.norm(slope, axis=2)
    beyond = across[home]
    edge = (beyond < 0) | (mesh.labels[beyond] != mesh.labels[home][:, None])
    near = np.where(edge, height, np.inf).min(axis=1)
    bad = np.flatnonzero(near < CLOSEST)
    if bad.size:
        raise ValueError(
            f"{bad.size} of {len(points)} sources lie on the boundary of {names[mesh.labels[home[bad[0]]]]}: "
            + ", ".join(f"source {i} ({near[i] * 1e6:.2g} µm from it)" for i in bad[:5])
            + f"; move them inwards by more than {CLOSEST * 1e6:g} µm, or use source_model='venant'"
        )


def unbounded_potential(away: Array, tensor: Array) -> Array:
    r"""Return the potential (point, axis) in V/(A m) of unit dipoles in an unbounded anisotropic conductor.

    V = M . s / (4 pi sqrt(det sigma) (d . s)^(3/2)),   s = sigma^-1 d
    """
    bent = np.linalg.solve(tensor, away.T).T
    square = np.einsum("pi,pi->p", away, bent)
    return bent / (4 * np.pi * np.sqrt(np.linalg.det(tensor)) * square**1.5)[:, None]


@dataclass(frozen=True, eq=False)
class Split:
    """The right-hand sides of localised subtraction.

    monopoles : (source * 3, node), nodes of the patch first
    begin : (source + 1,), where the facets of each source begin
    middle, current : (facet, 3) m and (facet, 3, moment) in m: facets between conductivities, and the current that
        the split-off potential leaves there, as seen by coils
    patch : (source,), how many nodes the patch has where it reaches the scalp, else 0
    gauge : (source, 3), integral of the split-off potential over the scalp
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
    owned: tuple[Index, Index],
    tensors: Array,
    positions: Array,
    home: Index,
    coils: bool,
    rings: int = 2,
) -> Split:
    r"""Return the right-hand sides of localised subtraction for sources (source, 3) in the elements `home`.

    V = u + chi V0, where V0 is the potential in an unbounded conductor of the source element's tensor sigma0 and chi
    is 1 on the patch (`rings` layers of elements of the source's compartment) and falls to 0 over the elements
    around it. For every hat function v, the correction u solves

        ∫ sigma grad u . grad v = - ∮patch v n . sigma0 grad V0 - ∫patch (sigma - sigma0) grad V0 . grad v
                                  - ∫around sigma grad(chi V0) . grad v

    Gradients are constant on elements, so that the volume integrals become integrals over facets. Coils read

        -mu0/(4 pi) ∫ sigma grad(chi V0) x K = -mu0/(4 pi) sum over facets of ∮ chi V0 (sigma' - sigma") n x K,

    K being the gradient of the inverse distance; only facets between two conductivities count.

    Reference: Höltershinken, Lange, Erdbrügger, Buschermöhle, Wallois, Buyx, Pursiainen, Vorwerk, Engwer & Wolters
    (2024), The local subtraction approach for EEG and MEG forward modeling, arXiv:2402.10600.
    """
    count = len(positions)
    local = tensors[home]
    inverse = np.ascontiguousarray(np.linalg.inv(local))
    scale = 1 / (4 * np.pi * np.sqrt(np.linalg.det(local)))
    shape = Mesh(mesh.nodes, elements, mesh.labels, across, *owned, tensors)
    dipoles = Dipoles(positions, home, inverse, scale)
    sizes = Sizes(*(np.zeros(count, np.int64) for _ in range(3)))
    share_work(count_range, count, shape, dipoles, rings, coils, sizes)
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
    share_work(fill_range, count, shape, dipoles, rings, coils, RULE, loads)
    start = np.concatenate([[0], np.cumsum(np.repeat(sizes.columns, 3))])
    monopoles = csr_matrix((loads.charges, loads.indices, start), shape=(3 * count, len(mesh.nodes)))
    return Split(monopoles, begin, loads.middle, loads.current, sizes.patch, loads.gauge)
