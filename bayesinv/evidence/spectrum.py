"""Spectrum: the eigendecomposition of G D Gᵀ, in whose basis the components of a recording are independent.

With currents of covariance `variance * D` and noise of variance `noise²` the recording is Gaussian with
covariance `variance * G D Gᵀ + noise² I`. The eigendecomposition `G D Gᵀ = U diag(values) Uᵀ` is made once;
every evaluation afterwards costs as many terms as there are components, whatever the number of sources and
samples. Where D depends on one learned number the *log-likelihood*, which is analytic in it, is interpolated
between Chebyshev points.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bayesinv.axes import Array
from bayesinv.covariance.covariance import Structure
from bayesinv.evidence.gaussian import LOG_2PI, Likelihood
from bayesinv.memory import PickledByFields, cached_property
from bayesinv.problem.problem import Problem


@dataclass(frozen=True, eq=False)
class Decomposition:
    """Eigendecomposition of one structure's Gram matrix in units of its noise; it depends on the gain alone.

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
        """Decompose the Gram matrix of a structure; recent decompositions are remembered."""

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
class Spectrum(PickledByFields):
    """Eigendecomposition of one structure of a problem, and the recording in its basis.

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
        """Powers (mode,) and time courses (time, mode) of independent modes; None where samples are independent."""
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
            white = problem.baseline
            if self.to_components is not self.from_components:
                white = self.to_components.T @ white
            baseline_power, free = float(np.sum(white**2)), white.shape[1] - int(problem.baseline_centred)
            baseline_count = free * len(white)
            baseline_constant = -0.5 * (baseline_count * LOG_2PI + free * volume)
        if self.modes is None:
            powers = np.einsum("ct,ct->c", self.coefficients, self.coefficients)
            return Likelihood(self.values, powers, samples, constant, baseline_power, baseline_count, baseline_constant)
        eigenvalues, powers = np.outer(self.values, self.modes[0]).ravel(), self.coefficients.ravel() ** 2
        return Likelihood(eigenvalues, powers, 1, constant, baseline_power, baseline_count, baseline_constant)

    def log_likelihood(self, variance: Array, noise: Array) -> Array:
        """Log density (node,) of the recording for source variances and noise scales (node,)."""
        return self.likelihood.log_likelihood(variance, noise)

    def baseline_log_likelihood(self, noise: Array) -> Array:
        """Log density (node,) of the baseline, pure noise of scale `noise` (node,); 0 where there is no baseline."""
        return self.likelihood.baseline_log_likelihood(noise)

    def sensitivity(self, variance: float, noise: float, baseline: bool = True) -> tuple[Array, Array]:
        """Derivatives (component, component) of the log density by Gram matrix G D Gᵀ and by noise covariance N.

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
        """D Gᵀ U (amplitude, component), or some rows of it: the map from filtered coefficients to currents."""
        if self.structure.diagonal_only:
            found = self.problem.gain[:, rows].T @ self.to_components
            if self.structure.weighted:
                found *= self.weights[rows, None]
            return found
        return self.structure.product(self.problem, self.problem.gain.T @ self.to_components)[rows]

    @cached_property
    def explained(self) -> Array:
        """G D Gᵀ U (component, component): the recordings of currents with unit coefficients."""
        if not self.structure.error:
            return np.asarray(self.from_components * self.values)
        return np.asarray(self.structure.gram(self.problem) @ self.to_components)
