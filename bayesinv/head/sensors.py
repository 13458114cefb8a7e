"""Sensors: electrodes and MEG coils, their positions and integration points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesinv.axes import Array, Index, freeze, one_of, real, same_axes
from bayesinv.geometry.surfaces import Surface, enclosed_volume, nearest, vertex_normals

if TYPE_CHECKING:
    import mne

MAX_SCALP_DISTANCE = 0.02  # m; an electrode that far from the scalp belongs to another head or coordinate frame
UNITS = {"eeg": "V", "mag": "T", "grad": "T/m"}


@dataclass(frozen=True, eq=False)
class Sensors:
    """Named sensors with their kinds and positions, in metres, head coordinates.

    A coil measures a weighted sum of the magnetic field over integration points: sensor `owner[q]` adds
    `directions[q] . B(points[q])`, the weight (1 for a magnetometer, 1/m for a planar gradiometer) being the
    length of the direction. An electrode measures the potential at its position and has no integration point.

    names : one per sensor
    kinds : one per sensor, "eeg" (V), "mag" (T) or "grad" (T/m)
    positions : (sensor, 3), m
    points : (point, 3), m, integration points of the coils
    directions : (point, 3), orientation times weight
    owner : (point,), index of the sensor that a point belongs to
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    positions: Array
    points: Array | None = None
    directions: Array | None = None
    owner: Index | None = None

    def __post_init__(self) -> None:
        count = len(self.names)
        if len(set(self.names)) != count:
            repeated = sorted({name for name in self.names if self.names.count(name) > 1})
            raise ValueError(f"sensor names must be unique, but {', '.join(repeated)} come more than once")
        if len(self.kinds) != count:
            raise ValueError(f"there are {len(self.kinds)} kinds for {count} sensors")
        unknown = sorted(set(self.kinds) - set(UNITS))
        if unknown:
            raise ValueError(f"unknown sensor kind {unknown[0]!r}; kinds are {', '.join(UNITS)}")
        positions = real("positions", self.positions, "sensor 3")
        if len(positions) != count:
            raise ValueError(f"positions has sensor = {len(positions)}, but names has sensor = {count}")
        object.__setattr__(self, "positions", positions)
        given = [self.points is not None, self.directions is not None, self.owner is not None]
        if any(given) and not all(given):
            raise ValueError("points, directions and owner describe the coils together: give all three or none")
        if self.points is not None and self.directions is not None and self.owner is not None:
            owner = np.asarray(self.owner, dtype=np.int64)
            same_axes(
                points=(self.points, "point 3"),
                directions=(self.directions, "point 3"),
                owner=(owner, "point"),
            )
            if owner.size and (owner.min() < 0 or owner.max() >= count):
                raise ValueError(f"owner names sensor {owner.max()}, but there are {count} sensors")
            object.__setattr__(self, "owner", owner)
        freeze(self.positions, self.points, self.directions, self.owner)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def units(self) -> tuple[str, ...]:
        """The SI unit of each sensor's measurement."""
        return tuple(UNITS[kind] for kind in self.kinds)

    @classmethod
    def electrodes(cls, names: Sequence[str], positions: Array, scalp: Surface | None = None) -> Sensors:
        """Return electrodes at positions (sensor, 3) in m, moved to the scalp where it is given.

        Raises
        ------
        ValueError
            If an electrode is farther than two centimetres from the scalp.
        """
        sensors = cls(tuple(names), ("eeg",) * len(names), np.array(positions, dtype=np.float64))
        return sensors if scalp is None else sensors.on(scalp)

    @classmethod
    def magnetometers(cls, names: Sequence[str], positions: Array, directions: Array) -> Sensors:
        """Return magnetometers that measure the field at one point each, along a unit vector (sensor, 3)."""
        directions = real("directions", directions, "sensor 3")
        lengths = np.linalg.norm(directions, axis=1)
        if not np.allclose(lengths, 1, atol=1e-3):
            worst = int(np.argmax(np.abs(lengths - 1)))
            raise ValueError(f"directions must have length 1, but that of {names[worst]} has {lengths[worst]:.3g}")
        points = np.array(positions, dtype=np.float64)
        return cls(tuple(names), ("mag",) * len(names), points, points.copy(), directions, np.arange(len(names)))

    @classmethod
    def opm(
        cls, scalp: Surface, spacing: float = 0.03, gap: float = 0.0065, lowest: float = 0.0, axes: int = 1
    ) -> Sensors:
        """Return an array of optically pumped magnetometers that covers the upper scalp.

        Sensors are placed one by one at the point of the scalp farthest from those before, from the top down, until
        no point of it is `spacing` or more away from a sensor.

        scalp : in head coordinates, the third axis pointing up
        spacing : smallest distance between neighbours on the scalp, m
        gap : between the scalp and the centre of the vapour cell, m
        lowest : height (third coordinate) above which sensors are placed, m
        axes : 1 measures along the normal of the scalp, 3 also along two tangents

        Raises
        ------
        ValueError
            If spacing or gap is not positive, axes is neither 1 nor 3, or no part of the scalp lies so high.
        """
        if not (spacing > 0 and gap > 0):
            raise ValueError(f"spacing {spacing} and gap {gap} must be positive, in m")
        if axes not in (1, 3):
            raise ValueError(f"axes is {axes}, but an optically pumped magnetometer reads 1 or 3")
        points, normals = _surface_points(scalp, spacing / 8)
        high = points[:, 2] >= lowest
        if not high.any():
            raise ValueError(
                f"no part of the scalp is higher than {lowest} m; its top is at {points[:, 2].max():.3g} m"
            )
        points, normals = points[high], normals[high]
        picked = [int(np.argmax(points[:, 2]))]
        distance = np.linalg.norm(points - points[picked[0]], axis=1)
        while distance.max() >= spacing:
            picked.append(int(np.argmax(distance)))
            distance = np.minimum(distance, np.linalg.norm(points - points[picked[-1]], axis=1))
        outward = normals[picked]
        cells = points[picked] + gap * outward
        if axes == 1:
            return cls.magnetometers([f"OPM{i:03d}" for i in range(len(cells))], cells, outward)
        tangent = np.cross(outward, np.eye(3)[np.argmin(np.abs(outward), axis=1)])
        tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
        directions = np.stack([outward, tangent, np.cross(outward, tangent)], axis=1).reshape(-1, 3)
        names = [f"OPM{i:03d}{axis}" for i in range(len(cells)) for axis in ("z", "x", "y")]
        return cls.magnetometers(names, np.repeat(cells, 3, axis=0), directions)

    @staticmethod
    def stack(*parts: Sensors) -> Sensors:
        """Return the sensors of all parts, one part after the other."""
        if not parts:
            raise ValueError("there is nothing to stack")
        starts = np.cumsum([0, *(len(part) for part in parts)])
        points, directions, owner = [], [], []
        for start, part in zip(starts, parts, strict=False):
            if part.points is not None and part.directions is not None and part.owner is not None:
                points.append(part.points)
                directions.append(part.directions)
                owner.append(part.owner + start)
        return Sensors(
            tuple(name for part in parts for name in part.names),
            tuple(kind for part in parts for kind in part.kinds),
            np.concatenate([part.positions for part in parts]),
            np.concatenate(points) if points else None,
            np.concatenate(directions) if directions else None,
            np.concatenate(owner) if owner else None,
        )

    def where(self, *kinds: str) -> Index:
        """Return the indices of the sensors of these kinds, in order."""
        return np.flatnonzero([kind in kinds for kind in self.kinds])

    def on(self, scalp: Surface) -> Sensors:
        """Return the sensors with every electrode projected to the closest point of the scalp's triangles.

        Raises
        ------
        ValueError
            If an electrode is farther than two centimetres from the scalp.
        """
        electric = self.where("eeg")
        triangle, weights = project_to_scalp(self, scalp)
        positions = self.positions.copy()
        positions[electric] = np.einsum("ek,ekc->ec", weights, scalp.vertices[scalp.triangles[triangle]])
        return replace(self, positions=positions)

    def pick(self, index: Index) -> Sensors:
        """Return the sensors `index`, in that order, with their integration points."""
        index = np.asarray(index, dtype=np.int64)
        points = directions = owner = None
        if self.points is not None and self.directions is not None and self.owner is not None:
            new_index = np.full(len(self), -1)
            new_index[index] = np.arange(len(index))
            owned = new_index[self.owner] >= 0
            points, directions, owner = self.points[owned], self.directions[owned], new_index[self.owner[owned]]
        return Sensors(
            tuple(self.names[i] for i in index),
            tuple(self.kinds[i] for i in index),
            self.positions[index],
            points,
            directions,
            owner,
        )


