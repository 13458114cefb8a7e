"""Gaussians that share an eigenbasis: the nodes of one structure, each a filter of the recording's components.

For node n the posterior mean is `to_sources @ (filters[n] * coefficients)`, and where samples are independent the
posterior variance is `variance[n] * weights - to_sources² @ reductions[n]`. Where time courses are correlated both hold
for each mode of time, and the modes' time courses take them to samples. No array of sources by sources is ever formed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_array

from bayesinv.axes import Array, Index
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.memory import PickledByFields, cached_property
from bayesinv.posterior.conditional import Gaussian, row_blocks
from bayesinv.posterior.draws import draw_exactly
from bayesinv.posterior.functionals import Courses, TimeCourseNodes
from bayesinv.posterior.principal_axes import principal_axes
from bayesinv.posterior.ratios import chebyshev_ratios, gauss_ratios
from bayesinv.posterior.regions import prior_of_sums, sums_of
from bayesinv.problem.time_whitening import JITTER

MAX_STORED_GAIN = 2**21
"""Size of a gain up to which all of `to_sources` is stored."""

DROPPED_SHARE_IN_SD = 1e-8
"""`DROPPED_SHARE` of `principal_axes` for standard deviations, which are computed in single precision."""


@dataclass(frozen=True, eq=False)
class SpectralGaussians(PickledByFields):
    """The nodes that share one structure, and their filters in the eigenbasis.

    Columns are components, or those of every block of modes side by side, see `Spectrum`.

    spectrum : the structure, decomposed, and the recording in its basis
    weights, variance, noise : (node,)
    coefficients : (component, time) or (component, mode)
    summed : filters and reductions (node, column) of a weighted sum of samples; None of samples or modes
    shares : (block,), share of the variance of a weighted sum of samples that lies in each block of modes; None where
        these are samples or modes
    """

    spectrum: Spectrum
    weights: Array
    variance: Array
    noise: Array
    coefficients: Array
    summed: tuple[Array, Array] | None = None
    shares: Array | None = None

    @classmethod
    def of(cls, spectrum: Spectrum, weights: Array, variance: Array, noise: Array) -> SpectralGaussians:
        """Return the Gaussians of a structure at source variances and noise scales (node,)."""
        return cls(spectrum, weights, variance, noise, spectrum.coefficients)

    @property
    def by_mode(self) -> bool:
        """Whether filters differ between modes of time."""
        return self.summed is None and self.spectrum.structure.correlated

    @property
    def varies(self) -> bool:
        """Whether uncertainty varies over time: by its filters, or because the currents' prior does."""
        return self.by_mode or len(self.prior_share) > 1

    @cached_property
    def filters(self) -> Array:
        """Filters of the mean: (node, component) or (node, component, mode)."""
        return self.filters_at(self.ratios) if self.summed is None else self.summed[0]

    @cached_property
    def reductions(self) -> Array:
        """Filters of the variance (node, component), where they do not vary between modes; see `_pair`."""
        if self.summed is not None:
            return self.summed[1]
        return self.filters * self.variance[:, None]

    @property
    def _powers(self) -> Array | float:
        """Variance of currents of unit variance in each mode (mode,); 1 where samples are independent."""
        return 1.0 if self.spectrum.modes is None else self.spectrum.modes.powers

    def filters_at(self, ratios: Array) -> Array:
        """Filters at ratios of the sources' variance to the noise's, (ratio,), which alone they depend on."""
        if not self.by_mode:
            return np.asarray(ratios[:, None] / (ratios[:, None] * self.spectrum.values + 1))
        total = self.spectrum.values_of_modes * self._powers + 1 / ratios[:, None, None]
        return np.divide(self._powers, total, out=total)

    def _pair(self, nodes: Index) -> tuple[Array, Array]:
        """Filters of mean and variance (node, component, [mode]) of some nodes, anew where modes have their own."""
        if not self.by_mode:
            return self.filters[nodes], self.reductions[nodes]
        filters = self.filters_at(self.ratios[nodes])
        return filters, filters * (self.variance[nodes, None, None] * self._powers)

    @property
    def _spanning(self) -> tuple[Array | None, Iterable[tuple[Array, Array]]]:
        """Weights (node, part) and a few filters of mean and variance (per unit) that span those of the nodes.

        Where filters do not vary, no weights and those of the nodes themselves.
        """
        if not self.by_mode:
            return None, zip(self.filters, self.reductions, strict=True)
        weights, ratios = chebyshev_ratios(self.ratios)
        filters = (self.filters_at(ratio)[0] for ratio in ratios[:, None])
        return weights, ((one, one * self._powers) for one in filters)

    def _of_nodes(
        self, weights: Array | None, means: list[Array], reductions: list[Array]
    ) -> tuple[list[Array], list[Array]]:
        """What is linear in filters of mean and variance, of every node, from that of those which span them."""
        if weights is None:
            return means, reductions
        of_variance = np.tensordot(self.variance[:, None] * weights, np.stack(reductions), axes=1)
        return list(np.tensordot(weights, np.stack(means), axes=1)), list(of_variance)

    @property
    def ratios(self) -> Array:
        """Variance of the currents over that of the noise (node,), on which alone filters depend."""
        return self.variance / self.noise**2

    def rule(self, mass: Array) -> tuple[Array, Array]:
        """Weights (point,) and ratios (point,) that integrate filters as the nodes do with some mass (node,)."""
        return gauss_ratios(self.ratios, mass)

    def averaged(self, time_weights: Array) -> SpectralGaussians:
        """The Gaussians of one weighted sum of the samples.

        time_weights : (time,)
        """
        column = time_weights[:, None]
        if not self.by_mode:
            share = float(self._prior_share(column)[0])
            return replace(
                self,
                variance=self.variance * share,
                summed=(self.filters, self.reductions * share),
                coefficients=self.coefficients @ column,
            )
        filters, reductions = [], []
        weights, spanning = self._spanning
        for one, reduction in spanning:
            filters.append(self.filtered(one, column)[:, 0])
            reductions.append(self.reduced(reduction, column)[:, 0])
        filters, reductions = self._of_nodes(weights, filters, reductions)
        each = self._mode_shares(column)[:, 0]
        return replace(
            self,
            variance=self.variance * each.sum(),
            summed=(np.stack(filters), np.stack(reductions)),
            coefficients=np.ones((len(filters[0]), 1)),
            shares=np.array([each[block].sum() for block in self.spectrum.blocks]) / each.sum(),
        )

    # --- from coefficients to currents

    def to_sources(self, rows: slice | Index = slice(None)) -> Array:
        """D Gᵀ U of some amplitudes (amplitude, column); stored where it is small or not available by rows."""
        return self.spectrum.to_sources(rows) if self._by_rows else self._all_rows[rows]

    @property
    def _by_rows(self) -> bool:
        """Whether `to_sources` is large, or one of many, and can be computed by rows."""
        structure = self.spectrum.structure
        # Weights that a chain has drawn have one node, and hundreds of others beside them.
        one_of_many = structure.weights is not None and len(self.weights) == 1
        return structure.diagonal_only and (one_of_many or self.spectrum.problem.gain.size > MAX_STORED_GAIN)

    @cached_property
    def _all_rows(self) -> Array:
        return self.spectrum.to_sources()

    # --- filters

    @cached_property
    def total(self) -> float:
        """Sum of the weights."""
        return float(self.weights.sum())

    @cached_property
    def mean_filter(self) -> Array:
        """Mean filter (component, [mode])."""
        if not self.by_mode:
            return np.tensordot(self.weights, self.filters, axes=1) / self.total
        shares, ratios = self.rule(self.weights)
        return np.tensordot(shares, self.filters_at(ratios), axes=1) / self.total

    @cached_property
    def mean_reduction(self) -> Array:
        """Weighted reductions, summed over the nodes: (component, [mode])."""
        if not self.by_mode:
            return np.tensordot(self.weights, self.reductions, axes=1)
        shares, ratios = self.rule(self.weights * self.variance)
        return np.asarray(np.tensordot(shares, self.filters_at(ratios), axes=1) * self._powers)

    @property
    def _power(self) -> Array:
        """Power of the coefficients that share a filter: (component, [mode])."""
        return self.coefficients**2 if self.by_mode else np.einsum("ct,ct->c", self.coefficients, self.coefficients)

    @cached_property
    def units(self) -> Array:
        """Root of the currents' power per unit of a filter: (component, [mode])."""
        power = self._power
        if self.summed is not None and self.summed[0].shape[1] != len(self.spectrum.values):
            return np.sqrt(power * np.concatenate([one.values for one in self.spectrum.decompositions]))
        return np.sqrt(power * (self.spectrum.values_of_modes if self.by_mode else self.spectrum.values))

    @cached_property
    def directions(self) -> tuple[Array, Array]:
        """Scores (node, direction) and directions (direction, component, [mode]) of the filters about their mean.

        They are principal axes in units of a component's power in the currents, so that dropped directions are small
        in the currents and not only in the filters. Their scores are orthonormal under the weights.
        """
        if not self.by_mode:
            return principal_axes(self.weights, self.filters - self.mean_filter, self.units)
        # Filters of many nodes lie in the space of those at a few ratios.
        table, ratios = chebyshev_ratios(self.ratios)
        root = np.sqrt(self.weights)[:, None]
        basis, few = np.linalg.qr(root * table)
        centred = np.tensordot(few, self.filters_at(ratios) - self.mean_filter, axes=1)
        scores, axes = principal_axes(np.ones(len(few)), centred, self.units)
        return basis @ scores / root, axes

    def filtered(self, filters: Array, time_weights: Array | None) -> Array:
        """Filtered coefficients (column, sample) of samples, or of weighted sums of them.

        filters : (component, [mode])
        time_weights : (time, sum); None for all samples
        """
        if self.by_mode:
            return self.spectrum.stacked(filters * self.coefficients, self._time_courses(time_weights))
        found = filters[:, None] * self.coefficients
        return found if time_weights is None else found @ time_weights

    def _time_courses(self, time_weights: Array | None) -> Array:
        """Time courses of the modes (mode, time), or weighted sums of them (mode, sum)."""
        assert self.spectrum.modes is not None
        courses = self.spectrum.modes.from_modes.T
        return courses if time_weights is None else courses @ time_weights

    def _squares(self, time_weights: Array) -> Array:
        """Variance (mode, sum) of weighted sums of the samples (time, sum) by the modes, per their own."""
        return self._time_courses(time_weights) ** 2

    def _prior_share(self, time_weights: Array | None) -> Array:
        """Relative prior variance (sample,) of samples or of weighted sums of them; (1,) where all are alike."""
        if time_weights is None:
            return self.prior_share
        if self.spectrum.structure.correlated:
            return np.asarray(self._mode_shares(time_weights).sum(axis=0))
        root = self.spectrum.structure.time_root(self.spectrum.problem)
        return np.sum((time_weights if root is None else root.T @ time_weights) ** 2, axis=0)

    @property
    def prior_share(self) -> Array:
        """Relative prior variance (time,) of the samples; (1,) where all are alike."""
        return np.ones(1) if self.summed is not None else self.spectrum.structure.time_variances(self.spectrum.problem)

    def _mode_shares(self, time_weights: Array) -> Array:
        """Relative prior variance (mode, sum) that each mode has in weighted sums of the samples."""
        return np.asarray(np.reshape(self._powers, (-1, 1)) * self._squares(time_weights))

    def reduced(self, reductions: Array, time_weights: Array | None = None) -> Array:
        """Reductions (..., column, sample) of samples or of weighted sums of them; one sample if all are alike."""
        if not self.by_mode:
            return reductions[..., None] * self._prior_share(time_weights)
        squares = self._time_courses(None) ** 2 if time_weights is None else self._squares(time_weights)
        return self.spectrum.stacked(reductions, squares)

    def _reduced_at(self, samples: slice | Index) -> Callable[[int], Array]:
        """A function from a node to its reductions (column, sample) of some samples."""
        squares = self._time_courses(None)[:, samples] ** 2
        return lambda n: self.spectrum.stacked(self._pair(np.array([n]))[1][0], squares)

    # --- moments

    def add_mean(self, out: Array) -> None:
        """Add the weighted mean to (amplitude, time)."""
        wanted = self.filtered(self.total * self.mean_filter, None)
        if not self._by_rows:
            for rows in row_blocks(len(out)):
                out[rows] += self.to_sources(rows) @ wanted
            return
        # D Gᵀ U is as large as the gain, so the filtered coefficients are multiplied by the gain itself.
        wanted = self.spectrum.to_components @ wanted
        weights = self.spectrum.weights if self.spectrum.structure.weighted else None
        for rows in row_blocks(len(out)):
            found = self.spectrum.problem.gain[:, rows].T @ wanted
            out[rows] += found if weights is None else weights[rows, None] * found

    def variance_of(self) -> Callable[[slice, Array], Array]:
        """A function from rows, and `to_sources` of them, to their mean conditional variance (row, 1 or time)."""
        prior = (self.weights @ self.variance) * self.spectrum.weights[:, None]
        if not self.by_mode:
            reduction = self.mean_reduction[:, None]
            return lambda rows, to_sources: (prior[rows] - to_sources**2 @ reduction) * self.prior_share
        reduced = self.reduced(self.mean_reduction, None)
        return lambda rows, to_sources: prior[rows] * self.prior_share - to_sources**2 @ reduced

    def add_variance(self, out: Array) -> None:
        """Add the weighted conditional variance to (amplitude, 1 or time)."""
        variance = self.variance_of()
        for rows in row_blocks(len(out)):
            out[rows] += variance(rows, self.to_sources(rows))

    @property
    def prior_variance(self) -> Array:
        """Weighted prior variance (amplitude,)."""
        return np.asarray((self.weights @ self.variance) * self.prior_share.mean() * self.spectrum.weights)

    def second_moments(self, centred: bool) -> Callable[[slice], tuple[Array, list[Array]]]:
        """A function from rows to weighted conditional variances, and to terms of the means' spread over nodes.

        centred : whether the spread is about zero rather than about the mean of these nodes, as it must be where
            several structures are mixed

        The variance between hyperparameters is added to that within them, so that single precision is enough.
        """
        axes = self.directions[1]
        if len(axes):
            power = np.cumsum(np.sum(((axes * self.units) ** 2).reshape(len(axes), -1), axis=1))
            axes = axes[power > DROPPED_SHARE_IN_SD * power[-1]]
        centre = self.filtered(self.mean_filter, None) if centred else None
        parts = [self.filtered(axis, None).astype(np.float32) for axis in axes]
        variance = self.variance_of()

        def at(rows: slice) -> tuple[Array, list[Array]]:
            to_sources = self.to_sources(rows)
            single_precision = to_sources.astype(np.float32)
            between = []
            for part in parts:
                found = single_precision @ part
                between.append(np.square(found, out=found))
            if centre is not None:
                between.append(self.total * (to_sources @ centre) ** 2)
            return variance(rows, to_sources), between

        return at

    def add_reduction(self, out: Array) -> None:
        """Add the weighted share of the prior variance that the recording removed to (amplitude,)."""
        if self.by_mode:
            share = self.reduced(self.total * self.mean_filter * self._powers, None)
            share = (share / self.prior_share).mean(axis=1)
        else:
            share = np.tensordot(self.weights / self.variance, self.reductions, axes=1)
        prior = self.spectrum.weights
        for rows in row_blocks(len(out)):
            removed = self.to_sources(rows) ** 2 @ share
            out[rows] += np.divide(removed, prior[rows], out=np.zeros_like(removed), where=prior[rows] > 0)

    def kernel(self) -> Array:
        """Weighted mean as a linear function of the whitened recording (amplitude, component)."""
        return np.asarray((self.to_sources() * (self.total * self.mean_filter)) @ self.spectrum.to_components.T)

    def fitted(self) -> Array:
        """Whitened recording (component, time) that the weighted mean explains."""
        return self.spectrum.explained @ self.filtered(self.total * self.mean_filter, None)

    # --- single nodes

    def gaussians(self, rows: slice | Index, samples: slice | Index, least: float) -> Iterator[Gaussian]:
        """Weight, mean (row, time) and sd (row, 1 or time) of every node whose weight exceeds `least`."""
        to_sources = self.to_sources(rows)
        scores, directions = self.directions
        centre = to_sources @ self.filtered(self.mean_filter, None)[:, samples]
        parts = [to_sources @ self.filtered(direction, None)[:, samples] for direction in directions]
        variance_at = self._variance_at(rows, to_sources**2, samples)
        for n in np.flatnonzero(self.weights > least):
            mean = centre.copy()
            for score, part in zip(scores[n], parts, strict=True):
                mean += score * part
            yield float(self.weights[n]), mean, np.sqrt(np.maximum(variance_at(int(n)), 0.0))

    def _variance_at(self, rows: slice | Index, square: Array, samples: slice | Index) -> Callable[[int], Array]:
        """A function from a node to its variance (row, 1 or time), given the squares of `to_sources`."""
        prior, share = self.spectrum.weights[rows, None], self._share_of(samples)
        if not self.by_mode:
            return lambda n: (self.variance[n] * prior - square @ self.reductions[n][:, None]) * share
        reduced_at, prior = self._reduced_at(samples), prior * share
        return lambda n: self.variance[n] * prior - square @ reduced_at(n)

    def _share_of(self, samples: slice | Index) -> Array:
        """Relative prior variance (time,) of some samples; (1,) where all are alike."""
        return self.prior_share[samples] if len(self.prior_share) > 1 else self.prior_share

    def functionals(
        self, table: Array, samples: slice, time_weights: Array | None, averaged: bool, courses: bool
    ) -> tuple[list[Array], list[Array], Courses | None]:
        """Means (functional, column) and covariances (1 or column, functional, functional) of every node.

        table : (functional, amplitude)
        samples : of the functionals
        time_weights : (time, column), weighted sums of samples to take in place of the samples themselves
        averaged : whether these are sums over several samples
        courses : whether to return the terms of the covariance of the nodes' time courses too
        """
        projected = np.sum([table[:, rows] @ self.to_sources(rows) for rows in row_blocks(table.shape[1])], axis=0)
        prior = table @ self.spectrum.structure.product(self.spectrum.problem, table.T)
        share = self._share_of(samples) if time_weights is None else self._prior_share(time_weights)
        means, reductions = [], []
        weights, spanning = self._spanning
        for one, reduction in spanning:
            found = self.filtered(one, time_weights)
            means.append(projected @ (found if time_weights is not None else found[:, samples]))
            reduced = self.reduced(reduction, time_weights)
            reduced = reduced[:, samples] if time_weights is None and self.varies else reduced
            reductions.append(np.einsum("fc,ct,gc->tfg", projected, reduced, projected))
        means, reductions = self._of_nodes(weights, means, reductions)
        covariances = [
            variance * share[:, None, None] * prior - one
            for variance, one in zip(self.variance, reductions, strict=True)
        ]
        return means, covariances, self._course_nodes(projected, prior, samples) if courses else None

    def _course_nodes(self, projected: Array, prior: Array, samples: slice) -> Courses:
        """The terms of the covariance of functionals' time courses; see `TimeCourseNodes`."""
        count, modes = len(self.spectrum.problem.times), self.spectrum.modes
        if modes is None:
            root = self.spectrum.structure.time_root(self.spectrum.problem)
            powers, from_modes = np.ones(count), np.eye(count) if root is None else root
        else:
            powers, from_modes = modes.powers, modes.from_modes
        return TimeCourseNodes(
            self.variance,
            self.ratios,
            self.spectrum.values_of_modes,
            projected,
            prior,
            powers,
            from_modes[samples],
            self.spectrum.blocks,
        )

    def sums(self, weights: csr_array) -> tuple[Array, Array, Array]:
        """Means, variances and prior variances (amplitude, node) of weighted sums of sources, at the first sample.

        weights : (sum, source); an axis is summed with itself
        """
        projected = sums_of(weights, self.to_sources(), self.spectrum.problem.axes)
        prior = np.outer(prior_of_sums(self.spectrum, weights), self.variance)
        filters, reductions = self.filters * self.coefficients[:, 0], self.reductions
        table = chebyshev_ratios(self.ratios)[0]
        if table.shape[1] == len(table):
            return projected @ filters.T, prior - projected**2 @ reductions.T, prior
        of_parts = np.linalg.pinv(table)
        means = (projected @ (of_parts @ filters).T) @ table.T
        reduction = (projected**2 @ (of_parts @ (reductions / self.variance[:, None])).T) @ table.T
        return means, prior - reduction * self.variance, prior

    def draw(self, nodes: Index, rng: np.random.Generator, samples: slice) -> Array:
        """Draws (draw, amplitude, time) of the currents at nodes, of some samples."""
        if self.shares is not None and len(self.shares) > 1:
            return np.sum([one.draw(nodes, rng, samples) for one in self._by_block()], axis=0)
        return draw_exactly(
            self.spectrum,
            self.variance[nodes],
            *self._pair(nodes),
            self.coefficients if self.by_mode else self.coefficients[:, samples],
            self.to_sources,
            rng,
            None if self.by_mode else self._sample_root(samples),
            samples,
        )

    def _by_block(self) -> Iterator[SpectralGaussians]:
        """The independent parts of a weighted sum of samples, one for each block of modes."""
        assert self.shares is not None
        count = len(self.shares)
        for one, share, filters, reductions in zip(
            self.spectrum.decompositions,
            self.shares,
            np.split(self.filters, count, axis=1),
            np.split(self.reductions, count, axis=1),
            strict=True,
        ):
            yield replace(
                self,
                spectrum=replace(self.spectrum, decompositions=(one,)),
                variance=self.variance * share,
                summed=(filters, reductions),
                coefficients=np.ones((filters.shape[1], 1)),
                shares=None,
            )

    def _sample_root(self, samples: slice) -> Array | None:
        """Root of the currents' correlation over some samples, where all have one posterior variance; None for 1."""
        root = self.spectrum.structure.time_root(self.spectrum.problem)
        if root is None or self.coefficients.shape[1] != len(root):
            return None
        some = root[samples]
        return np.asarray(np.linalg.cholesky(some @ some.T + JITTER * np.eye(len(some))))
