"""Channels that are combinations of others: interpolated ones by the places of electrodes, and those of a recording.

A covariance from before channels were interpolated or bridged does not know of them. The recording does: what it says
of such a channel is, up to rounding, what it says of the others. Kept, it would count as a measurement of its own that
agrees with the others.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bayesinv.axes import Array, Index
from bayesinv.bridges.mne_channels import WORDS
from bayesinv.interpolation.spherical_spline import off_spline
from bayesinv.problem.dependence import dependence
from bayesinv.problem.noise import modality
from bayesinv.wording import listed

if TYPE_CHECKING:
    import mne

OFF_SPLINE = 1e-4
"""Mean square of what electrodes differ by from the others' spline, relative to the median, below which one was
interpolated by it: electrodes that measure have 0.03 and more, interpolated ones 1e-13 in single precision."""

STOPPED = 1e-9
"""Power of a frequency, relative to the strongest, below which a recording in single precision is rounding."""

ENOUGH = 4 / 3
"""Coefficients per channel, above which what channels have of their own is told from what too few samples leave."""

FEWEST = 8
"""Electrodes whose median tells what is usual."""

CHANCE = 1e-6
"""Probability that an electrode which measures is that near to the spline by chance, where its deviation has few
independent courses."""


def splined(info: mne.Info, moments: Array) -> Index:
    """Return the indices of electrodes that lie on the spherical spline through the others, as MNE-Python fits it.

    info : of the electrodes and no other channels
    moments : (electrode, electrode), second moments of noise or recording, against any reference
    """
    from mne.bem import fit_sphere_to_headshape

    none = np.zeros(0, dtype=np.int64)
    places = np.array([channel["loc"][:3] for channel in info["chs"]], dtype=float)
    if len(places) < FEWEST or not np.isfinite(places).all() or not info["dig"]:
        return none
    try:
        centre = fit_sphere_to_headshape(info, units="m", verbose="ERROR")[1]
    except (ValueError, RuntimeError):
        # Without a sphere through the head MNE-Python interpolates nothing either.
        return none
    around = places - centre
    if not np.linalg.norm(around, axis=1).min() > 0 or len(np.unique(around, axis=0)) < len(around):
        return none
    residual = off_spline(around)
    left = residual @ moments @ residual.T
    power, courses = np.diag(left), np.trace(left) ** 2 / np.sum(left**2)
    return np.flatnonzero(power < min(OFF_SPLINE, CHANCE ** (2 / courses)) * np.median(power))


def judge_recording(
    info: mne.Info, field: Array, kinds: Sequence[str], removed: Array, dependent: Sequence[str], left_out: bool
) -> tuple[tuple[str, ...], str]:
    """Warn of channels that are combinations of others in the recording, unlike what the noise says of them.

    Return their names, and what cannot be judged, in words.

    field : (channel, sample), of all samples; removed : (channel, direction), orthonormal, of the projectors
    dependent : names of channels that are known to be such combinations from the noise
    left_out : whether they are, for the warning
    """
    import mne

    names, groups = info["ch_names"], np.array([modality(kind) for kind in kinds])
    # A dead channel is named elsewhere; projectors make it a combination of the others.
    dead = {names[i] for i in np.flatnonzero(np.ptp(field, axis=1) == 0)}
    field = field - removed @ (removed.T @ field)
    unjudged, combined = [], []
    for group in dict.fromkeys(groups):
        members = np.flatnonzero(groups == group)
        here = [names[int(i)] for i in members]
        flat = _flattened(field[members])
        if not flat.size:
            continue
        moments = flat @ flat.T / flat.shape[1]
        found = set(splined(mne.pick_info(info, members), moments).tolist()) if group == "eeg" else set[int]()
        vectors, sizes, _ = np.linalg.svd(removed[members], full_matrices=False)
        within = vectors[:, sizes > 1e-6]
        if flat.shape[1] > ENOUGH * len(members):
            # Of a bridged pair the one that the noise named is named again.
            known = sorted(found | {i for i, name in enumerate(here) if name in dependent})
            found |= set(dependence(moments, [kinds[int(i)] for i in members], within, known).sensors.tolist())
        else:
            unjudged.append(f"{len(members)} {WORDS[group]} channels")
        fresh = [here[i] for i in sorted(found) if here[i] not in {*dependent, *dead}]
        if fresh:
            combined += fresh
            one = len(fresh) == 1
            fate = (
                f"{'is' if one else 'are'} left out"
                if left_out
                else f"with the rank that was given {'is' if one else 'are'} taken to measure on "
                f"{'its' if one else 'their'} own, which overstates the signal"
            )
            warnings.warn(
                f"{len(fresh)} {WORDS[group]} channel{'s' * (not one)} of the recording ({listed(fresh)}) "
                f"{'is a combination' if one else 'are combinations'} of the others, as after interpolation or a "
                f"bridge, though not by the noise covariance; {fate}. Mark such channels in evoked.info['bads']",
                stacklevel=3,
            )
    if not unjudged:
        return tuple(combined), ""
    return tuple(combined), (
        f"too little in {field.shape[1]} samples to tell whether some of the {' and '.join(unjudged)} are combinations "
        "of others"
    )


def _flattened(field: Array) -> Array:
    """Return a recording (channel, coefficient) as its Fourier coefficients, each frequency with the same power.

    What channels are of each other they are at all frequencies; slow ones, which are strong, would hide it.
    """
    # A window that falls to zero keeps what begins and ends elsewhere from leaking into all frequencies.
    tapered = (field - field.mean(axis=1, keepdims=True)) * np.hanning(field.shape[1] + 2)[1:-1]
    spectrum = np.fft.rfft(tapered, axis=1)[:, 1:]
    # Channels of several units count alike.
    sizes = np.linalg.norm(spectrum, axis=1, keepdims=True)
    power = np.mean(np.abs(spectrum / np.where(sizes > 0, sizes, 1.0)) ** 2, axis=0)
    kept = power > STOPPED * power.max(initial=0.0)
    flat = spectrum[:, kept] / np.sqrt(power[kept])
    return np.concatenate([flat.real, flat.imag], axis=1)
