"""Time courses of regions with their credible bands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri

from bayesinv.axes import Array, Index
from bayesinv.figures.style import BLUE, INK, MUTED, ORANGE, blank, counted, limits, plain, position_text, timeline
from bayesinv.posterior.maps import REGION, Maps, span, strongest_region
from bayesinv.posterior.posterior import Posterior
from bayesinv.posterior.quantiles import credible_level
from bayesinv.problem.problem import Problem
from bayesinv.problem.windows import Window
from bayesinv.wording import percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def region_course(
    posterior: Posterior, window: Window = None, level: float = 0.9, radius: float = REGION, maps: Maps | None = None
) -> Figure:
    """Draw the strongest region's mean current over time with its credible band, and the prior's without focal sources.

    window : where the strongest source is looked for, see `maps.averaged`
    level : of the band
    radius : m, of the patch around the strongest source that makes the region
    maps : of these patches at this window, if worked out before

    Raises
    ------
    ValueError
        If the level lies outside (0, 1) or the window holds no sample.
    """
    credible_level(level)
    problem = posterior.problem
    centre, index, course = strongest_region(posterior, window, radius, maps)
    time, clock = timeline(problem)
    figure = blank(9.6, 3.6)
    axes = figure.add_subplot()
    mean = 1e9 * course.mean[0]
    low, high = (1e9 * bound[0] for bound in course.interval(level))
    # Which focal sources there are was drawn given the recording, so that nothing tells what was believed before.
    if posterior.active is None:
        prior = 1e9 * ndtri(0.5 + level / 2) * _prior_sd(posterior, index)
        before = f"{percent(level)} before the recording"
        axes.axhspan(-prior, prior, color="#eef1f4", linewidth=0, zorder=0, label=before)
    axes.axhline(0, color=MUTED, linewidth=0.6)
    if len(time) < 3:
        axes.errorbar(
            time, mean, [mean - low, high - mean], fmt="o", color=BLUE, label=f"mean and {percent(level)} interval"
        )
    else:
        axes.fill_between(time, low, high, color=BLUE, alpha=0.22, linewidth=0, label=f"{percent(level)} credible band")
        if level > 0.5:
            inner = (1e9 * bound[0] for bound in course.interval(0.5))
            axes.fill_between(time, *inner, color=BLUE, alpha=0.3, linewidth=0, label="50 %")
        axes.plot(time, mean, color=BLUE, linewidth=1.6, label="posterior mean")
    start, stop = span(posterior, window)
    axes.axvspan(*_widened(start, stop, time, problem), color=ORANGE, alpha=0.25, linewidth=0)
    axes.set_xlim(*limits(time))
    axes.set_xlabel(clock)
    along_normals = problem.axes == 1 and problem.sources is not None and problem.sources.normals is not None
    sign = ",\npositive out of the cortex" if along_normals else ""
    axes.set_ylabel(f"current (nA·m){sign}")
    what = f"Mean of {len(index)} sources within {1e3 * radius:.0f} mm of " if len(index) > 1 else ""
    axes.set_title(f"{what}source {centre}{position_text(problem, centre)}", loc="left", fontsize=10, color=INK)
    axes.legend(loc="upper right", frameon=False, fontsize=8, ncols=4)
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom, top + 0.14 * (top - bottom))
    plain(axes)
    return figure


def _prior_sd(posterior: Posterior, index: Index) -> float:
    """Prior standard deviation, A m, of the mean current along one direction of some sources."""
    variance = posterior.prior_variance.reshape(posterior.problem.source_count, -1)[index].mean(axis=1)
    return float(np.sqrt(variance.sum()) / len(index))


def _widened(start: float, stop: float, time: Array, problem: Problem) -> tuple[float, float]:
    """Return the window in units of the time axis, widened to a visible minimum."""
    factor = 1.0 if counted(problem) else 1e3
    min_width = 0.004 * float(np.ptp(time)) if len(time) > 1 else 0.02
    middle, half = factor * (start + stop) / 2, max(factor * (stop - start) / 2, min_width / 2)
    return middle - half, middle + half
