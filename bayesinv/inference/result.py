"""From nodes of the hyperparameters to a `Posterior`: what every method ends with."""

from __future__ import annotations

import numpy as np

from bayesinv.axes import Array
from bayesinv.currents import Observation
from bayesinv.inference.density import Density
from bayesinv.posterior import Check, Evidence, Hyper, Mixture, Posterior

MOST_STRUCTURES = 40
"""Different prior structures that the currents are mixed over; beyond, neighbours share one."""

BINS = 24


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
) -> Posterior:
    """Return the posterior that weighted unconstrained `nodes` and equally weighted `draws` stand for."""
    variance, noise, place = density.scales(nodes)
    mixed = mixture(density.seen, weights, variance, noise, place)
    scales = at_draws(mixed, place, *density.scales(draws))
    return Posterior(
        problem=density.seen.problem,
        model=name,
        method=method,
        mixture=mixed,
        hyper=Hyper(flattened(density.hyper(nodes)), weights, flattened(density.hyper(draws)), scales=scales),
        log_evidence=evidence,
        checks=(*checks, *data_checks(density.seen, mixed)),
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


def mixture(seen: Observation, weights: Array, variance: Array, noise: Array, place: Array | None) -> Mixture:
    """Mixture over nodes; nodes whose structural number is nearly the same share its structure."""
    if place is None:
        relative = seen.family.spectra[0].weights
        structure = None if (relative == 1).all() else relative
        return Mixture(weights, variance, noise, np.zeros(len(weights), dtype=np.int64), (structure,))
    values, which = np.unique(np.round(place, 12), return_inverse=True)
    if len(values) > MOST_STRUCTURES:
        order = np.argsort(place)
        rank = np.empty(len(place))
        rank[order] = np.cumsum(weights[order]) - 0.5 * weights[order]
        _, which = np.unique(np.minimum((rank * BINS).astype(int), BINS - 1), return_inverse=True)
        mass = np.bincount(which, weights)
        values = np.bincount(which, weights * place) / mass
    structures = tuple(seen.currents.relative_variances(seen.problem, float(value)) for value in values)
    return Mixture(weights, variance, noise, which.astype(np.int64).reshape(-1), structures)


def at_draws(mixed: Mixture, place: Array | None, variance: Array, noise: Array, drawn: Array | None) -> Mixture:
    """Scales of equally weighted draws; each has the structure of the node whose structural number is nearest."""
    which = np.zeros(len(variance), dtype=np.int64)
    if place is not None and drawn is not None:
        order = np.argsort(place)
        middles = (place[order][1:] + place[order][:-1]) / 2
        which = mixed.which[order[np.searchsorted(middles, drawn)]]
    return Mixture(np.full(len(variance), 1 / len(variance)), variance, noise, which, mixed.structures)


def data_checks(seen: Observation, mixed: Mixture) -> tuple[Check, ...]:
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
    power = seen.problem.baseline_power
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
