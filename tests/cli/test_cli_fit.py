"""`bayesinv fit` writes a complete result, whose numbers are those of the library."""

from __future__ import annotations

import json

import numpy as np
import pytest

import bayesinv as bi
from bayesinv import cli
from bayesinv.bridges.archive_load import load

ASKED = ("gain", "recording", "times", "baseline", "baseline_centred", "axes", "whitener", "error_factor", "labels")
ASKED += ("maps", "baseline_times", "noise_tails", "notes")
"""What of a problem a posterior depends on, beside the noise's autocorrelation."""


@pytest.fixture(scope="module")
def problem(files):
    """The recording as the library reads it."""
    import mne

    with mne.use_log_level("ERROR"):
        return bi.from_mne(
            mne.read_evokeds(files["ave"], "left ear"),
            mne.read_forward_solution(files["fwd"]),
            mne.read_cov(files["cov"]),
            tmin=0.05,
            tmax=0.2,
            baseline=(-0.2, 0.0),
        )


class TestFit:
    def test_it_writes_a_whole_result(self, whole):
        parent, code, out, err, _ = whole
        assert code == 0, err
        folder = parent / "out"
        there = sorted(path.name for path in folder.iterdir())
        assert there == ["distributed.nc", "maps.png", "posterior.nc", "report.html", "summary.json"]
        assert [path.name for path in parent.iterdir()] == ["out"]
        found = json.loads((folder / "summary.json").read_text())
        assert found["files"] == there
        assert found["inputs"]["condition"] == "left ear"
        assert found["inputs"]["seed"] == 3
        assert found["passed"] is True
        assert {"mean", "low", "high"} <= set(found["hyper"]["lambda"])
        assert found["versions"]["bayesinv"] == bi.__version__
        assert {"infer", "whiten", "write"} <= set(found["timings"])
        used = found["inputs"]["used"]
        assert used["sensors"] == "12 EEG; average reference"
        assert used["noise"] == "rank 11 of 12 EEG; 1 projector (Average EEG reference)"
        assert used["baseline"].endswith("-200 to 0 ms")
        assert all(text in out for text in used.values())
        loaded = load(folder / "posterior.nc")
        assert loaded.hyper["lambda"].mean == pytest.approx(found["hyper"]["lambda"]["mean"], rel=1e-12)
        for facts in found["peak"].values():
            assert 0 < facts["probability"] <= 1
            assert len(facts["position_mm"]) == 3
        for word in ("λ", "SNR", "90%", "number of focal sources", "log evidence", "check", "passed", "time"):
            assert word in out
        assert "infer" in err

    def test_replicated_recordings_are_reported_on_request(self, whole, fit_exactly, tmp_path):
        parent, _, out, *_ = whole
        for word in ("test quantity", "residual autocorrelation", "leading component"):
            assert word in out
        assert "predict" in json.loads((parent / "out" / "summary.json").read_text())["timings"]
        shown = fit_exactly()[1]
        assert "test quantity" not in shown
        assert "peak at" in shown
        assert "predict" not in json.loads((tmp_path / "out" / "summary.json").read_text())["timings"]

    def test_the_numbers_are_those_of_the_library(self, whole, problem):
        assert bi.default_model(problem) == "temporal"
        focal, beside = whole[4]
        assert (focal.model, focal.args, beside.model, beside.args) == ("focal", (None,), "temporal", ())
        assert focal.state == np.random.default_rng(3).bit_generator.state
        assert {**focal.options, "progress": False} == {"draws": 500, "progress": False}
        assert beside.options == {}
        for name in ASKED:
            np.testing.assert_equal(getattr(focal.problem, name), getattr(problem, name), name)
        np.testing.assert_equal(vars(focal.problem.autocorrelation), vars(problem.autocorrelation))
        assert beside.problem is focal.problem
        expected = focal.posterior
        # The first inference took numbers from the generator of which the second one draws.
        rng = np.random.default_rng()
        rng.bit_generator.state = beside.state
        distributed = bi.infer("temporal", problem, rng=rng)
        found = json.loads((whole[0] / "out" / "summary.json").read_text())
        beside = found["distributed"]
        assert (found["model"], beside["model"]) == ("focal", "temporal")
        assert beside["log_evidence"] == pytest.approx(float(distributed.log_evidence), rel=1e-10)
        difference = float(expected.log_evidence) - float(distributed.log_evidence)
        assert beside["log_evidence_difference"] == pytest.approx(difference, rel=1e-8)
        assert beside["preference"] in whole[2]
        assert load(whole[0] / "out" / "distributed.nc").model == "temporal"
        assert found["samples"] == 16
        assert found["log_evidence"] == pytest.approx(float(expected.log_evidence), rel=1e-10)
        assert found["hyper"]["snr"]["high"] == pytest.approx(expected.hyper["snr"].interval(0.9)[1], rel=1e-10)

    def test_inferred_again_from_its_seed_it_is_the_same(self, fit, problem, tmp_path):
        window = ("--tmin", 0.05, "--tmax", 0.2, "--baseline", "-0.2,0")
        assert fit("--model", "hierarchical", "--method", "laplace", "--seed", 3, "--draws", 500, *window)[0] in (0, 1)
        expected = bi.infer("hierarchical", problem, "laplace", rng=np.random.default_rng(3), draws=500)
        found = json.loads((tmp_path / "out" / "summary.json").read_text())
        assert found["log_evidence"] == pytest.approx(float(expected.log_evidence), rel=1e-10)
        assert found["hyper"]["snr"]["high"] == pytest.approx(expected.hyper["snr"].interval(0.9)[1], rel=1e-10)

    @pytest.mark.parametrize(
        ("options", "wanted"),
        [
            (
                ["--model", "minimum_norm", "--rank", "9", "--baseline", "none", "--tmin", "0", "--head-moved", "warn"],
                {"method": "exact", "components": 9, "samples": 31, "passed": True},
            ),
            (
                ["--model", "hierarchical", "--method", "laplace", "--rank", "eeg=7", "--averages", "1.2"],
                {"method": "laplace", "components": 7, "averages": 1.2},
            ),
            (
                ["--model", "minimum_norm", "--rank", "info", "--baseline-correct", "-0.2,0"],
                {"components": 11, "baseline_correct": "-0.2,0"},
            ),
            (
                ["--model", "minimum_norm", "--picks", "Fp1,F3,C3,P3,O1,Cz", "--orientation", "free"],
                {"components": 5, "orientation": "free"},
            ),
        ],
    )
    def test_options_reach_the_result(self, fit, tmp_path, options, wanted):
        code, _, err = fit(*options)
        # Whether the checks like the method is not the point here.
        assert code in (0, 1), err
        found = json.loads((tmp_path / "out" / "summary.json").read_text())
        found |= found["inputs"]
        assert {key: found[key] for key in wanted} == wanted

    def test_why_there_are_no_focal_sources_is_said(self, fit, tmp_path):
        code, out, err = fit("--method", "quadrature", "--tmin", "0", "--tmax", "0.05")
        assert code in (0, 1), err
        why = json.loads((tmp_path / "out" / "summary.json").read_text())["no_focal_sources"]
        assert why == "method 'quadrature' is for distributed currents"
        assert f"no focal sources: {why}" in out
        page = (tmp_path / "out" / "report.html").read_text()
        assert "'sections'" in page
        assert "'others'" in page

    @pytest.mark.parametrize("condition", ["right ear", "1"])
    def test_condition_by_name_or_number(self, fit_exactly, tmp_path, condition):
        assert fit_exactly(condition=condition)[0] == 0
        assert json.loads((tmp_path / "out" / "summary.json").read_text())["inputs"]["condition"] == "right ear"

    def test_a_file_with_one_condition_needs_no_name(self, fit_exactly, files):
        assert fit_exactly(recording=files["one"], condition=None)[0] == 0

    def test_a_failed_check_is_code_1_and_all_is_written(self, fit_exactly, tmp_path, monkeypatch):
        from dataclasses import replace

        from bayesinv.posterior.checks import Check

        bad = Check("sun", 2.0, "below 1", False, "it shines")
        inferred = bi.infer

        def infer(*args, **kwargs):
            return replace(inferred(*args, **kwargs), checks=(bad,))

        monkeypatch.setattr("bayesinv.infer", infer)
        code, out, err = fit_exactly()
        assert code == 1
        assert "check failed: sun is 2, wanted below 1; it shines" in err
        assert "FAILED" in out
        assert (tmp_path / "out" / "report.html").is_file()

    def test_a_mismatched_covariance_warns_in_one_line(self, fit_exactly, files, tmp_path):
        import mne

        with mne.use_log_level("ERROR"):
            covariance = mne.read_cov(files["cov"])
            covariance["data"] = covariance["data"] * 25
            mne.write_cov(tmp_path / "wide-cov.fif", covariance)
        code, _, err = fit_exactly(noise_cov=tmp_path / "wide-cov.fif")
        assert code == 1
        lines = [line for line in err.splitlines() if "warning" in line]
        assert len(lines) == 1
        assert lines[0].startswith("bayesinv: warning: the whitened baseline has a global field power of 0.2")

    def test_a_models_file_works_where_a_name_does(self, fit, tmp_path):
        mine = tmp_path / "mine.py"
        mine.write_text(
            '"""Mine: as it should be."""\nimport pymc as pm\nfrom bayesinv import Currents\n\n'
            "def model(problem):\n    with pm.Model(coords=problem.coords) as built:\n"
            '        scale = pm.HalfNormal("scale", problem.scale_guess)\n'
            '        Currents(variance=scale**2).observe("recording", problem, noise=1.0)\n    return built\n'
        )
        code, out, err = fit("--model", mine)
        assert code == 0, err
        assert "mine" in out


