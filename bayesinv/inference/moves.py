"""Chains of all coordinates but one, each at its own value of that one, and what they tell of the density of the one.

In the coordinates z of the Gaussians, x = c(s) + L(s) z, the density at a value s is nearly a standard normal one, and
Hamiltonian steps that start at the mode forget it in a few moves. What Gaussians miss of the mass at s shows in its
slope:

    d log p(s) / ds = E[d/ds (log p(s, c(s) + L(s) z) + log|L(s)|)],    z of the density at s

for any c and L. The mean over chains is smooth in s, and what it adds to the Gaussians' own slope is nearly a line.

References: Neal (2011), Handbook of Markov Chain Monte Carlo, 113-162; Gelman & Meng (1998), Stat. Sci. 13, 163-185;
Meng & Wong (1996), Stat. Sin. 6, 831-860.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.polynomial import Polynomial

from bayesinv.axes import Array
from bayesinv.inference.gaussians import Along, Gaussians

CHAINS = 32
"""Number of chains."""

RANKS, BEYOND = (0.002, 0.5, 0.999), 1.25
"""Quantiles, by the Gaussians, where chains stand: from the first to beyond the last, for these are rather low."""

WINDOWS, KEPT = (4, 6), 8
"""Moves that forget the mode, after each of which the Gaussians' roots are adapted; moves that are kept."""

SHRUNK = 20
"""Draws that the identity counts for where a covariance is estimated."""

LEAPS = 6
"""Steps of a move."""

STEP = 0.9
"""Length of a step, in standard deviations, times the fourth root of the number of coordinates."""

ACCEPTED = 0.8
"""Share of moves that is to be accepted."""

DEGREE = 2
"""Of the polynomial in the one that is added to the slope."""

LEAST_WEIGHT = 0.05
"""Of a chain in that fit, the largest density being one."""

JACKKNIFE = 8
"""Parts of the chains that are left out in turn."""

BRIDGE_STEPS = 100
"""Iterations for the ratio of two integrals, which contract."""

Slopes = Callable[[Array], tuple[Array, Array]]
"""From nodes (node, coordinate) to the log density (node,) and its gradient (node, coordinate)."""


@dataclass(frozen=True, eq=False)
class Moved:
    """Draws of chains.

    values : (chain,), of the one
    unit : (draw, chain, other), all others in the coordinates of the Gaussians
    log_densities : (draw, chain), of the two
    slopes : (draw, chain), of these by the one
    accepted : share of moves that were accepted
    """

    gaussians: Gaussians
    values: Array
    unit: Array
    log_densities: Array
    slopes: Array
    accepted: float

    def part(self, draws: slice, chains: Any = slice(None)) -> Moved:
        """The same of some draws and chains."""
        return replace(
            self,
            values=self.values[chains],
            unit=self.unit[draws][:, chains],
            log_densities=self.log_densities[draws][:, chains],
            slopes=self.slopes[draws][:, chains],
        )

    def drift(self) -> float:
        """How far the mean of the one moves from the first half of the draws to the second, in standard deviations.

        What is within twice its standard error, by leaving out parts of the chains in turn, does not count.
        """
        half, part = len(self.unit) // 2, np.arange(len(self.values)) % JACKKNIFE

        def moves(chains: Any) -> float:
            early, late = (self.part(draws, chains).moments()[0] for draws in (slice(half), slice(half, None)))
            return late - early

        left_out = np.array([moves(part != k) for k in range(JACKKNIFE)])
        error = np.sqrt((JACKKNIFE - 1) * left_out.var())
        return max(0.0, abs(moves(part >= 0)) - 2 * float(error)) / self.moments()[1]

    def density(self) -> tuple[Array, Array]:
        """A fine grid of the one, and its log density there.

        Below the chains nothing is added, for Gaussians are exact where the one shrinks all others to the same; above
        them it is what is added at the last.
        """
        grid, base = self.gaussians.spline
        rest = self.slopes.mean(axis=0) - base.derivative()(self.values)
        # A polynomial need fit where the mass is: a long tail would have it bend elsewhere.
        masses = np.interp(self.values, grid, np.exp(base(grid) - base(grid).max()))
        weights = np.sqrt(np.maximum(masses, LEAST_WEIGHT))
        added = Polynomial.fit(self.values, rest, DEGREE, w=weights)(np.minimum(grid, self.values[-1]))
        added[grid < self.values[0]] = 0.0
        logs = base(grid) + np.cumsum(added) * (grid[1] - grid[0])
        logs -= logs.max()
        return grid, logs - np.log(np.exp(logs).sum() * (grid[1] - grid[0]))

    def moments(self) -> tuple[float, float]:
        """Mean and standard deviation of the one."""
        grid, logs = self.density()
        shares = np.exp(logs) / np.exp(logs).sum()
        mean = float(shares @ grid)
        return mean, float(np.sqrt(shares @ (grid - mean) ** 2))

    def draw(self, count: int, rng: np.random.Generator) -> Array:
        """Nodes (draw, coordinate): the one from its density, all others from the chains next to it."""
        grid, logs = self.density()
        step = grid[1] - grid[0]
        total = np.cumsum(np.exp(logs))
        ranks = (rng.permutation(count) + rng.uniform(size=count)) / count
        values = grid[np.minimum(np.searchsorted(total / total[-1], ranks), len(grid) - 1)]
        values = np.clip(values + step * (rng.uniform(size=count) - 0.5), grid[0], grid[-1])
        places = np.interp(values, self.values, np.arange(len(self.values)))
        chains = np.clip(np.floor(places + rng.uniform(size=count)).astype(int), 0, len(self.values) - 1)
        return self.gaussians.along(values).nodes(self.unit[rng.integers(len(self.unit), size=count), chains])

    def log_evidence(self, function: Slopes, rng: np.random.Generator) -> tuple[float, float]:
        """Log integral of the density and its standard error, by a bridge from a normal density of the others."""
        mean, sd = self.unit.mean(axis=(0, 1)), self.unit.std(axis=(0, 1))
        unit = mean + sd * rng.standard_normal(self.unit.shape[1:])
        log_density = _at(self.gaussians.along(self.values), function, unit)[0]

        def excess(log_density: Array, unit: Array) -> Array:
            normal = -0.5 * np.sum(((unit - mean) / sd) ** 2 + np.log(2 * np.pi * sd**2), axis=-1)
            return log_density - np.interp(self.values, *self.density()) - normal

        ours, theirs = excess(self.log_densities, self.unit), excess(log_density, unit)
        found = float(np.median(ours))
        for _ in range(BRIDGE_STEPS):
            # Either mean is of a bounded function: large ratios under the one, small ones under the other.
            above = 1 / (1 + np.exp(np.minimum(found - theirs, 700)))
            below = 1 / (1 + np.exp(np.minimum(ours - found, 700)))
            found += float(np.log(above.mean()) - np.log(below.mean()))
        error = sum(float(np.var(one) / len(one) / np.mean(one) ** 2) for one in (above, below.mean(axis=0)))
        return found, float(np.sqrt(error))


