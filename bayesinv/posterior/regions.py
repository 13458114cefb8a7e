"""Regions and patches of sources as weights of functionals, and the rule for flipping signs in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array, eye_array

from bayesinv.axes import Array, Index
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.head.labels import by_name, coverage, is_label, sources_at
from bayesinv.head.sources import Sources
from bayesinv.problem.problem import Problem

PATCH_BLOCK = 256
"""Number of patches that are computed at once where sources are correlated."""


def signs(normals: Array, direction: Array) -> Array:
    """Return -1 for currents whose normal points against a direction, else 1, so that walls of a sulcus do not cancel.

    normals : (source, 3); direction : (3,) or (source, 3)
    """
    return np.where(np.einsum("ni,ni->n", normals, np.broadcast_to(direction, normals.shape)) < 0, -1.0, 1.0)


def main_direction(normals: Array) -> Array:
    """Return the direction (3,) along which normals (source, 3) lie, with most of them pointing along it."""
    main = np.linalg.svd(normals, full_matrices=False)[2][0]
    return np.asarray(main if signs(normals, main).sum() >= 0 else -main)


def regions_of(labels: Any, problem: Problem) -> dict[str, Index]:
    """Return the indices of the sources of each region, by its name.

    labels : region name to the indices of its sources, a mask of them, or a label of a surface; or such labels

    Raises
    ------
    ValueError
        If there is no region, one is empty, names a source that does not exist, or does not fit the sources.
    """
    named = by_name(labels)
    if not named:
        what = "no region was given" if named == {} or labels is None else f"regions are a {type(labels).__name__}"
        raise ValueError(f"{what}; give a mapping from name to the indices of its sources, or labels of MNE-Python")
    return {
        name: sources_at(name, one, problem.sources) if is_label(one) else _indices(name, one, problem.source_count)
        for name, one in named.items()
    }


def region_notes(labels: Any, regions: Mapping[str, Index]) -> tuple[str, ...]:
    """Return, in words, which regions are labels of a surface that hold vertices without a source."""
    named = by_name(labels) or {}
    return tuple(
        filter(None, (coverage(name, named[name], index) for name, index in regions.items() if is_label(named[name])))
    )


def region_weights(problem: Problem, regions: Mapping[str, Index], flip: bool) -> tuple[Array, list[str]]:
    """Return the weights of regions' mean currents (functional, source, [axis]), and a name for each functional.

    Raises
    ------
    ValueError
        If `flip` has no normals to go by.
    """
    count, axes = problem.source_count, problem.axes
    rows, names = [], []
    for name, index in regions.items():
        flips = np.ones(len(index))
        if flip and axes == 1:
            normals = None if problem.sources is None else problem.sources.normals
            if normals is None:
                raise ValueError("flip wants the sources' normals, but this problem has none")
            flips = signs(normals[index], main_direction(normals[index]))
        for axis in range(axes):
            row = np.zeros((count, axes))
            np.add.at(row[:, axis], index, flips / len(index))
            rows.append(row[:, 0] if axes == 1 else row)
            names.append(name if axes == 1 else f"{name} {'xyz'[axis]}")
    return np.array(rows), names


def _indices(name: str, sources: ArrayLike, count: int) -> Index:
    """Indices of a region's sources, checked."""
    index = np.asarray(sources)
    if index.dtype == bool and index.shape != (count,):
        raise ValueError(f"region {name!r} marks source = {index.size}, but there are {count} sources")
    index = np.flatnonzero(index) if index.dtype == bool else index
    if not index.size:
        raise ValueError(f"region {name!r} is empty")
    if index.ndim != 1 or not np.issubdtype(index.dtype, np.integer):
        raise ValueError(
            f"region {name!r} must name its sources by whole numbers along one axis, but holds {index.dtype} of shape "
            f"{index.shape}"
        )
    if index.min() < 0 or index.max() >= count:
        wrong = index.min() if index.min() < 0 else index.max()
        raise ValueError(
            f"region {name!r} names source {wrong}, but there are {count} sources; vertices of a surface want a label "
            "that says which hemisphere, such as mne.Label"
        )
    if len(np.unique(index)) < len(index):
        twice = index[np.bincount(index)[index] > 1][0]
        raise ValueError(f"region {name!r} names source {twice} more than once")
    return index


def has_patches(problem: Problem) -> bool:
    """Whether positions are known, and with fixed orientation normals, by which signs are flipped."""
    return problem.sources is not None and (problem.axes == 3 or problem.sources.normals is not None)


def neighbours(problem: Problem, radius: float, centre: int) -> Index:
    """Return the sources of one hemisphere within `radius` m of a source, that source among them.

    Only the source itself where there are no patches, see `has_patches`.
    """
    sources = problem.sources
    if sources is None or radius <= 0 or not has_patches(problem):
        return np.array([centre], dtype=np.int64)
    return within(sources, radius, centre)


def within(sources: Sources, radius: float, centre: int) -> Index:
    """Return the sources of one hemisphere within `radius` m of a source, that source among them."""
    inside = np.linalg.norm(sources.positions - sources.positions[centre], axis=1) <= radius
    if sources.hemispheres is not None:
        inside &= sources.hemispheres == sources.hemispheres[centre]
    return np.flatnonzero(inside)


def patches(problem: Problem, radius: float) -> csr_array:
    """Return the weights (patch, source) that average the currents of the patch around each source.

    A patch is what lies within `radius` m in the same hemisphere. With fixed orientation currents whose normal
    points against that of the patch's centre are flipped, see `signs`.

    Raises
    ------
    ValueError
        If the radius is negative, or there are no positions, or with fixed orientation no normals.
    """
    count, sources = problem.source_count, problem.sources
    if not 0 <= radius < np.inf:
        raise ValueError(f"radius is {radius}, but must be a length of at least 0 m")
    if radius == 0:
        return csr_array(eye_array(count))
    if sources is None or not has_patches(problem):
        missing = "positions" if sources is None else "normals"
        raise ValueError(f"patches want the sources' {missing}, but this problem has none; use radius=0")
    row, column = sources.pairs_within(radius)
    flips = np.ones(len(row))
    if problem.axes == 1 and sources.normals is not None:
        flips = signs(sources.normals[column], sources.normals[row])
    return csr_array((flips / np.bincount(row, minlength=count)[row], (row, column)), shape=(count, count))


def sums_of(weights: csr_array, table: Array, axes: int) -> Array:
    """Return weighted sums (sum, source) of a table of sources (amplitude, column); an axis is summed with itself."""
    out = np.empty_like(table)
    for axis in range(axes):
        out[axis::axes] = weights @ table[axis::axes]
    return out


def prior_of_sums(spectrum: Spectrum, weights: csr_array) -> Array:
    """Return the relative prior variance (amplitude,) of weighted sums (sum, source) of the currents."""
    problem, structure = spectrum.problem, spectrum.structure
    axes = problem.axes
    out = np.empty(problem.gain.shape[1])
    if structure.diagonal_only:
        squared = weights.multiply(weights)
        for axis in range(axes):
            out[axis::axes] = squared @ spectrum.weights[axis::axes]
        return out
    for start in range(0, problem.source_count, PATCH_BLOCK):
        block = weights[start : start + PATCH_BLOCK].toarray().T
        for axis in range(axes):
            sums = np.zeros((len(block), axes, block.shape[1]))
            sums[:, axis] = block
            flat = sums.reshape(-1, block.shape[1])
            out[start * axes + axis : (start + block.shape[1]) * axes : axes] = np.sum(
                flat * structure.product(problem, flat), axis=0
            )
    return out
