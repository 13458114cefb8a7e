"""Compiled integrals of localised subtraction over the facets of elements around each source.

A source s, an element e and a facet f of it are given by their indices. Results are written into arguments, so that
the loops allocate nothing.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from bayesinv.forward.fem_arrays import Work
from bayesinv.geometry.tetrahedra import FACETS

# Quadrature of degree 8 on a triangle: barycentric points and weights (Dunavant 1985, Int. J. Numer. Methods Eng.
# 21, 1129-1148); each row stands for all its distinct permutations.
_ORBITS = (
    (0.144315607677787, 1 / 3, 1 / 3, 1 / 3),
    (0.095091634267285, 0.081414823414554, 0.459292588292723, 0.459292588292723),
    (0.103217370534718, 0.658861384496480, 0.170569307751760, 0.170569307751760),
    (0.032458497623198, 0.898905543365938, 0.050547228317031, 0.050547228317031),
    (0.027230314174435, 0.008394777409958, 0.263112829634638, 0.728492392955404),
)
_PERMUTATIONS = ((0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 2, 1), (2, 1, 0), (1, 0, 2))
RULE = np.array(
    [
        (*point, weight)
        for weight, *corner in _ORBITS
        for point in sorted({tuple(corner[i] for i in order) for order in _PERMUTATIONS})
    ]
)
SUBDIVISION_DISTANCE = 1.2  # a facet is cut in four while its centroid is nearer than this many of its longest edges
MAX_SUBDIVISIONS = 14  # largest number of times that a facet is halved
STACK_ROWS = 3 * MAX_SUBDIVISIONS + 6  # pieces of a facet still to be integrated, and one working row


@njit(cache=True, nogil=True)
def count_range(start, stop, mesh, dipoles, rings, coils, sizes):  # type: ignore[no-untyped-def]
    """Fill `sizes` for the sources start..stop with the numbers of nodes and facets of each."""
    work = _working_arrays(len(mesh.elements), len(mesh.nodes))
    # Arrays are taken out of tuples outside the loops, here and below: each access costs a reference count.
    elements, across, tensors, local_index, patch_elements = (
        mesh.elements,
        mesh.across,
        mesh.tensors,
        work.local_index,
        work.patch_elements,
    )
    for s in range(start, stop):
        _, total, own, nodes = _list_patch(s, dipoles.host[s], rings, mesh, work)
        jumps = patch = 0
        for i in range(total):
            e = patch_elements[i]
            for f in range(4):
                if not _touches(e, f, own, elements, local_index):
                    continue
                if across[e, f] < 0:
                    patch = own
                if coils and _jumps(e, across[e, f], tensors):
                    jumps += 1
        sizes.columns[s] = nodes
        sizes.jumps[s] = jumps
        sizes.patch[s] = patch


@njit(cache=True, nogil=True)
def fill_range(start, stop, mesh, dipoles, rings, coils, rule, loads):  # type: ignore[no-untyped-def]
    """Write the right-hand sides of the sources start..stop into `loads`, of the sizes from `count_range`."""
    work = _working_arrays(len(mesh.elements), len(mesh.nodes))
    indices, patch_nodes = loads.indices, work.patch_nodes
    for s in range(start, stop):
        counts = _list_patch(s, dipoles.host[s], rings, mesh, work)
        first, nodes = loads.first[s], counts[3]
        for m in range(3):
            for i in range(nodes):
                indices[first + m * nodes + i] = patch_nodes[i]
        _fill_source(s, counts, mesh, dipoles, coils, rule, loads, work)


@njit(cache=True, nogil=True)
def _working_arrays(elements, nodes):  # type: ignore[no-untyped-def]
    """Return the working arrays for a mesh of so many elements and nodes."""
    return Work(
        np.zeros(elements, np.int64),
        np.zeros(nodes, np.int64),
        np.zeros(nodes, np.int64),
        np.empty(elements, np.int64),
        np.empty(nodes, np.int64),
        np.empty((4, 3)),
        np.empty((4, 3)),
        np.empty((3, 3)),
        np.empty((3, 3)),
        np.empty((3, 3)),
        np.empty((STACK_ROWS, 7, 3)),
    )


@njit(cache=True, nogil=True)
def _list_patch(s, host, rings, mesh, work):  # type: ignore[no-untyped-def]
    """List the elements of a source's patch and those around it, and their nodes.

    The patch is `rings` layers of elements of one compartment about the element `host`.

    Returns the numbers of elements in the patch, of elements in all, of nodes of the patch, and of nodes in all.
    """
    element_mark, node_mark, local_index, patch_elements, patch_nodes = (
        work.element_mark,
        work.node_mark,
        work.local_index,
        work.patch_elements,
        work.patch_nodes,
    )
    elements, starts, around, labels = mesh.elements, mesh.starts, mesh.around, mesh.labels
    in_patch, in_ring = 2 * s + 1, 2 * s + 2
    inner, nodes = 1, 0
    patch_elements[0] = host
    element_mark[host] = in_patch
    start = 0
    for ring in range(rings + 1):
        stop = inner
        for i in range(start, stop):
            for k in range(4):
                node = elements[patch_elements[i], k]
                if node_mark[node] == in_patch:
                    continue
                node_mark[node] = in_patch
                local_index[node] = nodes
                patch_nodes[nodes] = node
                nodes += 1
                if ring < rings:
                    for o in range(starts[node], starts[node + 1]):
                        e = around[o]
                        if element_mark[e] != in_patch and labels[e] == labels[host]:
                            element_mark[e] = in_patch
                            patch_elements[inner] = e
                            inner += 1
        start = stop
    own, total = nodes, inner
    for i in range(own):
        for o in range(starts[patch_nodes[i]], starts[patch_nodes[i] + 1]):
            e = around[o]
            if element_mark[e] != in_patch and element_mark[e] != in_ring:
                element_mark[e] = in_ring
                patch_elements[total] = e
                total += 1
    for i in range(inner, total):
        for k in range(4):
            node = elements[patch_elements[i], k]
            if node_mark[node] != in_patch:
                node_mark[node] = in_patch
                local_index[node] = nodes
                patch_nodes[nodes] = node
                nodes += 1
    return inner, total, own, nodes


@njit(cache=True, nogil=True)
def _touches(e, f, own, elements, local_index):  # type: ignore[no-untyped-def]
    """Return whether a facet has a corner among the `own` nodes of the patch."""
    corners = 0
    for k in range(3):
        corners += local_index[elements[e, FACETS[f, k]]] < own
    return corners > 0


@njit(cache=True, nogil=True)
def _differ(tensors, first, second):  # type: ignore[no-untyped-def]
    """Return whether two elements differ in conductivity; beyond the scalp (-1) it is zero."""
    if second < 0:
        return True
    trace = tensors[first, 0, 0] + tensors[first, 1, 1] + tensors[first, 2, 2]
    for a in range(3):
        for b in range(3):
            if abs(tensors[first, a, b] - tensors[second, a, b]) > 1e-10 * trace:
                return True
    return False


@njit(cache=True, nogil=True)
def _jumps(e, beyond, tensors):  # type: ignore[no-untyped-def]
    """Return whether the conductivity jumps between two elements; true for only one of the two that share a facet."""
    return beyond < e and _differ(tensors, e, beyond)


@njit(cache=True, nogil=True)
def _fill_geometry(e, nodes, elements, slope, area):  # type: ignore[no-untyped-def]
    """Fill the gradients of an element's hat functions and the outward area vectors of its facets.

    A facet's area vector is minus three volumes times the gradient of the opposite corner's hat function.
    """
    for k in range(4):
        p, q, r = elements[e, FACETS[k, 0]], elements[e, FACETS[k, 1]], elements[e, FACETS[k, 2]]
        for c in range(3):
            x, y = (c + 1) % 3, (c + 2) % 3
            area[k, c] = 0.5 * (
                (nodes[q, x] - nodes[p, x]) * (nodes[r, y] - nodes[p, y])
                - (nodes[q, y] - nodes[p, y]) * (nodes[r, x] - nodes[p, x])
            )
    volume = 0.0
    for c in range(3):
        volume -= area[0, c] * (nodes[elements[e, 0], c] - nodes[elements[e, 1], c]) / 3
    for k in range(4):
        for c in range(3):
            slope[k, c] = -area[k, c] / (3 * volume)


@njit(cache=True, nogil=True)
def _fill_source(s, counts, mesh, dipoles, coils, rule, loads, work):  # type: ignore[no-untyped-def]
    """Add the integrals over a source's patch and the elements around it to its charges, facet currents and gauge.

    counts : as `_list_patch` returns them
    """
    inner, total, own, nodes = counts
    elements, across, tensors, corners = mesh.elements, mesh.across, mesh.tensors, mesh.nodes
    host, position = dipoles.host[s], dipoles.positions[s]
    inverse, scale = dipoles.inverse[s], dipoles.scale[s]
    element_mark, local_index, patch_elements, slope, area = (
        work.element_mark,
        work.local_index,
        work.patch_elements,
        work.slope,
        work.area,
    )
    integral, corner, moments, stack = work.integral, work.corner, work.moments, work.stack
    charges, first, gauge = loads.charges, loads.first[s], loads.gauge
    middle, current, jump = loads.middle, loads.current, loads.begin[s]
    for i in range(total):
        e = patch_elements[i]
        in_patch = i < inner
        # Where neither chi nor the conductivity varies, the volume integral vanishes.
        has_volume_integral = not in_patch or (e != host and _differ(tensors, e, host))
        _fill_geometry(e, corners, elements, slope, area)
        # The integral of the gradient of chi V0 over the element, from its facets.
        integral[:] = 0.0
        for f in range(4):
            beyond = across[e, f]
            on_patch_boundary = in_patch and (beyond < 0 or element_mark[beyond] != 2 * s + 1)
            jumps = coils and _jumps(e, beyond, tensors)
            has_potential = (beyond < 0 or has_volume_integral or jumps) and _touches(e, f, own, elements, local_index)
            if not (on_patch_boundary or has_potential):
                continue
            for k in range(3):
                for c in range(3):
                    corner[k, c] = corners[elements[e, FACETS[f, k]], c] - position[c]
            if on_patch_boundary:
                _facet_moments(corner, inverse, area[f], True, rule, stack, moments)
                for k in range(3):
                    entry = first + local_index[elements[e, FACETS[f, k]]]
                    for m in range(3):
                        charges[entry + m * nodes] -= scale * moments[k, m]
            if has_potential:
                _facet_moments(corner, inverse, area[f], False, rule, stack, moments)
                mean = _mean_potential(e, f, own, elements, local_index, moments, scale)
                size = np.sqrt(area[f, 0] ** 2 + area[f, 1] ** 2 + area[f, 2] ** 2)
                for m in range(3):
                    for c in range(3):
                        integral[c, m] += area[f, c] * mean[m]
                    if beyond < 0:
                        gauge[s, m] += size * mean[m]
                if jumps:
                    _fill_jump(e, beyond, tensors, area[f], mean, current[jump])
                    for c in range(3):
                        middle[jump, c] = position[c] + (corner[0, c] + corner[1, c] + corner[2, c]) / 3
                    jump += 1
        if has_volume_integral:
            for m in range(3):
                excess = _excess_current(e, host if in_patch else -1, tensors, integral, m)
                for k in range(4):
                    entry = first + local_index[elements[e, k]] + m * nodes
                    charges[entry] -= slope[k, 0] * excess[0] + slope[k, 1] * excess[1] + slope[k, 2] * excess[2]


@njit(cache=True, nogil=True)
def _mean_potential(e, f, own, elements, local_index, moments, scale):  # type: ignore[no-untyped-def]
    """Return the mean of chi V0 over a facet, one number per moment."""
    first = second = third = 0.0
    for k in range(3):
        if local_index[elements[e, FACETS[f, k]]] < own:
            first += scale * moments[k, 0]
            second += scale * moments[k, 1]
            third += scale * moments[k, 2]
    return first, second, third


@njit(cache=True, nogil=True)
def _fill_jump(e, beyond, tensors, area, mean, current):  # type: ignore[no-untyped-def]
    """Fill the current (3, moment) of the subtracted potential at a conductivity jump."""
    for a in range(3):
        drive = 0.0
        for b in range(3):
            outer = tensors[beyond, a, b] if beyond >= 0 else 0.0
            drive += (tensors[e, a, b] - outer) * area[b]
        for m in range(3):
            current[a, m] = drive * mean[m]


@njit(cache=True, nogil=True)
def _excess_current(e, host, tensors, integral, m):  # type: ignore[no-untyped-def]
    """Return the current (sigma - sigma0) grad(chi V0) of an element; sigma0 is zero if `host` is negative."""
    x = y = z = 0.0
    for b in range(3):
        if host >= 0:
            x += (tensors[e, 0, b] - tensors[host, 0, b]) * integral[b, m]
            y += (tensors[e, 1, b] - tensors[host, 1, b]) * integral[b, m]
            z += (tensors[e, 2, b] - tensors[host, 2, b]) * integral[b, m]
        else:
            x += tensors[e, 0, b] * integral[b, m]
            y += tensors[e, 1, b] * integral[b, m]
            z += tensors[e, 2, b] * integral[b, m]
    return x, y, z


@njit(cache=True, nogil=True)
def _facet_moments(corner, inverse, normal, flux, rule, stack, out):  # type: ignore[no-untyped-def]
    """Fill out (corner, moment) with the mean over a facet of each corner's hat function times a kernel.

    The kernel is s / r³, or with `flux` normal / r³ - 3 s (d . normal) / r⁵; d from the source, s = inverse d,
    r² = d . s. Pieces near the source are cut in four until they are small against their distance.
    """
    for i in range(3):
        for j in range(3):
            stack[0, i, j] = corner[i, j]
            stack[0, 3 + i, j] = 1.0 if i == j else 0.0
    stack[0, 6, 0] = 1.0
    out[:] = 0.0
    top = 1
    while top > 0:
        top -= 1
        if _needs_subdivision(stack, top):
            _subdivide(stack, top)
            top += 4
            continue
        share = stack[top, 6, 0]
        for q in range(len(rule)):
            d = (
                rule[q, 0] * stack[top, 0, 0] + rule[q, 1] * stack[top, 1, 0] + rule[q, 2] * stack[top, 2, 0],
                rule[q, 0] * stack[top, 0, 1] + rule[q, 1] * stack[top, 1, 1] + rule[q, 2] * stack[top, 2, 1],
                rule[q, 0] * stack[top, 0, 2] + rule[q, 1] * stack[top, 1, 2] + rule[q, 2] * stack[top, 2, 2],
            )
            s0 = inverse[0, 0] * d[0] + inverse[0, 1] * d[1] + inverse[0, 2] * d[2]
            s1 = inverse[1, 0] * d[0] + inverse[1, 1] * d[1] + inverse[1, 2] * d[2]
            s2 = inverse[2, 0] * d[0] + inverse[2, 1] * d[1] + inverse[2, 2] * d[2]
            square = d[0] * s0 + d[1] * s1 + d[2] * s2
            weight = share * rule[q, 3] / (square * np.sqrt(square))
            if flux:
                along = 3 * (d[0] * normal[0] + d[1] * normal[1] + d[2] * normal[2]) / square
                s0, s1, s2 = normal[0] - along * s0, normal[1] - along * s1, normal[2] - along * s2
            for k in range(3):
                hat_weight = weight * (
                    rule[q, 0] * stack[top, 3, k] + rule[q, 1] * stack[top, 4, k] + rule[q, 2] * stack[top, 5, k]
                )
                out[k, 0] += hat_weight * s0
                out[k, 1] += hat_weight * s1
                out[k, 2] += hat_weight * s2


@njit(cache=True, nogil=True)
def _needs_subdivision(stack, top):  # type: ignore[no-untyped-def]
    """Return whether a piece of a facet is too close to the source for the rule, and not too small to be cut."""
    distance = 0.0
    longest = 0.0
    for i in range(3):
        j = (i + 1) % 3
        edge = 0.0
        for c in range(3):
            edge += (stack[top, i, c] - stack[top, j, c]) ** 2
        longest = max(longest, edge)
    for c in range(3):
        distance += ((stack[top, 0, c] + stack[top, 1, c] + stack[top, 2, c]) / 3) ** 2
    return distance < SUBDIVISION_DISTANCE**2 * longest and stack[top, 6, 0] > 0.25**MAX_SUBDIVISIONS


@njit(cache=True, nogil=True)
def _subdivide(stack, top):  # type: ignore[no-untyped-def]
    """Replace a piece by its four quarters, in its row and the three above; the last row is working space."""
    share = stack[top, 6, 0]
    # Midpoints of the edges, then the three corner pieces and, in the row of the piece, the middle one.
    for i in range(3):
        j = (i + 1) % 3
        for part in range(0, 6, 3):
            for c in range(3):
                stack[-1, part + i, c] = (stack[top, part + i, c] + stack[top, part + j, c]) / 2
    for i in range(3):
        k = (i + 2) % 3
        for part in range(0, 6, 3):
            for c in range(3):
                stack[top + 1 + i, part, c] = stack[top, part + i, c]
                stack[top + 1 + i, part + 1, c] = stack[-1, part + i, c]
                stack[top + 1 + i, part + 2, c] = stack[-1, part + k, c]
        stack[top + 1 + i, 6, 0] = share / 4
    for i in range(6):
        for c in range(3):
            stack[top, i, c] = stack[-1, i, c]
    stack[top, 6, 0] = share / 4
