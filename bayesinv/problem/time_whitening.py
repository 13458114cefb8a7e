"""Whitening over time: from samples whose noise is correlated to samples whose noise is not, and back.

    noise_g ~ MatrixNormal(0, N, K_g),   K_g = L_g L_gᵀ,   white_g = noise_g L_g⁻ᵀ

for each group g of components, whose noise has an autocorrelation of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import solve_triangular
from scipy.linalg.lapack import dtrtrs

from bayesinv.axes import Array, Index
from bayesinv.memory import PickledByFields, cached_property
from bayesinv.problem.autocorrelation import GRID_TOLERANCE, Autocorrelation
from bayesinv.problem.innovations import Innovations

if TYPE_CHECKING:
    from bayesinv.problem.problem import Problem

DENSE = 512
"""Most samples whose correlations are taken as a matrix."""

JITTER = 1e-10
"""Added to the diagonal of a correlation matrix, so that rounding leaves it positive definite."""


@dataclass(frozen=True, eq=False)
class TimeWhitening(PickledByFields):
    """Roots of the noise's correlation over the samples of a recording and of its baseline.

    Long recordings of equally spaced samples are predicted from their past, see `Innovations`; the matrices, which take
    the square of their length to hold, are made only where they are asked for.

    rows : (component,), group of each component
    known : the noise's autocorrelation
    times, quiet_times : (time,) and (sample,), s, of the recording and of its baseline
    mean_times : (sample,), s, over which the mean was subtracted from the recording; (0,) for no such mean
    """

    rows: Index
    known: Autocorrelation
    times: Array
    quiet_times: Array
    mean_times: Array

    @classmethod
    def of(cls, problem: Problem) -> TimeWhitening | None:
        """Return the roots that a problem's autocorrelation makes; None where its noise is white.

        White noise that is not so by choice has roots where a mean was subtracted, see `_white_of_centred`.

        Raises
        ------
        ValueError
            If the samples are no whole number of the autocorrelation's steps apart, or its groups are not the noise's.
        """
        known, quiet = problem.autocorrelation, problem.times_of_baseline
        means = mean_times(problem)
        if known is None or known.chosen_white:
            return None
        if known.white:
            known = _white_of_centred(problem.times, quiet, means) if len(means) else None
            if known is None:
                return None
        if len(known.values) > 1 and not np.ptp(known.values, axis=0).any():
            # Groups of one colour are one, whose modes of time are exact.
            known = replace(known, values=known.values[:1], groups=())
        groups = ("sensor",) * problem.components if problem.noise is None else problem.noise.component_modality
        known.at(np.concatenate([problem.times, quiet, means]) - problem.times[0])
        return cls(known.of_component(groups), known, problem.times, quiet, means)

    @property
    def centred(self) -> bool:
        """Whether a mean was subtracted from the recording, and from the baseline its own."""
        return len(self.mean_times) > 0

    @property
    def groups(self) -> int:
        """Number of groups."""
        return len(self.known.values)

    @cached_property
    def _crossing(self) -> Array:
        """Correlation of the recording's noise with the mean that was subtracted: (group, time)."""
        parts = np.array_split(self.times, len(self.times) // DENSE + 1)
        return np.hstack([self.known.between(part, self.mean_times).mean(axis=2) for part in parts])

    @cached_property
    def _mean_variance(self) -> Array:
        """Variance of that mean: (group,)."""
        parts = np.array_split(self.mean_times, len(self.mean_times) // DENSE + 1)
        return np.sum([self.known.between(one, self.mean_times).sum(axis=(1, 2)) for one in parts], axis=0) / (
            len(self.mean_times) ** 2
        )

    @cached_property
    def correlations(self) -> Array:
        """Correlation of the noise over the recording's samples: (group, time, time)."""
        found = self.known.between(self.times, self.times)
        if not self.centred:
            return found
        # With the mean its noise was subtracted.
        shared = self._crossing - 0.5 * self._mean_variance[:, None]
        found -= shared[:, :, None]
        found -= shared[:, None, :]
        return found

    @cached_property
    def basis(self) -> Array:
        """Orthonormal combinations of the baseline's samples, orthogonal to a mean that was subtracted."""
        count = len(self.quiet_times)
        return np.linalg.qr(np.eye(count)[:, 1:] - 1 / count)[0] if self.centred else np.eye(count)

    @cached_property
    def baseline_correlations(self) -> Array:
        """Correlation of the noise of these combinations: (group, freedom, freedom)."""
        return np.asarray(self.basis.T @ self.known.between(self.quiet_times, self.quiet_times) @ self.basis)

    # --- by prediction

    @cached_property
    def _predicted(self) -> tuple[Innovations, ...] | None:
        """Innovations of a long recording, by group; None where the matrices are taken."""
        found = self._innovations(self.times)
        if found is None or not self.centred:
            return found
        pairs = zip(found, self._crossing, self._mean_variance, strict=True)
        return tuple(one.without_mean(crossing, float(variance)) for one, crossing, variance in pairs)

    @cached_property
    def _quiet_predicted(self) -> tuple[tuple[Innovations, Array], ...] | None:
        """Innovations of a long baseline, by group, and what a constant has of them (1, sample); None for matrices."""
        found = self._innovations(self.quiet_times)
        if found is None:
            return None
        return tuple((one, one.white(np.ones((1, one.length)))) for one in found)

    def _innovations(self, times: Array) -> tuple[Innovations, ...] | None:
        if len(times) <= DENSE or float(np.ptp(np.diff(times))) > GRID_TOLERANCE * self.known.step:
            return None
        counts = np.bincount(self.rows, minlength=self.groups)
        correlations = self.known.at(times - times[0])
        correlations[:, 0] += JITTER
        found = [Innovations.of(one, max(1, count)) for one, count in zip(correlations, counts.tolist(), strict=True)]
        some = [one for one in found if one is not None]
        return tuple(some) if len(some) == len(found) else None

    # --- by matrices

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
        if self._predicted is not None:
            return np.stack([one.log_diagonal for one in self._predicted])[self.rows]
        return np.log(np.diagonal(self.roots, axis1=1, axis2=2))[self.rows]

    @property
    def log_volumes(self) -> Array:
        """log |K_g| of the recording's samples by component: (component,)."""
        return np.asarray(2 * self.log_diagonals.sum(axis=1))

    @cached_property
    def baseline_log_volumes(self) -> Array:
        """log |K_g| of the baseline's combinations by component: (component,)."""
        if self._quiet_predicted is not None:
            each = [2 * float(one.log_diagonal.sum()) for one, _ in self._quiet_predicted]
            if self.centred:
                # |basisᵀ K basis| = |K| 1ᵀ K⁻¹ 1 / count
                each = [a + float(np.log(np.mean(b**2))) for a, (_, b) in zip(each, self._quiet_predicted, strict=True)]
            return np.array(each)[self.rows]
        diagonals = np.diagonal(self.baseline_roots, axis1=1, axis2=2)
        return np.asarray(2 * np.log(diagonals).sum(axis=1)[self.rows])

    @cached_property
    def correlation(self) -> Array:
        """Correlation over time, mean over the components: (time, time)."""
        return np.tensordot(self._shares, self.correlations, axes=1)

    @cached_property
    def variances(self) -> Array:
        """Diagonal of `correlation` (time,), which is not made."""
        if not self.centred:
            return np.ones(len(self.times))
        return np.asarray(1.0 + self._shares @ (self._mean_variance[:, None] - 2 * self._crossing))

    @property
    def _shares(self) -> Array:
        """Share of the components that each group has: (group,)."""
        return np.asarray(np.bincount(self.rows, minlength=self.groups) / len(self.rows))

    @cached_property
    def mean_root(self) -> Array:
        """L with L Lᵀ the mean correlation: (time, time), lower triangle."""
        return np.asarray(_roots(self.correlation))

    @cached_property
    def mean_inverse(self) -> Array:
        """L⁻¹ of the mean correlation: (time, time)."""
        if self.groups == 1:
            return np.asarray(self.inverses[0])
        return np.asarray(solve_triangular(self.mean_root, np.eye(len(self.mean_root)), lower=True))

    @cached_property
    def across(self) -> Array:
        """K_g^½ K_1^-½, from a course as the group of most components has it to others: (group, time, time)."""
        leading = int(np.argmax(np.bincount(self.rows)))
        values, vectors = np.linalg.eigh(self.correlations)
        root = np.sqrt(np.maximum(values, np.finfo(float).tiny))[:, None]
        inverse = (vectors[leading] / root[leading]) @ vectors[leading].T
        found = (vectors * root) @ vectors.swapaxes(1, 2) @ inverse
        found[leading] = np.eye(len(inverse))
        return np.asarray(found)

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
        if self._predicted is None:
            return self._each(table, [partial(_solved, root) for root in self.roots], table.shape[1])
        return self._each(table, [one.white for one in self._predicted], table.shape[1])

    def white_baseline(self, table: Array) -> Array:
        """A baseline (component, sample) with the noise made white over time: (component, freedom)."""
        if self._quiet_predicted is None:
            triangles = [partial(_solved, root) for root in self.baseline_roots]
            return self._each(table @ self.basis if self.centred else table, triangles, self.basis.shape[1])
        arrows = [self._white_quiet(one, constant) for one, constant in self._quiet_predicted]
        return self._each(table, arrows, table.shape[1] - int(self.centred))

    def coloured(self, table: Array) -> Array:
        """White noise (component, time) with the correlation over time that a recording's noise has."""
        if self._predicted is None:
            return self.by_group(table, self.roots)
        return self._each(table, [one.coloured for one in self._predicted], table.shape[1])

    def coloured_baseline(self, table: Array) -> Array:
        """White noise (component, freedom) with the correlation over time of a baseline's: (component, sample)."""
        if self._quiet_predicted is None:
            return self.by_group(table, self.basis @ self.baseline_roots)
        arrows = [self._coloured_quiet(one, constant) for one, constant in self._quiet_predicted]
        return self._each(table, arrows, len(self.quiet_times))

    def _white_quiet(self, innovations: Innovations, constant: Array) -> Callable[[Array], Array]:
        if not self.centred:
            return innovations.white
        return lambda table: _reflected(innovations.white(table), constant)[:, 1:]

    def _coloured_quiet(self, innovations: Innovations, constant: Array) -> Callable[[Array], Array]:
        if not self.centred:
            return innovations.coloured

        def coloured(unit: Array) -> Array:
            found = innovations.coloured(_reflected(np.pad(unit, ((0, 0), (1, 0))), constant))
            return np.asarray(found - found.mean(axis=1, keepdims=True))

        return coloured

    def _each(self, table: Array, arrows: Sequence[Callable[[Array], Array]], length: int) -> Array:
        """A table (component, sample) after the function of each component's group: (component, length)."""
        out = np.empty((len(table), length))
        for group, arrow in enumerate(arrows):
            members = self.rows == group
            out[members] = arrow(table[members])
        return out

    def by_group(self, table: Array, matrices: Array) -> Array:
        """A table (component, sample) times the transpose of each group's matrix (group, combination, sample)."""
        out = np.empty((len(table), matrices.shape[1]))
        for group, matrix in enumerate(matrices):
            members = self.rows == group
            out[members] = table[members] @ matrix.T
        return out


def mean_times(problem: Problem) -> Array:
    """Times (sample,) in s over which the mean was subtracted from a recording; (0,) where none was."""
    if problem.corrected_times is not None:
        return problem.corrected_times
    return problem.times_of_baseline if problem.baseline_centred else np.zeros(0)


def _white_of_centred(times: Array, quiet: Array, means: Array) -> Autocorrelation | None:
    """White noise, the mean of which over some times is in all samples; None where samples are many, or on no grid."""
    if len(times) > DENSE or max(len(quiet), len(means)) > 2 * DENSE:
        return None
    step = float(np.median(np.diff(max((times, quiet, means), key=len))))
    steps = (np.concatenate([times, quiet, means]) - times[0]) / step
    return None if np.abs(steps - np.rint(steps)).max() > GRID_TOLERANCE else Autocorrelation(np.ones((1, 1)), step)


def several_colours(whitening: TimeWhitening | None) -> bool:
    """Whether noise is of several colours over time, one for MEG and another for EEG."""
    return whitening is not None and whitening.groups > 1


def _roots(correlations: Array) -> Array:
    return np.asarray(np.linalg.cholesky(correlations + JITTER * np.eye(correlations.shape[-1])))


def _solved(root: Array, table: Array) -> Array:
    """A table (component, sample) times the transpose of the inverse of a lower triangle."""
    return np.asarray(dtrtrs(root.T, table.T, lower=0, trans=1)[0]).T


def _reflected(table: Array, constant: Array) -> Array:
    """Rows (component, sample) reflected so that a direction (1, sample) becomes that of the first sample."""
    axis = constant.copy()
    axis[0, 0] += np.copysign(np.linalg.norm(constant), constant[0, 0])
    return np.asarray(table - 2 * (table @ axis.T) * axis / np.sum(axis**2))
