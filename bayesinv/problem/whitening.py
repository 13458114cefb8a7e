"""Whitening: from sensors to components in which noise is white, and its inverse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from bayesinv.axes import Array, real
from bayesinv.problem.noise import Noise


def given_noise(
    noise_cov: ArrayLike, kinds: Sequence[str], rank: int | Mapping[str, int] | None, averages: float, sensors: int
) -> Noise:
    """Return the noise of a covariance (sensor, sensor) or variances (sensor,), for a number of sensors."""
    covariance = np.asarray(noise_cov)
    covariance = np.diag(covariance) if covariance.ndim == 1 else covariance
    covariance = real("noise covariance", covariance, "sensor sensor")
    if len(covariance) != sensors:
        raise ValueError(f"noise covariance has sensor = {len(covariance)}, but recording has sensor = {sensors}")
    return Noise(covariance, tuple(kinds), rank, averages)


def inverse_of(whitener: Array) -> Array:
    """Return the pseudoinverse (sensor, component) of a whitener (component, sensor)."""
    # Rows are scaled first: MEG and EEG differ by so many powers of ten that the inverse would lose all digits.
    lengths = np.linalg.norm(whitener, axis=1)
    return np.asarray(np.linalg.pinv(whitener / lengths[:, None]) / lengths)


def parts_by_kind(whitener: Array, noise: Noise, kinds: Sequence[str]) -> Array:
    """Return the whitened noise covariance by kind of sensor and kind of sensor: (kind, kind, component, component)."""
    names = np.array(noise.kinds)
    covariance = noise.covariance / noise.averages
    by_kind = [np.where(names == kind, whitener, 0) for kind in kinds]
    return np.array([[one @ covariance @ two.T for two in by_kind] for one in by_kind])
