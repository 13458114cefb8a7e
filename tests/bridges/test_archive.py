"""The archive: every noun is loaded as it was saved, and a file is complete or absent."""

from __future__ import annotations

from dataclasses import fields, is_dataclass

import h5py
import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

import bayesinv
from bayesinv import Head, LeadField, Noise, Problem, Recording, Sensors, Sources, infer, load
from bayesinv.bridges import archive, archive_load, archive_schema
from bayesinv.bridges.archive import save
from bayesinv.geometry.tetrahedra import Tetrahedra
from bayesinv.posterior.checks import Check, Evidence
from bayesinv.posterior.hyper import Hyper
from bayesinv.posterior.mixture import Mixture
from bayesinv.posterior.posterior import Posterior


def unit(rng, count):
    vectors = rng.normal(size=(count, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def sensors(rng):
    return Sensors(
        ("Fp1", "Ωz", "MEG 1", "MEG 2"),
        ("eeg", "eeg", "mag", "grad"),
        rng.normal(size=(4, 3)),
        rng.normal(size=(5, 3)),
        rng.normal(size=(5, 3)),
        np.array([2, 2, 3, 3, 3]),
    )


def sources(rng):
    return Sources(
        rng.normal(size=(6, 3)),
        unit(rng, 6),
        np.array([[0, 1, 2], [3, 4, 5]]),
        rng.uniform(size=6),
        np.arange(6) + 10,
        np.repeat([0, 1], 3),
        np.eye(4),
        "someone",
    )


def problem(rng, axes=1, count=7):
    """A problem with all its parts."""
    cortex, channels = sources(rng), sensors(rng)
    gain = rng.normal(size=(4, 6, axes))
    covariance = np.diag(rng.uniform(1, 2, 4))
    noise = Noise(covariance, channels.kinds, {"meg": 2, "eeg": 2}, 2.4)
    field, times = rng.normal(size=(4, count)), np.linspace(0.01, 0.05, count)
    return Problem(
        gain=noise.whitener @ gain.reshape(4, -1),
        recording=noise.whitener @ field,
        times=times,
        baseline=rng.normal(size=(4, 5)),
        baseline_centred=True,
        axes=axes,
        whitener=noise.whitener,
        sensors=channels,
        sources=cortex,
        lead_field=LeadField(gain, channels, cortex, "average", {"solver": "sphere", "note": "µ/π"}),
        noise=noise,
        field=Recording(rng.normal(size=(4, count + 2)), np.arange(count + 2.0), channels.names, 2.4),
        notes={"sensors": "left out 1 bad in the recording (Ωz)", "sources": ""},
    )


def posterior(rng, axes=1):
    """A posterior with everything that one can have."""
    asked = problem(rng, axes)
    weights = np.array([0.2, 0.3, 0.5])
    variance, noise = rng.uniform(0.5, 1, 3), rng.uniform(0.9, 1.1, 3)
    table = {"snr": np.sqrt(variance * asked.signal_power) / noise, "lambda": noise**2 / variance, "h[0,1]": noise}
    table["a/b.c"] = variance
    return Posterior(
        asked,
        "a model",
        "quadrature",
        Mixture(weights, variance, noise, np.array([0, 1, 1]), (None, rng.uniform(0.5, 2, 6 * axes))),
        Hyper(table, weights, {name: rng.normal(size=8) for name in table}, chains=2),
        Evidence(-12.345678901234567, 1e-7),
        (Check("edge", 1e-9, "< 1e-6", True, "a note"), Check("drift", float("nan"), "< 1", np.bool_(False))),
        {"model": 0.1, "quadrature": 2.5},
    )


def head():
    spheres = Head.spheres((0.08, 0.09), ((0.33, 0.2), 0.01), subdivisions=1, centre=(0.0, 0.01, 0.02))
    mesh = Tetrahedra(np.vstack([np.zeros(3), np.eye(3)]), np.array([[0, 1, 2, 3]]), np.array([1]))
    return Head(
        spheres.names,
        spheres.conductivities,
        spheres.surfaces,
        spheres.radii,
        spheres.centre,
        mesh,
        0.3 * np.eye(3)[None],
    )


NOUNS = {
    "posterior": posterior,
    "free posterior": lambda rng: posterior(rng, 3),
    "problem": problem,
    "bare problem": lambda rng: Problem.from_arrays(rng.normal(size=(3, 4)), rng.normal(size=(3, 2))),
    "lead field": lambda rng: problem(rng, 3).lead_field,
    "recording": lambda rng: problem(rng).field,
    "noise": lambda rng: problem(rng).noise,
    "noise of one kind": lambda rng: Noise(np.eye(3), (), 2),
    "sensors": sensors,
    "electrodes": lambda rng: Sensors.electrodes(["a", "b"], rng.normal(size=(2, 3))),
    "sources": sources,
    "bare sources": lambda rng: Sources(rng.normal(size=(2, 3))),
    "head": lambda rng: head(),
    "analytic head": lambda rng: Head(("head",), (0.3,), radii=(0.09,)),
}


def same(found, wanted, path="noun"):
    """Assert that two nouns are alike in every bit."""
    assert type(found) is type(wanted), path
    if is_dataclass(wanted):
        for item in fields(wanted):
            if item.name != "origin":
                same(getattr(found, item.name), getattr(wanted, item.name), f"{path}.{item.name}")
    elif isinstance(wanted, np.ndarray):
        assert found.dtype == wanted.dtype, path
        assert found.shape == wanted.shape, path
        assert found.tobytes() == wanted.tobytes(), path
    elif isinstance(wanted, tuple):
        assert len(found) == len(wanted), path
        for i, (one, other) in enumerate(zip(found, wanted, strict=True)):
            same(one, other, f"{path}[{i}]")
    elif isinstance(wanted, dict):
        assert list(found) == list(wanted), path
        for key in wanted:
            same(found[key], wanted[key], f"{path}[{key!r}]")
    elif isinstance(wanted, Evidence):
        assert (float(found), found.error) == (float(wanted), wanted.error), path
    else:
        assert found == wanted or (found != found and wanted != wanted), path


class TestRoundTrip:
    @pytest.mark.parametrize("name", NOUNS)
    def test_every_bit_comes_back(self, rng, tmp_path, name):
        noun = NOUNS[name](rng)
        save(noun, tmp_path / "noun.nc")
        if isinstance(noun, Posterior):
            # NumPy's truth comes back as Python's.
            object.__setattr__(noun.checks[1], "passed", False)
        same(load(tmp_path / "noun.nc"), noun)

    def test_a_posterior_says_the_same(self, rng, tmp_path):
        asked = Problem.from_arrays(rng.normal(size=(5, 8)), rng.normal(size=(5, 6)), positions=rng.normal(size=(8, 3)))
        before = infer("hierarchical", asked, rng=rng, draws=50)
        before.save(tmp_path / "posterior.nc")
        after = load(tmp_path / "posterior.nc")
        assert_allclose(after.mean, before.mean, rtol=1e-12)
        assert_allclose(after.sd, before.sd, rtol=1e-12)
        assert_allclose(after.interval(0.8), before.interval(0.8), rtol=1e-12)
        region = {"some": [0, 3], "others": [1, 2, 7]}
        assert_allclose(after.region(region).mean, before.region(region).mean, rtol=1e-12)
        assert_allclose(after.region(region).covariance, before.region(region).covariance, rtol=1e-12)
        assert (after.log_evidence, after.log_evidence.error) == (before.log_evidence, before.log_evidence.error)
        assert after.checks == before.checks
        assert after.passed == before.passed
        assert after.summary() == before.summary()
        assert after.hyper["snr"].interval() == before.hyper["snr"].interval()

    def test_foreign_objects_stay_behind(self, rng, tmp_path):
        asked = problem(rng)
        object.__setattr__(asked, "origin", object())
        save(asked, tmp_path / "problem.nc")
        assert load(tmp_path / "problem.nc").origin is None

    def test_big_arrays_are_compressed(self, tmp_path):
        times = np.arange(200.0)
        save(Recording(np.ones((100, 200)), times, tuple(map(str, range(100)))), tmp_path / "recording.nc")
        with h5py.File(tmp_path / "recording.nc") as file:
            assert file["field"].compression == "gzip"
            assert file["times"].compression is None
        assert (tmp_path / "recording.nc").stat().st_size < 100_000


class TestOthersCanRead:
    def test_maps_with_units_and_coordinates(self, rng, tmp_path):
        noun = posterior(rng, 3)
        save(noun, tmp_path / "posterior.nc")
        with xr.open_dataset(tmp_path / "posterior.nc", engine="h5netcdf") as maps:
            assert maps["mean"].dims == maps["sd"].dims == ("source", "axis", "time")
            assert maps["mean"].dtype == np.float32
            assert maps["mean"].units == maps["sd"].units == "A m"
            assert maps["time"].units == "s"
            assert list(maps["axis"].values) == ["x", "y", "z"]
            assert_allclose(maps["mean"], noun.mean, rtol=1e-6)
            assert_allclose(maps["sd"], noun.sd, rtol=1e-6)
            assert_allclose(maps["shrinkage"], noun.shrinkage, rtol=1e-6)
            assert_array_equal(maps["time"], noun.problem.times)

    def test_parts_have_units_axes_and_names(self, rng, tmp_path):
        save(problem(rng), tmp_path / "problem.nc")
        with xr.open_datatree(tmp_path / "problem.nc", engine="h5netcdf") as tree:
            assert tree["gain"].dims == ("component", "amplitude")
            assert tree["gain"].units == "1/(A m)"
            assert tree["sources/positions"].units == "m"
            assert tuple(tree["sensors/names"].values) == ("Fp1", "Ωz", "MEG 1", "MEG 2")

    def test_versions_are_inside(self, rng, tmp_path):
        save(sources(rng), tmp_path / "sources.nc")
        with xr.open_dataset(tmp_path / "sources.nc", engine="h5netcdf") as file:
            assert file.attrs["bayesinv"] == bayesinv.__version__
            assert file.attrs["numpy"] == np.__version__
            assert {"python", "pymc"} <= set(file.attrs)


class TestDoors:
    def test_what_is_saved_can_be_loaded(self):
        assert set(archive_load.NOUNS) == archive_schema.SAVED

    def test_only_nouns(self, tmp_path):
        with pytest.raises(ValueError, match="a dict cannot be saved; nouns that can be are ActiveSets, "):
            save({}, tmp_path / "x.nc")

    def test_no_folder(self, rng, tmp_path):
        with pytest.raises(FileNotFoundError, match="there is no folder"):
            save(sources(rng), tmp_path / "nowhere" / "x.nc")

    def test_nothing_half_written(self, rng, tmp_path, monkeypatch):
        save(sources(rng), tmp_path / "x.nc")
        before = (tmp_path / "x.nc").read_bytes()

        def breaks(path, groups):
            path.write_bytes(b"half")
            raise OSError("no space left on device")

        monkeypatch.setattr(archive, "write", breaks)
        with pytest.raises(OSError, match="no space left"):
            save(sources(rng), tmp_path / "x.nc")
        assert [path.name for path in tmp_path.iterdir()] == ["x.nc"]
        assert (tmp_path / "x.nc").read_bytes() == before

    def test_a_file_is_replaced(self, rng, tmp_path):
        save(sources(rng), tmp_path / "x.nc")
        save(sensors(rng), tmp_path / "x.nc")
        assert isinstance(load(tmp_path / "x.nc"), Sensors)

    def test_missing(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="there is no file"):
            load(tmp_path / "x.nc")

    def test_no_netcdf(self, rng, tmp_path):
        (tmp_path / "x.nc").write_text("hello")
        with pytest.raises(ValueError, match="cannot be read as a NetCDF-4 file"):
            load(tmp_path / "x.nc")
        save(sources(rng), tmp_path / "y.nc")
        (tmp_path / "y.nc").write_bytes((tmp_path / "y.nc").read_bytes()[:500])
        with pytest.raises(ValueError, match="cannot be read as a NetCDF-4 file"):
            load(tmp_path / "y.nc")

    def test_not_ours(self, tmp_path):
        xr.Dataset({"a": ("x", [1.0])}).to_netcdf(tmp_path / "x.nc", engine="h5netcdf")
        with pytest.raises(ValueError, match="not one that bayesinv wrote"):
            load(tmp_path / "x.nc")

    def test_newer(self, rng, tmp_path, monkeypatch):
        monkeypatch.setattr(archive_schema, "FORMAT_VERSION", 7)
        monkeypatch.setattr(archive, "FORMAT_VERSION", 7)
        monkeypatch.setattr(archive_load, "FORMAT_VERSION", 7)
        save(sources(rng), tmp_path / "x.nc")
        monkeypatch.undo()
        with pytest.raises(ValueError, match=r"has form 7 \(bayesinv .*install a newer one"):
            load(tmp_path / "x.nc")
