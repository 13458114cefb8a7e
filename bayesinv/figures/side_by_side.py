"""Side by side: estimates of one recording, and models of one recording."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayesinv.axes import Array
from bayesinv.criticism.comparison import ModelComparison
from bayesinv.criticism.estimates import Comparison
from bayesinv.criticism.leave_out import LeftOut
from bayesinv.figures.style import BLUE, INK, MUTED, ORANGE, blank, plain
from bayesinv.figures.surface import PROJECTIONS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from matplotlib.figure import Figure


def comparison(table: Comparison) -> Figure:
    """Draw the maps of estimates, each as a share of its own largest value, on one scale from 0 to 1."""
    from matplotlib.figure import Figure

    positions = None if table.problem.sources is None else table.problem.sources.positions
    count = len(table.rows)
    views = len(PROJECTIONS) if positions is not None else 1
    figure = Figure(figsize=(2.4 * views + 1.0, 2.0 * count + 0.4), layout="constrained")
    panels = figure.subplots(count, views, squeeze=False)
    image = None
    for line, row in zip(panels, table.rows, strict=True):
        share = table.maps[row.name] / max(float(table.maps[row.name].max()), np.finfo(float).tiny)
        if positions is None:
            line[0].plot(share, color="k", lw=0.8)
            line[0].set(ylim=(0, 1.05), ylabel=row.name, xlabel="source")
            continue
        for panel, view in zip(line, PROJECTIONS, strict=True):
            image = _projected(panel, positions, share, row.peak, view)
        line[0].set_ylabel(row.name)
    if image is not None:
        for panel, view in zip(panels[0], PROJECTIONS, strict=True):
            panel.set_title(view[0], fontsize=9)
        figure.colorbar(image, ax=panels, shrink=0.6, label="share of each map's largest value")
    return figure


def _projected(
    panel: Axes, positions: Array, share: Array, peak: int, view: tuple[str, int, int, float]
) -> PathCollection:
    """Draw sources in one projection, strong ones on top, the peak ringed."""
    _, across, up, sign = view
    order = np.argsort(share)
    x, y = sign * 1e3 * positions[:, across], 1e3 * positions[:, up]
    image = panel.scatter(x[order], y[order], c=share[order], s=5, cmap="inferno_r", vmin=0, vmax=1, lw=0)
    panel.plot(x[peak], y[peak], "o", ms=9, mfc="none", mec="C0", mew=1.2)
    panel.set(aspect="equal", xticks=[], yticks=[])
    for side in panel.spines.values():
        side.set_visible(False)
    return image


def model_comparison(found: ModelComparison) -> Figure:
    """Draw evidence and leave-one-out relative to the best, the weights they give, and differences over time.

    Models that are not ranked are drawn relative to the first, without weights.
    """
    count, blocks = len(found.rows), found.blocks
    figure = blank(9.6, 1.6 + 0.32 * count + (2.4 if blocks is not None else 0.0))
    rows = 2 if blocks is not None else 1
    grid = figure.add_gridspec(rows, 3, height_ratios=[1.2 + 0.32 * count, 2.4][:rows])
    differences, weights = figure.add_subplot(grid[0, :2]), figure.add_subplot(grid[0, 2])
    _differences(differences, found)
    _weights(weights, found)
    if blocks is not None:
        _over_time(figure.add_subplot(grid[1, :]), blocks, found)
    return figure


def _left_out(found: ModelComparison) -> list[tuple[LeftOut, str]]:
    """Leave-one-out over components and blocks with their colours."""
    pairs = ((found.components, BLUE), (found.blocks, ORANGE))
    return [(one, colour) for one, colour in pairs if one is not None]


def _differences(axes: Axes, found: ModelComparison) -> None:
    """Draw evidence and predictive density of each model less those of the best, with errors."""
    count = len(found.rows)
    heights = np.arange(count)[::-1]
    known = np.array([row.log_evidence is not None for row in found.rows])
    evidence = np.array([row.log_evidence for row in found.rows if row.log_evidence is not None])
    error = np.array([row.log_evidence_error for row in found.rows if row.log_evidence is not None])
    series = []
    if known.any():
        reference = 0 if found.unranked else int(evidence.argmax())
        error = np.where(np.arange(len(error)) == reference, 0, error + error[reference])
        series.append(("log Bayes factor", INK, evidence - evidence[reference], error, heights[known]))
    for one, colour in _left_out(found):
        values, error = one.difference_to(0 if found.unranked else int(one.elpd.argmax()))
        series.append((f"LOO over {one.over}, ± 2 se", colour, values, 2 * error, heights))
    for i, (words, colour, values, error, at) in enumerate(series):
        if len(values):
            shift = at + 0.22 * (1 - i)
            axes.errorbar(values, shift, xerr=error, fmt="o", color=colour, markersize=4, lw=1, label=words)
    if max(float(np.abs(values).max()) for _, _, values, _, _ in series if len(values)) > 100:
        axes.set_xscale("symlog", linthresh=10)
    axes.axvline(0, color=MUTED, linewidth=0.8)
    names = found.components.names
    axes.set(yticks=heights, yticklabels=names, ylim=(-0.6, count - 0.4), xlabel=f"{_beside(found)} (nats)")
    axes.legend(frameon=False, fontsize=7.5, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.1)
    plain(axes)


def _weights(axes: Axes, found: ModelComparison) -> None:
    """Draw the models' probabilities and stacking weights; of models that are not ranked say that they are not."""
    if found.unranked:
        axes.set_axis_off()
        axes.text(0, 0.5, "not ranked: a check of the\nnoise over time failed", fontsize=8.5, color=INK, va="center")
        return
    count = len(found.rows)
    weights = [("evidence", INK, np.array(list((found.probabilities or {}).values())))]
    weights += [(f"stacking over {one.over}", colour, one.weights) for one, colour in _left_out(found)]
    for i, (words, colour, values) in enumerate(weights):
        if len(values):
            axes.barh(np.arange(count)[::-1] + 0.25 * (1 - i), values, 0.22, color=colour, label=words)
    axes.set(yticks=[], xlim=(0, 1), ylim=(-0.6, count - 0.4), xlabel="probability or weight")
    plain(axes)


