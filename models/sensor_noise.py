"""Noise by kind of sensor: how far the given covariance is off is learned for magnetometers, gradiometers, EEG.

    current[s, t] ~ Normal(0, scale²)       scale ~ source_scale(problem)
    recording     ~ Normal(gain @ current, N)           baseline ~ Normal(0, N)
    N             = the given noise covariance, sensors of kind k scaled by noise_of[k]
    noise_of[k]   = noise, for the first kind;  noise ratio[k], for each other
    noise         ~ noise_scale(problem); so is ratio

It wants the noise covariance and the kinds of its sensors. One source prior serves all kinds, so that a kind whose
covariance is wrong no longer biases the others. The baseline determines the noise scales.

References: Henson, Mouchlianitis & Friston (2009), NeuroImage 47, 581-589; Engemann & Gramfort (2015), NeuroImage 108.
"""

import pymc as pm

from bayesinv import Currents, Problem, noise_scale, source_scale


def model(problem: Problem) -> pm.Model:
    with pm.Model(coords=problem.coords) as built:
        noise = noise_scale(problem)
        scale = source_scale(problem)
        others = [noise_scale(problem, f"ratio_{kind}") for kind in problem.kinds[1:]]
        each = noise * pm.math.stack([1.0, *others])
        pm.Deterministic("noise_of", each, dims="kind")
        Currents(scale**2).observe("recording", problem, noise=each)
    return built
