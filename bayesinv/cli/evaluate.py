"""`bayesinv evaluate`: every method on simulated recordings whose truth is known."""

from __future__ import annotations

from pathlib import Path

from bayesinv.cli.options import Switch
from bayesinv.cli.outcome import FAILED, PASSED, fail
from bayesinv.cli.screen import Stages, show_table, show_text
from bayesinv.progress import on_terminal


def evaluate(
    config: str,
    *,
    out: Path,
    jobs: int = 1,
    allow_inverse_crime: Switch = False,
) -> int:
    """Run every method on simulated recordings whose truth is known, and say how far each is off and how sure it was.

    The truths lie in another head than the inversion's. Writes `table.csv` (one row per answer), `summary.csv`,
    `curves.csv`, pictures and a self-contained `report.html`. A run that was interrupted is continued by the same
    command. The exit code is 1 if a cell raised.

    Parameters
    ----------
    config
        small (ten minutes on two cores), full, peers (the protocol of other toolboxes), or a .toml file.
    out
        Folder to write, new or begun with the same configuration.
    jobs
        Cells that run at once; -1 for as many as there are processors.
    allow_inverse_crime
        Let the inversion have the truth's own lead field. Everything that is written is stamped then.
    """
    if jobs == 0:
        raise ValueError("jobs is 0, but at least one is wanted, or -1 for all processors")
    stages = Stages()
    with stages("load libraries"):
        from bayesinv.evaluation import cell, configuration
        from bayesinv.report.evaluation import evaluate as evaluated
    checked = configuration.Configuration.of(config)
    allowed = True if allow_inverse_crime else None
    found = evaluated(checked, out, jobs=jobs, allow_inverse_crime=allowed, progress=on_terminal())
    heads, rows = found.cells_for_people(narrow=True)
    show_table(heads, rows, f"{cell.CRIME.upper() + ': ' if found.crime else ''}{checked.title}")
    show_text(f"wrote {out / found.page}")
    for text in found.failures:
        fail(f"a cell raised: {text}", FAILED)
    return FAILED if found.failures else PASSED
