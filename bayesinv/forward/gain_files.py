"""Computed gains kept on disk: found by all that they depend on, read where they are whole, made anew otherwise."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bayesinv.axes import Array
from bayesinv.forward.leadfield import LeadField
from bayesinv.head.sensors import Sensors
from bayesinv.head.sources import Sources


def kept(
    solve: Callable[[], LeadField], sensors: Sensors, sources: Sources, *parts: Any, cache: Path | str | None = None
) -> LeadField:
    """Return what `solve` gives for sensors and sources, computed once and then read from disk.

    parts : arrays and words that the gain depends on besides; with sensors, sources and the version of this library
        they are what a computed gain is found by
    cache : folder of computed gains; None takes `cache_folder()`

    A file of the cache that cannot be read is computed anew. Where the folder cannot be written to, nothing is kept.
    """
    import bayesinv

    key = fingerprint(
        bayesinv.__version__,
        *parts,
        sensors.kinds,
        *(sensors.positions, sensors.points, sensors.directions, sensors.owner),
        sources.positions,
    )
    store = (cache_folder() if cache is None else Path(cache)) / f"template-{key}.npz"
    found = _read(store, (len(sensors), len(sources), 3))
    if found is not None:
        return LeadField(found[0], sensors, sources, notes=found[1])
    made = solve()
    write(store, made.notes, gain=made.gain)
    # The solver may move electrodes onto its scalp; names and order stay.
    return replace(made, sensors=sensors, sources=sources)


def cache_folder() -> Path:
    """Return where computed gains are kept: $BAYESINV_CACHE, else the user's cache folder of this library."""
    named = os.environ.get("BAYESINV_CACHE")
    if named:
        return Path(named)
    from platformdirs import user_cache_path

    return user_cache_path("bayesinv")


def transfer_folder() -> Path | None:
    """Return where transfer matrices of finite elements are kept, or None where nothing can be written."""
    folder = cache_folder() / "fem"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def _read(store: Path, shape: tuple[int, ...]) -> tuple[Array, dict[str, str]] | None:
    """Return gain and notes of a file, or None if there is none, or none that is whole and fits."""
    import zipfile

    try:
        with store.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            gain = file["gain"]
            notes = {str(key): str(text) for key, text in file["notes"]}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    fits = gain.shape == shape and gain.dtype == np.float64 and bool(np.isfinite(gain).all())
    return (gain, notes) if fits else None


def write(store: Path, notes: Mapping[str, str], **arrays: Array) -> None:
    """Keep arrays and notes: under another name until the file is whole, so that an interruption breaks nothing."""
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=store.parent, prefix=store.stem, suffix=".part")
    except OSError:
        return
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, notes=np.array([[str(k), str(v)] for k, v in notes.items()]), **arrays)  # type: ignore[arg-type]
        os.replace(name, store)
    except OSError:
        # A full or read-only disk costs the cache, not the result.
        Path(name).unlink(missing_ok=True)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def fingerprint(*parts: Any) -> str:
    digest = hashlib.sha256()
    for part in parts:
        array = part if isinstance(part, np.ndarray) else np.array(str(part))
        digest.update(f"{array.dtype.str} {array.shape};".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:24]
