"""Residuals of sensors given all others, under the covariance that a posterior implies for its recording.

With covariance C of the whitened components and a whitener W, whose column a_i is sensor i, the precision of the
sensors is P = Wᵀ C⁻¹ W, and a sensor's residual given all others is normal:

    x_i - E[x_i | others] = (Wᵀ C⁻¹ y)_i / P_ii,   variance 1 / P_ii

Where the noise covariance lacks ranks, (Wᵀ C⁻¹ y)_i / sqrt(P_ii) is the test statistic of a shift of sensor i, still
standard normal. Without a whitener components are the sensors.

References: Sundararajan & Keerthi (2001), Neural Comput. 13, 1103-1118; Cook & Weisberg (1982), Residuals and Influence
in Regression, §2.2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len

from bayesinv.axes import Array, Index
from bayesinv.covariance.covariance import Structure
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.inference.medians import UNIT, median_size
from bayesinv.memory import PickledByFields, cached_property
from bayesinv.posterior.mixture import Mixture
from bayesinv.problem.problem import Problem

DETERMINED = 1e-8
"""Share of its precision below which a sensor that others were left out beside is determined by their absence."""

ROWS = 64
"""Largest number of sensors from which the scale of all is estimated."""

COLUMNS = 64
"""Largest number of samples from which the scale of a sensor is estimated."""

CLIPPED = 4.5
"""Size of a residual, in medians of all, at which it is clipped where correlations are estimated."""

CORRELATED_ROWS = 16
"""Largest number of sensors from which the autocorrelation over time is estimated."""


MOST_IN_SINGLE = 1e4
"""Largest whitened value, in standard deviations of the noise, of a table that is multiplied in single precision."""

NEGLIGIBLE, LARGEST = 1e-2, 1e6
"""Variance of currents in a direction, relative to the noise's, below which it is nothing, and above which a difference
of precisions would lose digits."""

FEWEST_SAMPLES, CONCENTRATED = 8, 1e-3
"""Samples from which a usual one can be told, and share of the mean power below which few samples made the mean."""

RATIOS = np.geomspace(1e-4, 1e8, 121)
"""Variances of the currents' mean field, relative to the noise's, that the usual sample may have."""


@dataclass(frozen=True, eq=False)
class Residuals(PickledByFields):
    """What every sensor shows beyond what all others say, at all times.

        weighted = A (coefficients / total),   precision = A² (1 / total),   A = Wᵀ to_components

    project : (sensor, part), A
    inverse : (part, 1 or mode), 1 / total: inverse variances of independent coefficients, negative ones of what others
        count too much
    weighted, precision : (sensor, time or mode) and (sensor, 1 or mode)
    courses : (time, mode), time courses of the modes; None where samples are independent
    removed : (sensor, 1 or mode) for each sensor that was left out, its column of the precision over its root
    retained : (sensor,), whether a sensor enters
    """

    project: Array
    inverse: Array
    weighted: Array
    precision: Array
    courses: Array | None
    removed: tuple[Array, ...]
    retained: NDArray[np.bool_]

    @classmethod
    def of(cls, project: Array, coefficients: Array, total: Array, courses: Array | None = None) -> Residuals:
        """Return the residuals of a table with independent coefficients.

        project : (sensor, part)
        coefficients, total : (part, time or mode) and (part, 1 or mode), and their variances
        courses : (time, mode)
        """
        inverse = 1 / total
        precision = project**2 @ inverse
        return cls(
            project,
            inverse,
            project @ (coefficients * inverse),
            precision,
            courses,
            (),
            precision.sum(axis=1) > 0,
        )

    @cached_property
    def standardised(self) -> Array:
        """Residuals (sensor, time) over their standard deviation; 0 for sensors that are left out."""
        weighted, precision = self.weighted, self.precision
        if self.courses is not None:
            weighted, precision = weighted @ self.courses.T, precision @ (self.courses**2).T
        inside = self.retained[:, None] & (precision > 0)
        units = np.divide(1, np.sqrt(np.maximum(precision, 0)), where=inside, out=0 * precision)
        return np.asarray(weighted * units.astype(weighted.dtype, copy=False))

    def without(self, sensor: int) -> Residuals:
        """Return the residuals where one sensor is left out, at all times; a Schur complement of the precision."""
        column = self.project @ (self.project[sensor][:, None] * self.inverse)
        for one in self.removed:
            column = column - one * one[sensor]
        own = np.maximum(column[sensor], 1e-300)
        precision = self.precision - column**2 / own
        retained = self.retained & (precision > DETERMINED * self.precision).all(axis=1)
        retained[sensor] = False
        return replace(
            self,
            weighted=self.weighted - column * (self.weighted[sensor] / own),
            precision=precision,
            removed=(*self.removed, column / np.sqrt(own)),
            retained=retained,
        )

    @cached_property
    def noise_shares(self) -> Array:
        """Variance of standardised residuals if there were noise alone (sensor,), less than 1.

        noise² Σ_k A_ik² / total_k² / P_ii
        """
        inverse, squares = self.inverse.mean(axis=1), self.project**2
        most = max(float(inverse.max()), 1e-300)
        # Of C⁻¹ = I / noise² - U d Uᵀ the square is I / noise⁴ - U (2 d / noise² - d²) Uᵀ.
        twice = np.where(inverse < 0, 2 * most * inverse, 0.0) + inverse**2
        whole = squares @ inverse
        shares = np.divide(squares @ twice, whole * most, where=whole > 0, out=np.zeros_like(whole))
        return np.asarray(np.clip(shares, DETERMINED, 1.0))

    @cached_property
    def rows(self) -> Index:
        """Some of the sensors that are retained, from which the scale of all is estimated."""
        inside = np.flatnonzero(self.retained)
        return inside[evenly(len(inside), ROWS)]

    @cached_property
    def columns(self) -> Index:
        """Some of the samples, from which scales of sensors are estimated."""
        return evenly(self.standardised.shape[1], COLUMNS)

    @cached_property
    def worth(self) -> float:
        """Number of independent sensors that `rows` are worth in estimating a scale, at one time.

        rows² / Σ_ij R_ij²,   R_ij = P_ij / sqrt(P_ii P_jj)
        """
        inverse = self.inverse.mean(axis=1)
        root = self.project[self.rows]
        precision = (root * inverse) @ root.T
        for one in self.removed:
            mean = (one if one.shape[1] == 1 else one.mean(axis=1, keepdims=True))[self.rows]
            precision -= mean * mean.T
        sd = np.sqrt(np.maximum(np.diag(precision), 1e-300))
        return float(len(sd) ** 2 / np.sum((precision / np.outer(sd, sd)) ** 2))


def independent(table: Array) -> float:
    """Number of independent samples, at least one, that a table of residuals is worth: (sensor, sample).

        time / Σ_k (1 - |k| / time) ρ_k²,   ρ_k the autocorrelation at lag k, over all lags

    Residuals have mean zero, so that none is subtracted: it would hide the slowest noise. All lags count, which takes
    chance correlation for real and errs towards fewer; large values are clipped, or they would hide the rest.

    Reference: Bartlett (1946), J. R. Stat. Soc. Suppl. 8, 27-41.
    """
    some = table[evenly(len(table), CORRELATED_ROWS)]
    count = some.shape[1]
    if count < 2:
        return 1.0
    most = CLIPPED * float(median_size(some.ravel()))
    power = np.abs(np.fft.rfft(np.clip(some, -most, most), next_fast_len(2 * count, real=True), axis=1)) ** 2
    products = np.fft.irfft(power.sum(axis=0), next_fast_len(2 * count, real=True))[:count]
    if not products[0] > 0:
        return float(count)
    squares = (products[1:] / products[0]) ** 2 / (1 - np.arange(1, count) / count)
    return max(1.0, float(count / (1 + 2 * np.sum(squares))))


def evenly(count: int, wanted: int) -> Index:
    """Indices of at most `wanted` of `count` things, evenly spread."""
    if count <= wanted:
        return np.arange(count)
    return np.arange(wanted) * (count - 1) // (wanted - 1)


@dataclass(frozen=True, eq=False)
class PlugIn(PickledByFields):
    """A posterior's covariance of the recording at one value of its hyperparameters.

    spectrum : of the structure of the mixture that is nearest to their mean
    variance, noise : mean source variance and noise scale of the nodes that have it
    """

    spectrum: Spectrum
    variance: float
    noise: float

    @classmethod
    def of(cls, problem: Problem, mixed: Mixture) -> PlugIn:
        """Return the mixture's mean scales, at its structure nearest to the mean."""
        mass = np.bincount(mixed.which, mixed.weights, minlength=len(mixed.structures))
        place = np.array([_coordinates(one) for one in mixed.structures])
        mean = mass @ place / mass.sum()
        sd = np.sqrt(np.maximum(mass @ (place - mean) ** 2, 1e-300))
        distance = np.where(mass > 0, np.sum(((place - mean) / sd) ** 2, axis=1), np.inf)
        nearest = int(np.argmin(distance))
        share = np.where(mixed.which == nearest, mixed.weights, 0.0)
        share /= share.sum()
        structure = mixed.structures[nearest]
        spectrum = Spectrum.of(problem, structure)
        if structure.time is not None and (spectrum.stretches is not None or len(spectrum.blocks) > 1):
            # Where colours differ, or samples are many, each is judged by the other sensors at its own time alone.
            spectrum = Spectrum.of(problem, replace(structure, time=None, course="matern"))
        variance, noise = float(share @ mixed.variance), float(share @ mixed.noise)
        if spectrum.modes is not None:
            # At hand: the likelihood is made of them.
            strength = _usual_share(spectrum.coefficients)
            return cls(spectrum, strength * variance, noise)
        some = evenly(problem.recording.shape[1], COLUMNS)
        return cls(spectrum, *_usual(spectrum, spectrum.to_components.T @ problem.recording[:, some], variance, noise))

    @property
    def problem(self) -> Problem:
        """What was inverted."""
        return self.spectrum.problem

    @cached_property
    def project(self) -> Array:
        """Wᵀ to_components (sensor, part)."""
        whitener, table = self.problem.whitener, self.spectrum.to_components
        if whitener is None:
            return table
        return self.problem.shared.recall("sensors", self.spectrum.structure.key, lambda: whitener.T @ table)

    def recording(self, strength: float = 1.0, samples: Index | None = None) -> Residuals:
        """Residuals of the recording, of some samples where they are independent.

        strength : factor of the currents' variance
        """
        spectrum = self.spectrum
        power = strength * self.variance * spectrum.eigenvalues
        if spectrum.modes is not None:
            return Residuals.of(self.project, spectrum.coefficients, power + self.noise**2, spectrum.modes.to_modes)
        recording = self.problem.recording if samples is None else self.problem.recording[:, samples]
        reached = power[:, 0] > NEGLIGIBLE * self.noise**2
        few = 2 * np.count_nonzero(reached) < len(reached) and spectrum.to_components is spectrum.from_components
        if few and power.max() < LARGEST * self.noise**2:
            return self._of_few(recording, power[reached], reached, samples)
        table = spectrum.coefficients if samples is None else spectrum.coefficients[:, samples]
        return Residuals.of(self.project, table, power + self.noise**2)

    def _of_few(self, recording: Array, power: Array, reached: NDArray[np.bool_], samples: Index | None) -> Residuals:
        """Residuals of a recording (component, time) that currents reach in few directions, by Woodbury's identity.

            C⁻¹ = I / noise² - U diag(1 / (noise² + noise⁴ / power)) Uᵀ

        power : (direction, 1), variance that currents have in these
        reached : (component,), which of the spectrum's directions they are
        """
        vectors, noise = self.spectrum.to_components[:, reached], self.noise**2
        white = np.eye(len(recording)) if self.problem.whitener is None else self.problem.whitener.T
        columns = white @ vectors
        inverse = np.concatenate([np.full((len(recording), 1), 1 / noise), -1 / (noise + noise**2 / power)])
        field = self.unmixed_recording if samples is None else self.unmixed_recording[:, samples]
        kind, explained = field.dtype, inverse[len(recording) :].astype(field.dtype)
        projected = vectors.T.astype(kind) @ recording.astype(kind, copy=False)
        weighted = field / noise + columns.astype(kind) @ (explained * projected)
        project = np.hstack([white, columns])
        precision = project**2 @ inverse
        return Residuals(project, inverse, weighted, precision, None, (), precision[:, 0] > 0)

    @cached_property
    def unmixed_recording(self) -> Array:
        """Wᵀ y (sensor, time)."""
        return self._unmixed(self.problem.recording)

    @cached_property
    def unmixed_baseline(self) -> Array | None:
        """Wᵀ y of the baseline (sensor, sample)."""
        return None if self.problem.baseline is None else self._unmixed(self.problem.baseline)

    def _unmixed(self, table: Array) -> Array:
        whitener = self.problem.whitener
        if whitener is None:
            return table
        # The error of a sum in single precision, in standard deviations of a residual, is 1e-7 of the largest value.
        kind = np.float32 if max(table.max(), -table.min()) < MOST_IN_SINGLE else np.float64
        return np.asarray(whitener.T.astype(kind) @ table.astype(kind))

    def baseline(self) -> Residuals | None:
        """Residuals of the baseline, which is noise alone; None where there is none."""
        problem, to_components = self.problem, self.spectrum.to_components
        if problem.baseline is None:
            return None
        samples = problem.baseline.shape[1]
        variance = self.noise**2 * (1 - int(problem.baseline_centred) / samples)
        total = np.full((problem.components, 1), variance)
        if to_components is not self.spectrum.from_components:
            return Residuals.of(self.project, to_components.T @ problem.baseline, total)
        # White noise has every basis; that of the components is nearest.
        whitener = np.eye(problem.components) if problem.whitener is None else problem.whitener.T
        assert self.unmixed_baseline is not None
        precision = (np.einsum("sc,sc->s", whitener, whitener) / variance)[:, None]
        weighted = self.unmixed_baseline / variance
        return Residuals(whitener, 1 / total, weighted, precision, None, (), precision[:, 0] > 0)


