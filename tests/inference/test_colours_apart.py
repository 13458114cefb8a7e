"""Hyperparameters where currents have courses and noise two colours, against integrals of the dense normal density."""

import numpy as np
import pymc as pm
import pytest
from coloured import coloured, fields, of_two_colours
from numpy.testing import assert_allclose
from scipy.special import expit, logsumexp
from scipy.stats import logistic, norm

from bayesinv import Currents, Problem, infer
from bayesinv.inference import colours_apart
from bayesinv.inference.colours_apart import integrate_apart
from bayesinv.inference.integration import integrate
from bayesinv.prior.density import Density
from bayesinv.prior.density_of_colours import DensityOfColours, log_densities

SAMPLES = 14
SHORT, LONG = 0.003, 0.04
"""s, bounds of the time constant."""


def named(posterior, name):
    """The check of a name."""
    return next(one for one in posterior.checks if one.name == name)


@pytest.fixture(scope="module")
def problem():
    """Its recording is of slow currents, so that the time constant lies between its bounds."""
    found = coloured(2, samples=SAMPLES, quiet=0)
    covariance = of_two_colours(found, 0.012, "matern", 8 / found.signal_power, 1.2)
    drawn = np.linalg.cholesky(covariance) @ np.random.default_rng(5).standard_normal(len(covariance))
    return Problem(**{**fields(found), "recording": drawn.reshape(found.recording.shape)})


def model(problem):
    """A scale and a time constant are learned."""
    with pm.Model(coords=problem.coords) as built:
        scale, constant = pm.LogNormal("scale", 0.0, 0.5), pm.Uniform("constant", SHORT, LONG)
        Currents(scale**2 * 4 / problem.signal_power, time=constant).observe("recording", problem, noise=1.2)
    return built


def with_scale(problem):
    """The same at one time constant."""
    with pm.Model(coords=problem.coords) as built:
        scale = pm.LogNormal("scale", 0.0, 0.5)
        Currents(scale**2 * 4 / problem.signal_power, time=0.012).observe("recording", problem, noise=1.2)
    return built


def heights_at(problem, constant, logs):
    """Log density (log scale,) of the recording times the prior of the scale's logarithm, at a time constant."""
    noise = np.linalg.cholesky(of_two_colours(problem, constant, "matern", 0.0, 1.2))
    half = np.linalg.solve(noise, of_two_colours(problem, constant, "matern", 4 / problem.signal_power, 0.0))
    white = np.linalg.solve(noise, half.T)
    spread, axes = np.linalg.eigh((white + white.T) / 2)
    seen = axes.T @ np.linalg.solve(noise, problem.recording.ravel())
    total = 1 + np.exp(2 * logs)[:, None] * np.maximum(spread, 0)
    constant_term = len(seen) * np.log(2 * np.pi) + 2 * np.log(np.diag(noise)).sum()
    likelihood = -0.5 * (np.log(total).sum(axis=1) + (seen**2 / total).sum(axis=1) + constant_term)
    return likelihood + norm.logpdf(logs, 0, 0.5) + np.log(logs[1] - logs[0])


@pytest.fixture(scope="module")
def dense(problem):
    """Log scales, unconstrained time constants, and the log of the mass in the cell of each pair: (constant, scale)."""
    logs, free = np.linspace(-2.2, 2.2, 45), np.linspace(-11, 11, 71)
    heights = np.array([heights_at(problem, SHORT + (LONG - SHORT) * expit(one), logs) for one in free])
    return logs, free, heights + logistic.logpdf(free)[:, None] + np.log(free[1] - free[0])


def test_evidence_and_hyperparameters_are_those_of_the_dense_density(problem, dense):
    """Modes that both colours share are tenths of a nat off, and of a standard deviation."""
    logs, free, heights = dense
    shares = np.exp(heights - logsumexp(heights))
    means = np.array([shares.sum(axis=0) @ logs, shares.sum(axis=1) @ free])
    sds = np.sqrt([shares.sum(axis=0) @ (logs - means[0]) ** 2, shares.sum(axis=1) @ (free - means[1]) ** 2])
    density = Density.of(model(problem))
    exact, lattice = integrate_apart(density)
    assert_allclose(lattice.log_evidence, logsumexp(heights), atol=2e-3 + lattice.error)
    assert lattice.error < 0.01
    assert_allclose(lattice.weights @ lattice.nodes, means, atol=5e-3 * sds.max())
    spread = np.sqrt(lattice.weights @ (lattice.nodes - means) ** 2)
    assert_allclose(spread, sds, rtol=5e-3)
    assert abs(integrate(density).log_evidence - logsumexp(heights)) > 0.1
    # Slopes are those of the density itself.
    node = lattice.weights @ lattice.nodes + [0.1, -0.1]
    step = 1e-4 * np.eye(2)
    wanted = (exact(node + step) - exact(node - step)) / 2e-4
    height, slope = exact.slope(node)
    assert_allclose(height, exact(node[None])[0])
    assert_allclose(slope, wanted, rtol=1e-4, atol=1e-4)
    assert_allclose(exact(node[None]), log_densities(density, node[None]), atol=5e-3)


