"""Gaussians of currents that are dense and focal, given which sources are active.

In mode k of time, with P the patches of the active sources times their strengths, A their fields, s_k their courses
given the recording, of mean and covariance m_k and B_k, and F_k = κ_k variance D_k⁻¹ (names as in `evidence.active`),

    currents = P s_k + dense,   dense ~ Normal(D Gᵀ U F_k (y_k - A s_k), κ_k variance (D - D Gᵀ U F_k Uᵀ G D))

with U the basis of mode k, so that E_k = P - D Gᵀ U F_k A multiplies what is unknown of the courses: what a source
explains, it takes from the dense currents. Filters are made when they are asked for; arrays of draws by sources by time
are never formed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse import hstack as sparse_hstack

from bayesinv.axes import Array, Index
from bayesinv.evidence.active import FocalCourses, FocalRecording
from bayesinv.evidence.active_modes import FocalBasis, FocalModes
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.memory import PickledByFields, cached_property
from bayesinv.posterior.active import NONE, ActiveSets
from bayesinv.posterior.conditional import Gaussian, row_blocks
from bayesinv.posterior.functionals import Courses
from bayesinv.posterior.mixture import Mixture
from bayesinv.posterior.regions import prior_of_sums, sums_of
from bayesinv.problem.problem import Problem

DROPPED = 1e-7
"""Largest relative size of what is dropped where a filter is written as a sum of products."""


@dataclass(frozen=True, eq=False)
class FocalNode(PickledByFields):
    """One draw: scales, and the active sources.

    recording : in modes of time
    weight : in the mixture
    variance, noise, error : (A m)², and in units of the noise
    patches : (amplitude, column), sparse, P
    fields : (block × component, column), A in the eigenbases
    courses : posterior of the courses
    """

    recording: FocalRecording = field(repr=False)
    weight: float
    variance: float
    noise: float
    error: float
    patches: csr_array = field(repr=False)
    fields: Array = field(repr=False)
    courses: FocalCourses = field(repr=False)

    @property
    def _prior(self) -> Array:
        """Variance of dense currents in each mode, (A m)²: (mode,)."""
        return self.variance * self.recording.powers

    @property
    def filters(self) -> Array:
        """F (component, mode)."""
        return np.asarray(self._prior / self.recording.spread(self.variance, self.noise, self.error))

    @property
    def reductions(self) -> Array:
        """What the recording removes of the dense currents' variance, in the eigenbasis: (component, mode)."""
        return self._prior * self.filters

    @property
    def filtered(self) -> Array:
        """F (y - A m) (component, mode): what the mean of the dense currents is made of."""
        return self.filters * (self.recording.coefficients - self.explained)

    @property
    def explained(self) -> Array:
        """A m (component, mode)."""
        return self.recording.explained(self.fields, self.courses.means.T)

    @cached_property
    def _factors(self) -> list[tuple[Array, Array]]:
        """Filters of each block as products, (component, product) and (product, mode): they are of one shape."""
        found = []
        for _, some in self.recording.parts:
            left, values, right = np.linalg.svd(self.filters[:, some], full_matrices=False)
            rank = max(1, int(np.sum(values > DROPPED * values[0])))
            found.append((left[:, :rank] * values[:rank], right[:rank]))
        return found

    def free(self, to_sources: Array, patches: Array) -> Array:
        """E (mode, row, column) of some rows, by `to_sources` and P of them."""
        out = np.empty((len(self.recording.powers), *patches.shape))
        for (rows, some), (left, right) in zip(self.recording.parts, self._factors, strict=True):
            products = self.fields[rows, :, None] * left[:, None]
            taken = (to_sources[:, rows] @ products.reshape(len(products), -1)).reshape(len(patches), -1, len(right))
            out[some] = (patches[:, :, None] - taken @ right).transpose(2, 0, 1)
        return out

    def unknown(self, to_sources: Array, patches: Array) -> Array:
        """Variance (row, mode) that the unknown courses of active sources bring."""
        if not patches.shape[1]:
            return np.zeros((len(patches), len(self.recording.powers)))
        free = self.free(to_sources, patches)
        return np.einsum("kpc,kpc->pk", free @ self.courses.covariances, free)

    def variances(self, weights: Array, to_sources: Array, patches: Array) -> Array:
        """Conditional variance (row, mode) of some currents, or sums of them.

        weights : (row,), their relative prior variances
        """
        dense = np.outer(weights, self._prior) - self.recording.across(to_sources**2, self.reductions)
        return np.asarray(np.maximum(dense, 0.0) + self.unknown(to_sources, patches))


