"""Methods of inference: the registry of their names, options and requirements, and the choice of one for a model.

A method is one entry of `METHODS` and one room with a function `posterior`, whose signature is `MethodFunction`'s and
whose keyword arguments are the entry's options.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from bayesinv.arguments import is_seed
from bayesinv.axes import one_of

if TYPE_CHECKING:
    from bayesinv.posterior.posterior import Posterior
    from bayesinv.prior.density import Density


MAX_DIMENSION_QUADRATURE = 4
"""Free hyperparameters up to which a lattice is cheaper and more exact than a chain."""

MAX_DIMENSION_NUTS = 40
"""Free hyperparameters up to which they are sampled where no method is asked for."""


class MethodFunction(Protocol):
    """The function `posterior` of a method's room.

    density : log posterior density of the model's hyperparameters
    name : of the model, as the posterior reports it
    rng : randomness of draws and chains
    draws : draws of the hyperparameters
    timings : seconds by stage so far; the method adds its own stages
    options : the method's own, keyword-only
    """

    def __call__(
        self,
        density: Density,
        name: str,
        rng: np.random.Generator,
        draws: int,
        timings: dict[str, float],
        *args: Any,
        **options: Any,
    ) -> Posterior: ...


@dataclass(frozen=True)
class Option:
    """An option of a method.

    wanted : function of a value that returns None if the value is valid, else a description of valid ones
    default : value where none is given
    meaning : what the option does, in a phrase
    """

    wanted: Callable[[Any], str | None]
    default: Any
    meaning: str

    def check(self, name: str, value: Any) -> None:
        """Check a value.

        Raises
        ------
        ValueError
            If the value is not valid; the message describes valid ones.
        """
        wanted = self.wanted(value)
        if wanted is not None:
            raise ValueError(f"{name} is {value!r}, but {wanted} is wanted ({name}: {self.meaning})")


@dataclass(frozen=True)
class Method:
    """A method of inference.

    name : as users give it
    purpose : what it is for, in a sentence
    room : module that holds its function `posterior`, imported when the method is used
    unfit : function of a density that returns None if the method applies, else why it does not and what to do
    reason : function of a density that returns why to choose the method where none is asked for, or None to skip it
    options : its own options by name, beside those of every method
    instead : whether it replaces any other method wherever it applies, because then the others reduce to it
    focal : whether it is for models with focal sources, or for those without
    local : whether it is for models with local scales, or for those without
    """

    name: str
    purpose: str
    room: str
    unfit: Callable[[Density], str | None]
    reason: Callable[[Density], str | None]
    options: Mapping[str, Option] = field(default_factory=dict)
    instead: bool = False
    focal: bool = False
    local: bool = False

    def why_not(self, density: Density) -> str | None:
        """Return None if the method applies to a density, else why it does not and what to do."""
        focal, local = density.observation.currents.focal is not None, density.observation.currents.local is not None
        if local and not self.local:
            return "the model has local scales, which are sampled; use method='local_scales', or none"
        if self.local and not local:
            return f"method {self.name!r} wants a model with local scales: Currents(..., local='half_cauchy')"
        if focal and not self.focal:
            return "the model has focal sources, which are sampled; use method='active_set', or none"
        if self.focal and not focal:
            return f"method {self.name!r} wants a model with focal sources: Currents(..., focal=Patches(problem))"
        if self.name != "gibbs" and not (focal or local) and density.observation.problem.noise_tails == "student":
            return (
                f"method {self.name!r} takes noise_tails='normal', but the problem's are 'student', which method "
                "'gibbs' samples; give that method or none, or noise_tails='normal'"
            )
        return self.unfit(density)

    @property
    def posterior(self) -> MethodFunction:
        """The method's function from a density to a posterior; its module is imported now."""
        function: MethodFunction = import_module(self.room).posterior
        return function


class MethodChoice(NamedTuple):
    """A method of inference, and the reason for choosing it."""

    method: str
    reason: str

    def __str__(self) -> str:
        return f"{self.method}: {self.reason}"


def choose(density: Density) -> MethodChoice:
    """Return the first method of the registry that applies to a density and has a reason to be chosen."""
    for method in METHODS.values():
        if method.why_not(density) is None:
            reason = method.reason(density)
            if reason is not None:
                return MethodChoice(method.name, reason)
    raise ValueError(f"no method fits the model; there are {', '.join(METHODS)}")


def fitting(name: str, density: Density) -> Method:
    """Return the method of that name, or the one that replaces it.

    Raises
    ------
    ValueError
        If there is no such method or it does not apply.
    """
    for method in METHODS.values():
        if method.instead and method.why_not(density) is None:
            return method
    method = METHODS[one_of("method", name, METHODS)]
    why_not = method.why_not(density)
    if why_not is not None:
        raise ValueError(why_not)
    return method


