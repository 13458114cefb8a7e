"""Arguments of public functions that are no arrays, checked with one message each."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from bayesinv.axes import is_number

Randomness = np.random.Generator | int | None
"""A generator, a seed, or None for seed 0."""


def is_seed(value: object) -> bool:
    """Whether a value is a whole number of at least 0."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) >= 0


def generator_of(rng: Randomness) -> np.random.Generator:
    """Return a generator as it is given, that of a seed, or of seed 0 for None.

    Raises
    ------
    ValueError
        If it is something else.
    """
    if isinstance(rng, np.random.Generator):
        return rng
    if rng is not None and not is_seed(rng):
        raise ValueError(
            f"rng is {rng!r}, but wants a numpy.random.Generator, a seed of at least 0, or None for seed 0"
        )
    return np.random.default_rng(0 if rng is None else int(rng))


def count_of(name: str, value: object, what: str = "draw") -> int:
    """Return a whole number of at least 1.

    Raises
    ------
    ValueError
        If it is not.
    """
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}, but wants a whole number of at least 1")
    if value < 1:
        raise ValueError(f"{name} is {value}, but at least one {what} is wanted")
    return int(value)


def number_of(name: str, value: object, meaning: str) -> float:
    """Return a real number.

    meaning : what it should be, in words

    Raises
    ------
    ValueError
        If it is not one, or not a number.
    """
    if not is_number(value) or np.isnan(value):  # type: ignore[call-overload]
        raise ValueError(f"{name} is {value!r}, but must be {meaning}")
    return float(value)  # type: ignore[arg-type]


def of_type(name: str, value: object, wanted: type | tuple[type, ...], remedy: str) -> None:
    """Check what an argument is.

    remedy : what makes one, or what to give

    Raises
    ------
    ValueError
        If it is something else.
    """
    if not isinstance(value, wanted):
        kinds = wanted if isinstance(wanted, tuple) else (wanted,)
        names = " or ".join(one.__name__ for one in kinds)
        raise ValueError(f"{name} is of type {type(value).__name__}, but wants a {names}; {remedy}")


def path_of(name: str, value: Any) -> Path:
    """Return a path.

    Raises
    ------
    ValueError
        If it is none.
    """
    of_type(name, value, (str, os.PathLike), "give the path of a file or folder")
    return Path(value)
