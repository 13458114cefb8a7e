"""From a model and a problem to a posterior, by the method that is asked for or chosen."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from os import PathLike
from typing import TYPE_CHECKING, Any

from bayesinv.arguments import Randomness, generator_of
from bayesinv.evidence.unsettled import UnsettledError
from bayesinv.inference.methods import METHODS, MethodChoice, check_options, choose, fitting
from bayesinv.inference.one_processor import one_processor
from bayesinv.posterior.posterior import Posterior
from bayesinv.prior.catalogue import build
from bayesinv.prior.density import Density
from bayesinv.problem.problem import Problem

if TYPE_CHECKING:
    import pymc as pm


def choose_method(
    model: str | PathLike[str] | pm.Model | Callable[[Problem], pm.Model], problem: Problem
) -> MethodChoice:
    """Return the method that `infer` would use for a model, and why.

    Raises
    ------
    ValueError
        If the model does not exist, or observes no recording.
    """
    _, built = build(model, problem)
    return choose(Density.of(built))


@one_processor()
def infer(
    model: str | PathLike[str] | pm.Model | Callable[[Problem], pm.Model],
    problem: Problem,
    method: str | None = None,
    *,
    rng: Randomness = None,
    draws: int = 4000,
    **options: Any,
) -> Posterior:
    """Return the posterior of the currents behind a recording.

    model : name of a shipped model, path of a model file, function from a problem to a `pm.Model`, or a `pm.Model`
        built for this problem
    problem : whitened gain and recording
    method : a name in `bayesinv.inference.methods.METHODS`: "exact", "quadrature", "nested_laplace", "laplace", "nuts",
        "gibbs" (noise with heavy tails), "local_scales" or "active_set" (focal sources); None takes that of
        `choose_method`
    rng : randomness of draws and chains; a generator or a seed, 0 if None
    draws : draws of the hyperparameters; per chain with "nuts"
    options : of the method, by its entry there: `chains`, `sweeps`, `warm`, `progress` with "active_set", `chains`,
        `tune`, `sampler`, `progress` with "nuts"

    Raises
    ------
    ValueError
        If the model or the method does not exist or does not fit, the method has no such option or wants another
        value of it, the model observes no recording or another one, the recording is zero, the posterior of the
        hyperparameters is improper, or chains are short, not finite or divergent.
    """
    check_options(method, {"draws": draws, "rng": rng, **options})
    rng = generator_of(rng)
    started = time.perf_counter()
    name, built = build(model, problem)
    density = Density.of(built)
    if not density.observation.problem.recording.any():
        raise ValueError(
            "the recording is zero everywhere: nothing was measured, or an array was never filled; give one that has "
            "data"
        )
    timings = {"model": time.perf_counter() - started}
    used = fitting(choose(density).method if method is None else method, density)
    if method is None:
        check_options(used.name, options)
    elif used.name != method:
        # The method was replaced, and its options do not apply.
        options = {}
    try:
        return used.posterior(density, name, rng, draws, timings, **options)
    except UnsettledError as error:
        if method is not None:
            raise
        # No method was asked for, so what quadrature cannot integrate is sampled.
        warnings.warn(f"{error} (NUTS is used now)", stacklevel=2)
        return METHODS["nuts"].posterior(density, name, rng, max(draws // 4, 500), timings)
