"""Noise has the covariance and the spectrum that were asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from bayesinv.problem.recording import Recording
from bayesinv.simulation import noise as noise_simulation
from bayesinv.simulation import recording

TIMES = np.arange(-20, 41) / 250.0
LONG = np.arange(-50, 200) / 250.0


def slope(series, rate):
    """Exponent of a power law through the mean spectrum of some series (row, sample), away from both ends."""
    from scipy.signal import welch

    frequency, power = welch(series, rate, nperseg=1024)
    inside = (frequency > rate / 100) & (frequency < rate / 4)
    return -np.polyfit(np.log(frequency[inside]), np.log(power[:, inside].mean(axis=0)), 1)[0]


class TestNoise:
    @pytest.mark.parametrize("exponent", [0.0, 0.7, 1.0, 2.0])
    def test_power_law_noise_has_its_slope_and_unit_variance(self, rng, exponent):
        assert slope(noise_simulation.power_law_noise(60, 8192, exponent, rng), 250.0) == pytest.approx(
            exponent, abs=0.06
        )
        short = noise_simulation.power_law_noise(20000, 24, exponent, rng)
        assert_allclose(np.mean(short**2, axis=0), 1, atol=0.05)

    def test_power_law_noise_checks_its_exponent(self, rng):
        with pytest.raises(ValueError, match="exponent is -1"):
            noise_simulation.power_law_noise(2, 9, -1, rng)

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
        mixed = gain @ (2e-9 * noise_simulation.power_law_noise(3, 4000, 1.0, np.random.default_rng(3)))
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
