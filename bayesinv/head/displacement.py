"""Sensors as if they had been located a little beside where they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bayesinv.axes import Array
from bayesinv.geometry.surfaces import Surface
from bayesinv.head.sensors import Sensors


def displaced(
    sensors: Sensors,
    scalp: Surface,
    rng: np.random.Generator,
    *,
    displacement: float = 0.003,
    coregistration: tuple[float, float] = (0.002, 2.0),
) -> Sensors:
    """Return sensors moved as a whole and then, electrodes only, one by one along the scalp.

    scalp : that the electrodes stand on, before and after
    displacement : root mean square distance by which an electrode slides, m
    coregistration : root mean square length of the common shift, m, and standard deviation of the angle, degrees, of
        the common turn about a random axis through the middle of the sensors

    Raises
    ------
    ValueError
        If a number is negative, or an electrode ends far from the scalp.
    """
    shift, degrees = coregistration
    if not all(0 <= number < np.inf for number in (displacement, shift, degrees)):
        raise ValueError(
            f"displacement {displacement} and shift {shift}, in m, and turn {degrees}, in degrees, must be at least 0"
        )
    axis = rng.standard_normal(3)
    turn = rotation(axis / np.linalg.norm(axis), np.deg2rad(degrees) * rng.standard_normal())
    by = shift / np.sqrt(3) * rng.standard_normal(3)
    middle = sensors.positions.mean(axis=0)

    def moved(places: Array | None) -> Array | None:
        return None if places is None else middle + by + (places - middle) @ turn.T

    positions = moved(sensors.positions)
    assert positions is not None
    directions = None if sensors.directions is None else sensors.directions @ turn.T
    # Three independent coordinates, of which two lie along the scalp; the third goes when the electrode is put back.
    electric = sensors.where("eeg")
    positions[electric] += displacement / np.sqrt(2) * rng.standard_normal((len(electric), 3))
    whole = replace(sensors, positions=positions, points=moved(sensors.points), directions=directions)
    return whole.on(scalp) if len(electric) else whole


def rotation(axis: Array, angle: float) -> Array:
    """Return the matrix (3, 3) of a turn about a unit vector, by an angle in radians."""
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_rotvec(angle * axis).as_matrix())
