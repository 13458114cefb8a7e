"""Sources and electrodes of the template head: the white surface of fsaverage5 and the extended 10-20 system."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from bayesinv.axes import Array, Index, one_of
from bayesinv.geometry.icosphere import geodesic_sphere
from bayesinv.geometry.surfaces import Surface, vertex_areas, vertex_normals
from bayesinv.head.sensors import Sensors, sensors_from_montage
from bayesinv.head.sources import Sources
from bayesinv.head.template import TEMPLATE_MEMORY, surfaces, to_head, transformed

SUBJECT = "fsaverage5"
LAYOUTS = {
    32: "Fp1 Fp2 AF3 AF4 F7 F3 Fz F4 F8 FC5 FC1 FC2 FC6 T7 C3 Cz C4 T8 CP5 CP1 CP2 CP6 P7 P3 Pz P4 P8 PO3 PO4 O1 Oz O2",
    64: "Fp1 Fpz Fp2 AF7 AF3 AFz AF4 AF8 F7 F5 F3 F1 Fz F2 F4 F6 F8 FT7 FC5 FC3 FC1 FCz FC2 FC4 FC6 FT8 "
    "T7 C5 C3 C1 Cz C2 C4 C6 T8 TP7 CP5 CP3 CP1 CPz CP2 CP4 CP6 TP8 P9 P7 P5 P3 P1 Pz P2 P4 P6 P8 P10 "
    "PO7 PO3 POz PO4 PO8 O1 Oz O2 Iz",
}


def cortex() -> Sources:
    """Return every vertex of the white surface of fsaverage5, with normals, areas and triangles.

    All lie more than 2.5 mm below the inner skull; those of the pial surface would not.
    """
    return _cortex()


@TEMPLATE_MEMORY.keep
def _cortex() -> Sources:
    mri_to_head = to_head()
    parts = []
    for name in ("left", "right"):
        vertices, triangles = _gifti(f"white_{name}")
        parts.append(Surface(transformed(mri_to_head, 1e-3 * vertices), triangles))
    first = len(parts[0].vertices)
    return Sources(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([vertex_normals(part) for part in parts]),
        np.concatenate([parts[0].triangles, parts[1].triangles + first]),
        np.concatenate([vertex_areas(part) for part in parts]),
        np.concatenate([np.arange(len(part.vertices)) for part in parts]),
        np.repeat([0, 1], [first, len(parts[1].vertices)]),
        np.asarray(np.linalg.inv(mri_to_head), dtype=np.float64),
        SUBJECT,
    )


def sources(spacing: str = "oct5", *, seed: int | None = None, avoid: Sources | None = None) -> Sources:
    """Return source locations on the white surface of both hemispheres, in m, head coordinates.

    Sources are the vertices of the spherical cortex nearest to the corners of a subdivided polyhedron. A source
    represents the patch of vertices nearest to it: it has their area and their mean normal.

    spacing : "oct4" (516 sources), "oct5" (2,052), "oct6" (8,196), "ico3" (1,284), "ico4" (5,124) or "all" (20,484)
    seed : of a random rotation of the polyhedron, for another choice of vertices
    avoid : sources whose vertices are excluded, for a true source off the inversion's grid

    Raises
    ------
    ValueError
        If the spacing is unknown, or `avoid` leaves too few vertices.
    """
    one_of("spacing", spacing, ("all", "ico3", "ico4", "oct4", "oct5", "oct6"))
    full = _cortex()
    allowed = np.ones(len(full), dtype=bool)
    if avoid is not None:
        if avoid.vertices is None or avoid.hemispheres is None:
            raise ValueError("avoid wants sources that know their vertices and hemispheres")
        allowed[avoid.vertices + avoid.hemispheres * _hemisphere_size()] = False
    if spacing == "all":
        return full.pick(np.flatnonzero(allowed))
    grid = _grid(spacing)
    directions = grid.vertices if seed is None else grid.vertices @ _rotation(seed).T
    picked, patches, triangles = [], [], []
    for hemisphere, name in enumerate(("left", "right")):
        start = hemisphere * _hemisphere_size()
        sphere, _ = _gifti(f"sphere_{name}")
        sphere = sphere / np.linalg.norm(sphere, axis=1, keepdims=True)
        available = np.flatnonzero(allowed[start : start + _hemisphere_size()])
        if len(available) < len(directions):
            raise ValueError(f"{len(available)} vertices are left for {len(directions)} sources of a hemisphere")
        nearest_vertices = available[_assign(sphere[available], directions)]
        picked.append(start + nearest_vertices)
        patches.append(cKDTree(sphere[nearest_vertices]).query(sphere)[1])
        triangles.append(grid.triangles + hemisphere * len(directions))
    index = np.concatenate(picked)
    owner = np.concatenate([patches[0], patches[1] + len(directions)])
    assert full.areas is not None
    assert full.normals is not None
    areas = np.bincount(owner, full.areas, len(index)).astype(np.float64)
    normals = np.stack([np.bincount(owner, full.areas * full.normals[:, c], len(index)) for c in range(3)], axis=1)
    chosen = replace(
        full.pick(index),
        normals=normals / np.linalg.norm(normals, axis=1, keepdims=True),
        areas=areas,
        triangles=np.concatenate(triangles),
    )
    # MNE-Python wants the vertices of a hemisphere to ascend.
    order = np.lexsort((chosen.vertices, chosen.hemispheres))  # type: ignore[arg-type]
    return chosen.pick(order)


def electrodes(layout: int | Sequence[str] = 64, *, subdivisions: int = 3) -> Sensors:
    """Return electrodes of the extended 10-20 system on the template's scalp, in head coordinates.

    layout : 32 or 64, or names of the 10-05 system such as ("Cz", "Pz")
    subdivisions : of the scalp, see `surfaces`

    Raises
    ------
    ValueError
        If the layout is unknown or a name is not of the 10-05 system.
    """
    montage = _montage()
    if isinstance(layout, int):
        if layout not in LAYOUTS:
            raise ValueError(
                f"there is no layout of {layout} electrodes; give {' or '.join(map(str, LAYOUTS))}, or names"
            )
        names = LAYOUTS[layout].split()
    else:
        names = [one_of("electrode", name, montage.names) for name in layout]
    index = np.array([montage.names.index(name) for name in names])
    return montage.pick(index).on(surfaces(subdivisions)[-1])


@TEMPLATE_MEMORY.keep
def _gifti(name: str) -> tuple[Array, Index]:
    """Return vertices and triangles of a surface of fsaverage5, in the unit of the file."""
    from importlib.util import find_spec

    import nibabel

    # The package is located but not imported, which would take seconds.
    spec = find_spec("nilearn")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "datasets" / "data" / "fsaverage5"
    image: Any = nibabel.load(folder / f"{name}.gii.gz")
    vertices, triangles = (np.asarray(part.data) for part in image.darrays[:2])
    return vertices.astype(np.float64), triangles.astype(np.int64)


def _hemisphere_size() -> int:
    """Return the number of vertices of a hemisphere."""
    return len(_gifti("white_left")[0])


@TEMPLATE_MEMORY.keep
def _montage() -> Sensors:
    """Return all positions of the 10-05 system in head coordinates."""
    import mne

    try:
        montage = mne.channels.make_standard_montage("colin27_1005")
    except ValueError:
        # The name of older releases of MNE-Python.
        montage = mne.channels.make_standard_montage("standard_1005")
    return sensors_from_montage(montage)


def _rotation(seed: int) -> Array:
    """Return a rotation matrix (3, 3), uniformly distributed."""
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.random(random_state=np.random.default_rng(seed)).as_matrix())


def _grid(spacing: str) -> Surface:
    """Return a subdivided octahedron or icosahedron on the unit sphere."""
    level = int(spacing[3:])
    if spacing.startswith("ico"):
        return geodesic_sphere(2**level)
    corners = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0], [0, -1, 0], [0, 0, -1]], dtype=np.float64)
    faces = [(0, 1, 2), (1, 3, 2), (3, 4, 2), (4, 0, 2), (1, 0, 5), (3, 1, 5), (4, 3, 5), (0, 4, 5)]
    vertices, triangles = corners, np.array(faces)
    # Edges are halved `level` times: oct5 has 4^5 + 2 = 1026 vertices.
    for _ in range(level - 1):
        edges = np.sort(triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
        unique, edge_of = np.unique(edges, axis=0, return_inverse=True)
        middle = vertices[unique].sum(axis=1)
        edge_of = edge_of.reshape(-1, 3) + len(vertices)
        vertices = np.concatenate([vertices, middle / np.linalg.norm(middle, axis=1, keepdims=True)])
        (a, b, c), (ab, bc, ca) = triangles.T, edge_of.T
        triangles = np.concatenate(
            [np.stack(part, axis=1) for part in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))]
        )
    return Surface(vertices, triangles)


def _assign(points: Array, directions: Array) -> Index:
    """Return the point of each direction: (direction,), no point twice; closer pairs are assigned first.

    points : (point, 3), unit vectors
    directions : (direction, 3), unit vectors
    """
    tree = cKDTree(points)
    assigned = np.full(len(directions), -1)
    taken = np.zeros(len(points), dtype=bool)
    count = 8
    while (assigned < 0).any():
        unassigned = np.flatnonzero(assigned < 0)
        distance, neighbours = tree.query(directions[unassigned], k=min(count, len(points)))
        for flat in np.argsort(distance, axis=None, kind="stable"):
            row, column = np.unravel_index(flat, neighbours.shape)
            direction, point = unassigned[row], neighbours[row, column]
            if assigned[direction] < 0 and not taken[point]:
                assigned[direction], taken[point] = point, True
        count *= 4
    return assigned
