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
"""Newton's steps towards the most probable deviation at most, the longest, and the one that is made no more."""

LARGEST = 1e80
"""Product of factors of which a logarithm is taken."""

FREEDOM = 6.0
"""Degrees of freedom of the t distribution that deviations are proposed from: its tails are wider than theirs."""


@njit(nogil=True, cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _expand_one(
    gram: Array, cross: Array, powers: Array, z: Array, strength: float, gradient: Array, curvature: Array
) -> float:
    """Add gradient and curvature of all modes of one source, and return its log factor; see `Deviations.expansion`.

    z : (1 + direction,)
    """
    modes, size, axes = cross.shape
    half, left, right = np.empty((size, axes, axes)), np.empty((size, axes, axes)), np.empty((size, axes, axes))
    own, lower, inverse = np.empty((axes, axes)), np.empty((axes, axes)), np.empty((axes, axes))
    covariance, square = np.empty((axes, axes)), np.empty((axes, axes))
    score, mean = np.empty(axes), np.empty(axes)
    factor = 0.0
    for k in range(modes):
        weight = strength**2 * powers[k]
        own[:], score[:], lower[:], inverse[:] = 0, 0, 0, 0
        for i in range(size):
            for a in range(axes):
                score[a] += cross[k, i, a] * z[i]
                for b in range(axes):
                    total = 0.0
                    for j in range(size):
                        total += gram[k, i, a, j, b] * z[j]
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
        factor += 0.5 * (quadratic - logs)
        for a in range(axes):
            for b in range(axes):
                square[a, b] = mean[a] * mean[b] + covariance[a, b]
        for i in range(1, size):
            for a in range(axes):
                rest = cross[k, i, a]
                for b in range(axes):
                    rest -= half[i, a, b] * mean[b]
                    gradient[i - 1] -= half[i, a, b] * covariance[a, b]
                    left[i, a, b], right[i, a, b] = 0.0, 0.0
                    for c in range(axes):
                        left[i, a, b] += square[a, c] * half[i, c, b]
                        right[i, a, b] += half[i, a, c] * covariance[c, b]
                gradient[i - 1] += rest * mean[a]
        for i in range(1, size):
            for j in range(1, size):
                total = 0.0
                for a in range(axes):
                    for b in range(axes):
                        total += gram[k, i, a, j, b] * square[a, b] - left[i, a, b] * right[j, a, b]
                curvature[i - 1, j - 1] += total
    return factor


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
    """Fill in log factors, and add gradients and curvatures, of sources.

    weighted : (source, 1 + direction), z
    """
    for g in range(len(gram)):
        factors[g] = _expand_one(gram[g], cross[g], powers, weighted[g], strengths[g], gradient[g], curvature[g])


@njit(nogil=True, cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _propose(
    gram: Array,
    cross: Array,
    powers: Array,
    strengths: Array,
    tempering: float,
    spread: float,
    middle: Array,
    lower: Array,
    log_mass: Array,
) -> None:
    """Fill in Gaussian approximations of sources, see `Proposal`, by Newton's steps from no deviation."""
    size, precision = middle.shape[1], 1 / spread**2
    z, step, gradient = np.ones(size + 1), np.empty(size), np.empty(size)
    curvature, inverse = np.empty((size, size)), np.zeros((size, size))
    for g in range(len(gram)):
        z[1:] = 0.0
        for turn in range(NEWTON + 1):
            gradient[:], curvature[:] = 0.0, 0.0
            factor = _expand_one(gram[g], cross[g], powers, z, strengths[g], gradient, curvature)
            for i in range(size):
                gradient[i] = tempering * gradient[i] - precision * z[1 + i]
                for j in range(size):
                    curvature[i, j] *= tempering
                curvature[i, i] += precision
            log_volume, square, length = factorise(curvature, inverse), 0.0, 0.0
            # The step L⁻ᵀ L⁻¹ gradient.
            for i in range(size - 1, -1, -1):
                gradient[i] *= inverse[i, i]
                for j in range(i):
                    gradient[i] += inverse[i, j] * gradient[j]
            for i in range(size):
                step[i] = 0.0
                for j in range(i, size):
                    step[i] += inverse[j, i] * gradient[j]
                length += step[i] ** 2
                square += z[1 + i] ** 2
            length = np.sqrt(length)
            if length < SHORT or turn == NEWTON:
                break
            for i in range(size):
                z[1 + i] += step[i] * min(1.0, LONGEST / length)
        for i in range(size):
            middle[g, i] = z[1 + i]
            for j in range(i + 1):
                lower[g, i, j] = curvature[i, j]
        log_mass[g] = tempering * factor - 0.5 * precision * square - size * np.log(spread) - log_volume


@njit(nogil=True, cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _fill_profiles(values: Array, squares: Array, powers: Array, variances: Array, out: Array) -> None:
    """Fill in what sources add with each of some variances, by the eigenvalues of their products: (variance, source).

    values, squares : (source, mode, axis)
    """
    count, modes, axes = values.shape
    for g in range(count):
        for s in range(len(variances)):
            quadratic, logs, product = 0.0, 0.0, 1.0
            for k in range(modes):
                weight = variances[s] * powers[k]
                for a in range(axes):
                    factor = 1 + weight * max(values[g, k, a], 0.0)
                    quadratic += weight * squares[g, k, a] / factor
                    product *= factor
                # Logarithms cost most; one is taken of as many factors as a number holds.
                if product > LARGEST:
                    logs += np.log(product)
                    product = 1.0
            out[s, g] = 0.5 * (quadratic - logs - np.log(product))


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

    def profiles(self, deviations: Array, strengths: Array) -> Array:
        """What each source adds to the log density with each of some strengths, nats: (strength, source).

        deviations : (source, direction)
        """
        weighted = np.concatenate([np.ones((len(deviations), 1)), deviations], axis=1)
        own = np.einsum("gkiab,gi->gkab", np.einsum("gkiajb,gj->gkiab", self.gram, weighted), weighted)
        cross = np.einsum("gi,gkia->gka", weighted, self.cross)
        if own.shape[2] == 1:
            values = own[..., 0]
        else:
            values, vectors = np.linalg.eigh(own)
            cross = (vectors.swapaxes(2, 3) @ cross[..., None])[..., 0]
        out = np.empty((len(strengths), len(deviations)))
        _fill_profiles(values, cross**2, self.powers, strengths**2, out)
        return out

    def expansion(self, deviations: Array, strengths: Array) -> tuple[Array, Array, Array]:
        """Log factors (source,), gradient (source, direction) and expected curvature (source, direction, direction)."""
        count, directions = deviations.shape
        weighted = np.concatenate([np.ones((count, 1)), deviations], axis=1)
        factors, gradient = np.zeros(count), np.zeros((count, directions))
        curvature = np.zeros((count, directions, directions))
        _expand(self.gram, self.cross, self.powers, weighted, strengths, factors, gradient, curvature)
        return factors, gradient, curvature

    def proposal(self, strengths: Array, tempering: float, spread: float) -> Proposal:
        """Approximate the distribution of the deviations of each source.

        tempering : power of the density of the recording; spread : prior standard deviation of a deviation
        """
        count, size = len(self.gram), self.gram.shape[2] - 1
        found = np.empty((count, size)), np.zeros((count, size, size)), np.empty(count)
        _propose(self.gram, self.cross, self.powers, strengths, tempering, spread, *found)
        return Proposal(*found)


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
