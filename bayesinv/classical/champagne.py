"""Champagne: one variance per source, all of them learned by maximising the evidence, most of them zero.

    recording_t ~ Normal(0, C),   C = Σ_k variance_k G_k G_kᵀ + noise² I,   baseline_t ~ Normal(0, noise² I)

A source of three axes has one variance for all of them, and all samples of the recording are taken together. The
variances and the noise are the values under which the recording is most probable, taken for known afterwards: what is
said of the currents then leaves out that they were guessed. Without a baseline the sources fit some of the noise, too,
and its variance comes out too small.

References: Wipf & Nagarajan (2009), NeuroImage 44, 947-966; Wipf et al. (2010), NeuroImage 49, 641-655; Cai et al.
(2021), NeuroImage 225, 117411; Salakhutdinov & Roweis (2003), Proc. ICML 20, 664-671; Tipping & Faul (2003), Proc.
AISTATS 9.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular

from bayesinv.axes import Array, Index
from bayesinv.classical.criteria import Scan
from bayesinv.classical.estimate import Estimate, estimate_of
from bayesinv.problem.problem import Problem

TOLERANCE, ITERATIONS = 1e-6, 3000
"""Fall of -2 log evidence in one step, nats, and number of steps, at which the variances are taken as they are."""

BOUND, GROWTH, LARGEST_POWER = 0.5, 1.2, 16.0
"""Power of a step that the bound allows; factor by which it grows while the cost falls, and its limit."""

NEGLIGIBLE = 1e-6
"""Variance of a source at the sensors, relative to the noise's, below which one that still falls is set to zero."""

NOISE_FLOOR = 1e-10
"""Least variance of the noise, relative to the recording's power."""


@dataclass(frozen=True, eq=False)
class Learned:
    """Variances and noise of largest evidence.

    variances : (source,), (A m)², exactly 0 for most
    noise : scale of the whitened noise
    costs : (step,), -2 log evidence of recording and baseline, nats, at the start and after every step
    """

    variances: Array
    noise: float
    costs: Array


@dataclass(frozen=True, eq=False)
class _State:
    """Variances of the sources that have one, and the covariance of the recording that they make.

    sources : (active,), indices; gain : (component, active amplitude), their columns; variances : (active,)
    noise_power : variance of the noise
    cost : -2 log evidence
    lower : L with L Lᵀ = C; solved : L⁻¹ F (component, column), with F Fᵀ the recording's sum over samples
    """

    sources: Index
    gain: Array
    variances: Array
    noise_power: float
    cost: float
    lower: Array
    solved: Array


