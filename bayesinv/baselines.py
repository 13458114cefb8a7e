"""Classical estimates on the same problem: minimum norm, dSPM, sLORETA, eLORETA and the LCMV beamformer.

All are of one form: `turn_k Gain_kᵀ middle`, a few numbers per source after one matrix of the size of the sensors.
With `convention="mne"` they are MNE-Python's, with its depth weighting, loose orientation and scaling.

References: Hämäläinen & Ilmoniemi (1994), Med. Biol. Eng. Comput. 32, 35-42; Dale et al. (2000), Neuron 26, 55-67;
Pascual-Marqui (2002), Methods Find. Exp. Clin. Pharmacol. 24D, 5-12; Pascual-Marqui (2007), arXiv:0710.3341;
Van Veen et al. (1997), IEEE Trans. Biomed. Eng. 44, 867-880; Sekihara & Nagarajan (2008), Adaptive Spatial Filters.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import eigh

from bayesinv.axes import Array, Index, freeze, one_of, real, same_axes
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.prior.currents import depth_weights
from bayesinv.problem.problem import EXPECTED_SNR, Problem
from bayesinv.tikhonov import CHOICES, Estimate, Filter, Scan, positive_lambda

METHODS = ("LCMV", "MNE", "dSPM", "eLORETA", "sLORETA")
PICKS = ("max-power", "normal", "pooled", "vector")
NORMS = ("nai", "unit-noise-gain", "unit-noise-gain-invariant")

MNE_DEPTH, MNE_LIMIT, MNE_LOOSE = 0.8, 10.0, 0.2
"""MNE-Python's defaults for surface sources."""

MNE_TOLERANCE, MNE_PASSES = 1e-6, 20
"""When MNE-Python's eLORETA stops."""

TOLERANCE, PASSES = 1e-10, 500

THIN = 1e-7
"""Relative size below which a direction of a source's 3 x 3 block counts as silent."""


@dataclass(frozen=True, eq=False)
class SurfaceProblem(Problem):
    """A problem with free orientation whose amplitudes are (tangent, tangent, normal) instead of head x, y, z.

    directions : (source, axis, 3), the unit vectors of a source's amplitudes, in head coordinates
    """

    directions: Array | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.axes != 3 or self.directions is None:
            raise ValueError("a problem in surface axes has free orientation and names its directions")
        object.__setattr__(self, "directions", real("directions", self.directions, "source 3 3"))
        if len(self.directions) != self.source_count:
            raise ValueError(
                f"directions has source = {len(self.directions)}, but the problem has source = {self.source_count}"
            )
        freeze(self.directions)

    def cartesian(self, current: Array) -> Array:
        """Turn currents (source, axis, ...) from surface axes to head x, y, z."""
        assert self.directions is not None
        same_axes(directions=(self.directions, "source axis 3"), current=(current[:, :, :1].reshape(-1, 3), "source 3"))
        return np.asarray(np.einsum("sax,sa...->sx...", self.directions, current))


def surface_axes(problem: Problem) -> SurfaceProblem:
    """Return a free-orientation problem whose amplitudes are two tangents of the cortex and its normal.

    In these axes a loose-orientation prior is diagonal, so that `Currents(weights=...)` can hold it.

    Raises
    ------
    ValueError
        If the orientation is fixed, or the sources have no normals.
    """
    if isinstance(problem, SurfaceProblem):
        return problem
    if problem.axes != 3:
        raise ValueError("surface axes want free orientation, but this problem has the normal only")
    normals = _head_normals(problem, "surface axes want")
    one = np.cross(normals, np.eye(3)[np.argmin(np.abs(normals), axis=1)])
    one /= np.linalg.norm(one, axis=1, keepdims=True)
    directions = np.stack([one, np.cross(normals, one), normals], axis=1)
    table = problem.gain.reshape(len(problem.gain), -1, 3)
    gain = np.matmul(table.transpose(1, 0, 2), directions.transpose(0, 2, 1)).transpose(1, 0, 2)
    given: dict[str, Any] = {item.name: getattr(problem, item.name) for item in fields(Problem)}
    return SurfaceProblem(**{**given, "gain": gain.reshape(problem.gain.shape)}, directions=directions)


