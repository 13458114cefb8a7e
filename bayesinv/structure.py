"""Structure: relative covariances of currents, noise and time, at one place of whatever numbers shape them."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy.linalg import cholesky, eigh, toeplitz

from bayesinv.axes import Array, freeze
from bayesinv.problem import Problem
from bayesinv.smoothness import Field, Matern


def correlation_over_time(times: Array, constant: float) -> Array:
    """Return the correlation (time, time) of a first-order autoregressive course.

        K_tu = exp(-|t - u| / constant)

    times : (time,), s, equally spaced
    constant : s, after which the correlation has fallen to 1/e

    Reference: Rasmussen & Williams (2006), Gaussian Processes for Machine Learning, §4.2 (Matérn, ν = 1/2).
    """
    return np.asarray(toeplitz(np.exp(-(times - times[0]) / constant)))


@dataclass(frozen=True, eq=False)
class Structure:
    """Relative covariance D of the currents, and what else shapes the covariance of the recording.

        D = H Q H,    H_s = sqrt(weights_s) (n nᵀ + sqrt(tangential) (1 - n nᵀ)),    Q = 1, a field or L diag(shares) Lᵀ
        recording ~ Normal(0, variance (G D Gᵀ + error² A Aᵀ) + noise² N)    in every independent sample

    weights : (source,) or (amplitude,), relative variances; None for ones
    tangential : variance of tangential currents, that of the normal one being 1; None where axes are alike
    length : m, of a Matérn field over the cortex; None where sources are independent
    factor, shares : (amplitude, part) and (part,), L and the variances of its columns; None for single sources
    noise : (kind,), relative scale of the noise of every sensor kind of the problem; None for ones
    error : relative scale of the lead field's error, see `Problem.error`; 0 leaves it out
    time : s, time constant of the currents' courses; None where samples are independent
    """

    weights: Array | None = None
    tangential: float | None = None
    length: float | None = None
    factor: Array | None = None
    shares: Array | None = None
    noise: Array | None = None
    error: float = 0.0
    time: float | None = None

    def __post_init__(self) -> None:
        freeze(self.weights, self.factor, self.shares, self.noise)

    @cached_property
    def key(self) -> Hashable:
        """What tells one structure from another."""
        return tuple(
            value.tobytes() if isinstance(value, np.ndarray) else value
            for value in (getattr(self, one.name) for one in fields(self))
        )

    @property
    def plain(self) -> bool:
        """Whether D is the identity, or diagonal: what single currents have in common with nobody."""
        return self.tangential is None and self.length is None and self.factor is None

    def _weights(self, problem: Problem) -> Array | None:
        weights = self.weights
        if weights is None or len(weights) == problem.gain.shape[1]:
            return weights
        if len(weights) != problem.source_count:
            raise ValueError(
                f"weights has source = {len(weights)}, but the problem has source = {problem.source_count}"
            )
        return np.repeat(weights, problem.axes)

    def _half(self, problem: Problem, table: Array) -> Array:
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
        key = ("field", self.length)
        if key not in problem.shared:
            problem.shared[key] = matern(problem).at(self.length)
        found: Field = problem.shared[key]
        return found

    def diagonal(self, problem: Problem) -> Array:
        """Diagonal of D: (amplitude,)."""
        if self.factor is not None:
            assert self.shares is not None
            half = self._half(problem, self.factor)
            return np.asarray(half**2 @ self.shares)
        weights = self._weights(problem)
        out = np.ones(problem.gain.shape[1]) if weights is None else weights
        if self.tangential is not None:
            square = normals_of(problem).ravel() ** 2
            out = out * (self.tangential + (1 - self.tangential) * square)
        return out

    def times(self, problem: Problem, table: Array) -> Array:
        """D @ table: (amplitude, column)."""
        if self.plain:
            weights = self._weights(problem)
            return table if weights is None else weights[:, None] * table
        half = self._half(problem, table)
        if self.length is not None:
            count = problem.source_count
            half = self.field(problem).times(half.reshape(count, -1)).reshape(half.shape)
        elif self.factor is not None:
            assert self.shares is not None
            half = self.factor @ (self.shares[:, None] * (self.factor.T @ half))
        return self._half(problem, half)

    def units(self, problem: Problem) -> int:
        """Standard normal numbers behind one draw of the currents."""
        return problem.gain.shape[1] if self.factor is None else self.factor.shape[1]

    def colour(self, problem: Problem, unit: Array) -> Array:
        """Currents (amplitude, column) of covariance D from standard normal numbers (unit, column)."""
        if self.length is not None:
            count = problem.source_count
            unit = self.field(problem).colour(unit.reshape(count, -1)).reshape(unit.shape)
        elif self.factor is not None:
            assert self.shares is not None
            unit = self.factor @ (np.sqrt(self.shares)[:, None] * unit)
        return self._half(problem, unit)

    def gram(self, problem: Problem, *, exact: bool = False) -> Array:
        """G D Gᵀ: (component, component); of a field by interpolation over its length-scale, unless exact is asked."""
        if self.plain and self.weights is None:
            key = ("plain gram",)
            if key not in problem.shared:
                problem.shared[key] = problem.gain @ problem.gain.T
            return np.array(problem.shared[key])
        if self.length is not None and not exact:
            weights = np.ones(problem.source_count) if self.weights is None else self.weights
            return np.asarray(LengthTable.of(problem, weights, self.tangential).gram(self.length))
        seen = self._half(problem, problem.gain.T)
        if self.length is not None:
            return self._field_gram(problem, seen)
        if self.factor is not None:
            assert self.shares is not None
            seen = np.sqrt(self.shares)[:, None] * (self.factor.T @ seen)
        return np.asarray(seen.T @ seen)

    def _field_gram(self, problem: Problem, seen: Array) -> Array:
        if problem.axes == 1:
            return self.field(problem).gram(seen.T)
        blocks = seen.reshape(problem.source_count, 3, -1)
        return np.asarray(sum(self.field(problem).gram(blocks[:, axis].T) for axis in range(3)))

    def slope(self, problem: Problem, name: str, by_gram: Array, by_noise: Array) -> Any:
        """Derivative of the log density by a field of the structure, from those by Gram matrix and noise covariance.

        by_gram, by_noise : (component, component), symmetric
        """
        if name == "noise":
            assert self.noise is not None
            return 2 * np.einsum("cd,klcd,l->k", by_noise, problem.noise_parts, self.noise)
        if name == "error":
            lost = problem.error_factor
            assert lost is not None
            return 2 * self.error * float(np.sum(lost * (by_gram @ lost)))
        if name == "shares":
            assert self.factor is not None
            seen = problem.gain @ self._half(problem, self.factor)
            return np.sum(seen * (by_gram @ seen), axis=0)
        if name == "weights" and self.length is not None:
            assert self.weights is not None
            # Its weights change by a common factor alone, which keeps the trace.
            return self.weights * (np.sum(by_gram * self.gram(problem)) / np.sum(self.weights**2))
        if name in ("weights", "tangential"):
            each = np.sum(problem.gain * (by_gram @ problem.gain), axis=0)
            sums = each.reshape(problem.source_count, -1).sum(axis=1)
            if self.tangential is None:
                assert self.weights is not None
                return each if len(self.weights) == len(each) else sums
            seen = along_normals(problem)
            along = np.sum(seen * (by_gram @ seen), axis=0)
            if name == "weights":
                return self.tangential * sums + (1 - self.tangential) * along
            return float(np.sum((1.0 if self.weights is None else self.weights) * (sums - along)))
        return 0.0

    def noise_covariance(self, problem: Problem) -> Array | None:
        """N: (component, component), or None for the identity."""
        if self.noise is None:
            return None
        return np.asarray(np.einsum("k,l,klcd->cd", self.noise, self.noise, problem.noise_parts))

    def noise_root(self, problem: Problem) -> Array | None:
        """Lower triangle L with L Lᵀ = N, or None for the identity."""
        return None if self.noise is None else cholesky(self.noise_covariance(problem), lower=True)

    def modes(self, times: Array) -> tuple[Array, Array] | None:
        """Powers (mode,) and courses (time, mode) of the independent modes of the currents' courses; None if white."""
        if self.time is None:
            return None
        values, vectors = eigh(correlation_over_time(times, self.time), driver="evd")
        return np.maximum(values, 0.0), vectors


