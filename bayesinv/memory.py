"""Memory: what was worked out is kept by what it is of, in bounds, and made once whoever asks."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from threading import Event, Lock, RLock, get_ident
from typing import Any, Generic, ParamSpec, TypeVar, overload

import numpy as np
from scipy.sparse import issparse

MOST = 2**28
"""Bytes that a memory holds unless it is told otherwise."""

LEAST = 2**12
"""Bytes that everything kept counts at least: its key and the objects around its arrays."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass
class _Kept:
    """One thing in a memory; how large it was when it was last measured, and how large its key is."""

    value: Any
    size: int
    key_size: int


@dataclass(eq=False)
class _Making:
    """One thing that a thread is at work on."""

    thread: int
    done: Event


_waits: dict[int, _Making] = {}
"""Thread to what it waits for, over all memories."""

_waits_lock = Lock()


class Memory:
    """What its owner has worked out, by kind and key.

    owner : who holds it, in a word or two
    most : bytes that it holds, as `size_of` counts them
    least : bytes that everything counts at least; for what has no arrays, most / least is how many are held

    Where more is kept, the kind that holds the most things gives up what was asked for longest ago: what is dear and
    few is not pushed out by what is cheap and many. What was asked for last stays, however large.

    Threads that ask for one thing at once get one thing: the first makes it, the others wait. What makes a thing may
    ask this memory or another for other things. Whoever would close a circle of threads that wait for each other
    makes the thing for itself.

    Pickled or copied, a memory is empty.
    """

    def __init__(self, owner: str, most: int = MOST, least: int = LEAST) -> None:
        self.owner, self.most, self.least = owner, most, least
        self._lock = RLock()
        self._held: dict[str, dict[Hashable, _Kept]] = {}
        self._sizes: dict[str, int] = {}
        self._making: dict[tuple[str, Hashable], _Making] = {}
        self._last: tuple[str, Hashable] | None = None

    def __repr__(self) -> str:
        held = ", ".join(f"{len(kept)} {kind}" for kind, kept in self._held.items()) or "nothing"
        return f"Memory({self.owner!r}: {held}, {self.size} bytes)"

    def __reduce__(self) -> tuple[type[Memory], tuple[str, int, int]]:
        return Memory, (self.owner, self.most, self.least)

    @property
    def size(self) -> int:
        """Bytes held."""
        return sum(self._sizes.values())

    def count(self, kind: str) -> int:
        """How many things of a kind are held."""
        return len(self._held.get(kind, ()))

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._held.clear()
            self._sizes.clear()
            self._last = None

    def recall(self, kind: str, key: Hashable, make: Callable[[], T]) -> T:
        """Return what is held of a kind under a key; if nothing is, make it and keep it.

        make : gives the same value whoever calls it; if it raises, nothing is kept
        """
        me = get_ident()
        while True:
            with self._lock:
                held = self._held.get(kind, {})
                if key in held:
                    held[key] = held.pop(key)
                    self._measure((kind, key))
                    found: T = held[key].value
                    return found
                making = self._making.get((kind, key))
                if making is None:
                    making = self._making[kind, key] = _Making(me, Event())
                    break
            if not _waited(making, me):
                return make()
        try:
            made = make()
            with self._lock:
                self._held.setdefault(kind, {})[key] = _Kept(made, 0, size_of(key))
                self._measure((kind, key))
                self._shrink()
            return made
        finally:
            with self._lock:
                del self._making[kind, key]
            making.done.set()

    def keep(self, function: Callable[P, T]) -> Callable[P, T]:
        """Return the function such that this memory keeps its results by their arguments, which must be hashable."""
        kind = function.__qualname__

        @wraps(function)
        def recalled(*given: P.args, **named: P.kwargs) -> T:
            return self.recall(kind, (given, tuple(sorted(named.items()))), lambda: function(*given, **named))

        return recalled

    def _measure(self, asked: tuple[str, Hashable]) -> None:
        """Measure what was asked for, and once more what was asked for before: it may have grown as it was used."""
        for kind, key in {asked, self._last or asked}:
            kept = self._held.get(kind, {}).get(key)
            if kept is not None:
                size = max(kept.key_size + size_of(kept.value), self.least)
                self._sizes[kind] = self._sizes.get(kind, 0) + size - kept.size
                kept.size = size
        self._last = asked

    def _shrink(self) -> None:
        """Give up things until what is left is within bounds, or there is but the last."""
        while self.size > self.most:
            others = {kind: len(held) - (kind == self._last[0]) for kind, held in self._held.items() if self._last}
            kind = max(others, key=lambda one: (others[one], self._sizes[one]))
            if not others[kind]:
                return
            held = self._held[kind]
            self._sizes[kind] -= held.pop(next(iter(held))).size
            if not held:
                del self._held[kind], self._sizes[kind]


def _waited(making: _Making, me: int) -> bool:
    """Wait until another thread has made a thing, unless it waits, through others or not, for this thread."""
    with _waits_lock:
        one: _Making | None = making
        while one is not None and not one.done.is_set():
            if one.thread == me:
                return False
            one = _waits.get(one.thread)
        _waits[me] = making
    making.done.wait()
    with _waits_lock:
        del _waits[me]
    return True


def size_of(thing: Any) -> int:
    """Return the bytes of all arrays and byte strings that lie in a thing, each counted once.

    They are looked for in fields of dataclasses and what was worked out from them, in SciPy's sparse matrices, in
    tuples, lists, sets and mappings. What tells its own `nbytes` is believed. An object with a `Memory` of its own is
    left out: it owns what is kept of it, and is not kept itself.
    """
    total, left, seen = 0, [thing], dict[int, Any]()
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen[id(one)] = one
        if isinstance(one, bytes):
            total += len(one)
        elif isinstance(one, tuple | list | set | frozenset):
            left.extend(one)
        elif isinstance(one, Mapping):
            left.extend(one.values())
        elif not issparse(one) and isinstance(size := getattr(one, "nbytes", None), int | np.integer):
            total += int(size)
        elif issparse(one) or (is_dataclass(one) and not isinstance(one, type)):
            inside = list(vars(one).values())
            if not any(isinstance(part, Memory) for part in inside):
                left.extend(inside)
    return total


class PickledByFields:
    """A frozen dataclass that is pickled and copied by its fields: what was worked out from them stays behind."""

    def __getstate__(self) -> dict[str, Any]:
        return {one.name: getattr(self, one.name) for one in fields(self)}  # type: ignore[arg-type]


class cached_property(Generic[T]):  # noqa: N801  (stands where functools.cached_property stood)
    """A property of immutable data that is worked out once, as `functools.cached_property` from Python 3.12 on.

    That of Python 3.11 holds one lock for all instances of a class while any of them is at work, so that threads wait
    for what is none of theirs, or for each other. Here two threads may work one thing out at once; both get the first.
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
