"""Simulate a recording of known currents, with noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

from bayesinv.axes import Array, real, same_axes
from bayesinv.forward.leadfield import LeadField
from bayesinv.problem.noise import Noise
from bayesinv.problem.problem import Problem
from bayesinv.problem.recording import Recording
from bayesinv.simulation.courses import sampling_rate
from bayesinv.simulation.noise import NoiseProcess, gaussian_noise, shrunk_covariance
from bayesinv.simulation.truth import Truth

HELD_OUT = 2000
"""Samples of noise from which a covariance is estimated where it is not known."""


@dataclass(frozen=True, eq=False)
class Simulation:
    """A recording whose truth is known.

    recording : signal plus noise; samples before time 0 are noise only if the truth is zero there
    noise : the noise covariance that the analyst has, true or estimated from other noise (see `notes`)
    truth : the true currents
    lead_field : of the truth's sources
    snr : power of the signal over that of the noise, both whitened by the noise's true covariance, per component and
        sample of the response
    notes : description of the noise and of its covariance, for people to read
    """

    recording: Recording
    noise: Noise
    truth: Truth
    lead_field: LeadField
    snr: float
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def baseline(self) -> Array:
        """Field (sensor, sample) before time 0."""
        return self.recording.field[:, self.recording.times < 0]

    def problem(self, lead_field: LeadField) -> Problem:
        """Return the problem of inverting the recording with another lead field, its samples before time 0 as baseline.

        Raises
        ------
        ValueError
            If the lead field's sensors or reference are others than the recording's.
        """
        if lead_field.sensors.names != self.recording.names:
            raise ValueError("the lead field has other sensors than the recording; restrict it to the recording's")
        if lead_field.reference != self.lead_field.reference:
            raise ValueError(
                f"the lead field has the reference {lead_field.reference!r}, but the recording "
                f"{self.lead_field.reference!r}; use rereference"
            )
        before = self.recording.times < 0
        gain = lead_field.gain[:, :, 0] if lead_field.orientation == "fixed" else lead_field.gain
        return Problem.from_arrays(
            gain,
            self.recording.field[:, ~before],
            self.noise.covariance,
            times=self.recording.times[~before],
            baseline=self.recording.field[:, before] if before.any() else None,
            rank=self.noise.rank,
            sources=lead_field.sources,
            sensors=lead_field.sensors,
            averages=self.recording.averages,
        )


def simulate(
    truth: Truth,
    lead_field: LeadField,
    noise: ArrayLike | NoiseProcess,
    rng: np.random.Generator,
    *,
    snr: float | None = None,
    alpha: float | None = None,
    held_out: int | None = None,
) -> Simulation:
    """Return the sensors' recording of true currents, with noise.

    The signal-to-noise ratio is the power of the signal over that of the noise, both whitened by the true covariance
    C of the noise, averaged over components and over the N samples from time 0 on:

        snr = sum over samples of signalᵀ C⁻¹ signal / (rank(C) N)

    lead_field : of the truth's world, which has the truth's sources among its own; a fixed one must have their normals
    noise : (sensor, sensor) covariance of Gaussian noise that is white over time, in products of SI units, or a
        process such as `gaussian_noise`, `background_noise`, `bootstrap_noise`, a sum or a `blend` of them; with an
        average reference it is referenced too
    snr : the noise is scaled to this ratio; None leaves it as it is
    alpha : instead, the noise as drawn is scaled so that ‖noise‖ / ‖signal‖ = (1 - alpha) / alpha in the Frobenius
        norm over all samples; 0.5 makes them equal
    held_out : samples of other noise that the covariance which the simulation carries is estimated from, with
        `shrunk_covariance`; None takes the true covariance where the noise has one that is known, else `HELD_OUT`

    Raises
    ------
    ValueError
        If shapes do not fit, a ratio is not positive, both are given, or the truth reaches no sensor, unless it is
        zero everywhere and the noise is left as it is.
    """
    if snr is not None and not 0 < snr < np.inf:
        raise ValueError(f"snr is {snr}, but a ratio of powers is positive")
    if alpha is not None and (snr is not None or not 0 < alpha < 1):
        raise ValueError(f"alpha is {alpha}, but must lie between 0 and 1, and comes instead of snr ({snr})")
    forward = _lead_field_of(truth, lead_field)
    gain = forward.fixed().gain[:, :, 0]
    kinds = lead_field.sensors.kinds
    average = np.eye(len(kinds))
    if lead_field.reference == "average":
        electric = lead_field.sensors.where("eeg")
        average[np.ix_(electric, electric)] -= 1 / len(electric)
    process = noise
    if not isinstance(process, NoiseProcess):
        table = real("noise covariance", process, "sensor sensor")
        same_axes(gain=(gain, "sensor source"), noise_covariance=(table, "sensor sensor"))
        process = gaussian_noise(average @ table @ average.T, kinds=kinds)
    same_axes(gain=(gain, "sensor source"), noise_covariance=(process.covariance, "sensor sensor"))
    if process.names and process.names != lead_field.sensors.names:
        raise ValueError("the noise is of other sensors than the lead field, or in another order; pick them alike")
    covariance = average @ process.covariance @ average.T
    signal = gain @ truth.current
    after = truth.times >= 0
    if not after.any():
        raise ValueError("the truth ends before time 0: there is no response")
    power = float(np.mean((Noise(covariance, kinds).whitener @ signal[:, after]) ** 2))
    if not power > 0 and (truth.current.any() or snr is not None or alpha is not None):
        raise ValueError("the truth reaches no sensor")
    drawn = average @ process.draw(truth.times, rng)
    scale = 1.0 if snr is None else float(np.sqrt(power / snr))
    if alpha is not None:
        scale = float((1 - alpha) / alpha * np.linalg.norm(signal) / np.linalg.norm(drawn))
    notes = {"noise": process.words, "covariance": "true"}
    if held_out is not None or not process.known:
        count = HELD_OUT if held_out is None else held_out
        step = 1 / sampling_rate(truth.times) if len(truth.times) > 1 else 1.0
        samples = average @ (process.held_out or process.draw)(step * np.arange(count, dtype=np.float64), rng)
        covariance, amount = shrunk_covariance(samples, kinds)
        notes["covariance"] = f"estimated from {samples.shape[1]} samples, Ledoit-Wolf shrinkage {amount:.3g}"
    return Simulation(
        Recording(signal + scale * drawn, truth.times, lead_field.sensors.names),
        Noise(scale**2 * covariance, kinds),
        replace(truth, notes={**lead_field.notes, **truth.notes}),
        forward,
        power / scale**2 if snr is None else float(snr),
        notes,
    )


def _lead_field_of(truth: Truth, lead_field: LeadField) -> LeadField:
    """Return the lead field of the truth's sources, found by their positions among those of a lead field.

    Raises
    ------
    ValueError
        If some are not among them, or have other normals than a fixed lead field.
    """
    distance, index = cKDTree(lead_field.sources.positions).query(truth.sources.positions)
    if distance.max() > 1e-6:
        raise ValueError(
            f"{np.count_nonzero(distance > 1e-6)} of the truth's {len(truth.sources)} sources are not among those of "
            f"the lead field: up to {1e3 * distance.max():.3g} mm from the nearest; make the truth on its sources"
        )
    fixed_normals, true_normals = lead_field.sources.normals, truth.sources.normals
    if lead_field.orientation == "fixed" and fixed_normals is not None and true_normals is not None:
        difference = float(np.abs(fixed_normals[index] - true_normals).max())
        if difference > 1e-6:
            raise ValueError(
                f"the truth's normals differ from the lead field's by up to {difference:.3g}, but it is fixed; "
                "give a free one"
            )
    return replace(lead_field, gain=lead_field.gain[:, index], sources=truth.sources)
