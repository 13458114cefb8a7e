"""Meshes: geodesic spheres, tetrahedra between surfaces, files, voxels, and what is refused at the door."""

import sys

import meshio
import nibabel
import numpy as np
import pytest
from numpy.testing import assert_allclose

from bayesinv.geometry.any_surface import tetrahedralise_any
from bayesinv.geometry.icosphere import geodesic_sphere
from bayesinv.geometry.mesh_files import from_labels, read_mesh
from bayesinv.geometry.repair import closed
from bayesinv.geometry.shells import nested_spheres, tetrahedralise
from bayesinv.geometry.surfaces import Surface, enclosed_volume, inside, nearest, vertex_normals
from bayesinv.geometry.tetrahedra import (
    Tetrahedra,
    boundary,
    check_mesh,
    describe,
    largest,
    neighbours,
    positive,
    quality,
    volumes,
)

RADII = (0.07, 0.075, 0.085)


def potato(radius, frequency, centre=(0.01, 0.02, -0.01)):
    """A star-shaped surface without symmetry."""
    sphere = geodesic_sphere(frequency)
    x, y, z = sphere.vertices.T
    swell = 1 + 0.12 * x**2 - 0.1 * y * z + 0.06 * np.sin(4 * x + 2 * z)
    return Surface(radius * swell[:, None] * sphere.vertices * [1, 1.2, 0.95] + centre, sphere.triangles)


@pytest.fixture(scope="module")
def spheres():
    return nested_spheres(RADII, 0.012, (0, 1, 1))


@pytest.fixture(scope="module")
def potatoes():
    return [potato(0.07, 9), potato(0.076, 7), potato(0.088, 11)]


@pytest.fixture(scope="module")
def filled(potatoes):
    return tetrahedralise(potatoes, 0.011, (0, 1, 2))


# --- surfaces


@pytest.mark.parametrize("frequency", [1, 2, 5, 8])
def test_a_geodesic_sphere_has_euler_and_the_volume_of_a_ball_in_the_limit(frequency):
    sphere = geodesic_sphere(frequency)
    assert sphere.vertices.shape == (10 * frequency**2 + 2, 3)
    assert sphere.triangles.shape == (20 * frequency**2, 3)
    assert_allclose(np.linalg.norm(sphere.vertices, axis=1), 1, rtol=1e-14)
    deficit = 1 - enclosed_volume(sphere) / (4 / 3 * np.pi)
    assert 0.3 < deficit * frequency**2 < 0.6
    assert_allclose(vertex_normals(sphere), sphere.vertices, atol=0.02)


def test_a_geodesic_sphere_without_edges_is_refused():
    with pytest.raises(ValueError, match="frequency is 0, but must be 1 or more"):
        geodesic_sphere(0)


def test_inside_agrees_with_the_winding_number(potatoes):
    surface = potatoes[0]
    middle = surface.vertices.mean(axis=0)
    points = middle + np.array([0.9, 1.1])[:, None, None] * (surface.vertices - middle)
    assert inside(surface, points[0]).all()
    assert not inside(surface, points[1]).any()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda v, t: (v, t[1:]), "skull is open: 3 edges belong to one triangle"),
        (lambda v, t: (v, np.vstack([t, t[:1]])), "touches itself: 3 edges belong to more than two"),
        (lambda v, t: (np.vstack([v, v + 0.3]), np.vstack([t, t + len(v)])), "has 2 separate pieces"),
        (lambda v, t: (np.vstack([v, v[:2] / 2]), t), "2 vertices that are in no triangle"),
        (lambda v, t: (v[:-1], np.where(t == len(v) - 1, 0, t)), "touches itself in a vertex"),
        (lambda v, t: (v, t[:0]), "skull has no triangles"),
        (lambda v, t: (1e3 * v, t), "looks like mm"),
    ],
    ids=["open", "manifold", "pieces", "unused", "pinched", "empty", "millimetres"],
)
def test_a_surface_that_bounds_nothing_is_refused(spoil, message):
    sphere = geodesic_sphere(2)
    with pytest.raises(ValueError, match=message):
        closed(Surface(*spoil(0.09 * sphere.vertices, sphere.triangles)), "skull")


@pytest.mark.parametrize("which", [slice(None), slice(0, 1), slice(5, 40)])
def test_triangles_that_face_inwards_are_flipped(which):
    sphere = geodesic_sphere(2)
    good = Surface(0.09 * sphere.vertices, sphere.triangles)
    assert closed(good) is good
    triangles = sphere.triangles.copy()
    triangles[which] = triangles[which, ::-1]
    with pytest.warns(UserWarning, match=rf"skull: {len(triangles[which])} of 80 triangles were turned inwards"):
        oriented = closed(Surface(good.vertices, triangles), "skull")
    assert_allclose(enclosed_volume(oriented), enclosed_volume(good))