@dataclass(frozen=True, eq=False)
class _Evidence:
    """What the evidence takes of a problem: the gain, and sums over samples.

    gain : (component, amplitude)
    axes : amplitudes per source
    root : F (component, column), F Fᵀ = Σ_t y_t y_tᵀ of the recording whose noise is white over time
    samples : of the recording
    quiet_power, quiet_count : squares of the baseline summed, and how many are independent; 0 where there is none
    constant : what of -2 log evidence depends on neither variances nor noise
    floor : least variance of the noise
    """

    gain: Array
    axes: int
    root: Array
    samples: int
    quiet_power: float
    quiet_count: int
    constant: float
    floor: float

    @classmethod
    def of(cls, problem: Problem) -> _Evidence:
        recording, quiet, whitening = problem.white_recording, problem.white_baseline, problem.time_whitening
        vectors, lengths, _ = np.linalg.svd(recording, full_matrices=False)
        count = 0 if quiet is None else problem.components * problem.baseline_freedom
        constant = (recording.size + count) * float(np.log(2 * np.pi))
        if whitening is not None:
            constant += float(whitening.log_volumes.sum())
            constant += 0.0 if quiet is None else float(whitening.baseline_log_volumes.sum())
        return cls(
            gain=problem.gain,
            axes=problem.axes,
            root=vectors * lengths,
            samples=recording.shape[1],
            quiet_power=0.0 if quiet is None else float(np.sum(quiet**2)),
            quiet_count=count,
            constant=constant,
            floor=NOISE_FLOOR * float(np.mean(recording**2)),
        )

    def columns(self, sources: Index) -> Array:
        """The gain of some sources: (component, amplitude)."""
        table = self.gain.reshape(len(self.gain), -1, self.axes)[:, sources]
        return table.reshape(len(table), table.shape[1] * self.axes)

    def state(self, sources: Index, gain: Array, variances: Array, noise_power: float) -> _State:
        scaled = gain * np.sqrt(np.repeat(variances, self.axes))
        covariance = scaled @ scaled.T
        covariance[np.diag_indices_from(covariance)] += noise_power
        lower = cholesky(covariance, lower=True, overwrite_a=True, check_finite=False)
        solved = solve_triangular(lower, self.root, lower=True, check_finite=False)
        cost = 2 * self.samples * float(np.log(np.diag(lower)).sum()) + float(np.sum(solved**2)) + self.constant
        if self.quiet_count:
            cost += self.quiet_count * float(np.log(noise_power)) + self.quiet_power / noise_power
        return _State(sources, gain, variances, noise_power, cost, lower, solved)

    def start(self) -> _State:
        """Return variances that are all the same and explain a power like the recording's, beside that of the noise."""
        count = self.gain.shape[1] // self.axes
        power = float(np.sum(self.root**2)) / self.samples
        variance = power / float(np.sum(self.gain**2))
        noise_power = power / len(self.gain)
        if self.quiet_power:
            noise_power = max(self.quiet_power / self.quiet_count, self.floor)
        return self.state(np.arange(count), self.gain, np.full(count, variance), noise_power)

    def whitened(self, state: _State, gain: Array) -> tuple[Array, Array]:
        """L⁻¹ G_k (source, component, axis) and G_kᵀ C⁻¹ F (source, axis, column) of some gain."""
        flat = solve_triangular(state.lower, gain, lower=True, check_finite=False)
        count = gain.shape[1] // self.axes
        fields = flat.reshape(len(flat), count, self.axes).transpose(1, 0, 2)
        return fields, (flat.T @ state.solved).reshape(count, self.axes, state.solved.shape[1])

    def forces(self, state: _State, gain: Array) -> tuple[Array, Array]:
        """Return what pulls each variance up and what pushes it down, (source,): d cost / d variance = T (down - up).

        up_k = ‖G_kᵀ C⁻¹ Y‖² / T,   down_k = trace(G_kᵀ C⁻¹ G_k)
        """
        fields, sides = self.whitened(state, gain)
        return np.einsum("kac,kac->k", sides, sides) / self.samples, np.einsum("kca,kca->k", fields, fields)

    def noise_ratio(self, state: _State, down: Array) -> float:
        """The ratio up / down of the noise's variance, with noise² trace(C⁻¹) = components - Σ variance_k down_k."""
        residual = solve_triangular(state.lower, state.solved, lower=True, trans="T", check_finite=False)
        up = state.noise_power * float(np.sum(residual**2)) + self.quiet_power / state.noise_power
        return up / (self.samples * (len(self.gain) - float(state.variances @ down)) + self.quiet_count)

    def stepped(self, state: _State, up: Array, down: Array, noise_ratio: float, power: float) -> _State:
        """Return the state with every variance times a power of its ratio up / down."""
        noise_power = max(state.noise_power * noise_ratio ** min(power, 1.0), self.floor)
        return self.state(state.sources, state.gain, state.variances * (up / down) ** power, noise_power)

    def kept(self, state: _State, keep: NDArray[np.bool_]) -> _State:
        """Return the state in which only some of its sources have a variance."""
        sources = state.sources[keep]
        return self.state(sources, self.columns(sources), state.variances[keep], state.noise_power)


def learn(problem: Problem) -> Learned:
    """Return the variances and the noise of largest evidence that are reached from equal variances.

    Every term of the cost is put under a bound that touches it, at whose minimum

        variance_k ← variance_k (‖G_kᵀ C⁻¹ Y‖² / (T trace(G_kᵀ C⁻¹ G_k)))^power,   power = 1/2,

    and the noise likewise, so that the cost never rises. A larger power is tried as long as the cost falls with it.
    When a step of 1/2 lowers the cost by less than `TOLERANCE`, variances whose loss lowers it are set to zero one by
    one, and one that was lost too early comes back; where neither happens, this is a local maximum of the evidence. Its
    cost then changes with the logarithm of no variance by more than about 2 sqrt(TOLERANCE · T · axes). A step costs
    O(amplitudes · components²), of the sources whose variance is not zero yet.

    Warns where `ITERATIONS` steps do not suffice, and where the sources explain the recording without noise.

    Raises
    ------
    ValueError
        If the recording is zero.
    """
    if not problem.recording.any():
        raise ValueError("the recording is zero, so there is nothing to learn variances from")
    evidence = _Evidence.of(problem)
    state, power, settled = evidence.start(), BOUND, False
    costs, fall = [state.cost], np.inf
    for _ in range(ITERATIONS):
        before = state.cost
        up, down = evidence.forces(state, state.gain)
        after = evidence.stepped(state, up, down, evidence.noise_ratio(state, down), power)
        if after.cost <= before:
            state = _without_negligible(evidence, after, up < down)
        fall = before - state.cost
        if fall >= TOLERANCE:
            power = min(GROWTH * power, LARGEST_POWER)
        elif power > BOUND:
            power = BOUND
        else:
            changed = _with_missing(evidence, _without_useless(evidence, state))
            state, settled = changed, changed is state
        costs.append(state.cost)
        if settled:
            break
    else:
        warnings.warn(
            f"Champagne's -2 log evidence still fell by {fall:.1e} in the last of {ITERATIONS} steps (wanted "
            f"{TOLERANCE:g}); its variances are those of the last step",
            stacklevel=4,
        )
    if state.noise_power <= evidence.floor:
        warnings.warn(
            "Champagne's sources explain the recording without noise, so that the evidence has no maximum; the noise's "
            f"variance was kept at {NOISE_FLOOR:g} of the recording's power. Give the problem a baseline",
            stacklevel=4,
        )
    variances = np.zeros(problem.source_count)
    variances[state.sources] = state.variances
    return Learned(variances, float(np.sqrt(state.noise_power)), np.array(costs))


