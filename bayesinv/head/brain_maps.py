"""Maps of other modalities sampled at the sources, from a volume or from the vertices of a surface."""

from __future__ import annotations

from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bayesinv.axes import Array, Index, real
from bayesinv.head.sources import Sources

VERTEX_COUNTS = {"fsaverage": 163842, "fsaverage6": 40962, "fsaverage5": 10242, "fsaverage4": 2562, "fsaverage3": 642}
"""Vertices per hemisphere of FreeSurfer's average surfaces."""

MIN_KNOWN_WEIGHT = 0.5
"""Fraction of the interpolation weight of a sample that must lie on voxels with a value."""

NIBABEL_ENDINGS = (".gii", ".mgh", ".mgz", ".nii")
"""Endings of files that nibabel loads; FreeSurfer's "curv" files have any other ending."""

CURV_MAGIC = b"\xff\xff\xff"
"""First bytes of FreeSurfer's binary "curv" format."""

POINTS_PER_RADIUS = 3
"""Grid points per radius of the ball over which a volume is averaged."""


def sample_map(
    image: Any,
    sources: Sources,
    *,
    to_image: ArrayLike | None = None,
    radius: float = 0.0,
    fill: float | None = None,
) -> Array:
    """Return a map of another modality, such as a statistic of fMRI, at the sources: (source,), in units of the map.

    A volume is interpolated trilinearly at the sources' positions; a map on a surface is taken at their vertices.
    Voxels without a value (NaN, infinite) have no weight.

    image : a volume, path or image of nibabel (NIfTI, MGH; its affine in mm, as usual); or a pair (left, right) of maps
        of the vertices of the subject's surfaces, each a path (GIFTI, MGH, or FreeSurfer's binary "curv" format), an
        image of nibabel, an array (vertex,), or None for a hemisphere that has no source
    to_image : (4, 4), from surface RAS of the sources' subject to the frame that the image's affine leads to, m to m;
        None for the identity. Surface RAS has its origin in the middle of FreeSurfer's volume: see `to_scanner` for
        images in scanner coordinates. Surface RAS of fsaverage is MNI305, a few mm off MNI152 (`MNI152`)
    radius : m, of the ball over which a volume is averaged; 0 for none
    fill : value where the image has none; None refuses

    Raises
    ------
    ValueError
        If the sources lack what the image wants (`to_mri`, or `vertices` and `hemispheres`), the image is not one
        volume or one value per vertex, belongs to another surface, covers no source, or has no value at some.
    """
    if fill is not None and not np.isfinite(fill):
        raise ValueError(f"fill is {fill}, but must be a finite number")
    if not 0 <= radius < np.inf:
        raise ValueError(f"radius is {radius}, but must be a length in m, or 0")
    if isinstance(image, tuple | list):
        if to_image is not None or radius:
            raise ValueError("to_image and radius are for volumes; a map of vertices is picked at the sources' own")
        values, outside = _at_vertices(image, sources), 0
    else:
        values, outside = _in_volume(image, sources, to_image, radius)
    missing = ~np.isfinite(values)
    count = int(missing.sum())
    if count and fill is None:
        what = f": {outside} lie outside of it, and {count - outside} where it is NaN or infinite" if outside else ""
        raise ValueError(
            f"the image has no value at {count} of {len(sources)} sources{what or ', where it is NaN or infinite'}; "
            "give fill=, a value for them"
        )
    if fill is not None:
        values[missing] = fill
    return values


MNI152 = np.array(
    [
        [0.9975, -0.0073, 0.0176, -0.0429e-3],
        [0.0146, 1.0009, -0.0024, 1.5496e-3],
        [-0.0130, -0.0093, 0.9971, 1.1840e-3],
        [0.0, 0.0, 0.0, 1.0],
    ]
)
"""From surface RAS of fsaverage, which is MNI305, to MNI152, m to m: `to_image` for images in MNI152. FreeSurfer's
(Coordinate systems, FreeSurfer's wiki, case 8)."""
MNI152.flags.writeable = False


