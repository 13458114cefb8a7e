"""Patches next to each other, and the directions in which sources deviate from theirs."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from referee import toy
from structured import scene

import bayesinv as bi


def test_neighbours_are_the_next_places_and_extents():
    problem = scene()
    count = problem.source_count
    given = bi.Patches(problem, extents=(0, 0.03, 0.05))
    found = given.neighbours.patches
    edges = {frozenset(edge) for one in problem.sources.triangles for edge in (one[[0, 1]], one[[1, 2]], one[[2, 0]])}
    for patch in range(3 * count):
        place, extent = patch % count, patch // count
        wanted = {other + extent * count for other in range(count) if frozenset((place, other)) in edges}
        wanted |= {place + other * count for other in (extent - 1, extent + 1) if 0 <= other < 3}
        assert set(found[patch]) - {patch} == wanted


def test_without_triangles_they_are_the_nearest_places_of_a_hemisphere():
    grid = np.stack(np.meshgrid(*[0.01 * np.arange(3)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    hemispheres = (grid[:, 0] > 0.015).astype(int)
    problem = toy(sources=27)
    sources = replace(problem.sources, positions=grid, hemispheres=hemispheres)
    found = bi.Patches(replace(problem, sources=sources), extents=(0,)).neighbours.patches
    for place in range(27):
        apart = np.linalg.norm(grid - grid[place], axis=1)
        wanted = np.flatnonzero((apart > 0) & (apart < 0.011) & (hemispheres == hemispheres[place]))
        assert set(found[place]) - {place} == set(wanted)


@pytest.mark.parametrize("axes", [1, 3])
def test_directions_hold_most_of_what_neighbours_differ_by(axes):
    problem = scene() if axes == 1 else toy(sensors=20, sources=60, axes=3)
    given = bi.Patches(problem, extents=(0,))
    found, fields = given.neighbours, given.fields_in(problem.gain).transpose(2, 0, 1)
    some = np.flatnonzero((found.patches != np.arange(problem.source_count)[:, None]).sum(axis=1) > 1)[:5]
    assert len(some) == 5
    for patch in some:
        others = np.unique(found.patches[patch][found.patches[patch] != patch])
        differences = (fields[:, others] - fields[:, [patch]]).transpose(0, 2, 1).reshape(-1, len(others))
        left, values, _ = np.linalg.svd(differences / np.sqrt(len(others)), full_matrices=False)
        along = found.fields_along(fields.swapaxes(0, 1).__getitem__, np.array([patch]))[0]
        assert_allclose(along[:, 0], fields[:, patch])
        got = along[:, 1:].transpose(0, 2, 1).reshape(-1, found.count)
        kept = min(found.count, len(values))
        # The first terms of the singular value decomposition, each up to its sign.
        wanted = (left * values)[:, :kept]
        assert_allclose(np.abs(np.sum(got[:, :kept] * wanted, axis=0)), values[:kept] ** 2, rtol=1e-8)
        assert_allclose(np.linalg.norm(got, axis=0)[:kept], values[:kept], rtol=1e-8)


def test_a_source_that_deviates_is_a_blend_whose_shares_sum_to_one():
    given = bi.Patches(scene(), extents=(0, 0.03))
    rng = np.random.default_rng(0)
    patches = np.array([3, 17, 3])
    deviations = rng.normal(size=(3, given.neighbours.count))
    patterns = given.patterns(patches, deviations)
    assert_allclose(np.asarray(patterns.sum(axis=0)).ravel(), 1)
    fields = given.fields_in(given.problem.gain).swapaxes(1, 2)
    along = given.neighbours.fields_along(fields.__getitem__, patches)[..., 0]
    wanted = along[:, :, 0] + np.einsum("scd,sd->sc", along[:, :, 1:], deviations)
    assert_allclose((given.problem.gain @ patterns).T, wanted, atol=1e-9 * np.abs(wanted).max())


def test_patches_are_taken_as_they_are_where_nothing_is_next_to_them():
    problem = bi.Problem.from_arrays(np.ones((3, 5)), np.ones((3, 4)))
    assert bi.Patches(problem).neighbours.count == 0
    assert bi.Patches(scene(), deviation=0).neighbours.count == 0
    assert bi.Patches(toy(sources=1), extents=(0,)).neighbours.count == 0
