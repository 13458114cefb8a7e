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

MIXTURE_DRAWS = 200
"""Number of draws of the hyperparameters that the currents are mixed over."""

MIXTURE_DRAWS_OF_STRUCTURE = 64
"""The same where structure is learned."""

IMPORTANCE_DRAWS = 200
"""Number of draws that are used in importance sampling where structure is learned."""


def posterior(
    density: Density, name: str, rng: np.random.Generator, draws: int, timings: dict[str, float]
) -> Posterior:
    """Return the posterior with hyperparameters drawn from the Gaussian at their mode.

    The log evidence is Laplace's approximation, known as the free energy (Friston et al. 2007, NeuroImage 34,
    220-234); its error is the difference from importance sampling with the Gaussian as the proposal. The share of
    effective draws in it shows how well the Gaussian fits.
    """
    started = time.perf_counter()
    centre, covariance = mode(density)
    root = np.linalg.cholesky(covariance)
    # Where structure is learned a draw costs a decomposition: fewer have importance weights or are mixed over.
    mixed_count = MIXTURE_DRAWS_OF_STRUCTURE if density.structural else MIXTURE_DRAWS
    half = rng.standard_normal(((max(draws, mixed_count) + 1) // 2, len(centre)))
    unit = np.concatenate([half, -half])
    nodes = centre + unit @ root.T
    weighted = np.arange(len(nodes))
    if density.structural:
        weighted = np.linspace(0, len(nodes) - 1, IMPORTANCE_DRAWS).astype(int)
    mode_log_density = float(density(centre[None])[0])
    log_volume = 0.5 * len(centre) * np.log(2 * np.pi) + np.log(np.diag(root)).sum()
    excess = density(nodes[weighted]) - mode_log_density + 0.5 * np.sum(unit[weighted] ** 2, axis=1)
    share = np.exp(excess - excess.max())
    efficiency = float(share.sum() ** 2 / np.sum(share**2) / len(share))
    correction = float(excess.max() + np.log(share.mean()))
    timings["mode and curvature"] = time.perf_counter() - started
    free_energy = mode_log_density + float(log_volume)
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
    mixed_over = (mixed, np.full(len(mixed), 1 / len(mixed)))
    equal = np.full(len(nodes), 1 / len(nodes))
    return assemble(density, name, "laplace", nodes, equal, nodes, evidence, checks, timings, mixed_over, separate=True)
