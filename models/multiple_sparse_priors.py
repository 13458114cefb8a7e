"""Multiple sparse priors: every parcel of the cortex has a variance of its own, and most should be small.

    current[s, t] ~ Normal(0, scale² h[parcel of s])    trace kept
    log h[k]      ~ Normal(0, spread²)                  spread ~ HalfNormal(2)
    scale         ~ source_scale(problem)
    recording     ~ Normal(gain @ current, noise²)      baseline ~ Normal(0, noise²)
    noise         ~ noise_scale(problem)

The parcels are those of the problem, or `parcels` makes some. `spread` shrinks them towards each other where the
recording does not distinguish them, which keeps hundreds of variances from following the noise. At the joint mode of
spread and shares the spread is far too large: it is integrated on a lattice, with short chains of the shares.

References: Friston et al. (2008), NeuroImage 39, 1104-1120; Wipf & Nagarajan (2009), NeuroImage 44, 947-966.
"""

import pymc as pm

from bayesinv import Currents, Problem, noise_scale, source_scale


def model(problem: Problem) -> pm.Model:
    labels = problem.parcels
    with pm.Model(coords={**problem.coords, "parcel": range(labels.max() + 1)}) as built:
        noise = noise_scale(problem)
        scale = source_scale(problem)
        spread = pm.HalfNormal("spread", 2.0)
        raw = pm.Normal("raw", 0.0, 1.0, dims="parcel")
        shares = pm.Deterministic("share", pm.math.exp(spread * raw), dims="parcel")
        Currents(scale**2, components=labels, shares=shares).observe("recording", problem, noise=noise)
    return built