def _beside(found: ModelComparison) -> str:
    """What densities are drawn relative to."""
    return f"less that of {found.components.names[0]}" if found.unranked else "less than the best"


def _over_time(axes: Axes, blocks: LeftOut, found: ModelComparison) -> None:
    """Draw the log density of each block given all others, by model, less that of the best model or of the first."""
    difference = blocks.log_density - blocks.log_density[0 if found.unranked else blocks.elpd.argmax()]
    edges = 1e3 * np.append(found.block_times[:, 0], found.block_times[-1, 1])
    for k, (name, values) in enumerate(zip(blocks.names, difference, strict=True)):
        axes.stairs(values, edges, baseline=None, color=f"C{k % 10}", linewidth=1.6, label=name)
        unreliable = blocks.unreliable[k]
        axes.plot(((edges[1:] + edges[:-1]) / 2)[unreliable], values[unreliable], "x", color=f"C{k % 10}", markersize=5)
    axes.axhline(0, color=MUTED, linewidth=0.6)
    if blocks.unreliable.any():
        axes.plot([], [], "x", color=INK, markersize=5, label="cannot be relied upon")
    axes.set(
        xlabel="time (ms)",
        ylabel=f"log density of a block\nfrom all others,\n{_beside(found)} (nats)",
    )
    axes.set_xlim(edges[0], edges[-1])
    if np.abs(difference).max() > 100:
        axes.set_yscale("symlog", linthresh=10)
    axes.legend(frameon=False, fontsize=8, ncols=4, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0.1)
    plain(axes)
