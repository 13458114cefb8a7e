"""From nodes of the hyperparameters to a `Posterior`: the last step of every method."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.spatial import cKDTree

from bayesinv.axes import Array
from bayesinv.inference.baseline_currents import baseline_currents_checks
from bayesinv.inference.colour import colour_checks
from bayesinv.inference.conflict import prior_checks
from bayesinv.inference.depth import depth_checks
from bayesinv.inference.gain import gain_checks
from bayesinv.inference.kinds_apart import kinds_apart_checks
from bayesinv.inference.neighbours import neighbours_checks
from bayesinv.inference.noise_scales import noise_scales_checks
from bayesinv.inference.outliers import outlier_checks
from bayesinv.inference.shared_modes import shared_modes_checks
from bayesinv.inference.window_means import window_means_checks
from bayesinv.posterior.checks import Check, Evidence
from bayesinv.posterior.hyper import Hyper
from bayesinv.posterior.mixture import Mixture, systematic
from bayesinv.posterior.posterior import Posterior
from bayesinv.prior.density import Density
from bayesinv.problem.plausibility import LEAST_SHARE, offset_in
from bayesinv.problem.problem import Problem
from bayesinv.problem.time_whitening import mean_times

MAX_MIXTURE_STRUCTURES = 64
"""Largest number of structures that the currents are mixed over; of more, neighbours share one."""

MAX_MIXTURE_NODES = 4000
"""Largest number of nodes that the currents are mixed over; of more, some are resampled by weight."""

NearestStructures = Callable[[Array, Array], Mixture]
"""From nodes and weights to a mixture in which each node has the nearest of the retained structures."""

MERGED_PROBABILITY = 3e-3
"""Total probability of the least probable structures, which are replaced by the nearest retained ones."""


def assemble(
    density: Density,
    name: str,
    method: str,
    nodes: Array,
    weights: Array,
    draws: Array,
    evidence: Evidence | None,
    checks: tuple[Check, ...],
    timings: dict[str, float],
    mixed_over: tuple[Array, Array] | None = None,
    separate: bool = False,
) -> Posterior:
    """Return the posterior that weighted unconstrained `nodes` and equally weighted `draws` stand for.

    mixed_over : nodes with fewer structures, and their weights, that currents are mixed over in place of all nodes
    separate : whether every node has a structure of its own, as draws have; all then take the nearest of the fewer
    """
    if mixed_over is None:
        mixed, nearest = mixture(density, weights, nodes)
    else:
        mixed, nearest = mixture(density, mixed_over[1], mixed_over[0], merged=0.0, samples=nodes if separate else None)
        if not separate:
            _, nearest = mixture(density, weights, nodes)
    scales = nearest(draws, np.full(len(draws), 1 / len(draws)))
    return Posterior(
        problem=density.observation.problem,
        model=name,
        method=method,
        mixture=mixed,
        hyper=Hyper(flattened(density.hyper(nodes)), weights, flattened(density.hyper(draws)), scales=scales),
        log_evidence=evidence,
        checks=(
            *checks,
            *shared_modes_checks(density, mixed, nodes, weights),
            *gaussian_checks(density.observation.problem, mixed),
            *prior_checks(density, draws),
        ),
        timings=timings,
    )


def flattened(hyper: dict[str, Array]) -> dict[str, Array]:
    """Return one (node,) array per scalar: a vector "h" becomes "h[0]", "h[1]", ..."""
    flat: dict[str, Array] = {}
    for name, values in hyper.items():
        if values.ndim == 1:
            flat[name] = values
        else:
            for index in np.ndindex(values.shape[1:]):
                flat[f"{name}[{','.join(map(str, index))}]"] = values[(slice(None), *index)]
    return flat


def mixture(
    density: Density, weights: Array, nodes: Array, merged: float = MERGED_PROBABILITY, samples: Array | None = None
) -> tuple[Mixture, NearestStructures]:
    """Return the mixture over nodes, and a function that gives other nodes the mixture's structures.

    Where there are many structures the most probable are retained, and nodes of the others take the nearest of these.

    merged : total probability of the structures that are not retained
    samples : (draw, coordinate), equally weighted draws of the posterior, where the nodes are too few to estimate it
    """
    coordinates, which = density.structural_nodes(nodes)
    mass = np.bincount(which, weights, minlength=len(coordinates))
    order = np.argsort(mass)[::-1]
    enough = int(np.searchsorted(np.cumsum(mass[order]) / mass.sum(), 1 - merged)) + 1
    retained = np.sort(order[: min(enough, MAX_MIXTURE_STRUCTURES)])
    spread = np.sqrt(np.maximum(mass @ (coordinates - mass @ coordinates / mass.sum()) ** 2 / mass.sum(), 1e-300))
    tree = cKDTree(coordinates[retained] / spread) if coordinates.shape[1] else None

    first = list(density.structural)
    samples, share = (nodes, weights) if samples is None else (samples, np.ones(len(samples)))
    centred = samples - share @ samples / share.sum()
    # Regression of all coordinates on the structural ones: their mean shift when the structure changes.
    weighted = centred[:, first].T * share
    mean_shift = np.linalg.lstsq(weighted @ centred[:, first], weighted @ centred)[0]
    structures = tuple(density.structures(coordinates[retained]))

    def nearest(other: Array, mass: Array) -> Mixture:
        if tree is None:
            return Mixture(mass, *density.scales(other), np.zeros(len(other), dtype=np.int64), structures)
        index = np.asarray(tree.query(other[:, first] / spread)[1], dtype=np.int64)
        # Scales shift with the structure: those that fit the recording with one structure do not with another.
        shifted = other + (coordinates[retained][index] - other[:, first]) @ mean_shift
        return Mixture(mass, *density.scales(shifted), index, structures)

    mixed = nearest(nodes, weights)
    if len(weights) > MAX_MIXTURE_NODES:
        # Resampling along the lattice keeps every part of it in proportion.
        order = np.lexsort((mixed.noise, mixed.variance, mixed.which))
        picked, count = np.unique(systematic(weights, MAX_MIXTURE_NODES, order), return_counts=True)
        mixed = mixed.picked(picked, count / MAX_MIXTURE_NODES)
    return mixed, nearest


def data_checks(problem: Problem, mixed: Mixture) -> tuple[Check, ...]:
    """Return the checks of the recording and its noise, which every posterior of it depends on."""
    checks = [noise_check(mixed), *baseline_checks(problem), *gain_checks(problem)]
    return (*checks, *colour_checks(problem, mixed), *outlier_checks(problem, mixed))


def gaussian_checks(problem: Problem, mixed: Mixture) -> tuple[Check, ...]:
    """Return the same, and those of scales that all currents share: over time, over depth and by kind of sensor."""
    checks = (
        *noise_scales_checks(problem, mixed),
        *baseline_currents_checks(problem, mixed),
        *window_means_checks(problem, mixed),
        *depth_checks(problem, mixed),
        *neighbours_checks(problem, mixed),
        *kinds_apart_checks(problem, mixed),
    )
    return (*data_checks(problem, mixed), *checks)


def noise_check(mixed: Mixture) -> Check:
    """Return the check of the noise's scale."""
    noise = float(mixed.weights @ mixed.noise)
    return Check(
        "noise scale",
        noise,
        "between 0.25 and 4",
        0.25 < noise < 4,
        "1 where the noise covariance is right; far from it the response was taken for noise, or the covariance is "
        "of another recording",
    )


