"""Exact curvature of the log density where every amplitude has a variance of its own that depends on what is learned.

With covariance C = Σ_j v_j g_j g_jᵀ, noise among its terms as columns of the identity, and u_j = log v_j,

    dL/du_j = v_j (|b_j|² - T A_jj) / 2,   A = Gᵀ C⁻¹ G,   b = Gᵀ C⁻¹ Y
    d²L/du_j du_k = v_j v_k (T A_jk² / 2 - A_jk b_j · b_k) + δ_jk dL/du_j

summed over the amplitudes of a group, of which there is one matrix K_g: with C = L Lᵀ,

    Σ_jk = v_g v_h tr((T/2 - V) A_g A_h),   A_g = L⁻¹ K_g L⁻ᵀ,   V = L⁻¹ Y Yᵀ L⁻ᵀ

By the chain rule the curvature in the hyperparameters is Jᵀ (d²L/du²) J, with
J = du/dθ, plus that of the prior and of u itself, which cost no factorisation: J is a difference of values, they are
differences of slopes.
"""

from __future__ import annotations

import numpy as np

from bayesinv.axes import Array, Index
from bayesinv.inference.variances import Variances

STEP = 1e-4
"""Step of finite differences along unconstrained coordinates."""


def exact_curvature(variances: Variances, point: Array, free: Index, *, expected: bool = False) -> Array:
    """Return the curvature (free, free) of the log density along some coordinates at a point.

    expected : whether that of the likelihood is its expected value, Fisher's information, which is never convex
    """
    shifts = STEP * np.eye(len(point))[free]
    nodes = point + np.concatenate([np.zeros((1, len(point))), shifts, -shifts])
    logs, noise = variances.logs(nodes)
    curvature, slope = variances.curvature(np.exp(logs[0]), float(np.exp(noise[0])), expected=expected)
    both = np.column_stack([logs, noise])
    up, down = both[1 : len(free) + 1], both[len(free) + 1 :]
    jacobian = (up - down).T / (2 * STEP)
    by_logs, by_noise = np.repeat(slope[None, :-1], len(nodes) - 1, axis=0), np.full(len(nodes) - 1, slope[-1])
    pulled = variances.pulled(nodes[1:], by_logs, by_noise)[:, free]
    maps = (pulled[: len(free)] - pulled[len(free) :]) / (2 * STEP)
    return np.asarray(jacobian.T @ curvature @ jacobian + (maps + maps.T) / 2)
