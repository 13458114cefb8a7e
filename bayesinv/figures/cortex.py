"""Maps on the cortex: a posterior's maps of sources or patches, and several maps side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from bayesinv.axes import Array, real
from bayesinv.figures.layers import Layer, draw_layers
from bayesinv.figures.style import UNITS
from bayesinv.posterior.maps import Maps, posterior_maps
from bayesinv.posterior.posterior import Posterior
from bayesinv.problem.problem import Problem
from bayesinv.problem.windows import Window

if TYPE_CHECKING:
    from matplotlib.figure import Figure


FAR = 8.0
"""How many times a high quantile the largest value is where few sources are active and all others are not."""


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
    marks : (mark, 3), m, head coordinates: positions to ring, such as a known truth
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
    return draw_layers(layers_of(found), posterior.problem.sources, marks, views)


def layers_of(maps: Maps) -> list[Layer]:
    """Return mean, standard deviation, shrinkage, exceedance and peak of a posterior as layers, in units of display."""
    free = maps.mean.ndim == 2
    averaged = f"mean over {1e3 * maps.radius:.0f} mm patches" if maps.radius else "single sources"
    strength, spread = 1e9 * maps.strength, 1e9 * maps.uncertainty
    threshold = f"{1e9 * maps.threshold:.2g} nA·m"
    prior_chance = 100 * float(np.median(maps.prior_exceedance))
    layers = [
        Layer(
            "Posterior mean" + (", norm" if free else ", absolute"),
            averaged,
            strength,
            "nA·m",
            "fading",
            0.0,
            _top(strength),
        ),
        Layer(
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
        Layer(
            "Shrinkage: 1 − posterior variance / prior variance",
            "share of the uncertainty that the recording removed",
            100 * maps.shrinkage,
            "%",
            "learned",
            0.0,
            _top(100 * maps.shrinkage),
        ),
        Layer(
            f"Probability that the current exceeds {threshold}",
            f"{prior_chance:.0f} % before the recording (median)",
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
            Layer(
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
        layers.append(Layer("Probability of the peak", "", peak, "%", "chance", 0.0, max(float(peak.max()), 1e-9)))
    return layers


def _top(values: Array) -> float:
    """Upper end of a colour scale: a high quantile, so that outlying sources do not set it.

    It is the largest value where that is far above, as of focal sources: the few are what is to be seen then.
    """
    high, largest = float(np.quantile(values, 0.995)), float(values.max())
    return max(largest, 1e-9) if largest > FAR * high else high


def compare_maps(
    maps: Mapping[str, ArrayLike],
    problem: Problem,
    *,
    units: Mapping[str, str] | None = None,
    common: bool = False,
    marks: ArrayLike | None = None,
    views: Sequence[str] | None = None,
) -> Figure:
    """Draw several maps one below the other on the same cortex and in the same views.

    maps : title to (source,) values
    units : title to "A m" (drawn in nA·m), "probability" (drawn in %) or any other text, which is printed unchanged;
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
        layers.append(Layer(title, "", drawn, unit, palette, -top if signed else 0.0, top))
    if common:
        tops = {unit: max(layer.high for layer in layers if layer.unit == unit) for unit in {x.unit for x in layers}}
        layers = [
            Layer(x.title, x.note, x.values, x.unit, x.palette, -tops[x.unit] if x.low < 0 else 0.0, tops[x.unit])
            for x in layers
        ]
    return draw_layers(layers, problem.sources, marks, views)
