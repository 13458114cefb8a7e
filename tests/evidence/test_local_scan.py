"""One draw of every local scale, and exchanges, against dense algebra, quadrature and enumeration."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from bayesinv.evidence.local_scan import exchange, scan

POINTS = 48


def covariance(fields, logs, variance):
    """Of a sample, with noise of scale one."""
    total = np.eye(fields.shape[2])
    for block, log in zip(fields, logs, strict=True):
        total = total + variance * np.exp(2 * log) * block.T @ block
    return total


def log_likelihood(fields, logs, variance, recording):
    values, vectors = np.linalg.eigh(covariance(fields, logs, variance))
    powers = np.sum((vectors.T @ recording) ** 2, axis=1)
    return -0.5 * float(np.sum(recording.shape[1] * np.log(values) + powers / values))


def scanned(fields, recording, logs, variance, rng):
    """The precision after a scan, which changes the logs in place."""
    # Of one spacing all values would stay on one lattice.
    spacing = np.exp(rng.uniform(np.log(0.05), np.log(0.5)))
    precision = np.linalg.inv(covariance(fields, logs, variance))
    order, places = rng.permutation(len(fields)), rng.integers(POINTS, size=len(fields))
    chances, samples = rng.random(len(fields)), float(recording.shape[1])
    scan(fields, precision, recording, logs, variance, samples, order, places, chances, spacing, POINTS)
    return precision


@pytest.mark.parametrize("axes", [1, 3])
def test_the_precision_follows(axes, rng):
    fields, recording = rng.normal(size=(37, axes, 6)), rng.normal(size=(6, 5))
    logs = rng.normal(size=37)
    before = logs.copy()
    precision = scanned(fields, recording, logs, 0.7, rng)
    assert (logs != before).mean() > 0.8
    assert_allclose(precision, np.linalg.inv(covariance(fields, logs, 0.7)), atol=1e-11)
    starts, neighbours = np.arange(38) * 36, np.concatenate([np.delete(np.arange(37), j) for j in range(37)])
    was = logs.copy()
    count = exchange(fields, precision, recording, logs, 0.7, 5.0, starts, neighbours, rng.random((100, 3)))
    assert 0 < count < 100
    assert_array_equal(np.sort(logs), np.sort(was))
    assert_allclose(precision, np.linalg.inv(covariance(fields, logs, 0.7)), atol=1e-11)


@pytest.mark.parametrize("axes", [1, 3])
def test_one_source_is_drawn_from_its_posterior(axes):
    rng = np.random.default_rng(3)
    fields, recording = rng.normal(size=(1, axes, 4)), 2 * rng.normal(size=(4, 3))
    grid = np.linspace(-12, 12, 601)
    heights = np.array([log_likelihood(fields, [x], 0.5, recording) for x in grid]) - np.logaddexp(grid, -grid)
    mass = np.exp(heights - heights.max())
    mass /= mass.sum()
    mean = mass @ grid
    variance = mass @ (grid - mean) ** 2
    logs, found = np.zeros(1), []
    for _ in range(6000):
        scanned(fields, recording, logs, 0.5, rng)
        found.append(logs[0])
    found = np.array(found).reshape(60, -1)
    error = found.mean(axis=1).std(ddof=1) / np.sqrt(60)
    assert abs(found.mean() - mean) < 4 * error
    square = (found - mean) ** 2
    assert abs(square.mean() - variance) < 4 * square.mean(axis=1).std(ddof=1) / np.sqrt(60)
    assert error < 0.05 * np.sqrt(variance)


@pytest.mark.parametrize("axes", [1, 3])
def test_exchanges_visit_every_order_as_often_as_it_is_probable(axes):
    rng = np.random.default_rng(4)
    fields, recording = rng.normal(size=(3, axes, 5)), rng.normal(size=(5, 2))
    # The one in the middle has two neighbours.
    starts, neighbours = np.array([0, 1, 3, 4]), np.array([1, 0, 2, 1])
    values = np.array([-1.0, 0.1, 0.7])
    orders = list(itertools.permutations(range(3)))
    heights = np.array([log_likelihood(fields, values[list(one)], 0.6, recording) for one in orders])
    wanted = np.exp(heights - heights.max())
    wanted /= wanted.sum()
    logs = values.copy()
    precision = np.linalg.inv(covariance(fields, logs, 0.6))
    counts = np.zeros((50, 6))
    for k in range(20_000):
        exchange(fields, precision, recording, logs, 0.6, 2.0, starts, neighbours, rng.random((1, 3)))
        counts[k // 400, orders.index(tuple(np.searchsorted(values, logs)))] += 1
    shares = counts / 400
    error = shares.std(axis=0, ddof=1) / np.sqrt(50)
    assert (np.abs(shares.mean(axis=0) - wanted) < 4 * error + 1e-3).all()
    assert error.max() < 0.02


def test_a_source_without_field_has_its_prior():
    rng = np.random.default_rng(5)
    fields, recording = rng.normal(size=(2, 1, 3)), rng.normal(size=(3, 4))
    fields[1] = 0.0
    logs, found = np.zeros(2), []
    for _ in range(6000):
        scanned(fields, recording, logs, 0.5, rng)
        found.append(logs[1])
    # The quartiles of log |Cauchy| are log tan(π/8) = -0.881, 0 and 0.881.
    below = np.array([np.mean(np.array(found) < q) for q in (-0.8814, 0.0, 0.8814)])
    assert_allclose(below, [0.25, 0.5, 0.75], atol=0.04)
