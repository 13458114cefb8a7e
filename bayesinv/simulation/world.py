"""World: the head that a truth is simulated in, other than the one that an inversion assumes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bayesinv.axes import one_of
from bayesinv.forward import gain_files
from bayesinv.forward.leadfield import LeadField
from bayesinv.head import template, template_cortex, template_mesh
from bayesinv.head.conductivities import ANISOTROPY, RANGES, draw_conductivities
from bayesinv.head.displacement import displaced
from bayesinv.head.head import Conductivity
from bayesinv.head.sensors import Sensors
from bayesinv.head.sources import Sources


@dataclass(frozen=True, eq=False)
class World:
    """The head that a truth is simulated in: its sources, conductivities, sensor positions and gain.

    lead_field : free orientation, EEG against the average; its sources are a cortex with triangles and areas, its
        sensors are at their true positions, under the names that the analyst knows
    conductivities : S/m by compartment, a number or (radial, tangential)
    notes : how the world was made, for people to read
    """

    lead_field: LeadField
    conductivities: Mapping[str, Conductivity]
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def cortex(self) -> Sources:
        """Sources at which the truth may have currents."""
        return self.lead_field.sources


def draw_world(
    rng: np.random.Generator,
    *,
    sensors: Sensors,
    conductivities: Mapping[str, Conductivity] | None = None,
    ranges: Mapping[str, tuple[float, float]] = RANGES,
    anisotropy: tuple[float, float] | None = ANISOTROPY,
    spacing: str = "ico4",
    avoid: Sources | None = None,
    displacement: float = 0.003,
    coregistration: tuple[float, float] = (0.002, 2.0),
    resolution: str = "coarse",
    cache: Path | str | None = None,
) -> World:
    """Return another head than an inversion's: the template in finite elements, with all that is uncertain drawn.

    sensors : at the positions that the analyst assumes; the world's are displaced, see `displaced`
    conductivities : S/m of brain, CSF, skull and scalp; drawn from `ranges` with `anisotropy` if None
    spacing : of the cortex, see `template_cortex.sources`; its grid is turned at random
    avoid : the inversion's sources, whose vertices the cortex leaves out
    displacement, coregistration : of the sensors, see `displaced`
    resolution : of the mesh, "coarse" or "fine", see `template_mesh.finite_elements`
    cache : folder of computed gains, see `gain_files.cached_lead_field`

    The same generator, sensors and settings give the same world, which is computed once and then read from disk.

    Raises
    ------
    ValueError
        If there is no such spacing or resolution, a range or a number is invalid, conductivities are not those of the
        four compartments, or `avoid` leaves too few vertices.
    """
    one_of("resolution", resolution, template_mesh.RESOLUTIONS)
    tissues = dict(draw_conductivities(rng, ranges, anisotropy) if conductivities is None else conductivities)
    if set(tissues) != set(template_mesh.NAMES):
        raise ValueError(
            f"conductivities are of {', '.join(tissues)}, but the head has {', '.join(template_mesh.NAMES)}"
        )
    values = tuple(tissues[name] for name in template_mesh.NAMES)
    cortex = template_cortex.sources(spacing, seed=int(rng.integers(2**31)), avoid=avoid)
    scalp = template.surfaces(4)[-1]
    true_sensors = displaced(sensors, scalp, rng, displacement=displacement, coregistration=coregistration)

    def solve() -> LeadField:
        from bayesinv.forward.fem_transfer import transfer

        return transfer(template_mesh.finite_elements(resolution, values), true_sensors).lead_field(cortex)

    mesh = (template_mesh.CSF_THICKNESS, *np.array(template_mesh.RESOLUTIONS[resolution], dtype=float), scalp.vertices)
    pairs = np.array([np.broadcast_to(value, 2) for value in values], dtype=np.float64)
    gain = gain_files.cached_lead_field(solve, true_sensors, cortex, "world", *mesh, pairs, cache=cache)
    if len(true_sensors.where("eeg")):
        gain = gain.rereference("average")
    displacements = np.linalg.norm(true_sensors.positions - sensors.positions, axis=1)
    notes = {
        "head": f"template, {resolution} finite elements",
        "conductivities": _describe(tissues),
        "cortex": f"{len(cortex)} sources ({spacing}, turned at random{'' if avoid is None else ', off the grid'})",
        "sensors": f"off by {1e3 * np.sqrt(np.mean(displacements**2)):.2g} mm (root mean square)",
    }
    return World(gain, tissues, notes)


def _describe(tissues: Mapping[str, Conductivity]) -> str:
    """Return the conductivities in words."""

    def one(value: Conductivity) -> str:
        return f"{value:.3g}" if isinstance(value, float | int) else "{:.3g} radial, {:.3g} tangential".format(*value)

    return "; ".join(f"{name} {one(value)}" for name, value in tissues.items()) + " S/m"
