"""What is left of a problem without some of its sensors and samples, as if they had never been recorded.

With P the projection that was applied before whitening, and D the directions that it removes, the other sensors of a
projected recording still hold what those left out put into them: (P x)_rest = x_rest - D_rest Dᵀ x. It is all in the
span of D_rest, so that this is projected out, and the noise of what is left,

    P' C_rest P',   P' D_rest = 0,

is whitened anew from the covariance's own rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bayesinv.axes import Array, Index, one_of
from bayesinv.problem.account import noted, span_of
from bayesinv.problem.autocorrelation import MIN_SAMPLES, Autocorrelation, chosen
from bayesinv.problem.dependence import dependence
from bayesinv.problem.noise import Noise, modality
from bayesinv.problem.windows import Window, is_time, samples_of
from bayesinv.wording import some_of

if TYPE_CHECKING:
    from bayesinv.problem.problem import Problem

INDEPENDENT = 1e-6
"""Size of a direction, relative to the largest, below which the sensors left have no part in it."""

TOLD = 10
"""Names that an account lists."""


def sensor_names(problem: Problem) -> tuple[str, ...]:
    """Return the names of a problem's sensors, of the whitened components where no sensors are known."""
    if problem.whitener is None and problem.field is None:
        return tuple(f"component {i}" for i in range(problem.components))
    count = problem.components if problem.whitener is None else problem.whitener.shape[1]
    known = problem.sensors.names if problem.sensors is not None else problem.field.names if problem.field else ()
    return tuple(known) if len(known) == count else tuple(f"sensor {i}" for i in range(count))


def sensors_of(problem: Problem, given: str | int | Sequence[str | int]) -> Index:
    """Return the indices of sensors that are given by name or index, each once and in order.

    Raises
    ------
    ValueError
        If there is no such sensor.
    """
    names = sensor_names(problem)
    found = set()
    for one in _several(given):
        if isinstance(one, str):
            found.add(names.index(one_of("sensor", one, names)))
        elif isinstance(one, int | np.integer) and not isinstance(one, bool) and -len(names) <= one < len(names):
            found.add(int(one) % len(names))
        else:
            raise ValueError(f"no sensor {one!r}; give names, or indices from 0 to {len(names) - 1}")
    return np.array(sorted(found), dtype=np.int64)


def _several(given: Any) -> list[Any]:
    """What is given as a list; one thing, of whatever type, is a list of it."""
    if isinstance(given, str | bytes):
        return [given]
    try:
        return list(given)
    except TypeError:
        return [given]


def without_sensors(problem: Problem, given: str | int | Sequence[str | int]) -> Problem:
    """Return the problem without some sensors, whose noise is whitened anew.

    given : names or indices

    Raises
    ------
    ValueError
        If there is no such sensor, none would be left, or the noise covariance is not known.
    """
    given = _several(given)
    if not given:
        return problem
    noise, whitener = problem.noise, problem.whitener
    if noise is None or whitener is None:
        raise ValueError(
            "sensors cannot be left out of a problem whose arrays came whitened: each component mixes all of them; "
            "give noise_cov to from_arrays, or leave them out before whitening"
        )
    names, lost = sensor_names(problem), sensors_of(problem, given)
    rest = np.setdiff1d(np.arange(len(names)), lost)
    if not rest.size:
        raise ValueError(f"all {len(names)} sensors would be left out; leave out fewer")
    smaller, project = _noise_of_rest(problem, noise, whitener, rest)
    renewed = smaller.whitener @ project
    # C Wᵀ is the inverse of W on the range of C; it keeps apart what W keeps apart.
    over = renewed @ (noise.covariance[rest] @ whitener.T / noise.averages)
    baseline = None if problem.baseline is None else over @ problem.baseline
    field, lead_field, sensors = problem.field, problem.lead_field, problem.sensors
    told = f"left out {len(lost)} ({some_of([names[i] for i in lost], TOLD)})"
    if field is not None:
        field = replace(field, field=field.field[rest], names=tuple(field.names[i] for i in rest))
    kept_names = tuple(names[i] for i in rest)
    return replace(
        problem,
        gain=over @ problem.gain,
        recording=over @ problem.recording,
        baseline=baseline,
        whitener=renewed,
        error_factor=None if problem.error_factor is None else over @ problem.error_factor,
        gain_modes=None if problem.gain_modes is None else over @ problem.gain_modes,
        autocorrelation=_colour(problem, baseline, smaller.component_modality, np.arange(_count(baseline))),
        sensors=None if sensors is None else sensors.pick(rest),
        lead_field=None if lead_field is None else lead_field.restrict(sensors=rest),
        noise=smaller,
        field=field,
        notes=noted(problem.notes, sensors=told),
        origin=problem.origin.pick(kept_names) if hasattr(problem.origin, "pick") else None,
    )


