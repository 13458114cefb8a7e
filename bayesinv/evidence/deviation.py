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
from numba import njit
from scipy.special import gammaln

from bayesinv.axes import Array, Index
from bayesinv.evidence.active import factorise
from bayesinv.memory import PickledByFields

NEWTON, LONGEST, SHORT = 10, 1.0, 0.1
"""Newton's steps towards the most probable deviation at most, the longest, and the one after which no more are made."""

FREEDOM = 6.0
"""Degrees of freedom of the t distribution that deviations are proposed from: its tails are wider than theirs."""


@njit(nogil=True, cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _expand(
    gram: Array,
    cross: Array,
    powers: Array,
    weighted: Array,
    strengths: Array,
    factors: Array,
    gradient: Array,
    curvature: Array,
) -> None:
    """Add log factors, gradients and curvatures of all modes, see `Deviations.expansion`.

    weighted : (source, 1 + direction), z
    """
    count, modes, size, axes = cross.shape
    half, left, right = np.empty((size, axes, axes)), np.empty((size, axes, axes)), np.empty((size, axes, axes))
    own, lower, inverse = np.empty((axes, axes)), np.empty((axes, axes)), np.empty((axes, axes))
    covariance, square = np.empty((axes, axes)), np.empty((axes, axes))
    score, mean = np.empty(axes), np.empty(axes)
    for g in range(count):
        z = weighted[g]
        for k in range(modes):
            weight = strengths[g] ** 2 * powers[k]
            own[:], score[:], lower[:], inverse[:] = 0, 0, 0, 0
            for i in range(size):
                for a in range(axes):
                    score[a] += cross[g, k, i, a] * z[i]
                    for b in range(axes):
                        total = 0.0
                        for j in range(size):
                            total += gram[g, k, i, a, j, b] * z[j]
                        half[i, a, b] = total
                        own[a, b] += z[i] * total
            for a in range(axes):
                for b in range(a + 1):
                    lower[a, b] = weight * own[a, b] + (1.0 if a == b else 0.0)
            logs = 2 * factorise(lower, inverse)
            for a in range(axes):
                for b in range(axes):
                    total = 0.0
                    for c in range(max(a, b), axes):
                        total += inverse[c, a] * inverse[c, b]
                    covariance[a, b] = weight * total
            quadratic = 0.0
            for a in range(axes):
                mean[a] = 0.0
                for b in range(axes):
                    mean[a] += covariance[a, b] * score[b]
                quadratic += mean[a] * score[a]
            factors[g] += 0.5 * (quadratic - logs)
            for a in range(axes):
                for b in range(axes):
                    square[a, b] = mean[a] * mean[b] + covariance[a, b]
            for i in range(1, size):
                for a in range(axes):
                    rest = cross[g, k, i, a]
                    for b in range(axes):
                        rest -= half[i, a, b] * mean[b]
                        gradient[g, i - 1] -= half[i, a, b] * covariance[a, b]
                        left[i, a, b], right[i, a, b] = 0.0, 0.0
                        for c in range(axes):
                            left[i, a, b] += square[a, c] * half[i, c, b]
                            right[i, a, b] += half[i, a, c] * covariance[c, b]
                    gradient[g, i - 1] += rest * mean[a]
            for i in range(1, size):
                for j in range(1, size):
                    total = 0.0
                    for a in range(axes):
                        for b in range(axes):
                            total += gram[g, k, i, a, j, b] * square[a, b] - left[i, a, b] * right[j, a, b]
                    curvature[g, i - 1, j - 1] += total


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
        return self.expansion(deviations, strengths)[0]

    def levels(self, deviation: Array, strengths: Array) -> Array:
        """What the only source adds with each of some strengths, nats: (strength,)."""
        weighted = np.r_[1.0, deviation]
        own = np.tensordot(weighted, np.tensordot(self.gram[0], weighted, (3, 0)), (0, 1))
        values, vectors = np.linalg.eigh(own)
        cross = (vectors.swapaxes(1, 2) @ np.tensordot(self.cross[0], weighted, (1, 0))[..., None])[..., 0]
        variances = strengths[:, None, None] ** 2 * self.powers[:, None]
        factors = 1 + variances * np.maximum(values, 0.0)
        return np.asarray(0.5 * (variances * cross**2 / factors - np.log(factors)).sum(axis=(1, 2)))

    def expansion(self, deviations: Array, strengths: Array) -> tuple[Array, Array, Array]:
        """Log factors (source,), gradient (source, direction) and expected curvature (source, direction, direction)."""
        count, directions = deviations.shape
        weighted = np.concatenate([np.ones((count, 1)), deviations], axis=1)
        factors, gradient = np.zeros(count), np.zeros((count, directions))
        curvature = np.zeros((count, directions, directions))
        _expand(self.gram, self.cross, self.powers, weighted, strengths, factors, gradient, curvature)
        return factors, gradient, curvature

    def proposal(self, strengths: Array, heat: float, spread: float) -> Proposal:
        """Approximate the distribution of the deviations of each source.

        heat : power of the density of the recording; spread : prior standard deviation of a deviation
        """
        count, size = len(self.gram), self.gram.shape[2] - 1
        deviations = np.zeros((count, size))
        prior = np.eye(size) / spread**2
        for _ in range(NEWTON):
            _, gradient, curvature = self.expansion(deviations, strengths)
            step = np.linalg.solve(heat * curvature + prior, (heat * gradient - deviations / spread**2)[..., None])[
                ..., 0
            ]
            length = np.linalg.norm(step, axis=1, keepdims=True)
            deviations = deviations + step * np.minimum(1, LONGEST / np.maximum(length, 1e-12))
            if length.max() < SHORT:
                break
        factors, _, curvature = self.expansion(deviations, strengths)
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
