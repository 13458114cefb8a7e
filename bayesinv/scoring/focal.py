"""Scores of focal sources: whether they are there, where, how strong, against the parts of a truth.

A part of a truth is a dipole or a patch. Its place is the mean position of its currents at their peak.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np

from bayesinv.axes import Array, Index
from bayesinv.head.sources import Sources
from bayesinv.posterior.foci import REACH, Focus
from bayesinv.posterior.posterior import Posterior
from bayesinv.problem.problem import Problem
from bayesinv.scoring.projection import nearest
from bayesinv.scoring.reliability import Reliability
from bayesinv.simulation.truth import Truth

FOUND = 0.5
"""Probability from which a focus counts as found."""

NEAR = 2 * REACH
"""Distance in m beyond which a focus is of no part of the truth."""

MANY = 20
"""Parts from which a truth is no longer one of focal sources."""


@dataclass(frozen=True, eq=False)
class FocalScores:
    """Counts and sums of one or several results, which are pooled by +.

    places, regions : of the probability that the patch of a source holds a place, or one in a region, against whether a
        part of the truth does
    parts : of the truths
    found : foci that are more probable than not
    near : of these, how many have a part of the truth near
    in_set, in_ball : of those found, how many have the place of a part in their credible set of places, and within the
        radius that holds them with the same probability
    current_inside : of those near a part, how many have its current at its peak in their interval
    amplitude : sum, over those near a part, of their mean current over that of the part
    missed : parts without a focus that is near them
    """

    places: Reliability
    regions: Reliability
    parts: int
    found: int
    near: int
    in_set: int
    in_ball: int
    current_inside: int
    amplitude: float
    missed: int

    def __add__(self, other: FocalScores) -> FocalScores:
        return FocalScores(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))

    def row(self) -> dict[str, float]:
        """Shares and means as plain numbers; nan where nothing was counted."""
        found, near, parts = (one or np.nan for one in (self.found, self.near, self.parts))
        out = {
            "parts": float(self.parts),
            "found": float(self.found),
            "false": (self.found - self.near) / found,
            "missed": self.missed / parts,
            "place in set": self.in_set / found,
            "place in ball": self.in_ball / found,
            "current inside": self.current_inside / near,
            "amplitude": self.amplitude / near,
        }
        for name, one in (("places", self.places), ("regions", self.regions)):
            out |= {
                f"{name}: calibration error": one.calibration_error,
                f"{name}: brier": one.brier,
                f"{name}: log score": one.log_score,
            }
        return out


@dataclass(frozen=True, eq=False)
class Part:
    """A dipole or a patch of a truth.

    sources : (active,), sources of the truth that it is made of
    place : (3,), m
    course : (time,), A m, summed along normals
    """

    sources: Index
    place: Array
    course: Array

    @property
    def peak(self) -> int:
        """Sample at which it is strongest."""
        return int(np.argmax(np.abs(self.course)))


def parts_of(truth: Truth) -> tuple[Part, ...]:
    """The dipoles or patches of a truth; none where these are many, or all is active.

    Where a truth does not tell its parts, it is one: every source of a truth of which a few of many are active is.
    """
    active = np.flatnonzero(np.abs(truth.current).max(axis=1, initial=0.0) > 0)
    if truth.parts is not None:
        number = truth.parts[active]
    elif len(active) == len(truth.sources):
        number = np.zeros(len(active), dtype=np.int64)
    else:
        number = np.arange(len(active))
    names = np.unique(number)
    if not 0 < len(names) <= MANY:
        return ()
    return tuple(_part(truth, active[number == one]) for one in names)


def _part(truth: Truth, sources: Index) -> Part:
    current = truth.current[sources]
    size = np.abs(current[:, int(np.argmax(np.sum(current**2, axis=0)))])
    return Part(sources, size @ truth.sources.positions[sources] / size.sum(), current.sum(axis=0))


def around(parts: tuple[Part, ...], sources: Sources, axes: int, radius: float = REACH) -> Array:
    """Weights (part × axis, source, axis) of the sum of all currents within a distance of each part, or the nearest."""
    distances = np.stack([np.linalg.norm(sources.positions - one.place, axis=1) for one in parts])
    within = (distances <= radius) | (distances == distances.min(axis=1, keepdims=True))
    return np.asarray(within[:, None, :, None] * np.eye(axes)[:, None]).reshape(-1, len(sources), axes)


def focal_scores(
    posterior: Posterior, truth: Truth, level: float = 0.9, regions: Mapping[str, Index] | None = None
) -> FocalScores | None:
    """Score the focal sources of a posterior; None where its model has none, or the truth is not of focal sources.

    truth : at the samples of the posterior; of nothing, whatever is found is false
    level : of credible sets and intervals
    regions : sources of each, of which inclusion is scored, too
    """
    parts, problem, active = parts_of(truth), posterior.problem, posterior.active
    if (not parts and truth.current.any()) or active is None or problem.sources is None:
        return None
    held = np.zeros(problem.source_count, dtype=bool)
    for part in parts:
        held[nearest(truth.sources.pick(part.sources), problem.sources)] = True
    draws = len(active.constant)
    foci = [one for one in posterior.foci if one.probability > FOUND]
    pairs = [(one, _nearest_part(one, parts)) for one in foci]
    near = [(one, part) for one, part in pairs if part is not None]
    reached = {id(part) for _, part in near}
    judged = [_of_current(one, part, level) for one, part in near]
    return FocalScores(
        _reliability(posterior.inclusion(), held, draws),
        _of_regions(posterior, held, regions or {}, draws),
        len(parts),
        len(foci),
        len(near),
        sum(_in_set(one, part, problem, level) for one, part in near),
        sum(_away(one, part) <= one.radius(level) for one, part in near),
        sum(inside for inside, _ in judged),
        float(sum(ratio for _, ratio in judged)),
        sum(id(part) not in reached for part in parts),
    )


def _nearest_part(focus: Focus, parts: tuple[Part, ...]) -> Part | None:
    """The part of a truth that a focus is of; None where none is near."""
    distances = [_away(focus, part) for part in parts]
    return parts[int(np.argmin(distances))] if min(distances, default=np.inf) <= NEAR else None


def _away(focus: Focus, part: Part) -> float:
    """Distance of a focus from a part of the truth, m."""
    assert focus.centre is not None
    return float(np.linalg.norm(part.place - focus.centre))


def _in_set(focus: Focus, part: Part, problem: Problem, level: float) -> bool:
    """Whether the source of the grid that is nearest to a part's place is among those that hold the focus."""
    assert problem.sources is not None
    place = int(np.argmin(np.linalg.norm(problem.sources.positions - part.place, axis=1)))
    return place in focus.credible_set(level)


