"""Laplace: the posterior of the hyperparameters as a Gaussian at its mode, on the unconstrained scale.

Reference: Tierney & Kadane (1986), J. Am. Stat. Assoc. 81, 82-86.
"""

from __future__ import annotations

import time

import numpy as np

from bayesinv.inference.assemble import assemble
from bayesinv.inference.modes import mode
from bayesinv.posterior.checks import Check, Evidence
from bayesinv.posterior.posterior import Posterior
from bayesinv.prior.density import Density

MIXED, FEW = 200, 64
"""Draws of the hyperparameters that the currents are mixed over, the latter where structure is learned."""

WEIGHED = 200
"""Draws whose importance is weighed where structure is learned."""


def posterior(
    density: Density, name: str, rng: np.random.Generator, draws: int, timings: dict[str, float]
) -> Posterior:
    """Return the posterior with hyperparameters drawn from the Gaussian at their mode.

    The log evidence is Laplace's approximation, known as the free energy (Friston et al. 2007, NeuroImage 34,
    220-234); its error is how far importance sampling from the Gaussian puts the evidence from there. The share of
    importance weight that the draws keep tells how far the Gaussian can be trusted.
    """
    started = time.perf_counter()
    centre, covariance = mode(density)
    root = np.linalg.cholesky(covariance)
    # Where structure is learned every draw costs a decomposition: few are weighed, and fewer still are mixed over.
    mixed_count = FEW if density.structural else MIXED
    half = rng.standard_normal(((max(draws, mixed_count) + 1) // 2, len(centre)))
    unit = np.concatenate([half, -half])
    nodes = centre + unit @ root.T
    weighed = np.arange(len(nodes)) if not density.structural else np.linspace(0, len(nodes) - 1, WEIGHED).astype(int)
    height = float(density(centre[None])[0])
    log_volume = 0.5 * len(centre) * np.log(2 * np.pi) + np.log(np.diag(root)).sum()
    excess = density(nodes[weighed]) - height + 0.5 * np.sum(unit[weighed] ** 2, axis=1)
    share = np.exp(excess - excess.max())
    efficiency = float(share.sum() ** 2 / np.sum(share**2) / len(share))
    correction = float(excess.max() + np.log(share.mean()))
    timings["mode and curvature"] = time.perf_counter() - started
    free_energy = height + float(log_volume)
    checks = (
        Check(
            "free energy",
            abs(correction),
            "< 1 nat from importance sampling",
            abs(correction) < 1,
            f"log evidence is {free_energy:.2f} by Laplace's approximation and {free_energy + correction:.2f} by "
            "importance sampling from its Gaussian",
        ),
        Check(
            "Gaussian at the mode fits",
            efficiency,
            "> 0.5 of the importance weight kept",
            efficiency > 0.5,
            "low where the posterior of the hyperparameters is skewed; quadrature or NUTS is then better",
        ),
    )
    evidence = Evidence(free_energy, abs(correction)) if density.proper else None
    mixed = np.concatenate([nodes[: mixed_count // 2], nodes[len(half) : len(half) + mixed_count // 2]])
    weights = np.full(len(mixed), 1 / len(mixed))
    every = np.full(len(nodes), 1 / len(nodes))
    fewer = (mixed, weights)
    return assemble(density, name, "laplace", nodes, every, nodes, evidence, checks, timings, fewer, alone=True)
