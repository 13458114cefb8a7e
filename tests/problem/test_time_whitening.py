"""Whitening over time: the noise is what it is said to be, and white afterwards."""

import numpy as np
import pytest
from coloured import STEP, coloured, groups_of, noise_covariance, samples_covariance, time_correlation
from numpy.testing import assert_allclose
from scipy.stats import multivariate_normal

from bayesinv.covariance.covariance import Structure
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.problem.autocorrelation import Autocorrelation


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("gap", [0, 3])
def test_correlations_are_those_of_the_noise_that_is_left(groups, centred, gap):
    problem = coloured(groups, centred=centred, gap=gap)
    found, (quiet, recorded) = problem.time_whitening, samples_covariance(problem)
    assert_allclose(found.correlations, recorded, atol=1e-12)
    back = found.basis @ found.baseline_correlations @ found.basis.T
    assert_allclose(back, quiet, atol=1e-12)
    assert_allclose(found.basis.T @ found.basis, np.eye(problem.baseline_freedom), atol=1e-12)


@pytest.mark.parametrize("groups", [1, 2])
def test_white_is_the_inverse_of_coloured(groups, rng):
    problem = coloured(groups, centred=True)
    unit = rng.standard_normal((5, 7))
    assert_allclose(problem.time_whitening.white(problem.time_whitening.coloured(unit)), unit, atol=1e-8)
    unit = rng.standard_normal((5, problem.baseline_freedom))
    back = problem.time_whitening.white_baseline(problem.time_whitening.coloured_baseline(unit))
    assert_allclose(back, unit, atol=1e-8)


@pytest.mark.parametrize("groups", [1, 2])
def test_volumes_are_those_of_the_correlations(groups):
    problem = coloured(groups, centred=True)
    each = np.linalg.slogdet(problem.time_whitening.correlations)[1]
    assert_allclose(problem.time_whitening.log_volumes, each[groups_of(problem)], rtol=1e-6)


def test_groups_of_one_colour_are_one():
    """Their modes of time are exact then; those that colours share are not."""
    two = coloured(2, samples=9, quiet=8)
    values = np.stack([two.autocorrelation.values[0]] * 2)
    two = two.with_fields(autocorrelation=Autocorrelation(values, STEP, ("meg", "eeg")))
    one = two.with_fields(autocorrelation=Autocorrelation(values[0], STEP))
    assert two.time_whitening.groups == 1
    structure = Structure(time=0.006)
    first, second = (Spectrum.of(each, structure).log_likelihood(np.ones(1), np.ones(1)) for each in (one, two))
    assert_allclose(first, second, rtol=1e-12)
    covariance = np.kron(two.gain @ two.gain.T, time_correlation(two, 0.006)) + noise_covariance(one)
    wanted = multivariate_normal(cov=covariance).logpdf(two.recording.ravel())
    assert_allclose(second, wanted, rtol=1e-9)
