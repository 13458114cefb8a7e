"""Simulate: recordings whose truth is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import cKDTree

from bayesinv.axes import Array, Index, freeze, real, same_axes
from bayesinv.forward.leadfield import LeadField
from bayesinv.geometry.geodesic import edge_lengths
from bayesinv.head.sensors import Sensors
from bayesinv.head.sources import Sources
from bayesinv.problem.noise import RANK_TOLERANCE, Noise
from bayesinv.problem.problem import Problem
from bayesinv.problem.recording import Recording

HELD_OUT = 2000
"""Samples of noise from which a covariance is estimated where it is not known."""

Course = Callable[[Array, np.random.Generator], Array]
"""From times (time,) in s to a course (time,) of size 1 at its peak."""

Draw = Callable[[Array, np.random.Generator], Array]
"""From times (time,) in s to a field (sensor, time) in the sensors' SI units."""


# --- nouns ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Truth:
    """Currents along the normals of known sources.

    sources : where the currents flow
    current : (source, time), A m
    times : (time,), s
    notes : how the truth came, and how its lead field did, for people to read
    parts : (source,), number of the dipole or patch that a source belongs to, or None for a single one
    """

    sources: Sources
    current: Array
    times: Array
    notes: Mapping[str, str] = field(default_factory=dict)
    parts: Index | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "current", real("current", self.current, "source time"))
        object.__setattr__(self, "times", real("times", self.times, "time"))
        same_axes(current=(self.current, "source time"), times=(self.times, "time"))
        if len(self.current) != len(self.sources):
            raise ValueError(f"current has source = {len(self.current)}, but there are {len(self.sources)} sources")
        if self.parts is not None:
            object.__setattr__(self, "parts", np.asarray(self.parts, dtype=np.int64))
            same_axes(current=(self.current, "source time"), parts=(self.parts, "source"))
        freeze(self.current, self.times, self.parts)

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
    noise : what an analyst would know of the noise: its covariance, true or estimated from other noise (`notes` say)
    truth : the currents
    lead_field : of the truth's sources
    snr : power of the signal over that of the noise, both whitened by the noise's true covariance, per component and
        sample of the response
    notes : what the noise is and how its covariance is known, for people to read
    """

    recording: Recording
    noise: Noise
    truth: Truth
    lead_field: LeadField
    snr: float
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def baseline(self) -> Array:
        """Field (sensor, sample) before time 0."""
        return self.recording.field[:, self.recording.times < 0]

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


# --- places and courses --------------------------------------------------------------------------------------


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
        raise ValueError("a patch wants sources with triangles and areas, such as template_cortex.cortex()")
    if not 0 < area < np.inf:
        raise ValueError(f"area is {area}, but must be positive, in m² (1 cm² is 1e-4)")
    place = real("centre", centre, "3")
    start = int(np.argmin(np.linalg.norm(cortex.positions - place, axis=1)))
    distance = dijkstra(edge_lengths(cortex), directed=False, indices=start)
    order = np.argsort(distance, kind="stable")
    order = order[np.isfinite(distance[order])]
    covered = np.cumsum(cortex.areas[order])
    if area > covered[-1]:
        raise ValueError(f"area is {1e4 * area:.4g} cm², but that side of the cortex has {1e4 * covered[-1]:.4g} cm²")
    return np.sort(order[: int(np.searchsorted(covered, area)) + 1])


def random_places(cortex: Sources, count: int, rng: np.random.Generator, *, apart: float = 0.03) -> Array:
    """Return places (place, 3) in m of vertices of the cortex at random, no two of them nearer than a distance.

    count : how many places
    apart : smallest distance between two, m

    Raises
    ------
    ValueError
        If count is no positive number, or so many places do not fit (100 orders of all vertices are tried).
    """
    if count < 1 or apart < 0:
        raise ValueError(f"count is {count} and apart {apart} m, but must be at least 1 and not negative")
    for _ in range(100):
        chosen: list[int] = []
        free = np.ones(len(cortex), dtype=bool)
        while free.any() and len(chosen) < count:
            chosen.append(int(rng.choice(np.flatnonzero(free))))
            free &= np.linalg.norm(cortex.positions - cortex.positions[chosen[-1]], axis=1) >= max(apart, 1e-9)
        if len(chosen) == count:
            return cortex.positions[chosen]
    raise ValueError(f"{count} places {1e3 * apart:.3g} mm apart do not fit on this cortex; want fewer, or nearer")


def tilted(sources: Sources, degrees: float, rng: np.random.Generator | None) -> Sources:
    """Return the sources with normals turned at random: by a normal angle of that standard deviation, to any side.

    Raises
    ------
    ValueError
        If the angle is negative, the sources have no normals, or there is no generator to turn them with.
    """
    if not 0 <= degrees < np.inf:
        raise ValueError(f"jitter is {degrees}, but must be at least 0, in degrees")
    if degrees == 0:
        return sources
    if sources.normals is None or rng is None:
        raise ValueError("jitter of the orientation wants sources with normals, and rng, a generator")
    normals = sources.normals
    side = rng.standard_normal(normals.shape)
    side -= np.sum(side * normals, axis=1, keepdims=True) * normals
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    angle = np.deg2rad(degrees) * rng.standard_normal((len(sources), 1))
    return replace(sources, normals=np.cos(angle) * normals + np.sin(angle) * side)


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


def oscillation(
    times: ArrayLike,
    frequency: float,
    phase: float = 0.0,
    *,
    centre: float | None = None,
    width: float | None = None,
) -> Array:
    """Return sin(2π frequency t + phase) (time,), silent before time 0, of size 1 at most.

    times : (time,), s
    frequency : Hz
    phase : radians, at time 0
    centre, width : mean and standard deviation in s of a Gaussian envelope; both or none

    Raises
    ------
    ValueError
        If the frequency or the width is not positive, the frequency too high for the times, or one of centre and
        width is missing.
    """
    clock = real("times", times, "time")
    if not 0 < frequency < np.inf:
        raise ValueError(f"frequency is {frequency}, but must be positive, in Hz")
    if len(clock) > 1 and frequency > _rate(clock) / 2 * (1 + 1e-9):
        raise ValueError(f"frequency is {frequency} Hz, but {_rate(clock):.4g} samples per second hold half of that")
    if (centre is None) != (width is None):
        raise ValueError("an envelope wants centre and width; give both or none")
    wave = np.sin(2 * np.pi * frequency * clock + phase)
    if centre is not None and width is not None:
        if not width > 0:
            raise ValueError(f"width is {width}, but must be positive, in s")
        wave = wave * np.exp(-0.5 * ((clock - centre) / width) ** 2)
    return np.where(clock < 0, 0.0, wave)


def spike_course(times: ArrayLike, latency: float = 0.1) -> Array:
    """Return a course (time,) like an epileptic spike: sharp wave of about 50 ms, rebound, slow wave of the same sign.

    times : (time,), s
    latency : of the sharp wave's peak, s; nothing before time 0
    """
    return evoked_course(times, (latency, latency + 0.045, latency + 0.2), (0.012, 0.02, 0.06), (1.0, -0.3, 0.45))


def sinusoid(times: Array, rng: np.random.Generator, band: tuple[float, float] = (1.0, 5.0)) -> Array:
    """Return an oscillation (time,) of uniform random frequency in a band (Hz) and uniform random phase."""
    return oscillation(times, float(rng.uniform(*band)), float(rng.uniform(0, 2 * np.pi)))


def burst(
    times: Array, rng: np.random.Generator, band: tuple[float, float] = (1.0, 5.0), shortest: float = 0.33
) -> Array:
    """Return white noise kept within a band, under a Hann window of random length and start after time 0: (time,).

    band : lowest and highest frequency, Hz
    shortest : of the window, s

    Raises
    ------
    ValueError
        If the response is shorter than the shortest window, or the window too short for the band.
    """
    after = np.flatnonzero(np.asarray(times) >= 0)
    least = round(shortest * _rate(np.asarray(times)))
    if len(after) < least:
        raise ValueError(f"{len(after)} samples after time 0 are fewer than the {least} of the shortest burst")
    length = int(rng.integers(least, len(after) + 1))
    start = int(after[0] + rng.integers(0, len(after) - length + 1))
    frequency = np.fft.rfftfreq(length, 1 / _rate(np.asarray(times)))
    inside = (frequency >= band[0]) & (frequency <= band[1])
    if not inside.any():
        raise ValueError(f"no frequency from {band[0]} to {band[1]} Hz fits into {length} samples; lengthen the window")
    wave = np.hanning(length) * np.fft.irfft(np.fft.rfft(rng.standard_normal(length)) * inside, length)
    course = np.zeros(len(times))
    course[start : start + length] = wave / np.abs(wave).max()
    return course


def _rate(times: Array) -> float:
    """Samples per second."""
    if len(times) < 2:
        raise ValueError("times hold one sample, which has no rate")
    return float((len(times) - 1) / (times[-1] - times[0]))


# --- truths -----------------------------------------------------------------------------------------------


def dipole_truth(
    cortex: Sources,
    places: ArrayLike,
    times: ArrayLike,
    *,
    moment: ArrayLike = 20e-9,
    course: ArrayLike | None = None,
    jitter: float = 0.0,
    rng: np.random.Generator | None = None,
) -> Truth:
    """Return a truth of one or several dipoles on vertices of the cortex.

    cortex : with normals
    places : (dipole, 3) or (3,), m; the nearest vertices are taken. `random_places` gives some
    times : (time,), s
    moment : one for all or (dipole,), A m (20 nA m is 2e-8)
    course : (time,) for all or (dipole, time); `evoked_course(times)` if None
    jitter : standard deviation of the angle between dipole and normal, degrees
    rng : of the jitter

    Raises
    ------
    ValueError
        If shapes do not fit, or two places have the same nearest vertex.
    """
    clock = real("times", times, "time")
    where = real("places", np.atleast_2d(np.asarray(places)), "dipole 3")
    size = np.broadcast_to(np.asarray(moment, dtype=np.float64), len(where))
    wave = evoked_course(clock) if course is None else np.asarray(course)
    waves = real("course", np.broadcast_to(wave, (len(where), wave.shape[-1])), "dipole time")
    same_axes(course=(waves, "dipole time"), times=(clock, "time"))
    index = cKDTree(cortex.positions).query(where)[1]
    if len(set(index)) < len(index):
        raise ValueError("two of the places have the same nearest vertex; put them farther apart")
    told = ", ".join(f"{1e9 * one:.3g}" for one in size)
    notes = {"truth": f"{len(where)} dipole{'s' * (len(where) > 1)} of {told} nA m"}
    active = tilted(replace(cortex.pick(index), triangles=None), jitter, rng)
    return Truth(active, size[:, None] * waves, clock, notes, np.arange(len(where)))


def patch_truth(
    cortex: Sources,
    centre: ArrayLike,
    times: ArrayLike,
    *,
    area: float = 4e-4,
    moment: float = 15e-9,
    course: ArrayLike | None = None,
    avoid: Sources | None = None,
    jitter: float = 0.0,
    rng: np.random.Generator | None = None,
) -> Truth:
    """Return a truth in which a patch of cortex is active, all of it alike per area.

    cortex : with triangles and areas
    centre : (3,), m, head coordinates
    times : (time,), s
    area : of the patch, m²
    moment : sum of the currents over the patch at the peak, A m
    course : (time,), of size 1 at its peak; `evoked_course(times)` if None
    avoid : sources whose vertices carry no current, for a truth that lies off the inversion's grid
    jitter : standard deviation of the angle between the currents and the normals, degrees
    rng : of the jitter

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
    active = tilted(cortex.pick(index), jitter, rng)
    assert active.areas is not None
    share = active.areas / active.areas.sum()
    notes = {"truth": f"patch of {1e4 * area:.3g} cm², {1e9 * moment:.3g} nA m at its peak"}
    return Truth(active, moment * share[:, None] * wave, clock, notes)


