"""Time courses: evoked, oscillation, spike, burst."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from bayesinv.axes import Array, real, same_axes

TimeCourse = Callable[[Array, np.random.Generator], Array]
"""From times (time,) in s to a time course (time,) of size 1 at its peak."""


def evoked_course(
    times: ArrayLike,
    latencies: Sequence[float] = (0.1, 0.19),
    widths: Sequence[float] = (0.018, 0.035),
    heights: Sequence[float] = (1.0, -0.5),
) -> Array:
    """Return the time course (time,) of an event-related response: Gaussian waves after time 0, the largest of size 1.

    times, latencies, widths : s; widths are standard deviations
    heights : one per wave, of either sign

    Raises
    ------
    ValueError
        If the waves have not as many latencies as widths and heights, or the time course is zero throughout.
    """
    sample_times = real("times", times, "time")
    peak, width = real("latencies", latencies, "wave"), real("widths", widths, "wave")
    height = real("heights", heights, "wave")
    same_axes(latencies=(peak, "wave"), widths=(width, "wave"), heights=(height, "wave"))
    if (width <= 0).any():
        raise ValueError(f"widths are {list(widths)}, but must be positive, in s")
    course = height @ np.exp(-0.5 * ((sample_times - peak[:, None]) / width[:, None]) ** 2)
    course = np.where(sample_times < 0, 0.0, course)
    largest = np.abs(course).max(initial=0)
    if not largest > 1e-6:
        raise ValueError("no wave lies within the times given")
    return np.asarray(course / largest)


def oscillation(
    times: ArrayLike,
    frequency: float,
    phase: float = 0.0,
    *,
    centre: float | None = None,
    width: float | None = None,
) -> Array:
    """Return sin(2π frequency t + phase) (time,), zero before time 0, of size 1 at most.

    times : (time,), s
    frequency : Hz
    phase : radians, at time 0
    centre, width : mean and standard deviation in s of a Gaussian envelope; both or none

    Raises
    ------
    ValueError
        If the frequency or the width is not positive, the frequency too high for the times, or one of centre and
        width is missing.
    """
    sample_times = real("times", times, "time")
    if not 0 < frequency < np.inf:
        raise ValueError(f"frequency is {frequency}, but must be positive, in Hz")
    if len(sample_times) > 1 and frequency > sampling_rate(sample_times) / 2 * (1 + 1e-9):
        raise ValueError(
            f"frequency is {frequency} Hz, but {sampling_rate(sample_times):.4g} samples per second hold half of that"
        )
    if (centre is None) != (width is None):
        raise ValueError("an envelope wants centre and width; give both or none")
    wave = np.sin(2 * np.pi * frequency * sample_times + phase)
    if centre is not None and width is not None:
        if not width > 0:
            raise ValueError(f"width is {width}, but must be positive, in s")
        wave = wave * np.exp(-0.5 * ((sample_times - centre) / width) ** 2)
    return np.where(sample_times < 0, 0.0, wave)


def spike_course(times: ArrayLike, latency: float = 0.1) -> Array:
    """Return the time course (time,) of an epileptic spike: sharp wave of about 50 ms, rebound, slow wave of its sign.

    times : (time,), s
    latency : of the sharp wave's peak, s; nothing before time 0
    """
    return evoked_course(times, (latency, latency + 0.045, latency + 0.2), (0.012, 0.02, 0.06), (1.0, -0.3, 0.45))


def sinusoid(times: Array, rng: np.random.Generator, band: tuple[float, float] = (1.0, 5.0)) -> Array:
    """Return an oscillation (time,) of uniform random frequency in a band (Hz) and uniform random phase."""
    return oscillation(times, float(rng.uniform(*band)), float(rng.uniform(0, 2 * np.pi)))


def burst(
    times: Array, rng: np.random.Generator, band: tuple[float, float] = (1.0, 5.0), shortest: float = 0.33
) -> Array:
    """Return band-limited white noise under a Hann window of random length and start after time 0: (time,).

    band : lowest and highest frequency, Hz
    shortest : of the window, s

    Raises
    ------
    ValueError
        If there are fewer samples after time 0 than the shortest window has, or the band holds no frequency.
    """
    after = np.flatnonzero(np.asarray(times) >= 0)
    fewest = round(shortest * sampling_rate(np.asarray(times)))
    if len(after) < fewest:
        raise ValueError(f"{len(after)} samples after time 0 are fewer than the {fewest} of the shortest burst")
    length = int(rng.integers(fewest, len(after) + 1))
    start = int(after[0] + rng.integers(0, len(after) - length + 1))
    frequency = np.fft.rfftfreq(length, 1 / sampling_rate(np.asarray(times)))
    inside = (frequency >= band[0]) & (frequency <= band[1])
    if not inside.any():
        raise ValueError(f"no frequency from {band[0]} to {band[1]} Hz fits into {length} samples; lengthen the window")
    wave = np.hanning(length) * np.fft.irfft(np.fft.rfft(rng.standard_normal(length)) * inside, length)
    course = np.zeros(len(times))
    course[start : start + length] = wave / np.abs(wave).max()
    return course


def sampling_rate(times: Array) -> float:
    """Samples per second."""
    if len(times) < 2:
        raise ValueError("times hold one sample, which has no rate")
    return float((len(times) - 1) / (times[-1] - times[0]))
