"""Autocorrelation of the noise over time: given, estimated from noise alone, or implied by a low-pass filter.

    noise ~ MatrixNormal(0, noise² N, K),   K_tu = r(|t - u|),   r(0) = 1

A recording is low-passed, so that its noise is correlated over samples; taken as white it is counted many times over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike
from scipy.linalg import solve_toeplitz

from bayesinv.axes import Array, Index, freeze, one_of, real
from bayesinv.memory import PickledByFields

MAX_ORDER = 40
"""Highest order of an autoregressive process that is fitted."""

SAMPLES_PER_ORDER = 4
"""Least number of noise samples per order of the process."""

MIN_SAMPLES = 24
"""Fewest samples of noise from which an autocorrelation is estimated."""

STRONG = 10.0
"""Difference of the information criterion that counts as strong evidence against white noise."""

PREDICTABLE = 1e-9
"""Share of the power that an innovation must have: what is predicted better is a constant or a tone, and no noise."""

CENTRING_STEPS = 8
"""Steps of the iteration that puts back what subtracting the mean of the noise took away."""

NEGLIGIBLE = 1e-5
"""Autocorrelation below which lags are left out."""

LONGEST = 4096
"""Most lags that the autocorrelation of a process is followed for."""

GRID_TOLERANCE = 1e-2
"""Distance of a lag from a whole number of steps, in steps, up to which it is taken for rounded."""

STOP_BAND = 1e-2
"""Power above a low-pass relative to that below it: filters and converters leave some."""

AS_ASKED = "white, as asked"
"""What is said of noise that is white by choice."""

TAKEN, IMPLIED = "taken as white", "that of white noise"
"""What is said first of an autocorrelation that is assumed."""

NoiseTime: TypeAlias = "str | ArrayLike | Mapping[str, ArrayLike] | Autocorrelation"
"""What may be said of the noise over time: "auto", "white", an autocorrelation (lag,), or one by group."""


@dataclass(frozen=True, eq=False)
class Autocorrelation(PickledByFields):
    """Correlation of the noise of one time with that of another, by group of components.

    values : (group, lag), 1 at lag 0; 0 beyond the last lag
    step : s from one lag to the next
    groups : names of the groups ("meg", "eeg"), or () where there is one for all components
    source : where it is from, in words

    Raises
    ------
    ValueError
        If a value at lag 0 is not 1, the values are those of no stationary process, or names and values do not fit.
    """

    values: Array
    step: float
    groups: tuple[str, ...] = ()
    source: str = "given"

    def __post_init__(self) -> None:
        values = np.asarray(self.values)
        values = real("autocorrelation", values[None] if values.ndim == 1 else values, "group lag")
        if not values.size:
            raise ValueError("autocorrelation is empty; it wants a value per lag, 1 at lag 0")
        if len(values) != max(1, len(self.groups)):
            raise ValueError(f"autocorrelation has group = {len(values)}, but groups are {self.groups or 'not named'}")
        if not 0 < self.step < np.inf:
            raise ValueError(f"step is {self.step} s, but must be positive and finite")
        if np.abs(values[:, 0] - 1).max() > 1e-9:
            raise ValueError(f"autocorrelation is {values[:, 0].tolist()} at lag 0, but must be 1 there")
        # A stationary process has a spectrum that is nowhere negative; lags beyond the last are zero.
        size, spectrum = 8 * values.shape[1], _spectrum(values)
        if spectrum.min() < -1e-6 * spectrum.max():
            raise ValueError(
                "autocorrelation is that of no stationary process: its spectrum is negative "
                f"({spectrum.min():.2g} at {np.argmin(spectrum.min(axis=0)) / size:.3g} cycles per sample); "
                "multiply it by a taper that falls to zero at the last lag"
            )
        object.__setattr__(self, "values", values)
        freeze(values)

    @property
    def white(self) -> bool:
        """Whether samples are independent."""
        return self.values.shape[1] == 1

    @property
    def chosen_white(self) -> bool:
        """Whether it is white by choice, and so in every respect."""
        return self.source == AS_ASKED

    @property
    def assumed(self) -> bool:
        """Whether it is neither given nor estimated from noise alone."""
        return self.source.startswith((TAKEN, IMPLIED))

    @property
    def spectrum(self) -> Array:
        """Power (group, frequency), 1 on average, at equally spaced frequencies from 0 to half the sampling rate."""
        return _spectrum(self.values)

    @property
    def description(self) -> str:
        """It in words: correlation at one step, by group, and where it is from."""
        if self.white:
            return self.source
        each = "; ".join(
            f"{name} {values[1]:.2f}".strip() for name, values in zip(self.groups or ("",), self.values, strict=True)
        )
        return f"correlation {each} at one sample ({self.source})"

    def of_component(self, groups: Sequence[str]) -> Index:
        """Row of `values` for each component (component,), given the group that each belongs to."""
        if not self.groups:
            return np.zeros(len(groups), dtype=np.int64)
        missing = sorted(set(groups) - set(self.groups))
        if missing:
            raise ValueError(f"autocorrelation knows {', '.join(self.groups)}, but components are of {missing[0]} too")
        return np.array([self.groups.index(group) for group in groups], dtype=np.int64)

    def between(self, one: Array, other: Array) -> Array:
        """Correlation of noise at some times with that at others: (group, time, time).

        one, other : (time,), s

        Raises
        ------
        ValueError
            If the times are no whole number of steps apart.
        """
        steps = np.append(np.diff(one), np.diff(other)) / self.step
        if len(steps) and np.abs(steps - 1).max() * len(steps) < GRID_TOLERANCE:
            # Where both are equally spaced there are as many lags as times, read through a window that moves backwards.
            lags = one[0] - other[-1] + self.step * np.arange(len(one) + len(other) - 1)
            return sliding_window_view(self.at(lags), len(other), axis=1)[:, :, ::-1].copy()
        return self.at(one[:, None] - other[None, :])

    def at(self, distances: Array) -> Array:
        """Correlation of noise with itself some time, in s, earlier or later: (group, ...).

        Raises
        ------
        ValueError
            If the times are no whole number of steps.
        """
        lags = np.abs(distances) / self.step
        whole = np.rint(lags).astype(np.int64)
        if np.abs(lags - whole).max(initial=0) > GRID_TOLERANCE:
            raise ValueError(
                f"the noise's autocorrelation is known at steps of {1e3 * self.step:.4g} ms, but samples lie "
                f"{1e3 * self.step * float(lags[lags > GRID_TOLERANCE].min()):.4g} ms apart; give "
                'noise_time at the step of the recording, or "white"'
            )
        padded = np.pad(self.values, ((0, 0), (0, 1)))
        return np.asarray(padded[:, np.minimum(whole, padded.shape[1] - 1)])


def estimated(
    noise: Array, groups: Sequence[str], step: float, source: str, trials: int = 1, centred: bool = False
) -> Autocorrelation:
    """Return the autocorrelation of noise, that of an autoregressive process whose order the data choose.

    The components of a group share one process, fitted by Burg's method; its order is that with the least Bayesian
    information criterion, which is 0 for noise that is white.

    noise : (component, sample), the samples of trials side by side
    groups : one per component
    step : s
    source : where the noise is from, in words
    trials : number of trials, of equally many samples each
    centred : whether the mean of each trial was subtracted; the power that is lost with it is put back

    References: Burg (1975), thesis, Stanford; Schwarz (1978), Ann. Stat. 6, 461-464.
    """
    names = tuple(dict.fromkeys(groups))
    rows = np.array(groups)
    count = noise.shape[1] // trials
    blocks = noise.reshape(len(noise), trials, count)
    found = []
    for name in names:
        series = blocks[rows == name].reshape(-1, count)
        coefficients = burg(series, min(MAX_ORDER, count // SAMPLES_PER_ORDER))
        found.append(_uncentred(coefficients, count) if centred else _extended(coefficients))
    length = max(map(len, found))
    if length == 1:
        return white(step, f"white, {source}")
    values = np.stack([np.pad(one, (0, length - len(one))) for one in found])
    return Autocorrelation(values, step, names if len(names) > 1 else (), source)


def burg(series: Array, max_order: int) -> Array:
    """Return the coefficients (order,) of an autoregressive process that several series share.

        x_t = Σ_k a_k x_(t-k) + innovation

    series : (series, sample), of mean 0
    max_order : the order is the one, up to this, with the least Bayesian information criterion; it is 0 unless that of
        another is less by `STRONG`

    Reference: Burg (1975), thesis, Stanford.
    """
    forward, backward = series[:, 1:], series[:, :-1]
    power = float(np.mean(series**2))
    coefficients, best = np.zeros(0), np.zeros(0)
    if not power:
        return best
    criterion = series.size * np.log(power) - STRONG
    for order in range(1, max_order + 1):
        reflection = 2 * float(np.sum(forward * backward)) / float(np.sum(forward**2) + np.sum(backward**2))
        coefficients = np.append(coefficients - reflection * coefficients[::-1], reflection)
        if 1 - reflection**2 < PREDICTABLE:
            break
        power *= 1 - reflection**2
        found = series.size * np.log(power) + order * np.log(series.size)
        if found < criterion:
            criterion, best = found, coefficients
        forward, backward = (forward - reflection * backward)[:, 1:], (backward - reflection * forward)[:, :-1]
    return best


def _uncentred(coefficients: Array, count: int) -> Array:
    """Autocorrelation (lag,) of a process whose `coefficients` were fitted to series less their means.

    A mean over n samples has the variance c = Σ_k (1 - |k| / n) r_k / n, which every lag lost with it.
    """
    lost = _extended(coefficients)
    found, order = lost, len(coefficients)
    for _ in range(CENTRING_STEPS if order else 0):
        lags = min(len(found), count)
        share = 1 - np.arange(1, lags) / count
        mean_variance = (1 + 2 * float(share @ found[1:lags])) / count
        first = np.pad(lost, (0, order))[: order + 1] * (1 - mean_variance) + mean_variance
        nearer = solve_toeplitz(first[:-1], first[1:])
        if not np.abs(np.roots(np.append(1.0, -nearer))).max() < 1:
            # Of what hardly changes over the series the mean takes nearly all, and rounding what is left.
            break
        found = _extended(nearer)
    return found


def _extended(coefficients: Array) -> Array:
    """Autocorrelation (lag,) of an autoregressive process, up to the lag beyond which it is negligible."""
    if not coefficients.size:
        return np.ones(1)
    from scipy.signal import lfilter  # which loads slowly

    # The power of the impulse response at a lag: r_k = Σ_t h_t h_(t+k).
    impulse = np.zeros(LONGEST)
    impulse[0] = 1.0
    response = lfilter([1.0], np.append(1.0, -coefficients), impulse)
    spectrum = np.abs(np.fft.rfft(response, n=2 * LONGEST)) ** 2
    values = np.fft.irfft(spectrum)[:LONGEST]
    values = values / values[0]
    last = int(np.flatnonzero(np.abs(values) > NEGLIGIBLE)[-1])
    values = values[: last + 1]
    # Where a filter leaves almost nothing, lags that are left out may make the spectrum negative: white noise, as weak,
    # lifts it.
    floor = max(0.0, -1.1 * float(_spectrum(values).min()))
    values[1:] /= 1 + floor
    return np.asarray(values)


def _spectrum(values: Array) -> Array:
    """Power (..., frequency) of a process with an autocorrelation (..., lag), 1 on average; lags beyond are zero."""
    return np.asarray(2 * np.fft.rfft(values, n=8 * values.shape[-1], axis=-1).real - 1)


def of_low_pass(cutoff: float, step: float, lags: int) -> Autocorrelation | None:
    """Return the autocorrelation of white noise that was low-passed; None where the filter leaves it white.

    cutoff : Hz; step : s; lags : number of lags
    """
    nyquist = 0.5 / step
    if not 0 < cutoff < 0.95 * nyquist:
        return None
    share = cutoff / nyquist
    values = (1 - STOP_BAND) * np.sinc(share * np.arange(lags)) + STOP_BAND * (np.arange(lags) == 0)
    # A triangular taper convolves the spectrum with one that is nowhere negative.
    values = values * (1 - np.arange(lags) / lags)
    return Autocorrelation(values, step, (), f"low-pass at {cutoff:g} Hz, as the header says")


def white(step: float, source: str) -> Autocorrelation:
    """Return the autocorrelation of noise that is white over time."""
    return Autocorrelation(np.ones((1, 1)), step, (), source)


def chosen(
    noise_time: NoiseTime,
    baseline: Array | None,
    groups: Sequence[str],
    times: Array,
    centred: bool,
    low_pass: float | None = None,
) -> Autocorrelation:
    """Return the autocorrelation that `noise_time` asks for.

    noise_time : "auto" estimates it from the baseline, "white" takes samples as independent; an autocorrelation (lag,)
        at the recording's step, or one for each group, {"meg": ..., "eeg": ...}; or an `Autocorrelation`
    baseline : (component, sample), in units of the noise
    groups : one per component
    times : (time,), s, of the recording
    centred : whether the mean of the baseline was subtracted
    low_pass : Hz, of the recording, where it is known

    Raises
    ------
    ValueError
        If it is none of these, or no autocorrelation.
    """
    if isinstance(noise_time, Autocorrelation):
        return noise_time
    steps = np.diff(times)
    step = float(np.median(steps)) if len(steps) else 1.0
    names = tuple(dict.fromkeys(groups))
    if not isinstance(noise_time, str):
        if isinstance(noise_time, Mapping):
            return Autocorrelation(_by_group(noise_time, names), step, names if len(names) > 1 else ())
        values = _numbers(noise_time)
        if values.ndim == 2 and len(names) > 1:
            raise ValueError(
                f"noise_time has {len(values)} rows, but nothing says which is whose; give one by group, "
                f"{{{', '.join(f'{name!r}: ...' for name in names)}}}"
            )
        return Autocorrelation(values, step)
    one_of("noise_time", noise_time, ("auto", "white"), " or give the autocorrelation by lag")
    if noise_time == "white":
        return white(step, AS_ASKED)
    if len(steps) and np.ptp(steps) > GRID_TOLERANCE * step:
        return white(step, f"{TAKEN}: samples are not equally spaced")
    count = 0 if baseline is None else baseline.shape[1]
    if baseline is not None and count >= MIN_SAMPLES:
        return estimated(baseline, groups, step, f"estimated from {count} samples of baseline", centred=centred)
    why = "there is no baseline" if not count else f"the baseline has {count} samples, too few to estimate it"
    implied = None if low_pass is None else of_low_pass(low_pass, step, len(times))
    return (
        white(step, f"{TAKEN}: {why}")
        if implied is None
        else replace(implied, source=f"{IMPLIED}, {implied.source}: {why}")
    )


def _by_group(given: Mapping[str, ArrayLike], names: Sequence[str]) -> Array:
    """Autocorrelations (group, lag) in the order of the groups, zero beyond each one's last lag."""
    if set(given) != set(names):
        raise ValueError(
            f"noise_time is of {', '.join(map(repr, given)) or 'no group'}, but the noise has the groups "
            f"{', '.join(map(repr, names))}; give one autocorrelation for each of these"
        )
    rows = [_numbers(given[name]) for name in names]
    if any(row.ndim != 1 for row in rows):
        raise ValueError("noise_time wants one autocorrelation (lag,) for each group")
    longest = max(map(len, rows))
    return np.stack([np.pad(row, (0, longest - len(row))) for row in rows])


