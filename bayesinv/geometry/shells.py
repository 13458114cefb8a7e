"""Tetrahedra between nested star-shaped surfaces, without a mesher."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import Delaunay, cKDTree

from bayesinv.arguments import Randomness, generator_of
from bayesinv.axes import Array, Index, real
from bayesinv.geometry.icosphere import geodesic_sphere
from bayesinv.geometry.repair import closed
from bayesinv.geometry.surfaces import Surface
from bayesinv.geometry.tetrahedra import MIN_QUALITY, Tetrahedra, corner_quality, signed_volumes

Radii = Callable[[Array], Array]


def _ray_distances(surfaces: Sequence[Surface], centre: Array) -> Radii:
    """Return the function from unit vectors (ray, 3) to the distances (ray, surface) in m at which they meet surfaces.

    A ray u meets the triangle with corners C (rows, about the centre) if w = u C⁻¹ has no negative entry, at the
    distance 1 / sum(w).
    """
    inverses, trees = [], []
    for k, surface in enumerate(surfaces):
        corners = (surface.vertices - centre)[surface.triangles]
        determinant = np.linalg.det(corners)
        scale = np.linalg.norm(corners, axis=2).prod(axis=1)
        not_outward = determinant <= 1e-9 * scale
        if not_outward.any():
            raise ValueError(
                f"surface {k} is not star-shaped about ({', '.join(f'{x:.4g}' for x in centre)}) m: "
                f"{not_outward.sum()} of {len(not_outward)} triangles face the centre; give another `centre`, or use "
                "`tetrahedralise_any`"
            )
        inverses.append(np.linalg.inv(corners))
        centroid = corners.mean(axis=1)
        trees.append(cKDTree(centroid / np.linalg.norm(centroid, axis=1, keepdims=True)))

    def radii(rays: Array) -> Array:
        hit = np.zeros((len(rays), len(surfaces)))
        for k, (inverse, tree) in enumerate(zip(inverses, trees, strict=True)):
            missing = np.arange(len(rays))
            # The triangle that a ray meets is nearly always among the nearest; a long thin one needs a wider search.
            for count in (6, 48, len(inverse)):
                chunks = np.array_split(missing, len(missing) * min(count, len(inverse)) // 1_000_000 + 1)
                missed = []
                for chunk in chunks:
                    candidates = np.asarray(tree.query(rays[chunk], k=min(count, len(inverse)))[1]).reshape(
                        len(chunk), -1
                    )
                    weights = np.einsum("ri,rcij->rcj", rays[chunk], inverse[candidates])
                    best = np.argmax(weights.min(axis=2), axis=1)
                    weights = weights[np.arange(len(chunk)), best]
                    total = weights.sum(axis=1)
                    found = weights.min(axis=1) >= -1e-9 * np.abs(total)
                    hit[chunk[found], k] = 1 / total[found]
                    missed.append(chunk[~found])
                missing = np.concatenate(missed)
                if not missing.size:
                    break
            else:
                raise ValueError(f"{missing.size} rays from the centre miss surface {k}; it is open")
        return hit

    return radii


def tetrahedralise(
    surfaces: Sequence[Surface],
    spacing: float | Sequence[float],
    layers: Sequence[int] | None = None,
    rng: Randomness = None,
    centre: ArrayLike | None = None,
) -> Tetrahedra:
    """Return tetrahedra that fill nested star-shaped surfaces and conform to them, without a mesher.

    A radial map takes the surfaces to concentric spheres. Nodes are placed there on geodesic shells, which include
    the spheres, each shell in a random rotation; the Delaunay tetrahedra of these nodes conform to every sphere, and
    the inverse map takes the spheres to the given surfaces. Where it flattens or inverts elements their nodes are
    moved (within their surface, if they lie on one).

    surfaces : outer boundaries of the compartments, innermost first; closed, facing outwards, nested
    spacing : m, target distance between nodes, for all compartments or one each; it is smaller in a thin layer,
        because tetrahedra cross a shell whose distance to the next is much smaller than that between its nodes
    layers : of elements per compartment; the first entry is not used (the innermost is filled by `spacing`);
        None derives it from `spacing`, at least two
    rng : rotates the shells and displaces interior nodes slightly from them (many nodes on one sphere make the
        Delaunay algorithm slow); a generator or a seed, 0 if None
    centre : (3,), m; the mean vertex of the innermost surface if None

    Raises
    ------
    ValueError
        If a surface is open, inverted or not star-shaped, surfaces touch or cross, or elements cross an interface.
    """
    surfaces = [closed(surface, f"surface {k}") for k, surface in enumerate(surfaces)]
    origin = surfaces[0].vertices.mean(axis=0) if centre is None else real("centre", centre, "3")
    radii = _ray_distances(surfaces, origin)
    rays = np.vstack([surface.vertices - origin for surface in surfaces])
    hit = radii(rays / np.linalg.norm(rays, axis=1, keepdims=True))
    for k in range(1, len(surfaces)):
        gap = hit[:, k] - hit[:, k - 1]
        if gap.min() <= 0:
            raise ValueError(
                f"surfaces {k - 1} and {k} touch or cross along {np.count_nonzero(gap <= 0)} rays "
                f"(worst by {-gap.min() * 1e3:.2g} mm); move them apart"
            )
    return _fill(hit.mean(axis=0), radii, origin, spacing, layers, rng)


def nested_spheres(
    radii: Sequence[float],
    spacing: float | Sequence[float],
    layers: Sequence[int] | None = None,
    rng: Randomness = None,
    centre: ArrayLike = (0.0, 0.0, 0.0),
) -> Tetrahedra:
    """Return tetrahedra that fill concentric spheres of increasing `radii` in m; see `tetrahedralise`.

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
    """Return radius (m), level and node distance (m) of every shell.

    Level k + 1 is the outer boundary of compartment k; levels between whole numbers lie within a compartment.
    """
    thickness = np.diff(radii)
    if layers is None:
        count = np.maximum(2, np.round(thickness / (0.82 * spacing[1:]))).astype(int)
    else:
        if len(layers) != len(radii) or min(layers[1:], default=1) < 1:
            raise ValueError(f"layers is {tuple(layers)}, but wants 1 or more for each of {len(radii)} compartments")
        count = np.asarray(layers[1:], dtype=int)
    step = thickness / count
    # If nodes are farther apart than about 1.3 times the distance to the next shell, tetrahedra cross the shell.
    node_distance = np.minimum(spacing, 1.25 * np.concatenate([step[:1] if step.size else [np.inf], step]))
    shells = []
    radius, inner_step = radii[0], 0.82 * node_distance[0]
    shells.append((radii[0], 1.0, min(node_distance[:2])))
    while radius > 1.7 * inner_step:
        radius -= inner_step
        shells.append((radius, radius / radii[0], inner_step / 0.82))
        inner_step = min(1.25 * inner_step, 0.82 * spacing[0])
    for k in range(1, len(radii)):
        for i in range(1, count[k - 1]):
            shells.append((radii[k - 1] + i * step[k - 1], k + i / count[k - 1], node_distance[k]))
        shells.append((radii[k], k + 1.0, min(node_distance[k : k + 2])))
    return shells


