"""Log evidence of a model with focal sources: that of its dense currents alone, times a ratio found by annealing.

Without focal sources few numbers are left, the time constant and the error on their grids and the hyperparameters of
scale and noise, and a lattice integrates over them. What sources add is a mean over chains of what each gathered on
its way from none of their effect to all of it.

Reference: Neal (2001), Stat. Comput. 11, 125-139 (annealed importance sampling).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
from scipy.special import logsumexp

from bayesinv.axes import Array
from bayesinv.inference.active_model import ActiveModel, LogPrior
from bayesinv.posterior.checks import Evidence

MAX_DIMENSION = 3
"""Hyperparameters above which a lattice would have too many nodes."""

FALL, FALL_OF_LEVELS, FALL_TO_ADD = 12.0, 8.0, 4.0
"""Nats below the top at which nodes, and levels of time constant and error, are left out, and levels at which what is
added takes long."""

STRETCH, REACH = 0.3, 16
"""How fast steps of the lattice grow with their number, and steps that it takes at most to each side."""

STENCIL, NEWTON, LONGEST, CENTRED = 0.05, 12, 1.5, 0.3
"""Distance of neighbours in the search for the mode, steps at most, the longest, and sds off the mode that will do."""

FLAT = 0.01
"""Curvature below which a density is taken to be flat."""


def annealed_ratio(log_ratios: Sequence[float]) -> Evidence:
    """Return the log of the ratio of the evidence to that without focal sources, with its standard error.

    The error is that of the jackknife: where one chain outweighs the others it is of the size of their distance, while
    the relative error of their mean cannot exceed one then.

    log_ratios : of each chain, logs of unbiased estimates; at least two

    Reference: Efron & Stein (1981), Ann. Stat. 9, 586-596.
    """
    ratios = np.asarray(log_ratios)
    count = len(ratios)
    mean = float(logsumexp(ratios) - np.log(count))
    without = np.array([logsumexp(np.delete(ratios, one)) for one in range(count)])
    return Evidence(mean, float(np.sqrt((count - 1) * without.var())))


def dense_log_evidence(
    model: ActiveModel, prior: LogPrior, start: Array, added: Callable[[int, float, float, float], float] | None = None
) -> float | None:
    """Return the log evidence of the dense currents alone, nats, by a lattice for each time constant and error.

    None where hyperparameters are too many for a lattice.

    start : (coordinate,), where the search for the mode starts
    added : to the log density at a level of time constant, and variance, noise and error; it is worked out at the mode
        of probable levels. None for nothing
    """
    if len(start) > MAX_DIMENSION:
        return None
    shape = len(model.log_constants), len(model.log_errors)
    first = int(np.argmax(model.log_constants)), int(np.argmax(model.log_errors))
    found: dict[tuple[int, int], float] = {}
    modes: dict[tuple[int, int], Array] = {}
    points = {first: start}
    waiting = [first]
    while waiting:
        level = waiting.pop()
        value, mode = _integral(model, prior, points[level], *level)
        modes[level] = mode
        found[level] = value + model.log_constants[level[0]] + model.log_errors[level[1]]
        # Levels next to those that hold mass, and uphill from those that do not.
        around = [(level[0] + a, level[1] + b) for a, b in ((1, 0), (-1, 0), (0, 1), (0, -1))]
        for near in around:
            inside = 0 <= near[0] < shape[0] and 0 <= near[1] < shape[1]
            if inside and near not in points and found[level] > max(found.values()) - FALL_OF_LEVELS:
                points[near] = mode
                waiting.append(near)
    if added is not None:
        top = max(found.values())
        found = {level: value for level, value in found.items() if value > top - FALL_TO_ADD}
        for level in found:
            _, variance, noise = prior(modes[level][None])
            found[level] += added(level[0], float(variance[0]), float(noise[0]), float(model.errors[level[1]]))
    return float(logsumexp(list(found.values())))


def _integral(model: ActiveModel, prior: LogPrior, start: Array, constant: int, error: int) -> tuple[float, Array]:
    """Log of the integral over hyperparameters at levels of constant and error, and the mode."""
    recording, size = model.recordings[constant], float(model.errors[error])

    def density(nodes: Array) -> Array:
        out, variance, noise = prior(nodes)
        for i in np.flatnonzero(np.isfinite(out)):
            out[i] += recording.log_density(variance[i], noise[i], size)
        return np.where(np.isfinite(out), out, -np.inf)

    if not len(start):
        return float(density(start[None])[0]), start
    mode, curvatures = _mode(density, start)
    number = np.arange(-REACH, REACH + 1)
    axes, logs = [], []
    for i, curvature in enumerate(curvatures):
        width = 1 / np.sqrt(max(curvature, FLAT))
        offset = width * np.sinh(STRETCH * number) / STRETCH
        heights = density(mode + offset[:, None] * np.eye(len(mode))[i])
        kept = heights > heights.max() - FALL
        axes.append(mode[i] + offset[kept])
        logs.append(np.log(width * np.cosh(STRETCH * number[kept])))
    nodes = np.array(list(product(*axes)))
    weights = np.array(list(product(*logs))).sum(axis=1)
    return float(logsumexp(density(nodes) + weights)), mode


def _mode(density: Callable[[Array], Array], start: Array) -> tuple[Array, Array]:
    """A point near the mode, by Newton's steps of which each looks at its neighbours once, and curvatures along axes.

    A lattice needs no more: it is centred there, and integrates whatever lies around.
    """
    size, mode = len(start), start
    around = STENCIL * np.array(list(product((-1, 0, 1), repeat=size)), dtype=np.float64)
    # A quadratic through the neighbours.
    pairs = [(i, j) for i in range(size) for j in range(i + 1)]
    design = np.column_stack([np.ones(len(around)), around, *(around[:, i] * around[:, j] for i, j in pairs)])
    solve = np.linalg.pinv(design)
    curvatures = np.ones(size)
    for _ in range(NEWTON):
        coefficients = solve @ density(mode + around)
        hessian = np.zeros((size, size))
        for (i, j), value in zip(pairs, coefficients[1 + size :], strict=True):
            hessian[i, j] += value
            hessian[j, i] += value
        values, vectors = np.linalg.eigh(-hessian)
        # Uphill where the density is not concave.
        step = vectors @ (vectors.T @ coefficients[1 : 1 + size] / np.maximum(np.abs(values), FLAT))
        mode, curvatures = mode + np.clip(step, -LONGEST, LONGEST), -np.diag(hessian)
        if (np.abs(step) * np.sqrt(np.maximum(curvatures, FLAT)) < CENTRED).all():
            break
    return mode, curvatures
