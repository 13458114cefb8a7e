"""Modes found by a search of a density that is only nearly the one, against a search by another library."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import minimize
from structured import scene

from bayesinv import load_model
from bayesinv.inference.modes import CONVERGED, NEAR_A_MODE, modes
from bayesinv.prior.density import Density
from bayesinv.prior.nearby import NearbyDensity


@pytest.fixture(scope="module")
def density():
    problem = scene(samples=30, quiet=10, maps=False)
    return Density.of(load_model("temporal")(problem))


def test_a_search_of_what_is_nearly_the_density_ends_at_its_mode(density):
    assert NearbyDensity.by_modes_at(density, density.start) is not None
    found = modes(density, CONVERGED)
    log_density, point, covariance = found[0]
    simplex = minimize(lambda one: -density(one[None])[0], point + 0.3, method="Nelder-Mead", options={"xatol": 1e-6})
    assert_allclose(log_density, -simplex.fun, atol=1e-6)
    assert (point - simplex.x) @ np.linalg.solve(covariance, point - simplex.x) < 2 * CONVERGED
    rough = modes(density)[0][1] - point
    assert rough @ np.linalg.solve(covariance, rough) < 4 * NEAR_A_MODE


def test_where_more_than_the_constant_is_learned_there_is_no_such_density():
    problem = scene(samples=30, quiet=10, maps=False)
    other = Density.of(load_model("sensor_noise")(problem))
    assert NearbyDensity.by_modes_at(other, other.start) is None
