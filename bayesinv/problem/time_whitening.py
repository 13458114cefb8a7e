"""Whitening over time: from samples whose noise is correlated to samples whose noise is not, and back.

    noise_g ~ MatrixNormal(0, N, K_g),   K_g = L_g L_gᵀ,   white_g = noise_g L_g⁻ᵀ

for each group g of components, whose noise has an autocorrelation of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import solve_triangular

from bayesinv.axes import Array, Index
from bayesinv.memory import PickledByFields, cached_property

if TYPE_CHECKING:
    from bayesinv.problem.problem import Problem

JITTER = 1e-10
"""Added to the diagonal of a correlation matrix, so that rounding leaves it positive definite."""


@dataclass(frozen=True, eq=False)
class TimeWhitening(PickledByFields):
    """Roots of the noise's correlation over the samples of a recording and of its baseline.

    rows : (component,), group of each component
    correlations : (group, time, time), of the recording's samples
    baseline_correlations : (group, freedom, freedom), of orthonormal combinations of the baseline's samples
    basis : (sample, freedom), these combinations; they are orthogonal to the mean where it was subtracted
    lags : (group, lag), correlation of the noise with itself at the lags of the samples, before a mean was subtracted
    """

    rows: Index
    correlations: Array
    baseline_correlations: Array
    basis: Array
    lags: Array

    @classmethod
    def of(cls, problem: Problem) -> TimeWhitening | None:
        """Return the roots that a problem's autocorrelation makes; None where its noise is white.

        Raises
        ------
        ValueError
            If the samples are no whole number of the autocorrelation's steps apart, or its groups are not the noise's.
        """
        known = problem.autocorrelation
        if known is None or known.white:
            return None
        groups = ("sensor",) * problem.components if problem.noise is None else problem.noise.component_modality
        count = 0 if problem.baseline is None else problem.baseline.shape[1]
        basis = np.eye(count)
        if problem.baseline_centred and count:
            basis = np.linalg.qr(np.eye(count)[:, 1:] - 1 / count)[0]
        before = problem.times_of_baseline
        inside, correlations = known.between(before, before), known.between(problem.times, problem.times)
        lags = correlations[:, 0]
        if problem.baseline_centred and count:
            # The mean of the baseline was subtracted from the recording, too, and with it its noise.
            crossing = known.between(problem.times, before).mean(axis=2)
            offset = inside.mean(axis=(1, 2))[:, None, None]
            correlations = correlations - crossing[:, :, None] - crossing[:, None, :] + offset
        return cls(known.of_component(groups), correlations, basis.T @ inside @ basis, basis, lags)

    @cached_property
    def roots(self) -> Array:
        """L_g of the recording's samples: (group, time, time), lower triangles."""
        return _roots(self.correlations)

    @cached_property
    def baseline_roots(self) -> Array:
        """L_g of the combinations of the baseline's samples: (group, freedom, freedom)."""
        return _roots(self.baseline_correlations)

    @cached_property
    def log_diagonals(self) -> Array:
        """Logarithms of the diagonals of L_g by component: (component, time)."""
        return np.log(np.diagonal(self.roots, axis1=1, axis2=2))[self.rows]

    @property
    def log_volumes(self) -> Array:
        """log |K_g| of the recording's samples by component: (component,)."""
        return np.asarray(2 * self.log_diagonals.sum(axis=1))

    @cached_property
    def baseline_log_volumes(self) -> Array:
        """log |K_g| of the baseline's combinations by component: (component,)."""
        diagonals = np.diagonal(self.baseline_roots, axis1=1, axis2=2)
        return np.asarray(2 * np.log(diagonals).sum(axis=1)[self.rows])

    @cached_property
    def correlation(self) -> Array:
        """Correlation over time, mean over the components: (time, time)."""
        return np.tensordot(self._shares, self.correlations, axes=1)

    @property
    def lagged(self) -> Array:
        """Correlation at the lags of the samples, mean over the components: (lag,)."""
        return np.asarray(self._shares @ self.lags)

    @property
    def _shares(self) -> Array:
        """Share of the components that each group has: (group,)."""
        return np.asarray(np.bincount(self.rows, minlength=len(self.lags)) / len(self.rows))

    @cached_property
    def mean_root(self) -> Array:
        """L with L Lᵀ the mean correlation: (time, time), lower triangle."""
        return np.asarray(_roots(self.correlation))

    @cached_property
    def mean_inverse(self) -> Array:
        """L⁻¹ of the mean correlation: (time, time)."""
        if len(self.correlations) == 1:
            return np.asarray(self.inverses[0])
        return np.asarray(solve_triangular(self.mean_root, np.eye(len(self.mean_root)), lower=True))

    @property
    def mean_log_volume(self) -> float:
        """log |K| of the mean correlation."""
        return 2 * float(np.log(np.diag(self.mean_root)).sum())

    @cached_property
    def inverses(self) -> Array:
        """L_g⁻¹ of the recording's samples: (group, time, time)."""
        return np.stack([solve_triangular(root, np.eye(len(root)), lower=True) for root in self.roots])

    @cached_property
    def baseline_inverses(self) -> Array:
        """From the baseline's samples to combinations whose noise is white: (group, freedom, sample)."""
        return np.stack([solve_triangular(root, self.basis.T, lower=True) for root in self.baseline_roots])

    def white(self, table: Array) -> Array:
        """A recording (component, time) with the noise made white over time."""
        return self.by_group(table, self.inverses)

    def white_baseline(self, table: Array) -> Array:
        """A baseline (component, sample) with the noise made white over time: (component, freedom)."""
        return self.by_group(table, self.baseline_inverses)

    def coloured(self, table: Array) -> Array:
        """White noise (component, time) with the correlation over time that a recording's noise has."""
        return self.by_group(table, self.roots)

    def coloured_baseline(self, table: Array) -> Array:
        """White noise (component, freedom) with the correlation over time of a baseline's: (component, sample)."""
        return self.by_group(table, self.basis @ self.baseline_roots)

    def by_group(self, table: Array, matrices: Array) -> Array:
        """A table (component, sample) times the transpose of each group's matrix (group, combination, sample)."""
        out = np.empty((len(table), matrices.shape[1]))
        for group, matrix in enumerate(matrices):
            members = self.rows == group
            out[members] = table[members] @ matrix.T
        return out


def _roots(correlations: Array) -> Array:
    return np.asarray(np.linalg.cholesky(correlations + JITTER * np.eye(correlations.shape[-1])))
