"""The posterior density of a model's hyperparameters, many at a time, without a compiler.

PyMC's own graph gives the prior on the unconstrained scale and the scales it implies; the graph is vectorised
over nodes and run by PyTensor's Python linker, which starts at once. The evidence is plain NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesinv.axes import Array, Index
from bayesinv.currents import Observation, observation
from bayesinv.evidence import SLACK, Cells, Sight, Spectrum
from bayesinv.problem import remembered
from bayesinv.structure import DepthTable, Structure

if TYPE_CHECKING:
    import pymc as pm


FUNCTIONS: dict[Hashable, Any] = {}
"""Functions of graphs by what the graphs compute; a recording of the same sensors and sources finds its own here."""

LARGEST = 1e200
"""Largest variance, and inverse of the smallest, that the evidence is evaluated at."""


@dataclass(frozen=True, eq=False)
class Density:
    """Log posterior density of the free hyperparameters of a model, on PyMC's unconstrained scale.

    model : the PyMC model
    seen : what its recording and currents are
    """

    model: pm.Model = field(repr=False)
    seen: Observation = field(repr=False)

    @classmethod
    def of(cls, model: pm.Model) -> Density:
        """Read a model.

        Raises
        ------
        ValueError
            If it observes no recording, has free discrete variables, or a variable named "lambda" or "snr".
        """
        density = cls(model, observation(model))
        discrete = [variable.name for variable in model.free_RVs if variable.dtype.startswith(("int", "bool"))]
        if discrete:
            raise ValueError(f"{discrete[0]} is discrete; hyperparameters must be continuous")
        for variable in [*model.free_RVs, *model.deterministics]:
            if variable.name in ("lambda", "snr"):
                raise ValueError(
                    f"{variable.name!r} is what the posterior calls its own ratio of scales; rename your variable"
                )
        return density

    @cached_property
    def _functions(self) -> dict[str, Any]:
        """What has been made of graphs like this model's; models of the same prior share it."""
        key = signature(self.model, [self.seen.variance, self.seen.noise, *self.seen.learned.values()])
        return {} if key is None else remembered(FUNCTIONS, "prior", (key, tuple(self.seen.learned)), dict)

    def _made(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self._functions:
            self._functions[name] = make()
        return self._functions[name]

    @cached_property
    def _start(self) -> dict[str, Array]:
        def make() -> dict[str, Array]:
            from pymc.initial_point import make_initial_point_fn

            return dict(make_initial_point_fn(model=self.model)(None)) if self.model.free_RVs else {}

        found: dict[str, Array] = self._made("start", make)
        return found

    @cached_property
    def values(self) -> list[Any]:
        """PyMC's unconstrained value variables of the free hyperparameters."""
        return [self.model.rvs_to_values[variable] for variable in self.model.free_RVs]

    @cached_property
    def names(self) -> list[str]:
        """One name per unconstrained coordinate."""
        names = []
        for value in self.values:
            size = int(np.size(self._start[value.name]))
            names += (
                [value.name] if np.ndim(self._start[value.name]) == 0 else [f"{value.name}[{i}]" for i in range(size)]
            )
        return names

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
        return np.concatenate([np.ravel(self._start[value.name]) for value in self.values] or [np.zeros(0)]).astype(
            float
        )

    @cached_property
    def _outputs(self) -> list[Any]:
        """Prior log density, source variance and noise scale, in the model's value variables."""
        ours = {self.seen.recording, self.seen.baseline}
        terms = [variable for variable in self.model.basic_RVs if variable not in ours] + self.model.potentials
        scales = [self.seen.variance, self.seen.noise]
        if set(terms) <= {*self.model.free_RVs, *self.model.potentials}:
            return list(self.model.replace_rvs_by_values([self._prior(), *scales]))
        return [self.model.logp(vars=terms, sum=True), *self.model.replace_rvs_by_values(scales)]

    def _prior(self) -> Any:
        """Log density of the free random variables, and potentials, in their unconstrained values.

        The same as `model.logp`, without its passes over graphs that these need not.
        """
        import pymc as pm
        import pytensor.tensor as pt

        total = pt.constant(0.0)
        for variable in self.model.free_RVs:
            value, transform = self.model.rvs_to_values[variable], self.model.rvs_to_transforms[variable]
            if transform is None:
                total = total + pt.sum(pm.logp(variable, value))
                continue
            inputs = variable.owner.inputs
            total = total + pt.sum(pm.logp(variable, transform.backward(value, *inputs)))
            total = total + pt.sum(transform.log_jac_det(value, *inputs))
        return total + sum((pt.sum(one) for one in self.model.potentials), pt.constant(0.0))

    @cached_property
    def structural(self) -> tuple[int, ...]:
        """Coordinates along which the structure changes."""
        if not self.seen.learned:
            return ()
        start = self.start + 0.01
        shifted = start + 0.3 * np.eye(self.dimension)
        base, moved = self._shapes(start[None]), self._shapes(shifted)
        found = [
            i
            for i in range(self.dimension)
            if any(not np.allclose(many[i], one[0], rtol=1e-9, atol=0) for one, many in zip(base, moved, strict=True))
        ]
        return tuple(found)

    def _function(self, outputs: list[Any]) -> Callable[[Array], list[Array]]:
        """A function of unconstrained nodes (node, coordinate) that evaluates graphs of the value variables."""
        shapes = [np.shape(self._start[value.name]) for value in self.values]
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
        found: Callable[[Array], list[Array]] = self._made("scales", lambda: self._function(self._outputs))
        return found

    @cached_property
    def _shapes(self) -> Callable[[Array], list[Array]]:
        """A function from nodes to what is learned of the structure, and to what must stay within bounds."""
        wanted = [*self.seen.learned.values(), *(graph for _, graph, _, _ in self.seen.bounded)]
        made = self._made("shapes", lambda: self._function(self.model.replace_rvs_by_values(wanted)))
        found: Callable[[Array], list[Array]] = made
        return found

    def scales(self, nodes: Array) -> tuple[Array, Array]:
        """Source variance and noise scale, each (node,), at unconstrained nodes."""
        _, variance, noise = self._scales(nodes)
        return variance, noise

    def unconstrained(self, values: list[Array]) -> Array:
        """Nodes (node, coordinate) from hyperparameters on their own scale: (node, ...) per free random variable."""
        graphs = []
        for variable in self.model.free_RVs:
            transform = self.model.rvs_to_transforms[variable]
            graphs.append(variable if transform is None else transform.forward(variable, *variable.owner.inputs))
        found = vectorised(self.model.free_RVs, graphs)(values, len(values[0]))
        return np.concatenate([one.reshape(len(one), -1) for one in found], axis=1)

    def places(self, nodes: Array) -> tuple[Array, Index]:
        """Different structural coordinates among nodes (place, coordinate), and the place of every node."""
        if not self.structural:
            return np.zeros((1, 0)), np.zeros(len(nodes), dtype=np.int64)
        places, which = np.unique(np.round(nodes[:, list(self.structural)], 11), axis=0, return_inverse=True)
        return places, which.reshape(-1).astype(np.int64)

    def structures(self, places: Array) -> list[Structure]:
        """Structures at structural coordinates (place, coordinate).

        Raises
        ------
        ValueError
            If a number leaves the range that it may have.
        """
        if not self.structural:
            if not self.seen.learned:
                return [self.seen.base]
            places = np.zeros((1, 0))
        nodes = np.repeat(self.start[None], len(places), axis=0)
        nodes[:, list(self.structural)] = places
        values = self._shapes(nodes)
        for name, _, low, high in reversed(self.seen.bounded):
            place = values.pop()
            slack = SLACK * (high - low)
            outside = (place < low - slack) | (place > high + slack)
            if outside.any():
                raise ValueError(
                    f"{name} reaches {place[outside][0]:.3g}, but must stay between {low:.3g} and {high:.3g}; give it "
                    "a prior that lives there, such as pm.Uniform or pm.Beta"
                )
        return [
            self.seen.structure({name: value[i] for name, value in zip(self.seen.learned, values, strict=True)})
            for i in range(len(places))
        ]

    @cached_property
    def _cells(self) -> dict[bytes, Cells]:
        return {}

    def cells(self, places: Array) -> list[Cells]:
        """The recording as each structure sees it; a structure that was decomposed once is not decomposed again."""
        keys = [place.tobytes() for place in places]
        new = [i for i, key in enumerate(keys) if key not in self._cells]
        if new and "depth" in self.seen.learned and "weights" not in self.seen.learned:
            first = self.structures(places[:1])[0]
            if first.plain_but_turned:
                DepthTable.make(self.seen.problem, first)
        step = max(1, int(1e7 / self.seen.problem.gain.shape[1]))
        for start in range(0, len(new), step):
            some = new[start : start + step]
            for i, structure in zip(some, self.structures(places[some]), strict=True):
                self._cells[keys[i]] = Spectrum.of(self.seen.problem, structure).cells
        return [self._cells[key] for key in keys]

    def __call__(self, nodes: Array) -> Array:
        """Log prior times likelihood (node,) at unconstrained nodes; -inf where it is not defined."""
        prior, found_variance, found_noise = self._scales(nodes)
        # Scales that overflow stay at the largest: an end of the numbers must not pass for an end of the posterior.
        variance = np.minimum(found_variance, LARGEST)
        noise = np.clip(found_noise, 1 / np.sqrt(LARGEST), np.sqrt(LARGEST))
        good = np.isfinite(prior) & (found_variance >= 0) & (found_noise >= 0)
        out = np.full(len(nodes), -np.inf)
        if good.any():
            places, which = self.places(nodes[good])
            likelihood = np.empty(len(which))
            order = np.argsort(which, kind="stable")
            ends = np.cumsum(np.bincount(which, minlength=len(places)))[:-1]
            scales, levels = variance[good], noise[good]
            for cells, mine in zip(self.cells(places), np.split(order, ends), strict=True):
                likelihood[mine] = cells.log_likelihood(scales[mine], levels[mine])
                if self.seen.baseline is not None:
                    likelihood[mine] += cells.baseline_log_likelihood(levels[mine])
            out[good] = prior[good] + likelihood
        return np.where(np.isnan(out), -np.inf, out)

    def slope(self, node: Array) -> tuple[float, Array]:
        """Log density and its gradient (coordinate,) at one unconstrained node, exact but for times.

        What the prior's graph computes costs next to nothing, so that its own slopes are differences.
        """
        step = np.maximum(1e-5 * np.abs(node), 1e-5)
        around = np.concatenate([node[None], node + np.diag(step), node - np.diag(step)])
        numbers = self._scales(around)
        prior, variance, noise = (float(one[0]) for one in numbers)
        if not (np.isfinite(prior) and 0 < variance < LARGEST and 0 < noise < np.sqrt(LARGEST)):
            return -np.inf, np.zeros(len(node))
        structure = self.structures(self.places(node[None])[0])[0]
        problem, quiet = self.seen.problem, self.seen.baseline is not None
        by: list[Any]
        if structure.time is not None:
            spectrum = Spectrum.of(problem, structure)
            cells = spectrum.cells if quiet else replace(spectrum.cells, quiet=None)
            at = np.array([variance]), np.array([noise])
            height = float(cells.log_likelihood(*at)[0] + cells.baseline_log_likelihood(at[1])[0])
            by, gram = list(cells.slopes(variance, noise)), None
            by_gram, by_noise = spectrum.sensitivity(variance, noise, baseline=quiet)
        else:
            sight = Sight.of(problem, structure, variance, noise, baseline=quiet)
            height, by_gram, by_noise, gram = sight.height, sight.by_gram, sight.by_noise, sight.gram
            by = [sight.by_variance, sight.by_scale]
        for name in self.seen.learned:
            if name == "time":
                by.append(self._by_time(structure, variance, noise))
            else:
                by.append(structure.slope(problem, name, by_gram, by_noise, gram))
        if self.seen.learned:
            numbers = [*numbers, *self._shapes(around)[: len(self.seen.learned)]]
        size = len(node)
        out = np.zeros(size)
        for slope, values in zip([1.0, *by], numbers, strict=True):
            change = (values[1 : size + 1] - values[size + 1 :]).reshape(size, np.size(slope))
            out += change @ np.ravel(slope) / (2 * step)
        return prior + height, out

    def _by_time(self, structure: Structure, variance: float, noise: float) -> float:
        """Derivative by the time constant, by differences: its modes have no closed derivative."""
        assert structure.time is not None
        ends = structure.time * (1 + 1e-4), structure.time * (1 - 1e-4)
        moved = [Spectrum.of(self.seen.problem, replace(structure, time=end)) for end in ends]
        sides = [float(one.log_likelihood(np.array([variance]), np.array([noise]))[0]) for one in moved]
        return (sides[0] - sides[1]) / (ends[0] - ends[1])

    @cached_property
    def _hyper(self) -> tuple[list[str], Callable[[Array], list[Array]]]:
        variables = [*self.model.free_RVs, *self.model.deterministics]

        def make() -> Callable[[Array], list[Array]]:
            return self._function(self.model.replace_rvs_by_values(variables) if variables else [])

        return [variable.name for variable in variables], self._made("hyper", make)

    def hyper(self, nodes: Array) -> dict[str, Array]:
        """Every hyperparameter and deterministic on its own scale, (node, ...), with λ and SNR."""
        names, at = self._hyper
        out = dict(zip(names, at(nodes), strict=True)) if names else {}
        variance, noise = self.scales(nodes)
        return with_lambda(out, variance, noise, self.seen.mean_power)


def signature(model: pm.Model, graphs: list[Any]) -> Hashable | None:
    """What a model's prior and some graphs of it compute, whatever objects they are made of; None if that is not told.

    Two models of one signature have the same names, priors, transforms and constants, so that what was made of the
    graphs of one serves the other.
    """
    from pytensor.graph.basic import Constant

    known: dict[Any, int] = {}
    told: list[Hashable] = []

    def visit(variable: Any) -> int:
        if variable in known:
            return known[variable]
        if variable.owner is not None:
            inputs = tuple(visit(one) for one in variable.owner.inputs)
            note: Hashable = (variable.owner.op, inputs, variable.owner.outputs.index(variable))
        elif isinstance(variable, Constant):
            held = variable.data
            note = (str(variable.type), held.tobytes() if isinstance(held, np.ndarray) else repr(held))
        elif "andom" in type(variable.type).__name__:
            note = "random numbers"
        else:
            note = id(variable)
        known[variable] = len(told)
        told.append(note)
        return known[variable]

    ends = []
    for variable in model.free_RVs:
        transform = model.rvs_to_transforms[variable]
        bounds = getattr(transform, "args_fn", None)
        inside = tuple(repr(cell.cell_contents) for cell in getattr(bounds, "__closure__", None) or ())
        ends.append((variable.name, type(transform), getattr(bounds, "__code__", None), inside, visit(variable)))
    others = [*model.deterministics, *model.potentials, *graphs]
    found = (tuple(ends), tuple((one.name, visit(one)) for one in others), tuple(told))
    strange = any(one is not None for one in model.rvs_to_initial_values.values())
    try:
        hash(found)
    except TypeError:
        return None
    return None if strange or set(model.basic_RVs) - {*model.free_RVs, *model.observed_RVs} else found


def vectorised(inputs: list[Any], outputs: list[Any]) -> Callable[[list[Array], int], list[Array]]:
    """A function from (node, ...) values of the inputs, and the number of nodes, to (node, ...) values of graphs."""
    import pytensor
    import pytensor.tensor as pt
    from pytensor.compile.mode import Mode
    from pytensor.graph.replace import vectorize_graph

    # Where each node was made is of no use here, and noting it takes half the time.
    with pytensor.config.change_flags(traceback__limit=0):
        batch = [pt.tensor(one.name, shape=(None, *one.type.shape), dtype=one.dtype) for one in inputs]
        graphs = vectorize_graph(outputs, replace=dict(zip(inputs, batch, strict=True)))
        graphs = _by_numpy(graphs)
    run = pytensor.function(batch, graphs, mode=Mode(linker="py", optimizer="None"), on_unused_input="ignore")
    # A graph that depends on no input has one value for all nodes.
    same = [graph.type.ndim == output.ndim for graph, output in zip(graphs, outputs, strict=True)]

    def at(values: list[Array], count: int) -> list[Array]:
        with np.errstate(all="ignore"):
            found = [np.asarray(value, dtype=float) for value in run(*values)]
        return [
            np.broadcast_to(value, (count, *value.shape)) if one else value
            for value, one in zip(found, same, strict=True)
        ]

    return at


def _by_numpy(graphs: list[Any]) -> list[Any]:
    """Graphs without the one function of transforms that the Python linker calls for each number by itself."""
    import pytensor.tensor as pt
    from pytensor.graph.replace import graph_replace
    from pytensor.graph.traversal import applys_between

    def slow(node: Any) -> bool:
        return type(getattr(node.op, "scalar_op", None)).__name__ == "Softplus"

    found = [node for node in applys_between([], graphs) if slow(node)]
    if not found:
        return graphs
    swaps = {}
    for node in found:
        (x,) = node.inputs
        swaps[node.outputs[0]] = pt.maximum(x, 0.0) + pt.log1p(pt.exp(-pt.abs(x)))
    done: list[Any] = graph_replace(graphs, swaps, strict=False)
    return done


def with_lambda(hyper: dict[str, Array], variance: Array, noise: Array, mean_power: float) -> dict[str, Array]:
    """Add "lambda" (noise² / variance, 1/(A m)²) and "snr" (amplitude ratio in the whitened sensors).

    mean_power : trace(G D Gᵀ) per component: the power that currents of unit variance have in a component
    """
    with np.errstate(divide="ignore"):
        return {
            **hyper,
            "lambda": noise**2 / variance,
            "snr": np.sqrt(variance * mean_power) / noise,
        }
