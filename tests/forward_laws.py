"""Laws that every forward solver obeys, whatever its method; a solver's tests inherit them.

A test class gives a fixture `head` (of function scope; a cached function makes it once), whose compartments are the
shells `RADII`, a method `solve(head, sensors, sources) -> LeadField`, and its own tolerances. The tolerances of this
file are those of a closed form; a solver that discretises loosens them to what its theory says.
"""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.spatial.transform import Rotation

from bayesinv.forward import sphere
from bayesinv.geometry.surfaces import Surface
from bayesinv.geometry.tetrahedra import Tetrahedra
from bayesinv.head.head import Head
from bayesinv.head.sensors import Sensors
from bayesinv.head.sources import Sources

RADII = (0.080, 0.086, 0.092)
CONDUCTIVITIES = (0.33, 0.0042, 0.33)
NAMES = ("brain", "skull", "scalp")


def spiral(count, radius=1.0, lowest=-1.0):
    """Points (count, 3) spread evenly over the part of a sphere that lies above `lowest` radii."""
    step = np.arange(count) + 0.5
    z = 1 - (1 - lowest) * step / count
    turn = np.pi * (1 + np.sqrt(5)) * step
    ring = np.sqrt(1 - z**2)
    return radius * np.column_stack([ring * np.cos(turn), ring * np.sin(turn), z])


def electrodes(count=21, radius=RADII[-1]):
    """Electrodes on the upper part of a sphere."""
    return Sensors(tuple(f"E{i}" for i in range(count)), ("eeg",) * count, spiral(count, radius, -0.3))


def coils(count=13, radius=0.115, seed=3):
    """Magnetometers of any direction around a sphere, of two integration points each."""
    centres = spiral(count, radius, -0.1)
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    across = np.cross(directions, rng.normal(size=(count, 3)))
    across *= 0.004 / np.linalg.norm(across, axis=1, keepdims=True)
    return Sensors(
        tuple(f"M{i}" for i in range(count)),
        ("mag",) * count,
        centres,
        np.concatenate([centres + across, centres - across]),
        np.concatenate([directions, directions]) / 2,
        np.tile(np.arange(count), 2),
    )


def sources(eccentricity, count=7, seed=0, radius=RADII[0]):
    """Sources at one eccentricity in random directions, the normal pointing outwards."""
    rng = np.random.default_rng(seed + round(1000 * eccentricity))
    outwards = rng.normal(size=(count, 3))
    outwards /= np.linalg.norm(outwards, axis=1, keepdims=True)
    return Sources(eccentricity * radius * outwards, outwards)


def ring(count=32, radius=0.005, centre=(0.01, -0.02, 0.05), normal=(1.0, 0.3, -0.2)):
    """Sources and moments (source, 3) of unit strength that close into a circle of current."""
    normal = np.asarray(normal) / np.linalg.norm(normal)
    one = np.cross(normal, [0.0, 0.0, 1.0])
    one /= np.linalg.norm(one)
    two = np.cross(normal, one)
    angle = 2 * np.pi * np.arange(count) / count
    dipoles = radius * (np.outer(np.cos(angle), one) + np.outer(np.sin(angle), two))
    return Sources(np.asarray(centre) + dipoles), np.outer(-np.sin(angle), one) + np.outer(np.cos(angle), two)


def moved(thing, rotation=None, scale=1.0, shift=(0.0, 0.0, 0.0)):
    """Return a head, sensors or sources rotated, then scaled, then shifted."""
    turn = np.eye(3) if rotation is None else rotation.as_matrix()
    shift = np.asarray(shift)

    def place(points):
        return scale * np.asarray(points) @ turn.T + shift

    if isinstance(thing, Sources):
        return Sources(place(thing.positions), None if thing.normals is None else thing.normals @ turn.T)
    if isinstance(thing, Sensors):
        if thing.points is None:
            return Sensors(thing.names, thing.kinds, place(thing.positions))
        points, directions = place(thing.points), thing.directions @ turn.T
        return Sensors(thing.names, thing.kinds, place(thing.positions), points, directions, thing.owner)
    mesh, tensors = thing.mesh, thing.tensors
    return replace(
        thing,
        surfaces=tuple(Surface(place(s.vertices), s.triangles) for s in thing.surfaces),
        radii=tuple(scale * r for r in thing.radii),
        centre=tuple(place(np.asarray(thing.centre))),
        mesh=None if mesh is None else Tetrahedra(place(mesh.nodes), mesh.elements, mesh.labels),
        tensors=None if tensors is None else turn @ tensors @ turn.T,
    )


