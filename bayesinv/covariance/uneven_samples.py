"""Modes of time where some samples have noise of their own beside that of all.

    noise ~ MatrixNormal(0, N, K + diag(sample_noise · unit)),   unit_t = 1 / (K⁻¹)_tt

The currents keep their correlation T, or the noise's own, K, so that a sample with much noise says little of them. Of
groups of components whose noise differs in colour K is the mean.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular

from bayesinv.axes import Array
from bayesinv.covariance.time_course import correlation_over_time
from bayesinv.covariance.time_modes import TimeBasis, TimeModes
from bayesinv.problem.problem import Problem
from bayesinv.problem.tails import sample_units


def uneven_modes(problem: Problem, added: Array, constant: float | None, course: str) -> TimeModes:
    """Return modes in which currents and noise are independent.

    added : (time,), variance of the samples' own noise, relative to that of all given other times
    constant : s, of the currents' time courses; None where they have the noise's correlation
    """
    whitening, count = problem.time_whitening, len(added)
    everything = (slice(0, count),)
    if whitening is None and constant is None:
        scale = np.sqrt(1 + added)
        volume = 2 * float(np.log(scale).sum())
        return TimeModes(scale**-2, TimeBasis(np.eye(count), np.diag(scale)), volume, everything, (None,))
    noise = np.eye(count) if whitening is None else whitening.mean_root @ whitening.mean_root.T
    currents = noise if constant is None else correlation_over_time(problem.times, constant, course)
    root = np.asarray(np.linalg.cholesky(noise + np.diag(added * sample_units(problem))))
    half = solve_triangular(root, currents, lower=True)
    values, vectors = np.linalg.eigh(solve_triangular(root, half.T, lower=True))
    volume = 2 * float(np.log(np.diag(root)).sum())
    return TimeModes(np.maximum(values, 0.0), TimeBasis(vectors, root), volume, everything, (None,))
