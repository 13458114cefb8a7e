"""What a chain over active sets samples, and the draws that it returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from dataclasses import fields as dataclass_fields
from typing import Protocol

import numpy as np
from scipy.interpolate import CubicSpline

from bayesinv.axes import Array, Index
from bayesinv.evidence.active import FocalRecording, Table
from bayesinv.inference.active_tables import Parts, Tables
from bayesinv.memory import PickledByFields, cached_property
from bayesinv.prior.neighbours import Neighbours

EMPTY = -1
"""No source."""

Source = tuple[int, int, Array]
"""A patch, the level of its strength, and its deviation (direction,)."""

APART = 3
"""Levels from one to the next at which what a source adds is worked out for all patches."""


class LogPrior(Protocol):
    """Log prior density, source variance and noise scale (node,) at unconstrained points (node, coordinate)."""

    def __call__(self, nodes: Array) -> tuple[Array, Array, Array]: ...


@dataclass(frozen=True, eq=False)
class ActiveModel(PickledByFields):
    """What a chain samples: tables of fields, the recording, and the priors.

    by_patch : (patch, axis, component), fields in the eigenbases of the dense currents, for currents of one unit; all
        bases side by side, see `evidence.active_modes`, if there are several, in single precision
    recordings : for each time constant, with the baseline
    log_prior : (patch,)
    strengths, log_strengths : (level,), in that unit, and their log probabilities
    errors, log_errors : (level,), in units of the noise, and their log probabilities
    neighbours : of patches
    deviation : standard deviation of how far patches deviate along each direction
    log_constants : (constant,), log probabilities
    count_prior : of the share of slots that are filled, a beta distribution
    most : slots
    modes_by_patch : (patch, mode, axis, component), what the fields vary by with the head; None for none
    """

    by_patch: Array
    recordings: tuple[FocalRecording, ...]
    log_prior: Array
    strengths: Array
    log_strengths: Array
    errors: Array
    log_errors: Array
    neighbours: Neighbours
    deviation: float
    log_constants: Array
    count_prior: tuple[float, float]
    most: int
    modes_by_patch: Array | None = None

    @property
    def heads(self) -> int:
        """Number of the head's coordinates."""
        return 0 if self.modes_by_patch is None else self.modes_by_patch.shape[1]

    @property
    def axes(self) -> int:
        """Columns of a source."""
        return self.by_patch.shape[1]

    @property
    def components(self) -> int:
        """Rows of a field."""
        return self.by_patch.shape[2]

    @cached_property
    def knots(self) -> tuple[Index, Table]:
        """Levels at which what a source adds is worked out for all patches, and the spline (level, knot) between them.

        As a function of the logarithm of a strength it is a sum of logistic functions, one for every mode.
        """
        levels = np.arange(len(self.strengths))
        if len(levels) <= 2 * APART:
            return levels, np.eye(len(levels), dtype=np.float32)
        knots = np.unique(np.r_[levels[::APART], levels[-1]])
        return knots, CubicSpline(knots, np.eye(len(knots)))(levels).astype(np.float32)

    @cached_property
    def _prior_shares(self) -> tuple[Array, Array]:
        return np.cumsum(np.exp(self.log_prior)), np.cumsum(np.exp(self.log_strengths))

    def draw_source(self, rng: np.random.Generator) -> Source:
        """Draw a source from the prior."""
        patch, level = (
            min(int(one.searchsorted(rng.random() * one[-1], side="right")), len(one) - 1) for one in self._prior_shares
        )
        return patch, level, self.deviation * rng.standard_normal(self.neighbours.count)

    def in_head(self, head: Array) -> ActiveModel:
        """Return the same with the fields of a head, by its coordinates (mode,)."""
        if not len(head):
            return self
        return InHead(
            **{one.name: getattr(self, one.name) for one in dataclass_fields(ActiveModel)}, nominal=self, head=head
        )

    @cached_property
    def parts(self) -> Parts:
        """Which patches sweeps look at in turn."""
        recording = self.recordings[len(self.recordings) // 2]
        return Parts.of(self, recording, self.strengths[self.knots[0]])

    def tables(self, part: int) -> Tables:
        """Tables of what sweeps look at in a part."""
        return Tables.of(self, self.parts.patches(part))

    def of_patches(self, patches: Index) -> Array:
        """Fields of some patches (any shape): (..., component, axis)."""
        return np.asarray(self.by_patch[patches].swapaxes(-1, -2), dtype=np.float64)

    def field(self, patch: int, deviation: Array) -> Array:
        """Field (component, axis) of unit strength of a patch that deviates by (direction,)."""
        if not len(deviation):
            return self.of_patches(np.array(patch))
        parts, shares = self._blend(patch, deviation)
        fields = self.of_patches(parts)
        return np.asarray((shares @ fields.reshape(len(parts), -1)).reshape(fields.shape[1:]))

    def field_modes(self, patch: int, deviation: Array) -> Array:
        """What that field varies by with the head: (mode, component, axis)."""
        parts, shares = self._blend(patch, deviation)
        assert self.modes_by_patch is not None
        return np.asarray(np.tensordot(shares, self.modes_by_patch[parts], axes=1).swapaxes(-1, -2))

    def _blend(self, patch: int, deviation: Array) -> tuple[Index, Array]:
        one = np.array([patch])
        return self.neighbours.parts(one)[0], self.neighbours.shares(one, deviation[None])[0]

    def log_density(
        self, fields: Array, constant: int, variance: float, noise: float, error: float
    ) -> tuple[float, float]:
        """Log density of the recording and baseline without sources, and what sources add to it, nats.

        fields : (component, source × axis), times strengths
        """
        columns = np.ascontiguousarray(fields.T)
        return self.recordings[constant].log_densities(columns, variance, noise, error)


@dataclass(frozen=True, eq=False)
class InHead(ActiveModel):
    """A model with the fields of one head.

    nominal : the model with those of the mean head
    head : (mode,), coordinates
    """

    nominal: ActiveModel = field(kw_only=True)
    head: Array = field(kw_only=True)

    def of_patches(self, patches: Index) -> Array:
        """Fields of some patches (any shape): (..., component, axis)."""
        assert self.modes_by_patch is not None
        varied = np.einsum("m,...mac->...ca", self.head, self.modes_by_patch[patches])
        return np.asarray(self.nominal.of_patches(patches) + varied)

    def field_modes(self, patch: int, deviation: Array) -> Array:
        """What the field of a patch that deviates varies by with the head: (mode, component, axis)."""
        return self.nominal.field_modes(patch, deviation)


@dataclass(frozen=True, eq=False)
class ActiveDraws(PickledByFields):
    """Draws of one chain.

    patch : for each draw (source,), patches that are active
    strength : for each draw (source,), in the model's unit of currents
    deviation : for each draw (source, direction)
    constant : (draw,), index of the time constant
    error : (draw,), in units of the noise
    points : (draw, coordinate), unconstrained hyperparameters
    head : (draw, mode), coordinates of the head
    """

    patch: tuple[Index, ...]
    strength: tuple[Array, ...]
    deviation: tuple[Array, ...]
    constant: Index
    error: Array
    points: Array
    head: Array

    def picked(self, some: Index) -> ActiveDraws:
        """Return some of the draws, in the order of their numbers."""
        return ActiveDraws(
            tuple(self.patch[n] for n in some),
            tuple(self.strength[n] for n in some),
            tuple(self.deviation[n] for n in some),
            self.constant[some],
            self.error[some],
            self.points[some],
            self.head[some],
        )

    def followed_by(self, later: ActiveDraws) -> ActiveDraws:
        """Return these draws and later ones of the same chain."""
        return ActiveDraws(
            self.patch + later.patch,
            self.strength + later.strength,
            self.deviation + later.deviation,
            np.concatenate([self.constant, later.constant]),
            np.concatenate([self.error, later.error]),
            np.concatenate([self.points, later.points]),
            np.concatenate([self.head, later.head]),
        )
