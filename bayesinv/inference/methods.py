"""Methods of inference: one registry of what each takes, gives and is called, and which fits a model.

A method is one entry of `METHODS` and one room with a function `posterior`, whose signature is `MethodFunction`'s and
whose keyword arguments are the entry's options.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from numbers import Integral
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from bayesinv.axes import one_of

if TYPE_CHECKING:
    from bayesinv.posterior.posterior import Posterior
    from bayesinv.prior.density import Density


MOST_BY_QUADRATURE = 4
"""Free hyperparameters up to which a lattice is cheaper and more exact than a chain."""

MOST_BY_NUTS = 40
"""Free hyperparameters up to which they are sampled where nothing else is said."""


class MethodFunction(Protocol):
    """The function `posterior` of a method's room.

    density : log posterior density of the model's hyperparameters
    name : of the model, as the posterior will say it
    rng : randomness of draws and chains
    draws : draws of the hyperparameters
    timings : seconds by stage so far; the method adds its own stages
    options : the method's own, by keyword alone
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

    wanted : function of a value that returns None if the value is right, else what is wanted in its place
    default : value where none is given
    meaning : what the option does, in a phrase
    """

    wanted: Callable[[Any], str | None]
    default: Any
    meaning: str

    def check(self, name: str, value: Any) -> None:
        """Say what is wanted where the value is wrong.

        Raises
        ------
        ValueError
            If it is.
        """
        wanted = self.wanted(value)
        if wanted is not None:
            raise ValueError(f"{name} is {value!r}, but {wanted} is wanted ({name}: {self.meaning})")


@dataclass(frozen=True)
class Method:
    """A method of inference.

    name : as users give it
    purpose : what it is for, in a sentence
    room : module that holds its function `posterior`, read when the method is the one
    unfit : function of a density that returns None if the method fits, else why it does not and what to do
    reason : function of a density that returns why to take the method where none is named, or None to pass on
    options : its own options by name, beside those of every method
    instead : whether it is taken wherever it fits, in place of any other: then there is nothing for others to do
    """

    name: str
    purpose: str
    room: str
    unfit: Callable[[Density], str | None]
    reason: Callable[[Density], str | None]
    options: Mapping[str, Option] = field(default_factory=dict)
    instead: bool = False

    @property
    def posterior(self) -> MethodFunction:
        """Its function from a density to a posterior; the room is entered now."""
        function: MethodFunction = import_module(self.room).posterior
        return function


class Choice(NamedTuple):
    """A method of inference, and why it is the one to take."""

    method: str
    reason: str

    def __str__(self) -> str:
        return f"{self.method}: {self.reason}"


def choose(density: Density) -> Choice:
    """Return the first method of the registry that fits a density and has a reason to be taken."""
    for method in METHODS.values():
        if method.unfit(density) is None:
            reason = method.reason(density)
            if reason is not None:
                return Choice(method.name, reason)
    raise ValueError(f"no method fits the model; there are {', '.join(METHODS)}")


def fitting(name: str, density: Density) -> Method:
    """Return the method of that name, or the one that is taken in its place.

    Raises
    ------
    ValueError
        If there is no such method or it does not fit.
    """
    for method in METHODS.values():
        if method.instead and method.unfit(density) is None:
            return method
    method = METHODS[one_of("method", name, METHODS)]
    why_not = method.unfit(density)
    if why_not is not None:
        raise ValueError(why_not)
    return method


def check_options(method: str | None, given: Mapping[str, Any]) -> None:
    """Check that a method takes the options given, and their values; None stands for whichever method it will be.

    Raises
    ------
    ValueError
        If there is no such method, it takes no such option, or a value is wrong.
    """
    methods = list(METHODS.values()) if method is None else [METHODS[one_of("method", method, METHODS)]]
    known = {name: [option] for name, option in COMMON.items()}
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


def whole(least: int) -> Callable[[Any], str | None]:
    """Want a whole number of at least `least`."""

    def wanted(value: Any) -> str | None:
        if not isinstance(value, Integral) or isinstance(value, bool):
            return "a whole number"
        return None if int(value) >= least else f"at least {'one' if least == 1 else least}"

    return wanted


def flag(value: Any) -> str | None:
    """Want True or False."""
    return None if isinstance(value, bool | np.bool_) else "True or False"


def named(*names: str | None) -> Callable[[Any], str | None]:
    """Want one of some values."""

    def wanted(value: Any) -> str | None:
        right = value is None or isinstance(value, str)
        return None if right and value in names else " or ".join(map(repr, names))

    return wanted


def _generator(value: Any) -> str | None:
    right = value is None or isinstance(value, np.random.Generator)
    return None if right else "a numpy.random.Generator, such as np.random.default_rng(7),"


PROGRESS = Option(flag, False, "show a progress bar")

COMMON = {
    "draws": Option(whole(1), 4000, "draws of the hyperparameters, per chain with 'nuts'"),
    "rng": Option(_generator, None, "randomness of draws and chains, default_rng(0) if None"),
}
"""Options of every method."""


def _free(density: Density) -> str:
    return ", ".join(variable.name for variable in density.model.free_RVs)


def _fits_any(density: Density) -> str | None:
    return None


def _unfit_exact(density: Density) -> str | None:
    if not density.dimension:
        return None
    return f"method 'exact' wants no free hyperparameter, but the model has {_free(density)}"


def _reason_exact(density: Density) -> str:
    return "no hyperparameter is free, so the posterior is one Gaussian"


def _unfit_quadrature(density: Density) -> str | None:
    if density.dimension <= MOST_BY_QUADRATURE:
        return None
    return (
        f"quadrature takes up to {MOST_BY_QUADRATURE} hyperparameters, but the model has {density.dimension}; "
        "use method='nuts' or 'laplace'"
    )


def _reason_quadrature(density: Density) -> str:
    return (
        f"{density.dimension} free hyperparameters ({_free(density)}) are integrated on a lattice, with exact evidence"
    )


def _reason_laplace(density: Density) -> str | None:
    if density.dimension <= MOST_BY_NUTS:
        return None
    return f"{density.dimension} free hyperparameters are too many to sample quickly: a Gaussian at the mode"


def _reason_nuts(density: Density) -> str:
    return (
        f"{density.dimension} free hyperparameters ({_free(density)}) are too many for a lattice, so they are sampled"
    )


METHODS = {
    method.name: method
    for method in (
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
                "chains": Option(whole(1), 4, "number of chains"),
                "tune": Option(whole(1), 1000, "steps of each chain that adapt the sampler and are thrown away"),
                "sampler": Option(
                    named("nutpie", "pymc", None), None, "library that samples; None takes nutpie where it is installed"
                ),
                "progress": PROGRESS,
            },
        ),
    )
}
"""Every method by name, in order of preference: `choose` takes the first that fits and has a reason."""
