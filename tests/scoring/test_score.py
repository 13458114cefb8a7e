"""All scores of a result whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from referee import GAIN, dense_mixture, toy
from scipy.spatial.distance import cdist
from scored import by_hand, its_truth, on_grid
from sklearn.metrics import average_precision_score, roc_auc_score

import bayesinv as bi
from bayesinv.classical.resolution import Resolution
from bayesinv.covariance.covariance import Structure
from bayesinv.head.sources import Sources
from bayesinv.scoring import coverage, localisation, projection, proper, score, scores
from bayesinv.scoring.tally import Tally
from bayesinv.simulation.truth import Truth


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
        pit = proper.pit(weights, means, sds, flat)
        active = np.repeat(np.isin(np.arange(11), [2, 7, 8]), problem.axes)
        depth = np.repeat(-problem.source_norms, problem.axes)
        masks = {"all": active | True, "active": active, "inactive": ~active}
        masks["depth 1"] = depth <= np.quantile(-problem.source_norms, 0.25)
        masks["depth 4"] = depth > np.quantile(-problem.source_norms, 0.75)
        low, high = posterior.interval(0.8)
        interval_score = proper.interval_score(low.reshape(flat.shape), high.reshape(flat.shape), flat, 0.8)
        limit = np.sqrt(np.mean(flat**2))
        exceedance = posterior.exceedance(limit).reshape(flat.shape)
        aggregated_pit = proper.pit(weights, means.mean(axis=2), sds[:, :, 0] / 2, flat.mean(axis=1))
        for name, mask in masks.items():
            row = found.strata[name].row()
            assert row["count"] == mask.sum() * 4
            assert_allclose(row["coverage"], coverage.coverage(pit[mask], [0.8])[0])
            assert_allclose(
                row["crps"], proper.crps(weights, means[:, mask], sds[:, mask], flat[mask]).mean(), rtol=1e-6
            )
            assert_allclose(
                row["log_score"], proper.log_score(weights, means[:, mask], sds[:, mask], flat[mask]).mean(), rtol=1e-6
            )
            assert_allclose(row["interval_score"], interval_score[mask].mean(), rtol=1e-6)
            assert_allclose(row["width"], (high - low).reshape(flat.shape)[mask].mean(), rtol=1e-6)
            assert_allclose(
                row["rmse"], np.sqrt(np.mean((flat - posterior.mean.reshape(flat.shape))[mask] ** 2)), rtol=1e-6
            )
            assert_allclose(row["mad"], coverage.miscalibration(coverage.coverage(pit[mask])).mad)
            assert_allclose(row["aggregated_mad"], coverage.miscalibration(coverage.coverage(aggregated_pit[mask])).mad)
            assert_allclose(row["brier"], np.mean((exceedance - (np.abs(flat) > limit))[mask] ** 2), rtol=1e-6)
        size = np.linalg.norm(posterior.mean.reshape(11, -1, 4), axis=1)
        sample = int(np.argmax(np.sum(truth.current[:, 2:] ** 2, axis=0)))
        assert found.time == problem.times[sample]
        map_and_truth = (
            size[:, sample],
            problem.sources.positions,
            truth.current[:, 2 + sample],
            problem.sources.positions,
        )
        for measure in (
            localisation.peak_error,
            localisation.centre_error,
            localisation.deviation,
            localisation.earth_movers_distance,
        ):
            assert_allclose(getattr(found, measure.__name__), measure(*map_and_truth), rtol=1e-9)
        assert_allclose(
            found.area_under_curve, localisation.area_under_curve(size[:, sample], np.isin(np.arange(11), [2, 7, 8]))
        )
        peak = posterior.peak(found.time)
        assert found.peak.inside == (
            np.linalg.norm(grid.reshape(11, -1, 4), axis=1)[:, sample].argmax() in peak.region(0.8)
        )
        assert found.peak.size == len(peak.region(0.8))

    def test_sources_that_are_active_at_some_samples(self, rng):
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
        at_once = score.score(*scored).row()
        monkeypatch.setattr(score, "BLOCK_ELEMENTS", 12)
        in_blocks = score.score(*scored).row()
        numbers = [k for k in at_once if k != "name"]
        assert_allclose([in_blocks[k] for k in numbers], [at_once[k] for k in numbers], rtol=1e-9)

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

    @pytest.mark.slow
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

    def test_the_truth_itself_is_first_and_a_constant_last(self, scored):
        posterior, truth = scored
        problem = posterior.problem
        grid = on_grid(truth, problem)
        estimate = bi.baseline(problem, "MNE", pick="pooled")
        rows = {
            name: score.score(replace(estimate, current=current, lam=None), truth)
            for name, current in (("oracle", grid), ("honest", estimate.current), ("flat", np.ones((11, 4))))
        }
        for name in ("peak_error", "centre_error", "earth_movers_distance", "deviation"):
            assert getattr(rows["oracle"], name) <= min(getattr(rows[key], name) for key in ("honest", "flat"))
        assert rows["oracle"].peak_error == 0
        assert_allclose(rows["oracle"].earth_movers_distance, 0, atol=1e-9)
        assert rows["oracle"].area_under_curve == rows["oracle"].average_precision == 1
        assert rows["flat"].area_under_curve == 0.5
        assert_allclose([rows["oracle"].map_correlation, rows["oracle"].course_correlation], 1)
        assert rows["flat"].map_correlation == rows["flat"].course_correlation == 0

    def test_a_zero_map_has_no_peak_error(self, scored):
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
        assert len(curves) == 9 * 2 * 11
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

    def test_being_sure_and_right_is_calibrated_and_being_sure_and_wrong_is_not(self):
        """Of 400 sources three have any prior variance, and what the others are is known: nothing."""
        problem = toy(sources=400, samples=6)
        weights = np.zeros(400)
        weights[[3, 50, 200]] = 1
        posterior = by_hand(problem)
        mixture = replace(posterior.mixture, structures=(Structure(weights=weights),))
        posterior = replace(posterior, mixture=mixture)
        current = np.zeros((400, 6))
        current[3] = 1e-9 * np.arange(1, 7)
        found = score.score(posterior, its_truth(problem, current)).strata["inactive"]
        assert found.pit.miscalibration.mad < 0.02
        assert found.row()["coverage"] == pytest.approx(0.9, abs=0.03)
        # Whoever is sure of nothing where something is has it outside of every interval.
        current[10:40] = 1e-9
        assert score.score(posterior, its_truth(problem, current)).strata["active"].row()["coverage"] < 0.1

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
            score.score(
                posterior, replace(truth, current=np.where(truth.times < posterior.times[0], 1.0, 0.0 * truth.current))
            )
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
        prior = np.diag(estimate.operator.weights) / estimate.lam
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

    def test_surface_axes_have_the_same_truth(self, rng):
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