def to_scanner(volume: Any) -> Array:
    """Return the transform (4, 4) from a subject's surface RAS to scanner RAS, m to m.

    volume : path or image of a volume of the subject in FreeSurfer's MGH format, such as "mri/orig.mgz", whose header
        knows both frames. They differ by the volume's centre in the scanner, "c_ras"

    Raises
    ------
    ValueError
        If the volume is of another format.
    """
    found = _loaded(volume)
    if not hasattr(getattr(found, "header", None), "get_vox2ras_tkr"):
        raise ValueError(
            f"surface RAS is known from volumes of FreeSurfer's MGH format, such as mri/orig.mgz, but {_named(volume)} "
            f"is a {type(found).__name__}"
        )
    out = found.affine @ np.linalg.inv(found.header.get_vox2ras_tkr())
    out[:3, 3] *= 1e-3
    return np.asarray(out, dtype=np.float64)


def _named(image: Any) -> str:
    return repr(str(image)) if isinstance(image, str | PathLike) else f"the {type(image).__name__}"


def _loaded(image: Any) -> Any:
    """Return the image at a path; an argument that is no path is returned as it is."""
    if not isinstance(image, str | PathLike):
        return image
    import nibabel
    from nibabel.filebasedimages import ImageFileError

    try:
        return nibabel.load(image)
    except ImageFileError as error:
        raise ValueError(f"{str(image)!r} is no image that nibabel reads: {error}") from None


def _in_volume(image: Any, sources: Sources, to_image: ArrayLike | None, radius: float) -> tuple[Array, int]:
    """Return the values (source,) of a volume, NaN where it has none, and the number of sources outside it."""
    from scipy.ndimage import map_coordinates

    positions = sources.mri_positions
    if positions is None:
        raise ValueError(
            "a volume is sampled at the sources' positions in the MRI, but these sources have no transform to it; give "
            "Sources(..., to_mri=)"
        )
    volume = _loaded(image)
    shape = tuple(getattr(volume, "shape", ()))
    if getattr(volume, "affine", None) is None or sorted(shape)[-2:-1] == [1]:
        raise ValueError(
            f"{_named(image)} is no volume with an affine; a map of vertices is given as a pair (left, right)"
        )
    if len(shape) < 3 or any(length != 1 for length in shape[3:]):
        raise ValueError(
            f"{_named(image)} has shape {shape}, but one volume has 3 axes; choose one, such as image.slicer[..., 0]"
        )
    table = np.asarray(volume.get_fdata(), dtype=np.float64).reshape(shape[:3])
    if to_image is not None:
        transform = real("to_image", to_image, "4 4")
        positions = positions @ transform[:3, :3].T + transform[:3, 3]
    steps = np.stack(
        np.meshgrid(*[np.arange(-POINTS_PER_RADIUS, POINTS_PER_RADIUS + 1) / POINTS_PER_RADIUS] * 3, indexing="ij"),
        axis=-1,
    ).reshape(-1, 3)
    ball = radius * steps[np.sum(steps**2, axis=1) <= 1 + 1e-9] if radius else np.zeros((1, 3))
    inverse = np.linalg.inv(np.asarray(volume.affine, dtype=np.float64))
    voxels = 1e3 * (positions[:, None] + ball) @ inverse[:3, :3].T + inverse[:3, 3]

    def ball_means(values: Array) -> Array:
        found = map_coordinates(values, voxels.reshape(-1, 3).T, order=1, mode="grid-constant")
        return np.asarray(found.reshape(len(positions), -1).mean(axis=1))

    known = np.isfinite(table)
    weight = ball_means(known.astype(np.float64))
    out = np.full(len(positions), np.nan)
    sufficient = weight >= MIN_KNOWN_WEIGHT
    out[sufficient] = ball_means(np.where(known, table, 0.0))[sufficient] / weight[sufficient]
    # A voxel extends half its size beyond its centre.
    own_voxels = 1e3 * positions @ inverse[:3, :3].T + inverse[:3, 3]
    inside = ((own_voxels >= -0.5) & (own_voxels <= np.array(shape[:3]) - 0.5)).all(axis=1)
    if not inside.any():
        corners = np.stack(np.meshgrid(*[[0, length - 1] for length in shape[:3]]), axis=-1).reshape(-1, 3)
        spans = corners @ volume.affine[:3, :3].T + volume.affine[:3, 3]
        raise ValueError(
            f"{_named(image)} covers none of the {len(positions)} sources: it spans {_box(spans)} mm (right × anterior "
            f"× superior), they {_box(1e3 * positions)}; give to_image, from surface RAS to the image's own frame, m "
            "to m"
        )
    return out, int(np.sum(~sufficient & ~inside))


