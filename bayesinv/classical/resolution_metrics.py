"""Metrics of resolution, by distances along the cortex or through space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayesinv.axes import Array, Index

DISTANCES = ("euclidean", "geodesic")


@dataclass(frozen=True, eq=False)
class Metrics:
    """Localisation error, extent and amplitude of every source's point spread or cross talk.

    With w the magnitude of a source's function over all sources and d the distance from that source:

    function : "psf" or "ctf"
    distance : "euclidean" or "geodesic"
    peak_error : (source,), m, distance of the largest w
    centre_error : (source,), m, distance of the centre of mass Σ w r / Σ w
    deviation : (source,), m, spatial deviation sqrt(Σ w² d² / Σ w²)
    radius : (source,), m, farthest source whose w exceeds a share of the largest
    peak : (source,), largest w
    total : (source,), Σ w
    relative_peak, relative_total : (source,), the same over the largest of all sources
    """

    function: str
    distance: str
    peak_error: Array
    centre_error: Array
    deviation: Array
    radius: Array
    peak: Array
    total: Array

    @property
    def relative_peak(self) -> Array:
        """Largest magnitude of each function, over the largest of all: (source,)."""
        return np.asarray(self.peak / self.peak.max())

    @property
    def relative_total(self) -> Array:
        """Summed magnitude of each function, over the largest of all: (source,)."""
        return np.asarray(self.total / self.total.max())


def radius_of(beyond: NDArray[np.bool_], positions: Array, own: Index) -> Array:
    """Return the distance (function,) from some sources to the farthest that counts for each.

    beyond : (function, source), whether a source counts
    positions : (source, 3), m
    own : (function,), the source of each function
    """
    rows, columns = np.nonzero(beyond)
    offset = positions[columns] - positions[own[rows]]
    squared_distance = np.einsum("nx,nx->n", offset, offset)
    out = np.zeros(len(own))
    starts = np.searchsorted(rows, np.arange(len(own)))
    filled = np.flatnonzero(beyond.any(axis=1))
    if len(filled):
        out[filled] = np.maximum.reduceat(squared_distance, starts[filled])
    return np.sqrt(out)
