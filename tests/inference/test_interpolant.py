"""A few structures stand for all: the density between them, and the currents mixed over them."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from numpy.testing import assert_allclose
from structured import scene

import bayesinv as bi
from bayesinv.inference import assemble as result
from bayesinv.inference.assemble import mixture
from bayesinv.inference.interpolant import EXACT, Interpolant
from bayesinv.inference.quadrature import integrate
from bayesinv.prior.catalogue import build
from bayesinv.prior.density import Density


@pytest.fixture(scope="module", params=["depth_weighted", "oriented", "sensor_noise", "smooth", "temporal"])
def found(request):
    name = request.param
    problem = scene(3 if name == "oriented" else 1, samples=40, quiet=10)
    density = Density.of(build(name, problem)[1])
    return bi.infer(name, problem, draws=500), density, integrate(density)


def test_the_density_between_structures_is_as_exact_as_told(found, rng):
    _, _, lattice = found
    interpolant = lattice.interpolant
    sides = [lattice.step * np.unique(lattice.index[:, axis]) for axis in range(lattice.index.shape[1])]
    columns = np.array(list(product(*sides[interpolant.structural :])))
    rows = interpolant.log_densities(np.zeros((1, interpolant.structural)), columns)
    places = rng.normal(0, 1, (12, interpolant.structural))
    exact, interpolated = interpolant.log_densities(places, columns), interpolant._between(places, columns)
    share = np.exp(exact - rows.max())
    share /= np.exp(rows - rows.max()).sum()
    assert np.sum(share * np.abs(interpolated - exact), axis=1).max() < 2 * EXACT
    assert interpolant.error <= EXACT


def test_currents_mixed_over_few_structures_are_those_mixed_over_all(found, monkeypatch):
    posterior, density, lattice = found
    monkeypatch.setattr(result, "MOST_STRUCTURES", 2000)
    full, _ = mixture(density, lattice.weights, lattice.nodes, lightest=0.0)
    every = replace(posterior, mixture=full)
    assert len(posterior.mixture.structures) < len(full.structures)
    # The number of points is chosen for a normal posterior of the structure, which these few data do not give.
    assert np.abs((posterior.mean - every.mean) / every.sd).max() < 5e-3
    assert_allclose(posterior.sd, every.sd, rtol=5e-3)
    assert_allclose(posterior.mixture.weights.sum(), 1)


def test_two_modes_are_not_bridged_by_following_the_mass():
    """Mass that lies in two places is found only where every structure is worked out."""

    class Twice:
        dimension, structural = 2, (0,)

        def __call__(self, nodes):
            return np.logaddexp(-0.5 * (nodes[:, 0] + 6) ** 2, -0.5 * (nodes[:, 0] - 6) ** 2) - 0.5 * nodes[:, 1] ** 2

    columns = np.linspace(-4, 4, 9)[:, None]
    low, high = np.array([-9.0]), np.array([2.0])
    followed, worked = (Interpolant(Twice(), np.array([6.0, 0.0]), np.eye(2), 1) for _ in range(2))
    followed.explore(low, high, columns)
    worked.explore(low, high, columns, whole=True)
    assert min(followed.known)[0] > -6
    assert min(worked.known)[0] <= -8
