"""The template head with CSF between brain and skull: its surfaces, and its tetrahedral mesh for finite elements."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bayesinv.axes import Array, one_of
from bayesinv.geometry.shells import tetrahedralise
from bayesinv.geometry.surfaces import Surface
from bayesinv.geometry.tetrahedra import Tetrahedra
from bayesinv.head import template
from bayesinv.head.head import Conductivity, Head
from bayesinv.memory import Memory

NAMES = ("brain", "CSF", "skull", "scalp")
CONDUCTIVITIES: tuple[Conductivity, ...] = (0.33, 1.79, 0.01, 0.33)
"""S/m of brain, cerebrospinal fluid (Baumann et al. 1997, IEEE Trans. Biomed. Eng. 44, 220-223), skull and scalp."""

CSF_THICKNESS = 3e-3
"""m, along rays from the centre of the inner skull; every vertex of `template_cortex.cortex` lies deeper."""

MAX_CSF_THICKNESS = 4e-3
"""m, the thickest CSF with which all of the cortex lies within the brain."""

# Spacing in m and layers of elements of brain, CSF, skull, scalp. Without CSF its entries are left out.
RESOLUTIONS: dict[str, tuple[tuple[float, ...], tuple[int, ...]]] = {
    "coarse": ((8e-3, 3.7e-3, 5e-3, 8e-3), (0, 1, 1, 2)),
    "fine": ((4e-3, 3.1e-3, 2.7e-3, 4.2e-3), (0, 1, 2, 3)),
}

MESH_MEMORY = Memory("meshes of the template")


def finite_elements(
    resolution: str = "fine", conductivities: Sequence[Conductivity] | None = None, *, csf: float = CSF_THICKNESS
) -> Head:
    """Return the template head with a tetrahedral mesh, and with the surfaces that the mesh conforms to.

    resolution : "coarse" (about 30 thousand nodes) or "fine" (about 100 thousand), either without a mesher
    conductivities : S/m of brain, CSF, skull and scalp; `CONDUCTIVITIES` if None
    csf : thickness of the CSF along rays, m; 0 leaves it out: brain, skull and scalp of `template.head`

    Sources must lie in the brain; all of `template_cortex.cortex` does.

    Raises
    ------
    ValueError
        If the resolution is unknown, the CSF is too thick, too thin or negative, or there are not as many
        conductivities as compartments.
    """
    one_of("resolution", resolution, RESOLUTIONS)
    if not (csf == 0 or 1e-3 <= csf <= MAX_CSF_THICKNESS):
        raise ValueError(
            f"csf is {csf:g} m, but must be 0, or {1e3 * 1e-3:g} to {1e3 * MAX_CSF_THICKNESS:g} mm: thinner wants "
            "smaller elements, thicker would flood the cortex"
        )
    included = [i for i in range(len(NAMES)) if csf or NAMES[i] != "CSF"]
    values = tuple(CONDUCTIVITIES[i] for i in included) if conductivities is None else tuple(conductivities)
    surfaces, mesh = _build(resolution, float(csf))
    x, y, z = _ray_centre().tolist()
    return Head(tuple(NAMES[i] for i in included), values, surfaces, centre=(x, y, z), mesh=mesh)


def boundary_elements(
    conductivities: Sequence[Conductivity] | None = None, *, subdivisions: int = 3, csf: float = CSF_THICKNESS
) -> Head:
    """Return the template head with CSF by its four surfaces.

    conductivities : S/m of brain, CSF, skull and scalp; `CONDUCTIVITIES` if None
    subdivisions : see `template.surfaces`
    csf : thickness of the CSF along rays, m

    Raises
    ------
    ValueError
        If the CSF is too thin or too thick, or there are not four conductivities.
    """
    if not 1e-3 <= csf <= MAX_CSF_THICKNESS:
        raise ValueError(f"csf is {csf:g} m, but must be 1 to {1e3 * MAX_CSF_THICKNESS:g} mm; see `template.head`")
    values = CONDUCTIVITIES if conductivities is None else tuple(conductivities)
    return Head(NAMES, values, _with_brain(template.surfaces(subdivisions), csf))


def _with_brain(surfaces: tuple[Surface, ...], csf: float) -> tuple[Surface, ...]:
    """Return the surface of the brain before the others."""
    centre = _ray_centre()
    rays = surfaces[0].vertices - centre
    shrunk = 1 - csf / np.linalg.norm(rays, axis=1, keepdims=True)
    return (Surface(centre + shrunk * rays, surfaces[0].triangles), *surfaces)


@MESH_MEMORY.keep
def _build(resolution: str, csf: float) -> tuple[tuple[Surface, ...], Tetrahedra]:
    """Return the surfaces, innermost first, and the tetrahedra between them."""
    surfaces: tuple[Surface, ...] = template.surfaces(4)
    spacing, layers = RESOLUTIONS[resolution]
    if csf:
        surfaces = _with_brain(surfaces, csf)
    else:
        spacing, layers = (spacing[0], *spacing[2:]), (layers[0], *layers[2:])
    return surfaces, tetrahedralise(surfaces, spacing, layers, centre=_ray_centre())


@MESH_MEMORY.keep
def _ray_centre() -> Array:
    """Return the point (3,) in m from which rays meet every surface of the template once."""
    vertices, _ = template.fsaverage_surface("inner_skull-bem")
    return template.transformed(template.to_head(), vertices.mean(axis=0))
