"""Minimum norm: both scales are given, and the mean of the posterior is the classical estimate.

    current[s, t] ~ Normal(0, scale²)       scale such that the expected amplitude SNR is 3
    recording     ~ Normal(gain @ current, 1)

With nothing left to learn the posterior of the currents is one exact Gaussian. Its mean is the Tikhonov estimate
with λ = 1 / scale², which is MNE-Python's for `lambda2 = 1 / 3²`.

References: Hämäläinen & Ilmoniemi (1994), Med. Biol. Eng. Comput. 32, 35-42.
"""

import pymc as pm

from bayesinv import Currents, Problem


def model(problem: Problem) -> pm.Model:
    with pm.Model(coords=problem.coords) as built:
        Currents(variance=problem.scale_guess**2).observe("recording", problem, noise=1.0)
    return built
