"""Residuals of sensors given all others, held against explicit conditionals of normal distributions."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from referee import GAIN, toy

import bayesinv as bi
from bayesinv.covariance.covariance import Structure
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.inference.residuals import PlugIn, independent
from bayesinv.posterior.mixture import Mixture

pytestmark = pytest.mark.filterwarnings("ignore:the whitened baseline:UserWarning")

NOISE = 1.3


def conditional(covariance, values, i):
    """Standardised residual of number i of a normal vector, given all others, from its definition."""
    rest = np.delete(np.arange(len(covariance)), i)
    filters = np.linalg.solve(covariance[np.ix_(rest, rest)], covariance[rest, i])
    variance = covariance[i, i] - filters @ covariance[rest, i]
    return (values[i] - filters @ values[rest]) / np.sqrt(variance)


def in_sensors(seed=0, sensors=7, axes=1, kinds=(), samples=4, quiet=5, sources=9):
    """A problem of sensors in SI units, whose noise is correlated; and its covariance."""
    rng = np.random.default_rng(seed)
    root = 1e-13 * (np.eye(sensors) + 0.4 * rng.normal(size=(sensors, sensors)))
    gain = 1e-5 * rng.normal(size=(sensors, sources) if axes == 1 else (sensors, sources, axes))
    problem = bi.Problem.from_arrays(
        gain,
        1e-13 * rng.normal(size=(sensors, samples)),
        root @ root.T,
        times=0.01 * np.arange(samples),
        baseline=1e-13 * rng.normal(size=(sensors, quiet)),
        kinds=kinds,
    )
    return problem, gain.reshape(sensors, -1), root @ root.T


def plugged(problem, structure=None, power=2.0):
    spectrum = Spectrum.of(problem, structure)
    return PlugIn(spectrum, power / problem.signal_power, NOISE)


class TestConditionals:
    @pytest.mark.parametrize("axes", [1, 3])
    def test_of_components(self, axes):
        problem = toy(axes=axes)
        at = plugged(problem)
        covariance = at.variance * problem.gain @ problem.gain.T + NOISE**2 * np.eye(problem.components)
        for i in range(problem.components):
            for t, field in enumerate(problem.recording.T):
                assert_allclose(at.recording().standardised[i, t], conditional(covariance, field, i), rtol=1e-9)

    @pytest.mark.parametrize("axes", [1, 3])
    @pytest.mark.parametrize("strength", [1.0, 25.0])
    def test_of_sensors(self, axes, strength):
        problem, gain, noise = in_sensors(axes=axes)
        at = plugged(problem)
        covariance = strength * at.variance * gain @ gain.T + NOISE**2 * noise
        found = at.recording(strength).standardised
        for i in range(len(gain)):
            for t, field in enumerate(problem.field.field.T):
                assert_allclose(found[i, t], conditional(1e26 * covariance, 1e13 * field, i), rtol=1e-7)

    def test_of_sensors_whose_noise_differs_by_kind(self):
        kinds = ["mag"] * 3 + ["eeg"] * 4
        problem, gain, noise = in_sensors(kinds=kinds)
        structure = Structure(noise=np.array([1.7 if kind == "eeg" else 0.6 for kind in problem.kinds]))
        by_kind = np.array([1.7 if kind == "eeg" else 0.6 for kind in kinds])
        at = plugged(problem, structure)
        noise = NOISE**2 * by_kind[:, None] * noise * by_kind
        field, quiet = (np.linalg.inv(problem.whitener) @ one for one in (problem.recording, problem.baseline))
        for i in range(len(gain)):
            total = at.variance * gain @ gain.T + noise
            assert_allclose(
                at.recording().standardised[i, 1], conditional(1e26 * total, 1e13 * field[:, 1], i), rtol=1e-7
            )
            assert_allclose(
                at.baseline().standardised[i, 2], conditional(1e26 * noise, 1e13 * quiet[:, 2], i), rtol=1e-7
            )

    def test_of_currents_that_are_correlated_over_time(self):
        problem, gain, noise = in_sensors(samples=6, sensors=4)
        at = plugged(problem, Structure(time=0.02), power=8.0)
        lag = np.sqrt(3) * np.abs(np.subtract.outer(problem.times, problem.times)) / 0.02
        course = (1 + lag) * np.exp(-lag)
        covariance = np.kron(at.variance * gain @ gain.T, course) + np.kron(NOISE**2 * noise, np.eye(6))
        found = at.recording().standardised
        for k in range(24):
            wanted = conditional(1e26 * covariance, 1e13 * problem.field.field.ravel(), k)
            assert_allclose(found.ravel()[k], wanted, rtol=1e-6)

    def test_of_a_baseline_without_its_mean(self):
        problem = toy(centred=True, quiet=4)
        at = plugged(problem)
        assert_allclose(at.baseline().standardised, problem.baseline / (NOISE * np.sqrt(3 / 4)), rtol=1e-12)

    @pytest.mark.parametrize("time", [None, 0.02])
    def test_without_sensors_they_are_those_of_the_rest(self, time):
        problem, gain, noise = in_sensors(samples=5)
        at = plugged(problem, Structure(time=time))
        found = at.recording().without(2).without(5)
        rest = [0, 1, 3, 4, 6]
        other = bi.Problem.from_arrays(
            gain[rest], problem.field.field[rest], noise[np.ix_(rest, rest)], times=problem.times
        )
        wanted = PlugIn(Spectrum.of(other, Structure(time=time)), at.variance, NOISE).recording()
        assert_allclose(found.standardised[rest], wanted.standardised, rtol=1e-6)
        assert not found.standardised[[2, 5]].any()
        assert list(np.flatnonzero(found.retained)) == rest
        if time is None:
            assert_allclose(found.worth, wanted.worth, rtol=1e-6)


def test_the_structure_is_the_one_nearest_to_the_mean():
    problem = toy()
    structures = tuple(Structure(depth=depth) for depth in (0.0, 0.5, 0.9))
    nodes = np.array([0.3, 0.2, 0.3, 0.2]), np.array([1.0, 2.0, 3.0, 5.0]), np.array([1.0, 1.5, 1.2, 0.5])
    found = PlugIn.of(problem, Mixture(*nodes, np.array([0, 1, 2, 1]), structures))
    assert found.spectrum.structure.depth == 0.5
    assert (found.variance, found.noise) == (3.5, 1.0)


class TestIndependentSamples:
    @pytest.mark.parametrize("memory", [0.0, 0.8, 0.97])
    def test_they_are_bartletts(self, rng, memory):
        """Within a quarter, as far as 16 time courses tell, and never more than by that."""
        covariance = memory ** np.abs(np.subtract.outer(np.arange(64), np.arange(64))) if memory else np.eye(64)
        found = [
            independent((np.linalg.cholesky(covariance) @ rng.standard_normal((64, 16))).T.copy()) for _ in range(40)
        ]
        wanted = np.trace(covariance) ** 2 / np.sum(covariance**2)
        assert 0.7 * wanted < np.mean(found) < 1.1 * wanted

    def test_a_large_value_does_not_hide_them(self, rng):
        slow = np.repeat(rng.standard_normal((9, 5)), 8, axis=1)
        loud = slow.copy()
        loud[3, 7] = 1e4
        assert independent(loud) < 1.3 * independent(slow)

    def test_of_one_sample(self):
        assert independent(np.ones((5, 1))) == 1.0


def test_the_unit_of_the_currents_does_not_matter():
    one, other = toy(), toy()
    at = plugged(one)
    scaled = bi.Problem.from_arrays(other.gain / GAIN, other.recording, baseline=other.baseline)
    moved = PlugIn(Spectrum.of(scaled, None), at.variance * GAIN**2, NOISE)
    assert_allclose(moved.recording().standardised, at.recording().standardised, rtol=1e-8)


class TestFewDirections:
    """Currents that reach few directions of many: those of a negligible variance are left out."""

    @pytest.mark.parametrize("samples", [None, np.array([0, 3])])
    def test_residuals_differ_by_less_than_what_is_negligible(self, rng, samples):
        sensors, few = 24, 3
        gain = rng.standard_normal((sensors, few)) @ rng.standard_normal((few, 40))
        gain += 1e-3 * rng.standard_normal(gain.shape)
        root = np.eye(sensors) + 0.3 * rng.standard_normal((sensors, sensors))
        field = root @ rng.standard_normal((sensors, 5)) + 0.3 * gain @ rng.standard_normal((40, 5))
        problem = bi.Problem.from_arrays(gain, field, root @ root.T)
        at = plugged(problem, power=4.0)
        covariance = at.variance * gain @ gain.T + NOISE**2 * root @ root.T
        found, rest = at.recording(samples=samples), at.recording(samples=samples).without(2)
        assert found.project.shape[1] == sensors + few
        for k, t in enumerate(np.arange(5) if samples is None else samples):
            wanted = [conditional(covariance, field[:, t], i) for i in range(sensors)]
            assert_allclose(found.standardised[:, k], wanted, atol=1e-2)
            others = np.delete(np.arange(sensors), 2)
            wanted = [conditional(covariance[np.ix_(others, others)], field[others, t], i) for i in range(sensors - 1)]
            assert_allclose(rest.standardised[others, k], wanted, atol=1e-2)
