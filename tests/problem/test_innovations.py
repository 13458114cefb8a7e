"""Innovations against the dense matrices whose roots they are."""

from dataclasses import replace

import numpy as np
import pytest
from coloured import coloured
from numpy.testing import assert_allclose
from scipy.linalg import toeplitz

from bayesinv.problem import time_whitening
from bayesinv.problem.innovations import Innovations
from bayesinv.problem.time_whitening import TimeWhitening

COUNT, QUIET = 400, 50


def correlation(kind):
    """Correlation (lag,): of an autoregressive process, cut off where the matrices are, or of a moving average."""
    if kind == "autoregressive":
        return np.append(0.7 ** np.arange(70), np.zeros(COUNT - 70))
    taps = np.append(1.0, 0.1 * 0.7 ** np.arange(20) * np.random.default_rng(0).standard_normal(20))
    return np.append(np.correlate(taps, taps, "full")[20:] / np.sum(taps**2), np.zeros(COUNT - 21))


@pytest.fixture(params=["autoregressive", "moving average"])
def pair(request):
    """Innovations of a process, and its dense correlation."""
    lags = correlation(request.param)
    found = Innovations.of(lags, 3)
    assert found is not None
    assert len(found.coefficients) < 60
    return found, toeplitz(lags)


def less_mean(pair):
    """The same after the mean of the samples before was subtracted from process and innovations."""
    found, dense = pair
    full = toeplitz(np.append(dense[0], np.zeros(QUIET)))
    remove = np.hstack([np.full((COUNT, QUIET), -1 / QUIET), np.eye(COUNT)])
    crossing, variance = full[QUIET:, :QUIET].mean(axis=1), full[:QUIET, :QUIET].mean()
    return found.without_mean(crossing, variance), remove @ full @ remove.T


@pytest.mark.parametrize("subtracted", [False, True])
class TestInnovations:
    def test_they_are_the_root_of_the_correlation(self, pair, subtracted):
        found, dense = less_mean(pair) if subtracted else pair
        root = found.coloured(np.eye(COUNT)).T
        assert_allclose(root, np.linalg.cholesky(dense), atol=1e-5)
        assert_allclose(found.white(found.coloured(np.eye(COUNT))), np.eye(COUNT), atol=1e-12)

    def test_the_log_density_is_the_dense_one_to_tolerance(self, pair, subtracted):
        """Stopping at an order loses the tolerance in expectation, and its root by chance."""
        found, dense = less_mean(pair) if subtracted else pair
        table = np.random.default_rng(1).standard_normal((3, COUNT)) @ np.linalg.cholesky(dense).T
        white = found.white(table)
        near = -0.5 * np.sum(white**2) - 3 * found.log_diagonal.sum()
        exact = -0.5 * np.sum(table * np.linalg.solve(dense, table.T).T) - 1.5 * np.linalg.slogdet(dense)[1]
        assert abs(near - exact) < 1e-3


def test_a_memory_as_long_as_the_recording_is_left_to_the_matrices():
    lags = (1 - np.arange(COUNT) / COUNT) * np.sinc(0.3 * np.arange(COUNT))
    assert Innovations.of(lags, 3) is None


def test_a_white_process_needs_no_past():
    found = Innovations.of(np.append(4.0, np.zeros(COUNT - 1)), 3)
    table = np.random.default_rng(0).standard_normal((2, COUNT))
    assert_allclose(found.white(table), table / 2)
    assert_allclose(found.coloured(table), 2 * table)


@pytest.mark.parametrize("centred", [False, True])
def test_long_recordings_are_whitened_as_by_the_matrices(monkeypatch, centred):
    """Of the baseline a rotation is free, so that its powers and volumes are compared."""
    problem = coloured(2, samples=700, quiet=600, centred=centred)
    monkeypatch.setattr(time_whitening, "DENSE", 1000)
    dense = TimeWhitening.of(problem)
    table, quiet = problem.recording, problem.baseline
    white, still_white = dense.white(table), dense.white_baseline(quiet)
    monkeypatch.setattr(time_whitening, "DENSE", 100)
    found = replace(dense)
    assert_allclose(found.white(table), white, atol=1e-4)
    assert_allclose(found.log_diagonals, dense.log_diagonals, atol=1e-6)
    powers = np.sum(found.white_baseline(quiet) ** 2, axis=1)
    assert_allclose(powers, np.sum(still_white**2, axis=1), rtol=1e-6)
    assert_allclose(found.baseline_log_volumes, dense.baseline_log_volumes, atol=1e-6)
    rng, freedom = np.random.default_rng(0), 600 - int(centred)
    unit, still = rng.standard_normal((5, 700)), rng.standard_normal((5, freedom))
    assert_allclose(dense.white(found.coloured(unit)), unit, atol=1e-4)
    assert_allclose(found.white_baseline(found.coloured_baseline(still)), still, atol=1e-10)
    assert found.white_baseline(quiet).shape == (5, freedom)
    assert "roots" not in vars(found)
    assert "roots" in vars(dense)
