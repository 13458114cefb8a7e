"""Champagne: the evidence it climbs, where it stops, what it finds, and the interval it claims."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from coloured import coloured, noise_covariance
from numpy.testing import assert_allclose
from referee import GAIN, toy
from scipy.linalg import helmert
from scipy.optimize import minimize
from scipy.stats import multivariate_normal, norm, ortho_group

from bayesinv import Head, Problem, Sensors, Sources, baseline
from bayesinv.classical import champagne
from bayesinv.classical.champagne import Learned, learn
from bayesinv.criticism.estimates import compare_estimates
from bayesinv.forward.sphere import lead_field
from bayesinv.scoring.score import naive, score
from bayesinv.simulation.truth import Truth


def covariance(problem, variances, noise):
    """Covariance (component, component) of the recording, by its definition."""
    spread = np.diag(np.repeat(variances, problem.axes))
    return problem.gain @ spread @ problem.gain.T + noise**2 * np.eye(problem.components)


def density(problem, variances, noise):
    """-2 log density of a white recording and its baseline, by SciPy."""
    sensors = problem.components
    out = (
        multivariate_normal(np.zeros(sensors), covariance(problem, variances, noise)).logpdf(problem.recording.T).sum()
    )
    quiet = problem.baseline
    if quiet is not None:
        # Combinations of the samples that are orthogonal to a mean that was subtracted.
        quiet = quiet @ helmert(quiet.shape[1]).T if problem.baseline_centred else quiet
        out += norm(0, noise).logpdf(quiet).sum()
    return -2 * out


def slopes(problem, variances, noise):
    """Derivatives of `density` by each variance (source,) and by the noise's variance, by matrix calculus."""
    inverse, samples = np.linalg.inv(covariance(problem, variances, noise)), problem.recording.shape[1]
    by_covariance = samples * inverse - inverse @ problem.recording @ problem.recording.T @ inverse
    each = np.einsum("ca,cd,da->a", problem.gain, by_covariance, problem.gain).reshape(-1, problem.axes).sum(axis=1)
    by_noise = np.trace(by_covariance)
    if problem.baseline is not None:
        count = problem.components * problem.baseline_freedom
        by_noise += count / noise**2 - np.sum(problem.baseline**2) / noise**4
    return each, by_noise


def points_on_sphere(count):
    """Directions (point, 3) that are spread evenly."""
    height = 1 - (2 * np.arange(count) + 1) / count
    angle = np.pi * (3 - np.sqrt(5)) * np.arange(count)
    across = np.sqrt(1 - height**2)
    return np.stack([across * np.cos(angle), across * np.sin(angle), height], axis=1)


@pytest.fixture
def exact(monkeypatch):
    """Stop only where the cost no longer falls by anything to speak of."""
    monkeypatch.setattr(champagne, "TOLERANCE", 1e-11)
    monkeypatch.setattr(champagne, "ITERATIONS", 100_000)


def focal(seed=1, axes=1, sensors=8, sources=14, samples=25, quiet=30):
    """A recording of three sources among several, and its baseline."""
    problem = toy(seed, sensors=sensors, sources=sources, samples=samples, axes=axes, quiet=quiet)
    rng = np.random.default_rng(seed)
    current = np.zeros((sources, axes, samples))
    current[[2, 7, 11]] = rng.normal(size=(3, axes, samples)) * np.array([9, 4, 6])[:, None, None] / GAIN
    field = problem.gain @ current.reshape(-1, samples) + rng.normal(size=(sensors, samples))
    return replace(problem, recording=field)


