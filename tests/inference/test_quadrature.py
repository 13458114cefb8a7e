"""Quadrature and Laplace against dense grids."""

import numpy as np
import pytest
from brute import REGIMES, Brute, built
from numpy.testing import assert_allclose
from referee import GAIN, depth, toy
from scipy.special import logsumexp
from scipy.stats import kstest, norm

import bayesinv as bi
from bayesinv.posterior.hyper import Scalar
from bayesinv.prior.currents import Currents

pytestmark = pytest.mark.filterwarnings("ignore:(?s).*ArviZ is undergoing a major refactor:FutureWarning")


@pytest.fixture(scope="module", params=REGIMES)
def case(request):
    problem = toy(4, **REGIMES[request.param])
    return bi.infer("hierarchical", problem, draws=8000), Brute(problem)


class TestQuadratureAgainstDenseLattice:
    def test_evidence_and_its_error(self, case):
        posterior, brute = case
        miss = abs(float(posterior.log_evidence) - brute.log_evidence)
        assert miss <= posterior.log_evidence.error + 2e-5
        assert posterior.log_evidence.error < 1e-3

    def test_moments(self, case):
        posterior, brute = case
        # Of one number the scale has no second moment (its density falls off as 1 / scale³); its logarithm has all.
        single = posterior.problem.recording.size == 1
        for name in ("noise", "scale"):
            scalar = posterior.hyper[name]
            logarithm = Scalar(np.log(scalar.nodes), scalar.weights, np.log(scalar.draws))
            for found, log in ((logarithm, True), *(() if single else ((scalar, False),))):
                mean, sd = brute.moments(name, log=log)
                assert abs(found.mean - mean) < 2e-3 * sd
                assert abs(found.sd / sd - 1) < 3e-3

    def test_draws_follow_the_density(self, case):
        posterior, brute = case
        for name in ("noise", "scale", "lambda"):
            assert kstest(posterior.hyper[name].draws, brute.distribution(name)).pvalue > 1e-3

    @pytest.mark.slow
    def test_mean_and_sd_of_the_currents(self, case):
        posterior, brute = case
        problem = posterior.problem
        noise, scale = np.exp(brute.log_noise), np.exp(brute.log_scale)
        keep = np.argwhere(brute.weights > 1e-7 * brute.weights.max())
        keep = keep[np.random.default_rng(0).choice(len(keep), min(len(keep), 3000), replace=False)]
        # Importance weights of a random part of the lattice do for a check of a hundredth of an sd.
        left, values, right = np.linalg.svd(problem.gain, full_matrices=False)
        projected = left.T @ problem.recording
        shares = np.array([brute.weights[i, j] for i, j in keep])
        shares /= shares.sum()
        filters = np.array([values / (values**2 + (noise[i] / scale[j]) ** 2) for i, j in keep])
        means = np.einsum("ra,nr,rt->nat", right, filters, projected)
        mean = np.einsum("n,nat->at", shares, means)
        variances = np.array(
            [scale[j] ** 2 * (1 - (right.T**2) @ (values * f)) for (_, j), f in zip(keep, filters, strict=True)]
        )
        sd = np.sqrt(np.einsum("n,nat->at", shares, (means - mean) ** 2) + (shares @ variances)[:, None])
        shape = mean.shape
        assert np.abs((posterior.mean.reshape(shape) - mean) / sd).max() < 0.1
        assert np.abs(posterior.sd.reshape(shape) / sd - 1).max() < 0.1

    def test_checks_pass(self, case):
        posterior, _ = case
        assert {check.name for check in posterior.checks} >= {"quadrature edge", "quadrature drift", "evidence error"}
        # A response far beyond what the prior of the scale allows is taken for noise, and the result says so.
        for check in posterior.checks:
            assert check.passed == (check.name != "noise scale" or 0.25 < posterior.hyper["noise"].mean < 4)


def test_a_signal_of_a_thousand_times_the_guess_passes():
    posterior = bi.infer("hierarchical", toy(amplitude=3e3))
    assert posterior.passed
    low, high = posterior.hyper["scale"].interval(0.99)
    assert low < 3e3 / GAIN < high


