"""Gauss quadrature rules of a discrete distribution: a small number of points with the same moments.

Reference: Golub & Welsch (1969), Math. Comp. 23, 221-230.
"""

from __future__ import annotations

import numpy as np

from bayesinv.axes import Array


def gauss_rule(points: Array, mass: Array, count: int) -> tuple[Array, Array]:
    """Return the Gauss rule of a discrete distribution: `count` points and their weights, which sum to 1.

    Its moments up to order 2 count - 1 are those of the distribution. A distribution on fewer points gives fewer.

    points, mass : (point,), mass up to a factor
    """
    share = mass / mass.sum()
    mean = share @ points
    spread = np.sqrt(share @ (points - mean) ** 2)
    if not spread:
        return np.array([mean]), np.ones(1)
    unit = (points - mean) / spread
    count = min(count, int(np.sum(share > 0)))
    vectors = [np.sqrt(share)]
    matrix = np.zeros((count, count))
    for k in range(count):
        following = unit * vectors[k]
        matrix[k, k] = vectors[k] @ following
        for _ in range(2):
            for previous in vectors:
                following = following - (previous @ following) * previous
        length = float(np.linalg.norm(following))
        if k + 1 < count:
            matrix[k, k + 1] = matrix[k + 1, k] = length
            vectors.append(following / length)
    values, eigenvectors = np.linalg.eigh(matrix)
    weights = eigenvectors[0] ** 2
    # Far points of distributions with long tails may have weights below the smallest number.
    return (mean + spread * values)[weights > 0], weights[weights > 0]
