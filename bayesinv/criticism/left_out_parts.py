"""Components and blocks of time left out, each by importance sampling or, where that fails, by a refit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bayesinv.axes import Array
from bayesinv.criticism.densities import block_densities, component_densities
from bayesinv.criticism.leave_out import (
    LeftOut,
    Row,
    importance_sampled,
    integrated_again,
    left_out_of,
    nothing_left_out,
)
from bayesinv.criticism.refit import NoRefitError, Refits
from bayesinv.posterior.posterior import Posterior
from bayesinv.problem.time_whitening import several_colours

MANY_NUMBERS = 10_000
"""Numbers of a recording from which integrating a model again is quicker than drawing from it, where the currents' time
courses are correlated."""

REFIT = ("auto", "always", "never")
"""When models are integrated again without a part: where importance sampling fails, for every part, or not at all."""


@dataclass(frozen=True, eq=False)
class LeavingOut:
    """How parts of one recording are left out of several models.

    posteriors : by name
    refits : of the models
    refit : one of `REFIT`
    draws : draws of the hyperparameters that densities are averaged over
    shown : whether to show progress bars
    """

    posteriors: Mapping[str, Posterior]
    refits: Refits
    refit: str
    draws: int
    shown: bool | None

    def components(self) -> LeftOut:
        """Leave out every component, at all times."""
        count = next(iter(self.posteriors.values())).problem.components
        rows = {
            name: self._row(
                name, "components", range(count), partial(component_densities, one, self.draws), self.refit == "always"
            )
            for name, one in self.posteriors.items()
        }
        return left_out_of("components", rows, tuple(f"component {i}" for i in range(count)))

    def blocks(self, blocks: Sequence[slice], words: tuple[str, ...]) -> tuple[LeftOut | None, dict[str, str]]:
        """Leave out every block of samples; and why they are not left out of some models, by name.

        words : (block,), what each is
        """
        rows, without = {}, {}
        for name, one in self.posteriors.items():
            if several_colours(one.problem.time_whitening):
                exact = self._of_colours(name, blocks)
                if isinstance(exact, str):
                    without[name] = exact
                else:
                    rows[name] = exact
            else:
                densities = partial(block_densities, one, self.draws, blocks)
                every = self.refit == "always" or (self.refit == "auto" and _dear(one))
                rows[name] = self._row(name, "blocks", blocks, densities, every)
        return (left_out_of("blocks", rows, words) if rows else None), without

    def _of_colours(self, name: str, blocks: Sequence[slice]) -> Row | str:
        """Leave all blocks out where noise is of several colours, or say why not."""
        why = "refit is 'never'"
        if self.refit != "never":
            row = self._again(name, "blocks", blocks, nothing_left_out(len(blocks)), np.ones(len(blocks), dtype=bool))
            if row is not None and row.refitted.all():
                return row
            why = "" if row is None else row.reason
        return (
            "blocks of MEG and EEG whose noise differs in colour are left out by integrating the model again, and it "
            f"was not: {why}"
        )

    def _row(
        self,
        name: str,
        over: str,
        parts: Sequence[int] | Sequence[slice],
        densities: Callable[[], Array],
        every: bool,
    ) -> Row:
        """Leave all parts out of one model.

        densities : log density (draw, part) given all other parts
        every : whether to integrate the model again without every part, and to sample only where that fails
        """
        again = partial(self._again, name, over, parts)
        exact = again(None, np.ones(len(parts), dtype=bool)) if every else None
        if exact is not None and exact.refitted.all():
            return exact
        sampled = importance_sampled(densities(), self.posteriors[name])
        if exact is not None:
            return sampled.but(exact)
        wanted = (sampled.khat > sampled.limit) & (self.refit != "never")
        return again(sampled, wanted) or sampled

    def _again(
        self, name: str, over: str, parts: Sequence[int] | Sequence[slice], row: Row | None, wanted: NDArray[np.bool_]
    ) -> Row | None:
        """A row with the densities of the parts that are wanted by refits, where there are any."""
        if not wanted.any():
            return row
        try:
            refit = self.refits.of(name)
        except NoRefitError as error:
            return None if row is None else row._replace(reason=str(error))
        return integrated_again(row, wanted, lambda i: refit.left_out(parts[i]), f"{name}, {over}", self.shown)


def _dear(posterior: Posterior) -> bool:
    """Whether blocks cost more to sample than to integrate without: currents have long time courses of their own."""
    courses = any(structure.time is not None for structure in posterior.mixture.structures)
    return courses and posterior.problem.recording.size >= MANY_NUMBERS
