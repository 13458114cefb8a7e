import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from referee import GAIN, toy

import bayesinv as bi
from bayesinv.problem.problem import EXPECTED_SNR

VOLT = 5e-7  # noise of an EEG electrode


@pytest.fixture
def arrays(rng):
    """Arguments of from_arrays in SI units: 5 sensors, 7 sources, 3 samples, 8 baseline samples."""
    root = rng.normal(size=(5, 9)) / 3
    C = VOLT**2 * root @ root.T
    noise = VOLT * root @ rng.normal(size=(9, 11))
    gain = 50.0 * rng.normal(size=(5, 7))
    recording = gain @ (2e-8 * rng.normal(size=(7, 3))) + noise[:, :3]
    return {"gain": gain, "recording": recording, "noise_cov": C, "baseline": noise[:, 3:]}


class TestFromArrays:
    def test_whitens_gain_and_recording_alike(self, arrays):
        problem = bi.Problem.from_arrays(**arrays)
        C = arrays["noise_cov"]
        assert_allclose(problem.gain.T @ problem.recording, arrays["gain"].T @ np.linalg.solve(C, arrays["recording"]))
        assert_allclose(problem.gain.T @ problem.gain, arrays["gain"].T @ np.linalg.solve(C, arrays["gain"]), rtol=1e-9)
        assert_allclose(
            problem.recording.T @ problem.baseline, arrays["recording"].T @ np.linalg.solve(C, arrays["baseline"])
        )
        assert_allclose(problem.whitener @ arrays["gain"], problem.gain)

    def test_variances_are_a_diagonal_covariance(self, arrays):
        variances = np.diag(arrays["noise_cov"]).copy()
        some = bi.Problem.from_arrays(**{**arrays, "noise_cov": variances})
        full = bi.Problem.from_arrays(**{**arrays, "noise_cov": np.diag(variances)})
        assert_array_equal(some.gain, full.gain)

    @pytest.mark.parametrize("averages", [16, 2.5, 0.5])
    def test_averages_raise_the_signal_to_noise_ratio(self, arrays, averages):
        arrays.pop("baseline")
        one = bi.Problem.from_arrays(**arrays)
        many = bi.Problem.from_arrays(**arrays, averages=averages)
        assert_allclose(np.abs(many.gain), np.sqrt(averages) * np.abs(one.gain))
        plain = bi.Problem.from_arrays(one.gain, one.recording, averages=averages)
        assert_allclose(np.abs(plain.gain), np.abs(many.gain))
        assert_allclose(np.abs(plain.recording), np.abs(many.recording))

    def test_a_rank_leaves_as_many_components(self, arrays):
        problem = bi.Problem.from_arrays(**arrays, rank=4)
        assert problem.components == 4
        assert problem.baseline.shape == (4, 8)

    def test_free_orientation_lays_the_axes_of_a_source_side_by_side(self, rng):
        gain = GAIN * rng.normal(size=(5, 7, 3))
        problem = bi.Problem.from_arrays(gain, rng.normal(size=(5, 2)))
        assert (problem.axes, problem.orientation, problem.source_count) == (3, "free", 7)
        assert_array_equal(problem.gain[:, 3 * 4 + 1], gain[:, 4, 1])
        assert problem.coords["axis"] == ["x", "y", "z"]
        assert_allclose(problem.source_norms[4] ** 2, np.sum(gain[:, 4] ** 2) / 3)

    def test_one_axis_is_fixed_orientation(self, rng):
        assert bi.Problem.from_arrays(rng.normal(size=(5, 7, 1)), rng.normal(size=(5, 2))).axes == 1

    def test_one_sample_may_come_as_a_vector(self, rng):
        problem = bi.Problem.from_arrays(rng.normal(size=(5, 7)), rng.normal(size=5))
        assert problem.recording.shape == (5, 1)
        assert_array_equal(problem.times, [0.0])

    def test_callers_arrays_stay_writeable_and_the_problem_keeps_its_own(self, rng):
        gain, recording, times = rng.normal(size=(5, 7)), rng.normal(size=(5, 2)), np.arange(2.0)
        positions = rng.normal(size=(7, 3))
        problem = bi.Problem.from_arrays(gain, recording, times=times, positions=positions)
        assert gain.flags.writeable
        assert recording.flags.writeable
        assert times.flags.writeable
        assert positions.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            problem.gain[0, 0] = 1

    def test_the_field_stays_in_its_own_units(self, arrays):
        problem = bi.Problem.from_arrays(**arrays, names=list("abcde"), times=[0.1, 0.2, 0.4])
        assert_array_equal(problem.field.field, arrays["recording"])
        assert problem.field.names == tuple("abcde")
        assert_array_equal(problem.times, [0.1, 0.2, 0.4])


