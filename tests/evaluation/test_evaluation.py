"""Evaluation: the matrix, its cells, and what is written."""

import json
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bayesinv as bi
from bayesinv import figures
from bayesinv.classical.minimum_norm import tikhonov
from bayesinv.evaluation import cell as cell_evaluation
from bayesinv.evaluation import run
from bayesinv.evaluation import setting as setting_evaluation
from bayesinv.evaluation.configuration import Configuration
from bayesinv.evaluation.truths import TRUTHS
from bayesinv.forward.sphere import lead_field as sphere
from bayesinv.head import template_cortex
from bayesinv.head.head import Head
from bayesinv.head.parcels import parcels
from bayesinv.report.evaluation import evaluate
from bayesinv.scoring.focal import FocalScores
from bayesinv.scoring.projection import project
from bayesinv.scoring.reliability import Reliability

SMALL = {
    "title": "A few cells",
    "truths": ["dipole", "sparse"],
    "snr": [4.0],
    "models": ["minimum_norm"],
    "baselines": ["MNE", "sLORETA"],
    "seeds": 2,
    "electrodes": 32,
    "rate": 50.0,
    "regions": 7,
    "draws": 3,
    "error_solver": "bem",
    "samples": 5,
}


@lru_cache
def gain(tissues, seed, keep):
    """A sphere, and the lead field of 32 electrodes and some of the template's sources, shrunk, in it."""
    cortex, sensors = template_cortex.sources("oct4"), template_cortex.electrodes(32)
    about = cortex.positions - cortex.positions.mean(axis=0)
    about *= 0.07 / np.linalg.norm(about, axis=1).max()
    index = np.sort(np.random.default_rng(seed).choice(len(cortex), keep, replace=False))
    away = sensors.positions - sensors.positions.mean(axis=0)
    sensors = replace(sensors, positions=0.09 * away / np.linalg.norm(away, axis=1, keepdims=True))
    grid = replace(cortex, positions=about, triangles=None).pick(index)
    head = Head.spheres((0.078, 0.082, 0.09), tissues, subdivisions=2)
    return head, sphere(head, sensors, grid).rereference("average")


@lru_cache
def setting(configuration):
    head, mine = gain((0.33, 0.01, 0.33), 0, 40)
    labels = parcels(mine.sources, 7)
    return setting_evaluation._Setting(mine.fixed(), head, {str(k): np.flatnonzero(labels == k) for k in range(7)})


def world(configuration, seed):
    if configuration.world == "inversion":
        return setting(configuration).lead_field
    return gain((0.3, 0.02, 0.4), 1 + seed, 60)[1]


@pytest.fixture(autouse=True)
def quick(monkeypatch, request):
    """Spheres for boundary and finite elements, and forty sources for five hundred."""
    if request.cls is not TestReal:
        monkeypatch.setattr(setting_evaluation, "setting_of", setting)
        monkeypatch.setattr(cell_evaluation, "setting_of", setting)
        monkeypatch.setattr(run, "setting_of", setting)
        monkeypatch.setattr(setting_evaluation, "world_of", world)


def names(folder):
    return {path.name for path in folder.iterdir()}


