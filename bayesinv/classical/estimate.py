"""A classical estimate: currents, λ, and how they fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.special import ndtri

from bayesinv.axes import Array
from bayesinv.classical.criteria import LAMBDA_CRITERIA, Curve, LambdaChoice, Scan
from bayesinv.classical.surface_axes import normals_of
from bayesinv.posterior.quantiles import credible_level
from bayesinv.problem.problem import Problem

SOURCES_PER_BLOCK = 4096
"""Sources whose rows of the estimator are computed at once."""


@dataclass(frozen=True, eq=False)
class Filter:
    """A linear estimator: from the whitened recording to a number, or a few, per source.

        estimate_k = weights_k Gain_kᵀ inverse recording

    Gain_k holds the gain columns of source k. Nothing of the size sources by components is kept.

    gain : (component, amplitude), the problem's
    weights : (amplitude,), or (source, row, axis) where a source's axes are mixed; for the minimum norm the source
        covariance, for others that over a normalisation
    inverse : (component, component), of the recording's covariance up to a factor, such as (G D Gᵀ + λ I)⁻¹
    """

    gain: Array = field(repr=False)
    weights: Array = field(repr=False)
    inverse: Array = field(repr=False)

    def _weighted(self, flat: Array, sources: slice) -> Array:
        """Apply the weights of some sources to amplitudes (amplitude, ...): the estimator's rows (row, ...)."""
        if self.weights.ndim == 1:
            return flat * self.weights[sources, None]
        table = flat.reshape(-1, self.weights.shape[2], flat.shape[1])
        return np.matmul(self.weights[sources], table).reshape(-1, flat.shape[1])

    def _columns(self, sources: slice) -> slice:
        axes = 1 if self.weights.ndim == 1 else self.weights.shape[2]
        return slice(sources.start * axes, sources.stop * axes)

    def blocks(self) -> Iterator[slice]:
        """Slices of sources (of amplitudes, where they are not mixed) to work on one after the other."""
        for start in range(0, len(self.weights), SOURCES_PER_BLOCK):
            yield slice(start, min(start + SOURCES_PER_BLOCK, len(self.weights)))

    def rows(self, sources: slice) -> Array:
        """The estimator's rows of some sources (of amplitudes, where they are not mixed): (row, component)."""
        return self._weighted(self.gain[:, self._columns(sources)].T @ self.inverse, sources)

    def kernel(self) -> Array:
        """The full estimator: (row, component)."""
        return np.concatenate([self.rows(block) for block in self.blocks()])

    def __call__(self, recording: Array) -> Array:
        """Estimate (row, time) from a whitened recording (component, time)."""
        projected = self.inverse @ recording
        parts = [self._weighted(self.gain[:, self._columns(block)].T @ projected, block) for block in self.blocks()]
        return np.concatenate(parts)


