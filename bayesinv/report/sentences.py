"""What a posterior says, in sentences."""

from __future__ import annotations

import numpy as np

from bayesinv.axes import Array
from bayesinv.figures.style import counted, located
from bayesinv.posterior.maps import Maps
from bayesinv.posterior.peak import Peak
from bayesinv.posterior.posterior import Posterior
from bayesinv.wording import from_draws, percent

LEVEL = 0.9
RADII = (0.01, 0.02, 0.03)
"""Distances in m about the strongest mean for which the probability of the peak is told."""


def sentences(posterior: Posterior, single: Maps, regional: Maps | None, truth: Array | None) -> list[str]:
    """Return what was found and how sure it is: place and current of the peak, strength of the signal, the truth.

    single, regional : maps of single sources and, where there are any, of patches; then the peak is that of patches
    truth : (mark, 3), m, head coordinates; None where it is not known
    """
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
        near = peak.within(RADII[1])
        wide = peak.radius(LEVEL)
        words.append(
            f"That the peak truly lies within {1e3 * RADII[1]:.0f} mm of this place has probability "
            f"{from_draws(near, peak.draws)}; it takes {1e3 * wide:.0f} mm to be {percent(LEVEL)} sure."
        )
        words.append(_judged(wide))
    low, high = posterior.hyper["snr"].interval(LEVEL)
    strong = "stands clear of the noise" if low > 0.5 else "is weak" if low > 0.1 else "can hardly be told from noise"
    words.append(
        f"Over the whole recording the signal {strong}: its amplitude is {low:.2g} to {high:.2g} times the noise's "
        f"({percent(LEVEL)} interval), and the posterior mean explains "
        f"{percent(posterior.goodness_of_fit, 2)} of the power."
    )
    if truth is not None and problem.sources is not None:
        words.append(_against(truth, posterior, peak))
    return words


def _judged(radius: float) -> str:
    if radius <= 0.02:
        return "The place is well determined, given the model."
    if radius <= 0.05:
        return "The place is determined to a few centimetres, given the model."
    return (
        "Under this prior, in which sources are independent of their neighbours, the recording does not pin "
        "down one place; the maps below show which parts of the cortex are probable and which are not."
    )


def _against(truth: Array, posterior: Posterior, peak: Peak) -> str:
    assert peak.positions is not None
    distance = np.linalg.norm(peak.positions[:, None] - truth, axis=2).min(axis=1)
    mass = float(peak.probability[distance <= RADII[1]].sum())
    return (
        f"The truth is known here: the strongest mean lies {1e3 * distance[peak.strongest]:.0f} mm from it, and the "
        f"posterior gives probability {from_draws(mass, peak.draws)} to a peak within {1e3 * RADII[1]:.0f} mm of it."
    )


def _where(posterior: Posterior, source: int) -> str:
    sources = posterior.problem.sources
    if sources is None:
        return f"at source {source}"
    side, frame, (x, y, z) = located(sources, source)
    half = f"in the {side} hemisphere " if side else ""
    coordinates = "head coordinates" if frame == "head" else "MRI (surface RAS) coordinates"
    return f"{half}near ({x:.0f}, {y:.0f}, {z:.0f}) mm in {coordinates}".replace("-", "−")


def when(window: tuple[float, float], posterior: Posterior) -> str:
    """A window in words: in ms, or in samples where no times were given."""
    start, stop = window
    if counted(posterior.problem):
        return f"at sample {start:.0f}" if start == stop else f"mean of samples {start:.0f} to {stop:.0f}"
    return f"at {1e3 * start:.0f} ms" if start == stop else f"mean of {1e3 * start:.0f} to {1e3 * stop:.0f} ms"


def _probability(value: float, maps: Maps) -> str:
    if maps.mean.ndim == 2:
        return from_draws(value, maps.draws)
    return "above 0.999" if value > 0.999 else f"{value:.2g}" if value < 0.1 else f"{value:.3f}".rstrip("0")