@pytest.mark.slow
@pytest.mark.parametrize("regime", ["no baseline", "one sample", "free orientation"])
def test_depth_weighted_against_gauss_legendre_of_dense_lattices(regime):
    problem = toy(4, **REGIMES[regime])
    posterior = bi.infer("depth_weighted", problem, draws=4000)
    points, shares = np.polynomial.legendre.leggauss(13)
    points, shares = (points + 1) / 2, shares / 2
    lattices = [Brute(problem, depth(problem, point)) for point in points]
    heights = np.array([lattice.log_evidence for lattice in lattices]) + np.log(shares)
    assert abs(float(posterior.log_evidence) - logsumexp(heights)) <= posterior.log_evidence.error + 5e-5
    weights = np.exp(heights - logsumexp(heights))
    mean = weights @ points
    sd = np.sqrt(weights @ (points - mean) ** 2)
    assert abs(posterior.hyper["depth"].mean - mean) < 3e-3 * sd
    assert abs(posterior.hyper["depth"].sd / sd - 1) < 5e-3
    scale = weights @ [lattice.moments("scale")[0] for lattice in lattices]
    assert_allclose(posterior.hyper["scale"].mean, scale, rtol=2e-3)
    draws = posterior.hyper["depth"].draws
    assert abs(draws.mean() - mean) < 5 * sd / np.sqrt(len(draws))
    assert abs(draws.std() / sd - 1) < 0.06
    assert posterior.passed


class TestOtherPriors:
    def test_one_hyperparameter(self):
        problem = toy()
        model = built(problem, lambda pm: pm.HalfCauchy("scale", problem.scale_guess), lambda pm: 1.0)
        posterior = bi.infer(model, problem)
        grid = np.linspace(-25, 25, 40_001) + np.log(problem.scale_guess)
        brute = Brute(problem)
        scale = np.exp(grid)
        heights = np.log(2 / np.pi / problem.scale_guess) - np.log1p((scale / problem.scale_guess) ** 2) + grid
        for value, power in zip(brute.values, brute.powers, strict=True):
            total = scale**2 * value + 1
            heights -= 0.5 * (4 * np.log(2 * np.pi * total) + power / total)
        heights += norm.logpdf(problem.baseline).sum()
        wanted = logsumexp(heights) + np.log(grid[1] - grid[0])
        assert_allclose(float(posterior.log_evidence), wanted, atol=1e-4)
        assert_allclose(posterior.hyper["scale"].mean, np.exp(heights - logsumexp(heights)) @ scale, rtol=1e-3)

    @pytest.mark.slow
    def test_four_hyperparameters_one_of_which_nothing_tells(self):
        import pymc as pm

        problem = toy()
        with pm.Model(coords=problem.coords) as model:
            noise = pm.LogNormal("noise", 0.0, 0.3)
            scale = pm.HalfNormal("scale", problem.scale_guess)
            pm.Normal("idle", 2.0, 3.0)
            pm.Gamma("other", 4.0, 2.0)
            pm.Deterministic("precision", scale**-2)
            Currents(variance=scale**2).observe("recording", problem, noise=noise)
        posterior = bi.infer(model, problem)
        assert_allclose(posterior.hyper["idle"].mean, 2, atol=2e-3)
        assert_allclose(posterior.hyper["idle"].sd, 3, rtol=1e-3)
        assert_allclose(posterior.hyper["other"].mean, 2, rtol=1e-3)
        assert_allclose(posterior.hyper["precision"].nodes, posterior.hyper["scale"].nodes ** -2.0)
        with pm.Model(coords=problem.coords) as plain:
            noise = pm.LogNormal("noise", 0.0, 0.3)
            scale = pm.HalfNormal("scale", problem.scale_guess)
            Currents(variance=scale**2).observe("recording", problem, noise=noise)
        assert_allclose(posterior.log_evidence, bi.infer(plain, problem).log_evidence, atol=1e-3)

    @pytest.mark.slow
    def test_a_vector_of_hyperparameters(self):
        import pymc as pm

        problem = toy()
        with pm.Model(coords=problem.coords) as model:
            scales = pm.HalfNormal("scales", problem.scale_guess, shape=2)
            Currents(variance=scales[0] ** 2 + scales[1] ** 2).observe("recording", problem, noise=1.0)
        posterior = bi.infer(model, problem)
        assert {"scales[0]", "scales[1]"} <= set(posterior.hyper)
        assert_allclose(posterior.hyper["scales[0]"].mean, posterior.hyper["scales[1]"].mean, rtol=1e-3)

    def test_a_potential_counts(self):
        import pymc as pm

        problem = toy()
        with pm.Model(coords=problem.coords) as model:
            noise = pm.LogNormal("noise", 0.0, 0.5)
            scale = bi.source_scale(problem)
            pm.Potential("two", 0 * noise + np.log(2.0))
            Currents(variance=scale**2).observe("recording", problem, noise=noise)
        assert_allclose(
            bi.infer(model, problem).log_evidence,
            float(bi.infer("hierarchical", problem).log_evidence) + np.log(2),
            atol=1e-5,
        )

    def test_structure_fixed_by_number_is_structure_learned_at_a_point(self):
        problem = toy()
        fixed = bi.infer(built(problem, lambda pm: problem.scale_guess, lambda pm: 1.0, depth=0.4), problem)
        weights = depth(problem, 0.4)
        given = bi.infer(built(problem, lambda pm: problem.scale_guess, lambda pm: 1.0, weights=weights), problem)
        assert_allclose(fixed.mean, given.mean, rtol=1e-9)
        assert_allclose(fixed.log_evidence, given.log_evidence, rtol=1e-12)


