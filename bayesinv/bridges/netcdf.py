"""Groups of arrays with named axes in a NetCDF-4 file, written by HDF5's own calls.

What xarray writes by way of h5netcdf, whose many look-ups take twenty times as long where arrays are many and small.

Reference: NetCDF-4 on HDF5, https://docs.unidata.ucar.edu/netcdf-c/current/file_format_specifications.html
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bayesinv.axes import Array
from bayesinv.bridges.archive_schema import COMPRESSED_SIZE

NO_VARIABLE = "This is a netCDF dimension but not a netCDF variable."
"""How NetCDF names the scale of an axis that has no coordinates; ten places for its length follow."""

CLASHING = "_nc4_non_coord_"
"""What NetCDF puts before the name of a variable that is also that of an axis along which it does not run alone."""


@dataclass(frozen=True)
class Variable:
    """An array of numbers or text with named axes.

    axes : a name for each; if it is the variable's own, it is a coordinate
    unit : "" for none
    """

    axes: tuple[str, ...]
    values: Any
    unit: str = ""


@dataclass(frozen=True)
class Group:
    """Variables by name, and attributes of text or whole numbers. Groups within it share its axes."""

    variables: dict[str, Variable] = field(default_factory=dict)
    attributes: dict[str, str | int] = field(default_factory=dict)


def write(path: Path, groups: Mapping[str, Group]) -> None:
    """Write groups by their place in the file, "/" first and each after the one that it is in."""
    import h5py

    with h5py.File(path, "w", track_order=True) as file:
        file.attrs["_NCProperties"] = np.bytes_(f"version=2,h5py={h5py.__version__},hdf5={h5py.version.hdf5_version}")
        scales: dict[str, dict[str, _Scale]] = {}
        number = 0
        for place, group in groups.items():
            into = file if place == "/" else file.create_group(place, track_order=True)
            for name, value in group.attributes.items():
                into.attrs[name] = value if isinstance(value, str) else np.atleast_1d(value)
            above = scales.get(place.rpartition("/")[0] or "/", {})
            known = scales[place] = dict(above)
            for variable in group.variables.values():
                for axis, length in zip(variable.axes, np.shape(variable.values), strict=True):
                    if axis not in known:
                        known[axis] = _scale(into, axis, length, number, group.variables.get(axis))
                        number += 1
            for name, variable in group.variables.items():
                if not (name in known and variable.axes == (name,) and known[name] is not above.get(name)):
                    _put(into, name, variable, known, clashes=name in known and known[name] is not above.get(name))


@dataclass(frozen=True)
class _Scale:
    """The data set that stands for an axis, and the number of the axis in the file."""

    data: Any
    number: int


def _scale(group: Any, axis: str, length: int, number: int, coordinate: Variable | None) -> _Scale:
    """Make the scale of an axis: its coordinates, or where there are none, a placeholder."""
    if coordinate is not None and coordinate.axes == (axis,):
        data = _data(group, axis, coordinate)
        data.attrs["_Netcdf4Coordinates"] = np.array([number], dtype=np.int32)
        name = axis
    else:
        # An axis without an element is one that may grow: NetCDF takes the length 0 for no limit.
        grows = {} if length else {"maxshape": (None,)}
        data = group.create_dataset(axis, (length,), ">f4", track_order=True, **grows)
        name = f"{NO_VARIABLE}{length:10}"
    data.attrs["_Netcdf4Dimid"] = np.int32(number)
    data.make_scale(name)
    return _Scale(data, number)


def _put(group: Any, name: str, variable: Variable, scales: Mapping[str, _Scale], *, clashes: bool) -> None:
    """Add a variable along axes that have scales."""
    data = _data(group, CLASHING + name if clashes else name, variable)
    if not variable.axes:
        return
    along = [scales[axis] for axis in variable.axes]
    for i, scale in enumerate(along):
        data.dims[i].attach_scale(scale.data)
    data.attrs["_Netcdf4Coordinates"] = np.array([scale.number for scale in along], dtype=np.int32)
    data.attrs["_Netcdf4Dimid"] = np.int32(along[0].number)


def _data(group: Any, name: str, variable: Variable) -> Any:
    """Add the array of a variable, compressed if it is large. NetCDF has whole numbers in place of truth values."""
    import h5py

    values = np.asarray(variable.values)
    options: dict[str, Any] = {}
    if values.dtype.kind not in "fiub":
        values, options["dtype"] = values.astype(object), h5py.string_dtype()
    elif values.size >= COMPRESSED_SIZE:
        options |= {"compression": "gzip", "compression_opts": 1, "shuffle": True}
    if not values.size:
        options["maxshape"] = tuple(length or None for length in values.shape)
    truth = values.dtype == bool
    data = group.create_dataset(name, data=values.astype(np.int8) if truth else values, track_order=True, **options)
    if truth:
        data.attrs["dtype"] = "bool"
    if variable.unit:
        data.attrs["units"] = variable.unit
    return data


def variables(group: Any) -> dict[str, Any]:
    """Data sets of the variables in an HDF5 group by name, without axes that have no coordinates."""
    import h5py

    found = {}
    for name, data in group.items():
        if isinstance(data, h5py.Dataset) and not _text(data.attrs.get("NAME", "")).startswith(NO_VARIABLE):
            found[name.removeprefix(CLASHING)] = data
    return found


def values_of(data: Any) -> Array | tuple[str, ...]:
    """Numbers or truth values of a data set as an array, text as a tuple."""
    if data.dtype.kind not in "fiub":
        return tuple(data.asstr()[()])
    values: Array = data[()]
    return values.astype(bool) if _text(data.attrs.get("dtype", "")) == "bool" else values


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
