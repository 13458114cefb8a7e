"""Smooth currents: a Matérn field on the cortex whose length-scale is learned, in metres.

    current[:, t] ~ Normal(0, scale² Q(length))         Q_ss = 1, Matérn (ν = 1) along the surface; trace kept
    length        = 5 mm · 20^u, u ~ Uniform(0, 1)      (up to 100 mm; the correlation at this distance is 0.14)
    scale         ~ source_scale(problem)
    recording     ~ Normal(gain @ current, noise²)      baseline ~ Normal(0, noise²)
    noise         ~ noise_scale(problem)

It wants sources with triangles. The hemispheres are independent. On a coarse cortex neighbours are a little less
correlated than on a fine one, so that a length near the spacing of the sources comes out somewhat long.

References: Lindgren, Rue & Lindström (2011), J. R. Stat. Soc. B 73, 423-498.
"""

import pymc as pm

from bayesinv import Currents, Problem, noise_scale, source_scale


def model(problem: Problem) -> pm.Model:
    low, high = problem.length_range
    with pm.Model(coords=problem.coords) as built:
        noise = noise_scale(problem)
        scale = source_scale(problem)
        extent = pm.Uniform("extent", 0.0, 1.0)
        length = pm.Deterministic("length", low * (high / low) ** extent)
        Currents(scale**2, length=length).observe("recording", problem, noise=noise)
    return built