def together(*truths: Truth) -> Truth:
    """Return the truth in which all of some truths are active at once; its parts are theirs, one after the other.

    Raises
    ------
    ValueError
        If there are none, their times differ, or two of them share a source.
    """
    if not truths:
        raise ValueError("there is nothing to put together")
    first = truths[0]
    if any(len(one.times) != len(first.times) or np.abs(one.times - first.times).max() > 1e-9 for one in truths):
        raise ValueError("the truths have other times; make them on the same ones")
    positions = np.concatenate([one.sources.positions for one in truths])
    if len(cKDTree(positions).query_pairs(1e-6)):
        raise ValueError(
            "the truths share sources: their patches overlap; put them farther apart, or make them smaller"
        )

    def joined(name: str) -> Any:
        values = [getattr(one.sources, name) for one in truths]
        return None if any(value is None for value in values) else np.concatenate(values)

    sources = replace(
        first.sources,
        positions=positions,
        triangles=None,
        **{name: joined(name) for name in ("normals", "areas", "vertices", "hemispheres")},
    )
    parts: list[Index] = []
    for one in truths:
        own = np.zeros(len(one.sources), dtype=np.int64) if one.parts is None else one.parts
        parts.append(own + (parts[-1].max() + 1 if parts else 0))
    notes = {"truth": "; ".join(one.notes.get("truth", "") for one in truths)}
    current = np.concatenate([one.current for one in truths])
    return Truth(sources, current, first.times, notes, np.concatenate(parts))


