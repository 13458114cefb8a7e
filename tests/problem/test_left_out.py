"""Problems without some sensors and samples, held against problems that never had them."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

import bayesinv as bi
from bayesinv.problem.account import account
from bayesinv.problem.autocorrelation import Autocorrelation

pytestmark = pytest.mark.filterwarnings(
    "ignore:the whitened baseline:UserWarning", "ignore:the baseline has:UserWarning"
)

SENSORS, SOURCES, SAMPLES, QUIET = 8, 11, 9, 30
KINDS = ("mag",) * 5 + ("eeg",) * 3
COLOUR = Autocorrelation(0.8 ** np.arange(30), 0.01)


def arrays(rng, kinds=KINDS, referenced=False, axes=1):
    """Gain, recording, covariance and baseline of two kinds of sensor, in their units."""
    units = np.where([kind == "eeg" for kind in kinds], 1e-6, 1e-13)
    root = np.eye(SENSORS) + 0.3 * rng.standard_normal((SENSORS, SENSORS))
    electric = np.array([kind == "eeg" for kind in kinds])
    root[np.ix_(electric, ~electric)] = root[np.ix_(~electric, electric)] = 0
    root = units[:, None] * root
    shape = (SENSORS, SOURCES) if axes == 1 else (SENSORS, SOURCES, axes)
    gain = (1e8 * units).reshape(-1, *([1] * axes if axes == 1 else [1, 1])) * rng.standard_normal(shape)
    recording = root @ rng.standard_normal((SENSORS, SAMPLES))
    baseline = root @ rng.standard_normal((SENSORS, QUIET))
    return gain, recording, root @ root.T, baseline


def options(index=None, **more):
    index = np.arange(SENSORS) if index is None else index
    more = {"times": 0.01 * np.arange(SAMPLES), "noise_time": COLOUR, "averages": 7, **more}
    return {"kinds": [KINDS[i] for i in index], "names": [f"S{i}" for i in index], **more}


def same(found, wanted, rtol=1e-10):
    """The same whitening up to a rotation of components, and all else the same."""
    for name in ("gain", "recording", "baseline"):
        one, other = (getattr(problem, name).T @ problem.whitener for problem in (found, wanted))
        assert_allclose(one, other, rtol=0, atol=rtol * np.abs(other).max())
    products = [problem.recording.T @ problem.gain for problem in (found, wanted)]
    assert_allclose(products[0], products[1], rtol=0, atol=rtol * np.abs(products[1]).max())
    assert found.components == wanted.components
    assert found.noise.kinds == wanted.noise.kinds
    assert found.field.names == wanted.field.names
    assert_allclose(found.field.field, wanted.field.field, rtol=1e-9)
    assert_allclose(found.times, wanted.times)
    assert_allclose(found.times_of_baseline, wanted.times_of_baseline, atol=1e-12)
    assert (found.autocorrelation is None) == (wanted.autocorrelation is None)
    assert_allclose(found.autocorrelation.values, wanted.autocorrelation.values, rtol=1e-8)


class TestSensors:
    @pytest.mark.parametrize("axes", [1, 3])
    @pytest.mark.parametrize("lost", [[2], [0, 6], [5, 6, 7]])
    def test_they_never_were(self, rng, lost, axes):
        gain, recording, covariance, baseline = arrays(rng, axes=axes)
        problem = bi.Problem.from_arrays(gain, recording, covariance, baseline=baseline, **options())
        rest = np.setdiff1d(np.arange(SENSORS), lost)
        wanted = bi.Problem.from_arrays(
            gain[rest], recording[rest], covariance[np.ix_(rest, rest)], baseline=baseline[rest], **options(rest)
        )
        same(problem.without(sensors=[f"S{i}" for i in lost]), wanted)
        same(problem.without(sensors=lost), wanted)

    def test_an_estimated_autocorrelation_is_that_of_those_left(self, rng):
        gain, recording, covariance, baseline = arrays(rng)
        baseline = baseline.cumsum(axis=1)
        baseline[3] = 1e-10 * rng.standard_normal(QUIET)
        given = options(noise_time="auto")
        problem = bi.Problem.from_arrays(gain, recording, covariance, baseline=baseline, **given)
        rest = np.delete(np.arange(SENSORS), 3)
        wanted = bi.Problem.from_arrays(
            gain[rest],
            recording[rest],
            covariance[np.ix_(rest, rest)],
            baseline=baseline[rest],
            **options(rest, noise_time="auto"),
        )
        assert not np.array_equal(problem.autocorrelation.values, wanted.autocorrelation.values)
        same(problem.without(sensors="S3"), wanted)

    def test_what_a_bad_electrode_put_into_the_average_reference_is_gone(self, rng):
        """Projected recordings hold it; what is left is that of the others against their own average."""
        kinds = ("eeg",) * SENSORS
        gain, recording, covariance, _ = arrays(rng, kinds)
        recording[3] *= 1e4
        centred = np.eye(SENSORS) - 1 / SENSORS
        rest = np.delete(np.arange(SENSORS), 3)
        fewer = np.eye(len(rest)) - 1 / len(rest)

        def referenced(project, index):
            table = covariance[np.ix_(index, index)]
            return bi.Problem.from_arrays(project @ gain[index], project @ recording[index], project @ table @ project)

        found = referenced(centred, np.arange(SENSORS)).without(sensors=3)
        wanted = referenced(fewer, rest)
        assert found.components == SENSORS - 2
        assert_allclose(found.recording.T @ found.gain, wanted.recording.T @ wanted.gain, rtol=1e-7)

    def test_the_posterior_is_that_of_those_left(self, rng):
        gain, recording, covariance, baseline = arrays(rng)
        problem = bi.Problem.from_arrays(gain, recording, covariance, baseline=baseline, **options())
        rest = np.delete(np.arange(SENSORS), 4)
        wanted = bi.Problem.from_arrays(
            gain[rest], recording[rest], covariance[np.ix_(rest, rest)], baseline=baseline[rest], **options(rest)
        )
        one, other = (bi.infer("hierarchical", p) for p in (problem.without(sensors=4), wanted))
        assert_allclose(one.mean, other.mean, rtol=0, atol=1e-6 * np.abs(other.mean).max())
        assert_allclose(one.log_evidence, other.log_evidence, atol=1e-5)

    def test_the_account_says_so(self, rng):
        gain, recording, covariance, baseline = arrays(rng)
        problem = bi.Problem.from_arrays(gain, recording, covariance, baseline=baseline, **options())
        words = account(problem.without(sensors=["S2"]).without(sensors=["S7"]))["sensors"]
        assert words == "2 EEG, 4 magnetometers; left out 1 (S2); left out 1 (S7)"
        assert "left out" not in str(problem.without())
        assert problem.without() is problem

    @pytest.mark.parametrize("sensors", [1.0, True, 1j, b"S1", np.array(1), None, [1.0], [True]])
    def test_what_is_no_sensor(self, rng, sensors):
        problem = bi.Problem.from_arrays(np.eye(3), rng.standard_normal((3, 4)), np.eye(3))
        with pytest.raises(ValueError, match=r"no sensor .*; give names, or indices from 0 to 2"):
            problem.without(sensors=sensors)

    def test_one_by_one(self, rng):
        problem = bi.Problem.from_arrays(rng.standard_normal((3, 5)), rng.standard_normal((3, 4)), np.eye(3))
        assert problem.without(sensors=(sensor for sensor in (0, 2))).components == 1

    def test_what_cannot_be_is_refused(self, rng):
        gain, recording, covariance, _ = arrays(rng)
        problem = bi.Problem.from_arrays(gain, recording, covariance, **options())
        with pytest.raises(ValueError, match=r"no sensor named 'S9'; there are S0, S1"):
            problem.without(sensors=["S9"])
        with pytest.raises(ValueError, match="no sensor 8; give names, or indices from 0 to 7"):
            problem.without(sensors=[8])
        with pytest.raises(ValueError, match="all 8 sensors"):
            problem.without(sensors=range(8))
        with pytest.raises(ValueError, match=r"arrays came whitened.*noise_cov"):
            bi.Problem.from_arrays(rng.standard_normal((3, 4)), rng.standard_normal((3, 2))).without(sensors=[1])


class TestTimes:
    @pytest.mark.parametrize("centred", [False, True])
    def test_they_never_were(self, rng, centred):
        gain, recording, covariance, baseline = arrays(rng)
        before = 0.01 * np.arange(-QUIET, 0)
        if centred:
            mean = baseline.mean(axis=1, keepdims=True)
            recording, baseline = recording - mean, baseline - mean
        given = options(baseline_centred=centred)
        problem = bi.Problem.from_arrays(gain, recording, covariance, baseline=baseline, **given)
        found = problem.without(times=[0.0, (0.029, 0.051), -0.05, (None, -0.285)])
        kept, quiet = np.delete(np.arange(SAMPLES), [0, 3, 4, 5]), np.delete(np.arange(QUIET), [0, 1, 25])
        recording, baseline, given = recording[:, kept], baseline[:, quiet], {**given, "times": 0.01 * kept}
        if centred:
            mean = baseline.mean(axis=1, keepdims=True)
            recording, baseline = recording - mean, baseline - mean
        wanted = bi.Problem.from_arrays(gain, recording, covariance, baseline=baseline, **given)
        wanted = wanted.with_fields(baseline_times=before[quiet])
        same(found, wanted, 1e-9)
        assert found.shared is problem.shared
        lags = np.abs(np.subtract.outer(kept, kept))
        if not centred:
            assert_allclose(found.time_whitening.correlation, 0.8**lags, atol=1e-12)
        for one, other in (
            (found.white_recording, wanted.white_recording),
            (found.white_baseline, wanted.white_baseline),
        ):
            assert_allclose(np.abs(one), np.abs(other), atol=1e-7)

    def test_one_time_and_one_window(self, rng):
        gain, recording, covariance, _ = arrays(rng)
        problem = bi.Problem.from_arrays(gain, recording, covariance, **options())
        assert_allclose(problem.without(times=0.02).times, np.delete(problem.times, 2))
        assert_allclose(problem.without(times=(0.02, 0.04)).times, np.delete(problem.times, [2, 3, 4]))
        assert_allclose(problem.without(times=[0.02, 0.04]).times, np.delete(problem.times, [2, 4]))

    def test_a_spike_of_the_baseline_no_longer_hides_the_colour_of_its_noise(self, rng):
        gain, recording, covariance, _ = arrays(rng)
        quiet = np.linalg.cholesky(0.9 ** np.abs(np.subtract.outer(np.arange(90), np.arange(90))))
        baseline = np.linalg.cholesky(covariance) @ rng.standard_normal((SENSORS, 90)) @ quiet.T
        spoilt = baseline.copy()
        spoilt[:, 10] *= 300
        given = options(noise_time="auto", averages=1)
        problem = bi.Problem.from_arrays(gain, recording, covariance, baseline=spoilt, **given)
        clean = bi.Problem.from_arrays(gain, recording, covariance, baseline=baseline[:, 11:], **given)
        assert problem.autocorrelation.white
        found = problem.without(times=[-0.8])
        assert_allclose(found.autocorrelation.values, clean.autocorrelation.values)

    def test_the_account_says_so(self, rng):
        gain, recording, covariance, baseline = arrays(rng)
        problem = bi.Problem.from_arrays(gain, recording, covariance, baseline=baseline, **options())
        found = account(problem.without(times=[0.02, (-0.105, -0.075)]))
        assert found["recording"].endswith("; 1 sample (20 ms) left out")
        assert found["baseline"].endswith("; 3 samples (within -100 to -80 ms) left out")

    @pytest.mark.parametrize("times", ["0.1", b"0.1", True, 0.1j, np.array(0.1), slice(0, 2)])
    def test_what_is_no_time(self, rng, times):
        problem = bi.Problem.from_arrays(np.eye(3), rng.standard_normal((3, 4)), np.eye(3))
        with pytest.raises(ValueError, match=r"times is .*, but must be times in s, or windows \(start, stop\) in s"):
            problem.without(times=times)

    def test_one_by_one(self, rng):
        problem = bi.Problem.from_arrays(np.eye(3), rng.standard_normal((3, 4)), np.eye(3))
        shorter = problem.without(times=(time for time in problem.times[:2]))
        assert_allclose(shorter.times, problem.times[2:])

    def test_what_cannot_be_is_refused(self, rng):
        gain, recording, covariance, baseline = arrays(rng)
        problem = bi.Problem.from_arrays(
            gain, recording, covariance, baseline=baseline, **options(baseline_centred=True)
        )
        with pytest.raises(ValueError, match=r"no sample near 0\.5 s"):
            problem.without(times=0.5)
        with pytest.raises(ValueError, match=r"no sample between 0\.3 and 0\.5 s"):
            problem.without(times=(0.3, 0.5))
        with pytest.raises(ValueError, match="all 9 samples of the recording"):
            problem.without(times=(0.0, None))
        with pytest.raises(ValueError, match="1 of 30 samples of the baseline would be left"):
            problem.without(times=(-0.295, -0.005))
        with pytest.raises(ValueError, match="times is None"):
            problem.without(times=None)
