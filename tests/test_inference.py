import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from referee import depth, toy
from scipy.special import logsumexp
from scipy.stats import halfnorm, kstest, lognorm, norm

import bayesinv as bi
from bayesinv.prior.currents import Currents

pytestmark = pytest.mark.filterwarnings("ignore:(?s).*ArviZ is undergoing a major refactor:FutureWarning")

REGIMES = {
    "ordinary": {},
    "free orientation": {"axes": 3},
    "centred baseline": {"centred": True},
    "no baseline": {"quiet": 0},
    "one sample": {"samples": 1},
    "one sample, no baseline": {"samples": 1, "quiet": 0},
    "no signal": {"amplitude": 1e-9, "samples": 30},
    "no signal, no baseline": {"amplitude": 1e-9, "quiet": 0},
    "strong signal": {"amplitude": 30.0},
    "strong signal, no baseline": {"amplitude": 30.0, "quiet": 0},
    "a signal beyond the prior": {"amplitude": 3000.0},
    "a signal beyond the prior, no baseline": {"amplitude": 3000.0, "quiet": 0},
    "more sensors than sources": {"sensors": 15, "sources": 3, "quiet": 0},
    "long": {"sensors": 20, "sources": 40, "samples": 300},
    "one source": {"sources": 1, "samples": 2},
    "one sensor, one sample": {"sensors": 1, "samples": 1, "quiet": 0},
}


class Brute:
    """The hierarchical model's posterior on a dense lattice of log noise and log scale, and its evidence.

    Shares no code with the package: eigenvalues by a singular value decomposition, priors by SciPy.
    """

    def __init__(self, problem, weights=None):
        self.problem = problem
        gain = problem.gain * np.sqrt(np.ones(problem.gain.shape[1]) if weights is None else weights)
        left, values, _ = np.linalg.svd(gain)
        self.values = np.zeros(problem.components)
        self.values[: len(values)] = values**2
        self.powers = np.sum((left.T @ problem.recording) ** 2, axis=1)
        guess = np.log(problem.scale_guess)
        box = [(-8, 10), (guess - 45, guess + 10)]
        for count in (400, 300, 600):
            axes = [np.linspace(low, high, count) for low, high in box]
            heights = self.heights(*np.meshgrid(*axes, indexing="ij"))
            rows, columns = np.nonzero(heights > heights.max() - 35)
            box = [
                (axis[max(index.min() - 1, 0)], axis[min(index.max() + 1, count - 1)])
                for axis, index in zip(axes, (rows, columns), strict=True)
            ]
        self.log_noise, self.log_scale = axes
        cell = np.log(np.prod([axis[1] - axis[0] for axis in axes]))
        self.log_evidence = logsumexp(heights) + cell
        self.weights = np.exp(heights - logsumexp(heights))

    def heights(self, log_noise, log_scale):
        problem = self.problem
        noise, scale = np.exp(log_noise), np.exp(log_scale)
        sd = 0.1 if problem.baseline is None else 0.5
        out = lognorm(sd).logpdf(noise) + log_noise + halfnorm(scale=problem.scale_guess).logpdf(scale) + log_scale
        samples = problem.recording.shape[1]
        for value, power in zip(self.values, self.powers, strict=True):
            total = scale**2 * value + noise**2
            out -= 0.5 * (samples * np.log(2 * np.pi * total) + power / total)
        if problem.baseline is not None:
            count = problem.components * (problem.baseline.shape[1] - problem.baseline_centred)
            out -= 0.5 * (count * np.log(2 * np.pi * noise**2) + np.sum(problem.baseline**2) / noise**2)
        return out

    def marginal(self, name):
        """Values and weights of a hyperparameter."""
        noise, scale = np.exp(self.log_noise)[:, None], np.exp(self.log_scale)[None]
        table = {"noise": noise + 0 * scale, "scale": scale + 0 * noise, "lambda": (noise / scale) ** 2}[name]
        return table.ravel(), self.weights.ravel()

    def moments(self, name):
        values, weights = self.marginal(name)
        mean = weights @ values
        return mean, np.sqrt(weights @ (values - mean) ** 2)

    def distribution(self, name):
        """Its cumulative distribution function, each lattice cell spread over its width."""
        for other, grid, axis in (("noise", self.log_noise, 1), ("scale", self.log_scale, 0)):
            if name == other:
                edges = np.append(grid, 2 * grid[-1] - grid[-2]) - (grid[1] - grid[0]) / 2
                steps = np.append(0, np.cumsum(self.weights.sum(axis=axis)))
                return lambda x: np.interp(np.log(x), edges, steps)
        values, weights = self.marginal(name)
        order = np.argsort(values)
        steps = np.cumsum(weights[order]) - 0.5 * weights[order]
        return lambda x: np.interp(x, values[order], steps, left=0, right=1)


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
        for name in ("noise", "scale"):
            mean, sd = brute.moments(name)
            assert abs(posterior.hyper[name].mean - mean) < 2e-3 * sd
            assert abs(posterior.hyper[name].sd / sd - 1) < 3e-3

    def test_draws_follow_the_density(self, case):
        posterior, brute = case
        for name in ("noise", "scale", "lambda"):
            assert kstest(posterior.hyper[name].draws, brute.distribution(name)).pvalue > 1e-3

    def test_mean_and_sd_of_the_currents(self, case):
        posterior, brute = case
        problem = posterior.problem
        noise, scale = np.exp(brute.log_noise), np.exp(brute.log_scale)
        keep = np.argwhere(brute.weights > 1e-7 * brute.weights.max())
        keep = keep[np.random.default_rng(0).choice(len(keep), min(len(keep), 3000), replace=False)]
        # Importance weights of a random part of the lattice do for a check of a hundredth of an sd.
        left, values, right = np.linalg.svd(problem.gain, full_matrices=False)
        seen = left.T @ problem.recording
        shares = np.array([brute.weights[i, j] for i, j in keep])
        shares /= shares.sum()
        filters = np.array([values / (values**2 + (noise[i] / scale[j]) ** 2) for i, j in keep])
        means = np.einsum("ra,nr,rt->nat", right, filters, seen)
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


