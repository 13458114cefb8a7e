"""Active sets: chains over which focal sources are active, and the mixture of exact Gaussians over their draws."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from threading import Lock

import numpy as np

from bayesinv.axes import Array
from bayesinv.evidence.active import FocalRecording
from bayesinv.evidence.active_modes import FocalBasis, FocalModes
from bayesinv.inference.active_apart import Apart, Weighted, has_several_colours, weighted
from bayesinv.inference.active_chain import begun, drawn
from bayesinv.inference.active_checks import active_checks, agree
from bayesinv.inference.active_evidence import annealed_ratio, dense_log_evidence
from bayesinv.inference.active_model import ActiveDraws, ActiveModel
from bayesinv.inference.assemble import data_checks, flattened
from bayesinv.inference.chain_workers import chain_workers
from bayesinv.inference.chains import check_length
from bayesinv.inference.conflict import prior_checks
from bayesinv.inference.processes import Answers
from bayesinv.posterior.active import ActiveSets
from bayesinv.posterior.checks import Check, Evidence
from bayesinv.posterior.focal import focal_gaussians
from bayesinv.posterior.hyper import Hyper
from bayesinv.posterior.mixture import Mixture
from bayesinv.posterior.posterior import Posterior
from bayesinv.prior.density import Density
from bayesinv.prior.patches import Patches
from bayesinv.problem.problem import Problem
from bayesinv.progress import steps

MIN_DRAWS = 50
"""Least number of draws per chain."""

PART, PARTS = 150, 8
"""Sweeps after which chains are asked whether they agree, where no number is given, and how often at most."""

BLOCK = 4096
"""Patches whose fields are changed to another basis at once."""

MAX_NODES, FEW_NODES = 400, 40
"""Draws that the currents are mixed over, and that residuals are taken at."""


def posterior(
    density: Density,
    name: str,
    rng: np.random.Generator,
    draws: int,
    timings: dict[str, float],
    *,
    chains: int = 4,
    sweeps: int | None = None,
    warm: int = 250,
    progress: bool = False,
) -> Posterior:
    """Return the posterior of focal sources above dense currents.

    chains : number of chains
    sweeps, warm : of each chain, that give a draw each, and before them, in which sources come in by annealing. None
        for as many sweeps as chains want to agree, up to `PART * PARTS`
    progress : show a progress bar

    Raises
    ------
    ValueError
        If chains are too few or too short to be trusted, or a density is not finite.
    """
    check_length(chains, PART * PARTS if sweeps is None else sweeps, MIN_DRAWS)
    started = time.perf_counter()
    focal = density.observation.currents.focal
    assert focal is not None
    model = active_model(density, focal)
    timings["fields"] = time.perf_counter() - started
    ratio, found = _run(density, focal, model, rng.spawn(chains), sweeps, warm, progress)
    timings["sample"] = time.perf_counter() - started - timings["fields"]
    dense = dense_log_evidence(model, density.prior_and_scales, density.start) if density.proper else None
    checks: tuple[Check, ...] = ()
    if has_several_colours(density, focal):
        apart = Apart.of(density, focal, model)
        told = weighted(apart, density, found, rng)
        found, checks = told.draws, (told.check,)
        dense, ratio = _told_apart(apart, density, dense, ratio, told)
    evidence = None if dense is None else Evidence(dense + ratio, ratio.error)
    timings["evidence"] = time.perf_counter() - started - timings["fields"] - timings["sample"]
    return _assembled(density, name, _Gathered.of(density, focal, found), evidence, ratio, timings, checks)


def _told_apart(
    apart: Apart, density: Density, dense: float | None, ratio: Evidence, draws: Weighted
) -> tuple[float | None, Evidence]:
    """Log evidence of dense currents alone, and the log ratio to it, with noise of each colour."""
    error = float(np.hypot(ratio.error, draws.error))
    if dense is None or not np.isfinite(draws.error):
        return dense, Evidence(ratio + draws.log_ratio, error)
    exact = dense_log_evidence(apart.model, density.prior_and_scales, density.start, apart.of_dense)
    assert exact is not None
    return exact, Evidence(dense + ratio + draws.log_ratio - exact, error)


def active_model(density: Density, focal: Patches) -> ActiveModel:
    """Return the tables that chains of a model with focal sources need."""
    observation = density.observation
    problem = observation.problem
    if focal.problem.gain.shape != problem.gain.shape:
        raise ValueError("the focal sources are those of another problem; make Patches of the one that is observed")
    constants, log_constants = focal.constants
    modes = [FocalModes.of(problem, one) for one in constants]
    basis = FocalBasis.of(problem, observation.base, modes)
    strengths, log_strengths = focal.strengths
    to_units = basis.to_components.T * focal.median_strength
    modes_by_patch = None
    if problem.gain_modes is not None:
        varied = [_by_components(focal.fields_in(one), to_units) for one in problem.gain_modes]
        modes_by_patch = np.stack(varied, axis=1) if varied else None
    return ActiveModel(
        by_patch=_by_components(focal.fields_in(problem.gain), to_units),
        recordings=tuple(FocalRecording.of(problem, basis, one, observation.baseline is not None) for one in modes),
        log_prior=focal.log_prior,
        strengths=strengths / focal.median_strength,
        log_strengths=log_strengths,
        errors=focal.errors[0],
        log_errors=focal.errors[1],
        neighbours=focal.neighbours,
        deviation=focal.deviation,
        log_constants=log_constants,
        count_prior=focal.count_prior,
        most=focal.most,
        modes_by_patch=modes_by_patch,
    )


def _by_components(fields: Array, to_components: Array) -> Array:
    """Fields (patch, axis, component) in another basis (component, old one), in place where it is of no more rows.

    Otherwise they are in several bases, in single precision: products of them are worked out in double precision, and
    tables in single.
    """
    if len(to_components) > fields.shape[2]:
        out = np.empty((*fields.shape[:2], len(to_components)), dtype=np.float32)
        for start in range(0, len(fields), BLOCK):
            out[start : start + BLOCK] = fields[start : start + BLOCK] @ to_components.T
        return np.asarray(out)
    for start in range(0, len(fields), BLOCK):
        some = fields[start : start + BLOCK]
        some[..., : len(to_components)] = some @ to_components.T
    return np.ascontiguousarray(fields[..., : len(to_components)])


@dataclass(frozen=True, eq=False)
class _Gathered:
    """Draws of all chains, one after the other.

    sets : which sources are active
    points : (draw, coordinate), unconstrained hyperparameters
    hyper : name to (draw,)
    """

    sets: ActiveSets
    points: Array
    hyper: dict[str, Array]

    @classmethod
    def of(cls, density: Density, focal: Patches, found: list[ActiveDraws]) -> _Gathered:
        points = np.concatenate([one.points for one in found])
        constants, hyper = focal.constants[0], density.hyper(points)
        if len(constants) > 1:
            seconds = np.array(constants, dtype=np.float64)
            hyper = {**hyper, "constant": seconds[np.concatenate([one.constant for one in found])]}
        if focal.error:
            hyper = {**hyper, "error": np.concatenate([one.error for one in found])}
        heads = np.concatenate([one.head for one in found]).T
        hyper = {**hyper, **{f"head {j}": one for j, one in enumerate(heads, 1)}}
        return cls(active_sets(focal, found), points, flattened(hyper))


def _run(
    density: Density,
    focal: Patches,
    model: ActiveModel,
    generators: list[np.random.Generator],
    sweeps: int | None,
    warm: int,
    progress: bool,
) -> tuple[Evidence, list[ActiveDraws]]:
    """Run chains, and return the log ratio of the evidence to that without focal sources, and the draws of each."""
    lock, count = Lock(), len(generators)

    def log_prior(nodes: Array) -> tuple[Array, Array, Array]:
        with lock:
            return density.prior_and_scales(nodes)

    most, part = PART * PARTS if sweeps is None else sweeps, PART if sweeps is None else sweeps
    with steps("sampling", count * (most + warm), progress) as advance:

        def told() -> None:
            with lock:
                advance(1)

        answers: Answers = {"prior": log_prior, "told": told}
        length = count * (part + warm)
        with chain_workers((model, model.parts), answers, count, length, model.by_patch.size) as workers:
            ratios = workers.each(begun, [density.start] * count, generators, [warm] * count)
            found, made = workers.each(drawn, [part] * count), part
            gathered = _Gathered.of(density, focal, found)
            while made < most and not agree(density.observation.problem, gathered.sets, gathered.hyper):
                later = workers.each(drawn, [part] * count)
                found = [one.followed_by(other) for one, other in zip(found, later, strict=True)]
                made += part
                gathered = _Gathered.of(density, focal, found)
        advance(count * (most - made))
    return annealed_ratio(ratios), found


def _assembled(
    density: Density,
    name: str,
    gathered: _Gathered,
    evidence: Evidence | None,
    ratio: Evidence,
    timings: dict[str, float],
    more: tuple[Check, ...] = (),
) -> Posterior:
    problem, sets, points, hyper = density.observation.problem, gathered.sets, gathered.points, gathered.hyper
    variance, noise = density.scales(points)
    chains = int(sets.chain[-1]) + 1
    length = len(points) // chains
    within = np.linspace(0, length - 1, max(1, min(MAX_NODES, len(points)) // chains)).astype(int)
    picked = (length * np.arange(chains)[:, None] + within).ravel()
    weights = np.full(len(picked), 1 / len(picked))
    structures = (density.observation.base,)
    active = replace(sets.picked(picked), log_ratio=float(ratio), log_ratio_error=ratio.error)
    mixed = Mixture(weights, variance[picked], noise[picked], np.zeros(len(picked), dtype=np.int64), structures)
    return Posterior(
        problem=problem,
        model=name,
        method="active_set",
        mixture=mixed,
        hyper=Hyper(hyper, np.full(len(points), 1 / len(points)), hyper, chains),
        log_evidence=evidence,
        checks=(
            *active_checks(problem, sets, hyper, ratio),
            *more,
            *data_checks(without_foci(problem, mixed, active), mixed),
            *prior_checks(density, points),
        ),
        timings=timings,
        active=active,
    )


def without_foci(problem: Problem, mixed: Mixture, sets: ActiveSets) -> Problem:
    """Return a problem without what focal sources explain of its recording, at the mean of a few draws.

    What is left, dense currents and noise, is what residuals of sensors and samples are judged by.
    """
    some = np.linspace(0, len(mixed.weights) - 1, min(FEW_NODES, len(mixed.weights))).astype(int)
    few = mixed.picked(some, np.full(len(some), 1 / len(some)))
    fitted = sum(one.fitted_by_foci() for one in focal_gaussians(problem, few, sets.picked(some)))
    return problem.with_fields(recording=problem.recording - fitted)


def active_sets(focal: Patches, found: list[ActiveDraws]) -> ActiveSets:
    """Return the draws of all chains, one after the other, with the patches that occur in them."""
    patches = [patch for one in found for patch in one.patch]
    counts, neighbours = np.array([len(one) for one in patches]), focal.neighbours
    patch = np.concatenate(patches)
    parts = neighbours.parts(patch)
    shares = neighbours.shares(patch, np.concatenate([one for chain in found for one in chain.deviation]))
    used, index = np.unique(parts, return_inverse=True)
    table = focal.table[:, used].tocsc()
    return ActiveSets(
        node=np.repeat(np.arange(len(patches)), counts),
        patch=index.reshape(parts.shape)[:, 0].astype(np.int64),
        parts=index.reshape(parts.shape).astype(np.int64),
        shares=shares,
        strength=focal.median_strength * np.concatenate([strength for one in found for strength in one.strength]),
        constant=np.concatenate([one.constant for one in found]),
        constants=np.array([np.nan if one is None else one for one in focal.constants[0]], dtype=np.float64),
        error=np.concatenate([one.error for one in found]),
        head=np.concatenate([one.head for one in found]) if focal.problem.gain_modes is not None else None,
        chain=np.repeat(np.arange(len(found)), [len(one.patch) for one in found]),
        centre=focal.centres[used],
        extent=focal.extent[used],
        starts=np.asarray(table.indptr, dtype=np.int64),
        members=np.asarray(table.indices, dtype=np.int64),
        weights=np.asarray(table.data, dtype=np.float64),
        most=focal.most,
    )
