"""Principal axes of arrays at weighted nodes."""

from __future__ import annotations

import numpy as np

from bayesinv.axes import Array

DROPPED_SHARE = 1e-10
"""Largest share of the variance between hyperparameters that is dropped with its smallest directions."""


def principal_axes(weights: Array, centred: Array, units: Array, dropped: float = DROPPED_SHARE) -> tuple[Array, Array]:
    """Return scores (node, direction) and principal axes (direction, ...) of arrays (node, ...) about their mean.

    weights : (node,)
    units : (...), in which axes are compared
    dropped : largest share of the power that is dropped with the smallest axes
    """
    root = np.sqrt(weights)[:, None]
    rows = root * (centred * units).reshape(len(weights), -1)
    # Whichever of nodes and entries are fewer makes the smaller eigenproblem.
    if len(rows) <= rows.shape[1]:
        values, vectors = np.linalg.eigh(rows @ rows.T)
    else:
        values, right = np.linalg.eigh(rows.T @ rows)
        vectors = np.divide(rows @ right, np.sqrt(np.maximum(values, 1e-300)))
    rest = np.cumsum(np.maximum(values, 0))
    leading = vectors[:, rest > dropped * max(rest[-1], 1e-300)] if rest[-1] > 0 else vectors[:, :0]
    axes = (leading.T @ rows).reshape(-1, *units.shape)
    axes *= np.divide(1, units, out=np.zeros(units.shape), where=units > 0)
    return leading / root, axes