def _numbers(given: object) -> Array:
    """Return an autocorrelation that is given as numbers: (lag,) or (group, lag)."""
    wanted = (
        'but must be "auto", "white", an Autocorrelation, or its values by lag, 1 at lag 0: a list or an array (lag,) '
        "or (group, lag); of MNE-Python, from_mne takes epochs or a raw recording"
    )
    if np.ma.isMaskedArray(given):
        raise ValueError(f"noise_time is a masked array, {wanted}; fill it, or leave out what is masked")
    try:
        values = np.asarray(given)
    except ValueError as error:
        raise ValueError(f"noise_time has rows of several lengths, {wanted}") from error
    if not values.ndim or values.dtype.kind not in "iufc":
        shown = repr(given)
        raise ValueError(f"noise_time is {shown if len(shown) < 60 else f'of type {type(given).__name__}'}, {wanted}")
    if values.ndim > 2 or not values.size:
        raise ValueError(f"noise_time has shape {values.shape}, {wanted}")
    return real("noise_time", values, "lag" if values.ndim == 1 else "group lag")


def check_fits(known: Autocorrelation | None, groups: Sequence[str], times: Array) -> None:
    """Check that an autocorrelation knows all groups of components, and the samples' distances.

    Raises
    ------
    ValueError
        If it does not.
    """
    if known is None or known.white:
        return
    known.of_component(groups)
    known.at(times - times[0])


def whiteness(series: Array, lags: int) -> tuple[Array, float]:
    """Return the autocorrelation (lag,) from lag 1 of series pooled, and its standard error where they are white.

    series : (series, sample)
    """
    count = series.shape[1]
    power = float(np.mean(series**2))
    found = np.array([np.sum(series[:, k:] * series[:, :-k]) / (count - k) for k in range(1, lags + 1)])
    return found / (len(series) * power or 1.0), float(1 / np.sqrt(len(series) * count))