LENGTHS = (0.005, 0.1)
"""m, length-scales of a smooth prior that may be learned: from the spacing of a fine cortex to half a brain."""

EXACT = 1e-6
"""Largest relative error that interpolating a Gram matrix over the length-scale may have."""


def check_times(times: Array, constant: Any) -> None:
    """Raise unless samples are equally spaced, and enough to tell a time constant from."""
    if len(times) < 3:
        raise ValueError(f"courses that are correlated over time want at least 3 samples, but there are {len(times)}")
    steps = np.diff(times)
    if np.ptp(steps) > 1e-3 * steps.mean():
        raise ValueError(
            f"courses that are correlated over time want equally spaced samples, but the steps run from "
            f"{1e3 * steps.min():.4g} to {1e3 * steps.max():.4g} ms; resample, or leave `time` out"
        )


def time_range(problem: Problem) -> tuple[float, float]:
    """Time constants in s that may be learned: from a tenth of a sample to ten times the recording."""
    times = problem.times
    step = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 1.0
    return 0.1 * float(step), 10 * float(times[-1] - times[0] + step)


def along_normals(problem: Problem) -> Array:
    """Gain of currents along the normals: (component, source)."""
    blocks = problem.gain.reshape(len(problem.gain), -1, 3)
    return np.einsum("csa,sa->cs", blocks, normals_of(problem))


