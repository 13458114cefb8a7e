"""The posterior density of a model's hyperparameters, many at a time, without a compiler.

PyMC's own graph gives the prior on the unconstrained scale and the scales it implies; the graph is vectorised
over nodes and run by PyTensor's Python linker, which starts at once. The evidence is plain NumPy.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesinv.axes import Array
from bayesinv.currents import Observation, observation
from bayesinv.evidence import baseline_log_likelihood

if TYPE_CHECKING:
    import pymc as pm


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
    def _start(self) -> dict[str, Array]:
        from pymc.initial_point import make_initial_point_fn

        return dict(make_initial_point_fn(model=self.model)(None)) if self.model.free_RVs else {}

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
        """Prior log density, variance, noise and the structural number, in the model's value variables."""
        ours = {self.seen.recording, self.seen.baseline}
        terms = [variable for variable in self.model.basic_RVs if variable not in ours] + self.model.potentials
        import pytensor.tensor as pt

        prior = self.model.logp(vars=terms, sum=True) if terms else pt.constant(0.0)
        return [prior, *self.model.replace_rvs_by_values(self._wanted)]

    @property
    def _wanted(self) -> list[Any]:
        """Graphs of the source variance, the noise scale and the structural number, where one is learned."""
        depth = [self.seen.currents.depth] if self.seen.family.learned else []
        return [self.seen.variance, self.seen.noise, *depth]

    @cached_property
    def structural(self) -> int | None:
        """The one coordinate that the structural number depends on; None if there is none or several."""
        if not self.seen.family.learned:
            return None
        from pytensor.graph.traversal import ancestors

        mine = set(ancestors([self._outputs[3]]))
        found = [i for i, value in enumerate(self.values) if value in mine]
        return found[0] if len(found) == 1 and np.ndim(self._start[self.values[found[0]].name]) == 0 else None

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
        return self._function(self._outputs)

    def scales(self, nodes: Array) -> tuple[Array, Array, Array | None]:
        """Source variance, noise scale and structural number, each (node,), at unconstrained nodes."""
        found = self._scales(nodes)
        return found[1], found[2], found[3] if len(found) > 3 else None

    def scales_at(self, values: list[Array]) -> tuple[Array, Array, Array | None]:
        """As `scales`, from the hyperparameters on their own scale: (node, ...) per free random variable."""
        found = vectorised(self.model.free_RVs, self._wanted)(values, len(values[0]))
        return found[0], found[1], found[2] if len(found) > 2 else None

    def __call__(self, nodes: Array) -> Array:
        """Log prior times likelihood (node,) at unconstrained nodes; -inf where it is not defined."""
        prior, variance, found_noise, *rest = self._scales(nodes)
        place = rest[0] if rest else None
        # Scales that overflow stay at the largest: an end of the numbers must not pass for an end of the posterior.
        variance, noise = np.minimum(variance, LARGEST), np.clip(found_noise, 1 / np.sqrt(LARGEST), np.sqrt(LARGEST))
        good = np.isfinite(prior) & (variance >= 0) & (found_noise >= 0)
        out = np.full(len(nodes), -np.inf)
        if good.any():
            likelihood = self.seen.family.log_likelihood(
                variance[good], noise[good], None if place is None else place[good]
            )
            if self.seen.baseline is not None:
                likelihood = likelihood + baseline_log_likelihood(self.seen.problem, noise[good])
            out[good] = prior[good] + likelihood
        return np.where(np.isnan(out), -np.inf, out)

    @cached_property
    def _hyper(self) -> tuple[list[str], Callable[[Array], list[Array]]]:
        variables = [*self.model.free_RVs, *self.model.deterministics]
        graphs = self.model.replace_rvs_by_values(variables) if variables else []
        return [variable.name for variable in variables], self._function(graphs)

    def hyper(self, nodes: Array) -> dict[str, Array]:
        """Every hyperparameter and deterministic on its own scale, (node, ...), with λ and SNR."""
        names, at = self._hyper
        out = dict(zip(names, at(nodes), strict=True)) if names else {}
        variance, noise, _ = self.scales(nodes)
        return with_lambda(out, variance, noise, self.seen.family.mean_power)


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
    run = pytensor.function(batch, graphs, mode=Mode(linker="py", optimizer=None), on_unused_input="ignore")
    # A graph that depends on no input has one value for all nodes.
    same = [graph.ndim == output.ndim for graph, output in zip(graphs, outputs, strict=True)]

    def at(values: list[Array], count: int) -> list[Array]:
        with np.errstate(all="ignore"):
            found = [np.asarray(value, dtype=float) for value in run(*values)]
        return [
            np.broadcast_to(value, (count, *value.shape)) if one else value
            for value, one in zip(found, same, strict=True)
        ]

    return at


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
