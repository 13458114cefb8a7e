"""The one progress bar: how far a long computation is, for whoever watches a terminal or asked for it.

`shown` means the same everywhere: False is silent; None shows a bar where the error stream is a terminal, and nothing
elsewhere; True, which somebody has asked for, shows it in a notebook too, and its last state in a file.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")

Advance = Callable[[int], None]
"""Moves a bar on by so many steps."""


def watched() -> bool:
    """Whether the error stream is a terminal."""
    return sys.stderr.isatty()


@contextmanager
def bars(shown: bool | None = None) -> Iterator[Callable[[str, int], Advance]]:
    """Give a function that begins a bar: from its name and how many steps it has to what moves it on.

    Bars of one context stand below each other. They are on the error stream where that is a terminal, else in the
    output.
    """
    if not (watched() if shown is None else shown):
        yield lambda name, total: lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<14s}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=watched())) as every:

        def begin(name: str, total: int) -> Advance:
            task = every.add_task(name, total=total)
            return lambda count: every.advance(task, count)

        yield begin


@contextmanager
def steps(name: str, total: int, shown: bool | None = None) -> Iterator[Advance]:
    """Give what moves one bar on."""
    with bars(shown) as begin:
        yield begin(name, total)


def counted(items: Iterable[Item], advance: Advance) -> Iterator[Item]:
    """The items; each is a step, which is done when the next one is asked for."""
    for one in items:
        yield one
        advance(1)


def over(items: Iterable[Item], name: str, total: int, shown: bool | None = None) -> Iterator[Item]:
    """The items, with a bar."""
    with steps(name, total, shown) as advance:
        yield from counted(items, advance)


@contextmanager
def working(name: str) -> Iterator[None]:
    """Show that something whose length is not known is being done, where the error stream is a terminal."""
    if not watched():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(f"{name} ..."):
        yield
