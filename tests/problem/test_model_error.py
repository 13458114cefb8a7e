"""Forward error: mean of an uncertain lead field and covariance of its error."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

import bayesinv as bi
from bayesinv.forward.leadfield import LeadField
from bayesinv.geometry.icosphere import geodesic_sphere
from bayesinv.head.head import Head
from bayesinv.head.sensors import Sensors
from bayesinv.head.sources import Sources
from bayesinv.problem.model_error import ForwardError, forward_error

SENSORS, SOURCES, SAMPLES = 9, 14, 11


@pytest.fixture
def sensors():
    places = geodesic_sphere(3).vertices
    chosen = places[places[:, 2] > 0.1][:SENSORS]
    return Sensors.electrodes([f"E{i}" for i in range(SENSORS)], 0.09 * chosen)


@pytest.fixture
def sources(rng):
    out = rng.standard_normal((SOURCES, 3))
    out /= np.linalg.norm(out, axis=1, keepdims=True)
    return Sources(0.06 * out, out)


@pytest.fixture
def fields(sensors, sources, rng):
    """Free lead fields about a common one, with errors of their own size in every sensor."""
    centre = 50 * rng.standard_normal((SENSORS, SOURCES, 3))
    size = np.linspace(1, 9, SENSORS)[:, None, None]
    return [LeadField(centre + size * rng.standard_normal(centre.shape), sensors, sources) for _ in range(6)]


@pytest.fixture
def sphere():
    return Head.spheres((0.08, 0.084, 0.09), (0.33, 0.01, 0.33), subdivisions=2)


def problem_of(lead_field, rng, axes=1, **more):
    gain = lead_field.fixed().gain[:, :, 0] if axes == 1 else lead_field.gain
    noise = 1e-12 * np.diag(np.linspace(1, 3, len(gain)))
    field = 1e-6 * rng.standard_normal((len(gain), SAMPLES))
    given = {"sources": lead_field.sources, "sensors": lead_field.sensors}
    return bi.Problem.from_arrays(gain, field, noise, **{**given, **more})


class TestOf:
    @pytest.mark.parametrize("kind", ["fixed", "free"])
    def test_it_is_numpys_covariance_of_a_further_draw(self, fields, kind):
        table = np.stack([(one.fixed() if kind == "fixed" else one).gain.reshape(SENSORS, -1) for one in fields])
        wanted = sum(np.cov(table[:, :, p].T) for p in range(table.shape[2])) * (1 + 1 / len(fields))
        found = ForwardError.of(fields)
        assert_allclose(found.factors[kind] @ found.factors[kind].T, wanted, rtol=1e-10)
        assert_allclose(found.mean.gain, np.mean([one.gain for one in fields], axis=0), rtol=1e-12)

    def test_it_expects_the_error_of_a_lead_field_that_is_not_among_the_draws(self, sensors, sources, rng):
        claimed = made = 0.0
        for _ in range(300):
            draws = rng.standard_normal((4, SENSORS, SOURCES, 1))
            *drawn, other = (LeadField(one, sensors, sources) for one in draws)
            found = ForwardError.of(drawn)
            claimed += np.sum(found.factors["fixed"] ** 2)
            made += np.sum((other.gain - found.mean.gain) ** 2)
        # Of 300 x 9 x 14 squares each sum is known to half a percent; leaving out 1 + 1/K would be off by a quarter.
        assert claimed == pytest.approx(made, rel=0.03)

    def test_volts_and_teslas_keep_their_error_each(self, fields):
        kinds = ("mag",) * 4 + ("eeg",) * 5
        given = fields[0].sensors
        coils = (given.positions[:4], np.tile([0.0, 0, 1], (4, 1)), np.arange(4))
        both = Sensors(given.names, kinds, given.positions, *coils)
        scale = np.where(np.array(kinds) == "mag", 1e-12, 1.0)[:, None, None]
        plain = ForwardError.of(fields).factors["free"]
        found = ForwardError.of([replace(one, gain=scale * one.gain, sensors=both) for one in fields]).factors["free"]
        wanted = (plain @ plain.T) * scale[:, :, 0] * scale[:, 0].T
        assert_allclose(found @ found.T, wanted, rtol=1e-9)

    def test_the_average_reference_stays_without_a_mean(self, fields):
        found = ForwardError.of([one.rereference("average") for one in fields])
        assert found.factors["fixed"].shape == (SENSORS, SENSORS - 1)
        assert_allclose(found.factors["fixed"].mean(axis=0), 0, atol=1e-10)

    def test_modes_are_what_lead_fields_vary_by(self, sensors, sources, rng):
        centre, along, across = 50 * rng.standard_normal((3, SENSORS, SOURCES, 3))
        across -= np.sum(across * along) / np.sum(along**2) * along
        at = np.array([[-1.0, 0.2], [0.5, -0.4], [2.0, 0.1], [-1.5, 0.1]])
        at -= at.mean(axis=0)
        given = [LeadField(centre + a * along + b * across, sensors, sources) for a, b in at]
        found = ForwardError.of(given)
        # The covariance of gains is that of numpy, along both, and they are orthogonal.
        wanted = np.einsum("ki,kj,iabc,jdef->abcdef", at, at, *[np.stack([along, across])] * 2, optimize=True) / 3
        made = np.einsum("jabc,jdef->abcdef", found.modes, found.modes)
        assert_allclose(made, wanted, atol=1e-4 * np.abs(wanted).max())
        assert len(found.modes) == 2
        powers = np.einsum("jabc,kabc->jk", found.modes, found.modes)
        assert powers[0, 0] > powers[1, 1] > 0
        assert abs(powers[0, 1]) < 1e-4 * powers[0, 0]

    def test_doors(self, fields):
        with pytest.raises(ValueError, match="1 lead fields were given"):
            ForwardError.of(fields[:1])
        with pytest.raises(ValueError, match="all 2 lead fields are the same"):
            ForwardError.of([fields[0], fields[0]])
        with pytest.raises(ValueError, match="other sensors"):
            ForwardError.of([fields[0], fields[1].restrict(sensors=np.arange(SENSORS)[::-1])])
        with pytest.raises(ValueError, match="must be alike"):
            ForwardError.of([fields[0], fields[1].restrict(sources=np.arange(5))])
        with pytest.raises(ValueError, match="other sources"):
            ForwardError.of([fields[0], fields[1].restrict(sources=np.arange(SOURCES)[::-1])])
        with pytest.raises(ValueError, match="use rereference"):
            ForwardError.of([fields[0], fields[1].rereference("average")])


class TestApply:
    @pytest.mark.parametrize("axes", [1, 3])
    def test_mean_and_error_are_whitened_as_the_problem_is(self, fields, rng, axes):
        found = ForwardError.of(fields)
        problem = problem_of(fields[0], rng, axes)
        made = found.apply(problem)
        mean = problem_of(found.mean, rng, axes)
        factor = found.factors[made.orientation]
        assert_allclose(made.gain, mean.gain, rtol=1e-12)
        assert_allclose(
            made.error_factor @ made.error_factor.T, problem.whitener @ factor @ factor.T @ problem.whitener.T
        )
        moved = replace(found.mean, gain=found.mean.gain + found.modes[1])
        assert_allclose(made.gain_modes[1], problem_of(moved, rng, axes).gain - mean.gain, atol=1e-9 * mean.gain.max())
        assert made.recording is problem.recording or np.array_equal(made.recording, problem.recording)

    def test_some_sensors_in_another_order(self, fields, rng):
        index = np.array([7, 2, 3, 8, 0])
        fields = [one.rereference("average") for one in fields]
        restricted = [one.restrict(sensors=index) for one in fields]
        # The recording's average is that of the electrodes it has.
        again = [replace(one, gain=one.gain - one.gain.mean(axis=0)) for one in restricted]
        problem = problem_of(again[0], rng)
        one, other = ForwardError.of(fields).apply(problem), ForwardError.of(again).apply(problem)
        assert_allclose(one.gain, other.gain, rtol=1e-10)
        assert_allclose(one.error_factor @ one.error_factor.T, other.error_factor @ other.error_factor.T, rtol=1e-9)
        of_rest = ForwardError.of(fields)
        of_rest = replace(of_rest.mean, gain=of_rest.mean.gain + of_rest.modes[0]).restrict(sensors=index)
        of_rest = replace(of_rest, gain=of_rest.gain - of_rest.gain.mean(axis=0))
        assert_allclose(one.gain + one.gain_modes[0], problem_of(of_rest, rng).gain, rtol=1e-7)

    def test_doors(self, fields, rng):
        found = ForwardError.of(fields)
        problem = problem_of(fields[0], rng)
        with pytest.raises(ValueError, match="whitened before it came"):
            found.apply(replace(problem, whitener=None))
        with pytest.raises(ValueError, match="a SurfaceProblem was given"):
            found.apply(bi.surface_axes(problem_of(fields[0], rng, 3)))
        with pytest.raises(ValueError, match="known for fixed only"):
            ForwardError.of([one.fixed() for one in fields]).apply(problem_of(fields[0], rng, 3))
        names = replace(problem.sensors, names=("X", *problem.sensors.names[1:]))
        with pytest.raises(ValueError, match="1 sensors, such as X"):
            found.apply(replace(problem, sensors=names))
        with pytest.raises(ValueError, match="has 13 sources"):
            found.apply(problem_of(fields[0].restrict(sources=np.arange(13)), rng))
        with pytest.raises(ValueError, match="from those of the error; draw"):
            found.apply(problem_of(fields[0].restrict(sources=np.arange(SOURCES)[::-1]), rng))
        with pytest.raises(ValueError, match="give forward_error that reference"):
            found.apply(replace(problem, lead_field=fields[0].rereference("average").fixed()))

    @pytest.mark.slow
    def test_intervals_cover_with_it_and_not_without(self, sensors, rng):
        """Recordings made with lead fields that the inversion does not know, which the error stands for."""
        count, sources = 6, Sources(0.02 * rng.standard_normal((6, 3)))
        centre = 40 * rng.standard_normal((SENSORS, count, 1))

        def draw():
            return LeadField(centre + 25 * rng.standard_normal(centre.shape), sensors, sources)

        error = ForwardError.of(draw() for _ in range(30))
        held = {"with": [], "without": []}
        for _ in range(8):
            current = 20e-9 * rng.standard_normal((count, SAMPLES))
            # Noise is known from a baseline, so that it cannot make up for what the lead field misses.
            field = draw().gain[:, :, 0] @ current + 5e-7 * rng.standard_normal((SENSORS, SAMPLES))
            noise_only = 5e-7 * rng.standard_normal((SENSORS, 60))
            given = {"sources": sources, "sensors": sensors, "baseline": noise_only}
            plain = bi.Problem.from_arrays(error.mean.gain[:, :, 0], field, 2.5e-13 * np.eye(SENSORS), **given)
            for name, problem in (("without", plain), ("with", error.apply(plain))):
                low, high = bi.infer("hierarchical", problem, draws=50).interval(0.9)
                held[name].append(np.mean((low <= current) & (current <= high)))
        # One error is common to a recording, so that eight recordings determine the coverage to two or three per cent.
        assert 0.82 < np.mean(held["with"]) < 0.97
        assert np.mean(held["without"]) < np.mean(held["with"]) - 0.1


class TestDraws:
    def test_spheres(self, sphere, sensors, sources, tmp_path):
        found = forward_error(sphere, sensors, sources, 5, cache=tmp_path)
        assert found.mean.reference == "average"
        assert found.mean.gain.shape == (SENSORS, SOURCES, 3)
        assert 0.05 < found.relative < 1
        assert found.notes["solver"] == "sphere"

    def test_without_anything_uncertain_there_is_no_error(self, sphere, sensors, sources, tmp_path):
        options = {"ranges": {}, "displacement": 0.0, "coregistration": (0.0, 0.0), "cache": tmp_path}
        with pytest.raises(ValueError, match="are the same"):
            forward_error(sphere, sensors.on(sphere.surfaces[-1]), sources, 3, **options)

    @pytest.mark.slow
    @pytest.mark.parametrize("anisotropy", [None, (1.0, 3.0)])
    def test_the_error_by_boundary_elements_is_about_that_by_spheres(
        self, anisotropy, sphere, sensors, sources, tmp_path
    ):
        one = forward_error(sphere, sensors, sources, 4, anisotropy=anisotropy, cache=tmp_path)
        other = forward_error(sphere, sensors, sources, 4, solver="bem", anisotropy=anisotropy, cache=tmp_path)
        assert other.relative == pytest.approx(one.relative, rel=0.3)

    @pytest.mark.slow
    def test_the_error_by_finite_elements_is_about_that_by_spheres(self, sensors, sources, tmp_path):
        from bayesinv.geometry.shells import nested_spheres

        radii, tissues = (0.08, 0.084, 0.09), (0.33, 0.01, 0.33)
        mesh = nested_spheres(radii, 0.01, (0, 1, 1))
        solid = replace(Head.spheres(radii, tissues), radii=(), mesh=mesh)
        one = forward_error(Head.spheres(radii, tissues), sensors, sources, 2, anisotropy=(1, 3), cache=tmp_path)
        other = forward_error(solid, sensors, sources, 2, anisotropy=(1, 3), cache=tmp_path)
        assert other.notes["solver"] == "fem"
        assert other.relative == pytest.approx(one.relative, rel=0.3)

    def test_it_is_computed_once(self, sphere, sensors, sources, tmp_path, monkeypatch):
        from bayesinv.forward import sphere as room

        first = forward_error(sphere, sensors, sources, 3, cache=tmp_path)
        calls = []
        solve = room.lead_field
        monkeypatch.setattr(room, "lead_field", lambda *given, **more: calls.append(1) or solve(*given, **more))
        again = forward_error(sphere, sensors, sources, 3, np.random.default_rng(0), cache=tmp_path)
        assert not calls
        assert_allclose(again.mean.gain, first.mean.gain, rtol=0)
        assert_allclose(again.factors["fixed"], first.factors["fixed"], rtol=0)
        assert again.mean.reference == "average"
        forward_error(sphere, sensors, sources, 3, np.random.default_rng(1), cache=tmp_path)
        assert len(calls) == 3
        (broken, *_) = tmp_path.glob("error-*.npz")
        for file in tmp_path.glob("error-*.npz"):
            file.write_bytes(broken.read_bytes()[:999])
        forward_error(sphere, sensors, sources, 3, cache=tmp_path)
        assert len(calls) == 6

    def test_a_folder_that_cannot_be_written_costs_nothing_else(self, sphere, sensors, sources, tmp_path):
        (tmp_path / "file").write_text("")
        assert forward_error(sphere, sensors, sources, 2, cache=tmp_path / "file" / "below").draws == 2

    def test_doors(self, sphere, sensors, sources):
        with pytest.raises(ValueError, match="draws is 1"):
            forward_error(sphere, sensors, sources, 1)
        with pytest.raises(ValueError, match="no solver named 'fdm'"):
            forward_error(sphere, sensors, sources, 2, solver="fdm")
        with pytest.raises(ValueError, match="no compartment named 'bone'"):
            forward_error(sphere, sensors, sources, 2, ranges={"bone": (0.1, 0.2)})
        with pytest.raises(ValueError, match="range of skull"):
            forward_error(sphere, sensors, sources, 2, ranges={"skull": (0.2, 0.1)})
