"""Currents over time: their courses are correlated, and the time constant is learned, in seconds.

    current       ~ MatrixNormal(0, scale² 1, K)        K_tu = (1 + d) exp(-d),  d = sqrt(3) |t - u| / constant
    constant      ~ time_constant(problem)
    scale         ~ source_scale(problem)
    recording     ~ Normal(gain @ current, noise²)      baseline ~ Normal(0, noise²), correlated as the noise is
    noise         ~ noise_scale(problem)

It wants equally spaced samples. Models without a time constant give currents the noise's correlation over time; a
response that is slower than the noise they count many times over, with too narrow intervals of its scale. Here
neighbouring samples inform each other as the response does. K is Matérn with ν = 3/2. Other priors take a time constant
as well: `Currents(..., time=constant)`.

References: Bijma, de Munck & Heethaar (2005), NeuroImage 27, 402-415; Stegle et al. (2011), NeurIPS 24 (the algebra).
"""

import pymc as pm

from bayesinv import Currents, Problem, noise_scale, source_scale, time_constant


def model(problem: Problem) -> pm.Model:
    with pm.Model(coords=problem.coords) as built:
        noise = noise_scale(problem)
        scale = source_scale(problem)
        constant = time_constant(problem)
        Currents(scale**2, time=constant).observe("recording", problem, noise=noise)
    return built
