"""Template: a realistic head from surfaces that installed packages carry; nothing is downloaded.

Scalp and inner skull are those of `fsaverage` in MNE-Python's wheel, the cortex is the white surface of `fsaverage5`
in nilearn's; both lie in one frame, the MRI (surface RAS) coordinates of fsaverage. No outer skull is carried by
either: it is placed a fixed fraction of the way from the inner skull to the scalp. Amplitudes of scalp potentials
are therefore those of a plausible head, not of any subject.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial import cKDTree

from bayesinv.axes import Array, Index, one_of
from bayesinv.geometry.icosphere import geodesic_sphere
from bayesinv.geometry.surfaces import Surface, vertex_normals
from bayesinv.head import Conductivity, Head
from bayesinv.leadfield import LeadField
from bayesinv.sensors import Sensors, sensors_from_montage
from bayesinv.sources import Sources

SUBJECT = "fsaverage5"
NAMES = ("brain", "skull", "scalp")
CONDUCTIVITIES: tuple[Conductivity, ...] = (0.33, 0.01, 0.33)
"""S/m of brain, skull and scalp."""

SKULL_FRACTION = 0.42
"""Where the outer skull lies between the inner skull (0) and the scalp (1)."""

THINNEST, THICKEST = 2e-3, 7e-3
"""m, the skull's limits; the fraction alone would give it the thickness of the neck below."""

LAYOUTS = {
    32: "Fp1 Fp2 AF3 AF4 F7 F3 Fz F4 F8 FC5 FC1 FC2 FC6 T7 C3 Cz C4 T8 CP5 CP1 CP2 CP6 P7 P3 Pz P4 P8 PO3 PO4 O1 Oz O2",
    64: "Fp1 Fpz Fp2 AF7 AF3 AFz AF4 AF8 F7 F5 F3 F1 Fz F2 F4 F6 F8 FT7 FC5 FC3 FC1 FCz FC2 FC4 FC6 FT8 "
    "T7 C5 C3 C1 Cz C2 C4 C6 T8 TP7 CP5 CP3 CP1 CPz CP2 CP4 CP6 TP8 P9 P7 P5 P3 P1 Pz P2 P4 P6 P8 P10 "
    "PO7 PO3 POz PO4 PO8 O1 Oz O2 Iz",
}


def surfaces(subdivisions: int = 3, skull_fraction: float = SKULL_FRACTION) -> tuple[Surface, Surface, Surface]:
    """Return inner skull, outer skull and scalp in m, head coordinates, innermost first.

    Along rays from the middle of the brain the inner skull and the outermost scalp are met; the outer skull is
    placed between. All three share their triangles.

    subdivisions : how often the triangles of an icosahedron are cut in four; 3 gives 642 vertices per surface
    skull_fraction : share of the way from inner skull to scalp that is skull, in (0, 1)

    Raises
    ------
    ValueError
        If the fraction lies outside (0, 1), or subdivisions outside 1 to 6.
    """
    if not 0 < skull_fraction < 1:
        raise ValueError(f"skull_fraction is {skull_fraction}, but must lie between 0 and 1")
    if not 1 <= subdivisions <= 6:
        raise ValueError(f"subdivisions is {subdivisions}, but must be 1 to 6")
    return _surfaces(int(subdivisions), float(skull_fraction))


@lru_cache(maxsize=8)
def _surfaces(subdivisions: int, skull_fraction: float) -> tuple[Surface, Surface, Surface]:
    unit = geodesic_sphere(2**subdivisions)
    brain, skin = _shipped("inner_skull-bem"), _shipped("head")
    centre = brain[0].mean(axis=0)
    inner = _outermost(brain, centre, unit.vertices)
    outer = _outermost(skin, centre, unit.vertices)
    skull = inner + np.clip(skull_fraction * (outer - inner), THINNEST, THICKEST)
    turn = _to_head()

    def at(radii: Array) -> Surface:
        return Surface(_moved(turn, centre + radii[:, None] * unit.vertices), unit.triangles)

    return at(inner), at(skull), at(outer)


