"""Style: colours, units and axes that all figures share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bayesinv.axes import Array
from bayesinv.head.sources import Sources
from bayesinv.problem.problem import Problem

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, FAINT = "#1f2933", "#66727f", "#d5dae0"
BLUE, ORANGE = "#1f5a94", "#c8511b"
DASHED = (0, (4, 3))

KINDS = {"mag": ("Magnetometers", "fT", 1e15), "grad": ("Gradiometers", "fT/cm", 1e13), "eeg": ("EEG", "µV", 1e6)}
UNITS = {"A m": ("nA·m", 1e9), "probability": ("%", 100.0)}


def blank(width: float, height: float, layout: Any = "constrained") -> Figure:
    """Return an empty figure; width and height in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout, facecolor="white")
    figure.set_dpi(120)
    return figure


def plain(axes: Axes, left: bool = True) -> None:
    """Remove the box around axes, and mute their tick labels."""
    for side in ("top", "right") if left else ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(colors=MUTED, labelsize=8.5, length=3)
    axes.xaxis.label.set(color=INK, fontsize=9)
    axes.yaxis.label.set(color=INK, fontsize=9)


def unit_square(axes: Axes) -> None:
    """Set axes to the unit square with its diagonal, to compare shares with probabilities."""
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=DASHED)
    # A little more than the square, so that lines along its edges are not cut.
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    plain(axes)


def counted(problem: Problem) -> bool:
    """Whether times merely count samples, as they do where no times were given."""
    return bool(np.array_equal(problem.times, np.arange(len(problem.times)))) and len(problem.times) > 0


def timeline(problem: Problem) -> tuple[Array, str]:
    """Times (time,) in ms, or samples where no times were given, and the label of their axis."""
    return (problem.times, "sample") if counted(problem) else (1e3 * problem.times, "time (ms)")


def limits(time: Array) -> tuple[float, float]:
    """Ends of the axis of times (time,); of positive length even for a single time."""
    return (float(time[0]), float(time[-1])) if len(time) > 2 else (float(time[0]) - 0.5, float(time[-1]) + 0.5)


def located(sources: Sources, source: int) -> tuple[str, str, Array]:
    """Hemisphere ("left", "right" or ""), frame ("MRI" where it is known, or "head") and coordinates (3,), mm."""
    mri = sources.mri_positions
    hemisphere = "" if sources.hemispheres is None else ("left", "right")[int(sources.hemispheres[source])]
    positions = sources.positions if mri is None else mri
    return hemisphere, "head" if mri is None else "MRI", 1e3 * positions[source]


def position_text(problem: Problem, source: int) -> str:
    """Where a source is, in words: its coordinates in mm, in MRI coordinates where they are known."""
    if problem.sources is None:
        return ""
    hemisphere, frame, (x, y, z) = located(problem.sources, source)
    prefix = f"{hemisphere} hemisphere, " if hemisphere else ""
    return f" ({prefix}{frame} coordinates {x:.0f}, {y:.0f}, {z:.0f} mm)".replace("-", "−")
