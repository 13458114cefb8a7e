"""The real recording as MNE-Python reads it."""

from __future__ import annotations

import mne
import numpy as np
import pytest


@pytest.fixture(scope="module")
def full_forward(sample):
    return mne.read_forward_solution(sample / "sample-oct5-fwd.fif")


@pytest.fixture(scope="module")
def forward(full_forward):
    """Every sixth source of the cortex: as real, and six times as fast."""
    vertices = [space["vertno"][::6] for space in full_forward["src"]]
    chosen = mne.SourceEstimate(np.ones((sum(map(len, vertices)), 1)), vertices, 0, 1)
    return mne.forward.restrict_forward_to_stc(full_forward, chosen)


@pytest.fixture(scope="module")
def noise_cov(sample):
    return mne.read_cov(sample / "sample-noise-cov.fif")


@pytest.fixture(scope="module")
def auditory(sample):
    return mne.read_evokeds(sample / "sample-right-ave.fif", "Right Auditory")
