"""Conditional: the protocol of a set of exact Gaussians in the mixture, independent of the algebra behind it.

A posterior is a sum over such sets, each the nodes of one structure. Files that answer a question use this protocol
alone, so that another algebra (a few sources above a common background, say) is one more class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy.sparse import csr_array

from bayesinv.axes import Array, Index

if TYPE_CHECKING:
    from bayesinv.posterior.functionals import Courses

BLOCK_SIZE = 512
"""Number of amplitudes that are computed at once."""

Gaussian = tuple[float, Array, Array]
"""Weight, mean (row, time) and standard deviation (row, 1 or time) of one node."""


class Moments(Protocol):
    """What a part of a mixture adds to its moments."""

    @property
    def varies(self) -> bool:
        """Whether uncertainty varies over time."""

    def add_mean(self, out: Array) -> None:
        """Add the weighted mean to (amplitude, time)."""

    def add_variance(self, out: Array) -> None:
        """Add the weighted conditional variance to (amplitude, 1 or time)."""

    def second_moments(self, centred: bool) -> Callable[[slice], tuple[Array, list[Array]]]:
        """A function from rows to weighted conditional variances, and to terms of the means' spread over nodes.

        centred : whether the spread is about zero, as it must be where several structures are mixed
        """


class Conditional(Moments, Protocol):
    """Gaussians of the currents at nodes of the hyperparameters that share one structure of the prior."""

    @property
    def weights(self) -> Array:
        """Weights of the nodes in the mixture (node,)."""

    @property
    def by_mode(self) -> bool:
        """Whether all samples are drawn together, as modes of time."""

    @property
    def prior_variance(self) -> Array:
        """Weighted prior variance (amplitude,), mean over time."""

    def averaged(self, time_weights: Array) -> Conditional:
        """The Gaussians of one weighted sum of the samples, by weights (time,)."""

    def add_reduction(self, out: Array) -> None:
        """Add the weighted share of the prior variance that the recording removed to (amplitude,)."""

    def kernel(self) -> Array:
        """Weighted mean as a linear function of the whitened recording (amplitude, component)."""

    def fitted(self) -> Array:
        """Whitened recording (component, time) that the weighted mean explains."""

    def gaussians(self, rows: slice | Index, samples: slice | Index, least: float) -> Iterator[Gaussian]:
        """Every node whose weight exceeds `least`, for some rows and samples."""

    def functionals(
        self, table: Array, samples: slice, time_weights: Array | None, averaged: bool, courses: bool
    ) -> tuple[list[Array], list[Array], Courses | None]:
        """Means and covariances of linear functionals (functional, amplitude) at every node."""

    def sums(self, weights: csr_array) -> tuple[Array, Array, Array]:
        """Means, variances and prior variances (amplitude, node) of sums of sources at the first sample."""

    def draw(self, nodes: Index, rng: np.random.Generator, samples: slice) -> Array:
        """Draws (draw, amplitude, time) of the currents at nodes, of some samples."""


def row_blocks(count: int) -> Iterator[slice]:
    """Yield slices of `BLOCK_SIZE` amplitudes that together cover all of them."""
    for start in range(0, count, BLOCK_SIZE):
        yield slice(start, min(start + BLOCK_SIZE, count))
