"""Densities, slopes and curvatures of many nodes at once, where amplitudes are independent in groups."""

from dataclasses import replace

import numpy as np
import pytest
from coloured import coloured
from numpy.testing import assert_allclose
from referee import toy

import bayesinv as bi
from bayesinv.inference.curvature import exact_curvature
from bayesinv.inference.variances import Variances, applies
from bayesinv.prior.density import Density

pytestmark = pytest.mark.filterwarnings("ignore:the whitened baseline:UserWarning")

GIVEN = [{}, {"quiet": 0}, {"centred": True}, {"axes": 3}]


def parcels(axes=1, quiet=9, centred=False):
    labels = np.repeat([0, 1, 2, 3, -1], [3, 3, 2, 2, 1])
    return toy(axes=axes, quiet=quiet, centred=centred).with_parcels(labels)


def variances_of(problem):
    return Variances.of(Density.of(bi.load_model("multiple_sparse_priors")(problem)))


def some_nodes(density, rng, count=3):
    return density.start + 0.3 * rng.standard_normal((count, density.dimension))


@pytest.fixture(scope="module", params=GIVEN, ids=str)
def found(request):
    return variances_of(parcels(**request.param))


class TestDensity:
    def test_it_is_that_of_the_model(self, rng, found):
        nodes = some_nodes(found.density, rng)
        assert_allclose(found(nodes)[0], found.density(nodes), rtol=1e-10)

    def test_its_slope_is_that_of_the_model(self, rng, found):
        nodes = some_nodes(found.density, rng)
        wanted = np.stack([found.density.slope(node)[1] for node in nodes])
        # Those of the model are differences of the prior.
        assert_allclose(found(nodes)[1], wanted, atol=1e-6 * np.abs(wanted).max())

    def test_curvature_is_the_difference_of_slopes(self, rng, found):
        point = some_nodes(found.density, rng)[0]
        shifts = 1e-3 * np.eye(len(point))
        wanted = (found(point + shifts)[1] - found(point - shifts)[1]) / 2e-3
        exact = exact_curvature(found, point, np.arange(len(point)))
        assert_allclose(exact, wanted, atol=1e-4 * np.abs(wanted).max())


class TestGroups:
    def test_a_parcel_is_one(self):
        found = variances_of(parcels())
        assert found.grams.shape == (4, found.recording.shape[0] ** 2)
        assert_allclose(found.starts, [0, 3, 6, 8])

    def test_noise_is_made_white_over_time(self, rng):
        found = variances_of(coloured(groups=2).with_parcels(np.repeat([0, 1, 2], 3)))
        nodes = some_nodes(found.density, rng)
        assert_allclose(found(nodes)[0], found.density(nodes), rtol=1e-10)

    def test_where_it_is_not_defined_it_is_minus_infinity(self):
        found = variances_of(parcels())
        nodes = np.stack([found.density.start, found.density.start + 1e4])
        log_density, slopes = found(nodes)
        assert np.isfinite(log_density[0])
        assert log_density[1] == -np.inf
        assert not slopes[1].any()

    def test_there_is_none_of_other_structure(self):
        assert not applies(Density.of(bi.load_model("depth_weighted")(toy())))

    def test_there_is_none_where_groups_are_many(self, monkeypatch):
        monkeypatch.setattr("bayesinv.inference.variances.MAX_NUMBERS", 10)
        assert variances_of(parcels()) is None


class TestReached:
    def test_components_that_currents_do_not_reach_are_noise(self, rng):
        """A gain of rank 4 in 7 components."""
        gain = 1e8 * rng.standard_normal((7, 4)) @ rng.standard_normal((4, 11))
        problem = bi.Problem.from_arrays(gain, rng.standard_normal((7, 5)), baseline=rng.standard_normal((7, 9)))
        found = variances_of(problem.with_parcels(np.repeat([0, 1, 2], [4, 4, 3])))
        nodes = some_nodes(found.density, rng)
        fewer = found.reached(nodes)
        assert fewer.recording.shape == (4, 4)
        assert fewer.covers(nodes[0])
        assert not replace(fewer, limits=fewer.limits - 10).covers(nodes[0])
        assert_allclose(found.reached(nodes, 7.0).limits, fewer.limits + np.log(7))
        for one, other in zip(fewer(nodes), found(nodes), strict=True):
            assert_allclose(one, other, rtol=1e-8, atol=1e-8)


class TestExpectedCurvature:
    def test_it_is_that_of_a_recording_with_the_expected_second_moment(self, rng):
        """Y = root Q with Q Qᵀ = T makes Y Yᵀ what its covariance expects; so is the power of the baseline."""
        found = variances_of(parcels())
        point = some_nodes(found.density, rng)[0]
        logs, noise = found.logs(point[None])
        variances, noise = np.exp(logs[0]), float(np.exp(noise[0]))
        size, samples = len(found.recording), 20
        covariance = (variances @ found.grams).reshape(size, size) + noise * np.eye(size)
        orthonormal = np.linalg.qr(rng.standard_normal((samples, size)))[0].T
        recording = np.sqrt(samples) * np.linalg.cholesky(covariance) @ orthonormal
        typical = replace(found, recording=recording, samples=samples, quiet_power=noise * found.quiet_count)
        other = replace(found, recording=rng.standard_normal((size, samples)), samples=samples)
        free = np.arange(len(point))
        wanted = exact_curvature(typical, point, free)
        assert_allclose(exact_curvature(other, point, free, expected=True), wanted, atol=1e-6 * np.abs(wanted).max())
        assert np.linalg.eigvalsh(wanted).max() < 0
