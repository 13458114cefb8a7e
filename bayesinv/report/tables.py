"""Tables of a posterior: summary, probabilities of the peak, hyperparameters, checks, replicates and provenance."""

from __future__ import annotations

from html import escape

import numpy as np

from bayesinv.criticism.posterior_predictive import QUANTITY_HEADS, PosteriorPredictive
from bayesinv.criticism.quantities import QUANTITIES
from bayesinv.figures.hyperparameters import HYPER
from bayesinv.figures.style import counted
from bayesinv.posterior.hyper import Scalar
from bayesinv.posterior.maps import Maps
from bayesinv.posterior.posterior import Posterior
from bayesinv.prior.catalogue import read_card
from bayesinv.problem.account import account
from bayesinv.report.page import html_table
from bayesinv.report.sentences import LEVEL, RADII, sources_in_words
from bayesinv.versions import versions
from bayesinv.wording import from_draws, percent, spell

PACKAGES = ("bayesinv", "numpy", "scipy", "pymc", "arviz", "mne", "matplotlib")


def peak_probabilities(posterior: Posterior, single: Maps, regional: Maps | None) -> str:
    """Probability that the peak lies within some distances of the strongest mean; empty without positions."""
    sources = posterior.problem.sources
    if sources is None:
        return ""
    single_peak = single.place(posterior.problem)
    patch_peak = None if regional is None else regional.place(posterior.problem)
    centre = (patch_peak or single_peak).strongest
    distance = np.linalg.norm(sources.positions - sources.positions[centre], axis=1)
    rows: list[tuple[str, ...]] = []
    for radius in RADII:
        rows.append(
            (
                f"{1e3 * radius:.0f} mm",
                "–" if patch_peak is None else from_draws(patch_peak.within(radius, centre), patch_peak.draws),
                from_draws(single_peak.within(radius, centre), single_peak.draws),
                f"{float(np.mean(distance <= radius)):.2g}",
            )
        )
    return html_table(("the peak lies there within", "strongest patch", "strongest single source", "by chance"), rows)


def numbers_of_sources(posterior: Posterior) -> str:
    """Probability of each number of focal sources."""
    return html_table(("number of focal sources", "probability"), posterior.count.likely())


def facts(posterior: Posterior) -> str:
    """Focal sources, if any; medians and intervals of SNR and λ, with evidence, fit, and sizes of the problem."""
    problem = posterior.problem
    evidence = posterior.log_evidence
    lam, snr = posterior.hyper["lambda"], posterior.hyper["snr"]
    low, high = snr.interval(LEVEL)
    with np.errstate(divide="ignore"):
        lambda2 = np.array([1 / high**2, 1 / float(snr.quantile(0.5)) ** 2, 1 / np.float64(low) ** 2])
    span = (
        f"{len(problem.times)} samples"
        if counted(problem)
        else f"{len(problem.times)} samples, {1e3 * problem.times[0]:.0f} to {1e3 * problem.times[-1]:.0f} ms"
    )
    # Beside focal sources, these are scales of what is left of the currents.
    dense = "" if posterior.active is None else " of dense currents"
    rows = [(name, words.replace("-", "−")) for name, words in sources_in_words(posterior)]
    rows += [
        (f"signal-to-noise ratio (amplitude){dense}", _with_interval(snr, 1.0)),
        (f"λ{dense}, 1/(nA·m)²", _with_interval(lam, 1e-18)),
        (
            f"λ²{dense} as MNE-Python counts it, 1/SNR²",
            spell(lambda2[1], lambda2[0], lambda2[2], LEVEL) if np.isfinite(lambda2).all() else "unbounded",
        ),
        (
            "log evidence, nats",
            "not given by this method"
            if evidence is None
            else f"{float(evidence):.2f} ± {evidence.error:.1g}".replace("-", "−", 1),
        ),
        ("explained power", f"{percent(posterior.goodness_of_fit)}"),
        ("model, method", f"{posterior.model}, {posterior.method}"),
        (
            "size",
            f"{problem.source_count} sources ({problem.orientation} orientation), {problem.components} sensor "
            f"components, {span}",
        ),
    ]
    return html_table(("", f"median and {percent(LEVEL)} interval"), rows, numbers=False)


def _with_interval(scalar: Scalar, factor: float) -> str:
    """Median and interval of a hyperparameter, times a factor, in words."""
    low, high = scalar.interval(LEVEL)
    return spell(factor * float(scalar.quantile(0.5)), factor * low, factor * high, LEVEL)


def hyperparameters(posterior: Posterior) -> str:
    """Mean, sd and quantiles of every hyperparameter."""
    rows = []
    summary = posterior.hyper.summary(LEVEL)
    for name in posterior.hyper.shown:
        numbers = summary[name]
        title, unit, factor = HYPER.get(name, (name, "", 1.0))
        cells = (f"{factor * numbers[key]:.4g}" for key in ("mean", "sd", "low", "median", "high"))
        rows.append((name, *cells, f"{title}, {unit}" if unit else title))
    tail = (1 - LEVEL) / 2
    return html_table(("name", "mean", "sd", percent(tail), "50 %", percent(1 - tail), "what"), rows)


def checks(posterior: Posterior) -> str:
    """Every check with its measured value and its limit."""
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


def quantities(checked: PosteriorPredictive) -> str:
    """Every test quantity, recorded and replicated, with its p-value, and what it is."""
    rows = [
        (*cells, QUANTITIES.get(one.name, "as given"))
        for cells, one in zip(checked.cells(), checked.every, strict=True)
    ]
    return html_table((*QUANTITY_HEADS, "what"), rows)


def card_of(posterior: Posterior, card: str | None) -> str:
    """The model's name and card; None reads that of the shipped model of this name."""
    if card is None:
        try:
            card = read_card(posterior.model)
        except (ValueError, FileNotFoundError):
            card = "(The model was the user's own; its card was not given to the report.)"
    return f"<p>{escape(posterior.model)}</p><pre>{escape(card)}</pre>"


def used(posterior: Posterior) -> str:
    """What of all that was given is used, and what was left out."""
    return html_table(("", "used"), list(account(posterior.problem).items()), numbers=False)


def provenance(posterior: Posterior) -> str:
    """Times of the stages and versions of the packages."""
    stages = [(name, f"{seconds:.2f} s") for name, seconds in posterior.timings.items()]
    packages = [("Python" if name == "python" else name, text) for name, text in versions(*PACKAGES).items()]
    return (
        '<div class="pair">'
        + html_table(("stage", "time"), stages)
        + html_table(("package", "version"), packages)
        + "</div>"
    )
