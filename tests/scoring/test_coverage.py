"""Coverage and reliability, against posteriors known to be right."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm

from bayesinv.scoring import coverage
from bayesinv.scoring.coverage import LEVELS, Pit
from bayesinv.scoring.reliability import Reliability


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

    def test_a_histogram_has_the_coverage_and_pools(self, rng):
        one, other = rng.beta(0.7, 0.9, 300), rng.beta(0.7, 0.9, (11, 13))
        both = np.concatenate([one, other.ravel()])
        pooled = Pit.of(one) + Pit.of(other)
        assert pooled.count == 443
        levels = np.arange(101) / 100
        assert_allclose(pooled.coverage(levels), coverage.coverage(both, levels), atol=1e-12)
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
        with pytest.raises(ValueError, match="pit_values must be probabilities"):
            coverage.coverage([1.5])
        with pytest.raises(ValueError, match="pit_values must be probabilities"):
            Pit.of([np.nan])
        with pytest.raises(ValueError, match="there are no pit_values"):
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
        exact, chance = Reliability.of(happened * 1.0, happened), Reliability.of(np.full(400, 0.5), happened)
        assert exact.brier == 0
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
