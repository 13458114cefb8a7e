"""Scores against brute force: integration, linear programs, pairs counted, and posteriors known to be right."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from referee import GAIN, dense_mixture, toy
from scipy.integrate import quad
from scipy.optimize import linprog
from scipy.spatial.distance import cdist
from scipy.stats import kstest, norm
from sklearn.metrics import average_precision_score, roc_auc_score

import bayesinv as bi
from bayesinv.classical.resolution import Resolution
from bayesinv.head.sources import Sources
from bayesinv.posterior.hyper import Hyper
from bayesinv.posterior.mixture import Mixture
from bayesinv.posterior.posterior import Posterior
from bayesinv.scoring import compression, coverage, localisation, projection, proper, score, scores
from bayesinv.scoring.coverage import LEVELS, Pit
from bayesinv.scoring.reliability import Reliability
from bayesinv.scoring.tally import Tally
from bayesinv.simulation.truth import Truth


def mixture(rng, nodes=5, shape=(3, 4)):
    """Weights (node,), means and sds (node, ...) of mixtures that are far from Gaussian."""
    weights = rng.dirichlet(np.ones(nodes))
    return weights, rng.normal(size=(nodes, *shape)), rng.uniform(0.1, 2.0, (nodes, *shape))


def scene(rng, sources=14, vertices=6):
    """A map and a truth on grids of their own."""
    return (
        rng.normal(size=sources),
        rng.uniform(-0.07, 0.07, (sources, 3)),
        rng.normal(size=vertices),
        rng.uniform(-0.07, 0.07, (vertices, 3)),
    )


class TestPlaces:
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
        middle = sum(abs(v) * s for v, s in zip(true, there, strict=True)) / np.abs(true).sum()
        assert_allclose(localisation.centre_error(size, at, true, there), np.linalg.norm(centre - middle), rtol=1e-12)
        far = [min(np.linalg.norm(r - there[k]) for k in strong) for r in at]
        spread = np.sqrt(sum(w**2 * d**2 for w, d in zip(size, far, strict=True)) / np.sum(size**2))
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
            ({"places": np.ones((6, 2))}, "places has shape"),
            ({"truth": np.ones((6, 1))}, "truth has shape"),
            ({"map": [], "positions": np.zeros((0, 3))}, "the map is zero everywhere"),
        ],
    )
    def test_doors(self, rng, measure, change, message):
        given = dict(zip(("map", "positions", "truth", "places"), scene(rng), strict=True)) | change
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

    def test_peeking_is_best_and_a_constant_map_is_chance(self, rng):
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


def unit(rng, count):
    normals = rng.normal(size=(count, 3))
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


class TestProjection:
    @pytest.fixture
    def truth(self, rng):
        places = rng.uniform(-0.07, 0.07, (23, 3))
        return Truth(Sources(places, unit(rng, 23)), rng.normal(size=(23, 4)), np.arange(4) / 100)

    @pytest.fixture
    def grid(self, rng):
        return Sources(rng.uniform(-0.07, 0.07, (5, 3)), unit(rng, 5))

    @pytest.mark.parametrize("axes", [1, 3])
    def test_every_vertex_goes_to_its_nearest_source(self, truth, grid, axes):
        wanted = np.zeros((5, 3, 4))
        for place, normal, course in zip(truth.sources.positions, truth.sources.normals, truth.current, strict=True):
            k = np.argmin([np.linalg.norm(place - other) for other in grid.positions])
            wanted[k] += normal[:, None] * course
        if axes == 1:
            wanted = np.einsum("sx,sxt->st", grid.normals, wanted)
        assert_allclose(projection.project(truth, grid, axes), wanted, atol=1e-12)

    def test_on_its_own_grid_a_truth_is_itself(self, truth):
        assert_allclose(projection.project(truth, truth.sources, 1), truth.current, rtol=1e-12)

    def test_vectors_keep_the_sum_of_all_currents(self, truth, grid):
        moment = np.einsum("vx,vt->xt", truth.sources.normals, truth.current)
        assert_allclose(projection.project(truth, grid, 3).sum(axis=0), moment, rtol=1e-10)

    def test_hemispheres_do_not_mix(self, rng):
        normals = np.tile([0.0, 0, 1], (2, 1))
        grid = Sources(np.array([[-0.03, 0, 0], [0.002, 0, 0]]), normals, hemispheres=[0, 1])
        truth = Truth(Sources(np.array([[-0.001, 0, 0]]), normals[:1], hemispheres=[0]), [[1.0, 2]], [0, 1])
        assert_array_equal(projection.project(truth, grid, 1), [[1, 2], [0, 0]])
        unknown = replace(grid, hemispheres=None)
        assert_array_equal(projection.project(truth, unknown, 1), [[0, 0], [1, 2]])

    def test_currents_of_unknown_direction(self, truth, grid):
        bare, still = replace(truth, sources=Sources(truth.sources.positions)), Sources(grid.positions)
        goal = projection.nearest(bare.sources, still)
        wanted = np.array([truth.current[goal == k].sum(axis=0) for k in range(5)])
        assert_allclose(projection.project(bare, still, 1), wanted, atol=1e-12)
        for one, other, axes, whose in (
            (bare, grid, 1, "truth's"),
            (truth, still, 1, "grid's"),
            (bare, grid, 3, "tru"),
        ):
            with pytest.raises(ValueError, match=f"the {whose}.*normals are not known|the {whose}"):
                projection.project(one, other, axes)
        with pytest.raises(ValueError, match="axes is 2"):
            projection.project(truth, grid, 2)


class TestMixtures:
    def test_crps_is_the_integral_of_squared_distance(self, rng):
        weights, means, sds = mixture(rng, 4, (2, 3))
        truth = rng.normal(size=(2, 3), scale=2)
        found = proper.crps(weights, means, sds, truth)
        for i in np.ndindex(2, 3):

            def gap(x, i=i):
                return (weights @ norm.cdf(x, means[(slice(None), *i)], sds[(slice(None), *i)]) - (x >= truth[i])) ** 2

            whole = quad(gap, -30, truth[i], limit=200)[0] + quad(gap, truth[i], 30, limit=200)[0]
            assert_allclose(found[i], whole, rtol=1e-6)

    def test_crps_of_one_gaussian_is_that_of_the_books(self):
        # Gneiting & Raftery (2007), eq. 21: at the mean it is s (sqrt(2) - 1) / sqrt(π).
        assert_allclose(proper.crps([2.0], [[1.0]], [[3.0]], [1.0]), 3 * (np.sqrt(2) - 1) / np.sqrt(np.pi), rtol=1e-12)

    def test_log_score_and_pit_are_those_of_the_density(self, rng):
        weights, means, sds = mixture(rng)
        truth = rng.normal(size=(3, 4))
        at = lambda law: np.einsum("n,nij->ij", weights, law(truth, means, sds))  # noqa: E731
        assert_allclose(proper.log_score(weights, means, sds, truth), -np.log(at(norm.pdf)), rtol=1e-10)
        assert_allclose(proper.pit(weights, means, sds, truth), at(norm.cdf), rtol=1e-10)
        # Far out, where the density itself is below the smallest number.
        assert_allclose(proper.log_score([1.0], [0.0], [1.0], np.array(60.0)), 1800 + 0.5 * np.log(2 * np.pi))

    def test_weights_need_not_sum_to_one_and_sds_may_be_the_same_at_all_times(self, rng):
        weights, means, sds = mixture(rng)
        sds, truth = sds[:, :, :1], rng.normal(size=(3, 4))
        for law in (proper.pit, proper.crps, proper.log_score):
            assert_allclose(
                law(7 * weights, means, sds, truth),
                law(weights, means, np.broadcast_to(sds, means.shape), truth),
                rtol=1e-10,
            )

    def test_pit_of_draws_is_uniform_and_coverage_its_level(self, rng):
        weights, means, sds = mixture(rng, 6, ())
        node = rng.choice(6, 4000, p=weights)
        draws = rng.normal(means[node], sds[node])
        wide = (means[:, None], sds[:, None])
        places = proper.pit(weights, *wide, draws)
        assert kstest(places, "uniform").pvalue > 1e-3
        assert_allclose(coverage.coverage(places), LEVELS, atol=4 * 0.5 / np.sqrt(4000))
        assert kstest(proper.pit(weights, wide[0], 0.8 * wide[1], draws), "uniform").pvalue < 1e-4

    @pytest.mark.parametrize("law", [proper.crps, proper.log_score])
    def test_who_says_what_he_believes_scores_best(self, rng, law):
        weights, means, sds = mixture(rng, 3, ())
        node = rng.choice(3, 40_000, p=weights)
        draws = rng.normal(means[node], sds[node])

        def mean(shift=0.0, stretch=1.0, mass=weights):
            middle = weights @ means
            moved = middle + stretch * (means - middle) + shift
            return law(mass, moved[:, None], stretch * sds[:, None], draws).mean()

        others = [mean(shift=0.3), mean(shift=-0.3), mean(stretch=0.7), mean(stretch=1.4), mean(mass=weights[::-1])]
        assert mean() < min(others)

    def test_the_true_quantiles_have_the_smallest_interval_score(self, rng):
        draws = rng.normal(1.0, 2.0, 200_000)
        low, high = norm.ppf([0.1, 0.9], 1.0, 2.0)

        def mean(one, two):
            same = np.ones_like(draws)
            return proper.interval_score(one * same, two * same, draws, 0.8).mean()

        best = mean(low, high)
        for step in (-0.4, 0.4):
            assert best < mean(low + step, high)
            assert best < mean(low, high + step)
        # Its expectation in closed form: 2 s φ(z) 2/α.
        assert_allclose(best, 2 * 2.0 * norm.pdf(norm.ppf(0.9)) * 2 / 0.2, rtol=0.01)

    def test_interval_score_is_its_definition(self):
        low, high, truth = np.array([[0.0, 0], [0, 0]]), np.ones((2, 2)), np.array([[0.5, 1.0], [-0.1, 1.3]])
        assert_allclose(proper.interval_score(low, high, truth, 0.8), [[1, 1], [1 + 10 * 0.1, 1 + 10 * 0.3]])

    def test_peeking_is_best(self, rng):
        truth = rng.normal(size=(3, 4))
        weights, means, sds = mixture(rng)
        sharp = (np.ones(1), truth[None], np.full((1, 3, 4), 1e-6))
        for law in (proper.crps, proper.log_score):
            assert (law(*sharp, truth) < law(weights, means, sds, truth)).all()
        assert_allclose(proper.interval_score(truth, truth, truth), 0)

    @pytest.mark.parametrize("law", [proper.pit, proper.crps, proper.log_score])
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"weights": np.ones(4)}, "must have node = 4 first"),
            ({"weights": np.zeros(5)}, "holds no probability"),
            ({"weights": np.array([1, 1, 1, 1, -1.0])}, "at least 0"),
            ({"weights": []}, "must have node = 0"),
            ({"sds": np.zeros((5, 3, 4))}, "sds must be positive, but the smallest is 0"),
            ({"means": np.full((5, 3, 4), np.nan)}, "hold NaN"),
            ({"truth": np.full((3, 4), np.inf)}, "hold NaN or infinite"),
            ({"truth": np.ones((3, 5))}, "do not fit the truth"),
            ({"truth": np.ones(4)}, "do not fit the truth"),
        ],
    )
    def test_doors(self, rng, law, change, message):
        given = dict(zip(("weights", "means", "sds"), mixture(rng), strict=True)) | {"truth": np.ones((3, 4))} | change
        with pytest.raises(ValueError, match=message):
            law(**given)

    def test_doors_of_intervals(self):
        with pytest.raises(ValueError, match="level is 1"):
            proper.interval_score([0], [1], [0.5], 1)
        with pytest.raises(ValueError, match="one shape"):
            proper.interval_score([0, 1], [1], [0.5])
        with pytest.raises(ValueError, match="1 intervals end before they begin"):
            proper.interval_score([2.0], [1.0], [0.5])
        with pytest.raises(ValueError, match="NaN"):
            proper.interval_score([0.0], [np.nan], [0.5])


class TestCoverage:
    def test_counts_what_lies_inside(self, rng):
        z = rng.normal(size=(5, 7))
        levels = np.array([0.0, 0.25, 0.9, 1.0])
        inside = [np.mean(np.abs(z) <= norm.ppf((1 + c) / 2)) for c in levels]
        assert_allclose(coverage.coverage(norm.cdf(z), levels), inside)

    def test_four_forms_of_miscalibration(self):
        found = coverage.miscalibration([0.1, 0.4, 1.0], [0.0, 0.5, 0.9])
        assert_allclose(found, [0.3 / 3, 0.1 / 3, 0.1, 0.1])
        assert coverage.miscalibration(LEVELS) == (0, 0, 0, 0)
        assert_allclose(coverage.miscalibration(LEVELS - 0.2)[2:], [0.2, 0.0])

    def test_a_histogram_knows_the_coverage_and_pools(self, rng):
        one, other = rng.beta(0.7, 0.9, 300), rng.beta(0.7, 0.9, (11, 13))
        both = np.concatenate([one, other.ravel()])
        pooled = Pit.of(one) + Pit.of(other)
        assert pooled.count == 443
        fine = np.arange(101) / 100
        assert_allclose(pooled.coverage(fine), coverage.coverage(both, fine), atol=1e-12)
        assert_allclose(pooled.miscalibration, coverage.miscalibration(coverage.coverage(both)), atol=1e-12)
        assert_array_equal(pooled.histogram(20), np.histogram(both, 20, (0, 1))[0])
        assert Pit.of([0.0, 1.0]).counts[[0, -1]].tolist() == [1, 1]
        assert np.isnan(Pit.of([]).miscalibration).all()

    def test_doors(self):
        for levels in ([1.1], [-0.1]):
            with pytest.raises(ValueError, match=r"levels must be probabilities in \[0, 1\]"):
                coverage.coverage([0.5], levels)
            with pytest.raises(ValueError, match=r"levels must be multiples of 0\.01"):
                Pit.of([0.5]).coverage(levels)
        with pytest.raises(ValueError, match=r"levels must be multiples of 0.01"):
            Pit.of([0.5]).coverage([0.005])
        with pytest.raises(ValueError, match="places must be probabilities"):
            coverage.coverage([1.5])
        with pytest.raises(ValueError, match="places must be probabilities"):
            Pit.of([np.nan])
        with pytest.raises(ValueError, match="there are no places"):
            coverage.coverage([])
        with pytest.raises(ValueError, match="levels has level = 2"):
            coverage.miscalibration([0.1], [0.1, 0.2])
        with pytest.raises(ValueError, match="no levels"):
            coverage.miscalibration([], [])
        with pytest.raises(ValueError, match="bins is 3, but must divide 200"):
            Pit.of([0.5]).histogram(3)
        with pytest.raises(ValueError, match="wants 200 counts"):
            Pit(np.ones(20))


class TestReliability:
    def test_murphy_s_parts_sum_to_the_brier_score(self, rng):
        claims = rng.random((30, 20)) ** 2
        happened = rng.random((30, 20)) < np.sqrt(claims)
        found = Reliability.of(claims, happened)
        assert_allclose(found.brier, np.mean((claims - happened) ** 2), rtol=1e-12)
        parts = found.decomposition
        total = parts["reliability"] - parts["resolution"] + parts["uncertainty"] + parts["within"]
        assert_allclose(total, found.brier, rtol=1e-12)
        # The parts themselves, written out.
        which = np.digitize(claims, np.arange(1, 10) / 10)
        share = [(np.sum(which == k), claims[which == k].mean(), happened[which == k].mean()) for k in range(10)]
        assert_allclose(parts["reliability"], sum(n * (p - o) ** 2 for n, p, o in share) / 600, rtol=1e-12)
        assert_allclose(parts["resolution"], sum(n * (o - happened.mean()) ** 2 for n, _, o in share) / 600, rtol=1e-9)
        assert_allclose(found.table, [(p, o, n) for n, p, o in share], rtol=1e-12)

    def test_murphy_s_own_three_parts_for_as_many_claims_as_bins(self, rng):
        claims = rng.integers(0, 10, 500) / 10 + 0.05
        parts = Reliability.of(claims, rng.random(500) < claims).decomposition
        assert_allclose(parts["within"], 0, atol=1e-12)

    def test_pools(self, rng):
        claims, happened = rng.random(50), rng.random(50) < 0.3
        both = Reliability.of(claims[:17], happened[:17]) + Reliability.of(claims[17:], happened[17:])
        assert_allclose(both.brier, Reliability.of(claims, happened).brier, rtol=1e-12)
        assert both.count == 50

    def test_best_and_chance(self, rng):
        happened = rng.random(400) < 0.25
        peeking, chance = Reliability.of(happened * 1.0, happened), Reliability.of(np.full(400, 0.5), happened)
        assert peeking.brier == 0
        assert chance.brier == 0.25
        assert chance.decomposition["resolution"] == 0
        assert np.isnan(Reliability.of([], np.zeros(0, bool)).brier)

    def test_doors(self):
        with pytest.raises(ValueError, match=r"must be true or false for every probability \(2,\)"):
            Reliability.of([0.1, 0.2], [True])
        with pytest.raises(ValueError, match="must be true or false"):
            Reliability.of([0.1], [1])
        for wrong in (-0.1, 1.1, np.nan):
            with pytest.raises(ValueError, match="lies outside"):
                Reliability.of([wrong], [True])


class TestCompression:
    def test_mean_and_variance_stay(self, rng):
        weights, means, sds = mixture(rng, 60, (4, 5))
        few, middle, spread = compression.compressed(weights, means, sds, 6)
        assert len(few) == 6
        assert_allclose(few.sum(), 1)
        mean = np.tensordot(weights, means, 1)
        assert_allclose(np.tensordot(few, middle, 1), mean, atol=1e-12)
        power = np.tensordot(weights, means**2 + sds**2, 1)
        assert_allclose(np.tensordot(few, middle**2 + spread**2, 1), power, rtol=1e-10)

    def test_few_nodes_stay_as_they_are(self, rng):
        weights, means, sds = mixture(rng, 7)
        for mine, theirs in zip(compression.compressed(weights, means, sds, 7), (weights, means, sds), strict=True):
            assert_allclose(mine, theirs, rtol=1e-9)

    @pytest.mark.parametrize("model", ["hierarchical", "depth_weighted"])
    def test_of_a_posterior_it_costs_next_to_nothing(self, model):
        posterior = bi.infer(model, toy(sensors=12, sources=60, samples=3), draws=10)
        nodes = list(posterior.gaussians(slice(0, 60, 5), slice(0, 3)))
        weights, means, sds = (np.array(part) for part in zip(*nodes, strict=True))
        assert len(weights) > 40
        few = compression.compressed(weights, means, sds)
        middle = np.tensordot(weights, means, 1)
        spread = np.sqrt(np.tensordot(weights, (means - middle) ** 2 + sds**2, 1))
        x = np.linspace(-9, 9, 1801)
        risen = proper.pit(weights, means[:, None], sds[:, None], middle + x[:, None, None] * spread)
        for z in (-4, -1.6, 0, 0.7, 3):
            k = int(np.argmin(np.abs(x - z)))
            truth = middle + x[k] * spread
            assert_allclose(proper.pit(*few, truth), risen[k], atol=2e-3)
            exact = np.trapezoid(risen[: k + 1] ** 2, dx=0.01, axis=0) + np.trapezoid(
                (1 - risen[k:]) ** 2, dx=0.01, axis=0
            )
            assert_allclose(proper.crps(*few, truth), exact * spread, rtol=5e-3)

    def test_many_nodes_and_identical_nodes(self, rng):
        weights, means, sds = mixture(rng, 300, (2, 1))
        assert len(compression.compressed(weights, means, sds)[0]) == 16
        same = np.ones((300, 2, 1))
        assert len(compression.compressed(weights, same, same)[0]) == 1
        with pytest.raises(ValueError, match="count is 0"):
            compression.compressed(weights, means, sds, 0)


def by_hand(problem, weights=(0.3, 0.7), variance=(1.0, 2.0), noise=(1.0, 1.1)):
    """A posterior over two hyperparameters, so that no model is built."""
    weights, noise = np.array(weights), np.array(noise)
    variance = np.array(variance) / problem.signal_power
    nodes = {"noise": noise, "lambda": noise**2 / variance, "snr": np.sqrt(variance * problem.signal_power) / noise}
    which = np.zeros(len(weights), dtype=np.int64)
    return Posterior(
        problem,
        "by hand",
        "given",
        Mixture(weights, variance, noise, which, (None,)),
        Hyper(nodes, weights, nodes),
        None,
    )


def its_truth(problem, current, more=2):
    """The truth on the problem's own grid, with samples that the recording lacks."""
    current = np.asarray(current)
    step = problem.times[1] - problem.times[0]
    times = np.concatenate([problem.times[0] - step * np.arange(more, 0, -1), problem.times])
    full = np.concatenate([np.full((len(current), more), 7e-9), current], axis=1)
    return Truth(problem.sources, full, times)


