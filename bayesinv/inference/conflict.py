"""Conflict of prior and recording: whether the posterior of a hyperparameter lies in a tail of its prior.

Where it does, the prior holds the hyperparameter away from where the recording wants it: intervals are in the wrong
place and too narrow, and no measure of convergence shows it. The prior is that of a variable given those it depends on,
along one unconstrained coordinate u:

    tail = 2 min(P(prior u ≥ near end), P(prior u ≤ near end))

The near end is the one towards the middle of the prior: `INSIDE` of the posterior lies farther out. A check fails where
the tail is below `FALSE_ALARMS` / (number of coordinates). Truths that come from the prior lie beyond t, a fixed value,
with probability P(prior u ≥ t), and by Markov's inequality P(P(u ≥ t | recording) ≥ INSIDE) ≤ P(prior u ≥ t) / INSIDE,
so that at most `FALSE_ALARMS` / INSIDE of the posteriors fail, whatever the model.

References: Box (1980), J. R. Stat. Soc. A 143, 383-430; Evans & Moshonov (2006), Bayesian Anal. 1, 893-914.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bayesinv.axes import Array, Index
from bayesinv.posterior.checks import Check
from bayesinv.prior.density import Density

FALSE_ALARMS = 1e-3
"""Share of posteriors that may fail though prior and recording agree, over all hyperparameters."""

INSIDE = 0.95
"""Posterior probability of what lies farther out than the near end."""

CONDITIONING_DRAWS = 20
"""Draws of the posterior at which the prior of a variable that depends on others is evaluated."""

IMPROPER_MASS = 1e-3
"""Share of a prior's mass at the ends of its grid from which it is taken for improper, and in no conflict."""

GRID = 1e-15 * np.sinh(np.arange(-928, 929) / 16)
"""Points about the middle of a prior, a sixteenth of the distance apart, from 1e-16 to 1e10: any width is resolved."""


class _Group(NamedTuple):
    """Coordinates whose priors are evaluated at once.

    variable : number of the free variable that they belong to
    alone : whether each depends on no other coordinate
    """

    variable: int
    coordinates: Index
    alone: bool


def prior_checks(density: Density, draws: Array) -> tuple[Check, ...]:
    """Return one check for each free variable of the model: that its prior and the recording agree.

    A variable of several elements is judged by the one that lies farthest out. Potentials count for no variable.

    draws : (draw, coordinate), equally weighted unconstrained draws of the posterior
    """
    if not density.dimension:
        return ()
    tails = np.ones(density.dimension)
    for group in density.remembered("groups of variables", lambda: _groups(density)):
        tails[group.coordinates] = _tails(density, draws, group)
    limit = FALSE_ALARMS / density.dimension
    return tuple(
        _check(density, draws, variable.name, tails[coordinates], limit)
        for variable, coordinates in zip(density.model.free_RVs, density.coordinates, strict=True)
    )


def _check(density: Density, draws: Array, name: str, tails: Array, limit: float) -> Check:
    """Return the check of one variable, given the tails of its coordinates."""
    value, element = float(tails.min()), int(tails.argmin())
    note = f"prior probability of values of {name} as far out as the posterior's"
    if value < limit:
        values = density.hyper(draws)[name].reshape(len(draws), -1)
        low, high = np.quantile(values[:, element], [0.05, 0.95])
        shown = name if len(tails) == 1 else f"{name}[{element}]"
        others = [variable.name for variable in density.model.free_RVs if variable.name != name]
        instead = f", or {' or '.join(others)} if that is what {name} stands in for," if others else ""
        note = (
            f"the recording puts {shown} ({low:.3g} to {high:.3g}) where its prior hardly reaches, so intervals are "
            f"biased and too narrow; give {shown}{instead} a prior with a heavy tail (HalfCauchy for a scale, StudentT "
            "for a weight), unless units, gain or noise covariance are wrong"
        )
    return Check(f"prior of {name}", value, f"> {limit:.2g}", value >= limit, note)


