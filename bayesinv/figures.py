"""Figures: a posterior in pictures, each a `matplotlib.figure.Figure` that belongs to no window and no global state.

SI units come in; nA·m, ms, µV, fT and mm are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.special import ndtri

from bayesinv.axes import Array, Index, one_of, real
from bayesinv.head.sources import Sources
from bayesinv.maps import REGION, Maps, posterior_maps, span, strongest_region
from bayesinv.posterior import Posterior, Scalar, Window, credible_level
from bayesinv.problem import Problem

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

    from bayesinv.calibration import Calibration
    from bayesinv.scores import Pit, Reliability

INK, QUIET, FAINT = "#1f2933", "#66727f", "#d5dae0"
BLUE, ORANGE = "#1f5a94", "#c8511b"
GREY = np.array([0.80, 0.80, 0.80])
"""Colour of bare cortex, which maps fade into where they are zero."""

KINDS = {"mag": ("Magnetometers", "fT", 1e15), "grad": ("Gradiometers", "fT/cm", 1e13), "eeg": ("EEG", "µV", 1e6)}
UNITS = {"A m": ("nA·m", 1e9), "probability": ("%", 100.0)}

VIEWS = {
    "left lateral": ((-1, 0, 0), (0, 0, 1), 0),
    "left medial": ((1, 0, 0), (0, 0, 1), 0),
    "right medial": ((-1, 0, 0), (0, 0, 1), 1),
    "right lateral": ((1, 0, 0), (0, 0, 1), 1),
    "left": ((-1, 0, 0), (0, 0, 1), None),
    "right": ((1, 0, 0), (0, 0, 1), None),
    "top": ((0, 0, 1), (0, 1, 0), None),
    "bottom": ((0, 0, -1), (0, 1, 0), None),
    "back": ((0, -1, 0), (0, 0, 1), None),
    "front": ((0, 1, 0), (0, 0, 1), None),
}
"""Name to the direction towards the viewer, the direction up, and the hemisphere shown; head coordinates."""

FINE = 2
"""Pixels per drawn pixel and side, averaged, so that edges are smooth."""

PIXELS_PER_METRE = 3400.0
SIGHT = 0.006
"""Depth in m below the surface from which a mark still counts as in sight."""

UNFOLDING = 6
"""Smoothing steps that open the sulci a little, so that their walls can be seen."""


# --- the recording


def recording_and_fit(posterior: Posterior) -> Figure:
    """Draw what was recorded beside what the posterior mean explains, and how both compare with the noise.

    One row per sensor kind in µV, fT and fT/cm where sensors and whitener are known, otherwise one row of whitened
    components; below, the whitened global field power of recording, fit and residual, with the noise at 1.
    """
    problem, fitted = posterior.problem, posterior.fitted
    time, clock = _clock(problem)
    rows = _sensor_rows(problem, fitted)
    figure = _figure(9.6, 1.9 * len(rows) + 2.3)
    grid = figure.add_gridspec(len(rows) + 1, 2, height_ratios=[1.0] * len(rows) + [1.15])
    style: dict[str, Any] = {"marker": "o", "markersize": 3} if len(time) < 3 else {}
    for row, (name, unit, recorded, fit, colours) in enumerate(rows):
        shared: Axes | None = None
        for column, (lines, title) in enumerate(((recorded, "recorded"), (fit, "explained by the posterior mean"))):
            axes = figure.add_subplot(grid[row, column], sharey=shared)
            shared = axes
            for line, colour in zip(lines, colours, strict=True):
                axes.plot(time, line, color=colour, linewidth=0.6, alpha=0.75, **style)
            axes.axhline(0, color=QUIET, linewidth=0.5)
            _plain(axes)
            axes.set_xlim(*_limits(time))
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
        (residual, QUIET, 0.9, "residual"),
    ):
        axes.plot(time, np.sqrt(np.mean(values**2, axis=0)), color=colour, linewidth=width, label=label, **style)
    axes.axhline(1, color=BLUE, linewidth=1, linestyle=(0, (4, 3)), label="noise by the covariance, 1")
    learned = float(posterior.mixture.weights @ posterior.mixture.noise)
    if abs(learned - 1) > 0.01:
        axes.axhline(learned, color=BLUE, linewidth=1, linestyle=(0, (1, 1.5)), label=f"noise learned, {learned:.2f}")
    axes.set_ylim(0, None)
    axes.set_xlim(*_limits(time))
    axes.set_xlabel(clock)
    axes.set_ylabel("whitened field\npower (RMS)")
    axes.legend(loc="upper right", frameon=False, ncols=5, fontsize=8)
    top = axes.get_ylim()[1]
    axes.set_ylim(0, 1.15 * top)
    _plain(axes)
    return figure


def _sensor_rows(problem: Problem, fitted: Array) -> list[tuple[str, str, Array, Array, Any]]:
    """Per sensor kind its name, unit, recorded and fitted lines (sensor, time) and a colour per line."""
    back = problem.unwhitener
    if problem.sensors is None or back is None:
        grey = [QUIET] * problem.components
        return [("Whitened components", "noise = 1", problem.recording, fitted, grey)]
    recorded, fit = back @ problem.recording, back @ fitted
    rows = []
    for kind, (name, unit, factor) in KINDS.items():
        index = problem.sensors.where(kind)
        if index.size:
            colours = _place_colours(problem.sensors.positions[index])
            rows.append((name, unit, factor * recorded[index], factor * fit[index], colours))
    return rows


def _place_colours(positions: Array) -> NDArray[Any]:
    """A colour per sensor by its place, so that a field pattern can be followed: (sensor, 3)."""
    if len(positions) < 2 or not np.ptp(positions, axis=0).any():
        return np.tile([[0.4, 0.45, 0.5]], (len(positions), 1))
    spread = np.ptp(positions, axis=0)
    unit = (positions - positions.min(axis=0)) / np.where(spread > 0, spread, 1)
    return np.asarray(0.16 + 0.22 + 0.42 * (unit - unit.mean(axis=1, keepdims=True) / 2))


# --- one region over time


def region_course(posterior: Posterior, window: Window = None, level: float = 0.9, radius: float = REGION) -> Figure:
    """Draw the strongest region's mean current over time with its credible band.

    window : where the strongest source is looked for, see `maps.averaged`
    level : of the band
    radius : m, of the patch around the strongest source that makes the region

    Raises
    ------
    ValueError
        If the level lies outside (0, 1) or the window holds no sample.
    """
    credible_level(level)
    problem = posterior.problem
    centre, index, course = strongest_region(posterior, window, radius)
    time, clock = _clock(problem)
    figure = _figure(9.6, 3.6)
    axes = figure.add_subplot()
    mean = 1e9 * course.mean[0]
    low, high = (1e9 * bound[0] for bound in course.interval(level))
    prior = 1e9 * ndtri(0.5 + level / 2) * _prior_sd(posterior, index)
    axes.axhspan(-prior, prior, color="#eef1f4", linewidth=0, zorder=0, label=f"{percent(level)} before the recording")
    axes.axhline(0, color=QUIET, linewidth=0.6)
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
    axes.set_xlim(*_limits(time))
    axes.set_xlabel(clock)
    along_normals = problem.axes == 1 and problem.sources is not None and problem.sources.normals is not None
    outward = ",\npositive out of the cortex" if along_normals else ""
    axes.set_ylabel(f"current (nA·m){outward}")
    what = f"Mean of {len(index)} sources within {1e3 * radius:.0f} mm of " if len(index) > 1 else ""
    axes.set_title(f"{what}source {centre}{_place(problem, centre)}", loc="left", fontsize=10, color=INK)
    axes.legend(loc="upper right", frameon=False, fontsize=8, ncols=4)
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom, top + 0.14 * (top - bottom))
    _plain(axes)
    return figure


def _prior_sd(posterior: Posterior, index: Index) -> float:
    """Prior standard deviation, A m, of the mean current along one direction of some sources."""
    variance = posterior.prior_variance.reshape(posterior.problem.source_count, -1)[index].mean(axis=1)
    return float(np.sqrt(variance.sum()) / len(index))


def _widened(start: float, stop: float, time: Array, problem: Problem) -> tuple[float, float]:
    """The window in drawn units, at least wide enough to be seen."""
    factor = 1.0 if counted(problem) else 1e3
    least = 0.004 * float(np.ptp(time)) if len(time) > 1 else 0.02
    middle, half = factor * (start + stop) / 2, max(factor * (stop - start) / 2, least / 2)
    return middle - half, middle + half


# --- hyperparameters


def hyper(posterior: Posterior, level: float = 0.9, prior: Mapping[str, ArrayLike] | None = None) -> Figure:
    """Draw the posterior density of λ, the SNR and every other hyperparameter, with its interval.

    level : of the interval
    prior : name to draws from the prior, drawn faintly behind; see `prior_draws`

    Raises
    ------
    ValueError
        If the level lies outside (0, 1).
    """
    credible_level(level)
    names = ["lambda", "snr", *(name for name in posterior.hyper if name not in ("lambda", "snr"))][:6]
    columns = 2 if len(names) in (2, 4) else 3
    rows = -(-len(names) // columns)
    figure = _figure(9.6, 2.9 * rows)
    for place, name in enumerate(names):
        axes = figure.add_subplot(rows, columns, place + 1)
        earlier = None if prior is None or name not in prior else np.asarray(prior[name], dtype=float)
        _density(axes, name, posterior.hyper[name], level, earlier)
    engine: Any = figure.get_layout_engine()
    engine.set(hspace=0.08, wspace=0.04)
    return figure


def chains(posterior: Posterior, most: int = 6) -> Figure:
    """Draw the chains of the hyperparameters: their course on the left, the ranks of each chain's draws on the right.

    Ranks are spread evenly where the chains agree; a chain that lies apart has a hump of its own.

    most : hyperparameters drawn, those of the model first

    Raises
    ------
    ValueError
        If the hyperparameters were not sampled in chains.

    Reference: Vehtari et al. (2021), Bayesian Anal. 16, 667-718.
    """
    from scipy.stats import rankdata

    count = posterior.hyper.chains
    if posterior.method != "nuts":
        raise ValueError(
            f"the hyperparameters were integrated by {posterior.method}; only NUTS has chains, see `hyper`"
        )
    names = [*[name for name in posterior.hyper if name not in ("lambda", "snr")][: most - 1], "lambda"]
    figure = _figure(9.6, 1.5 * len(names) + 0.4)
    colours = [BLUE, ORANGE, INK, QUIET]
    for row, name in enumerate(names):
        title, unit, factor = HYPER.get(name, (name, "", 1.0))
        draws = factor * posterior.hyper[name].draws.reshape(count, -1)
        ranks = rankdata(draws).reshape(draws.shape)
        course, spread = (figure.add_subplot(len(names), 2, 2 * row + side) for side in (1, 2))
        bins = np.linspace(0, draws.size, 21)
        for chain in range(count):
            colour = colours[chain % len(colours)]
            course.plot(draws[chain], color=colour, linewidth=0.4, alpha=0.8)
            tally = np.histogram(ranks[chain], bins)[0]
            spread.stairs(tally / (draws.shape[1] / 20), bins, color=colour, linewidth=1.0)
        spread.axhline(1, color=QUIET, linewidth=0.6)
        spread.set(yticks=[0, 1], xticks=[])
        course.set_title(f"{title} ({unit})" if unit else title, loc="left", fontsize=9, color=INK)
        for axes in (course, spread):
            _plain(axes)
        if row == len(names) - 1:
            course.set_xlabel("draw")
            spread.set_xlabel("rank among all draws; 1 is even")
    return figure


HYPER = {
    "lambda": ("λ = noise² / source variance", "1/(nA·m)²", 1e-18),
    "snr": ("signal-to-noise ratio (amplitude)", "", 1.0),
    "scale": ("source scale", "nA·m", 1e9),
    "noise": ("noise scale", "1 is the covariance's", 1.0),
    "depth": ("depth exponent", "", 1.0),
    "tangential": ("tangential variance, normal = 1", "", 1.0),
    "length": ("length-scale", "mm", 1e3),
    "constant": ("time constant", "ms", 1e3),
    "spread": ("spread of the parcels' log variances", "", 1.0),
    "error": ("scale of the lead field's error", "1 is the draws'", 1.0),
}


def _density(axes: Axes, name: str, scalar: Scalar, level: float, prior: Array | None) -> None:
    from scipy.stats import gaussian_kde

    title, unit, factor = HYPER.get(name, (name, "", 1.0))
    draws, nodes = factor * scalar.draws, factor * scalar.nodes
    low, high = (factor * bound for bound in scalar.interval(level))
    middle = float(factor * scalar.quantile(0.5))
    axes.set_xlabel(f"{title} ({unit})" if unit else title)
    axes.set_yticks([])
    _plain(axes, left=False)
    if np.ptp(draws) <= 1e-9 * abs(middle):
        axes.axvline(middle, color=BLUE, linewidth=2)
        axes.set_title(f"{_number(middle)}, fixed by the model", loc="left", fontsize=10, color=INK)
        return
    share = name in ("depth", "tangential", "extent")
    logs = not share and bool((draws > 0).all())
    seen = np.log(draws) if logs else draws
    bounds = np.quantile(seen, [0.0005, 0.9995])
    earlier = None
    if prior is not None and np.isfinite(prior).all() and (not logs or (prior > 0).all()) and np.ptp(prior) > 0:
        earlier = np.log(factor * prior) if logs else factor * prior
    margin = 0.35 * np.ptp(bounds)
    x = np.linspace(bounds[0] - margin, bounds[1] + margin, 300)
    if share:
        x = x[(x >= 0) & (x <= 1)]
    drawn = np.exp(x) if logs else x
    density = gaussian_kde(seen)(x)
    axes.fill_between(drawn, density, color=BLUE, alpha=0.18, linewidth=0)
    inside = (drawn >= low) & (drawn <= high)
    axes.fill_between(drawn[inside], density[inside], color=BLUE, alpha=0.35, linewidth=0)
    axes.plot(drawn, density, color=BLUE, linewidth=1.5)
    if earlier is not None:
        axes.plot(drawn, gaussian_kde(earlier)(x), color=QUIET, linewidth=1, linestyle=(0, (4, 3)))
        tail = (1 - level) / 2
        first, last = (_number(bound) for bound in factor * np.quantile(np.asarray(prior), [tail, 1 - tail]))
        words = f"prior (dashed):\n{percent(level)} in {first} to {last}"
        axes.text(0.99, 0.97, words, transform=axes.transAxes, ha="right", va="top", fontsize=8, color=QUIET)
    if logs:
        axes.set_xscale("log")
        _log_ticks(axes, drawn)
    inside_nodes = nodes[(nodes >= drawn[0]) & (nodes <= drawn[-1])]
    if len(inside_nodes) < 2000:
        axes.plot(
            inside_nodes, np.full(len(inside_nodes), -0.04 * density.max()), "|", color=INK, markersize=5, alpha=0.5
        )
    axes.set_xlim(drawn[0], drawn[-1])
    axes.set_ylim(-0.09 * density.max(), 1.12 * density.max())
    axes.set_title(
        spell(middle, low, high, level),
        loc="left",
        fontsize=10,
        color=INK,
    )


def _log_ticks(axes: Axes, drawn: Array) -> None:
    """Few plain labels, whether the axis spans a tenth of a decade or many."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    if drawn[-1] / drawn[0] < 20:
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    else:
        axes.xaxis.set_major_locator(LogLocator(numticks=5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="minor", bottom=False)


def prior_draws(
    model: Any, problem: Problem, count: int = 1000, rng: np.random.Generator | None = None
) -> dict[str, Array]:
    """Return draws (draw,) of a model's hyperparameters, λ and SNR before it sees the recording.

    model : as in `infer`
    rng : default_rng(0) if None

    Raises
    ------
    ValueError
        If the model does not exist or does not fit the problem.
    """
    import pymc as pm

    from bayesinv.catalogue import build
    from bayesinv.inference.density import Density, with_lambda

    rng = np.random.default_rng(0) if rng is None else rng
    density = Density.of(build(model, problem)[1])
    free = density.model.free_RVs
    if not free:
        return {}
    values = pm.draw(free, draws=count, random_seed=int(rng.integers(2**31)), mode="FAST_COMPILE")
    named = {variable.name: np.asarray(value) for variable, value in zip(free, values, strict=True)}
    drawn = with_lambda(named, *density.scales(density.unconstrained(list(named.values()))), density.seen.mean_power)
    return {name: value for name, value in drawn.items() if value.ndim == 1}


# --- maps on the cortex


@dataclass(frozen=True, eq=False)
class _Layer:
    """One map with the way it is to be drawn."""

    title: str
    note: str
    values: Array
    unit: str
    palette: str
    low: float
    high: float


def cortex_maps(
    posterior: Posterior,
    window: Window = None,
    *,
    radius: float = 0.0,
    threshold: float | None = None,
    draws: int = 1000,
    marks: ArrayLike | None = None,
    views: Sequence[str] | None = None,
    maps: Maps | None = None,
) -> Figure:
    """Draw mean, standard deviation, shrinkage, exceedance and probable peak of the currents on the cortex.

    window, radius, threshold, draws : see `maps.posterior_maps`
    marks : (mark, 3), m, head coordinates: places to ring, such as a known truth
    views : names among `VIEWS`; None takes both hemispheres from the side and from between them
    maps : maps already made, drawn instead of new ones

    Three projections are drawn where the triangles between sources are not known, plain lines where their
    positions are not known either.

    Raises
    ------
    ValueError
        As `maps.posterior_maps`; if a view does not exist or marks are no positions.
    """
    found = (
        maps if maps is not None else posterior_maps(posterior, window, radius=radius, threshold=threshold, draws=draws)
    )
    return _drawn(_layers(found), posterior.problem.sources, marks, views)


def _layers(maps: Maps) -> list[_Layer]:
    free = maps.mean.ndim == 2
    who = f"mean over {1e3 * maps.radius:.0f} mm patches" if maps.radius else "single sources"
    strength, spread = 1e9 * maps.strength, 1e9 * maps.uncertainty
    limit = f"{1e9 * maps.threshold:.2g} nA·m"
    before = 100 * float(np.median(maps.prior_exceedance))
    layers = [
        _Layer(
            "Posterior mean" + (", norm" if free else ", absolute"),
            who,
            strength,
            "nA·m",
            "fading",
            0.0,
            _top(strength),
        ),
        _Layer(
            "Posterior standard deviation",
            "learned little where it equals the prior's, the top of the scale"
            if not maps.radius
            else "small patches average fewer sources and vary more",
            spread,
            "nA·m",
            "spread",
            0.0,
            float(1e9 * np.linalg.norm(np.atleast_2d(maps.prior_sd.T), axis=0).max())
            if not maps.radius
            else _top(spread),
        ),
        _Layer(
            "Shrinkage: 1 − posterior variance / prior variance",
            "share of the uncertainty that the recording removed",
            100 * maps.shrinkage,
            "%",
            "learned",
            0.0,
            _top(100 * maps.shrinkage),
        ),
        _Layer(
            f"Probability that the current exceeds {limit}",
            f"{before:.0f} % before the recording (median)",
            100 * maps.exceedance,
            "%",
            "chance",
            0.0,
            100.0,
        ),
    ]
    if maps.near is not None and maps.chance is not None:
        chance = 100 * float(np.median(maps.chance))
        near = 100 * maps.near
        layers.append(
            _Layer(
                "Probability that the strongest current lies within 10 mm"
                if not maps.radius
                else "Probability that the strongest patch, for its size, lies within 10 mm",
                f"{chance:.1f} % by chance",
                near,
                "%",
                "chance",
                0.0,
                max(float(near.max()), 1e-9),
            )
        )
    else:
        peak = 100 * maps.peak
        layers.append(_Layer("Probability of the peak", "", peak, "%", "chance", 0.0, max(float(peak.max()), 1e-9)))
    return layers


def _top(values: Array) -> float:
    """Upper end of a colour scale that a few odd sources do not set."""
    high = float(np.quantile(values, 0.995))
    return high if high > 0 else max(float(values.max()), 1e-9)


def compare_maps(
    maps: Mapping[str, ArrayLike],
    problem: Problem,
    *,
    units: Mapping[str, str] | None = None,
    common: bool = False,
    marks: ArrayLike | None = None,
    views: Sequence[str] | None = None,
) -> Figure:
    """Draw several maps one below the other on the same cortex, seen from the same sides.

    maps : title to (source,) values
    units : title to "A m" (drawn in nA·m), "probability" (drawn in %) or any other text, which is printed as it is;
        "A m" for titles that are not named
    common : one colour scale for all maps of one unit, instead of one each
    marks, views : as in `cortex_maps`

    Maps with negative values get a colour scale about zero.

    Raises
    ------
    ValueError
        If there is no map, a map does not fit the sources or holds NaN, or a view does not exist.
    """
    if not maps:
        raise ValueError("there is no map to draw")
    layers = []
    for title, values in maps.items():
        flat = real(title, values, "source")
        if len(flat) != problem.source_count:
            raise ValueError(f"{title} has source = {len(flat)}, but the problem has source = {problem.source_count}")
        given = "A m" if units is None else units.get(title, "A m")
        unit, factor = UNITS.get(given, (given, 1.0))
        drawn = factor * flat
        top = 100.0 if given == "probability" else _top(np.abs(drawn))
        signed = bool((drawn < 0).any())
        palette = "signed" if signed else "chance" if given == "probability" else "fading"
        layers.append(_Layer(title, "", drawn, unit, palette, -top if signed else 0.0, top))
    if common:
        tops = {unit: max(layer.high for layer in layers if layer.unit == unit) for unit in {x.unit for x in layers}}
        layers = [
            _Layer(x.title, x.note, x.values, x.unit, x.palette, -tops[x.unit] if x.low < 0 else 0.0, tops[x.unit])
            for x in layers
        ]
    return _drawn(layers, problem.sources, marks, views)


def _palette(name: str) -> Colormap:
    """Colour maps whose lightness changes evenly; those of sparse quantities start as bare cortex."""
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


def _drawn(
    layers: Sequence[_Layer], sources: Sources | None, marks: ArrayLike | None, views: Sequence[str] | None
) -> Figure:
    places = None if marks is None else real("marks", np.atleast_2d(np.asarray(marks, dtype=float)), "mark axis")
    if places is not None and places.shape[1] != 3:
        raise ValueError(f"marks has shape {places.shape}, but its axes are (mark, 3)")
    for view in views or ():
        one_of("view", view, VIEWS)
    if sources is None:
        return _as_lines(layers)
    if sources.triangles is None or not len(sources.triangles):
        return _as_points(layers, sources, places)
    return _as_surfaces(layers, sources, places, views)


def _as_lines(layers: Sequence[_Layer]) -> Figure:
    figure = _figure(9.6, 1.9 * len(layers))
    for row, layer in enumerate(layers):
        axes = figure.add_subplot(len(layers), 1, row + 1)
        number = np.arange(len(layer.values))
        axes.fill_between(number, layer.values, step="mid", color=BLUE, alpha=0.25, linewidth=0)
        axes.plot(number, layer.values, color=BLUE, linewidth=0.8, drawstyle="steps-mid")
        axes.set_ylabel(layer.unit)
        axes.set_title(f"{layer.title}{_note(layer)}", loc="left", fontsize=9.5, color=INK)
        _plain(axes)
        axes.margins(x=0)
    axes.set_xlabel("source")
    return figure


def _as_points(layers: Sequence[_Layer], sources: Sources, marks: Array | None) -> Figure:
    places = 1e3 * sources.positions
    low, high = places.min(axis=0) - 4, places.max(axis=0) + 4
    span, middle = high - low, (low + high) / 2
    tall = span[1:].max()
    figure = _figure(9.6, 3.3 * len(layers))
    parts: Any = figure.subfigures(len(layers), 1, squeeze=False)[:, 0]
    sides = (("left", 1, 2), ("top", 0, 1), ("back", 0, 2))
    for layer, part in zip(layers, parts, strict=True):
        part.suptitle(f"{layer.title}{_note(layer)}", x=0.01, ha="left", fontsize=9.5, color=INK)
        grid = part.add_gridspec(1, 4, width_ratios=[*(span[across] for _, across, _ in sides), 0.03 * span.sum()])
        order = np.argsort(np.abs(layer.values))
        for column, (side, across, up) in enumerate(sides):
            axes = part.add_subplot(grid[0, column])
            x, y = places[order][:, [across, up]].T
            style: dict[str, Any] = {"cmap": _palette(layer.palette), "vmin": layer.low, "vmax": layer.high}
            points = axes.scatter(x, y, c=layer.values[order], s=10, linewidths=0, **style)
            if marks is not None:
                x, y = 1e3 * marks[:, [across, up]].T
                axes.scatter(x, y, s=70, facecolors="none", edgecolors=INK, linewidths=1.4)
            axes.set_aspect("equal")
            axes.set_xlim(*((high[across], low[across]) if side == "left" else (low[across], high[across])))
            axes.set_ylim(middle[up] - tall / 2, middle[up] + tall / 2)
            axes.set_xlabel(f"{'xyz'[across]} (mm)")
            axes.set_ylabel(f"{'xyz'[up]} (mm)")
            _plain(axes)
        _bar(part.colorbar(points, cax=part.add_subplot(grid[0, 3]), extend=_extend(layer)), layer)
    return figure


def _as_surfaces(
    layers: Sequence[_Layer], sources: Sources, marks: Array | None, views: Sequence[str] | None
) -> Figure:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    if views is None:
        halves = sources.hemispheres is not None and len(np.unique(sources.hemispheres)) == 2
        views = tuple(VIEWS)[:4] if halves else ("left", "top", "right", "back")
    scenes = _scenes(sources, tuple(views))
    # All views of a map are one picture with one scale; lengths are in inches, but for those in drawn pixels.
    inch = 7.9 / sum(scene.cover.shape[1] for scene in scenes)
    tall, gap = max(scene.cover.shape[0] for scene in scenes), round(0.12 / inch)
    starts = np.cumsum([gap, *(scene.cover.shape[1] + gap for scene in scenes)])
    wide = int(starts[-1])
    head, top, foot, side = 0.52, 0.28, 0.12, 0.95
    width, height = wide * inch + side, (tall * inch + head) * len(layers) + top + foot
    figure = _figure(width, height, layout=None)
    for view, scene, start in zip(views, scenes, starts, strict=False):
        middle = (start + scene.cover.shape[1] / 2) * inch / width
        figure.text(middle, 1 - 0.2 / height, view, ha="center", fontsize=8.5, color=QUIET)
    for row, layer in enumerate(layers):
        palette, norm = _palette(layer.palette), Normalize(layer.low, layer.high)
        bottom = height - top - (row + 1) * (tall * inch + head)
        axes = figure.add_axes((0, bottom / height, wide * inch / width, tall * inch / height), label=layer.title)
        picture = np.ones((tall, wide, 3))
        for scene, start in zip(scenes, starts, strict=False):
            rows, columns = scene.cover.shape
            above = (tall - rows) // 2
            picture[above : above + rows, start : start + columns] = scene.paint(
                palette(norm(scene.values(layer.values)))
            )
        axes.imshow(picture, interpolation="antialiased", aspect="auto")
        axes.set_axis_off()
        if marks is not None:
            _ring(axes, scenes, starts, tall, marks)
        words = bottom + tall * inch + 0.19
        figure.text(gap * inch / width, words / height, layer.title, fontsize=10.5, color=INK, fontweight="bold")
        figure.text(wide * inch / width, words / height, layer.note, fontsize=8.5, color=QUIET, ha="right")
        place = (wide * inch + 0.1, bottom + 0.1 * tall * inch, 0.11, 0.8 * tall * inch)
        bar_axes = figure.add_axes(tuple(np.array(place) / (width, height, width, height)))
        _bar(figure.colorbar(ScalarMappable(norm, palette), cax=bar_axes, extend=_extend(layer)), layer)
    return figure


@lru_cache(maxsize=1)
def _scenes(sources: Sources, views: tuple[str, ...]) -> list[_Scene]:
    """The cortex from all sides; the last one is kept, for the next figure shows it again."""
    surface = _Surface(sources)
    return [surface.scene(view) for view in views]


def _ring(axes: Axes, scenes: Sequence[_Scene], starts: Index, tall: int, marks: Array) -> None:
    """Ring the marks in sight, and with a dotted line those that no view shows."""
    seen, hidden = [], []
    found = [scene.places(marks) for scene in scenes]
    nowhere = ~np.any([sight for _, sight, _ in found], axis=0)
    for scene, start, (places, sight, mine) in zip(scenes, starts, found, strict=False):
        at = places + np.array([start - 0.5, (tall - scene.cover.shape[0]) // 2 - 0.5])
        seen.append(at[sight])
        hidden.append(at[nowhere & mine])
    for line, colour, style in ((3.4, "white", "-"), (1.7, INK, "-"), (1.1, INK, ":")):
        x, y = np.concatenate(hidden if style == ":" else seen).T
        axes.scatter(x, y, s=85, facecolors="none", edgecolors=colour, linewidths=line, linestyle=style)
    axes.set(xlim=(-0.5, starts[-1] - 0.5), ylim=(tall - 0.5, -0.5))


def _extend(layer: _Layer) -> Any:
    above = layer.values.max() > layer.high * (1 + 1e-9)
    below = layer.values.min() < layer.low - 1e-9 * abs(layer.high)
    return {(True, True): "both", (True, False): "max", (False, True): "min"}.get((bool(above), bool(below)), "neither")


def _bar(bar: Any, layer: _Layer) -> None:
    from matplotlib.ticker import MaxNLocator

    bar.locator = MaxNLocator(4)
    bar.update_ticks()
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, colors=QUIET, length=2)
    bar.ax.set_title(layer.unit, fontsize=8.5, color=QUIET, loc="left", pad=7)


def _note(layer: _Layer) -> str:
    return f"  ({layer.note})" if layer.note else ""


@dataclass(frozen=True, eq=False)
class _Scene:
    """A surface seen from one side: what of it every drawn pixel shows.

    weights : (row * column, source), sparse, what a pixel takes of each source; they sum to its cover
    cover : (row, column), share of the pixel that the surface covers
    shading : (row, column), brightness
    depth : (FINE * row, FINE * column), m, of the surface towards the viewer
    corner : left and top in m
    """

    weights: Any
    cover: Array
    shading: Array
    depth: Array
    corner: Array
    surface: _Surface
    frame: Array
    shown: NDArray[np.bool_]

    def values(self, values: Array) -> Array:
        """A map at every pixel."""
        return np.asarray((self.weights @ values).reshape(self.cover.shape) / np.maximum(self.cover, 1e-9))

    def paint(self, colours: Array) -> Array:
        """Colours (row, column, 4) of a map shaded, on white."""
        lit = np.minimum(colours[:, :, :3] * self.shading[:, :, None], 1)
        return np.asarray(1 + (lit - 1) * self.cover[:, :, None])

    def places(self, marks: Array) -> tuple[Array, NDArray[np.bool_], NDArray[np.bool_]]:
        """Where marks lie (mark, column and row), which are in sight, and which belong to what is shown."""
        near, offset = self.surface.nearest(marks)
        turned = (self.surface.unfolded[near] + offset) @ self.frame.T
        fine = (turned[:, :2] - self.corner) * (1, -1) * PIXELS_PER_METRE
        column, row = np.clip(fine.astype(int), 0, np.array(self.depth.shape)[::-1] - 1).T
        mine = self.shown[near]
        return fine / FINE, mine & (turned[:, 2] >= self.depth[row, column] - SIGHT), mine


class _Surface:
    """The triangles between sources, unfolded a little, and how they look from any side."""

    def __init__(self, sources: Sources) -> None:
        assert sources.triangles is not None
        self.sources, self.triangles = sources, sources.triangles
        self.hemispheres = sources.hemispheres

    @cached_property
    def _outward(self) -> Array | None:
        """1 or -1 per triangle, as its corners turn seen from outside; None where the surface is open.

        The far side of a closed surface need not be drawn.
        """
        edges = self.triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
        there = {*map(tuple, edges.tolist())}
        if len(there) < len(edges) or any((two, one) not in there for one, two in there):
            return None
        sign = np.ones(len(self.triangles))
        for part in self._parts():
            mine = np.isin(self.triangles[:, 0], part)
            one, two, three = (
                self.unfolded[self.triangles[mine, i]] - self.unfolded[part].mean(axis=0) for i in range(3)
            )
            sign[mine] = np.sign(np.einsum("ti,ti->", one, np.cross(two, three)))
        return sign

    @cached_property
    def _mean_of_neighbours(self) -> Any:
        count = len(self.sources)
        sides = np.concatenate([self.triangles[:, [i, j]] for i in range(3) for j in range(3) if i != j])
        table = csr_array((np.ones(len(sides)), sides.T), shape=(count, count))
        table.data[:] = 1.0
        lonely = np.flatnonzero(np.bincount(sides[:, 0], minlength=count) == 0)
        table = table + csr_array((np.ones(len(lonely)), (lonely, lonely)), shape=(count, count))
        return table / table.sum(axis=1)[:, None]

    @cached_property
    def unfolded(self) -> Array:
        """Positions (source, 3), m, smoothed and grown back to the size they had."""
        smooth = self.sources.positions
        for _ in range(UNFOLDING):
            smooth = 0.5 * smooth + 0.5 * (self._mean_of_neighbours @ smooth)
        out = smooth.copy()
        for part in self._parts():
            before, after = self.sources.positions[part], smooth[part]
            ratio = np.ptp(before, axis=0).mean() / max(np.ptp(after, axis=0).mean(), 1e-12)
            out[part] = before.mean(axis=0) + ratio * (after - after.mean(axis=0))
        return out

    def _parts(self) -> list[Index]:
        if self.hemispheres is None:
            return [np.arange(len(self.sources))]
        return [np.flatnonzero(self.hemispheres == side) for side in np.unique(self.hemispheres)]

    @cached_property
    def _normals(self) -> Array:
        corners = self.unfolded[self.triangles]
        sides = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normals = np.zeros_like(self.unfolded)
        for corner in range(3):
            np.add.at(normals, self.triangles[:, corner], sides)
        return np.asarray(normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-300))

    @cached_property
    def _sulci(self) -> Array:
        """Brightness (source,) that tells gyri from sulci of the folded surface."""
        from scipy.special import erf

        inward = self._mean_of_neighbours @ self.sources.positions - self.sources.positions
        height = -np.einsum("si,si->s", inward, self._normals)
        height = 0.5 * height + 0.5 * (self._mean_of_neighbours @ height)
        return np.asarray(1.0 + 0.1 * erf(height / max(float(np.std(height)), 1e-12)))

    def nearest(self, marks: Array) -> tuple[Index, Array]:
        """The source (mark,) nearest to each mark, and the way (mark, 3) from it to the mark."""
        distance = np.linalg.norm(self.sources.positions - marks[:, None], axis=2)
        near = distance.argmin(axis=1)
        return near, marks - self.sources.positions[near]

    def scene(self, view: str) -> _Scene:
        """What is seen from one side, by a depth buffer."""
        toward, up, side = VIEWS[view]
        frame = np.array([np.cross(up, toward), up, toward], dtype=float)
        shown = np.ones(len(self.sources), dtype=bool)
        if side is not None and self.hemispheres is not None:
            shown = self.hemispheres == side
        turned = self.unfolded @ frame.T
        towards = np.ones(len(self.triangles), dtype=bool)
        if self._outward is not None:
            one, two, three = (turned[self.triangles[:, i], :2] for i in range(3))
            (x, y), (u, v) = (two - one).T, (three - one).T
            towards = (x * v - y * u) * self._outward > 0
        triangles = self.triangles[towards & shown[self.triangles].all(axis=1)]
        if not len(triangles):
            raise ValueError(f"view {view!r} shows a hemisphere without sources")
        low, high = turned[shown].min(axis=0)[:2] - 0.001, turned[shown].max(axis=0)[:2] + 0.001
        columns, rows = np.ceil((high - low) * PIXELS_PER_METRE / FINE).astype(int).tolist()
        corner = np.array([low[0], high[1]])
        flat = (turned[:, :2] - corner) * (1, -1) * PIXELS_PER_METRE - 0.5
        pixel, which, weights = _covered(flat[triangles], FINE * columns)
        depth = np.einsum("nk,nk->n", weights, turned[triangles[which], 2])
        # Of several triangles at one pixel the nearest is seen.
        deep = np.full(FINE**2 * rows * columns, -np.inf)
        np.maximum.at(deep, pixel, depth)
        front = depth == deep[pixel]
        pixel, which, weights = pixel[front], which[front], weights[front]
        # Where two triangles share an edge the pixel may lie in both.
        pixel, first = np.unique(pixel, return_index=True)
        drawn = pixel // (FINE * columns) // FINE * columns + pixel % (FINE * columns) // FINE
        table = csr_array(
            (weights[first].ravel() / FINE**2, (np.repeat(drawn, 3), triangles[which[first]].ravel())),
            shape=(rows * columns, len(turned)),
        )
        cover = np.bincount(drawn, minlength=rows * columns).reshape(rows, columns) / FINE**2
        light = np.array([-0.25, 0.45, 0.86])
        lit = np.maximum(self._normals @ frame.T @ light, 0)
        bright = table @ ((0.62 + 0.42 * lit) * self._sulci)
        shading = bright.reshape(rows, columns) / np.maximum(cover, 1e-9)
        return _Scene(table, cover, shading, deep.reshape(FINE * rows, FINE * columns), corner, self, frame, shown)


def _covered(corners: Array, columns: int) -> tuple[Index, Index, Array]:
    """Pixels that triangles (triangle, 3, 2) cover: flat pixel number, triangle and barycentric weights of each."""
    first = np.floor(corners.min(axis=1)).astype(int)
    sizes = np.ceil(corners.max(axis=1)).astype(int) - first + 1
    counts = sizes.prod(axis=1)
    which = np.repeat(np.arange(len(corners)), counts)
    step = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    x = first[which, 0] + step % sizes[which, 0]
    y = first[which, 1] + step // sizes[which, 0]
    a, b, c = (corners[which, i] for i in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    safe = np.where(area == 0, np.inf, area)
    second = ((x - a[:, 0]) * (c[:, 1] - a[:, 1]) - (y - a[:, 1]) * (c[:, 0] - a[:, 0])) / safe
    third = ((b[:, 0] - a[:, 0]) * (y - a[:, 1]) - (b[:, 1] - a[:, 1]) * (x - a[:, 0])) / safe
    weights = np.stack([1 - second - third, second, third], axis=1)
    hit = (weights >= -1e-9).all(axis=1) & (area != 0)
    return y[hit] * columns + x[hit], which[hit], weights[hit]


# --- what all figures share


def _figure(width: float, height: float, layout: Any = "constrained") -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout, facecolor="white")
    figure.set_dpi(120)
    return figure


def _plain(axes: Axes, left: bool = True) -> None:
    for side in ("top", "right") if left else ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)
    axes.tick_params(colors=QUIET, labelsize=8.5, length=3)
    axes.xaxis.label.set(color=INK, fontsize=9)
    axes.yaxis.label.set(color=INK, fontsize=9)


