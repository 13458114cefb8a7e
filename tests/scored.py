"""Mixtures and posteriors whose scores are computed by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bayesinv.posterior.hyper import Hyper
from bayesinv.posterior.mixture import Mixture
from bayesinv.posterior.posterior import Posterior
from bayesinv.scoring import projection
from bayesinv.simulation.truth import Truth


def mixture(rng, nodes=5, shape=(3, 4)):
    """Weights (node,), means and sds (node, ...) of mixtures that are far from Gaussian."""
    weights = rng.dirichlet(np.ones(nodes))
    return weights, rng.normal(size=(nodes, *shape)), rng.uniform(0.1, 2.0, (nodes, *shape))


def by_hand(problem, weights=(0.3, 0.7), variance=(1.0, 2.0), noise=(1.0, 1.1)):
    """A posterior on two nodes of noise and variance, without a model."""
    weights, noise = np.array(weights), np.array(noise)
    variance = np.array(variance) / problem.signal_power
    nodes = {"noise": noise, "lambda": noise**2 / variance, "snr": np.sqrt(variance * problem.signal_power) / noise}
    which = np.zeros(len(weights), dtype=np.int64)
    return Posterior(
        problem,
        "by hand",
        "given",
        Mixture(weights, variance, noise, which, (None,)),
        Hyper(nodes, weights, nodes),
        None,
    )


def its_truth(problem, current, more=2):
    """The truth on the problem's own grid, with samples that the recording lacks."""
    current = np.asarray(current)
    step = problem.times[1] - problem.times[0]
    times = np.concatenate([problem.times[0] - step * np.arange(more, 0, -1), problem.times])
    full = np.concatenate([np.full((len(current), more), 7e-9), current], axis=1)
    return Truth(problem.sources, full, times)


def on_grid(truth, problem, skipped=2):
    """The truth at the recording's samples, on its grid."""
    late = replace(truth, current=truth.current[:, skipped:], times=truth.times[skipped:])
    return projection.project(late, problem.sources, problem.axes)
