"""Random currents, noise and recordings of a given structure."""

from __future__ import annotations

import numpy as np

from bayesinv.axes import Array
from bayesinv.covariance.covariance import Structure
from bayesinv.prior.patches import Patches
from bayesinv.problem.problem import Problem
from bayesinv.problem.time_whitening import JITTER, several_colours


def draw_noise(problem: Problem, structure: Structure, noise: float, rng: np.random.Generator) -> Array:
    """Return random noise (component, time) of a structure in the recording's samples."""
    unit = noise * rng.standard_normal((problem.components, len(problem.times)))
    root, whitening, modes = structure.noise_root(problem), problem.time_whitening, structure.modes(problem)
    unit = unit if root is None else root @ unit
    if modes is not None:
        for block, spread in zip(modes.blocks, modes.spreads, strict=True):
            unit[:, block] *= 1.0 if spread is None else spread[:, None]
        # Modes are orthonormal where all samples have noise alike and it is white.
        alike = whitening is None and structure.sample_noise is None
        return unit if alike else unit @ modes.from_modes.T
    return unit if whitening is None else whitening.coloured(unit)


def draw_baseline(problem: Problem, structure: Structure, noise: float, rng: np.random.Generator) -> Array:
    """Return a random baseline (component, sample) of a structure, with mean 0 where the problem's has been centred."""
    assert problem.baseline is not None
    root, whitening = structure.noise_root(problem), problem.time_whitening
    count = problem.baseline.shape[1] if whitening is None else problem.baseline_freedom
    unit = noise * rng.standard_normal((problem.components, count))
    unit = unit if root is None else root @ unit
    found = unit if whitening is None else whitening.coloured_baseline(unit)
    return found - found.mean(axis=1, keepdims=True) if problem.baseline_centred else found


def draw_focal(
    problem: Problem, structure: Structure, variance: float, focal: Patches, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Return random currents (amplitude, time), dense and focal, and their field (component, time) with its error.

    focal : a prior of focal sources on the gain of this problem
    """
    patterns, strength, constant, error, head = focal.draw(rng)
    count, axes, whitening = len(problem.times), problem.axes, problem.time_whitening
    several = several_colours(whitening)
    # Of several colours courses without a constant get theirs at the end, in the view of each group of sensors.
    root: Array = np.eye(count) if whitening is None or several else whitening.mean_root
    if constant is not None:
        root = np.asarray(np.linalg.cholesky(focal.correlation(constant) + JITTER * np.eye(count)))

    def courses(rows: int) -> Array:
        return np.asarray(rng.standard_normal((rows, count)) @ root.T)

    current = np.sqrt(variance) * structure.sample(problem, courses(structure.sample_size(problem)))
    sources = np.zeros_like(current)
    for axis in range(axes):
        sources[axis::axes] = patterns @ (strength[:, None] * courses(len(strength)))
    current += sources
    off = error * courses(problem.components)
    if several and constant is not None:
        assert whitening is not None
        off = whitening.by_group(off, whitening.across)
    field = problem.gain @ current + off
    for coordinate, mode in zip(head, () if problem.gain_modes is None else problem.gain_modes, strict=True):
        field += coordinate * (mode @ sources)
    if several and constant is None:
        assert whitening is not None
        return current @ whitening.mean_root.T, whitening.coloured(field)
    return current, field


def draw_recording(
    problem: Problem,
    structure: Structure,
    variance: float,
    noise: float,
    rng: np.random.Generator,
    focal: Patches | None = None,
) -> tuple[Array, Array]:
    """Return random currents (amplitude, time) of a structure and the recording (component, time) that they make.

    focal : a prior of focal sources above them; None for none
    """
    if focal is not None:
        current, field = draw_focal(problem, structure, variance, focal, rng)
        return current, field + draw_noise(problem, structure, noise, rng)
    count = len(problem.times)
    current = np.sqrt(variance) * structure.sample(
        problem, rng.standard_normal((structure.sample_size(problem), count))
    )
    model_error = None
    if structure.error and problem.error_factor is not None:
        factor = problem.error_factor
        model_error = structure.error * np.sqrt(variance) * (factor @ rng.standard_normal((factor.shape[1], count)))
    root, whitening = structure.time_root(problem), problem.time_whitening
    if structure.time is not None:
        assert root is not None
        current = current @ root.T
        model_error = None if model_error is None else model_error @ root.T
    field = problem.gain @ current
    field = field if model_error is None else field + model_error
    if structure.time is None and whitening is not None:
        assert root is not None
        field, current = whitening.coloured(field), current @ root.T
    return current, field + draw_noise(problem, structure, noise, rng)
