"""Scene: a head, sensors and sources by name or from files, and the lead field between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bayesinv.axes import Array, one_of
from bayesinv.cli.inputs import read_fif
from bayesinv.forward.leadfield import LeadField
from bayesinv.geometry.mesh_files import read_mesh
from bayesinv.geometry.shells import nested_spheres, tetrahedralise
from bayesinv.geometry.surfaces import Surface, inside, nearest
from bayesinv.geometry.tetrahedra import Tetrahedra, boundary
from bayesinv.head import template, template_cortex, template_mesh
from bayesinv.head.head import Conductivity, Head
from bayesinv.head.sensors import Sensors, sensors_from_info, sensors_from_montage
from bayesinv.head.sources import Sources

METHODS = ("bem", "fem", "sphere")
HEADS = ("spheres", "subject", "template")

CENTRE = (0.0, 0.01, 0.045)
RADII = (0.082, 0.087, 0.095)
"""m; spheres as large as the template's inner skull, outer skull and scalp above the ears."""

MARGIN = 3e-3
"""m between the sources of a grid and the innermost surface."""

MAX_ELECTRODE_SHIFT = 0.04
"""m by which electrodes of a named layout may be moved to reach the scalp of another head."""

SPACING = 6e-3
"""m between the nodes of finite elements where no resolution is named."""


@dataclass(frozen=True, eq=False)
class Scene:
    """The inputs of a lead field: a head, sensors and sources, all in head coordinates.

    info : of MNE-Python, where the sensors come from one of its files
    notes : what was moved or left out, in words
    """

    head: Head
    sensors: Sensors
    sources: Sources
    info: Any
    notes: dict[str, str]


def set_scene(
    head: str = "template",
    method: str | None = None,
    sensors: str = "64",
    sources: str | None = None,
    *,
    conductivities: Sequence[float] | None = None,
    radii: Sequence[float] = RADII,
    resolution: str = "fine",
    unit: str = "m",
    subject: str | None = None,
    subjects_dir: Path | None = None,
    trans: Path | None = None,
) -> tuple[Scene, str]:
    """Return the scene, and the method for it.

    head : "template", "spheres", "subject" (of FreeSurfer, with the surfaces that MNE-Python knows in its folder bem),
        or the path of a mesh that meshio reads
    method : "sphere", "bem" or "fem"; None takes what suits the head
    sensors : "32" or "64" electrodes of the template, a montage of MNE-Python, or the path of a FIF file with an info
    sources : spacing of the template's cortex such as "oct5"; a spacing in mm for a grid in the innermost compartment;
        or the path of a source space of MNE-Python. None takes oct5 with the template, the subject's own source
        space, and a grid of 10 mm otherwise
    conductivities : S/m, innermost compartment first
    radii : m, of the spheres
    resolution : of the template's finite elements, "coarse" or "fine"
    unit : of the mesh file, "m", "cm" or "mm"
    subject, subjects_dir : of FreeSurfer
    trans : FIF file of the transform between MRI and head coordinates; the one in the subject's folder if None

    Raises
    ------
    ValueError
        If something is unknown, does not go together, or cannot be read.
    FileNotFoundError
        If a file does not exist.
    """
    mesh_file = head not in HEADS and Path(head).suffix
    if not mesh_file:
        one_of("head", head, HEADS, ", or give the path of a mesh file")
    default = {"template": "bem", "spheres": "sphere", "subject": "bem"}.get(head, "fem")
    method = default if method is None else one_of("method", method, METHODS)
    if method == "sphere" and head != "spheres":
        raise ValueError(f"method 'sphere' wants head 'spheres', but the head is {head!r}; use bem or fem")
    if mesh_file and method != "fem":
        raise ValueError(f"a mesh file wants method 'fem', but the method is {method!r}")
    to_head = None
    if head == "template":
        head_model = _template(method, resolution, conductivities)
        to_head = template.to_head()
    elif head == "spheres":
        values = _values(conductivities, (0.33, 0.01, 0.33) if len(radii) == 3 else None, len(radii))
        head_model = Head.spheres(radii, values, centre=CENTRE)
        if method == "fem":
            head_model = replace(head_model, mesh=nested_spheres(radii, SPACING, centre=CENTRE))
    elif head == "subject":
        folder = _subject_folder(subject, subjects_dir)
        to_head = _to_head(trans, folder)
        head_model = _subject(folder, to_head, conductivities)
        if method == "fem":
            head_model = replace(head_model, mesh=tetrahedralise(head_model.surfaces, SPACING))
        sources = (
            str(_one_file(folder / "bem", "*-src.fif", "source space", "--sources")) if sources is None else sources
        )
    else:
        mesh = read_mesh(head, unit=unit)
        values = _values(conductivities, None, int(mesh.labels.max()) + 1)
        head_model = Head(tuple(f"compartment {i + 1}" for i in range(len(values))), values, mesh=mesh)
        to_head = None if trans is None else _to_head(trans, None)
    placed, info, sensor_notes = _sensors(sensors, head_model)
    given = ("oct5" if head == "template" else "10") if sources is None else sources
    positioned, source_notes = _sources(given, head, head_model, to_head)
    return Scene(head_model, placed, positioned, info, {**sensor_notes, **source_notes}), method


