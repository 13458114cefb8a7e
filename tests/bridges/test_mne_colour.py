"""Colour of the noise through MNE-Python's objects: the real recording, trials, an empty room, what is refused."""

import mne
import numpy as np
import pytest
from coloured import ar
from numpy.testing import assert_allclose

import bayesinv as bi

pytestmark = pytest.mark.filterwarnings("ignore:.*in the recording but not in the:UserWarning")


def objects(sample, condition="Right Auditory"):
    with mne.use_log_level("error"):
        return (
            mne.read_evokeds(sample / "sample-right-ave.fif", condition, baseline=(None, 0)),
            mne.read_forward_solution(sample / "sample-oct5-fwd.fif"),
            mne.read_cov(sample / "sample-noise-cov.fif"),
        )


ABOUT_PLACES = {"currents by kind of sensor", "currents over depth"}
"""Checks that fail where currents are of a few places, and have one scale everywhere."""


@pytest.mark.slow
@pytest.mark.parametrize("condition", ["Right Auditory", "Right visual"])
def test_quiet_samples_are_quiet_and_a_response_is_not(sample, condition):
    given = objects(sample, condition)
    quiet = bi.from_mne(*given, tmin=-0.1, tmax=-0.005, baseline=(-0.2, -0.1), outliers="drop")
    response = bi.from_mne(*given, tmin=0.05, tmax=0.15, outliers="drop")
    for model in ("hierarchical", "temporal"):
        none, some = bi.infer(model, quiet), bi.infer(model, response)
        # A response is slower than the noise, which only the second knows.
        failed = {check.name for check in some.checks if not check.passed} - ABOUT_PLACES
        assert failed == ({"currents over time"} if model == "hierarchical" else set())
        # The mean that was subtracted is over the quiet samples, too, which leaves less for slow noise to explain.
        assert none.hyper["snr"].interval(0.9)[1] < (0.1 if model == "hierarchical" else 0.36)
        assert some.hyper["snr"].interval(0.9)[0] > 2.4 * none.hyper["snr"].interval(0.9)[1]
        # Slow currents explain quiet samples better than noise of one colour does, and the baseline as much.
        failed = {check.name for check in none.checks if not check.passed} - ABOUT_PLACES
        assert failed == {"currents in the baseline"} if model == "temporal" else failed <= {"currents over time"}
    # The time constant stays well within the window.
    assert some.hyper["constant"].interval(0.9)[1] < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("picks", ["eeg", "meg"])
@pytest.mark.parametrize("condition", ["Right Auditory", "Right visual"])
def test_quiet_samples_that_look_active_are_told(sample, condition, picks):
    """Against the mean of a short baseline, ongoing activity is as strong as a weak response."""
    evoked, forward, cov = objects(sample, condition)
    evoked.apply_baseline((-0.2, -0.1))
    name = "currents in the baseline"
    for start, stop, passed in ((-0.1, -0.005, False), (0.05, 0.15, True)):
        options = {"picks": picks, "baseline": (-0.2, -0.1), "outliers": "drop"}
        problem = bi.from_mne(evoked, forward, cov, tmin=start, tmax=stop, **options)
        plain, slow = (bi.infer(model, problem, draws=50) for model in ("hierarchical", "temporal"))
        for posterior, wanted in ((plain, True), (slow, passed)):
            assert {check.name: check.passed for check in posterior.checks}[name] == wanted
        assert passed or plain.hyper["snr"].interval(0.9)[1] < 0.35


def test_evidence_is_far_better_than_that_of_white_noise_and_a_check_says_so(sample):
    given = objects(sample)
    white, coloured = (
        bi.infer("hierarchical", bi.from_mne(*given, tmax=0.2, outliers="drop", noise_time=one), draws=100)
        for one in ("white", "auto")
    )
    assert coloured.log_evidence - white.log_evidence > 9000
    # The response is slower than the noise, which this model takes it to be as fast as, and of a few places.
    about_currents = {"currents over time", "currents over depth", "currents by kind of sensor"}
    failed = {check.name for check in white.checks if not check.passed}
    assert failed - about_currents == {"noise over time, baseline", "noise over time, recording"}
    failed = {check.name for check in coloured.checks if not check.passed}
    assert "currents over time" in failed
    assert failed <= about_currents
    assert coloured.problem.autocorrelation.groups == ("meg", "eeg")


@pytest.fixture
def simulated(sample):
    """Average, trials and an empty room whose noise is autoregressive; their forward solution and covariance."""
    evoked, forward, cov = objects(sample)
    with mne.use_log_level("error"):
        evoked.pick("eeg", exclude="bads")
        names, rng = evoked.ch_names, np.random.default_rng(0)
        count, length = len(names), 60
        noise = 1e-6 * ar([0.7], (count * 20, length), rng).reshape(count, 20, length).transpose(1, 0, 2)
        trials = mne.EpochsArray(noise, evoked.info, tmin=0.0)
        room = mne.io.RawArray(1e-6 * ar([0.4], (count, 2000), rng), evoked.info)
        cov = mne.make_ad_hoc_cov(evoked.info, std={"eeg": 1e-6})
        yield trials, room, forward, cov


