"""Currents of neighbours: what goes together in a region is told, by the dense density's own numbers."""

from dataclasses import replace

import numpy as np
import pytest
from coloured import STEP
from numpy.testing import assert_allclose
from structured import scene

import bayesinv as bi
from bayesinv.covariance.covariance import Structure
from bayesinv.geometry.icosphere import geodesic_sphere
from bayesinv.inference import neighbours
from bayesinv.inference.neighbours import COUNT, LIMIT

NAME = "currents of neighbours"
SENSORS, SAMPLES, QUIET = 40, 60, 50


def shell(triangles=True):
    """Sources 7 to 9 mm apart on a small sphere, whose normals stand every way, as on a folded sheet."""
    sphere = geodesic_sphere(6)
    normals = np.random.default_rng(5).standard_normal(sphere.vertices.shape)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return bi.Sources(0.045 * sphere.vertices, normals, sphere.triangles if triangles else None)


def recorded(seed, length, triangles=True, snr=3.0):
    """White currents of a field of some length (m; 0 for none) on a sphere, seen by point charges around it."""
    rng = np.random.default_rng(seed)
    sources, sensors = shell(triangles), 0.07 * rng.standard_normal((SENSORS, 3))
    sensors *= 0.07 / np.linalg.norm(sensors, axis=1, keepdims=True)
    apart = sensors[:, None] - sources.positions
    gain = np.sum(apart * sources.normals, axis=2) / np.linalg.norm(apart, axis=2) ** 3
    currents = rng.standard_normal((len(sources), SAMPLES))
    if length:
        whole = bi.Problem.from_arrays(gain, np.ones((SENSORS, 1)), np.eye(SENSORS), sources=shell())
        currents = Structure(length=length).sample(whole, currents)
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


@pytest.mark.parametrize("triangles", [True, False], ids=["mesh", "positions"])
def test_regions_of_a_smooth_field_are_told_and_hold_too_little(triangles):
    problem, currents = recorded(1, 0.05, triangles)
    posterior = bi.infer("hierarchical", problem, draws=50)
    regions = neighbours._means(problem, np.arange(0, problem.source_count, 9))[0]
    low, high = posterior.contrast(regions).interval(0.9)
    truth = regions @ currents
    # What the check is for.
    assert np.mean((low <= truth) & (truth <= high)) < 0.7
    check = check_of(posterior)
    assert not check.passed
    assert check.value > 1.1 * LIMIT
    assert '"smooth"' in check.note


def test_a_prior_that_learns_the_length_passes():
    problem, currents = recorded(1, 0.05)
    posterior = bi.infer("smooth", problem, draws=50)
    regions = neighbours._means(problem, np.arange(0, problem.source_count, 9))[0]
    low, high = posterior.contrast(regions).interval(0.9)
    truth = regions @ currents
    assert 0.86 < np.mean((low <= truth) & (truth <= high)) < 0.94
    assert check_of(posterior).value == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("seed", range(6))
def test_independent_currents_pass(seed):
    check = check_of(bi.infer("hierarchical", recorded(seed, 0.0, seed % 2)[0], draws=50))
    assert check.passed
    assert check.value < 1.3


@pytest.mark.parametrize("axes", [1, 3])
@pytest.mark.parametrize("triangles", [True, False], ids=["mesh", "positions"])
def test_terms_are_those_of_dense_algebra(axes, triangles):
    problem = scene(axes)
    sources = problem.sources if triangles else replace(problem.sources, triangles=None)
    problem = replace(problem, sources=sources)
    own = Structure(depth=0.6)
    half, count = np.sqrt(own.diagonal(problem)), problem.source_count
    if triangles:
        within = Structure(length=neighbours.LENGTH).product(problem, np.eye(count * axes))
    else:
        apart = np.linalg.norm(sources.positions[:, None] - sources.positions, axis=2)
        near = 1.0 * (apart <= neighbours.REGION) * (sources.hemispheres[:, None] == sources.hemispheres)
        sizes = near.sum(axis=0)
        within = np.kron(near.T @ near / np.sqrt(np.outer(sizes, sizes)), np.eye(axes))
        assert_allclose(np.diag(within), 1)
    covariance = half[:, None] * within * half
    gram, ratios = neighbours._together(problem, own)
    assert_allclose(gram, problem.gain @ covariance @ problem.gain.T, rtol=1e-8, atol=1e-10 * gram.max())
    centres = np.linspace(0, count - 1, COUNT).astype(int)
    tables = neighbours._means(problem, centres)
    expected = [np.mean([row @ covariance @ row / (row @ np.diag(half**2) @ row) for row in table]) for table in tables]
    assert_allclose(ratios, expected, rtol=1e-8)
    assert len(ratios) == (2 if axes == 1 else 1)


def test_what_lies_where_must_be_known_and_the_prior_another():
    problem = recorded(0, 0.0)[0]
    blind = replace(problem, sources=None)
    assert all(one.name != NAME for one in bi.infer("hierarchical", blind, draws=50).checks)
    # A prior whose currents go together over just these distances has nothing beside itself.
    assert (
        neighbours.neighbours_checks(
            problem, replace(bi.infer("hierarchical", problem, draws=50).mixture, structures=(Structure(length=0.02),))
        )
        == []
    )


def test_triangles_that_make_no_surface_count_as_none():
    problem = recorded(1, 0.05, triangles=False)[0]
    twice = np.vstack([shell().triangles, shell().triangles[:1]])
    torn = replace(problem, sources=replace(problem.sources, triangles=twice))
    with pytest.raises(ValueError, match="come twice"):
        torn.surface  # noqa: B018
    expected = check_of(bi.infer("hierarchical", problem, draws=50))
    assert check_of(bi.infer("hierarchical", torn, draws=50)).value == pytest.approx(expected.value, rel=1e-9)
