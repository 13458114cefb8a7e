"""The marginal likelihood of a problem: currents integrated out, a few sums over sensor components.

With currents of covariance `variance * D` and noise of variance `noise²` the recording is Gaussian with
covariance `variance * G D Gᵀ + noise² I`. The eigendecomposition `G D Gᵀ = U diag(values) Uᵀ` is made once;
every evaluation afterwards costs as many terms as there are components, whatever the number of sources and
samples. Where D depends on one learned number the *log-likelihood*, which is analytic in it, is interpolated
between Chebyshev points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bayesinv.axes import Array
from bayesinv.covariance.covariance import Structure
from bayesinv.interpolation.chebyshev import Chebyshev, refined
from bayesinv.memory import PickledByFields, cached_property
from bayesinv.problem.problem import Problem

LOG_2PI = float(np.log(2 * np.pi))
TOLERANCE = 1e-6
"""Largest error, in nats, that interpolating the log-likelihood may have."""

SLACK = 1e-9
"""How far rounding may carry a structural number over its bounds."""

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


def _log_determinant(covariance: Array) -> float:
    return 2 * float(np.log(np.diag(np.linalg.cholesky(covariance))).sum())


@dataclass(frozen=True, eq=False)
class Decomposition:
    """Gram matrix of one structure in units of its noise, decomposed: what depends on the gain alone.

        L⁻¹ (G D Gᵀ + error² A Aᵀ) L⁻ᵀ = U diag(values) Uᵀ,   N = L Lᵀ

    values : (component,), 1/(A m)², ascending
    to_components : (component, component), L⁻ᵀ U: its columns take a recording to coefficients of unit noise
    from_components : (component, component), L U: its columns take coefficients back to the recording
    log_volume : log |N|
    """

    values: Array
    to_components: Array
    from_components: Array
    log_volume: float

    @classmethod
    def of(cls, problem: Problem, structure: Structure) -> Decomposition:
        """Decompose the Gram matrix of a structure; one that was decomposed lately is remembered."""

        def made() -> Decomposition:
            gram = structure.with_error(problem, structure.gram(problem))
            root = structure.noise_root(problem)
            if root is None:
                values, vectors = np.linalg.eigh(gram)
                return cls(np.maximum(values, 0.0), vectors, vectors, 0.0)
            inverse = np.linalg.inv(root)
            values, vectors = np.linalg.eigh(inverse @ gram @ inverse.T)
            volume = 2 * float(np.log(np.diag(root)).sum())
            return cls(np.maximum(values, 0.0), inverse.T @ vectors, root @ vectors, volume)

        return problem.shared.recall("decomposition", structure.key, made)


@dataclass(frozen=True, eq=False)
class Likelihood:
    """Likelihood of a recording's independent parts under one structure, as a function of the two scales.

    A part is a component, or with time courses that are correlated a component and a mode of time.

    eigenvalues : (part,), 1/(A m)², variance that currents of unit variance have in a part
    powers : (part,), power of the recording, summed over the samples of a part
    count : samples per part
    constant : term of the log likelihood that does not depend on the scales
    baseline_power : sum of squares of the baseline; None where there is none
    baseline_count, baseline_constant : numbers of the baseline, and the constant term of its log likelihood
    """

    eigenvalues: Array
    powers: Array
    count: int
    constant: float
    baseline_power: float | None = None
    baseline_count: int = 0
    baseline_constant: float = 0.0

    def log_likelihood(self, variance: Array, noise: Array) -> Array:
        """Log density (node,) of the recording for source variances and noise scales (node,)."""
        out = np.empty(len(variance))
        step = max(1, CHUNK // len(self.eigenvalues))
        for start in range(0, len(variance), step):
            part = slice(start, start + step)
            total = variance[part, None] * self.eigenvalues + (noise[part] ** 2)[:, None]
            logs = _sum_of_logs(total)
            # A product of BLAS would wake its threads, which takes longer than these few sums.
            out[part] = -0.5 * (self.count * logs + np.einsum("nc,c->n", np.divide(1, total, out=total), self.powers))
        return out + self.constant

    def baseline_log_likelihood(self, noise: Array) -> Array:
        """Log density (node,) of the baseline, pure noise of scale `noise` (node,); 0 where there is no baseline."""
        if self.baseline_power is None:
            return np.zeros(len(noise))
        return np.asarray(
            self.baseline_constant - self.baseline_count * np.log(noise) - 0.5 * self.baseline_power / noise**2
        )

    def slopes(self, variance: float, noise: float) -> tuple[float, float]:
        """Derivatives of both log densities by source variance and noise scale."""
        total = variance * self.eigenvalues + noise**2
        each = -0.5 * (self.count / total - self.powers / total**2)
        by_noise = 2 * noise * float(each.sum())
        if self.baseline_power is not None:
            by_noise += -self.baseline_count / noise + self.baseline_power / noise**3
        return float(each @ self.eigenvalues), by_noise


@dataclass(frozen=True, eq=False)
class Spectrum(PickledByFields):
    """One structure of a problem, decomposed; and the recording in its basis.

    problem : the whitened gain and recording
    structure : relative covariances of currents, noise and time
    decomposition : of the Gram matrix
    """

    problem: Problem = field(repr=False)
    structure: Structure = field(repr=False)
    decomposition: Decomposition = field(repr=False)

    @classmethod
    def of(cls, problem: Problem, structure: Structure | Array | None = None) -> Spectrum:
        """Decompose a structure; an array stands for relative prior variances (amplitude,), None for ones."""
        if not isinstance(structure, Structure):
            structure = Structure(weights=structure)

        def made() -> Spectrum:
            return cls(problem, structure, Decomposition.of(problem, structure))

        return problem.memory.recall("spectrum", structure.key, made)

    @property
    def values(self) -> Array:
        """Eigenvalues of the Gram matrix (component,), 1/(A m)², ascending."""
        return self.decomposition.values

    @property
    def to_components(self) -> Array:
        """From a recording to coefficients, in columns: (component, component)."""
        return self.decomposition.to_components

    @property
    def from_components(self) -> Array:
        """From coefficients to a recording: (component, component)."""
        return self.decomposition.from_components

    @cached_property
    def weights(self) -> Array:
        """Relative prior variances (amplitude,), the diagonal of D."""
        return self.structure.diagonal(self.problem)

    @cached_property
    def modes(self) -> tuple[Array, Array] | None:
        """Powers (mode,) and courses (time, mode) of independent modes; None where samples are independent."""
        return self.structure.modes(self.problem.times)

    @cached_property
    def coefficients(self) -> Array:
        """Recording in the basis of the eigenvectors: (component, time), or (component, mode)."""
        found = self.to_components.T @ self.problem.recording
        return found if self.modes is None else found @ self.modes[1]

    @cached_property
    def likelihood(self) -> Likelihood:
        """The recording and baseline as independent parts."""
        problem, samples = self.problem, self.problem.recording.shape[1]
        volume = self.decomposition.log_volume
        constant = -0.5 * samples * (len(self.values) * LOG_2PI + volume)
        baseline_power, baseline_count, baseline_constant = None, 0, 0.0
        if problem.baseline is not None:
            white = (
                problem.baseline
                if self.to_components is self.from_components
                else self.to_components.T @ problem.baseline
            )
            baseline_power, free = float(np.sum(white**2)), white.shape[1] - int(problem.baseline_centred)
            baseline_count = free * len(white)
            baseline_constant = -0.5 * (baseline_count * LOG_2PI + free * volume)
        if self.modes is None:
            powers = np.einsum("ct,ct->c", self.coefficients, self.coefficients)
            return Likelihood(self.values, powers, samples, constant, baseline_power, baseline_count, baseline_constant)
        eigenvalues = np.outer(self.values, self.modes[0]).ravel()
        return Likelihood(
            eigenvalues, self.coefficients.ravel() ** 2, 1, constant, baseline_power, baseline_count, baseline_constant
        )

    def log_likelihood(self, variance: Array, noise: Array) -> Array:
        """Log density (node,) of the recording for source variances and noise scales (node,)."""
        return self.likelihood.log_likelihood(variance, noise)

    def baseline_log_likelihood(self, noise: Array) -> Array:
        """Log density (node,) of the baseline, pure noise of scale `noise` (node,); 0 where there is no baseline."""
        return self.likelihood.baseline_log_likelihood(noise)

    def sensitivity(self, variance: float, noise: float, baseline: bool = True) -> tuple[Array, Array]:
        """Derivatives (component, component) of both log densities by Gram matrix G D Gᵀ and by noise covariance N.

        d/dC log Normal(Y; 0, C) = (C⁻¹ Y Yᵀ C⁻¹ - T C⁻¹) / 2
        """
        likelihood, shape = self.likelihood, (len(self.values), -1)
        total = (variance * likelihood.eigenvalues + noise**2).reshape(shape)
        share = np.ones(total.shape[1]) if self.modes is None else self.modes[0]
        solved = self.to_components @ (self.coefficients / total)

        def half(weights: Array, field: Array) -> Array:
            mass = (likelihood.count * weights / total).sum(axis=1)
            return np.asarray(0.5 * (field @ field.T - (self.to_components * mass) @ self.to_components.T))

        by_gram = variance * half(share, solved if self.modes is None else solved * np.sqrt(share))
        by_noise = noise**2 * half(np.ones_like(share), solved)
        if baseline and likelihood.baseline_power is not None:
            assert self.problem.baseline is not None
            scaled = self.to_components @ (self.to_components.T @ self.problem.baseline) / noise
            free = likelihood.baseline_count / len(self.values)
            by_noise += 0.5 * (scaled @ scaled.T - free * self.to_components @ self.to_components.T)
        return by_gram, by_noise

    def to_sources(self, rows: slice = slice(None)) -> Array:
        """D Gᵀ U (amplitude, component), or some rows of it: from filtered coefficients to currents."""
        if self.structure.diagonal_only:
            found = self.problem.gain[:, rows].T @ self.to_components
            if self.structure.weighted:
                found *= self.weights[rows, None]
            return found
        return self.structure.product(self.problem, self.problem.gain.T @ self.to_components)[rows]

    @cached_property
    def explained(self) -> Array:
        """G D Gᵀ U (component, component): the recording that currents of unit coefficients make."""
        if not self.structure.error:
            return np.asarray(self.from_components * self.values)
        return np.asarray(self.structure.gram(self.problem) @ self.to_components)


@dataclass(frozen=True, eq=False)
class FactorisedDensity:
    """Log density and its derivatives at one value of all hyperparameters, by one factorisation.

    Cheaper than a decomposition where a structure is met once, as by a search for the mode.

    log_density : of recording and baseline
    by_variance, by_scale : derivatives by source variance and noise scale
    by_gram, by_noise : (component, component), derivatives by G D Gᵀ and, where it is not fixed, by the relative
        noise covariance N
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
        """Factorise the covariance of one sample; samples must be independent."""
        gram = structure.gram(problem)
        with_error = structure.with_error(problem, gram)
        relative = structure.noise_covariance(problem)
        relative = np.eye(len(gram)) if relative is None else relative
        total = variance * with_error + noise**2 * relative
        inverse, logs = np.linalg.inv(total), _log_determinant(total)
        solved = inverse @ problem.recording
        samples = solved.shape[1]
        log_density = -0.5 * (samples * (len(gram) * LOG_2PI + logs) + float(np.sum(solved * problem.recording)))
        slope = 0.5 * (solved @ solved.T - samples * inverse)
        by_noise = noise**2 * slope
        by_scale = 2 * noise * float(np.sum(slope * relative))
        if baseline and problem.baseline is not None:
            free = problem.baseline.shape[1] - int(problem.baseline_centred)
            scaled, volume = problem.baseline / noise, 0.0
            if structure.noise is not None:
                inverse_noise = np.linalg.inv(relative)
                scaled, volume = inverse_noise @ scaled, _log_determinant(relative)
                by_noise = by_noise + 0.5 * (scaled @ scaled.T - free * inverse_noise)
            power = float(np.sum(scaled * problem.baseline)) / noise
            log_density -= 0.5 * (free * (len(gram) * (LOG_2PI + 2 * np.log(noise)) + volume) + power)
            by_scale += (power - free * len(gram)) / noise
        by_variance = float(np.sum(slope * with_error))
        return cls(log_density, by_variance, by_scale, variance * slope, by_noise, gram)


