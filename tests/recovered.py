"""Simulated recordings whose structure the posterior of a model should recover."""

import numpy as np
import pytest
from scipy.stats import binom
from templates import simulate

import bayesinv as bi

pytestmark = pytest.mark.filterwarnings(
    "ignore:(?s).*ArviZ is undergoing a major refactor:FutureWarning", "ignore:the whitened baseline:UserWarning"
)


def fewest_hits(count, level):
    """Hits of intervals of a level that calibrated ones fall below at most once in two hundred times."""
    return binom.ppf(0.005, count, level)


def disc_problem(rng, *, sensors=18, sources=40, samples=12, quiet=40, **options):
    """Positions (source, 2) and a problem in a disc: the gain is smooth over neighbours and falls with depth."""
    angle, radius = rng.uniform(0, 2 * np.pi, sources), np.sqrt(rng.uniform(0.1, 0.9, sources))
    positions = np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])
    sensor_angle = 2 * np.pi * np.arange(sensors) / sensors
    offset = 1.2 * np.column_stack([np.cos(sensor_angle), np.sin(sensor_angle)])[:, None] - positions
    orientation = rng.uniform(0, 2 * np.pi, sources)
    gain = (
        1e8 * (offset[..., 0] * np.cos(orientation) + offset[..., 1] * np.sin(orientation)) / np.sum(offset**2, axis=2)
    )
    field = np.ones((sensors, samples))
    return positions, bi.Problem.from_arrays(
        gain, field, times=0.01 * np.arange(samples), baseline=np.ones((sensors, quiet)), **options
    )


def square_root(covariance):
    """A square root of a covariance matrix, by its eigenvectors."""
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0))


def simulated(problem, relative, rng, *, snr=3.0, course=None, noise=None):
    """Currents (amplitude, time) of a relative covariance, scaled to an SNR, and the problem of their recording."""
    gain, (components, samples) = problem.gain, problem.recording.shape
    scale = snr / np.sqrt(np.trace(gain @ relative @ gain.T) / components)
    current = scale * square_root(relative) @ rng.normal(size=(len(relative), samples))
    if course is not None:
        current = current @ square_root(course).T
    baseline_samples = problem.baseline.shape[1]
    error = rng.normal(size=(components, samples + baseline_samples))
    error = error if noise is None else square_root(noise) @ error
    return current, problem.again(gain @ current + error[:, :samples], problem.times, baseline=error[:, samples:])


def map_correlation(posterior, current):
    """Correlation, over sources, of the size of the posterior mean with that of the truth."""
    found, truth = np.linalg.norm(posterior.mean, axis=-1), np.linalg.norm(current, axis=-1)
    return float(np.corrcoef(found, truth)[0, 1])


def covers(posterior, name, value, level=0.9):
    """Whether the interval of a hyperparameter holds a value."""
    low, high = posterior.hyper[name].interval(level)
    return low <= value <= high


def share_covered(posterior, current, level=0.9):
    """Share of the currents that their intervals hold."""
    low, high = posterior.interval(level)
    return float(np.mean((low <= current) & (current <= high)))


def correlated_currents(rng, samples=16, quiet=24):
    """A recording of currents that are correlated over time, drawn from the temporal model's own prior."""
    _, problem = disc_problem(rng, sensors=10, sources=15, samples=samples, quiet=quiet)
    return simulate("temporal", problem, rng)
