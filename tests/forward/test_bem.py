"""The boundary elements against laws, the spheres, their order of convergence, and what stands at the door."""

import warnings
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from forward_laws import (
    CONDUCTIVITIES,
    NAMES,
    RADII,
    FieldLaws,
    PotentialLaws,
    average,
    both,
    coils,
    electrodes,
    lnmag,
    moved,
    rdm,
    sources,
    spiral,
    tangents,
)
from numpy.testing import assert_allclose

from bayesinv.forward import bem, bem_integrals, sphere
from bayesinv.forward.bem import Bem
from bayesinv.geometry.surfaces import Surface, inside, nearest
from bayesinv.head.head import Head
from bayesinv.head.sensors import Sensors
from bayesinv.head.sources import Sources


@cache
def spheres(subdivisions, conductivities=CONDUCTIVITIES, radii=RADII):
    return Head.spheres(radii, conductivities, subdivisions=subdivisions)


@cache
def solver(head):
    return Bem(head)


class TestPotential(PotentialLaws):
    # Every fact that needs the sphere holds to the mesh's accuracy, every other to rounding.
    homogeneous = 0.05
    accuracy = ((0.3, 0.01, 0.02, 0.02), (0.6, 0.02, 0.04, 0.03))

    @pytest.fixture
    def head(self):
        return spheres(2)

    def solve(self, head, sensors, sources):
        return solver(head).lead_field(sensors, sources)


class TestField(FieldLaws):
    silence = 0.15  # at this mesh; the finer one has its own test
    accuracy = ((0.3, 0.005, 0.005, 0.002), (0.6, 0.005, 0.01, 0.01))

    @pytest.fixture
    def head(self):
        return spheres(2)

    def solve(self, head, sensors, sources):
        return solver(head).lead_field(sensors, sources)


def error(subdivisions, eccentricity, sensors, measure, conductivities=CONDUCTIVITIES, radii=RADII):
    """Median of a measure of the boundary elements against the spheres, for tangential sources."""
    head, dipoles = spheres(subdivisions, conductivities, radii), sources(eccentricity, 12)
    fields = solver(head).lead_field(sensors, dipoles), sphere.lead_field(head, sensors, dipoles)
    one, two = (np.einsum("msa,sa->ms", f.gain, tangents(dipoles)) for f in fields)
    if sensors.points is None:
        one, two = average(one), average(two)
    return np.median(np.abs(measure(one, two)))


@pytest.mark.slow
def test_the_potential_converges_with_the_area_of_the_triangles():
    errors = [error(n, 0.3, electrodes(), rdm) for n in (1, 2, 3)]
    assert_allclose(np.log2(errors[1] / errors[2]), 2, atol=0.5)
    assert errors[0] > errors[1]


@pytest.mark.slow
def test_the_field_converges_with_the_area_of_the_triangles():
    # At least: where the layers' errors have opposite signs they cancel as long as the mesh is coarse.
    errors = [error(n, 0.3, coils(), rdm) for n in (1, 2, 3)]
    assert 1.5 < np.log2(errors[1] / errors[2]) < 3
    assert errors[0] > errors[1]


@pytest.mark.parametrize(
    ("radii", "conductivities"),
    [
        ((0.09,), (0.33,)),
        ((0.085, 0.09), (0.33, 0.2)),
        ((0.076, 0.080, 0.086, 0.092), (0.33, 1.79, 0.0042, 0.33)),
        ((0.070, 0.080, 0.086, 0.092), (0.33, 0.5, 0.4, 0.33)),
    ],
)
def test_one_to_four_layers_agree_with_the_spheres(radii, conductivities):
    head = Head.spheres(radii, conductivities, subdivisions=2)
    dipoles, sensors = sources(0.6, 9, radius=radii[0]), both(electrodes(17, radii[-1]), coils())
    gain, truth = (f.gain for f in (bem.lead_field(head, sensors, dipoles), sphere.lead_field(head, sensors, dipoles)))
    computed, wanted = (np.einsum("msa,sa->ms", g, tangents(dipoles)) for g in (gain, truth))
    assert rdm(average(computed[:17]), average(wanted[:17])).max() < 0.05
    assert rdm(computed[17:], wanted[17:]).max() < 0.02


def test_the_isolated_inside_is_solved_first_where_a_layer_shields_it():
    def notes(*conductivities):
        return bem.lead_field(Head.spheres(RADII, conductivities, subdivisions=1), electrodes(), sources(0.3)).notes

    assert "isolated from skull" in notes(0.33, 0.0042, 0.33)["solver"]
    assert "isolated" not in notes(0.33, 0.3, 0.33)["solver"]