def both(one, two):
    """Return the sensors of `one`, then those of `two`."""
    parts = [s for s in (one, two) if s.points is not None]
    owners = [s.owner + (len(one) if s is two else 0) for s in parts]
    return Sensors(
        one.names + two.names,
        one.kinds + two.kinds,
        np.concatenate([one.positions, two.positions]),
        np.concatenate([s.points for s in parts]) if parts else None,
        np.concatenate([s.directions for s in parts]) if parts else None,
        np.concatenate(owners) if parts else None,
    )


def average(gain):
    """Return a gain (sensor, ...) whose sum over sensors is zero."""
    return gain - gain.mean(axis=0)


def rdm(gain, truth):
    """Relative difference measure of topographies along the first axis: 0 alike, 2 opposite."""
    return np.linalg.norm(gain / np.linalg.norm(gain, axis=0) - truth / np.linalg.norm(truth, axis=0), axis=0)


def lnmag(gain, truth):
    """Logarithm of the ratio of topographies' lengths along the first axis."""
    return np.log(np.linalg.norm(gain, axis=0) / np.linalg.norm(truth, axis=0))


def assert_same(gain, wanted, tolerance):
    """Two gains agree, relative to the largest entry."""
    assert_allclose(gain, wanted, rtol=0, atol=tolerance * np.abs(wanted).max())


def info_of(sensors):
    """An MNE-Python info of electrodes and magnetometers of one point each, device and head coordinates alike."""
    import mne

    fiff = mne.io.constants.FIFF
    info = mne.create_info(list(sensors.names), 100.0, list(sensors.kinds), verbose=False)
    owner = {} if sensors.owner is None else {number: point for point, number in enumerate(sensors.owner)}
    for number, channel in enumerate(info["chs"]):
        channel["loc"][:3] = sensors.positions[number]
        channel["loc"][3:] = 0.0
        channel["coord_frame"] = fiff.FIFFV_COORD_HEAD
        if number in owner:
            # The third axis of a coil is the direction that it reads.
            axis = sensors.directions[owner[number]]
            one = np.linalg.svd(axis[None])[2][1]
            channel["loc"][3:] = np.concatenate([one, np.cross(axis, one), axis])
            channel["coil_type"] = fiff.FIFFV_COIL_POINT_MAGNETOMETER
            channel["coord_frame"] = fiff.FIFFV_COORD_DEVICE
    with info._unlock():
        info["dev_head_t"] = mne.transforms.Transform("meg", "head")
    return info


def mne_gain(sensors, dipoles, model):
    """MNE-Python's gain (sensor, source, 3) of a sphere model or a BEM solution whose frame is that of the head."""
    import mne

    info, trans = info_of(sensors), mne.transforms.Transform("head", "mri")
    normals = np.tile([0.0, 0.0, 1.0], (len(dipoles), 1))
    space = mne.setup_volume_source_space(pos={"rr": dipoles.positions, "nn": normals}, verbose=False)
    space[0]["coord_frame"] = mne.io.constants.FIFF.FIFFV_COORD_HEAD
    kinds = {"meg": "mag" in sensors.kinds, "eeg": "eeg" in sensors.kinds}
    forward = mne.make_forward_solution(info, trans, space, model, mindist=0.0, verbose=False, **kinds)
    # Coils come first, whatever the order of the channels, and sources too close to the surface are left out.
    assert forward["nsource"] == len(dipoles)
    rows = [forward["sol"]["row_names"].index(name) for name in sensors.names]
    return forward["sol"]["data"][rows].reshape(len(sensors), len(dipoles), 3)


