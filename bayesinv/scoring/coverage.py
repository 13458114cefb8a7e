"""Coverage of central intervals, and how far it is from their level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from bayesinv.axes import Array, Index, real, same_axes

LEVELS: Array = np.arange(11) / 10
"""Levels at which coverage is computed by default."""

PIT_BINS = 200
"""Bins of a PIT histogram; coverage is exact at all levels that are multiples of 2 / PIT_BINS."""


def coverage(pit_values: ArrayLike, levels: ArrayLike = LEVELS) -> Array:
    """Return the share of truths inside the central interval of every level: (level,).

        g(c) = mean 1[|2 F(truth) - 1| <= c]

    pit_values : F(truth), as `pit` returns them, of any shape
    levels : (level,), in [0, 1]

    Raises
    ------
    ValueError
        If there is no PIT value, or one of them or a level lies outside [0, 1].
    """
    wanted = real("levels", levels, "level")
    values = np.ravel(np.asarray(pit_values, dtype=np.float64))
    if not values.size:
        raise ValueError("there are no pit_values, so coverage is not defined")
    for name, value in (("levels", wanted), ("pit_values", values)):
        if not ((value >= 0) & (value <= 1)).all():
            raise ValueError(
                f"{name} must be probabilities in [0, 1], but one is {value[~((value >= 0) & (value <= 1))][0]}"
            )
    # Rounding of 2 F - 1 must not put the end of an interval outside.
    return np.searchsorted(np.sort(np.abs(2 * values - 1)), wanted + 1e-12, side="right") / values.size


class Miscalibration(NamedTuple):
    """Calibration error of a coverage curve g(c) in four forms; all zero if it is calibrated.

    mad : mean |g - c|; msd : mean (g - c)
    under : largest under-coverage max (c - g)₊; over : largest over-coverage max (g - c)₊
    """

    mad: float
    msd: float
    under: float
    over: float


def miscalibration(shares: ArrayLike, levels: ArrayLike = LEVELS) -> Miscalibration:
    """Return the calibration error of a coverage curve, in four forms.

    shares, levels : (level,)

    Raises
    ------
    ValueError
        If lengths differ, there is no level, or a number is NaN.
    """
    covered, wanted = real("shares", shares, "level"), real("levels", levels, "level")
    same_axes(shares=(covered, "level"), levels=(wanted, "level"))
    if not wanted.size:
        raise ValueError("there are no levels to compare coverage with")
    excess = covered - wanted
    return Miscalibration(
        float(np.abs(excess).mean()),
        float(excess.mean()),
        float(max((-excess).max(), 0.0)),
        float(max(excess.max(), 0.0)),
    )


@dataclass(frozen=True, eq=False)
class Pit:
    """Histogram of the probability integral transform over [0, 1]; flat if calibrated. Runs are pooled by +.

    counts : (bin,), `PIT_BINS` of them
    """

    counts: Index

    def __post_init__(self) -> None:
        counts = np.asarray(self.counts, dtype=np.int64)
        if counts.shape != (PIT_BINS,) or (counts < 0).any():
            raise ValueError(f"counts has shape {counts.shape}, but wants {PIT_BINS} counts of at least 0")
        object.__setattr__(self, "counts", counts)

    @classmethod
    def of(cls, pit_values: ArrayLike) -> Pit:
        """Return the histogram of PIT values F(truth), of any shape.

        Raises
        ------
        ValueError
            If one lies outside [0, 1].
        """
        values = np.ravel(np.asarray(pit_values, dtype=np.float64))
        if not ((values >= 0) & (values <= 1)).all():
            raise ValueError("pit_values must be probabilities in [0, 1]")
        return cls(np.bincount(np.minimum((values * PIT_BINS).astype(np.int64), PIT_BINS - 1), minlength=PIT_BINS))

    def __add__(self, other: Pit) -> Pit:
        return Pit(self.counts + other.counts)

    @property
    def count(self) -> int:
        """Number of PIT values."""
        return int(self.counts.sum())

    def histogram(self, bins: int = 20) -> Index:
        """Counts in fewer bins: (bin,).

        Raises
        ------
        ValueError
            If the number does not divide `PIT_BINS`.
        """
        if bins < 1 or PIT_BINS % bins:
            raise ValueError(f"bins is {bins}, but must divide {PIT_BINS}")
        return np.asarray(self.counts.reshape(bins, -1).sum(axis=1))

    def coverage(self, levels: ArrayLike = LEVELS) -> Array:
        """Share of truths inside the central interval of every level: (level,), nan where there are no PIT values.

        Raises
        ------
        ValueError
            If a level lies outside [0, 1] or is no multiple of 2 / `PIT_BINS`.
        """
        wanted = real("levels", levels, "level")
        half = np.round(wanted * PIT_BINS / 2).astype(np.int64)
        if not (np.abs(half * 2 / PIT_BINS - wanted) < 1e-9).all() or (half < 0).any() or (half > PIT_BINS // 2).any():
            raise ValueError(
                f"levels must be multiples of {2 / PIT_BINS:g} in [0, 1]; use coverage(pit_values) for others"
            )
        cumulative = np.concatenate([[0], np.cumsum(self.counts)])
        inside = cumulative[PIT_BINS // 2 + half] - cumulative[PIT_BINS // 2 - half]
        return np.asarray(inside / self.count if self.count else np.full(len(wanted), np.nan))

    @property
    def miscalibration(self) -> Miscalibration:
        """Calibration error over `LEVELS`; nan where there is no count."""
        return miscalibration(self.coverage()) if self.count else Miscalibration(np.nan, np.nan, np.nan, np.nan)
