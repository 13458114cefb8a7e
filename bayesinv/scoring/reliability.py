"""Reliability of probabilities: forecasts against the frequency of what happened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike

from bayesinv.axes import Array

PROBABILITY_BINS = 10
"""Bins of a reliability table."""


@dataclass(frozen=True, eq=False)
class Reliability:
    """Forecast probabilities against the frequency of the event, in bins of the probability. Pooled by +.

    counts : (bin,); happened : (bin,), how often
    claimed, squares, hits : (bin,), sums of p, p² and p over what happened
    logs : (bin,), sum of -log p over what happened and -log(1 - p) over what did not, nats
    """

    counts: Array
    happened: Array
    claimed: Array
    squares: Array
    hits: Array
    logs: Array

    @classmethod
    def of(cls, probability: ArrayLike, happened: ArrayLike, bins: int = PROBABILITY_BINS) -> Reliability:
        """Return the table of forecasts of any shape and of whether the event happened, bool of the same shape.

        Raises
        ------
        ValueError
            If shapes differ, a probability lies outside [0, 1], or what happened is not true or false.
        """
        forecast, event = np.asarray(probability, dtype=np.float64), np.asarray(happened)
        if forecast.shape != event.shape or event.dtype != bool:
            raise ValueError(
                f"happened ({event.dtype}, {event.shape}) must be true or false for every probability {forecast.shape}"
            )
        if not ((forecast >= 0) & (forecast <= 1)).all():
            raise ValueError("a probability lies outside [0, 1]")
        p, o = forecast.ravel(), event.ravel().astype(float)
        which = np.minimum((p * bins).astype(np.int64), bins - 1)
        with np.errstate(divide="ignore"):
            logs = -np.log(np.where(o > 0, p, 1 - p))
        parts = (np.ones_like(p), o, p, p * p, p * o, logs)
        return cls(*(np.bincount(which, part, minlength=bins).astype(np.float64) for part in parts))

    def __add__(self, other: Reliability) -> Reliability:
        return Reliability(*(getattr(self, part.name) + getattr(other, part.name) for part in fields(self)))

    @property
    def count(self) -> int:
        """Number of forecasts."""
        return int(self.counts.sum())

    @property
    def table(self) -> Array:
        """Mean forecast, frequency of the event and count: (bin, 3), nan in empty bins."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.stack([self.claimed / self.counts, self.happened / self.counts, self.counts], axis=1)

    @property
    def calibration_error(self) -> float:
        """Expected calibration error Σ n_k |p̄_k - ō_k| / n; 0 if calibrated, nan without forecasts.

        Reference: Naeini, Cooper & Hauskrecht (2015), Proc. AAAI 29.
        """
        if not self.count:
            return np.nan
        return float(np.abs(self.claimed - self.happened).sum() / self.counts.sum())

    @property
    def log_score(self) -> float:
        """Mean of -log of the probability of what was the case, nats; infinite where that was held impossible.

        Reference: Good (1952), J. R. Stat. Soc. B 14, 107-114.
        """
        return float(self.logs.sum() / self.counts.sum()) if self.count else np.nan

    @property
    def brier(self) -> float:
        """Brier score, mean (p - o)² with o = 1 where it happened and 0 where not.

        Reference: Brier (1950), Mon. Weather Rev. 78, 1-3.
        """
        if not self.count:
            return np.nan
        return float(np.sum(self.squares - 2 * self.hits + self.happened) / self.counts.sum())

    @property
    def decomposition(self) -> Mapping[str, float]:
        """Parts of the Brier score: reliability - resolution + uncertainty + within.

            reliability  Σ n_k (p̄_k - ō_k)² / n       forecasts against frequencies; 0 if calibrated
            resolution   Σ n_k (ō_k - ō)² / n         variance of the frequencies over bins; more is better
            uncertainty  ō (1 - ō)                    variance of the event
            within       Σ n_k [var_k(p) - 2 cov_k(p, o)] / n      within bins; 0 for one forecast per bin

        References: Murphy (1973), J. Appl. Meteorol. 12, 595-600; Stephenson, Coelho & Jolliffe (2008), Weather
        Forecast. 23, 752-757, for the last.
        """
        total = float(self.counts.sum())
        if not total:
            return dict.fromkeys(("reliability", "resolution", "uncertainty", "within"), np.nan)
        n = np.where(self.counts > 0, self.counts, 1.0)
        p, o, rate = self.claimed / n, self.happened / n, float(self.happened.sum()) / total
        within = self.squares - n * p * p - 2 * (self.hits - n * p * o)
        return {
            "reliability": float(self.counts @ (p - o) ** 2 / total),
            "resolution": float(self.counts @ (o - rate) ** 2 / total),
            "uncertainty": rate * (1 - rate),
            "within": float(within[self.counts > 0].sum() / total),
        }
