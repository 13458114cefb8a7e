"""Checks of the data themselves: single values, sensors, samples and kinds of sensor that the model cannot explain.

Every scale is a median of absolute standardised residuals over that of all residuals of the same table, so that a bad
part does not hide behind a noise or source scale which it has inflated itself. Limits are those that chance exceeds
anywhere in one of `ONE_IN` posteriors (Bonferroni's bound over all that is compared); correlation over time and between
sensors counts by the number of independent values that the residuals' own correlations imply. Currents are not as
stationary as a model takes them to be: what a response up to `STRENGTHS` times as strong as on average explains is no
fault of the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from bayesinv.axes import Array, Index
from bayesinv.inference.medians import UNIT, exceeded, largest_ratio, median_size, smallest_ratio
from bayesinv.inference.residuals import FEWEST_SAMPLES, PlugIn, Residuals, evenly, independent
from bayesinv.inference.rivals import Explained
from bayesinv.posterior.checks import Check
from bayesinv.posterior.mixture import Mixture
from bayesinv.problem.left_out import sensor_names
from bayesinv.problem.problem import Problem
from bayesinv.wording import some_of

ONE_IN = 1000
"""Posteriors of good data of which each check fails at most one: all five fail fewer than one in two hundred."""

FACTOR = 2.0
"""Scale of a sensor or a sample, relative to all, below which it is not held against it, however significant."""

KIND_FACTOR = 1.5
"""The same for a kind of sensor."""

FLAT = 0.1
"""Change of a sensor's field, relative to that of its noise, above which it is not called flat."""

SLOWEST = 0.1
"""Least change of the usual sensor's field, relative to that of noise as it is known, that slow noise explains."""

FLAT_COLUMNS = 32
"""Samples from which a sensor is seen to be flat."""

STRENGTHS = (1.0, 2.0, 5.0, 10.0)
"""Amplitudes of currents, relative to their mean over the recording, that a part of a response may have."""

SHARES = (1.0, 0.1, 0.01, 0.0)
"""Power of the currents, relative to what the model says, that there may be beside strong ones in few directions."""

MAX_BAD_SENSORS = 0.1
"""Share of sensors that are named at most."""

NAMED = 3
"""Things that a note names; others it counts."""

REMEDY = "leave it out (problem.without(sensors=...), --leave-out), interpolate it or mark it as bad"


def outlier_checks(problem: Problem, mixed: Mixture) -> tuple[Check, ...]:
    """Return the checks of a recording and its baseline by value, sensor, sample and kind of sensor.

    Residuals are taken at one value of the hyperparameters, a plug-in: the mixture's mean scales, at the structure
    nearest to its mean. Averaging over nodes would cost as many decompositions and move residuals by less than a
    scale's posterior sd, and medians, relative to one another, not at all.
    """
    plugged = PlugIn.of(problem, mixed)
    key = (plugged.spectrum.structure.key, plugged.variance, plugged.noise)
    return problem.memory.recall("outlier checks", key, partial(_checks, plugged))


