"""Graphs as NumPy functions of many nodes."""

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from numpy.testing import assert_allclose

from bayesinv.prior.vectorised import signature, vectorised


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


def shared_out(parcels, weight):
    """A model with a dim of some length, and data."""
    with pm.Model(coords={"parcel": range(parcels)}) as model:
        given = pm.Data("weight", np.array(weight))
        pm.Deterministic("share", given * pm.Normal("raw", dims="parcel"), dims="parcel")
    return model


def test_models_that_differ_in_lengths_of_dims_or_in_data_differ_and_others_do_not():
    def found(*given):
        return signature(shared_out(*given), [])

    assert found(3, 2.0) == found(3, 2.0)
    assert found(3, 2.0) != found(4, 2.0)
    assert found(3, 2.0) != found(3, 2.5)


def test_shared_variables_keep_the_values_that_they_have():
    x, weight = pt.scalar("x"), pytensor.shared(np.array([2.0, 3.0]))
    run = vectorised([x], [weight * x])
    weight.set_value(np.array([7.0, 8.0]))
    assert_allclose(run([np.array([1.0, 10.0])], 2)[0], [[2.0, 3.0], [20.0, 30.0]])
