"""Exact joint posterior of linear functionals of the currents: regions, contrasts, sums over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from bayesinv.arguments import Randomness, count_of, generator_of
from bayesinv.axes import Array, real
from bayesinv.memory import PickledByFields, cached_property
from bayesinv.posterior.conditional import Conditional
from bayesinv.posterior.draws import MAX_GIGABYTES
from bayesinv.posterior.quantiles import mixture_quantiles, tail_probabilities
from bayesinv.problem.problem import Problem
from bayesinv.problem.windows import Window, is_time, samples_of
from bayesinv.wording import listed


class Courses(Protocol):
    """Time courses of functionals at some nodes, where samples are not independent."""

    @property
    def count(self) -> int:
        """Number of nodes."""

    def covariance(self, node: int) -> Array:
        """Covariance (functional × time, functional × time) of a node's time courses."""


@dataclass(frozen=True, eq=False)
class TimeCourseNodes:
    """Nodes of one structure, and the terms of the covariance of functionals' time courses.

    variance, ratios : (node,), of the sources, and over that of the noise
    values : (component, mode or 1), eigenvalues of the Gram matrix
    projected : (functional, component); prior : (functional, functional), their relative prior covariance
    powers : (mode,); courses : (time, mode), independent modes of time
    blocks : the modes of each block of columns, see `Spectrum`
    """

    variance: Array
    ratios: Array
    values: Array
    projected: Array
    prior: Array
    powers: Array
    courses: Array
    blocks: tuple[slice, ...]

    @property
    def count(self) -> int:
        """Number of nodes."""
        return len(self.variance)

    def covariance(self, node: int) -> Array:
        """Covariance (functional × time, functional × time) of a node's time courses."""
        reduced = self.variance[node] * self.powers**2 / (self.values * self.powers + 1 / self.ratios[node])
        out = self.variance[node] * np.kron(self.prior, (self.courses * self.powers) @ self.courses.T)
        for block, projected in zip(self.blocks, np.split(self.projected, len(self.blocks), axis=1), strict=True):
            courses = self.courses[:, block]
            reduction = np.einsum(
                "fc,cu,gc,tu,su->ftgs", projected, reduced[:, block], projected, courses, courses, optimize=True
            )
            out -= reduction.reshape(out.shape)
        return np.asarray(out)