def test_infer_tells_colours_apart(problem, dense):
    posterior = infer(model, problem, draws=400)
    assert_allclose(posterior.log_evidence, logsumexp(dense[2]), atol=0.01)
    assert not any(check.name == "hyperparameters of several colours" for check in posterior.checks)
    assert named(posterior, "currents of several colours").value < 0.2
    wanted = logsumexp(heights_at(problem, 0.012, dense[0]))
    assert_allclose(infer(with_scale, problem, draws=50).log_evidence, wanted, atol=0.01)


def test_methods_that_do_not_say_by_how_much_they_are_off(problem):
    """Laplace's approximation is of the modes that both colours share."""
    check = named(infer(model, problem, "laplace", draws=100), "hyperparameters of several colours")
    assert check.value > 0.1
    assert not check.passed
    assert "method 'quadrature' tells colours apart" in check.note


def test_errors_by_parts_that_are_too_many_are_those_of_the_dense_density(problem, dense, monkeypatch):
    """What twice as many change is what the evidence says it is off by, and by how much it varies is in a check."""
    monkeypatch.setattr("bayesinv.evidence.several_colours.MAX_PARTS", 8)
    monkeypatch.setattr(colours_apart, "MAX_PARTS", 8)
    # To second order nothing is left to see in so short a recording.
    monkeypatch.setattr("bayesinv.evidence.several_colours.Parts._dependence", lambda self: 0.0)
    posterior = infer(model, problem, draws=100)
    off = abs(float(posterior.log_evidence) - logsumexp(dense[2]))
    assert 2e-3 < off < posterior.log_evidence.error
    check = named(posterior, "hyperparameters of several colours")
    assert 0 < check.value < posterior.log_evidence.error
    assert "parts of the signal depend to second order" in check.note


def test_shared_modes_do_with_a_failed_check_where_places_are_too_many(problem, monkeypatch):
    monkeypatch.setattr(colours_apart, "MAX_PLACES", 3)
    posterior = infer(model, problem, draws=100)
    assert posterior.method == "quadrature"
    check = named(posterior, "hyperparameters of several colours")
    assert check.value > 0.1
    assert not check.passed
    assert_allclose(posterior.log_evidence, integrate(Density.of(model(problem))).log_evidence)


def test_without_a_baseline_noise_that_vanishes_is_as_improbable_as_it_is(problem):
    """What shared modes lack is a power that is divided by the noise's, wherever it was worked out."""

    def noisy(problem):
        with pm.Model(coords=problem.coords) as built:
            noise = pm.LogNormal("noise", 0.0, 0.5)
            scale, constant = pm.LogNormal("scale", 0.0, 0.5), pm.Uniform("constant", SHORT, LONG)
            Currents(scale**2 * 4 / problem.signal_power, time=constant).observe("recording", problem, noise=noise)
        return built

    density = Density.of(noisy(problem))
    exact, lattice = integrate_apart(density)
    assert isinstance(exact, DensityOfColours)
    best = lattice.weights @ lattice.nodes
    quiet = np.arange(-1.0, -20, -1)
    axes = [list(density.names).index(name) for name in ("noise_log__", "scale_log__", "constant_interval__")]
    for by_scale in (0, 1):
        for constant in (-6.0, best[axes[2]], 6.0):
            nodes = np.tile(best, (len(quiet), 1))
            nodes[:, axes[0]], nodes[:, axes[1]] = quiet, best[axes[1]] + by_scale * quiet
            nodes[:, axes[2]] = constant
            heights = exact(nodes)
            assert (np.diff(heights) < 0).all()
            assert heights[0] < exact(best[None])[0]


def test_places_are_not_too_many(problem, monkeypatch):
    density = Density.of(model(problem))
    monkeypatch.setattr(colours_apart, "MAX_PLACES", 10)
    with pytest.raises(colours_apart.ColoursTogetherError, match="between at most 10 places"):
        integrate_apart(density)
    monkeypatch.undo()
    # Where a finer lattice would have too many, the error of the coarser one is stated.
    monkeypatch.setattr(colours_apart, "TOLERANCE", 1e-9)
    monkeypatch.setattr(colours_apart, "MAX_PLACES", 60)
    _, lattice = integrate_apart(density)
    assert 1e-4 < lattice.error < 0.1


def test_noise_of_one_colour_is_left_as_it_is():
    density = Density.of(model(coloured(1, samples=SAMPLES, quiet=0)))
    found, lattice = integrate_apart(density)
    assert found is density
    assert_allclose(lattice.log_evidence, integrate(density).log_evidence)
    assert not isinstance(found, DensityOfColours)
