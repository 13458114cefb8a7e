"""Tetrahedra between nested star-shaped surfaces, without a mesher."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import Delaunay, cKDTree

from bayesinv.axes import Array, Index, real
from bayesinv.geometry.icosphere import geodesic_sphere
from bayesinv.geometry.repair import closed
from bayesinv.geometry.surfaces import Surface
from bayesinv.geometry.tetrahedra import FLAT, Tetrahedra, corner_quality, signed_volumes

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
        rotation, upper = np.linalg.qr(rng.normal(size=(3, 3)))
        shell = radius * grid @ (rotation * np.sign(np.diag(upper))).T
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
    elements[signed_volumes(normal, elements) < 0] = elements[signed_volumes(normal, elements) < 0][:, [0, 1, 3, 2]]

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
    nodes = centre + _improve(nodes, elements, bound, radii, rng)
    mesh = Tetrahedra(nodes, elements, labels)
    worst = corner_quality(nodes[elements]).min()
    if worst < FLAT:
        raise ValueError(
            f"the map along the rays leaves elements of quality {worst:.2g}; use a smaller spacing, another rng, "
            "or a smoother surface"
        )
    return mesh


def _improve(
    nodes: Array, elements: Index, bound: Index, radii: Radii, rng: np.random.Generator, floor: float = 0.1
) -> Array:
    """Return nodes moved so that no element is inverted and few have a quality below `floor`.

    bound : (node,), the surface that a node must stay on, or -1; nodes are about the centre

    A node moves to a random place nearby when the worst element around it gets better; nodes that share an
    element do not move at once. The elements around a free node lie in one compartment, so it stays there.
    """
    nodes = nodes.copy()
    quality = corner_quality(nodes[elements])
    for sweep in range(40):
        bad = np.flatnonzero(quality < floor)
        if not bad.size:
            break
        priority = np.zeros(len(nodes))
        poor = np.unique(elements[bad])
        poor = poor[poor > 0]
        priority[poor] = rng.uniform(0.5, 1, len(poor))
        near = np.flatnonzero(priority[elements].max(axis=1) > 0)
        highest = priority[elements[near]].max(axis=1)
        later = np.zeros(len(nodes), bool)
        later[elements[near][priority[elements[near]] < highest[:, None]]] = True
        mover = np.flatnonzero((priority > 0) & ~later)
        number = np.full(len(nodes), -1)
        number[mover] = np.arange(len(mover))
        star, corner = np.nonzero(number[elements[near]] >= 0)
        star, owner = near[star], number[elements[near[star], corner]]
        corners = nodes[elements[star]]
        best = np.full(len(mover), np.inf)
        np.minimum.at(best, owner, quality[star])
        reach = np.zeros(len(mover))
        np.maximum.at(reach, owner, np.ptp(corners, axis=1).max(axis=1))
        for shrink in 0.3 * 0.7 ** np.arange(6) * (1 if sweep % 2 else 0.4):
            trial = nodes[mover] + shrink * reach[:, None] * rng.normal(size=(len(mover), 3))
            on_surface = bound[mover] >= 0
            if on_surface.any():
                ray = trial[on_surface] / np.linalg.norm(trial[on_surface], axis=1, keepdims=True)
                trial[on_surface] = ray * radii(ray)[np.arange(len(ray)), bound[mover[on_surface]]][:, None]
            moved = corners.copy()
            moved[np.arange(len(star)), corner] = trial[owner]
            after = corner_quality(moved)
            worst = np.full(len(mover), np.inf)
            np.minimum.at(worst, owner, after)
            better = worst > best
            best[better] = worst[better]
            nodes[mover[better]] = trial[better]
            gain = better[owner]
            quality[star[gain]] = after[gain]
            corners = nodes[elements[star]]
    return nodes
