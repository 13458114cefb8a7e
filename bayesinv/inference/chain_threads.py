"""Threads for chains, each of which computes on a processor of its own.

The products of a chain are too small to be shared between processors: linear algebra that does so all the same spends
most of its time on waiting, and the more so the more chains run.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock

from threadpoolctl import threadpool_limits

from bayesinv.forward.threads import thread_count

SMALL = 100_000
"""Numbers in a table below which chains run one after the other: what threads lose by taking turns takes longer."""


class _OneProcessor:
    """Linear algebra on one processor, for as long as somebody wants it."""

    def __init__(self) -> None:
        self._lock, self._wanted = Lock(), 0
        self._limit: threadpool_limits | None = None

    @contextmanager
    def each(self) -> Iterator[None]:
        """Hold linear algebra to one processor, in the whole process; OpenBLAS takes it from the main thread alone."""
        with self._lock:
            self._wanted += 1
            if self._limit is None:
                self._limit = threadpool_limits(1, user_api="blas")
        try:
            yield
        finally:
            with self._lock:
                self._wanted -= 1
                if not self._wanted and self._limit is not None:
                    self._limit.restore_original_limits()
                    self._limit = None


_ONE_PROCESSOR = _OneProcessor()


@contextmanager
def chain_threads(chains: int, size: int) -> Iterator[ThreadPoolExecutor]:
    """Provide threads for a number of chains, whose tables hold `size` numbers."""
    workers = min(chains, thread_count()) if size > SMALL else 1
    with _ONE_PROCESSOR.each(), ThreadPoolExecutor(workers) as pool:
        yield pool
