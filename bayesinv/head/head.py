"""Head: nested compartments and their conductivities, the volume conductor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bayesinv.axes import Array, freeze, real
from bayesinv.geometry.icosphere import geodesic_sphere
from bayesinv.geometry.repair import closed
from bayesinv.geometry.surfaces import Surface, crossings, enclosed_volume, inside, nearest
from bayesinv.geometry.tetrahedra import Tetrahedra
from bayesinv.wording import listed

Conductivity = float | tuple[float, float]


@dataclass(frozen=True, eq=False)
class Head:
    """Nested compartments, innermost first, each with a conductivity in S/m.

    names : of the compartments, innermost first, such as ("brain", "skull", "scalp")
    conductivities : one per compartment: a number, or (radial, tangential)
    surfaces : outer boundary of each compartment (boundary element methods), or ()
    radii : outer radius of each compartment in m about `centre` (analytic spheres), or ()
    centre : (3,), m, of the spheres
    mesh : labelled tetrahedra (finite elements), or None
    tensors : (element, 3, 3), S/m, conductivity per element where it is not the compartment's, or None
    """

    names: tuple[str, ...]
    conductivities: tuple[Conductivity, ...]
    surfaces: tuple[Surface, ...] = ()
    radii: tuple[float, ...] = ()
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)
    mesh: Tetrahedra | None = None
    tensors: Array | None = None

    def __post_init__(self) -> None:
        if not self.names or len(self.conductivities) != len(self.names):
            raise ValueError(
                f"there are {len(self.conductivities)} conductivities for {len(self.names)} compartments; "
                "every compartment wants one"
            )
        for name, value in zip(self.names, self.conductivities, strict=True):
            if np.shape(value) not in ((), (2,)):
                raise ValueError(f"conductivity of {name} is {value}, but must be one number or (radial, tangential)")
            if not (np.isfinite(value).all() and np.all(np.asarray(value) > 0)):
                raise ValueError(f"conductivity of {name} is {value}, but must be positive, in S/m")
        for what, values in (("surfaces", self.surfaces), ("radii", self.radii)):
            if values and len(values) != len(self.names):
                raise ValueError(f"there are {len(values)} {what} for {len(self.names)} compartments")
        if self.radii and (min(self.radii) <= 0 or any(np.diff(self.radii) <= 0)):
            raise ValueError(f"radii are {self.radii}, but must grow from the innermost compartment outwards")
        if self.tensors is not None:
            object.__setattr__(self, "tensors", real("tensors", self.tensors, "element 3 3"))
            freeze(self.tensors)

    @classmethod
    def spheres(
        cls,
        radii: Sequence[float],
        conductivities: Sequence[Conductivity],
        names: Sequence[str] | None = None,
        subdivisions: int = 3,
        centre: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> Head:
        """Return concentric spheres, exact (radii) and triangulated (surfaces of the same volumes).

        radii : of the compartments in m, innermost first
        conductivities : S/m, one number or (radial, tangential) per compartment
        names : of the compartments; by default those of a head with that many layers
        subdivisions : how often the triangles of the icosahedron are cut in four; 3 gives 642 vertices per surface,
            4 gives 2562

        Raises
        ------
        ValueError
            If there are not as many conductivities as radii, or the radii do not increase.
        """
        usual = {
            1: ("head",),
            2: ("skull and brain", "scalp"),
            3: ("brain", "skull", "scalp"),
            4: ("brain", "CSF", "skull", "scalp"),
        }
        if names is None:
            names = usual.get(len(radii), tuple(f"shell {i}" for i in range(len(radii))))
        unit = geodesic_sphere(2**subdivisions)
        # A polyhedron with its corners on the sphere is smaller and acts as a smaller head; with equal volumes the
        # potentials of the two differ by half as much.
        corners = unit.vertices * (4 / 3 * np.pi / enclosed_volume(unit)) ** (1 / 3)
        surfaces = tuple(Surface(radius * corners + np.asarray(centre), unit.triangles) for radius in radii)
        return cls(tuple(names), tuple(conductivities), surfaces, tuple(float(r) for r in radii), centre)


def check_surfaces(head: Head) -> Head:
    """Return `head` with surfaces that are closed, oriented outwards, nested and disjoint.

    Triangles that face inwards or inconsistently are flipped, with a warning.

    Raises
    ------
    ValueError
        If there are no surfaces; if one is not in metres, has a hole, several pieces, a handle, a vertex that is
        in no triangle, flat triangles, or touches or crosses itself; if two cross or are not nested.
    """
    if not head.surfaces:
        raise ValueError("the head has no surfaces, but this solver wants the outer boundary of each compartment")
    surfaces = tuple(closed(s, f"surface of {name}") for name, s in zip(head.names, head.surfaces, strict=True))
    for name, surface in zip(head.names, surfaces, strict=True):
        itself = crossings(surface, surface)
        if itself:
            raise ValueError(f"surface of {name} crosses itself: {itself} edges pierce a triangle; smooth or mesh anew")
    for i in range(len(surfaces) - 1):
        inner, outer, pair = surfaces[i], surfaces[i + 1], f"{head.names[i]} and {head.names[i + 1]}"
        outside = int(np.count_nonzero(~inside(outer, inner.vertices)))
        if outside == len(inner.vertices):
            raise ValueError(
                f"surface of {head.names[i]} is not inside that of {head.names[i + 1]}; "
                "surfaces must be nested, innermost first"
            )
        crossing = max(crossings(inner, outer), crossings(outer, inner))
        if outside or crossing:
            raise ValueError(
                f"surfaces of {pair} cross: {outside} vertices of {head.names[i]} lie outside {head.names[i + 1]} "
                f"and {crossing} edges pierce the other surface; smooth or push them apart"
            )
    return replace(head, surfaces=surfaces)


def check_sources(head: Head, positions: Array, minimum_distance: float) -> None:
    """Check that positions (source, 3) lie inside the innermost surface, at least `minimum_distance` m from it.

    Raises
    ------
    ValueError
        If some do not: which, and how far.
    """
    surface = head.surfaces[0]
    _, _, distance = nearest(surface, positions)
    outside = ~inside(surface, positions)
    _check_depth(head.names[0], outside, distance, minimum_distance)


def check_radial(head: Head, positions: Array) -> None:
    """Check that positions (source, 3) lie inside the innermost sphere of `head`.

    Raises
    ------
    ValueError
        If some do not: which, and how far.
    """
    depth = head.radii[0] - np.linalg.norm(positions - np.asarray(head.centre), axis=1)
    _check_depth(head.names[0], depth <= 0, np.abs(depth), 0.0)


def _check_depth(name: str, outside: NDArray[np.bool_], distance: Array, minimum: float) -> None:
    """Raise if some sources are outside, or nearer to the boundary than allowed."""
    if outside.any():
        which = np.flatnonzero(outside)
        raise ValueError(
            f"{len(which)} sources lie outside {name}: {listed(which)}, "
            f"by up to {1e3 * distance[which].max():.3g} mm; "
            "drop them (Sources.pick) or check that head and sources share one coordinate frame"
        )
    too_close = distance < minimum
    if too_close.any():
        which = np.flatnonzero(too_close)
        raise ValueError(
            f"{len(which)} sources are closer than {1e3 * minimum:.3g} mm to the surface of {name}: {listed(which)}, "
            f"the closest {1e3 * distance[which].min():.3g} mm; drop them (Sources.pick), or lower minimum_distance"
        )
