"""Loops over points and triangles: solid angles and nearest points, by formulas for one triangle and many samples."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from bayesinv.axes import read_only
from bayesinv.geometry.icosphere import geodesic_sphere
from bayesinv.geometry.triangles import nearest, solid_angles


@pytest.fixture(scope="module")
def bent():
    """Vertices and triangles, some small and some long and thin, of a surface with a hole."""
    sphere = geodesic_sphere(4)
    x, y, z = sphere.vertices.T
    vertices = np.column_stack([0.09 * x + 0.02 * y**2, 0.03 * y, 0.06 * z * (1.2 + np.sin(5 * x))])
    # As `Surface` has them: for arrays that may be written to all would be compiled once more.
    return read_only(vertices), sphere.triangles[7:]


@pytest.fixture(scope="module")
def points(bent):
    """Points far from the surface, near it, and on it."""
    rng, corners = np.random.default_rng(3), bent[0][bent[1]]
    on = np.einsum("tk,tki->ti", rng.dirichlet(np.ones(3), len(corners)), corners)
    return np.vstack([0.1 * rng.normal(size=(40, 3)), on[::5] + 1e-4 * rng.normal(size=(len(on[::5]), 3)), on[::17]])


def test_no_point_of_a_surface_is_nearer_than_the_nearest(bent, points):
    vertices, triangles = bent
    steps = 24
    i, j = (one[np.add(*np.indices((steps + 1, steps + 1))) <= steps] for one in np.indices((steps + 1, steps + 1)))
    samples = np.einsum("qk,tki->tqi", np.column_stack([steps - i - j, i, j]) / steps, vertices[triangles])
    away = np.array([np.linalg.norm(samples - point, axis=2).min() for point in points])
    gap = np.linalg.norm(vertices[triangles] - vertices[np.roll(triangles, 1, axis=1)], axis=2).max() / steps
    which, weights, distance = nearest(read_only(points), vertices, triangles)
    assert (distance <= away * (1 + 1e-12) + 1e-16).all()
    assert (distance >= away - gap).all()
    reached = np.einsum("pk,pki->pi", weights, vertices[triangles[which]])
    assert_allclose(np.linalg.norm(reached - points, axis=1), distance, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_the_solid_angle_of_a_surface_is_the_sum_of_those_of_its_triangles(bent, points, unit):
    # Of a triangle it is the spherical excess: the angles between the planes through the point, less half a turn.
    vertices, triangles = bent
    off = np.vstack([points[:60], 0.4 * vertices[::9]])
    sides = vertices[triangles] - off[:, None, None]
    planes = np.cross(sides, np.roll(sides, -1, axis=2))
    planes /= np.linalg.norm(planes, axis=3, keepdims=True)
    angles = np.pi - np.arccos(np.clip(np.einsum("ptki,ptki->ptk", planes, np.roll(planes, -1, axis=2)), -1, 1))
    wanted = (np.sign(np.linalg.det(sides)) * (angles.sum(axis=2) - np.pi)).sum(axis=1)
    found = solid_angles(read_only(unit * off), read_only(unit * vertices), triangles)
    assert_allclose(found, wanted, rtol=0, atol=1e-5)
    assert np.abs(wanted).max() > 11
