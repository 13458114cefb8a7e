"""Small symmetric blocks, one per source: their powers, and the normalisation of a source's rows."""

from __future__ import annotations

import numpy as np

from bayesinv.axes import Array

BLOCK_TOLERANCE = 1e-7
"""Relative eigenvalue below which a direction of a source's 3 x 3 block counts as outside its range."""


def block_power(blocks: Array, power: float) -> Array:
    """Return a matrix power of symmetric positive semidefinite blocks (source, row, row), taken on their range."""
    values, vectors = np.linalg.eigh(blocks)
    in_range = values > BLOCK_TOLERANCE * values[:, -1:]
    safe = np.where(in_range, values, 1.0)
    return np.matmul(vectors * np.where(in_range, safe**power, 0.0)[:, None, :], vectors.transpose(0, 2, 1))


def flat_gain(table: Array) -> Array:
    """Return gain blocks (source, component, row) as one gain matrix (component, amplitude)."""
    return table.transpose(1, 0, 2).reshape(table.shape[1], -1)


def divide_rows(weights: Array, power: Array, rows: int) -> Array:
    """Return a filter's weights, a source's rows divided by the root of a power (source,); 0 where that is 0."""
    with np.errstate(divide="ignore"):
        factor = np.where(power > 0, 1 / np.sqrt(power), 0.0)
    return weights * np.repeat(factor, rows) if weights.ndim == 1 else weights * factor[:, None, None]
