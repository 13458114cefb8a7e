"""Patches that one source more may well be: how far they deviate, and how strong they are, approximately."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayesinv.axes import Array, Index
from bayesinv.evidence.active_scan import Scan
from bayesinv.evidence.deviation import Proposal
from bayesinv.inference.active_model import ActiveModel
from bayesinv.inference.active_tables import Tables
from bayesinv.memory import PickledByFields

GAIN, NEARLY, MOST = 3.0, 12.0, 64
"""Nats that the best patch gains by deviating from which on more are candidates: those next to patches that are as
good as the best up to some nats, and next to these, up to a number."""

APART = 2
"""Levels of strength between what is most probable with a deviation and what it was approximated at, to do so again."""


@dataclass(frozen=True, eq=False)
class Candidates(PickledByFields):
    """Patches of the tables, with what a source of each may be.

    places : (candidate,), in the tables
    log_mass : (level, candidate), log density of what the source adds and of its strength, integrated over deviations
    proposal : of the deviations
    """

    places: Index
    log_mass: Array
    proposal: Proposal

    @classmethod
    def at(
        cls, model: ActiveModel, scan: Scan, tempering: float, tables: Tables, places: Index, levels: Index
    ) -> Candidates:
        """Return patches by their places, approximated at some levels of strength (candidate,), or at better ones."""
        fields = model.neighbours.fields_along(model.of_patches, tables.patches[places])
        products = scan.deviations(fields, tabled=True)
        found = products.proposal(model.strengths[levels], tempering, model.deviation)
        profiles = tempering * products.profiles(found.middle, model.strengths)
        better = np.argmax(profiles + model.log_strengths[:, None], axis=0)
        again = np.flatnonzero(np.abs(better - levels) >= APART)
        if len(again):
            levels, some = np.where(np.abs(better - levels) >= APART, better, levels), products.picked(again)
            anew = some.proposal(model.strengths[levels[again]], tempering, model.deviation)
            found.middle[again], found.lower[again], found.log_mass[again] = anew.middle, anew.lower, anew.log_mass
            profiles[:, again] = tempering * some.profiles(anew.middle, model.strengths)
        # What the spread of deviations adds is taken to be the same at all levels.
        spread = found.log_mass - profiles[levels, np.arange(len(places))]
        return cls(places, profiles + spread + model.log_strengths[:, None], found)

    @classmethod
    def around(
        cls,
        model: ActiveModel,
        scan: Scan,
        tempering: float,
        log_prior: Array,
        tables: Tables,
        straight: tuple[Index, Index, Array],
    ) -> Candidates:
        """Return patches, and, if deviations tell that these may be better, those next to the best.

        Of a strong source the patch whose own field is nearest need not even be next to the one that explains it best
        once patches deviate.

        log_prior : (place,)
        straight : places, levels and log densities of patches that do not deviate
        """
        places, levels, heights = straight
        found = cls.at(model, scan, tempering, tables, places, levels)
        masses = found.log_mass.max(axis=0) + log_prior[places]
        if masses.max() < heights[np.argmax(masses)] + GAIN:
            return found
        known = np.zeros(0, dtype=np.int64)
        while len(found.places) < MOST:
            masses = found.log_mass.max(axis=0) + log_prior[found.places]
            good = np.flatnonzero(masses > masses.max() - NEARLY)
            beside = np.unique(model.neighbours.patches[tables.patches[np.setdiff1d(found.places[good], known)]])
            known = np.union1d(known, found.places[good])
            where = np.searchsorted(tables.patches, beside).clip(0, len(tables.patches) - 1)
            # Only what the tables have may be drawn in this sweep.
            new = np.setdiff1d(where[tables.patches[where] == beside], found.places)[: MOST - len(found.places)]
            if not len(new):
                break
            level = int(np.argmax(found.log_mass[:, np.argmax(masses)]))
            found = found.followed_by(cls.at(model, scan, tempering, tables, new, np.full(len(new), level)))
        return found

    def followed_by(self, other: Candidates) -> Candidates:
        """Return these and others."""
        mine, theirs = self.proposal, other.proposal
        proposal = Proposal(
            np.concatenate([mine.middle, theirs.middle]),
            np.concatenate([mine.lower, theirs.lower]),
            np.concatenate([mine.log_mass, theirs.log_mass]),
        )
        log_mass = np.concatenate([self.log_mass, other.log_mass], axis=1)
        return Candidates(np.concatenate([self.places, other.places]), log_mass, proposal)
