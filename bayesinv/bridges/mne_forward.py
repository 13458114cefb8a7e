"""Lead field, sensors and sources from a forward solution of MNE-Python."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesinv.axes import Array, Index, real
from bayesinv.forward.leadfield import LeadField
from bayesinv.head.sensors import Sensors
from bayesinv.head.sources import Sources

if TYPE_CHECKING:
    import mne


MIN_EXTENT, MAX_EXTENT = 0.05, 0.5  # m; a cortex spans more than a decimetre and less than half a metre


def lead_field_of(forward: mne.Forward, names: tuple[str, ...], kinds: tuple[str, ...], orientation: str) -> LeadField:
    """Return the lead field of these channels, in SI units, EEG against infinity."""
    import mne
    from mne.io.constants import FIFF

    if forward["coord_frame"] != FIFF.FIFFV_COORD_HEAD:
        raise ValueError("the forward solution is not in head coordinates; mne.make_forward_solution makes one that is")
    _check_extent(forward["src"])
    constrained = forward["source_ori"] == FIFF.FIFFV_MNE_FIXED_ORI
    if orientation == "free" and constrained:
        raise ValueError(
            "the forward solution has fixed orientation, so it cannot be asked for free; "
            "read or compute it with free orientation"
        )
    kind = forward["src"].kind
    if orientation == "fixed" and not constrained and kind not in ("surface", "discrete"):
        raise ValueError(f"a {kind} source space has no normals to fix the orientation to; use orientation='free'")
    wanted = forward
    if orientation == "fixed" and not constrained:
        wanted = mne.convert_forward_solution(forward, surf_ori=True, force_fixed=True, use_cps=True)
    elif orientation == "free" and forward["surf_ori"]:
        wanted = mne.convert_forward_solution(forward, surf_ori=False)
    rows = [wanted["sol"]["row_names"].index(name) for name in names]
    gain = real("forward", wanted["sol"]["data"][rows], "sensor amplitude")
    axes = 1 if orientation == "fixed" else 3
    normals = np.asarray(wanted["source_nn"], dtype=float) if orientation == "fixed" else None
    return LeadField(
        gain=gain.reshape(len(names), -1, axes),
        sensors=_sensors(forward["info"], names, kinds),
        sources=_sources(forward, normals),
        notes={"solver": "MNE-Python"},
    )


def _check_extent(spaces: mne.SourceSpaces) -> None:
    """Check that the source space is about as wide as a brain, so that its unit is m."""
    positions = np.concatenate([space["rr"] for space in spaces])
    if not np.isfinite(positions).all():
        raise ValueError("the forward's source space holds NaN or infinite positions")
    width = float(np.ptp(positions, axis=0).max())
    if width > MAX_EXTENT:
        raise ValueError(
            f"the source space is {width:.3g} m wide: it looks like mm, where m is wanted; divide positions by 1000"
        )
    if width < MIN_EXTENT:
        words = f"the source space is only {width:.3g} m wide, less than a cortex"
        if spaces.kind in ("surface", "mixed") or width < MIN_EXTENT / 10:
            if len(positions) > 1:
                raise ValueError(f"{words}: it looks like m divided by 1000; positions must be in m")
        else:
            warnings.warn(f"{words}; check that positions are in m", stacklevel=4)


def _sensors(info: mne.Info, names: tuple[str, ...], kinds: tuple[str, ...]) -> Sensors:
    """Return the sensors at the positions of the forward solution, in head coordinates."""
    from mne.io.constants import FIFF
    from mne.transforms import apply_trans

    channels = {channel["ch_name"]: channel for channel in info["chs"]}
    positions = np.array([channels[name]["loc"][:3] for name in names], dtype=float)
    in_device = np.array([channels[name]["coord_frame"] == FIFF.FIFFV_COORD_DEVICE for name in names])
    if in_device.any():
        if info["dev_head_t"] is None:
            raise ValueError(
                "MEG sensors want the transform from device to head coordinates, but the forward's info has none "
                "(dev_head_t); compute the forward solution from a recording that has one"
            )
        positions[in_device] = apply_trans(info["dev_head_t"], positions[in_device])
    return Sensors(names, kinds, positions)


def _sources(forward: mne.Forward, normals: Array | None) -> Sources:
    """Return the sources, with normals, triangles and areas where the source space has them."""
    from mne.io.constants import FIFF

    spaces = forward["src"]
    positions = np.asarray(forward["source_rr"], dtype=float)
    to_mri = np.linalg.inv(forward["mri_head_t"]["trans"])
    subject = spaces[0].get("subject_his_id") or ""
    if spaces.kind != "surface":
        if normals is None and spaces.kind == "discrete":
            normals = np.concatenate([source_normals(space) for space in spaces])
        return Sources(positions, normals, to_mri=to_mri, subject=subject)
    if normals is None:
        normals = np.concatenate([source_normals(space) for space in spaces])
    hemisphere = [int(space["id"] == FIFF.FIFFV_MNE_SURF_RIGHT_HEMI) for space in spaces]
    counts = [len(space["vertno"]) for space in spaces]
    starts = np.cumsum([0, *counts])
    tables: list[Any] = [source_triangles(space) for space in spaces]
    triangles: Index | None = None
    areas: Array | None = None
    if all(table is not None for table in tables):
        triangles = np.concatenate([table + start for table, start in zip(tables, starts, strict=False)])
        corners = positions[triangles]
        size = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
        areas = np.zeros(len(positions))
        np.add.at(areas, triangles.ravel(), np.repeat(size / 3, 3))
    return Sources(
        positions,
        normals,
        triangles,
        areas,
        np.concatenate([space["vertno"] for space in spaces]),
        np.repeat(hemisphere, counts),
        to_mri,
        subject,
    )


def source_normals(space: Mapping[str, Any]) -> Array:
    """Return the unit normals (source, 3) of a source space, averaged over cortical patches where these are known."""
    if space.get("patch_inds") is None or space.get("pinfo") is None:
        found = np.array(space["nn"][space["vertno"]], dtype=float)
    else:
        found = np.array([space["nn"][space["pinfo"][patch]].sum(axis=0) for patch in space["patch_inds"]])
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))


def source_triangles(space: Mapping[str, Any]) -> Index | None:
    """Return the triangles (triangle, 3) between the sources of a surface, as indices among its sources."""
    table = np.asarray(space.get("use_tris"))
    if table.ndim != 2 or not table.size:
        # The surface's own triangles connect sources only if every vertex is a source.
        if len(space["vertno"]) != space["np"]:
            return None
        table = np.asarray(space["tris"])
    index = np.full(space["np"], -1, dtype=np.int64)
    index[space["vertno"]] = np.arange(len(space["vertno"]))
    found = index[table.astype(np.int64)]
    return found[(found >= 0).all(axis=1)]
