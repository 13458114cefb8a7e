"""Scores as sums that can be pooled."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from bayesinv.axes import Array, Index
from bayesinv.posterior.quantiles import mixture_quantiles
from bayesinv.scoring.coverage import Pit
from bayesinv.scoring.proper import crps, interval_score, pit
from bayesinv.scoring.reliability import Reliability


class Points(NamedTuple):
    """Scores of every amplitude and sample of a block: (row, time).

    pit : probability integral transform; aggregated_pit : (row,), that of the mean over time
    crps, interval, log : scores; width : of the interval; error : squared, of the mean
    claimed : probability that the magnitude exceeds a threshold; happened : whether it does
    """

    pit: Array
    aggregated_pit: Array
    crps: Array
    interval: Array
    width: Array
    log: Array
    error: Array
    claimed: Array
    happened: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        weights: Array,
        means: Array,
        sds: Array,
        truth: Array,
        logs: Array,
        level: float,
        threshold: float,
        sure: NDArray[np.bool_] | None = None,
    ) -> Points:
        """Score a compressed mixture (node, row, time); `logs` are the log scores of the full one (row, time).

        sure : (row, time), where all probability lies on the truth; the transform is drawn there from [0, 1], so that
            it is uniform for a forecaster that knows

        Reference: Czado, Gneiting & Held (2009), Biometrics 65, 1254-1261 (the transform of a forecast with steps).
        """
        tail = (1 - level) / 2
        low, high = mixture_quantiles(weights, means, sds, (tail, 1 - tail))
        count = truth.shape[1]
        aggregated = pit(weights, means.mean(axis=2), np.sqrt(np.sum(sds**2, axis=2)) / count, truth.mean(axis=1))
        exceedance = np.zeros(truth.shape)
        for w, m, s in zip(weights, means, sds, strict=True):
            exceedance += w * (ndtr((m - threshold) / s) + ndtr((-threshold - m) / s))
        pointwise = pit(weights, means, sds, truth)
        if sure is not None and sure.any():
            rng = np.random.default_rng(0)
            pointwise = np.where(sure, rng.uniform(size=sure.shape), pointwise)
            aggregated = np.where(sure.all(axis=1), rng.uniform(size=len(sure)), aggregated)
        return cls(
            pointwise,
            aggregated,
            crps(weights, means, sds, truth),
            interval_score(low, high, truth, level),
            high - low,
            logs,
            (truth - np.tensordot(weights, means, axes=1)) ** 2,
            np.clip(exceedance, 0.0, 1.0),
            np.abs(truth) > threshold,
        )


@dataclass(frozen=True, eq=False)
class Tally:
    """Probabilistic scores of many numbers, as counts and sums; those of several runs are pooled by +.

    level : of the interval
    pit : pointwise, of every source (axis) and sample
    aggregated : of means over the window, whose variance is taken as the mean variance over the number of samples
    exceedance : of the probability that a magnitude exceeds a threshold
    inside : how many truths lie in the interval
    crps, interval_score, width, log_score, squares : sums of the scores, the intervals' widths and squared errors
    """

    level: float
    pit: Pit
    aggregated: Pit
    exceedance: Reliability
    inside: int
    crps: float
    interval_score: float
    width: float
    log_score: float
    squares: float

    @classmethod
    def of(cls, points: Points, rows: Index | slice, level: float) -> Tally:
        """Return the sums over some rows of a block."""
        return cls(
            level,
            Pit.of(points.pit[rows]),
            Pit.of(points.aggregated_pit[rows]),
            Reliability.of(points.claimed[rows], points.happened[rows]),
            int(np.count_nonzero(np.abs(2 * points.pit[rows] - 1) <= level)),
            *(
                float(part[rows].sum())
                for part in (points.crps, points.interval, points.width, points.log, points.error)
            ),
        )

    def __add__(self, other: Tally) -> Tally:
        if self.level != other.level:
            raise ValueError(f"intervals of {self.level} and {other.level} cannot be pooled; score both at one level")
        parts = (part.name for part in fields(self) if part.name != "level")
        return Tally(self.level, *(getattr(self, name) + getattr(other, name) for name in parts))

    @property
    def count(self) -> int:
        """Number of amplitudes and samples scored."""
        return self.pit.count

    def row(self) -> dict[str, float]:
        """Counts, mean scores, coverage and calibration errors as plain numbers; nan where nothing was scored."""
        n = self.count or np.nan
        out: dict[str, float] = {
            "count": self.count,
            "coverage": self.inside / n,
            "crps": self.crps / n,
            "interval_score": self.interval_score / n,
            "width": self.width / n,
            "log_score": self.log_score / n,
            "rmse": float(np.sqrt(self.squares / n)),
        }
        out |= self.pit.miscalibration._asdict()
        out |= {f"aggregated_{name}": value for name, value in self.aggregated.miscalibration._asdict().items()}
        out["brier"] = self.exceedance.brier
        return out | {f"brier_{name}": value for name, value in self.exceedance.decomposition.items()}
