"""Uncertainty over time where a baseline's mean was subtracted, against the dense normal distribution."""

import numpy as np
import pytest
from coloured import coloured, dense, mixed
from numpy.testing import assert_allclose

from bayesinv.covariance.covariance import Structure
from bayesinv.posterior.quantiles import mixture_quantile

STRUCTURES = {
    "plain": (Structure(),),
    "depths": (Structure(), Structure(depth=0.5)),
    "with a time constant": (Structure(), Structure(time=0.006)),
}


@pytest.fixture(params=[1, 2], ids=["one colour", "two colours"])
def problem(request):
    return coloured(request.param, samples=9, centred=True)


@pytest.fixture(params=STRUCTURES)
def posterior(request, problem):
    return mixed(problem, STRUCTURES[request.param], nodes=3)


def nodes_of(posterior):
    """Weights (node,), means (node, source, time), covariances (node, source × time, same) and prior variances."""
    problem, mixture = posterior.problem, posterior.mixture
    found = []
    for weight, variance, noise, k in zip(mixture.weights, mixture.variance, mixture.noise, mixture.which, strict=True):
        currents, covariance, crossing = dense(problem, mixture.structures[k], variance, noise)
        solved = np.linalg.solve(covariance, crossing.T).T
        shape = (problem.source_count, len(problem.times))
        found.append(
            (
                weight,
                (solved @ problem.recording.ravel()).reshape(shape),
                currents - solved @ crossing.T,
                np.diag(currents).reshape(shape),
            )
        )
    weights, means, covariances, priors = (np.array(one) for one in zip(*found, strict=True))
    if problem.time_whitening.groups > 1:
        # Under two colours the mean of a sample is taken from its own recording alone.
        means = np.array([mean for _, mean, _ in posterior.gaussians(slice(None), slice(None))])
    return weights, means, covariances, priors


def test_moments_and_intervals_are_those_of_the_dense_density(posterior):
    weights, means, covariances, priors = nodes_of(posterior)
    variances = np.diagonal(covariances, axis1=1, axis2=2).reshape(means.shape)
    mean, within = (np.tensordot(weights, one, axes=1) for one in (means, variances))
    sd = np.sqrt(within + np.tensordot(weights, means**2, axes=1) - mean**2)
    assert np.ptp(variances, axis=2).max() > 0.05 * variances.max()
    assert_allclose(posterior.mean, mean, atol=1e-6 * np.abs(mean).max())
    assert_allclose(posterior.within_variance, within, rtol=1e-5)
    assert_allclose(posterior.sd, sd, rtol=1e-5)
    low, high = posterior.interval(0.9)
    for found, probability in ((low, 0.05), (high, 0.95)):
        wanted = mixture_quantile(weights, means, np.sqrt(variances), probability)
        assert_allclose(found, wanted, atol=1e-3 * sd.max())
    assert_allclose(posterior.prior_variance, np.tensordot(weights, priors.mean(axis=2), axes=1), rtol=1e-6)


def test_a_sample_alone_is_as_sure_as_among_the_others(posterior):
    for k in (0, 4, 8):
        assert_allclose(posterior.averaged(posterior.times[k]).sd[:, 0], posterior.sd[:, k], rtol=1e-5)


def test_shrinkage_is_that_of_variances(posterior):
    weights, _, covariances, priors = nodes_of(posterior)
    share = 1 - np.diagonal(covariances, axis1=1, axis2=2).reshape(priors.shape) / priors
    assert_allclose(posterior.shrinkage, np.tensordot(weights, share, axes=1).mean(axis=1), rtol=1e-5)


def test_functionals_of_samples_are_those_of_the_dense_density(posterior):
    weights, means, covariances, _ = nodes_of(posterior)
    table = np.random.default_rng(1).standard_normal((2, posterior.problem.source_count))
    times = posterior.times[[2, 6]]
    whole, part = posterior.contrast(table), posterior.contrast(table, tuple(times))
    assert part.times.shape == (1,)
    count = len(posterior.times)
    for node in range(len(weights)):
        covariance = covariances[node].reshape(-1, count, len(covariances[node]) // count, count)
        each = np.einsum("fa,atbt,gb->tfg", table, covariance, table)
        assert_allclose(whole.means[node], table @ means[node], atol=1e-6 * np.abs(whole.means).max())
        assert_allclose(whole.covariances[node], each, rtol=1e-5, atol=1e-6 * each.max())
        mean = np.einsum("fa,atbs,gb->fg", table, covariance[:, 2:7][:, :, :, 2:7], table) / 25
        assert_allclose(part.covariances[node][0], mean, rtol=1e-5, atol=1e-6 * mean.max())


@pytest.mark.parametrize("tails", [False, True])
def test_samples_of_more_noise_have_uncertainty_of_their_own(problem, tails):
    noisy = np.zeros(9)
    noisy[4] = 3.0 * tails
    one = mixed(problem, (Structure(sample_noise=noisy),), nodes=2)
    spread = one.draw(4000, 0).std(axis=0)
    assert_allclose(spread, one.sd, rtol=0.06)
    for k in (0, 4, 8):
        assert_allclose(one.averaged(one.times[k]).sd[:, 0], one.sd[:, k], rtol=1e-5)
    assert np.ptp(one.within_variance, axis=1).max() > 0.05 * one.within_variance.max()
