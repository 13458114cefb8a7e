"""PyTensor graphs: how they are recognised, and the lock that is held while one is built or compiled."""

from __future__ import annotations

from threading import RLock
from typing import Any

import numpy as np

GRAPH_LOCK = RLock()
"""Held while PyMC builds a model or PyTensor makes a function: their settings belong to the process, not to a thread.

It is acquired before any lock of a `Memory`, and nothing that a problem's memories compute acquires it, so that there
is no deadlock.
"""

Number = Any
"""A Python number, or a PyTensor scalar that a model learns."""


def symbolic(value: Any) -> bool:
    """Whether a value is a PyTensor graph, which a model learns."""
    return hasattr(value, "owner") and not isinstance(value, np.ndarray)
