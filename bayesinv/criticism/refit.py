"""Refits: the density of a part of a recording given all others, as a ratio of two evidences.

    p(part | rest) = p(recording) / p(rest)

Both are integrals over the hyperparameters on a lattice of their own, so that none need resemble another, however much
the part weighs on them. Without a block of samples the recording has a gap, over which the correlation of noise and
currents goes on; without a component all samples of one direction of sensor space are missing. The baseline, and the
prior with all that it took from the recording's times, stay what they are.

Where time courses are correlated and MEG and EEG have noise of different colour, inference works in modes of time which
both share, and which are only nearly independent. Those do not hold across a gap, so that for blocks both evidences are
those of noise of either colour, see `several_colours`. A component is left out in the shared modes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bayesinv.axes import Array
from bayesinv.criticism.densities import component_log_density
from bayesinv.criticism.several_colours import LikelihoodOfColours
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.inference.methods import MAX_DIMENSION_QUADRATURE
from bayesinv.inference.quadrature import integrate
from bayesinv.inference.unsettled import UnsettledError
from bayesinv.memory import cached_property
from bayesinv.posterior.checks import Evidence
from bayesinv.posterior.posterior import Posterior
from bayesinv.prior.catalogue import build
from bayesinv.prior.density import MAX_VARIANCE, Density
from bayesinv.problem.problem import Problem

MAX_ERROR = 0.01
"""Largest numerical error of an evidence, in nats, in a ratio that counts as exact."""

SLOPE_STEP = 1e-4
"""Step of finite differences along an unconstrained coordinate."""


class NoRefitError(ValueError):
    """A model cannot be integrated again without a part of its recording; the message says why."""


@dataclass(frozen=True, eq=False)
class Refit:
    """A model that can be integrated again without a part of its recording.

    density : of the hyperparameters given the whole recording
    evidence : of the whole recording
    """

    density: Density
    evidence: Evidence

    @classmethod
    def of(cls, posterior: Posterior, model: Any = None) -> Refit:
        """Return the refit of the model that a posterior is of.

        model : as it was given to `infer`; None looks the posterior's up by its name

        Raises
        ------
        NoRefitError
            If the model is not found, is another one, or has too many hyperparameters for a lattice.
        """
        try:
            _, built = build(posterior.model if model is None else model, posterior.problem)
        except (ValueError, FileNotFoundError) as error:
            raise NoRefitError(f"give the model as it was given to infer, models={{name: model}}: {error}") from error
        density = Density.of(built)
        if density.observation.currents.focal is not None:
            raise NoRefitError("it has focal sources, which are sampled")
        if density.observation.currents.local is not None:
            raise NoRefitError("it has local scales, which are sampled")
        if density.dimension > MAX_DIMENSION_QUADRATURE:
            raise NoRefitError(f"its {density.dimension} hyperparameters are too many for a lattice")
        if not {variable.name for variable in density.model.free_RVs if not np.ndim(variable)} <= set(posterior.hyper):
            raise NoRefitError(f"{posterior.model!r} names another model; give models={{name: model}}")
        evidence = evidence_of(density)
        known = posterior.log_evidence if posterior.method in ("exact", "quadrature") else None
        if known is not None and abs(known - evidence) > MAX_ERROR + known.error + evidence.error:
            raise NoRefitError(
                f"{posterior.model!r} names another model, whose log evidence is {evidence:.2f} and not {known:.2f}; "
                "give models={name: model}"
            )
        return cls(density, evidence)

    def left_out(self, part: int | slice) -> Evidence:
        """Log density of a part of the recording given all others, with its numerical error.

        part : index of a component, or a block of samples

        Raises
        ------
        NoRefitError
            If the integral does not settle.
        """
        rest: Density
        if isinstance(part, slice):
            rest, whole = self.density.again(without(self.density.observation.problem, part)), self.of_blocks
            rest, like = in_several_colours(rest), rest
        else:
            rest, whole = WithoutComponent(self.density.model, self.density.observation, part), self.evidence
            like = rest
        found = evidence_of(rest, like)
        error = whole.error + found.error
        if max(whole.error, found.error) > MAX_ERROR:
            raise NoRefitError(f"its evidence has an error of {error:.1g} nats")
        return Evidence(whole - found, error)

    @cached_property
    def of_blocks(self) -> Evidence:
        """Log evidence of the whole recording that those without a block are held against."""
        density = in_several_colours(self.density)
        return self.evidence if density is self.density else evidence_of(density, self.density)


def evidence_of(density: Density, like: Density | None = None) -> Evidence:
    """Log evidence by a lattice, with its numerical error; where nothing is free there is one node.

    like : see `integrate`

    Raises
    ------
    NoRefitError
        If it does not settle.
    """
    try:
        if not density.dimension:
            return Evidence(float(density(np.zeros((1, 0)))[0]))
        lattice = integrate(density, like)
    except UnsettledError as error:
        raise NoRefitError(str(error)) from error
    return Evidence(lattice.log_evidence, lattice.error)


def in_several_colours(density: Density) -> Density:
    """Return a density by the noise of each colour, where modes of time serve several; else the density itself."""
    observation, whitening = density.observation, density.observation.problem.time_whitening
    courses = "time" in observation.learned or observation.base.time is not None
    if not courses or whitening is None or whitening.groups == 1:
        return density
    return OfSeveralColours(density.model, observation)


@dataclass(eq=False)
class Refits:
    """The refits of several models, each made when it is first asked for.

    posteriors : by name
    models : as they were given to `infer`, by name, where their own names do not say which they are
    """

    posteriors: Mapping[str, Posterior]
    models: Mapping[str, Any]
    made: dict[str, Refit | NoRefitError] = field(default_factory=dict)

    def of(self, name: str) -> Refit:
        """Return the refit of a model.

        Raises
        ------
        NoRefitError
            If there is none.
        """
        if name not in self.made:
            try:
                self.made[name] = Refit.of(self.posteriors[name], self.models.get(name))
            except NoRefitError as error:
                self.made[name] = error
        found = self.made[name]
        if isinstance(found, NoRefitError):
            raise found
        return found


def without(problem: Problem, block: slice) -> Problem:
    """Return the problem of all samples but those of a block; baseline, times and noise stay what they are."""
    retained = np.ones(len(problem.times), dtype=bool)
    retained[block] = False
    rest = problem.again(
        problem.recording[:, retained], problem.times[retained], problem.baseline, problem.baseline_centred
    )
    # Where a first block is left out the baseline does not move towards what is then the first sample.
    timed = replace(rest, baseline_times=problem.times_of_baseline if problem.baseline is not None else None)
    timed.share(problem)
    return timed


@dataclass(frozen=True, eq=False)
class WithoutComponent(Density):
    """The posterior density of the hyperparameters given all components of the recording but one.

    component : which one; its baseline stays
    """

    component: int = 0

    def __call__(self, nodes: Array) -> Array:
        """Log prior times likelihood of the other components (node,) at unconstrained nodes."""
        whole = super().__call__(nodes)
        inside = np.flatnonzero(np.isfinite(whole))
        if not inside.size:
            return whole
        variance, noise = self.scales(nodes[inside])
        variance = np.minimum(variance, MAX_VARIANCE)
        coordinates, which = self.structural_nodes(nodes[inside])
        for k, structure in enumerate(self.structures(coordinates)):
            members = which == k
            spectrum = Spectrum.of(self.observation.problem, structure)
            part = component_log_density(spectrum, self.component, variance[members], noise[members])
            # Where even the part overflows, so does the rest.
            whole[inside[members]] -= np.where(np.isfinite(part), part, np.inf)
        return whole

    def slope(self, node: Array) -> tuple[float, Array]:
        """Log density and its gradient (coordinate,) at one unconstrained node, by central differences."""
        return _slope(self, node)


@dataclass(frozen=True, eq=False)
class OfSeveralColours(Density):
    """The posterior density of the hyperparameters where currents have courses and noise several colours.

    That of modes which these share is only nearly this one.
    """

    @cached_property
    def _exact(self) -> dict[bytes, LikelihoodOfColours]:
        return {}

    def likelihoods(self, coordinates: Array) -> list[Any]:
        """Likelihood of the recording under each structure.

        Raises
        ------
        NoRefitError
            If noise has scales by kind of sensor, too.
        """
        keys = [one.tobytes() for one in coordinates]
        new = [i for i, key in enumerate(keys) if key not in self._exact]
        for i, structure in zip(new, self.structures(coordinates[new]) if new else [], strict=True):
            if structure.noise is not None:
                raise NoRefitError(
                    "noise has several colours over time and scales by kind of sensor, and currents have courses"
                )
            self._exact[keys[i]] = LikelihoodOfColours.of(self.observation.problem, structure)
        return [self._exact[key] for key in keys]

    def slope(self, node: Array) -> tuple[float, Array]:
        """Log density and its gradient (coordinate,) at one unconstrained node, by central differences."""
        return _slope(self, node)


def _slope(density: Density, node: Array) -> tuple[float, Array]:
    """Log density and its gradient (coordinate,) at one unconstrained node, by central differences."""
    step = SLOPE_STEP * np.eye(len(node))
    here, *around = density(np.concatenate([node[None], node + step, node - step])).tolist()
    up, down = np.split(np.array(around), 2)
    return here, (up - down) / (2 * SLOPE_STEP)
