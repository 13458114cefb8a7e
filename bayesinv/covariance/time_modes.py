"""Modes of time: combinations of the samples in which currents and noise are both independent.

With currents of correlation T over time and noise of correlation K = L Lᵀ, the eigendecomposition

    L⁻¹ T L⁻ᵀ = V diag(powers) Vᵀ,   to_modes = L⁻ᵀ V,   from_modes = L V

takes a recording Y to modes Y to_modes, whose noise has unit variance and whose currents have variance `powers`.

Where groups of components (MEG, EEG) have noise of different colour, no basis makes all of it independent. The modes
are then the eigenvectors of K + w T, of the noise's mean correlation and that of currents with the time constant that
the recording makes likely. Currents of any constant, and the noise of each group, are taken at every mode: modesᵀ T
modes and modesᵀ K_g modes are nearly diagonal, because the eigenvectors of all stationary processes are nearly
sinusoids; the sum makes slow modes end with the window as currents do, and fast ones as the noise does.

Reference: Stegle et al. (2011), NeurIPS 24, 630-638; Gray (2006), Toeplitz and Circulant Matrices: A Review.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import solve_triangular

from bayesinv.axes import Array
from bayesinv.covariance.time_course import correlation_over_time
from bayesinv.problem.problem import Problem
from bayesinv.problem.time_whitening import TimeWhitening

RATIO_STEP = 0.35
"""Width of the classes of the logarithm of one group's noise variance over another's: at most 9 % of its standard
deviation, less than what a baseline tells."""

COURSE_WEIGHT = 3.0
"""Weight of the currents' correlation in the sum whose eigenvectors are the modes. On the sample recording the noise
loses 43 of 100,000 nats by it, and the currents' variance at the first sample 10 %; without it 27 nats and 64 %."""

CONSTANTS, RATIOS = 9, 16
"""Time constants, and ratios of currents to noise, among which the likely ones are looked for."""


@dataclass(frozen=True, eq=False)
class TimeModes:
    """Independent modes of time.

    powers : (mode,), variance of currents of unit variance relative to the noise's
    to_modes : (time, mode), from samples to modes
    from_modes : (time, mode), the time courses of the modes
    log_volume : log |K|, of each component's noise in units of its spread
    blocks : modes whose noise has one spread over the components, side by side
    spreads : (component,) standard deviation of each component's noise in the modes of a block; None for ones
    """

    powers: Array
    to_modes: Array
    from_modes: Array
    log_volume: float
    blocks: tuple[slice, ...]
    spreads: tuple[Array | None, ...]

    @classmethod
    def of(cls, problem: Problem, constant: float, course: str) -> TimeModes:
        """Return the modes of currents with a time constant, in s, and of the noise of a problem."""
        correlation, whitening = correlation_over_time(problem.times, constant, course), problem.time_whitening
        if whitening is None:
            values, vectors = np.linalg.eigh(correlation)
            everything = (slice(0, len(correlation)),)
            return cls(np.maximum(values, 0.0), vectors, vectors, 0.0, everything, (None,))
        if len(whitening.correlations) == 1:
            return cls._exact(correlation, whitening)
        fixed = problem.memory.recall("shared modes", course, lambda: cls._shared(problem, whitening, course))
        powers = np.sum(fixed.to_modes * (correlation @ fixed.to_modes), axis=0)
        return replace(fixed, powers=powers)

    @classmethod
    def _exact(cls, correlation: Array, whitening: TimeWhitening) -> TimeModes:
        """The modes of currents and of noise with the mean correlation."""
        root = whitening.mean_root
        half = solve_triangular(root, correlation, lower=True)
        values, vectors = np.linalg.eigh(solve_triangular(root, half.T, lower=True))
        to_modes, from_modes = solve_triangular(root.T, vectors, lower=False), root @ vectors
        volume = 2 * float(np.log(np.diag(root)).sum())
        return cls(np.maximum(values, 0.0), to_modes, from_modes, volume, (slice(0, len(values)),), (None,))

    @classmethod
    def _shared(cls, problem: Problem, whitening: TimeWhitening, course: str) -> TimeModes:
        """Modes that groups of different colour share, sorted by the ratios of the groups' variances."""
        likely = correlation_over_time(problem.times, likely_constant(problem, whitening, course), course)
        vectors = np.linalg.eigh(whitening.correlation + COURSE_WEIGHT * likely)[1]
        levels = np.stack([np.sum(vectors * (one @ vectors), axis=0) for one in whitening.correlations])
        reference = levels[int(np.bincount(whitening.rows).argmax())]
        classes = np.rint(np.log(levels / reference) / RATIO_STEP).astype(np.int64)
        order = np.lexsort(classes)
        starts = np.flatnonzero(np.any(np.diff(classes[:, order], axis=1, prepend=classes.min() - 1) != 0, axis=0))
        scale = np.sqrt(reference)
        return cls(
            np.ones(len(order)),
            (vectors / scale)[:, order],
            (vectors * scale)[:, order],
            float(np.log(reference).sum()),
            tuple(slice(int(a), int(b)) for a, b in zip(starts, np.append(starts[1:], len(order)), strict=True)),
            tuple(np.exp(0.5 * RATIO_STEP * classes[whitening.rows, order[start]]) for start in starts),
        )

    @property
    def root(self) -> Array:
        """R (time, mode) with R Rᵀ the currents' correlation over time."""
        return self.from_modes * np.sqrt(self.powers)


def likely_constant(problem: Problem, whitening: TimeWhitening, course: str) -> float:
    """Return the time constant, in s, of independent sources that makes a recording most likely, on a coarse grid.

    All components have the mean correlation of the noise, whose scale is profiled out.
    """
    times = problem.times
    span = float(times[-1] - times[0])
    low = 2 * span / (len(times) - 1)
    constants = np.geomspace(low, max(span, 1.1 * low), CONSTANTS)

    def decomposed() -> tuple[Array, Array]:
        values, vectors = np.linalg.eigh(problem.gain @ problem.gain.T)
        return np.maximum(values, 0.0), vectors

    values, vectors = problem.shared.recall("gain decomposition", (), decomposed)
    coefficients = vectors.T @ problem.recording
    ratios = np.geomspace(0.03, 30.0, RATIOS) ** 2 / problem.signal_power
    best, likely = -np.inf, float(constants[0])
    for constant in constants:
        modes = TimeModes._exact(correlation_over_time(times, float(constant), course), whitening)
        power, eigenvalues = (coefficients @ modes.to_modes) ** 2, np.outer(values, modes.powers)
        for ratio in ratios:
            total = 1 + ratio * eigenvalues
            height = -0.5 * (float(np.log(total).sum()) + power.size * np.log(float(np.mean(power / total))))
            if height > best:
                best, likely = height, float(constant)
    return likely
