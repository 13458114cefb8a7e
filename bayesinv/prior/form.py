"""The form of a model: its prior with the numbers of one problem taken out, which models in any units share.

A number that was worked out from a problem, the guess of a scale in its units for example, is an input of all graphs.
Functions made of them serve every model of the form, each called with the model's own numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesinv.axes import Array
from bayesinv.prior.observation import Observation

if TYPE_CHECKING:
    import pymc as pm


FORMAL_STEP, FORMAL_MAX = 0.125, 1000.0
"""Constants that are multiples of the first, up to the second, are the form's own: exponents, bounds and factors of
formulas are among them.

What is one by chance gives the right result too: it stays in the graphs, whose functions then serve fewer models.
"""


@dataclass(frozen=True, eq=False)
class Form:
    """The graphs of a model's prior, of which the numbers of a problem are inputs.

    free : random variables that are not observed
    values, transforms : of each, its unconstrained value variable, and its transform, None where there is none
    starts : of each, how it starts, None for what PyMC chooses
    given : value by random variable, of all there are
    deterministics, potentials : as the model has them
    variance, noise, learned : what `Observation` has
    ranged : graphs of the numbers that have bounds
    numbers : inputs that stand for the problem's numbers
    """

    free: list[Any]
    values: list[Any]
    transforms: list[Any]
    starts: list[Any]
    given: dict[Any, Any]
    deterministics: list[Any]
    potentials: list[Any]
    variance: Any
    noise: Any
    learned: list[Any]
    ranged: list[Any]
    numbers: list[Any]

    @classmethod
    def of(cls, model: pm.Model, observation: Observation, constants: list[Any]) -> Form:
        """The form of a model in which some constants of its graphs are taken out."""
        from pytensor.graph.basic import clone_get_equiv

        numbers = [one.type(name=f"number {i}") for i, one in enumerate(constants)]
        graphs = [
            *(model.free_RVs + model.deterministics + model.potentials),
            *(observation.variance, observation.noise, *observation.learned.values()),
            *(one for _, one, _, _ in observation.bounded),
        ]
        # All at once: a random variable that two graphs have in common is one in their copies too.
        taken: dict[Any, Any] = dict(zip(constants, numbers, strict=True))
        new = clone_get_equiv([], graphs, copy_inputs=False, copy_orphans=False, memo=taken) if constants else {}

        def all_of(graphs: Any) -> list[Any]:
            return [new.get(one, one) for one in graphs]

        return cls(
            all_of(model.free_RVs),
            [model.rvs_to_values[one] for one in model.free_RVs],
            [model.rvs_to_transforms[one] for one in model.free_RVs],
            [model.rvs_to_initial_values[one] for one in model.free_RVs],
            {new.get(one, one): value for one, value in model.rvs_to_values.items()},
            all_of(model.deterministics),
            all_of(model.potentials),
            new.get(observation.variance, observation.variance),
            new.get(observation.noise, observation.noise),
            all_of(observation.learned.values()),
            all_of(one for _, one, _, _ in observation.bounded),
            numbers,
        )

    def in_values(self, graphs: list[Any]) -> list[Any]:
        """Graphs in which the unconstrained value variables stand for the random variables.

        Raises
        ------
        ValueError
            If they hold a random variable that is not the model's: it would be drawn anew and not be given.
        """
        from pymc.logprob.utils import replace_rvs_by_values
        from pytensor.graph.traversal import graph_inputs

        transforms = dict(zip(self.free, self.transforms, strict=True))
        found = list(replace_rvs_by_values(graphs, rvs_to_values=self.given, rvs_to_transforms=transforms))
        if any("andom" in type(one.type).__name__ for one in graph_inputs(found)):
            raise ValueError(
                "the model uses a random variable that is none of its own, such as one made with .dist(); "
                "hyperparameters need names, as in pm.HalfNormal('scale', 1)"
            )
        return found

    def terms(self, number: int) -> list[Any]:
        """Log density of a free random variable given its parents, and log Jacobian of its transform, if any."""
        import pymc as pm

        variable, value, transform = self.free[number], self.values[number], self.transforms[number]
        if transform is None:
            return [pm.logp(variable, value)]
        inputs = variable.owner.inputs
        return [
            pm.logp(variable, transform.backward(value, *inputs)),
            transform.log_jac_det(value, *inputs),
        ]

    def log_prior(self, number: int) -> Any:
        """Log density of a free random variable given its parents, unconstrained, in the value variables.

        Of its elements (element,) where these are independent given the parents, else of all together.
        """
        import pytensor.tensor as pt

        terms, dimensions = self.terms(number), self.values[number].type.ndim
        separate = all(one.type.ndim == dimensions for one in terms)
        total = pt.flatten(sum(terms)) if separate else sum(map(pt.sum, terms))
        return self.in_values([total])[0]

    def scales(self) -> list[Any]:
        """Log density of the free random variables, and potentials; source variance; noise scale: in the values.

        The density is that of `pm.Model.logp`, without its passes over the graph, which this does not need.
        """
        import pytensor.tensor as pt

        terms = [pt.sum(one) for number in range(len(self.free)) for one in self.terms(number)]
        prior = sum([*terms, *(pt.sum(one) for one in self.potentials)], pt.constant(0.0))
        return self.in_values([prior, self.variance, self.noise])

    def initial_points(self) -> list[Any]:
        """The unconstrained value at which each free random variable starts."""
        from pymc.initial_point import make_initial_point_expression
        from pytensor.graph.replace import graph_replace
        from pytensor.graph.traversal import graph_inputs

        points = make_initial_point_expression(
            free_rvs=self.free,
            rvs_to_transforms=dict(zip(self.free, self.transforms, strict=True)),
            initval_strategies=dict(zip(self.free, self.starts, strict=True)),
            return_transformed=True,
        )
        # PyMC works on a copy, whose inputs have the names of those that they are copies of.
        named = {one.name: one for one in self.numbers}
        copies: dict[Any, Any] = {one: named[one.name] for one in graph_inputs(points) if one.name in named}
        return list(graph_replace(points, copies, strict=False)) if copies else list(points)

    def unconstrained(self) -> list[Any]:
        """The unconstrained value of each free random variable, in the random variables themselves."""
        return [
            one if transform is None else transform.forward(one, *one.owner.inputs)
            for one, transform in zip(self.free, self.transforms, strict=True)
        ]

    def drawing(self) -> Callable[[list[Array], int, int], list[Array]]:
        """A function from numbers, count and seed to draws (draw, ...) of each free random variable.

        They are those of `pm.draw`, which would make a function each time.
        """
        from pymc.pytensorf import collect_default_updates, compile, reseed_rngs

        # Few draws of a small graph: compiling it would take longer than it saves.
        run = compile(self.numbers, self.free, mode="FAST_COMPILE", on_unused_input="ignore")
        generators: Any = list(collect_default_updates(outputs=self.free))
        # The state of the generators belongs to one run of draws at a time.
        one_at_a_time = Lock()

        def draw(numbers: list[Array], count: int, seed: int) -> list[Array]:
            with one_at_a_time:
                reseed_rngs(generators, seed)
                drawn = [run(*numbers) for _ in range(count)]
            return [np.array(one, dtype=float) for one in zip(*drawn, strict=True)]

        return draw


def signature(model: pm.Model, observation: Observation) -> tuple[Hashable, list[Any]] | None:
    """Return a hashable description of a model's prior and what it says of the structure, and the constants left out.

    Two models of one description have the same names, priors, transforms and graphs, and the same constants but for
    those left out, which correspond one to one: functions compiled for the form of one serve the other. None where
    there is no description.
    """
    from pytensor.graph.basic import Constant, Variable

    notes = _Notes([])
    visit = notes.visit
    priors: list[Hashable] = []
    for variable in model.free_RVs:
        transform = model.rvs_to_transforms[variable]
        bounds = getattr(transform, "args_fn", None)
        inside = [cell.cell_contents for cell in getattr(bounds, "__closure__", None) or ()]
        if any(isinstance(one, Variable) and not isinstance(one, Constant) for one in inside):
            return None
        noted = tuple(_value(one.data) if isinstance(one, Constant) else repr(one) for one in inside)
        priors.append((variable.name, type(transform), getattr(bounds, "__code__", None), noted, visit(variable)))
    outputs = [
        *(model.deterministics + model.potentials),
        *(observation.variance, observation.noise, *observation.learned.values()),
        *(one for _, one, _, _ in observation.bounded),
    ]
    found = (
        tuple(priors),
        tuple((one.name, visit(one)) for one in outputs),
        (len(model.deterministics), len(model.potentials), tuple(observation.learned)),
        tuple(notes.lines),
    )
    custom_start = any(one is not None for one in model.rvs_to_initial_values.values())
    try:
        hash(found)
    except TypeError:
        return None
    return None if custom_start or others_observed(model, observation) else (found, notes.constants)


def others_observed(model: pm.Model, observation: Observation) -> list[Any]:
    """Random variables that a model observes beside the recording and its baseline."""
    ours = {observation.recording, observation.baseline, *model.free_RVs}
    return [one for one in model.basic_RVs if one not in ours]


class _Notes:
    """Numbered notes on the variables of a graph, so that two graphs of the same notes compute the same.

    inputs : variables of which the graph is a function
    constants : those found of which the notes say only that they are numbers
    """

    def __init__(self, inputs: list[Any], takes_out: bool = True) -> None:
        self.numbers: dict[Any, int] = {one: i for i, one in enumerate(inputs)}
        self.lines: list[Hashable] = [str(one.type) for one in inputs]
        self.constants: list[Any] = []
        self.takes_out = takes_out

    def visit(self, variable: Any) -> int:
        """Number of a variable, which gets a note if it has none."""
        from pytensor.compile.sharedvalue import SharedVariable
        from pytensor.graph.basic import Constant

        if variable in self.numbers:
            return self.numbers[variable]
        if variable.owner is not None:
            inputs = tuple(self.visit(one) for one in variable.owner.inputs)
            note: Hashable = (_operation(variable.owner.op), inputs, variable.owner.outputs.index(variable))
        elif isinstance(variable, Constant):
            if self.takes_out and _of_a_problem(variable.data):
                self.constants.append(variable)
                note = (str(variable.type), "number")
            else:
                note = (str(variable.type), _value(variable.data))
        elif "andom" in type(variable.type).__name__:
            note = "random numbers"
        elif isinstance(variable, SharedVariable) and isinstance(value := variable.get_value(borrow=True), np.ndarray):
            # Lengths of dims, say: every model has its own, and `vectorised` takes them as they are.
            note = ("shared", str(variable.type), value.tobytes())
        else:
            note = id(variable)
        self.numbers[variable] = len(self.lines)
        self.lines.append(note)
        return self.numbers[variable]


def _of_a_problem(value: Any) -> bool:
    """Whether a constant is a number, or an array of numbers, that may be another in another problem."""
    if not (isinstance(value, np.ndarray) and value.dtype == np.float64 and np.isfinite(value).all()):
        return False
    return bool(((value % FORMAL_STEP != 0) | (np.abs(value) > FORMAL_MAX)).any())


def _value(data: Array | Any) -> Hashable:
    """Value of a constant; arrays bit by bit."""
    return data.tobytes() if isinstance(data, np.ndarray) else repr(data)


def _operation(op: Any) -> Hashable:
    """An operation; of one that is made of a graph (HalfCauchy, say), its class and the notes on that graph.

    Operations made of two copies of a graph do not compare equal.
    """
    graph = getattr(op, "fgraph", None)
    if graph is None:
        return op
    inside = _Notes(graph.inputs, takes_out=False)
    return type(op), tuple(inside.visit(one) for one in graph.outputs), tuple(inside.lines)
