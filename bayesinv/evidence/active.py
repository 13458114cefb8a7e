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
from numba import njit
from numpy.typing import NDArray

from bayesinv.axes import Array
from bayesinv.covariance.time_modes import TimeModes
from bayesinv.evidence.gaussian import LOG_2PI
from bayesinv.evidence.spectrum import Decomposition
from bayesinv.memory import PickledByFields, cached_property
from bayesinv.problem.problem import Problem

LEAST_POWER = 1e-4
"""Power of a mode of time relative to the strongest, below which sources have no course in it."""

TOGETHER, LEAST_PRODUCT = 8, 1e-250
"""Factors of which one logarithm is taken, unless their product or its inverse is smaller."""

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

    @cached_property
    def by_mode(self) -> Array:
        """Coefficients (mode, component)."""
        return np.ascontiguousarray(self.coefficients.T)

    def log_densities(self, columns: Array, variance: float, noise: float, error: float) -> tuple[float, float]:
        """Log density of the recording and baseline without focal sources, and what sources add to it, nats.

        columns : (column, component), fields of the sources times strengths
        """
        # D⁻¹
        precision = np.empty((len(self.powers), len(self.values)))
        scales = noise**2, error**2, variance
        dense = _fill_precision(self.values, self.powers, self.by_mode, *scales, precision) + self.constant
        dense -= (self.rest_count + self.baseline_count) * np.log(noise) + 0.5 * (self.rest + self.baseline) / noise**2
        size = len(columns)
        if not size:
            return dense, 0.0
        means, covariances = np.empty((len(precision), size)), np.empty((len(precision), size, size))
        return dense, _fill_courses(columns, precision, self.by_mode, self.powers, means, covariances)

    def log_density(self, variance: float, noise: float, error: float) -> float:
        """Log density of the recording and baseline without focal sources, nats."""
        return self.log_densities(np.empty((0, len(self.values))), variance, noise, error)[0]


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
    def of(cls, fields: Array, coefficients: Array, spread: Array, powers: Array) -> FocalCourses:
        """Return the posterior of sources, at D.

        fields : (component, column), times strengths
        coefficients, spread : (component, mode); powers : (mode,)
        """
        columns, precision = np.ascontiguousarray(fields.T), np.ascontiguousarray((1 / spread).T)
        means = np.empty((len(powers), len(columns)))
        covariances = np.empty((*means.shape, means.shape[1]))
        log_factor = _fill_courses(columns, precision, np.ascontiguousarray(coefficients.T), powers, means, covariances)
        return cls(means, covariances, log_factor)

    @classmethod
    def at(cls, recording: FocalRecording, fields: Array, spread: Array) -> FocalCourses:
        """Return the posterior of sources of a recording by their fields times strengths (component, column), at D."""
        return cls.of(fields, recording.coefficients, spread, recording.powers)


@njit(nogil=True, cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def factorise(lower: Array, inverse: Array) -> float:
    """Put L of L Lᵀ in place of a matrix, of which only the lower triangle is read, fill in L⁻¹, and return log|L|.

    For the small matrices of compiled loops.
    """
    log_volume = 0.0
    for a in range(len(lower)):
        for b in range(a + 1):
            total = lower[a, b]
            for c in range(b):
                total -= lower[a, c] * lower[b, c]
            lower[a, b] = np.sqrt(total) if a == b else total / lower[b, b]
        log_volume += np.log(lower[a, a])
        inverse[a, a] = 1 / lower[a, a]
        for b in range(a):
            total = 0.0
            for c in range(b, a):
                total -= lower[a, c] * inverse[c, b]
            inverse[a, b] = total / lower[a, a]
    return log_volume


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract"})  # type: ignore[untyped-decorator]
def _fill_precision(
    values: Array,
    powers: Array,
    coefficients: Array,
    noise: float,
    error: float,
    variance: float,
    precision: Array,
) -> float:
    """Fill in D⁻¹ (mode, component), and return the log density of the coefficients (mode, component) without 2 pi.

    noise, error : squared
    """
    components = len(values)
    logs, square = 0.0, 0.0
    for k in range(len(powers)):
        power = powers[k]
        for i in range(components):
            precision[k, i] = 1 / (noise + power * (error + variance * values[i]))
            square += coefficients[k, i] ** 2 * precision[k, i]
        # Logarithms cost most; one is taken of a few factors where these are a number.
        for start in range(0, components, TOGETHER):
            product = 1.0
            for i in range(start, min(start + TOGETHER, components)):
                product *= precision[k, i]
            if LEAST_PRODUCT < product < 1 / LEAST_PRODUCT:
                logs += np.log(product)
            else:
                for i in range(start, min(start + TOGETHER, components)):
                    logs += np.log(precision[k, i])
    return 0.5 * (logs - square)


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract"})  # type: ignore[untyped-decorator]
def _fill_courses(
    columns: Array, precision: Array, coefficients: Array, powers: Array, means: Array, covariances: Array
) -> float:
    """Fill in means and covariances of courses, and return what sources add to the log density.

    1 + κ Aᵀ D⁻¹ A = L Lᵀ is well conditioned where sources are alike or modes have no power.

    columns : (column, component); precision, coefficients : (mode, component)
    """
    size, components = columns.shape
    weighted, score = np.empty(components), np.empty(size)
    lower, inverse = np.zeros((size, size)), np.zeros((size, size))
    log_factor = 0.0
    for k in range(len(powers)):
        power = powers[k]
        for a in range(size):
            column = columns[a]
            total = 0.0
            for i in range(components):
                weighted[i] = precision[k, i] * column[i]
                total += weighted[i] * coefficients[k, i]
            score[a] = total
            for b in range(a + 1):
                other = columns[b]
                total = 0.0
                for i in range(components):
                    total += weighted[i] * other[i]
                lower[a, b] = power * total
            lower[a, a] += 1.0
        log_factor -= factorise(lower, inverse)
        for a in range(size):
            for b in range(a + 1):
                total = 0.0
                for c in range(a, size):
                    total += inverse[c, a] * inverse[c, b]
                covariances[k, a, b] = power * total
                covariances[k, b, a] = power * total
        for a in range(size):
            total = 0.0
            for b in range(size):
                total += covariances[k, a, b] * score[b]
            means[k, a] = total
            log_factor += 0.5 * total * score[a]
    return log_factor
