"""Tetrahedral meshes from files and from volumes of labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesinv.axes import Index, one_of, real
from bayesinv.geometry.surfaces import check_size
from bayesinv.geometry.tetrahedra import Tetrahedra, check_mesh, compact, positive

METRES_PER_UNIT = {"m": 1.0, "cm": 1e-2, "mm": 1e-3}


def _compartments(labels: NDArray[Any], values: Sequence[int] | None) -> Index:
    """Return the compartment 0, 1, ... of each label: in the order of `values`, or in ascending order."""
    present = [int(value) for value in np.unique(labels)]
    order = present if values is None else [int(value) for value in values]
    missing = sorted(set(present) - set(order))
    if missing:
        raise ValueError(f"the labels {missing} are in the mesh, but values are {order}; name every compartment")
    compartment = {value: k for k, value in enumerate(order)}
    return np.array([compartment[value] for value in present])[np.searchsorted(present, labels)]


def read_mesh(
    path: Path | str, *, unit: str = "m", label: str | None = None, values: Sequence[int] | None = None
) -> Tetrahedra:
    """Read labelled tetrahedra from a file that meshio knows, such as .msh or .vtu.

    unit : of the file's coordinates: "m", "cm" or "mm"
    label : name of the cell data that holds the compartments; None takes the usual names, or the only integer data
    values : label values of the compartments, innermost first; ascending order if None

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it holds no tetrahedra or no labels, or the mesh is not sound.
    """
    import meshio

    one_of("unit", unit, METRES_PER_UNIT)
    if not Path(path).is_file():
        raise FileNotFoundError(f"no mesh file {path}")
    file = meshio.read(path)
    blocks = [i for i, block in enumerate(file.cells) if block.type == "tetra"]
    if not blocks:
        raise ValueError(f"{path} holds {sorted({block.type for block in file.cells})}, but no tetrahedra (4 nodes)")
    integer_data = {
        name: np.concatenate([np.asarray(data[i]).ravel() for i in blocks])
        for name, data in file.cell_data.items()
        if all(np.asarray(data[i]).size == len(file.cells[i].data) for i in blocks)
    }
    integer_data = {name: value for name, value in integer_data.items() if np.array_equal(value, np.round(value))}
    if label is None:
        known = [name for name in ("gmsh:physical", "medit:ref", "label", "labels") if name in integer_data]
        if not known and len(integer_data) != 1:
            raise ValueError(
                f"the elements of {path} are unlabelled, or it is unclear by what: it has cell data "
                f"{sorted(file.cell_data)}; name one by `label=`"
            )
        label = (known or list(integer_data))[0]
    found = integer_data[one_of("cell data", label, integer_data)].astype(np.int64)
    elements = np.concatenate([file.cells[i].data for i in blocks]).astype(np.int64)
    mesh = compact(np.asarray(file.points, float) * METRES_PER_UNIT[unit], elements, _compartments(found, values))
    check_mesh(mesh, str(path))
    return mesh


def from_labels(
    volume: ArrayLike | Path | str, affine: ArrayLike | None = None, values: Sequence[int] | None = None
) -> Tetrahedra:
    """Return a conforming tetrahedral mesh of a labelled voxel volume, five tetrahedra per voxel.

    volume : (i, j, k), label of each voxel, 0 for none; or the path of a NIfTI file, whose header gives the affine
    affine : (4, 4), voxel index of the centre of a voxel to m
    values : labels of the compartments, innermost first; ascending order if None; other labels are left out

    Raises
    ------
    ValueError
        If the volume has other than three axes, no labelled voxel, no affine, or not the size of a head.
    """
    if isinstance(volume, Path | str):
        import nibabel

        image: Any = nibabel.load(volume)
        unit = image.header.get_xyzt_units()[0] if hasattr(image.header, "get_xyzt_units") else "mm"
        scale = {"meter": 1.0, "micron": 1e-6}.get(unit, 1e-3)
        affine = np.diag([scale, scale, scale, 1.0]) @ image.affine if affine is None else affine
        volume = np.asarray(image.dataobj)
    if affine is None:
        raise ValueError("a volume without a file wants its affine: (4, 4), voxel index to m")
    label_volume = np.asarray(volume)
    if label_volume.ndim != 3:
        raise ValueError(f"volume has shape {label_volume.shape}, but wants 3 axes: (i, j, k)")
    if not np.array_equal(label_volume, np.round(label_volume)):
        raise ValueError("volume holds labels that are no whole numbers; interpolate labels by nearest neighbour")
    label_volume = label_volume.astype(np.int64)
    voxels = np.argwhere(label_volume > 0 if values is None else np.isin(label_volume, np.asarray(values)))
    if not len(voxels):
        raise ValueError("volume has no labelled voxel")
    odd = voxels.sum(axis=1) % 2
    # One regular tetrahedron between alternate corners and four at the other corners; odd voxels are mirrored, so
    # that the diagonals of a shared face agree.
    split = np.array(
        [
            [(0, 0, 0), (1, 1, 0), (1, 0, 1), (0, 1, 1)],
            [(1, 0, 0), (0, 0, 0), (1, 1, 0), (1, 0, 1)],
            [(0, 1, 0), (0, 0, 0), (1, 1, 0), (0, 1, 1)],
            [(0, 0, 1), (0, 0, 0), (1, 0, 1), (0, 1, 1)],
            [(1, 1, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1)],
        ]
    )
    mirrored_split = split.copy()
    mirrored_split[..., 0] = 1 - mirrored_split[..., 0]
    corner = voxels[:, None, None, :] + np.where(odd[:, None, None, None] == 1, mirrored_split, split)
    shape = np.array(label_volume.shape) + 1
    key, elements = np.unique(np.ravel_multi_index(tuple(np.moveaxis(corner, -1, 0)), shape), return_inverse=True)
    matrix = real("affine", affine, "4 4")
    index = np.column_stack(np.unravel_index(key, shape)) - 0.5
    labels = np.repeat(_compartments(label_volume[tuple(voxels.T)], values), 5)
    mesh = Tetrahedra(index @ matrix[:3, :3].T + matrix[:3, 3], elements.reshape(-1, 4), labels)
    check_size(float(np.ptp(mesh.nodes, axis=0).max()), "volume")
    return Tetrahedra(mesh.nodes, positive(mesh), labels)
