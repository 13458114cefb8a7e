"""Innovations: what a stationary process is beyond its prediction from the past, at a cost linear in the samples.

    innovation_t = (y_t - Σ_k a_k y_(t-k)) / σ,   k = 1 ... order

An autoregressive process is predicted from `order` samples; the first ones are whitened by the root of their own
correlation. A mean that was subtracted from the process, and is correlated with it, changes the correlation by

    K' = K + U W Uᵀ,   U = [1, c],   W = [[o, -1], [-1, 0]]

with c the correlation with that mean and o its variance. With Z = L⁻¹ U the innovations v of K are those of K' once
what the earlier ones tell of the two numbers behind W is subtracted, which takes two cumulative sums.

References: Brockwell & Davis (1991), Time Series, §5.2 (Durbin and Levinson); Harvey (1989), Forecasting, §3.2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import solve_triangular, toeplitz

from bayesinv.axes import Array

BLOCK = 128
"""Fewest samples that are predicted by one product of matrices."""

TOLERANCE = 1e-7
"""Expected loss of log density, in nats, at which samples further in the past are left out; by chance it varies by the
root of twice that."""

SETTLED = 16
"""Fewest reflections in a row that must be negligible, beside a quarter of all, before the rest is taken for it."""

LONGEST_SHARE = 0.25
"""Largest order, relative to the number of samples, of a process that is predicted rather than taken as a matrix."""


@dataclass(frozen=True, eq=False)
class Innovations:
    """From a stationary process over equally spaced samples to independent innovations, and back.

    coefficients : (order,), of the prediction from the past, the latest first
    spread : standard deviation of its error
    head : (order, order), root of the correlation of the first samples
    length : number of samples
    effects : (2, time), Z; and gains : (2, time), of each innovation on the two numbers; None where no mean was
        subtracted
    spreads : (time,), of the innovations once these are known from the earlier ones
    """

    coefficients: Array
    spread: float
    head: Array
    length: int
    effects: Array | None = None
    gains: Array | None = None
    spreads: Array | None = None

    @classmethod
    def of(cls, correlation: Array, components: int) -> Innovations | None:
        """Return the innovations of a process of some correlation (lag,); None where its memory is too long.

        components : how many share the process, all of which count for the tolerance
        """
        length = len(correlation)
        longest = int(LONGEST_SHARE * length)
        # Expected log density of all samples that is lost with a reflection, by its square.
        each = 0.5 * components * length
        lost, coefficients, powers = [0.0], [np.zeros(0)], [float(correlation[0])]
        last = int(np.flatnonzero(correlation)[-1])
        while len(lost) <= last + SETTLED or sum(lost[-SETTLED - len(lost) // 4 :]) > 0.1 * TOLERANCE:
            order = len(lost)
            if order > longest:
                return None
            known = coefficients[-1]
            reflection = float(correlation[order] - known @ correlation[order - 1 : 0 : -1]) / powers[-1]
            lost.append(each * reflection**2)
            coefficients.append(np.append(known - reflection * known[::-1], reflection))
            powers.append(powers[-1] * (1 - reflection**2))
        beyond = np.cumsum(lost[::-1])[::-1] - lost
        order = int(np.flatnonzero(beyond <= TOLERANCE)[0])
        head = np.linalg.cholesky(toeplitz(correlation[:order])) if order else np.zeros((0, 0))
        return cls(coefficients[order], float(np.sqrt(powers[order])), head, length)

    def without_mean(self, crossing: Array, variance: float) -> Innovations:
        """Return the innovations of the process less a mean that is correlated with it.

        crossing : (time,), correlation of the samples with the mean
        variance : of the mean
        """
        effects = self.white(np.stack([np.ones(self.length), crossing]))
        weights = np.array([[variance, -1.0], [-1.0, 0.0]])
        products = np.einsum("at,bt->tab", effects, effects)
        before = np.cumsum(products, axis=0) - products
        known = weights @ np.linalg.inv(np.eye(2) + before @ weights)
        gains = np.einsum("tab,bt->at", known, effects)
        return replace(self, effects=effects, gains=gains, spreads=np.sqrt(1 + np.sum(gains * effects, axis=0)))

    @property
    def log_diagonal(self) -> Array:
        """Logarithm of the diagonal of the root of the correlation: (time,)."""
        out = np.full(self.length, np.log(self.spread))
        out[: len(self.head)] = np.log(np.diag(self.head))
        return out if self.spreads is None else out + np.log(self.spreads)

    def white(self, table: Array) -> Array:
        """Innovations (component, time) of a table (component, time)."""
        order = len(self.coefficients)
        out = np.empty(table.shape)
        out[:, :order] = solve_triangular(self.head, table[:, :order].T, lower=True).T
        size = max(order, BLOCK)
        taps = np.append(-self.coefficients[::-1], 1.0) / self.spread
        # A block of samples and those before it, times the matrix of the filter.
        matrix = toeplitz(np.append(taps, np.zeros(size - 1)), np.append(taps[:1], np.zeros(size - 1)))
        for start in range(order, self.length, size):
            given = table[:, start - order : start + size]
            out[:, start : start + size] = given @ matrix[: given.shape[1], : given.shape[1] - order]
        if self.effects is None or self.gains is None or self.spreads is None:
            return out
        told = np.zeros_like(out)
        for effect, gain in zip(self.effects, self.gains, strict=True):
            told += _before(out * effect) * gain
        return np.asarray((out - told) / self.spreads)

    def coloured(self, unit: Array) -> Array:
        """A table (component, time) of independent innovations (component, time)."""
        if self.effects is not None and self.gains is not None and self.spreads is not None:
            told = np.zeros_like(unit)
            for effect, gain in zip(self.effects, self.gains, strict=True):
                told += _before(unit * (gain / self.spreads)) * effect
            unit = unit * self.spreads + told
        order = len(self.coefficients)
        out = np.empty(unit.shape)
        out[:, :order] = unit[:, :order] @ self.head.T
        if not order:
            return unit * self.spread
        from scipy.signal import lfilter, lfiltic  # which load slowly

        poles = np.append(1.0, -self.coefficients)
        for row, given in zip(out, unit, strict=True):
            state = lfiltic([self.spread], poles, row[:order][::-1])
            row[order:] = lfilter([self.spread], poles, given[order:], zi=state)[0]
        return out


def _before(table: Array) -> Array:
    """Sums (component, time) of the earlier samples."""
    return np.asarray(np.cumsum(table, axis=1) - table)
