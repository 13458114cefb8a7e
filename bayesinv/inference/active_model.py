"""What a chain over active sets samples, and the draws that it returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bayesinv.axes import Array, Index
from bayesinv.evidence.active import FocalCourses, FocalRecording, Table
from bayesinv.memory import PickledByFields, cached_property
from bayesinv.prior.neighbours import Neighbours

EMPTY = -1
"""No source."""


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
    neighbours : of patches
    deviation : standard deviation of how far patches deviate along each direction
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
    neighbours: Neighbours
    deviation: float
    log_constants: Array
    count_prior: tuple[float, float]
    most: int
    axes: int

    @cached_property
    def table(self) -> Table:
        """The fields in single precision, by axis: (axis, component, patch)."""
        fields = self.fields.astype(np.float32).reshape(len(self.fields), -1, self.axes)
        return np.ascontiguousarray(fields.transpose(2, 0, 1))

    @cached_property
    def pairs(self) -> Table:
        """Products of the table's axes, a ≥ b at a (a + 1) / 2 + b: (pair, component, patch)."""
        return np.stack([self.table[a] * self.table[b] for a in range(self.axes) for b in range(a + 1)])

    @cached_property
    def by_patch(self) -> Array:
        """The fields of each patch: (patch, component, axis)."""
        return np.ascontiguousarray(self.fields.reshape(len(self.fields), -1, self.axes).swapaxes(0, 1))

    def field(self, patch: int, deviation: Array) -> Array:
        """Field (component, axis) of unit strength of a patch that deviates by (direction,)."""
        if not len(deviation):
            return np.asarray(self.by_patch[patch])
        one = np.array([patch])
        parts, shares = self.neighbours.parts(one)[0], self.neighbours.shares(one, deviation[None])[0]
        return np.asarray(np.tensordot(shares, self.by_patch[parts], axes=1))

    def log_density(
        self, fields: Array, constant: int, variance: float, noise: float, error: float
    ) -> tuple[float, float]:
        """Log density of the recording and baseline without sources, and what sources add to it, nats.

        fields : (component, source × axis), times strengths
        """
        recording = self.recordings[constant]
        spread = recording.spread(variance, noise, error)
        dense = recording.log_density(noise, spread)
        if not fields.shape[1]:
            return dense, 0.0
        return dense, FocalCourses.at(recording, fields, spread).log_factor


@dataclass(frozen=True, eq=False)
class ActiveDraws(PickledByFields):
    """Draws of one chain.

    patch : for each draw (source,), patches that are active
    strength : for each draw (source,), in the model's unit of currents
    deviation : for each draw (source, direction)
    constant : (draw,), index of the time constant
    error : (draw,), in units of the noise
    points : (draw, coordinate), unconstrained hyperparameters
    """

    patch: tuple[Index, ...]
    strength: tuple[Array, ...]
    deviation: tuple[Array, ...]
    constant: Index
    error: Array
    points: Array

    def followed_by(self, later: ActiveDraws) -> ActiveDraws:
        """Return these draws and later ones of the same chain."""
        return ActiveDraws(
            self.patch + later.patch,
            self.strength + later.strength,
            self.deviation + later.deviation,
            np.concatenate([self.constant, later.constant]),
            np.concatenate([self.error, later.error]),
            np.concatenate([self.points, later.points]),
        )
