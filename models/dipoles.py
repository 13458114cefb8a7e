"""Dipoles: a few point sources, of unknown number, anywhere between the places of the grid, above weak dense currents.

    current     = dense + Σ_k b_k s_k                   b_k a place, with shares of those next to it
    dense[s, t] ~ Normal(0, scale²)                     scale ~ source_scale(problem)
    number of dipoles ~ BetaBinomial(12), 3 expected;   places uniform over the grid, by volume or area
    s_k         ~ Normal(0, strength_k² T)              strength_k ~ half-Cauchy; T Matérn, its time constant learned
    recording   ~ Normal(gain @ current, noise²)        baseline ~ Normal(0, noise²)
    noise       ~ noise_scale(problem)

For activity that is small against the distance to the sensors, such as a spike's: where it is, in mm and mm³ (`foci`,
`radius`, `volume`), and how strong. With free orientation a dipole has a moment of its own at every sample. It is the
model `focal` without extents; a grid of about 10 mm is fine enough.

References: Sommariva & Sorrentino (2014), Inverse Probl. 30, 114020 (dipoles of unknown number, sampled); Mosher, Lewis
& Leahy (1992), IEEE Trans. Biomed. Eng. 39, 541-557 (several dipoles).
"""

import pymc as pm

from bayesinv import Currents, Patches, Problem, noise_scale, source_scale


def model(problem: Problem) -> pm.Model:
    with pm.Model(coords=problem.coords) as built:
        noise = noise_scale(problem)
        scale = source_scale(problem)
        dipoles = Patches(problem, extents=(0,))
        Currents(scale**2, focal=dipoles).observe("recording", problem, noise=noise)
    return built
