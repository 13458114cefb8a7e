"""From plain arrays to the whitened fields of a problem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bayesinv.axes import Array, dimensions, one_of, real, same_axes
from bayesinv.problem.autocorrelation import Autocorrelation, NoiseTime, check_fits, chosen
from bayesinv.problem.frozen import told_of_frozen
from bayesinv.problem.noise import Noise
from bayesinv.problem.recording import Recording, checked_averages
from bayesinv.problem.tails import TAILS
from bayesinv.problem.whitening import given_noise

CENTRED = 1e-6
"""Mean of a baseline's samples, relative to their size, up to which it is rounding."""


def whitened_arrays(
    gain: ArrayLike,
    recording: ArrayLike,
    noise_cov: ArrayLike | None,
    times: ArrayLike | None,
    baseline: ArrayLike | None,
    baseline_centred: bool | None,
    rank: int | Mapping[str, int] | None,
    kinds: Sequence[str],
    names: Sequence[str] | None,
    averages: float,
    noise_time: NoiseTime,
) -> dict[str, Any]:
    """Return the fields of a problem by name; arguments and errors are those of `Problem.from_arrays`."""
    table = real("gain", gain, "sensor source axis" if dimensions(gain) == 3 else "sensor source")
    if table.ndim == 3 and table.shape[2] not in (1, 3):
        raise ValueError(f"gain has shape {table.shape}, but its last axis must be 1 (normal) or 3 (x, y, z)")
    axes = table.shape[2] if table.ndim == 3 else 1
    field = real("recording", recording, "sensor" if dimensions(recording) == 1 else "sensor time")
    field = field[:, None] if field.ndim == 1 else field
    flat = table.reshape(len(table), -1)
    same_axes(gain=(flat, "sensor amplitude"), recording=(field, "sensor time"))
    noise_only = None if baseline is None else real("baseline", baseline, "sensor sample")
    if noise_only is not None:
        same_axes(gain=(flat, "sensor amplitude"), baseline=(noise_only, "sensor sample"))
    if baseline_centred is None:
        baseline_centred = noise_only is not None and _is_centred(noise_only)
    clock = np.arange(field.shape[1], dtype=float) if times is None else real("times", times, "time")
    same_axes(recording=(field, "sensor time"), times=(clock, "time"))
    labels = tuple(names) if names is not None else tuple(f"sensor {i}" for i in range(len(field)))
    if len(labels) != len(field):
        raise ValueError(f"recording has sensor = {len(field)}, but names has sensor = {len(labels)}")
    twice = sorted({str(name) for name in labels if labels.count(name) > 1})
    if twice:
        raise ValueError(f"names has {', '.join(twice[:5])} more than once, but every sensor wants a name of its own")
    raw = field
    frozen = _frozen(raw, clock, noise_only, labels)
    noise = whitener = None
    averages = checked_averages(averages)
    if noise_cov is not None:
        noise = given_noise(noise_cov, kinds, rank, averages, len(field))
        whitener = noise.whitener
        flat, field = whitener @ flat, whitener @ field
        noise_only = None if noise_only is None else whitener @ noise_only
    else:
        scale = np.sqrt(averages)
        flat, field = flat * scale, field * scale
        noise_only = None if noise_only is None else noise_only * scale
    groups = ("sensor",) * len(flat) if noise is None else noise.component_modality
    return {
        "gain": flat,
        "recording": field,
        "times": clock,
        "baseline": noise_only,
        "baseline_centred": baseline_centred,
        "axes": axes,
        "whitener": whitener,
        "autocorrelation": chosen(noise_time, noise_only, groups, clock, baseline_centred),
        "noise": noise,
        "field": Recording(raw, clock, labels, averages),
        "notes": {"sensors": frozen} if frozen else {},
    }


def _is_centred(baseline: Array) -> bool:
    """Whether the mean of every row was subtracted: by chance none is so small."""
    if baseline.shape[1] < 2:
        return False
    sizes = np.sqrt(np.mean(baseline**2, axis=1))
    return bool((np.abs(baseline.mean(axis=1)) <= CENTRED * sizes).all())


def _frozen(field: Array, times: Array, baseline: Array | None, names: Sequence[str]) -> str:
    """Warn of sensors that show the same value for long, in recording or baseline; return the note of them."""
    if not times.size:
        return ""
    if baseline is not None:
        # It comes right before the recording, as long as nothing else is known.
        step = float(np.median(np.diff(times))) if len(times) > 1 else 1.0
        times = np.concatenate([times[0] - step * np.arange(baseline.shape[1], 0, -1), times])
        field = np.hstack([baseline, field])
    return told_of_frozen(field, times, names, 4)


def check_noise(tails: str, known: Autocorrelation | None, noise: Noise | None, components: int, times: Array) -> None:
    """Check that the noise's tails are known, and that its autocorrelation is of these components and samples.

    Raises
    ------
    ValueError
        If they are not.
    """
    one_of("noise_tails", tails, TAILS)
    check_fits(known, ("sensor",) * components if noise is None else noise.component_modality, times)
