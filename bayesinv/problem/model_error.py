"""Forward error: the error of an uncertain lead field as noise of known covariance, from draws of heads and sensors.

With an uncertain lead field G, a recording is

    y = G x + e = Ḡ x + (G - Ḡ) x + e

The middle term is neither small nor white. Its covariance over draws of G, for independent currents of one variance, is
a further term of the noise covariance, whose scale a model learns.

That takes the errors of all currents for independent. But there is one head, and a skull that conducts less than it is
taken to makes the fields of all sources weaker. Models of a few sources, see `Patches`, learn what they share:

    G = Ḡ + Σ_j z_j M_j,    z_j ~ Normal(0, 1)

with M the modes of G, its principal deviations over the draws.

References: Kaipio & Somersalo (2007), J. Comput. Appl. Math. 198, 493-504; Nissinen, Kolehmainen & Kaipio (2011), IEEE
Trans. Med. Imaging 30, 231-242.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from bayesinv.arguments import Randomness, generator_of
from bayesinv.axes import Array, freeze, one_of, real
from bayesinv.forward.gain_files import cache_folder, fingerprint, write
from bayesinv.forward.leadfield import LeadField
from bayesinv.geometry.icosphere import geodesic_sphere
from bayesinv.geometry.surfaces import Surface
from bayesinv.head.conductivities import RANGES, draw_conductivities
from bayesinv.head.displacement import displaced
from bayesinv.head.head import Conductivity, Head
from bayesinv.head.sensors import Sensors
from bayesinv.head.sources import Sources
from bayesinv.problem.noise import RANK_TOLERANCE
from bayesinv.problem.problem import Problem
from bayesinv.progress import steps

SOLVERS = ("bem", "fem", "sphere")

MODES, LEAST_SHARE = 8, 0.002
"""Modes of a lead field at most, and the least share of its deviations' power that one of them has."""


