"""`bayesinv compare` writes the tables of the library."""

from __future__ import annotations

import json

import pytest
from refusal import refused

import bayesinv as bi
from bayesinv import cli

FILES = ["compare.png", "comparison.csv", "comparison.png", "summary.json", "table.csv"]


@pytest.fixture
def undrawn(monkeypatch):
    """No pictures, where nothing is said of them."""
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, path, **_: path.write_bytes(b"picture"))


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
        from bayesinv.classical.baseline import baseline
        from bayesinv.criticism.estimates import compare_estimates

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

    def test_models_of_coloured_noise_are_ranked_on_request_alone(self, undrawn, compare, tmp_path, monkeypatch):
        # No noise is white enough for such limits.
        monkeypatch.setattr("bayesinv.inference.colour.LIMIT", -1.0)
        monkeypatch.setattr("bayesinv.inference.colour.SIGNIFICANCE", 1.0)
        for given, ranked in ((), False), (("--coloured", "rank"), True):
            code, out, err = compare("--methods", "none", "--models", "minimum_norm,hierarchical", *given)
            assert code == 1
            assert "check of hierarchical failed: noise over time" in err
            assert ("models are not ranked" in " ".join(out.split())) != ranked
            found = json.loads((tmp_path / "out" / "summary.json").read_text())["comparison"]
            assert bool(found["unranked"]) != ranked
            assert all(row["log_evidence"] is not None for row in found["rows"])
            for what in ("log_bayes_factor", "components_weight", "blocks_weight"):
                assert all((row[what] is not None) == ranked for row in found["rows"])

    @pytest.mark.slow
    def test_one_model_that_passes_is_enough(self, undrawn, compare, monkeypatch):
        from bayesinv.inference import window_means

        before = window_means.Series.excess
        monkeypatch.setattr(
            window_means.Series,
            "excess",
            lambda self, *some: (9.0, 0.0) if self.over_time is None else before(self, *some),
        )
        # By default: minimum norm, hierarchical, depth-weighted and temporal.
        code, out, err = compare("--methods", "none")
        assert code == 0
        assert "temporal" in out
        for name in ("minimum_norm", "hierarchical", "depth_weighted"):
            assert f"check of {name} failed: currents over time" in err

    @pytest.mark.slow
    def test_champagne_takes_nothing_of_mne(self, undrawn, compare):
        code, out, err = compare("--methods", "champagne,MNE", "--models", "none")
        assert code == 0, err
        assert "champagne" in out

    def test_models_or_methods_alone(self, undrawn, compare, tmp_path):
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
