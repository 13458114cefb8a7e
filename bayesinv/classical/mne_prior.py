"""Depth weighting and looseness by MNE-Python's conventions."""

from __future__ import annotations

import numpy as np

from bayesinv.axes import Array
from bayesinv.classical.surface_axes import SurfaceProblem
from bayesinv.problem.problem import Problem

MNE_DEPTH, MNE_LIMIT, MNE_LOOSE = 0.8, 10.0, 0.2
"""MNE-Python's defaults for surface sources: exponent and limit of the depth weighting, and looseness."""


def depth_prior(problem: Problem, exponent: float = MNE_DEPTH, limit: float | None = MNE_LIMIT) -> Array:
    """Return MNE-Python's depth weighting: relative prior variances (source,), at most 1.

        w = 1 / largest eigenvalue of Gₖᵀ Gₖ,   p = min(w / w_limit, 1)^exponent

    The gain is not whitened and that of gradiometers alone, of magnetometers where there are none, of electrodes
    where there are no coils; with fixed orientation, that of the free gain behind it where it is known. The limit cuts
    weights that exceed the smallest by its square.

    Raises
    ------
    ValueError
        If the exponent is negative, the limit is below 1, or the gain in SI units is not known.
    """
    if not 0 <= exponent < np.inf:
        raise ValueError(f"depth is {exponent}, but must be an exponent of at least 0, such as {MNE_DEPTH}")
    if limit is not None and not limit >= 1:
        raise ValueError(f"limit is {limit}, but must be at least 1, or None")
    gain = _depth_gain(problem)
    power = np.matmul(gain.transpose(1, 2, 0), gain.transpose(1, 0, 2))
    largest = np.linalg.eigvalsh(power)[:, -1]
    weight = 1.0 / largest
    if limit is not None:
        order = np.sort(weight)
        top = order[-1]
        if top > limit**2 * order[0]:
            top = order[np.searchsorted(order, limit**2 * order[0], side="right")]
        weight = np.minimum(weight / top, 1.0)
    return np.asarray(weight**exponent)


def _depth_gain(problem: Problem) -> Array:
    """Return the gain (sensor, source, axis), SI units, of the sensors that MNE-Python weights depth by."""
    field = problem.lead_field
    if field is None:
        raise ValueError(
            "MNE-Python's depth weighting wants the gain in SI units, but this problem has no lead field; "
            "build it by from_mne, or use depth=None or convention=None"
        )
    kinds = field.sensors.kinds
    kind = next(name for name in ("grad", "mag", "eeg") if name in kinds)
    rows = [i for i, name in enumerate(kinds) if name == kind]
    gain: Array = field.gain
    # MNE-Python weights depth by the free gain, also where the lead field is the fixed one made from it.
    forward = getattr(problem.origin, "forward", None)
    if gain.shape[2] == 1 and forward is not None and forward["sol"]["data"].shape[1] == 3 * gain.shape[1]:
        row_of = {name: i for i, name in enumerate(forward["sol"]["row_names"])}
        table = forward["sol"]["data"][[row_of[field.sensors.names[i]] for i in rows]]
        return np.asarray(table, dtype=np.float64).reshape(len(rows), -1, 3)
    return gain[rows]


def with_trace_of_gain(problem: Problem, weights: Array) -> Array:
    """Return relative variances D (amplitude,) scaled such that trace(G D Gᵀ) = trace(G Gᵀ)."""
    power = np.einsum("ca,ca,a->", problem.gain, problem.gain, weights)
    return np.asarray(weights * (problem.signal_power * problem.components / power))


def prior_from_mne(
    problem: Problem, depth: float | None = MNE_DEPTH, loose: float | None = None, limit: float | None = MNE_LIMIT
) -> Array:
    """Return MNE-Python's source covariance as relative variances (amplitude,) for `Currents(weights=...)`.

    Scaled such that trace(G D Gᵀ) = trace(G Gᵀ), so that noise² / variance = λ means
    `lambda2 = λ / problem.signal_power` to MNE-Python.

    problem : fixed orientation; free orientation for `loose=1`; `surface_axes(problem)` for loose in between
    depth : exponent of the depth weighting, None for none
    loose : variance of tangential currents relative to normal ones; None takes 0 with fixed orientation, 0.2 in surface
        axes and 1 with head axes
    limit : of the depth weighting

    Raises
    ------
    ValueError
        If `loose` does not fit the problem's axes, or the depth weighting wants a gain that is not known.
    """
    if loose is None:
        loose = 0.0 if problem.axes == 1 else MNE_LOOSE if isinstance(problem, SurfaceProblem) else 1.0
    if not 0 <= loose <= 1:
        raise ValueError(f"loose is {loose}, but must lie between 0 (fixed) and 1 (free)")
    if problem.axes == 1 and loose > 0:
        raise ValueError(f"loose = {loose} wants free orientation, but this problem has the normal only")
    if problem.axes == 3 and loose == 0:
        raise ValueError("loose = 0 leaves the normal only: build the problem with fixed orientation")
    if problem.axes == 3 and loose < 1 and not isinstance(problem, SurfaceProblem):
        raise ValueError(f"loose = {loose} is diagonal in surface axes only: give surface_axes(problem)")
    weights = np.ones(problem.source_count) if not depth else depth_prior(problem, depth, limit)
    table = np.repeat(weights, problem.axes)
    if problem.axes == 3 and loose < 1:
        table = (table.reshape(-1, 3) * np.array([loose, loose, 1.0])).ravel()
    return with_trace_of_gain(problem, table)
