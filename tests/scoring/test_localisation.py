"""How far a map lies from the truth, against pairs counted and linear programs."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from referee import toy
from scipy.optimize import linprog
from scipy.spatial.distance import cdist
from sklearn.metrics import average_precision_score, roc_auc_score

import bayesinv as bi
from bayesinv.scoring import localisation


def scene(rng, sources=14, vertices=6):
    """A map and a truth on grids of their own."""
    return (
        rng.normal(size=sources),
        rng.uniform(-0.07, 0.07, (sources, 3)),
        rng.normal(size=vertices),
        rng.uniform(-0.07, 0.07, (vertices, 3)),
    )


class TestDistances:
    def test_distances_are_those_written_out(self, rng):
        size, at, true, there = scene(rng)
        strong = [k for k in range(6) if abs(true[k]) >= 0.5 * np.abs(true).max()]
        peak = at[np.argmax(np.abs(size))]
        assert_allclose(
            localisation.peak_error(size, at, true, there),
            min(np.linalg.norm(peak - there[k]) for k in strong),
            rtol=1e-12,
        )
        centre = sum(abs(w) * r for w, r in zip(size, at, strict=True)) / np.abs(size).sum()
        true_centre = sum(abs(v) * s for v, s in zip(true, there, strict=True)) / np.abs(true).sum()
        assert_allclose(
            localisation.centre_error(size, at, true, there), np.linalg.norm(centre - true_centre), rtol=1e-12
        )
        distance = [min(np.linalg.norm(r - there[k]) for k in strong) for r in at]
        spread = np.sqrt(sum(w**2 * d**2 for w, d in zip(size, distance, strict=True)) / np.sum(size**2))
        assert_allclose(localisation.deviation(size, at, true, there), spread, rtol=1e-12)

    def test_for_one_dipole_on_the_grid_they_are_the_metrics_of_its_point_spread(self):
        problem = toy()
        resolution = bi.resolution(problem, 0.3 * problem.signal_power)
        metrics, at = resolution.metrics("psf"), problem.sources.positions
        for k in range(11):
            psf = resolution.psf(k)
            assert_allclose(localisation.peak_error(psf, at, [1e-8], at[[k]]), metrics.peak_error[k], atol=1e-12)
            assert_allclose(localisation.centre_error(psf, at, [1e-8], at[[k]]), metrics.centre_error[k], rtol=1e-9)
            assert_allclose(localisation.deviation(psf, at, [1e-8], at[[k]]), metrics.deviation[k], rtol=1e-9)

    def test_they_know_no_unit_and_no_sign(self, rng):
        size, at, true, there = scene(rng)
        for measure in (
            localisation.peak_error,
            localisation.centre_error,
            localisation.deviation,
            localisation.earth_movers_distance,
        ):
            assert_allclose(measure(-1e-9 * size, at, 1e9 * true, there), measure(size, at, true, there), rtol=1e-9)

    def test_a_map_that_is_the_truth_is_nowhere_off(self, rng):
        _, _, true, there = scene(rng)
        assert localisation.peak_error(true, there, true, there) == 0
        assert_allclose(localisation.centre_error(true, there, true, there), 0, atol=1e-15)
        assert_allclose(localisation.earth_movers_distance(true, there, true, there), 0, atol=1e-15)
        one = np.eye(6)[2]
        assert localisation.deviation(one, there, one, there) == 0

    @pytest.mark.parametrize(
        "measure", [localisation.peak_error, localisation.centre_error, localisation.earth_movers_distance]
    )
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"map": np.zeros(14)}, "the map is zero everywhere"),
            ({"truth": np.zeros(6)}, "the truth is zero everywhere"),
            ({"map": np.full(14, np.nan)}, "map holds 14 NaN"),
            ({"map": np.ones(13)}, "positions has source = 14, but map has source = 13"),
            ({"truth_positions": np.ones((6, 2))}, "truth_positions has shape"),
            ({"truth": np.ones((6, 1))}, "truth has shape"),
            ({"map": [], "positions": np.zeros((0, 3))}, "the map is zero everywhere"),
        ],
    )
    def test_doors(self, rng, measure, change, message):
        given = dict(zip(("map", "positions", "truth", "truth_positions"), scene(rng), strict=True)) | change
        with pytest.raises(ValueError, match=message):
            measure(**given)


class TestEarthMovers:
    @pytest.mark.parametrize("seed", range(4))
    def test_is_the_optimum_of_the_linear_program(self, seed):
        size, at, true, there = scene(np.random.default_rng(seed), 9, 5)
        mine, theirs = np.abs(size) / np.abs(size).sum(), np.abs(true) / np.abs(true).sum()
        rows, columns = np.kron(np.eye(9), np.ones(5)), np.kron(np.ones(9), np.eye(5))
        found = linprog(cdist(at, there).ravel(), A_eq=np.vstack([rows, columns]), b_eq=np.concatenate([mine, theirs]))
        assert_allclose(localisation.earth_movers_distance(size, at, true, there), found.fun, rtol=1e-9)

    def test_one_dipole_for_another_is_as_far_as_they_are_apart(self, rng):
        one, other = rng.uniform(-0.07, 0.07, (2, 3))
        assert_allclose(
            localisation.earth_movers_distance([3.0], one[None], [-1.0], other[None]),
            np.linalg.norm(one - other),
            rtol=1e-12,
        )

    def test_leaving_light_sources_out_costs_no_more_than_their_mass_moves(self, rng):
        size, at, true, there = scene(rng, 120, 7)
        exact = localisation.earth_movers_distance(size, at, true, there)
        mass = np.abs(size) / np.abs(size).sum()
        for largest in (7, 20, 60):
            order = np.argsort(-mass)
            moved = cdist(at[order[largest:]], at[order[:largest]]).min(axis=1)
            bound = mass[order[largest:]] @ moved
            assert abs(localisation.earth_movers_distance(size, at, true, there, largest) - exact) <= bound + 1e-12

    def test_light_sources_lend_their_mass_to_the_nearest(self):
        at = np.array([[0.0, 0, 0], [0.1, 0, 0], [0.101, 0, 0]])
        mass = np.array([0.4, 0.35, 0.25])
        # Onto the first two go 0.4 and 0.6; what stays to be done is to carry 0.25 over a millimetre.
        assert_allclose(localisation.earth_movers_distance(mass, at, mass, at, 2), 0, atol=1e-12)
        assert_allclose(localisation.earth_movers_distance(mass, at, [0.4, 0.6], at[:2], 2), 0, atol=1e-12)
        assert_allclose(localisation.earth_movers_distance(mass, at, [0.4, 0.6], at[:2]), 0.25e-3, rtol=1e-9)

    def test_something_must_be_kept(self, rng):
        with pytest.raises(ValueError, match="largest is 0, but at least one"):
            localisation.earth_movers_distance(*scene(rng), largest=0)


class TestRanks:
    def test_area_counts_pairs_and_precision_walks_down_the_thresholds(self, rng):
        size, active = np.abs(np.round(rng.normal(size=40), 1)), rng.random(40) < 0.3
        wins = np.mean(
            [(a > b) + 0.5 * (a == b) for a in size[active] for b in size[~active]],
        )
        assert_allclose(localisation.area_under_curve(-size, active), wins, rtol=1e-12)
        assert_allclose(wins, roc_auc_score(active, size), rtol=1e-12)
        total, before = 0.0, 0.0
        for threshold in np.unique(size)[::-1]:
            called = size >= threshold
            recall = (called & active).sum() / active.sum()
            total += (recall - before) * (called & active).sum() / called.sum()
            before = recall
        assert_allclose(localisation.average_precision(-size, active), total, rtol=1e-12)
        assert_allclose(total, average_precision_score(active, size), rtol=1e-12)

    def test_the_truth_is_best_and_a_constant_map_is_chance(self, rng):
        active = rng.permutation(np.arange(30) < 4)
        truth = np.where(active, rng.normal(size=30), 0.0)
        assert localisation.area_under_curve(truth, active) == localisation.average_precision(truth, active) == 1
        assert localisation.area_under_curve(np.full(30, 2.0), active) == 0.5
        assert_allclose(localisation.average_precision(np.full(30, 2.0), active), 4 / 30)

    @pytest.mark.parametrize("measure", [localisation.area_under_curve, localisation.average_precision])
    def test_doors(self, measure):
        for active in ([True, True, True], [False] * 3):
            with pytest.raises(ValueError, match="some must be, and some must not"):
                measure([1.0, 2, 3], active)
        with pytest.raises(ValueError, match="active has source = 2"):
            measure([1.0, 2, 3], [True, False])
        with pytest.raises(ValueError, match="true or false"):
            measure([1.0, 2, 3], [1, 0, 0])
        with pytest.raises(ValueError, match="map holds 1 NaN"):
            measure([1.0, np.nan, 3], [True, False, False])


class TestCorrelation:
    def test_is_pearson_s_whatever_the_unit(self, rng):
        one, other = rng.normal(size=(2, 5, 3))
        wanted = np.corrcoef(one.ravel(), other.ravel())[0, 1]
        assert_allclose(localisation.correlation(1e-200 * one, 1e9 * other + 1), wanted, rtol=1e-6)
        assert_allclose(localisation.correlation(one, -3 * one), -1, rtol=1e-12)

    def test_with_a_constant_is_none(self, rng):
        assert localisation.correlation(np.full(7, 0.1), rng.normal(size=7)) == 0
        assert localisation.correlation(np.zeros(7), np.zeros(7)) == 0

    def test_doors(self):
        with pytest.raises(ValueError, match="differ"):
            localisation.correlation(np.ones(3), np.ones(4))
        with pytest.raises(ValueError, match="empty"):
            localisation.correlation([], [])
        with pytest.raises(ValueError, match="NaN"):
            localisation.correlation([1, np.nan], [1, 2])
