"""The page of one posterior."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from bayesinv import figures
from bayesinv.axes import Array, real
from bayesinv.criticism.posterior_predictive import CONSERVATIVE, PosteriorPredictive
from bayesinv.posterior.maps import REGION, Maps, both
from bayesinv.posterior.posterior import Posterior
from bayesinv.problem.windows import Window
from bayesinv.report import tables
from bayesinv.report.page import Page
from bayesinv.report.sentences import LEVEL, sentences, when
from bayesinv.wording import percent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INCLUSION = "The third map is the probability that a focal source's patch holds a place, whatever its current is."

Section = tuple[str, "str | Figure"]


def write(
    posterior: Posterior,
    out: str | PathLike[str],
    *,
    window: Window = None,
    title: str | None = None,
    sections: Sequence[Section] = (),
    truth: ArrayLike | None = None,
    others: Mapping[str, ArrayLike] | None = None,
    prior: Mapping[str, ArrayLike] | None = None,
    card: str | None = None,
    draws: int = 1000,
    radius: float = REGION,
    maps: tuple[Maps, Maps | None] | None = None,
    predictive: PosteriorPredictive | None = None,
) -> Path:
    """Write pictures and `report.html`, which embeds them all and needs no other file, into a folder.

    out : folder, made if it is not there
    window : (start, stop) in s, one time in s, or None for the sample with most signal
    title : of the page
    sections : further (heading, HTML or Figure); HTML is inserted unescaped, headings are escaped
    truth : (mark, 3), m, head coordinates: positions of known currents, ringed on the maps
    others : title to (source,) maps in A m of other estimates, drawn beside the posterior's
    prior : draws from the prior of the hyperparameters, see `figures.prior_draws`
    card : of the model; None reads that of the shipped model of this name
    draws : joint draws behind the peak
    radius : m, of the cortical patches that regional maps average over
    maps : of single sources and of patches, see `maps.both`, if computed before; replaces window, draws and radius
    predictive : recordings replicated from the posterior, see `posterior_predictive`, for a section on them

    Returns the path of `report.html`. Everything is drawn before the first file is written, and each file is
    renamed into place when it is complete.

    Raises
    ------
    ValueError
        If the window holds no sample, or truth, maps or sections do not fit.
    """
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, but the report wants a folder to write into")
    marks = None if truth is None else real("truth", np.atleast_2d(np.asarray(truth, dtype=float)), "mark axis")
    single, regional = both(posterior, window, radius=radius, draws=draws) if maps is None else maps
    page = Page()
    page.body.append(_headline(posterior, single, regional, marks))
    _recording(page, posterior)
    _course(page, posterior, single if regional is None else regional)
    if others:
        _others(page, posterior, others, single, regional, marks)
    if regional is not None:
        _patches(page, posterior, regional, marks)
    _sources(page, posterior, single, regional, marks)
    _scales(page, posterior, prior)
    page.section("Checks", tables.checks(posterior))
    if predictive is not None:
        _replicates(page, predictive)
    for number, (heading, content) in enumerate(sections, 1):
        shown = content
        if not isinstance(shown, str):
            shown = page.picture(f"section-{number}.png", shown, heading, f"Picture: {heading}.")
        page.section(heading, shown)
    page.section("The model", tables.card_of(posterior, card))
    page.section("What was used", tables.used(posterior))
    page.section("How it was made", tables.provenance(posterior))
    return page.write(folder, "report.html", title or "Where the currents were, and how sure that is")


def _headline(posterior: Posterior, single: Maps, regional: Maps | None, truth: Array | None) -> str:
    """Return the result in words, whether all checks passed, and the main numbers."""
    paragraphs = "".join(f"<p>{escape(text)}</p>" for text in sentences(posterior, single, regional, truth))
    failed = [check.name for check in posterior.checks if not check.passed]
    mark = '<p class="good">All checks passed.</p>' if posterior.checks else ""
    if failed:
        names = escape(", ".join(failed))
        mark = f'<p class="bad">Checks failed: {names}. Do not trust these numbers before reading why.</p>'
    if posterior.active is None:
        table = tables.peak_probabilities(posterior, single, regional)
    else:
        table = tables.numbers_of_sources(posterior)
    return f'<section class="answer">{paragraphs}{mark}</section>{table}{tables.facts(posterior)}'


def _recording(page: Page, posterior: Posterior) -> None:
    picture = page.picture(
        "recording.png",
        figures.recording_and_fit(posterior),
        "Left the recording, right what the posterior mean explains of it. Below, the same in units of the noise: "
        "where the residual lies above the noise, the recording holds something that the mean does not explain.",
        f"Recording and fit over time; the posterior mean explains {percent(posterior.goodness_of_fit, 2)} of the "
        "power.",
    )
    page.section("What was recorded, and what is explained", picture)


def _course(page: Page, posterior: Posterior, maps: Maps) -> None:
    if posterior.active is None:
        picked = "The region is the patch whose mean current is strongest for its size."
        before = (
            "; the grey band is what was believed before the recording, at the learned scale. Where they coincide "
            "nothing was learned"
        )
    else:
        picked = (
            "The region is the patch whose mean current is strongest: a mean over its places, where a focal source's "
            "current is a sum, with the sign of the normal at the patch's centre, which may be across a sulcus."
        )
        before = ""
    picture = page.picture(
        "course.png",
        figures.region_course(posterior, maps.window, LEVEL, maps.radius, maps),
        f"{picked} The band holds its mean current with the stated probability at each time, given the model{before}.",
        "Time course of the mean current of the strongest region with its credible band.",
    )
    page.section("The strongest region over time", picture)


def _others(
    page: Page,
    posterior: Posterior,
    others: Mapping[str, ArrayLike],
    single: Maps,
    regional: Maps | None,
    truth: Array | None,
) -> None:
    picture = page.picture(
        "compare.png",
        _beside(posterior, others, single, regional, truth),
        "A point estimate says where it is largest; the posterior also says how probable a current of that "
        "size is. Each map has its own colour scale." + _rings(truth),
        "Maps of " + ", ".join(others) + " and of the posterior on the same cortex.",
    )
    page.section("Beside other estimates", picture)


def _patches(page: Page, posterior: Posterior, regional: Maps, truth: Array | None) -> None:
    radius = f"{1e3 * regional.radius:.0f} mm"
    why = (
        "Sensors resolve patches better than single sources, so this is where the recording is informative; a patch is "
        "as precise an answer as these sensors and this prior give."
        if posterior.active is None
        else "A focal source is smeared over all patches that hold some of it, and where its place is in doubt over "
        f"those of all its places. {INCLUSION}"
    )
    picture = page.picture(
        "maps.png",
        figures.cortex_maps(posterior, maps=regional, marks=truth),
        f"Every point shows the mean current over the cortex within {radius} of it. {why}" + _rings(truth),
        f"Cortical maps of the mean current over {radius} patches: {_layers(posterior)}.",
    )
    page.section(f"Patches of cortex, {when(regional.window, posterior)}", picture)


def _sources(page: Page, posterior: Posterior, single: Maps, regional: Maps | None, truth: Array | None) -> None:
    caption = (
        "With more sources than sensors no single source can be distinguished from its neighbours: its standard "
        "deviation stays close to the prior's, and its probability close to what it was. A bright mean is therefore no "
        "evidence for that one source. Shrinkage shows how little or much was learned of each."
        if posterior.active is None
        else "A place is bright in the mean as often as a focal source holds it, so that one source whose place is in "
        f"doubt is several weaker ones here; what is said of sources above is of each as one. {INCLUSION}"
    )
    picture = page.picture(
        "sources.png" if regional is not None else "maps.png",
        figures.cortex_maps(posterior, maps=single, marks=truth),
        caption,
        f"Cortical maps of single sources: {_layers(posterior)}.",
    )
    page.section(f"Single sources, {when(single.window, posterior)}", picture)


def _scales(page: Page, posterior: Posterior, prior: Mapping[str, ArrayLike] | None) -> None:
    weak = (
        "A signal-to-noise ratio whose interval comes down to 0 would say that noise alone explains the recording."
        if posterior.active is None
        else "The signal-to-noise ratio, λ and the source scale are those of the dense currents beside the focal "
        "sources: however weak these are, the sources' currents have strengths of their own."
    )
    picture = page.picture(
        "hyper.png",
        figures.hyper(posterior, LEVEL, prior),
        f"The dark part holds {percent(LEVEL)} of the posterior; ticks below are the values the currents "
        f"are mixed over. {weak}",
        "Posterior densities of the regularisation, the signal-to-noise ratio and the other hyperparameters.",
    )
    chains = ""
    if posterior.hyper.chains > 1:
        chains = page.picture(
            "chains.png",
            figures.chains(posterior),
            "Left the chains, right how often each chain's draws have a rank: even where the chains agree.",
            "Chains of the hyperparameters and the ranks of their draws.",
        )
    page.section("Scales that were learned", picture, tables.hyperparameters(posterior), chains)


def _replicates(page: Page, checked: PosteriorPredictive) -> None:
    picture = page.picture(
        "predictive.png",
        figures.posterior_predictive(checked, LEVEL),
        "Recordings drawn from the posterior, beside the one that was recorded: its field power over time, what every "
        "sensor shows beyond all others, and the share of replicates in which each test quantity is as large. Orange "
        "is what hardly any replicate shows.",
        f"Replicated recordings beside the recorded one: {checked.verdict}.",
    )
    words = f"<p>{escape(checked.verdict[0].upper() + checked.verdict[1:])}. {escape(CONSERVATIVE)}</p>"
    page.section("Recordings that could have been", words, picture, tables.quantities(checked))


def _layers(posterior: Posterior) -> str:
    """What maps show, in words."""
    return "mean, standard deviation, " + (
        "shrinkage, exceedance and peak" if posterior.active is None else "inclusion in a focal source and exceedance"
    )


def _rings(truth: Array | None) -> str:
    return " Rings: the truth." if truth is not None else ""


def _beside(
    posterior: Posterior, others: Mapping[str, ArrayLike], single: Maps, regional: Maps | None, truth: Array | None
) -> Figure:
    maps: dict[str, ArrayLike] = {title: np.asarray(values) for title, values in others.items()}
    maps["Posterior mean, absolute"] = single.strength
    last = single if regional is None else regional
    averaged = f"mean over {1e3 * last.radius:.0f} mm patches" if last.radius else "single sources"
    name = f"Probability that the current exceeds {1e9 * last.threshold:.2g} nA·m, {averaged}"
    maps[name] = last.exceedance
    return figures.compare_maps(maps, posterior.problem, units={name: "probability"}, marks=truth)
