"""The marginal likelihood of a problem: currents integrated out, a few sums over sensor components.

With currents of covariance `variance * D` and noise of variance `noise²` the recording is Gaussian with
covariance `variance * G D Gᵀ + noise² I`. The eigendecomposition `G D Gᵀ = U diag(values) Uᵀ` is made once;
every evaluation afterwards costs as many terms as there are components, whatever the number of sources and
samples. Where D depends on one learned number the *log-likelihood*, which is analytic in it, is interpolated
between Chebyshev points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from scipy.linalg import eigh

from bayesinv.axes import Array
from bayesinv.problem import Problem

LOG_2PI = float(np.log(2 * np.pi))
TOLERANCE = 1e-6
"""Largest error, in nats, that interpolating the log-likelihood may have."""

SLACK = 1e-9
"""How far rounding may carry a structural number over its bounds."""

REUSE = 50
"""Nodes per structure from which on a decomposition of its own costs less than interpolation."""

CHUNK = 2**16
"""Numbers held at once while many hyperparameters are evaluated."""


def _sum_of_logs(total: Array) -> Array:
    """Sum over components of log(total): (node,); one logarithm per product of a few factors."""
    few = 6
    width = total.shape[1] // few
    product = total[:, few * width :].prod(axis=1)
    if width:
        blocks = total[:, :width].copy()
        for k in range(1, few):
            blocks *= total[:, k * width : (k + 1) * width]
        # Six factors stay within the range of a double unless the scales themselves are absurd.
        if blocks.min() > 1e-290 and blocks.max() < 1e290 and product.min() > 1e-290 and product.max() < 1e290:
            return np.asarray(np.log(blocks).sum(axis=1) + np.log(product))
    return np.asarray(np.log(total).sum(axis=1))


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Gram matrix G D Gᵀ of one prior covariance D (diagonal), decomposed; and the recording in its basis.

    problem : the whitened gain and recording
    weights : (amplitude,), the diagonal of D: relative prior variances
    values : (component,), eigenvalues, 1/(A m)², ascending
    vectors : (component, component), eigenvectors in columns
    """

    problem: Problem = field(repr=False)
    weights: Array
    values: Array
    vectors: Array

    @classmethod
    def of(cls, problem: Problem, weights: Array | None = None) -> Spectrum:
        """Decompose the Gram matrix for relative prior variances `weights` (amplitude,), ones if None."""
        key = ("spectrum", None if weights is None else weights.tobytes())
        if key not in problem.memory:
            if weights is None:
                gram = problem.gain @ problem.gain.T
                weights = np.ones(problem.gain.shape[1])
            else:
                scaled = problem.gain * np.sqrt(weights)
                gram = scaled @ scaled.T
            values, vectors = eigh(gram, driver="evd", check_finite=False, overwrite_a=True)
            problem.memory[key] = cls(problem, weights, np.maximum(values, 0.0), vectors)
        spectrum: Spectrum = problem.memory[key]
        return spectrum

    @cached_property
    def coefficients(self) -> Array:
        """Recording in the basis of the eigenvectors: (component, time)."""
        return self.vectors.T @ self.problem.recording

    @cached_property
    def powers(self) -> Array:
        """Power of each coefficient summed over time: (component,)."""
        return np.einsum("ct,ct->c", self.coefficients, self.coefficients)

    def log_likelihood(self, variance: Array, noise: Array) -> Array:
        """Log density (node,) of the recording for source variances and noise scales (node,)."""
        samples = self.problem.recording.shape[1]
        out = np.empty(len(variance))
        step = max(1, CHUNK // len(self.values))
        for start in range(0, len(variance), step):
            part = slice(start, start + step)
            total = variance[part, None] * self.values + (noise[part] ** 2)[:, None]
            out[part] = -0.5 * (samples * _sum_of_logs(total) + (1 / total) @ self.powers)
        return out - 0.5 * samples * len(self.values) * LOG_2PI

    def back(self, rows: slice = slice(None)) -> Array:
        """D Gᵀ U (amplitude, component), or some rows of it: from eigenbasis coefficients back to currents."""
        back = self.problem.gain[:, rows].T @ self.vectors
        back *= self.weights[rows, None]
        return back


def baseline_log_likelihood(problem: Problem, noise: Array) -> Array:
    """Log density (node,) of the baseline, pure noise of scale `noise` (node,); 0 where there is no baseline."""
    if problem.baseline is None:
        return np.zeros(len(noise))
    count = problem.components * (problem.baseline.shape[1] - int(problem.baseline_centred))
    power = float(np.sum(problem.baseline**2))
    return np.asarray(-0.5 * (count * (LOG_2PI + 2 * np.log(noise)) + power / noise**2))


@dataclass(frozen=True, eq=False)
class Family:
    """Spectra of a prior covariance D(x) at Chebyshev points x of one structural number, or just one spectrum.

    points : (node,), in [low, high], Chebyshev points of the second kind; one point where nothing is learned
    spectra : one per point
    error : measured error of the interpolated log-likelihood, nats
    exact : from a structural number to its spectrum; None where nothing is learned
    """

    points: Array
    spectra: tuple[Spectrum, ...]
    low: float = 0.0
    high: float = 1.0
    error: float = 0.0
    exact: Callable[[float], Spectrum] | None = None

    @classmethod
    def single(cls, spectrum: Spectrum) -> Family:
        """A prior covariance in which no structure is learned."""
        return cls(np.zeros(1), (spectrum,))

    @classmethod
    def along(cls, spectrum_at: Callable[[float], Spectrum], low: float, high: float) -> Family:
        """Decompose at Chebyshev points until the log-likelihood between them is exact to `TOLERANCE`.

        Points of the second kind nest, so a finer set keeps the decompositions already made.

        Raises
        ------
        ValueError
            If 65 points do not reach the tolerance.
        """
        known: dict[float, Spectrum] = {}

        def at(x: float) -> Spectrum:
            place = round(x, 15)
            if place not in known:
                known[place] = spectrum_at(place)
            return known[place]

        for count in (17, 33, 65):
            points = low + (high - low) * (1 - np.cos(np.pi * np.arange(count) / (count - 1))) / 2
            family = cls(points, tuple(at(float(x)) for x in points), low, high)
            error = family._measure(at)
            if error <= TOLERANCE:
                return cls(points, family.spectra, low, high, error, spectrum_at)
        raise ValueError(
            f"the log-likelihood between {low:g} and {high:g} could not be interpolated to {TOLERANCE:g} nats "
            f"(65 points leave {error:.1e}); fix the structural parameter or narrow its range"
        )

    def _measure(self, at: Callable[[float], Spectrum]) -> float:
        """Largest error at places between the points, over signal-to-noise ratios from 0.03 up to the recording's.

        The noise has scale 1, and at each ratio the scale that fits best. An error counts as far as the likelihood
        there reaches that of the best ratio: where the recording rules the scales out, no error matters.
        """
        problem = self.spectra[0].problem
        top = 10 * max(3.0, float(np.sqrt(np.mean(problem.recording**2))))
        ratio = np.geomspace(0.03, top, 40)
        count = len(self.points)
        worst = 0.0
        for j in (0, count // 2):
            middle = (self.points[j] + self.points[j + 1]) / 2
            spectrum = at(float(middle))
            lone = ratio**2 / problem.signal_power
            fit = np.sqrt(
                (spectrum.powers / (lone[:, None] * spectrum.values + 1)).sum(axis=1) / problem.recording.size
            )
            for noise in (np.ones(len(ratio)), np.maximum(fit, 1e-6)):
                variance = lone * noise**2
                exact = spectrum.log_likelihood(variance, noise)
                error = np.abs(self.log_likelihood(variance, noise, np.full(len(ratio), middle)) - exact)
                worst = max(worst, float(np.max(error * np.exp(exact - exact.max()))))
        return worst

    @property
    def learned(self) -> bool:
        """Whether the covariance depends on a structural number."""
        return len(self.spectra) > 1

    @property
    def mean_power(self) -> float:
        """Mean eigenvalue of G D Gᵀ, 1/(A m)²; a learned structure keeps it the same."""
        return float(self.spectra[0].values.mean())

    @cached_property
    def _transform(self) -> Array:
        """From values at the points to Chebyshev coefficients: (coefficient, node)."""
        count = len(self.points)
        unit = 2 * (self.points - self.low) / (self.high - self.low) - 1
        return np.asarray(np.linalg.inv(np.polynomial.chebyshev.chebvander(unit, count - 1)))

    def cardinal(self, place: Array) -> Array:
        """Weights (place, node) with which values at the points give the value at each place."""
        if not self.learned:
            return np.ones((len(place), 1))
        unit = 2 * (place - self.low) / (self.high - self.low) - 1
        return np.asarray(np.polynomial.chebyshev.chebvander(unit, len(self.points) - 1) @ self._transform)

    def log_likelihood(self, variance: Array, noise: Array, place: Array | None = None) -> Array:
        """Log density (node,) of the recording; `place` (node,) is the structural number.

        Raises
        ------
        ValueError
            If a place lies outside the range that the spectra span.
        """
        if not self.learned or place is None:
            return self.spectra[0].log_likelihood(variance, noise)
        outside = (place < self.low - SLACK) | (place > self.high + SLACK)
        if outside.any():
            raise ValueError(
                f"the learned structural number reaches {place[outside][0]:.3g}, but must stay between {self.low:g} "
                f"and {self.high:g}; give it a prior that lives there, such as pm.Uniform or pm.Beta"
            )
        values, which = np.unique(place, return_inverse=True)
        if self.exact is not None and len(place) > REUSE * len(values):
            # Many nodes of few structures: a decomposition each costs less than interpolating for every node.
            out = np.empty(len(place))
            for k, value in enumerate(values):
                mine = which == k
                out[mine] = self.exact(float(value)).log_likelihood(variance[mine], noise[mine])
            return out
        table = np.stack([spectrum.log_likelihood(variance, noise) for spectrum in self.spectra], axis=1)
        common = table[:, :1]
        return np.asarray(common[:, 0] + np.einsum("nk,nk->n", self.cardinal(place), table - common))

    def graph(self, value: Any, variance: Any, noise: Any, place: Any = None) -> Any:
        """The log density as a PyTensor graph.

        One term per component where no structure is learned, the total otherwise.
        """
        import pytensor.tensor as pt

        samples = self.spectra[0].problem.recording.shape[1]
        if not self.learned:
            spectrum = self.spectra[0]
            powers = pt.sum(pt.dot(spectrum.vectors.T, value) ** 2, axis=1)
            total = variance * spectrum.values + noise**2
            return -0.5 * (samples * (LOG_2PI + pt.log(total)) + powers / total)
        vectors = np.concatenate([spectrum.vectors.T for spectrum in self.spectra])
        count, components = len(self.spectra), len(self.spectra[0].values)
        powers = pt.sum(pt.dot(vectors, value) ** 2, axis=1).reshape((count, components))
        total = variance * np.stack([spectrum.values for spectrum in self.spectra]) + noise**2
        table = -0.5 * pt.sum(samples * (LOG_2PI + pt.log(total)) + powers / total, axis=1)
        unit = 2 * (place - self.low) / (self.high - self.low) - 1
        chebyshev = [pt.ones_like(unit), unit]
        while len(chebyshev) < count:
            chebyshev.append(2 * unit * chebyshev[-1] - chebyshev[-2])
        cardinal = pt.dot(pt.stack(chebyshev), self._transform)
        inside = pt.and_(place >= self.low - SLACK, place <= self.high + SLACK)
        return pt.switch(inside, table[0] + pt.dot(cardinal, table - table[0]), -np.inf)
