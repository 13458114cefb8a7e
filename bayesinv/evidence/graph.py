"""The log density as a function of one structural hyperparameter, as an array or a PyTensor graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bayesinv.axes import Array
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.interpolation.chebyshev import Chebyshev, refined
from bayesinv.memory import PickledByFields, cached_property

LIKELIHOOD_TOLERANCE = 1e-6
"""Largest error, in nats, of the interpolated log-likelihood."""

BOUND_SLACK = 1e-9
"""Distance beyond its bounds at which a structural number is taken for rounded."""


class InterpolationError(ValueError):
    """The log-likelihood changes too fast along a structural number to be interpolated."""


@dataclass(frozen=True, eq=False)
class InterpolatedSpectrum(PickledByFields):
    """Spectra of a prior covariance D(x) at Chebyshev points x of one structural number, or just one spectrum.

    points : (node,), in [low, high], Chebyshev points of the second kind; one point where no structure is learned
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
        """Decompose at Chebyshev points until the log-likelihood between them is exact to `LIKELIHOOD_TOLERANCE`.

        Points of the second kind are nested, so a finer set reuses the decompositions of a coarser one.

        Raises
        ------
        InterpolationError
            If the largest number of points does not reach the tolerance.
        """

        def interpolated_by(series: Chebyshev, spectra: tuple[Spectrum, ...]) -> InterpolatedSpectrum:
            return cls(series.points, spectra, low, high)

        interpolated, error = refined(low, high, spectrum_at, interpolated_by, cls._error_at, LIKELIHOOD_TOLERANCE)
        if error > LIKELIHOOD_TOLERANCE:
            raise InterpolationError(
                f"the log-likelihood between {low:g} and {high:g} could not be interpolated to "
                f"{LIKELIHOOD_TOLERANCE:g} nats ({len(interpolated.points)} points leave {error:.1e}); "
                "fix the structural parameter or narrow its range"
            )
        return replace(interpolated, error=error)

    def _error_at(self, number: float, spectrum: Spectrum) -> float:
        """Largest error at a number whose spectrum is known, over signal-to-noise ratios up to the recording's.

        At each ratio, from 0.03, the noise has scale 1 and the scale that fits best. Errors are weighted by the
        likelihood relative to the largest: at scales that the recording rules out an error has no effect.
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
            error = np.abs(self.log_likelihood(variance, noise, np.full(len(ratio), number)) - exact)
            worst = max(worst, float(np.max(error * np.exp(exact - exact.max()))))
        return worst

    @property
    def learned(self) -> bool:
        """Whether the covariance depends on a structural number."""
        return len(self.spectra) > 1

    @property
    def mean_power(self) -> float:
        """Mean eigenvalue of G D Gᵀ, 1/(A m)²; the same for every structure."""
        return float(self.spectra[0].values.mean())

    @cached_property
    def series(self) -> Chebyshev:
        """The Chebyshev series through the points."""
        return Chebyshev(self.points, self.low, self.high)

    def cardinal(self, number: Array) -> Array:
        """Interpolation weights (number, node) of the values at the Chebyshev points."""
        if not self.learned:
            return np.ones((len(number), 1))
        return self.series.cardinal(number)

    def log_likelihood(self, variance: Array, noise: Array, number: Array | None = None) -> Array:
        """Log density (node,) of the recording; `number` (node,) is the structural number.

        Raises
        ------
        ValueError
            If a number lies outside [low, high].
        """
        if not self.learned or number is None:
            return self.spectra[0].log_likelihood(variance, noise)
        outside = (number < self.low - BOUND_SLACK) | (number > self.high + BOUND_SLACK)
        if outside.any():
            raise ValueError(
                f"the learned structural number reaches {number[outside][0]:.3g}, but must stay between {self.low:g} "
                f"and {self.high:g}; give it a prior within that range, such as "
                "pm.Uniform or pm.Beta"
            )
        table = np.stack([spectrum.log_likelihood(variance, noise) for spectrum in self.spectra], axis=1)
        common = table[:, :1]
        return np.asarray(common[:, 0] + np.einsum("nk,nk->n", self.cardinal(number), table - common))

    def graph(self, value: Any, variance: Any, noise: Any, number: Any = None) -> Any:
        """The log density as a PyTensor graph.

        value : the recording (component, time); with its noise white over time where modes of time are not learned

        One term per component where no structure is learned, the total otherwise.
        """
        import pytensor.tensor as pt

        spectra = self.spectra
        if not self.learned and spectra[0].modes is None:
            likelihood = spectra[0].likelihood
            power = pt.sum(pt.dot(spectra[0].to_components.T, value) ** 2, axis=1)
            total = variance * likelihood.eigenvalues + noise**2
            constant = likelihood.constant / len(likelihood.eigenvalues)
            return constant - 0.5 * (likelihood.count * pt.log(total) + power / total)
        size = len(spectra[0].values)
        count = value.shape[1] if spectra[0].modes is None else 1
        if spectra[0].modes is None:
            to_components = np.concatenate([one.to_components.T for one in spectra])
            coefficients = pt.dot(to_components, value).reshape((len(spectra), size, -1))
            powers = pt.sum(coefficients**2, axis=2, keepdims=True)
        else:
            powers = pt.stack([_mode_powers(one, value) for one in spectra])
        eigenvalues = np.stack([one.eigenvalues for one in spectra])
        total = variance * eigenvalues + noise**2
        constants = np.array([[one.likelihood.constant / size] for one in spectra])
        terms = constants - 0.5 * pt.sum(count * pt.log(total) + powers / total, axis=2)
        if not self.learned:
            return terms[0]
        table = pt.sum(terms, axis=1)
        cardinal = pt.dot(self.series.graph(number), self.series.transform)
        inside = pt.and_(number >= self.low - BOUND_SLACK, number <= self.high + BOUND_SLACK)
        return pt.switch(inside, table[0] + pt.dot(cardinal, table - table[0]), -np.inf)


def _mode_powers(spectrum: Spectrum, value: Any) -> Any:
    """Squared coefficients (component, mode) of a recording that is a graph."""
    import pytensor.tensor as pt

    assert spectrum.modes is not None
    parts = [
        pt.dot(pt.dot(one.to_components.T, value), spectrum.modes.to_modes[:, block])
        for one, block in zip(spectrum.decompositions, spectrum.blocks, strict=True)
    ]
    return pt.concatenate(parts, axis=1) ** 2
