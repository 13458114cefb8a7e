"""Sums over products, moved to a grid of logarithms, against the sums themselves."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from bayesinv.interpolation.log_grid import MovedComponents


@pytest.fixture
def blocks(rng):
    """Two blocks of modes, each with eigenvalues of its own over many decades, some of them zero."""
    out = []
    for modes in (40, 25):
        values = np.append(np.zeros(3), 10.0 ** rng.uniform(-9, 3, 60))
        out.append((values, rng.standard_normal((63, modes)) ** 2))
    return out


@pytest.mark.parametrize("function", [lambda x: np.log(1 + x), lambda x: 1 / (1 + x)])
def test_sums_are_those_over_all_products(blocks, rng, function):
    powers = np.append(0.0, 10.0 ** rng.uniform(-7, 2, 64))
    eigenvalues, (counts, squares) = MovedComponents.of(blocks).over(powers)
    products = [np.outer(values, part) for (values, _), part in zip(blocks, np.split(powers, [40]), strict=True)]
    for scale in (1e-3, 1.0, 1e4):
        each = [function(scale * one) for one in products]
        wanted = [
            sum(one.sum() for one in each),
            sum((one * table).sum() for one, (_, table) in zip(each, blocks, strict=True)),
        ]
        found = function(scale * eigenvalues)
        assert_allclose([found @ counts, found @ squares], wanted, rtol=2e-9)


def test_currents_without_variance_are_noise(blocks):
    eigenvalues, (counts, squares) = MovedComponents.of(blocks).over(np.zeros(65))
    assert_allclose(eigenvalues, 0)
    assert_allclose([counts.sum(), squares.sum()], [63 * 65, sum(table.sum() for _, table in blocks)])


def test_eigenvalues_without_currents_are_noise():
    eigenvalues, (counts, _) = MovedComponents.of([(np.zeros(4), np.ones((4, 5)))]).over(np.ones(5))
    assert_allclose(counts[eigenvalues > 0].sum(), 0)
    assert_allclose(counts.sum(), 20)
