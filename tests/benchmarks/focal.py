"""Focal sources against sparse point estimates: 5 active of 1284 sources, 64 electrodes, 250 samples.

Time, CRPS where sources are active and where none is, and coverage of 90 % intervals of active sources: of `focal`, of
`hierarchical`, of Champagne here (with the intervals that its variances imply), and of MNE-Python's gamma_map, which
has no intervals; its CRPS is the absolute error.

python tests/benchmarks/focal.py [number of truths]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import bayesinv as bi
from bayesinv.axes import Array
from bayesinv.evaluation.configuration import Cell, Configuration
from bayesinv.evaluation.setting import scene_of
from bayesinv.problem.problem import Problem
from bayesinv.scoring.projection import project
from bayesinv.scoring.score import score

METHODS = ("hierarchical", "champagne", "gamma_map", "focal")


def timed(run: Callable[[], Any]) -> tuple[Any, float, float]:
    """What is returned, seconds by the clock and of the processor."""
    wall, cpu = time.perf_counter(), time.process_time()
    out = run()
    return out, time.perf_counter() - wall, time.process_time() - cpu


def gamma_map(problem: Problem) -> Array:
    """MNE-Python's point estimate on the whitened problem, given that the noise is 1: (source, time)."""
    from mne.inverse_sparse._gamma_map import _gamma_map_opt

    current = np.zeros((problem.source_count, len(problem.times)))
    found, active = _gamma_map_opt(problem.recording, problem.gain, alpha=1.0, verbose=False)
    current[active] = found
    return current


def numbers(method: str, problem: Problem, truth: Any) -> dict[str, float]:
    """Time and scores of one method on one truth; currents in nA m."""
    grid = project(truth, problem.sources, 1).reshape(problem.source_count, -1)
    still = ~grid.any(axis=1)
    if method == "gamma_map":
        estimate, wall, cpu = timed(lambda: gamma_map(problem))
        apart = 1e9 * np.abs(estimate - grid)
        return {"s": wall, "CPU s": cpu, "active": apart[~still].mean(), "still": apart[still].mean(), "cover": np.nan}
    if method == "champagne":
        result, wall, cpu = timed(lambda: bi.baseline(problem, "champagne"))
    else:
        result, wall, cpu = timed(lambda: bi.infer(method, problem))
    strata = score(result, truth).strata
    assert strata is not None
    active, rest = strata["active"].row(), strata["inactive"].row()
    return {
        "s": wall,
        "CPU s": cpu,
        "active": 1e9 * active["crps"],
        "still": 1e9 * rest["crps"],
        "cover": active["coverage"],
    }


def main(truths: int) -> None:
    configuration = Configuration.of("peers")
    rows: dict[str, list[dict[str, float]]] = {method: [] for method in METHODS}
    for seed in range(truths):
        truth, problem, _ = scene_of(configuration, Cell("bursts", "alpha", 0.5, seed, "focal", "model", False))
        for method in METHODS:
            rows[method].append(numbers(method, problem, truth))
    print(
        f"{'':14}{'seconds':>9}{'CPU s':>8}{'CRPS active':>13}{'inactive':>10}{'covered':>9}   means of {truths} truths"
    )
    for method, found in rows.items():
        mean = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
        scores = f"{mean['active']:13.3f}{mean['still']:10.4f}{mean['cover']:9.2f}"
        print(f"{method:14}{mean['s']:9.2f}{mean['CPU s']:8.2f}{scores}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
