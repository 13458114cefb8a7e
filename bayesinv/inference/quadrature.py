"""Adaptive quadrature over a few hyperparameters: a lattice along the posterior's own axes.

The trapezoid rule on a lattice converges exponentially for smooth densities that fall off. The lattice is centred
on the mode, scaled by the curvature there and stretched in the tails (a hyperbolic sine, so that a tail which
falls off only exponentially costs few nodes); it grows until its faces hold no mass, and is refined until evidence
and moments are stable.

Reference: Rue, Martino & Chopin (2009), J. R. Stat. Soc. B 71, 319-392, for the strategy.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from scipy.ndimage import maximum_filter
from scipy.optimize import minimize

from bayesinv.axes import Array
from bayesinv.inference.density import Density
from bayesinv.inference.result import assemble
from bayesinv.posterior import Check, Evidence, Posterior

EDGE = 1e-8
"""Share of the mass that a face of the lattice may hold."""

EDGE_STRUCTURE = 1e-5
"""The same along axes of the structure, where a node costs a decomposition."""

STABLE = 5e-3
"""Change of mean and sd under refinement, in units of the sd, below which the nodes are kept."""

STABLE_EVIDENCE = 1e-3
"""Change of the log evidence under refinement, in nats, below which it is final."""

SEARCH = {
    1: np.linspace(-15.0, 15.0, 61),
    2: np.linspace(-10.0, 10.0, 21),
    3: np.linspace(-8.0, 8.0, 9),
    4: np.linspace(-6.0, 6.0, 5),
}
"""Where modes are searched along each unconstrained coordinate, by their number."""

STRUCTURES = {1: np.linspace(-4.0, 4.0, 5), 2: np.linspace(-2.5, 2.5, 3), 3: np.linspace(-2.0, 2.0, 2)}
"""The same for coordinates that shape the structure, which cost more."""

MOST_MODES = 4

FAR = 60.0
"""Nats below the highest mode from which no other mode is worth a climb."""

MOST_BY_DIFFERENCE = 4
"""Hyperparameters up to which slopes and curvatures are differences of the density itself."""

STRETCH = 0.3
"""How fast the lattice widens in the tails."""

MOST_NODES = 2_000_000

RISE = 5.0
"""Nats by which a density between nodes may rise above them all."""

WORST = 1e-2
"""Error, in sd or nats, that no bound may tell of a lattice that is kept."""

BEYOND = 5.0
"""How many times the mass on the faces of a lattice may lie beyond them, where tails fall off slowly."""

BEND = 15.0
"""Nats off a parabola at which the log density between nodes is no longer followed closely."""


class UnsettledError(ValueError):
    """A lattice that is as fine as it may be does not give the moments: the density wants a sampler."""


@dataclass(frozen=True, eq=False)
class Lattice:
    """Nodes and weights of the posterior of the hyperparameters.

        node = centre + axes @ sinh(STRETCH * step * index) / STRETCH

    index : (node, coordinate), integer places on the lattice
    weights : (node,), sum to 1
    log_density : (node,), log of prior, likelihood and the stretch's Jacobian
    centre, axes : (coordinate,) mode; (coordinate, coordinate) axes in columns
    step : distance of neighbours on the lattice
    log_evidence, error : log marginal likelihood of the recording, and its numerical error
    edge : share of the mass on the outermost faces
    drift : last change of the moments under refinement, in sd
    """

    index: Array
    weights: Array
    log_density: Array
    centre: Array
    axes: Array
    step: float
    log_evidence: float
    error: float
    edge: float
    drift: float

    def place(self, index: Array) -> Array:
        """Unconstrained hyperparameters (node, coordinate) at places on the lattice."""
        return self.centre + np.sinh(STRETCH * self.step * index) / STRETCH @ self.axes.T

    @property
    def nodes(self) -> Array:
        """(node, coordinate), unconstrained hyperparameters."""
        return self.place(self.index)

    def log_target(self, density: Density, index: Array) -> Array:
        """Log density (node,) with respect to the lattice's own coordinates."""
        heights = density(self.place(index)) if len(index) else np.zeros(0)
        return heights + np.log(np.cosh(STRETCH * self.step * index)).sum(axis=1)


