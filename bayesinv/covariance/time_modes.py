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
from scipy.fft import irfft, next_fast_len, rfft
from scipy.linalg import solve_triangular
from scipy.linalg.lapack import dsyevd, dsygst

from bayesinv.axes import Array
from bayesinv.covariance.time_course import correlation_over_time, equally_spaced
from bayesinv.interpolation.log_grid import MovedComponents
from bayesinv.memory import PickledByFields, cached_property
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
class TimeBasis(PickledByFields):
    """Combinations of the samples, whatever variance currents have in them.

        to_modes = L⁻ᵀ V,   from_modes = L V,   L Lᵀ = K;   or, of shared modes, V / spread and V * spread

    vectors : (time, mode), V, orthonormal
    noise_root : (time, time), L; None for the identity
    spread : (mode,), of the noise in shared modes; None for others
    """

    vectors: Array
    noise_root: Array | None = None
    spread: Array | None = None

    @cached_property
    def to_modes(self) -> Array:
        """From samples to modes: (time, mode)."""
        if self.spread is not None:
            return np.asarray(self.vectors / self.spread)
        if self.noise_root is None:
            return self.vectors
        return np.asarray(solve_triangular(self.noise_root.T, self.vectors, lower=False))

    @cached_property
    def from_modes(self) -> Array:
        """Time courses of the modes: (time, mode)."""
        if self.spread is not None:
            return np.asarray(self.vectors * self.spread)
        return self.vectors if self.noise_root is None else np.asarray(self.noise_root @ self.vectors)

    @cached_property
    def lagged(self) -> Array:
        """Sums over the samples of each mode times itself some lags later, twice but at lag 0: (mode, lag)."""
        return lagged_products(self.to_modes.T)

    def variances(self, times: Array, correlation: Array) -> Array:
        """Variance (mode,) in every mode of a course with a correlation (time, time), stationary over times in s."""
        if equally_spaced(times):
            return np.asarray(self.lagged @ correlation[0])
        return np.einsum("tm,tm->m", self.to_modes, correlation @ self.to_modes)


@dataclass(frozen=True, eq=False)
class TimeModes:
    """Independent modes of time.

    powers : (mode,), variance of currents of unit variance relative to the noise's
    basis : from samples to modes and back
    log_volume : log |K|, of each component's noise in units of its spread
    blocks : modes whose noise has one spread over the components, side by side
    spreads : (component,) standard deviation of each component's noise in the modes of a block; None for ones
    """

    powers: Array
    basis: TimeBasis
    log_volume: float
    blocks: tuple[slice, ...]
    spreads: tuple[Array | None, ...]

    @classmethod
    def of(cls, problem: Problem, constant: float, course: str) -> TimeModes:
        """Return the modes of currents with a time constant, in s, and of the noise of a problem."""
        correlation, whitening = correlation_over_time(problem.times, constant, course), problem.time_whitening
        if whitening is None or whitening.groups == 1:
            return cls.exact(correlation, whitening)
        fixed = problem.memory.recall("shared modes", course, lambda: cls._shared(problem, whitening, course))
        return replace(fixed, powers=np.maximum(fixed.basis.variances(problem.times, correlation), 0.0))

    @classmethod
    def exact(cls, correlation: Array, whitening: TimeWhitening | None) -> TimeModes:
        """Return the modes of currents with a correlation (time, time), and of noise of one colour."""
        white, root, volume = correlation, None, 0.0
        if whitening is not None:
            root, volume = whitening.mean_root, whitening.mean_log_volume
            white = dsygst(correlation, root, lower=1)[0]
        values, vectors, failed = dsyevd(white, lower=1)
        if failed:
            raise np.linalg.LinAlgError("the correlation of the currents over time could not be decomposed")
        return cls(np.maximum(values, 0.0), TimeBasis(vectors, root), volume, (slice(0, len(values)),), (None,))

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
        return cls(
            np.ones(len(order)),
            TimeBasis(vectors[:, order], None, np.sqrt(reference[order])),
            float(np.log(reference).sum()),
            tuple(slice(int(a), int(b)) for a, b in zip(starts, np.append(starts[1:], len(order)), strict=True)),
            tuple(np.exp(0.5 * RATIO_STEP * classes[whitening.rows, order[start]]) for start in starts),
        )

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays, but for those that other modes share."""
        own = [] if self.basis.spread is not None else list(vars(self.basis).items())
        arrays = [one for name, one in own if name != "noise_root" and isinstance(one, np.ndarray)]
        return self.powers.nbytes + sum(one.nbytes for one in arrays)

    @property
    def to_modes(self) -> Array:
        """From samples to modes: (time, mode)."""
        return self.basis.to_modes

    @property
    def from_modes(self) -> Array:
        """Time courses of the modes: (time, mode)."""
        return self.basis.from_modes

    @property
    def root(self) -> Array:
        """R (time, mode) with R Rᵀ the currents' correlation over time."""
        return self.from_modes * np.sqrt(self.powers)


def lagged_products(series: Array, weights: Array | None = None) -> Array:
    """Sums over time of series (series, time) times themselves some lags later, twice but at lag 0: (series, lag).

    weights : (series,), of which the weighted sum (lag,) is wanted; None for each
    """
    count = series.shape[1]
    size = next_fast_len(2 * count - 1, real=True)
    spectrum = rfft(series, size, axis=1)
    powers = spectrum.real**2 + spectrum.imag**2
    found = np.asarray(irfft(powers if weights is None else weights @ powers, size))[..., :count]
    found[..., 1:] *= 2
    return found


def gain_decomposition(problem: Problem) -> tuple[Array, Array]:
    """Eigenvalues (component,), ascending, and eigenvectors of G Gᵀ, computed once."""

    def made() -> tuple[Array, Array]:
        gram = problem.shared.recall("plain gram", (), lambda: problem.gain @ problem.gain.T)
        values, vectors = np.linalg.eigh(gram)
        return np.maximum(values, 0.0), vectors

    return problem.shared.recall("gain decomposition", (), made)


def likely_constant(problem: Problem, whitening: TimeWhitening, course: str) -> float:
    """Return the time constant, in s, of independent sources that makes a recording most likely, on a coarse grid.

    All components have the mean correlation of the noise, whose scale is profiled out. The grid is climbed from its
    middle: each constant costs a decomposition.
    """
    times = problem.times
    span = float(times[-1] - times[0])
    low = 2 * span / (len(times) - 1)
    constants = np.geomspace(low, max(span, 1.1 * low), CONSTANTS)
    values, vectors = gain_decomposition(problem)
    coefficients = vectors.T @ problem.recording @ whitening.mean_inverse.T
    ratios = np.geomspace(0.03, 30.0, RATIOS) ** 2 / problem.signal_power
    known: dict[int, float] = {}

    def height(place: int) -> float:
        """Log density, up to a constant, at the ratio of currents to noise that fits best."""
        if place not in known:
            modes = TimeModes.exact(correlation_over_time(times, float(constants[place]), course), whitening)
            moved = MovedComponents.of([(values, (coefficients @ modes.basis.vectors) ** 2)])
            eigenvalues, (counts, powers) = moved.over(modes.powers)
            total = 1 + ratios[:, None] * eigenvalues
            size = coefficients.size
            known[place] = float(np.max(-0.5 * (np.log(total) @ counts + size * np.log((1 / total) @ powers / size))))
        return known[place]

    place = CONSTANTS // 2
    while True:
        around = [one for one in (place, place - 1, place + 1) if 0 <= one < CONSTANTS]
        best = max(around, key=height)
        if best == place:
            return float(constants[place])
        place = best
