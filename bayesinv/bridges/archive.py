"""Save every noun: NetCDF-4 that others can read, SI units inside, no pickle.

A noun is a group, its arrays are variables with named axes and units, its parts are groups within it; scalars, text
and mappings are JSON in the group's attributes. Arrays are loaded bit for bit. A posterior is stored by its mixture
and problem, from which maps are computed again; `mean`, `sd` and `shrinkage` are added for other programs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from bayesinv.atomic import replacing
from bayesinv.bridges.archive_schema import AXES, COMPRESSED_SIZE, FORMAT, FORMAT_VERSION, SAVED, UNSAVED_FIELDS
from bayesinv.posterior.checks import Check, Evidence
from bayesinv.versions import versions

if TYPE_CHECKING:
    import xarray as xr

    from bayesinv.posterior.posterior import Posterior


def save(noun: Any, path: str | PathLike[str]) -> None:
    """Write a noun to a NetCDF file, replacing one that is there; a failure leaves no file, or the earlier one.

    noun : Posterior, Problem, LeadField, Recording, Noise, Sensors, Sources or Head. The foreign objects that a
        problem came from (`origin`) are not written

    Raises
    ------
    ValueError
        If it is no such noun.
    FileNotFoundError
        If the folder does not exist.
    """
    import xarray as xr

    if not _is_noun(noun):
        raise ValueError(f"a {type(noun).__name__} cannot be saved; nouns that can be are {', '.join(sorted(SAVED))}")
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {target.parent} to save {target.name} in; make it first")
    groups: dict[str, xr.Dataset] = {}
    maps = _maps(noun) if type(noun).__name__ == "Posterior" else {}
    coordinates = [name for name, (axes, _, _) in maps.items() if axes == (name,)]
    _pack(noun, "/", {name: len(maps[name][1]) for name in coordinates}, groups)
    root = groups["/"]
    for name, (axes, values, unit) in maps.items():
        root = root.assign({name: (axes, values, {"units": unit} if unit else {})})
        root[name].encoding = encoding_of(values)
    groups["/"] = root.set_coords(coordinates).assign_attrs(format=FORMAT, format_version=FORMAT_VERSION, **_versions())
    tree = xr.DataTree.from_dict(groups)
    with replacing(target) as part:
        tree.to_netcdf(part, engine="h5netcdf")


def _versions() -> dict[str, str]:
    """Versions of the packages that made the file."""
    packages = ("bayesinv", "numpy", "pymc")
    return {**dict.fromkeys(("python", *packages), "not installed"), **versions(*packages)}


def _maps(posterior: Posterior) -> dict[str, tuple[tuple[str, ...], Any, str]]:
    """Maps for other programs: name to axes, values and unit; coordinates first."""
    free = posterior.problem.axes == 3
    axes = ("source", "axis") if free else ("source",)
    coords: dict[str, tuple[tuple[str, ...], Any, str]] = {
        "time": (("time",), posterior.times, "s"),
        "source": (("source",), np.arange(posterior.problem.source_count), ""),
    }
    if free:
        coords["axis"] = (("axis",), np.array(["x", "y", "z"]), "")
    return {
        **coords,
        "mean": ((*axes, "time"), posterior.mean.astype(np.float32), "A m"),
        "sd": ((*axes, "time"), np.asarray(posterior.sd).astype(np.float32), "A m"),
        "shrinkage": (axes, posterior.shrinkage.astype(np.float32), "1"),
    }


def encoding_of(values: Any) -> dict[str, Any]:
    """Return how an array is stored: without fill values, compressed if it is large."""
    if values.dtype.kind not in "fiub":
        return {}
    encoding: dict[str, Any] = {"_FillValue": None}
    if values.size >= COMPRESSED_SIZE:
        encoding |= {"zlib": True, "complevel": 1, "shuffle": True}
    return encoding


def _pack(noun: Any, path: str, outer_lengths: Mapping[str, int], groups: dict[str, xr.Dataset]) -> None:
    """Add the group of a noun, and those of its parts, to `groups`.

    path : of the group
    outer_lengths : lengths by name of the dimensions of the groups above, which NetCDF shares with those below
    """
    import xarray as xr

    kind = type(noun).__name__
    variables: dict[str, xr.Variable] = {}
    lengths = dict(outer_lengths)
    scalars: dict[str, Any] = {}
    parts: dict[str, Any] = {}

    def put(name: str, key: str, values: Any) -> None:
        axes, _, unit = AXES.get(f"{kind}.{key}", "").partition(" | ")
        names = axes.split() if len(axes.split()) == values.ndim else [f"{key}_{i}" for i in range(values.ndim)]
        dims = []
        for axis, length in zip(names, values.shape, strict=True):
            dim = axis
            while lengths.get(dim, length) != length or dim in dims:
                dim += "_"
            lengths[dim] = length
            dims.append(dim)
        variables[name] = xr.Variable(dims, values, {"units": unit} if unit else {}, encoding_of(values))

    for item in fields(noun):
        name, value = item.name, getattr(noun, item.name)
        if (kind, name) in UNSAVED_FIELDS or value is None:
            continue
        if isinstance(value, np.ndarray):
            put(name, name, value)
        elif isinstance(value, tuple) and value and all(isinstance(one, str) for one in value):
            put(name, name, np.array(value, dtype=object))
        elif _is_noun(value):
            parts[name] = value
        elif isinstance(value, tuple) and value and all(_is_noun(one) for one in value):
            scalars[name] = {"count": len(value)}
            parts.update({f"{name}/{i}": one for i, one in enumerate(value)})
        elif isinstance(value, tuple) and any(isinstance(one, np.ndarray) for one in value):
            scalars[name] = {"count": len(value)}
            for i, one in enumerate(value):
                if one is not None:
                    put(f"{name}.{i}", name, one)
        elif isinstance(value, Mapping) and value and all(isinstance(one, np.ndarray) for one in value.values()):
            scalars[name] = {"names": list(value)}
            for key, one in value.items():
                put(f"{name}.{quote(key, safe='[], ')}", name, one)
        else:
            scalars[name] = _to_json(value)
    attributes = {"noun": kind, "small": json.dumps(scalars)}
    groups[path] = xr.Dataset(variables, attrs=attributes)
    for name, part in parts.items():
        part_path = f"{path.rstrip('/')}/{name}"
        if "/" in name:
            groups.setdefault(part_path.rpartition("/")[0], xr.Dataset())
        _pack(part, part_path, lengths, groups)


def _to_json(value: Any) -> Any:
    """Return numbers, text, and sequences and mappings of them, in a form that JSON can hold."""
    if isinstance(value, Evidence):
        return {"evidence": float(value), "error": value.error}
    if isinstance(value, Check):
        return {"check": {item.name: _to_json(getattr(value, item.name)) for item in fields(value)}}
    if isinstance(value, Mapping):
        return {"mapping": {str(key): _to_json(one) for key, one in value.items()}}
    if isinstance(value, tuple | list):
        return [_to_json(one) for one in value]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise ValueError(f"a {type(value).__name__} cannot be saved; nouns hold arrays, numbers and text")


def _is_noun(value: Any) -> bool:
    """Whether a value is a noun that a file may hold."""
    return type(value).__name__ in SAVED and type(value).__module__.partition(".")[0] == "bayesinv"
