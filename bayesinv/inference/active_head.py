"""The head that the fields of all sources are of: its coordinates, drawn from lattices and along ellipses.

A head whose skull conducts less makes all fields weaker, and the same recording wants stronger sources: where a
coordinate changes along a lattice, so may all strengths. Of most coordinates a recording says little, and they depend
on each other: steps along an ellipse through the head and a draw of the prior move all of them at once.

Reference: Murray, Adams & MacKay (2010), Proc. AISTATS, 541-548 (elliptical slice sampling).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bayesinv.axes import Array
from bayesinv.inference.active_slot import one_of_mass
from bayesinv.prior.patches import FARTHEST

POINTS, STEPS = 8, (0.03, 1.0)
"""Points of the lattice of a coordinate, and the least and largest step of it."""

ELLIPSES = 4
"""Steps along ellipses."""


def head_drawn(head: Array, log_density: Callable[[Array, int], float], rng: np.random.Generator) -> tuple[Array, int]:
    """Return a head (mode,) given all else, and by how many levels all strengths rise with it.

    Half of the coordinates are drawn on a lattice that holds their value at a random position; strengths rise by none,
    one or minus one level from each point to the next. Then all are drawn along ellipses.

    log_density : of a head and a rise, up to the prior of the head; -inf where a strength would leave its grid
    """
    head, risen = head.copy(), 0
    for j in rng.permutation(len(head))[: -(-len(head) // 2)]:
        step, slope = _step(rng), int(rng.integers(-1, 2))
        number = np.arange(POINTS) - int(rng.integers(POINTS))
        log_mass = np.full(POINTS, -np.inf)
        heads = head + step * number[:, None] * np.eye(len(head))[j]
        for k in np.flatnonzero(np.abs(heads[:, j]) < FARTHEST):
            log_mass[k] = log_density(heads[k], risen + slope * int(number[k])) - 0.5 * heads[k, j] ** 2
        drawn = one_of_mass(log_mass, rng)
        head, risen = heads[drawn], risen + slope * int(number[drawn])
    height = log_density(head, risen)
    for _ in range(ELLIPSES):
        head, height = _along_ellipse(head, height, lambda one: log_density(one, risen), rng)
    return head, risen


def _along_ellipse(
    head: Array, height: float, log_density: Callable[[Array], float], rng: np.random.Generator
) -> tuple[Array, float]:
    """Return a head (mode,) on an ellipse through it, and its log density, by slice sampling."""
    other, level = rng.standard_normal(len(head)), height + np.log(rng.random())
    angle = rng.uniform(0, 2 * np.pi)
    low, high = angle - 2 * np.pi, angle
    while True:
        found = head * np.cos(angle) + other * np.sin(angle)
        # The prior ends there.
        if (np.abs(found) < FARTHEST).all():
            reached = log_density(found)
            if reached > level:
                return found, reached
        low, high = (angle, high) if angle < 0 else (low, angle)
        angle = rng.uniform(low, high)


def head_beside(head: Array, rng: np.random.Generator) -> Array:
    """Propose a head (mode,) near another, which is as likely to be proposed from it."""
    return np.asarray(head + _step(rng) * rng.standard_normal(len(head)))


def _step(rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(*np.log(STEPS))))
