"""Proper scores of Gaussian mixtures: PIT, log score, CRPS and interval score."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from bayesinv.axes import Array, real
from bayesinv.posterior.quantiles import credible_level


def checked_mixture(
    weights: ArrayLike, means: ArrayLike, sds: ArrayLike, truth: ArrayLike
) -> tuple[Array, Array, Array, Array]:
    """Return a mixture and the truth that it is scored against, checked; weights sum to 1."""
    mass = real("weights", weights, "node")
    middle, spread, true = (np.asarray(value, dtype=np.float64) for value in (means, sds, truth))
    if middle.shape[:1] != mass.shape or spread.shape[:1] != mass.shape:
        raise ValueError(f"means {middle.shape} and sds {spread.shape} must have node = {len(mass)} first, as weights")
    try:
        fits = np.broadcast_shapes(middle.shape[1:], spread.shape[1:], true.shape) == true.shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"means {middle.shape} and sds {spread.shape} do not fit the truth {true.shape}, node aside")
    if not (np.isfinite(middle).all() and np.isfinite(spread).all() and np.isfinite(true).all()):
        raise ValueError("means, sds or truth hold NaN or infinite values; there is no score of them")
    if not len(mass) or (mass < 0).any() or not mass.sum() > 0:
        raise ValueError("weights must be at least 0 and some positive; this mixture holds no probability")
    if not (spread > 0).all():
        raise ValueError(f"sds must be positive, but the smallest is {spread.min():.3g}")
    return mass / mass.sum(), middle, spread, true


def pit(weights: ArrayLike, means: ArrayLike, sds: ArrayLike, truth: ArrayLike) -> Array:
    """Return the probability integral transform F(truth) = Σ_n w_n Φ((truth - m_n) / s_n), of the truth's shape.

    It is uniform if the mixture is calibrated; the central interval of a level holds the truth where the level is at
    least |2 F - 1|.

    weights : (node,); means, sds : (node, ...), broadcast against the truth (...)

    Raises
    ------
    ValueError
        If shapes do not fit, a number is NaN or infinite, an sd is not positive or all weights are zero.

    Reference: Dawid (1984), J. R. Stat. Soc. A 147, 278-292.
    """
    mass, middle, spread, true = checked_mixture(weights, means, sds, truth)
    out = np.zeros(true.shape)
    for w, m, s in zip(mass, middle, spread, strict=True):
        out += w * ndtr((true - m) / s)
    return np.minimum(out, 1.0)


def log_score(weights: ArrayLike, means: ArrayLike, sds: ArrayLike, truth: ArrayLike) -> Array:
    """Return the log score -log Σ_n w_n N(truth; m_n, s_n²), nats, of the truth's shape.

    Axes and errors as in `pit`.

    Reference: Good (1952), J. R. Stat. Soc. B 14, 107-114.
    """
    mass, middle, spread, true = checked_mixture(weights, means, sds, truth)
    out = np.full(true.shape, -np.inf)
    for w, m, s in zip(mass, middle, spread, strict=True):
        if w > 0:
            out = np.logaddexp(out, np.log(w) + gaussian_log_density(true, m, s))
    return -out


def gaussian_log_density(true: Array, middle: Array, spread: Array) -> Array:
    """Return the log density of Gaussians of these means and sds at the truth, nats."""
    return np.asarray(-0.5 * ((true - middle) / spread) ** 2 - np.log(np.sqrt(2 * np.pi) * spread))


def crps(weights: ArrayLike, means: ArrayLike, sds: ArrayLike, truth: ArrayLike) -> Array:
    """Return the continuous ranked probability score ∫ (F(x) - 1[x >= truth])² dx, in the truth's unit and shape.

        Σ_n w_n A(truth - m_n, s_n²) - ½ Σ_n Σ_k w_n w_k A(m_n - m_k, s_n² + s_k²)
        A(μ, σ²) = 2 σ φ(μ/σ) + μ (2 Φ(μ/σ) - 1), the mean absolute value of N(μ, σ²)

    There is a term for every pair of nodes; `compressed` reduces their number.

    Axes and errors as in `pit`.

    Reference: Grimit et al. (2006), Q. J. R. Meteorol. Soc. 132, 2925-2942.
    """
    mass, middle, spread, true = checked_mixture(weights, means, sds, truth)
    out = np.zeros(true.shape)
    for n, w in enumerate(mass):
        out += w * _mean_absolute(true - middle[n], spread[n])
        # A Gaussian against itself: A(0, 2 s²) = 2 s / sqrt(π).
        out -= w**2 * spread[n] / np.sqrt(np.pi)
        for k in range(n):
            out -= w * mass[k] * _mean_absolute(middle[n] - middle[k], np.hypot(spread[n], spread[k]))
    return np.maximum(out, 0.0)


def _mean_absolute(mean: Array, sd: Array) -> Array:
    """Mean absolute value of a Gaussian."""
    z = mean / sd
    return np.asarray(sd * np.sqrt(2 / np.pi) * np.exp(-0.5 * z**2) + mean * (2 * ndtr(z) - 1))


def interval_score(low: ArrayLike, high: ArrayLike, truth: ArrayLike, level: float = 0.9) -> Array:
    """Return the interval score, in the truth's unit and shape: the width, and a penalty for missing the truth.

        (high - low) + 2/α (low - truth)₊ + 2/α (truth - high)₊,   α = 1 - level

    The quantiles (1 ± level) / 2 have the smallest expectation.

    low, high, truth : of one shape

    Raises
    ------
    ValueError
        If shapes differ, a number is NaN, an interval ends before it begins, or the level lies outside (0, 1).

    Reference: Gneiting & Raftery (2007), J. Am. Stat. Assoc. 102, 359-378, eq. 43.
    """
    penalty = 2 / (1 - credible_level(level))
    one, two, true = (np.asarray(value, dtype=np.float64) for value in (low, high, truth))
    if not one.shape == two.shape == true.shape:
        raise ValueError(f"low {one.shape}, high {two.shape} and truth {true.shape} must have one shape")
    if np.isnan(one).any() or np.isnan(two).any() or not np.isfinite(true).all():
        raise ValueError("low, high or truth hold NaN; there is no score of them")
    if (two < one).any():
        raise ValueError(f"{int((two < one).sum())} intervals end before they begin; low must not exceed high")
    return np.asarray(two - one + penalty * np.maximum(one - true, 0) + penalty * np.maximum(true - two, 0))
