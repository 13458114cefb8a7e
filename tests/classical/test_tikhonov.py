"""The minimum norm and the choice of λ, against test problems, refitting, brute force and dense algebra."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import minimize

from bayesinv import Problem, figures, infer
from bayesinv.classical.criteria import Scan
from bayesinv.classical.minimum_norm import tikhonov
from bayesinv.evidence.spectrum import Spectrum

NOISE = 1e-3


def shaw(n):
    """One-dimensional image restoration (Shaw 1972), midpoint rule."""
    h = np.pi / n
    t = -np.pi / 2 + h * (np.arange(n) + 0.5)
    u = np.pi * (np.sin(t)[:, None] + np.sin(t)[None])
    kernel = (np.cos(t)[:, None] + np.cos(t)[None]) ** 2 * np.sinc(u / np.pi) ** 2
    return h * kernel, 2 * np.exp(-6 * (t - 0.8) ** 2) + np.exp(-2 * (t + 0.5) ** 2)


def phillips(n):
    """Deconvolution of φ(x) = 1 + cos(πx/3) on |x| < 3 (Phillips 1962); integrals over boxes in closed form."""
    h = 12 / n

    def twice(x):
        clipped = np.minimum(np.abs(x), 3.0)
        inside = clipped**2 / 2 + 9 / np.pi**2 * (1 - np.cos(np.pi * clipped / 3))
        return inside + 3 * (np.abs(x) - clipped)

    difference = h * (np.arange(n)[:, None] - np.arange(n)[None])
    gain = (twice(difference + h) - 2 * twice(difference) + twice(difference - h)) / h
    x = -6 + h * (np.arange(n) + 0.5)
    return gain, np.where(np.abs(x) < 3, 1 + np.cos(np.pi * x / 3), 0.0)


def baart(n):
    """∫ exp(s cos t) x(t) dt = 2 sinh(s)/s (Baart 1982); the integral over s in closed form, over t by Gauss."""
    hs, ht = np.pi / 2 / n, np.pi / n
    s = hs * np.arange(n + 1)
    nodes, weights = np.polynomial.legendre.leggauss(8)
    t = ht * (np.arange(n)[:, None] + 0.5 + 0.5 * nodes)
    c = np.cos(t)
    inner = (np.exp(s[1:, None, None] * c) - np.exp(s[:-1, None, None] * c)) / c
    gain = inner @ weights * (ht / 2) / np.sqrt(hs * ht)
    return gain, np.sin(ht * (np.arange(n) + 0.5)) * np.sqrt(ht)


def test_the_test_problems_are_the_integral_equations_they_claim_to_be():
    gain, truth = baart(64)
    s = np.pi / 2 / 64 * (np.arange(64) + 0.5)
    assert_allclose(gain @ truth / np.sqrt(np.pi / 2 / 64), 2 * np.sinh(s) / s, rtol=5e-4)
    gain, truth = phillips(240)
    s = -6 + 12 / 240 * (np.arange(240) + 0.5)
    right = (6 - np.abs(s)) * (1 + 0.5 * np.cos(np.pi * s / 3)) + 9 / 2 / np.pi * np.sin(np.pi * np.abs(s) / 3)
    assert_allclose(gain @ truth, right, atol=2e-3)


def ill_posed(make, n, seed, noise=NOISE):
    gain, truth = make(n)
    clean = gain @ truth
    sd = noise * np.linalg.norm(clean) / np.sqrt(n)
    field = clean + sd * np.random.default_rng(seed).standard_normal(n)
    return Problem(gain / sd, field[:, None] / sd, np.zeros(1))


def toy(rng, components=9, sources=14, samples=5, axes=1, baseline=0):
    gain = rng.standard_normal((components, sources * axes)) * np.geomspace(1, 0.05, components)[:, None]
    current = rng.standard_normal((sources * axes, samples))
    baseline_recording = rng.standard_normal((components, baseline)) if baseline else None
    return Problem(
        gain,
        gain @ current + rng.standard_normal((components, samples)),
        np.arange(samples) / 100,
        baseline=baseline_recording,
        axes=axes,
    )


class TestEstimate:
    @pytest.mark.parametrize("axes", [1, 3])
    @pytest.mark.parametrize("weights", [None, 0.6, "array"])
    def test_is_the_least_squares_solution_of_the_stacked_system(self, rng, axes, weights):
        problem = toy(rng, axes=axes)
        given = rng.uniform(0.2, 3, problem.source_count) if weights == "array" else weights
        estimate = tikhonov(problem, 0.7, given)
        diagonal = np.ones(problem.gain.shape[1])
        if weights == "array":
            diagonal = np.repeat(given, axes)
        elif weights is not None:
            norms = np.sqrt((problem.gain**2).reshape(9, -1, axes).sum(axis=(0, 2)))
            diagonal = np.repeat(norms**-1.2, axes)
            diagonal *= np.sum(problem.gain**2) / np.sum(problem.gain**2 * diagonal)
        # Push-through: the normal equations of the sources give what the formula in the sensors gives.
        stacked = np.vstack([problem.gain, np.diag(np.sqrt(0.7 / diagonal))])
        right = np.vstack([problem.recording, np.zeros((len(diagonal), 5))])
        direct = np.linalg.lstsq(stacked, right, rcond=None)[0]
        flat = estimate.current.reshape(direct.shape)
        assert_allclose(flat, direct, rtol=1e-9, atol=1e-12)
        assert_allclose(estimate.operator(problem.recording), direct, rtol=1e-9, atol=1e-12)
        assert_allclose(estimate.operator.kernel() @ problem.recording, direct, rtol=1e-9, atol=1e-12)
        assert_allclose(estimate.residual, problem.recording - problem.gain @ flat, atol=1e-11)
        influence = problem.gain @ estimate.operator.kernel()
        assert_allclose(estimate.degrees_of_freedom, np.trace(influence), rtol=1e-10)
        left = np.sum((problem.recording - problem.gain @ flat) ** 2) / np.sum(problem.recording**2)
        assert_allclose(estimate.goodness_of_fit, 1 - left, rtol=1e-10)

    def test_without_regularisation_the_recording_is_fitted_exactly(self, rng):
        problem = toy(rng)
        estimate = tikhonov(problem, 1e-12)
        assert_allclose(estimate.fitted, problem.recording, atol=1e-8)

    def test_is_the_posterior_mean_of_the_model_with_the_same_scales(self, rng):
        problem = toy(rng, axes=3)
        posterior = infer("minimum_norm", problem)
        lam = posterior.hyper["lambda"].mean
        assert_allclose(tikhonov(problem, lam).current, posterior.mean, rtol=1e-9, atol=1e-14)
        assert_allclose(tikhonov(problem, "snr", snr=3).lam, lam, rtol=1e-12)

    def test_the_curve_holds_the_norms_of_the_estimates_on_it(self, rng):
        problem = toy(rng)
        weights = rng.uniform(0.2, 3, 14)
        curve = tikhonov(problem, 1.0, weights).curve
        for i in (0, 300, 777):
            at = tikhonov(problem, float(curve.lam[i]), weights)
            assert_allclose(np.log(np.linalg.norm(at.residual)), curve.log_residual[i], rtol=1e-9, atol=1e-9)
            size = np.sqrt(np.sum(at.current**2 / weights[:, None]))
            assert_allclose(np.log(size), curve.log_solution[i], rtol=1e-9, atol=1e-9)
            assert_allclose(at.degrees_of_freedom, curve.degrees_of_freedom[i], rtol=1e-9, atol=1e-9)


class TestCorner:
    @pytest.mark.parametrize("make", [shaw, phillips, baart])
    @pytest.mark.parametrize("seed", [1, 2])
    def test_lies_where_brute_force_finds_the_largest_curvature(self, make, seed):
        problem = ill_posed(make, 32, seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            estimate = tikhonov(problem, "l-curve")
        u, s, _ = np.linalg.svd(problem.gain)
        power = (u.T @ problem.recording)[:, 0] ** 2
        lam = np.geomspace(estimate.curve.lam[0], estimate.curve.lam[-1], 100_000)
        rho, eta = np.empty(len(lam)), np.empty(len(lam))
        for i in range(0, len(lam), 10_000):
            part = slice(i, i + 10_000)
            shrunk = 1 / (s**2 + lam[part, None])
            rho[part] = 0.5 * np.log(np.sum((lam[part, None] * shrunk) ** 2 * power, axis=1))
            eta[part] = 0.5 * np.log(np.sum((s * shrunk) ** 2 * power, axis=1))
        step = np.log(lam[1] / lam[0])
        r1, n1 = np.gradient(rho, step), np.gradient(eta, step)
        r2, n2 = np.gradient(r1, step), np.gradient(n1, step)
        bend = ((r1 * n2 - r2 * n1) / (r1**2 + n1**2) ** 1.5)[3:-3]
        assert abs(np.log(estimate.lam / lam[3:-3][bend.argmax()])) < 0.05
        # The analytic curvature is that of the same curve, all along it.
        at = estimate.curve.lam[50:-50:50]
        clear = np.interp(np.log(at), np.log(lam[3:-3]), bend)
        assert_allclose(estimate.scan.curve(at).curvature, clear, rtol=2e-3, atol=2e-3 * bend.max())

    def test_one_clear_corner_is_taken_without_a_warning(self):
        problem = ill_posed(phillips, 48, 3, noise=1e-2)
        estimate = tikhonov(problem, "l-curve")
        assert estimate.chosen == "l-curve"
        truth = phillips(48)[1]
        errors = [np.linalg.norm(tikhonov(problem, lam).current[:, 0] - truth) for lam in estimate.curve.lam[::20]]
        found = np.linalg.norm(estimate.current[:, 0] - truth)
        assert found < 6 * min(errors)
        assert found < 1e-3 * errors[0]

    def scan(self, values, powers):
        return Scan(np.asarray(values, float), np.asarray(powers, float), 1)

    def test_a_curve_that_never_bends_has_no_corner(self):
        scan = self.scan(np.geomspace(1, 10, 12), np.geomspace(1, 10, 12) * 1e4)
        chosen = scan.corner()
        assert "has no corner (nowhere does it bend like an L)" in chosen.note
        assert chosen.lam == scan.gcv().lam
        assert f"{chosen.lam:.4g}" in chosen.note

    def test_a_faint_bend_is_taken_with_a_warning(self):
        values = np.geomspace(1, 1e-8, 40)
        scan = self.scan(values, 10 * values + 1)
        chosen = scan.corner()
        assert "no corner (its largest curvature is 0.086, where a corner has more than 0.5)" in chosen.note
        grid = scan.curve()
        assert_allclose(chosen.lam, grid.lam[grid.curvature.argmax()], rtol=0.03)

    def test_several_corners_are_all_named(self):
        group = np.geomspace(1, 3, 6)
        values = np.concatenate([group, 1e-6 * group, 1e-12 * group])
        powers = np.repeat([1e8, 1e4, 1.0], 6)
        chosen = self.scan(values, powers).corner()
        assert "has 2 corners, at lam = 4.068e-10, 0.0004084; took the sharpest, lam = 0.0004084" in chosen.note
        assert self.scan(values, np.repeat([1e8, 1e5, 10.0], 6)).corner().note == ""

    def test_a_corner_at_the_edge_is_noted(self):
        # Components outside the range of the gain keep the residual from falling, down to the smallest λ in range.
        values, powers = np.repeat([1.0, 0.0], [5, 3]), np.repeat([1e3, 1.0], [5, 3])
        chosen = self.scan(values, powers).corner()
        assert "still bending at the end of its range (0.01 to 100), which is no corner to trust" in chosen.note
        assert_allclose(chosen.lam, 0.01)

    def test_doubt_is_a_warning_with_the_value_used(self, rng):
        with pytest.warns(UserWarning, match=r"no corner .*; took lam = 0\.9039 of generalised cross-validation"):
            estimate = tikhonov(toy(rng, components=30, sources=60, samples=40), "l-curve")
        assert_allclose(estimate.lam, 0.9039, rtol=1e-3)


class TestGcv:
    def test_is_leave_one_out_by_refitting_where_all_components_are_alike(self, rng):
        # In a circulant problem every component has the same leverage, and GCV is leave-one-out exactly.
        n = 15
        kernel = np.exp(-0.5 * (np.minimum(np.arange(n), n - np.arange(n)) / 1.3) ** 2)
        gain = np.array([np.roll(kernel, i) for i in range(n)])
        recording = gain @ rng.standard_normal((n, 2)) + 0.1 * rng.standard_normal((n, 2))
        estimate = tikhonov(Problem(gain, recording, np.arange(2.0)), 1.0)
        for i in (400, 500, 600):
            lam = estimate.curve.lam[i]
            errors = []
            for out in range(n):
                rest = np.delete(np.arange(n), out)
                part = gain[rest]
                current = np.linalg.solve(part.T @ part + lam * np.eye(n), part.T @ recording[rest])
                errors.append((recording[out] - gain[out] @ current) ** 2)
            assert_allclose(estimate.curve.gcv[i], np.mean(errors), rtol=1e-8)

    @pytest.mark.parametrize("make", [shaw, phillips, baart])
    def test_is_the_minimum_on_a_fine_grid(self, make):
        problem = ill_posed(make, 32, 4)
        spectrum = Spectrum.of(problem)
        scan = Scan.of(problem, spectrum.values, spectrum.likelihood.powers)
        chosen = scan.gcv()
        fine = scan.curve(np.geomspace(*scan.bounds, 100_000))
        assert scan._gcv_at(chosen.lam) <= fine.gcv.min() * (1 + 1e-3)
        if not chosen.note:
            assert_allclose(np.log(chosen.lam), np.log(fine.lam[fine.gcv.argmin()]), atol=2e-3)

    def test_a_flat_minimum_takes_the_largest_lambda_and_says_so(self):
        # No eigenvalue lies between the two groups, so all λ between them fit alike.
        values = np.concatenate([np.full(4, 1.0), np.full(9, 1e-9)])
        powers = np.concatenate([np.full(4, 1e4), np.full(9, 1.0)])
        scan = Scan(values, powers, 1)
        chosen = scan.gcv()
        assert "flat from lam = " in chosen.note
        low, high = scan.bounds
        assert low < chosen.lam < high
        assert scan._gcv_at(chosen.lam) <= (1 + 1.1e-3) * scan.curve().gcv.min()
        assert scan._gcv_at(chosen.lam * 1.1) > (1 + 1e-3) * scan.curve().gcv.min()

    def test_a_minimum_at_the_end_is_noted(self):
        scan = Scan(np.geomspace(1, 1e-3, 8), np.geomspace(1e6, 1e-3, 8) ** 2, 1)
        rising = Scan(scan.values, np.full(8, 1e-3) / scan.values, 1)
        assert "flat" in rising.gcv().note or "at its end" in rising.gcv().note


class TestDiscrepancy:
    @pytest.mark.parametrize("noise", [1.0, 1.3])
    def test_attains_its_target(self, rng, noise):
        problem = toy(rng)
        estimate = tikhonov(problem, "discrepancy", noise=noise)
        assert_allclose(np.sum(estimate.residual**2), problem.recording.size * noise**2, rtol=1e-8)

    def test_says_when_noise_explains_the_recording(self, rng):
        problem = toy(rng)
        noise_only = Problem(problem.gain, 0.1 * problem.recording / problem.recording.std(), problem.times)
        with pytest.raises(ValueError, match=r"discrepancy gives no lam: .* explained by noise alone"):
            tikhonov(noise_only, "discrepancy")

    def test_says_when_the_sources_cannot_explain_it(self, rng):
        gain = np.vstack([rng.standard_normal((2, 6)), np.zeros((7, 6))])
        problem = Problem(gain, np.full((9, 3), 5.0), np.arange(3.0))
        with pytest.raises(ValueError, match="cannot be explained by the sources"):
            tikhonov(problem, "discrepancy")


class TestEvidence:
    @pytest.mark.parametrize("baseline", [0, 30])
    def test_is_the_joint_maximum_that_an_optimiser_finds(self, rng, baseline):
        problem = toy(rng, samples=12, baseline=baseline)
        estimate = tikhonov(problem, "evidence")
        spectrum = Spectrum.of(problem)

        def negative(x):
            variance, noise = np.exp(x[:1]), np.exp(x[1:]) if baseline else np.ones(1)
            total = spectrum.log_likelihood(variance, noise) + spectrum.baseline_log_likelihood(noise)
            return -float(total[0])

        start = np.zeros(2 if baseline else 1)
        found = minimize(
            negative, start, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-11, "maxiter": 4000}
        )
        noise = np.exp(found.x[1]) if baseline else 1.0
        assert_allclose(estimate.lam, noise**2 / np.exp(found.x[0]), rtol=1e-5)
        assert_allclose(estimate.scan.learned_noise(estimate.lam), noise, rtol=1e-5)

    def test_lies_within_the_posterior_of_the_hierarchical_model(self, rng):
        problem = toy(rng, components=20, sources=40, samples=30, baseline=50)
        low, high = infer("hierarchical", problem).hyper["lambda"].interval(0.9)
        assert low < tikhonov(problem, "evidence").lam < high

    def test_says_when_it_finds_no_signal(self, rng):
        problem = Problem(rng.standard_normal((9, 14)), 0.3 * rng.standard_normal((9, 20)), np.arange(20.0))
        with pytest.warns(UserWarning, match="finds no signal beyond the noise; took lam = "):
            tikhonov(problem, "evidence")


class TestInvariance:
    @pytest.mark.parametrize("choice", ["l-curve", "gcv", "discrepancy", "evidence", "snr"])
    def test_of_every_choice_to_the_order_and_basis_of_the_components(self, rng, choice):
        problem = toy(rng, baseline=11)
        rotation = np.linalg.qr(rng.standard_normal((9, 9)))[0]
        order = rng.permutation(9)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            first = tikhonov(problem, choice)
            for matrix in (rotation, np.eye(9)[order]):
                other = tikhonov(
                    Problem(
                        matrix @ problem.gain,
                        matrix @ problem.recording,
                        problem.times,
                        baseline=matrix @ problem.baseline,
                    ),
                    choice,
                )
                assert_allclose(other.lam, first.lam, rtol=1e-6)
                assert_allclose(other.current, first.current, rtol=1e-5, atol=1e-8)

    @pytest.mark.parametrize("choice", ["l-curve", "gcv", "discrepancy", "evidence", "snr"])
    def test_of_every_estimate_to_the_unit_of_the_currents(self, rng, choice):
        problem = toy(rng)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            first = tikhonov(problem, choice)
            other = tikhonov(Problem(problem.gain * 1e9, problem.recording, problem.times), choice)
        assert_allclose(other.lam, first.lam * 1e18, rtol=1e-6)
        assert_allclose(other.current * 1e9, first.current, rtol=1e-5, atol=1e-9)


class TestPlot:
    def test_marks_every_choice_and_draws_the_posterior(self, rng):
        problem = toy(rng, baseline=30, samples=12)
        estimate = tikhonov(problem, "gcv")
        figure = figures.l_curve(estimate, infer("hierarchical", problem))
        labels = " ".join(text.get_text() for text in figure.axes[0].get_legend().get_texts())
        for name in ("l-curve", "gcv", "discrepancy", "evidence", "snr", "posterior", "used"):
            assert name in labels
        figure.canvas.draw()

    def test_refuses_the_posterior_of_another_recording(self, rng):
        posterior = infer("minimum_norm", toy(rng))
        with pytest.raises(ValueError, match="of another recording"):
            figures.l_curve(tikhonov(toy(rng), "gcv"), posterior)


class TestDoor:
    @pytest.mark.parametrize("lam", [0, -1.0, np.nan, np.inf])
    def test_lambda_must_be_positive_and_finite(self, rng, lam):
        with pytest.raises(ValueError, match="must be positive and finite, or one of discrepancy, evidence, gcv"):
            tikhonov(toy(rng), lam)

    def test_an_unknown_choice_says_which_there_are(self, rng):
        with pytest.raises(ValueError, match=r"no choice of lam named 'lcurve': did you mean 'l-curve'\?"):
            tikhonov(toy(rng), "lcurve")

    @pytest.mark.parametrize(
        ("weights", "message"),
        [
            (1.5, "must lie between 0 and 1"),
            (np.ones(13), "weights has source = 13, but the problem has source = 14"),
            (np.zeros(14), "weights must be positive, but source 0"),
        ],
    )
    def test_weights_must_fit(self, rng, weights, message):
        with pytest.raises(ValueError, match=message):
            tikhonov(toy(rng), 1.0, weights)

    def test_scales_must_be_positive(self, rng):
        with pytest.raises(ValueError, match="noise is 0"):
            tikhonov(toy(rng), "gcv", noise=0)
        with pytest.raises(ValueError, match="snr is -1"):
            tikhonov(toy(rng), "snr", snr=-1)

    def test_a_zero_recording_gives_zero(self, rng):
        problem = toy(rng)
        zero = Problem(problem.gain, np.zeros((9, 2)), np.arange(2.0))
        with pytest.warns(UserWarning, match="recording is zero"):
            estimate = tikhonov(zero, "gcv")
        assert not estimate.current.any()
