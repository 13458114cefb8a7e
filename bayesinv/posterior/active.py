"""Which focal sources are active at each node of a mixture: draws of the places, extents and strengths of a few."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csc_array, csr_array, eye_array, kron

from bayesinv.axes import Array, Index, same_axes
from bayesinv.memory import PickledByFields, cached_property
from bayesinv.problem.problem import Problem

CLEAR = 3.0
"""Log evidence in nats that clearly prefers one explanation; a factor of 20."""

NONE = -1
"""Time constant of nodes of models without focal sources, in an average of models."""


@dataclass(frozen=True, eq=False)
class ActiveSets(PickledByFields):
    """The focal sources that are active at each node of a mixture; a node is a draw.

    node : (active,), of the source, ascending
    patch : (active,), index of the source's patch among those that occur
    parts, shares : (active, part), patches that the source is made of, its own first, and their shares of its current,
        which sum to one: sources deviate from their patch towards those next to it
    strength : (active,), standard deviation of the source's current, summed over its patch, A m
    constant : (node,), index of the time constant of the sources' courses; `NONE` where the node's model, one of an
        average, has no focal sources
    constants : (constant,), s; NaN for courses that are correlated over time as the noise is
    error : (node,), what fields are off by in each sensor, in units of the noise
    chain : (node,), that the draw comes from
    centre : (patch,), source at its centre
    extent : (patch,), m, from its centre to its edge
    starts, members, weights : (patch + 1,), (member,) and (member,), the sources of each patch, those of patch i from
        starts[i] to starts[i + 1], and their shares of its current
    most : number of sources above which none was added
    head : (node, mode), coordinates of the head that the sources' fields are of, see `Patches`; None where it is taken
        for known
    log_ratio, log_ratio_error : log of the ratio of the evidence to that of the same model without focal sources, and
        its standard error, nats; NaN where it is not known
    """

    node: Index
    patch: Index
    parts: Index
    shares: Array
    strength: Array
    constant: Index
    constants: Array
    error: Array
    chain: Index
    centre: Index
    extent: Array
    starts: Index
    members: Index
    weights: Array
    most: int
    log_ratio: float = np.nan
    log_ratio_error: float = np.nan
    head: Array | None = None

    def __post_init__(self) -> None:
        same_axes(
            node=(self.node, "active"),
            patch=(self.patch, "active"),
            parts=(self.parts, "active part"),
            shares=(self.shares, "active part"),
            strength=(self.strength, "active"),
        )
        same_axes(constant=(self.constant, "node"), error=(self.error, "node"), chain=(self.chain, "node"))
        if self.head is not None:
            same_axes(constant=(self.constant, "node"), head=(self.head, "node mode"))
        same_axes(centre=(self.centre, "patch"), extent=(self.extent, "patch"))
        same_axes(members=(self.members, "member"), weights=(self.weights, "member"))

    @cached_property
    def counts(self) -> Index:
        """Number of active sources at each node: (node,)."""
        return np.bincount(self.node, minlength=len(self.constant))

    @property
    def preference(self) -> str:
        """Whether the recording prefers focal sources to dense currents alone, in words; "" where it is not known."""
        ratio, error = self.log_ratio, self.log_ratio_error
        if not np.isfinite(ratio):
            return ""
        nats = f"{ratio:.1f} ± {error:.1f} nats of log evidence"
        if ratio > max(CLEAR, 2 * error):
            return f"prefers focal sources above dense currents to dense currents alone, by {nats}"
        return f"gives no clear reason for focal sources beside dense currents ({nats})"

    def at(self, node: int) -> slice:
        """The active sources of a node."""
        start, stop = np.searchsorted(self.node, [node, node + 1])
        return slice(int(start), int(stop))

    def picked(self, nodes: Index) -> ActiveSets:
        """Return the sets of some nodes, in ascending order, with the patches that occur in them."""
        new = np.full(len(self.constant), -1)
        new[nodes] = np.arange(len(nodes))
        kept = new[self.node] >= 0
        used, parts = np.unique(self.parts[kept], return_inverse=True)
        parts = parts.reshape(-1, self.parts.shape[1]).astype(np.int64)
        sizes = np.diff(self.starts)[used]
        member = np.flatnonzero(np.isin(np.repeat(np.arange(len(self.centre)), np.diff(self.starts)), used))
        return replace(
            self,
            node=new[self.node[kept]],
            patch=parts[:, 0],
            parts=parts,
            shares=self.shares[kept],
            strength=self.strength[kept],
            constant=self.constant[nodes],
            error=self.error[nodes],
            head=None if self.head is None else self.head[nodes],
            chain=self.chain[nodes],
            centre=self.centre[used],
            extent=self.extent[used],
            starts=np.concatenate([[0], np.cumsum(sizes)]),
            members=self.members[member],
            weights=self.weights[member],
        )

    @classmethod
    def dense(cls, nodes: int) -> ActiveSets:
        """Return the sets of nodes of a model without focal sources."""
        nothing, zero = np.zeros(0, dtype=np.int64), np.zeros(0)
        whole = np.zeros(nodes, dtype=np.int64)
        return cls(
            node=nothing,
            patch=nothing,
            parts=nothing[:, None],
            shares=zero[:, None],
            strength=zero,
            constant=np.full(nodes, NONE),
            constants=zero,
            error=np.zeros(nodes),
            chain=whole,
            centre=nothing,
            extent=zero,
            starts=np.zeros(1, dtype=np.int64),
            members=nothing,
            weights=zero,
            most=0,
        )

    @classmethod
    def joined(cls, parts: Sequence[ActiveSets]) -> ActiveSets:
        """Return the sets of all nodes of several models, one model after the other."""

        def before(name: str, ends: bool = False) -> list[int]:
            sizes = [int(getattr(one, name)[-1]) if ends else len(getattr(one, name)) for one in parts]
            return [0, *np.cumsum(sizes)[:-1].tolist()]

        def moved(name: str, by: list[int]) -> Index:
            each = [getattr(one, name) for one in parts]
            return np.concatenate([np.where(one < 0, one, one + start) for one, start in zip(each, by, strict=True)])

        def together(name: str) -> Array:
            return np.concatenate([getattr(one, name) for one in parts])

        width = max(one.parts.shape[1] for one in parts)
        # What fills up has no share, so that any patch will do.
        fill = [((0, 0), (0, width - one.parts.shape[1])) for one in parts]
        filled = [np.pad(one.parts, more, "edge") for one, more in zip(parts, fill, strict=True)]

        starts = [one.starts[:-1] + start for one, start in zip(parts, before("starts", ends=True), strict=True)]
        return cls(
            node=moved("node", before("constant")),
            patch=moved("patch", before("centre")),
            parts=np.concatenate([one + by for one, by in zip(filled, before("centre"), strict=True)]),
            shares=np.concatenate([np.pad(one.shares, more) for one, more in zip(parts, fill, strict=True)]),
            strength=together("strength"),
            constant=moved("constant", before("constants")),
            constants=together("constants"),
            error=together("error"),
            chain=together("chain").astype(np.int64),
            centre=together("centre").astype(np.int64),
            extent=together("extent"),
            starts=np.append(np.concatenate(starts), len(together("members"))),
            members=together("members").astype(np.int64),
            weights=together("weights"),
            most=max(one.most for one in parts),
            head=_joined_heads(parts),
        )

    def patterns(self, problem: Problem) -> csr_array:
        """Current of every amplitude per unit of a source's along each axis: (amplitude, active × axis)."""
        axes, count = problem.axes, len(self.centre)
        active = np.repeat(np.arange(len(self.node)), self.parts.shape[1])
        blend = csr_array((self.shares.ravel(), (self.parts.ravel(), active)), shape=(count, len(self.node)))
        shape = (problem.source_count, count)
        table = csc_array((self.weights, self.members, self.starts), shape=shape)
        return csr_array(kron(table @ blend, eye_array(axes)) if axes > 1 else table @ blend)


def _joined_heads(parts: Sequence[ActiveSets]) -> Array | None:
    """Coordinates of the head at the nodes of several models (node, mode); zeros where a model has no sources."""
    modes = max(0 if one.head is None else one.head.shape[1] for one in parts)
    if not modes:
        return None
    return np.concatenate([np.zeros((len(one.constant), modes)) if one.head is None else one.head for one in parts])
