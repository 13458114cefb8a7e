"""Truths, their positions and patches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from bayesinv.geometry.geodesic import edge_lengths
from bayesinv.head import template_cortex
from bayesinv.head.sources import Sources
from bayesinv.simulation import courses as courses_simulation
from bayesinv.simulation import places as places_simulation
from bayesinv.simulation import truth as truth_simulation
from bayesinv.simulation import truths

TIMES = np.arange(-20, 41) / 250.0
LONG = np.arange(-50, 200) / 250.0


class TestPatch:
    def test_it_has_the_area_and_hangs_together(self, cortex):
        index = places_simulation.patch(cortex, cortex.positions[5000], 4e-4)
        area = cortex.areas[index].sum()
        assert 4e-4 <= area < 4e-4 + cortex.areas.max()
        edges = edge_lengths(cortex)[index][:, index]
        from scipy.sparse.csgraph import connected_components

        assert connected_components(edges, directed=False)[0] == 1
        assert 5000 in index

    def test_it_never_crosses_to_the_other_hemisphere(self, cortex):
        # The medial walls nearly touch; a ball would hold both.
        medial = int(np.argmin(np.abs(cortex.mri_positions[:, 0])))
        index = places_simulation.patch(cortex, cortex.positions[medial], 10e-4)
        assert len(set(cortex.hemispheres[index])) == 1

    @pytest.mark.parametrize("area", [0, -1, np.inf])
    def test_area_must_be_positive(self, cortex, area):
        with pytest.raises(ValueError, match="must be positive, in m²"):
            places_simulation.patch(cortex, cortex.positions[0], area)

    def test_area_larger_than_the_hemisphere_is_refused(self, cortex):
        with pytest.raises(ValueError, match=r"area is 1e\+04 cm², but that hemisphere of the cortex has"):
            places_simulation.patch(cortex, cortex.positions[0], 1.0)

    def test_sources_without_triangles_are_refused(self):
        with pytest.raises(ValueError, match="wants sources with triangles and areas"):
            places_simulation.patch(Sources(np.eye(3)), [0, 0, 0], 1e-4)

    def test_truth_has_its_moment_and_avoids_the_grid(self, cortex):
        grid = template_cortex.sources("oct4")
        centre = grid.positions[100]
        truth = truths.patch_truth(cortex, centre, TIMES, area=6e-4, moment=12e-9, avoid=grid)
        assert_allclose(np.abs(truth.course).max(), 12e-9, rtol=1e-12)
        used = {*zip(grid.vertices.tolist(), grid.hemispheres.tolist(), strict=True)}
        assert not used & {*zip(truth.sources.vertices.tolist(), truth.sources.hemispheres.tolist(), strict=True)}
        # Current per area is the same all over the patch.
        density = truth.current[:, truth.times == truth.peak_time][:, 0] / truth.sources.areas
        assert_allclose(density, density[0], rtol=1e-12)
        assert np.linalg.norm(truth.centre - centre) < 0.02

    def test_truth_without_a_free_vertex_is_refused(self, cortex):
        with pytest.raises(ValueError, match="every vertex of the patch is to be avoided"):
            truths.patch_truth(cortex, cortex.positions[0], TIMES, area=1e-6, avoid=cortex)

    def test_moment_must_be_positive(self, cortex):
        with pytest.raises(ValueError, match="moment is -1, but must be positive, in A m"):
            truths.patch_truth(cortex, cortex.positions[0], TIMES, moment=-1)


class TestPositions:
    def test_they_are_vertices_at_a_distance(self, cortex, rng):
        places = places_simulation.random_places(cortex, 4, rng, apart=0.04)
        assert np.linalg.norm(cortex.positions[:, None] - places, axis=2).min(axis=0).max() == 0
        distances = np.linalg.norm(places[:, None] - places, axis=2)[np.triu_indices(4, 1)]
        assert distances.min() >= 0.04

    def test_too_many_are_refused(self, rng):
        with pytest.raises(ValueError, match="4 places 30 mm apart do not fit"):
            places_simulation.random_places(Sources(0.1 * np.eye(3)), 4, rng)
        with pytest.raises(ValueError, match="count is 0"):
            places_simulation.random_places(Sources(0.1 * np.eye(3)), 0, rng)

    def test_tilt_is_a_gaussian_angle_in_any_direction(self, rng):
        up = np.tile([0.0, 0.0, 1.0], (20000, 1))
        tilted = places_simulation.tilted(Sources(rng.standard_normal((20000, 3)), up), 10.0, rng).normals
        assert_allclose(np.linalg.norm(tilted, axis=1), 1, rtol=1e-12)
        angle = np.degrees(np.arccos(np.minimum(tilted[:, 2], 1)))
        assert stats.kstest(angle, stats.halfnorm(scale=10.0).cdf).pvalue > 1e-3
        direction = np.arctan2(tilted[:, 1], tilted[:, 0])
        assert stats.kstest(direction, stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 1e-3

    def test_tilt_wants_normals_and_a_generator(self, scene):
        sources = scene[0].sources
        assert places_simulation.tilted(sources, 0.0, None) is sources
        with pytest.raises(ValueError, match="wants sources with normals, and rng"):
            places_simulation.tilted(sources, 5.0, None)
        with pytest.raises(ValueError, match="jitter is -1"):
            places_simulation.tilted(sources, -1, None)


class TestTruths:
    def test_dipoles_lie_where_asked_with_their_moments_and_courses(self, cortex):
        courses = np.array([courses_simulation.oscillation(LONG, f) for f in (4.0, 7.0)])
        truth = truths.dipole_truth(cortex, cortex.positions[[30, 9000]], LONG, moment=[1e-8, 3e-8], course=courses)
        assert_array_equal(truth.sources.positions, cortex.positions[[30, 9000]])
        assert_array_equal(truth.sources.normals, cortex.normals[[30, 9000]])
        assert_allclose(truth.current, [[1e-8], [3e-8]] * courses)
        assert_array_equal(truth.parts, [0, 1])
        single = truths.dipole_truth(cortex, cortex.positions[5], LONG, moment=2e-8)
        assert np.abs(single.current).max() == pytest.approx(2e-8)
        assert single.notes["truth"] == "1 dipole of 20 nA m"

    def test_dipoles_on_one_vertex_are_refused(self, cortex):
        with pytest.raises(ValueError, match="same nearest vertex"):
            truths.dipole_truth(cortex, cortex.positions[[3, 3]], LONG)

    def test_patch_is_tilted_by_its_jitter(self, cortex, rng):
        truth = truths.patch_truth(cortex, cortex.positions[700], LONG, area=40e-4, jitter=5.0, rng=rng)
        plain = truths.patch_truth(cortex, cortex.positions[700], LONG, area=40e-4)
        angle = np.degrees(np.arccos(np.minimum(np.sum(truth.sources.normals * plain.sources.normals, axis=1), 1)))
        assert np.sqrt(np.mean(angle**2)) == pytest.approx(5.0, rel=0.3)
        assert_array_equal(truth.sources.positions, plain.sources.positions)

    def test_spike_goes_from_one_patch_to_the_other(self, cortex):
        centres = cortex.positions[[700, 4000]]
        truth = truths.spike_truth(cortex, *centres, LONG, areas=(5e-4, 8e-4), moments=(9e-8, 4e-8), delay=0.024)
        onset, spread = (truth.current[truth.parts == part].sum(axis=0) for part in (0, 1))
        assert LONG[np.argmax(onset)] == pytest.approx(0.1)
        assert LONG[np.argmax(spread)] == pytest.approx(0.124)
        assert_allclose(spread[6:] / 4e-8, onset[:-6] / 9e-8, atol=2e-6)
        assert_allclose([onset.max(), spread.max()], [9e-8, 4e-8])
        area = [truth.sources.areas[truth.parts == part].sum() for part in (0, 1)]
        assert_allclose(area, [5e-4, 8e-4], atol=cortex.areas.max())
        assert_array_equal(truth.current[:, LONG < 0], 0)
        assert "24 ms later" in truth.notes["truth"]

    def test_patches_that_overlap_are_refused(self, cortex):
        with pytest.raises(ValueError, match="share sources"):
            truths.spike_truth(cortex, *cortex.positions[[700, 700]], LONG)
        with pytest.raises(ValueError, match="delay is -1"):
            truths.spike_truth(cortex, *cortex.positions[[700, 4000]], LONG, delay=-1)

    def test_together_keeps_every_current(self, cortex):
        one, two = (truths.dipole_truth(cortex, cortex.positions[i], LONG) for i in ([1, 9], [5000]))
        both = truth_simulation.together(one, two)
        assert_array_equal(both.current, np.concatenate([one.current, two.current]))
        assert_array_equal(both.parts, [0, 1, 2])
        assert_array_equal(both.sources.vertices, cortex.vertices[[1, 9, 5000]])
        with pytest.raises(ValueError, match="other times"):
            truth_simulation.together(one, truths.dipole_truth(cortex, cortex.positions[7], TIMES))
        with pytest.raises(ValueError, match="there are no truths to combine"):
            truth_simulation.together()

    def test_sparse_moments_are_lognormal_about_their_median(self, rng):
        sources = Sources(rng.standard_normal((3000, 3)))
        truth = truths.sparse_truth(sources, LONG, rng, active=2000, course=courses_simulation.burst)
        peak = np.abs(truth.current).max(axis=1)
        assert np.count_nonzero(peak) == 2000
        log = np.log(peak[peak > 0] / 20e-9)
        assert stats.kstest(log, stats.norm(scale=0.2).cdf).pvalue > 1e-3

    def test_sparse_truth_wants_as_many_sources(self, rng):
        with pytest.raises(ValueError, match="active is 4, but must be 1 to the number of sources, 3"):
            truths.sparse_truth(Sources(np.eye(3)), LONG, rng, active=4)
        with pytest.raises(ValueError, match="median is 0"):
            truths.sparse_truth(Sources(np.eye(3)), LONG, rng, active=1, median=0)

    def test_prior_truth_is_its_draw(self, rng):
        draw = rng.standard_normal((3, len(LONG)))
        truth = truths.prior_truth(Sources(np.eye(3)), draw, LONG, model="hierarchical")
        assert_array_equal(truth.current, draw)
        assert truth.notes["truth"] == "drawn from the prior of hierarchical"

    def test_parts_are_one_per_source(self, scene):
        with pytest.raises(ValueError, match="parts has source = 2, but current has source = 3"):
            replace(scene[0], parts=np.arange(2))


def test_truth_checks_its_axes(scene):
    truth, _ = scene
    with pytest.raises(ValueError, match="current has source = 2, but there are 3 sources"):
        truth_simulation.Truth(truth.sources, truth.current[:2], truth.times)
    with pytest.raises(ValueError, match="times has time = 60, but current has time = 61"):
        truth_simulation.Truth(truth.sources, truth.current, truth.times[:60])
