"""The inverse crime: a truth that was simulated with the lead field that inverts it."""

from __future__ import annotations

import numpy as np

from bayesinv.axes import Array
from bayesinv.forward.leadfield import LeadField
from bayesinv.problem.problem import Problem
from bayesinv.simulation.recording import Simulation

SAME = 1e-6
"""Relative difference up to which two columns of gain are one."""

_CHUNK = 256


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
