"""Tables of the fields of some patches, that a chain looks at in a sweep.

Most patches hold no source that could explain the recording. A sweep looks at those that may, and at one part of all
others. Which part is drawn given where sources are, for a source in a part that is not looked at has to stay there:
with n_i sources in part i of m,

    p(i | sources) = (1 + K n_i) / (m + K Σ n),    K = FAVOUR m

and a sweep samples the density of the sources times the probability of its part, of which the first is a marginal.
Which patches are looked at always must not depend on the chain: they are those that explain best what others leave, one
patch after the other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from bayesinv.axes import Array, Index
from bayesinv.evidence.active import FocalRecording, Table
from bayesinv.evidence.active_scan import Scan
from bayesinv.memory import PickledByFields, cached_property

ALWAYS, NOW, NEVER = 0, 1, 2

LIKELY, OTHERS = 512, 512
"""Patches that every sweep looks at, and of the others in a part, at most."""

FAVOUR = 4.0
"""How much more probable a part is by a source in it, relative to the number of parts."""

ROUNDS, AT_ONCE = 8, 8192
"""Patches that are taken one after the other to explain what those before leave, and those that are tried at once."""


class ByPatch(Protocol):
    """Fields (patch, axis, component) of all patches, and what they vary by with the head (patch, mode, ...)."""

    @property
    def by_patch(self) -> Array: ...

    @property
    def modes_by_patch(self) -> Array | None: ...


@dataclass(frozen=True, eq=False)
class Tables(PickledByFields):
    """Fields of some patches in single precision.

    patches : (patch,), in rising order
    fields : (axis, component, patch)
    modes : (mode, axis, component, patch), what they vary by with the head; None for none
    """

    patches: Index
    fields: Table
    modes: Table | None

    @classmethod
    def of(cls, model: ByPatch, patches: Index) -> Tables:
        """Return the tables of some patches."""
        fields = model.by_patch[patches].transpose(1, 2, 0)
        modes = None if model.modes_by_patch is None else model.modes_by_patch[patches].transpose(1, 2, 3, 0)
        varied = None if modes is None else np.ascontiguousarray(modes, dtype=np.float32)
        return cls(patches, np.ascontiguousarray(fields, dtype=np.float32), varied)

    @cached_property
    def pairs(self) -> Table:
        """Products of the fields' axes, a ≥ b at a (a + 1) / 2 + b: (pair, component, patch)."""
        return np.stack([self.fields[a] * self.fields[b] for a in range(len(self.fields)) for b in range(a + 1)])

    def in_head(self, head: Array) -> Tables:
        """Return the tables in a head, by its coordinates (mode,)."""
        if self.modes is None:
            return self
        return replace(self, fields=self.fields + np.tensordot(head.astype(np.float32), self.modes, axes=1))

    def place(self, patch: int) -> int:
        """Place in the tables of a patch that is in them."""
        return int(np.searchsorted(self.patches, patch))


def likely(model: ByPatch, recording: FocalRecording, strengths: Array) -> Index:
    """Patches that explain best what others leave, `LIKELY` of them.

    Noise has its own scale here and there are no dense currents, which would take their part. Tables are those of some
    patches at a time: of all they would take more memory than the fields.

    strengths : (strength,), that sources may have
    """
    count, spread = len(model.by_patch), recording.spread(0.0, 1.0, 0.0)
    at_once = max(1, AT_ONCE * len(recording.coefficients) // model.by_patch.shape[2])
    best, height, level = np.full(count, count), np.empty(count), np.empty(count, dtype=np.int64)
    fields: list[Array] = []
    levels: list[int] = []
    for _ in range(ROUNDS):
        for start in range(0, count, at_once):
            tables = Tables.of(model, np.arange(start, min(start + at_once, count)))
            scan, some = Scan(tables.fields, tables.pairs), slice(start, start + at_once)
            scan.begin(recording, spread)
            scan.put(fields, strengths[levels])
            found = scan.log_factors(strengths)
            height[some], level[some] = found.max(axis=0), found.argmax(axis=0)
        order = np.argsort(-height)
        best[order] = np.minimum(best[order], np.arange(count))
        fields.append(np.asarray(model.by_patch[order[0]].T, dtype=np.float64))
        levels.append(int(level[order[0]]))
    return np.argsort(best, kind="stable")[:LIKELY]


@dataclass(frozen=True, eq=False)
class Parts(PickledByFields):
    """The part that each patch is in.

    part : (patch,), from 0; -1 for patches that every sweep looks at
    count : number of parts
    """

    part: Index
    count: int

    @classmethod
    def of(cls, model: ByPatch, recording: FocalRecording, strengths: Array) -> Parts:
        """Return the parts of all patches; there is one where they are few. See `likely`."""
        part = np.full(len(model.by_patch), -1)
        if len(part) <= LIKELY + OTHERS:
            return cls(part, 1)
        others = np.ones(len(part), dtype=bool)
        others[likely(model, recording, strengths)] = False
        count = -(-int(others.sum()) // OTHERS)
        part[others] = np.arange(others.sum()) % count
        return cls(part, count)

    def patches(self, part: int) -> Index:
        """Patches that are looked at in a part, in rising order."""
        return np.flatnonzero((self.part == -1) | (self.part == part))

    def kinds(self, part: int) -> Index:
        """Whether each patch is looked at `ALWAYS`, `NOW` in a part, or `NEVER`: (patch,)."""
        return np.where(self.part == -1, ALWAYS, np.where(self.part == part, NOW, NEVER))

    def numbers(self, patches: Index) -> Index:
        """How many of some patches are in each part: (part,)."""
        held = self.part[patches]
        return np.bincount(held[held >= 0], minlength=self.count)


def part_odds(numbers: Index) -> Array:
    """Probability (part,) of looking at each part, up to a factor, by the number of sources in it."""
    return np.asarray(1 + FAVOUR * len(numbers) * numbers)


def log_bonus(parts: int, now: int, others: int) -> Array:
    """How the log probability of the part that is looked at changes by one source more, of each kind of patch.

    now, others : number of sources in this part, and in other ones
    """
    favour, total = FAVOUR * parts, parts + FAVOUR * parts * (now + others)
    more = np.log(1 + favour / total)
    out = np.empty(3)
    out[ALWAYS], out[NOW], out[NEVER] = 0.0, np.log1p(favour / (1 + favour * now)) - more, -more
    return out
