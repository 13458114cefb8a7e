"""A truth on another grid of sources than its own."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array
from scipy.spatial import cKDTree

from bayesinv.axes import Array, Index
from bayesinv.head.sources import Sources
from bayesinv.simulation.truth import Truth


def nearest(truth: Sources, sources: Sources) -> Index:
    """Return for every vertex of the truth the nearest source of a grid: (vertex,), within its own hemisphere.

    The hemispheres count where both know them.
    """
    own, other = sources.positions, truth.positions
    if sources.hemispheres is not None and truth.hemispheres is not None:
        # A metre apart, so that the medial walls, which nearly touch, do not lend each other their sources.
        own = np.column_stack([own, sources.hemispheres])
        other = np.column_stack([other, truth.hemispheres])
    return np.asarray(cKDTree(own).query(other)[1], dtype=np.int64)


def project(truth: Truth, sources: Sources, axes: int) -> Array:
    """Return the truth as currents of another grid, A m: (source, [axis,] time).

    Every vertex's current goes, as a vector, to the nearest source and is added up there. With fixed orientation its
    part along that source's normal is kept: what little lies across it, no current of that grid could stand for.

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
    goal, turned = nearest(truth.sources, sources), truth.sources.normals
    if axes == 1 and turned is None and sources.normals is None:
        parts = [np.ones(len(goal))]
    elif turned is None or (axes == 1 and sources.normals is None):
        whose = "truth's" if turned is None else "grid's"
        raise ValueError(f"the {whose} normals are not known, so its currents have no direction; give them to Sources")
    elif axes == 1:
        assert sources.normals is not None
        parts = [np.einsum("vx,vx->v", turned, sources.normals[goal])]
    else:
        parts = list(turned.T)
    shape = (len(sources), len(goal))
    flat = [csr_array((part, (goal, np.arange(len(goal)))), shape=shape) @ truth.current for part in parts]
    return np.asarray(flat[0]) if axes == 1 else np.stack(flat, axis=1)
