"""Windows of response and baseline of an MNE-Python recording.

An average says by which window it was baseline-corrected, and says so still after its times were shifted. The samples
know better: over that window, and no other, the mean of every channel is zero up to rounding.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from bayesinv.axes import Array, one_of
from bayesinv.problem.plausibility import offset_of
from bayesinv.problem.windows import is_time

if TYPE_CHECKING:
    import mne


Baseline = Literal["auto"] | tuple[float | None, float | None] | None

ROUNDING = 1e-3
"""Root mean square of channels' means, in standard deviations, that only a subtracted mean has: single precision gives
1e-8, the mean of noise over a hundred samples 0.1 or more."""

STALE = 2.0
"""Square of the mean over the window of a correction, in squares of its sampling error, beyond which it is another's:
filtering and decimation after the correction leave less than 1."""

FEWEST = 3
"""Components whose means are all zero by chance over no window."""


ROUNDED_SAMPLES = 2.5
"""Samples by which a baseline may end after time 0 without a word."""


@dataclass(frozen=True, eq=False)
class Windows:
    """Samples of the recording and of the baseline, as masks (sample,).

    centred : whether a mean was subtracted from the recording, and the baseline is taken less its own
    corrected : (sample,), s, over which that mean was taken where these are others than the baseline's; or None
    """

    recording: NDArray[np.bool_]
    baseline: NDArray[np.bool_]
    centred: bool
    corrected: Array | None


@dataclass(frozen=True)
class Correction:
    """The window, in s, by which an average was baseline-corrected, and what the average says of it where it errs.

    window : None where there was no correction, or its window is not known
    centred : whether the mean over the window is known to be zero
    complaint : what is wrong with the average's own word, or ""
    """

    window: tuple[float, float] | None
    centred: bool = False
    complaint: str = ""


def corrected(evoked: mne.Evoked, window: tuple[float | None, float | None]) -> mne.Evoked:
    """Return the average less the mean of every channel over a window (start, stop) in s.

    Raises
    ------
    ValueError
        If it is no such pair, or holds no sample.
    """
    low, high = _ends("baseline_correct", window)
    inside = _inside(evoked, low, high)
    if not inside.any():
        raise ValueError(f"baseline_correct {window} s holds no sample; {_span(evoked)}")
    first, last = (float(one) for one in evoked.times[inside][[0, -1]])
    # A correction that was is undone by another: both subtract a constant.
    return evoked.copy().apply_baseline((first, last))


def windows_of(
    evoked: mne.Evoked, tmin: float | None, tmax: float | None, baseline: Baseline, whitened: Array
) -> Windows:
    """Return the samples of recording and baseline.

    whitened : (component, sample), all of the average

    Raises
    ------
    ValueError
        If a window holds no sample, or is none.
    """
    times = evoked.times
    for name, end in (("tmin", tmin), ("tmax", tmax)):
        if end is not None and not (is_time(end) and end == end):
            raise ValueError(f"{name} is {end!r}, but must be a time in s, or None; {_span(evoked)}")
    if tmin is not None and tmax is not None and tmin > tmax:
        raise ValueError(f"tmin is {tmin:g} s and tmax {tmax:g} s, but tmin must come first")
    correction = _correction(evoked, whitened)
    window: tuple[float, float] | None
    if isinstance(baseline, str):
        one_of("baseline", baseline, ("auto",), " or give (start, stop) in s, or None")
        window = correction.window
        if window is None and not correction.complaint and times[0] < 0:
            window = (-np.inf, 0.0)
        if correction.complaint:
            warnings.warn(correction.complaint, stacklevel=3)
    else:
        window = None if baseline is None else _ends("baseline", baseline)
    in_baseline = np.zeros(len(times), dtype=bool) if window is None else _inside(evoked, *window)
    if in_baseline.sum() < 2:
        if window is not None and baseline != "auto":
            raise ValueError(
                f"baseline {baseline} s holds {in_baseline.sum()} samples, too few to learn from; {_span(evoked)}"
            )
        in_baseline[:] = False
    if baseline != "auto" and in_baseline.any() and times[0] < 0:
        first, last = times[in_baseline][[0, -1]]
        # A sample or two after 0 are rounding.
        if first > 0 or last > ROUNDED_SAMPLES / evoked.info["sfreq"]:
            warnings.warn(
                f"the baseline {f'begins {first:g}' if first > 0 else f'ends {last:g}'} s after time 0: what follows a "
                "stimulus there is taken for noise; give a window before it",
                stacklevel=3,
            )
    in_window = _inside(evoked, -np.inf if tmin is None else tmin, np.inf if tmax is None else tmax)
    if tmin is None and in_baseline.any():
        in_window &= times > times[in_baseline][-1]
        if not in_window.any():
            raise ValueError(
                f"no sample comes after the baseline's end at {times[in_baseline][-1]:g} s"
                f"{'' if tmax is None else f' and before {tmax:g} s'}; {_span(evoked)}: give tmin, or baseline=None"
            )
    if not in_window.any():
        ends = [f"{word} {end:g} s" for word, end in (("from", tmin), ("to", tmax)) if end is not None]
        raise ValueError(f"no sample {' '.join(ends)}; {_span(evoked)}")
    centred = False
    if correction.window is not None and correction.centred and in_baseline.any():
        centred = bool((_inside(evoked, *correction.window) == (in_baseline & ~in_window)).all())
    corrected = None if centred or evoked.baseline is None else _times_of(evoked, correction.window)
    if (in_baseline & in_window).any():
        in_baseline &= ~in_window
        if in_baseline.sum() < 2:
            warnings.warn(
                "the recording's window covers the baseline, so no baseline is left to learn the noise from; "
                "give baseline=None if that is meant",
                stacklevel=3,
            )
            in_baseline[:] = False
    corrected = corrected if in_baseline.any() else None
    return Windows(in_window, in_baseline, centred or corrected is not None, corrected)


def _times_of(evoked: mne.Evoked, window: tuple[float, float] | None) -> Array | None:
    """Return the times of a window's samples, of which some may have been cropped; None where it is not known."""
    if window is None or not np.isfinite(window).all():
        return None
    rate, first = evoked.info["sfreq"], evoked.times[0]
    low, high = (round((end - first) * rate) for end in window)
    return np.asarray(first + np.arange(low, high + 1) / rate) if high > low else None


