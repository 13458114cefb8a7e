"""dSPM and sLORETA: estimates in units of their own noise or resolution."""

from __future__ import annotations

import numpy as np

from bayesinv.axes import Array
from bayesinv.classical.blocks import block_power, divide_rows
from bayesinv.classical.estimate import Filter
from bayesinv.classical.source_prior import SourcePrior


def standardised(minimum_norm: Filter, prior: SourcePrior, lam: float, mne: bool) -> Array:
    """Return the weights of sLORETA: the estimate over the root of its own variance (Pascual-Marqui 2002).

        variance_k = D_k G_kᵀ (G D Gᵀ + λ I)⁻¹ G_k D_k / λ

    (amplitude,), or (source, row, axis) where a source's axes are mixed.
    """
    rows, axes = prior.rows, prior.problem.axes
    weights = minimum_norm.weights
    if weights.ndim == 1:
        weights = weights.reshape(-1, 1, rows) * np.eye(rows)
    table = prior.gain_blocks()
    inner = np.matmul(
        table.transpose(0, 2, 1),
        (minimum_norm.inverse @ minimum_norm.gain).reshape(len(minimum_norm.gain), -1, axes).transpose(1, 0, 2),
    )
    variance = np.matmul(np.matmul(weights, inner), weights.transpose(0, 2, 1)) / lam
    if mne or rows == 1:
        return divide_rows(minimum_norm.weights, np.trace(variance, axis1=1, axis2=2), rows)
    return np.matmul(block_power(variance, -0.5), weights)


def noise_power(minimum_norm: Filter, rows: int) -> Array:
    """Return the variance (source,) of an estimate of noise alone, summed over a source's rows."""
    power = np.concatenate(
        [np.einsum("rc,rc->r", part, part) for part in map(minimum_norm.rows, minimum_norm.blocks())]
    )
    return power.reshape(-1, rows).sum(axis=1)
