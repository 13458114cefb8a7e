"""Oriented minimum norm: how much currents leave the cortical normal is learned, with depth and scales.

    current[s, :, t] ~ Normal(0, scale² D_s (n nᵀ + tangential (1 - n nᵀ)))     trace kept
    tangential    ~ Uniform(0, 1)           depth ~ Uniform(0, 1)           scale ~ source_scale(problem)
    recording     ~ Normal(gain @ current, noise²)      baseline ~ Normal(0, noise²)
    noise         ~ noise_scale(problem)

It wants free orientation and the normals of the sources. `tangential` is what is known as the loose parameter: 0 for
currents along the normal alone, 1 for none preferred. It is learned where the sensors distinguish orientations.

References: Lin et al. (2006), Hum. Brain Mapp. 27, 1-13; Lin et al. (2006), NeuroImage 31, 160-171.
"""

import pymc as pm

from bayesinv import Currents, Problem, noise_scale, source_scale


def model(problem: Problem) -> pm.Model:
    with pm.Model(coords=problem.coords) as built:
        noise = noise_scale(problem)
        scale = source_scale(problem)
        depth = pm.Uniform("depth", 0.0, 1.0)
        tangential = pm.Uniform("tangential", 0.0, 1.0)
        Currents(scale**2, depth=depth, tangential=tangential).observe("recording", problem, noise=noise)
    return built