def test_a_signal_beyond_the_prior_does_not_pass():
    problem = toy(amplitude=3000.0)
    failed = [check.name for check in bi.infer("hierarchical", problem).checks if not check.passed]
    assert failed == ["noise scale"]


@pytest.mark.parametrize("regime", ["no baseline", "one sample", "free orientation"])
def test_depth_weighted_against_gauss_legendre_of_dense_lattices(regime):
    problem = toy(4, **REGIMES[regime])
    posterior = bi.infer("depth_weighted", problem, draws=4000)
    places, shares = np.polynomial.legendre.leggauss(13)
    places, shares = (places + 1) / 2, shares / 2
    lattices = [Brute(problem, depth(problem, place)) for place in places]
    heights = np.array([lattice.log_evidence for lattice in lattices]) + np.log(shares)
    assert abs(float(posterior.log_evidence) - logsumexp(heights)) <= posterior.log_evidence.error + 5e-5
    weights = np.exp(heights - logsumexp(heights))
    mean = weights @ places
    sd = np.sqrt(weights @ (places - mean) ** 2)
    assert abs(posterior.hyper["depth"].mean - mean) < 3e-3 * sd
    assert abs(posterior.hyper["depth"].sd / sd - 1) < 5e-3
    scale = weights @ [lattice.moments("scale")[0] for lattice in lattices]
    assert_allclose(posterior.hyper["scale"].mean, scale, rtol=2e-3)
    draws = posterior.hyper["depth"].draws
    assert abs(draws.mean() - mean) < 5 * sd / np.sqrt(len(draws))
    assert abs(draws.std() / sd - 1) < 0.06
    assert posterior.passed


def built(problem, scale, noise=None, depth=None, weights=None):
    """A model of given priors; functions of `pymc` make random variables."""
    import pymc as pm

    with pm.Model(coords=problem.coords) as model:
        sigma = pm.LogNormal("noise", 0.0, 0.1) if noise is None else noise(pm)
        exponent = depth(pm) if callable(depth) else depth
        Currents(variance=scale(pm) ** 2, depth=exponent, weights=weights).observe("recording", problem, noise=sigma)
    return model


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
            scale = pm.HalfNormal("scale", problem.scale_guess)
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


