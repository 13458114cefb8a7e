"""Log density of the recording's samples at hyperparameters of a posterior."""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular

from bayesinv.axes import Array
from bayesinv.evidence.gaussian import LOG_2PI
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.posterior.mixture import Mixture
from bayesinv.problem.problem import Problem


def sample_log_density(problem: Problem, nodes: Mixture) -> Array:
    """Return the log density (node, time) of each sample of the whitened recording at the nodes of a mixture.

    Where time courses are correlated it is that of a sample given those before it.
    """
    out = np.empty((len(nodes.noise), len(problem.times)))
    for k in np.unique(nodes.which):
        members = nodes.which == k
        spectrum = Spectrum.of(problem, nodes.structures[k])
        out[members] = _of_structure(spectrum, nodes.variance[members], nodes.noise[members])
    return out


def _of_structure(spectrum: Spectrum, variance: Array, noise: Array) -> Array:
    volume = spectrum.decomposition.log_volume
    if spectrum.modes is None:
        totals = variance[:, None] * spectrum.values + noise[:, None] ** 2
        constant = np.log(totals).sum(axis=1, keepdims=True) + totals.shape[1] * LOG_2PI + volume
        return np.asarray(-0.5 * ((1 / totals) @ spectrum.coefficients**2 + constant))
    powers, modes = spectrum.modes
    coefficients = spectrum.coefficients @ modes.T
    correlation = (modes * powers) @ modes.T
    out = np.full((len(variance), len(modes)), -0.5 * (len(spectrum.values) * LOG_2PI + volume))
    for n, (scale, noise_scale) in enumerate(zip(variance, noise, strict=True)):
        for value, course in zip(spectrum.values, coefficients, strict=True):
            # Solving with the Cholesky factor gives each sample's innovation: what those before it do not predict.
            root = np.linalg.cholesky(scale * value * correlation + noise_scale**2 * np.eye(len(modes)))
            innovation = solve_triangular(root, course, lower=True)
            out[n] -= 0.5 * innovation**2 + np.log(np.diag(root))
    return out
