"""The posterior density of a model's hyperparameters, many at a time, without a compiler.

PyMC's own graph gives the prior on the unconstrained scale and the scales it implies; the graph is vectorised
over nodes and run call by call, which starts at once. The evidence is plain NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from bayesinv.axes import Array, Index
from bayesinv.covariance.covariance import Structure
from bayesinv.evidence.gaussian import Likelihood
from bayesinv.evidence.gradient import FactorisedDensity
from bayesinv.evidence.graph import BOUND_SLACK
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.memory import Memory, cached_property
from bayesinv.prior.form import Form, others_observed, signature
from bayesinv.prior.graphs import GRAPH_LOCK
from bayesinv.prior.observation import Observation
from bayesinv.prior.observation import observation as observation_of
from bayesinv.prior.vectorised import GRAPH_FUNCTIONS, with_lambda, with_numbers
from bayesinv.problem.problem import Problem

if TYPE_CHECKING:
    import pymc as pm


T = TypeVar("T")

Numbered = Callable[[list[Array]], Callable[[list[Array], int], list[Array]]]
"""What `with_numbers` returns."""

STRUCTURE_DECIMALS = 11
"""Decimals of a structural coordinate to which structures are told apart."""

MAX_VARIANCE = 1e200
"""Largest variance, and inverse of the smallest, at which the evidence is evaluated."""


@dataclass(frozen=True, eq=False)
class Density:
    """Log posterior density of the free hyperparameters of a model, on PyMC's unconstrained scale.

    model : the PyMC model
    observation : the recording and the currents that the model observes
    """

    model: pm.Model = field(repr=False)
    observation: Observation = field(repr=False)

    @classmethod
    def of(cls, model: pm.Model) -> Density:
        """Read a model.

        Raises
        ------
        ValueError
            If it observes no recording, has free discrete variables, or a variable named "lambda" or "snr".
        """
        density = cls(model, observation_of(model))
        discrete = [variable.name for variable in model.free_RVs if variable.dtype.startswith(("int", "bool"))]
        if discrete:
            raise ValueError(f"{discrete[0]} is discrete; hyperparameters must be continuous")
        for variable in [*model.free_RVs, *model.deterministics]:
            if variable.name in ("lambda", "snr"):
                raise ValueError(
                    f"{variable.name!r} is what the posterior calls its own ratio of scales; rename your variable"
                )
        return density

    def again(self, problem: Problem) -> Density:
        """The density given other samples of the same sensors and sources, under the same prior."""
        other = Density(self.model, self.observation.again(problem))
        for name in ("_functions", "_initial_point"):
            vars(other)[name] = getattr(self, name)
        return other

    def given(self, base: Structure) -> Density:
        """The density where what is not learned of the structure is another; what the model says is read once."""
        other = Density(self.model, replace(self.observation, base=base))
        for name in ("_functions", "_initial_point", "_runs", "shapes", "names", "start", "structural", "_scales"):
            vars(other)[name] = getattr(self, name)
        return other

    @cached_property
    def _functions(self) -> tuple[Memory, Hashable, list[Any]]:
        """Memory and key of the functions of this model's form, and its constants that are the form's numbers."""
        found = signature(self.model, self.observation)
        if found is None:
            return Memory("functions of one model"), (), []
        return GRAPH_FUNCTIONS, *found

    @cached_property
    def _form(self) -> Form:
        with GRAPH_LOCK:
            return Form.of(self.model, self.observation, self._functions[2])

    @cached_property
    def _numbers(self) -> list[Array]:
        return [one.data for one in self._functions[2]]

    def remembered(self, name: str, make: Callable[[], T], *, by_numbers: bool = False) -> T:
        """What `make` gives, under a name; made once for all models of this form, whatever they observe.

        by_numbers : whether it depends on the numbers that a problem gives the form
        """
        memory, key, _ = self._functions
        with GRAPH_LOCK:
            return memory.recall(name, (key, *(one.tobytes() for one in self._numbers)) if by_numbers else key, make)

    @cached_property
    def _runs(self) -> dict[str, Callable[[list[Array], int], list[Array]]]:
        return {}

    def _run(self, name: str, make: Callable[[], Numbered]) -> Callable[[list[Array], int], list[Array]]:
        """The function that `make` gives of the form's numbers, remembered by a name, at those of this model."""
        if name not in self._runs:
            self._runs[name] = self.remembered(name, make)(self._numbers)
        return self._runs[name]

    @cached_property
    def _initial_point(self) -> list[Array]:
        """The unconstrained value at which each free random variable starts."""

        def make() -> Numbered:
            return with_numbers([], self._form.initial_points(), self._form.numbers)

        return [one[0] for one in self._run("start", make)([], 1)]

    @cached_property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shape of the unconstrained value of each free random variable."""
        return [one.shape for one in self._initial_point]

    @cached_property
    def values(self) -> list[Any]:
        """PyMC's unconstrained value variables of the free hyperparameters."""
        return [self.model.rvs_to_values[variable] for variable in self.model.free_RVs]

    @cached_property
    def names(self) -> list[str]:
        """One name per unconstrained coordinate."""
        names = []
        for value, shape in zip(self.values, self.shapes, strict=True):
            names += [f"{value.name}[{i}]" for i in range(math.prod(shape))] if shape else [value.name]
        return names

    @cached_property
    def coordinates(self) -> list[Index]:
        """Unconstrained coordinates of each free random variable."""
        sizes = [math.prod(shape) for shape in self.shapes]
        return np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1]) if sizes else []

    @property
    def dimension(self) -> int:
        """Number of free scalar hyperparameters."""
        return len(self.names)

    @cached_property
    def proper(self) -> bool:
        """Whether every prior has a density that integrates to one, without which there is no evidence."""
        return not any(type(rv.owner.op).__name__ in ("FlatRV", "HalfFlatRV") for rv in self.model.free_RVs)

    @cached_property
    def start(self) -> Array:
        """PyMC's initial point, unconstrained: (coordinate,)."""
        return np.concatenate([np.ravel(one) for one in self._initial_point] or [np.zeros(0)]).astype(float)

    def _outputs(self) -> list[Any]:
        """Prior log density, source variance and noise scale, in the model's value variables."""
        others = others_observed(self.model, self.observation)
        if not others:
            return self._form.scales()
        terms = [*self.model.free_RVs, *others, *self.model.potentials]
        return [
            self.model.logp(vars=terms, sum=True),
            *self._form.in_values([self._form.variance, self._form.noise]),
        ]

    def log_prior(self, number: int, nodes: Array) -> Array:
        """Log prior density of one free random variable given those it depends on, unconstrained, at nodes.

        It is (node, element) where the variable's elements are independent given these, else (node,).

        number : of the variable among the free ones
        """
        return self._at(f"prior {number}", lambda: [self._form.log_prior(number)])(nodes)[0]

    @cached_property
    def structural(self) -> tuple[int, ...]:
        """Indices of the coordinates on which the structure depends."""
        if not self.observation.learned:
            return ()
        start = self.start + 0.01
        shifted = start + 0.3 * np.eye(self.dimension)
        both = self._structure_values(np.concatenate([start[None], shifted]))
        found = [
            i
            for i in range(self.dimension)
            if any(not np.allclose(many[i + 1], many[0], rtol=1e-9, atol=0) for many in both)
        ]
        return tuple(found)

    def _at(self, name: str, graphs: Callable[[], list[Any]]) -> Callable[[Array], list[Array]]:
        """A function of unconstrained nodes (node, coordinate), by name: what graphs of the value variables give."""
        run = self._run(name, lambda: with_numbers(self._form.values, graphs(), self._form.numbers))
        return lambda nodes: run(self._parts(nodes), len(nodes))

    def _parts(self, nodes: Array) -> list[Array]:
        """Values (node, ...) of each free random variable at unconstrained nodes (node, coordinate)."""
        return [nodes[:, at].reshape(len(nodes), *shape) for at, shape in zip(self._slices, self.shapes, strict=True)]

    @cached_property
    def _slices(self) -> list[slice]:
        ends = np.cumsum([0, *(math.prod(shape) for shape in self.shapes)])
        return [slice(int(a), int(b)) for a, b in pairwise(ends)]

    @cached_property
    def _scales(self) -> Callable[[Array], list[Array]]:
        """A function from nodes to prior log density, source variance and noise scale."""
        return self._at("scales", self._outputs)

    @cached_property
    def _structure_values(self) -> Callable[[Array], list[Array]]:
        """A function from nodes to the learned fields of the structure, and to the numbers that have bounds."""
        return self._at("shapes", lambda: self._form.in_values([*self._form.learned, *self._form.ranged]))

    def prior_and_scales(self, nodes: Array) -> tuple[Array, Array, Array]:
        """Log prior density, source variance and noise scale, each (node,), at unconstrained nodes."""
        prior, variance, noise = self._scales(nodes)
        return prior, variance, noise

    def scales(self, nodes: Array) -> tuple[Array, Array]:
        """Source variance and noise scale, each (node,), at unconstrained nodes."""
        return self.prior_and_scales(nodes)[1:]

    def prior(self, nodes: Array) -> Array:
        """Log prior density (node,) at unconstrained nodes."""
        return self._scales(nodes)[0]

    def unconstrained(self, values: list[Array]) -> Array:
        """Nodes (node, coordinate) from hyperparameters on their own scale: (node, ...) per free random variable."""
        run = self._run(
            "unconstrained", lambda: with_numbers(self._form.free, self._form.unconstrained(), self._form.numbers)
        )
        found = run(values, len(values[0]))
        return np.concatenate([one.reshape(len(one), -1) for one in found], axis=1)

    def draw(self, count: int, rng: np.random.Generator) -> dict[str, Array]:
        """Draws from the prior of each free random variable by name, (draw, ...), on its own scale."""
        if not self.model.free_RVs:
            return {}
        draws = self.remembered("draws", lambda: self._form.drawing())(self._numbers, count, int(rng.integers(2**31)))
        return {variable.name: one for variable, one in zip(self.model.free_RVs, draws, strict=True)}

    def structural_nodes(self, nodes: Array) -> tuple[Array, Index]:
        """Distinct structural coordinates of nodes (structure, coordinate), and the index of each node's (node,)."""
        if not self.structural:
            return np.zeros((1, 0)), np.zeros(len(nodes), dtype=np.int64)
        found = np.round(nodes[:, list(self.structural)], STRUCTURE_DECIMALS)
        # Nodes of a lattice lie structure by structure: a run of equal ones is sorted as one.
        first = np.ones(len(found), dtype=bool)
        first[1:] = (found[1:] != found[:-1]).any(axis=1)
        coordinates, which = np.unique(found[first], axis=0, return_inverse=True)
        which = which.reshape(-1)[np.cumsum(first) - 1]
        return coordinates, which.astype(np.int64)

    def structures(self, coordinates: Array) -> list[Structure]:
        """Structures at structural coordinates (structure, coordinate).

        Raises
        ------
        ValueError
            If a number lies outside its bounds.
        """
        if not self.structural:
            if not self.observation.learned:
                return [self.observation.base]
            coordinates = np.zeros((1, 0))
        nodes = np.repeat(self.start[None], len(coordinates), axis=0)
        nodes[:, list(self.structural)] = coordinates
        return self._structures_of(self._structure_values(nodes))

    def _structures_of(self, values: list[Array]) -> list[Structure]:
        """Structures of the learned fields and bounded numbers that `_structure_values` gives, which are checked."""
        values = list(values)
        for name, _, low, high in reversed(self.observation.bounded):
            value = values.pop()
            slack = BOUND_SLACK * (high - low)
            outside = (value < low - slack) | (value > high + slack)
            if outside.any():
                raise ValueError(
                    f"{name} reaches {value[outside][0]:.3g}, but must stay between {low:.3g} and {high:.3g}; give it "
                    "a prior within that range, such as pm.Uniform or pm.Beta"
                )
        found = [
            self.observation.structure(
                {name: value[i] for name, value in zip(self.observation.learned, values, strict=True)}
            )
            for i in range(len(values[0]))
        ]
        # Interpolating Gram matrices over a learned exponent pays, unless weights change with every structure.
        tabled = "depth" in self.observation.learned and "weights" not in self.observation.learned
        return [replace(one, tabled=True) for one in found] if tabled else found

    def spectrum_of(self, structure: Structure) -> Any:
        """What gives the likelihood of the recording under a structure, and its slope by a time constant."""
        return Spectrum.of(self.observation.problem, structure)

    @cached_property
    def _likelihoods(self) -> dict[bytes, Likelihood]:
        return {}

    def likelihoods(self, coordinates: Array) -> list[Likelihood]:
        """Likelihood of the recording under each structure; a structure is decomposed once."""
        keys = [one.tobytes() for one in coordinates]
        new = [i for i, key in enumerate(keys) if key not in self._likelihoods]
        step = max(1, int(1e7 / self.observation.problem.gain.shape[1]))
        for start in range(0, len(new), step):
            some = new[start : start + step]
            for i, structure in zip(some, self.structures(coordinates[some]), strict=True):
                self._likelihoods[keys[i]] = self.spectrum_of(structure).likelihood
        return [self._likelihoods[key] for key in keys]

    def __call__(self, nodes: Array) -> Array:
        """Log prior times likelihood (node,) at unconstrained nodes; -inf where it is not defined."""
        prior, found_variance, found_noise = self._scales(nodes)
        # Scales that overflow are clipped: the range of doubles must not be taken for the support of the posterior.
        variance = np.minimum(found_variance, MAX_VARIANCE)
        noise = np.clip(found_noise, 1 / np.sqrt(MAX_VARIANCE), np.sqrt(MAX_VARIANCE))
        defined = np.isfinite(prior) & (found_variance >= 0) & (found_noise >= 0)
        out = np.full(len(nodes), -np.inf)
        if defined.any():
            coordinates, which = self.structural_nodes(nodes[defined])
            log_likelihood = np.empty(len(which))
            of_each: list[Any] = [slice(None)]
            if len(coordinates) > 1:
                order = np.argsort(which, kind="stable")
                of_each = np.split(order, np.cumsum(np.bincount(which, minlength=len(coordinates)))[:-1])
            scales, levels = variance[defined], noise[defined]
            for likelihood, members in zip(self.likelihoods(coordinates), of_each, strict=True):
                log_likelihood[members] = likelihood.log_likelihood(scales[members], levels[members])
                if self.observation.baseline is not None:
                    log_likelihood[members] += likelihood.baseline_log_likelihood(levels[members])
            out[defined] = prior[defined] + log_likelihood
        return np.where(np.isnan(out), -np.inf, out)

    def slope(self, node: Array) -> tuple[float, Array]:
        """Log density and its gradient (coordinate,) at one unconstrained node.

        Evaluating the prior's graph costs almost nothing, so its derivatives are finite differences.
        """
        first = list(self.structural)
        node = node.copy()
        # As where structures are told apart, so that one is decomposed once.
        node[first] = np.round(node[first], STRUCTURE_DECIMALS)
        step = np.maximum(1e-5 * np.abs(node), 1e-5)
        around = np.concatenate([node[None], node + np.diag(step), node - np.diag(step)])
        numbers = self._scales(around)
        prior, variance, noise = (float(one[0]) for one in numbers)
        if not (np.isfinite(prior) and 0 < variance < MAX_VARIANCE and 0 < noise < np.sqrt(MAX_VARIANCE)):
            return -np.inf, np.zeros(len(node))
        shapes = self._structure_values(around) if self.observation.learned else []
        structure = self._structures_of([one[:1] for one in shapes])[0] if shapes else self.observation.base
        problem, baseline = self.observation.problem, self.observation.baseline is not None
        by: list[Any]
        if structure.time is not None:
            spectrum = self.spectrum_of(structure)
            likelihood = spectrum.likelihood if baseline else replace(spectrum.likelihood, baseline_power=None)
            at = np.array([variance]), np.array([noise])
            log_density = float(likelihood.log_likelihood(*at)[0] + likelihood.baseline_log_likelihood(at[1])[0])
            by, gram = list(likelihood.slopes(variance, noise)), None
            # The time constant's derivative needs neither.
            wanted = any(name != "time" for name in self.observation.learned)
            by_gram = by_noise = np.zeros((0, 0))
            if wanted:
                by_gram, by_noise = spectrum.sensitivity(variance, noise, baseline=baseline)
        else:
            factorised = FactorisedDensity.of(problem, structure, variance, noise, baseline=baseline)
            log_density, gram = factorised.log_density, factorised.gram
            by_gram, by_noise = factorised.by_gram, factorised.by_noise
            by = [factorised.by_variance, factorised.by_scale]
        for name in self.observation.learned:
            if name == "time":
                by.append(spectrum.slope_by_time(variance, noise))
            else:
                by.append(structure.slope(problem, name, by_gram, by_noise, gram))
        if self.observation.learned:
            numbers = [*numbers, *shapes[: len(self.observation.learned)]]
        size = len(node)
        out = np.zeros(size)
        for slope, values in zip([1.0, *by], numbers, strict=True):
            change = (values[1 : size + 1] - values[size + 1 :]).reshape(size, np.size(slope))
            out += change @ np.ravel(slope) / (2 * step)
        return prior + log_density, out

    def learned(self, nodes: Array) -> dict[str, Array]:
        """What is learned of the structure, by field, each (node, ...), at unconstrained nodes."""
        if not self.observation.learned:
            return {}
        return dict(zip(self.observation.learned, self._structure_values(nodes), strict=False))

    def _pulled(self) -> Numbered:
        import pytensor.tensor as pt

        form = self._form
        prior, *numbers = [*self._outputs(), *form.in_values(form.learned)]
        by = [pt.tensor(f"by {i}", shape=one.type.shape, dtype="float64") for i, one in enumerate(numbers)]
        total = prior + sum(pt.sum(slope * one) for slope, one in zip(by, numbers, strict=True))
        slopes: Any = pt.grad(total, form.values, disconnected_inputs="ignore")
        return with_numbers([*form.values, *by], slopes, form.numbers, simplified=True)

    def pulled(self, nodes: Array, by_variance: Array, by_noise: Array, by_learned: Mapping[str, Array]) -> Array:
        """Gradient (node, coordinate) of the log prior plus a function, of which the derivatives are given, of

        by_variance, by_noise : (node,), source variance and noise scale
        by_learned : (node, ...), each field that is learned
        """
        given = [by_variance, by_noise, *(by_learned[name] for name in self.observation.learned)]
        found = self._run("pulled", self._pulled)([*self._parts(nodes), *given], len(nodes))
        return np.concatenate([one.reshape(len(nodes), -1) for one in found], axis=1)

    @cached_property
    def _hyper(self) -> tuple[list[str], Callable[[Array], list[Array]]]:
        variables = [*self.model.free_RVs, *self.model.deterministics]

        def graphs() -> list[Any]:
            return self._form.in_values([*self._form.free, *self._form.deterministics]) if variables else []

        return [variable.name for variable in variables], self._at("hyper", graphs)

    def hyper(self, nodes: Array) -> dict[str, Array]:
        """Every hyperparameter and deterministic on its own scale, (node, ...), with λ and SNR."""
        names, at = self._hyper
        out = dict(zip(names, at(nodes), strict=True)) if names else {}
        variance, noise = self.scales(nodes)
        return with_lambda(out, variance, noise, self.observation.mean_power)
