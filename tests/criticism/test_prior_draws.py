"""Draws from a model's prior are those of the same prior written out by hand."""

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from referee import toy
from scipy.stats import ks_2samp, kstest
from templates import covariances, hyper, template

import bayesinv as bi
from bayesinv.criticism.prior_draws import Prior

pytestmark = pytest.mark.filterwarnings("ignore:(?s).*ArviZ is undergoing a major refactor:FutureWarning")

MODELS = sorted(path.stem for path in Path(__file__).parents[2].joinpath("models").glob("[a-z]*.py"))
COUNT = 300


@pytest.fixture(scope="module", params=MODELS)
def drawn(request):
    """A model's name and draws from its prior."""
    return request.param, Prior.of(request.param, template(request.param), COUNT, np.random.default_rng(0))


def spatial(prior, draw):
    """Covariance of the currents of a draw, from what it makes of unit vectors."""
    structure, problem = prior.structures[draw], prior.problem
    root = structure.sample(problem, np.eye(structure.sample_size(problem)))
    return prior.variance[draw] * root @ root.T


def values_of(name, prior, draw):
    """Hyperparameters of a draw; local scales, which have their own test, from what they make of the variances."""
    values = {key: prior.hyper[key][draw] for key in prior.free}
    if name == "horseshoe":
        values["local"] = (
            np.sqrt(prior.variance[draw] * prior.structures[draw].diagonal(prior.problem)) / values["scale"]
        )
    return values


class TestPrior:
    def test_hyperparameters_are_distributed_as_the_card_says(self, drawn):
        name, prior = drawn
        rng = np.random.default_rng(1)
        mine = [hyper(name, prior.problem, rng) for _ in range(COUNT)]
        assert set(prior.free) == set(mine[0]) - {"local"}
        for key in prior.free:
            assert ks_2samp(prior.hyper[key], [one[key] for one in mine]).pvalue > 1e-3, key
        assert_allclose(prior.hyper["lambda"], prior.noise**2 / prior.variance)

    def test_covariances_are_those_of_the_dense_formula(self, drawn):
        name, prior = drawn
        for draw in (0, 7):
            values = values_of(name, prior, draw)
            currents, _, noise = covariances(name, prior.problem, values)
            assert_allclose(spatial(prior, draw), currents, rtol=1e-5, atol=1e-8 * np.abs(currents).max())
            root = prior.structures[draw].noise_root(prior.problem)
            found = np.eye(len(noise)) if root is None else root @ root.T
            assert_allclose(prior.noise[draw] ** 2 * found, noise, rtol=1e-9, atol=1e-12)

    def test_recordings_are_distributed_as_the_dense_formula_says(self, drawn):
        name, prior = drawn
        if prior.focal is not None:
            return  # held against dense algebra in test_patches
        rng = np.random.default_rng(2)
        fields, errors, quiets = [], [], []
        for draw in range(60):
            current, problem = prior.truth(draw, rng)
            values = values_of(name, prior, draw)
            currents, over_time, noise = covariances(name, prior.problem, values)
            field = problem.gain @ current
            root = np.linalg.cholesky(problem.gain @ currents @ problem.gain.T)
            fields.append(np.linalg.solve(np.linalg.cholesky(over_time), np.linalg.solve(root, field).T))
            root = np.linalg.cholesky(noise)
            errors.append(np.linalg.solve(root, problem.recording - field))
            quiets.append(np.linalg.solve(root, problem.baseline))
        for white in (fields, errors, quiets):
            flat = np.array(white)
            assert kstest(flat.ravel(), "norm").pvalue > 1e-3
            assert abs(np.mean(flat**2) - 1) < 4.5 * np.sqrt(2 / flat.size)
            # Neighbours in every axis are independent, too.
            for axis in range(flat.ndim):
                one, two = (np.take(flat, range(k, flat.shape[axis] - 1 + k), axis).ravel() for k in (0, 1))
                assert abs(np.mean(one * two)) < 4.5 / np.sqrt(one.size)


class TestTruth:
    def test_shares_what_is_worked_out_of_the_gain(self, rng):
        prior = Prior.of("hierarchical", toy(), 3, rng)
        assert prior.truth(1, rng)[1].shared is prior.problem.shared

    def test_a_baseline_is_centred_where_the_problem_s_is(self, rng):
        current, problem = Prior.of("hierarchical", toy(centred=True), 3, rng).truth(2, rng)
        assert problem.baseline_centred
        assert_allclose(problem.baseline.mean(axis=1), 0, atol=1e-12)
        assert problem.recording.mean() != 0
        assert current.shape == (11, 4)

    def test_there_is_no_baseline_where_the_problem_has_none(self, rng):
        assert Prior.of("hierarchical", toy(quiet=0), 3, rng).truth(2, rng)[1].baseline is None

    def test_what_the_lead_field_misses_is_recorded(self, rng):
        from dataclasses import replace

        plain = toy(samples=50)
        factor = np.outer(np.arange(1.0, 7.0), [1.0, 0.0]) * 3e8
        prior = Prior.of("hierarchical", replace(plain, error_factor=factor), 40, rng)
        assert "error" in prior.free
        found = []
        for draw in range(40):
            current, problem = prior.truth(draw, rng)
            rest = problem.recording - problem.gain @ current
            covariance = prior.noise[draw] ** 2 * np.eye(6)
            covariance += prior.variance[draw] * prior.hyper["error"][draw] ** 2 * factor @ factor.T
            found.append(np.linalg.solve(np.linalg.cholesky(covariance), rest))
        assert kstest(np.ravel(found), "norm").pvalue > 1e-3
        assert abs(np.mean(np.array(found)[:, :-1] * np.array(found)[:, 1:])) < 4.5 / np.sqrt(np.size(found))


class TestDoors:
    def test_the_same_generator_draws_the_same(self):
        one, two = (Prior.of("depth_weighted", toy(), 4, np.random.default_rng(5)) for _ in range(2))
        for key in one.hyper:
            assert_array_equal(one.hyper[key], two.hyper[key])
        assert_array_equal(
            one.truth(3, np.random.default_rng(6))[1].recording, two.truth(3, np.random.default_rng(6))[1].recording
        )

    @pytest.mark.parametrize("model", ["minimum_norm", "hierarchical", "multiple_sparse_priors"])
    def test_one_draw_is_one_draw(self, model, rng):
        prior = Prior.of(model, template(model), 1, rng)
        assert len(prior) == 1
        assert all(values.shape == (1,) for values in prior.hyper.values())

    def test_a_model_built_already_will_do(self, rng):
        problem = toy()
        assert Prior.of(bi.load_model("hierarchical")(problem), problem, 2, rng).free == ("noise", "scale")

    def test_nothing_is_drawn_from_a_count_of_nothing(self):
        with pytest.raises(ValueError, match="at least one draw is wanted"):
            Prior.of("hierarchical", toy(), 0)

    def test_scales_that_overflow_are_told(self):
        import pymc as pm

        def endless(problem):
            with pm.Model(coords=problem.coords) as built:
                scale = pm.LogNormal("scale", 0.0, 1000.0)
                bi.Currents(variance=scale**2).observe("recording", problem, noise=1.0)
            return built

        with pytest.raises(ValueError, match="its priors are too wide"):
            Prior.of(endless, toy(), 20)
