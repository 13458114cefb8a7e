"""Predictive: what a model believes before the recording, and of parts of it that are left out, as draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import chi2

from bayesinv.axes import Array, Index, one_of, same_axes
from bayesinv.covariance.covariance import Structure
from bayesinv.evidence.gaussian import LOG_2PI
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.inference.assemble import flattened
from bayesinv.posterior.mixture import Mixture
from bayesinv.posterior.posterior import Posterior
from bayesinv.posterior.quantiles import tail_probabilities
from bayesinv.prior.catalogue import build
from bayesinv.prior.density import Density
from bayesinv.prior.samples import draw_noise, draw_recording
from bayesinv.problem.problem import Problem
from bayesinv.problem.windows import samples_of

if TYPE_CHECKING:
    import pymc as pm

Model = Any
"""What `infer` takes: a name, the path of a file, a function of a problem, or a `pm.Model`."""


@dataclass(frozen=True, eq=False)
class Prior:
    """Draws from the prior of a model on a problem's gain.

    problem : its gain, times and the size of its baseline are what is drawn for; its recording plays no part
    model : name of the prior
    hyper : name to (draw,), on their own scale, with "lambda" and "snr"; named as in `Posterior.hyper`
    free : the names in `hyper` that the model has a prior for, in its order
    variance : (draw,), (A m)²
    noise : (draw,), scale of the whitened noise
    structures : relative covariances, one per draw
    """

    problem: Problem
    model: str
    hyper: dict[str, Array]
    free: tuple[str, ...]
    variance: Array
    noise: Array
    structures: tuple[Structure, ...]

    def __post_init__(self) -> None:
        same_axes(variance=(self.variance, "draw"), noise=(self.noise, "draw"))
        if len(self.structures) != len(self.noise):
            raise ValueError(f"structures has draw = {len(self.structures)}, but noise has draw = {len(self.noise)}")

    def __len__(self) -> int:
        return len(self.noise)

    @classmethod
    def of(
        cls,
        model: str | PathLike[str] | pm.Model | Callable[[Problem], pm.Model],
        problem: Problem,
        count: int = 1000,
        rng: np.random.Generator | None = None,
    ) -> Prior:
        """Draw hyperparameters, and what they make of scales and structure.

        model : as in `infer`
        count : number of draws
        rng : default_rng(0) if None

        Raises
        ------
        ValueError
            If the count is not positive, the model does not exist or does not fit the problem, or a draw is not
            finite or leaves the range that a structure allows.
        """
        import pymc as pm

        if count < 1:
            raise ValueError(f"count is {count}, but at least one draw is wanted")
        rng = np.random.default_rng(0) if rng is None else rng
        name, built = build(model, problem)
        density = Density.of(built)
        nodes, free = np.zeros((count, 0)), {}
        if built.free_RVs:
            # Seldom drawn and small: what compiling takes would never come back.
            drawn = pm.draw(built.free_RVs, draws=count, random_seed=int(rng.integers(2**31)), mode="FAST_COMPILE")
            values = [np.asarray(one, dtype=float).reshape(count, *np.shape(one)[count > 1 :]) for one in drawn]
            free = {variable.name: value for variable, value in zip(built.free_RVs, values, strict=True)}
            nodes = density.unconstrained(values)
        variance, noise = density.scales(nodes)
        wrong = ~(np.isfinite(variance) & np.isfinite(noise) & (variance > 0) & (noise > 0))
        if wrong.any():
            k = int(np.argmax(wrong))
            raise ValueError(
                f"the prior of model {name!r} draws a source variance of {variance[k]:.3g} with a noise scale of "
                f"{noise[k]:.3g}; both must be positive and finite, so its priors are too wide"
            )
        places, which = density.structural_nodes(nodes)
        every = density.structures(places)
        hyper = flattened({**density.hyper(nodes), **free})
        return cls(problem, name, hyper, tuple(flattened(free)), variance, noise, tuple(every[i] for i in which))

    def truth(self, draw: int, rng: np.random.Generator) -> tuple[Array, Problem]:
        """Draw currents (amplitude, time) in A m, and the problem of a recording and baseline that they make.

            current ~ Normal(0, variance D)     recording = G current + sqrt(variance) error A u + noise L e

        with courses of u and of the currents that are correlated over time where the structure says so, L Lᵀ = N,
        and u and e standard normal. Everything has the hyperparameters of one draw.

        Raises
        ------
        IndexError
            If there is no such draw.
        """
        problem, structure = self.problem, self.structures[draw]
        variance, noise = float(self.variance[draw]), float(self.noise[draw])
        current, field = draw_recording(problem, structure, variance, noise, rng)
        baseline = None
        if problem.baseline is not None:
            baseline = draw_noise(problem, structure, noise, problem.baseline.shape[1], rng)
            if problem.baseline_centred:
                baseline -= baseline.mean(axis=1, keepdims=True)
        return current, problem.again(field, baseline=baseline, baseline_centred=problem.baseline_centred)


# --- what a prior implies before the recording

TAILS = (0.05, 0.5, 0.95)
"""Probabilities at which tables of what is implied are read."""

IMPLIED = {
    "snr": ("signal-to-noise ratio (amplitude)", "", 1.0),
    "lambda": ("λ", "1/(nA·m)²", 1e-18),
    "explained": ("share of power that is signal", "%", 100.0),
    "current": ("sd of the median source", "nA·m", 1e9),
    "large": ("sd that 10 % of sources exceed", "nA·m", 1e9),
    "field": ("whitened field power (RMS)", "noise = 1", 1.0),
}
"""What a prior implies, by name: in words, the unit people read, and how many of it the SI unit has."""

PRIOR_HEADS = ("what the prior implies", "5 %", "median", "95 %", "unit")


@dataclass(frozen=True, eq=False)
class PriorPredictive:
    """What the prior of a model implies before the recording.

    prior : the draws it is read from
    implied : name in `IMPLIED` to (draw,), SI units:
        snr, lambda : as in `Posterior.hyper`
        explained : signal's share of the whitened recording's expected power
        current, large : A m, standard deviation of the median source, and that which one in ten sources exceeds; of
            the three axes' root of the summed variances with free orientation
        field : root mean square of the whitened recording over components and samples; the covariance says 1 for noise
    """

    prior: Prior
    implied: dict[str, Array]

    def __getitem__(self, name: str) -> Array:
        return self.implied[one_of("quantity", name, self.implied)]

    def cells(self) -> list[tuple[str, ...]]:
        """The table as text, a tuple per row in the order of `PRIOR_HEADS`."""
        return [
            (words, *(f"{factor * value:.3g}" for value in np.quantile(self.implied[name], TAILS)), unit)
            for name, (words, unit, factor) in IMPLIED.items()
        ]

    def table(self) -> str:
        """Quantiles of everything that is implied, as text."""
        return aligned([PRIOR_HEADS, *self.cells()])

    def __str__(self) -> str:
        return f"{self.prior.model}, {len(self.prior)} draws\n{self.table()}"


def prior_predictive(
    model: str | PathLike[str] | pm.Model | Callable[[Problem], pm.Model],
    problem: Problem,
    draws: int = 1000,
    rng: np.random.Generator | None = None,
) -> PriorPredictive:
    """Say what the hyperpriors of a model imply for recordings and currents, without looking at the recording.

    model : as in `infer`
    problem : its gain and noise are used
    draws : from the prior
    rng : default_rng(0) if None

    Raises
    ------
    ValueError
        As `Prior.of`.

    Reference: Gabry et al. (2019), J. R. Stat. Soc. A 182, 389-402 (why to look before).
    """
    prior = Prior.of(model, problem, draws, rng)
    known: dict[Any, tuple[float, float, float, float]] = {}
    each = []
    for structure in prior.structures:
        if structure.key not in known:
            known[structure.key] = _per_unit(problem, structure)
        each.append(known[structure.key])
    median, large, signal, noise_power = np.array(each).T
    scale = np.sqrt(prior.variance)
    signal, noise_power = prior.variance * signal, prior.noise**2 * noise_power
    implied = {
        "snr": prior.hyper["snr"],
        "lambda": prior.hyper["lambda"],
        "explained": signal / (signal + noise_power),
        "current": scale * median,
        "large": scale * large,
        "field": np.sqrt(signal + noise_power),
    }
    return PriorPredictive(prior, implied)


def _per_unit(problem: Problem, structure: Structure) -> tuple[float, float, float, float]:
    """Of currents of variance 1 and noise of scale 1: two quantiles of sources' sds, and both powers per component."""
    diagonal = structure.diagonal(problem)
    sds = np.sqrt(diagonal.reshape(-1, problem.axes).sum(axis=1))
    signal = float(diagonal @ problem.gain_powers if structure.diagonal_only else np.trace(structure.gram(problem)))
    if structure.error and problem.error_factor is not None:
        signal += structure.error**2 * float(np.sum(problem.error_factor**2))
    noise = structure.noise_covariance(problem)
    noise_power = 1.0 if noise is None else float(np.trace(noise)) / problem.components
    return float(np.median(sds)), float(np.quantile(sds, 0.9)), signal / problem.components, noise_power


