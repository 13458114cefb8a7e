"""From a model's structural hyperparameters to the fields of a `Structure`, as numbers or graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesinv.covariance.covariance import LengthTable, Structure
from bayesinv.covariance.orientation import along_normals
from bayesinv.covariance.time_course import check_times
from bayesinv.prior.graphs import symbolic
from bayesinv.problem.problem import Problem

if TYPE_CHECKING:
    from bayesinv.prior.currents import Currents


LOG_SCALED = ("length", "time")
"""Hyperparameters along whose logarithm the likelihood is interpolated."""

STRUCTURAL_NAMES = ("depth", "weights", "tangential", "length", "shares", "time")
"""Names of the hyperparameters that shape the structure."""


def scaled_fields(
    currents: Currents, problem: Problem, given: Mapping[str, Any], exp: Callable[[Any], Any]
) -> dict[str, Any]:
    """Return the fields of a `Structure`, scaled so that trace(G D Gᵀ) does not depend on them.

    given : by name in `STRUCTURAL_NAMES`, a number, an array, a PyTensor graph or None
    exp : of NumPy or PyTensor; the arithmetic is the same for numbers and graphs
    """
    count, size = problem.source_count, problem.gain.shape[1]
    depth, weights, tangential, length = (given[name] for name in STRUCTURAL_NAMES[:4])
    out: dict[str, Any] = {}
    if given["time"] is not None:
        check_times(problem.times, given["time"])
        out["time"], out["course"] = given["time"], currents.course
    fixed = None if weights is None or symbolic(weights) else weights
    if fixed is not None and len(fixed) not in (count, size):
        raise ValueError(f"weights has source = {len(fixed)}, but the problem has source = {count}")
    by_axis = fixed is not None and len(fixed) == size != count
    if by_axis and (tangential is not None or length is not None):
        raise ValueError("with a tangential variance or a length-scale, weights are those of sources, not of axes")
    powers = problem.gain_powers if by_axis else problem.gain_powers.reshape(count, -1).sum(axis=1)
    target = float(np.sum(powers) if fixed is None else np.sum(powers * fixed))
    out |= {} if weights is None else {"weights": weights}
    out |= {} if depth is None else {"depth": depth}
    if depth is not None:
        depth_weights = exp(-2 * depth * np.repeat(problem.log_norms, problem.axes if by_axis else 1))
        weights = depth_weights if weights is None else weights * depth_weights
    if currents.components is not None:
        if isinstance(currents.components, np.ndarray):
            inside = currents.components >= 0
            if len(inside) != count:
                raise ValueError(f"components has source = {len(inside)}, but the problem has source = {count}")
            share = given["shares"][np.maximum(currents.components, 0)] * inside
            out["weights"] = share if fixed is None else share * fixed
            weights = share if weights is None else weights * share
        else:
            return out | _by_matrices(currents, problem, given, weights, target)
    if all(given[name] is None for name in STRUCTURAL_NAMES[:5] if name != "weights") and not symbolic(weights):
        return out
    weights = np.ones(count) if weights is None else weights
    if tangential is not None:
        out["tangential"] = tangential
    if length is not None:
        fields = {name: value for name, value in out.items() if name not in ("time", "course")}
        power, out["length"] = LengthTable.of(problem, Structure(**fields)).trace(length), length
    elif tangential is not None:
        along = np.sum(along_normals(problem) ** 2, axis=0)
        power = (weights * (tangential * powers + (1 - tangential) * along)).sum()
    else:
        power = (weights * powers).sum()
    return {**out, "scale": target / power}


def _by_matrices(
    currents: Currents, problem: Problem, given: Mapping[str, Any], weights: Any, target: float
) -> dict[str, Any]:
    """Return the fields of a structure of component matrices: their roots side by side, and a variance per column."""
    if symbolic(weights) or given["tangential"] is not None:
        raise ValueError("components given as matrices hold depth, weights and orientation themselves; learn shares")
    factor, owner = currents.roots
    if len(factor) != problem.gain.shape[1]:
        raise ValueError(f"component matrices have amplitude = {len(factor)}, but the problem {problem.gain.shape[1]}")
    projected = problem.gain @ (
        factor if weights is None else np.sqrt(np.repeat(weights, len(factor) // len(weights)))[:, None] * factor
    )
    shares = given["shares"][owner]
    power = (shares * np.sum(projected**2, axis=0)).sum()
    return {"factor": factor, "shares": shares, "scale": target / power}