def mode(density: Density) -> tuple[Array, Array]:
    """Return the highest mode (coordinate,) and the covariance (coordinate, coordinate) from the curvature there.

    Raises
    ------
    ValueError
        If the density is nowhere finite.
    """
    return modes(density)[0]


def modes(density: Density) -> list[tuple[Array, Array]]:
    """Return every mode found and the covariance from the curvature there, the highest first.

    The search climbs from each peak of a coarse lattice about the model's initial point: signal and noise may
    explain the same recording in two ways.

    Raises
    ------
    ValueError
        If the density is nowhere finite.
    """
    size, few = density.dimension, len(density.structural)
    # Every structure costs a decomposition; scales cost next to nothing.
    loose, tight = SEARCH.get(size - few, np.zeros(1)), STRUCTURES.get(few, np.zeros(1))
    sides = [tight if i in density.structural else loose for i in range(size)]
    starts = density.start + np.array(list(product(*sides)))
    heights = density(starts)
    if not np.isfinite(heights).any():
        raise ValueError(
            "the posterior density is nowhere finite near the model's initial point; check its priors and scales"
        )
    table = heights.reshape([len(side) for side in sides])
    peaks = np.flatnonzero((table == maximum_filter(table, 3, mode="nearest")) & np.isfinite(table))
    best = list(starts[peaks[np.argsort(heights[peaks])[::-1][:MOST_MODES]]])
    if few and few < size:
        # Peaks of a coarse lattice say little of their heights before the scales have found theirs.
        best = [_climb_scales(density, place) for place in best]
        best.sort(key=lambda place: -density.height(place))
    found: list[tuple[float, Array, Array]] = []
    for start in best:
        if found and density.height(start) < found[0][0] - FAR:
            continue
        place, covariance = _climb(density, start)
        apart = [place - other for _, other, _ in found]
        if all(step @ np.linalg.solve(covariance, step) > 0.1 for step in apart):
            found.append((density.height(place), place, covariance))
    found.sort(key=lambda one: -one[0])
    return [(place, covariance) for _, place, covariance in found]


def _climb_scales(density: Density, start: Array) -> Array:
    """Return the place uphill of a start whose structure stays as it is."""
    free = [i for i in range(density.dimension) if i not in density.structural]
    unit = np.eye(density.dimension)[free]

    def downhill(part: Array) -> tuple[float, Array]:
        place = start.copy()
        place[free] = part
        return _by_differences(density, place, unit)

    place = start.copy()
    place[free] = minimize(downhill, start[free], jac=True, method="BFGS", options={"maxiter": 200}).x
    return place


def _by_differences(density: Density, place: Array, unit: Array) -> tuple[float, Array]:
    """Minus the log density and its slope along some directions (direction, coordinate), by differences."""
    step = 1e-5
    around = density(np.concatenate([place[None], place + step * unit, place - step * unit]))
    if not np.isfinite(around).all():
        return 1e300, np.zeros(len(unit))
    return -float(around[0]), -(around[1 : len(unit) + 1] - around[len(unit) + 1 :]) / (2 * step)


def _climb(density: Density, start: Array) -> tuple[Array, Array]:
    """Return the mode uphill of a place, and the covariance from the curvature there."""
    size = density.dimension
    exact = bool(density.structural) or size > MOST_BY_DIFFERENCE

    def downhill(place: Array) -> tuple[float, Array]:
        if not exact:
            return _by_differences(density, place, np.eye(size))
        height, slope = density.slope(place)
        return (-height, -slope) if np.isfinite(height) and np.isfinite(slope).all() else (1e300, np.zeros(size))

    def curved(place: Array, scale: Array) -> Array:
        curvature = _slope_differences(downhill, place, scale) if exact else _hessian(density, place, scale)
        if not np.isfinite(curvature).all():
            raise ValueError("the posterior density is not finite around its mode; check the model's priors")
        values, vectors = np.linalg.eigh(-curvature)
        # A flat direction gets a wide step; the lattice finds the real width by growing.
        half = vectors / np.sqrt(np.maximum(values, 1e-2))
        return np.asarray(half @ half.T)

    scale = np.full(size, 1e-3)
    options: dict[str, Any] = {"maxiter": 500}
    if exact and size <= MOST_BY_DIFFERENCE:
        # A climb that knows the curvature needs few steps, and every step costs a factorisation.
        options["hess_inv0"] = curved(start, scale)
    place = np.asarray(minimize(downhill, start, jac=True, method="BFGS", options=options).x)
    covariance = np.eye(size)
    for _ in range(2):
        covariance = curved(place, scale)
        height, slope = downhill(place)
        step = -covariance @ slope
        length = float(np.sqrt(step @ np.linalg.solve(covariance, step)))
        moved = place + step * min(1.0, 1.0 / max(length, 1e-12))
        if downhill(moved)[0] < height:
            place = moved
        scale = 0.05 * np.sqrt(np.diag(covariance))
    return place, covariance


