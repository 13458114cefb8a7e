"""Quantiles and tail probabilities of Gaussian mixtures: credible intervals, and the exceedance of a threshold."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.special import ndtr, ndtri

from bayesinv.axes import Array

NEGLIGIBLE_PROBABILITY = 1e-7
"""Total probability of the nodes that quantiles and exceedances of single currents leave out."""


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
    """Return quantiles of Gaussian mixtures by Newton's method inside a bracket.

    weights : (node,), sum to 1
    means, sds : (node, ...), broadcast against each other

    Returns the quantile, of the remaining shape.
    """
    total = weights.sum()
    if len(weights) == 1:
        return np.asarray(means[0] + ndtri(probability) * sds[0])
    sizes = np.broadcast_to(sds, means.shape) if sds.shape != means.shape else sds
    share = weights / total
    corners = means + ndtri(probability) * sizes
    low, high = corners.min(axis=0), corners.max(axis=0)
    x = np.tensordot(share, corners, axes=1)
    width = sizes.min(axis=0)
    for _ in range(60):
        z = (x - means) / sizes
        excess = np.tensordot(share, ndtr(z), axes=1) - probability
        low, high = np.where(excess < 0, x, low), np.where(excess > 0, x, high)
        slope = np.tensordot(share, np.exp(-0.5 * z**2) / sizes, axes=1) / np.sqrt(2 * np.pi)
        with np.errstate(divide="ignore", invalid="ignore"):
            step = x - excess / slope
        # A step too small to change x leads to the end of the bracket that x is, and is no reason to bisect.
        step = np.where((step >= low) & (step <= high), step, (low + high) / 2)
        done = np.abs(step - x) <= 1e-9 * width
        x = step
        if done.all():
            break
    return np.asarray(x)
