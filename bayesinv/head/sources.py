"""Sources: where currents may flow, and the cortical surface they lie on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from bayesinv.axes import Array, Index, freeze, real


@dataclass(frozen=True, eq=False)
class Sources:
    """Source locations, their surface normals and the triangles between them.

    positions : (source, 3), m, head coordinates
    normals : (source, 3), unit vectors pointing out of the cortex, or None
    triangles : (triangle, 3), indices of sources, or None
    areas : (source,), m², the patch of cortex that a source stands for, or None
    vertices : (source,), vertex number on the subject's surface, or None
    hemispheres : (source,), 0 for left and 1 for right, or None
    to_mri : (4, 4), head to MRI (surface RAS) coordinates, or None
    subject : the name of the subject whose surfaces these are, or ""
    """

    positions: Array
    normals: Array | None = None
    triangles: Index | None = None
    areas: Array | None = None
    vertices: Index | None = None
    hemispheres: Index | None = None
    to_mri: Array | None = None
    subject: str = ""

    def __post_init__(self) -> None:
        positions = real("positions", self.positions, "source 3")
        count = len(positions)
        if not count:
            raise ValueError("there are no sources: positions is empty")
        object.__setattr__(self, "positions", positions)
        if self.normals is not None:
            normals = real("normals", self.normals, "source 3")
            lengths = np.linalg.norm(normals, axis=1)
            if len(normals) == count and not np.allclose(lengths, 1, atol=1e-3):
                worst = int(np.argmax(np.abs(lengths - 1)))
                raise ValueError(f"normals must have length 1, but source {worst} has {lengths[worst]:.3g}")
            object.__setattr__(self, "normals", normals)
        for name in ("normals", "areas", "vertices", "hemispheres"):
            value = getattr(self, name)
            if value is not None and len(value) != count:
                raise ValueError(f"{name} has source = {len(value)}, but positions has source = {count}")
        if self.areas is not None:
            object.__setattr__(self, "areas", real("areas", self.areas, "source"))
        if self.triangles is not None:
            triangles = np.asarray(self.triangles, dtype=np.int64)
            if triangles.ndim != 2 or triangles.shape[1] != 3:
                raise ValueError(f"triangles has shape {triangles.shape}, but its axes are (triangle, 3)")
            if triangles.size and (triangles.min() < 0 or triangles.max() >= count):
                raise ValueError(f"triangles name source {triangles.max()}, but there are {count} sources")
            object.__setattr__(self, "triangles", triangles)
        for name in ("vertices", "hemispheres"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.int64))
        if self.to_mri is not None:
            object.__setattr__(self, "to_mri", real("to_mri", self.to_mri, "4 4"))
        freeze(self.positions, self.normals, self.triangles, self.areas, self.vertices, self.hemispheres)

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def mri_positions(self) -> Array | None:
        """Positions (source, 3) in m, MRI (surface RAS) coordinates, where the transform is known."""
        return self.in_mri(self.positions)

    def in_mri(self, positions: Array) -> Array | None:
        """Return positions (..., 3) in m, head coordinates, in those of the MRI, where the transform is known."""
        if self.to_mri is None:
            return None
        return np.asarray(positions @ self.to_mri[:3, :3].T + self.to_mri[:3, 3])

    def pairs_within(self, radius: float) -> tuple[Index, Index]:
        """Return pairs of sources of one hemisphere up to a radius in m apart: both ways, and each with itself."""
        pairs = cKDTree(self.positions).query_pairs(radius, output_type="ndarray")
        own = np.repeat(np.arange(len(self))[:, None], 2, axis=1)
        row, column = np.concatenate([pairs, pairs[:, ::-1], own]).T
        if self.hemispheres is None:
            return row, column
        same = self.hemispheres[row] == self.hemispheres[column]
        return row[same], column[same]

    def pick(self, index: Index) -> Sources:
        """Return the sources `index`, with the triangles between them."""
        index = np.asarray(index, dtype=np.int64)
        triangles = None
        if self.triangles is not None:
            new_index = np.full(len(self), -1)
            new_index[index] = np.arange(len(index))
            triangles = new_index[self.triangles]
            triangles = triangles[(triangles >= 0).all(axis=1)]

        def at(array: Array | Index | None) -> Array | Index | None:
            return None if array is None else array[index]

        return Sources(
            self.positions[index],
            at(self.normals),  # type: ignore[arg-type]
            triangles,
            at(self.areas),  # type: ignore[arg-type]
            at(self.vertices),  # type: ignore[arg-type]
            at(self.hemispheres),  # type: ignore[arg-type]
            self.to_mri,
            self.subject,
        )
