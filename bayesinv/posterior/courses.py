"""Moments of currents whose time courses are correlated, under structures that differ in the time constant alone.

Such structures share D Gᵀ, so that what differs is summed in sensor space before one product takes it to the sources.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bayesinv.axes import Array, Index
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.memory import PickledByFields, cached_property
from bayesinv.posterior.conditional import Conditional, Moments, row_blocks
from bayesinv.posterior.principal_axes import principal_axes
from bayesinv.posterior.spectral import SpectralGaussians

DROPPED_VARIANCE = 1e-5
"""Largest part of a source's prior variance by which leaving out components may change its variance: a bound whose mean
over the sources is that divided by their number."""

DROPPED_SPREAD = 1e-6
"""Largest share of the variance between hyperparameters that is dropped with its smallest directions; as a rule it is
itself less than a percent of the variance."""


def together(conditionals: Sequence[Conditional]) -> tuple[Moments, ...]:
    """Return the conditionals, those whose structures differ in the time constant alone as one."""
    groups: dict[object, list[Moments]] = {}
    for one in conditionals:
        if isinstance(one, SpectralGaussians) and one.by_mode:
            timeless = replace(one.spectrum.structure, time=None).key
            groups.setdefault(timeless, []).append(one)
        else:
            groups[len(groups), "alone"] = [one]
    found: list[Moments] = []
    for members in groups.values():
        some = tuple(one for one in members if isinstance(one, SpectralGaussians) and one.by_mode)
        found.append(CourseMoments(some) if some else members[0])
    return tuple(found)


@dataclass(frozen=True, eq=False)
class CourseMoments(PickledByFields):
    """Moments of the nodes of some structures together.

    "Patterns" are currents in units of `back`: (column, time), with columns of the eigenbasis where there is one of it,
    and whitened components where blocks of modes have several.

    parts : the nodes of each structure
    """

    parts: tuple[SpectralGaussians, ...]

    @property
    def varies(self) -> bool:
        """Uncertainty varies over time."""
        return True

    @property
    def spectrum(self) -> Spectrum:
        """The first structure's."""
        return self.parts[0].spectrum

    @property
    def _several(self) -> bool:
        """Whether blocks of modes have eigenbases of their own, whose time courses all structures share."""
        return len(self.spectrum.blocks) > 1

    @cached_property
    def back(self) -> Array:
        """From patterns to currents: (amplitude, column)."""
        if not self._several:
            return self.spectrum.to_sources()
        problem, structure = self.spectrum.problem, self.spectrum.structure
        return np.asarray(structure.product(problem, problem.gain.T))

    def _pattern(self, part: SpectralGaussians, filters: Array) -> Array:
        """Pattern (column, time) of a filter (component, mode)."""
        if not self._several:
            return part.filtered(filters, None)
        assert part.spectrum.modes is not None
        table, pairs = filters * part.coefficients, zip(self.spectrum.decompositions, self.spectrum.blocks, strict=True)
        table = np.hstack([one.to_components @ table[:, block] for one, block in pairs])
        return np.asarray(table @ part.spectrum.modes.from_modes.T)

    @cached_property
    def _means(self) -> list[Array]:
        """Pattern (column, time) of each structure's mean."""
        return [self._pattern(one, one.mean_filter) for one in self.parts]

    @cached_property
    def _mean(self) -> Array:
        """Pattern (column, time) of the weighted mean."""
        if not self._several:
            return sum((one.total * mean for one, mean in zip(self.parts, self._means, strict=True)), np.zeros(1))
        total = np.sum([one.total * one.mean_filter for one in self.parts], axis=0)
        return self._pattern(self.parts[0], total)

    def add_mean(self, out: Array) -> None:
        """Add the weighted mean to (amplitude, time)."""
        for rows in row_blocks(len(out)):
            out[rows] += self.back[rows] @ self._mean

    @cached_property
    def _spread(self) -> list[Array]:
        """Patterns whose squares sum to the currents' variance between the nodes, small ones left out."""
        total = sum(one.total for one in self.parts)
        rules = [one.rule(one.weights) for one in self.parts]
        if self._several:
            # All structures have one basis, so that their filters are compared as they are.
            shares = np.concatenate([share for share, _ in rules])
            pairs = zip(self.parts, rules, strict=True)
            filters = np.concatenate([one.filters_at(ratios) for one, (_, ratios) in pairs])
            units = self.parts[0].units
            filters -= np.tensordot(shares, filters, axes=1) / total
            axes = principal_axes(shares, filters, units, DROPPED_SPREAD)[1]
            return [self._pattern(self.parts[0], axis) for axis in axes]
        rows, weights = [], []
        for one, mean, (shares, ratios) in zip(self.parts, self._means, rules, strict=True):
            axes = principal_axes(shares, one.filters_at(ratios) - one.mean_filter, one.units, DROPPED_SPREAD)[1]
            rows += [mean - self._mean / total, *(self._pattern(one, axis) for axis in axes)]
            weights += [one.total, *np.ones(len(axes))]
        units = np.broadcast_to(np.sqrt(self.spectrum.values)[:, None], self._mean.shape)
        return list(principal_axes(np.array(weights), np.array(rows), units, DROPPED_SPREAD)[1])

    # --- variance

    @cached_property
    def _prior(self) -> Array:
        """Weighted relative prior variance (1 or time,)."""
        return np.sum([one.weights @ one.variance * one.prior_share for one in self.parts], axis=0)

    @cached_property
    def _reductions(self) -> list[tuple[Index, Array]]:
        """For each block of modes, the columns (column,) that are not left out, and reductions of them.

        They are (column, time), or (column, mode) where there are several blocks.

        A column of eigenvalue λ takes at most λ times its reduction from the variance, in units of the prior's: by
        Cauchy and Schwarz, since its map to the sources, squared, is at most λ times the diagonal of D.
        """
        if not self._several:
            found = np.sum([one.reduced(one.mean_reduction) for one in self.parts], axis=0)
            return [(np.arange(len(found)), found)]
        found = np.sum([one.mean_reduction for one in self.parts], axis=0)
        largest = _squares(self.parts[0]).max(axis=1)
        allowed = DROPPED_VARIANCE * float(self._prior.min()) / len(self.spectrum.blocks)
        out = []
        for one, block in zip(self.spectrum.decompositions, self.spectrum.blocks, strict=True):
            bound = one.values * (found[:, block] @ largest[block])
            order = np.argsort(bound)
            columns = np.sort(order[np.cumsum(bound[order]) > allowed])
            out.append((columns, found[columns, block]))
        return out

    def _variance(self, rows: slice) -> Array:
        """Weighted conditional variance (row, time) of some amplitudes."""
        prior = self.spectrum.weights[rows, None] * self._prior
        if not self._several:
            return np.asarray(prior - self.back[rows] ** 2 @ self._reductions[0][1])
        by_mode = []
        for one, (columns, reduction) in zip(self.spectrum.decompositions, self._reductions, strict=True):
            projected = self.back[rows] @ one.to_components[:, columns]
            by_mode.append(np.square(projected, out=projected) @ reduction)
        return np.asarray(prior - np.hstack(by_mode) @ _squares(self.parts[0]))

    def add_variance(self, out: Array) -> None:
        """Add the weighted conditional variance to (amplitude, time)."""
        for rows in row_blocks(len(out)):
            out[rows] += self._variance(rows)

    def second_moments(self, centred: bool) -> Callable[[slice], tuple[Array, list[Array]]]:
        """A function from rows to weighted conditional variances, and to terms of the means' spread over nodes.

        centred : whether the spread is about zero rather than about the mean of these nodes

        The variance between hyperparameters is added to that within them, so that single precision is enough.
        """
        parts = [part.astype(np.float32) for part in self._spread]
        total = sum(one.total for one in self.parts)

        def at(rows: slice) -> tuple[Array, list[Array]]:
            back = self.back[rows]
            single_precision = back.astype(np.float32)
            between = []
            for part in parts:
                found = single_precision @ part
                between.append(np.square(found, out=found))
            if centred:
                between.append((back @ self._mean) ** 2 / total)
            return self._variance(rows), between

        return at


def _squares(part: SpectralGaussians) -> Array:
    """Squares of the modes' time courses (mode, time)."""
    assert part.spectrum.modes is not None
    return np.asarray(part.spectrum.modes.from_modes.T**2)