class TestConfiguration:
    @pytest.mark.parametrize("name", ["small", "full", "peers"])
    def test_shipped_ones_are_right(self, name):
        found = Configuration.of(name)
        assert found.cells()
        assert found.crime == (name == "peers")
        assert found.allow_inverse_crime == found.crime

    def test_the_matrix(self):
        given = {**SMALL, "snr": [1.0, 4.0], "forward_error": [False, True], "seeds": [3, 5, 8]}
        cells = Configuration.of(given).cells(["one more"])
        # Truths, ratios and seeds times a model with and without the error, two baselines and a referee.
        assert len(cells) == len(set(cells)) == 2 * 2 * 3 * 5
        assert not any(cell.forward_error for cell in cells if cell.kind != "model")

    def test_a_prior_sets_the_noise_level(self):
        given = {**SMALL, "truths": ["prior: hierarchical"], "snr": []}
        assert {(cell.how, cell.loud) for cell in Configuration.of(given).cells()} == {("drawn", 0.0)}

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"sesds": 3}, "no key named 'sesds'.*did you mean 'seeds'"),
            ({"truths": ["dipol"]}, "no truth named 'dipol': did you mean 'dipole'.*'prior: MODEL'"),
            ({"truths": ["prior: flat"]}, "flat"),
            ({"models": ["hierarchicel"]}, "hierarchicel"),
            ({"baselines": ["dSPN"]}, "no baseline named 'dSPN'.*l-curve"),
            ({"snr": [0.0]}, "snr is 0.0, but must be positive"),
            ({"snr": [-1.0, 2.0]}, "snr is -1.0"),
            ({"snr": [], "alpha": [1.0]}, "alpha is 1.0, but must be positive and below 1"),
            ({"alpha": 0.5}, "give one of them"),
            ({"snr": []}, "the matrix is empty"),
            ({"truths": []}, "the matrix is empty"),
            ({"seeds": 0}, "the matrix is empty"),
            ({"seeds": [-1]}, "seed is -1"),
            ({"snr": "loud"}, "snr is 'loud', but wants a list of float"),
            ({"seeds": 2.5}, "wants a list of int"),
            ({"rate": True}, "wants float"),
            ({"rate": 0.0}, "rate is 0.0"),
            ({"draws": 1}, "draws 1 at least 2"),
            ({"electrodes": 33}, "layouts of 32 and 64"),
            ({"level": 1.0}, "level"),
            ({"noise": "pink"}, "no noise named 'pink'"),
            ({"head": "sphere"}, "wants world 'inversion'"),
            ({"world": "inversion", "forward_error": True}, "leave forward_error out"),
        ],
    )
    def test_what_is_wrong_is_said(self, change, said):
        with pytest.raises(ValueError, match=said):
            Configuration.of({**SMALL, **change})

    def test_no_methods(self, tmp_path):
        with pytest.raises(ValueError, match="at least one of models and baselines"):
            evaluate({**SMALL, "models": [], "baselines": []}, tmp_path / "out")

    def test_files(self, tmp_path):
        path = tmp_path / "mine.toml"
        path.write_text('title = "x"\ntruths = ["dipole"]\nseeds = 1\nsnr = 2\nmodels = "hierarchical"\n')
        assert Configuration.of(path).models == ("hierarchical",)
        path.write_text("title = ")
        with pytest.raises(ValueError, match="no TOML"):
            Configuration.of(path)
        path.write_text('title = "x"\n')
        with pytest.raises(ValueError, match="lacks truths, seeds"):
            Configuration.of(path)
        with pytest.raises(ValueError, match="there is no configuration"):
            Configuration.of(tmp_path / "none.toml")
        with pytest.raises(ValueError, match=r"no configuration named 'smal'.*did you mean 'small'"):
            Configuration.of("smal")


def oracle(problem, truth):
    """A map of the truth itself."""
    return replace(tikhonov(problem, "snr"), current=project(truth, problem.sources, 1), unit="", method="oracle")


def constant(problem, truth):
    """The same everywhere."""
    shape = (problem.source_count, len(problem.times))
    return replace(tikhonov(problem, "snr"), current=np.ones(shape), unit="", method="constant")


@pytest.fixture
def plain():
    """Truths are found in the recording's own times, which begin with the response."""
    return {**SMALL, "baseline": 0.0}


