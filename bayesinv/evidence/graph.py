"""The log density along one number that shapes the structure, as an array or a PyTensor graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bayesinv.axes import Array
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.interpolation.chebyshev import Chebyshev, refined
from bayesinv.memory import PickledByFields, cached_property

TOLERANCE = 1e-6
"""Largest error, in nats, that interpolating the log-likelihood may have."""

SLACK = 1e-9
"""How far rounding may carry a structural number over its bounds."""


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
