"""Windows: the one rule from a window of time to samples."""

from __future__ import annotations

import numpy as np

from bayesinv.axes import Array, is_number

Window = tuple[float | None, float | None] | float | slice | None
"""(start, stop) in s with open ends as None, one time in s, a slice of samples, or None for all samples."""

WINDOW_FORMS = "give (start, stop) in s, one time in s, a slice of samples, or None for all of them"


def samples_of(times: Array, window: Window = None) -> slice:
    """Return the samples (a slice) that a window holds.

        (start, stop)   the samples whose time lies in [start, stop], in s; None leaves an end open
        one time in s   the sample nearest to it, no farther away than the longest step between samples
        slice           these samples
        None            all samples

    times : (time,), s, increasing

    Raises
    ------
    ValueError
        If the window is of another kind, or holds no sample.
    """
    if window is None:
        return slice(0, len(times))
    if isinstance(window, slice):
        if not len(times[window]):
            raise ValueError(f"{window} holds none of the {len(times)} samples")
        return slice(*window.indices(len(times)))
    if is_time(window):
        return _nearest(times, float(window))  # type: ignore[arg-type]
    if not isinstance(window, tuple | list) or len(window) != 2:
        raise ValueError(f"window is {window!r}; {WINDOW_FORMS}")
    start, stop = window
    for end in (start, stop):
        if not (end is None or is_time(end)) or (end is not None and np.isnan(float(end))):
            raise ValueError(f"window is {window!r}, but its ends must be times in s or None; {WINDOW_FORMS}")
    return _between(times, -np.inf if start is None else float(start), np.inf if stop is None else float(stop))


def is_time(window: object) -> bool:
    """Whether a window is one time in s."""
    return is_number(window)


def _nearest(times: Array, time: float) -> slice:
    nearest = int(np.argmin(np.abs(times - time)))
    step = float(np.diff(times).max()) if len(times) > 1 else 1.0
    if not abs(float(times[nearest]) - time) <= step:
        raise ValueError(f"no sample near {time:g} s; the recording runs from {times[0]:g} to {times[-1]:g} s")
    return slice(nearest, nearest + 1)


def _between(times: Array, start: float, stop: float) -> slice:
    step = np.diff(times).min() if len(times) > 1 else 1.0
    inside = np.flatnonzero((times >= start - 1e-6 * step) & (times <= stop + 1e-6 * step))
    if not inside.size:
        raise ValueError(
            f"no sample between {start:g} and {stop:g} s; the recording runs from {times[0]:g} to {times[-1]:g} s"
        )
    return slice(int(inside[0]), int(inside[-1]) + 1)
