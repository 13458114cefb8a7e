"""The command line: whole results or none, one line for what is wrong, and the exit code that belongs to it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import bayesinv as bi
from bayesinv import cli
from bayesinv.archive import load

NAMES = ["Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2", "Fz", "Cz"]


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """A small EEG average with two conditions, its forward solution on a sphere, and its covariance."""
    import mne

    folder = tmp_path_factory.mktemp("fif")
    rng = np.random.default_rng(4)
    with mne.use_log_level("ERROR"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        info = mne.create_info(NAMES, 100.0, "eeg")
        info.set_montage("standard_1020")
        places = rng.standard_normal((9, 3))
        places /= np.linalg.norm(places, axis=1, keepdims=True)
        space = mne.setup_volume_source_space(pos={"rr": 0.06 * places + [0, 0, 0.04], "nn": places})
        sphere = mne.make_sphere_model((0.0, 0.0, 0.04), 0.09)
        forward = mne.make_forward_solution(info, None, space, sphere, meg=False)
        gain = forward["sol"]["data"]
        times = np.arange(-20, 31) / 100
        course = np.exp(-0.5 * ((times - 0.1) / 0.03) ** 2)
        averages = []
        for number, name in enumerate(("left ear", "right ear")):
            current = np.zeros((gain.shape[1], len(times)))
            current[3 * number : 3 * number + 3] = 2e-8 * places[number][:, None] * course
            field = gain @ current + 1e-6 * rng.standard_normal((len(NAMES), len(times)))
            average = mne.EvokedArray(field, info, tmin=-0.2, comment=name, nave=1)
            average.set_eeg_reference("average", projection=True)
            averages.append(average)
        covariance = mne.Covariance(1e-12 * np.eye(len(NAMES)), NAMES, [], averages[0].info["projs"], 100)
        paths = {name: folder / f"small-{name}.fif" for name in ("ave", "fwd", "cov")}
        mne.write_evokeds(paths["ave"], averages)
        mne.write_forward_solution(paths["fwd"], forward)
        mne.write_cov(paths["cov"], covariance)
        mne.write_evokeds(folder / "one-ave.fif", averages[0])
    return {**paths, "one": folder / "one-ave.fif"}


@pytest.fixture
def plain(monkeypatch):
    """Spares the pictures: what the report draws is its own tests' affair."""

    def write(posterior, out, **marked):
        (out / "report.html").write_text(f"{marked.get('title')} {sorted(marked)}")
        (out / "maps.png").write_bytes(b"picture")

    monkeypatch.setattr("bayesinv.report.write", write)


@pytest.fixture
def fit(files, tmp_path, plain, capfd):
    """Runs `bayesinv fit` in a folder of its own; returns exit code, output and error stream."""

    def call(*options, recording=None, forward=None, noise_cov=None, out=None, condition="left ear"):
        tokens = ["fit", str(recording or files["ave"]), "--forward", str(forward or files["fwd"])]
        tokens += ["--noise-cov", str(noise_cov or files["cov"]), "--out", str(out or tmp_path / "out")]
        tokens += [] if condition is None else ["--condition", condition]
        code = cli.run([*tokens, *map(str, options)])
        shown = capfd.readouterr()
        return code, shown.out, shown.err

    return call


def refused(result, tmp_path, *words):
    """One line on the error stream, code 2, and nothing on disk."""
    code, out, err = result
    lines = [line for line in err.splitlines() if line.startswith("bayesinv: ")]
    assert code == 2, err
    assert len(lines) == 1, err
    assert "Traceback" not in err
    assert out == ""
    for word in words:
        assert word in lines[0], lines[0]
    left = [path.name for path in tmp_path.iterdir() if path.name.startswith((".", "out"))]
    assert left == []