def aligned(table: Sequence[Sequence[str]]) -> str:
    """Rows of words as lines in which columns stand below each other."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in table]
    return "\n".join(line.rstrip() for line in lines)


# --- what a posterior says of parts of the recording that it does not see


def drawn(posterior: Posterior, count: int) -> Mixture:
    """Equally weighted hyperparameters of a posterior, at most `count`: its draws where their scales are known.

    Chains stay one after the other and equally long. A learned structure is that of the mixture's nearest node.
    """
    scales, mixture = posterior.hyper.scales, posterior.mixture
    if scales is not None:
        return scales.picked(thinned(len(scales.noise), posterior.hyper.chains, count))
    return mixture.resampled(count if len(mixture.weights) > 1 else 1)


def thinned(length: int, chains: int, count: int) -> Index:
    """At most `count` draws out of chains that come one after the other, as many from each and evenly spread."""
    each = length // chains
    within = np.linspace(0, each - 1, max(1, min(count // chains, each))).astype(np.int64)
    return np.asarray((each * np.arange(chains)[:, None] + within).ravel())


def left_out(spectrum: Spectrum, variance: float, noise: float, along: Array | None = None) -> tuple[Array, Array]:
    """What the rest of the recording leaves open of a component, or along a direction, at given hyperparameters.

        q_i = a_iᵀ C⁻¹ a_i,   r_it = a_iᵀ C⁻¹ y_t,   C = variance G D Gᵀ + noise² N

    Without directions, y_it given all other components is normal with precision q_i, and r_it / q_i is how far it is
    from its mean. Along a_i, r_it / sqrt(q_i) is the standard normal statistic of whether something was added there.

    along : (component, direction); None takes the components themselves

    Returns residuals r (direction, time) and precisions q (direction, 1); where courses are correlated over time,
    in their independent modes, (direction, mode) both, and a component is left out with its whole course.

    References: Sundararajan & Keerthi (2001), Neural Comput. 13, 1103-1118; Cook & Weisberg (1982), Residuals and
    Influence in Regression, §2.2 (the mean shift).
    """
    inward = spectrum.to_components if along is None else along.T @ spectrum.to_components
    total = (variance * spectrum.likelihood.eigenvalues + noise**2).reshape(len(spectrum.values), -1)
    return inward @ (spectrum.coefficients / total), inward**2 @ (1 / total)


def component_densities(posterior: Posterior, count: int) -> Array:
    """Log density of each component's course given all others', at equally weighted hyperparameters.

    Returns (draw, component).
    """
    scales = drawn(posterior, count)
    out = np.empty((len(scales.noise), posterior.problem.components))
    for n, spectrum in _each(posterior, scales):
        residual, precision = left_out(spectrum, scales.variance[n], scales.noise[n])
        logs = np.log(precision) - LOG_2PI
        out[n] = 0.5 * np.sum(logs - residual**2 / precision, axis=1)
    return out


def block_densities(posterior: Posterior, count: int, blocks: Sequence[slice]) -> Array:
    """Log density of each block of samples given all other samples, at equally weighted hyperparameters.

    Samples that are independent given the hyperparameters know nothing of each other; where courses are correlated
    over time a block is conditioned on what lies before and behind.

    Returns (draw, block).

    Reference: Bürkner, Gabry & Vehtari (2021), Comput. Stat. 36, 1243-1261.
    """
    scales = drawn(posterior, count)
    sizes = np.array([block.stop - block.start for block in blocks])
    out = np.empty((len(scales.noise), len(blocks)))
    for n, spectrum in _each(posterior, scales):
        total = scales.variance[n] * spectrum.likelihood.eigenvalues + scales.noise[n] ** 2
        constant = len(spectrum.values) * LOG_2PI + spectrum.decomposition.log_volume
        if spectrum.modes is None:
            power = np.add.reduceat(spectrum.coefficients**2, [block.start for block in blocks], axis=1)
            out[n] = -0.5 * ((1 / total) @ power + sizes * (np.log(total).sum() + constant))
            continue
        modes, inverse = spectrum.modes[1], 1 / total.reshape(len(spectrum.values), -1)
        residual = (spectrum.coefficients * inverse) @ modes.T
        for k, block in enumerate(blocks):
            inside = modes[block]
            precision = np.matmul(inside * inverse[:, None, :], inside.T)
            root = np.linalg.cholesky(precision)
            white = np.linalg.solve(root, residual[:, block, None])
            logs = 2 * np.log(np.diagonal(root, axis1=1, axis2=2)).sum()
            out[n, k] = 0.5 * (logs - np.sum(white**2) - sizes[k] * constant)
    return out


def _each(posterior: Posterior, scales: Mixture) -> Iterator[tuple[int, Spectrum]]:
    """Every draw and its spectrum; draws of one structure come together."""
    for n in np.argsort(scales.which, kind="stable"):
        yield int(n), Spectrum.of(posterior.problem, scales.structures[scales.which[n]])


# --- what a posterior says of recordings that could have been


@dataclass(frozen=True, eq=False)
class PosteriorPredictive:
    """Recordings that could have been, had the model been right, beside the one that was.

    problem, model : of the posterior
    currents : "inferred" or "new", see `posterior_predictive`
    replicated : (draw, component, time), whitened recordings
    names : of the sensors, or of the components where sensors are not known
    residual : (name,), root mean square of a sensor's standardised residual given all other sensors; 1 is expected
    p_values : (name,), probability of a larger residual than that: near 0 a sensor that the rest does not explain,
        near 1 one that is too quiet
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
        """What was recorded at one time, and mean and standard deviation of the replicates, in the sensors' SI units.

        time : s; None takes the sample at which the recording is strongest

        Returns three arrays (sensor,), of what the whitener lets through; the rest the noise covariance says is none.

        Raises
        ------
        ValueError
            If the problem has no whitener, or the time lies outside the recording.
        """
        back = self.problem.unwhitener
        if back is None:
            raise ValueError("there is no way back to the sensors: the problem has no whitener; give it noise_cov")
        sample = self.sample(time)
        at_sensors = self.replicated[:, :, sample] @ back.T
        return back @ self.problem.recording[:, sample], at_sensors.mean(axis=0), at_sensors.std(axis=0)

    def sample(self, time: float | None) -> int:
        """Number of the sample at a time in s; None takes the one at which the recording is strongest.

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
    """Draw whitened recordings from the joint posterior, and hold the one that was recorded against them.

    draws : number of replicated recordings
    rng : default_rng(0) if None
    quantity : a number that a whitened recording (component, time) has, to be compared
    currents : "inferred" sees the currents of this recording once more in new noise, which asks whether the fit is
        as good as the noise allows; "new" draws other currents of the same hyperparameters, which asks whether the
        prior makes recordings like this one

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
    for n, spectrum in _each(posterior, scales):
        replicated[n] = _replicate(spectrum, scales.variance[n], scales.noise[n], currents == "new", rng)
    names = tuple(f"component {i}" for i in range(problem.components))
    if problem.whitener is not None:
        names = tuple(f"sensor {i}" for i in range(problem.whitener.shape[1]))
        names = names if problem.sensors is None else tuple(problem.sensors.names)
    power, p_values = np.zeros(len(names)), np.zeros(len(names))
    few = drawn(posterior, min(draws, SEEN))
    for n, spectrum in _each(posterior, few):
        residual, precision = left_out(spectrum, few.variance[n], few.noise[n], problem.whitener)
        square = np.sum(np.divide(residual**2, precision, out=np.ones_like(residual), where=precision > 0), axis=1)
        power += square / len(few.noise)
        p_values += chi2.sf(square, residual.shape[1]) / len(few.noise)
    recorded, others = None, None
    if quantity is not None:
        recorded, others = (
            _measured(quantity, problem.recording),
            np.array([_measured(quantity, r) for r in replicated]),
        )
    return PosteriorPredictive(
        problem,
        posterior.model,
        currents,
        replicated,
        names,
        np.sqrt(power / len(problem.times)),
        p_values,
        recorded,
        others,
    )


SEEN = 50
"""Hyperparameters that residuals are averaged over: they hardly differ in them."""


def _measured(quantity: Callable[[Array], float], recording: Array) -> float:
    value = np.asarray(quantity(recording))
    if value.ndim or not np.isfinite(value):
        raise ValueError(f"quantity gave {value!r} for a recording (component, time), but must give a finite number")
    return float(value)


def _replicate(spectrum: Spectrum, variance: float, noise: float, new: bool, rng: np.random.Generator) -> Array:
    """A whitened recording (component, time) of the same or of other currents in other noise."""
    signal = (variance * spectrum.likelihood.eigenvalues).reshape(len(spectrum.values), -1)
    total = signal + noise**2
    unit = rng.standard_normal(spectrum.coefficients.shape)
    if new:
        found = np.sqrt(total) * unit
    else:
        found = signal / total * spectrum.coefficients + noise * np.sqrt(signal / total + 1) * unit
    return np.asarray(spectrum.from_components @ (found if spectrum.modes is None else found @ spectrum.modes[1].T))
