"""Gaussians of a long recording whose currents have a time constant, from those of its stretches.

The stretches share their modes of time, and so one filter for each node: it is applied to all of them, and every sample
is taken from the stretch that it lies well inside, see `Stretches`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft

from bayesinv.axes import Array, Index
from bayesinv.covariance.covariance import Structure
from bayesinv.covariance.stretches import MAX_LOST, MAX_TOGETHER, Stretches
from bayesinv.covariance.time_course import correlation_at, correlation_over_time
from bayesinv.covariance.time_modes import TimeModes
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.memory import PickledByFields, cached_property
from bayesinv.posterior.conditional import row_blocks
from bayesinv.posterior.functionals import Courses, TimeCourseNodes
from bayesinv.posterior.spectral import SpectralGaussians
from bayesinv.problem.problem import Problem


def gaussians_of(spectrum: Spectrum, weights: Array, variance: Array, noise: Array) -> SpectralGaussians:
    """Return the Gaussians of a structure at source variances and noise scales (node,), in stretches where it has any.

    Raises
    ------
    ValueError
        If currents are so slow that no stretch of an affordable length holds what a sample depends on.
    """
    stretches = spectrum.stretches
    if stretches is None:
        return SpectralGaussians.of(spectrum, weights, variance, noise)
    if stretches.lost * float(weights.sum()) > MAX_LOST:
        times, constant = spectrum.problem.times, spectrum.structure.time or 0.0
        step = float(times[1] - times[0])
        raise ValueError(
            f"time courses have a time constant of {constant / step:.0f} samples, too long for a recording of "
            f"{len(times)} samples; take fewer samples per second (by MNE-Python's `decimate` or `resample`), or a "
            f"window of at most {MAX_TOGETHER} samples"
        )
    return StretchedGaussians(spectrum, weights, variance, noise, spectrum.of_parts[0][1])


@dataclass(frozen=True, eq=False)
class StretchedGaussians(SpectralGaussians):
    """The nodes that share one structure, in the stretches of a long recording.

    coefficients : (component, stretch, mode)
    """

    @property
    def _stretches(self) -> Stretches:
        assert self.spectrum.stretches is not None
        return self.spectrum.stretches

    @property
    def _powers(self) -> Array:
        """Variance of currents of unit variance in each mode (mode,)."""
        return self._stretches.modes.powers

    @property
    def _power(self) -> Array:
        """Power of the coefficients that share a filter: (component, [mode])."""
        if not self.by_mode:
            return super()._power
        return np.einsum("csm,csm->cm", self.coefficients, self.coefficients)

    def averaged(self, time_weights: Array) -> SpectralGaussians:
        """The Gaussians of one weighted sum of the samples.

        time_weights : (time,)
        """
        return super().averaged(time_weights) if self.by_mode else self

    def filtered(self, filters: Array, time_weights: Array | None) -> Array:
        """Filtered coefficients (column, sample) of samples, or of weighted sums of them.

        filters : (component, [mode])
        time_weights : (time, sum); None for all samples
        """
        if not self.by_mode:
            return super().filtered(filters, time_weights)
        found = self._stretches.courses(filters[:, None] * self.coefficients)
        return found if time_weights is None else found @ time_weights

    def _squares(self, time_weights: Array) -> Array:
        """Variance (mode, sum) of weighted sums of the samples (time, sum) by the modes, per their own."""
        return self._stretches.weighted(time_weights)

    def reduced(self, reductions: Array, time_weights: Array | None = None) -> Array:
        """Reductions (..., column, sample) of samples or of weighted sums of them."""
        if self.by_mode and time_weights is None:
            return self._stretches.variances(reductions)
        return super().reduced(reductions, time_weights)

    def _reduced_at(self, samples: slice | Index) -> Callable[[int], Array]:
        """A function from a node to its reductions (column, sample) of some samples."""
        return lambda n: self.reduced(self._pair(np.array([n]))[1][0], None)[:, samples]

    def _course_nodes(self, projected: Array, prior: Array, samples: slice) -> Courses:
        """The terms of the covariance of functionals' time courses."""
        ratios, problem = self.variance / self.noise**2, self.spectrum.problem
        margin = self._stretches.step
        return Excerpt(
            problem,
            self.spectrum.structure,
            self.spectrum.values,
            self.variance,
            ratios,
            projected,
            prior,
            samples,
            margin,
        )

    def _sample_root(self, samples: slice) -> None:
        """A weighted sum of samples has one posterior variance and no course."""

    def draw(self, nodes: Index, rng: np.random.Generator, samples: slice) -> Array:
        """Draws (draw, amplitude, time) of the currents at nodes, of some samples.

        Each is a draw of the prior, corrected by the posterior mean for the difference between the recording and one
        that is simulated from the draw (Hoffman & Ribak 1991, Astrophys. J. 380, L5-L8).
        """
        if not self.by_mode:
            return super().draw(nodes, rng, samples)
        problem, structure, spectrum = self.spectrum.problem, self.spectrum.structure, self.spectrum
        count, whitening = len(problem.times), problem.time_whitening
        first = self._stretches.parts[0]

        def courses(rows: int) -> Array:
            return drawn_courses(rng, rows, problem.times, structure, self._stretches.step)

        out = np.empty((len(nodes), problem.gain.shape[1], len(problem.times[samples])))
        place = np.empty((problem.gain.shape[1], count))
        for found, node in zip(out, nodes, strict=True):
            scale = np.sqrt(self.variance[node])
            place[:] = structure.sample(problem, scale * courses(structure.sample_size(problem)))
            field = problem.gain @ place
            if structure.error and problem.error_factor is not None:
                field += structure.error * scale * (problem.error_factor @ courses(problem.error_factor.shape[1]))
            error = rng.standard_normal((problem.components, count))
            error = error if whitening is None else whitening.coloured(error)
            left = spectrum.timed - spectrum.projected(field) - self.noise[node] * error
            filters = self.filters_at(self.variance[[node]] / self.noise[[node]] ** 2)[0]
            correction = self._stretches.courses(filters[:, None] * first.coefficients(left))
            for rows in row_blocks(len(place)):
                place[rows] += self.to_sources(rows) @ correction
            found[:] = place[:, samples]
        return out


