"""Scores of focal sources, by hand and of forecasters whose calibration is known."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from referee import toy

import bayesinv as bi
from bayesinv.covariance.covariance import Structure
from bayesinv.evaluation.results import error_of_share
from bayesinv.head.sources import Sources
from bayesinv.posterior.active import ActiveSets
from bayesinv.posterior.hyper import Hyper
from bayesinv.posterior.mixture import Mixture
from bayesinv.posterior.posterior import Posterior
from bayesinv.scoring.focal import MANY, FocalScores, around, focal_scores, parts_of
from bayesinv.scoring.reliability import Reliability
from bayesinv.scoring.score import score
from bayesinv.simulation.truth import Truth

PLACES = 0.05 * np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0], [0, 1, 0], [0, 2, 0], [0, 0, 1.0]])
"""Farther apart than a focus reaches."""


@pytest.fixture
def problem():
    plain = toy(samples=7, sources=6)
    normals = np.tile([0.0, 0, 1], (6, 1))
    return replace(plain, sources=Sources(PLACES, normals=normals))


def posterior(problem, patches, strength=1.0):
    """One draw per list of places at which a source is active in it."""
    draws, active = len(patches), [one for some in patches for one in some]
    flat = np.array(active, dtype=np.int64)
    unit = 1 / np.sqrt(np.mean(problem.gain**2))
    sets = ActiveSets(
        node=np.repeat(np.arange(draws), [len(some) for some in patches]),
        patch=flat,
        parts=flat[:, None],
        shares=np.ones((len(flat), 1)),
        strength=np.full(len(flat), strength * unit),
        constant=np.zeros(draws, dtype=np.int64),
        constants=np.array([np.nan]),
        error=np.zeros(draws),
        chain=np.zeros(draws, dtype=np.int64),
        centre=np.arange(6),
        extent=np.zeros(6),
        starts=np.arange(7),
        members=np.arange(6),
        weights=np.ones(6),
        most=5,
    )
    weights = np.full(draws, 1 / draws)
    mixture = Mixture(
        weights, np.full(draws, 1e-4 * unit**2), np.ones(draws), np.zeros(draws, np.int64), (Structure(),)
    )
    nothing = {name: np.zeros(draws) for name in ("lambda", "snr")}
    return Posterior(problem, "focal", "given", mixture, Hyper(nothing, weights, nothing), None, active=sets)


def dipoles(problem, places, currents):
    """A truth of dipoles at some sources, with these courses (dipole, time)."""
    return Truth(problem.sources.pick(np.array(places)), np.array(currents), problem.times, {}, np.arange(len(places)))


class TestParts:
    def test_a_patch_is_one_and_lies_where_its_current_is(self, problem):
        current = np.outer([1.0, 3.0], [0, 1, 2, 1, 0, 0, 0])
        truth = Truth(problem.sources.pick(np.array([0, 1])), current, problem.times)
        (part,) = parts_of(truth)
        assert_allclose(part.place, 0.75 * PLACES[1])
        assert_allclose(part.course, current.sum(axis=0))
        assert part.peak == 2

    def test_of_a_table_of_all_sources_each_active_one_is(self, problem):
        current = np.zeros((6, 7))
        current[[1, 4], 3] = 1, -2
        parts = parts_of(Truth(problem.sources, current, problem.times))
        assert [one.sources.tolist() for one in parts] == [[1], [4]]
        assert_allclose([one.place for one in parts], PLACES[[1, 4]])

    def test_too_many_or_none_are_not_focal(self, problem):
        assert parts_of(Truth(problem.sources, np.zeros((6, 7)), problem.times)) == ()
        sources = Sources(np.random.default_rng(0).normal(size=(MANY + 1, 3)))
        truth = Truth(sources, np.ones((MANY + 1, 7)), problem.times, {}, np.arange(MANY + 1))
        assert parts_of(truth) == ()
        fewer = truth.parts[:MANY]
        assert len(parts_of(Truth(sources.pick(fewer), np.ones((MANY, 7)), problem.times, {}, fewer))) == MANY

    def test_sums_around_them_hold_what_is_near_or_the_nearest(self, problem):
        truth = dipoles(problem, [2, 5], np.ones((2, 7)))
        parts = parts_of(truth)
        assert_allclose(around(parts, problem.sources, 1)[..., 0], np.eye(6)[[2, 5]])
        wide = around(parts, problem.sources, 1, 0.06)[..., 0]
        assert_allclose(wide[0], [0, 1, 1, 0, 0, 0])
        free = around(parts, replace(problem.sources, positions=PLACES + 0.03), 3)
        assert free.shape == (6, 6, 3)
        assert_allclose(free.sum(axis=1), np.tile(np.eye(3), (2, 1)))


def test_scores_by_hand(problem):
    """Ten draws: a source at 1 in all, one at 4 in seven, one at 5 in three; the truth has 1, 4 and 3."""
    found = posterior(problem, [[1, 4]] * 7 + [[1, 5]] * 3)
    foci = found.foci
    assert [one.place for one in foci] == [1, 4, 5]
    low, high = foci[0].current.interval(0.9)
    inside, outside = foci[0].current.mean[0] + 0.01 * (high - low)[0], (2 * high - low)[0]
    silent = np.eye(7)[2]
    at = int(np.argmax(np.abs(inside)))
    truth = dipoles(problem, [1, 4, 3], [inside, 5 * silent * np.abs(outside).max(), silent])
    regions = {"left": np.array([0, 1]), "right": np.array([2, 5])}
    got = focal_scores(found, truth, 0.9, regions)
    # The focus at 5 has probability 0.3 and is not found; no focus is within 4 cm of 3.
    assert (got.parts, got.found, got.near, got.missed) == (3, 2, 2, 1)
    assert (got.in_set, got.in_ball) == (2, 2)
    # 4's current is off.
    assert got.current_inside == 1
    sample = 2
    ratios = [
        foci[0].current.mean[0, at] / inside[at],
        foci[1].current.mean[0, sample] / (5 * np.abs(outside).max()),
    ]
    assert got.amplitude == pytest.approx(sum(ratios))
    # Of six places, two claimed by all and none, half a draw aside.
    claims = (np.array([0, 10, 0, 0, 7, 3]) + 0.5) / 11
    held = np.array([0, 1, 0, 1, 1, 0])
    assert got.places.brier == pytest.approx(np.mean((claims - held) ** 2))
    assert got.places.log_score == pytest.approx(-np.mean(np.log(np.where(held, claims, 1 - claims))))
    assert got.regions.brier == pytest.approx(np.mean((np.array([10.5, 3.5]) / 11 - [1, 0]) ** 2))
    # Regions that overlap are judged one by one.
    both = focal_scores(found, truth, 0.9, {"left": np.array([0, 1]), "more": np.array([1, 5])}).regions
    assert both.brier == pytest.approx((0.5 / 11) ** 2)
    assert got.row()["place in set"] == 1
    assert (got + got).row()["amplitude"] == pytest.approx(got.row()["amplitude"])
    # A truth elsewhere: both foci are false, and every part is missed.
    other = focal_scores(found, dipoles(problem, [2], [silent]), 0.9)
    assert (other.found, other.near, other.missed, other.in_set) == (2, 0, 1, 0)
    assert np.isnan(other.row()["current inside"])


def test_models_without_focal_sources_have_none(problem):
    truth = dipoles(problem, [2], [np.ones(7)])
    assert focal_scores(bi.infer("hierarchical", problem), truth) is None
    assert score(bi.infer("hierarchical", problem), truth).foci is None
    sources = Sources(np.random.default_rng(0).normal(size=(MANY + 1, 3)))
    many = Truth(sources, np.ones((MANY + 1, 7)), problem.times, {}, np.arange(MANY + 1))
    assert focal_scores(posterior(problem, [[1]]), many) is None


def test_of_nothing_whatever_is_found_is_false(problem):
    nothing = Truth(problem.sources, np.zeros((6, 7)), problem.times)
    found = score(posterior(problem, [[1], [1, 4], [1], []]), nothing, regions={"left": np.array([0, 1])})
    assert (found.foci.parts, found.foci.found, found.foci.near) == (0, 1, 0)
    assert found.foci.row()["false"] == 1
    assert np.isnan(found.foci.row()["missed"])
    assert found.foci.regions.brier == pytest.approx((3.5 / 5) ** 2)
    assert np.isnan(found.peak_error)
    assert found.peak is None
    assert found.currents is None
    assert found.strata["inactive"].count == 42
    # A truth that is silent in a window alone is a mistake.
    late = Truth(problem.sources, np.eye(6, 7), problem.times)
    with pytest.raises(ValueError, match="zero throughout the window"):
        score(posterior(problem, [[1]]), late, window=slice(6, 7))


def test_score_has_them_and_the_currents_around_each_part(problem):
    found = posterior(problem, [[2]] * 5)
    truth = dipoles(problem, [2], [np.sin(np.arange(7))])
    scores = score(found, truth, regions={"here": np.array([2, 3])})
    assert isinstance(scores.foci, FocalScores)
    assert scores.foci.found == 1
    assert scores.foci.regions.count == 1
    assert scores.currents.count == 7
    # One place lies within reach.
    low, high = found.contrast(np.eye(6)[2]).interval(0.9)
    current = np.sin(np.arange(7))
    assert scores.currents.inside == int(np.sum((low[0] <= current) & (current <= high[0])))
    assert scores.row()["foci: found"] == 1
    assert "currents: coverage" in scores.row()


class TestReliability:
    def test_a_forecaster_that_knows_scores_what_it_must(self):
        rng = np.random.default_rng(0)
        forecast = rng.uniform(size=40_000)
        event = rng.uniform(size=40_000) < forecast
        table = Reliability.of(forecast, event)
        # Ten bins of 4000: mean |error| of each is 0.8 of its standard error, at most 0.008.
        assert table.calibration_error < 0.01
        assert table.log_score == pytest.approx(0.5, abs=0.01)  # ∫ entropy of p

    def test_one_that_claims_a_tenth_more_is_a_tenth_off(self):
        rng = np.random.default_rng(1)
        truly = rng.uniform(0.1, 0.8, size=40_000)
        event = rng.uniform(size=40_000) < truly
        assert Reliability.of(truly + 0.1, event).calibration_error == pytest.approx(0.1, abs=0.01)

    def test_what_was_held_impossible_scores_infinite(self):
        assert Reliability.of([0.0, 0.5], np.array([True, False])).log_score == np.inf
        assert Reliability.of([0.0, 1.0], np.array([False, True])).log_score == 0
        empty = Reliability.of([], np.zeros(0, dtype=bool))
        assert np.isnan(empty.log_score)
        assert np.isnan(empty.calibration_error)


class TestErrorOfShare:
    def test_it_is_that_of_simulated_cells(self):
        """Cells of other sizes, each with a share of its own."""
        rng = np.random.default_rng(0)
        shares, claimed = [], []
        for _ in range(2000):
            numbers = rng.integers(5, 50, size=30)
            counts = rng.binomial(numbers, rng.beta(8, 2, size=30))
            shares.append(counts.sum() / numbers.sum())
            claimed.append(error_of_share(counts, numbers))
        assert np.mean(claimed) == pytest.approx(np.std(shares), rel=0.05)

    def test_of_one_cell_it_is_not_known(self):
        assert np.isnan(error_of_share([3], [4]))
        assert np.isnan(error_of_share([3, 0], [4, 0]))
