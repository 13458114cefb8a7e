"""Quantiles and tail probabilities of Gaussian mixtures: credible intervals, and the exceedance of a threshold."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.special import ndtr, ndtri

from bayesinv.axes import Array

NEGLIGIBLE_PROBABILITY = 1e-7
"""Total probability of the nodes that quantiles and exceedances of single currents leave out."""

CHUNK = 2**15
"""Numbers, of nodes times currents, among which quantiles are searched at once."""


def credible_level(level: float) -> float:
    """Return the level of an interval, checked.

    Raises
    ------
    ValueError
        If it lies outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}, but must be a probability between 0 and 1, such as 0.9")
    return level


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
    if not 0 <= threshold < np.inf:
        raise ValueError(f"threshold is {threshold}, but must be a finite current of at least 0 A m")
    return threshold


def significant_nodes(weights: Array) -> tuple[float, float]:
    """Return the largest weight of the nodes that together hold `NEGLIGIBLE_PROBABILITY`, and the sum of the others."""
    ordered = np.sort(weights)
    negligible = int(np.searchsorted(np.cumsum(ordered), NEGLIGIBLE_PROBABILITY * ordered.sum(), side="right"))
    return (ordered[negligible - 1] if negligible else 0.0), float(ordered[negligible:].sum())


def interval(gaussians: Iterable[tuple[float, Array, Array]], level: float) -> tuple[Array, Array]:
    """Return the central credible interval, lower and upper, of mixtures of (weight, means, sds)."""
    weights, means, sds = (np.array(list(part)) for part in zip(*gaussians, strict=True))
    low, high = (mixture_quantile(weights, means, sds, probability) for probability in tail_probabilities(level))
    return low, high


def exceedance(gaussians: Iterable[tuple[float, Array, Array]], threshold: float) -> Array:
    """Return P(|value| > threshold) of mixtures of (weight, means, sds)."""
    terms = (
        weight * (ndtr((-threshold - mean) / sd) + ndtr((mean - threshold) / sd)) for weight, mean, sd in gaussians
    )
    return np.asarray(sum(terms))


def mixture_quantile(weights: Array, means: Array, sds: Array, probability: float) -> Array:
    """Return quantiles of Gaussian mixtures by Halley's method inside a bracket.

    weights : (node,), sum to 1
    means, sds : (node, ...), broadcast against each other

    Returns the quantile, of the remaining shape.
    """
    total = weights.sum()
    if len(weights) == 1:
        return np.asarray(means[0] + ndtri(probability) * sds[0])
    sizes = np.broadcast_to(sds, means.shape) if sds.shape != means.shape else sds
    share, out = weights / total, np.empty(means[0].size)
    centres, sizes = means.reshape(len(means), -1), sizes.reshape(len(means), -1)
    # A few at a time: what is looked at again and again stays near the processor, and most need few steps.
    width = max(1, CHUNK // len(weights))
    for start in range(0, len(out), width):
        some = slice(start, start + width)
        out[some] = _quantile(share, centres[:, some], sizes[:, some], probability)
    return out.reshape(means.shape[1:])


def _quantile(share: Array, means: Array, sds: Array, probability: float) -> Array:
    """Quantiles of mixtures (node, column), whose weights sum to one."""
    corners = means + ndtri(probability) * sds
    low, high, width = corners.min(axis=0), corners.max(axis=0), sds.min(axis=0)
    centre = share @ means
    # One Gaussian of the same mean and variance is nearly the mixture, more often than not.
    x = centre + ndtri(probability) * np.sqrt(share @ ((means - centre) ** 2 + sds**2))
    x = np.clip(x, low, high)
    means, over = np.ascontiguousarray(means), 1 / sds
    for _ in range(60):
        z = (x - means) * over
        density = z * z
        density *= -0.5
        np.exp(density, out=density)
        density *= over
        slope = share @ density / np.sqrt(2 * np.pi)
        density *= over
        density *= z
        bend = -(share @ density) / np.sqrt(2 * np.pi)
        excess = share @ ndtr(z) - probability
        low, high = np.where(excess < 0, x, low), np.where(excess > 0, x, high)
        with np.errstate(all="ignore"):
            newton = excess / slope
            step = x - newton / (1 - np.clip(0.5 * newton * bend / slope, -1.0, 0.5))
        # A step too small to change x leads to the end of the bracket that x is, and is no reason to bisect.
        inside = (step >= low) & (step <= high)
        step = np.where(inside, step, (low + high) / 2)
        # What a step of Halley's leaves is of its third power: here, below 1e-9 of the width.
        done = np.abs(step - x) <= np.where(inside, 1e-4, 1e-9) * width
        x = step
        if done.all():
            break
    return np.asarray(x)
