"""Integrals of the boundary element method over triangles and pairs of triangles."""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from scipy.sparse import csr_matrix

from bayesinv.axes import Array, Index
from bayesinv.forward.unbounded import MU0_4PI
from bayesinv.geometry.surfaces import Surface

# Gauss points of a triangle in barycentric coordinates; their weights are equal (Strang & Fix 1973).
GAUSS_POINTS = np.array([[4.0, 1.0, 1.0], [1.0, 4.0, 1.0], [1.0, 1.0, 4.0]]) / 6


def mass_matrix(surface: Surface) -> csr_matrix:
    """Return the integrals (vertex, vertex) in m² of products of linear functions."""
    corners = surface.vertices[surface.triangles]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    local = area[:, None, None] * (np.ones((3, 3)) + np.eye(3)) / 12
    rows, columns = np.repeat(surface.triangles, 3, axis=1), np.tile(surface.triangles, (1, 3))
    shape = (len(surface.vertices),) * 2
    return csr_matrix((local.ravel(), (rows.ravel(), columns.ravel())), shape=shape)


def double_layer(target: Surface, origin: Surface, same: bool) -> Array:
    """Return the Galerkin double layer matrix (vertex of target, vertex of origin) in m².

    same : whether the two are one surface; the triangle of a point then has no part in its integral

    From a point on a closed surface its other triangles have a solid angle of exactly 2π, so that a constant potential
    is an exact solution whatever the number of Gauss points.
    """
    corners = target.vertices[target.triangles]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    points = np.einsum("qk,tkc->tqc", GAUSS_POINTS, corners).reshape(-1, 3)
    owner = np.repeat(np.arange(len(corners)), len(GAUSS_POINTS))
    weights = (area[:, None, None] * GAUSS_POINTS[None] / len(GAUSS_POINTS)).reshape(-1, 3)
    matrix = np.zeros((len(target.vertices), len(origin.vertices)))
    step = max(1, 2**24 // len(origin.vertices))
    for start in range(0, len(points), step):
        chunk = slice(start, start + step)
        rows = _double_layer_rows(
            points[chunk], owner[chunk] if same else np.full_like(owner[chunk], -1), origin.vertices, origin.triangles
        )
        tested = target.triangles[owner[chunk]]
        numbers = np.repeat(np.arange(len(rows)), 3)
        shape = (len(target.vertices), len(rows))
        matrix += csr_matrix((weights[chunk].ravel(), (tested.ravel(), numbers)), shape=shape) @ rows
    return matrix


@njit(cache=True, fastmath=True, inline="always")  # type: ignore[untyped-decorator]
def _edge_integral(start: float, end: float, length: float) -> float:
    """Return the integral of 1/R along an edge whose ends are at the distances `start` and `end`."""
    return float(np.log((start + end + length) / (start + end - length)))


@njit(parallel=True, cache=True, fastmath=True)  # type: ignore[untyped-decorator]
def _double_layer_rows(points: Array, own: Index, vertices: Array, triangles: Index) -> Array:
    """Return the exact integrals (point, vertex) of the double layer kernel times the linear functions of a surface.

    own : (point,), the triangle that holds each point, left out because its solid angle is zero, or -1
    Reference: de Munck (1992), IEEE Trans. Biomed. Eng. 39, 986-990.
    """
    rows = np.zeros((len(points), len(vertices)))
    for q in prange(len(points)):
        for t in range(len(triangles)):
            if own[q] == t:
                continue
            i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            ax, ay, az = vertices[i, 0] - points[q, 0], vertices[i, 1] - points[q, 1], vertices[i, 2] - points[q, 2]
            bx, by, bz = vertices[j, 0] - points[q, 0], vertices[j, 1] - points[q, 1], vertices[j, 2] - points[q, 2]
            cx, cy, cz = vertices[k, 0] - points[q, 0], vertices[k, 1] - points[q, 1], vertices[k, 2] - points[q, 2]
            # Edges opposite the corners a, b, c, the normal of twice the area, and the height of the plane.
            ux, uy, uz = cx - bx, cy - by, cz - bz
            vx, vy, vz = ax - cx, ay - cy, az - cz
            wx, wy, wz = bx - ax, by - ay, bz - az
            nx, ny, nz = vy * wz - vz * wy, vz * wx - vx * wz, vx * wy - vy * wx
            twice_area = np.sqrt(nx * nx + ny * ny + nz * nz)
            nx, ny, nz = nx / twice_area, ny / twice_area, nz / twice_area
            h = ax * nx + ay * ny + az * nz
            la, lb, lc = (
                np.sqrt(ax * ax + ay * ay + az * az),
                np.sqrt(bx * bx + by * by + bz * bz),
                np.sqrt(cx * cx + cy * cy + cz * cz),
            )
            denominator = (
                la * lb * lc
                + (ax * bx + ay * by + az * bz) * lc
                + (ax * cx + ay * cy + az * cz) * lb
                + (bx * cx + by * cy + bz * cz) * la
            )
            angle = 2 * np.arctan2(h * twice_area, denominator)
            lu, lv, lw = (
                np.sqrt(ux * ux + uy * uy + uz * uz),
                np.sqrt(vx * vx + vy * vy + vz * vz),
                np.sqrt(wx * wx + wy * wy + wz * wz),
            )
            eu, ev, ew = (
                _edge_integral(lb, lc, lu) / lu,
                _edge_integral(lc, la, lv) / lv,
                _edge_integral(la, lb, lw) / lw,
            )
            # Outward normals of the edges in the plane, times their lengths: the linear function of a corner falls
            # along the one of the opposite edge.
            mux, muy, muz = uy * nz - uz * ny, uz * nx - ux * nz, ux * ny - uy * nx
            mvx, mvy, mvz = vy * nz - vz * ny, vz * nx - vx * nz, vx * ny - vy * nx
            mwx, mwy, mwz = wy * nz - wz * ny, wz * nx - wx * nz, wx * ny - wy * nx
            sx = mux * eu + mvx * ev + mwx * ew
            sy = muy * eu + mvy * ev + mwy * ew
            sz = muz * eu + mvz * ev + mwz * ew
            factor = -1 / (4 * np.pi * twice_area)
            rows[q, i] += factor * ((mux * bx + muy * by + muz * bz) * angle + h * (mux * sx + muy * sy + muz * sz))
            rows[q, j] += factor * ((mvx * cx + mvy * cy + mvz * cz) * angle + h * (mvx * sx + mvy * sy + mvz * sz))
            rows[q, k] += factor * ((mwx * ax + mwy * ay + mwz * az) * angle + h * (mwx * sx + mwy * sy + mwz * sz))
    return rows


@njit(cache=True, fastmath=True)  # type: ignore[untyped-decorator]
def _field_integrals(point: Array, vertices: Array, i: int, j: int, k: int, out: Array) -> None:
    r"""Fill out[corner, axis] with the exact integral of (linear function of the corner) y / |y|^3 over a triangle.

    y is the vector from `point` to the triangle (i, j, k), and out[3] takes the unit normal. The part of y normal to
    the plane gives the double layer; the part in the plane is the gradient of 1/|y| there, which integration by parts
    reduces to the edges and the integral of 1/|y|.
    References: de Munck (1992), IEEE Trans. Biomed. Eng. 39, 986-990; Wilton et al. (1984), IEEE Trans. Antennas
    Propag. 32, 276-281.
    """
    x, y, z = point[0], point[1], point[2]
    ax, ay, az = vertices[i, 0] - x, vertices[i, 1] - y, vertices[i, 2] - z
    bx, by, bz = vertices[j, 0] - x, vertices[j, 1] - y, vertices[j, 2] - z
    cx, cy, cz = vertices[k, 0] - x, vertices[k, 1] - y, vertices[k, 2] - z
    # Edges u, v, w opposite the corners a, b, c.
    ux, uy, uz = cx - bx, cy - by, cz - bz
    vx, vy, vz = ax - cx, ay - cy, az - cz
    wx, wy, wz = bx - ax, by - ay, bz - az
    nx, ny, nz = vy * wz - vz * wy, vz * wx - vx * wz, vx * wy - vy * wx
    twice_area = np.sqrt(nx * nx + ny * ny + nz * nz)
    nx, ny, nz = nx / twice_area, ny / twice_area, nz / twice_area
    h = ax * nx + ay * ny + az * nz
    la = np.sqrt(ax * ax + ay * ay + az * az)
    lb = np.sqrt(bx * bx + by * by + bz * bz)
    lc = np.sqrt(cx * cx + cy * cy + cz * cz)
    ab, bc, ca = ax * bx + ay * by + az * bz, bx * cx + by * cy + bz * cz, cx * ax + cy * ay + cz * az
    angle = 2 * np.arctan2(h * twice_area, la * lb * lc + ab * lc + ca * lb + bc * la)
    squ, sqv, sqw = ux * ux + uy * uy + uz * uz, vx * vx + vy * vy + vz * vz, wx * wx + wy * wy + wz * wz
    lu, lv, lw = np.sqrt(squ), np.sqrt(sqv), np.sqrt(sqw)
    # Integrals over an edge, per length, of 1/|y|, and of that times the linear function of the edge's end.
    eu = np.log((lb + lc + lu) / (lb + lc - lu)) / lu
    ev = np.log((lc + la + lv) / (lc + la - lv)) / lv
    ew = np.log((la + lb + lw) / (la + lb - lw)) / lw
    fu = (lc - lb - (bc - lb * lb) * eu) / squ
    fv = (la - lc - (ca - lc * lc) * ev) / sqv
    fw = (lb - la - (ab - la * la) * ew) / sqw
    # Outward normals of the edges in the plane, times their lengths.
    mux, muy, muz = uy * nz - uz * ny, uz * nx - ux * nz, ux * ny - uy * nx
    mvx, mvy, mvz = vy * nz - vz * ny, vz * nx - vx * nz, vx * ny - vy * nx
    mwx, mwy, mwz = wy * nz - wz * ny, wz * nx - wx * nz, wx * ny - wy * nx
    du, dv, dw = (
        mux * bx + muy * by + muz * bz,
        mvx * cx + mvy * cy + mvz * cz,
        mwx * ax + mwy * ay + mwz * az,
    )
    sx, sy, sz = mux * eu + mvx * ev + mwx * ew, muy * eu + mvy * ev + mwy * ew, muz * eu + mvz * ev + mwz * ew
    tangential_part = (du * eu + dv * ev + dw * ew - h * angle) / twice_area
    normal_part = (du * angle + h * (mux * sx + muy * sy + muz * sz)) / twice_area
    out[0, 0] = nx * normal_part - mwx * (ew - fw) - mvx * fv - mux * tangential_part
    out[0, 1] = ny * normal_part - mwy * (ew - fw) - mvy * fv - muy * tangential_part
    out[0, 2] = nz * normal_part - mwz * (ew - fw) - mvz * fv - muz * tangential_part
    normal_part = (dv * angle + h * (mvx * sx + mvy * sy + mvz * sz)) / twice_area
    out[1, 0] = nx * normal_part - mux * (eu - fu) - mwx * fw - mvx * tangential_part
    out[1, 1] = ny * normal_part - muy * (eu - fu) - mwy * fw - mvy * tangential_part
    out[1, 2] = nz * normal_part - muz * (eu - fu) - mwz * fw - mvz * tangential_part
    normal_part = (dw * angle + h * (mwx * sx + mwy * sy + mwz * sz)) / twice_area
    out[2, 0] = nx * normal_part - mvx * (ev - fv) - mux * fu - mwx * tangential_part
    out[2, 1] = ny * normal_part - mvy * (ev - fv) - muy * fu - mwy * tangential_part
    out[2, 2] = nz * normal_part - mvz * (ev - fv) - muz * fu - mwz * tangential_part
    out[3, 0], out[3, 1], out[3, 2] = nx, ny, nz


def dipole_loads(positions: Array, vertices: Array, triangles: Index) -> Array:
    """Return exact integrals (vertex, source, axis) of the unbounded potential of unit dipoles times conductivity."""
    loads = np.zeros((len(positions), len(vertices), 3))
    _add_loads(positions, vertices, triangles, loads)
    return loads.transpose(1, 0, 2) / (4 * np.pi)


@njit(parallel=True, cache=True)  # type: ignore[untyped-decorator]
def _add_loads(positions: Array, vertices: Array, triangles: Index, loads: Array) -> None:
    """Add to loads (source, vertex, axis) the integrals of the potential times 4 pi conductivity."""
    for s in prange(len(positions)):
        integrals = np.empty((4, 3))
        for t in range(len(triangles)):
            i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            _field_integrals(positions[s], vertices, i, j, k, integrals)
            for axis in range(3):
                loads[s, i, axis] += integrals[0, axis]
                loads[s, j, axis] += integrals[1, axis]
                loads[s, k, axis] += integrals[2, axis]


@njit(parallel=True, cache=True)  # type: ignore[untyped-decorator]
def add_volume_field(
    points: Array, directions: Array, owner: Index, vertices: Array, triangles: Index, field: Array
) -> None:
    r"""Add to field (sensor, vertex) the exact field at coils of a unit conductivity jump times a linear potential.

        mu0 / (4 pi) direction . integral of (function of the vertex) normal x (point - y) / |point - y|^3
    Reference: Geselowitz (1970), IEEE Trans. Magn. 6, 346-347.
    """
    for sensor in prange(len(field)):
        integrals = np.empty((4, 3))
        for p in range(len(points)):
            if owner[p] != sensor:
                continue
            u, v, w = directions[p, 0], directions[p, 1], directions[p, 2]
            for t in range(len(triangles)):
                i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                _field_integrals(points[p], vertices, i, j, k, integrals)
                # direction . (n x (point - y)) = (n x direction) . (y - point)
                nx, ny, nz = integrals[3, 0], integrals[3, 1], integrals[3, 2]
                x, y, z = ny * w - nz * v, nz * u - nx * w, nx * v - ny * u
                field[sensor, i] += MU0_4PI * (x * integrals[0, 0] + y * integrals[0, 1] + z * integrals[0, 2])
                field[sensor, j] += MU0_4PI * (x * integrals[1, 0] + y * integrals[1, 1] + z * integrals[1, 2])
                field[sensor, k] += MU0_4PI * (x * integrals[2, 0] + y * integrals[2, 1] + z * integrals[2, 2])
