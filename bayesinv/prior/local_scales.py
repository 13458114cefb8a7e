"""Local scales: a factor λ for every source, on all its currents, by which most can be near zero and few large."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bayesinv.axes import Array
from bayesinv.covariance.covariance import Structure
from bayesinv.problem.problem import Problem

LOCAL = ("half_cauchy",)
"""Distributions that local scales may have; the half-Cauchy one, of median 1, makes the horseshoe."""


def draw_log_local(count: int, rng: np.random.Generator) -> Array:
    """Return logarithms of local scales (source,) drawn from their prior, half-Cauchy of median 1."""
    return np.asarray(np.log(np.abs(rng.standard_cauchy(count))))


def log_density(logs: Array) -> Array:
    """Return the log density of log λ, elementwise: 2 λ / π (1 + λ²)."""
    return np.asarray(np.log(2 / np.pi) - np.logaddexp(logs, -logs))


def with_local(problem: Problem, structure: Structure, local: Array) -> tuple[Structure, float]:
    """Return the structure with variances times λ², its trace kept, and the factor that the trace would have grown by.

        variance · D_λ = (variance · factor) · D,   trace(G D Gᵀ) as it was

    structure : of independent sources
    local : (source,), λ
    """
    squares = np.square(local)
    size = problem.gain.shape[1]
    each = np.repeat(squares, problem.axes)
    weights = structure.weights
    weights = squares if weights is None else weights * (each if len(weights) == size else squares)
    power = structure.diagonal(problem) * problem.gain_powers
    if structure.tangential is not None:
        # Axes of one source are correlated then, and the power is that of all of them.
        power = np.sum(structure.sample(problem, problem.gain.T) ** 2, axis=1)
    factor = float(each @ power / power.sum())
    return replace(structure, weights=weights, scale=structure.scale / factor), factor
