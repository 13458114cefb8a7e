"""One chain of collapsed Gibbs sampling over which focal sources are active, how strong, and the scales.

There are `most` slots, each empty or with a source. A move empties one slot and draws what it holds from its exact
conditional over nothing and every place, extent and strength at once. Where patches deviate towards their neighbours,
the conditional is known up to Gaussian approximations of the integral over deviations for the few patches that matter,
and what is drawn is accepted or not by its exact density. Courses and dense currents are integrated out throughout.
Slots are picked at random, as many in each sweep, whatever the state: letting the state choose how many moves are made
would not leave the posterior invariant.

A chain warms up by annealing: what sources add to the log density is multiplied by a tempering parameter that rises
from 0, where dense currents explain the recording, to 1. The densities passed on the way give the ratio of evidence
with and without focal sources, and chains find the same explanations whatever they start from.

References: Liu (1994), J. Am. Stat. Assoc. 89, 958-966 (collapsed Gibbs sampling); Neal (2001), Stat. Comput. 11,
125-139 (annealed importance sampling).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bayesinv.axes import Array, Index
from bayesinv.inference.active_jumps import draw_from_prior, draw_head, draw_pair, draw_with_head
from bayesinv.inference.active_model import EMPTY, ActiveDraws, ActiveModel, LogPrior, Source
from bayesinv.inference.active_slot import NearConditional, OneMore, SlotConditional, one_of_mass
from bayesinv.inference.active_state import ActiveState
from bayesinv.inference.active_tables import NEVER
from bayesinv.inference.processes import Desk
from bayesinv.prior.patches import head_of_prior

POINTS = 8
"""Points of the random lattice along a hyperparameter, of which one is drawn in a sweep."""

WIDER = 8.0
"""Factor by which half of all lattices are wider: where currents are too weak to be seen a scale may be anything."""

RATE = 0.3
"""Change of the logarithm of a lattice's step while a chain warms up: what is likely changes fast then."""

STEPS, ACCEPTANCE = 4, 0.25
"""Metropolis steps of all that sources have in common in a sweep, and the share of them that is to be accepted."""

MEMORY = 50
"""Sweeps of warming up that the shape of these steps is learned from."""

TRIES = 4
"""Times that what a slot holds is drawn and accepted or not, whatever it holds: of a few that are drawn one may do."""

MOVES, PAIRS, HEADS = 20, 1, 2
"""Slots that are drawn anew in a sweep, pairs of which merging or splitting is tried, and heads that are tried with
another place of a source."""

RISE = 3
"""Power of a sweep's share by which the tempering rises: strong sources come in while it is low."""

WINDOW, SLOPES = 5, (-0.5, 1.5)
"""Time constants next to each other of which one is drawn, and the least and most levels of strength by which the dense
scale changes from one to the next."""

SETTLING = 30
"""Sweeps of scales and levels alone before sources come in."""


