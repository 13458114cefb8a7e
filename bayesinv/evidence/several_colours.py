"""Likelihood where sensors have noise of several colours and currents a time constant, without modes that they share.

    recording = signal + noise_g,   signal ~ Normal(0, variance Γ ⊗ T),   noise_g ~ Normal(0, noise² 1 ⊗ K_g)

No basis of time makes MEG, EEG and currents independent together, and the one that nearly does (`TimeModes`) fails at a
gap. Here the group of most components comes first, in the modes of time that are its own and the currents', where it is
independent; given it, the signal of all others is independent over these modes, and its parts that the noise does not
drown are integrated over together. With λ = variance / noise², first and other components 1 and 2, K_1 = R Rᵀ,

    R⁻¹ T R⁻ᵀ = Q μ Qᵀ,   Γ_11 = U l Uᵀ,   y_1 = first recording in these bases (component, mode)
    mean_j = Γ_21 U λ μ_j / (λ l μ_j + 1) y_1j,   C_j = λ μ_j Γ_22 - Γ_21 U (λ μ_j)² / (λ l μ_j + 1) Uᵀ Γ_12 = E d Eᵀ
    H = EᵀE ∘ BᵀB,   b = (E ⊗ B)ᵀ (white_2 - mean Bᵀ),   B = R_2⁻¹ R Q, what a mode is in noise of the other colour
    log p = Normal(y_1; 0, noise² (λ l μ + 1)) Normal(white_2 - mean Bᵀ; 0, noise²)
            - log|1 + √d H √d| / 2 + b √d (1 + √d H √d)⁻¹ √d b / (2 noise²)

Where many parts have power the strongest are integrated over exactly, and how the others depend on each other and on
these to second order; modes of little power are taken as independent, in what the others leave of the recording.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cholesky, solve_triangular

from bayesinv.axes import Array, Index
from bayesinv.covariance.covariance import Structure
from bayesinv.covariance.time_course import correlation_over_time
from bayesinv.evidence.gaussian import LOG_2PI, Likelihood
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.memory import cached_property
from bayesinv.problem.problem import Problem

LITTLE = 2e-2
"""Power of the signal in a mode, over that of the noise, below which its components are taken as independent, and that
of a part below which it is not integrated over exactly."""

MAX_PARTS = 1000
"""Most parts that are integrated over exactly, the strongest."""

EXPLAINED, MAX_STEPS = 2e-4, 20
"""Power that a step of conjugate gradients would explain, twice the nats, at which they end, and most steps."""


@dataclass(frozen=True, eq=False)
class Colours:
    """Correlations over time that groups of components have.

    rows : (component,), the group of each
    roots, inverses : (group, time, time), lower triangles R with R Rᵀ the correlation, and R⁻¹
    """

    rows: Index
    roots: Array
    inverses: Array


@dataclass(frozen=True, eq=False)
class SeveralColours:
    """A recording and its currents in the modes of time of the group of most components, at one structure.

    first : (mode, component), its recording; eigenvalues : (component,), of its Gram matrix
    powers : (mode,), of currents of unit variance
    crossing : (component, component), Γ_21 U; gram : Γ_22; both of the other components
    white : (component, time), the other recording made white
    seen : (group, time, mode), B of each other group; rows : (component,), the group of each other component
    constant : the terms of the log density that depend on neither scale
    """

    first: Array
    eigenvalues: Array
    powers: Array
    crossing: Array
    gram: Array
    white: Array
    seen: Array
    rows: Index
    constant: float

    @classmethod
    def of(cls, problem: Problem, structure: Structure) -> SeveralColours:
        """Turn a recording under a structure whose currents have a time constant."""
        whitening = problem.time_whitening
        assert whitening is not None
        assert structure.time is not None
        gram, white = structure.with_error(problem, structure.gram(problem)), problem.white_recording
        volume, noise_root = float(whitening.log_volumes.sum()), structure.noise_root(problem)
        if noise_root is not None:
            # Sensors of one kind have one colour, so that their scales leave the colours apart.
            unit = np.linalg.inv(noise_root)
            gram, white = unit @ gram @ unit.T, unit @ white
            volume += 2 * len(problem.times) * float(np.log(np.diag(noise_root)).sum())
        over = correlation_over_time(problem.times, structure.time, structure.course)
        colours = Colours(whitening.rows, whitening.roots, whitening.inverses)
        return cls.of_signal(colours, gram, over, white, -0.5 * (white.size * LOG_2PI + volume))

    @classmethod
    def of_signal(cls, colours: Colours, gram: Array, over: Array, white: Array, constant: float) -> SeveralColours:
        """Turn a recording of a signal of covariance Γ ⊗ T, whose noise is white in each component's own way.

        gram : (component, component), Γ; over : (time, time), T; white : (component, time)
        constant : the terms of the log density that depend on neither scale
        """
        leading = int(np.argmax(np.bincount(colours.rows)))
        mine = colours.rows == leading
        others, rows = np.unique(colours.rows[~mine], return_inverse=True)
        values, directions = np.linalg.eigh(gram[np.ix_(mine, mine)])
        inverse, root = colours.inverses[leading], colours.roots[leading]
        powers, modes = np.linalg.eigh(inverse @ over @ inverse.T)
        return cls(
            (directions.T @ white[mine] @ modes).T,
            np.maximum(values, 0),
            np.maximum(powers, 0),
            gram[np.ix_(~mine, mine)] @ directions,
            gram[np.ix_(~mine, ~mine)],
            white[~mine],
            np.stack([colours.inverses[group] @ root @ modes for group in others]),
            rows,
            constant,
        )

    @cached_property
    def grams(self) -> Array:
        """Bᵀ B of each other group: (group, mode, mode)."""
        return np.asarray(self.seen.swapaxes(1, 2) @ self.seen)

    def at(self, ratio: float, little: float | None = None, most: int | None = None) -> tuple[float, float, int]:
        """Log density at noise 1 without the recording's power, and that power, at a ratio of variances.

        And how many parts were integrated to second order though they have power.

        little : power of a part, over that of the noise, below which it is taken as independent; None for `LITTLE`
        most : parts that are integrated over exactly, the strongest; None for `MAX_PARTS`
        """
        most = MAX_PARTS if most is None else most
        least = LITTLE if little is None else little
        scaled = ratio * self.powers
        total = np.outer(scaled, self.eigenvalues) + 1
        gain = scaled[:, None] / total
        logs, power = float(np.log(total).sum()), float(np.sum(self.first**2 / total))
        left = self.white - self.over_time((gain * self.first) @ self.crossing.T)
        power += float(np.sum(left**2))
        own = np.diagonal(self.grams, axis1=1, axis2=2)[self.rows].T
        # C's diagonal and what it comes to in the noise: (mode, component). Modes of little in all are not turned.
        sizes = np.outer(scaled, np.diag(self.gram)) - (gain * scaled[:, None]) @ (self.crossing**2).T
        sizes = np.maximum(sizes, 0)
        share = sizes * own
        loud = np.flatnonzero(share.sum(axis=1) > least)
        quiet = np.setdiff1d(np.arange(len(share)), loud)
        parts = self._parts(loud, scaled, gain, own, least, most)
        logs += parts.log_volume() + float(np.log1p(share[quiet]).sum())
        course, explained = parts.solved(left)
        power -= explained
        rest = self.pulled(left - self.over_time(course))[quiet]
        power -= float(np.sum(sizes[quiet] * rest**2 / (1 + share[quiet])))
        return self.constant - 0.5 * logs, power, max(0, parts.many - most)

    def _parts(self, loud: Index, scaled: Array, gain: Array, own: Array, least: float, most: int) -> Parts:
        """Turn the signal of some modes into parts that are independent before they are recorded."""
        back = np.matmul(self.crossing * (gain * scaled[:, None])[loud, None, :], self.crossing.T)
        spread, axes = np.linalg.eigh(scaled[loud, None, None] * self.gram - back)
        spread = np.maximum(spread, 0)
        shares = spread * np.matmul(own[loud, None], axes**2)[:, 0]
        together = shares > least
        many = int(np.count_nonzero(together))
        if many > most:
            together = shares > np.partition(shares, -most - 1, axis=None)[-most - 1]
        return Parts(self, loud, spread, axes, shares, np.nonzero(together), many)

    def over_time(self, courses: Array) -> Array:
        """Signals in modes (mode, component) as they are in the white recording of the others: (component, time)."""
        return np.stack([self.seen[group] @ course for group, course in zip(self.rows, courses.T, strict=True)])

    def pulled(self, table: Array) -> Array:
        """The transpose of `over_time`: (mode, component)."""
        return np.stack([one @ self.seen[group] for group, one in zip(self.rows, table, strict=True)]).T


@dataclass(frozen=True, eq=False)
class Parts:
    """Parts of the signal of the other components in modes of time, independent before they are recorded.

    Recorded they depend on each other, A = √d H √d. The strongest are integrated over exactly, and how all others
    depend to second order: with R the parts of A off the diagonal, over the roots of 1 + A's diagonal,

        log|1 + A| = sum of log(1 + diagonal) - |R|² / 2 + ...,

    where |R|² needs no pair of parts: those of two modes come to the product of two small tables.

    colours : the recording they are parts of
    loud : (mode,), numbers of the modes
    spread, shares : (mode, part), d, and A's diagonal
    axes : (mode, component, part), E
    exact : modes and parts of the strongest
    many : how many have power
    """

    colours: SeveralColours
    loud: Index
    spread: Array
    axes: Array
    shares: Array
    exact: tuple[Index, ...]
    many: int

    @cached_property
    def _grams(self) -> Array:
        """Bᵀ B of each group: (group, mode, mode)."""
        return self.colours.grams[:, self.loud[:, None], self.loud]

    @cached_property
    def _inner(self) -> Array:
        """A of the strongest parts: (part, part)."""
        modes, which = self.exact
        root, directions = np.sqrt(self.spread[modes, which]), self.axes[modes, :, which]
        inner = np.zeros((len(modes), len(modes)))
        for group, gram in enumerate(self._grams):
            mine = directions[:, self.colours.rows == group]
            inner += (mine @ mine.T) * gram[np.ix_(modes, modes)]
        inner *= np.outer(root, root)
        return inner

    @cached_property
    def _lower(self) -> Array:
        inner = self._inner.copy()
        inner[np.diag_indices(len(inner))] += 1
        return np.asarray(cholesky(inner, lower=True, overwrite_a=True, check_finite=False))

    def log_volume(self) -> float:
        """log|1 + A|."""
        units = np.sqrt(1 + self.shares[self.exact])
        logs = 2 * float(np.log(np.diag(self._lower)).sum())
        logs += float(np.log1p(self.shares).sum()) - float(np.log1p(self.shares[self.exact]).sum())
        if len(units) == self.shares.size:
            return logs
        among = self._inner / np.outer(units, units)
        others = self._dependence() - float(np.sum((self.shares / (1 + self.shares)) ** 2))
        others -= float(np.sum(among**2)) - float(np.sum(np.diag(among) ** 2))
        return logs - 0.5 * max(others, 0.0)

    def _dependence(self) -> float:
        """Sum of squares of A over the roots of 1 + its diagonal, of all pairs of parts and the diagonal."""
        weights = self.spread / (1 + self.shares)
        tables = np.matmul(self.axes * weights[:, None, :], self.axes.swapaxes(1, 2))
        found, rows, groups = 0.0, self.colours.rows, range(len(self._grams))
        for a in groups:
            for b in groups:
                flat = tables[:, rows == a][:, :, rows == b].reshape(len(tables), -1)
                found += float(np.sum((flat @ flat.T) * self._grams[a] * self._grams[b]))
        return found

    def solved(self, left: Array) -> tuple[Array, float]:
        """Courses (mode, component) that are most probable, and the power that they explain.

        left : (component, time), what the first components leave of the white recording

        By conjugate gradients, until a step explains less than `EXPLAINED`; the strongest parts are solved for in each.
        """
        right = self._pulled(left)
        found = self._nearly(right)
        rest = right - found - self._depending(found)
        along, last = np.zeros_like(found), np.inf
        for _ in range(MAX_STEPS):
            step = self._nearly(rest)
            size = float(np.sum(rest * step))
            if size < EXPLAINED:
                break
            along = step + size / last * along
            ahead = along + self._depending(along)
            length = size / float(np.sum(along * ahead))
            found, rest, last = found + length * along, rest - length * ahead, size
        return self._course(found), float(np.sum(right * found) + np.sum(rest * found))

    def _nearly(self, table: Array) -> Array:
        """(1 + A)⁻¹ times numbers (mode, part), of the strongest parts together, and each other one alone."""
        found = table / (1 + self.shares)
        half = solve_triangular(self._lower, table[self.exact], lower=True, check_finite=False)
        found[self.exact] = solve_triangular(self._lower, half, lower=True, trans=1, check_finite=False)
        return np.asarray(found)

    def _depending(self, table: Array) -> Array:
        """A times numbers (mode, part)."""
        return self._pulled(self.colours.over_time(self._course(table)))

    def _course(self, table: Array) -> Array:
        """Courses (mode, component) of all modes from numbers (mode, part)."""
        course = np.zeros((len(self.colours.powers), self.axes.shape[1]))
        course[self.loud] = np.matmul(self.axes, (np.sqrt(self.spread) * table)[:, :, None])[:, :, 0]
        return course

    def _pulled(self, table: Array) -> Array:
        """The transpose of a recording (component, time) of parts: (mode, part)."""
        pulled = self.colours.pulled(table)[self.loud]
        return np.asarray(np.sqrt(self.spread) * np.matmul(pulled[:, None], self.axes)[:, 0])


@dataclass(frozen=True, eq=False)
class BesideModes:
    """What the log density of a recording under one structure has beside that of modes of time shared by all colours.

    colours : the recording in the modes of the group of most components
    modes : the likelihood by shared modes
    """

    colours: SeveralColours
    modes: Likelihood

    @classmethod
    def of(cls, problem: Problem, structure: Structure) -> BesideModes:
        """Prepare a recording, see `SeveralColours.of`."""
        return cls(SeveralColours.of(problem, structure), Spectrum.of(problem, structure).likelihood)

    def at(self, ratio: float, most: int | None = None) -> Array:
        """Both terms of `SeveralColours.at` less those of shared modes, and the power by these: (3,), at a ratio.

        most : see there
        """
        power = float(np.sum(self.modes.powers / (ratio * self.modes.eigenvalues + 1)))
        log_density = float(self.modes.log_likelihood(np.array([ratio]), np.ones(1))[0])
        exact, exact_power, _ = self.colours.at(ratio, most=most)
        return np.array([exact - log_density - 0.5 * power, exact_power - power, power])
