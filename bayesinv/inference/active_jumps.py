"""Moves of several parts of a chain's state at once: pairs of sources merge or split, heads change with all fields."""

from __future__ import annotations

import numpy as np

from bayesinv.axes import Array
from bayesinv.inference.active_head import head_beside, head_drawn
from bayesinv.inference.active_model import EMPTY
from bayesinv.inference.active_state import ActiveState
from bayesinv.prior.patches import FARTHEST

NEAR = 3
"""Levels by which the strength of a source that merges or splits changes at most."""


def draw_pair(state: ActiveState) -> None:
    """Merge two sources into one, or split one into two, by a Metropolis step.

    One that is there is drawn anew with another strength; a second one is left out, or drawn from its conditional
    given the first.
    """
    rng, active = state.rng, state.active
    merging = bool(rng.integers(2))
    others = np.flatnonzero(state.patch == EMPTY)
    if not len(active):
        return
    first = int(rng.choice(active))
    if merging:
        others = active[active != first]
    near = int(state.level[first] + rng.integers(-NEAR, NEAR + 1))
    if not len(others) or not 0 <= near < len(state.model.strengths):
        return
    second = int(rng.choice(others))
    before = int(state.patch[first]), state.deviation[first].copy(), int(state.level[first])
    gone = int(state.patch[second]), state.deviation[second].copy()
    if merging:
        state.take(second)
    state.take(first)
    old, new = state.conditional(before[2]), state.conditional(near)
    found = new.draw(rng)
    log_ratio = new.log_exact(*found) - new.log_drawn(*found) + new.log_total
    log_ratio -= old.log_exact(*before[:2]) - old.log_drawn(*before[:2]) + old.log_total
    log_ratio += float(state.model.log_strengths[near] - state.model.log_strengths[before[2]])
    if not merging:
        state.hold(first, *found)
        state.level[first] = near
    state.put(first)
    beside = state.conditional(int(state.level[second]))
    held = gone if merging else beside.draw(rng)
    added = beside.log_exact(*held) - beside.log_drawn(*held) + beside.log_total
    added += state.log_odds(len(active) - merging) - state.idle_odds(int(state.level[second]))
    # Of a pair there are as many first ones as sources; of one source, as many second ones as empty slots.
    pairs, single = (len(active), len(active) - 1) if merging else (len(active) + 1, len(active))
    added += float(np.log(state.model.most - single) - np.log(pairs))
    accepted = np.log(rng.random()) < (log_ratio - added if merging else log_ratio + added)
    if merging and accepted:
        state.take(first)
        state.hold(second, EMPTY, gone[1])
        state.hold(first, *found)
        state.level[first] = near
        state.put(first)
    elif merging:
        state.put(second)
    elif accepted:
        state.hold(second, *held)
        state.put(second)
    else:
        state.take(first)
        state.hold(first, *before[:2])
        state.level[first] = before[2]
        state.put(first)


def draw_head(state: ActiveState) -> None:
    """Draw the head that all fields are of, and strengths with it."""
    if not len(state.head):
        return
    model, columns, start = state.model, state.scan.columns, state.head
    varied = np.zeros((len(start), *columns.shape))
    for place, slot in enumerate(state.order):
        some = slice(place * model.axes, (place + 1) * model.axes)
        modes = model.field_modes(int(state.patch[slot]), state.deviation[slot])
        varied[:, :, some] = model.strengths[state.level[slot]] * modes

    def log_density(head: Array, rise: int) -> float:
        if not state.may_rise(rise):
            return -np.inf
        fields = state.raised(rise) * (columns + np.tensordot(head - start, varied, axes=1))
        error = float(model.errors[state.error])
        added = state.heat * model.log_density(fields, state.constant, state.variance, state.noise, error)[1]
        return added + float(model.log_strengths[state.level[state.active] + rise].sum())

    state.head, rise = head_drawn(start, log_density, state.rng)
    state.raise_levels(rise)
    state.to_head()


def draw_with_head(state: ActiveState) -> None:
    """Draw a source and the head together, by a Metropolis step: another head may want another place."""
    rng, active = state.rng, state.active
    if not len(state.head) or not len(active):
        return
    slot, head = int(rng.choice(active)), head_beside(state.head, rng)
    before, level = int(state.patch[slot]), int(state.level[slot])
    near = level + int(rng.integers(-1, 2))
    if not (np.abs(head) < FARTHEST).all() or not 0 <= near < len(state.model.strengths):
        return
    state.take(slot)
    state.patch[slot] = EMPTY
    log_ratio = -_log_with_head(state, slot, level, (before, state.deviation[slot]))[0]
    kept = state.head, state.model, state.scan, state.order, list(state.fields)
    state.head = head
    state.to_head()
    state.refresh()
    added, found = _log_with_head(state, slot, near)
    if np.log(rng.random()) < log_ratio + added:
        state.hold(slot, *found)
        state.level[slot] = near
    else:
        state.head, state.model, state.scan, state.order, state.fields = kept
        state.patch[slot] = before
    state.put(slot)


def _log_with_head(
    state: ActiveState, slot: int, level: int, held: tuple[int, Array] | None = None
) -> tuple[float, tuple[int, Array]]:
    """Log ratio of the density of a source and a head to that of proposing the source given the head.

    held : patch and deviation of the source; None draws them

    Returns the ratio, and the patch and deviation.
    """
    one = state.conditional(level)
    held = one.draw(state.rng) if held is None else held
    out = one.log_exact(*held) - one.log_drawn(*held) + one.log_total + float(state.model.log_strengths[level])
    out += state.heat * state.log_densities(state.variance, state.noise, state.constant, state.error)[1]
    return out - 0.5 * float(state.head @ state.head), held
