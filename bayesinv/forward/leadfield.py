"""LeadField: the gain from source currents to sensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from bayesinv.axes import Array, Index, freeze, one_of, real
from bayesinv.exits import exporter
from bayesinv.head.sensors import Sensors
from bayesinv.head.sources import Sources

if TYPE_CHECKING:
    import mne


@dataclass(frozen=True, eq=False)
class LeadField:
    """Gain from source currents to sensors.

    gain : (sensor, source, axis); V/(A m) for EEG, T/(A m) for magnetometers, T/m/(A m) for planar
        gradiometers; 3 axes are x, y, z in head coordinates, 1 axis is the source's normal
    sensors, sources : of the first two axes
    reference : of the EEG rows: "infinity", "average" or the name of an electrode
    notes : how the gain was computed (solver, conductivities, mesh, accuracy), as text
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
        gain, picked_sensors, picked_sources = self.gain, self.sensors, self.sources
        if sensors is not None:
            gain, picked_sensors = gain[np.asarray(sensors)], picked_sensors.pick(sensors)
        if sources is not None:
            gain, picked_sources = gain[:, np.asarray(sources)], picked_sources.pick(sources)
        return replace(self, gain=gain, sensors=picked_sensors, sources=picked_sources)

    def tangential(self) -> tuple[LeadField, Array]:
        """Return the gain along two tangents of the cortex and its normal, and those directions.

        The axes of the gain (sensor, source, 3) become the first tangent, the second tangent and the normal; the
        directions (source, 3, 3) hold one unit vector per row, right-handed, so that
        `gain = rotated.gain @ directions`.

        Raises
        ------
        ValueError
            If the sources have no normals, or the gain has the normal only.
        """
        if self.gain.shape[2] == 1:
            raise ValueError("tangential orientation wants a free gain, but this one has the normal only")
        if self.sources.normals is None:
            raise ValueError("tangential orientation wants the sources' normals, but these sources have none")
        normals = self.sources.normals
        tangent = np.cross(normals, np.eye(3)[np.argmin(np.abs(normals), axis=1)])
        tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
        directions = np.stack([tangent, np.cross(normals, tangent), normals], axis=1)
        notes = {**self.notes, "axes": "tangent, tangent, normal"}
        return replace(self, gain=np.einsum("msa,sba->msb", self.gain, directions), notes=notes), directions

    def rereference(self, reference: str) -> LeadField:
        """Return the gain with the EEG rows against another reference; the rows of coils do not change.

        reference : "average", the name of an electrode (whose row becomes zero), or "infinity"

        Raises
        ------
        ValueError
            If there are no electrodes, no electrode has that name, or infinity is asked for after another reference.
        """
        if reference == self.reference:
            return self
        electrodes = self.sensors.where("eeg")
        if not len(electrodes):
            raise ValueError("a reference is a matter of electrodes, but there are none among the sensors")
        if reference == "infinity":
            raise ValueError(
                f"the reference is {self.reference!r}: the potential against infinity is lost; "
                "compute the lead field anew"
            )
        potential = self.gain[electrodes]
        if reference == "average":
            reference_row = potential.mean(axis=0)
        else:
            names = [self.sensors.names[i] for i in electrodes]
            reference_row = potential[names.index(one_of("electrode", reference, names, "; or use 'average'"))]
        gain = self.gain.copy()
        gain[electrodes] -= reference_row
        return replace(self, gain=gain, reference=reference)

    @staticmethod
    def stack(*fields: LeadField) -> LeadField:
        """Return one lead field with the sensors of all `fields`, such as EEG and MEG, on the same sources.

        Raises
        ------
        ValueError
            If the sources or axes differ, a sensor comes twice, or the EEG references differ.
        """
        if not fields:
            raise ValueError("there is nothing to stack")
        first = fields[0]
        for other in fields[1:]:
            if other.gain.shape[1:] != first.gain.shape[1:]:
                raise ValueError(
                    f"lead fields have source, axis = {first.gain.shape[1:]} and {other.gain.shape[1:]}; "
                    "stack wants the same sources and orientation"
                )
            # Rounding in a file does not make another source.
            distance = np.abs(other.sources.positions - first.sources.positions).max()
            if distance > 1e-5:
                raise ValueError(
                    f"sources of the lead fields are up to {1e3 * distance:.3g} mm apart; they must be the same"
                )
        references = {f.reference for f in fields if len(f.sensors.where("eeg"))}
        if len(references) > 1:
            raise ValueError(f"EEG references differ: {', '.join(sorted(references))}; use rereference first")
        notes: dict[str, str] = {}
        for i, part in enumerate(fields):
            for key, text in part.notes.items():
                same = all(f.notes.get(key) == text for f in fields)
                notes[key if same else f"{key} ({i + 1})"] = text
        return LeadField(
            np.concatenate([f.gain for f in fields]),
            Sensors.stack(*(f.sensors for f in fields)),
            first.sources,
            references.pop() if references else "infinity",
            notes,
        )

    def to_mne(self, info: mne.Info) -> mne.Forward:
        """Return an `mne.Forward` for the channels of `info`; see `forward_to_mne`."""
        return exporter("forward_to_mne")(self, info)
