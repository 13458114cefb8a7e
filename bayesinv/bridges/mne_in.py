"""From MNE-Python's objects to a problem.

MNE-Python's conventions are followed, so that results agree with its own: channels in the order of the recording's
info, projectors applied to recording, gain and covariance, MEG and EEG whitened separately, ranks as it estimates them,
EEG against the average reference.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from bayesinv.axes import Array, Index, is_number, one_of, real
from bayesinv.bridges.mne_account import notes_of
from bayesinv.bridges.mne_channels import WORDS, used_channels
from bayesinv.bridges.mne_colour import colour_of
from bayesinv.bridges.mne_fit import check_belonging
from bayesinv.bridges.mne_forward import lead_field_of
from bayesinv.bridges.mne_interpolated import judge_recording
from bayesinv.bridges.mne_noise import Rank, Whitening, noise_of
from bayesinv.bridges.mne_origin import Origin
from bayesinv.bridges.mne_windows import Baseline, Windows, corrected, windows_of
from bayesinv.problem.account import noted
from bayesinv.problem.autocorrelation import NoiseTime, chosen
from bayesinv.problem.frozen import told_of_frozen
from bayesinv.problem.noise import modality
from bayesinv.problem.plausibility import outlying_share
from bayesinv.problem.problem import Problem
from bayesinv.problem.recording import Recording, checked_averages
from bayesinv.wording import listed, percent

if TYPE_CHECKING:
    import mne


@overload
def from_mne(
    evoked: Sequence[mne.Evoked],
    forward: mne.Forward,
    noise_cov: mne.Covariance,
    *,
    orientation: str = ...,
    picks: str | Sequence[str] | None = ...,
    tmin: float | None = ...,
    tmax: float | None = ...,
    baseline: Baseline = ...,
    rank: Rank = ...,
    outliers: str = ...,
    head_moved: str = ...,
    averages: float | None = ...,
    baseline_correct: tuple[float | None, float | None] | None = ...,
    noise_time: NoiseTime | mne.BaseEpochs | mne.io.BaseRaw = ...,
    noise_tails: str = ...,
) -> list[Problem]: ...


@overload
def from_mne(
    evoked: mne.Evoked | mne.BaseEpochs,
    forward: mne.Forward,
    noise_cov: mne.Covariance,
    *,
    orientation: str = ...,
    picks: str | Sequence[str] | None = ...,
    tmin: float | None = ...,
    tmax: float | None = ...,
    baseline: Baseline = ...,
    rank: Rank = ...,
    outliers: str = ...,
    head_moved: str = ...,
    averages: float | None = ...,
    baseline_correct: tuple[float | None, float | None] | None = ...,
    noise_time: NoiseTime | mne.BaseEpochs | mne.io.BaseRaw = ...,
    noise_tails: str = ...,
) -> Problem: ...


def from_mne(
    evoked: mne.Evoked | mne.BaseEpochs | Sequence[mne.Evoked],
    forward: mne.Forward,
    noise_cov: mne.Covariance,
    *,
    orientation: str = "fixed",
    picks: str | Sequence[str] | None = None,
    tmin: float | None = None,
    tmax: float | None = None,
    baseline: Baseline = "auto",
    rank: Rank = None,
    outliers: str = "warn",
    head_moved: str = "refuse",
    averages: float | None = None,
    baseline_correct: tuple[float | None, float | None] | None = None,
    noise_time: NoiseTime | mne.BaseEpochs | mne.io.BaseRaw = "auto",
    noise_tails: str = "normal",
) -> Problem | list[Problem]:
    """Whiten a recording and forward solution of MNE-Python.

    Used are the channels of the info that are in the forward and the covariance and that neither marks as bad, with
    all projectors of info and covariance applied, whether active or not.

    evoked : an average, epochs (averaged here), or a list of averages, which gives a list of problems
    forward, noise_cov : forward solution, and covariance of a single trial's noise
    orientation : "fixed" along the normals of the cortex, or "free" (x, y, z of the head)
    picks : "meg", "eeg", "mag" or "grad", or a list of such kinds or of channel names; None for all
    tmin, tmax : the recording's window in s, both ends included. If tmin is None the recording starts after the
        baseline, or with the first sample where there is none
    baseline : the window (start, stop) in s in which there is no response; "auto" takes the one that the average was
        corrected by, or else all until 0 s; None for no baseline. Where the mean over the window that the average
        names is not zero, it names the wrong one (`shift_time` moves the times but not that window): the right one is
        found and taken with a warning, or none. Samples that lie in the recording's window too
        count to the recording
    rank : of the noise covariance, one number or {"meg": ..., "eeg": ...}; "info" for the number of channels less that
        of projectors (or what SSS left), "full" for all that projectors leave. None estimates it as MNE-Python does,
        and leaves out what interpolated channels, bridged electrodes and added references pretend to measure
    outliers : what to do about sources whose gain is many times that of their neighbours, because they lie on or
        outside the skull of the head model: "warn" leaves them out and says so, "drop" leaves them out without a
        warning, "keep" keeps them, with a check that fails where they have much of the signal's power. The account
        names them, and `sources` are those that are left
    head_moved : "refuse" or "warn" where the MEG sensors lie more than 5 mm elsewhere on the head in the forward
        solution than in the recording (`dev_head_t`), or coils are turned by more than 5 degrees in the device; from 1
        mm or degree on a warning says so in any case
    baseline_correct : the window (start, stop) in s whose mean is subtracted first; None takes the average as it is. A
        baseline that was not corrected is recognised by its mean, and warned of
    averages : how many trials the recording averages, a fraction where averages were combined; None takes
        `evoked.nave`, which MNE-Python's files round to a whole number
    noise_time : autocorrelation of the noise. "auto" estimates it from the baseline (from the trials about their
        average, where epochs are given), or takes it from the low-pass of the info where there are too few samples;
        "white" takes samples as independent; epochs, or a raw recording of an empty room, filtered alike, are noise to
        estimate it from; or numbers, see `autocorrelation.chosen`
    noise_tails : "normal", or "student", by which bad sensors and samples count for less, see `inference.tails`

    Warns of what may be wrong: good channels that the forward solution or the covariance lacks or marks as bad, names
    that differ in case or blanks, bipolar channels (left out), electrodes that lie elsewhere in the forward solution,
    projectors that only the covariance has, channels that were interpolated or bridged (left out, unless a rank is
    given).

    Raises
    ------
    ValueError
        If an object is of the wrong type, holds NaN or infinity, or does not fit the others: no channel in common or
        all of them bad, none left of a kind that picks names, another unit, compensation grade or position of the
        head, no average reference for EEG, a source space that is not as wide as a brain, a window without samples,
        a rank that the covariance does not have.
    Reference: Gramfort et al. (2014), NeuroImage 86, 446-460.
    """
    import mne

    if isinstance(evoked, list | tuple):
        if not evoked:
            raise ValueError("the list of averages is empty; give at least one mne.Evoked")
        options: dict[str, Any] = {"picks": picks, "tmin": tmin, "tmax": tmax, "baseline": baseline, "rank": rank}
        options |= {"orientation": orientation, "outliers": outliers, "head_moved": head_moved, "averages": averages}
        options |= {"baseline_correct": baseline_correct, "noise_time": noise_time, "noise_tails": noise_tails}
        return [from_mne(one, forward, noise_cov, **options) for one in evoked]
    one_of("orientation", orientation, ("fixed", "free"))
    one_of("treatment of outliers", outliers, ("warn", "drop", "keep"))
    average = _average(evoked)
    _typed("forward", forward, mne.Forward, "mne.Forward", "mne.read_forward_solution reads one")
    _typed("noise_cov", noise_cov, mne.Covariance, "mne.Covariance", "mne.read_cov reads one")
    with mne.use_log_level("ERROR"):
        channels = used_channels(average.info, forward, noise_cov, picks)
        names = channels.names
        check_belonging(average.info, forward, noise_cov, names, head_moved)
        info = mne.pick_info(average.info, [average.ch_names.index(name) for name in names])
        average = average if baseline_correct is None else corrected(average, baseline_correct)
        field = real("evoked", average.get_data(picks=names), "sensor time")
        trials = _trials(average, averages)
        info, field, whitening, combined, unjudged = _measuring(info, field, noise_cov, rank, trials)
        names, kinds = tuple(info["ch_names"]), tuple(info.get_channel_types())
        lead_field = lead_field_of(forward, names, kinds, orientation)
        whitener = whitening.noise.whitener @ whitening.project
        whitened = whitener @ field
        windows = windows_of(average, tmin, tmax, baseline, whitened)
        _refuse_zero(field[:, windows.recording], kinds)
        times, quiet = average.times[windows.recording], average.times[windows.baseline]
        left_out = {**channels.left_out, "a combination of others in the recording": combined}
        notes = notes_of(info, noise_cov, left_out, whitening.dependent, quiet, unjudged)
        notes = noted(notes, sensors=_frozen(field, kinds, names, average.times, windows))
    noise = _noise_only(whitened, windows)
    recorded, groups = _of_noise(noise_time, evoked), whitening.noise.component_modality
    if recorded is not None:
        colour = colour_of(recorded, names, whitener, groups, info)
    else:
        colour = chosen(noise_time, noise, groups, times, windows.centred, float(info["lowpass"] or 0) or None)
    problem = Problem(
        gain=whitener @ lead_field.gain.reshape(len(names), -1),
        recording=whitened[:, windows.recording],
        times=times,
        baseline=noise,
        baseline_centred=windows.centred,
        corrected_times=windows.corrected,
        baseline_times=None if noise is None else quiet,
        axes=lead_field.gain.shape[2],
        whitener=whitener,
        autocorrelation=colour,
        noise_tails=noise_tails,
        sensors=lead_field.sensors,
        sources=lead_field.sources,
        lead_field=lead_field,
        noise=whitening.noise,
        field=Recording(field[:, windows.recording], times.copy(), names, trials),
        notes=notes,
        origin=Origin(info, forward, noise_cov),
    )
    problem = _treated(problem, outliers)
    problem.warn_of_baseline()
    return problem


def _noise_only(whitened: Array, windows: Windows) -> Array | None:
    """Samples of noise alone (component, sample); None where there are none."""
    if not windows.baseline.any():
        return None
    noise = whitened[:, windows.baseline]
    # Noise of a mean over other samples is the same in all of these, and goes with their own.
    return noise if windows.corrected is None else noise - noise.mean(axis=1, keepdims=True)


def _measuring(
    info: mne.Info, field: Array, noise_cov: mne.Covariance, rank: Rank, trials: float
) -> tuple[mne.Info, Array, Whitening, tuple[str, ...], str]:
    """Return info, field (sensor, time) and noise of the channels that measure, and the others' names, if left out.

    The last word is on what could not be judged. With a rank that is given all channels are kept.
    """
    import mne

    kinds = tuple(info.get_channel_types())
    whitening = noise_of(info, noise_cov, kinds, rank, trials)
    free, dependent = rank is None, whitening.dependent
    combined, unjudged = judge_recording(info, field, kinds, whitening.removed, dependent, free)
    if not combined or not free:
        return info, field, whitening, (), unjudged
    some = [i for i, name in enumerate(info["ch_names"]) if name not in combined]
    info = mne.pick_info(info, some)
    with warnings.catch_warnings():
        # What it tells of the noise it has told.
        warnings.simplefilter("ignore")
        whitening = noise_of(info, noise_cov, tuple(info.get_channel_types()), rank, trials)
    return info, field[some], whitening, combined, unjudged


def _of_noise(noise_time: Any, evoked: Any) -> mne.BaseEpochs | mne.io.BaseRaw | None:
    """What noise over time is learned from beside the average: what was given, or its own trials; None for neither."""
    import mne

    if isinstance(noise_time, str) and noise_time == "auto" and isinstance(evoked, mne.BaseEpochs) and len(evoked) > 1:
        return evoked
    return noise_time if isinstance(noise_time, mne.BaseEpochs | mne.io.BaseRaw) else None


def _refuse_zero(field: Array, kinds: Sequence[str]) -> None:
    """Raise where all channels of a modality are zero throughout the recording (sensor, time)."""
    groups = np.array([modality(kind) for kind in kinds])
    for group in dict.fromkeys(groups):
        members = groups == group
        if not field[members].any():
            raise ValueError(
                f"the recording is zero everywhere in all {members.sum()} {WORDS[group]} channels: nothing was "
                "measured, or an array was never filled; look at evoked.data, or leave them out of picks"
            )


def _frozen(field: Array, kinds: Sequence[str], names: Sequence[str], times: Array, windows: Windows) -> str:
    """Warn of sensors that show the same value for long within the windows; return the note of them.

    An electrode that is zero throughout is the reference.
    """
    some = np.flatnonzero([kind != "eeg" or row.any() for kind, row in zip(kinds, field, strict=True)])
    either = windows.recording | windows.baseline
    return told_of_frozen(field[some][:, either], times[either], [names[int(i)] for i in some], 3)


def _average(evoked: Any) -> mne.Evoked:
    """Return an average, of epochs if they are given."""
    import mne

    if isinstance(evoked, mne.BaseEpochs):
        if not len(evoked):
            raise ValueError("there are no epochs to average; all were dropped")
        evoked = evoked.average()
    _typed("evoked", evoked, mne.Evoked, "mne.Evoked, mne.Epochs or a list of mne.Evoked", "epochs.average() makes one")
    assert isinstance(evoked, mne.Evoked)
    if evoked.kind != "average":
        raise ValueError(f"evoked {evoked.comment!r} is a {evoked.kind.replace('_', ' ')}, but an average is wanted")
    return evoked


def _treated(problem: Problem, outliers: str) -> Problem:
    """Return the problem without outlying sources, with a warning or without, or as it is."""
    import mne

    many = len(problem.outliers)
    if not many or outliers == "keep":
        return problem
    if outliers == "warn":
        warnings.warn(
            f"{many} of {problem.source_count} sources ({listed(problem.outliers)}), with gains many times as large as "
            "their neighbours', are left out: they lie on or outside the skull of the head model, where a gain has no "
            "meaning. Of equal currents everywhere they would send "
            f"{percent(outlying_share(problem), 2)} of the power that reaches the sensors. The account names them; "
            "outliers='drop' leaves them out without this warning, outliers='keep' keeps them",
            stacklevel=3,
        )
    assert problem.lead_field is not None
    retained = np.setdiff1d(np.arange(problem.source_count), problem.outliers)
    restricted = problem.lead_field.restrict(sources=retained)
    by_source = problem.gain.reshape(problem.components, problem.source_count, problem.axes)
    with mne.use_log_level("ERROR"):
        origin = replace(problem.origin, forward=_restricted(problem.origin.forward, retained))
    gain = by_source[:, retained].reshape(problem.components, -1)
    told = f"{many} left out, as their gains are many times their neighbours' ({listed(map(str, problem.outliers))})"
    notes = {**problem.notes, "sources": told}
    return replace(problem, gain=gain, sources=restricted.sources, lead_field=restricted, notes=notes, origin=origin)


def _trials(evoked: mne.Evoked, averages: float | None) -> float:
    """Return how many trials the recording averages."""
    if averages is not None:
        return checked_averages(averages)
    nave = evoked.nave
    if not is_number(nave) or not 0 < nave < np.inf:
        raise ValueError(
            f"evoked.nave is {nave!r}, but an average is of a positive number of trials (files of MNE-Python round "
            "those of combined averages); give averages= (--averages)"
        )
    return float(nave)


def _restricted(forward: mne.Forward, sources: Index) -> mne.Forward:
    """Return the forward solution of some sources, given by their indices over all source spaces."""
    import mne

    counts = np.cumsum([space["nuse"] for space in forward["src"]])[:-1]
    parts = np.split(np.concatenate([space["vertno"] for space in forward["src"]]), counts)
    selected = np.split(np.isin(np.arange(forward["nsource"]), sources), counts)
    vertices = [part[mask] for part, mask in zip(parts, selected, strict=True)]
    stand_in = mne.SourceEstimate(np.zeros((len(sources), 1)), vertices, 0.0, 1.0)
    return mne.forward.restrict_forward_to_stc(forward, stand_in)


def _typed(name: str, value: Any, wanted: type, words: str, remedy: str) -> None:
    """Raise unless the value is of the wanted type."""
    if not isinstance(value, wanted):
        given = type(value)
        raise ValueError(
            f"{name} is of type {given.__module__.split('.')[0]}.{given.__name__}, but must be {words}; {remedy}"
        )
