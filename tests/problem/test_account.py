"""The account says what is used, in a few lines, whatever the problem knows of itself."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

import bayesinv as bi
from bayesinv.bridges.archive import save
from bayesinv.problem.account import account

KINDS = ("eeg",) * 5 + ("mag",) * 3 + ("grad",) * 2


@pytest.fixture
def problem(rng):
    return bi.Problem.from_arrays(
        rng.normal(size=(10, 7, 3)),
        rng.normal(size=(10, 6)),
        np.eye(10),
        times=0.1 + np.arange(6) / 250,
        baseline=rng.normal(size=(10, 31)),
        kinds=KINDS,
        rank={"eeg": 4, "meg": 5},
        averages=1.2,
    )


def test_says_what_is_used(problem):
    found = account(problem)
    assert found["sensors"] == "5 EEG, 2 gradiometers, 3 magnetometers"
    assert found["noise"] == "rank 5 of 5 MEG and 4 of 5 EEG"
    assert found["noise over time"] == "white, estimated from 31 samples of baseline"
    assert found["recording"] == "6 samples, 100 to 120 ms, average of 1.2 trials"
    assert found["baseline"] == f"31 samples, mean as it is, global field power {problem.baseline_power:.2f} (wanted 1)"
    assert found["sources"] == "7, free orientation"


def test_of_arrays_that_know_nothing(rng):
    plain = bi.Problem.from_arrays(rng.normal(size=(5, 8)), rng.normal(size=(5, 1)))
    assert account(plain) == {
        "sensors": "5 sensors",
        "noise": "white, 5 components",
        "noise over time": "taken as white: there is no baseline",
        "recording": "1 sample, 1 trial",
        "baseline": "none, so that the noise is learned from the recording alone",
        "sources": "8, fixed orientation",
    }
    ranked = bi.Problem.from_arrays(rng.normal(size=(5, 8)), rng.normal(size=(5, 1)), np.eye(5), rank=3)
    assert account(ranked)["noise"] == "rank 3 of 5"


def test_adds_notes_where_they_belong(problem):
    noted = replace(problem, notes={"sensors": "left out 1 bad", "baseline": "", "filter": "none"})
    found = account(noted)
    assert found["sensors"] == "5 EEG, 2 gradiometers, 3 magnetometers; left out 1 bad"
    assert found["baseline"] == account(problem)["baseline"]
    assert found["filter"] == "none"
    assert list(found)[-1] == "filter"


def test_notes_are_the_problems_own(problem):
    notes = {"sensors": "left out 1 bad"}
    noted = replace(problem, notes=notes)
    notes["sensors"] = "another"
    assert noted.notes == {"sensors": "left out 1 bad"}


def test_is_what_is_printed_and_fits_a_screen(problem):
    noted = replace(problem, notes={"sensors": "left out 1 bad"})
    lines = repr(noted).splitlines()
    assert lines[0] == "Problem"
    assert 5 <= len(lines) <= 12
    assert max(map(len, lines)) < 200
    assert all(text in line for text, line in zip(account(noted).values(), lines[1:], strict=True))


def test_travels_with_the_problem(problem, tmp_path):
    noted = replace(problem, notes={"sensors": "left out 1 bad", "baseline": "-200 to 0 ms"})
    copies = [replace(noted), pickle.loads(pickle.dumps(noted)), noted.with_maps({"a": np.arange(7.0)})]
    save(noted, tmp_path / "problem.nc")
    copies.append(bi.load(tmp_path / "problem.nc"))
    for copy in copies:
        assert account(copy) == account(noted)


def test_another_recording_has_another_baseline(problem, rng):
    noted = replace(problem, notes={"sensors": "left out 1 bad", "baseline": "-200 to 0 ms"})
    other = noted.again(rng.normal(size=(9, 6)), baseline=rng.normal(size=(9, 12)), baseline_centred=True)
    found = account(other)
    assert found["sensors"].endswith("left out 1 bad")
    assert found["baseline"].startswith("12 samples, mean subtracted")
    assert "-200" not in found["baseline"]
    assert found["recording"] == "6 samples, 100 to 120 ms, average of 1.2 trials"
