"""The truths of an evaluation, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from scipy.spatial.distance import cdist

from bayesinv.axes import Array
from bayesinv.classical.estimate import Estimate
from bayesinv.head.sources import Sources
from bayesinv.posterior.posterior import Posterior
from bayesinv.problem.problem import Problem
from bayesinv.simulation.courses import burst
from bayesinv.simulation.places import random_places
from bayesinv.simulation.truth import Truth, together
from bayesinv.simulation.truths import dipole_truth, patch_truth, prior_truth, sparse_truth, spike_truth

Estimator = Callable[[Problem, Truth], "Posterior | Estimate"]
"""From a problem, and the truth for referees that know it, to a posterior or estimate."""


def _dipole(cortex: Sources, times: Array, rng: np.random.Generator) -> Truth:
    return dipole_truth(cortex, random_places(cortex, 1, rng), times)


def _dipoles(cortex: Sources, times: Array, rng: np.random.Generator) -> Truth:
    places = random_places(cortex, 3, rng)
    return together(*(dipole_truth(cortex, place, times, moment=rng.uniform(10e-9, 30e-9)) for place in places))


def _patch(cortex: Sources, times: Array, rng: np.random.Generator) -> Truth:
    return patch_truth(cortex, random_places(cortex, 1, rng)[0], times, area=6e-4)


def _patches(cortex: Sources, times: Array, rng: np.random.Generator) -> Truth:
    return together(*(patch_truth(cortex, one, times, area=6e-4) for one in random_places(cortex, 2, rng, apart=0.06)))


def _spike(cortex: Sources, times: Array, rng: np.random.Generator) -> Truth:
    onset, spread = random_places(cortex, 2, rng, apart=0.06)
    return spike_truth(cortex, onset, spread, times)


def _everywhere(cortex: Sources, times: Array, rng: np.random.Generator) -> Truth:
    current = 1e-9 * rng.standard_normal((len(cortex), len(times)))
    return replace(prior_truth(cortex, current, times), notes={"truth": "independent currents at every source"})


def _deep(cortex: Sources, times: Array, rng: np.random.Generator) -> Truth:
    middle = (cortex.positions.max(axis=0) + cortex.positions.min(axis=0)) / 2
    away = np.linalg.norm(cortex.positions - middle, axis=1)
    inner = cortex.positions[away <= np.quantile(away, 0.25)]
    return patch_truth(cortex, inner[rng.integers(len(inner))], times, area=6e-4)


def _smooth(cortex: Sources, times: Array, rng: np.random.Generator) -> Truth:
    places = cortex.positions[rng.choice(len(cortex), min(BUMPS, len(cortex)), replace=False)]
    shapes = np.exp(-0.5 * (cdist(cortex.positions, places) / WIDTH) ** 2)
    courses = np.stack([rng.standard_normal() * burst(times, rng) for _ in places])
    current = shapes @ courses
    current *= 1e-9 / np.sqrt(np.mean(current[:, times >= 0] ** 2))
    notes = {"truth": f"smooth currents at every source, correlated over {1e3 * WIDTH:g} mm"}
    return replace(prior_truth(cortex, current, times), notes=notes)


def _nothing(cortex: Sources, times: Array, rng: np.random.Generator) -> Truth:
    return replace(prior_truth(cortex, np.zeros((len(cortex), len(times))), times), notes={"truth": "noise alone"})


BUMPS, WIDTH = 100, 0.02
"""Bumps that a smooth truth is made of, and their standard deviation, m."""

TRUTHS: dict[str, Callable[[Sources, Array, np.random.Generator], Truth]] = {
    "dipole": _dipole,
    "dipoles": _dipoles,
    "patch": _patch,
    "patches": _patches,
    "spike": _spike,
    "sparse": sparse_truth,
    "bursts": partial(sparse_truth, course=burst),
    "deep": _deep,
    "smooth": _smooth,
    "everywhere": _everywhere,
    "nothing": _nothing,
}
"""Truths by name: one dipole, three; a patch of 6 cm², two with one course; a spike that propagates; five sources of
all, with sinusoids of 1 to 5 Hz, or bursts of such; a patch in the inner quarter of the cortex; a smooth field; all
sources, independent of each other; noise alone, at the noise's own scale. "prior: MODEL" draws from a model's
prior."""
