"""Head: compartments and their conductivities, and the surfaces that bound them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components

from bayesinv.axes import Array, Index, freeze, real
from bayesinv.mesh import Surface, Tetrahedra, geodesic_sphere

Conductivity = float | tuple[float, float]

LARGEST = 1.0  # m; a head wider than this is in another unit
SMALLEST = 0.02  # m


@dataclass(frozen=True, eq=False)
class Head:
    """Nested compartments, innermost first, each with a conductivity in S/m.

    names : of the compartments, innermost first, such as ("brain", "skull", "scalp")
    conductivities : one per compartment: a number, or (radial, tangential)
    surfaces : outer boundary of each compartment (boundary element methods), or ()
    radii : outer radius of each compartment in m about `centre` (analytic spheres), or ()
    centre : (3,), m, of the spheres
    mesh : labelled tetrahedra (finite elements), or None
    tensors : (element, 3, 3), S/m, conductivity per element where it is not the compartment's, or None
    """

    names: tuple[str, ...]
    conductivities: tuple[Conductivity, ...]
    surfaces: tuple[Surface, ...] = ()
    radii: tuple[float, ...] = ()
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)
    mesh: Tetrahedra | None = None
    tensors: Array | None = None

    def __post_init__(self) -> None:
        if not self.names or len(self.conductivities) != len(self.names):
            raise ValueError(
                f"there are {len(self.conductivities)} conductivities for {len(self.names)} compartments; "
                "every compartment wants one"
            )
        for name, value in zip(self.names, self.conductivities, strict=True):
            if np.shape(value) not in ((), (2,)):
                raise ValueError(f"conductivity of {name} is {value}, but must be one number or (radial, tangential)")
            if not (np.isfinite(value).all() and np.all(np.asarray(value) > 0)):
                raise ValueError(f"conductivity of {name} is {value}, but must be positive, in S/m")
        for what, values in (("surfaces", self.surfaces), ("radii", self.radii)):
            if values and len(values) != len(self.names):
                raise ValueError(f"there are {len(values)} {what} for {len(self.names)} compartments")
        if self.radii and (min(self.radii) <= 0 or any(np.diff(self.radii) <= 0)):
            raise ValueError(f"radii are {self.radii}, but must grow from the innermost compartment outwards")
        if self.tensors is not None:
            object.__setattr__(self, "tensors", real("tensors", self.tensors, "element 3 3"))
            freeze(self.tensors)

    @classmethod
    def spheres(
        cls,
        radii: Sequence[float],
        conductivities: Sequence[Conductivity],
        names: Sequence[str] | None = None,
        subdivisions: int = 3,
        centre: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> Head:
        """Return concentric spheres, exact (radii) and triangulated (surfaces of the same volumes).

        radii : of the compartments in m, innermost first
        conductivities : S/m, one number or (radial, tangential) per compartment
        names : of the compartments; by default those of a head with that many layers
        subdivisions : how often the triangles of the icosahedron are cut in four; 3 gives 642 vertices per surface,
            4 gives 2562

        Raises
        ------
        ValueError
            If there are not as many conductivities as radii, or the radii do not grow.
        """
        usual = {
            1: ("head",),
            2: ("skull and brain", "scalp"),
            3: ("brain", "skull", "scalp"),
            4: ("brain", "CSF", "skull", "scalp"),
        }
        if names is None:
            names = usual.get(len(radii), tuple(f"shell {i}" for i in range(len(radii))))
        unit = geodesic_sphere(2**subdivisions)
        # A polyhedron with its corners on the sphere is smaller and reads as a smaller head; of equal volume, the
        # two differ by half as much.
        volume = np.linalg.det(unit.vertices[unit.triangles]).sum() / 6
        corners = unit.vertices * (4 / 3 * np.pi / volume) ** (1 / 3)
        surfaces = tuple(Surface(radius * corners + np.asarray(centre), unit.triangles) for radius in radii)
        return cls(tuple(names), tuple(conductivities), surfaces, tuple(float(r) for r in radii), centre)


def check_size(size: float) -> None:
    """Check that a head `size` metres wide can be one.

    Raises
    ------
    ValueError
        If the head is wider than a metre or narrower than two centimetres.
    """
    if size > LARGEST:
        raise ValueError(f"the head is {size:.4g} m wide: it looks like mm; divide all positions by 1000")
    if size < SMALLEST:
        raise ValueError(
            f"the head is {size:.4g} m wide, less than {SMALLEST} m: its unit is not the metre; "
            "positions must be in metres"
        )


def check_surfaces(head: Head) -> Head:
    """Return `head` with surfaces that are closed, turned outwards, nested and apart from each other.

    A surface whose triangles are turned inwards or not all alike is turned, with a warning.

    Raises
    ------
    ValueError
        If there are no surfaces; if one is not in metres, has a hole, several pieces, a handle, a vertex that is
        in no triangle, flat triangles, or touches or crosses itself; if two cross or are not nested.
    """
    if not head.surfaces:
        raise ValueError("the head has no surfaces, but this solver wants the outer boundary of each compartment")
    outermost = head.surfaces[-1].vertices
    check_size(float(np.ptp(outermost, axis=0).max()))
    surfaces = tuple(_sound(name, s) for name, s in zip(head.names, head.surfaces, strict=True))
    for i in range(len(surfaces) - 1):
        inner, outer, pair = surfaces[i], surfaces[i + 1], f"{head.names[i]} and {head.names[i + 1]}"
        astray = int(np.count_nonzero(~inside(outer, inner.vertices)))
        if astray == len(inner.vertices):
            raise ValueError(
                f"surface of {head.names[i]} is not inside that of {head.names[i + 1]}; "
                "surfaces must be nested, innermost first"
            )
        crossing = max(_crossings(inner, outer), _crossings(outer, inner))
        if astray or crossing:
            raise ValueError(
                f"surfaces of {pair} cross: {astray} vertices of {head.names[i]} lie outside {head.names[i + 1]} "
                f"and {crossing} edges pierce the other surface; smooth or push them apart"
            )
    return replace(head, surfaces=surfaces)


def check_sources(head: Head, positions: Array, minimum_distance: float) -> None:
    """Check that positions (source, 3) lie inside the innermost surface, at least `minimum_distance` m from it.

    Raises
    ------
    ValueError
        If some do not: which, and how far.
    """
    surface = head.surfaces[0]
    _, _, distance = nearest(surface, positions)
    outside = ~inside(surface, positions)
    _complain(head.names[0], outside, distance, minimum_distance)


def check_radial(head: Head, positions: Array) -> None:
    """Check that positions (source, 3) lie inside the innermost sphere of `head`.

    Raises
    ------
    ValueError
        If some do not: which, and how far.
    """
    depth = head.radii[0] - np.linalg.norm(positions - np.asarray(head.centre), axis=1)
    _complain(head.names[0], depth <= 0, np.abs(depth), 0.0)


def _complain(name: str, outside: NDArray[np.bool_], distance: Array, minimum: float) -> None:
    """Raise if some sources are outside, or nearer to the boundary than allowed."""
    if outside.any():
        which = np.flatnonzero(outside)
        raise ValueError(
            f"{len(which)} sources lie outside {name}: {_listed(which)}, "
            f"by up to {1e3 * distance[which].max():.3g} mm; "
            "drop them (Sources.pick) or check that head and sources share one coordinate frame"
        )
    close = distance < minimum
    if close.any():
        which = np.flatnonzero(close)
        raise ValueError(
            f"{len(which)} sources are closer than {1e3 * minimum:.3g} mm to the surface of {name}: {_listed(which)}, "
            f"the closest {1e3 * distance[which].min():.3g} mm; drop them (Sources.pick), or lower minimum_distance"
        )


def _listed(which: Index) -> str:
    """Return the first few numbers, for a message."""
    return ", ".join(str(i) for i in which[:5]) + (", ..." if len(which) > 5 else "")


def _sound(name: str, surface: Surface) -> Surface:
    """Return the surface turned outwards, or raise for what makes it no closed surface."""
    vertices, triangles = surface.vertices, surface.triangles
    unused = len(vertices) - len(np.unique(triangles))
    if unused:
        raise ValueError(f"surface of {name} has {unused} vertices that are in no triangle; drop them")
    size = float(np.ptp(vertices, axis=0).max())
    twice = len(vertices) - len(np.unique(np.round(vertices / (1e-9 * size)), axis=0))
    if twice:
        raise ValueError(
            f"surface of {name} has {twice} vertices at the place of another: it touches itself or is not "
            "sewn together; merge them"
        )
    sides = np.cross(
        vertices[triangles[:, 1]] - vertices[triangles[:, 0]],
        vertices[triangles[:, 2]] - vertices[triangles[:, 0]],
    )
    longest = max(
        float(np.linalg.norm(vertices[triangles[:, i]] - vertices[triangles[:, i - 1]], axis=1).max()) for i in range(3)
    )
    flat = int(np.count_nonzero(np.linalg.norm(sides, axis=1) < 1e-9 * longest**2))
    if flat:
        raise ValueError(f"surface of {name} has {flat} triangles without area; collapse or mesh anew")
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    unique, place, count = np.unique(np.sort(edges, axis=1), axis=0, return_inverse=True, return_counts=True)
    if (count < 2).any():
        raise ValueError(f"surface of {name} is open: {int((count < 2).sum())} edges belong to one triangle only")
    if (count > 2).any():
        raise ValueError(
            f"surface of {name} touches itself: {int((count > 2).sum())} edges belong to more than two triangles"
        )
    # Each edge joins two triangles; walking over them turns every triangle like its neighbour.
    order = np.argsort(place.ravel(), kind="stable").reshape(-1, 2)
    owner = np.tile(np.arange(len(triangles)), 3)
    one, two = owner[order[:, 0]], owner[order[:, 1]]
    alike = edges[order[:, 0], 0] != edges[order[:, 1], 0]
    links = csr_matrix((np.ones(len(one)), (one, two)), shape=(len(triangles),) * 2)
    pieces, _ = connected_components(links, directed=False)
    if pieces > 1:
        raise ValueError(f"surface of {name} has {pieces} separate pieces; keep one")
    if len(vertices) - len(unique) + len(triangles) != 2:
        raise ValueError(
            f"surface of {name} has a handle or touches itself in a vertex "
            f"(vertices - edges + triangles = {len(vertices) - len(unique) + len(triangles)}, a sphere has 2)"
        )
    flip = np.zeros(len(triangles), dtype=bool)
    if not alike.all():
        turned = csr_matrix((np.where(alike, 1.0, 2.0), (one, two)), shape=links.shape)
        turned = (turned + turned.T).tocsr()
        walk, parent = breadth_first_order(turned, 0, directed=False)
        for triangle in walk[1:]:
            flip[triangle] = flip[parent[triangle]] ^ (turned[triangle, parent[triangle]] == 2.0)
    corners = vertices[np.where(flip[:, None], triangles[:, ::-1], triangles)]
    if np.einsum("ti,ti->", np.cross(corners[:, 0], corners[:, 1]), corners[:, 2]) < 0:
        flip = ~flip
    if flip.any():
        warnings.warn(
            f"surface of {name}: {int(flip.sum())} of {len(triangles)} triangles were turned inwards; "
            "they are now counter-clockwise seen from outside",
            stacklevel=4,
        )
        surface = Surface(vertices, np.where(flip[:, None], triangles[:, ::-1], triangles))
    itself = _crossings(surface, surface)
    if itself:
        raise ValueError(f"surface of {name} crosses itself: {itself} edges pierce a triangle; smooth or mesh anew")
    return surface


def inside(surface: Surface, points: Array) -> NDArray[np.bool_]:
    """Return which points (point, 3) lie inside a closed surface: those that see it under 4 pi.

    Reference: Van Oosterom & Strackee (1983), IEEE Trans. Biomed. Eng. 30, 125-126.
    """
    return np.abs(_solid_angles(np.ascontiguousarray(points), surface.vertices, surface.triangles)) > 2 * np.pi


def nearest(surface: Surface, points: Array) -> tuple[Index, Array, Array]:
    """Return where on a surface it is closest to each of the points (point, 3).

    Returns
    -------
    triangle : (point,), the closest triangle
    weights : (point, 3), barycentric weights of its corners at the closest place
    distance : (point,), m

    Reference: Ericson (2005), Real-Time Collision Detection, section 5.1.5.
    """
    return _nearest(np.ascontiguousarray(points), surface.vertices, surface.triangles)


def _crossings(edges_of: Surface, triangles_of: Surface) -> int:
    """Return how many edges of one surface pierce a triangle of the other (or of itself, without its own)."""
    triangles = edges_of.triangles
    edges = np.unique(np.sort(triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0)
    same = edges_of is triangles_of
    pierced = _pierced(edges_of.vertices, edges, triangles_of.vertices, triangles_of.triangles, same)
    return int(np.count_nonzero(pierced))


@njit(parallel=True, cache=True)  # type: ignore[untyped-decorator]
def _solid_angles(points: Array, vertices: Array, triangles: Index) -> Array:
    """Solid angle (point,) of a whole surface."""
    angles = np.zeros(len(points))
    for i in prange(len(points)):
        total = 0.0
        for t in range(len(triangles)):
            a = vertices[triangles[t, 0]]
            b = vertices[triangles[t, 1]]
            c = vertices[triangles[t, 2]]
            ax, ay, az = a[0] - points[i, 0], a[1] - points[i, 1], a[2] - points[i, 2]
            bx, by, bz = b[0] - points[i, 0], b[1] - points[i, 1], b[2] - points[i, 2]
            cx, cy, cz = c[0] - points[i, 0], c[1] - points[i, 1], c[2] - points[i, 2]
            la = np.sqrt(ax * ax + ay * ay + az * az)
            lb = np.sqrt(bx * bx + by * by + bz * bz)
            lc = np.sqrt(cx * cx + cy * cy + cz * cz)
            volume = ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx)
            below = (
                la * lb * lc
                + (ax * bx + ay * by + az * bz) * lc
                + (ax * cx + ay * cy + az * cz) * lb
                + (bx * cx + by * cy + bz * cz) * la
            )
            total += 2 * np.arctan2(volume, below)
        angles[i] = total
    return angles


@njit(cache=True)  # type: ignore[untyped-decorator]
def _closest(p: Array, a: Array, b: Array, c: Array) -> tuple[float, float]:
    """Barycentric weights of b and c at the place of a triangle that is closest to p."""
    abx, aby, abz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
    acx, acy, acz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
    apx, apy, apz = p[0] - a[0], p[1] - a[1], p[2] - a[2]
    d1 = abx * apx + aby * apy + abz * apz
    d2 = acx * apx + acy * apy + acz * apz
    if d1 <= 0 and d2 <= 0:
        return 0.0, 0.0
    bb = abx * abx + aby * aby + abz * abz
    bc = abx * acx + aby * acy + abz * acz
    cc = acx * acx + acy * acy + acz * acz
    d3, d4 = d1 - bb, d2 - bc
    if d3 >= 0 and d4 <= d3:
        return 1.0, 0.0
    vc = d1 * d4 - d3 * d2
    if vc <= 0 and d1 >= 0 and d3 <= 0:
        return d1 / (d1 - d3), 0.0
    d5, d6 = d1 - bc, d2 - cc
    if d6 >= 0 and d5 <= d6:
        return 0.0, 1.0
    vb = d5 * d2 - d1 * d6
    if vb <= 0 and d2 >= 0 and d6 <= 0:
        return 0.0, d2 / (d2 - d6)
    va = d3 * d6 - d5 * d4
    if va <= 0 and d4 - d3 >= 0 and d5 - d6 >= 0:
        along = (d4 - d3) / ((d4 - d3) + (d5 - d6))
        return 1 - along, along
    whole = va + vb + vc
    return vb / whole, vc / whole


@njit(parallel=True, cache=True)  # type: ignore[untyped-decorator]
def _nearest(points: Array, vertices: Array, triangles: Index) -> tuple[Index, Array, Array]:
    """Closest triangle, weights and distance of each point."""
    which = np.zeros(len(points), dtype=np.int64)
    weights = np.zeros((len(points), 3))
    distance = np.zeros(len(points))
    for i in prange(len(points)):
        best = np.inf
        for t in range(len(triangles)):
            a = vertices[triangles[t, 0]]
            b = vertices[triangles[t, 1]]
            c = vertices[triangles[t, 2]]
            v, w = _closest(points[i], a, b, c)
            square = 0.0
            for k in range(3):
                square += (a[k] + v * (b[k] - a[k]) + w * (c[k] - a[k]) - points[i, k]) ** 2
            if square < best:
                best = square
                which[i] = t
                weights[i, 0], weights[i, 1], weights[i, 2] = max(1 - v - w, 0.0), v, w
        distance[i] = np.sqrt(best)
    return which, weights, distance


@njit(parallel=True, cache=True)  # type: ignore[untyped-decorator]
def _pierced(places: Array, edges: Index, vertices: Array, triangles: Index, same: bool) -> NDArray[np.bool_]:
    """Which edges (edge, 2) pierce a triangle that they share no corner with (Moeller & Trumbore 1997)."""
    pierced = np.zeros(len(edges), dtype=np.bool_)
    for e in prange(len(edges)):
        p = places[edges[e, 0]]
        dx, dy, dz = (
            places[edges[e, 1]][0] - p[0],
            places[edges[e, 1]][1] - p[1],
            places[edges[e, 1]][2] - p[2],
        )
        reach = np.sqrt(dx * dx + dy * dy + dz * dz)
        for t in range(len(triangles)):
            i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            a = vertices[i]
            ax, ay, az = p[0] - a[0], p[1] - a[1], p[2] - a[2]
            b, c = vertices[j], vertices[k]
            ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
            vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
            far = reach + np.sqrt(max(ux * ux + uy * uy + uz * uz, vx * vx + vy * vy + vz * vz))
            if ax * ax + ay * ay + az * az > far * far:
                continue
            if same and (
                edges[e, 0] == i
                or edges[e, 0] == j
                or edges[e, 0] == k
                or edges[e, 1] == i
                or edges[e, 1] == j
                or edges[e, 1] == k
            ):
                continue
            hx, hy, hz = dy * vz - dz * vy, dz * vx - dx * vz, dx * vy - dy * vx
            det = ux * hx + uy * hy + uz * hz
            if det == 0:
                continue
            one = (ax * hx + ay * hy + az * hz) / det
            qx, qy, qz = ay * uz - az * uy, az * ux - ax * uz, ax * uy - ay * ux
            two = (dx * qx + dy * qy + dz * qz) / det
            along = (vx * qx + vy * qy + vz * qz) / det
            if one >= 0 and two >= 0 and one + two <= 1 and 0 <= along <= 1:
                pierced[e] = True
                break
    return pierced