def spike_truth(
    cortex: Sources,
    onset: ArrayLike,
    spread: ArrayLike,
    times: ArrayLike,
    *,
    areas: tuple[float, float] = (6e-4, 6e-4),
    moments: tuple[float, float] = (100e-9, 80e-9),
    latency: float = 0.1,
    delay: float = 0.02,
    avoid: Sources | None = None,
    jitter: float = 0.0,
    rng: np.random.Generator | None = None,
) -> Truth:
    """Return an epileptic spike that begins in one patch of cortex (part 0) and goes on to another (part 1).

    cortex : with triangles and areas
    onset, spread : (3,), m, middles of the two patches
    times : (time,), s
    areas : of the patches, m² (1 cm² is 1e-4)
    moments : sums of their currents at the peak, A m
    latency : of the onset's peak, s
    delay : from the onset to the other patch, s
    avoid, jitter, rng : as in `patch_truth`

    Raises
    ------
    ValueError
        As `patch_truth` does; if the patches overlap, or the delay is negative.
    """
    if not 0 <= delay < np.inf:
        raise ValueError(f"delay is {delay}, but must be at least 0, in s")
    clock = real("times", times, "time")
    first, second = (
        patch_truth(
            cortex,
            place,
            clock,
            area=area,
            moment=moment,
            course=spike_course(clock, at),
            avoid=avoid,
            jitter=jitter,
            rng=rng,
        )
        for place, area, moment, at in zip((onset, spread), areas, moments, (latency, latency + delay), strict=True)
    )
    both = together(first, second)
    told = f"spike: {first.notes['truth']}, {1e3 * delay:.3g} ms later {second.notes['truth']}"
    return replace(both, notes={"truth": told})


