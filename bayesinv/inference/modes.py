"""Modes of the posterior of the hyperparameters: a coarse search, then Newton's method from every peak.

Where only scales are learned, all neighbours of a point are evaluated at once, and slopes and curvatures are finite
differences. Where structure is learned too, every point costs a factorisation: slopes are exact, and the curvature is
updated on the way (Broyden, Fletcher, Goldfarb & Shanno; Nocedal & Wright 2006, Numerical Optimization, §6.1).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
from scipy.ndimage import maximum_filter
from scipy.optimize import minimize

from bayesinv.axes import Array, Index
from bayesinv.prior.density import Density
from bayesinv.prior.nearby import NearbyDensity

SCALE_SEARCH = {
    1: np.linspace(-15.0, 15.0, 61),
    2: np.linspace(-10.0, 10.0, 21),
    3: np.linspace(-8.0, 8.0, 9),
    4: np.linspace(-6.0, 6.0, 5),
}
"""Offsets of the search along each unconstrained coordinate that is not structural, by the number of these."""

STRUCTURE_SEARCH = {1: np.linspace(-4.0, 4.0, 5), 2: np.linspace(-2.5, 2.5, 3), 3: np.linspace(-2.0, 2.0, 2)}
"""The same for structural coordinates, which cost more."""

MAX_MODES = 4
"""Largest number of starts of a climb."""

NEGLIGIBLE_MODE = 60.0
"""Nats below the highest mode at which a start is left out."""

MAX_DIMENSION_NEWTON = 4
"""Hyperparameters up to which a climb starts from the curvature; of more, it is estimated on the way."""

CONVERGED = 1e-6
"""Squared distance from a mode, in units of the curvature, at which a climb ends."""

NEAR_A_MODE = 1e-2
"""The same where the place of a mode need only be known roughly, and every step costs a decomposition."""

SAME_MODE = 0.1
"""Squared distance, in units of the curvature, below which two modes are the same."""

MAX_STEP = 2.0
"""Longest step along an unconstrained coordinate."""

DIFFERENCE_STEP = 0.05
"""Step of finite differences, in units of the curvature."""

INITIAL_DIFFERENCE_STEP = 1e-3
"""Step of finite differences where the curvature is not known yet."""

MAX_STEPS = 200
"""Largest number of steps of a climb."""

MAX_RESTARTS = 5
"""Largest number of times that the curvature is computed anew on a climb by slopes."""

Mode = tuple[float, Array, Array]
"""Log density, point (coordinate,) and covariance (coordinate, coordinate) from the curvature there."""


def mode(density: Density) -> tuple[Array, Array]:
    """Return the highest mode (coordinate,) and the covariance (coordinate, coordinate) from the curvature there.

    Raises
    ------
    ValueError
        If the density is nowhere finite.
    """
    _, point, covariance = modes(density, CONVERGED)[0]
    if density.structural:
        covariance = covariance_of(_curvature(density, point, DIFFERENCE_STEP * np.sqrt(np.diag(covariance))))
    return point, covariance


def modes(density: Density, converged: float = NEAR_A_MODE) -> list[Mode]:
    """Return every mode found, the highest first.

    The search climbs from each peak of a coarse lattice about the model's initial point: signal and noise may
    explain the same recording in two ways. Where a density that costs no decompositions is nearly this one, the search
    is of that, and only its modes are climbed from.

    converged : squared distance from a mode, in units of the curvature, at which a climb from such a mode ends

    Raises
    ------
    ValueError
        If the density is nowhere finite.
    """
    rough = NearbyDensity.by_modes_at(density, density.start)
    if rough is None:
        return _searched(density)
    found: list[Mode] = []
    for _, point, covariance in _searched(rough, NEAR_A_MODE):
        reached = _climb_by_slopes(density, point, found, converged, covariance)
        if reached is not None and not _known(reached[1], found, SAME_MODE):
            found.append(reached)
    return sorted(found, key=lambda one: -one[0])


def nearest_mode(density: Density, start: Array, covariance: Array) -> tuple[Array, Array]:
    """Return the mode (coordinate,) that a climb from a point leads to, and the covariance from the curvature there.

    covariance : (coordinate, coordinate), near that of the curvature; only where every step costs a decomposition

    Raises
    ------
    ValueError
        If the density is not finite around the point.
    """
    if density.structural:
        reached = _climb_by_slopes(density, start, [], NEAR_A_MODE, covariance)
        assert reached is not None
        return reached[1:]
    return _climb_by_differences(density, [start], np.arange(density.dimension))[0][1:]


def _searched(density: Density, converged: float = CONVERGED) -> list[Mode]:
    size, structural_count = density.dimension, len(density.structural)
    # Every structure costs a decomposition; scales cost next to nothing.
    free = np.array([i for i in range(size) if i not in density.structural], dtype=np.int64)
    scale_offsets = SCALE_SEARCH.get(len(free), np.zeros(1))
    structure_offsets = STRUCTURE_SEARCH.get(structural_count, np.zeros(1))
    structural_grid = np.array(list(product(structure_offsets, repeat=structural_count)))
    scale_grid = np.array(list(product(scale_offsets, repeat=len(free))))
    offsets = np.zeros((len(structural_grid), len(scale_grid), size))
    offsets[:, :, list(density.structural)] = structural_grid[:, None]
    offsets[:, :, free] = scale_grid
    starts = density.start + offsets
    log_densities = density(starts.reshape(-1, size)).reshape(starts.shape[:2])
    if not np.isfinite(log_densities).any():
        raise ValueError(
            "the posterior density is nowhere finite near the model's initial point; check its priors and scales"
        )
    highest = log_densities.max(axis=1)
    best = [(float(one), starts[i, log_densities[i].argmax()]) for i, one in enumerate(highest)]
    if structural_count and structural_count < size:
        # Structures can be compared only at the scales that fit each best.
        finite = [i for i, (log_density, _) in enumerate(best) if log_density > -np.inf]
        for i, climbed in zip(finite, _climb_by_differences(density, [best[i][1] for i in finite], free), strict=True):
            best[i] = climbed[:2]
        highest = np.array([log_density for log_density, _ in best])
    # Peaks among structures, and other peaks of the scales at the best of them.
    shape = [len(structure_offsets)] * structural_count
    best = [best[i] for i in _peaks(highest.reshape(shape))]
    first = int(highest.argmax())
    scale_peaks = _peaks(log_densities[first].reshape([len(scale_offsets)] * len(free)))
    others = [i for i in scale_peaks if i != log_densities[first].argmax()]
    best += [(float(log_densities[first, i]), starts[first, i]) for i in others]
    best = sorted(best, key=lambda one: -one[0])[:MAX_MODES]
    found: list[Mode] = []
    for log_density, start in best:
        if found and log_density < found[0][0] - NEGLIGIBLE_MODE:
            continue
        if not structural_count and size <= MAX_DIMENSION_NEWTON:
            reached: Mode | None = _climb_by_differences(density, [start], np.arange(size))[0]
        elif size <= MAX_DIMENSION_NEWTON:
            reached = _climb_by_slopes(density, start, found, converged)
        else:
            reached = _climb_by_bfgs(density, start)
        if reached is not None and not _known(reached[1], found, SAME_MODE):
            found.append(reached)
    return sorted(found, key=lambda one: -one[0])


def _peaks(log_densities: Array) -> Index:
    """Flat indices of the finite local maxima of a table."""
    return np.flatnonzero(
        (log_densities == maximum_filter(log_densities, 3, mode="nearest")) & np.isfinite(log_densities)
    )


def _known(point: Array, found: Sequence[Mode], limit: float) -> bool:
    """Whether a point lies within a squared distance, in units of the curvature, of a mode that was found."""
    return any((point - other) @ np.linalg.solve(covariance, point - other) <= limit for _, other, covariance in found)


def covariance_of(curvature: Array) -> Array:
    """Inverse of minus the curvature; directions of little or positive curvature get a large variance."""
    if not np.isfinite(curvature).all():
        raise ValueError("the posterior density is not finite around its mode; check the model's priors")
    values, vectors = np.linalg.eigh(-curvature)
    half = vectors / np.sqrt(np.maximum(values, 1e-2))
    return np.asarray(half @ half.T)


def uphill(function: Callable[[Array], Any], point: Array, log_density: float, step: Array) -> tuple[Any, Any]:
    """Return the first point along a step, shortened until it leads uphill, and the function there; or (None, None)."""
    for move in shorter_and_shorter(step):
        reached = function(point + move)
        if reached[0] > log_density:
            return point + move, reached
    return None, None


def shorter_and_shorter(step: Array) -> Iterator[Array]:
    """Yield a step, no longer than `MAX_STEP` along a coordinate, and quarters of it."""
    step = step * min(1.0, MAX_STEP / float(np.abs(step).max()))
    for _ in range(30):
        yield step
        step = step / 4


def _climb_by_differences(density: Density, starts: Sequence[Array], free: Index) -> list[Mode]:
    """Newton's method along some coordinates, from several starts at once; the covariances are of these coordinates."""
    climbs = [_climbing(start, np.eye(density.dimension)[free]) for start in starts]
    asked = [next(one) for one in climbs]
    found: dict[int, Mode] = {}
    while len(found) < len(climbs):
        going = [i for i in range(len(climbs)) if i not in found]
        # Evaluating the prior's graph takes as long for many points as for one.
        log_densities = density(np.concatenate([asked[i] for i in going]))
        for i, part in zip(going, np.split(log_densities, np.cumsum([len(asked[i]) for i in going])[:-1]), strict=True):
            try:
                asked[i] = climbs[i].send(part)
            except StopIteration as reached:
                found[i] = reached.value
    return [found[i] for i in range(len(climbs))]


