"""Projection of a truth to another grid of sources."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array
from scipy.spatial import cKDTree

from bayesinv.axes import Array, Index
from bayesinv.head.sources import Sources
from bayesinv.simulation.truth import Truth


def nearest(truth: Sources, sources: Sources) -> Index:
    """Return the nearest source of a grid to every vertex of the truth: (vertex,).

    It is in the vertex's own hemisphere where both have hemispheres.
    """
    own, other = sources.positions, truth.positions
    if sources.hemispheres is not None and truth.hemispheres is not None:
        # Hemispheres a metre apart, as the medial walls nearly touch.
        own = np.column_stack([own, sources.hemispheres])
        other = np.column_stack([other, truth.hemispheres])
    return np.asarray(cKDTree(own).query(other)[1], dtype=np.int64)


def project(truth: Truth, sources: Sources, axes: int) -> Array:
    """Return the truth as currents of another grid, A m: (source, [axis,] time).

    Every vertex's current is assigned, as a vector, to the nearest source and summed there. With fixed orientation only
    its component along that source's normal counts, as that grid has no currents across it.

    truth : currents along normals
    sources : the inversion's grid
    axes : 1 for currents along the grid's normals, 3 for x, y, z

    Raises
    ------
    ValueError
        If axes is neither, or normals are not known. With fixed orientation both may lack them: currents are then
        added as they are.
    """
    if axes not in (1, 3):
        raise ValueError(f"axes is {axes}, but a source has 1 amplitude (fixed) or 3 (free orientation)")
    nearest_source, normals = nearest(truth.sources, sources), truth.sources.normals
    if axes == 1 and normals is None and sources.normals is None:
        parts = [np.ones(len(nearest_source))]
    elif normals is None or (axes == 1 and sources.normals is None):
        whose = "truth's" if normals is None else "grid's"
        raise ValueError(f"the {whose} normals are not known, so its currents have no direction; give them to Sources")
    elif axes == 1:
        assert sources.normals is not None
        parts = [np.einsum("vx,vx->v", normals, sources.normals[nearest_source])]
    else:
        parts = list(normals.T)
    shape = (len(sources), len(nearest_source))
    flat = [
        csr_array((part, (nearest_source, np.arange(len(nearest_source)))), shape=shape) @ truth.current
        for part in parts
    ]
    return np.asarray(flat[0]) if axes == 1 else np.stack(flat, axis=1)
