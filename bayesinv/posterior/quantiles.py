"""Quantiles and tail probabilities of Gaussian mixtures: credible intervals, and the exceedance of a threshold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from scipy.special import ndtr, ndtri

from bayesinv.arguments import number_of
from bayesinv.axes import Array

NEGLIGIBLE_PROBABILITY = 1e-7
"""Total probability of the nodes that quantiles and exceedances of single currents leave out."""


CHUNK = 2**16
"""Numbers that are searched at once."""


def credible_level(level: float) -> float:
    """Return the level of an interval, checked.

    Raises
    ------
    ValueError
        If it lies outside (0, 1).
    """
    meaning = "a probability between 0 and 1, such as 0.9"
    if not 0 < (known := number_of("level", level, meaning)) < 1:
        raise ValueError(f"level is {level}, but must be {meaning}")
    return known


def tail_probabilities(level: float) -> tuple[float, float]:
    """Return the probabilities at both ends of the central interval of a level, checked."""
    tail = (1 - credible_level(level)) / 2
    return tail, 1 - tail


def checked_threshold(threshold: float) -> float:
    """Return a threshold of the size of currents, checked.

    Raises
    ------
    ValueError
        If it is negative or not finite.
    """
    meaning = "a finite current of at least 0 A m"
    if not 0 <= (known := number_of("threshold", threshold, meaning)) < np.inf:
        raise ValueError(f"threshold is {threshold}, but must be {meaning}")
    return known


def significant_nodes(weights: Array) -> tuple[float, float]:
    """Return the largest weight of the nodes that together hold `NEGLIGIBLE_PROBABILITY`, and the sum of the others."""
    ordered = np.sort(weights)
    negligible = int(np.searchsorted(np.cumsum(ordered), NEGLIGIBLE_PROBABILITY * ordered.sum(), side="right"))
    return (ordered[negligible - 1] if negligible else 0.0), float(ordered[negligible:].sum())


def interval(
    gaussians: Iterable[tuple[float, Array, Array]], level: float, precise: float = 1e-9
) -> tuple[Array, Array]:
    """Return the central credible interval, lower and upper, of mixtures of (weight, means, sds).

    precise : see `mixture_quantile`
    """
    weights, means, sds = (np.array(list(part)) for part in zip(*gaussians, strict=True))
    low, high = mixture_quantiles(weights, means, sds, tail_probabilities(level), precise)
    return low, high


def exceedance(gaussians: Iterable[tuple[float, Array, Array]], threshold: float) -> Array:
    """Return P(|value| > threshold) of mixtures of (weight, means, sds)."""
    terms = (
        weight * (ndtr((-threshold - mean) / sd) + ndtr((mean - threshold) / sd)) for weight, mean, sd in gaussians
    )
    return np.asarray(sum(terms))


def mixture_quantile(weights: Array, means: Array, sds: Array, probability: float, precise: float = 1e-9) -> Array:
    """Return quantiles of Gaussian mixtures by Newton's method inside a bracket.

    weights : (node,), sum to 1
    means, sds : (node, ...), broadcast against each other
    precise : largest error, in units of the smallest sd, about

    Returns the quantile, of the remaining shape.
    """
    return mixture_quantiles(weights, means, sds, (probability,), precise)[0]


def mixture_quantiles(
    weights: Array, means: Array, sds: Array, probabilities: Sequence[float], precise: float = 1e-9
) -> list[Array]:
    """Return quantiles at several probabilities; see `mixture_quantile`.

    The start is the expansion of Cornish & Fisher by four cumulants, and a step is Halley's, of third order.

    Reference: Cornish & Fisher (1938), Rev. Int. Stat. Inst. 5, 307-320.
    """
    if len(weights) == 1:
        return [np.asarray(means[0] + ndtri(one) * sds[0]) for one in probabilities]
    shape = np.broadcast_shapes(means.shape, sds.shape)
    means, sds = (np.broadcast_to(one, shape).reshape(len(weights), -1) for one in (means, sds))
    share = weights / weights.sum()
    out = np.empty((len(probabilities), means.shape[1]))
    # What fits into a processor's own memory is searched in a third of the time.
    step = max(1, CHUNK // len(weights))
    for first in range(0, means.shape[1], step):
        part = slice(first, first + step)
        out[:, part] = _quantiles(share, means[:, part], sds[:, part], probabilities, precise)
    return list(out.reshape(-1, *shape[1:]))


def _quantiles(share: Array, means: Array, sds: Array, probabilities: Sequence[float], precise: float) -> list[Array]:
    mean, spread, third, fourth = _cumulants(share, means, sds)
    out = []
    for probability in probabilities:
        z = float(ndtri(probability))
        terms = (z**2 - 1) * third / 6 + (z**3 - 3 * z) * fourth / 24 - (2 * z**3 - 5 * z) * third**2 / 36
        out.append(_searched(share, means, sds, probability, mean + spread * (z + terms), precise))
    return out


def _cumulants(share: Array, means: Array, sds: Array) -> tuple[Array, Array, Array, Array]:
    """Mean, sd, and third and fourth standardised cumulants of mixtures: each (entry,)."""
    mean = share @ means
    apart, power = means - mean, sds**2
    square = apart**2
    variance = share @ (power + square)
    third = share @ ((3 * power + square) * apart) / variance**1.5
    fourth = share @ (3 * power**2 + (6 * power + square) * square) / variance**2 - 3
    return mean, np.sqrt(variance), third, fourth


def _searched(share: Array, means: Array, sds: Array, probability: float, start: Array, precise: float) -> Array:
    """Quantiles (entry,) from a start."""
    corners = means + float(ndtri(probability)) * sds
    low, high = corners.min(axis=0), corners.max(axis=0)
    x, width = np.clip(start, low, high), sds.min(axis=0)
    # A step of Halley's leaves about the cube of its own length.
    enough = max(precise ** (1 / 3), 1e-3) * width
    step, below = _step(share, means, sds, x, probability)
    if ((np.abs(step - x) <= enough) & (step >= low) & (step <= high)).all():
        return step
    left = np.arange(x.size)
    for _ in range(60):
        here = x[left]
        low[left], high[left] = np.where(below, here, low[left]), np.where(below, high[left], here)
        # A step too small to change x leads to the end of the bracket that x is, and is no reason to bisect.
        inside = (step >= low[left]) & (step <= high[left])
        x[left] = np.where(inside, step, (low[left] + high[left]) / 2)
        left = left[~inside | (np.abs(x[left] - here) > enough[left])]
        if not left.size:
            break
        step, below = _step(share, means[:, left], sds[:, left], x[left], probability)
    return x


def _step(share: Array, means: Array, sds: Array, x: Array, probability: float) -> tuple[Array, Array]:
    """Where Halley's step leads (entry,), and whether the quantile lies above x."""
    unit = (x - means) / sds
    excess = share @ ndtr(unit) - probability
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        each = np.exp(-0.5 * unit**2) / sds
        slope = share @ each / np.sqrt(2 * np.pi)
        bend = -(share @ (each * unit / sds)) / np.sqrt(2 * np.pi)
        newton = excess / slope
        step = x - newton / np.clip(1 - 0.5 * newton * bend / slope, 0.5, 2.0)
    return step, excess < 0
