"""Save every noun: NetCDF-4 that others can read, SI units inside, no pickle.

A noun is a group, its arrays are variables with named axes and units, its parts are groups within it; small things
are JSON in the group's attributes. Arrays come back bit by bit. A posterior keeps what its maps follow from, and
they are worked out again when asked for; `mean`, `sd` and `shrinkage` lie beside it for people without this library.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import fields
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import uuid4

import numpy as np

from bayesinv.bridges.archive_schema import AXES, COMPRESSED, FOREIGN, FORMAT, FORMAT_VERSION, SAVED
from bayesinv.posterior.checks import Check, Evidence
from bayesinv.versions import versions

if TYPE_CHECKING:
    import xarray as xr

    from bayesinv.posterior.posterior import Posterior


def save(noun: Any, path: str | PathLike[str]) -> None:
    """Write a noun to a NetCDF file, replacing one that is there; either the whole file is written or none.

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

    if not _known(noun):
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
    scratch = target.with_name(f".{target.name}.{uuid4().hex}.part")
    try:
        tree.to_netcdf(scratch, engine="h5netcdf")
        os.replace(scratch, target)
    finally:
        scratch.unlink(missing_ok=True)


def _versions() -> dict[str, str]:
    """Versions of what made the file."""
    packages = ("bayesinv", "numpy", "pymc")
    return {**dict.fromkeys(("python", *packages), "not installed"), **versions(*packages)}


def _maps(posterior: Posterior) -> dict[str, tuple[tuple[str, ...], Any, str]]:
    """Maps for people without this library: name to axes, values and unit; coordinates first."""
    free = posterior.problem.axes == 3
    where = ("source", "axis") if free else ("source",)
    coords: dict[str, tuple[tuple[str, ...], Any, str]] = {
        "time": (("time",), posterior.times, "s"),
        "source": (("source",), np.arange(posterior.problem.source_count), ""),
    }
    if free:
        coords["axis"] = (("axis",), np.array(["x", "y", "z"]), "")
    return {
        **coords,
        "mean": ((*where, "time"), posterior.mean.astype(np.float32), "A m"),
        "sd": ((*where, "time"), np.asarray(posterior.sd).astype(np.float32), "A m"),
        "shrinkage": (where, posterior.shrinkage.astype(np.float32), "1"),
    }


def encoding_of(values: Any) -> dict[str, Any]:
    """How an array is stored: as it is, compressed where it is big."""
    if values.dtype.kind not in "fiub":
        return {}
    plain: dict[str, Any] = {"_FillValue": None}
    return {**plain, "zlib": True, "complevel": 1, "shuffle": True} if values.size >= COMPRESSED else plain


def _pack(noun: Any, place: str, taken: Mapping[str, int], groups: dict[str, xr.Dataset]) -> None:
    """Add the group of a noun, and those of its parts, to `groups`.

    place : path of the group
    taken : lengths of the axes of the groups above, which NetCDF shares with those below
    """
    import xarray as xr

    kind = type(noun).__name__
    variables: dict[str, xr.Variable] = {}
    lengths = dict(taken)
    small: dict[str, Any] = {}
    parts: dict[str, Any] = {}

    def put(name: str, key: str, values: Any) -> None:
        axes, _, unit = AXES.get(f"{kind}.{key}", "").partition(" | ")
        names = axes.split() if len(axes.split()) == values.ndim else [f"{key}_{i}" for i in range(values.ndim)]
        dims = []
        for axis, length in zip(names, values.shape, strict=True):
            free = axis
            while lengths.get(free, length) != length or free in dims:
                free += "_"
            lengths[free] = length
            dims.append(free)
        variables[name] = xr.Variable(dims, values, {"units": unit} if unit else {}, encoding_of(values))

    for item in fields(noun):
        name, value = item.name, getattr(noun, item.name)
        if (kind, name) in FOREIGN or value is None:
            continue
        if isinstance(value, np.ndarray):
            put(name, name, value)
        elif isinstance(value, tuple) and value and all(isinstance(one, str) for one in value):
            put(name, name, np.array(value, dtype=object))
        elif _known(value):
            parts[name] = value
        elif isinstance(value, tuple) and value and all(_known(one) for one in value):
            small[name] = {"count": len(value)}
            parts.update({f"{name}/{i}": one for i, one in enumerate(value)})
        elif isinstance(value, tuple) and any(isinstance(one, np.ndarray) for one in value):
            small[name] = {"count": len(value)}
            for i, one in enumerate(value):
                if one is not None:
                    put(f"{name}.{i}", name, one)
        elif isinstance(value, Mapping) and value and all(isinstance(one, np.ndarray) for one in value.values()):
            small[name] = {"names": list(value)}
            for key, one in value.items():
                put(f"{name}.{quote(key, safe='[], ')}", name, one)
        else:
            small[name] = _plain(value)
    attributes = {"noun": kind, "small": json.dumps(small)}
    groups[place] = xr.Dataset(variables, attrs=attributes)
    for name, part in parts.items():
        inner = f"{place.rstrip('/')}/{name}"
        if "/" in name:
            groups.setdefault(inner.rpartition("/")[0], xr.Dataset())
        _pack(part, inner, lengths, groups)


def _plain(value: Any) -> Any:
    """Return numbers, text, sequences and mappings of them as JSON can hold them."""
    if isinstance(value, Evidence):
        return {"evidence": float(value), "error": value.error}
    if isinstance(value, Check):
        return {"check": {item.name: _plain(getattr(value, item.name)) for item in fields(value)}}
    if isinstance(value, Mapping):
        return {"mapping": {str(key): _plain(one) for key, one in value.items()}}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise ValueError(f"a {type(value).__name__} cannot be saved; nouns hold arrays, numbers and text")


def _known(value: Any) -> bool:
    """Whether a value is a noun that a file may hold."""
    return type(value).__name__ in SAVED and type(value).__module__.partition(".")[0] == "bayesinv"
