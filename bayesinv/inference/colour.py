"""Checks of the noise over time: whether what is left of baseline and recording is white."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.stats import chi2

from bayesinv.axes import Array
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.inference.medians import median_size
from bayesinv.inference.residuals import CLIPPED
from bayesinv.posterior.checks import Check
from bayesinv.posterior.mixture import Mixture
from bayesinv.problem.autocorrelation import MIN_SAMPLES, whiteness
from bayesinv.problem.problem import Problem

OVER_TIME = "noise over time"
"""What the names of these checks begin with."""

LAGS = 10
"""Lags over which autocorrelations are summed."""

LIMIT = 0.1
"""Largest sum of squared autocorrelations: the variance of a mean square is then 1.2 times that of white noise."""

SIGNIFICANCE = 1e-4
"""Probability with which white noise exceeds what chance allows; below it a small baseline is not judged."""

MIN_NUMBERS = 300
"""Fewest numbers without currents from which the recording's noise is judged."""

FEW, FEW_NUMBERS = 8, 150
"""Fewest samples of a baseline, and fewest numbers in it, that tell whether noise is white, though not how it is
correlated where it is not: a correlation of 0.32 is four standard errors then."""

EMPTY = 1e-3
"""Power of a frequency, relative to the strongest, below which the noise has next to nothing there."""

ROOM = 1.2
"""Half the sampling rate in units of the highest frequency of the noise, where samples suffice for it."""

QUIET_SHARE = 0.05
"""Share of a direction's variance that currents may have where it counts as noise."""

OF_KIND = 0.5
"""Share of a direction that must lie in sensors of a kind for it to count as theirs."""

OF_ALL = 0.25
"""Share of the directions of a kind of sensor from which the noise of that kind is judged."""


def colour_checks(problem: Problem, mixed: Mixture) -> list[Check]:
    """Return the checks that noise is white over time once its autocorrelation is accounted for.

    The statistic is that of Ljung and Box without its factor of samples, so that it measures an effect and not how
    many samples there are. The recording is looked at in the directions in which currents explain next to nothing; of
    currents that have time constants, in all, less what they explain in each mode of time, by the noise's share.

    Reference: Ljung & Box (1978), Biometrika 65, 297-303.
    """
    advice = _advice(problem)
    kinds = ("sensor",) * problem.components if problem.noise is None else problem.noise.component_modality
    members = {kind: np.array([one == kind for one in kinds]) for kind in dict.fromkeys(kinds)}
    found = []
    innovations = _innovations(problem)
    if innovations is not None:
        parts = {kind: innovations[rows] for kind, rows in members.items()}
        found.append(_worst(f"{OVER_TIME}, baseline", parts, problem.noise_over_time, advice))
    directions = _of_noise_alone(problem, mixed)
    if directions is not None:
        vectors, table = directions
        parts = {}
        if len(members) > 1:
            parts = {
                kind: table[rows] if vectors is None else _of_kind(vectors[rows], table)
                for kind, rows in members.items()
            }
        # A few directions of a kind, which currents reach least, are not what its noise is like.
        many = {kind: max(MIN_NUMBERS, OF_ALL * rows.sum() * table.shape[1]) for kind, rows in members.items()}
        parts = {kind: one for kind, one in parts.items() if one.size >= many[kind]}
        found.append(_worst(f"{OVER_TIME}, recording", parts or {"all": table}, problem.noise_over_time, advice))
    elif innovations is None and _is_assumed(problem) and len(problem.times) > 2:
        found.append(_assumed(problem, advice))
    return found


def _worst(name: str, parts: dict[str, Array], known: str, advice: str) -> Check:
    """The check of the kind of sensor that fares worst: one of few sensors hides among all."""
    checks = {kind: _check(name, table, known, advice) for kind, table in parts.items()}
    worst = min(checks, key=lambda kind: (checks[kind].passed, -checks[kind].value))
    found = checks[worst]
    return found if len(checks) == 1 else replace(found, note=f"of {worst.upper()}, {found.note}")


def _of_kind(vectors: Array, table: Array) -> Array:
    """Combinations (direction, time) of a table that lie for the most part in sensors of a kind.

    vectors : (component of the kind, direction), of orthonormal ones over all components
    """
    _, sizes, combinations = np.linalg.svd(vectors, full_matrices=False)
    return np.asarray(combinations[sizes**2 > OF_KIND] @ table)


def _is_assumed(problem: Problem) -> bool:
    """Whether nothing was known of the noise over time when the problem was made."""
    return problem.autocorrelation is not None and problem.autocorrelation.assumed


def _assumed(problem: Problem, advice: str) -> Check:
    """Return the check of noise that is nowhere seen alone, neither before the response nor beside it.

    Where all samples of the recording are independent, so are those of its noise. Where they are not, noise and
    currents may both be the reason, and nothing tells which.
    """
    found = _check(f"{OVER_TIME}, recording", problem.white_recording, problem.noise_over_time, advice)
    if found.passed:
        return replace(found, note=f"of the whole recording, {found.note}")
    return replace(
        found,
        note="whether the noise's autocorrelation is accounted for cannot be judged: samples of the recording are "
        "correlated, which currents may be or noise, and there is no noise alone to tell. Noise over time: "
        f"{problem.noise_over_time}. If it is not so, noise passes for currents: give a baseline of at least "
        f'{MIN_SAMPLES} samples, or noise_time=... (an autocorrelation, trials, an empty room, or "white" if it is)',
    )


