"""The inverse crime: a recording simulated with the very lead field that inverts it."""

from __future__ import annotations

import numpy as np

from bayesinv.axes import Array
from bayesinv.forward.leadfield import LeadField
from bayesinv.problem.problem import Problem
from bayesinv.simulation.recording import Simulation

COLUMN_TOLERANCE = 1e-6
"""Relative difference up to which two columns of gain count as the same."""

_CHUNK = 256
"""Columns of gain that are compared at once."""


def same_lead_field(one: LeadField, other: LeadField) -> bool:
    """Return whether two lead fields share a column of gain, as those of a truth and of an inversion must not.

    Only the numbers are compared, up to `COLUMN_TOLERANCE` of a column's size: other references, units, orders,
    orientations, selections of sources or of sensors (found by their names) of one computation count as the same. Two
    computations never agree so closely.

    Raises
    ------
    ValueError
        If they have too few sensors in common to compare.
    """
    names = [name for name in one.sensors.names if name in set(other.sensors.names)]
    if not names:
        return False
    columns = []
    for each in (one, other):
        picked = each.restrict(sensors=np.array([each.sensors.names.index(name) for name in names]))
        gain = picked.gain.copy()
        electric = picked.sensors.where("eeg")
        # Both against the average of the electrodes in common, whatever their reference was.
        gain[electric] -= gain[electric].mean(axis=0) if len(electric) else 0.0
        columns.append(gain)
    return _share_a_column(*columns)


def inverse_crime(simulation: Simulation, inversion: LeadField | Problem) -> bool:
    """Return whether an inversion assumes the very lead field that the truth was simulated with.

    inversion : its lead field, or its problem, whose whitened gain is compared with the truth's after the same whitener

    Raises
    ------
    ValueError
        If the problem holds no whitener and no lead field, or has another number of sensors.
    """
    truth = simulation.lead_field
    if isinstance(inversion, LeadField):
        return same_lead_field(truth, inversion)
    if inversion.whitener is None:
        if inversion.lead_field is not None:
            return same_lead_field(truth, inversion.lead_field)
        raise ValueError(
            "the problem holds neither its lead field nor its whitener, so its gain has nothing to be compared with; "
            "give the lead field instead"
        )
    if inversion.sensors is not None:
        row_of = {name: i for i, name in enumerate(truth.sensors.names)}
        if not set(inversion.sensors.names) <= set(row_of):
            return False
        truth = truth.restrict(sensors=np.array([row_of[name] for name in inversion.sensors.names]))
    if inversion.whitener.shape[1] != len(truth.sensors):
        raise ValueError(
            f"the problem has {inversion.whitener.shape[1]} sensors and the truth {len(truth.sensors)}, both without "
            "common names; give the lead field instead"
        )
    whitened = np.einsum("cm,msa->csa", inversion.whitener, truth.gain)
    return _share_a_column(whitened, inversion.gain.reshape(len(inversion.gain), -1, inversion.axes))


def _share_a_column(one: Array, other: Array) -> bool:
    """Return whether two gains (sensor, source, axis) share a source, in any orientation.

    The columns of a source's axes span a subspace. A column of the array with fewer axes that lies in such a subspace
    of the other belongs to the same source.
    """
    probed, spanning = (one, other) if one.shape[2] <= other.shape[2] else (other, one)
    if len(probed) <= spanning.shape[2] + 1:
        raise ValueError(f"{len(probed)} sensors in common are too few to tell two lead fields apart")
    probe = probed[:, :, 0].T
    size = np.linalg.norm(probe, axis=1)
    probe = probe[size > 0] / size[size > 0, None]
    space = np.ascontiguousarray(np.linalg.qr(spanning.transpose(1, 0, 2))[0].transpose(1, 0, 2))
    flat = space.reshape(len(space), -1)
    for start in range(0, len(probe), _CHUNK):
        chunk = probe[start : start + _CHUNK]
        cosine_squared = ((chunk @ flat) ** 2).reshape(len(chunk), -1, spanning.shape[2]).sum(axis=2)
        row, source = np.unravel_index(int(np.argmax(cosine_squared)), cosine_squared.shape)
        # The distance itself, as 1 - cos² loses half of the digits.
        residual = chunk[row] - space[:, source] @ (space[:, source].T @ chunk[row])
        if np.linalg.norm(residual) <= COLUMN_TOLERANCE:
            return True
    return False