class TestFit:
    def test_it_writes_a_whole_result(self, fit, tmp_path):
        code, out, err = fit("--seed", 3, "--draws", 500)
        assert code == 0, err
        folder = tmp_path / "out"
        there = sorted(path.name for path in folder.iterdir())
        assert there == ["maps.png", "posterior.nc", "report.html", "summary.json"]
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
        found = json.loads((folder / "summary.json").read_text())
        assert found["files"] == there
        assert found["inputs"]["condition"] == "left ear"
        assert found["inputs"]["seed"] == 3
        assert found["passed"] is True
        assert {"mean", "low", "high"} <= set(found["hyper"]["lambda"])
        assert found["versions"]["bayesinv"] == bi.__version__
        assert {"infer", "whiten", "write"} <= set(found["timings"])
        kept = load(folder / "posterior.nc")
        assert kept.hyper["lambda"].mean == pytest.approx(found["hyper"]["lambda"]["mean"], rel=1e-12)
        for facts in found["peak"].values():
            assert 0 < facts["probability"] <= 1
            assert len(facts["position_mm"]) == 3
        for word in ("λ", "SNR", "90%", "peak at", "probability", "log evidence", "check", "passed", "time"):
            assert word in out
        assert "infer" in err

    def test_the_numbers_are_those_of_the_library(self, fit, files, tmp_path):
        import mne

        fit("--tmin", 0.05, "--tmax", 0.2, "--baseline", "-0.2,0")
        with mne.use_log_level("ERROR"):
            problem = bi.from_mne(
                mne.read_evokeds(files["ave"], "left ear"),
                mne.read_forward_solution(files["fwd"]),
                mne.read_cov(files["cov"]),
                tmin=0.05,
                tmax=0.2,
                baseline=(-0.2, 0.0),
            )
        expected = bi.infer("hierarchical", problem, rng=np.random.default_rng(0))
        found = json.loads((tmp_path / "out" / "summary.json").read_text())
        assert found["samples"] == 16
        assert found["log_evidence"] == pytest.approx(float(expected.log_evidence), rel=1e-10)
        assert found["hyper"]["snr"]["high"] == pytest.approx(expected.hyper["snr"].interval(0.9)[1], rel=1e-10)

    @pytest.mark.parametrize(
        ("options", "key", "value"),
        [
            (["--model", "minimum_norm"], "method", "exact"),
            (["--method", "laplace"], "method", "laplace"),
            (["--orientation", "free"], "orientation", "free"),
            (["--baseline", "none", "--tmin", "0"], "samples", 31),
            (["--picks", "Fp1,F3,C3,P3,O1,Cz"], "components", 5),
        ],
    )
    def test_options_reach_the_result(self, fit, tmp_path, options, key, value):
        code, _, err = fit(*options)
        # Whether the checks like the method is not the point here.
        assert code in (0, 1), err
        assert json.loads((tmp_path / "out" / "summary.json").read_text())[key] == value

    @pytest.mark.parametrize("condition", ["right ear", "1"])
    def test_condition_by_name_or_number(self, fit, tmp_path, condition):
        assert fit(condition=condition)[0] == 0
        assert json.loads((tmp_path / "out" / "summary.json").read_text())["inputs"]["condition"] == "right ear"

    def test_a_file_with_one_condition_needs_no_name(self, fit, files):
        assert fit(recording=files["one"], condition=None)[0] == 0

    def test_a_failed_check_is_code_1_and_all_is_written(self, fit, tmp_path, monkeypatch):
        from dataclasses import replace

        from bayesinv.posterior.checks import Check

        bad = Check("sun", 2.0, "below 1", False, "it shines")
        inferred = bi.infer

        def infer(*args, **kwargs):
            return replace(inferred(*args, **kwargs), checks=(bad,))

        monkeypatch.setattr("bayesinv.infer", infer)
        code, out, err = fit()
        assert code == 1
        assert "check failed: sun is 2, wanted below 1; it shines" in err
        assert "FAILED" in out
        assert (tmp_path / "out" / "report.html").is_file()

    def test_a_mismatched_covariance_warns_in_one_line(self, fit, files, tmp_path):
        import mne

        with mne.use_log_level("ERROR"):
            covariance = mne.read_cov(files["cov"])
            covariance["data"] = covariance["data"] * 25
            mne.write_cov(tmp_path / "wide-cov.fif", covariance)
        code, _, err = fit(noise_cov=tmp_path / "wide-cov.fif")
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
    assert cli.run([*tokens, "--condition", condition]) == 0
    found = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert found["sources"] == 2052
    assert found["components"] == 360
    peak = found["peak"]["15 mm patches"]
    assert peak["hemisphere"] == side
    assert peak["probability_left"] > 0.8


