"""Posterior predictive checks: replicated recordings beside the one that was recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from scipy.stats import chi2

from bayesinv.arguments import Randomness, count_of, generator_of
from bayesinv.axes import Array, Index, one_of
from bayesinv.criticism.densities import each_spectrum, left_out
from bayesinv.criticism.draws import drawn
from bayesinv.criticism.focal_replicates import focal_draws, focal_left_out, inferred_field, new_field
from bayesinv.criticism.quantities import (
    QUANTITIES,
    Quantity,
    of_recording,
    of_residual,
    sensor_groups,
    white_baseline,
    white_residual,
)
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.posterior.posterior import Posterior
from bayesinv.posterior.quantiles import tail_probabilities
from bayesinv.problem.left_out import sensor_names
from bayesinv.problem.problem import Problem
from bayesinv.problem.windows import samples_of
from bayesinv.wording import aligned, three_digits

QUANTITY_HEADS = ("test quantity", "recorded", "replicated", "90 % of replicates", "p")

CONSERVATIVE = (
    "p is the probability that a replicate's is at least as large. The model was fitted to this recording, so that p "
    "is closer to 1/2 than a uniform number even if the model holds: an extreme p tells, one in the middle does not."
)
"""What is to be known of the p-values."""

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
    quantities : the test quantities of `bayesinv.criticism.quantities`, of MEG and EEG apart where both are there
    own : the test quantity that was given, named "quantity"; None where none was
    """

    problem: Problem = field(repr=False)
    model: str
    currents: str
    replicated: Array = field(repr=False)
    names: tuple[str, ...] = field(repr=False)
    residual: Array = field(repr=False)
    p_values: Array = field(repr=False)
    quantities: tuple[Quantity, ...] = field(repr=False)
    own: Quantity | None = field(default=None, repr=False)

    @property
    def p_value(self) -> float:
        """Posterior predictive p-value of the test quantity that was given.

        Raises
        ------
        ValueError
            If no quantity was given.
        """
        if self.own is None:
            raise ValueError(
                "no test quantity was given; give posterior_predictive(..., quantity=function), or take one of "
                f"`quantities`: {', '.join(one.title for one in self.quantities)}"
            )
        return self.own.p_value

    def __getitem__(self, title: str) -> Quantity:
        for one in self.every:
            if one.title == title:
                return one
        raise KeyError(f"no test quantity {title!r}; there are {', '.join(one.title for one in self.every)}")

    @property
    def every(self) -> tuple[Quantity, ...]:
        """The test quantities, and the one that was given."""
        return self.quantities if self.own is None else (*self.quantities, self.own)

    @property
    def extreme(self) -> tuple[Quantity, ...]:
        """Test quantities of which hardly any replicate's is as large, or as small."""
        return tuple(one for one in self.every if one.extreme)

    @property
    def verdict(self) -> str:
        """Which test quantities are extreme, in words."""
        if not self.extreme:
            return "no test quantity is extreme"
        return f"extreme, as the model does not make them: {', '.join(one.title for one in self.extreme)}"

    def cells(self) -> list[tuple[str, ...]]:
        """The test quantities as text, a tuple per row in the order of `QUANTITY_HEADS`."""
        return [
            (
                one.title,
                three_digits(float(np.median(one.recorded))),
                three_digits(float(np.median(one.replicated))),
                " to ".join(map(three_digits, one.interval())),
                f"{one.p_value:.2g}",
            )
            for one in self.every
        ]

    def __str__(self) -> str:
        return f"{aligned([QUANTITY_HEADS, *self.cells()])}\n{self.verdict}\n{CONSERVATIVE}"

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
    rng: Randomness = None,
    quantity: Callable[[Array], float] | None = None,
    currents: str = "inferred",
) -> PosteriorPredictive:
    """Draw whitened recordings from the posterior predictive distribution, and compare the recording with them.

    Standard test quantities (`bayesinv.criticism.quantities`) get a posterior predictive p-value each. They are
    conservative: closer to 1/2 than uniform where the model holds.

    draws : number of replicated recordings
    rng : a generator or a seed, 0 if None
    quantity : a test quantity of your own, a function of a whitened recording (component, time) that returns a number
    currents : "inferred" adds new noise to the field of currents drawn from their posterior, which asks whether the
        fit is as good as the noise allows; "new" draws currents from their prior at the posterior's hyperparameters,
        which asks whether the prior makes recordings like this one. What is left of the recording, and the baseline,
        are judged by inferred currents in either case

    Raises
    ------
    ValueError
        If a number is out of range, the quantity gives no finite number, the draws would not fit into 16 GB, or models
        with and without focal sources were averaged.

    Reference: Gelman, Meng & Stern (1996), Stat. Sin. 6, 733-807.
    """
    one_of("kind of currents", currents, ("inferred", "new"))
    draws = count_of("draws", draws)
    problem = posterior.problem
    size = draws * problem.recording.size * 8 / 1e9
    if size > 16:
        raise ValueError(f"{draws} recordings take {size:.0f} GB; draw fewer")
    rng = generator_of(rng)
    replicated, found = np.empty((draws, *problem.recording.shape)), _Found.of(problem, draws)
    each = _dense_draws if posterior.active is None else _focal_draws
    for n, spectrum, noise, seen, replicate in each(posterior, draws, currents, rng):
        replicated[n] = replicate
        found.add(n, spectrum, noise, seen, replicate, rng)
    names, power, p_values = _residuals(posterior, min(draws, RESIDUAL_DRAWS))
    own = None
    if quantity is not None:
        recorded = np.full(draws, _test_quantity(quantity, problem.recording))
        own = Quantity("quantity", "", recorded, np.array([_test_quantity(quantity, one) for one in replicated]))
    return PosteriorPredictive(
        problem, posterior.model, currents, replicated, names, power, p_values, found.quantities, own
    )


