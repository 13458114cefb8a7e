"""Evidence and currents of long recordings by their stretches, against the dense normal density and dense algebra."""

import numpy as np
import pytest
from coloured import STEP, coloured, noise_covariance, time_correlation
from numpy.testing import assert_allclose
from scipy.linalg import cho_factor, cho_solve

import bayesinv as bi
from bayesinv.covariance import stretches
from bayesinv.covariance.covariance import Structure
from bayesinv.covariance.stretches import TOLERANCE
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.posterior.functionals import Functional
from bayesinv.posterior.stretched import StretchedGaussians, gaussians_of

CONSTANT, VARIANCE, NOISE, SAMPLES = 0.01, 0.4, 1.2, 400
STRUCTURE = Structure(time=CONSTANT)
OFF = np.sqrt(2 * TOLERANCE)
"""Standard deviation of a log density by what stretches leave out, and most by which a mean moves, in sd."""


@pytest.fixture(scope="module")
def dense():
    """A problem drawn from its model, the factor of its covariance, time fastest, and the covariance of a current."""
    problem, rng = coloured(samples=SAMPLES), np.random.default_rng(5)
    over = VARIANCE * time_correlation(problem, CONSTANT)
    recorded = np.kron(problem.gain @ problem.gain.T, over) + NOISE**2 * noise_covariance(problem)
    drawn = np.linalg.cholesky(recorded) @ rng.standard_normal(len(recorded))
    problem = problem.again(drawn.reshape(5, SAMPLES), problem.times)
    return problem, cho_factor(recorded, lower=True), over


@pytest.fixture
def long(dense, monkeypatch):
    """The problem, in stretches."""
    monkeypatch.setattr(stretches, "DENSE", 100)
    problem = dense[0].again(dense[0].recording, dense[0].times)
    assert Spectrum.of(problem, STRUCTURE).stretches.count > 3
    return problem


@pytest.fixture
def gaussians(long):
    """The Gaussians of one node."""
    found = gaussians_of(Spectrum.of(long, STRUCTURE), np.ones(1), np.array([VARIANCE]), np.array([NOISE]))
    assert isinstance(found, StretchedGaussians)
    return found


def test_the_log_density_is_that_of_the_dense_normal(dense, long):
    (root, _), recording = dense[1], dense[0].recording.ravel()
    wanted = -0.5 * (recording @ cho_solve(dense[1], recording) + len(recording) * np.log(2 * np.pi))
    wanted -= np.log(np.diag(root)).sum()
    found = Spectrum.of(long, STRUCTURE).log_likelihood(np.array([VARIANCE]), np.array([NOISE]))[0]
    assert_allclose(found, wanted, rtol=0, atol=4 * OFF)


@pytest.mark.parametrize("course", ["matern", "autoregressive"])
@pytest.mark.parametrize("noise", [None, np.array([1.0, 1.7])])
def test_it_is_that_of_samples_taken_together(long, monkeypatch, course, noise):
    """At ratios of currents to noise from none to all, for an instance of each course."""
    structure = Structure(time=CONSTANT, course=course, noise=noise)
    at = np.array([0.0, 1e-3, 0.03, 1.0, 30.0]), np.full(5, NOISE)
    found = Spectrum.of(long, structure)
    assert found.stretches is not None
    monkeypatch.setattr(stretches, "DENSE", SAMPLES)
    together = Spectrum.of(long.again(long.recording, long.times), structure)
    assert together.stretches is None
    assert_allclose(found.log_likelihood(*at), together.log_likelihood(*at), rtol=1e-7, atol=4 * OFF)
    for one, other in zip(found.sensitivity(0.4, 1.2), together.sensitivity(0.4, 1.2), strict=True):
        assert_allclose(one, other, atol=OFF * np.abs(other).max())


def test_the_slope_by_the_time_constant_is_that_of_differences(long):
    at, step = (np.array([VARIANCE]), np.array([NOISE])), 1e-5
    ends = [Spectrum.of(long, Structure(time=CONSTANT + size)).log_likelihood(*at)[0] for size in (step, -step)]
    found = Spectrum.of(long, STRUCTURE).slope_by_time(VARIANCE, NOISE)
    assert_allclose(found, (ends[0] - ends[1]) / (2 * step), rtol=1e-4)


def test_means_and_variances_are_those_of_dense_algebra(dense, gaussians):
    problem, factor, over = dense
    crossing, some = np.kron(problem.gain.T[::4], over), slice(None, None, 4)
    mean = (crossing @ cho_solve(factor, problem.recording.ravel())).reshape(3, SAMPLES)
    reduction = np.einsum("ij,ji->i", crossing, cho_solve(factor, crossing.T)).reshape(3, SAMPLES)
    sd = np.sqrt(np.diag(over) - reduction)
    found, variance = np.zeros((9, SAMPLES)), np.zeros((9, SAMPLES))
    gaussians.add_mean(found)
    gaussians.add_variance(variance)
    assert np.abs((found[some] - mean) / sd).max() < OFF
    assert_allclose(np.sqrt(variance[some]), sd, rtol=OFF)
    weight, node_mean, node_sd = next(gaussians.gaussians(slice(2, 5), slice(30, 90), 0.0))
    assert weight == 1
    assert_allclose(node_mean, found[2:5, 30:90], rtol=1e-9)
    assert_allclose(node_sd, np.sqrt(variance)[2:5, 30:90], rtol=1e-9)


