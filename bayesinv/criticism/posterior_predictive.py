"""Posterior predictive checks: replicated recordings beside the one that was recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.stats import chi2

from bayesinv.axes import Array, one_of
from bayesinv.criticism.densities import each_spectrum, left_out
from bayesinv.criticism.draws import drawn
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.posterior.posterior import Posterior
from bayesinv.posterior.quantiles import tail_probabilities
from bayesinv.problem.problem import Problem
from bayesinv.problem.windows import samples_of

RESIDUAL_DRAWS = 50
"""Draws of the hyperparameters that residuals are averaged over: residuals hardly depend on them."""


@dataclass(frozen=True, eq=False)
class PosteriorPredictive:
    """Recordings replicated from the posterior, beside the one that was recorded.

    problem, model : of the posterior
    currents : "inferred" or "new", see `posterior_predictive`
    replicated : (draw, component, time), whitened recordings
    names : of the sensors, or of the components where sensors are not known
    residual : (name,), root mean square of a sensor's standardised residual given all other sensors; 1 is expected
    p_values : (name,), probability of a larger residual than that: near 0 where the other sensors do not
        explain this one, near 1 where its residual is smaller than the noise allows
    recorded_quantity, replicated_quantity : of the test quantity, () and (draw,); None where none was given
    """

    problem: Problem = field(repr=False)
    model: str
    currents: str
    replicated: Array = field(repr=False)
    names: tuple[str, ...] = field(repr=False)
    residual: Array = field(repr=False)
    p_values: Array = field(repr=False)
    recorded_quantity: float | None = None
    replicated_quantity: Array | None = field(default=None, repr=False)

    @property
    def p_value(self) -> float:
        """Posterior predictive p-value of the test quantity: probability that a replicate's is at least as large.

        The recording counts as one of the replicates, so that it is never 0.

        Raises
        ------
        ValueError
            If no quantity was given.
        """
        if self.replicated_quantity is None or self.recorded_quantity is None:
            raise ValueError("there is no test quantity; give posterior_predictive(..., quantity=function)")
        larger = np.sum(self.replicated_quantity >= self.recorded_quantity)
        return float((1 + larger) / (1 + len(self.replicated_quantity)))

    @cached_property
    def gfp(self) -> Array:
        """Global field power of the replicates, whitened: (draw, time)."""
        return np.asarray(np.sqrt(np.mean(self.replicated**2, axis=1)))

    @property
    def recorded_gfp(self) -> Array:
        """Global field power of the recording, whitened: (time,)."""
        return np.asarray(np.sqrt(np.mean(self.problem.recording**2, axis=0)))

    def band(self, level: float = 0.9) -> tuple[Array, Array]:
        """Central interval of the replicates' global field power: lower and upper, (time,)."""
        low, high = np.quantile(self.gfp, tail_probabilities(level), axis=0)
        return low, high

    def topography(self, time: float | None = None) -> tuple[Array, Array, Array]:
        """Return the recording at one time, and the replicates' mean and standard deviation, in the sensors' SI units.

        time : s; None takes the sample at which the recording is strongest

        Returns three arrays (sensor,), within the range of the noise covariance.

        Raises
        ------
        ValueError
            If the problem has no whitener, or the time lies outside the recording.
        """
        unwhitener = self.problem.unwhitener
        if unwhitener is None:
            raise ValueError(
                "there is no topography of whitened components: the problem has no whitener; give it noise_cov"
            )
        sample = self.sample(time)
        at_sensors = self.replicated[:, :, sample] @ unwhitener.T
        return unwhitener @ self.problem.recording[:, sample], at_sensors.mean(axis=0), at_sensors.std(axis=0)

    def sample(self, time: float | None) -> int:
        """Index of the sample at a time in s; None takes the one at which the recording is strongest.

        Raises
        ------
        ValueError
            If no sample is near that time.
        """
        return int(np.argmax(self.recorded_gfp)) if time is None else samples_of(self.problem.times, time).start


