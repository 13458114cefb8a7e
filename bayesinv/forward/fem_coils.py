"""Coil measurements of the volume currents of finite elements."""

from __future__ import annotations

import numpy as np
from numba import njit

from bayesinv.axes import Array, Index, read_only
from bayesinv.forward.fem_assembly import gradients
from bayesinv.forward.threads import share_work
from bayesinv.forward.unbounded import MU0_4PI
from bayesinv.head.sensors import Sensors

GAUSS_OFFSET = (
    1 - 5**-0.5
)  # of the four Gauss points of degree 2 in a tetrahedron, as a fraction of the way from corner to centroid


@njit(cache=True, nogil=True)
def _add_flux_readings(first, last, corners, elements, flux, points, directions, start, out):  # type: ignore[no-untyped-def]
    """Add to out (coil, node) the measurements of coils first..last of the volume currents of each hat function.

    An element within six edge lengths of an integration point has four Gauss points, a farther one its centroid.
    """
    point = np.empty(3)
    for coil in range(first, last):
        for e in range(len(elements)):
            first_edge = second_edge = 0.0
            for i in range(3):
                first_edge += (corners[e, 1, i] - corners[e, 0, i]) ** 2
                second_edge += (corners[e, 3, i] - corners[e, 2, i]) ** 2
            size = max(first_edge, second_edge)
            wx = wy = wz = 0.0
            for q in range(start[coil], start[coil + 1]):
                square = 0.0
                for i in range(3):
                    corner_sum = corners[e, 0, i] + corners[e, 1, i] + corners[e, 2, i] + corners[e, 3, i]
                    point[i] = points[q, i] - 0.25 * corner_sum
                    square += point[i] * point[i]
                count = 4 if square < 36 * size else 1
                for k in range(count):
                    x, y, z = point[0], point[1], point[2]
                    if count == 4:
                        # Degree 2: points between the centroid and each corner.
                        x = GAUSS_OFFSET * x + (1 - GAUSS_OFFSET) * (points[q, 0] - corners[e, k, 0])
                        y = GAUSS_OFFSET * y + (1 - GAUSS_OFFSET) * (points[q, 1] - corners[e, k, 1])
                        z = GAUSS_OFFSET * z + (1 - GAUSS_OFFSET) * (points[q, 2] - corners[e, k, 2])
                    r2 = x * x + y * y + z * z
                    weight = MU0_4PI / (count * r2 * np.sqrt(r2))
                    u, v, w = directions[q, 0], directions[q, 1], directions[q, 2]
                    wx += weight * (y * w - z * v)
                    wy += weight * (z * u - x * w)
                    wz += weight * (x * v - y * u)
            for k in range(4):
                out[coil, elements[e, k]] -= flux[e, k, 0] * wx + flux[e, k, 1] * wy + flux[e, k, 2] * wz


@njit(cache=True, nogil=True)
def add_current_readings(first, last, middle, current, begin, points, directions, owner, gain):  # type: ignore[no-untyped-def]
    """Add to gain (sensor, source, 3) the coils' measurements of the currents (facet, 3, moment) of sources."""
    for s in range(first, last):
        for c in range(begin[s], begin[s + 1]):
            for q in range(len(points)):
                x, y, z = points[q, 0] - middle[c, 0], points[q, 1] - middle[c, 1], points[q, 2] - middle[c, 2]
                square = x * x + y * y + z * z
                weight = MU0_4PI / (square * np.sqrt(square))
                u, v, w = directions[q, 0], directions[q, 1], directions[q, 2]
                wx, wy, wz = weight * (y * w - z * v), weight * (z * u - x * w), weight * (x * v - y * u)
                for m in range(3):
                    gain[owner[q], s, m] -= current[c, 0, m] * wx + current[c, 1, m] * wy + current[c, 2, m] * wz


def coil_points(sensors: Sensors) -> tuple[Array, Array, Index]:
    """Return integration points, directions and owners of the coils, empty where there are none."""
    if sensors.points is None or sensors.directions is None or sensors.owner is None:
        return read_only(np.zeros((0, 3))), read_only(np.zeros((0, 3))), read_only(np.zeros(0, np.int64))
    return read_only(sensors.points), read_only(sensors.directions), read_only(sensors.owner)


def coil_functionals(nodes: Array, elements: Index, tensors: Array, sensors: Sensors) -> Array:
    r"""Return the linear functional (node, sensor) by which each coil measures volume currents of a potential, T/V.

    -mu0/(4 pi) sum over elements of volume (sigma grad phi x d/|d|³) . direction,   d = point - element
    """
    points, directions, owner = coil_points(sensors)
    order = np.argsort(owner, kind="stable")
    start = np.searchsorted(owner[order], np.arange(len(sensors) + 1))
    slope, volume = gradients(nodes, elements)
    flux = slope @ tensors * volume[:, None, None]
    out = np.zeros((len(sensors), len(nodes)))
    shared = (nodes[elements], elements, flux, points[order], directions[order], start, out)
    share_work(_add_flux_readings, len(sensors), *shared)
    return out.T
