"""Moves of several parts of a chain's state at once: pairs of sources merge or split, heads change with all fields."""

from __future__ import annotations

import numpy as np

from bayesinv.axes import Array
from bayesinv.inference.active_head import head_beside, head_drawn
from bayesinv.inference.active_model import EMPTY, Source
from bayesinv.inference.active_state import ActiveState
from bayesinv.prior.patches import FARTHEST


def draw_pair(state: ActiveState) -> None:
    """Merge two sources into one, or split one into two, by a Metropolis step.

    One that is there is drawn anew; a second one is left out, or drawn from its conditional given the first.
    """
    rng, active = state.rng, state.active
    merging = bool(rng.integers(2))
    others = np.flatnonzero(state.patch == EMPTY)
    if not len(active):
        return
    first = int(rng.choice(active))
    if merging:
        others = active[active != first]
    if not len(others):
        return
    second = int(rng.choice(others))
    if not state.sees(first, second):
        return
    before, gone = state.held(first), state.held(second)
    if merging:
        state.take(second)
    state.take(first)
    one = state.conditional()
    found = one.draw(rng)
    log_ratio = one.log_exact(*found) - one.log_drawn(*found) - one.log_exact(*before) + one.log_drawn(*before)
    if not merging:
        state.hold(first, *found)
    state.put(first)
    beside = state.conditional()
    held = gone if merging else beside.draw(rng)
    added = beside.log_exact(*held) - beside.log_drawn(*held) + beside.log_total
    added += state.log_odds(len(active) - merging)
    # Of a pair there are as many first ones as sources; of one source, as many second ones as empty slots.
    pairs, single = (len(active), len(active) - 1) if merging else (len(active) + 1, len(active))
    added += float(np.log(state.model.most - single) - np.log(pairs))
    accepted = np.log(rng.random()) < (log_ratio - added if merging else log_ratio + added)
    if merging and accepted:
        state.take(first)
        state.hold(second, EMPTY, *gone[1:])
        state.hold(first, *found)
        state.put(first)
    elif merging:
        state.put(second)
    elif accepted:
        state.hold(second, *held)
        state.put(second)
    else:
        state.take(first)
        state.hold(first, *before)
        state.put(first)


def draw_from_prior(state: ActiveState) -> None:
    """Empty each slot that holds a source, or fill it from the prior, by Metropolis steps.

    Sources that are too weak to be seen come and go as often as the prior has them, wherever they are, whatever the
    tables look at, and without these: they are those of before until they are refreshed.
    """
    model, rng, strengths = state.model, state.rng, state.model.strengths
    columns = {slot: strengths[state.level[slot]] * state.fields[slot] for slot in state.active.tolist()}
    added_by = state.at_scales()

    def added() -> float:
        return added_by(np.concatenate(list(columns.values()), axis=1)) if columns else 0.0

    current = added()
    for slot in rng.permutation(model.most).tolist():
        before = columns.pop(slot, None)
        log_odds = state.log_odds(len(columns))
        source = (EMPTY, *state.held(slot)[1:]) if before is not None else model.draw_source(rng)
        if before is None:
            columns[slot] = strengths[source[1]] * model.field(source[0], source[2])
        ahead = added()
        log_ratio = ahead - current + (log_odds if before is None else -log_odds)
        if np.log(rng.random()) < log_ratio:
            state.hold(slot, *source)
            current = ahead
        elif before is None:
            del columns[slot]
        else:
            columns[slot] = before


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

    added_by = state.at_scales()

    def log_density(head: Array, rise: int) -> float:
        if not state.may_rise(rise):
            return -np.inf
        added = added_by(state.raised(rise) * (columns + np.tensordot(head - start, varied, axes=1)))
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
    if not (np.abs(head) < FARTHEST).all() or not state.sees(slot):
        return
    before = state.held(slot)
    state.take(slot)
    state.patch[slot] = EMPTY
    log_ratio = -_log_with_head(state, before)[0]
    kept = state.head, state.model, state.tables, state.scan, state.order, list(state.fields)
    state.head = head
    state.to_head()
    state.look()
    state.refresh()
    added, found = _log_with_head(state)
    if np.log(rng.random()) < log_ratio + added:
        state.hold(slot, *found)
    else:
        state.head, state.model, state.tables, state.scan, state.order, state.fields = kept
        state.patch[slot] = before[0]
    state.put(slot)


def _log_with_head(state: ActiveState, held: Source | None = None) -> tuple[float, Source]:
    """Log ratio of the density of a source and a head to that of proposing the source given the head.

    held : the source; None draws it

    Returns the ratio, and the source.
    """
    one = state.conditional()
    held = one.draw(state.rng) if held is None else held
    out = one.log_exact(*held) - one.log_drawn(*held) + one.log_total
    out += state.at_scales()(state.scan.columns)
    return out - 0.5 * float(state.head @ state.head), held
