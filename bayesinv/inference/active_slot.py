"""What one source more would be, and how strong, given all that are active: approximately, to draw it, and exactly.

Where patches deviate towards their neighbours, what a source adds is integrated over deviations by Gaussian
approximations, for the few patches that matter; the others are taken not to deviate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayesinv.axes import Array, Index
from bayesinv.evidence.active import Table
from bayesinv.evidence.active_scan import Scan
from bayesinv.evidence.deviation import Deviations, Proposal
from bayesinv.evidence.gaussian import LOG_2PI
from bayesinv.inference.active_candidates import Candidates
from bayesinv.inference.active_model import ActiveModel, Source
from bayesinv.inference.active_tables import Tables
from bayesinv.memory import PickledByFields, cached_property

CANDIDATES, FALLEN, SHARE = 16, 40.0, 0.1
"""Patches at most whose deviations are approximated, nats below the first at which they are not, and the least share of
the conditional that they are to hold."""

EXACT = 64
"""Patches whose density is worked out at every level of strength; that of the others is interpolated between levels."""

LEAST = -80.0
"""Logarithm of the least share of one patch and level relative to the most probable."""

NOT_FINITE = (
    "the density of the focal sources is not finite; check the units of the gain and of the recording, and the model's "
    "scales"
)


@dataclass(frozen=True, eq=False)
class OneMore(PickledByFields):
    """The density of one source more.

    model, scan : tables, with all other sources active
    tempering : power of what sources add
    log_prior : (patch,), with what the part that is looked at has to say
    """

    model: ActiveModel
    scan: Scan
    tempering: float
    log_prior: Array

    @cached_property
    def _known(self) -> dict[int, Deviations]:
        return {}

    def products(self, patch: int) -> Deviations:
        """What a patch adds as a function of its deviation and strength, worked out once."""
        if patch not in self._known:
            fields = self.model.neighbours.fields_along(self.model.of_patches, np.array([patch]))
            self._known[patch] = self.scan.deviations(fields)
        return self._known[patch]

    def log_exact(self, patch: int, level: int, deviation: Array) -> float:
        """Log density of a patch, a level of its strength, and a deviation."""
        model = self.model
        found = self.products(patch).log_factors(deviation[None], model.strengths[[level]])
        prior = float(self.log_prior[patch] + model.log_strengths[level])
        return self.tempering * float(found[0]) + prior + log_normal(deviation, model.deviation)


@dataclass(frozen=True, eq=False)
class SlotConditional(OneMore):
    """Distribution of one source more: its patch, the level of its strength, and its deviation.

    tables : patches that it is one of
    log_mass : (level, patch), log density, integrated over deviations, approximately
    candidates : places in the tables of patches whose deviations are approximated
    proposal : the approximations; None where there are none
    """

    tables: Tables
    log_mass: Table
    candidates: Index
    proposal: Proposal | None

    @classmethod
    def of(
        cls, model: ActiveModel, scan: Scan, tempering: float, log_prior: Array, tables: Tables, log_nothing: float
    ) -> SlotConditional:
        """Return the distribution given what is active now.

        log_nothing : log density of no source; where patches that matter hold little beside it, nothing is approximated
        """
        knots, spline = model.knots
        levels, patches = model.log_strengths.astype(np.float32)[:, None], log_prior[tables.patches]
        log_mass = np.asarray(
            spline @ (np.float32(tempering) * scan.log_factors(model.strengths[knots])), dtype=np.float32
        )
        log_mass += levels
        log_mass += patches.astype(np.float32)
        highest = log_mass.max(axis=0)
        some = np.argpartition(-highest, min(EXACT, len(highest)) - 1)[:EXACT]
        exact = tempering * scan.log_factors(model.strengths, some) + model.log_strengths[:, None] + patches[some]
        log_mass[:, some] = exact
        none = cls(model, scan, tempering, log_prior, tables, log_mass, np.zeros(0, dtype=np.int64), None)
        if not model.neighbours.count:
            return none
        best, level = exact.max(axis=0), exact.argmax(axis=0)
        chosen = np.argsort(-best)[:CANDIDATES]
        chosen = chosen[best[chosen] > best[chosen[0]] - FALLEN]
        if log_sum(exact[:, chosen]) - np.logaddexp(none.log_total, log_nothing) < np.log(SHARE):
            return none
        straight = some[chosen], level[chosen], best[chosen]
        found = Candidates.around(model, scan, tempering, patches, tables, straight)
        log_mass[:, found.places] = found.log_mass + patches[found.places]
        return cls(model, scan, tempering, log_prior, tables, log_mass, found.places, found.proposal)

    @cached_property
    def _shares(self) -> tuple[float, Table, Array]:
        """The largest mass, the others relative to it (level, patch), and their sums by level."""
        top = float(self.log_mass.max())
        # Smaller shares are no normal numbers, which take far longer.
        shares = np.exp(np.maximum(self.log_mass - np.float32(top), np.float32(LEAST)))
        return top, shares, shares.sum(axis=1, dtype=np.float64)

    @cached_property
    def log_total(self) -> float:
        """Log density of any source."""
        top, _, levels = self._shares
        return top + float(np.log(levels.sum()))

    @cached_property
    def _where(self) -> dict[int, int]:
        return {int(where): i for i, where in enumerate(self.candidates)}

    def draw(self, rng: np.random.Generator) -> Source:
        """Draw a patch, a level and a deviation (direction,)."""
        _, shares, levels = self._shares
        if not np.isfinite(levels).all():
            raise ValueError(NOT_FINITE)
        level = one_of_shares(levels, rng)
        place = one_of_shares(shares[level], rng)
        patch = int(self.tables.patches[place])
        if self.proposal is not None and place in self._where:
            return patch, level, self.proposal.draw(self._where[place], rng)
        return patch, level, self.model.deviation * rng.standard_normal(self.model.neighbours.count)

    def log_drawn(self, patch: int, level: int, deviation: Array) -> float:
        """Log of what a source is drawn in proportion to; the integral is `log_total`."""
        place = self.tables.place(patch)
        mass = float(self.log_mass[level, place])
        if self.proposal is not None and place in self._where:
            return mass + self.proposal.log_density(self._where[place], deviation)
        return mass + log_normal(deviation, self.model.deviation)


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
    def of(cls, one: OneMore, patch: int, level: int) -> NearConditional:
        """Return the distribution around a patch, with one level of strength."""
        model = one.model
        patches = np.unique(model.neighbours.parts(np.array([patch])))
        strengths = np.full(len(patches), model.strengths[level])
        proposal = _proposal(model, one.scan, one.tempering, strengths, patches)
        log_mass = proposal.log_mass + one.log_prior[patches]
        return cls(model, one.scan, one.tempering, one.log_prior, patches, log_mass - log_sum(log_mass), proposal)

    def draw(self, rng: np.random.Generator) -> tuple[int, Array]:
        """Draw a patch and its deviation."""
        place = one_of_mass(self.log_mass, rng)
        return int(self.patches[place]), self.proposal.draw(place, rng)

    def log_drawn(self, patch: int, deviation: Array) -> float:
        """Log density with which a patch and a deviation are drawn."""
        place = int(np.searchsorted(self.patches, patch))
        return float(self.log_mass[place]) + self.proposal.log_density(place, deviation)


def _proposal(model: ActiveModel, scan: Scan, tempering: float, strengths: Array, patches: Index) -> Proposal:
    products = scan.deviations(model.neighbours.fields_along(model.of_patches, patches), tabled=True)
    return products.proposal(strengths, tempering, model.deviation)


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
        raise ValueError(NOT_FINITE)
    return one_of_shares(np.exp(log_mass - top), rng)


def one_of_shares(shares: Array, rng: np.random.Generator) -> int:
    """Draw an index in proportion to its share."""
    cumulative = np.cumsum(shares, dtype=np.float64)
    return min(int(cumulative.searchsorted(rng.random() * cumulative[-1], side="right")), len(shares) - 1)
