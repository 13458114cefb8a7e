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
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from bayesinv.arguments import path_of
from bayesinv.atomic import replacing
from bayesinv.bridges.archive_schema import AXES, FORMAT, FORMAT_VERSION, SAVED, UNSAVED_FIELDS
from bayesinv.bridges.netcdf import Group, Variable, write
from bayesinv.posterior.checks import Check, Evidence
from bayesinv.versions import versions

if TYPE_CHECKING:
    from bayesinv.posterior.posterior import Posterior


def save(noun: Any, path: str | PathLike[str]) -> None:
    """Write a noun to a NetCDF file, replacing one that is there; a failure leaves no file, or the earlier one.

    noun : Posterior, Problem, LeadField, Recording, Noise, Sensors, Sources or Head. The foreign objects that a
        problem came from (`origin`) are not written

    Raises
    ------
    ValueError
        If it is no such noun, or the path is that of a folder.
    FileNotFoundError
        If the folder does not exist.
    """
    if not _is_noun(noun):
        raise ValueError(f"a {type(noun).__name__} cannot be saved; nouns that can be are {', '.join(sorted(SAVED))}")
    target = path_of("path", path)
    if target.is_dir():
        raise ValueError(f"{target} is a folder; give the path of a file in it, such as {target / 'posterior.nc'}")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {target.parent} to save {target.name} in; make it first")
    groups: dict[str, Group] = {}
    maps = _maps(noun) if type(noun).__name__ == "Posterior" else {}
    lengths = {name: len(one.values) for name, one in maps.items() if one.axes == (name,)}
    _pack(noun, "/", lengths, groups)
    root = groups["/"]
    about: dict[str, str | int] = {"format": FORMAT, "format_version": FORMAT_VERSION, **_versions()}
    groups["/"] = Group({**root.variables, **maps}, {**root.attributes, **about})
    with replacing(target) as part:
        write(part, groups)


def _versions() -> dict[str, str]:
    """Versions of the packages that made the file."""
    packages = ("bayesinv", "numpy", "pymc")
    return {**dict.fromkeys(("python", *packages), "not installed"), **versions(*packages)}


def _maps(posterior: Posterior) -> dict[str, Variable]:
    """Maps for other programs by name; coordinates first."""
    free = posterior.problem.axes == 3
    axes = ("source", "axis") if free else ("source",)
    coords = {
        "time": Variable(("time",), posterior.times, "s"),
        "source": Variable(("source",), np.arange(posterior.problem.source_count)),
    }
    if free:
        coords["axis"] = Variable(("axis",), np.array(["x", "y", "z"]))
    return {
        **coords,
        "mean": Variable((*axes, "time"), posterior.mean.astype(np.float32), "A m"),
        "sd": Variable((*axes, "time"), np.asarray(posterior.sd).astype(np.float32), "A m"),
        "shrinkage": Variable(axes, posterior.shrinkage.astype(np.float32), "1"),
    }


def _pack(noun: Any, path: str, outer_lengths: Mapping[str, int], groups: dict[str, Group]) -> None:
    """Add the group of a noun, and those of its parts, to `groups`.

    path : of the group
    outer_lengths : lengths by name of the dimensions of the groups above, which NetCDF shares with those below
    """
    kind = type(noun).__name__
    variables: dict[str, Variable] = {}
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
        variables[name] = Variable(tuple(dims), values, unit)

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
    groups[path] = Group(variables, {"noun": kind, "small": json.dumps(scalars)})
    for name, part in parts.items():
        part_path = f"{path.rstrip('/')}/{name}"
        if "/" in name:
            groups.setdefault(part_path.rpartition("/")[0], Group())
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
