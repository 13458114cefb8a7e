"""Predictive checks: quantities that a prior implies, and replicated recordings beside the recorded one."""

from __future__ import annotations

from textwrap import shorten
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import chi2

from bayesinv.axes import Array
from bayesinv.criticism.posterior_predictive import PosteriorPredictive
from bayesinv.criticism.prior_predictive import IMPLIED, TAILS, PriorPredictive
from bayesinv.figures.style import BLUE, INK, KINDS, MUTED, ORANGE, blank, limits, plain, timeline
from bayesinv.problem.noise import KINDS as SENSOR_KINDS
from bayesinv.wording import percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def prior_predictive(implied: PriorPredictive) -> Figure:
    """Draw the density of each quantity over the prior's draws; a quantity that the model fixes is a line."""
    figure = blank(9.6, 5.2)
    for position, (name, (words, unit, factor)) in enumerate(IMPLIED.items(), 1):
        axes = figure.add_subplot(2, 3, position)
        drawn = factor * implied.implied[name]
        low, middle, high = np.quantile(drawn, TAILS)
        plain(axes, left=False)
        axes.set_yticks([])
        axes.set_xlabel(f"{words}\n({unit})" if unit else words)
        fixed = np.ptp(drawn) <= 1e-9 * abs(middle)
        if fixed:
            axes.axvline(middle, color=BLUE, linewidth=2)
        else:
            logs = name != "explained" and low > 0 and high / low > 30
            # With heavy tails the full range would put almost all draws into one bar.
            first, last = np.quantile(drawn, [0.005, 0.995])
            edges = np.geomspace(first, last, 41) if logs else np.linspace(first, last, 41)
            axes.hist(drawn, list(edges), color=BLUE, alpha=0.35)
            axes.axvline(middle, color=BLUE, linewidth=1.4)
            for end in (low, high):
                axes.axvline(end, color=MUTED, linewidth=0.8, linestyle=(0, (3, 2)))
            if logs:
                axes.set_xscale("log")
        text = f"{middle:.3g}, fixed by the model" if fixed else f"{middle:.3g}  (90 %: {low:.3g} to {high:.3g})"
        axes.set_title(text, loc="left", fontsize=9, color=INK)
    figure.suptitle(f"{implied.prior.model}: what its prior implies", x=0.01, ha="left", fontsize=10.5, color=INK)
    return figure


def posterior_predictive(checked: PosteriorPredictive, level: float = 0.9, time: float | None = None) -> Figure:
    """Draw the field power's band over time, every sensor's residual, test quantities with p-values, and topographies.

    level : of the band
    time : s, of the topographies; None takes the sample at which the recording is strongest

    Raises
    ------
    ValueError
        If the level lies outside (0, 1), or the time outside the recording.
    """
    sensors = checked.problem.sensors if checked.problem.whitener is not None else None
    kinds = () if sensors is None else tuple(kind for kind in SENSOR_KINDS if sensors.where(kind).size)
    figure = blank(9.6, 5.2 + 2.3 * len(kinds))
    top, *rest = figure.subfigures(
        2 if kinds else 1, 1, height_ratios=[5.2, 2.3 * len(kinds)][: 1 + bool(kinds)], squeeze=False
    ).ravel()
    grid = top.add_gridspec(2, 3)
    _field_power(top.add_subplot(grid[0, :2]), checked, level)
    _residuals(top.add_subplot(grid[1, :2] if checked.own is None else grid[1, 0]), checked)
    _quantities(top.add_subplot(grid[:, 2]), checked)
    if checked.own is not None:
        axes = top.add_subplot(grid[1, 1])
        axes.hist(checked.own.replicated, 20, color=BLUE, alpha=0.35)
        axes.axvline(float(checked.own.recorded[0]), color=INK, linewidth=1.6)
        axes.set(xlabel="the quantity given", yticks=[])
        axes.set_title(f"p = {checked.own.p_value:.2g}", loc="left", fontsize=9, color=INK)
        plain(axes, left=False)
    if kinds:
        _topographies(rest[0], checked, kinds, time)
    return figure


def _field_power(axes: Axes, checked: PosteriorPredictive, level: float) -> None:
    """Draw the recording's global field power over the band of the replicates'."""
    clock, label = timeline(checked.problem)
    low, high = checked.band(level)
    top = float(max(high.max(), checked.recorded_gfp.max()))
    style: dict[str, Any] = {"marker": "o", "markersize": 3} if len(clock) < 3 else {}
    axes.fill_between(clock, low, high, color=BLUE, alpha=0.25, lw=0, label=f"replicates, {percent(level)}")
    axes.plot(clock, checked.recorded_gfp, color=INK, linewidth=1.2, label="recording", **style)
    axes.set(xlabel=label, ylabel="whitened field\npower (RMS)", xlim=limits(clock), ylim=(0, 1.2 * top))
    title = shorten(f"{checked.model}: recordings that could have been, {checked.currents} currents", 110)
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.legend(frameon=False, fontsize=8, loc="upper right")
    plain(axes)