class TestEvaluate:
    @pytest.mark.slow
    def test_who_peeks_is_first_and_who_does_not_look_is_last(self, plain, tmp_path):
        given = {**plain, "seeds": 2}
        found = evaluate(given, tmp_path / "out", referees={"oracle": oracle, "constant": constant})
        assert not found.failures
        for score in (
            "area_under_curve",
            "average_precision",
            "earth_movers_distance",
            "map_correlation",
            "peak_error",
        ):
            order = list(found.ranking(score).index)
            assert order[0] == "oracle", score
            assert order[-1] == "constant", score
        with pytest.raises(ValueError, match="no score named 'beauty'"):
            found.ranking("beauty")

    @pytest.mark.slow
    def test_tables_figures_and_a_page(self, tmp_path):
        out = tmp_path / "new" / "out"
        found = evaluate({**SMALL, "forward_error": [False, True]}, out)
        assert not found.failures
        pictures = {"coverage.png", "reliability.png", "localisation.png"}
        tables = {"table.csv", "summary.csv", "curves.csv"}
        assert names(out) == {"cells", "configuration.json", "report.html"} | pictures | tables
        table = pd.read_csv(out / "table.csv")
        assert len(table) == len(found.results) == 2 * 2 * 4
        assert not table["inverse crime"].any()
        assert set(table.method) == {"minimum_norm", "minimum_norm + forward error", "MNE", "sLORETA"}
        assert table.loc[table.method == "sLORETA", "active: crps"].isna().all()
        page = (out / "report.html").read_text()
        assert "http" not in page.replace("http-equiv", "")
        assert "inverse crime" not in page.lower().replace("allow_inverse_crime", "")
        # A pooled coverage is that of all numbers together.
        curves = pd.read_csv(out / "curves.csv")
        one = curves.query("truth == 'dipole' and method == 'MNE' and stratum == 'active' and kind == 'pointwise'")
        rows = [r.tallies["active"].pit for r in found.results if r.cell.truth == "dipole" and r.cell.method == "MNE"]
        wanted = np.average([pit.coverage() for pit in rows], axis=0, weights=[pit.count for pit in rows])
        np.testing.assert_allclose(one.coverage, wanted)

    def test_champagne_is_in_every_table_of_calibration(self, tmp_path):
        given = {**SMALL, "models": [], "baselines": ["MNE", "champagne"], "truths": ["dipole"], "seeds": 1}
        found = evaluate(given, tmp_path / "out")
        assert not found.failures
        assert set(found.curves.method) == {"MNE", "champagne"}
        for stratum in ("all", "active", "inactive", "regions"):
            assert found.summary[f"{stratum}: coverage"].notna().all()
        assert found.curves.query("method == 'champagne' and stratum == 'active'").coverage.notna().all()

    @pytest.mark.slow
    def test_the_same_whatever_the_order(self, plain, tmp_path):
        one = evaluate({**plain, "truths": ["sparse"], "seeds": [1]}, tmp_path / "one").results
        two = evaluate({**plain, "seeds": [0, 1], "baselines": ["sLORETA", "MNE"]}, tmp_path / "two").results
        for result in one:
            (same,) = [other for other in two if other.cell == result.cell]
            assert same.row["peak_error"] == result.row["peak_error"]
            assert same.row.get("all: crps") == result.row.get("all: crps")

    @pytest.mark.slow
    def test_a_killed_run_goes_on(self, tmp_path, monkeypatch):
        out, runs = tmp_path / "out", []
        inner = cell_evaluation.invert

        def killed(cell, *given):
            if len(runs) == 3:
                raise KeyboardInterrupt
            runs.append(cell)
            return inner(cell, *given)

        monkeypatch.setattr(cell_evaluation, "invert", killed)
        with pytest.raises(KeyboardInterrupt):
            evaluate(SMALL, out)
        assert len(list((out / "cells").iterdir())) == 3
        first = sorted((out / "cells").iterdir())[0]
        monkeypatch.setattr(cell_evaluation, "invert", lambda cell, *given: runs.append(cell) or inner(cell, *given))
        # Half a file, such as no run of this program leaves, is not believed.
        first.write_text(first.read_text()[:500])
        found = evaluate(SMALL, out)
        assert len(found.results) == 12
        assert len(runs) == 3 + 12 - 2
        evaluate(SMALL, out)
        assert len(runs) == 13
        fresh = evaluate(SMALL, tmp_path / "fresh")
        drop = ["seconds"]
        pd.testing.assert_frame_equal(found.table.drop(columns=drop), fresh.table.drop(columns=drop))

    @pytest.mark.slow
    def test_a_full_disk_leaves_nothing_half_written(self, tmp_path, monkeypatch):
        out, write = tmp_path / "out", Path.write_bytes

        def full(path, content):
            if "cells" not in path.parts:
                return write(path, content)
            write(path, content[:100])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space"):
            evaluate(SMALL, out)
        assert not list((out / "cells").iterdir())
        monkeypatch.setattr(Path, "write_bytes", write)
        assert len(evaluate(SMALL, out).results) == 12

    @pytest.mark.slow
    def test_a_folder_belongs_to_its_configuration(self, tmp_path):
        out = tmp_path / "out"
        evaluate({**SMALL, "truths": ["dipole"], "seeds": 1}, out)
        with pytest.raises(FileExistsError, match=r"another configuration \(seeds differ\); to resume"):
            evaluate({**SMALL, "truths": ["dipole"], "seeds": 2}, out)
        with pytest.raises(FileExistsError, match="referees differ"):
            evaluate({**SMALL, "truths": ["dipole"], "seeds": 1}, out, referees={"oracle": oracle})
        (tmp_path / "letters").mkdir()
        (tmp_path / "letters" / "a.txt").write_text("dear")
        with pytest.raises(FileExistsError, match="holds files of something else"):
            evaluate(SMALL, tmp_path / "letters")
        with pytest.raises(FileExistsError, match="is a file"):
            evaluate(SMALL, tmp_path / "letters" / "a.txt")

    @pytest.mark.slow
    def test_one_cell_that_raises_costs_one_cell(self, plain, tmp_path):
        def lazy(problem, truth):
            raise ArithmeticError("too hard")

        found = evaluate({**plain, "seeds": 1}, tmp_path / "out", referees={"lazy": lazy})
        assert len(found.results) == 6
        assert found.failures == tuple(f"lazy on {t} (seed 0): ArithmeticError: too hard" for t in ("dipole", "sparse"))
        assert "too hard" in (tmp_path / "out" / "report.html").read_text()
        only = {**plain, "models": [], "baselines": [], "truths": ["dipole"], "seeds": 1}
        with pytest.raises(RuntimeError, match="all 1 cells raised; the first: lazy on dipole"):
            evaluate(only, tmp_path / "none", referees={"lazy": lazy})


