"""Gauss rules of a discrete mass: few points that have its moments.

Reference: Golub & Welsch (1969), Math. Comp. 23, 221-230.
"""

from __future__ import annotations

import numpy as np

from bayesinv.axes import Array


def gauss_rule(places: Array, mass: Array, count: int) -> tuple[Array, Array]:
    """Points and weights, summing to 1, that have the moments of a discrete mass up to order 2 count - 1."""
    share = mass / mass.sum()
    middle = share @ places
    spread = np.sqrt(share @ (places - middle) ** 2)
    if not spread:
        return np.array([middle]), np.ones(1)
    unit = (places - middle) / spread
    count = min(count, int(np.sum(share > 0)))
    vectors = [np.sqrt(share)]
    matrix = np.zeros((count, count))
    for k in range(count):
        following = unit * vectors[k]
        matrix[k, k] = vectors[k] @ following
        for _ in range(2):
            for one in vectors:
                following = following - (one @ following) * one
        length = float(np.linalg.norm(following))
        if k + 1 < count:
            matrix[k, k + 1] = matrix[k + 1, k] = length
            vectors.append(following / length)
    values, turned = np.linalg.eigh(matrix)
    return middle + spread * values, turned[0] ** 2
