"""Prior predictive, leave-one-out and posterior predictive checks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pymc as pm
import pytest
from numpy.testing import assert_allclose
from referee import dense_mixture, toy
from scipy.stats import kstest, multivariate_normal

import bayesinv as bi
from bayesinv import Currents, figures
from bayesinv.covariance.time_course import correlation_over_time
from bayesinv.criticism.densities import block_densities, component_densities
from bayesinv.criticism.draws import drawn
from bayesinv.criticism.posterior_predictive import posterior_predictive
from bayesinv.criticism.prior_draws import Prior
from bayesinv.criticism.prior_predictive import IMPLIED, prior_predictive


def fixed(snr=3.0, noise=1.0, **shape):
    """A model in which nothing is learned."""

    def model(problem):
        with pm.Model(coords=problem.coords) as built:
            Currents(snr**2 / problem.signal_power, **shape).observe("recording", problem, noise=noise)
        return built

    return model


@pytest.fixture(scope="module")
def problem():
    return toy(3, sensors=5, sources=9, samples=7)


@pytest.fixture(scope="module")
def kinds():
    """Two kinds of sensors and a covariance that correlates them."""
    rng = np.random.default_rng(5)
    root = np.eye(6) + 0.3 * rng.normal(size=(6, 6))
    return toy(4, sensors=6, sources=9, samples=7, quiet=0, noise_cov=root @ root.T, kinds=["mag", "mag", "grad"] * 2)


def joint_covariance(posterior, node, scales):
    """Covariance of a full recording, component by component and sample by sample, as one matrix."""
    problem, structure = posterior.problem, scales.structures[scales.which[node]]
    gram = problem.gain @ structure.product(problem, problem.gain.T)
    noise = structure.noise_covariance(problem)
    noise = np.eye(problem.components) if noise is None else noise
    over_time = np.eye(len(problem.times))
    if structure.time is not None:
        over_time = correlation_over_time(problem.times, structure.time, structure.course)
    noise_part = np.kron(scales.noise[node] ** 2 * noise, np.eye(len(problem.times)))
    return np.kron(scales.variance[node] * gram, over_time) + noise_part


def left_to_the_rest(posterior, node, scales, inside):
    """log p(inside | rest) as the ratio of two Gaussian densities of the stacked recording."""
    values, covariance = posterior.problem.recording.ravel(), joint_covariance(posterior, node, scales)
    rest = ~inside.ravel()
    total = multivariate_normal(np.zeros(len(values)), covariance).logpdf(values)
    return total - multivariate_normal(np.zeros(rest.sum()), covariance[np.ix_(rest, rest)]).logpdf(values[rest])


MODELS = {
    "plain": fixed(),
    "deep": fixed(2.0, 1.3, depth=0.7),
    "slow": fixed(2.0, 0.8, time=0.03),
    "hierarchical": "hierarchical",
    "temporal": "temporal",
    "sensor_noise": "sensor_noise",
}


@pytest.mark.parametrize("name", MODELS)
def test_what_is_left_out_has_the_density_of_a_refit(problem, kinds, name):
    given = kinds if name == "sensor_noise" else problem
    posterior = bi.infer(MODELS[name], given, draws=30)
    scales = drawn(posterior, 3)
    blocks = [slice(0, 2), slice(2, 6), slice(6, 7)]
    components, timed = component_densities(posterior, 3), block_densities(posterior, 3, blocks)
    assert components.shape == (len(scales.noise), given.components)
    for node in range(len(scales.noise)):
        for i in range(given.components):
            inside = np.zeros(given.recording.shape, dtype=bool)
            inside[i] = True
            assert_allclose(components[node, i], left_to_the_rest(posterior, node, scales, inside), rtol=1e-8)
        for k, block in enumerate(blocks):
            inside = np.zeros(given.recording.shape, dtype=bool)
            inside[:, block] = True
            assert_allclose(timed[node, k], left_to_the_rest(posterior, node, scales, inside), rtol=1e-8)


def test_drawn_hyperparameters_are_as_many_as_asked_and_chains_stay_in_order(problem):
    posterior = bi.infer("hierarchical", problem, draws=50)
    assert len(drawn(posterior, 20).noise) == 20
    assert len(drawn(posterior, 400).noise) == 50
    hyper = replace(posterior.hyper, chains=2)
    two = drawn(replace(posterior, hyper=hyper), 10)
    assert_allclose(two.noise[:5], drawn(replace(posterior, hyper=hyper), 50).noise[[0, 6, 12, 18, 24]])
    assert_allclose(two.noise[5:], drawn(replace(posterior, hyper=hyper), 50).noise[[25, 31, 37, 43, 49]])
    # Where draws have no scales, nodes come by weight.
    bare = drawn(replace(posterior, hyper=replace(posterior.hyper, scales=None)), 2000)
    mixture = posterior.mixture
    assert_allclose(bare.noise.mean(), mixture.weights @ mixture.noise, rtol=1e-3)


@pytest.mark.parametrize("name", ["plain", "slow"])
def test_replicates_have_the_moments_of_fit_and_noise(problem, name):
    posterior = bi.infer(MODELS[name], problem)
    size = problem.recording.size
    node = drawn(posterior, 1)
    total = joint_covariance(posterior, 0, node)
    noise = node.noise[0] ** 2 * np.eye(size)
    fit = (total - noise) @ np.linalg.solve(total, problem.recording.ravel())
    spread = (total - noise) @ np.linalg.solve(total, noise) + noise
    for currents, mean, covariance in (("inferred", fit, spread), ("new", np.zeros(size), total)):
        found = posterior_predictive(posterior, 2000, np.random.default_rng(2), currents=currents)
        flat = found.replicated.reshape(2000, -1)
        sds = np.sqrt(np.diag(covariance))
        assert np.abs((flat.mean(axis=0) - mean) / sds).max() < 5 / np.sqrt(2000)
        assert np.abs((np.cov(flat.T) - covariance) / np.outer(sds, sds)).max() < 6 / np.sqrt(2000)
    assert_allclose(fit.reshape(problem.recording.shape), posterior.fitted, rtol=1e-8, atol=1e-9)


def test_replicates_see_the_posterior_draws_of_currents(problem):
    posterior = bi.infer("hierarchical", problem)
    found = posterior_predictive(posterior, 1500, np.random.default_rng(1))
    weights, _, covariances = dense_mixture(posterior)
    projected = np.einsum("n,cp,npq,cq->c", weights, problem.gain, covariances, problem.gain)
    within = projected + weights @ posterior.mixture.noise**2
    between = posterior_predictive(posterior, 1500, np.random.default_rng(3)).replicated.var(axis=0)
    assert_allclose(found.replicated.mean(axis=0), posterior.fitted, atol=6 * np.sqrt(within.max() / 1500) + 0.05)
    # What hyperparameters add between them is small here.
    assert_allclose(between.mean(axis=1), within, rtol=0.1)


def test_p_values_are_uniform_where_the_model_is_right(problem):
    prior = Prior.of(MODELS["slow"], problem, 1)
    rng = np.random.default_rng(8)
    residual, quantity = [], []
    for _ in range(40):
        _, sampled = prior.truth(0, rng)
        posterior = bi.infer(MODELS["slow"], sampled)
        found = posterior_predictive(posterior, 49, rng, lambda y: np.abs(y).max(), currents="new")
        residual.append(found.p_values[2])
        quantity.append(found.p_value)
    assert kstest(residual, "uniform").pvalue > 1e-3
    assert kstest(quantity, "uniform").pvalue > 1e-3
    assert min(quantity) >= 1 / 50


def test_p_values_are_extreme_where_it_is_wrong(problem):
    rng = np.random.default_rng(3)
    _, sampled = Prior.of(fixed(2.0), problem, 1).truth(0, rng)
    outlying, flat = sampled.recording.copy(), sampled.recording.copy()
    outlying[1] += 30 * rng.normal(size=outlying.shape[1])
    flat *= 0.02
    found = posterior_predictive(bi.infer(fixed(2.0), sampled.again(outlying)), 99, rng, lambda y: np.sum(y**2), "new")
    assert found.p_values[1] < 1e-3
    assert found.residual[1] == found.residual.max()
    assert found.p_value == 0.01
    found = posterior_predictive(bi.infer(fixed(2.0), sampled.again(flat)), 99, rng, lambda y: np.sum(y**2), "new")
    assert found.p_values.min() > 0.999
    assert found.p_value == 1.0


def test_residuals_are_those_of_sensors_where_the_whitener_is_known(kinds):
    """Where the covariance has full rank, a sensor's residual is that of the sensor given all other sensors."""
    posterior = bi.infer(fixed(2.0), kinds)
    found = posterior_predictive(posterior, 2)
    assert found.names == tuple(f"sensor {i}" for i in range(6))
    back = np.linalg.inv(kinds.whitener)
    covariance = back @ joint_covariance(posterior, 0, drawn(posterior, 1)).reshape(6, 7, 6, 7)[:, 0, :, 0] @ back.T
    recording = back @ kinds.recording
    for j in range(6):
        rest = np.arange(6) != j
        share = np.linalg.solve(covariance[np.ix_(rest, rest)], covariance[rest, j])
        error = recording[j] - share @ recording[rest]
        sd = np.sqrt(covariance[j, j] - share @ covariance[rest, j])
        assert_allclose(found.residual[j], np.sqrt(np.mean((error / sd) ** 2)), rtol=1e-8)


