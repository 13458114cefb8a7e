"""Foci: what is known of each focal source, its draws matched by place, and how probable it is that it is there.

Draws hold sources in no order. A focus is a place near which many draws have a source: the place with most of them is
the first focus, the nearest source of every draw within `REACH` of it is its, and what is left makes the next one.
Overlapping patches that swap from draw to draw are therefore one focus.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from bayesinv.axes import Array, Index, real
from bayesinv.head.parcels import check_labels
from bayesinv.memory import PickledByFields, cached_property
from bayesinv.posterior.active import ActiveSets
from bayesinv.posterior.focal import FocalGaussians, FocalNode, FocalNodes
from bayesinv.posterior.functionals import Functional
from bayesinv.posterior.quantiles import credible_level, mixture_quantiles, tail_probabilities
from bayesinv.problem.problem import Problem
from bayesinv.wording import not_certain

Mask = NDArray[np.bool_]

REACH = 0.02
"""Distance in m from a focus within which a draw's source is taken for it."""

WITHIN = 16
"""Places within what a source stands for that a draw counts as, to tell how near it is."""

LEAST_PROBABILITY = 0.05
"""Probability below which a place is no focus."""

SURE_OF_SIGN = 0.9
"""Probability of a current's sign below which its size is told without a direction."""


@dataclass(frozen=True, eq=False)
class Focus(PickledByFields):
    """One source: where, how large, how strong, and how surely.

    probability : that a source lies within `REACH` of the centre
    centre : (3,), m, mean position; None without positions
    place : source at which it is most often
    positions : (draw, 3), m, of the source in the draws that have it; None without positions
    places : (draw,), source at the centre of its patch in these draws
    extents, areas : (draw,), m and m², of its patch; areas are NaN where those of sources are not known
    cells : (draw,), m, radius of what the source at its centre stands for, all places nearer to it than to others; 0
        where sources are no patches, but dipoles that lie between the places of the grid
    current : its current summed over the patch, A m, in the draws that have it: one functional per axis
    draws : (draw,), the nodes that have it
    weights : (draw,), of these nodes, summing to one
    beside : (focus,), probability of each focus of the posterior where this one is there, the most probable focus first
    """

    probability: float
    centre: Array | None
    place: int
    positions: Array | None
    places: Index
    extents: Array
    areas: Array
    cells: Array
    current: Functional
    draws: Index
    weights: Array
    beside: Array

    def __repr__(self) -> str:
        return f"<Focus: {self.describe()}>"

    @property
    def _offsets(self) -> Array:
        """Positions from the centre, m: (draw, 3)."""
        if self.positions is None or self.centre is None:
            raise ValueError("the sources' positions are not known; give them to the Problem")
        return self.positions - self.centre

    def radius(self, level: float = 0.9) -> float:
        """Distance in m from the centre within which the source lies with a probability, given that it is there.

        A patch may lie anywhere in the part of the cortex that its source of the grid stands for.
        """
        away, shares = np.linalg.norm(self._offsets, axis=1)[:, None], (np.arange(WITHIN) + 0.5) / WITHIN
        distances = np.sqrt(away**2 + self.cells[:, None] ** 2 * shares)
        return self._quantile(distances.ravel(), credible_level(level), np.repeat(self.weights, WITHIN))

    def _quantile(self, values: Array, probability: float, weights: Array | None = None) -> float:
        weights = self.weights if weights is None else weights
        return float(np.quantile(values, probability, weights=weights, method="inverted_cdf"))

    def volume(self, level: float = 0.9) -> float:
        """Volume in m³ of the ellipsoid that holds the source with a probability, given that it is there.

        It is centred at the mean of the draws' positions, has their covariance, and holds that share of them.
        """
        offsets = self._offsets
        if len(offsets) < 2:
            return 0.0
        _, sds, axes = np.linalg.svd(np.sqrt(self.weights)[:, None] * offsets, full_matrices=False)
        # In units of the axes' standard deviations; along axes in which no draw differs, nowhere.
        distance = np.linalg.norm(offsets @ axes.T / np.maximum(sds, 1e-12), axis=1)
        reach = self._quantile(distance, credible_level(level))
        return float(4 / 3 * np.pi * np.prod(sds) * reach**3)

    def credible_set(self, level: float = 0.9) -> Index:
        """The fewest places that together hold the source with a probability, given that it is there."""
        places, index = np.unique(self.places, return_inverse=True)
        mass = np.bincount(index, self.weights)
        order = np.argsort(-mass, kind="stable")
        enough = int(np.searchsorted(np.cumsum(mass[order]) / mass.sum(), credible_level(level) - 1e-12)) + 1
        return np.sort(places[order[:enough]])

    @property
    def peak(self) -> int:
        """Index of the sample at which the mean current is strongest."""
        return int(np.argmax(np.linalg.norm(self.current.mean, axis=0)))

    def summary(self, level: float = 0.9) -> dict[str, Any]:
        """What is known as plain Python: probability, place, extent, and current at its strongest sample."""
        sample = self.peak
        low, high = self.current.interval(level)
        known = self.centre is not None
        return {
            "probability": self.probability,
            "beside": self.beside.tolist(),
            "place": self.place,
            "centre_m": None if self.centre is None else self.centre.tolist(),
            "radius_m": self.radius(level) if known else None,
            "volume_m3": self.volume(level) if known else None,
            "extent_m": self._quantile(self.extents, 0.5),
            "time_s": float(self.current.times[sample]),
            "current_Am": self.current.mean[:, sample].tolist(),
            "current_low_Am": low[:, sample].tolist(),
            "current_high_Am": high[:, sample].tolist(),
            "level": level,
        }

    @property
    def sign_probability(self) -> float:
        """Probability of the likelier sign of a current along normals, at its strongest sample; NaN for other ones."""
        if len(self.current.names) > 1:
            return float("nan")
        positive = float(self.current.exceedance(0.0)[0, self.peak])
        return max(positive, 1 - positive)

    def size(self, level: float = 0.9) -> tuple[float, float, float]:
        """Median and interval of the absolute current along normals at its strongest sample, A m.

        Raises
        ------
        ValueError
            If the level lies outside (0, 1), or the current has more axes than that along the normals.
        """
        if len(self.current.names) > 1:
            raise ValueError("this current has three axes, and no exact law of its norm; take draws of `current`")
        at = slice(self.peak, self.peak + 1)
        means, sds = self.current.means[:, :, at], np.broadcast_to(self.current.node_sds, self.current.means.shape)
        # |x| is below q as often as x, with either sign at random, is between -q and q.
        either = np.concatenate([means, -means]), np.concatenate([sds[:, :, at]] * 2)
        tails = [(1 + one) / 2 for one in (0.5, *tail_probabilities(level))]
        median, low, high = mixture_quantiles(np.tile(self.current.weights / 2, 2), *either, tails)
        return median.item(), low.item(), high.item()

    def describe(self) -> str:
        """Say what is known in a line."""
        where = f"source {self.place}"
        if self.centre is not None:
            x, y, z = 1e3 * self.centre
            where = f"({x:.0f}, {y:.0f}, {z:.0f}) mm, 90 % within {1e3 * self.radius():.0f} mm"
        text = f"{not_certain(self.probability)} probable at {where}; {self._current_in_words()}"
        text += f" at {1e3 * self.current.times[self.peak]:.4g} ms"
        return text + ", its direction not known" * (self.sign_probability < SURE_OF_SIGN)

    def _current_in_words(self) -> str:
        """Its current at the strongest sample; along normals with its sign and interval, where the sign is known."""
        mean = self.current.mean[:, self.peak]
        if len(mean) > 1:
            return f"{1e9 * float(np.linalg.norm(mean)):.3g} nA m"
        if self.sign_probability < SURE_OF_SIGN:
            median, low, high = (1e9 * value for value in self.size())
            return f"{median:.3g} nA m ({low:.3g} to {high:.3g})"
        low, high = (1e9 * float(bound[0, self.peak]) for bound in self.current.interval(0.9))
        return f"{1e9 * float(mean[0]):.3g} nA m ({low:.3g} to {high:.3g})"


