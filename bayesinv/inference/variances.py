"""Log density and its slopes for many nodes at once, where amplitudes are independent and their variances learned.

Amplitudes whose variances stay in proportion are one group, as those of a parcel: the covariance of a sample is a sum
of a fixed matrix per group,

    C(θ) = Σ_g v_g(θ) K_g + noise(θ)² I

With P = C⁻¹, Z = P Y and T samples, dL/d log v_g = v_g ⟨Z Zᵀ - T P, K_g⟩ / 2, one matrix for all groups.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import solve_triangular
from scipy.linalg.blas import dsymm, dsyrk
from scipy.linalg.lapack import dpotrf, dpotri

from bayesinv.axes import Array, Index
from bayesinv.evidence.gaussian import LOG_2PI
from bayesinv.memory import cached_property
from bayesinv.prior.density import Density

PROBES = 5
"""Nodes at which the variances of one group must be in proportion."""

MAX_NUMBERS = 2**25
"""Numbers that the matrices of all groups may have together."""

CHUNK = 2**21
"""Numbers in the covariances that are factorised at once."""

NO_SIGNAL = 1e-3
"""Variance that currents cause in a component, in that of the noise, below which it counts as pure noise."""


def applies(density: Density) -> bool:
    """Whether variances of independent amplitudes, and scales, are all that is learned."""
    observation = density.observation
    base = observation.base
    fixed = base.diagonal_only and base.noise is None and base.time is None and not base.error
    return fixed and set(observation.learned) <= {"weights", "scale"}


@dataclass(frozen=True, eq=False)
class Numbers:
    """What a model's graphs give at nodes: log prior, source variance and noise scale (node,), fields (node, ...)."""

    prior: Array
    variance: Array
    noise: Array
    learned: dict[str, Array]

    @classmethod
    def of(cls, density: Density, nodes: Array) -> Numbers:
        """Evaluate the graphs once."""
        return cls(*density.prior_and_scales(nodes), density.learned(nodes))