def project_to_scalp(sensors: Sensors, scalp: Surface) -> tuple[Index, Array]:
    """Return the closest triangle (electrode,) of the scalp to each electrode, and barycentric weights (electrode, 3).

    Raises
    ------
    ValueError
        If an electrode is farther than two centimetres from the scalp.
    """
    electric = sensors.where("eeg")
    triangle, weights, distance = nearest(scalp, sensors.positions[electric])
    if len(distance) and distance.max() > MAX_SCALP_DISTANCE:
        too_far = np.flatnonzero(distance > MAX_SCALP_DISTANCE)
        worst = electric[np.argmax(distance)]
        raise ValueError(
            f"{len(too_far)} electrodes are far from the scalp, the farthest {sensors.names[worst]} by "
            f"{1e3 * distance.max():.3g} mm; check that head and sensors share one coordinate frame, in metres"
        )
    return triangle, weights


def sensors_from_montage(montage: mne.channels.DigMontage, scalp: Surface | None = None) -> Sensors:
    """Return the electrodes of an MNE-Python montage in head coordinates, moved to the scalp where it is given.

    Raises
    ------
    ValueError
        If the montage is not in head coordinates and has no fiducials, or an electrode is far from the scalp.
    """
    from mne.channels import compute_native_head_t
    from mne.transforms import apply_trans

    montage_positions = montage.get_positions()
    names = list(montage_positions["ch_pos"])
    positions = np.array([montage_positions["ch_pos"][name] for name in names])
    if montage_positions["coord_frame"] != "head":
        if any(montage_positions[point] is None for point in ("nasion", "lpa", "rpa")):
            raise ValueError(
                f"the montage is in {montage_positions['coord_frame']!r} coordinates without fiducials; "
                "give it nasion, lpa and rpa, or use Sensors.electrodes with positions in head coordinates"
            )
        positions = apply_trans(compute_native_head_t(montage), positions)
    return Sensors.electrodes(names, positions, scalp)