def check_options(method: str | None, given: Mapping[str, Any]) -> None:
    """Check that a method takes the options given, and their values; None stands for any method.

    Raises
    ------
    ValueError
        If there is no such method, it takes no such option, or a value is wrong.
    """
    methods = list(METHODS.values()) if method is None else [METHODS[one_of("method", method, METHODS)]]
    known = {name: [option] for name, option in COMMON_OPTIONS.items()}
    for one in methods:
        for name, option in one.options.items():
            known.setdefault(name, []).append(option)
    for name, value in given.items():
        if name not in known:
            meanings = "; ".join(f"{key}: {known[key][0].meaning}" for key in sorted(known))
            takers = [f"; method {one.name!r} takes {name}" for one in METHODS.values() if name in one.options]
            whose = "any method" if method is None else f"method {method!r}"
            one_of(f"option of {whose}", name, known, f" ({meanings}){''.join(takers)}")
        # While no method is chosen, a value that one of them takes is enough.
        if all(option.wanted(value) is not None for option in known[name]):
            known[name][0].check(name, value)


def integer_from(least: int) -> Callable[[Any], str | None]:
    """Return a check for whole numbers of at least `least`."""

    def wanted(value: Any) -> str | None:
        if not isinstance(value, Integral) or isinstance(value, bool):
            return "a whole number"
        return None if int(value) >= least else f"at least {'one' if least == 1 else least}"

    return wanted


def or_none(wanted: Callable[[Any], str | None]) -> Callable[[Any], str | None]:
    """Return a check for what another one takes, or None."""
    return lambda value: None if value is None or wanted(value) is None else f"{wanted(value)}, or None,"


def boolean(value: Any) -> str | None:
    """Check for True or False."""
    return None if isinstance(value, bool | np.bool_) else "True or False"


def number_up_to(most: float) -> Callable[[Any], str | None]:
    """Return a check for positive numbers up to `most`."""

    def wanted(value: Any) -> str | None:
        right = isinstance(value, Real) and not isinstance(value, bool) and 0 < float(value) <= most
        return None if right else f"a positive number up to {most:g}"

    return wanted


def one_of_values(*names: str | None) -> Callable[[Any], str | None]:
    """Return a check for one of some strings, or None where it is among them."""

    def wanted(value: Any) -> str | None:
        right = value is None or isinstance(value, str)
        return None if right and value in names else " or ".join(map(repr, names))

    return wanted


def _random_generator(value: Any) -> str | None:
    right = value is None or isinstance(value, np.random.Generator) or is_seed(value)
    return None if right else "a numpy.random.Generator, such as np.random.default_rng(7), or a seed such as 7,"


PROGRESS_OPTION = Option(boolean, False, "show a progress bar")

COMMON_OPTIONS = {
    "draws": Option(integer_from(1), 4000, "draws of the hyperparameters, per chain with 'nuts'"),
    "rng": Option(_random_generator, None, "randomness of draws and chains, a generator or a seed, 0 if None"),
}
"""Options of every method."""


def _free_names(density: Density) -> str:
    return ", ".join(variable.name for variable in density.model.free_RVs)


def _fits_any(density: Density) -> str | None:
    return None


def _unfit_tails(density: Density, name: str) -> str | None:
    if density.observation.problem.noise_tails == "student":
        return f"method {name!r} takes noise_tails='normal'; leave out what a check has named, problem.without(...)"
    return None


def _unfit_focal(density: Density) -> str | None:
    observation = density.observation
    if density.structural or observation.base.time is not None or observation.base.noise is not None:
        return (
            "method 'active_set' wants dense currents of a fixed structure: scales may be learned, but depth, length, "
            "time and noise by kind of sensor must be numbers or left out"
        )
    return _unfit_tails(density, "active_set")


def _unfit_local(density: Density) -> str | None:
    observation = density.observation
    if density.structural or observation.base.time is not None or observation.base.noise is not None:
        return (
            "method 'local_scales' wants currents of a structure that is fixed but for these: scale and noise may be "
            "learned, but depth, weights, error, time and noise by kind of sensor must be numbers or left out"
        )
    return _unfit_tails(density, "local_scales")


def _unfit_gibbs(density: Density) -> str | None:
    if density.observation.problem.noise_tails == "student":
        return None
    return "method 'gibbs' is for noise_tails='student'; give that to from_arrays or from_mne"


def _reason_gibbs(density: Density) -> str:
    return (
        "a few sensors and samples have noise of their own: which and how much is sampled, with currents integrated out"
    )


def _reason_local(density: Density) -> str:
    return "a scale for every source is sampled, with currents integrated out"


def _reason_focal(density: Density) -> str:
    return "which of thousands of places are active is sampled; currents and their courses are integrated exactly"


def _unfit_exact(density: Density) -> str | None:
    if not density.dimension:
        return None
    return f"method 'exact' wants no free hyperparameter, but the model has {_free_names(density)}"


