"""Ratios of classical estimates: λ scans against one decomposition, resolution metrics against MNE-Python's.

python tests/benchmarks/classical.py [folder of the real recording]
"""

from __future__ import annotations

import os
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bayesinv import Problem
from bayesinv.classical.baseline import baseline
from bayesinv.classical.criteria import Scan
from bayesinv.classical.resolution import resolution
from bayesinv.evidence.spectrum import Spectrum


def best(run: Callable[[], Any], repeats: int = 7) -> float:
    """Shortest processor time of some runs, s; the machine may be shared."""
    times = []
    for _ in range(repeats):
        started = time.process_time()
        run()
        times.append(time.process_time() - started)
    return min(times)


def peak(run: Callable[[], Any]) -> float:
    """Largest memory held beyond the start, MB."""
    tracemalloc.start()
    run()
    top = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return top / 1e6


def scan(sensors: int = 306, sources: int = 20_484, samples: int = 421) -> None:
    rng = np.random.default_rng(0)
    problem = Problem(
        rng.standard_normal((sensors, sources)), rng.standard_normal((sensors, samples)), np.arange(samples) * 1.0
    )

    def decompose() -> Spectrum:
        problem.memory.clear()
        problem.shared.clear()
        return Spectrum.of(problem)

    spectrum = decompose()
    values, powers = spectrum.values, spectrum.likelihood.powers

    def curves() -> None:
        one = Scan(values, powers, samples)
        low, high = one.bounds
        one.curve(np.geomspace(low, high, 1000))

    once, many = best(decompose), best(curves)
    print(f"decomposition of {sensors} x {sources}: {1e3 * once:.1f} ms")
    print(
        f"L-curve and GCV at 1000 λ: {1e3 * many:.2f} ms; with the decomposition {(once + many) / once:.3f} x "
        "(goal 1.2)"
    )


def metrics(folder: Path) -> None:
    import mne
    from mne.minimum_norm import make_inverse_operator, make_inverse_resolution_matrix, resolution_metrics

    from bayesinv.bridges.mne_in import from_mne

    mne.set_log_level("error")
    forward = mne.read_forward_solution(folder / "sample-oct5-fwd.fif")
    covariance = mne.read_cov(folder / "sample-noise-cov.fif")
    evoked = mne.read_evokeds(folder / "sample-right-ave.fif", "Right Auditory").pick(["meg", "eeg"], exclude="bads")
    evoked.crop(0.05, 0.15)
    forward = mne.pick_channels_forward(forward, evoked.ch_names, ordered=True)
    fixed = mne.convert_forward_solution(forward, surf_ori=True, force_fixed=True)
    inverse = make_inverse_operator(evoked.info, forward, covariance, loose=0, fixed=True)
    problem = from_mne(evoked, forward, covariance, orientation="fixed", baseline=None)
    estimate = baseline(problem, "dSPM", 1 / 9, convention="mne")
    names = ("peak_err", "cog_err", "sd_ext", "maxrad_ext", "peak_amp", "sum_amp")

    def theirs() -> None:
        matrix = make_inverse_resolution_matrix(fixed, inverse, "dSPM", 1 / 9)
        for name in names:
            resolution_metrics(matrix, inverse["src"], "psf", name)

    def ours() -> None:
        resolution(problem, estimate).metrics("psf")

    slow, fast = best(theirs, 3), best(ours, 3)
    print(
        f"six metrics of {problem.source_count} sources: MNE-Python {1e3 * slow:.0f} ms, ours {1e3 * fast:.0f} ms, "
        f"ratio {fast / slow:.3f} (goal 0.333); memory {peak(theirs):.0f} MB and {peak(ours):.0f} MB"
    )


if __name__ == "__main__":
    scan()
    metrics(Path(sys.argv[1] if len(sys.argv) > 1 else os.environ["BAYESINV_DATA"]))