@dataclass(frozen=True, eq=False)
class ForwardError:
    """Mean of an uncertain lead field, and the covariance of its error.

        A Aᵀ = E[(G - mean)(G - mean)ᵀ] over lead fields G that are not among the draws

    is the covariance of (G - mean) x for independent currents x of variance 1 (A m)² each. A prior that weights
    sources by depth would put its weights between the factors; here all sources weigh the same, and the scale that a
    model learns accounts for the difference.

    mean : lead field
    factors : "fixed" (currents along the normals) and "free", where they are known, to A (sensor, direction), in the
        unit of the gain
    draws : number of lead fields behind mean and covariance
    notes : distributions of the draws, for people to read
    modes : (mode, sensor, source, axis), in the unit of the gain, principal deviations over the draws, of one standard
        deviation each, strongest first; None where they are not known
    """

    mean: LeadField
    factors: Mapping[str, Array]
    draws: int
    notes: Mapping[str, str] = field(default_factory=dict)
    modes: Array | None = None

    def __post_init__(self) -> None:
        tables = {name: real(f"{name} factor", table, "sensor direction") for name, table in self.factors.items()}
        for name, table in tables.items():
            one_of("orientation", name, ("fixed", "free"))
            if len(table) != len(self.mean.sensors):
                raise ValueError(f"{name} factor has sensor = {len(table)}, but mean has {len(self.mean.sensors)}")
        object.__setattr__(self, "factors", tables)
        if self.modes is not None:
            object.__setattr__(self, "modes", real("modes", self.modes, "mode sensor source axis"))
            if self.modes.shape[1:] != self.mean.gain.shape:
                raise ValueError(f"modes have shape {self.modes.shape}, but the mean {self.mean.gain.shape}")
        freeze(*tables.values(), self.modes)

    @classmethod
    def of(cls, lead_fields: Iterable[LeadField], notes: Mapping[str, str] | None = None) -> ForwardError:
        """Take mean and covariance over lead fields of the same sensors and sources, one at a time.

        With K draws the mean of another lead field's error is estimated by

            A Aᵀ = (K + 1) / (K (K - 1)) Σ_k (G_k - Ḡ)(G_k - Ḡ)ᵀ

        which is unbiased: the mean Ḡ itself varies by 1/K of the variance, and the draws lie closer to it than others.

        Raises
        ------
        ValueError
            If there are fewer than two, all are the same, or sensors, sources, orientations or references differ.
        """
        first: LeadField | None = None
        mean, sums, count = np.zeros(0), {}, 0
        apart: list[Array] = []
        for count, one in enumerate(lead_fields, 1):
            if first is None:
                first, mean = one, np.zeros_like(one.gain)
                kinds = ["fixed"] * (one.gain.shape[2] == 1 or one.sources.normals is not None)
                kinds += ["free"] * (one.gain.shape[2] == 3)
                sums = {kind: np.zeros((len(one.sensors),) * 2) for kind in kinds}
            _check_same_axes(first, one)
            apart.append((one.gain - first.gain).astype(np.float32))
            deviation = one.gain - mean
            mean = mean + deviation / count
            # Welford's update, so that a small spread about a large mean keeps its digits.
            for kind, table in sums.items():
                flat = _by_amplitude(deviation, one, kind)
                table += (1 - 1 / count) * (flat @ flat.T)
        if first is None or count < 2:
            raise ValueError(f"{count} lead fields were given, but their covariance wants at least two")
        if not any(table.any() for table in sums.values()):
            raise ValueError(f"all {count} lead fields are the same: there is no error to estimate")
        scale = (count + 1) / (count * (count - 1))
        return cls(
            replace(first, gain=mean, notes={"mean": f"of {count} lead fields", **(notes or {})}),
            {kind: _covariance_factor(scale * table) for kind, table in sums.items()},
            count,
            notes or {},
            _principal(np.stack(apart), replace(first, gain=mean)),
        )

    @property
    def relative(self) -> float:
        """Root mean square error over that of the mean gain, each kind of sensor in its own unit, mean over kinds."""
        kind = "free" if self.mean.gain.shape[2] == 3 else "fixed"
        shares = []
        for name in dict.fromkeys(self.mean.sensors.kinds):
            rows = self.mean.sensors.where(name)
            shares.append(np.sum(self.factors[kind][rows] ** 2) / np.sum(self.mean.gain[rows] ** 2))
        return float(np.sqrt(np.mean(shares)))

    def apply(self, problem: Problem) -> Problem:
        """Return the problem with the mean as its lead field, and with the error, whose scale models learn.

        problem : whitened, of the same sources, and of these sensors or some of them

        Raises
        ------
        ValueError
            If sensors, sources, orientation or reference do not fit, or the problem has no whitener.
        """
        if problem.whitener is None:
            raise ValueError("the problem was whitened before it came, and does not know how; give it a noise_cov")
        if type(problem) is not Problem:
            raise ValueError(f"the error belongs to a Problem in x, y, z, but a {type(problem).__name__} was given")
        mean, factor, modes = self._rows(problem)
        _check_sources(mean.sources, problem)
        if problem.orientation not in self.factors:
            raise ValueError(
                f"the problem has {problem.orientation} orientation, but the error is known for "
                f"{' and '.join(self.factors)} only; draw lead fields of that orientation"
            )
        if modes is not None:
            kind = problem.orientation
            modes = np.stack([problem.whitener @ _by_amplitude(one, mean, kind) for one in modes])
        mean = mean.fixed() if problem.axes == 1 else mean
        _check_reference(mean, problem)
        gain = problem.whitener @ mean.gain.reshape(len(mean.sensors), -1)
        factor = problem.whitener @ factor
        return replace(problem, gain=gain, error_factor=factor, gain_modes=modes, lead_field=mean)

    def _rows(self, problem: Problem) -> tuple[LeadField, Array, Array | None]:
        """Mean, factor and modes of the problem's sensors, in its order."""
        assert problem.whitener is not None
        factor = self.factors.get(problem.orientation, np.zeros((len(self.mean.sensors), 1)))
        index = np.arange(len(self.mean.sensors))
        if problem.sensors is not None:
            rows = {name: i for i, name in enumerate(self.mean.sensors.names)}
            missing = [name for name in problem.sensors.names if name not in rows]
            if missing:
                raise ValueError(f"the error knows nothing of {len(missing)} sensors, such as {missing[0]}")
            index = np.array([rows[name] for name in problem.sensors.names])
        if len(index) != problem.whitener.shape[1]:
            raise ValueError(f"the problem has {problem.whitener.shape[1]} sensors, but the error {len(index)}")
        mean, factor = self.mean.restrict(sensors=index), factor[index]
        modes = None if self.modes is None else self.modes[:, index]
        electric = mean.sensors.where("eeg")
        if mean.reference == "average" and len(index) < len(self.mean.sensors) and len(electric):
            # The average over fewer electrodes is another reference.
            gain = mean.gain.copy()
            for table in (gain, factor, *(() if modes is None else modes)):
                table[electric] -= table[electric].mean(axis=0)
            mean = replace(mean, gain=gain)
        return mean, factor, modes


