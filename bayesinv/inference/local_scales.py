"""Local scales: chains over a factor for every source, and the mixture of exact Gaussians over their draws."""

from __future__ import annotations

import time
from threading import Lock

import numpy as np

from bayesinv.axes import Array, Index
from bayesinv.covariance.covariance import Structure
from bayesinv.inference.assemble import data_checks, flattened
from bayesinv.inference.chain_threads import chain_threads
from bayesinv.inference.chains import check_length
from bayesinv.inference.conflict import prior_checks
from bayesinv.inference.local_chain import LocalChain, LocalDraws, LocalModel
from bayesinv.inference.local_checks import local_checks
from bayesinv.posterior.hyper import Hyper
from bayesinv.posterior.mixture import Mixture
from bayesinv.posterior.posterior import Posterior
from bayesinv.prior.density import Density
from bayesinv.prior.local_scales import with_local
from bayesinv.prior.vectorised import with_lambda
from bayesinv.problem.problem import Problem
from bayesinv.progress import steps

MIN_DRAWS = 50
"""Least number of draws per chain."""

MAX_NODES = 200
"""Draws that the currents are mixed over, each with a structure, and a decomposition, of its own."""

NEIGHBOURS = 20
"""Sources whose fields are most alike, with which a source may exchange its scale."""

BLOCK = 256
"""Sources whose fields are compared with all others at once."""


def posterior(
    density: Density,
    name: str,
    rng: np.random.Generator,
    draws: int,
    timings: dict[str, float],
    *,
    chains: int = 4,
    sweeps: int = 500,
    warm: int = 300,
    progress: bool = False,
) -> Posterior:
    """Return the posterior of currents with local scales; the method gives no evidence.

    Hyperparameters have a draw for every sweep of every chain. Currents are mixed over `MAX_NODES` of these at even
    steps, at whose scales they are exact Gaussians.

    chains : number of chains
    sweeps, warm : of each chain, that give a draw each, and before them, in which the likelihood comes in
    progress : show a progress bar

    Raises
    ------
    ValueError
        If chains are too few or too short to be trusted.
    """
    check_length(chains, sweeps, MIN_DRAWS)
    started = time.perf_counter()
    model = local_model(density)
    timings["fields"] = time.perf_counter() - started
    found = _run(density, model, rng, chains, sweeps, warm, progress)
    timings["sample"] = time.perf_counter() - started - timings["fields"]
    return _assembled(density, name, model, found, timings)


def local_model(density: Density) -> LocalModel:
    """Return the tables that chains of a model with local scales need."""
    observation = density.observation
    problem, white = observation.problem, observation.problem.white_recording
    # Independent sources: the root of D is symmetric, and takes the gain to fields of unit currents.
    columns = observation.base.sample(problem, problem.gain.T)
    fields = np.ascontiguousarray(columns.reshape(problem.source_count, problem.axes, -1))
    starts, neighbours = problem.shared.recall("alike", observation.base.key, lambda: alike(fields))
    quiet = problem.white_baseline if observation.baseline is not None else None
    if white.shape[1] > len(white):
        # Any root of Y Yᵀ will do: one with as many columns as there are components.
        white = np.asarray(np.linalg.qr(white.T, mode="r")).T
    return LocalModel(
        fields=fields,
        powers=np.einsum("sac,sac->s", fields, fields),
        recording=np.ascontiguousarray(white),
        samples=problem.white_recording.shape[1],
        baseline_power=0.0 if quiet is None else float(np.sum(quiet**2)),
        baseline_count=0 if quiet is None else problem.baseline_freedom * problem.components,
        starts=starts,
        neighbours=neighbours,
    )


def alike(fields: Array) -> tuple[Index, Index]:
    """Return the sources whose fields are most alike, as `LocalModel` holds them; pairs are mutual.

    fields : (source, axis, component)
    """
    count, axes, components = fields.shape
    most = min(NEIGHBOURS, count - 1)
    if most < 1:
        return np.zeros(count + 1, dtype=np.int64), np.zeros(0, dtype=np.int64)
    flat = fields.reshape(-1, components)
    norms = np.array([max(float(np.linalg.norm(one @ one.T)), 1e-300) for one in fields])
    pairs = []
    for start in range(0, count, BLOCK):
        some = fields[start : start + BLOCK].reshape(-1, components)
        # ⟨G_j G_jᵀ, G_k G_kᵀ⟩, which does not depend on how axes lie.
        products = ((some @ flat.T) ** 2).reshape(len(some) // axes, axes, count, axes).sum(axis=(1, 3)) / norms
        rows = np.arange(len(products))
        products[rows, start + rows] = -1.0
        nearest = np.argpartition(-products, most - 1, axis=1)[:, :most]
        pairs.append(np.stack([np.repeat(start + rows, most), nearest.ravel()], axis=1))
    one_way = np.concatenate(pairs)
    both = np.unique(np.concatenate([one_way, one_way[:, ::-1]]), axis=0)
    starts = np.searchsorted(both[:, 0], np.arange(count + 1))
    return starts.astype(np.int64), np.ascontiguousarray(both[:, 1], dtype=np.int64)


def _run(
    density: Density,
    model: LocalModel,
    rng: np.random.Generator,
    chains: int,
    sweeps: int,
    warm: int,
    progress: bool,
) -> list[LocalDraws]:
    lock = Lock()

    def log_prior(nodes: Array) -> tuple[Array, Array, Array]:
        with lock:
            return density.prior_and_scales(nodes)

    with steps("sampling", chains * (sweeps + warm), progress) as advance:

        def told() -> None:
            with lock:
                advance(1)

        def one(generator: np.random.Generator) -> LocalDraws:
            chain = LocalChain(model, log_prior, density.start, generator)
            return chain.run(warm, sweeps, max(1, MAX_NODES // chains), told)

        generators = rng.spawn(chains)
        with chain_threads(chains, model.fields.size) as pool:
            return list(pool.map(one, generators))


def _assembled(
    density: Density, name: str, model: LocalModel, found: list[LocalDraws], timings: dict[str, float]
) -> Posterior:
    problem = density.observation.problem
    points = np.array([point for one in found for point in one.points])
    variance, noise = density.scales(points)
    # The variance whose field is as strong, were there no local scales.
    total = variance * np.array([power for one in found for power in one.power]) / model.powers.sum()
    hyper = with_lambda(density.hyper(points), total, noise, density.observation.mean_power)
    hyper = flattened({**hyper, "places": np.array([one for chain in found for one in chain.places])})
    length = len(found[0].points)
    picked = np.concatenate([k * length + np.array(one.kept) for k, one in enumerate(found)])
    mixed = _mixture(problem, density.observation.base, variance[picked], noise[picked], [one.logs for one in found])
    return Posterior(
        problem=problem,
        model=name,
        method="local_scales",
        mixture=mixed,
        hyper=Hyper(hyper, np.full(len(points), 1 / len(points)), hyper, len(found)),
        log_evidence=None,
        checks=(
            *local_checks(problem, hyper, [one.share for one in found]),
            *data_checks(problem, mixed),
            *prior_checks(density, points),
        ),
        timings=timings,
    )


def _mixture(problem: Problem, base: Structure, variance: Array, noise: Array, logs: list[list[Array]]) -> Mixture:
    """The mixture over draws whose log λ are kept, one structure for each."""
    made = [with_local(problem, base, np.exp(one)) for chain in logs for one in chain]
    factors = np.array([factor for _, factor in made])
    weights = np.full(len(made), 1 / len(made))
    structures = tuple(structure for structure, _ in made)
    return Mixture(weights, variance * factors, noise, np.arange(len(made)), structures)
