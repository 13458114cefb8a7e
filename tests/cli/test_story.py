"""The demo's truth is where it is reported, is no inverse crime, and its scores recognise a right answer."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from numpy.testing import assert_allclose
from test_focal import sets

import bayesinv as bi
from bayesinv import cli
from bayesinv.cli import story as demo
from bayesinv.cli.beside import classical
from bayesinv.covariance.covariance import Structure
from bayesinv.forward import template_lead_field
from bayesinv.head import template_cortex
from bayesinv.inference import active_set
from bayesinv.posterior.hyper import Hyper
from bayesinv.posterior.maps import both
from bayesinv.posterior.mixture import Mixture
from bayesinv.posterior.peak import Peak
from bayesinv.posterior.posterior import Posterior
from bayesinv.problem.model_error import ForwardError


def unbounded(sources, sensors, *_, **__):
    from bayesinv.forward.unbounded import lead_field

    return lead_field(0.33, sensors, sources)


@pytest.fixture(scope="module")
def story():
    """The scene without its solvers: electrodes in an unbounded conductor."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bayesinv.forward.template_lead_field.lead_field", unbounded)
        patch.setattr("bayesinv.cli.story.true_lead_field", unbounded)
        return demo.simulate_demo("oct4", 32, 2.0, np.random.default_rng(1))


@pytest.fixture(scope="module")
def problem(story):
    return bi.from_mne(*story.to_mne())


def test_truth_is_off_the_grid_and_where_it_is_reported(story):
    truth, grid = story.simulation.truth, story.lead_field.sources
    used = {*zip(grid.vertices.tolist(), grid.hemispheres.tolist(), strict=True)}
    assert not used & {*zip(truth.sources.vertices.tolist(), truth.sources.hemispheres.tolist(), strict=True)}
    assert set(truth.sources.hemispheres) == {0}
    assert np.linalg.norm(story.centre_mri - demo.ACTIVE_MRI) < 0.01
    assert np.linalg.norm(grid.positions[story.nearest] - truth.centre, axis=1).max() < 0.03


def test_files_are_those_of_the_problem(story, problem):
    direct = story.simulation.problem(story.lead_field.fixed())
    # Whiteners may differ by a rotation; what they make of gain and recording may not.
    assert_allclose(problem.sources.positions, direct.sources.positions, atol=1e-9)
    ours = problem.gain.T @ problem.recording[:, -90:]
    assert_allclose(ours, direct.gain.T @ direct.recording[:, -90:], rtol=1e-5, atol=1e-5 * abs(ours).max())