def counted(problem: Problem) -> bool:
    """Whether times merely count samples, as they do where no times were given."""
    return bool(np.array_equal(problem.times, np.arange(len(problem.times)))) and len(problem.times) > 0


def _clock(problem: Problem) -> tuple[Array, str]:
    return (problem.times, "sample") if counted(problem) else (1e3 * problem.times, "time (ms)")


def _limits(time: Array) -> tuple[float, float]:
    return (float(time[0]), float(time[-1])) if len(time) > 2 else (float(time[0]) - 0.5, float(time[-1]) + 0.5)


def _place(problem: Problem, source: int) -> str:
    """Where a source is, in words: its coordinates in mm, in MRI coordinates where they are known."""
    if problem.sources is None:
        return ""
    mri = problem.sources.mri_positions
    x, y, z = 1e3 * (problem.sources.positions if mri is None else mri)[source]
    side = ""
    if problem.sources.hemispheres is not None:
        side = ("left", "right")[int(problem.sources.hemispheres[source])] + " hemisphere, "
    frame = "head" if mri is None else "MRI"
    return f" ({side}{frame} coordinates {x:.0f}, {y:.0f}, {z:.0f} mm)".replace("-", "−")


def percent(share: float, digits: int = 3) -> str:
    """A share as people read it."""
    return f"{100 * share:.{digits}g} %"


