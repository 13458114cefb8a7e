"""Current dipoles in an unbounded homogeneous conductor: potential and magnetic field in closed form."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from bayesinv.axes import Array, Index, real
from bayesinv.forward.leadfield import LeadField
from bayesinv.head.sensors import Sensors
from bayesinv.head.sources import Sources

MU0_4PI = 1e-7  # H/m


def lead_field(conductivity: float, sensors: Sensors, sources: Sources) -> LeadField:
    """Return the gain of electrodes and coils in an unbounded conductor of `conductivity` S/m.

    Without boundaries the volume currents of a dipole have no magnetic field, so coils measure the primary field only.

    Raises
    ------
    ValueError
        If the conductivity is not positive, or a sensor lies on a source.
    """
    if not (np.isfinite(conductivity) and conductivity > 0):
        raise ValueError(f"conductivity is {conductivity}, but must be positive, in S/m")
    gain = np.zeros((len(sensors), len(sources), 3))
    electric = sensors.where("eeg")
    gain[electric] = potential(sources.positions, sensors.positions[electric], conductivity)
    if sensors.points is not None and sensors.directions is not None and sensors.owner is not None:
        gain += primary_field(sources.positions, sensors.points, sensors.directions, sensors.owner, len(sensors))
    return LeadField(
        gain,
        sensors,
        sources,
        notes={"solver": "unbounded conductor", "conductivity": f"{conductivity:g} S/m"},
    )


def potential(sources: Array, electrodes: Array, conductivity: float) -> Array:
    r"""Return the potential (electrode, source, axis) in V/(A m) of unit dipoles.

        V = moment . d / (4 pi conductivity |d|^3),   d = electrode - source

    sources : (source, 3), m
    electrodes : (electrode, 3), m
    Reference: Sarvas (1987), Phys. Med. Biol. 32, 11-22.
    """
    sources, electrodes = real("sources", sources, "source 3"), real("electrodes", electrodes, "electrode 3")
    gain = _inverse_square(np.ascontiguousarray(sources), np.ascontiguousarray(electrodes))
    if not np.isfinite(gain).all():
        raise ValueError("an electrode lies on a source, where the potential is infinite")
    return gain / (4 * np.pi * conductivity)


def primary_field(sources: Array, points: Array, directions: Array, owner: Index, sensors: int) -> Array:
    r"""Return the coils' measurement (sensor, source, axis) of the primary field of unit dipoles, in T/(A m).

        B = mu0 / (4 pi) moment x d / |d|^3,   d = point - source

    sources : (source, 3), m
    points, directions : (point, 3), m, and weight times orientation
    owner : (point,), the sensor that a point adds to
    Reference: Sarvas (1987), Phys. Med. Biol. 32, 11-22.
    """
    gain = np.zeros((sensors, len(sources), 3))
    _add_primary(sources, points, directions, owner, gain)
    if not np.isfinite(gain).all():
        raise ValueError("a coil lies on a source, where the field is infinite")
    return gain


@njit(parallel=True, cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _inverse_square(sources: Array, points: Array) -> Array:
    """Return d / |d|^3 for d = point - source: (point, source, 3)."""
    field = np.empty((len(points), len(sources), 3))
    for s in prange(len(sources)):
        for p in range(len(points)):
            x, y, z = points[p, 0] - sources[s, 0], points[p, 1] - sources[s, 1], points[p, 2] - sources[s, 2]
            square = x * x + y * y + z * z
            weight = 1 / (square * np.sqrt(square))
            field[p, s, 0], field[p, s, 1], field[p, s, 2] = weight * x, weight * y, weight * z
    return field


@njit(parallel=True, cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _add_primary(sources: Array, points: Array, directions: Array, owner: Index, gain: Array) -> None:
    """Add mu0/(4 pi) d x direction / |d|^3 of every point to its sensor's row."""
    for s in prange(len(sources)):
        for p in range(len(points)):
            x, y, z = points[p, 0] - sources[s, 0], points[p, 1] - sources[s, 1], points[p, 2] - sources[s, 2]
            square = x * x + y * y + z * z
            weight = MU0_4PI / (square * np.sqrt(square))
            u, v, w = directions[p, 0], directions[p, 1], directions[p, 2]
            gain[owner[p], s, 0] += weight * (y * w - z * v)
            gain[owner[p], s, 1] += weight * (z * u - x * w)
            gain[owner[p], s, 2] += weight * (x * v - y * u)
