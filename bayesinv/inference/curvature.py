"""Exact curvature of the log density where every amplitude has a variance of its own that depends on what is learned.

With covariance C = Σ_j v_j g_j g_jᵀ, noise among its terms as columns of the identity, and u_j = log v_j,

    dL/du_j = v_j (|b_j|² - T A_jj) / 2,   A = Gᵀ C⁻¹ G,   b = Gᵀ C⁻¹ Y
    d²L/du_j du_k = v_j v_k (T A_jk² / 2 - A_jk b_j · b_k) + δ_jk dL/du_j

and by the chain rule the curvature in the hyperparameters is Jᵀ (d²L/du²) J, with J = du/dθ, plus that of the prior and
of u itself, whose functions cost no factorisation and are differentiated by differences.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from bayesinv.axes import Array, Index
from bayesinv.prior.density import Density

STEP = 1e-3
"""Step of finite differences along unconstrained coordinates."""

BLOCK = 512
"""Nodes that are evaluated at once."""


def applies(density: Density) -> bool:
    """Whether variances of independent amplitudes, and scales, are all that is learned."""
    observation = density.observation
    base = observation.base
    fixed = base.diagonal_only and base.noise is None and base.time is None and not base.error
    return fixed and set(observation.learned) <= {"weights", "scale"}


def exact_curvature(density: Density, point: Array, free: Index) -> Array:
    """Return the curvature (free, free) of the log density along some coordinates at a point."""
    problem = density.observation.problem
    logs, _ = _logs(density, point[None])
    variances = np.exp(logs[0])
    columns = np.hstack([problem.gain, np.eye(problem.components)])
    inverse = np.linalg.inv((columns * variances) @ columns.T)
    whole = columns.T @ inverse
    products, solved = whole @ columns, whole @ problem.white_recording
    samples = problem.recording.shape[1]
    slope = 0.5 * variances * (np.einsum("jt,jt->j", solved, solved) - samples * np.diag(products))
    second = solved @ solved.T
    np.subtract(0.5 * samples * products, second, out=second)
    second *= products
    shifts = STEP * np.eye(len(point))[free]
    up, down = _logs(density, point + shifts)[0], _logs(density, point - shifts)[0]
    jacobian = (up - down).T / (2 * STEP)
    scaled = variances[:, None] * jacobian
    out = scaled.T @ (second @ scaled) + jacobian.T @ (slope[:, None] * jacobian)
    if density.observation.baseline is not None and problem.white_baseline is not None:
        # The baseline is of noise alone; its slope is shared by the columns that stand for the noise.
        power = float(np.sum(problem.white_baseline**2)) / variances[-1]
        slope[-1] += 0.5 * (power - problem.baseline_freedom * problem.components)
        out -= 0.5 * power * np.outer(jacobian[-1], jacobian[-1])
    return out + _curvature_of_maps(density, point, shifts, slope)


def _logs(density: Density, nodes: Array) -> tuple[Array, Array]:
    """Logarithms of the variances of amplitudes and of noise (node, column), and the log prior (node,)."""
    problem = density.observation.problem
    variance, noise = density.scales(nodes)
    coordinates, which = density.structural_nodes(nodes)
    diagonals = np.stack([one.diagonal(problem) for one in density.structures(coordinates)])
    sources = np.log(variance)[:, None] + np.log(np.maximum(diagonals, 1e-300))[which]
    return np.hstack([sources, np.repeat(2 * np.log(noise)[:, None], problem.components, axis=1)]), density.prior(nodes)


def _curvature_of_maps(density: Density, point: Array, shifts: Array, slope: Array) -> Array:
    """Curvature (shift, shift) of log prior + slope · u, by differences of values."""
    pairs = list(combinations(range(len(shifts)), 2))
    both = np.array([shifts[i] + shifts[j] for i, j in pairs]).reshape(-1, len(point))
    nodes = point + np.concatenate([np.zeros((1, len(point))), shifts, -shifts, both, -both])
    values = np.empty(len(nodes))
    centre = _logs(density, point[None])[0][0]
    for start in range(0, len(nodes), BLOCK):
        logs, prior = _logs(density, nodes[start : start + BLOCK])
        values[start : start + BLOCK] = prior + (logs - centre) @ slope
    size = len(shifts)
    middle, up, down = values[0], values[1 : size + 1], values[size + 1 : 2 * size + 1]
    out = np.diag(up + down - 2 * middle)
    corners = values[2 * size + 1 : 2 * size + 1 + len(pairs)] + values[2 * size + 1 + len(pairs) :]
    for (i, j), one in zip(pairs, corners, strict=True):
        out[i, j] = out[j, i] = (one + 2 * middle - up[i] - down[i] - up[j] - down[j]) / 2
    return np.asarray(out / STEP**2)
