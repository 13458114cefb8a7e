"""LCMV: the linearly constrained minimum variance beamformer."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from bayesinv.axes import Array, one_of, real
from bayesinv.classical.blocks import block_power
from bayesinv.classical.estimate import Estimate, estimate_of
from bayesinv.classical.surface_axes import has_normals, normals_of
from bayesinv.problem.problem import Problem

NORMALISATIONS = ("nai", "unit-noise-gain", "unit-noise-gain-invariant")


def _whitened_covariance(problem: Problem, covariance: ArrayLike | str | None) -> Array:
    """Return the covariance (component, component) of the whitened recording, checked."""
    if covariance is None:
        raise ValueError(
            "LCMV wants the covariance of the recording with the response: give covariance=(sensor, sensor), or "
            "covariance='recording' for that of this problem's own samples"
        )
    if isinstance(covariance, str):
        one_of("covariance", covariance, ("recording",), ", or give a matrix")
        return np.asarray(problem.recording @ problem.recording.T / problem.recording.shape[1])
    table = real("covariance", covariance, "sensor sensor")
    if table.shape[0] != table.shape[1]:
        raise ValueError(f"covariance has shape {table.shape}, but must be square")
    if problem.whitener is not None and len(table) == problem.whitener.shape[1]:
        table = problem.whitener @ table @ problem.whitener.T
    if len(table) != problem.components:
        sensors = "" if problem.whitener is None else f" {problem.whitener.shape[1]} sensors or"
        raise ValueError(
            f"covariance has sensor = {len(table)}, but the problem has{sensors} {problem.components} components"
        )
    return np.asarray((table + table.T) / 2)


def lcmv(
    problem: Problem,
    covariance: ArrayLike | str | None,
    regularise: float,
    normalise: str | None,
    depth: float | str | None,
    pick: str,
    mne: bool,
) -> Estimate:
    """Return the linearly constrained minimum variance beamformer: unit gain at the source, minimum output power.

    W_k = (G_kᵀ C⁻¹ G_k)⁻¹ G_kᵀ C⁻¹
    """
    if depth not in (None, "auto", 0):
        raise ValueError(f"depth is {depth!r}, but LCMV has no depth weighting; normalise= makes up for depth")
    if not 0 <= regularise < np.inf:
        raise ValueError(f"regularise is {regularise}, but must be at least 0, such as 0.05")
    if normalise == "auto":
        normalise = "unit-noise-gain-invariant"
    if normalise is not None:
        one_of("normalisation", normalise, NORMALISATIONS, ", or None")
    if pick == "vector" and problem.axes == 1:
        raise ValueError("pick 'vector' wants free orientation; here there is one current per source")
    table = _whitened_covariance(problem, covariance)
    values, vectors = np.linalg.eigh(table)
    if values[0] < -1e-7 * abs(values[-1]):
        raise ValueError(
            f"covariance is not positive semidefinite (smallest eigenvalue {values[0]:.2e} of {values[-1]:.2e}); "
            "a covariance is, so check how it was made"
        )
    rank = int(np.count_nonzero(values > 1e-12 * values[-1]))
    # MNE-Python takes the mean over all sensors, also over the directions that projectors have removed.
    count = problem.whitener.shape[1] if mne and problem.whitener is not None else len(values)
    loading = regularise * float(np.maximum(values, 0).sum()) / count
    if rank < len(values) and not loading:
        raise ValueError(
            f"covariance is singular: its rank is {rank} of {len(values)} components, and LCMV inverts it; "
            "regularise=0.05 would add 5 % of the mean eigenvalue to all of them, or give a covariance of more samples"
        )
    shifted = np.maximum(values, 0.0) + loading
    inverse = (vectors / shifted) @ vectors.T
    axes = problem.axes
    gain = problem.gain.reshape(problem.components, -1, axes).transpose(1, 0, 2)
    directions: Array | None = None
    if axes == 3 and pick == "normal":
        directions = normals_of(problem, "pick 'normal' wants")
    elif axes == 3 and pick == "max-power":
        directions = _max_power_directions(problem, gain, inverse, normalise)
    if directions is not None:
        gain = np.matmul(gain, directions[:, :, None])
    rows = gain.shape[2]
    projected = np.matmul(gain.transpose(0, 2, 1), inverse)
    denominator = np.matmul(projected, gain)
    noise = np.matmul(projected, projected.transpose(0, 2, 1))
    weights = block_power(denominator, -1.0)
    if normalise == "unit-noise-gain-invariant":
        weights = block_power(noise, -0.5)
    elif normalise is not None:
        gains = np.matmul(np.matmul(weights, noise), weights)
        weights = weights / np.sqrt(np.einsum("srr->sr", gains))[:, :, None]
        if normalise == "nai":
            weights = weights / np.sqrt(max(float(values[0]), loading))
    if mne and normalise in ("unit-noise-gain", "unit-noise-gain-invariant") and problem.noise is not None:
        # MNE-Python normalises by the noise of a single trial, however many the recording averages.
        weights = weights / np.sqrt(problem.noise.averages)
    if directions is not None:
        weights = weights * directions[:, None, :]
    elif rows == 1:
        weights = weights[:, 0, 0]
    unit = "" if normalise else "A m"
    return estimate_of(
        problem, "LCMV", weights, inverse, unit, None, "none", None, None, "pooled" if rows == 1 else pick, rows
    )


def _max_power_directions(problem: Problem, gain: Array, inverse: Array, normalise: str | None) -> Array:
    """Return the direction (source, 3) of largest power, signed as the normal where known (Sekihara 2008, 4.47)."""
    projected = np.matmul(gain.transpose(0, 2, 1), inverse)
    denominator = np.matmul(projected, gain)
    half = block_power(denominator if normalise is None else np.matmul(projected, projected.transpose(0, 2, 1)), -0.5)
    inner = np.tile(np.eye(3), (len(gain), 1, 1)) if normalise is None else denominator
    _, vectors = np.linalg.eigh(np.matmul(np.matmul(half, inner), half))
    best = np.matmul(half, vectors[:, :, -1:])[:, :, 0]
    best /= np.linalg.norm(best, axis=1, keepdims=True)
    normals = normals_of(problem, "") if has_normals(problem) else np.tile([0.0, 0.0, 1.0], (len(best), 1))
    sign = np.where(np.sum(best * normals, axis=1) < 0, -1.0, 1.0)
    return np.asarray(best * sign[:, None])