class TestEvidence:
    @pytest.mark.parametrize("axes", [1, 3])
    @pytest.mark.parametrize(("quiet", "centred"), [(0, False), (9, False), (9, True)])
    def test_cost_is_minus_twice_the_log_density(self, axes, quiet, centred):
        problem = toy(axes=axes, quiet=quiet, centred=centred, samples=15)
        found = learn(problem)
        assert_allclose(found.costs[-1], density(problem, found.variances, found.noise), rtol=1e-10)

    @pytest.mark.parametrize("centred", [False, True])
    def test_cost_in_coloured_noise_is_that_of_all_samples_at_once(self, centred):
        problem = coloured(samples=7, quiet=6, centred=centred)
        found = learn(problem)
        whole = np.kron(covariance(problem, found.variances, found.noise), noise_covariance(problem)[:7, :7])
        wanted = multivariate_normal(np.zeros(35), whole).logpdf(problem.recording.ravel())
        quiet, correlation = problem.baseline, noise_covariance(problem, 0)[:6, :6]
        if centred:
            quiet, correlation = quiet @ helmert(6).T, helmert(6) @ correlation @ helmert(6).T
        wanted += multivariate_normal(np.zeros(len(correlation)), found.noise**2 * correlation).logpdf(quiet).sum()
        # The correlations have 1e-10 added to their diagonals, which changes each of 60 terms by less than 1e-8.
        assert_allclose(found.costs[-1], -2 * wanted, atol=1e-6)

    @pytest.mark.parametrize("axes", [1, 3])
    @pytest.mark.parametrize("quiet", [0, 30])
    def test_cost_never_rises(self, axes, quiet):
        for seed in range(5):
            costs = learn(toy(seed, axes=axes, quiet=quiet, samples=13)).costs
            assert (np.diff(costs) <= 1e-12 * np.abs(costs[1:])).all()
            assert costs[-1] < costs[0]

    @pytest.mark.parametrize("axes", [1, 3])
    def test_no_variance_is_there_in_vain(self, axes):
        for seed in range(4):
            problem = focal(seed, axes=axes)
            found = learn(problem)
            for source in np.flatnonzero(found.variances):
                without = np.where(np.arange(14) == source, 0, found.variances)
                assert density(problem, without, found.noise) > found.costs[-1]


@pytest.mark.usefixtures("exact")
class TestMaximum:
    """Bound on slopes: 2 sqrt(1e-11 · 25 · 3) is 6e-5; so is the rise of the cost that a step's end may hide."""

    @pytest.mark.parametrize("axes", [1, 3])
    @pytest.mark.parametrize("quiet", [0, 30])
    def test_it_is_stationary(self, axes, quiet):
        problem = focal(axes=axes, quiet=quiet)
        found = learn(problem)
        each, by_noise = slopes(problem, found.variances, found.noise)
        positive = found.variances > 0
        assert 3 <= positive.sum() < 14
        assert_allclose((found.variances * each)[positive], 0, atol=6e-5)
        assert_allclose(found.noise**2 * by_noise, 0, atol=6e-5 * np.sqrt(8 * 55 / 75))
        # A source without variance would make the recording less probable with one.
        unit = np.einsum(
            "ca,cd,da->a", problem.gain, np.linalg.inv(covariance(problem, *found_of(found))), problem.gain
        )
        assert (each >= -6e-5 * unit.reshape(-1, axes).sum(axis=1))[~positive].all()

    @pytest.mark.parametrize("axes", [1, 3])
    def test_slopes_are_differences_of_the_density(self, axes):
        problem = focal(axes=axes)
        found = learn(problem)
        step = 1e-4
        for source in np.flatnonzero(found.variances):
            up, down = (found.variances * np.where(np.arange(14) == source, np.exp(s), 1) for s in (step, -step))
            change = density(problem, up, found.noise) - density(problem, down, found.noise)
            assert abs(change / (2 * step)) < 1e-4
        louder, softer = (density(problem, found.variances, found.noise * np.exp(s / 2)) for s in (step, -step))
        assert abs(louder - softer) / (2 * step) < 2e-4

    def test_no_source_is_lost_too_early(self, monkeypatch):
        monkeypatch.setattr(champagne, "NEGLIGIBLE", 1e4)
        lost = []
        keep = champagne._with_missing

        def watched(evidence, state):
            after = keep(evidence, state)
            lost.append(after is not state)
            return after

        monkeypatch.setattr(champagne, "_with_missing", watched)
        for seed in range(5):
            problem = focal(seed)
            found = learn(problem)
            each, _ = slopes(problem, found.variances, found.noise)
            inverse = np.linalg.inv(covariance(problem, *found_of(found)))
            unit = np.einsum("ca,cd,da->a", problem.gain, inverse, problem.gain)
            assert (each >= -6e-5 * unit)[found.variances == 0].all()
        assert any(lost)

    @pytest.mark.parametrize("axes", [1, 3])
    @pytest.mark.parametrize("seed", range(2))
    def test_nothing_that_an_optimiser_finds_is_more_probable(self, axes, seed):
        problem = focal(seed, axes=axes, sensors=9, sources=12, samples=20)
        gain = problem.gain.reshape(9, 12, axes)[:, [2, 4, 5, 7, 9, 11]].reshape(9, -1)
        six = Problem(gain, problem.recording, problem.times, problem.baseline, axes=axes)
        found = learn(six)
        rng = np.random.default_rng(seed)

        def objective(logs):
            variances, noise = np.exp(logs[:6]) / GAIN**2, np.exp(logs[6] / 2)
            each, by_noise = slopes(six, variances, noise)
            return density(six, variances, noise), np.append(variances * each, noise**2 * by_noise)

        starts = [np.append(2 * rng.normal(size=6), rng.normal()) for _ in range(3)]
        bounds = [(-25, 8)] * 6 + [(-5, 5)]
        best = min(minimize(objective, x, jac=True, method="L-BFGS-B", bounds=bounds).fun for x in starts)
        assert_allclose(found.costs[-1], best, atol=1e-4)

    @pytest.mark.parametrize("seed", range(4))
    def test_mne_python_finds_the_same_currents_at_the_same_noise(self, seed):
        from mne.inverse_sparse._gamma_map import _gamma_map_opt as gamma_map

        problem = focal(seed)
        found, estimate = learn(problem), baseline(problem, "champagne")
        # Its variances are 1 at the start, of a gain and a recording that it scales; MacKay's steps.
        with np.errstate(all="ignore"):
            current, active = gamma_map(
                problem.recording, problem.gain, found.noise**2, tol=1e-12, maxit=20_000, verbose="error"
            )
        theirs = np.zeros_like(estimate.current)
        theirs[active] = current
        assert_allclose(theirs, estimate.current, atol=1e-4 * np.abs(theirs).max())


