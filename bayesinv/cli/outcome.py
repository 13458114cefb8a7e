"""Exit codes, and errors, warnings and failed checks as single lines on the error stream."""

from __future__ import annotations

import contextlib
import functools
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bayesinv.posterior.posterior import Posterior

PROGRAM = "bayesinv"
PASSED, FAILED, REFUSED, BROKEN, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes: checks passed; a check failed; bad input; an error of this program; interrupted by the user."""


def fail(text: str, code: int) -> int:
    """Print one line on the error stream and return the code."""
    print(f"{PROGRAM}: {' '.join(text.split())}", file=sys.stderr)
    return code


def verdict(posterior: Posterior, name: str | None = None) -> int:
    """Return the exit code of a result, and print failed checks on the error stream.

    name : of one of several
    """
    failed = [check for check in posterior.checks if not check.passed]
    for check in failed:
        of = f" of {name}" if name else ""
        fail(f"check{of} failed: {check.name} is {check.value:.3g}, wanted {check.limit}; {check.note}", FAILED)
    return FAILED if failed else PASSED


def on_one_processor(command: Callable[..., int]) -> Callable[..., int]:
    """Return a command whose linear algebra keeps to one processor, see `bayesinv.inference.one_processor`."""

    @functools.wraps(command)
    def held(*args: Any, **options: Any) -> int:
        from bayesinv.inference.one_processor import one_processor

        with one_processor():
            return command(*args, **options)

    return held


@contextlib.contextmanager
def tidy_warnings() -> Iterator[None]:
    """Show each warning once, as one line on the error stream; those for developers not at all."""
    shown: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        text = " ".join(str(message).split())
        if issubclass(category, UserWarning | RuntimeWarning) and text not in shown:
            shown.add(text)
            print(f"{PROGRAM}: warning: {text}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        # It is about the name of a file, not its content.
        warnings.filterwarnings("ignore", message="This filename")
        warnings.showwarning = show
        yield
