"""The log density of a recording by one factorisation, and its derivatives by scales and covariances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayesinv.axes import Array
from bayesinv.covariance.covariance import Structure
from bayesinv.evidence.gaussian import LOG_2PI
from bayesinv.problem.problem import Problem


@dataclass(frozen=True, eq=False)
class FactorisedDensity:
    """Log density and its derivatives at one value of all hyperparameters, by one factorisation.

    Cheaper than an eigendecomposition where a structure is evaluated once, as in a search for the mode.

    log_density : of recording and baseline
    by_variance, by_scale : derivatives by source variance and noise scale
    by_gram, by_noise : (component, component), derivatives by G D Gᵀ and by the relative noise covariance N
    gram : G D Gᵀ
    """

    log_density: float
    by_variance: float
    by_scale: float
    by_gram: Array
    by_noise: Array
    gram: Array

    @classmethod
    def of(
        cls, problem: Problem, structure: Structure, variance: float, noise: float, *, baseline: bool
    ) -> FactorisedDensity:
        """Factorise the covariance of one sample; samples must be independent once the noise is white over time."""
        gram = structure.gram(problem)
        with_error = structure.with_error(problem, gram)
        relative = structure.noise_covariance(problem)
        relative = np.eye(len(gram)) if relative is None else relative
        total = variance * with_error + noise**2 * relative
        inverse, logs = np.linalg.inv(total), _log_determinant(total)
        recording, whitening = problem.white_recording, problem.time_whitening
        solved = inverse @ recording
        samples = solved.shape[1]
        log_density = -0.5 * (samples * (len(gram) * LOG_2PI + logs) + float(np.sum(solved * recording)))
        log_density -= 0.0 if whitening is None else 0.5 * float(whitening.log_volumes.sum())
        slope = 0.5 * (solved @ solved.T - samples * inverse)
        by_noise = noise**2 * slope
        by_scale = 2 * noise * float(np.sum(slope * relative))
        if baseline and problem.white_baseline is not None:
            free, scaled, volume = problem.baseline_freedom, problem.white_baseline / noise, 0.0
            log_density -= 0.0 if whitening is None else 0.5 * float(whitening.baseline_log_volumes.sum())
            if structure.noise is not None:
                inverse_noise = np.linalg.inv(relative)
                scaled, volume = inverse_noise @ scaled, _log_determinant(relative)
                by_noise = by_noise + 0.5 * (scaled @ scaled.T - free * inverse_noise)
            power = float(np.sum(scaled * problem.white_baseline)) / noise
            log_density -= 0.5 * (free * (len(gram) * (LOG_2PI + 2 * np.log(noise)) + volume) + power)
            by_scale += (power - free * len(gram)) / noise
        by_variance = float(np.sum(slope * with_error))
        return cls(log_density, by_variance, by_scale, variance * slope, by_noise, gram)


def _log_determinant(covariance: Array) -> float:
    return 2 * float(np.log(np.diag(np.linalg.cholesky(covariance))).sum())
