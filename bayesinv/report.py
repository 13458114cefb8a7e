"""Report: one posterior as pictures and one self-contained page."""

from __future__ import annotations

import base64
import os
import platform
from collections.abc import Mapping, Sequence
from html import escape
from importlib.metadata import PackageNotFoundError, version
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from bayesinv import figures
from bayesinv.axes import Array, real
from bayesinv.catalogue import read_card
from bayesinv.posterior.hyper import Scalar
from bayesinv.posterior.maps import REGION, Maps, both
from bayesinv.posterior.peak import Peak
from bayesinv.posterior.posterior import Posterior
from bayesinv.windows import Window

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVEL = 0.9
RADII = (0.01, 0.02, 0.03)
"""Distances in m about the strongest mean for which the probability of the peak is told."""

DOTS = 140
PACKAGES = ("bayesinv", "numpy", "scipy", "pymc", "arviz", "mne", "matplotlib")

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
) -> Path:
    """Write pictures and `report.html`, which holds them all and asks for nothing else, into a folder.

    out : folder, made if it is not there
    window : (start, stop) in s, one time in s, or None for the sample with most signal
    title : of the page
    sections : further (heading, HTML or Figure); HTML is taken as it is, headings are escaped
    truth : (mark, 3), m, head coordinates: known places of current, ringed on the maps
    others : title to (source,) maps in A m of other estimates, drawn beside the posterior's
    prior : draws from the prior of the hyperparameters, see `figures.prior_draws`
    card : of the model; None reads that of the shipped model of this name
    draws : joint draws behind the peak
    radius : m, of the patches of cortex that stand for regions
    maps : of single sources and of patches, see `maps.both`, already made; then window, draws and radius are theirs

    Returns the path of `report.html`. Everything is drawn before the first file is written, and each file is
    renamed into place when it is whole.

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
    page, pictures = _rendered(posterior, single, regional, title, sections, marks, others, prior, card)
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        _place(folder / name, picture)
    _place(folder / "report.html", page.encode())
    return folder / "report.html"


def _place(path: Path, content: bytes) -> None:
    """Write a file under another name and rename it, so that nobody sees half of it."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _rendered(
    posterior: Posterior,
    single: Maps,
    regional: Maps | None,
    title: str | None,
    sections: Sequence[Section],
    truth: Array | None,
    others: Mapping[str, ArrayLike] | None,
    prior: Mapping[str, ArrayLike] | None,
    card: str | None,
) -> tuple[str, dict[str, bytes]]:
    """The page, and every picture by its file name."""
    radius = 0.0 if regional is None else regional.radius
    pictures: dict[str, bytes] = {}

    def picture(name: str, figure: Figure, alt: str, caption: str) -> str:
        pictures[name], small = _pixels(figure)
        coded = base64.b64encode(small).decode()
        return (
            f'<figure><div class="wide"><img src="data:image/webp;base64,{coded}" alt="{escape(alt)}"></div>'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )

    fit = figures.percent(posterior.goodness_of_fit, 2)
    body = [_headline(posterior, single, regional, truth)]
    body.append(
        "<h2>What was recorded, and what is explained</h2>"
        + picture(
            "recording.png",
            figures.recording_and_fit(posterior),
            f"Recording and fit over time; the posterior mean explains {fit} of the power.",
            "Left the recording, right what the posterior mean explains of it. Below, the same in units of the noise: "
            "the residual should lie at the noise level, and what a response adds should be in the fit.",
        )
    )
    body.append(
        "<h2>The strongest region over time</h2>"
        + picture(
            "course.png",
            figures.region_course(posterior, single.window, LEVEL, radius),
            "Time course of the mean current of the strongest region with its credible band.",
            "The region is the patch whose mean current is strongest for its size. The band holds its mean current "
            "with the stated probability at each time, given the model; the grey band is what was believed before the "
            "recording, at the learned scale. Where they coincide nothing was learned.",
        )
    )
    if others:
        body.append(
            "<h2>Beside other estimates</h2>"
            + picture(
                "compare.png",
                _beside(posterior, others, single, regional, truth),
                "Maps of " + ", ".join(others) + " and of the posterior on the same cortex.",
                "A point estimate says where it is largest; the posterior also says how probable a current of that "
                "size is. Each map has its own colour scale." + (" Rings: the truth." if truth is not None else ""),
            )
        )
    if regional is not None:
        body.append(
            f"<h2>Patches of cortex, {_when(regional.window, posterior)}</h2>"
            + picture(
                "maps.png",
                figures.cortex_maps(posterior, maps=regional, marks=truth),
                f"Cortical maps of the mean current over {1e3 * radius:.0f} mm patches: mean, standard deviation, "
                "shrinkage, exceedance and peak.",
                f"Every point shows the mean current over the cortex within {1e3 * radius:.0f} mm of it. Sensors tell "
                "patches apart better than single sources, so this is where the recording speaks; a patch is as sharp "
                "an answer as these sensors and this prior give." + (" Rings: the truth." if truth is not None else ""),
            )
        )
    body.append(
        f"<h2>Single sources, {_when(single.window, posterior)}</h2>"
        + picture(
            "sources.png" if regional is not None else "maps.png",
            figures.cortex_maps(posterior, maps=single, marks=truth),
            "Cortical maps of single sources: mean, standard deviation, shrinkage, exceedance and peak.",
            "With more sources than sensors no single source can be told from its neighbours: its standard deviation "
            "stays close to the prior's, and its probability close to what it was. A bright mean is therefore no "
            "evidence for that one source. Shrinkage shows how little or much was learned of each.",
        )
    )
    body.append(
        "<h2>Scales that were learned</h2>"
        + picture(
            "hyper.png",
            figures.hyper(posterior, LEVEL, prior),
            "Posterior densities of the regularisation, the signal-to-noise ratio and the other hyperparameters.",
            f"The dark part holds {figures.percent(LEVEL)} of the posterior; ticks below are the values the currents "
            "are mixed over. A signal-to-noise ratio whose interval comes down to 0 would say that noise alone "
            "explains the recording.",
        )
        + _hyper_table(posterior)
        + (
            picture(
                "chains.png",
                figures.chains(posterior),
                "Chains of the hyperparameters and the ranks of their draws.",
                "Left the chains, right how often each chain's draws have a rank: even where the chains agree.",
            )
            if posterior.method == "nuts"
            else ""
        )
    )
    body.append("<h2>Checks</h2>" + _checks(posterior))
    for number, (heading, content) in enumerate(sections, 1):
        inner = (
            content
            if isinstance(content, str)
            else picture(f"section-{number}.png", content, f"Picture: {heading}.", heading)
        )
        body.append(f"<h2>{escape(heading)}</h2>{inner}")
    body.append("<h2>The model</h2>" + _card(posterior, card))
    body.append("<h2>How it was made</h2>" + _provenance(posterior))
    name = title or "Where the currents were, and how sure that is"
    return PAGE.format(title=escape(name), style=STYLE, body="\n".join(body)), pictures


