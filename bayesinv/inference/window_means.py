"""Whether currents are as large over time as a posterior takes them to be: samples, means over windows, stretches.

In direction k of the recording, with eigenvalue d_k, and for the mean over a window b,

    mean_kb ~ Normal(0, variance d_k uᵀ T u + noise² uᵀ K u),   u the window's weights

with T the currents' correlation over time and K the noise's. A model that has none of its own takes T = K. Where real
currents are slower, the scale is that of what is new in each sample, and currents, the more so their means over
windows, are larger than it by a factor that the sums of squares of these means tell. All intervals are too narrow then.
Where a response fills a part of the window alone, single samples of that stretch are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import chi2

from bayesinv.axes import Array, Index
from bayesinv.covariance.covariance import Structure
from bayesinv.covariance.time_course import correlation_over_time, equally_spaced
from bayesinv.evidence.spectrum import Decomposition
from bayesinv.memory import PickledByFields, cached_property
from bayesinv.posterior.checks import Check
from bayesinv.posterior.mixture import Mixture
from bayesinv.problem.problem import Problem
from bayesinv.problem.tails import sample_units
from bayesinv.problem.time_whitening import DENSE

LIMIT = 1.4
"""Times as large as the posterior takes them that currents may be, twice in variance: where the recording says little,
intervals of 90 % then hold 76 %."""

SIGNIFICANCE = 1e-4
"""Probability with which currents that are as the posterior takes them exceed what chance allows, at each length."""

STRETCHES, LEAST_SAMPLES = 8, 3
"""Stretches of a recording that are looked at one by one, and the fewest samples of each."""

LEAST_SHARE = 1e-2
"""Share of a direction's variance that currents must have in single samples for it to be looked at."""


def window_means_checks(problem: Problem, mixed: Mixture) -> list[Check]:
    """Return the check that currents are as large as they are taken to be: samples, means over windows, and stretches.

    It takes the most probable structure and its mean scales, windows of 1, 2, 4, ... samples, at least two to a
    recording, and single samples of each of `STRETCHES` stretches. Nothing is returned for a single sample.
    """
    if len(problem.times) < 2:
        return []
    which = int(np.argmax(np.bincount(mixed.which, mixed.weights)))
    share = np.where(mixed.which == which, mixed.weights, 0.0) / mixed.weights[mixed.which == which].sum()
    structure = mixed.structures[which]
    series = finest = Series.of(problem, structure, float(share @ mixed.variance), float(share @ mixed.noise))
    found = [series.excess()]
    while series.samples >= 4:
        series = series.coarser()
        found.append(series.excess())
    factors = np.array([factor for factor, _ in found])
    clear = np.where([chance < SIGNIFICANCE for _, chance in found], factors, 0.0)
    worst = int(np.argmax(clear)) if clear.any() else 0
    value, largest = float(factors[worst]), float(clear[worst])
    said = f"single samples of them are {factors[0]:.2g} times as large as the posterior takes them"
    if worst:
        span = 2**worst * float(problem.times[1] - problem.times[0])
        said += f", means over {2**worst} samples ({span:.3g} s) {factors[worst]:.2g} times"
    stretch = _strongest_stretch(finest)
    if stretch is not None and stretch[0] > max(LIMIT, largest):
        value = largest = stretch[0]
        first, last = 1e3 * problem.times[stretch[1]][[0, -1]]
        said += f", those from {first:.0f} to {last:.0f} ms {value:.2g} times"
    note = f"{said}; 1 where both are right, and above it intervals of currents and of their scale are too narrow"
    if structure.time is None:
        note += (
            ". Currents count as independent from sample to sample once the noise is white: where they are slower, "
            'take a model whose currents have a time constant ("temporal") or modes of time ("focal")'
        )
    else:
        note += ". Above it, too, where the response fills a part of the recording alone: give its window (tmin, tmax)"
    passed = largest <= LIMIT
    return [Check("currents over time", value, f"at most {LIMIT:g}, or by chance", passed, note)]


