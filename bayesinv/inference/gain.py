"""Checks of the gain that every posterior depends on: that no sources have most of it."""

from __future__ import annotations

from bayesinv.posterior.checks import Check
from bayesinv.problem.plausibility import outlying_share
from bayesinv.problem.problem import Problem
from bayesinv.wording import listed

MOST_SHARE = 0.05
"""Share of the signal's power in outlying sources that is let pass: scales and SNR change by half of it."""


def gain_checks(problem: Problem) -> list[Check]:
    """Return the check of sources whose gain is many times their neighbours'; none where there is no such source."""
    if not len(problem.outliers):
        return []
    share = outlying_share(problem)
    note = (
        "share of the power at the sensors, of equal currents everywhere, that is of "
        f"{len(problem.outliers)} of {problem.source_count} sources ({listed(problem.outliers)}) whose gains are many "
        "times their neighbours': they lie on or outside the skull "
        "of the head model. Scales are learned for these, and other currents come out too small. Leave them out "
        "(of gain and positions; problem.outliers names them, from_mne(outliers='drop') does it), or give a head "
        "model with the skull around all sources"
    )
    return [Check("outlying sources", share, f"< {MOST_SHARE:g}", share < MOST_SHARE, note)]