def _of_current(focus: Focus, part: Part, level: float) -> tuple[bool, float]:
    """Whether the interval of a focus's current holds that of a part at its peak, and the mean over it.

    With free orientation the strengths are compared, of which the interval is that along the mean's direction.
    """
    sample, mean = part.peak, focus.current.mean
    low, high = focus.current.interval(level)
    true = float(part.course[sample])
    if len(mean) == 1:
        return bool(low[0, sample] <= true <= high[0, sample]), float(mean[0, sample]) / true
    strength = float(np.linalg.norm(mean[:, sample]))
    half = float(np.linalg.norm((high - low)[:, sample] * mean[:, sample])) / max(2 * strength, 1e-300)
    return abs(strength - abs(true)) <= half, strength / abs(true)


def _reliability(probability: Array, happened: Array, draws: int) -> Reliability:
    # What no draw has is not impossible: half a draw more is, and half a draw less.
    return Reliability.of((probability * draws + 0.5) / (draws + 1), np.asarray(happened, dtype=bool))


def _of_regions(posterior: Posterior, held: Array, regions: Mapping[str, Index], draws: int) -> Reliability:
    # One by one, since regions may overlap.
    included = [float(posterior.inclusion({name: index})[0]) for name, index in regions.items()]
    return _reliability(np.array(included), np.array([held[index].any() for index in regions.values()]), draws)
