"""True currents of every kind: dipoles, patches, propagating spikes, sparse sources, and draws from a prior."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

from bayesinv.axes import real, same_axes
from bayesinv.head.sources import Sources
from bayesinv.simulation.courses import TimeCourse, evoked_course, sinusoid, spike_course
from bayesinv.simulation.places import patch, tilted
from bayesinv.simulation.truth import Truth, together


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
    sample_times = real("times", times, "time")
    positions = real("places", np.atleast_2d(np.asarray(places)), "dipole 3")
    moments = np.broadcast_to(np.asarray(moment, dtype=np.float64), len(positions))
    wave = evoked_course(sample_times) if course is None else np.asarray(course)
    waves = real("course", np.broadcast_to(wave, (len(positions), wave.shape[-1])), "dipole time")
    same_axes(course=(waves, "dipole time"), times=(sample_times, "time"))
    index = cKDTree(cortex.positions).query(positions)[1]
    if len(set(index)) < len(index):
        raise ValueError("two of the places have the same nearest vertex; put them farther apart")
    sizes = ", ".join(f"{1e9 * one:.3g}" for one in moments)
    notes = {"truth": f"{len(positions)} dipole{'s' * (len(positions) > 1)} of {sizes} nA m"}
    active = tilted(replace(cortex.pick(index), triangles=None), jitter, rng)
    return Truth(active, moments[:, None] * waves, sample_times, notes, np.arange(len(positions)))


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
    """Return a truth in which a patch of cortex is active, with uniform current per area.

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
    sample_times = real("times", times, "time")
    wave = evoked_course(sample_times) if course is None else real("course", course, "time")
    same_axes(course=(wave, "time"), times=(sample_times, "time"))
    index = patch(cortex, centre, area)
    if avoid is not None:
        if any(part is None for part in (avoid.vertices, avoid.hemispheres, cortex.vertices, cortex.hemispheres)):
            raise ValueError("avoid wants sources, and a cortex, that know their vertices and hemispheres")
        avoided = set(zip(avoid.vertices.tolist(), avoid.hemispheres.tolist(), strict=True))  # type: ignore[union-attr]
        index = np.array(
            [i for i in index if (int(cortex.vertices[i]), int(cortex.hemispheres[i])) not in avoided],  # type: ignore[index]
            dtype=np.int64,
        )
        if not index.size:
            raise ValueError("every vertex of the patch is to be avoided; take a larger area or a coarser grid")
    active = tilted(cortex.pick(index), jitter, rng)
    assert active.areas is not None
    share = active.areas / active.areas.sum()
    notes = {"truth": f"patch of {1e4 * area:.3g} cm², {1e9 * moment:.3g} nA m at its peak"}
    return Truth(active, moment * share[:, None] * wave, sample_times, notes)


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
    """Return an epileptic spike that begins in one patch of cortex (part 0) and propagates to another (part 1).

    cortex : with triangles and areas
    onset, spread : (3,), m, centres of the two patches
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
    sample_times = real("times", times, "time")
    first, second = (
        patch_truth(
            cortex,
            place,
            sample_times,
            area=area,
            moment=moment,
            course=spike_course(sample_times, at),
            avoid=avoid,
            jitter=jitter,
            rng=rng,
        )
        for place, area, moment, at in zip((onset, spread), areas, moments, (latency, latency + delay), strict=True)
    )
    both = together(first, second)
    description = f"spike: {first.notes['truth']}, {1e3 * delay:.3g} ms later {second.notes['truth']}"
    return replace(both, notes={"truth": description})


def prior_truth(sources: Sources, current: ArrayLike, times: ArrayLike, *, model: str = "") -> Truth:
    """Return a truth drawn from a model's prior.

    sources : of the drawn currents
    current : (source, time), A m, along the sources' normals
    times : (time,), s
    model : name of the model, for people to read
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
    course: TimeCourse = sinusoid,
) -> Truth:
    """Return a truth of which a few random sources are active, each with a lognormal moment and its own time course.

    active : how many
    median : of the moments, A m
    spread : standard deviation of their logarithms
    course : draws each source's time course: `sinusoid` or `burst`

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
    sample_times = real("times", times, "time")
    index = rng.choice(len(sources), active, replace=False)
    current = np.zeros((len(sources), len(sample_times)))
    for i in index:
        current[i] = median * np.exp(spread * rng.standard_normal()) * course(sample_times, rng)
    notes = {"truth": f"{active} of {len(sources)} sources, lognormal moments of median {1e9 * median:.3g} nA m"}
    return Truth(sources, current, sample_times, notes)
