"""Convergence of chains: their length, R-hat, effective draws, divergences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from bayesinv.axes import Array
from bayesinv.posterior.checks import Check

MAX_RHAT, MIN_ESS = 1.05, 100
"""R-hat above which, and effective draws below which, chains over sources are not trusted."""


def check_length(chains: int, draws: int, least: int) -> None:
    """Raise if there are fewer than two chains, or fewer draws in each than the least number."""
    if chains < 2 or draws < least:
        raise ValueError(f"{chains} chains of {draws} draws are too short to be trusted; give at least 2 of {least}")


def as_tree(found: Any) -> xr.DataTree:
    """Return what a sampler gave, of either ArviZ, as a `DataTree`."""
    return found if isinstance(found, xr.DataTree) else found.to_datatree()


def mixing(table: xr.Dataset) -> tuple[dict[str, float], dict[str, float]]:
    """Return the largest R-hat, and the fewest effective draws, of each variable (chain, draw, ...).

    Of a variable with two values, each drawn as often, distances from the median do not vary, and R-hat is that of the
    values alone.
    """
    import arviz_stats

    with np.errstate(invalid="ignore", divide="ignore"):
        whole, values = arviz_stats.rhat(table), arviz_stats.rhat(table, method="z_scale")
    rhats, sizes = whole.fillna(values).data_vars, arviz_stats.ess(table).data_vars
    return (
        {str(name): float(np.max(value)) for name, value in rhats.items()},
        {str(name): float(np.min(value)) for name, value in sizes.items()},
    )


def agreement(values: Mapping[str, Array], chains: int) -> tuple[Check, ...]:
    """Return R-hat and effective draws of chains over sources as checks; nothing where no value varies.

    values : name to (draw,), of all chains one after the other; positive ones are judged by their logarithms
    """
    table = xr.Dataset(
        {
            name: (("chain", "draw"), (np.log(one) if (one > 0).all() else one).reshape(chains, -1))
            for name, one in values.items()
            if np.ptp(one) > 0
        },
    )
    if not table.data_vars:
        return ()
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


def diagnose(tree: xr.DataTree, names: list[str]) -> tuple[Check, ...]:
    """Return R-hat, effective sample size and divergences of chains as checks; raise where they cannot be used."""
    table = tree["posterior"].to_dataset()[names]
    if not all(np.isfinite(table[name]).all() for name in names):
        raise ValueError("the chains are not finite; check the model's priors and scales")
    rhats, sizes = mixing(table)
    rhat, ess = max(rhats.values()), min(sizes.values())
    diverging = np.asarray(tree["sample_stats"].to_dataset()["diverging"])
    share = float(diverging.mean())
    if not rhat < 1.05:
        raise ValueError(f"the chains have not mixed (R-hat {rhat:.2f}); draw longer ones, or use quadrature")
    if share > 0.01:
        raise ValueError(
            f"{share:.0%} of the steps diverged; the posterior has a corner that NUTS cannot turn: use a tighter prior "
            "or quadrature"
        )
    return (
        Check("R-hat", rhat, "< 1.01", rhat < 1.01, "chains agree where it is near 1"),
        Check("effective draws", ess, "> 400", ess > 400, "independent draws that the chains are worth"),
        Check("divergences", share, "0", share == 0, "share of steps at which the sampler failed"),
    )
