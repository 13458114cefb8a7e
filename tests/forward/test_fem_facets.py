"""Finite elements: stiffness, integrals over facets near a source, and the reciprocity that ties them together."""

import numpy as np
import pytest
from forward_laws import (
    CONDUCTIVITIES,
    NAMES,
    average,
    electrodes,
    sources,
)
from numpy.testing import assert_allclose
from scipy.sparse.linalg import splu

from bayesinv.forward import fem_assembly, fem_dipoles, fem_facets, fem_subtraction, fem_transfer
from bayesinv.geometry.shells import nested_spheres
from bayesinv.geometry.tetrahedra import positive
from bayesinv.head.head import Head
from bayesinv.head.sensors import project_to_scalp


def test_the_stiffness_of_one_element_is_known():
    nodes = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    matrix = fem_assembly.stiffness(nodes, np.array([[0, 1, 2, 3]]), 2 * np.eye(3)[None]).toarray()
    slope = np.array([[-1.0, -1, -1], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    assert_allclose(matrix, 2 / 6 * slope @ slope.T, atol=1e-15)


def test_the_triangle_rule_has_degree_eight():
    from math import factorial

    points, weights = fem_facets.RULE[:, :3], fem_facets.RULE[:, 3]
    assert len(weights) == 16
    for i, j in ((0, 0), (8, 0), (4, 4), (3, 5), (2, 1)):
        wanted = 2 * factorial(i) * factorial(j) / factorial(i + j + 2)
        assert_allclose(weights @ (points[:, 0] ** i * points[:, 1] ** j), wanted, rtol=1e-12)


@pytest.mark.parametrize("height", [3e-3, 2e-4])
@pytest.mark.parametrize("flow", [False, True])
def test_facets_near_a_source_are_integrated(height, flow):
    corner = np.array([[-1e-3, -2e-3, height], [3e-3, -1e-3, height], [0.5e-3, 3e-3, height]])
    normal = np.cross(corner[1] - corner[0], corner[2] - corner[0]) / 2
    inverse = np.linalg.inv(np.array([[0.4, 0.1, 0], [0.1, 0.3, 0.05], [0, 0.05, 0.2]]))
    out, stack = np.zeros((3, 3)), np.zeros((3 * fem_facets.MAX_SUBDIVISIONS + 6, 7, 3))
    fem_facets._facet_moments(corner, inverse, normal, flow, fem_facets.RULE, stack, out)
    # Gauss points in both directions of a square that folds onto the triangle.
    x, w = np.polynomial.legendre.leggauss(400)
    x, w = (x + 1) / 2, w / 2
    a, b = np.meshgrid(x, x, indexing="ij")
    bary = np.stack([1 - a, a * (1 - b), a * b], axis=-1).reshape(-1, 3)
    weight = (2 * np.outer(w * x, w)).ravel()
    d = bary @ corner
    s = d @ inverse
    square = np.einsum("pi,pi->p", d, s)
    kernel = s if not flow else normal - 3 * s * (d @ normal / square)[:, None]
    brute = np.einsum("p,pk,pi->ki", weight / square**1.5, bary, kernel)
    assert_allclose(out, brute, atol=1e-4 * np.abs(brute).max())


@pytest.mark.parametrize("source_model", fem_transfer.SOURCE_MODELS)
def test_reciprocity_the_transfer_matrix_is_the_solution(source_model):
    # The potential solved for one source, read at the electrodes, is the gain made from one solve per electrode.
    radii = (0.07, 0.08, 0.09)
    head = Head(NAMES, CONDUCTIVITIES, radii=radii, mesh=nested_spheres(radii, 0.02, (0, 1, 1)))
    solved = fem_transfer.transfer(head, electrodes(5, 0.09), solver="cg", tolerance=1e-12)
    mesh = head.mesh
    dipoles = sources(0.5, 2, radius=0.07)
    host = fem_dipoles.locate(mesh, [0], dipoles.positions, "brain")
    if source_model == "subtraction":
        elements = positive(mesh)
        owned = fem_subtraction.elements_of_nodes(elements, len(mesh.nodes))
        right = fem_subtraction.split_dipoles(
            mesh, elements, solved.across, owned, solved.tensors, dipoles.positions, host, False
        ).monopoles
    elif source_model == "venant":
        right = fem_dipoles.venant(mesh, [0], dipoles.positions)
    else:
        right = fem_dipoles.partial_integration(mesh, host)
    right = right.toarray().T
    assert np.abs(right.sum(axis=0)).max() < 1e-4 * np.abs(right).sum(axis=0).min()
    matrix = fem_assembly.stiffness(mesh.nodes, mesh.elements, solved.tensors)
    solution = np.zeros_like(right)
    solution[1:] = splu(matrix[1:, 1:].tocsc()).solve((right - right.mean(axis=0))[1:])
    foot, weights = project_to_scalp(solved.sensors, solved.scalp)
    read = np.einsum("ek,eks->es", weights, solution[solved.scalp.triangles[foot]])
    gain = solved.lead_field(dipoles, source_model=source_model).gain.reshape(5, 6)
    assert_allclose(average(gain), average(read), rtol=0, atol=1e-5 * np.abs(average(read)).max())
