"""Progress bars of long computations, on a terminal or on request.

`shown` means the same everywhere: False shows nothing; None shows a bar if the error stream is a terminal, and nothing
otherwise; True shows it in a notebook too, and its last state in a file.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")

Advance = Callable[[int], None]
"""Advances a bar by a number of steps."""


def on_terminal() -> bool:
    """Whether the error stream is a terminal."""
    return sys.stderr.isatty()


@contextmanager
def bars(shown: bool | None = None) -> Iterator[Callable[[str, int], Advance]]:
    """Provide a function that begins a bar: from its name and its number of steps to the function that advances it.

    Bars of one context stand below each other. They are on the error stream if that is a terminal, else in the output.
    """
    if not (on_terminal() if shown is None else shown):
        yield lambda name, total: lambda count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<14s}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=on_terminal())) as display:

        def begin(name: str, total: int) -> Advance:
            task = display.add_task(name, total=total)
            return lambda count: display.advance(task, count)

        yield begin


@contextmanager
def steps(name: str, total: int, shown: bool | None = None) -> Iterator[Advance]:
    """Provide the function that advances one bar of `total` steps."""
    with bars(shown) as begin:
        yield begin(name, total)


def counted(items: Iterable[Item], advance: Advance) -> Iterator[Item]:
    """Yield the items; each is a step, which is done when the next one is asked for."""
    for one in items:
        yield one
        advance(1)


def over(items: Iterable[Item], name: str, total: int, shown: bool | None = None) -> Iterator[Item]:
    """Yield the items, with a bar."""
    with steps(name, total, shown) as advance:
        yield from counted(items, advance)


@contextmanager
def working(name: str) -> Iterator[None]:
    """Show that a task of unknown length is running, if the error stream is a terminal."""
    if not on_terminal():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(f"{name} ..."):
        yield
