"""Main results of a posterior, in sentences."""

from __future__ import annotations

import numpy as np

from bayesinv.axes import Array
from bayesinv.figures.style import counted, located
from bayesinv.posterior.foci import Focus
from bayesinv.posterior.maps import Maps
from bayesinv.posterior.peak import Peak
from bayesinv.posterior.posterior import Posterior
from bayesinv.wording import from_draws, percent

LEVEL = 0.9
LIKELY = 0.5
"""Least probability of a focal source that is told of."""
RADII = (0.01, 0.02, 0.03)
"""Distances in m from the strongest mean within which the probability of the peak is reported."""


def sentences(posterior: Posterior, single: Maps, regional: Maps | None, truth: Array | None) -> list[str]:
    """Return the main results and their uncertainty: position and current of the peak, signal, and the truth.

    single, regional : maps of single sources and of patches; the peak is that of patches, if there are any
    truth : (mark, 3), m, head coordinates; None where it is not known
    """
    if posterior.active is not None:
        return focal_sentences(posterior, truth)
    problem = posterior.problem
    main = single if regional is None else regional
    peak = main.place(problem)
    what = f"patch of cortex for its size ({1e3 * main.radius:.0f} mm about a source)" if main.radius else "source"
    mean = float(main.strength[peak.strongest])
    chance = float(main.exceedance[peak.strongest])
    words = [
        f"{when(main.window, posterior).capitalize()} the strongest {what} lies "
        f"{_where(posterior, peak.strongest)}, by the posterior mean. Its current there exceeds "
        f"{1e9 * main.threshold:.2g} nA·m with probability {_probability(chance, main)}; the mean is "
        f"{1e9 * mean:.2g} nA·m, its posterior standard deviation {1e9 * float(main.uncertainty[peak.strongest]):.2g}."
    ]
    if problem.sources is not None:
        within = peak.within(RADII[1])
        radius = peak.radius(LEVEL)
        words.append(
            f"That the peak truly lies within {1e3 * RADII[1]:.0f} mm of this position has probability "
            f"{from_draws(within, peak.draws)}; it takes {1e3 * radius:.0f} mm to be {percent(LEVEL)} sure."
        )
        words.append(_precision(radius))
    low, high = posterior.hyper["snr"].interval(LEVEL)
    weak = "is weak" if low > 0.1 else "can hardly be distinguished from noise"
    strength = "stands clear of the noise" if low > 0.5 else weak
    words.append(
        f"Over the whole recording the signal {strength}: its amplitude is {low:.2g} to {high:.2g} times the noise's "
        f"({percent(LEVEL)} interval), and the posterior mean explains "
        f"{percent(posterior.goodness_of_fit, 2)} of the power."
    )
    if truth is not None and problem.sources is not None:
        words.append(_against(truth, posterior, peak))
    return words


def likely_foci(posterior: Posterior) -> list[Focus]:
    """Return the focal sources that are at one place with a probability of a half or more."""
    return [] if posterior.active is None else [one for one in posterior.foci if one.probability >= LIKELY]


def sources_in_words(posterior: Posterior) -> list[tuple[str, str]]:
    """Rows of a table: the number of focal sources, and what is known of each; none where the prior has no sources."""
    if posterior.active is None:
        return []
    found = [(f"focal source {i}{_frame(one)}", one.describe()) for i, one in enumerate(likely_foci(posterior), 1)]
    return [("number of focal sources", posterior.count.describe()), *found]


def _frame(focus: Focus) -> str:
    """The frame of a focal source's place, in words; "" where positions are not known."""
    return "" if focus.centre is None else ", in head coordinates"


def focal_sentences(posterior: Posterior, truth: Array | None = None) -> list[str]:
    """Say how many focal sources there are and what is known of each, and how near to a known truth they are.

    truth : (mark, 3), m, head coordinates; None where it is not known
    """
    assert posterior.active is not None
    likely = likely_foci(posterior)
    several = f"{len(likely)} sources lie at one place each" if likely else "No source lies at one place"
    several = "One source lies at one place" if len(likely) == 1 else several
    words = [
        f"Numbers of focal sources and their probabilities: {posterior.count.describe()}. {several} with a probability "
        "of a half or more."
    ]
    words += [f"Source {i}{_frame(one)}: {one.describe()}.".replace("-", "−") for i, one in enumerate(likely, 1)]
    if posterior.active.preference:
        words.append(f"The recording {posterior.active.preference}.")
    words.append(f"The posterior mean explains {percent(posterior.goodness_of_fit, 2)} of the power.")
    places = [one.centre for one in likely if one.centre is not None]
    if truth is not None and places:
        distance = np.linalg.norm(np.stack(places)[:, None] - truth, axis=2)
        words += [
            f"The truth is known here: source {1 + int(np.argmin(each))} lies {1e3 * float(each.min()):.0f} mm from "
            f"{'it' if len(truth) == 1 else f'its place {i}'}."
            for i, each in enumerate(distance.T, 1)
        ]
    return words


def _precision(radius: float) -> str:
    """Say how well the peak is localised, given the radius in m of its credible ball."""
    if radius <= 0.02:
        return "The position is well determined, given the model."
    if radius <= 0.05:
        return "The position is determined to a few centimetres, given the model."
    return (
        "Under this prior, in which sources are independent of their neighbours, the recording does not determine "
        "one position; the maps below show which parts of the cortex are probable and which are not."
    )


def _against(truth: Array, posterior: Posterior, peak: Peak) -> str:
    """Compare the peak with a known truth (mark, 3), m."""
    assert peak.positions is not None
    distance = np.linalg.norm(peak.positions[:, None] - truth, axis=2).min(axis=1)
    mass = float(peak.probability[distance <= RADII[1]].sum())
    return (
        f"The truth is known here: the strongest mean lies {1e3 * distance[peak.strongest]:.0f} mm from it, and the "
        f"posterior gives probability {from_draws(mass, peak.draws)} to a peak within {1e3 * RADII[1]:.0f} mm of it."
    )


def _where(posterior: Posterior, source: int) -> str:
    """Position of a source in words, in mm."""
    sources = posterior.problem.sources
    if sources is None:
        return f"at source {source}"
    hemisphere, frame, (x, y, z) = located(sources, source)
    prefix = f"in the {hemisphere} hemisphere " if hemisphere else ""
    coordinates = "head coordinates" if frame == "head" else "MRI (surface RAS) coordinates"
    return f"{prefix}near ({x:.0f}, {y:.0f}, {z:.0f}) mm in {coordinates}".replace("-", "−")


def when(window: tuple[float, float], posterior: Posterior) -> str:
    """A window in words: in ms, or in samples where no times were given."""
    start, stop = window
    if counted(posterior.problem):
        return f"at sample {start:.0f}" if start == stop else f"mean of samples {start:.0f} to {stop:.0f}"
    return f"at {1e3 * start:.0f} ms" if start == stop else f"mean of {1e3 * start:.0f} to {1e3 * stop:.0f} ms"


def _probability(value: float, maps: Maps) -> str:
    """Probability of exceedance in words; with free orientation it is estimated from draws."""
    if maps.mean.ndim == 2:
        return from_draws(value, maps.draws)
    return "above 0.999" if value > 0.999 else f"{value:.2g}" if value < 0.1 else f"{value:.3f}".rstrip("0")
