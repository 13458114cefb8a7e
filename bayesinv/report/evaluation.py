"""The page of an evaluation, beside its tables and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from html import escape
from os import PathLike
from pathlib import Path
from typing import Any

from bayesinv import figures
from bayesinv.atomic import write_atomically
from bayesinv.evaluation.cell import CRIME
from bayesinv.evaluation.configuration import Configuration
from bayesinv.evaluation.results import PREFIX, Evaluation
from bayesinv.evaluation.run import run
from bayesinv.evaluation.truths import Estimator
from bayesinv.report.page import Page, html_table


def evaluate(
    configuration: Configuration | str | PathLike[str] | Mapping[str, Any],
    out: str | PathLike[str],
    *,
    jobs: int = 1,
    allow_inverse_crime: bool | None = None,
    referees: Mapping[str, Estimator] | None = None,
    progress: bool = False,
) -> Evaluation:
    """Run a matrix of truths, methods and seeds, and write tables, figures and a page.

    configuration : a checked one, a dict, a TOML file, or the name of a shipped one
    out : folder; a run of the same configuration in it is continued, and finished cells are not run again
    jobs : cells that run at once, as in joblib
    allow_inverse_crime : overrides that of the configuration
    referees : name to an estimator, which is given the problem and the truth; run beside the baselines. One of the same
        name counts as the same when a run is continued
    progress : show a progress bar

    The same configuration gives the same scores, whatever the number of jobs. A cell that raises is reported in
    `failures`, and is run again when the run is continued.

    Raises
    ------
    ValueError
        If the configuration is wrong, or inverts with the truth's own lead field and is not allowed to.
    FileExistsError
        If the folder holds another configuration, or what this program did not write.
    RuntimeError
        If all cells raised.
    """
    found = run(
        configuration,
        out,
        jobs=jobs,
        allow_inverse_crime=allow_inverse_crime,
        referees=referees,
        progress=progress,
    )
    if found.results:
        write(found, out)
    return found


def write(evaluation: Evaluation, out: str | PathLike[str]) -> Path:
    """Write tables, pictures and the page of an evaluation into a folder; return the path of the page.

    Each file is renamed into place when it is complete. In an inverse crime every file name begins with a prefix.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    prefix = PREFIX if evaluation.crime else ""
    tables = {"table.csv": evaluation.table, "summary.csv": evaluation.summary, "curves.csv": evaluation.curves}
    for name, table in tables.items():
        write_atomically(folder / f"{prefix}{name}", table.to_csv(index=False).encode())
    stamp = CRIME.upper() + " " if evaluation.crime else ""
    return _page(evaluation, stamp).write(folder, "report.html", f"{stamp}{evaluation.configuration.title}", prefix)


def _page(evaluation: Evaluation, stamp: str) -> Page:
    """Return the page: what was run, failures, and scores of every method; the stamp precedes every heading."""
    page = Page()
    page.body += _preface(evaluation)
    heads, rows = evaluation.cells_for_people()
    for truth in evaluation.truths:
        own_rows = [row[1:] for row in rows if row[0] == truth]
        page.section(f"{stamp}{truth}", html_table(heads[1:], own_rows))
    heads, rows = evaluation.foci_for_people()
    if rows:
        text = (
            "<p>Foci that are more probable than not, against the dipoles and patches of the truths. A focus without "
            "one within 4 cm is false. Inclusion is the probability that a source’s patch holds a place, or any of a "
            "region’s; by how much it is off is its expected calibration error.</p>"
        )
        page.section(f"{stamp}Focal sources", text + html_table(heads, rows))
    if any(one.tallies for one in evaluation.results):
        coverage = page.picture(
            "coverage.png",
            figures.evaluation_coverage(evaluation),
            "How often intervals of every level hold the truth. Above the diagonal they are too wide, below "
            "too narrow. Averages over all sources hide what happens at the active ones; both are shown.",
        )
        page.section(f"{stamp}Coverage", coverage)
        reliability = page.picture(
            "reliability.png",
            figures.evaluation_reliability(evaluation),
            "Probabilities against frequencies, all sources.",
        )
        page.section(f"{stamp}Reliability", reliability)
    localisation = page.picture(
        "localisation.png",
        figures.evaluation_localisation(evaluation),
        "Distance from the map's peak to the truth.",
    )
    page.section(f"{stamp}Localisation", localisation)
    configuration = [(name, _in_words(value)) for name, value in asdict(evaluation.configuration).items()]
    page.section("Configuration", html_table(("", ""), configuration, numbers=False))
    return page


def _preface(evaluation: Evaluation) -> list[str]:
    """Return the notes above all numbers: inverse crime, number of answers, failures."""
    paragraphs = []
    if evaluation.crime:
        paragraphs.append(
            f'<p class="bad">{CRIME.upper()}: some truths were made with the inversion’s own lead field. These '
            "numbers show how methods perform if their assumptions hold exactly, and say nothing about other cases.</p>"
        )
    seeds = len({one.cell.seed for one in evaluation.results})
    paragraphs.append(f"<p>{len(evaluation.results)} answers to simulations of {seeds} worlds.</p>")
    if evaluation.failures:
        listed = "".join(f"<li>{escape(one)}</li>" for one in evaluation.failures)
        paragraphs.append(
            f'<p class="bad">{len(evaluation.failures)} cells raised and are missing:</p><ul>{listed}</ul>'
        )
    return paragraphs


def _in_words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