def test_topographies_are_in_the_sensors_units(kinds):
    posterior = bi.infer(fixed(2.0), kinds)
    found = posterior_predictive(posterior, 400)
    recorded, mean, sd = found.topography(kinds.times[3])
    assert_allclose(kinds.whitener @ recorded, kinds.recording[:, 3], rtol=1e-9)
    assert_allclose(recorded, kinds.field.field[:, 3], rtol=1e-9)
    assert np.abs(kinds.whitener @ mean - posterior.fitted[:, 3]).max() < 0.4
    assert (sd > 0).all()
    low, high = found.band()
    inside = (found.gfp >= low) & (found.gfp <= high)
    assert_allclose(inside.mean(), 0.9, atol=0.01)
    assert found.recorded_gfp.shape == low.shape == kinds.times.shape


@pytest.mark.parametrize("quiet", [0, 9])
def test_prior_implies_the_closed_form(quiet):
    problem = toy(3, sensors=5, sources=9, samples=7, quiet=quiet)
    found = prior_predictive("hierarchical", problem, 2000, np.random.default_rng(4))
    snr, noise = found["snr"], found.prior.hyper["noise"]
    # The logarithm of 3 |c| exp(-width e), c standard Cauchy and e standard normal, is symmetric about log 3, where its
    # density is 1 / pi or a little less: the median of 2000 draws has a standard error of pi / 2 / sqrt(2000).
    assert_allclose(np.log(np.median(snr)), np.log(3), atol=5 * 1.1 * np.pi / 2 / np.sqrt(2000))
    assert_allclose(found["explained"], snr**2 / (1 + snr**2), rtol=1e-9)
    assert_allclose(found["field"], noise * np.sqrt(1 + snr**2), rtol=1e-9)
    assert_allclose(found["current"], found.prior.hyper["scale"], rtol=1e-9)
    assert_allclose(found["lambda"], (noise / found.prior.hyper["scale"]) ** 2, rtol=1e-9)


