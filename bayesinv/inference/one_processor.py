"""Linear algebra on one processor.

Its products here are too small to be shared between processors: linear algebra that does so all the same spends most of
its time on waiting, the more so the more else runs on the machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import scipy.linalg  # noqa: F401  (its linear algebra is to be found, beside NumPy's)
from threadpoolctl import ThreadpoolController


class _OneProcessor:
    """Linear algebra on one processor, for as long as somebody wants it."""

    def __init__(self) -> None:
        self._lock, self._wanted = Lock(), 0
        self._libraries: ThreadpoolController | None = None
        self._limit: Any = None

    @contextmanager
    def each(self) -> Iterator[None]:
        """Hold linear algebra to one processor, in the whole process; OpenBLAS takes it from the main thread alone."""
        with self._lock:
            self._wanted += 1
            if self._limit is None:
                # Looking for the libraries takes milliseconds.
                self._libraries = self._libraries or ThreadpoolController()
                self._limit = self._libraries.limit(limits=1, user_api="blas")
        try:
            yield
        finally:
            with self._lock:
                self._wanted -= 1
                if not self._wanted and self._limit is not None:
                    self._limit.restore_original_limits()
                    self._limit = None


one_processor = _OneProcessor().each
"""A context in which linear algebra keeps to one processor; contexts may overlap, from several threads."""
