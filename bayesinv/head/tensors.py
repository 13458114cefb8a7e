"""Conductivity tensors of elements: isotropic, radial and tangential, or from diffusion imaging."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

from bayesinv.axes import Array, one_of, real
from bayesinv.geometry.surfaces import Surface, vertex_normals
from bayesinv.geometry.tetrahedra import Tetrahedra
from bayesinv.head.head import Head


def mesh_of(head: Head) -> Tetrahedra:
    """Return the mesh of a head.

    Raises
    ------
    ValueError
        If it has none.
    """
    if head.mesh is None:
        raise ValueError("finite elements want a mesh, but this head has none; make one with bayesinv.geometry")
    return head.mesh


def conductivity_tensors(head: Head) -> Array:
    """Return the conductivity (element, 3, 3) in S/m of every element of the head's mesh.

    `head.tensors` where given; otherwise that of the compartment, (radial, tangential) about `head.centre`.

    Raises
    ------
    ValueError
        If the head has no mesh, elements have labels without a compartment, or a tensor is not symmetric positive
        definite.
    """
    mesh = mesh_of(head)
    if mesh.labels.size and mesh.labels.max() >= len(head.names):
        raise ValueError(
            f"elements are labelled up to {mesh.labels.max()}, but the head has {len(head.names)} compartments "
            f"({', '.join(head.names)}); every label wants a conductivity"
        )
    if head.tensors is None:
        both = np.array([np.broadcast_to(value, 2) for value in head.conductivities], dtype=float)
        return radial_tensors(mesh, both[mesh.labels, 0], both[mesh.labels, 1], centre=head.centre)
    if len(head.tensors) != len(mesh.elements):
        raise ValueError(f"tensors has element = {len(head.tensors)}, but mesh has element = {len(mesh.elements)}")
    check_tensors(head.tensors)
    return head.tensors


def check_tensors(tensors: Array) -> None:
    """Check that conductivity tensors (element, 3, 3) are symmetric positive definite.

    Raises
    ------
    ValueError
        If some are not: which, and how far off.
    """
    difference = np.abs(tensors - tensors.transpose(0, 2, 1)).max(axis=(1, 2))
    asymmetric = np.flatnonzero(difference > 1e-9 * np.abs(tensors).max(axis=(1, 2)))
    if asymmetric.size:
        raise ValueError(
            f"tensors of {asymmetric.size} elements are not symmetric, the first is element {asymmetric[0]}"
        )
    least = np.linalg.eigvalsh(tensors)[:, 0]
    if least.size and least.min() <= 0:
        worst = int(np.argmin(least))
        raise ValueError(
            f"tensors of {np.count_nonzero(least <= 0)} elements are not positive definite; the least eigenvalue "
            f"is {least[worst]:.3g} S/m in element {worst}"
        )


def radial_tensors(
    mesh: Tetrahedra,
    radial: ArrayLike,
    tangential: ArrayLike,
    *,
    centre: ArrayLike = (0.0, 0.0, 0.0),
    normals: Array | Surface | None = None,
) -> Array:
    """Return tensors (element, 3, 3) with one conductivity along a normal and another across it, as in the skull.

        σ = tangential (1 - n nᵀ) + radial n nᵀ

    radial, tangential : S/m, one number or (element,)
    centre : (3,), m; the normal points away from it, unless `normals` are given
    normals : (element, 3), or a surface whose nearest vertex gives the normal

    Raises
    ------
    ValueError
        If a conductivity is not positive.
    """
    longitudinal = np.broadcast_to(np.asarray(radial, dtype=float), len(mesh.elements))
    transverse = np.broadcast_to(np.asarray(tangential, dtype=float), len(mesh.elements))
    if not (np.minimum(longitudinal, transverse) > 0).all() or not np.isfinite(longitudinal + transverse).all():
        raise ValueError("radial and tangential conductivities must be positive, in S/m")
    centroid = mesh.nodes[mesh.elements].mean(axis=1)
    if normals is None:
        direction = centroid - real("centre", centre, "3")
    elif isinstance(normals, Surface):
        used = np.unique(normals.triangles)
        direction = vertex_normals(normals)[used[cKDTree(normals.vertices[used]).query(centroid)[1]]]
    else:
        direction = real("normals", normals, "element 3")
    length = np.linalg.norm(direction, axis=1, keepdims=True)
    direction = direction / np.where(length > 0, length, 1)
    tensors = transverse[:, None, None] * np.eye(3)
    tensors += (longitudinal - transverse)[:, None, None] * direction[:, :, None] * direction[:, None, :]
    return tensors


def tensors_from_dti(
    volume: ArrayLike | Path | str,
    head: Head,
    *,
    affine: ArrayLike | None = None,
    compartments: Sequence[str] | None = None,
    axes: str = "world",
    largest_ratio: float = 10.0,
) -> Array:
    """Return tensors (element, 3, 3) in S/m with the shape of diffusion tensors and the scale of the compartment's.

        σ = s D / det(D)^(1/3)

    so that the volume of the conductivity ellipsoid is that of the isotropic tissue (Wolters et al. 2006,
    NeuroImage 30, 813-826). Elements of other compartments, outside the volume, or where D is not positive
    definite keep their conductivity.

    volume : (i, j, k, 6) diffusion as xx, xy, xz, yy, yz, zz, or (i, j, k, 3, 3), any unit; or a NIfTI file
    affine : (4, 4), voxel index to m in the coordinates of the mesh; a file's own (mm) if None
    compartments : to fill; the innermost if None
    axes : of the tensors' components: "world", or "voxel" if they are along the volume's axes
    largest_ratio : of the eigenvalues; larger ones, due to noise, are reduced to it

    Raises
    ------
    ValueError
        If the volume has another shape or no affine, or a compartment is unknown.
    """
    if isinstance(volume, Path | str):
        import nibabel

        image: Any = nibabel.load(volume)
        affine = np.diag([1e-3, 1e-3, 1e-3, 1.0]) @ image.affine if affine is None else affine
        volume = np.asarray(image.dataobj, dtype=float)
    if affine is None:
        raise ValueError("a volume without a file wants its affine: (4, 4), voxel index to m")
    one_of("axes", axes, ("voxel", "world"))
    diffusion, matrix = np.asarray(volume, dtype=float), real("affine", affine, "4 4")
    if diffusion.ndim == 4 and diffusion.shape[3] == 6:
        diffusion = diffusion[..., [0, 1, 2, 1, 3, 4, 2, 4, 5]].reshape(*diffusion.shape[:3], 3, 3)
    if diffusion.ndim != 5 or diffusion.shape[3:] != (3, 3):
        raise ValueError(f"volume has shape {diffusion.shape}, but wants (i, j, k, 6) or (i, j, k, 3, 3)")
    names = head.names[:1] if compartments is None else compartments
    chosen = [head.names.index(one_of("compartment", name, head.names)) for name in names]
    tensors = conductivity_tensors(head).copy()
    mesh = mesh_of(head)
    elements = np.flatnonzero(np.isin(mesh.labels, chosen))
    middle = mesh.nodes[mesh.elements[elements]].mean(axis=1)
    voxel = np.round((middle - matrix[:3, 3]) @ np.linalg.inv(matrix[:3, :3]).T).astype(np.int64)
    in_volume = ((voxel >= 0) & (voxel < diffusion.shape[:3])).all(axis=1)
    elements, voxel = elements[in_volume], voxel[in_volume]
    shape = diffusion[tuple(voxel.T)]
    shape = np.where(np.isfinite(shape), shape, 0)
    if axes == "voxel":
        left, _, right = np.linalg.svd(matrix[:3, :3])
        rotation = left @ right
        shape = rotation @ shape @ rotation.T
    value, vector = np.linalg.eigh((shape + shape.transpose(0, 2, 1)) / 2)
    definite = value[:, 0] > 0
    elements, value, vector = elements[definite], value[definite], vector[definite]
    value = np.maximum(value, value[:, 2:] / largest_ratio)
    value /= np.cbrt(value.prod(axis=1))[:, None]
    size = np.cbrt(np.linalg.det(tensors[elements]))
    tensors[elements] = size[:, None, None] * np.einsum("eik,ek,ejk->eij", vector, value, vector)
    return tensors
