"""Posterior maps as MNE-Python's source estimates."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from bayesinv.axes import one_of
from bayesinv.bridges.mne_origin import Origin

if TYPE_CHECKING:
    import mne

    from bayesinv.posterior.posterior import Posterior


MAPS = ("mean", "sd", "shrinkage", "exceedance", "lower", "upper", "prior_sd")


def to_mne(
    posterior: Posterior, what: str = "mean", threshold: float | None = None, level: float = 0.9
) -> mne.SourceEstimate | mne.VectorSourceEstimate:
    """Return a map of the posterior on MNE-Python's vertices.

    what : "mean", "sd" (A m), "exceedance" (probability that the current exceeds the threshold), "lower" and "upper"
        ends of the credible interval (A m): per time, and per axis x, y, z of the head with free orientation, which
        gives a VectorSourceEstimate. "shrinkage" (mean over the axes) and "prior_sd" (A m, root mean square over the
        axes) hold at all times and give one sample
    threshold : A m, of "exceedance"
    level : probability inside the credible interval

    Raises
    ------
    ValueError
        If there is no such map, "exceedance" has no threshold, or vertices and hemispheres of the sources are not
        known or the samples are not evenly spaced.
    """
    import mne

    one_of("map", what, MAPS)
    sources, times = posterior.problem.sources, posterior.times
    if sources is None or sources.vertices is None or sources.hemispheres is None:
        raise ValueError(
            "MNE-Python wants to know each source's vertex and hemisphere, but these sources have none; "
            "give Sources(..., vertices=, hemispheres=)"
        )
    if what == "exceedance" and threshold is None:
        raise ValueError("exceedance wants a threshold in A m, such as threshold=1e-9")
    steps = np.diff(times)
    if len(steps) and not np.allclose(steps, steps.mean(), rtol=1e-3):
        raise ValueError("MNE-Python wants evenly spaced samples, but these times are not")
    origin = posterior.problem.origin
    single_step = 1 / origin.info["sfreq"] if isinstance(origin, Origin) else 1.0
    step = float(steps.mean()) if len(steps) else single_step
    if what in ("shrinkage", "prior_sd"):
        table = posterior.shrinkage if what == "shrinkage" else posterior.prior_variance
        table = table if table.ndim == 1 else table.mean(axis=1)
        values = (table if what == "shrinkage" else np.sqrt(table))[:, None]
    elif what == "exceedance":
        values = posterior.exceedance(cast("float", threshold))
    elif what in ("lower", "upper"):
        values = posterior.interval(level)[what == "upper"]
    else:
        values = getattr(posterior, what)
    order = np.lexsort((sources.vertices, sources.hemispheres))
    vertices = [sources.vertices[order][sources.hemispheres[order] == hemisphere] for hemisphere in (0, 1)]
    kind = mne.SourceEstimate if values.ndim == 2 else mne.VectorSourceEstimate
    return kind(values[order], vertices, tmin=float(times[0]), tstep=step, subject=sources.subject or None)