def test_a_surface_with_a_handle_is_refused_where_a_sphere_is_wanted():
    # A torus: every corner of a grid has the index of its two angles.
    around, along = (2 * np.pi * k / 12 for k in np.meshgrid(np.arange(12), np.arange(12), indexing="ij"))
    ring = 0.06 + 0.02 * np.cos(along)
    corners = np.stack([ring * np.cos(around), ring * np.sin(around), 0.02 * np.sin(along)], axis=-1).reshape(-1, 3)
    index = np.arange(144).reshape(12, 12)
    right, up = np.roll(index, -1, axis=0), np.roll(index, -1, axis=1)
    distance = np.roll(right, -1, axis=1)
    triangles = np.concatenate(
        [np.stack(c, axis=-1).reshape(-1, 3) for c in ((index, right, distance), (index, distance, up))]
    )
    torus = Surface(corners, triangles)
    assert closed(torus, handles=True) is torus
    with pytest.raises(ValueError, match=r"has a handle .*triangles = 0, a sphere has 2"):
        closed(torus)


# --- nested surfaces


def test_spheres_are_filled_and_no_element_crosses_an_interface(spheres):
    across = check_mesh(spheres)
    radius = np.linalg.norm(spheres.nodes, axis=1)[spheres.elements]
    for k, (low, high) in enumerate(zip((0, *RADII), RADII, strict=False)):
        mine = radius[spheres.labels == k]
        assert mine.min() >= low - 1e-12
        assert mine.max() <= high + 1e-12
    # Every facet between two compartments has its corners on the sphere between them.
    other = np.where(across >= 0, spheres.labels[across], -1)
    element, corner = np.nonzero((across >= 0) & (other > spheres.labels[:, None]))
    facet = np.delete(np.arange(4)[None].repeat(4, 0), np.arange(0, 16, 5)).reshape(4, 3)[corner]
    assert_allclose(
        np.take_along_axis(radius[element], facet, axis=1),
        np.asarray(RADII)[spheres.labels[element]][:, None].repeat(3, 1),
        rtol=1e-12,
    )


def test_compartments_of_spheres_have_their_volumes_but_for_the_facets(spheres):
    found = np.cumsum(np.bincount(spheres.labels, volumes(spheres)))
    assert_allclose(found, 4 / 3 * np.pi * np.asarray(RADII) ** 3, rtol=0.02)
    assert_allclose(found[-1], enclosed_volume(boundary(spheres)), rtol=1e-12)
    skin = boundary(spheres)
    used, triangles = np.unique(skin.triangles, return_inverse=True)
    closed(Surface(skin.vertices[used], triangles.reshape(-1, 3)))


def test_slivers_are_removed(spheres, filled):
    for mesh in (spheres, filled):
        grade = quality(mesh)
        assert grade.min() > 0.05
        assert np.median(grade) > 0.75
    assert "(" in describe(spheres)["elements"]
    assert describe(spheres)["nodes"] == str(len(spheres.nodes))


def test_quality_is_one_for_a_regular_tetrahedron():
    regular = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 0.02
    assert_allclose(quality(Tetrahedra(regular, [[0, 1, 2, 3]], [0])), 1)
    assert_allclose(volumes(Tetrahedra(regular, [[0, 2, 1, 3]], [0])), 0.04**3 / 3)


def test_star_shaped_surfaces_are_filled_and_conformed_to(potatoes, filled):
    across = check_mesh(filled)
    inner = np.cumsum(np.bincount(filled.labels, volumes(filled)))
    assert_allclose(inner, [enclosed_volume(s) for s in potatoes], rtol=0.02)
    for k, surface in enumerate(potatoes):
        below = np.unique(filled.elements[filled.labels <= k])
        above = np.unique(filled.elements[filled.labels > k]) if k < 2 else np.unique(boundary(filled).triangles)
        shared = np.intersect1d(below, above)
        assert len(shared) > 100
        assert nearest(surface, filled.nodes[shared])[2].max() < 1e-9
    assert (neighbours(filled.elements) == across).all()


