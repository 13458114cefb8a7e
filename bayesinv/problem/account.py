"""Account of a problem: what of all that was given is used, in a few lines, so that every loss shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from bayesinv.axes import Array
from bayesinv.problem.noise import modality

if TYPE_CHECKING:
    from bayesinv.problem.problem import Problem

PLURALS = {"eeg": "EEG", "grad": "gradiometers", "mag": "magnetometers", "meg": "MEG", "sensor": "all sensors"}


def account(problem: Problem) -> dict[str, str]:
    """Return what is used, in words, by what it is: sensors, noise, recording, baseline, sources, parcels.

    What the arrays cannot tell, such as why a channel was left out, is added from the problem's notes under that name.
    """
    words = {
        "sensors": _sensors(problem),
        "noise": _noise(problem),
        "noise over time": problem.noise_over_time,
        "recording": f"{_samples(problem.times)}, {_trials(problem)}",
        "baseline": _baseline(problem),
        "sources": f"{problem.source_count}, {problem.orientation} orientation",
    }
    if problem.labels is not None:
        words["parcels"] = f"{problem.labels.max() + 1}, of {np.count_nonzero(problem.labels >= 0)} sources"
    notes = {name: note for name, note in problem.notes.items() if note}
    told = {name: "; ".join([text, notes.pop(name)] if name in notes else [text]) for name, text in words.items()}
    return {**told, **notes}


def account_lines(problem: Problem) -> str:
    """Return the account as aligned lines."""
    found = account(problem)
    width = max(map(len, found))
    return "\n".join(["Problem", *(f"  {name.ljust(width)}  {text}" for name, text in found.items())])


def noted(notes: Mapping[str, str], **more: str) -> dict[str, str]:
    """Return notes with more words on what they are about."""
    return {**notes, **{name: "; ".join(filter(None, [notes.get(name), words])) for name, words in more.items()}}


def span_of(times: Array) -> str:
    """Return the first and last of times (sample,) in s, in ms, for people."""
    first, last = (round(1e3 * float(time), 1) + 0.0 for time in (times[0], times[-1]))
    return f"{first:g} to {last:g} ms"


def _sensors(problem: Problem) -> str:
    kinds = () if problem.noise is None else problem.noise.kinds
    if kinds:
        counts = [(kinds.count(kind), PLURALS[kind]) for kind in ("eeg", "grad", "mag") if kind in kinds]
        return ", ".join(f"{count} {name}" for count, name in counts)
    count = problem.components if problem.whitener is None else problem.whitener.shape[1]
    return f"{count} sensors"


def _noise(problem: Problem) -> str:
    noise = problem.noise
    tails = "" if problem.noise_tails == "normal" else ", a few sensors and samples with more (Student's tails)"
    if noise is None:
        return f"white, {problem.components} components{tails}"
    kinds = [modality(kind) for kind in noise.kinds]
    ranks = []
    for name, rank in noise.ranks.items():
        count = kinds.count(name) if name in kinds else len(noise.covariance)
        ranks.append(f"{rank} of {count}" + (f" {PLURALS[name]}" if name in kinds else ""))
    return f"rank {' and '.join(ranks)}{tails}"


def _trials(problem: Problem) -> str:
    averages = 1.0 if problem.field is None else problem.field.averages
    if problem.field is None and problem.noise is not None:
        averages = problem.noise.averages
    return "1 trial" if averages == 1 else f"average of {averages:.6g} trials"


def _samples(times: Array) -> str:
    """Number and span of samples; those that are merely counted have no span."""
    count = f"{len(times)} sample{'s' * (len(times) > 1)}"
    if np.array_equal(times, np.arange(len(times))):
        return count
    return f"{count}, {span_of(times)}"


def _baseline(problem: Problem) -> str:
    if problem.baseline is None or problem.baseline_power is None:
        return "none, so that the noise is learned from the recording alone"
    mean = "mean subtracted" if problem.baseline_centred else "mean as it is"
    if problem.corrected_times is not None:
        mean = f"corrected by {span_of(problem.corrected_times)}"
    return f"{problem.baseline.shape[1]} samples, {mean}, global field power {problem.baseline_power:.2f} (wanted 1)"
