"""Groups in NetCDF-4 files are as xarray writes them, and others read them."""

import h5py
import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_array_equal

from bayesinv.bridges.archive_schema import COMPRESSED_SIZE
from bayesinv.bridges.netcdf import CLASHING, Group, Variable, values_of, variables, write

NAMES = np.array(["Fp1", "Ωz", ""], dtype=object)


@pytest.fixture(scope="module")
def groups():
    """Of everything that there is, every axis with its own length."""
    rng = np.random.default_rng(0)
    root = {
        "time": Variable(("time",), np.array([0.1, 0.2, 0.4, 0.8]), "s"),
        "place": Variable(("place",), np.array(["x", "y"])),
        "mean": Variable(("place", "time"), rng.normal(size=(2, 4)).astype(np.float32), "A m"),
        "alone": Variable((), np.array(2.5)),
        "large": Variable(("time", "long"), rng.normal(size=(4, COMPRESSED_SIZE // 4))),
    }
    inner = {
        "names": Variable(("sensor",), NAMES),
        "good": Variable(("sensor",), np.array([True, False, True])),
        "counts": Variable(("sensor", "time", "other"), rng.integers(0, 9, (3, 4, 5))),
        "sensor": Variable(("other",), np.arange(5.0), "m"),
        "empty": Variable(("none",), np.zeros(0)),
    }
    own = {"time": Variable(("time_",), np.arange(6)), "other": Variable(("other",), np.arange(5) + 7)}
    return {
        "/": Group(root, {"format": "some", "version": 3}),
        "/part": Group(inner, {"small": '{"a": "µ"}'}),
        "/part/between": Group(),
        "/part/between/0": Group(own, {"noun": "x"}),
    }


@pytest.fixture(scope="module")
def files(groups, tmp_path_factory):
    """Ours, and xarray's."""
    folder = tmp_path_factory.mktemp("files")
    write(folder / "ours.nc", groups)
    datasets = {}
    for place, group in groups.items():
        found = {}
        for name, one in group.variables.items():
            large = {"zlib": True, "complevel": 1, "shuffle": True} if one.values.size >= COMPRESSED_SIZE else {}
            none = {} if one.values.dtype.kind in "OU" else {"_FillValue": None}
            found[name] = xr.Variable(one.axes, one.values, {"units": one.unit} if one.unit else {}, {**none, **large})
        coordinates = [name for name, one in group.variables.items() if one.axes == (name,)]
        datasets[place] = xr.Dataset(found, attrs=group.attributes).set_coords(coordinates)
    xr.DataTree.from_dict(datasets).to_netcdf(folder / "theirs.nc", engine="h5netcdf")
    return folder / "ours.nc", folder / "theirs.nc"


def described(file):
    """All that an HDF5 file holds, with axes by name; the numbers of axes are any that tell them apart."""
    found = {}

    def look(name, one):
        attributes = {
            key: (value.tolist() if isinstance(value, np.ndarray | np.generic) else value)
            for key, value in one.attrs.items()
            if key not in ("_NCProperties", "_Netcdf4Dimid", "_Netcdf4Coordinates", "DIMENSION_LIST", "REFERENCE_LIST")
        }
        kept = (type(one).__name__, attributes)
        if isinstance(one, h5py.Dataset):
            axes = [[scale.name for scale in axis.values()] for axis in one.dims]
            filters = (one.compression, one.compression_opts, one.shuffle, one.maxshape)
            kept += (one.dtype, one.shape, filters, axes)
        found[name] = kept

    look("/", file)
    file.visititems(look)
    return found


def test_the_file_is_that_of_xarray(files):
    with h5py.File(files[0]) as ours, h5py.File(files[1]) as theirs:
        first, second = described(ours), described(theirs)
        assert first.keys() == second.keys()
        for name, one in first.items():
            assert one == second[name], name
            if one[0] == "Dataset" and one[2].kind != "O" and "netCDF dimension" not in str(one[1].get("NAME")):
                assert_array_equal(ours[name][()], theirs[name][()])
        assert ours["part"].attrs.get_id("small").get_type().get_cset() == h5py.h5t.CSET_UTF8


def test_axes_have_numbers_of_their_own_and_variables_those_of_their_axes(files):
    numbers = {}
    with h5py.File(files[0]) as file:

        def note(name, one):
            if "CLASS" in one.attrs:
                numbers[one.name] = int(one.attrs["_Netcdf4Dimid"])

        def check(name, one):
            if isinstance(one, h5py.Dataset) and any(len(axis) for axis in one.dims):
                along = [numbers[axis[0].name] for axis in one.dims]
                assert one.attrs["_Netcdf4Coordinates"].tolist() == along, name
                assert one.attrs["_Netcdf4Dimid"] == along[0], name

        file.visititems(note)
        file.visititems(check)
    assert sorted(numbers.values()) == list(range(len(numbers)))


def test_xarray_reads_the_same_of_both(files):
    with xr.open_datatree(files[0], engine="h5netcdf") as ours, xr.open_datatree(files[1], engine="h5netcdf") as theirs:
        xr.testing.assert_identical(ours, theirs)
        assert ours["part/good"].dtype == bool


@pytest.mark.parametrize("which", [0, 1])
def test_variables_come_back(files, groups, which):
    with h5py.File(files[which]) as file:
        for place, group in groups.items():
            found = variables(file[place])
            assert found.keys() == group.variables.keys()
            for name, one in group.variables.items():
                values = values_of(found[name])
                if one.values.dtype.kind in "OU":
                    assert values == tuple(one.values)
                else:
                    assert values.dtype == one.values.dtype
                    assert_array_equal(values, one.values)
        assert CLASHING + "sensor" in file["part"]
