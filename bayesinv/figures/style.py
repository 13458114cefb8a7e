"""Style: colours, units and axes that all pictures share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bayesinv.axes import Array
from bayesinv.head.sources import Sources
from bayesinv.problem.problem import Problem

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, QUIET, FAINT = "#1f2933", "#66727f", "#d5dae0"
BLUE, ORANGE = "#1f5a94", "#c8511b"
DASHED = (0, (4, 3))

KINDS = {"mag": ("Magnetometers", "fT", 1e15), "grad": ("Gradiometers", "fT/cm", 1e13), "eeg": ("EEG", "µV", 1e6)}
UNITS = {"A m": ("nA·m", 1e9), "probability": ("%", 100.0)}


def blank(width: float, height: float, layout: Any = "constrained") -> Figure:
    """An empty figure, inches wide and high."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout, facecolor="white")
    figure.set_dpi(120)
    return figure


def plain(axes: Axes, left: bool = True) -> None:
    """Axes without a box around them, their numbers quiet."""
    for side in ("top", "right") if left else ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(colors=QUIET, labelsize=8.5, length=3)
    axes.xaxis.label.set(color=INK, fontsize=9)
    axes.yaxis.label.set(color=INK, fontsize=9)


def unit_square(axes: Axes) -> None:
    """Axes on which shares are held against probabilities: the unit square with its diagonal."""
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.9, linestyle=DASHED)
    # A little more than the square, so that lines along its edges are seen whole.
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    plain(axes)


def counted(problem: Problem) -> bool:
    """Whether times merely count samples, as they do where no times were given."""
    return bool(np.array_equal(problem.times, np.arange(len(problem.times)))) and len(problem.times) > 0


def timeline(problem: Problem) -> tuple[Array, str]:
    """Times (time,) in ms, or samples where no times were given, and the label of their axis."""
    return (problem.times, "sample") if counted(problem) else (1e3 * problem.times, "time (ms)")


def limits(time: Array) -> tuple[float, float]:
    """Ends of the axis of times (time,), apart even where there is one."""
    return (float(time[0]), float(time[-1])) if len(time) > 2 else (float(time[0]) - 0.5, float(time[-1]) + 0.5)


def located(sources: Sources, source: int) -> tuple[str, str, Array]:
    """Hemisphere ("left", "right" or ""), frame ("MRI" where it is known, or "head") and coordinates (3,), mm."""
    mri = sources.mri_positions
    side = "" if sources.hemispheres is None else ("left", "right")[int(sources.hemispheres[source])]
    places = sources.positions if mri is None else mri
    return side, "head" if mri is None else "MRI", 1e3 * places[source]


def place_of(problem: Problem, source: int) -> str:
    """Where a source is, in words: its coordinates in mm, in MRI coordinates where they are known."""
    if problem.sources is None:
        return ""
    side, frame, (x, y, z) = located(problem.sources, source)
    half = f"{side} hemisphere, " if side else ""
    return f" ({half}{frame} coordinates {x:.0f}, {y:.0f}, {z:.0f} mm)".replace("-", "−")
