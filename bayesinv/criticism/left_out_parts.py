"""Components and blocks of time left out, each by importance sampling or, where that fails, by a refit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bayesinv.axes import Array
from bayesinv.criticism.densities import block_densities, component_densities
from bayesinv.criticism.leave_out import LeftOut, Row, importance_sampled, integrated_again, left_out_of
from bayesinv.criticism.refit import NoRefitError, Refits
from bayesinv.criticism.stacked_blocks import TooManyTogetherError
from bayesinv.posterior.posterior import Posterior

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

    def blocks(self, blocks: Sequence[slice], words: tuple[str, ...]) -> LeftOut:
        """Leave out every block of samples.

        words : (block,), what each is
        """
        rows = {
            name: self._row(
                name,
                "blocks",
                blocks,
                partial(block_densities, one, self.draws, blocks),
                self.refit == "always" or (self.refit == "auto" and _dear(one)),
                sparing=_of_several_colours(one),
            )
            for name, one in self.posteriors.items()
        }
        return left_out_of("blocks", rows, words)

    def _row(
        self,
        name: str,
        over: str,
        parts: Sequence[int] | Sequence[slice],
        densities: Callable[[], Array],
        every: bool,
        sparing: bool = False,
    ) -> Row:
        """Leave all parts out of one model.

        densities : log density (draw, part) given all other parts
        every : whether to integrate the model again without every part, and to sample only where that fails
        sparing : whether not to integrate again where a Gaussian posterior without the part is trusted
        """
        again = partial(self._again, name, over, parts)
        exact = again(None, np.ones(len(parts), dtype=bool)) if every else None
        if exact is not None and exact.refitted.all():
            return exact
        try:
            sampled = importance_sampled(densities(), self.posteriors[name])
        except TooManyTogetherError:
            # Integrating again is slow, but has no such limit.
            found = again(None, np.ones(len(parts), dtype=bool)) if self.refit != "never" and exact is None else None
            if found is None or not found.refitted.all():
                raise
            return found
        if exact is not None:
            return sampled.but(exact)
        wanted = (sampled.khat > sampled.limit) & (self.refit != "never")
        return again(sampled, wanted & ~sampled.gaussian if sparing else wanted) or sampled

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
    """Whether blocks cost more to sample than to integrate without: currents have long time courses of their own.

    Where colours differ it is the other way round.
    """
    courses = any(structure.time is not None for structure in posterior.mixture.structures)
    return courses and posterior.problem.recording.size >= MANY_NUMBERS and not _of_several_colours(posterior)


def _of_several_colours(posterior: Posterior) -> bool:
    """Whether currents have time courses of their own in noise of several colours."""
    whitening = posterior.problem.time_whitening
    courses = any(structure.time is not None for structure in posterior.mixture.structures)
    return courses and whitening is not None and whitening.groups > 1
