"""Whether means over regions are as large as a posterior takes them to be: currents of neighbours that go together.

    recording ~ Normal(0, variance (f₁ G D Gᵀ + f₂ G C Gᵀ) ⊗ T + noise² N ⊗ K)

with C of currents that have the variances of D and are one in each cell: cubes of some size, or all of the cortex. A
model takes f₁ for 1 and f₂ for 0. Where its currents are independent and the true ones are not, single places come out
right and means over regions are too small, with intervals that are too narrow: independent currents cancel in a mean.
One step of Fisher's scoring from there tells both, at the cost of some sums of the gain, and with them the variance of
a region's mean.
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammainc, gammaincc

from bayesinv.axes import Array, Index
from bayesinv.covariance.covariance import Structure
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.head.sources import Sources
from bayesinv.inference.depth import scoring_step, timeless
from bayesinv.posterior.checks import Check
from bayesinv.posterior.mixture import Mixture
from bayesinv.posterior.regions import signs, within
from bayesinv.problem.problem import Problem

CELL = 0.03
"""Edge in m of the cubes in which currents go together. Of fields of 14 to 50 mm along a folded cortex the ratios then
come out as with these fields themselves, to 0.1."""

EVERYWHERE = "all of the cortex"
"""What the cell of all places is called."""

REGION = 0.015
"""Radius in m of the regions."""

COUNT = 30
"""Regions of which the variance is looked at, evenly taken from those around every source."""

LIMIT = 1.25
"""Times as large as the posterior takes them that means over regions may be: 90 % intervals then hold 81 %. One step
tells less than is true where currents are in part independent, so that this is below the limits over time and depth."""

SIGNIFICANCE = 1e-3
"""Probability with which currents that are as the posterior takes them differ by chance."""


def neighbours_checks(problem: Problem, mixed: Mixture) -> list[Check]:
    """Return the check that means over regions are as large as they are taken to be.

    It takes the node of most weight. Nothing is returned where positions are not known, or where cells hold one source
    each, or the prior has just these cells.
    """
    best = int(np.argmax(mixed.weights))
    structure, variance, noise = mixed.structures[mixed.which[best]], float(mixed.variance[best]), mixed.noise[best]
    if problem.sources is None or problem.source_count < 2 or not variance > 0:
        return []
    own = timeless(structure)
    gram, together = problem.shared.recall("neighbours", own.key, lambda: (own.gram(problem), _together(problem, own)))
    spectrum = Spectrum.of(problem, structure)
    found = []
    for where, part, ratios in together:
        step = scoring_step(*spectrum.scores(variance, float(noise), (gram, part)), 1e-9)
        if step is not None:
            steps, covariance, information = step
            factor = float(np.sqrt(max(0.0, 1 + steps[0] + float(np.max(steps[1] * ratios)))))
            shape = spectrum.traces(variance, float(noise), (part,))[0] ** 2 / (4 * information[1, 1])
            chance = _chance(float(steps[1] / np.sqrt(covariance[1, 1])), float(shape))
            found.append((chance <= SIGNIFICANCE, factor, where))
    if not found:
        return []
    # By chance a factor may be anything where the recording says little.
    told = [one for one in found if one[0]]
    sure, factor, where = max(told, key=lambda one: one[1]) if told else found[0]
    passed = not sure or factor <= LIMIT
    note = (
        f"means over regions of {1e3 * REGION:.0f} mm radius are {factor:.2g} times as large as the posterior takes "
        f"them, if currents go together in {where}"
        f"{'' if sure else ', which may be chance'}; 1 where the prior is right about how they do, and above it "
        "intervals of regions are too narrow"
    )
    if not passed:
        note += (
            '. Take a model that learns how far currents go together ("smooth"; with a time constant: '
            '`Currents(..., length=, time=)`), or few sources ("focal")'
            if where != EVERYWHERE
            else ". No shipped prior knows a course that all places share; look for what reaches all sensors (the "
            "reference, eyes, heart)"
        )
    return [Check("currents of neighbours", factor, f"at most {LIMIT:g}, or by chance", passed, note)]


def _chance(size: float, shape: float) -> float:
    """Probability of a score as far from 0 as some standard deviations: of a sum of squares, matched by a gamma.

    shape : squared mean of the sum over its variance; a normal distribution tells too little of few samples
    """
    place = shape + size * np.sqrt(shape)
    return 2 * float(min(gammainc(shape, max(place, 0.0)), gammaincc(shape, max(place, 0.0))))


def _together(problem: Problem, own: Structure) -> list[tuple[str, Array, Array]]:
    """For each size of cells their name, the Gram matrix of currents that go together in them, and two ratios.

    These are the variances of means over regions by theirs of the structure: of plain means, and of means of currents
    flipped to the direction of the region's centre.
    """
    sources, axes = problem.sources, problem.axes
    assert sources is not None
    half = np.sqrt(own.diagonal(problem))
    tables = _means(problem, np.linspace(0, problem.source_count - 1, COUNT).astype(int))
    variances = [np.einsum("ra,ar->r", table, own.product(problem, table.T)) for table in tables]
    out = []
    for where, size in ((f"cells of {1e3 * CELL:.0f} mm", CELL), (EVERYWHERE, None)):
        cell = cells(sources, size)
        if cell.max() + 1 == len(cell):
            continue
        # Every axis goes together with itself.
        cell = (axes * cell[:, None] + np.arange(axes)).ravel()
        fields = _sums(problem.gain * half, cell)
        ratios = []
        for table, variance in zip(tables, variances, strict=True):
            # A prior may leave regions without currents.
            some = variance > 1e-12 * variance.max()
            more = np.sum(_sums(table[some] * half, cell) ** 2, axis=1)
            ratios.append(float(np.mean(more / variance[some])) if some.any() else 0.0)
        out.append((where, fields @ fields.T, np.array(ratios)))
    return out


def cells(sources: Sources, size: float | None) -> Index:
    """Return the cell of each source (source,): a cube of a hemisphere, of an edge in m; None for one of all."""
    if size is None:
        return np.zeros(len(sources), dtype=np.int64)
    corner = np.floor((sources.positions - sources.positions.min(axis=0)) / size)
    side = np.zeros(len(sources)) if sources.hemispheres is None else sources.hemispheres
    return np.unique(np.column_stack([corner, side]), axis=0, return_inverse=True)[1].reshape(-1)


def _sums(table: Array, cell: Index) -> Array:
    """Sums of columns (row, amplitude) over cells: (row, cell)."""
    order = np.argsort(cell, kind="stable")
    starts = np.searchsorted(cell[order], np.arange(cell.max() + 1))
    return np.asarray(np.add.reduceat(table[:, order], starts, axis=1))


def _means(problem: Problem, centres: Index) -> tuple[Array, ...]:
    """Means (mean, amplitude) over the regions around some sources, of every axis, and of flipped currents."""
    sources, axes = problem.sources, problem.axes
    assert sources is not None
    plain = np.zeros((len(centres), problem.source_count))
    flips = plain.copy()
    for mean, flipped, centre in zip(plain, flips, centres, strict=True):
        inside = within(sources, REGION, int(centre))
        mean[inside] = flipped[inside] = 1 / len(inside)
        if axes == 1 and sources.normals is not None:
            flipped[inside] *= signs(sources.normals[inside], sources.normals[centre])
    if axes > 1:
        return (np.asarray(np.kron(plain, np.eye(axes)), dtype=np.float64),)
    return plain, flips