def _pixels(figure: Figure) -> tuple[bytes, bytes]:
    """A figure as PNG, and as WebP, a quarter of the size, for the page that carries all of them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    figure.set_dpi(DOTS)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba())[:, :, :3])
    png, webp = BytesIO(), BytesIO()
    image.save(png, format="PNG", compress_level=4, dpi=(DOTS, DOTS))
    image.save(webp, format="WEBP", quality=88, method=2)
    return png.getvalue(), webp.getvalue()


def _beside(
    posterior: Posterior, others: Mapping[str, ArrayLike], single: Maps, regional: Maps | None, truth: Array | None
) -> Figure:
    maps: dict[str, ArrayLike] = {title: np.asarray(values) for title, values in others.items()}
    maps["Posterior mean, absolute"] = single.strength
    last = single if regional is None else regional
    who = f"mean over {1e3 * last.radius:.0f} mm patches" if last.radius else "single sources"
    name = f"Probability that the current exceeds {1e9 * last.threshold:.2g} nA·m, {who}"
    maps[name] = last.exceedance
    return figures.compare_maps(maps, posterior.problem, units={name: "probability"}, marks=truth)


# --- the answer in words


def _headline(posterior: Posterior, single: Maps, regional: Maps | None, truth: Array | None) -> str:
    problem = posterior.problem
    main = single if regional is None else regional
    peak = main.place(problem)
    what = f"patch of cortex for its size ({1e3 * main.radius:.0f} mm about a source)" if main.radius else "source"
    mean = float(main.strength[peak.strongest])
    chance = float(main.exceedance[peak.strongest])
    words = [
        f"{_when(main.window, posterior).capitalize()} the strongest {what} lies "
        f"{_where(posterior, peak.strongest)}, by the posterior mean. Its current there exceeds "
        f"{1e9 * main.threshold:.2g} nA·m with probability {_probability(chance, main)}; the mean is "
        f"{1e9 * mean:.2g} nA·m, its posterior standard deviation {1e9 * float(main.uncertainty[peak.strongest]):.2g}."
    ]
    rows = []
    if problem.sources is not None:
        near = peak.within(RADII[1])
        wide = peak.radius(LEVEL)
        words.append(
            f"That the peak truly lies within {1e3 * RADII[1]:.0f} mm of this place has probability "
            f"{_share(near, peak.draws)}; it takes {1e3 * wide:.0f} mm to be {figures.percent(LEVEL)} sure."
        )
        words.append(_judged(wide))
        rows = _peak_rows(posterior, single, regional)
    low, high = posterior.hyper["snr"].interval(LEVEL)
    strong = "stands clear of the noise" if low > 0.5 else "is weak" if low > 0.1 else "can hardly be told from noise"
    words.append(
        f"Over the whole recording the signal {strong}: its amplitude is {low:.2g} to {high:.2g} times the noise's "
        f"({figures.percent(LEVEL)} interval), and the posterior mean explains "
        f"{figures.percent(posterior.goodness_of_fit, 2)} of the power."
    )
    if truth is not None and problem.sources is not None:
        words.append(_against(truth, posterior, peak))
    failed = [check.name for check in posterior.checks if not check.passed]
    mark = (
        f'<p class="bad">Checks failed: {escape(", ".join(failed))}. Do not trust these numbers before reading why.</p>'
        if failed
        else '<p class="good">All checks passed.</p>'
        if posterior.checks
        else ""
    )
    table = (
        html_table(("the peak lies there within", "strongest patch", "strongest single source", "by chance"), rows)
        if rows
        else ""
    )
    paragraphs = "".join(f"<p>{escape(text)}</p>" for text in words)
    return f'<section class="answer">{paragraphs}{mark}</section>{table}{_facts(posterior)}'


def _judged(radius: float) -> str:
    if radius <= 0.02:
        return "The place is well determined, given the model."
    if radius <= 0.05:
        return "The place is determined to a few centimetres, given the model."
    return (
        "Under this prior, in which sources are independent of their neighbours, the recording does not pin "
        "down one place; the maps below show which parts of the cortex are probable and which are not."
    )


def _peak_rows(posterior: Posterior, single: Maps, regional: Maps | None) -> list[tuple[str, ...]]:
    sources = posterior.problem.sources
    assert sources is not None
    alone = single.place(posterior.problem)
    patch = None if regional is None else regional.place(posterior.problem)
    centre = (patch or alone).strongest
    distance = np.linalg.norm(sources.positions - sources.positions[centre], axis=1)
    rows: list[tuple[str, ...]] = []
    for radius in RADII:
        rows.append(
            (
                f"{1e3 * radius:.0f} mm",
                "–" if patch is None else _share(patch.within(radius, centre), patch.draws),
                _share(alone.within(radius, centre), alone.draws),
                f"{float(np.mean(distance <= radius)):.2g}",
            )
        )
    return rows


def _against(truth: Array, posterior: Posterior, peak: Peak) -> str:
    assert peak.positions is not None
    distance = np.linalg.norm(peak.positions[:, None] - truth, axis=2).min(axis=1)
    mass = float(peak.probability[distance <= RADII[1]].sum())
    return (
        f"The truth is known here: the strongest mean lies {1e3 * distance[peak.strongest]:.0f} mm from it, and the "
        f"posterior gives probability {_share(mass, peak.draws)} to a peak within {1e3 * RADII[1]:.0f} mm of it."
    )


def _where(posterior: Posterior, source: int) -> str:
    sources = posterior.problem.sources
    if sources is None:
        return f"at source {source}"
    mri = sources.mri_positions
    x, y, z = 1e3 * (sources.positions if mri is None else mri)[source]
    side = ""
    if sources.hemispheres is not None:
        side = f"in the {('left', 'right')[int(sources.hemispheres[source])]} hemisphere "
    frame = "head coordinates" if mri is None else "MRI (surface RAS) coordinates"
    return f"{side}near ({x:.0f}, {y:.0f}, {z:.0f}) mm in {frame}".replace("-", "−")


def _when(window: tuple[float, float], posterior: Posterior) -> str:
    start, stop = window
    if figures.counted(posterior.problem):
        return f"at sample {start:.0f}" if start == stop else f"mean of samples {start:.0f} to {stop:.0f}"
    return f"at {1e3 * start:.0f} ms" if start == stop else f"mean of {1e3 * start:.0f} to {1e3 * stop:.0f} ms"


def _share(probability: float, draws: int) -> str:
    """A probability read off draws, not more certain than they are."""
    if probability <= 0:
        return f"below {1 / draws:.2g}"
    if probability >= 1:
        return f"above {1 - 1 / draws:.4g}"
    return f"{probability:.2f}" if probability >= 0.1 else f"{probability:.2g}"


def _probability(value: float, maps: Maps) -> str:
    if maps.mean.ndim == 2:
        return _share(value, maps.draws)
    return "above 0.999" if value > 0.999 else f"{value:.2g}" if value < 0.1 else f"{value:.3f}".rstrip("0")


# --- tables


def html_table(heads: Sequence[str], rows: Sequence[Sequence[str]], numbers: bool = True) -> str:
    """Return a table as HTML whose first column names the rows; numbers are set in figures of equal width."""
    top = "".join(f'<th scope="col">{escape(head)}</th>' for head in heads)
    lines = []
    for row in rows:
        first, *rest = row
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in rest)
        lines.append(f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>')
    kind = "numbers" if numbers else "words"
    return (
        f'<div class="wide"><table class="{kind}"><thead><tr>{top}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _facts(posterior: Posterior) -> str:
    problem = posterior.problem
    evidence = posterior.log_evidence
    lam, snr = posterior.hyper["lambda"], posterior.hyper["snr"]
    low, high = snr.interval(LEVEL)
    with np.errstate(divide="ignore"):
        lambda2 = np.array([1 / high**2, 1 / float(snr.quantile(0.5)) ** 2, 1 / np.float64(low) ** 2])
    span = (
        f"{len(problem.times)} samples"
        if figures.counted(problem)
        else f"{len(problem.times)} samples, {1e3 * problem.times[0]:.0f} to {1e3 * problem.times[-1]:.0f} ms"
    )
    rows = [
        ("signal-to-noise ratio (amplitude)", _spelled(snr, 1.0)),
        ("λ, 1/(nA·m)²", _spelled(lam, 1e-18)),
        (
            "λ² as MNE-Python counts it, 1/SNR²",
            figures.spell(lambda2[1], lambda2[0], lambda2[2], LEVEL) if np.isfinite(lambda2).all() else "unbounded",
        ),
        (
            "log evidence, nats",
            "not given by this method"
            if evidence is None
            else f"{float(evidence):.2f} ± {evidence.error:.1g}".replace("-", "−", 1),
        ),
        ("explained power", f"{figures.percent(posterior.goodness_of_fit)}"),
        ("model, method", f"{posterior.model}, {posterior.method}"),
        (
            "size",
            f"{problem.source_count} sources ({problem.orientation} orientation), {problem.components} sensor "
            f"components, {span}",
        ),
    ]
    return html_table(("", f"median and {figures.percent(LEVEL)} interval"), rows, numbers=False)


def _spelled(scalar: Scalar, factor: float) -> str:
    low, high = scalar.interval(LEVEL)
    return figures.spell(factor * float(scalar.quantile(0.5)), factor * low, factor * high, LEVEL)


def _hyper_table(posterior: Posterior) -> str:
    rows = []
    for name, numbers in posterior.hyper.summary(LEVEL).items():
        title, unit, factor = figures.HYPER.get(name, (name, "", 1.0))
        cells = (f"{factor * numbers[key]:.4g}" for key in ("mean", "sd", "low", "median", "high"))
        rows.append((name, *cells, f"{title}, {unit}" if unit else title))
    tail = (1 - LEVEL) / 2
    return html_table(("name", "mean", "sd", figures.percent(tail), "50 %", figures.percent(1 - tail), "what"), rows)


def _checks(posterior: Posterior) -> str:
    if not posterior.checks:
        return "<p>This posterior is exact; nothing had to be checked.</p>"
    lines = []
    for check in posterior.checks:
        verdict = '<td class="good">✓ passed</td>' if check.passed else '<td class="bad">✗ failed</td>'
        lines.append(
            f'<tr><th scope="row">{escape(check.name)}</th>{verdict}<td>{check.value:.3g}</td>'
            f"<td>{escape(check.limit)}</td><td>{escape(check.note)}</td></tr>"
        )
    heads = "".join(f'<th scope="col">{head}</th>' for head in ("check", "", "measured", "wanted", "what it means"))
    return (
        f'<div class="wide"><table class="words"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _card(posterior: Posterior, card: str | None) -> str:
    if card is None:
        try:
            card = read_card(posterior.model)
        except (ValueError, FileNotFoundError):
            card = "(The model was the user's own; its card was not given to the report.)"
    return f"<p>{escape(posterior.model)}</p><pre>{escape(card)}</pre>"


def _provenance(posterior: Posterior) -> str:
    stages = [(name, f"{seconds:.2f} s") for name, seconds in posterior.timings.items()]
    packages = [("Python", platform.python_version())]
    for name in PACKAGES:
        try:
            packages.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return (
        '<div class="pair">'
        + html_table(("stage", "time"), stages)
        + html_table(("package", "version"), packages)
        + "</div>"
    )


STYLE = """
:root{color-scheme:light;--ink:#1f2933;--quiet:#55616d;--line:#dfe3e8;--paper:#fff;--wash:#f4f6f8;--blue:#1f5a94;
--good:#1c6b3c;--bad:#a3230f}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue",Arial,sans-serif}
main{max-width:960px;margin:0 auto;padding:2.2rem 1.1rem 4rem}
h1{font-size:1.7rem;line-height:1.25;margin:0 0 1.2rem;letter-spacing:-.01em}
h2{font-size:1.15rem;margin:2.8rem 0 .7rem;padding-top:1rem;border-top:1px solid var(--line)}
p{margin:.5rem 0;max-width:46rem}
.answer{background:var(--wash);border-left:4px solid var(--blue);padding:.9rem 1.2rem;margin:0 0 1.4rem}
.answer p:first-child{font-size:1.1rem}
figure{margin:.4rem 0 1.2rem}
figcaption{color:var(--quiet);font-size:.92rem;max-width:46rem;margin-top:.5rem}
.wide{overflow-x:auto}
img{display:block;width:100%;min-width:620px;height:auto}
table{border-collapse:collapse;margin:.8rem 0;font-size:.93rem}
th,td{text-align:left;padding:.34rem 1.1rem .34rem 0;border-bottom:1px solid var(--line);vertical-align:top}
thead th{color:var(--quiet);font-weight:500;font-size:.85rem}
tbody th{font-weight:500}
.numbers td{font-variant-numeric:tabular-nums}
.good{color:var(--good)}.bad{color:var(--bad);font-weight:600}
td.good,td.bad{white-space:nowrap}
pre{background:var(--wash);padding:.9rem 1.1rem;overflow-x:auto;font-size:.86rem;line-height:1.5}
.pair{display:flex;flex-wrap:wrap;gap:0 4rem}
@media print{.wide{overflow:visible}img{min-width:0}h2{break-after:avoid}figure{break-inside:avoid}}
"""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{body}
</main>
</body>
</html>
"""