class TestBadInput:
    @pytest.mark.parametrize(
        ("name", "what"), [("recording", "recording"), ("forward", "forward"), ("noise_cov", "noise covariance")]
    )
    def test_missing_file(self, fit, tmp_path, name, what):
        refused(fit(**{name: tmp_path / "absent.fif"}), tmp_path, f"no {what} file", "absent.fif")

    def test_folder_instead_of_a_file(self, fit, tmp_path):
        (tmp_path / "a-folder").mkdir()
        refused(fit(recording=tmp_path / "a-folder"), tmp_path, "that is a folder")

    @pytest.mark.parametrize("content", [b"", b"name,value\n1,2\n", bytes(200)])
    @pytest.mark.parametrize("name", ["recording", "forward", "noise_cov"])
    def test_not_fif(self, fit, tmp_path, name, content):
        path = tmp_path / "table.fif"
        path.write_bytes(content)
        refused(fit(**{name: path}), tmp_path, "is not a FIF file", "table.fif")

    @pytest.mark.parametrize(("name", "key"), [("recording", "cov"), ("forward", "ave"), ("noise_cov", "fwd")])
    def test_fif_of_another_kind(self, fit, files, tmp_path, name, key):
        refused(fit(**{name: files[key]}), tmp_path, files[key].name, "that can be read")

    @pytest.mark.parametrize("key", ["ave", "fwd", "cov"])
    def test_truncated_fif(self, fit, files, tmp_path, key):
        path = tmp_path / f"cut-{key}.fif"
        whole = files[key].read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        name = {"ave": "recording", "fwd": "forward", "cov": "noise_cov"}[key]
        refused(fit(**{name: path}), tmp_path)

    def test_condition_that_is_not_there(self, fit, tmp_path):
        refused(fit(condition="left eear"), tmp_path, "left ear, right ear", "did you mean 'left ear'?")
        refused(fit(condition="2"), tmp_path, "no condition number 2", "'left ear', 'right ear'")
        refused(fit(condition=None), tmp_path, "holds 2 conditions", "--condition")

    def test_unknown_model_is_told_before_anything_is_read(self, fit, tmp_path):
        refused(fit("--model", "hierachical"), tmp_path, "did you mean 'hierarchical'?", "minimum_norm")
        refused(fit("--model", tmp_path / "mine.py"), tmp_path, "no model file", "mine.py")

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("raise RuntimeError('first\\nsecond')", "RuntimeError: first second"),
            ("def model(problem): raise KeyError('lost')", "raised KeyError"),
            ("def model(problem): return 3", "returned int"),
            ("x = 1", "defines no function model(problem)"),
            ("import pymc as pm\ndef model(problem):\n  with pm.Model() as m: pm.Normal('x')\n  return m", "observe"),
            ("def model(", "SyntaxError"),
        ],
    )
    def test_model_file_that_is_none(self, fit, tmp_path, text, words):
        mine = tmp_path / "mine.py"
        mine.write_text(text)
        refused(fit("--model", mine), tmp_path, words)

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (["--method", "nut"], "did you mean 'nuts'?"),
            (["--method", "exact"], "wants no free hyperparameter"),
            (["--draws", "0"], "draws is 0"),
            (["--draws", "many"], "many"),
            (["--seed", "-1"], "seed is -1"),
            (["--orientation", "loose"], "loose"),
            (["--picks", "mag"], "mag"),
            (["--picks", "Fp7"], "Fp7"),
            (["--baseline", "soon"], "--baseline soon is not START,STOP"),
            (["--baseline", "0,-0.2"], "ends before it starts"),
            (["--baseline", "-9,-8"], "baseline"),
            (["--tmin", "4"], "no sample"),
            (["--tmin", "0.2", "--tmax", "0.1"], "tmin must come first"),
            (["--modle", "x"], "Did you mean --model?"),
        ],
    )
    def test_options_that_cannot_be(self, fit, tmp_path, options, words):
        refused(fit(*options), tmp_path, words)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda data: data * np.nan, "NaN"),
            (lambda data: np.where(np.arange(data.shape[1]) == 5, np.inf, data), "infinite"),
            (lambda data: data * 1e6, "same units"),
        ],
    )
    def test_values_that_cannot_be(self, fit, files, tmp_path, change, words):
        import mne

        with mne.use_log_level("ERROR"):
            average = mne.read_evokeds(files["one"], 0)
            average.data[:] = change(average.data)
            mne.write_evokeds(tmp_path / "bad-ave.fif", average)
        refused(fit(recording=tmp_path / "bad-ave.fif", condition=None), tmp_path, words)

    def test_all_channels_bad(self, fit, files, tmp_path):
        import mne

        with mne.use_log_level("ERROR"):
            average = mne.read_evokeds(files["one"], 0)
            average.info["bads"] = list(NAMES)
            mne.write_evokeds(tmp_path / "bad-ave.fif", average)
        refused(fit(recording=tmp_path / "bad-ave.fif", condition=None), tmp_path, "marked as bad")

    @pytest.mark.parametrize("tokens", [["fit"], ["fti"], ["fit", "a.fif", "--forward"], ["models", "x", "y"]])
    def test_command_that_cannot_be(self, tokens, capfd):
        assert cli.run(tokens) == 2
        shown = capfd.readouterr()
        assert shown.out == ""
        assert len(shown.err.splitlines()) == 1
        assert "--help" in shown.err


