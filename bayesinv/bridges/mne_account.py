"""What became of MNE-Python's objects, in words: the notes of a problem's account."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from bayesinv.axes import Array
from bayesinv.bridges.mne_channels import has_reference
from bayesinv.bridges.mne_fit import compensation_grade
from bayesinv.problem.account import span_of
from bayesinv.wording import listed

if TYPE_CHECKING:
    import mne


def notes_of(
    info: mne.Info,
    noise_cov: mne.Covariance,
    left_out: Mapping[str, Sequence[str]],
    dependent: Sequence[str],
    baseline_times: Array,
    unjudged: str = "",
) -> dict[str, str]:
    """Return notes by what they are about, see `account`; "" where there is nothing to tell.

    info : of the channels used
    left_out : channels by the reason why they are not used
    dependent : channels without noise of their own
    baseline_times : (sample,), s
    unjudged : what of the channels could not be checked
    """
    lost = [f"{len(names)} {reason} ({listed(names, 10)})" for reason, names in left_out.items() if names]
    noise = [_projectors(info, noise_cov)]
    if dependent:
        noise.append(f"without noise of their own, and not in the rank: {listed(dependent, 10)}")
    return {
        "sensors": "; ".join(filter(None, [f"left out {', '.join(lost)}" if lost else "", _reference(info), unjudged])),
        "noise": "; ".join(noise),
        "baseline": span_of(baseline_times) if len(baseline_times) else "",
    }


def _projectors(info: mne.Info, noise_cov: mne.Covariance) -> str:
    """Names of the projectors that act on the channels."""
    from mne.proj import make_projector

    names = []
    for item in [*info["projs"], *noise_cov["projs"]]:
        acts = make_projector([dict(item, active=False)], info["ch_names"])[1]
        if acts and str(item["desc"]) not in names:
            names.append(str(item["desc"]))
    return f"{len(names)} projector{'s' * (len(names) != 1)}" + (f" ({listed(names, 8)})" if names else "")


def _reference(info: mne.Info) -> str:
    """Reference of the electrodes, and compensation of MEG by reference sensors, where there is one."""
    words = []
    if "eeg" in info.get_channel_types():
        words.append("average reference" if has_reference(info) else "custom reference, made the average here")
    grade = compensation_grade(info["chs"])
    if grade:
        words.append(f"compensation grade {grade}")
    return ", ".join(words)