def _strongest_stretch(series: Series) -> tuple[float, Index] | None:
    """How large currents are in the stretch where they are largest, and its samples; None where chance may do it.

    Stretches of long recordings, which are judged by their mean, are not looked at.
    """
    count = min(STRETCHES, series.samples // LEAST_SAMPLES)
    if series.table.shape[1] > 1 or count < 2:
        return None
    stretches = np.array_split(np.arange(series.samples), count)
    found = [series.excess(slice(int(one[0]), int(one[-1]) + 1)) for one in stretches]
    clear = [factor if chance < SIGNIFICANCE / count else 0.0 for factor, chance in found]
    best = int(np.argmax(clear))
    return (clear[best], stretches[best]) if clear[best] else None


@dataclass(frozen=True, eq=False)
class Series(PickledByFields):
    """A recording in the directions that currents reach, in stretches of equally many samples, and its variances.

        variance of direction k over a window u = currents_k uᵀ T u + Σ_g noise_kg uᵀ K_g u

    table : (direction, stretch, time)
    currents, noise : (direction,) and (direction, group), variances in single samples
    over_time : T, (time, time); None where currents have the noise's
    noise_over_time : K_g, (group, time, time)
    """

    table: Array
    currents: Array
    noise: Array
    over_time: Array | None
    noise_over_time: Array

    @classmethod
    def of(cls, problem: Problem, structure: Structure, variance: float, noise: float) -> Series:
        """Return a recording in the directions in which currents of one structure have a share of its variance."""
        decomposition, whitening = Decomposition.of(problem, structure), problem.time_whitening
        currents = variance * decomposition.values
        some = currents > LEAST_SHARE * (currents + noise**2)
        # At least the direction that currents reach best.
        some[-1] = True
        vectors = decomposition.to_components[:, some]
        table = vectors.T @ problem.recording
        times, count = problem.times, table.shape[1]
        if count > DENSE:
            # Correlations of the first stretch are those of all where samples are equally spaced.
            whole = DENSE * (count // DENSE) if equally_spaced(times) else DENSE
            table, times = table[:, :whole], times[:DENSE]
        groups = np.zeros(len(vectors), dtype=np.int64) if whitening is None else whitening.rows
        shares = np.stack([np.sum(vectors[groups == one] ** 2, axis=0) for one in range(groups.max() + 1)], axis=1)
        return cls(
            table.reshape(len(table), -1, len(times)),
            currents[some],
            noise**2 * shares / shares.sum(axis=1, keepdims=True),
            None if structure.time is None else correlation_over_time(times, structure.time, structure.course),
            _noise_over_time(problem, structure, times),
        )

    @property
    def samples(self) -> int:
        """Number of samples in a stretch."""
        return self.table.shape[2]

    def coarser(self) -> Series:
        """Return the means of pairs of samples; a last one without another is left out."""
        even = self.samples // 2 * 2

        def paired(table: Array) -> Array:
            return 0.5 * (table[..., 0:even:2] + table[..., 1:even:2])

        def both(correlation: Array) -> Array:
            return np.swapaxes(paired(np.swapaxes(paired(correlation), -1, -2)), -1, -2)

        slow = None if self.over_time is None else both(self.over_time)
        return replace(self, table=paired(self.table), over_time=slow, noise_over_time=both(self.noise_over_time))

    @cached_property
    def _parts(self) -> Array:
        """Variance of each direction that goes with each of the terms: (direction, term)."""
        if self.over_time is None:
            return self.noise + self.currents_of_groups
        return np.column_stack([self.noise, self.currents])

    @cached_property
    def _terms(self) -> Array:
        """Correlations over time: (term, time, time)."""
        return self.noise_over_time if self.over_time is None else np.stack([*self.noise_over_time, self.over_time])

    @property
    def currents_of_groups(self) -> Array:
        """Variance of currents that are correlated as each group's noise is: (direction, group)."""
        return np.asarray(self.currents[:, None] * self.noise / self.noise.sum(axis=1, keepdims=True))

    @cached_property
    def variance(self) -> Array:
        """Variance of every sample in each direction: (direction, time)."""
        return np.asarray(self._parts @ np.diagonal(self._terms, axis1=1, axis2=2))

    @cached_property
    def share(self) -> Array:
        """The currents' share of it: (direction, time)."""
        if self.over_time is None:
            return np.asarray(self.currents_of_groups @ np.diagonal(self._terms, axis1=1, axis2=2) / self.variance)
        return np.outer(self.currents, np.diag(self.over_time)) / self.variance

    def degrees(self, some: slice = slice(None)) -> float:
        """Independent numbers that Σ share value² / variance is worth, of some samples: 2 mean² / variance of it."""
        # Its variance is twice the sum of squared covariances, in units of the variances.
        share = self.share[:, some]
        scaled, spread = share / self.variance[:, some], 0.0
        for one, first in zip(self._parts.T, self._terms, strict=True):
            for other, second in zip(self._parts.T, self._terms, strict=True):
                both = first[some, some] * second[some, some]
                spread += float(np.einsum("k,kb,kb->", one * other, scaled @ both, scaled))
        return self.table.shape[1] * float(share.sum()) ** 2 / spread

    def excess(self, some: slice = slice(None)) -> tuple[float, float]:
        """How many times as large as they are taken to be currents are in these samples, or in some of each stretch.

            factor² = Σ share (value² / variance - 1 + share) / Σ share²

        This is what least squares finds, weighted for factors near 1, and 0 where it would be negative. Also return the
        probability that chance alone makes it as large: the sum is nearly chi-squared.
        """
        share = self.share[:, some]
        power = np.mean(self.table[:, :, some] ** 2, axis=1) / self.variance[:, some]
        squares = float(np.sum(share * (power - 1 + share))) / float(np.sum(share**2))
        degrees, mean = self.degrees(some), float(np.sum(share * power) / np.sum(share))
        return float(np.sqrt(max(0.0, squares))), float(chi2.sf(degrees * mean, degrees))


def _noise_over_time(problem: Problem, structure: Structure, times: Array) -> Array:
    """Correlation of the noise of each group over some times: (group, time, time)."""
    whitening = problem.time_whitening
    if whitening is None:
        found = np.eye(len(times))[None]
    elif len(times) == len(problem.times):
        found = whitening.correlations
    else:
        found = whitening.known.between(times, times)
    if structure.sample_noise is None:
        return found
    return np.asarray(found + np.diag((structure.sample_noise * sample_units(problem))[: len(times)]))
