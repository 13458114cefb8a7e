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

    Of focal sources, the probability that one's patch holds a place is drawn instead of shrinkage and peak.

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
    """Return mean, standard deviation, shrinkage, exceedance and peak of a posterior as layers, in units of display.

    With focal sources, the probability that a source's patch holds a place is in the place of shrinkage and peak.
    """
    focal = maps.inclusion is not None
    averaged = f"mean over {1e3 * maps.radius:.0f} mm patches" if maps.radius else "single sources"
    strength = 1e9 * maps.strength
    mean = Layer(
        "Posterior mean" + (", norm" if maps.mean.ndim == 2 else ", absolute"),
        averaged,
        strength,
        "nA·m",
        "fading",
        0.0,
        _top(strength),
    )
    # Most places are in no source that was drawn, so that the median is that of dense currents.
    prior_chance = 100 * float(np.median(maps.prior_exceedance))
    exceedance = Layer(
        f"Probability that the current exceeds {1e9 * maps.threshold:.2g} nA·m",
        f"{prior_chance:.0f} % " + ("by dense currents alone" if focal else "before the recording") + " (median)",
        100 * maps.exceedance,
        "%",
        "chance",
        0.0,
        100.0,
    )
    if maps.inclusion is not None:
        inclusion = Layer(
            "Probability that a focal source holds the place",
            "single places, whatever the patches",
            100 * maps.inclusion,
            "%",
            "chance",
            0.0,
            max(100 * float(maps.inclusion.max()), 1e-9),
        )
        return [mean, _spread(maps), inclusion, exceedance]
    shrinkage = Layer(
        "Shrinkage: 1 − posterior variance / prior variance",
        "share of the uncertainty that the recording removed",
        100 * maps.shrinkage,
        "%",
        "learned",
        0.0,
        _top(100 * maps.shrinkage),
    )
    return [mean, _spread(maps), shrinkage, exceedance, _peak(maps)]


def _spread(maps: Maps) -> Layer:
    """Posterior standard deviation; of single sources below the prior's, which focal sources have none of."""
    spread = 1e9 * maps.uncertainty
    top, note = _top(spread), "small patches average fewer sources and vary more"
    if maps.inclusion is not None:
        note = "of its size, and of whether a source is there"
    elif not maps.radius:
        top = float(1e9 * np.linalg.norm(np.atleast_2d(maps.prior_sd.T), axis=0).max())
        note = "learned little where it equals the prior's, the top of the scale"
    return Layer("Posterior standard deviation", note, spread, "nA·m", "spread", 0.0, top)


def _peak(maps: Maps) -> Layer:
    """Probability of the strongest current's place, near each where positions are known."""
    title, note, values = "Probability of the peak", "", 100 * maps.peak
    if maps.near is not None and maps.chance is not None:
        what = "patch, for its size," if maps.radius else "current"
        title = f"Probability that the strongest {what} lies within 10 mm"
        note, values = f"{100 * float(np.median(maps.chance)):.1f} % by chance", 100 * maps.near
    return Layer(title, note, values, "%", "chance", 0.0, max(float(values.max()), 1e-9))


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
