"""Hierarchical minimum norm: source and noise scales are learned, and with them λ = noise² / scale².

    current[s, t] ~ Normal(0, scale²)       scale ~ HalfNormal(problem.scale_guess)
    recording     ~ Normal(gain @ current, noise²)      baseline ~ Normal(0, noise²)
    noise         ~ LogNormal(0, 0.5) where there is a baseline, LogNormal(0, 0.1) where there is none

The baseline pins the noise. Without one the prior must, for a response can be explained by noise alone.

References: MacKay (1992), Neural Comput. 4, 415-447; Gelman (2006), Bayesian Anal. 1, 515-534.
"""

import pymc as pm

from bayesinv import Currents, Problem


def model(problem: Problem) -> pm.Model:
    with pm.Model(coords=problem.coords) as built:
        noise = pm.LogNormal("noise", 0.0, 0.1 if problem.baseline is None else 0.5)
        scale = pm.HalfNormal("scale", problem.scale_guess)
        Currents(variance=scale**2).observe("recording", problem, noise=noise)
    return built
