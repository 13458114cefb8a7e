"""The posterior density of a model's hyperparameters, many at a time, without a compiler.

PyMC's own graph gives the prior on the unconstrained scale and the scales it implies; the graph is vectorised
over nodes and run by PyTensor's Python linker, which starts at once. The evidence is plain NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from bayesinv.axes import Array, Index
from bayesinv.covariance.covariance import Structure
from bayesinv.evidence.gaussian import Likelihood
from bayesinv.evidence.gradient import FactorisedDensity
from bayesinv.evidence.graph import BOUND_SLACK
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.memory import Memory, cached_property
from bayesinv.prior.graphs import GRAPH_LOCK
from bayesinv.prior.observation import Observation
from bayesinv.prior.observation import observation as observation_of
from bayesinv.prior.vectorised import GRAPH_FUNCTIONS, signature, vectorised, with_lambda
from bayesinv.problem.problem import Problem

if TYPE_CHECKING:
    import pymc as pm


T = TypeVar("T")

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
        return Density(self.model, self.observation.again(problem))

    @cached_property
    def _functions(self) -> tuple[Memory, Hashable]:
        """Memory and key of the functions of this model's graphs; models of the same prior share them.

        What else a model observes is part of the density and not of the key, so that such a model shares nothing.
        """
        others = set(self.model.observed_RVs) - {self.observation.recording, self.observation.baseline}
        graphs = [self.observation.variance, self.observation.noise, *self.observation.learned.values()]
        key = None if others else signature(self.model, graphs)
        if key is None:
            return Memory("functions of one model"), ()
        return GRAPH_FUNCTIONS, (key, tuple(self.observation.learned))

    def remembered(self, name: str, make: Callable[[], T]) -> T:
        """What `make` gives, under a name; made once for all models of this prior, whatever they observe."""
        memory, key = self._functions
        with GRAPH_LOCK:
            return memory.recall(name, key, make)

    @cached_property
    def _initial_point(self) -> dict[str, Array]:
        def make() -> dict[str, Array]:
            from pymc.initial_point import make_initial_point_fn

            return dict(make_initial_point_fn(model=self.model)(None)) if self.model.free_RVs else {}

        return self.remembered("start", make)

    @cached_property
    def values(self) -> list[Any]:
        """PyMC's unconstrained value variables of the free hyperparameters."""
        return [self.model.rvs_to_values[variable] for variable in self.model.free_RVs]

    @cached_property
    def names(self) -> list[str]:
        """One name per unconstrained coordinate."""
        names = []
        for value in self.values:
            size = int(np.size(self._initial_point[value.name]))
            scalar = np.ndim(self._initial_point[value.name]) == 0
            names += [value.name] if scalar else [f"{value.name}[{i}]" for i in range(size)]
        return names

    @cached_property
    def coordinates(self) -> list[Index]:
        """Unconstrained coordinates of each free random variable."""
        sizes = [int(np.size(self._initial_point[value.name])) for value in self.values]
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
        parts = [np.ravel(self._initial_point[value.name]) for value in self.values]
        return np.concatenate(parts or [np.zeros(0)]).astype(float)

    @cached_property
    def _outputs(self) -> list[Any]:
        """Prior log density, source variance and noise scale, in the model's value variables."""
        observed = {self.observation.recording, self.observation.baseline}
        terms = [variable for variable in self.model.basic_RVs if variable not in observed] + self.model.potentials
        scales = [self.observation.variance, self.observation.noise]
        if set(terms) <= {*self.model.free_RVs, *self.model.potentials}:
            return list(self.model.replace_rvs_by_values([self._prior(), *scales]))
        return [self.model.logp(vars=terms, sum=True), *self.model.replace_rvs_by_values(scales)]

    def _prior(self) -> Any:
        """Log density of the free random variables, and potentials, in their unconstrained values.

        The same as `model.logp`, without its passes over the graph, which this does not need.
        """
        import pytensor.tensor as pt

        terms = [pt.sum(one) for variable in self.model.free_RVs for one in self._terms(variable)]
        return sum([*terms, *(pt.sum(one) for one in self.model.potentials)], pt.constant(0.0))

    def _terms(self, variable: Any) -> list[Any]:
        """Log density of a free random variable given its parents, and log Jacobian of its transform, if any."""
        import pymc as pm

        value, transform = self.model.rvs_to_values[variable], self.model.rvs_to_transforms[variable]
        if transform is None:
            return [pm.logp(variable, value)]
        inputs = variable.owner.inputs
        return [
            pm.logp(variable, transform.backward(value, *inputs)),
            transform.log_jac_det(value, *inputs),
        ]

    def log_prior(self, number: int, nodes: Array) -> Array:
        """Log prior density of one free random variable given those it depends on, unconstrained, at nodes.

        It is (node, element) where the variable's elements are independent given these, else (node,).

        number : of the variable among the free ones
        """

        def make() -> Callable[[Array], list[Array]]:
            import pytensor.tensor as pt

            terms, dimensions = self._terms(self.model.free_RVs[number]), self.values[number].type.ndim
            separate = all(one.type.ndim == dimensions for one in terms)
            total = pt.flatten(sum(terms)) if separate else sum(map(pt.sum, terms))
            return self._function(self.model.replace_rvs_by_values([total]))

        return self.remembered(f"prior {number}", make)(nodes)[0]

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

    def _function(self, outputs: list[Any]) -> Callable[[Array], list[Array]]:
        """Return a function of unconstrained nodes (node, coordinate) that evaluates graphs of the value variables."""
        shapes = [np.shape(self._initial_point[value.name]) for value in self.values]
        cuts = np.cumsum([int(np.prod(shape)) for shape in shapes])[:-1]
        run = vectorised(self.values, outputs)

        def at(nodes: Array) -> list[Array]:
            parts = np.split(nodes, cuts, axis=1) if shapes else []
            given = [part.reshape(len(nodes), *shape) for part, shape in zip(parts, shapes, strict=True)]
            return run(given, len(nodes))

        return at

    @cached_property
    def _scales(self) -> Callable[[Array], list[Array]]:
        """A function from nodes to prior log density, source variance and noise scale."""
        return self.remembered("scales", lambda: self._function(self._outputs))

    @cached_property
    def _structure_values(self) -> Callable[[Array], list[Array]]:
        """A function from nodes to the learned fields of the structure, and to the numbers that have bounds."""
        wanted = [*self.observation.learned.values(), *(graph for _, graph, _, _ in self.observation.bounded)]
        return self.remembered("shapes", lambda: self._function(self.model.replace_rvs_by_values(wanted)))

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
        graphs = []
        with GRAPH_LOCK:
            for variable in self.model.free_RVs:
                transform = self.model.rvs_to_transforms[variable]
                graphs.append(variable if transform is None else transform.forward(variable, *variable.owner.inputs))
            run = vectorised(self.model.free_RVs, graphs)
        found = run(values, len(values[0]))
        return np.concatenate([one.reshape(len(one), -1) for one in found], axis=1)

    def structural_nodes(self, nodes: Array) -> tuple[Array, Index]:
        """Distinct structural coordinates of nodes (structure, coordinate), and the index of each node's (node,)."""
        if not self.structural:
            return np.zeros((1, 0)), np.zeros(len(nodes), dtype=np.int64)
        coordinates, which = np.unique(
            np.round(nodes[:, list(self.structural)], STRUCTURE_DECIMALS), axis=0, return_inverse=True
        )
        return coordinates, which.reshape(-1).astype(np.int64)

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
                self._likelihoods[keys[i]] = Spectrum.of(self.observation.problem, structure).likelihood
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
            order = np.argsort(which, kind="stable")
            ends = np.cumsum(np.bincount(which, minlength=len(coordinates)))[:-1]
            scales, levels = variance[defined], noise[defined]
            for likelihood, members in zip(self.likelihoods(coordinates), np.split(order, ends), strict=True):
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
            spectrum = Spectrum.of(problem, structure)
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
                by.append(Spectrum.of(problem, structure).slope_by_time(variance, noise))
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

    @cached_property
    def _pulled(self) -> Callable[[list[Array], int], list[Array]]:
        def make() -> Callable[[list[Array], int], list[Array]]:
            import pytensor.tensor as pt

            learned = self.model.replace_rvs_by_values(list(self.observation.learned.values()))
            prior: Any = self._outputs[0]
            numbers: list[Any] = [*self._outputs[1:], *learned]
            by = [pt.tensor(f"by {i}", shape=one.type.shape, dtype="float64") for i, one in enumerate(numbers)]
            total = prior + sum(pt.sum(slope * one) for slope, one in zip(by, numbers, strict=True))
            slopes: Any = pt.grad(total, self.values, disconnected_inputs="ignore")
            return vectorised([*self.values, *by], slopes, simplified=True)

        return self.remembered("pulled", make)

    def pulled(self, nodes: Array, by_variance: Array, by_noise: Array, by_learned: Mapping[str, Array]) -> Array:
        """Gradient (node, coordinate) of the log prior plus a function, of which the derivatives are given, of

        by_variance, by_noise : (node,), source variance and noise scale
        by_learned : (node, ...), each field that is learned
        """
        shapes = [np.shape(self._initial_point[value.name]) for value in self.values]
        parts = [nodes[:, at].reshape(len(nodes), *shape) for at, shape in zip(self.coordinates, shapes, strict=True)]
        given = [by_variance, by_noise, *(by_learned[name] for name in self.observation.learned)]
        return np.concatenate(
            [one.reshape(len(nodes), -1) for one in self._pulled([*parts, *given], len(nodes))], axis=1
        )

    @cached_property
    def _hyper(self) -> tuple[list[str], Callable[[Array], list[Array]]]:
        variables = [*self.model.free_RVs, *self.model.deterministics]

        def make() -> Callable[[Array], list[Array]]:
            return self._function(self.model.replace_rvs_by_values(variables) if variables else [])

        return [variable.name for variable in variables], self.remembered("hyper", make)

    def hyper(self, nodes: Array) -> dict[str, Array]:
        """Every hyperparameter and deterministic on its own scale, (node, ...), with λ and SNR."""
        names, at = self._hyper
        out = dict(zip(names, at(nodes), strict=True)) if names else {}
        variance, noise = self.scales(nodes)
        return with_lambda(out, variance, noise, self.observation.mean_power)