@pytest.fixture(scope="module")
def sums(dense):
    """Two functionals, and their dense mean (functional, time) and covariance (functional, time, functional, time)."""
    problem, factor, over = dense
    table = np.random.default_rng(1).standard_normal((2, 9))
    projected = np.kron(table @ problem.gain.T, over)
    mean = (projected @ cho_solve(factor, problem.recording.ravel())).reshape(2, SAMPLES)
    covariance = np.kron(table @ table.T, over) - projected @ cho_solve(factor, projected.T)
    return table, mean, covariance.reshape(2, SAMPLES, 2, SAMPLES)


def test_functionals_of_a_window_and_their_courses_are_those_of_dense_algebra(dense, long, gaussians, sums):
    table, mean, covariance = sums
    found = Functional.of([gaussians], long, long.times, table, (STEP * 97, STEP * 131))
    over = np.zeros(SAMPLES)
    over[97:132] = 1 / 35
    wanted = np.einsum("ftgu,t,u->fg", covariance, over, over)
    assert_allclose(found.covariance[0], wanted, rtol=OFF, atol=OFF * np.diag(wanted).max())
    assert np.abs((found.mean[:, 0] - mean @ over) / found.sd[:, 0]).max() < OFF
    averaged = gaussians.averaged(over)
    at_once = averaged.functionals(table, slice(0, 1), None, False, False)
    assert_allclose(at_once[1][0][0], wanted, rtol=OFF, atol=OFF * np.diag(wanted).max())
    samples = slice(95, 140)
    courses = gaussians.functionals(table, samples, None, False, True)[2].covariance(0)
    dense_courses = covariance[:, samples, :, samples].reshape(courses.shape)
    assert_allclose(courses, dense_courses, atol=OFF * dense_courses.max())


def test_draws_have_the_covariance_of_the_courses(gaussians, sums):
    """Of 500 draws, at four samples of two functionals: within five standard errors."""
    table, mean, covariance = sums
    count, samples = 500, [0, 3, 200, 399]
    drawn = gaussians.draw(np.zeros(count, dtype=int), np.random.default_rng(2), slice(None))
    values = np.einsum("fa,dat->dft", table, drawn[:, :, samples]).reshape(count, -1)
    wanted = covariance[:, samples][:, :, :, samples].reshape(8, 8)
    sd = np.sqrt(np.diag(wanted))
    assert np.abs((values.mean(axis=0) - mean[:, samples].ravel()) / sd).max() < 5 / np.sqrt(count)
    error = np.sqrt((np.outer(sd, sd) ** 2 + wanted**2) / count)
    assert np.abs((np.cov(values.T) - wanted) / error).max() < 5


def test_a_joint_draw_of_too_many_samples_says_what_to_do(gaussians, monkeypatch):
    monkeypatch.setattr("bayesinv.posterior.stretched.MAX_TOGETHER", 300)
    courses = gaussians.functionals(np.ones((1, 9)), slice(0, 300), None, False, True)[2]
    with pytest.raises(ValueError, match="give a window"):
        courses.covariance(0)


def test_courses_too_slow_for_their_recording_are_refused_where_they_have_weight(monkeypatch):
    monkeypatch.setattr(stretches, "MAX_TOGETHER", 500)
    monkeypatch.setattr("bayesinv.posterior.stretched.MAX_TOGETHER", 500)
    spectrum = Spectrum.of(coloured(samples=900), Structure(time=20.0))
    with pytest.raises(ValueError, match=r"time constant of 10000 samples, too long .* fewer samples per second"):
        gaussians_of(spectrum, np.ones(1), np.ones(1), np.ones(1))
    assert isinstance(gaussians_of(spectrum, np.array([1e-7]), np.ones(1), np.ones(1)), StretchedGaussians)


@pytest.mark.slow
def test_an_inference_in_stretches_is_that_of_samples_taken_together(monkeypatch):
    """Means, deviations, evidence and time constant, within the errors of the lattice."""
    found = []
    for limit in (100, 1000):
        monkeypatch.setattr(stretches, "DENSE", limit)
        rng = np.random.default_rng(3)
        plain = coloured(samples=SAMPLES, quiet=60)
        course = np.linalg.cholesky(time_correlation(plain, CONSTANT) + 1e-9 * np.eye(SAMPLES))
        current = rng.standard_normal((9, SAMPLES)) @ course.T
        noise = plain.time_whitening.coloured(rng.standard_normal((5, SAMPLES)))
        problem = plain.again(plain.gain @ current + noise, plain.times, plain.baseline)
        found.append(bi.infer("temporal", problem, draws=500))
        assert isinstance(found[-1].conditionals[0], StretchedGaussians) == (limit == 100)
    one, other = found
    assert_allclose(float(one.log_evidence), float(other.log_evidence), atol=4 * OFF + 1e-3)
    assert_allclose(one.hyper["constant"].interval(0.9), other.hyper["constant"].interval(0.9), rtol=OFF)
    assert np.abs((one.mean - other.mean) / other.sd).max() < 4 * OFF
    assert_allclose(one.sd, other.sd, rtol=4 * OFF)
    assert_allclose(one.fitted, other.fitted, atol=4 * OFF * np.abs(other.fitted).max())
    checks, others = ({check.name: check.passed for check in each.checks} for each in found)
    # In stretches there is no mode of time without currents, from which the noise could be judged.
    assert checks == {name: passed for name, passed in others.items() if name != "noise over time, recording"}
