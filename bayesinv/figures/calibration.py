"""Calibration: coverage of intervals, reliability of probabilities, ranks of truths in their posteriors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtri

from bayesinv.criticism.bands import band
from bayesinv.criticism.calibration import Calibration
from bayesinv.figures.style import BLUE, FAINT, INK, MUTED, ORANGE, blank, plain, unit_square
from bayesinv.scoring.coverage import Pit
from bayesinv.scoring.reliability import Reliability
from bayesinv.wording import percent, three_digits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D


def coverage_curve(pits: Mapping[str, Pit]) -> Figure:
    """Draw how often central intervals of every level hold the truth; the diagonal says as often as they claim.

    pits : name to the `scores.Pit` of a stratum, model or run

    Raises
    ------
    ValueError
        If there is none, or one counts nothing.
    """
    figure, (axes,) = _square(pits)
    for number, (name, pit) in enumerate(pits.items()):
        label = f"{name} ({percent(pit.coverage([0.9])[0])} in 90 %)"
        coverage_line(axes, pit, color=f"C{number}", linewidth=1.6, label=label)
    axes.set_xlabel("level of the interval")
    axes.set_ylabel("share of truths inside")
    axes.legend(loc="upper left", frameon=False, fontsize=8)
    return figure


def coverage_line(axes: Axes, pit: Pit, **style: Any) -> Line2D:
    """Draw how often central intervals of every level, at steps of 1 %, hold the truth."""
    levels = np.arange(101) / 100
    (line,) = axes.plot(levels, pit.coverage(levels), **style)
    return line


def reliability_diagram(tables: Mapping[str, Reliability]) -> Figure:
    """Draw how often what was claimed with some probability happened, and below, how often it was claimed.

    tables : name to the `scores.Reliability` of a stratum, model or run

    Raises
    ------
    ValueError
        If there is none, or one counts nothing.

    Reference: Murphy & Winkler (1977), J. R. Stat. Soc. C 26, 41-47.
    """
    figure, (axes, below) = _square(tables, 5.4, [4, 1])
    for number, (name, found) in enumerate(tables.items()):
        style: dict[str, Any] = {"color": f"C{number}", "marker": "o", "markersize": 3.5, "linewidth": 1.4}
        reliability_line(axes, found, label=f"{name} (Brier score {three_digits(found.brier)})", **style)
        claimed, _, counts = found.table.T
        below.plot(claimed[counts > 0], counts[counts > 0], **style)
    axes.set_ylabel("how often it happened")
    axes.tick_params(labelbottom=False)
    axes.legend(loc="upper left", frameon=False, fontsize=8)
    below.set(xlim=(-0.01, 1.01), yscale="log", xlabel="probability claimed", ylabel="count")
    plain(below)
    return figure


def reliability_line(axes: Axes, found: Reliability, min_share: float = 0.0, **style: Any) -> Line2D:
    """Draw how often what was claimed with some probability happened.

    min_share : share of all claims that a probability must exceed to be drawn
    """
    claimed, happened, counts = found.table.T
    shown = counts > min_share * counts.sum()
    (line,) = axes.plot(claimed[shown], happened[shown], **style)
    return line


def pit_histogram(pit: Pit, bins: int = 20, independent: float | None = None) -> Figure:
    """Draw where in its posterior the truth lies: flat if calibrated, ∪ if intervals are too narrow, ∩ if too wide.

    pit : of a stratum, model or run
    bins : number of bars, a divisor of the bins that were counted
    independent : how many independent truths the counts are worth, for a band that 95 % of the bars of a calibrated
        posterior lie in; None draws none, as neighbouring currents are far from independent

    Raises
    ------
    ValueError
        If it counts nothing, the bins cannot be joined to that many, or `independent` is not positive.

    Reference: Gneiting, Balabdaoui & Raftery (2007), J. R. Stat. Soc. B 69, 243-268.
    """
    if independent is not None and not 0 < independent < np.inf:
        raise ValueError(f"independent is {independent}, but must be a positive number of truths, or None")
    counts = pit.histogram(bins)
    if not pit.count:
        raise ValueError("nothing was counted, so there is nothing to draw")
    figure = blank(4.6, 3.2)
    axes = figure.add_subplot()
    axes.bar((np.arange(bins) + 0.5) / bins, counts * bins / pit.count, width=0.94 / bins, color=BLUE, alpha=0.75)
    axes.axhline(1, color=INK, linewidth=1)
    if independent is not None:
        spread = float(ndtri(0.975) * np.sqrt((bins - 1) / independent))
        axes.axhspan(max(0.0, 1 - spread), 1 + spread, color=ORANGE, alpha=0.2, linewidth=0)
    axes.set(xlim=(0, 1), xlabel="place of the truth in its posterior", ylabel="density")
    plain(axes)
    return figure


def rank_curves(calibration: Calibration) -> Figure:
    """Draw, for every quantity, the empirical distribution of ranks less the uniform one.

    The curve of a right posterior lies inside its band, all curves at once with the calibration's level; one that
    does not is drawn in orange. A curve above zero says that the posterior lies too high, one below that it lies
    too low; one that falls from above to below zero that it is too narrow, and one that rises that it is too wide.

    Reference: Säilynoja, Bürkner & Vehtari (2022), Stat. Comput. 32, 32.
    """
    count, failed = calibration.count, calibration.failed
    lower, upper = band(count, calibration.each)
    at = np.arange(count + 1) / count
    columns = min(4, len(calibration.ranks))
    rows = -(-len(calibration.ranks) // columns)
    figure = blank(2.4 * columns + 0.4, 2.0 * rows + 0.3)
    every = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for axes, (name, ranks) in zip(every, calibration.ranks.items(), strict=False):
        colour = ORANGE if name in failed else BLUE
        axes.fill_between(at, np.r_[0, lower] - at, np.r_[0, upper] - at, color=FAINT, alpha=0.7, linewidth=0)
        axes.axhline(0, color=MUTED, linewidth=0.6)
        axes.plot(at, np.searchsorted(np.sort(ranks), at, side="right") / count - at, color=colour, linewidth=1.3)
        axes.set_title(name, loc="left", fontsize=9, color=colour if name in failed else INK)
        axes.set(xlim=(0, 1), xticks=(0, 0.5, 1), xticklabels=("0", "½", "1"))
        plain(axes)
    for axes in every[len(calibration.ranks) :]:
        axes.set_visible(False)
    figure.supxlabel("place of the truth in its posterior", fontsize=9, color=INK)
    figure.supylabel("share below, less expected", fontsize=9, color=INK)
    return figure


def _square(named: Mapping[str, Any], height: float = 4.4, rows: Sequence[float] = (1,)) -> tuple[Figure, list[Axes]]:
    """Return a figure whose first row is the unit square with its diagonal; raise where a table counts nothing."""
    empty = [name for name, one in named.items() if not one.count]
    if empty or not named:
        raise ValueError(f"nothing was counted{' in ' * bool(empty)}{', '.join(empty)}, so there is nothing to draw")
    figure = blank(4.4, height)
    every = list(figure.subplots(len(rows), 1, squeeze=False, height_ratios=list(rows))[:, 0])
    unit_square(every[0])
    return figure, every