def prior_truth(sources: Sources, current: ArrayLike, times: ArrayLike, *, model: str = "") -> Truth:
    """Return a truth drawn from a model's prior.

    sources : all that the draw has currents for
    current : (source, time), A m, along the sources' normals
    times : (time,), s
    model : whose prior it is, for people to read
    """
    table = real("current", current, "source time")
    return Truth(
        sources, table, real("times", times, "time"), {"truth": f"drawn from the prior of {model or 'a model'}"}
    )


def sparse_truth(
    sources: Sources,
    times: ArrayLike,
    rng: np.random.Generator,
    *,
    active: int = 5,
    median: float = 20e-9,
    spread: float = 0.2,
    course: Course = sinusoid,
) -> Truth:
    """Return a truth on all sources of which a few are active, with lognormal moments and a course each.

    active : how many
    median : of the moments, A m
    spread : standard deviation of their logarithms
    course : makes each source's course: `sinusoid` or `burst`

    `simulate(..., alpha=0.5)` of it, on the inversion's own lead field, is the protocol on which other toolboxes
    report their calibration; there the courses are bursts of 1 to 5 Hz.

    Raises
    ------
    ValueError
        If there are not so many sources, or median and spread are not positive.
    """
    if not 1 <= active <= len(sources):
        raise ValueError(f"active is {active}, but must be 1 to the number of sources, {len(sources)}")
    if not (0 < median < np.inf and 0 <= spread < np.inf):
        raise ValueError(f"median is {median} and spread {spread}, but must be positive, in A m, and at least 0")
    clock = real("times", times, "time")
    index = rng.choice(len(sources), active, replace=False)
    current = np.zeros((len(sources), len(clock)))
    for i in index:
        current[i] = median * np.exp(spread * rng.standard_normal()) * course(clock, rng)
    notes = {"truth": f"{active} of {len(sources)} sources, lognormal moments of median {1e9 * median:.3g} nA m"}
    return Truth(sources, current, clock, notes)


