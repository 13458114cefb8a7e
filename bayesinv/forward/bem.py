"""Nested surfaces: the linear Galerkin boundary element method with the isolated-skull approach."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import numpy as np
from scipy.linalg import lu_factor, lu_solve

from bayesinv.axes import Array, Index, one_of
from bayesinv.forward.bem_integrals import add_volume_field, dipole_loads, double_layer, mass_matrix
from bayesinv.forward.leadfield import LeadField
from bayesinv.forward.unbounded import primary_field
from bayesinv.geometry.surfaces import Surface, inside
from bayesinv.head.head import Conductivity, Head, check_sources, check_surfaces
from bayesinv.head.sensors import Sensors, project_to_scalp
from bayesinv.head.sources import Sources

MINIMUM_DISTANCE = 5e-4  # m
# Largest ratio of a layer's conductivity to those within it at which the isolated-skull approach is used.
MAX_SHIELD_RATIO = 0.2


def lead_field(
    head: Head,
    sensors: Sensors,
    sources: Sources,
    *,
    solver: str = "galerkin",
    minimum_distance: float = MINIMUM_DISTANCE,
) -> LeadField:
    """Return the gain of electrodes and coils for a head of nested closed surfaces.

    solver : "galerkin" (this library's own), or "openmeeg" where that package is installed
    minimum_distance : of sources from the innermost surface, m

    Raises
    ------
    ValueError
        As `Bem` and `Bem.lead_field` do.
    ImportError
        If OpenMEEG is wanted and not installed.
    """
    if one_of("solver", solver, ("galerkin", "openmeeg")) == "openmeeg":
        return _openmeeg(head, sensors, sources, minimum_distance)
    return Bem(head).lead_field(sensors, sources, minimum_distance=minimum_distance)


@dataclass(frozen=True, eq=False)
class Bem:
    r"""A head whose boundary element matrix is factorised once, for any sensors and sources.

    On every surface k the potential V, linear on triangles, obeys

        (inner_k + outer_k)/2 V_k + sum_l (inner_l - outer_l) K_kl V_l = V_unbounded

    with K the double layer operator, both sides integrated against the linear functions of surface k (Galerkin).
    Integrals over the inner triangle are exact, also those of sources and coils; the outer ones take three Gauss
    points. If a layer such as the skull conducts much worse than what it encloses, the potential at electrodes is
    computed from that of the isolated inner compartments, solved first (Hamalainen & Sarvas 1989). The mean potential
    over the outermost surface is zero.

    head : with `surfaces`, and one isotropic conductivity per compartment

    Raises
    ------
    ValueError
        If the surfaces are not closed, nested, apart and in metres (`check_surfaces`), a conductivity is not
        isotropic, or the matrix does not fit into memory.

    References
    ----------
    Hamalainen & Sarvas (1989), IEEE Trans. Biomed. Eng. 36, 165-171; Mosher, Leahy & Lewis (1999), IEEE Trans.
    Biomed. Eng. 46, 245-259; Stenroos & Sarvas (2012), Phys. Med. Biol. 57, 3517-3535.
    """

    head: Head
    _factorisation: _Factorisation = field(init=False, repr=False)

    def __post_init__(self) -> None:
        head = check_surfaces(self.head)
        object.__setattr__(self, "head", head)
        object.__setattr__(self, "_factorisation", _factorised(head))

    def lead_field(
        self, sensors: Sensors, sources: Sources, *, minimum_distance: float = MINIMUM_DISTANCE
    ) -> LeadField:
        """Return the gain of `sensors` for `sources`; electrodes are projected to the closest point of the scalp.

        minimum_distance : of sources from the innermost surface, m

        Raises
        ------
        ValueError
            If a source is outside the innermost surface or too close to it, an electrode is far from the scalp, or
            a coil is inside the head.
        """
        check_sources(self.head, sources.positions, minimum_distance)
        transfer = self._transfer(sensors)
        gain = np.empty((len(sensors), len(sources), 3))
        stops = np.cumsum([len(s.vertices) for s in self.head.surfaces])
        # With electrodes only, the surfaces of the isolated inner compartments take the whole load.
        loaded_surfaces = self._factorisation.shield + 1 if len(sensors.where("eeg")) == len(sensors) else len(stops)
        weights = np.split(transfer, stops[:-1], axis=1)[:loaded_surfaces]
        for start in range(0, len(sources), 512):
            positions = np.ascontiguousarray(sources.positions[start : start + 512])
            part = np.zeros((len(sensors), len(positions) * 3))
            for surface, weight in zip(self.head.surfaces, weights, strict=False):
                loads = dipole_loads(positions, surface.vertices, surface.triangles)
                part += weight @ loads.reshape(weight.shape[1], -1)
            gain[:, start : start + 512] = part.reshape(len(sensors), -1, 3)
        if sensors.points is not None and sensors.directions is not None and sensors.owner is not None:
            gain += primary_field(sources.positions, sensors.points, sensors.directions, sensors.owner, len(sensors))
        head = self.head
        solver = "boundary elements, linear Galerkin"
        if self._factorisation.isolated_lu is not None:
            solver += f", isolated from {head.names[self._factorisation.shield + 1]}"
        notes = {"solver": solver, **_description(head, minimum_distance)}
        return LeadField(gain, sensors, sources, notes=notes)

    def _transfer(self, sensors: Sensors) -> Array:
        """Return the matrix (sensor, vertex of all surfaces) from the loads to the sensors' measurements.

        Electrodes use the isolated problem, if there is one: the potential outside a poor conductor is otherwise a
        small difference of large numbers. Coils use all surfaces at once: their field depends on the inner potential
        itself, and the isolated problem would only add the error of one more solution.
        """
        head, factors = self.head, self._factorisation
        starts = np.cumsum([0, *(len(s.vertices) for s in head.surfaces)])
        readout = np.zeros((len(sensors), starts[-1]))
        electrodes, scalp = sensors.where("eeg"), head.surfaces[-1]
        triangle, weights = project_to_scalp(sensors, scalp)
        for corner in range(3):
            readout[electrodes, starts[-2] + scalp.triangles[triangle, corner]] += weights[:, corner]
        if sensors.points is not None and sensors.directions is not None and sensors.owner is not None:
            _check_outside(sensors, scalp)
            for surface, start, stop, jump in zip(
                head.surfaces, starts, starts[1:], factors.conductivity_jumps, strict=False
            ):
                volume = np.zeros((len(sensors), stop - start))
                add_volume_field(
                    np.ascontiguousarray(sensors.points),
                    sensors.directions,
                    sensors.owner,
                    surface.vertices,
                    surface.triangles,
                    volume,
                )
                readout[:, start:stop] -= jump * volume
        transfer = np.asarray(lu_solve(factors.full_lu, readout.T).T)
        if factors.isolated_lu is not None and factors.coupling is not None and len(electrodes):
            first, end = starts[factors.shield], starts[factors.shield + 1]
            isolated_readout = readout[electrodes, :end]
            isolated_readout[:, first:] += transfer[electrodes] @ factors.coupling
            transfer[electrodes] = 0.0
            transfer[electrodes, :end] = lu_solve(factors.isolated_lu, isolated_readout.T).T
        return transfer


@dataclass(frozen=True, eq=False)
class _Factorisation:
    """The factorised matrices of a head.

    full_lu : LU of the transposed matrix of all surfaces
    isolated_lu : LU of the transposed matrix of the isolated surfaces, or None
    coupling : (vertex of all, vertex of the shielding surface), from the isolated potential to its load, or None
    shield : index of the outermost surface with a load from sources
    conductivity_jumps : (surface,), conductivity inside minus outside, S/m
    """

    full_lu: tuple[Array, Index]
    isolated_lu: tuple[Array, Index] | None
    coupling: Array | None
    shield: int
    conductivity_jumps: Array


def _description(head: Head, minimum_distance: float) -> dict[str, str]:
    """Return notes on the mesh, the conductivities and the minimum distance of a gain."""
    shapes = zip(head.names, head.surfaces, strict=True)
    values = zip(head.names, head.conductivities, strict=True)
    return {
        "mesh": ", ".join(f"{name} {len(s.vertices)} vertices" for name, s in shapes),
        "conductivities": ", ".join(f"{name} {value} S/m" for name, value in values),
        "minimum distance": f"{1e3 * minimum_distance:g} mm",
    }


def _isotropic(name: str, value: Conductivity) -> float:
    """Return the conductivity of a compartment as one number, or raise."""
    radial, tangential = value if isinstance(value, tuple) else (value, value)
    if radial != tangential:
        raise ValueError(
            f"conductivity of {name} is {value}, but boundary elements want one number per compartment; "
            "for a radial and a tangential one use spheres or finite elements"
        )
    return float(radial)


def _check_outside(sensors: Sensors, scalp: Surface) -> None:
    """Raise if a coil has a point inside the head."""
    if sensors.points is None or sensors.owner is None:
        return
    is_inside = inside(scalp, sensors.points)
    if is_inside.any():
        names = list(dict.fromkeys(sensors.names[i] for i in sensors.owner[is_inside]))
        raise ValueError(
            f"{len(names)} coils are inside the head: {', '.join(names[:5])}; "
            "check that head and sensors share one coordinate frame, in metres"
        )


def _factorised(head: Head) -> _Factorisation:
    """Assemble and factorise the matrices of a checked head."""
    surfaces = head.surfaces
    inner = np.array([_isotropic(name, c) for name, c in zip(head.names, head.conductivities, strict=True)])
    outer = np.append(inner[1:], 0.0)
    sizes = [len(s.vertices) for s in surfaces]
    starts = np.cumsum([0, *sizes])
    _check_memory(int(starts[-1]))
    poor_conductors = np.flatnonzero(inner[1:] < MAX_SHIELD_RATIO * np.minimum.accumulate(inner)[:-1])
    shield = int(poor_conductors[0]) if len(poor_conductors) else len(surfaces) - 1
    masses = [mass_matrix(s) for s in surfaces]
    matrix = np.zeros((starts[-1], starts[-1]))
    coupling = np.zeros((starts[-1], sizes[shield])) if len(poor_conductors) else None
    for k, target in enumerate(surfaces):
        for m, origin in enumerate(surfaces):
            block = double_layer(target, origin, k == m)
            rows = slice(starts[k], starts[k + 1])
            if coupling is not None and m == shield:
                coupling[rows] = outer[shield] * block
                if k == m:
                    coupling[rows] -= 0.5 * outer[shield] * masses[k].toarray()
            block *= inner[m] - outer[m]
            if k == m:
                block += 0.5 * (inner[k] + outer[k]) * masses[k].toarray()
            matrix[rows, starts[m] : starts[m + 1]] = block
    areas = [np.asarray(m.sum(axis=1)).ravel() for m in masses]
    isolated_lu = None
    if coupling is not None:
        end = starts[shield + 1]
        isolated = matrix[:end, :end].copy()
        # Nothing conducts outside the shield: its own column changes from (inner - outer) K + (inner + outer)/2 M
        # to inner K + inner/2 M.
        isolated[:, starts[shield] :] += coupling[:end]
        isolated_lu = lu_factor(_grounded(isolated, areas[: shield + 1]).T, overwrite_a=True, check_finite=False)
    # Only transposed systems are solved; the transpose is in the order that LAPACK factorises in place.
    full_lu = lu_factor(_grounded(matrix, areas).T, overwrite_a=True, check_finite=False)
    return _Factorisation(full_lu, isolated_lu, coupling, shield, inner - outer)


def _grounded(matrix: Array, areas: list[Array]) -> Array:
    """Return the matrix with the mean potential over its outermost surface tied to zero (in place).

    A constant potential solves the equation without a source; the rank-one term removes just that solution.
    """
    last = len(matrix) - len(areas[-1])
    scale = np.abs(np.diagonal(matrix)).mean() / (np.concatenate(areas).mean() * areas[-1].sum())
    matrix[:, last:] += scale * np.outer(np.concatenate(areas), areas[-1]) * len(areas[-1])
    return matrix


def _check_memory(vertices: int) -> None:
    """Raise if the matrices of so many vertices do not fit into memory."""
    required = 2.2 * 8 * vertices**2 / 1e9
    try:
        available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
    except (AttributeError, ValueError, OSError):  # not every system reports its memory
        return
    if required > available:
        raise ValueError(
            f"boundary elements with {vertices} vertices want about {required:.1f} GB of memory, but there are "
            f"{available:.1f} GB; use surfaces of fewer vertices, or finite elements"
        )


def _openmeeg(head: Head, sensors: Sensors, sources: Sources, minimum_distance: float) -> LeadField:
    """Return the gain by OpenMEEG's symmetric boundary element method (Kybic et al. 2005, IEEE TMI 24, 12-28)."""
    try:
        import openmeeg
    except ImportError as error:
        raise ImportError(
            "solver='openmeeg' wants OpenMEEG: pip install openmeeg, or take solver='galerkin'"
        ) from error
    head = check_surfaces(head)
    check_sources(head, sources.positions, minimum_distance)
    project_to_scalp(sensors, head.surfaces[-1])
    _check_outside(sensors, head.surfaces[-1])
    if len(head.surfaces) not in (1, 3):
        raise ValueError(f"OpenMEEG takes heads of 1 or 3 surfaces, but this one has {len(head.surfaces)}")
    conductivities = [_isotropic(name, c) for name, c in zip(head.names, head.conductivities, strict=True)]
    # OpenMEEG wants triangles turned the other way, and says nothing but flips the sign of the potential if not.
    meshes = [(np.array(s.vertices), s.triangles[:, ::-1].copy()) for s in head.surfaces]
    geometry = openmeeg.make_nested_geometry(meshes, conductivity=conductivities)
    moments = np.tile(np.eye(3), (len(sources), 1))
    dipoles = openmeeg.Matrix(np.asfortranarray(np.hstack([np.repeat(sources.positions, 3, axis=0), moments])))
    matrix = openmeeg.HeadMat(geometry)
    gain = np.zeros((len(sensors), 3 * len(sources)))
    electrodes = sensors.where("eeg")
    if len(electrodes):
        contacts = openmeeg.Sensors(openmeeg.Matrix(np.asfortranarray(sensors.positions[electrodes])), geometry)
        rows = openmeeg.GainEEGadjoint(geometry, dipoles, matrix, openmeeg.Head2EEGMat(geometry, contacts)).array()
        gain[electrodes] = rows
    if sensors.points is not None and sensors.directions is not None and sensors.owner is not None:
        weights = np.linalg.norm(sensors.directions, axis=1)
        coils = openmeeg.Sensors(
            [str(i) for i in range(len(weights))],
            np.asfortranarray(sensors.points),
            np.asfortranarray(sensors.directions / weights[:, None]),
            np.ones(len(weights)),
            np.ones(len(weights)),
        )
        readings = openmeeg.GainMEGadjoint(
            geometry,
            dipoles,
            matrix,
            openmeeg.Head2MEGMat(geometry, coils),
            openmeeg.DipSource2MEGMat(dipoles, coils),
        ).array()
        np.add.at(gain, sensors.owner, weights[:, None] * readings)
    notes = {"solver": f"boundary elements, OpenMEEG {openmeeg.__version__}", **_description(head, minimum_distance)}
    return LeadField(gain.reshape(len(sensors), -1, 3), sensors, sources, notes=notes)