def posterior_predictive(
    posterior: Posterior,
    draws: int = 100,
    rng: np.random.Generator | None = None,
    quantity: Callable[[Array], float] | None = None,
    currents: str = "inferred",
) -> PosteriorPredictive:
    """Draw whitened recordings from the posterior predictive distribution, and compare the recording with them.

    draws : number of replicated recordings
    rng : default_rng(0) if None
    quantity : test quantity, a function of a whitened recording (component, time) that returns a number
    currents : "inferred" adds new noise to the field of currents drawn from their posterior, which asks whether the
        fit is as good as the noise allows; "new" draws currents from their prior at the posterior's hyperparameters,
        which asks whether the prior makes recordings like this one

    Raises
    ------
    ValueError
        If a number is out of range, the quantity gives no finite number, or the draws would not fit into 16 GB.

    Reference: Gelman, Meng & Stern (1996), Stat. Sin. 6, 733-807.
    """
    one_of("kind of currents", currents, ("inferred", "new"))
    if draws < 1:
        raise ValueError(f"draws is {draws}, but at least one is wanted")
    problem = posterior.problem
    size = draws * problem.recording.size * 8 / 1e9
    if size > 16:
        raise ValueError(f"{draws} recordings take {size:.0f} GB; draw fewer")
    rng = np.random.default_rng(0) if rng is None else rng
    scales = drawn(posterior, draws)
    scales = scales.picked(np.resize(np.arange(len(scales.noise)), draws))
    replicated = np.empty((draws, *problem.recording.shape))
    for n, spectrum in each_spectrum(posterior, scales):
        replicated[n] = _replicate(spectrum, scales.variance[n], scales.noise[n], currents == "new", rng)
    names = tuple(f"component {i}" for i in range(problem.components))
    if problem.whitener is not None:
        names = tuple(f"sensor {i}" for i in range(problem.whitener.shape[1]))
        names = names if problem.sensors is None else tuple(problem.sensors.names)
    power, p_values = np.zeros(len(names)), np.zeros(len(names))
    subset = drawn(posterior, min(draws, RESIDUAL_DRAWS))
    for n, spectrum in each_spectrum(posterior, subset):
        residual, precision = left_out(spectrum, subset.variance[n], subset.noise[n], problem.whitener)
        square = np.sum(np.divide(residual**2, precision, out=np.ones_like(residual), where=precision > 0), axis=1)
        power += square / len(subset.noise)
        p_values += chi2.sf(square, residual.shape[1]) / len(subset.noise)
    recorded_quantity, replicated_quantity = None, None
    if quantity is not None:
        recorded_quantity, replicated_quantity = (
            _test_quantity(quantity, problem.recording),
            np.array([_test_quantity(quantity, r) for r in replicated]),
        )
    return PosteriorPredictive(
        problem,
        posterior.model,
        currents,
        replicated,
        names,
        np.sqrt(power / len(problem.times)),
        p_values,
        recorded_quantity,
        replicated_quantity,
    )


def _test_quantity(quantity: Callable[[Array], float], recording: Array) -> float:
    """Return the test quantity of a recording; raise unless it is a finite number."""
    value = np.asarray(quantity(recording))
    if value.ndim or not np.isfinite(value):
        raise ValueError(f"quantity gave {value!r} for a recording (component, time), but must give a finite number")
    return float(value)


def _replicate(spectrum: Spectrum, variance: float, noise: float, new: bool, rng: np.random.Generator) -> Array:
    """Draw a whitened recording (component, time) of inferred or new currents with new noise."""
    signal, modes, whitening = variance * spectrum.eigenvalues, spectrum.modes, spectrum.problem.time_whitening
    total = signal + noise**2
    unit = rng.standard_normal(spectrum.coefficients.shape)
    mean = np.zeros_like(unit) if new else signal / total * spectrum.coefficients
    spread = np.sqrt(total) if new else noise * np.sqrt(signal / total + 1)
    if modes is not None:
        return np.asarray(spectrum.from_components @ spectrum.stacked(mean + spread * unit, modes.from_modes.T))
    replicate = spectrum.from_components @ (spread * unit)
    replicate = replicate if whitening is None else whitening.coloured(replicate)
    return np.asarray(spectrum.from_components @ mean + replicate)
