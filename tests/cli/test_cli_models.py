"""`bayesinv models` lists what is shipped and shows cards."""

from __future__ import annotations

import bayesinv as bi
from bayesinv import cli


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
