"""Leave-one-out log densities of components and blocks of a recording."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from scipy.linalg import solve_triangular

from bayesinv.axes import Array
from bayesinv.criticism.draws import drawn, thinned
from bayesinv.criticism.focal_replicates import focal_left_out
from bayesinv.evidence.active import FocalRecording
from bayesinv.evidence.active_modes import FocalBasis, FocalModes
from bayesinv.evidence.gaussian import CHUNK, LOG_2PI
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.posterior.focal import FocalGaussians, nodes_of
from bayesinv.posterior.mixture import Mixture
from bayesinv.posterior.posterior import Posterior
from bayesinv.problem.problem import Problem
from bayesinv.problem.time_whitening import several_colours


def left_out(spectrum: Spectrum, variance: float, noise: float, along: Array | None = None) -> tuple[Array, Array]:
    """Return leave-one-out residuals and precisions of components, or along directions, at given hyperparameters.

        q_i = a_iᵀ C⁻¹ a_i,   r_it = a_iᵀ C⁻¹ y_t,   C = variance G D Gᵀ + noise² N

    Without directions, y_it given all other components is normal with precision q_i, and r_it / q_i is its
    deviation from its mean. Along a_i, r_it / sqrt(q_i) is the standard normal test statistic of a mean shift.

    along : (component, direction); None takes the components themselves

    Returns residuals r (direction, time) of the recording whose noise is white over time, and precisions q
    (direction, 1); where time courses are correlated, both are in their independent modes, (direction, mode), and a
    component is left out at all times.

    References: Sundararajan & Keerthi (2001), Neural Comput. 13, 1103-1118; Cook & Weisberg (1982), Residuals and
    Influence in Regression, §2.2 (the mean shift).
    """
    total = variance * spectrum.eigenvalues + noise**2
    solved = spectrum.white_coefficients / total
    residual, precision = [], []
    for one, block in zip(spectrum.decompositions, spectrum.blocks, strict=True):
        project = one.to_components if along is None else along.T @ one.to_components
        residual.append(project @ solved[:, block])
        precision.append(project**2 @ (1 / (total if total.shape[1] == 1 else total[:, block])))
    return np.hstack(residual), np.hstack(precision)


def component_densities(posterior: Posterior, count: int) -> Array:
    """Log density of each component's time course given all others', at equally weighted hyperparameters.

    Returns (draw, component).
    """
    if posterior.active is not None:
        return focal_component_densities(posterior, count)
    scales = drawn(posterior, count)
    out = np.empty((len(scales.noise), posterior.problem.components))
    for n, spectrum in each_spectrum(posterior, scales):
        residual, precision = left_out(spectrum, scales.variance[n], scales.noise[n])
        logs = np.log(precision) - LOG_2PI
        out[n] = 0.5 * np.sum(logs - residual**2 / precision, axis=1) - 0.5 * _log_volume(spectrum)
    return out


def focal_component_densities(posterior: Posterior, count: int) -> Array:
    """The same of a posterior with focal sources: (draw, component). A component is left out at all times."""
    problem, samples = posterior.problem, posterior.problem.recording.shape[1]
    whitening = problem.time_whitening
    volume = 0.0 if whitening is None else whitening.log_volumes
    nodes = nodes_of(posterior.conditionals)
    picked = thinned(len(posterior.mixture.weights), posterior.hyper.chains, count)
    out = np.empty((len(picked), problem.components))
    for row, n in enumerate(picked):
        gaussians, node = nodes[int(n)]
        residual, precision, outside = focal_left_out(gaussians, node)
        out[row] = 0.5 * np.sum(np.log(precision) - residual**2 / precision, axis=1) - 0.5 * outside
        out[row] -= (samples - precision.shape[1]) * np.log(node.noise)
    return out - 0.5 * (samples * LOG_2PI + volume)


def component_log_density(spectrum: Spectrum, component: int, variance: Array, noise: Array) -> Array:
    """Log density (node,) of a component's time course given all others', at source variances and noise scales (node,).

    The same as `component_densities` of one component, for many hyperparameters of one structure.
    """
    white, out = spectrum.white_coefficients, np.empty(len(variance))
    rows = [one.to_components[component] for one in spectrum.decompositions]
    step = max(1, CHUNK // (len(white) if spectrum.modes is None else white.size))
    for start in range(0, len(variance), step):
        some = slice(start, start + step)
        inverse = 1 / (variance[some, None, None] * spectrum.eigenvalues + noise[some, None, None] ** 2)
        if spectrum.modes is None:
            precision = inverse[:, :, 0] @ rows[0][:, None] ** 2
            residual = (inverse[:, :, 0] * rows[0]) @ white
        else:
            pairs = list(zip(rows, spectrum.blocks, strict=True))
            precision = np.hstack([np.tensordot(inverse[:, :, block], row**2, (1, 0)) for row, block in pairs])
            residual = np.hstack([np.tensordot((inverse * white)[:, :, block], row, (1, 0)) for row, block in pairs])
        logs = np.log(precision) * (residual.shape[1] / precision.shape[1])
        out[some] = 0.5 * (logs.sum(axis=1) - np.sum(residual**2 / precision, axis=1))
    volume = np.broadcast_to(_log_volume(spectrum), len(rows[0]))[component]
    return out - 0.5 * (white.shape[1] * LOG_2PI + volume)


def _log_volume(spectrum: Spectrum) -> Array | float:
    """Log determinant of the noise's correlation over time, of one component or of each: (component,) or a number."""
    if spectrum.modes is not None:
        return spectrum.modes.log_volume
    whitening = spectrum.problem.time_whitening
    return 0.0 if whitening is None else whitening.log_volumes


