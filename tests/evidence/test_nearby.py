"""Spectra of other time constants by the modes of one, against the spectra themselves and differences."""

import numpy as np
import pytest
from coloured import coloured
from numpy.testing import assert_allclose

from bayesinv.covariance.covariance import Structure
from bayesinv.evidence.nearby import NearbySpectra
from bayesinv.evidence.spectrum import Spectrum

CONSTANT, VARIANCE, NOISE = 0.01, np.array([0.3, 2.0]), np.array([1.2, 0.7])


def spectrum(problem, time, course="matern"):
    return Spectrum.of(problem, Structure(time=time, course=course))


def test_at_the_constant_of_its_modes_it_is_the_spectrum():
    own = spectrum(coloured(samples=17, centred=True), CONSTANT)
    near = NearbySpectra(own).at(CONSTANT)
    assert_allclose(near.powers, own.modes.powers, rtol=1e-9, atol=1e-12)
    # The grid of eigenvalues costs nine digits.
    found, wanted = (one.log_likelihood(VARIANCE, NOISE) for one in (near.likelihood, own.likelihood))
    assert_allclose(found, wanted, rtol=1e-8)
    assert_allclose(near.likelihood.baseline_log_likelihood(NOISE), own.likelihood.baseline_log_likelihood(NOISE))


@pytest.mark.parametrize("course", ["matern", "autoregressive"])
def test_two_samples_in_white_noise_have_the_same_modes_at_all_constants(course):
    problem = coloured(samples=2)
    problem = problem.again(problem.recording, problem.times)
    vars(problem)["time_whitening"] = None
    near = NearbySpectra(spectrum(problem, CONSTANT, course))
    for time in (0.3 * CONSTANT, 4 * CONSTANT):
        own = spectrum(problem, time, course)
        assert_allclose(near.at(time).powers, own.modes.powers, rtol=1e-9)
        found = near.at(time).likelihood.log_likelihood(VARIANCE, NOISE)
        assert_allclose(found, own.likelihood.log_likelihood(VARIANCE, NOISE), rtol=1e-8)
        slopes = [one.slope_by_time(VARIANCE[0], NOISE[0]) for one in (near.at(time), own)]
        assert_allclose(*slopes, rtol=1e-8)


def test_its_slope_is_that_of_its_log_density():
    near, time, step = NearbySpectra(spectrum(coloured(samples=17), CONSTANT)), 1.7 * CONSTANT, 1e-4 * CONSTANT
    above, below = (near.at(time + one).likelihood.log_likelihood(VARIANCE, NOISE) for one in (step, -step))
    for found, variance, noise in zip((above - below) / (2 * step), VARIANCE, NOISE, strict=True):
        assert_allclose(near.at(time).slope_by_time(variance, noise), found, rtol=1e-5)


def test_neighbours_differ_less_from_their_spectra_the_nearer_they_are():
    """Modes turn in proportion to the change of the constant, and the log density with them."""
    problem = coloured(samples=17)
    near, errors = NearbySpectra(spectrum(problem, CONSTANT)), []
    for share in (0.04, 0.02, 0.01):
        own = spectrum(problem, (1 + share) * CONSTANT).likelihood.log_likelihood(VARIANCE, NOISE)
        errors.append(np.abs(near.at((1 + share) * CONSTANT).likelihood.log_likelihood(VARIANCE, NOISE) - own).max())
    assert errors[2] < 0.6 * errors[1] < 0.6**2 * errors[0]
