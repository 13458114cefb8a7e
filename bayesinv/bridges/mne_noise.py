"""Noise of an MNE-Python recording: its covariance after projection, and its rank."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from bayesinv.axes import Array, one_of, real
from bayesinv.bridges.mne_channels import WORDS, has_reference
from bayesinv.bridges.mne_interpolated import splined
from bayesinv.problem.dependence import Dependence, dependence
from bayesinv.problem.noise import Noise, modality, whole_rank
from bayesinv.wording import listed

if TYPE_CHECKING:
    import mne

MEMBERS = {"meg": ("meg", "mag", "grad"), "eeg": ("eeg",)}
"""Names that MNE-Python gives to parts of a group of sensors."""

LOW_RANK = 0.7
"""Rank, relative to what projectors leave of the channels (or what SSS left), below which most likely the covariance is
wrong: the removal of components costs a fifth of a few dozen electrodes."""

STRANGE_RATIO = 1e4
"""Noise of a channel over that of the usual one of its kind, or less than it by as much, that is that of another kind:
magnetometers and electrodes differ by 1e7 in SI units, noisy ones among themselves by 100."""

ROUNDING = 1e-10
"""The same below which a channel is zero but for rounding, such as a reference electrode."""

STRANGE_SHARE = 0.04
"""Share of the channels of a kind, at least two, with such noise, above which names and rows do not belong together."""

Rank = int | Mapping[str, int] | Literal["info", "full"] | None


@dataclass(frozen=True, eq=False)
class Whitening:
    """Noise after projection, the projection (sensor, sensor), and what was left out of the rank and why.

    removed : (sensor, direction), orthonormal, what the projectors and the average reference take out
    """

    noise: Noise
    project: Array
    dependent: tuple[str, ...]
    removed: Array


def noise_of(
    info: mne.Info, noise_cov: mne.Covariance, kinds: tuple[str, ...], rank: Rank, averages: float
) -> Whitening:
    """Return the noise of the channels of the info, and the projection that recording and gain want too.

    rank : None estimates it as MNE-Python does, and leaves out the directions of dependent channels, which it warns of;
        "info" is the number of channels less that of projectors; "full" all that the projectors leave; numbers as
        they are
    """
    import mne

    names = info["ch_names"]
    order = [noise_cov.ch_names.index(name) for name in names]
    table = noise_cov["data"]
    covariance = np.diag(table[order]) if noise_cov["diag"] else table[np.ix_(order, order)]
    covariance = real("noise covariance", covariance, "sensor sensor")
    _refuse_strange_units(np.sqrt(np.maximum(np.diag(covariance), 0.0)), kinds, names)
    electric = np.array([kind == "eeg" for kind in kinds])
    directions = _removed(info, noise_cov, electric)
    project = np.eye(len(names)) - directions @ directions.T
    covariance = project @ covariance @ project.T
    covariance[np.ix_(electric, ~electric)] = 0.0
    covariance[np.ix_(~electric, electric)] = 0.0
    if isinstance(rank, str):
        one_of("rank", rank, ("info", "full"), ', or give a number, {"meg": ..., "eeg": ...} or None')
    if rank is not None and not isinstance(rank, str):
        return Whitening(Noise(covariance, kinds, _given_ranks(rank, kinds), averages), project, (), directions)
    ranks, expected, dependent = {}, _mne_ranks(covariance, info, noise_cov, "info"), []
    estimated = _mne_ranks(covariance, info, noise_cov, rank)
    for group, members in (("meg", np.flatnonzero(~electric)), ("eeg", np.flatnonzero(electric))):
        if not members.size:
            continue
        within = _independent(directions[members])
        most = len(members) - within.shape[1]
        expected[group] = min(expected[group], most)
        if rank is None:
            block = np.ix_(members, members)
            known = splined(mne.pick_info(info, members), covariance[block]) if group == "eeg" else ()
            found = dependence(covariance[block], [kinds[i] for i in members], within, known)
            if found.count:
                remover = np.eye(len(names))
                remover[block] = found.remover
                project, covariance = remover @ project, remover @ covariance @ remover.T
                most -= found.count
                dependent += [names[members[i]] for i in found.sensors]
                _tell_dependent(group, [names[members[i]] for i in found.sensors], found, estimated[group], most)
        ranks[group] = most if rank == "full" else min(estimated[group], most)
    if rank is None:
        # Of a spectrum that decays to rounding, the estimate may count directions that cannot be whitened.
        possible = Noise(covariance, kinds).ranks
        ranks = {group: min(count, possible[group]) for group, count in ranks.items()}
        _tell_low_ranks(ranks, expected, kinds, [*map(names.index, dependent)], int(noise_cov["nfree"] or 0))
    return Whitening(Noise(covariance, kinds, ranks, averages), project, tuple(dependent), directions)


def _refuse_strange_units(sds: Array, kinds: tuple[str, ...], names: Sequence[str]) -> None:
    """Raise where channels have the noise of another kind: names and rows of the covariance do not belong together."""
    for kind in dict.fromkeys(kinds):
        members = np.flatnonzero([one == kind for one in kinds])
        usual = float(np.median(sds[members][sds[members] > 0])) if sds[members].any() else 1.0
        ratio = sds[members] / usual
        strange = members[(ratio > STRANGE_RATIO) | ((ratio < 1 / STRANGE_RATIO) & (ratio > ROUNDING))]
        if len(strange) > max(1, STRANGE_SHARE * len(members)):
            raise ValueError(
                f"by the noise covariance the noise of {len(strange)} of {len(members)} {WORDS[kind]} channels "
                f"({listed(names[i] for i in strange)}) is that of another kind of sensor: it has standard deviations "
                f"of {sds[members].min():.1e} to {sds[members].max():.1e}, where those of one kind differ by a factor "
                'of 100 at most. Its names (noise_cov["names"]) do not belong to its rows, or units are mixed; '
                "compute it anew from channels that bear their own names, in V, T and T/m"
            )


def _tell_low_ranks(
    ranks: Mapping[str, int], expected: Mapping[str, int], kinds: tuple[str, ...], dependent: list[int], samples: int
) -> None:
    """Warn where a covariance has far fewer directions of noise than its channels, of which most is not used then.

    expected : what projectors, and SSS where the info tells of it, leave of each group's channels
    dependent : channels that were named already
    samples : of which the covariance was computed, 0 where it does not say
    """
    for group, rank in ranks.items():
        named = sum(modality(kinds[i]) == group for i in dependent)
        if rank >= LOW_RANK * (expected[group] - named):
            continue
        count = sum(modality(kind) == group for kind in kinds)
        cause = f"it is of {samples} samples" if 0 < samples < count else "it is of fewer samples than channels"
        warnings.warn(
            f"the noise covariance has rank {rank} for {count} {WORDS[group]} channels, of which projectors and "
            f"reference leave {expected[group]}: only {rank} directions of the recording are used. Most likely "
            f"{cause}, its names do not belong to its rows, or something that the info does not know of took "
            "directions out. Compute it of more samples, or regularise it (mne.compute_covariance(method='shrunk'), "
            f"mne.cov.regularize); rank={{{group!r}: {rank}}} says that it is right",
            stacklevel=4,
        )


def _removed(info: mne.Info, noise_cov: mne.Covariance, electric: NDArray[np.bool_]) -> Array:
    """Return the directions (sensor, direction) that the projectors and the average reference remove."""
    from mne.proj import make_projector

    _, _, directions = make_projector([*info["projs"], *noise_cov["projs"]], info["ch_names"])
    directions = np.asarray(directions, dtype=float).reshape(len(electric), -1)
    if electric.any() and info["custom_ref_applied"] and not has_reference(info):
        # Projecting out the mean keeps all differences between electrodes, whatever the reference was.
        extra = electric / np.sqrt(electric.sum())
        vectors, sizes, _ = np.linalg.svd(np.column_stack([directions, extra]), full_matrices=False)
        directions = vectors[:, sizes > 1e-2 * sizes[0]]
    return directions


def _independent(directions: Array) -> Array:
    """Return an orthonormal basis (sensor, rank) of the span of directions (sensor, direction)."""
    vectors, sizes, _ = np.linalg.svd(directions, full_matrices=False)
    return np.asarray(vectors[:, sizes > 1e-6])


def _mne_ranks(
    covariance: Array, info: mne.Info, noise_cov: mne.Covariance, rank: Literal["info", "full"] | None
) -> dict[str, int]:
    """Return the rank of each group of sensors as MNE-Python has it, of the covariance after projection."""
    import mne

    projected = mne.Covariance(covariance, info["ch_names"], [], [*info["projs"], *noise_cov["projs"]], 0)
    estimated = mne.compute_rank(projected, rank, info=info)
    return {group: sum(int(estimated[key]) for key in keys if key in estimated) for group, keys in MEMBERS.items()}


def _given_ranks(rank: int | Mapping[str, int], kinds: tuple[str, ...]) -> int | dict[str, int]:
    """Return ranks as given, those of magnetometers and gradiometers added up."""
    if not isinstance(rank, Mapping):
        return whole_rank("the noise covariance", rank)
    known = {name for names in MEMBERS.values() for name in names}
    if not rank:
        raise ValueError('rank is {}, which gives none; give {"meg": ..., "eeg": ...}, or None to estimate it')
    for name, value in rank.items():
        one_of("group of sensors with a rank", name, known)
        whole_rank(f"the {name} sensors", value)
        if not any(name in (kind, modality(kind)) for kind in kinds):
            raise ValueError(
                f"rank {value} was given for the {name} sensors, but no {WORDS[name]} channel is used; leave it out "
                f"({', '.join(sorted(set(map(modality, kinds))))} is there), or pick these channels too"
            )
    coils = {kind for kind in kinds if kind != "eeg"}
    parts = {kind: int(rank[kind]) for kind in ("mag", "grad") if kind in rank}
    ranks = {name: int(rank[name]) for name in ("meg", "eeg") if name in rank}
    if parts and ("meg" in ranks or set(parts) != coils):
        raise ValueError(
            f"ranks were given for {', '.join(rank)}, but magnetometers and gradiometers are whitened together; "
            'give {"meg": ...}, or the rank of each kind there is'
        )
    return ranks | ({"meg": sum(parts.values())} if parts else {})


def _tell_dependent(group: str, names: list[str], found: Dependence, estimated: int, rank: int) -> None:
    """Warn of channels without noise of their own, unless they belong to none and the estimate knows."""
    if names:
        which = ", ".join(f"{name} {share:.1g}" for name, share in zip(names[:5], found.shares[:5], strict=True))
        warnings.warn(
            f"the noise of {len(names)} {WORDS[group]} channel{'s' * (len(names) > 1)} is a combination of the others' "
            f"({which}{', ...' * (len(names) > 5)} of the variance that is usual given all others): interpolated, "
            f"bridged, or an added reference. {'Its' if len(names) == 1 else 'Their'} direction"
            f"{'s' * (len(names) > 1)} of no noise {'is' if len(names) == 1 else 'are'} left out (rank {rank}); mark "
            "such channels in evoked.info['bads']",
            stacklevel=4,
        )
    elif estimated > rank:
        warnings.warn(
            f"{found.count} direction{'s' * (found.count > 1)} of {WORDS[group]} bear no noise but rounding, as after "
            f"the removal of components; left out (rank {rank}, where {estimated} was estimated)",
            stacklevel=4,
        )
