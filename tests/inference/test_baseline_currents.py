"""Currents that were there before the response: found in the baseline, by the density that dense algebra gives."""

import numpy as np
import pytest
from coloured import SLOW, STEP, ar, coloured, samples_covariance
from numpy.testing import assert_allclose
from scipy.linalg import eigh
from scipy.optimize import minimize_scalar

import bayesinv as bi
from bayesinv.covariance.covariance import Structure
from bayesinv.covariance.time_course import correlation_over_time
from bayesinv.inference.baseline_currents import baseline_currents_checks
from bayesinv.posterior.mixture import Mixture
from bayesinv.problem.autocorrelation import Autocorrelation

# Slow currents in the baseline look like a mean that was not subtracted.
pytestmark = pytest.mark.filterwarnings("ignore:the baseline has a mean:UserWarning")

NAME = "currents in the baseline"
SENSORS, SOURCES, SAMPLES, QUIET = 40, 60, 41, 50


def plugged(problem, structure, variance, noise=1.0):
    """The check at known scales."""
    mixed = Mixture(np.ones(1), np.array([variance]), np.array([noise]), np.zeros(1, dtype=int), (structure,))
    return baseline_currents_checks(problem, mixed)


def scene(seed, response=0.0, background=0.0, colour=(0.5,), **options):
    """Slow currents: of a response, in the recording alone, and in the background, from the baseline on."""
    rng = np.random.default_rng(seed)
    gain = rng.standard_normal((SENSORS, SOURCES)) / np.sqrt(SOURCES) * np.geomspace(3, 0.03, SENSORS)[:, None]
    times = STEP * np.arange(-QUIET, SAMPLES)
    field = ar(colour, (SENSORS, len(times)), rng)
    for size, since in ((response, 0), (background, -QUIET)):
        course = correlation_over_time(times[QUIET + since :], 0.02)
        root = np.linalg.cholesky(course + 1e-9 * np.eye(len(course)))
        field[:, QUIET + since :] += size * gain @ rng.standard_normal((SOURCES, len(root))) @ root.T
    return bi.Problem.from_arrays(
        gain, field[:, QUIET:], times=times[QUIET:], baseline=field[:, :QUIET], **{"noise_time": "auto"} | options
    )


def check_of(model, problem):
    return next(one for one in bi.infer(model, problem, draws=50).checks if one.name == NAME)


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("time", [None, 0.006])
@pytest.mark.parametrize("white", [False, True])
def test_the_evidence_is_that_of_dense_densities(centred, time, white):
    problem = coloured(quiet=26, centred=centred)
    if white:
        problem = problem.with_fields(autocorrelation=Autocorrelation([1.0], STEP), baseline_centred=False)
    noise, variance = 1.1, 0.4
    basis = np.linalg.qr(np.eye(26)[:, 1:] - 1 / 26)[0] if problem.baseline_centred else np.eye(26)
    before, now = samples_covariance(problem)
    parts = [(problem.baseline @ basis, basis.T @ before[0] @ basis), (problem.recording, now[0])]
    if time is not None:
        courses = correlation_over_time(problem.times_of_baseline, time), correlation_over_time(problem.times, time)
        courses = basis.T @ courses[0] @ basis, courses[1]
    else:
        courses = [over for _, over in parts]

    def diagonalised(table, basis_courses, over):
        """Variances of currents in units of the noise's, the table in their basis, and the noise's volume."""
        signal, error = np.kron(problem.gain @ problem.gain.T, basis_courses), noise**2 * np.kron(np.eye(5), over)
        values, vectors = eigh(variance * signal, error)
        return values, vectors.T @ table.ravel(), np.linalg.slogdet(error)[1]

    dense = [diagonalised(table, course, over) for (table, over), course in zip(parts, courses, strict=True)]

    def density(log_ratio, which):
        values, table, volume = dense[which]
        spread = 1 + np.exp(log_ratio) * values
        return -0.5 * (np.sum(table**2 / spread + np.log(2 * np.pi * spread)) + volume)

    def largest(*which):
        ratios = np.linspace(-30, 5, 36)
        heights = [sum(density(one, k) for k in which) for one in ratios]
        middle = ratios[int(np.argmax(heights))]
        best = minimize_scalar(
            lambda one: -sum(density(one, k) for k in which), bounds=(middle - 1, middle + 1), method="bounded"
        )
        return best.x, -best.fun

    (then, first), (here, second), (_, both) = largest(0), largest(1), largest(0, 1)
    assert here > then
    check = plugged(problem, Structure(time=time), variance, noise)[0]
    assert_allclose(check.value, first + second - both, atol=1e-3)
    assert check.value > 0.1


def test_several_colours_take_the_noise_of_each():
    """One colour by two names is one, but for the modes of time that two share."""
    problem = coloured(2, quiet=26)
    one = Autocorrelation(np.stack([SLOW, SLOW]), STEP, ("meg", "eeg"))
    twice, single = problem.with_fields(autocorrelation=one), coloured(1, quiet=26)
    found = [plugged(each, Structure(time=0.006), 0.4)[0].value for each in (twice, single)]
    assert_allclose(*found, rtol=0.05)


@pytest.mark.parametrize("seed", range(2))
def test_a_background_that_passes_for_a_response_is_told(seed):
    """No covariance times a correlation over time holds it, and a model of slow currents takes it for its own."""
    check = check_of("temporal", scene(seed, background=1.0))
    assert not check.passed
    assert check.value < 2
    assert "passes for a response" in check.note


@pytest.mark.parametrize("seed", range(2))
def test_a_response_is_one(seed):
    for background in (0.0, 0.3):
        check = check_of("temporal", scene(seed, response=1.5, background=background))
        assert check.passed
        assert check.value > 2


@pytest.mark.slow
def test_noise_alone_makes_no_alarm_more_often_than_it_passes_for_currents():
    """A claim of currents has a chance of one in twenty; the model that has no time constant makes it more rarely."""
    alarms = [not check_of("temporal", scene(seed)).passed for seed in range(20)]
    assert sum(alarms) <= 4
    assert all(check_of("hierarchical", scene(seed)).passed for seed in range(5))


def test_what_a_short_baseline_cannot_tell_is_said():
    """Currents that hardly change over a baseline are gone with its mean."""
    problem = scene(0, response=1.5)
    quiet = problem.baseline - problem.baseline.mean(axis=1, keepdims=True)
    short = problem.with_fields(baseline=quiet, baseline_centred=True)
    check = plugged(short, Structure(time=20.0), 1.0)[0]
    assert not check.passed
    assert "too short" in check.note


def test_without_enough_of_a_baseline_nothing_is_judged():
    assert not plugged(coloured(quiet=10), Structure(time=0.006), 0.4)
    assert not plugged(coloured(quiet=0), Structure(time=0.006), 0.4)
    assert not plugged(coloured(quiet=26), Structure(time=0.006), 0.0)