def head(
    conductivities: Sequence[Conductivity] = CONDUCTIVITIES,
    *,
    subdivisions: int = 3,
    skull_fraction: float = SKULL_FRACTION,
) -> Head:
    """Return the template head: brain, skull and scalp within the surfaces of `surfaces`.

    conductivities : S/m, innermost first
    """
    return Head(NAMES, tuple(conductivities), surfaces(subdivisions, skull_fraction))


def cortex() -> Sources:
    """Return every vertex of the white surface of fsaverage5, with normals, areas and triangles.

    All lie deeper than 2.5 mm below the inner skull; those of the pial surface would not.
    """
    return _cortex()


@lru_cache(maxsize=1)
def _cortex() -> Sources:
    turn = _to_head()
    parts = []
    for name in ("left", "right"):
        vertices, triangles = _gifti(f"white_{name}")
        parts.append(Surface(_moved(turn, 1e-3 * vertices), triangles))
    first = len(parts[0].vertices)
    return Sources(
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([vertex_normals(part) for part in parts]),
        np.concatenate([parts[0].triangles, parts[1].triangles + first]),
        np.concatenate([_vertex_areas(part) for part in parts]),
        np.concatenate([np.arange(len(part.vertices)) for part in parts]),
        np.repeat([0, 1], [first, len(parts[1].vertices)]),
        np.asarray(np.linalg.inv(turn), dtype=np.float64),
        SUBJECT,
    )


def sources(spacing: str = "oct5", *, seed: int | None = None, avoid: Sources | None = None) -> Sources:
    """Return source locations on the white surface of both hemispheres, in m, head coordinates.

    The corners of a grid on the sphere pick the nearest vertices of the spherical cortex. A source stands for the
    patch of vertices nearest to it: it has their area and their mean normal.

    spacing : "oct4" (516 sources), "oct5" (2,052), "oct6" (8,196), "ico3" (1,284), "ico4" (5,124) or "all" (20,484)
    seed : turns the grid at random about the sphere's centre, for another choice of vertices
    avoid : sources none of whose vertices shall be picked, for a truth that lies off the inversion's grid

    Raises
    ------
    ValueError
        If the spacing is unknown, or `avoid` leaves too few vertices.
    """
    one_of("spacing", spacing, ("all", "ico3", "ico4", "oct4", "oct5", "oct6"))
    whole = _cortex()
    allowed = np.ones(len(whole), dtype=bool)
    if avoid is not None:
        if avoid.vertices is None or avoid.hemispheres is None:
            raise ValueError("avoid wants sources that know their vertices and hemispheres")
        allowed[avoid.vertices + avoid.hemispheres * _half()] = False
    if spacing == "all":
        return whole.pick(np.flatnonzero(allowed))
    grid = _grid(spacing)
    directions = grid.vertices if seed is None else grid.vertices @ _turn(seed).T
    picked, patches, triangles = [], [], []
    for hemisphere, name in enumerate(("left", "right")):
        start = hemisphere * _half()
        sphere, _ = _gifti(f"sphere_{name}")
        sphere = sphere / np.linalg.norm(sphere, axis=1, keepdims=True)
        free = np.flatnonzero(allowed[start : start + _half()])
        if len(free) < len(directions):
            raise ValueError(f"{len(free)} vertices are left for {len(directions)} sources of a hemisphere")
        mine = free[_assign(sphere[free], directions)]
        picked.append(start + mine)
        patches.append(cKDTree(sphere[mine]).query(sphere)[1])
        triangles.append(grid.triangles + hemisphere * len(directions))
    index = np.concatenate(picked)
    owner = np.concatenate([patches[0], patches[1] + len(directions)])
    assert whole.areas is not None
    assert whole.normals is not None
    areas = np.bincount(owner, whole.areas, len(index)).astype(np.float64)
    normals = np.stack([np.bincount(owner, whole.areas * whole.normals[:, c], len(index)) for c in range(3)], axis=1)
    chosen = replace(
        whole.pick(index),
        normals=normals / np.linalg.norm(normals, axis=1, keepdims=True),
        areas=areas,
        triangles=np.concatenate(triangles),
    )
    # MNE-Python wants the vertices of a hemisphere to ascend.
    order = np.lexsort((chosen.vertices, chosen.hemispheres))  # type: ignore[arg-type]
    return chosen.pick(order)


