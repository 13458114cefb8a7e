"""How often a right interval may fail."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binom, poisson

from bayesinv.axes import Array, Index
from bayesinv.memory import Memory
from bayesinv.posterior.quantiles import credible_level

BANDS = Memory("bands")


def held(low: Index, high: Index) -> float:
    """Probability that as many uniform numbers as there are counts stay within them: an exact recursion.

        P(low_k <= #{u_i <= k/n} <= high_k for k = 1 ... n)

    Counts of n uniform numbers are those of a Poisson process of rate n, given that it counts n at 1; in between the
    process is Markov, with one more expected in every step.

    low, high : (count,), for k = 1 ... n

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
    """Counts (count,) that a binomial number has, at each k/count, with more than `tail` on either side of it."""
    # Rounding must not put a count whose tail is the limit itself on one side here and on the other there.
    low = binom.ppf(tail * (1 + 1e-9), count, np.arange(count) / count).astype(np.int64)
    return np.r_[low[1:], count], np.r_[count - low[:0:-1], count]


@BANDS.keep
def band(count: int, level: float) -> tuple[Array, Array]:
    """Return the simultaneous band of the empirical distribution of uniform numbers.

    All of it lies inside with probability `level` or a little more: the counts at every k/count are those within
    equal binomial tails, the widest tail that leaves enough.

    count : number of values
    level : probability that the whole curve lies inside

    Returns lower and upper, each (count,), shares at k/count for k = 1 ... count.

    Reference: Säilynoja, Bürkner & Vehtari (2022), Stat. Comput. 32, 32.
    """
    credible_level(level)
    # Between Bonferroni's share of each place and what one place would have by itself.
    low, high = np.log((1 - level) / (2 * count)), np.log((1 - level) / 2)
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if held(*bounds(count, float(np.exp(middle)))) >= level else (low, middle)
    lower, upper = bounds(count, float(np.exp(low)))
    return lower / count, upper / count


def probability(ranks: ArrayLike) -> float:
    """Probability that uniform numbers stray as far from uniform as these, at the place where they stray most.

    ranks : (simulation,), in [0, 1]

    It is exact. Where it is small for ranks that ought to be uniform, they are not; the curve leaves the `band` of
    level 1 - p if and only if it is at most p.
    """
    places = np.sort(np.ravel(np.asarray(ranks, dtype=float)))
    count = len(places)
    at = np.arange(1, count + 1) / count
    counts = np.searchsorted(places, at, side="right")
    below = binom.cdf(counts[:-1], count, at[:-1])
    above = binom.sf(counts[:-1] - 1, count, at[:-1])
    tail = float(min(below.min(initial=1.0), above.min(initial=1.0)))
    if tail < 1e-13:
        # The recursion cannot tell so small a number from rounding; a union over all places bounds it.
        return min(1.0, 2 * count * tail)
    return min(1.0, max(0.0, 1 - held(*bounds(count, tail))))