class Laws:
    """What holds of the potential and of the magnetic field."""

    exact = 1e-12  # laws of bookkeeping: the same arithmetic in another order
    rigid = 1e-9  # laws of symmetry: the same scene in other coordinates
    deep = 0.6  # eccentricity of the sources of these laws
    step = 1e-4  # m, between places whose gains are differenced
    every = 1  # of how many sensors one is solved again where the head or the order is another

    def solve(self, head, sensors, sources):
        raise NotImplementedError

    def sensors(self):
        raise NotImplementedError

    def read(self, gain):
        """What of a gain does not depend on a convention (the reference of the potential)."""
        raise NotImplementedError

    def gain(self, head, sensors, sources):
        return self.read(self.solve(head, sensors, sources).gain)

    def few(self, sensors):
        """Indices of the sensors that are solved again."""
        return np.arange(0, len(sensors), self.every)

    def assert_these(self, which, head, sensors, dipoles, wanted, tolerance=None):
        """The gain of some sensors is what is wanted of these, relative to the largest entry."""
        gain = self.gain(head, sensors, dipoles)
        assert_same(gain, self.read(wanted[which]), self.rigid if tolerance is None else tolerance)

    @pytest.fixture
    def any_head(self, head):
        """The head of the laws of bookkeeping and symmetry, which hold of any."""
        return head

    @pytest.fixture
    def scene(self, any_head):
        cached = type(self).__dict__.get("cached")  # solved once per class
        if cached is None:
            sensors, dipoles = self.sensors(), sources(self.deep)
            cached = type(self).cached = (any_head, sensors, dipoles, self.gain(any_head, sensors, dipoles))
        return cached

    def test_gain_has_an_axis_per_sensor_source_and_direction(self, scene):
        _, sensors, dipoles, gain = scene
        assert gain.shape == (len(sensors), len(dipoles), 3)

    def test_each_source_fills_its_own_column(self, scene):
        head, sensors, dipoles, gain = scene
        single = self.gain(head, sensors, dipoles.pick([4]))
        assert_same(single[:, 0], gain[:, 4], self.exact)
        swapped = self.gain(head, sensors, dipoles.pick(np.arange(len(dipoles))[::-1]))
        assert_same(swapped[:, ::-1], gain, self.exact)

    def test_each_sensor_fills_its_own_row(self, scene):
        head, sensors, dipoles, gain = scene
        order = np.random.default_rng(1).permutation(len(sensors))[:: self.every]
        self.assert_these(order, head, sensors.pick(order), dipoles, gain, tolerance=self.exact)

    def test_turning_the_whole_scene_turns_the_gain(self, scene):
        head, sensors, dipoles, gain = scene
        turn = Rotation.from_rotvec([0.4, -0.9, 0.3])
        shift = (0.01, 0.02, -0.03)
        few = self.few(sensors)
        rotated = (moved(x, turn, 1.0, shift) for x in (head, sensors.pick(few), dipoles))
        self.assert_these(few, *rotated, gain @ turn.as_matrix().T)

    def test_a_head_twice_the_size_reads_a_quarter(self, scene):
        head, sensors, dipoles, gain = scene
        few = self.few(sensors)
        larger = (moved(x, scale=2.0) for x in (head, sensors.pick(few), dipoles))
        self.assert_these(few, *larger, gain / 4)


class PotentialLaws(Laws):
    """What holds of the electric potential."""

    ring = 1e-12  # potential of a closed ring relative to that of its dipoles
    curl = 1e-5  # reciprocity, by central differences
    # (eccentricity, median RDM, largest RDM, largest |lnMAG|) allowed against the series
    accuracy = ((0.3, 1e-11, 1e-11, 1e-11), (0.95, 1e-11, 1e-11, 1e-11))
    homogeneous = 1e-11  # RDM against the closed form of one sphere

    def sensors(self):
        return electrodes()

    def read(self, gain):
        return average(gain)

    def test_twice_the_conductivity_halves_the_potential(self, scene):
        head, sensors, dipoles, gain = scene
        doubled = replace(
            head,
            conductivities=tuple(tuple(2 * np.asarray(c)) if np.ndim(c) else 2 * c for c in head.conductivities),
            tensors=None if head.tensors is None else 2 * head.tensors,
        )
        few = self.few(sensors)
        self.assert_these(few, doubled, sensors.pick(few), dipoles, gain / 2)

    def test_potential_differences_are_independent_of_the_reference(self, scene):
        head, sensors, dipoles, gain = scene
        field = self.solve(head, sensors, dipoles)
        named = field.rereference(sensors.names[5])
        assert_allclose(named.gain[5], 0, atol=1e-12 * np.abs(gain).max())
        assert_same(named.rereference("average").gain, gain, self.exact)

    def test_a_closed_ring_of_current_is_silent(self, head):
        dipoles, moments = ring()
        parts = np.einsum("msa,sa->ms", self.gain(head, self.sensors(), dipoles), moments)
        assert np.linalg.norm(parts.sum(1)) < self.ring * np.linalg.norm(parts, axis=0).sum()

    def test_reciprocity_the_gain_is_a_field_without_curl_or_source(self, head):
        # By reciprocity the gain between two electrodes, as a function of place, is the field that a unit current
        # from one to the other drives through the brain: it has no curl and no divergence.
        step, centre = self.step, np.array([0.012, -0.02, 0.03])
        moves = step * np.concatenate([np.eye(3), -np.eye(3)])
        gain = self.gain(head, self.sensors(), Sources(centre + moves))
        slope = (gain[:, :3] - gain[:, 3:]) / (2 * step)  # (sensor, along, component)
        size = np.abs(slope).max()
        assert np.abs(slope - slope.transpose(0, 2, 1)).max() < self.curl * size
        assert np.abs(np.trace(slope, axis1=1, axis2=2)).max() < self.curl * size

    def test_agrees_with_the_series(self, head):
        spheres = Head(head.names, head.conductivities, radii=RADII)
        for eccentricity, median, largest, size in self.accuracy:
            dipoles = sources(eccentricity, 20)
            truth = average(sphere.lead_field(spheres, self.sensors(), dipoles).gain)
            gain = self.gain(head, self.sensors(), dipoles)
            moments = np.stack([dipoles.normals, tangents(dipoles)])
            computed, wanted = (np.einsum("msa,osa->mso", g, moments) for g in (gain, truth))
            error = rdm(computed, wanted)
            assert np.median(error) < median
            assert error.max() < largest
            assert np.abs(lnmag(computed, wanted)).max() < size

    def test_one_conductivity_everywhere_is_one_sphere(self, head):
        uniform = replace(head, conductivities=(0.33,) * len(head.names), tensors=None)
        dipoles = sources(self.deep)
        one = Head(("all",), (0.33,), radii=(RADII[-1],))
        truth = average(sphere.lead_field(one, self.sensors(), dipoles).gain)
        assert rdm(self.gain(uniform, self.sensors(), dipoles), truth).max() < self.homogeneous