# --- noise ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class NoiseProcess:
    """Noise that can be drawn, stationary and of mean zero; `one + other` is the noise of both, independent.

    draw : from times and a generator to a field (sensor, time)
    covariance : (sensor, sensor), of any one sample
    words : what it is, for people to read
    known : whether an analyst knows the covariance; if not, it is estimated from noise held out
    held_out : draws noise that is in no recording; `draw` if None
    names : of the sensors, or () where any will do
    """

    draw: Draw
    covariance: Array
    words: str
    known: bool = True
    held_out: Draw | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "covariance", real("noise covariance", self.covariance, "sensor sensor"))
        freeze(self.covariance)

    def __add__(self, other: NoiseProcess) -> NoiseProcess:
        same_axes(covariance=(self.covariance, "sensor sensor"), other_covariance=(other.covariance, "sensor sensor"))
        if self.names and other.names and self.names != other.names:
            raise ValueError("the noises to add are of other sensors, or in another order")
        mine, theirs = self.held_out or self.draw, other.held_out or other.draw

        def both(times: Array, rng: np.random.Generator) -> Array:
            return self.draw(times, rng) + other.draw(times, rng)

        def both_held_out(times: Array, rng: np.random.Generator) -> Array:
            one, two = mine(times, rng), theirs(times, rng)
            count = min(one.shape[1], two.shape[1])
            return one[:, :count] + two[:, :count]

        return NoiseProcess(
            both,
            self.covariance + other.covariance,
            f"{self.words} + {other.words}",
            self.known and other.known,
            both_held_out,
            self.names or other.names,
        )

    def scaled(self, factor: float) -> NoiseProcess:
        """Return the noise with every field multiplied by a factor."""
        held_out = self.held_out
        return replace(
            self,
            draw=lambda times, rng: factor * self.draw(times, rng),
            covariance=factor**2 * self.covariance,
            held_out=None if held_out is None else lambda times, rng: factor * held_out(times, rng),
        )


def blend(parts: Sequence[NoiseProcess], shares: ArrayLike) -> NoiseProcess:
    """Return the sum of some noises whose variances, averaged over sensors, stand in given ratios and sum to one.

    shares : (part,), of the variance; sensors must be of one kind

    The scale is set by the ratio that `simulate` is asked for.

    Raises
    ------
    ValueError
        If there are not as many shares as parts, or one is not positive.
    """
    wanted = real("shares", shares, "part")
    if len(wanted) != len(parts) or not len(parts) or (wanted <= 0).any():
        raise ValueError(f"shares are {wanted.tolist()} for {len(parts)} noises; want one each, positive")
    sizes = wanted / wanted.sum() / [part.covariance.diagonal().mean() for part in parts]
    mixed = [part.scaled(float(np.sqrt(size))) for part, size in zip(parts, sizes, strict=True)]
    total = mixed[0]
    for part in mixed[1:]:
        total = total + part
    told = " + ".join(f"{share:.0%} {part.words}" for share, part in zip(wanted / wanted.sum(), parts, strict=True))
    return replace(total, words=told)


