"""A simulated recording is its truth's field plus noise of the covariance and the ratio that were asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from bayesinv.simulation import noise as noise_simulation
from bayesinv.simulation import places as places_simulation
from bayesinv.simulation import recording
from bayesinv.simulation import truth as truth_simulation

TIMES = np.arange(-20, 41) / 250.0
LONG = np.arange(-50, 200) / 250.0


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

    def test_problem_has_the_samples_before_zero_as_baseline(self, scene, rng):
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

    def test_a_zero_truth_has_no_ratio_to_noise_and_is_recorded_as_noise_alone(self, scene, rng):
        truth, lead_field = scene
        silent = replace(truth, current=0 * truth.current)
        for ratio in ({"snr": 1.0}, {"alpha": 0.5}):
            with pytest.raises(ValueError, match="reaches no sensor"):
                recording.simulate(silent, lead_field, np.eye(7), rng, **ratio)
        alone = recording.simulate(silent, lead_field, np.eye(7), rng)
        assert alone.snr == 0
        assert alone.recording.field.std() == pytest.approx(1, rel=0.3)

    def test_truth_must_match_the_lead_field(self, scene, rng):
        truth, lead_field = scene
        with pytest.raises(ValueError, match="1 of the truth's 3 sources are not among those of the lead field"):
            recording.simulate(truth, lead_field.restrict(sources=np.arange(2)), np.eye(7), rng)

    def test_sources_are_found_by_their_positions(self, scene):
        truth, lead_field = scene
        reordered = replace(truth, sources=truth.sources.pick([2, 0]), current=truth.current[[2, 0]])
        with_zeros = replace(truth, current=truth.current * [[1], [0], [1]])
        one, two = (
            recording.simulate(each, lead_field, np.eye(7), np.random.default_rng(1), snr=2.0)
            for each in (reordered, with_zeros)
        )
        assert_allclose(one.recording.field, two.recording.field, rtol=1e-12)
        assert_array_equal(one.lead_field.gain, lead_field.gain[:, [2, 0]])

    def test_a_fixed_lead_field_wants_its_own_normals(self, scene, rng):
        truth, lead_field = scene
        rotated = replace(truth, sources=places_simulation.tilted(truth.sources, 20, rng))
        with pytest.raises(ValueError, match="normals differ from the lead field's by up to"):
            recording.simulate(rotated, lead_field.fixed(), np.eye(7), rng)
        made = recording.simulate(rotated, lead_field, 1e-40 * np.eye(7), rng)
        expected = np.einsum("msa,sa,st->mt", lead_field.gain, rotated.sources.normals, truth.current)
        assert_allclose(made.recording.field, expected, atol=1e-17)

    def test_covariance_must_match_the_sensors(self, scene, rng):
        with pytest.raises(ValueError, match="noise_covariance has sensor = 6, but gain has sensor = 7"):
            recording.simulate(*scene, np.eye(6), rng)

    def test_covariance_numbers_are_checked(self, sensors):
        with pytest.raises(ValueError, match=r"share 1.0 in \[0, 1\)"):
            noise_simulation.correlated_covariance(sensors, share=1.0)


class TestRatios:
    def test_snr_is_whitened_by_the_true_covariance_of_any_noise(self, scene, sensors, rng):
        truth, lead_field = scene
        lead_field = lead_field.rereference("average")
        noise = noise_simulation.background_noise(lead_field, sd=1.0) + noise_simulation.gaussian_noise(
            1e6 * noise_simulation.correlated_covariance(sensors), exponent=1.0
        )
        scaled = recording.simulate(truth, lead_field, noise, np.random.default_rng(4), snr=3.0, held_out=100)
        average = np.eye(7) - 1 / 7
        signal = lead_field.fixed().gain[:, :, 0] @ truth.current[:, truth.times >= 0]
        inverse = np.linalg.pinv(average @ noise.covariance @ average, rcond=1e-9)
        power = np.einsum("mt,mn,nt->", signal, inverse, signal) / (6 * signal.shape[1])
        assert_allclose(scaled.recording.field.sum(axis=0), 0, atol=1e-9 * np.abs(scaled.recording.field).max())
        # The draw is the same whatever the ratio; only its scale changes.
        unscaled = recording.simulate(truth, lead_field, noise, np.random.default_rng(4), held_out=100)
        field = lead_field.fixed().gain[:, :, 0] @ truth.current
        scale = np.sqrt(power / 3.0)
        assert unscaled.snr == pytest.approx(power)
        assert_allclose(
            scaled.recording.field - field, scale * (unscaled.recording.field - field), rtol=1e-6, atol=1e-12
        )
        assert_allclose(scaled.noise.covariance, scale**2 * unscaled.noise.covariance, rtol=1e-9, atol=1e-18)
        assert scaled.snr == 3.0
        assert scaled.noise.ranks == {"eeg": 6}

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