def _slope_differences(downhill: Callable[[Array], tuple[float, Array]], place: Array, scale: Array) -> Array:
    """Second derivatives by central differences of the gradient."""
    shifts = np.diag(scale)
    rows = [(downhill(place - one)[1] - downhill(place + one)[1]) / (2 * np.sum(one)) for one in shifts]
    return np.asarray((np.array(rows) + np.array(rows).T) / 2)


def _hessian(density: Density, place: Array, scale: Array) -> Array:
    """Central second differences with steps `scale` (coordinate,)."""
    size = len(place)
    shifts = np.diag(scale)
    points = []
    for i in range(size):
        for j in range(i + 1):
            points += [a * shifts[i] + b * shifts[j] for a, b in ((1, 1), (1, -1), (-1, 1), (-1, -1))]
    heights = density(place + np.array(points)).reshape(-1, 4) @ np.array([1.0, -1.0, -1.0, 1.0])
    out = np.empty((size, size))
    k = 0
    for i in range(size):
        for j in range(i + 1):
            out[i, j] = out[j, i] = heights[k] / (4 * scale[i] * scale[j])
            k += 1
    return out


def integrate(density: Density) -> Lattice:
    """Integrate the posterior density of up to four hyperparameters.

    Raises
    ------
    ValueError
        If mass lies at the edge however far the lattice grows (an improper posterior), or the moments do not
        settle.
    """
    (centre, covariance), *others = modes(density)
    size = len(centre)
    # Triangular axes, the structural coordinate first, keep the number of different structures small.
    first = density.structural
    order = np.array([*first, *(i for i in range(size) if i not in first)])
    triangle = np.linalg.cholesky(covariance[np.ix_(order, order)])
    axes = np.empty((size, size))
    axes[order] = triangle
    low, high = np.full(size, -4.0), np.full(size, 4.0)
    for place, spread in others:
        fall = _mass(density, centre, covariance) - _mass(density, place, spread)
        if fall < -np.log(EDGE):
            # A lower mode that still holds mass: the lattice reaches over it.
            around = place + np.array([-3.0, 0.0, 3.0])[:, None, None] * np.linalg.cholesky(spread).T
            index = np.arcsinh(STRETCH * np.linalg.solve(axes, (around.reshape(-1, size) - centre).T).T) / STRETCH
            low, high = np.minimum(low, index.min(axis=0)), np.maximum(high, index.max(axis=0))
    step = 1.0
    coarse: Lattice | None = None
    for _ in range(5):
        empty = Lattice(np.zeros((0, size)), np.zeros(0), np.zeros(0), centre, axes, step, 0.0, 0.0, 0.0, 0.0)
        lattice = _grow(density, empty, low, high, coarse)
        if coarse is None:
            told = [_by_parity(lattice), *([_by_spline(lattice)] if len(first) else [])]
            # Both bounds are rough; one of them is enough to go on, and the worse is told.
            sure = min(one[0] for one in told) < STABLE and min(one[1] for one in told) < STABLE_EVIDENCE
            drift, change = (max(one) for one in zip(*told, strict=True))
            if sure and drift < WORST and change < WORST:
                return _pruned(replace(lattice, error=change + BEYOND * lattice.edge, drift=drift))
        if coarse is not None:
            before, after = _moments(coarse), _moments(lattice)
            drift = float(np.max(np.abs(np.r_[(before[0] - after[0]) / after[1], before[1] / after[1] - 1])))
            change = abs(lattice.log_evidence - coarse.log_evidence)
            if drift < STABLE and change < STABLE_EVIDENCE:
                # The coarse nodes are this accurate already, and the finer evidence is free.
                return _pruned(
                    replace(coarse, log_evidence=lattice.log_evidence, error=change + BEYOND * coarse.edge, drift=drift)
                )
            lattice = replace(lattice, drift=drift, error=change + BEYOND * lattice.edge)
        coarse = lattice
        if len(lattice.index) * 2**size > MOST_NODES:
            break
        step /= 2
    if coarse is None or not 0 < coarse.drift < 0.02:
        raise UnsettledError(
            "quadrature did not settle: the posterior of the hyperparameters is too rough or too wide for a "
            f"lattice in {size} dimensions; use method='nuts'"
        )
    return _pruned(coarse)


