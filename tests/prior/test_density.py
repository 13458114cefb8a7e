"""The density of hyperparameters: which nodes share a structure."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from structured import scene

import bayesinv as bi
from bayesinv.prior.density import Density


@pytest.mark.parametrize("order", ["structure by structure", "in turn", "at random"])
def test_nodes_share_a_structure_where_they_agree_in_what_it_depends_on(rng, order):
    density = Density.of(bi.load_model("oriented")(scene(3)))
    assert density.structural == (2, 3)
    places = np.array([[0.5, -1.0], [0.5, 2.0], [-0.25, 2.0]])
    of = {"structure by structure": np.repeat([2, 0, 1], [4, 5, 6]), "in turn": np.tile([2, 0, 1], 5)}
    which = of.get(order, rng.integers(0, 3, 15))
    # Far below what tells two structures apart.
    nodes = np.hstack([rng.normal(size=(15, 2)), places[which] + 1e-14 * rng.normal(size=(15, 2))])
    coordinates, found = density.structural_nodes(nodes)
    present = sorted({tuple(places[k]) for k in which})
    assert_array_equal(coordinates, present)
    assert_array_equal(coordinates[found], places[which])
