"""Recording: the field that sensors measure over time."""

from __future__ import annotations

from dataclasses import dataclass

from bayesinv.axes import Array, freeze, real, same_axes


@dataclass(frozen=True, eq=False)
class Recording:
    """Field at named sensors over time.

    field : (sensor, time), in the SI unit of each sensor (V, T, T/m)
    times : (time,), s
    names : one per sensor
    averages : how many trials the field averages
    """

    field: Array
    times: Array
    names: tuple[str, ...]
    averages: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "field", real("recording", self.field, "sensor time"))
        object.__setattr__(self, "times", real("times", self.times, "time"))
        same_axes(recording=(self.field, "sensor time"), times=(self.times, "time"))
        if len(self.names) != len(self.field):
            raise ValueError(f"recording has sensor = {len(self.field)}, but names has sensor = {len(self.names)}")
        if not self.field.shape[1]:
            raise ValueError("recording has no samples (time = 0)")
        if self.averages < 1:
            raise ValueError(f"averages is {self.averages}, but a recording averages at least one trial")
        freeze(self.field, self.times)
