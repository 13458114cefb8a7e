"""Several numbers: polyharmonic splines between scattered places with a measured error, and splines on a lattice.

Reference: Duchon (1977), Lect. Notes Math. 571, 85-100 (polyharmonic splines).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.interpolate import RBFInterpolator
from scipy.special import logsumexp

from bayesinv.axes import Array

FLOOR = 1e4
"""Nats below the peak at which a density is as good as nothing."""

WRONG = 10.0
"""Nats from which an error is as bad as any."""

BEND = 15.0
"""Nats off a parabola at which the log density between nodes is no longer followed closely."""


def between(known: Array, heights: Array, wanted: Array) -> Array:
    """Log densities (place, column) at places wanted (place, axis), from those at places known (known, axis).

    Every column is a function of its own; parabolas are met exactly.

    heights : (known, column)
    """
    # What is nowhere near the peak may be minus infinity, and must not ring.
    top = heights.max()
    heights = np.maximum(heights - top, -FLOOR)
    return np.asarray(RBFInterpolator(known, heights, kernel="quintic", degree=2)(wanted)) + top


def measured_error(told: Array, exact: Array, heights: Array) -> float:
    """Largest error in nats, in proportion to mass, of log densities told (place, column) where they are known.

    exact : (place, column)
    heights : (known, column), at all that is known; the heaviest place has mass one
    """
    share = np.exp(exact - logsumexp(heights, axis=1).max())
    # Beyond so many nats a larger error would be no worse.
    off = np.minimum(np.abs(told - np.maximum(exact, told.max() - FLOOR)), WRONG)
    return float(np.sum(share * off, axis=1).max())


def on_lattice(index: Array, heights: Array) -> Callable[[Array], Array]:
    """A log density between the nodes of a lattice: a parabola and quintic splines, (point, axis) to (point,).

    index : (node, axis), whole numbers, not every one of a box
    heights : (node,), log density at the nodes

    A method of its own beside `between`: that one solves for all places at once, which a lattice of thousands of
    nodes forbids, and these splines want a lattice, which few places that are worked out for their mass are not.
    """
    from scipy.ndimage import map_coordinates, spline_filter

    corner, size = index.min(axis=0), index.shape[1]
    top = heights.max()
    fall = top - heights
    near = fall < np.inf
    scale = np.abs(index).max(axis=0)
    unit = index / scale

    def terms(where: Array) -> Array:
        pairs = [where[:, i] * where[:, j] for i in range(size) for j in range(i + 1)]
        return np.column_stack([np.ones(len(where)), where, *pairs])

    weights = np.exp(-np.minimum(fall, 40.0) / 8)[near]
    fit = np.linalg.lstsq(weights[:, None] * terms(unit[near]), weights * fall[near], rcond=None)[0]
    # Bends far from the peak, where there is no mass, must not ring through the splines.
    bent = np.ones(tuple((index.max(axis=0) + 1 - corner).astype(int)))
    bent[tuple((index - corner).astype(int).T)] = np.tanh((np.minimum(fall, 1e6) - terms(unit) @ fit) / BEND)
    splines = spline_filter(bent, order=5)

    def at(place: Array) -> Array:
        found = map_coordinates(splines, (place - corner).T, order=5, prefilter=False, mode="nearest")
        return np.asarray(top - terms(place / scale) @ fit - BEND * np.arctanh(np.clip(found, -0.999, 0.999)))

    return at