def _head_normals(problem: Problem, what: str) -> Array:
    normals = None if problem.sources is None else problem.sources.normals
    if normals is None:
        raise ValueError(f"{what} the sources' normals, but this problem has none; give normals or sources")
    return normals / np.linalg.norm(normals, axis=1, keepdims=True)


def _normals(problem: Problem, what: str) -> Array:
    """Normals (source, 3) in the axes of the problem's amplitudes."""
    if isinstance(problem, SurfaceProblem):
        return np.tile([0.0, 0.0, 1.0], (problem.source_count, 1))
    return _head_normals(problem, what)


def depth_prior(problem: Problem, exponent: float = MNE_DEPTH, limit: float | None = MNE_LIMIT) -> Array:
    """Return MNE-Python's depth weighting: relative prior variances (source,), at most 1.

        w = 1 / largest eigenvalue of Gₖᵀ Gₖ,   p = min(w / w_limit, 1)^exponent

    The gain is not whitened and that of gradiometers alone, of magnetometers where there are none, of electrodes
    where there are no coils; with fixed orientation, that of the free gain behind it where it is known. The limit cuts
    weights that exceed the smallest by its square.

    Raises
    ------
    ValueError
        If the exponent is negative, the limit is below 1, or the gain in SI units is not known.
    """
    if not 0 <= exponent < np.inf:
        raise ValueError(f"depth is {exponent}, but must be an exponent of at least 0, such as {MNE_DEPTH}")
    if limit is not None and not limit >= 1:
        raise ValueError(f"limit is {limit}, but must be at least 1, or None")
    gain = _plain_gain(problem)
    power = np.matmul(gain.transpose(1, 2, 0), gain.transpose(1, 0, 2))
    largest = np.linalg.eigvalsh(power)[:, -1]
    weight = 1.0 / largest
    if limit is not None:
        order = np.sort(weight)
        top = order[-1]
        if top > limit**2 * order[0]:
            top = order[np.searchsorted(order, limit**2 * order[0], side="right")]
        weight = np.minimum(weight / top, 1.0)
    return np.asarray(weight**exponent)


def _plain_gain(problem: Problem) -> Array:
    """Gain (sensor, source, axis) in SI units of the sensors that decide on depth."""
    field = problem.lead_field
    if field is None:
        raise ValueError(
            "MNE-Python's depth weighting wants the gain in SI units, but this problem has no lead field; "
            "build it by from_mne, or use depth=None or convention=None"
        )
    kinds = field.sensors.kinds
    kind = next(name for name in ("grad", "mag", "eeg") if name in kinds)
    rows = [i for i, name in enumerate(kinds) if name == kind]
    gain: Array = field.gain
    # A fixed lead field hides the free one it was made from, which is what MNE-Python weighs.
    forward = getattr(problem.origin, "forward", None)
    if gain.shape[2] == 1 and forward is not None and forward["sol"]["data"].shape[1] == 3 * gain.shape[1]:
        place = {name: i for i, name in enumerate(forward["sol"]["row_names"])}
        table = forward["sol"]["data"][[place[field.sensors.names[i]] for i in rows]]
        return np.asarray(table, dtype=np.float64).reshape(len(rows), -1, 3)
    return gain[rows]


def _kept_trace(problem: Problem, weights: Array) -> Array:
    """Scale relative variances so that the signal power of unit currents stays the problem's."""
    power = np.einsum("ca,ca,a->", problem.gain, problem.gain, weights)
    return np.asarray(weights * (problem.signal_power * problem.components / power))