def inclusion(
    problem: Problem,
    sets: ActiveSets,
    weights: Array,
    labels: ArrayLike | Mapping[str, ArrayLike] | None = None,
) -> Array:
    """Probability that a source's patch holds any place of each label, or every place where there are none: (label,).

    weights : (node,), of the mixture; labels : see `head.parcels.check_labels`

    Raises
    ------
    ValueError
        If labels do not fit the sources.
    """
    labels = (
        np.arange(problem.source_count)
        if labels is None
        else check_labels(labels, problem.source_count if problem.sources is None else problem.sources)
    )
    count = int(labels.max()) + 1
    patches = len(sets.centre)
    held = np.zeros((patches, count), dtype=bool)
    owner = np.repeat(np.arange(patches), np.diff(sets.starts))
    label = labels[sets.members]
    inside = label >= 0
    held[owner[inside], label[inside]] = True
    any_of = np.zeros((len(sets.constant), count), dtype=bool)
    np.logical_or.at(any_of, sets.node, held[sets.patch])
    return np.asarray(weights @ any_of / weights.sum())


def positions_of(problem: Problem, sets: ActiveSets) -> Array | None:
    """Mean position of each active source, m: (active, 3); None where positions are not known."""
    if problem.sources is None:
        return None
    owner = np.repeat(np.arange(len(sets.centre)), np.diff(sets.starts))
    out = np.zeros((len(sets.centre), 3))
    np.add.at(out, owner, sets.weights[:, None] * problem.sources.positions[sets.members])
    return np.asarray(np.einsum("ap,apx->ax", sets.shares, out[sets.parts]))


