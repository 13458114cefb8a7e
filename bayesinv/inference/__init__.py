"""Integrals over beliefs: every method is a function from a model to a `Posterior`."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bayesinv.axes import one_of
from bayesinv.catalogue import build
from bayesinv.inference.density import Density
from bayesinv.posterior import Posterior
from bayesinv.problem import Problem
from bayesinv.progress import over

if TYPE_CHECKING:
    import pymc as pm

MOST_BY_QUADRATURE = 4
"""Free hyperparameters up to which a lattice is cheaper and more exact than a chain."""

MOST_BY_NUTS = 40
"""Free hyperparameters up to which they are sampled where nothing else is said."""

METHODS = ("exact", "laplace", "nuts", "quadrature")


class Choice(NamedTuple):
    """A method of inference, and why it is the one to take."""

    method: str
    reason: str

    def __str__(self) -> str:
        return f"{self.method}: {self.reason}"


def choose_method(model: str | PathLike[str] | pm.Model | Callable[[Problem], pm.Model], problem: Problem) -> Choice:
    """Say what `infer` would do with a model, before it is done.

    Raises
    ------
    ValueError
        If the model does not exist, or observes no recording.
    """
    _, built = build(model, problem)
    return _choose(Density.of(built))


def _choose(density: Density) -> Choice:
    count = density.dimension
    if not count:
        return Choice("exact", "no hyperparameter is free, so the posterior is one Gaussian")
    named = ", ".join(variable.name for variable in density.model.free_RVs)
    if count <= MOST_BY_QUADRATURE:
        return Choice(
            "quadrature", f"{count} free hyperparameters ({named}) are integrated on a lattice, with exact evidence"
        )
    if count > MOST_BY_NUTS:
        return Choice("laplace", f"{count} free hyperparameters are too many to sample quickly: a Gaussian at the mode")
    return Choice("nuts", f"{count} free hyperparameters ({named}) are too many for a lattice, so they are sampled")


def infer_many(
    model: str | PathLike[str] | Callable[[Problem], pm.Model],
    problems: Sequence[Problem] | Mapping[str, Problem],
    method: str | None = None,
    *,
    rng: np.random.Generator | None = None,
    draws: int = 4000,
    progress: bool = True,
    **options: Any,
) -> list[Posterior] | dict[str, Posterior]:
    """Return the posteriors of many recordings, such as conditions or windows of time, each as `infer` would.

    What depends on the lead field alone (Gram matrices, their decompositions, tables over learned numbers) is worked
    out once for all problems of one whitened gain, and the functions of the prior's graph once for all recordings.

    model : name of a shipped model, path of a model file, or function from a problem to a `pm.Model`
    problems : a list, or name to problem; what comes back is of the same kind
    method, draws, options : as in `infer`
    rng : one child of it for each recording, so that a posterior does not depend on those before it
    progress : show a bar on the error stream where that is a terminal

    Raises
    ------
    ValueError
        As `infer` does, with the name or number of the problem; or if there is none.
    """
    named = dict(problems) if isinstance(problems, Mapping) else dict(enumerate(problems))
    if not named:
        raise ValueError("there are no problems to infer from; give at least one")
    rng = np.random.default_rng(0) if rng is None else rng
    seeds = rng.spawn(len(named))
    firsts: list[Problem] = []
    found: dict[Any, Posterior] = {}
    shown = None if progress and len(named) > 1 else False
    for (name, problem), seed in zip(over(named.items(), "infer", len(named), shown), seeds, strict=True):
        for first in firsts:
            if problem.share(first):
                break
        else:
            firsts.append(problem)
        try:
            found[name] = infer(model, problem, method, rng=seed, draws=draws, **options)
        except ValueError as error:
            raise ValueError(f"problem {name!r}: {error}") from error
    return found if isinstance(problems, Mapping) else list(found.values())


def infer(
    model: str | PathLike[str] | pm.Model | Callable[[Problem], pm.Model],
    problem: Problem,
    method: str | None = None,
    *,
    rng: np.random.Generator | None = None,
    draws: int = 4000,
    **options: Any,
) -> Posterior:
    """Return the posterior of the currents behind a recording.

    model : name of a shipped model, path of a model file, function from a problem to a `pm.Model`, or a `pm.Model`
        built for this problem
    problem : whitened gain and recording
    method : "exact", "quadrature", "laplace" or "nuts"; None takes what `choose_method` says
    rng : randomness of draws and chains; default_rng(0) if None
    draws : draws of the hyperparameters; per chain with "nuts"
    options : of the method: `chains`, `tune`, `progress` with "nuts"

    Raises
    ------
    ValueError
        If the model or the method does not exist or does not fit, the model observes no recording or another one,
        the posterior of the hyperparameters is improper, or chains are short, not finite or divergent.
    """
    rng = np.random.default_rng(0) if rng is None else rng
    if draws < 1:
        raise ValueError(f"draws is {draws}, but at least one is wanted")
    started = time.perf_counter()
    name, built = build(model, problem)
    density = Density.of(built)
    timings = {"model": time.perf_counter() - started}
    choice = _choose(density)
    chosen = choice.method if method is None else one_of("method", method, METHODS)
    if chosen == "exact" and density.dimension:
        free = ", ".join(variable.name for variable in density.model.free_RVs)
        raise ValueError(f"method 'exact' wants no free hyperparameter, but the model has {free}")
    if chosen != "exact" and not density.dimension:
        chosen = "exact"
    if chosen == "quadrature" and density.dimension > MOST_BY_QUADRATURE:
        raise ValueError(
            f"quadrature takes up to {MOST_BY_QUADRATURE} hyperparameters, but the model has {density.dimension}; "
            "use method='nuts' or 'laplace'"
        )
    # Each method lives in its own room and is read only when it is the one.
    if chosen == "exact":
        from bayesinv.inference.exact import posterior
    elif chosen == "quadrature":
        from bayesinv.inference.quadrature import posterior
    elif chosen == "laplace":
        from bayesinv.inference.laplace import posterior
    else:
        from bayesinv.inference.nuts import posterior
    if chosen != "quadrature" or method is not None:
        return posterior(density, name, rng, draws, timings, **options)
    from bayesinv.inference.quadrature import UnsettledError

    try:
        return posterior(density, name, rng, draws, timings, **options)
    except UnsettledError as error:
        # Nobody asked for a lattice, so what a lattice cannot hold is sampled.
        warnings.warn(f"{error} (NUTS is used now)", stacklevel=2)
        from bayesinv.inference.nuts import posterior as sampled

        return sampled(density, name, rng, max(draws // 4, 500), timings)