def prior_from_mne(
    problem: Problem, depth: float | None = MNE_DEPTH, loose: float | None = None, limit: float | None = MNE_LIMIT
) -> Array:
    """Return MNE-Python's source covariance as relative variances (amplitude,) for `Currents(weights=...)`.

    Scaled such that trace(G D Gᵀ) = trace(G Gᵀ), so that noise² / variance = λ means
    `lambda2 = λ / problem.signal_power` to MNE-Python.

    problem : fixed orientation; free orientation for `loose=1`; `surface_axes(problem)` for loose in between
    depth : exponent of the depth weighting, None for none
    loose : variance of tangential currents relative to normal ones; None takes 0 with fixed orientation, 0.2 in surface
        axes and 1 with head axes
    limit : of the depth weighting

    Raises
    ------
    ValueError
        If `loose` does not fit the problem's axes, or the depth weighting wants a gain that is not known.
    """
    if loose is None:
        loose = 0.0 if problem.axes == 1 else MNE_LOOSE if isinstance(problem, SurfaceProblem) else 1.0
    if not 0 <= loose <= 1:
        raise ValueError(f"loose is {loose}, but must lie between 0 (fixed) and 1 (free)")
    if problem.axes == 1 and loose > 0:
        raise ValueError(f"loose = {loose} wants free orientation, but this problem has the normal only")
    if problem.axes == 3 and loose == 0:
        raise ValueError("loose = 0 leaves the normal only: build the problem with fixed orientation")
    if problem.axes == 3 and loose < 1 and not isinstance(problem, SurfaceProblem):
        raise ValueError(f"loose = {loose} is diagonal in surface axes only: give surface_axes(problem)")
    weights = np.ones(problem.source_count) if not depth else depth_prior(problem, depth, limit)
    table = np.repeat(weights, problem.axes)
    if problem.axes == 3 and loose < 1:
        table = (table.reshape(-1, 3) * np.array([loose, loose, 1.0])).ravel()
    return _kept_trace(problem, table)


@dataclass(frozen=True, eq=False)
class _Prior:
    """Prior covariance of a source: weight * orientation block.

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
        """Amplitudes per source that the prior leaves free to move."""
        return 1 if self.problem.axes == 1 or self.loose == 0 else 3

    def table(self) -> Array:
        """Gain (source, component, axis)."""
        return self.problem.gain.reshape(self.problem.components, -1, self.problem.axes).transpose(1, 0, 2)

    def along(self, table: Array) -> Array:
        """Gain (source, component, row) of the amplitudes that move."""
        if self.rows == self.problem.axes:
            return table
        assert self.normals is not None
        return np.matmul(table, self.normals[:, :, None])

    def blocks(self, power: float = 1.0) -> Array:
        """Orientation blocks (source, row, row) to a power, in the axes that move; weight left out."""
        if self.rows == 1:
            return np.ones((len(self.weights), 1, 1))
        if self.normals is None:
            return np.tile(np.eye(3), (len(self.weights), 1, 1))
        outer = self.normals[:, :, None] * self.normals[:, None, :]
        return self.loose**power * np.eye(3) + (1 - self.loose**power) * outer

    def spectrum(self) -> tuple[Array, Array, Array]:
        """Eigenvalues and vectors of G D Gᵀ, and the turn D (see `Filter`); trace(G D Gᵀ) = trace(G Gᵀ)."""
        problem = self.problem
        if self.rows == problem.axes and self.normals is None:
            diagonal = _kept_trace(problem, np.repeat(self.weights, problem.axes))
            plain = bool(np.ptp(diagonal) <= 1e-14 * diagonal[0])
            spectrum = Spectrum.of(problem, None if plain else diagonal)
            return spectrum.values, spectrum.to_components, spectrum.weights
        table = self.along(self.table())
        turn = self.weights[:, None, None] * self.blocks()
        spread = np.matmul(table, turn)
        gram = _wide(spread) @ _wide(table).T
        scale = problem.signal_power * problem.components / np.trace(gram)
        values, vectors = eigh(gram * scale, driver="evd", check_finite=False, overwrite_a=True)
        return np.maximum(values, 0.0), vectors, self.outward(turn * scale)

    def outward(self, turn: Array) -> Array:
        """From blocks of the amplitudes that move to a turn of the problem's axes (source, row, axis)."""
        if self.rows == self.problem.axes:
            return turn
        assert self.normals is not None
        return turn * self.normals[:, None, :]


def _wide(table: Array) -> Array:
    """(source, component, row) to (component, amplitude)."""
    return table.transpose(1, 0, 2).reshape(table.shape[1], -1)


