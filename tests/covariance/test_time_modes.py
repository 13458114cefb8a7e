"""Modes of time that currents and noise of several colours share."""

import numpy as np
import pytest
from coloured import STEP, coloured, groups_of, time_correlation
from numpy.testing import assert_allclose

from bayesinv.covariance.time_modes import TimeModes, likely_constant
from bayesinv.problem.problem import Problem


@pytest.fixture
def problem():
    """Two colours, and currents with a time constant of 24 ms."""
    plain = coloured(2, samples=60, quiet=0)
    rng = np.random.default_rng(0)
    root = np.linalg.cholesky(time_correlation(plain, 0.024) + 1e-9 * np.eye(60))
    current = 5 * rng.standard_normal((9, 60)) @ root.T
    return plain.again(plain.gain @ current + plain.time_whitening.coloured(rng.standard_normal((5, 60))))


def test_noise_is_what_it_is_but_for_the_width_of_classes(problem):
    modes = TimeModes.of(problem, 0.024, "matern")
    assert_allclose(modes.from_modes.T @ modes.to_modes, np.eye(60), atol=1e-8)
    for group, matrix in enumerate(problem.time_whitening.correlations):
        member = int(np.flatnonzero(groups_of(problem) == group)[0])
        levels = np.concatenate(
            [np.full(b.stop - b.start, s[member] ** 2) for b, s in zip(modes.blocks, modes.spreads, strict=True)]
        )
        along = np.sum(modes.to_modes * (matrix @ modes.to_modes), axis=0)
        assert np.abs(np.log(along / levels)).max() < 0.35 / 2 + 1e-9
        # Off the diagonal stationary processes are nearly, not quite, diagonal in the shared modes.
        taken = (modes.from_modes * levels) @ modes.from_modes.T
        assert np.linalg.norm(taken - matrix) < 0.25 * np.linalg.norm(matrix)
        # At the ends of the window, where sinusoids of other processes end otherwise.
        assert_allclose(np.diag(taken), 1, atol=0.35)
        assert_allclose(np.diag(taken)[2:-2], 1, atol=0.1)


def test_the_likely_constant_is_found_and_its_currents_are_nearly_exact(problem):
    likely = likely_constant(problem, problem.time_whitening, "matern")
    assert 0.012 < likely < 0.048
    modes = TimeModes.of(problem, likely, "matern")
    found, wanted = modes.root @ modes.root.T, time_correlation(problem, likely)
    assert np.linalg.norm(found - wanted) < 0.05 * np.linalg.norm(wanted)


def test_currents_of_constants_nearby_keep_their_variance_at_every_sample(problem):
    likely = likely_constant(problem, problem.time_whitening, "matern")
    for factor in (0.9, 1.1):
        modes = TimeModes.of(problem, factor * likely, "matern")
        assert_allclose(np.sum(modes.root**2, axis=1), 1, atol=0.2)


def test_modes_do_not_move_with_the_constant(problem):
    one, other = (TimeModes.of(problem, constant, "matern") for constant in (0.01, 0.03))
    assert one.to_modes is other.to_modes
    assert isinstance(problem, Problem)
    assert pytest.approx(float(np.diff(problem.times)[0])) == STEP
