"""Correlation of the noise over time, and what it costs in independent samples."""

from __future__ import annotations

import numpy as np

from bayesinv.axes import Array


def independent_samples(baseline: Array, samples: int) -> float:
    """How many independent samples as many of a recording are worth, see `Problem.independent_samples`.

    baseline : (component, sample), in units of the noise
    """
    centred = baseline - baseline.mean(axis=1, keepdims=True)
    count = centred.shape[1]
    power = np.sum(centred**2)
    if not power:
        return float(samples)
    lags = range(1, max(2, count // 4))
    correlation = np.array([np.sum(centred[:, lag:] * centred[:, :-lag]) / power for lag in lags])
    # Beyond the lags that stand out of an autocorrelation's own sampling error there is only noise to add up.
    error = 1 / np.sqrt(count * len(baseline))
    large = np.flatnonzero(np.abs(correlation) < 3 * error)
    kept = correlation[: large[0]] if large.size else correlation
    return float(samples / (1 + 2 * np.sum(kept**2)))