def _climbing(start: Array, unit: Array) -> Generator[Array, Array, Mode]:
    """Newton's method along orthogonal directions (direction, coordinate): it asks for densities at points."""
    point, steps = start, np.full(len(unit), INITIAL_DIFFERENCE_STEP)
    log_density, slope, curvature = _derivatives((yield _around(point, steps, unit)), steps)
    for _ in range(MAX_STEPS):
        covariance = covariance_of(curvature)
        step = covariance @ slope
        if slope @ step < CONVERGED:
            break
        steps = DIFFERENCE_STEP * np.sqrt(np.diag(covariance))
        for move in shorter_and_shorter(step @ unit):
            reached = _derivatives((yield _around(point + move, steps, unit)), steps)
            if reached[0] > log_density:
                break
        else:
            break
        point, (log_density, slope, curvature) = point + move, reached
    return log_density, point, covariance


def _around(point: Array, steps: Array, unit: Array) -> Array:
    """A point (coordinate,), and those a step, and two, away from it along directions: (point, coordinate)."""
    shifts = steps[:, None] * unit
    both = np.array([shifts[i] + shifts[j] for i in range(len(steps)) for j in range(i)]).reshape(-1, len(point))
    return np.asarray(point + np.concatenate([np.zeros((1, len(point))), shifts, -shifts, both, -both]))


