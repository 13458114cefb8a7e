"""Calibration: whether posteriors of recordings drawn from the prior hold their truths as often as they say.

Averaged over hyperparameters, currents and recordings drawn from the prior, the place of the truth in the posterior
is uniform, whatever the quantity. A mistake in a likelihood, a Jacobian, a quadrature or a quantile moves some place;
which quantity is off, and how, says where to look.

References: Talts et al. (2018), arXiv 1804.06788; Modrák et al. (2023), Bayesian Anal. 20, 461-488 (test quantities);
Säilynoja, Bürkner & Vehtari (2022), Stat. Comput. 32, 32 (simultaneous bands).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom, poisson

from bayesinv.axes import Array, Index
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.inference.infer import choose_method, infer
from bayesinv.inference.methods import check_options
from bayesinv.memory import Memory
from bayesinv.posterior.posterior import Posterior
from bayesinv.posterior.quantiles import credible_level
from bayesinv.predictive import Prior
from bayesinv.prior.catalogue import build
from bayesinv.prior.density import Density
from bayesinv.problem.problem import Problem
from bayesinv.progress import steps
from bayesinv.scoring.coverage import coverage

if TYPE_CHECKING:
    import pymc as pm

FEW = 49
"""Draws that the log likelihood of the truth is ranked among; each may want a decomposition."""

CHUNK = 25
"""Simulations that share what has been worked out of a gain, where several run at once."""

CHAINED = 10
"""Draws that chains make for every draw kept, so that those kept are all but independent."""

BANDS = Memory("bands")

Functional = ArrayLike | Callable[[Array], float]


# --- simultaneous bands of an empirical distribution


def held(low: Index, high: Index) -> float:
    """Probability that as many uniform numbers as there are counts stay within them: an exact recursion.

        P(low_k <= #{u_i <= k/n} <= high_k for k = 1 ... n)

    Counts of n uniform numbers are those of a Poisson process of rate n, given that it counts n at 1; in between the
    process is Markov, with one more expected in every step.

    low, high : (count,), for k = 1 ... n

    Reference: Säilynoja, Bürkner & Vehtari (2022), algorithm 1; Moscovich & Nadler (2017), Stat. Probab. Lett. 123,
    177-182 (the Poisson process).
    """
    count = len(low)
    step = poisson.pmf(np.arange(min(count, 40) + 1), 1.0)
    mass = np.zeros(count + 1)
    mass[0] = 1.0
    for k in range(count):
        mass = np.convolve(mass, step)[: count + 1]
        mass[: max(0, low[k])] = 0.0
        mass[high[k] + 1 :] = 0.0
    return float(mass[count] / poisson.pmf(count, count))


def bounds(count: int, tail: float) -> tuple[Index, Index]:
    """Counts (count,) that a binomial number has, at each k/count, with more than `tail` on either side of it."""
    # Rounding must not put a count whose tail is the limit itself on one side here and on the other there.
    low = binom.ppf(tail * (1 + 1e-9), count, np.arange(count) / count).astype(np.int64)
    return np.r_[low[1:], count], np.r_[count - low[:0:-1], count]


@BANDS.keep
def band(count: int, level: float) -> tuple[Array, Array]:
    """Return the simultaneous band of the empirical distribution of uniform numbers.

    All of it lies inside with probability `level` or a little more: the counts at every k/count are those within
    equal binomial tails, the widest tail that leaves enough.

    count : number of values
    level : probability that the whole curve lies inside

    Returns lower and upper, each (count,), shares at k/count for k = 1 ... count.

    Reference: Säilynoja, Bürkner & Vehtari (2022), Stat. Comput. 32, 32.
    """
    credible_level(level)
    # Between Bonferroni's share of each place and what one place would have by itself.
    low, high = np.log((1 - level) / (2 * count)), np.log((1 - level) / 2)
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if held(*bounds(count, float(np.exp(middle)))) >= level else (low, middle)
    lower, upper = bounds(count, float(np.exp(low)))
    return lower / count, upper / count


def probability(ranks: ArrayLike) -> float:
    """Probability that uniform numbers stray as far from uniform as these, at the place where they stray most.

    ranks : (simulation,), in [0, 1]

    It is exact. Where it is small for ranks that ought to be uniform, they are not; the curve leaves the `band` of
    level 1 - p if and only if it is at most p.
    """
    places = np.sort(np.ravel(np.asarray(ranks, dtype=float)))
    count = len(places)
    at = np.arange(1, count + 1) / count
    counts = np.searchsorted(places, at, side="right")
    below = binom.cdf(counts[:-1], count, at[:-1])
    above = binom.sf(counts[:-1] - 1, count, at[:-1])
    tail = float(min(below.min(initial=1.0), above.min(initial=1.0)))
    if tail < 1e-13:
        # The recursion cannot tell so small a number from rounding; a union over all places bounds it.
        return min(1.0, 2 * count * tail)
    return min(1.0, max(0.0, 1 - held(*bounds(count, tail))))


# --- what was found


@dataclass(frozen=True, eq=False)
class Calibration:
    """Places of truths in their posteriors, by quantity; uniform on [0, 1] if the posterior is right.

    model, method : what was calibrated
    ranks : quantity to (simulation,)
    level : probability with which a right posterior passes
    unsure : check of the posterior to how many simulations it did not pass in
    """

    model: str
    method: str
    ranks: Mapping[str, Array]
    level: float = 0.95
    unsure: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        credible_level(self.level)
        if not self.ranks:
            raise ValueError("there is no quantity whose truth could be ranked")

    @property
    def count(self) -> int:
        """Number of simulations."""
        return len(next(iter(self.ranks.values())))

    @property
    def each(self) -> float:
        """Level of the band of one quantity: by Bonferroni all curves stay inside theirs with `level` at least."""
        return 1 - (1 - self.level) / len(self.ranks)

    @cached_property
    def probabilities(self) -> dict[str, float]:
        """Of every quantity, the probability of straying so far from uniform by chance; see `probability`."""
        return {name: probability(places) for name, places in self.ranks.items()}

    @property
    def failed(self) -> list[str]:
        """Quantities whose curve leaves its band."""
        return [name for name, found in self.probabilities.items() if found <= 1 - self.each]

    @property
    def passed(self) -> bool:
        """Whether every curve stays inside its band."""
        return not self.failed

    def coverage(self, level: float = 0.9) -> dict[str, float]:
        """How often the central interval of a level holds the truth, by quantity.

        Raises
        ------
        ValueError
            If the level lies outside (0, 1).
        """
        wanted = [credible_level(level)]
        return {name: float(coverage(places, wanted)[0]) for name, places in self.ranks.items()}

    def table(self) -> list[dict[str, Any]]:
        """A row per quantity, worst first: "quantity", "simulations", "mean" and "sd" of the ranks (of uniform ones
        0.5 and 0.289), "coverage" of 90 % intervals, "probability" of such a curve by chance, "passed", "finding"."""
        inside = self.coverage(0.9)
        rows = [
            {
                "quantity": name,
                "simulations": self.count,
                "mean": float(np.mean(places)),
                "sd": float(np.std(places)),
                "coverage": inside[name],
                "probability": self.probabilities[name],
                "passed": name not in self.failed,
                "finding": _finding(places) if name in self.failed else "",
            }
            for name, places in self.ranks.items()
        ]
        return sorted(rows, key=lambda row: float(row["probability"]))

    def verdict(self) -> str:
        """What was found, in words."""
        rows = self.table()
        what = f"{self.model} by {self.method}, {self.count} simulations, {len(rows)} quantities"
        lines = [
            f"{what}: calibrated as far as these tell"
            if self.passed
            else f"{what}: NOT calibrated in {len(self.failed)} of them"
        ]
        for row in rows:
            if not row["passed"]:
                lines.append(
                    f"  {row['quantity']}: {row['finding']}; 90 % intervals hold {100 * row['coverage']:.0f} % of the "
                    f"truths; such ranks come by chance with probability {row['probability']:.1g}"
                )
        least = rows[0]
        if self.passed:
            lines.append(
                f"  the farthest is {least['quantity']}, as far by chance with probability {least['probability']:.2g}"
            )
        lines.append(
            f"  A posterior that is right passes with probability {100 * self.level:g} %, over all quantities at once."
        )
        for name, count in self.unsure.items():
            lines.append(f"  The check of the {name} did not pass in {count} of {self.count} simulations.")
        return "\n".join(lines)


def _finding(places: Array) -> str:
    """How ranks that are not uniform differ from uniform ones most: by their middle or by their spread."""
    count = len(places)
    # Ranks of a right posterior have mean 1/2 and variance 1/12, and these the variances 1/12 and 1/180 over the count.
    shift = (places.mean() - 0.5) * np.sqrt(12 * count)
    width = (places.var() - 1 / 12) * np.sqrt(180 * count)
    if max(abs(shift), abs(width)) < 2:
        return "the posterior has another shape than it should"
    if abs(shift) > abs(width):
        return f"the posterior lies too {'low' if shift > 0 else 'high'}"
    return f"the posterior is too {'narrow' if width > 0 else 'wide'}"


# --- simulation


def sbc(
    model: str | PathLike[str] | Callable[[Problem], pm.Model],
    problem: Problem,
    simulations: int = 200,
    *,
    draws: int = 199,
    truth: str | PathLike[str] | Callable[[Problem], pm.Model] | None = None,
    functionals: Mapping[str, Functional] | None = None,
    method: str | None = None,
    level: float = 0.95,
    rng: np.random.Generator | None = None,
    n_jobs: int = 1,
    progress: bool = False,
    **options: Any,
) -> Calibration:
    """Rank truths drawn from a model's prior in the posteriors of the recordings that they make.

    Ranked are every free hyperparameter, λ, the log likelihood of the recording at the hyperparameters, and
    functionals of the currents at one sample, which is another in every simulation. Linear functionals have exact
    places; all else is ranked among draws, and the rank spread over its step so that it is uniform.

    model : as in `infer`, but no model built already
    problem : its gain, times and the size of its baseline; recordings are drawn anew
    simulations : number of truths
    draws : of the posterior, among which a truth is ranked
    truth : the model that truths are drawn from; None takes `model`. Another one shows what it does to a posterior
        that the world differs from what it believes
    functionals : name to weights, (source,) or with free orientation (source, 3), of a linear functional; or to a
        function of the currents at a sample, (source,) or (source, 3) in A m, that returns a number. None takes a
        region's mean, a single source, the pattern that the sensors see best, and the largest current
    method, options : of `infer`
    level : probability with which a right posterior passes
    rng : default_rng(0) if None; the same generator gives the same ranks, however many run at once
    n_jobs : simulations that run at once, as in joblib
    progress : show a progress bar

    Raises
    ------
    ValueError
        If the model does not exist, is built already or does not fit the problem, or a number lies out of range.
    RuntimeError
        If a simulation raised; it says how many did, and of the first what its truth was and what it raised.

    References: Talts et al. (2018), arXiv 1804.06788; Modrák et al. (2023), Bayesian Anal. 20, 461-488.
    """
    from joblib import Parallel, delayed, effective_n_jobs

    for name, one in (("model", model), ("truth", truth)):
        if one is not None and not isinstance(one, str | PathLike) and not callable(one):
            raise ValueError(
                f"{name} must be built anew for every recording; give a name, a path or a function, not a "
                f"{type(one).__name__}"
            )
    if simulations < 2 or draws < 1:
        raise ValueError(f"{simulations} simulations of {draws} draws are too few; give at least 2 of 1")
    credible_level(level)
    rng = np.random.default_rng(0) if rng is None else rng
    choice = method or choose_method(model, problem).method
    check_options(choice, options)
    truths = Prior.of(model if truth is None else truth, problem, simulations, rng)
    seeds = rng.integers(2**63, size=simulations)
    table = _defaults(problem) if functionals is None else _checked(functionals, problem)
    run = _Run(model, truths, table, draws, choice, options)
    cuts = np.array_split(np.arange(simulations), max(effective_n_jobs(n_jobs), -(-simulations // CHUNK)))
    running = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(run)(list(map(int, some)), [int(seed) for seed in seeds[some]]) for some in cuts if some.size
    )
    found: list[_Place | Exception] = []
    with steps("simulations", simulations, progress) as advance:
        for part in running:
            found += part
            advance(len(part))
    wrong = [(k, one) for k, one in enumerate(found) if isinstance(one, Exception)]
    if wrong:
        k, error = wrong[0]
        told = ", ".join(f"{name} = {values[k]:.3g}" for name, values in truths.hyper.items())
        raise RuntimeError(
            f"{len(wrong)} of {simulations} simulations raised; the first, number {k}, whose truth is {told}, raised "
            f"{type(error).__name__}: {error}"
        ) from error
    right = [one for one in found if not isinstance(one, Exception)]
    ranks = {name: np.array([one.ranks[name] for one in right]) for name in right[0].ranks}
    unsure = Counter(name for one in right for name in one.unsure)
    return Calibration(truths.model if truth is None else build(model, problem)[0], choice, ranks, level, dict(unsure))


@dataclass(frozen=True)
class _Place:
    """Where a truth lies in its posterior, by quantity, and the checks that the posterior did not pass."""

    ranks: dict[str, float]
    unsure: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Run:
    """What every simulation has in common."""

    model: Any
    truths: Prior
    functionals: Mapping[str, Functional]
    draws: int
    method: str
    options: Mapping[str, Any]

    def __call__(self, which: Sequence[int], seeds: Sequence[int]) -> list[_Place | Exception]:
        density = Density.of(build(self.model, self.truths.problem)[1])
        found: list[_Place | Exception] = []
        for k, seed in zip(which, seeds, strict=True):
            try:
                found.append(self._one(density, k, np.random.default_rng(seed)))
            except Exception as error:
                # The others' failures are wanted too, so this one is told at the end.
                found.append(error)
        return found

    def _one(self, density: Density, k: int, rng: np.random.Generator) -> _Place:
        current, problem = self.truths.truth(k, rng)
        chained = self.method == "nuts"
        draws = max(100, CHAINED * self.draws // 4) if chained else self.draws
        posterior = infer(self.model, problem, self.method, rng=rng, draws=draws, **self.options)
        sample = slice(at := int(rng.integers(len(problem.times))), at + 1)
        ranks = self._of_hyper(posterior, density, k, rng)
        ranks |= self._of_currents(posterior, current.reshape(problem.source_count, problem.axes, -1), sample, rng)
        return _Place(ranks, tuple(check.name for check in posterior.checks if not check.passed))

    def _of_hyper(self, posterior: Posterior, density: Density, k: int, rng: np.random.Generator) -> dict[str, float]:
        drawn = {name: _spaced(scalar.draws, self.draws) for name, scalar in posterior.hyper.items()}
        free = [name for name in self.truths.free if name in drawn]
        if np.ptp(drawn["lambda"]) > 0:
            free.append("lambda")
        ranks = {name: _rank(self.truths.hyper[name][k], drawn[name], rng) for name in free}
        variables = density.model.free_RVs
        known = [name for name in drawn if name in self.truths.hyper]
        if variables and all(name in known for variable in variables for name in _names(variable.name, drawn)):
            among = {name: np.r_[self.truths.hyper[name][k], _spaced(drawn[name], FEW)] for name in known}
            heights = _log_likelihood(density, posterior.problem, among)
            ranks["log likelihood"] = _rank(heights[0], heights[1:], rng)
        return ranks

    def _of_currents(
        self, posterior: Posterior, current: Array, sample: slice, rng: np.random.Generator
    ) -> dict[str, float]:
        now = current[:, :, sample.start]
        free = posterior.problem.axes == 3
        ranks = {}
        linear = {name: np.asarray(one, dtype=float) for name, one in self.functionals.items() if not callable(one)}
        if linear:
            rows = np.array(list(linear.values()))
            found = posterior.contrast(rows, float(posterior.problem.times[sample.start]))
            truths = rows.reshape(len(rows), -1) @ now.ravel()
            for i, (name, value) in enumerate(zip(linear, truths, strict=True)):
                ranks[name] = float(1 - found.exceedance(value)[i, 0])
        others = {name: one for name, one in self.functionals.items() if callable(one)}
        if others:
            drawn = posterior.draw(self.draws, rng, sample)[..., 0]
            here = now if free else now[:, 0]
            for name, function in others.items():
                ranks[name] = _rank(float(function(here)), np.array([float(function(one)) for one in drawn]), rng)
        return ranks


def _rank(truth: float, drawn: Array, rng: np.random.Generator) -> float:
    """Share of draws below the truth, spread over its step so that it is uniform and not only discretely so."""
    below, tied = np.count_nonzero(drawn < truth), np.count_nonzero(drawn == truth)
    return float((below + (tied + 1) * rng.uniform()) / (len(drawn) + 1))


def _spaced(values: Array, count: int) -> Array:
    """As many values at even distances, the farther apart the more there are."""
    return values[np.linspace(0, len(values) - 1, min(count, len(values))).astype(int)]


def _names(variable: str, hyper: Mapping[str, Array]) -> list[str]:
    """Names that the numbers of a variable have in `hyper`."""
    return [name for name in hyper if name == variable or name.startswith(f"{variable}[")]


def _log_likelihood(density: Density, problem: Problem, hyper: Mapping[str, Array]) -> Array:
    """Log density (draw,) of a recording and its baseline at hyperparameters, whatever recording the density has."""
    values = []
    for variable in density.model.free_RVs:
        names = _names(variable.name, hyper)
        table = np.column_stack([hyper[name] for name in names])
        shape = [int(last) + 1 for last in names[-1][len(variable.name) + 1 : -1].split(",") if last]
        values.append(table.reshape(len(table), *shape))
    nodes = density.unconstrained(values)
    variance, noise = density.scales(nodes)
    places, which = density.structural_nodes(nodes)
    out = np.empty(len(nodes))
    for i, structure in enumerate(density.structures(places)):
        mine, likelihood = which == i, Spectrum.of(problem, structure).likelihood
        out[mine] = likelihood.log_likelihood(variance[mine], noise[mine])
        if density.observation.baseline is not None:
            out[mine] += likelihood.baseline_log_likelihood(noise[mine])
    return out


def _defaults(problem: Problem) -> dict[str, Functional]:
    """A region's mean, a single source, the pattern that the sensors see best, and the largest current."""
    count, axes = problem.source_count, problem.axes
    along = np.full((count, axes), 1 / np.sqrt(axes))
    if axes == 3 and problem.sources is not None and problem.sources.normals is not None:
        along = problem.sources.normals
    region = np.zeros((count, axes))
    region[: max(1, count // 5)] = along[: max(1, count // 5)] / max(1, count // 5)
    one = int(np.argsort(problem.source_norms)[count // 2])
    single = np.zeros((count, axes))
    single[one] = along[one]
    best = np.linalg.svd(problem.gain, full_matrices=False)[2][0].reshape(count, axes)
    shape = (count,) if axes == 1 else (count, axes)
    return {
        "region mean": region.reshape(shape),
        "single source": single.reshape(shape),
        "best seen pattern": best.reshape(shape),
        "largest current": _largest,
    }


def _largest(current: Array) -> float:
    """Size of the largest current."""
    return float(np.abs(current).max() if current.ndim == 1 else np.linalg.norm(current, axis=1).max())


def _checked(functionals: Mapping[str, Functional], problem: Problem) -> dict[str, Functional]:
    shape = (problem.source_count,) if problem.axes == 1 else (problem.source_count, 3)
    for name, one in functionals.items():
        if not callable(one) and (np.shape(one) != shape or not np.asarray(one, dtype=float).any()):
            raise ValueError(
                f"functional {name!r} has shape {np.shape(one)}, but weights of these currents have shape {shape} and "
                "are not all zero; or give a function of the currents"
            )
    return dict(functionals)
