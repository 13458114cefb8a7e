"""Whether the coils of a recording look where those of a forward solution do, and are of the same type.

A coil measures the field along its normal, a planar gradiometer its change along one axis of the plane: one that is
turned round has the other sign, at the same place.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bayesinv.axes import Array
from bayesinv.wording import listed

NOTICED_TURN = 1.0
"""Degrees between a coil's axes in recording and forward solution from which on it is told."""

REFUSED_TURN = 5.0
"""Degrees beyond which it is another coil's field: it errs by 9 % of its size."""

PLANAR = frozenset({2, 3, 3011, 3012, 3013, 3014, 3015})
"""Types of coils (FIFFV_COIL_...) whose first axis matters too, as they measure the change along it."""

ALIKE = (frozenset({3012, 3013, 3014, 3015}), frozenset({3022, 3023, 3024, 3025}))
"""Types that differ in the width of wires or coils alone; MNE-Python renames some of them (`fix_mag_coil_types`)."""


def check_coils(
    names: Sequence[str],
    ours: Mapping[str, Mapping[str, Any]],
    theirs: Mapping[str, Mapping[str, Any]],
    transforms: tuple[Any, Any],
    head_moved: str,
) -> None:
    """Compare axes and types of MEG coils in the recording and in the forward solution.

    ours, theirs : channels by name
    transforms : from device to head, of both; the same where the movement of the head is another's question

    Raises
    ------
    ValueError
        If coils are turned by more than `REFUSED_TURN`, unless `head_moved` is "warn".
    """
    _compare_types(names, ours, theirs)
    turned = {}
    for name in names:
        here, there = (_axes(one[name], to) for one, to in zip((ours, theirs), transforms, strict=True))
        if here is None or there is None:
            continue
        rows = [0, 2] if _type(ours[name]) in PLANAR else [2]
        # The chord between unit vectors, as the cosine of a small angle is 1 up to rounding.
        chord = float(np.linalg.norm(here[rows] - there[rows], axis=1).max())
        turned[name] = float(np.degrees(2 * np.arcsin(min(1.0, chord / 2))))
    far = sorted((name for name in turned if turned[name] > NOTICED_TURN), key=lambda name: -turned[name])
    if not far:
        return
    named = ", ".join(f"{name} {turned[name]:.3g} degrees" for name in far[:5]) + ", ..." * (len(far) > 5)
    words = (
        f"{len(far)} of {len(turned)} MEG coils are turned in the recording against those of the forward solution "
        f"({named}), at their own places in the device: their field has another direction or sign. Mend the channels' "
        '"loc", or compute the forward solution from this recording\'s info'
    )
    if turned[far[0]] > REFUSED_TURN and head_moved == "refuse":
        raise ValueError(f"{words}, or give head_moved='warn' (--head-moved warn) if that is meant")
    warnings.warn(words, stacklevel=5)


def _type(channel: Mapping[str, Any]) -> int:
    """The type of a coil without its grade of compensation, which is in the higher bits."""
    return int(channel["coil_type"]) & 0xFFFF


def _compare_types(
    names: Sequence[str], ours: Mapping[str, Mapping[str, Any]], theirs: Mapping[str, Mapping[str, Any]]
) -> None:
    """Warn of coils of one name and several types."""
    other = []
    for name in names:
        pair = {_type(ours[name]), _type(theirs[name])}
        if len(pair) > 1 and not any(pair <= alike for alike in ALIKE):
            other.append(name)
    if other:
        one, two = _type(ours[other[0]]), _type(theirs[other[0]])
        warnings.warn(
            f"{len(other)} of {len(names)} MEG coils ({listed(other)}) are of another type in the recording than in "
            f"the forward solution, such as {one} and {two} (coil_type): the size of their field may be another's; "
            "compute the forward solution from this recording's info",
            stacklevel=6,
        )


def _axes(channel: Mapping[str, Any], to_head: Any) -> Array | None:
    """Return a coil's axes (axis, 3) in head coordinates; None where they are not known."""
    from mne.io.constants import FIFF

    axes = np.asarray(channel["loc"][3:12], dtype=float)
    if axes.size != 9 or not np.isfinite(axes).all():
        return None
    axes = axes.reshape(3, 3)
    lengths = np.linalg.norm(axes, axis=1, keepdims=True)
    if lengths.min() < 0.5:
        return None
    axes = axes / lengths
    if channel["coord_frame"] == FIFF.FIFFV_COORD_DEVICE:
        if to_head is None:
            return None
        axes = axes @ np.asarray(to_head["trans"], dtype=float)[:3, :3].T
    return axes
