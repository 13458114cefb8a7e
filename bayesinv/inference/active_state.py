"""The state of a chain over active sets: sources, their head, the scales, and tables of what one source more adds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bayesinv.axes import Array, Index
from bayesinv.evidence.active_scan import Scan
from bayesinv.inference.active_model import EMPTY, ActiveModel, LogPrior, Source
from bayesinv.inference.active_slot import SlotConditional, one_of_shares
from bayesinv.inference.active_tables import NEVER, NOW, log_bonus, part_odds


class ActiveState:
    """Slots, each empty or with a source, and all that sources have in common."""

    def __init__(self, model: ActiveModel, prior: LogPrior, start: Array, rng: np.random.Generator) -> None:
        self.nominal, self.model, self.prior, self.rng = model, model, prior, rng
        self.head = np.zeros(model.heads)
        self.patch = np.full(model.most, EMPTY, dtype=np.int64)
        self.level = rng.choice(len(model.strengths), size=model.most, p=np.exp(model.log_strengths))
        self.constant = int(rng.choice(len(model.recordings), p=np.exp(model.log_constants)))
        self.error = int(rng.choice(len(model.errors), p=np.exp(model.log_errors)))
        self.deviation = np.zeros((model.most, model.neighbours.count))
        self.fields: list[Array] = [np.empty((model.components, model.axes))] * model.most
        self.tempering = 1.0
        self.point = start.copy()
        _, variance, noise = prior(self.point[None])
        self.variance, self.noise = float(variance[0]), float(noise[0])
        self.turn, self.looked_at = 0, -1
        self.look()
        # What one source more would be, for as long as what is active stays the same.
        self.beside: SlotConditional | None = None
        self.refresh()

    def look(self) -> None:
        """Look at the patches whose turn it is, in the head that is; tables are empty until they are refreshed."""
        if self.looked_at != self.turn:
            self.nominal_tables, self.looked_at = self.nominal.tables(self.turn), self.turn
            self.kinds = self.nominal.parts.kinds(self.turn)
        self.tables = self.nominal_tables.in_head(self.head)
        self.scan = Scan(self.tables.fields, self.tables.pairs)

    def draw_turn(self) -> None:
        """Draw the part of the patches that are looked at, given where sources are."""
        numbers = self.nominal.parts.numbers(self.patch[self.active])
        self.turn = one_of_shares(part_odds(numbers), self.rng)
        self.look()

    def sees(self, *slots: int) -> bool:
        """Whether the tables have the patches of all slots that hold a source."""
        held = self.patch[list(slots)]
        return not (self.kinds[held[held != EMPTY]] == NEVER).any()

    def refresh(self) -> None:
        """Work out what depends on scales, time constant and head."""
        self.beside = None
        recording = self.model.recordings[self.constant]
        spread = recording.spread(self.variance, self.noise, self.model.errors[self.error])
        self.scan.begin(recording, spread)
        active = self.active
        self.scan.put([self.fields[slot] for slot in active], self.model.strengths[self.level[active]])
        self.order = active.tolist()

    @property
    def active(self) -> Index:
        """Slots that hold a source."""
        return np.asarray((self.patch != EMPTY).nonzero()[0])

    def take(self, slot: int) -> None:
        """Leave a source out of the tables."""
        self.beside = None
        place = self.order.index(slot)
        self.scan.take(place)
        self.order[place] = self.order[-1]
        del self.order[-1]

    def put(self, slot: int) -> None:
        """Bring a source into the tables."""
        self.beside = None
        self.scan.put([self.fields[slot]], self.model.strengths[self.level[[slot]]])
        self.order.append(slot)

    def conditional(self) -> SlotConditional:
        """Distribution of one source more, given all that are active."""
        if self.beside is None:
            log_nothing = -self.log_odds(len(self.order))
            held = self.kinds[self.patch[self.order]]
            bonus = log_bonus(self.nominal.parts.count, int(np.sum(held == NOW)), int(np.sum(held == NEVER)))
            log_prior = self.model.log_prior + bonus[self.kinds]
            self.beside = SlotConditional.of(self.model, self.scan, self.tempering, log_prior, self.tables, log_nothing)
        return self.beside

    def hold(self, slot: int, patch: int, level: int, deviation: Array) -> None:
        """Let a slot hold a patch that deviates, or nothing; tables are those of before."""
        same = patch == self.patch[slot] and np.array_equal(deviation, self.deviation[slot])
        if patch != EMPTY and not same:
            self.deviation[slot], self.fields[slot] = deviation, self.model.field(patch, deviation)
        self.patch[slot], self.level[slot] = patch, level

    def held(self, slot: int) -> Source:
        """What a slot holds."""
        return int(self.patch[slot]), int(self.level[slot]), self.deviation[slot].copy()

    def log_odds(self, others: int) -> float:
        """Log prior odds that a slot holds a source where some others do; the probability of each is integrated out."""
        filled, empty = self.model.count_prior
        return float(np.log(filled + others) - np.log(empty + self.model.most - 1 - others))

    def log_densities(
        self, variance: float, noise: float, constant: int, error: int, rise: int = 0
    ) -> tuple[float, float]:
        """Log density of the recording without sources, and what those in the tables add, risen by some levels."""
        columns, size = self.raised(rise) * self.scan.columns, float(self.model.errors[error])
        return self.model.log_density(columns, constant, variance, noise, size)

    def at_scales(self) -> Callable[[Array], float]:
        """What fields times strengths (component, column) add to the log density at the present scales, tempered."""
        recording, error = self.model.recordings[self.constant], float(self.model.errors[self.error])

        def added(fields: Array) -> float:
            columns = np.ascontiguousarray(fields.T)
            return self.tempering * recording.log_densities(columns, self.variance, self.noise, error)[1]

        return added

    def log_density(self, variance: float, noise: float, constant: int, error: int, rise: int = 0) -> float:
        """Log density of the recording, what sources add to it by the tempering."""
        dense, added = self.log_densities(variance, noise, constant, error, rise)
        return dense + self.tempering * added

    def raised(self, rise: int) -> float:
        """Factor of strengths that rise by a number of levels, which are in a geometric series."""
        strengths = self.model.strengths
        return float((strengths[-1] / strengths[0]) ** (rise / (len(strengths) - 1))) if rise else 1.0

    def at_levels(self, variance: float, noise: float, constant: int, error: int, rise: int = 0) -> float:
        """Log density of scales and strengths, all strengths raised by a number of levels."""
        model = self.model
        out = float(model.log_constants[constant] + model.log_errors[error])
        out += float(model.log_strengths[self.level[self.active] + rise].sum())
        return out + self.log_density(variance, noise, constant, error, rise)

    def may_rise(self, rise: int) -> bool:
        """Whether all strengths stay on their grid when they rise by a number of levels."""
        levels = self.level[self.active].tolist() if rise else []
        return not levels or (min(levels) + rise >= 0 and max(levels) + rise < len(self.model.strengths))

    def raise_levels(self, rise: int) -> None:
        """Raise all strengths by a number of levels; tables are those of the old ones until they are refreshed."""
        active = self.active
        self.level[active] += rise
        self.scan.strengths = self.model.strengths[self.level[np.array(self.order, dtype=np.int64)]].tolist()

    def to_head(self) -> None:
        """Let all fields be those of the head; tables are those of the old one until they are looked at."""
        self.model = self.nominal.in_head(self.head.copy())
        for slot in self.active.tolist():
            self.fields[slot] = self.model.field(int(self.patch[slot]), self.deviation[slot])
