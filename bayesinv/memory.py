"""Memory: results of computations cached by kind and key, of bounded size, each computed once by any thread."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from threading import Event, Lock, RLock, get_ident
from typing import Any, Generic, ParamSpec, TypeVar, overload

import numpy as np
from scipy.sparse import issparse

MAX_BYTES = 2**28
"""Default bound on the bytes that a memory holds."""

MIN_ENTRY_BYTES = 2**12
"""Default of the fewest bytes that an entry counts: its key and the objects around its arrays."""

PLAIN = frozenset({type(None), bool, int, float, str})
"""Types of what holds no array."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass
class _Entry:
    """One value in a memory, with its size in bytes when last measured (key included) and that of its key."""

    value: Any
    size: int
    key_size: int


@dataclass(eq=False)
class _Computation:
    """A computation in progress: the thread that runs it, and an event that is set when it has ended."""

    thread: int
    done: Event


_waits: dict[int, _Computation] = {}
"""From a thread to the computation that it waits for, over all memories."""

_waits_lock = Lock()


class Memory:
    """A cache of results by kind and key.

    owner : name of the object whose results these are, for its representation
    max_bytes : bound on the size of all entries, as `size_of` counts it
    min_entry_bytes : fewest bytes that an entry counts; of entries without arrays, max_bytes / min_entry_bytes are
        held

    When the bound is exceeded, the kind with the most entries evicts its least recently used one, so that few
    expensive results are not displaced by many cheap ones. The entry asked for last stays, however large.

    If several threads ask for one entry at once, the first computes it and the others wait. The computation may ask
    this memory or another for other entries. A thread whose waiting would be a deadlock computes the value itself.

    A pickled or copied memory is empty.
    """

    def __init__(self, owner: str, max_bytes: int = MAX_BYTES, min_entry_bytes: int = MIN_ENTRY_BYTES) -> None:
        self.owner, self.max_bytes, self.min_entry_bytes = owner, max_bytes, min_entry_bytes
        self._lock = RLock()
        self._entries: dict[str, dict[Hashable, _Entry]] = {}
        self._sizes: dict[str, int] = {}
        self._running: dict[tuple[str, Hashable], _Computation] = {}
        self._last_asked: tuple[str, Hashable] | None = None

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(entries)} {kind}" for kind, entries in self._entries.items()) or "nothing"
        return f"Memory({self.owner!r}: {counts}, {self.size} bytes)"

    def __reduce__(self) -> tuple[type[Memory], tuple[str, int, int]]:
        return Memory, (self.owner, self.max_bytes, self.min_entry_bytes)

    @property
    def size(self) -> int:
        """Bytes held."""
        return sum(self._sizes.values())

    def count(self, kind: str) -> int:
        """Number of entries of a kind."""
        return len(self._entries.get(kind, ()))

    def clear(self) -> None:
        """Remove all entries."""
        with self._lock:
            self._entries.clear()
            self._sizes.clear()
            self._last_asked = None

    def recall(self, kind: str, key: Hashable, make: Callable[[], T]) -> T:
        """Return the entry of a kind under a key; compute and store it if there is none.

        make : computes the value, the same in every thread; if it raises, nothing is stored
        """
        thread = get_ident()
        while True:
            with self._lock:
                entries = self._entries.get(kind, {})
                if key in entries:
                    entries[key] = entries.pop(key)
                    # What is asked for again and again is measured once, when something else is asked for.
                    if self._last_asked != (kind, key):
                        self._update_size(self._last_asked)
                        self._last_asked = kind, key
                    found: T = entries[key].value
                    return found
                running = self._running.get((kind, key))
                if running is None:
                    running = self._running[kind, key] = _Computation(thread, Event())
                    break
            if not _wait_unless_circular(running, thread):
                return make()
        try:
            value = make()
            with self._lock:
                self._entries.setdefault(kind, {})[key] = _Entry(value, 0, size_of(key))
                self._update_size(self._last_asked)
                self._update_size((kind, key))
                self._last_asked = kind, key
                self._evict()
            return value
        finally:
            with self._lock:
                del self._running[kind, key]
            running.done.set()

    def keep(self, function: Callable[P, T]) -> Callable[P, T]:
        """Return the function with its results cached here by their arguments, which must be hashable."""
        kind = function.__qualname__

        @wraps(function)
        def recalled(*given: P.args, **named: P.kwargs) -> T:
            return self.recall(kind, (given, tuple(sorted(named.items()))), lambda: function(*given, **named))

        return recalled

    def _update_size(self, asked: tuple[str, Hashable] | None) -> None:
        """Measure an entry, if it is still there: it may have grown since it was asked for."""
        kind, key = asked or ("", None)
        entry = self._entries.get(kind, {}).get(key)
        if entry is not None:
            size = max(entry.key_size + size_of(entry.value), self.min_entry_bytes)
            self._sizes[kind] = self._sizes.get(kind, 0) + size - entry.size
            entry.size = size

    def _evict(self) -> None:
        """Evict entries until the rest is within the bound, or only the entry asked for last is left."""
        while self.size > self.max_bytes:
            others = {
                kind: len(entries) - (kind == self._last_asked[0])
                for kind, entries in self._entries.items()
                if self._last_asked
            }
            kind = max(others, key=lambda one: (others[one], self._sizes[one]))
            if not others[kind]:
                return
            entries = self._entries[kind]
            self._sizes[kind] -= entries.pop(next(iter(entries))).size
            if not entries:
                del self._entries[kind], self._sizes[kind]


