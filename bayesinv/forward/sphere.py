"""Concentric spheres: the potential by a series in spherical harmonics, the magnetic field in closed form."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from bayesinv.axes import Array, Index, real
from bayesinv.forward.leadfield import LeadField
from bayesinv.forward.unbounded import MU0_4PI
from bayesinv.geometry.surfaces import check_size
from bayesinv.head.head import Conductivity, Head, check_radial
from bayesinv.head.sensors import MAX_SCALP_DISTANCE, Sensors
from bayesinv.head.sources import Sources

MAX_TERMS = 20_000


def lead_field(head: Head, sensors: Sensors, sources: Sources, *, tolerance: float = 1e-12) -> LeadField:
    """Return the gain of electrodes and coils for a head of concentric spheres.

    The potential of several shells is a series, truncated for each source where the remainder is below `tolerance`
    relative to the largest gain of the source anywhere on the scalp; a single conductivity has a closed form. The mean
    potential over the scalp is zero. The magnetic field does not depend on radii or conductivities. Electrodes are
    moved along their radius to the outermost sphere. No array but the gain grows with the number of sources times
    sensors.

    Raises
    ------
    ValueError
        If the head has no radii or is not in metres, a source is outside the innermost sphere, an electrode is far
        from the outermost or a coil inside it, or the series needs more than `MAX_TERMS` terms.

    References
    ----------
    de Munck (1988), J. Appl. Phys. 64, 464-470; Zhang (1995), Phys. Med. Biol. 40, 335-349; Sarvas (1987), Phys.
    Med. Biol. 32, 11-22.
    """
    if not head.radii:
        raise ValueError("the head has no radii, but this solver wants concentric spheres: Head.spheres makes one")
    check_size(2 * head.radii[-1], "the head")
    check_radial(head, sources.positions)
    centre, radius = np.asarray(head.centre), head.radii[-1]
    positions = np.ascontiguousarray(sources.positions - centre)
    gain = np.zeros((len(sensors), len(sources), 3))
    notes = {
        "solver": "concentric spheres",
        "radii": ", ".join(f"{name} {1e3 * r:g} mm" for name, r in zip(head.names, head.radii, strict=True)),
        "conductivities": ", ".join(
            f"{name} {value} S/m" for name, value in zip(head.names, head.conductivities, strict=True)
        ),
    }
    electric = sensors.where("eeg")
    if len(electric):
        electrodes = sensors.positions[electric] - centre
        distance = np.linalg.norm(electrodes, axis=1)
        scalp_distance = np.abs(distance - radius)
        if scalp_distance.max() > MAX_SCALP_DISTANCE:
            worst = int(np.argmax(scalp_distance))
            raise ValueError(
                f"electrode {sensors.names[electric[worst]]} is {1e3 * scalp_distance[worst]:.3g} mm from the scalp; "
                "check that head and sensors share one coordinate frame, in metres"
            )
        electrodes = electrodes * (radius / distance)[:, None]
        if (
            len({_radial_tangential(c) for c in head.conductivities}) == 1
            and np.ptp(_radial_tangential(head.conductivities[0])) == 0
        ):
            gain[electric] = homogeneous(positions, electrodes, _radial_tangential(head.conductivities[0])[0])
            notes["potential"] = "closed form"
        else:
            gain[electric], degree = shells(positions, electrodes, head.radii, head.conductivities, tolerance=tolerance)
            notes["potential"] = f"series to degree {degree} for a tolerance of {tolerance:g}"
    if sensors.points is not None and sensors.directions is not None and sensors.owner is not None:
        points = sensors.points - centre
        depth = radius - np.linalg.norm(points, axis=1)
        if len(depth) and depth.max() > 0:
            worst = int(np.argmax(depth))
            raise ValueError(
                f"coil {sensors.names[sensors.owner[worst]]} is {1e3 * depth[worst]:.3g} mm inside the head; "
                "check that head and sensors share one coordinate frame, in metres"
            )
        gain += sarvas(positions, points, sensors.directions, sensors.owner, len(sensors))
        notes["magnetic field"] = "closed form"
    return LeadField(gain, sensors, sources, notes=notes)


def homogeneous(sources: Array, electrodes: Array, conductivity: float) -> Array:
    r"""Return the potential (electrode, source, axis) in V/(A m) on a sphere of one conductivity.

        V = moment . {2 d/|d|^3 + [r + ((r.s) r - R^2 s) / (R (|d| + R - r.s/R))] / (R^2 |d|)} / (4 pi conductivity)

    with d = r - s, the electrode r at distance R from the centre (the origin) and the source s.

    sources : (source, 3), m
    electrodes : (electrode, 3), m, all at one distance from the origin
    Reference: Yao (2000), Phys. Med. Biol. 45, 3157-3178; Brody, Terry & Ideker (1973), IEEE Trans. Biomed. Eng. 20.
    """
    gain = np.empty((len(electrodes), len(sources), 3))
    _homogeneous(np.ascontiguousarray(sources), np.ascontiguousarray(electrodes), gain)
    gain /= 4 * np.pi * conductivity
    return gain


def shells(
    sources: Array,
    electrodes: Array,
    radii: tuple[float, ...],
    conductivities: tuple[Conductivity, ...],
    *,
    tolerance: float = 1e-12,
) -> tuple[Array, int]:
    r"""Return the potential (electrode, source, axis) in V/(A m) on concentric shells, and the highest degree used.

        V = moment . grad_s sum_n g_n |s|^nu_n P_n(cos angle(s, r))

    where nu_n = (sqrt(1 + 4 n (n + 1) tangential/radial) - 1) / 2 in the innermost shell (n if it is isotropic) and
    g_n follows from the continuity of the potential and of the radial current through the shells.

    sources : (source, 3), m, in the innermost shell
    electrodes : (electrode, 3), m; only their direction matters
    radii : of the shells in m, innermost first
    conductivities : S/m, a number or (radial, tangential) per shell
    tolerance : the remainder of the series relative to the largest gain of the source; |P_n| <= 1 and the tangential
        |dP_n/d angle| <= sqrt(n (n + 1) / 2) <= n bound it by sum_n g_n n |s|^(nu_n - 1) over the terms left out

    Raises
    ------
    ValueError
        If the tolerance is not in (0, 1), or a source is so close to the outermost sphere that the series needs more
        than `MAX_TERMS` terms.

    References
    ----------
    de Munck (1988), J. Appl. Phys. 64, 464-470; Zhang (1995), Phys. Med. Biol. 40, 335-349.
    """
    if not 0 < tolerance < 1:
        raise ValueError(f"tolerance is {tolerance}, but must lie between 0 and 1")
    sources = real("sources", sources, "source 3")
    electrodes = real("electrodes", electrodes, "electrode 3")
    directions = electrodes / np.linalg.norm(electrodes, axis=1, keepdims=True)
    distance = np.linalg.norm(sources, axis=1)
    if (distance == 0).any() and _radial_tangential(conductivities[0])[1] < _radial_tangential(conductivities[0])[0]:
        raise ValueError(
            f"source {int(np.argmin(distance))} lies in the centre, where a shell that conducts better along the "
            "radius has no finite potential"
        )
    terms = 64
    while True:
        logs, powers = coefficients(radii, conductivities, terms)
        needed = _degrees(distance / radii[-1], logs, powers, tolerance)
        if needed.max() < terms:
            break
        if terms >= MAX_TERMS:
            worst = int(np.argmax(distance))
            raise ValueError(
                f"source {worst} is {1e3 * (radii[-1] - distance[worst]):.3g} mm below the outermost sphere: its "
                f"series needs more than {MAX_TERMS} terms for a tolerance of {tolerance:g}"
            )
        terms = min(2 * terms, MAX_TERMS)
    gain = np.empty((len(electrodes), len(sources), 3))
    _series(sources, directions, radii[-1], logs, powers, needed, gain)
    return gain, int(needed.max())


def coefficients(radii: tuple[float, ...], conductivities: tuple[Conductivity, ...], terms: int) -> tuple[Array, Array]:
    r"""Return the logarithm of g_n R^(nu_n - 1) and nu_n of the innermost shell, both (degree,) for n = 1, 2, ...

    The potential and r times the radial current are propagated from the scalp (1 and 0) inwards through every shell,
    where each is a sum of (r/r_shell)^nu and (r/r_shell)^-(nu + 1); the logarithm of their size is a separate number.
    """
    pairs = [_radial_tangential(value) for value in conductivities]
    n = np.arange(1.0, terms + 1)

    def exponent(radial: float, tangential: float) -> Array:
        if radial == tangential:
            return n
        return 0.5 * (np.sqrt(1 + 4 * n * (n + 1) * tangential / radial) - 1)

    potential, current, size = np.ones(terms), np.zeros(terms), np.zeros(terms)
    for shell in range(len(radii) - 1, 0, -1):
        radial, nu = pairs[shell][0], exponent(*pairs[shell])
        growing = ((nu + 1) * potential + current / radial) / (2 * nu + 1)
        decaying = (nu * potential - current / radial) / (2 * nu + 1)
        log_ratio = np.log(radii[shell - 1] / radii[shell])
        growing_inside = growing * np.exp((2 * nu + 1) * log_ratio)
        potential = growing_inside + decaying
        current = radial * (nu * growing_inside - (nu + 1) * decaying)
        largest = np.maximum(np.abs(potential), np.abs(current))
        potential, current = potential / largest, current / largest
        size += np.log(largest) - (nu + 1) * log_ratio
    radial, nu = pairs[0][0], exponent(*pairs[0])
    decaying = (nu * potential - current / radial) / (2 * nu + 1)
    logs = (
        np.log((2 * n + 1) / (2 * nu + 1))
        - np.log(4 * np.pi * radial * radii[0] * decaying)
        - size
        + nu * np.log(radii[-1] / radii[0])
        - np.log(radii[-1])
    )
    return logs, nu


def sarvas(sources: Array, points: Array, directions: Array, owner: Index, sensors: int) -> Array:
    r"""Return what coils (sensor, source, axis) read outside a sphere about the origin, in T/(A m).

        B = mu0 / (4 pi F^2) (F moment x s - (moment x s . r) grad F),   d = r - s,
        F = |d| (|r| |d| + |r|^2 - s . r)

    sources : (source, 3), m
    points, directions : (point, 3), m, and weight times orientation
    owner : (point,), the sensor that a point adds to
    Reference: Sarvas (1987), Phys. Med. Biol. 32, 11-22.
    """
    gain = np.zeros((sensors, len(sources), 3))
    _add_sarvas(np.ascontiguousarray(sources), np.ascontiguousarray(points), directions, owner, gain)
    return gain


def _radial_tangential(value: Conductivity) -> tuple[float, float]:
    """Return (radial, tangential)."""
    return (float(value[0]), float(value[1])) if isinstance(value, tuple) else (float(value), float(value))


def _degrees(eccentricity: Array, logs: Array, powers: Array, tolerance: float) -> Index:
    """Return the degree (source,) after which the remainder of each source's series is within the tolerance.

    The degree of a series that does not converge within the terms given is their number. Sources are sorted into bins
    of eccentricity, each taken at its upper edge, so that the cost does not depend on the number of sources.
    """
    n = np.arange(1, len(logs) + 1)
    largest = float(eccentricity.max())
    edges = largest * np.linspace(0, 1, 201)[1:] if largest > 0 else np.array([1e-3])
    bound = np.empty(len(edges), dtype=np.int64)
    step = max(1, 2**16 // len(n))
    for start in range(0, len(edges), step):
        edge = edges[start : start + step, None]
        log_size = logs + (powers - 1) * np.log(edge) + np.log(np.maximum(n, powers))
        size, ratio = np.exp(log_size - log_size.max(axis=1, keepdims=True)), np.exp(np.diff(log_size))
        remainder = np.where(ratio < 1, size[:, 1:] / np.maximum(1 - ratio, 1e-300), np.inf)
        unconverged = ~(remainder <= tolerance * np.cumsum(size, axis=1)[:, :-1])
        # The remainder must stay small at every later degree.
        last = unconverged.shape[1] - np.argmax(unconverged[:, ::-1], axis=1) + 1
        bound[start : start + step] = np.where(unconverged.any(axis=1), last, 1)
    bound = np.minimum(np.maximum(bound, 2), len(n))
    return np.asarray(np.maximum.accumulate(bound)[np.searchsorted(edges, eccentricity).clip(0, len(edges) - 1)])


@njit(parallel=True, cache=True)  # type: ignore[untyped-decorator]
def _series(
    sources: Array, directions: Array, radius: float, logs: Array, powers: Array, degrees: Index, gain: Array
) -> None:
    """Fill the gain (electrode, source, 3), each source's series up to its own degree."""
    electrodes = len(directions)
    for s in prange(len(sources)):
        distance = np.sqrt(sources[s, 0] ** 2 + sources[s, 1] ** 2 + sources[s, 2] ** 2)
        radial_direction = np.array([0.0, 0.0, 1.0])
        if distance > 0:
            radial_direction = sources[s] / distance
        log_distance = np.log(max(distance / radius, 1e-300))
        cosine, previous, legendre = np.empty(electrodes), np.ones(electrodes), np.empty(electrodes)
        legendre_slope, radial_sum, tangential_sum = np.ones(electrodes), np.zeros(electrodes), np.zeros(electrodes)
        for e in range(electrodes):
            c = (
                directions[e, 0] * radial_direction[0]
                + directions[e, 1] * radial_direction[1]
                + directions[e, 2] * radial_direction[2]
            )
            cosine[e] = min(1.0, max(-1.0, c))
            legendre[e] = cosine[e]
        for n in range(1, degrees[s] + 1):
            weight = np.exp(logs[n - 1] + (powers[n - 1] - 1) * log_distance)
            radial_weight = weight * powers[n - 1]
            first, second, third = (2 * n + 1) / (n + 1), n / (n + 1), n + 1.0
            for e in range(electrodes):
                c, current = cosine[e], legendre[e]
                radial_sum[e] += radial_weight * current
                tangential_sum[e] += weight * legendre_slope[e]
                legendre_slope[e] = c * legendre_slope[e] + third * current
                legendre[e] = first * c * current - second * previous[e]
                previous[e] = current
        for e in range(electrodes):
            radial = radial_sum[e] - tangential_sum[e] * cosine[e]
            for axis in range(3):
                gain[e, s, axis] = radial * radial_direction[axis] + tangential_sum[e] * directions[e, axis]


