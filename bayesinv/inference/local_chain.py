"""A chain over local scales: each source's given all others, exchanges of neighbours, and the scales that all share.

Currents are integrated out throughout. A sweep draws hyperparameters along lines, from windows as `evidence.local_scan`
draws local scales: with λ held, with the products of scale and λ held, and with the products held of those sources of
which the recording tells something, and λ of all others. The recording tells products where they are large, the prior
of thousands of λ tells the scale where they are small, so that only the last can move far. Which sources are held is
drawn, by their strength at the sensors and a threshold that is drawn, too: given who is held it counts as one more
observation, and the posterior is left as it is. Then every λ is drawn, and some sources exchange theirs.

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

SCALE_SPACING = (0.5, 1.0)
"""Spacing of windows of hyperparameters with λ held: from the first over the root of all numbers recorded, as the noise
is known, to the second."""

HELD_SPACING = (0.2, 2.0)
"""The same with products held, in units of one over the root of the number of sources of which they are."""

PARTLY = 2
"""Times that a sweep draws hyperparameters with the products of some sources held."""

THRESHOLDS = (0.1, 30.0)
"""Power of a source's field, summed over samples and relative to the noise, at which it is as likely held as not."""

EXCHANGES, ONE_IN = 64, 8
"""Most exchanges that a sweep proposes, and for how many sources it proposes one."""

LEAST_TEMPERING = 0.02
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
    of_variance, of_variance_alone : directions (coordinate,) of the coordinates that the variance depends on, and of
        those of them that the noise does not depend on
    scale_spacing : least and largest spacing of windows of hyperparameters with λ held
    proposals : exchanges that a sweep proposes
    tempering : power of the likelihood
    """

    def __init__(self, model: LocalModel, log_prior: LogPrior, start: Array, rng: np.random.Generator) -> None:
        self.model, self.log_prior, self.rng = model, log_prior, rng
        self.point = start.copy()
        nodes = np.concatenate([start[None], start + 0.1 * np.eye(len(start))])
        _, variance, noise = log_prior(nodes)
        self.variance, self.noise = float(variance[0]), float(noise[0])
        changes, noisy = variance[1:] != variance[0], noise[1:] != noise[0]
        self.of_variance = [np.eye(len(start))[i] for i in np.flatnonzero(changes)]
        self.of_variance_alone = [np.eye(len(start))[i] for i in np.flatnonzero(changes & ~noisy)]
        self.logs = draw_log_local(len(model.fields), rng)
        self.scale_spacing = SCALE_SPACING[0] / np.sqrt(model.samples * len(model.recording)), SCALE_SPACING[1]
        self.tempering = 1.0
        self.proposals = min(EXCHANGES, -(-len(self.logs) // ONE_IN))

    def run(self, warm: int, sweeps: int, kept: int, told: Callable[[], None]) -> LocalDraws:
        """Draw after `warm` sweeps, in the first of which the likelihood comes in; keep the local scales of some draws.

        told : called after every sweep
        """
        found = LocalDraws(share=np.zeros(len(self.logs)))
        wanted = set(np.linspace(0, sweeps - 1, min(kept, sweeps)).astype(int).tolist())
        annealed = int(ANNEALED * warm)
        for number in range(warm + sweeps):
            self.tempering = LEAST_TEMPERING ** (1 - number / annealed) if number < annealed else 1.0
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
        for direction in PARTLY * self.of_variance_alone:
            precision = self.draw_partly(direction)
        samples, recording = self.tempering * model.samples, np.sqrt(self.tempering) * model.recording
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
        low, high = np.array(HELD_SPACING) / np.sqrt(len(self.logs)) if held else self.scale_spacing
        nodes, (prior, variance, noise) = self._window(direction, low, high)
        with np.errstate(all="ignore"):
            shifts = 0.5 * np.log(self.variance / variance) if held else np.zeros(SCALE_POINTS)
            total = (variance * np.exp(2 * shifts))[:, None] * values + noise[:, None] ** 2
            heights = prior + self._log_likelihood(total, powers, noise)
            if held:
                heights += log_density(self.logs + shifts[:, None]).sum(axis=1)
        shift = float(shifts[self._moved(nodes, variance, noise, heights)])
        if held:
            # The spectrum of the Gram matrix follows.
            self.logs += shift
            values *= np.exp(2 * shift)

    def draw_partly(self, direction: Array) -> Array:
        """Draw hyperparameters along a direction with the products of some sources held; return the precision C⁻¹."""
        rng, model = self.rng, self.model
        threshold = np.exp(rng.uniform(*np.log(THRESHOLDS))) / model.samples
        strength = self.variance * np.exp(2 * self.logs) * model.powers / (self.noise**2 * threshold)
        held = rng.random(len(strength)) * (1 + strength) < strength
        columns = model.fields * np.exp(self.logs)[:, None, None]
        known, rest = (columns[some].reshape(-1, len(model.recording)) for some in (held, ~held))
        fixed = self.variance * (known.T @ known) + self.noise**2 * np.eye(len(model.recording))
        inverse = np.linalg.inv(np.linalg.cholesky(fixed))
        values, vectors = np.linalg.eigh(inverse @ (rest.T @ rest) @ inverse.T)
        values, back = np.maximum(values, 0.0), inverse.T @ vectors
        powers = np.sum((back.T @ model.recording) ** 2, axis=1)
        units = np.array(HELD_SPACING) / np.sqrt(1 + np.count_nonzero(held))
        nodes, (prior, variance, noise) = self._window(direction, *units)
        with np.errstate(all="ignore"):
            shifts = 0.5 * np.log(self.variance / variance)
            heights = prior + self._log_likelihood(1 + variance[:, None] * values, powers, noise)
            heights += log_density(self.logs[held] + shifts[:, None]).sum(axis=1)
            # That these were not held.
            heights -= np.log1p(strength[~held] * np.exp(-2 * shifts)[:, None]).sum(axis=1)
        self.logs[held] += shifts[self._moved(nodes, variance, noise, heights)]
        return np.asarray((back / (1 + self.variance * values)) @ back.T)

    def _window(self, direction: Array, low: float, high: float) -> tuple[Array, tuple[Array, Array, Array]]:
        """Nodes (node, coordinate) along a direction, the present one among them, and what `log_prior` gives there.

        low, high : least and largest spacing
        """
        spacing = np.exp(self.rng.uniform(np.log(low), np.log(high)))
        steps = np.arange(SCALE_POINTS) - int(self.rng.integers(SCALE_POINTS))
        nodes = self.point + spacing * steps[:, None] * direction
        return nodes, self.log_prior(nodes)

    def _log_likelihood(self, total: Array, powers: Array, noise: Array) -> Array:
        """Log density (node,), up to a constant, of recording and baseline.

        total : (node, direction), variance of the recording in each of its directions
        powers : (direction,), sums of squares of the recording there
        """
        model = self.model
        recorded = -0.5 * self.tempering * np.sum(model.samples * np.log(total) + powers / total, axis=1)
        quiet = -model.baseline_count * np.log(noise) - 0.5 * model.baseline_power / noise**2
        return np.asarray(recorded + quiet)

    def _moved(self, nodes: Array, variance: Array, noise: Array, heights: Array) -> int:
        """Move to one of some nodes, drawn by their log densities; return its index."""
        heights = np.where(np.isfinite(heights), heights, -np.inf)
        masses = np.cumsum(np.exp(heights - heights.max()))
        picked = min(int(np.searchsorted(masses, self.rng.random() * masses[-1])), len(nodes) - 1)
        self.point, self.variance, self.noise = nodes[picked], float(variance[picked]), float(noise[picked])
        return picked
