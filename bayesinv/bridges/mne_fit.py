"""Whether a recording, a forward solution and a noise covariance of MNE-Python belong together.

Refused is what must give wrong currents: another compensation of the reference sensors, another kind of sensor under
the same name, transforms in mm, a head far from where the forward solution has it. What may is a warning that says how
far apart things are.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesinv.axes import Array, one_of
from bayesinv.bridges.mne_channels import WORDS
from bayesinv.bridges.mne_coils import check_coils
from bayesinv.wording import listed

if TYPE_CHECKING:
    import mne


NOTICED_MOVE = 1e-3
"""m, movement of the head from which on it is told: maps of a real auditory response differ by 7 % there, and
the registration of head and MRI errs by more."""

REFUSED_MOVE = 5e-3
"""m, movement of the head beyond which maps are another head's: those of that response differ by 37 %."""

LARGEST_SHIFT = 0.5
"""m, longest translation between two coordinate systems of one head and the sensors around it."""

FOREIGN_SHARE = 0.1
"""Share of a projector's direction (its length, not its square) outside of others' span that makes it another one."""


def check_belonging(
    info: mne.Info, forward: mne.Forward, noise_cov: mne.Covariance, names: Sequence[str], head_moved: str
) -> None:
    """Compare what the three objects say of the same channels.

    info : of the recording
    names : of the channels used
    head_moved : "refuse" or "warn" where the head lies more than `REFUSED_MOVE` elsewhere

    Raises
    ------
    ValueError
        If they cannot belong together.
    """
    from mne.io.constants import FIFF

    one_of("treatment of a moved head", head_moved, ("refuse", "warn"))
    ours = {channel["ch_name"]: channel for channel in info["chs"]}
    theirs = {channel["ch_name"]: channel for channel in forward["info"]["chs"]}
    _check_kinds(info, forward, names)
    _check_compensation([ours[name] for name in names], [theirs[name] for name in names])
    _check_shifts(info, forward)
    here, there = info["dev_head_t"], forward["info"]["dev_head_t"]
    coils = [name for name in names if not _is_electrode(ours[name])]
    # Were the head in the recording where the forward solution has it, what is left is in the device itself.
    in_device = [name for name in coils if ours[name]["coord_frame"] == FIFF.FIFFV_COORD_DEVICE]
    own = _shift_between(in_device, ours, theirs, there, there)
    elsewhere = own.beyond(NOTICED_MOVE) if own is not None and here is not None else ()
    if own is not None and elsewhere:
        _tell_other_places(own, len(elsewhere), head_moved)
    held = [name for name in coils if name not in elsewhere]
    check_coils([name for name in held if name in in_device], ours, theirs, (there, there), head_moved)
    check_coils([name for name in held if name not in in_device], ours, theirs, (here, there), head_moved)
    shift = _shift_between(held, ours, theirs, here, there)
    if shift is not None:
        _tell_moved_head(shift, _angle(info, forward), head_moved)
    shift = _shift_between([name for name in names if name not in coils], ours, theirs, here, there)
    if shift is not None:
        _tell_moved_electrodes(shift)
    _compare_projectors(info, noise_cov, names)


def compensation_grade(channels: Sequence[Mapping[str, Any]]) -> int:
    """Return the grade of compensation by reference sensors that the MEG channels bear; 0 is none."""
    grades = {int(channel["coil_type"]) >> 16 for channel in channels if not _is_electrode(channel)}
    if len(grades) > 1:
        raise ValueError(f"MEG channels bear different compensation grades {sorted(grades)}; they must bear one")
    return max(grades, default=0)


def _is_electrode(channel: Mapping[str, Any]) -> bool:
    from mne.io.constants import FIFF

    return int(channel["kind"]) == int(FIFF.FIFFV_EEG_CH)