@dataclass(frozen=True, eq=False)
class Table:
    """Residuals of the recording or of its baseline, and how chance scatters their medians.

    residuals : at the plug-in, without sensors that were found bad
    scale : of all, robust; 1 where the model is right
    count : number of independent values that it is estimated from
    noise : (sensor,), of each sensor's noise relative to that of all
    limit : of these
    bad : index and relative noise of each sensor that was left out
    """

    name: str
    residuals: Residuals
    scale: float
    count: float
    noise: Array
    limit: float
    bad: tuple[tuple[int, float], ...] = ()

    @classmethod
    def of(cls, name: str, residuals: Residuals, probability: float, problem: Problem | None) -> Table:
        """Return the table of residuals, from which noisy sensors are left out one by one.

        The noisiest makes its neighbours' residuals, given all others, larger too; without it they are as they
        should be.

        probability : that chance makes the noise of any sensor seem too large
        problem : where the table may hold currents
        """
        samples = independent(_noise(name, residuals)[residuals.rows])
        sensors = int(residuals.retained.sum())
        limit = max(FACTOR, largest_ratio(probability / sensors, samples, samples * residuals.worth))
        bad: list[tuple[int, float]] = []
        each = _relative_noise(name, residuals)
        while len(bad) < max(1, MAX_BAD_SENSORS * sensors):
            worst = int(np.argmax(each))
            if each[worst] <= limit:
                break
            without = residuals.without(worst)
            if not without.retained.any():
                break
            if problem is not None:
                own = _own(residuals, worst, problem)
                if own <= limit:
                    each[worst] = own
                    continue
            bad.append((worst, float(each[worst])))
            residuals = without
            each = _relative_noise(name, residuals)
        some = residuals.standardised[np.ix_(residuals.rows, residuals.columns)]
        scale = max(float(median_size(some.ravel())) / UNIT, 1e-300)
        return cls(name, residuals, scale, independent(some) * residuals.worth, each, limit, tuple(bad))

    @property
    def alone(self) -> bool:
        """Whether no sample can have currents of a strength of its own: none has any, or they are as others say."""
        return self.name == "baseline" or self.residuals.courses is not None

    def limit_of_values(self, probability: float) -> float:
        """Residual that chance exceeds anywhere with a probability, in sds."""
        limit = largest_ratio(probability / self.residuals.standardised.size, 1.0, self.count) * UNIT
        # It is told with two decimals.
        return float(np.ceil(100 * limit) / 100)


def _noise(name: str, residuals: Residuals) -> Array:
    """What of some standardised residuals (sensor, sample) is surely noise: all of them in the baseline.

    In the recording it is their changes from sample to sample: an error of the lead field and a drift stay in
    residuals for longer, and are no noise of a sensor.
    """
    table, columns = residuals.standardised, residuals.columns
    if name == "baseline":
        return table[:, columns]
    columns = _with_next(residuals)
    return np.asarray(table[:, columns + 1] - table[:, columns])


def _with_next(residuals: Residuals) -> Index:
    """Some of the samples that are not the last."""
    return residuals.columns[residuals.columns < residuals.standardised.shape[1] - 1]


def _relative_noise(name: str, residuals: Residuals) -> Array:
    """Scale of each sensor's noise relative to that of all (sensor,); 0 for those left out.

    Where currents are in few directions, others hold less than the model says, and sensors that see most of these have
    smaller residuals. A sensor is as noisy as it seems with whatever share of the model's currents there are.
    """
    noise = _noise(name, residuals)
    if not noise.size:
        return np.zeros(len(noise))
    size, rows = median_size(noise), residuals.rows
    out = np.full(len(noise), np.inf)
    for share in (1.0,) if name == "baseline" else SHARES:
        unit = np.sqrt(share + (1 - share) * residuals.noise_shares)
        all_of_them = max(float(median_size((noise[rows] / unit[rows, None]).ravel())), 1e-300)
        np.minimum(out, size / unit / all_of_them, out=out)
    return out


