"""Draws of the local scales of thousands of sources, one given all others, with all currents integrated out.

Samples Y (component, sample) are independent and of covariance C = Σ_j v_j G_j G_jᵀ + noise² 1, with v_j = v λ_j². By
the eigenvalues e_k of G_jᵀ C₋ⱼ⁻¹ G_j, where C₋ⱼ is C without source j, and the squares q_k of G_jᵀ C₋ⱼ⁻¹ Y along their
vectors,

    log p(Y | v_j, all others) = Σ_k [ q_k v_j / (1 + v_j e_k) - T log(1 + v_j e_k) ] / 2 + constant

so that a source costs two passes over C⁻¹, whatever the numbers of sources and samples. Sources are handled in blocks:
what the first of a block change is told to the others of it at once, and to C⁻¹ when all of it are drawn.

log λ_j is drawn from a window of equally spaced values, which holds the present one at a place drawn at random: given
the window all its values are as probable as their densities say, so that the draw leaves the posterior as it is,
whatever the spacing.

References: Tipping & Faul (2003), Proc. AISTATS (the likelihood of one variance); Bhattacharya, Chakraborty & Mallick
(2016), Biometrika 103, 985-991 (sampling at a cost linear in the number of sources); Tjelmeland (2004), Using all
Metropolis-Hastings proposals to estimate mean values, Norwegian University of Science and Technology (the window).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from bayesinv.axes import Array, Index

BLOCK = 16
"""Sources whose products with each other are kept up to date while they are drawn."""

LEAST = 1e-14
"""Least share of a direction's variance that is not of the source itself: what rounding leaves of it."""


