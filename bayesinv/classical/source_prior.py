"""The source covariance of a classical estimate: variances, or one orientation block per source."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import eigh

from bayesinv.axes import Array, one_of
from bayesinv.classical.blocks import flat_gain
from bayesinv.classical.mne_prior import MNE_DEPTH, MNE_LOOSE, depth_prior, with_trace_of_gain
from bayesinv.classical.surface_axes import has_normals, normals_of
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.prior.currents import depth_weights
from bayesinv.problem.problem import Problem


@dataclass(frozen=True, eq=False)
class SourcePrior:
    """Prior covariance of the currents: for every source, its weight times its orientation block.

    weights : (source,), relative variances
    loose : variance of tangential currents relative to normal ones
    normals : (source, 3), where loose < 1 with free orientation
    """

    problem: Problem
    weights: Array
    loose: float
    normals: Array | None

    @property
    def rows(self) -> int:
        """Free amplitudes per source: those to which the prior gives variance."""
        return 1 if self.problem.axes == 1 or self.loose == 0 else 3

    def gain_blocks(self) -> Array:
        """Gain as one block per source: (source, component, axis)."""
        return self.problem.gain.reshape(self.problem.components, -1, self.problem.axes).transpose(1, 0, 2)

    def free_gain(self, table: Array) -> Array:
        """Return the gain (source, component, row) of the free amplitudes, from blocks (source, component, axis)."""
        if self.rows == self.problem.axes:
            return table
        assert self.normals is not None
        return np.matmul(table, self.normals[:, :, None])

    def blocks(self, power: float = 1.0) -> Array:
        """Orientation blocks (source, row, row) of the free amplitudes, without weights, to a matrix power."""
        if self.rows == 1:
            return np.ones((len(self.weights), 1, 1))
        if self.normals is None:
            return np.tile(np.eye(3), (len(self.weights), 1, 1))
        outer = self.normals[:, :, None] * self.normals[:, None, :]
        return self.loose**power * np.eye(3) + (1 - self.loose**power) * outer

    def spectrum(self) -> tuple[Array, Array, Array]:
        """Eigenvalues and vectors of G D Gᵀ, and D as weights of a `Filter`; trace(G D Gᵀ) = trace(G Gᵀ)."""
        problem = self.problem
        if self.rows == problem.axes and self.normals is None:
            diagonal = with_trace_of_gain(problem, np.repeat(self.weights, problem.axes))
            uniform = bool(np.ptp(diagonal) <= 1e-14 * diagonal[0])
            spectrum = Spectrum.of(problem, None if uniform else diagonal)
            return spectrum.values, spectrum.to_components, spectrum.weights
        table = self.free_gain(self.gain_blocks())
        covariance = self.weights[:, None, None] * self.blocks()
        gram = flat_gain(np.matmul(table, covariance)) @ flat_gain(table).T
        scale = problem.signal_power * problem.components / np.trace(gram)
        values, vectors = eigh(gram * scale, driver="evd", check_finite=False, overwrite_a=True)
        return np.maximum(values, 0.0), vectors, self.to_axes(covariance * scale)

    def to_axes(self, blocks: Array) -> Array:
        """Return blocks (source, row, row) of the free amplitudes as a filter's weights (source, row, axis)."""
        if self.rows == self.problem.axes:
            return blocks
        assert self.normals is not None
        return blocks * self.normals[:, None, :]


def source_prior(problem: Problem, depth: float | str | None, loose: float | str | None, mne: bool) -> SourcePrior:
    """Return the prior of depth weighting and looseness as `baseline` takes them, checked."""
    if isinstance(depth, str):
        one_of("depth weighting", depth, ("auto",), ", or give an exponent or None")
        depth = MNE_DEPTH if mne else None
    if isinstance(loose, str):
        one_of("looseness", loose, ("auto",), ", or give a number between 0 and 1")
        loose = None
    if loose is None:
        # Sources in a volume or at chosen places are no surface, to MNE-Python, though they may have normals.
        surface = problem.sources is not None and problem.sources.hemispheres is not None and has_normals(problem)
        loose = 0.0 if problem.axes == 1 else MNE_LOOSE if mne and surface else 1.0
    if not 0 <= loose <= 1:
        raise ValueError(f"loose is {loose}, but must lie between 0 (fixed) and 1 (free)")
    if problem.axes == 1 and loose > 0:
        raise ValueError(f"loose = {loose} wants free orientation, but this problem has the normal only")
    normals = normals_of(problem, f"loose = {loose} wants") if problem.axes == 3 and loose < 1 else None
    if not depth:
        weights = np.ones(problem.source_count)
    elif mne:
        weights = depth_prior(problem, depth)
    else:
        weights = depth_weights(problem, depth)[:: problem.axes]
    return SourcePrior(problem, weights, float(loose), normals)
