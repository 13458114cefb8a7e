"""Currents over time: their courses are correlated, and the time constant is learned, in seconds.

    current       ~ MatrixNormal(0, scale² 1, K)        K_tu = (1 + d) exp(-d),  d = sqrt(3) |t - u| / constant
    log constant  ~ Normal(log 20 ms, 1), between half a sample and five times the recording
    scale         ~ source_scale(problem)
    recording     ~ Normal(gain @ current, noise²)      baseline ~ Normal(0, noise²), correlated as the noise is
    noise         ~ noise_scale(problem)

It wants equally spaced samples. Models without a time constant give currents the noise's correlation over time; a
response that is slower than the noise they count many times over, with too narrow intervals of its scale. Here
neighbouring samples inform each other as the response does. K is Matérn with ν = 3/2.

References: Bijma, de Munck & Heethaar (2005), NeuroImage 27, 402-415; Stegle et al. (2011), NeurIPS 24 (the algebra).
"""

import numpy as np
import pymc as pm

from bayesinv import Currents, Problem, noise_scale, source_scale


def model(problem: Problem) -> pm.Model:
    if len(problem.times) < 3:
        raise ValueError(f"a time constant wants at least 3 samples, but there are {len(problem.times)}")
    step = float(np.ptp(problem.times)) / (len(problem.times) - 1)
    low, high = 0.5 * step, 5.0 * float(np.ptp(problem.times))
    middle = float(np.clip(np.log(0.02), np.log(1.1 * low), np.log(0.9 * high)))
    with pm.Model(coords=problem.coords) as built:
        noise = noise_scale(problem)
        scale = source_scale(problem)
        slow = pm.TruncatedNormal("log_constant", middle, 1.0, lower=np.log(low), upper=np.log(high))
        constant = pm.Deterministic("constant", pm.math.exp(slow))
        Currents(scale**2, time=constant).observe("recording", problem, noise=noise)
    return built
