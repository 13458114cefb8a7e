"""Nothing that MNE-Python's objects hold is lost without a line in the account."""

from __future__ import annotations

import warnings

import mne
import pytest
from mne_objects import toy

from bayesinv import from_mne
from bayesinv.problem.account import account


@pytest.fixture(scope="module", autouse=True)
def errors_only():
    """Let MNE-Python log errors only."""
    with mne.use_log_level("ERROR"):
        yield


def test_of_the_real_recording(auditory, full_forward, noise_cov):
    problem = from_mne(auditory, full_forward, noise_cov, outliers="drop")
    assert account(problem) == {
        "sensors": "59 EEG, 203 gradiometers, 102 magnetometers; "
        "left out 2 bad in the recording (MEG 2443, EEG 053); average reference",
        "noise": "rank 302 of 305 MEG and 58 of 59 EEG; 4 projectors (PCA-v1, PCA-v2, PCA-v3, Average EEG reference)",
        "noise over time": "correlation meg 0.64; eeg 0.85 at one sample (estimated from 121 samples of baseline)",
        "recording": "300 samples, 1.7 to 499.5 ms, average of 6 trials",
        "baseline": f"121 samples, mean subtracted, global field power {problem.baseline_power:.2f} (wanted 1); "
        "-199.8 to 0 ms",
        "sources": "2050, fixed orientation; 2 left out, as their gains are many times their neighbours' (39, 21)",
    }


def test_names_every_channel_that_is_gone_and_why(rng):
    evoked, forward, noise_cov = toy(rng)
    evoked.info["bads"] = ["eeg 1"]
    noise_cov = mne.pick_channels_cov(noise_cov, [n for n in noise_cov.ch_names if n != "eeg 2"], ordered=True)
    forward = mne.pick_channels_forward(forward, [n for n in evoked.ch_names if n != "mag 8"], ordered=True)
    forward["info"]["bads"] = ["mag 9"]
    noise_cov["bads"] = ["mag 10"]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        problem = from_mne(evoked, forward, noise_cov)
    assert len(told) >= 4
    found = account(problem)["sensors"]
    for words in (
        "5 EEG, 1 magnetometers",
        "1 bad in the recording (eeg 1)",
        "1 not in the noise covariance (eeg 2)",
        "1 not in the forward solution (mag 8)",
        "1 bad in the forward solution (mag 9)",
        "1 bad in the noise covariance (mag 10)",
    ):
        assert words in found


def test_tells_reference_compensation_and_projectors(rng):
    evoked, forward, noise_cov = toy(rng, reference=False)
    custom = from_mne(evoked.copy().set_eeg_reference(["eeg 2"]), forward, noise_cov)
    assert account(custom)["sensors"].endswith("custom reference, made the average here")
    assert account(custom)["noise"].endswith("0 projectors")
    for info in (evoked.info, forward["info"]):
        for channel in info["chs"][7:]:
            channel["coil_type"] = (int(channel["coil_type"]) & 0xFFFF) + (3 << 16)
    meg = account(from_mne(evoked, forward, noise_cov, picks="meg"))
    assert meg["sensors"].endswith("compensation grade 3")
    average = evoked.set_eeg_reference("average", projection=True)
    assert "1 projector (Average EEG" in account(from_mne(average, forward, noise_cov, picks="eeg"))["noise"]
    assert account(from_mne(average, forward, noise_cov, picks="mag"))["noise"].endswith("0 projectors")


def test_tells_the_baseline_that_was_subtracted(rng):
    evoked, forward, noise_cov = toy(rng)
    found = account(from_mne(evoked, forward, noise_cov, baseline_correct=(-0.15, 0.0)))
    assert found["baseline"].startswith("16 samples, mean subtracted")
    assert found["baseline"].endswith("-150 to 0 ms")