class TestCrime:
    @pytest.mark.parametrize("change", [{"world": "inversion"}, {"truths": ["prior: hierarchical"]}])
    def test_it_is_refused(self, change, tmp_path):
        with pytest.raises(ValueError, match="inverse crime: truths are made with the inversion's own lead field"):
            evaluate({**SMALL, **change}, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_it_is_found_by_content(self, tmp_path, monkeypatch):
        monkeypatch.setattr(
            setting_evaluation, "world_of", lambda configuration, seed: setting_evaluation.setting_of(None).lead_field
        )
        with pytest.raises(ValueError, match="the world of seed 0 has the inversion's gain"):
            evaluate(SMALL, tmp_path / "out")

    @pytest.mark.slow
    def test_everything_is_stamped(self, tmp_path):
        out = tmp_path / "out"
        given = {**SMALL, "truths": ["sparse", "prior: hierarchical"], "world": "inversion", "models": ["hierarchical"]}
        found = evaluate({**given, "seeds": 1}, out, allow_inverse_crime=True)
        assert not found.failures
        assert found.crime
        assert names(out) - {"cells", "configuration.json"} == {
            f"inverse-crime-{name}"
            for name in (
                *("table.csv", "summary.csv", "curves.csv", "report.html"),
                *("coverage.png", "reliability.png", "localisation.png"),
            )
        }
        for name in ("table", "summary", "curves"):
            assert pd.read_csv(out / f"inverse-crime-{name}.csv")["inverse crime"].all()
        for draw in (
            figures.evaluation_coverage,
            figures.evaluation_reliability,
            figures.evaluation_localisation,
        ):
            assert draw(found).get_suptitle() == "INVERSE CRIME"
        for file in (out / "cells").iterdir():
            assert json.loads(file.read_text())["inverse crime"] is True
        page = (out / "inverse-crime-report.html").read_text()
        assert "<title>INVERSE CRIME" in page
        assert page.count("<h2>INVERSE CRIME") == 5

    @pytest.mark.slow
    def test_in_its_own_world_a_posterior_is_calibrated(self, tmp_path):
        # The prior draws scales over decades; their chance alone leaves 0.02 of 20 truths.
        given = {
            "truths": ["prior: hierarchical"],
            "models": ["hierarchical"],
            "baselines": [],
            "seeds": 40,
            "rate": 200.0,
        }
        found = evaluate({**SMALL, **given}, tmp_path / "out", allow_inverse_crime=True)
        (row,) = found.summary.to_dict("records")
        assert row["all: mad"] < 0.02
        assert abs(row["regions: coverage"] - 0.9) < 0.04


class TestReal:
    """The heads as they are, whose lead fields take some seconds."""

    @pytest.mark.slow
    def test_template(self, tmp_path, monkeypatch):
        monkeypatch.setenv("BAYESINV_CACHE", str(tmp_path / "cache"))
        given = {
            **SMALL,
            "truths": ["dipole"],
            "seeds": 1,
            "truth_spacing": "oct4",
            "draws": 2,
            "forward_error": [True],
        }
        found = evaluate(given, tmp_path / "out", jobs=2)
        assert not found.failures
        assert len(found.results) == 3
        assert found.ranking("peak_error").max() < 0.1

    @pytest.mark.slow
    def test_sphere(self, tmp_path):
        given = {"world": "inversion", "head": "sphere", "noise": "white", "truths": ["sparse"], "seeds": 1}
        found = evaluate({**SMALL, **given}, tmp_path / "out", allow_inverse_crime=True)
        assert not found.failures
        assert found.ranking().min() > 0.5


def test_it_is_public():
    assert bi.evaluate is evaluate
    assert asdict(Configuration.of(SMALL))["snr"] == (4.0,)


class TestCommand:
    def test_it_writes_and_tells(self, tmp_path, capsys):
        from bayesinv import cli

        path, out = tmp_path / "mine.toml", tmp_path / "out"
        rows = [f"{key} = {json.dumps(value)}" for key, value in {**SMALL, "seeds": 1, "models": []}.items()]
        path.write_text("\n".join(rows))
        assert cli.run(["evaluate", str(path), "--out", str(out)]) == cli.PASSED
        said = capsys.readouterr().out
        assert "sLORETA" in said
        assert f"wrote {out / 'report.html'}" in said

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["smal"], "no configuration named 'smal'"),
            (["peers", "--jobs", "0"], "jobs is 0"),
            (["none.toml"], "there is no configuration none.toml"),
        ],
    )
    def test_doors(self, words, said, tmp_path, capsys):
        from bayesinv import cli

        assert cli.run(["evaluate", *words, "--out", str(tmp_path / "out")]) == cli.REFUSED
        assert said in capsys.readouterr().err


