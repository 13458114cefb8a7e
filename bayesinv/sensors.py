"""Sensors: electrodes and coils, where the field is read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayesinv.axes import Array, Index, freeze, real, same_axes

UNITS = {"eeg": "V", "mag": "T", "grad": "T/m"}


@dataclass(frozen=True, eq=False)
class Sensors:
    """Named sensors of known kind and place, in metres, head coordinates.

    A coil reads a weighted sum of the magnetic field over integration points: sensor `owner[q]` adds
    `directions[q] . B(points[q])`, the weight (1 for a magnetometer, 1/m for a planar gradiometer) being the
    length of the direction. An electrode reads the potential at its position and owns no point.

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
            twice = sorted({name for name in self.names if self.names.count(name) > 1})
            raise ValueError(f"sensor names must be unique, but {', '.join(twice)} come more than once")
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
                points=(self.points, "point 3"), directions=(self.directions, "point 3"), owner=(owner, "point")
            )
            if owner.size and (owner.min() < 0 or owner.max() >= count):
                raise ValueError(f"owner names sensor {owner.max()}, but there are {count} sensors")
            object.__setattr__(self, "owner", owner)
        freeze(self.positions, self.points, self.directions, self.owner)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def units(self) -> tuple[str, ...]:
        """The SI unit that each sensor reads."""
        return tuple(UNITS[kind] for kind in self.kinds)

    def pick(self, index: Index) -> Sensors:
        """Return the sensors `index`, in that order, with their integration points."""
        index = np.asarray(index, dtype=np.int64)
        points = directions = owner = None
        if self.points is not None and self.directions is not None and self.owner is not None:
            place = np.full(len(self), -1)
            place[index] = np.arange(len(index))
            mine = place[self.owner] >= 0
            points, directions, owner = self.points[mine], self.directions[mine], place[self.owner[mine]]
        return Sensors(
            tuple(self.names[i] for i in index),
            tuple(self.kinds[i] for i in index),
            self.positions[index],
            points,
            directions,
            owner,
        )