def moved(gaussians: Gaussians, function: Slopes, rng: np.random.Generator) -> Moved:
    """Move chains from the modes at values of the one that the Gaussians' density covers."""
    grid, shares, _, _ = gaussians.density()
    total = np.cumsum(shares)
    low, middle, high = np.interp(RANKS, total / total[-1], grid)
    values = np.linspace(low, min(middle + BEYOND * (high - middle), grid[-1]), CHAINS)
    unit: Array = np.zeros((CHAINS, len(gaussians.others)))
    length = STEP * unit.shape[1] ** -0.25
    for count in WINDOWS:
        along = gaussians.along(values)
        place = _at(along, function, unit)
        found = []
        for _ in range(count):
            unit, place, chance = _move(along, function, unit, place, length, rng)
            found.append((unit, place[1]))
            length *= float(np.exp(chance - ACCEPTED))
        units, slopes = (np.concatenate([one[k] for one in found[count // 3 :]]) for k in range(2))
        root = _root(units, slopes)
        gaussians = replace(gaussians, roots=gaussians.roots @ root)
        unit = np.asarray(np.linalg.solve(root, unit.T).T, dtype=float)
    along = gaussians.along(values)
    place = _at(along, function, unit)
    kept, accepted = [], []
    for _ in range(KEPT):
        unit, place, chance = _move(along, function, unit, place, length, rng)
        kept.append((unit, place[0], place[2]))
        accepted.append(chance)
    units, log_densities, slopes = (np.stack(one) for one in zip(*kept, strict=True))
    return Moved(gaussians, values, units, log_densities, slopes, float(np.mean(accepted)))


def _root(units: Array, slopes: Array) -> Array:
    """Lower triangle of the covariance that makes draws and slopes look alike: C G in its units is the identity.

    It is the geometric mean of the draws' covariance C and the inverse of that of the slopes, G, both shrunk to one:
    the first alone would let the sharp side of a skewed density stop the chains, the second alone its long side.
    """
    count, size = units.shape
    draws, around = (
        (one.T @ one + SHRUNK * np.eye(size)) / (count + SHRUNK) for one in (units - units.mean(axis=0), slopes)
    )
    values, vectors = np.linalg.eigh(around)
    half, back = (vectors * np.sqrt(values)) @ vectors.T, (vectors / np.sqrt(values)) @ vectors.T
    values, vectors = np.linalg.eigh(half @ draws @ half)
    return np.linalg.cholesky(back @ (vectors * np.sqrt(values)) @ vectors.T @ back)


Place = tuple[Array, Array, Array]
"""Log density (chain,) at a place, its slope (chain, other) by unit coordinates, and (chain,) by the one."""


def _move(
    along: Along,
    function: Slopes,
    unit: Array,
    place: Place,
    length: float,
    rng: np.random.Generator,
) -> tuple[Array, Place, float]:
    """One move of every chain: unit coordinates, the density there, and the mean chance that it was accepted."""
    momentum = rng.standard_normal(unit.shape)
    step = length * rng.uniform(0.7, 1.3, size=(len(unit), 1))
    energy = place[0] - 0.5 * np.sum(momentum**2, axis=1)
    end, reached = unit, place
    for _ in range(LEAPS):
        momentum = momentum + 0.5 * step * reached[1]
        end = end + step * momentum
        reached = _at(along, function, end)
        momentum = momentum + 0.5 * step * reached[1]
    chance = np.exp(np.minimum(reached[0] - 0.5 * np.sum(momentum**2, axis=1) - energy, 0.0))
    taken = rng.uniform(size=len(unit)) < chance
    log_density, slope, by_value = (
        np.where(taken.reshape(-1, *[1] * (one.ndim - 1)), one, other)
        for one, other in zip(reached, place, strict=True)
    )
    return np.where(taken[:, None], end, unit), (log_density, slope, by_value), float(chance.mean())


def _at(along: Along, function: Slopes, unit: Array) -> Place:
    """Log density of the one and of the others in unit coordinates, its slope by these, and by the one."""
    log_density, slope = function(along.nodes(unit))
    centre, root, log_volume = along.slopes
    others = slope[:, along.gaussians.others]
    by_unit = np.matmul(others[:, None], along.root)[:, 0]
    shift = centre + np.matmul(root, unit[:, :, None])[:, :, 0]
    by_value = slope[:, along.gaussians.outer] + np.sum(others * shift, axis=1) + log_volume
    return log_density + along.log_volume, by_unit, by_value
