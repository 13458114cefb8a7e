"""Graphs as NumPy functions of many nodes."""

import numpy as np
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose

from bayesinv.prior.vectorised import vectorised, with_numbers


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


def test_shared_variables_keep_the_values_that_they_have():
    x, weight = pt.scalar("x"), pytensor.shared(np.array([2.0, 3.0]))
    run = vectorised([x], [weight * x])
    weight.set_value(np.array([7.0, 8.0]))
    assert_allclose(run([np.array([1.0, 10.0])], 2)[0], [[2.0, 3.0], [20.0, 30.0]])


def test_a_number_is_one_for_all_nodes_and_each_function_has_its_own():
    x, number = pt.vector("x", shape=(2,)), pt.scalar("number")
    of = with_numbers([x], [number * x, number + 1.0, x], [number])
    first, second = of([np.array(2.0)]), of([np.array(-3.0)])
    given = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    for run, value in ((first, 2.0), (second, -3.0), (first, 2.0)):
        scaled, more, same = run([given], 3)
        assert_allclose(scaled, value * given, rtol=1e-15)
        assert_allclose(more, np.full(3, value + 1.0), rtol=1e-15)
        assert_allclose(same, given, rtol=0)
        assert not np.shares_memory(same, given)


def test_views_are_not_taken_number_by_number(monkeypatch):
    """PyMC puts them around truncated and custom variables; vectorised, they cost as much as all else."""
    from pytensor.compile.ops import view_op
    from pytensor.tensor.blockwise import Blockwise

    monkeypatch.setattr(Blockwise, "perform", None)
    one, points = pt.dscalar("one"), np.linspace(0, 1, 7)
    found = vectorised([one], [pt.exp(view_op(one)) + pt.sum(one, axis=())])([points], 7)[0]
    assert_allclose(found, np.exp(points) + points)
