"""A simulated recording is its truth's field plus noise of the covariance and the ratio that were asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from bayesinv import simulate, template
from bayesinv.leadfield import LeadField
from bayesinv.sensors import Sensors
from bayesinv.sources import Sources

TIMES = np.arange(-20, 41) / 250.0


@pytest.fixture
def sensors(rng):
    places = rng.standard_normal((7, 3))
    return Sensors(tuple("ABCDEFG"), ("eeg",) * 7, 0.1 * places / np.linalg.norm(places, axis=1, keepdims=True))


@pytest.fixture
def scene(rng, sensors):
    normals = rng.standard_normal((3, 3))
    sources = Sources(0.05 * rng.standard_normal((3, 3)), normals / np.linalg.norm(normals, axis=1, keepdims=True))
    lead_field = LeadField(1e3 * rng.standard_normal((7, 3, 3)), sensors, sources)
    course = simulate.evoked_course(TIMES, (0.08,), (0.02,), (1.0,))
    return simulate.Truth(sources, 1e-8 * np.array([[1.0], [-0.5], [0.2]]) * course, TIMES), lead_field


@pytest.fixture(scope="module")
def cortex():
    return template.cortex()


class TestPatch:
    def test_it_has_the_area_and_hangs_together(self, cortex):
        index = simulate.patch(cortex, cortex.positions[5000], 4e-4)
        area = cortex.areas[index].sum()
        assert 4e-4 <= area < 4e-4 + cortex.areas.max()
        edges = simulate._edges(cortex)[index][:, index]
        from scipy.sparse.csgraph import connected_components

        assert connected_components(edges, directed=False)[0] == 1
        assert 5000 in index

    def test_it_never_crosses_to_the_other_hemisphere(self, cortex):
        # The medial walls nearly touch; a ball would hold both.
        medial = int(np.argmin(np.abs(cortex.mri_positions[:, 0])))
        index = simulate.patch(cortex, cortex.positions[medial], 10e-4)
        assert len(set(cortex.hemispheres[index])) == 1

    @pytest.mark.parametrize("area", [0, -1, np.inf])
    def test_area_must_be_positive(self, cortex, area):
        with pytest.raises(ValueError, match="must be positive, in m²"):
            simulate.patch(cortex, cortex.positions[0], area)

    def test_area_larger_than_the_hemisphere_is_refused(self, cortex):
        with pytest.raises(ValueError, match=r"area is 1e\+04 cm², but that side of the cortex has"):
            simulate.patch(cortex, cortex.positions[0], 1.0)

    def test_sources_without_triangles_are_refused(self):
        with pytest.raises(ValueError, match="wants sources with triangles and areas"):
            simulate.patch(Sources(np.eye(3)), [0, 0, 0], 1e-4)

    def test_truth_has_its_moment_and_avoids_the_grid(self, cortex):
        grid = template.sources("oct4")
        centre = grid.positions[100]
        truth = simulate.patch_truth(cortex, centre, TIMES, area=6e-4, moment=12e-9, avoid=grid)
        assert_allclose(np.abs(truth.course).max(), 12e-9, rtol=1e-12)
        used = {*zip(grid.vertices.tolist(), grid.hemispheres.tolist(), strict=True)}
        assert not used & {*zip(truth.sources.vertices.tolist(), truth.sources.hemispheres.tolist(), strict=True)}
        # Current per area is the same all over the patch.
        density = truth.current[:, truth.times == truth.peak_time][:, 0] / truth.sources.areas
        assert_allclose(density, density[0], rtol=1e-12)
        assert np.linalg.norm(truth.centre - centre) < 0.02

    def test_truth_without_a_free_vertex_is_refused(self, cortex):
        with pytest.raises(ValueError, match="every vertex of the patch is to be avoided"):
            simulate.patch_truth(cortex, cortex.positions[0], TIMES, area=1e-6, avoid=cortex)

    def test_moment_must_be_positive(self, cortex):
        with pytest.raises(ValueError, match="moment is -1, but must be positive, in A m"):
            simulate.patch_truth(cortex, cortex.positions[0], TIMES, moment=-1)


class TestCourse:
    def test_it_peaks_at_one_where_asked_and_is_silent_before_zero(self):
        course = simulate.evoked_course(TIMES, (0.02, 0.08), (0.05, 0.01), (0.3, -2.0))
        assert TIMES[np.argmax(np.abs(course))] == pytest.approx(0.08)
        assert course[np.argmax(np.abs(course))] == -1.0
        assert_array_equal(course[TIMES < 0], 0)

    def test_wave_outside_the_times_is_refused(self):
        with pytest.raises(ValueError, match="no wave lies within the times"):
            simulate.evoked_course(TIMES, (9.0,), (0.01,), (1.0,))

    def test_widths_must_be_positive_and_as_many(self):
        with pytest.raises(ValueError, match=r"widths are .* must be positive"):
            simulate.evoked_course(TIMES, (0.1,), (0.0,), (1.0,))
        with pytest.raises(ValueError, match="heights has wave = 1"):
            simulate.evoked_course(TIMES, (0.1, 0.2), (0.1, 0.1), (1.0,))


class TestSimulate:
    def test_without_noise_it_is_the_forward_field(self, scene, rng):
        truth, lead_field = scene
        made = simulate.simulate(truth, lead_field, 1e-40 * np.eye(7), rng)
        by_hand = sum(np.outer(lead_field.gain[:, s] @ truth.sources.normals[s], truth.current[s]) for s in range(3))
        assert_allclose(made.recording.field, by_hand, atol=1e-18)

    def test_snr_is_the_whitened_power_ratio_of_the_response(self, scene, sensors, rng):
        truth, lead_field = scene
        made = simulate.simulate(truth, lead_field, simulate.correlated_covariance(sensors), rng, snr=3.0)
        signal = lead_field.fixed().gain[:, :, 0] @ truth.current[:, truth.times >= 0]
        inverse = np.linalg.inv(made.noise.covariance)
        power = np.einsum("mt,mn,nt->", signal, inverse, signal) / signal.size
        assert power == pytest.approx(3.0, rel=1e-9)
        assert made.snr == 3.0

    @pytest.mark.parametrize("reference", ["infinity", "average"])
    def test_noise_has_its_covariance(self, scene, sensors, rng, reference):
        truth, lead_field = scene
        times = np.arange(-1, 20000) / 1000.0
        truth = replace(truth, current=np.zeros((3, len(times))) + 1e-30, times=times)
        lead_field = lead_field.rereference(reference)
        table = simulate.correlated_covariance(sensors, sd=2.0)
        made = simulate.simulate(truth, lead_field, table, rng)
        expected = table
        if reference == "average":
            average = np.eye(7) - 1 / 7
            expected = average @ table @ average
            assert made.noise.ranks == {"eeg": 6}
            assert_allclose(made.recording.field.sum(axis=0), 0, atol=1e-9)
        assert_allclose(np.cov(made.recording.field), expected, atol=0.15)

    def test_it_repeats_by_its_generator(self, scene):
        truth, lead_field = scene
        one, two, other = (
            simulate.simulate(truth, lead_field, np.eye(7), np.random.default_rng(seed)).recording.field
            for seed in (1, 1, 2)
        )
        assert_array_equal(one, two)
        assert not np.array_equal(one, other)

    def test_problem_keeps_the_baseline_apart(self, scene, rng):
        truth, lead_field = scene
        problem = simulate.simulate(truth, lead_field, np.eye(7), rng, snr=1.0).problem(lead_field)
        assert problem.baseline.shape == (7, 20)
        assert problem.recording.shape == (7, 41)
        assert problem.orientation == "free"

    def test_problem_wants_the_same_sensors_and_reference(self, scene, rng):
        truth, lead_field = scene
        made = simulate.simulate(truth, lead_field, np.eye(7), rng, snr=1.0)
        with pytest.raises(ValueError, match="has other sensors than the recording"):
            made.problem(lead_field.restrict(np.arange(5)))
        with pytest.raises(ValueError, match="has the reference 'average', but the recording 'infinity'"):
            made.problem(lead_field.rereference("average"))

    @pytest.mark.parametrize("snr", [0, -1, np.nan, np.inf])
    def test_snr_must_be_positive(self, scene, rng, snr):
        with pytest.raises(ValueError, match="a ratio of powers is positive"):
            simulate.simulate(*scene, np.eye(7), rng, snr=snr)

    def test_silent_truth_is_refused(self, scene, rng):
        truth, lead_field = scene
        with pytest.raises(ValueError, match="reaches no sensor"):
            simulate.simulate(replace(truth, current=0 * truth.current), lead_field, np.eye(7), rng)

    def test_truth_must_match_the_lead_field(self, scene, rng):
        truth, lead_field = scene
        with pytest.raises(ValueError, match="lead field has source = 2, but truth has source = 3"):
            simulate.simulate(truth, lead_field.restrict(sources=np.arange(2)), np.eye(7), rng)
        with pytest.raises(ValueError, match="mm apart; they must be the same"):
            simulate.simulate(truth, lead_field.restrict(sources=np.array([2, 1, 0])), np.eye(7), rng)

    def test_covariance_must_match_the_sensors(self, scene, rng):
        with pytest.raises(ValueError, match="noise_covariance has sensor = 6, but gain has sensor = 7"):
            simulate.simulate(*scene, np.eye(6), rng)

    def test_covariance_numbers_are_checked(self, sensors):
        with pytest.raises(ValueError, match=r"share 1.0 in \[0, 1\)"):
            simulate.correlated_covariance(sensors, share=1.0)


def test_truth_checks_its_axes(scene):
    truth, _ = scene
    with pytest.raises(ValueError, match="current has source = 2, but there are 3 sources"):
        simulate.Truth(truth.sources, truth.current[:2], truth.times)
    with pytest.raises(ValueError, match="times has time = 60, but current has time = 61"):
        simulate.Truth(truth.sources, truth.current, truth.times[:60])
