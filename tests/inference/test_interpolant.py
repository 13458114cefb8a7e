"""A few structures represent all: the density between them, and the currents mixed over them."""

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
from bayesinv.inference.integration import integrate
from bayesinv.inference.interpolant import DENSITY_TOLERANCE, Interpolant


@pytest.fixture(
    scope="module",
    params=["depth_weighted", pytest.param("oriented", marks=pytest.mark.slow), "sensor_noise", "smooth", "temporal"],
)
def found(request):
    name = request.param
    problem = scene(3 if name == "oriented" else 1, samples=40, quiet=10)
    kept = []

    def kept_integrate(density, *args, **given):
        kept[:] = density, integrate(density, *args, **given)
        return kept[1]

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("bayesinv.inference.colours_apart.integrate", kept_integrate)
        posterior = bi.infer(name, problem, draws=500)
    return posterior, *kept


def test_the_density_between_structures_is_as_exact_as_reported(found, rng):
    _, _, lattice = found
    interpolant = lattice.interpolant
    axes_points = [lattice.step * np.unique(lattice.index[:, axis]) for axis in range(lattice.index.shape[1])]
    columns = np.array(list(product(*axes_points[interpolant.structural :])))
    rows = interpolant.log_densities(np.zeros((1, interpolant.structural)), columns)
    points = rng.normal(0, 1, (12, interpolant.structural))
    exact, interpolated = interpolant.log_densities(points, columns), interpolant._between(points, columns)
    share = np.exp(exact - rows.max())
    share /= np.exp(rows - rows.max()).sum()
    assert np.sum(share * np.abs(interpolated - exact), axis=1).max() < 2 * DENSITY_TOLERANCE
    assert interpolant.error <= DENSITY_TOLERANCE


def test_currents_mixed_over_few_structures_are_those_mixed_over_all(found, monkeypatch):
    posterior, density, lattice = found
    monkeypatch.setattr(result, "MAX_MIXTURE_STRUCTURES", 2000)
    full, _ = mixture(density, lattice.weights, lattice.nodes, merged=0.0)
    every = replace(posterior, mixture=full)
    assert len(posterior.mixture.structures) < len(full.structures)
    # The number of points is chosen for a normal posterior of the structure, which these few data do not give.
    assert np.abs((posterior.mean - every.mean) / every.sd).max() < 5e-3
    assert_allclose(posterior.sd, every.sd, rtol=5e-3)
    assert_allclose(posterior.mixture.weights.sum(), 1)


def test_neighbours_of_probable_structures_do_not_lead_to_another_mode():
    """Mass that lies in two places is found only where every structure is evaluated."""

    class Twice:
        dimension, structural = 2, (0,)

        def __call__(self, nodes):
            return np.logaddexp(-0.5 * (nodes[:, 0] + 6) ** 2, -0.5 * (nodes[:, 0] - 6) ** 2) - 0.5 * nodes[:, 1] ** 2

    columns = np.linspace(-4, 4, 9)[:, None]
    low, high = np.array([-9.0]), np.array([2.0])
    extended, complete = (Interpolant(Twice(), np.array([6.0, 0.0]), np.eye(2), 1) for _ in range(2))
    extended.explore(low, high, columns)
    complete.explore(low, high, columns, everywhere=True)
    assert min(extended.evaluated)[0] > -6
    assert min(complete.evaluated)[0] <= -8


def test_no_density_is_worked_out_twice_however_the_lattice_grows():
    asked = []

    def density(nodes):
        asked.extend(map(tuple, nodes))
        return -np.cosh(nodes[:, 0]) - 0.5 * (nodes[:, 1] - nodes[:, 0]) ** 2

    one, other = (Interpolant(density, np.array([0.3, -1.0]), np.array([[1.0, 0.0], [0.4, 2.0]]), 1) for _ in range(2))
    columns, points = np.arange(-2.0, 3.0)[:, None], np.array([[-0.7], [0.2]])
    one.evaluated += [(-1.0,), (0.0,), (1.0,)]
    one.at(points, columns[1:4])
    one.at(points, columns)
    one.evaluated.append((2.0,))
    one.at(points, columns[2:])
    found = one.at(points, columns[::-1])
    assert len(asked) == len(set(asked)) == 4 * 5
    other.evaluated += one.evaluated
    assert_allclose(found, other.at(points, columns)[:, ::-1], rtol=1e-12)
