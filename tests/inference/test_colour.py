"""What a check of the noise over time advises is what helps."""

from __future__ import annotations

import re

import numpy as np
import pytest
from coloured import ar
from scipy.signal import firwin, lfilter

import bayesinv as bi
from bayesinv.covariance.time_course import correlation_over_time
from bayesinv.problem.autocorrelation import Autocorrelation

COMPONENTS, QUIET, SAMPLES = 13, 840, 560


def checked(noise, every=1):
    """Failed checks of the noise over time, of noise alone, of which every so many samples are taken."""
    gain = np.random.default_rng(3).standard_normal((COMPONENTS, 31))
    baseline, recording = noise[:, :QUIET:every], noise[:, QUIET::every][:, :150]
    problem = bi.Problem.from_arrays(gain, recording, np.eye(COMPONENTS), baseline=baseline)
    checks = bi.infer("hierarchical", problem, draws=100).checks
    return [check for check in checks if not check.passed and check.name.startswith("noise over time")]


def test_noise_filtered_far_below_the_sampling_rate_wants_fewer_samples(rng):
    low_pass = firwin(133, 0.05, fs=1)
    noise = lfilter(low_pass, 1, rng.standard_normal((COMPONENTS, QUIET + SAMPLES + 133)))[:, 133:]
    noise /= noise.std()
    failed = checked(noise)
    assert {check.name for check in failed} == {"noise over time, baseline", "noise over time, recording"}
    every = {int(re.search(r"Take every (\d+)th sample \(evoked\.decimate", check.note)[1]) for check in failed}
    assert every == {7}
    assert not checked(noise, 7)


def test_slow_noise_that_was_not_filtered_does_not(rng):
    assert not checked(ar([0.9], (COMPONENTS, QUIET + SAMPLES), rng))


@pytest.mark.parametrize("noise_time", ["auto", "one"])
def test_few_sensors_of_another_colour_do_not_hide_among_many(noise_time):
    rng = np.random.default_rng(5)
    meg, eeg = 30, 5
    noise = np.vstack([ar([0.3], (meg, 300), rng), ar([0.9], (eeg, 300), rng)])
    gain, kinds = 0.01 * rng.standard_normal((meg + eeg, 31)), ("mag",) * meg + ("eeg",) * eeg
    known = Autocorrelation(0.3 ** np.arange(40), 0.001) if noise_time == "one" else noise_time
    problem = bi.Problem.from_arrays(
        gain, noise[:, 200:], np.eye(meg + eeg), baseline=noise[:, :200], kinds=kinds, noise_time=known
    )
    checks = [one for one in bi.infer("hierarchical", problem, draws=50).checks if "noise over time" in one.name]
    assert len(checks) == 2
    for check in checks:
        assert check.passed == (noise_time == "auto")
        if not check.passed:
            assert check.note.startswith("of EEG, ")


@pytest.mark.parametrize(("taken", "right"), [(0.8, True), (0.4, False), (0.0, False)])
def test_currents_with_a_time_constant_do_not_pass_for_noise_of_another_colour(taken, right):
    """All directions are judged, less what the model says of currents in them: slow ones are in every direction."""
    rng, samples = np.random.default_rng(6), 80
    gain = np.geomspace(3, 0.05, COMPONENTS)[:, None] * rng.standard_normal((COMPONENTS, 31)) / np.sqrt(31)
    times = np.arange(-120, samples) / 500
    root = np.linalg.cholesky(correlation_over_time(times[120:], 0.03) + 1e-9 * np.eye(samples))
    field = ar([0.8], (COMPONENTS, 120 + samples), rng)
    field[:, 120:] += gain @ rng.standard_normal((31, samples)) @ root.T
    problem = bi.Problem.from_arrays(
        gain,
        field[:, 120:],
        times=times[120:],
        baseline=field[:, :120],
        noise_time=Autocorrelation(taken ** np.arange(40), 1 / 500),
    )
    checks = {one.name: one for one in bi.infer("temporal", problem, draws=50).checks}
    assert checks["noise over time, recording"].passed == right
    assert checks["noise over time, baseline"].passed == right