@dataclass(frozen=True, eq=False)
class FocalGaussians(PickledByFields):
    """Gaussians at nodes with one structure of dense currents and one time constant of the courses.

    spectrum : of the dense currents
    nodes : the draws, at least one
    members : (node,), index of each in the mixture
    over : (mode, column of time), from modes to samples, or to weighted sums of them
    constant : s, of the courses; None where they are correlated over time as the noise is
    """

    spectrum: Spectrum
    nodes: tuple[FocalNode, ...] = field(repr=False)
    members: Index
    over: Array
    constant: float | None

    @property
    def recording(self) -> FocalRecording:
        """The recording in modes of time."""
        return self.nodes[0].recording

    # --- what the protocol asks for

    @cached_property
    def weights(self) -> Array:
        """Weights of the nodes in the mixture (node,)."""
        return np.array([node.weight for node in self.nodes])

    @property
    def varies(self) -> bool:
        """Whether uncertainty varies over time."""
        return self.over.shape[1] > 1

    by_mode = varies

    @cached_property
    def _prior_shares(self) -> Array:
        """Relative prior variance of each column of time: (column,)."""
        return np.asarray(self.recording.powers @ self.over**2)

    @property
    def prior_variance(self) -> Array:
        """Weighted prior variance (amplitude,)."""
        out = sum(node.weight * node.variance for node in self.nodes) * self.spectrum.weights
        for node in self.nodes:
            out = out + node.weight * np.asarray(node.patches.power(2).sum(axis=1)).ravel()
        return np.asarray(out * self._prior_shares.mean())

    def averaged(self, time_weights: Array) -> FocalGaussians:
        """The Gaussians of one weighted sum of the samples, by weights (time,)."""
        return replace(self, over=self.over @ time_weights[:, None])

    def add_mean(self, out: Array) -> None:
        """Add the weighted mean to (amplitude, time)."""
        dense = np.asarray(sum(node.weight * node.filtered for node in self.nodes))
        focal = sparse_hstack([node.patches for node in self.nodes]).tocsr()
        courses = np.concatenate([node.weight * node.courses.means.T for node in self.nodes]) @ self.over
        for rows in row_blocks(len(out)):
            out[rows] += self._dense(self.spectrum.to_sources(rows), dense) + focal[rows] @ courses

    def _dense(self, to_sources: Array, filtered: Array, over: Array | None = None) -> Array:
        """Dense currents (row, column of time) by filtered coefficients (component, mode)."""
        return self.recording.across(to_sources, filtered, self.over if over is None else over)

    def _mean_variance(self, rows: slice, to_sources: Array) -> Array:
        """Weighted conditional variance (row, column of time) of some amplitudes."""
        weights = self.spectrum.weights[rows]
        found = sum(n.weight * n.variances(weights, to_sources, n.patches[rows].toarray()) for n in self.nodes)
        return np.asarray(found @ self.over**2)

    def add_variance(self, out: Array) -> None:
        """Add the weighted conditional variance to (amplitude, 1 or time)."""
        for rows in row_blocks(len(out)):
            out[rows] += self._mean_variance(rows, self.spectrum.to_sources(rows))

    def second_moments(self, centred: bool) -> Callable[[slice], tuple[Array, list[Array]]]:
        """A function from rows to weighted conditional variances, and to terms of the means' spread over nodes.

        centred : whether the spread is about zero rather than about the mean of these nodes
        """
        filtered = [node.filtered for node in self.nodes]
        total = float(self.weights.sum())

        def at(rows: slice) -> tuple[Array, list[Array]]:
            to_sources = self.spectrum.to_sources(rows)
            square = np.zeros((len(to_sources), self.over.shape[1]))
            mean = np.zeros_like(square)
            for node, dense in zip(self.nodes, filtered, strict=True):
                found = self._dense(to_sources, dense) + node.patches[rows] @ (node.courses.means.T @ self.over)
                mean += node.weight * found
                square += node.weight * found**2
            return self._mean_variance(rows, to_sources), [square if centred else square - mean**2 / total]

        return at

    def add_reduction(self, out: Array) -> None:
        """Add the weighted share of the prior variance that the recording removed to (amplitude,)."""
        over = np.mean(self.over**2, axis=1)
        share = float(self.recording.powers @ over)
        for rows in row_blocks(len(out)):
            to_sources = self.spectrum.to_sources(rows)
            for node in self.nodes:
                focal = np.asarray(node.patches[rows].power(2).sum(axis=1)).ravel()
                prior = share * (node.variance * self.spectrum.weights[rows] + focal)
                left = node.variances(self.spectrum.weights[rows], to_sources, node.patches[rows].toarray()) @ over
                out[rows] += node.weight * (1 - np.divide(left, prior, out=np.ones_like(left), where=prior > 0))

    def kernel(self) -> Array:
        """Weighted mean as a linear function of one sample's recording; there is none.

        Raises
        ------
        ValueError
            Always: a sample's mean depends on all samples, through the courses and which sources are active.
        """
        raise ValueError(
            "focal currents have no kernel from one sample's recording to its currents, as which are active depends on "
            "all samples; use a model without a focal part"
        )

    def fitted(self) -> Array:
        """Whitened recording (component, time) that the weighted mean explains."""
        values, out = self.recording.values_of_modes, np.zeros(self.recording.coefficients.shape)
        for node in self.nodes:
            out += node.weight * (values * node.filtered + node.explained)
        return self.recording.across(self.spectrum.from_components, out, self.over)

    def fitted_by_foci(self) -> Array:
        """What the weighted mean of the focal sources explains of the whitened recording: (component, time)."""
        out = np.asarray(sum(node.weight * node.explained for node in self.nodes))
        return self.recording.across(self.spectrum.from_components, out, self.over)

    def gaussians(self, rows: slice | Index, samples: slice | Index, least: float) -> Iterator[Gaussian]:
        """Every node whose weight exceeds `least`, for some rows and samples."""
        to_sources, over = self.spectrum.to_sources(rows), self.over[:, samples]
        for node in self.nodes:
            if node.weight <= least:
                continue
            mean = self._dense(to_sources, node.filtered, over)
            mean += node.patches[rows] @ (node.courses.means.T @ over)
            variance = node.variances(self.spectrum.weights[rows], to_sources, node.patches[rows].toarray())
            yield node.weight, mean, np.sqrt(variance @ over**2)

    def functionals(
        self, table: Array, samples: slice, time_weights: Array | None, averaged: bool, courses: bool
    ) -> tuple[list[Array], list[Array], Courses | None]:
        """Means (functional, column) and covariances (column, functional, functional) of every node."""
        problem = self.spectrum.problem
        projected = np.zeros((len(table), self.spectrum.to_components.shape[1]))
        for rows in row_blocks(table.shape[1]):
            projected += table[:, rows] @ self.spectrum.to_sources(rows)
        prior = table @ self.spectrum.structure.product(problem, table.T)
        over = self.over[:, samples] if time_weights is None else self.over @ time_weights
        means, covariances, of_modes = [], [], []
        for node in self.nodes:
            focal = np.asarray((node.patches.T @ table.T).T)
            mean = self.recording.across(projected, node.filtered) + focal @ node.courses.means.T
            means.append(mean @ over)
            of_modes.append(self._covariance(node, projected, focal, prior))
            covariances.append(np.tensordot(over.T**2, of_modes[-1], axes=1))
        nodes = FunctionalModes(np.array(of_modes), self.over[:, samples]) if courses else None
        return means, covariances, nodes

    def _covariance(self, node: FocalNode, projected: Array, focal: Array, prior: Array) -> Array:
        """Covariance of functionals in each mode: (mode, functional, functional)."""
        out = node.variance * self.recording.powers[:, None, None] * prior
        for rows, some in self.recording.parts:
            own = projected[:, rows]
            out[some] -= np.einsum("fc,ck,gc->kfg", own, node.reductions[:, some], own, optimize=True)
        if focal.shape[1]:
            free = node.free(projected, focal)
            out += free @ node.courses.covariances @ free.swapaxes(1, 2)
        return np.asarray(out)

    def sums(self, weights: csr_array) -> tuple[Array, Array, Array]:
        """Means, variances and prior variances (amplitude, node) of sums of sources at the first sample."""
        axes, over, share = self.spectrum.problem.axes, self.over[:, :1], float(self._prior_shares[0])
        projected, prior = sums_of(weights, self.spectrum.to_sources(), axes), prior_of_sums(self.spectrum, weights)
        means, variances, priors = (np.empty((len(projected), len(self.nodes))) for _ in range(3))
        for n, node in enumerate(self.nodes):
            focal = sums_of(weights, node.patches.toarray(), axes)
            mean = self._dense(projected, node.filtered, over) + focal @ (node.courses.means.T @ over)
            means[:, n] = mean[:, 0]
            variances[:, n] = (node.variances(prior, projected, focal) @ over**2)[:, 0]
            priors[:, n] = share * (node.variance * prior + np.sum(focal**2, axis=1))
        return means, variances, priors

    def draw(self, nodes: Index, rng: np.random.Generator, samples: slice) -> Array:
        """Draws (draw, amplitude, time) of the currents at nodes, of some samples."""
        problem, structure, powers = self.spectrum.problem, self.spectrum.structure, self.recording.powers
        over = self.over[:, samples]
        out = np.empty((len(nodes), len(self.spectrum.weights), over.shape[1]))
        for i, n in enumerate(nodes):
            node = self.nodes[int(n)]
            lower = np.linalg.cholesky(node.courses.covariances)
            courses = node.courses.means + np.einsum("kcd,kd->kc", lower, rng.standard_normal(node.courses.means.shape))
            unit = rng.standard_normal((structure.sample_size(problem), len(powers)))
            dense = structure.sample(problem, unit) * np.sqrt(node.variance * powers)
            # A draw of the prior is corrected for the difference between the recording and one simulated from the draw.
            field = problem.gain @ dense
            simulated = self.recording.explained(node.fields, courses.T)
            simulated += self.recording.explained(self.spectrum.to_components.T, field)
            simulated += np.sqrt(node.noise**2 + node.error**2 * powers) * rng.standard_normal(simulated.shape)
            correction = node.filters * (self.recording.coefficients - simulated)
            drawn = dense @ over + node.patches @ (courses.T @ over)
            for rows in row_blocks(len(drawn)):
                drawn[rows] += self._dense(self.spectrum.to_sources(rows), correction, over)
            out[i] = drawn
        return out


