"""`bayesinv demo` refuses invalid options; `test_story.py` tests what it computes."""

from __future__ import annotations

import pytest

from bayesinv import cli


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
