"""Ratios of robust scales: how large chance makes the median size of some normal numbers beside that of others."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.special import betainc, betaincinv, betaln, expit, ndtr, ndtri

from bayesinv.axes import Array

UNIT = float(ndtri(0.75))
"""Median of the absolute value of a standard normal number."""

POINTS, FEWER_POINTS = 121, 41
"""Points of the trapezoid rule over the second median's distribution, and of one of at least `MANY` numbers."""

MANY = 100
"""Numbers whose median is so nearly normal that fewer points give twelve digits."""


def exceeded(ratio: float, first: float, second: float) -> float:
    """Return the probability that a ratio of two independent medians of absolute normal numbers is larger.

        P(M_first > ratio M_second),   M_n = median(|x_1|, ..., |x_n|),   x_k ~ Normal(0, 1)

    The distribution function of |x| at M_n is an order statistic of uniform numbers, Beta(h, h) with h = (n + 1) / 2:
    exact for odd n. The median of one number is the number itself.

    first, second : how many numbers, at least 1; of correlated ones, how many independent ones they are worth

    Reference: David & Nagaraja (2003), Order Statistics, §2.3.
    """
    half = (second + 1) / 2
    logits = np.linspace(-1, 1, POINTS if second < MANY else FEWER_POINTS) * (46 / half + 14 / np.sqrt(half))
    log_density = half * (np.log(expit(logits)) + np.log(expit(-logits))) - betaln(half, half)
    medians = -ndtri(expit(-logits) / 2)
    above = _above(ratio * medians, first)
    return float(np.exp(log_density) @ above * (logits[1] - logits[0]))


def _above(size: Array, count: float) -> Array:
    """Probability that the median of `count` absolute standard normal numbers is larger than a size."""
    half, one = (count + 1) / 2, 2 * ndtr(-size)
    return np.asarray(one if count == 1 else betainc(half, half, one))


@lru_cache(maxsize=256)
def largest_ratio(probability: float, first: float, second: float) -> float:
    """Return the ratio of two independent medians that is exceeded with a small probability, see `exceeded`."""
    half = (first + 1) / 2
    # That of a median and its expectation is smaller; log(-log P) is nearly linear in the ratio's logarithm.
    start = float(np.log(-ndtri(betaincinv(half, half, probability) / 2) / UNIT))
    target = np.log(-np.log(probability))
    excess = [_log_log(start, first, second) - target]
    # The second median moves the curve, and changes its slope little.
    step = 0.01
    slope = np.log(np.log(_above(UNIT * np.exp(start + step), first)) / np.log(probability)) / step
    logs = [start, start + min(max(-excess[0] / slope, 1e-6), 0.5)]
    excess.append(_log_log(logs[1], first, second) - target)
    while abs(logs[-1] - logs[-2]) > 1e-3 and abs(excess[-1]) > 1e-4 and excess[-1] != excess[-2]:
        step = -excess[-1] * (logs[-1] - logs[-2]) / (excess[-1] - excess[-2])
        logs.append(logs[-1] + min(step, 2.0))
        excess.append(_log_log(logs[-1], first, second) - target)
    return float(np.exp(logs[-1]))


def smallest_ratio(probability: float, count: float) -> float:
    """Return the ratio that a median of `count` absolute normal numbers to its own median stays below with a
    probability.
    """
    half = (count + 1) / 2
    return float(ndtri((1 + betaincinv(half, half, probability)) / 2) / UNIT)


def _log_log(log_ratio: float, first: float, second: float) -> float:
    """log(-log P) of the probability that a ratio is exceeded."""
    return float(np.log(-np.log(max(exceeded(float(np.exp(log_ratio)), first, second), 1e-300))))


def median_size(table: Array) -> Array:
    """Median of absolute values along the last axis; as NumPy's, without its search for NaN."""
    middle = table.shape[-1] // 2
    parts = np.partition(np.abs(table), middle, axis=-1)
    if table.shape[-1] % 2:
        return np.asarray(parts[..., middle])
    return np.asarray((parts[..., :middle].max(axis=-1) + parts[..., middle]) / 2)
