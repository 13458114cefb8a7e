"""Whether the currents that a posterior finds were there before the response: as strong ones, in the baseline.

    recording ~ Normal(0, variance G D Gᵀ ⊗ T + noise² N ⊗ K),   baseline ~ Normal(0, ratio variance G D Gᵀ ⊗ T' + ...)

The noise is one spatial covariance times one correlation over time per kind of sensor. Ongoing activity of the brain is
slower in directions that currents reach than noise of sensors is elsewhere, which no such product holds: a model whose
currents are slow takes it for a response. It does so in the baseline, too, where a response is not; the ratio at which
currents of the same structure fit the baseline tells.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.linalg import solve_triangular

from bayesinv.axes import Array
from bayesinv.covariance.covariance import Structure
from bayesinv.covariance.time_course import correlation_over_time
from bayesinv.evidence.spectrum import Decomposition, Spectrum
from bayesinv.posterior.checks import Check
from bayesinv.posterior.mixture import Mixture
from bayesinv.problem.autocorrelation import MIN_SAMPLES
from bayesinv.problem.problem import Problem
from bayesinv.problem.time_whitening import DENSE, JITTER

CLAIMED = 3.0
"""Nats by which currents must explain samples better than noise alone, for a scale and a time constant, to be claimed:
the 95 % point of half a chi-squared of two degrees of freedom."""

APART = 2.0
"""Nats by which two strengths of the currents, one in the recording and one in the baseline, must explain both better
than one: the 95 % point of half a chi-squared of one degree."""

COARSE = np.linspace(-10.0, 5.0, 16)
"""Logarithms of ratios of variances among which the best is looked for first."""

FINER = 4
"""Lattices of ratios, each four times as fine as the one before and around its best: their steps end at 1/64."""

NEGLIGIBLE = 1e-6
"""Variance of currents, relative to the noise's, that is left out at the largest ratio."""


def baseline_currents_checks(problem: Problem, mixed: Mixture) -> list[Check]:
    """Return the check that currents are stronger than those which the same structure finds in the baseline.

    It takes the node of most weight. Nothing is returned where the baseline is too short to estimate noise over time,
    or samples are too many to be taken together.
    """
    if problem.white_baseline is None or problem.baseline_freedom < MIN_SAMPLES:
        return []
    best = int(np.argmax(mixed.weights))
    structure, variance, noise = mixed.structures[mixed.which[best]], mixed.variance[best], float(mixed.noise[best])
    slow = structure.time is not None
    if (slow and problem.baseline_freedom > DENSE) or not variance > 0:
        return []
    spectrum = Spectrum.of(problem, structure)

    def now(log_ratios: Array) -> Array:
        """Log density of the recording at ratios of variances (ratio,) over that at none."""
        some = np.append(0.0, variance * np.exp(log_ratios))
        found = spectrum.log_likelihood(some, np.full(len(some), noise))
        return np.asarray(found[1:] - found[0])

    decomposition = Decomposition.of(problem, structure)
    coefficients = decomposition.to_components.T @ problem.white_baseline / noise
    powers, sizes = np.ones(1), np.sum(coefficients**2, axis=1, keepdims=True)
    if slow:
        powers, vectors = _modes_of_baseline(problem, structure)
        sizes = (coefficients @ vectors) ** 2
    shares = variance / noise**2 * decomposition.values[:, None] * powers
    before = by_log_ratio(shares, sizes, 1 if slow else problem.baseline_freedom)
    then, shown = best_ratio(before)
    here, claimed = best_ratio(now)
    _, both = best_ratio(lambda one: before(one) + now(one))
    apart = max(0.0, shown + claimed - both) if here > then else 0.0
    passed = claimed < CLAIMED or apart > APART or not (slow or shown >= CLAIMED)
    note = _note(claimed, shown, float(np.exp(0.5 * (then - here))), passed)
    return [Check("currents in the baseline", apart, f"> {APART:g} nats", passed, note)]


def _note(claimed: float, shown: float, ratio: float, passed: bool) -> str:
    """What was found, in words."""
    found = (
        "evidence that currents are stronger than those which the same structure finds in the baseline, where no "
        f"response is: there they are most likely {ratio:.2g} times as large, by {shown:.3g} nats over noise alone"
    )
    if claimed < CLAIMED:
        return f"{found}. The recording itself does not tell currents from noise ({claimed:.2g} nats)"
    if passed:
        return found
    if shown >= CLAIMED:
        why = "noise over time, or ongoing activity, passes for a response: it is slower where currents reach"
    else:
        why = "the baseline is too short for currents so slow to show in it, and so for noise as slow to be known"
    return (
        f"{found}. What the recording shows may be no more than that: {why}. Take a longer baseline, or a model "
        "without a time constant, and trust neither scale nor SNR until then"
    )


def by_log_ratio(shares: Array, sizes: Array, counts: int) -> Callable[[Array], Array]:
    """Log density over that of noise alone, as a function of logarithms of the ratio of variances (ratio,).

    shares : (component, mode), variance of currents over that of noise at ratio 1
    sizes : (component, mode), power in units of the noise, of as many numbers as `counts`
    """
    loud = shares > NEGLIGIBLE * np.exp(-COARSE[-1])
    share, size = shares[loud], sizes[loud]

    def at(log_ratio: float) -> float:
        scaled = float(np.exp(log_ratio)) * share
        return 0.5 * float(np.sum(size * scaled / (1 + scaled)) - counts * np.sum(np.log1p(scaled)))

    return lambda log_ratios: np.array([at(float(one)) for one in log_ratios])


def best_ratio(at: Callable[[Array], Array]) -> tuple[float, float]:
    """Logarithm of the ratio at which a log density is largest, and that density; that of noise alone is 0."""
    places, step = COARSE, float(COARSE[1] - COARSE[0])
    for _ in range(FINER):
        heights = at(places)
        middle = int(np.argmax(heights))
        best = float(places[middle]), float(heights[middle])
        places, step = best[0] + step * np.linspace(-0.75, 0.75, 7), step / 4
    return best if best[1] > 0 else (-np.inf, 0.0)


def _modes_of_baseline(problem: Problem, structure: Structure) -> tuple[Array, Array]:
    """Powers of currents in modes of time of the white baseline, and these modes (freedom, mode)."""
    assert structure.time is not None
    courses = correlation_over_time(problem.times_of_baseline, structure.time, structure.course)
    whitening = problem.time_whitening
    if whitening is None:
        # The mean that was subtracted took the currents' mean, too.
        courses = courses - courses.mean(axis=0) if problem.baseline_centred else courses
        courses = courses - courses.mean(axis=1, keepdims=True) if problem.baseline_centred else courses
    else:
        members = np.bincount(whitening.rows, minlength=whitening.groups)
        noise = np.average(whitening.baseline_correlations, axis=0, weights=members)
        root = np.linalg.cholesky(noise + JITTER * np.eye(len(noise)))
        half = solve_triangular(root, whitening.basis.T @ courses @ whitening.basis, lower=True)
        courses = solve_triangular(root, half.T, lower=True)
    values, vectors = np.linalg.eigh(courses)
    return np.maximum(values, 0.0), np.asarray(vectors)
