"""Random errors of sensor positions: coregistration error of the array, and displacement of single electrodes."""

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
    """Return sensors after a common rigid motion and, for electrodes, an independent displacement along the scalp.

    scalp : the surface that the electrodes lie on, before and after
    displacement : root mean square displacement of an electrode, m
    coregistration : root mean square length of the common translation, m, and standard deviation of the angle,
        degrees, of the common rotation about a random axis through the mean position of the sensors

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
    rotation_matrix = rotation(axis / np.linalg.norm(axis), np.deg2rad(degrees) * rng.standard_normal())
    translation = shift / np.sqrt(3) * rng.standard_normal(3)
    centre = sensors.positions.mean(axis=0)

    def moved(points: Array | None) -> Array | None:
        return None if points is None else centre + translation + (points - centre) @ rotation_matrix.T

    positions = moved(sensors.positions)
    assert positions is not None
    directions = None if sensors.directions is None else sensors.directions @ rotation_matrix.T
    # Of three independent coordinates two lie along the scalp; projection onto it removes the third.
    electric = sensors.where("eeg")
    positions[electric] += displacement / np.sqrt(2) * rng.standard_normal((len(electric), 3))
    shifted = replace(sensors, positions=positions, points=moved(sensors.points), directions=directions)
    return shifted.on(scalp) if len(electric) else shifted


def rotation(axis: Array, angle: float) -> Array:
    """Return the matrix (3, 3) of the rotation about a unit vector by an angle in radians."""
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_rotvec(angle * axis).as_matrix())
