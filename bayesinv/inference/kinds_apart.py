"""Whether EEG and MEG find currents of one size: the scale that each has of its own.

    recording_g ~ Normal(0, variance_g G_g D G_gᵀ ⊗ T + noise² N_g ⊗ K_g),   g either EEG or MEG

The gain of one kind may be too large or too small for all sources alike: its unit, a conductivity, a calibration. Its
residuals do not tell, for a scale is learned; the currents that the other kind finds do. What both show together does
not enter: the two densities count as independent.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular
from scipy.stats import chi2

from bayesinv.axes import Array
from bayesinv.covariance.covariance import Structure
from bayesinv.covariance.time_course import correlation_over_time
from bayesinv.inference.baseline_currents import best_ratio, by_log_ratio
from bayesinv.posterior.checks import Check
from bayesinv.posterior.mixture import Mixture
from bayesinv.problem.problem import Problem
from bayesinv.problem.time_whitening import DENSE

LIMIT = 1.5
"""Times as large in one kind as in the other that currents may be, as residuals may: what both say together is then off
by a fifth."""

SIGNIFICANCE = 1e-4
"""Probability with which currents of one size differ by chance."""


def kinds_apart_checks(problem: Problem, mixed: Mixture) -> list[Check]:
    """Return the check that EEG and MEG find currents of one size; none where there is one kind, or whitened together.

    It takes the node of most weight. Nothing is returned where samples are too many to be taken together, or have noise
    of their own.
    """
    kinds = () if problem.noise is None else problem.noise.component_modality
    names = tuple(dict.fromkeys(kinds))
    best = int(np.argmax(mixed.weights))
    structure, variance, noise = mixed.structures[mixed.which[best]], float(mixed.variance[best]), mixed.noise[best]
    slow = structure.time is not None
    if sorted(names) != ["eeg", "meg"] or not variance > 0 or structure.sample_noise is not None:
        return []
    if slow and len(problem.times) > DENSE:
        return []
    gram, root = structure.with_error(problem, structure.gram(problem)), structure.noise_root(problem)
    own = np.eye(problem.components) if root is None else root @ root.T
    densities = []
    for name in ("eeg", "meg"):
        rows = np.array([one == name for one in kinds])
        within = np.ix_(rows, rows)
        lower = np.linalg.cholesky(own[within])
        whole = solve_triangular(lower, solve_triangular(lower, gram[within], lower=True).T, lower=True)
        values, vectors = np.linalg.eigh(whole)
        table = vectors.T @ solve_triangular(lower, problem.white_recording[rows], lower=True) / noise
        powers, sizes = np.ones(1), np.sum(table**2, axis=1, keepdims=True)
        if slow:
            powers, modes = _modes(problem, structure, int(np.flatnonzero(rows)[0]))
            sizes = (table @ modes) ** 2
        shares = variance / noise**2 * np.maximum(values, 0.0)[:, None] * powers
        densities.append(by_log_ratio(shares, sizes, 1 if slow else len(problem.times)))
    eeg, meg = densities
    (one, first), (other, second) = best_ratio(eeg), best_ratio(meg)
    _, both = best_ratio(lambda ratios: eeg(ratios) + meg(ratios))
    nats = max(0.0, first + second - both)
    factor = float(np.exp(0.5 * (one - other))) if np.isfinite(other) else np.inf if np.isfinite(one) else 1.0
    passed = bool(1 / LIMIT <= factor <= LIMIT or chi2.sf(2 * nats, 1) > SIGNIFICANCE)
    note = (
        f"scale of the currents that EEG finds by itself over that which MEG finds; {nats:.3g} nats of evidence that "
        "they differ. 1 where both gains are right"
    )
    if not passed:
        note += (
            ", and far from it currents are too small or too large, and intervals do not hold them. Either they flow "
            'in a few places, of which the kinds see less or more than of others: ask for "focal". Or a gain is wrong: '
            "look at units and calibration of both, and at conductivities, above all the skull's, which change EEG "
            "alone; take the kind that you trust (--picks), or say how unsure the head is (bi.forward_error)"
        )
    limit = f"between {1 / LIMIT:.2f} and {LIMIT:g}, or by chance"
    return [Check("currents by kind of sensor", factor, limit, passed, note)]


def _modes(problem: Problem, structure: Structure, row: int) -> tuple[Array, Array]:
    """Powers of currents in modes of time of the recording whose noise is white, and these modes (time, mode).

    row : a component of the group whose noise it is
    """
    assert structure.time is not None
    courses, whitening = correlation_over_time(problem.times, structure.time, structure.course), problem.time_whitening
    if whitening is not None:
        inverse = whitening.inverses[whitening.rows[row]]
        courses = inverse @ courses @ inverse.T
    values, vectors = np.linalg.eigh(courses)
    return np.maximum(values, 0.0), np.asarray(vectors)
