"""Terminal output: stages with their durations, lines and tables."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from bayesinv.cli.peaks import LEVEL, peak_facts, peaks
from bayesinv.progress import working
from bayesinv.wording import span

if TYPE_CHECKING:
    from rich.console import Console

    from bayesinv.posterior.maps import Maps
    from bayesinv.posterior.peak import Peak
    from bayesinv.posterior.posterior import Posterior


class Stages:
    """Shows the running stage, and keeps the duration of each in s."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.console = _console(error=True)

    @contextlib.contextmanager
    def __call__(self, name: str, has_bar: bool = False) -> Iterator[None]:
        """Run a stage.

        has_bar : whether it shows its own progress
        """
        started, before = time.perf_counter(), self.seconds.get(name, 0.0)
        with contextlib.nullcontext() if has_bar else working(name):
            yield
        took = time.perf_counter() - started
        # A stage may have told what it took so far, for what it writes.
        self.seconds[name] = before + took
        self.console.print(f"{name:<24s} {took:6.1f} s", highlight=False, style="dim")


def _console(error: bool = False) -> Console:
    from rich.console import Console

    stream = sys.stderr if error else sys.stdout
    # A file or pipe has no width of its own.
    return Console(file=stream, soft_wrap=True, width=None if stream.isatty() else 120)


def show_text(text: str) -> None:
    """Print a line."""
    print(text)


def show_table(heads: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> None:
    """Print rows below the heads of their columns."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head in heads:
        table.add_column(head)
    for row in rows:
        table.add_row(*row)
    _console().print(table)


def show_posterior(posterior: Posterior, maps: tuple[Maps, Maps | None], stages: Stages, title: str) -> None:
    """Print the short table of a result."""
    from bayesinv.report.sentences import sources_in_words

    problem = posterior.problem
    rows = [
        ("model", f"{posterior.model}, by {posterior.method}"),
        (
            "recording",
            f"{problem.components} components, {len(problem.times)} samples, "
            f"{span(float(problem.times[0]), float(problem.times[-1]))}",
        ),
        ("sources", f"{problem.source_count}, {problem.orientation} orientation"),
    ]
    rows += sources_in_words(posterior)
    if posterior.active is not None and posterior.active.preference:
        rows.append(("focal sources", f"the recording {posterior.active.preference}"))
    rows += _scales(posterior)
    for name, peak in peaks(posterior, maps).items() if posterior.active is None else ():
        rows.append((f"peak at {span(*peak.window)}, {name}", _where(posterior, peak)))
    evidence = "not given by this method" if posterior.log_evidence is None else f"{posterior.log_evidence!r} nats"
    rows.append(("log evidence", evidence))
    rows.append(("fit", f"{posterior.goodness_of_fit:.0%} of the whitened power"))
    for check in posterior.checks:
        mark = "[green]passed[/green]" if check.passed else "[bold red]FAILED[/bold red]"
        rows.append((f"check {check.name}", f"{mark} {check.value:.3g} (wanted {check.limit})"))
    took = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in stages.seconds.items())
    rows.append(("time", f"{sum(stages.seconds.values()):.1f} s: {took}"))
    show_table(("", ""), rows, title)


def _scales(posterior: Posterior) -> list[tuple[str, str]]:
    """Rows of the hyperparameters, in the units of the report; coordinates of the head are in its table only."""
    from bayesinv.figures.hyperparameters import HYPER

    # Beside focal sources, these are scales of what is left of the currents.
    dense = "" if posterior.active is None else " of dense currents"
    names = {"lambda": f"λ{dense}", "snr": f"SNR (amplitude){dense}", "scale": f"source scale{dense}"}
    rows = []
    for name in posterior.hyper.shown:
        if posterior.active is not None and name.startswith("head "):
            continue
        scalar = posterior.hyper[name]
        title, unit, factor = HYPER.get(name, (name, "", 1.0))
        title = names.get(name, title)
        low, high = (factor * bound for bound in scalar.interval(LEVEL))
        # A mean over a long tail lies outside of its own interval.
        text = f"{factor * float(scalar.quantile(0.5)):.3g}"
        rows.append(
            (
                f"{title}, {unit}" if unit else title,
                text if low == high else f"{text} ({LEVEL:.0%} {low:.3g} to {high:.3g})",
            )
        )
    return rows


def _where(posterior: Posterior, peak: Peak) -> str:
    """Return position and probability of a peak, and the credible radius, in words."""
    facts = peak_facts(posterior, peak)
    position = f"source {peak.source}"
    if "position_mm" in facts:
        position = f"({', '.join(f'{x:.0f}' for x in facts['position_mm'])}) mm {facts['frame']}"
    lines = [f"{position}, probability {facts['probability']:.2g}"]
    if "position_mm" in facts:
        mean = ", ".join(f"{x:.0f}" for x in facts["strongest_mean_position_mm"])
        lines.append(f"{LEVEL:.0%} within {facts['radius_mm']:.0f} mm of the strongest mean ({mean})")
    if "probability_left" in facts:
        left = facts["probability_left"]
        hemisphere, probability = ("left", left) if left >= 0.5 else ("right", 1 - left)
        lines.append(f"in the {hemisphere} hemisphere with probability {probability:.2g}")
    return "\n".join(lines)
