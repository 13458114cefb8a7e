"""Blocks of samples left out where modes of time have noise of several colours, so that no basis makes a block simple.

With modes of time a_j, noise of variance n_j and currents of eigenvalues e over them, r = variance / noise² and C the
covariance of the recording at noise 1, a block b of samples given all others has precision

    (C⁻¹)_bb = Σ_j a_bj a_bjᵀ ⊗ (n_j⁻¹ - b_j diag(x_j) b_jᵀ) = M - Z Zᵀ,   x = r e / (r e + 1),   b_jᵀ n_j b_j = 1

with M as many matrices of few samples as there are colours. Z has a column for each combination of samples in which
currents are above the noise; these are few, and depend on each other by 1 - Zᵀ M⁻¹ Z. Weak currents count one by one.
Log determinant and power are smooth functions of log r alone, between few values of which they are interpolated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cholesky, solve_triangular

from bayesinv.axes import Array, Index
from bayesinv.evidence.gaussian import LOG_2PI
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.interpolation.chebyshev import Chebyshev

MAX_TOGETHER = 3000
"""Numbers in a block of samples up to which their joint precision is factorised, where sensors have scales of their own
and it has no simpler form."""

MAX_STRONG = 8000
"""Combinations of samples with currents above the noise up to which they are taken together. On the sample recording a
block of 36 samples of 360 components has 3500, and takes 2 s and 300 MB."""

FEW_TOGETHER = 500
"""The same, up to which it is factorised whatever the currents."""

WEAK = 1e-3
"""Share of the precision of a combination of samples that currents take, below which it counts by itself. On the sample
recording the log density of a block of 2880 numbers is then 0.015 nats off, whatever the block."""

RATIO_TOLERANCE = 1e-3
"""Largest error, in nats, by interpolating between ratios of variances."""


class TooManyTogetherError(ValueError):
    """A block of samples has more that depends on each other than can be taken together."""


def stacked_densities(spectrum: Spectrum, variance: Array, noise: Array, blocks: Sequence[slice]) -> Array:
    """Return the log density (node, block) of blocks of samples given all others.

    variance, noise : (node,), source variances and noise scales

    Raises
    ------
    TooManyTogetherError
        If a block is too long.
    """
    sizes = len(spectrum.values) * np.array([block.stop - block.start for block in blocks])
    if not _alike(spectrum) and sizes.max() > MAX_TOGETHER:
        raise _too_many(f"{sizes.max()} numbers, in noise with a scale by kind of sensor,", MAX_TOGETHER)
    logs = np.log(np.maximum(variance, np.finfo(float).tiny)) - 2 * np.log(noise)
    ratios, which = np.unique(np.round(logs, 12), return_inverse=True)
    count = _points(float(np.ptp(ratios)), float(sizes.max()))
    if len(ratios) <= count:
        terms = np.stack([_terms(spectrum, float(np.exp(one)), blocks) for one in ratios])[which]
    else:
        series = Chebyshev.inner(float(ratios[0]), float(ratios[-1]), count)
        known = np.stack([_terms(spectrum, float(np.exp(one)), blocks) for one in series.points])
        terms = np.tensordot(series.cardinal(logs), known, axes=1)
    power = terms[:, 1] / noise[:, None] ** 2
    return np.asarray(0.5 * (terms[:, 0] - power - sizes * (LOG_2PI + 2 * np.log(noise[:, None]))))


def _too_many(what: str, most: int) -> TooManyTogetherError:
    return TooManyTogetherError(
        f"a block of {what} cannot be left out where MEG and EEG have noise of different colour and time courses are "
        f"correlated (at most {most}); leave out shorter blocks or components, or take one kind of sensor"
    )


def _alike(spectrum: Spectrum) -> bool:
    """Whether the noise of all components has the scale that was given, so that colours alone tell them apart."""
    problem = spectrum.problem
    return spectrum.structure.noise_covariance(problem) is None and problem.time_whitening is not None


def _points(width: float, numbers: float) -> int:
    """Points between which functions of a logarithm that are analytic within π of the real axis are exact enough.

    The error falls as ρ^-points, with ρ the sum of the axes of the ellipse, in units of half the width, that ends
    there; in it the log density of every number changes by no more than its order of magnitude.

    Reference: Trefethen (2019), Approximation Theory and Approximation Practice, theorem 8.2.
    """
    return int(np.ceil(np.log(numbers / RATIO_TOLERANCE) / np.arcsinh(2 * np.pi / max(width, 1e-6))))


def _terms(spectrum: Spectrum, ratio: float, blocks: Sequence[slice]) -> Array:
    """Log determinant of the precision of each block at noise 1, and the block's power in it: (2, block)."""
    assert spectrum.modes is not None
    total = ratio * spectrum.eigenvalues + 1
    pairs = zip(spectrum.decompositions, spectrum.blocks, strict=True)
    # C⁻¹ y over the modes.
    solved = np.hstack([one.to_components @ (spectrum.coefficients / total)[:, some] for one, some in pairs])
    whitening, modes = spectrum.problem.time_whitening, spectrum.modes
    alike = _alike(spectrum)
    out = []
    for block in blocks:
        inside = modes.to_modes[block]
        field = inside @ solved.T
        if alike and field.size > FEW_TOGETHER:
            assert whitening is not None
            rows = [np.flatnonzero(whitening.rows == group) for group in range(whitening.groups)]
            out.append(_Block.of(spectrum, total, inside, [one for one in rows if len(one)]).terms(field))
        else:
            out.append(_together(spectrum, total, inside, field))
    return np.array(out).T


