"""Horseshoe: every place has a scale of its own, which most hold near zero and few let be as large as it likes.

    current[s, t] ~ Normal(0, scale² local_s²)          one local scale for all samples, and for a place's axes
    local_s       ~ half-Cauchy(1)                      scale ~ global_scale(problem)
    recording     ~ Normal(gain @ current, noise²)      baseline ~ Normal(0, noise²)
    noise         ~ noise_scale(problem)

For activity that is somewhere and not everywhere, of unknown extent: no number of sources and no patches are stated.
Currents where nothing asks for them are shrunk towards zero, those that are large are not. Local scales, scale and
noise are sampled, currents are integrated exactly. Courses have the noise's correlation over time.

References: Carvalho, Polson & Scott (2010), Biometrika 97, 465-480; Polson & Scott (2012), Bayesian Anal. 7, 887-902.
"""

import pymc as pm

from bayesinv import Currents, Problem, global_scale, noise_scale


def model(problem: Problem) -> pm.Model:
    with pm.Model(coords=problem.coords) as built:
        noise = noise_scale(problem)
        scale = global_scale(problem)
        Currents(scale**2, local="half_cauchy").observe("recording", problem, noise=noise)
    return built
