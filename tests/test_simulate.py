"""A simulated recording is its truth's field plus noise of the covariance and the ratio that were asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from bayesinv.forward.leadfield import LeadField
from bayesinv.geometry.geodesic import edge_lengths
from bayesinv.head import template_cortex
from bayesinv.head.sensors import Sensors
from bayesinv.head.sources import Sources
from bayesinv.problem.recording import Recording

# The package's own `simulate` may be the verb; here it is the room.
from bayesinv.simulation import courses as courses_simulation
from bayesinv.simulation import noise as noise_simulation
from bayesinv.simulation import places as places_simulation
from bayesinv.simulation import recording, truths
from bayesinv.simulation import truth as truth_simulation

TIMES = np.arange(-20, 41) / 250.0
LONG = np.arange(-50, 200) / 250.0


@pytest.fixture
def sensors(rng):
    places = rng.standard_normal((7, 3))
    return Sensors(tuple("ABCDEFG"), ("eeg",) * 7, 0.1 * places / np.linalg.norm(places, axis=1, keepdims=True))


@pytest.fixture
def scene(rng, sensors):
    normals = rng.standard_normal((3, 3))
    sources = Sources(0.05 * rng.standard_normal((3, 3)), normals / np.linalg.norm(normals, axis=1, keepdims=True))
    lead_field = LeadField(1e3 * rng.standard_normal((7, 3, 3)), sensors, sources)
    course = courses_simulation.evoked_course(TIMES, (0.08,), (0.02,), (1.0,))
    return truth_simulation.Truth(sources, 1e-8 * np.array([[1.0], [-0.5], [0.2]]) * course, TIMES), lead_field


@pytest.fixture(scope="module")
def cortex():
    return template_cortex.cortex()


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
        with pytest.raises(ValueError, match=r"area is 1e\+04 cm², but that side of the cortex has"):
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


class TestCourse:
    def test_it_peaks_at_one_where_asked_and_is_silent_before_zero(self):
        course = courses_simulation.evoked_course(TIMES, (0.02, 0.08), (0.05, 0.01), (0.3, -2.0))
        assert TIMES[np.argmax(np.abs(course))] == pytest.approx(0.08)
        assert course[np.argmax(np.abs(course))] == -1.0
        assert_array_equal(course[TIMES < 0], 0)

    def test_wave_outside_the_times_is_refused(self):
        with pytest.raises(ValueError, match="no wave lies within the times"):
            courses_simulation.evoked_course(TIMES, (9.0,), (0.01,), (1.0,))

    def test_widths_must_be_positive_and_as_many(self):
        with pytest.raises(ValueError, match=r"widths are .* must be positive"):
            courses_simulation.evoked_course(TIMES, (0.1,), (0.0,), (1.0,))
        with pytest.raises(ValueError, match="heights has wave = 1"):
            courses_simulation.evoked_course(TIMES, (0.1, 0.2), (0.1, 0.1), (1.0,))


class TestSimulate:
    def test_without_noise_it_is_the_forward_field(self, scene, rng):
        truth, lead_field = scene
        made = recording.simulate(truth, lead_field, 1e-40 * np.eye(7), rng)
        by_hand = sum(np.outer(lead_field.gain[:, s] @ truth.sources.normals[s], truth.current[s]) for s in range(3))
        assert_allclose(made.recording.field, by_hand, atol=1e-18)

    def test_snr_is_the_whitened_power_ratio_of_the_response(self, scene, sensors, rng):
        truth, lead_field = scene
        made = recording.simulate(truth, lead_field, noise_simulation.correlated_covariance(sensors), rng, snr=3.0)
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
        table = noise_simulation.correlated_covariance(sensors, sd=2.0)
        made = recording.simulate(truth, lead_field, table, rng)
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
            recording.simulate(truth, lead_field, np.eye(7), np.random.default_rng(seed)).recording.field
            for seed in (1, 1, 2)
        )
        assert_array_equal(one, two)
        assert not np.array_equal(one, other)

    def test_problem_keeps_the_baseline_apart(self, scene, rng):
        truth, lead_field = scene
        problem = recording.simulate(truth, lead_field, np.eye(7), rng, snr=1.0).problem(lead_field)
        assert problem.baseline.shape == (7, 20)
        assert problem.recording.shape == (7, 41)
        assert problem.orientation == "free"

    def test_problem_wants_the_same_sensors_and_reference(self, scene, rng):
        truth, lead_field = scene
        made = recording.simulate(truth, lead_field, np.eye(7), rng, snr=1.0)
        with pytest.raises(ValueError, match="has other sensors than the recording"):
            made.problem(lead_field.restrict(np.arange(5)))
        with pytest.raises(ValueError, match="has the reference 'average', but the recording 'infinity'"):
            made.problem(lead_field.rereference("average"))

    @pytest.mark.parametrize("snr", [0, -1, np.nan, np.inf])
    def test_snr_must_be_positive(self, scene, rng, snr):
        with pytest.raises(ValueError, match="a ratio of powers is positive"):
            recording.simulate(*scene, np.eye(7), rng, snr=snr)

    def test_silent_truth_is_refused(self, scene, rng):
        truth, lead_field = scene
        with pytest.raises(ValueError, match="reaches no sensor"):
            recording.simulate(replace(truth, current=0 * truth.current), lead_field, np.eye(7), rng)

    def test_truth_must_match_the_lead_field(self, scene, rng):
        truth, lead_field = scene
        with pytest.raises(ValueError, match="1 of the truth's 3 sources are not among those of the lead field"):
            recording.simulate(truth, lead_field.restrict(sources=np.arange(2)), np.eye(7), rng)

    def test_sources_are_found_by_their_places(self, scene):
        truth, lead_field = scene
        few = replace(truth, sources=truth.sources.pick([2, 0]), current=truth.current[[2, 0]])
        still = replace(truth, current=truth.current * [[1], [0], [1]])
        one, two = (
            recording.simulate(each, lead_field, np.eye(7), np.random.default_rng(1), snr=2.0) for each in (few, still)
        )
        assert_allclose(one.recording.field, two.recording.field, rtol=1e-12)
        assert_array_equal(one.lead_field.gain, lead_field.gain[:, [2, 0]])

    def test_a_fixed_lead_field_wants_its_own_normals(self, scene, rng):
        truth, lead_field = scene
        turned = replace(truth, sources=places_simulation.tilted(truth.sources, 20, rng))
        with pytest.raises(ValueError, match="normals differ from the lead field's by up to"):
            recording.simulate(turned, lead_field.fixed(), np.eye(7), rng)
        made = recording.simulate(turned, lead_field, 1e-40 * np.eye(7), rng)
        expected = np.einsum("msa,sa,st->mt", lead_field.gain, turned.sources.normals, truth.current)
        assert_allclose(made.recording.field, expected, atol=1e-17)

    def test_covariance_must_match_the_sensors(self, scene, rng):
        with pytest.raises(ValueError, match="noise_covariance has sensor = 6, but gain has sensor = 7"):
            recording.simulate(*scene, np.eye(6), rng)

    def test_covariance_numbers_are_checked(self, sensors):
        with pytest.raises(ValueError, match=r"share 1.0 in \[0, 1\)"):
            noise_simulation.correlated_covariance(sensors, share=1.0)


def test_truth_checks_its_axes(scene):
    truth, _ = scene
    with pytest.raises(ValueError, match="current has source = 2, but there are 3 sources"):
        truth_simulation.Truth(truth.sources, truth.current[:2], truth.times)
    with pytest.raises(ValueError, match="times has time = 60, but current has time = 61"):
        truth_simulation.Truth(truth.sources, truth.current, truth.times[:60])


class TestPlaces:
    def test_they_are_vertices_and_apart(self, cortex, rng):
        places = places_simulation.random_places(cortex, 4, rng, apart=0.04)
        assert np.linalg.norm(cortex.positions[:, None] - places, axis=2).min(axis=0).max() == 0
        away = np.linalg.norm(places[:, None] - places, axis=2)[np.triu_indices(4, 1)]
        assert away.min() >= 0.04

    def test_too_many_are_refused(self, rng):
        with pytest.raises(ValueError, match="4 places 30 mm apart do not fit"):
            places_simulation.random_places(Sources(0.1 * np.eye(3)), 4, rng)
        with pytest.raises(ValueError, match="count is 0"):
            places_simulation.random_places(Sources(0.1 * np.eye(3)), 0, rng)

    def test_tilt_is_a_normal_angle_to_any_side(self, rng):
        up = np.tile([0.0, 0.0, 1.0], (20000, 1))
        turned = places_simulation.tilted(Sources(rng.standard_normal((20000, 3)), up), 10.0, rng).normals
        assert_allclose(np.linalg.norm(turned, axis=1), 1, rtol=1e-12)
        angle = np.degrees(np.arccos(np.minimum(turned[:, 2], 1)))
        assert stats.kstest(angle, stats.halfnorm(scale=10.0).cdf).pvalue > 1e-3
        side = np.arctan2(turned[:, 1], turned[:, 0])
        assert stats.kstest(side, stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 1e-3

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
        far = cortex.positions[[700, 4000]]
        truth = truths.spike_truth(cortex, *far, LONG, areas=(5e-4, 8e-4), moments=(9e-8, 4e-8), delay=0.024)
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
        with pytest.raises(ValueError, match="nothing to put together"):
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


class TestCourses:
    def test_oscillation_has_its_frequency_phase_and_envelope(self):
        times = np.arange(-50, 250) / 250.0
        wave = courses_simulation.oscillation(times, 10.0, 0.4)
        assert_allclose(wave[50:], np.sin(2 * np.pi * 10 * times[50:] + 0.4), rtol=1e-12)
        assert_array_equal(wave[:50], 0)
        enveloped = courses_simulation.oscillation(times, 10.0, 0.4, centre=0.5, width=0.1)
        assert_allclose(enveloped, wave * np.exp(-((times - 0.5) ** 2) / 0.02), atol=1e-15)

    def test_oscillation_numbers_are_checked(self):
        with pytest.raises(ValueError, match="frequency is 0"):
            courses_simulation.oscillation(LONG, 0)
        with pytest.raises(ValueError, match="frequency is 200 Hz, but 250 samples per second"):
            courses_simulation.oscillation(LONG, 200)
        with pytest.raises(ValueError, match="give both or none"):
            courses_simulation.oscillation(LONG, 5, centre=0.1)
        with pytest.raises(ValueError, match="width is -1"):
            courses_simulation.oscillation(LONG, 5, centre=0.1, width=-1)

    def test_spike_is_sharp_and_followed_by_a_slow_wave(self):
        times = np.arange(0, 1000) / 1000.0
        course = courses_simulation.spike_course(times, 0.2)
        assert times[np.argmax(course)] == pytest.approx(0.2, abs=1e-3)
        sharp = np.flatnonzero(course > 0.5 * course.max())
        assert 0.02 < (sharp[-1] - sharp[0]) / 1000 < 0.05
        later = (times > 0.3) & (times < 0.7)
        assert 0.3 < course[later].max() < 0.6

    def test_burst_stays_in_its_band_and_after_zero(self, rng):
        times = np.arange(-250, 750) / 250.0
        courses = np.array([courses_simulation.burst(times, rng, (8.0, 12.0)) for _ in range(50)])
        assert_allclose(np.abs(courses).max(axis=1), 1)
        assert_array_equal(courses[:, times < 0], 0)
        power = np.mean(np.abs(np.fft.rfft(courses)) ** 2, axis=0)
        frequency = np.fft.rfftfreq(len(times), 1 / 250)
        assert power[(frequency > 5) & (frequency < 15)].sum() > 0.98 * power.sum()

    def test_burst_wants_room(self, rng):
        with pytest.raises(ValueError, match="fewer than the 82 of the shortest burst"):
            courses_simulation.burst(TIMES, rng)
        with pytest.raises(ValueError, match="no frequency from 1 to 2 Hz"):
            courses_simulation.burst(LONG[50:132], rng, (1, 2))


def slope(series, rate):
    """Exponent of a power law through the mean spectrum of some series (row, sample), away from both ends."""
    from scipy.signal import welch

    frequency, power = welch(series, rate, nperseg=1024)
    inside = (frequency > rate / 100) & (frequency < rate / 4)
    return -np.polyfit(np.log(frequency[inside]), np.log(power[:, inside].mean(axis=0)), 1)[0]


class TestNoise:
    @pytest.mark.parametrize("exponent", [0.0, 0.7, 1.0, 2.0])
    def test_colour_has_its_slope_and_unit_variance(self, rng, exponent):
        assert slope(noise_simulation.coloured(60, 8192, exponent, rng), 250.0) == pytest.approx(exponent, abs=0.06)
        short = noise_simulation.coloured(20000, 24, exponent, rng)
        assert_allclose(np.mean(short**2, axis=0), 1, atol=0.05)

    def test_colour_checks_its_exponent(self, rng):
        with pytest.raises(ValueError, match="exponent is -1"):
            noise_simulation.coloured(2, 9, -1, rng)

    @pytest.mark.parametrize("exponent", [0.0, 1.0])
    def test_gaussian_noise_has_its_covariance_at_every_sample(self, sensors, rng, exponent):
        table = noise_simulation.correlated_covariance(sensors, sd=2.0)
        process = noise_simulation.gaussian_noise(table, exponent=exponent)
        drawn = np.array([process.draw(TIMES[:5], rng) for _ in range(4000)])
        for sample in (0, 4):
            assert_allclose(np.cov(drawn[:, :, sample].T), table, atol=0.45)

    def test_variances_are_a_diagonal(self, rng):
        process = noise_simulation.gaussian_noise([1.0, 4.0])
        assert_array_equal(process.covariance, np.diag([1.0, 4.0]))
        assert process.words == "independent sensor noise, white over time"

    def test_background_is_what_independent_currents_make(self, scene, rng):
        lead_field = scene[1]
        process = noise_simulation.background_noise(lead_field, sd=2e-9, exponent=1.0)
        gain = lead_field.fixed().gain[:, :, 0]
        long = np.zeros(4000)
        mixed = gain @ (2e-9 * noise_simulation.coloured(3, 4000, 1.0, np.random.default_rng(3)))
        assert_allclose(process.covariance, 4e-18 * gain @ gain.T, rtol=1e-12)
        drawn = process.draw(long, rng)
        assert drawn.shape == mixed.shape
        assert slope(drawn, 250.0) == pytest.approx(slope(mixed, 250.0), abs=0.3)
        assert np.linalg.matrix_rank(drawn, tol=1e-6 * np.linalg.norm(drawn)) == 3
        assert not process.known

    def test_background_takes_a_share(self, scene, rng):
        process = noise_simulation.background_noise(scene[1], share=0.4, rng=rng)
        assert np.linalg.matrix_rank(process.covariance, tol=1e-9 * np.trace(process.covariance)) == 1
        with pytest.raises(ValueError, match="wants rng"):
            noise_simulation.background_noise(scene[1], share=0.4)
        with pytest.raises(ValueError, match=r"share 0 in \(0, 1\]"):
            noise_simulation.background_noise(scene[1], share=0)

    def test_sum_and_blend_add_covariances(self, sensors, rng):
        one = noise_simulation.gaussian_noise(np.full(7, 9.0))
        two = noise_simulation.gaussian_noise(noise_simulation.correlated_covariance(sensors))
        assert_allclose((one + two).covariance, one.covariance + two.covariance)
        assert_allclose(one.scaled(3.0).covariance, 81 * np.eye(7))
        mix = noise_simulation.blend([one, two], [1, 3])
        assert_allclose(mix.covariance, 0.25 * np.eye(7) + 0.75 * two.covariance)
        drawn = mix.draw(np.zeros(40000), rng)
        assert_allclose(np.cov(drawn), mix.covariance, atol=0.03)
        assert mix.words.startswith("25% independent sensor noise")

    def test_blend_and_sum_check_what_they_get(self, scene):
        one = noise_simulation.gaussian_noise(np.ones(7))
        with pytest.raises(ValueError, match="want one each, positive"):
            noise_simulation.blend([one], [1, 2])
        with pytest.raises(ValueError, match="other_covariance has sensor = 6"):
            one + noise_simulation.gaussian_noise(np.ones(6))
        mine = noise_simulation.background_noise(scene[1])
        with pytest.raises(ValueError, match="of other sensors, or in another order"):
            mine + replace(mine, names=tuple("GFEDCBA"))


@pytest.fixture
def baseline(rng):
    """Correlated noise that is not white: each sample keeps half of the one before."""
    mix = rng.standard_normal((7, 7))
    field = np.zeros((7, 3000))
    for t in range(1, 3000):
        field[:, t] = 0.5 * field[:, t - 1] + mix @ rng.standard_normal(7)
    return Recording(field + 5, np.arange(3000) / 250.0, tuple("ABCDEFG"))


class TestBootstrap:
    def test_it_keeps_the_covariance_and_what_follows_what(self, baseline, rng):
        process = noise_simulation.bootstrap_noise(baseline, duration=0.2)
        used = baseline.field[:, :1500] - baseline.field[:, :1500].mean(axis=1, keepdims=True)
        drawn = process.draw(np.arange(60000) / 250.0, rng)
        target = used @ used.T / 1500
        assert_allclose(process.covariance, target, rtol=1e-12)
        size = np.abs(target).max()
        assert_allclose(np.cov(drawn), target, atol=0.06 * size)
        # Within a stretch of 50 samples neighbours stay neighbours, but at one join of the 50.
        lagged = drawn[:, 1:] @ drawn[:, :-1].T / drawn.shape[1]
        assert_allclose(lagged, 0.98 * used[:, 1:] @ used[:, :-1].T / 1500, atol=0.06 * size)

    def test_samples_are_whole_and_of_the_first_part_alone(self, baseline, rng):
        process = noise_simulation.bootstrap_noise(baseline, duration=0.2, held_out=0.4)
        used = baseline.field[:, :1800] - baseline.field[:, :1800].mean(axis=1, keepdims=True)
        drawn = process.draw(LONG, rng)
        assert all(np.abs(used - sample[:, None]).max(axis=0).min() == 0 for sample in drawn.T)
        spare = process.held_out(np.arange(9999) / 250.0, rng)
        assert spare.shape == (7, 1200)
        assert_allclose(spare - spare[:, :1], baseline.field[:, 1800:] - baseline.field[:, 1800:1801], atol=1e-12)

    def test_rate_length_and_sensors_must_fit(self, baseline, scene, rng):
        process = noise_simulation.bootstrap_noise(baseline)
        with pytest.raises(ValueError, match="250 samples per second, but noise is wanted at 1000"):
            process.draw(np.arange(9) / 1000.0, rng)
        short = Recording(baseline.field[:, :200], baseline.times[:200], baseline.names)
        with pytest.raises(ValueError, match="want at least 125 each; give a longer one"):
            noise_simulation.bootstrap_noise(short)
        other = replace(baseline, names=tuple("GFEDCBA"))
        with pytest.raises(ValueError, match="noise is of other sensors than the lead field"):
            recording.simulate(*scene, noise_simulation.bootstrap_noise(other), rng, snr=1.0)

    def test_simulation_carries_the_covariance_of_what_was_held_out(self, baseline, scene, rng):
        made = recording.simulate(*scene, noise_simulation.bootstrap_noise(baseline), rng, snr=2.0)
        expected, amount = noise_simulation.shrunk_covariance(baseline.field[:, 1500:], ("eeg",) * 7)
        ratio = made.noise.covariance / expected
        assert_allclose(ratio, ratio[0, 0], rtol=1e-9)
        assert made.notes["covariance"] == f"estimated from 1500 samples, Ledoit-Wolf shrinkage {amount:.3g}"


class TestShrinkage:
    def test_it_is_scikit_learns_where_the_rank_is_full(self, rng):
        from sklearn.covariance import ledoit_wolf

        samples = rng.standard_normal((7, 7)) @ rng.standard_normal((7, 30))
        ours, amount = noise_simulation.shrunk_covariance(samples)
        theirs, expected = ledoit_wolf(samples.T)
        assert amount == pytest.approx(expected)
        assert_allclose(ours, theirs, rtol=1e-9)

    def test_directions_without_noise_stay_without(self, rng):
        samples = rng.standard_normal((7, 30))
        ours, amount = noise_simulation.shrunk_covariance(samples - samples.mean(axis=0))
        assert amount > 0
        assert_allclose(ours.sum(axis=0), 0, atol=1e-12)

    def test_kinds_keep_their_units(self, rng):
        samples = rng.standard_normal((7, 40))
        unit = np.array([1e-6] * 3 + [1e-13] * 4)
        kinds = ("eeg",) * 3 + ("mag",) * 4
        ours, _ = noise_simulation.shrunk_covariance(unit[:, None] * samples, kinds)
        level = np.sqrt([samples[:3].var(axis=1).mean()] * 3 + [samples[3:].var(axis=1).mean()] * 4)
        plain, _ = noise_simulation.shrunk_covariance(samples / level[:, None])
        assert_allclose(ours / np.outer(unit * level, unit * level), plain, rtol=1e-9, atol=1e-12)

    def test_few_samples_are_refused(self, rng):
        with pytest.raises(ValueError, match="7 samples are too few for the covariance of 7 sensors"):
            noise_simulation.shrunk_covariance(rng.standard_normal((7, 7)))


class TestRatios:
    def test_snr_is_whitened_by_the_true_covariance_of_any_noise(self, scene, sensors, rng):
        truth, lead_field = scene
        lead_field = lead_field.rereference("average")
        noise = noise_simulation.background_noise(lead_field, sd=1.0) + noise_simulation.gaussian_noise(
            1e6 * noise_simulation.correlated_covariance(sensors), exponent=1.0
        )
        quiet = recording.simulate(truth, lead_field, noise, np.random.default_rng(4), snr=3.0, held_out=100)
        average = np.eye(7) - 1 / 7
        signal = lead_field.fixed().gain[:, :, 0] @ truth.current[:, truth.times >= 0]
        inverse = np.linalg.pinv(average @ noise.covariance @ average, rcond=1e-9)
        power = np.einsum("mt,mn,nt->", signal, inverse, signal) / (6 * signal.shape[1])
        assert_allclose(quiet.recording.field.sum(axis=0), 0, atol=1e-9 * np.abs(quiet.recording.field).max())
        # What was drawn is the same numbers whatever the ratio; only its size follows.
        loud = recording.simulate(truth, lead_field, noise, np.random.default_rng(4), held_out=100)
        whole = lead_field.fixed().gain[:, :, 0] @ truth.current
        scale = np.sqrt(power / 3.0)
        assert loud.snr == pytest.approx(power)
        assert_allclose(quiet.recording.field - whole, scale * (loud.recording.field - whole), rtol=1e-6, atol=1e-12)
        assert_allclose(quiet.noise.covariance, scale**2 * loud.noise.covariance, rtol=1e-9, atol=1e-18)
        assert quiet.snr == 3.0
        assert quiet.noise.ranks == {"eeg": 6}

    @pytest.mark.parametrize("alpha", [0.5, 0.8])
    def test_alpha_sets_the_norms(self, scene, rng, alpha):
        truth, lead_field = scene
        made = recording.simulate(truth, lead_field, np.eye(7), rng, alpha=alpha)
        signal = lead_field.fixed().gain[:, :, 0] @ truth.current
        noise = made.recording.field - signal
        assert np.linalg.norm(noise) / np.linalg.norm(signal) == pytest.approx((1 - alpha) / alpha)
        assert np.mean(noise**2) == pytest.approx(made.noise.covariance[0, 0], rel=0.3)
        response = signal[:, truth.times >= 0]
        assert made.snr == pytest.approx(np.mean(response**2) / made.noise.covariance[0, 0])

    def test_alpha_and_snr_exclude_each_other(self, scene, rng):
        with pytest.raises(ValueError, match="comes instead of snr"):
            recording.simulate(*scene, np.eye(7), rng, snr=1.0, alpha=0.5)
        with pytest.raises(ValueError, match="alpha is 1"):
            recording.simulate(*scene, np.eye(7), rng, alpha=1)

    def test_covariance_is_true_unless_held_out_is_asked_for(self, scene, rng):
        known = recording.simulate(*scene, np.eye(7), rng, snr=1.0)
        learnt = recording.simulate(*scene, np.eye(7), rng, snr=1.0, held_out=5000)
        assert known.notes["covariance"] == "true"
        assert learnt.notes["covariance"].startswith("estimated from 5000 samples")
        size = known.noise.covariance[0, 0]
        assert_allclose(learnt.noise.covariance, known.noise.covariance, atol=0.1 * size)
        assert not np.array_equal(learnt.noise.covariance, known.noise.covariance)

    def test_everything_repeats_by_its_generator(self, scene, sensors, baseline):
        noise = (
            noise_simulation.bootstrap_noise(baseline)
            + noise_simulation.background_noise(scene[1])
            + noise_simulation.gaussian_noise(np.ones(7), exponent=1.0)
        )
        one, two, other = (
            recording.simulate(*scene, noise, np.random.default_rng(seed), snr=1.0) for seed in (1, 1, 2)
        )
        assert_array_equal(one.recording.field, two.recording.field)
        assert_array_equal(one.noise.covariance, two.noise.covariance)
        assert not np.array_equal(one.recording.field, other.recording.field)

    def test_it_comes_back_from_a_file(self, scene, sensors, rng, tmp_path, monkeypatch):
        from bayesinv.bridges import archive, archive_load

        for noun in (truth_simulation.Truth, recording.Simulation):
            monkeypatch.setitem(archive_load.NOUNS, noun.__name__, noun)
        truth = replace(scene[0], parts=np.array([0, 1, 1]))
        made = recording.simulate(truth, scene[1], np.eye(7), rng, snr=2.0, held_out=50)
        archive.save(made, tmp_path / "made.nc")
        back = archive_load.load(tmp_path / "made.nc")
        assert_array_equal(back.recording.field, made.recording.field)
        assert_array_equal(back.noise.covariance, made.noise.covariance)
        assert_array_equal(back.truth.current, truth.current)
        assert_array_equal(back.truth.parts, truth.parts)
        assert_array_equal(back.lead_field.gain, made.lead_field.gain)
        assert (back.snr, dict(back.notes), dict(back.truth.notes)) == (2.0, dict(made.notes), dict(made.truth.notes))

    def test_baseline_is_what_comes_before_zero(self, scene, rng):
        made = recording.simulate(*scene, np.eye(7), rng, snr=1.0)
        assert_array_equal(made.baseline, made.recording.field[:, :20])
