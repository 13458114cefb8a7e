"""What one source adds to the log density as a function of how its field deviates from the one in the table.

A source of field (h + U w) has products R(w) = zᵀ R z and c(w) = zᵀ c, z = (1, w), with R and c those of h and the
columns of U, given all that is active (names as in `evidence.active`). With a_k = κ_k v, B = (1/a + R(w))⁻¹, m = B c(w)

    f(w) = Σ_k [ c(w)ᵀ m - log|1 + a R(w)| ] / 2
    ∂f/∂w_i = Σ_k [ (c_i - R_i m)ᵀ m - tr(B R_i) ],     R_i = U_iᵀ P (h + U w)

and the expected curvature is Σ_k (m mᵀ + B) : (R_ij - R_i B R_jᵀ), as of least squares in which courses are eliminated.

Reference: Golub & Pereyra (1973), SIAM J. Numer. Anal. 10, 413-432 (variable projection).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import gammaln

from bayesinv.axes import Array, Index
from bayesinv.memory import PickledByFields

NEWTON, LONGEST, SHORT = 10, 1.0, 0.02
"""Newton's steps towards the most probable deviation at most, the longest, and the one after which no more are made."""

FREEDOM = 6.0
"""Degrees of freedom of the t distribution that deviations are proposed from: its tails are wider than theirs."""


@dataclass(frozen=True, eq=False)
class Deviations(PickledByFields):
    """Products of some sources' fields and of the directions in which these may deviate, given what is active.

    gram : (source, mode, 1 + direction, axis, 1 + direction, axis), R
    cross : (source, mode, 1 + direction, axis), c
    powers : (mode,), of courses
    """

    gram: Array
    cross: Array
    powers: Array

    def picked(self, sources: Index) -> Deviations:
        """Return those of some of the sources."""
        return replace(self, gram=self.gram[sources], cross=self.cross[sources])

    def log_factors(self, deviations: Array, strengths: Array) -> Array:
        """What each source adds to the log density, nats: (source,).

        deviations : (source, direction), w; strengths : (source,)
        """
        weighted = np.concatenate([np.ones((len(deviations), 1)), deviations], axis=1)
        own = np.einsum("gi,gkiajb,gj->gkab", weighted, self.gram, weighted, optimize=True)
        cross = np.einsum("gi,gkia->gka", weighted, self.cross)
        return self._factors(own, cross, strengths)[0]

    def _factors(self, own: Array, cross: Array, strengths: Array) -> tuple[Array, Array, Array]:
        """Log factors (source,), B (source, mode, axis, axis) and m (source, mode, axis)."""
        weights = strengths[:, None, None, None] ** 2 * self.powers[:, None, None]
        inner = np.eye(own.shape[-1]) + weights * own
        if own.shape[-1] == 1:
            covariance, logs = weights / inner, np.log(inner).sum(axis=(1, 2, 3))
        else:
            lower = np.linalg.cholesky(inner)
            inverse = np.linalg.inv(lower)
            covariance = weights * (inverse.swapaxes(-1, -2) @ inverse)
            logs = 2 * np.log(np.einsum("gkaa->gka", lower)).sum(axis=(1, 2))
        mean = (covariance @ cross[..., None])[..., 0]
        return 0.5 * (np.einsum("gka,gka->g", cross, mean) - logs), covariance, mean

    def levels(self, deviation: Array, strengths: Array) -> Array:
        """What the only source adds with each of some strengths, nats: (strength,)."""
        weighted = np.r_[1.0, deviation]
        own = np.einsum("i,kiajb,j->kab", weighted, self.gram[0], weighted, optimize=True)
        cross = np.einsum("i,kia->ka", weighted, self.cross[0])
        shape = (len(strengths), *own.shape)
        return self._factors(np.broadcast_to(own, shape), np.broadcast_to(cross, shape[:-1]), strengths)[0]

    def _expansion(self, deviations: Array, strengths: Array) -> tuple[Array, Array, Array]:
        """Log factors (source,), gradient (source, direction) and expected curvature (source, direction, direction)."""
        weighted = np.concatenate([np.ones((len(deviations), 1)), deviations], axis=1)
        half = np.einsum("gkiajb,gj->gkiab", self.gram, weighted)
        own = np.einsum("gkiab,gi->gkab", half, weighted)
        cross = np.einsum("gkia,gi->gka", self.cross, weighted)
        factors, covariance, mean = self._factors(own, cross, strengths)
        half = half[:, :, 1:]
        left = self.cross[:, :, 1:] - np.einsum("gkiab,gkb->gkia", half, mean)
        gradient = np.einsum("gkia,gka->gi", left, mean) - np.einsum("gkiab,gkab->gi", half, covariance)
        square = mean[..., :, None] * mean[..., None, :] + covariance
        curvature = np.einsum("gkiajb,gkab->gij", self.gram[:, :, 1:, :, 1:], square)
        count, modes, size = half.shape[:3]
        left = (square[:, :, None] @ half).reshape(count, modes, size, -1)
        right = (half @ covariance[:, :, None]).reshape(count, modes, size, -1)
        curvature -= (left @ right.swapaxes(-1, -2)).sum(axis=1)
        return factors, gradient, curvature

    def proposal(self, strengths: Array, heat: float, spread: float) -> Proposal:
        """Approximate the distribution of the deviations of each source.

        heat : power of the density of the recording; spread : prior standard deviation of a deviation
        """
        count, size = len(self.gram), self.gram.shape[2] - 1
        deviations = np.zeros((count, size))
        prior = np.eye(size) / spread**2
        for _ in range(NEWTON):
            _, gradient, curvature = self._expansion(deviations, strengths)
            step = np.linalg.solve(heat * curvature + prior, (heat * gradient - deviations / spread**2)[..., None])[
                ..., 0
            ]
            length = np.linalg.norm(step, axis=1, keepdims=True)
            deviations = deviations + step * np.minimum(1, LONGEST / np.maximum(length, 1e-12))
            if length.max() < SHORT:
                break
        factors, _, curvature = self._expansion(deviations, strengths)
        lower = np.linalg.cholesky(heat * curvature + prior)
        volume = np.log(np.einsum("gii->gi", lower)).sum(axis=1)
        logs = heat * factors - 0.5 * np.sum(deviations**2, axis=1) / spread**2 - size * np.log(spread) - volume
        return Proposal(deviations, np.asarray(lower, dtype=np.float64), np.asarray(logs))


@dataclass(frozen=True, eq=False)
class Proposal(PickledByFields):
    """Multivariate t distributions of deviations.

    middle : (source, direction); lower : (source, direction, direction), of the precision
    log_mass : (source,), log of the integral of what each source adds over its deviations, approximately
    """

    middle: Array
    lower: Array
    log_mass: Array

    def draw(self, source: int, rng: np.random.Generator) -> Array:
        """Draw the deviation (direction,) of a source."""
        unit = rng.standard_normal(self.middle.shape[1]) / np.sqrt(rng.chisquare(FREEDOM) / FREEDOM)
        return np.asarray(self.middle[source] + np.linalg.solve(self.lower[source].T, unit))

    def log_density(self, source: int, deviation: Array) -> float:
        """Log density of a deviation of a source."""
        size = len(deviation)
        lower = self.lower[source]
        square = float(np.sum((lower.T @ (deviation - self.middle[source])) ** 2))
        constant = gammaln((FREEDOM + size) / 2) - gammaln(FREEDOM / 2) - 0.5 * size * np.log(FREEDOM * np.pi)
        constant += np.log(np.diag(lower)).sum()
        return float(constant - 0.5 * (FREEDOM + size) * np.log1p(square / FREEDOM))
