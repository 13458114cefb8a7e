"""The lead field of the template head by boundary elements, computed once and then read from disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bayesinv.axes import Array
from bayesinv.forward.gain_files import cached_lead_field
from bayesinv.forward.leadfield import LeadField
from bayesinv.head.head import Conductivity
from bayesinv.head.sensors import Sensors
from bayesinv.head.sources import Sources
from bayesinv.head.template import CONDUCTIVITIES, SKULL_FRACTION, head


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

    cache : folder of computed gains, see `cached_lead_field`
    """
    conductor = head(conductivities, subdivisions=subdivisions, skull_fraction=skull_fraction)

    def solve() -> LeadField:
        from bayesinv.forward.bem import lead_field as bem

        return bem(conductor, sensors, sources)

    surface_arrays = (array for surface in conductor.surfaces for array in (surface.vertices, surface.triangles))
    return cached_lead_field(
        solve, sensors, sources, *surface_arrays, *map(_radial_tangential, conductor.conductivities), cache=cache
    )


def _radial_tangential(conductivity: Conductivity) -> Array:
    """Return the radial and tangential conductivity (2,)."""
    return np.array(np.broadcast_to(conductivity, 2), dtype=np.float64)
