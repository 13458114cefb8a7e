"""One simulation of a calibration: a recording drawn from the prior, and the rank of its truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bayesinv.axes import Array
from bayesinv.criticism.draws import thinned
from bayesinv.criticism.prior_draws import Prior
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.inference.infer import infer
from bayesinv.posterior.posterior import Posterior
from bayesinv.prior.catalogue import build
from bayesinv.prior.density import Density
from bayesinv.problem.problem import Problem

LIKELIHOOD_DRAWS = 49
"""Draws that the log likelihood of the truth is ranked among; each may want a decomposition."""

CHAIN_THINNING = 10
"""Draws that chains make for every draw that is used, so that these are nearly independent."""

CurrentFunctional = ArrayLike | Callable[[Array], float]
"""Weights of a linear functional of the currents at a sample, or any function of them."""


@dataclass(frozen=True)
class RankedTruth:
    """Ranks of one truth in its posterior, by quantity, and names of the checks that the posterior failed."""

    ranks: dict[str, float]
    failed_checks: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Run:
    """Everything that the simulations of a calibration share; called with numbers of truths and seeds."""

    model: Any
    truths: Prior
    functionals: Mapping[str, CurrentFunctional]
    draws: int
    method: str
    options: Mapping[str, Any]

    def __call__(self, which: Sequence[int], seeds: Sequence[int]) -> list[RankedTruth | Exception]:
        density = Density.of(build(self.model, self.truths.problem)[1])
        found: list[RankedTruth | Exception] = []
        for k, seed in zip(which, seeds, strict=True):
            try:
                found.append(self._one(density, k, np.random.default_rng(seed)))
            except Exception as error:
                # The other simulations go on; `sbc` reports all failures at the end.
                found.append(error)
        return found

    def _one(self, density: Density, k: int, rng: np.random.Generator) -> RankedTruth:
        current, problem = self.truths.truth(k, rng)
        chained = self.method == "nuts"
        draws = max(100, CHAIN_THINNING * self.draws // 4) if chained else self.draws
        posterior = infer(self.model, problem, self.method, rng=rng, draws=draws, **self.options)
        sample = slice(at := int(rng.integers(len(problem.times))), at + 1)
        ranks = self._of_hyper(posterior, density, k, rng)
        ranks |= self._of_currents(posterior, current.reshape(problem.source_count, problem.axes, -1), sample, rng)
        return RankedTruth(ranks, tuple(check.name for check in posterior.checks if not check.passed))

    def _of_hyper(self, posterior: Posterior, density: Density, k: int, rng: np.random.Generator) -> dict[str, float]:
        drawn = {name: _thinned(scalar.draws, self.draws) for name, scalar in posterior.hyper.items()}
        free = [name for name in self.truths.free if name in drawn]
        if np.ptp(drawn["lambda"]) > 0:
            free.append("lambda")
        ranks = {name: _rank(self.truths.hyper[name][k], drawn[name], rng) for name in free}
        variables = density.model.free_RVs
        known = [name for name in drawn if name in self.truths.hyper]
        currents = density.observation.currents
        dense = currents.focal is None and currents.local is None
        if (
            dense
            and variables
            and all(name in known for variable in variables for name in _names(variable.name, drawn))
        ):
            values = {
                name: np.r_[self.truths.hyper[name][k], _thinned(drawn[name], LIKELIHOOD_DRAWS)] for name in known
            }
            log_likelihood = _log_likelihood(density, posterior.problem, values)
            ranks["log likelihood"] = _rank(log_likelihood[0], log_likelihood[1:], rng)
        return ranks

    def _of_currents(
        self, posterior: Posterior, current: Array, sample: slice, rng: np.random.Generator
    ) -> dict[str, float]:
        at_sample = current[:, :, sample.start]
        free = posterior.problem.axes == 3
        ranks = {}
        linear = {name: np.asarray(one, dtype=float) for name, one in self.functionals.items() if not callable(one)}
        if linear:
            rows = np.array(list(linear.values()))
            found = posterior.contrast(rows, float(posterior.problem.times[sample.start]))
            truths = rows.reshape(len(rows), -1) @ at_sample.ravel()
            for i, (name, value) in enumerate(zip(linear, truths, strict=True)):
                ranks[name] = float(1 - found.exceedance(value)[i, 0])
        others = {name: one for name, one in self.functionals.items() if callable(one)}
        if others:
            drawn = posterior.draw(self.draws, rng, sample)[..., 0]
            truth = at_sample if free else at_sample[:, 0]
            for name, function in others.items():
                ranks[name] = _rank(float(function(truth)), np.array([float(function(one)) for one in drawn]), rng)
        return ranks


def _rank(truth: float, drawn: Array, rng: np.random.Generator) -> float:
    """Share of draws below the truth, randomised within its step so that its distribution is continuous."""
    below, tied = np.count_nonzero(drawn < truth), np.count_nonzero(drawn == truth)
    return float((below + (tied + 1) * rng.uniform()) / (len(drawn) + 1))


def _thinned(values: Array, count: int) -> Array:
    """At most `count` of the values, at even steps."""
    return values[thinned(len(values), 1, count)]


def _names(variable: str, hyper: Mapping[str, Array]) -> list[str]:
    """Names in `hyper` of the elements of a variable."""
    return [name for name in hyper if name == variable or name.startswith(f"{variable}[")]


def _log_likelihood(density: Density, problem: Problem, hyper: Mapping[str, Array]) -> Array:
    """Log density (draw,) of the problem's recording and baseline at hyperparameters, under the model of `density`."""
    values = []
    for variable in density.model.free_RVs:
        names = _names(variable.name, hyper)
        table = np.column_stack([hyper[name] for name in names])
        shape = [int(last) + 1 for last in names[-1][len(variable.name) + 1 : -1].split(",") if last]
        values.append(table.reshape(len(table), *shape))
    nodes = density.unconstrained(values)
    variance, noise = density.scales(nodes)
    points, which = density.structural_nodes(nodes)
    out = np.empty(len(nodes))
    for i, structure in enumerate(density.structures(points)):
        mine, likelihood = which == i, Spectrum.of(problem, structure).likelihood
        out[mine] = likelihood.log_likelihood(variance[mine], noise[mine])
        if density.observation.baseline is not None:
            out[mine] += likelihood.baseline_log_likelihood(noise[mine])
    return out
