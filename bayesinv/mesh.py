"""Surfaces and tetrahedra: the geometry a head is made of, and how it is made."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_matrix, csr_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components
from scipy.spatial import Delaunay, cKDTree

from bayesinv.axes import Array, Index, freeze, one_of, real

# Corners of the facet opposite to each corner, counter-clockwise seen from outside a positive element.
FACETS = np.array([[1, 2, 3], [0, 3, 2], [0, 1, 3], [0, 2, 1]])
EDGES = np.array([[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]])
METRES = {"m": 1.0, "cm": 1e-2, "mm": 1e-3}
FLAT = 1e-5  # quality of an element
LARGEST = 1.0  # m; a head wider than this is in another unit
SMALLEST = 0.02  # m


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
        object.__setattr__(self, "triangles", _corners("triangles", self.triangles, 3, len(self.vertices)))
        freeze(self.vertices, self.triangles)


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
        object.__setattr__(self, "elements", _corners("elements", self.elements, 4, len(self.nodes)))
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


def _corners(name: str, value: Index, corners: int, nodes: int) -> Index:
    """Return element corners as integers, checked against the number of nodes."""
    array = np.asarray(value, dtype=np.int64)
    if array.ndim != 2 or array.shape[1] != corners:
        raise ValueError(f"{name} has shape {array.shape}, but wants (element, {corners})")
    if array.size and (array.min() < 0 or array.max() >= nodes):
        raise ValueError(f"{name} name node {array.max()}, but there are {nodes}")
    return array


# --- surfaces ---------------------------------------------------------------------------------------------


def geodesic_sphere(frequency: int) -> Surface:
    """Return the icosahedral geodesic sphere of radius 1 m about the origin.

    Every edge of the icosahedron is cut into `frequency` pieces: 10 frequency² + 2 vertices and
    20 frequency² triangles, counter-clockwise seen from outside. The mean edge is about
    1.107 / frequency. Scale the vertices to what is wanted.

    Raises
    ------
    ValueError
        If `frequency` is less than 1.
    """
    if frequency < 1:
        raise ValueError(f"frequency is {frequency}, but must be 1 or more")
    golden = (1 + 5**0.5) / 2
    pairs = [(a, golden * b) for a in (-1.0, 1.0) for b in (-1.0, 1.0)]
    corners = np.array([np.roll((0.0, a, b), turn) for turn in range(3) for a, b in pairs])
    apart = np.linalg.norm(corners[:, None] - corners[None], axis=2)
    near = apart < 2.1
    faces = np.array(
        [(i, j, k) for i in range(12) for j in range(i) for k in range(j) if near[i, j] and near[j, k] and near[i, k]]
    )
    inward = np.linalg.det(corners[faces]) < 0
    faces[inward] = faces[inward][:, [0, 2, 1]]
    step = np.array([(i, j) for i in range(frequency + 1) for j in range(frequency + 1 - i)])
    place = np.full((frequency + 2, frequency + 2), -1)
    place[step[:, 0], step[:, 1]] = np.arange(len(step))
    i, j = step[step.sum(axis=1) < frequency].T
    up = np.stack([place[i, j], place[i + 1, j], place[i, j + 1]], axis=1)
    i, j = step[step.sum(axis=1) < frequency - 1].T
    down = np.stack([place[i + 1, j], place[i + 1, j + 1], place[i, j + 1]], axis=1)
    weights = np.column_stack([frequency - step.sum(axis=1), step]) / frequency
    points = (weights @ corners[faces]).reshape(-1, 3)
    triangles = np.vstack([up, down])[None] + len(step) * np.arange(20)[:, None, None]
    _, first, same = np.unique(np.round(points * 1e7).astype(np.int64), axis=0, return_index=True, return_inverse=True)
    points = points[first] / np.linalg.norm(points[first], axis=1, keepdims=True)
    return Surface(points, same.ravel()[triangles.reshape(-1, 3)])


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


def closed(surface: Surface, name: str = "surface", *, handles: bool = False) -> Surface:
    """Return a closed surface, of the size of a head, with all its triangles turned outwards.

    Triangles that are turned inwards or not all alike are turned, with a warning. A surface that crosses itself is
    found by `crossings`.

    name : of the surface, for messages
    handles : allow a surface other than a deformed sphere

    Raises
    ------
    ValueError
        If it is not in metres, has a hole, several pieces, a handle, a vertex that is in no triangle or at the place
        of another, or triangles without area.
    """
    vertices, triangles = surface.vertices, surface.triangles
    if not len(triangles):
        raise ValueError(f"{name} has no triangles")
    size = float(np.ptp(vertices, axis=0).max())
    check_size(size, name)
    unused = len(vertices) - len(np.unique(triangles))
    if unused:
        raise ValueError(f"{name} has {unused} vertices that are in no triangle; drop them")
    twice = len(vertices) - len(np.unique(np.round(vertices / (1e-9 * size)), axis=0))
    if twice:
        raise ValueError(
            f"{name} has {twice} vertices at the place of another: it touches itself or is not "
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
        raise ValueError(f"{name} has {flat} triangles without area; collapse or mesh anew")
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    unique, place, count = np.unique(np.sort(edges, axis=1), axis=0, return_inverse=True, return_counts=True)
    if (count < 2).any():
        raise ValueError(f"{name} is open: {int((count < 2).sum())} edges belong to one triangle only")
    if (count > 2).any():
        raise ValueError(f"{name} touches itself: {int((count > 2).sum())} edges belong to more than two triangles")
    # Each edge joins two triangles; walking over them turns every triangle like its neighbour.
    order = np.argsort(place.ravel(), kind="stable").reshape(-1, 2)
    owner = np.tile(np.arange(len(triangles)), 3)
    one, two = owner[order[:, 0]], owner[order[:, 1]]
    alike = edges[order[:, 0], 0] != edges[order[:, 1], 0]
    links = csr_matrix((np.ones(len(one)), (one, two)), shape=(len(triangles),) * 2)
    pieces, _ = connected_components(links, directed=False)
    if pieces > 1:
        raise ValueError(f"{name} has {pieces} separate pieces; keep one")
    if not handles and len(vertices) - len(unique) + len(triangles) != 2:
        raise ValueError(
            f"{name} has a handle or touches itself in a vertex "
            f"(vertices - edges + triangles = {len(vertices) - len(unique) + len(triangles)}, a sphere has 2)"
        )
    flip = np.zeros(len(triangles), dtype=bool)
    if not alike.all():
        turned = csr_matrix((np.where(alike, 1.0, 2.0), (one, two)), shape=links.shape)
        turned = (turned + turned.T).tocsr()
        walk, parent = breadth_first_order(turned, 0, directed=False)
        for triangle in walk[1:]:
            flip[triangle] = flip[parent[triangle]] ^ (turned[triangle, parent[triangle]] == 2.0)
    if enclosed_volume(Surface(vertices, np.where(flip[:, None], triangles[:, ::-1], triangles))) < 0:
        flip = ~flip
    if flip.any():
        warnings.warn(
            f"{name}: {int(flip.sum())} of {len(triangles)} triangles were turned inwards; "
            "they are now counter-clockwise seen from outside",
            stacklevel=3,
        )
        return Surface(vertices, np.where(flip[:, None], triangles[:, ::-1], triangles))
    return surface


def check_size(extent: float, name: str) -> None:
    """Check that something `extent` metres wide can be a head: between 2 cm and 1 m.

    Raises
    ------
    ValueError
        If it cannot, which mostly means that the unit is not the metre.
    """
    if extent > LARGEST:
        raise ValueError(f"{name} is {extent:.4g} m wide: it looks like mm; divide all positions by 1000")
    if extent < SMALLEST:
        raise ValueError(
            f"{name} is {extent:.4g} m wide, less than {SMALLEST} m: its unit is not the metre; "
            "positions must be in metres"
        )


def inside(surface: Surface, points: Array) -> NDArray[np.bool_]:
    """Tell which points (point, 3) lie inside a closed surface: those that see it under the full angle.

    Reference: van Oosterom & Strackee (1983), IEEE Trans. Biomed. Eng. 30, 125-126.
    """
    from bayesinv.kernels import solid_angles

    points = np.ascontiguousarray(real("points", points, "point 3"))
    return np.abs(solid_angles(points, surface.vertices, surface.triangles)) > 2 * np.pi


def nearest(surface: Surface, points: Array) -> tuple[Index, Array, Array]:
    """Return where on a surface it is closest to each of the points (point, 3).

    Returns
    -------
    triangle : (point,), the closest triangle
    weights : (point, 3), barycentric weights of its corners at the closest place
    distance : (point,), m

    Reference: Ericson (2005), Real-Time Collision Detection, section 5.1.5.
    """
    from bayesinv.kernels import nearest as closest

    return closest(np.ascontiguousarray(points), surface.vertices, surface.triangles)


def crossings(edges_of: Surface, triangles_of: Surface) -> int:
    """Return how many edges of one surface pierce a triangle of the other (or of itself, without its own)."""
    from bayesinv.kernels import pierced

    triangles = edges_of.triangles
    edges = np.unique(np.sort(triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0)
    same = edges_of is triangles_of
    found = pierced(edges_of.vertices, edges, triangles_of.vertices, triangles_of.triangles, same)
    return int(np.count_nonzero(found))


# --- tetrahedra -------------------------------------------------------------------------------------------


def volumes(mesh: Tetrahedra) -> Array:
    """Return the volume (element,) in m³ of each element, whichever way its corners turn."""
    return np.abs(_signed(mesh.nodes, mesh.elements))


def _signed(nodes: Array, elements: Index) -> Array:
    """Return the signed volume (element,) of elements."""
    a, b, c, d = (nodes[elements[:, i]] for i in range(4))
    return np.einsum("ij,ij->i", b - a, np.cross(c - a, d - a)) / 6


def _quality(corners: Array) -> Array:
    """Return the signed mean-ratio-like quality of elements given by corners (element, 4, 3)."""
    side = corners[:, 1:] - corners[:, :1]
    volume = np.einsum("ij,ij->i", side[:, 0], np.cross(side[:, 1], side[:, 2])) / 6
    edge = corners[:, EDGES[:, 1]] - corners[:, EDGES[:, 0]]
    length = np.sqrt(np.einsum("eki,eki->e", edge, edge) / 6)
    return 6 * np.sqrt(2) * volume / np.where(length > 0, length, 1) ** 3


def quality(mesh: Tetrahedra) -> Array:
    r"""Return the quality (element,) of each element: 1 for a regular tetrahedron, 0 for a flat one.

        q = 6 sqrt(2) volume / (root mean square edge)³

    Reference: Parthasarathy, Graichen & Hathaway (1994), Finite Elem. Anal. Des. 15, 255-261.
    """
    return np.abs(_quality(mesh.nodes[mesh.elements]))


def positive(mesh: Tetrahedra) -> Index:
    """Return the elements (element, 4) with two corners swapped where the volume was negative."""
    elements = mesh.elements.copy()
    turned = _signed(mesh.nodes, elements) < 0
    elements[turned] = elements[turned][:, [0, 1, 3, 2]]
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
        same = key[order[1:]] == key[order[:-1]]
    else:
        order = np.lexsort(facet.T)
        same = (facet[order[1:]] == facet[order[:-1]]).all(axis=1)
    if (same[1:] & same[:-1]).any():
        raise ValueError(
            f"{np.count_nonzero(same[1:] & same[:-1])} facets belong to more than two elements; drop duplicates"
        )
    across = np.full(facet.shape[0], -1)
    left, right = order[:-1][same], order[1:][same]
    across[left], across[right] = right // 4, left // 4
    return across.reshape(-1, 4)


def boundary(mesh: Tetrahedra) -> Surface:
    """Return the outer boundary as a surface on the same nodes, triangles counter-clockwise from outside."""
    elements = positive(mesh)
    return Surface(mesh.nodes, elements[:, FACETS][neighbours(elements) < 0])


def check_mesh(mesh: Tetrahedra, name: str = "mesh") -> Index:
    """Check that finite elements can stand on a mesh; return its `neighbours`.

    Raises
    ------
    ValueError
        If it has no elements, the size of no head, flat elements, elements folded over their neighbours,
        several components, or nodes that no element uses; which, how many and what to do.
    """
    if not len(mesh.elements):
        raise ValueError(f"{name} has no elements")
    check_size(float(np.ptp(mesh.nodes, axis=0).max()), name)
    flat = np.flatnonzero(quality(mesh) < FLAT)
    if flat.size:
        raise ValueError(
            f"{name} has {flat.size} flat elements (quality below {FLAT:g}), the first are {_first(flat)}; "
            "collapse them or mesh again"
        )
    elements = positive(mesh)
    across = neighbours(elements)
    # Two positive elements on opposite sides of a facet see its corners turn opposite ways.
    here = np.argwhere((across >= 0) & (across > np.arange(len(across))[:, None]))
    mine = elements[here[:, 0][:, None], FACETS[here[:, 1]]]
    other = across[here[:, 0], here[:, 1]]
    back = np.argmax(across[other] == here[:, :1], axis=1)
    theirs = elements[other[:, None], FACETS[back]]
    folded = _parity(mine) == _parity(theirs)
    if folded.any():
        raise ValueError(
            f"{name} has {np.count_nonzero(folded)} inverted elements that overlap a neighbour, the first are "
            f"{_first(here[folded, 0])}; move their nodes or mesh again"
        )
    links = coo_matrix((np.ones(len(here)), (here[:, 0], other)), shape=(len(elements),) * 2)
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


def _first(index: Index) -> str:
    """Return the first few of many numbers for an error message."""
    return ", ".join(map(str, index[:5])) + (", ..." if len(index) > 5 else "")


def _parity(facet: Index) -> NDArray[np.bool_]:
    """Tell whether the corners (facet, 3) come in an even permutation of their sorted order."""
    a, b, c = facet.T
    return ((a < b) ^ (b < c)) ^ (a < c)


def largest(mesh: Tetrahedra) -> Tetrahedra:
    """Return the largest component (elements joined by facets), without unused nodes."""
    across = neighbours(mesh.elements)
    here = np.argwhere(across >= 0)
    links = coo_matrix((np.ones(len(here)), (here[:, 0], across[here[:, 0], here[:, 1]])), shape=(len(across),) * 2)
    _, piece = connected_components(links, directed=False)
    keep = piece == np.argmax(np.bincount(piece))
    return _compact(mesh.nodes, mesh.elements[keep], mesh.labels[keep])


def _compact(nodes: Array, elements: Index, labels: Index) -> Tetrahedra:
    """Return a mesh of these elements without the nodes that none of them uses."""
    used, corners = np.unique(elements, return_inverse=True)
    return Tetrahedra(nodes[used], corners.reshape(-1, 4), labels)


def describe(mesh: Tetrahedra) -> dict[str, str]:
    """Return what a reader wants to know of a mesh: size, quality, and the elements of each compartment."""
    grade = quality(mesh)
    low = np.quantile(grade, [0.5, 0.01])
    return {
        "nodes": str(len(mesh.nodes)),
        "elements": f"{len(mesh.elements)} ({', '.join(map(str, np.bincount(mesh.labels)))} by compartment)",
        "quality": f"median {low[0]:.2f}, first percentile {low[1]:.2f}, least {grade.min():.2g}",
    }


# --- nested star-shaped surfaces, without a mesher --------------------------------------------------------

Radii = Callable[[Array], Array]


def _rays(surfaces: Sequence[Surface], centre: Array) -> Radii:
    """Return the function from unit vectors (ray, 3) to the distance (ray, surface) at which each surface is hit.

    A ray u meets the triangle with corners C (rows, about the centre) where w = u C⁻¹ has no negative entry, at
    distance 1 / sum(w).
    """
    inverses, trees = [], []
    for k, surface in enumerate(surfaces):
        corners = (surface.vertices - centre)[surface.triangles]
        turn = np.linalg.det(corners)
        scale = np.linalg.norm(corners, axis=2).prod(axis=1)
        away = turn <= 1e-9 * scale
        if away.any():
            raise ValueError(
                f"surface {k} is not star-shaped about ({', '.join(f'{x:.4g}' for x in centre)}) m: {away.sum()} "
                f"of {len(away)} triangles face the centre; give another `centre`, or use `tetrahedralise_any`"
            )
        inverses.append(np.linalg.inv(corners))
        middle = corners.mean(axis=1)
        trees.append(cKDTree(middle / np.linalg.norm(middle, axis=1, keepdims=True)))

    def radii(rays: Array) -> Array:
        hit = np.zeros((len(rays), len(surfaces)))
        for k, (inverse, tree) in enumerate(zip(inverses, trees, strict=True)):
            open_ = np.arange(len(rays))
            # The triangle that a ray meets is nearly always among the nearest few; a long thin one is found later.
            for count in (6, 48, len(inverse)):
                chunks = np.array_split(open_, len(open_) * min(count, len(inverse)) // 1_000_000 + 1)
                left = []
                for chunk in chunks:
                    near = np.asarray(tree.query(rays[chunk], k=min(count, len(inverse)))[1]).reshape(len(chunk), -1)
                    weights = np.einsum("ri,rcij->rcj", rays[chunk], inverse[near])
                    best = np.argmax(weights.min(axis=2), axis=1)
                    weights = weights[np.arange(len(chunk)), best]
                    total = weights.sum(axis=1)
                    found = weights.min(axis=1) >= -1e-9 * np.abs(total)
                    hit[chunk[found], k] = 1 / total[found]
                    left.append(chunk[~found])
                open_ = np.concatenate(left)
                if not open_.size:
                    break
            else:
                raise ValueError(f"{open_.size} rays from the centre miss surface {k}; it is open")
        return hit

    return radii


def tetrahedralise(
    surfaces: Sequence[Surface],
    spacing: float | Sequence[float],
    layers: Sequence[int] | None = None,
    rng: np.random.Generator | None = None,
    centre: ArrayLike | None = None,
) -> Tetrahedra:
    """Return tetrahedra that fill nested star-shaped surfaces and conform to them, without a mesher.

    Along each ray from the centre the surfaces are moved to spheres. Nodes lie on geodesic shells there, the
    spheres among them, each shell turned at random; the Delaunay tetrahedra of these nodes then hold every
    sphere, and the map back along the rays makes the spheres the given surfaces. Where the map flattens or
    inverts elements their nodes are moved (within their surface, if they lie on one).

    surfaces : outer boundaries of the compartments, innermost first; closed, facing outwards, nested
    spacing : m, distance between nodes wanted, for all compartments or one each; a thin layer gets less,
        because a shell is lost where its neighbour is much nearer than its nodes are to each other
    layers : of elements per compartment; the first entry is not used (the innermost is filled by `spacing`);
        None takes what `spacing` suggests, at least two
    rng : turns the shells and moves interior nodes a little off them (many nodes on one sphere make the Delaunay
        algorithm slow); default_rng(0) if None
    centre : (3,), m; the mean vertex of the innermost surface if None

    Raises
    ------
    ValueError
        If a surface is open, inverted or not star-shaped, surfaces touch or cross, or elements cross an interface.
    """
    surfaces = [closed(surface, f"surface {k}") for k, surface in enumerate(surfaces)]
    middle = surfaces[0].vertices.mean(axis=0) if centre is None else real("centre", centre, "3")
    radii = _rays(surfaces, middle)
    rays = np.vstack([surface.vertices - middle for surface in surfaces])
    hit = radii(rays / np.linalg.norm(rays, axis=1, keepdims=True))
    for k in range(1, len(surfaces)):
        gap = hit[:, k] - hit[:, k - 1]
        if gap.min() <= 0:
            raise ValueError(
                f"surfaces {k - 1} and {k} touch or cross along {np.count_nonzero(gap <= 0)} rays "
                f"(worst by {-gap.min() * 1e3:.2g} mm); move them apart"
            )
    return _fill(hit.mean(axis=0), radii, middle, spacing, layers, rng)


def nested_spheres(
    radii: Sequence[float],
    spacing: float | Sequence[float],
    layers: Sequence[int] | None = None,
    rng: np.random.Generator | None = None,
    centre: ArrayLike = (0.0, 0.0, 0.0),
) -> Tetrahedra:
    """Return tetrahedra that fill concentric spheres of growing `radii` in m; see `tetrahedralise`.

    Raises
    ------
    ValueError
        If the radii do not grow, or elements cross an interface.
    """
    given = real("radii", radii, "compartment")
    if given.min() <= 0 or (np.diff(given) <= 0).any():
        raise ValueError(f"radii are {tuple(radii)}, but must grow from the innermost compartment outwards")
    return _fill(given, lambda rays: np.tile(given, (len(rays), 1)), real("centre", centre, "3"), spacing, layers, rng)


def _shells(radii: Array, spacing: Array, layers: Sequence[int] | None) -> list[tuple[float, float, float]]:
    """Return radius, place and node distance of every shell; place k + 1 is the outer boundary of compartment k."""
    thick = np.diff(radii)
    if layers is None:
        count = np.maximum(2, np.round(thick / (0.82 * spacing[1:]))).astype(int)
    else:
        if len(layers) != len(radii) or min(layers[1:], default=1) < 1:
            raise ValueError(f"layers is {tuple(layers)}, but wants 1 or more for each of {len(radii)} compartments")
        count = np.asarray(layers[1:], dtype=int)
    step = thick / count
    # Beyond about 1.3 times the distance to the next shell, tetrahedra begin to reach through a shell.
    fine = np.minimum(spacing, 1.25 * np.concatenate([step[:1] if step.size else [np.inf], step]))
    shells = []
    radius, down = radii[0], 0.82 * fine[0]
    shells.append((radii[0], 1.0, min(fine[:2])))
    while radius > 1.7 * down:
        radius -= down
        shells.append((radius, radius / radii[0], down / 0.82))
        down = min(1.25 * down, 0.82 * spacing[0])
    for k in range(1, len(radii)):
        for i in range(1, count[k - 1]):
            shells.append((radii[k - 1] + i * step[k - 1], k + i / count[k - 1], fine[k]))
        shells.append((radii[k], k + 1.0, min(fine[k : k + 2])))
    return shells


def _fill(
    reference: Array,
    radii: Radii,
    centre: Array,
    spacing: float | Sequence[float],
    layers: Sequence[int] | None,
    rng: np.random.Generator | None,
) -> Tetrahedra:
    """Return tetrahedra between the surfaces `radii`, which lie at `reference` radii in the mean."""
    rng = np.random.default_rng(0) if rng is None else rng
    wanted = np.broadcast_to(np.asarray(spacing, dtype=float), reference.shape)
    if not (np.isfinite(wanted).all() and wanted.min() > 0):
        raise ValueError(f"spacing is {spacing}, but must be positive, in m")
    points, place = [np.zeros((1, 3))], [np.zeros(1)]
    for radius, where, distance in _shells(reference, wanted, layers):
        grid = geodesic_sphere(max(1, round(1.107 * radius / distance))).vertices
        turn, upper = np.linalg.qr(rng.normal(size=(3, 3)))
        shell = radius * grid @ (turn * np.sign(np.diag(upper))).T
        if where != round(where):
            shell = shell + rng.uniform(-0.05, 0.05, shell.shape) * distance
        points.append(shell)
        place.append(np.full(len(shell), where))
    normal, at = np.vstack(points), np.concatenate(place)
    elements = Delaunay(normal).simplices.astype(np.int64)
    corners = at[elements]
    labels = np.minimum(np.floor(corners.min(axis=1)).astype(np.int64), len(reference) - 1)
    # All four corners on one interface: the element is a cap of the inner side.
    labels -= (corners.min(axis=1) == corners.max(axis=1)) & (labels > 0)
    crossing = np.count_nonzero(corners.max(axis=1) > labels + 1)
    if crossing:
        raise ValueError(
            f"{crossing} of {len(elements)} elements cross an interface: a layer is too thin for the distance of its "
            "nodes; use fewer layers or a smaller spacing"
        )
    elements[_signed(normal, elements) < 0] = elements[_signed(normal, elements) < 0][:, [0, 1, 3, 2]]

    length = np.linalg.norm(normal, axis=1)
    rays = np.divide(normal, length[:, None], out=np.zeros_like(normal), where=length[:, None] > 0)
    rays[0] = (0.0, 0.0, 1.0)
    inner = np.concatenate([[0.0], reference])
    k = np.clip(np.ceil(at).astype(np.int64) - 1, 0, len(reference) - 1)
    hit = np.column_stack([np.zeros(len(rays)), radii(rays)])
    row = np.arange(len(rays))
    # Off its shell a jittered node keeps its own fraction of the way between the interfaces.
    part = (length - inner[k]) / (inner[k + 1] - inner[k])
    nodes = rays * (hit[row, k] + part * (hit[row, k + 1] - hit[row, k]))[:, None]
    bound = np.where((at == np.round(at)) & (at > 0), k, -1)
    nodes = centre + _mend(nodes, elements, bound, radii, rng)
    mesh = Tetrahedra(nodes, elements, labels)
    worst = _quality(nodes[elements]).min()
    if worst < FLAT:
        raise ValueError(
            f"the map along the rays leaves elements of quality {worst:.2g}; use a smaller spacing, another rng, "
            "or a smoother surface"
        )
    return mesh


def _mend(
    nodes: Array, elements: Index, bound: Index, radii: Radii, rng: np.random.Generator, floor: float = 0.1
) -> Array:
    """Return nodes moved so that no element is inverted and few have a quality below `floor`.

    bound : (node,), the surface that a node must stay on, or -1; nodes are about the centre

    A node moves to a random place nearby when the worst element around it gets better; nodes that share an
    element do not move at once. The elements around a free node lie in one compartment, so it stays there.
    """
    nodes = nodes.copy()
    grade = _quality(nodes[elements])
    for sweep in range(40):
        bad = np.flatnonzero(grade < floor)
        if not bad.size:
            break
        turn = np.zeros(len(nodes))
        ill = np.unique(elements[bad])
        ill = ill[ill > 0]
        turn[ill] = rng.uniform(0.5, 1, len(ill))
        near = np.flatnonzero(turn[elements].max(axis=1) > 0)
        first = turn[elements[near]].max(axis=1)
        beaten = np.zeros(len(nodes), bool)
        beaten[elements[near][turn[elements[near]] < first[:, None]]] = True
        mover = np.flatnonzero((turn > 0) & ~beaten)
        spot = np.full(len(nodes), -1)
        spot[mover] = np.arange(len(mover))
        star, corner = np.nonzero(spot[elements[near]] >= 0)
        star, owner = near[star], spot[elements[near[star], corner]]
        around = nodes[elements[star]]
        best = np.full(len(mover), np.inf)
        np.minimum.at(best, owner, grade[star])
        reach = np.zeros(len(mover))
        np.maximum.at(reach, owner, np.ptp(around, axis=1).max(axis=1))
        for shrink in 0.3 * 0.7 ** np.arange(6) * (1 if sweep % 2 else 0.4):
            trial = nodes[mover] + shrink * reach[:, None] * rng.normal(size=(len(mover), 3))
            held = bound[mover] >= 0
            if held.any():
                ray = trial[held] / np.linalg.norm(trial[held], axis=1, keepdims=True)
                trial[held] = ray * radii(ray)[np.arange(len(ray)), bound[mover[held]]][:, None]
            moved = around.copy()
            moved[np.arange(len(star)), corner] = trial[owner]
            after = _quality(moved)
            worst = np.full(len(mover), np.inf)
            np.minimum.at(worst, owner, after)
            better = worst > best
            best[better] = worst[better]
            nodes[mover[better]] = trial[better]
            gain = better[owner]
            grade[star[gain]] = after[gain]
            around = nodes[elements[star]]
    return nodes


# --- any surfaces, files, voxels --------------------------------------------------------------------------


def tetrahedralise_any(surfaces: Sequence[Surface], spacing: float, envelope: float = 1e-3) -> Tetrahedra:
    """Return tetrahedra that fill nested surfaces of any shape, by fTetWild (the extra `pytetwild`).

    surfaces : outer boundaries of the compartments, innermost first
    spacing : m, edge length wanted
    envelope : how far the mesh may leave a surface, as a fraction of the diagonal of its bounding box

    Raises
    ------
    ImportError
        If `pytetwild` is not installed.
    ValueError
        If a surface is open or inverted, or the mesh is not sound.

    Reference: Hu, Schneider, Wang, Zorin & Panozzo (2020), ACM Trans. Graph. 39, 117.
    """
    surfaces = [closed(surface, f"surface {k}", handles=True) for k, surface in enumerate(surfaces)]
    try:
        from pytetwild.pytetwild import tetrahedralize
    except ImportError as error:
        raise ImportError(
            f"surfaces of any shape want pytetwild ({error}): pip install pytetwild pyvista; nested star-shaped "
            "surfaces are filled by `tetrahedralise` without it"
        ) from None
    offset = np.cumsum([0, *(len(surface.vertices) for surface in surfaces)])
    nodes, cells = tetrahedralize(
        np.vstack([surface.vertices for surface in surfaces]),
        np.vstack([surface.triangles + start for surface, start in zip(surfaces, offset[:-1], strict=True)]).astype(
            np.int32
        ),
        edge_length_abs=spacing,
        epsilon=envelope,
        disable_filtering=True,
    )
    nodes, elements = np.asarray(nodes, dtype=np.float64), np.asarray(cells, dtype=np.int64)
    middle = nodes[elements].mean(axis=1)
    labels = np.full(len(elements), -1)
    for k, surface in reversed(list(enumerate(surfaces))):
        low, high = surface.vertices.min(axis=0), surface.vertices.max(axis=0)
        near = np.flatnonzero(((middle >= low) & (middle <= high)).all(axis=1))
        labels[near[inside(surface, middle[near])]] = k
    mesh = largest(_compact(nodes, elements[labels >= 0], labels[labels >= 0]))
    check_mesh(mesh)
    return mesh


def _ordered(found: NDArray[Any], values: Sequence[int] | None) -> Index:
    """Return compartments 0, 1, ... for label values: in the order given, or in rising order."""
    present = [int(value) for value in np.unique(found)]
    order = present if values is None else [int(value) for value in values]
    missing = sorted(set(present) - set(order))
    if missing:
        raise ValueError(f"the labels {missing} are in the mesh, but values are {order}; name every compartment")
    place = {value: k for k, value in enumerate(order)}
    return np.array([place[value] for value in present])[np.searchsorted(present, found)]


def read_mesh(
    path: Path | str, *, unit: str = "m", label: str | None = None, values: Sequence[int] | None = None
) -> Tetrahedra:
    """Read labelled tetrahedra from a file that meshio knows, such as .msh or .vtu.

    unit : of the file's coordinates: "m", "cm" or "mm"
    label : name of the cell data that holds the compartments; found by itself where there is one choice
    values : label values of the compartments, innermost first; rising order if None

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it holds no tetrahedra or no labels, or the mesh is not sound.
    """
    import meshio

    one_of("unit", unit, METRES)
    if not Path(path).is_file():
        raise FileNotFoundError(f"no mesh file {path}")
    file = meshio.read(path)
    blocks = [i for i, block in enumerate(file.cells) if block.type == "tetra"]
    if not blocks:
        raise ValueError(f"{path} holds {sorted({block.type for block in file.cells})}, but no tetrahedra (4 nodes)")
    integral = {
        name: np.concatenate([np.asarray(data[i]).ravel() for i in blocks])
        for name, data in file.cell_data.items()
        if all(np.asarray(data[i]).size == len(file.cells[i].data) for i in blocks)
    }
    integral = {name: value for name, value in integral.items() if np.array_equal(value, np.round(value))}
    if label is None:
        usual = [name for name in ("gmsh:physical", "medit:ref", "label", "labels") if name in integral]
        if not usual and len(integral) != 1:
            raise ValueError(
                f"the elements of {path} are unlabelled, or it is unclear by what: it has cell data "
                f"{sorted(file.cell_data)}; name one by `label=`"
            )
        label = (usual or list(integral))[0]
    found = integral[one_of("cell data", label, integral)].astype(np.int64)
    elements = np.concatenate([file.cells[i].data for i in blocks]).astype(np.int64)
    mesh = _compact(np.asarray(file.points, float) * METRES[unit], elements, _ordered(found, values))
    check_mesh(mesh, str(path))
    return mesh


def from_labels(
    volume: ArrayLike | Path | str, affine: ArrayLike | None = None, values: Sequence[int] | None = None
) -> Tetrahedra:
    """Return tetrahedra for a labelled voxel volume: each voxel becomes five, and neighbours conform.

    volume : (i, j, k), label of each voxel, 0 for none; or the path of a NIfTI file, whose header gives the affine
    affine : (4, 4), voxel index of the centre of a voxel to m
    values : labels of the compartments, innermost first; rising order if None; other labels are left out

    Raises
    ------
    ValueError
        If the volume has other than three axes, no labelled voxel, no affine, or is in no head's size.
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
    voxel = np.asarray(volume)
    if voxel.ndim != 3:
        raise ValueError(f"volume has shape {voxel.shape}, but wants 3 axes: (i, j, k)")
    if not np.array_equal(voxel, np.round(voxel)):
        raise ValueError("volume holds labels that are no whole numbers; interpolate labels by nearest neighbour")
    voxel = voxel.astype(np.int64)
    place = np.argwhere(voxel > 0 if values is None else np.isin(voxel, np.asarray(values)))
    if not len(place):
        raise ValueError("volume has no labelled voxel")
    odd = place.sum(axis=1) % 2
    # One regular tetrahedron between alternate corners and four at the other corners; odd voxels are mirrored, so
    # that the diagonals of a shared face agree.
    five = np.array(
        [
            [(0, 0, 0), (1, 1, 0), (1, 0, 1), (0, 1, 1)],
            [(1, 0, 0), (0, 0, 0), (1, 1, 0), (1, 0, 1)],
            [(0, 1, 0), (0, 0, 0), (1, 1, 0), (0, 1, 1)],
            [(0, 0, 1), (0, 0, 0), (1, 0, 1), (0, 1, 1)],
            [(1, 1, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1)],
        ]
    )
    mirrored = five.copy()
    mirrored[..., 0] = 1 - mirrored[..., 0]
    corner = place[:, None, None, :] + np.where(odd[:, None, None, None] == 1, mirrored, five)
    shape = np.array(voxel.shape) + 1
    key, elements = np.unique(np.ravel_multi_index(tuple(np.moveaxis(corner, -1, 0)), shape), return_inverse=True)
    matrix = real("affine", affine, "4 4")
    index = np.column_stack(np.unravel_index(key, shape)) - 0.5
    labels = np.repeat(_ordered(voxel[tuple(place.T)], values), 5)
    mesh = Tetrahedra(index @ matrix[:3, :3].T + matrix[:3, 3], elements.reshape(-1, 4), labels)
    check_size(float(np.ptp(mesh.nodes, axis=0).max()), "volume")
    return Tetrahedra(mesh.nodes, positive(mesh), labels)