def _check_kinds(info: mne.Info, forward: mne.Forward, names: Sequence[str]) -> None:
    """Check that channels of one name are of one kind."""
    ours = dict(zip(info["ch_names"], info.get_channel_types(), strict=True))
    theirs = dict(zip(forward["info"]["ch_names"], forward["info"].get_channel_types(), strict=True))
    other = [name for name in names if ours[name] != theirs[name]]
    if other:
        kind = theirs[other[0]]
        raise ValueError(
            f"{len(other)} channel{'s' * (len(other) > 1)} ({listed(other)}) of the recording and the forward solution "
            f"are of different kinds, such as {WORDS[ours[other[0]]]} and {WORDS.get(kind, kind)}; compute the forward "
            "solution from this recording's info"
        )


def _check_compensation(ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]]) -> None:
    """Check that recording and forward solution have one grade of compensation by reference sensors."""
    recorded, computed = compensation_grade(ours), compensation_grade(theirs)
    if recorded != computed:
        raise ValueError(
            f"the recording has compensation grade {recorded}, but the forward solution has grade {computed}; compute "
            f"the forward solution from this recording's info, or call raw.apply_gradient_compensation({computed}) "
            "before averaging"
        )


def _check_shifts(info: mne.Info, forward: mne.Forward) -> None:
    """Check that the transforms between coordinate systems are in m."""
    for what, transform in (
        ("the forward solution's transform from MRI to head (mri_head_t)", forward["mri_head_t"]),
        ("the forward solution's transform from device to head (dev_head_t)", forward["info"]["dev_head_t"]),
        ("the recording's transform from device to head (dev_head_t)", info["dev_head_t"]),
    ):
        if transform is None:
            continue
        matrix = np.asarray(transform["trans"])
        if not np.isfinite(matrix).all():
            raise ValueError(
                f"{what} is not finite: it holds {np.sum(~np.isfinite(matrix))} NaN or infinite values of "
                f"{matrix.size}; take it from the original file, or register head and device again"
            )
        length = float(np.linalg.norm(matrix[:3, 3]))
        if not length <= LARGEST_SHIFT:
            raise ValueError(
                f"{what} moves points by {length:.3g} m, more than a head is wide: it looks like mm, where m is "
                "wanted; divide its translation by 1000 and compute the forward solution again"
            )
        if not np.allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-3):
            raise ValueError(f"{what} is no rotation and translation: it stretches or shears the head")


@dataclass(frozen=True)
class _Shift:
    """How far sensors lie from where the forward solution has them: names, and distances (sensor,) in m."""

    names: tuple[str, ...]
    distances: Array

    @property
    def typical(self) -> float:
        """Root mean square, m."""
        return float(np.sqrt(np.mean(self.distances**2)))

    def beyond(self, least: float) -> tuple[str, ...]:
        """Names of the sensors that lie farther apart than this, m."""
        return tuple(name for name, far in zip(self.names, self.distances, strict=True) if far > least)

    def words(self, least: float) -> str:
        """The farthest sensors by name, with distances."""
        far = [int(i) for i in np.argsort(-self.distances) if self.distances[i] > least]
        named = ", ".join(f"{self.names[i]} {1e3 * self.distances[i]:.1f} mm" for i in far[:5])
        return named + (", ..." if len(far) > 5 else "")


def _shift_between(
    names: Sequence[str],
    ours: Mapping[str, Mapping[str, Any]],
    theirs: Mapping[str, Mapping[str, Any]],
    our_transform: Any,
    their_transform: Any,
) -> _Shift | None:
    """Return how far sensors lie apart in head coordinates; None where one of the two does not know where they are."""
    known, distances = [], []
    for name in names:
        here, there = _place(ours[name], our_transform), _place(theirs[name], their_transform)
        if here is not None and there is not None:
            known.append(name)
            distances.append(float(np.linalg.norm(here - there)))
    return _Shift(tuple(known), np.array(distances)) if known else None


