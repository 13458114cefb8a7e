"""A truth on another grid keeps its moment."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from bayesinv.head.sources import Sources
from bayesinv.scoring import projection
from bayesinv.simulation.truth import Truth


def unit(rng, count):
    normals = rng.normal(size=(count, 3))
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


class TestProjection:
    @pytest.fixture
    def truth(self, rng):
        places = rng.uniform(-0.07, 0.07, (23, 3))
        return Truth(Sources(places, unit(rng, 23)), rng.normal(size=(23, 4)), np.arange(4) / 100)

    @pytest.fixture
    def grid(self, rng):
        return Sources(rng.uniform(-0.07, 0.07, (5, 3)), unit(rng, 5))

    @pytest.mark.parametrize("axes", [1, 3])
    def test_every_vertex_goes_to_its_nearest_source(self, truth, grid, axes):
        wanted = np.zeros((5, 3, 4))
        for place, normal, course in zip(truth.sources.positions, truth.sources.normals, truth.current, strict=True):
            k = np.argmin([np.linalg.norm(place - other) for other in grid.positions])
            wanted[k] += normal[:, None] * course
        if axes == 1:
            wanted = np.einsum("sx,sxt->st", grid.normals, wanted)
        assert_allclose(projection.project(truth, grid, axes), wanted, atol=1e-12)

    def test_on_its_own_grid_a_truth_is_itself(self, truth):
        assert_allclose(projection.project(truth, truth.sources, 1), truth.current, rtol=1e-12)

    def test_vectors_keep_the_sum_of_all_currents(self, truth, grid):
        moment = np.einsum("vx,vt->xt", truth.sources.normals, truth.current)
        assert_allclose(projection.project(truth, grid, 3).sum(axis=0), moment, rtol=1e-10)

    def test_hemispheres_do_not_mix(self, rng):
        normals = np.tile([0.0, 0, 1], (2, 1))
        grid = Sources(np.array([[-0.03, 0, 0], [0.002, 0, 0]]), normals, hemispheres=[0, 1])
        truth = Truth(Sources(np.array([[-0.001, 0, 0]]), normals[:1], hemispheres=[0]), [[1.0, 2]], [0, 1])
        assert_array_equal(projection.project(truth, grid, 1), [[1, 2], [0, 0]])
        unknown = replace(grid, hemispheres=None)
        assert_array_equal(projection.project(truth, unknown, 1), [[0, 0], [1, 2]])

    def test_currents_of_unknown_direction(self, truth, grid):
        bare, still = replace(truth, sources=Sources(truth.sources.positions)), Sources(grid.positions)
        goal = projection.nearest(bare.sources, still)
        wanted = np.array([truth.current[goal == k].sum(axis=0) for k in range(5)])
        assert_allclose(projection.project(bare, still, 1), wanted, atol=1e-12)
        for one, other, axes, whose in (
            (bare, grid, 1, "truth's"),
            (truth, still, 1, "grid's"),
            (bare, grid, 3, "tru"),
        ):
            with pytest.raises(ValueError, match=f"the {whose}.*normals are not known|the {whose}"):
                projection.project(one, other, axes)
        with pytest.raises(ValueError, match="axes is 2"):
            projection.project(truth, grid, 2)
