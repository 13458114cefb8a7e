"""Labels of a surface: the sources at some vertices of a hemisphere, such as MNE-Python's labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from bayesinv.axes import Index
from bayesinv.head.sources import Sources

HEMISPHERES = {"lh": 0, "rh": 1}


def is_label(given: Any) -> bool:
    """Whether something is a label of a surface: the `vertices` of a `hemi`, or a label of either, `lh` and `rh`."""
    return hasattr(given, "hemi") and (hasattr(given, "vertices") or bool(_halves(given)))


def by_name(labels: Any) -> dict[str, Any] | None:
    """Return labels by name: those of a mapping, or one or several labels of a surface by their own; None for others.

    Raises
    ------
    ValueError
        If labels of a surface share a name, or stand beside other things.
    """
    if isinstance(labels, Mapping):
        return {str(name): one for name, one in labels.items()}
    several = [labels] if is_label(labels) else list(labels) if isinstance(labels, Iterable) else []
    are = [is_label(one) for one in several]
    if not any(are):
        return None
    if not all(are):
        raise ValueError(
            "labels of a surface stand beside other things; give all of them in a mapping from name to set"
        )
    found: dict[str, Any] = {}
    for number, label in enumerate(several):
        name = str(getattr(label, "name", None) or f"label {number}")
        if name in found:
            raise ValueError(f"two labels are called {name!r}; give each its own name")
        found[name] = label
    return found


def sources_at(name: str, label: Any, sources: Sources | int | None) -> Index:
    """Return the indices of the sources that lie at the vertices of a label of a surface, in ascending order.

    sources : must know their vertices and hemispheres; without, or given as a number, there is no telling

    Raises
    ------
    ValueError
        If no source lies at them, or label and sources are of different hemispheres or subjects.
    """
    if not isinstance(sources, Sources) or sources.vertices is None or sources.hemispheres is None:
        raise ValueError(
            "labels on a surface want sources that know their vertices and hemispheres; "
            "give a mapping from name to indices of sources instead"
        )
    subject = getattr(label, "subject", None)
    if subject and sources.subject and subject != sources.subject:
        raise ValueError(
            f"label {name!r} is of subject {subject!r}, but the sources are of {sources.subject!r}, whose vertices "
            "have other places; morph it to that subject"
        )
    inside = np.zeros(len(sources), dtype=bool)
    halves = _halves(label) or (label,)
    for half in halves:
        if half.hemi not in HEMISPHERES:
            raise ValueError(f"label {name!r} has hemi = {half.hemi!r}, but wants one of 'lh' and 'rh'; split it")
        own = sources.hemispheres == HEMISPHERES[half.hemi]
        if not own.any() and len(halves) == 1:
            raise ValueError(f"label {name!r} has hemi = {half.hemi!r}, but no source lies on that hemisphere; drop it")
        inside |= own & np.isin(sources.vertices, half.vertices)
    if not inside.any():
        raise ValueError(
            f"label {name!r} covers no source: none of its {_size(label)} vertices is one; "
            "drop it, or take a finer grid of sources"
        )
    return np.flatnonzero(inside)


def coverage(name: str, label: Any, index: Index) -> str:
    """Return how much of a label of a surface its sources (source,) are, in words; "" where they are all of it."""
    count = _size(label)
    return "" if len(index) == count else f"{name}: {len(index)} of the {count} vertices of the label are sources"


def _halves(label: Any) -> tuple[Any, ...]:
    """The labels of either hemisphere that a label of both is made of; none of others."""
    if hasattr(label, "vertices"):
        return ()
    return tuple(getattr(label, hemi) for hemi in HEMISPHERES if is_label(getattr(label, hemi, None)))


def _size(label: Any) -> int:
    """Number of vertices."""
    return sum(len(np.unique(half.vertices)) for half in _halves(label) or (label,))