def without_times(problem: Problem, given: Window | Sequence[Window]) -> Problem:
    """Return the problem without some samples of its recording and baseline.

    The others keep their times, and their noise its correlation between them. Where the baseline's mean was
    subtracted it is that of the samples that are left.

    given : a time in s, a window (start, stop), or several of either

    Raises
    ------
    ValueError
        If there is no sample at such a time, or none or too few would be left.
    """
    times, before = problem.times, problem.times_of_baseline
    kept, quiet = np.ones(len(times), dtype=bool), np.ones(len(before), dtype=bool)
    for one in _windows(given):
        _leave(one, ((times, kept), (before, quiet)))
    if not kept.any():
        raise ValueError(f"all {len(kept)} samples of the recording would be left out; leave out fewer")
    if kept.all() and quiet.all():
        return problem
    recording, baseline, field = problem.recording[:, kept], problem.baseline, problem.field
    if field is not None:
        field = replace(field, field=field.field[:, kept], times=field.times[kept])
    notes, colour = noted(problem.notes), problem.autocorrelation
    if not kept.all():
        notes = noted(notes, recording=f"{_samples(times[~kept])} left out")
    if baseline is not None and not quiet.all():
        if quiet.sum() <= int(problem.baseline_centred):
            raise ValueError(f"{quiet.sum()} of {len(quiet)} samples of the baseline would be left; leave out fewer")
        notes = noted(notes, baseline=f"{_samples(before[~quiet])} left out")
        baseline = baseline[:, quiet] if quiet.any() else None
        if problem.baseline_centred and baseline is not None:
            mean = baseline.mean(axis=1, keepdims=True)
            baseline = baseline - mean
            # A mean over other samples stays the one that was subtracted from the recording.
            own = problem.corrected_times is None
            recording = recording - mean if own else recording
            if own and field is not None:
                offset = mean / np.sqrt(field.averages) if problem.unwhitener is None else problem.unwhitener @ mean
                field = replace(field, field=field.field - offset)
        groups = ("sensor",) * problem.components if problem.noise is None else problem.noise.component_modality
        colour = _colour(problem, problem.baseline, groups, _longest_run(quiet))
    other = replace(
        problem,
        recording=recording,
        times=times[kept],
        baseline=baseline,
        baseline_times=None if baseline is None else before[quiet],
        autocorrelation=colour,
        field=field,
        notes=notes,
    )
    other.share(problem)
    return other


def _noise_of_rest(problem: Problem, noise: Noise, whitener: Array, rest: Index) -> tuple[Noise, Array]:
    """Noise of the sensors that are left, and the projection (sensor, sensor) that it is of."""
    kinds = tuple(noise.kinds[i] for i in rest) if noise.kinds else ()
    covariance, project = noise.covariance[np.ix_(rest, rest)], np.eye(len(rest))
    of_component, ranks = np.array(noise.component_modality), dict[str, int]()
    for name, (members, _, _) in noise.blocks.items():
        within = np.flatnonzero(np.isin(rest, members))
        if not within.size:
            continue
        removed = _removed(whitener[np.ix_(of_component == name, members)])
        directions = _orthonormal(removed[np.isin(members, rest)])
        block = np.ix_(within, within)
        project[block] -= directions @ directions.T
        own = project[block] @ covariance[block] @ project[block].T
        most = len(within) - directions.shape[1]
        if most and kinds and name != "sensor":
            # What a dependent sensor shares with one that is left out may leave next to no noise.
            found = dependence(own, [kinds[i] for i in within], directions)
            own, project[block] = found.remover @ own @ found.remover.T, found.remover @ project[block]
            most -= found.count
        if not most:
            raise ValueError(f"what is left of the {name} sensors has no noise of its own; leave out all of them")
        covariance[block] = own
        ranks[name] = most
    # What rounding leaves of a direction cannot be whitened.
    possible = Noise(covariance, kinds, None, noise.averages).ranks
    if list(possible) == ["sensor"] or "sensor" in ranks:
        total = min(sum(ranks.values()), sum(possible.values()))
        # Correlated MEG and EEG share one rank, which is given as parts.
        left = sorted({modality(kind) for kind in kinds})
        ranks = {name: total if name == left[0] else 0 for name in left}
        return Noise(covariance, kinds, ranks or total, noise.averages), project
    ranks = {name: min(rank, possible[name]) for name, rank in ranks.items()}
    return Noise(covariance, kinds, ranks, noise.averages), project


