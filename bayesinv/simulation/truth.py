"""Truth: the true currents of a simulation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from bayesinv.axes import Array, Index, freeze, real, same_axes
from bayesinv.head.sources import Sources


@dataclass(frozen=True, eq=False)
class Truth:
    """Currents along the normals of known sources.

    sources : where the currents flow
    current : (source, time), A m
    times : (time,), s
    notes : how the truth and its lead field were made, for people to read
    parts : (source,), number of the dipole or patch that a source belongs to, or None for a single one
    """

    sources: Sources
    current: Array
    times: Array
    notes: Mapping[str, str] = field(default_factory=dict)
    parts: Index | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "current", real("current", self.current, "source time"))
        object.__setattr__(self, "times", real("times", self.times, "time"))
        same_axes(current=(self.current, "source time"), times=(self.times, "time"))
        if len(self.current) != len(self.sources):
            raise ValueError(f"current has source = {len(self.current)}, but there are {len(self.sources)} sources")
        if self.parts is not None:
            object.__setattr__(self, "parts", np.asarray(self.parts, dtype=np.int64))
            same_axes(current=(self.current, "source time"), parts=(self.parts, "source"))
        freeze(self.current, self.times, self.parts)

    @property
    def course(self) -> Array:
        """Sum of all currents along their normals, A m: (time,)."""
        return np.asarray(self.current.sum(axis=0))

    @property
    def peak_time(self) -> float:
        """Time in s at which the power of all currents is largest."""
        return float(self.times[int(np.argmax(np.sum(self.current**2, axis=0)))])

    @property
    def centre(self) -> Array:
        """Mean position (3,) in m of the sources, weighted by the current at the peak."""
        size = np.abs(self.current[:, int(np.argmax(np.sum(self.current**2, axis=0)))])
        return np.asarray(size @ self.sources.positions / size.sum())


def together(*truths: Truth) -> Truth:
    """Return the union of some truths, all of them active at once; their parts are numbered one after the other.

    Raises
    ------
    ValueError
        If there are none, their times differ, or two of them share a source.
    """
    if not truths:
        raise ValueError("there are no truths to combine")
    first = truths[0]
    if any(len(one.times) != len(first.times) or np.abs(one.times - first.times).max() > 1e-9 for one in truths):
        raise ValueError("the truths have other times; make them on the same ones")
    positions = np.concatenate([one.sources.positions for one in truths])
    if len(cKDTree(positions).query_pairs(1e-6)):
        raise ValueError(
            "the truths share sources: their patches overlap; put them farther apart, or make them smaller"
        )

    def joined(name: str) -> Any:
        values = [getattr(one.sources, name) for one in truths]
        return None if any(value is None for value in values) else np.concatenate(values)

    sources = replace(
        first.sources,
        positions=positions,
        triangles=None,
        **{name: joined(name) for name in ("normals", "areas", "vertices", "hemispheres")},
    )
    parts: list[Index] = []
    for one in truths:
        own = np.zeros(len(one.sources), dtype=np.int64) if one.parts is None else one.parts
        parts.append(own + (parts[-1].max() + 1 if parts else 0))
    notes = {"truth": "; ".join(one.notes.get("truth", "") for one in truths)}
    current = np.concatenate([one.current for one in truths])
    return Truth(sources, current, first.times, notes, np.concatenate(parts))