class InterpolationError(ValueError):
    """The log likelihood changes too fast along a number to be interpolated."""


@dataclass(frozen=True, eq=False)
class InterpolatedSpectrum(PickledByFields):
    """Spectra of a prior covariance D(x) at Chebyshev points x of one structural number, or just one spectrum.

    points : (node,), in [low, high], Chebyshev points of the second kind; one point where nothing is learned
    spectra : one per point
    error : measured error of the interpolated log-likelihood, nats
    """

    points: Array
    spectra: tuple[Spectrum, ...]
    low: float = 0.0
    high: float = 1.0
    error: float = 0.0

    @classmethod
    def single(cls, spectrum: Spectrum) -> InterpolatedSpectrum:
        """A prior covariance in which no structure is learned."""
        return cls(np.zeros(1), (spectrum,))

    @classmethod
    def along(cls, spectrum_at: Callable[[float], Spectrum], low: float, high: float) -> InterpolatedSpectrum:
        """Decompose at Chebyshev points until the log-likelihood between them is exact to `TOLERANCE`.

        Points of the second kind nest, so a finer set keeps the decompositions already made.

        Raises
        ------
        InterpolationError
            If 65 points do not eigenvalues the tolerance.
        """

        def through(series: Chebyshev, spectra: tuple[Spectrum, ...]) -> InterpolatedSpectrum:
            return cls(series.points, spectra, low, high)

        interpolated, error = refined(low, high, spectrum_at, through, cls._error_at, TOLERANCE)
        if error > TOLERANCE:
            raise InterpolationError(
                f"the log-likelihood between {low:g} and {high:g} could not be interpolated to {TOLERANCE:g} nats "
                f"({len(interpolated.points)} points leave {error:.1e}); fix the structural parameter or narrow its "
                "range"
            )
        return replace(interpolated, error=error)

    def _error_at(self, place: float, spectrum: Spectrum) -> float:
        """Largest error at a place where the spectrum is known, over signal-to-noise ratios up to the recording's.

        The noise has scale 1, and at each ratio, from 0.03, the scale that fits best. An error counts as far as the
        likelihood there reaches that of the best ratio: where the recording rules the scales out, no error matters.
        """
        problem, likelihood = spectrum.problem, spectrum.likelihood
        top = 10 * max(3.0, float(np.sqrt(np.mean(problem.recording**2))))
        ratio = np.geomspace(0.03, top, 40)
        variance_at_unit_noise = ratio**2 / problem.signal_power
        power = (likelihood.powers / (variance_at_unit_noise[:, None] * likelihood.eigenvalues + 1)).sum(axis=1)
        fit = np.sqrt(power / problem.recording.size)
        worst = 0.0
        for noise in (np.ones(len(ratio)), np.maximum(fit, 1e-6)):
            variance = variance_at_unit_noise * noise**2
            exact = spectrum.log_likelihood(variance, noise)
            error = np.abs(self.log_likelihood(variance, noise, np.full(len(ratio), place)) - exact)
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
    def series(self) -> Chebyshev:
        """The Chebyshev series through the points."""
        return Chebyshev(self.points, self.low, self.high)

    def cardinal(self, place: Array) -> Array:
        """Weights (place, node) with which values at the points give the value at each place."""
        if not self.learned:
            return np.ones((len(place), 1))
        return self.series.cardinal(place)

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
        table = np.stack([spectrum.log_likelihood(variance, noise) for spectrum in self.spectra], axis=1)
        common = table[:, :1]
        return np.asarray(common[:, 0] + np.einsum("nk,nk->n", self.cardinal(place), table - common))

    def graph(self, value: Any, variance: Any, noise: Any, place: Any = None) -> Any:
        """The log density as a PyTensor graph.

        One term per component where no structure is learned, the total otherwise.
        """
        import pytensor.tensor as pt

        spectra = self.spectra
        if not self.learned and spectra[0].modes is None:
            likelihood = spectra[0].likelihood
            power = pt.sum(pt.dot(spectra[0].to_components.T, value) ** 2, axis=1)
            total = variance * likelihood.eigenvalues + noise**2
            return likelihood.constant / len(likelihood.eigenvalues) - 0.5 * (
                likelihood.count * pt.log(total) + power / total
            )
        to_components = np.concatenate([spectrum.to_components.T for spectrum in spectra])
        coefficients = pt.dot(to_components, value).reshape((len(spectra), len(spectra[0].values), -1))
        if spectra[0].modes is not None:
            powers = (
                pt.matmul(coefficients, np.stack([spectrum.modes[1] for spectrum in spectra if spectrum.modes])) ** 2
            )
        else:
            powers = pt.sum(coefficients**2, axis=2, keepdims=True)
        eigenvalues = np.stack(
            [spectrum.likelihood.eigenvalues.reshape(len(spectrum.values), -1) for spectrum in spectra]
        )
        total = variance * eigenvalues + noise**2
        constant = np.array([[spectrum.likelihood.constant / len(spectrum.values)] for spectrum in spectra])
        terms = constant - 0.5 * pt.sum(spectra[0].likelihood.count * pt.log(total) + powers / total, axis=2)
        if not self.learned:
            return terms[0]
        table = pt.sum(terms, axis=1)
        cardinal = pt.dot(self.series.graph(place), self.series.transform)
        inside = pt.and_(place >= self.low - SLACK, place <= self.high + SLACK)
        return pt.switch(inside, table[0] + pt.dot(cardinal, table - table[0]), -np.inf)
