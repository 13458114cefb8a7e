"""What is said of distributed currents beside focal sources, and when focal sources are not inferred by default."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from referee import toy
from test_focal import posterior as focal_posterior

import bayesinv as bi
from bayesinv.cli.beside import Beside
from bayesinv.posterior.checks import Evidence
from bayesinv.prior.catalogue import MOST_NUMBERS, why_not_focal

pytestmark = pytest.mark.filterwarnings("ignore:(?s).*ArviZ is undergoing a major refactor:FutureWarning")


@pytest.fixture(scope="module")
def beside():
    problem = toy(samples=7, sources=8)
    return Beside(focal_posterior(problem), bi.infer("hierarchical", problem))


def told(beside, focal, distributed):
    """The same with other evidences."""
    return Beside(replace(beside.focal, log_evidence=focal), replace(beside.distributed, log_evidence=distributed))


@pytest.mark.parametrize(
    ("focal", "distributed", "words"),
    [
        (Evidence(-10.0, 0.3), Evidence(-30.0, 0.4), "prefers focal sources to distributed currents (hiera"),
        (Evidence(-30.0, 0.3), Evidence(-10.0, 0.4), "with caution"),
        (Evidence(-10.0, 0.3), Evidence(-12.0, 0.4), "does not tell"),
        # Twenty nats are not many where the error is twelve.
        (Evidence(-10.0, 12.0), Evidence(-30.0, 0.1), "does not tell"),
        (Evidence(-10.0, 0.1), None, "is not known"),
    ],
)  # fmt: skip
def test_what_the_recording_prefers(beside, focal, distributed, words):
    given = told(beside, focal, distributed)
    assert words in given.words
    assert words in given.page()
    facts = json.loads(json.dumps(given.facts(), default=str))
    assert facts["preference"] == given.words
    assert (facts["log_evidence_difference"] is None) == (distributed is None)
    assert given.rows()[0][2] in ("0.0", "-20.0")


def test_maps_are_those_of_the_posterior_and_of_mne(files):
    import mne

    with mne.use_log_level("ERROR"):
        evoked = mne.read_evokeds(files["ave"], "left ear")
        given = evoked, mne.read_forward_solution(files["fwd"]), mne.read_cov(files["cov"])
        problem = bi.from_mne(*given, orientation="free", tmin=0.0, tmax=0.2)
    posterior = bi.infer("hierarchical", problem)
    inside = problem.window(0.05, 0.1)
    distributed, mne_map = Beside(posterior, posterior).maps((0.05, 0.1)).values()
    mean = np.asarray(posterior.mean).reshape(9, 3, -1)[..., inside].mean(axis=-1)
    assert_allclose(distributed, np.linalg.norm(mean, axis=1))
    found = bi.baseline(problem, "MNE", 1 / 9, convention="mne").current[:, inside]
    assert_allclose(mne_map, np.abs(found.mean(axis=1)))


def test_focal_sources_by_default_and_why_not():
    problem = toy(sensors=12, sources=30, samples=20, quiet=20)
    assert why_not_focal(problem) is None
    assert "cannot tell" in why_not_focal(toy(sensors=4, sources=30, samples=20))
    assert "heavy tails" in why_not_focal(problem.with_fields(noise_tails="student"))
    large = toy(sensors=9, sources=MOST_NUMBERS // 9 + 1, samples=2)
    assert "and 9 components would take long" in why_not_focal(large)
    long = toy(sensors=9, sources=30, samples=1001)
    assert why_not_focal(long) == "1001 samples would take long; give a window (tmin, tmax)"