def forward_error(
    head: Head,
    sensors: Sensors,
    sources: Sources,
    draws: int = 20,
    rng: Randomness = None,
    *,
    solver: str | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
    anisotropy: tuple[float, float] | None = None,
    displacement: float = 0.003,
    coregistration: tuple[float, float] = (0.002, 2.0),
    reference: str = "average",
    cache: Path | str | None = None,
    progress: bool = False,
) -> ForwardError:
    """Return mean and error of a lead field whose conductivities and sensor positions are uncertain.

    Every draw has its own conductivities, uniform in their logarithms, and its own sensor positions, see
    `head.displacement.displaced`. Errors that all draws share, such as the shape of the head or a missing compartment,
    are not included: a head in more detail than the inversion's, such as `head.template_mesh.finite_elements` with
    fluid below the skull, includes more of the inversion's error.

    head : with a mesh (finite elements), radii (spheres) or surfaces (boundary elements)
    sensors, sources : of the inversion
    draws : number of lead fields that are computed, some seconds each with boundary or finite elements
    rng : a generator or a seed, 0 if None; the same generator and settings are computed once and then read from disk
    solver : "fem", "sphere" or "bem"; None takes the first that the head has the geometry for
    ranges : compartment to lowest and highest conductivity, S/m; those of `head.conductivities.RANGES` if None.
        Compartments without a range keep the head's
    anisotropy : of the skull, see `head.conductivities.draw_conductivities`. Boundary elements take its radial
        conductivity for one in all directions, which on the template makes potentials that differ by 1 to 3 % in size
    displacement, coregistration : see `head.displacement.displaced`
    reference : of the electrodes
    cache : folder of computed errors; None takes `forward.gain_files.cache_folder()`
    progress : show a progress bar

    Raises
    ------
    ValueError
        If draws are fewer than two, a range is not increasing or of no compartment, or as the solver does.
    """
    if draws < 2:
        raise ValueError(f"draws is {draws}, but a covariance wants at least two")
    suited = "fem" if head.mesh is not None else "sphere" if head.radii else "bem"
    chosen = suited if solver is None else one_of("solver", solver, SOLVERS)
    if ranges is None:
        ranges = {name: RANGES[name] for name in head.names if name in RANGES}
    for name in ranges:
        one_of("compartment", name, head.names)
    rng = generator_of(rng)
    scalp = _scalp(head)
    head_draws, sensor_draws = [], []
    nominal: dict[str, Conductivity] = dict(zip(head.names, head.conductivities, strict=True))
    for _ in range(draws):
        tissues = {**nominal, **draw_conductivities(rng, ranges, anisotropy)}
        values = tuple(tissues[name] for name in head.names)
        if chosen == "bem":
            values = tuple(one[0] if isinstance(one, tuple) else one for one in values)
        head_draws.append(replace(head, conductivities=values))
        sensor_draws.append(displaced(sensors, scalp, rng, displacement=displacement, coregistration=coregistration))

    def solve(one: Head, where: Sensors) -> LeadField:
        from bayesinv.forward import bem, fem_transfer, sphere

        if chosen == "fem":
            found = fem_transfer.transfer(one, where).lead_field(sources)
        else:
            found = (sphere if chosen == "sphere" else bem).lead_field(one, where, sources)
        found = replace(found, sensors=sensors)
        return found.rereference(reference) if len(sensors.where("eeg")) else found

    described = "; ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in ranges.items())
    notes = {
        "solver": chosen,
        "draws": str(draws),
        "conductivities": f"{described} S/m" if described else "as given",
        "sensors": f"electrodes off by {1e3 * displacement:g} mm, all by {1e3 * coregistration[0]:g} mm and "
        f"{coregistration[1]:g}° (root mean square)",
    }

    def compute() -> ForwardError:
        with steps("lead fields", draws, progress) as advance:

            def each() -> Iterator[LeadField]:
                for one, where in zip(head_draws, sensor_draws, strict=True):
                    yield solve(one, where)
                    advance(1)

            return ForwardError.of(each(), notes)

    return _from_cache(compute, head_draws, sensor_draws, sensors, sources, chosen, reference, notes, cache)


