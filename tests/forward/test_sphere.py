"""The concentric spheres against laws, closed forms, limits and MNE-Python's approximation."""

import mne
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
    mne_gain,
    rdm,
    ring,
    sources,
    spiral,
    tangents,
)
from numpy.testing import assert_allclose

from bayesinv.forward import sphere, unbounded
from bayesinv.head.head import Head
from bayesinv.head.sensors import Sensors
from bayesinv.head.sources import Sources


class TestPotential(PotentialLaws):
    @pytest.fixture
    def head(self):
        return Head(NAMES, CONDUCTIVITIES, radii=RADII)

    def solve(self, head, sensors, sources):
        return sphere.lead_field(head, sensors, sources)


class TestAnisotropicPotential(PotentialLaws):
    accuracy = ()

    @pytest.fixture
    def head(self):
        return Head(NAMES, (0.33, (0.0042, 0.042), 0.33), radii=RADII)

    def solve(self, head, sensors, sources):
        return sphere.lead_field(head, sensors, sources)


class TestField(FieldLaws):
    @pytest.fixture
    def head(self):
        return Head(NAMES, CONDUCTIVITIES, radii=RADII)

    def solve(self, head, sensors, sources):
        return sphere.lead_field(head, sensors, sources)


@pytest.mark.parametrize("eccentricity", [0.0, 0.1, 0.5, 0.9, 0.97])
def test_the_series_of_equal_shells_is_the_closed_form(eccentricity):
    # Copies, as what the package hands on: arrays that are read-only would be compiled for anew. So below.
    dipoles = sources(eccentricity, radius=RADII[-1]).positions.copy()
    seats = electrodes().positions.copy()
    series, _ = sphere.shells(dipoles, seats, (*RADII[1:-1], *RADII[-1:]), (0.33, 0.33))
    closed = sphere.homogeneous(dipoles, seats, 0.33)
    assert_allclose(series, closed, rtol=0, atol=1e-11 * np.abs(closed).max())


def test_the_potential_of_a_central_dipole_is_known():
    # 3 cos(angle) / (4 pi conductivity radius²), off the origin of the coordinates.
    centre = (0.01, -0.02, 0.03)
    head = Head(("all",), (0.5,), radii=(0.1,), centre=centre)
    seats = spiral(9, 0.1)
    sensors = Sensors.electrodes([f"E{i}" for i in range(9)], seats + centre)
    gain = sphere.lead_field(head, sensors, Sources(np.array([centre]))).gain[:, 0]
    assert_allclose(gain, 3 * seats / (4 * np.pi * 0.5 * 0.1**3), rtol=1e-12)


def test_a_large_sphere_of_one_conductivity_doubles_the_unbounded_potential():
    # Near a flat insulating boundary the image doubles the potential.
    head = Head(("all",), (0.3,), radii=(0.4,))
    dipoles = Sources(np.array([[0.0, 0.0, 0.3998]]))
    seats = 0.4 * np.array([[0.0, 0.0, 1.0], [np.sin(2e-4), 0.0, np.cos(2e-4)]])
    sensors = Sensors.electrodes(["a", "b"], seats)
    one = np.diff(sphere.lead_field(head, sensors, dipoles).gain[:, 0, 2])
    two = np.diff(unbounded.potential(dipoles.positions, seats, 0.3)[:, 0, 2])
    assert_allclose(one, 2 * two, rtol=2e-2)


def test_the_tolerance_bounds_the_error_and_costs_terms():
    dipoles, seats = sources(0.95, 20).positions.copy(), electrodes().positions
    exact, most = sphere.shells(dipoles, seats, RADII, CONDUCTIVITIES, tolerance=1e-15)
    last = most
    for tolerance in (1e-12, 1e-9, 1e-6, 1e-3):
        gain, degree = sphere.shells(dipoles, seats, RADII, CONDUCTIVITIES, tolerance=tolerance)
        assert degree < last
        last = degree
        on_top = sphere.shells(dipoles, dipoles, RADII, CONDUCTIVITIES)[0]
        largest = np.abs(np.einsum("ssa,sa->s", on_top, dipoles / np.linalg.norm(dipoles, axis=1)[:, None]))
        error = np.linalg.norm(gain - exact, axis=2).max(axis=0)
        assert (error <= tolerance * largest + 1e-14 * largest).all()


def test_the_degree_is_reported():
    head = Head(NAMES, CONDUCTIVITIES, radii=RADII)
    notes = sphere.lead_field(head, both(electrodes(), coils()), sources(0.99)).notes
    assert "series to degree" in notes["potential"]
    assert 100 < int(notes["potential"].split()[3]) < 300


