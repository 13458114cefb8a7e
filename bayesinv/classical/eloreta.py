"""eLORETA: weights that localise a single source without error at every depth."""

from __future__ import annotations

import warnings

import numpy as np

from bayesinv.axes import Array
from bayesinv.classical.blocks import block_power, flat_gain
from bayesinv.classical.source_prior import SourcePrior

MNE_TOLERANCE, MNE_ITERATIONS = 1e-6, 20
"""Relative change of the weights, and number of iterations, at which MNE-Python's eLORETA stops."""

TOLERANCE, ITERATIONS = 1e-10, 500


def eloreta(prior: SourcePrior, lam: float, mne: bool) -> tuple[Array, Array, Array]:
    """Return eLORETA's source covariance R: eigenvalues and vectors of G R Gᵀ, and R as weights of a `Filter`.

        R_k ∝ (G_kᵀ (G R Gᵀ + λ I)⁻¹ G_k)^(-1/2),   trace(G R Gᵀ) = trace(G Gᵀ)

    The fixed point has no localisation error for a single source without noise (Pascual-Marqui 2007).
    """
    problem = prior.problem
    trace = problem.signal_power * problem.components
    root = prior.blocks(0.5)
    gain = prior.free_gain(prior.gain_blocks())
    rooted = np.matmul(gain, root)
    loose = prior.rows == 3 and prior.loose < 1
    # MNE-Python applies the orientation prior to the gain as well as to the weights while it iterates.
    outer = rooted if mne else gain
    tolerance, iterations = (MNE_TOLERANCE, MNE_ITERATIONS) if mne else (TOLERANCE, ITERATIONS)
    flat_rooted, flat_outer = flat_gain(rooted), flat_gain(outer)

    def scaled(weights: Array, blocks: Array, flat: Array) -> tuple[Array, Array]:
        gram = flat_gain(np.matmul(blocks, weights)) @ flat.T
        scale = trace / np.trace(gram)
        return weights * scale, gram * scale

    weights, gram = scaled(prior.blocks(), outer, flat_outer)
    change = np.inf
    for _ in range(iterations):
        values, vectors = np.linalg.eigh(gram)
        inverse = (vectors / (np.maximum(values, 0.0) + lam)) @ vectors.T
        inner = np.matmul(
            rooted.transpose(0, 2, 1), (inverse @ flat_rooted).reshape(len(gram), -1, prior.rows).transpose(1, 0, 2)
        )
        updated = 1 / np.sqrt(inner) if prior.rows == 1 else block_power(inner, -0.5)
        if loose:
            updated = np.matmul(np.matmul(root, updated), root)
        updated, gram = scaled(updated, outer, flat_outer)
        change = float(np.linalg.norm(updated - weights) / np.linalg.norm(weights))
        weights = updated
        if change < tolerance:
            break
    else:
        warnings.warn(
            f"eLORETA's weights still changed by {change:.1e} after {iterations} passes (wanted {tolerance:g}); "
            "a larger lam converges sooner",
            stacklevel=3,
        )
    weights, gram = scaled(weights, gain, flat_gain(gain))
    values, vectors = np.linalg.eigh(gram)
    blocks = prior.to_axes(weights)
    return np.maximum(values, 0.0), vectors, blocks[:, 0, 0] if blocks.shape[1:] == (1, 1) else blocks