def _residuals(axes: Axes, checked: PosteriorPredictive) -> None:
    """Draw every sensor's residual given all others, and name the largest."""
    what = "component" if checked.problem.whitener is None else "sensor"
    spread = chi2.ppf([0.005, 0.995], len(checked.problem.times)) / len(checked.problem.times)
    axes.axhspan(*np.sqrt(spread), color=BLUE, alpha=0.2, lw=0, label=f"99 % of {what}s, were the model right")
    axes.axhline(1, color=BLUE, linewidth=0.8)
    axes.plot(checked.residual, ".", color=INK, markersize=3.5)
    for worst in np.argsort(-checked.residual)[:3]:
        if checked.p_values[worst] < 0.005:
            axes.annotate(
                checked.names[worst],
                (float(worst), float(checked.residual[worst])),
                color=ORANGE,
                fontsize=7,
                xytext=(3, 2),
                textcoords="offset points",
            )
    axes.set(xlabel=what, ylabel="standardised residual\ngiven all others (RMS)", ylim=(0, None))
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    plain(axes)


def _quantities(axes: Axes, checked: PosteriorPredictive) -> None:
    """Draw the p-value of every test quantity; extreme ones lie at either end."""
    height = np.arange(len(checked.every))[::-1]
    p_values = np.array([one.p_value for one in checked.every])
    colours = [ORANGE if one.extreme else INK for one in checked.every]
    axes.hlines(height, 0, 1, color=MUTED, linewidth=0.5, alpha=0.5)
    axes.scatter(p_values, height, c=colours, s=22, zorder=3)
    axes.axvline(0.5, color=MUTED, linewidth=0.8, linestyle=(0, (3, 2)))
    axes.set_yticks(height, [one.title for one in checked.every], fontsize=7.5)
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.6, len(height) - 0.4), xticks=[0, 0.5, 1])
    axes.set_xlabel("p: share of replicates\nwith as large a value", fontsize=8)
    axes.set_title(f"{len(checked.extreme)} of {len(height)} extreme", loc="left", fontsize=9, color=INK)
    plain(axes, left=False)


def _topographies(part: Any, checked: PosteriorPredictive, kinds: tuple[str, ...], time: float | None) -> None:
    """Draw recorded and replicated fields at one time, a row per kind of sensor."""
    sensors = checked.problem.sensors
    assert sensors is not None
    recorded, mean, sd = checked.topography(time)
    deviation = np.divide(recorded - mean, sd, out=np.zeros_like(sd), where=sd > 0)
    flat = _flattened(sensors.positions)
    panels = part.subplots(len(kinds), 3, squeeze=False)
    moment = 1e3 * checked.problem.times[checked.sample(time)]
    for row, kind in zip(panels, kinds, strict=True):
        index = sensors.where(kind)
        name, unit, factor = KINDS[kind]
        top = factor * float(max(np.abs(recorded[index]).max(), np.abs(mean[index]).max(), 1e-300))
        columns = (
            (factor * recorded, top, f"recorded at {moment:.0f} ms"),
            (factor * mean, top, "mean of the replicates"),
            (deviation, 4.0, "recorded − mean, in their sds"),
        )
        for axes, (values, limit, words) in zip(row, columns, strict=True):
            style: dict[str, Any] = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
            image = axes.scatter(*flat[index].T, c=values[index], s=14, edgecolors=MUTED, linewidths=0.2, **style)
            axes.set(aspect="equal", xticks=[], yticks=[])
            axes.set_frame_on(False)
            if kind == kinds[0]:
                axes.set_title(words, fontsize=9, color=INK)
            bar = part.colorbar(image, ax=axes, shrink=0.7)
            bar.ax.tick_params(labelsize=7)
        row[0].set_ylabel(f"{name}\n({unit})", fontsize=9, color=INK)


def _flattened(positions: Array) -> Array:
    """Return the azimuthal equidistant projection (sensor, 2) of sensors on a head, from above."""
    centred = positions - positions.mean(axis=0)
    centred[:, 2] = positions[:, 2] - np.quantile(positions[:, 2], 0.1)
    horizontal = np.linalg.norm(centred[:, :2], axis=1)
    angle = np.arctan2(horizontal, centred[:, 2])
    return centred[:, :2] * (angle / np.maximum(horizontal, 1e-12))[:, None]