def _from_cache(
    compute: Callable[[], ForwardError],
    head_draws: list[Head],
    sensor_draws: list[Sensors],
    sensors: Sensors,
    sources: Sources,
    chosen: str,
    reference: str,
    notes: Mapping[str, str],
    cache: Path | str | None,
) -> ForwardError:
    """Return the error from disk where it was computed before, else compute and store it."""
    import bayesinv

    tables: list[Any] = [sources.positions, sources.normals]
    tables += [array for surface in head_draws[0].surfaces for array in (surface.vertices, surface.triangles)]
    mesh = head_draws[0].mesh
    tables += [] if mesh is None else [mesh.nodes, mesh.elements, mesh.labels, head_draws[0].tensors]
    tables += [table for one in sensor_draws for table in (one.positions, one.points, one.directions)]
    values = [np.array([np.broadcast_to(c, 2) for c in one.conductivities]) for one in head_draws]
    words = (
        bayesinv.__version__,
        "forward error and modes",
        chosen,
        reference,
        sensors.kinds,
        head_draws[0].radii,
        head_draws[0].centre,
    )
    key = fingerprint(*words, *tables, *values)
    store = (cache_folder() if cache is None else Path(cache)) / f"error-{key}.npz"
    shape = (len(sensors), len(sources), 3)
    try:
        with store.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
            gain, factors = file["mean"], {name: file[name] for name in ("fixed", "free") if name in file}
            modes = file["modes"]
            words_of = {str(name): str(text) for name, text in file["notes"]}
        if gain.shape == modes.shape[1:] == shape and np.isfinite(gain).all() and np.isfinite(modes).all():
            mean = LeadField(gain, sensors, sources, str(words_of.pop("reference")), words_of)
            return ForwardError(mean, factors, len(head_draws), notes, modes)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        pass
    found = compute()
    about = {**found.mean.notes, "reference": found.mean.reference}
    assert found.modes is not None
    write(store, about, mean=found.mean.gain, modes=found.modes, **found.factors)
    return found


def _scalp(head: Head) -> Surface:
    """The surface that electrodes slide along."""
    if head.surfaces:
        return head.surfaces[-1]
    if not head.radii:
        raise ValueError("the head has neither surfaces nor radii, so there is no solver and no scalp for it")
    unit = geodesic_sphere(16)
    return Surface(head.radii[-1] * unit.vertices + np.asarray(head.centre), unit.triangles)


def _by_amplitude(deviation: Array, lead_field: LeadField, kind: str) -> Array:
    """Return an error (sensor, source, axis) as (sensor, amplitude) in an orientation."""
    if kind == "fixed" and deviation.shape[2] == 3:
        assert lead_field.sources.normals is not None
        return np.einsum("msa,sa->ms", deviation, lead_field.sources.normals)
    return deviation.reshape(len(deviation), -1)


