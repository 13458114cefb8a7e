"""Units, outlying gains, flat maps: what is wrong with an input, by name."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

from bayesinv.axes import Array, Index, real

OUTLYING, NEIGHBOURS = 5.0, 12
"""How many times the median gain of its nearest neighbours a source's gain may be."""

ABSURD_POWER = 1e4
"""Whitened global field power beyond which only a wrong unit or the wrong covariance is left to think of."""


def outlying_gains(positions: Array, norms: Array) -> Index:
    """Sources whose gain is more than `OUTLYING` times that of their neighbours, largest first.

    positions : (source, 3), m
    norms : (source,), of the gain
    """
    if len(positions) <= NEIGHBOURS:
        return np.zeros(0, dtype=np.int64)
    near = cKDTree(positions).query(positions, NEIGHBOURS + 1)[1][:, 1:]
    ratio = norms / np.median(norms[near], axis=1)
    return np.argsort(-ratio)[: int(np.sum(ratio > OUTLYING))]


def check_reach(norms: Array) -> None:
    """Raise where a source reaches no sensor: where the norm (source,) of its gain is zero."""
    silent = np.flatnonzero(norms == 0)
    if silent.size:
        raise ValueError(
            f"{silent.size} source{'s' * (silent.size > 1)} (first: {silent[0]}) reach no sensor: their gain "
            "columns are zero; leave them out"
        )


def check_power(name: str, whitened: Array) -> None:
    """Raise where a whitened field (component, time) is absurdly far from noise of scale one."""
    power = float(np.sqrt(np.median(np.mean(whitened**2, axis=0))))
    if power and not 1 / ABSURD_POWER < power < ABSURD_POWER:
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
    """A map of another modality (source,) with mean 0 and standard deviation 1.

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
