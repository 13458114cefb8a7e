"""Parcels: the sources divided into connected patches, by the mesh or by the user's labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components, dijkstra
from scipy.spatial.distance import cdist

from bayesinv.axes import Array, Index, real
from bayesinv.geometry.geodesic import edge_lengths
from bayesinv.head.labels import by_name, is_label, sources_at
from bayesinv.head.sources import Sources

MAX_ITERATIONS = 30
CENTRE_CANDIDATES = 8
"""Number of sources nearest to the mean position of a parcel that are tried as its centre, besides the current one."""


def parcels(sources: Sources, count: int, seed: int | np.random.Generator = 0) -> Index:
    """Return the parcel of each source: (source,), 0 to count - 1, by clustering along the cortical surface.

    Lloyd's algorithm with a source as the centre of each parcel: every source is assigned to the centre nearest along
    the edges of the mesh, then each centre moves to the source near its parcel's mean position that minimises the sum
    of area times squared distance, until none moves. That sum never increases; parcels have similar areas, not equal
    ones. Parcels are connected, and none spans two pieces of the mesh (two hemispheres); each piece has parcels in
    proportion to its area, at least one. Sources without triangles are clustered by Euclidean distance instead,
    separately in each hemisphere if hemispheres are known; such parcels may bridge a sulcus.

    sources : weighted by their areas, if known
    count : number of parcels
    seed : of the random choice of the first centre

    Raises
    ------
    ValueError
        If count is not a whole number from the number of pieces to the number of sources, or sources without
        triangles lie at fewer places than count.

    References: Lloyd (1982), IEEE Trans. Inf. Theory 28, 129-137; Gonzalez (1985), Theor. Comput. Sci. 38, 293-306
    (the first centres, each farthest from those before).
    """
    if isinstance(count, bool) or not isinstance(count, int | np.integer):
        raise ValueError(f"count is {count!r}, but must be a whole number of parcels")
    rng = np.random.default_rng(seed)
    area = np.ones(len(sources)) if sources.areas is None else sources.areas
    if sources.triangles is None:
        edges = None
        piece_of = np.zeros(len(sources), dtype=np.int64) if sources.hemispheres is None else sources.hemispheres
        piece_of = np.unique(piece_of, return_inverse=True)[1]
    else:
        edges = edge_lengths(sources)
        piece_of = connected_components(edges, directed=False)[1]
    sizes = np.bincount(piece_of)
    if not len(sizes) <= count <= len(sources):
        raise ValueError(
            f"count is {count}, but must be from {len(sizes)} (the connected pieces of the mesh, which share no "
            f"parcel) to {len(sources)} (the sources)"
        )
    labels = np.empty(len(sources), dtype=np.int64)
    start = 0
    for piece, number in enumerate(_parcels_per_piece(np.bincount(piece_of, area).astype(float), sizes, int(count))):
        inside = np.flatnonzero(piece_of == piece)
        graph = None if edges is None else edges[inside][:, inside]
        labels[inside] = start + _lloyd(sources.positions[inside], area[inside], graph, number, rng)
        start += number
    return labels


def _parcels_per_piece(areas: Array, sizes: Index, count: int) -> Index:
    """Return the number of parcels (piece,): one each, the others one by one where the area per parcel is largest."""
    counts = np.ones(len(sizes), dtype=np.int64)
    for _ in range(count - len(sizes)):
        counts[np.argmax(np.where(counts < sizes, areas / counts, -1.0))] += 1
    return counts


def _lloyd(positions: Array, area: Array, graph: csr_matrix | None, count: int, rng: np.random.Generator) -> Index:
    """Return the labels (source,) of one connected piece; without a graph distances are Euclidean."""

    def distances(starts: Index, members: Index | slice = slice(None)) -> Array:
        """Return the distances (start, source) from sources of a parcel to all of it, along paths within it."""
        if graph is None:
            return cdist(positions[members][starts], positions[members])
        return np.asarray(dijkstra(graph[members][:, members], directed=False, indices=starts))

    def nearest(centres: Index) -> Index:
        if graph is None:
            return np.asarray(np.argmin(cdist(positions, positions[centres]), axis=1))
        # Every source has the centre of its predecessor, so parcels are connected, ties included.
        _, _, root = dijkstra(graph, directed=False, indices=centres, min_only=True, return_predecessors=True)
        order = np.argsort(centres)
        return np.asarray(order[np.searchsorted(centres, root, sorter=order)])

    centres = _farthest_first(distances, len(positions), count, rng)
    for _ in range(MAX_ITERATIONS):
        labels = nearest(centres)
        moved = centres.copy()
        groups = np.split(np.argsort(labels, kind="stable"), np.cumsum(np.bincount(labels, minlength=count))[:-1])
        for k, members in enumerate(groups):
            weight = area[members] if area[members].any() else np.ones(len(members))
            middle = weight @ positions[members] / weight.sum()
            candidates = np.argsort(np.linalg.norm(positions[members] - middle, axis=1), kind="stable")[
                :CENTRE_CANDIDATES
            ]
            # The current centre comes first, so that it stays if no other is better.
            tried = np.append(np.flatnonzero(members == centres[k]), candidates)
            moved[k] = members[tried[np.argmin(distances(tried, members) ** 2 @ weight)]]
        if (moved == centres).all():
            break
        centres = moved
    return labels


def _farthest_first(distances: Callable[[Index], Array], sources: int, count: int, rng: np.random.Generator) -> Index:
    """Return initial centres (count,): the first at random, each next one farthest from those before."""
    centres = [int(rng.integers(sources))]
    distance = distances(np.array(centres))[0]
    while len(centres) < count:
        centres.append(int(np.argmax(distance)))
        if not distance[centres[-1]] > 0:
            raise ValueError(f"the sources lie at {len(centres) - 1} places, which cannot be {count} parcels")
        distance = np.minimum(distance, distances(np.array(centres[-1:]))[0])
    return np.array(centres)


def check_labels(labels: ArrayLike | Mapping[str, ArrayLike] | Iterable[Any], sources: Sources | int) -> Index:
    """Return labels as the parcel of each source: (source,), -1 for a source in none.

    labels : one of
        (source,) whole numbers from 0, -1 for a source in none;
        a mapping from name to the indices of its sources, or to a label of a surface; numbered in its order;
        labels of a surface, objects with `vertices`, `hemi` ("lh" or "rh") and `name` such as MNE-Python's, numbered in
        their order; they hold the sources at their vertices, and sources must know their vertices and hemispheres
    sources : or, where there is no label of a surface, their number

    Raises
    ------
    ValueError
        If labels overlap, one is empty or covers no source, all together cover none, or they name sources that are
        not there; if labels and sources do not fit in form, hemisphere or subject.
    """
    count = sources if isinstance(sources, int) else len(sources)
    given = labels if isinstance(labels, np.ndarray | Mapping) or is_label(labels) else list(labels)  # type: ignore[arg-type]
    named = None if isinstance(given, np.ndarray) else by_name(given)
    if named is not None:
        return _as_labels({name: _indices(name, one, sources) for name, one in named.items()}, count)
    array = np.asarray(given)
    if array.dtype == bool:
        raise ValueError("labels are true and false, but must be whole numbers; 0 for true and -1 for false, say")
    parcel = np.round(real("labels", array, "source")).astype(np.int64)
    if len(parcel) != count:
        raise ValueError(f"labels has source = {len(parcel)}, but there are {count} sources")
    if (parcel != array).any():
        raise ValueError("labels must be whole numbers, the parcel of each source")
    if parcel.min() < -1:
        raise ValueError(f"labels go down to {parcel.min()}, but start at 0, or -1 for a source in no parcel")
    if parcel.max() < 0:
        raise ValueError("labels cover no source: all are -1")
    empty = np.setdiff1d(np.arange(parcel.max()), parcel)
    if empty.size:
        some = ", ".join(map(str, empty[:5])) + ", ..." * (empty.size > 5)
        raise ValueError(
            f"labels go up to {parcel.max()}, but no source has {some}; number the parcels without gaps, "
            "as numpy.unique(labels, return_inverse=True)[1] does where every source is in one"
        )
    return parcel


def _indices(name: str, index: Any, sources: Sources | int) -> Index:
    """Return the indices of a label's sources, checked."""
    if is_label(index):
        return sources_at(name, index, sources)
    array, count = np.asarray(index), sources if isinstance(sources, int) else len(sources)
    if array.size == 0:
        raise ValueError(f"label {name!r} is empty; drop it")
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(
            f"label {name!r} must be the indices of its sources, whole numbers along one axis, but is "
            f"{array.dtype} of shape {array.shape}; numpy.flatnonzero turns a mask into indices"
        )
    if array.min() < 0 or array.max() >= count:
        worst = array.min() if array.min() < 0 else array.max()
        raise ValueError(
            f"label {name!r} names source {worst}, but the sources are 0 to {count - 1}; vertices of a surface want a "
            "label that says which hemisphere, such as mne.Label"
        )
    return array.astype(np.int64)


def _as_labels(found: Mapping[str, Index], count: int) -> Index:
    """Return the parcel (source,) of each source from the sources of each parcel."""
    if not found:
        raise ValueError("labels cover no source: there are none")
    parcel = np.full(count, -1, dtype=np.int64)
    names = list(found)
    for number, (name, index) in enumerate(found.items()):
        overlap = index[parcel[index] >= 0]
        if overlap.size:
            raise ValueError(
                f"labels {names[parcel[overlap[0]]]!r} and {name!r} overlap: both have source {overlap[0]}; "
                "a source lies in one parcel at most"
            )
        parcel[index] = number
    return parcel
