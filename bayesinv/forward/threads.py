"""Loops shared between threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np


def thread_count() -> int:
    """Return the number of processors available to this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def share_work(work: Callable[..., None], count: int, *rest: Any) -> None:
    """Run `work(first, last, *rest)` on ranges of `count` items in threads; it must release the interpreter lock."""
    workers = min(thread_count(), max(count, 1))
    cuts = np.linspace(0, count, 4 * workers + 1 if workers > 1 else 2).astype(int).tolist()
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(work, a, b, *rest) for a, b in pairwise(cuts) if b > a]
        for future in futures:
            future.result()
