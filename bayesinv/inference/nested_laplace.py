"""Nested Laplace: a lattice over the one number that shrinks many, Gaussians of all others, chains that correct them.

A scale that shrinks many variances and the variances themselves make a funnel: their joint mode lies where the scale
is large and every deviation small, far from the mass, for the width of the others falls as the scale grows. At a given
scale the others are nearly Gaussian, and the determinant of their curvature is what the joint mode leaves out:

    log p(s | recording) = log p(s, x(s), recording) + log|2π Σ(s)| / 2 + constant,   x(s) the mode of all others at s

A variance that the recording does not show has a long tail towards zero, which no Gaussian has, and the more so the
larger the scale. Short chains of the others at many values of s, started at their modes, tell what is missing.

References: Rue, Martino & Chopin (2009), J. R. Stat. Soc. B 71, 319-392; Tierney & Kadane (1986), J. Am. Stat. Assoc.
81, 82-86.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from bayesinv.axes import Array, Index
from bayesinv.inference.assemble import assemble
from bayesinv.inference.curvature import exact_curvature
from bayesinv.inference.gaussians import Gaussians
from bayesinv.inference.modes import SCALE_SEARCH, covariance_of, updated, uphill
from bayesinv.inference.moves import Slopes, moved
from bayesinv.inference.variances import Variances, applies
from bayesinv.posterior.checks import Check, Evidence
from bayesinv.posterior.posterior import Posterior
from bayesinv.prior.density import Density

NEGLIGIBLE = 12.0
"""Nats below the highest point of the lattice at which it ends."""

EVEN_STEPS = 3
"""Steps of the lattice on either side after which they double: a tail is the prior's, and smooth."""

MAX_POINTS = 24
"""Largest number of points of the lattice."""

FIRST_MARGIN, MARGIN = 50.0, 4.0
"""Factors by which variances may rise in a climb before the components that currents reach are found anew: from the
model's initial point, and from modes."""

MAX_SPACES = 8
"""Largest number of times that these components are found in one climb; then all are taken."""

CONVERGED = 1e-5
"""Squared distance from a mode, in units of the curvature, at which a climb ends."""

MAX_STEPS = 100
"""Largest number of steps of a climb."""

DIFFERENCE_STEP = 3e-3
"""Step of the finite differences of slopes."""

DECISIVE = 3.0
"""Nats from which one model is strongly preferred to another (Kass & Raftery 1995, J. Am. Stat. Assoc. 90, 773-795)."""

SETTLED = 0.5
"""Standard deviations by which the mean may move between halves of the chains."""

MIXED = 64
"""Draws that the currents are mixed over."""


def shrinking(density: Density) -> int | None:
    """Return the index of the one number on which, beside many others, the structure depends; None without one."""
    names = [density.names[i] for i in density.structural]
    single = [i for i, name in zip(density.structural, names, strict=True) if "[" not in name]
    return single[0] if len(single) == 1 and len(names) > 2 else None


