"""The posterior with few hyperparameters integrated on an adaptive lattice, see `integration`."""

from __future__ import annotations

import time

import numpy as np

from bayesinv.evidence.unsettled import ColoursTogetherError
from bayesinv.inference.assemble import assemble
from bayesinv.inference.colours_apart import integrate_apart
from bayesinv.inference.grid_draws import draw
from bayesinv.inference.integration import integrate
from bayesinv.inference.interpolant import grid_points
from bayesinv.posterior.checks import Check, Evidence
from bayesinv.posterior.posterior import Posterior
from bayesinv.prior.density import Density
from bayesinv.prior.density_of_colours import DensityOfColours


def posterior(
    density: Density, name: str, rng: np.random.Generator, draws: int, timings: dict[str, float]
) -> Posterior:
    """Return the posterior with hyperparameters integrated on an adaptive lattice, evidence and its error included."""
    started = time.perf_counter()
    try:
        density, lattice = integrate_apart(density)
    except ColoursTogetherError:
        # Modes of time that the colours share are what is left, and a check says what they lack.
        lattice = integrate(density)
    timings["quadrature"] = time.perf_counter() - started
    started = time.perf_counter()
    drawn = draw(density, lattice, draws, rng)
    timings["draws"] = time.perf_counter() - started
    error = lattice.error
    checks = (
        Check("quadrature edge", lattice.edge, "< 1e-4", lattice.edge < 1e-4, "posterior mass on the lattice's faces"),
        Check(
            "quadrature drift",
            lattice.change_of_moments,
            "< 0.01 sd",
            lattice.change_of_moments < 0.01,
            "change of moments on refinement",
        ),
        Check("evidence error", error, "< 0.01 nats", error < 0.01, "numerical error of the log evidence"),
    )
    off = density.off if isinstance(density, DensityOfColours) else 0.0
    evidence = Evidence(lattice.log_evidence, error + off) if density.proper else None
    mixed_over = None
    if lattice.interpolant is not None:
        started = time.perf_counter()
        axes_points = [lattice.step * np.unique(lattice.index[:, axis]) for axis in range(lattice.index.shape[1])]
        mixed_over = lattice.interpolant.gauss(
            axes_points[: lattice.structural], grid_points(axes_points[lattice.structural :])
        )
        timings["structures"] = time.perf_counter() - started
    return assemble(
        density, name, "quadrature", lattice.nodes, lattice.weights, drawn, evidence, checks, timings, mixed_over
    )