@pytest.mark.slow
def test_isolation_is_what_makes_electrodes_near_the_skull_right(monkeypatch):
    # With and without it the equation is the same, and so is the limit; the error at one mesh is not.
    head = spheres(2)
    deep, shallow, sensors = sources(0.3), sources(0.9), both(electrodes(), coils())

    def error(made, dipoles):
        gain, truth = (f.gain for f in (made.lead_field(sensors, dipoles), sphere.lead_field(head, sensors, dipoles)))
        return rdm(average(gain[:21]), average(truth[:21])).max()

    one = Bem(head)
    monkeypatch.setattr(bem, "MAX_SHIELD_RATIO", 0.0)
    two = Bem(head)
    assert error(one, deep) < 0.01
    assert error(two, deep) < 0.01
    assert 2 * error(one, shallow) < error(two, shallow)
    fields = [made.lead_field(coils(), shallow).gain for made in (one, two)]
    assert_allclose(*fields, rtol=0, atol=1e-12 * np.abs(fields[0]).max())


def test_the_factorisation_serves_new_sensors_and_sources():
    made, dipoles = solver(spheres(1)), sources(0.5)
    full = made.lead_field(both(electrodes(), coils()), dipoles).gain
    assert_allclose(made.lead_field(electrodes(), dipoles).gain, full[:21], rtol=1e-9, atol=1e-12 * full.max())
    assert_allclose(made.lead_field(coils(), dipoles.pick([2])).gain, full[21:, [2]], rtol=1e-9, atol=1e-20)


def test_more_sources_than_a_chunk():
    dipoles = Sources(spiral(700, 0.05))
    gain = solver(spheres(1)).lead_field(electrodes(4), dipoles).gain
    again = solver(spheres(1)).lead_field(electrodes(4), dipoles.pick([3, 511, 512, 699])).gain
    assert_allclose(again, gain[:, [3, 511, 512, 699]], rtol=1e-9)


@pytest.mark.slow
def test_integrals_over_a_triangle_are_those_of_fine_quadrature():
    rng = np.random.default_rng(2)
    vertices = rng.normal(size=(3, 3))
    steps = (np.arange(400) + 0.5) / 400
    one, two = np.meshgrid(steps, steps)
    keep = one + two < 1
    weights = np.column_stack([1 - one[keep] - two[keep], one[keep], two[keep]])
    area = np.linalg.norm(np.cross(vertices[1] - vertices[0], vertices[2] - vertices[0])) / 2
    for place in (np.array([0.3, -2.0, 0.7]), np.array([0.5, 0.2, -0.3]) + vertices.mean(axis=0), 3 * vertices[0]):
        integrals = np.empty((4, 3))
        bem_integrals._field_integrals(place, vertices, 0, 1, 2, integrals)
        y = weights @ vertices - place
        wanted = area * np.einsum("qk,qc->kc", weights, y / np.linalg.norm(y, axis=1)[:, None] ** 3) / len(weights)
        assert_allclose(integrals[:3], wanted, rtol=0, atol=1e-2 * np.abs(wanted).max())
        row = bem_integrals._double_layer_rows(place[None], np.array([-1]), vertices, np.array([[0, 1, 2]]))[0]
        assert_allclose(row, -integrals[:3] @ integrals[3] / (4 * np.pi), rtol=1e-9)


def test_the_double_layer_is_that_of_gauss_quadrature_near_and_far():
    # From half an edge on, where 24 points a side are exact to rounding, to 20 edges: on both sides of FAR. The
    # functions of a distant triangle are differences of numbers (distance / edge)² times as large.
    surface = spheres(1).surfaces[0]
    points = np.vstack([spiral(7, 0.03), *(spiral(5, radius) for radius in np.geomspace(0.11, 0.9, 12))])
    corners = surface.vertices[surface.triangles]
    nodes, weights = np.polynomial.legendre.leggauss(24)
    one, two = (a.ravel() for a in np.meshgrid((nodes + 1) / 2, (nodes + 1) / 2, indexing="ij"))
    functions = np.column_stack([1 - one, one * (1 - two), one * two])  # the square folded onto the triangle
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    weights = np.outer(weights, weights).ravel() / 4 * one
    places = np.einsum("wk,tkc->twc", functions, corners)
    wanted = np.zeros((len(points), len(surface.vertices)))
    for row, point in zip(wanted, points, strict=True):
        ways = places - point
        kernel = np.einsum("twc,tc->tw", ways, normals) / np.linalg.norm(ways, axis=2) ** 3
        np.add.at(row, surface.triangles, -(kernel * weights) @ functions / (4 * np.pi))
    own = np.full(len(points), -1)
    rows = bem_integrals._double_layer_rows(points, own, surface.vertices, surface.triangles)
    largest = np.abs(wanted).max(axis=1, keepdims=True)
    assert_allclose(rows / largest, wanted / largest, rtol=0, atol=1e-12)


