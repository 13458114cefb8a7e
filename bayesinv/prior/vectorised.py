"""PyMC's prior as a NumPy function of many hyperparameters, made once for every kind of graph."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from threading import Lock
from typing import Any

import numpy as np

from bayesinv.axes import Array
from bayesinv.memory import Memory
from bayesinv.prior.graphs import GRAPH_LOCK
from bayesinv.prior.steps import Steps

GRAPH_FUNCTIONS = Memory("functions of graphs", max_bytes=2**27, min_entry_bytes=2**18)
"""Functions by the form of their model, so that problems of any units and numbers share them.

The memory of a function cannot be measured; each counts a quarter of a megabyte.
"""


def vectorised(
    inputs: list[Any], outputs: list[Any], *, simplified: bool = False
) -> Callable[[list[Array], int], list[Array]]:
    """Return a function from inputs (node, ...), and the number of nodes, to values of graphs (node, ...).

    It may be called from several threads. Shared variables keep the values that they have now.

    simplified : whether PyTensor simplifies the graphs first, which costs the time of a hundred calls
    """
    return with_numbers(inputs, outputs, [], simplified=simplified)([])


def with_numbers(
    inputs: list[Any], outputs: list[Any], numbers: list[Any], *, simplified: bool = False
) -> Callable[[list[Array]], Callable[[list[Array], int], list[Array]]]:
    """Return a function from values of some inputs, one for all nodes, to the function that `vectorised` returns.

    numbers : those inputs, of which `inputs` has none
    """
    import pytensor
    import pytensor.tensor as pt
    from pytensor.graph.replace import vectorize_graph
    from pytensor.graph.rewriting.utils import rewrite_graph

    # Recording a traceback for each node would take half the time.
    with GRAPH_LOCK, pytensor.config.change_flags(traceback__limit=0):
        batch = [pt.tensor(one.name, shape=(None, *one.type.shape), dtype=one.dtype) for one in inputs]
        simple: Any = rewrite_graph(outputs, include=("canonicalize",)) if simplified else outputs
        graphs = vectorize_graph(list(simple), replace=dict(zip(inputs, batch, strict=True)))
        graphs = _by_numpy([*numbers, *batch], _fixed(list(graphs)))
        steps = Steps(numbers, batch, graphs)
    # A node may hold a compiled function, so that one thread at a time may run it.
    one_at_a_time = Lock()
    # A graph that depends on no input has one value for all nodes.
    same = [graph.type.ndim == output.ndim for graph, output in zip(graphs, outputs, strict=True)]

    def of(given: list[Array]) -> Callable[[list[Array], int], list[Array]]:
        with one_at_a_time, np.errstate(all="ignore"):
            prepared = steps.prepared(given)

        def at(values: list[Array], count: int) -> list[Array]:
            with one_at_a_time, np.errstate(all="ignore"):
                # Copies: a value may be a view of what was given.
                found = [np.array(value, dtype=float) for value in steps.run(prepared, values)]
            return [
                np.broadcast_to(value, (count, *value.shape)) if one else value
                for value, one in zip(found, same, strict=True)
            ]

        return at

    return of


def _fixed(graphs: list[Any]) -> list[Any]:
    """Return graphs with shared variables, lengths of dims for example, made constants.

    Graphs of what stands in for the inputs: a random variable whose length is replaced would be drawn anew in place of
    being given.
    """
    import pytensor.tensor as pt
    from pytensor.compile.sharedvalue import SharedVariable
    from pytensor.graph.replace import graph_replace
    from pytensor.graph.traversal import ancestors

    shared = [one for one in ancestors(graphs) if isinstance(one, SharedVariable) and hasattr(one.type, "ndim")]
    values: dict[Any, Any] = {one: pt.constant(one.get_value(), dtype=one.type.dtype) for one in shared}
    return list(graph_replace(graphs, values, strict=False)) if values else graphs


def _by_numpy(inputs: list[Any], graphs: list[Any]) -> list[Any]:
    """Return the graphs without softplus, fill, views, and sums and products of none or more than two.

    These the Python linker would evaluate number by number, or for nothing.
    """
    import pytensor.tensor as pt
    from pytensor.compile.ops import ViewOp
    from pytensor.graph.basic import clone
    from pytensor.graph.fg import FunctionGraph

    _, copies = clone(inputs, graphs, copy_inputs=False, copy_orphans=False)
    whole = FunctionGraph(outputs=copies, clone=False)
    for node in whole.toposort():
        kind, given, new = type(getattr(node.op, "scalar_op", None)).__name__, node.inputs, None
        if kind == "Softplus":
            new = pt.maximum(given[0], 0.0) + pt.log1p(pt.exp(-pt.abs(given[0])))
        elif kind == "Second":
            new = pt.switch(pt.eq(given[0], given[0]), given[1], given[1])
        elif kind in ("Add", "Mul") and len(given) > 2:
            new = reduce(node.op, given)
        elif isinstance(getattr(node.op, "core_op", None), ViewOp) or getattr(node.op, "axis", None) == ():
            new = given[0] if given[0].type.dtype == node.outputs[0].type.dtype else None
        if new is not None:
            whole.replace(node.outputs[0], new, import_missing=True)
    return list(whole.outputs)


def with_lambda(hyper: dict[str, Array], variance: Array, noise: Array, mean_power: float) -> dict[str, Array]:
    """Return the hyperparameters with "lambda" (noise² / variance, 1/(A m)²) and "snr" (amplitude ratio per component).

    mean_power : trace(G D Gᵀ) per component: the power that currents of unit variance have in a component
    """
    with np.errstate(divide="ignore"):
        return {
            **hyper,
            "lambda": noise**2 / variance,
            "snr": np.sqrt(variance * mean_power) / noise,
        }
