"""The command line: its commands, their exit codes, and errors as one line.

Modules of commands import heavy libraries only when a command runs, so that help is printed at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from cyclopts import App, CycloptsError

import bayesinv
from bayesinv.cli.compare import compare
from bayesinv.cli.demo import demo
from bayesinv.cli.evaluate import evaluate
from bayesinv.cli.fit import fit
from bayesinv.cli.forward import forward
from bayesinv.cli.models import models
from bayesinv.cli.outcome import BROKEN, INTERRUPTED, PASSED, PROGRAM, REFUSED, fail, tidy_warnings

app = App(
    name=PROGRAM,
    help="Bayesian EEG/MEG source imaging: from a recording to the posterior of the currents behind it.",
    help_epilogue="Exit codes: 0 all checks passed, 1 a check failed, 2 bad input, 130 interrupted.",
    version=bayesinv.__version__,
    suppress_keyboard_interrupt=False,
)
for command in (fit, demo, compare, forward, evaluate, models):
    app.command(command)


def main() -> None:
    """Run the command line and exit."""
    sys.exit(run())


def run(tokens: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; errors become one line on the error stream."""
    try:
        with tidy_warnings():
            code = app(
                None if tokens is None else list(tokens),
                exit_on_error=False,
                print_error=False,
                result_action="return_value",
            )
        return code if isinstance(code, int) else PASSED
    except KeyboardInterrupt:
        return fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # The reader closed the pipe; without this, Python would report it again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PASSED
    except CycloptsError as error:
        return fail(f"{error} (try '{PROGRAM} --help')", REFUSED)
    except (ValueError, OSError) as error:
        return fail(str(error) or type(error).__name__, REFUSED)
    except Exception as error:
        if os.environ.get("BAYESINV_DEBUG"):
            raise
        words = f"{type(error).__name__}: {error} (an error of this program; BAYESINV_DEBUG=1 shows where)"
        return fail(words, BROKEN)
