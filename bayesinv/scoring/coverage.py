"""How often intervals hold the truth, and how far that is from what they say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from bayesinv.axes import Array, Index, real, same_axes

LEVELS: Array = np.arange(11) / 10
"""Levels at which coverage is looked at where none are given."""

BINS = 200
"""Bins of a kept PIT histogram; coverage is exact at all levels that are multiples of 2 / BINS."""


def coverage(places: ArrayLike, levels: ArrayLike = LEVELS) -> Array:
    """Return the share of truths inside the central interval of every level: (level,).

        g(c) = mean 1[|2 F(truth) - 1| <= c]

    places : F(truth), as `pit` gives them, of any shape
    levels : (level,), in [0, 1]

    Raises
    ------
    ValueError
        If there is no place, one lies outside [0, 1], or a level does.
    """
    wanted = real("levels", levels, "level")
    share = np.ravel(np.asarray(places, dtype=np.float64))
    if not share.size:
        raise ValueError("there are no places, so nothing is covered or not")
    for name, value in (("levels", wanted), ("places", share)):
        if not ((value >= 0) & (value <= 1)).all():
            raise ValueError(
                f"{name} must be probabilities in [0, 1], but one is {value[~((value >= 0) & (value <= 1))][0]}"
            )
    # Rounding of 2 F - 1 must not put the end of an interval outside.
    return np.searchsorted(np.sort(np.abs(2 * share - 1)), wanted + 1e-12, side="right") / share.size


class Miscalibration(NamedTuple):
    """Four numbers of a coverage curve g(c); zero if every interval holds what it says.

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
    got, wanted = real("shares", shares, "level"), real("levels", levels, "level")
    same_axes(shares=(got, "level"), levels=(wanted, "level"))
    if not wanted.size:
        raise ValueError("there are no levels to compare coverage with")
    miss = got - wanted
    return Miscalibration(
        float(np.abs(miss).mean()), float(miss.mean()), float(max((-miss).max(), 0.0)), float(max(miss.max(), 0.0))
    )


@dataclass(frozen=True, eq=False)
class Pit:
    """Histogram of the probability integral transform over [0, 1]; flat if calibrated. Runs are pooled by +.

    counts : (bin,), `BINS` of them
    """

    counts: Index

    def __post_init__(self) -> None:
        counts = np.asarray(self.counts, dtype=np.int64)
        if counts.shape != (BINS,) or (counts < 0).any():
            raise ValueError(f"counts has shape {counts.shape}, but wants {BINS} counts of at least 0")
        object.__setattr__(self, "counts", counts)

    @classmethod
    def of(cls, places: ArrayLike) -> Pit:
        """Count places F(truth), of any shape.

        Raises
        ------
        ValueError
            If one lies outside [0, 1].
        """
        share = np.ravel(np.asarray(places, dtype=np.float64))
        if not ((share >= 0) & (share <= 1)).all():
            raise ValueError("places must be probabilities in [0, 1]")
        return cls(np.bincount(np.minimum((share * BINS).astype(np.int64), BINS - 1), minlength=BINS))

    def __add__(self, other: Pit) -> Pit:
        return Pit(self.counts + other.counts)

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.counts.sum())

    def histogram(self, bins: int = 20) -> Index:
        """Counts in fewer bins: (bin,).

        Raises
        ------
        ValueError
            If the bins kept cannot be joined to that many.
        """
        if bins < 1 or BINS % bins:
            raise ValueError(f"bins is {bins}, but must divide {BINS}")
        return np.asarray(self.counts.reshape(bins, -1).sum(axis=1))

    def coverage(self, levels: ArrayLike = LEVELS) -> Array:
        """Share of truths inside the central interval of every level: (level,), nan where there is none.

        Raises
        ------
        ValueError
            If a level lies outside [0, 1] or between those that the bins can tell.
        """
        wanted = real("levels", levels, "level")
        half = np.round(wanted * BINS / 2).astype(np.int64)
        if not (np.abs(half * 2 / BINS - wanted) < 1e-9).all() or (half < 0).any() or (half > BINS // 2).any():
            raise ValueError(f"levels must be multiples of {2 / BINS:g} in [0, 1]; use coverage(places) for others")
        rising = np.concatenate([[0], np.cumsum(self.counts)])
        inside = rising[BINS // 2 + half] - rising[BINS // 2 - half]
        return np.asarray(inside / self.count if self.count else np.full(len(wanted), np.nan))

    @property
    def miscalibration(self) -> Miscalibration:
        """Calibration error over `LEVELS`; nan where there is no count."""
        return miscalibration(self.coverage()) if self.count else Miscalibration(np.nan, np.nan, np.nan, np.nan)