def _prior(problem: Problem, depth: float | str | None, loose: float | str | None, mne: bool) -> _Prior:
    if isinstance(depth, str):
        one_of("depth weighting", depth, ("auto",), ", or give an exponent or None")
        depth = MNE_DEPTH if mne else None
    if isinstance(loose, str):
        one_of("looseness", loose, ("auto",), ", or give a number between 0 and 1")
        loose = None
    if loose is None:
        known = isinstance(problem, SurfaceProblem) or (
            problem.sources is not None and problem.sources.normals is not None
        )
        loose = 0.0 if problem.axes == 1 else MNE_LOOSE if mne and known else 1.0
    if not 0 <= loose <= 1:
        raise ValueError(f"loose is {loose}, but must lie between 0 (fixed) and 1 (free)")
    if problem.axes == 1 and loose > 0:
        raise ValueError(f"loose = {loose} wants free orientation, but this problem has the normal only")
    normals = _normals(problem, f"loose = {loose} wants") if problem.axes == 3 and loose < 1 else None
    if not depth:
        weights = np.ones(problem.source_count)
    elif mne:
        weights = depth_prior(problem, depth)
    else:
        weights = depth_weights(problem, depth)[:: problem.axes]
    return _Prior(problem, weights, float(loose), normals)


def baseline(
    problem: Problem,
    method: str = "MNE",
    lam: float | str = "snr",
    *,
    depth: float | str | None = "auto",
    loose: float | str | None = "auto",
    convention: str | None = None,
    pick: str = "pooled",
    snr: float = EXPECTED_SNR,
    covariance: ArrayLike | str | None = None,
    regularise: float = 0.05,
    normalise: str | None = "auto",
) -> Estimate:
    """Return a classical estimate of the currents.

    problem : whitened gain and recording
    method : "MNE" (A m), "dSPM" (in units of the noise), "sLORETA" (standardised), "eLORETA" (A m) or "LCMV"
    lam : λ in 1/(A m)² for a prior covariance D with trace(G D Gᵀ) = trace(G Gᵀ), or how to choose it (see
        `tikhonov`); "snr" is 1/SNR² of the signal power. With `convention="mne"` a number is MNE-Python's lambda2
    depth : exponent of the depth weighting; None for none; "auto" is 0.8 with `convention="mne"` and none otherwise.
        eLORETA and LCMV have none
    loose : variance of tangential currents relative to normal ones with free orientation; "auto" is 0.2 with
        `convention="mne"` where normals are known, and 1 otherwise
    convention : "mne" for the numbers of MNE-Python's `apply_inverse` and `make_lcmv`: its depth weighting of the
        unwhitened gain, sLORETA divided by one number per source, eLORETA stopped after 20 passes. None weights depth
        by the whitened gain, standardises sLORETA by a source's 3 x 3 block and runs eLORETA until it converges
    pick : with free orientation "pooled" gives the length of the current, "normal" its part along the normal,
        "vector" its x, y, z; "max-power" (LCMV) the direction of largest power
    snr : amplitude signal-to-noise ratio that "snr" expects
    covariance : LCMV: of the recording with the response, (sensor, sensor) in SI units or (component, component)
        whitened; "recording" takes that of the problem's recording
    regularise : LCMV: share of the mean eigenvalue that is added to that covariance
    normalise : LCMV: None for unit gain (A m), "unit-noise-gain", "unit-noise-gain-invariant" or "nai"; "auto" is
        MNE-Python's default, "unit-noise-gain-invariant"

    Raises
    ------
    ValueError
        If there is no such method, convention, pick or choice, λ is not positive and finite, `loose` or `pick` want
        axes or normals that the problem lacks, or LCMV has no covariance or a singular one.
    """
    one_of("baseline", method, METHODS)
    if convention is not None:
        one_of("convention", convention, ("mne",), ", or None")
    mne = convention == "mne"
    one_of("pick", pick, PICKS)
    if pick == "max-power" and (method != "LCMV" or problem.axes == 1):
        raise ValueError("pick 'max-power' wants LCMV with free orientation; use 'pooled', 'normal' or 'vector'")
    if method == "LCMV":
        return _lcmv(problem, covariance, regularise, normalise, depth, pick, mne)
    if covariance is not None:
        raise ValueError(f"covariance is for LCMV; {method} has its source covariance from depth and loose")
    if isinstance(lam, str):
        one_of("choice of lam", lam, CHOICES, ", or give a number")
    else:
        lam = positive_lambda(lam) * (problem.signal_power if mne else 1.0)
    prior = _prior(problem, None if method == "eLORETA" else depth, loose, mne)
    if pick == "vector" and prior.rows == 1:
        raise ValueError("pick 'vector' wants free orientation (and loose > 0); here there is one current per source")
    values, vectors, turn = prior.spectrum()
    scan = Scan.of(problem, values, np.sum((vectors.T @ problem.recording) ** 2, axis=1))
    value, chosen = scan.settle(lam, snr)
    if method == "eLORETA":
        values, vectors, turn = _eloreta(prior, value, mne)
        scan = Scan.of(problem, values, np.sum((vectors.T @ problem.recording) ** 2, axis=1))
    middle = (vectors / (values + value)) @ vectors.T
    plain = Filter(problem.gain, turn, middle)
    fitted = problem.recording - value * (middle @ problem.recording)
    unit = "A m"
    if method == "dSPM":
        turn, unit = _divided(turn, _noise_power(plain, prior.rows), prior.rows), ""
    elif method == "sLORETA":
        turn, unit = _standardised(plain, prior, value, mne), ""
    return _estimate(problem, method, turn, middle, unit, value, chosen, scan, fitted, pick, prior.rows)