def on_grid(truth, problem, skipped=2):
    """The truth at the recording's samples, on its grid."""
    late = replace(truth, current=truth.current[:, skipped:], times=truth.times[skipped:])
    return projection.project(late, problem.sources, problem.axes)


class TestScore:
    @pytest.fixture(params=[1, 3])
    def scored(self, request, rng):
        problem = toy(axes=request.param)
        posterior = by_hand(problem)
        current = np.zeros((11, 4))
        current[[2, 7, 8]] = rng.normal(size=(3, 4)) / GAIN
        return posterior, its_truth(problem, current)

    def test_is_the_brute_force_over_dense_posteriors(self, scored):
        posterior, truth = scored
        problem = posterior.problem
        found = score.score(posterior, truth, level=0.8)
        grid = on_grid(truth, problem)
        flat = grid.reshape(-1, 4)
        weights, means, covariances = dense_mixture(posterior)
        sds = np.sqrt(np.einsum("nff->nf", covariances))[:, :, None]
        places = proper.pit(weights, means, sds, flat)
        active = np.repeat(np.isin(np.arange(11), [2, 7, 8]), problem.axes)
        depth = np.repeat(-problem.source_norms, problem.axes)
        masks = {"all": active | True, "active": active, "inactive": ~active}
        masks["depth 1"] = depth <= np.quantile(-problem.source_norms, 0.25)
        masks["depth 4"] = depth > np.quantile(-problem.source_norms, 0.75)
        low, high = posterior.interval(0.8)
        fine = proper.interval_score(low.reshape(flat.shape), high.reshape(flat.shape), flat, 0.8)
        limit = np.sqrt(np.mean(flat**2))
        beyond = posterior.exceedance(limit).reshape(flat.shape)
        whole = proper.pit(weights, means.mean(axis=2), sds[:, :, 0] / 2, flat.mean(axis=1))
        for name, mask in masks.items():
            row = found.strata[name].row()
            assert row["count"] == mask.sum() * 4
            assert_allclose(row["coverage"], coverage.coverage(places[mask], [0.8])[0])
            assert_allclose(
                row["crps"], proper.crps(weights, means[:, mask], sds[:, mask], flat[mask]).mean(), rtol=1e-6
            )
            assert_allclose(
                row["log_score"], proper.log_score(weights, means[:, mask], sds[:, mask], flat[mask]).mean(), rtol=1e-6
            )
            assert_allclose(row["interval_score"], fine[mask].mean(), rtol=1e-6)
            assert_allclose(row["width"], (high - low).reshape(flat.shape)[mask].mean(), rtol=1e-6)
            assert_allclose(
                row["rmse"], np.sqrt(np.mean((flat - posterior.mean.reshape(flat.shape))[mask] ** 2)), rtol=1e-6
            )
            assert_allclose(row["mad"], coverage.miscalibration(coverage.coverage(places[mask])).mad)
            assert_allclose(row["aggregated_mad"], coverage.miscalibration(coverage.coverage(whole[mask])).mad)
            assert_allclose(row["brier"], np.mean((beyond - (np.abs(flat) > limit))[mask] ** 2), rtol=1e-6)
        size = np.linalg.norm(posterior.mean.reshape(11, -1, 4), axis=1)
        sample = int(np.argmax(np.sum(truth.current[:, 2:] ** 2, axis=0)))
        assert found.time == problem.times[sample]
        sides = (size[:, sample], problem.sources.positions, truth.current[:, 2 + sample], problem.sources.positions)
        for measure in (
            localisation.peak_error,
            localisation.centre_error,
            localisation.deviation,
            localisation.earth_movers_distance,
        ):
            assert_allclose(getattr(found, measure.__name__), measure(*sides), rtol=1e-9)
        assert_allclose(
            found.area_under_curve, localisation.area_under_curve(size[:, sample], np.isin(np.arange(11), [2, 7, 8]))
        )
        peak = posterior.peak(found.time)
        assert found.peak.inside == (
            np.linalg.norm(grid.reshape(11, -1, 4), axis=1)[:, sample].argmax() in peak.region(0.8)
        )
        assert found.peak.size == len(peak.region(0.8))

    def test_sources_that_come_and_go(self, rng):
        problem = toy()
        current = np.zeros((11, 4))
        current[3], current[6], current[9] = [0, 2e-9, 5e-9, 0], [0, 9e-9, 1e-9, 0], [0, 0, 0, 1e-9]
        posterior = by_hand(problem)
        found, mean = score.score(posterior, its_truth(problem, current)), posterior.mean
        assert found.time == problem.times[1]
        assert found.strata["active"].count == 3 * 4
        assert_allclose(found.area_under_curve, roc_auc_score(current[:, 1] != 0, np.abs(mean[:, 1])))
        assert_allclose(found.average_precision, average_precision_score(current[:, 1] != 0, np.abs(mean[:, 1])))
        assert_allclose(found.map_correlation, np.corrcoef(mean[:, 1], current[:, 1])[0, 1], rtol=1e-9)
        courses = [np.corrcoef(mean[k], current[k])[0, 1] for k in (3, 6, 9)]
        assert_allclose(found.course_correlation, np.average(courses, weights=[29, 82, 1]), rtol=1e-9)

    def test_blocks_change_nothing(self, scored, monkeypatch):
        whole = score.score(*scored).row()
        monkeypatch.setattr(score, "BLOCK", 12)
        parts = score.score(*scored).row()
        assert_allclose([parts[k] for k in whole if k != "name"], [whole[k] for k in whole if k != "name"], rtol=1e-9)

    def test_regions_and_contrasts_are_functionals(self, scored):
        posterior, truth = scored
        axes = posterior.problem.axes
        weights = np.linspace(-1, 2, 11 * axes).reshape((11,) if axes == 1 else (11, 3))
        regions = {"a": [1, 2, 3], "b": np.arange(11) > 6}
        found = score.score(posterior, truth, window=(0.11, 0.13), regions=regions, contrasts=weights)
        now = replace(truth, current=truth.current[:, 3:], times=truth.times[3:])
        grid = projection.project(now, posterior.problem.sources, axes)
        for functional, true, tally in (
            (
                posterior.region(regions),
                np.concatenate([grid[[1, 2, 3]].mean(axis=0).reshape(-1, 3), grid[7:].mean(axis=0).reshape(-1, 3)]),
                found.regions,
            ),
            (posterior.contrast(weights), np.tensordot(weights, grid, axes=weights.ndim)[None], found.contrasts),
        ):
            sds = np.broadcast_to(functional.node_sds, functional.means.shape)[:, :, 1:]
            means = functional.means[:, :, 1:]
            low, high = functional.interval(0.9)
            inside = (low[:, 1:] <= true) & (true <= high[:, 1:])
            assert tally.count == true.size
            assert tally.inside == inside.sum()
            assert_allclose(tally.crps, proper.crps(functional.weights, means, sds, true).sum(), rtol=1e-6)
            assert_allclose(tally.log_score, proper.log_score(functional.weights, means, sds, true).sum(), rtol=1e-6)

    def test_an_exact_posterior_is_calibrated_and_a_broken_one_is_not(self, rng):
        good, bad, regions = [], [], {"a": [0, 1, 2], "b": [4, 9]}
        for seed in range(60):
            problem = toy(seed)
            model = by_hand(problem, [1.0], [3.0], [1.0])
            current = np.sqrt(3 / problem.signal_power) * rng.normal(size=(11, 4))
            recording = problem.gain @ current + rng.normal(size=(6, 4))
            right = replace(model, problem=replace(problem, recording=recording))
            wrong = replace(right, mixture=replace(right.mixture, noise=np.array([0.2])))
            truth = its_truth(problem, current)
            good.append(score.score(right, truth, regions=regions))
            bad.append(score.score(wrong, truth, regions=regions))
        one, other = scores.pool(good), scores.pool(bad)
        assert one["all"].count == 60 * 44
        assert one["regions"].count == 60 * 8
        for name in ("all", "depth 1", "depth 4", "regions"):
            assert one[name].pit.miscalibration.mad < 0.03
            assert abs(one[name].row()["coverage"] - 0.9) < 0.05
            assert one[name].row()["log_score"] < other[name].row()["log_score"]
            assert one[name].row()["crps"] < other[name].row()["crps"]
            assert one[name].row()["interval_score"] < other[name].row()["interval_score"]
        assert one["all"].aggregated.miscalibration.mad < 0.04
        assert one["all"].exceedance.decomposition["reliability"] < 0.002
        assert other["all"].pit.miscalibration.under > 0.1
        inside = np.mean([run.peak.inside for run in good])
        assert abs(inside - 0.9) < 4 * np.sqrt(0.09 / 60)

    def test_who_peeks_is_first_and_a_constant_last(self, scored):
        posterior, truth = scored
        problem = posterior.problem
        grid = on_grid(truth, problem)
        estimate = bi.baseline(problem, "MNE", pick="pooled")
        rows = {
            name: score.score(replace(estimate, current=current, lam=None), truth)
            for name, current in (("peek", grid), ("honest", estimate.current), ("flat", np.ones((11, 4))))
        }
        for name in ("peak_error", "centre_error", "earth_movers_distance", "deviation"):
            assert getattr(rows["peek"], name) <= min(getattr(rows[key], name) for key in ("honest", "flat"))
        assert rows["peek"].peak_error == 0
        assert_allclose(rows["peek"].earth_movers_distance, 0, atol=1e-9)
        assert rows["peek"].area_under_curve == rows["peek"].average_precision == 1
        assert rows["flat"].area_under_curve == 0.5
        assert_allclose([rows["peek"].map_correlation, rows["peek"].course_correlation], 1)
        assert rows["flat"].map_correlation == rows["flat"].course_correlation == 0

    def test_a_silent_map_has_no_place(self, scored):
        posterior, truth = scored
        estimate = replace(bi.baseline(posterior.problem, "MNE"), current=np.zeros((11, 4)), lam=None)
        found = score.score(estimate, truth)
        assert np.isnan([found.peak_error, found.earth_movers_distance]).all()
        assert found.area_under_curve == 0.5

    def test_truth_on_a_finer_grid(self, rng):
        problem = toy(sources=11)
        index = np.repeat(np.arange(11), 3)
        places = problem.sources.positions[index] + 1e-5 * rng.normal(size=(33, 3))
        current = np.zeros((33, 4))
        current[3:6] = [[1e-9], [3e-9], [2e-9]]
        fine = Truth(Sources(places, problem.sources.normals[index]), current, problem.times)
        coarse = np.zeros((11, 4))
        coarse[1] = 6e-9
        posterior = by_hand(problem)
        one, other = score.score(posterior, fine), score.score(posterior, its_truth(problem, coarse))
        for name in ("all", "active", "inactive"):
            assert_allclose(list(one.strata[name].row().values()), list(other.strata[name].row().values()), rtol=1e-9)
        assert_allclose(one.peak_error, other.peak_error, atol=2e-4)
        assert_allclose(one.earth_movers_distance, other.earth_movers_distance, atol=2e-4)

    def test_depth_is_the_distance_from_the_sensors_where_they_are_known(self, scored):
        posterior, truth = scored
        places = np.array([[0, 0, 0.1], [0.1, 0, 0], [0, 0.1, 0], [0, -0.1, 0], [-0.1, 0, 0], [0, 0.05, 0.1]])
        sensors = bi.Sensors(tuple("abcdef"), ("eeg",) * 6, places)
        problem = replace(posterior.problem, sensors=sensors)
        found = score.score(replace(posterior, problem=problem), truth)
        depth = cdist(problem.sources.positions, places).min(axis=1)
        counts = [found.strata[f"depth {k}"].count for k in (1, 2, 3, 4)]
        assert sum(counts) == found.strata["all"].count
        assert counts[0] == 4 * problem.axes * np.sum(depth <= np.quantile(depth, 0.25))

    def test_active_may_mean_more_than_not_zero(self, scored):
        posterior, truth = scored
        few = score.score(posterior, truth, active=0.9)
        assert few.strata["active"].count < score.score(posterior, truth).strata["active"].count

    def test_row_and_curves_are_plain(self, scored):
        posterior, truth = scored
        found = score.score(posterior, truth, regions={"a": [0, 1]})
        row = found.row()
        assert all(isinstance(value, float | int | str) and not isinstance(value, np.generic) for value in row.values())
        assert row["active: coverage"] == found.strata["active"].inside / found.strata["active"].count
        assert {"peak_error", "peak_region_inside", "regions: crps", "depth 4: aggregated_mad"} <= set(row)
        curves = found.curves()
        assert len(curves) == 8 * 2 * 11
        here = [c["coverage"] for c in curves if c["stratum"] == "active" and c["kind"] == "pointwise"]
        assert_allclose(here, found.strata["active"].pit.coverage())

    def test_a_window_scores_its_samples(self, scored):
        posterior, truth = scored
        axes = posterior.problem.axes
        assert score.score(posterior, truth, window=(0.105, 0.125)).strata["all"].count == 2 * 11 * axes
        assert score.score(posterior, truth, window=slice(1, 4, 2)).strata["all"].count == 2 * 11 * axes
        one = score.score(posterior, truth, window=0.12)
        assert one.strata["all"].count == 11 * axes
        assert one.time == posterior.problem.times[2]
        assert np.isnan(one.course_correlation)

    def test_pooling_wants_one_level(self, scored):
        one, other = (score.score(*scored, level=level) for level in (0.8, 0.9))
        with pytest.raises(ValueError, match=r"intervals of 0.8 and 0.9 cannot be pooled"):
            scores.pool([one, other])
        assert scores.pool([one, one])["active"].count == 2 * one.strata["active"].count
        assert isinstance(one.strata["all"], Tally)

    def test_doors(self, scored):
        posterior, truth = scored
        with pytest.raises(ValueError, match=r"level is 1\.5"):
            score.score(posterior, truth, level=1.5)
        with pytest.raises(ValueError, match="no sample between"):
            score.score(posterior, truth, window=(5.0, 6.0))
        with pytest.raises(ValueError, match="no sample near"):
            score.score(posterior, truth, window=99.0)
        with pytest.raises(ValueError, match="holds none of the 4 samples"):
            score.score(posterior, truth, window=slice(9, 12))
        with pytest.raises(ValueError, match="zero throughout the window"):
            score.score(posterior, replace(truth, current=0 * truth.current))
        with pytest.raises(ValueError, match=r"truth has no sample at 0\.1 s"):
            score.score(posterior, replace(truth, times=truth.times + 10))
        with pytest.raises(ValueError, match="positions are not known"):
            score.score(replace(posterior, problem=replace(posterior.problem, sources=None)), truth)
        with pytest.raises(ValueError, match="a ndarray was given"):
            score.score(posterior.mean, truth)
        with pytest.raises(ValueError, match="active is 1"):
            score.score(posterior, truth, active=1.0)
        with pytest.raises(ValueError, match="threshold is -1"):
            score.score(posterior, truth, threshold=-1.0)
        with pytest.raises(ValueError, match="region 'a' names source 11"):
            score.score(posterior, truth, regions={"a": [11]})


