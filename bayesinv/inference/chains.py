"""Convergence of chains: R-hat, effective draws, divergences."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from bayesinv.posterior.checks import Check


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
