"""Channels of an MNE-Python recording that are used, and what becomes of the others.

No channel is lost in silence: those that a forward solution or a noise covariance lacks, or that it alone marks as bad,
are named in a warning, and a kind of sensor that was asked for by name and is gone is an error.
"""

from __future__ import annotations

import warnings
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bayesinv.axes import one_of
from bayesinv.problem.noise import modality
from bayesinv.wording import listed

if TYPE_CHECKING:
    import mne


KINDS = ("eeg", "mag", "grad")

MEMBERS = {"meg": ("mag", "grad"), "eeg": ("eeg",), "mag": ("mag",), "grad": ("grad",)}
"""Kinds of sensors by the word that asks for them."""

WORDS = {"eeg": "EEG", "mag": "magnetometer", "grad": "gradiometer", "meg": "MEG"}

RENAME = {
    "recording": "evoked.rename_channels makes them one",
    "forward solution": 'rename those of the forward solution (forward["sol"]["row_names"], and '
    'mne.rename_channels(forward["info"], ...)), or compute it anew',
    "noise covariance": 'rename those of the covariance (noise_cov["names"])',
}
"""How to make names one, by what is to be renamed."""

REMEDY = {
    "forward solution": "compute the forward solution for this recording's channels",
    "noise covariance": "compute the covariance from this recording's channels",
}
"""What to do about one that has few or none of the recording's channels."""


@dataclass(frozen=True)
class Channels:
    """The channels that are used, in the order of the info, and those that were left out by reason."""

    names: tuple[str, ...]
    left_out: Mapping[str, tuple[str, ...]]


def used_channels(
    info: mne.Info, forward: mne.Forward, noise_cov: mne.Covariance, picks: str | Sequence[str] | None
) -> Channels:
    """Return the channels that the recording, the forward solution and the covariance have and none marks as bad.

    Raises
    ------
    ValueError
        If none is left, if a kind that `picks` names has none left, or if EEG has no average reference.
    """
    kinds = dict(zip(info["ch_names"], info.get_channel_types(), strict=True))
    left_out: dict[str, tuple[str, ...]] = {}
    names, asked = _picked(kinds, picks)
    bipolar = _bipolar(info, names)
    if bipolar:
        left_out["bipolar"] = bipolar
        warnings.warn(
            f"{listed(bipolar)} {_are(bipolar)} bipolar, the difference of two electrodes, which "
            "no forward solution of single electrodes describes; left out",
            stacklevel=4,
        )
        names = [name for name in names if name not in bipolar]
    total = {kind: sum(kinds[name] == kind for name in names) for kind in KINDS}
    good = [name for name in names if name not in info["bads"]]
    if names and not good:
        raise ValueError(f"all {len(names)} channels are marked as bad; look at info['bads']")
    bad = _note(left_out, "bad in the recording", names, good)
    named = [name for name in bad if name in _words(picks)]
    if named:
        warnings.warn(
            f"picks names {listed(named)}, but info['bads'] marks {'it' if len(named) == 1 else 'them'} as bad; left "
            "out",
            stacklevel=4,
        )
    names = good
    alike = ""
    for what, present in (("forward solution", forward["sol"]["row_names"]), ("noise covariance", noise_cov.ch_names)):
        lost = _note(left_out, f"not in the {what}", names, set(present))
        # Of three that spell a name, the odd one is to be renamed.
        spelt = set(map(_bare, present))
        misspelt = {name for name in lost if _bare(name) in spelt}
        odd = what if what == "noise covariance" or misspelt <= set(noise_cov.ch_names) else "recording"
        if names and len(lost) == len(names):
            _refuse_strangers(what, lost, present, odd)
        if lost:
            alike += _alike(lost, present, odd)
            most = any(2 * sum(kinds[name] == kind for name in lost) > total[kind] for kind in KINDS)
            warnings.warn(
                f"{_counted(lost, kinds, total)} of the recording ({listed(lost)}) {_are(lost)} not in the {what} and "
                f"left out{_alike(lost, present, odd)}{f'. That is most of a kind: {REMEDY[what]}' * most}",
                stacklevel=4,
            )
        names = [name for name in names if name not in lost]
    for what, bads in (("forward solution", forward["info"]["bads"]), ("noise covariance", noise_cov["bads"])):
        lost = _note(left_out, f"bad in the {what}", names, [name for name in names if name not in bads])
        if names and len(lost) == len(names):
            raise ValueError(f"all {len(names)} channels are marked as bad in the {what}; clear its bads")
        if lost:
            warnings.warn(
                f"{_counted(lost, kinds, total)} ({listed(lost)}) {_are(lost)} good in the recording but bad in the "
                f"{what}; left out. Mark bad channels in evoked.info['bads'], and clear stale marks elsewhere",
                stacklevel=4,
            )
        names = [name for name in names if name not in lost]
    for word in asked:
        if not any(kinds[name] in MEMBERS[word] for name in names):
            raise ValueError(_gone(word, kinds, left_out) + alike)
    if not names:
        raise ValueError("no channel is left: all that were picked are bipolar")
    if any(kinds[name] == "eeg" for name in names) and not (info["custom_ref_applied"] or has_reference(info)):
        raise ValueError(
            "EEG wants the average reference, as its forward solution has none of its own; first call "
            'evoked.set_eeg_reference("average", projection=True)'
        )
    _check_projected(info, noise_cov, names, kinds)
    return Channels(tuple(names), left_out)


