"""The template head: nested surfaces from files of installed packages; nothing is downloaded.

Scalp and inner skull are those of `fsaverage` in MNE-Python's wheel, the cortex (`template_cortex`) is the white
surface of `fsaverage5` in nilearn's; both are in the MRI (surface RAS) coordinates of fsaverage. Neither package has
an outer skull: it is placed at a fixed fraction of the distance from the inner skull to the scalp. Amplitudes of scalp
potentials are therefore plausible, but not those of any subject.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bayesinv.axes import Array, Index
from bayesinv.geometry.icosphere import geodesic_sphere
from bayesinv.geometry.surfaces import Surface
from bayesinv.head.head import Conductivity, Head
from bayesinv.memory import Memory

TEMPLATE_MEMORY = Memory("parts of the template")

NAMES = ("brain", "skull", "scalp")
CONDUCTIVITIES: tuple[Conductivity, ...] = (0.33, 0.01, 0.33)
"""S/m of brain, skull and scalp."""
SKULL_FRACTION = 0.42
"""Position of the outer skull between the inner skull (0) and the scalp (1)."""
MIN_SKULL, MAX_SKULL = 2e-3, 7e-3
"""Limits of the skull's thickness, m; without them the fraction would make it as thick as the neck below the head."""


def surfaces(subdivisions: int = 3, skull_fraction: float = SKULL_FRACTION) -> tuple[Surface, Surface, Surface]:
    """Return inner skull, outer skull and scalp in m, head coordinates, innermost first.

    All three are sampled along the same rays from the centre of the inner skull, at their outermost intersections, and
    share their triangles; the outer skull is placed between the two others.

    subdivisions : how often the triangles of an icosahedron are cut in four; 3 gives 642 vertices per surface
    skull_fraction : fraction of the distance from inner skull to scalp that is skull, in (0, 1)

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


@TEMPLATE_MEMORY.keep
def _surfaces(subdivisions: int, skull_fraction: float) -> tuple[Surface, Surface, Surface]:
    unit = geodesic_sphere(2**subdivisions)
    brain, skin = fsaverage_surface("inner_skull-bem"), fsaverage_surface("head")
    centre = brain[0].mean(axis=0)
    inner = _outermost(brain, centre, unit.vertices)
    outer = _outermost(skin, centre, unit.vertices)
    skull = inner + np.clip(skull_fraction * (outer - inner), MIN_SKULL, MAX_SKULL)
    mri_to_head = to_head()

    def surface_at(radii: Array) -> Surface:
        return Surface(transformed(mri_to_head, centre + radii[:, None] * unit.vertices), unit.triangles)

    return surface_at(inner), surface_at(skull), surface_at(outer)


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


def fsaverage_surface(name: str) -> tuple[Array, Index]:
    """Return vertices in m, MRI coordinates, and triangles of a surface of fsaverage."""
    import mne

    (surface,) = mne.read_bem_surfaces(_fsaverage() / f"fsaverage-{name}.fif", verbose="error")
    return np.asarray(surface["rr"], dtype=np.float64), np.asarray(surface["tris"], dtype=np.int64)


def _fsaverage() -> Path:
    import mne

    return Path(mne.__file__).parent / "data" / "fsaverage"


@TEMPLATE_MEMORY.keep
def to_head() -> Array:
    """Return the transform (4, 4) from MRI to head coordinates."""
    import mne

    found = mne.read_trans(_fsaverage() / "fsaverage-trans.fif", verbose="error")
    return np.linalg.inv(np.asarray(found["trans"], dtype=np.float64))


def transformed(transform: Array, points: Array) -> Array:
    return points @ transform[:3, :3].T + transform[:3, 3]


def _outermost(surface: tuple[Array, Index], centre: Array, rays: Array) -> Array:
    """Return the farthest distance (ray,) from the centre at which unit vectors (ray, 3) leave a surface.

    A ray u meets the triangle with corners C (rows, about the centre) where u C⁻¹ has no negative entry, at the
    distance 1 / sum(u C⁻¹).
    """
    vertices, triangles = surface
    corners = (vertices - centre)[triangles]
    edge_on = np.abs(np.linalg.det(corners)) < 1e-9 * np.linalg.norm(corners, axis=2).prod(axis=1)
    # Rays through a triangle in one plane with the centre meet its neighbours.
    inverse = np.linalg.inv(corners[~edge_on])
    table = inverse.transpose(1, 0, 2).reshape(3, -1)
    found = np.empty(len(rays))
    step = max(1, 2**20 // table.shape[1])
    for start in range(0, len(rays), step):
        # Entry by entry: NumPy's reduction over an axis of length three takes several times as long.
        a, b, c = np.moveaxis((rays[start : start + step] @ table).reshape(-1, len(inverse), 3), 2, 0)
        total = a + b + c
        hit = (np.minimum(np.minimum(a, b), c) >= -1e-9 * np.abs(total)) & (total > 0)
        found[start : start + step] = np.where(hit, 1 / np.where(hit, total, 1), 0.0).max(axis=1)
    if not found.all():
        raise ValueError(f"{np.count_nonzero(found == 0)} rays from the centre miss the surface; it is open")
    return found
