"""One chain of collapsed Gibbs sampling over which focal sources are active, how strong, and the scales.

There are `most` slots, each empty or with a source. A move empties one slot and draws what it holds from its exact
conditional over nothing and every place and extent at once, then the strength of what it drew from its conditional on
the grid. Courses and dense currents are integrated out throughout. Slots are picked at random, as many in each sweep,
whatever the state: letting the state choose how many moves are made would not leave the posterior invariant.

References: Liu (1994), J. Am. Stat. Assoc. 89, 958-966 (collapsed Gibbs sampling).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bayesinv.axes import Array, Index
from bayesinv.evidence.active import FocalCourses, FocalRecording, Table, columns_of, log_factors, remaining
from bayesinv.memory import PickledByFields, cached_property

EMPTY = -1
"""What an empty slot holds."""

POINTS = 8
"""Points of the random lattice along a hyperparameter, of which one is drawn in a sweep."""

LEVEL_STEPS, FARTHEST = 3, 3
"""Metropolis steps of time constant and error in a sweep, and levels of their grids that one goes at most."""

MOVES = 12
"""Slots that are drawn anew in a sweep."""


class LogPrior(Protocol):
    """Log prior density, source variance and noise scale (node,) at unconstrained points (node, coordinate)."""

    def __call__(self, nodes: Array) -> tuple[Array, Array, Array]: ...


@dataclass(frozen=True, eq=False)
class ActiveModel(PickledByFields):
    """What a chain samples: tables of fields, the recording, and the priors.

    fields : (component, patch × axis), in the eigenbasis of the dense currents, for currents of one unit
    recordings : for each time constant, with the baseline
    log_prior : (patch,)
    strengths, log_strengths : (level,), in that unit, and their log probabilities
    errors, log_errors : (level,), in units of the noise, and their log probabilities
    log_constants : (constant,), log probabilities
    count_prior : of the share of slots that are filled, a beta distribution
    most : slots
    axes : columns of a source
    """

    fields: Array
    recordings: tuple[FocalRecording, ...]
    log_prior: Array
    strengths: Array
    log_strengths: Array
    errors: Array
    log_errors: Array
    log_constants: Array
    count_prior: tuple[float, float]
    most: int
    axes: int

    @cached_property
    def table(self) -> Table:
        """The fields in single precision."""
        return self.fields.astype(np.float32)

    def log_density(
        self, patches: Index, strengths: Array, constant: int, variance: float, noise: float, error: float
    ) -> float:
        """Log density of the recording and baseline given all that is sampled, nats."""
        recording = self.recordings[constant]
        spread = recording.spread(variance, noise, error)
        out = recording.log_density(noise, spread)
        if len(patches):
            fields = self.fields[:, columns_of(patches, self.axes)] * np.repeat(strengths, self.axes)
            out += FocalCourses.at(recording, fields, spread).log_factor
        return out


@dataclass(frozen=True, eq=False)
class ActiveDraws(PickledByFields):
    """Draws of one chain.

    patch : for each draw (source,), patches that are active
    strength : for each draw (source,), in the model's unit of currents
    constant : (draw,), index of the time constant
    error : (draw,), in units of the noise
    points : (draw, coordinate), unconstrained hyperparameters
    """

    patch: tuple[Index, ...]
    strength: tuple[Array, ...]
    constant: Index
    error: Array
    points: Array


class Chain:
    """The state of one chain."""

    def __init__(self, model: ActiveModel, prior: LogPrior, start: Array, rng: np.random.Generator) -> None:
        self.model, self.prior, self.rng = model, prior, rng
        self.patch = np.full(model.most, EMPTY, dtype=np.int64)
        self.level = rng.choice(len(model.strengths), size=model.most, p=np.exp(model.log_strengths))
        self.constant = int(rng.choice(len(model.recordings), p=np.exp(model.log_constants)))
        self.error = int(rng.choice(len(model.errors), p=np.exp(model.log_errors)))
        self.share = model.count_prior[0] / sum(model.count_prior)
        self.point = start.copy()
        self.steps = np.full(len(start), 0.3)
        _, variance, noise = prior(self.point[None])
        self.variance, self.noise = float(variance[0]), float(noise[0])
        self._refresh()

    # --- what is worked out whenever scales or the time constant have changed

    def _refresh(self) -> None:
        model, recording = self.model, self.model.recordings[self.constant]
        spread = recording.spread(self.variance, self.noise, model.errors[self.error])
        self.precision = np.ascontiguousarray((1 / spread).T, dtype=np.float32)
        weighted = np.ascontiguousarray((recording.coefficients / spread).T, dtype=np.float32)
        self.cross = weighted @ model.table
        axes, patches = model.axes, model.fields.shape[1] // model.axes
        self.own = np.empty((len(recording.powers), patches, axes, axes), dtype=np.float32)
        for a in range(axes):
            for b in range(a + 1):
                square = model.table[:, a::axes] * model.table[:, b::axes]
                self.own[:, :, a, b] = self.own[:, :, b, a] = self.precision @ square
        self.products = {int(slot): self._products(self.patch[slot]) for slot in self.active}
        self.left: tuple[tuple[tuple[int, ...], ...], Table, Table] | None = None

    def _products(self, patch: int) -> Table:
        """Products (mode, patch × axis, axis) of all fields with those of one patch, weighted by D⁻¹."""
        own = self.model.table[:, columns_of(np.array([patch]), self.model.axes)]
        return np.stack([(self.precision * one) @ self.model.table for one in own.T], axis=2)

    @property
    def active(self) -> Index:
        """Slots that hold a source."""
        return np.flatnonzero(self.patch != EMPTY)

    def _remaining(self, others: Index) -> tuple[Table, Table]:
        """R (mode, patch, axis, axis) and c (mode, patch, axis) of every patch, given the sources in some slots."""
        model = self.model
        if not len(others):
            return self.own, self.cross.reshape(self.own.shape[:3])
        state = tuple(zip(others.tolist(), self.patch[others].tolist(), self.level[others].tolist(), strict=True))
        if self.left is None or self.left[0] != state:
            # Slots that are empty before and after they are drawn leave all as it was.
            products = np.concatenate([self.products[int(slot)] for slot in others], axis=2)
            strengths = np.repeat(model.strengths[self.level[others]], model.axes)
            columns = columns_of(self.patch[others], model.axes)
            powers = model.recordings[self.constant].powers
            self.left = (state, *remaining(self.own, self.cross, products, columns, strengths, powers))
        return self.left[1], self.left[2]

    # --- moves

    def draw_slot(self, slot: int) -> None:
        """Draw what a slot holds from its conditional given all else."""
        model, rng, powers = self.model, self.rng, self.model.recordings[self.constant].powers
        own, cross = self._remaining(self.active[self.active != slot])
        variance = model.strengths[self.level[slot]] ** 2
        log_mass = log_factors(own, cross, variance * powers[:, None]) + model.log_prior + np.log(self.share)
        log_mass = np.append(log_mass, np.log1p(-self.share))
        drawn = _drawn(log_mass, rng)
        if drawn == len(log_mass) - 1:
            self.products.pop(slot, None)
            self.patch[slot] = EMPTY
            # Strengths of empty slots have their prior.
            self.level[slot] = _drawn(model.log_strengths, rng)
            return
        weights = np.outer(powers, model.strengths**2)
        one = slice(drawn, drawn + 1)
        shape = (len(powers), len(model.strengths))
        self.level[slot] = _drawn(
            log_factors(
                np.broadcast_to(own[:, one], (*shape, *own.shape[2:])),
                np.broadcast_to(cross[:, one], (*shape, *cross.shape[2:])),
                weights,
            )
            + model.log_strengths,
            rng,
        )
        if self.patch[slot] != drawn:
            self.patch[slot] = drawn
            self.products[slot] = self._products(drawn)

    def _log_density(self, variance: float, noise: float, constant: int, error: int) -> float:
        active = self.active
        strengths = self.model.strengths[self.level[active]]
        return self.model.log_density(
            self.patch[active], strengths, constant, variance, noise, float(self.model.errors[error])
        )

    def draw_scales(self, adapting: int | None) -> None:
        """Draw every hyperparameter from its conditional on a lattice that holds its value at a random position.

        adapting : number of the sweep while the chain warms up and lattices adapt; None afterwards
        """
        for i in range(len(self.point)):
            own = int(self.rng.integers(POINTS))
            nodes = np.repeat(self.point[None], POINTS, axis=0)
            nodes[:, i] += self.steps[i] * (np.arange(POINTS) - own)
            log_mass, variance, noise = self.prior(nodes)
            valid = np.isfinite(log_mass) & (variance > 0) & (noise > 0) & np.isfinite(variance) & np.isfinite(noise)
            log_mass = np.where(valid, log_mass, -np.inf)
            for k in np.flatnonzero(valid):
                log_mass[k] += self._log_density(float(variance[k]), float(noise[k]), self.constant, self.error)
            drawn = _drawn(log_mass, self.rng)
            self.point, self.variance, self.noise = nodes[drawn], float(variance[drawn]), float(noise[drawn])
            if adapting is not None:
                mass = np.exp(log_mass - log_mass.max())
                worth = mass.sum() ** 2 / np.sum(mass**2)
                self.steps[i] *= np.exp((1 if worth > POINTS / 2 else -1) / np.sqrt(4 + adapting))

    def draw_levels(self) -> None:
        """Metropolis steps of the time constant and of the error, a few levels up or down."""
        model, scales = self.model, (self.variance, self.noise)
        current = self._log_density(*scales, self.constant, self.error)
        for _ in range(LEVEL_STEPS):
            for moves, prior in ((True, model.log_constants), (False, model.log_errors)):
                if len(prior) == 1:
                    continue
                old = self.constant if moves else self.error
                new = old + int(self.rng.choice([-1, 1])) * int(self.rng.integers(1, FARTHEST + 1))
                if not 0 <= new < len(prior):
                    continue
                value = self._log_density(*scales, new if moves else self.constant, self.error if moves else new)
                if np.log(self.rng.random()) < value + prior[new] - current - prior[old]:
                    current = value
                    self.constant, self.error = (new, self.error) if moves else (self.constant, new)

    def sweep(self, adapting: int | None) -> None:
        """Draw some slots, the scales, the levels and the share of slots that are filled."""
        for slot in self.rng.choice(self.model.most, size=min(MOVES, self.model.most), replace=False):
            self.draw_slot(int(slot))
        self.draw_scales(adapting)
        self.draw_levels()
        self._refresh()
        count, (filled, empty) = len(self.active), self.model.count_prior
        self.share = float(self.rng.beta(filled + count, empty + self.model.most - count))

    def run(self, warm: int, draws: int, told: Callable[[], None]) -> ActiveDraws:
        """Warm up, then return one draw per sweep.

        told : called after every sweep
        """
        for sweep in range(warm):
            self.sweep(sweep)
            told()
        kept: list[tuple[Index, Array, int, float, Array]] = []
        for _ in range(draws):
            self.sweep(None)
            active = self.active
            strengths = self.model.strengths[self.level[active]]
            error = float(self.model.errors[self.error])
            kept.append((self.patch[active].copy(), strengths, self.constant, error, self.point.copy()))
            told()
        patch, strength, constant, errors, points = zip(*kept, strict=True)
        return ActiveDraws(
            patch,
            strength,
            np.array(constant, dtype=np.int64),
            np.array(errors),
            np.array(points),
        )


def _drawn(log_mass: Array, rng: np.random.Generator) -> int:
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
