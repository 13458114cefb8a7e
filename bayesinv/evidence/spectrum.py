"""Spectrum: the eigendecomposition of G D Gᵀ, in whose basis the components of a recording are independent.

With currents of covariance `variance * D` and noise of variance `noise²` the recording is Gaussian with
covariance `variance * G D Gᵀ + noise² I`. The eigendecomposition `G D Gᵀ = U diag(values) Uᵀ` is made once;
every evaluation afterwards costs as many terms as there are components, whatever the number of sources and
samples. Where D depends on one learned number the *log-likelihood*, which is analytic in it, is interpolated
between Chebyshev points.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.linalg import solve_triangular

from bayesinv.axes import Array, Index
from bayesinv.covariance.covariance import Structure
from bayesinv.covariance.stretches import Part, Stretches
from bayesinv.covariance.time_course import equally_spaced, slope_over_time
from bayesinv.covariance.time_modes import TimeModes, gain_decomposition, lagged_products
from bayesinv.evidence.gaussian import FEW_PARTS, LOG_2PI, Likelihood
from bayesinv.evidence.stretched import likelihood_of, slope_of
from bayesinv.interpolation.log_grid import MovedComponents
from bayesinv.memory import PickledByFields, cached_property
from bayesinv.problem.problem import Problem

LEVELS = 64
"""Levels at which the powers of long recordings are compared."""


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

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self.values.nbytes + self.to_components.nbytes + self.from_components.nbytes

    @classmethod
    def of(cls, problem: Problem, structure: Structure, spread: Array | None = None) -> Decomposition:
        """Decompose the Gram matrix of a structure; recent decompositions are remembered.

        structure : its time constant does not enter
        spread : (component,), factors of the noise's standard deviation; None for ones
        """

        def made() -> Decomposition:
            root = structure.noise_root(problem)
            plain = structure.diagonal_only and not structure.weighted and not structure.error
            if root is None and spread is None and plain:
                values, vectors = gain_decomposition(problem)
                return cls(values, vectors, vectors, 0.0)
            gram = structure.with_error(problem, structure.gram(problem))
            if root is None and spread is None:
                values, vectors = np.linalg.eigh(gram)
                return cls(np.maximum(values, 0.0), vectors, vectors, 0.0)
            units = np.ones(len(gram)) if spread is None else spread
            volume = 2 * float(np.log(units).sum())
            if root is None:
                values, vectors = np.linalg.eigh(gram / units[:, None] / units)
                scaled = vectors / units[:, None], vectors * units[:, None]
                return cls(np.maximum(values, 0.0), *scaled, volume)
            root = units[:, None] * root
            inverse = np.linalg.inv(root)
            values, vectors = np.linalg.eigh(inverse @ gram @ inverse.T)
            volume = 2 * float(np.log(np.diag(root)).sum())
            return cls(np.maximum(values, 0.0), inverse.T @ vectors, root @ vectors, volume)

        spread = None if spread is None or (spread == 1).all() else spread
        timeless = structure
        if structure.time is not None or structure.sample_noise is not None:
            timeless = replace(structure, time=None, course="matern", sample_noise=None)
        key = (timeless.key, None if spread is None else spread.tobytes())
        return problem.shared.recall("decomposition", key, made)


@dataclass(frozen=True, eq=False)
class Spectrum(PickledByFields):
    """Eigendecomposition of one structure of a problem, and the recording in its basis.

    Where modes of time have noise of different spreads over the components, each block of modes has a decomposition of
    its own; they stand side by side, in "columns".

    problem : the whitened gain and recording
    structure : relative covariances of currents, noise and time
    decompositions : of the Gram matrix, one per block of modes
    """

    problem: Problem = field(repr=False)
    structure: Structure = field(repr=False)
    decompositions: tuple[Decomposition, ...] = field(repr=False)

    @classmethod
    def of(cls, problem: Problem, structure: Structure | Array | None = None) -> Spectrum:
        """Decompose a structure; an array stands for relative prior variances (amplitude,), None for ones."""
        if not isinstance(structure, Structure):
            structure = Structure(weights=structure)

        def made() -> Spectrum:
            modes = None if structure.stretches(problem) else structure.modes(problem)
            if modes is None or len(modes.blocks) == 1:
                return cls(problem, structure, (Decomposition.of(problem, structure),))
            timeless, spreads = replace(structure, time=None), modes.spreads

            def decomposed() -> tuple[Decomposition, ...]:
                return tuple(Decomposition.of(problem, structure, one) for one in spreads)

            # Modes that several colours share do not depend on the time constant.
            return cls(problem, structure, problem.memory.recall("decompositions", timeless.key, decomposed))

        return problem.memory.recall("spectrum", structure.key, made)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays, but for the decompositions, which other spectra share."""
        # A list, made at once: another thread may compute a cached property meanwhile.
        own = [*list(vars(self).values()), *(table for _, table in vars(self).get("of_parts", ()))]
        return sum(one.nbytes for one in own if isinstance(one, np.ndarray | TimeModes))

    @cached_property
    def modes(self) -> TimeModes | None:
        """Modes of time; None where samples are independent once the noise is white."""
        return self.structure.modes(self.problem)

    @cached_property
    def stretches(self) -> Stretches | None:
        """Stretches of a long recording whose currents have a time constant; None where samples are together.

        Modes of time of all samples, and what is in terms of them, are there too, at a cost of their number's cube.
        """
        return self.structure.stretches(self.problem)

    @property
    def blocks(self) -> tuple[slice, ...]:
        """The samples or modes of each decomposition."""
        return (slice(None),) if self.stretches is not None or self.modes is None else self.modes.blocks

    @property
    def values(self) -> Array:
        """Eigenvalues of the first Gram matrix (component,), 1/(A m)², ascending."""
        return self.decompositions[0].values

    @cached_property
    def values_of_modes(self) -> Array:
        """Eigenvalues of the Gram matrix in each mode: (component, mode), or (component, 1) where all have one."""
        if len(self.blocks) == 1:
            return self.values[:, None]
        counts = [block.stop - block.start for block in self.blocks]
        return np.repeat(np.stack([one.values for one in self.decompositions], axis=1), counts, axis=1)

    @cached_property
    def eigenvalues(self) -> Array:
        """Variance that currents of unit variance cause, in units of the noise: (component, mode or 1), 1/(A m)²."""
        return self.values_of_modes if self.modes is None else self.values_of_modes * self.modes.powers

    @cached_property
    def to_components(self) -> Array:
        """From a recording to coefficients, in columns: (component, column)."""
        return _side_by_side([one.to_components for one in self.decompositions])

    @cached_property
    def from_components(self) -> Array:
        """From coefficients to a recording: (component, column)."""
        return _side_by_side([one.from_components for one in self.decompositions])

    @property
    def levels(self) -> Array:
        """The same at few levels of time, as many for all time constants: (component, level)."""
        if self.stretches is None:
            return self.eigenvalues
        powers = np.sort(self.stretches.modes.powers)
        some = np.interp(np.linspace(0, 1, LEVELS), np.linspace(0, 1, len(powers)), powers)
        return self.values[:, None] * some

    @cached_property
    def weights(self) -> Array:
        """Relative prior variances (amplitude,), the diagonal of D."""
        return self.structure.diagonal(self.problem)

    def projected(self, table: Array) -> Array:
        """Coefficients of fields (component, ..., sample or mode) in the basis of each block of modes."""
        if len(self.blocks) == 1:
            one = self.decompositions[0]
            return np.asarray(one.to_components.T @ table.reshape(len(table), -1)).reshape(table.shape)
        out = np.empty_like(table)
        for one, block in zip(self.decompositions, self.blocks, strict=True):
            out[..., block] = np.tensordot(one.to_components.T, table[..., block], axes=1)
        return out

    def stacked(self, table: Array, over: Array) -> Array:
        """Sum a table (..., component, mode) over the modes of each block: (..., column, sample).

        over : (mode, sample)
        """
        parts = [table[..., block] @ over[block] for block in self.blocks]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-2)

    @cached_property
    def coefficients(self) -> Array:
        """Recording in the basis of the eigenvectors: (component, time), or (component, mode)."""
        recording = self.problem.recording
        if self.modes is None:
            return self.projected(recording)
        if self.structure.sample_noise is not None:
            return self.projected(recording @ self.modes.to_modes)
        memory, key = self.problem.memory, (self._timeless.key, self.structure.course)
        if len(self.blocks) > 1:
            # Modes that several colours share do not depend on the time constant.
            to_modes = self.modes.to_modes
            return memory.recall("coefficients", key, lambda: self.projected(recording @ to_modes))
        white = memory.recall("white coefficients", key, lambda: self.projected(self.problem.white_recording))
        return np.asarray(white @ self.modes.basis.vectors)

    @property
    def _timeless(self) -> Structure:
        """The structure without its time constant."""
        return replace(self.structure, time=None, course="matern")

    @cached_property
    def white_coefficients(self) -> Array:
        """The same of the recording whose noise is white over time: all its entries are independent."""
        if self.problem.time_whitening is None or self.structure.correlated:
            return self.coefficients
        return self.projected(self.problem.white_recording)

    @property
    def timed(self) -> Array:
        """Recording in the basis of the eigenvectors, at all samples as they are: (component, time)."""
        key = self._timeless.key
        return self.problem.memory.recall("timed coefficients", key, lambda: self.projected(self.problem.recording))

    @cached_property
    def of_parts(self) -> list[tuple[Part, Array]]:
        """Stretches and overlaps, with the recording in the modes of each: (component, stretch, mode)."""
        assert self.stretches is not None
        return [(part, part.coefficients(self.timed)) for part in self.stretches.parts]

    @cached_property
    def likelihood(self) -> Likelihood:
        """The recording and baseline as independent parts."""
        if self.stretches is not None:
            volume = self.decompositions[0].log_volume * len(self.problem.times)
            constant = -0.5 * (self.problem.recording.size * LOG_2PI + volume)
            return likelihood_of(self.of_parts, self.values, constant, self._baseline())
        problem, modes, whitening = self.problem, self.modes, self.problem.time_whitening
        components, samples = problem.recording.shape
        volume = sum(
            one.log_volume * (samples if modes is None else block.stop - block.start)
            for one, block in zip(self.decompositions, self.blocks, strict=True)
        )
        if modes is not None:
            volume += components * modes.log_volume
        elif whitening is not None:
            volume += float(whitening.log_volumes.sum())
        constant = -0.5 * (samples * components * LOG_2PI + volume)
        baseline = self._baseline()
        if modes is None:
            powers = np.einsum("ct,ct->c", self.white_coefficients, self.white_coefficients)
            return Likelihood(self.values, powers, samples, constant, *baseline)
        if components * samples <= FEW_PARTS:
            return Likelihood(self.eigenvalues.ravel(), self.coefficients.ravel() ** 2, 1, constant, *baseline)
        return Likelihood.of_modes(self._moved, modes.powers, constant, baseline)

    @property
    def _moved(self) -> MovedComponents:
        """The recording's components in modes of time, on a grid of eigenvalues."""

        def made() -> MovedComponents:
            pairs = zip(self.decompositions, self.blocks, strict=True)
            return MovedComponents.of([(one.values, self.coefficients[:, block] ** 2) for one, block in pairs])

        if len(self.blocks) == 1:
            return made()
        # Modes that several colours share do not depend on the time constant.
        return self.problem.memory.recall("moved components", (self._timeless.key, self.structure.course), made)

    def _baseline(self) -> tuple[float | None, int, float]:
        """Power of the baseline, its number of values, and the constant term of its log likelihood."""
        problem, whitening, white = self.problem, self.problem.time_whitening, self.problem.white_baseline
        if white is None:
            return None, 0, 0.0
        free = problem.baseline_freedom
        count = free * len(white)
        constant = -0.5 * count * LOG_2PI
        root = self.structure.noise_root(problem)
        if root is not None:
            white = solve_triangular(root, white, lower=True)
            constant -= free * float(np.log(np.diag(root)).sum())
        constant -= 0.0 if whitening is None else 0.5 * float(whitening.baseline_log_volumes.sum())
        return float(np.sum(white**2)), count, constant

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
        problem = self.problem
        by_gram, by_noise = np.zeros((2, problem.components, problem.components))
        for back, spread, sign, table, total, share in self._summands(variance, noise):
            solved, inverse = table / total, np.broadcast_to(1 / total, table.shape)

            def half(weights: Array, solved: Array = solved, inverse: Array = inverse, back: Array = back) -> Array:
                field = back @ (solved * np.sqrt(weights))
                return np.asarray(0.5 * (field @ field.T - (back * (inverse @ weights)) @ back.T))

            by_gram += sign * variance * half(share)
            found = sign * noise**2 * half(np.ones(len(share)))
            by_noise += found if spread is None else spread[:, None] * found * spread
        if baseline and problem.white_baseline is not None:
            root = self.structure.noise_root(problem)
            precision = np.eye(problem.components) if root is None else np.linalg.inv(root @ root.T)
            scaled = precision @ problem.white_baseline / noise
            by_noise += 0.5 * (scaled @ scaled.T - problem.baseline_freedom * precision)
        return by_gram, by_noise

    def scores(self, variance: float, noise: float, parts: Sequence[Array]) -> tuple[Array, Array]:
        """Derivatives (part,) of the recording's log density by factors of parts of the Gram matrix, and how sure.

            d/df log Normal(y; 0, C + (f - 1) Q) = (xᵀ Q x - tr(C⁻¹ Q)) / 2,  x = C⁻¹ y,  at f = 1

        parts : (component, component), symmetric; f is the factor of one
        returns also Fisher's information (part, part), tr(C⁻¹ Q C⁻¹ Q') / 2
        """
        scores, information = np.zeros(len(parts)), np.zeros((len(parts), len(parts)))
        for back, _, sign, table, total, share in self._summands(variance, noise):
            inverse = np.broadcast_to(1 / total, table.shape)
            solved = table * inverse
            by_part = sign * 0.5 * ((solved * share) @ solved.T - np.diag(inverse @ share))
            twice = sign * 0.5 * (inverse * share**2) @ inverse.T
            turned = [variance * (back.T @ part @ back) for part in parts]
            scores += [float(np.sum(by_part * one)) for one in turned]
            information += [[float(np.sum(twice * one * other)) for other in turned] for one in turned]
        return scores, information

    def traces(self, variance: float, noise: float, parts: Sequence[Array]) -> Array:
        """What xᵀ Q x of `scores` is expected to be (part,): tr(C⁻¹ Q)."""
        out = np.zeros(len(parts))
        for back, _, sign, table, total, share in self._summands(variance, noise):
            by_row = np.broadcast_to(1 / total, table.shape) @ share
            out += [sign * variance * float(by_row @ np.einsum("ca,cd,da->a", back, one, back)) for one in parts]
        return out

    def _summands(
        self, variance: float, noise: float
    ) -> Iterator[tuple[Array, Array | None, int, Array, Array, Array]]:
        """What `sensitivity` sums over: to_components, spread, sign, coefficients, their variances, currents' share."""
        if self.stretches is not None:
            for part, table in self.of_parts:
                share = np.tile(part.modes.powers, len(part.starts))
                flat = table.reshape(len(table), -1)
                total = variance * self.values[:, None] * share + noise**2
                yield self.decompositions[0].to_components, None, part.sign, flat, total, share
            return
        whole = variance * self.eigenvalues + noise**2
        share = np.ones(1) if self.modes is None else self.modes.powers
        share = np.broadcast_to(share, self.white_coefficients.shape[1])
        spreads = (None,) if self.modes is None else self.modes.spreads
        for one, block, spread in zip(self.decompositions, self.blocks, spreads, strict=True):
            total = whole if whole.shape[1] == 1 else whole[:, block]
            yield one.to_components, spread, 1, self.white_coefficients[:, block], total, share[block]

    def slope_by_time(self, variance: float, noise: float) -> float:
        """Derivative of the log density of the recording by the currents' time constant, 1/s.

        Of modes that several colours share the variances change, of those of one colour the correlation T of the
        currents, d/dC log Normal(y; 0, C) = (C⁻¹ y yᵀ C⁻¹ - C⁻¹) / 2: a sum over lags where samples are
        equally spaced, for dT is a Toeplitz matrix then.
        """
        time, times = self.structure.time, self.problem.times
        assert time is not None
        if self.stretches is not None:
            change = slope_over_time(times[: self.stretches.length], time, self.structure.course)[0]
            return slope_of(self.of_parts, self.values, variance, noise, change)
        modes = self.modes
        assert modes is not None
        change = slope_over_time(times, time, self.structure.course)
        total = variance * self.eigenvalues + noise**2
        solved = self.coefficients / total
        if len(self.blocks) > 1:
            by_power = np.einsum("cm,cm->m", self.values_of_modes, solved**2 - 1 / total)
            return 0.5 * variance * float(by_power @ modes.basis.variances(times, change))
        series, weights = solved @ modes.to_modes.T, self.values @ (1 / total)
        if not equally_spaced(times):
            recorded = np.sum(self.values[:, None] * series * (series @ change))
            return 0.5 * variance * float(recorded - weights @ modes.basis.variances(times, change))
        left = lagged_products(series, self.values) - lagged_products(modes.to_modes.T, weights)
        return 0.5 * variance * float(left @ change[0])

    def to_sources(self, rows: slice | Index = slice(None)) -> Array:
        """D Gᵀ U (amplitude, column), or some rows of it: the map from filtered coefficients to currents."""
        if self.structure.diagonal_only:
            found = self.problem.gain[:, rows].T @ self.to_components
            if self.structure.weighted:
                found *= self.weights[rows, None]
            return found
        return self.structure.product(self.problem, self.problem.gain.T @ self.to_components)[rows]

    @cached_property
    def explained(self) -> Array:
        """G D Gᵀ U (component, column): the recordings of currents with unit coefficients."""
        if not self.structure.error:
            return np.asarray(self.from_components * np.concatenate([one.values for one in self.decompositions]))
        return np.asarray(self.structure.gram(self.problem) @ self.to_components)


def _side_by_side(tables: Sequence[Array]) -> Array:
    return tables[0] if len(tables) == 1 else np.hstack(tables)
