"""What a check of the noise over time advises is what helps."""

from __future__ import annotations

import re

import numpy as np
from coloured import ar
from scipy.signal import firwin, lfilter

import bayesinv as bi

COMPONENTS, QUIET, SAMPLES = 13, 840, 560


def checked(noise, every=1):
    """Failed checks of noise alone, of which every so many samples are taken."""
    gain = np.random.default_rng(3).standard_normal((COMPONENTS, 31))
    baseline, recording = noise[:, :QUIET:every], noise[:, QUIET::every][:, :150]
    problem = bi.Problem.from_arrays(gain, recording, np.eye(COMPONENTS), baseline=baseline)
    return [check for check in bi.infer("hierarchical", problem, draws=100).checks if not check.passed]


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
