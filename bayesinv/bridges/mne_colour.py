"""Autocorrelation of the noise over time from MNE-Python's trials, or from a recording of an empty room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bayesinv.axes import Array
from bayesinv.problem.autocorrelation import MIN_SAMPLES, Autocorrelation, estimated

if TYPE_CHECKING:
    import mne

MAX_SAMPLES = 100_000
"""Samples of noise that are used; more do not change the estimate."""


def colour_of(
    noise: mne.BaseEpochs | mne.io.BaseRaw,
    names: Sequence[str],
    whitener: Array,
    groups: Sequence[str],
    rate: float,
) -> Autocorrelation:
    """Return the autocorrelation of noise: of trials about their average, or of a recording without a subject.

    noise : with the channels, and filtered and sampled as the recording is
    names : of the channels; groups : one per component
    whitener : (component, channel)
    rate : Hz, of the recording

    Raises
    ------
    ValueError
        If channels are missing, the sampling rate is another, or the noise is too short or not finite.
    """
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
