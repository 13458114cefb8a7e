"""Accuracy and time of finite elements against the analytic spheres: `python tests/benchmarks/forward_fem.py`.

RDM of the average-referenced potential (radial and tangential moments together) and of the magnetic field
(tangential), median / largest over 20 positions at each eccentricity of the innermost sphere.
"""

import argparse
import resource
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from forward_laws import CONDUCTIVITIES, NAMES, RADII, average, both, coils, electrodes, lnmag, rdm, sources, tangents

from bayesinv.forward import fem_solvers, fem_transfer, sphere
from bayesinv.geometry.shells import nested_spheres
from bayesinv.geometry.tetrahedra import describe
from bayesinv.head.head import Head

ANISOTROPIC = (0.33, (0.0042, 0.042), 0.33)
# name: spacing, layers, conductivities, goals {(quantity, eccentricity): RDM}
CASES = {
    "90k": (
        (0.0039, 0.0031, 0.0031),
        (0, 2, 2),
        CONDUCTIVITIES,
        {("EEG", 0.9): 0.003, ("EEG", 0.98): 0.006},
    ),
    "210k": (
        (0.0031, 0.00225, 0.00225),
        (0, 3, 3),
        CONDUCTIVITIES,
        {("EEG", 0.99): 0.005, ("MEG", 0.9): 0.005, ("MEG", 0.98): 0.005, ("MEG", 0.99): 0.005},
    ),
    "anisotropic": (
        (0.0045, 0.002, 0.0035),
        (0, 4, 2),
        ANISOTROPIC,
        {("EEG", 0.5): 0.01, ("EEG", 0.9): 0.01, ("EEG", 0.95): 0.01},
    ),
}


def clock(what, start):
    """Print wall and processor seconds since `start`."""
    wall, own = time.perf_counter() - start[0], time.process_time() - start[1]
    print(f"  {what:<42} {wall:7.1f} s wall {own:7.1f} s processor")


def now():
    """Wall and processor time."""
    return time.perf_counter(), time.process_time()


def accuracy(name, solver, models):
    """Print the table of one case."""
    spacing, layers, conductivities, goals = CASES[name]
    start = now()
    head = Head(NAMES, conductivities, radii=RADII, mesh=nested_spheres(RADII, spacing, layers))
    print(f"{name}: {describe(head.mesh)}")
    clock("mesh", start)
    sensors = both(electrodes(64), coils(64))
    electric, magnetic = np.arange(64), 64 + np.arange(64)
    start = now()
    carried = fem_transfer.transfer(head, sensors, solver=solver)
    clock(f"transfer matrix, 128 sensors, {carried.notes['solver'].split()[0]}", start)
    for model in models:
        carried.lead_field(sources(0.5, 2), source_model=model)
        for eccentricity in (0.5, 0.9, 0.95, 0.98, 0.99):
            places = sources(eccentricity, 20)
            gain = carried.lead_field(places, source_model=model).gain
            truth = sphere.lead_field(head, sensors, places).gain
            moments = np.stack([places.normals, tangents(places)])
            mine, wanted = (np.einsum("msa,osa->mso", average(g[electric]), moments) for g in (gain, truth))
            field, real = (np.einsum("msa,sa->ms", g[magnetic], moments[1]) for g in (gain, truth))
            radial = np.linalg.norm(np.einsum("msa,sa->ms", gain[magnetic], moments[0]), axis=0)
            leak = (radial / np.linalg.norm(real, axis=0)).max()
            parts = [f"  {model:<20} {eccentricity}"]
            for kind, error, size in (
                ("EEG", rdm(mine, wanted), lnmag(mine, wanted)),
                ("MEG", rdm(field, real), lnmag(field, real)),
            ):
                text = f"{kind} {np.median(error):.4f} / {error.max():.4f} lnMAG {np.abs(size).max():.4f}"
                goal = goals.get((kind, eccentricity)) if model == "subtraction" else None
                if goal is not None:
                    reached = np.median(error) < goal and (eccentricity > 0.98 or error.max() < 5 * goal)
                    text += f" (goal {goal}: {'reached' if reached else 'MISSED'})"
                parts.append(text)
            print("  ".join([*parts, f"radial leak {leak:.4f}"]), flush=True)
    places = sources(0.9, 1000)
    start = now()
    carried.lead_field(places)
    clock("1000 locations, 3 moments, subtraction", start)


def large(solver):
    """Print time and memory for a million tetrahedra and 64 electrodes."""
    head = Head(NAMES, CONDUCTIVITIES, mesh=nested_spheres(RADII, (0.0032, 0.0023, 0.0025), (0, 3, 2)))
    print(f"large: {describe(head.mesh)}")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    start = now()
    carried = fem_transfer.transfer(head, electrodes(64), solver=solver)
    clock(f"checks, assembly, solves, {carried.notes['solver']}", start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"  peak memory {peak:.2f} GB, of which meshing {before:.2f} GB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", default=[*CASES, "large"], help=f"of {', '.join([*CASES, 'large'])}")
    parser.add_argument("--solver", default="auto", choices=fem_solvers.SOLVERS)
    parser.add_argument("--models", nargs="*", default=["subtraction"], choices=fem_transfer.SOURCE_MODELS)
    given = parser.parse_args()
    for case in given.cases:
        if case == "large":
            large(given.solver)
        else:
            accuracy(case, given.solver, given.models)