def _place(channel: Mapping[str, Any], to_head: Any) -> Array | None:
    """Return a sensor's place (3,) in m, head coordinates, or None where it is not known."""
    from mne.io.constants import FIFF

    place = np.asarray(channel["loc"][:3], dtype=float)
    if not np.isfinite(place).all() or not place.any():
        return None
    if not _is_electrode(channel) and channel["coord_frame"] == FIFF.FIFFV_COORD_DEVICE:
        if to_head is None:
            return None
        matrix = np.asarray(to_head["trans"], dtype=float)
        place = matrix[:3, :3] @ place + matrix[:3, 3]
    return place


def _angle(info: mne.Info, forward: mne.Forward) -> float:
    """Return the angle in degrees between the head's positions in recording and forward solution."""
    one, two = info["dev_head_t"], forward["info"]["dev_head_t"]
    if one is None or two is None:
        return 0.0
    turn = np.asarray(one["trans"])[:3, :3] @ np.asarray(two["trans"])[:3, :3].T
    return float(np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1.0, 1.0))))


def _tell_moved_head(shift: _Shift, angle: float, head_moved: str) -> None:
    """Warn, or raise, where MEG sensors lie elsewhere on the head than the forward solution has them."""
    if shift.typical <= NOTICED_MOVE:
        return
    words = (
        f"the head lies elsewhere in the recording than in the forward solution: the MEG sensors are "
        f"{1e3 * shift.typical:.1f} mm apart on it (root mean square), turned by {angle:.1f} degrees (dev_head_t); "
        "compute the forward solution from this recording's info"
    )
    if shift.typical > REFUSED_MOVE and head_moved == "refuse":
        raise ValueError(f"{words}, or give head_moved='warn' (--head-moved warn) if that is meant")
    warnings.warn(words, stacklevel=5)


def _tell_other_places(shift: _Shift, count: int, head_moved: str) -> None:
    """Warn, or raise, where MEG sensors lie elsewhere in the device itself, wherever the head is."""
    words = (
        f"{count} of {len(shift.names)} MEG sensors lie elsewhere in the device of the recording than in that of the "
        f"forward solution ({shift.words(NOTICED_MOVE)}), which no movement of the head does: their names are swapped, "
        "or it is another device; mend the names, or compute the forward solution from this recording's info"
    )
    if shift.distances.max() > REFUSED_MOVE and head_moved == "refuse":
        raise ValueError(f"{words}, or give head_moved='warn' (--head-moved warn) if that is meant")
    warnings.warn(words, stacklevel=5)


def _tell_moved_electrodes(shift: _Shift) -> None:
    """Warn where electrodes lie elsewhere than the forward solution has them."""
    moved = shift.distances > NOTICED_MOVE
    if moved.any():
        warnings.warn(
            f"{moved.sum()} of {len(shift.names)} electrodes lie elsewhere in the recording than in the forward "
            f"solution ({shift.words(NOTICED_MOVE)}; root mean square {1e3 * shift.typical:.1f} mm); compute the "
            "forward solution with the positions that were measured",
            stacklevel=5,
        )


def _compare_projectors(info: mne.Info, noise_cov: mne.Covariance, names: Sequence[str]) -> None:
    """Warn where the covariance brings a projector that the recording does not know: it is applied to it too."""
    from mne.io.constants import FIFF
    from mne.proj import make_projector

    _, _, known = make_projector(info["projs"], list(names))
    foreign = []
    for item in noise_cov["projs"]:
        if item["kind"] == FIFF.FIFFV_PROJ_ITEM_EEG_AVREF:  # applied in any case
            continue
        _, count, direction = make_projector([dict(item, active=False)], list(names))
        if count and np.linalg.norm(direction - known @ (known.T @ direction), axis=0).max() > FOREIGN_SHARE:
            foreign.append(str(item["desc"]))
    if foreign:
        warnings.warn(
            f"{len(foreign)} projector{'s' * (len(foreign) > 1)} of the noise covariance ({listed(foreign)}) "
            f"{'is' if len(foreign) == 1 else 'are'} not among the recording's: both remove their own from recording "
            "and gain. Take the covariance from data with the same projectors as the recording",
            stacklevel=5,
        )