def test_the_same_generator_makes_the_same_mesh(potatoes):
    one, two, other = (tetrahedralise(potatoes[:1], 0.02, rng=np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert (one.nodes == two.nodes).all()
    assert not np.array_equal(one.nodes, other.nodes)


def test_layers_follow_the_spacing_where_they_are_not_given():
    mesh = nested_spheres((0.07, 0.09), 0.012)
    radius = np.linalg.norm(mesh.nodes, axis=1)
    between = (radius > 0.0701) & (radius < 0.0899)
    assert between.any()


def test_surfaces_that_cannot_be_filled_are_refused(potatoes):
    with pytest.raises(ValueError, match=r"surfaces 0 and 1 touch or cross along \d+ rays"):
        tetrahedralise(potatoes[:2][::-1], 0.012)
    with pytest.raises(ValueError, match=r"surface 0 is not star-shaped .* give another `centre`"):
        tetrahedralise(potatoes[:1], 0.012, centre=(0.2, 0, 0))
    with pytest.raises(ValueError, match="wants 1 or more for each of 3 compartments"):
        tetrahedralise(potatoes, 0.012, (1, 1))
    with pytest.raises(ValueError, match="spacing is -1"):
        nested_spheres(RADII, -1)
    with pytest.raises(ValueError, match="must grow from the innermost"):
        nested_spheres(RADII[::-1], 0.01)


@pytest.mark.slow
def test_surfaces_of_any_shape_are_filled_by_the_extra(potatoes):
    pytest.importorskip("pytetwild")
    pytest.importorskip("pyvista")
    mesh = tetrahedralise_any(potatoes[::2], 0.015)
    check_mesh(mesh)
    inner = np.cumsum(np.bincount(mesh.labels, volumes(mesh)))
    assert_allclose(inner, [enclosed_volume(s) for s in potatoes[::2]], rtol=0.02)


def test_the_extra_is_named_where_it_is_missing(potatoes, monkeypatch):
    monkeypatch.setitem(sys.modules, "pytetwild", None)
    monkeypatch.setitem(sys.modules, "pytetwild.pytetwild", None)
    with pytest.raises(ImportError, match="pip install pytetwild"):
        tetrahedralise_any(potatoes, 0.02)


# --- the door


def blocks(*starts, size=0.03):
    """Cubes of five tetrahedra, one per start."""
    cube = from_labels(np.ones((1, 1, 1), int), np.diag([size, size, size, 1]))
    return Tetrahedra(
        np.vstack([cube.nodes + start for start in starts]),
        np.vstack([cube.elements + i * len(cube.nodes) for i in range(len(starts))]),
        np.zeros(5 * len(starts), int),
    )


def test_invalid_elements_are_refused():
    good = blocks((0, 0, 0))
    nodes, elements, labels = good.nodes, good.elements, good.labels
    check_mesh(good)
    flat = nodes.copy()
    flat[elements[1]] = nodes[elements[1]] * [1, 1, 0]
    with pytest.raises(ValueError, match=r"has \d+ flat elements .*first are"):
        check_mesh(Tetrahedra(flat, elements, labels))
    folded = nodes.copy()
    corner_node = next(i for i in range(len(nodes)) if (elements == i).sum() == 1)
    folded[corner_node] = nodes.mean(axis=0) + 0.1 * (nodes.mean(axis=0) - nodes[corner_node])
    with pytest.raises(ValueError, match=r"has 1 inverted elements that overlap"):
        check_mesh(Tetrahedra(folded, elements, labels))
    with pytest.raises(ValueError, match=r"has 2 components of 5, 5 elements .*`largest"):
        check_mesh(blocks((0, 0, 0), (0.1, 0, 0)))
    with pytest.raises(ValueError, match="has 1 nodes that no element uses"):
        check_mesh(Tetrahedra(np.vstack([nodes, nodes[:1] + 1e-3]), elements, labels))
    with pytest.raises(ValueError, match="looks like mm"):
        check_mesh(Tetrahedra(1e3 * nodes, elements, labels))
    with pytest.raises(ValueError, match="1 of 5 elements are unlabelled"):
        Tetrahedra(nodes, elements, [0, 0, -1, 0, 0])
    with pytest.raises(ValueError, match="facets belong to more than two elements"):
        check_mesh(Tetrahedra(nodes, np.vstack([elements, elements]), np.zeros(10, int)))
    with pytest.raises(ValueError, match="has no elements"):
        check_mesh(Tetrahedra(nodes, elements[:0], labels[:0]))


def test_the_largest_component_is_valid():
    two = blocks((0, 0, 0), (0.1, 0, 0))
    component = largest(Tetrahedra(two.nodes, two.elements[:-1], two.labels[:-1]))
    assert len(component.elements) == 5
    assert len(component.nodes) == 8
    check_mesh(component)


def test_elements_may_have_either_orientation(spheres):
    oriented = spheres.elements.copy()
    oriented[::2] = oriented[::2][:, [1, 0, 2, 3]]
    mesh = Tetrahedra(spheres.nodes, oriented, spheres.labels)
    check_mesh(mesh)
    assert_allclose(enclosed_volume(boundary(mesh)), volumes(mesh).sum())
    assert (np.linalg.det(np.diff(mesh.nodes[positive(mesh)], axis=1)) > 0).all()


# --- files and voxels


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "label"), [("vtu", "tissue"), ("msh", "gmsh:physical")])
def test_a_mesh_file_is_read_with_its_labels(tmp_path, spheres, ending, label):
    path = tmp_path / f"head.{ending}"
    values = np.array([30, 20, 10])[spheres.labels].astype(np.int32)
    data = {label: [values]}
    if ending == "msh":
        data["gmsh:geometrical"] = [values]
    form = {"file_format": "gmsh22", "binary": False} if ending == "msh" else {}
    meshio.write(path, meshio.Mesh(1e3 * spheres.nodes, [("tetra", spheres.elements)], cell_data=data), **form)
    read = read_mesh(path, unit="mm", values=(30, 20, 10))
    assert_allclose(read.nodes[read.elements], spheres.nodes[spheres.elements], atol=1e-9)
    assert (read.labels == spheres.labels).all()
    assert (read_mesh(path, unit="mm").labels == 2 - spheres.labels).all()
    with pytest.raises(ValueError, match="looks like mm"):
        read_mesh(path)
    with pytest.raises(ValueError, match=r"labels \[10\] are in the mesh"):
        read_mesh(path, unit="mm", values=(30, 20))
    with pytest.raises(ValueError, match="no unit named 'inch'"):
        read_mesh(path, unit="inch")
    with pytest.raises(ValueError, match="no cell data named 'region'"):
        read_mesh(path, unit="mm", label="region")