def electrodes(layout: int | Sequence[str] = 64, *, subdivisions: int = 3) -> Sensors:
    """Return electrodes of the extended 10-20 system on the template's scalp, in head coordinates.

    layout : 32 or 64, or names of the 10-05 system such as ("Cz", "Pz")
    subdivisions : of the scalp that they sit on, see `surfaces`

    Raises
    ------
    ValueError
        If the layout is unknown or a name is not of the 10-05 system.
    """
    places = _montage()
    if isinstance(layout, int):
        if layout not in LAYOUTS:
            raise ValueError(
                f"there is no layout of {layout} electrodes; give {' or '.join(map(str, LAYOUTS))}, or names"
            )
        names = LAYOUTS[layout].split()
    else:
        names = [one_of("electrode", name, places.names) for name in layout]
    index = np.array([places.names.index(name) for name in names])
    return places.pick(index).on(surfaces(subdivisions)[-1])


def lead_field(
    sources: Sources,
    sensors: Sensors,
    conductivities: Sequence[Conductivity] = CONDUCTIVITIES,
    *,
    subdivisions: int = 3,
    skull_fraction: float = SKULL_FRACTION,
    cache: Path | str | None = None,
) -> LeadField:
    """Return the gain of the template head by boundary elements, computed once and then read from disk.

    cache : folder of computed gains, see `kept`
    """
    shape = head(conductivities, subdivisions=subdivisions, skull_fraction=skull_fraction)

    def solve() -> LeadField:
        from bayesinv.forward.bem import lead_field as bem

        return bem(shape, sensors, sources)

    surface_arrays = (array for surface in shape.surfaces for array in (surface.vertices, surface.triangles))
    return kept(solve, sensors, sources, *surface_arrays, *map(_both, shape.conductivities), cache=cache)


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

    key = _fingerprint(
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
    _write(store, made.notes, gain=made.gain)
    # The solver may move electrodes onto its scalp; names and order stay.
    return replace(made, sensors=sensors, sources=sources)


def _both(conductivity: Conductivity) -> Array:
    """Radial and tangential conductivity (2,)."""
    return np.array(np.broadcast_to(conductivity, 2), dtype=np.float64)


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


def _write(store: Path, notes: Mapping[str, str], **arrays: Array) -> None:
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


def _fingerprint(*parts: Any) -> str:
    digest = hashlib.sha256()
    for part in parts:
        array = part if isinstance(part, np.ndarray) else np.array(str(part))
        digest.update(f"{array.dtype.str} {array.shape};".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:24]


def _shipped(name: str) -> tuple[Array, Index]:
    """Return vertices in m, MRI coordinates, and triangles of a surface of fsaverage."""
    import mne

    (surface,) = mne.read_bem_surfaces(_fsaverage() / f"fsaverage-{name}.fif", verbose="error")
    return np.asarray(surface["rr"], dtype=np.float64), np.asarray(surface["tris"], dtype=np.int64)


def _fsaverage() -> Path:
    import mne

    return Path(mne.__file__).parent / "data" / "fsaverage"


@lru_cache(maxsize=1)
def _to_head() -> Array:
    """Return the transform (4, 4) from MRI to head coordinates."""
    import mne

    found = mne.read_trans(_fsaverage() / "fsaverage-trans.fif", verbose="error")
    return np.linalg.inv(np.asarray(found["trans"], dtype=np.float64))


@lru_cache(maxsize=8)
def _gifti(name: str) -> tuple[Array, Index]:
    """Return vertices and triangles of a surface of fsaverage5, in the unit of the file."""
    from importlib.util import find_spec

    import nibabel

    # The package is only asked where it lies: reading it in would take seconds.
    spec = find_spec("nilearn")
    assert spec is not None
    assert spec.origin is not None
    folder = Path(spec.origin).parent / "datasets" / "data" / "fsaverage5"
    image: Any = nibabel.load(folder / f"{name}.gii.gz")
    vertices, triangles = (np.asarray(part.data) for part in image.darrays[:2])
    return vertices.astype(np.float64), triangles.astype(np.int64)


def _half() -> int:
    """Return the number of vertices of a hemisphere."""
    return len(_gifti("white_left")[0])


@lru_cache(maxsize=1)
def _montage() -> Sensors:
    """Return all positions of the 10-05 system in head coordinates."""
    import mne

    try:
        montage = mne.channels.make_standard_montage("colin27_1005")
    except ValueError:
        # The name of older releases of MNE-Python.
        montage = mne.channels.make_standard_montage("standard_1005")
    return sensors_from_montage(montage)


def _vertex_areas(surface: Surface) -> Array:
    """Return a third of the area of the triangles around each vertex: (vertex,), m²."""
    a, b, c = (surface.vertices[surface.triangles[:, i]] for i in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    shares = np.repeat(area / 3, 3)
    return np.bincount(surface.triangles.ravel(), shares, len(surface.vertices)).astype(np.float64)


def _moved(transform: Array, points: Array) -> Array:
    return points @ transform[:3, :3].T + transform[:3, 3]


def _turn(seed: int) -> Array:
    """Return a rotation (3, 3), uniform over all."""
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.random(random_state=np.random.default_rng(seed)).as_matrix())


def _outermost(surface: tuple[Array, Index], centre: Array, rays: Array) -> Array:
    """Return the farthest distance (ray,) from the centre at which unit vectors (ray, 3) leave a surface.

    A ray u meets the triangle with corners C (rows, about the centre) where u C⁻¹ has no negative entry, at the
    distance 1 / sum(u C⁻¹).
    """
    vertices, triangles = surface
    corners = (vertices - centre)[triangles]
    flat = np.abs(np.linalg.det(corners)) < 1e-9 * np.linalg.norm(corners, axis=2).prod(axis=1)
    # A triangle that the centre sees edge-on is met through its neighbours.
    inverse = np.linalg.inv(corners[~flat])
    table = inverse.transpose(1, 0, 2).reshape(3, -1)
    found = np.empty(len(rays))
    step = max(1, 2**23 // table.shape[1])
    for start in range(0, len(rays), step):
        weights = (rays[start : start + step] @ table).reshape(-1, len(inverse), 3)
        total = weights.sum(axis=2)
        hit = (weights.min(axis=2) >= -1e-9 * np.abs(total)) & (total > 0)
        found[start : start + step] = np.where(hit, 1 / np.where(hit, total, 1), 0.0).max(axis=1)
    if not found.all():
        raise ValueError(f"{np.count_nonzero(found == 0)} rays from the centre miss the surface; it is open")
    return found


def _grid(spacing: str) -> Surface:
    """Return a subdivided octahedron or icosahedron on the unit sphere."""
    level = int(spacing[3:])
    if spacing.startswith("ico"):
        return geodesic_sphere(2**level)
    corners = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0], [0, -1, 0], [0, 0, -1]], dtype=np.float64)
    faces = [(0, 1, 2), (1, 3, 2), (3, 4, 2), (4, 0, 2), (1, 0, 5), (3, 1, 5), (4, 3, 5), (0, 4, 5)]
    vertices, triangles = corners, np.array(faces)
    # Edges are halved `level` times: oct5 has 4^5 + 2 = 1026 vertices.
    for _ in range(level - 1):
        edges = np.sort(triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
        unique, place = np.unique(edges, axis=0, return_inverse=True)
        middle = vertices[unique].sum(axis=1)
        place = place.reshape(-1, 3) + len(vertices)
        vertices = np.concatenate([vertices, middle / np.linalg.norm(middle, axis=1, keepdims=True)])
        (a, b, c), (ab, bc, ca) = triangles.T, place.T
        triangles = np.concatenate(
            [np.stack(part, axis=1) for part in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))]
        )
    return Surface(vertices, triangles)


def _assign(places: Array, directions: Array) -> Index:
    """Return for each direction (direction, 3) its own nearest place (place, 3); nearer pairs choose first."""
    tree = cKDTree(places)
    mine = np.full(len(directions), -1)
    taken = np.zeros(len(places), dtype=bool)
    count = 8
    while (mine < 0).any():
        open_ = np.flatnonzero(mine < 0)
        distance, near = tree.query(directions[open_], k=min(count, len(places)))
        for flat in np.argsort(distance, axis=None, kind="stable"):
            row, column = np.unravel_index(flat, near.shape)
            direction, place = open_[row], near[row, column]
            if mine[direction] < 0 and not taken[place]:
                mine[direction], taken[place] = place, True
        count *= 4
    return mine
