"""Metrics of resolution, and the distances along the cortex or through space that they are measured by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bayesinv.axes import Array, Index

DISTANCES = ("euclidean", "geodesic")


@dataclass(frozen=True, eq=False)
class Metrics:
    """How far the point spread or cross talk of every source lies and reaches.

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


def radius_of(beyond: NDArray[np.bool_], places: Array, own: Index) -> Array:
    """Distance of the farthest source that counts, for each of some sources."""
    rows, columns = np.nonzero(beyond)
    apart = places[columns] - places[own[rows]]
    far = np.einsum("nx,nx->n", apart, apart)
    out = np.zeros(len(own))
    starts = np.searchsorted(rows, np.arange(len(own)))
    filled = np.flatnonzero(beyond.any(axis=1))
    if len(filled):
        out[filled] = np.maximum.reduceat(far, starts[filled])
    return np.sqrt(out)
