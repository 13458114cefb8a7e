"""Surfaces and tetrahedra: the geometry a head is made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayesinv.axes import Array, Index, freeze, real


@dataclass(frozen=True, eq=False)
class Surface:
    """A triangulated surface.

    vertices : (vertex, 3), m
    triangles : (triangle, 3), indices of vertices, counter-clockwise seen from outside
    """

    vertices: Array
    triangles: Index

    def __post_init__(self) -> None:
        object.__setattr__(self, "vertices", real("vertices", self.vertices, "vertex 3"))
        object.__setattr__(self, "triangles", _corners("triangles", self.triangles, 3, len(self.vertices)))
        freeze(self.vertices, self.triangles)


@dataclass(frozen=True, eq=False)
class Tetrahedra:
    """A conforming tetrahedral mesh with a compartment label per element.

    nodes : (node, 3), m
    elements : (element, 4), indices of nodes
    labels : (element,), 0 for the innermost compartment and so on outwards
    """

    nodes: Array
    elements: Index
    labels: Index

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", real("nodes", self.nodes, "node 3"))
        object.__setattr__(self, "elements", _corners("elements", self.elements, 4, len(self.nodes)))
        labels = np.asarray(self.labels, dtype=np.int64)
        if labels.shape != (len(self.elements),):
            raise ValueError(f"labels has shape {labels.shape}, but elements has element = {len(self.elements)}")
        object.__setattr__(self, "labels", labels)
        freeze(self.nodes, self.elements, self.labels)


def _corners(name: str, value: Index, corners: int, nodes: int) -> Index:
    """Return element corners as integers, checked against the number of nodes."""
    array = np.asarray(value, dtype=np.int64)
    if array.ndim != 2 or array.shape[1] != corners:
        raise ValueError(f"{name} has shape {array.shape}, but wants (element, {corners})")
    if array.size and (array.min() < 0 or array.max() >= nodes):
        raise ValueError(f"{name} name node {array.max()}, but there are {nodes}")
    return array