def spell(middle: float, low: float, high: float, level: float) -> str:
    """A median and its interval in words, with as many digits as tell the ends of the interval apart."""
    largest, width = max(abs(low), abs(high), abs(middle)), abs(high - low)
    if not width:
        return _number(middle)
    decimals = max(0, 1 - int(np.floor(np.log10(width))))
    if largest >= 1e5 or decimals > 6:
        return f"{middle:.3e},  {percent(level)} in {low:.3e} to {high:.3e}"
    return f"{middle:.{decimals}f},  {percent(level)} in {low:.{decimals}f} to {high:.{decimals}f}"


def _number(value: float) -> str:
    """Three significant digits, without an exponent where it can be read without."""
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.2e}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


# --- scores against a known truth


def coverage_curve(pits: Mapping[str, Pit]) -> Figure:
    """Draw how often central intervals of every level hold the truth; the diagonal says as often as they claim.

    pits : name to the `scores.Pit` of a stratum, model or run

    Raises
    ------
    ValueError
        If there is none, or one counts nothing.
    """
    figure, (axes,) = _square(pits)
    levels = np.arange(101) / 100
    for number, (name, pit) in enumerate(pits.items()):
        shares = pit.coverage(levels)
        label = f"{name} ({percent(pit.coverage([0.9])[0])} in 90 %)"
        axes.plot(levels, shares, color=f"C{number}", linewidth=1.6, label=label)
    axes.set_xlabel("level of the interval")
    axes.set_ylabel("share of truths inside")
    axes.legend(loc="upper left", frameon=False, fontsize=8)
    return figure


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
        claimed, happened, counts = found.table.T
        kept = counts > 0
        style: dict[str, Any] = {"color": f"C{number}", "marker": "o", "markersize": 3.5, "linewidth": 1.4}
        axes.plot(claimed[kept], happened[kept], label=f"{name} (Brier score {_number(found.brier)})", **style)
        below.plot(claimed[kept], counts[kept], **style)
    axes.set_ylabel("how often it happened")
    axes.tick_params(labelbottom=False)
    axes.legend(loc="upper left", frameon=False, fontsize=8)
    below.set(xlim=(-0.01, 1.01), yscale="log", xlabel="probability claimed", ylabel="count")
    _plain(below)
    return figure


