"""Checks of modes of time that noise of several colours shares, in which it is only nearly independent.

The recording's covariance C = variance G D Gᵀ ⊗ T + noise² Σ_g N_g ⊗ K_g is quickly multiplied with; that of shared
modes is nearly C and quickly inverted, and conjugate gradients with it solve C x = y in a dozen steps. The currents'
means are variance D Gᵀ x T.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.sparse.linalg import LinearOperator, cg

from bayesinv.axes import Array
from bayesinv.covariance.time_course import correlation_over_time
from bayesinv.evidence.several_colours import MAX_PARTS
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.posterior.checks import Check
from bayesinv.posterior.mixture import Mixture
from bayesinv.posterior.spectral import SpectralGaussians
from bayesinv.prior.density import Density
from bayesinv.prior.density_of_colours import DensityOfColours, has_several_colours, log_densities

MOST_OFF, MOST_NATS = 0.2, 0.1
"""Largest error that is let pass: of means in posterior sd, by which 90 % intervals hold 89 %; of log densities in
nats, or of how they differ over a standard deviation, by which hyperparameters are off by as much of theirs."""

SHARES = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
"""Shares of the mass, node by node, at which log densities are compared."""

PLACES = 64
"""Amplitudes at which means are compared."""

MAX_STEPS, PRECISE = 100, 1e-6
"""Most steps of conjugate gradients, and the residual, relative to the recording, at which they end."""

INSTEAD = "take MEG or EEG alone, or a shorter window"


def shared_modes_checks(density: Density, mixed: Mixture, nodes: Array, weights: Array) -> list[Check]:
    """Return the checks of shared modes; none where there are none.

    mixed : of the currents
    nodes, weights : of the hyperparameters, (node, coordinate) and (node,)
    """
    structure = mixed.structures[mixed.which[int(mixed.weights.argmax())]]
    if not has_several_colours(density) or structure.sample_noise is not None:
        return []
    checks = [_means_check(density, mixed)]
    if isinstance(density, DensityOfColours):
        if density.off:
            checks.append(_parts_check(density))
    elif density.dimension:
        at = np.searchsorted(np.cumsum(weights), SHARES * weights.sum()).clip(max=len(weights) - 1)
        checks.append(_densities_check(density, nodes[np.unique([int(weights.argmax()), *at])]))
    return checks


def _parts_check(density: DensityOfColours) -> Check:
    return _off_check(
        density.slope_off,
        "by how much more or less the log density of the hyperparameters is off a standard deviation further, which "
        f"moves their means by as many: above {MAX_PARTS} parts of the signal depend to second order. All of it "
        f"is off by {density.off:.2g} nats more, which is stated with the evidence. If it is large, {INSTEAD}",
    )


def _densities_check(density: Density, nodes: Array) -> Check:
    off = float(np.abs(log_densities(density, nodes) - density(nodes)).max())
    return _off_check(
        off,
        "error of the log density of the hyperparameters where the noise of MEG and EEG differs in colour; by modes of "
        "time that both share scales and time constants may be off by more than their sd. With up to four "
        f"hyperparameters method 'quadrature' tells colours apart; or {INSTEAD}",
    )


def _off_check(off: float, note: str) -> Check:
    return Check("hyperparameters of several colours", off, f"< {MOST_NATS:g} nats", off < MOST_NATS, note)


def _means_check(density: Density, mixed: Mixture) -> Check:
    node = int(mixed.weights.argmax())
    structure, variance, noise = mixed.structures[mixed.which[node]], mixed.variance[node], mixed.noise[node]
    off = means_apart(Spectrum.of(density.observation.problem, structure), float(variance), float(noise))
    return Check(
        "currents of several colours",
        off,
        f"< {MOST_OFF:g} sd",
        off < MOST_OFF,
        "error of means, in posterior sd, root mean square over places and samples, by modes of time that MEG and EEG "
        f"share, though their noise differs in colour; where it is large, {INSTEAD}",
    )


def means_apart(spectrum: Spectrum, variance: float, noise: float) -> float:
    """Error of means by shared modes, in posterior sd, root mean square over some amplitudes and all samples."""
    problem, structure = spectrum.problem, spectrum.structure
    assert structure.time is not None
    over_time = correlation_over_time(problem.times, structure.time, structure.course)
    solved = conjugate_gradients(spectrum, variance, noise, over_time)
    rows = np.unique(np.linspace(0, problem.gain.shape[1] - 1, PLACES).round().astype(int))
    currents = variance * (structure.product(problem, problem.gain.T @ solved)[rows] @ over_time)
    one = SpectralGaussians.of(spectrum, np.ones(1), np.array([variance]), np.array([noise]))
    ((_, means, sds),) = one.gaussians(rows, slice(None), 0.0)
    return float(np.sqrt(np.mean(((currents - means) / sds) ** 2)))


def conjugate_gradients(spectrum: Spectrum, variance: float, noise: float, over_time: Array) -> Array:
    """Solve C x = y (component, time), y the recording, with noise of every colour.

    over_time : (time, time), of the currents
    """
    covered, nearly = _covariance(spectrum, variance, noise, over_time), _inverse(spectrum, variance, noise)
    recording = spectrum.problem.recording

    def flat(product: Callable[[Array], Array]) -> LinearOperator:
        size = recording.size
        return LinearOperator((size, size), lambda one: product(one.reshape(recording.shape)).ravel(), dtype=float)

    given = {"rtol": PRECISE, "maxiter": MAX_STEPS, "M": flat(nearly)}
    found, _ = cg(flat(covered), recording.ravel(), nearly(recording).ravel(), **given)
    return np.asarray(found.reshape(recording.shape))


def _covariance(spectrum: Spectrum, variance: float, noise: float, over_time: Array) -> Callable[[Array], Array]:
    """The product of the recording's covariance with a table (component, time)."""
    problem, structure, whitening = spectrum.problem, spectrum.structure, spectrum.problem.time_whitening
    assert whitening is not None
    gram, root = structure.with_error(problem, structure.gram(problem)), structure.noise_root(problem)

    def product(table: Array) -> Array:
        own = table if root is None else root @ (root.T @ table)
        by_group = whitening.by_group(own, whitening.correlations)
        return np.asarray(variance * (gram @ table @ over_time) + noise**2 * by_group)

    return product


def _inverse(spectrum: Spectrum, variance: float, noise: float) -> Callable[[Array], Array]:
    """The product of the inverse of the covariance by shared modes with a table (component, time)."""
    modes, total = spectrum.modes, variance * spectrum.eigenvalues + noise**2
    assert modes is not None

    def product(table: Array) -> Array:
        solved = spectrum.projected(table @ modes.to_modes) / total
        pairs = zip(spectrum.decompositions, spectrum.blocks, strict=True)
        return np.hstack([one.to_components @ solved[:, block] for one, block in pairs]) @ modes.to_modes.T

    return product
