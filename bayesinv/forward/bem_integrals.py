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
# Where an edge's length over the distances to its ends, or the tangent of half a solid angle, is below this, their
# functions are series of eight terms, a few times faster than the library's.
FAR = 0.1
SIDE_BY_SIDE = 32  # points that a processor takes together


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


def _double_layer_rows(points: Array, own: Index, vertices: Array, triangles: Index) -> Array:
    """Return the exact integrals (point, vertex) of the double layer kernel times the linear functions of a surface.

    own : (point,), the triangle that holds each point, left out because its solid angle is zero, or -1
    """
    corners = vertices[triangles]
    sides = corners[:, [2, 0, 1]] - corners[:, [1, 2, 0]]  # opposite the corners
    normals = np.cross(sides[:, 1], sides[:, 2])
    twice_area = np.linalg.norm(normals, axis=1)
    normals /= twice_area[:, None]
    # The linear function of a corner falls along the outward normal of the opposite edge.
    slopes = np.cross(sides[:, :2], normals[:, None]) / twice_area[:, None, None]
    cotangents = -np.einsum("tkc,tkc->tk", sides[:, [1, 2, 0]], sides[:, [2, 0, 1]], order="C") / twice_area[:, None]
    ends = np.sort(triangles[:, [[1, 2], [2, 0], [0, 1]]].reshape(-1, 2), axis=1)
    keys, opposite = np.unique(ends[:, 0] * len(vertices) + ends[:, 1], return_inverse=True)
    edges = np.column_stack(np.divmod(keys, len(vertices)))
    lengths = np.linalg.norm(vertices[edges[:, 1]] - vertices[edges[:, 0]], axis=1)
    rows = np.zeros((len(points), len(vertices)))
    _add_double_layer(
        points,
        own,
        vertices,
        edges,
        lengths,
        triangles,
        opposite.reshape(-1, 3),
        normals,
        slopes,
        cotangents,
        np.einsum("tkc,tkc->tk", sides, sides, order="C"),
        twice_area,
        rows,
    )
    return rows


@njit(cache=True, fastmath=True, error_model="numpy", inline="always")  # type: ignore[untyped-decorator]
def _series(square: float) -> float:
    """Return artanh(x) / x at x² = square, or arctan(x) / x at x² = -square, for x up to FAR.

    The first term left out is FAR^16 / 17 < 1e-17. Terms are paired (Estrin) so that they need not wait for each other.
    """
    fourth = square * square
    low = (1 + square / 3) + fourth * (1 / 5 + square / 7)
    high = (1 / 9 + square / 11) + fourth * (1 / 13 + square / 15)
    return low + fourth * fourth * high