def found_of(found: Learned):
    return found.variances, found.noise


@pytest.mark.usefixtures("exact")
class TestClosedForms:
    def test_orthogonal_fields(self, rng):
        basis = ortho_group(5, seed=4).rvs()
        norms = np.array([3.0, 0.7, 1.5]) * GAIN
        sides = np.array([4.0, 0.3, 2.0, 1.0, 1.1])[:, None] * rng.normal(size=(5, 60))
        quiet = rng.normal(size=(5, 17))
        found = learn(Problem(basis[:, :3] * norms, basis @ sides, np.arange(60) * 0.1, quiet))
        # Each field has its power to itself; the second has less than the noise.
        power = np.sum(sides**2, axis=1)
        noise = (power[[1, 3, 4]].sum() + np.sum(quiet**2)) / (3 * 60 + 5 * 17)
        assert_allclose(found.noise**2, noise, rtol=1e-7)
        assert_allclose(found.variances, np.maximum(0, power[:3] / 60 - noise) / norms**2, rtol=1e-6)
        assert found.variances[1] == 0

    def test_nothing_but_noise(self, rng):
        basis = ortho_group(5, seed=4).rvs()
        sides = np.array([0.4, 0.3, 0.5, 1.0, 1.1])[:, None] * rng.normal(size=(5, 60))
        problem = Problem(basis[:, :3] * GAIN, basis @ sides, np.arange(60) * 0.1, sources=Sources(np.eye(3) / 20))
        estimate = baseline(problem, "champagne")
        assert not estimate.prior_variance.any()
        assert not estimate.current.any()
        assert not estimate.sd.any()
        assert estimate.snr == estimate.degrees_of_freedom == estimate.goodness_of_fit == 0
        assert_allclose(estimate.noise**2, np.mean(sides**2), rtol=1e-9)
        assert not naive(estimate).sd.any()
        assert compare_estimates({"champagne": estimate})["champagne"].snr == 0
        with pytest.raises(ValueError, match="champagne gives no source a variance"):
            estimate.curve  # noqa: B018

    @pytest.mark.parametrize("axes", [1, 3])
    def test_one_source_alone(self, rng, axes):
        # With a share of the noise for itself an axis has power variance · ‖g‖² + noise², all axes together.
        basis = ortho_group(7, seed=2).rvs()
        sides = np.where(np.arange(7) < axes, 5.0, 1.0)[:, None] * rng.normal(size=(7, 40))
        found = learn(Problem(basis[:, :axes] * GAIN, basis @ sides, np.arange(40) * 0.1, axes=axes))
        power = np.mean(sides**2, axis=1)
        assert_allclose(found.noise**2, power[axes:].mean(), rtol=1e-7)
        assert_allclose(found.variances * GAIN**2, power[:axes].mean() - power[axes:].mean(), rtol=1e-6)