def drawn_courses(rng: np.random.Generator, rows: int, times: Array, structure: Structure, memory: int) -> Array:
    """Draws (row, time) of time courses of unit variance, on a circle so long that its ends forget each other."""
    assert structure.time is not None
    size = next_fast_len(len(times) + 2 * memory, real=True)
    lags = (times[1] - times[0]) * np.minimum(np.arange(size), size - np.arange(size))
    power = rfft(correlation_at(lags, structure.time, structure.course)).real
    unit = rfft(rng.standard_normal((rows, size)), axis=1)
    return np.asarray(irfft(unit * np.sqrt(np.maximum(power, 0)), size, axis=1)[:, : len(times)])


@dataclass(frozen=True, eq=False)
class Excerpt(PickledByFields):
    """Time courses of functionals over some samples of a long recording, from the samples around these.

    values : (component,), eigenvalues of the Gram matrix
    variance, ratios : (node,), and the variance over that of the noise
    projected : (functional, component); prior : (functional, functional), their relative prior covariance
    samples : of the courses
    margin : samples on either side that they depend on
    """

    problem: Problem
    structure: Structure
    values: Array
    variance: Array
    ratios: Array
    projected: Array
    prior: Array
    samples: slice
    margin: int

    @property
    def count(self) -> int:
        """Number of nodes."""
        return len(self.variance)

    @cached_property
    def _modes(self) -> tuple[TimeModes, slice]:
        """Modes of time of the samples and those around them, and where the samples are among these."""
        problem, time = self.problem, self.structure.time
        assert time is not None
        start, stop, _ = self.samples.indices(len(problem.times))
        low, high = max(0, start - self.margin), min(len(problem.times), stop + self.margin)
        if high - low > MAX_TOGETHER:
            raise ValueError(
                f"joint draws of time courses over {stop - start} samples want at most "
                f"{MAX_TOGETHER - 2 * self.margin}; give a window"
            )
        whitening, times = problem.time_whitening, problem.times[low:high]
        known = None if whitening is None else replace(whitening, times=times)
        modes = TimeModes.exact(correlation_over_time(times, time, self.structure.course), known)
        return modes, slice(start - low, stop - low)

    def covariance(self, node: int) -> Array:
        """Covariance (functional × time, functional × time) of a node's time courses."""
        modes, inside = self._modes
        return TimeCourseNodes(
            self.variance[[node]],
            self.ratios[[node]],
            self.values[:, None],
            self.projected,
            self.prior,
            modes.powers,
            modes.from_modes[inside],
            (slice(None),),
        ).covariance(0)
