"""Simulation-based calibration: ranks of truths drawn from the prior in the posteriors of their recordings.

Averaged over hyperparameters, currents and recordings drawn from the prior, the rank of the truth in the posterior is
uniform, whatever the quantity. A mistake in a likelihood, a Jacobian, a quadrature or a quantile shifts some ranks;
which quantity is off, and how, says where to look.

References: Talts et al. (2018), arXiv 1804.06788; Modrák et al. (2023), Bayesian Anal. 20, 461-488 (test quantities);
Säilynoja, Bürkner & Vehtari (2022), Stat. Comput. 32, 32 (simultaneous bands).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesinv.arguments import Randomness, count_of, generator_of
from bayesinv.axes import Array
from bayesinv.criticism.bands import uniformity_p_value
from bayesinv.criticism.calibration_run import CurrentFunctional, RankedTruth, Run
from bayesinv.criticism.prior_draws import Prior
from bayesinv.inference.infer import choose_method
from bayesinv.inference.methods import check_options
from bayesinv.posterior.quantiles import credible_level
from bayesinv.prior.catalogue import build
from bayesinv.problem.problem import Problem
from bayesinv.progress import steps
from bayesinv.scoring.coverage import coverage

if TYPE_CHECKING:
    import pymc as pm


CHUNK = 25
"""Simulations that run in one task, and share decompositions of the gain, where several tasks run at once."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Ranks of truths in their posteriors, by quantity; uniform on [0, 1] if the posterior is right.

    model, method : what was calibrated
    ranks : quantity to (simulation,)
    level : probability with which a right posterior passes
    unsure : name of a check of the posterior to the number of simulations in which it failed
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
        """P-value of uniform ranks, by quantity; see `bands.uniformity_p_value`."""
        return {name: uniformity_p_value(ranks) for name, ranks in self.ranks.items()}

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
        return {name: float(coverage(ranks, wanted)[0]) for name, ranks in self.ranks.items()}

    def table(self) -> list[dict[str, Any]]:
        """A row per quantity, worst first: "quantity", "simulations", "mean" and "sd" of the ranks (of uniform ones
        0.5 and 0.289), "coverage" of 90 % intervals, "probability" of such a curve by chance, "passed", "finding"."""
        inside = self.coverage(0.9)
        rows = [
            {
                "quantity": name,
                "simulations": self.count,
                "mean": float(np.mean(ranks)),
                "sd": float(np.std(ranks)),
                "coverage": inside[name],
                "probability": self.probabilities[name],
                "passed": name not in self.failed,
                "finding": _finding(ranks) if name in self.failed else "",
            }
            for name, ranks in self.ranks.items()
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
        worst = rows[0]
        if self.passed:
            lines.append(
                f"  the least uniform is {worst['quantity']}, so far by chance with "
                f"probability {worst['probability']:.2g}"
            )
        lines.append(
            f"  A posterior that is right passes with probability {100 * self.level:g} %, over all quantities at once."
        )
        for name, count in self.unsure.items():
            lines.append(f"  The check of the {name} did not pass in {count} of {self.count} simulations.")
        return "\n".join(lines)


def _finding(ranks: Array) -> str:
    """Say in words how ranks differ most from uniform ones: by their mean or by their spread."""
    count = len(ranks)
    # Uniform ranks have mean 1/2 and variance 1/12; over n samples their estimates have variances 1/12n and 1/180n.
    shift = (ranks.mean() - 0.5) * np.sqrt(12 * count)
    width = (ranks.var() - 1 / 12) * np.sqrt(180 * count)
    if max(abs(shift), abs(width)) < 2:
        return "the posterior has another shape than it should"
    if abs(shift) > abs(width):
        return f"the posterior lies too {'low' if shift > 0 else 'high'}"
    return f"the posterior is too {'narrow' if width > 0 else 'wide'}"


def sbc(
    model: str | PathLike[str] | Callable[[Problem], pm.Model],
    problem: Problem,
    simulations: int = 200,
    *,
    draws: int = 199,
    truth: str | PathLike[str] | Callable[[Problem], pm.Model] | None = None,
    functionals: Mapping[str, CurrentFunctional] | None = None,
    method: str | None = None,
    level: float = 0.95,
    rng: Randomness = None,
    n_jobs: int = 1,
    progress: bool = False,
    **options: Any,
) -> Calibration:
    """Rank truths drawn from a model's prior in the posteriors of the recordings that they make.

    Ranked are every free hyperparameter, λ, the log likelihood of the recording at the hyperparameters, and
    functionals of the currents at one sample, which is drawn anew in every simulation. Ranks of linear functionals are
    exact; all others are ranked among draws, and the discrete rank is randomised so that it is uniform.

    model : as in `infer`, but no model built already
    problem : its gain, times and the size of its baseline; recordings are drawn anew
    simulations : number of truths
    draws : of the posterior, among which a truth is ranked
    truth : the model that truths are drawn from; None takes `model`. Another one shows what misspecification does to
        the posterior
    functionals : name to weights, (source,) or with free orientation (source, 3), of a linear functional; or to a
        function of the currents at a sample, (source,) or (source, 3) in A m, that returns a number. None takes a
        region's mean, a single source, the pattern of the gain's largest singular value, and the largest current
    method, options : of `infer`
    level : probability with which a right posterior passes
    rng : a generator or a seed, 0 if None; the same generator gives the same ranks, however many run at once
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
    draws = count_of("draws", draws)
    if count_of("simulations", simulations, "simulation") < 2:
        raise ValueError("simulations is 1, but their ranks want at least 2")
    credible_level(level)
    rng = generator_of(rng)
    choice = method or choose_method(model, problem).method
    check_options(choice, options)
    truths = Prior.of(model if truth is None else truth, problem, simulations, rng)
    seeds = rng.integers(2**63, size=simulations)
    table = _defaults(problem) if functionals is None else _checked(functionals, problem)
    run = Run(model, truths, table, draws, choice, options)
    parts = np.array_split(np.arange(simulations), max(effective_n_jobs(n_jobs), -(-simulations // CHUNK)))
    running = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(run)(list(map(int, part)), [int(seed) for seed in seeds[part]]) for part in parts if part.size
    )
    found: list[RankedTruth | Exception] = []
    with steps("simulations", simulations, progress) as advance:
        for ranked in running:
            found += ranked
            advance(len(ranked))
    failures = [(k, one) for k, one in enumerate(found) if isinstance(one, Exception)]
    if failures:
        k, error = failures[0]
        values = ", ".join(f"{name} = {drawn[k]:.3g}" for name, drawn in truths.hyper.items())
        raise RuntimeError(
            f"{len(failures)} of {simulations} simulations raised; the first, number {k}, whose truth is {values}, "
            f"raised {type(error).__name__}: {error}"
        ) from error
    ranked_truths = [one for one in found if not isinstance(one, Exception)]
    ranks = {name: np.array([one.ranks[name] for one in ranked_truths]) for name in ranked_truths[0].ranks}
    unsure = Counter(name for one in ranked_truths for name in one.failed_checks)
    return Calibration(truths.model if truth is None else build(model, problem)[0], choice, ranks, level, dict(unsure))


def _defaults(problem: Problem) -> dict[str, CurrentFunctional]:
    """A region's mean, a single source, the pattern of the gain's largest singular value, and the largest current."""
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
    """Magnitude of the largest current, A m."""
    return float(np.abs(current).max() if current.ndim == 1 else np.linalg.norm(current, axis=1).max())


def _checked(functionals: Mapping[str, CurrentFunctional], problem: Problem) -> dict[str, CurrentFunctional]:
    """Return the functionals; raise where weights do not fit the currents."""
    shape = (problem.source_count,) if problem.axes == 1 else (problem.source_count, 3)
    for name, one in functionals.items():
        if not callable(one) and (np.shape(one) != shape or not np.asarray(one, dtype=float).any()):
            raise ValueError(
                f"functional {name!r} has shape {np.shape(one)}, but weights of these currents have shape {shape} and "
                "are not all zero; or give a function of the currents"
            )
    return dict(functionals)
