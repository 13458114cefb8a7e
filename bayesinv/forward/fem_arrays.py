"""Named tuples of the arrays of localised subtraction, for its compiled loops."""

from __future__ import annotations

from typing import NamedTuple

from bayesinv.axes import Array, Index


class Mesh(NamedTuple):
    """The arrays of a mesh.

    nodes : (node, 3), m
    elements : (element, 4), of positive volume
    labels : (element,), compartments
    across : (element, 4), the element beyond the facet opposite to each corner, -1 where there is none
    starts, around : elements around each node, in compressed rows
    tensors : (element, 3, 3), S/m
    """

    nodes: Array
    elements: Index
    labels: Index
    across: Index
    starts: Index
    around: Index
    tensors: Array


class Dipoles(NamedTuple):
    """Positions of the sources, and the unbounded conductor of each.

    positions : (source, 3), m
    host : (source,), the element that holds each
    inverse : (source, 3, 3), m/S, inverse tensor of that element
    scale : (source,), 1/(4 pi sqrt(det tensor))
    """

    positions: Array
    host: Index
    inverse: Array
    scale: Array


class Sizes(NamedTuple):
    """Sizes of the right-hand sides of each source.

    columns : (source,), number of nodes of its patch and of the elements around
    jumps : (source,), number of facets with a conductivity jump; 0 without coils
    patch : (source,), number of nodes of the patch if it touches the scalp, else 0
    """

    columns: Index
    jumps: Index
    patch: Index


class Loads(NamedTuple):
    """The right-hand sides, see `bayesinv.forward.fem_subtraction.SubtractionLoads`.

    first : (source + 1,), where the charges of each source begin
    indices, charges : (charge,), nodes, and 1/m; all nodes of the first moment, then of the second and the third
    begin : (source + 1,), where the facets of each source begin
    middle, current : (facet, 3) m, (facet, 3, moment)
    gauge : (source, 3)
    """

    first: Index
    indices: Index
    charges: Array
    begin: Index
    middle: Array
    current: Array
    gauge: Array


class Work(NamedTuple):
    """Working arrays, reused for every source.

    element_mark : (element,), 2 s + 1 in the patch of source s, 2 s + 2 around it
    node_mark : (node,), 2 s + 1 if listed for source s
    local_index : (node,), index in the list
    patch_elements : (element,), list of elements: those of the patch, then those around
    patch_nodes : (node,), list of nodes: those of the patch, then those around
    slope, area : (4, 3), gradients of an element's hat functions, and outward normals times area of its facets
    integral : (3, moment), of the gradient of the subtracted potential over an element
    corner : (3, 3), m, corners of a facet relative to the source
    moments : (3, moment), integrals over a facet, by corner
    stack : (piece, 7, 3), pieces of a facet: corners, their barycentric coordinates, share of the area
    """

    element_mark: Index
    node_mark: Index
    local_index: Index
    patch_elements: Index
    patch_nodes: Index
    slope: Array
    area: Array
    integral: Array
    corner: Array
    moments: Array
    stack: Array
