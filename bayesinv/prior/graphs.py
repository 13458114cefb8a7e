"""PyTensor graphs: which values are one, and the lock that is held while one is made."""

from __future__ import annotations

from threading import RLock
from typing import Any

import numpy as np

GRAPHS = RLock()
"""Held while PyMC builds a model or PyTensor makes a function: their settings belong to the process, not to a thread.

Whoever wants it takes it before asking a memory, and what a problem's memories make never wants it: so none who holds
it waits for one who wants it.
"""

Number = Any
"""A Python number, or a PyTensor scalar that a model learns."""


def symbolic(value: Any) -> bool:
    """Whether a value is a graph that a model learns."""
    return hasattr(value, "owner") and not isinstance(value, np.ndarray)