def solve(scene: Scene, method: str, cache: Path | None = None, progress: bool = False) -> LeadField:
    """Return the lead field of a scene; its notes say how it was computed, and how close sources come to a boundary.

    method : "sphere", "bem" or "fem"
    cache : folder for the transfer matrices of finite elements; None keeps none
    progress : show a bar over the right-hand sides of finite elements

    Raises
    ------
    ValueError
        As the solver of `bayesinv.forward` does.
    """
    head, sensors, sources = scene.head, scene.sensors, scene.sources
    if method == "sphere":
        from bayesinv.forward.sphere import lead_field as sphere

        made = sphere(head, sensors, sources)
    elif method == "bem":
        from bayesinv.forward.bem import lead_field as bem

        made = bem(head, sensors, sources)
    else:
        from bayesinv.forward.fem import lead_field as fem

        made = fem(head, sensors, sources, cache=cache, progress=progress)
    return replace(made, notes={**made.notes, **scene.notes, **_accuracy(head, method, sources)})


def write_fif(lead_field: LeadField, path: Path, info: Any = None) -> None:
    """Write a lead field as a forward solution of MNE-Python.

    path : ends in -fwd.fif
    info : MNE-Python's, of the sensors; None makes one of electrodes

    Raises
    ------
    ValueError
        If there is no info and there are coils.
    """
    import mne

    sensors = lead_field.sensors
    with mne.use_log_level("ERROR"):
        if info is None:
            if set(sensors.kinds) != {"eeg"}:
                raise ValueError("a forward solution with coils wants the info that they come from")
            info = mne.create_info(list(sensors.names), 1000.0, "eeg")
            positions = dict(zip(sensors.names, sensors.positions, strict=True))
            info.set_montage(mne.channels.make_dig_montage(positions, coord_frame="head"))
        mne.write_forward_solution(path, lead_field.to_mne(info))


def _accuracy(head: Head, method: str, sources: Sources) -> dict[str, str]:
    """Return notes on the smallest distance of sources to the boundary, and on those closer than half an edge to it."""
    if method == "sphere":
        depth = head.radii[0] - np.linalg.norm(sources.positions - np.array(head.centre), axis=1)
        return {"closest source": f"{1e3 * depth.min():.3g} mm from the surface of {head.names[0]}"}
    inner = _innermost(head, method)
    depth = nearest(inner, sources.positions)[2]
    corners = inner.vertices[inner.triangles]
    edge = float(np.median(np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2)))
    notes = {"closest source": f"{1e3 * depth.min():.3g} mm from the surface of {head.names[0]}"}
    close = int(np.count_nonzero(depth < edge / 2))
    text = f"edges of the surface of {head.names[0]} measure {1e3 * edge:.2g} mm (median); "
    text += f"{close} of {len(depth)} sources" if close else "no source"
    notes["accuracy"] = f"{text} within half of that, where errors grow"
    return notes


def _innermost(head: Head, method: str) -> Surface:
    """Return the boundary of the innermost compartment, in which the sources lie."""
    if method != "fem" and head.surfaces:
        return head.surfaces[0]
    assert head.mesh is not None
    mesh = head.mesh
    brain = boundary(Tetrahedra(mesh.nodes, mesh.elements[mesh.labels == 0], mesh.labels[mesh.labels == 0]))
    used, triangles = np.unique(brain.triangles, return_inverse=True)
    return Surface(brain.vertices[used], triangles.reshape(-1, 3))


# --- heads


def _values(
    given: Sequence[float] | None, default: Sequence[Conductivity] | None, count: int
) -> tuple[Conductivity, ...]:
    """Return one conductivity per compartment."""
    values = default if given is None else tuple(given)
    if values is None:
        raise ValueError(f"this head has {count} compartments; give their conductivities in S/m, innermost first")
    if len(values) != count:
        raise ValueError(f"there are {len(values)} conductivities, but the head has {count} compartments")
    return tuple(values)


