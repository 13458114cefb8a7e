"""Modes of time: combinations of the samples in which currents and noise are both independent.

With currents of correlation T over time and noise of correlation K = L Lᵀ, the eigendecomposition

    L⁻¹ T L⁻ᵀ = V diag(powers) Vᵀ,   to_modes = L⁻ᵀ V,   from_modes = L V

takes a recording Y to modes Y to_modes, whose noise has unit variance and whose currents have variance `powers`.

Where groups of components (MEG, EEG) have noise of different colour, no basis makes all of it independent. The modes
are then the eigenvectors of the noise's mean correlation, whatever the currents', and currents and noise of a group are
taken at every mode: modesᵀ T modes and modesᵀ K_g modes are nearly diagonal, because the eigenvectors of all stationary
processes are nearly sinusoids.

Reference: Stegle et al. (2011), NeurIPS 24, 630-638; Gray (2006), Toeplitz and Circulant Matrices: A Review.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from bayesinv.axes import Array
from bayesinv.problem.time_whitening import TimeWhitening


@dataclass(frozen=True, eq=False)
class TimeModes:
    """Independent modes of time.

    powers : (mode,), variance of currents of unit variance relative to the noise's
    to_modes : (time, mode), from samples to modes
    from_modes : (time, mode), the time courses of the modes
    log_volume : log |K|, of each component's noise in units of its spread
    blocks : modes whose noise has one spread over the components, side by side
    spreads : (component,) standard deviation of each component's noise in the modes of a block; None for ones
    """

    powers: Array
    to_modes: Array
    from_modes: Array
    log_volume: float
    blocks: tuple[slice, ...]
    spreads: tuple[Array | None, ...]

    @classmethod
    def of(cls, correlation: Array, whitening: TimeWhitening | None) -> TimeModes:
        """Return the modes of currents with a correlation (time, time), and of the noise of a problem."""
        everything = (slice(0, len(correlation)),)
        if whitening is None:
            values, vectors = np.linalg.eigh(correlation)
            return cls(np.maximum(values, 0.0), vectors, vectors, 0.0, everything, (None,))
        if len(whitening.correlations) > 1:
            fixed = whitening.shared_modes
            powers = np.sum(fixed.to_modes * (correlation @ fixed.to_modes), axis=0)
            return cls(powers, fixed.to_modes, fixed.from_modes, fixed.log_volume, fixed.blocks, fixed.spreads)
        root = whitening.mean_root
        half = solve_triangular(root, correlation, lower=True)
        values, vectors = np.linalg.eigh(solve_triangular(root, half.T, lower=True))
        to_modes, from_modes = solve_triangular(root.T, vectors, lower=False), root @ vectors
        volume = 2 * float(np.log(np.diag(root)).sum())
        return cls(np.maximum(values, 0.0), to_modes, from_modes, volume, everything, (None,))

    @property
    def root(self) -> Array:
        """R (time, mode) with R Rᵀ the currents' correlation over time."""
        return self.from_modes * np.sqrt(self.powers)