def _derivatives(log_densities: Array, steps: Array) -> tuple[float, Array, Array]:
    """Log density, and slope and curvature by differences, from log densities at the points of `_around`."""
    size = len(steps)
    pairs = [(i, j) for i in range(size) for j in range(i)]
    if not np.isfinite(log_densities).all():
        return -np.inf, np.zeros(size), np.full((size, size), np.nan)
    log_density, up, down = log_densities[0], log_densities[1 : size + 1], log_densities[size + 1 : 2 * size + 1]
    curvature = np.diag(up + down - 2 * log_density)
    for k, (i, j) in enumerate(pairs):
        corners = log_densities[2 * size + 1 + k] + log_densities[2 * size + 1 + len(pairs) + k]
        curvature[i, j] = curvature[j, i] = (corners + 2 * log_density - up[i] - down[i] - up[j] - down[j]) / 2
    return float(log_density), (up - down) / (2 * steps), curvature / np.outer(steps, steps)


def _climb_by_slopes(
    density: Density, start: Array, found: Sequence[Mode], converged: float, roughly: Array | None = None
) -> Mode | None:
    """Climb by exact slopes; None if the climb leads to a mode that was found.

    roughly : (coordinate, coordinate), covariance from the curvature at the start; None where it is not known
    """
    point, steps = start, np.full(len(start), INITIAL_DIFFERENCE_STEP)
    log_density, slope = density.slope(point)
    for _ in range(MAX_RESTARTS):
        covariance = covariance_of(_curvature(density, point, steps, slope)) if roughly is None else roughly
        origin, roughly = point, None
        for _ in range(MAX_STEPS):
            step = covariance @ slope
            if slope @ step < converged:
                break
            next_point, reached = uphill(density.slope, point, log_density, step)
            if next_point is None:
                break
            covariance = updated(covariance, next_point - point, slope - reached[1])
            point, (log_density, slope) = next_point, reached
            if _known(point, found, 1.0):
                return None
        moved = point - origin
        if moved @ np.linalg.solve(covariance, moved) < SAME_MODE:
            break
        steps = DIFFERENCE_STEP * np.sqrt(np.diag(covariance))
    return log_density, point, covariance


def updated(covariance: Array, step: Array, slope_change: Array) -> Array:
    """BFGS update: covariance that explains by how much the slope decreased along a step."""
    share = float(step @ slope_change)
    if share <= 0:
        return covariance
    half = np.eye(len(step)) - np.outer(step, slope_change) / share
    return np.asarray(half @ covariance @ half.T + np.outer(step, step) / share)


def _curvature(density: Density, point: Array, steps: Array, slope: Array | None = None) -> Array:
    """Curvature by differences of slopes, central where the slope at the point itself is not given."""
    rows = []
    for shift, step in zip(np.diag(steps), steps, strict=True):
        above = density.slope(point + shift)[1]
        rows.append((above - density.slope(point - shift)[1]) / (2 * step) if slope is None else (above - slope) / step)
    return (np.array(rows) + np.array(rows).T) / 2


def _climb_by_bfgs(density: Density, start: Array) -> Mode:
    """Climb along many coordinates by BFGS, and refine the mode with the curvature there."""

    def downhill(point: Array) -> tuple[float, Array]:
        log_density, slope = density.slope(point)
        return (
            (-log_density, -slope)
            if np.isfinite(log_density) and np.isfinite(slope).all()
            else (1e300, np.zeros(len(point)))
        )

    point = np.asarray(minimize(downhill, start, jac=True, method="BFGS", options={"maxiter": 500}).x)
    steps = np.full(len(start), INITIAL_DIFFERENCE_STEP)
    for _ in range(2):
        covariance = covariance_of(_curvature(density, point, steps))
        log_density, slope = density.slope(point)
        next_point, _ = uphill(density.slope, point, log_density, covariance @ slope)
        point = point if next_point is None else next_point
        steps = DIFFERENCE_STEP * np.sqrt(np.diag(covariance))
    return density.slope(point)[0], point, covariance