def _reason_exact(density: Density) -> str:
    return "no hyperparameter is free, so the posterior is one Gaussian"


def _unfit_quadrature(density: Density) -> str | None:
    if density.dimension <= MAX_DIMENSION_QUADRATURE:
        return None
    return (
        f"quadrature takes up to {MAX_DIMENSION_QUADRATURE} hyperparameters, but the model has {density.dimension}; "
        "use method='nuts' or 'laplace'"
    )


def _reason_quadrature(density: Density) -> str:
    names = _free_names(density)
    return f"{density.dimension} free hyperparameters ({names}) are integrated on a lattice, with exact evidence"


def _unfit_nested(density: Density) -> str | None:
    from bayesinv.inference.nested_laplace import shrinking

    if shrinking(density) is not None:
        return None
    return (
        "method 'nested_laplace' wants one number that shapes the prior beside a vector, such as the spread of many "
        "variances; use method='nuts' or 'laplace'"
    )


def _reason_nested(density: Density) -> str | None:
    from bayesinv.inference.nested_laplace import shrinking

    outer = shrinking(density)
    if outer is None or density.dimension <= MAX_DIMENSION_QUADRATURE:
        return None
    return f"{density.names[outer]} shrinks many: it is integrated on a lattice, with short chains of all others"


def _reason_laplace(density: Density) -> str | None:
    if density.dimension <= MAX_DIMENSION_NUTS:
        return None
    return f"{density.dimension} free hyperparameters are too many to sample quickly: a Gaussian at the mode"


def _reason_nuts(density: Density) -> str:
    names = _free_names(density)
    return f"{density.dimension} free hyperparameters ({names}) are too many for a lattice, so they are sampled"


METHODS = {
    method.name: method
    for method in (
        Method(
            "active_set",
            "Chains over which few sources are active, with exact Gaussians of all currents given each set.",
            "bayesinv.inference.active_set",
            _unfit_focal,
            _reason_focal,
            {
                "chains": Option(integer_from(1), 4, "number of chains"),
                "sweeps": Option(
                    or_none(integer_from(50)),
                    None,
                    "sweeps of each chain, each gives a draw; None for as many as chains want to agree, up to a bound",
                ),
                "warm": Option(integer_from(1), 250, "sweeps of each chain before these, which are thrown away"),
                "progress": PROGRESS_OPTION,
            },
            focal=True,
        ),
        Method(
            "local_scales",
            "Chains over a scale for every source, with exact Gaussians of all currents given each draw; no evidence.",
            "bayesinv.inference.local_scales",
            _unfit_local,
            _reason_local,
            {
                "chains": Option(integer_from(1), 4, "number of chains"),
                "sweeps": Option(integer_from(50), 500, "sweeps of each chain; each gives a draw"),
                "warm": Option(integer_from(1), 300, "sweeps of each chain before these, which are thrown away"),
                "progress": PROGRESS_OPTION,
            },
            local=True,
        ),
        Method(
            "gibbs",
            "Gibbs sampling of the noise that single sensors and samples have of their own; it gives no evidence.",
            "bayesinv.inference.tails",
            _unfit_gibbs,
            _reason_gibbs,
        ),
        Method(
            "exact",
            "One Gaussian in closed form, where no hyperparameter is free.",
            "bayesinv.inference.exact",
            _unfit_exact,
            _reason_exact,
            instead=True,
        ),
        Method(
            "quadrature",
            "Adaptive quadrature over a few hyperparameters, with exact evidence.",
            "bayesinv.inference.quadrature",
            _unfit_quadrature,
            _reason_quadrature,
        ),
        Method(
            "nested_laplace",
            "A lattice over one number that shrinks many, with Gaussians of the others that short chains correct.",
            "bayesinv.inference.nested_laplace",
            _unfit_nested,
            _reason_nested,
            {"step": Option(number_up_to(1), 0.5, "spacing of the lattice over the logarithm of what shrinks")},
        ),
        Method(
            "laplace",
            "A Gaussian at the mode, for many hyperparameters or a quick look, with approximate evidence.",
            "bayesinv.inference.laplace",
            _fits_any,
            _reason_laplace,
        ),
        Method(
            "nuts",
            "Chains by NUTS, for more hyperparameters than a lattice holds; it gives no evidence.",
            "bayesinv.inference.nuts",
            _fits_any,
            _reason_nuts,
            {
                "chains": Option(integer_from(1), 4, "number of chains"),
                "tune": Option(integer_from(1), 1000, "steps of each chain that adapt the sampler and are thrown away"),
                "sampler": Option(
                    one_of_values("nutpie", "pymc", None),
                    None,
                    "library that samples; None takes nutpie where it is installed",
                ),
                "progress": PROGRESS_OPTION,
            },
        ),
    )
}
"""Every method by name, in order of preference: `choose` takes the first that fits and has a reason."""
