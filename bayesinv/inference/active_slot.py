"""What one source more would be, given all that are active and its strength: approximately, to draw it, and exactly.

Where patches deviate towards their neighbours, what a source adds is integrated over deviations by Gaussian
approximations, for the few patches that matter; the others are taken not to deviate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayesinv.axes import Array, Index
from bayesinv.evidence.active_scan import Scan
from bayesinv.evidence.deviation import Deviations, Proposal
from bayesinv.evidence.gaussian import LOG_2PI
from bayesinv.inference.active_model import ActiveModel
from bayesinv.memory import PickledByFields, cached_property

CANDIDATES, FALLEN, SHARE = 16, 40.0, 0.1
"""Patches at most whose deviations are approximated, nats below the first at which they are not, and the least share of
the conditional that they are to hold."""


@dataclass(frozen=True, eq=False)
class OneMore(PickledByFields):
    """The density of one source more.

    model, scan : tables, with all other sources active
    heat : power of what sources add
    strength : of the source
    """

    model: ActiveModel
    scan: Scan
    heat: float
    strength: float

    @cached_property
    def _known(self) -> dict[int, Deviations]:
        return {}

    def products(self, patch: int) -> Deviations:
        """What a patch adds as a function of its deviation and strength, worked out once."""
        if patch not in self._known:
            fields = self.model.neighbours.fields_along(self.model.of_patches, np.array([patch]))
            self._known[patch] = self.scan.deviations(fields)
        return self._known[patch]

    def log_exact(self, patch: int, deviation: Array) -> float:
        """Log density of a patch and a deviation."""
        found = self.products(patch).log_factors(deviation[None], np.array([self.strength]))
        added = self.heat * float(found[0])
        return added + float(self.model.log_prior[patch]) + log_normal(deviation, self.model.deviation)


@dataclass(frozen=True, eq=False)
class SlotConditional(OneMore):
    """Distribution of the patch of one source more, and of its deviation.

    log_mass : (patch,), log density of each patch, integrated over deviations, approximately
    candidates : patches whose deviations are approximated
    proposal : the approximations; None where there are none
    """

    log_mass: Array
    candidates: Index
    proposal: Proposal | None

    @classmethod
    def of(
        cls, model: ActiveModel, scan: Scan, heat: float, strength: float, log_nothing: float = -np.inf
    ) -> SlotConditional:
        """Return the distribution given what is active now.

        log_nothing : log density of no source; where patches that matter hold little beside it, nothing is approximated
        """
        log_mass = heat * scan.log_factors(strength) + model.log_prior
        if not model.neighbours.count:
            return cls(model, scan, heat, strength, log_mass, np.zeros(0, dtype=np.int64), None)
        found = np.argpartition(-log_mass, min(CANDIDATES, len(log_mass)) - 1)[:CANDIDATES]
        found = np.sort(found[log_mass[found] > log_mass[found].max() - FALLEN])
        total = np.logaddexp(log_sum(log_mass), log_nothing)
        if log_sum(log_mass[found]) - total < np.log(SHARE):
            return cls(model, scan, heat, strength, log_mass, np.zeros(0, dtype=np.int64), None)
        proposal = _proposal(model, scan, heat, strength, found)
        log_mass[found] = proposal.log_mass + model.log_prior[found]
        return cls(model, scan, heat, strength, log_mass, found, proposal)

    @cached_property
    def log_total(self) -> float:
        """Log density of any source."""
        return log_sum(self.log_mass)

    @cached_property
    def _where(self) -> dict[int, int]:
        return {int(patch): place for place, patch in enumerate(self.candidates)}

    def draw(self, rng: np.random.Generator) -> tuple[int, Array]:
        """Draw a patch and its deviation."""
        patch = one_of_mass(self.log_mass, rng)
        return patch, self.draw_deviation(patch, rng)

    def draw_deviation(self, patch: int, rng: np.random.Generator) -> Array:
        """Draw the deviation (direction,) of a patch."""
        if self.proposal is not None and patch in self._where:
            return self.proposal.draw(self._where[patch], rng)
        return self.model.deviation * rng.standard_normal(self.model.neighbours.count)

    def log_drawn(self, patch: int, deviation: Array) -> float:
        """Log of what a patch and a deviation are drawn in proportion to; their integral is `log_total`."""
        if self.proposal is not None and patch in self._where:
            return float(self.log_mass[patch]) + self.proposal.log_density(self._where[patch], deviation)
        return float(self.log_mass[patch]) + log_normal(deviation, self.model.deviation)


@dataclass(frozen=True, eq=False)
class NearConditional(OneMore):
    """Distribution of the patch of one source more among one and those next to it, and of its deviation.

    Of two patches next to each other a deviation of the one may be the other, while its own field is far from it.

    patches : (patch,)
    log_mass : (patch,), log probability of each, integrated over deviations, approximately
    proposal : of their deviations
    """

    patches: Index
    log_mass: Array
    proposal: Proposal

    @classmethod
    def of(cls, one: OneMore, patch: int) -> NearConditional:
        """Return the distribution around a patch."""
        model = one.model
        patches = np.unique(model.neighbours.parts(np.array([patch])))
        proposal = _proposal(model, one.scan, one.heat, one.strength, patches)
        log_mass = proposal.log_mass + model.log_prior[patches]
        return cls(model, one.scan, one.heat, one.strength, patches, log_mass - log_sum(log_mass), proposal)

    def draw(self, rng: np.random.Generator) -> tuple[int, Array]:
        """Draw a patch and its deviation."""
        place = one_of_mass(self.log_mass, rng)
        return int(self.patches[place]), self.proposal.draw(place, rng)

    def log_drawn(self, patch: int, deviation: Array) -> float:
        """Log density with which a patch and a deviation are drawn."""
        place = int(np.searchsorted(self.patches, patch))
        return float(self.log_mass[place]) + self.proposal.log_density(place, deviation)


def _proposal(model: ActiveModel, scan: Scan, heat: float, strength: float, patches: Index) -> Proposal:
    products = scan.deviations(model.neighbours.fields_along(model.of_patches, patches), tabled=True)
    return products.proposal(np.full(len(patches), strength), heat, model.deviation)


def log_sum(logs: Array) -> float:
    """Log of the sum of exponentials; scipy's counts the largest ones, and takes ten times as long."""
    top = float(logs.max())
    return top + float(np.log(np.exp(logs - top).sum()))


def log_normal(deviation: Array, spread: float) -> float:
    """Log density of a deviation (direction,) under its prior."""
    if not len(deviation):
        return 0.0
    constant = len(deviation) * (np.log(spread) + 0.5 * LOG_2PI)
    return float(-0.5 * np.sum(deviation**2) / spread**2 - constant)


def one_of_mass(log_mass: Array, rng: np.random.Generator) -> int:
    """Draw an index in proportion to its mass.

    Raises
    ------
    ValueError
        If no mass is finite.
    """
    top = float(np.max(log_mass))
    if not np.isfinite(top):
        raise ValueError(
            "the density of the focal sources is not finite; check the units of the gain and of the recording, and the "
            "model's scales"
        )
    cumulative = np.cumsum(np.exp(log_mass - top))
    return int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right").clip(0, len(log_mass) - 1))
