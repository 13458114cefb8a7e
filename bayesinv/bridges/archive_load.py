"""Load nouns from NetCDF-4 files that `save` wrote."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields
from os import PathLike
from typing import Any
from urllib.parse import quote

import numpy as np

from bayesinv.arguments import path_of
from bayesinv.axes import one_of
from bayesinv.bridges.archive_schema import FORMAT, FORMAT_VERSION
from bayesinv.bridges.netcdf import values_of, variables
from bayesinv.covariance.covariance import Structure
from bayesinv.forward.leadfield import LeadField
from bayesinv.geometry.surfaces import Surface
from bayesinv.geometry.tetrahedra import Tetrahedra
from bayesinv.head.head import Head
from bayesinv.head.sensors import Sensors
from bayesinv.head.sources import Sources
from bayesinv.posterior.active import ActiveSets
from bayesinv.posterior.checks import Check, Evidence
from bayesinv.posterior.hyper import Hyper
from bayesinv.posterior.mixture import Mixture
from bayesinv.posterior.posterior import Posterior
from bayesinv.problem.autocorrelation import Autocorrelation
from bayesinv.problem.noise import Noise
from bayesinv.problem.problem import Problem
from bayesinv.problem.recording import Recording
from bayesinv.simulation.recording import Simulation
from bayesinv.simulation.truth import Truth
from bayesinv.simulation.world import World

NOUNS: dict[str, type] = {
    noun.__name__: noun
    for noun in (
        ActiveSets,
        Autocorrelation,
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


def load(path: str | PathLike[str]) -> Any:
    """Return the noun that `save` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no NetCDF-4 file, not one of this library's, or one of a newer form.
    """
    import h5py

    source = path_of("path", path)
    if not source.is_file():
        raise FileNotFoundError(f"there is no file {source}")
    try:
        file = h5py.File(source, "r")
    except OSError as error:
        raise ValueError(f"{source} cannot be read as a NetCDF-4 file: {error}") from None
    with file:
        if file.attrs.get("format") != FORMAT:
            raise ValueError(f"{source} is a NetCDF file, but not one that bayesinv wrote; load wants a file of save's")
        form = int(np.ravel(file.attrs["format_version"])[0])
        if form > FORMAT_VERSION:
            raise ValueError(
                f"{source} has form {form} (bayesinv {file.attrs.get('bayesinv', '?')}), but this bayesinv reads up "
                f"to form {FORMAT_VERSION}; install a newer one"
            )
        return _unpack(file)


def _from_json(value: Any) -> Any:
    """Invert `archive._to_json`; sequences become tuples, as nouns hold them."""
    if isinstance(value, list):
        return tuple(_from_json(one) for one in value)
    if isinstance(value, dict):
        if "evidence" in value:
            return Evidence(value["evidence"], value["error"])
        if "check" in value:
            return Check(**value["check"])
        return {key: _from_json(one) for key, one in value["mapping"].items()}
    return value


def _unpack(group: Any) -> Any:
    """Return the noun that is stored in an HDF5 group."""
    import h5py

    noun = NOUNS[one_of("noun in the file", str(group.attrs["noun"]), NOUNS)]
    scalars = json.loads(group.attrs["small"])
    arrays = variables(group)
    parts = {name for name, one in group.items() if isinstance(one, h5py.Group)}

    given: dict[str, Any] = {}
    for item in fields(noun):
        name = item.name
        if name in scalars:
            value = scalars[name]
            if isinstance(value, dict) and "count" in value:
                given[name] = tuple(
                    _unpack(group[f"{name}/{i}"])
                    if name in parts
                    else values_of(arrays[f"{name}.{i}"])
                    if f"{name}.{i}" in arrays
                    else None
                    for i in range(value["count"])
                )
            elif isinstance(value, dict) and "names" in value:
                given[name] = {key: values_of(arrays[f"{name}.{quote(key, safe='[], ')}"]) for key in value["names"]}
            else:
                given[name] = _from_json(value)
        elif name in parts:
            given[name] = _unpack(group[name])
        elif name in arrays:
            given[name] = values_of(arrays[name])
        elif item.default is MISSING and item.default_factory is MISSING:
            given[name] = None
    return noun(**given)
