"""Evidence of a few focal sources above dense currents, and what one more would change of it.

In the eigenbasis of the dense currents' Gram matrix, and in modes of time in which the noise is white and the courses
are independent, mode k of the recording has covariance

    S_k = D_k + κ_k A Aᵀ,   D_k = diag(noise² + κ_k (error² + variance * values))

A holds the fields of the active sources times their strengths. `error` is what fields of sources are off by in sensors,
in units of the noise: it has the sources' courses, or a wrong head would be explained by sources that are not there.
With B_k = (1/κ_k + Aᵀ D_k⁻¹ A)⁻¹ and M_k = A B_k Aᵀ one more source of field h and variance v adds

    Σ_k [ c_k² / (1 / (κ_k v) + r_k) - log(1 + κ_k v r_k) ] / 2
    r_k = hᵀ D_k⁻¹ h - hᵀ D_k⁻¹ M_k D_k⁻¹ h,   c_k = hᵀ D_k⁻¹ y_k - hᵀ D_k⁻¹ M_k D_k⁻¹ y_k

so that few products with a table of fields tell what each of thousands of sources would add.

Reference: Tipping & Faul (2003), Proc. AISTATS (evidence as a function of one more column).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayesinv.axes import Array
from bayesinv.covariance.time_modes import TimeModes
from bayesinv.evidence.gaussian import LOG_2PI
from bayesinv.evidence.spectrum import Decomposition
from bayesinv.memory import PickledByFields
from bayesinv.problem.problem import Problem

LEAST_POWER = 1e-4
"""Power of a mode of time relative to the strongest, below which sources have no course in it."""

Table = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class FocalModes(PickledByFields):
    """Modes of time that hold the courses of sources, with one time constant.

    powers : (mode,), variance of a course of unit variance, in units of the noise's
    to_modes : (time, mode), from a recording to modes
    courses : (mode, time), from modes to a recording
    """

    powers: Array
    to_modes: Array
    courses: Array

    @classmethod
    def of(cls, problem: Problem, constant: float | None, course: str = "matern") -> FocalModes:
        """Return the modes of courses with a time constant in s; None stands for the noise's own correlation.

        Raises
        ------
        ValueError
            If groups of sensors have noise of different colour.
        """
        whitening = problem.time_whitening
        if whitening is not None and whitening.groups > 1:
            raise ValueError(
                "focal sources want one correlation of the noise over time for all sensors, but MEG and EEG differ "
                "here; invert one of them, or give noise_time= one correlation for both"
            )
        if constant is None:
            count = len(problem.times)
            if whitening is None:
                return cls(np.ones(count), np.eye(count), np.eye(count))
            root = whitening.mean_root
            return cls(np.ones(count), np.asarray(np.linalg.inv(root).T), np.ascontiguousarray(root.T))
        modes = TimeModes.of(problem, constant, course)
        kept = np.flatnonzero(modes.powers > LEAST_POWER * modes.powers.max())[::-1]
        return cls(modes.powers[kept], modes.to_modes[:, kept], np.ascontiguousarray(modes.from_modes[:, kept].T))


@dataclass(frozen=True, eq=False)
class FocalRecording(PickledByFields):
    """A recording and its baseline in the eigenbasis of dense currents, and in modes for one time constant.

    values : (component,), eigenvalues of the dense currents' Gram matrix
    powers : (mode,), of courses
    coefficients : (component, mode)
    rest, rest_count : power of what lies in no mode, summed, and the number of values
    baseline, baseline_count : the same of the white baseline; 0 where there is none
    constant : what of the log density depends on no hyperparameter
    """

    values: Array
    powers: Array
    coefficients: Array
    rest: float
    rest_count: int
    baseline: float
    baseline_count: int
    constant: float

    @classmethod
    def of(cls, problem: Problem, decomposition: Decomposition, modes: FocalModes, baseline: bool) -> FocalRecording:
        """Return the recording of a problem.

        baseline : whether its baseline is observed, too
        """
        coefficients = decomposition.to_components.T @ (problem.recording @ modes.to_modes)
        total, count = float(np.sum(problem.white_recording**2)), problem.recording.size
        constant, whitening = -0.5 * count * LOG_2PI, problem.time_whitening
        constant -= 0.0 if whitening is None else 0.5 * float(whitening.log_volumes.sum())
        power, number = 0.0, 0
        white = problem.white_baseline if baseline else None
        if white is not None:
            power, number = float(np.sum(white**2)), problem.components * problem.baseline_freedom
            constant -= 0.5 * number * LOG_2PI
            constant -= 0.0 if whitening is None else 0.5 * float(whitening.baseline_log_volumes.sum())
        return cls(
            decomposition.values,
            modes.powers,
            coefficients,
            max(0.0, total - float(np.sum(coefficients**2))),
            count - coefficients.size,
            power,
            number,
            constant,
        )

    def spread(self, variance: float, noise: float, error: float) -> Array:
        """D (component, mode)."""
        return np.asarray(noise**2 + np.outer(error**2 + variance * self.values, self.powers))

    def log_density(self, noise: float, spread: Array) -> float:
        """Log density of the recording and baseline without focal sources, nats."""
        out = -0.5 * float(np.log(spread).sum() + np.sum(self.coefficients**2 / spread))
        out -= (self.rest_count + self.baseline_count) * np.log(noise) + 0.5 * (self.rest + self.baseline) / noise**2
        return out + self.constant


@dataclass(frozen=True, eq=False)
class FocalCourses(PickledByFields):
    """Posterior of the courses of active sources, in units of their strengths, in every mode.

    means : (mode, column); a source has a column per axis
    covariances : (mode, column, column), B
    log_factor : what the sources add to the log density of the recording, nats
    """

    means: Array
    covariances: Array
    log_factor: float

    @classmethod
    def of(cls, gram: Array, cross: Array, powers: Array) -> FocalCourses:
        """Return the posterior of sources, from products of their fields times strengths.

        gram : (mode, column, column), Aᵀ D⁻¹ A; cross : (mode, column), Aᵀ D⁻¹ y
        """
        size = gram.shape[-1]
        root = np.sqrt(powers)[:, None]
        # 1 + κ Aᵀ D⁻¹ A is well conditioned where sources are alike or modes have no power.
        inner = np.eye(size) + powers[:, None, None] * gram
        lower = np.linalg.cholesky(inner)
        inverse = np.linalg.inv(lower)
        scaled = root[:, None] * inverse
        covariances = scaled.swapaxes(1, 2) @ scaled
        score = (inverse @ (root * cross)[..., None])[..., 0]
        means = (covariances @ cross[..., None])[..., 0]
        logs = 2 * float(np.log(np.einsum("kcc->kc", lower)).sum())
        return cls(means, covariances, 0.5 * (float(np.sum(score**2)) - logs))

    @classmethod
    def at(cls, recording: FocalRecording, fields: Array, spread: Array) -> FocalCourses:
        """Return the posterior of sources by their fields times strengths (component, column), at D."""
        return cls.of(*products_of(fields, recording.coefficients, spread), recording.powers)


def products_of(fields: Array, coefficients: Array, spread: Array) -> tuple[Array, Array]:
    """Products of fields (component, column), weighted by D⁻¹: (mode, column, column), and with the recording."""
    size = fields.shape[1]
    rows, columns = np.tril_indices(size)
    precision = 1 / spread
    lower = precision.T @ (fields[:, rows] * fields[:, columns])
    gram = np.empty((len(lower), size, size))
    gram[:, rows, columns] = gram[:, columns, rows] = lower
    return gram, (coefficients * precision).T @ fields
