"""Peak: the posterior of the position of the strongest current."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayesinv.axes import Array, Index
from bayesinv.posterior.quantiles import credible_level
from bayesinv.wording import span


@dataclass(frozen=True, eq=False)
class Peak:
    """Posterior of the position of the strongest current.

    probability : (source,), share of the joint draws whose peak lies there
    strongest : the source at which the posterior mean is strongest
    positions : (source, 3), m, or None
    window : (start, stop), s
    draws : number of joint draws; a probability q has standard error sqrt(q (1 - q) / draws)
    """

    probability: Array
    strongest: int
    positions: Array | None
    window: tuple[float, float]
    draws: int

    def __repr__(self) -> str:
        return f"<Peak at {span(*self.window)}: source {self.source} with probability {self.probability.max():.2g}>"

    @property
    def source(self) -> int:
        """The most probable source."""
        return int(self.probability.argmax())

    def region(self, level: float = 0.9) -> Index:
        """Smallest set of sources that holds the peak with this probability.

        One half of the draws, picked at random, orders the sources and the other half is counted: a set chosen and
        counted by the same draws would hold too little. Sources with equal counts come nearest first.
        """
        wanted = credible_level(level)
        counts = np.round(self.probability * self.draws).astype(np.int64)
        first = np.random.default_rng(0).multivariate_hypergeometric(counts, int(counts.sum()) // 2)
        second = counts - first
        distance = np.arange(len(counts)) if self.positions is None else self._distance(None)
        order = np.lexsort((distance, -first))
        share = np.cumsum(second[order]) / second.sum()
        return np.sort(order[: int(np.searchsorted(share, wanted - 1e-12)) + 1])

    def within(self, radius: float, centre: int | None = None) -> float:
        """Probability that the peak lies within `radius` m of a source (the strongest mean if None)."""
        return float(self.probability[self._distance(centre) <= radius].sum())

    def radius(self, level: float = 0.9, centre: int | None = None) -> float:
        """Radius in m about a source (the strongest mean if None) that holds the peak with this probability."""
        distance = self._distance(centre)
        order = np.argsort(distance)
        count = int(np.searchsorted(np.cumsum(self.probability[order]), credible_level(level) - 1e-12))
        return float(distance[order[min(count, len(order) - 1)]])

    def _distance(self, centre: int | None) -> Array:
        if self.positions is None:
            raise ValueError("the sources' positions are not known; give them to the Problem")
        return np.asarray(
            np.linalg.norm(self.positions - self.positions[self.strongest if centre is None else centre], axis=1)
        )
