"""Random currents, noise and recordings of a given structure."""

from __future__ import annotations

import numpy as np

from bayesinv.axes import Array
from bayesinv.covariance.covariance import Structure
from bayesinv.problem.problem import Problem


def draw_noise(problem: Problem, structure: Structure, noise: float, samples: int, rng: np.random.Generator) -> Array:
    """Return random noise (component, sample) of a structure."""
    unit = noise * rng.standard_normal((problem.components, samples))
    root = structure.noise_root(problem)
    return unit if root is None else root @ unit


def draw_recording(
    problem: Problem, structure: Structure, variance: float, noise: float, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Return random currents (amplitude, time) of a structure and the recording (component, time) that they make."""
    count = len(problem.times)
    current = np.sqrt(variance) * structure.sample(
        problem, rng.standard_normal((structure.sample_size(problem), count))
    )
    model_error = None
    if structure.error and problem.error_factor is not None:
        factor = problem.error_factor
        model_error = structure.error * np.sqrt(variance) * (factor @ rng.standard_normal((factor.shape[1], count)))
    root = structure.time_root(problem.times)
    if root is not None:
        current = current @ root.T
        model_error = None if model_error is None else model_error @ root.T
    recording = problem.gain @ current + draw_noise(problem, structure, noise, count, rng)
    return current, recording if model_error is None else recording + model_error