Draw = tuple[int, Spectrum, float, Array, Array]
"""Number, spectrum of the dense currents, noise scale, field of inferred currents, replicated recording."""


def _dense_draws(posterior: Posterior, draws: int, currents: str, rng: np.random.Generator) -> Iterator[Draw]:
    scales = drawn(posterior, draws)
    scales = scales.picked(np.resize(np.arange(len(scales.noise)), draws))
    for n, spectrum in each_spectrum(posterior, scales):
        variance, noise = float(scales.variance[n]), float(scales.noise[n])
        seen, new_noise = _inferred(spectrum, variance, noise, rng)
        field = seen if currents == "inferred" else _new_field(spectrum, variance, rng)
        yield n, spectrum, noise, seen, new_noise + field


def _focal_draws(posterior: Posterior, draws: int, currents: str, rng: np.random.Generator) -> Iterator[Draw]:
    for n, (gaussians, node) in enumerate(focal_draws(posterior, draws)):
        seen = inferred_field(gaussians, node, rng)
        field = seen if currents == "inferred" else new_field(gaussians, node, rng)
        unit = rng.standard_normal(seen.shape)
        yield n, gaussians.spectrum, node.noise, seen, field + _back(gaussians.spectrum, node.noise * unit)


def _residuals(posterior: Posterior, count: int) -> tuple[tuple[str, ...], Array, Array]:
    """Names of sensors, root mean squares of their residuals given all others, and their p-values: (name,)."""
    problem = posterior.problem
    names = tuple(sensor_names(problem))
    power, p_values = np.zeros(len(names)), np.zeros(len(names))
    each, number = _dense_left_out if posterior.active is None else _focal_left_out, 0
    for residual, precision, outside, freedom in each(posterior, count):
        number += 1
        ratio = np.divide(residual**2, precision, out=np.ones_like(residual), where=precision > 0)
        square = np.sum(ratio, axis=1) + outside
        power += square
        p_values += chi2.sf(square, freedom)
    return names, np.sqrt(power / (number * len(problem.times))), p_values / number


LeftOut = tuple[Array, Array, Array | float, int]
"""Residuals and precisions of sensors given all others, squares of what they do not tell, and how many all are."""


def _dense_left_out(posterior: Posterior, count: int) -> Iterator[LeftOut]:
    scales = drawn(posterior, count)
    for n, spectrum in each_spectrum(posterior, scales):
        residual, precision = left_out(spectrum, scales.variance[n], scales.noise[n], posterior.problem.whitener)
        yield residual, precision, 0.0, residual.shape[1]