def test_trials_tell_by_what_they_differ_from_their_average(simulated):
    trials, _, forward, cov = simulated
    problem = bi.from_mne(trials, forward, cov, outliers="drop", baseline=None)
    assert "20 trials about their average" in problem.noise_over_time
    assert_allclose(problem.autocorrelation.values[0, 1], 0.7, atol=0.02)
    given = bi.from_mne(trials.average(), forward, cov, outliers="drop", baseline=None, noise_time=trials)
    assert_allclose(given.autocorrelation.values, problem.autocorrelation.values)


def test_an_empty_room_tells(simulated):
    trials, room, forward, cov = simulated
    problem = bi.from_mne(trials.average(), forward, cov, outliers="drop", baseline=None, noise_time=room)
    assert "2000 samples of noise alone" in problem.noise_over_time
    assert_allclose(problem.autocorrelation.values[0, 1], 0.4, atol=0.02)


def test_offsets_and_bad_segments_of_an_empty_room_tell_nothing(simulated):
    trials, room, forward, cov = simulated
    average, table = trials.average(), room.get_data() + 1e-5 * np.arange(1, len(room.ch_names) + 1)[:, None]
    table[:, 500:900] += 1e-4 * np.sin(np.arange(400) / 40)
    with mne.use_log_level("error"):
        other = mne.io.RawArray(table, room.info)
        other.set_annotations(mne.Annotations(500 / 600.6, 400 / 600.6, "BAD_moved"))
    problem = bi.from_mne(average, forward, cov, outliers="drop", baseline=None, noise_time=other)
    assert_allclose(problem.autocorrelation.values[0, 1], 0.4, atol=0.03)


def test_noise_that_is_not_finite_or_too_short_is_refused(simulated):
    trials, room, forward, cov = simulated
    average = trials.average()
    for noise in (trials.copy(), room.copy()):
        noise._data[..., 3, 7] = np.nan
        with pytest.raises(ValueError, match=r"not finite in 1 of \d+ channels, such as EEG 004"):
            bi.from_mne(average, forward, cov, baseline=None, noise_time=noise)
    with pytest.raises(ValueError, match=r"holds 10 samples in a row, but .* at least 24"):
        bi.from_mne(average, forward, cov, baseline=None, noise_time=trials.copy().crop(0, 9.2 / 600.6))


def test_without_a_baseline_the_low_pass_tells(simulated):
    trials, _, forward, cov = simulated
    average = trials.average()
    problem = bi.from_mne(average, forward, cov, outliers="drop", baseline=None)
    # 172 Hz at a rate of 601 Hz.
    assert "low-pass at 172" in problem.noise_over_time
    assert_allclose(problem.autocorrelation.values[0, 1], np.sinc(2 * 172.18 / 600.6), atol=0.05)


def test_noise_that_does_not_fit_is_refused(simulated):
    trials, room, forward, cov = simulated
    average = trials.average()
    with pytest.raises(ValueError, match=r"noise_time lacks \d+ of the recording's"):
        bi.from_mne(average, forward, cov, baseline=None, noise_time=room.copy().pick(["EEG 001", "EEG 002"]))
    with mne.use_log_level("error"):
        slow = room.copy().resample(300)
    with pytest.raises(ValueError, match=r"sampled at 300 Hz, but the recording at 600\.6"):
        bi.from_mne(average, forward, cov, baseline=None, noise_time=slow)
    with pytest.raises(ValueError, match="holds 1 epochs"):
        bi.from_mne(average, forward, cov, baseline=None, noise_time=trials[:1])


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("lowpass", 40.0, r"low-passed at 40 Hz, the recording at 172\.2 Hz"),
        ("highpass", 1.0, r"high-passed at 1 Hz, the recording at 0\.1 Hz"),
    ],
)
def test_noise_that_was_filtered_otherwise_is_told_with_both_numbers(simulated, name, value, words):
    trials, room, forward, cov = simulated
    average = trials.average()
    for noise in (trials.copy(), room.copy()):
        with noise.info._unlock():
            noise.info[name] = value
        with pytest.warns(UserWarning, match=words):
            bi.from_mne(average, forward, cov, outliers="drop", baseline=None, noise_time=noise)


def test_a_low_pass_above_half_the_sampling_rate_is_none(simulated):
    trials, room, forward, cov = simulated
    average, noise = trials.average(), room.copy()
    for one, value in ((average, 300.0), (noise, 900.0)):
        with one.info._unlock():
            one.info["lowpass"] = value
    bi.from_mne(average, forward, cov, outliers="drop", baseline=None, noise_time=noise)
