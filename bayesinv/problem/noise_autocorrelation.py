"""Autocorrelation of the noise over time, and how many independent samples a recording is worth."""

from __future__ import annotations

import numpy as np

from bayesinv.axes import Array


def independent_samples(baseline: Array, samples: int) -> float:
    """Return the number of independent samples that a recording is worth, see `Problem.independent_samples`.

    baseline : (component, sample), in units of the noise
    samples : number of samples of the recording
    """
    centred = baseline - baseline.mean(axis=1, keepdims=True)
    count = centred.shape[1]
    power = np.sum(centred**2)
    if not power:
        return float(samples)
    lags = range(1, max(2, count // 4))
    correlation = np.array([np.sum(centred[:, lag:] * centred[:, :-lag]) / power for lag in lags])
    # The sum ends at the first lag whose correlation is within its own sampling error: beyond, it would add noise.
    error = 1 / np.sqrt(count * len(baseline))
    insignificant = np.flatnonzero(np.abs(correlation) < 3 * error)
    summed = correlation[: insignificant[0]] if insignificant.size else correlation
    return float(samples / (1 + 2 * np.sum(summed**2)))
