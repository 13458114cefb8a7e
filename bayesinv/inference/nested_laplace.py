"""Nested Laplace: a lattice over the one number that shrinks many, and a Gaussian of all others at each of its values.

A scale that shrinks many variances and the variances themselves make a funnel: their joint mode lies where the scale
is large and every deviation small, far from the mass, for the width of the others falls as the scale grows. At a given
scale the others are nearly Gaussian, and the determinant of their curvature is what the joint mode leaves out:

    log p(s | recording) = log p(s, x(s), recording) + log|2π Σ(s)| / 2 + constant,   x(s) the mode of all others at s

The density of s is interpolated between the lattice's values by a cubic spline. Draws of s, and of the others from
their Gaussian at s, are held against the density by importance weights.

References: Rue, Martino & Chopin (2009), J. R. Stat. Soc. B 71, 319-392; Tierney & Kadane (1986), J. Am. Stat. Assoc.
81, 82-86.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.interpolate import CubicSpline, PchipInterpolator

from bayesinv.axes import Array, Index
from bayesinv.inference.assemble import assemble
from bayesinv.inference.curvature import applies, exact_curvature
from bayesinv.inference.modes import SCALE_SEARCH, covariance_of, updated, uphill
from bayesinv.posterior.checks import Check, Evidence
from bayesinv.posterior.posterior import Posterior
from bayesinv.prior.density import Density

NEGLIGIBLE = 8.0
"""Nats below the highest point of the lattice at which it ends."""

EVEN_STEPS = 3
"""Steps of the lattice on either side after which they double: a tail is the prior's, and smooth."""

MAX_POINTS = 24
"""Largest number of points of the lattice."""

CONVERGED = 1e-4
"""Squared distance from a mode, in units of the curvature, at which a climb ends."""

MAX_STEPS = 100
"""Largest number of steps of a climb."""

DIFFERENCE_STEP = 3e-3
"""Step of the finite differences of slopes."""

FINE = 801
"""Points of the interpolated density."""

DECISIVE = 3.0
"""Nats from which one model is strongly preferred to another (Kass & Raftery 1995, J. Am. Stat. Assoc. 90, 773-795)."""

IMPORTANCE_DRAWS = 64
"""Draws that are held against the density, and that the currents are mixed over."""


