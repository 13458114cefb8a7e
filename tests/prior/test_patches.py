"""The dictionary of patches and its priors."""

import copy
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from referee import toy
from scipy.sparse.csgraph import dijkstra
from scipy.stats import kstest, truncnorm
from structured import scene

import bayesinv as bi
from bayesinv.covariance.covariance import Structure
from bayesinv.covariance.time_course import correlation_over_time
from bayesinv.geometry.geodesic import edge_lengths
from bayesinv.prior.patches import FARTHEST, head_of_prior
from bayesinv.prior.samples import draw_recording


def uneven():
    """Sources on two sheets of triangles, of different area."""
    problem = scene()
    areas = 1e-4 * np.random.default_rng(5).uniform(0.5, 2, problem.source_count)
    return replace(problem, sources=replace(problem.sources, areas=areas))


def test_patches_are_what_lies_within_an_extent_along_the_cortex():
    problem = uneven()
    sources = problem.sources
    distance = dijkstra(edge_lengths(sources), directed=False)
    step = float(np.min(distance[distance > 0]))
    given = bi.Patches(problem, extents=(0, 1.5 * step))
    table, count = given.table.toarray(), len(sources)
    assert table.shape == (count, 2 * count)
    assert_allclose(table.sum(axis=0), 1)
    assert_allclose(table[:, :count], np.eye(count))
    assert ((table[:, count:] > 0) == (1.5 * step >= distance.T)).all()
    inside = table[:, count] > 0
    assert_allclose(table[inside, count], sources.areas[inside] / sources.areas[inside].sum())
    assert (given.centres == np.tile(np.arange(count), 2)).all()
    assert_allclose(given.fields_in(problem.gain)[:, 0].T, problem.gain @ table)


def test_of_free_orientation_a_patch_has_a_field_per_axis():
    problem = toy(axes=3)
    given = bi.Patches(problem, extents=(0, 0.09))
    fields = given.fields_in(problem.gain).transpose(2, 0, 1)
    table = given.table.toarray()
    gain = problem.gain.reshape(problem.components, -1, 3)
    assert_allclose(fields, np.einsum("csa,sp->cpa", gain, table))


def test_hemispheres_share_no_patch():
    problem = toy()
    hemispheres = np.arange(problem.source_count) % 2
    sides = bi.Problem.from_arrays(
        problem.gain, problem.recording, sources=replace(problem.sources, hemispheres=hemispheres)
    )
    table = bi.Patches(sides, extents=(0, 0.5)).table.toarray()[:, problem.source_count :]
    assert ((table > 0) == (hemispheres[:, None] == hemispheres)).all()


def test_places_are_probable_by_their_area():
    problem = uneven()
    given = bi.Patches(problem)
    each = np.exp(given.log_prior)
    assert_allclose(each.sum(), 1)
    areas = problem.sources.areas
    assert_allclose(each[: len(areas)] / each[0], areas / areas[0])


@pytest.mark.slow
def test_draws_have_the_covariance_of_the_prior():
    problem = toy(samples=4, sources=5, sensors=3)
    given = bi.Patches(problem, extents=(0,), expected=1.5, most=3, time=0.02, error=0)
    rng = np.random.default_rng(0)
    levels, mass = given.strengths
    power = np.exp(mass) @ levels**2
    drawn = []
    counts = []
    for _ in range(4000):
        patterns, strength, constant, error, head = given.draw(rng)
        counts.append(patterns.shape[1])
        drawn.append(strength)
        assert constant == 0.02
        assert error == 0
        assert not head.size
    assert abs(np.mean(counts) - 1.5) < 4 * np.std(counts) / np.sqrt(4000)
    strengths = np.concatenate(drawn)
    for level in levels[::6]:
        share = np.exp(mass)[levels <= level].sum()
        assert abs(np.mean(strengths <= level) - share) < 4 * np.sqrt(share * (1 - share) / len(strengths)) + 1e-9
    assert power > 0
    current, field = draw_recording(problem, Structure(), 1e-40, 1e-9, rng, given)
    assert_allclose(field, problem.gain @ current, atol=1e-7)


