"""Head: compartments and their conductivities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bayesinv.axes import Array, freeze, real
from bayesinv.mesh import Surface, Tetrahedra

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
