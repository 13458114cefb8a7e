"""Few nodes that stand for a mixture of many: quantiles and probabilities against those of all nodes."""

from dataclasses import replace

import numpy as np
import pytest
from coloured import coloured
from numpy.testing import assert_allclose

import bayesinv as bi
from bayesinv.posterior import condensed
from bayesinv.posterior.condensed import few_nodes
from bayesinv.posterior.quantiles import exceedance, interval


@pytest.fixture(scope="module", params=[("hierarchical", 1.0), ("hierarchical", 0.1), ("temporal", 1.0)], ids=str)
def posterior(request):
    """Of a response, and of a recording in which there is none, so that the scale is anything down to nothing."""
    name, size = request.param
    problem = coloured(1, samples=14)
    return bi.infer(name, problem.again(size * problem.recording, problem.times, problem.baseline, False), draws=50)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.999])
def test_intervals_are_those_of_all_nodes(posterior, level):
    rows, samples = slice(None), slice(None)
    wanted, found = interval(posterior.gaussians(rows, samples), level), posterior.interval(level)
    assert np.abs(np.subtract(found, wanted) / posterior.sd).max() < 1e-3


def test_exceedances_are_those_of_all_nodes(posterior):
    threshold = float(posterior.sd.mean())
    wanted = exceedance(posterior.gaussians(slice(None), slice(None)), threshold)
    assert_allclose(posterior.exceedance(threshold), wanted, atol=2e-4)


def test_few_nodes_have_the_moments_of_all(posterior):
    few = few_nodes(posterior.mixture, 9, 3)
    assert len(few.weights) < len(posterior.mixture.weights) / 2
    assert_allclose(few.weights.sum(), posterior.mixture.weights.sum(), rtol=1e-12)
    found = replace(posterior, mixture=few)
    assert np.abs((found.mean - posterior.mean) / posterior.sd).max() < 1e-3
    assert_allclose(found.sd, posterior.sd, rtol=1e-2)


def test_where_few_do_not_stand_for_all_every_node_counts(posterior, monkeypatch):
    monkeypatch.setattr(condensed, "TOLERANCE", 0.0)
    monkeypatch.setattr(condensed, "PRECISE", 1e-9)
    wanted = interval(posterior.gaussians(slice(None), slice(None)), 0.9)
    assert_allclose(posterior.interval(0.9), wanted, rtol=1e-12)


def test_few_nodes_that_are_wrong_are_not_used(posterior, monkeypatch):
    """What is measured decides, not the rule."""

    def wrong(mixture, ratios, noises):
        found = few_nodes(mixture, ratios, noises)
        return type(found)(found.weights, 2 * found.variance, found.noise, found.which, found.structures)

    monkeypatch.setattr(condensed, "few_nodes", wrong)
    wanted = interval(posterior.gaussians(slice(None), slice(None)), 0.9)
    assert np.abs(np.subtract(posterior.interval(0.9), wanted) / posterior.sd).max() < 1e-3