class TestTruths:
    """On the template's own cortex."""

    @pytest.fixture
    def cortex(self):
        return template_cortex.sources("ico3")

    TIMES = np.arange(-5, 20) / 50

    def made(self, name, cortex, seed=0):
        return TRUTHS[name](cortex, self.TIMES, np.random.default_rng(seed))

    def test_deep_ones_are_in_the_inner_quarter(self, cortex):
        middle = (cortex.positions.max(axis=0) + cortex.positions.min(axis=0)) / 2
        bound = np.quantile(np.linalg.norm(cortex.positions - middle, axis=1), 0.25)
        away = [np.linalg.norm(self.made("deep", cortex, seed).centre - middle) for seed in range(8)]
        # A patch of 6 cm² reaches a little beyond.
        assert max(away) < bound + 0.01

    def test_smooth_ones_are_alike_nearby_and_not_far_away(self, cortex):
        found = self.made("smooth", cortex)
        after = found.current[:, found.times >= 0]
        assert np.sqrt(np.mean(after**2)) == pytest.approx(1e-9)
        correlations = np.corrcoef(after)
        distance = np.linalg.norm(cortex.positions[:, None] - cortex.positions, axis=2)
        assert np.mean(correlations[(distance > 0) & (distance < 0.008)]) > 0.85
        assert abs(np.mean(correlations[distance > 0.1])) < 0.2

    def test_nothing_is_nothing_and_a_cell_of_it_counts_what_is_found(self, cortex, tmp_path):
        assert not self.made("nothing", cortex).current.any()
        given = {**SMALL, "truths": ["nothing"], "seeds": 1, "models": ["hierarchical"], "baselines": ["MNE"]}
        found = evaluate(given, tmp_path / "out")
        assert not found.failures
        assert {one.snr for one in found.results} == {0.0}
        assert np.isnan(found.table["peak_error"]).all()
        assert (found.table["inactive: coverage"] > 0.9).any()

    def test_two_patches_have_one_course(self, cortex):
        found = self.made("patches", cortex)
        courses = np.stack([found.current[found.parts == k].sum(axis=0) for k in (0, 1)])
        assert np.corrcoef(courses)[0, 1] == pytest.approx(1)


def test_focal_sources_have_a_table_and_cells_are_read_back(tmp_path, monkeypatch):
    """Scores of a focal model are stored with each cell, pooled, and shown."""
    scores = FocalScores(
        Reliability.of([0.2], np.array([True])), Reliability.of([], np.zeros(0, bool)), 2, 1, 1, 1, 0, 1, 0.7, 1
    )
    real_score = cell_evaluation.score
    monkeypatch.setattr(
        cell_evaluation, "score", lambda *given, **named: replace(real_score(*given, **named), foci=scores)
    )
    given = {**SMALL, "truths": ["dipole"], "baselines": []}
    found = evaluate(given, tmp_path / "out")
    again = evaluate(given, tmp_path / "out")
    for one in (found, again):
        row = one.summary.iloc[0]
        assert (row["foci: parts"], row["foci: found"], row["foci: amplitude"]) == (4, 2, 0.7)
        assert row["foci: places: brier"] == pytest.approx(0.64)
        assert row["foci: ± in_set"] == 0
    assert "Focal sources" in (tmp_path / "out" / "report.html").read_text()
