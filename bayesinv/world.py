"""World: the head in which a truth flows, other than the one an inversion believes in; and the crime of taking one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bayesinv.axes import Array, one_of
from bayesinv.forward import gain_files
from bayesinv.forward.leadfield import LeadField
from bayesinv.head import template, template_cortex, template_mesh
from bayesinv.head.conductivities import ANISOTROPY, RANGES, draw_conductivities
from bayesinv.head.displacement import displaced
from bayesinv.head.head import Conductivity
from bayesinv.head.sensors import Sensors
from bayesinv.head.sources import Sources
from bayesinv.problem.problem import Problem
from bayesinv.simulate import Simulation

SAME = 1e-6
"""Relative difference up to which two columns of gain are one."""

_CHUNK = 256


@dataclass(frozen=True, eq=False)
class World:
    """The head in which a truth flows: its own sources, conductivities, places of sensors, and gain.

    lead_field : free orientation, EEG against the average; its sources are a cortex with triangles and areas, its
        sensors stand where they truly are, under the names that the analyst knows
    conductivities : S/m by compartment, a number or (radial, tangential)
    notes : how the world came, for people to read
    """

    lead_field: LeadField
    conductivities: Mapping[str, Conductivity]
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def cortex(self) -> Sources:
        """Where the truth's currents may flow."""
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
    """Return another head than an inversion's: the template in finite elements, with everything unsure drawn.

    sensors : where the analyst believes them; the world's stand a little off, see `displaced`
    conductivities : S/m of brain, CSF, skull and scalp; drawn from `ranges` with `anisotropy` if None
    spacing : of the cortex, see `template_cortex.sources`; its grid is turned at random
    avoid : the inversion's sources, none of whose vertices the cortex shall have
    displacement, coregistration : of the sensors, see `displaced`
    resolution : of the mesh, "coarse" or "fine", see `template_mesh.finite_elements`
    cache : folder of computed gains, see `gain_files.kept`

    The same generator, sensors and settings give the same world, which is computed once and then read from disk.

    Raises
    ------
    ValueError
        If spacing, resolution, a range or a number is none, conductivities are not those of the four compartments, or
        `avoid` leaves too few vertices.
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
    true = displaced(sensors, scalp, rng, displacement=displacement, coregistration=coregistration)

    def solve() -> LeadField:
        from bayesinv.forward.fem_transfer import transfer

        return transfer(template_mesh.finite_elements(resolution, values), true).lead_field(cortex)

    mesh = (template_mesh.CSF, *np.array(template_mesh.RESOLUTIONS[resolution], dtype=float), scalp.vertices)
    both = np.array([np.broadcast_to(value, 2) for value in values], dtype=np.float64)
    gain = gain_files.kept(solve, true, cortex, "world", *mesh, both, cache=cache)
    if len(true.where("eeg")):
        gain = gain.rereference("average")
    moved = np.linalg.norm(true.positions - sensors.positions, axis=1)
    notes = {
        "head": f"template, {resolution} finite elements",
        "conductivities": _told(tissues),
        "cortex": f"{len(cortex)} sources ({spacing}, turned at random{'' if avoid is None else ', off the grid'})",
        "sensors": f"off by {1e3 * np.sqrt(np.mean(moved**2)):.2g} mm (root mean square)",
    }
    return World(gain, tissues, notes)


def _told(tissues: Mapping[str, Conductivity]) -> str:
    def one(value: Conductivity) -> str:
        return f"{value:.3g}" if isinstance(value, float | int) else "{:.3g} radial, {:.3g} tangential".format(*value)

    return "; ".join(f"{name} {one(value)}" for name, value in tissues.items()) + " S/m"


def same_lead_field(one: LeadField, other: LeadField) -> bool:
    """Tell whether two lead fields hold one and the same column of gain: a truth and an inversion must not.

    Only the numbers are compared, up to `SAME` of a column's size: other references, units, orders, orientations,
    selections of sources or of sensors (found by their names) of one computation are told to be the same. Two
    computations never agree so closely.

    Raises
    ------
    ValueError
        If the sensors that both have are too few to tell.
    """
    names = [name for name in one.sensors.names if name in set(other.sensors.names)]
    if not names:
        return False
    columns = []
    for each in (one, other):
        picked = each.restrict(sensors=np.array([each.sensors.names.index(name) for name in names]))
        gain = picked.gain.copy()
        electric = picked.sensors.where("eeg")
        # Of electrodes picked from an average the average is another one, and always this.
        gain[electric] -= gain[electric].mean(axis=0) if len(electric) else 0.0
        columns.append(gain)
    return _share_a_column(*columns)


def inverse_crime(simulation: Simulation, inversion: LeadField | Problem) -> bool:
    """Tell whether an inversion believes in the very lead field that the truth was simulated with.

    inversion : its lead field, or its problem: whitened gains are compared after the problem's own whitener

    Raises
    ------
    ValueError
        If the problem was whitened before it came, or has another number of sensors, so that there is nothing to
        compare with.
    """
    truth = simulation.lead_field
    if isinstance(inversion, LeadField):
        return same_lead_field(truth, inversion)
    if inversion.whitener is None:
        if inversion.lead_field is not None:
            return same_lead_field(truth, inversion.lead_field)
        raise ValueError(
            "the problem holds neither its lead field nor its whitener, so nobody can tell whose gain it is; give the "
            "lead field instead"
        )
    if inversion.sensors is not None:
        known = {name: i for i, name in enumerate(truth.sensors.names)}
        if not set(inversion.sensors.names) <= set(known):
            return False
        truth = truth.restrict(sensors=np.array([known[name] for name in inversion.sensors.names]))
    if inversion.whitener.shape[1] != len(truth.sensors):
        raise ValueError(
            f"the problem has {inversion.whitener.shape[1]} sensors and the truth {len(truth.sensors)}, both without "
            "common names; give the lead field instead"
        )
    whitened = np.einsum("cm,msa->csa", inversion.whitener, truth.gain)
    return _share_a_column(whitened, inversion.gain.reshape(len(inversion.gain), -1, inversion.axes))


def _share_a_column(one: Array, other: Array) -> bool:
    """Tell whether some source's gain (sensor, source, axis) in `one` is some source's in `other`, in any orientation.

    The directions that a source can be read in span a space. A column of the one with fewer axes that lies in such a
    space of the other belongs to the same source.
    """
    few, many = (one, other) if one.shape[2] <= other.shape[2] else (other, one)
    if len(few) <= many.shape[2] + 1:
        raise ValueError(f"{len(few)} sensors in common are too few to tell two lead fields apart")
    probe = few[:, :, 0].T
    size = np.linalg.norm(probe, axis=1)
    probe = probe[size > 0] / size[size > 0, None]
    space = np.ascontiguousarray(np.linalg.qr(many.transpose(1, 0, 2))[0].transpose(1, 0, 2))
    flat = space.reshape(len(space), -1)
    for start in range(0, len(probe), _CHUNK):
        chunk = probe[start : start + _CHUNK]
        share = ((chunk @ flat) ** 2).reshape(len(chunk), -1, many.shape[2]).sum(axis=2)
        row, source = np.unravel_index(int(np.argmax(share)), share.shape)
        # The distance itself, as 1 - cos² loses half of its digits.
        rest = chunk[row] - space[:, source] @ (space[:, source].T @ chunk[row])
        if np.linalg.norm(rest) <= SAME:
            return True
    return False
