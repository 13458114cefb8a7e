"""Truths on a ring that learned structure is to find again."""

import numpy as np
import pytest
from scipy.stats import binom
from templates import simulate

import bayesinv as bi

pytestmark = pytest.mark.filterwarnings(
    "ignore:(?s).*ArviZ is undergoing a major refactor:FutureWarning", "ignore:the whitened baseline:UserWarning"
)


def enough(count, level):
    """Hits of right intervals of a level, as few of which come once in two hundred times."""
    return binom.ppf(0.005, count, level)


def ring(rng, *, sensors=18, sources=40, samples=12, quiet=40, **given):
    """A problem in a disc, whose gain is smooth over neighbours and falls with depth; and where its sources are."""
    angle, radius = rng.uniform(0, 2 * np.pi, sources), np.sqrt(rng.uniform(0.1, 0.9, sources))
    places = np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])
    around = 2 * np.pi * np.arange(sensors) / sensors
    apart = 1.2 * np.column_stack([np.cos(around), np.sin(around)])[:, None] - places
    turned = rng.uniform(0, 2 * np.pi, sources)
    gain = 1e8 * (apart[..., 0] * np.cos(turned) + apart[..., 1] * np.sin(turned)) / np.sum(apart**2, axis=2)
    field = np.ones((sensors, samples))
    return places, bi.Problem.from_arrays(
        gain, field, times=0.01 * np.arange(samples), baseline=np.ones((sensors, quiet)), **given
    )


def root(covariance):
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0))


def heard(problem, relative, rng, *, snr=3.0, course=None, noise=None):
    """Currents (amplitude, time) of a relative covariance that reach the sensors with an SNR, and their recording."""
    gain, (components, samples) = problem.gain, problem.recording.shape
    scale = snr / np.sqrt(np.trace(gain @ relative @ gain.T) / components)
    current = scale * root(relative) @ rng.normal(size=(len(relative), samples))
    if course is not None:
        current = current @ root(course).T
    quiet = problem.baseline.shape[1]
    error = rng.normal(size=(components, samples + quiet))
    error = error if noise is None else root(noise) @ error
    return current, problem.again(gain @ current + error[:, :samples], problem.times, baseline=error[:, samples:])


def likeness(posterior, current):
    """Correlation, over sources, of the size of the posterior mean with that of the truth."""
    found, truth = np.linalg.norm(posterior.mean, axis=-1), np.linalg.norm(current, axis=-1)
    return float(np.corrcoef(found, truth)[0, 1])


def covers(posterior, name, value, level=0.9):
    low, high = posterior.hyper[name].interval(level)
    return low <= value <= high


def share_covered(posterior, current, level=0.9):
    low, high = posterior.interval(level)
    return float(np.mean((low <= current) & (current <= high)))


def slow(rng, samples=16, quiet=24):
    """A recording of currents whose courses are correlated, all of it drawn from the temporal model's own prior."""
    _, problem = ring(rng, sensors=10, sources=15, samples=samples, quiet=quiet)
    return simulate("temporal", problem, rng)
