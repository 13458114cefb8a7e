"""Recording: the field that sensors measure over time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayesinv.axes import Array, freeze, is_number, real, same_axes


def checked_averages(value: object) -> float:
    """Return the number of trials that a recording averages.

    The noise of a weighted sum of averages, with weights w, is that of 1 / Σ (w² / averages) trials: a fraction, and
    below 1 for the difference of two single trials.

    Raises
    ------
    ValueError
        If it is no number, or not positive and finite.
    """
    if not is_number(value) or not 0 < value < np.inf:  # type: ignore[operator]
        raise ValueError(
            f"averages is {value!r}, but must be a positive number of trials: their count, or of a weighted sum of "
            "averages 1 / sum(weight**2 / averages)"
        )
    return float(value)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Recording:
    """Field at named sensors over time.

    field : (sensor, time), in the SI unit of each sensor (V, T, T/m)
    times : (time,), s
    names : one per sensor
    averages : how many trials the field averages; a fraction where averages were combined
    """

    field: Array
    times: Array
    names: tuple[str, ...]
    averages: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "field", real("recording", self.field, "sensor time"))
        object.__setattr__(self, "times", real("times", self.times, "time"))
        same_axes(recording=(self.field, "sensor time"), times=(self.times, "time"))
        if len(self.names) != len(self.field):
            raise ValueError(f"recording has sensor = {len(self.field)}, but names has sensor = {len(self.names)}")
        if not self.field.shape[1]:
            raise ValueError("recording has no samples (time = 0)")
        object.__setattr__(self, "averages", checked_averages(self.averages))
        freeze(self.field, self.times)
