"""Time courses have the shape, the frequency and the size that were asked for."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from bayesinv.simulation import courses as courses_simulation

TIMES = np.arange(-20, 41) / 250.0
LONG = np.arange(-50, 200) / 250.0


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
