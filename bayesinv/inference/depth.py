"""Whether currents are as large as a posterior takes them to be where sensors see them least, and where most.

    recording ~ Normal(0, variance (f₁² P₁ + f₂² P₂) ⊗ T + noise² N ⊗ K),   P₁ + P₂ = G D Gᵀ

with P₁ of the half of the sources that have the weaker gain (deep ones, and for MEG radial ones) and P₂ of the other.
A model takes both factors for 1. Where the currents are all deep, one scale for all is far too small for them, and
their intervals are too narrow. One step of Fisher's scoring from 1 tells the factors, for two products of the gain.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.stats import norm

from bayesinv.axes import Array
from bayesinv.covariance.covariance import Structure
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.posterior.checks import Check
from bayesinv.posterior.mixture import Mixture
from bayesinv.problem.problem import Problem

LIMIT = 1.4
"""Times as large as the posterior takes them that currents of a half may be, as for their means over windows."""

SIGNIFICANCE = 1e-4
"""Probability with which currents that are as the posterior takes them differ by chance."""


def depth_checks(problem: Problem, mixed: Mixture) -> list[Check]:
    """Return the check that currents of weak and of strong gain are as large as they are taken to be.

    It takes the node of most weight. Nothing is returned where a half has no sources.
    """
    best = int(np.argmax(mixed.weights))
    structure, variance, noise = mixed.structures[mixed.which[best]], float(mixed.variance[best]), mixed.noise[best]
    if problem.source_count < 2 or not variance > 0:
        return []
    spectrum = Spectrum.of(problem, structure)
    step = scoring_step(*spectrum.scores(variance, float(noise), halves(problem, structure)), 1e-12)
    if step is None:
        return []
    steps, covariance, _ = step
    factors = np.sqrt(np.maximum(0.0, 1 + steps))
    worst = int(np.argmax(factors))
    apart = float(steps[0] - steps[1]) / float(np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]))
    chance = 2 * float(norm.sf(abs(apart)))
    passed = bool(factors[worst] <= LIMIT or chance > SIGNIFICANCE)
    note = (
        f"currents of the half of the sources that sensors see least are {factors[0]:.2g} times as large as the "
        f"posterior takes them, those of the other half {factors[1]:.2g} times; 1 where the prior over depth is right, "
        "and above it their intervals are too narrow"
    )
    if not passed:
        note += (
            '. Take a model that learns how currents go with depth ("depth_weighted", "oriented"), or few sources '
            '("focal"), and look at conductivities and positions of the head model, which change gains by depth as well'
        )
    return [Check("currents over depth", float(factors[worst]), f"at most {LIMIT:g}, or by chance", passed, note)]


def scoring_step(scores: Array, information: Array, least: float) -> tuple[Array, Array, Array] | None:
    """Return one step of Fisher's scoring (part,), its covariance and the information; None where that is singular.

    least : smallest eigenvalue of the information, relative to the largest
    """
    values, vectors = np.linalg.eigh(information)
    if not values[0] > least * values[-1]:
        return None
    covariance = (vectors / values) @ vectors.T
    return covariance @ scores, covariance, information


def halves(problem: Problem, structure: Structure) -> tuple[Array, Array]:
    """Parts of the Gram matrix (component, component) of the sources of weaker gain, and of the others; no error's.

    Where sources are correlated each half has its half of what they share.
    """

    def made() -> tuple[Array, Array]:
        order = np.argsort(problem.source_norms, kind="stable")
        weak = np.zeros(problem.source_count, dtype=bool)
        weak[order[: len(order) // 2]] = True
        rows = np.repeat(weak, problem.axes)
        reached = structure.product(problem, problem.gain.T)
        parts = (problem.gain[:, one] @ reached[one] for one in (rows, ~rows))
        first, second = (0.5 * (part + part.T) for part in parts)
        return first, second

    return problem.shared.recall("halves of depth", timeless(structure).key, made)


def timeless(structure: Structure) -> Structure:
    """Return the structure of the currents over places alone."""
    return replace(structure, time=None, course="matern", sample_noise=None, noise=None, sensor_noise=None)
