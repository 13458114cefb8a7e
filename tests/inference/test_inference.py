"""What every method of inference owes."""

from functools import cache

import numpy as np
import pytest
from brute import built
from numpy.testing import assert_allclose, assert_array_equal
from referee import toy
from scipy.stats import kstest

import bayesinv as bi
from bayesinv.prior.currents import Currents

pytestmark = pytest.mark.filterwarnings("ignore:(?s).*ArviZ is undergoing a major refactor:FutureWarning")


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
                r"no method named 'quadratur': did you mean 'quadrature'\? There are active_set, exact, gibbs, "
                r"laplace, local_scales, nested_laplace, nuts, quadrature$",
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
                "must stay between 0 and 1; give it a prior within that range",
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


@cache
def plain(model):
    """The posterior of the toy problem as it stands."""
    return bi.infer(model, toy())


class TestUnits:
    """Currents in other units are the same currents: nothing hangs on the size of a number."""

    @pytest.mark.parametrize("model", ["minimum_norm", "hierarchical", "depth_weighted"])
    @pytest.mark.parametrize("factor", [1e-9, 1e9])
    def test_a_gain_in_other_units_scales_the_currents(self, model, factor):
        problem = toy()
        other = bi.Problem.from_arrays(problem.gain * factor, problem.recording, baseline=problem.baseline)
        one, two = plain(model), bi.infer(model, other)
        assert_allclose(two.mean * factor, one.mean, rtol=1e-3, atol=1e-4 * np.abs(one.mean).max())
        assert_allclose(two.sd * factor, one.sd, rtol=1e-3)
        assert_allclose(two.log_evidence, one.log_evidence, atol=1e-3)
        assert_allclose(two.shrinkage, one.shrinkage, rtol=1e-3)

    def test_a_permutation_of_sources_permutes_the_posterior(self, rng):
        problem = toy()
        order = rng.permutation(11)
        other = bi.Problem.from_arrays(problem.gain[:, order], problem.recording, baseline=problem.baseline)
        one, two = plain("depth_weighted"), bi.infer("depth_weighted", other)
        assert_allclose(two.mean, one.mean[order], rtol=1e-4, atol=1e-6 * np.abs(one.mean).max())

    def test_a_rotation_of_components_changes_nothing(self, rng):
        problem = toy()
        turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
        other = bi.Problem.from_arrays(turn @ problem.gain, turn @ problem.recording, baseline=turn @ problem.baseline)
        one, two = plain("depth_weighted"), bi.infer("depth_weighted", other)
        assert_allclose(two.mean, one.mean, rtol=1e-4, atol=1e-6 * np.abs(one.mean).max())
        assert_allclose(two.log_evidence, one.log_evidence, atol=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
class TestNuts:
    """Samplers that know nothing of the lattice."""

    @pytest.mark.parametrize(
        ("model", "sampler"), [("hierarchical", "nutpie"), ("depth_weighted", "nutpie"), ("hierarchical", "pymc")]
    )
    def test_over_hyperparameters_agrees_with_quadrature(self, model, sampler):
        if sampler == "nutpie":
            pytest.importorskip("nutpie")
        problem = toy(samples=8)
        exact = bi.infer(model, problem, draws=40_000)
        chains = bi.infer(model, problem, method="nuts", draws=1200, sampler=sampler, rng=np.random.default_rng(3))
        assert chains.method == "nuts"
        assert chains.log_evidence is None
        effective = next(check.value for check in chains.checks if check.name == "effective draws")
        assert effective > 700
        for name in exact.hyper:
            one, other = exact.hyper[name], chains.hyper[name]
            assert abs(one.mean - other.draws.mean()) < 5 * one.draws.std() / np.sqrt(effective)
            # Thinned to what they are worth: the test is of independent draws.
            assert kstest(other.draws[:: int(np.ceil(4800 / effective))], one.draws).pvalue > 1e-3
        error = exact.sd / np.sqrt(700)
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
            sampled = pm.sample(1200, tune=800, chains=2, cores=1, random_seed=5, target_accept=0.95, progressbar=False)
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
            error = np.sqrt(1 / 1000)
            assert np.abs((currents.mean(axis=0) - posterior.mean) / posterior.sd).max() < 5 * error
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
    @pytest.mark.slow
    def test_each_is_what_infer_gives(self):
        one = toy(quiet=5)
        others = {"first": one, "second": toy(seed=0, quiet=5, amplitude=1.0), "third": one.again(2 * one.recording)}
        found = bi.infer_many("depth_weighted", others, rng=np.random.default_rng(3), draws=200, progress=False)
        seeds = np.random.default_rng(3).spawn(3)
        for (name, problem), seed in zip(others.items(), seeds, strict=True):
            single = bi.infer(
                "depth_weighted",
                toy(seed=0, quiet=5).again(problem.recording, baseline=problem.baseline),
                rng=seed,
                draws=200,
            )
            assert_allclose(found[name].mean, single.mean, rtol=1e-9)
            assert_allclose(found[name].hyper["depth"].draws, single.hyper["depth"].draws, rtol=1e-9)
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
        monkeypatch.setattr(density, "with_numbers", None)
        bi.infer("hierarchical", toy(quiet=5).again(np.ones((6, 4)), baseline=np.eye(6)))
        bi.infer("hierarchical", toy(1, quiet=5))

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
