"""Draws and log likelihood as ArviZ takes them: an `xarray.DataTree`, converted for the installed ArviZ.

ArviZ 1 uses `xarray.DataTree`; ArviZ 0 uses `InferenceData`, which converts both ways.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

if TYPE_CHECKING:
    from bayesinv.posterior.posterior import Posterior


def as_native(tree: xr.DataTree) -> Any:
    """Return the container that the installed ArviZ works with."""
    import arviz as az

    # ArviZ 1 keeps the old name for the tree itself.
    convert = getattr(getattr(az, "InferenceData", None), "from_datatree", None)
    return tree if convert is None else convert(tree)


def to_arviz(posterior: Posterior) -> Any:
    """Return hyperparameter draws, pointwise log likelihood over time (none with focal sources), and the data."""
    hyper, problem = posterior.hyper, posterior.problem
    chains = hyper.chains
    draws = {name: values.reshape(chains, -1) for name, values in hyper.draws.items()}
    count = next(iter(draws.values())).shape[1]
    groups = {
        "posterior": xr.Dataset({name: (("chain", "draw"), values) for name, values in draws.items()}),
        "observed_data": xr.Dataset({"recording": (("component", "time"), problem.recording)}),
    }
    if posterior.active is None:
        known = None if hyper.scales is not None else chains * count
        pointwise = posterior.log_likelihood(known).reshape(chains, count, -1)
        groups["log_likelihood"] = xr.Dataset({"recording": (("chain", "draw", "time"), pointwise)})
    coords = {"chain": np.arange(chains), "draw": np.arange(count), "time": problem.times}
    coords["component"] = np.arange(problem.components)
    tree = {
        name: group.assign_coords({key: value for key, value in coords.items() if key in group.dims})
        for name, group in groups.items()
    }
    return as_native(xr.DataTree.from_dict(tree))
