"""Channels, projectors, reference and noise covariance of an MNE-Python recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from bayesinv.axes import Array, one_of, real
from bayesinv.problem.noise import Noise

if TYPE_CHECKING:
    import mne


KINDS = ("eeg", "mag", "grad")

_MEMBERS = {"meg": ("meg", "mag", "grad"), "eeg": ("eeg",)}


def used_channels(
    info: mne.Info, forward: mne.Forward, noise_cov: mne.Covariance, picks: str | Sequence[str] | None
) -> tuple[str, ...]:
    """Return the names of the channels to use, in the order of the info."""
    kinds = dict(zip(info["ch_names"], info.get_channel_types(), strict=True))
    names = [name for name in info["ch_names"] if kinds[name] in KINDS]
    if not names:
        raise ValueError("the recording has no EEG, magnetometer or gradiometer channel")
    if picks is not None:
        wanted = [picks] if isinstance(picks, str) else list(picks)
        for pick in wanted:
            if pick not in (*KINDS, "meg") and pick not in kinds:
                one_of("channel or kind of channel", pick, [*KINDS, "meg", *names])
        types = {kind for pick in wanted for kind in (("mag", "grad") if pick == "meg" else (pick,))}
        names = [name for name in names if kinds[name] in types or name in types]
        if not names:
            raise ValueError(f"picks {picks!r} leaves no EEG, magnetometer or gradiometer channel of the recording")
    for what, present, remedy in (
        ("forward", forward["sol"]["row_names"], "compute the forward solution for this recording's channels"),
        ("noise covariance", noise_cov.ch_names, "compute the covariance from this recording's channels"),
    ):
        common = [name for name in names if name in set(present)]
        if not common:
            raise ValueError(
                f"no channel is in common: the recording has {', '.join(names[:3])}, ..., the {what} has "
                f"{', '.join(list(present)[:3])}, ...; {remedy}"
            )
        names = common
    bads = {*info["bads"], *noise_cov["bads"], *forward["info"]["bads"]}
    good = tuple(name for name in names if name not in bads)
    if not good:
        raise ValueError(f"all {len(names)} channels are marked as bad; look at info['bads']")
    if any(kinds[name] == "eeg" for name in good) and not (info["custom_ref_applied"] or _has_reference(info)):
        raise ValueError(
            "EEG wants the average reference, as its forward solution has none of its own; first call "
            'evoked.set_eeg_reference("average", projection=True)'
        )
    return good


def _has_reference(info: mne.Info) -> bool:
    """Whether a projector of the average EEG reference is among the projectors, active or not."""
    from mne.io.constants import FIFF

    return any(item["kind"] == FIFF.FIFFV_PROJ_ITEM_EEG_AVREF for item in info["projs"])


def noise_of(
    info: mne.Info,
    noise_cov: mne.Covariance,
    kinds: tuple[str, ...],
    rank: int | Mapping[str, int] | None,
    averages: int,
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
    if electric.any() and info["custom_ref_applied"] and not _has_reference(info):
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
