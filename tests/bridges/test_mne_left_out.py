"""A problem without some channels is what MNE-Python's objects without those channels give."""

from __future__ import annotations

import mne
import numpy as np
import pytest
from mne_objects import classical, toy
from numpy.testing import assert_allclose

import bayesinv as bi

pytestmark = pytest.mark.filterwarnings(
    "ignore:the whitened baseline:UserWarning", "ignore:the baseline has:UserWarning"
)


@pytest.fixture(scope="module", autouse=True)
def errors_only():
    """Let MNE-Python log errors only."""
    with mne.use_log_level("ERROR"):
        yield


def same(found, wanted, rtol):
    """The same whitening up to a rotation of components, in units of each sensor's noise."""
    assert found.components == wanted.components
    assert found.field.names == wanted.field.names == found.sensors.names
    assert found.origin.info.ch_names == wanted.origin.info.ch_names
    units = 1 / np.linalg.norm(wanted.whitener, axis=0)
    for name in ("gain", "recording", "baseline", "whitener"):
        one, other = (units[:, None] * (problem.whitener.T @ getattr(problem, name)) for problem in (found, wanted))
        if name == "whitener":
            one, other = one * units, other * units
        assert_allclose(one, other, rtol=0, atol=rtol * np.abs(other).max())
    assert_allclose(found.autocorrelation.values, wanted.autocorrelation.values, rtol=1e-7)


@pytest.mark.parametrize("lost", [["eeg 2"], ["mag 8", "eeg 0", "eeg 1"], ["mag 7", "mag 8", "mag 9", "mag 10"]])
def test_of_a_toy(rng, lost):
    evoked, forward, noise_cov = toy(rng)
    problem = bi.from_mne(evoked, forward, noise_cov)
    picks = [name for name in evoked.ch_names if name not in lost]
    same(problem.without(sensors=lost), bi.from_mne(evoked, forward, noise_cov, picks=picks), 1e-10)


@pytest.mark.parametrize("lost", [["MEG 0111", "EEG 003"], ["MEG 1421", "MEG 1422", "MEG 1423", "MEG 2431", "EEG 020"]])
def test_of_the_real_recording(auditory, forward, noise_cov, lost):
    problem = bi.from_mne(auditory, forward, noise_cov, outliers="keep")
    bad = auditory.copy()
    bad.info["bads"] = [*bad.info["bads"], *lost]
    found = problem.without(sensors=lost)
    # Rounding of a covariance, times this, is that of its inverse.
    condition = max(values[-1] / values[0] for _, values, _ in problem.noise.blocks.values())
    same(found, bi.from_mne(bad, forward, noise_cov, outliers="keep"), 100 * condition * np.finfo(float).eps)
    # MNE-Python's own inverse operator knows them, too.
    operator = classical(found, auditory, forward, noise_cov)
    assert operator["noise_cov"].ch_names == list(found.field.names)
    assert f"left out {len(lost)} ({', '.join(sorted(lost, key=auditory.ch_names.index))})" in str(found)
