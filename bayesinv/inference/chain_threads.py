"""Threads for chains, each of which computes on a processor of its own."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from bayesinv.forward.threads import thread_count
from bayesinv.inference.one_processor import one_processor

SMALL = 100_000
"""Numbers in a table below which chains run one after the other: what threads lose by taking turns takes longer."""


@contextmanager
def chain_threads(chains: int, size: int) -> Iterator[ThreadPoolExecutor]:
    """Provide threads for a number of chains, whose tables hold `size` numbers."""
    workers = min(chains, thread_count()) if size > SMALL else 1
    with one_processor(), ThreadPoolExecutor(workers) as pool:
        yield pool