def _check(name: str, series: Array, known: str, advice: str) -> Check:
    # A single large value is another check's, and would be all that there is of correlation.
    most = CLIPPED * float(median_size(series.ravel()))
    series, lags = np.clip(series, -most, most), max(1, min(LAGS, series.shape[1] // 3))
    correlation, error = whiteness(series, lags)
    power = float(np.sum(correlation**2))
    # What chance leaves of white noise has this mean, and is chi-squared in units of the standard error.
    excess = max(0.0, power - lags * error**2)
    by_chance = float(chi2.isf(SIGNIFICANCE, lags)) * error**2
    return Check(
        name,
        excess,
        f"at most {LIMIT:g}",
        excess <= LIMIT or power <= by_chance,
        f"sum of squared autocorrelations over {lags} lags, {correlation[0]:+.2f} at one sample; 0 where the noise's "
        f"autocorrelation is accounted for. Noise over time: {known}. If it is not, intervals are too narrow and "
        f"priors cannot be compared: {advice}",
    )


def _advice(problem: Problem) -> str:
    """What to do where the noise over time is not accounted for."""
    remedy = 'give noise_time="auto" and a longer baseline, trials, or an empty room'
    known = problem.autocorrelation
    if known is None or known.white:
        return remedy
    # What a filter left nothing of is no process that samples tell: the finer they are, the less each says anew.
    power = known.spectrum.max(axis=0)
    frequencies = np.linspace(0.0, 0.5, len(power))
    highest = float(frequencies[power > EMPTY * power.max()].max())
    every = int(0.5 / (ROOM * highest)) if highest > 0 else 1
    if every < 2:
        return remedy
    return (
        f"the noise has next to nothing above {highest:.2g} cycles per sample, as it was filtered far below the "
        f"sampling rate. Take every {every}{'nd' if every == 2 else 'rd' if every == 3 else 'th'} sample "
        f"(evoked.decimate({every}), and the noise's likewise), or {remedy}"
    )


def _innovations(problem: Problem) -> Array | None:
    """The baseline (component, sample) made white in the order of its samples; None where there are too few."""
    baseline, known = problem.baseline, problem.autocorrelation
    if baseline is None or baseline.shape[1] < (FEW if _is_assumed(problem) else 3 * LAGS):
        return None
    if baseline.shape[1] < 3 * LAGS and baseline.size < FEW_NUMBERS:
        return None
    whitening = problem.time_whitening
    if whitening is None or known is None:
        return baseline
    times = problem.times_of_baseline
    return whitening.by_group(baseline, np.linalg.inv(np.linalg.cholesky(known.between(times, times))))


def _of_noise_alone(problem: Problem, mixed: Mixture) -> tuple[Array | None, Array] | None:
    """Directions, and what is left of the recording in them without currents, white in the order of its samples.

    They are (component, direction), None where directions are the components themselves, and (direction, time); None
    if there are few.
    """
    if len(problem.times) < (3 if _is_assumed(problem) else 3 * LAGS):
        return None
    best = int(np.argmax(mixed.weights))
    spectrum = Spectrum.of(problem, mixed.structures[mixed.which[best]])
    one, variance, noise = spectrum.decompositions[0], mixed.variance[best], mixed.noise[best] ** 2
    if spectrum.structure.correlated and spectrum.stretches is None:
        weights = [noise / (variance * each.values + noise) for each in spectrum.decompositions]
        if weights[0].sum() * len(problem.times) < MIN_NUMBERS:
            return None
        if len(weights) > 1:
            # By the noise's share a kind of sensor that currents reach well would be judged by few of its directions.
            weights = [np.ones_like(one) for one in weights]
        return None, _standardised(spectrum, variance, noise, weights)
    # Slow currents are many times as strong in slow modes as in a sample: in none of them may they be strong.
    slowest = float(np.max(spectrum.levels)) / max(float(one.values.max()), 1e-300)
    few = variance * slowest * one.values < QUIET_SHARE * noise
    if np.count_nonzero(few) * len(problem.times) < MIN_NUMBERS:
        return None
    vectors = one.to_components[:, few]
    if not spectrum.structure.correlated:
        # At hand: the likelihood is made of them.
        return vectors, spectrum.white_coefficients[few]
    return vectors, np.asarray(vectors.T @ problem.white_recording)


def _standardised(spectrum: Spectrum, variance: float, noise: float, weights: list[Array]) -> Array:
    """The recording (component, time) over what the model says of currents and noise in each mode of time.

    noise : variance
    weights : of the directions of each block of modes, (direction,); where currents are most of a direction, courses
        that are not as the model says would pass for noise
    """
    assert spectrum.modes is not None
    table = spectrum.coefficients / np.sqrt(variance * spectrum.eigenvalues + noise)
    for one, block, weight in zip(spectrum.decompositions, spectrum.blocks, weights, strict=True):
        root = one.from_components / np.linalg.norm(one.from_components, axis=1, keepdims=True)
        table[:, block] = root @ (np.sqrt(weight)[:, None] * table[:, block])
    return np.asarray(table @ spectrum.modes.basis.vectors.T)
