"""Processes that hold one large object and do on it what they are told.

Python computes in one thread at a time, whatever the number of processors; processes do not wait for each other. One is
started as any program is, by the interpreter that runs: it is no copy of this process, in which threads may hold locks,
and does not run the user's script again. It reads the object from a file, of which large arrays are mapped, so that all
processes share one copy of them. What it is told are functions by name, and what these ask of the process that started
it, such as a prior whose graph cannot be handed over, is answered there.
"""

from __future__ import annotations

import mmap
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast

LARGE, ALIGNED = 2**20, 64
"""Bytes of an array from which on it is mapped, and what its place in the file is a multiple of."""

ONE_PROCESSOR = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)

DONE, RAISED, ASKED = "done", "raised", "asked"

Answers = Mapping[str, Callable[..., Any]]
"""What may be asked, by name."""


def write_shared(path: Path, thing: Any) -> None:
    """Write an object into a file that `read_shared` reads."""
    large: list[memoryview] = []

    def is_small(buffer: pickle.PickleBuffer) -> bool:
        view = buffer.raw()
        if view.nbytes >= LARGE:
            large.append(view)
        return view.nbytes < LARGE

    rest = pickle.dumps(thing, protocol=5, buffer_callback=is_small)
    with path.open("wb") as file:
        pickle.dump((rest, [view.nbytes for view in large]), file)
        for view in large:
            file.write(bytes(-file.tell() % ALIGNED))
            file.write(view)


def read_shared(path: Path) -> Any:
    """Read an object; its large arrays are those of the file, and not to be written to."""
    with path.open("rb") as file:
        rest, sizes = pickle.load(file)
        if not sizes:
            return pickle.loads(rest)
        start, table = file.tell(), memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    views = []
    for size in sizes:
        start += -start % ALIGNED
        views.append(table[start : start + size])
        start += size
    return pickle.loads(rest, buffers=views)


@dataclass(frozen=True, eq=False)
class Desk:
    """Where functions work: with the object, what was made so far, and somebody to ask.

    shared : the object
    ask : asks by a name and what is given with it
    kept : by number
    """

    shared: Any
    ask: Callable[..., Any]
    kept: dict[int, Any] = field(default_factory=dict)

    def do(self, function: Callable[..., Any], *given: Any) -> Any:
        """Return what a function of this desk and of what is given returns."""
        return function(self, *given)


class Worker:
    """A process with a desk of its own.

    path : file with the object, as `write_shared` wrote it
    answers : to what functions ask

    Raises
    ------
    OSError
        If there is no process to be had.
    """

    def __init__(self, path: Path, answers: Answers) -> None:
        self.answers = answers
        if not sys.executable or getattr(sys, "frozen", False):
            raise OSError("there is no Python interpreter to start")
        # A program's own folder is that of -c otherwise.
        folders = [one for one in sys.path if isinstance(one, str)]
        code = f"import sys; sys.path[:] = {folders!r}; from bayesinv.inference.processes import serve; serve()"
        windows = sys.platform == "win32"
        # Ctrl-C is for the process that started it, which ends it.
        self._process = subprocess.Popen(
            [sys.executable, "-c", code, os.fspath(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **ONE_PROCESSOR},
            start_new_session=not windows,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0) if windows else 0,
        )
        self._out, self._in = cast(BinaryIO, self._process.stdin), cast(BinaryIO, self._process.stdout)

    def do(self, function: Callable[..., Any], *given: Any) -> Any:
        """Return what a function of a module, of the desk and of what is given, returns there.

        Raises
        ------
        RuntimeError
            If the process ended. What the function raises is raised here.
        """
        try:
            _send(self._out, (function, given))
            while True:
                kind, value = pickle.load(self._in)
                if kind == RAISED:
                    raise value
                if kind == DONE:
                    return value
                name, asked = value
                _send(self._out, self.answers[name](*asked))
        except (EOFError, BrokenPipeError, ConnectionResetError) as error:
            raise RuntimeError(
                f"a process that samples ended by itself, with exit code {self._process.wait()}; it may have been "
                "ended because memory was short. Close other programs, or infer from fewer sources"
            ) from error

    def kill(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """End the process, at whose pipes nobody waits any more."""
        self.kill()
        self._in.close()
        # What was left to be sent has nobody to go to.
        with suppress(BrokenPipeError):
            self._out.close()


def _send(pipe: BinaryIO, thing: Any) -> None:
    pickle.dump(thing, pipe, protocol=5)
    pipe.flush()


def serve() -> None:
    """Do what is told on the standard input, until it ends; what others print goes to the standard error."""
    told, tell = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)

    def ask(name: str, *given: Any) -> Any:
        _send(tell, (ASKED, (name, given)))
        return pickle.load(told)

    desk = Desk(read_shared(Path(sys.argv[1])), ask)
    try:
        while True:
            function, given = pickle.load(told)
            try:
                reply: tuple[str, Any] = DONE, desk.do(function, *given)
            except (EOFError, BrokenPipeError):
                raise
            except Exception as error:
                error.add_note("".join(traceback.format_exception(error)))
                reply = RAISED, error
            _send(tell, reply)
    except (EOFError, BrokenPipeError):
        # Who started this process has ended, or wants no more.
        os._exit(0)
