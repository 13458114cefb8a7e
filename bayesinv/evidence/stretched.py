"""The log density of a long recording from those of its stretches, less those of what they share, and its slope."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import toeplitz

from bayesinv.axes import Array
from bayesinv.covariance.stretches import Part
from bayesinv.evidence.gaussian import Likelihood
from bayesinv.interpolation.log_grid import MovedComponents


def likelihood_of(
    parts: Sequence[tuple[Part, Array]], values: Array, constant: float, baseline: tuple[float | None, int, float]
) -> Likelihood:
    """Return the likelihood of a recording as one of few parts on a grid of eigenvalues; overlaps count negatively.

    parts : stretches and overlaps, with the recording in the modes of each: (component, stretch, mode)
    values : (component,), 1/(A m)², eigenvalues of the Gram matrix
    constant : of the log likelihood, but for the volume of the noise over time
    baseline : its power, the number of its values, and the constant term of its log likelihood
    """
    eigenvalues, counts, powers = [], [], []
    for part, coefficients in parts:
        moved = MovedComponents.of([(values, np.einsum("csm,csm->cm", coefficients, coefficients))])
        points, (count, power) = moved.over(part.modes.powers)
        eigenvalues.append(points)
        counts.append(part.sign * len(part.starts) * count)
        powers.append(part.sign * power)
        constant -= 0.5 * part.sign * len(part.starts) * len(values) * part.modes.log_volume
    return Likelihood(np.concatenate(eigenvalues), np.concatenate(powers), np.concatenate(counts), constant, *baseline)


def slope_of(parts: Sequence[tuple[Part, Array]], values: Array, variance: float, noise: float, change: Array) -> float:
    """Return the derivative of the log density by the currents' time constant, 1/s, see `Spectrum.slope_by_time`.

    change : (lag,), 1/s, derivative of the currents' correlation over time
    """
    out = 0.0
    for part, coefficients in parts:
        total = variance * values[:, None] * part.modes.powers + noise**2
        among = part.modes.to_modes.T @ toeplitz(change[: part.length]) @ part.modes.to_modes
        solved = (coefficients * (np.sqrt(values)[:, None] / total)[:, None]).reshape(-1, part.length)
        recorded = float(np.vdot(solved @ among, solved))
        expected = len(part.starts) * float(values @ (1 / total) @ np.diag(among))
        out += 0.5 * part.sign * variance * (recorded - expected)
    return out
