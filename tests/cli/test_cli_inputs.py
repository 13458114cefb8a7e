"""What cannot be is refused in one line, with code 2, and nothing is written."""

from __future__ import annotations

import numpy as np
import pytest
from refusal import NAMES, refused

from bayesinv import cli
from bayesinv.cli.inputs import read_noise_time


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
        content = files[key].read_bytes()
        path.write_bytes(content[: len(content) // 2])
        name = {"ave": "recording", "fwd": "forward", "cov": "noise_cov"}[key]
        refused(fit(**{name: path}), tmp_path)

    def test_condition_that_is_not_there(self, fit, tmp_path):
        refused(fit(condition="left eear"), tmp_path, "left ear, right ear", "did you mean 'left ear'?")
        refused(fit(condition="2"), tmp_path, "no condition number 2", "'left ear', 'right ear'")
        refused(fit(condition=None), tmp_path, "holds 2 conditions", "--condition")

    def test_a_file_of_trials_holds_no_average(self, fit, tmp_path):
        import mne

        info = mne.create_info(["EEG 001"], 100.0, "eeg")
        path = tmp_path / "some-raw.fif"
        mne.io.RawArray(np.zeros((1, 200)), info, verbose="error").save(path, verbose="error")
        refused(fit(recording=path), tmp_path, "some-raw.fif", "average")

    def test_unknown_model_is_refused_before_anything_is_read(self, fit, tmp_path):
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
            (["--warm", "0"], "warm is 0, but at least one warm sweep is wanted"),
            (["--model", "hierarchical", "--sweeps", "300"], "method 'active_set' takes sweeps"),
            (["--draws", "many"], "many"),
            (["--seed", "-1"], "seed is -1"),
            (["--orientation", "loose"], "loose"),
            (["--picks", "mag"], "mag"),
            (["--picks", "Fp7"], "Fp7"),
            (["--baseline-correct", "soon"], "--baseline-correct soon is not START,STOP"),
            (["--baseline-correct", "-9,-8"], "baseline_correct (-9.0, -8.0) s holds no sample"),
            (["--rank", "whole"], "--rank whole is not info, full, a number, or meg=N,eeg=N"),
            (["--rank", "meg=3,eeg"], "--rank meg=3,eeg is not"),
            (["--rank", "seeg=3"], "seeg"),
            (["--rank", "eeg=3,eeg=4"], "--rank eeg=3,eeg=4 gives eeg more than once"),
            (["--rank", "grad=3"], "no gradiometer channel is used"),
            (["--averages", "0"], "averages is 0"),
            (["--head-moved", "ignore"], "ignore"),
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


class TestNoiseTime:
    """What is no noise over time is refused in our own words, before anything else is read twice."""

    @pytest.mark.parametrize(
        ("name", "content", "words"),
        [
            ("table.npy", b"", "holds no table of numbers that can be read"),
            ("table.npy", b"no array at all", "holds no table of numbers that can be read"),
            ("table.csv", b"one,two\n", "holds no table of numbers that can be read"),
            ("table.txt", b"\xff\xfe\x00", "holds no table of numbers that can be read"),
            ("noise_raw.fif", b"something", "is not a FIF file, but the noise must be one"),
            ("noise.mat", b"something", "is not a FIF file, but the noise must be one"),
        ],
    )
    def test_files_that_are_none(self, tmp_path, name, content, words):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ValueError, match=words):
            read_noise_time(str(path))

    def test_a_file_of_another_kind(self, files):
        with pytest.raises(ValueError, match="holds no noise that can be read"):
            read_noise_time(str(files["cov"]))

    @pytest.mark.parametrize("name", ["absent.npy", "absent.txt", "absent_raw.fif"])
    def test_files_that_are_not_there(self, tmp_path, name):
        with pytest.raises(FileNotFoundError, match=f"no noise file .*{name}"):
            read_noise_time(str(tmp_path / name))

    def test_a_word_that_is_none(self, fit, tmp_path):
        refused(
            fit("--noise-time", "whiteish"), tmp_path, "no noise over time named 'whiteish'", "did you mean 'white'?"
        )

    def test_complex_numbers(self, fit, tmp_path):
        path = tmp_path / "table.npy"
        np.save(path, np.array([1.0, 0.5j]))
        refused(fit("--noise-time", path), tmp_path, "noise_time must be an array of real numbers, but it is complex")

    def test_a_method_that_contradicts_the_tails(self, fit, tmp_path):
        options = ("--model", "hierarchical", "--noise-tails", "student", "--method", "nuts")
        refused(fit(*options), tmp_path, "method 'nuts' takes noise_tails='normal'", "'gibbs'")
