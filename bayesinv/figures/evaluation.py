"""Scores of an evaluation: coverage, reliability and localisation of every method on every truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesinv.evaluation.cell import CRIME
from bayesinv.evaluation.results import STRATA, Evaluation
from bayesinv.figures.calibration import coverage_line, reliability_line
from bayesinv.figures.style import BLUE, INK, MUTED, ORANGE, blank, plain, unit_square

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MIN_SHARE = 1e-3
"""Smallest share of all claims at which a frequency is drawn; fewer claims give no useful estimate."""

TICKS: dict[str, Any] = {"xticks": (0, 0.5, 1), "yticks": (0, 0.5, 1)}


def evaluation_coverage(evaluation: Evaluation) -> Figure:
    """Draw coverage of intervals at all levels by truth (row) and stratum (column)."""
    strata = [
        name for name in STRATA[1:] if any(one.tallies[name].count for one in evaluation.results if name in one.tallies)
    ]
    rows = evaluation.truths
    figure = blank(2.5 * len(strata) + 2.6, 2.5 * len(rows) + 0.5)
    grid = figure.subplots(len(rows), len(strata), squeeze=False, sharex=True, sharey=True)
    lines: dict[str, Any] = {}
    for truth, line in zip(rows, grid, strict=True):
        found = evaluation.by_truth(truth)
        for stratum, axes in zip(strata, line, strict=True):
            unit_square(axes)
            axes.set(**TICKS)
            axes.set_title(f"{truth}: {stratum}", loc="left", fontsize=9, color=INK)
            counted = {name: mine[stratum] for name, mine in found.items() if stratum in mine and mine[stratum].count}
            for method, tally in counted.items():
                lines[method] = coverage_line(axes, tally.pit, linewidth=1.3, **_style(evaluation, method))
            if not counted:
                axes.text(0.5, 0.5, "none", ha="center", va="center", color=MUTED, fontsize=9)
    figure.supxlabel("level of the interval", fontsize=9, color=INK)
    figure.supylabel("share of truths inside", fontsize=9, color=INK)
    _legend(figure, evaluation, lines)
    return _stamped(figure, evaluation)


def evaluation_reliability(evaluation: Evaluation) -> Figure:
    """Draw how often currents exceeded a threshold against the probability claimed for it, by truth."""
    rows = [truth for truth in evaluation.truths if evaluation.by_truth(truth)]
    figure = blank(2.8 * len(rows) + 2.6, 3.4)
    lines: dict[str, Any] = {}
    for axes, truth in zip(figure.subplots(1, len(rows), squeeze=False, sharey=True)[0], rows, strict=True):
        unit_square(axes)
        axes.set(**TICKS)
        axes.set_title(truth, loc="left", fontsize=9, color=INK)
        for method, tallies in evaluation.by_truth(truth).items():
            style = {"marker": "o", "markersize": 3, "linewidth": 1.2, **_style(evaluation, method)}
            lines[method] = reliability_line(axes, tallies["all"].exceedance, MIN_SHARE, **style)
    figure.supxlabel("probability claimed that a current exceeds the truth's root mean square", fontsize=9)
    figure.supylabel("how often it did", fontsize=9)
    _legend(figure, evaluation, lines)
    return _stamped(figure, evaluation)


def evaluation_localisation(evaluation: Evaluation) -> Figure:
    """Draw how far the peak of every method's map lies from the truth, by truth."""
    table, methods = evaluation.table, evaluation.methods
    rows = [truth for truth in evaluation.truths if table.loc[table.truth == truth, "peak_error"].gt(0).any()]
    rows = rows or evaluation.truths[:1]
    figure = blank(7.2, 0.24 * len(methods) * len(rows) + 0.7 * len(rows) + 0.5)
    for axes, truth in zip(figure.subplots(len(rows), 1, squeeze=False, sharex=True)[:, 0], rows, strict=True):
        mine = table[table.truth == truth]
        values = [1e3 * mine.loc[mine.method == name, "peak_error"].dropna().to_numpy() for name in methods]
        axes.boxplot(
            values,
            orientation="horizontal",
            tick_labels=methods,
            widths=0.6,
            medianprops={"color": ORANGE},
            flierprops={"markersize": 3},
            boxprops={"color": BLUE},
        )
        for k, each in enumerate(values, 1):
            axes.plot(each, np.full(len(each), k), ".", color=MUTED, markersize=3)
        axes.invert_yaxis()
        axes.set_title(truth, loc="left", fontsize=9, color=INK)
        plain(axes)
    axes.set_xlim(left=0)
    axes.set_xlabel("distance of the map's peak from the truth, mm")
    return _stamped(figure, evaluation)


def _style(evaluation: Evaluation, method: str) -> dict[str, Any]:
    """Colour of a method, dashed where it models the error of the lead field."""
    base_names = list(dict.fromkeys(name.removesuffix(" + forward error") for name in evaluation.methods))
    number = base_names.index(method.removesuffix(" + forward error"))
    return {"color": _colours()[number % 20], "linestyle": "--" if method.endswith(" + forward error") else "-"}


def _colours() -> list[str]:
    """Twenty colours, saturated ones first."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    colours = [to_hex(one) for one in colormaps["tab20"].colors]  # type: ignore[attr-defined]
    return colours[::2] + colours[1::2]


def _legend(figure: Figure, evaluation: Evaluation, lines: Mapping[str, Any]) -> None:
    """Add a legend of the methods beside all panels."""
    ordered = [method for method in evaluation.methods if method in lines]
    figure.legend([lines[name] for name in ordered], ordered, loc="outside right upper", frameon=False, fontsize=8)


def _stamped(figure: Figure, evaluation: Evaluation) -> Figure:
    """Return the figure, with a title that marks an inverse crime."""
    if evaluation.crime:
        figure.suptitle(CRIME.upper(), color=ORANGE, fontsize=11, fontweight="bold")
    return figure