def sensors_from_info(info: mne.Info, scalp: Surface | None = None, *, accuracy: str = "normal") -> Sensors:
    """Return the EEG electrodes and MEG coils of an MNE-Python info, in its order, in head coordinates.

    Coils have the integration points of MNE-Python's coil definitions. Axial gradiometers, which MNE-Python
    counts as magnetometers (CTF), measure T, planar gradiometers T/m. Bad channels are included; reference coils are
    not, and no compensation of CTF systems is applied.

    scalp : the surface to which electrodes are projected, or None
    accuracy : of the coils, "point", "normal" or "accurate"; MNE-Python's forward solutions take the last

    Raises
    ------
    ValueError
        If there are no such channels, a position is missing, or an electrode is far from the scalp.
    """
    import mne
    from mne.forward._make_forward import _read_coil_defs

    names: list[str] = []
    kinds: list[str] = []
    positions: list[Array] = []
    points: list[Array] = []
    directions: list[Array] = []
    owner: list[Index] = []
    one_of("accuracy", accuracy, ("point", "normal", "accurate"))
    # Once for all channels: every reading copies the whole table.
    definitions = _read_coil_defs(verbose=False)
    for channel, kind in zip(info["chs"], info.get_channel_types(), strict=True):
        if kind not in UNITS:
            continue
        if not np.isfinite(channel["loc"][:3]).all() or not np.any(channel["loc"][:3]):
            raise ValueError(f"channel {channel['ch_name']} has no position; set a montage, or drop it")
        number = len(names)
        names.append(channel["ch_name"])
        kinds.append(kind)
        if kind == "eeg":
            positions.append(channel["loc"][:3])
            continue
        coil_points, coil_directions = _integration_points(channel, accuracy, definitions)
        if info["dev_head_t"] is not None:
            coil_points = mne.transforms.apply_trans(info["dev_head_t"], coil_points)
            coil_directions = mne.transforms.apply_trans(info["dev_head_t"], coil_directions, move=False)
        positions.append(coil_points.mean(axis=0))
        points.append(coil_points)
        directions.append(coil_directions)
        owner.append(np.full(len(coil_points), number))
    if not names:
        raise ValueError("the info has neither EEG nor MEG channels")
    sensors = Sensors(
        tuple(names),
        tuple(kinds),
        np.array(positions),
        np.concatenate(points) if points else None,
        np.concatenate(directions) if directions else None,
        np.concatenate(owner) if owner else None,
    )
    return sensors if scalp is None else sensors.on(scalp)


def _integration_points(
    channel: dict[str, Any], accuracy: str, definitions: list[dict[str, Any]]
) -> tuple[Array, Array]:
    """Return the integration points and weighted directions (point, 3) of a coil, in device coordinates.

    definitions : MNE-Python's table of coils, which is reachable through private functions only
    """
    from mne.forward._make_forward import _create_meg_coils

    (coil,) = _create_meg_coils([channel], accuracy, coilset=definitions)
    return np.asarray(coil["rmag"]), np.asarray(coil["cosmag"] * coil["w"][:, None])


def _surface_points(surface: Surface, step: float) -> tuple[Array, Array]:
    """Return points (point, 3) about `step` m apart on a surface, with its interpolated outward normals (point, 3)."""
    corners, normals = surface.vertices[surface.triangles], vertex_normals(surface)
    if enclosed_volume(surface) < 0:
        normals = -normals
    longest = max(np.linalg.norm(corners[:, i] - corners[:, i - 1], axis=1).max() for i in range(3))
    cuts = int(np.ceil(longest / step))
    weights = np.array([[i, j, cuts - i - j] for i in range(cuts + 1) for j in range(cuts + 1 - i)]) / cuts
    # Points on edges come once per triangle, which does not affect the choice of the farthest.
    points = np.einsum("wk,tkc->twc", weights, corners).reshape(-1, 3)
    smooth = np.einsum("wk,tkc->twc", weights, normals[surface.triangles]).reshape(-1, 3)
    return points, smooth / np.linalg.norm(smooth, axis=1, keepdims=True)
