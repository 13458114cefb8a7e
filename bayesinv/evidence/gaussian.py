"""The log density of a recording in independent components, for many hyperparameters at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import factorial

import numpy as np

from bayesinv.axes import Array, Index

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


FEW_PARTS = 2048
"""Parts up to which each is evaluated."""

SPACING, STENCIL = 0.1, 10
"""Distance of the grid's points in the logarithm of the eigenvalue, and points that a part is moved to: the error is
(SPACING / 2π)^STENCIL times a few hundred, below rounding."""

SMALLEST_SHARE = 1e-18
"""Eigenvalue, relative to the largest, below which it is taken for zero."""


def _move(mass: Array, top: int, values: Array, powers: Array, table: Array) -> None:
    """Add the parts of a block to a grid of eigenvalues, see `Likelihood.of_modes`.

    mass : (2, 1 + point), counts and powers; point k > 0 is the eigenvalue exp(SPACING (top - points + k))
    """
    size = mass.shape[1] - 1
    live, on = values > SMALLEST_SHARE * values.max(initial=0), powers > SMALLEST_SHARE * powers.max(initial=0)
    mass[0, 0] += table.size - np.count_nonzero(live) * np.count_nonzero(on)
    mass[1, 0] += table.sum() - table[np.ix_(live, on)].sum()
    if not (live.any() and on.any()):
        return
    first, weights = _stencil(np.log(values[live]) / SPACING)
    low = first.min()
    width = int(first.max() - low) + STENCIL
    to_points = np.zeros((width, len(first)))
    to_points[(first - low) + np.arange(STENCIL)[:, None], np.arange(len(first))] = weights
    moved = np.empty((2, width, int(np.count_nonzero(on))))
    moved[0] = to_points.sum(axis=1)[:, None]
    moved[1] = to_points @ table[np.ix_(live, on)]
    columns = np.ascontiguousarray(moved.transpose(2, 0, 1))
    starts, shares = _stencil(np.log(powers[on]) / SPACING)
    for column, start, share in zip(columns, starts + low - (top - size), shares.T, strict=True):
        # Points below the grid count as zero.
        below = int(min(max(0, 1 - start), width + STENCIL - 1))
        for row, one in zip(mass, column, strict=True):
            found = np.convolve(one, share)
            row[start + below : start + len(found)] += found[below:]
            row[0] += found[:below].sum() if below else 0.0


def _stencil(place: Array) -> tuple[Index, Array]:
    """First of the points around places (part,), and weights (point, part) of polynomial interpolation from them."""
    first = np.floor(place).astype(np.int64) - (STENCIL // 2 - 1)
    distance = place - first - np.arange(STENCIL)[:, None]
    # So small a number cancels where a place is a point.
    distance[distance == 0] = 1e-200
    lone = [factorial(k) * factorial(STENCIL - 1 - k) * (-1.0) ** (STENCIL - 1 - k) for k in range(STENCIL)]
    return first, np.asarray(np.prod(distance, axis=0) / distance / np.array(lone)[:, None])


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
        cls,
        blocks: Sequence[tuple[Array, Array, Array]],
        constant: float,
        baseline_power: float | None = None,
        baseline_count: int = 0,
        baseline_constant: float = 0.0,
    ) -> Likelihood:
        """Return the likelihood of components in modes of time, as a sum over far fewer parts where they are many.

        log(variance λ + noise²) and its reciprocal are analytic in log λ, within π of the real axis. Between points
        equally spaced in log λ they are polynomials to rounding, so that a part counts as parts at `STENCIL` points
        around it, with the weights of polynomial interpolation. λ is a product of one number of the component and one
        of the mode: components are moved first, and then all of a mode together.

        blocks : values (component,) and powers (mode,) whose products are the eigenvalues, and squared coefficients
            (component, mode)

        Reference: Trefethen (2019), Approximation Theory and Approximation Practice, chapters 5 and 11.
        """
        rest = constant, baseline_power, baseline_count, baseline_constant
        largest = max(float(values.max() * powers.max()) for values, powers, _ in blocks)
        if sum(table.size for _, _, table in blocks) < FEW_PARTS or not largest > 0:
            eigenvalues = np.concatenate([np.outer(values, powers).ravel() for values, powers, _ in blocks])
            return cls(eigenvalues, np.concatenate([table.ravel() for _, _, table in blocks]), 1, *rest)
        top = int(np.ceil(np.log(largest) / SPACING)) + 2 * STENCIL
        size = round(-np.log(SMALLEST_SHARE) / SPACING) + 4 * STENCIL
        # Row 0 of the grid is λ = 0; the others end at the largest λ. Counts, and powers of the recording.
        mass = np.zeros((2, size + 1))
        for values, powers, table in blocks:
            _move(mass, top, values, powers, table)
        grid = np.exp(SPACING * np.arange(top - size + 1, top + 1))
        return cls(np.append(0.0, grid), mass[1], mass[0], *rest)

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
