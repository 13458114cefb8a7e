"""Estimates and posteriors of one recording side by side."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from bayesinv import Problem, Sources, infer
from bayesinv.baselines import baseline
from bayesinv.compare import compare_estimates
from bayesinv.tikhonov import tikhonov


@pytest.fixture
def problem(rng):
    gain = rng.standard_normal((9, 16))
    places = Sources(rng.standard_normal((16, 3)) / 20)
    recording = gain[:, [4]] * np.array([1.0, 8.0, 3.0]) + rng.standard_normal((9, 3))
    return Problem(gain, recording, np.array([0.01, 0.02, 0.03]), sources=places)


@pytest.fixture
def results(problem):
    return {
        "plain": tikhonov(problem, 2.0),
        "sLORETA": baseline(problem, "sLORETA"),
        "LCMV": baseline(problem, "LCMV", covariance="recording"),
        "hierarchical": infer("hierarchical", problem),
        "fixed": infer("minimum_norm", problem),
    }


def test_rows_hold_what_the_results_say(problem, results):
    table = compare_estimates(results)
    assert table.time == 0.02
    assert table["sLORETA"].peak == 4
    assert_allclose(table["sLORETA"].position, problem.sources.positions[4])
    assert table["plain"].lam == results["plain"].lam
    assert_allclose(table["plain"].snr, np.sqrt(problem.signal_power / results["plain"].lam), rtol=1e-10)
    assert table["plain"].lam_interval is None
    assert table["plain"].log_evidence is None
    row, posterior = table["hierarchical"], results["hierarchical"]
    assert row.lam_interval == posterior.hyper["lambda"].interval(0.9)
    assert row.lam_interval[0] < row.lam < row.lam_interval[1]
    assert row.log_evidence == float(posterior.log_evidence)
    assert row.goodness_of_fit == posterior.goodness_of_fit
    assert_allclose(row.height, np.abs(posterior.mean[:, 1]).max())
    assert table["fixed"].lam_interval is None
    assert table["LCMV"].lam is None
    assert table["LCMV"].goodness_of_fit is None
    size = np.abs(results["plain"].current[:, 1])
    far = np.linalg.norm(problem.sources.positions - problem.sources.positions[size.argmax()], axis=1)
    assert_allclose(table["plain"].spread, np.sqrt(np.sum((size * far) ** 2) / np.sum(size**2)))


def test_the_table_reads(results):
    text = str(compare_estimates(results, 0.02))
    assert text.startswith("at 20 ms\nname")
    assert len(text.splitlines()) == 7
    assert "nA m" in text


def test_the_figure_has_a_row_per_result(problem, results):
    figure = compare_estimates(results).figure()
    assert len(figure.axes) == 3 * 5 + 1
    assert [figure.axes[3 * i].get_ylabel() for i in range(5)] == list(results)
    limits = {axes.collections[0].get_clim() for axes in figure.axes[:-1]}
    assert limits == {(0.0, 1.0)}
    figure.canvas.draw()


def test_without_positions_the_maps_are_curves(problem):
    bare = Problem(problem.gain, problem.recording, problem.times)
    table = compare_estimates({"a": tikhonov(bare, 1.0)})
    assert table["a"].position is None
    assert table["a"].spread is None
    assert len(table.figure().axes) == 1


def test_says_what_is_wrong(problem, results, rng):
    with pytest.raises(ValueError, match="there is nothing to compare"):
        compare_estimates({})
    with pytest.raises(ValueError, match="'a' is of type float"):
        compare_estimates({"a": 1.0})
    other = Problem(problem.gain, problem.recording + 1, problem.times)
    with pytest.raises(ValueError, match="'b' is of another recording or other sources than 'plain'"):
        compare_estimates({**results, "b": tikhonov(other, 1.0)})
    with pytest.raises(ValueError, match=r"time is 0.5 s, but the recording runs from 0.01 to 0.03 s"):
        compare_estimates(results, 0.5)
    with pytest.raises(KeyError, match="nothing named 'c'"):
        compare_estimates(results)["c"]
