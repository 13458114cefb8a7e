"""Who runs chains: processes, where chains are long and there are processors, or threads.

Which of them it is changes no draw: every chain has its own random numbers, and all compute by the same code.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from bayesinv.forward.threads import thread_count
from bayesinv.inference.chain_threads import SMALL, chain_threads
from bayesinv.inference.processes import Answers, Desk, Worker, write_shared

LONG = 800
"""Sweeps of all chains below which no process is started, which takes a second or two."""


class ChainsEndedError(Exception):
    """Raised in threads whose chains nobody waits for any more."""


@dataclass(frozen=True, eq=False)
class ChainWorkers:
    """Desks at which chains are run, each at the same one throughout.

    desks : in this process, or in others
    pool : with a thread for each
    """

    desks: Sequence[Desk | Worker]
    pool: ThreadPoolExecutor

    def each(self, function: Callable[..., Any], *given: Sequence[Any]) -> list[Any]:
        """Return what a function of a desk, a chain's number, and what is given for it returns: (chain,).

        given : (chain,) each
        """
        chains = len(given[0])

        def some(first: int) -> list[Any]:
            desk = self.desks[first]
            numbers = range(first, chains, len(self.desks))
            return [desk.do(function, number, *(one[number] for one in given)) for number in numbers]

        futures = [self.pool.submit(some, first) for first in range(len(self.desks))]
        # Of several that fail the first is told; the others may not have ended.
        for future in wait(futures, return_when=FIRST_EXCEPTION).done:
            future.result()
        out: list[Any] = [None] * chains
        for first, future in enumerate(futures):
            out[first :: len(self.desks)] = future.result()
        return out


@contextmanager
def chain_workers(shared: Any, answers: Answers, chains: int, sweeps: int, size: int) -> Iterator[ChainWorkers]:
    """Provide who runs chains.

    shared : what all chains read
    answers : to what they ask of this process
    sweeps : of all chains, that are made at least
    size : numbers in their tables
    """
    count, ended = min(chains, thread_count()), Event()

    def ask(name: str, *given: Any) -> Any:
        if ended.is_set():
            raise ChainsEndedError
        return answers[name](*given)

    with ExitStack() as stack:
        desks: Sequence[Desk | Worker] = []
        if count > 1 and size > SMALL and sweeps >= LONG:
            desks = stack.enter_context(_processes(shared, answers, count))
        if desks:
            pool = stack.enter_context(ThreadPoolExecutor(count))
        else:
            pool = stack.enter_context(chain_threads(chains, size))
            desks = [Desk(shared, ask)] * (count if size > SMALL else 1)
        stack.callback(ended.set)
        for one in desks:
            if isinstance(one, Worker):
                stack.callback(one.kill)
        yield ChainWorkers(desks, pool)


@contextmanager
def _processes(shared: Any, answers: Answers, count: int) -> Iterator[Sequence[Worker]]:
    """Provide processes, or none, with a warning, where they cannot be had."""
    workers: list[Worker] = []
    # Files that are in use cannot be removed everywhere; the system does so later.
    with tempfile.TemporaryDirectory(prefix="bayesinv-", ignore_cleanup_errors=True) as folder, ExitStack() as ends:
        try:
            write_shared(Path(folder) / "shared", shared)
            for _ in range(count):
                workers.append(Worker(Path(folder) / "shared", answers))
                ends.callback(workers[-1].close)
        except OSError as error:
            workers.clear()
            warnings.warn(
                f"no processes for the chains ({error}); they run in threads, which takes up to twice as long",
                RuntimeWarning,
                stacklevel=2,
            )
        yield workers
