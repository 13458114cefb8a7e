"""The choice of λ from the recording: L-curve, GCV, discrepancy, evidence and expected SNR."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq, minimize_scalar

from bayesinv.axes import Array, one_of
from bayesinv.problem.problem import EXPECTED_SNR, Problem

LAMBDA_CRITERIA = ("discrepancy", "evidence", "gcv", "l-curve", "snr")

GRID_POINTS = 1000
"""Number of λ at which the L-curve is evaluated."""

CORNER_CURVATURE = 0.5
"""Curvature (of natural logarithms) below which a maximum is no corner; that of a circle of radius 2."""

RIVAL_SHARE = 0.5
"""Share of the largest curvature from which another maximum counts as a corner too."""

GCV_TOLERANCE = 1e-3
"""Relative rise within which values of the cross-validation function count as equal."""

FLAT_DECADES = 2.0
"""Width in decades of λ beyond which a minimum is called flat."""


def positive_lambda(lam: float) -> float:
    """Return λ, checked.

    Raises
    ------
    ValueError
        If it is not a positive, finite number.
    """
    if not (np.isreal(lam) and 0 < float(lam) < np.inf):
        raise ValueError(f"lam is {lam}, but must be positive and finite, or one of {', '.join(LAMBDA_CRITERIA)}")
    return float(lam)


class LambdaChoice(NamedTuple):
    """A value of λ, and a note where the criterion was in doubt.

    lam : 1/(A m)², nan where the criterion has no solution
    note : why it is doubtful and what was taken; empty where the criterion had one clear solution
    """

    lam: float
    note: str = ""


@dataclass(frozen=True, eq=False)
class Curve:
    """The L-curve and the cross-validation function along λ.

    lam : (node,), ascending, 1/(A m)²
    log_residual : (node,), natural logarithm of ‖y - G x‖, in units of the noise
    log_solution : (node,), natural logarithm of ‖x‖ in the norm of D⁻¹, A m
    curvature : (node,), of the curve (log_residual, log_solution); positive where it bends like an L
    gcv : (node,), generalised cross-validation function: mean squared error of predicting a left-out component
    degrees_of_freedom : (node,), trace of the matrix that maps the recording to its fit
    """

    lam: Array
    log_residual: Array
    log_solution: Array
    curvature: Array
    gcv: Array
    degrees_of_freedom: Array


@dataclass(frozen=True, eq=False)
class Scan:
    """Spectrum of a problem and powers of its recording, from which every criterion for λ follows.

    values : (component,), eigenvalues of G D Gᵀ, 1/(A m)²
    powers : (component,), powers of the recording along its eigenvectors, summed over samples
    samples : number of samples
    baseline_power, baseline_count : power of the baseline, and how many degrees of freedom it has; 0 if none
    noise : scale of the whitened noise where it is not learned from a baseline
    """

    values: Array
    powers: Array
    samples: int
    baseline_power: float = 0.0
    baseline_count: int = 0
    noise: float = 1.0

    @classmethod
    def of(cls, problem: Problem, values: Array, powers: Array, noise: float = 1.0) -> Scan:
        """Return the scan of a problem whose Gram matrix G D Gᵀ has these eigenvalues, with its baseline."""
        power, count = 0.0, 0
        if problem.baseline is not None:
            power = float(np.sum(problem.baseline**2))
            count = problem.components * problem.baseline_freedom
        return cls(values, powers, problem.recording.shape[1], power, count, noise)

    @cached_property
    def largest_eigenvalue(self) -> float:
        """The largest eigenvalue, 1/(A m)²; λ is divided by it in what follows, so that its powers stay in range."""
        return float(self.values.max())

    @cached_property
    def _scaled(self) -> Array:
        return self.values / self.largest_eigenvalue

    @cached_property
    def _columns(self) -> tuple[Array, Array, Array]:
        s = self._scaled
        ones = np.ones_like(s)
        return (
            ones,
            np.stack([self.powers, s * self.powers, s], axis=1),
            s * self.powers,
        )

    @cached_property
    def bounds(self) -> tuple[float, float]:
        """Range of λ that is searched: two decades beyond the eigenvalues above rounding error."""
        floor = len(self.values) * np.finfo(float).eps
        above = self._scaled[self._scaled > floor]
        return self.largest_eigenvalue * max(float(above.min()) / 100, floor), self.largest_eigenvalue * 100

    def sums(self, lam: Array) -> tuple[Array, Array, Array, Array, Array, Array]:
        """Sums over components at λ (node,): each (node,).

        Residual power, solution power, Σ s p u³, Σ u, Σ s u² and Σ p u, with u = 1/(s + λ), s eigenvalues and p
        powers; s and λ in units of the largest eigenvalue.
        """
        lam = np.asarray(lam) / self.largest_eigenvalue
        ones, table, weighted = self._columns
        u = 1.0 / (self._scaled + lam[:, None])
        trace, linear = u @ ones, u @ self.powers
        square = u * u
        residual, solution, slope = (square @ table).T
        square *= u
        return lam**2 * residual, solution, square @ weighted, trace, slope, linear

    def curve(self, lam: Array | None = None) -> Curve:
        r"""The L-curve along λ (node,), with its curvature from analytic derivatives.

        R = λ² Σ p/(s + λ)²,   N = Σ s p/(s + λ)²,   T = Σ s p/(s + λ)³
        curvature = R N (R N / T - 2 λ R - 2 λ² N) / (R² + λ² N²)^(3/2)
        """
        if lam is None:
            low, high = self.bounds
            lam = np.geomspace(low, high, GRID_POINTS)
        residual, solution, third, trace, _, _ = self.sums(lam)
        scaled = lam / self.largest_eigenvalue
        gcv = residual / (self.samples * len(self.values)) / (scaled * trace / len(self.values)) ** 2
        with np.errstate(divide="ignore", invalid="ignore"):
            log_residual = 0.5 * np.log(residual)
            log_solution = 0.5 * np.log(solution / self.largest_eigenvalue)
        return Curve(
            lam,
            log_residual,
            log_solution,
            _curvature(scaled, residual, solution, third),
            gcv,
            len(self.values) - scaled * trace,
        )

    @cached_property
    def _grid(self) -> Curve:
        return self.curve()

    def curvature(self, lam: float) -> float:
        """Curvature of the L-curve at one λ."""
        at = np.array([lam])
        residual, solution, third, *_ = self.sums(at)
        return float(_curvature(at / self.largest_eigenvalue, residual, solution, third)[0])

    def corner(self) -> LambdaChoice:
        """λ at the corner of the L-curve: where its curvature is largest.

        The note says where this is doubtful: no bend is sharp enough for a corner (where there is none at all, the λ
        of generalised cross-validation is taken), there are several, or the curvature is largest at the end of the
        range.
        """
        grid = self._grid
        curvature, logs = grid.curvature, np.log(grid.lam)
        rises, falls = curvature[1:-1] >= curvature[:-2], curvature[1:-1] > curvature[2:]
        maxima = np.flatnonzero(rises & falls & (curvature[1:-1] > 0)) + 1
        corners = []
        for i in maxima:
            best = minimize_scalar(
                lambda x: -self.curvature(float(np.exp(x))),
                bounds=(logs[i - 1], logs[i + 1]),
                method="bounded",
                options={"xatol": 1e-9},
            )
            corners.append((float(-best.fun), float(np.exp(best.x))))
        ends = [(float(curvature[end]), float(grid.lam[end])) for end in (0, -1)]
        top = max(corners, default=(-np.inf, np.nan))
        edge = max(ends)
        if max(top[0], edge[0]) <= 0:
            other = self.gcv()
            return LambdaChoice(
                other.lam,
                "the L-curve has no corner (nowhere does it bend like an L); took lam = "
                f"{other.lam:.4g} of generalised cross-validation" + (f"; there, {other.note}" if other.note else ""),
            )
        if edge[0] > top[0]:
            return LambdaChoice(
                edge[1],
                f"the L-curve is still bending at the end of its range ({grid.lam[0]:.3g} to {grid.lam[-1]:.3g}), "
                f"which is no corner to trust; took lam = {edge[1]:.4g} there",
            )
        if top[0] < CORNER_CURVATURE:
            return LambdaChoice(
                top[1],
                f"the L-curve has no corner (its largest curvature is {top[0]:.2g}, where a corner has more than "
                f"{CORNER_CURVATURE:g}); took the faint bend at lam = {top[1]:.4g}",
            )
        rivals = sorted(lam for bend, lam in corners if bend >= max(RIVAL_SHARE * top[0], CORNER_CURVATURE))
        if len(rivals) > 1:
            named = ", ".join(f"{lam:.4g}" for lam in rivals)
            return LambdaChoice(
                top[1],
                f"the L-curve has {len(rivals)} corners, at lam = {named}; took the sharpest, lam = {top[1]:.4g}",
            )
        return LambdaChoice(top[1])

    def gcv(self) -> LambdaChoice:
        """λ that minimises the generalised cross-validation function (Golub, Heath & Wahba 1979).

        The minimum is found as the root of the analytic derivative, which stays sharp where the function is flat.
        Where values within one part in a thousand of the minimum span more than two decades, the largest of them is
        taken: it predicts as well and amplifies noise least.
        """
        grid = self._grid
        floor = 10 * np.finfo(float).tiny
        if not self.powers.any():
            return LambdaChoice(float(grid.lam[-1]), "the recording is zero; took the largest lam in range")
        values = np.maximum(grid.gcv, floor)
        best = int(values.argmin())
        if best in (0, len(values) - 1):
            lam, note = float(grid.lam[best]), "has no minimum inside the range searched"
        else:
            lam, note = self._root(self._gcv_slope, grid.lam[best - 1], grid.lam[best + 1], grid.lam[best]), ""
        least = float(min(self._gcv_at(lam), values[best]))
        # The flat part around the minimum; other local minima are not part of it.
        level = values <= (1 + GCV_TOLERANCE) * least
        first = best - int(np.argmin(np.append(level[best::-1], False)))
        last = best + int(np.argmin(np.append(level[best:], False)))
        low, high = grid.lam[first + 1], grid.lam[last - 1]
        if np.log10(high / low) > FLAT_DECADES:
            return LambdaChoice(
                float(high),
                f"the cross-validation function is flat from lam = {low:.3g} to {high:.3g}; took the largest of them, "
                "which amplifies noise least",
            )
        if note:
            return LambdaChoice(lam, f"the cross-validation function {note}; took lam = {lam:.4g} at its end")
        return LambdaChoice(lam)

    def _gcv_at(self, lam: float) -> float:
        return float(self.curve(np.array([lam])).gcv[0])

    def _gcv_slope(self, lam: float) -> float:
        """Derivative of the logarithm of the cross-validation function in log λ."""
        residual, _, third, trace, slope, _ = self.sums(np.array([lam]))
        scaled = lam / self.largest_eigenvalue
        return float((2 * scaled**2 * third / residual - 2 * slope / trace)[0])

    @staticmethod
    def _root(slope: Callable[[float], float], low: float, high: float, otherwise: float) -> float:
        """Root in log λ of a slope that should change sign in a bracket; `otherwise` where rounding hides it."""
        a, b = np.log(low), np.log(high)
        if not slope(low) * slope(high) < 0:
            return float(otherwise)
        return float(np.exp(brentq(lambda x: slope(float(np.exp(x))), a, b, xtol=1e-14, rtol=1e-14)))

    @property
    def expected_noise_power(self) -> float:
        """Power that the noise alone is expected to have in the recording."""
        return len(self.values) * self.samples * self.noise**2

    def residual(self, lam: float) -> float:
        """Power of the residual at one λ, summed over components and samples."""
        return float(self.sums(np.array([lam]))[0][0])

    def discrepancy(self) -> LambdaChoice:
        """λ at which the residual has the power expected of the noise (Morozov's principle).

        ‖y - G x‖² = components * samples * noise², to a relative 1e-12; nan where no λ gives it.
        """
        total = float(self.powers.sum())
        floor = float(self.powers[self._scaled <= len(self.values) * np.finfo(float).eps].sum())
        wanted = self.expected_noise_power
        if not floor < wanted < total:
            verdict = "is explained by noise alone" if wanted >= total else "cannot be explained by the sources"
            return LambdaChoice(
                np.nan,
                f"the residual cannot have the power {wanted:.4g} that noise of scale {self.noise:g} has: it runs from "
                f"{floor:.4g} to {total:.4g}, so the recording {verdict}",
            )
        low, high = np.log(self.bounds[0]), np.log(self.bounds[1])
        while self.residual(float(np.exp(low))) > wanted:
            low -= 5.0
            if low < -700:
                return LambdaChoice(np.nan, "the residual cannot be made so small in floating point")
        while self.residual(float(np.exp(high))) < wanted:
            high += 5.0
        root = brentq(
            lambda x: np.log(self.residual(float(np.exp(x))) / wanted), low, high, xtol=1e-14, rtol=1e-14, maxiter=500
        )
        return LambdaChoice(float(np.exp(root)))

    def log_evidence(self, lam: Array) -> Array:
        """Log evidence (node,) along λ up to a constant, maximised over the noise scale at each λ.

        With a baseline the noise scale is that of largest evidence of recording and baseline; without one it is
        `noise`, as a response alone does not identify noise and signal separately.
        """
        scaled = np.asarray(lam) / self.largest_eigenvalue
        misfit = scaled * self.sums(lam)[5]
        logs = np.log1p(self._scaled / scaled[:, None]).sum(axis=1)
        if not self.baseline_count:
            return -0.5 * (self.samples * logs + misfit / self.noise**2)
        count = self.samples * len(self.values) + self.baseline_count
        return -0.5 * (self.samples * logs + count * np.log((misfit + self.baseline_power) / count))

    def learned_noise(self, lam: float) -> float:
        """Noise scale of largest evidence at one λ; `noise` where there is no baseline."""
        if not self.baseline_count:
            return self.noise
        misfit = lam / self.largest_eigenvalue * float(self.sums(np.array([lam]))[5][0])
        count = self.samples * len(self.values) + self.baseline_count
        return float(np.sqrt((misfit + self.baseline_power) / count))

    def _evidence_slope(self, lam: float) -> float:
        """Derivative of -2 log evidence in log λ."""
        scaled = lam / self.largest_eigenvalue
        _, solution, _, trace, _, linear = self.sums(np.array([lam]))
        logs = -(len(self.values) - scaled * trace)
        penalty = scaled * solution
        if not self.baseline_count:
            return float((self.samples * logs + penalty / self.noise**2)[0])
        count = self.samples * len(self.values) + self.baseline_count
        return float((self.samples * logs + count * penalty / (scaled * linear + self.baseline_power))[0])

    def evidence(self) -> LambdaChoice:
        """λ of largest evidence: the type-II maximum over source variance and, with a baseline, noise scale.

        Reference: MacKay (1992), Neural Comput. 4, 415-447.
        """
        lam = self._grid.lam
        log_evidence = self.log_evidence(lam)
        best = int(log_evidence.argmax())
        if best in (0, len(lam) - 1):
            what = "no signal beyond the noise" if best else "no noise beyond the signal"
            return LambdaChoice(
                float(lam[best]),
                f"the evidence has no maximum inside the range searched: it finds {what}; took lam = {lam[best]:.4g} "
                "at its end",
            )
        return LambdaChoice(self._root(self._evidence_slope, lam[best - 1], lam[best + 1], lam[best]))

    def by_snr(self, snr: float) -> LambdaChoice:
        """λ = mean eigenvalue / SNR²: MNE-Python's `lambda2 = 1 / SNR²`, SNR an amplitude ratio."""
        if not 0 < snr < np.inf:
            raise ValueError(f"snr is {snr}, but must be a positive, finite amplitude ratio, such as 3")
        return LambdaChoice(float(self.values.mean()) / snr**2)

    def choose(self, name: str, snr: float = EXPECTED_SNR) -> LambdaChoice:
        """Return λ by the name of a criterion; `snr` is for "snr"."""
        one_of("choice of lam", name, LAMBDA_CRITERIA, ", or give a number")
        if name == "l-curve":
            return self.corner()
        if name == "gcv":
            return self.gcv()
        if name == "discrepancy":
            return self.discrepancy()
        if name == "evidence":
            return self.evidence()
        return self.by_snr(snr)

    def choose_or_check(self, lam: float | str, snr: float = EXPECTED_SNR) -> tuple[float, str]:
        """Return λ and how it was chosen, from a number or the name of a criterion; warns where that is in doubt.

        Raises
        ------
        ValueError
            If the number is not positive and finite, no choice has that name, or none gives a λ.
        """
        if not isinstance(lam, str):
            return positive_lambda(lam), "given"
        chosen = self.choose(lam, snr)
        if not np.isfinite(chosen.lam):
            raise ValueError(f"{lam} gives no lam: {chosen.note}; choose it otherwise or give a number")
        if chosen.note:
            warnings.warn(chosen.note, stacklevel=3)
        return chosen.lam, lam


def _curvature(lam: Array, residual: Array, solution: Array, third: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        bend = residual * solution / third - 2 * lam * residual - 2 * lam**2 * solution
        length = np.hypot(residual, lam * solution)
        bend = (residual / length) * (solution / length) * (bend / length)
    return np.where(np.isfinite(bend), bend, -np.inf)