class TestImproper:
    WORDS = "posterior mass lies at the edge of the lattice however far it grows .* a prior is improper or far too wide"

    def test_half_flat_that_the_data_do_not_tame(self):
        problem = toy(sensors=1, samples=1, quiet=0)
        with pytest.raises(ValueError, match=self.WORDS):
            bi.infer(built(problem, lambda pm: pm.HalfFlat("scale"), lambda pm: 1.0), problem)

    def test_flat_in_the_logarithm(self):
        problem = toy(**REGIMES["no signal"])
        with pytest.raises(ValueError, match=r"from log_scale downwards.*give a proper prior"):
            bi.infer(built(problem, lambda pm: pm.math.exp(pm.Flat("log_scale")), lambda pm: 1.0), problem)

    def test_half_flat_that_the_data_tame_has_a_posterior_and_no_evidence(self):
        problem = toy(samples=20)
        model = built(problem, lambda pm: pm.HalfFlat("scale"), lambda pm: 1.0)
        posterior = bi.infer(model, problem)
        assert posterior.log_evidence is None
        assert posterior.summary()["log_evidence"] is None
        assert_allclose(posterior.hyper["scale"].mean, bi.infer("hierarchical", problem).hyper["scale"].mean, rtol=0.2)
        assert bi.infer(model, problem, method="laplace").log_evidence is None


class TestLaplace:
    def test_is_quadrature_where_the_posterior_is_nearly_gaussian(self):
        problem = toy(sensors=20, sources=40, samples=300, quiet=200)
        exact, laplace = (bi.infer("hierarchical", problem, method=m) for m in ("quadrature", "laplace"))
        assert laplace.passed
        assert abs(float(laplace.log_evidence) - float(exact.log_evidence)) < 3e-3
        for name in ("noise", "scale", "lambda"):
            one, other = exact.hyper[name], laplace.hyper[name]
            assert abs(one.mean - other.mean) < 0.15 * one.sd
            assert abs(other.sd / one.sd - 1) < 0.15
        assert np.abs((laplace.mean - exact.mean) / exact.sd).max() < 0.01
        assert_allclose(laplace.sd, exact.sd, rtol=0.01)

    def test_moments_of_learned_structure_are_those_of_all_draws(self):
        """Few draws are mixed over where each costs a decomposition; hyperparameters need none."""
        scalar = bi.infer("depth_weighted", toy(4, quiet=20), method="laplace", draws=3000).hyper["depth"]
        assert len(scalar.nodes) == 3000
        assert_allclose([scalar.mean, scalar.sd], [scalar.draws.mean(), scalar.draws.std()])

    def test_says_where_it_is_not(self):
        posterior = bi.infer("hierarchical", toy(**REGIMES["no signal"]), method="laplace")
        assert not posterior.passed
        assert posterior.log_evidence.error > 0.01


@pytest.mark.slow
def test_what_a_lattice_cannot_hold_is_sampled(monkeypatch):
    from bayesinv.evidence.unsettled import UnsettledError
    from bayesinv.inference import quadrature

    def unsettled(density):
        raise UnsettledError("quadrature did not settle")

    monkeypatch.setattr(quadrature, "integrate_apart", unsettled)
    with pytest.warns(UserWarning, match="did not settle .*NUTS is used now"):
        assert bi.infer("hierarchical", toy(), draws=2000).method == "nuts"
    with pytest.raises(ValueError, match="did not settle"):
        bi.infer("hierarchical", toy(), method="quadrature")
