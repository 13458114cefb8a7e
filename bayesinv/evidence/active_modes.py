"""Modes of time that hold the courses of sources, and bases of the components in which each of them is independent.

A course is T^½ z with z ~ Normal(0, 1) over time. What the noise K_g = R_g R_gᵀ of a group of sensors lets through of
it is its information M_g = T^½ K_g⁻¹ T^½. With V the eigenvectors of the mean information over components, the white
recording of group g is taken to modes by the orthonormal O_g that are nearest to what the group sees of V,

    R_g⁻¹ T^½ V = O_g H_g,   y_gk = o_gkᵀ R_g⁻¹ y_g,   √μ_gk = o_gkᵀ R_g⁻¹ T^½ v_k

so that mode k has noise of variance one and a signal √μ_gk z_k. Where all noise has one colour this is exact. Where
colours differ (MEG, EEG) the noise is still as it is; what is left out is what a mode has of the signal of others, off
the diagonal of H_g. In units in which the signal is the same in all groups, the noise of each mode has one spread per
group, √(μ_1k / μ_gk) relative to the group of most components, 1. Modes of nearly the same spreads are a block: they
share an eigenbasis of dense currents, of noise in these units. Bases stand side by side, so that a field has a row per
block and component.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from bayesinv.axes import Array, Index
from bayesinv.covariance.covariance import Structure
from bayesinv.covariance.time_course import correlation_over_time
from bayesinv.covariance.time_modes import TimeModes
from bayesinv.evidence.spectrum import Decomposition
from bayesinv.memory import PickledByFields, cached_property
from bayesinv.problem.problem import Problem
from bayesinv.problem.time_whitening import TimeWhitening

LEAST_POWER = 1e-4
"""Power of a mode of time relative to the strongest, below which sources have no course in it."""

STEP = 0.2
"""Width of the classes of the logarithm of one group's noise variance over another's, in a mode."""

FARTHEST = 30
"""Classes from the middle at most: what lies beyond is a group that sees nothing of a mode beside another one."""


@dataclass(frozen=True, eq=False)
class FocalModes(PickledByFields):
    """Modes of time that hold the courses of sources, with one time constant.

    powers : (mode,), variance of a course of unit variance, in units of the noise's in the group of most components
    to_modes : (group, time, mode), from a recording to modes
    courses : (mode, time), from modes to a recording
    classes : (mode, group), of the logarithm of each group's noise variance; modes of one class are side by side
    rows : (component,), group of each
    """

    powers: Array
    to_modes: Array
    courses: Array
    classes: Index
    rows: Index

    @classmethod
    def of(cls, problem: Problem, constant: float | None, course: str = "matern") -> FocalModes:
        """Return the modes of courses with a time constant in s; None stands for the noise's own correlation."""
        whitening, count = problem.time_whitening, len(problem.times)
        rows = np.zeros(problem.components, dtype=np.int64)
        if whitening is not None and whitening.groups > 1:
            if constant is None:
                # In the view of each group of sensors the correlation of its noise.
                to_modes, root = whitening.inverses.swapaxes(1, 2), whitening.mean_root
                classes = np.zeros((count, whitening.groups), dtype=np.int64)
                return cls(np.ones(count), to_modes, np.ascontiguousarray(root.T), classes, whitening.rows)
            return cls._of_colours(whitening, correlation_over_time(problem.times, constant, course))
        none = np.zeros((count, 1), dtype=np.int64)
        if constant is None:
            if whitening is None:
                return cls(np.ones(count), np.eye(count)[None], np.eye(count), none, rows)
            root = whitening.mean_root
            to_modes = np.asarray(np.linalg.inv(root).T)[None]
            return cls(np.ones(count), to_modes, np.ascontiguousarray(root.T), none, rows)
        modes = TimeModes.of(problem, constant, course)
        kept = np.flatnonzero(modes.powers > LEAST_POWER * modes.powers.max())[::-1]
        from_modes = np.ascontiguousarray(modes.from_modes[:, kept].T)
        return cls(modes.powers[kept], modes.to_modes[:, kept][None], from_modes, none[kept], rows)

    @classmethod
    def _of_colours(cls, whitening: TimeWhitening, over: Array) -> FocalModes:
        """Modes of courses of correlation (time, time), where noise has several colours."""
        numbers = np.bincount(whitening.rows, minlength=whitening.groups)
        leading = int(np.argmax(numbers))
        values, vectors = np.linalg.eigh(over)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        seen = whitening.inverses @ root
        information = seen.swapaxes(1, 2) @ seen
        axes = np.linalg.eigh(np.tensordot(numbers / numbers.sum(), information, axes=1))[1][:, ::-1]
        largest = np.einsum("tm,gts,sm->gm", axes, information, axes, optimize=True).max(axis=0)
        # A mode that one group alone sees is kept, too.
        kept = np.flatnonzero(largest > LEAST_POWER * largest.max())
        shown = seen @ axes[:, kept]
        left, _, right = np.linalg.svd(shown, full_matrices=False)
        turned = left @ right
        each = np.maximum(np.sum(turned * shown, axis=1) ** 2, 1e-12 * largest[kept])
        classes = np.rint(np.log(each[leading] / each) / STEP).astype(np.int64).clip(-FARTHEST, FARTHEST).T
        order = np.lexsort(classes.T[::-1])
        kept, each, classes = kept[order], each[:, order], classes[order]
        spreads = np.exp(0.5 * STEP * classes.T)
        to_modes = solve_each(whitening.roots, turned[:, :, order]) * spreads[:, None]
        courses = np.ascontiguousarray((root @ axes[:, kept] / np.sqrt(each[leading])).T)
        return cls(each[leading], to_modes, courses, classes, whitening.rows)

    def spread(self, mode: int) -> Array | None:
        """Standard deviation (component,) of each component's noise in a mode; None for ones."""
        return np.exp(0.5 * STEP * self.classes[mode, self.rows]) if self.classes[mode].any() else None

    def taken(self, recording: Array) -> Array:
        """A recording (component, time) in modes: (component, mode)."""
        out = np.empty((len(recording), len(self.powers)))
        for group, one in enumerate(self.to_modes):
            mine = self.rows == group
            out[mine] = recording[mine] @ one
        return out


