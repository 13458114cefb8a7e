"""Whole results or none: what was there stays until there is something better."""

from __future__ import annotations

import pytest


class TestFolder:
    def test_an_earlier_result_is_replaced(self, fit_exactly, tmp_path):
        fit_exactly()
        before = (tmp_path / "out" / "summary.json").read_text()
        assert fit_exactly("--seed", 9)[0] == 0
        assert (tmp_path / "out" / "summary.json").read_text() != before
        assert [path.name for path in tmp_path.iterdir()] == ["out"]

    def test_files_of_others_are_never_touched(self, fit_exactly, tmp_path):
        fit_exactly()
        (tmp_path / "out" / "notes.txt").write_text("mine")
        code, _, err = fit_exactly()
        assert code == 2
        assert "holds files that bayesinv did not write (notes.txt)" in err
        assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
        assert fit_exactly("--overwrite")[0] == 0
        assert not (tmp_path / "out" / "notes.txt").exists()

    def test_a_place_that_cannot_be_written_is_refused_before_the_work(self, fit_exactly, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("x")
        monkeypatch.setattr("bayesinv.infer", None)
        code, _, err = fit_exactly(out=tmp_path / "file" / "out")
        assert code == 2
        assert f"no folder can be made in {tmp_path / 'file'} (Not a directory); name another place" in err
        assert [path.name for path in tmp_path.iterdir()] == ["file"]

    def test_a_file_or_the_current_folder_is_refused(self, fit_exactly, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("x")
        code, _, err = fit_exactly(out=tmp_path / "file")
        assert (code, "is a file; name a folder" in err) == (2, True)
        monkeypatch.chdir(tmp_path)
        code, _, err = fit_exactly("--overwrite", out=".")
        assert (code, "is the folder you are in" in err) == (2, True)

    def test_a_failure_while_writing_leaves_what_was(self, fit_exactly, tmp_path, monkeypatch):
        fit_exactly()
        before = (tmp_path / "out" / "summary.json").read_text()

        def full(*_, **__):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("bayesinv.report.write", full)
        code, _, err = fit_exactly()
        assert code == 2
        assert "No space left on device" in err
        assert (tmp_path / "out" / "summary.json").read_text() == before
        assert fit_exactly(out=tmp_path / "new" / "deep")[0] == 2
        assert [path.name for path in tmp_path.iterdir()] == ["out"]

    def test_interruption_is_130_and_leaves_nothing(self, fit_exactly, tmp_path, monkeypatch):
        def interrupted(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr("bayesinv.report.write", interrupted)
        code, _, err = fit_exactly()
        assert code == 130
        assert err.splitlines()[-1] == "bayesinv: interrupted"
        assert list(tmp_path.iterdir()) == []

    def test_an_error_of_ours_is_one_line_and_3(self, fit_exactly, tmp_path, monkeypatch):
        def broken(*_, **__):
            raise ZeroDivisionError("lost")

        monkeypatch.setattr("bayesinv.report.write", broken)
        code, _, err = fit_exactly()
        assert code == 3
        assert err.splitlines()[-1].startswith("bayesinv: ZeroDivisionError: lost (an error of this program")
        monkeypatch.setenv("BAYESINV_DEBUG", "1")
        with pytest.raises(ZeroDivisionError):
            fit_exactly()
