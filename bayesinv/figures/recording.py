"""The recording beside the fit of a posterior mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bayesinv.axes import Array
from bayesinv.figures.style import BLUE, DASHED, INK, KINDS, MUTED, ORANGE, blank, limits, plain, timeline
from bayesinv.posterior.posterior import Posterior
from bayesinv.problem.problem import Problem

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def recording_and_fit(posterior: Posterior) -> Figure:
    """Draw what was recorded beside what the posterior mean explains, and how both compare with the noise.

    One row per sensor kind in µV, fT and fT/cm where sensors and whitener are known, otherwise one row of whitened
    components; below, the whitened global field power of recording, fit and residual, with the noise at 1.
    """
    problem, fitted = posterior.problem, posterior.fitted
    time, clock = timeline(problem)
    rows = _sensor_rows(problem, fitted)
    figure = blank(9.6, 1.9 * len(rows) + 2.3)
    grid = figure.add_gridspec(len(rows) + 1, 2, height_ratios=[1.0] * len(rows) + [1.15])
    style: dict[str, Any] = {"marker": "o", "markersize": 3} if len(time) < 3 else {}
    for row, (name, unit, recorded, fit, colours) in enumerate(rows):
        shared: Axes | None = None
        for column, (lines, title) in enumerate(((recorded, "recorded"), (fit, "explained by the posterior mean"))):
            axes = figure.add_subplot(grid[row, column], sharey=shared)
            shared = axes
            for line, colour in zip(lines, colours, strict=True):
                axes.plot(time, line, color=colour, linewidth=0.6, alpha=0.75, **style)
            axes.axhline(0, color=MUTED, linewidth=0.5)
            plain(axes)
            axes.set_xlim(*limits(time))
            axes.tick_params(labelbottom=row == len(rows) - 1, labelleft=column == 0)
            if column == 0:
                axes.set_ylabel(f"{name}\n({unit})", color=INK)
            if row == 0:
                axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes = figure.add_subplot(grid[-1, :])
    residual = problem.recording - fitted
    for values, colour, width, label in (
        (problem.recording, INK, 1.6, "recording"),
        (fitted, ORANGE, 1.6, "posterior mean"),
        (residual, MUTED, 0.9, "residual"),
    ):
        axes.plot(time, np.sqrt(np.mean(values**2, axis=0)), color=colour, linewidth=width, label=label, **style)
    axes.axhline(1, color=BLUE, linewidth=1, linestyle=DASHED, label="noise by the covariance, 1")
    learned = float(posterior.mixture.weights @ posterior.mixture.noise)
    if abs(learned - 1) > 0.01:
        axes.axhline(learned, color=BLUE, linewidth=1, linestyle=(0, (1, 1.5)), label=f"noise learned, {learned:.2f}")
    axes.set_ylim(0, None)
    axes.set_xlim(*limits(time))
    axes.set_xlabel(clock)
    axes.set_ylabel("whitened field\npower (RMS)")
    axes.legend(loc="upper right", frameon=False, ncols=5, fontsize=8)
    top = axes.get_ylim()[1]
    axes.set_ylim(0, 1.15 * top)
    plain(axes)
    return figure


def _sensor_rows(problem: Problem, fitted: Array) -> list[tuple[str, str, Array, Array, Any]]:
    """Per sensor kind its name, unit, recorded and fitted lines (sensor, time) and a colour per line."""
    unwhitener = problem.unwhitener
    if problem.sensors is None or unwhitener is None:
        grey = [MUTED] * problem.components
        return [("Whitened components", "noise = 1", problem.recording, fitted, grey)]
    recorded, fit = unwhitener @ problem.recording, unwhitener @ fitted
    rows = []
    for kind, (name, unit, factor) in KINDS.items():
        index = problem.sensors.where(kind)
        if index.size:
            colours = _position_colours(problem.sensors.positions[index])
            rows.append((name, unit, factor * recorded[index], factor * fit[index], colours))
    return rows


def _position_colours(positions: Array) -> NDArray[Any]:
    """Return a colour (sensor, 3) by position, so that neighbouring sensors have similar lines."""
    if len(positions) < 2 or not np.ptp(positions, axis=0).any():
        return np.tile([[0.4, 0.45, 0.5]], (len(positions), 1))
    spread = np.ptp(positions, axis=0)
    unit = (positions - positions.min(axis=0)) / np.where(spread > 0, spread, 1)
    return np.asarray(0.16 + 0.22 + 0.42 * (unit - unit.mean(axis=1, keepdims=True) / 2))