def test_a_closed_surface_has_the_full_solid_angle():
    surface = spheres(2).surfaces[0]
    dipoles = np.array([[0.01, 0.02, 0.03], [0.0, 0.0, 0.2]])
    rows = bem_integrals._double_layer_rows(dipoles, np.array([-1, -1]), surface.vertices, surface.triangles)
    assert_allclose(rows.sum(axis=1), [-1, 0], atol=1e-12)
    assert inside(surface, dipoles).tolist() == [True, False]


def test_a_constant_potential_is_an_exact_solution():
    # A closed surface sees itself under half the full angle, what it encloses sees it under all and the rest not.
    inner, outer = spheres(1).surfaces[0], spheres(2).surfaces[1]
    pairs = ((inner, inner, -0.5), (outer, outer, -0.5), (inner, outer, -1.0), (outer, inner, 0.0))
    for target, origin, angle in pairs:
        area = np.asarray(bem_integrals.mass_matrix(target).sum(axis=1)).ravel()
        computed = bem_integrals.double_layer(target, origin, target is origin).sum(axis=1)
        assert_allclose(computed, angle * area, rtol=0, atol=1e-12 * area.max())


def test_the_nearest_place_of_a_surface_is_found():
    surface = spheres(2).surfaces[0]
    rng = np.random.default_rng(0)
    points = 0.08 * rng.normal(size=(40, 3))
    triangle, weights, distance = nearest(surface, points)
    place = np.einsum("pk,pkc->pc", weights, surface.vertices[surface.triangles[triangle]])
    assert_allclose(np.linalg.norm(points - place, axis=1), distance, rtol=1e-12)
    assert (weights >= 0).all()
    assert_allclose(weights.sum(axis=1), 1)
    dense = np.einsum("wk,tkc->twc", rng.dirichlet(np.ones(3), 300), surface.vertices[surface.triangles])
    brute = np.linalg.norm(points[:, None] - dense.reshape(-1, 3), axis=2).min(axis=1)
    assert (distance <= brute + 1e-12).all()
    assert (brute - distance).max() < 1e-3


def test_electrodes_read_the_potential_between_vertices():
    # Halfway between two vertices the linear potential is their mean.
    head, dipoles = spheres(1), sources(0.5)
    scalp = head.surfaces[-1].vertices
    edge = head.surfaces[-1].triangles[0, :2]
    seats = np.array([*scalp[edge], 1.01 * scalp[edge].mean(axis=0)])
    gain = solver(head).lead_field(Sensors.electrodes(["a", "b", "c"], seats), dipoles).gain
    assert_allclose(gain[2], gain[:2].mean(axis=0), atol=0.02 * np.abs(gain).max())


def flipped(surface, which):
    triangles = surface.triangles.copy()
    triangles[which] = triangles[which, ::-1]
    return Surface(surface.vertices, triangles)


@pytest.mark.parametrize("which", [slice(None), slice(3, 50)])
def test_surfaces_that_face_inwards_are_flipped_with_a_warning(which):
    head = spheres(1)
    wrong = replace(head, surfaces=(head.surfaces[0], flipped(head.surfaces[1], which), head.surfaces[2]))
    with pytest.warns(UserWarning, match=r"surface of skull.*turned inwards"):
        made = Bem(wrong)
    good = solver(head).lead_field(electrodes(), sources(0.3)).gain
    assert_allclose(made.lead_field(electrodes(), sources(0.3)).gain, good, rtol=1e-9)


def sphere_at(shift, radius, subdivisions=2):
    unit = Head.spheres((radius,), (1.0,), subdivisions=subdivisions).surfaces[0]
    return Surface(unit.vertices + shift, unit.triangles)