def _estimate(
    problem: Problem,
    method: str,
    turn: Array,
    middle: Array,
    unit: str,
    lam: float | None,
    chosen: str,
    scan: Scan | None,
    fitted: Array | None,
    pick: str,
    rows: int,
) -> Estimate:
    """Apply a filter, with the current's direction picked."""
    if rows == 3 and pick == "normal":
        normals = _normals(problem, "pick 'normal' wants")
        toward = normals[:, None, :]
        turn = turn.reshape(-1, 1, 3) * toward if turn.ndim == 1 else np.matmul(toward, turn)
        rows = 1
    operator = Filter(problem.gain, turn, middle)
    flat = operator(problem.recording)
    pooled = rows == 3 and pick == "pooled"
    current = flat if rows == 1 else flat.reshape(-1, 3, flat.shape[1])
    if pooled:
        current = np.linalg.norm(current, axis=1)
    return Estimate(problem, method, current, unit, lam, chosen, scan, fitted, operator, pooled)


def _divided(turn: Array, power: Array, rows: int) -> Array:
    """Divide a source's rows by the root of a power (source,)."""
    with np.errstate(divide="ignore"):
        share = np.where(power > 0, 1 / np.sqrt(power), 0.0)
    return turn * np.repeat(share, rows) if turn.ndim == 1 else turn * share[:, None, None]


def _noise_power(plain: Filter, rows: int) -> Array:
    """Variance (source,) that noise alone has in an estimate, over a source's rows."""
    power = np.concatenate([np.einsum("rc,rc->r", part, part) for part in map(plain.rows, plain.blocks())])
    return power.reshape(-1, rows).sum(axis=1)


def _standardised(plain: Filter, prior: _Prior, lam: float, mne: bool) -> Array:
    """Turn of sLORETA: the estimate over the root of its own variance, D Gᵀ middle G D / λ (Pascual-Marqui 2002)."""
    rows, axes = prior.rows, prior.problem.axes
    turn = plain.turn
    if turn.ndim == 1:
        turn = turn.reshape(-1, 1, rows) * np.eye(rows)
    table = prior.table()
    inner = np.matmul(
        table.transpose(0, 2, 1), (plain.middle @ plain.gain).reshape(len(plain.gain), -1, axes).transpose(1, 0, 2)
    )
    variance = np.matmul(np.matmul(turn, inner), turn.transpose(0, 2, 1)) / lam
    if mne or rows == 1:
        return _divided(plain.turn, np.trace(variance, axis1=1, axis2=2), rows)
    return np.matmul(_root(variance, -0.5), turn)


def _root(blocks: Array, power: float) -> Array:
    """Power of symmetric blocks (source, row, row) on their range."""
    values, vectors = np.linalg.eigh(blocks)
    keep = values > THIN * values[:, -1:]
    safe = np.where(keep, values, 1.0)
    return np.matmul(vectors * np.where(keep, safe**power, 0.0)[:, None, :], vectors.transpose(0, 2, 1))


