"""Dependent sensors: those whose noise is that of the others, as after interpolation, bridging or a false reference.

Such a sensor measures nothing of its own, yet its lead field says that it does: kept, its tiny noise makes the
recording speak with a precision that no sensor has. It is found by two ratios that differ by orders of magnitude from
those of sensors that measure, so that no rounding decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bayesinv.axes import Array, Index

GAP = 0.1
"""Ratio of neighbouring noise variances below which the lower ones stand apart: 0.7 and more among the lowest
directions of sensors that measure, 0.04 to 1e-16 for an interpolated, bridged or falsely added one."""

OWN_SHARE = 0.03
"""Variance of a sensor's noise given all others', relative to what is usual for its kind, below which it is dependent:
sensors that measure have 0.1 and more, dependent ones 0.01 and less."""

LARGEST_PART = 0.3
"""Share of the directions that no sensor was named for yet, above their share by chance, that must be one sensor's so
that it is named: 1 / (1 + Σ w²) if it is interpolated with weights w, 1/2 of a bridged pair. What components or too few
samples leave is spread."""

LEAST_PART = 0.02
"""The same of a sensor that is known to be interpolated: extrapolation from one side has weights of up to 5."""

EMPTY_GAP = 1e-6
"""Ratio of neighbouring noise variances below which the lower ones are rounding, whoever they belong to."""

LARGEST_SHARE = 0.25
"""Share of the directions that may be missing for such reasons; where more are, it is the method (such as SSS)."""


@dataclass(frozen=True, eq=False)
class Dependence:
    """Directions without noise of their own among sensors of one modality.

    sensors : (dependent,), indices of the sensors that they belong to
    shares : (dependent,), variance of a sensor's noise given the others', relative to what is usual for its kind
    remover : (sensor, sensor), the projection that takes the directions out of recording, gain and covariance: it
        gives the named sensors what the others make of them, so that gains count as if they had been left out
    count : number of the directions; more than sensors where some belong to none alone
    """

    sensors: Index
    shares: Array
    remover: Array
    count: int


def dependence(
    covariance: Array, kinds: Sequence[str], removed: Array, known: Sequence[int] | Index = ()
) -> Dependence:
    """Find the sensors whose noise is a combination of the others'.

    covariance : (sensor, sensor) of one modality, after projection
    kinds : one per sensor; sensors of one kind share a unit
    removed : (sensor, direction), orthonormal, what the projectors took out, which is no sensor's fault
    known : indices of sensors that their places show to be interpolated

    The directions of lowest variance that a gap separates from the rest are given, one after the other, to the sensors
    that are known and then to that with the largest part in what is left of them, if its variance given all others is
    far below that of its kind.
    """
    count, names = len(covariance), np.array(kinds)
    sds = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    units = np.ones(count)
    for kind in set(kinds):
        units[names == kind] = np.median(sds[names == kind]) or 1.0
    # vᵀ C = 0 of a removed direction is (units v)ᵀ of the covariance in these units.
    basis = _complement(removed * units[:, None])
    values, vectors = np.linalg.eigh(basis.T @ (covariance / np.outer(units, units)) @ basis)
    vectors = basis @ vectors
    # Below its rounding a variance is zero.
    values = np.maximum(values, count * np.finfo(float).eps * values[-1:])
    most = int(LARGEST_SHARE * len(values))
    lower, upper = values[:most], values[1 : most + 1]
    apart, empty = (int(np.flatnonzero([False, *(lower < gap * upper)]).max(initial=0)) for gap in (GAP, EMPTY_GAP))
    # What sensors that measure have: their variance given the others', within the directions that are left.
    usual = 1 / np.sum(vectors[:, apart:] ** 2 / values[apart:], axis=1)
    shares = 1 / np.sum(vectors**2 / values, axis=1)
    for kind in set(kinds):
        shares[names == kind] /= np.median(usual[names == kind])
    sensors: list[int] = []
    # What no sensor was named for yet, in coefficients of the directions.
    left = np.eye(apart)
    for rest in range(apart, 0, -1):
        parts = np.sum((vectors[:, :apart] @ left) ** 2, axis=1)
        hinted = [int(one) for one in known if one not in sensors and parts[one] > LEAST_PART]
        sensor = hinted[int(np.argmax(parts[hinted]))] if hinted else int(np.argmax(parts))
        least = LEAST_PART if hinted else LARGEST_PART + rest / count
        if parts[sensor] < least or shares[sensor] > OWN_SHARE:
            break
        sensors.append(sensor)
        taken = left @ (left.T @ vectors[sensor, :apart])
        left = left - np.outer(taken, taken) / (taken @ taken)
    if not apart:
        return Dependence(np.zeros(0, dtype=np.int64), np.zeros(0), np.eye(count), 0)
    named = np.array(sensors, dtype=np.int64)
    directions = vectors[:, :apart] @ _span(np.hstack([np.eye(apart)[:, :empty], vectors[named, :apart].T]))
    project = np.eye(count) - removed @ removed.T
    remover = project @ (units[:, None] * _without(directions, named) / units) @ project
    return Dependence(named, shares[named], remover, directions.shape[1])


def _without(directions: Array, named: Index) -> Array:
    """Return the projection (sensor, sensor) along the named sensors onto all that is orthogonal to the directions.

    directions : (sensor, direction), orthonormal; those that belong to no named sensor are taken out as they are
    """
    own = directions[named]
    nobodys = directions @ np.linalg.svd(own, full_matrices=True)[2][len(named) :].T
    along = np.hstack([np.eye(len(directions))[:, named], nobodys])
    return np.asarray(np.eye(len(directions)) - along @ np.linalg.solve(directions.T @ along, directions.T))


def _span(columns: Array) -> Array:
    """Return an orthonormal basis (row, rank) of the span of columns (row, column) of lengths up to 1."""
    vectors, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    return np.asarray(vectors[:, sizes > 1e-3])


def _complement(directions: Array) -> Array:
    """Return an orthonormal basis (sensor, rest) of all that is orthogonal to the directions (sensor, direction)."""
    vectors, sizes, _ = np.linalg.svd(directions, full_matrices=True)
    rank = int(np.count_nonzero(sizes > 1e-6 * sizes.max(initial=0.0))) if sizes.size else 0
    return np.asarray(vectors[:, rank:])
