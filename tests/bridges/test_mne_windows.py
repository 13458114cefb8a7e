"""Baselines: what an average says of its correction is checked, and what it lacks is noticed."""

from __future__ import annotations

import warnings

import mne
import numpy as np
import pytest
from mne_objects import decimated, toy
from numpy.testing import assert_allclose, assert_array_equal

from bayesinv import from_mne


@pytest.fixture(scope="module", autouse=True)
def errors_only():
    """Let MNE-Python log errors only."""
    with mne.use_log_level("ERROR"):
        yield


def autocorrelated(rng, count, samples, memory=0.7):
    """Noise (channel, sample) of variance one whose autocorrelation falls by `memory` at each sample."""
    noise = rng.normal(size=(count, samples + 50))
    for i in range(1, noise.shape[1]):
        noise[:, i] = memory * noise[:, i - 1] + np.sqrt(1 - memory**2) * noise[:, i]
    return noise[:, 50:]


@pytest.fixture
def quiet(rng):
    """A toy whose recording is autocorrelated noise, 0.8 s long."""
    evoked, forward, noise_cov = toy(rng)
    spread = np.sqrt(np.diag(noise_cov["data"]))[:, None]
    evoked = mne.EvokedArray(spread * autocorrelated(rng, 11, 81), evoked.info, tmin=-0.4, nave=1)
    return evoked, forward, noise_cov