def _groups(density: Density) -> list[_Group]:
    """Return the coordinates of the free variables in groups."""
    from pytensor.graph.traversal import ancestors

    free = set(density.model.free_RVs)
    found: list[_Group] = []
    for i, (variable, coordinates) in enumerate(zip(density.model.free_RVs, density.coordinates, strict=True)):
        if density.log_prior(i, density.start[None]).ndim == 1:
            # Elements that depend on each other: each given the others.
            found += [_Group(i, coordinates[k : k + 1], False) for k in range(len(coordinates))]
        else:
            found.append(_Group(i, coordinates, not free & {*ancestors([variable])} - {variable}))
    return found


def _tails(density: Density, draws: Array, group: _Group) -> Array:
    """Return the two-sided tail (coordinate,) of the prior in which the posterior lies."""
    if group.alone:
        values = np.quantile(draws[:, group.coordinates], np.linspace(0, 1, CONDITIONING_DRAWS + 1), axis=0)[None]
        tables = density.remembered(
            f"tails of prior {group.variable}", lambda: _prior_tails(density, draws[:1], group), by_numbers=True
        )
    else:
        rows = draws[np.linspace(0, len(draws) - 1, CONDITIONING_DRAWS).astype(int)]
        values, tables = rows[:, None, group.coordinates], _prior_tails(density, rows, group)
    points, above, below = tables
    ends = [
        # The logarithm of a tail is smooth where the tail itself falls by orders of magnitude.
        [
            [np.interp(values[row, :, k], points[row, :, k], logs[row, :, k]) for row in range(len(values))]
            for logs in (above, below)
        ]
        for k in range(len(group.coordinates))
    ]
    near = np.quantile(np.reshape(ends, (len(ends), 2, -1)), INSIDE, axis=2).min(axis=1)
    return np.minimum(1.0, 2 * np.exp(near))


def _prior_tails(density: Density, rows: Array, group: _Group) -> tuple[Array, Array, Array]:
    """Return points, and log P(prior u ≥ point) and log P(prior u ≤ point): each (row, point, coordinate).

    Both are 0 where the prior is improper. The other coordinates are those of the rows (row, coordinate).
    """
    centre = np.repeat(density.start[None, None, group.coordinates], len(rows), axis=0)
    nodes = np.repeat(rows[:, None], len(GRID), axis=1)
    # The initial point need not be in the middle of the prior; the highest point around it is.
    for _ in range(2):
        points = centre + GRID[:, None]
        nodes[:, :, group.coordinates] = points
        found = density.log_prior(group.variable, nodes.reshape(-1, density.dimension))
        log_density = found.reshape(len(rows), len(GRID), -1)
        log_density = np.where(np.isnan(log_density), -np.inf, log_density)
        centre = np.take_along_axis(points, log_density.argmax(axis=1)[:, None], axis=1)
    # Between two points the density is exponential, as tails nearly are.
    log_density = np.maximum(log_density - log_density.max(axis=1, keepdims=True), -700.0)
    rise = np.diff(log_density, axis=1)
    rise = np.where(np.abs(rise) < 1e-8, 1e-8, rise)
    mass = np.exp(log_density[:, :-1]) * np.expm1(rise) / rise * np.diff(points, axis=1)
    mass /= mass.sum(axis=1, keepdims=True)
    improper = mass[:, [0, -1]].sum(axis=1, keepdims=True) > IMPROPER_MASS
    none = np.zeros_like(mass[:, :1])
    above = np.concatenate([np.cumsum(mass[:, ::-1], axis=1)[:, ::-1], none], axis=1)
    below = np.concatenate([none, np.cumsum(mass, axis=1)], axis=1)
    logs = [np.where(improper, 0.0, np.log(np.maximum(one, 1e-300))) for one in (above, below)]
    return points, logs[0], logs[1]