@dataclass(frozen=True, eq=False)
class Estimate:
    """A classical point estimate of the currents, with its λ, its fit and its linear operator.

    problem : what was inverted
    method : its name
    current : (source, [axis,] time); A m, or dimensionless where the method standardises it (see `unit`)
    unit : "A m" or ""
    lam : λ of x* = D Gᵀ (G D Gᵀ + λ I)⁻¹ y, 1/(A m)² where D has none; None where the method has no λ
    chosen : how λ was chosen: "given", "learned" with the weights, or the name of a choice
    scan : eigenvalues and powers that λ was chosen with; None where the method has no λ
    fitted : (component, time), whitened recording that the currents behind the estimate explain; None where the
        method fits nothing
    operator : the estimator, from whitened recording to the flat `current` (or to the vectors it pools)
    pooled : whether `current` is the length of the three components that the estimator gives
    """

    problem: Problem = field(repr=False)
    method: str
    current: Array = field(repr=False)
    unit: str
    lam: float | None
    chosen: str
    scan: Scan | None = field(repr=False)
    fitted: Array | None = field(repr=False)
    operator: Filter = field(repr=False)
    pooled: bool = False

    def __repr__(self) -> str:
        value = "" if self.lam is None else f" | lam = {self.lam:.4g} ({self.chosen})"
        return (
            f"<{self.method} estimate of {self.problem.source_count} sources ({self.problem.orientation}) x "
            f"{len(self.problem.times)} samples{value} | fit {self.goodness_of_fit:.3f}>"
        )

    @property
    def residual(self) -> Array:
        """Whitened recording that is left unexplained: (component, time).

        Raises
        ------
        ValueError
            If the method fits nothing.
        """
        if self.fitted is None:
            raise ValueError(f"{self.method} filters the recording and does not fit it, so there is no residual")
        return np.asarray(self.problem.recording - self.fitted)

    @property
    def goodness_of_fit(self) -> float:
        """Variance explained: share of the whitened recording's power; nan where the method fits nothing."""
        if self.fitted is None:
            return np.nan
        power = float(np.sum(self.problem.recording**2))
        return 1.0 - float(np.sum(self.residual**2)) / power if power else 0.0

    @property
    def strength(self) -> Array:
        """Magnitude of the estimate per source: (source, time)."""
        return np.linalg.norm(self.current, axis=1) if self.current.ndim == 3 else np.abs(self.current)

    @cached_property
    def noise(self) -> float:
        """Scale of the whitened noise that the estimate takes for known.

        Raises
        ------
        ValueError
            If the method has no λ.
        """
        return self._scan_and_lambda()[0].noise

    @cached_property
    def prior_variance(self) -> Array:
        """Variance of the currents that the estimate takes for known, noise² D / λ, (A m)²: (source, [axis]).

        Raises
        ------
        ValueError
            If the estimate is not in A m, the method has no λ, or a source's axes are mixed or pooled.
        """
        if self.unit != "A m" or self.lam is None:
            raise ValueError(
                f"{self.method} claims no uncertainty of the currents, as it gives none in A m for a known prior; "
                "MNE, eLORETA and champagne do, and so does every posterior"
            )
        if self.operator.weights.ndim != 1 or self.pooled:
            raise ValueError(
                "a standard deviation or interval is of the current along an axis of the gain; with free orientation "
                "it wants pick='vector', and no loose below 1"
            )
        flat = self.noise**2 / self.lam * self.operator.weights
        return np.asarray(flat if self.problem.axes == 1 else flat.reshape(-1, self.problem.axes))

    @cached_property
    def sd(self) -> Array:
        """Naive standard deviation of the currents, A m: (source, [axis]), the same at all times.

            sd² = diag (noise² / λ) (D - D Gᵀ (G D Gᵀ + λ I)⁻¹ G D)

        It takes variances and noise for known; what it leaves out is that they were guessed, chosen or maximised.

        Raises
        ------
        ValueError
            As `prior_variance`.
        """
        variance = self.prior_variance.ravel()
        assert self.lam is not None
        explained = np.concatenate(
            [
                np.einsum("rc,cr->r", self.operator.rows(block), self.problem.gain[:, block])
                for block in self.operator.blocks()
            ]
        )
        return np.asarray(np.sqrt(variance * np.clip(1 - explained, 0.0, 1.0)).reshape(self.prior_variance.shape))

    def interval(self, level: float = 0.9) -> tuple[Array, Array]:
        """Return the naive central interval of the currents, A m: low and high (source, [axis,] time).

        It is that of the Gaussian with the estimate for its mean and `sd` for its standard deviation.

        Raises
        ------
        ValueError
            If the level lies outside (0, 1), or as `prior_variance`.
        """
        half = ndtri((1 + credible_level(level)) / 2) * self.sd[..., None]
        return self.current - half, self.current + half

    def _scan_and_lambda(self) -> tuple[Scan, float]:
        if self.scan is None or self.lam is None:
            raise ValueError(f"{self.method} has no lam, so there is no curve along it")
        return self.scan, self.lam

    @property
    def degrees_of_freedom(self) -> float:
        """Effective number of components fitted: Σ s/(s + λ)."""
        scan, lam = self._scan_and_lambda()
        return float(np.sum(scan.values / (scan.values + lam)))

    @property
    def snr(self) -> float:
        """Amplitude signal-to-noise ratio that λ assumes: sqrt(mean eigenvalue / λ)."""
        scan, lam = self._scan_and_lambda()
        return float(np.sqrt(scan.values.mean() / lam))

    @cached_property
    def curve(self) -> Curve:
        """The L-curve and cross-validation function of this recording and prior."""
        return self._scan_of_sources()._grid

    @cached_property
    def choices(self) -> Mapping[str, LambdaChoice]:
        """λ of every criterion on this recording, with its note."""
        scan = self._scan_of_sources()
        return {name: scan.choose(name) for name in LAMBDA_CRITERIA}

    def _scan_of_sources(self) -> Scan:
        scan, _ = self._scan_and_lambda()
        if not scan.values.any():
            raise ValueError(f"{self.method} gives no source a variance, so there is no curve along lam")
        return scan


def estimate_of(
    problem: Problem,
    method: str,
    weights: Array,
    inverse: Array,
    unit: str,
    lam: float | None,
    chosen: str,
    scan: Scan | None,
    fitted: Array | None,
    pick: str,
    rows: int,
) -> Estimate:
    """Return the estimate of a filter, for the component of the currents that `pick` names (see `baseline`)."""
    if rows == 3 and pick == "normal":
        normals = normals_of(problem, "pick 'normal' wants")
        to_normal = normals[:, None, :]
        weights = weights.reshape(-1, 1, 3) * to_normal if weights.ndim == 1 else np.matmul(to_normal, weights)
        rows = 1
    operator = Filter(problem.gain, weights, inverse)
    flat = operator(problem.recording)
    pooled = rows == 3 and pick == "pooled"
    current = flat if rows == 1 else flat.reshape(-1, 3, flat.shape[1])
    if pooled:
        current = np.linalg.norm(current, axis=1)
    return Estimate(problem, method, current, unit, lam, chosen, scan, fitted, operator, pooled)