class TestStaleWindow:
    @pytest.mark.parametrize("shift", [-0.25, -0.02, 0.05, 0.15])
    def test_a_shift_is_found_whatever_its_size(self, quiet, shift):
        evoked, forward, noise_cov = quiet
        evoked.apply_baseline((-0.3, 0.0))
        straight = from_mne(evoked, forward, noise_cov)
        evoked.shift_time(shift)
        assert evoked.baseline == (-0.3, 0.0)
        words = (
            rf"baseline-corrected from -0.3 to 0 s, but .* zero from {shift - 0.3:g} to .* shifted by [+]?{shift:g} s"
        )
        with pytest.warns(UserWarning, match=words.replace("[+]?-", "-")):
            problem = from_mne(evoked, forward, noise_cov)
        assert_allclose(problem.baseline, straight.baseline, rtol=1e-9)
        assert_allclose(problem.times, straight.times + shift, atol=1e-12)
        assert problem.baseline_centred

    def test_on_the_real_recording(self, auditory, forward, noise_cov):
        evoked = auditory.copy().shift_time(-0.25)
        words = r"its mean there is 0\.\d+ of the standard .* zero from -0.4\d+ to -0.25 s, .* shifted by -0.25 s"
        with pytest.warns(UserWarning, match=words):
            problem = from_mne(evoked, forward, noise_cov, picks="eeg")
        straight = from_mne(auditory, forward, noise_cov, picks="eeg")
        assert_array_equal(problem.baseline, straight.baseline)
        assert_array_equal(problem.recording, straight.recording)

    def test_a_mean_that_is_nowhere_zero_is_no_baseline(self, quiet):
        evoked, forward, noise_cov = quiet
        evoked.apply_baseline((-0.3, 0.0))
        evoked.data += 1.5 * np.sqrt(np.diag(noise_cov["data"]))[:, None] * np.linspace(-1, 1, 11)[:, None]
        with pytest.warns(UserWarning, match=r"from -0.3 to 0 s, but its mean .* no baseline is taken"):
            problem = from_mne(evoked, forward, noise_cov)
        assert problem.baseline is None
        again = from_mne(evoked, forward, noise_cov, baseline_correct=(-0.3, 0.0))
        assert again.baseline.shape[1] == 31
        with pytest.warns(UserWarning, match="The average was not baseline-corrected"):
            given = from_mne(evoked, forward, noise_cov, baseline=(-0.3, 0.0))
        assert given.baseline.shape[1] == 31
        assert not given.baseline_centred

    @pytest.mark.parametrize("change", ["none", "single", "decimated", "filtered", "projected", "cropped", "combined"])
    def test_what_leaves_the_baseline_where_it_is_is_no_fault(self, quiet, change):
        evoked, forward, noise_cov = quiet
        evoked.apply_baseline((-0.3, 0.0))
        changed = {
            "none": lambda: evoked,
            "single": lambda: mne.EvokedArray(
                evoked.data.astype(np.float32), evoked.info, tmin=-0.4, nave=1, baseline=None
            ),
            "decimated": lambda: evoked.copy().decimate(3),
            "filtered": lambda: evoked.copy().filter(None, 20.0),
            "projected": lambda: evoked.copy().apply_proj(),
            "cropped": lambda: evoked.copy().crop(-0.2, 0.3),
            "combined": lambda: mne.combine_evoked([evoked, evoked], [0.3, 0.7]),
        }[change]()
        if change == "single":
            changed.baseline = (-0.3, 0.0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", "the whitened baseline has a global field power")
            problem = from_mne(changed, forward, noise_cov)
        assert problem.baseline.shape[1] == {"decimated": 11, "cropped": 21}.get(change, 31)
        assert problem.baseline_centred
        if change == "cropped":
            assert_allclose(problem.corrected_times[[0, -1]], [-0.3, 0.0], atol=1e-9)
        else:
            assert problem.corrected_times is None

    @pytest.mark.filterwarnings("ignore:.*show the same value:UserWarning")
    def test_padding_with_zeros_is_no_correction(self, quiet):
        evoked, forward, noise_cov = quiet
        evoked.apply_baseline((-0.3, 0.0))
        evoked.data += 3 * np.sqrt(np.diag(noise_cov["data"]))[:, None] * np.linspace(-1, 1, 11)[:, None]
        evoked.data[:, 42:] = 0.0
        with pytest.warns(UserWarning, match="no baseline is taken"):
            from_mne(evoked, forward, noise_cov)


class TestAfterTheStimulus:
    def test_a_baseline_that_follows_time_zero_is_warned_of(self, quiet):
        evoked, forward, noise_cov = quiet
        with pytest.warns(UserWarning, match=r"begins 0.1 s after time 0: what follows a stimulus .* taken for noise"):
            from_mne(evoked, forward, noise_cov, baseline=(0.1, 0.3), tmin=0.31)
        with pytest.warns(UserWarning, match=r"ends 0.3 s after time 0: what follows a stimulus .* taken for noise"):
            from_mne(evoked, forward, noise_cov, baseline=(-0.1, 0.3), tmin=0.31)
        # Where there is nothing before, and where it ends at 0, nothing is said of it.
        for given, window, tmin in ((evoked, (-0.1, 0.01), 0.31), (evoked.copy().shift_time(0.5), (0.2, 0.4), 0.41)):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                from_mne(given, forward, noise_cov, baseline=window, tmin=tmin)
            assert not any("after time 0" in str(one.message) for one in caught)


class TestUncorrected:
    def test_is_recognised_with_its_sizes(self, auditory, forward, noise_cov):
        evoked = auditory.copy()
        evoked.baseline = None
        sds = np.zeros(len(evoked.ch_names))
        order = [evoked.ch_names.index(name) for name in noise_cov.ch_names]
        sds[order] = np.sqrt(np.diag(noise_cov["data"]) / evoked.nave)
        evoked.data += 3 * (sds * np.sign(np.sin(7 * np.arange(len(sds)) + 1)))[:, None]
        with pytest.warns(UserWarning, match="The average was not baseline-corrected") as told:
            problem = from_mne(evoked, forward, noise_cov)
        clean = from_mne(auditory, forward, noise_cov)
        count = clean.baseline.shape[1]
        powers = [problem.baseline_power, clean.baseline_power * np.sqrt(1 - 1 / count)]
        assert f"power is {powers[0]:.2f} with its mean and {powers[1]:.2f} without" in str(told[0].message)
        assert powers[0] > 2 * powers[1]

    def test_noise_is_not_however_slow(self, rng):
        """Means of autocorrelated noise are larger than those of white noise, and no fault."""
        evoked, forward, noise_cov = toy(rng)
        spread = np.sqrt(np.diag(noise_cov["data"]))[:, None]
        for memory in (0.0, 0.5, 0.8):
            for _ in range(10):
                noise = mne.EvokedArray(spread * autocorrelated(rng, 11, 121, memory), evoked.info, tmin=-1.0, nave=1)
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    from_mne(noise, forward, noise_cov)

    def test_the_correction_gives_what_was_corrected(self, auditory, forward, noise_cov):
        evoked = decimated(auditory, 3)
        evoked.baseline = None
        evoked.data += 10 * evoked.data[:, -1:]
        window = (float(evoked.times[0]), 0.0)
        problem = from_mne(evoked, forward, noise_cov, picks="eeg", baseline_correct=window)
        wanted = from_mne(evoked.copy().apply_baseline(window), forward, noise_cov, picks="eeg")
        assert_array_equal(problem.baseline, wanted.baseline)
        assert_array_equal(problem.recording, wanted.recording)
        assert problem.baseline_centred
        assert_allclose(problem.baseline.mean(axis=1), 0, atol=1e-9)
        open_start = from_mne(evoked, forward, noise_cov, picks="eeg", baseline_correct=(None, 0.0))
        assert_array_equal(open_start.recording, wanted.recording)

    def test_the_callers_average_stays_as_it_was(self, quiet):
        evoked, forward, noise_cov = quiet
        before = evoked.data.copy()
        from_mne(evoked, forward, noise_cov, baseline_correct=(-0.3, 0.0))
        assert_array_equal(evoked.data, before)
        assert evoked.baseline is None

    @pytest.mark.parametrize(
        ("window", "words"),
        [
            ((5.0, 6.0), "holds no sample; the recording runs from -0.4 to 0.4 s"),
            ((0.1,), "must be None or"),
            (0.1, "must"),
        ],
    )
    def test_windows_that_cannot_be(self, quiet, window, words):
        with pytest.raises(ValueError, match=words):
            from_mne(*quiet, baseline_correct=window)

    def test_a_list_is_corrected_one_by_one(self, quiet):
        evoked, forward, noise_cov = quiet
        one, two = from_mne([evoked, evoked], forward, noise_cov, baseline_correct=(None, 0.0))
        assert one.baseline_centred
        assert_array_equal(one.recording, two.recording)