def block_densities(posterior: Posterior, count: int, blocks: Sequence[slice]) -> Array:
    """Log density of each block of samples given all other samples, at equally weighted hyperparameters.

    Where time courses are correlated a block is conditioned on the samples before and after it; otherwise samples are
    independent given the hyperparameters.

    Returns (draw, block).

    Raises
    ------
    ValueError
        If noise is of several colours: samples whitened by one are not independent of what another one whitens.

    Reference: Bürkner, Gabry & Vehtari (2021), Comput. Stat. 36, 1243-1261.
    """
    if several_colours(posterior.problem.time_whitening):
        raise ValueError(
            "blocks of samples of MEG and EEG whose noise differs in colour are left out by integrating the model "
            "again; let refit be 'auto' or 'always', or leave out components"
        )
    if posterior.active is not None:
        return focal_block_densities(posterior, count, blocks)
    scales = drawn(posterior, count)
    sizes = np.array([block.stop - block.start for block in blocks])
    out = np.empty((len(scales.noise), len(blocks)))
    whitened: dict[int, tuple[Array, float]] = {}
    for n, spectrum in each_spectrum(posterior, scales):
        total = scales.variance[n] * spectrum.eigenvalues + scales.noise[n] ** 2
        constant = len(spectrum.values) * LOG_2PI + spectrum.decompositions[0].log_volume
        if spectrum.modes is None:
            if not whitened:
                whitened = dict(enumerate(_conditioned(posterior.problem, blocks)))
            for k, (white, logs) in whitened.items():
                power = float(np.sum(spectrum.projected(white) ** 2 / total))
                out[n, k] = 0.5 * (logs - power - sizes[k] * (np.log(total).sum() + constant))
            continue
        modes, inverse = spectrum.modes.to_modes, 1 / total
        residual = (spectrum.coefficients * inverse) @ modes.T
        for k, block in enumerate(blocks):
            inside = modes[block]
            precision = np.matmul(inside * inverse[:, None, :], inside.T)
            root = np.linalg.cholesky(precision)
            white = np.linalg.solve(root, residual[:, block, None])
            logs = 2 * np.log(np.diagonal(root, axis1=1, axis2=2)).sum()
            out[n, k] = 0.5 * (logs - np.sum(white**2) - sizes[k] * constant)
    return out


def focal_block_densities(posterior: Posterior, count: int, blocks: Sequence[slice]) -> Array:
    """The same of a posterior with focal sources: (draw, block), the density of all samples over that of the others.

    Without a block courses have other modes of time, of which each time constant has its own.
    """
    nodes, rests = nodes_of(posterior.conditionals), [without(posterior.problem, block) for block in blocks]
    picked = thinned(len(posterior.mixture.weights), posterior.hyper.chains, count)
    recordings: dict[int, list[FocalRecording]] = {}
    out = np.empty((len(picked), len(blocks)))
    for row, n in enumerate(picked):
        gaussians, node = nodes[int(n)]
        if id(gaussians) not in recordings:
            recordings[id(gaussians)] = [_rest_of(gaussians, rest) for rest in rests]
        columns, scales = np.ascontiguousarray(node.fields.T), (node.variance, node.noise, node.error)
        whole = sum(node.recording.log_densities(columns, *scales))
        out[row] = [whole - sum(one.log_densities(columns, *scales)) for one in recordings[id(gaussians)]]
    return out


def _rest_of(gaussians: FocalGaussians, rest: Problem) -> FocalRecording:
    """Some samples of a recording, in the basis of all of it and in modes of time of their own."""
    modes = FocalModes.of(rest, gaussians.constant)
    basis = FocalBasis(((0,) * modes.classes.shape[1],), gaussians.spectrum.decompositions)
    return FocalRecording.of(rest, basis, modes, baseline=False)


def without(problem: Problem, block: slice) -> Problem:
    """Return the problem of all samples but those of a block; baseline, times and noise stay what they are."""
    retained = np.ones(len(problem.times), dtype=bool)
    retained[block] = False
    rest = problem.again(
        problem.recording[:, retained], problem.times[retained], problem.baseline, problem.baseline_centred
    )
    # Where a first block is left out the baseline does not move towards what is then the first sample.
    before = problem.times_of_baseline if problem.baseline is not None else None
    timed = replace(rest, baseline_times=before, corrected_times=problem.corrected_times)
    timed.share(problem)
    return timed


def _conditioned(problem: Problem, blocks: Sequence[slice]) -> list[tuple[Array, float]]:
    """Each block of a recording given its other samples, and made white over time; with the log of its precision.

    A block of noise of correlation K, given the others, has precision (K⁻¹)_bb = R Rᵀ; R⁻¹ (K⁻¹ y)_b is white.
    """
    whitening = problem.time_whitening
    if whitening is None:
        return [(problem.recording[:, block], 0.0) for block in blocks]
    inverse = whitening.inverses[0].T @ whitening.inverses[0]
    solved, found = problem.recording @ inverse, []
    for block in blocks:
        root = np.linalg.cholesky(inverse[block, block])
        white = solve_triangular(root, solved[:, block].T, lower=True).T
        found.append((white, 2 * problem.components * float(np.log(np.diag(root)).sum())))
    return found


def each_spectrum(posterior: Posterior, scales: Mixture) -> Iterator[tuple[int, Spectrum]]:
    """Yield every draw and its spectrum; draws of one structure follow each other."""
    for n in np.argsort(scales.which, kind="stable"):
        yield int(n), Spectrum.of(posterior.problem, scales.structures[scales.which[n]])
