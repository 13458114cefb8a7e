"""A cache of computed gains on disk, keyed by everything that they depend on."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bayesinv.atomic import opened_atomically
from bayesinv.axes import Array
from bayesinv.forward.leadfield import LeadField
from bayesinv.head.sensors import Sensors
from bayesinv.head.sources import Sources


def cached_lead_field(
    solve: Callable[[], LeadField], sensors: Sensors, sources: Sources, *parts: Any, cache: Path | str | None = None
) -> LeadField:
    """Return the lead field that `solve` computes for sensors and sources, from disk if it is there.

    parts : all other arrays and words that the gain depends on; with sensors, sources and the version of this library
        they are the key
    cache : folder of computed gains; None takes `cache_folder()`

    A gain whose file cannot be read is computed again. If the folder cannot be written to, nothing is stored.
    """
    import bayesinv

    key = fingerprint(
        bayesinv.__version__,
        *parts,
        sensors.kinds,
        *(sensors.positions, sensors.points, sensors.directions, sensors.owner),
        sources.positions,
    )
    path = (cache_folder() if cache is None else Path(cache)) / f"template-{key}.npz"
    found = _read(path, (len(sensors), len(sources), 3))
    if found is not None:
        return LeadField(found[0], sensors, sources, notes=found[1])
    computed = solve()
    write(path, computed.notes, gain=computed.gain)
    # The solver may move electrodes onto its scalp; names and order stay.
    return replace(computed, sensors=sensors, sources=sources)


def cache_folder() -> Path:
    """Return the folder of computed gains: $BAYESINV_CACHE, else the user's cache folder of this library."""
    named = os.environ.get("BAYESINV_CACHE")
    if named:
        return Path(named)
    from platformdirs import user_cache_path

    return user_cache_path("bayesinv")


def transfer_folder() -> Path | None:
    """Return the folder of finite element transfer matrices, or None if it cannot be written to."""
    folder = cache_folder() / "fem"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def _read(path: Path, shape: tuple[int, ...]) -> tuple[Array, dict[str, str]] | None:
    """Return gain and notes of a file, or None if there is none that is complete and has this shape."""
    import zipfile

    try:
        with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            gain = file["gain"]
            notes = {str(key): str(text) for key, text in file["notes"]}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    fits = gain.shape == shape and gain.dtype == np.float64 and bool(np.isfinite(gain).all())
    return (gain, notes) if fits else None


def write(path: Path, notes: Mapping[str, str], **arrays: Array) -> None:
    """Write arrays and notes to a temporary file and rename it, so that an interruption leaves no incomplete file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with opened_atomically(path) as file:
            np.savez(file, notes=np.array([[str(k), str(v)] for k, v in notes.items()]), **arrays)  # type: ignore[arg-type]
    except OSError:
        # On a full or read-only disk the result is still returned, only not stored.
        return


def fingerprint(*parts: Any) -> str:
    """Return a hash of arrays and words, 24 hexadecimal digits."""
    digest = hashlib.sha256()
    for part in parts:
        array = part if isinstance(part, np.ndarray) else np.array(str(part))
        digest.update(f"{array.dtype.str} {array.shape};".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:24]