def _wait_unless_circular(computation: _Computation, thread: int) -> bool:
    """Wait for another thread's computation; return False at once if that thread waits, even indirectly, for this."""
    with _waits_lock:
        waited: _Computation | None = computation
        while waited is not None and not waited.done.is_set():
            if waited.thread == thread:
                return False
            waited = _waits.get(waited.thread)
        _waits[thread] = computation
    computation.done.wait()
    with _waits_lock:
        del _waits[thread]
    return True


def size_of(thing: Any) -> int:
    """Return the bytes of all arrays and byte strings within an object, each counted once.

    Searched are the fields and cached properties of dataclasses, SciPy's sparse matrices, tuples, lists, sets and
    mappings. The `nbytes` of an object that has it is taken. An object with a `Memory` of its own is not counted: its
    results belong to it, and it is not cached itself.
    """
    total, pending, visited = 0, [thing], dict[int, Any]()
    while pending:
        part = pending.pop()
        if type(part) in PLAIN or id(part) in visited:
            continue
        visited[id(part)] = part
        if type(part) is np.ndarray:
            # Most parts are, and what is asked below takes longer.
            total += part.nbytes
        elif isinstance(part, bytes):
            total += len(part)
        elif isinstance(part, tuple | list | set | frozenset):
            pending.extend(part)
        elif isinstance(part, Mapping):
            pending.extend(part.values())
        elif not issparse(part) and isinstance(size := getattr(part, "nbytes", None), int | np.integer):
            total += int(size)
        elif issparse(part) or (is_dataclass(part) and not isinstance(part, type)):
            parts = list(vars(part).values())
            if not any(isinstance(one, Memory) for one in parts):
                pending.extend(parts)
    return total


class PickledByFields:
    """A frozen dataclass that is pickled and copied by its fields, without its cached properties."""

    def __getstate__(self) -> dict[str, Any]:
        return {one.name: getattr(self, one.name) for one in fields(self)}  # type: ignore[arg-type]


class cached_property(Generic[T]):  # noqa: N801  (replaces functools.cached_property)
    """A property of immutable data that is computed once, as `functools.cached_property` from Python 3.12 on.

    That of Python 3.11 holds one lock for all instances of a class while it computes, so that threads wait for other
    instances, or for each other. Here two threads may compute one value at once; both get the first.
    """

    def __init__(self, function: Callable[[Any], T]) -> None:
        self.function, self.name, self.__doc__ = function, function.__name__, function.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> cached_property[T]: ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: object | None, owner: type) -> cached_property[T] | T:
        if instance is None:
            return self
        found: T = vars(instance).setdefault(self.name, self.function(instance))
        return found
