"""Relative covariances of currents, noise and time, at given values of the hyperparameters that shape them."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from bayesinv.axes import Array, freeze
from bayesinv.covariance.orientation import along_normals, normals_of
from bayesinv.covariance.stretches import Stretches
from bayesinv.covariance.time_modes import TimeModes
from bayesinv.covariance.uneven_samples import uneven_modes
from bayesinv.head.cortical_field import Field
from bayesinv.interpolation.chebyshev import Chebyshev, refined, terms_of_exponential, weighted
from bayesinv.memory import PickledByFields, cached_property
from bayesinv.problem.problem import Problem
from bayesinv.problem.tails import sensor_columns

GRAM_TOLERANCE = 1e-6
"""Largest relative error that interpolating a Gram matrix over the length-scale may have."""

SERIES_TOLERANCE = 1e-12
"""Relative size of the first term that a series over the depth exponent leaves out."""


@dataclass(frozen=True, eq=False)
class Structure(PickledByFields):
    """Relative covariance D of the currents, and the other terms of the covariance of the recording.

        D = scale H Q H,    H_s = sqrt(weights_s) ‖g_s‖^-depth (n nᵀ + sqrt(tangential) (1 - n nᵀ))
        Q = 1, the correlation of a smooth field, or L diag(shares) Lᵀ
        recording ~ Normal(0, variance (G D Gᵀ + error² A Aᵀ) + noise² N)    in every independent sample

    scale : factor with which the sensors' mean power for unit variance is the same for all structures
    weights : (source,) or (amplitude,), relative variances; None for ones
    depth : exponent of the depth weighting, of gains relative to their geometric mean; None for none
    tangential : variance of tangential currents, that of the normal one being 1; None where all axes have one variance
    length : m, of a Matérn field over the cortex; None where sources are independent
    factor, shares : (amplitude, part) and (part,), L and the variances of its columns; None for single sources
    noise : (kind,), relative scale of the noise of every sensor kind of the problem; None for ones
    sensor_noise, sample_noise : (sensor,) and (time,), variance of the noise that each sensor, and each sample of the
        recording, has of its own, relative to that of all noise given all other sensors or times; None for zeros
    error : relative scale of the lead field's error, see `Problem.error_factor`; 0 leaves it out
    time : s, time constant of the currents' time courses; None where they have the noise's correlation over time
    course : kind of their correlation, see `correlation_over_time`
    tabled : whether G D Gᵀ is interpolated in a table over the depth exponent, as where that is learned
    """

    scale: float = 1.0
    weights: Array | None = None
    depth: float | None = None
    tangential: float | None = None
    length: float | None = None
    factor: Array | None = None
    shares: Array | None = None
    noise: Array | None = None
    sensor_noise: Array | None = None
    sample_noise: Array | None = None
    error: float = 0.0
    time: float | None = None
    course: str = "matern"
    tabled: bool = False

    def __post_init__(self) -> None:
        freeze(self.weights, self.factor, self.shares, self.noise, self.sensor_noise, self.sample_noise)

    @cached_property
    def key(self) -> Hashable:
        """All fields as one hashable key; equal for equal structures."""
        return tuple(
            value.tobytes() if isinstance(value, np.ndarray) else value
            for value in (getattr(self, one.name) for one in fields(self))
        )

    @property
    def diagonal_only(self) -> bool:
        """Whether D is the identity, or diagonal."""
        return self.tangential is None and self.length is None and self.factor is None

    @property
    def weighted(self) -> bool:
        """Whether variances differ from one."""
        return self.weights is not None or self.depth is not None or self.scale != 1

    def _weights(self, problem: Problem) -> Array | None:
        """Variances of the amplitudes along their axes, but for orientation: (amplitude,); None for ones."""
        if not self.weighted:
            return None
        weights = np.ones(problem.source_count) if self.weights is None else self.weights
        size = problem.gain.shape[1]
        if len(weights) not in (problem.source_count, size):
            raise ValueError(
                f"weights has source = {len(weights)}, but the problem has source = {problem.source_count}"
            )
        weights = weights if len(weights) == size else np.repeat(weights, problem.axes)
        if self.depth is not None:
            weights = weights * np.repeat(np.exp(-2 * self.depth * problem.log_norms), problem.axes)
        return self.scale * weights

    def _apply_half(self, problem: Problem, table: Array) -> Array:
        """H @ table: (amplitude, column)."""
        if self.tangential is not None:
            normals = normals_of(problem)
            blocks = table.reshape(len(normals), 3, -1)
            along = np.einsum("sa,sak->sk", normals, blocks)
            root = np.sqrt(self.tangential)
            table = (root * blocks + (1 - root) * normals[:, :, None] * along[:, None]).reshape(table.shape)
        weights = self._weights(problem)
        return table if weights is None else np.sqrt(weights)[:, None] * table

    def field(self, problem: Problem) -> Field:
        """The correlation of the sources at this length-scale."""
        assert self.length is not None
        length = self.length
        return problem.shared.recall("field", length, lambda: problem.surface.at(length))

    def diagonal(self, problem: Problem) -> Array:
        """Diagonal of D: (amplitude,)."""
        if self.factor is not None:
            assert self.shares is not None
            half = self._apply_half(problem, self.factor)
            return np.asarray(half**2 @ self.shares)
        weights = self._weights(problem)
        out = np.ones(problem.gain.shape[1]) if weights is None else weights
        if self.tangential is not None:
            square = normals_of(problem).ravel() ** 2
            out = out * (self.tangential + (1 - self.tangential) * square)
        return out

    def product(self, problem: Problem, table: Array) -> Array:
        """D @ table: (amplitude, column)."""
        if self.diagonal_only:
            weights = self._weights(problem)
            return table if weights is None else weights[:, None] * table
        if self.independent:
            # H H in one pass over the table, which is the cost.
            assert self.tangential is not None
            normals = normals_of(problem)
            blocks = table.reshape(len(normals), 3, -1)
            along = (1 - self.tangential) * np.matmul(normals[:, None], blocks)
            rotated = self.tangential * blocks
            rotated += normals[:, :, None] * along
            weights = self._weights(problem)
            if weights is not None:
                rotated *= weights.reshape(len(normals), 3, 1)
            return rotated.reshape(table.shape)
        half = self._apply_half(problem, table)
        if self.length is not None:
            count = problem.source_count
            half = self.field(problem).product(half.reshape(count, -1)).reshape(half.shape)
        elif self.factor is not None:
            assert self.shares is not None
            half = self.factor @ (self.shares[:, None] * (self.factor.T @ half))
        return self._apply_half(problem, half)

    def sample_size(self, problem: Problem) -> int:
        """Number of standard normal variables in one draw of the currents."""
        return problem.gain.shape[1] if self.factor is None else self.factor.shape[1]

    def sample(self, problem: Problem, unit: Array) -> Array:
        """Currents (amplitude, column) of covariance D from standard normal numbers (unit, column)."""
        if self.length is not None:
            count = problem.source_count
            unit = self.field(problem).sample(unit.reshape(count, -1)).reshape(unit.shape)
        elif self.factor is not None:
            assert self.shares is not None
            unit = self.factor @ (np.sqrt(self.shares)[:, None] * unit)
        return self._apply_half(problem, unit)

    def gram(self, problem: Problem, *, exact: bool = False) -> Array:
        """G D Gᵀ: (component, component); interpolated in a table, unless exact is true."""
        if self.diagonal_only and not self.weighted:
            return np.array(problem.shared.recall("plain gram", (), lambda: problem.gain @ problem.gain.T))
        if not exact:
            table = self._table(problem)
            if table is not None:
                return self.scale * table.gram(self)
        projected = self._apply_half(problem, problem.gain.T)
        if self.length is not None:
            return self._field_gram(problem, projected)
        if self.factor is not None:
            assert self.shares is not None
            projected = np.sqrt(self.shares)[:, None] * (self.factor.T @ projected)
        return np.asarray(projected.T @ projected)

    def _table(self, problem: Problem) -> LengthTable | DepthTable | None:
        if self.length is not None:
            return LengthTable.of(problem, self)
        # A table pays where an exponent is learned; at a fixed one the product itself is cheaper.
        return DepthTable.of(problem, self) if self.tabled and self.depth is not None and self.independent else None

    @property
    def independent(self) -> bool:
        """Whether sources are independent of one another."""
        return self.length is None and self.factor is None

    def _field_gram(self, problem: Problem, projected: Array) -> Array:
        if problem.axes == 1:
            return self.field(problem).gram(projected.T)
        blocks = projected.reshape(problem.source_count, 3, -1)
        return np.asarray(sum(self.field(problem).gram(blocks[:, axis].T) for axis in range(3)))

    def slope(self, problem: Problem, name: str, by_gram: Array, by_noise: Array, gram: Array | None = None) -> Any:
        """Derivative of the log density by a field of the structure, by the chain rule.

        by_gram, by_noise : (component, component), symmetric derivatives by Gram matrix and noise covariance
        gram : G D Gᵀ, where it is known
        """
        if name == "noise":
            assert self.noise is not None
            return 2 * np.einsum("cd,klcd,l->k", by_noise, problem.noise_parts, self.noise)
        if name == "error":
            factor = problem.error_factor
            assert factor is not None
            return 2 * self.error * float(np.sum(factor * (by_gram @ factor)))
        if name == "scale":
            gram = self.gram(problem) if gram is None else gram
            return float(np.sum(by_gram * gram)) / self.scale
        if name == "shares":
            assert self.factor is not None
            projected = problem.gain @ self._apply_half(problem, self.factor)
            return np.sum(projected * (by_gram @ projected), axis=0)
        if name in ("depth", "tangential") and isinstance(table := self._table(problem), DepthTable):
            return self.scale * float(np.sum(by_gram * table.slope(self, name)))
        if name == "length":
            return self.scale * float(np.sum(by_gram * LengthTable.of(problem, self).slope(self)))
        if name in ("weights", "depth", "tangential"):
            each = np.sum(problem.gain * (by_gram @ problem.gain), axis=0)
            sums = each if self.weights is not None and len(self.weights) == len(each) else None
            sums = each.reshape(problem.source_count, -1).sum(axis=1) if sums is None else sums
            along = np.zeros(len(sums))
            if self.tangential is not None:
                projected = along_normals(problem)
                along = np.sum(projected * (by_gram @ projected), axis=0)
            rest = 1.0 if self.weights is None else self.weights
            depth_weights = 1.0 if self.depth is None else np.exp(-2 * self.depth * problem.log_norms)
            if name == "tangential":
                return self.scale * float(np.sum(rest * depth_weights * (sums - along)))
            ratio = 1.0 if self.tangential is None else self.tangential
            by_weights = self.scale * depth_weights * (ratio * sums + (1 - ratio) * along)
            return by_weights if name == "weights" else float(np.sum(-2 * problem.log_norms * rest * by_weights))
        return 0.0

    def with_error(self, problem: Problem, gram: Array) -> Array:
        """G D Gᵀ + error² A Aᵀ: (component, component)."""
        factor = problem.error_factor
        return gram if not self.error or factor is None else gram + self.error**2 * (factor @ factor.T)

    def noise_covariance(self, problem: Problem) -> Array | None:
        """N: (component, component), or None for the identity."""
        covariance = None
        if self.noise is not None:
            covariance = np.asarray(np.einsum("k,l,klcd->cd", self.noise, self.noise, problem.noise_parts))
        if self.sensor_noise is None:
            return covariance
        columns = sensor_columns(problem)
        own = (columns * self.sensor_noise) @ columns.T
        return own + (np.eye(len(own)) if covariance is None else covariance)

    def noise_root(self, problem: Problem) -> Array | None:
        """Lower triangle L with L Lᵀ = N, or None for the identity."""
        covariance = self.noise_covariance(problem)
        return None if covariance is None else np.asarray(np.linalg.cholesky(covariance))

    def modes(self, problem: Problem) -> TimeModes | None:
        """Modes of time in which currents and noise are independent; None where neither times nor samples differ.

        Currents without a `time` have the noise's correlation over time, so that samples are independent once the noise
        is white: a recording that was low-passed has neither noise nor currents beyond its pass-band.
        """
        if self.sample_noise is not None:
            added, constant, kind = self.sample_noise, self.time, self.course
            key = (added.tobytes(), constant, kind)
            return problem.memory.recall("time modes", key, lambda: uneven_modes(problem, added, constant, kind))
        if self.time is None:
            return None
        time, course = self.time, self.course

        def made() -> TimeModes:
            return TimeModes.of(problem, time, course)

        return problem.memory.recall("time modes", (time, course), made)

    @property
    def correlated(self) -> bool:
        """Whether samples are not independent once the noise is white, so that the currents have modes of time."""
        return self.time is not None or self.sample_noise is not None

    def stretches(self, problem: Problem) -> Stretches | None:
        """Stretches of a long recording in which currents have a time constant; None where samples are together."""
        if self.time is None or self.sample_noise is not None:
            return None
        time, course = self.time, self.course

        def made() -> Stretches | None:
            return Stretches.of(problem, time, course)

        return problem.memory.recall("stretches", (time, course), made)

    def time_variances(self, problem: Problem) -> Array:
        """The currents' relative variances (time,) at the samples; (1,) where all are alike."""
        if not self.correlated:
            whitening = problem.time_whitening
            return np.ones(1) if whitening is None or not whitening.centred else whitening.variances
        # Of modes that several colours share the currents' power differs from sample to sample, by a little.
        modes = None if self.stretches(problem) else self.modes(problem)
        uneven = modes is not None and (len(modes.blocks) > 1 or self.time is None)
        return np.asarray(np.sum(modes.root**2, axis=1)) if modes is not None and uneven else np.ones(1)

    def time_root(self, problem: Problem) -> Array | None:
        """R (time, time) with R Rᵀ the currents' correlation over time; None where samples are independent."""
        if self.time is None:
            return None if problem.time_whitening is None else problem.time_whitening.mean_root
        modes = self.modes(problem)
        assert modes is not None
        return modes.root


