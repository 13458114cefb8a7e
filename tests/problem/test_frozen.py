"""Sensors that show the same value for long are named where a problem is built; noise and rounding are not."""

import warnings

import numpy as np
import pytest

import bayesinv as bi
from bayesinv.problem.frozen import frozen

pytestmark = pytest.mark.filterwarnings("ignore:the baseline has a mean:UserWarning")

SENSORS, SOURCES, SAMPLES, QUIET = 9, 20, 40, 30


def scene(spoil=None, seed=0):
    rng = np.random.default_rng(seed)
    recording, baseline = rng.standard_normal((SENSORS, SAMPLES)), rng.standard_normal((SENSORS, QUIET))
    if spoil is not None:
        spoil(recording, baseline)
    return bi.Problem.from_arrays(
        rng.standard_normal((SENSORS, SOURCES)),
        recording,
        np.eye(SENSORS),
        times=0.01 * np.arange(SAMPLES),
        baseline=baseline,
        names=[f"E{i}" for i in range(SENSORS)],
    )


class TestAtTheDoor:
    @pytest.mark.parametrize("value", [0.0, -1.7])
    def test_a_sensor_that_is_constant_in_the_response(self, value):
        def spoil(recording, baseline):
            recording[4] = value

        with pytest.warns(UserWarning, match=r"1 sensor shows the same value .*E4 from 0 to 390 ms") as caught:
            problem = scene(spoil)
        assert "E4 from 0 to 390 ms" in str(problem)
        assert caught[0].filename == __file__

    def test_a_stretch_from_the_baseline_into_the_response(self):
        def spoil(recording, baseline):
            baseline[2, -6:] = recording[2, :6] = 0.3
            baseline[7, 3:25] = 2.0

        with pytest.warns(UserWarning, match=r"E2 from -60 to 50 ms, E7 from -270 to -60 ms"):
            scene(spoil)

    def test_noise_and_fewer_equal_values_raise_no_alarm(self):
        def spoil(recording, baseline):
            recording[1, 5:14] = 0.5

        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*the same value")
            scene(spoil)


class TestRounding:
    @pytest.mark.parametrize("step", [0.5, 1.0, 3.0])
    def test_coarse_values_are_not_frozen_but_a_dead_sensor_among_them_is(self, step):
        rng = np.random.default_rng(1)
        for _ in range(20):
            table = np.round(rng.standard_normal((SENSORS, 400)) / step)
            assert not frozen(table)
            table[5, 100:] = 0
            assert [(one.sensor, one.last) for one in frozen(table)] == [(5, 399)]

    def test_where_all_are_zero_nothing_is_said_of_any(self):
        assert not frozen(np.zeros((SENSORS, 50)))