def _focal_left_out(posterior: Posterior, count: int) -> Iterator[LeftOut]:
    for gaussians, node in focal_draws(posterior, count):
        yield (*focal_left_out(gaussians, node, posterior.problem.whitener), len(posterior.times))


@dataclass(frozen=True, eq=False)
class _Found:
    """Test quantities by name and group of sensors, draw by draw.

    groups : components of each
    recorded, replicated : (draw,) by name of the quantity and of the group
    """

    problem: Problem
    draws: int
    groups: dict[str, Index]
    fixed: dict[str, dict[str, float]]
    recorded: dict[tuple[str, str], Array]
    replicated: dict[tuple[str, str], Array]

    @classmethod
    def of(cls, problem: Problem, draws: int) -> _Found:
        """Nothing is found yet but the quantities of the recording itself."""
        groups = sensor_groups(problem)
        return cls(
            problem, draws, groups, {g: of_recording(problem.recording[rows]) for g, rows in groups.items()}, {}, {}
        )

    def add(
        self, draw: int, spectrum: Spectrum, noise: float, seen: Array, replicate: Array, rng: np.random.Generator
    ) -> None:
        """Note the quantities of a draw: of what the field that is seen leaves, and of a replicated recording."""
        left = white_residual(spectrum, self.problem.recording - seen, noise)
        white = rng.standard_normal(left.shape)
        quiet = white_baseline(spectrum, noise)
        for group, rows in self.groups.items():
            recorded = self.fixed[group] | of_residual(left[rows])
            replicated = of_recording(replicate[rows]) | of_residual(white[rows])
            if quiet is not None:
                recorded["baseline power"] = float(np.mean(quiet[rows] ** 2))
                replicated["baseline power"] = float(rng.chisquare(quiet[rows].size) / quiet[rows].size)
            for table, values in ((self.recorded, recorded), (self.replicated, replicated)):
                for name, value in values.items():
                    table.setdefault((name, group), np.empty(self.draws))[draw] = value

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """All of them, in the order of `QUANTITIES`."""
        return tuple(
            Quantity(name, group, self.recorded[name, group], self.replicated[name, group])
            for name in QUANTITIES
            for group in self.groups
            if (name, group) in self.recorded
        )


def _test_quantity(quantity: Callable[[Array], float], recording: Array) -> float:
    """Return the test quantity of a recording; raise unless it is a finite number."""
    value = np.asarray(quantity(recording))
    if value.ndim or not np.isfinite(value):
        raise ValueError(f"quantity gave {value!r} for a recording (component, time), but must give a finite number")
    return float(value)


def _inferred(spectrum: Spectrum, variance: float, noise: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """Draw the field of currents given the recording, and new noise: both whitened, (component, time)."""
    signal = variance * spectrum.eigenvalues
    total = signal + noise**2
    mean = signal / total * spectrum.coefficients
    spread = noise * np.sqrt(signal / total)
    unit = rng.standard_normal((2, *spectrum.coefficients.shape))
    if spectrum.modes is not None:
        return _back(spectrum, mean + spread * unit[0]), _back(spectrum, noise * unit[1])
    # Filtering the samples one by one keeps the colour that the recording has.
    fit = np.asarray(spectrum.from_components @ mean)
    return fit + _back(spectrum, spread * unit[0]), _back(spectrum, noise * unit[1])


def _new_field(spectrum: Spectrum, variance: float, rng: np.random.Generator) -> Array:
    """Draw the whitened field (component, time) of currents from their prior."""
    unit = rng.standard_normal(spectrum.coefficients.shape)
    return _back(spectrum, np.sqrt(variance * spectrum.eigenvalues) * unit)


def _back(spectrum: Spectrum, coefficients: Array) -> Array:
    """A whitened recording (component, time), coloured as it is, from independent coefficients."""
    whitening = spectrum.problem.time_whitening
    if spectrum.modes is not None:
        return np.asarray(spectrum.from_components @ spectrum.stacked(coefficients, spectrum.modes.from_modes.T))
    table = np.asarray(spectrum.from_components @ coefficients)
    return table if whitening is None else whitening.coloured(table)
