"""Graphs as NumPy functions of many nodes."""

import numpy as np
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose

from bayesinv.prior.vectorised import vectorised


@pytest.mark.parametrize("simplified", [False, True])
def test_it_is_the_graph_at_every_node(rng, simplified):
    """Of an input itself, softplus, a product of three, and a gradient, in which numbers are filled in."""
    x, y = pt.vector("x", shape=(3,)), pt.scalar("y")
    total = pt.sum(pt.exp(y * x)) + y**2
    graphs = [x, pt.softplus(x), pt.mul(x, y, x), *pt.grad(total, [x, y])]
    run = vectorised([x, y], graphs, simplified=simplified)
    many, one = rng.standard_normal((5, 3)), rng.standard_normal(5)
    scaled = one[:, None] * many
    wanted = [many, np.log1p(np.exp(many)), many * scaled, one[:, None] * np.exp(scaled)]
    wanted.append(np.sum(many * np.exp(scaled), axis=1) + 2 * one)
    for found, right in zip(run([many, one], 5), wanted, strict=True):
        assert_allclose(found, right, rtol=1e-12)
