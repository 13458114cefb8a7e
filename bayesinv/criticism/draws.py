"""Equally weighted hyperparameters of a posterior: its draws thinned, or its mixture resampled."""

from __future__ import annotations

import numpy as np

from bayesinv.axes import Index
from bayesinv.posterior.mixture import Mixture
from bayesinv.posterior.posterior import Posterior


def drawn(posterior: Posterior, count: int) -> Mixture:
    """Return equally weighted hyperparameters of a posterior, at most `count`: its draws where their scales are known.

    Chains stay one after the other and equally long. The structure of a draw is that of the mixture's nearest node.
    """
    scales, mixture = posterior.hyper.scales, posterior.mixture
    if scales is not None:
        return scales.picked(thinned(len(scales.noise), posterior.hyper.chains, count))
    return mixture.resampled(count if len(mixture.weights) > 1 else 1)


def thinned(length: int, chains: int, count: int) -> Index:
    """Return indices of at most `count` draws of concatenated chains: as many of each chain, at even steps."""
    each = length // chains
    within = np.linspace(0, each - 1, max(1, min(count // chains, each))).astype(np.int64)
    return np.asarray((each * np.arange(chains)[:, None] + within).ravel())
