"""A truth's world is another one than the inversion's, and the inverse crime is detected."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from bayesinv.forward import template_lead_field
from bayesinv.forward.leadfield import LeadField
from bayesinv.forward.unbounded import lead_field as unbounded
from bayesinv.geometry.icosphere import geodesic_sphere
from bayesinv.geometry.surfaces import nearest
from bayesinv.head import conductivities, displacement, template, template_cortex
from bayesinv.head.sensors import Sensors
from bayesinv.head.sources import Sources
from bayesinv.problem.problem import Problem
from bayesinv.simulation import inverse_crime, noise, recording, truths, world
from bayesinv.simulation import places as places_simulation

TIMES = np.arange(-20, 41) / 250.0

SAME_COMPUTATION = {
    "itself": lambda field: field,
    "a copy": lambda field: replace(field, gain=field.gain.copy()),
    "rounded": lambda field: replace(field, gain=field.gain.astype(np.float32).astype(float)),
    "the average reference": lambda field: field.rereference("average"),
    "another electrode": lambda field: field.rereference("C"),
    "some sources": lambda field: field.restrict(sources=np.array([7, 29])),
    "other order": lambda field: field.restrict(np.arange(10)[::-1], np.arange(30)[::-1]),
    "bad channels": lambda field: field.rereference("average").restrict(np.array([0, 1, 2, 4, 5, 7, 9])),
    "normals": lambda field: field.fixed(),
    "normals of some": lambda field: field.fixed().restrict(sources=np.array([4])),
    "tangents": lambda field: field.tangential()[0],
    "microvolts": lambda field: replace(field, gain=1e6 * field.gain),
    "one of its own among others": lambda field: joined(field),
}


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def scalp():
    sphere = geodesic_sphere(16)
    return replace(sphere, vertices=0.1 * sphere.vertices)


@pytest.fixture
def electrodes(rng, scalp):
    places = 0.1 * unit(rng.standard_normal((400, 3)))
    return Sensors.electrodes([f"E{i}" for i in range(400)], places, scalp)


@pytest.fixture
def sensors(rng):
    return Sensors(tuple("ABCDEFGHIJ"), ("eeg",) * 10, 0.1 * unit(rng.standard_normal((10, 3))))


@pytest.fixture
def sources(rng):
    return Sources(0.05 * unit(rng.standard_normal((30, 3))), unit(rng.standard_normal((30, 3))))


@pytest.fixture
def lead_field(sensors, sources):
    return unbounded(0.33, sensors, sources)


class TestConductivities:
    def test_they_fill_their_ranges_evenly_in_the_logarithm(self, rng):
        drawn = [conductivities.draw_conductivities(rng) for _ in range(600)]
        assert list(drawn[0]) == ["brain", "CSF", "skull", "scalp"]
        for name, (low, high) in conductivities.RANGES.items():
            # An ellipsoid of the same volume: the geometric mean of one radial and two tangential axes.
            size = np.array([radial_mean(one[name]) for one in drawn])
            share = np.log(size / low) / np.log(high / low)
            assert stats.kstest(share, "uniform").pvalue > 1e-3
        ratio = np.array([one["skull"][1] / one["skull"][0] for one in drawn])
        low, high = conductivities.ANISOTROPY
        assert stats.kstest(np.log(ratio / low) / np.log(high / low), "uniform").pvalue > 1e-3

    def test_an_isotropic_skull_is_one_number(self, rng):
        drawn = conductivities.draw_conductivities(rng, anisotropy=None)
        assert 0.004 <= drawn["skull"] <= 0.03

    def test_ranges_are_checked(self, rng):
        with pytest.raises(ValueError, match=r"the range of skull is 0\.0 to 1\.0"):
            conductivities.draw_conductivities(rng, {"skull": (0.0, 1.0)})
        with pytest.raises(ValueError, match=r"the range of anisotropy is 3\.0 to 1\.0"):
            conductivities.draw_conductivities(rng, anisotropy=(3.0, 1.0))


def radial_mean(value):
    return value if np.ndim(value) == 0 else (value[0] * value[1] ** 2) ** (1 / 3)


class TestDisplaced:
    def test_electrodes_slide_along_the_scalp_by_the_distance_asked_for(self, electrodes, scalp, rng):
        moved = displacement.displaced(electrodes, scalp, rng, displacement=0.004, coregistration=(0, 0))
        assert nearest(scalp, moved.positions)[2].max() < 1e-9
        step = moved.positions - electrodes.positions
        assert np.sqrt(np.mean(np.sum(step**2, axis=1))) == pytest.approx(0.004, rel=0.06)
        radial = np.sum(step * unit(electrodes.positions), axis=1)
        assert np.abs(radial).max() < 0.0015
        assert moved.names == electrodes.names

    def test_the_common_motion_is_rigid(self, electrodes, scalp, rng):
        # On a sphere about the middle of the electrodes a turn alone leaves them on the scalp.
        half = electrodes.positions[:30]
        ring = Sensors.electrodes([f"E{i}" for i in range(60)], np.concatenate([half, -half]))
        angles = []
        for _ in range(40):
            moved = displacement.displaced(ring, scalp, rng, displacement=0, coregistration=(0, 5.0))
            turn = np.linalg.svd(moved.positions.T @ ring.positions)
            turn = turn[0] @ turn[2]
            assert_allclose(ring.positions @ turn.T, moved.positions, atol=2e-4)
            angles.append(np.degrees(np.arccos((np.trace(turn) - 1) / 2)))
        assert np.sqrt(np.mean(np.square(angles))) == pytest.approx(5.0, rel=0.35)

    def test_coils_move_as_a_whole(self, scalp, rng):
        places = 0.13 * unit(rng.standard_normal((6, 3)))
        coils = Sensors.magnetometers([f"M{i}" for i in range(6)], places, unit(places))
        shifts = []
        for _ in range(200):
            moved = displacement.displaced(coils, scalp, rng, displacement=0.01, coregistration=(0.002, 0))
            assert_allclose(moved.points - coils.points, np.tile(moved.points[0] - coils.points[0], (6, 1)), atol=1e-12)
            shifts.append(np.linalg.norm(moved.points[0] - coils.points[0]))
        assert np.sqrt(np.mean(np.square(shifts))) == pytest.approx(0.002, rel=0.1)
        turned = displacement.displaced(coils, scalp, rng, coregistration=(0.002, 10.0))
        apart = np.linalg.norm(coils.positions[:, None] - coils.positions, axis=2)
        assert_allclose(np.linalg.norm(turned.positions[:, None] - turned.positions, axis=2), apart, atol=1e-12)
        middle = [each.points - each.points.mean(axis=0) for each in (coils, turned)]
        assert_allclose(middle[1] @ turned.directions.T, middle[0] @ coils.directions.T, atol=1e-12)

    def test_it_repeats_by_its_generator(self, electrodes, scalp):
        one, two, other = (
            displacement.displaced(electrodes, scalp, np.random.default_rng(seed)).positions for seed in (3, 3, 4)
        )
        assert_array_equal(one, two)
        assert not np.array_equal(one, other)

    def test_numbers_are_checked(self, electrodes, scalp, rng):
        with pytest.raises(ValueError, match="must be at least 0"):
            displacement.displaced(electrodes, scalp, rng, displacement=-0.001)
        with pytest.raises(ValueError, match="far from the scalp"):
            displacement.displaced(electrodes, scalp, rng, coregistration=(0.3, 0))


def joined(field):
    shifted = replace(field.sources, positions=0.9 * field.sources.positions)
    gain = unbounded(0.33, field.sensors, shifted).gain.copy()
    gain[:, 11] = field.gain[:, 11]
    return replace(field, gain=gain)


class TestCrime:
    @pytest.mark.parametrize("change", SAME_COMPUTATION)
    def test_one_computation_is_recognised(self, lead_field, change):
        other = SAME_COMPUTATION[change](lead_field)
        assert inverse_crime.same_lead_field(lead_field, other)
        assert inverse_crime.same_lead_field(other, lead_field)

    def test_fixed_is_recognised_in_fixed(self, lead_field):
        one = lead_field.fixed()
        assert inverse_crime.same_lead_field(one, one.restrict(sources=np.array([3])).rereference("average"))

    def test_another_computation_is_not(self, lead_field, sensors, sources, rng):
        turned = replace(sources, normals=places_simulation.tilted(sources, 10, rng).normals)
        for other in (
            unbounded(0.33, sensors, replace(sources, positions=1.0001 * sources.positions)),
            unbounded(0.33, replace(sensors, positions=1.0001 * sensors.positions), sources),
            replace(lead_field, gain=lead_field.gain * (1 + 1e-4 * rng.standard_normal(lead_field.gain.shape))),
        ):
            assert not inverse_crime.same_lead_field(lead_field, other)
            assert not inverse_crime.same_lead_field(lead_field.fixed(), other)
            assert not inverse_crime.same_lead_field(lead_field, other.fixed())
        assert not inverse_crime.same_lead_field(lead_field.fixed(), replace(lead_field, sources=turned).fixed())

    def test_sensors_of_other_names_are_other_sensors(self, lead_field):
        other = replace(lead_field.sensors, names=tuple("abcdefghij"))
        assert not inverse_crime.same_lead_field(lead_field, replace(lead_field, sensors=other))

    def test_too_few_sensors_are_refused(self, lead_field):
        with pytest.raises(ValueError, match="4 sensors in common are too few"):
            inverse_crime.same_lead_field(lead_field, lead_field.restrict(np.arange(4)))

    @pytest.mark.parametrize("reference", ["infinity", "average"])
    def test_it_is_found_in_a_problem(self, lead_field, sensors, sources, rng, reference):
        lead_field = lead_field.rereference(reference)
        truth = truths.dipole_truth(sources, sources.positions[[4, 8]], TIMES, jitter=5.0, rng=rng)
        made = recording.simulate(truth, lead_field, noise.correlated_covariance(sensors), rng, snr=2.0)
        honest = unbounded(0.33, sensors, replace(sources, positions=0.99 * sources.positions)).rereference(reference)
        assert inverse_crime.inverse_crime(made, lead_field)
        assert not inverse_crime.inverse_crime(made, honest)
        assert inverse_crime.inverse_crime(made, made.problem(lead_field))
        assert not inverse_crime.inverse_crime(made, made.problem(honest))
        nameless = replace(made.problem(lead_field), sensors=None, sources=None)
        assert inverse_crime.inverse_crime(made, nameless)

    def test_a_problem_of_unknown_whitening_is_refused(self, lead_field, sources, rng):
        truth = truths.dipole_truth(sources, sources.positions[4], TIMES)
        made = recording.simulate(truth, lead_field, np.eye(10), rng, snr=2.0)
        bare = replace(made.problem(lead_field), whitener=None, lead_field=None)
        with pytest.raises(ValueError, match="its gain has nothing to be compared with"):
            inverse_crime.inverse_crime(made, bare)
        few = Problem.from_arrays(lead_field.gain[:7], made.recording.field[:7], made.noise.covariance[:7, :7])
        with pytest.raises(ValueError, match="the problem has 7 sensors and the truth 10"):
            inverse_crime.inverse_crime(made, few)


@pytest.fixture
def solved(monkeypatch):
    """Stands in for finite elements: an unbounded conductor. What was asked of it is kept."""
    asked = []

    class Transfer:
        def __init__(self, head, sensors):
            asked.append((head, sensors))

        def lead_field(self, sources):
            return unbounded(asked[-1][0].conductivities[0], asked[-1][1], sources)

    monkeypatch.setattr("bayesinv.forward.fem_transfer.transfer", Transfer)
    monkeypatch.setattr(
        "bayesinv.head.template_mesh.finite_elements",
        lambda resolution, values: template.head(values[:1] + values[2:]),
    )
    return asked


class TestWorld:
    def test_it_is_off_the_grid_displaced_and_ready_for_patches(self, solved, tmp_path, rng):
        sensors, grid = template_cortex.electrodes(32), template_cortex.sources("oct4")
        made = world.draw_world(rng, sensors=sensors, spacing="ico3", avoid=grid, cache=tmp_path)
        used = {*zip(grid.vertices.tolist(), grid.hemispheres.tolist(), strict=True)}
        cortex = made.cortex
        assert len(cortex) == 1284
        assert not used & {*zip(cortex.vertices.tolist(), cortex.hemispheres.tolist(), strict=True)}
        assert made.lead_field.reference == "average"
        assert made.lead_field.sensors.names == sensors.names
        off = np.linalg.norm(made.lead_field.sensors.positions - sensors.positions, axis=1)
        assert 0.001 < np.sqrt(np.mean(off**2)) < 0.012
        assert nearest(template.surfaces(4)[-1], made.lead_field.sensors.positions)[2].max() < 1e-9
        truth = truths.patch_truth(cortex, cortex.positions[50], TIMES, area=8e-4)
        assert len(truth.sources) >= 4
        recorded = recording.simulate(truth, made.lead_field, np.eye(32), rng, snr=1.0)
        inversion = unbounded(0.33, sensors, grid).rereference("average")
        assert not inverse_crime.inverse_crime(recorded, inversion)
        assert recorded.problem(inversion).source_count == len(grid)
        assert "off by" in made.notes["sensors"]

    def test_it_is_computed_once_and_repeats_by_its_generator(self, solved, tmp_path):
        sensors = template_cortex.electrodes(32)
        one, two, other = (
            world.draw_world(np.random.default_rng(seed), sensors=sensors, spacing="oct4", cache=tmp_path)
            for seed in (1, 1, 2)
        )
        assert len(solved) == 2
        assert_array_equal(one.lead_field.gain, two.lead_field.gain)
        assert one.conductivities == two.conductivities != other.conductivities
        assert not inverse_crime.same_lead_field(one.lead_field, other.lead_field)

    def test_it_comes_back_from_a_file(self, solved, tmp_path, rng, monkeypatch):
        from bayesinv.bridges import archive, archive_load

        monkeypatch.setitem(archive_load.NOUNS, "World", world.World)
        made = world.draw_world(rng, sensors=template_cortex.electrodes(32), spacing="oct4", cache=tmp_path)
        archive.save(made, tmp_path / "world.nc")
        back = archive_load.load(tmp_path / "world.nc")
        assert_array_equal(back.lead_field.gain, made.lead_field.gain)
        assert back.conductivities == made.conductivities
        assert back.notes == made.notes

    def test_conductivities_can_be_given(self, solved, tmp_path, rng):
        given = {"scalp": 0.4, "skull": (0.005, 0.02), "CSF": 1.75, "brain": 0.3}
        made = world.draw_world(
            rng, sensors=template_cortex.electrodes(32), spacing="oct4", conductivities=given, cache=tmp_path
        )
        assert solved[0][0].conductivities == (0.3, (0.005, 0.02), 0.4)
        assert made.notes["conductivities"].startswith("scalp 0.4; skull 0.005 radial, 0.02 tangential")
        with pytest.raises(ValueError, match="conductivities are of brain, but the head has brain, CSF, skull, scalp"):
            world.draw_world(rng, sensors=template_cortex.electrodes(32), conductivities={"brain": 0.3})

    def test_resolution_must_be_known(self, rng):
        with pytest.raises(ValueError, match="no resolution named 'medium'"):
            world.draw_world(rng, sensors=template_cortex.electrodes(32), resolution="medium")


@pytest.mark.slow
def test_finite_elements_differ_from_boundary_elements_as_worlds_do(tmp_path):
    sensors, grid = template_cortex.electrodes(32), template_cortex.sources("oct4")
    made = world.draw_world(np.random.default_rng(5), sensors=sensors, spacing="oct4", avoid=grid, cache=tmp_path)
    believed = template_lead_field.lead_field(made.cortex, sensors, cache=tmp_path).rereference("average")
    assert not inverse_crime.same_lead_field(made.lead_field, believed)
    one, two = (each.fixed().gain[:, :, 0] for each in (made.lead_field, believed))
    alike = np.sum(one * two, axis=0) / np.linalg.norm(one, axis=0) / np.linalg.norm(two, axis=0)
    # Another head, not another physics.
    assert 0.9 < np.median(alike) < 0.999
    assert isinstance(made.lead_field, LeadField)