@dataclass(frozen=True, eq=False)
class Variances:
    """The density of a model of independent amplitudes in groups.

    first : (group,), where in the learned weights a group's first is
    reference : (group,), logarithms of the variances at which the columns stand
    columns : (component, amplitude), gains times the roots of variances, in the order of the groups
    starts : (group,), first column of each
    recording : (component, time), or fewer columns with the same sums of products
    samples : number of samples
    quiet_power, quiet_count : sum of squares of numbers that are noise alone, and how many
    constant : of the log density
    limits : (group,), logarithms of the largest variances, relative to the noise's, at which these components are all
        that currents reach; None where they are all there are
    """

    density: Density
    first: Index
    reference: Array
    columns: Array
    starts: Index
    recording: Array
    samples: int
    quiet_power: float
    quiet_count: int
    constant: float
    limits: Array | None = None

    @classmethod
    def of(cls, density: Density) -> Variances | None:
        """Find the groups; None where they are too many for a matrix each."""
        problem = density.observation.problem
        probes = np.random.default_rng(0).standard_normal((PROBES, density.dimension))
        nodes = density.start + np.concatenate([np.zeros((1, density.dimension)), 0.3 * probes])
        weights = density.learned(nodes).get("weights", np.ones((len(nodes), 1)))
        live = np.flatnonzero(weights[0] > 0)
        with np.errstate(divide="ignore"):
            logs = np.log(weights[:, live])
        _, first, which = np.unique(np.round(logs[1:] - logs[0], 9), axis=1, return_index=True, return_inverse=True)
        if len(first) * problem.components**2 > MAX_NUMBERS:
            return None
        labels = np.full(weights.shape[1], -1)
        labels[live] = which.reshape(-1)
        labels = np.repeat(labels, problem.gain.shape[1] // len(labels))
        order = np.argsort(labels, kind="stable")[int(np.sum(labels < 0)) :]
        structure = density.structures(density.structural_nodes(nodes[:1])[0])[0]
        roots = np.sqrt(float(density.scales(nodes[:1])[0][0]) * structure.diagonal(problem)[order])
        recording, whitening = problem.white_recording, problem.time_whitening
        quiet = problem.white_baseline if density.observation.baseline is not None else None
        freedom = 0 if quiet is None else problem.baseline_freedom
        constant = -0.5 * problem.components * (recording.shape[1] + freedom) * LOG_2PI
        if whitening is not None:
            constant -= 0.5 * float(whitening.log_volumes.sum())
            constant -= 0.0 if quiet is None else 0.5 * float(whitening.baseline_log_volumes.sum())
        found = cls(
            density,
            live[first],
            np.zeros(len(first)),
            problem.gain[:, order] * roots,
            np.searchsorted(labels[order], np.arange(len(first))),
            recording,
            recording.shape[1],
            0.0 if quiet is None else float(np.sum(quiet**2)),
            freedom * problem.components,
            constant,
        )
        return replace(found, reference=found.logs(nodes[:1])[0][0])

    @cached_property
    def grams(self) -> Array:
        """K_g of all groups: (group, component * component)."""
        parts = np.split(self.columns, self.starts[1:], axis=1)
        return np.stack([(one @ one.T).ravel() for one in parts])

    def logs(self, nodes: Array) -> tuple[Array, Array]:
        """Log variances (node, group) from those at which the columns stand, and log variance of noise (node,)."""
        return self._logs(Numbers.of(self.density, nodes))

    def _logs(self, at: Numbers) -> tuple[Array, Array]:
        with np.errstate(all="ignore"):
            total = np.log(at.variance * at.learned.get("scale", 1.0))[:, None]
            weights = at.learned["weights"][:, self.first] if "weights" in at.learned else np.ones((1, len(self.first)))
            return total + np.log(weights) - self.reference, 2 * np.log(at.noise)

    def reached(self, nodes: Array, margin: float = 1.0) -> Variances:
        """The same in the components that currents reach: at none of some nodes do they cause a variance in others.

        Of the others the recording is noise alone, but for `NO_SIGNAL`.

        margin : factor by which variances may be larger than at these nodes
        """
        logs, noise = self.logs(nodes)
        limits = (logs - noise[:, None]).max(axis=0) + np.log(margin)
        counts = np.diff([*self.starts, self.columns.shape[1]])
        scaled = self.columns * np.sqrt(np.repeat(np.exp(limits), counts))
        values, vectors = np.linalg.eigh(scaled @ scaled.T)
        basis, rest = vectors[:, values > NO_SIGNAL], vectors[:, values <= NO_SIGNAL]
        power = float(np.sum((rest.T @ self.recording) ** 2))
        recording = basis.T @ self.recording
        if recording.shape[1] > len(recording):
            # The density knows the recording by its sums of products over the samples.
            recording = np.asarray(np.linalg.qr(recording.T, mode="r")).T
        return replace(
            self,
            columns=basis.T @ self.columns,
            recording=recording,
            quiet_power=self.quiet_power + power,
            quiet_count=self.quiet_count + rest.shape[1] * self.samples,
            limits=limits,
        )

    def covers(self, node: Array) -> bool:
        """Whether currents reach no other components at a node (coordinate,)."""
        if self.limits is None:
            return True
        logs, noise = self.logs(node[None])
        return bool(np.all(logs[0] - noise[0] <= self.limits))

    def __call__(self, nodes: Array) -> tuple[Array, Array]:
        """Log density (node,) and its gradient (node, coordinate); -inf and zeros where it is not defined."""
        at = Numbers.of(self.density, nodes)
        logs, noise = self._logs(at)
        defined = np.isfinite(at.prior) & (np.abs(noise) < 400) & (np.abs(logs).max(axis=1, initial=0.0) < 400)
        log_density, by_logs, by_noise = np.full(len(nodes), -np.inf), np.zeros(logs.shape), np.zeros(len(nodes))
        inside, step = np.flatnonzero(defined), max(1, CHUNK // len(self.recording) ** 2)
        for start in range(0, len(inside), step):
            some = inside[start : start + step]
            log_density[some], by_logs[some], by_noise[some] = self._likelihood(np.exp(logs[some]), np.exp(noise[some]))
        log_density += at.prior + self.constant
        slopes = self._pulled(nodes, at, by_logs, by_noise)
        defined = np.isfinite(log_density)
        return np.where(defined, log_density, -np.inf), np.where(defined[:, None], slopes, 0.0)

    def _likelihood(self, variances: Array, noise: Array) -> tuple[Array, Array, Array]:
        """Log likelihood (node,) but for a constant, and slopes by log variances (node, group) and of the noise."""
        size, samples = len(self.recording), self.samples
        inverses = (variances @ self.grams).reshape(len(noise), size, size)
        log_density = np.empty(len(noise))
        for i, matrix in enumerate(inverses):
            matrix.flat[:: size + 1] += noise[i]
            factor, failed = dpotrf(matrix.T, lower=1)
            log_density[i] = -np.inf if failed else -samples * np.log(np.diag(factor)).sum()
            inverse = dpotri(factor, lower=1, overwrite_c=1)[0]
            solved = dsymm(1.0, inverse, self.recording, lower=1)
            log_density[i] -= 0.5 * float(np.sum(solved * self.recording))
            # Only this triangle is computed: it counts twice in a sum over symmetric matrices, its diagonal once.
            half = dsyrk(2.0, solved, beta=-2.0 * samples, c=inverse, lower=1, overwrite_c=1)
            half.flat[:: size + 1] /= 2
            matrix[...] = half
        by_noise = 0.5 * noise * np.trace(inverses, axis1=1, axis2=2)
        by_logs = 0.5 * variances * (inverses.reshape(len(noise), -1) @ self.grams.T)
        log_density -= 0.5 * (self.quiet_power / noise + self.quiet_count * np.log(noise))
        return log_density, by_logs, by_noise + 0.5 * (self.quiet_power / noise - self.quiet_count)

    def pulled(self, nodes: Array, by_logs: Array, by_noise: Array) -> Array:
        """Gradient (node, coordinate) of log prior + by_logs · log variances + by_noise · log variance of noise."""
        return self._pulled(nodes, Numbers.of(self.density, nodes), by_logs, by_noise)

    def _pulled(self, nodes: Array, at: Numbers, by_logs: Array, by_noise: Array) -> Array:
        total, by_learned = by_logs.sum(axis=1), {}
        with np.errstate(all="ignore"):
            if "weights" in at.learned:
                by_learned["weights"] = np.zeros(at.learned["weights"].shape)
                by_learned["weights"][:, self.first] = by_logs / at.learned["weights"][:, self.first]
            if "scale" in at.learned:
                by_learned["scale"] = total / at.learned["scale"]
            return self.density.pulled(nodes, total / at.variance, 2 * by_noise / at.noise, by_learned)

    def curvature(self, variances: Array, noise: float, *, expected: bool = False) -> tuple[Array, Array]:
        """Curvature and slope of the log likelihood by log variances of groups and, last, of the noise.

        expected : whether the recording, by its second moment, is what these variances expect: Fisher's information
        """
        size, samples, count = len(self.recording), self.samples, len(variances)
        covariance = (variances @ self.grams).reshape(size, size) + noise * np.eye(size)
        root = np.linalg.cholesky(covariance)
        white = solve_triangular(root, np.hstack([self.columns, np.eye(size)]), lower=True)
        parts = np.split(white, [*self.starts[1:], self.columns.shape[1]], axis=1)
        grams = np.stack([one @ one.T for one in parts])
        power = samples * np.eye(size)
        if not expected:
            solved = solve_triangular(root, self.recording, lower=True)
            power = solved @ solved.T
        flat, every = grams.reshape(count + 1, -1), np.append(variances, noise)
        out = np.outer(every, every) * (((0.5 * samples * np.eye(size) - power) @ grams).reshape(flat.shape) @ flat.T)
        slopes = 0.5 * every * (flat @ (power - samples * np.eye(size)).ravel())
        quiet = self.quiet_count if expected else self.quiet_power / noise
        slopes[count] += 0.5 * (quiet - self.quiet_count)
        out[np.diag_indices(count + 1)] += slopes
        out[count, count] -= quiet - 0.5 * self.quiet_count
        return out, slopes