def _span(evoked: mne.Evoked) -> str:
    return f"the recording runs from {evoked.times[0]:g} to {evoked.times[-1]:g} s"


def _ends(name: str, window: tuple[float | None, float | None]) -> tuple[float, float]:
    """Return the ends of a window in s, infinite where they are open."""
    if not isinstance(window, tuple | list) or len(window) != 2:
        choices = "'auto', None" if name == "baseline" else "None"
        raise ValueError(f"{name} is {window!r}, but must be {choices} or (start, stop) in s")
    start, stop = window
    if not all(end is None or (is_time(end) and end == end) for end in window):
        raise ValueError(f"{name} is {window!r}, but its ends must be times in s, or None where they are open")
    return -np.inf if start is None else float(start), np.inf if stop is None else float(stop)


def _inside(evoked: mne.Evoked, low: float, high: float) -> NDArray[np.bool_]:
    """Return the mask (sample,) of a window, both ends included."""
    slack = 1e-3 / evoked.info["sfreq"]
    return np.asarray((evoked.times >= low - slack) & (evoked.times <= high + slack))


def _correction(evoked: mne.Evoked, whitened: Array) -> Correction:
    """Return the window that the average was truly corrected by.

    whitened : (component, sample)
    """
    if evoked.baseline is None:
        return Correction(None)
    times, rate = evoked.times, evoked.info["sfreq"]
    start, stop = evoked.baseline
    low, high = float(times[0] if start is None else start), float(times[-1] if stop is None else stop)
    claimed = _inside(evoked, low, high)
    # Where an end was cut off the mean of what is left is not known to be zero.
    covered = times[0] <= low + 0.5 / rate and times[-1] >= high - 0.5 / rate
    offset = offset_of(whitened[:, claimed]) if claimed.any() else None
    if covered and (offset is None or offset.size <= ROUNDING):
        return Correction((low, high), True)
    words = f"the average says that it was baseline-corrected from {low:g} to {high:g} s, but "
    if covered and offset is not None:
        words += (
            f"its mean there is {offset.size:.2g} of the standard deviation of its samples "
            f"({np.sqrt(offset.errors):.2g} times the sampling error), and not zero"
        )
    else:
        words += f"it runs from {times[0]:g} to {times[-1]:g} s"
    found = _centred_window(whitened, round((high - low) * rate) + 1)
    if found is not None:
        first, last = float(times[found][0]), float(times[found][-1])
        if covered and abs(first - low) < 1.5 / rate:
            return Correction((low, high), True)
        return Correction(
            (first, last),
            True,
            f"{words}: the mean is zero from {first:g} to {last:g} s, so times were shifted by {first - low:+.3g} s "
            "since. That window is taken for the baseline; give baseline=(start, stop) for another",
        )
    if covered and offset is not None and offset.errors > STALE:
        return Correction(
            None,
            complaint=f"{words} (shifted times, or changed samples): no baseline is taken. Give baseline=(start, stop) "
            "for one, or baseline_correct=(start, stop) to subtract its mean",
        )
    return Correction((low, high), covered)


def _centred_window(whitened: Array, length: int) -> slice | None:
    """Return the window of about this many samples over which the mean of every component is zero, or None."""
    components, samples = whitened.shape
    if components < FEWEST:
        return None
    sums = np.concatenate([np.zeros((components, 1)), np.cumsum(whitened, axis=1)], axis=1)
    spread = np.maximum(whitened.std(axis=1, keepdims=True), 1e-300)
    best: tuple[float, slice] | None = None
    # The ends of a window lie between samples, so that rounding them may win or lose one.
    for count in (length, length - 1, length + 1):
        if not 2 <= count <= samples:
            continue
        means = (sums[:, count:] - sums[:, :-count]) / count
        sizes = np.sqrt(np.mean((means / spread) ** 2, axis=0))
        start = int(np.argmin(sizes))
        if best is None or sizes[start] < best[0]:
            best = float(sizes[start]), slice(start, start + count)
    if best is None or best[0] > ROUNDING:
        return None
    # Samples that are zero themselves, such as padding, say nothing.
    varies = whitened[:, best[1]].std(axis=1, keepdims=True) > 1e-2 * spread
    return best[1] if varies.any() else None
