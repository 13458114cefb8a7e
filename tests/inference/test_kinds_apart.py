"""Currents by kind of sensor: the ratio is that of dense densities of each kind, and a gain that is off is told."""

import numpy as np
import pytest
from coloured import STEP, coloured, groups_of
from numpy.testing import assert_allclose
from scipy.optimize import minimize_scalar

import bayesinv as bi
from bayesinv.covariance.covariance import Structure
from bayesinv.covariance.time_course import correlation_over_time
from bayesinv.inference.kinds_apart import kinds_apart_checks
from bayesinv.posterior.mixture import Mixture

NAME = "currents by kind of sensor"
ELECTRODES, COILS, SOURCES, SAMPLES, QUIET = 14, 17, 60, 40, 50


def scene(seed, off=1.0, time=None):
    """Currents that the gain of MEG is off for by a factor, in white noise."""
    rng = np.random.default_rng(seed)
    kinds = ("eeg",) * ELECTRODES + ("mag",) * COILS
    gain = rng.standard_normal((len(kinds), SOURCES)) / np.sqrt(SOURCES)
    currents = 2 * rng.standard_normal((SOURCES, SAMPLES))
    if time is not None:
        over = correlation_over_time(STEP * np.arange(SAMPLES), time) + 1e-9 * np.eye(SAMPLES)
        currents = currents @ np.linalg.cholesky(over).T
    noise = rng.standard_normal((len(kinds), QUIET + SAMPLES))
    recording = gain @ currents + noise[:, QUIET:]
    gain[ELECTRODES:] *= off
    return bi.Problem.from_arrays(
        gain,
        recording,
        np.eye(len(kinds)),
        times=STEP * np.arange(SAMPLES),
        baseline=noise[:, :QUIET],
        kinds=kinds,
        noise_time="white",
    )


def check_of(model, problem):
    return next(one for one in bi.infer(model, problem, draws=50).checks if one.name == NAME)


@pytest.mark.parametrize("time", [None, 0.006])
def test_ratio_and_evidence_are_those_of_dense_densities(time):
    problem, noise = coloured(2, samples=9), 1.1
    problem = problem.with_fields(recording=problem.recording * np.array([[2.0], [2], [2], [1], [1]]))
    mixed = Mixture(np.ones(1), np.array([0.4]), np.array([noise]), np.zeros(1, dtype=int), (Structure(time=time),))
    kinds, over = groups_of(problem), problem.time_whitening.correlations
    names = problem.autocorrelation.groups

    def density(log_variance, group):
        rows = kinds == group
        gain, noises = problem.gain[rows], np.kron(np.eye(rows.sum()), over[group])
        courses = over[group] if time is None else correlation_over_time(problem.times, time)
        covariance = np.exp(log_variance) * np.kron(gain @ gain.T, courses) + noise**2 * noises
        table = problem.recording[rows].ravel()
        return -0.5 * (table @ np.linalg.solve(covariance, table) + np.linalg.slogdet(covariance)[1])

    def largest(*groups):
        grid = np.linspace(-10, 4, 29)
        heights = [sum(density(one, k) for k in groups) for one in grid]
        middle = grid[int(np.argmax(heights))]
        best = minimize_scalar(
            lambda one: -sum(density(one, k) for k in groups), bounds=(middle - 1, middle + 1), method="bounded"
        )
        return best.x, -best.fun

    (eeg, first), (meg, second) = largest(names.index("eeg")), largest(names.index("meg"))
    check = kinds_apart_checks(problem, mixed)[0]
    assert_allclose(check.value, np.exp(0.5 * (eeg - meg)), rtol=0.01)
    nats = first + second - largest(0, 1)[1]
    assert float(check.note.split("; ")[1].split(" nats")[0]) == pytest.approx(nats, rel=0.01, abs=0.01)
    assert nats > 0.1


@pytest.mark.parametrize(("model", "time"), [("hierarchical", None), ("temporal", 0.01)])
def test_a_gain_of_one_kind_that_is_off_fails_and_one_that_is_not_passes(model, time):
    check = check_of(model, scene(1, 2.0, time))
    assert not check.passed
    assert check.value == pytest.approx(2.0, rel=0.2)
    assert "conductivities" in check.note
    right = check_of(model, scene(1, 1.0, time))
    assert right.passed
    assert "conductivities" not in right.note


def test_the_noise_of_each_kind_may_be_learned():
    assert not check_of("sensor_noise", scene(2, 0.4)).passed
    assert check_of("sensor_noise", scene(2)).passed


def test_one_kind_has_nothing_to_differ_from():
    problem = scene(3).without(sensors=list(range(ELECTRODES)))
    assert all(one.name != NAME for one in bi.infer("hierarchical", problem, draws=50).checks)
