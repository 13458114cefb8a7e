"""Whether means over regions are as large as a posterior takes them to be: currents of neighbours that go together.

    recording ~ Normal(0, variance (f₁ G D Gᵀ + f₂ G C Gᵀ) ⊗ T + noise² N ⊗ K)

with C of currents that have the same variances and are correlated over a region. A model takes f₁ for 1 and f₂ for 0.
Where its currents are independent and the true ones are not, single places come out right and means over regions are
too small, with intervals that are too narrow: independent currents cancel in a mean. One step of Fisher's scoring from
there tells both, for one product of the gain, and with them the variance of a region's mean.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.sparse import csr_array
from scipy.spatial import cKDTree
from scipy.stats import norm

from bayesinv.axes import Array, Index
from bayesinv.covariance.covariance import Structure
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.inference.depth import timeless
from bayesinv.posterior.checks import Check
from bayesinv.posterior.mixture import Mixture
from bayesinv.posterior.regions import signs
from bayesinv.problem.problem import Problem

LENGTH = 0.02
"""Distance in m at which correlation has fallen to 0.14, along the cortex where there is a mesh."""

REGION = 0.015
"""Radius in m of the regions."""

COUNT = 30
"""Regions of which the variance is looked at, evenly taken from those around every source."""

LIMIT = 1.4
"""Times as large as the posterior takes them that means over regions may be, as currents over time and depth."""

SIGNIFICANCE = 1e-4
"""Probability with which currents that are as the posterior takes them differ by chance."""


def neighbours_checks(problem: Problem, mixed: Mixture) -> list[Check]:
    """Return the check that means over regions are as large as they are taken to be.

    It takes the node of most weight. Nothing is returned where positions are not known, or where regions hold one
    source, or the prior correlates currents over just these.
    """
    best = int(np.argmax(mixed.weights))
    structure, variance, noise = mixed.structures[mixed.which[best]], float(mixed.variance[best]), mixed.noise[best]
    if problem.sources is None or problem.source_count < 2 or not variance > 0:
        return []
    own = timeless(structure)
    together, ratios = problem.shared.recall("neighbours", own.key, lambda: _together(problem, own))
    scores, information = Spectrum.of(problem, structure).scores(variance, float(noise), (own.gram(problem), together))
    values, vectors = np.linalg.eigh(information)
    if not values[0] > 1e-9 * values[-1]:
        return []
    covariance = (vectors / values) @ vectors.T
    steps = covariance @ scores
    factor = float(np.sqrt(max(0.0, 1 + steps[0] + float(np.max(steps[1] * ratios)))))
    chance = 2 * float(norm.sf(abs(steps[1]) / np.sqrt(covariance[1, 1])))
    passed = bool(factor <= LIMIT or chance > SIGNIFICANCE)
    note = (
        f"means over regions of {1e3 * REGION:.0f} mm radius are {factor:.2g} times as large as the posterior takes "
        "them; 1 where the prior is right about how neighbours go together, and above it intervals of regions are too "
        "narrow"
    )
    if not passed:
        note += (
            '. Take a model that learns how far currents go together ("smooth"; with a time constant: '
            '`Currents(..., length=, time=)`), or few sources ("focal")'
        )
    return [Check("currents of neighbours", factor, f"at most {LIMIT:g}, or by chance", passed, note)]


def _together(problem: Problem, own: Structure) -> tuple[Array, Array]:
    """Gram matrix of currents that go together, and the variances of means over regions by theirs of the structure.

    These are two ratios: of plain means, and of means of currents flipped to the direction of the region's centre.
    """
    product = _along_surface(problem, own) or _within_radius(problem, own)
    reached = product(problem.gain.T)
    ratios = []
    for table in _means(problem, np.linspace(0, problem.source_count - 1, COUNT).astype(int)):
        more = np.einsum("ra,ar->r", table, product(table.T))
        ratios.append(float(np.mean(more / np.einsum("ra,ar->r", table, own.product(problem, table.T)))))
    gram = problem.gain @ reached
    return 0.5 * (gram + gram.T), np.array(ratios)


def _along_surface(problem: Problem, own: Structure) -> Callable[[Array], Array] | None:
    """The covariance of currents that go together along the cortex, times a table; None where there is no mesh."""
    if problem.sources is None or problem.sources.triangles is None:
        return None
    try:
        shortest, longest = problem.surface.limits
    except ValueError:
        # Triangles that make no surface tell nothing about what lies beside what.
        return None
    smooth = replace(own, length=float(np.clip(LENGTH, shortest, longest)), factor=None, shares=None)
    return lambda table: smooth.product(problem, table)


def _within_radius(problem: Problem, own: Structure) -> Callable[[Array], Array]:
    """The covariance of currents that are sums of what all places within a radius share, times a table."""
    assert problem.sources is not None
    row, column = problem.sources.pairs_within(REGION)
    count = problem.source_count
    shared = csr_array((np.ones(len(row)), (row, column)), shape=(count, count))
    size = np.sqrt(np.bincount(column, minlength=count))
    half = np.sqrt(own.diagonal(problem)).reshape(count, problem.axes)

    def product(table: Array) -> Array:
        each = half[:, :, None] * table.reshape(count, problem.axes, -1) / size[:, None, None]
        flat = each.reshape(count, -1)
        found = (shared.T @ (shared @ flat)).reshape(each.shape)
        return np.asarray((half[:, :, None] * found / size[:, None, None]).reshape(table.shape))

    return product


def _means(problem: Problem, centres: Index) -> tuple[Array, ...]:
    """Means (mean, amplitude) over the regions around some sources, of every axis, and of flipped currents."""
    sources, axes = problem.sources, problem.axes
    assert sources is not None
    tree = cKDTree(sources.positions)
    plain = np.zeros((len(centres), problem.source_count))
    flips = plain.copy()
    for mean, flipped, centre in zip(plain, flips, centres, strict=True):
        inside = np.array(tree.query_ball_point(sources.positions[centre], REGION))
        if sources.hemispheres is not None:
            inside = inside[sources.hemispheres[inside] == sources.hemispheres[centre]]
        mean[inside] = flipped[inside] = 1 / len(inside)
        if axes == 1 and sources.normals is not None:
            flipped[inside] *= signs(sources.normals[inside], sources.normals[centre])
    if axes > 1:
        return (np.asarray(np.kron(plain, np.eye(axes)), dtype=np.float64),)
    return plain, flips
