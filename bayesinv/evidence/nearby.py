"""A spectrum at other time constants, roughly, by the modes of time of its own.

With the modes V of one time constant the currents of another are nearly independent: Vᵀ L⁻¹ T L⁻ᵀ V is nearly
diagonal. Taking its diagonal for all of it costs no decomposition. The log density is exact at the constant of the
modes, and close to it elsewhere: the eigenvectors of all stationary processes are nearly sinusoids.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayesinv.axes import Array
from bayesinv.covariance.time_course import correlation_over_time, slope_over_time
from bayesinv.covariance.time_modes import TimeModes
from bayesinv.evidence.gaussian import Likelihood
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.interpolation.log_grid import MovedComponents
from bayesinv.memory import cached_property


@dataclass(frozen=True, eq=False)
class NearbySpectra:
    """Spectra of currents of any time constant, by the modes of time of one.

    spectrum : of that one; all its modes have one decomposition
    """

    spectrum: Spectrum

    @cached_property
    def modes(self) -> TimeModes:
        """The modes of time."""
        assert self.spectrum.modes is not None
        return self.spectrum.modes

    @cached_property
    def moved(self) -> MovedComponents:
        """The recording's components in these modes, on a grid of eigenvalues."""
        return MovedComponents.of([(self.spectrum.values, self.spectrum.coefficients**2)])

    def at(self, time: float) -> NearbySpectrum:
        """The spectrum at a time constant, in s."""
        return NearbySpectrum(self, time)


@dataclass(frozen=True, eq=False)
class NearbySpectrum:
    """One of several spectra, of currents with a time constant in s."""

    among: NearbySpectra
    time: float

    @cached_property
    def powers(self) -> Array:
        """Variance (mode,) of currents of unit variance in every mode, relative to the noise's."""
        times = self.among.spectrum.problem.times
        correlation = correlation_over_time(times, self.time, self.among.spectrum.structure.course)
        return np.maximum(self.among.modes.basis.variances(times, correlation), 0.0)

    @property
    def likelihood(self) -> Likelihood:
        """The recording and baseline as independent parts."""
        own = self.among.spectrum.likelihood
        baseline = own.baseline_power, own.baseline_count, own.baseline_constant
        return Likelihood.of_modes(self.among.moved, self.powers, own.constant, baseline)

    def slope_by_time(self, variance: float, noise: float) -> float:
        """Derivative of the log density of the recording by the currents' time constant, 1/s."""
        spectrum, times = self.among.spectrum, self.among.spectrum.problem.times
        inverse = 1 / (variance * spectrum.values[:, None] * self.powers + noise**2)
        each = (np.square(spectrum.coefficients) * inverse - 1) * inverse
        change = slope_over_time(times, self.time, spectrum.structure.course)
        return 0.5 * variance * float(spectrum.values @ each @ self.among.modes.basis.variances(times, change))
