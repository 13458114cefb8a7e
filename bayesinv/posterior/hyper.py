"""Posterior of the hyperparameters: moments from weighted nodes, quantiles from draws."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bayesinv.axes import Array, one_of
from bayesinv.posterior.mixture import Mixture
from bayesinv.posterior.quantiles import tail_probabilities


@dataclass(frozen=True, eq=False)
class Scalar:
    """Posterior of one hyperparameter: moments from weighted nodes, quantiles from draws.

    nodes, weights : (node,)
    draws : (draw,), equally weighted
    """

    nodes: Array
    weights: Array
    draws: Array

    def __repr__(self) -> str:
        low, high = self.interval()
        return f"<Scalar: {float(self.quantile(0.5)):.3g} (90 % {low:.3g} to {high:.3g})>"

    @property
    def mean(self) -> float:
        """Posterior mean."""
        return float(self.weights @ self.nodes)

    @property
    def sd(self) -> float:
        """Posterior standard deviation."""
        return float(np.sqrt(self.weights @ (self.nodes - self.mean) ** 2))

    def quantile(self, probability: ArrayLike) -> Any:
        """Posterior quantile."""
        return np.quantile(self.draws, np.asarray(probability, dtype=float))

    def interval(self, level: float = 0.9) -> tuple[float, float]:
        """Central credible interval.

        Raises
        ------
        ValueError
            If the level lies outside (0, 1).
        """
        low, high = np.quantile(self.draws, tail_probabilities(level))
        return float(low), float(high)


@dataclass(frozen=True, eq=False)
class Hyper(Mapping[str, Scalar]):
    """Posterior of the hyperparameters, by name; "lambda" and "snr" are always there.

    nodes : name to (node,) values; weights : (node,)
    draws : name to (draw,) equally weighted values
    chains : number of chains that the draws come from, one after the other
    scales : the prior of the currents and the noise at each draw, where they are known
    """

    nodes: Mapping[str, Array]
    weights: Array
    draws: Mapping[str, Array]
    chains: int = 1
    scales: Mixture | None = None

    def __repr__(self) -> str:
        return f"<Hyper: {', '.join(f'{name} {self[name].quantile(0.5):.3g}' for name in self.shown)} (medians)>"

    @property
    def shown(self) -> tuple[str, ...]:
        """Names that people are shown: λ and SNR first, and none that is the logarithm of another."""
        first, logarithms = ("lambda", "snr"), {f"log_{name}" for name in self}
        others = (name for name in self if name not in {*first, *logarithms})
        return *(name for name in first if name in self), *others

    def __getitem__(self, name: str) -> Scalar:
        one_of("hyperparameter", name, self.nodes)
        return Scalar(self.nodes[name], self.weights, self.draws[name])

    def __contains__(self, name: object) -> bool:
        return name in self.nodes

    def __iter__(self) -> Iterator[str]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    def summary(self, level: float = 0.9) -> dict[str, dict[str, float]]:
        """Mean, sd, median and interval of every hyperparameter."""
        table = {}
        for name, scalar in self.items():
            low, high = scalar.interval(level)
            table[name] = {
                "mean": scalar.mean,
                "sd": scalar.sd,
                "median": float(scalar.quantile(0.5)),
                "low": low,
                "high": high,
                "level": level,
            }
        return table
