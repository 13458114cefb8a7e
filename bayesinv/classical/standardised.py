"""dSPM and sLORETA: estimates in units of their own noise or resolution."""

from __future__ import annotations

import numpy as np

from bayesinv.axes import Array
from bayesinv.classical.blocks import divided, root_of
from bayesinv.classical.estimate import Filter
from bayesinv.classical.source_prior import SourcePrior


def standardised(plain: Filter, prior: SourcePrior, lam: float, mne: bool) -> Array:
    """Turn of sLORETA: the estimate over the root of its own variance, D Gᵀ middle G D / λ (Pascual-Marqui 2002)."""
    rows, axes = prior.rows, prior.problem.axes
    turn = plain.turn
    if turn.ndim == 1:
        turn = turn.reshape(-1, 1, rows) * np.eye(rows)
    table = prior.table()
    inner = np.matmul(
        table.transpose(0, 2, 1), (plain.middle @ plain.gain).reshape(len(plain.gain), -1, axes).transpose(1, 0, 2)
    )
    variance = np.matmul(np.matmul(turn, inner), turn.transpose(0, 2, 1)) / lam
    if mne or rows == 1:
        return divided(plain.turn, np.trace(variance, axis1=1, axis2=2), rows)
    return np.matmul(root_of(variance, -0.5), turn)


def noise_power(plain: Filter, rows: int) -> Array:
    """Variance (source,) that noise alone has in an estimate, over a source's rows."""
    power = np.concatenate([np.einsum("rc,rc->r", part, part) for part in map(plain.rows, plain.blocks())])
    return power.reshape(-1, rows).sum(axis=1)