def test_prior_implies_what_its_draws_show(kinds):
    """Powers and currents of drawn recordings are what the table says they are expected to be."""
    rng = np.random.default_rng(1)
    problem = kinds.again(np.ones((6, 3000)))
    found = prior_predictive("sensor_noise", problem, 4, rng)
    for draw in range(4):
        current, sampled = found.prior.truth(draw, rng)
        signal = np.mean((problem.gain @ current) ** 2)
        assert_allclose(np.sqrt(np.mean(sampled.recording**2)), found["field"][draw], rtol=0.05)
        assert_allclose(signal / np.mean(sampled.recording**2), found["explained"][draw], atol=0.05)
        assert_allclose(np.median(current.std(axis=1)), found["current"][draw], rtol=0.05)
    deep = prior_predictive("depth_weighted", problem, 50)
    assert (deep["large"] >= deep["current"]).all()
    free = toy(2, sensors=5, sources=9, samples=4, axes=3)
    assert_allclose(prior_predictive("minimum_norm", free, 2)["current"], np.sqrt(3) * free.scale_guess, rtol=1e-9)


def test_tables_and_figures_read(problem, kinds):
    found = prior_predictive("hierarchical", problem, 200)
    assert [row[0] for row in found.cells()] == [words for words, _, _ in IMPLIED.values()]
    assert found.table().startswith("what the prior implies")
    assert "nA·m" in str(found)
    assert len(figures.prior_predictive(found).axes) == 6
    constant = prior_predictive("minimum_norm", problem, 3)
    titles = [axes.get_title(loc="left") for axes in figures.prior_predictive(constant).axes]
    assert titles[0] == "3, fixed by the model"
    figures.prior_predictive(found).canvas.draw()
    checked = posterior_predictive(bi.infer("hierarchical", problem), 20, quantity=np.max)
    figure = figures.posterior_predictive(checked)
    assert len(figure.axes) == 4
    figure.canvas.draw()
    checked = posterior_predictive(bi.infer("hierarchical", kinds), 20)
    assert len(figures.posterior_predictive(checked).axes) == 3


def test_says_what_is_wrong(problem):
    posterior = bi.infer("minimum_norm", problem)
    with pytest.raises(ValueError, match="draws is 0"):
        posterior_predictive(posterior, 0)
    with pytest.raises(ValueError, match="no kind of currents named 'old'"):
        posterior_predictive(posterior, 2, currents="old")
    with pytest.raises(ValueError, match="must give a finite number"):
        posterior_predictive(posterior, 2, quantity=lambda y: y[0])
    with pytest.raises(ValueError, match=r"recordings take .* GB; draw fewer"):
        posterior_predictive(posterior, 10**9)
    found = posterior_predictive(posterior, 2)
    with pytest.raises(ValueError, match="no test quantity was given"):
        _ = found.p_value
    with pytest.raises(ValueError, match="the problem has no whitener"):
        found.topography()
    with pytest.raises(ValueError, match="no quantity named 'snt'"):
        prior_predictive("minimum_norm", problem, 2)["snt"]