def spoiled(kind):
    """A head with one thing wrong with its middle surface."""
    head = spheres(2)
    one, two, three = head.surfaces
    corners, triangles = two.vertices.copy(), two.triangles
    if kind == "open":
        two = Surface(corners, triangles[1:])
    elif kind == "unused":
        two = Surface(np.vstack([corners, [0, 0, 0.084]]), triangles)
    elif kind == "pieces":
        two = Surface(np.vstack([corners, 1.001 * corners]), np.vstack([triangles, triangles + len(corners)]))
    elif kind == "touching":
        place = corners.copy()
        place[0] = place[-1]
        two = Surface(place, triangles)
    elif kind == "sheet":
        two = Surface(corners, np.vstack([triangles, triangles[:1], triangles[:1, ::-1]]))
    elif kind == "itself":
        place = corners.copy()
        place[7] = -1.05 * place[7] + [0.004, 0.003, 0.002]  # out through the other side
        two = Surface(place, triangles)
    elif kind == "flat":
        # The corner of a triangle falls onto the edge opposite.
        place = corners.copy()
        place[triangles[0, 0]] = place[triangles[0, 1:]].mean(axis=0)
        two = Surface(place, triangles)
    elif kind == "outside":
        one = sphere_at([0.2, 0, 0], 0.02)
    elif kind == "crossing":
        one = sphere_at([0, 0, 0.01], 0.08)
    elif kind == "swapped":
        one, two = two, one
    elif kind == "mm":
        one, two, three = (Surface(1000 * s.vertices, s.triangles) for s in (one, two, three))
    elif kind == "small":
        one, two, three = (Surface(0.1 * s.vertices, s.triangles) for s in (one, two, three))
    elif kind == "none":
        return replace(head, surfaces=())
    elif kind == "anisotropic":
        return replace(head, conductivities=(0.33, (0.004, 0.04), 0.33))
    return replace(head, surfaces=(one, two, three))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("open", "skull is open: 3 edges"),
        ("unused", "skull has 1 vertices that are in no triangle"),
        ("pieces", "skull has 2 separate pieces"),
        ("touching", "skull has 1 vertices at the place of another.*touches itself"),
        ("sheet", "skull touches itself: 3 edges belong to more than two"),
        ("itself", "skull crosses itself"),
        ("flat", "skull has .* triangles without area"),
        ("outside", "brain is not inside that of skull"),
        ("crossing", "surfaces of brain and skull cross"),
        ("swapped", "brain is not inside that of skull|cross"),
        ("mm", "looks like mm"),
        ("small", "less than 0.02 m"),
        ("none", "the head has no surfaces"),
        ("anisotropic", "conductivity of skull is .*one number per compartment"),
    ],
)
def test_the_door_says_what_is_wrong_with_a_head(kind, message):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        with pytest.raises(ValueError, match=message):
            Bem(spoiled(kind))


def test_surfaces_that_cross_though_no_inner_vertex_is_outside_are_found():
    # A dent of the skull goes through the middle of a triangle of the brain.
    brain, skull, scalp = spheres(1).surfaces[0], *spheres(3).surfaces[1:]
    middle = brain.vertices[brain.triangles[0]].mean(axis=0)
    corners = skull.vertices.copy()
    corners[np.argmax(corners @ middle)] = 0.98 * middle
    dented = Surface(corners, skull.triangles)
    assert inside(dented, brain.vertices).all()
    with pytest.raises(ValueError, match=r"surfaces of brain and skull cross: 0 vertices .* [1-9]\d* edges pierce"):
        Bem(replace(spheres(1), surfaces=(brain, dented, scalp)))


@pytest.mark.parametrize(
    ("conductivities", "message"),
    [
        ((0.33, 0.0042), "there are 2 conductivities for 3 compartments"),
        ((0.33, 0.0, 0.33), "conductivity of skull is 0.0, but must be positive"),
        ((0.33, 0.0042, np.nan), "conductivity of scalp is nan"),
        ((0.33, (0.0042, -0.042), 0.33), "conductivity of skull is .* must be positive"),
        ((0.33, (0.1, 0.2, 0.3), 0.33), r"conductivity of skull is .*one number or \(radial, tangential\)"),
    ],
)
def test_conductivities_that_cannot_be_are_refused(conductivities, message):
    with pytest.raises(ValueError, match=message):
        Head(NAMES, conductivities, radii=RADII)


