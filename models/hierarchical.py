"""Hierarchical minimum norm: source and noise scales are learned, and with them λ = noise² / scale².

    current[s, t] ~ Normal(0, scale²)       scale ~ source_scale(problem)
    recording     ~ Normal(gain @ current, noise²)      baseline ~ Normal(0, noise²)
    noise         ~ noise_scale(problem)

The baseline pins the noise. Without one the prior must, for a response can be explained by noise alone.

References: MacKay (1992), Neural Comput. 4, 415-447; Gelman (2006), Bayesian Anal. 1, 515-534.
"""

import pymc as pm

from bayesinv import Currents, Problem, noise_scale, source_scale


def model(problem: Problem) -> pm.Model:
    with pm.Model(coords=problem.coords) as built:
        noise = noise_scale(problem)
        scale = source_scale(problem)
        Currents(variance=scale**2).observe("recording", problem, noise=noise)
    return built
