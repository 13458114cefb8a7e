"""Checks of an input: its units, outlying gains, constant maps."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

from bayesinv.axes import Array, Index, real

OUTLYING_RATIO = 5.0
"""Ratio of a source's gain to the median of its neighbours', beyond which it is an outlier."""

NEIGHBOUR_COUNT = 12
"""Nearest sources that a source's gain is compared with."""

IMPLAUSIBLE_POWER = 1e4
"""Whitened global field power, and inverse of the smallest, that only a wrong unit or covariance explains."""


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


def check_gain_norms(norms: Array) -> None:
    """Raise where the norm (source,) of a source's gain is zero: no sensor measures it."""
    zero = np.flatnonzero(norms == 0)
    if zero.size:
        raise ValueError(
            f"{zero.size} source{'s' * (zero.size > 1)} (first: {zero[0]}) reach no sensor: their gain "
            "columns are zero; leave them out"
        )


def check_power(name: str, whitened: Array) -> None:
    """Raise where a whitened field (component, time) has a power that noise of scale one cannot explain."""
    power = float(np.sqrt(np.median(np.mean(whitened**2, axis=0))))
    if power and not 1 / IMPLAUSIBLE_POWER < power < IMPLAUSIBLE_POWER:
        raise ValueError(
            f"the whitened {name} has a global field power of {power:.1e}, where noise has 1: recording "
            "and noise covariance cannot be in the same units (wanted V, T and T/m, not µV or fT), or do "
            "not belong together"
        )


def warn_of_power(power: float | None) -> None:
    """Warn, where a problem is built, when the power of its whitened baseline is not that of noise of scale one."""
    if power is not None and not 0.5 < power < 2.0:
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
