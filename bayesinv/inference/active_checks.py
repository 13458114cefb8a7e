"""Checks of chains over active sets: whether they agree, had room, and left nothing that one more source explains."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.spatial.distance import cdist

from bayesinv.axes import Array, Index
from bayesinv.inference.chains import agreement
from bayesinv.posterior.active import ActiveSets
from bayesinv.posterior.checks import Check, Evidence
from bayesinv.problem.problem import Problem

MAX_DIFFERENCE = 0.2
"""Largest difference of a parcel's inclusion between chains; that of 100 effective draws in each scatters by 0.07."""

PARCEL = 0.02
"""Radius in m of the parcels whose inclusion is compared."""

MAX_ERROR, MAX_SHARE = 1.5, 0.05
"""Largest standard error of the log evidence, nats, and of more than that, relative to the ratio that it is to tell."""

CROWDED = 0.01
"""Largest probability of as many sources as there may be, or one fewer."""


def active_checks(
    problem: Problem,
    sets: ActiveSets,
    hyper: Mapping[str, Array],
    ratio: Evidence,
) -> tuple[Check, ...]:
    """Return the checks of the chains.

    hyper : name to (draw,)
    ratio : log of the ratio of the evidence to that without focal sources
    """
    return (*_convergence(sets, hyper), _inclusion(problem, sets), _room(sets), _annealing(ratio))


def agree(problem: Problem, sets: ActiveSets, hyper: Mapping[str, Array]) -> bool:
    """Whether chains agree and are worth enough draws, as far as the checks tell."""
    return all(one.passed for one in (*_convergence(sets, hyper), _inclusion(problem, sets)))


def _convergence(sets: ActiveSets, hyper: Mapping[str, Array]) -> tuple[Check, ...]:
    values = {"number of sources": sets.counts.astype(float)}
    values |= {name: one for name, one in hyper.items() if name not in ("lambda", "snr")}
    return agreement(values, int(sets.chain[-1]) + 1)


def _inclusion(problem: Problem, sets: ActiveSets) -> Check:
    """Check that chains agree on where sources are: parcels, or single places where positions are not known."""
    chains = int(sets.chain.max()) + 1
    lengths = np.bincount(sets.chain, minlength=chains)
    parcel = _parcels(problem, sets)
    inside = np.zeros((len(sets.chain), int(parcel.max(initial=-1)) + 1), dtype=bool)
    inside[sets.node, parcel[sets.patch]] = True
    each = np.stack([inside[sets.chain == k].sum(axis=0) / lengths[k] for k in range(chains)])
    difference = float(np.ptp(each, axis=0).max(initial=0.0))
    return Check(
        "chains on places",
        difference,
        f"< {MAX_DIFFERENCE:g}",
        difference < MAX_DIFFERENCE,
        "largest difference between two chains' probabilities that a source is in a parcel; where it is large, chains "
        "have found different explanations of the recording: give more `sweeps`",
    )


def _parcels(problem: Problem, sets: ActiveSets) -> Index:
    """Parcel of the centre of every patch: (patch,)."""
    if problem.sources is None:
        return np.asarray(np.unique(sets.centre, return_inverse=True)[1], dtype=np.int64).reshape(-1)
    positions = problem.sources.positions[sets.centre]
    return parcels_about(positions, np.bincount(sets.patch, minlength=len(positions)).astype(float))


def parcels_about(positions: Array, weights: Array) -> Index:
    """Parcel of each position (position, 3), m, within `PARCEL` of one of the largest weight that has none so far."""
    parcel = np.full(len(positions), -1)
    number = 0
    for one in np.argsort(-weights, kind="stable"):
        if parcel[one] < 0:
            near = (cdist(positions[[one]], positions)[0] <= PARCEL) & (parcel < 0)
            parcel[near] = number
            number += 1
    return parcel


def _room(sets: ActiveSets) -> Check:
    crowded = float(np.mean(sets.counts >= sets.most - 1))
    return Check(
        "room for sources",
        crowded,
        f"< {CROWDED:g}",
        crowded < CROWDED,
        f"probability of {sets.most - 1} sources or more, where there may be {sets.most}; if it is large, the "
        "recording is not that of a few sources, or its noise is not what the model takes it for. Try a model without "
        "a focal part",
    )


def _annealing(ratio: Evidence) -> Check:
    limit = max(MAX_ERROR, MAX_SHARE * abs(ratio))
    return Check(
        "error of the evidence",
        ratio.error,
        f"< {limit:.3g}",
        ratio.error < limit,
        "standard error in nats of the log evidence, by what chains gathered on their way from dense currents alone to "
        "focal sources too; where it is large they went different ways: give more sweeps to warm up, `warm`",
    )