class TestFolder:
    def test_an_earlier_result_is_replaced(self, fit, tmp_path):
        fit()
        before = (tmp_path / "out" / "summary.json").read_text()
        assert fit("--seed", 9)[0] == 0
        assert (tmp_path / "out" / "summary.json").read_text() != before
        assert [path.name for path in tmp_path.iterdir()] == ["out"]

    def test_files_of_others_are_never_touched(self, fit, tmp_path):
        fit()
        (tmp_path / "out" / "notes.txt").write_text("mine")
        code, _, err = fit()
        assert code == 2
        assert "holds files that bayesinv did not write (notes.txt)" in err
        assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
        assert fit("--overwrite")[0] == 0
        assert not (tmp_path / "out" / "notes.txt").exists()

    def test_a_file_or_the_current_folder_is_refused(self, fit, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("x")
        code, _, err = fit(out=tmp_path / "file")
        assert (code, "is a file; name a folder" in err) == (2, True)
        monkeypatch.chdir(tmp_path)
        code, _, err = fit("--overwrite", out=".")
        assert (code, "is the folder you are in" in err) == (2, True)

    def test_a_failure_while_writing_leaves_what_was(self, fit, tmp_path, monkeypatch):
        fit()
        before = (tmp_path / "out" / "summary.json").read_text()

        def full(*_, **__):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("bayesinv.report.write", full)
        code, _, err = fit()
        assert code == 2
        assert "No space left on device" in err
        assert (tmp_path / "out" / "summary.json").read_text() == before
        assert fit(out=tmp_path / "new" / "deep")[0] == 2
        assert [path.name for path in tmp_path.iterdir()] == ["out"]

    def test_interruption_is_130_and_leaves_nothing(self, fit, tmp_path, monkeypatch):
        def interrupted(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr("bayesinv.report.write", interrupted)
        code, _, err = fit()
        assert code == 130
        assert err.splitlines()[-1] == "bayesinv: interrupted"
        assert list(tmp_path.iterdir()) == []

    def test_an_error_of_ours_is_one_line_and_3(self, fit, tmp_path, monkeypatch):
        def broken(*_, **__):
            raise ZeroDivisionError("lost")

        monkeypatch.setattr("bayesinv.report.write", broken)
        code, _, err = fit()
        assert code == 3
        assert err.splitlines()[-1].startswith("bayesinv: ZeroDivisionError: lost (an error of this program")
        monkeypatch.setenv("BAYESINV_DEBUG", "1")
        with pytest.raises(ZeroDivisionError):
            fit()


class TestForward:
    @pytest.fixture
    def forward(self, tmp_path, capfd):
        """Runs `bayesinv forward`; returns exit code, output and error stream."""

        def call(*options, out="out.nc"):
            code = cli.run(["forward", "--out", str(tmp_path / out), *map(str, options)])
            shown = capfd.readouterr()
            return code, shown.out, shown.err

        return call

    SMALL = ("--head", "spheres", "--sensors", "32", "--sources", "30")

    def test_it_writes_what_the_solver_gives(self, forward, tmp_path):
        from bayesinv import scene

        code, out, err = forward(*self.SMALL, "--conductivities", "0.3,0.02,0.4", "--reference", "average")
        assert code == 0, err
        found = load(tmp_path / "out.nc")
        made, method = scene.set_scene("spheres", sensors="32", sources="30", conductivities=[0.3, 0.02, 0.4])
        np.testing.assert_array_equal(found.gain, scene.solve(made, method).rereference("average").gain)
        assert found.reference == "average"
        for word in ("series to degree", "closest source", "skull 0.02 S/m", "wrote"):
            assert word in out
        assert {"potential", "conductivities", "closest source"} <= set(found.notes)
        assert [path.name for path in tmp_path.iterdir()] == ["out.nc"]

    def test_mne_python_reads_the_other_form(self, forward, files, tmp_path):
        import mne

        assert forward("--head", "spheres", "--sensors", files["ave"], "--sources", "30", out="my-fwd.fif")[0] == 0
        assert forward("--head", "spheres", "--sensors", files["ave"], "--sources", "30")[0] == 0
        theirs = mne.read_forward_solution(tmp_path / "my-fwd.fif", verbose="error")
        ours = load(tmp_path / "out.nc")
        assert theirs["sol"]["row_names"] == NAMES
        np.testing.assert_allclose(theirs["sol"]["data"], ours.gain.reshape(len(NAMES), -1), rtol=1e-6)
        # Without channels from a file, electrodes have their own.
        assert forward(*self.SMALL, out="free-fwd.fif")[0] == 0
        assert len(mne.read_forward_solution(tmp_path / "free-fwd.fif", verbose="error")["info"]["chs"]) == 32

    def test_what_it_wrote_fits(self, forward, files, tmp_path, fit):
        forward("--head", "spheres", "--sensors", files["ave"], "--sources", "30", out="my-fwd.fif")
        code, _, err = fit("--orientation", "free", forward=tmp_path / "my-fwd.fif")
        assert code == 0, err

    def test_meg_and_eeg_of_a_real_helmet(self, forward, sample, tmp_path):
        out = "real-fwd.fif"
        code, shown, err = forward(
            "--head", "spheres", "--sensors", sample / "sample-right-ave.fif", "--sources", "40", out=out
        )
        assert code == 0, err
        assert "magnetic field" in shown
        import mne

        found = mne.read_forward_solution(tmp_path / out, verbose="error")
        assert {"eeg", "grad", "mag"} <= {mne.channel_type(found["info"], i) for i in range(found["nchan"])}

    def test_a_file_that_is_there_stays(self, forward, tmp_path):
        (tmp_path / "out.nc").write_text("mine")
        code, _, err = forward(*self.SMALL)
        assert code == 2
        assert "is there already" in err
        assert (tmp_path / "out.nc").read_text() == "mine"
        assert forward(*self.SMALL, "--overwrite")[0] == 0
        assert len(load(tmp_path / "out.nc").sensors) == 32

    @pytest.mark.parametrize(
        ("options", "out", "words"),
        [
            (["--head", "moon"], "out.nc", "no head named 'moon'"),
            (["--head", "absent.msh", "--conductivities", "1"], "out.nc", "no mesh file absent.msh"),
            (["--head", "spheres", "--radii", "90,80,70"], "out.nc", "must grow"),
            (["--head", "spheres", "--radii", "80,90,100", "--sources", "30"], "out.nc", "metres"),
            (["--head", "spheres", "--radii", "a,b,c"], "out.nc", "--radii a,b,c holds what is no number"),
            (["--head", "spheres", "--method", "bme"], "out.nc", "bme"),
            (["--method", "sphere"], "out.nc", "wants head 'spheres'"),
            (["--head", "subject"], "out.nc", "wants --subject and --subjects-dir"),
            (["--head", "spheres", "--sensors", "helmet"], "out.nc", "no montage named 'helmet'"),
            ([*SMALL, "--reference", "CZ"], "out.nc", "no electrode named 'CZ'"),
            ([*SMALL], "out.mat", "neither a .nc nor a -fwd.fif file"),
            ([*SMALL], "absent/out.nc", "there is no folder"),
        ],
    )
    def test_bad_input_is_one_line_and_2(self, forward, tmp_path, options, out, words):
        code, shown, err = forward(*options, out=out)
        lines = [line for line in err.splitlines() if line.startswith("bayesinv: ")]
        assert (code, len(lines)) == (2, 1), err
        assert words in lines[0]
        assert shown == ""
        assert list(tmp_path.iterdir()) == []


FILES = ["compare.png", "comparison.csv", "comparison.png", "summary.json", "table.csv"]


class TestCompare:
    @pytest.fixture
    def compare(self, files, tmp_path, capfd):
        def call(*options, condition="left ear"):
            tokens = ["compare", str(files["ave"]), "--forward", str(files["fwd"]), "--noise-cov", str(files["cov"])]
            tokens += ["--condition", condition, "--out", str(tmp_path / "out"), *map(str, options)]
            code = cli.run(tokens)
            shown = capfd.readouterr()
            return code, shown.out, shown.err

        return call

    def test_it_writes_table_and_picture(self, compare, files, tmp_path):
        import csv

        import mne

        options = ("--methods", "MNE,dSPM,LCMV,gcv", "--models", "minimum_norm,hierarchical", "--at", "0.1")
        code, out, err = compare(*options)
        assert code == 0, err
        folder = tmp_path / "out"
        assert sorted(path.name for path in folder.iterdir()) == FILES
        found = json.loads((folder / "summary.json").read_text())
        names = ["MNE", "dSPM", "LCMV", "λ by gcv", "minimum_norm", "hierarchical"]
        assert [row["name"] for row in found["table"]] == names
        assert found["files"] == FILES
        with (folder / "comparison.csv").open(encoding="utf-8", newline="") as file:
            assert {row["name"] for row in csv.DictReader(file)} == {"hierarchical", "minimum_norm"}
        with (folder / "table.csv").open(encoding="utf-8", newline="") as file:
            rows = {row["name"]: row for row in csv.DictReader(file)}
        assert list(rows) == names
        with mne.use_log_level("ERROR"):
            problem = bi.from_mne(
                mne.read_evokeds(files["ave"], "left ear"),
                mne.read_forward_solution(files["fwd"]),
                mne.read_cov(files["cov"]),
            )
        from bayesinv.baselines import baseline
        from bayesinv.compare import compare_estimates

        results = {
            "dSPM": baseline(problem, "dSPM", convention="mne"),
            "hierarchical": bi.infer("hierarchical", problem),
        }
        table = compare_estimates(results, 0.1)
        for name in results:
            assert float(rows[name]["lam"]) == pytest.approx(table[name].lam, rel=1e-9)
            assert float(rows[name]["height"]) == pytest.approx(table[name].height, rel=1e-9)
            assert float(rows[name]["y"]) == pytest.approx(table[name].position[1])
        low, high = table["hierarchical"].lam_interval
        assert float(rows["hierarchical"]["lam_low"]) == pytest.approx(low)
        assert float(rows["hierarchical"]["lam_high"]) == pytest.approx(high)
        assert rows["dSPM"]["lam_low"] == rows["LCMV"]["lam"] == rows["dSPM"]["log_evidence"] == ""
        assert (folder / "compare.png").read_bytes().startswith(b"\x89PNG")
        for word in ("log evidence", "spread (mm)", "100 ms", "hierarchical"):
            assert word in out

    def test_models_or_methods_alone(self, compare, tmp_path):
        assert compare("--methods", "none", "--models", "minimum_norm")[0] == 0
        assert compare("--methods", "MNE,MNE", "--models", "none", "--orientation", "free")[0] == 0
        found = json.loads((tmp_path / "out" / "summary.json").read_text())
        assert [row["name"] for row in found["table"]] == ["MNE"]
        assert found["inputs"]["orientation"] == "free"

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (["--methods", "dSPN"], "did you mean 'dSPM'?"),
            (["--models", "hierachical"], "did you mean 'hierarchical'?"),
            (["--methods", "none", "--models", "none"], "nothing to compare"),
            (["--at", "7", "--methods", "MNE", "--models", "none"], "no sample near 7 s; the recording runs from"),
            (["--baseline", "soon"], "--baseline soon"),
            (["--picks", "Fp7"], "Fp7"),
        ],
    )
    def test_bad_input_is_one_line_and_2(self, compare, tmp_path, options, words):
        refused(compare(*options), tmp_path, words)


