"""NUTS over the hyperparameters on the marginal model, by nutpie where it is installed, else by PyMC.

Reference: Hoffman & Gelman (2014), J. Mach. Learn. Res. 15, 1593-1623.
"""

from __future__ import annotations

import importlib.util
import time

import numpy as np
import xarray as xr

from bayesinv.inference.assemble import flattened, gaussian_checks, mixture
from bayesinv.inference.chains import as_tree, check_length, diagnose
from bayesinv.inference.conflict import prior_checks
from bayesinv.posterior.hyper import Hyper
from bayesinv.posterior.posterior import Posterior
from bayesinv.prior.density import Density
from bayesinv.prior.graphs import GRAPH_LOCK
from bayesinv.prior.vectorised import with_lambda

MIN_DRAWS = 100
"""Least number of draws per chain."""

MIXTURE_DRAWS = 1000
"""Number of draws that the currents are mixed over."""

MIXTURE_DRAWS_OF_STRUCTURE = 64
"""The same where structure is learned."""


def posterior(
    density: Density,
    name: str,
    rng: np.random.Generator,
    draws: int,
    timings: dict[str, float],
    *,
    chains: int = 4,
    tune: int = 1000,
    sampler: str | None = None,
    progress: bool = False,
) -> Posterior:
    """Return the posterior with hyperparameters sampled by NUTS; the method gives no evidence.

    chains, tune : number of chains, and steps of each that adapt the sampler and are thrown away
    sampler : "nutpie" or "pymc"; None takes nutpie where it is installed
    progress : show a progress bar

    Raises
    ------
    ValueError
        If fewer than 100 draws per chain or two chains are asked for, or the chains are not finite, have not mixed
        (R-hat above 1.05) or diverged in more than a hundredth of their steps.
    """
    check_length(chains, draws, MIN_DRAWS)
    started = time.perf_counter()
    sampler = sampler or ("nutpie" if importlib.util.find_spec("nutpie") else "pymc")
    seed = int(rng.integers(2**31))
    tree = (
        _nutpie(density, draws, tune, chains, seed, progress)
        if sampler == "nutpie"
        else _pymc(density, draws, tune, chains, seed, progress)
    )
    timings["compile and sample"] = time.perf_counter() - started
    table = tree["posterior"].to_dataset()
    values = {variable.name: np.asarray(table[variable.name]) for variable in density.model.free_RVs}
    values |= {variable.name: np.asarray(table[variable.name]) for variable in density.model.deterministics}
    checks = diagnose(tree, [variable.name for variable in density.model.free_RVs])
    flat = {key: value.reshape(-1, *value.shape[2:]) for key, value in values.items()}
    nodes = density.unconstrained([flat[variable.name] for variable in density.model.free_RVs])
    hyper = flattened(with_lambda(flat, *density.scales(nodes), density.observation.mean_power))
    wanted = MIXTURE_DRAWS_OF_STRUCTURE if density.structural else MIXTURE_DRAWS
    picked = np.unique(np.linspace(0, len(nodes) - 1, min(wanted, len(nodes))).astype(int))
    weights = np.full(len(picked), 1 / len(picked))
    mixed, nearest = mixture(density, weights, nodes[picked], samples=nodes)
    equal = np.full(len(nodes), 1 / len(nodes))
    return Posterior(
        problem=density.observation.problem,
        model=name,
        method="nuts",
        mixture=mixed,
        hyper=Hyper(hyper, equal, hyper, chains, nearest(nodes, equal)),
        log_evidence=None,
        checks=(*checks, *gaussian_checks(density.observation.problem, mixed), *prior_checks(density, nodes)),
        timings=timings,
    )


def _nutpie(density: Density, draws: int, tune: int, chains: int, seed: int, progress: bool) -> xr.DataTree:
    import nutpie

    with GRAPH_LOCK:
        compiled = nutpie.compile_pymc_model(density.model)
    running = nutpie.sample(
        compiled,
        draws=draws,
        tune=tune,
        chains=chains,
        seed=seed,
        progress_bar=progress,
        cores=chains,
        blocking=False,
    )
    try:
        return as_tree(running.wait())
    except BaseException:
        # An interrupt cancels the run: incomplete chains are no result.
        running.cancel()
        raise


def _pymc(density: Density, draws: int, tune: int, chains: int, seed: int, progress: bool) -> xr.DataTree:
    import pymc as pm

    # PyMC compiles and samples in one go.
    with GRAPH_LOCK, density.model:
        return as_tree(
            pm.sample(
                draws=draws,
                tune=tune,
                chains=chains,
                cores=1,
                nuts_sampler="pymc",
                random_seed=seed,
                progressbar=progress,
                compute_convergence_checks=False,
            )
        )
