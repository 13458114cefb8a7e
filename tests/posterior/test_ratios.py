"""A few ratios of variances stand for those of many nodes."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from bayesinv.posterior.ratios import chebyshev_ratios, gauss_ratios


def filters(ratios):
    """Filters of eigenvalues from nothing to more than any ratio makes visible: (ratio, eigenvalue)."""
    values = np.append(0.0, np.geomspace(1e-6, 1e6, 25))
    return 1 / (values + 1 / ratios[:, None])


@pytest.mark.parametrize(("spread", "most"), [(0.1, 9), (2.0, 27), (6.0, 60)])
def test_filters_of_all_nodes_are_spanned(spread, most):
    ratios = np.exp(spread * np.random.default_rng(1).uniform(-1, 1, 200))
    table, few = chebyshev_ratios(ratios)
    assert len(few) < most
    exact = filters(ratios)
    assert_allclose(table @ filters(few) / exact.max(axis=0), exact / exact.max(axis=0), rtol=0, atol=1e-11)


def test_a_rule_integrates_what_nodes_do():
    rng = np.random.default_rng(2)
    ratios, mass = np.exp(rng.normal(size=300)), rng.dirichlet(np.ones(300)) * 0.7
    shares, few = gauss_ratios(ratios, mass)
    assert len(few) < 30
    assert_allclose(shares @ filters(few), mass @ filters(ratios), rtol=1e-10)


def test_few_nodes_and_those_without_currents_stand_for_themselves():
    for ratios in (np.array([1.0, 2.0, 4.0]), np.append(0.0, np.geomspace(0.1, 10, 80))):
        table, few = chebyshev_ratios(ratios)
        assert_array_equal(table, np.eye(len(ratios)))
        assert_array_equal(few, ratios)
    table, few = chebyshev_ratios(np.full(5, 3.0))
    assert_allclose(table @ filters(few), filters(np.full(5, 3.0)), rtol=1e-12)
