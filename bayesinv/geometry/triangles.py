"""Compiled loops over points and triangles; imported on first use, as numba loads slowly."""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from bayesinv.axes import Array, Index


@njit(parallel=True, cache=True)  # type: ignore[untyped-decorator]
def solid_angles(points: Array, vertices: Array, triangles: Index) -> Array:
    """Return the solid angle (point,) of a surface at each point (van Oosterom & Strackee 1983).

    Half the angle of a triangle is the argument of a complex number; arguments add as numbers multiply, and one
    arctangent tells the sum of several, as long as it stays below half a turn.
    """
    angles = np.zeros(len(points))
    for i in prange(len(points)):
        total, real, imaginary = 0.0, 1.0, 0.0
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
            denominator = (
                la * lb * lc
                + (ax * bx + ay * by + az * bz) * lc
                + (ax * cx + ay * cy + az * cz) * lb
                + (bx * cx + by * cy + bz * cz) * la
            )
            if denominator > 8 * abs(volume) and real > abs(imaginary):
                real, imaginary = real * denominator - imaginary * volume, real * volume + imaginary * denominator
                # Products of lengths would in the end be too small or too large for a number.
                if not 1e-99 < real < 1e99:
                    real, imaginary = 1.0, imaginary / real
            else:
                total += 2 * (np.arctan2(imaginary, real) + np.arctan2(volume, denominator))
                real, imaginary = 1.0, 0.0
        angles[i] = total + 2 * np.arctan2(imaginary, real)
    return angles


@njit(cache=True)  # type: ignore[untyped-decorator]
def _closest(p: Array, a: Array, b: Array, c: Array) -> tuple[float, float]:
    """Return the barycentric weights of b and c at the point of the triangle (a, b, c) that is closest to p."""
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
        fraction = (d4 - d3) / ((d4 - d3) + (d5 - d6))
        return 1 - fraction, fraction
    total = va + vb + vc
    return vb / total, vc / total


@njit(parallel=True, cache=True)  # type: ignore[untyped-decorator]
def nearest(points: Array, vertices: Array, triangles: Index) -> tuple[Index, Array, Array]:
    """Return the closest triangle (point,), barycentric weights (point, 3) and distance (point,) of each point."""
    which = np.zeros(len(points), dtype=np.int64)
    weights = np.zeros((len(points), 3))
    distance = np.zeros(len(points))
    extent = np.zeros(len(triangles))  # how far a triangle reaches from its first corner
    for t in range(len(triangles)):
        first, second = 0.0, 0.0
        for k in range(3):
            start = vertices[triangles[t, 0], k]
            first += (vertices[triangles[t, 1], k] - start) ** 2
            second += (vertices[triangles[t, 2], k] - start) ** 2
        extent[t] = np.sqrt(max(first, second))
    for i in prange(len(points)):
        smallest, radius = np.inf, np.inf
        for t in range(len(triangles)):
            a = vertices[triangles[t, 0]]
            reach = radius + extent[t]
            if (a[0] - points[i, 0]) ** 2 + (a[1] - points[i, 1]) ** 2 + (a[2] - points[i, 2]) ** 2 > reach * reach:
                continue
            b = vertices[triangles[t, 1]]
            c = vertices[triangles[t, 2]]
            v, w = _closest(points[i], a, b, c)
            square = 0.0
            for k in range(3):
                square += (a[k] + v * (b[k] - a[k]) + w * (c[k] - a[k]) - points[i, k]) ** 2
            if square < smallest:
                smallest, radius = square, np.sqrt(square)
                which[i] = t
                weights[i, 0], weights[i, 1], weights[i, 2] = max(1 - v - w, 0.0), v, w
        distance[i] = np.sqrt(smallest)
    return which, weights, distance


@njit(parallel=True, cache=True)  # type: ignore[untyped-decorator]
def pierces(points: Array, edges: Index, vertices: Array, triangles: Index, same: bool) -> NDArray[np.bool_]:
    """Return which edges (edge, 2) pierce a triangle that they share no corner with (Moeller & Trumbore 1997)."""
    pierces = np.zeros(len(edges), dtype=np.bool_)
    for e in prange(len(edges)):
        p = points[edges[e, 0]]
        dx, dy, dz = (
            points[edges[e, 1]][0] - p[0],
            points[edges[e, 1]][1] - p[1],
            points[edges[e, 1]][2] - p[2],
        )
        length = np.sqrt(dx * dx + dy * dy + dz * dz)
        for t in range(len(triangles)):
            i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            a = vertices[i]
            ax, ay, az = p[0] - a[0], p[1] - a[1], p[2] - a[2]
            b, c = vertices[j], vertices[k]
            ux, uy, uz = b[0] - a[0], b[1] - a[1], b[2] - a[2]
            vx, vy, vz = c[0] - a[0], c[1] - a[1], c[2] - a[2]
            limit = length + np.sqrt(max(ux * ux + uy * uy + uz * uz, vx * vx + vy * vy + vz * vz))
            if ax * ax + ay * ay + az * az > limit * limit:
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
            first_weight = (ax * hx + ay * hy + az * hz) / det
            qx, qy, qz = ay * uz - az * uy, az * ux - ax * uz, ax * uy - ay * ux
            second_weight = (dx * qx + dy * qy + dz * qz) / det
            fraction = (vx * qx + vy * qy + vz * qz) / det
            if first_weight >= 0 and second_weight >= 0 and first_weight + second_weight <= 1 and 0 <= fraction <= 1:
                pierces[e] = True
                break
    return pierces
