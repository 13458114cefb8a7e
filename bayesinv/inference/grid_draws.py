"""Exact draws from a density that is known on a grid, by rejection sampling."""

from __future__ import annotations

from itertools import product

import numpy as np

from bayesinv.axes import Array
from bayesinv.inference.grid import Lattice
from bayesinv.interpolation.scattered import interpolant_on_lattice
from bayesinv.prior.density import Density


def draw(density: Density, lattice: Lattice, count: int, rng: np.random.Generator) -> Array:
    """Independent draws (draw, coordinate) from the posterior density itself.

    A node is drawn by weight and jittered by a triangle in every axis, which samples the multilinear interpolant
    of the density; rejection sampling then makes the draws exact, up to the bound on the ratio of the two densities.
    """
    size = lattice.index.shape[1]
    if not size:
        return np.zeros((count, 0))
    accepted: list[Array] = []
    drawn = 0
    corner = lattice.index.min(axis=0) - 1
    top = lattice.log_density.max()
    table = np.zeros(tuple((lattice.index.max(axis=0) + 2 - corner).astype(int)))
    table[tuple((lattice.index - corner).astype(int).T)] = np.exp(lattice.log_density - top)
    smooth = interpolant_on_lattice(lattice.index, lattice.log_density) if density.structural else None
    while drawn < count:
        tries = int(1.3 * (count - drawn)) + 64
        pick = rng.choice(len(lattice.index), size=tries, p=lattice.weights)
        point = lattice.index[pick] + rng.triangular(-1, 0, 1, size=(tries, size))
        proposed = _multilinear(table, point - corner)
        # A new structure costs a decomposition, so between structures the density is interpolated.
        log_density = lattice.log_target(density, point) if smooth is None else smooth(point)
        ratio = np.exp(log_density - top) / np.maximum(proposed, 1e-300)
        # Almost no mass lies where the ratio exceeds four, and a higher bound would reject almost all draws.
        bound = min(float(ratio.max()), 4.0)
        new = point[rng.uniform(size=tries) * bound < ratio]
        accepted.append(new)
        drawn += len(new)
    return lattice.nodes_of(np.concatenate(accepted)[:count])


def _multilinear(table: Array, point: Array) -> Array:
    """Interpolate `table` multilinearly at fractional indices (point, axis)."""
    base = np.floor(point).astype(np.int64)
    base = np.clip(base, 0, np.array(table.shape) - 2)
    part = point - base
    out = np.zeros(len(point))
    for corner in product((0, 1), repeat=table.ndim):
        share = np.prod(np.where(corner, part, 1 - part), axis=1)
        out += share * table[tuple((base + corner).T)]
    return out