def probability_near(problem: Problem, sets: ActiveSets, weights: Array, position: ArrayLike, radius: float) -> float:
    """Probability that a source lies within a radius, m, of a position, m.

    Raises
    ------
    ValueError
        If positions are not known, or these are no position and no radius.
    """
    if problem.sources is None:
        raise ValueError("the sources' positions are not known; give them to the Problem")
    position = real("position", position, "3")
    if not 0 < radius < np.inf:
        raise ValueError(f"radius is {radius}, but must be positive and finite, in m")
    positions = positions_of(problem, sets)
    assert positions is not None
    near = np.linalg.norm(positions - position, axis=1) <= radius
    found = np.zeros(len(sets.constant), dtype=bool)
    np.logical_or.at(found, sets.node, near)
    return min(1.0, float(weights @ found / weights.sum()))


def foci(problem: Problem, sets: ActiveSets, weights: Array, nodes: FocalNodes, times: Array) -> tuple[Focus, ...]:
    """Return the foci of a posterior, the most probable first.

    weights : (node,), of the mixture
    nodes : of the mixture, see `posterior.focal.nodes_of`
    """
    positions = positions_of(problem, sets)
    share = weights / weights.sum()
    places = np.unique(sets.centre[sets.patch])
    if positions is None:
        near = sets.centre[sets.patch, None] == places
        distances = np.where(near, 0.0, np.inf)
    else:
        assert problem.sources is not None
        distances = cdist(positions, problem.sources.positions[places])
        near = distances <= REACH
    free = np.ones(len(sets.node), dtype=bool)
    found = []
    while free.any():
        has = np.zeros((len(share), len(places)), dtype=bool)
        np.logical_or.at(has, sets.node[free], near[free])
        probability = share @ has
        best = int(np.argmax(probability))
        if probability[best] < LEAST_PROBABILITY:
            break
        picked = _nearest(sets, free, distances[:, best], near[:, best])
        found.append(_focus(problem, sets, share, nodes, times, positions, picked, float(probability[best])))
        free[picked] = False
    found.sort(key=lambda one: -one.probability)
    there = np.zeros((len(found), len(share)))
    for row, one in zip(there, found, strict=True):
        row[one.draws] = 1
    return tuple(replace(one, beside=there[:, one.draws] @ one.weights) for one in found)


def _nearest(sets: ActiveSets, free: Mask, distance: Array, near: Mask) -> Index:
    """The free source of each node that is nearest to a focus, among those within reach.

    distance, near : (active,)
    """
    candidates = np.flatnonzero(free & near)
    order = candidates[np.lexsort((distance[candidates], sets.node[candidates]))]
    first = np.r_[True, np.diff(sets.node[order]) > 0]
    return order[first]


