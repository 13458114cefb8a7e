"""Whether the noise is as loud in the recording as in the baseline, from which its scale is learned for both.

    recording ~ Normal(0, variance G D Gᵀ + recorded² N),   baseline ~ Normal(0, quiet² N)

Models give both one scale of noise. Where a subject moves or tenses, or an artefact comes with the stimulus, the noise
of the response is louder, and a part of it passes for currents: their scale and SNR come out too large. A scale for
each, with the most likely variance of currents beside it, then explains the data better than one for both.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import chi2

from bayesinv.axes import Array
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.posterior.checks import Check
from bayesinv.posterior.mixture import Mixture
from bayesinv.problem.problem import Problem

LIMIT = 1.25
"""Times as loud, or as quiet, that noise may be in the recording: 1.5 times makes the currents' scale 1.2 times."""

SIGNIFICANCE = 1e-4
"""Probability with which noise that is alike in both exceeds what chance allows."""

RATIOS = np.append(0.0, np.geomspace(1e-4, 1e4, 97))
"""Variances of currents over that of noise, relative to the posterior's, among which the most likely one is."""

FINER = np.geomspace(0.8, 1.25, 17)
"""The same about that one."""

SPREAD = 2.0
"""Factor between two scales of noise at which a likelihood is taken, to tell its sum of squares."""


def noise_scales_checks(problem: Problem, mixed: Mixture) -> list[Check]:
    """Return the check that noise of the recording is as loud as that of the baseline; none without a baseline.

    It takes the node of most weight.
    """
    if problem.white_baseline is None:
        return []
    best = int(np.argmax(mixed.weights))
    variance, noise = float(mixed.variance[best]), float(mixed.noise[best])
    if not variance > 0:
        return []
    spectrum = Spectrum.of(problem, mixed.structures[mixed.which[best]])
    factor, nats = noise_apart(spectrum, variance, noise)
    chance = float(chi2.sf(2 * nats, 1))
    passed = bool(1 / LIMIT <= factor <= LIMIT or chance > SIGNIFICANCE)
    note = (
        f"scale of the noise in the recording over that in the baseline, each by itself; {nats:.3g} nats of evidence "
        "that they differ. 1 where noise is alike in both"
    )
    if not passed:
        what = (
            "currents and their SNR come out too large" if factor > 1 else "too much of the response passes for noise"
        )
        note += (
            f": here one scale stands for both, and {what}. Look for what comes with the response alone (movement, "
            "muscles, blinks, another number of trials) or in the baseline alone, and at the covariance: one of few "
            "samples is wrong in directions that currents reach little. An error of the lead field seems louder noise, "
            "too (bi.forward_error)"
        )
    limit = f"between {1 / LIMIT:g} and {LIMIT:g}, or by chance"
    return [Check("noise in the recording", factor, limit, passed, note)]


def noise_apart(spectrum: Spectrum, variance: float, noise: float) -> tuple[float, float]:
    """Scale of the noise of the recording over that of the baseline, and nats by which two explain more than one.

    variance, noise : of currents and noise (its scale), near which the most likely ones are looked for
    """
    likelihood = spectrum.likelihood
    assert likelihood.baseline_power is not None
    quiet, count = likelihood.baseline_power, likelihood.baseline_count
    numbers = spectrum.problem.recording.size

    def squares(ratios: Array) -> tuple[Array, Array]:
        """Sums of squares in units of the noise, and log densities at noise 1 without them, by ratio of variances.

        At one ratio the log density is a - numbers log(noise) - squares / (2 noise²), so that two of them tell both.
        """
        ratios = ratios * variance / noise**2
        near, far = (spectrum.log_likelihood(ratios * s**2, np.full(len(ratios), s)) for s in (noise, SPREAD * noise))
        found = 2 * noise**2 * (far - near + numbers * np.log(SPREAD)) / (1 - SPREAD**-2)
        return found, near + numbers * np.log(noise) + found / (2 * noise**2)

    def apart(ratios: Array) -> tuple[Array, Array]:
        found, rest = squares(ratios)
        return rest - 0.5 * numbers * np.log(found / numbers), found

    def alike(ratios: Array) -> tuple[Array, Array]:
        found, rest = squares(ratios)
        return rest - 0.5 * (numbers + count) * np.log((found + quiet) / (numbers + count)), found

    found = []
    for density in (apart, alike):
        coarse = float(RATIOS[int(np.argmax(density(RATIOS)[0]))])
        heights, sums = density(coarse * FINER)
        top = int(np.argmax(heights))
        found.append((float(heights[top]), float(sums[top])))
    (two, own), (one, _) = found
    two -= 0.5 * count * float(np.log(quiet / count))
    return float(np.sqrt(own / numbers / (quiet / count))), max(0.0, two - one)