def solve_each(roots: Array, table: Array) -> Array:
    """R_g⁻ᵀ table_g of each group, for lower triangles R (group, time, time)."""
    pairs = zip(roots, table, strict=True)
    return np.stack([solve_triangular(root, one, lower=True, trans=1) for root, one in pairs])


@dataclass(frozen=True, eq=False)
class FocalBasis(PickledByFields):
    """Eigenbases of the dense currents' Gram matrix, one for each class of spreads of the noise, side by side.

    classes : of each basis
    decompositions : of the Gram matrix in units of the noise of each class
    """

    classes: tuple[tuple[int, ...], ...]
    decompositions: tuple[Decomposition, ...]

    @classmethod
    def of(cls, problem: Problem, structure: Structure, modes: Sequence[FocalModes]) -> FocalBasis:
        """Return the bases that modes of some time constants want."""
        found: dict[tuple[int, ...], Array | None] = {}
        for one in modes:
            for k, row in enumerate(one.classes.tolist()):
                if tuple(row) not in found:
                    found[tuple(row)] = one.spread(k)
        classes = tuple(sorted(found))
        return cls(classes, tuple(Decomposition.of(problem, structure, found[one]) for one in classes))

    @cached_property
    def values(self) -> Array:
        """Eigenvalues (block, component), or (component,) where there is one block."""
        if len(self.decompositions) == 1:
            return self.decompositions[0].values
        return np.stack([one.values for one in self.decompositions])

    @cached_property
    def to_components(self) -> Array:
        """From a recording to coefficients: (component, block × component)."""
        if len(self.decompositions) == 1:
            return self.decompositions[0].to_components
        return np.hstack([one.to_components for one in self.decompositions])

    def blocks(self, modes: FocalModes) -> Index:
        """The basis (mode,) of each mode."""
        where = {one: k for k, one in enumerate(self.classes)}
        return np.array([where[tuple(row)] for row in modes.classes.tolist()], dtype=np.int64)