def _fill(
    reference: Array,
    radii: Radii,
    centre: Array,
    spacing: float | Sequence[float],
    layers: Sequence[int] | None,
    rng: Randomness,
) -> Tetrahedra:
    """Return tetrahedra between the surfaces given by `radii`, whose mean radii in m are `reference` (surface,)."""
    rng = generator_of(rng)
    node_distance = np.broadcast_to(np.asarray(spacing, dtype=float), reference.shape)
    if not (np.isfinite(node_distance).all() and node_distance.min() > 0):
        raise ValueError(f"spacing is {spacing}, but must be positive, in m")
    points, levels = [np.zeros((1, 3))], [np.zeros(1)]
    for radius, level, shell_distance in _shells(reference, node_distance, layers):
        grid = geodesic_sphere(max(1, round(1.107 * radius / shell_distance))).vertices
        rotation, upper = np.linalg.qr(rng.normal(size=(3, 3)))
        shell = radius * grid @ (rotation * np.sign(np.diag(upper))).T
        if level != round(level):
            shell = shell + rng.uniform(-0.05, 0.05, shell.shape) * shell_distance
        points.append(shell)
        levels.append(np.full(len(shell), level))
    reference_nodes, node_level = np.vstack(points), np.concatenate(levels)
    elements = Delaunay(reference_nodes).simplices.astype(np.int64)
    corners = node_level[elements]
    labels = np.minimum(np.floor(corners.min(axis=1)).astype(np.int64), len(reference) - 1)
    # All four corners on one interface: the element is a cap of the inner side.
    labels -= (corners.min(axis=1) == corners.max(axis=1)) & (labels > 0)
    crossing = np.count_nonzero(corners.max(axis=1) > labels + 1)
    if crossing:
        raise ValueError(
            f"{crossing} of {len(elements)} elements cross an interface: a layer is too thin for the distance of its "
            "nodes; use fewer layers or a smaller spacing"
        )
    inverted = signed_volumes(reference_nodes, elements) < 0
    elements[inverted] = elements[inverted][:, [0, 1, 3, 2]]

    length = np.linalg.norm(reference_nodes, axis=1)
    rays = np.divide(reference_nodes, length[:, None], out=np.zeros_like(reference_nodes), where=length[:, None] > 0)
    rays[0] = (0.0, 0.0, 1.0)
    inner = np.concatenate([[0.0], reference])
    compartment = np.clip(np.ceil(node_level).astype(np.int64) - 1, 0, len(reference) - 1)
    hit = np.column_stack([np.zeros(len(rays)), radii(rays)])
    row = np.arange(len(rays))
    # A node displaced from its shell has its own fraction of the distance between the interfaces.
    fraction = (length - inner[compartment]) / (inner[compartment + 1] - inner[compartment])
    nodes = rays * (hit[row, compartment] + fraction * (hit[row, compartment + 1] - hit[row, compartment]))[:, None]
    surface_of = np.where((node_level == np.round(node_level)) & (node_level > 0), compartment, -1)
    nodes = centre + _improve(nodes, elements, surface_of, radii, rng)
    mesh = Tetrahedra(nodes, elements, labels)
    worst = corner_quality(nodes[elements]).min()
    if worst < MIN_QUALITY:
        raise ValueError(
            f"the map along the rays leaves elements of quality {worst:.2g}; use a smaller spacing, another rng, "
            "or a smoother surface"
        )
    return mesh


