"""Currents of neighbours: what goes together in a region is told, and terms are those of dense algebra."""

from dataclasses import replace

import numpy as np
import pytest
from coloured import STEP
from numpy.testing import assert_allclose
from scipy.stats import chi2
from structured import scene

import bayesinv as bi
from bayesinv.covariance.covariance import Structure
from bayesinv.geometry.icosphere import geodesic_sphere
from bayesinv.inference import neighbours
from bayesinv.inference.neighbours import CELL, COUNT, LIMIT

NAME = "currents of neighbours"
SENSORS, SAMPLES, QUIET = 40, 60, 50


def shell(triangles=True):
    """Sources 7 to 9 mm apart on a small sphere, whose normals stand every way, as on a folded sheet."""
    sphere = geodesic_sphere(6)
    normals = np.random.default_rng(5).standard_normal(sphere.vertices.shape)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return bi.Sources(0.045 * sphere.vertices, normals, sphere.triangles if triangles else None)


def recorded(seed, length, triangles=True, snr=3.0, shared=0.0):
    """White currents on a sphere, seen by point charges around it.

    length : m, of a smooth field; 0 for none
    shared : size of a course that all places have
    """
    rng = np.random.default_rng(seed)
    sources, sensors = shell(triangles), 0.07 * rng.standard_normal((SENSORS, 3))
    sensors *= 0.07 / np.linalg.norm(sensors, axis=1, keepdims=True)
    apart = sensors[:, None] - sources.positions
    gain = np.sum(apart * sources.normals, axis=2) / np.linalg.norm(apart, axis=2) ** 3
    currents = rng.standard_normal((len(sources), SAMPLES))
    if length:
        whole = bi.Problem.from_arrays(gain, np.ones((SENSORS, 1)), np.eye(SENSORS), sources=shell())
        currents = Structure(length=length).sample(whole, currents)
    currents = currents + shared * rng.standard_normal((1, SAMPLES))
    size = np.sqrt(snr / np.mean((gain @ currents) ** 2))
    noise = rng.standard_normal((SENSORS, SAMPLES + QUIET))
    problem = bi.Problem.from_arrays(
        gain,
        size * gain @ currents + noise[:, QUIET:],
        np.eye(SENSORS),
        times=STEP * np.arange(SAMPLES),
        baseline=noise[:, :QUIET],
        noise_time="white",
        sources=sources,
    )
    return problem, size * currents


def check_of(posterior):
    return next(one for one in posterior.checks if one.name == NAME)


def regions_of(problem):
    return neighbours._means(problem, np.arange(0, problem.source_count, 9))[0]


def held(posterior, currents):
    """Share of the means over regions that 90 % intervals hold."""
    regions = regions_of(posterior.problem)
    low, high = posterior.contrast(regions).interval(0.9)
    truth = regions @ currents
    return np.mean((low <= truth) & (truth <= high))


@pytest.mark.parametrize("triangles", [True, False], ids=["mesh", "positions"])
def test_regions_of_a_smooth_field_are_told_and_hold_too_little(triangles):
    problem, currents = recorded(1, 0.05, triangles)
    posterior = bi.infer("hierarchical", problem, draws=50)
    # What the check is for.
    assert held(posterior, currents) < 0.7
    check = check_of(posterior)
    assert not check.passed
    assert check.value > 1.1 * LIMIT
    assert '"smooth"' in check.note


def test_a_course_that_all_places_share_is_told():
    problem, currents = recorded(2, 0.0, shared=1.0)
    posterior = bi.infer("hierarchical", problem, draws=50)
    assert held(posterior, currents) < 0.6
    check = check_of(posterior)
    assert not check.passed
    assert check.value > 1.5 * LIMIT
    assert neighbours.EVERYWHERE in check.note
    assert "reference" in check.note


def test_a_prior_that_learns_the_length_passes():
    problem, currents = recorded(1, 0.05)
    posterior = bi.infer("smooth", problem, draws=50)
    assert 0.86 < held(posterior, currents) < 0.94
    check = check_of(posterior)
    assert check.passed
    assert check.value == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("seed", range(6))
def test_independent_currents_pass(seed):
    check = check_of(bi.infer("hierarchical", recorded(seed, 0.0, seed % 2)[0], draws=50))
    assert check.passed
    assert check.value < 1.3
    assert "may be chance" in check.note


@pytest.mark.parametrize("axes", [1, 3])
def test_terms_are_those_of_dense_algebra(axes):
    problem = scene(axes)
    sources, own = problem.sources, Structure(depth=0.6)
    half = np.sqrt(own.diagonal(problem))
    centres = np.linspace(0, problem.source_count - 1, COUNT).astype(int)
    found = neighbours._together(problem, own)
    assert len(found) == 2
    for (_, gram, ratios), size in zip(found, (CELL, np.inf), strict=True):
        corner = np.floor((sources.positions - sources.positions.min(axis=0)) / size)
        same = (corner[:, None] == corner).all(axis=2)
        if size == CELL:
            same &= sources.hemispheres[:, None] == sources.hemispheres
            assert 4 < len(np.unique(same, axis=0)) < problem.source_count / 2
        covariance = half[:, None] * np.kron(same, np.eye(axes)) * half
        assert_allclose(gram, problem.gain @ covariance @ problem.gain.T, rtol=1e-8, atol=1e-10 * gram.max())
        expected = [
            np.mean([row @ covariance @ row / (row @ np.diag(half**2) @ row) for row in table])
            for table in neighbours._means(problem, centres)
        ]
        assert_allclose(ratios, expected, rtol=1e-8)
        assert len(ratios) == (2 if axes == 1 else 1)


@pytest.mark.parametrize("squares", [1, 3, 40])
def test_chance_is_that_of_a_sum_of_squares(squares):
    for size in (-0.6, 0.5, 4.0):
        place = squares + size * np.sqrt(2 * squares)
        expected = 2 * min(chi2.sf(place, squares), chi2.cdf(place, squares))
        assert neighbours._chance(size, squares / 2) == pytest.approx(expected, rel=1e-10)


def test_what_lies_where_must_be_known():
    problem = recorded(0, 0.0)[0]
    blind = replace(problem, sources=None)
    assert all(one.name != NAME for one in bi.infer("hierarchical", blind, draws=50).checks)


def test_cells_of_one_source_each_tell_nothing():
    sources = bi.Sources(np.array([[0.0, 0, 0], [0.05, 0, 0], [0, 0.05, 0]]))
    assert len(np.unique(neighbours.cells(sources, CELL))) == 3
    assert len(np.unique(neighbours.cells(sources, None))) == 1


def test_regions_without_currents_do_not_count():
    problem = recorded(0, 0.0)[0]
    half = (np.arange(problem.source_count) < problem.source_count // 2).astype(float)
    for _, gram, ratios in neighbours._together(problem, Structure(weights=half)):
        assert np.isfinite(gram).all()
        assert (ratios > 1).any()
        assert np.isfinite(ratios).all()
