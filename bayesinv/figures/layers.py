"""Layers: maps one below the other, on a surface, as points in three projections, or as lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from bayesinv.axes import Array, Index, one_of, real
from bayesinv.figures.style import BLUE, INK, MUTED, blank, plain
from bayesinv.figures.surface import PROJECTIONS, VIEWS, RenderedView, Surface
from bayesinv.head.sources import Sources
from bayesinv.memory import Memory

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

GREY = np.array([0.80, 0.80, 0.80])
"""Colour of bare cortex, which maps fade into where they are zero."""


@dataclass(frozen=True, eq=False)
class Layer:
    """One map (source,) with its title, unit of display, palette and ends of the colour scale."""

    title: str
    note: str
    values: Array
    unit: str
    palette: str
    low: float
    high: float


def colour_map(name: str) -> Colormap:
    """Return a colour map of even lightness steps; those of sparse quantities start at the grey of bare cortex."""
    from matplotlib import colormaps
    from matplotlib.colors import LinearSegmentedColormap, ListedColormap

    if name == "signed":
        return LinearSegmentedColormap.from_list("signed", ["#0b3c7d", "#3f8ac4", tuple(GREY), "#e0703c", "#8a1408"])
    if name == "fading":
        colours = colormaps["inferno_r"](np.linspace(0.08, 0.92, 256))[:, :3]
        share = np.clip(np.linspace(0, 1, 256) / 0.35, 0, 1)[:, None]
        return ListedColormap(share * colours + (1 - share) * GREY, "fading")
    if name == "chance":
        colours = colormaps["YlGnBu"](np.linspace(0.12, 1, 256))[:, :3]
        share = np.clip(np.linspace(0, 1, 256) / 0.35, 0, 1)[:, None]
        return ListedColormap(share * colours + (1 - share) * GREY, "chance")
    return colormaps[{"spread": "Purples", "learned": "viridis"}[name]]


def draw_layers(
    layers: Sequence[Layer], sources: Sources | None, marks: ArrayLike | None, views: Sequence[str] | None
) -> Figure:
    """Draw layers on the surface between sources, as points or as lines, whichever the sources allow."""
    positions = None if marks is None else real("marks", np.atleast_2d(np.asarray(marks, dtype=float)), "mark axis")
    if positions is not None and positions.shape[1] != 3:
        raise ValueError(f"marks has shape {positions.shape}, but its axes are (mark, 3)")
    for view in views or ():
        one_of("view", view, VIEWS)
    if sources is None:
        return _as_lines(layers)
    if sources.triangles is None or not len(sources.triangles):
        return _as_points(layers, sources, positions)
    return _as_surfaces(layers, sources, positions, views)


def _as_lines(layers: Sequence[Layer]) -> Figure:
    figure = blank(9.6, 1.9 * len(layers))
    for row, layer in enumerate(layers):
        axes = figure.add_subplot(len(layers), 1, row + 1)
        number = np.arange(len(layer.values))
        axes.fill_between(number, layer.values, step="mid", color=BLUE, alpha=0.25, linewidth=0)
        axes.plot(number, layer.values, color=BLUE, linewidth=0.8, drawstyle="steps-mid")
        axes.set_ylabel(layer.unit)
        axes.set_title(f"{layer.title}{_note(layer)}", loc="left", fontsize=9.5, color=INK)
        plain(axes)
        axes.margins(x=0)
    axes.set_xlabel("source")
    return figure


def _as_points(layers: Sequence[Layer], sources: Sources, marks: Array | None) -> Figure:
    positions = 1e3 * sources.positions
    low, high = positions.min(axis=0) - 4, positions.max(axis=0) + 4
    span, middle = high - low, (low + high) / 2
    tall = span[1:].max()
    figure = blank(9.6, 3.3 * len(layers))
    parts: Any = figure.subfigures(len(layers), 1, squeeze=False)[:, 0]
    for layer, part in zip(layers, parts, strict=True):
        part.suptitle(f"{layer.title}{_note(layer)}", x=0.01, ha="left", fontsize=9.5, color=INK)
        grid = part.add_gridspec(
            1, 4, width_ratios=[*(span[across] for _, across, _, _ in PROJECTIONS), 0.03 * span.sum()]
        )
        order = np.argsort(np.abs(layer.values))
        for column, (_, across, up, direction) in enumerate(PROJECTIONS):
            axes = part.add_subplot(grid[0, column])
            x, y = positions[order][:, [across, up]].T
            style: dict[str, Any] = {"cmap": colour_map(layer.palette), "vmin": layer.low, "vmax": layer.high}
            points = axes.scatter(x, y, c=layer.values[order], s=10, linewidths=0, **style)
            if marks is not None:
                x, y = 1e3 * marks[:, [across, up]].T
                axes.scatter(x, y, s=70, facecolors="none", edgecolors=INK, linewidths=1.4)
            axes.set_aspect("equal")
            axes.set_xlim(*((high[across], low[across]) if direction < 0 else (low[across], high[across])))
            axes.set_ylim(middle[up] - tall / 2, middle[up] + tall / 2)
            axes.set_xlabel(f"{'xyz'[across]} (mm)")
            axes.set_ylabel(f"{'xyz'[up]} (mm)")
            plain(axes)
        _bar(part.colorbar(points, cax=part.add_subplot(grid[0, 3]), extend=_extend(layer)), layer)
    return figure


def _as_surfaces(layers: Sequence[Layer], sources: Sources, marks: Array | None, views: Sequence[str] | None) -> Figure:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    if views is None:
        halves = sources.hemispheres is not None and len(np.unique(sources.hemispheres)) == 2
        views = tuple(VIEWS)[:4] if halves else ("left", "top", "right", "back")
    rendered = _rendered(sources, tuple(views))
    # All views of a map are one image with one colour scale. Lengths are in inches, unless they are in pixels.
    inch = 7.9 / sum(view.cover.shape[1] for view in rendered)
    tall, gap = max(view.cover.shape[0] for view in rendered), round(0.12 / inch)
    starts = np.cumsum([gap, *(view.cover.shape[1] + gap for view in rendered)])
    wide = int(starts[-1])
    head, top, foot, side = 0.52, 0.28, 0.12, 0.95
    width, height = wide * inch + side, (tall * inch + head) * len(layers) + top + foot
    figure = blank(width, height, layout=None)
    for name, view, start in zip(views, rendered, starts, strict=False):
        middle = (start + view.cover.shape[1] / 2) * inch / width
        figure.text(middle, 1 - 0.2 / height, name, ha="center", fontsize=8.5, color=MUTED)
    for row, layer in enumerate(layers):
        palette, norm = colour_map(layer.palette), Normalize(layer.low, layer.high)
        bottom = height - top - (row + 1) * (tall * inch + head)
        axes = figure.add_axes((0, bottom / height, wide * inch / width, tall * inch / height), label=layer.title)
        picture = np.ones((tall, wide, 3))
        for view, start in zip(rendered, starts, strict=False):
            rows, columns = view.cover.shape
            above = (tall - rows) // 2
            picture[above : above + rows, start : start + columns] = view.paint(
                palette(norm(view.values(layer.values)))
            )
        axes.imshow(picture, interpolation="antialiased", aspect="auto")
        axes.set_axis_off()
        if marks is not None:
            _ring(axes, rendered, starts, tall, marks)
        words = bottom + tall * inch + 0.19
        figure.text(gap * inch / width, words / height, layer.title, fontsize=10.5, color=INK, fontweight="bold")
        figure.text(wide * inch / width, words / height, layer.note, fontsize=8.5, color=MUTED, ha="right")
        box = (wide * inch + 0.1, bottom + 0.1 * tall * inch, 0.11, 0.8 * tall * inch)
        bar_axes = figure.add_axes(tuple(np.array(box) / (width, height, width, height)))
        _bar(figure.colorbar(ScalarMappable(norm, palette), cax=bar_axes, extend=_extend(layer)), layer)
    return figure


RENDERED = Memory("rendered views", max_bytes=2**26)


@RENDERED.keep
def _rendered(sources: Sources, views: tuple[str, ...]) -> list[RenderedView]:
    """Return the cortex in several views; cached, as most figures show the same ones."""
    surface = Surface(sources)
    return [surface.render(view) for view in views]


def _ring(axes: Axes, rendered: Sequence[RenderedView], starts: Index, tall: int, marks: Array) -> None:
    """Ring visible marks, and with a dotted line those that no view shows."""
    visible, hidden = [], []
    projected = [view.project(marks) for view in rendered]
    never_visible = ~np.any([in_front for _, in_front, _ in projected], axis=0)
    for view, start, (pixels, in_front, shown) in zip(rendered, starts, projected, strict=False):
        at = pixels + np.array([start - 0.5, (tall - view.cover.shape[0]) // 2 - 0.5])
        visible.append(at[in_front])
        hidden.append(at[never_visible & shown])
    for line, colour, style in ((3.4, "white", "-"), (1.7, INK, "-"), (1.1, INK, ":")):
        x, y = np.concatenate(hidden if style == ":" else visible).T
        axes.scatter(x, y, s=85, facecolors="none", edgecolors=colour, linewidths=line, linestyle=style)
    axes.set(xlim=(-0.5, starts[-1] - 0.5), ylim=(tall - 0.5, -0.5))


def _extend(layer: Layer) -> Any:
    above = layer.values.max() > layer.high * (1 + 1e-9)
    below = layer.values.min() < layer.low - 1e-9 * abs(layer.high)
    return {(True, True): "both", (True, False): "max", (False, True): "min"}.get((bool(above), bool(below)), "neither")


def _bar(bar: Any, layer: Layer) -> None:
    from matplotlib.ticker import MaxNLocator

    bar.locator = MaxNLocator(4)
    bar.update_ticks()
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, colors=MUTED, length=2)
    bar.ax.set_title(layer.unit, fontsize=8.5, color=MUTED, loc="left", pad=7)


def _note(layer: Layer) -> str:
    return f"  ({layer.note})" if layer.note else ""
