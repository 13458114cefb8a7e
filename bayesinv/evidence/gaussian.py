"""The log density of a recording in independent components, for many hyperparameters at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayesinv.axes import Array
from bayesinv.interpolation.log_grid import MovedComponents

LOG_2PI = float(np.log(2 * np.pi))

FACTORS = 6
"""Factors of a product whose logarithm is taken at once."""

CHUNK = 2**16
"""Numbers held in memory at once while many hyperparameters are evaluated."""


def sum_of_logs(total: Array) -> Array:
    """Sum over components of log(total): (node,); one logarithm per product of a few factors."""
    width = total.shape[1] // FACTORS
    product = total[:, FACTORS * width :].prod(axis=1)
    if width:
        blocks = total[:, :width].copy()
        for k in range(1, FACTORS):
            blocks *= total[:, k * width : (k + 1) * width]
        # A product of so few factors stays within the range of a double unless the scales are extreme.
        if blocks.min() > 1e-290 and blocks.max() < 1e290 and product.min() > 1e-290 and product.max() < 1e290:
            return np.asarray(np.log(blocks).sum(axis=1) + np.log(product))
    return np.asarray(np.log(total).sum(axis=1))


FEW_PARTS = 512
"""Parts up to which each is evaluated."""


@dataclass(frozen=True, eq=False)
class Likelihood:
    """Likelihood of a recording's independent parts under one structure, as a function of the two scales.

    A part is a component, or a pair of component and mode of time where time courses are correlated; of many parts, see
    `of_modes`, a point on a grid of eigenvalues to which they were moved.

    eigenvalues : (part,), 1/(A m)², variance of a part that currents of unit variance cause
    powers : (part,), squares of the recording, summed over the samples of a part
    count : samples per part: one number, or (part,)
    constant : term of the log likelihood that does not depend on the scales
    baseline_power : sum of squares of the baseline; None where there is none
    baseline_count, baseline_constant : numbers of the baseline, and the constant term of its log likelihood
    """

    eigenvalues: Array
    powers: Array
    count: int | Array
    constant: float
    baseline_power: float | None = None
    baseline_count: int = 0
    baseline_constant: float = 0.0

    @classmethod
    def of_modes(
        cls, moved: MovedComponents, powers: Array, constant: float, baseline: tuple[float | None, int, float]
    ) -> Likelihood:
        """Return the likelihood of components in modes of time, as a sum over far fewer parts than there are.

        moved : components, on a grid of eigenvalues, see `log_grid`
        powers : (mode,), variance of currents of unit variance in each mode
        baseline : its power, the number of its values, and the constant term of its log likelihood
        """
        eigenvalues, (counts, recorded) = moved.over(powers)
        return cls(eigenvalues, recorded, counts, constant, *baseline)

    def log_likelihood(self, variance: Array, noise: Array) -> Array:
        """Log density (node,) of the recording for source variances and noise scales (node,)."""
        out = np.empty(len(variance))
        step = max(1, CHUNK // len(self.eigenvalues))
        for start in range(0, len(variance), step):
            part = slice(start, start + step)
            total = variance[part, None] * self.eigenvalues + (noise[part] ** 2)[:, None]
            if isinstance(self.count, np.ndarray):
                logs = np.einsum("nc,c->n", np.log(total), self.count)
            else:
                logs = self.count * sum_of_logs(total)
            # Starting BLAS's threads for a matrix product would take longer than these sums.
            out[part] = -0.5 * (logs + np.einsum("nc,c->n", np.divide(1, total, out=total), self.powers))
        return out + self.constant

    def baseline_log_likelihood(self, noise: Array) -> Array:
        """Log density (node,) of the baseline, pure noise of scale `noise` (node,); 0 where there is no baseline."""
        if self.baseline_power is None:
            return np.zeros(len(noise))
        return np.asarray(
            self.baseline_constant - self.baseline_count * np.log(noise) - 0.5 * self.baseline_power / noise**2
        )

    def slopes(self, variance: float, noise: float) -> tuple[float, float]:
        """Derivatives of both log densities by source variance and noise scale."""
        total = variance * self.eigenvalues + noise**2
        each = -0.5 * (self.count / total - self.powers / total**2)
        by_noise = 2 * noise * float(each.sum())
        if self.baseline_power is not None:
            by_noise += -self.baseline_count / noise + self.baseline_power / noise**3
        return float(each @ self.eigenvalues), by_noise
