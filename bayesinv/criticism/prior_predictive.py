"""Prior predictive checks: what the hyperpriors of a model imply for recordings and currents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesinv.arguments import Randomness
from bayesinv.axes import Array, one_of
from bayesinv.covariance.covariance import Structure
from bayesinv.criticism.prior_draws import Prior
from bayesinv.problem.problem import Problem
from bayesinv.wording import aligned

if TYPE_CHECKING:
    import pymc as pm


TAILS = (0.05, 0.5, 0.95)
"""Probabilities of the quantiles in tables of implied quantities."""

IMPLIED = {
    "snr": ("signal-to-noise ratio (amplitude)", "", 1.0),
    "lambda": ("λ", "1/(nA·m)²", 1e-18),
    "explained": ("share of power that is signal", "%", 100.0),
    "current": ("sd of the median source", "nA·m", 1e9),
    "large": ("sd that 10 % of sources exceed", "nA·m", 1e9),
    "field": ("whitened field power (RMS)", "noise = 1", 1.0),
}
"""Quantities that a prior implies, by name: words, unit of display, and the factor from SI units to it."""

PRIOR_HEADS = ("what the prior implies", "5 %", "median", "95 %", "unit")


@dataclass(frozen=True, eq=False)
class PriorPredictive:
    """Quantities that the prior of a model implies before the recording.

    prior : the draws behind them
    implied : name in `IMPLIED` to (draw,), SI units:
        snr, lambda : as in `Posterior.hyper`
        explained : signal's share of the whitened recording's expected power
        current, large : A m, median and 90 % quantile over sources of the prior standard deviation; with free
            orientation of the root of the three axes' summed variances
        field : expected root mean square of the whitened recording over components and samples; noise of scale 1
            alone gives 1
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
        """Quantiles of the implied quantities, as text."""
        return aligned([PRIOR_HEADS, *self.cells()])

    def __str__(self) -> str:
        return f"{self.prior.model}, {len(self.prior)} draws\n{self.table()}"


def prior_predictive(
    model: str | PathLike[str] | pm.Model | Callable[[Problem], pm.Model],
    problem: Problem,
    draws: int = 1000,
    rng: Randomness = None,
) -> PriorPredictive:
    """Return what the hyperpriors of a model imply for recordings and currents; the recording is not used.

    model : as in `infer`
    problem : its gain and noise are used
    draws : number of draws from the prior
    rng : a generator or a seed, 0 if None

    Raises
    ------
    ValueError
        As `Prior.of`.

    Reference: Gabry et al. (2019), J. R. Stat. Soc. A 182, 389-402 (prior predictive checks).
    """
    prior = Prior.of(model, problem, draws, rng)
    known: dict[Any, tuple[float, float, float, float]] = {}
    per_draw = []
    for structure in prior.structures:
        if structure.key not in known:
            known[structure.key] = _per_unit(problem, structure)
        per_draw.append(known[structure.key])
    median, large, signal, noise_power = np.array(per_draw).T
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
    """Return median and 90 % quantile of sources' sds, signal and noise power per component, at unit scales."""
    diagonal = structure.diagonal(problem)
    sds = np.sqrt(diagonal.reshape(-1, problem.axes).sum(axis=1))
    signal = float(diagonal @ problem.gain_powers if structure.diagonal_only else np.trace(structure.gram(problem)))
    if structure.error and problem.error_factor is not None:
        signal += structure.error**2 * float(np.sum(problem.error_factor**2))
    noise = structure.noise_covariance(problem)
    noise_power = 1.0 if noise is None else float(np.trace(noise)) / problem.components
    return float(np.median(sds)), float(np.quantile(sds, 0.9)), signal / problem.components, noise_power
