"""Currents informed by fMRI: how far maps of another modality tell where currents are large is learned.

    current[s, t] ~ Normal(0, scale² D_s)   log D_s = Σ_k weight_k map_ks, trace kept
    weight_k      ~ Normal(0, 1)            scale ~ source_scale(problem)
    recording     ~ Normal(gain @ current, noise²)      baseline ~ Normal(0, noise²)
    noise         ~ noise_scale(problem)

The maps are those of the problem (`problem.with_maps`), standardised over the sources. The prior of a weight is
centred on 0: a map that is not informative gets no weight, and one that is wrong gets a negative one.

References: Liu, Belliveau & Dale (1998), PNAS 95, 8945-8950; Henson et al. (2010), Hum. Brain Mapp. 31, 1512-1531.
"""

import pymc as pm

from bayesinv import Currents, Problem, noise_scale, source_scale


def model(problem: Problem) -> pm.Model:
    if not problem.maps:
        raise ValueError("there is no map; give some with problem.with_maps({'fmri': values})")
    with pm.Model(coords=problem.coords) as built:
        noise = noise_scale(problem)
        scale = source_scale(problem)
        weights = [pm.Normal(f"weight_{name}", 0.0, 1.0) for name in problem.maps]
        log_variance = sum(weight * values for weight, values in zip(weights, problem.maps.values(), strict=True))
        Currents(scale**2, weights=pm.math.exp(log_variance)).observe("recording", problem, noise=noise)
    return built