@dataclass(frozen=True, eq=False)
class LengthTable:
    """Gram matrix of a Matérn field as a Chebyshev series in the logarithm of its length-scale.

    series : over the logarithm of the length-scale in m
    coefficients : (coefficient, component, component)
    error : measured relative error of the matrix between Chebyshev points
    """

    series: Chebyshev
    coefficients: Array
    error: float = 0.0

    @classmethod
    def of(cls, problem: Problem, structure: Structure) -> LengthTable:
        """Return the table whose matrices between the points are exact to `GRAM_TOLERANCE`; computed once.

        structure : its length, scale, noise, error and time do not enter
        """
        weights = structure.weights
        key = (None if weights is None else weights.tobytes(), structure.depth, structure.tangential)
        rest = replace(structure, scale=1.0, noise=None, error=0.0, time=None)
        return problem.shared.recall("length table", key, lambda: cls._made(problem, rest))

    @classmethod
    def _made(cls, problem: Problem, structure: Structure) -> LengthTable:
        def at(log_length: float) -> Array:
            return replace(structure, length=float(np.exp(log_length))).gram(problem, exact=True)

        def interpolated_by(series: Chebyshev, grams: tuple[Array, ...]) -> LengthTable:
            return cls(series, series.coefficients(np.stack(grams)))

        def error_at(table: LengthTable, log_length: float, gram: Array) -> float:
            return float(np.abs(table._at(log_length) - gram).max() / np.abs(gram).max())

        low, high = np.log(problem.length_range).tolist()
        table, error = refined(low, high, at, interpolated_by, error_at, GRAM_TOLERANCE)
        if error > GRAM_TOLERANCE:
            raise ValueError(f"Gram matrices between length-scales could not be interpolated (error {error:.1e})")
        return replace(table, error=error)

    def _at(self, log_length: float) -> Array:
        return weighted(self.series.polynomials(log_length).ravel(), self.coefficients)

    def _log_length(self, length: float) -> float:
        """Logarithm of a length-scale, checked to lie in the range of the table."""
        low, high = np.exp([self.series.low, self.series.high])
        if not low * (1 - 1e-6) <= length <= high * (1 + 1e-6):
            raise ValueError(
                f"a length-scale is {1e3 * length:.3g} mm, but on this cortex it must stay between "
                f"{1e3 * low:.3g} and {1e3 * high:.3g} mm; give it a prior within that range"
            )
        return float(np.clip(np.log(length), self.series.low, self.series.high))

    def gram(self, structure: Structure) -> Array:
        """G D Gᵀ (component, component) at a structure's length-scale, its scale left out."""
        assert structure.length is not None
        return self._at(self._log_length(structure.length))

    def slope(self, structure: Structure) -> Array:
        """Derivative of `gram` by the length-scale."""
        assert structure.length is not None
        slopes = self.series.slopes(self._log_length(structure.length))
        return weighted(slopes, self.coefficients) / structure.length

    def at(self, length: Any) -> Any:
        """The matrix at a length-scale, a number or a graph."""
        if isinstance(length, int | float | np.number):
            return self._at(self._log_length(float(length)))
        return self._graph(length, self.coefficients.reshape(len(self.coefficients), -1)).reshape(
            self.coefficients.shape[1:]
        )

    def trace(self, length: Any) -> Any:
        """trace(G D Gᵀ) at a length-scale, a number or a graph."""
        traces = np.einsum("kcc->k", self.coefficients)
        if isinstance(length, int | float | np.number):
            return float(self.series.polynomials(self._log_length(float(length))).ravel() @ traces)
        return self._graph(length, traces)

    def _graph(self, length: Any, table: Array) -> Any:
        """Sum of a table (coefficient, ...) at a length-scale that is a graph."""
        import pytensor.tensor as pt

        return pt.dot(self.series.graph(pt.log(length)), table)