def _removed(whitener: Array) -> Array:
    """Directions (sensor, direction) that a whitener (component, sensor) does not see."""
    # Magnetometers and gradiometers differ by powers of ten.
    sizes = np.linalg.norm(whitener, axis=0)
    units = np.where(sizes > 0, sizes, sizes.max())
    complement = np.linalg.svd(whitener / units, full_matrices=True)[2][len(whitener) :].T
    return np.asarray(complement / units[:, None])


def _orthonormal(directions: Array) -> Array:
    """An orthonormal basis (sensor, rank) of directions (sensor, direction), each of which counts for itself."""
    lengths = np.linalg.norm(directions, axis=0)
    directions = directions[:, lengths > 0] / lengths[lengths > 0]
    vectors, sizes, _ = np.linalg.svd(directions, full_matrices=False)
    return np.asarray(vectors[:, sizes > INDEPENDENT * sizes.max(initial=0.0)])


def _colour(problem: Problem, baseline: Array | None, groups: Sequence[str], run: Index) -> Autocorrelation | None:
    """Autocorrelation of the noise that is left: estimated anew, from a run of samples, if it came from the baseline.

    baseline : (component, sample) of the components that are left
    """
    known, old = problem.autocorrelation, problem.baseline
    if known is None or old is None or baseline is None or len(run) < MIN_SAMPLES:
        return known
    before = ("sensor",) * problem.components if problem.noise is None else problem.noise.component_modality
    estimate = chosen("auto", old, before, problem.times, problem.baseline_centred)
    same = estimate.source == known.source and np.array_equal(estimate.values, known.values)
    if not same:
        return known
    return replace(chosen("auto", baseline[:, run], groups, problem.times, problem.baseline_centred), step=known.step)


def _windows(given: Any) -> list[Window]:
    """Times and windows as a list; a pair of numbers, or of None and a number, is one window."""
    several = _several(given)
    alone = len(several) == 1 and several[0] is given
    if given is None or isinstance(given, slice) or (alone and not is_time(given)):
        raise ValueError(f"times is {given!r}, but must be times in s, or windows (start, stop) in s")
    if isinstance(given, tuple) and len(several) == 2 and all(one is None or is_time(one) for one in several):
        return [(several[0], several[1])]
    return several


def _leave(window: Window, tables: Sequence[tuple[Array, NDArray[np.bool_]]]) -> None:
    """Mark the samples of a window in each table of times that holds any; a time is the sample nearest to it."""
    if is_time(window):
        time = float(window)  # type: ignore[arg-type]
        tables = [min((one for one in tables if len(one[0])), key=lambda one: float(np.abs(one[0] - time).min()))]
    found, errors = False, list[ValueError]()
    for times, kept in tables:
        if not len(times):
            continue
        try:
            kept[samples_of(times, window)] = False
            found = True
        except ValueError as error:
            errors.append(error)
    if not found:
        raise errors[0]


def _longest_run(kept: NDArray[np.bool_]) -> Index:
    """Indices of the longest run of samples without a gap."""
    parts = np.split(np.arange(len(kept)), np.flatnonzero(np.diff(kept)) + 1)
    return max((part for part in parts if kept[part].all()), key=len, default=np.zeros(0, dtype=np.int64))


def _count(baseline: Array | None) -> int:
    return 0 if baseline is None else baseline.shape[1]


def _samples(times: Array) -> str:
    """How many samples there are, and when."""
    if len(times) == 1:
        return f"1 sample ({span_of(times).split(' to ')[0]} ms)"
    return f"{len(times)} samples (within {span_of(times)})"