def test_tangential_conduction_in_the_skull_is_the_limit_of_thin_layers():
    # Alternating isotropic layers a, b conduct (a + b)/2 along and 2 a b/(a + b) across.
    radial, tangential = 0.0042, 0.042
    one = tangential + np.sqrt(tangential**2 - radial * tangential)
    two = 2 * tangential - one
    dipoles, seats = sources(0.9, 20).positions.copy(), electrodes().positions
    wanted = average(sphere.shells(dipoles, seats, RADII, (0.33, (radial, tangential), 0.33))[0])
    errors = []
    for layers in (20, 40, 80):
        borders = np.linspace(RADII[0], RADII[1], 2 * layers + 1)
        values = (0.33, *(one, two) * layers, 0.33)
        gain = average(sphere.shells(dipoles, seats, (*borders, RADII[2]), values)[0])
        errors.append(rdm(gain.reshape(len(gain), -1), wanted.reshape(len(gain), -1)).max())
    order = np.log2(np.array(errors[:-1]) / errors[1:])
    assert_allclose(order, 1, atol=0.15)
    assert errors[-1] < 0.01


def test_an_anisotropic_shell_around_the_source_obeys_its_equation():
    # Inside that shell the gain, as a function of place, is the gradient of a potential u with
    # (1/r²) d/dr (r² radial du/dr) + tangential * (angular part of the Laplacian) u = 0.
    radii, values = (0.08, 0.09), ((0.2, 0.5), 0.3)
    seats = electrodes(5, 0.09).positions
    place, step = np.array([0.01, -0.03, 0.04]), 1e-4
    moves = step * np.concatenate([np.eye(3), -np.eye(3)])
    gain, _ = sphere.shells(place + moves, seats, radii, values)
    slope = (gain[:, :3] - gain[:, 3:]) / (2 * step)
    assert np.abs(slope - slope.transpose(0, 2, 1)).max() < 1e-4 * np.abs(slope).max()
    here = sphere.shells(place[None], seats, radii, values)[0][:, 0]
    distance = np.linalg.norm(place)
    hat = place / distance
    radial = np.einsum("a,eab,b->e", hat, slope, hat) + 2 * here @ hat / distance
    assert_allclose(
        0.2 * radial + 0.5 * (np.trace(slope, axis1=1, axis2=2) - radial), 0, atol=1e-4 * np.abs(slope).max()
    )


def test_coils_see_at_most_two_of_three_directions():
    # As many coils as free currents: a third of the singular values is rounding.
    head = Head(NAMES, CONDUCTIVITIES, radii=RADII)
    dipoles = sources(0.7, 11)
    field = sphere.lead_field(head, coils(40), dipoles)
    values = np.linalg.svd(field.gain.reshape(40, -1), compute_uv=False)
    values = values / values[0]
    assert values[21] > 1e10 * values[22]


def test_a_ring_is_silent_for_electrodes_and_measured_by_coils():
    head = Head(NAMES, CONDUCTIVITIES, radii=RADII)
    dipoles, moments = ring()
    parts = np.einsum("msa,sa->ms", sphere.lead_field(head, both(electrodes(), coils()), dipoles).gain, moments)
    total, size = parts.sum(axis=1), np.linalg.norm(parts, axis=1)
    assert np.abs(total[:21]).max() < 1e-12 * size[:21].max()
    assert np.abs(total[21:]).max() > 1e-2 * size[21:].max()


def _mne_sphere(sensors, dipoles):
    """MNE-Python's Berg-Scherg potential (electrode, source, 3) of the same shells."""
    model = mne.make_sphere_model(
        r0=(0, 0, 0),
        head_radius=RADII[-1],
        relative_radii=np.array(RADII) / RADII[-1],
        sigmas=CONDUCTIVITIES,
        verbose=False,
    )
    return mne_gain(sensors, dipoles, model)


@pytest.mark.slow
def test_agrees_with_berg_and_scherg_within_their_error():
    dipoles = np.concatenate([sources(e, 10).positions for e in (0.3, 0.6, 0.8)])
    mine = average(sphere.shells(dipoles, electrodes().positions, RADII, CONDUCTIVITIES)[0])
    theirs = average(_mne_sphere(electrodes(), Sources(dipoles)))
    # MNE-Python's three fitted dipoles err up to some percent; a wrong layer or sign errs by tens.
    assert rdm(mine, theirs).max() < 0.05
    assert np.abs(lnmag(mine, theirs)).max() < 0.05
    assert np.median(rdm(mine, theirs)) < 0.02