def coloured(rows: int, samples: int, exponent: float, rng: np.random.Generator) -> Array:
    """Return normal numbers (row, sample) whose power falls with frequency as 1/f^exponent, of variance 1 per sample.

    White numbers of twice the length are shaped in the Fourier domain, and the first half of them is kept, so that
    its end does not join its start; frequencies below one period in that length have no power. An exponent of 0 is
    white.

    Reference: Timmer & König (1995), Astron. Astrophys. 300, 707-710.
    """
    if not 0 <= exponent < np.inf:
        raise ValueError(f"exponent is {exponent}, but must be at least 0 (0 is white noise, 1 is 1/f)")
    if exponent == 0:
        return rng.standard_normal((rows, samples))
    long = 2 * samples
    weight = np.zeros(long // 2 + 1)
    weight[1:] = np.arange(1, len(weight)) ** (-exponent / 2)
    # Variance of white noise filtered by weights w over all (positive and negative) frequencies: mean of w².
    both = 2 * np.sum(weight**2) - weight[-1] ** 2
    weight *= np.sqrt(long / both)
    white = np.fft.rfft(rng.standard_normal((rows, long)))
    return np.asarray(np.fft.irfft(weight * white, long)[:, :samples])


def gaussian_noise(covariance: ArrayLike, *, exponent: float = 0.0, kinds: Sequence[str] = ()) -> NoiseProcess:
    """Return Gaussian noise of a covariance over sensors and a spectrum 1/f^exponent over time.

    covariance : (sensor, sensor), or (sensor,) variances, in (products of) SI units
    exponent : 0 is white over time, 1 is 1/f; the same for all sensors
    kinds : of the sensors, where EEG and MEG come together
    """
    table = np.asarray(covariance)
    table = real("noise covariance", np.diag(table) if table.ndim == 1 else table, "sensor sensor")
    noise = Noise(table, tuple(kinds))
    # With W C Wᵀ = 1, white numbers times C Wᵀ have the covariance C.
    colour = noise.covariance @ noise.whitener.T
    diagonal = np.allclose(table, np.diag(table.diagonal()))
    words = f"{'independent' if diagonal else 'correlated'} sensor noise, {_spectrum(exponent)}"

    def draw(times: Array, rng: np.random.Generator) -> Array:
        return np.asarray(colour @ coloured(colour.shape[1], len(times), exponent, rng))

    return NoiseProcess(draw, noise.covariance, words)


def _spectrum(exponent: float) -> str:
    return f"1/f^{exponent:g} over time" if exponent else "white over time"


def background_noise(
    lead_field: LeadField,
    *,
    sd: float = 1e-9,
    exponent: float = 1.0,
    share: float = 1.0,
    rng: np.random.Generator | None = None,
) -> NoiseProcess:
    """Return what the sensors read of brain activity that is not asked for: independent currents, 1/f^exponent each.

    lead_field : of the truth's world; all its sources, or a random part of them, are active along their normals
    sd : of every current, A m
    share : of the sources that are active, in (0, 1]
    rng : picks them; not wanted if all are

    The covariance sd² G Gᵀ is not the analyst's to know. It has next to no power in fine patterns: add sensor noise,
    as every amplifier does.

    Raises
    ------
    ValueError
        If a number lies outside its range, or a part is to be picked without a generator.
    """
    if not (0 < sd < np.inf and 0 < share <= 1):
        raise ValueError(f"sd {sd} must be positive, in A m, and share {share} in (0, 1]")
    gain = lead_field.fixed().gain[:, :, 0]
    if share < 1:
        if rng is None:
            raise ValueError("a share of the sources wants rng, a generator to pick them with")
        gain = gain[:, rng.choice(gain.shape[1], max(1, round(share * gain.shape[1])), replace=False)]
    # Currents of one spectrum: mixing first and drawing then has the same law as drawing thousands and mixing.
    process = gaussian_noise(sd**2 * gain @ gain.T, exponent=exponent, kinds=lead_field.sensors.kinds)
    words = f"brain background of {gain.shape[1]} sources, {_spectrum(exponent)}"
    return replace(process, words=words, known=False, names=lead_field.sensors.names)


def bootstrap_noise(baseline: Recording, *, duration: float = 0.5, held_out: float = 0.5) -> NoiseProcess:
    """Return real noise put together of random stretches of a recording without response: a circular block bootstrap.

    baseline : all of it noise; its mean is taken out
    duration : of a stretch, s; all sensors are taken together, so that covariance and, within stretches, spectrum stay
    held_out : share of the baseline, at its end, that is kept for estimating the covariance

    Reference: Politis & Romano (1992), in LePage & Billard (eds), Exploring the Limits of Bootstrap, 263-270.

    Raises
    ------
    ValueError
        If a part of the baseline has fewer samples than sensors or than a stretch, or when noise is drawn at another
        sampling rate than the baseline's.
    """
    if not 0 < held_out < 1:
        raise ValueError(f"held_out is {held_out}, but must lie between 0 and 1")
    rate = _rate(baseline.times)
    length, cut = round(duration * rate), round((1 - held_out) * len(baseline.times))
    used, rest = baseline.field[:, :cut], baseline.field[:, cut:]
    least = max(length, len(used) + 1)
    if length < 1 or min(used.shape[1], rest.shape[1]) < least:
        raise ValueError(
            f"the baseline has {used.shape[1]} samples to draw and {rest.shape[1]} to hold out, but stretches of "
            f"{length} samples from {len(used)} sensors want at least {least} each; give a longer one"
        )
    used, rest = (part - part.mean(axis=1, keepdims=True) for part in (used, rest))

    def check(times: Array) -> None:
        if len(times) > 1 and abs(_rate(times) / rate - 1) > 1e-3:
            raise ValueError(
                f"the baseline has {rate:.5g} samples per second, but noise is wanted at {_rate(times):.5g}; "
                "resample it, or take its rate for the truth"
            )

    def draw(times: Array, rng: np.random.Generator) -> Array:
        check(times)
        starts = rng.integers(0, used.shape[1], -(-len(times) // length) + 1)
        # The first stretch is cut at random, so that joins fall anywhere.
        index = (starts[:, None] + np.arange(length)).ravel()[int(rng.integers(length)) :][: len(times)]
        return used[:, index % used.shape[1]]

    def spare(times: Array, rng: np.random.Generator) -> Array:
        check(times)
        return rest[:, : len(times)]

    words = f"baseline of {len(baseline.times) / rate:.3g} s in random stretches of {duration:g} s"
    return NoiseProcess(draw, used @ used.T / used.shape[1], words, False, spare, baseline.names)


def shrunk_covariance(samples: ArrayLike, kinds: Sequence[str] = ()) -> tuple[Array, float]:
    """Return the covariance (sensor, sensor) of noise, shrunk towards equal variances, and by how much (0 to 1).

    samples : (sensor, sample), SI units
    kinds : of the sensors; each is brought to unit variance on average before shrinking

    Directions without any noise, such as the mean of an average reference, stay without.

    Reference: Ledoit & Wolf (2004), J. Multivar. Anal. 88, 365-411, whose optimal amount takes the samples for
    independent.

    Raises
    ------
    ValueError
        If there are not more samples than sensors.
    """
    from sklearn.covariance import ledoit_wolf

    table = real("samples", samples, "sensor sample")
    if table.shape[1] <= len(table):
        raise ValueError(f"{table.shape[1]} samples are too few for the covariance of {len(table)} sensors; give more")
    groups = np.array(kinds) if len(kinds) else np.full(len(table), "sensor")
    unit = np.ones(len(table))
    for kind in set(groups.tolist()):
        unit[groups == kind] = np.sqrt(table[groups == kind].var(axis=1).mean()) or 1.0
    values, vectors = np.linalg.eigh(np.cov(table / unit[:, None]))
    kept = vectors[:, values > RANK_TOLERANCE * values[-1]]
    shrunk, amount = ledoit_wolf((table / unit[:, None]).T @ kept)
    return np.outer(unit, unit) * (kept @ shrunk @ kept.T), float(amount)


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


# --- the recording ----------------------------------------------------------------------------------------


def simulate(
    truth: Truth,
    lead_field: LeadField,
    noise: ArrayLike | NoiseProcess,
    rng: np.random.Generator,
    *,
    snr: float | None = None,
    alpha: float | None = None,
    held_out: int | None = None,
) -> Simulation:
    """Return what sensors record of a truth, with noise.

    The signal-to-noise ratio is the power of the signal over that of the noise, both whitened by the true covariance
    C of the noise, averaged over components and over the N samples from time 0 on:

        snr = sum over samples of signalᵀ C⁻¹ signal / (rank(C) N)

    lead_field : of the truth's world, which has the truth's sources among its own; a fixed one must have their normals
    noise : (sensor, sensor) covariance of Gaussian noise that is white over time, in products of SI units, or a
        process such as `gaussian_noise`, `background_noise`, `bootstrap_noise`, a sum or a `blend` of them; with an
        average reference it is referenced too
    snr : the noise is scaled to this ratio; None leaves it as it is
    alpha : instead, the noise as drawn is scaled so that ‖noise‖ / ‖signal‖ = (1 - alpha) / alpha in the Frobenius
        norm over all samples; 0.5 makes them equal
    held_out : samples of other noise that the covariance which the simulation carries is estimated from, with
        `shrunk_covariance`; None takes the true covariance where the noise has one that is known, else `HELD_OUT`

    Raises
    ------
    ValueError
        If shapes do not fit, a ratio is not positive, both are given, or the truth reaches no sensor.
    """
    if snr is not None and not 0 < snr < np.inf:
        raise ValueError(f"snr is {snr}, but a ratio of powers is positive")
    if alpha is not None and (snr is not None or not 0 < alpha < 1):
        raise ValueError(f"alpha is {alpha}, but must lie between 0 and 1, and comes instead of snr ({snr})")
    own = _own(truth, lead_field)
    gain = own.fixed().gain[:, :, 0]
    kinds = lead_field.sensors.kinds
    average = np.eye(len(kinds))
    if lead_field.reference == "average":
        electric = lead_field.sensors.where("eeg")
        average[np.ix_(electric, electric)] -= 1 / len(electric)
    process = noise
    if not isinstance(process, NoiseProcess):
        table = real("noise covariance", process, "sensor sensor")
        same_axes(gain=(gain, "sensor source"), noise_covariance=(table, "sensor sensor"))
        process = gaussian_noise(average @ table @ average.T, kinds=kinds)
    same_axes(gain=(gain, "sensor source"), noise_covariance=(process.covariance, "sensor sensor"))
    if process.names and process.names != lead_field.sensors.names:
        raise ValueError("the noise is of other sensors than the lead field, or in another order; pick them alike")
    covariance = average @ process.covariance @ average.T
    signal = gain @ truth.current
    after = truth.times >= 0
    if not after.any():
        raise ValueError("the truth ends before time 0: there is no response")
    power = float(np.mean((Noise(covariance, kinds).whitener @ signal[:, after]) ** 2))
    if not power > 0:
        raise ValueError("the truth reaches no sensor")
    drawn = average @ process.draw(truth.times, rng)
    scale = 1.0 if snr is None else float(np.sqrt(power / snr))
    if alpha is not None:
        scale = float((1 - alpha) / alpha * np.linalg.norm(signal) / np.linalg.norm(drawn))
    notes = {"noise": process.words, "covariance": "true"}
    if held_out is not None or not process.known:
        count = HELD_OUT if held_out is None else held_out
        step = 1 / _rate(truth.times) if len(truth.times) > 1 else 1.0
        samples = average @ (process.held_out or process.draw)(step * np.arange(count, dtype=np.float64), rng)
        covariance, amount = shrunk_covariance(samples, kinds)
        notes["covariance"] = f"estimated from {samples.shape[1]} samples, Ledoit-Wolf shrinkage {amount:.3g}"
    return Simulation(
        Recording(signal + scale * drawn, truth.times, lead_field.sensors.names),
        Noise(scale**2 * covariance, kinds),
        replace(truth, notes={**lead_field.notes, **truth.notes}),
        own,
        power / scale**2 if snr is None else float(snr),
        notes,
    )


def _own(truth: Truth, lead_field: LeadField) -> LeadField:
    """Return the lead field of the truth's sources, found by their places among those of a lead field.

    Raises
    ------
    ValueError
        If some are not among them, or are turned while the lead field has one orientation.
    """
    distance, index = cKDTree(lead_field.sources.positions).query(truth.sources.positions)
    if distance.max() > 1e-6:
        raise ValueError(
            f"{np.count_nonzero(distance > 1e-6)} of the truth's {len(truth.sources)} sources are not among those of "
            f"the lead field: up to {1e3 * distance.max():.3g} mm from the nearest; make the truth on its sources"
        )
    theirs, mine = lead_field.sources.normals, truth.sources.normals
    if lead_field.orientation == "fixed" and theirs is not None and mine is not None:
        turned = float(np.abs(theirs[index] - mine).max())
        if turned > 1e-6:
            raise ValueError(
                f"the truth's normals differ from the lead field's by up to {turned:.3g}, but it is fixed; "
                "give a free one"
            )
    return replace(lead_field, gain=lead_field.gain[:, index], sources=truth.sources)