@pytest.mark.usefixtures("exact")
class TestSameness:
    """Recordings that are the same in other words have the same answer, as exactly as the steps stop."""

    def test_the_axes_of_a_source_may_be_turned(self):
        problem = focal(axes=3)
        turns = np.stack([ortho_group(3, seed=s).rvs() for s in range(14)])
        turned = np.einsum("csa,sab->csb", problem.gain.reshape(8, 14, 3), turns).reshape(8, -1)
        one, other = (learn(p) for p in (problem, replace(problem, gain=turned)))
        assert_allclose(other.variances, one.variances, rtol=1e-4)
        current = baseline(problem, "champagne", pick="vector").current
        again = baseline(replace(problem, gain=turned), "champagne", pick="vector").current
        assert_allclose(np.einsum("sab,sbt->sat", turns, again), current, atol=1e-5 * np.abs(current).max())

    def test_components_and_samples_may_be_turned(self):
        problem = focal()
        turn, mix = ortho_group(8, seed=1).rvs(), ortho_group(25, seed=2).rvs()
        other = replace(
            problem,
            gain=turn @ problem.gain,
            recording=turn @ problem.recording @ mix,
            baseline=turn @ problem.baseline,
        )
        one, two = learn(problem), learn(other)
        assert_allclose(two.variances, one.variances, rtol=1e-4)
        assert_allclose(two.noise, one.noise, rtol=1e-6)

    @pytest.mark.parametrize("quiet", [0, 30])
    def test_units(self, quiet):
        problem = focal(quiet=quiet)
        one = learn(problem)
        quiet = None if problem.baseline is None else 7 * problem.baseline
        louder = learn(replace(problem, gain=7 * problem.gain, recording=7 * problem.recording, baseline=quiet))
        assert_allclose(louder.variances, one.variances, rtol=1e-4)
        assert_allclose(louder.noise, 7 * one.noise, rtol=1e-6)
        nano = learn(replace(problem, gain=1e-9 * problem.gain))
        assert_allclose(nano.variances, 1e18 * one.variances, rtol=1e-4)
        assert_allclose(nano.noise, one.noise, rtol=1e-6)


class TestFocal:
    def test_two_dipoles_far_apart_are_found(self):
        """Forty electrodes, noise of a hundredth of the field's power, and a grid of 135 places."""
        rng = np.random.default_rng(5)
        head = Head.spheres((0.09,), (0.33,))
        places = 0.09 * points_on_sphere(80)
        sensors = Sensors(tuple(f"E{k}" for k in range(40)), ("eeg",) * 40, places[places[:, 2] > 0])
        grid = points_on_sphere(300)
        grid = 0.07 * grid[grid[:, 2] > 0.1]
        sources = Sources(grid, grid / np.linalg.norm(grid, axis=1, keepdims=True))
        gain = lead_field(head, sensors, sources).rereference("average").fixed().gain[:, :, 0]
        two = [int(np.argmin(np.linalg.norm(grid - place, axis=1))) for place in ([0.06, 0, 0.03], [-0.05, 0.02, 0.03])]
        current = np.zeros((len(grid), 50))
        current[two] = 20e-9 * rng.normal(size=(2, 50))
        noise = 0.1 * np.sqrt(np.mean((gain @ current) ** 2))
        field = gain @ current + noise * rng.normal(size=(40, 50))
        quiet = noise * rng.normal(size=(40, 200))
        found = learn(Problem.from_arrays(gain, field, noise**2 * np.ones(40), baseline=quiet))
        assert set(np.argsort(found.variances)[-2:]) == set(two)
        # Sources are seen so well that their variance is their power; the noise's is known from 10000 numbers.
        assert_allclose(found.variances[two], np.mean(current[two] ** 2, axis=1), rtol=0.1)
        assert np.sum(found.variances > 0.01 * found.variances.max()) == 2
        assert_allclose(found.noise**2, 1, rtol=4 * np.sqrt(2 / 10_000))
        # A response alone is fitted by some of its noise, too.
        alone = learn(Problem.from_arrays(gain, field, noise**2 * np.ones(40)))
        assert 0.8 < alone.noise**2 < 1


