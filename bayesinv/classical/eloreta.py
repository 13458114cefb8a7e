"""eLORETA: weights with which a single source is found where it is, whatever the depth."""

from __future__ import annotations

import warnings

import numpy as np

from bayesinv.axes import Array
from bayesinv.classical.blocks import root_of, wide
from bayesinv.classical.source_prior import SourcePrior

MNE_TOLERANCE, MNE_PASSES = 1e-6, 20
"""When MNE-Python's eLORETA stops."""

TOLERANCE, PASSES = 1e-10, 500


def eloreta(prior: SourcePrior, lam: float, mne: bool) -> tuple[Array, Array, Array]:
    """Weights of eLORETA: eigenvalues and vectors of G R Gᵀ, and R as a turn (Pascual-Marqui 2007).

        R_k ∝ (G_kᵀ (G R Gᵀ + λ I)⁻¹ G_k)^(-1/2),   trace(G R Gᵀ) = trace(G Gᵀ)

    The fixed point has no localisation error for a single source without noise.
    """
    problem = prior.problem
    trace = problem.signal_power * problem.components
    root = prior.blocks(0.5)
    plain = prior.along(prior.table())
    table = np.matmul(plain, root)
    loose = prior.rows == 3 and prior.loose < 1
    # MNE-Python applies the orientation prior to the gain as well as to the weights while it iterates.
    outer = table if mne else plain
    tolerance, passes = (MNE_TOLERANCE, MNE_PASSES) if mne else (TOLERANCE, PASSES)
    flat_table, flat_outer = wide(table), wide(outer)

    def scaled(weights: Array, gain: Array, flat: Array) -> tuple[Array, Array]:
        gram = wide(np.matmul(gain, weights)) @ flat.T
        scale = trace / np.trace(gram)
        return weights * scale, gram * scale

    weights, gram = scaled(prior.blocks(), outer, flat_outer)
    change = np.inf
    for _ in range(passes):
        values, vectors = np.linalg.eigh(gram)
        inverse = (vectors / (np.maximum(values, 0.0) + lam)) @ vectors.T
        inner = np.matmul(
            table.transpose(0, 2, 1), (inverse @ flat_table).reshape(len(gram), -1, prior.rows).transpose(1, 0, 2)
        )
        fresh = 1 / np.sqrt(inner) if prior.rows == 1 else root_of(inner, -0.5)
        if loose:
            fresh = np.matmul(np.matmul(root, fresh), root)
        fresh, gram = scaled(fresh, outer, flat_outer)
        change = float(np.linalg.norm(fresh - weights) / np.linalg.norm(weights))
        weights = fresh
        if change < tolerance:
            break
    else:
        warnings.warn(
            f"eLORETA's weights still changed by {change:.1e} after {passes} passes (wanted {tolerance:g}); "
            "a larger lam converges sooner",
            stacklevel=3,
        )
    weights, gram = scaled(weights, plain, wide(plain))
    values, vectors = np.linalg.eigh(gram)
    turn = prior.outward(weights)
    return np.maximum(values, 0.0), vectors, turn[:, 0, 0] if turn.shape[1:] == (1, 1) else turn
