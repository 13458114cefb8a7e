"""Resolution of a linear estimator: point-spread functions, cross-talk functions and their metrics.

    R = K G,   estimate = R current + K noise

Columns of R are point-spread functions, rows cross-talk functions. They are computed for the sources asked for; R
itself has as many elements as sources squared, and its metrics are computed without forming it.

For a posterior R is averaged over the hyperparameters, and its diagonal is the posterior's shrinkage: how much of a
source's prior variance the recording removes.

References: Molins et al. (2008), NeuroImage 42, 1069-1077; Hauk, Stenroos & Treder (2022), NeuroImage 255, 119177.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from bayesinv.axes import Array, one_of
from bayesinv.classical.estimate import Estimate
from bayesinv.classical.minimum_norm import tikhonov
from bayesinv.classical.resolution_metrics import DISTANCES, Metrics, radius_of
from bayesinv.classical.surface_axes import SurfaceProblem, normals_of, sources_of
from bayesinv.geometry.geodesic import Geodesic
from bayesinv.posterior.posterior import Posterior
from bayesinv.problem.problem import Problem

FUNCTIONS = ("ctf", "psf")

MAX_GIGABYTES = 4.0
"""Memory that a dense resolution matrix may take by default, GB."""

BLOCK_ELEMENTS = 2**20
"""Elements of the resolution matrix that are computed at once; they stay in the processor's cache."""


