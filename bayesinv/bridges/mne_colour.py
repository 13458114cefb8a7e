"""Autocorrelation of the noise over time from MNE-Python's trials, or from a recording of an empty room."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bayesinv.axes import Array
from bayesinv.problem.autocorrelation import Autocorrelation, estimated

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
        If channels are missing or the sampling rate is another.
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
        source = f"estimated from {len(table)} trials about their average"
    else:
        table = noise.get_data(picks=list(names), stop=min(MAX_SAMPLES, noise.n_times))[None]
        source = f"estimated from {table.shape[2]} samples of noise alone"
    side_by_side = np.concatenate(list(table), axis=1)
    return estimated(whitener @ side_by_side, groups, 1 / rate, source, trials=len(table))
