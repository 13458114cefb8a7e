"""Focal sources: a few patches of cortex, of unknown number, place, extent and strength, above weak dense currents.

    current     = dense + Σ_k b_k s_k                   b_k a place, or a patch around it, and those next to it
    dense[s, t] ~ Normal(0, scale²)                     scale ~ source_scale(problem)
    number of sources ~ BetaBinomial(12), 3 expected;   places uniform by area
    s_k         ~ Normal(0, strength_k² T)              strength_k ~ half-Cauchy; T Matérn, its time constant learned
    recording   ~ Normal(gain @ current, noise²)        baseline ~ Normal(0, noise²)
    noise       ~ noise_scale(problem)

For activity that is somewhere and not everywhere: a Gaussian prior over all sources spreads a focal source over
thousands of places, and its intervals hold none of it. Which sources are active is sampled, currents and their courses
are integrated exactly. Its posterior has a number of sources (`count`), and what is known of each (`foci`).

References: Sommariva & Sorrentino (2014), Inverse Probl. 30, 114020; Mitchell & Beauchamp (1988), J. Am. Stat. Assoc.
83, 1023-1032; Liu (1994), J. Am. Stat. Assoc. 89, 958-966 (collapsed Gibbs sampling).
"""

import pymc as pm

from bayesinv import Currents, Patches, Problem, noise_scale, source_scale


def model(problem: Problem) -> pm.Model:
    with pm.Model(coords=problem.coords) as built:
        noise = noise_scale(problem)
        scale = source_scale(problem)
        Currents(scale**2, focal=Patches(problem)).observe("recording", problem, noise=noise)
    return built
