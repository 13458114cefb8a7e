"""A PyTensor graph as NumPy calls in order, which starts at once.

The same calls as of PyTensor's Python linker, and so the same values; a linker takes ten times as long to set them up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from bayesinv.axes import Array


class _Step(NamedTuple):
    """One node: what to call, and places of what it is given and of what it makes."""

    call: Callable[..., Sequence[Any]]
    given: list[int]
    made: list[int]


class Steps:
    """The nodes of a graph by what they depend on: nothing, which runs once; numbers; values.

    numbers, values : inputs of the graph
    outputs : of the graph
    """

    def __init__(self, numbers: list[Any], values: list[Any], outputs: list[Any]) -> None:
        from pytensor.graph.basic import Constant
        from pytensor.graph.traversal import toposort

        places: dict[Any, int] = {one: i for i, one in enumerate([*numbers, *values])}
        self.numbers, self.values = numbers, values
        self._kept: list[Any] = [None] * len(places)
        # What a variable depends on: 0 for nothing, 1 for numbers alone, 2 for values.
        rank = {**dict.fromkeys(numbers, 1), **dict.fromkeys(values, 2)}
        self._steps: tuple[list[_Step], list[_Step], list[_Step]] = [], [], []

        def place(variable: Any) -> int:
            if variable not in places:
                places[variable] = len(self._kept)
                if variable.owner is not None:
                    self._kept.append(None)
                else:
                    self._kept.append(variable.data if isinstance(variable, Constant) else variable.get_value())
            return places[variable]

        for node in toposort(outputs, blockers=[*numbers, *values]):
            highest = max((rank.get(one, 0) for one in node.inputs), default=0)
            rank.update(dict.fromkeys(node.outputs, highest))
            self._steps[highest].append(
                _Step(_call(node), [place(one) for one in node.inputs], [place(one) for one in node.outputs])
            )
        self._outputs = [place(one) for one in outputs]
        with np.errstate(all="ignore"):
            _take(self._steps[0], self._kept)

    def prepared(self, numbers: list[Array]) -> list[Any]:
        """What `run` wants, given the numbers."""
        kept = list(self._kept)
        kept[: len(numbers)] = [
            np.asarray(one, dtype=into.dtype) for one, into in zip(numbers, self.numbers, strict=True)
        ]
        _take(self._steps[1], kept)
        return kept

    def run(self, prepared: list[Any], values: list[Array]) -> list[Any]:
        """Values of the outputs, which may share memory with what was given."""
        kept, count = list(prepared), len(self.numbers)
        kept[count : count + len(values)] = [
            np.asarray(one, dtype=into.dtype) for one, into in zip(values, self.values, strict=True)
        ]
        _take(self._steps[2], kept)
        return [kept[i] for i in self._outputs]


def _take(steps: list[_Step], kept: list[Any]) -> None:
    """Take steps, each from and into its places."""
    for call, given, made in steps:
        for i, value in zip(made, call(*[kept[j] for j in given]), strict=True):
            kept[i] = value


def _call(node: Any) -> Callable[..., Sequence[Any]]:
    """A function from a node's inputs to its outputs."""
    from pytensor.tensor.elemwise import Elemwise

    op = node.op
    op.prepare_node(node, None, None, "py")
    if isinstance(op, Elemwise) and op.nfunc is not None and not op.inplace_pattern:
        function, (_, given, made) = op.nfunc, op.nfunc_spec
        options = {"sig": node.tag.sig} if hasattr(node.tag, "sig") else {}
        dtype = np.dtype(node.outputs[0].dtype)
        if given == len(node.inputs) and made == 1:
            return lambda *values: (np.asarray(function(*values, **options), dtype=dtype),)

    def perform(*values: Any) -> list[Any]:
        cells: list[list[Any]] = [[None] for _ in node.outputs]
        op.perform(node, list(values), cells)
        return [cell[0] for cell in cells]

    return perform
