"""Checks of chains over local scales: whether they agree on scales, and on where currents flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.spatial.distance import cdist

from bayesinv.axes import Array, Index
from bayesinv.inference.active_checks import MAX_DIFFERENCE, MAX_RHAT, MIN_ESS, PARCEL
from bayesinv.inference.chains import mixing
from bayesinv.posterior.checks import Check
from bayesinv.problem.problem import Problem


def local_checks(problem: Problem, hyper: Mapping[str, Array], shares: Sequence[Array]) -> tuple[Check, ...]:
    """Return the checks of the chains.

    hyper : name to (draw,), of all chains one after the other
    shares : of each chain, (source,), mean share of each source in the field's power
    """
    return (*_convergence(hyper, len(shares)), _places(problem, shares))


def _convergence(hyper: Mapping[str, Array], chains: int) -> tuple[Check, Check]:
    import xarray as xr

    values = {name: np.log(one) for name, one in hyper.items() if name != "lambda" and (one > 0).all()}
    table = xr.Dataset(
        {name: (("chain", "draw"), one.reshape(chains, -1)) for name, one in values.items() if np.ptp(one) > 0}
    )
    rhats, sizes = mixing(table.assign_coords({name: np.arange(size) for name, size in table.sizes.items()}))
    worst, fewest = max(rhats, key=lambda name: rhats[name]), min(sizes, key=lambda name: sizes[name])
    return (
        Check(
            "R-hat",
            rhats[worst],
            f"< {MAX_RHAT:g}",
            rhats[worst] < MAX_RHAT,
            f"largest for {worst}; chains agree where it is near 1. Where they do not, give more `sweeps`",
        ),
        Check(
            "effective draws",
            sizes[fewest],
            f"> {MIN_ESS}",
            sizes[fewest] > MIN_ESS,
            f"fewest for {fewest}; independent draws that the chains are worth. For more give more `sweeps`",
        ),
    )


def _places(problem: Problem, shares: Sequence[Array]) -> Check:
    """Check that chains agree on where currents flow: by parcel, or by source where positions are not known."""
    parcel = _parcels(problem, np.mean(shares, axis=0))
    each = np.stack([np.bincount(parcel, one) for one in shares])
    difference = float(np.ptp(each, axis=0).max())
    return Check(
        "chains on places",
        difference,
        f"< {MAX_DIFFERENCE:g}",
        difference < MAX_DIFFERENCE,
        "largest difference between two chains' shares of a parcel in the power of the currents' field; where it is "
        "large, chains have found different explanations of the recording: give more `sweeps`",
    )


def _parcels(problem: Problem, share: Array) -> Index:
    """Parcel of every source: (source,), about those of the largest share first."""
    if problem.sources is None:
        return np.arange(problem.source_count)
    positions = problem.sources.positions
    parcel = np.full(len(positions), -1)
    number = 0
    for one in np.argsort(-share, kind="stable"):
        if parcel[one] < 0:
            near = (cdist(positions[[one]], positions)[0] <= PARCEL) & (parcel < 0)
            parcel[near] = number
            number += 1
    return parcel
