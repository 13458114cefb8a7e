"""Compression of a mixture of many Gaussians to one of few."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from bayesinv.axes import Array, Index
from bayesinv.scoring.proper import checked_mixture

GAUSSIANS = 16
"""Gaussians that a mixture is compressed to for scores that take all pairs of them."""


def compressed(
    weights: ArrayLike, means: ArrayLike, sds: ArrayLike, count: int = GAUSSIANS
) -> tuple[Array, Array, Array]:
    """Return a mixture of few Gaussians that approximates one of many: weights, means, sds, (node, ...) each.

    Similar nodes are merged to one Gaussian of their mean and variance, which preserves mean and variance of the
    mixture. Similarity is that of Fisher's metric, (m - m') / s and sqrt(2) log(s / s'), over all axes at once: the
    cluster of largest variance along any direction is split there until there are `count`.

    Far out in the tails, where only the widest node has any density, the approximation fails.

    weights : (node,); means, sds : (node, ...), of the same number of axes
    count : Gaussians at most

    Raises
    ------
    ValueError
        If shapes do not fit, a number is NaN or infinite, an sd is not positive, or no node is to be left.
    """
    shape = np.broadcast_shapes(np.shape(means)[1:], np.shape(sds)[1:])
    mass, middle, spread, _ = checked_mixture(weights, means, sds, np.zeros(shape))
    cluster = clusters_of(mass, middle, spread, count)
    moments = ClusterMoments.zeros(int(cluster.max()) + 1, shape)
    for k, w, m, s in zip(cluster, mass, middle, spread, strict=True):
        moments.add(k, w, m, s)
    return moments.gaussians()


def clusters_of(mass: Array, means: Array, sds: Array, count: int) -> Index:
    """Return the number of the cluster (node,) that every node belongs to, for `compressed`."""
    if count < 1:
        raise ValueError(f"count is {count}, but a mixture wants at least one Gaussian")
    nodes = len(mass)
    if nodes <= count:
        return np.arange(nodes)
    spread = np.broadcast_to(sds, means.shape)
    typical = np.tensordot(mass, spread, axes=1)
    features = np.concatenate(
        [(means / typical).reshape(nodes, -1), np.sqrt(2) * np.log(spread / typical).reshape(nodes, -1)], axis=1
    )
    features -= mass @ features
    # Of thousands of features some hundreds separate the nodes as well as all.
    features = features[:, :: -(-features.shape[1] // 512)]
    features = features @ np.linalg.svd(np.sqrt(mass)[:, None] * features, full_matrices=False)[2][:3].T
    clusters = [np.arange(nodes)]
    while len(clusters) < count:
        deviations = [features[c] - np.average(features[c], axis=0, weights=mass[c] + 1e-300) for c in clusters]
        variances = np.array([mass[c] @ d**2 for c, d in zip(clusters, deviations, strict=True)])
        largest, axis = np.unravel_index(int(variances.argmax()), variances.shape)
        upper = deviations[largest][:, axis] > 0
        if not variances[largest, axis] > 0 or upper.all() or not upper.any():
            break
        chosen = clusters.pop(int(largest))
        clusters += [chosen[upper], chosen[~upper]]
    out = np.empty(nodes, dtype=np.int64)
    for k, c in enumerate(clusters):
        out[c] = k
    return out


@dataclass(frozen=True, eq=False)
class ClusterMoments:
    """Moments of the Gaussians merged in each cluster: Σ w (cluster,), Σ w m and Σ w (m² + s²) (cluster, ...)."""

    mass: Array
    first: Array
    second: Array

    @classmethod
    def zeros(cls, clusters: int, shape: tuple[int, ...]) -> ClusterMoments:
        return cls(np.zeros(clusters), np.zeros((clusters, *shape)), np.zeros((clusters, *shape)))

    def add(self, cluster: int, weight: float, mean: Array, sd: Array) -> None:
        self.mass[cluster] += weight
        self.first[cluster] += weight * mean
        self.second[cluster] += weight * (mean**2 + sd**2)

    def gaussians(self) -> tuple[Array, Array, Array]:
        """Return weights (cluster,), means and sds (cluster, ...) of the clusters that hold anything."""
        filled = self.mass > 0
        mass = self.mass[filled]
        column = mass.reshape(-1, *[1] * (self.first.ndim - 1))
        means = self.first[filled] / column
        variances = self.second[filled] / column - means**2
        return mass, means, np.sqrt(np.maximum(variances, 1e-20 * variances.max()))
