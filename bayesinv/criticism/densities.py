"""Log densities of components and blocks of a recording, left out or given."""

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
    """What the rest of the recording leaves open of a component, or along a direction, at given hyperparameters.

        q_i = a_iᵀ C⁻¹ a_i,   r_it = a_iᵀ C⁻¹ y_t,   C = variance G D Gᵀ + noise² N

    Without directions, y_it given all other components is normal with precision q_i, and r_it / q_i is how far it is
    from its mean. Along a_i, r_it / sqrt(q_i) is the standard normal statistic of whether something was added there.

    along : (component, direction); None takes the components themselves

    Returns residuals r (direction, time) and precisions q (direction, 1); where courses are correlated over time,
    in their independent modes, (direction, mode) both, and a component is left out with its whole course.

    References: Sundararajan & Keerthi (2001), Neural Comput. 13, 1103-1118; Cook & Weisberg (1982), Residuals and
    Influence in Regression, §2.2 (the mean shift).
    """
    inward = spectrum.to_components if along is None else along.T @ spectrum.to_components
    total = (variance * spectrum.likelihood.eigenvalues + noise**2).reshape(len(spectrum.values), -1)
    return inward @ (spectrum.coefficients / total), inward**2 @ (1 / total)


def component_densities(posterior: Posterior, count: int) -> Array:
    """Log density of each component's course given all others', at equally weighted hyperparameters.

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

    Samples that are independent given the hyperparameters know nothing of each other; where courses are correlated
    over time a block is conditioned on what lies before and behind.

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
    """Every draw and its spectrum; draws of one structure come together."""
    for n in np.argsort(scales.which, kind="stable"):
        yield int(n), Spectrum.of(posterior.problem, scales.structures[scales.which[n]])