def test_the_door_says_which_sources_are_too_close_or_outside():
    made = solver(spheres(2))
    dipoles = Sources(np.array([[0, 0, 0.05], [0, 0, 0.079], [0, 0.09, 0]]))
    with pytest.raises(ValueError, match=r"1 sources lie outside brain: 2, by up to 9\.\d+ mm"):
        made.lead_field(electrodes(), dipoles)
    with pytest.raises(ValueError, match=r"1 sources are closer than 3 mm to the surface of brain: 1, the closest"):
        made.lead_field(electrodes(), dipoles.pick([0, 1]), minimum_distance=0.003)
    made.lead_field(electrodes(), dipoles.pick([0, 1]), minimum_distance=0.0)


def test_the_door_says_which_sensors_are_misplaced():
    made, dipoles = solver(spheres(2)), sources(0.3)
    with pytest.raises(ValueError, match=r"21 electrodes are far from the scalp, the farthest E\d+ by 2\d\.\d mm"):
        made.lead_field(electrodes(radius=0.115), dipoles)
    with pytest.raises(ValueError, match=r"13 coils are inside the head: M0, M1"):
        made.lead_field(coils(radius=0.085), dipoles)


def test_a_head_too_large_for_memory_is_refused(monkeypatch):
    monkeypatch.setattr(bem.os, "sysconf", lambda name: 1 if "PAGES" in name else 10**6)
    with pytest.raises(ValueError, match=r"486 vertices want about 0\.0 GB of memory, but there are 0\.0 GB"):
        Bem(spheres(2))


def test_an_unknown_solver_is_named():
    with pytest.raises(ValueError, match=r"no solver named 'openmeg'.*did you mean 'openmeeg'"):
        bem.lead_field(spheres(1), electrodes(), sources(0.3), solver="openmeg")


def test_openmeeg_that_is_not_installed_is_asked_for(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openmeeg", None)
    with pytest.raises(ImportError, match="pip install openmeeg"):
        bem.lead_field(spheres(1), electrodes(), sources(0.3), solver="openmeeg")


def test_agrees_with_openmeeg():
    openmeeg = pytest.importorskip("openmeeg")
    openmeeg.set_log_level("error")
    head, dipoles, sensors = spheres(2), sources(0.6, 9), both(electrodes(), coils())
    one = bem.lead_field(head, sensors, dipoles).gain
    two = bem.lead_field(head, sensors, dipoles, solver="openmeeg").gain
    mine, theirs = (np.einsum("msa,sa->ms", g, tangents(dipoles)) for g in (one, two))
    assert rdm(average(mine[:21]), average(theirs[:21])).max() < 0.05
    assert np.abs(lnmag(average(mine[:21]), average(theirs[:21]))).max() < 0.05
    assert rdm(mine[21:], theirs[21:]).max() < 0.03


def table(subdivisions, eccentricity):
    """RDM and lnMAG of electrodes, RDM of coils for tangential sources, and the leak of radial ones."""
    head, dipoles, sensors = spheres(subdivisions), sources(eccentricity, 20), both(electrodes(64), coils(64))
    moments = np.stack([dipoles.normals, tangents(dipoles)])
    fields = solver(head).lead_field(sensors, dipoles), sphere.lead_field(head, sensors, dipoles)
    one, two = (np.einsum("msa,osa->mso", f.gain, moments) for f in fields)
    potential, truth = average(one[:64]), average(two[:64])
    leak = np.linalg.norm(one[64:, :, 0], axis=0) / np.linalg.norm(two[64:, :, 1], axis=0)
    return rdm(potential, truth), np.abs(lnmag(potential, truth)), rdm(one[64:, :, 1], two[64:, :, 1]), leak


@pytest.mark.slow
@pytest.mark.parametrize("eccentricity", [0.3, 0.9, 0.95, 0.98])
def test_642_vertices_reach_their_goal(eccentricity):
    potential, size, field, leak = table(3, eccentricity)
    assert np.median(potential) < 0.02
    assert potential.max() < 0.1
    assert np.median(size) < 0.02
    assert np.median(field) < 0.003
    assert field.max() < 0.01
    assert leak.max() < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("eccentricity", [0.3, 0.9, 0.98])
def test_2562_vertices_reach_their_goal(eccentricity):
    potential, size, field, leak = table(4, eccentricity)
    assert np.median(potential) < 0.005
    assert potential.max() < 0.025
    assert np.median(size) < 0.006
    assert np.median(field) < 0.001
    assert leak.max() < 0.005


def test_the_scene_moves_as_one():
    head = moved(spheres(1), shift=(0.1, 0.0, 0.0))
    assert_allclose(head.centre, (0.1, 0, 0))
    assert head.names == NAMES