class FieldLaws(Laws):
    """What holds of the magnetic field."""

    silence = 1e-12  # a radial source in a sphere relative to a tangential one, at eccentricity 0.95
    ring = 1e-12  # the field of a ring relative to the sum of its dipoles' fields
    divergence = 1e-5  # of the gain, by central differences
    accuracy = ((0.3, 1e-11, 1e-11, 1e-11), (0.95, 1e-11, 1e-11, 1e-11))

    def sensors(self):
        return coils()

    def read(self, gain):
        return gain

    def test_the_field_does_not_depend_on_the_unit_of_conductivity(self, scene):
        head, sensors, dipoles, gain = scene
        doubled = replace(
            head,
            conductivities=tuple(tuple(2 * np.asarray(c)) if np.ndim(c) else 2 * c for c in head.conductivities),
            tensors=None if head.tensors is None else 2 * head.tensors,
        )
        few = self.few(sensors)
        self.assert_these(few, doubled, sensors.pick(few), dipoles, gain)

    def test_a_radial_source_in_a_sphere_is_silent(self, head):
        dipoles = sources(0.95, 20)
        gain = self.gain(head, self.sensors(), dipoles)
        radial = np.einsum("msa,sa->ms", gain, dipoles.normals)
        tangential = np.einsum("msa,sa->ms", gain, tangents(dipoles))
        leak = np.linalg.norm(radial, axis=0) / np.linalg.norm(tangential, axis=0)
        assert leak.max() < self.silence

    def test_a_closed_ring_of_current_is_seen_as_without_the_head(self, head):
        # No current leaves the ring, so no volume current flows and the head drops out.
        from bayesinv.forward import unbounded

        dipoles, moments = ring()
        sensors = self.sensors()
        parts = np.einsum("msa,sa->ms", self.gain(head, sensors, dipoles), moments)
        free = np.einsum("msa,sa->m", unbounded.lead_field(0.33, sensors, dipoles).gain, moments)
        size = np.linalg.norm(parts, axis=0).sum()
        assert np.linalg.norm(free) > 1e-3 * size
        assert np.linalg.norm(parts.sum(1) - free) < self.ring * size

    def test_reciprocity_the_gain_is_a_field_without_source(self, head):
        # By reciprocity the gain of a coil, as a function of place, is the field that a changing current in the
        # coil drives through the head: what enters a small box leaves it.
        step, centre = self.step, np.array([0.012, -0.02, 0.03])
        moves = step * np.concatenate([np.eye(3), -np.eye(3)])
        gain = self.gain(head, self.sensors(), Sources(centre + moves))
        slope = (gain[:, :3] - gain[:, 3:]) / (2 * step)
        assert np.abs(np.trace(slope, axis1=1, axis2=2)).max() < self.divergence * np.abs(slope).max()

    def test_agrees_with_sarvas(self, head):
        spheres = Head(head.names, head.conductivities, radii=RADII)
        for eccentricity, median, largest, size in self.accuracy:
            dipoles = sources(eccentricity, 20)
            truth = sphere.lead_field(spheres, self.sensors(), dipoles).gain
            gain = self.gain(head, self.sensors(), dipoles)
            computed, wanted = (np.einsum("msa,sa->ms", g, tangents(dipoles)) for g in (gain, truth))
            error = rdm(computed, wanted)
            assert np.median(error) < median
            assert error.max() < largest
            assert np.abs(lnmag(computed, wanted)).max() < size


def tangents(dipoles):
    """One unit vector per source at right angles to its normal."""
    across = np.cross(dipoles.normals, np.array([0.3, -0.5, 0.2]) + np.roll(dipoles.normals, 1, axis=1))
    return across / np.linalg.norm(across, axis=1, keepdims=True)


def test_the_measures_know_their_extremes():
    one = np.random.default_rng(0).normal(size=(9, 4))
    assert_allclose(rdm(one, 3 * one), 0, atol=1e-12)
    assert_allclose(rdm(one, -one), 2)
    assert_allclose(lnmag(3 * one, one), np.log(3))