def _box(positions: Array) -> str:
    return " × ".join(
        f"{low:.0f} to {high:.0f}" for low, high in zip(positions.min(axis=0), positions.max(axis=0), strict=True)
    )


def _at_vertices(pair: Any, sources: Sources) -> Array:
    """Return the values (source,) of maps on the left and the right surface."""
    if len(pair) != 2:
        raise ValueError(f"maps of vertices are a pair (left, right), but {len(pair)} came")
    if sources.vertices is None or sources.hemispheres is None:
        raise ValueError(
            "a map of vertices is picked at the sources' own, but these sources have none; give "
            "Sources(..., vertices=, hemispheres=)"
        )
    out = np.empty(len(sources))
    for hemisphere, (name, map_) in enumerate(zip(("left", "right"), pair, strict=True)):
        members: Index = np.flatnonzero(sources.hemispheres == hemisphere)
        if map_ is None and not members.size:
            continue
        if map_ is None:
            raise ValueError(f"{members.size} sources lie in the {name} hemisphere, but its map is None")
        values = _per_vertex(map_)
        wanted = VERTEX_COUNTS.get(sources.subject)
        if wanted is not None and len(values) != wanted:
            raise ValueError(
                f"the {name} map has vertex = {len(values)}, but {sources.subject} has {wanted} vertices per hemisphere"
            )
        if members.size and sources.vertices[members].max() >= len(values):
            raise ValueError(
                f"the {name} map has vertex = {len(values)}, but a source there is vertex "
                f"{sources.vertices[members].max()}: it is a map of another surface; resample it to the subject's own"
            )
        out[members] = values[sources.vertices[members]]
    return out


def _per_vertex(image: Any) -> Array:
    """Return the values (vertex,) of a map in any of the formats."""
    if isinstance(image, np.ndarray):
        table = image
    elif isinstance(image, str | PathLike) and not str(image).removesuffix(".gz").endswith(NIBABEL_ENDINGS):
        with open(image, "rb") as file:
            if file.read(3) != CURV_MAGIC:
                raise ValueError(
                    f"{str(image)!r} is no map of vertices; GIFTI (.gii), MGH (.mgh, .mgz) and FreeSurfer's binary "
                    '"curv" format are read'
                )
        from nibabel.freesurfer.io import read_morph_data

        table = read_morph_data(image)
    else:
        found = _loaded(image)
        parts = getattr(found, "darrays", None)
        if parts is not None and len(parts) != 1:
            raise ValueError(
                f"{_named(image)} holds {len(parts)} arrays, but one value per vertex is wanted; choose one, such as "
                "image.darrays[0].data"
            )
        table = parts[0].data if parts is not None else found.get_fdata()
    table = np.squeeze(np.asarray(table, dtype=np.float64))
    if table.ndim != 1:
        raise ValueError(f"{_named(image)} has shape {table.shape}, but one value per vertex has 1 axis")
    return table
