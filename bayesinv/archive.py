"""Save and load every noun: NetCDF-4 that others can read, SI units inside, no pickle.

A noun is a group, its arrays are variables with named axes and units, its parts are groups within it; small things
are JSON in the group's attributes. Arrays come back bit by bit. A posterior keeps what its maps follow from, and
they are worked out again when asked for; `mean`, `sd` and `shrinkage` lie beside it for people without this library.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import MISSING, fields
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import uuid4

import numpy as np

from bayesinv.axes import one_of
from bayesinv.covariance.covariance import Structure
from bayesinv.forward.leadfield import LeadField
from bayesinv.geometry.surfaces import Surface
from bayesinv.geometry.tetrahedra import Tetrahedra
from bayesinv.head.head import Head
from bayesinv.head.sensors import Sensors
from bayesinv.head.sources import Sources
from bayesinv.posterior.checks import Check, Evidence
from bayesinv.posterior.hyper import Hyper
from bayesinv.posterior.mixture import Mixture
from bayesinv.posterior.posterior import Posterior
from bayesinv.problem.noise import Noise
from bayesinv.problem.problem import Problem
from bayesinv.problem.recording import Recording
from bayesinv.simulation.recording import Simulation
from bayesinv.simulation.truth import Truth
from bayesinv.simulation.world import World
from bayesinv.versions import versions

if TYPE_CHECKING:
    import xarray as xr

FORMAT = "bayesinv"
FORMAT_VERSION = 1
"""Raised when a file of the new form can no longer be read by the old code."""

COMPRESSED = 10_000
"""Numbers in an array from which on it is compressed."""

NOUNS: dict[str, type] = {
    noun.__name__: noun
    for noun in (
        Head,
        Hyper,
        LeadField,
        Mixture,
        Noise,
        Posterior,
        Problem,
        Recording,
        Sensors,
        Simulation,
        Sources,
        Structure,
        Surface,
        Tetrahedra,
        Truth,
        World,
    )
}

FOREIGN = {("Problem", "origin")}
"""Fields that hold objects of other libraries and stay behind."""

AXES = {
    "Head.tensors": "element row column | S/m",
    "Hyper.nodes": "node",
    "Hyper.draws": "draw",
    "Hyper.weights": "node | 1",
    "LeadField.gain": "sensor source axis | SI unit of the sensor / (A m)",
    "Mixture.weights": "node | 1",
    "Mixture.variance": "node | A2 m2",
    "Mixture.noise": "node | 1",
    "Mixture.which": "node",
    "Noise.covariance": "sensor other_sensor | product of the sensors' SI units",
    "Noise.kinds": "sensor",
    "Posterior.time_weights": "time | 1",
    "Problem.gain": "component amplitude | 1/(A m)",
    "Problem.recording": "component time | 1",
    "Problem.times": "time | s",
    "Problem.baseline": "component sample | 1",
    "Problem.whitener": "component sensor | 1 / SI unit of the sensor",
    "Problem.labels": "source",
    "Problem.maps": "source | 1",
    "Problem.error_factor": "component error | 1/(A m)",
    "Recording.field": "sensor time | SI unit of the sensor",
    "Recording.times": "time | s",
    "Recording.names": "sensor",
    "Sensors.names": "sensor",
    "Sensors.kinds": "sensor",
    "Sensors.positions": "sensor xyz | m",
    "Sensors.points": "point xyz | m",
    "Sensors.directions": "point xyz | 1, or 1/m for gradiometers",
    "Sensors.owner": "point",
    "Sources.positions": "source xyz | m",
    "Sources.normals": "source xyz | 1",
    "Sources.triangles": "triangle corner",
    "Sources.areas": "source | m2",
    "Sources.vertices": "source",
    "Sources.hemispheres": "source",
    "Sources.to_mri": "row column | rotation, and translation in m",
    "Structure.weights": "amplitude | 1",
    "Structure.factor": "amplitude part | 1",
    "Structure.shares": "part | 1",
    "Structure.noise": "kind | 1",
    "Surface.vertices": "vertex xyz | m",
    "Surface.triangles": "triangle corner",
    "Tetrahedra.nodes": "node xyz | m",
    "Tetrahedra.elements": "element corner",
    "Tetrahedra.labels": "element",
    "Truth.current": "source time | A m",
    "Truth.times": "time | s",
    "Truth.parts": "source",
}
"""Axes of the arrays, and their units after the bar. Other arrays have numbered axes and no units."""


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

    if type(noun) not in NOUNS.values():
        raise ValueError(f"a {type(noun).__name__} cannot be saved; nouns that can be are {', '.join(sorted(NOUNS))}")
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {target.parent} to save {target.name} in; make it first")
    groups: dict[str, xr.Dataset] = {}
    maps = _maps(noun) if isinstance(noun, Posterior) else {}
    coordinates = [name for name, (axes, _, _) in maps.items() if axes == (name,)]
    _pack(noun, "/", {name: len(maps[name][1]) for name in coordinates}, groups)
    root = groups["/"]
    for name, (axes, values, unit) in maps.items():
        root = root.assign({name: (axes, values, {"units": unit} if unit else {})})
        root[name].encoding = _encoding(values)
    groups["/"] = root.set_coords(coordinates).assign_attrs(format=FORMAT, format_version=FORMAT_VERSION, **_versions())
    tree = xr.DataTree.from_dict(groups)
    scratch = target.with_name(f".{target.name}.{uuid4().hex}.part")
    try:
        tree.to_netcdf(scratch, engine="h5netcdf")
        os.replace(scratch, target)
    finally:
        scratch.unlink(missing_ok=True)


def load(path: str | PathLike[str]) -> Any:
    """Return the noun that `save` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no NetCDF-4 file, not one of this library's, or one of a newer form.
    """
    import xarray as xr

    source = Path(path)
    if not source.is_file():
        raise FileNotFoundError(f"there is no file {source}")
    try:
        tree = xr.open_datatree(source, engine="h5netcdf", decode_cf=False)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{source} cannot be read as a NetCDF-4 file: {error}") from None
    try:
        attributes = tree.attrs
        if attributes.get("format") != FORMAT:
            raise ValueError(f"{source} is a NetCDF file, but not one that bayesinv wrote; load wants a file of save's")
        form = int(attributes["format_version"])
        if form > FORMAT_VERSION:
            raise ValueError(
                f"{source} has form {form} (bayesinv {attributes.get('bayesinv', '?')}), but this bayesinv reads up "
                f"to form {FORMAT_VERSION}; install a newer one"
            )
        return _unpack(tree)
    finally:
        tree.close()


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


def _encoding(values: Any) -> dict[str, Any]:
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
        variables[name] = xr.Variable(dims, values, {"units": unit} if unit else {}, _encoding(values))

    for item in fields(noun):
        name, value = item.name, getattr(noun, item.name)
        if (kind, name) in FOREIGN or value is None:
            continue
        if isinstance(value, np.ndarray):
            put(name, name, value)
        elif isinstance(value, tuple) and value and all(isinstance(one, str) for one in value):
            put(name, name, np.array(value, dtype=object))
        elif type(value) in NOUNS.values():
            parts[name] = value
        elif isinstance(value, tuple) and value and all(type(one) in NOUNS.values() for one in value):
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


def _rich(value: Any) -> Any:
    """Undo `_plain`; sequences come back as tuples, which nouns hold."""
    if isinstance(value, list):
        return tuple(_rich(one) for one in value)
    if isinstance(value, dict):
        if "evidence" in value:
            return Evidence(value["evidence"], value["error"])
        if "check" in value:
            return Check(**value["check"])
        return {key: _rich(one) for key, one in value["mapping"].items()}
    return value


def _unpack(node: xr.DataTree) -> Any:
    """Return the noun that a group holds."""
    noun = NOUNS[one_of("noun in the file", str(node.attrs["noun"]), NOUNS)]
    small = json.loads(node.attrs["small"])
    arrays = node.to_dataset(inherit=False)

    def array(name: str) -> Any:
        values = np.array(arrays[name].values)
        values = values.astype(bool) if arrays[name].attrs.get("dtype") == "bool" else values
        return values if values.dtype.kind in "fiub" else tuple(str(one) for one in values)

    given: dict[str, Any] = {}
    for item in fields(noun):
        name = item.name
        if name in small:
            value = small[name]
            if isinstance(value, dict) and "count" in value:
                given[name] = tuple(
                    _unpack(node[f"{name}/{i}"])  # type: ignore[arg-type]
                    if name in node.children
                    else array(f"{name}.{i}")
                    if f"{name}.{i}" in arrays
                    else None
                    for i in range(value["count"])
                )
            elif isinstance(value, dict) and "names" in value:
                given[name] = {key: array(f"{name}.{quote(key, safe='[], ')}") for key in value["names"]}
            else:
                given[name] = _rich(value)
        elif name in node.children:
            given[name] = _unpack(node.children[name])
        elif name in arrays:
            given[name] = array(name)
        elif item.default is MISSING and item.default_factory is MISSING:
            given[name] = None
    return noun(**given)
