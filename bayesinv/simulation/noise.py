"""Noise to simulate with: white, correlated, of background currents, or bootstrapped from a baseline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from bayesinv.axes import Array, freeze, real, same_axes
from bayesinv.forward.leadfield import LeadField
from bayesinv.head.sensors import Sensors
from bayesinv.problem.noise import RANK_TOLERANCE, Noise
from bayesinv.problem.recording import Recording
from bayesinv.simulation.courses import sampling_rate

Draw = Callable[[Array, np.random.Generator], Array]
"""From times (time,) in s to a field (sensor, time) in the sensors' SI units."""


@dataclass(frozen=True, eq=False)
class NoiseProcess:
    """Noise that can be drawn, stationary and of mean zero; `one + other` is the noise of both, independent.

    draw : from times and a generator to a field (sensor, time)
    covariance : (sensor, sensor), of any one sample
    words : description, for people to read
    known : whether an analyst knows the covariance; if not, it is estimated from held-out noise
    held_out : draws noise that no recording contains, to estimate the covariance from; `draw` if None
    names : of the sensors, or () where any will do
    """

    draw: Draw
    covariance: Array
    words: str
    known: bool = True
    held_out: Draw | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "covariance", real("noise covariance", self.covariance, "sensor sensor"))
        freeze(self.covariance)

    def __add__(self, other: NoiseProcess) -> NoiseProcess:
        same_axes(covariance=(self.covariance, "sensor sensor"), other_covariance=(other.covariance, "sensor sensor"))
        if self.names and other.names and self.names != other.names:
            raise ValueError("the noises to add are of other sensors, or in another order")
        own_held_out, other_held_out = self.held_out or self.draw, other.held_out or other.draw

        def both(times: Array, rng: np.random.Generator) -> Array:
            return self.draw(times, rng) + other.draw(times, rng)

        def both_held_out(times: Array, rng: np.random.Generator) -> Array:
            one, two = own_held_out(times, rng), other_held_out(times, rng)
            count = min(one.shape[1], two.shape[1])
            return one[:, :count] + two[:, :count]

        return NoiseProcess(
            both,
            self.covariance + other.covariance,
            f"{self.words} + {other.words}",
            self.known and other.known,
            both_held_out,
            self.names or other.names,
        )

    def scaled(self, factor: float) -> NoiseProcess:
        """Return the noise with every field multiplied by a factor."""
        held_out = self.held_out
        return replace(
            self,
            draw=lambda times, rng: factor * self.draw(times, rng),
            covariance=factor**2 * self.covariance,
            held_out=None if held_out is None else lambda times, rng: factor * held_out(times, rng),
        )


def blend(parts: Sequence[NoiseProcess], shares: ArrayLike) -> NoiseProcess:
    """Return the sum of some noises whose variances, averaged over sensors, stand in given ratios and sum to one.

    shares : (part,), of the variance; sensors must be of one kind

    The scale is set by the ratio that `simulate` is asked for.

    Raises
    ------
    ValueError
        If there are not as many shares as parts, or one is not positive.
    """
    wanted = real("shares", shares, "part")
    if len(wanted) != len(parts) or not len(parts) or (wanted <= 0).any():
        raise ValueError(f"shares are {wanted.tolist()} for {len(parts)} noises; want one each, positive")
    factors = wanted / wanted.sum() / [part.covariance.diagonal().mean() for part in parts]
    mixed = [part.scaled(float(np.sqrt(factor))) for part, factor in zip(parts, factors, strict=True)]
    total = mixed[0]
    for part in mixed[1:]:
        total = total + part
    words = " + ".join(f"{share:.0%} {part.words}" for share, part in zip(wanted / wanted.sum(), parts, strict=True))
    return replace(total, words=words)


