"""Spheres of nearly equal triangles, from a subdivided icosahedron."""

from __future__ import annotations

import numpy as np

from bayesinv.geometry.surfaces import Surface


def geodesic_sphere(frequency: int) -> Surface:
    """Return the icosahedral geodesic sphere of radius 1 m about the origin.

    Every edge of the icosahedron is cut into `frequency` pieces: 10 frequency² + 2 vertices and
    20 frequency² triangles, counter-clockwise seen from outside. The mean edge is about
    1.107 / frequency m.

    Raises
    ------
    ValueError
        If `frequency` is less than 1.
    """
    if frequency < 1:
        raise ValueError(f"frequency is {frequency}, but must be 1 or more")
    golden = (1 + 5**0.5) / 2
    pairs = [(a, golden * b) for a in (-1.0, 1.0) for b in (-1.0, 1.0)]
    corners = np.array([np.roll((0.0, a, b), shift) for shift in range(3) for a, b in pairs])
    distance = np.linalg.norm(corners[:, None] - corners[None], axis=2)
    adjacent = distance < 2.1
    faces = np.array(
        [
            (i, j, k)
            for i in range(12)
            for j in range(i)
            for k in range(j)
            if adjacent[i, j] and adjacent[j, k] and adjacent[i, k]
        ]
    )
    inverted = np.linalg.det(corners[faces]) < 0
    faces[inverted] = faces[inverted][:, [0, 2, 1]]
    step = np.array([(i, j) for i in range(frequency + 1) for j in range(frequency + 1 - i)])
    index = np.full((frequency + 2, frequency + 2), -1)
    index[step[:, 0], step[:, 1]] = np.arange(len(step))
    i, j = step[step.sum(axis=1) < frequency].T
    up = np.stack([index[i, j], index[i + 1, j], index[i, j + 1]], axis=1)
    i, j = step[step.sum(axis=1) < frequency - 1].T
    down = np.stack([index[i + 1, j], index[i + 1, j + 1], index[i, j + 1]], axis=1)
    weights = np.column_stack([frequency - step.sum(axis=1), step]) / frequency
    points = (weights @ corners[faces]).reshape(-1, 3)
    triangles = np.vstack([up, down])[None] + len(step) * np.arange(20)[:, None, None]
    _, first, merged = np.unique(
        np.round(points * 1e7).astype(np.int64), axis=0, return_index=True, return_inverse=True
    )
    points = points[first] / np.linalg.norm(points[first], axis=1, keepdims=True)
    return Surface(points, merged.ravel()[triangles.reshape(-1, 3)])