@njit(parallel=True, cache=True)  # type: ignore[untyped-decorator]
def _homogeneous(sources: Array, electrodes: Array, gain: Array) -> None:
    """Fill the gain (electrode, source, 3) of a homogeneous sphere, times 4 pi conductivity."""
    for s in prange(len(sources)):
        for e in range(len(electrodes)):
            r, p = electrodes[e], sources[s]
            radius = np.sqrt(r[0] ** 2 + r[1] ** 2 + r[2] ** 2)
            dx, dy, dz = r[0] - p[0], r[1] - p[1], r[2] - p[2]
            d = np.sqrt(dx * dx + dy * dy + dz * dz)
            dot = r[0] * p[0] + r[1] * p[1] + r[2] * p[2]
            image = 1 / (radius * (d + radius - dot / radius))
            direct, reflected = 2 / d**3, 1 / (radius * radius * d)
            for axis in range(3):
                gain[e, s, axis] = direct * (r[axis] - p[axis]) + reflected * (
                    r[axis] + image * (dot * r[axis] - radius * radius * p[axis])
                )


@njit(parallel=True, cache=True)  # type: ignore[untyped-decorator]
def _add_sarvas(sources: Array, points: Array, directions: Array, owner: Index, gain: Array) -> None:
    """Add the measurement of every integration point to the row of its sensor."""
    for s in prange(len(sources)):
        sx, sy, sz = sources[s, 0], sources[s, 1], sources[s, 2]
        for p in range(len(points)):
            x, y, z = points[p, 0], points[p, 1], points[p, 2]
            u, v, w = directions[p, 0], directions[p, 1], directions[p, 2]
            r = np.sqrt(x * x + y * y + z * z)
            dx, dy, dz = x - sx, y - sy, z - sz
            d = np.sqrt(dx * dx + dy * dy + dz * dz)
            f = d * (r * d + r * r - (sx * x + sy * y + sz * z))
            ratio = (dx * x + dy * y + dz * z) / d
            first, second = d * d / r + ratio + 2 * d + 2 * r, d + 2 * r + ratio
            slope = first * (x * u + y * v + z * w) - second * (sx * u + sy * v + sz * w)
            a, b = MU0_4PI / f, MU0_4PI * slope / (f * f)
            gain[owner[p], s, 0] += a * (sy * w - sz * v) - b * (sy * z - sz * y)
            gain[owner[p], s, 1] += a * (sz * u - sx * w) - b * (sz * x - sx * z)
            gain[owner[p], s, 2] += a * (sx * v - sy * u) - b * (sx * y - sy * x)
