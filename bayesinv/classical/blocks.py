"""Small symmetric blocks, one per source: their roots, and division by them."""

from __future__ import annotations

import numpy as np

from bayesinv.axes import Array

THIN = 1e-7
"""Relative size below which a direction of a source's 3 x 3 block counts as silent."""


def root_of(blocks: Array, power: float) -> Array:
    """Power of symmetric blocks (source, row, row) on their range."""
    values, vectors = np.linalg.eigh(blocks)
    keep = values > THIN * values[:, -1:]
    safe = np.where(keep, values, 1.0)
    return np.matmul(vectors * np.where(keep, safe**power, 0.0)[:, None, :], vectors.transpose(0, 2, 1))


def wide(table: Array) -> Array:
    """(source, component, row) to (component, amplitude)."""
    return table.transpose(1, 0, 2).reshape(table.shape[1], -1)


def divided(turn: Array, power: Array, rows: int) -> Array:
    """Divide a source's rows by the root of a power (source,)."""
    with np.errstate(divide="ignore"):
        share = np.where(power > 0, 1 / np.sqrt(power), 0.0)
    return turn * np.repeat(share, rows) if turn.ndim == 1 else turn * share[:, None, None]
