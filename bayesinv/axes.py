"""Arrays with named axes: checks of their values and shapes, with the same error messages everywhere."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]


NO_NUMBERS = {"c": "is complex", "US": "holds text", "b": "holds truth values", "mM": "holds dates or times"}
"""What arrays of some kinds hold that are no real numbers."""


def is_number(value: object) -> bool:
    """Whether a value is one real number; a truth value is none."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def real(name: str, value: ArrayLike, axes: str) -> Array:
    """Return `value` as a float64 array whose axes are `axes`.

    Raises
    ------
    ValueError
        If the value is not numeric, has another number of axes, or holds NaN, infinity, or what a mask hides.
    """
    try:
        given = np.asarray(value)
        kind = next((word for kinds, word in NO_NUMBERS.items() if _holds(given, kinds)), None)
        if kind is not None:
            raise ValueError(f"it {kind}")
        # A view, so that freezing a noun leaves the caller's own array writeable.
        array = np.asarray(given, dtype=np.float64).view()
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be an array of real numbers, but {error}") from None
    if np.ma.is_masked(value):
        hidden = int(np.ma.count_masked(value))
        raise ValueError(f"{name} has a mask that hides {hidden} of {array.size} values; fill or drop them first")
    wanted = axes.split()
    if array.ndim != len(wanted):
        raise ValueError(f"{name} has shape {array.shape}, but wants {len(wanted)} axes: ({', '.join(wanted)})")
    if any(axis.isdigit() and length != int(axis) for axis, length in zip(wanted, array.shape, strict=True)):
        raise ValueError(f"{name} has shape {array.shape}, but its axes are ({', '.join(wanted)})")
    bad = array.size - int(np.count_nonzero(np.isfinite(array)))
    if bad:
        raise ValueError(
            f"{name} holds {bad} NaN or infinite value{'s' * (bad > 1)} of {array.size}; "
            "mend or drop them before the inversion"
        )
    return array


def dimensions(value: ArrayLike) -> int:
    """Return the number of axes of a value, 0 where rows differ in length."""
    try:
        return np.ndim(value)
    except ValueError:
        return 0


def owned(name: str, value: ArrayLike, axes: str) -> Array:
    """Return `real`, copied where the caller could change it afterwards."""
    array: NDArray[Any] = real(name, value, axes)
    owner = array
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    return array.copy() if owner.flags.writeable else array


def _holds(array: NDArray[Any], kinds: str) -> bool:
    """Whether an array is of some kinds, or of objects one of which is."""
    if array.dtype.kind != "O":
        return array.dtype.kind in kinds
    return any(np.asarray(one).dtype.kind in kinds for one in array.ravel())


def same_axes(**named: tuple[NDArray[Any], str]) -> None:
    """Check that arrays which share the name of an axis agree on its length.

    `same_axes(gain=(gain, "sensor source"), recording=(recording, "sensor time"))`; an axis that is a digit
    must have that length.

    Raises
    ------
    ValueError
        If an array has another number of axes than named, or two arrays disagree on a length.
    """
    lengths: dict[str, tuple[int, str]] = {}
    for name, (array, axes) in named.items():
        wanted = axes.split()
        if array.ndim != len(wanted):
            raise ValueError(f"{name} has shape {array.shape}, but wants {len(wanted)} axes: ({', '.join(wanted)})")
        for axis, length in zip(wanted, array.shape, strict=True):
            if axis.isdigit():
                if length != int(axis):
                    raise ValueError(f"{name} has shape {array.shape}, but its axes are ({', '.join(wanted)})")
                continue
            if axis in lengths and lengths[axis][0] != length:
                raise ValueError(
                    f"{name} has {axis} = {length}, but {lengths[axis][1]} has {axis} = {lengths[axis][0]}"
                )
            lengths.setdefault(axis, (length, name))


def one_of(what: str, given: str, known: Iterable[str], remedy: str = "") -> str:
    """Return `given` if it is among `known`; otherwise raise an error that lists the names and suggests the closest.

    Raises
    ------
    ValueError
        If `given` is not among `known`.
    """
    names = sorted(known)
    if given in names:
        return given
    by_lowercase = {name.lower(): name for name in names}
    closest = get_close_matches(str(given).lower(), by_lowercase, n=1)
    hint = f": did you mean {by_lowercase[closest[0]]!r}? There" if closest else "; there"
    raise ValueError(f"no {what} named {given!r}{hint} are {', '.join(names)}{remedy}")


def freeze(*arrays: NDArray[Any] | None) -> None:
    """Make the arrays read-only, so that a dataclass stays as it was checked."""
    for array in arrays:
        if array is not None:
            array.flags.writeable = False


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Return a contiguous view that cannot be written to: a loop is compiled once for these, and again for others."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view