@dataclass(frozen=True, eq=False)
class Resolution:
    """Resolution matrix R = K G of a linear estimator, on demand.

    problem : the problem that the estimator inverts
    name : of the estimator
    kernel : (row, component), K; a row per number that the estimator returns
    gain : (component, column), of the currents that are spread
    rows, columns : numbers per source of K and of the currents: 1, or 3 with free orientation
    """

    problem: Problem = field(repr=False)
    name: str
    kernel: Array = field(repr=False)
    gain: Array = field(repr=False)
    rows: int
    columns: int

    @property
    def source_count(self) -> int:
        """Number of sources."""
        return self.problem.source_count

    def _at(self, source: int, width: int) -> slice:
        index = int(sources_of(source, self.source_count)[0])
        return slice(index * width, (index + 1) * width)

    def psf(self, source: int) -> Array:
        """Point-spread function: the estimate of a unit current in one source.

        (source,); with free orientation (source, [row,] [column]), the columns being the directions of the current.

        Raises
        ------
        ValueError
            If there is no such source.
        """
        table = self.kernel @ self.gain[:, self._at(source, self.columns)]
        shape = (
            self.source_count,
            *([self.rows] if self.rows > 1 else []),
            *([self.columns] if self.columns > 1 else []),
        )
        return table.reshape(shape)

    def ctf(self, source: int) -> Array:
        """Cross-talk function: what a unit current in every source contributes to the estimate at this one.

        (source,); with free orientation ([row,] source, [column]), the columns being the directions of the currents.

        Raises
        ------
        ValueError
            If there is no such source.
        """
        table = self.kernel[self._at(source, self.rows)] @ self.gain
        shape = (
            *([self.rows] if self.rows > 1 else []),
            self.source_count,
            *([self.columns] if self.columns > 1 else []),
        )
        return table.reshape(shape)

    def matrix(self, largest: float = MAX_GIGABYTES) -> Array:
        """The full resolution matrix (row, column).

        largest : gigabytes that it may take

        Raises
        ------
        ValueError
            If it takes more.
        """
        size = len(self.kernel) * self.gain.shape[1] * 8 / 1e9
        if size > largest:
            raise ValueError(
                f"the resolution matrix takes {size:.3g} GB ({len(self.kernel)} x {self.gain.shape[1]}), more than "
                f"{largest:g} GB; use psf(i), ctf(i) or metrics(), or allow it with matrix(largest={np.ceil(size):.0f})"
            )
        return self.kernel @ self.gain

    @cached_property
    def diagonal(self) -> Array:
        """Diagonal of the resolution matrix: (source,), (source, axis) with free orientation.

        For a posterior it is the shrinkage.

        Raises
        ------
        ValueError
            If rows and columns of a source differ in number.
        """
        if self.rows != self.columns:
            raise ValueError(f"a source has {self.rows} rows and {self.columns} columns, so there is no diagonal")
        flat = np.einsum("rc,cr->r", self.kernel, self.gain)
        return flat if self.rows == 1 else flat.reshape(-1, self.rows)

    def magnitudes(self, function: str = "psf", sources: ArrayLike | None = None) -> Array:
        """Magnitude of the functions of some sources: (function, source), root of the sum over directions.

        Raises
        ------
        ValueError
            If there is no such function or source.
        """
        one_of("function", function, FUNCTIONS)
        index = np.arange(self.source_count) if sources is None else sources_of(sources, self.source_count)
        own_width, other_width = (self.columns, self.rows) if function == "psf" else (self.rows, self.columns)
        own, other = (self.gain.T, self.kernel.T) if function == "psf" else (self.kernel, self.gain)
        count = own.shape[1]
        picked = own[index] if own_width == 1 else own.reshape(-1, own_width, count)[index].reshape(-1, count)
        table = picked @ other
        if own_width == other_width == 1:
            return np.abs(table, out=table)
        table *= table
        return np.asarray(np.sqrt(table.reshape(len(index), own_width, -1, other_width).sum(axis=(1, 3))))

    def metrics(self, function: str = "psf", distance: str = "euclidean", threshold: float = 0.5) -> Metrics:
        """Metrics of the point-spread or cross-talk functions of all sources, in metres.

        function : "psf" or "ctf"
        distance : "euclidean", or "geodesic" along the cortex (needs `pygeodesic` or `potpourri3d`). Geodesic
            distances do not leave a hemisphere: a peak on the other one is infinitely far, deviation and radius
            count the source's own hemisphere, and the centre of mass is the source there that lies nearest to it
        threshold : share of the largest magnitude beyond which a source counts for the radius

        Raises
        ------
        ValueError
            If positions (or, for geodesic distances, the mesh) are not known, there is no such function or distance,
            or the threshold lies outside (0, 1).
        """
        one_of("function", function, FUNCTIONS)
        one_of("distance", distance, DISTANCES)
        if not 0 < threshold < 1:
            raise ValueError(f"threshold is {threshold}, but must be a share of the largest magnitude, such as 0.5")
        positions = self._positions()
        geodesic = None if distance == "euclidean" else Geodesic.of(self.problem.sources)
        count = self.source_count
        out = {name: np.empty(count) for name in ("peak_error", "centre_error", "deviation", "radius", "peak", "total")}
        # Positions from their centre, so that squares lose few digits where they are subtracted.
        centred = positions - positions.mean(axis=0)
        squares = np.einsum("sx,sx->s", centred, centred)
        first = np.column_stack([np.ones(count), centred])
        second = np.column_stack([np.ones(count), centred, squares])
        for block in self._blocks():
            own = np.arange(block.start, block.stop)
            size = self.magnitudes(function, own)
            top = size.argmax(axis=1)
            largest = size[np.arange(len(own)), top]
            sums = size @ first
            out["peak"][block], out["total"][block] = largest, sums[:, 0]
            with np.errstate(divide="ignore", invalid="ignore"):
                centre = sums[:, 1:] / sums[:, :1]
            beyond = size > threshold * largest[:, None]
            if geodesic is None:
                out["peak_error"][block] = np.linalg.norm(positions[top] - positions[own], axis=1)
                out["centre_error"][block] = np.linalg.norm(centre - centred[own], axis=1)
                size *= size
                moments = size @ second
                about = (
                    moments[:, 4]
                    + squares[own] * moments[:, 0]
                    - 2 * np.einsum("sx,sx->s", moments[:, 1:4], centred[own])
                )
                with np.errstate(divide="ignore", invalid="ignore"):
                    out["deviation"][block] = np.sqrt(np.maximum(about, 0.0) / moments[:, 0])
                out["radius"][block] = radius_of(beyond, positions, own)
                continue
            for i, source in enumerate(own):
                away = geodesic(int(source))
                reachable = np.isfinite(away)
                weight = size[i, reachable] ** 2
                out["peak_error"][source] = away[top[i]]
                out["deviation"][source] = np.sqrt(weight @ away[reachable] ** 2 / weight.sum())
                out["radius"][source] = away[reachable & beyond[i]].max(initial=0.0)
                own_side = np.flatnonzero(reachable)
                centre = size[i, own_side] @ centred[own_side] / size[i, own_side].sum()
                closest = own_side[np.argmin(np.sum((centred[own_side] - centre) ** 2, axis=1))]
                out["centre_error"][source] = away[closest]
        return Metrics(function, distance, **out)

    @cached_property
    def depth(self) -> Array:
        """Distance of every source from the nearest sensor, m: (source,).

        Raises
        ------
        ValueError
            If the positions of sources or sensors are not known.
        """
        positions = self._positions()
        if self.problem.sensors is None:
            raise ValueError("the positions of the sensors are not known; give sensors to the Problem")
        from scipy.spatial import cKDTree

        return np.asarray(cKDTree(self.problem.sensors.positions).query(positions)[0])

    def _positions(self) -> Array:
        if self.problem.sources is None:
            raise ValueError("the sources' positions are not known; give positions or sources to the Problem")
        return self.problem.sources.positions

    def _blocks(self) -> Iterator[slice]:
        step = max(1, BLOCK_ELEMENTS // (self.source_count * self.rows * self.columns))
        for start in range(0, self.source_count, step):
            yield slice(start, min(start + step, self.source_count))


def resolution(
    problem: Problem,
    estimator: float | str | Estimate | Posterior = "snr",
    *,
    weights: float | ArrayLike | None = None,
    along: str = "all",
) -> Resolution:
    """Return the resolution of a linear estimator of the currents.

    problem : whitened gain and recording
    estimator : λ, or the name of a choice of it, for the minimum norm (see `tikhonov`); an `Estimate`; or a
        `Posterior`, whose R is averaged over the hyperparameters
    weights : of the minimum norm, as in `tikhonov`
    along : with free orientation, the directions of the currents that are spread: "all" three axes, or "normals"

    Raises
    ------
    ValueError
        If the estimator is of another problem, λ is not positive and finite, or normals are wanted and not known.
    """
    one_of("directions", along, ("all", "normals"))
    if isinstance(estimator, Estimate | Posterior):
        if weights is not None:
            raise ValueError("weights are for a minimum norm of given lam; this estimator has its own prior")
        if estimator.problem is not problem and not _same_gain(estimator.problem, problem):
            raise ValueError("the estimator is of another problem: its gain differs from this one's")
    if isinstance(estimator, Posterior):
        kernel, name, rows = estimator.kernel, estimator.model, problem.axes
    else:
        estimate = estimator if isinstance(estimator, Estimate) else tikhonov(problem, estimator, weights)
        kernel, name = estimate.operator.kernel(), estimate.method
        rows = len(kernel) // problem.source_count
    gain, columns = problem.gain, problem.axes
    if along == "normals" and problem.axes == 3:
        gain = np.matmul(
            gain.reshape(len(gain), -1, 3).transpose(1, 0, 2),
            normals_of(problem, "directions along normals want")[:, :, None],
        )[:, :, 0].T
        columns = 1
    return Resolution(problem, name, kernel, gain, rows, columns)


def _same_gain(one: Problem, other: Problem) -> bool:
    same = isinstance(one, SurfaceProblem) == isinstance(other, SurfaceProblem)
    return same and one.gain.shape == other.gain.shape and bool(np.array_equal(one.gain, other.gain))