def _focus(
    problem: Problem,
    sets: ActiveSets,
    share: Array,
    nodes: FocalNodes,
    times: Array,
    positions: Array | None,
    picked: Index,
    probability: float,
) -> Focus:
    patch = sets.patch[picked]
    places = sets.centre[patch]
    weights = share[sets.node[picked]] / share[sets.node[picked]].sum()
    values, index = np.unique(places, return_inverse=True)
    at = None if positions is None else positions[picked]
    areas = np.full(len(picked), np.nan)
    if problem.sources is not None and problem.sources.areas is not None:
        owner = np.repeat(np.arange(len(sets.centre)), np.diff(sets.starts))
        areas = np.bincount(owner, problem.sources.areas[sets.members], len(sets.centre))[patch]
    return Focus(
        probability,
        None if at is None else weights @ at,
        int(values[np.argmax(np.bincount(index, weights))]),
        at,
        places,
        sets.extent[patch],
        areas,
        _cells(problem, sets, places),
        _current(sets, nodes, times, picked, problem.axes, weights),
        sets.node[picked],
        weights,
        np.zeros(0),
    )


def _cells(problem: Problem, sets: ActiveSets, places: Index) -> Array:
    """Radius (place,) in m of what sources of the grid stand for, see `Focus`."""
    if problem.sources is None or len(problem.sources) < 2 or not sets.extent.any():
        return np.zeros(len(places))
    if problem.sources.areas is not None:
        return np.sqrt(problem.sources.areas[places] / np.pi)
    positions = problem.sources.positions
    return np.asarray(0.5 * cKDTree(positions).query(positions[places], k=2)[0][:, 1])


def _current(sets: ActiveSets, nodes: FocalNodes, times: Array, picked: Index, axes: int, weights: Array) -> Functional:
    """Posterior of the current of some sources, one in each node that has one, as a mixture over these nodes."""
    means, covariances = [], []
    for one in picked:
        node = int(sets.node[one])
        gaussians, own = nodes[node]
        first = (int(one) - sets.at(node).start) * axes
        mean, covariance = _course(gaussians, own, slice(first, first + axes), float(sets.strength[one]))
        means.append(mean)
        covariances.append(covariance)
    names = ("current",) if axes == 1 else tuple(f"current {axis}" for axis in "xyz")
    return Functional(names, times, weights, np.array(means), np.array(covariances))


def _course(gaussians: FocalGaussians, node: FocalNode, columns: slice, strength: float) -> tuple[Array, Array]:
    """Mean (axis, time) and covariance (time, axis, axis) of a source's current at a node, A m."""
    mean = strength * node.courses.means[:, columns].T @ gaussians.over
    covariance = strength**2 * node.courses.covariances[:, columns, columns]
    return mean, np.tensordot(gaussians.over.T**2, covariance, axes=1)


@dataclass(frozen=True, eq=False)
class Count(PickledByFields):
    """Posterior of the number of sources.

    probability : (number,), of 0, 1, 2, ... sources
    """

    probability: Array

    def __repr__(self) -> str:
        return f"<Count: {self.describe()}>"

    def describe(self) -> str:
        """Say how probable each number is, in a line."""
        return ", ".join(f"{number}: {chance}" for number, chance in self.likely())

    def likely(self) -> list[tuple[str, str]]:
        """Return the numbers that have half a percent or more, and their probabilities, in words."""
        chances = self.probability
        return [(f"{n}", not_certain(float(chances[n]))) for n in np.flatnonzero(chances >= 0.005)]

    @cached_property
    def mean(self) -> float:
        """Posterior mean."""
        return float(np.arange(len(self.probability)) @ self.probability)

    def interval(self, level: float = 0.9) -> tuple[int, int]:
        """Central credible interval, whose ends belong to it."""
        tail = (1 - credible_level(level)) / 2
        below = np.cumsum(self.probability)
        low = int(np.searchsorted(below, tail + 1e-12))
        return low, int(np.searchsorted(below, 1 - tail - 1e-12))


def summary(count: Count, found: Sequence[Focus], sets: ActiveSets, level: float) -> dict[str, Any]:
    """Numbers of the focal sources as plain Python; None for a ratio that is not known."""
    known = bool(np.isfinite(sets.log_ratio))
    return {
        "count": count.probability.tolist(),
        "foci": [one.summary(level) for one in found],
        "log_evidence_ratio": float(sets.log_ratio) if known else None,
        "log_evidence_ratio_error": float(sets.log_ratio_error) if known else None,
    }
