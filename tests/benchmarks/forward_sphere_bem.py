"""Accuracy and cost of the spheres and of the boundary elements, as a table.

    python tests/benchmarks/forward_sphere_bem.py [subdivisions ...]

The head has three shells (80, 86 and 92 mm; 0.33, 0.0042 and 0.33 S/m), 64 electrodes and 64 coils; every number is the
median and the largest of 20 positions. 3 subdivisions give 642 vertices per surface, 4 give 2562 (and a minute).
"""

import sys
import time
from pathlib import Path

import mne
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from forward_laws import CONDUCTIVITIES, RADII, average, both, coils, electrodes, lnmag, rdm, sources, tangents

from bayesinv.forward import bem, sphere
from bayesinv.head.head import Head

ECCENTRICITIES = (0.5, 0.9, 0.95, 0.98, 0.99)


def clock(what, *arguments, **options):
    """Return the answer, seconds of the clock and seconds of all processors."""
    wall, work = time.perf_counter(), time.process_time()
    answer = what(*arguments, **options)
    return answer, time.perf_counter() - wall, time.process_time() - work


def series():
    """Time the series for 10,000 sources against MNE-Python's three fitted dipoles per shell model."""
    rng = np.random.default_rng(0)
    outwards = rng.normal(size=(10_000, 3))
    outwards /= np.linalg.norm(outwards, axis=1, keepdims=True)
    places = outwards * (0.98 * RADII[0] * rng.random(10_000) ** (1 / 3))[:, None]
    seats = electrodes(64).positions
    sphere.shells(places[:9], seats, RADII, CONDUCTIVITIES)
    (gain, degree), wall, work = clock(sphere.shells, places, seats, RADII, CONDUCTIVITIES)
    print(f"series        64 x 10,000 x 3 at 1e-12 (degree {degree}): {wall:.3f} s wall, {work:.3f} s of processors")
    model = mne.make_sphere_model(
        r0=(0, 0, 0),
        head_radius=RADII[-1],
        relative_radii=np.array(RADII) / RADII[-1],
        sigmas=CONDUCTIVITIES,
        verbose=False,
    )
    names = [f"E{i}" for i in range(64)]
    corners = {"nasion": [0, 0.092, 0], "lpa": [-0.092, 0, 0], "rpa": [0.092, 0, 0]}
    montage = mne.channels.make_dig_montage(
        dict(zip(names, seats, strict=True)), coord_frame="head", **{k: np.array(v) for k, v in corners.items()}
    )
    info = mne.create_info(names, 100.0, "eeg", verbose=False).set_montage(montage, verbose=False)
    space = mne.setup_volume_source_space(pos={"rr": places, "nn": outwards}, verbose=False)
    space[0]["coord_frame"] = mne.io.constants.FIFF.FIFFV_COORD_HEAD
    options = {"meg": False, "verbose": False}
    mne.make_forward_solution(info, None, space, model, **options)
    forward, wall, work = clock(mne.make_forward_solution, info, None, space, model, **options)
    theirs = forward["sol"]["data"].reshape(gain.shape)
    error = rdm(average(theirs), average(gain))
    print(f"Berg-Scherg   by MNE-Python: {wall:.3f} s wall, {work:.3f} s of processors; RDM up to {error.max():.3f}")


def row(name, gain, truth, places):
    """Print one eccentricity."""
    moments = np.stack([places.normals, tangents(places)])
    one, two = (np.einsum("msa,osa->mso", g, moments) for g in (gain, truth))
    potential, wanted = average(one[:64]), average(two[:64])
    cells = [rdm(potential, wanted), np.abs(lnmag(potential, wanted)), rdm(one[64:, :, 1], two[64:, :, 1])]
    leak = np.linalg.norm(one[64:, :, 0], axis=0) / np.linalg.norm(two[64:, :, 1], axis=0)
    print(f"{name:14s}" + "  ".join(f"{np.median(c):.4f} / {c.max():.4f}" for c in [*cells, leak]))


def elements(subdivisions):
    """Time the boundary elements and print their errors; OpenMEEG beside them where it is installed."""
    head, sensors = Head.spheres(RADII, CONDUCTIVITIES, subdivisions=subdivisions), both(electrodes(64), coils(64))
    count = len(head.surfaces[0].vertices)
    bem.lead_field(Head.spheres(RADII, CONDUCTIVITIES, subdivisions=1), sensors, sources(0.3))  # compiles
    scenes = [sources(eccentricity, 20) for eccentricity in ECCENTRICITIES]
    made, wall, work = clock(bem.Bem, head)
    print(f"\nboundary elements, 3 x {count} vertices: factorised in {wall:.1f} s wall, {work:.1f} s of processors")
    print("eccentricity  EEG RDM          EEG |lnMAG|      MEG RDM          MEG radial leak   (median / largest)")
    seconds = 0.0
    for eccentricity, places in zip(ECCENTRICITIES, scenes, strict=True):
        field, wall, _ = clock(made.lead_field, sensors, places, minimum_distance=0.0)
        seconds += wall
        row(f"{eccentricity}", field.gain, sphere.lead_field(head, sensors, places).gain, places)
    print(f"{20 * len(scenes)} sources, with the transfer matrix of all sensors each time: {seconds:.1f} s wall")
    try:
        import openmeeg
    except ImportError:
        print("OpenMEEG is not installed")
        return
    openmeeg.set_log_level("error")
    options = {"solver": "openmeeg", "minimum_distance": 0.0}
    field, wall, work = clock(bem.lead_field, head, sensors, scenes[1], **options)
    print(f"OpenMEEG for 20 sources: {wall:.1f} s wall, {work:.1f} s of processors")
    row(f"{ECCENTRICITIES[1]}", field.gain, sphere.lead_field(head, sensors, scenes[1]).gain, scenes[1])


if __name__ == "__main__":
    series()
    for subdivisions in [int(n) for n in sys.argv[1:]] or [3]:
        elements(subdivisions)
