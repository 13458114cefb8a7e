"""Effective draws of λ per second: NUTS with the currents integrated out against NUTS on the currents themselves.

python tests/benchmarks/nuts.py [SAMPLES]   1000 currents, 60 sensors; compilation is timed apart
"""

from __future__ import annotations

import sys
import time
import warnings
from typing import Any

import numpy as np


def sample(model: Any, draws: int, tune: int) -> tuple[float, float, float]:
    """Seconds of compilation and of sampling, and effective draws of log λ."""
    import arviz_stats
    import nutpie
    import xarray as xr

    from bayesinv.inference.chains import as_tree

    start = time.perf_counter()
    compiled = nutpie.compile_pymc_model(model)
    compilation = time.perf_counter() - start
    start = time.perf_counter()
    tree = as_tree(nutpie.sample(compiled, draws=draws, tune=tune, chains=2, cores=2, seed=1, progress_bar=False))
    sampling = time.perf_counter() - start
    table = tree["posterior"].to_dataset()
    log_lambda = 2 * np.log(table["noise"]) - 2 * np.log(table["scale"])
    effective = float(arviz_stats.ess(xr.Dataset({"log_lambda": log_lambda}))["log_lambda"])
    return compilation, sampling, effective


def main(samples: int) -> None:
    import pymc as pm

    import bayesinv as bi

    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    gain = rng.standard_normal((60, 1000))
    current = 0.3 * rng.standard_normal((1000, samples))
    noise = rng.standard_normal((60, samples + 40))
    problem = bi.Problem.from_arrays(gain, gain @ current + noise[:, :samples], baseline=noise[:, samples:])
    marginal = bi.load_model("hierarchical")(problem)
    with pm.Model(coords=problem.coords) as latent:
        level = pm.LogNormal("noise", 0.0, 0.5)
        scale = pm.HalfNormal("scale", problem.scale_guess)
        explicit = bi.Currents(variance=scale**2).latent("current", problem)
        pm.Normal("recording", pm.math.dot(problem.gain, explicit), level, observed=problem.recording)
        pm.Normal("baseline", 0.0, level, observed=problem.baseline)
    rates = []
    for name, model, draws in (("currents integrated out", marginal, 5000), ("1000 currents sampled", latent, 300)):
        compilation, sampling, effective = sample(model, draws, 300)
        rates.append(effective / sampling)
        print(
            f"{name}: compilation {compilation:.1f} s, sampling {sampling:.2f} s, "
            f"{effective:.0f} effective draws of λ, {rates[-1]:.1f} per second"
        )
    print(f"ratio {rates[0] / rates[1]:.0f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
