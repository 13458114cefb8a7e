"""Depth-weighted minimum norm: how strongly deep sources are favoured is learned with the scales.

    current[s, t] ~ Normal(0, scale² D_s)   D_s ∝ ‖gain_s‖^(-2 depth), trace kept
    depth         ~ Uniform(0, 1)           scale ~ source_scale(problem)
    recording     ~ Normal(gain @ current, noise²)      baseline ~ Normal(0, noise²)
    noise         ~ noise_scale(problem)

References: Lin et al. (2006), NeuroImage 31, 160-171; Fuchs et al. (1999), J. Clin. Neurophysiol. 16, 267-295.
"""

import pymc as pm

from bayesinv import Currents, Problem, noise_scale, source_scale


def model(problem: Problem) -> pm.Model:
    with pm.Model(coords=problem.coords) as built:
        noise = noise_scale(problem)
        scale = source_scale(problem)
        depth = pm.Uniform("depth", 0.0, 1.0)
        Currents(variance=scale**2, depth=depth).observe("recording", problem, noise=noise)
    return built