def _together(spectrum: Spectrum, total: Array, inside: Array, field: Array) -> tuple[float, float]:
    """Both terms by factorising the precision of a block: inside (sample, mode), field (sample, component)."""
    size, components = field.shape
    precision = np.zeros((size, components, size, components))
    for one, modes in zip(spectrum.decompositions, spectrum.blocks, strict=True):
        # Over the modes of one decomposition the components stay diagonal in its basis.
        inner = np.einsum("tj,cj,uj->ctu", inside[:, modes], 1 / total[:, modes], inside[:, modes], optimize=True)
        precision += np.einsum("ac,ctu,bc->taub", one.to_components, inner, one.to_components, optimize=True)
    root = np.linalg.cholesky(precision.reshape(field.size, -1))
    white = solve_triangular(root, field.ravel(), lower=True)
    return 2 * float(np.log(np.diag(root)).sum()), float(white @ white)


@dataclass(frozen=True, eq=False)
class _Block:
    """A block's precision M - Z Zᵀ.

    rows : components of each colour
    roots : (colour, sample, sample), roots of M
    shares : (column, sample, sample), a_b diag(x) a_bᵀ of each column of all decompositions side by side
    directions : (component, column), b of each
    strong : (column of Z,), the column of `directions` that each is of; courses : (column of Z, sample)
    """

    rows: list[Index]
    roots: Array
    shares: Array
    directions: Array
    strong: Index
    courses: Array

    @classmethod
    def of(cls, spectrum: Spectrum, total: Array, inside: Array, rows: list[Index]) -> _Block:
        """Find the combinations of samples in which currents are above the noise."""
        assert spectrum.modes is not None
        spreads = spectrum.modes.spreads
        precisions = np.zeros((len(rows), len(inside), len(inside)))
        for some, spread in zip(spectrum.blocks, spreads, strict=True):
            power = inside[:, some] @ inside[:, some].T
            for colour, mine in enumerate(rows):
                precisions[colour] += power if spread is None else power / spread[mine[0]] ** 2
        sizes = np.array([len(mine) for mine in rows])
        middle = np.linalg.cholesky(np.average(precisions, axis=0, weights=sizes))
        weighted = 1 - 1 / total
        shares = np.concatenate(
            [np.matmul(inside[:, some] * weighted[:, None, some], inside[:, some].T) for some in spectrum.blocks]
        )
        inverse = np.linalg.inv(middle)
        values, vectors = np.linalg.eigh(inverse @ shares @ inverse.T)
        strong, place = np.nonzero(values > WEAK)
        if len(strong) > MAX_STRONG:
            raise _too_many(f"{len(strong)} combinations of samples in which currents are above the noise", MAX_STRONG)
        courses = (vectors[strong, :, place] * np.sqrt(values[strong, place])[:, None]) @ middle.T
        directions = np.hstack([one.to_components for one in spectrum.decompositions])
        return cls(
            rows, np.asarray(np.linalg.cholesky(precisions)), shares, directions, strong.astype(np.int64), courses
        )

    def terms(self, field: Array) -> tuple[float, float]:
        """Both terms, of a field (sample, component)."""
        chosen = self.directions[:, self.strong]
        inner, pulled = np.zeros((len(self.strong), len(self.strong))), np.zeros(len(self.strong))
        logs = power = 0.0
        white = []
        for mine, root in zip(self.rows, self.roots, strict=True):
            white.append(solve_triangular(root, np.hstack([field[:, mine], self.courses.T]), lower=True))
            values, courses = white[-1][:, : len(mine)], white[-1][:, len(mine) :]
            inner -= (chosen[mine].T @ chosen[mine]) * (courses.T @ courses)
            pulled += np.sum(chosen[mine] * (values.T @ courses), axis=0)
            logs += 2 * len(mine) * float(np.log(np.diag(root)).sum())
            power += float(np.sum(values**2))
        inner[np.diag_indices(len(inner))] += 1
        lower = cholesky(inner, lower=True, overwrite_a=True, check_finite=False)
        projected = solve_triangular(lower, pulled, lower=True, check_finite=False)
        found = solve_triangular(lower, projected, lower=True, trans=1, check_finite=False)
        logs += 2 * float(np.log(np.diag(lower)).sum())
        power += float(projected @ projected)
        # Weak currents: what they take of the precision, and of the power of what all others leave.
        left = np.empty(field.shape)
        for mine, root, one in zip(self.rows, self.roots, white, strict=True):
            own = one[:, : len(mine)] + one[:, len(mine) :] @ (found[:, None] * chosen[mine].T)
            left[:, mine] = solve_triangular(root, own, lower=True, trans=1)
            inverse = solve_triangular(root, np.eye(len(root)), lower=True)
            taken = np.einsum("ctu,kt,ku->c", self.shares, inverse, inverse, optimize=True)
            taken -= np.bincount(self.strong, np.sum((self.courses @ inverse.T) ** 2, axis=1), len(taken))
            logs -= float(np.sum(self.directions[mine] ** 2, axis=0) @ taken)
        along = left @ self.directions
        power += float(np.einsum("tc,ctu,uc->", along, self.shares, along, optimize=True))
        power -= float(np.sum(np.sum(self.courses * along[:, self.strong].T, axis=1) ** 2))
        return logs, power