@pytest.mark.slow
@pytest.mark.parametrize(("condition", "side"), [("Right Auditory", "left"), ("Right visual", "left")])
def test_the_real_recording(sample, tmp_path, plain, capfd, condition, side):
    tokens = ["fit", str(sample / "sample-right-ave.fif"), "--forward", str(sample / "sample-oct5-fwd.fif")]
    tokens += ["--noise-cov", str(sample / "sample-noise-cov.fif"), "--out", str(tmp_path / "out")]
    code = cli.run([*tokens, "--condition", condition])
    found = json.loads((tmp_path / "out" / "summary.json").read_text())
    # Tones are answered from a few places, which EEG sees less of than MEG does where currents are alike everywhere.
    # Means over 0.2 s are 1.41 times as large as they are taken to be, where 1.4 is let pass.
    failed = {one["name"] for one in found["checks"] if not one["passed"]}
    few = {"currents by kind of sensor", "currents over depth", "currents over time"}
    assert failed <= (few if condition == "Right Auditory" else set())
    assert code == bool(failed)
    # Two of 2052 lie on the skull of the head model.
    assert found["sources"] == 2050
    assert found["components"] == 360
    peak = found["peak"]["15 mm patches"]
    assert peak["hemisphere"] == side
    assert peak["probability_left"] > 0.8