def nested(density: Density, slopes: Slopes, step: float) -> Gaussians:
    """Return the Gaussians on a lattice that grows from the model's initial point until it holds the mass."""
    outer = shrinking(density)
    assert outer is not None
    climb = _Climb(slopes, outer)
    first = climb(_start(density), None)
    found = {float(first[1][outer]): first}
    for direction in (1.0, -1.0):
        point, width, (_, centre, covariance, _) = float(first[1][outer]), step, first
        for k in range(MAX_POINTS // 2):
            width = 2 * width if k >= EVEN_STEPS else width
            point += direction * width
            start = centre.copy()
            start[outer] = point
            reached = climb(start, covariance)
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


def slopes_of(density: Density) -> Slopes:
    """Log density and slopes of many nodes, at once where amplitudes are independent."""
    if applies(density) and (found := Variances.of(density)) is not None:
        return found

    def one_by_one(nodes: Array) -> tuple[Array, Array]:
        found = [density.slope(node) for node in nodes]
        return np.array([one[0] for one in found]), np.stack([one[1] for one in found])

    return one_by_one


@dataclass
class _Climb:
    """Climbs along all coordinates but one: log density, mode, covariance of the others, and the log of their mass.

    Where amplitudes are independent a climb is in the components that currents reach, which are found anew where it
    ends beyond them.
    """

    slopes: Slopes
    outer: int
    inside: Variances | None = None
    modes: list[Array] = field(default_factory=list)

    def __call__(self, start: Array, covariance: Array | None) -> tuple[float, Array, Array, float]:
        """Climb from a start; the covariance of a neighbour on the lattice serves where curvatures are dear."""
        slopes = self.slopes
        if not isinstance(slopes, Variances):
            return _climbed(slopes, start, self.outer, covariance)
        if self.inside is None:
            self.inside = slopes.reached(start[None], FIRST_MARGIN)
        for _ in range(MAX_SPACES):
            found = _climbed(self.inside, start, self.outer, None)
            if self.inside.covers(found[1]):
                self.modes.append(found[1])
                return found
            start = found[1]
            self.inside = slopes.reached(np.stack([*self.modes, start]), MARGIN)
        return _climbed(slopes, start, self.outer, None)


def _climbed(slopes: Slopes, start: Array, outer: int, covariance: Array | None) -> tuple[float, Array, Array, float]:
    """Climb along all coordinates but one: log density, mode, covariance of the others, and the log of their mass.

    covariance : of a neighbour on the lattice, to start from; None has it computed
    """

    def at(node: Array) -> tuple[float, Array]:
        log_density, slope = slopes(node[None])
        return float(log_density[0]), slope[0]

    others = np.delete(np.arange(len(start)), outer)
    point, (log_density, slope) = start, at(start)
    if covariance is None:
        covariance = covariance_of(_curvature(slopes, point, slope, others, expected=True))
    for _ in range(MAX_STEPS):
        step = np.zeros(len(point))
        step[others] = covariance @ slope[others]
        if slope[others] @ step[others] < CONVERGED:
            break
        next_point, reached = uphill(at, point, log_density, step)
        if next_point is None:
            break
        covariance = updated(covariance, (next_point - point)[others], (slope - reached[1])[others])
        point, (log_density, slope) = next_point, reached
    covariance = covariance_of(_curvature(slopes, point, slope, others))
    volume = 0.5 * (len(others) * np.log(2 * np.pi) + np.linalg.slogdet(covariance)[1])
    return log_density, point, covariance, float(log_density + volume)


def _curvature(slopes: Slopes, point: Array, slope: Array, others: Index, *, expected: bool = False) -> Array:
    """Curvature along some coordinates; by differences of slopes where there is no closed form.

    expected : whether to take the expected one where there is, which leads uphill from far away
    """
    if isinstance(slopes, Variances):
        return exact_curvature(slopes, point, others, expected=expected)
    around = slopes(point + DIFFERENCE_STEP * np.eye(len(point))[others])[1]
    rows = (around - slope)[:, others] / DIFFERENCE_STEP
    return np.asarray(rows + rows.T) / 2


def posterior(
    density: Density,
    name: str,
    rng: np.random.Generator,
    draws: int,
    timings: dict[str, float],
    *,
    step: float = 0.5,
) -> Posterior:
    """Return the posterior with one number on a lattice, and draws of all others by short chains at its values.

    The log evidence is the chains', by a bridge from a normal density; so is its error.

    step : of the lattice, along the unconstrained coordinate (the logarithm of a scale)
    """
    started = time.perf_counter()
    slopes = slopes_of(density)
    found = nested(density, slopes, step)
    timings["modes and curvatures"] = time.perf_counter() - started
    started = time.perf_counter()
    if isinstance(slopes, Variances):
        slopes = slopes.reached(found.centres)
    chains = moved(found, slopes, rng)
    log_evidence, error = chains.log_evidence(slopes, rng)
    nodes = chains.draw(max(draws, MIXED), rng)
    timings["chains"] = time.perf_counter() - started
    _, logs = chains.density()
    shift = chains.drift()
    edge = float(np.exp(max(logs[0], logs[-1]) - logs.max()))
    label = density.names[found.outer]
    checks = (
        Check(
            "nested evidence",
            error,
            f"< {DECISIVE:g} nats",
            error < DECISIVE,
            f"standard error of the log evidence; it is {log_evidence:.2f} by chains and {found.density()[2]:.2f} by "
            "the lattice's Gaussians",
        ),
        Check(
            "nested shift",
            shift,
            f"< {SETTLED:g} sd",
            shift < SETTLED,
            f"how far the mean of {label} moves from the first to the second half of the chains' draws, beyond twice "
            "its standard error; far where the chains are too short to forget the modes that they start at",
        ),
        Check(
            "lattice edge", edge, "< 0.01", edge < 0.01, f"density of {label} at the lattice's ends, over the largest"
        ),
    )
    evidence = Evidence(log_evidence, error) if density.proper else None
    equal, some = np.full(len(nodes), 1 / len(nodes)), nodes[np.linspace(0, len(nodes) - 1, MIXED).astype(int)]
    mixed = some, np.full(len(some), 1 / len(some))
    return assemble(
        density, name, "nested_laplace", nodes, equal, nodes, evidence, checks, timings, mixed, separate=True
    )