@dataclass(frozen=True, eq=False)
class Gaussians:
    """Gaussians of all coordinates but one, on a lattice of that one.

    outer : index of the one
    points : (point,), its values
    centres : (point, coordinate), modes at these
    roots : (point, other, other), lower triangles of the covariances of all others
    log_masses : (point,), log of the integral over all others, by Laplace's approximation
    """

    outer: int
    points: Array
    centres: Array
    roots: Array
    log_masses: Array

    @property
    def others(self) -> Index:
        """Indices of all other coordinates."""
        return np.delete(np.arange(self.centres.shape[1]), self.outer)

    def density(self) -> tuple[Array, Array, float, float]:
        """A fine grid of the one, its probabilities there, and the log integral with its error by interpolation."""
        grid = np.linspace(self.points[0], self.points[-1], FINE)
        found, step = [], grid[1] - grid[0]
        for kind in (CubicSpline, PchipInterpolator):
            logs = kind(self.points, self.log_masses)(grid)
            found.append((logs, float(logs.max() + np.log(np.exp(logs - logs.max()).sum() * step))))
        (logs, total), (_, other) = found
        return grid, np.exp(logs - total) * step, total, abs(total - other)

    def draw(self, count: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Draws (draw, coordinate) and their log density (draw,)."""
        grid, shares, _, _ = self.density()
        step = grid[1] - grid[0]
        ranks = (rng.permutation(count) + rng.uniform(size=count)) / count
        cell = np.minimum(np.searchsorted(np.cumsum(shares) / shares.sum(), ranks), len(grid) - 1)
        outer = np.clip(grid[cell] + step * (rng.uniform(size=count) - 0.5), grid[0], grid[-1])
        nearest = np.abs(outer[:, None] - self.points).argmin(axis=1)
        unit = rng.standard_normal((count, len(self.others)))
        nodes = np.stack([np.interp(outer, self.points, column) for column in self.centres.T], axis=1)
        nodes[:, self.others] += np.einsum("nab,nb->na", self.roots[nearest], unit)
        logs = np.log(np.diagonal(self.roots, axis1=1, axis2=2)).sum(axis=1)[nearest]
        size = unit.shape[1]
        log_density = np.log(shares[cell] / shares.sum() / step) - logs
        return nodes, log_density - 0.5 * (size * np.log(2 * np.pi) + np.sum(unit**2, axis=1))


def shrinking(density: Density) -> int | None:
    """Return the index of the one number on which, beside many others, the structure depends; None without one."""
    names = [density.names[i] for i in density.structural]
    single = [i for i, name in zip(density.structural, names, strict=True) if "[" not in name]
    return single[0] if len(single) == 1 and len(names) > 2 else None


def nested(density: Density, step: float) -> Gaussians:
    """Return the Gaussians on a lattice that grows from the model's initial point until it holds the mass."""
    outer = shrinking(density)
    assert outer is not None
    first = _climbed(density, _start(density), outer, None)
    found = {float(first[1][outer]): first}
    for direction in (1.0, -1.0):
        point, width, (_, centre, covariance, _) = float(first[1][outer]), step, first
        for k in range(MAX_POINTS // 2):
            width = 2 * width if k >= EVEN_STEPS else width
            point += direction * width
            start = centre.copy()
            start[outer] = point
            reached = _climbed(density, start, outer, covariance)
            found[point] = reached
            _, centre, covariance, mass = reached
            if not mass > max(one[3] for one in found.values()) - NEGLIGIBLE:
                break
    points = np.array(sorted(found))
    inside = [found[point] for point in points]
    return Gaussians(
        outer,
        points,
        np.stack([one[1] for one in inside]),
        np.stack([np.linalg.cholesky(one[2]) for one in inside]),
        np.array([one[3] for one in inside]),
    )


def _start(density: Density) -> Array:
    """The model's initial point, at the scales that fit best there."""
    free = [i for i in range(density.dimension) if i not in density.structural]
    offsets = np.array(list(product(SCALE_SEARCH.get(len(free), np.zeros(1)), repeat=len(free))))
    starts = np.repeat(density.start[None], len(offsets), axis=0)
    starts[:, free] += offsets
    return np.asarray(starts[int(np.argmax(density(starts)))])


def _climbed(density: Density, start: Array, outer: int, covariance: Array | None) -> tuple[float, Array, Array, float]:
    """Climb along all coordinates but one: log density, mode, covariance of the others, and the log of their mass.

    covariance : of a neighbour on the lattice, to start from; None has it computed
    """
    others = np.delete(np.arange(len(start)), outer)
    point, (log_density, slope) = start, density.slope(start)
    if covariance is None:
        covariance = covariance_of(_curvature(density, point, slope, others))
    for _ in range(MAX_STEPS):
        step = np.zeros(len(point))
        step[others] = covariance @ slope[others]
        if slope[others] @ step[others] < CONVERGED:
            break
        next_point, reached = uphill(density.slope, point, log_density, step)
        if next_point is None:
            break
        covariance = updated(covariance, (next_point - point)[others], (slope - reached[1])[others])
        point, (log_density, slope) = next_point, reached
    covariance = covariance_of(_curvature(density, point, slope, others))
    volume = 0.5 * (len(others) * np.log(2 * np.pi) + np.linalg.slogdet(covariance)[1])
    return log_density, point, covariance, float(log_density + volume)


def _curvature(density: Density, point: Array, slope: Array, others: Index) -> Array:
    """Curvature along some coordinates; by differences of slopes where there is no closed form."""
    if applies(density):
        return exact_curvature(density, point, others)
    rows = []
    for i in others:
        moved = point.copy()
        moved[i] += DIFFERENCE_STEP
        rows.append((density.slope(moved)[1] - slope)[others] / DIFFERENCE_STEP)
    return (np.array(rows) + np.array(rows).T) / 2


def posterior(
    density: Density,
    name: str,
    rng: np.random.Generator,
    draws: int,
    timings: dict[str, float],
    *,
    step: float = 0.5,
) -> Posterior:
    """Return the posterior with one number on a lattice, and Gaussians of all others at each of its values.

    The log evidence is the lattice's; its error is the difference from importance sampling with these Gaussians as the
    proposal, or the standard error of that where it is larger.

    step : of the lattice, along the unconstrained coordinate (the logarithm of a scale)
    """
    started = time.perf_counter()
    found = nested(density, step)
    _, shares, log_evidence, between = found.density()
    timings["modes and curvatures"] = time.perf_counter() - started
    started = time.perf_counter()
    nodes, log_proposal = found.draw(max(draws, IMPORTANCE_DRAWS), rng)
    some = np.linspace(0, len(nodes) - 1, IMPORTANCE_DRAWS).astype(int)
    excess = density(nodes[some]) - log_evidence - log_proposal[some]
    weights = np.exp(excess - excess.max())
    correction = float(excess.max() + np.log(weights.mean()))
    weights /= weights.sum()
    sampling = float(np.sqrt(max(np.sum(weights**2) - 1 / len(weights), 0.0)))
    outer = nodes[:, found.outer]
    # The weights of few draws scatter: only what is beyond twice the mean's standard error is a shift.
    moved = outer[some] - weights @ outer[some]
    scatter = float(np.sqrt(np.sum((weights * moved) ** 2)))
    distance = abs(float(weights @ outer[some] - outer[some].mean()))
    shift = max(0.0, distance - 2 * scatter) / float(outer.std())
    timings["importance sampling"] = time.perf_counter() - started
    error = max(abs(correction), sampling) + between
    edge = float(shares[0] + shares[-1]) / float(shares.max())
    label = density.names[found.outer]
    checks = (
        Check(
            "nested evidence",
            error,
            f"< {DECISIVE:g} nats",
            error < DECISIVE,
            f"log evidence is {log_evidence:.2f} on the lattice and {log_evidence + correction:.2f} by importance "
            "sampling from its Gaussians",
        ),
        Check(
            "nested shift",
            shift,
            "< 0.5 sd",
            shift < 0.5,
            f"how far importance weights move the mean of {label}, beyond twice its standard error; far where all "
            "others are no Gaussians at its values",
        ),
        Check(
            "lattice edge", edge, "< 0.01", edge < 0.01, f"density of {label} at the lattice's ends, over the largest"
        ),
    )
    evidence = Evidence(log_evidence, error) if density.proper else None
    equal, mixed = np.full(len(nodes), 1 / len(nodes)), (nodes[some], np.full(len(some), 1 / len(some)))
    return assemble(
        density, name, "nested_laplace", nodes, equal, nodes, evidence, checks, timings, mixed, separate=True
    )
