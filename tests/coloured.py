"""Problems whose noise is correlated over time, and the dense normal density that they stand for."""

from __future__ import annotations

import numpy as np
from scipy.linalg import block_diag, toeplitz

import bayesinv as bi
from bayesinv.covariance.time_course import correlation_over_time
from bayesinv.posterior.checks import Evidence
from bayesinv.posterior.hyper import Hyper
from bayesinv.posterior.mixture import Mixture
from bayesinv.posterior.posterior import Posterior
from bayesinv.problem.autocorrelation import Autocorrelation

SLOW, FAST = 0.8 ** np.arange(40), 0.4 ** np.arange(40)
STEP = 0.002


def coloured(groups=1, samples=7, quiet=6, centred=False, sources=9, gap=0):
    """Return a problem of 5 components: EEG and MEG of different colour if groups is 2, else one for all."""
    rng = np.random.default_rng(3)
    kinds = ("mag", "mag", "mag", "eeg", "eeg")
    two = Autocorrelation(np.stack([FAST, SLOW]), STEP, ("meg", "eeg"))
    colour = two if groups == 2 else Autocorrelation(SLOW, STEP)
    baseline = rng.standard_normal((5, quiet)) if quiet else None
    if centred:
        baseline -= baseline.mean(axis=1, keepdims=True)
    problem = bi.Problem.from_arrays(
        rng.standard_normal((5, sources)),
        1.5 * rng.standard_normal((5, samples)),
        np.eye(5),
        times=STEP * (gap + np.arange(samples)),
        baseline=baseline,
        baseline_centred=centred,
        kinds=kinds,
        noise_time=colour,
    )
    return problem if not gap else bi.Problem(**{**fields(problem), "baseline_times": STEP * np.arange(-quiet, 0)})


def fields(problem):
    """Fields of a problem by name, for another that differs in some."""
    from dataclasses import fields as every

    return {one.name: getattr(problem, one.name) for one in every(problem)}


def samples_covariance(problem):
    """Correlation (group, sample, sample) of the noise over baseline and recording, after the baseline's mean went."""
    quiet = 0 if problem.baseline is None else problem.baseline.shape[1]
    times = np.concatenate([problem.times_of_baseline, problem.times])
    lags = np.rint(np.abs(times[:, None] - times[None]) / STEP).astype(int)
    rows = problem.autocorrelation.values
    full = np.stack([np.pad(row, (0, 999))[lags] for row in rows])
    if problem.baseline_centred:
        remove = np.eye(len(times))
        remove[:, :quiet] -= 1 / quiet
        full = remove @ full @ remove.T
    return full[:, :quiet, :quiet], full[:, quiet:, quiet:]


def groups_of(problem):
    """Row of the autocorrelation of each component."""
    return problem.autocorrelation.of_component(problem.noise.component_modality)


def noise_covariance(problem, which=1):
    """Covariance (component × time) of the recording's noise (1) or of the baseline's (0), time running fastest."""
    found = samples_covariance(problem)[which]
    return block_diag(*[found[group] for group in groups_of(problem)])


def time_correlation(problem, constant):
    """Correlation (time, time) of currents with a time constant."""
    return correlation_over_time(problem.times, constant)


def ar(coefficients, shape, rng, burn=500):
    """Autoregressive noise (series, sample) of variance one."""
    from scipy.signal import lfilter

    unit = rng.standard_normal((shape[0], shape[1] + burn))
    found = lfilter([1.0], np.append(1.0, -np.asarray(coefficients)), unit, axis=1)[:, burn:]
    impulse = lfilter([1.0], np.append(1.0, -np.asarray(coefficients)), np.eye(1, 5000)[0])
    return found / np.sqrt(np.sum(impulse**2))


def toeplitz_of(values, size):
    """Toeplitz matrix of an autocorrelation, 0 beyond its last lag."""
    return toeplitz(np.pad(values, (0, size))[:size])


def dense(problem, structure, variance, noise):
    """Covariances of currents (amplitude × time) and recording (component × time), and between them, time fastest.

    They are those of the model: currents without a time constant have the noise's correlation over time, in the view of
    each group of sensors that of its noise; with one, the noise of several groups is that of the shared modes.
    """
    gain, count = problem.gain, len(problem.times)
    prior = variance * structure.product(problem, np.eye(gain.shape[1]))
    root, own = structure.time_root(problem), structure.noise_covariance(problem)
    own = np.eye(len(gain)) if own is None else own
    rows = groups_of(problem)
    if structure.time is None:
        roots = problem.time_whitening.roots[rows]
        seen = np.einsum("itu,jsu->itjs", roots, roots).reshape(len(rows), count, len(rows), count)
        covariance = np.einsum("ij,itjs->itjs", gain @ prior @ gain.T + noise**2 * own, seen)
        crossing = np.einsum("aj,tu,jsu->atjs", prior @ gain.T, root, roots)
    else:
        modes = structure.modes(problem)
        spreads = np.ones((len(gain), count))
        for block, spread in zip(modes.blocks, modes.spreads, strict=True):
            spreads[:, block] = 1.0 if spread is None else spread[:, None]
        back = modes.from_modes
        covariance = noise**2 * np.einsum("tm,im,ij,jm,sm->itjs", back, spreads, own, spreads, back)
        course = root @ root.T
        covariance += np.einsum("ij,ts->itjs", gain @ prior @ gain.T, course)
        crossing = np.einsum("aj,ts->atjs", prior @ gain.T, course)
    size = len(gain) * count
    currents = np.kron(prior, root @ root.T)
    return currents, covariance.reshape(size, size), crossing.reshape(-1, size)


def of_two_colours(problem, constant, course, variance, noise):
    """Covariance (component × time) of a recording, each group's noise having its own colour."""
    correlations = problem.time_whitening.correlations[groups_of(problem)]
    over_time = correlation_over_time(problem.times, constant, course)
    gram = variance * problem.gain @ problem.gain.T
    return np.kron(gram, over_time) + noise**2 * block_diag(*correlations)


def mixed(problem, structures, nodes=30):
    """Posterior mixed over some structures, with scales that vary by a third or so."""
    rng = np.random.default_rng(4)
    count = nodes * len(structures)
    weights = rng.dirichlet(np.ones(count))
    mixture = Mixture(
        weights,
        0.3 * np.exp(0.3 * rng.standard_normal(count)),
        0.8 * np.exp(0.1 * rng.standard_normal(count)),
        np.repeat(np.arange(len(structures)), nodes),
        structures,
    )
    values = {"snr": np.ones(count)}
    return Posterior(problem, "given", "given", mixture, Hyper(values, weights, values, scales=mixture), Evidence(0))
