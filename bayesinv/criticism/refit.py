"""Refits: the density of a part of a recording given all others, as a ratio of two evidences.

    p(part | rest) = p(recording) / p(rest)

Both are integrals over the hyperparameters on a lattice of their own, so that none need resemble another, however much
the part weighs on them. Without a block of samples the recording has a gap, over which the correlation of noise and
currents goes on; without a component all samples of one direction of sensor space are missing. The baseline, and the
prior with all that it took from the recording's times, stay what they are.

Where time courses are correlated and MEG and EEG have noise of different colour, blocks are left out with the colours
apart, as inference has them (see `colours_apart`), and components in modes of time which both share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bayesinv.axes import Array
from bayesinv.criticism.densities import component_log_density, without
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.evidence.unsettled import UnsettledError
from bayesinv.inference.colours_apart import integrate_apart
from bayesinv.inference.integration import integrate
from bayesinv.inference.methods import MAX_DIMENSION_QUADRATURE
from bayesinv.memory import cached_property
from bayesinv.posterior.checks import Evidence
from bayesinv.posterior.posterior import Posterior
from bayesinv.prior.catalogue import build
from bayesinv.prior.density import MAX_VARIANCE, Density
from bayesinv.prior.density_of_colours import by_differences, has_several_colours, log_densities

MAX_ERROR = 0.01
"""Largest numerical error of an evidence, in nats, in a ratio that counts as exact."""


class NoRefitError(ValueError):
    """A model cannot be integrated again without a part of its recording; the message says why."""


@dataclass(frozen=True, eq=False)
class Refit:
    """A model that can be integrated again without a part of its recording.

    density : of the hyperparameters given the whole recording
    evidence : of the whole recording, as `infer` has it
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
        if isinstance(part, slice):
            rest = self.density.again(without(self.density.observation.problem, part))
            whole, found = self.evidence, evidence_of(rest)
        else:
            other = WithoutComponent(self.density.model, self.density.observation, part)
            whole, found = self.in_modes, evidence_of(other, apart=False)
        error = whole.error + found.error
        if max(whole.error, found.error) > MAX_ERROR:
            raise NoRefitError(f"its evidence has an error of {error:.1g} nats")
        return Evidence(whole - found, error)

    @cached_property
    def in_modes(self) -> Evidence:
        """Log evidence of the whole recording, where the noise's colours share modes of time."""
        return evidence_of(self.density, apart=False) if has_several_colours(self.density) else self.evidence


def evidence_of(density: Density, apart: bool = True) -> Evidence:
    """Log evidence by a lattice, with its numerical error; where nothing is free there is one node.

    apart : whether noise of several colours is told apart, or these share modes of time

    Raises
    ------
    NoRefitError
        If it does not settle.
    """
    try:
        if not density.dimension:
            node = np.zeros((1, 0))
            return Evidence(float((log_densities(density, node) if apart else density(node))[0]))
        lattice = integrate_apart(density)[1] if apart else integrate(density)
    except UnsettledError as error:
        raise NoRefitError(str(error)) from error
    return Evidence(lattice.log_evidence, lattice.error)


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
        return by_differences(self, node)