def _usual_share(table: Array) -> float:
    """Power of the usual sample over that of the mean one, of a table (component, time); 1 unless it is tiny.

    A single value that is off by hundreds of standard deviations, of a sensor whose noise is slow, looks like currents
    that are larger by as much, and would explain itself.
    """
    if table.shape[1] < FEWEST_SAMPLES:
        return 1.0
    power = float(np.vdot(table, table)) / table.shape[1]
    # The median of chi-squared of one degree is UNIT²; some of the samples tell which is usual.
    usual = np.sum(median_size(table[:, evenly(table.shape[1], COLUMNS)]) ** 2)
    share = float(usual) / UNIT**2 / max(power, 1e-300)
    return share if share < CONCENTRATED else 1.0


def _usual(spectrum: Spectrum, table: Array, variance: float, noise: float) -> tuple[float, float]:
    """Variance of the currents and scale of the noise of the usual sample, of a table (component, time).

    A few samples in which a single sensor is off look like currents that are many times as large as they are, and would
    explain themselves. Medians over time hardly change with them. Currents and noise are those under which medians have
    the largest likelihood; noise is no larger than the posterior says.
    """
    if table.shape[1] < FEWEST_SAMPLES:
        return variance, noise
    # The median of chi-squared of one degree is UNIT².
    powers = median_size(table) ** 2 / UNIT**2
    totals = 1 + RATIOS[:, None] * spectrum.values / max(float(spectrum.values.mean()), 1e-300)
    logs = np.log(totals).sum(axis=1)
    alone = (powers / totals).mean(axis=1)
    best = int(np.argmin(logs + len(powers) * np.log(np.maximum(alone, 1e-300))))
    noise = min(noise, float(np.sqrt(alone[best])))
    ratio = RATIOS[int(np.argmin(logs + len(powers) * alone / noise**2))]
    return float(ratio * noise**2 / spectrum.values.mean()), noise


def _coordinates(structure: Structure) -> Array:
    """What may be learned of a structure, in one row of numbers; positive arrays by their logarithms."""
    numbers = [structure.depth, structure.tangential, structure.length, structure.time, structure.error]
    arrays = [structure.weights, structure.shares, structure.noise, structure.sensor_noise, structure.sample_noise]
    parts = [np.array([one for one in numbers if one is not None], dtype=np.float64)]
    parts += [np.log(np.maximum(one, 1e-300)) for one in arrays if one is not None]
    return np.concatenate(parts)