def _template(method: str, resolution: str, conductivities: Sequence[float] | None) -> Head:
    if method == "bem":
        return template.head(_values(conductivities, template.CONDUCTIVITIES, 3))
    return template_mesh.finite_elements(resolution, _values(conductivities, template_mesh.CONDUCTIVITIES, 4))


def _subject_folder(subject: str | None, subjects_dir: Path | None) -> Path:
    if subject is None or subjects_dir is None:
        raise ValueError("head 'subject' wants --subject and --subjects-dir")
    folder = Path(subjects_dir) / subject
    if not (folder / "bem").is_dir():
        raise FileNotFoundError(f"there is no folder {folder / 'bem'} with the subject's surfaces")
    return folder


def _one_file(folder: Path, pattern: str, what: str, option: str | None = None) -> Path:
    """Return the only file of a folder whose name matches a pattern."""
    found = sorted(folder.glob(pattern))
    remedy = f"; give {option}" if option else ""
    if not found:
        raise FileNotFoundError(f"no {what} ({pattern}) in {folder}{remedy}")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ValueError(f"{folder} holds {len(found)} files that could be the {what}: {names}{remedy or '; keep one'}")
    return found[0]


def _to_head(trans: Path | None, folder: Path | None) -> Array:
    """Return the transform (4, 4) from MRI to head coordinates."""
    import mne

    if trans is None:
        assert folder is not None
        folders = [one for one in (folder, folder / "bem") if list(one.glob("*-trans.fif"))]
        trans = _one_file(folders[0] if folders else folder, "*-trans.fif", "transform between MRI and head", "--trans")
    found = read_fif("transform", trans, mne.read_trans)
    matrix = np.asarray(found["trans"], dtype=np.float64)
    from_head = found["from"] == mne.io.constants.FIFF.FIFFV_COORD_HEAD
    return np.asarray(np.linalg.inv(matrix) if from_head else matrix, dtype=np.float64)


def _subject(folder: Path, to_head: Array, conductivities: Sequence[float] | None) -> Head:
    """Return brain, skull and scalp of a FreeSurfer subject: from a -bem.fif file, else from its .surf files."""
    import mne

    bem = folder / "bem"
    if list(bem.glob("*-bem.fif")):
        path = _one_file(bem, "*-bem.fif", "file of surfaces")
        parts = read_fif("surfaces", path, mne.read_bem_surfaces)
    else:
        missing = [
            name for name in ("inner_skull", "outer_skull", "outer_skin") if not (bem / f"{name}.surf").is_file()
        ]
        if missing:
            raise FileNotFoundError(
                f"{bem} holds neither a -bem.fif file nor {', '.join(f'{name}.surf' for name in missing)}; "
                "mne.bem.make_watershed_bem makes them"
            )
        parts = _model(folder)
    # MNE-Python numbers them 1 (inner skull), 3 (outer skull) and 4 (scalp).
    parts = sorted(parts, key=lambda part: int(part["id"]))
    surfaces = tuple(
        Surface(
            template.transformed(to_head, np.asarray(part["rr"], dtype=np.float64)),
            np.asarray(part["tris"], dtype=np.int64),
        )
        for part in parts
    )
    names = ("brain", "skull", "scalp") if len(parts) == 3 else tuple(f"compartment {i + 1}" for i in range(len(parts)))
    default = template.CONDUCTIVITIES if len(parts) == 3 else (0.33,) if len(parts) == 1 else None
    return Head(names, _values(conductivities, default, len(parts)), surfaces)


def _model(folder: Path) -> Any:
    import mne

    try:
        return mne.make_bem_model(folder.name, ico=3, subjects_dir=folder.parent, verbose="error")
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"the surfaces in {folder / 'bem'} cannot be used: {error}") from error


# --- sensors and sources


def _sensors(name: str, head: Head) -> tuple[Sensors, Any, dict[str, str]]:
    """Return sensors, the info they come from if any, and notes."""
    import mne

    if name.isdigit():
        return (*_on_scalp(template_cortex.electrodes(int(name)), head),)
    if Path(name).suffix == ".fif":
        info = read_fif("info", name, lambda path: mne.io.read_info(path, verbose="error"))
        return sensors_from_info(info), info, {}
    one_of("montage", name, mne.channels.get_builtin_montages(), ", or give 32, 64 or a FIF file")
    return (*_on_scalp(sensors_from_montage(mne.channels.make_standard_montage(name)), head),)


