"""Checks of chains over local scales: whether they agree on scales, and on where currents flow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bayesinv.axes import Array
from bayesinv.inference.active_checks import MAX_DIFFERENCE, parcels_about
from bayesinv.inference.chains import agreement
from bayesinv.posterior.checks import Check
from bayesinv.problem.problem import Problem


def local_checks(problem: Problem, hyper: Mapping[str, Array], shares: Sequence[Array]) -> tuple[Check, ...]:
    """Return the checks of the chains.

    hyper : name to (draw,), of all chains one after the other
    shares : of each chain, (source,), mean share of each source in the field's power
    """
    values = {name: one for name, one in hyper.items() if name != "lambda"}
    return (*agreement(values, len(shares)), _places(problem, shares))


def _places(problem: Problem, shares: Sequence[Array]) -> Check:
    """Check that chains agree on where currents flow: by parcel, or by source where positions are not known."""
    sources = problem.sources
    parcel = np.arange(problem.source_count)
    if sources is not None:
        parcel = parcels_about(sources.positions, np.mean(shares, axis=0))
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