def power_law_noise(rows: int, samples: int, exponent: float, rng: np.random.Generator) -> Array:
    """Return Gaussian noise (row, sample) whose power falls with frequency as 1/f^exponent, of variance 1 per sample.

    White noise of twice the length is filtered in the Fourier domain, and its first half is returned, so that the end
    is not correlated with the start; frequencies below one period in that length have no power. An exponent of 0 is
    white.

    Reference: Timmer & König (1995), Astron. Astrophys. 300, 707-710.
    """
    if not 0 <= exponent < np.inf:
        raise ValueError(f"exponent is {exponent}, but must be at least 0 (0 is white noise, 1 is 1/f)")
    if exponent == 0:
        return rng.standard_normal((rows, samples))
    length = 2 * samples
    weight = np.zeros(length // 2 + 1)
    weight[1:] = np.arange(1, len(weight)) ** (-exponent / 2)
    # Variance of white noise filtered by weights w over all (positive and negative) frequencies: mean of w².
    total = 2 * np.sum(weight**2) - weight[-1] ** 2
    weight *= np.sqrt(length / total)
    white = np.fft.rfft(rng.standard_normal((rows, length)))
    return np.asarray(np.fft.irfft(weight * white, length)[:, :samples])


def gaussian_noise(covariance: ArrayLike, *, exponent: float = 0.0, kinds: Sequence[str] = ()) -> NoiseProcess:
    """Return Gaussian noise of a covariance over sensors and a spectrum 1/f^exponent over time.

    covariance : (sensor, sensor), or (sensor,) variances, in (products of) SI units
    exponent : 0 is white over time, 1 is 1/f; the same for all sensors
    kinds : of the sensors, where EEG and MEG come together
    """
    table = np.asarray(covariance)
    table = real("noise covariance", np.diag(table) if table.ndim == 1 else table, "sensor sensor")
    noise = Noise(table, tuple(kinds))
    # With W C Wᵀ = 1, white noise times C Wᵀ has the covariance C.
    factor = noise.covariance @ noise.whitener.T
    diagonal = np.allclose(table, np.diag(table.diagonal()))
    words = f"{'independent' if diagonal else 'correlated'} sensor noise, {_spectrum(exponent)}"

    def draw(times: Array, rng: np.random.Generator) -> Array:
        return np.asarray(factor @ power_law_noise(factor.shape[1], len(times), exponent, rng))

    return NoiseProcess(draw, noise.covariance, words)


def _spectrum(exponent: float) -> str:
    return f"1/f^{exponent:g} over time" if exponent else "white over time"


def background_noise(
    lead_field: LeadField,
    *,
    sd: float = 1e-9,
    exponent: float = 1.0,
    share: float = 1.0,
    rng: np.random.Generator | None = None,
) -> NoiseProcess:
    """Return the field of background brain activity: independent currents, of spectrum 1/f^exponent each.

    lead_field : of the truth's world; all its sources, or a random part of them, are active along their normals
    sd : of every current, A m
    share : of the sources that are active, in (0, 1]
    rng : picks the active sources; not used if all are

    The analyst does not know the covariance sd² G Gᵀ. It has next to no power in fine patterns: add sensor noise, as
    every amplifier does.

    Raises
    ------
    ValueError
        If a number lies outside its range, or a part is to be picked without a generator.
    """
    if not (0 < sd < np.inf and 0 < share <= 1):
        raise ValueError(f"sd {sd} must be positive, in A m, and share {share} in (0, 1]")
    gain = lead_field.fixed().gain[:, :, 0]
    if share < 1:
        if rng is None:
            raise ValueError("a share of the sources wants rng, a generator to pick them with")
        gain = gain[:, rng.choice(gain.shape[1], max(1, round(share * gain.shape[1])), replace=False)]
    # The currents have one spectrum, so noise of covariance sd² G Gᵀ has the same distribution as their summed fields.
    process = gaussian_noise(sd**2 * gain @ gain.T, exponent=exponent, kinds=lead_field.sensors.kinds)
    words = f"brain background of {gain.shape[1]} sources, {_spectrum(exponent)}"
    return replace(process, words=words, known=False, names=lead_field.sensors.names)


def bootstrap_noise(baseline: Recording, *, duration: float = 0.5, held_out: float = 0.5) -> NoiseProcess:
    """Return real noise resampled from a recording without response: a circular block bootstrap.

    baseline : all of it noise; its mean is subtracted
    duration : of a block, s; blocks are of all sensors, so that covariance and, within blocks, spectrum are preserved
    held_out : share of the baseline, at its end, that is set aside to estimate the covariance from

    Reference: Politis & Romano (1992), in LePage & Billard (eds), Exploring the Limits of Bootstrap, 263-270.

    Raises
    ------
    ValueError
        If a part of the baseline has fewer samples than sensors or than a block, or when noise is drawn at another
        sampling rate than the baseline's.
    """
    if not 0 < held_out < 1:
        raise ValueError(f"held_out is {held_out}, but must lie between 0 and 1")
    rate = sampling_rate(baseline.times)
    length, cut = round(duration * rate), round((1 - held_out) * len(baseline.times))
    resampled, set_aside = baseline.field[:, :cut], baseline.field[:, cut:]
    fewest = max(length, len(resampled) + 1)
    if length < 1 or min(resampled.shape[1], set_aside.shape[1]) < fewest:
        raise ValueError(
            f"the baseline has {resampled.shape[1]} samples to draw and {set_aside.shape[1]} to hold out, but blocks "
            f"of {length} samples from {len(resampled)} sensors want at least {fewest} each; give a longer one"
        )
    resampled, set_aside = (part - part.mean(axis=1, keepdims=True) for part in (resampled, set_aside))

    def check(times: Array) -> None:
        if len(times) > 1 and abs(sampling_rate(times) / rate - 1) > 1e-3:
            raise ValueError(
                f"the baseline has {rate:.5g} samples per second, but noise is wanted at {sampling_rate(times):.5g}; "
                "resample it, or take its rate for the truth"
            )

    def draw(times: Array, rng: np.random.Generator) -> Array:
        check(times)
        starts = rng.integers(0, resampled.shape[1], -(-len(times) // length) + 1)
        # The first block begins at random, so that the joins between blocks fall at any sample.
        index = (starts[:, None] + np.arange(length)).ravel()[int(rng.integers(length)) :][: len(times)]
        return resampled[:, index % resampled.shape[1]]

    def draw_held_out(times: Array, rng: np.random.Generator) -> Array:
        check(times)
        return set_aside[:, : len(times)]

    words = f"baseline of {len(baseline.times) / rate:.3g} s in random blocks of {duration:g} s"
    covariance = resampled @ resampled.T / resampled.shape[1]
    return NoiseProcess(draw, covariance, words, False, draw_held_out, baseline.names)


def shrunk_covariance(samples: ArrayLike, kinds: Sequence[str] = ()) -> tuple[Array, float]:
    """Return the covariance (sensor, sensor) of noise, shrunk towards equal variances, and by how much (0 to 1).

    samples : (sensor, sample), SI units
    kinds : of the sensors; each is scaled to unit variance on average before shrinking

    Directions without noise, such as the mean over electrodes of an average reference, remain without.

    Reference: Ledoit & Wolf (2004), J. Multivar. Anal. 88, 365-411, whose optimal amount takes the samples for
    independent.

    Raises
    ------
    ValueError
        If there are not more samples than sensors.
    """
    from sklearn.covariance import ledoit_wolf

    table = real("samples", samples, "sensor sample")
    if table.shape[1] <= len(table):
        raise ValueError(f"{table.shape[1]} samples are too few for the covariance of {len(table)} sensors; give more")
    groups = np.array(kinds) if len(kinds) else np.full(len(table), "sensor")
    unit = np.ones(len(table))
    for kind in set(groups.tolist()):
        unit[groups == kind] = np.sqrt(table[groups == kind].var(axis=1).mean()) or 1.0
    values, vectors = np.linalg.eigh(np.cov(table / unit[:, None]))
    retained = vectors[:, values > RANK_TOLERANCE * values[-1]]
    shrunk, amount = ledoit_wolf((table / unit[:, None]).T @ retained)
    return np.outer(unit, unit) * (retained @ shrunk @ retained.T), float(amount)


def correlated_covariance(sensors: Sensors, *, length: float = 0.05, share: float = 0.7, sd: float = 1.0) -> Array:
    """Return a covariance (sensor, sensor) that falls off with distance: neighbours share part of their noise.

        C = sd² ((1 - share) 1 + share exp(-distance / length))

    sensors : with positions in m
    length : m
    share : of the variance that is shared, in [0, 1)
    sd : of every sensor, in its SI unit

    Raises
    ------
    ValueError
        If a number lies outside its range.
    """
    if not (length > 0 and sd > 0 and 0 <= share < 1):
        raise ValueError(f"length {length} and sd {sd} must be positive and share {share} in [0, 1)")
    distance = np.linalg.norm(sensors.positions[:, None] - sensors.positions[None], axis=2)
    return np.asarray(sd**2 * ((1 - share) * np.eye(len(sensors)) + share * np.exp(-distance / length)))
