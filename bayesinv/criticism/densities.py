"""Leave-one-out log densities of components and blocks of a recording."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from bayesinv.axes import Array
from bayesinv.criticism.draws import drawn
from bayesinv.evidence.gaussian import LOG_2PI
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.posterior.mixture import Mixture
from bayesinv.posterior.posterior import Posterior


def left_out(spectrum: Spectrum, variance: float, noise: float, along: Array | None = None) -> tuple[Array, Array]:
    """Return leave-one-out residuals and precisions of components, or along directions, at given hyperparameters.

        q_i = a_iᵀ C⁻¹ a_i,   r_it = a_iᵀ C⁻¹ y_t,   C = variance G D Gᵀ + noise² N

    Without directions, y_it given all other components is normal with precision q_i, and r_it / q_i is its
    deviation from its mean. Along a_i, r_it / sqrt(q_i) is the standard normal test statistic of a mean shift.

    along : (component, direction); None takes the components themselves

    Returns residuals r (direction, time) and precisions q (direction, 1); where time courses are
    correlated, both are in their independent modes, (direction, mode), and a component is left out at all times.

    References: Sundararajan & Keerthi (2001), Neural Comput. 13, 1103-1118; Cook & Weisberg (1982), Residuals and
    Influence in Regression, §2.2 (the mean shift).
    """
    project = spectrum.to_components if along is None else along.T @ spectrum.to_components
    total = (variance * spectrum.likelihood.eigenvalues + noise**2).reshape(len(spectrum.values), -1)
    return project @ (spectrum.coefficients / total), project**2 @ (1 / total)


def component_densities(posterior: Posterior, count: int) -> Array:
    """Log density of each component's time course given all others', at equally weighted hyperparameters.

    Returns (draw, component).
    """
    scales = drawn(posterior, count)
    out = np.empty((len(scales.noise), posterior.problem.components))
    for n, spectrum in each_spectrum(posterior, scales):
        residual, precision = left_out(spectrum, scales.variance[n], scales.noise[n])
        logs = np.log(precision) - LOG_2PI
        out[n] = 0.5 * np.sum(logs - residual**2 / precision, axis=1)
    return out


def block_densities(posterior: Posterior, count: int, blocks: Sequence[slice]) -> Array:
    """Log density of each block of samples given all other samples, at equally weighted hyperparameters.

    Where time courses are correlated a block is conditioned on the samples before and after it; otherwise samples are
    independent given the hyperparameters.

    Returns (draw, block).

    Reference: Bürkner, Gabry & Vehtari (2021), Comput. Stat. 36, 1243-1261.
    """
    scales = drawn(posterior, count)
    sizes = np.array([block.stop - block.start for block in blocks])
    out = np.empty((len(scales.noise), len(blocks)))
    for n, spectrum in each_spectrum(posterior, scales):
        total = scales.variance[n] * spectrum.likelihood.eigenvalues + scales.noise[n] ** 2
        constant = len(spectrum.values) * LOG_2PI + spectrum.decomposition.log_volume
        if spectrum.modes is None:
            power = np.add.reduceat(spectrum.coefficients**2, [block.start for block in blocks], axis=1)
            out[n] = -0.5 * ((1 / total) @ power + sizes * (np.log(total).sum() + constant))
            continue
        modes, inverse = spectrum.modes[1], 1 / total.reshape(len(spectrum.values), -1)
        residual = (spectrum.coefficients * inverse) @ modes.T
        for k, block in enumerate(blocks):
            inside = modes[block]
            precision = np.matmul(inside * inverse[:, None, :], inside.T)
            root = np.linalg.cholesky(precision)
            white = np.linalg.solve(root, residual[:, block, None])
            logs = 2 * np.log(np.diagonal(root, axis1=1, axis2=2)).sum()
            out[n, k] = 0.5 * (logs - np.sum(white**2) - sizes[k] * constant)
    return out


def each_spectrum(posterior: Posterior, scales: Mixture) -> Iterator[tuple[int, Spectrum]]:
    """Yield every draw and its spectrum; draws of one structure follow each other."""
    for n in np.argsort(scales.which, kind="stable"):
        yield int(n), Spectrum.of(posterior.problem, scales.structures[scales.which[n]])