def _on_scalp(sensors: Sensors, head: Head) -> tuple[Sensors, None, dict[str, str]]:
    """Move electrodes at positions of a standard head to the closest point of this head's scalp."""
    scalp = head.surfaces[-1] if head.surfaces else boundary(head.mesh)  # type: ignore[arg-type]
    triangle, weights, distance = nearest(scalp, sensors.positions)
    if distance.max() > MAX_ELECTRODE_SHIFT:
        raise ValueError(
            f"electrode {sensors.names[int(distance.argmax())]} is {1e3 * distance.max():.3g} mm from the scalp; "
            "check that the head is in head coordinates and in metres, or give measured positions in a FIF file"
        )
    positions = np.einsum("ek,ekc->ec", weights, scalp.vertices[scalp.triangles[triangle]])
    notes = (
        {"electrodes": f"moved to the scalp by up to {1e3 * distance.max():.2g} mm"} if distance.max() > 1e-4 else {}
    )
    return replace(sensors, positions=positions), None, notes


def _sources(given: str, kind: str, head: Head, to_head: Array | None) -> tuple[Sources, dict[str, str]]:
    if Path(given).suffix == ".fif":
        return _source_space(given, to_head), {}
    try:
        step = 1e-3 * float(given)
    except ValueError:
        if kind != "template":
            raise ValueError(
                f"sources {given!r} are of the template's cortex, but the head is {kind!r}; give a spacing in mm or a "
                "source space in a FIF file"
            ) from None
        return template_cortex.sources(given), {}
    return _grid(step, head), {"sources": f"grid of {1e3 * step:g} mm"}


def _grid(step: float, head: Head) -> Sources:
    """Return the points of a regular grid in the innermost compartment, more than `MARGIN` inside its surface."""
    if not 1e-3 <= step < 0.1:
        raise ValueError(f"a grid of {1e3 * step:g} mm is asked for, but its spacing must be 1 to 100 mm")
    inner = _innermost(head, "bem" if head.mesh is None else "fem")
    low, high = inner.vertices.min(axis=0), inner.vertices.max(axis=0)
    ticks = [np.arange(np.ceil(a / step), np.floor(b / step) + 1) * step for a, b in zip(low, high, strict=True)]
    points = np.stack(np.meshgrid(*ticks, indexing="ij"), axis=-1).reshape(-1, 3)
    points = points[inside(inner, points)] if len(points) else points
    points = points[nearest(inner, points)[2] > MARGIN] if len(points) else points
    if not len(points):
        raise ValueError(f"no point of a grid of {1e3 * step:g} mm lies in {head.names[0]}; take a finer one")
    return Sources(points)


def _source_space(path: str, to_head: Array | None) -> Sources:
    """Return the sources of MNE-Python's source spaces, in head coordinates."""
    import mne
    from mne.io.constants import FIFF

    from bayesinv.bridges.mne_forward import source_normals, source_triangles

    spaces = read_fif("source space", path, mne.read_source_spaces)
    positions = np.concatenate([space["rr"][space["vertno"]] for space in spaces]).astype(np.float64)
    if spaces[0]["coord_frame"] == FIFF.FIFFV_COORD_MRI:
        if to_head is None:
            raise ValueError(f"{path} is in MRI coordinates; give the transform to head coordinates with --trans")
        positions = template.transformed(to_head, positions)
    rotation = to_head if spaces[0]["coord_frame"] == FIFF.FIFFV_COORD_MRI and to_head is not None else np.eye(4)
    to_mri = None if to_head is None else np.asarray(np.linalg.inv(to_head), dtype=np.float64)
    subject = spaces[0].get("subject_his_id") or ""
    if spaces.kind not in ("surface", "discrete"):
        return Sources(positions, to_mri=to_mri, subject=subject)
    normals = np.concatenate([source_normals(space) for space in spaces]) @ rotation[:3, :3].T
    if spaces.kind == "discrete":
        return Sources(positions, normals, to_mri=to_mri, subject=subject)
    tables = [source_triangles(space) for space in spaces]
    starts = np.cumsum([0, *(len(space["vertno"]) for space in spaces)])
    known = [table + start for table, start in zip(tables, starts, strict=False) if table is not None]
    hemispheres = [int(space["id"] == FIFF.FIFFV_MNE_SURF_RIGHT_HEMI) for space in spaces]
    return Sources(
        positions,
        normals,
        np.concatenate(known) if len(known) == len(tables) else None,
        vertices=np.concatenate([space["vertno"] for space in spaces]),
        hemispheres=np.repeat(hemispheres, np.diff(starts)),
        to_mri=to_mri,
        subject=subject,
    )