def _principal(deviations: Array, mean: LeadField) -> Array:
    """Modes (mode, sensor, source, axis) of lead fields that deviate (draw, sensor, source, axis) from one of them.

    Every kind of sensor counts in units of its root mean square gain.
    """
    weights = np.zeros(len(mean.sensors), dtype=np.float32)
    for kind in dict.fromkeys(mean.sensors.kinds):
        rows = mean.sensors.where(kind)
        weights[rows] = 1 / np.sqrt(np.mean(mean.gain[rows] ** 2))
    deviations -= deviations.mean(axis=0)
    flat = (deviations * weights[:, None, None]).reshape(len(deviations), -1)
    values, vectors = np.linalg.eigh(np.asarray(flat @ flat.T, dtype=np.float64))
    kept = np.flatnonzero(values > LEAST_SHARE * values.sum())[: -MODES - 1 : -1]
    shares = vectors[:, kept] / np.sqrt(len(deviations) - 1)
    return np.asarray(np.tensordot(shares.T, deviations, axes=1))


def _covariance_factor(covariance: Array) -> Array:
    """Return A (sensor, direction) with A Aᵀ the covariance, without directions of zero variance."""
    # Tesla and volt differ by many powers of ten, so eigenvalues are compared on the scale of the correlation.
    size = np.sqrt(np.diagonal(covariance))
    size = np.where(size > 0, size, 1.0)
    values, vectors = np.linalg.eigh(covariance / np.outer(size, size))
    retained = values > RANK_TOLERANCE * values[-1]
    return np.asarray(size[:, None] * vectors[:, retained] * np.sqrt(values[retained]))


def _check_same_axes(first: LeadField, other: LeadField) -> None:
    if other.sensors.names != first.sensors.names:
        raise ValueError("the lead fields have other sensors, or in another order; restrict them alike")
    if other.gain.shape != first.gain.shape:
        raise ValueError(f"the lead fields have shapes {first.gain.shape} and {other.gain.shape}; they must be alike")
    if np.abs(other.sources.positions - first.sources.positions).max() > 1e-5:
        raise ValueError("the lead fields have other sources; an error is that of one and the same currents")
    if other.reference != first.reference:
        raise ValueError(
            f"the lead fields have the references {first.reference!r} and {other.reference!r}; use rereference"
        )


def _check_sources(mine: Sources, problem: Problem) -> None:
    theirs = problem.sources
    if problem.source_count != len(mine):
        raise ValueError(f"the problem has {problem.source_count} sources, but the error is that of {len(mine)}")
    if theirs is None:
        return
    distance = float(np.linalg.norm(theirs.positions - mine.positions, axis=1).max())
    if distance > 1e-4:
        raise ValueError(
            f"the problem's sources are up to {1e3 * distance:.3g} mm from those of the error; "
            "draw lead fields of its own"
        )
    if problem.axes == 1 and theirs.normals is not None and mine.normals is not None:
        difference = float(np.linalg.norm(theirs.normals - mine.normals, axis=1).max())
        if difference > 1e-3:
            raise ValueError(f"the problem's normals differ by up to {difference:.3g} from those of the error")


def _check_reference(mean: LeadField, problem: Problem) -> None:
    """Raise if the whitener depends on the electrodes' mean, and the problem is known to have another reference."""
    assert problem.whitener is not None
    electric = mean.sensors.where("eeg")
    if problem.lead_field is None or not len(electric) or problem.lead_field.reference == mean.reference:
        return
    rows = problem.whitener[:, electric]
    if np.abs(rows.sum(axis=1)).max() > 1e-6 * np.abs(rows).sum(axis=1).max():
        raise ValueError(
            f"the problem has the reference {problem.lead_field.reference!r}, but the error {mean.reference!r}; "
            "give forward_error that reference"
        )