def _without_negligible(evidence: _Evidence, state: _State, falling: NDArray[np.bool_]) -> _State:
    """Return the state without the falling variances that are lost in the noise, unless that raises the cost."""
    norms = np.einsum("ca,ca->a", state.gain, state.gain).reshape(-1, evidence.axes).sum(axis=1)
    lost = falling & (state.variances * norms < NEGLIGIBLE * state.noise_power)
    if not lost.any():
        return state
    kept = evidence.kept(state, ~lost)
    return kept if kept.cost <= state.cost else state


def _without_useless(evidence: _Evidence, state: _State) -> _State:
    """Return the state without variances whose loss lowers the cost, taken away one by one.

    With S = G_kᵀ C⁻¹ G_k the cost changes by T log|I - v S| + v trace(Fᵀ C⁻¹ G_k (I - v S)⁻¹ G_kᵀ C⁻¹ F).
    """
    while len(state.sources):
        fields, sides = evidence.whitened(state, state.gain)
        values, vectors = np.linalg.eigh(np.matmul(fields.transpose(0, 2, 1), fields))
        powers = np.sum(np.matmul(vectors.transpose(0, 2, 1), sides) ** 2, axis=2)
        left = np.maximum(1 - state.variances[:, None] * values, np.finfo(float).eps)
        change = np.sum(evidence.samples * np.log(left) + state.variances[:, None] * powers / left, axis=1)
        worst = int(np.argmin(change))
        fewer = evidence.kept(state, np.arange(len(change)) != worst)
        if not (change[worst] <= 0 and fewer.cost <= state.cost):
            break
        state = fewer
    return state


def _with_missing(evidence: _Evidence, state: _State) -> _State:
    """Return the state with a variance for the source without one that the recording asks for most, if there is one.

    With one axis the variance is that of largest evidence, and the cost falls by T (x - 1 - log x), x = up / down.
    """
    up, down = evidence.forces(state, evidence.gain)
    ratio = np.maximum(up / down, 1.0)
    ratio[state.sources] = 1.0
    best = int(np.argmax(ratio))
    if evidence.samples * (ratio[best] - 1 - np.log(ratio[best])) < TOLERANCE:
        return state
    variance = (up[best] - down[best]) / down[best] ** 2
    sources = np.append(state.sources, best)
    gain = evidence.columns(sources)
    while variance > np.finfo(float).eps / down[best]:
        more = evidence.state(sources, gain, np.append(state.variances, variance), state.noise_power)
        if more.cost <= state.cost - TOLERANCE / 2:
            return more
        variance /= 2
    return state


def champagne(problem: Problem, pick: str) -> Estimate:
    """Return the currents under the learned variances and noise, which the estimate carries."""
    if pick == "vector" and problem.axes == 1:
        raise ValueError("pick 'vector' wants free orientation; here there is one current per source")
    found = learn(problem)
    variances = np.repeat(found.variances, problem.axes)
    # λ is that of relative variances D with trace(G D Gᵀ) = trace(G Gᵀ), as for other estimates.
    total = float(problem.gain_powers.sum())
    scale = float(problem.gain_powers @ variances) / total
    if not scale:
        scale = found.noise**2 / problem.signal_power
    weights, lam = variances / scale, found.noise**2 / scale
    scaled = problem.gain * np.sqrt(weights)
    values, vectors = np.linalg.eigh(scaled @ scaled.T)
    values = np.maximum(values, 0.0)
    inverse = (vectors / (values + lam)) @ vectors.T
    scan = Scan.of(problem, values, np.sum((vectors.T @ problem.recording) ** 2, axis=1), found.noise)
    fitted = problem.recording - lam * (inverse @ problem.recording)
    return estimate_of(problem, "champagne", weights, inverse, "A m", lam, "learned", scan, fitted, pick, problem.axes)