def _improve(
    nodes: Array, elements: Index, surface_of: Index, radii: Radii, rng: np.random.Generator, target: float = 0.1
) -> Array:
    """Return nodes moved so that no element is inverted and few have a quality below `target`.

    nodes : (node, 3), m, about the centre
    surface_of : (node,), the surface that a node must stay on, or -1

    A node moves to a random position nearby if that improves the worst element around it; nodes that share an
    element do not move at once. The elements around an interior node lie in one compartment, so it stays there.
    """
    nodes = nodes.copy()
    quality = corner_quality(nodes[elements])
    for sweep in range(40):
        low_quality = np.flatnonzero(quality < target)
        if not low_quality.size:
            break
        priority = np.zeros(len(nodes))
        candidates = np.unique(elements[low_quality])
        candidates = candidates[candidates > 0]
        priority[candidates] = rng.uniform(0.5, 1, len(candidates))
        affected = np.flatnonzero(priority[elements].max(axis=1) > 0)
        highest = priority[elements[affected]].max(axis=1)
        deferred = np.zeros(len(nodes), bool)
        deferred[elements[affected][priority[elements[affected]] < highest[:, None]]] = True
        moving = np.flatnonzero((priority > 0) & ~deferred)
        number = np.full(len(nodes), -1)
        number[moving] = np.arange(len(moving))
        star, corner = np.nonzero(number[elements[affected]] >= 0)
        star, owner = affected[star], number[elements[affected[star], corner]]
        corners = nodes[elements[star]]
        best = np.full(len(moving), np.inf)
        np.minimum.at(best, owner, quality[star])
        extent = np.zeros(len(moving))
        np.maximum.at(extent, owner, np.ptp(corners, axis=1).max(axis=1))
        for shrink in 0.3 * 0.7 ** np.arange(6) * (1 if sweep % 2 else 0.4):
            trial = nodes[moving] + shrink * extent[:, None] * rng.normal(size=(len(moving), 3))
            on_surface = surface_of[moving] >= 0
            if on_surface.any():
                ray = trial[on_surface] / np.linalg.norm(trial[on_surface], axis=1, keepdims=True)
                trial[on_surface] = ray * radii(ray)[np.arange(len(ray)), surface_of[moving[on_surface]]][:, None]
            moved = corners.copy()
            moved[np.arange(len(star)), corner] = trial[owner]
            new_quality = corner_quality(moved)
            worst = np.full(len(moving), np.inf)
            np.minimum.at(worst, owner, new_quality)
            better = worst > best
            best[better] = worst[better]
            nodes[moving[better]] = trial[better]
            improved = better[owner]
            quality[star[improved]] = new_quality[improved]
            corners = nodes[elements[star]]
    return nodes