def _check_projected(info: mne.Info, noise_cov: mne.Covariance, names: Sequence[str], kinds: Mapping[str, str]) -> None:
    """Check that projectors and the average reference leave something of what EEG and MEG measure."""
    from mne.proj import make_projector

    projectors = [*info["projs"], *noise_cov["projs"]]
    electrodes = [name for name in names if kinds[name] == "eeg"]
    if len(electrodes) == 1:
        raise ValueError(
            f"one good electrode is left ({electrodes[0]}), which measures nothing against the average reference; "
            "look at the bads of recording, forward solution and covariance, or leave EEG out of picks"
        )
    for members in (electrodes, [name for name in names if kinds[name] != "eeg"]):
        if not members:
            continue
        try:
            make_projector(projectors, members)
        except RuntimeError as error:
            raise ValueError(
                f"projectors leave nothing of the {len(members)} {WORDS[modality(kinds[members[0]])]} "
                f"channel{'s' * (len(members) > 1)} that are left ({listed(members)}): there are as many "
                f"directions to remove ({listed([str(item['desc']) for item in projectors])}); look at "
                "info['bads'], or pick more channels"
            ) from error


def has_reference(info: mne.Info) -> bool:
    """Whether a projector of the average EEG reference is among the projectors, active or not."""
    from mne.io.constants import FIFF

    return any(item["kind"] == FIFF.FIFFV_PROJ_ITEM_EEG_AVREF for item in info["projs"])


def _note(
    left_out: dict[str, tuple[str, ...]], reason: str, names: Sequence[str], retained: Container[str]
) -> tuple[str, ...]:
    """Return the names that are not retained, and note them under the reason."""
    lost = tuple(name for name in names if name not in retained)
    if lost:
        left_out[reason] = lost
    return lost


def _are(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _words(picks: Any) -> list[str]:
    """Return kinds and names of channels as a list; None is an empty one."""
    if picks is None or isinstance(picks, str):
        return [] if picks is None else [picks]
    try:
        wanted = list(picks)
    except TypeError:
        wanted = [picks]
    if not all(isinstance(pick, str) for pick in wanted):
        raise ValueError(
            f"picks is {picks!r}, but must be 'meg', 'eeg', 'mag' or 'grad', or a list of such kinds or of channel "
            "names (those of evoked.ch_names, not their numbers), or None for all"
        )
    return wanted


def _picked(kinds: Mapping[str, str], picks: str | Sequence[str] | None) -> tuple[list[str], list[str]]:
    """Return the names of the channels that picks asks for, and the kinds that it names."""
    names = [name for name in kinds if kinds[name] in KINDS]
    if not names:
        raise ValueError("the recording has no EEG, magnetometer or gradiometer channel")
    if picks is None:
        return names, []
    wanted = _words(picks)
    for pick in wanted:
        if pick not in MEMBERS and pick not in kinds:
            one_of("channel or kind of channel", pick, [*MEMBERS, *names])
    asked = [pick for pick in wanted if pick in MEMBERS]
    types = {kind for pick in asked for kind in MEMBERS[pick]}
    names = [name for name in names if kinds[name] in types or name in wanted]
    if not names:
        raise ValueError(f"picks {picks!r} leaves no EEG, magnetometer or gradiometer channel of the recording")
    return names, asked


def _bipolar(info: mne.Info, names: Sequence[str]) -> tuple[str, ...]:
    """Return those of the channels that are differences of two electrodes."""
    from mne.io.constants import FIFF

    coils = {channel["ch_name"]: int(channel["coil_type"]) for channel in info["chs"]}
    return tuple(name for name in names if coils[name] == FIFF.FIFFV_COIL_EEG_BIPOLAR)


def _bare(name: str) -> str:
    """A channel's name without what people write in several ways: case, blanks and dots at its end."""
    return "".join(name.lower().split()).rstrip(".")


def _alike(lost: Sequence[str], present: Sequence[str], odd: str) -> str:
    """Say which of the lost channels' names differ from one that is present in case and blanks alone.

    odd : what is to be renamed
    """
    by_bare = {_bare(name): name for name in present}
    pairs = [(name, by_bare[_bare(name)]) for name in lost if _bare(name) in by_bare]
    if not pairs:
        return ""
    return (
        f"; the names of {len(pairs)} of them differ only in case or blanks ({pairs[0][0]!r} for {pairs[0][1]!r}): "
        f"{RENAME[odd]}"
    )


def _counted(names: Sequence[str], kinds: Mapping[str, str], total: Mapping[str, int]) -> str:
    """Return how many of how many channels of each kind, for people."""
    parts = [(sum(kinds[name] == kind for name in names), kind) for kind in KINDS]
    counts = [f"{count} of {total[kind]} {WORDS[kind]}" for count, kind in parts if count]
    return f"{' and '.join(counts)} channel{'s' * (len(names) > 1)}"


def _refuse_strangers(what: str, lost: Sequence[str], present: Sequence[str], odd: str) -> None:
    """Raise because the recording and another object have no channel in common."""
    short = what.removesuffix(" solution")
    alike = _alike(lost, present, odd)
    raise ValueError(
        f"no channel is in common: the recording has {', '.join(lost[:3])}, ..., the {short} has "
        f"{', '.join(list(present)[:3])}, ...{alike}; {'or ' if alike else ''}{REMEDY[what]}"
    )


def _gone(word: str, kinds: Mapping[str, str], left_out: Mapping[str, Sequence[str]]) -> str:
    """Say that a kind that was asked for is gone, and why."""
    reasons = [
        f"{count} {reason}"
        for reason, names in left_out.items()
        if (count := sum(kinds[name] in MEMBERS[word] for name in names))
    ]
    why = ", ".join(reasons) or "the recording has none"
    return f"picks names {word!r}, but no {WORDS[word]} channel is left ({why}); mend that, or leave it out of picks"