@dataclass(frozen=True, eq=False)
class DepthTable:
    """Gram matrices of all currents, and of those along the normals, as Chebyshev series in the depth exponent.

    series : over depth exponents from 0 to 1
    total, along : (coefficient, component, component); along is None where all orientations have one variance
    """

    series: Chebyshev
    total: Array
    along: Array | None

    @classmethod
    def of(cls, problem: Problem, structure: Structure) -> DepthTable:
        """Return the table over as many Chebyshev points as its exponentials need; computed once.

        structure : of its fields only the weights enter, and whether it has a tangential variance
        """
        weights, rotated = structure.weights, structure.tangential is not None
        key = (None if weights is None else weights.tobytes(), rotated)
        return problem.shared.recall("depth table", key, lambda: cls._made(problem, weights, rotated))

    @classmethod
    def _made(cls, problem: Problem, weights: Array | None, rotated: bool) -> DepthTable:
        logs = problem.log_norms
        # exp(-2 depth log) over depth in [0, 1] goes as exp(|log| unit) over [-1, 1].
        series = Chebyshev.inner(0.0, 1.0, max(4, terms_of_exponential(float(np.abs(logs).max()), SERIES_TOLERANCE)))
        rest = np.ones(problem.source_count) if weights is None else weights

        def coefficients(gain: Array, repeat: int) -> Array:
            grams = []
            for point in series.points:
                depth_weights = np.repeat(np.exp(-2 * point * logs), repeat)
                others = rest if len(rest) == len(depth_weights) else np.repeat(rest, repeat)
                projected = gain * np.sqrt(depth_weights * others)
                grams.append(projected @ projected.T)
            return series.coefficients(np.stack(grams))

        along = coefficients(along_normals(problem), 1) if rotated else None
        return cls(series, coefficients(problem.gain, problem.axes), along)

    def _weights(self, depth: float | None) -> Array:
        assert depth is not None
        return self.series.polynomials(depth).ravel()

    def gram(self, structure: Structure) -> Array:
        """G D Gᵀ (component, component) at a structure's depth and tangential variance, its scale left out."""
        return self._combined(structure.tangential, self._weights(structure.depth))

    def _combined(self, tangential: float | None, weights: Array) -> Array:
        total = weighted(weights, self.total)
        if self.along is None or tangential is None:
            return total
        return tangential * total + (1 - tangential) * weighted(weights, self.along)

    def slope(self, structure: Structure, name: str) -> Array:
        """Derivative of `gram` by "depth" or "tangential"."""
        if name == "depth":
            assert structure.depth is not None
            return self._combined(structure.tangential, self.series.slopes(structure.depth))
        assert self.along is not None
        weights = self._weights(structure.depth)
        return weighted(weights, self.total) - weighted(weights, self.along)
