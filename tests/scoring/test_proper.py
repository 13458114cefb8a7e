"""Proper scores of Gaussian mixtures, against integration."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import quad
from scipy.stats import kstest, norm
from scored import mixture

from bayesinv.scoring import coverage, proper
from bayesinv.scoring.coverage import LEVELS


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

    def test_the_true_distribution_is_best(self, rng):
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
