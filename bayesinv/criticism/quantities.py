"""Test quantities: numbers of a recording, of what a fit leaves of it, and of its baseline, beside those of replicates.

    p = P(T(replicated) >= T(recorded) | recording)

Power, largest value and leading component are of the recording. Power, autocorrelation and kurtosis of the residual
are of what draws of the currents leave of it, made white, so that they depend on the draw; replicated residuals are
noise. The power of the baseline is in units of the noise scale that baseline and recording have in common.

References: Gelman, Meng & Stern (1996), Stat. Sin. 6, 733-807; Meng (1994), Ann. Stat. 22, 1142-1160 (p is closer to
1/2 than a uniform number if the model holds).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.linalg import solve_triangular

from bayesinv.axes import Array, Index
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.posterior.quantiles import tail_probabilities
from bayesinv.problem.problem import Problem

EXTREME = 0.01
"""Probability of a tail at which a test quantity counts as extreme."""

QUANTITIES = {
    "power": "mean square of the whitened recording",
    "largest value": "largest magnitude of the whitened recording",
    "leading component": "power of the whitened recording along the direction of sensor space that has most",
    "residual power": "mean square of the residual over that of the noise",
    "residual autocorrelation": "of the residual at one sample, once it is white over time",
    "residual kurtosis": "of the residual; 3 where it is normal",
    "baseline power": "mean square of the baseline over that of the noise",
}
"""Every test quantity by name, and what it is."""


@dataclass(frozen=True, eq=False)
class Quantity:
    """A test quantity of what was recorded, beside that of every replicate.

    name : one of `QUANTITIES`
    sensors : "meg" or "eeg", or "" where there is one kind or kinds are not known
    recorded, replicated : (draw,)
    """

    name: str
    sensors: str
    recorded: Array = field(repr=False)
    replicated: Array = field(repr=False)

    @property
    def title(self) -> str:
        """Its name, and which sensors it is of."""
        return f"{self.name} ({self.sensors.upper()})" if self.sensors else self.name

    @property
    def p_value(self) -> float:
        """Posterior predictive p-value: probability that a replicate's is at least as large.

        The recording counts as one of the replicates, so that it is never 0.
        """
        larger = np.sum(self.replicated >= self.recorded)
        return float((1 + larger) / (1 + len(self.replicated)))

    @property
    def extreme(self) -> bool:
        """Whether hardly any replicate's is as large, or as small."""
        smaller = (1 + np.sum(self.replicated <= self.recorded)) / (1 + len(self.replicated))
        return bool(min(self.p_value, float(smaller)) <= EXTREME)

    def interval(self, level: float = 0.9) -> tuple[float, float]:
        """Central interval of the replicates'."""
        low, high = np.quantile(self.replicated, tail_probabilities(level))
        return float(low), float(high)


def sensor_groups(problem: Problem) -> dict[str, Index]:
    """Components of MEG and of EEG by name; all under "" where there is one kind or kinds are not known."""
    known = () if problem.noise is None else problem.noise.component_modality
    names = tuple(dict.fromkeys(known))
    if len(names) < 2:
        return {"": np.arange(problem.components)}
    return {name: np.flatnonzero(np.array(known) == name) for name in names}


def of_recording(table: Array) -> dict[str, float]:
    """Test quantities of a whitened recording (component, time)."""
    gram = table @ table.T if len(table) <= table.shape[1] else table.T @ table
    return {
        "power": float(np.mean(table**2)),
        "largest value": float(np.abs(table).max()),
        "leading component": float(np.linalg.eigvalsh(gram)[-1] / table.shape[1]),
    }


def of_residual(table: Array) -> dict[str, float]:
    """Test quantities of a residual (component, time) in units of the noise, white over time."""
    power = float(np.mean(table**2))
    found = {"residual power": power, "residual kurtosis": float(np.mean(table**4)) / power**2}
    if table.shape[1] > 1:
        found["residual autocorrelation"] = float(np.mean(table[:, 1:] * table[:, :-1])) / power
    return found


def white_residual(spectrum: Spectrum, table: Array, noise: float) -> Array:
    """A table (component, time) of noise, in units of its scale and white over components and time."""
    problem = spectrum.problem
    whitening, root = problem.time_whitening, spectrum.structure.noise_root(problem)
    white = table if whitening is None else whitening.white(table)
    return np.asarray((white if root is None else solve_triangular(root, white, lower=True)) / noise)


def white_baseline(spectrum: Spectrum, noise: float) -> Array | None:
    """The baseline (component, freedom) in units of the noise, white over components and time; None without one."""
    white, root = spectrum.problem.white_baseline, spectrum.structure.noise_root(spectrum.problem)
    if white is None:
        return None
    return np.asarray((white if root is None else solve_triangular(root, white, lower=True)) / noise)
