"""Simulate: recordings whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from bayesinv.axes import Array, Index, freeze, real, same_axes
from bayesinv.leadfield import LeadField
from bayesinv.noise import Noise
from bayesinv.problem import Problem
from bayesinv.recording import Recording
from bayesinv.sensors import Sensors
from bayesinv.sources import Sources


@dataclass(frozen=True, eq=False)
class Truth:
    """Currents along the normals of known sources.

    sources : where the currents flow
    current : (source, time), A m
    times : (time,), s
    notes : how the truth came, and how its lead field did, for people to read
    """

    sources: Sources
    current: Array
    times: Array
    notes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "current", real("current", self.current, "source time"))
        object.__setattr__(self, "times", real("times", self.times, "time"))
        same_axes(current=(self.current, "source time"), times=(self.times, "time"))
        if len(self.current) != len(self.sources):
            raise ValueError(f"current has source = {len(self.current)}, but there are {len(self.sources)} sources")
        freeze(self.current, self.times)

    @property
    def course(self) -> Array:
        """Sum of all currents along their normals, A m: (time,)."""
        return np.asarray(self.current.sum(axis=0))

    @property
    def peak_time(self) -> float:
        """Time in s at which the power of all currents is largest."""
        return float(self.times[int(np.argmax(np.sum(self.current**2, axis=0)))])

    @property
    def centre(self) -> Array:
        """Mean position (3,) in m of the sources, weighted by the current at the peak."""
        size = np.abs(self.current[:, int(np.argmax(np.sum(self.current**2, axis=0)))])
        return np.asarray(size @ self.sources.positions / size.sum())


@dataclass(frozen=True, eq=False)
class Simulation:
    """A recording whose truth is known.

    recording : signal plus noise; samples before time 0 hold noise only if the truth is silent there
    noise : of the recording, scaled to the signal-to-noise ratio
    truth : the currents
    lead_field : of the truth
    snr : power of the signal over that of the noise, both whitened, per component and sample of the response
    """

    recording: Recording
    noise: Noise
    truth: Truth
    lead_field: LeadField
    snr: float

    def problem(self, lead_field: LeadField) -> Problem:
        """Return the problem of inverting the recording with another lead field, its baseline kept apart.

        Raises
        ------
        ValueError
            If the lead field's sensors or reference are others than the recording's.
        """
        if lead_field.sensors.names != self.recording.names:
            raise ValueError("the lead field has other sensors than the recording; restrict it to the recording's")
        if lead_field.reference != self.lead_field.reference:
            raise ValueError(
                f"the lead field has the reference {lead_field.reference!r}, but the recording "
                f"{self.lead_field.reference!r}; use rereference"
            )
        before = self.recording.times < 0
        gain = lead_field.gain[:, :, 0] if lead_field.orientation == "fixed" else lead_field.gain
        return Problem.from_arrays(
            gain,
            self.recording.field[:, ~before],
            self.noise.covariance,
            times=self.recording.times[~before],
            baseline=self.recording.field[:, before] if before.any() else None,
            rank=self.noise.rank,
            sources=lead_field.sources,
            sensors=lead_field.sensors,
            averages=self.recording.averages,
        )


def patch(cortex: Sources, centre: ArrayLike, area: float) -> Index:
    """Return the vertices of the cortex around a place, up to an area, nearest along the surface first.

    cortex : with triangles and areas
    centre : (3,), m; the nearest vertex of the cortex is taken
    area : m²

    Raises
    ------
    ValueError
        If the cortex has no triangles or areas, or the area is not positive or more than a hemisphere's.
    """
    if cortex.triangles is None or cortex.areas is None:
        raise ValueError("a patch wants sources with triangles and areas, such as template.cortex()")
    if not 0 < area < np.inf:
        raise ValueError(f"area is {area}, but must be positive, in m² (1 cm² is 1e-4)")
    place = real("centre", centre, "3")
    start = int(np.argmin(np.linalg.norm(cortex.positions - place, axis=1)))
    distance = dijkstra(_edges(cortex), directed=False, indices=start)
    order = np.argsort(distance, kind="stable")
    order = order[np.isfinite(distance[order])]
    covered = np.cumsum(cortex.areas[order])
    if area > covered[-1]:
        raise ValueError(f"area is {1e4 * area:.4g} cm², but that side of the cortex has {1e4 * covered[-1]:.4g} cm²")
    return np.sort(order[: int(np.searchsorted(covered, area)) + 1])


def _edges(cortex: Sources) -> csr_matrix:
    """Return the lengths in m of the edges of the cortex's triangles."""
    assert cortex.triangles is not None
    one, two = np.unique(np.sort(cortex.triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0).T
    length = np.linalg.norm(cortex.positions[one] - cortex.positions[two], axis=1)
    return csr_matrix((length, (one, two)), shape=(len(cortex),) * 2)


def evoked_course(
    times: ArrayLike,
    latencies: Sequence[float] = (0.1, 0.19),
    widths: Sequence[float] = (0.018, 0.035),
    heights: Sequence[float] = (1.0, -0.5),
) -> Array:
    """Return a course (time,) like an event-related response: Gaussian waves after time 0, the largest of size 1.

    times, latencies, widths : s; widths are standard deviations
    heights : one per wave, of either sign

    Raises
    ------
    ValueError
        If the waves have not as many latencies as widths and heights, or the course is zero throughout.
    """
    clock = real("times", times, "time")
    middle, spread = real("latencies", latencies, "wave"), real("widths", widths, "wave")
    size = real("heights", heights, "wave")
    same_axes(latencies=(middle, "wave"), widths=(spread, "wave"), heights=(size, "wave"))
    if (spread <= 0).any():
        raise ValueError(f"widths are {list(widths)}, but must be positive, in s")
    course = size @ np.exp(-0.5 * ((clock - middle[:, None]) / spread[:, None]) ** 2)
    course = np.where(clock < 0, 0.0, course)
    largest = np.abs(course).max(initial=0)
    if not largest > 1e-6:
        raise ValueError("no wave lies within the times given")
    return np.asarray(course / largest)


def patch_truth(
    cortex: Sources,
    centre: ArrayLike,
    times: ArrayLike,
    *,
    area: float = 4e-4,
    moment: float = 15e-9,
    course: ArrayLike | None = None,
    avoid: Sources | None = None,
) -> Truth:
    """Return a truth in which a patch of cortex is active, all of it alike per area.

    cortex : with triangles and areas
    centre : (3,), m, head coordinates
    times : (time,), s
    area : of the patch, m²
    moment : sum of the currents over the patch at the peak, A m
    course : (time,), of size 1 at its peak; `evoked_course(times)` if None
    avoid : sources whose vertices carry no current, for a truth that lies off the inversion's grid

    Raises
    ------
    ValueError
        As `patch` does; if the moment is not positive, or `avoid` leaves nothing of the patch.
    """
    if not 0 < moment < np.inf:
        raise ValueError(f"moment is {moment}, but must be positive, in A m (10 nA m is 1e-8)")
    clock = real("times", times, "time")
    wave = evoked_course(clock) if course is None else real("course", course, "time")
    same_axes(course=(wave, "time"), times=(clock, "time"))
    index = patch(cortex, centre, area)
    if avoid is not None:
        if any(part is None for part in (avoid.vertices, avoid.hemispheres, cortex.vertices, cortex.hemispheres)):
            raise ValueError("avoid wants sources, and a cortex, that know their vertices and hemispheres")
        used = set(zip(avoid.vertices.tolist(), avoid.hemispheres.tolist(), strict=True))  # type: ignore[union-attr]
        index = np.array(
            [i for i in index if (int(cortex.vertices[i]), int(cortex.hemispheres[i])) not in used],  # type: ignore[index]
            dtype=np.int64,
        )
        if not index.size:
            raise ValueError("every vertex of the patch is to be avoided; take a larger area or a coarser grid")
    active = cortex.pick(index)
    assert active.areas is not None
    share = active.areas / active.areas.sum()
    notes = {"truth": f"patch of {1e4 * area:.3g} cm², {1e9 * moment:.3g} nA m at its peak"}
    return Truth(active, moment * share[:, None] * wave, clock, notes)


def correlated_covariance(sensors: Sensors, *, length: float = 0.05, share: float = 0.7, sd: float = 1.0) -> Array:
    """Return a covariance (sensor, sensor) that falls off with distance: neighbours share part of their noise.

        C = sd² ((1 - share) 1 + share exp(-distance / length))

    sensors : with positions in m
    length : m
    share : of the variance that is shared, in [0, 1)
    sd : of every sensor, in its SI unit

    Raises
    ------
    ValueError
        If a number lies outside its range.
    """
    if not (length > 0 and sd > 0 and 0 <= share < 1):
        raise ValueError(f"length {length} and sd {sd} must be positive and share {share} in [0, 1)")
    apart = np.linalg.norm(sensors.positions[:, None] - sensors.positions[None], axis=2)
    return np.asarray(sd**2 * ((1 - share) * np.eye(len(sensors)) + share * np.exp(-apart / length)))


def simulate(
    truth: Truth,
    lead_field: LeadField,
    noise_cov: ArrayLike,
    rng: np.random.Generator,
    *,
    snr: float | None = None,
) -> Simulation:
    """Return what sensors record of a truth, with Gaussian noise that is white over time.

    lead_field : of the truth's own sources, fixed or free (then the normals are taken)
    noise_cov : (sensor, sensor) covariance of the noise in the recording, in products of SI units; with an average
        reference it is referenced too
    snr : the covariance is scaled so that this is the ratio of the signal's power to the noise's, both whitened,
        averaged over components and over the samples from time 0 on; None leaves the covariance as it is

    Raises
    ------
    ValueError
        If shapes do not fit, the ratio is not positive, or the truth reaches no sensor.
    """
    if snr is not None and not 0 < snr < np.inf:
        raise ValueError(f"snr is {snr}, but a ratio of powers is positive")
    fixed = lead_field.fixed()
    if fixed.gain.shape[1] != len(truth.sources):
        raise ValueError(f"lead field has source = {fixed.gain.shape[1]}, but truth has source = {len(truth.sources)}")
    apart = np.abs(lead_field.sources.positions - truth.sources.positions).max()
    if apart > 1e-6:
        raise ValueError(f"sources of lead field and truth are up to {1e3 * apart:.3g} mm apart; they must be the same")
    covariance = real("noise covariance", noise_cov, "sensor sensor")
    same_axes(gain=(fixed.gain, "sensor source axis"), noise_covariance=(covariance, "sensor sensor"))
    kinds = lead_field.sensors.kinds
    if lead_field.reference == "average":
        electric = lead_field.sensors.where("eeg")
        average = np.eye(len(kinds))
        average[np.ix_(electric, electric)] -= 1 / len(electric)
        covariance = average @ covariance @ average.T
    noise = Noise(covariance, kinds)
    signal = fixed.gain[:, :, 0] @ truth.current
    after = truth.times >= 0
    if not after.any():
        raise ValueError("the truth ends before time 0: there is no response")
    power = float(np.mean((noise.whitener @ signal[:, after]) ** 2))
    if not power > 0:
        raise ValueError("the truth reaches no sensor")
    if snr is not None:
        noise = Noise(covariance * (power / snr), kinds)
    # With W C Wᵀ = 1, white numbers times C Wᵀ have the covariance C.
    colour = noise.covariance @ noise.whitener.T
    field = signal + colour @ rng.standard_normal((colour.shape[1], len(truth.times)))
    notes = {**lead_field.notes, **truth.notes}
    return Simulation(
        Recording(field, truth.times, lead_field.sensors.names),
        noise,
        Truth(truth.sources, truth.current, truth.times, notes),
        lead_field,
        power if snr is None else float(snr),
    )
