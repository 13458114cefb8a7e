"""LeadField: what every sensor reads of a unit current at every source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from bayesinv.axes import Array, Index, freeze, real
from bayesinv.sensors import Sensors
from bayesinv.sources import Sources


@dataclass(frozen=True, eq=False)
class LeadField:
    """Gain from source currents to sensors.

    gain : (sensor, source, axis); V/(A m) for EEG, T/(A m) for magnetometers, T/m/(A m) for planar
        gradiometers; 3 axes are x, y, z in head coordinates, 1 axis is the source's normal
    sensors, sources : what the first two axes stand for
    reference : of the EEG rows: "infinity", "average" or the name of an electrode
    notes : how the gain came (solver, conductivities, mesh, accuracy), for people to read
    """

    gain: Array
    sensors: Sensors
    sources: Sources
    reference: str = "infinity"
    notes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        gain = real("gain", self.gain, "sensor source axis")
        if gain.shape[:2] != (len(self.sensors), len(self.sources)):
            raise ValueError(
                f"gain has sensor, source = {gain.shape[:2]}, but there are {len(self.sensors)} sensors "
                f"and {len(self.sources)} sources"
            )
        if gain.shape[2] not in (1, 3):
            raise ValueError(f"gain has axis = {gain.shape[2]}, but wants 1 (normal) or 3 (x, y, z)")
        object.__setattr__(self, "gain", gain)
        freeze(self.gain)

    @property
    def orientation(self) -> str:
        """ "fixed" with one axis (the normal), "free" with three."""
        return "fixed" if self.gain.shape[2] == 1 else "free"

    def fixed(self) -> LeadField:
        """Return the gain of currents along the sources' normals, one axis.

        Raises
        ------
        ValueError
            If the sources have no normals.
        """
        if self.gain.shape[2] == 1:
            return self
        if self.sources.normals is None:
            raise ValueError("fixed orientation wants the sources' normals, but these sources have none")
        gain = np.einsum("msa,sa->ms", self.gain, self.sources.normals)[:, :, None]
        return replace(self, gain=gain)

    def restrict(self, sensors: Index | None = None, sources: Index | None = None) -> LeadField:
        """Return the gain of some sensors or sources, in the order of the indices given."""
        gain, mine, where = self.gain, self.sensors, self.sources
        if sensors is not None:
            gain, mine = gain[np.asarray(sensors)], mine.pick(sensors)
        if sources is not None:
            gain, where = gain[:, np.asarray(sources)], where.pick(sources)
        return replace(self, gain=gain, sensors=mine, sources=where)
