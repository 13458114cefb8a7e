"""Arrays that the compiled loops of localised subtraction read and write, by name."""

from __future__ import annotations

from typing import NamedTuple

from bayesinv.axes import Array, Index


class Mesh(NamedTuple):
    """What the loops read of a mesh.

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
    """Where the sources lie, and the unbounded conductor around each.

    positions : (source, 3), m
    home : (source,), the element that holds each
    inverse : (source, 3, 3), m/S, inverse tensor of that element
    scale : (source,), 1/(4 pi sqrt(det tensor))
    """

    positions: Array
    home: Index
    inverse: Array
    scale: Array


class Sizes(NamedTuple):
    """How much room each source wants.

    columns : (source,), nodes of its patch and of the elements around
    jumps : (source,), facets where the conductivity jumps, as far as coils see them
    patch : (source,), nodes of the patch where it reaches the scalp, else 0
    """

    columns: Index
    jumps: Index
    patch: Index


class Loads(NamedTuple):
    """The right-hand sides, see `bayesinv.forward.fem_subtraction.Split`.

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

    mark : (element,), 2 s + 1 in the patch of source s, 2 s + 2 around it
    seen : (node,), 2 s + 1 where listed for source s
    place : (node,), where in the list
    found : (element,), elements of the patch first, then those around
    listed : (node,), nodes of the patch first
    slope, area : (4, 3), gradients of an element's hat functions, and outward normals times area of its facets
    integral : (3, moment), of the gradient of the split-off potential over an element
    corner : (3, 3), m, corners of a facet seen from the source
    moments : (3, moment), integrals over a facet, by corner
    stack : (piece, 7, 3), pieces of a facet: corners, their barycentric coordinates, share of the area
    """

    mark: Index
    seen: Index
    place: Index
    found: Index
    listed: Index
    slope: Array
    area: Array
    integral: Array
    corner: Array
    moments: Array
    stack: Array