@njit(nogil=True, cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def scan(
    fields: Array,
    precision: Array,
    recording: Array,
    logs: Array,
    variance: float,
    samples: float,
    order: Index,
    places: Index,
    chances: Array,
    spacing: float,
    points: int,
) -> None:
    """Draw log λ of every source once, in an order, and keep the precision C⁻¹ up to date; both in place.

    fields : (source, axis, component)
    precision : (component, component)
    recording : (component, column), any root of Y Yᵀ
    logs : (source,), log λ
    variance : v
    samples : T; a fraction of it, with a recording as much smaller, tempers the likelihood
    order, places, chances : (source,), sources in the order in which they are drawn, the place of each one's present
        value in its window, and numbers between 0 and 1
    spacing, points : of a window's values, and how many these are
    """
    count, axes, components = fields.shape
    candidates, heights = np.empty(points), np.empty(points)
    own, without, power, vectors = np.empty(axes), np.empty(axes), np.empty(axes), np.eye(axes)
    changes = np.empty(BLOCK * axes)
    for start in range(0, count, BLOCK):
        size = min(BLOCK, count - start)
        some = np.empty((size * axes, components))
        for i in range(size):
            for a in range(axes):
                some[i * axes + a] = fields[order[start + i], a]
        solved = np.dot(some, precision)
        table = np.dot(solved, some.T)
        seen = np.dot(solved, recording)
        for i in range(size):
            source, first, rest = order[start + i], i * axes, (i + 1) * axes
            if axes > 1:
                square = np.empty((axes, axes))
                for a in range(axes):
                    for b in range(axes):
                        square[a, b] = 0.5 * (table[first + a, first + b] + table[first + b, first + a])
                vectors = np.linalg.eigh(square)[1]
                turned = np.ascontiguousarray(vectors.T)
                solved[first:rest] = np.dot(turned, np.ascontiguousarray(solved[first:rest]))
                seen[first:rest] = np.dot(turned, np.ascontiguousarray(seen[first:rest]))
                table[first:rest] = np.dot(turned, np.ascontiguousarray(table[first:rest]))
            present = variance * np.exp(2 * logs[source])
            for a in range(axes):
                own[a] = 0.0
                for b in range(axes):
                    own[a] += table[first + a, first + b] * vectors[b, a]
                own[a] = max(own[a], 0.0)
                without[a] = max(1 - present * own[a], LEAST)
                power[a] = 0.0
                for t in range(seen.shape[1]):
                    power[a] += seen[first + a, t] ** 2
            for k in range(points):
                x = logs[source] + spacing * (k - places[start + i])
                candidates[k] = x
                value = variance * np.exp(2 * x)
                height = x - np.log1p(np.exp(2 * x)) if x < 300 else -x
                for a in range(axes):
                    total = without[a] + value * own[a]
                    height += 0.5 * (power[a] / without[a] * value / total - samples * np.log(total))
                heights[k] = height
            logs[source] = candidates[_picked(heights, chances[start + i])]
            value = variance * np.exp(2 * logs[source])
            change = value - present
            for a in range(axes):
                row = first + a
                changes[row] = change / (without[a] + value * own[a])
                for later in range(rest, size * axes):
                    share = changes[row] * table[row, later]
                    if share != 0:
                        for c in range(components):
                            solved[later, c] -= share * solved[row, c]
                        for t in range(seen.shape[1]):
                            seen[later, t] -= share * seen[row, t]
                        for other in range(rest, size * axes):
                            table[later, other] -= share * table[row, other]
        scaled = np.empty(solved.shape)
        for row in range(size * axes):
            scaled[row] = changes[row] * solved[row]
        precision -= np.dot(solved.T, scaled)


@njit(nogil=True, cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _picked(heights: Array, chance: float) -> int:
    """Index drawn with probabilities of these logarithms, which are overwritten."""
    top = heights.max()
    total = 0.0
    for k in range(len(heights)):
        total += np.exp(heights[k] - top)
        heights[k] = total
    for k in range(len(heights)):
        if heights[k] >= chance * total:
            return k
    return len(heights) - 1


@njit(nogil=True, cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def exchange(
    fields: Array,
    precision: Array,
    recording: Array,
    logs: Array,
    variance: float,
    samples: float,
    starts: Index,
    neighbours: Index,
    chances: Array,
) -> int:
    """Propose that sources exchange their scales with one of their neighbours; return how often they did.

    A source is picked with a probability in proportion to λ². The scales are the same after an exchange, at other
    sources, so that the way back is picked as often, but for the number of neighbours.

    fields, precision, recording, logs, variance, samples : as in `scan`
    starts, neighbours : (source + 1,) and (pair,), those of source j from starts[j] to starts[j + 1]; pairs are mutual
    chances : (proposal, 3), numbers between 0 and 1
    """
    count, axes, components = fields.shape
    squares = np.exp(2 * (logs - logs.max()))
    total, accepted = squares.sum(), 0
    both = np.empty((2 * axes, components))
    change = np.zeros((2 * axes, 2 * axes))
    for proposal in range(len(chances)):
        wanted, one = chances[proposal, 0] * total, 0
        while one < count - 1 and wanted > squares[one]:
            wanted -= squares[one]
            one += 1
        many = starts[one + 1] - starts[one]
        if many == 0:
            continue
        other = neighbours[starts[one] + min(int(chances[proposal, 1] * many), many - 1)]
        back = starts[other + 1] - starts[other]
        both[:axes], both[axes:] = fields[one], fields[other]
        gained = variance * (np.exp(2 * logs[other]) - np.exp(2 * logs[one]))
        for a in range(axes):
            change[a, a], change[axes + a, axes + a] = gained, -gained
        solved = np.dot(both, precision)
        factor = np.eye(2 * axes) + np.dot(np.dot(solved, both.T), change)
        sign, log_determinant = np.linalg.slogdet(factor)
        if sign <= 0:
            continue
        kernel = np.dot(change, np.linalg.inv(factor))
        # Rounding that is not symmetric would grow from one exchange to the next.
        kernel = 0.5 * (kernel + kernel.T)
        seen = np.dot(solved, recording)
        height = 0.5 * np.sum(seen * np.dot(kernel, seen)) - 0.5 * samples * log_determinant
        if np.log(chances[proposal, 2]) < height + np.log(many / back):
            precision -= np.dot(solved.T, np.dot(kernel, solved))
            logs[one], logs[other] = logs[other], logs[one]
            squares[one], squares[other] = squares[other], squares[one]
            accepted += 1
    return accepted