def _own(residuals: Residuals, sensor: int, problem: Problem) -> float:
    """Relative noise of a sensor in the recording once courses that all others show too are taken from it.

    A dense prior leaves much of a strong source to the residuals of sensors near to it; these have its course.
    """
    columns = _with_next(residuals)
    field = problem.recording[:, columns + 1] - problem.recording[:, columns]
    mine = np.eye(len(field))[sensor] if problem.whitener is None else problem.whitener[:, sensor]
    # What is orthogonal to its own field is as if it had not been there.
    field = field - np.outer(mine, mine @ field) / max(float(mine @ mine), 1e-300)
    _, sizes, courses = np.linalg.svd(
        field * (UNIT / max(float(median_size(field.ravel())), 1e-300)), full_matrices=False
    )
    shared = np.count_nonzero(sizes > np.sqrt(len(field)) + np.sqrt(len(columns)))
    courses = courses[: min(shared, len(columns) // 2)]
    noise = _noise("recording", residuals)
    left = noise[sensor] - (noise[sensor] @ courses.T) @ courses
    left *= np.sqrt(len(left) / (len(left) - len(courses)))
    return float(median_size(left) / max(float(median_size(noise[residuals.rows].ravel())), 1e-300))


def _checks(plugged: PlugIn) -> tuple[Check, ...]:
    recording, baseline = plugged.recording(), plugged.baseline()
    given = [("recording", recording)] + ([] if baseline is None else [("baseline", baseline)])
    probability = 1 / (ONE_IN * len(given))
    tables = [Table.of(name, one, probability, plugged.problem if one is recording else None) for name, one in given]
    names = sensor_names(plugged.problem)
    return (
        _flat_sensors(plugged, tables, names),
        _noisy_sensors(tables, names),
        _values(plugged, tables, probability, names),
        _samples(plugged, tables, probability),
        *_kinds(plugged.problem, tables),
    )


def _told(things: Sequence[str]) -> str:
    return some_of(things, NAMED)


def _nearest(values: Sequence[float], limits: Sequence[float]) -> tuple[float, float]:
    """Return the value that is nearest to its table's limit, or farthest beyond it, and that limit."""
    return max(zip(values, limits, strict=True), key=lambda one: one[0] / one[1])


def _noisy_sensors(tables: Sequence[Table], names: Sequence[str]) -> Check:
    """Check that no sensor is noisier, given all others, than chance and the covariance allow."""
    worst: dict[int, tuple[float, str]] = {}
    for table in tables:
        for sensor, size in table.bad:
            worst[sensor] = max(worst.get(sensor, (0.0, "")), (size, table.name))
    found = [(size, f"{names[i]} ({size:.1f} times, {where})") for i, (size, where) in worst.items()]
    found.sort(key=lambda one: -one[0])
    sizes = [max([size for _, size in table.bad] + [float(table.noise.max())]) for table in tables]
    largest, limit = _nearest(sizes, [table.limit for table in tables])
    note = "largest noise of a sensor given all other sensors, relative to what the covariance says, over that of all"
    if found:
        note = f"noisier, given all other sensors, than the noise covariance says: {_told([w for _, w in found])}; "
        note += REMEDY
    return Check("noisy sensors", largest, f"< {limit:.2f}", not found, note)


def _flat_sensors(plugged: PlugIn, tables: Sequence[Table], names: Sequence[str]) -> Check:
    """Check that every sensor's field changes by at least its noise, whatever the others show.

    Changes from sample to sample do not know of an offset, and are nearly independent where noise is slow.
    """
    problem = plugged.problem
    sizes, limits = [], []
    sds = _noise_sds(plugged)
    given = [problem.recording] + [one for one in (problem.baseline,) if one is not None]
    some = [_changes(one) for one in given]
    # One product of both costs less than two of such narrow ones.
    both = np.hstack(some)
    both = _to_sensors(problem, both if problem.whitener is None else problem.whitener.T @ both)
    known, step = problem.autocorrelation, np.diff(problem.times[:2])
    # Of the slowest noise, whose changes are least.
    slowest = 0.0 if known is None or known.white or not step.size else float(known.at(step).max())
    for table, field, whole in zip(tables, np.split(both, [some[0].shape[1]], axis=1), given, strict=False):
        spread = np.sqrt(2 * (1 - min(slowest, 0.99))) if whole.shape[1] > 1 else 1.0
        # A noisy sensor that has raised the noise scale makes no other flat.
        unit = UNIT * plugged.noise * min(1.0, table.scale) * spread * sds
        size = np.full(len(sds), np.inf)
        seen = (unit > 0) & (sds > 1e-6 * np.median(sds))
        np.divide(median_size(field), unit, out=size, where=seen)
        # Noise may be slower than is known, of all sensors alike.
        size /= min(1.0, max(float(np.median(size[seen])), SLOWEST)) if seen.any() else 1.0
        sizes.append(size)
        chance = 1 / (ONE_IN * len(tables) * len(sds))
        limits.append(min(FLAT, smallest_ratio(chance, max(1.0, field.shape[1] / 2))))
    below = np.min([size / limit for size, limit in zip(sizes, limits, strict=True)], axis=0)
    smallest, limit = min(
        zip((float(size.min()) for size in sizes), limits, strict=True), key=lambda one: one[0] / max(one[1], 1e-300)
    )
    flat = np.flatnonzero(below < 1)
    note = "smallest change of a sensor's field from sample to sample, relative to that of its noise"
    if flat.size:
        note = f"the field is flat at {_told([names[i] for i in flat[np.argsort(below[flat])]])}, where its noise is "
        note += f"not: {REMEDY}"
    return Check("flat sensors", smallest, f"> {limit:.2g}", not flat.size, note)


def _changes(table: Array) -> Array:
    """Changes of a table (component, sample) from some samples to the next; the table itself where it has only one."""
    columns = evenly(table.shape[1] - 1, FLAT_COLUMNS)
    return np.asarray(table[:, columns + 1] - table[:, columns]) if columns.size else table


def _to_sensors(problem: Problem, unmixed: Array) -> Array:
    """From Wᵀ y (sensor, column) of whitened components y to sensors; components where there is no whitener."""
    noise, whitener = problem.noise, problem.whitener
    if whitener is None:
        return unmixed
    # C Wᵀ is the inverse of W on the range of C, and so is W⁺ W⁺ᵀ Wᵀ.
    if noise is None:
        assert problem.unwhitener is not None
        return np.asarray(problem.unwhitener @ (problem.unwhitener.T @ unmixed))
    return np.asarray(noise.covariance @ unmixed / noise.averages)


def _noise_sds(plugged: PlugIn) -> Array:
    """Standard deviation (sensor,) of the noise of scale one, in the units of `_to_sensors`."""
    problem, covariance = plugged.problem, plugged.spectrum.structure.noise_covariance(plugged.problem)
    if covariance is None and problem.whitener is not None and problem.noise is not None:
        return np.sqrt(np.diag(problem.noise.covariance) / problem.noise.averages)
    root = np.asarray(np.eye(problem.components) if covariance is None else np.linalg.cholesky(covariance))
    unmixed = root if problem.whitener is None else problem.whitener.T @ root
    return np.asarray(np.linalg.norm(_to_sensors(problem, unmixed), axis=1))


def _suspicious(table: Table, size: Array, limit: float) -> Index:
    """Samples in which residuals (sensor, sample) are beyond a limit."""
    if not table.alone and size.shape[1] < FEWEST_SAMPLES:
        # The usual sample is not known, so that one which is off may have made all scales.
        return np.arange(size.shape[1])
    return np.flatnonzero(size.max(axis=0) > limit)


def _explained(plugged: PlugIn, table: Table, samples: Index, limit: float) -> Explained:
    """What is left of some samples of the recording by the best explanation of each."""
    bad = [sensor for sensor, _ in table.bad]
    few = len(plugged.problem.times) < FEWEST_SAMPLES
    # Residuals that are smaller than they should be come from currents that one sample has made too strong.
    return Explained.of(plugged, samples, 1.0 if few else max(1.0, table.scale), limit, bad)


def _stronger(plugged: PlugIn, table: Table, samples: Index) -> list[Array]:
    """Absolute standardised residuals (sensor, sample) of some samples, at every strength of the currents.

    Of the baseline, which is noise alone, and at the strength of the model, those that the table holds.
    """
    out = [np.abs(table.residuals.standardised[:, samples])]
    if table.name == "baseline" or not samples.size:
        return out
    for strength in STRENGTHS[1:]:
        residuals = plugged.recording(strength**2, samples)
        for sensor, _ in table.bad:
            residuals = residuals.without(sensor)
        found = np.abs(residuals.standardised)
        out.append(found[:, samples] if residuals.courses is not None else found)
    return out


def _when(problem: Problem, table: Table, sample: int) -> str:
    if table.name == "baseline":
        return f"in sample {sample} of the baseline, at {1e3 * problem.times_of_baseline[sample]:.4g} ms"
    return f"at {1e3 * problem.times[sample]:.4g} ms"


def _values(plugged: PlugIn, tables: Sequence[Table], probability: float, names: Sequence[str]) -> Check:
    """Check that no value of one sensor at one time is farther from what the others say than chance allows."""
    found, values, limits = [], [], []
    for table in tables:
        limit = table.limit_of_values(probability)
        limits.append(limit)
        size = np.abs(table.residuals.standardised) / table.scale
        samples = _suspicious(table, size, limit)
        size, sds = size.copy(), size.copy()
        if table.alone:
            size[:, samples] = sds[:, samples] = np.min(_stronger(plugged, table, samples), axis=0) / table.scale
        else:
            best = _explained(plugged, table, samples, limit)
            size[:, samples], sds[:, samples] = best.sizes, best.sds
        values.append(float(size.max()))
        for sample in samples[size[:, samples].max(axis=0) > limit]:
            # What one value is off, it makes the residuals of others too, but smaller ones.
            sensor = int(np.argmax(size[:, sample]))
            words = f"{names[sensor]} {_when(plugged.problem, table, int(sample))} ({sds[sensor, sample]:.0f} sd)"
            found.append((float(size[sensor, sample]), words))
    found.sort(key=lambda one: -one[0])
    note = "largest residual of a sensor at one time given all other sensors, in sd"
    if found:
        note = f"far from what all other sensors say: {_told([words for _, words in found])}; leave the sample out "
        note += f"(problem.without(times=...), --leave-out-times), or the sensor: {REMEDY}"
    largest, limit = _nearest(values, limits)
    return Check("outlying values", largest, f"< {limit:.2f} sd", not found, note)


def _samples(plugged: PlugIn, tables: Sequence[Table], probability: float) -> Check:
    """Check that most sensors' residuals are not larger in one sample than chance and a strong response allow."""
    found, values, limits = [], [], []
    for table in tables:
        rows = table.residuals.rows
        size = median_size(table.residuals.standardised[rows].T) / (UNIT * table.scale)
        limit = max(FACTOR, largest_ratio(probability / len(size), table.residuals.worth, table.count))
        limits.append(limit)
        samples = np.flatnonzero(size > limit)
        if table.alone:
            each = [median_size(one[rows].T) for one in _stronger(plugged, table, samples)]
            size[samples] = np.min(each, axis=0) / (UNIT * table.scale)
        else:
            best = _explained(plugged, table, samples, table.limit_of_values(probability))
            size[samples] = median_size(best.left[rows].T) / UNIT
        values.append(float(size.max()))
        found += [(size[s], _when(plugged.problem, table, int(s))) for s in samples[size[samples] > limit]]
    found.sort(key=lambda one: -one[0])
    note = "largest scale of the residuals in one sample, relative to that in all"
    if found:
        note = f"most sensors are off {_told([words for _, words in found])}, as an artefact makes them: leave these "
        note += "samples out (problem.without(times=...), --leave-out-times), or the trials they come from"
    largest, limit = _nearest(values, limits)
    return Check("outlying samples", largest, f"< {limit:.2f}", not found, note)


def _kinds(problem: Problem, tables: Sequence[Table]) -> tuple[Check, ...]:
    """Check that residuals of every kind of sensor are as large as those of the others; none of a single kind."""
    kinds = problem.kinds
    if len(kinds) < 2 or problem.noise is None:
        return ()
    which = np.array(problem.noise.kinds)
    worst, found = 1.0, []
    for table in tables:
        rows, columns = table.residuals.rows, table.residuals.columns
        some = table.residuals.standardised[np.ix_(rows, columns)]
        for kind in kinds:
            mine = which[rows] == kind
            if mine.all() or not mine.any():
                continue
            ratio = float(median_size(some[mine].ravel()) / median_size(some[~mine].ravel()))
            counts = [max(1.0, table.count * one.mean()) for one in (mine, ~mine)]
            if abs(np.log(ratio)) > abs(np.log(worst)):
                worst = ratio
            larger, counts = (ratio, counts) if ratio > 1 else (1 / ratio, counts[::-1])
            chance = 1 / (2 * ONE_IN * len(tables) * len(kinds))
            if larger > KIND_FACTOR and exceeded(larger, *counts) < chance:
                found.append((abs(np.log(ratio)), f"{kind} ({ratio:.2f} times, {table.name})"))
    found.sort(key=lambda one: -one[0])
    note = "scale of the residuals of one kind of sensor relative to those of the others, the farthest from 1"
    if found:
        note = f"residuals are not as large as those of the other kinds of sensor at {_told([w for _, w in found])}: "
        note += "the noise covariance is wrong by kind; estimate it anew, or use the model 'sensor_noise'"
    limit = f"between {1 / KIND_FACTOR:.2f} and {KIND_FACTOR:g}"
    return (Check("kinds of sensor", worst, limit, not found, note),)
