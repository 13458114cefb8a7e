"""Stretches in which a sensor shows the same value in all samples: it was disconnected, saturated or filled in.

Noise never repeats a value for long. Coarsely rounded recordings do for a while, by chance, which their other sensors
tell.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bayesinv.axes import Array
from bayesinv.problem.account import span_of
from bayesinv.wording import listed

LEAST = 10
"""Fewest equal samples in a row that are named."""

CHANCE = 1e-6
"""Probability that rounding makes such a stretch anywhere in a recording."""


@dataclass(frozen=True)
class Frozen:
    """A sensor and the samples, first and last, of the longest stretch in which its value is the same."""

    sensor: int
    first: int
    last: int


def frozen(table: Array) -> list[Frozen]:
    """Return the sensors of a table (sensor, sample) that have such a stretch."""
    samples = table.shape[1]
    if samples < LEAST:
        return []
    same = np.diff(table, axis=1) == 0
    # Of the usual sensor, so that those without signal do not count.
    usual = float(np.median(same.mean(axis=1)))
    least = LEAST - 1
    if usual > 0:
        least = max(least, int(np.ceil(np.log(CHANCE / table.size) / np.log(min(usual, 1 - 1e-9)))))
    found = []
    for sensor in np.flatnonzero(same.sum(axis=1) >= least):
        ends = np.flatnonzero(np.diff(np.concatenate([[0], same[sensor], [0]]).astype(np.int8)))
        starts, stops = ends[::2], ends[1::2]
        longest = int(np.argmax(stops - starts))
        if stops[longest] - starts[longest] >= least:
            found.append(Frozen(int(sensor), int(starts[longest]), int(stops[longest])))
    return found


def told_of_frozen(table: Array, times: Array, names: Sequence[str], level: int) -> str:
    """Return what to say of a table's frozen sensors, and warn of them; "" where there are none.

    table : (sensor, sample), as recorded
    times : (sample,), s
    level : calls between the user and this function
    """
    found = frozen(table)
    if not found:
        return ""
    each = [f"{names[one.sensor]} from {span_of(times[[one.first, one.last]])}" for one in found]
    told = f"constant: {listed(each, 10)}"
    warnings.warn(
        f"{len(found)} sensor{'s' * (len(found) > 1)} show{'s' * (len(found) == 1)} the same value in sample after "
        f"sample ({listed(each, 5)}), as no noise does: disconnected, saturated or filled in. Leave out the sensor "
        "(problem.without(sensors=...), --leave-out), interpolate it or mark it as bad, or leave out these samples",
        stacklevel=level + 1,
    )
    return told