def _by_parity(lattice: Lattice) -> tuple[float, float]:
    """What one lattice says of its own errors: of the moments in sd, and of the log evidence in nats.

    Every other node along each axis makes a lattice of twice the step. The trapezoid rule on smooth densities
    converges exponentially in the inverse step, so halving the step squares the error; twice that square is told.
    """
    mean, sd = _moments(lattice)
    parity = (lattice.index.astype(np.int64) % 2) @ 2 ** np.arange(lattice.index.shape[1])
    drift = change = 0.0
    for which in range(2 ** lattice.index.shape[1]):
        mine = parity == which
        share = float(lattice.weights[mine].sum())
        if not share:
            return np.inf, np.inf
        part = replace(lattice, index=lattice.index[mine], weights=lattice.weights[mine] / share)
        other = _moments(part)
        drift = max(drift, float(np.max(np.abs(np.r_[(other[0] - mean) / sd, other[1] / sd - 1]))))
        change = max(change, abs(np.log(share * 2 ** lattice.index.shape[1])))
    return 2 * drift**2, 2 * change**2


def _by_spline(lattice: Lattice) -> tuple[float, float]:
    """Errors of a lattice, as `_by_parity`, by one of half the step on which the log density is interpolated.

    Nodes of new structures are dear; where the log density between the nodes is smooth it need not be asked.
    """
    mean, sd = _moments(lattice)
    size = lattice.index.shape[1]
    heavy = lattice.log_density > lattice.log_density.max() + np.log(EDGE) - 7
    corners = np.array(list(product((0.0, 0.5), repeat=size)))
    place = (lattice.index[heavy][:, None] + corners).reshape(-1, size)
    heights = _smooth(lattice)(place)
    # Splines that rise above every node do not follow the density, and nothing is settled by them.
    if not heights.max() < lattice.log_density.max() + RISE:
        return np.inf, np.inf
    shares = np.exp(heights - lattice.log_density.max())
    nodes = lattice.place(place)
    weights = shares / shares.sum()
    other = weights @ nodes
    spread = np.sqrt(weights @ (nodes - other) ** 2)
    drift = float(np.max(np.abs(np.r_[(other - mean) / sd, spread / sd - 1])))
    whole = np.exp(lattice.log_density - lattice.log_density.max()).sum() * 2**size
    return drift, abs(float(np.log(shares.sum() / whole)))


def _mass(density: Density, place: Array, covariance: Array) -> float:
    """Log mass of a mode, by Laplace's approximation and up to a constant."""
    return float(density(place[None])[0]) + 0.5 * float(np.linalg.slogdet(covariance)[1])


def _moments(lattice: Lattice) -> tuple[Array, Array]:
    """Mean and standard deviation (coordinate,) of the unconstrained hyperparameters."""
    mean = lattice.weights @ lattice.nodes
    return mean, np.sqrt(np.maximum(lattice.weights @ (lattice.nodes - mean) ** 2, 1e-300))


