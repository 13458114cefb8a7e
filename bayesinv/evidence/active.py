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

from bayesinv.axes import Array, Index
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
        weighted = fields.T[None] / spread.T[:, None]
        cross = np.einsum("kcm,mk->kc", weighted, recording.coefficients)
        return cls.of(weighted @ fields, cross, recording.powers)


def remaining(
    own: Table, cross: Table, products: Table, columns: Index, strengths: Array, powers: Array
) -> tuple[Table, Table]:
    """R and c of every source given those that are active: (mode, source, axis, axis) and (mode, source, axis).

    Tables of all sources are in single precision, which is good for a thousandth of a nat.

    own : (mode, source, axis, axis), Gram matrices of the sources; cross : (mode, source × axis), with the recording
    products : (mode, source × axis, column), of every source's fields with those of the active ones
    columns : (column,), of the active sources among all; strengths : (column,)
    """
    scaled = products * strengths.astype(np.float32)
    gram = strengths[:, None] * scaled[:, columns].astype(np.float64)
    found = FocalCourses.of((gram + gram.swapaxes(1, 2)) / 2, strengths * cross[:, columns], powers)
    along = scaled @ np.linalg.cholesky(found.covariances).astype(np.float32)
    left = cross - (scaled @ found.means[..., None].astype(np.float32))[..., 0]
    axes = own.shape[2]
    rows = along.reshape(*own.shape[:3], -1)
    reduced = np.einsum("kpar,kpar->kpa", rows, rows)[..., None] if axes == 1 else rows @ rows.swapaxes(2, 3)
    return own - reduced, left.reshape(own.shape[:3])


def log_factors(own: Table, cross: Table, weights: Array) -> Array:
    """What each of many sources would add to the log density, nats: (source,).

    own, cross : R (mode, source, axis, axis) and c (mode, source, axis)
    weights : (mode, source or 1), variance of the source's course in each mode
    """
    axes, single = cross.shape[2], weights.astype(np.float32)
    if axes == 1:
        factor = np.maximum(own[..., 0, 0], np.float32(0)) * single
        factor += np.float32(1)
        terms = cross[..., 0] ** 2 * single / factor - np.log(factor)
        return np.asarray(0.5 * terms.sum(axis=0), dtype=np.float64)
    lower: dict[tuple[int, int], Table] = {}
    solved: list[Table] = []
    root, terms = np.sqrt(single), np.zeros(1, np.float32)
    for a in range(axes):
        for b in range(a + 1):
            entry = single * own[..., a, b] + np.float32(a == b)
            for k in range(b):
                entry = entry - lower[a, k] * lower[b, k]
            lower[a, b] = np.sqrt(np.maximum(entry, np.float32(1e-30))) if a == b else entry / lower[b, b]
        row = root * cross[..., a]
        for k in range(a):
            row = row - lower[a, k] * solved[k]
        solved.append(row / lower[a, a])
        terms = terms + 0.5 * solved[a] ** 2 - np.log(lower[a, a])
    return np.asarray(terms.sum(axis=0), dtype=np.float64)


def columns_of(patches: Index, axes: int) -> Index:
    """Indices of the columns of some sources, axis by axis: (source × axis,)."""
    return np.asarray((patches[:, None] * axes + np.arange(axes)).ravel())
