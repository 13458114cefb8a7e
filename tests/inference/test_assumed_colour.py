"""Noise that is taken as white, for nothing shows it alone, is judged by the recording, or said not to be judged."""

import numpy as np
import pytest
from scipy.signal import lfilter

import bayesinv as bi
from bayesinv.inference.colour import colour_checks
from bayesinv.posterior.mixture import Mixture

SENSORS, SOURCES = 20, 60


def scene(seed, memory, samples, quiet=0, signal=0.0, **options):
    """Noise that remembers, and currents that do not, seen by all directions alike."""
    rng = np.random.default_rng(seed)
    gain = rng.standard_normal((SENSORS, SOURCES))
    white = rng.standard_normal((SENSORS, samples + quiet + 100))
    noise = lfilter([np.sqrt(1 - memory**2)], [1, -memory], white, axis=1)[:, 100:]
    field = gain @ rng.standard_normal((SOURCES, samples))
    recording = noise[:, quiet:] + signal * field / np.sqrt(np.mean(field**2))
    baseline = noise[:, :quiet] if quiet else None
    return bi.Problem.from_arrays(
        gain, recording, np.eye(SENSORS), baseline=baseline, times=0.002 * np.arange(samples), **options
    )


def judged(problem, snr):
    """The check of the noise over time, at the scales of a posterior with an amplitude ratio of signal to noise."""
    nodes = np.ones(1), np.array([snr**2 / problem.signal_power]), np.ones(1), np.zeros(1, dtype=int)
    found = colour_checks(problem, Mixture(*nodes, (None,)))
    assert len(found) < 3
    return next((one for one in found if not one.passed), found[0]) if found else None


@pytest.mark.filterwarnings("ignore:the baseline has a mean:UserWarning")
class TestAssumed:
    @pytest.mark.parametrize(("samples", "quiet"), [(12, 0), (12, 10), (60, 0)])
    @pytest.mark.parametrize("snr", [0.2, 1.0])
    def test_coloured_noise_alone_never_passes(self, samples, quiet, snr):
        for seed in range(20):
            check = judged(scene(seed, 0.65, samples, quiet), snr)
            assert not check.passed
            assert "noise_time=" in check.note
            if snr == 1.0:
                # A short baseline tells that noise is not white, though not what it is.
                assert ("cannot be judged" in check.note) == (quiet == 0)
                assert ("there is no baseline" if not quiet else "the baseline has 10 samples") in check.note

    @pytest.mark.parametrize(("samples", "quiet"), [(12, 0), (12, 10), (60, 0)])
    @pytest.mark.parametrize("signal", [0.0, 3.0])
    def test_white_noise_passes(self, samples, quiet, signal):
        """By chance one in ten thousand would not."""
        assert all(judged(scene(seed, 0.0, samples, quiet, signal), 3.0).passed for seed in range(20))

    def test_what_was_given_is_not_doubted(self):
        assert judged(scene(0, 0.65, 12, noise_time="white"), 1.0) is None

    def test_a_single_sample_has_no_colour(self):
        assert judged(scene(0, 0.65, 1), 1.0) is None
