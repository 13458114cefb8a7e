"""Checks of an input: its units, outlying gains, constant maps."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

from bayesinv.axes import Array, Index, real
from bayesinv.problem.autocorrelation import estimated

if TYPE_CHECKING:
    from bayesinv.problem.problem import Problem

OUTLYING_RATIO = 5.0
"""Ratio of a source's gain to the median of its neighbours', beyond which it is an outlier."""

NEIGHBOUR_COUNT = 12
"""Nearest sources that a source's gain is compared with."""

IMPLAUSIBLE_POWER = 1e4
"""Whitened global field power, and inverse of the smallest, that only a wrong unit or covariance explains."""

OFFSET_CHANCE = 1e-4
"""Probability of calling noise an offset."""

LEAST_ERRORS = 3.0
"""Squared mean of the baseline in squares of its sampling error that an offset has at least: on real recordings 0.9 to
2.0 where there is none, since slow noise is more correlated than a short window tells."""

LEAST_SHARE = 0.1
"""Squared mean of the baseline over its variance, below which it does not matter: it changes the power by 5 %."""


def outlying_gains(positions: Array, norms: Array) -> Index:
    """Sources whose gain is more than `OUTLYING_RATIO` times that of their neighbours, largest first.

    positions : (source, 3), m
    norms : (source,), of the gain
    """
    if len(positions) <= NEIGHBOUR_COUNT:
        return np.zeros(0, dtype=np.int64)
    neighbours = cKDTree(positions).query(positions, NEIGHBOUR_COUNT + 1)[1][:, 1:]
    ratio = norms / np.median(norms[neighbours], axis=1)
    return np.argsort(-ratio)[: int(np.sum(ratio > OUTLYING_RATIO))]


def outlying_share(problem: Problem) -> float:
    """Share that outlying sources have of the power which sources that are alike cause in the sensors."""
    powers = problem.source_norms**2
    return float(powers[problem.outliers].sum() / powers.sum())


def check_gain_norms(norms: Array) -> None:
    """Raise where the norm (source,) of a source's gain is zero: no sensor measures it."""
    zero = np.flatnonzero(norms == 0)
    if zero.size:
        raise ValueError(
            f"{zero.size} source{'s' * (zero.size > 1)} (first: {zero[0]}) reach no sensor: their gain "
            "columns are zero; leave them out"
        )


def check_power(name: str, whitened: Array) -> None:
    """Raise where a whitened field (component, time) has a power that noise of scale one cannot explain.

    A baseline is noise, and must have some; a recording may be made later.
    """
    if name == "baseline" and whitened.size and not whitened.any():
        raise ValueError(
            "the baseline is zero everywhere: nothing was measured, or an array was never filled; give one that has "
            "data, or leave it out"
        )
    power = float(np.sqrt(np.median(np.mean(whitened**2, axis=0))))
    if power and not 1 / IMPLAUSIBLE_POWER < power < IMPLAUSIBLE_POWER:
        raise ValueError(
            f"the whitened {name} has a global field power of {power:.1e}, where noise has 1: recording "
            "and noise covariance cannot be in the same units (wanted V, T and T/m, not µV or fT), or do "
            "not belong together"
        )


@dataclass(frozen=True)
class Offset:
    """The mean of a baseline over its samples, against what noise leaves of it.

    with_mean, without_mean : global field power of the whitened baseline, with its mean and about it
    errors : mean square of the components' means, in squares of their sampling error; 1 of noise
    significant : whether noise has such a mean with a probability below `OFFSET_CHANCE`, and it adds to the power
    """

    with_mean: float
    without_mean: float
    errors: float
    significant: bool

    @property
    def size(self) -> float:
        """Root mean square of the components' means, in standard deviations of their samples."""
        return float(np.sqrt(max(self.with_mean**2 - self.without_mean**2, 0.0)) / self.without_mean)


def offset_of(baseline: Array) -> Offset | None:
    """Compare the mean of a whitened baseline (component, sample) with its sampling error; None where nothing varies.

    The mean of n samples with autocorrelation ρ_k has the variance s² (1 + 2 Σ_k (1 - k / n) ρ_k) / n. The correlation
    is that of an autoregressive process, which a window that is short beside it cannot show whole.

    Reference: Bayley & Hammersley (1946), J. R. Stat. Soc. Suppl. 8, 184-197.
    """
    from scipy.stats import f  # which loads slowly

    components, count = baseline.shape
    mean = baseline.mean(axis=1)
    centred = baseline - mean[:, None]
    power = float(np.sum(centred**2))
    if count < 2 or power <= np.finfo(float).eps * float(np.sum(baseline**2)):
        return None
    correlation = estimated(centred, ["all"] * components, 1.0, "here", centred=True).values[0, :count]
    lags = np.arange(1, len(correlation))
    share = float(1 + 2 * (1 - lags / count) @ correlation[1:]) / count
    # The mean has that share of the variance, and took it from the samples.
    square, variance = float(np.mean(mean**2)), power / (components * count * max(1 - share, 1 / count))
    errors = square / (share * variance)
    chance = float(f.isf(OFFSET_CHANCE, components, max(1.0, components * (count - 1) / (share * count))))
    # Of many samples even a mean that does not matter would be seen.
    significant = errors > max(LEAST_ERRORS, chance) and square > LEAST_SHARE * variance
    within = power / (components * count)
    return Offset(float(np.sqrt(square + within)), float(np.sqrt(within)), errors, bool(significant))


def offset_in(problem: Problem) -> Offset | None:
    """The mean of a problem's baseline, worked out once; None where there is none, or it was subtracted."""
    baseline = problem.baseline
    if baseline is None or problem.baseline_centred:
        return None
    return problem.memory.recall("offset", (), lambda: offset_of(baseline))


def warn_of_baseline(problem: Problem) -> None:
    """Warn, where a problem is built, when its whitened baseline is not like noise of scale one and mean zero."""
    offset, power = offset_in(problem), problem.baseline_power
    if offset is not None and offset.significant:
        warnings.warn(
            f"the baseline has a mean that noise does not have, {np.sqrt(offset.errors):.2g} times its sampling error: "
            f"its global field power is {offset.with_mean:.2f} with its mean and {offset.without_mean:.2f} without, "
            "where a covariance that belongs to this recording gives 1. The average was not baseline-corrected; "
            "baseline_correct=(start, stop) of from_mne, --baseline-correct of fit, subtracts the mean over a window",
            stacklevel=4,
        )
    elif power is not None and not 0.5 < power < 2.0:
        warnings.warn(
            f"the whitened baseline has a global field power of {power:.2f}, where a covariance that belongs "
            "to this recording gives 1: check that both were filtered alike, that the covariance is of one "
            "trial and the number of averages is right",
            stacklevel=4,
        )


def standardised_map(name: str, values: ArrayLike, sources: int) -> Array:
    """Return a map of another modality (source,) with mean 0 and standard deviation 1.

    Raises
    ------
    ValueError
        If it has another length than there are sources, or is the same everywhere.
    """
    table = real(f"map {name!r}", values, "source")
    if len(table) != sources:
        raise ValueError(f"map {name!r} has source = {len(table)}, but the problem has source = {sources}")
    spread = float(table.std())
    if not spread > 1e-12 * float(np.abs(table).max()):
        raise ValueError(f"map {name!r} is the same at every source; it tells nothing about where currents are")
    return np.asarray((table - table.mean()) / spread)
