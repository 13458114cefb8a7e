"""Log density of the recording's samples at hyperparameters of a posterior."""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_triangular

from bayesinv.axes import Array
from bayesinv.covariance.time_modes import TimeModes
from bayesinv.evidence.gaussian import LOG_2PI
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.posterior.mixture import Mixture
from bayesinv.problem.problem import Problem


def sample_log_density(problem: Problem, nodes: Mixture) -> Array:
    """Return the log density (node, time) of each sample of the whitened recording at the nodes of a mixture.

    Where time courses are correlated it is that of a sample given those before it; where the noise of MEG and EEG
    differs in colour as well, it is that of each independent mode of time in place of a sample.
    """
    out = np.empty((len(nodes.noise), len(problem.times)))
    for k in np.unique(nodes.which):
        members = nodes.which == k
        spectrum = Spectrum.of(problem, nodes.structures[k])
        out[members] = _of_structure(spectrum, nodes.variance[members], nodes.noise[members])
    return out


def _of_structure(spectrum: Spectrum, variance: Array, noise: Array) -> Array:
    modes = spectrum.modes
    if modes is None:
        totals = variance[:, None] * spectrum.values + noise[:, None] ** 2
        volume = spectrum.decompositions[0].log_volume
        constant = np.log(totals).sum(axis=1, keepdims=True) + totals.shape[1] * LOG_2PI + volume
        density = -0.5 * ((1 / totals) @ spectrum.white_coefficients**2 + constant)
        whitening = spectrum.problem.time_whitening
        return np.asarray(density if whitening is None else density - whitening.log_diagonals.sum(axis=0))
    if len(modes.blocks) > 1:
        return _of_modes(spectrum, modes, variance, noise)
    volume = spectrum.decompositions[0].log_volume
    coefficients = spectrum.coefficients @ modes.from_modes.T
    signal = (modes.from_modes * modes.powers) @ modes.from_modes.T
    correlation = modes.from_modes @ modes.from_modes.T
    out = np.full((len(variance), len(signal)), -0.5 * (len(spectrum.values) * LOG_2PI + volume))
    for n, (scale, noise_scale) in enumerate(zip(variance, noise, strict=True)):
        for value, course in zip(spectrum.values, coefficients, strict=True):
            # Solving with the Cholesky factor gives each sample's innovation: what those before it do not predict.
            root = np.linalg.cholesky(scale * value * signal + noise_scale**2 * correlation)
            innovation = solve_triangular(root, course, lower=True)
            out[n] -= 0.5 * innovation**2 + np.log(np.diag(root))
    return out


def _of_modes(spectrum: Spectrum, modes: TimeModes, variance: Array, noise: Array) -> Array:
    components, count = spectrum.coefficients.shape
    volumes = [
        np.full(block.stop - block.start, one.log_volume)
        for one, block in zip(spectrum.decompositions, modes.blocks, strict=True)
    ]
    constant = components * (LOG_2PI + modes.log_volume / count) + np.concatenate(volumes)
    out = np.empty((len(variance), count))
    for n, (scale, noise_scale) in enumerate(zip(variance, noise, strict=True)):
        total = scale * spectrum.eigenvalues + noise_scale**2
        out[n] = -0.5 * (np.sum(spectrum.coefficients**2 / total + np.log(total), axis=0) + constant)
    return out
