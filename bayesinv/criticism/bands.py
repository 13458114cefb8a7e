"""Simultaneous bands of the empirical distribution of uniform numbers, and its exact p-value."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom, poisson

from bayesinv.axes import Array, Index
from bayesinv.memory import Memory
from bayesinv.posterior.quantiles import credible_level

BANDS = Memory("bands")


def containment_probability(low: Index, high: Index) -> float:
    """Return the probability that cumulative counts of uniform numbers stay within bounds, by an exact recursion.

        P(low_k <= #{u_i <= k/n} <= high_k for k = 1 ... n)

    Counts of n uniform numbers are those of a Poisson process of rate n, given that its count at 1 is n. The process is
    Markov, and its increment over a step of 1/n is Poisson with mean 1.

    low, high : (count,), smallest and largest count allowed at k/n, for k = 1 ... n

    Reference: Säilynoja, Bürkner & Vehtari (2022), algorithm 1; Moscovich & Nadler (2017), Stat. Probab. Lett. 123,
    177-182 (the Poisson process).
    """
    count = len(low)
    step = poisson.pmf(np.arange(min(count, 40) + 1), 1.0)
    mass = np.zeros(count + 1)
    mass[0] = 1.0
    for k in range(count):
        mass = np.convolve(mass, step)[: count + 1]
        mass[: max(0, low[k])] = 0.0
        mass[high[k] + 1 :] = 0.0
    return float(mass[count] / poisson.pmf(count, count))


def bounds(count: int, tail: float) -> tuple[Index, Index]:
    """Return the smallest and largest binomial counts (count,) at k/count whose tails exceed `tail`."""
    # Rounding must not include a count whose tail equals the limit here and exclude it there.
    low = binom.ppf(tail * (1 + 1e-9), count, np.arange(count) / count).astype(np.int64)
    return np.r_[low[1:], count], np.r_[count - low[:0:-1], count]


@BANDS.keep
def band(count: int, level: float) -> tuple[Array, Array]:
    """Return the simultaneous band of the empirical distribution of uniform numbers.

    The whole curve lies inside with probability `level` or a little more: the bounds at every k/count are binomial
    quantiles with the same tail probability, the largest for which this holds.

    count : number of values
    level : probability that the whole curve lies inside

    Returns lower and upper, each (count,), shares at k/count for k = 1 ... count.

    Reference: Säilynoja, Bürkner & Vehtari (2022), Stat. Comput. 32, 32.
    """
    credible_level(level)
    # The pointwise tail lies between Bonferroni's, for all points, and that of a single point.
    low, high = np.log((1 - level) / (2 * count)), np.log((1 - level) / 2)
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (
            (middle, high) if containment_probability(*bounds(count, float(np.exp(middle)))) >= level else (low, middle)
        )
    lower, upper = bounds(count, float(np.exp(low)))
    return lower / count, upper / count


def uniformity_p_value(ranks: ArrayLike) -> float:
    """Return the exact p-value of ranks being uniform: the test statistic is the smallest pointwise binomial tail.

    ranks : (simulation,), in [0, 1]

    The curve of the ranks leaves the `band` of level 1 - p if and only if the p-value is at most p.
    """
    ordered = np.sort(np.ravel(np.asarray(ranks, dtype=float)))
    count = len(ordered)
    at = np.arange(1, count + 1) / count
    counts = np.searchsorted(ordered, at, side="right")
    below = binom.cdf(counts[:-1], count, at[:-1])
    above = binom.sf(counts[:-1] - 1, count, at[:-1])
    tail = float(min(below.min(initial=1.0), above.min(initial=1.0)))
    if tail < 1e-13:
        # So small a number is below the recursion's rounding error; the union bound over all points stands in for it.
        return min(1.0, 2 * count * tail)
    return min(1.0, max(0.0, 1 - containment_probability(*bounds(count, tail))))