def _grow(density: Density, lattice: Lattice, low: Array, high: Array, coarse: Lattice | None) -> Lattice:
    """Evaluate the lattice between `low` and `high` (moved in place), outwards until its faces hold no mass.

    Places around which the lattice of twice the step has no mass are left out.
    """
    size, step = len(low), lattice.step
    heavy: set[str] = set()
    for _ in range(60):
        sides = [np.arange(np.floor(low[a] / step), np.ceil(high[a] / step) + 1) for a in range(size)]
        if np.prod([float(len(side)) for side in sides]) > MOST_NODES:
            break
        index = np.stack(np.meshgrid(*sides, indexing="ij"), axis=-1).reshape(-1, size)
        if coarse is None:
            heights = lattice.log_target(density, index)
        else:
            heights = np.full(len(index), -np.inf)
            alive = _near_mass(coarse, index)
            heights[alive] = lattice.log_target(density, index[alive])
        shares = np.exp(heights - heights.max())
        weights = shares / shares.sum()
        grown = False
        for a in range(size):
            for bound, way, face in (
                (low, "downwards", index[:, a].min()),
                (high, "upwards", index[:, a].max()),
            ):
                if weights[index[:, a] == face].sum() > (EDGE if a >= len(density.structural) else EDGE_STRUCTURE):
                    bound[a] += np.copysign(1.5, bound[a])
                    heavy.add(f"{density.names[a]} {way}")
                    grown = True
        if not grown:
            log_evidence = (
                heights.max() + np.log(shares.sum()) + size * np.log(step) + np.linalg.slogdet(lattice.axes)[1]
            )
            edge = _edge(index, weights)
            return replace(
                lattice,
                index=index,
                weights=weights,
                log_density=heights,
                log_evidence=float(log_evidence),
                edge=edge,
            )
        if max(np.abs(low).max(), high.max()) > 40:
            break
    raise ValueError(
        f"posterior mass lies at the edge of the lattice however far it grows (from {', '.join(sorted(heavy))}): the "
        "posterior does not fall off, because a prior is improper or far too wide for these data; give a proper prior"
    )


def _near_mass(coarse: Lattice, index: Array) -> Array:
    """Whether each place (node, coordinate) of the lattice of half the step lies next to mass of the coarse one."""
    from scipy.ndimage import binary_dilation

    corner = coarse.index.min(axis=0)
    cells = (coarse.index - corner).astype(np.int64)
    heavy = np.zeros(tuple(cells.max(axis=0) + 3), dtype=bool)
    heavy[tuple((cells + 1).T)] = coarse.log_density > coarse.log_density.max() + np.log(EDGE) - 7
    heavy = binary_dilation(heavy, np.ones((3,) * heavy.ndim))
    near = np.floor(index / 2).astype(np.int64) - corner.astype(np.int64) + 1
    inside = ((near >= 0) & (near < heavy.shape)).all(axis=1)
    out = np.zeros(len(index), dtype=bool)
    out[inside] = heavy[tuple(near[inside].T)]
    return out


def _edge(index: Array, weights: Array) -> float:
    """Share of the mass on the outermost faces."""
    outer = ((index == index.min(axis=0)) | (index == index.max(axis=0))).any(axis=1)
    return float(weights[outer].sum())


def _pruned(lattice: Lattice) -> Lattice:
    """Drop nodes that together hold less than a hundred-millionth of the mass."""
    order = np.argsort(lattice.weights)
    keep = np.sort(order[np.cumsum(lattice.weights[order]) > EDGE])
    weights = lattice.weights[keep]
    return replace(
        lattice,
        index=lattice.index[keep],
        weights=weights / weights.sum(),
        log_density=lattice.log_density[keep],
    )