class TestEstimate:
    @pytest.mark.parametrize("axes", [1, 3])
    def test_currents_and_sds_are_those_of_the_plugged_in_gaussian(self, axes):
        problem = focal(axes=axes)
        found = learn(problem)
        estimate = baseline(problem, "champagne", pick="vector" if axes == 3 else "pooled")
        prior = np.diag(np.repeat(found.variances, axes))
        weights = prior @ problem.gain.T @ np.linalg.inv(covariance(problem, found.variances, found.noise))
        mean, spread = weights @ problem.recording, prior - weights @ problem.gain @ prior
        scale = np.abs(mean).max()
        assert_allclose(estimate.current.reshape(mean.shape), mean, atol=1e-9 * scale)
        assert_allclose(estimate.operator.kernel() @ problem.recording, mean, atol=1e-9 * scale)
        assert_allclose(estimate.sd.ravel(), np.sqrt(np.diag(spread)), atol=1e-9 * scale)
        assert_allclose(estimate.fitted, problem.gain @ mean, atol=1e-9 * np.abs(estimate.fitted).max())
        assert_allclose(estimate.prior_variance.reshape(14, axes), found.variances[:, None] * np.ones(axes), rtol=1e-12)
        assert_allclose(estimate.noise, found.noise)
        low, high = estimate.interval(0.8)
        assert_allclose(low.reshape(mean.shape), mean - norm.isf(0.1) * estimate.sd.reshape(-1, 1), atol=1e-9 * scale)
        assert_allclose(high - estimate.current, estimate.current - low, atol=1e-9 * scale)

    def test_lam_and_snr_are_those_of_the_power_at_the_sensors(self):
        problem = focal()
        estimate, found = baseline(problem, "champagne"), learn(problem)
        power = np.sum(problem.gain**2, axis=0) @ found.variances / 8
        assert_allclose(estimate.snr, np.sqrt(power) / found.noise, rtol=1e-9)
        assert_allclose(estimate.lam, problem.signal_power / estimate.snr**2, rtol=1e-9)
        assert "lam = " in repr(estimate)
        assert "(learned)" in repr(estimate)

    def test_in_coloured_noise_the_weights_are_those_of_white_samples(self):
        problem = coloured(samples=9, quiet=8)
        white = Problem(problem.gain, problem.white_recording, problem.times, problem.white_baseline)
        one, other = learn(problem), learn(white)
        assert_allclose(one.variances, other.variances, rtol=1e-9)
        assert_allclose(one.noise, other.noise, rtol=1e-12)
        estimate = baseline(problem, "champagne")
        assert_allclose(estimate.current, estimate.operator(problem.recording), rtol=1e-12)

    @pytest.mark.parametrize("method", ["MNE", "eLORETA", "champagne"])
    @pytest.mark.parametrize("axes", [1, 3])
    def test_interval_is_that_of_the_naive_posterior(self, method, axes):
        estimate = baseline(focal(axes=axes), method, pick="vector" if axes == 3 else "pooled")
        posterior = naive(estimate)
        if posterior is None:
            with pytest.raises(ValueError, match="wants pick='vector', and no loose below 1"):
                estimate.interval()
            return
        scale = np.abs(estimate.current).max()
        for ours, theirs in zip(estimate.interval(0.7), posterior.interval(0.7), strict=True):
            assert_allclose(ours, theirs, atol=1e-6 * scale)
        assert_allclose(estimate.sd, posterior.sd[..., 0], atol=1e-7 * scale)
        assert_allclose(estimate.prior_variance, posterior.prior_variance, rtol=1e-9)

    def test_what_has_no_interval_says_so(self):
        problem = focal(axes=3)
        for method in ("dSPM", "sLORETA", "LCMV"):
            covariance = "recording" if method == "LCMV" else None
            with pytest.raises(ValueError, match=f"{method} claims no uncertainty"):
                baseline(problem, method, covariance=covariance).interval()
        for pick in ("pooled", "normal"):
            with pytest.raises(ValueError, match="wants pick='vector'"):
                baseline(problem, "champagne", pick=pick).sd  # noqa: B018
        with pytest.raises(ValueError, match=r"level is 1\.2"):
            baseline(focal(), "champagne").interval(1.2)

    def test_pooled_and_normal_are_of_the_vector(self):
        problem = focal(axes=3)
        vector = baseline(problem, "champagne", pick="vector").current
        assert_allclose(baseline(problem, "champagne").current, np.linalg.norm(vector, axis=1), rtol=1e-12)
        normal = np.einsum("sat,sa->st", vector, problem.sources.normals)
        assert_allclose(baseline(problem, "champagne", pick="normal").current, normal, atol=1e-9 * np.abs(normal).max())

    def test_it_is_scored_with_its_interval(self):
        problem = focal()
        current = np.zeros((14, 25))
        current[[2, 7]] = 5 / GAIN
        found = score(baseline(problem, "champagne"), Truth(problem.sources, current, problem.times))
        assert set(found.strata) >= {"all", "active", "inactive"}
        assert 0 <= found.row()["active: coverage"] <= 1

    def test_a_source_that_is_still_for_sure_is_right_or_wrong(self, rng):
        # One field is loud and the others are quieter than the noise, which two components without a source tell.
        basis = ortho_group(5, seed=4).rvs()
        sides = np.array([9.0, 0.3, 0.5, 1.0, 1.1])[:, None] * rng.normal(size=(5, 60))
        problem = Problem(basis[:, :3] * GAIN, basis @ sides, np.arange(60) * 0.1, sources=Sources(np.eye(3) / 20))
        current = np.zeros((3, 60))
        current[1] = 1 / GAIN
        regions = {"wrong": [1], "right": [2], "both": [1, 2]}
        found = score(baseline(problem, "champagne"), Truth(problem.sources, current, problem.times), regions=regions)
        assert found.row()["active: coverage"] == 0
        # Of what is rightly sure the transform is drawn at random, so that nine of ten are inside.
        assert found.regions.inside == pytest.approx(54, abs=8)
        assert found.regions.count == 180
        assert found.peak is not None

    def test_naive_interval_covers_where_the_variances_are_known_well(self, rng):
        # Three fields that do not overlap and 4000 samples: what maximising adds to the uncertainty is some 1 %.
        scale = np.array([3.0, 1.0, 0.5])[:, None] / GAIN
        current = scale * rng.normal(size=(3, 4000))
        gain = GAIN * ortho_group(6, seed=3).rvs()[:, :3]
        problem = Problem(gain, gain @ current + rng.normal(size=(6, 4000)), np.arange(4000) * 1e-3)
        low, high = baseline(problem, "champagne").interval(0.9)
        share = np.mean((low <= current) & (current <= high), axis=1)
        # The interval's width is off by 1 % or so, by which coverage changes by less than 0.004.
        assert_allclose(share, 0.9, atol=4 * np.sqrt(0.09 / 4000) + 0.004)