class TestClassical:
    @pytest.mark.parametrize("axes", [1, 3])
    @pytest.mark.parametrize("method", ["MNE", "depth", "eLORETA"])
    def test_naive_posterior_has_the_estimate_for_its_mean(self, axes, method):
        problem = toy(axes=axes)
        estimate = bi.baseline(
            problem, "MNE" if method == "depth" else method, depth=0.6 if method == "depth" else None,
            pick="vector" if axes == 3 else "pooled",
        )  # fmt: skip
        posterior = score.naive(estimate)
        if method == "eLORETA" and axes == 3:
            assert posterior is None
            return
        assert_allclose(posterior.mean, estimate.current, rtol=1e-7, atol=1e-9 / GAIN)
        # The covariance written out: noise 1, prior D / λ.
        prior = np.diag(estimate.operator.turn) / estimate.lam
        gain = problem.gain
        dense = prior - prior @ gain.T @ np.linalg.solve(gain @ prior @ gain.T + np.eye(6), gain @ prior)
        assert_allclose(posterior.sd.reshape(-1, 4)[:, 0], np.sqrt(np.diag(dense)), rtol=1e-6)

    def test_maps_without_a_unit_or_lam_make_no_claim(self):
        problem = toy()
        truth = its_truth(problem, np.eye(11)[:, :4] * 1e-9)
        for method in ("dSPM", "sLORETA", "LCMV"):
            estimate = bi.baseline(problem, method, **({"covariance": "recording"} if method == "LCMV" else {}))
            found = score.score(estimate, truth)
            assert score.naive(estimate) is found.strata is found.peak is None
            assert found.peak_error >= 0
            assert set(found.row()) == {
                "name", "level", "time", "peak_error", "centre_error", "deviation", "earth_movers_distance",
                "area_under_curve", "average_precision", "map_correlation", "course_correlation",
            }  # fmt: skip

    def test_pooled_and_vector_maps_are_scored_alike(self):
        problem = toy(axes=3)
        truth = its_truth(problem, np.eye(11)[:, :4] * 1e-9)
        pooled, vector = (score.score(bi.baseline(problem, "MNE", pick=pick), truth) for pick in ("pooled", "vector"))
        assert_allclose(pooled.peak_error, vector.peak_error)
        assert_allclose(pooled.strata["all"].crps, vector.strata["all"].crps)
        size, true = np.linalg.norm(bi.baseline(problem, "MNE", pick="vector").current, axis=1), np.eye(11)[0]
        assert pooled.map_correlation == vector.map_correlation
        assert_allclose(vector.map_correlation, np.corrcoef(size[:, 0], true)[0, 1], rtol=1e-9)

    def test_surface_axes_see_the_same_truth(self, rng):
        problem = toy(axes=3)
        truth = its_truth(problem, np.eye(11)[:, :4] * 1e-8)
        turned = bi.surface_axes(problem)
        one, other = (score.score(by_hand(p), truth) for p in (problem, turned))
        assert_allclose(one.map_correlation, other.map_correlation, rtol=1e-9)
        assert_allclose(one.strata["all"].squares, other.strata["all"].squares, rtol=1e-9)


def test_depth_is_that_of_resolution():
    problem = toy()
    sensors = bi.Sensors(tuple("abcdef"), ("eeg",) * 6, np.eye(6)[:, :3] * 0.1)
    here = replace(problem, sensors=sensors)
    assert_allclose(
        Resolution(here, "", here.gain.T, here.gain, 1, 1).depth,
        cdist(here.sources.positions, sensors.positions).min(axis=1),
    )