class Chain(ActiveState):
    """A chain: a state, and the moves that leave the posterior as it is."""

    def __init__(self, model: ActiveModel, prior: LogPrior, start: Array, rng: np.random.Generator) -> None:
        super().__init__(model, prior, start, rng)
        self.steps = np.full(len(start), 0.3)
        # Of hyperparameters, and of levels of time constant and error: least, mean and covariance, by which they move.
        self.least = np.r_[np.full(len(start), 0.02), 0.3, 0.3]
        self.middle, self.spread = np.r_[start, self.constant, self.error], np.diag(25 * self.least**2)
        self.stride, self.shift = 2.4 / np.sqrt(len(self.least)), 0.0
        self.along = self._along()

    def draw_slot(self, slot: int) -> None:
        """Draw what a slot holds given all else, by a step that leaves its conditional as it is."""
        model, rng, before = self.model, self.rng, self.held(slot)
        if not self.sees(slot):
            return
        if before[0] != EMPTY:
            self.take(slot)
        one, log_nothing = self.conditional(), -self.log_odds(len(self.order))
        log_odds = min(one.log_total - log_nothing, 700.0)
        held, weight = before, None
        for _ in range(TRIES):
            nothing = rng.random() < 1 / (1 + np.exp(log_odds))
            if nothing and held[0] == EMPTY:
                continue
            found = (EMPTY, *before[1:]) if nothing else one.draw(rng)
            ahead, weight = self._weight(one, found), self._weight(one, held) if weight is None else weight
            if np.log(rng.random()) < ahead - weight:
                held, weight = found, ahead
        self.hold(slot, *held)
        if self.patch[slot] == EMPTY:
            return
        if model.neighbours.count:
            self._draw_near(slot, one)
        added = one.products(int(self.patch[slot])).profiles(self.deviation[[slot]], model.strengths)[:, 0]
        self.level[slot] = one_of_mass(self.tempering * added + model.log_strengths, rng)
        self.put(slot)

    def _weight(self, one: SlotConditional, held: Source) -> float:
        """Log ratio of the density of what a slot holds to the one that it is drawn with."""
        return 0.0 if held[0] == EMPTY else one.log_exact(*held) - one.log_drawn(*held)

    def _draw_near(self, slot: int, one: OneMore) -> None:
        """Draw a source among the patch that it has and those next to it, by a Metropolis step."""
        patch, level, deviation = self.held(slot)
        ahead = NearConditional.of(one, patch, level)
        found = ahead.draw(self.rng)
        if self.kinds[found[0]] == NEVER:
            # It could not come back in this sweep.
            return
        behind = ahead if found[0] == patch else NearConditional.of(one, found[0], level)
        log_ratio = one.log_exact(found[0], level, found[1]) - ahead.log_drawn(*found)
        log_ratio -= one.log_exact(patch, level, deviation) - behind.log_drawn(patch, deviation)
        if np.log(self.rng.random()) < log_ratio:
            self.hold(slot, found[0], level, found[1])

    def _prior_at(self, nodes: Array) -> tuple[Array, Array, Array]:
        """Log prior, dense variance and noise (node,) of hyperparameters; no mass where one of them is not valid."""
        log_mass, variance, noise = self.prior(nodes)
        valid = np.isfinite(log_mass) & (variance > 0) & (noise > 0) & np.isfinite(variance) & np.isfinite(noise)
        return np.where(valid, log_mass, -np.inf), variance, noise

    def draw_scale(self, i: int, adapting: int | None) -> None:
        """Draw a hyperparameter from its conditional on a lattice that holds its value at a random position.

        adapting : number of the sweep while the chain warms up and lattices adapt; None afterwards
        """
        own, wide = int(self.rng.integers(POINTS)), int(self.rng.integers(2))
        nodes = np.repeat(self.point[None], POINTS, axis=0)
        nodes[:, i] += self.steps[i] * WIDER**wide * (np.arange(POINTS) - own)
        log_mass, variance, noise = self._prior_at(nodes)
        for k in np.flatnonzero(np.isfinite(log_mass)):
            log_mass[k] += self.log_density(float(variance[k]), float(noise[k]), self.constant, self.error)
        drawn = one_of_mass(log_mass, self.rng)
        self.point, self.variance, self.noise = nodes[drawn], float(variance[drawn]), float(noise[drawn])
        if adapting is not None and not wide:
            mass = np.exp(log_mass - log_mass.max())
            worth = mass.sum() ** 2 / np.sum(mass**2)
            self.steps[i] *= np.exp(RATE if worth > POINTS / 2 else -RATE)

    def _along(self) -> Array:
        """Direction of the hyperparameters in which the dense variance grows, by a level of strengths."""
        size = len(self.point)
        nodes = self.point + np.r_[np.zeros((1, size)), 1e-3 * np.eye(size)]
        logs = np.log(self.prior(nodes)[1])
        slope = (logs[1:] - logs[0]) / 1e-3
        ratio = np.log(self.model.strengths[-1] / self.model.strengths[0]) / max(len(self.model.strengths) - 1, 1)
        return np.asarray(2 * ratio * slope / max(float(slope @ slope), 1e-12))

    def draw_together(self, adapting: int | None) -> None:
        """Metropolis steps of all hyperparameters, the time constant and the error at once.

        Their covariance, by which steps are shaped, is learned while the chain warms up.
        """
        model, rng, size = self.model, self.rng, len(self.point)
        highest = np.array([len(model.log_constants), len(model.log_errors)]) - 1
        if not size + highest.sum():
            return
        lower, levels = np.linalg.cholesky(self.spread), np.array([self.constant, self.error])
        steps = (lower @ rng.standard_normal((size + 2, STEPS))).T
        ahead = self.prior(self.point[None])
        current = float(ahead[0][0]) + self.at_levels(self.variance, self.noise, self.constant, self.error)
        made = -1
        for i, step in enumerate(self.stride * steps):
            if made < 0:
                # The prior where the next steps lead, until one of them is taken.
                ahead, made = self.prior(self.point + self.stride * steps[i:, :size]), i
            near = levels + np.rint(step[size:]).astype(int)
            accepted = False
            if (near >= 0).all() and (near <= highest).all():
                prior, variance, noise = (float(one[i - made]) for one in ahead)
                value = -np.inf
                if np.isfinite([prior, variance, noise]).all() and min(variance, noise) > 0:
                    value = prior + self.at_levels(variance, noise, *near.tolist())
                accepted = bool(np.log(rng.random()) < value - current)
            if accepted:
                current, levels, made = value, near, -1
                self.point, self.variance, self.noise = self.point + step[:size], variance, noise
                self.constant, self.error = near.tolist()
            if adapting is not None:
                self.shift += (accepted - ACCEPTANCE) / np.sqrt(4 + adapting)
        if adapting is not None:
            self.stride = 2.4 / np.sqrt(size + 2) * float(np.exp(self.shift))
            now, rate = np.r_[self.point, levels], 1 / min(adapting + 2, MEMORY)
            self.spread += rate * (np.outer(now - self.middle, now - self.middle) - self.spread)
            self.middle += rate * (now - self.middle)
            self.spread[np.diag_indices(size + 2)] += rate * self.least**2

    def draw_constant(self) -> None:
        """Draw the time constant, all strengths and the dense variance changing with it.

        Smooth courses of a longer constant are as probable with more variance, and those of a rough course with less:
        how much the logarithms change by a level of the constant is drawn first, of sources and dense currents apart.
        """
        model, rng = self.model, self.rng
        levels = np.arange(WINDOW) - int(rng.integers(WINDOW))
        constants, rises = self.constant + levels, levels * int(rng.integers(2))
        nodes = self.point + (rng.uniform(*SLOPES) * levels[:, None]) * self.along
        log_mass, variance, noise = self._prior_at(nodes)
        for k, (constant, rise) in enumerate(zip(constants.tolist(), rises.tolist(), strict=True)):
            if np.isfinite(log_mass[k]) and 0 <= constant < len(model.log_constants) and self.may_rise(rise):
                log_mass[k] += self.at_levels(float(variance[k]), float(noise[k]), constant, self.error, rise)
            else:
                log_mass[k] = -np.inf
        drawn = one_of_mass(log_mass, rng)
        self.constant, self.point = int(constants[drawn]), nodes[drawn]
        self.variance, self.noise = float(variance[drawn]), float(noise[drawn])
        self.raise_levels(int(rises[drawn]))

    def draw_scales(self, adapting: int | None) -> None:
        """Draw the hyperparameters, the time constant and the error."""
        self.draw_constant()
        for i in range(len(self.point)):
            self.draw_scale(i, adapting)
        errors = range(len(self.model.log_errors))
        each = [self.at_levels(self.variance, self.noise, self.constant, i) for i in errors]
        self.error = one_of_mass(np.array(each), self.rng)
        self.draw_together(adapting)

    def sweep(self, adapting: int | None) -> None:
        """Draw some slots, some pairs, and what all sources have in common."""
        for slot in self.rng.choice(self.model.most, size=min(MOVES, self.model.most), replace=False):
            self.draw_slot(int(slot))
        for _ in range(PAIRS):
            draw_pair(self)
        for _ in range(HEADS):
            draw_with_head(self)
        self.draw_scales(adapting)
        draw_head(self)
        draw_from_prior(self)
        self.draw_turn()
        self.refresh()

    def _draw_prior(self) -> None:
        """Draw sources from their prior, whatever the recording."""
        if len(self.head):
            self.head = head_of_prior(len(self.head), self.rng)
            self.to_head()
        model = self.model
        filled = self.rng.random(model.most) < self.rng.beta(*model.count_prior)
        for slot in np.flatnonzero(filled).tolist():
            self.hold(slot, *model.draw_source(self.rng))

    def anneal(self, sweeps: int, told: Callable[[], None]) -> float:
        """Start from dense currents alone, and return the log of an unbiased estimate of a ratio.

        It is that of the evidence to the evidence without focal sources.

        sweeps : in which the tempering rises
        told : called after every sweep
        """
        log_ratio = 0.0
        for sweep in range(SETTLING):
            self.draw_scales(sweep)
        self._draw_prior()
        self.draw_turn()
        self.refresh()
        self.tempering = 0.0
        for sweep in range(sweeps):
            tempering = ((sweep + 1) / sweeps) ** RISE
            _, added = self.log_densities(self.variance, self.noise, self.constant, self.error)
            log_ratio += (tempering - self.tempering) * added
            self.tempering = tempering
            self.sweep(SETTLING + sweep)
            told()
        return log_ratio

    def run(self, draws: int, told: Callable[[], None]) -> ActiveDraws:
        """Return one draw per sweep.

        told : called after every sweep
        """
        kept: list[tuple[Index, Array, Array, int, float, Array, Array]] = []
        for _ in range(draws):
            self.sweep(None)
            active = self.active
            strengths = self.model.strengths[self.level[active]]
            error = float(self.model.errors[self.error])
            sources = self.patch[active].copy(), strengths, self.deviation[active]
            kept.append((*sources, self.constant, error, self.point.copy(), self.head.copy()))
            told()
        patch, strength, deviation, constant, errors, points, heads = zip(*kept, strict=True)
        constants = np.array(constant, dtype=np.int64)
        return ActiveDraws(patch, strength, deviation, constants, np.array(errors), np.array(points), np.array(heads))


def begun(desk: Desk, number: int, start: Array, rng: np.random.Generator, warm: int) -> float:
    """Begin a chain, and return the log ratio that it gathers as it warms up; see `Chain.anneal`.

    desk : with the model, its parts, and who is asked for the prior and told of every sweep
    """
    model, parts = desk.shared
    # They take a while to find, and are the same in all processes.
    vars(model).setdefault("parts", parts)
    chain = desk.kept[number] = Chain(model, lambda nodes: desk.ask("prior", nodes), start, rng)
    return chain.anneal(warm, lambda: desk.ask("told"))


def drawn(desk: Desk, number: int, draws: int) -> ActiveDraws:
    """Return the next draws of a chain that was begun."""
    chain: Chain = desk.kept[number]
    return chain.run(draws, lambda: desk.ask("told"))
