"""A sensor that is off in one sample is told from currents of any strength and from single sources; by likelihood."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.linalg import sqrtm
from scipy.stats import multivariate_normal

import bayesinv as bi
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.inference.outliers import outlier_checks
from bayesinv.inference.residuals import PlugIn
from bayesinv.inference.rivals import Explained, Shifts
from bayesinv.posterior.mixture import Mixture

SENSORS, SOURCES, SAMPLES, QUIET = 24, 70, 30, 40
NOISE = 1.2


def scene(seed=0, spoil=None, axes=1, currents=0.0):
    """A problem whose fields are as smooth as those of a head, so that strong currents explain nearly all of a sample.

    currents : standard deviation, relative to where field and noise are as large
    """
    rng = np.random.default_rng(seed)
    where, places = np.linspace(0, 1, SENSORS), rng.uniform(-0.1, 1.1, SOURCES)
    depth = rng.uniform(0.08, 0.4, SOURCES)
    gain = np.exp(-((where[:, None] - places) ** 2) / depth**2) * rng.choice([-1, 1], SOURCES)
    if axes == 3:
        gain = np.stack([gain, np.gradient(gain, axis=0) * 5, 0.1 * gain**2], axis=2)
    distance = np.abs(np.subtract.outer(where, where))
    covariance = 0.02 * np.eye(SENSORS) + np.exp(-distance / 0.3)
    noise = np.real(sqrtm(covariance)) @ rng.standard_normal((SENSORS, SAMPLES + QUIET))
    flat = gain.reshape(SENSORS, -1)
    field = flat @ rng.standard_normal((flat.shape[1], SAMPLES))
    recording = noise[:, :SAMPLES] + currents * field / np.sqrt(np.mean(field**2))
    if spoil is not None:
        spoil(flat, recording)
    return bi.Problem.from_arrays(
        gain,
        recording,
        covariance,
        baseline=noise[:, SAMPLES:],
        noise_time="white",
        times=0.01 * np.arange(SAMPLES),
    )


def plugged(problem, power=0.5):
    return PlugIn(Spectrum.of(problem, None), power / problem.signal_power, NOISE)


def values(problem):
    """The check of single values at the scales that the hierarchical model's maximum has, as outliers inflate it."""
    spectrum = Spectrum.of(problem, None)
    grid = np.geomspace(1e-4, 1e8, 60) / problem.signal_power
    best = grid[int(np.argmax(spectrum.log_likelihood(grid, np.ones(len(grid)))))]
    nodes = np.ones(1), np.array([best]), np.ones(1), np.zeros(1, dtype=int)
    return next(one for one in outlier_checks(problem, Mixture(*nodes, (None,))) if one.name == "outlying values")


class TestShifts:
    def test_gains_are_those_of_explicit_normal_densities(self):
        problem, strengths = scene(currents=0.5), np.array([0.3, 4.0])
        at = plugged(problem)
        project, table = at.project, at.spectrum.to_components.T @ problem.recording[:, :3]
        rows = np.concatenate([project, (at.spectrum.to_components.T @ problem.gain).T])
        directions = np.hstack([problem.whitener, problem.gain]).T
        shifts = Shifts.of(rows, table, at.variance * at.spectrum.eigenvalues * strengths + NOISE**2)
        first, second = 5, SENSORS + 11
        both = shifts.without(first)
        for k, strength in enumerate(strengths):
            covariance = strength * at.variance * problem.gain @ problem.gain.T + NOISE**2 * np.eye(SENSORS)
            solved = np.linalg.inv(covariance)
            for t, y in enumerate(problem.recording[:, :3].T):

                def best(*chosen, y=y, solved=solved, covariance=covariance):
                    columns = directions[list(chosen)].T
                    size = np.linalg.lstsq(columns.T @ solved @ columns, columns.T @ solved @ y)[0]
                    return multivariate_normal(np.zeros(SENSORS), covariance).logpdf(y - columns @ size)

                constant = 0.5 * SENSORS * np.log(2 * np.pi)
                none = multivariate_normal(np.zeros(SENSORS), covariance).logpdf(y)
                assert_allclose(shifts.log_likelihood[t, k], none + constant, rtol=1e-9)
                assert_allclose(shifts.gains[first, t, k], best(first) - none, rtol=1e-6, atol=1e-8)
                assert_allclose(both.log_likelihood[t, k], best(first) + constant, rtol=1e-9)
                assert_allclose(both.gains[second, t, k], best(first, second) - best(first), rtol=1e-6, atol=1e-8)


class TestASampleOfOneSensor:
    @pytest.mark.parametrize("size", [30, 900])
    @pytest.mark.parametrize("axes", [1, 3])
    @pytest.mark.parametrize("sensor", [0, 11])
    def test_is_named_though_strong_currents_explain_it(self, sensor, axes, size):
        def spoil(gain, recording):
            recording[sensor, 13] += size

        for seed in range(2):
            check = values(scene(seed, spoil, axes))
            assert not check.passed
            assert check.note.split(": ")[1].startswith(f"sensor {sensor} at 130 ms")

    def test_two_sensors_in_one_sample(self):
        def spoil(gain, recording):
            recording[[4, 17], 13] += [30, -25]

        at = plugged(scene(0, spoil))
        found = Explained.of(at, np.array([12, 13]), 1.0, 5.0, ())
        assert [np.flatnonzero(one).tolist() for one in found.sds.T] == [[], [4, 17]]

    def test_beside_a_strong_source(self):
        def spoil(gain, recording):
            recording[:, 13] += 100 * gain[:, 30]
            recording[4, 13] += 30

        found = Explained.of(plugged(scene(0, spoil)), np.array([13]), 1.0, 5.0, ())
        assert np.flatnonzero(found.sds[:, 0]).tolist() == [4]


class TestCurrents:
    @pytest.mark.parametrize("strength", [5, 50, 500])
    def test_a_single_source_of_one_sample_is_no_fault(self, strength):
        """Of the one whose field is most like that of a sensor alone."""

        def spoil(gain, recording):
            narrowest = int(np.argmax(np.abs(gain).max(axis=0) / np.linalg.norm(gain, axis=0)))
            recording[:, 13] += strength * gain[:, narrowest]

        for seed in range(3):
            assert values(scene(seed, spoil)).passed

    @pytest.mark.parametrize("strength", [5, 50, 500])
    def test_nor_are_currents_everywhere(self, strength):
        def spoil(gain, recording):
            recording[:, 13] += strength * gain @ np.random.default_rng(1).standard_normal(gain.shape[1])

        for seed in range(3):
            assert values(scene(seed, spoil)).passed