def _mean_checks(problem: Problem) -> list[Check]:
    """Return the check that noise of a mean that was subtracted matters little, where it is no part of the model."""
    over = mean_times(problem)
    if problem.time_whitening is not None or not len(over):
        return []
    ratio = len(problem.times) / len(over)
    return [
        Check(
            "noise of the baseline's mean",
            ratio,
            "at most 1",
            ratio <= 1,
            "samples of the recording per sample of the mean that was subtracted from it. The noise of that mean is in "
            "every sample, and noise that is white by choice, or long, leaves it out: means over long windows are then "
            'less sure than they say. Give noise_time="auto", a longer baseline, or a shorter window',
        )
    ]


def baseline_checks(problem: Problem) -> list[Check]:
    """Return the checks of the baseline: its mean, where it was not subtracted, and its power about that."""
    power = problem.baseline_power
    if problem.baseline is None or power is None:
        return []
    checks, offset = _mean_checks(problem), offset_in(problem)
    if offset is not None:
        checks.append(
            Check(
                "mean of the baseline",
                offset.size,
                f"< {np.sqrt(LEAST_SHARE):.2g} sd of its samples, or within its error",
                not offset.significant,
                f"it is {np.sqrt(offset.errors):.2g} times its sampling error; far from 0 where an average was not "
                "baseline-corrected: subtract the mean over a window by `fit --baseline-correct START,STOP`, "
                "`from_mne(baseline_correct=(start, stop))` or MNE-Python's `Evoked.apply_baseline`",
            )
        )
        if offset.significant:
            power = offset.without_mean
    checks.append(
        Check(
            "whitened baseline",
            power,
            "between 0.5 and 2",
            0.5 < power < 2,
            "global field power of the whitened baseline, about its mean where noise has no such mean; 1 where the "
            "noise covariance belongs to the recording",
        )
    )
    return checks
