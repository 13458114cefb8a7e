"""Quantiles and tail probabilities of all currents, from few nodes that stand for all.

Given a structure, a current's mean depends on the ratio of source to noise variance alone, and its variance on that and
the noise's scale. Both are smooth, so that a Gauss rule over ratio and noise integrates functions of them with few
points. How many is measured: at some currents and samples the answer of few nodes is held against that of all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri

from bayesinv.axes import Array, Index
from bayesinv.interpolation.gauss_rules import gauss_rule
from bayesinv.posterior.conditional import row_blocks
from bayesinv.posterior.mixture import Mixture
from bayesinv.posterior.quantiles import exceedance, interval

if TYPE_CHECKING:
    from bayesinv.posterior.posterior import Posterior

POINTS = ((2, 1), (3, 1), (5, 1), (7, 1), (9, 1), (9, 2), (13, 2), (17, 3))
"""Points along the ratio and the noise's scale that are tried in turn."""

TOLERANCE, TOLERANCE_OF_PROBABILITIES = 5e-4, 5e-5
"""Error of quantiles from few nodes, in posterior sd, and of probabilities."""

PRECISE = 3e-4
"""Error of the search for a quantile, in units of the smallest sd."""

ROWS, SAMPLES = 48, 6
"""Amplitudes and samples at which few nodes are held against all."""

MAX_NUMBERS = 2**22
"""Largest number of nodes' means in memory at once."""


def few_nodes(mixture: Mixture, ratios: int, noises: int) -> Mixture:
    """Return the mixture with at most `ratios` * `noises` nodes for each structure.

    Reference: Golub & Welsch (1969), Math. Comp. 23, 221-230.
    """
    found: list[tuple[Array, Array, Array, Array]] = []
    for k in np.unique(mixture.which[mixture.weights > 0]):
        mine = (mixture.which == k) & (mixture.weights > 0)
        mass, scale = mixture.weights[mine], mixture.noise[mine]
        if mine.sum() <= ratios * noises or not mixture.variance[mine].all():
            found.append((mass, mixture.variance[mine], scale, mixture.which[mine]))
            continue
        ratio, own = mixture.variance[mine] / scale**2, np.log(scale)
        # The logarithm of large ratios, the root of small ones, at which currents are as good as none.
        unit = float(mass @ ratio) / float(mass.sum())
        places = np.arcsinh(np.sqrt(ratio / unit))
        points, shares = gauss_rule(places, mass, ratios)
        points = np.clip(points, places.min(), places.max())
        # What the ratio does not say of the noise's scale has a rule of its own.
        middle, level = mass @ places / mass.sum(), mass @ own / mass.sum()
        power = float(mass @ (places - middle) ** 2)
        slope = float(mass @ ((places - middle) * own)) / power if power else 0.0
        rest, parts = gauss_rule(own - level - slope * (places - middle), mass, noises)
        levels = np.exp(np.add.outer(level + slope * (points - middle), rest).ravel())
        variance = unit * np.sinh(np.repeat(points, len(rest))) ** 2 * levels**2
        found.append((mass.sum() * np.outer(shares, parts).ravel(), variance, levels, np.full(len(levels), k)))
    weights, variance, noise, which = (np.concatenate(parts) for parts in zip(*found, strict=True))
    kept = weights > 0
    return Mixture(weights[kept], variance[kept], noise[kept], which[kept], mixture.structures)


def intervals(posterior: Posterior, level: float, samples: slice) -> tuple[Array, Array]:
    """Lower and upper bounds (amplitude, time) of central intervals, to a thousandth of each posterior sd."""
    sds = 2 * float(ndtri((1 + level) / 2))

    def error(few: Posterior, rows: Index, some: Index) -> float:
        found, wanted = (np.array(interval(one.gaussians(rows, some), level)) for one in (few, posterior))
        return float(np.max(np.abs(found - wanted) / (wanted[1] - wanted[0]))) * sds

    few = _condensed(posterior, samples, error, TOLERANCE)
    low, high = np.empty((2, *_shape(posterior, samples)))
    # All Gaussians of a block are in memory at once, so that the search for quantiles does not recompute them.
    step = max(1, MAX_NUMBERS // (low.shape[1] * len(few.mixture.weights)))
    for start in range(0, len(low), step):
        rows = slice(start, start + step)
        low[rows], high[rows] = interval(few.gaussians(rows, samples), level, PRECISE)
    return low, high


def exceedances(posterior: Posterior, threshold: float, samples: slice) -> Array:
    """P(|current| > threshold), (amplitude, time), to a ten-thousandth."""

    def error(few: Posterior, rows: Index, some: Index) -> float:
        found, wanted = (exceedance(one.gaussians(rows, some), threshold) for one in (few, posterior))
        return float(np.max(np.abs(found - wanted)))

    few = _condensed(posterior, samples, error, TOLERANCE_OF_PROBABILITIES)
    out = np.empty(_shape(posterior, samples))
    for rows in row_blocks(len(out)):
        out[rows] = exceedance(few.gaussians(rows, samples), threshold)
    return out


def _shape(posterior: Posterior, samples: slice) -> tuple[int, int]:
    return posterior.problem.gain.shape[1], len(posterior.times[samples])


def _condensed(
    posterior: Posterior, samples: slice, error: Callable[[Posterior, Index, Index], float], tolerance: float
) -> Posterior:
    """Return a posterior of few nodes that stands for one, as an error says; the posterior itself where none does.

    error : of the answer of another posterior, at some amplitudes and samples
    tolerance : largest error
    """
    if posterior.active is not None or posterior.time_weights is not None:
        return posterior
    count, length = _shape(posterior, samples)
    rows, some = (
        np.unique(np.linspace(0, n - 1, k).round().astype(np.int64)) for n, k in ((count, ROWS), (length, SAMPLES))
    )
    some = np.arange(len(posterior.times))[samples][some]
    for ratios, noises in POINTS:
        mixture = few_nodes(posterior.mixture, ratios, noises)
        if 2 * len(mixture.weights) > len(posterior.mixture.weights):
            break
        few = replace(posterior, mixture=mixture)
        if error(few, rows, some) < tolerance:
            return few
    return posterior
