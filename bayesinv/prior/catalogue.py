"""Catalogue: list, read and load model files, shipped ones by name and the user's own by path."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from importlib.resources import files
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bayesinv.arguments import of_type
from bayesinv.axes import one_of
from bayesinv.covariance.time_course import equally_spaced
from bayesinv.prior.graphs import GRAPH_LOCK
from bayesinv.prior.observation import observation
from bayesinv.prior.scales import FORMULAS
from bayesinv.problem.problem import Problem
from bayesinv.problem.time_whitening import several_colours

if TYPE_CHECKING:
    import pymc as pm


MIN_COURSE, MAX_COURSE = 10, 1000
"""Samples from which a time constant is learned by default, and up to which it costs seconds."""

MIN_COMPONENTS = 8
"""Components below which a recording is not asked for focal sources by default."""

MOST_NUMBERS = 350_000
"""Numbers of a gain up to which focal sources are sampled in minutes, and so by default; samples cost little, since
few modes of time matter."""

Model = Callable[[Problem], "pm.Model"]


def list_models() -> dict[str, str]:
    """Names of the shipped models, each with the first line of its card."""
    return {name: read_card(name).splitlines()[0] for name in sorted(_shipped())}


def why_not_focal(problem: Problem) -> str | None:
    """Return why focal sources are not inferred by default from a recording; None where they are."""
    reasons = []
    if several_colours(problem.time_whitening):
        reasons.append(
            "MEG and EEG have noise of different colour, with which chains take long; take one of them (picks), or ask "
            "for the model focal"
        )
    if problem.noise_tails != "normal":
        reasons.append("the noise has heavy tails; leave out what is outlying instead")
    if problem.components < MIN_COMPONENTS:
        reasons.append(f"{problem.components} components cannot tell a few sources apart")
    if problem.source_count * problem.axes * problem.components > MOST_NUMBERS:
        reasons.append(
            f"{problem.source_count} sources{' of 3 axes' * (problem.axes > 1)} and {problem.components} components "
            "would take long; take fewer sources or one kind of sensor (picks), or ask for the model focal"
        )
    if len(problem.times) > MAX_COURSE:
        reasons.append(f"{len(problem.times)} samples would take long; give a window (tmin, tmax)")
    return "; and ".join(reasons) or None


def default_model(problem: Problem) -> str:
    """Return the name of the shipped model of distributed currents for a recording of which nothing else is known.

    "temporal" where there are samples enough, equally spaced: a response is slower than the noise, and currents that
    are taken to be as fast come out too small. On the two responses of the sample recording it is 700 and 1,400 nats
    better than "hierarchical", which is for single samples, and for very many, where correlated courses cost too much.
    """
    times = problem.times
    if not MIN_COURSE <= len(times) <= MAX_COURSE or not equally_spaced(times):
        return "hierarchical"
    return "temporal"


def _shipped() -> dict[str, Path]:
    try:
        folder = Path(str(files("bayesinv.models")))
    except ModuleNotFoundError:
        # Python was started in a checkout of which a copy is installed, and imports the checkout's.
        folder = Path(__file__).resolve().parents[2] / "models"
    return {path.stem: path for path in folder.glob("*.py") if path.stem != "__init__"}


def find_model(model: str | PathLike[str]) -> Path:
    """Return the path of a shipped model's file by its name, or of the user's own, checked to exist."""
    text = str(model)
    if text.endswith(".py") or "/" in text or "\\" in text:
        path = Path(text)
        if not path.is_file():
            raise FileNotFoundError(f"no model file {text}; give the path of a .py file that defines model(problem)")
        return path
    shipped = _shipped()
    return shipped[one_of("model", text, shipped, ", or give the path of a .py file")]


def read_card(model: str | PathLike[str]) -> str:
    """Return the card of a model: its title, formula and references; priors of `bayesinv.prior` in full."""
    import ast

    path = find_model(model)
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError) as error:
        raise ValueError(f"model file {path} could not be read: {type(error).__name__}: {error}") from None
    card = (ast.get_docstring(tree) or "").strip() or "(no card)"
    for call, formula in FORMULAS.items():
        card = card.replace(f"~ {call}", f"~ {formula}")
    return card


def load_model(model: str | PathLike[str]) -> Callable[[Problem], pm.Model]:
    """Return the `model(problem)` function of a shipped model or of a model file.

    model : a name, such as "hierarchical", or the path of a .py file

    Functions of a user's file are pickled by value, so that worker processes need not find the file.

    Raises
    ------
    ValueError
        If no model has that name (the nearest one is suggested), the file raises, or defines no `model`.
    FileNotFoundError
        If there is no file at that path.
    """
    path = find_model(model)
    name = f"bayesinv.models.{path.stem}" if path in _shipped().values() else f"bayesinv_model_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        sys.modules.pop(name, None)
        raise ValueError(f"model file {path} could not be read: {type(error).__name__}: {error}") from error
    function = getattr(module, "model", None)
    if not callable(function):
        raise ValueError(f"model file {path} defines no function model(problem)")
    if not name.startswith("bayesinv.models."):
        import cloudpickle

        cloudpickle.register_pickle_by_value(module)
    loaded: Callable[[Problem], Any] = function
    return loaded


def build(model: Any, problem: Problem) -> tuple[str, pm.Model]:
    """Return the name and the `pm.Model` that a name, path, function or model stands for, checked against a problem.

    Raises
    ------
    ValueError
        If it raises, gives no `pm.Model`, observes no recording, or observes another problem's.
    """
    import pymc as pm
    import pytensor

    of_type("problem", problem, Problem, "from_mne or Problem.from_arrays makes one")
    name = "your model"
    if isinstance(model, pm.Model):
        built, name = model, model.name or name
    else:
        if isinstance(model, str | PathLike):
            function = load_model(model)
            name = str(model)
        elif callable(model):
            function, name = model, getattr(model, "__name__", name)
        else:
            raise ValueError(
                f"a model is a name, the path of a .py file, a function of a problem or a pm.Model, not {model!r}"
            )
        if pm.Model.get_context(error_if_none=False) is not None:
            raise ValueError(
                f"model {name!r} would be built inside the pm.Model whose `with` block this is; leave it first"
            )
        # Where each node of a graph was made PyTensor notes for whoever looks for a mistake in a model of their own.
        ours = getattr(function, "__module__", "").startswith("bayesinv.models.")
        flags = {"traceback__limit": 0} if ours else {}
        try:
            with GRAPH_LOCK, pytensor.config.change_flags(**flags):
                built = function(problem)
        except Exception as error:
            raise ValueError(f"model {name!r} raised {type(error).__name__}: {error}") from error
        if not isinstance(built, pm.Model):
            raise ValueError(f"model {name!r} returned {type(built).__name__}, but must return the pm.Model it built")
    try:
        noted = observation(built)
    except ValueError as error:
        raise ValueError(f"model {name!r}: {error}") from None
    if noted.problem is not problem:
        raise ValueError(f"model {name!r} observes another problem than the one given; build it from this one")
    return name, built
