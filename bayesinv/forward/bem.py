"""Nested surfaces: the linear Galerkin boundary element method with the isolated-skull approach."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import numpy as np
from numba import njit, prange
from scipy.linalg import lu_factor, lu_solve
from scipy.sparse import csr_matrix

from bayesinv.axes import Array, Index, one_of
from bayesinv.forward.leadfield import LeadField
from bayesinv.forward.unbounded import MU0_4PI, primary_field
from bayesinv.geometry.surfaces import Surface, inside
from bayesinv.head.head import Conductivity, Head, check_sources, check_surfaces
from bayesinv.head.sensors import Sensors, footing
from bayesinv.head.sources import Sources

MINIMUM_DISTANCE = 5e-4  # m
# The isolated problem pays where a layer conducts this much worse than what it encloses.
SHIELD = 0.2
# Gauss points of a triangle: weights of the corners; all points count alike (Strang & Fix 1973).
POINTS = np.array([[4.0, 1.0, 1.0], [1.0, 4.0, 1.0], [1.0, 1.0, 4.0]]) / 6


def lead_field(
    head: Head,
    sensors: Sensors,
    sources: Sources,
    *,
    solver: str = "galerkin",
    minimum_distance: float = MINIMUM_DISTANCE,
) -> LeadField:
    """Return the gain of electrodes and coils for a head of nested closed surfaces.

    solver : "galerkin" (this library's own), or "openmeeg" where that package is installed
    minimum_distance : of sources from the innermost surface, m

    Raises
    ------
    ValueError
        As `Bem` and `Bem.lead_field` do.
    ImportError
        If OpenMEEG is wanted and not installed.
    """
    if one_of("solver", solver, ("galerkin", "openmeeg")) == "openmeeg":
        return _openmeeg(head, sensors, sources, minimum_distance)
    return Bem(head).lead_field(sensors, sources, minimum_distance=minimum_distance)


@dataclass(frozen=True, eq=False)
class Bem:
    r"""A head whose boundary element matrix is factorised once, for any sensors and sources.

    On every surface k the potential V, linear on triangles, obeys

        (inner_k + outer_k)/2 V_k + sum_l (inner_l - outer_l) K_kl V_l = V_unbounded

    with K the double layer operator, both sides integrated against the linear functions of surface k (Galerkin).
    Integrals over the inner triangle are exact, also those of sources and coils; the outer one takes three points.
    If a layer conducts much worse than what it encloses, such as the skull, electrodes read through the potential
    of the isolated inside, solved first and taken as a part of the whole (Hamalainen & Sarvas 1989). The mean
    potential over the outermost surface is zero.

    head : with `surfaces`, and one isotropic conductivity per compartment

    Raises
    ------
    ValueError
        If the surfaces are not closed, nested, apart and in metres (`check_surfaces`), a conductivity is not
        isotropic, or the matrix does not fit into memory.

    References
    ----------
    Hamalainen & Sarvas (1989), IEEE Trans. Biomed. Eng. 36, 165-171; Mosher, Leahy & Lewis (1999), IEEE Trans.
    Biomed. Eng. 46, 245-259; Stenroos & Sarvas (2012), Phys. Med. Biol. 57, 3517-3535.
    """

    head: Head
    _parts: _Parts = field(init=False, repr=False)

    def __post_init__(self) -> None:
        head = check_surfaces(self.head)
        object.__setattr__(self, "head", head)
        object.__setattr__(self, "_parts", _factorised(head))

    def lead_field(
        self, sensors: Sensors, sources: Sources, *, minimum_distance: float = MINIMUM_DISTANCE
    ) -> LeadField:
        """Return the gain of `sensors` for `sources`; electrodes are moved to the closest point of the scalp.

        minimum_distance : of sources from the innermost surface, m

        Raises
        ------
        ValueError
            If a source is outside the innermost surface or too close to it, an electrode is far from the scalp, or
            a coil is inside the head.
        """
        check_sources(self.head, sources.positions, minimum_distance)
        transfer = self._transfer(sensors)
        gain = np.empty((len(sensors), len(sources), 3))
        stops = np.cumsum([len(s.vertices) for s in self.head.surfaces])
        # Where there are electrodes only, an isolated inside takes all of the load.
        loaded = self._parts.shield + 1 if len(sensors.where("eeg")) == len(sensors) else len(stops)
        weights = np.split(transfer, stops[:-1], axis=1)[:loaded]
        for start in range(0, len(sources), 512):
            places = np.ascontiguousarray(sources.positions[start : start + 512])
            part = np.zeros((len(sensors), len(places) * 3))
            for surface, weight in zip(self.head.surfaces, weights, strict=False):
                loads = _dipole_loads(places, surface.vertices, surface.triangles)
                part += weight @ loads.reshape(weight.shape[1], -1)
            gain[:, start : start + 512] = part.reshape(len(sensors), -1, 3)
        if sensors.points is not None and sensors.directions is not None and sensors.owner is not None:
            gain += primary_field(sources.positions, sensors.points, sensors.directions, sensors.owner, len(sensors))
        head = self.head
        solver = "boundary elements, linear Galerkin"
        if self._parts.inner is not None:
            solver += f", isolated from {head.names[self._parts.shield + 1]}"
        notes = {"solver": solver, **_description(head, minimum_distance)}
        return LeadField(gain, sensors, sources, notes=notes)

    def _transfer(self, sensors: Sensors) -> Array:
        """Return the matrix (sensor, vertex of all surfaces) from the loads to the sensors' readings.

        Electrodes read through the isolated inside, where there is one: what is left of the potential outside of a
        poor conductor is a small difference otherwise. Coils read all surfaces at once: for them the potential of
        the inside counts as it is, and isolating it only adds the error of one more solution.
        """
        head, parts = self.head, self._parts
        starts = np.cumsum([0, *(len(s.vertices) for s in head.surfaces)])
        reading = np.zeros((len(sensors), starts[-1]))
        electric, scalp = sensors.where("eeg"), head.surfaces[-1]
        triangle, weights = footing(sensors, scalp)
        for corner in range(3):
            reading[electric, starts[-2] + scalp.triangles[triangle, corner]] += weights[:, corner]
        if sensors.points is not None and sensors.directions is not None and sensors.owner is not None:
            _check_outside(sensors, scalp)
            for surface, start, stop, step in zip(head.surfaces, starts, starts[1:], parts.steps, strict=False):
                volume = np.zeros((len(sensors), stop - start))
                _add_volume_field(
                    np.ascontiguousarray(sensors.points),
                    sensors.directions,
                    sensors.owner,
                    surface.vertices,
                    surface.triangles,
                    volume,
                )
                reading[:, start:stop] -= step * volume
        transfer = np.asarray(lu_solve(parts.whole, reading.T).T)
        if parts.inner is not None and parts.coupling is not None and len(electric):
            first, end = starts[parts.shield], starts[parts.shield + 1]
            through = reading[electric, :end]
            through[:, first:] += transfer[electric] @ parts.coupling
            transfer[electric] = 0.0
            transfer[electric, :end] = lu_solve(parts.inner, through.T).T
        return transfer


@dataclass(frozen=True, eq=False)
class _Parts:
    """What a head keeps of its factorisation.

    whole : LU of the transposed matrix of all surfaces
    inner : LU of the transposed matrix of the isolated surfaces, or None
    coupling : (vertex of all, vertex of the shielding surface), what the isolated potential adds to the load
    shield : number of the outermost surface that takes a load from sources
    steps : (surface,), conductivity inside minus outside, S/m
    """

    whole: tuple[Array, Index]
    inner: tuple[Array, Index] | None
    coupling: Array | None
    shield: int
    steps: Array


def _description(head: Head, minimum_distance: float) -> dict[str, str]:
    """Return notes on what the gain was made of."""
    shapes = zip(head.names, head.surfaces, strict=True)
    values = zip(head.names, head.conductivities, strict=True)
    return {
        "mesh": ", ".join(f"{name} {len(s.vertices)} vertices" for name, s in shapes),
        "conductivities": ", ".join(f"{name} {value} S/m" for name, value in values),
        "minimum distance": f"{1e3 * minimum_distance:g} mm",
    }


def _isotropic(name: str, value: Conductivity) -> float:
    """Return the conductivity of a compartment as one number, or raise."""
    radial, tangential = value if isinstance(value, tuple) else (value, value)
    if radial != tangential:
        raise ValueError(
            f"conductivity of {name} is {value}, but boundary elements want one number per compartment; "
            "for a radial and a tangential one use spheres or finite elements"
        )
    return float(radial)


def _check_outside(sensors: Sensors, scalp: Surface) -> None:
    """Raise if a coil has a point inside the head."""
    if sensors.points is None or sensors.owner is None:
        return
    within = inside(scalp, sensors.points)
    if within.any():
        names = list(dict.fromkeys(sensors.names[i] for i in sensors.owner[within]))
        raise ValueError(
            f"{len(names)} coils are inside the head: {', '.join(names[:5])}; "
            "check that head and sensors share one coordinate frame, in metres"
        )


def _factorised(head: Head) -> _Parts:
    """Assemble and factorise the matrices of a checked head."""
    surfaces = head.surfaces
    inner = np.array([_isotropic(name, c) for name, c in zip(head.names, head.conductivities, strict=True)])
    outer = np.append(inner[1:], 0.0)
    sizes = [len(s.vertices) for s in surfaces]
    starts = np.cumsum([0, *sizes])
    _check_memory(int(starts[-1]))
    poor = np.flatnonzero(inner[1:] < SHIELD * np.minimum.accumulate(inner)[:-1])
    shield = int(poor[0]) if len(poor) else len(surfaces) - 1
    masses = [_mass(s) for s in surfaces]
    matrix = np.zeros((starts[-1], starts[-1]))
    coupling = np.zeros((starts[-1], sizes[shield])) if len(poor) else None
    for k, target in enumerate(surfaces):
        for m, origin in enumerate(surfaces):
            block = _double_layer(target, origin, k == m)
            rows = slice(starts[k], starts[k + 1])
            if coupling is not None and m == shield:
                coupling[rows] = outer[shield] * block
                if k == m:
                    coupling[rows] -= 0.5 * outer[shield] * masses[k].toarray()
            block *= inner[m] - outer[m]
            if k == m:
                block += 0.5 * (inner[k] + outer[k]) * masses[k].toarray()
            matrix[rows, starts[m] : starts[m + 1]] = block
    areas = [np.asarray(m.sum(axis=1)).ravel() for m in masses]
    small = None
    if coupling is not None:
        end = starts[shield + 1]
        alone = matrix[:end, :end].copy()
        # Nothing conducts outside the shield: its own column changes from (inner - outer) K + (inner + outer)/2 M
        # to inner K + inner/2 M.
        alone[:, starts[shield] :] += coupling[:end]
        small = lu_factor(_grounded(alone, areas[: shield + 1]).T, overwrite_a=True, check_finite=False)
    # Only transposed systems are solved; the transpose is in the order that LAPACK factorises in place.
    whole = lu_factor(_grounded(matrix, areas).T, overwrite_a=True, check_finite=False)
    return _Parts(whole, small, coupling, shield, inner - outer)


def _grounded(matrix: Array, areas: list[Array]) -> Array:
    """Return the matrix with the mean potential over its outermost surface tied to zero (in place).

    A constant potential solves the equation without a source; the rank-one term removes just that solution.
    """
    last = len(matrix) - len(areas[-1])
    scale = np.abs(np.diagonal(matrix)).mean() / (np.concatenate(areas).mean() * areas[-1].sum())
    matrix[:, last:] += scale * np.outer(np.concatenate(areas), areas[-1]) * len(areas[-1])
    return matrix


def _check_memory(vertices: int) -> None:
    """Raise if the matrices of so many vertices do not fit into memory."""
    wanted = 2.2 * 8 * vertices**2 / 1e9
    try:
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    except (AttributeError, ValueError, OSError):  # not every system tells
        return
    if wanted > there:
        raise ValueError(
            f"boundary elements with {vertices} vertices want about {wanted:.1f} GB of memory, but there are "
            f"{there:.1f} GB; use surfaces of fewer vertices, or finite elements"
        )


def _mass(surface: Surface) -> csr_matrix:
    """Return the integrals (vertex, vertex) in m² of products of linear functions."""
    corners = surface.vertices[surface.triangles]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    local = area[:, None, None] * (np.ones((3, 3)) + np.eye(3)) / 12
    rows, columns = np.repeat(surface.triangles, 3, axis=1), np.tile(surface.triangles, (1, 3))
    shape = (len(surface.vertices),) * 2
    return csr_matrix((local.ravel(), (rows.ravel(), columns.ravel())), shape=shape)


def _double_layer(target: Surface, origin: Surface, same: bool) -> Array:
    """Return the Galerkin double layer matrix (vertex of target, vertex of origin) in m².

    From a point of a triangle the others of a closed surface fill exactly half the full angle, so that a constant
    potential stays an exact solution however few points the outer rule has.
    """
    corners = target.vertices[target.triangles]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    places = np.einsum("qk,tkc->tqc", POINTS, corners).reshape(-1, 3)
    owner = np.repeat(np.arange(len(corners)), len(POINTS))
    weights = (area[:, None, None] * POINTS[None] / len(POINTS)).reshape(-1, 3)
    matrix = np.zeros((len(target.vertices), len(origin.vertices)))
    step = max(1, 2**24 // len(origin.vertices))
    for start in range(0, len(places), step):
        mine = slice(start, start + step)
        rows = _double_layer_rows(
            places[mine], owner[mine] if same else np.full_like(owner[mine], -1), origin.vertices, origin.triangles
        )
        tested = target.triangles[owner[mine]]
        numbers = np.repeat(np.arange(len(rows)), 3)
        shape = (len(target.vertices), len(rows))
        matrix += csr_matrix((weights[mine].ravel(), (tested.ravel(), numbers)), shape=shape) @ rows
    return matrix


@njit(cache=True, fastmath=True, inline="always")  # type: ignore[untyped-decorator]
def _edge(near: float, far: float, length: float) -> float:
    """Integral of 1/R along an edge whose ends are at the distances `near` and `far`."""
    return float(np.log((near + far + length) / (near + far - length)))


@njit(parallel=True, cache=True, fastmath=True)  # type: ignore[untyped-decorator]
def _double_layer_rows(places: Array, own: Index, vertices: Array, triangles: Index) -> Array:
    """Integrals (place, vertex) of the double layer kernel times the linear functions of a surface, exact.

    The triangle `own` of a place is left out: its plane holds the place.
    Reference: de Munck (1992), IEEE Trans. Biomed. Eng. 39, 986-990.
    """
    rows = np.zeros((len(places), len(vertices)))
    for q in prange(len(places)):
        for t in range(len(triangles)):
            if own[q] == t:
                continue
            i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            ax, ay, az = vertices[i, 0] - places[q, 0], vertices[i, 1] - places[q, 1], vertices[i, 2] - places[q, 2]
            bx, by, bz = vertices[j, 0] - places[q, 0], vertices[j, 1] - places[q, 1], vertices[j, 2] - places[q, 2]
            cx, cy, cz = vertices[k, 0] - places[q, 0], vertices[k, 1] - places[q, 1], vertices[k, 2] - places[q, 2]
            # Edges opposite the corners a, b, c, the normal of twice the area, and the height of the plane.
            ux, uy, uz = cx - bx, cy - by, cz - bz
            vx, vy, vz = ax - cx, ay - cy, az - cz
            wx, wy, wz = bx - ax, by - ay, bz - az
            nx, ny, nz = vy * wz - vz * wy, vz * wx - vx * wz, vx * wy - vy * wx
            double = np.sqrt(nx * nx + ny * ny + nz * nz)
            nx, ny, nz = nx / double, ny / double, nz / double
            h = ax * nx + ay * ny + az * nz
            la, lb, lc = (
                np.sqrt(ax * ax + ay * ay + az * az),
                np.sqrt(bx * bx + by * by + bz * bz),
                np.sqrt(cx * cx + cy * cy + cz * cz),
            )
            below = (
                la * lb * lc
                + (ax * bx + ay * by + az * bz) * lc
                + (ax * cx + ay * cy + az * cz) * lb
                + (bx * cx + by * cy + bz * cz) * la
            )
            angle = 2 * np.arctan2(h * double, below)
            lu, lv, lw = (
                np.sqrt(ux * ux + uy * uy + uz * uz),
                np.sqrt(vx * vx + vy * vy + vz * vz),
                np.sqrt(wx * wx + wy * wy + wz * wz),
            )
            eu, ev, ew = _edge(lb, lc, lu) / lu, _edge(lc, la, lv) / lv, _edge(la, lb, lw) / lw
            # Outward normals of the edges in the plane, times their lengths: the linear function of a corner falls
            # along the one of the opposite edge.
            mux, muy, muz = uy * nz - uz * ny, uz * nx - ux * nz, ux * ny - uy * nx
            mvx, mvy, mvz = vy * nz - vz * ny, vz * nx - vx * nz, vx * ny - vy * nx
            mwx, mwy, mwz = wy * nz - wz * ny, wz * nx - wx * nz, wx * ny - wy * nx
            sx = mux * eu + mvx * ev + mwx * ew
            sy = muy * eu + mvy * ev + mwy * ew
            sz = muz * eu + mvz * ev + mwz * ew
            factor = -1 / (4 * np.pi * double)
            rows[q, i] += factor * ((mux * bx + muy * by + muz * bz) * angle + h * (mux * sx + muy * sy + muz * sz))
            rows[q, j] += factor * ((mvx * cx + mvy * cy + mvz * cz) * angle + h * (mvx * sx + mvy * sy + mvz * sz))
            rows[q, k] += factor * ((mwx * ax + mwy * ay + mwz * az) * angle + h * (mwx * sx + mwy * sy + mwz * sz))
    return rows


@njit(cache=True, fastmath=True)  # type: ignore[untyped-decorator]
def _pull(place: Array, vertices: Array, i: int, j: int, k: int, pull: Array) -> None:
    r"""Fill pull[corner, axis] with the integral of (linear function of the corner) y / |y|^3 over a triangle.

    y leads from `place` to the triangle (i, j, k), and pull[3] takes the unit normal. Exact: the part of y normal
    to the plane is the double layer; the part in the plane is the gradient of 1/|y| there, and goes by parts to
    the edges and to the integral of 1/|y|.
    References: de Munck (1992), IEEE Trans. Biomed. Eng. 39, 986-990; Wilton et al. (1984), IEEE Trans. Antennas
    Propag. 32, 276-281.
    """
    x, y, z = place[0], place[1], place[2]
    ax, ay, az = vertices[i, 0] - x, vertices[i, 1] - y, vertices[i, 2] - z
    bx, by, bz = vertices[j, 0] - x, vertices[j, 1] - y, vertices[j, 2] - z
    cx, cy, cz = vertices[k, 0] - x, vertices[k, 1] - y, vertices[k, 2] - z
    # Edges u, v, w opposite the corners a, b, c.
    ux, uy, uz = cx - bx, cy - by, cz - bz
    vx, vy, vz = ax - cx, ay - cy, az - cz
    wx, wy, wz = bx - ax, by - ay, bz - az
    nx, ny, nz = vy * wz - vz * wy, vz * wx - vx * wz, vx * wy - vy * wx
    double = np.sqrt(nx * nx + ny * ny + nz * nz)
    nx, ny, nz = nx / double, ny / double, nz / double
    h = ax * nx + ay * ny + az * nz
    la = np.sqrt(ax * ax + ay * ay + az * az)
    lb = np.sqrt(bx * bx + by * by + bz * bz)
    lc = np.sqrt(cx * cx + cy * cy + cz * cz)
    ab, bc, ca = ax * bx + ay * by + az * bz, bx * cx + by * cy + bz * cz, cx * ax + cy * ay + cz * az
    angle = 2 * np.arctan2(h * double, la * lb * lc + ab * lc + ca * lb + bc * la)
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
    flat = (du * eu + dv * ev + dw * ew - h * angle) / double
    over = (du * angle + h * (mux * sx + muy * sy + muz * sz)) / double
    pull[0, 0] = nx * over - mwx * (ew - fw) - mvx * fv - mux * flat
    pull[0, 1] = ny * over - mwy * (ew - fw) - mvy * fv - muy * flat
    pull[0, 2] = nz * over - mwz * (ew - fw) - mvz * fv - muz * flat
    over = (dv * angle + h * (mvx * sx + mvy * sy + mvz * sz)) / double
    pull[1, 0] = nx * over - mux * (eu - fu) - mwx * fw - mvx * flat
    pull[1, 1] = ny * over - muy * (eu - fu) - mwy * fw - mvy * flat
    pull[1, 2] = nz * over - muz * (eu - fu) - mwz * fw - mvz * flat
    over = (dw * angle + h * (mwx * sx + mwy * sy + mwz * sz)) / double
    pull[2, 0] = nx * over - mvx * (ev - fv) - mux * fu - mwx * flat
    pull[2, 1] = ny * over - mvy * (ev - fv) - muy * fu - mwy * flat
    pull[2, 2] = nz * over - mvz * (ev - fv) - muz * fu - mwz * flat
    pull[3, 0], pull[3, 1], pull[3, 2] = nx, ny, nz


@njit(parallel=True, cache=True)  # type: ignore[untyped-decorator]
def _dipole_loads(places: Array, vertices: Array, triangles: Index) -> Array:
    """Integrals (vertex, source, axis) of the unbounded potential of unit dipoles, times the conductivity, exact."""
    loads = np.zeros((len(places), len(vertices), 3))
    for s in prange(len(places)):
        pull = np.empty((4, 3))
        for t in range(len(triangles)):
            i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
            _pull(places[s], vertices, i, j, k, pull)
            for axis in range(3):
                loads[s, i, axis] += pull[0, axis]
                loads[s, j, axis] += pull[1, axis]
                loads[s, k, axis] += pull[2, axis]
    return loads.transpose(1, 0, 2) / (4 * np.pi)


@njit(parallel=True, cache=True)  # type: ignore[untyped-decorator]
def _add_volume_field(
    points: Array, directions: Array, owner: Index, vertices: Array, triangles: Index, field: Array
) -> None:
    r"""Add to field (sensor, vertex) what coils read of a unit step of conductivity times a linear potential, exact.

        mu0 / (4 pi) direction . integral of (function of the vertex) normal x (point - y) / |point - y|^3
    Reference: Geselowitz (1970), IEEE Trans. Magn. 6, 346-347.
    """
    for sensor in prange(len(field)):
        pull = np.empty((4, 3))
        for p in range(len(points)):
            if owner[p] != sensor:
                continue
            u, v, w = directions[p, 0], directions[p, 1], directions[p, 2]
            for t in range(len(triangles)):
                i, j, k = triangles[t, 0], triangles[t, 1], triangles[t, 2]
                _pull(points[p], vertices, i, j, k, pull)
                # direction . (n x (point - y)) = (n x direction) . (y - point)
                nx, ny, nz = pull[3, 0], pull[3, 1], pull[3, 2]
                x, y, z = ny * w - nz * v, nz * u - nx * w, nx * v - ny * u
                field[sensor, i] += MU0_4PI * (x * pull[0, 0] + y * pull[0, 1] + z * pull[0, 2])
                field[sensor, j] += MU0_4PI * (x * pull[1, 0] + y * pull[1, 1] + z * pull[1, 2])
                field[sensor, k] += MU0_4PI * (x * pull[2, 0] + y * pull[2, 1] + z * pull[2, 2])


def _openmeeg(head: Head, sensors: Sensors, sources: Sources, minimum_distance: float) -> LeadField:
    """Return the gain by OpenMEEG's symmetric boundary element method (Kybic et al. 2005, IEEE TMI 24, 12-28)."""
    try:
        import openmeeg
    except ImportError as error:
        raise ImportError(
            "solver='openmeeg' wants OpenMEEG: pip install openmeeg, or take solver='galerkin'"
        ) from error
    head = check_surfaces(head)
    check_sources(head, sources.positions, minimum_distance)
    footing(sensors, head.surfaces[-1])
    _check_outside(sensors, head.surfaces[-1])
    if len(head.surfaces) not in (1, 3):
        raise ValueError(f"OpenMEEG takes heads of 1 or 3 surfaces, but this one has {len(head.surfaces)}")
    conductivities = [_isotropic(name, c) for name, c in zip(head.names, head.conductivities, strict=True)]
    # OpenMEEG wants triangles turned the other way, and says nothing but flips the sign of the potential if not.
    meshes = [(np.array(s.vertices), s.triangles[:, ::-1].copy()) for s in head.surfaces]
    geometry = openmeeg.make_nested_geometry(meshes, conductivity=conductivities)
    moments = np.tile(np.eye(3), (len(sources), 1))
    dipoles = openmeeg.Matrix(np.asfortranarray(np.hstack([np.repeat(sources.positions, 3, axis=0), moments])))
    matrix = openmeeg.HeadMat(geometry)
    gain = np.zeros((len(sensors), 3 * len(sources)))
    electric = sensors.where("eeg")
    if len(electric):
        seats = openmeeg.Sensors(openmeeg.Matrix(np.asfortranarray(sensors.positions[electric])), geometry)
        rows = openmeeg.GainEEGadjoint(geometry, dipoles, matrix, openmeeg.Head2EEGMat(geometry, seats)).array()
        gain[electric] = rows
    if sensors.points is not None and sensors.directions is not None and sensors.owner is not None:
        weights = np.linalg.norm(sensors.directions, axis=1)
        coils = openmeeg.Sensors(
            [str(i) for i in range(len(weights))],
            np.asfortranarray(sensors.points),
            np.asfortranarray(sensors.directions / weights[:, None]),
            np.ones(len(weights)),
            np.ones(len(weights)),
        )
        readings = openmeeg.GainMEGadjoint(
            geometry,
            dipoles,
            matrix,
            openmeeg.Head2MEGMat(geometry, coils),
            openmeeg.DipSource2MEGMat(dipoles, coils),
        ).array()
        np.add.at(gain, sensors.owner, weights[:, None] * readings)
    notes = {"solver": f"boundary elements, OpenMEEG {openmeeg.__version__}", **_description(head, minimum_distance)}
    return LeadField(gain.reshape(len(sensors), -1, 3), sensors, sources, notes=notes)
