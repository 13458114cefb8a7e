"""Likelihood where sensors have noise of several colours and currents a time constant, without modes that they share.

    recording = signal + noise_g,   signal ~ Normal(0, variance G D Gᵀ ⊗ T),   noise_g ~ Normal(0, noise² 1 ⊗ K_g)

No basis of time makes MEG, EEG and currents independent together, and the one that nearly does (`TimeModes`) fails at a
gap. Here the signal is written in its own independent parts, and those that the noise does not drown are integrated
over together:

    signal = Σ_ij z_ij u_i q_jᵀ,   z_ij ~ Normal(0, d_ij),   G D Gᵀ = U λ Uᵀ,   T = Q μ Qᵀ,   d_ij = variance λ_i μ_j
    log p = Σ_g log Normal(recording_g; 0, noise² 1 ⊗ K_g) - log|1 + √d H √d| / 2 + b √d (1 + √d H √d)⁻¹ √d b / 2
    H = Σ_g U_gᵀ U_g ⊗ Qᵀ K_g⁻¹ Q / noise²,   b = Σ_g U_gᵀ recording_g K_g⁻¹ Q / noise²

Parts of little power are taken as independent, in what the others leave of the recording.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import cholesky, solve_triangular

from bayesinv.covariance.covariance import Structure
from bayesinv.covariance.time_course import correlation_over_time
from bayesinv.evidence.gaussian import LOG_2PI
from bayesinv.problem.problem import Problem

LITTLE = 1e-2
"""Power of a part of the signal, over that of the noise, below which it is taken as independent."""

MAX_PARTS = 4000
"""Most parts that are integrated over together; of more, those of most power."""


def log_likelihood_of_colours(problem: Problem, structure: Structure, variance: float, noise: float) -> float:
    """Log density of a recording at one value of the hyperparameters.

    structure : its noise has the covariance that was given, and its currents a time constant
    """
    whitening = problem.time_whitening
    assert whitening is not None
    assert structure.time is not None
    powers, directions = np.linalg.eigh(structure.with_error(problem, structure.gram(problem)))
    rates, courses = np.linalg.eigh(correlation_over_time(problem.times, structure.time, structure.course))
    spread = np.sqrt(variance * np.outer(np.maximum(powers, 0), np.maximum(rates, 0)))
    components, samples = problem.recording.shape
    white = problem.white_recording / noise
    log_density = -0.5 * (
        components * samples * (LOG_2PI + 2 * np.log(noise)) + float(whitening.log_volumes.sum()) + np.sum(white**2)
    )
    across, over, seen = [], [], np.zeros((components, samples))
    for group, inverse in enumerate(whitening.inverses):
        mine = whitening.rows == group
        half = inverse @ courses / noise
        across.append(directions[mine].T @ directions[mine])
        over.append(half.T @ half)
        seen += directions[mine].T @ white[mine] @ half
    pairs = list(zip(across, over, strict=True))
    share = spread**2 * sum(np.outer(np.diag(one), np.diag(other)) for one, other in pairs)
    order = np.argsort(-share, axis=None)[: min(MAX_PARTS, int(np.count_nonzero(share > LITTLE)))]
    i, j = np.unravel_index(order, share.shape)
    root = spread[i, j]
    precision = sum(one[np.ix_(i, i)] * other[np.ix_(j, j)] for one, other in pairs)
    precision = np.asarray(root[:, None] * precision * root)
    precision[np.diag_indices(len(root))] += 1
    lower = cholesky(precision, lower=True, overwrite_a=True, check_finite=False)
    projected = solve_triangular(lower, root * seen[i, j], lower=True, check_finite=False)
    log_density += 0.5 * float(projected @ projected) - float(np.log(np.diag(lower)).sum())
    mean = np.zeros((components, samples))
    mean[i, j] = root * solve_triangular(lower, projected, lower=True, trans=1, check_finite=False)
    left = spread * (seen - sum(one @ mean @ other for one, other in pairs))
    little = np.ones(share.shape, dtype=bool)
    little[i, j] = False
    total = 1 + share[little]
    return log_density + 0.5 * float(np.sum(left[little] ** 2 / total) - np.sum(np.log(total)))
