"""Mixture: weighted hyperparameters, and the structure of the prior at each, that the posterior is mixed over.

It holds no problem: given one, every node corresponds to one exact Gaussian.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayesinv.axes import Array, Index, same_axes
from bayesinv.covariance.covariance import Structure


@dataclass(frozen=True, eq=False)
class Mixture:
    """Weighted hyperparameters that the posterior of the currents is mixed over.

    weights, variance, noise : (node,)
    which : (node,), index of the structure that a node has
    structures : relative covariances; an array (amplitude,) stands for relative prior variances, None for ones
    """

    weights: Array
    variance: Array
    noise: Array
    which: Index
    structures: tuple[Structure, ...]

    def __post_init__(self) -> None:
        given = tuple(one if isinstance(one, Structure) else Structure(weights=one) for one in self.structures)
        object.__setattr__(self, "structures", given)
        same_axes(
            weights=(self.weights, "node"),
            variance=(self.variance, "node"),
            noise=(self.noise, "node"),
            which=(self.which, "node"),
        )
        if not (np.isfinite(self.variance).all() and np.isfinite(self.noise).all()):
            raise ValueError("hyperparameters are not finite; the model's scales overflow")

    def picked(self, nodes: Index, weights: Array | None = None) -> Mixture:
        """Return the mixture of some nodes, by index; equally weighted where no weights (node,) are given."""
        share = np.full(len(nodes), 1 / len(nodes)) if weights is None else weights
        return Mixture(share, self.variance[nodes], self.noise[nodes], self.which[nodes], self.structures)

    def resampled(self, count: int, order: Index | None = None) -> Mixture:
        """Return `count` equally weighted nodes, each as often as its weight says, within one."""
        return self.picked(systematic(self.weights, count, order))


def systematic(weights: Array, count: int, order: Index | None = None, offset: float = 0.5) -> Index:
    """Pick `count` of weighted things by systematic resampling: each comes as often as its weight says, within one.

    weights : (thing,), of any sum
    order : (thing,), the order of the cumulative sum, in which neighbours stay in proportion; None for their own
    offset : of the picks, in steps: a uniform number makes their expected numbers exact

    Returns indices (count,) in that order.

    Reference: Carpenter, Clifford & Fearnhead (1999), IEE Proc. Radar Sonar Navig. 146, 2-7, with an offset of a half.
    """
    cumulative = np.cumsum(weights if order is None else weights[order])
    ticks = (np.arange(count) + offset) / count
    picked = np.minimum(np.searchsorted(cumulative / cumulative[-1], ticks), len(cumulative) - 1)
    return np.asarray(picked if order is None else order[picked])
