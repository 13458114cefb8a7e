"""Speed and memory of `infer("hierarchical")`: ratios against peers in one process, printed, never asserted.

python tests/benchmarks/spine.py recording FOLDER   against MNE-Python on the real recording in FOLDER
python tests/benchmarks/spine.py courses            what samples cost: T = 100, 1000, 10,000, white and coloured noise
python tests/benchmarks/spine.py whole-brain        against the BLAS calls that cannot be avoided
python tests/benchmarks/spine.py import             `import bayesinv` against numpy + scipy
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def median_seconds(call: Callable[[], Any], runs: int = 5) -> float:
    """Median wall time of a call after one warm-up."""
    call()
    spent = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        spent.append(time.perf_counter() - start)
    return statistics.median(spent)


def alternating(*calls: Callable[[], Any], runs: int = 5) -> list[float]:
    """Median seconds of the processor of calls that take turns, after one warm-up; of use where others compute too."""
    spent: list[list[float]] = [[] for _ in calls]
    for run in range(runs + 1):
        for call, seconds in zip(calls, spent, strict=True):
            start = time.process_time()
            call()
            if run:
                seconds.append(time.process_time() - start)
    return [statistics.median(one) for one in spent]


def recording(folder: Path) -> None:
    import mne

    import bayesinv as bi

    mne.set_log_level("error")
    warnings.simplefilter("ignore")
    evoked = mne.read_evokeds(folder / "sample-right-ave.fif", "Right Auditory").pick(["meg", "eeg"], exclude="bads")
    forward = mne.read_forward_solution(folder / "sample-oct5-fwd.fif")
    covariance = mne.read_cov(folder / "sample-noise-cov.fif")

    def by_mne(given: mne.Evoked = evoked) -> Any:
        operator = mne.minimum_norm.make_inverse_operator(given.info, forward, covariance, fixed=True, depth=None)
        return mne.minimum_norm.apply_inverse(given, operator, 1 / 9, "MNE").data

    def bridge() -> bi.Problem:
        return bi.from_mne(evoked, forward, covariance, tmin=evoked.times[0], baseline=None)

    problem = bridge()

    def ours(model: str = "hierarchical", given: bi.Problem = problem) -> Any:
        given.memory.clear()
        given.shared.clear()
        posterior = bi.infer(model, given)
        return posterior.mean, posterior.sd, posterior.hyper["lambda"].interval(0.9)

    started = time.perf_counter()
    ours()
    first = time.perf_counter() - started

    print(f"{problem.components} components x {problem.source_count} sources x {len(problem.times)} samples")
    slow = median_seconds(by_mne)
    fast = median_seconds(ours)
    way = median_seconds(bridge, 3)
    print(f"MNE-Python make_inverse_operator + apply_inverse: {slow:.2f} s, one map")
    print(f"bayesinv infer + mean + sd + posterior of λ:      {fast:.2f} s, ratio {fast / slow:.3f} (no compiler used)")
    print(f"bayesinv from_mne (read once per recording):      {way:.2f} s")
    print(f"bayesinv, first model of the process:             {first:.2f} s (imports, graphs of the prior)")
    free = bi.from_mne(evoked, forward, covariance, orientation="free", tmin=evoked.times[0], baseline=None)
    for model in ("depth_weighted", "oriented", "sensor_noise", "smooth"):
        given = free if model == "oriented" else problem
        spent = median_seconds(lambda model=model, given=given: ours(model, given), 1)
        print(f"bayesinv {model + ', the same results:':39s}  {spent:.2f} s, {spent / fast:.1f} x hierarchical")
    for kinds in (["meg"], ["meg", "eeg"]):
        some = evoked.copy().pick(kinds)
        # The window after the baseline, from which the noise's colours are learned.
        given = bi.from_mne(some, forward, covariance)
        peer, spent = alternating(lambda some=some: by_mne(some), lambda given=given: ours("temporal", given))
        noise = "one colour" if given.time_whitening is None else f"{given.time_whitening.groups} colours"
        name = f"temporal, {' + '.join(kinds)}, {noise}, {len(given.times)} samples:"
        print(f"bayesinv {name:39s}  {spent:.2f} s, {spent / peer:.2f} x MNE-Python's two calls ({peer:.2f} s)")


def courses() -> None:
    """Print what a recording of more samples costs, in white noise, coloured noise, and with a time constant."""
    import bayesinv as bi

    warnings.simplefilter("ignore")
    print("64 components x 1000 sources; infer + mean + sd + posterior of λ, s")
    print("samples   hierarchical, white   coloured   ratio   temporal")
    for samples in (100, 1000, 10_000):
        white, coloured = (made_of_courses(samples, colour) for colour in ("white", "auto"))

        def ours(model: str, given: bi.Problem) -> Any:
            given.memory.clear()
            given.shared.clear()
            for name in ("time_whitening", "white_recording", "white_baseline"):
                vars(given).pop(name, None)
            posterior = bi.infer(model, given)
            return posterior.mean, posterior.sd, posterior.hyper["lambda"].interval(0.9)

        one, other = (median_seconds(lambda given=given: ours("hierarchical", given)) for given in (white, coloured))
        spent = median_seconds(lambda given=coloured: ours("temporal", given), 1)
        print(f"{samples:7d}   {one:19.3f}   {other:8.3f}   {other / one:5.2f}   {spent:8.2f}")


def made_of_courses(samples: int, noise_time: str) -> Any:
    """Problem of currents that are slower than a sample, in noise of an autoregressive process of second order."""
    from scipy.signal import lfilter

    import bayesinv as bi

    rng, step, quiet, run_in = np.random.default_rng(0), 1 / 600, 200, 200
    gain = rng.standard_normal((64, 1000))
    slow = float(np.exp(-np.sqrt(3) * step / 0.02))
    unit = rng.standard_normal((1000, samples + run_in))
    current = lfilter([1.0], [1.0, -2 * slow, slow**2], unit, axis=1)[:, run_in:]
    noise = lfilter([1.0], [1.0, -0.6, 0.1], rng.standard_normal((64, samples + quiet + run_in)), axis=1)[:, run_in:]
    noise /= noise.std()
    field = gain @ current
    field *= 2 / field.std()
    return bi.Problem.from_arrays(
        gain,
        field + noise[:, quiet:],
        times=step * np.arange(samples),
        baseline=noise[:, :quiet],
        noise_time=noise_time,
    )


def whole_brain() -> None:
    import bayesinv as bi

    rng = np.random.default_rng(0)
    sensors, sources, samples = 306, 20_484, 421
    gain = rng.standard_normal((sensors, sources))
    current = rng.standard_normal((sources, samples)) * 3 / np.sqrt(sources)
    field = gain @ current + rng.standard_normal((sensors, samples))
    problem = bi.Problem.from_arrays(gain, field, baseline=rng.standard_normal((sensors, 120)))

    def floor() -> Any:
        vectors = np.linalg.eigh(gain @ gain.T)[1]
        back = gain.T @ vectors
        return back, gain.T @ field

    def ours(spread: bool = True) -> Any:
        problem.memory.clear()
        problem.shared.clear()
        posterior = bi.infer("hierarchical", problem)
        return posterior.mean, posterior.sd if spread else None, posterior.hyper["lambda"].interval(0.9)

    lowest = median_seconds(floor)
    whole = median_seconds(ours)
    part = median_seconds(lambda: ours(False))
    print(f"{sensors} x {sources} x {samples}")
    print(f"BLAS floor (G Gᵀ, eigh, Uᵀ G, Gᵀ ·):  {lowest:.2f} s")
    print(f"infer + mean + sd + λ:               {whole:.2f} s, ratio {whole / lowest:.2f}")
    print(f"infer + mean + λ:                    {part:.2f} s, ratio {part / lowest:.2f}")
    problem.memory.clear()
    problem.shared.clear()
    peak, outputs = _extra_memory(ours)
    size = gain.nbytes
    print(f"extra memory at the peak: {peak / size:.1f} x the gain, of which results {outputs / size:.1f} x")


def _extra_memory(call: Callable[[], Any]) -> tuple[float, float]:
    """Bytes of resident memory gained at the peak of a call, and bytes of its results."""
    import psutil

    process = psutil.Process()
    before, most, done = process.memory_info().rss, [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            most[0] = max(most[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    results = call()
    done.set()
    watcher.join()
    return float(most[0] - before), float(sum(part.nbytes for part in results if isinstance(part, np.ndarray)))


def imports() -> None:
    def seconds(code: str) -> float:
        def run() -> None:
            subprocess.run([sys.executable, "-c", code], check=True)

        return median_seconds(run, 7)

    base, ours = seconds("import numpy, scipy.linalg, scipy.special"), seconds("import bayesinv")
    print(f"import numpy + scipy: {base:.2f} s; import bayesinv: {ours:.2f} s; more: {ours - base:+.2f} s")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["recording", folder]:
            recording(Path(folder))
        case ["courses"]:
            courses()
        case ["whole-brain"]:
            whole_brain()
        case ["import"]:
            imports()
        case _:
            sys.exit(__doc__)
