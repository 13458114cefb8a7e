"""Patches next to each other, and directions in which a patch may deviate from its place and shape towards these.

A source's pattern is b + Σ_n share_n (b_n - b), b its patch and b_n those next to it: at the places next to its own,
and one extent smaller and larger at its own place. Few of these combinations change the field much, and are kept:

    share = w @ directions / sqrt(number of neighbours),   w ~ Normal(0, deviation²)

with directions the first eigenvectors of the neighbours' differences in field. Sources lie between the places of a grid
and have shapes of their own, which one patch out of a few thousand is not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.spatial import cKDTree

from bayesinv.axes import Array, Index
from bayesinv.geometry.geodesic import edge_lengths
from bayesinv.head.sources import Sources
from bayesinv.memory import PickledByFields

DIRECTIONS = 4
"""Directions of a patch at most."""

LEAST = 1e-6
"""Power of a direction relative to the patch's strongest, below which it is none."""

NEAR = 1.3
"""Distance of places without triangles that are next to each other, relative to the median one to the nearest."""

BLOCK = 256
"""Patches whose directions are found at once."""


@dataclass(frozen=True, eq=False)
class Neighbours(PickledByFields):
    """Patches next to each patch, and the directions in which it may deviate.

    patches : (patch, neighbour), those next to it; itself where it has fewer
    directions : (patch, direction, neighbour)
    """

    patches: Index
    directions: Array

    @classmethod
    def none(cls, count: int) -> Neighbours:
        """Return the neighbours of patches that are taken as they are."""
        return cls(np.zeros((count, 0), dtype=np.int64), np.zeros((count, 0, 0)))

    @classmethod
    def of(cls, sources: Sources, extents: int, fields: Array) -> Neighbours:
        """Return the neighbours of the patches of every extent around every source, extent by extent.

        extents : number of extents
        fields : (patch, axis, component)
        """
        count = len(sources)
        start, stop = _next_to(sources)
        own, other = [start + k * count for k in range(extents)], [stop + k * count for k in range(extents)]
        for k in range(extents - 1):
            smaller = np.arange(count) + k * count
            own += [smaller, smaller + count]
            other += [smaller + count, smaller]
        first, second = np.concatenate(own), np.concatenate(other)
        if not len(first):
            return cls.none(count * extents)
        order = np.argsort(first, kind="stable")
        first, second = first[order], second[order]
        numbers = np.bincount(first, minlength=count * extents)
        patches = np.repeat(np.arange(count * extents)[:, None], int(numbers.max()), axis=1)
        rank = np.arange(len(first)) - np.repeat(np.cumsum(numbers) - numbers, numbers)
        patches[first, rank] = second
        return cls(patches, _directions(fields, patches, numbers))

    @property
    def count(self) -> int:
        """Number of directions of a patch."""
        return self.directions.shape[1]

    def parts(self, patches: Index) -> Index:
        """Patches that some sources are made of: (source, part), their own first."""
        return np.concatenate([patches[:, None], self.patches[patches]], axis=1)

    def shares(self, patches: Index, deviations: Array) -> Array:
        """Share of each part in the pattern of some sources, summing to one: (source, part).

        deviations : (source, direction)
        """
        found = np.einsum("sd,sdn->sn", deviations, self.directions[patches])
        return np.concatenate([1 - found.sum(axis=1, keepdims=True), found], axis=1)

    def fields_along(self, fields_of: Callable[[Index], Array], patches: Index) -> Array:
        """Fields of some patches and along their directions: (source, component, 1 + direction, axis).

        fields_of : from patches (..., ) to their fields (..., component, axis)
        """
        own = fields_of(patches)
        count, components, axes = own.shape
        differences = fields_of(self.patches[patches]) - own[:, None]
        along = self.directions[patches] @ differences.reshape(count, -1, components * axes)
        both = np.concatenate([own.reshape(count, 1, -1), along], axis=1)
        return both.reshape(count, -1, components, axes).swapaxes(1, 2)


def _next_to(sources: Sources) -> tuple[Index, Index]:
    """Pairs of sources next to each other, both ways: along edges of triangles, or the nearest ones without them."""
    if sources.triangles is not None:
        edges = coo_array(edge_lengths(sources))
        start, stop = edges.coords
        return np.concatenate([start, stop]), np.concatenate([stop, start])
    if len(sources) < 2:
        nothing = np.zeros(0, dtype=np.int64)
        return nothing, nothing
    nearest = cKDTree(sources.positions).query(sources.positions, k=2)[0][:, 1]
    start, stop = sources.pairs_within(NEAR * float(np.median(nearest)))
    apart = start != stop
    return start[apart], stop[apart]


def _directions(fields: Array, patches: Index, numbers: Index) -> Array:
    """Directions (patch, direction, neighbour) in which the field changes most."""
    count, width = patches.shape
    out = np.zeros((count, min(DIRECTIONS, width), width))
    for start in range(0, count, BLOCK):
        some = np.arange(start, min(start + BLOCK, count))
        columns = (fields[patches[some]] - fields[some, None]).reshape(len(some), width, -1)
        values, vectors = np.linalg.eigh(columns @ columns.swapaxes(1, 2))
        kept = slice(None, -out.shape[1] - 1, -1)
        found = vectors[:, :, kept].swapaxes(1, 2) / np.sqrt(np.maximum(numbers[some], 1))[:, None, None]
        out[some] = np.where(values[:, kept, None] > LEAST * values[:, -1:, None], found, 0.0)
    return out