@dataclass(frozen=True, eq=False)
class LengthTable:
    """Gram matrix of a Matérn field as a Chebyshev series in the logarithm of its length-scale.

    coefficients : (coefficient, component, component)
    error : measured relative error of the matrix between the points
    scale : of the sources' relative variances
    """

    coefficients: Array
    error: float
    scale: float = 1.0

    @classmethod
    def of(cls, problem: Problem, weights: Array, tangential: float | None) -> LengthTable:
        """Factorise at Chebyshev points until the matrices between them are exact to `EXACT`; remembered."""
        # Relative weights make one table serve every scale.
        scale = float(weights.mean())
        relative = np.round(weights / scale, 9)
        key = ("length table", relative.tobytes(), tangential)
        if key not in problem.shared:
            problem.shared[key] = cls._made(problem, relative, tangential)
        found: LengthTable = problem.shared[key]
        return replace(found, scale=scale)

    @classmethod
    def _made(cls, problem: Problem, weights: Array, tangential: float | None) -> LengthTable:
        known: dict[float, Array] = {}
        low, high = np.log(LENGTHS)

        def at(unit: float) -> Array:
            place = round(float(unit), 12)
            if place not in known:
                length = float(np.exp(low + (high - low) * (place + 1) / 2))
                known[place] = Structure(weights, tangential, length).gram(problem, exact=True)
            return known[place]

        for count in (9, 17, 33):
            points = -np.cos(np.pi * np.arange(count) / (count - 1))
            inverse = np.linalg.inv(np.polynomial.chebyshev.chebvander(points, count - 1))
            table = cls(np.tensordot(inverse, np.stack([at(point) for point in points]), axes=1), 0.0)
            middle = (points[0] + points[1]) / 2, (points[count // 2] + points[count // 2 + 1]) / 2
            error = max(float(np.abs(table._at(x) - at(x)).max() / np.abs(at(x)).max()) for x in middle)
            if error <= EXACT:
                break
        else:
            raise ValueError(f"Gram matrices between length-scales could not be interpolated (error {error:.1e})")
        return cls(table.coefficients, error)

    def _series(self, unit: Any) -> list[Any]:
        series = [1.0 + 0 * unit, unit]
        while len(series) < len(self.coefficients):
            series.append(2 * unit * series[-1] - series[-2])
        return series

    def _at(self, unit: Any) -> Any:
        return sum(value * matrix for value, matrix in zip(self._series(unit), self.coefficients, strict=True))

    @staticmethod
    def _unit(length: Any) -> Any:
        low, high = np.log(LENGTHS)
        if isinstance(length, int | float | np.number):
            if not LENGTHS[0] * (1 - 1e-6) <= length <= LENGTHS[1] * (1 + 1e-6):
                raise ValueError(
                    f"a learned length-scale reaches {1e3 * length:.3g} mm, but must stay between "
                    f"{1e3 * LENGTHS[0]:g} and {1e3 * LENGTHS[1]:g} mm; give it a prior that lives there"
                )
            return float(np.clip(2 * (np.log(length) - low) / (high - low) - 1, -1, 1))
        import pytensor.tensor as pt

        return 2 * (pt.log(length) - low) / (high - low) - 1

    def gram(self, length: Any) -> Any:
        """G D Gᵀ (component, component) at a length-scale, a number or a graph."""
        return self.scale * self._at(self._unit(length))

    def trace(self, length: Any) -> Any:
        """trace(G D Gᵀ) at a length-scale, a number or a graph."""
        traces = np.einsum("kcc->k", self.coefficients)
        series = self._series(self._unit(length))
        return self.scale * sum(value * float(one) for value, one in zip(series, traces, strict=True))


def normals_of(problem: Problem) -> Array:
    """Normals (source, 3) that orientation is told by.

    Raises
    ------
    ValueError
        If the problem has fixed orientation, or its sources have no normals.
    """
    if problem.axes != 3:
        raise ValueError("the problem has fixed orientation: there are no tangential currents; build it with free ones")
    if problem.sources is None or problem.sources.normals is None:
        raise ValueError("tangential currents want the sources' normals, but this problem has none; give `sources`")
    return problem.sources.normals


def matern(problem: Problem) -> Matern:
    """Mesh matrices of the problem's cortex, made once.

    Raises
    ------
    ValueError
        If its sources have no surface.
    """
    if problem.sources is None:
        raise ValueError("a smooth prior wants sources with triangles, but this problem has no sources")
    key = ("matern",)
    if key not in problem.shared:
        problem.shared[key] = Matern.of(problem.sources)
    found: Matern = problem.shared[key]
    return found
