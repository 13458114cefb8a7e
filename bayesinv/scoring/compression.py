"""A mixture of few Gaussians for one of many."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from bayesinv.axes import Array, Index
from bayesinv.scoring.proper import checked_mixture

GAUSSIANS = 16
"""Gaussians that a mixture is compressed to where pairs of them matter."""


def compressed(
    weights: ArrayLike, means: ArrayLike, sds: ArrayLike, count: int = GAUSSIANS
) -> tuple[Array, Array, Array]:
    """Return a mixture of few Gaussians that stands for one of many: weights, means, sds, (node, ...) each.

    Nodes that look alike are joined to one Gaussian of their mean and variance, so that mean and variance of the
    mixture stay exact. What is alike is measured as Fisher's metric does, by (m - m') / s and sqrt(2) log(s / s'),
    over all numbers at once: the set of nodes is halved across its widest direction until there are `count`.

    Far out in the tails, where only the widest node has any density left, the few are no substitute.

    weights : (node,); means, sds : (node, ...), of the same number of axes

    Raises
    ------
    ValueError
        If shapes do not fit, a number is NaN or infinite, an sd is not positive, or no node is to be left.
    """
    shape = np.broadcast_shapes(np.shape(means)[1:], np.shape(sds)[1:])
    mass, middle, spread, _ = checked_mixture(weights, means, sds, np.zeros(shape))
    cell = cells_of(mass, middle, spread, count)
    gathered = Gathered.of(int(cell.max()) + 1, shape)
    for n, w, m, s in zip(cell, mass, middle, spread, strict=True):
        gathered.take(n, w, m, s)
    return gathered.gaussians()


def cells_of(mass: Array, means: Array, sds: Array, count: int) -> Index:
    """The cell (node,) that every node belongs to."""
    if count < 1:
        raise ValueError(f"count is {count}, but a mixture wants at least one Gaussian")
    nodes = len(mass)
    if nodes <= count:
        return np.arange(nodes)
    spread = np.broadcast_to(sds, means.shape)
    typical = np.tensordot(mass, spread, axes=1)
    looks = np.concatenate(
        [(means / typical).reshape(nodes, -1), np.sqrt(2) * np.log(spread / typical).reshape(nodes, -1)], axis=1
    )
    looks -= mass @ looks
    # Of thousands of numbers some hundreds tell the nodes apart as well.
    looks = looks[:, :: -(-looks.shape[1] // 512)]
    looks = looks @ np.linalg.svd(np.sqrt(mass)[:, None] * looks, full_matrices=False)[2][:3].T
    cells = [np.arange(nodes)]
    while len(cells) < count:
        about = [looks[c] - np.average(looks[c], axis=0, weights=mass[c] + 1e-300) for c in cells]
        widths = np.array([mass[c] @ a**2 for c, a in zip(cells, about, strict=True)])
        widest, axis = np.unravel_index(int(widths.argmax()), widths.shape)
        up = about[widest][:, axis] > 0
        if not widths[widest, axis] > 0 or up.all() or not up.any():
            break
        chosen = cells.pop(int(widest))
        cells += [chosen[up], chosen[~up]]
    out = np.empty(nodes, dtype=np.int64)
    for k, c in enumerate(cells):
        out[c] = k
    return out


@dataclass(frozen=True, eq=False)
class Gathered:
    """Moments of the Gaussians that were joined in each cell: mass (cell,), Σ w m and Σ w (m² + s²) (cell, ...)."""

    mass: Array
    first: Array
    second: Array

    @classmethod
    def of(cls, cells: int, shape: tuple[int, ...]) -> Gathered:
        return cls(np.zeros(cells), np.zeros((cells, *shape)), np.zeros((cells, *shape)))

    def take(self, cell: int, weight: float, mean: Array, sd: Array) -> None:
        self.mass[cell] += weight
        self.first[cell] += weight * mean
        self.second[cell] += weight * (mean**2 + sd**2)

    def gaussians(self) -> tuple[Array, Array, Array]:
        kept = self.mass > 0
        mass = self.mass[kept]
        lifted = mass.reshape(-1, *[1] * (self.first.ndim - 1))
        means = self.first[kept] / lifted
        variances = self.second[kept] / lifted - means**2
        return mass, means, np.sqrt(np.maximum(variances, 1e-20 * variances.max()))
