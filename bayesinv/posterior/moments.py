"""Mean, variance and standard deviation of a mixture of Gaussians, some amplitudes at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bayesinv.axes import Array
from bayesinv.posterior.conditional import Moments, row_blocks


def mean(parts: Sequence[Moments], size: int, length: int) -> Array:
    """Return the mean (amplitude, time)."""
    out = np.zeros((size, length))
    for one in parts:
        one.add_mean(out)
    out.flags.writeable = False
    return out


def within(parts: Sequence[Moments], size: int, length: int) -> Array:
    """Return the mean over hyperparameters of the conditional variance: (amplitude, time), or (amplitude, 1)."""
    varies = any(one.varies for one in parts)
    out = np.zeros((size, length if varies else 1))
    for one in parts:
        one.add_variance(out)
    np.maximum(out, 0.0, out=out)
    out.flags.writeable = False
    return out


def sd(parts: Sequence[Moments], size: int, length: int, mean: Array | None) -> Array:
    """Return the standard deviation (amplitude, time), within plus between hyperparameters.

    mean : (amplitude, time), of the full mixture where it has several parts; None where it has one
    """
    found = [one.second_moments(mean is not None) for one in parts]
    out = np.empty((size, length))
    for rows in row_blocks(size):
        within, between = np.zeros((1, 1)), np.zeros((rows.stop - rows.start, length))
        for at in found:
            variance, terms = at(rows)
            within = within + variance
            for term in terms:
                between += term
        if mean is not None:
            between -= mean[rows] ** 2
        np.maximum(between, 0.0, out=between)
        between += np.maximum(within, 0.0)
        np.sqrt(between, out=out[rows])
    out.flags.writeable = False
    return out