def test_agrees_with_the_field_of_mne():
    centres, dipoles = coils(3).positions, sources(0.8, 5)
    up = centres / np.linalg.norm(centres, axis=1, keepdims=True)
    sensors = Sensors.magnetometers(["a", "b", "c"], centres, up)
    mine = sphere.lead_field(Head(("all",), (0.3,), radii=(RADII[-1],)), sensors, dipoles).gain
    theirs = mne_gain(sensors, dipoles, mne.make_sphere_model(r0=(0, 0, 0), head_radius=None, verbose=False))
    assert_allclose(mine, theirs, rtol=0, atol=1e-6 * np.abs(mine).max())


def test_the_exact_reading_of_a_radial_coil_is_the_primary_field():
    # Volume currents in a sphere have no radial field outside.
    head = Head(("all",), (0.3,), radii=(0.09,))
    centres = spiral(6, 0.11)
    sensors = Sensors.magnetometers([f"M{i}" for i in range(6)], centres, centres / 0.11)
    dipoles = sources(0.8)
    mine = sphere.lead_field(head, sensors, dipoles).gain
    assert_allclose(mine, unbounded.lead_field(0.3, sensors, dipoles).gain, rtol=0, atol=1e-12 * np.abs(mine).max())


def test_memory_beside_the_gain_does_not_grow_with_the_sources():
    import tracemalloc

    head = Head(NAMES, CONDUCTIVITIES, radii=RADII)
    sensors = both(electrodes(3), coils(2))
    sphere.lead_field(head, sensors, sources(0.5))
    dipoles = Sources(spiral(20_000, 0.06))
    tracemalloc.start()
    gain = sphere.lead_field(head, sensors, dipoles).gain
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * gain.nbytes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radii": ()}, "no radii.*Head.spheres"),
        ({"radii": (80, 86, 92)}, "looks like mm"),
        ({"radii": (0.008, 0.0086, 0.0092)}, "less than 0.02 m"),
        (
            {"radii": (0.040, 0.086, 0.092)},
            r"7 sources lie outside brain: 0, 1, 2, 3, 4, \.\.\., by up to 8 mm",
        ),
        ({"radii": (0.080, 0.086, 0.124)}, "electrode E.* is 32 mm from the scalp"),
        ({"radii": (0.080, 0.086, 0.109)}, "coil M.* is .* mm inside"),
    ],
)
def test_the_door_says_what_is_wrong(change, message):
    head = Head(**{"names": NAMES, "conductivities": CONDUCTIVITIES, "radii": RADII, **change})
    sensors = both(electrodes(), coils(radius=0.1085))
    with pytest.raises(ValueError, match=message):
        sphere.lead_field(head, sensors, sources(0.6))


def test_a_source_too_close_to_the_scalp_is_refused():
    with pytest.raises(ValueError, match="more than 20000 terms"):
        sphere.shells(np.array([[0, 0, 0.0919999]]), electrodes().positions, (0.05, 0.092), (0.3, 0.2))
    with pytest.raises(ValueError, match="tolerance"):
        sphere.shells(np.zeros((1, 3)), electrodes().positions, RADII, CONDUCTIVITIES, tolerance=0.0)


def test_unbounded_refuses_a_sensor_on_a_source():
    with pytest.raises(ValueError, match="infinite"):
        unbounded.potential(Sources(np.zeros((2, 3))).positions, np.zeros((1, 3)), 0.3)
    with pytest.raises(ValueError, match="conductivity is -1"):
        unbounded.lead_field(-1.0, electrodes(), sources(0.3))


def test_unbounded_potential_off_the_origin_is_known():
    gain = unbounded.potential(Sources(np.array([[0.01, 0.02, 0.03]])).positions, np.array([[0.01, 0.02, 0.08]]), 0.2)
    assert_allclose(gain, [[[0, 0, 1 / (4 * np.pi * 0.2 * 0.05**2)]]], rtol=1e-12)


def test_unbounded_field_off_the_origin_is_known():
    # A current along x is circled by its field: at a point above it the field points along -y.
    sensors = Sensors.magnetometers(["a"], np.array([[0.01, 0.02, 0.08]]), np.array([[0.0, -1.0, 0.0]]))
    gain = unbounded.lead_field(0.2, sensors, Sources(np.array([[0.01, 0.02, 0.03]]))).gain
    assert_allclose(gain, [[[1e-7 / 0.05**2, 0, 0]]], rtol=1e-12, atol=1e-20)


def test_tangents_are_at_right_angles():
    dipoles = sources(0.5)
    assert_allclose(np.einsum("sa,sa->s", tangents(dipoles), dipoles.normals), 0, atol=1e-15)