def _eloreta(prior: _Prior, lam: float, mne: bool) -> tuple[Array, Array, Array]:
    """Weights of eLORETA: eigenvalues and vectors of G R Gᵀ, and R as a turn (Pascual-Marqui 2007).

        R_k ∝ (G_kᵀ (G R Gᵀ + λ I)⁻¹ G_k)^(-1/2),   trace(G R Gᵀ) = trace(G Gᵀ)

    The fixed point has no localisation error for a single source without noise.
    """
    problem = prior.problem
    trace = problem.signal_power * problem.components
    root = prior.blocks(0.5)
    plain = prior.along(prior.table())
    table = np.matmul(plain, root)
    loose = prior.rows == 3 and prior.loose < 1
    # MNE-Python applies the orientation prior to the gain as well as to the weights while it iterates.
    outer = table if mne else plain
    tolerance, passes = (MNE_TOLERANCE, MNE_PASSES) if mne else (TOLERANCE, PASSES)
    flat_table, flat_outer = _wide(table), _wide(outer)

    def scaled(weights: Array, gain: Array, flat: Array) -> tuple[Array, Array]:
        gram = _wide(np.matmul(gain, weights)) @ flat.T
        scale = trace / np.trace(gram)
        return weights * scale, gram * scale

    weights, gram = scaled(prior.blocks(), outer, flat_outer)
    change = np.inf
    for _ in range(passes):
        values, vectors = np.linalg.eigh(gram)
        inverse = (vectors / (np.maximum(values, 0.0) + lam)) @ vectors.T
        inner = np.matmul(
            table.transpose(0, 2, 1), (inverse @ flat_table).reshape(len(gram), -1, prior.rows).transpose(1, 0, 2)
        )
        fresh = 1 / np.sqrt(inner) if prior.rows == 1 else _root(inner, -0.5)
        if loose:
            fresh = np.matmul(np.matmul(root, fresh), root)
        fresh, gram = scaled(fresh, outer, flat_outer)
        change = float(np.linalg.norm(fresh - weights) / np.linalg.norm(weights))
        weights = fresh
        if change < tolerance:
            break
    else:
        warnings.warn(
            f"eLORETA's weights still changed by {change:.1e} after {passes} passes (wanted {tolerance:g}); "
            "a larger lam converges sooner",
            stacklevel=3,
        )
    weights, gram = scaled(weights, plain, _wide(plain))
    values, vectors = np.linalg.eigh(gram)
    turn = prior.outward(weights)
    return np.maximum(values, 0.0), vectors, turn[:, 0, 0] if turn.shape[1:] == (1, 1) else turn


def _whitened_covariance(problem: Problem, covariance: ArrayLike | str | None) -> Array:
    """Covariance (component, component) of the whitened recording."""
    if covariance is None:
        raise ValueError(
            "LCMV wants the covariance of the recording with the response: give covariance=(sensor, sensor), or "
            "covariance='recording' for that of this problem's own samples"
        )
    if isinstance(covariance, str):
        one_of("covariance", covariance, ("recording",), ", or give a matrix")
        return np.asarray(problem.recording @ problem.recording.T / problem.recording.shape[1])
    table = real("covariance", covariance, "sensor sensor")
    if table.shape[0] != table.shape[1]:
        raise ValueError(f"covariance has shape {table.shape}, but must be square")
    if problem.whitener is not None and len(table) == problem.whitener.shape[1]:
        table = problem.whitener @ table @ problem.whitener.T
    if len(table) != problem.components:
        sensors = "" if problem.whitener is None else f" {problem.whitener.shape[1]} sensors or"
        raise ValueError(
            f"covariance has sensor = {len(table)}, but the problem has{sensors} {problem.components} components"
        )
    return np.asarray((table + table.T) / 2)


