"""Currents by modes of time that noise of two colours shares, against dense algebra."""

import numpy as np
import pytest
from coloured import coloured, of_two_colours
from numpy.testing import assert_allclose

from bayesinv import infer
from bayesinv.covariance.covariance import Structure
from bayesinv.covariance.time_course import correlation_over_time
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.inference import shared_modes
from bayesinv.inference.shared_modes import conjugate_gradients, means_apart

VARIANCE, NOISE = 0.3, 0.8


@pytest.fixture(scope="module")
def spectrum():
    return Spectrum.of(coloured(2, samples=24), Structure(time=0.01))


def exact_means(spectrum):
    """Means (source, time) of the currents by dense algebra."""
    problem = spectrum.problem
    covariance = of_two_colours(problem, 0.01, "matern", VARIANCE, NOISE)
    over_time = correlation_over_time(problem.times, 0.01)
    solved = np.linalg.solve(covariance, problem.recording.ravel()).reshape(problem.recording.shape)
    return solved, VARIANCE * problem.gain.T @ solved @ over_time


def test_conjugate_gradients_solve_with_the_noise_of_each_colour(spectrum):
    over_time = correlation_over_time(spectrum.problem.times, 0.01)
    found = conjugate_gradients(spectrum, VARIANCE, NOISE, over_time)
    assert_allclose(found, exact_means(spectrum)[0], atol=1e-5 * np.abs(found).max())


def test_means_are_held_against_exact_ones(spectrum):
    """In posterior sd; both means and variances of shared modes are those of the posterior itself."""
    problem = spectrum.problem
    modes, total = spectrum.modes, VARIANCE * spectrum.eigenvalues + NOISE**2
    power = np.zeros((len(problem.gain.T), 24))
    means = np.zeros_like(power)
    for one, block in zip(spectrum.decompositions, spectrum.blocks, strict=True):
        back = problem.gain.T @ one.to_components
        for j in range(block.start, block.stop):
            share, course = VARIANCE * modes.powers[j], modes.from_modes[:, j]
            means += np.outer(back @ (share * spectrum.coefficients[:, j] / total[:, j]), course)
            power += np.outer(share - (share * back) ** 2 @ (1 / total[:, j]), course**2)
    wanted = np.sqrt(np.mean((exact_means(spectrum)[1] - means) ** 2 / power))
    assert wanted > 0.01
    assert_allclose(means_apart(spectrum, VARIANCE, NOISE), wanted, rtol=1e-3)


def test_kinds_of_sensor_may_have_scales_of_their_own():
    problem = coloured(2, samples=12)
    scales = np.array([{"mag": 1.5, "eeg": 0.7}[kind] for kind in problem.kinds])
    spectrum = Spectrum.of(problem, Structure(time=0.01, noise=scales))
    wider = np.repeat([1.5, 1.5, 1.5, 0.7, 0.7], 12)
    covariance = of_two_colours(problem, 0.01, "matern", VARIANCE, 0.0)
    covariance += np.outer(wider, wider) * of_two_colours(problem, 0.01, "matern", 0.0, NOISE)
    wanted = np.linalg.solve(covariance, problem.recording.ravel()).reshape(5, 12)
    found = conjugate_gradients(spectrum, VARIANCE, NOISE, correlation_over_time(problem.times, 0.01))
    assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())


def test_means_that_are_off_fail_a_check(monkeypatch):
    """The modes of other currents than these are shared less well."""
    monkeypatch.setattr(shared_modes, "MOST_OFF", 0.001)
    posterior = infer("temporal", coloured(2, samples=9), draws=20)
    check = next(one for one in posterior.checks if one.name == "currents of several colours")
    assert not check.passed
    assert "take MEG or EEG alone" in check.note