class TestModels:
    def test_all_are_listed(self, capfd):
        assert cli.run(["models"]) == 0
        shown = capfd.readouterr().out
        for name in bi.list_models():
            assert name in shown

    def test_a_card_is_shown(self, capfd):
        assert cli.run(["models", "hierarchical"]) == 0
        assert "current[s, t] ~ Normal(0, scale²)" in capfd.readouterr().out

    def test_an_unknown_one_is_refused(self, capfd):
        assert cli.run(["models", "hierarchial"]) == 2
        assert "did you mean 'hierarchical'?" in capfd.readouterr().err


class TestHelp:
    @pytest.mark.parametrize(
        ("tokens", "words"), [([], "demo"), (["--help"], "compare"), (["forward", "--help"], "--subjects-dir")]
    )
    def test_it_helps(self, tokens, words, capfd):
        assert cli.run(tokens) == 0
        assert words in capfd.readouterr().out

    def test_version(self, capfd):
        assert cli.run(["--version"]) == 0
        assert capfd.readouterr().out.strip() == bi.__version__


def test_help_reads_no_heavy_library():
    words = (
        "import sys; from bayesinv import cli; cli.run(['fit', '--help']); "
        "print([name for name in ('pymc', 'mne', 'matplotlib', 'nilearn', 'arviz', 'xarray') if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == "[]"


def test_command_in_a_process_of_its_own(files, tmp_path):
    """The installed entry point, with the real report: exit code, streams, a self-contained page."""
    words = [sys.executable, "-c", "from bayesinv.cli import main; main()", "fit", str(files["one"])]
    words += ["--forward", str(files["fwd"]), "--noise-cov", str(files["cov"]), "--out", "out"]
    shown = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert shown.returncode == 0, shown.stderr
    page = (tmp_path / "out" / "report.html").read_text()
    assert "left ear" in page
    assert 'src="http' not in page
    assert "Traceback" not in shown.stderr
    assert "wrote out/report.html" in shown.stdout


@pytest.mark.slow
def test_ctrl_c_in_a_process_of_its_own(files, tmp_path):
    words = [sys.executable, "-c", "from bayesinv.cli import main; main()", "fit", str(files["one"])]
    words += ["--forward", str(files["fwd"]), "--noise-cov", str(files["cov"]), "--out", "out", "--method", "nuts"]
    words += ["--draws", "2000000"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as running:
        time.sleep(15)
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert err.splitlines()[-1] == "bayesinv: interrupted"
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


class TestDemo:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            (["--snr", "0"], "ratio of powers is positive"),
            (["--spacing", "oct9"], "oct9"),
            (["--model", "x"], "no model"),
        ],
    )
    def test_bad_options_are_refused(self, options, words, tmp_path, capfd):
        assert cli.run(["demo", "--out", str(tmp_path / "out"), *options]) == 2
        shown = capfd.readouterr()
        assert len(shown.err.splitlines()) == 1
        assert words in shown.err
        assert not (tmp_path / "out").exists()