class TestNumbers:
    def test_signal_power_is_the_mean_power_of_unit_currents(self, rng):
        problem = toy(axes=3)
        field = problem.gain @ rng.normal(size=(33, 40_000))
        assert_allclose(np.mean(field**2), problem.signal_power, rtol=0.03)

    def test_scale_guess_has_the_expected_snr_and_ignores_the_recording(self):
        problem = toy(amplitude=3.0)
        assert_allclose(np.sqrt(problem.scale_guess**2 * problem.signal_power), EXPECTED_SNR)
        assert toy(amplitude=30.0).scale_guess == problem.scale_guess

    @pytest.mark.parametrize("centred", [True, False])
    def test_baseline_of_scale_one_has_power_one(self, centred):
        problem = toy(sensors=40, quiet=50, centred=centred)
        assert_allclose(problem.baseline_power, 1, atol=0.05)

    def test_window_holds_its_ends(self):
        problem = toy(samples=6)
        assert problem.window(0.11, 0.13) == slice(1, 4)
        assert problem.window(stop=0.10) == slice(0, 1)
        assert problem.window() == slice(0, 6)
        with pytest.raises(
            ValueError, match=r"no sample between 0\.5 and 0\.6 s; the recording runs from 0\.1 to 0\.15 s"
        ):
            problem.window(0.5, 0.6)


def changed(arrays, name, index, value):
    table = np.array(arrays[name])
    table[index] = value
    return {**arrays, name: table}


