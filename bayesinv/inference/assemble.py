"""From nodes of the hyperparameters to a `Posterior`: what every method ends with."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.spatial import cKDTree

from bayesinv.axes import Array
from bayesinv.posterior.checks import Check, Evidence
from bayesinv.posterior.hyper import Hyper
from bayesinv.posterior.mixture import Mixture, systematic
from bayesinv.posterior.posterior import Posterior
from bayesinv.prior.density import Density
from bayesinv.prior.observation import Observation

MOST_STRUCTURES = 64
"""Different structures that the currents are mixed over; beyond, neighbours share one."""

MOST_NODES = 4000
"""Hyperparameters that the currents are mixed over; of more, some are picked in proportion to their weights."""

Nearest = Callable[[Array, Array], Mixture]
"""From nodes and weights to the same with structures of a mixture, each the one that is nearest to its own."""

LIGHTEST = 3e-3
"""Probability of the lightest structures that share a neighbour's."""


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
    fewer: tuple[Array, Array] | None = None,
    alone: bool = False,
) -> Posterior:
    """Return the posterior that weighted unconstrained `nodes` and equally weighted `draws` stand for.

    fewer : nodes of fewer structures, and weights, that currents are mixed over in place of the nodes
    alone : whether every node has a structure of its own, as draws have; draws then take the fewer nodes' structures
    """
    if fewer is None:
        mixed, nearest = mixture(density, weights, nodes)
    else:
        mixed, nearest = mixture(density, fewer[1], fewer[0], lightest=0.0, cloud=nodes if alone else None)
        if not alone:
            _, nearest = mixture(density, weights, nodes)
    scales = nearest(draws, np.full(len(draws), 1 / len(draws)))
    return Posterior(
        problem=density.observation.problem,
        model=name,
        method=method,
        mixture=mixed,
        hyper=Hyper(flattened(density.hyper(nodes)), weights, flattened(density.hyper(draws)), scales=scales),
        log_evidence=evidence,
        checks=(*checks, *data_checks(density.observation, mixed)),
        timings=timings,
    )


def flattened(hyper: dict[str, Array]) -> dict[str, Array]:
    """One (node,) array per scalar: a vector "h" becomes "h[0]", "h[1]", ..."""
    flat: dict[str, Array] = {}
    for name, values in hyper.items():
        if values.ndim == 1:
            flat[name] = values
        else:
            for index in np.ndindex(values.shape[1:]):
                flat[f"{name}[{','.join(map(str, index))}]"] = values[(slice(None), *index)]
    return flat


def mixture(
    density: Density, weights: Array, nodes: Array, lightest: float = LIGHTEST, cloud: Array | None = None
) -> tuple[Mixture, Nearest]:
    """Mixture over nodes, and a function that brings nodes to it.

    Where there are many structures the heaviest are kept, and the others' nodes go to the one that is nearest.

    lightest : probability of the lightest structures, together, that are not kept
    cloud : (draw, coordinate), equally weighted draws of the posterior, where the nodes are few
    """
    places, which = density.structural_nodes(nodes)
    mass = np.bincount(which, weights, minlength=len(places))
    order = np.argsort(mass)[::-1]
    enough = int(np.searchsorted(np.cumsum(mass[order]) / mass.sum(), 1 - lightest)) + 1
    kept = np.sort(order[: min(enough, MOST_STRUCTURES)])
    spread = np.sqrt(np.maximum(mass @ (places - mass @ places / mass.sum()) ** 2 / mass.sum(), 1e-300))
    tree = cKDTree(places[kept] / spread) if places.shape[1] else None

    first = list(density.structural)
    cloud, share = (nodes, weights) if cloud is None else (cloud, np.ones(len(cloud)))
    about = cloud - share @ cloud / share.sum()
    # By how much everything moves, in the mean, when the structure does.
    mean_shift = np.linalg.lstsq(about[:, first].T * share @ about[:, first], about[:, first].T * share @ about)[0]
    structures = tuple(density.structures(places[kept]))

    def nearest(other: Array, mass: Array) -> Mixture:
        if tree is None:
            return Mixture(mass, *density.scales(other), np.zeros(len(other), dtype=np.int64), structures)
        index = np.asarray(tree.query(other[:, first] / spread)[1], dtype=np.int64)
        # Scales go along with the structure: those of one structure do not fit the recording with another.
        moved = other + (places[kept][index] - other[:, first]) @ mean_shift
        return Mixture(mass, *density.scales(moved), index, structures)

    mixed = nearest(nodes, weights)
    if len(weights) > MOST_NODES:
        # Picked along the lattice, every part of it stays in proportion.
        order = np.lexsort((mixed.noise, mixed.variance, mixed.which))
        picked, count = np.unique(systematic(weights, MOST_NODES, order), return_counts=True)
        mixed = mixed.picked(picked, count / MOST_NODES)
    return mixed, nearest


def data_checks(observation: Observation, mixed: Mixture) -> tuple[Check, ...]:
    """Facts about the recording that any posterior of it leans on."""
    noise = float(mixed.weights @ mixed.noise)
    checks = [
        Check(
            "noise scale",
            noise,
            "between 0.25 and 4",
            0.25 < noise < 4,
            "1 where the noise covariance is right; far from it the response was taken for noise, or the covariance is "
            "of another recording",
        )
    ]
    power = observation.problem.baseline_power
    if power is not None:
        checks.append(
            Check(
                "whitened baseline",
                power,
                "between 0.5 and 2",
                0.5 < power < 2,
                "global field power of the whitened baseline; 1 where the noise covariance belongs to the recording",
            )
        )
    return tuple(checks)