FocalNodes = dict[int, tuple[FocalGaussians, FocalNode]]


def nodes_of(conditionals: Iterable[object]) -> FocalNodes:
    """For each node of a mixture that has focal sources, the Gaussians that it is among, and itself."""
    return {
        int(n): (gaussians, node)
        for gaussians in conditionals
        if isinstance(gaussians, FocalGaussians)
        for n, node in zip(gaussians.members, gaussians.nodes, strict=True)
    }


@dataclass(frozen=True, eq=False)
class FunctionalModes(PickledByFields):
    """Covariances of functionals in each mode of time, at some nodes.

    covariances : (node, mode, functional, functional)
    courses : (mode, time)
    """

    covariances: Array
    courses: Array

    @property
    def count(self) -> int:
        """Number of nodes."""
        return len(self.covariances)

    def covariance(self, node: int) -> Array:
        """Covariance (functional × time, functional × time) of a node's time courses."""
        found = np.einsum("kfg,kt,ks->ftgs", self.covariances[node], self.courses, self.courses, optimize=True)
        size = found.shape[0] * found.shape[1]
        return np.asarray(found.reshape(size, size))


def focal_gaussians(problem: Problem, mixture: Mixture, sets: ActiveSets) -> tuple[FocalGaussians, ...]:
    """Return the Gaussians of a mixture's nodes of models with focal sources, those of each time constant together."""
    patterns, found = sets.patterns(problem).tocsc(), []
    heads, gain_modes = np.zeros((len(sets.constant), 0)), problem.gain[:0]
    if sets.head is not None and problem.gain_modes is not None:
        heads, gain_modes = sets.head, problem.gain_modes
    for k, structure in enumerate(mixture.structures):
        mine = (mixture.which == k) & (sets.constant != NONE)
        if not mine.any():
            continue
        shown = (patterns.T @ problem.gain.T).T
        turned = [(patterns.T @ one.T).T for one in gain_modes]
        for constant in np.unique(sets.constant[mine]):
            seconds = None if np.isnan(sets.constants[constant]) else float(sets.constants[constant])
            modes = FocalModes.of(problem, seconds)
            basis = FocalBasis.of(problem, structure, [modes])
            spectrum = Spectrum(problem, structure, basis.decompositions)
            table, *varied = (spectrum.to_components.T @ one for one in (shown, *turned))
            recording = FocalRecording.of(problem, basis, modes, baseline=False)
            members = np.flatnonzero(mine & (sets.constant == constant))
            nodes = []
            for n in members:
                some = sets.at(int(n))
                own = slice(some.start * problem.axes, some.stop * problem.axes)
                strengths = np.repeat(sets.strength[some], problem.axes)
                scales = float(mixture.variance[n]), float(mixture.noise[n]), float(sets.error[n])
                fields = table[:, own]
                for coordinate, mode in zip(heads[n], varied, strict=True):
                    fields = fields + coordinate * mode[:, own]
                fields = fields * strengths
                courses = FocalCourses.at(recording, fields, recording.spread(*scales))
                patches = csr_array(patterns[:, own] * strengths[None])
                nodes.append(FocalNode(recording, float(mixture.weights[n]), *scales, patches, fields, courses))
            found.append(FocalGaussians(spectrum, tuple(nodes), members, modes.courses, seconds))
    return tuple(found)
