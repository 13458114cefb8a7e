"""A chain over local scales: each source's given all others, exchanges of neighbours, and the scales that all share.

Currents are integrated out throughout. A sweep draws hyperparameters along lines, from windows as `evidence.local_scan`
draws local scales, in two ways that leave the posterior as it is: with λ held, where the recording tells the scale, and
with the products of scale and λ held, where the prior of thousands of λ does. Then it draws every λ, and some sources
exchange theirs.

References: Makalic & Schmidt (2016), IEEE Signal Process. Lett. 23, 179-182 (Gibbs sampling of the horseshoe); Yu &
Meng (2011), J. Comput. Graph. Stat. 20, 531-570 (both ways in turn mix as the better one, or better than either).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from bayesinv.axes import Array, Index
from bayesinv.evidence.local_scan import exchange, scan
from bayesinv.prior.local_scales import draw_log_local, log_density

POINTS = 48
"""Values in the window that a local scale is drawn from."""

FINE, COARSE = 0.35, 0.5
"""Spacing of windows of log λ: from the first over the root of all samples, as λ is known, to the second."""

SCALE_POINTS = 16
"""Values in the window that hyperparameters are drawn from."""

SCALE_SPACING = (0.01, 1.0)
"""Spacing of windows of hyperparameters with λ held."""

HELD_SPACING = (0.2, 2.0)
"""The same with the products held, in units of one over the root of the number of sources."""

EXCHANGES, ONE_IN = 64, 8
"""Most exchanges that a sweep proposes, and for how many sources it proposes one."""

COLDEST = 0.02
"""Power of the likelihood at which a chain starts."""

ANNEALED = 0.6
"""Share of the first sweeps in which the power rises to one."""

LogPrior = Callable[[Array], tuple[Array, Array, Array]]
"""From nodes (node, coordinate) to log prior density, variance and noise scale, each (node,)."""


@dataclass(frozen=True, eq=False)
class LocalModel:
    """What chains of one recording share.

    fields : (source, axis, component), of unit currents
    powers : (source,), squares of these, summed over axes and components
    recording : (component, column), a root of the sum of squares and products over the samples, white over time
    samples : number of these
    baseline_power, baseline_count : sum of squares of the baseline, white over time, and how many numbers it has
    starts, neighbours : (source + 1,) and (pair,), sources that each may exchange its scale with
    """

    fields: Array
    powers: Array
    recording: Array
    samples: int
    baseline_power: float
    baseline_count: int
    starts: Index
    neighbours: Index


@dataclass(eq=False)
class LocalDraws:
    """Draws of one chain.

    points : (draw, coordinate), unconstrained hyperparameters
    power, places : (draw,), sum over sources of λ² times their power; effective number of sources that it comes from
    share : (source,), mean over the draws of each source's share of it
    kept : index of each draw whose local scales are kept
    logs : of these, (kept, source), log λ
    """

    points: list[Array] = field(default_factory=list)
    power: list[float] = field(default_factory=list)
    places: list[float] = field(default_factory=list)
    share: Array = field(default_factory=lambda: np.zeros(0))
    kept: list[int] = field(default_factory=list)
    logs: list[Array] = field(default_factory=list)


class LocalChain:
    """The state of a chain.

    logs : (source,), log λ
    point : (coordinate,), unconstrained hyperparameters
    variance, noise : of the currents, and scale, at these
    of_variance : (coordinate,) of each coordinate that the variance depends on, its direction
    proposals : exchanges that a sweep proposes
    heat : power of the likelihood
    """

    def __init__(self, model: LocalModel, log_prior: LogPrior, start: Array, rng: np.random.Generator) -> None:
        self.model, self.log_prior, self.rng = model, log_prior, rng
        self.point = start.copy()
        nodes = np.concatenate([start[None], start + 0.1 * np.eye(len(start))])
        _, variance, noise = log_prior(nodes)
        self.variance, self.noise = float(variance[0]), float(noise[0])
        self.of_variance = [np.eye(len(start))[i] for i in np.flatnonzero(variance[1:] != variance[0])]
        self.logs = draw_log_local(len(model.fields), rng)
        self.heat = 1.0
        self.proposals = min(EXCHANGES, -(-len(self.logs) // ONE_IN))

    def run(self, warm: int, sweeps: int, kept: int, told: Callable[[], None]) -> LocalDraws:
        """Draw after `warm` sweeps, in the first of which the likelihood comes in; keep the local scales of some draws.

        told : called after every sweep
        """
        found = LocalDraws(share=np.zeros(len(self.logs)))
        wanted = set(np.linspace(0, sweeps - 1, min(kept, sweeps)).astype(int).tolist())
        annealed = int(ANNEALED * warm)
        for number in range(warm + sweeps):
            self.heat = COLDEST ** (1 - number / annealed) if number < annealed else 1.0
            self.sweep()
            if number >= warm:
                self._note(found, number - warm, sweeps, number - warm in wanted)
            told()
        return found

    def _note(self, found: LocalDraws, draw: int, sweeps: int, keeps: bool) -> None:
        each = np.exp(2 * self.logs) * self.model.powers
        power = float(each.sum())
        found.points.append(self.point.copy())
        found.power.append(power)
        found.places.append(power**2 / float(each @ each))
        found.share += each / (power * sweeps)
        if keeps:
            found.kept.append(draw)
            found.logs.append(self.logs.copy())

    def sweep(self) -> None:
        """Draw hyperparameters, every local scale, and exchanges."""
        model, rng, count = self.model, self.rng, len(self.logs)
        columns = (model.fields * np.exp(self.logs)[:, None, None]).reshape(-1, len(model.recording))
        values, vectors = np.linalg.eigh(columns.T @ columns)
        values = np.maximum(values, 0.0)
        self.draw_scales(values, np.sum((vectors.T @ model.recording) ** 2, axis=1))
        precision = (vectors / (self.variance * values + self.noise**2)) @ vectors.T
        samples, recording = self.heat * model.samples, np.sqrt(self.heat) * model.recording
        given = (model.fields, precision, recording, self.logs, self.variance, samples)
        finest = FINE / np.sqrt(model.samples * model.fields.shape[1])
        spacing = float(np.exp(rng.uniform(np.log(finest), np.log(COARSE))))
        places, chances = rng.integers(POINTS, size=count), rng.random(count)
        scan(*given, rng.permutation(count), places, chances, spacing, POINTS)
        exchange(*given, model.starts, model.neighbours, rng.random((self.proposals, 3)))

    def draw_scales(self, values: Array, powers: Array) -> None:
        """Draw hyperparameters, and with the products of scale and λ held log λ too.

        values : (component,), eigenvalues of the Gram matrix at the present λ, which they follow in place
        powers : (component,), sums of squares of the recording along its eigenvectors
        """
        dimension = len(self.point)
        for axis in range(dimension):
            self._along(np.eye(dimension)[axis], values, powers, held=False)
        if dimension > 1:
            self._along(self.rng.standard_normal(dimension), values, powers, held=False)
        for direction in self.of_variance:
            self._along(direction, values, powers, held=True)

    def _along(self, direction: Array, values: Array, powers: Array, held: bool) -> None:
        """Draw hyperparameters from a window along a direction.

        held : whether the products of scale and λ are held, and not λ
        """
        rng, model = self.rng, self.model
        low, high = np.array(HELD_SPACING) / np.sqrt(len(self.logs)) if held else np.array(SCALE_SPACING)
        spacing, place = np.exp(rng.uniform(np.log(low), np.log(high))), int(rng.integers(SCALE_POINTS))
        nodes = self.point + spacing * (np.arange(SCALE_POINTS) - place)[:, None] * direction
        prior, variance, noise = self.log_prior(nodes)
        with np.errstate(all="ignore"):
            shifts = 0.5 * np.log(variance[place] / variance) if held else np.zeros(SCALE_POINTS)
            total = (variance * np.exp(2 * shifts))[:, None] * values + noise[:, None] ** 2
            heights = -0.5 * self.heat * np.sum(model.samples * np.log(total) + powers / total, axis=1)
            heights += prior - model.baseline_count * np.log(noise) - 0.5 * model.baseline_power / noise**2
            if held:
                heights += log_density(self.logs + shifts[:, None]).sum(axis=1)
            heights = np.where(np.isfinite(heights), heights, -np.inf)
            masses = np.cumsum(np.exp(heights - heights.max()))
        picked = min(int(np.searchsorted(masses, rng.random() * masses[-1])), SCALE_POINTS - 1)
        self.point, shift = nodes[picked], float(shifts[picked])
        self.variance, self.noise = float(variance[picked]), float(noise[picked])
        if held:
            # The spectrum of the Gram matrix follows.
            self.logs = self.logs + shift
            values *= np.exp(2 * shift)
