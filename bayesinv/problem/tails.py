"""Tails of the noise's distribution: those of the normal, or heavier ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayesinv.axes import Array

if TYPE_CHECKING:
    from bayesinv.problem.problem import Problem

TAILS = ("normal", "student")
"""What the noise's tails may be."""


def sensor_columns(problem: Problem) -> Array:
    """Return what noise of one sensor alone puts into the components: (component, sensor), columns of length one.

    Its unit is the variance of the sensor's noise given that of all others, 1 / (Wᵀ W)_ii. Where no sensors are known
    they are the components.
    """

    def made() -> Array:
        whitener = problem.whitener
        if whitener is None:
            return np.eye(problem.components)
        return np.asarray(whitener / np.maximum(np.linalg.norm(whitener, axis=0), 1e-300))

    return problem.shared.recall("sensor columns", (), made)


def sample_units(problem: Problem) -> Array:
    """Return the variance of the noise of each sample given that at all other times, relative to its own: (time,)."""
    whitening = problem.time_whitening
    if whitening is None:
        return np.ones(len(problem.times))
    inverse = np.linalg.inv(whitening.mean_root)
    return np.asarray(1 / np.sum(inverse**2, axis=0))