def test_heads_are_normal_and_not_far_from_the_mean():
    heads = head_of_prior(20000, np.random.default_rng(0))
    assert np.abs(heads).max() < FARTHEST
    assert kstest(heads, truncnorm(-FARTHEST, FARTHEST).cdf).pvalue > 1e-3


@pytest.mark.parametrize(("axes", "modes"), [(1, 0), (3, 0), (1, 2)])
def test_currents_and_recordings_are_drawn_with_the_covariance_of_the_prior(axes, modes):
    problem = toy(samples=4, sources=5, sensors=3, axes=axes)
    if modes:
        varied = np.random.default_rng(8).normal(size=(modes, *problem.gain.shape))
        problem = replace(problem, gain_modes=np.abs(problem.gain).mean() * varied)
    given = bi.Patches(problem, extents=(0, 0.08), expected=1.5, most=3)
    variance, noise = 0.5 * problem.scale_guess**2, 0.9
    rng, white = np.random.default_rng(3), []
    for _ in range(300):
        patterns, strength, constant, error, head = given.draw(copy.deepcopy(rng))
        current, field = draw_recording(problem, Structure(), variance, noise, rng, given)
        course = correlation_over_time(problem.times, constant)
        spatial = variance * problem.gain @ problem.gain.T
        # Sources have the gain of their head.
        gain = problem.gain + np.tensordot(head, problem.gain_modes, axes=1) if modes else problem.gain
        for one, size in zip(patterns.toarray().T, strength, strict=True):
            spread = gain @ np.kron(one[:, None], np.eye(axes))
            spatial += size**2 * spread @ spread.T
        # The recording is held against the dense covariance; currents by what of it they do not explain.
        total = np.kron(spatial + error**2 * np.eye(3), course)
        total += noise**2 * np.eye(len(total))
        white.append(np.linalg.solve(np.linalg.cholesky(total), field.ravel()))
        left = np.kron(np.eye(3), error**2 * course + noise**2 * np.eye(4))
        if not modes:
            white.append(np.linalg.solve(np.linalg.cholesky(left), (field - problem.gain @ current).ravel()))
    found = np.array(white)
    for part in (found,) if modes else (found[::2], found[1::2]):
        assert kstest(part.ravel(), "norm").pvalue > 1e-3
        assert abs(np.mean(part**2) - 1) < 4.5 * np.sqrt(2 / part.size)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"expected": 0}, "expected is 0, but the number of sources that is expected must be positive"),
        ({"expected": 30}, "less than the 12 there may be at most"),
        ({"expected": 7}, "the recording has 6 components"),
        ({"most": 2.5}, "most is 2.5, but must be a whole number"),
        ({"extents": (0, 1e-4)}, "an extent of 0.1 mm is below the spacing of the sources"),
        ({"extents": (-1,)}, "must be distances of at least 0 m"),
        ({"extents": ()}, "must be distances of at least 0 m"),
        ({"scale": 0.0}, "scale is 0.0, but the median strength must be positive"),
        ({"error": -1}, "error is -1, but must be at least 0"),
        ({"deviation": np.nan}, "deviation is nan, but must be at least 0"),
        ({"time": "fast"}, "time is 'fast', but must be 'learned'"),
        ({"time": -0.1}, "a time constant must be positive"),
    ],
)
def test_bad_input_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        bi.Patches(toy(), **options)


def test_extents_want_positions():
    problem = bi.Problem.from_arrays(np.ones((3, 5)), np.ones((3, 4)))
    with pytest.raises(ValueError, match=r"this problem has none; use extents=\(0,\)"):
        bi.Patches(problem, extents=(0, 0.01))
    assert bi.Patches(problem).table.shape == (5, 5)