@dataclass(frozen=True, eq=False)
class Functional(PickledByFields):
    """Joint posterior of linear functionals of the currents: a mixture of Gaussians.

    names : one per functional
    times : (time,), s
    weights : (node,)
    means : (node, functional, time)
    covariances : (node, time or 1, functional, functional); one where it is the same at every time
    courses : where samples are not independent given the hyperparameters, the terms of the covariance of the nodes'
        time courses, in the order of the nodes
    notes : what the names do not say of themselves, in words
    """

    names: tuple[str, ...]
    times: Array
    weights: Array
    means: Array
    covariances: Array
    courses: tuple[Courses, ...] = ()
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<Functional: {listed(self.names, 3)} | {len(self.times)} samples | {len(self.weights)} nodes>"

    @classmethod
    def of(
        cls,
        conditionals: Sequence[Conditional],
        problem: Problem,
        times: Array,
        weights: ArrayLike,
        window: Window = None,
        names: Sequence[str] | None = None,
    ) -> Functional:
        """Project the Gaussians of a mixture; see `Posterior.contrast`.

        times : (time,), s, of the samples that the Gaussians have
        """
        table, labels = _checked(problem, weights, names)
        samples = samples_of(times, window)
        averaged = window is not None and not is_time(window)
        varies = any(one.varies for one in conditionals)
        time_weights = None
        if averaged:
            inside = np.zeros(len(times))
            inside[samples] = 1
            time_weights = (inside / inside.sum())[:, None]
        count = sum(len(one.weights) for one in conditionals)
        columns = 1 if averaged else len(times[samples])
        # Where uncertainty does not vary over time, one covariance is for all samples.
        size = count * 8e-9 * (columns * len(table) + (columns if varies else 1) * len(table) ** 2)
        if size > MAX_GIGABYTES:
            raise ValueError(
                f"the joint posterior of {len(table)} functionals at {columns} samples takes {size:.0f} GB; ask for "
                "fewer at once, for a shorter window, or for the mean over one"
            )
        means, covariances, courses = [], [], []
        correlated = (varies or problem.time_whitening is not None) and columns > 1
        for one in conditionals:
            node_means, joint, nodes = one.functionals(table, samples, time_weights, averaged, correlated)
            means += node_means
            covariances += joint
            courses += [] if nodes is None else [nodes]
        # Of some structures it may be the same at every time, of others not.
        most = max(len(one) for one in covariances)
        covariances = [np.broadcast_to(one, (most, *one.shape[1:])) for one in covariances]
        return cls(
            labels,
            np.array([times[samples].mean()]) if averaged else times[samples],
            np.concatenate([one.weights for one in conditionals]),
            np.array(means),
            np.array(covariances),
            tuple(courses),
        )

    @cached_property
    def mean(self) -> Array:
        """Posterior mean, in the unit of the functional: (functional, time)."""
        return np.einsum("n,nft->ft", self.weights, self.means)

    @cached_property
    def covariance(self) -> Array:
        """Joint covariance at each time, within plus between hyperparameters: (time, functional, functional)."""
        centred = self.means - self.mean
        between = np.einsum("n,nft,ngt->tfg", self.weights, centred, centred)
        return np.asarray(np.tensordot(self.weights, self.covariances, axes=1) + between)

    @property
    def sd(self) -> Array:
        """Posterior standard deviation: (functional, time)."""
        return np.sqrt(np.einsum("tff->ft", self.covariance))

    @cached_property
    def node_sds(self) -> Array:
        """Standard deviation at every node: (node, functional, time or 1)."""
        return np.sqrt(np.maximum(np.einsum("ntff->nft", self.covariances), 0.0))

    def interval(self, level: float = 0.9) -> tuple[Array, Array]:
        """Central credible interval, lower and upper: (functional, time)."""
        low, high = mixture_quantiles(self.weights, self.means, self.node_sds, tail_probabilities(level))
        return low, high

    def exceedance(self, threshold: float = 0.0) -> Array:
        """P(functional > threshold): (functional, time)."""
        return np.einsum("n,nft->ft", self.weights, ndtr((self.means - threshold) / self.node_sds))

    def course_covariance(self, node: int) -> Array:
        """Covariance (functional × time, functional × time) of a node's time courses, where samples depend."""
        for part in self.courses:
            if node < part.count:
                return part.covariance(node)
            node -= part.count
        raise IndexError(f"there is no such node among {len(self.weights)}, or samples are independent")

    def draw(self, count: int, rng: Randomness) -> Array:
        """Joint draws (draw, functional, time)."""
        count, rng = count_of("count", count), generator_of(rng)
        picks = rng.choice(len(self.weights), size=count, p=self.weights / self.weights.sum())
        out = self.means[picks].copy()
        shape = (len(self.names), len(self.times))
        for node in np.unique(picks):
            members = picks == node
            unit = rng.standard_normal((int(members.sum()), *shape))
            covariance = self.course_covariance(int(node)) if self.courses else self.covariances[node, 0]
            values, vectors = np.linalg.eigh(covariance)
            root = vectors * np.sqrt(np.maximum(values, 0.0))
            if self.courses:
                out[members] += (unit.reshape(len(unit), -1) @ root.T).reshape(unit.shape)
            else:
                out[members] += np.einsum("fg,dgt->dft", root, unit)
        return out


def _checked(problem: Problem, weights: ArrayLike, names: Sequence[str] | None) -> tuple[Array, tuple[str, ...]]:
    """Weights as a table (functional, amplitude), and a name for each.

    Raises
    ------
    ValueError
        If the weights do not fit the sources or are all zero, or the names do not fit them.
    """
    table = np.asarray(weights, dtype=np.float64)
    shape = (problem.source_count,) if problem.axes == 1 else (problem.source_count, problem.axes)
    table = table[None] if table.shape == shape else table
    if table.shape[1:] != shape:
        raise ValueError(f"weights has shape {table.shape}, but a functional of these currents has shape {shape}")
    table = real("weights", table.reshape(len(table), -1), "functional amplitude")
    if not table.any(axis=1).all():
        raise ValueError("a functional has only zero weights; it would be 0 whatever the currents")
    labels = tuple(names) if names is not None else tuple(f"functional {i}" for i in range(len(table)))
    if len(labels) != len(table):
        raise ValueError(f"names has functional = {len(labels)}, but weights has functional = {len(table)}")
    return table, labels
