"""One rule from a window of time to samples, and one for the signs within a region."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from referee import toy
from test_figures import believed, cortex, made

import bayesinv as bi
from bayesinv.posterior import maps, regions
from bayesinv.problem.windows import samples_of
from bayesinv.scoring import score as scores
from bayesinv.simulation.truth import Truth

TIMES = np.array([0.1, 0.11, 0.12, 0.13, 0.16])


@pytest.mark.parametrize(
    ("window", "samples"),
    [
        (None, [0, 1, 2, 3, 4]),
        ((0.11, 0.13), [1, 2, 3]),
        ((None, 0.12), [0, 1, 2]),
        ((0.12, None), [2, 3, 4]),
        ((0.11 + 1e-9, 0.12 - 1e-9), [1, 2]),
        (0.12, [2]),
        (0.124, [2]),
        (np.float32(0.13), [3]),
        (0.08, [0]),
        (0.18, [4]),
        (slice(1, 3), [1, 2]),
        (slice(-2, None), [3, 4]),
        (slice(0, 5, 2), [0, 2, 4]),
    ],
)
def test_a_window_holds(window, samples):
    assert np.arange(5)[samples_of(TIMES, window)].tolist() == samples


@pytest.mark.parametrize(
    ("window", "words"),
    [
        ((0.2, 0.3), "no sample between 0.2 and 0.3 s; the recording runs from 0.1 to 0.16 s"),
        ((0.13, 0.12), "no sample between"),
        (0.2, "no sample near 0.2 s"),
        (-1, "no sample near -1 s"),
        (float("nan"), "no sample near nan s"),
        ((np.nan, 0.12), "its ends must be times in s or None"),
        (True, "window is True; give"),
        ((True, 0.12), "its ends must be times"),
        ((0.1, 0.12, 0.13), r"window is \(0\.1, 0\.12, 0\.13\); give"),
        ("0.1", "window is '0.1'; give"),
        (slice(7, 9), "holds none of the 5 samples"),
    ],
)
def test_what_is_no_window_is_refused(window, words):
    with pytest.raises(ValueError, match=words):
        samples_of(TIMES, window)


@pytest.fixture(scope="module")
def posterior():
    return believed(made())


@pytest.mark.parametrize("window", [7.0, -0.5])
def test_a_time_far_from_any_sample_is_refused_everywhere(posterior, window):
    """Maps, peaks and regions once took the nearest sample, however far it was."""
    doors = (
        lambda: maps.posterior_maps(posterior, window),
        lambda: maps.averaged(posterior, window),
        lambda: maps.span(posterior, window),
        lambda: maps.strongest_region(posterior, window),
        lambda: posterior.interval(0.9, window),
        lambda: posterior.exceedance(1e-9, window),
        lambda: posterior.peak(window),
        lambda: posterior.draw(2, np.random.default_rng(0), window),
        lambda: posterior.contrast(np.ones(posterior.problem.source_count), window),
        lambda: posterior.averaged(window),
        lambda: bi.compare_estimates({"a": posterior}, time=window),
        lambda: bi.posterior_predictive(posterior, 5).topography(window),
    )
    for door in doors:
        with pytest.raises(ValueError, match="no sample near"):
            door()


def test_scores_have_the_same_rule(posterior, rng):
    current = np.zeros((len(posterior.problem.sources), len(posterior.times)))
    current[7] = 1e-9
    truth = Truth(posterior.problem.sources, current, posterior.times, {})
    with pytest.raises(ValueError, match="no sample near 7 s"):
        scores.score(posterior, truth, window=7.0)


def test_signs_flip_normals_that_point_against():
    normals = np.array([[1.0, 0, 0], [-1, 0.2, 0], [0, 1, 0]])
    assert regions.signs(normals, np.array([1.0, 0, 0])).tolist() == [1, -1, 1]
    assert regions.signs(normals, normals[::-1]).tolist() == [1, 1, 1]
    main = regions.main_direction(np.array([[1.0, 0, 0], [0.9, 0.1, 0], [-1, 0, 0]]))
    assert main[0] > 0.99
    assert regions.main_direction(toy().sources.normals) @ toy().sources.normals.sum(axis=0) != 0


def test_a_patch_is_drawn_with_the_signs_by_which_it_was_picked():
    """Normals of a sulcus: the patch's main direction is another than that of its centre.

    The patch was once picked by signs along the normal of its centre and drawn by those along its main direction, so
    that the time course at the window was not the current for which it was picked.
    """
    rng = np.random.default_rng(8)
    sources = cortex()
    normals = sources.normals + 2.0 * rng.standard_normal(sources.normals.shape)
    sources = replace(sources, normals=normals / np.linalg.norm(normals, axis=1, keepdims=True))
    problem = replace(made(), sources=sources)
    posterior = believed(problem)
    sample, radius = 4, 0.03
    moment = float(problem.times[sample])
    found = maps.posterior_maps(posterior, moment, radius=radius, draws=20)
    centre, index, time_course = maps.strongest_region(posterior, moment, radius)
    assert centre == found.strongest
    assert_allclose(time_course.mean[0, sample], found.mean[centre], rtol=1e-9)
    assert_allclose(time_course.sd[0, sample], found.sd[centre], rtol=1e-6)
    by_centre = regions.signs(sources.normals[index], sources.normals[centre])
    by_main = regions.signs(sources.normals[index], regions.main_direction(sources.normals[index]))
    assert abs(by_centre @ by_main) < len(index), "the two directions agree here, so that they are not distinguished"
