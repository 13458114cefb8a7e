"""Sensors, a lead field, a cortex and a baseline to simulate with."""

from __future__ import annotations

import numpy as np
import pytest

from bayesinv.forward.leadfield import LeadField
from bayesinv.head import template_cortex
from bayesinv.head.sensors import Sensors
from bayesinv.head.sources import Sources
from bayesinv.problem.recording import Recording
from bayesinv.simulation import courses as courses_simulation
from bayesinv.simulation import truth as truth_simulation

TIMES = np.arange(-20, 41) / 250.0
LONG = np.arange(-50, 200) / 250.0


@pytest.fixture
def sensors(rng):
    places = rng.standard_normal((7, 3))
    return Sensors(tuple("ABCDEFG"), ("eeg",) * 7, 0.1 * places / np.linalg.norm(places, axis=1, keepdims=True))


@pytest.fixture
def scene(rng, sensors):
    normals = rng.standard_normal((3, 3))
    sources = Sources(0.05 * rng.standard_normal((3, 3)), normals / np.linalg.norm(normals, axis=1, keepdims=True))
    lead_field = LeadField(1e3 * rng.standard_normal((7, 3, 3)), sensors, sources)
    course = courses_simulation.evoked_course(TIMES, (0.08,), (0.02,), (1.0,))
    return truth_simulation.Truth(sources, 1e-8 * np.array([[1.0], [-0.5], [0.2]]) * course, TIMES), lead_field


@pytest.fixture(scope="module")
def cortex():
    return template_cortex.cortex()


@pytest.fixture
def baseline(rng):
    """Correlated noise that is not white: each sample keeps half of the one before."""
    mix = rng.standard_normal((7, 7))
    field = np.zeros((7, 3000))
    for t in range(1, 3000):
        field[:, t] = 0.5 * field[:, t - 1] + mix @ rng.standard_normal(7)
    return Recording(field + 5, np.arange(3000) / 250.0, tuple("ABCDEFG"))