class TestChoice:
    def test_says_what_infer_would_do_and_why(self):
        import pymc as pm

        problem = toy()
        assert bi.choose_method("minimum_norm", problem).method == "exact"
        choice = bi.choose_method("depth_weighted", problem)
        assert choice.method == "quadrature"
        assert str(choice).startswith("quadrature: 3 free hyperparameters (noise, scale, depth) are integrated")
        many = built(problem, lambda pm: pm.math.sum(pm.HalfNormal("h", 1e-9, shape=5)))
        assert bi.choose_method(many, problem).method == "nuts"
        assert "too many for a lattice" in bi.choose_method(many, problem).reason
        assert isinstance(many, pm.Model)

    def test_door(self):
        problem = toy()
        many = built(problem, lambda pm: pm.math.sum(pm.HalfNormal("h", 1e-9, shape=5)))
        for call, words in (
            (
                lambda: bi.infer("hierarchical", problem, method="quadratur"),
                r"no method named 'quadratur'; there are exact, laplace, nuts, quadrature; did you mean 'quadrature'\?",
            ),
            (
                lambda: bi.infer("hierarchical", problem, method="exact"),
                "method 'exact' wants no free hyperparameter, but the model has noise, scale",
            ),
            (
                lambda: bi.infer(many, problem, method="quadrature"),
                "quadrature takes up to 4 hyperparameters, but the model has 6",
            ),
            (lambda: bi.infer("hierarchical", problem, draws=0), "draws is 0, but at least one is wanted"),
            (lambda: bi.infer("hierarchical", problem, method="nuts", draws=50), "4 chains of 50 draws are too short"),
            (
                lambda: bi.infer("hierarchical", problem, method="nuts", chains=1),
                "1 chains of 4000 draws are too short",
            ),
            (
                lambda: bi.infer(built(problem, lambda pm: pm.Poisson("k", 3) * 1e-9), problem),
                "k is discrete; hyperparameters must be continuous",
            ),
            (
                lambda: bi.infer(built(problem, lambda pm: pm.HalfNormal("snr", 1e-9)), problem),
                "'snr' is what the posterior calls",
            ),
            (
                lambda: bi.infer(
                    built(problem, lambda pm: 1e-9, depth=lambda pm: pm.Normal("depth", 0.5, 1.0)), problem
                ),
                "must stay between 0 and 1; give it a prior that lives there",
            ),
        ):
            with pytest.raises(ValueError, match=words):
                call()

    def test_a_method_that_a_degenerate_model_does_not_need_is_exact(self):
        problem = toy()
        for method in ("quadrature", "laplace", "nuts", None):
            assert bi.infer("minimum_norm", problem, method=method).method == "exact"


class TestDeterminism:
    @pytest.mark.parametrize("method", ["quadrature", "laplace"])
    def test_same_seed_same_posterior(self, method):
        one, other = (
            bi.infer("depth_weighted", toy(), method=method, rng=np.random.default_rng(7), draws=500) for _ in range(2)
        )
        assert_array_equal(one.mean, other.mean)
        assert_array_equal(one.sd, other.sd)
        assert float(one.log_evidence) == float(other.log_evidence)
        for name in one.hyper:
            assert_array_equal(one.hyper[name].draws, other.hyper[name].draws)

    def test_another_seed_other_draws_same_lattice(self):
        one, other = (bi.infer("hierarchical", toy(), rng=np.random.default_rng(seed), draws=500) for seed in (1, 2))
        assert_array_equal(one.mean, other.mean)
        assert (one.hyper["scale"].draws != other.hyper["scale"].draws).any()

    def test_no_seed_is_a_seed(self):
        one, other = (bi.infer("hierarchical", toy(), draws=500) for _ in range(2))
        assert_array_equal(one.hyper["scale"].draws, other.hyper["scale"].draws)


