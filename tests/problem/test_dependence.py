"""Sensors without noise of their own are found, and no others, whatever the rounding."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from bayesinv.problem.dependence import dependence

COUNT = 17


def ordinary(rng, count=COUNT):
    """A covariance of correlated sensors with noise of their own, in V²."""
    roots = rng.normal(size=(count, 4 * count))
    roots += 3 * rng.normal(size=(count, 2)) @ rng.normal(size=(2, 4 * count))
    scale = 1e-6 * rng.uniform(0.7, 1.5, count)
    return scale[:, None] * (roots @ roots.T / (4 * count)) * scale


def average_reference(covariance):
    """The covariance against the average, and the direction that is gone."""
    count = len(covariance)
    mean = np.full((count, 1), 1 / np.sqrt(count))
    project = np.eye(count) - mean @ mean.T
    return project @ covariance @ project, mean


def interpolated(covariance, sensor, weights, own=0.0):
    """The covariance where a sensor is a combination of the others, with a share of noise of its own."""
    combine = np.eye(len(covariance))
    combine[sensor] = weights
    combine[sensor, sensor] = 0.0
    table = combine @ covariance @ combine.T
    table[sensor, sensor] += own * covariance[sensor, sensor]
    return table


def weights(rng, *neighbours):
    found = np.zeros(COUNT)
    found[list(neighbours)] = rng.uniform(0.5, 1.5, len(neighbours))
    return found / found.sum()


class TestFound:
    @pytest.mark.parametrize("referenced", [False, True])
    @pytest.mark.parametrize("own", [0.0, 1e-16, 1e-14, 1e-12, 1e-9, 1e-6, 1e-4])
    def test_an_interpolated_sensor_whatever_its_rounding(self, rng, own, referenced):
        covariance = interpolated(ordinary(rng), 5, weights(rng, 3, 4, 9), own)
        gone = np.zeros((COUNT, 0))
        if referenced:
            covariance, gone = average_reference(covariance)
        found = dependence(covariance, ("eeg",) * COUNT, gone)
        assert_array_equal(found.sensors, [5])
        assert found.count == 1
        values = np.linalg.eigvalsh(found.remover @ covariance @ found.remover.T)
        missing = 1 + gone.shape[1]
        assert_allclose(values[:missing], 0, atol=1e-14 * values[-1])
        assert values[missing] > 1e-3 * values[-1]

    def test_what_was_interpolated_gets_what_the_others_make_of_it(self, rng):
        """So that any gain becomes that of the other sensors alone, and nothing changes at these."""
        mix = weights(rng, 3, 4, 9)
        covariance = interpolated(ordinary(rng), 5, mix)
        found = dependence(covariance, ("eeg",) * COUNT, np.zeros((COUNT, 0)))
        combine = np.eye(COUNT)
        combine[5] = mix
        assert_allclose(found.remover, combine, atol=1e-6)

    @pytest.mark.parametrize("many", range(1, 5))
    def test_gains_count_as_if_several_had_been_left_out(self, rng, many):
        """Against the average, in which they had their part."""
        covariance = ordinary(rng)
        odd, gain = np.arange(many), rng.normal(size=(COUNT, 3))
        for sensor in odd:
            covariance = interpolated(covariance, sensor, weights(rng, *rng.choice(np.arange(many, COUNT), 3)))
        covariance, gone = average_reference(covariance)
        found = dependence(covariance, ("eeg",) * COUNT, gone)
        assert_array_equal(np.sort(found.sensors), odd)
        rest = np.arange(many, COUNT)
        others, _ = average_reference(covariance[np.ix_(rest, rest)])
        wanted = gain[rest] - gain[rest].mean(axis=0)
        wanted = wanted.T @ np.linalg.pinv(others, rcond=1e-9, hermitian=True) @ wanted
        kept = found.remover @ gain
        assert_allclose(kept.T @ np.linalg.pinv(covariance, rcond=1e-9, hermitian=True) @ kept, wanted, rtol=1e-6)

    def test_one_that_is_known_though_its_weights_are_large(self, rng):
        """Extrapolated from one side, an electrode has a smaller part in its difference than the nearest of these."""
        mix = np.zeros(COUNT)
        mix[[3, 4, 9]] = 2.0, -1.5, 0.5
        covariance, gone = average_reference(interpolated(ordinary(rng), 5, mix))
        kinds = ("eeg",) * COUNT
        assert_array_equal(dependence(covariance, kinds, gone).sensors, [3])
        assert_array_equal(dependence(covariance, kinds, gone, [5]).sensors, [5])
        # One that has noise of its own is not named, whoever says so.
        assert_array_equal(dependence(covariance, kinds, gone, [7]).sensors, [3])

    def test_several_in_any_place(self, rng):
        covariance = ordinary(rng)
        for sensor, neighbours in ((5, (3, 4, 9)), (0, (1, 2)), (16, (10, 11, 12, 13))):
            covariance = interpolated(covariance, sensor, weights(rng, *neighbours), 1e-13)
        covariance, gone = average_reference(covariance)
        found = dependence(covariance, ("eeg",) * COUNT, gone)
        assert_array_equal(np.sort(found.sensors), [0, 5, 16])
        assert found.count == 3

    @pytest.mark.parametrize("own", [0.0, 1e-10, 1e-4])
    def test_one_of_a_bridged_pair(self, rng, own):
        covariance, gone = average_reference(interpolated(ordinary(rng), 5, np.eye(COUNT)[8], own))
        found = dependence(covariance, ("eeg",) * COUNT, gone)
        assert found.count == 1
        assert found.sensors[0] in (5, 8)

    def test_a_reference_that_was_added_to_what_had_one(self, rng):
        covariance, _ = average_reference(ordinary(rng))
        covariance[4] = covariance[:, 4] = 0.0
        covariance, gone = average_reference(covariance)
        assert_array_equal(dependence(covariance, ("eeg",) * COUNT, gone).sensors, [4])

    def test_sensors_of_another_unit(self, rng):
        kinds = ("mag",) * 9 + ("grad",) * 8
        unit = np.where(np.array(kinds) == "mag", 1e-9, 1e-7)
        for sensor, neighbours in ((5, (3, 4, 6)), (12, (10, 11, 15))):
            covariance = interpolated(ordinary(rng), sensor, weights(rng, *neighbours), 1e-8)
            covariance *= np.outer(unit, unit)
            found = dependence(covariance, kinds, np.zeros((COUNT, 0)))
            assert_array_equal(found.sensors, [sensor])
            left = found.remover @ covariance @ found.remover.T / np.outer(unit, unit)
            assert np.linalg.eigvalsh(left)[0] < 1e-12 * np.linalg.eigvalsh(left)[-1] < np.linalg.eigvalsh(left)[1]

    def test_directions_of_nobody_are_counted_but_not_named(self, rng):
        """A component removed from all channels, and what single precision leaves of it."""
        covariance = ordinary(rng)
        component = rng.choice([-1.0, 1.0], COUNT) / np.sqrt(COUNT)
        project = np.eye(COUNT) - np.outer(component, component)
        covariance = project @ covariance @ project + 1e-14 * covariance[0, 0] * np.eye(COUNT)
        found = dependence(covariance, ("eeg",) * COUNT, np.zeros((COUNT, 0)))
        assert found.count == 1
        assert not found.sensors.size
        assert_allclose(found.remover, project, atol=1e-6)

    def test_too_few_samples_are_nobodys_fault(self, rng):
        for _ in range(20):
            roots = rng.normal(size=(60, 48))
            found = dependence(roots @ roots.T, ("eeg",) * 60, np.zeros((60, 0)))
            assert found.count == 12
            assert not found.sensors.size


class TestLeft:
    @pytest.mark.parametrize("referenced", [False, True])
    def test_ordinary_sensors(self, rng, referenced):
        for _ in range(50):
            covariance, gone = ordinary(rng), np.zeros((COUNT, 0))
            if referenced:
                covariance, gone = average_reference(covariance)
            found = dependence(covariance, ("eeg",) * COUNT, gone)
            assert found.count == 0
            assert_array_equal(found.remover, np.eye(COUNT))

    @pytest.mark.parametrize("spread", [1.0, 5.0])
    def test_independent_sensors_of_unequal_noise(self, rng, spread):
        covariance, gone = average_reference(np.diag(1e-12 * np.geomspace(1, spread, COUNT)))
        assert dependence(covariance, ("eeg",) * COUNT, gone).count == 0

    def test_what_signal_space_separation_leaves(self, rng):
        inside = np.linalg.qr(rng.normal(size=(COUNT, 6)))[0]
        covariance = inside @ np.diag(np.geomspace(1, 30, 6)) @ inside.T
        assert dependence(covariance, ("mag",) * COUNT, np.zeros((COUNT, 0))).count == 0

    def test_a_single_sensor_and_a_pair(self):
        assert dependence(np.eye(1), ("eeg",), np.zeros((1, 0))).count == 0
        covariance, gone = average_reference(np.eye(2))
        assert dependence(covariance, ("eeg",) * 2, gone).count == 0
