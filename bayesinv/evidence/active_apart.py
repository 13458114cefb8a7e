"""Exact likelihood of dense currents and a few focal sources where sensors have noise of several colours.

Given the sources all of the signal has one correlation over time, so that it is that of `several_colours`, of

    signal ~ Normal(0, (variance G D Gᵀ + A Aᵀ) ⊗ T),   noise_g ~ Normal(0, 1 ⊗ (noise² K_g + error² T_g))

with T_g what T is as the noise of a group has it: of the group of most components T itself, of others

    T_g = F_g T F_gᵀ,   F_g = K_g^½ K_1^-½

so that fields are off by as much, in units of the noise, in sensors of every kind and at all frequencies. Modes of time
that the colours share (`active_modes`) give nearly this.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from bayesinv.axes import Array
from bayesinv.covariance.covariance import Structure
from bayesinv.covariance.time_course import correlation_over_time
from bayesinv.evidence.gaussian import LOG_2PI
from bayesinv.evidence.several_colours import Colours, SeveralColours
from bayesinv.evidence.unsettled import ColoursTogetherError
from bayesinv.memory import cached_property
from bayesinv.problem.problem import Problem
from bayesinv.problem.time_whitening import TimeWhitening

MAX_PARTS = 4000
"""Most parts that are integrated over together, of a few hundred draws."""

LITTLE = 5e-3
"""Power of a part of the signal, over that of the noise, below which it is taken as independent. With four times as
much sets of sources may differ by 0.1 nats more or less."""


@dataclass(frozen=True, eq=False)
class FocalApart:
    """The recording of a problem whose noise has several colours, and dense currents of one structure."""

    problem: Problem
    structure: Structure

    @property
    def _whitening(self) -> TimeWhitening:
        found = self.problem.time_whitening
        assert found is not None
        return found

    @cached_property
    def _gram(self) -> Array:
        return self.structure.with_error(self.problem, self.structure.gram(self.problem))

    def error_correlations(self, over: Array) -> Array:
        """T_g (group, time, time) of what fields are off by, for currents of correlation T (time, time)."""
        across = self._whitening.across
        return np.asarray(across @ over @ across.swapaxes(1, 2))

    def log_density(self, fields: Array, constant: float, variance: float, noise: float, error: float) -> float:
        """Log density of the recording, nats.

        fields : (component, column), of the sources times strengths, whitened
        constant : of the courses, s

        Raises
        ------
        ColoursTogetherError
            If too many parts of the signal depend on each other.
        """
        whitening, table = self._whitening, self.problem.recording
        over = correlation_over_time(self.problem.times, constant)
        roots: Array = whitening.roots
        inverses: Array = whitening.inverses
        if error:
            total = whitening.correlations + (error / noise) ** 2 * self.error_correlations(over)
            roots = np.asarray(np.linalg.cholesky(total), dtype=np.float64)
            inverses = np.stack([solve_triangular(root, np.eye(len(root)), lower=True) for root in roots])
        white = whitening.by_group(table, inverses)
        logs = 2 * np.log(np.diagonal(roots, axis1=1, axis2=2)).sum(axis=1)
        constants = -0.5 * (white.size * LOG_2PI + float(logs[whitening.rows].sum()))
        signal = variance * self._gram + fields @ fields.T
        found = SeveralColours.of_signal(Colours(whitening.rows, roots, inverses), signal, over, white, constants)
        log_density, power, left = found.at(1 / noise**2, LITTLE, MAX_PARTS)
        if left:
            raise ColoursTogetherError(
                f"MEG and EEG have noise of different colours, and {left + MAX_PARTS} parts of the signal are above "
                f"it; at most {MAX_PARTS} are integrated over together"
            )
        return float(log_density - 0.5 * power / noise**2 - white.size * np.log(noise))
