"""Autocorrelation of the noise over time from MNE-Python's trials, or from a recording of an empty room."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bayesinv.axes import Array
from bayesinv.problem.autocorrelation import MIN_SAMPLES, Autocorrelation, estimated

if TYPE_CHECKING:
    import mne

OTHER_FILTER = 0.05
"""Difference of cut-off frequencies, relative to the larger, from which on two filters are not the same."""

MAX_SAMPLES = 100_000
"""Samples of noise that are used; more do not change the estimate."""


def colour_of(
    noise: mne.BaseEpochs | mne.io.BaseRaw,
    names: Sequence[str],
    whitener: Array,
    groups: Sequence[str],
    info: mne.Info,
) -> Autocorrelation:
    """Return the autocorrelation of noise: of trials about their average, or of a recording without a subject.

    noise : with the channels, and filtered and sampled as the recording is
    names : of the channels; groups : one per component
    whitener : (component, channel)
    info : of the recording, which knows its sampling rate and filters

    Warns where the noise was filtered otherwise than the recording.

    Raises
    ------
    ValueError
        If channels are missing, the sampling rate is another, or the noise is too short or not finite.
    """
    rate = info["sfreq"]
    missing = [name for name in names if name not in noise.ch_names]
    if missing:
        raise ValueError(
            f"noise_time lacks {len(missing)} of the recording's {len(names)} channels, such as {missing[0]}; "
            "give noise of the same channels"
        )
    if abs(noise.info["sfreq"] / rate - 1) > 1e-6:
        raise ValueError(
            f"noise_time is sampled at {noise.info['sfreq']:g} Hz, but the recording at {rate:g} Hz; filter and "
            "resample it as the recording was"
        )
    _compare_filters(noise.info, info)
    import mne

    if isinstance(noise, mne.BaseEpochs):
        table = noise.get_data(picks=list(names), copy=True)
        if len(table) < 2:
            raise ValueError(f"noise_time holds {len(table)} epochs, but trials about their average want at least 2")
        table = (table - table.mean(axis=0))[: max(2, MAX_SAMPLES // table.shape[2])]
        source, centred = f"estimated from {len(table)} trials about their average", False
    else:
        stop = min(MAX_SAMPLES, noise.n_times)
        table = noise.get_data(picks=list(names), stop=stop, reject_by_annotation="omit")[None]
        source, centred = f"estimated from {table.shape[2]} samples of noise alone", True
    broken = [name for name, rows in zip(names, table.swapaxes(0, 1), strict=True) if not np.isfinite(rows).all()]
    if broken:
        raise ValueError(
            f"noise_time holds values that are not finite in {len(broken)} of {len(names)} channels, such as "
            f"{broken[0]}; leave these samples out, by an annotation or without the trial"
        )
    if table.shape[2] < MIN_SAMPLES:
        raise ValueError(
            f"noise_time holds {table.shape[2]} samples in a row, but its correlation over time wants at least "
            f'{MIN_SAMPLES}; give longer noise, or "white"'
        )
    if centred:
        # Sensors have offsets, which are no noise of the response.
        table = table - table.mean(axis=2, keepdims=True)
    side_by_side = np.concatenate(list(table), axis=1)
    return estimated(whitener @ side_by_side, groups, 1 / rate, source, trials=len(table), centred=centred)


def _compare_filters(noise: mne.Info, recording: mne.Info) -> None:
    """Warn where the noise was filtered otherwise than the recording, so that its correlation over time is another."""
    half = 0.5 * float(recording["sfreq"])
    other = []
    for name, words in (("highpass", "high-passed at"), ("lowpass", "low-passed at")):
        # No filter of its own is one at the end of the frequencies that there are.
        none = 0.0 if name == "highpass" else half
        one, two = (min(float(none if info[name] is None else info[name]), half) for info in (noise, recording))
        if abs(one - two) > OTHER_FILTER * max(one, two):
            other.append(f"{words} {one:.4g} Hz, the recording at {two:.4g} Hz")
    if other:
        warnings.warn(
            f"noise_time is {'; '.join(other)} (info): its correlation over time is not that of the recording's noise, "
            "and uncertainty may be far off; filter both alike",
            stacklevel=4,
        )