def test_the_classical_answers_are_those_of_mne_python(story, problem):
    import mne

    evoked, forward, covariance = story.to_mne()
    with mne.use_log_level("ERROR"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        operator = mne.minimum_norm.make_inverse_operator(
            evoked.info, forward, covariance, loose=0.0, depth=0.8, fixed=True
        )
    found = classical(problem, story.window, demo.CLASSICAL)
    assert list(found) == [
        "MNE, MNE-Python's λ² = 1/9",
        "MNE, λ by GCV",
        "MNE, λ by L-curve (in doubt)",
        "dSPM, MNE-Python's λ² = 1/9",
    ]
    with pytest.warns(UserWarning, match="no corner"):
        by_curve = bi.baseline(problem, "MNE", "l-curve", convention="mne")
    wanted = np.abs(by_curve.current[:, problem.window(*story.window)].mean(axis=1))
    assert_allclose(found["MNE, λ by L-curve (in doubt)"], wanted)
    assert demo.SHOWN in found
    for name, table in found.items():
        if "Python" not in name:
            continue
        with mne.use_log_level("ERROR"):
            theirs = mne.minimum_norm.apply_inverse(evoked, operator, 1 / 9, method=name.split(",")[0])
        inside = (theirs.times >= story.window[0] - 1e-9) & (theirs.times <= story.window[1] + 1e-9)
        assert_allclose(table, np.abs(theirs.data[:, inside].mean(axis=1)), rtol=1e-6, atol=1e-9 * table.max())


def test_scores_recognise_the_truth(story, problem):
    posterior = bi.infer("minimum_norm", problem)
    at = np.zeros(problem.source_count)
    at[story.nearest[0]] = 1.0
    right = Peak(at, int(story.nearest[0]), problem.sources.positions, story.window, 100)
    found = demo.scores(story, posterior, {"right": right}, {"right": at, "wrong": np.eye(1, len(at), len(at) - 1)[0]})
    assert found["right"]["off_mm"] < 25
    assert found["wrong"]["off_mm"] > 40
    # All draws at one source: the ball has no radius, and the source is not the truth's centre itself.
    assert found["posterior mean, right"]["radius_mm"] == 0
    assert found["posterior mean, right"]["ball_holds_truth"] is False
    half = Peak(
        (at + np.roll(at, 1 + len(at) // 2)) / 2, int(story.nearest[0]), problem.sources.positions, story.window, 100
    )
    answer = demo.scores(story, posterior, {"half": half}, {})["posterior mean, half"]
    assert answer["ball_holds_truth"] is True
    assert answer["probability_near_truth"] in (0.0, 0.5)
    patch = found["current of the patch"]
    weights = np.isin(np.arange(len(at)), story.nearest).astype(float)
    assert patch["mean_nAm"] == pytest.approx(1e9 * float(posterior.contrast(weights, story.window).mean[0, 0]))
    page = demo.page(story, found)
    for text in ("does not hold the truth", "no statement", "Truth and inversion differ in their sources"):
        assert text in page
    assert len(demo.rows(story, found)) == 4


def test_the_answer_is_near_the_truth(story, problem):
    maps = both(bi.infer("hierarchical", problem), story.window, draws=300)
    single, regional = maps
    assert single.draws == regional.draws == 300
    found = demo.scores(story, bi.infer("hierarchical", problem), {"patches": regional.place(problem)}, {})
    answer = found["posterior mean, patches"]
    assert answer["off_mm"] < 30
    assert answer["probability_near_truth"] > 5 * answer["probability_by_chance"]


def test_a_focal_source_is_told_once_and_where_its_sentence_has_it(story, problem):
    posterior = focal_on(problem, story.nearest)
    single = both(posterior, story.window, draws=50)[0]
    found = demo.scores(story, posterior, {"single sources": single.place(problem)}, {})
    assert not [name for name in found if name.startswith(("posterior mean", "current"))]
    focus, answer = posterior.foci[0], found["focal source 1"]
    # The distance is that of the report's sentence, and the row's place as far from the truth's as this says.
    truth = story.simulation.truth
    assert answer["off_mm"] == pytest.approx(1e3 * np.linalg.norm(focus.centre - truth.centre))
    apart = np.array(answer["peak_mri_mm"]) - 1e3 * story.centre_mri
    assert np.linalg.norm(apart) == pytest.approx(answer["off_mm"], abs=0.2)
    # Currents and truth are means over the same samples; a mean of a course is what all its draws average to.
    inside = problem.window(*story.window)
    assert answer["mean_nAm"] == pytest.approx(1e9 * focus.current.mean[0, inside].mean(), rel=1e-9)
    course = truth.course[np.isin(truth.times.round(6), problem.times[inside].round(6))]
    assert answer["truth_nAm"] == pytest.approx(1e9 * course.mean())
    rows = demo.rows(story, found)
    assert [row[0] for row in rows] == ["truth", *(name for name in found)]
    assert "nA m" not in " ".join(rows[1])
    told = [text for text in demo.words(story, found) if text.startswith("Current of")]
    assert len(told) == len(found)


def focal_on(problem, near):
    """A posterior of four draws, each of which has a source at one of some places."""
    given, size = sets(False), 1e-8
    places = np.array([near[0], near[-1], near[0], near[-1], near[0]])
    given = replace(given, members=places, strength=size * given.strength)
    given = replace(given, centre=places[:3])
    mixture = Mixture(
        np.array([0.1, 0.2, 0.3, 0.4]), np.full(4, 1e-22), np.ones(4), np.zeros(4, dtype=int), (Structure(),)
    )
    nothing = {name: np.ones(4) for name in ("lambda", "snr")}
    return Posterior(
        problem, "focal", "active_set", mixture, Hyper(nothing, mixture.weights, nothing), None, active=given
    )


@pytest.mark.slow
def test_the_truth_has_finite_elements_and_is_computed_once(tmp_path, monkeypatch):
    monkeypatch.setenv("BAYESINV_CACHE", str(tmp_path))
    sources = template_cortex.cortex().pick([4000, 15000])
    sensors = template_cortex.electrodes(["Cz", "C3", "Oz"])
    made = demo.true_lead_field(sources, sensors, "coarse")
    assert "CSF 1.79" in made.notes["conductivities"]
    assert "finite elements" in made.notes["method"]
    monkeypatch.setattr("bayesinv.head.template_mesh.finite_elements", None)
    assert_allclose(demo.true_lead_field(sources, sensors, "coarse").gain, made.gain)
    with pytest.raises(TypeError):
        demo.true_lead_field(sources, sensors.pick([0, 1]), "coarse")
    # Another head, but the same brain: alike, not equal.
    other = template_lead_field.lead_field(sources, sensors, cache=tmp_path).rereference("average").gain.ravel()
    ours = made.rereference("average").gain.ravel()
    assert 0.9 < np.corrcoef(ours, other)[0, 1] < 0.9999


@pytest.mark.slow
def test_the_whole_story(tmp_path, monkeypatch, capfd, request):
    monkeypatch.setenv("BAYESINV_CACHE", str(tmp_path / "cache"))
    # How fine the true head is is asserted where two meshes are compared.
    monkeypatch.setattr(demo, "true_lead_field", partial(demo.true_lead_field, resolution="coarse"))
    out = tmp_path / "out"
    asked = ["--spacing", "oct4", "--electrodes", "32", "--model", "hierarchical"]
    # The response is slower than the noise, which the model does not know, and a check says so.
    assert cli.run(["demo", "--out", str(out), *asked]) == 1
    shown = capfd.readouterr()
    found = json.loads((out / "summary.json").read_text())
    assert [one["name"] for one in found["checks"] if not one["passed"]] == ["currents over time"]
    assert "finite elements" in found["truth"]["notes"]["method"]
    assert "boundary elements" in found["truth"]["inversion"]["solver"]
    assert "MNE-Python's λ² = 1/9" in shown.out
    assert len(list((tmp_path / "cache").glob("template-*.npz"))) == 2
    # What it wrote is input for the other command, with the same answer; its report shows the same pictures.
    request.getfixturevalue("plain")
    tokens = ["fit", str(out / "demo-ave.fif"), "--forward", str(out / "demo-fwd.fif")]
    tokens += ["--noise-cov", str(out / "demo-cov.fif"), "--out", str(tmp_path / "again"), "--model", "hierarchical"]
    assert cli.run(tokens) == 1
    again = json.loads((tmp_path / "again" / "summary.json").read_text())
    assert again["hyper"]["snr"]["mean"] == pytest.approx(found["hyper"]["snr"]["mean"], rel=1e-3)


def scaled(simulated, progress):
    gain = simulated.lead_field
    return ForwardError.of([replace(gain, gain=factor * gain.gain) for factor in (0.8, 1.2)])


@pytest.mark.slow
def test_the_demo_answers_with_focal_sources_and_others_beside(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("bayesinv.forward.template_lead_field.lead_field", unbounded)
    monkeypatch.setattr("bayesinv.cli.story.true_lead_field", unbounded)
    # The head is right, but not known to be: all fields may be weaker or stronger.
    monkeypatch.setattr(demo, "head_error", scaled)
    # What is drawn is shown by other tests; whether chains agree is not the point here.
    monkeypatch.setattr("bayesinv.inference.active_set.PART", 60)
    monkeypatch.setattr("bayesinv.inference.active_set.PARTS", 1)
    monkeypatch.setitem(active_set.posterior.__kwdefaults__, "warm", 50)
    out = tmp_path / "out"
    assert cli.run(["demo", "--out", str(out), "--spacing", "oct4", "--electrodes", "32", "--snr", "2"]) in (0, 1)
    shown = capfd.readouterr().out
    found = json.loads((out / "summary.json").read_text())
    assert (found["model"], found["distributed"]["model"]) == ("focal", "temporal")
    assert found["distributed"]["preference"] in shown
    # The head is right here, so that focal sources are: where, to the width of a coarse grid's cells, how surely, and
    # nearly how large.
    grid = template_cortex.sources("oct4")
    source = found["answers"]["focal source 1"]
    assert source["probability"] > 0.95
    assert source["off_mm"] < 1e3 * np.sqrt(grid.areas.sum() / len(grid))
    low, high = source["interval_nAm"]
    assert 0.8 * low < source["truth_nAm"] < 1.2 * high
    distributed = found["answers"]["current of the patch, distributed"]
    assert distributed["mean_nAm"] < 0.3 * distributed["truth_nAm"]
    assert "fit takes the head for known" in shown
    assert found["distributed"]["log_evidence_difference"] > 10
    page = (out / "report.html").read_text()
    for words in ("Focal sources or distributed currents", "by distributed currents", "Current of focal source 1"):
        assert words in page
    assert bi.load(out / "distributed.nc").model == "temporal"
