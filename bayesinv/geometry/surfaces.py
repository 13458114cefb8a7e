"""Triangle surfaces: volume, normals, areas, points inside, nearest points, crossings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayesinv.axes import Array, Index, freeze, read_only, real

MAX_EXTENT = 1.0  # m; a head wider than this is in another unit
MIN_EXTENT = 0.02  # m


@dataclass(frozen=True, eq=False)
class Surface:
    """A triangulated surface.

    vertices : (vertex, 3), m
    triangles : (triangle, 3), indices of vertices, counter-clockwise seen from outside
    """

    vertices: Array
    triangles: Index

    def __post_init__(self) -> None:
        object.__setattr__(self, "vertices", real("vertices", self.vertices, "vertex 3"))
        object.__setattr__(self, "triangles", checked_corners("triangles", self.triangles, 3, len(self.vertices)))
        freeze(self.vertices, self.triangles)


def checked_corners(name: str, value: Index, corners: int, nodes: int) -> Index:
    """Return element corners as integers, checked against the number of nodes."""
    array = np.asarray(value, dtype=np.int64)
    if array.ndim != 2 or array.shape[1] != corners:
        raise ValueError(f"{name} has shape {array.shape}, but wants (element, {corners})")
    if array.size and (array.min() < 0 or array.max() >= nodes):
        raise ValueError(f"{name} name node {array.max()}, but there are {nodes}")
    return array


def enclosed_volume(surface: Surface) -> float:
    """Return the volume in m³ that a closed surface encloses, negative if its triangles face inwards."""
    return float(np.linalg.det(surface.vertices[surface.triangles]).sum() / 6)


def vertex_normals(surface: Surface) -> Array:
    """Return the outward unit normal (vertex, 3) at each vertex: the area-weighted mean over its triangles."""
    a, b, c = (surface.vertices[surface.triangles[:, i]] for i in range(3))
    area = np.cross(b - a, c - a)
    total = np.zeros_like(surface.vertices)
    for i in range(3):
        np.add.at(total, surface.triangles[:, i], area)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return total / np.where(length > 0, length, 1)


def triangle_areas(surface: Surface) -> Array:
    """Return the area (triangle,) of each triangle in m²."""
    a, b, c = (surface.vertices[surface.triangles[:, i]] for i in range(3))
    return np.asarray(np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2)


def vertex_areas(surface: Surface) -> Array:
    """Return a third of the area of the triangles around each vertex: (vertex,), m²."""
    shares = np.repeat(triangle_areas(surface) / 3, 3)
    return np.bincount(surface.triangles.ravel(), shares, len(surface.vertices)).astype(np.float64)


def check_size(extent: float, name: str) -> None:
    """Check that an `extent` in m can be the width of a head: between 2 cm and 1 m.

    Raises
    ------
    ValueError
        If it cannot, which mostly means that the unit is not the metre.
    """
    if extent > MAX_EXTENT:
        raise ValueError(f"{name} is {extent:.4g} m wide: it looks like mm; divide all positions by 1000")
    if extent < MIN_EXTENT:
        raise ValueError(
            f"{name} is {extent:.4g} m wide, less than {MIN_EXTENT} m: its unit is not the metre; "
            "positions must be in metres"
        )


def inside(surface: Surface, points: Array) -> NDArray[np.bool_]:
    """Return which points (point, 3) lie inside a closed surface: (point,), by its solid angle (4π inside, 0 outside).

    Reference: van Oosterom & Strackee (1983), IEEE Trans. Biomed. Eng. 30, 125-126.
    """
    from bayesinv.geometry.triangles import solid_angles

    points = read_only(real("points", points, "point 3"))
    return np.abs(solid_angles(points, surface.vertices, surface.triangles)) > 2 * np.pi


def nearest(surface: Surface, points: Array) -> tuple[Index, Array, Array]:
    """Return the closest point of a surface to each of the points (point, 3).

    Returns
    -------
    triangle : (point,), the closest triangle
    weights : (point, 3), barycentric coordinates of the closest point in it
    distance : (point,), m

    Reference: Ericson (2005), Real-Time Collision Detection, section 5.1.5.
    """
    from bayesinv.geometry.triangles import nearest as closest

    return closest(read_only(points), surface.vertices, surface.triangles)


def crossings(edges_of: Surface, triangles_of: Surface) -> int:
    """Return how many edges of one surface pierce a triangle of the other (or of itself, without its own)."""
    from bayesinv.geometry.triangles import pierces

    triangles = edges_of.triangles
    edges = np.unique(np.sort(triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0)
    same = edges_of is triangles_of
    found = pierces(edges_of.vertices, edges, triangles_of.vertices, triangles_of.triangles, same)
    return int(np.count_nonzero(found))