def draw(density: Density, lattice: Lattice, count: int, rng: np.random.Generator) -> Array:
    """Independent draws (draw, coordinate) from the posterior density itself.

    A node is drawn by weight and jittered by a triangle in every axis, which samples the multilinear interpolant
    of the density; rejection against the density makes the draws exact up to the largest ratio met.
    """
    size = lattice.index.shape[1]
    if not size:
        return np.zeros((count, 0))
    kept: list[Array] = []
    have = 0
    corner = lattice.index.min(axis=0) - 1
    top = lattice.log_density.max()
    table = np.zeros(tuple((lattice.index.max(axis=0) + 2 - corner).astype(int)))
    table[tuple((lattice.index - corner).astype(int).T)] = np.exp(lattice.log_density - top)
    smooth = _smooth(lattice) if density.structural else None
    while have < count:
        tries = int(1.3 * (count - have)) + 64
        pick = rng.choice(len(lattice.index), size=tries, p=lattice.weights)
        place = lattice.index[pick] + rng.triangular(-1, 0, 1, size=(tries, size))
        proposed = _multilinear(table, place - corner)
        # Every new structure would be a decomposition, so between structures the density is interpolated smoothly.
        height = lattice.log_target(density, place) if smooth is None else smooth(place)
        ratio = np.exp(height - top) / np.maximum(proposed, 1e-300)
        # Beyond four times the interpolant there is next to no mass, and waiting for it would cost all draws.
        bound = min(float(ratio.max()), 4.0)
        taken = place[rng.uniform(size=tries) * bound < ratio]
        kept.append(taken)
        have += len(taken)
    return lattice.place(np.concatenate(kept)[:count])


def _smooth(lattice: Lattice) -> Callable[[Array], Array]:
    """The log density between the nodes of a lattice: a parabola and quintic splines, (point, axis) to (point,)."""
    from scipy.ndimage import map_coordinates, spline_filter

    corner, size = lattice.index.min(axis=0), lattice.index.shape[1]
    top = lattice.log_density.max()
    fall = top - lattice.log_density
    near = fall < np.inf
    unit = lattice.index / np.abs(lattice.index).max(axis=0)

    def terms(where: Array) -> Array:
        pairs = [where[:, i] * where[:, j] for i in range(size) for j in range(i + 1)]
        return np.column_stack([np.ones(len(where)), where, *pairs])

    weights = np.exp(-np.minimum(fall, 40.0) / 8)[near]
    fit = np.linalg.lstsq(weights[:, None] * terms(unit[near]), weights * fall[near], rcond=None)[0]
    # Bends far from the peak, where there is no mass, must not ring through the splines.
    bent = np.ones(tuple((lattice.index.max(axis=0) + 1 - corner).astype(int)))
    bent[tuple((lattice.index - corner).astype(int).T)] = np.tanh((np.minimum(fall, 1e6) - terms(unit) @ fit) / BEND)
    splines = spline_filter(bent, order=5)
    scale = np.abs(lattice.index).max(axis=0)

    def at(place: Array) -> Array:
        found = map_coordinates(splines, (place - corner).T, order=5, prefilter=False, mode="nearest")
        return np.asarray(top - terms(place / scale) @ fit - BEND * np.arctanh(np.clip(found, -0.999, 0.999)))

    return at


def _multilinear(table: Array, place: Array) -> Array:
    """Interpolate `table` multilinearly at fractional indices (point, axis)."""
    base = np.floor(place).astype(np.int64)
    base = np.clip(base, 0, np.array(table.shape) - 2)
    part = place - base
    out = np.zeros(len(place))
    for corner in product((0, 1), repeat=table.ndim):
        share = np.prod(np.where(corner, part, 1 - part), axis=1)
        out += share * table[tuple((base + corner).T)]
    return out


def posterior(
    density: Density, name: str, rng: np.random.Generator, draws: int, timings: dict[str, float]
) -> Posterior:
    """Return the posterior with hyperparameters integrated on an adaptive lattice, evidence and its error included."""
    started = time.perf_counter()
    lattice = integrate(density)
    timings["quadrature"] = time.perf_counter() - started
    started = time.perf_counter()
    drawn = draw(density, lattice, draws, rng)
    timings["draws"] = time.perf_counter() - started
    error = lattice.error
    checks = (
        Check("quadrature edge", lattice.edge, "< 1e-4", lattice.edge < 1e-4, "posterior mass on the lattice's faces"),
        Check("quadrature drift", lattice.drift, "< 0.01 sd", lattice.drift < 0.01, "change of moments on refinement"),
        Check("evidence error", error, "< 0.01 nats", error < 0.01, "numerical error of the log evidence"),
    )
    evidence = Evidence(lattice.log_evidence, error) if density.proper else None
    return assemble(density, name, "quadrature", lattice.nodes, lattice.weights, drawn, evidence, checks, timings)
