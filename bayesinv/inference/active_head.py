"""The head that the fields of all sources are of: its coordinates, drawn one after the other from lattices.

A head whose skull conducts less makes all fields weaker, and the same recording wants stronger sources: where a
coordinate changes, so may all strengths.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bayesinv.axes import Array
from bayesinv.inference.active_slot import one_of_mass
from bayesinv.prior.patches import FARTHEST

POINTS, STEPS = 8, (0.03, 1.0)
"""Points of the lattice of a coordinate, and the least and largest step of it."""


def head_drawn(head: Array, log_density: Callable[[Array, int], float], rng: np.random.Generator) -> tuple[Array, int]:
    """Return a head (mode,) given all else, and by how many levels all strengths rise with it.

    Each coordinate is drawn on a lattice that holds its value at a random position; strengths rise by none, one or
    minus one level from each point to the next.

    log_density : of a head and a rise, up to the prior of the head; -inf where a strength would leave its grid
    """
    head, risen = head.copy(), 0
    for j in range(len(head)):
        step, slope = _step(rng), int(rng.integers(-1, 2))
        number = np.arange(POINTS) - int(rng.integers(POINTS))
        log_mass = np.full(POINTS, -np.inf)
        heads = head + step * number[:, None] * np.eye(len(head))[j]
        for k in np.flatnonzero(np.abs(heads[:, j]) < FARTHEST):
            log_mass[k] = log_density(heads[k], risen + slope * int(number[k])) - 0.5 * heads[k, j] ** 2
        drawn = one_of_mass(log_mass, rng)
        head, risen = heads[drawn], risen + slope * int(number[drawn])
    return head, risen


def head_beside(head: Array, rng: np.random.Generator) -> Array:
    """Propose a head (mode,) near another, which is as likely to be proposed from it."""
    return np.asarray(head + _step(rng) * rng.standard_normal(len(head)))


def _step(rng: np.random.Generator) -> float:
    return float(np.exp(rng.uniform(*np.log(STEPS))))