def _lcmv(
    problem: Problem,
    covariance: ArrayLike | str | None,
    regularise: float,
    normalise: str | None,
    depth: float | str | None,
    pick: str,
    mne: bool,
) -> Estimate:
    """Linearly constrained minimum variance beamformer: unit gain at the source, least power from elsewhere.

    W_k = (G_kᵀ C⁻¹ G_k)⁻¹ G_kᵀ C⁻¹
    """
    if depth not in (None, "auto", 0):
        raise ValueError(f"depth is {depth!r}, but LCMV has no depth weighting; normalise= makes up for depth")
    if not 0 <= regularise < np.inf:
        raise ValueError(f"regularise is {regularise}, but must be at least 0, such as 0.05")
    if normalise == "auto":
        normalise = "unit-noise-gain-invariant"
    if normalise is not None:
        one_of("normalisation", normalise, NORMS, ", or None")
    if pick == "vector" and problem.axes == 1:
        raise ValueError("pick 'vector' wants free orientation; here there is one current per source")
    table = _whitened_covariance(problem, covariance)
    values, vectors = np.linalg.eigh(table)
    if values[0] < -1e-7 * abs(values[-1]):
        raise ValueError(
            f"covariance is not positive semidefinite (smallest eigenvalue {values[0]:.2e} of {values[-1]:.2e}); "
            "a covariance is, so check how it was made"
        )
    rank = int(np.count_nonzero(values > 1e-12 * values[-1]))
    # MNE-Python takes the mean over all sensors, those that projections have silenced included.
    count = problem.whitener.shape[1] if mne and problem.whitener is not None else len(values)
    loading = regularise * float(np.maximum(values, 0).sum()) / count
    if rank < len(values) and not loading:
        raise ValueError(
            f"covariance is singular: its rank is {rank} of {len(values)} components, and LCMV inverts it; "
            "regularise=0.05 would add 5 % of the mean eigenvalue to all of them, or give a covariance of more samples"
        )
    shifted = np.maximum(values, 0.0) + loading
    inverse = (vectors / shifted) @ vectors.T
    axes = problem.axes
    gain = problem.gain.reshape(problem.components, -1, axes).transpose(1, 0, 2)
    picked: Array | None = None
    if axes == 3 and pick == "normal":
        picked = _normals(problem, "pick 'normal' wants")
    elif axes == 3 and pick == "max-power":
        picked = _strongest(problem, gain, inverse, normalise)
    if picked is not None:
        gain = np.matmul(gain, picked[:, :, None])
    rows = gain.shape[2]
    left = np.matmul(gain.transpose(0, 2, 1), inverse)
    denominator = np.matmul(left, gain)
    noise = np.matmul(left, left.transpose(0, 2, 1))
    turn = _root(denominator, -1.0)
    if normalise == "unit-noise-gain-invariant":
        turn = _root(noise, -0.5)
    elif normalise is not None:
        gains = np.matmul(np.matmul(turn, noise), turn)
        turn = turn / np.sqrt(np.einsum("srr->sr", gains))[:, :, None]
        if normalise == "nai":
            turn = turn / np.sqrt(max(float(values[0]), loading))
    if mne and normalise in ("unit-noise-gain", "unit-noise-gain-invariant") and problem.noise is not None:
        # Its noise is that of a single trial, whatever the recording averages.
        turn = turn / np.sqrt(problem.noise.averages)
    if picked is not None:
        turn = turn * picked[:, None, :]
    elif rows == 1:
        turn = turn[:, 0, 0]
    unit = "" if normalise else "A m"
    return _estimate(
        problem, "LCMV", turn, inverse, unit, None, "none", None, None, "pooled" if rows == 1 else pick, rows
    )


def _strongest(problem: Problem, gain: Array, inverse: Array, normalise: str | None) -> Array:
    """Direction (source, 3) of largest power, its sign along the normal where that is known (Sekihara 2008, 4.47)."""
    left = np.matmul(gain.transpose(0, 2, 1), inverse)
    denominator = np.matmul(left, gain)
    half = _root(denominator if normalise is None else np.matmul(left, left.transpose(0, 2, 1)), -0.5)
    inner = np.tile(np.eye(3), (len(gain), 1, 1)) if normalise is None else denominator
    _, vectors = np.linalg.eigh(np.matmul(np.matmul(half, inner), half))
    best = np.matmul(half, vectors[:, :, -1:])[:, :, 0]
    best /= np.linalg.norm(best, axis=1, keepdims=True)
    known = isinstance(problem, SurfaceProblem) or (problem.sources is not None and problem.sources.normals is not None)
    toward = _normals(problem, "") if known else np.tile([0.0, 0.0, 1.0], (len(best), 1))
    sign = np.where(np.sum(best * toward, axis=1) < 0, -1.0, 1.0)
    return np.asarray(best * sign[:, None])


def sources_of(index: ArrayLike, count: int) -> Index:
    """Return source indices, checked.

    Raises
    ------
    ValueError
        If one lies outside the sources there are.
    """
    table = np.atleast_1d(np.asarray(index))
    if table.ndim != 1 or not np.issubdtype(table.dtype, np.integer):
        raise ValueError(f"sources are named by their integer index, not {index!r}")
    wrong = table[(table < -count) | (table >= count)]
    if wrong.size:
        raise ValueError(f"source {wrong[0]} does not exist; there are {count} sources, from 0 to {count - 1}")
    return np.asarray(table % count, dtype=np.int64)
