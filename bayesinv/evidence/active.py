"""Evidence of a few focal sources above dense currents, and what one more would change of it.

In the eigenbasis of the dense currents' Gram matrix, and in modes of time in which the noise is white and the courses
are independent, mode k of the recording has covariance

    S_k = D_k + κ_k A Aᵀ,   D_k = diag(noise² + κ_k (error² + variance * values))

A holds the fields of the active sources times their strengths. Where noise has several colours, each block of modes has
a basis, see `active_modes`, and fields have rows in all of them, of which mode k takes those of its own.

`error` is what fields of sources are off by in sensors,
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

from bayesinv.axes import Array, Index
from bayesinv.evidence.active_modes import FocalBasis, FocalModes
from bayesinv.evidence.gaussian import LOG_2PI
from bayesinv.memory import PickledByFields, cached_property
from bayesinv.problem.problem import Problem

TOGETHER, LEAST_PRODUCT = 8, 1e-250
"""Factors of which one logarithm is taken, unless their product or its inverse is smaller."""

Table = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class FocalRecording(PickledByFields):
    """A recording and its baseline in the eigenbasis of dense currents, and in modes for one time constant.

    values : (component,), eigenvalues of the dense currents' Gram matrix, or (block, component) of each basis
    powers : (mode,), of courses
    coefficients : (component, mode)
    rest, rest_count : power of what lies in no mode, summed, and the number of values
    baseline, baseline_count : the same of the white baseline; 0 where there is none
    constant : what of the log density depends on no hyperparameter
    which : (mode,), block of each mode, those of one side by side; None where there is one
    """

    values: Array
    powers: Array
    coefficients: Array
    rest: float
    rest_count: int
    baseline: float
    baseline_count: int
    constant: float
    which: Index | None = None

    @classmethod
    def of(cls, problem: Problem, basis: FocalBasis, modes: FocalModes, baseline: bool) -> FocalRecording:
        """Return the recording of a problem.

        baseline : whether its baseline is observed, too
        """
        blocks, in_modes = basis.blocks(modes), modes.taken(problem.recording)
        coefficients = np.empty_like(in_modes)
        for block in np.unique(blocks):
            mine = blocks == block
            coefficients[:, mine] = basis.decompositions[block].to_components.T @ in_modes[:, mine]
        total, count = float(np.sum(problem.white_recording**2)), problem.recording.size
        constant, whitening = -0.5 * count * LOG_2PI, problem.time_whitening
        constant -= 0.0 if whitening is None else 0.5 * float(whitening.log_volumes.sum())
        power, number = 0.0, 0
        white = problem.white_baseline if baseline else None
        if white is not None:
            power, number = float(np.sum(white**2)), problem.components * problem.baseline_freedom
            constant -= 0.5 * number * LOG_2PI
            constant -= 0.0 if whitening is None else 0.5 * float(whitening.baseline_log_volumes.sum())
        several = len(basis.decompositions) > 1
        return cls(
            basis.values,
            modes.powers,
            coefficients,
            max(0.0, total - float(np.sum(coefficients**2))),
            count - coefficients.size,
            power,
            number,
            constant,
            blocks if several else None,
        )

    @cached_property
    def blocks(self) -> Index:
        """Block of each mode (mode,)."""
        return np.zeros(len(self.powers), dtype=np.int64) if self.which is None else self.which

    @cached_property
    def parts(self) -> tuple[tuple[slice, slice], ...]:
        """Rows of the fields and modes that belong together."""
        return parts_of(self.blocks, len(self.coefficients))

    def explained(self, fields: Array, courses: Array) -> Array:
        """What courses (column, mode) are in the basis of each mode: (component, mode), by fields as of the columns."""
        out = np.empty((len(self.coefficients), len(self.powers)))
        for rows, some in self.parts:
            out[:, some] = fields[rows] @ courses[:, some]
        return out

    def across(self, bases: Array, table: Array, over: Array | None = None) -> Array:
        """Coefficients (component, mode) in what bases (row, block × component) lead to: (row, mode).

        over : (mode, column), from modes on; then (row, column)
        """
        if over is not None and len(self.parts) == 1:
            rows = self.parts[0][0]
            return np.asarray(bases[:, rows] @ (table @ over))
        out = np.empty((len(bases), len(self.powers)))
        for rows, some in self.parts:
            out[:, some] = bases[:, rows] @ table[:, some]
        return out if over is None else np.asarray(out @ over)

    @cached_property
    def _by_block(self) -> Array:
        return np.ascontiguousarray(np.atleast_2d(self.values))

    @cached_property
    def values_of_modes(self) -> Array:
        """Eigenvalues in the basis of each mode: (component, mode), or (component, 1) where all have one."""
        return self.values[:, None] if self.values.ndim == 1 else np.ascontiguousarray(self.values[self.blocks].T)

    def spread(self, variance: float, noise: float, error: float) -> Array:
        """D (component, mode)."""
        return np.asarray(noise**2 + (error**2 + variance * self.values_of_modes) * self.powers)

    @cached_property
    def by_mode(self) -> Array:
        """Coefficients (mode, component)."""
        return np.ascontiguousarray(self.coefficients.T)

    def log_densities(self, columns: Array, variance: float, noise: float, error: float) -> tuple[float, float]:
        """Log density of the recording and baseline without focal sources, and what sources add to it, nats.

        columns : (column, block × component), fields of the sources times strengths
        """
        # D⁻¹
        precision = np.empty(self.by_mode.shape)
        scales = noise**2, error**2, variance
        dense = _fill_precision(self._by_block, self.blocks, self.powers, self.by_mode, *scales, precision)
        dense += self.constant
        dense -= (self.rest_count + self.baseline_count) * np.log(noise) + 0.5 * (self.rest + self.baseline) / noise**2
        size = len(columns)
        if not size:
            return dense, 0.0
        means, covariances = np.empty((len(precision), size)), np.empty((len(precision), size, size))
        return dense, _fill_courses(columns, self.blocks, precision, self.by_mode, self.powers, means, covariances)

    def log_density(self, variance: float, noise: float, error: float) -> float:
        """Log density of the recording and baseline without focal sources, nats."""
        return self.log_densities(np.empty((0, len(self.coefficients))), variance, noise, error)[0]


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
    def of(cls, fields: Array, coefficients: Array, spread: Array, powers: Array, blocks: Index) -> FocalCourses:
        """Return the posterior of sources, at D.

        fields : (block × component, column), times strengths
        coefficients, spread : (component, mode); powers, blocks : (mode,)
        """
        columns, precision = np.ascontiguousarray(fields.T), np.ascontiguousarray((1 / spread).T)
        means = np.empty((len(powers), len(columns)))
        covariances = np.empty((*means.shape, means.shape[1]))
        by_mode = np.ascontiguousarray(coefficients.T)
        log_factor = _fill_courses(columns, blocks, precision, by_mode, powers, means, covariances)
        return cls(means, covariances, log_factor)

    @classmethod
    def at(cls, recording: FocalRecording, fields: Array, spread: Array) -> FocalCourses:
        """Return the posterior of sources of a recording by their fields times strengths, at D."""
        return cls.of(fields, recording.coefficients, spread, recording.powers, recording.blocks)


def parts_of(blocks: Index, components: int) -> tuple[tuple[slice, slice], ...]:
    """Rows of the fields, and modes, of each block of modes (mode,) side by side."""
    starts = np.flatnonzero(np.diff(blocks, prepend=-1))
    stops = np.append(starts[1:], len(blocks))
    rows = [slice(int(blocks[a]) * components, (int(blocks[a]) + 1) * components) for a in starts]
    return tuple((one, slice(int(a), int(b))) for one, a, b in zip(rows, starts, stops, strict=True))


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
    blocks: Index,
    powers: Array,
    coefficients: Array,
    noise: float,
    error: float,
    variance: float,
    precision: Array,
) -> float:
    """Fill in D⁻¹ (mode, component), and return the log density of the coefficients (mode, component) without 2 pi.

    values : (block, component); noise, error : squared
    """
    components = values.shape[1]
    logs, square = 0.0, 0.0
    for k in range(len(powers)):
        power, own = powers[k], values[blocks[k]]
        for i in range(components):
            precision[k, i] = 1 / (noise + power * (error + variance * own[i]))
        for i in range(components):
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
    columns: Array,
    blocks: Index,
    precision: Array,
    coefficients: Array,
    powers: Array,
    means: Array,
    covariances: Array,
) -> float:
    """Fill in means and covariances of courses, and return what sources add to the log density.

    1 + κ Aᵀ D⁻¹ A = L Lᵀ is well conditioned where sources are alike or modes have no power.

    columns : (column, block × component); precision, coefficients : (mode, component)
    """
    size, components = len(columns), precision.shape[1]
    weighted, score = np.empty(components), np.empty(size)
    lower, inverse = np.zeros((size, size)), np.zeros((size, size))
    log_factor = 0.0
    for k in range(len(powers)):
        power, start = powers[k], blocks[k] * components
        stop = start + components
        for a in range(size):
            column = columns[a, start:stop]
            for i in range(components):
                weighted[i] = precision[k, i] * column[i]
            total = 0.0
            for i in range(components):
                total += weighted[i] * coefficients[k, i]
            score[a] = total
            for b in range(a + 1):
                other = columns[b, start:stop]
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