class TestUnits:
    """Currents in other units are the same currents: nothing hangs on the size of a number."""

    @pytest.mark.parametrize("model", ["minimum_norm", "hierarchical", "depth_weighted"])
    @pytest.mark.parametrize("factor", [1e-9, 1e9])
    def test_a_gain_in_other_units_scales_the_currents(self, model, factor):
        problem = toy()
        other = bi.Problem.from_arrays(problem.gain * factor, problem.recording, baseline=problem.baseline)
        one, two = bi.infer(model, problem), bi.infer(model, other)
        assert_allclose(two.mean * factor, one.mean, rtol=1e-3, atol=1e-4 * np.abs(one.mean).max())
        assert_allclose(two.sd * factor, one.sd, rtol=1e-3)
        assert_allclose(two.log_evidence, one.log_evidence, atol=1e-3)
        assert_allclose(two.shrinkage, one.shrinkage, rtol=1e-3)

    def test_a_permutation_of_sources_permutes_the_posterior(self, rng):
        problem = toy()
        order = rng.permutation(11)
        other = bi.Problem.from_arrays(problem.gain[:, order], problem.recording, baseline=problem.baseline)
        one, two = bi.infer("depth_weighted", problem), bi.infer("depth_weighted", other)
        assert_allclose(two.mean, one.mean[order], rtol=1e-4, atol=1e-6 * np.abs(one.mean).max())

    def test_a_rotation_of_components_changes_nothing(self, rng):
        problem = toy()
        turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
        other = bi.Problem.from_arrays(turn @ problem.gain, turn @ problem.recording, baseline=turn @ problem.baseline)
        one, two = bi.infer("depth_weighted", problem), bi.infer("depth_weighted", other)
        assert_allclose(two.mean, one.mean, rtol=1e-4, atol=1e-6 * np.abs(one.mean).max())
        assert_allclose(two.log_evidence, one.log_evidence, atol=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
class TestNuts:
    """Samplers that know nothing of the lattice."""

    @pytest.mark.parametrize("sampler", ["nutpie", "pymc"])
    @pytest.mark.parametrize("model", ["hierarchical", "depth_weighted"])
    def test_over_hyperparameters_agrees_with_quadrature(self, model, sampler):
        if sampler == "nutpie":
            pytest.importorskip("nutpie")
        problem = toy(samples=8)
        exact = bi.infer(model, problem, draws=40_000)
        chains = bi.infer(model, problem, method="nuts", draws=2000, sampler=sampler, rng=np.random.default_rng(3))
        assert chains.method == "nuts"
        assert chains.log_evidence is None
        effective = next(check.value for check in chains.checks if check.name == "effective draws")
        assert effective > 1000
        for name in exact.hyper:
            one, other = exact.hyper[name], chains.hyper[name]
            assert abs(one.mean - other.draws.mean()) < 5 * one.draws.std() / np.sqrt(effective)
            assert kstest(other.draws[:: max(1, int(8000 / effective))], one.draws).pvalue > 1e-3
        error = exact.sd / np.sqrt(1000)
        assert (np.abs(exact.mean - chains.mean) < 5 * error).all()
        assert_allclose(chains.sd, exact.sd, rtol=0.05)

    def test_on_the_explicit_currents_agrees_with_both(self):
        import pymc as pm

        problem = toy(sensors=8, sources=20, samples=3)
        with pm.Model(coords=problem.coords):
            noise = pm.LogNormal("noise", 0.0, 0.5)
            scale = pm.HalfNormal("scale", problem.scale_guess)
            current = Currents(variance=scale**2).latent("current", problem)
            pm.Normal("recording", pm.math.dot(problem.gain, current), noise, observed=problem.recording)
            pm.Normal("quiet", 0.0, noise, observed=problem.baseline)
            sampled = pm.sample(
                2500, tune=1500, chains=4, cores=1, random_seed=5, target_accept=0.95, progressbar=False
            )
        import arviz_stats

        from bayesinv.inference.chains import as_tree

        table = as_tree(sampled)["posterior"].to_dataset()
        ess = float(min(np.min(arviz_stats.ess(table)[name]) for name in ("noise", "scale")))
        currents = table["current"].to_numpy().reshape(-1, 20, 3)
        quadrature = bi.infer("hierarchical", problem, draws=20_000)
        chains = bi.infer("hierarchical", problem, method="nuts", draws=1500)
        for posterior in (quadrature, chains):
            for name in ("noise", "scale"):
                found = table[name].to_numpy().ravel()
                scalar = posterior.hyper[name]
                assert abs(found.mean() - scalar.mean) < 5 * scalar.sd * np.sqrt(1 / ess + 1 / 1000)
                assert abs(found.std() / scalar.sd - 1) < 0.12
                assert_allclose(np.quantile(found, [0.1, 0.5, 0.9]), scalar.quantile([0.1, 0.5, 0.9]), rtol=0.05)
            few = np.sqrt(1 / 1000)
            assert np.abs((currents.mean(axis=0) - posterior.mean) / posterior.sd).max() < 5 * few
            assert_allclose(currents.std(axis=0), posterior.sd, rtol=0.12)
            low, high = posterior.interval(0.8)
            assert np.abs(np.mean((currents > low) & (currents < high), axis=0) - 0.8).max() < 0.05

    def test_same_seed_same_chains(self):
        one, other = (
            bi.infer("hierarchical", toy(), method="nuts", draws=200, chains=2, rng=np.random.default_rng(4))
            for _ in range(2)
        )
        assert_array_equal(one.hyper["scale"].draws, other.hyper["scale"].draws)
        assert_array_equal(one.mean, other.mean)


class TestMany:
    def test_each_is_what_infer_gives(self):
        one = toy(quiet=5)
        others = {"first": one, "second": toy(seed=0, quiet=5, amplitude=1.0), "third": one.again(2 * one.recording)}
        found = bi.infer_many("depth_weighted", others, rng=np.random.default_rng(3), draws=200, progress=False)
        seeds = np.random.default_rng(3).spawn(3)
        for (name, problem), seed in zip(others.items(), seeds, strict=True):
            alone = bi.infer(
                "depth_weighted",
                toy(seed=0, quiet=5).again(problem.recording, baseline=problem.baseline),
                rng=seed,
                draws=200,
            )
            assert_allclose(found[name].mean, alone.mean, rtol=1e-9)
            assert_allclose(found[name].hyper["depth"].draws, alone.hyper["depth"].draws, rtol=1e-9)
        assert others["second"].shared is one.shared

    def test_a_gain_is_decomposed_once(self, monkeypatch):
        count = []
        plain = np.linalg.eigh

        def counted(matrix):
            count.append(len(matrix) == 6)
            return plain(matrix)

        monkeypatch.setattr(np.linalg, "eigh", counted)
        problem = toy(quiet=5)
        bi.infer_many("hierarchical", [problem, problem.again(-problem.recording), toy(quiet=5)], progress=False)
        assert sum(count) == 1

    def test_functions_are_made_once(self, monkeypatch):
        from bayesinv.prior import density

        bi.infer("hierarchical", toy(quiet=5))
        monkeypatch.setattr(density, "vectorised", None)
        bi.infer("hierarchical", toy(quiet=5).again(np.ones((6, 4)), baseline=np.eye(6)))

    def test_another_prior_is_not_taken_for_this_one(self):
        problem = toy()
        one, other = (
            bi.infer(built(problem, lambda pm, width=width: pm.HalfNormal("s", width)), problem)
            for width in (1e-9, 4e-9)
        )
        assert abs(float(one.log_evidence) - float(other.log_evidence)) > 0.1

    def test_says_which_problem_is_wrong(self):
        with pytest.raises(ValueError, match=r"problem 'b': .*no model named"):
            bi.infer_many("nothing", {"b": toy()})
        with pytest.raises(ValueError, match="there are no problems"):
            bi.infer_many("hierarchical", [])


@pytest.mark.slow
def test_what_a_lattice_cannot_hold_is_sampled(monkeypatch):
    from bayesinv.inference import quadrature
    from bayesinv.inference import unsettled as unsettled_inference

    def unsettled(density):
        raise unsettled_inference.UnsettledError("quadrature did not settle")

    monkeypatch.setattr(quadrature, "integrate", unsettled)
    with pytest.warns(UserWarning, match="did not settle .*NUTS is used now"):
        assert bi.infer("hierarchical", toy(), draws=2000).method == "nuts"
    with pytest.raises(ValueError, match="did not settle"):
        bi.infer("hierarchical", toy(), method="quadrature")
