"""A compressed mixture approximates that of many Gaussians."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from referee import toy
from scored import mixture

import bayesinv as bi
from bayesinv.scoring import compression, proper


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
        for found, given in zip(compression.compressed(weights, means, sds, 7), (weights, means, sds), strict=True):
            assert_allclose(found, given, rtol=1e-9)

    @pytest.mark.parametrize("model", ["hierarchical", "depth_weighted"])
    def test_of_a_posterior_it_costs_next_to_nothing(self, model):
        posterior = bi.infer(model, toy(sensors=12, sources=60, samples=3), draws=10)
        nodes = list(posterior.gaussians(slice(0, 60, 5), slice(0, 3)))
        weights, means, sds = (np.array(part) for part in zip(*nodes, strict=True))
        assert len(weights) > 40
        few = compression.compressed(weights, means, sds)
        middle = np.tensordot(weights, means, 1)
        spread = np.sqrt(np.tensordot(weights, (means - middle) ** 2 + sds**2, 1))
        x = np.linspace(-9, 9, 601)
        cdf = proper.pit(weights, means[:, None], sds[:, None], middle + x[:, None, None] * spread)
        for z in (-4, -1.6, 0, 0.7, 3):
            k = int(np.argmin(np.abs(x - z)))
            truth = middle + x[k] * spread
            assert_allclose(proper.pit(*few, truth), cdf[k], atol=2e-3)
            exact = np.trapezoid(cdf[: k + 1] ** 2, dx=0.03, axis=0) + np.trapezoid((1 - cdf[k:]) ** 2, dx=0.03, axis=0)
            assert_allclose(proper.crps(*few, truth), exact * spread, rtol=5e-3)

    def test_many_nodes_and_identical_nodes(self, rng):
        weights, means, sds = mixture(rng, 300, (2, 1))
        assert len(compression.compressed(weights, means, sds)[0]) == 16
        same = np.ones((300, 2, 1))
        assert len(compression.compressed(weights, same, same)[0]) == 1
        with pytest.raises(ValueError, match="count is 0"):
            compression.compressed(weights, means, sds, 0)
