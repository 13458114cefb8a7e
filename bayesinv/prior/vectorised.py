"""PyMC's prior as a NumPy function of many hyperparameters, made once for every kind of graph."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import reduce
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesinv.axes import Array
from bayesinv.memory import Memory
from bayesinv.prior.graphs import GRAPH_LOCK

if TYPE_CHECKING:
    import pymc as pm


GRAPH_FUNCTIONS = Memory("functions of graphs", max_bytes=2**27, min_entry_bytes=2**18)
"""Functions by the signature of their graphs, so that recordings of the same sensors and sources share them.

The memory of a compiled function cannot be measured; each counts a quarter of a megabyte.
"""


def signature(model: pm.Model, graphs: list[Any]) -> Hashable | None:
    """Return a hashable description of a model's prior and some of its graphs; None where there is none.

    Two models of one signature have the same names, priors, transforms and constants, so that functions compiled for
    one serve the other.
    """
    notes = _Notes([])
    visit = notes.visit

    priors = []
    for variable in model.free_RVs:
        transform = model.rvs_to_transforms[variable]
        bounds = getattr(transform, "args_fn", None)
        inside = tuple(repr(cell.cell_contents) for cell in getattr(bounds, "__closure__", None) or ())
        priors.append((variable.name, type(transform), getattr(bounds, "__code__", None), inside, visit(variable)))
    outputs = [*model.deterministics, *model.potentials, *graphs]
    found = (tuple(priors), tuple((one.name, visit(one)) for one in outputs), tuple(notes.lines))
    custom_start = any(one is not None for one in model.rvs_to_initial_values.values())
    try:
        hash(found)
    except TypeError:
        return None
    return None if custom_start or set(model.basic_RVs) - {*model.free_RVs, *model.observed_RVs} else found


class _Notes:
    """Numbered notes on the variables of a graph, so that two graphs of the same notes compute the same.

    inputs : variables of which the graph is a function
    """

    def __init__(self, inputs: list[Any]) -> None:
        self.numbers: dict[Any, int] = {one: i for i, one in enumerate(inputs)}
        self.lines: list[Hashable] = [str(one.type) for one in inputs]

    def visit(self, variable: Any) -> int:
        """Number of a variable, which gets a note if it has none."""
        from pytensor.compile.sharedvalue import SharedVariable
        from pytensor.graph.basic import Constant

        if variable in self.numbers:
            return self.numbers[variable]
        if variable.owner is not None:
            inputs = tuple(self.visit(one) for one in variable.owner.inputs)
            note: Hashable = (_operation(variable.owner.op), inputs, variable.owner.outputs.index(variable))
        elif isinstance(variable, Constant):
            value = variable.data
            note = (str(variable.type), value.tobytes() if isinstance(value, np.ndarray) else repr(value))
        elif "andom" in type(variable.type).__name__:
            note = "random numbers"
        elif isinstance(variable, SharedVariable) and isinstance(value := variable.get_value(borrow=True), np.ndarray):
            # Lengths of dims, say: every model has its own, and `vectorised` takes them as they are.
            note = ("shared", str(variable.type), value.tobytes())
        else:
            note = id(variable)
        self.numbers[variable] = len(self.lines)
        self.lines.append(note)
        return self.numbers[variable]


def _operation(op: Any) -> Hashable:
    """An operation; of one that is made of a graph (HalfCauchy, say), its class and the notes on that graph.

    Operations made of two copies of a graph do not compare equal.
    """
    graph = getattr(op, "fgraph", None)
    if graph is None:
        return op
    inside = _Notes(graph.inputs)
    return type(op), tuple(inside.visit(one) for one in graph.outputs), tuple(inside.lines)


def vectorised(
    inputs: list[Any], outputs: list[Any], *, simplified: bool = False
) -> Callable[[list[Array], int], list[Array]]:
    """Return a function from inputs (node, ...), and the number of nodes, to values of graphs (node, ...).

    It may be called from several threads. Shared variables keep the values that they have now.

    simplified : whether PyTensor simplifies the graphs first, which costs the time of a hundred calls
    """
    import pytensor
    import pytensor.tensor as pt
    from pytensor.compile.mode import Mode
    from pytensor.graph.replace import vectorize_graph
    from pytensor.graph.rewriting.basic import dfs_rewriter
    from pytensor.graph.rewriting.utils import rewrite_graph
    from pytensor.tensor.rewriting.basic import constant_folding

    with GRAPH_LOCK:
        # Recording a traceback for each node would take half the time.
        with pytensor.config.change_flags(traceback__limit=0):
            batch = [pt.tensor(one.name, shape=(None, *one.type.shape), dtype=one.dtype) for one in inputs]
            simple: Any = rewrite_graph(outputs, include=("canonicalize",)) if simplified else outputs
            graphs = vectorize_graph(list(simple), replace=dict(zip(inputs, batch, strict=True)))
            graphs = _by_numpy(batch, _fixed(list(graphs)))
        # What depends on no input is computed once.
        folded = Mode(linker="py", optimizer=dfs_rewriter(constant_folding))
        run = pytensor.function(batch, graphs, mode=folded, on_unused_input="ignore")
    # A compiled function holds its working arrays, so that one thread at a time may call it.
    one_at_a_time = Lock()
    # A graph that depends on no input has one value for all nodes.
    same = [graph.type.ndim == output.ndim for graph, output in zip(graphs, outputs, strict=True)]

    def at(values: list[Array], count: int) -> list[Array]:
        with one_at_a_time, np.errstate(all="ignore"):
            found = [np.asarray(value, dtype=float) for value in run(*values)]
        return [
            np.broadcast_to(value, (count, *value.shape)) if one else value
            for value, one in zip(found, same, strict=True)
        ]

    return at


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
    """Return the graphs without softplus, fill, and sums and products of more than two.

    These the Python linker would evaluate number by number.
    """
    import pytensor.tensor as pt
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