@njit(cache=True, fastmath=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _along_edges(x: Array, y: Array, z: Array, vertices: Array, edges: Index, lengths: Array) -> tuple[Array, Array]:
    """Return the distances (vertex, point) of points from vertices, and the integrals (edge, point) of 1/R along
    edges, over their lengths."""
    distances = np.empty((len(vertices), len(x)))
    for v in range(len(vertices)):
        far, px, py, pz = distances[v], vertices[v, 0], vertices[v, 1], vertices[v, 2]
        for q in range(len(x)):
            far[q] = np.sqrt((px - x[q]) ** 2 + (py - y[q]) ** 2 + (pz - z[q]) ** 2)
    integrals = np.empty((len(edges), len(x)))
    for e in range(len(edges)):
        begin, end, length, integral = distances[edges[e, 0]], distances[edges[e, 1]], lengths[e], integrals[e]
        for q in range(len(x)):
            inverse = 1 / (begin[q] + end[q])
            integral[q] = 2 * inverse * _series((length * inverse) ** 2)
        least = np.inf
        for q in range(len(x)):
            way = begin[q] + end[q]
            least = way if way < least else least
        if length >= FAR * least:
            for q in range(len(x)):
                way = begin[q] + end[q]
                if length >= FAR * way:
                    integral[q] = np.log((way + length) / (way - length)) / length
    return distances, integrals


@njit(cache=True, fastmath=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _angles(heights: Array, area: float, squares: Array, a: Array, b: Array, c: Array, own: Index, t: int) -> Array:
    """Return the solid angle (point,) of triangle t, of twice the area `area`, at points from whose corners they are
    the distances a, b, c away; zero, and so is the height, where it is their own."""
    denominators, angles = np.empty(len(a)), np.empty(len(a))
    i, j, k = squares[0], squares[1], squares[2]
    for q in range(len(a)):
        # The products of vectors to the corners follow from the law of cosines.
        u, v, w = a[q], b[q], c[q]
        denominators[q] = (
            u * v * w + (u * u + v * v - k) * w / 2 + (v * v + w * w - i) * u / 2 + (w * w + u * u - j) * v / 2
        )
    for q in range(len(a)):
        tangent = heights[q] * area / denominators[q]
        angles[q] = 2 * tangent * _series(-tangent * tangent)
    least = np.inf
    for q in range(len(a)):
        excess = FAR * denominators[q] - abs(heights[q]) * area
        least = excess if excess < least else least
    if least <= 0:
        for q in range(len(a)):
            if own[q] == t:
                angles[q] = heights[q] = 0.0
            elif abs(heights[q]) * area >= FAR * denominators[q]:
                angles[q] = 2 * np.arctan2(heights[q] * area, denominators[q])
    return angles


@njit(parallel=True, cache=True, fastmath=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _add_double_layer(
    points: Array,
    own: Index,
    vertices: Array,
    edges: Index,
    lengths: Array,
    triangles: Index,
    opposite: Index,
    normals: Array,
    slopes: Array,
    cotangents: Array,
    squares: Array,
    twice_area: Array,
    rows: Array,
) -> None:
    r"""Add to rows (point, vertex) the double layer integrals, which are -1 / (4 pi) times

        function_i(x) angle - h sum over edges of (gradient_i . outward normal of the edge) integral of 1/R
    with the solid angle of a triangle seen from the point x, the height h of its plane above x, and function_i, one
    at corner i, extended to x. Distances to vertices and integrals along edges, which triangles share, are worked out
    once per point. Points are taken side by side, and every loop over them writes one array only, or the compiler
    would make no vector instructions of it.

    edges : (edge, 2), each once; opposite : (triangle, corner), the edge opposite each corner, its length squared in
    squares; slopes : (triangle, 2, axis), minus the gradients of the functions of the first two corners, 1/m
    Reference: de Munck (1992), IEEE Trans. Biomed. Eng. 39, 986-990.
    """
    for block in prange(-(-len(points) // SIDE_BY_SIDE)):
        first, last = block * SIDE_BY_SIDE, min((block + 1) * SIDE_BY_SIDE, len(points))
        x, y, z = points[first:last, 0].copy(), points[first:last, 1].copy(), points[first:last, 2].copy()
        distances, integrals = _along_edges(x, y, z, vertices, edges, lengths)
        h, at_i, at_j = np.empty(len(x)), np.empty(len(x)), np.empty(len(x))
        total = np.zeros((len(vertices), len(x)))
        for t in range(len(triangles)):
            i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            cx, cy, cz = vertices[k, 0], vertices[k, 1], vertices[k, 2]
            nx, ny, nz = normals[t, 0], normals[t, 1], normals[t, 2]
            for q in range(len(x)):
                h[q] = nx * (cx - x[q]) + ny * (cy - y[q]) + nz * (cz - z[q])
            angle = _angles(h, twice_area[t], squares[t], distances[i], distances[j], distances[k], own[first:last], t)
            sx, sy, sz = slopes[t, 0, 0], slopes[t, 0, 1], slopes[t, 0, 2]
            for q in range(len(x)):
                at_i[q] = sx * (cx - x[q]) + sy * (cy - y[q]) + sz * (cz - z[q])
            sx, sy, sz = slopes[t, 1, 0], slopes[t, 1, 1], slopes[t, 1, 2]
            for q in range(len(x)):
                at_j[q] = sx * (cx - x[q]) + sy * (cy - y[q]) + sz * (cz - z[q])
            u, v, w = integrals[opposite[t, 0]], integrals[opposite[t, 1]], integrals[opposite[t, 2]]
            cu, cv, cw = cotangents[t, 0], cotangents[t, 1], cotangents[t, 2]
            here = total[i]
            for q in range(len(x)):
                here[q] += at_i[q] * angle[q] + h[q] * (cw * (u[q] - v[q]) - cv * (w[q] - u[q]))
            here = total[j]
            for q in range(len(x)):
                here[q] += at_j[q] * angle[q] + h[q] * (cu * (v[q] - w[q]) - cw * (u[q] - v[q]))
            here = total[k]
            for q in range(len(x)):
                rest = 1 - at_i[q] - at_j[q]
                here[q] += rest * angle[q] + h[q] * (cv * (w[q] - u[q]) - cu * (v[q] - w[q]))
        for q in range(len(x)):
            for m in range(len(vertices)):
                rows[first + q, m] -= total[m, q] / (4 * np.pi)


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
