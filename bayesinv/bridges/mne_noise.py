"""Noise of an MNE-Python recording: its covariance after projection, and its rank."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from bayesinv.axes import Array, one_of, real
from bayesinv.bridges.mne_channels import has_reference
from bayesinv.problem.noise import Noise

if TYPE_CHECKING:
    import mne

_MEMBERS = {"meg": ("meg", "mag", "grad"), "eeg": ("eeg",)}


def noise_of(
    info: mne.Info,
    noise_cov: mne.Covariance,
    kinds: tuple[str, ...],
    rank: int | Mapping[str, int] | None,
    averages: float,
) -> tuple[Noise, Array]:
    """Return the noise after projection, and the projector (sensor, sensor)."""
    import mne
    from mne.proj import make_projector

    names = info["ch_names"]
    order = [noise_cov.ch_names.index(name) for name in names]
    table = noise_cov["data"]
    covariance = np.diag(table[order]) if noise_cov["diag"] else table[np.ix_(order, order)]
    covariance = real("noise covariance", covariance, "sensor sensor")
    projs = [*info["projs"], *noise_cov["projs"]]
    _, _, directions = make_projector(projs, names)
    electric = np.array([kind == "eeg" for kind in kinds])
    if electric.any() and info["custom_ref_applied"] and not has_reference(info):
        # Projecting out the mean keeps all differences between electrodes, whatever the reference was.
        extra = electric / np.sqrt(electric.sum())
        vectors, sizes, _ = np.linalg.svd(np.column_stack([directions, extra]), full_matrices=False)
        directions = vectors[:, sizes > 1e-2 * sizes[0]]
    project = np.eye(len(names)) - directions @ directions.T
    covariance = project @ covariance @ project.T
    covariance[np.ix_(electric, ~electric)] = 0.0
    covariance[np.ix_(~electric, electric)] = 0.0
    ranks: int | Mapping[str, int]
    if rank is None:
        projected = mne.Covariance(covariance, names, [], projs, 0)
        estimated = mne.compute_rank(projected, None, info=info)
        ranks = {
            group: sum(int(estimated[key]) for key in keys if key in estimated) for group, keys in _MEMBERS.items()
        }
        ranks = {group: value for group, value in ranks.items() if value}
    else:
        ranks = rank if isinstance(rank, Mapping) else int(rank)
        if isinstance(ranks, Mapping):
            for group in ranks:
                one_of("group of sensors with a rank", group, _MEMBERS)
    return Noise(covariance, kinds, ranks, averages), project
