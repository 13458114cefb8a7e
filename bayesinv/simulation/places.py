"""Patches of cortex, random positions on it, and orientations tilted from its normals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse.csgraph import dijkstra

from bayesinv.axes import Array, Index, real
from bayesinv.geometry.geodesic import edge_lengths
from bayesinv.head.sources import Sources


def patch(cortex: Sources, centre: ArrayLike, area: float) -> Index:
    """Return the vertices (vertex,) of the patch of cortex around a position: the nearest along the surface.

    cortex : with triangles and areas
    centre : (3,), m; the nearest vertex of the cortex is taken
    area : that the patch reaches, m²

    Raises
    ------
    ValueError
        If the cortex has no triangles or areas, or the area is not positive or more than a hemisphere's.
    """
    if cortex.triangles is None or cortex.areas is None:
        raise ValueError("a patch wants sources with triangles and areas, such as template_cortex.cortex()")
    if not 0 < area < np.inf:
        raise ValueError(f"area is {area}, but must be positive, in m² (1 cm² is 1e-4)")
    position = real("centre", centre, "3")
    start = int(np.argmin(np.linalg.norm(cortex.positions - position, axis=1)))
    distance = dijkstra(edge_lengths(cortex), directed=False, indices=start)
    order = np.argsort(distance, kind="stable")
    order = order[np.isfinite(distance[order])]
    covered = np.cumsum(cortex.areas[order])
    if area > covered[-1]:
        raise ValueError(
            f"area is {1e4 * area:.4g} cm², but that hemisphere of the cortex has {1e4 * covered[-1]:.4g} cm²"
        )
    return np.sort(order[: int(np.searchsorted(covered, area)) + 1])


def random_places(cortex: Sources, count: int, rng: np.random.Generator, *, apart: float = 0.03) -> Array:
    """Return the positions (place, 3) in m of random vertices of the cortex, at least a distance from each other.

    count : how many places
    apart : smallest distance between two, m

    Raises
    ------
    ValueError
        If count is no positive number, or so many places do not fit (100 orders of all vertices are tried).
    """
    if count < 1 or apart < 0:
        raise ValueError(f"count is {count} and apart {apart} m, but must be at least 1 and not negative")
    for _ in range(100):
        chosen: list[int] = []
        free = np.ones(len(cortex), dtype=bool)
        while free.any() and len(chosen) < count:
            chosen.append(int(rng.choice(np.flatnonzero(free))))
            free &= np.linalg.norm(cortex.positions - cortex.positions[chosen[-1]], axis=1) >= max(apart, 1e-9)
        if len(chosen) == count:
            return cortex.positions[chosen]
    raise ValueError(f"{count} places {1e3 * apart:.3g} mm apart do not fit on this cortex; want fewer, or nearer")


def tilted(sources: Sources, degrees: float, rng: np.random.Generator | None) -> Sources:
    """Return the sources with normals tilted by random angles, Gaussian of that standard deviation, in any direction.

    Raises
    ------
    ValueError
        If the angle is negative, the sources have no normals, or there is no generator.
    """
    if not 0 <= degrees < np.inf:
        raise ValueError(f"jitter is {degrees}, but must be at least 0, in degrees")
    if degrees == 0:
        return sources
    if sources.normals is None or rng is None:
        raise ValueError("jitter of the orientation wants sources with normals, and rng, a generator")
    normals = sources.normals
    tangent = rng.standard_normal(normals.shape)
    tangent -= np.sum(tangent * normals, axis=1, keepdims=True) * normals
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    angle = np.deg2rad(degrees) * rng.standard_normal((len(sources), 1))
    return replace(sources, normals=np.cos(angle) * normals + np.sin(angle) * tangent)
