"""Posteriors of many recordings of one lead field, such as conditions or windows of time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from bayesinv.arguments import Randomness, generator_of, of_type
from bayesinv.inference.infer import infer
from bayesinv.inference.methods import PROGRESS_OPTION, check_options
from bayesinv.posterior.posterior import Posterior
from bayesinv.problem.problem import Problem
from bayesinv.progress import over

if TYPE_CHECKING:
    import pymc as pm


def infer_many(
    model: str | PathLike[str] | Callable[[Problem], pm.Model],
    problems: Sequence[Problem] | Mapping[str, Problem],
    method: str | None = None,
    *,
    rng: Randomness = None,
    draws: int = 4000,
    progress: bool = True,
    **options: Any,
) -> list[Posterior] | dict[str, Posterior]:
    """Return the posteriors of many recordings, such as conditions or windows of time, each as `infer` would.

    What depends on the lead field alone (Gram matrices, their decompositions, tables over learned numbers) is computed
    once for all problems of one whitened gain, and the functions of the prior's graph once for all recordings.

    model : name of a shipped model, path of a model file, or function from a problem to a `pm.Model`
    problems : a list, or name to problem; what comes back is of the same kind
    method, draws, options : as in `infer`
    rng : a generator or a seed, 0 if None; its children, one for each recording, so that no posterior depends on those
        before it
    progress : show a bar on the error stream where that is a terminal

    Raises
    ------
    ValueError
        As `infer` does, with the name or number of the problem where one of them is the cause; or if there is none.
    """
    of_type("problems", problems, (Mapping, Iterable), "give a list of problems, or a dictionary of names to problems")
    named = dict(problems) if isinstance(problems, Mapping) else dict(enumerate(problems))
    if not named:
        raise ValueError("there are no problems to infer from; give at least one")
    check_options(method, {"draws": draws, "rng": rng, **options})
    PROGRESS_OPTION.check("progress", progress)
    rng = generator_of(rng)
    seeds = rng.spawn(len(named))
    distinct: list[Problem] = []
    found: dict[Any, Posterior] = {}
    shown = None if progress and len(named) > 1 else False
    for (name, problem), seed in zip(over(named.items(), "infer", len(named), shown), seeds, strict=True):
        for first in distinct:
            if problem.share(first):
                break
        else:
            distinct.append(problem)
        try:
            found[name] = infer(model, problem, method, rng=seed, draws=draws, **options)
        except ValueError as error:
            raise ValueError(f"problem {name!r}: {error}") from error
    return found if isinstance(problems, Mapping) else list(found.values())