class TestDoor:
    @pytest.mark.parametrize(
        "given",
        [
            {"lam": 0.1},
            {"lam": "gcv"},
            {"depth": 0.8},
            {"loose": 0.2},
            {"convention": "mne"},
            {"snr": 2.0},
            {"covariance": "recording"},
            {"covariance": np.eye(8)},
            {"regularise": 0.1},
            {"normalise": "nai"},
        ],
    )
    def test_options_of_others_are_refused(self, given):
        (name,) = given
        with pytest.raises(ValueError, match=rf"{name} was given, but champagne has no {name}: .*leave {name} out"):
            baseline(focal(axes=3), "champagne", **given)

    def test_none_is_nothing(self):
        baseline(focal(), "champagne", depth=None, loose=None)

    def test_what_is_wrong_is_said(self):
        with pytest.raises(ValueError, match="pick 'vector' wants free orientation"):
            baseline(focal(), "champagne", pick="vector")
        with pytest.raises(ValueError, match="pick 'max-power' wants LCMV"):
            baseline(focal(axes=3), "champagne", pick="max-power")
        problem = focal()
        with pytest.raises(ValueError, match="the recording is zero, so there is nothing to learn variances from"):
            baseline(replace(problem, recording=0 * problem.recording), "champagne")

    def test_it_says_when_it_has_not_converged(self, monkeypatch):
        monkeypatch.setattr(champagne, "ITERATIONS", 3)
        with pytest.warns(UserWarning, match=r"still fell by .* in the last of 3 steps \(wanted 1e-06\)") as said:
            baseline(focal(), "champagne")
        assert said[0].filename == __file__

    def test_it_says_when_there_is_no_noise(self):
        problem = focal(quiet=0)
        clean = replace(problem, recording=problem.gain[:, [3]] * np.arange(1.0, 26) / GAIN)
        with pytest.warns(UserWarning, match="explain the recording without noise.*Give the problem a baseline"):
            estimate = baseline(clean, "champagne")
        assert estimate.strength[:, 0].argmax() == 3
