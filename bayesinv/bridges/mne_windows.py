"""Windows of response and baseline of an MNE-Python recording."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from bayesinv.axes import one_of

if TYPE_CHECKING:
    import mne


Baseline = Literal["auto"] | tuple[float | None, float | None] | None


def windows_of(
    evoked: mne.Evoked, tmin: float | None, tmax: float | None, baseline: Baseline
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], bool]:
    """Return masks (sample,) of recording and baseline, and whether the baseline's mean was subtracted."""
    times, step = evoked.times, 1 / evoked.info["sfreq"]

    def inside(start: float | None, stop: float | None) -> NDArray[np.bool_]:
        low = -np.inf if start is None else start
        high = np.inf if stop is None else stop
        return np.asarray((times >= low - 1e-3 * step) & (times <= high + 1e-3 * step))

    span = f"the recording runs from {times[0]:g} to {times[-1]:g} s"
    if tmin is not None and tmax is not None and tmin > tmax:
        raise ValueError(f"tmin is {tmin:g} s and tmax {tmax:g} s, but tmin must come first")
    corrected = evoked.baseline
    if isinstance(baseline, str):
        one_of("baseline", baseline, ("auto",), " or give (start, stop) in s, or None")
        window = corrected if corrected is not None else (None, 0.0) if times[0] < 0 else None
    else:
        window = baseline
    if window is not None and (not isinstance(window, tuple | list) or len(window) != 2):
        raise ValueError(f"baseline is {baseline!r}, but must be 'auto', None or (start, stop) in s")
    in_baseline = np.zeros(len(times), dtype=bool) if window is None else inside(*window)
    if in_baseline.sum() < 2:
        if window is not None and baseline != "auto":
            raise ValueError(f"baseline {window} s holds {in_baseline.sum()} samples, too few to learn from; {span}")
        in_baseline[:] = False
    in_window = inside(tmin, tmax)
    if tmin is None and in_baseline.any():
        in_window &= times > times[in_baseline][-1]
        if not in_window.any():
            raise ValueError(
                f"no sample comes after the baseline's end at {times[in_baseline][-1]:g} s"
                f"{'' if tmax is None else f' and before {tmax:g} s'}; {span}: give tmin, or baseline=None"
            )
    if not in_window.any():
        raise ValueError(f"no sample between {tmin} and {tmax} s; {span}")
    centred = False
    if corrected is not None and in_baseline.any():
        low = times[0] if corrected[0] is None else corrected[0]
        high = times[-1] if corrected[1] is None else corrected[1]
        covered = times[0] <= low + step / 2 and times[-1] >= high - step / 2
        centred = covered and bool((inside(low, high) == (in_baseline & ~in_window)).all())
    if (in_baseline & in_window).any():
        in_baseline &= ~in_window
        if in_baseline.sum() < 2:
            warnings.warn(
                "the recording's window covers the baseline, so no baseline is left to learn the noise from; "
                "give baseline=None if that is meant",
                stacklevel=3,
            )
            in_baseline[:] = False
    return in_window, in_baseline, centred