class TestDoor:
    @pytest.mark.parametrize("name", ["gain", "recording", "baseline", "noise_cov"])
    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_values_that_are_not_finite(self, arrays, name, bad):
        words = "noise covariance" if name == "noise_cov" else name
        with pytest.raises(ValueError, match=f"{words} holds 1 NaN or infinite value of"):
            bi.Problem.from_arrays(**changed(arrays, name, (0, 0), bad))

    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            ({"recording": np.ones((4, 3))}, "recording has sensor = 4, but gain has sensor = 5"),
            ({"recording": np.ones((5, 3, 2))}, r"recording has shape \(5, 3, 2\), but wants 2 axes"),
            ({"recording": np.ones((5, 0))}, r"recording has no samples \(time = 0\)"),
            ({"gain": np.ones(5)}, r"gain has shape \(5,\), but wants 2 axes: \(sensor, source\)"),
            ({"gain": np.ones((5, 7, 2))}, r"its last axis must be 1 \(normal\) or 3 \(x, y, z\)"),
            ({"gain": np.ones((5, 0))}, "there is nothing to invert"),
            ({"gain": [["a"]]}, "gain must be an array of real numbers"),
            ({"baseline": np.ones((4, 8))}, "baseline has sensor = 4, but gain has sensor = 5"),
            ({"baseline": np.ones((5, 0))}, "baseline has 0 samples, too few"),
            ({"baseline": np.ones((5, 1)), "baseline_centred": True}, "baseline has 1 samples, too few"),
            ({"times": [0.0, 0.1]}, "times has time = 2, but recording has time = 3"),
            ({"times": [0.0, 0.1, np.nan]}, "times holds 1 NaN"),
            ({"times": [0.0, 0.2, 0.1]}, "times must increase, but sample 2"),
            ({"names": ["a", "b"]}, "recording has sensor = 5, but names has sensor = 2"),
            ({"positions": np.ones((6, 3))}, "gain has amplitude = 7, but 6 sources with 1 axes have 6"),
            ({"positions": np.ones((7, 2))}, r"positions has shape \(7, 2\), but its axes are \(source, 3\)"),
            ({"noise_cov": np.eye(6)}, "noise covariance has sensor = 6, but recording has sensor = 5"),
            ({"noise_cov": np.ones((5, 4))}, r"noise covariance has shape \(5, 4\), but must be square"),
            ({"noise_cov": np.diag([1.0, 1, 1, 1, -1])}, "not positive: sensor 4"),
            ({"noise_cov": np.triu(np.ones((5, 5)))}, "not symmetric"),
            ({"noise_cov": np.zeros((5, 5))}, "rank 0"),
            ({"rank": 6}, "rank 6 was given .* has rank 5"),
            ({"kinds": ["eeg"] * 4}, "sensor = 5, but there are 4 kinds"),
            ({"averages": 0}, "averages is 0"),
            ({"averages": -1.5, "noise_cov": None}, "averages is -1.5"),
            ({"averages": np.nan}, "averages is nan"),
            ({"averages": True}, "averages is True"),
        ],
    )
    def test_says_what_came_and_what_was_wanted(self, arrays, wrong, words):
        with pytest.raises(ValueError, match=words):
            bi.Problem.from_arrays(**{**arrays, **wrong})

    def test_sources_that_reach_no_sensor(self, arrays):
        gain = arrays["gain"].copy()
        gain[:, [2, 5]] = 0
        with pytest.raises(ValueError, match=r"2 sources \(first: 2\) reach no sensor"):
            bi.Problem.from_arrays(**{**arrays, "gain": gain})

    def test_microvolts_are_no_volts(self, arrays):
        with pytest.raises(
            ValueError, match=r"the whitened recording has a global field power of .*e\+06.*not µV or fT"
        ):
            bi.Problem.from_arrays(**{**arrays, "recording": 1e6 * arrays["recording"]})

    def test_covariance_in_microvolts(self, arrays):
        with pytest.raises(ValueError, match="cannot be in the same units"):
            bi.Problem.from_arrays(**{**arrays, "noise_cov": 1e12 * arrays["noise_cov"]})

    def test_a_baseline_that_is_zero_everywhere_is_refused(self, arrays):
        changed = {"noise_time": "white", "baseline": np.zeros_like(arrays["baseline"])}
        with pytest.raises(ValueError, match="the baseline is zero everywhere: nothing was measured"):
            bi.Problem.from_arrays(**{**arrays, **changed})

    def test_a_recording_that_is_zero_is_one_that_is_yet_to_be_made(self, arrays):
        problem = bi.Problem.from_arrays(**{**arrays, "recording": np.zeros((5, 3))})
        with pytest.raises(ValueError, match="the recording is zero everywhere: nothing was measured"):
            bi.infer("hierarchical", problem)

    @pytest.mark.parametrize("factor", [3.0, 0.3])
    def test_warns_where_the_baseline_is_not_the_covariances_noise(self, arrays, factor):
        with pytest.warns(UserWarning, match=r"whitened baseline has a global field power of .*filtered alike"):
            bi.Problem.from_arrays(**{**arrays, "baseline": factor * arrays["baseline"]})

    def test_does_not_warn_where_it_is(self, arrays):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            bi.Problem.from_arrays(**arrays)

    def test_axes_divide_the_amplitudes(self, rng):
        with pytest.raises(ValueError, match="amplitude = 7, which is no multiple of axes = 3"):
            bi.Problem(rng.normal(size=(5, 7)), rng.normal(size=(5, 2)), np.arange(2.0), axes=3)
        with pytest.raises(ValueError, match="axes is 2, but a source has 1 amplitude"):
            bi.Problem(rng.normal(size=(5, 8)), rng.normal(size=(5, 2)), np.arange(2.0), axes=2)