def pit_histogram(pit: Pit, bins: int = 20, independent: float | None = None) -> Figure:
    """Draw where in its posterior the truth lies: flat if calibrated, ∪ if intervals are too narrow, ∩ if too wide.

    pit : of a stratum, model or run
    bins : number of bars, a divisor of the bins kept
    independent : how many independent truths the counts are worth, for a band that 95 % of the bars of a calibrated
        posterior lie in; None draws none, as neighbouring currents are anything but independent

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
    figure = _figure(4.6, 3.2)
    axes = figure.add_subplot()
    axes.bar((np.arange(bins) + 0.5) / bins, counts * bins / pit.count, width=0.94 / bins, color=BLUE, alpha=0.75)
    axes.axhline(1, color=INK, linewidth=1)
    if independent is not None:
        spread = float(ndtri(0.975) * np.sqrt((bins - 1) / independent))
        axes.axhspan(max(0.0, 1 - spread), 1 + spread, color=ORANGE, alpha=0.2, linewidth=0)
    axes.set(xlim=(0, 1), xlabel="place of the truth in its posterior", ylabel="density")
    _plain(axes)
    return figure


def _square(named: Mapping[str, Any], height: float = 4.4, rows: Sequence[float] = (1,)) -> tuple[Figure, list[Axes]]:
    """A figure whose first row is the unit square with its diagonal, for things that counted something."""
    empty = [name for name, one in named.items() if not one.count]
    if empty or not named:
        raise ValueError(f"nothing was counted{' in ' * bool(empty)}{', '.join(empty)}, so there is nothing to draw")
    figure = _figure(4.4, height)
    every = list(figure.subplots(len(rows), 1, squeeze=False, height_ratios=list(rows))[:, 0])
    every[0].plot([0, 1], [0, 1], color=QUIET, linewidth=0.9, linestyle=(0, (4, 3)))
    # A little more than the square, so that lines along its edges are seen whole.
    every[0].set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    _plain(every[0])
    return figure, every


def rank_curves(calibration: Calibration) -> Figure:
    """Draw, of every quantity, how many more truths than expected lie below each place in their posteriors.

    The curve of a right posterior lies inside its band, all curves at once with the calibration's level; one that
    does not is drawn in orange. First above and then below zero says that the posterior lies too high, the other
    sides that it is too wide or too narrow.

    Reference: Säilynoja, Bürkner & Vehtari (2022), Stat. Comput. 32, 32.
    """
    from bayesinv.calibration import band

    count, failed = calibration.count, calibration.failed
    lower, upper = band(count, calibration.each)
    at = np.arange(count + 1) / count
    columns = min(4, len(calibration.ranks))
    rows = -(-len(calibration.ranks) // columns)
    figure = _figure(2.4 * columns + 0.4, 2.0 * rows + 0.3)
    every = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    for axes, (name, places) in zip(every, calibration.ranks.items(), strict=False):
        colour = ORANGE if name in failed else BLUE
        axes.fill_between(at, np.r_[0, lower] - at, np.r_[0, upper] - at, color=FAINT, alpha=0.7, linewidth=0)
        axes.axhline(0, color=QUIET, linewidth=0.6)
        axes.plot(at, np.searchsorted(np.sort(places), at, side="right") / count - at, color=colour, linewidth=1.3)
        axes.set_title(name, loc="left", fontsize=9, color=colour if name in failed else INK)
        axes.set(xlim=(0, 1), xticks=(0, 0.5, 1), xticklabels=("0", "½", "1"))
        _plain(axes)
    for axes in every[len(calibration.ranks) :]:
        axes.set_visible(False)
    figure.supxlabel("place of the truth in its posterior", fontsize=9, color=INK)
    figure.supylabel("share below, less expected", fontsize=9, color=INK)
    return figure
