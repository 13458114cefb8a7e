"""Time courses of currents: correlation between samples, and the range of time constants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from bayesinv.axes import Array
from bayesinv.problem.problem import Problem

COURSES = ("matern", "autoregressive")

EVEN = 1e-9
"""Difference of steps, relative to a step, up to which samples are equally spaced but for rounding."""


def correlation_over_time(times: Array, constant: float, course: str = "matern") -> Array:
    """Return the correlation (time, time) of the currents' time courses.

        K_tu = (1 + d) exp(-d), d = sqrt(3) |t - u| / constant      "matern": Matérn with ν = 3/2, smooth time courses
        K_tu = exp(-|t - u| / constant)                              "autoregressive": first order, rough time courses

    times : (time,), s
    constant : s

    Reference: Rasmussen & Williams (2006), Gaussian Processes for Machine Learning, §4.2.
    """
    return _over(times, lambda distances: correlation_at(distances, constant, course))


def correlation_at(distances: Array, constant: float, course: str = "matern") -> Array:
    """Return the correlation (...) of a time course with itself some time, in s, earlier or later."""
    lag = np.abs(distances) / constant
    if course == "autoregressive":
        return np.asarray(np.exp(-lag))
    lag = np.sqrt(3) * lag
    return np.asarray((1 + lag) * np.exp(-lag))


def slope_over_time(times: Array, constant: float, course: str = "matern") -> Array:
    """Return the derivative (time, time) of `correlation_over_time` by the time constant, 1/s."""

    def at(distances: Array) -> Array:
        lag = np.abs(distances) / constant
        if course == "autoregressive":
            return np.asarray(lag * np.exp(-lag) / constant)
        lag = np.sqrt(3) * lag
        return np.asarray(lag**2 * np.exp(-lag) / constant)

    return _over(times, at)


def _over(times: Array, at: Callable[[Array], Array]) -> Array:
    """A function of distances in time at all pairs of times: (time, time)."""
    if len(times) < 3 or np.ptp(np.diff(times)) > EVEN * abs(times[1] - times[0]):
        return at(times[:, None] - times)
    # A Toeplitz matrix has as many different entries as samples; they are read through a window that moves backwards.
    lags = (times[-1] - times[0]) / (len(times) - 1) * np.arange(1 - len(times), len(times))
    return np.array(sliding_window_view(at(lags), len(times))[::-1])


def equally_spaced(times: Array) -> bool:
    """Whether samples are equally spaced, to a thousandth of a step."""
    steps = np.diff(times)
    return not len(steps) or float(np.ptp(steps)) <= 1e-3 * float(steps.mean())


def check_times(times: Array, constant: Any) -> None:
    """Raise unless samples are equally spaced, and enough to estimate a time constant."""
    if len(times) < 3:
        raise ValueError(
            f"time courses that are correlated over time want at least 3 samples, but there are {len(times)}"
        )
    steps = np.diff(times)
    if not equally_spaced(times):
        raise ValueError(
            f"time courses that are correlated over time want equally spaced samples, but the steps run from "
            f"{1e3 * steps.min():.4g} to {1e3 * steps.max():.4g} ms; resample, or leave `time` out"
        )


def time_range(problem: Problem) -> tuple[float, float]:
    """Time constants in s that may be learned: from a tenth of a sample to ten times the recording."""
    times = problem.times
    step = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 1.0
    return 0.1 * float(step), 10 * float(times[-1] - times[0] + step)
