"""Hyperparameters: their posterior densities, the prior behind them, and their chains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from bayesinv.arguments import Randomness, generator_of
from bayesinv.axes import Array
from bayesinv.figures.style import BLUE, DASHED, INK, MUTED, ORANGE, blank, plain
from bayesinv.posterior.hyper import Scalar
from bayesinv.posterior.posterior import Posterior
from bayesinv.posterior.quantiles import credible_level
from bayesinv.problem.problem import Problem
from bayesinv.wording import percent, spell, three_digits

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_LEVELS = 40
"""Most values that a hyperparameter takes where it is drawn value by value: a density would have a mode at each."""

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
    names = posterior.hyper.shown[:6]
    columns = 2 if len(names) in (2, 4) else 3
    rows = -(-len(names) // columns)
    figure = blank(9.6, 2.9 * rows)
    for position, name in enumerate(names, 1):
        axes = figure.add_subplot(rows, columns, position)
        given = None if prior is None or name not in prior else np.asarray(prior[name], dtype=float)
        _density(axes, name, posterior.hyper[name], level, given)
    engine: Any = figure.get_layout_engine()
    engine.set(hspace=0.08, wspace=0.04)
    return figure


def chains(posterior: Posterior, most: int = 6) -> Figure:
    """Draw the chains of the hyperparameters: their traces on the left, the ranks of each chain's draws on the right.

    Ranks are uniform where the chains agree; a chain that explores another region has a peak in its ranks.

    most : hyperparameters drawn, those of the model first

    Raises
    ------
    ValueError
        If the hyperparameters were not sampled in chains.

    Reference: Vehtari et al. (2021), Bayesian Anal. 16, 667-718.
    """
    from scipy.stats import rankdata

    count = posterior.hyper.chains
    if count < 2:
        raise ValueError(
            f"the hyperparameters were integrated by {posterior.method}; only what is sampled has chains, see `hyper`"
        )
    names = [*posterior.hyper.shown[2 : most + 1], "lambda"]
    figure = blank(9.6, 1.5 * len(names) + 0.4)
    colours = [BLUE, ORANGE, INK, MUTED]
    for row, name in enumerate(names):
        title, unit, factor = HYPER.get(name, (name, "", 1.0))
        draws = factor * posterior.hyper[name].draws.reshape(count, -1)
        ranks = rankdata(draws).reshape(draws.shape)
        trace, spread = (figure.add_subplot(len(names), 2, 2 * row + side) for side in (1, 2))
        bins = np.linspace(0, draws.size, 21)
        for chain in range(count):
            colour = colours[chain % len(colours)]
            trace.plot(draws[chain], color=colour, linewidth=0.4, alpha=0.8)
            tally = np.histogram(ranks[chain], bins)[0]
            spread.stairs(tally / (draws.shape[1] / 20), bins, color=colour, linewidth=1.0)
        spread.axhline(1, color=MUTED, linewidth=0.6)
        spread.set(yticks=[0, 1], xticks=[])
        trace.set_title(f"{title} ({unit})" if unit else title, loc="left", fontsize=9, color=INK)
        for axes in (trace, spread):
            plain(axes)
        if row == len(names) - 1:
            trace.set_xlabel("draw")
            spread.set_xlabel("rank among all draws; 1 is even")
    return figure


def _density(axes: Axes, name: str, scalar: Scalar, level: float, prior: Array | None) -> None:
    """Draw the density of one hyperparameter with its interval, nodes and prior."""
    from scipy.stats import gaussian_kde

    title, unit, factor = HYPER.get(name, (name, "", 1.0))
    draws, nodes = factor * scalar.draws, factor * scalar.nodes
    low, high = (factor * bound for bound in scalar.interval(level))
    middle = float(factor * scalar.quantile(0.5))
    axes.set_xlabel(f"{title} ({unit})" if unit else title)
    axes.set_yticks([])
    plain(axes, left=False)
    if np.ptp(draws) <= 1e-9 * abs(middle):
        axes.axvline(middle, color=BLUE, linewidth=2)
        axes.set_title(f"{three_digits(middle)}, fixed by the model", loc="left", fontsize=10, color=INK)
        return
    if len(np.unique(draws)) <= min(MOST_LEVELS, len(draws) // 10):
        _levels(axes, draws, low, high)
        axes.set_title(spell(middle, low, high, level), loc="left", fontsize=10, color=INK)
        return
    bounded = name in ("depth", "tangential", "extent")
    logs = not bounded and bool((draws > 0).all())
    values = np.log(draws) if logs else draws
    bounds = np.quantile(values, [0.0005, 0.9995])
    prior_values = None
    if prior is not None and np.isfinite(prior).all() and (not logs or (prior > 0).all()) and np.ptp(prior) > 0:
        prior_values = np.log(factor * prior) if logs else factor * prior
    margin = 0.35 * np.ptp(bounds)
    x = np.linspace(bounds[0] - margin, bounds[1] + margin, 300)
    if bounded:
        x = x[(x >= 0) & (x <= 1)]
    drawn = np.exp(x) if logs else x
    density = gaussian_kde(values)(x)
    axes.fill_between(drawn, density, color=BLUE, alpha=0.18, linewidth=0)
    inside = (drawn >= low) & (drawn <= high)
    axes.fill_between(drawn[inside], density[inside], color=BLUE, alpha=0.35, linewidth=0)
    axes.plot(drawn, density, color=BLUE, linewidth=1.5)
    if prior_values is not None:
        axes.plot(drawn, gaussian_kde(prior_values)(x), color=MUTED, linewidth=1, linestyle=DASHED)
        tail = (1 - level) / 2
        first, last = (three_digits(bound) for bound in factor * np.quantile(np.asarray(prior), [tail, 1 - tail]))
        words = f"prior (dashed):\n{percent(level)} in {first} to {last}"
        axes.text(0.99, 0.97, words, transform=axes.transAxes, ha="right", va="top", fontsize=8, color=MUTED)
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


def _levels(axes: Axes, draws: Array, low: float, high: float) -> None:
    """Draw the probability of each of a few values, those in the interval darker."""
    from matplotlib.colors import to_rgb

    values, counts = np.unique(draws, return_counts=True)
    logs = bool((values > 0).all()) and values[-1] > 3 * values[0]
    places = np.log(values) if logs else values
    half = 0.4 * np.gradient(places)
    left, right = (np.exp(end) if logs else end for end in (places - half, places + half))
    shades = np.where((values >= low) & (values <= high), 0.35, 0.18)
    colours = [(*to_rgb(BLUE), shade) for shade in shades]
    axes.bar(left, counts / counts.sum(), right - left, align="edge", color=colours, edgecolor=BLUE, linewidth=0.8)
    if logs:
        axes.set_xscale("log")
        _log_ticks(axes, np.array([left[0], right[-1]]))


def _log_ticks(axes: Axes, drawn: Array) -> None:
    """Set about four labels in plain notation, whether the axis spans a tenth of a decade or many."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    if drawn[-1] / drawn[0] < 20:
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    else:
        axes.xaxis.set_major_locator(LogLocator(numticks=5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="minor", bottom=False)


def prior_draws(model: Any, problem: Problem, count: int = 1000, rng: Randomness = None) -> dict[str, Array]:
    """Return draws (draw,) of a model's hyperparameters, λ and SNR from its prior.

    model : as in `infer`
    rng : a generator or a seed, 0 if None

    Raises
    ------
    ValueError
        If the model does not exist or does not fit the problem.
    """
    from bayesinv.prior.catalogue import build
    from bayesinv.prior.density import Density
    from bayesinv.prior.vectorised import with_lambda

    rng = generator_of(rng)
    density = Density.of(build(model, problem)[1])
    named = density.draw(count, rng)
    if not named:
        return {}
    drawn = with_lambda(
        named, *density.scales(density.unconstrained(list(named.values()))), density.observation.mean_power
    )
    return {name: value for name, value in drawn.items() if value.ndim == 1}
