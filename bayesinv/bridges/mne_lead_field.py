"""Lead fields as MNE-Python's forward solutions, with their source spaces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayesinv.forward.leadfield import LeadField
from bayesinv.head.sources import Sources

if TYPE_CHECKING:
    import mne


def forward_to_mne(lead_field: LeadField, info: mne.Info) -> mne.Forward:
    """Return an `mne.Forward` that MNE-Python's own inverse methods accept.

    Sources that know their vertices, hemispheres and normals become two surface source spaces (in MNE-Python's
    order: left before right, vertices ascending), any others one discrete source space. Vertices of the cortical
    surface that are no sources are placed at the origin, as their positions are not known. MNE-Python expects EEG rows
    against any reference, and takes it from the data.

    info : names the channels, which must include all sensors

    Raises
    ------
    ValueError
        If a sensor is not among the channels, or the gain has one axis but the sources have no normals.
    """
    import mne
    from mne.io.constants import FIFF

    missing = [name for name in lead_field.sensors.names if name not in info["ch_names"]]
    if missing:
        raise ValueError(
            f"{len(missing)} sensors are not channels of the info: {', '.join(missing[:5])}; "
            "restrict the lead field to the channels there are"
        )
    sources, count = lead_field.sources, len(lead_field.sources)
    if lead_field.orientation == "fixed" and sources.normals is None:
        raise ValueError("a fixed lead field wants the sources' normals, but these sources have none")
    order = np.arange(count)
    if sources.vertices is not None and sources.hemispheres is not None and sources.normals is not None:
        order = np.lexsort((sources.vertices, sources.hemispheres))
    sorted_sources = sources.pick(order)
    spaces = _source_spaces(sorted_sources)
    normals = np.concatenate([space["nn"][space["vertno"]] for space in spaces])
    fixed = lead_field.orientation == "fixed"
    ori = FIFF.FIFFV_MNE_FIXED_ORI if fixed else FIFF.FIFFV_MNE_FREE_ORI
    gain = np.array(lead_field.gain[:, order].reshape(len(lead_field.sensors), -1))
    names = list(lead_field.sensors.names)
    picked = mne.pick_info(info, [info["ch_names"].index(name) for name in names], verbose=False)
    to_head = np.eye(4) if sources.to_mri is None else np.linalg.inv(sources.to_mri)
    transform = mne.transforms.Transform("mri", "head", to_head)
    with picked._unlock():
        # The provenance that MNE-Python writes into the file of a forward solution.
        picked.update(
            mri_file="",
            mri_id={"machid": np.zeros(2, np.int32), "version": 0, "secs": 0, "usecs": 0},
            mri_head_t=transform,
            meas_file="",
            meas_id=None,
            working_dir="",
            command_line="bayesinv",
        )
    return mne.Forward(
        sol={"data": gain, "nrow": gain.shape[0], "ncol": gain.shape[1], "row_names": names, "col_names": []},
        sol_grad=None,
        source_ori=ori,
        surf_ori=fixed,
        nsource=count,
        nchan=len(names),
        coord_frame=FIFF.FIFFV_COORD_HEAD,
        src=spaces,
        source_rr=sorted_sources.positions.copy(),
        source_nn=normals if fixed else np.tile(np.eye(3), (count, 1)),
        mri_head_t=transform,
        info=picked,
        _orig_source_ori=ori,
        _orig_sol=gain.copy(),
        _orig_sol_grad=None,
    )


def _source_spaces(sources: Sources) -> mne.SourceSpaces:
    """Return MNE-Python's source spaces for sources sorted by hemisphere and vertex."""
    import mne
    from mne.io.constants import FIFF

    shared = {
        "coord_frame": FIFF.FIFFV_COORD_HEAD,
        "nearest": None,
        "nearest_dist": None,
        "pinfo": None,
        "patch_inds": None,
        "dist": None,
        "dist_limit": None,
        "subject_his_id": sources.subject or None,
    }
    if sources.vertices is None or sources.hemispheres is None or sources.normals is None:
        count = len(sources)
        normals = np.tile([0.0, 0.0, 1.0], (count, 1)) if sources.normals is None else sources.normals.copy()
        space = {
            "type": "discrete",
            "id": FIFF.FIFFV_MNE_SURF_UNKNOWN,
            "np": count,
            "ntri": 0,
            "nuse": count,
            "nuse_tri": 0,
            "rr": sources.positions.copy(),
            "nn": normals,
            "tris": np.zeros((0, 3), dtype=int),
            "use_tris": np.zeros((0, 3), dtype=int),
            "inuse": np.ones(count, dtype=int),
            "vertno": np.arange(count),
        }
        return mne.SourceSpaces([{**shared, **space}])
    spaces = []
    for hemisphere, ident in ((0, FIFF.FIFFV_MNE_SURF_LEFT_HEMI), (1, FIFF.FIFFV_MNE_SURF_RIGHT_HEMI)):
        members = np.flatnonzero(sources.hemispheres == hemisphere)
        vertices = sources.vertices[members]
        total = int(vertices.max()) + 1 if len(members) else 0
        positions, normals = np.zeros((total, 3)), np.zeros((total, 3))
        normals[:, 2] = 1.0
        positions[vertices], normals[vertices] = sources.positions[members], sources.normals[members]
        triangles = np.zeros((0, 3), dtype=int)
        if sources.triangles is not None and len(members):
            triangles = sources.vertices[sources.triangles[np.isin(sources.triangles, members).all(axis=1)]]
        inuse = np.zeros(total, dtype=int)
        inuse[vertices] = 1
        space = {
            "type": "surf",
            "id": ident,
            "np": total,
            "ntri": len(triangles),
            "nuse": len(members),
            "nuse_tri": len(triangles),
            "rr": positions,
            "nn": normals,
            "tris": triangles,
            "use_tris": triangles,
            "inuse": inuse,
            "vertno": vertices,
        }
        spaces.append({**shared, **space})
    return mne.SourceSpaces(spaces)