def test_a_file_without_labelled_tetrahedra_is_refused(tmp_path, spheres):
    bare, skin = tmp_path / "bare.vtu", tmp_path / "skin.vtu"
    meshio.write(bare, meshio.Mesh(spheres.nodes, [("tetra", spheres.elements)]))
    meshio.write(skin, meshio.Mesh(spheres.nodes, [("triangle", boundary(spheres).triangles)]))
    with pytest.raises(ValueError, match="unlabelled"):
        read_mesh(bare)
    with pytest.raises(ValueError, match="no tetrahedra"):
        read_mesh(skin)
    with pytest.raises(FileNotFoundError, match="no mesh file"):
        read_mesh(tmp_path / "none.msh")


def test_voxels_become_conforming_tetrahedra(tmp_path):
    index = np.moveaxis(np.indices((9, 8, 7)), 0, -1) - [4, 3.5, 3]
    distance = np.linalg.norm(index, axis=-1)
    volume = np.where(distance < 2, 41, np.where(distance < 3.5, 7, 0))
    affine = np.array([[0, -0.008, 0, 0.01], [0.009, 0, 0, -0.02], [0, 0, 0.01, 0], [0, 0, 0, 1]])
    mesh = from_labels(volume, affine, (41, 7))
    check_mesh(mesh)
    voxel = 0.008 * 0.009 * 0.01
    assert_allclose(
        np.bincount(mesh.labels, volumes(mesh)), voxel * np.array([(volume == 41).sum(), (volume == 7).sum()])
    )
    assert_allclose(mesh.nodes.mean(axis=0), affine[:3, :3] @ [4, 3.5, 3] + affine[:3, 3], atol=1e-12)
    path = tmp_path / "labels.nii.gz"
    to_mm = np.diag([1e3, 1e3, 1e3, 1])
    nibabel.save(nibabel.Nifti1Image(volume.astype(np.int16), to_mm @ affine), path)
    again = from_labels(path, values=(41, 7))
    assert_allclose(again.nodes, mesh.nodes, atol=1e-8)
    assert (again.labels == mesh.labels).all()
    assert (from_labels(volume, affine).labels == 1 - mesh.labels).all()


def test_volumes_that_are_no_head_are_refused():
    with pytest.raises(ValueError, match="wants its affine"):
        from_labels(np.ones((2, 2, 2)))
    with pytest.raises(ValueError, match="wants 3 axes"):
        from_labels(np.ones((2, 2)), np.eye(4))
    with pytest.raises(ValueError, match="no labelled voxel"):
        from_labels(np.zeros((2, 2, 2)), np.eye(4))
    with pytest.raises(ValueError, match="no whole numbers"):
        from_labels(np.full((2, 2, 2), 0.5), np.eye(4))
    with pytest.raises(ValueError, match="looks like mm"):
        from_labels(np.ones((2, 2, 2)), np.eye(4))