class TestLeavingOut:
    def test_what_is_named_is_left_out_and_told(self, fit, tmp_path):
        code, out, err = fit("--leave-out", "Fz, O1", "--leave-out-times", "0.1;-0.05,-0.03", "--model", "hierarchical")
        assert code in (0, 1), err
        found = json.loads((tmp_path / "out" / "summary.json").read_text())["inputs"]
        assert found["leave_out"] == "Fz, O1"
        assert found["leave_out_times"] == "0.1;-0.05,-0.03"
        assert found["used"]["sensors"] == "10 EEG; average reference; left out 2 (O1, Fz)"
        assert found["used"]["recording"].endswith("1 sample (100 ms) left out")
        assert "-200 to 0 ms" in found["used"]["baseline"]
        assert found["used"]["baseline"].endswith("3 samples (within -50 to -30 ms) left out")
        assert "left out 2 (O1, Fz)" in " ".join(out.split())
        problem = load(tmp_path / "out" / "posterior.nc").problem
        assert problem.whitener.shape[1] == 10
        assert not np.isclose(problem.times, 0.1).any()

    def test_what_is_not_there_is_refused(self, fit, tmp_path):
        for given, words in (
            (("--leave-out", "Fzz"), "did you mean 'Fz'?"),
            (("--leave-out-times", "later"), "--leave-out-times later is no time in s"),
            (("--leave-out-times", "0.2,0.1"), "ends before it starts"),
            (("--leave-out-times", "7"), "no sample near 7 s"),
        ):
            code, _, err = fit(*given)
            assert code == 2
            assert words in err

    @pytest.mark.slow
    def test_tails_of_the_noise_are_told(self, fit, tmp_path):
        code, _, err = fit("--noise-tails", "student", "--model", "minimum_norm", "--tmin", 0.05, "--tmax", 0.15)
        assert code in (0, 1), err
        found = json.loads((tmp_path / "out" / "summary.json").read_text())
        assert found["method"] == "gibbs"
        assert found["inputs"]["noise_tails"] == "student"
        assert "Student" in found["inputs"]["used"]["noise"]
        assert found["log_evidence"] is None
        assert "noise of their own" in {check["name"] for check in found["checks"]}
