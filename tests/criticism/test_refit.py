"""Models integrated again without a part of their recording."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pymc as pm
import pytest
from coloured import coloured, dense, of_two_colours
from numpy.testing import assert_allclose
from referee import toy
from scipy.integrate import quad
from scipy.special import logsumexp
from scipy.stats import lognorm, multivariate_normal, norm

from bayesinv import Currents, infer
from bayesinv.covariance.covariance import Structure
from bayesinv.criticism.comparison import compare
from bayesinv.criticism.densities import block_densities, component_densities, component_log_density, each_spectrum
from bayesinv.criticism.draws import drawn
from bayesinv.criticism.left_out_parts import LeavingOut
from bayesinv.criticism.refit import NoRefitError, Refit, Refits, evidence_of, without
from bayesinv.prior.catalogue import build
from bayesinv.prior.density import Density

BLOCK, SPREAD = slice(2, 5), 0.7


def with_fixed(**shape):
    def model(problem):
        with pm.Model(coords=problem.coords) as built:
            Currents(4 / problem.signal_power, **shape).observe("recording", problem, noise=1.2)
        return built

    return model


def with_scale(problem):
    """Only the currents' scale is learned, so that one integral is all there is."""
    with pm.Model(coords=problem.coords) as built:
        scale = pm.LogNormal("scale", 0.0, SPREAD)
        Currents(scale**2 * 4 / problem.signal_power).observe("recording", problem, noise=1.2)
    return built


def parts_of(problem):
    """A block and a component, and which numbers of the recording (component, time) they are."""
    for part, place in ((BLOCK, (slice(None), BLOCK)), (slice(0, 2), (slice(None), slice(0, 2))), (3, (3,))):
        inside = np.zeros(problem.recording.shape, dtype=bool)
        inside[place] = True
        yield part, inside.ravel()


def log_normal(values, covariance):
    return multivariate_normal(np.zeros(len(values)), covariance).logpdf(values)


@pytest.mark.parametrize("shape", [{}, {"time": 0.006}, {"time": 0.004, "course": "autoregressive"}, {"depth": 0.5}])
@pytest.mark.parametrize("centred", [False, True])
def test_at_fixed_hyperparameters_it_is_the_conditional_of_a_dense_normal(shape, centred):
    problem = coloured(centred=centred)
    posterior = infer(with_fixed(**shape), problem)
    refit = Refit.of(posterior, with_fixed(**shape))
    variance, noise = float(posterior.mixture.variance[0]), float(posterior.mixture.noise[0])
    covariance = dense(problem, posterior.mixture.structures[0], variance, noise)[1]
    values = problem.recording.ravel()
    for part, inside in parts_of(problem):
        cross = np.linalg.solve(covariance[np.ix_(~inside, ~inside)], covariance[np.ix_(~inside, inside)])
        mean = values[~inside] @ cross
        rest = covariance[np.ix_(inside, inside)] - covariance[np.ix_(inside, ~inside)] @ cross
        # A jitter of 1e-10 on the noise's correlation.
        assert_allclose(refit.left_out(part), log_normal(values[inside] - mean, rest), rtol=1e-7)


def test_where_a_scale_is_learned_it_is_the_ratio_of_two_integrals():
    problem = coloured(quiet=0)
    structure = infer(with_fixed(), problem).mixture.structures[0]
    values = problem.recording.ravel()

    def log_integral(members):
        def log_joint(scale):
            covariance = dense(problem, structure, scale**2 * 4 / problem.signal_power, 1.2)[1]
            likelihood = log_normal(values[members], covariance[np.ix_(members, members)])
            return likelihood + lognorm.logpdf(scale, SPREAD)

        top = log_joint(1.0)
        return top + np.log(quad(lambda scale: np.exp(log_joint(scale) - top), 0, 12, epsrel=1e-7, limit=200)[0])

    refit = Refit.of(infer(with_scale, problem), with_scale)
    whole = log_integral(np.ones(len(values), dtype=bool))
    assert_allclose(refit.evidence, whole, atol=refit.evidence.error + 1e-6)
    for part, inside in parts_of(problem):
        found = refit.left_out(part)
        assert found.error < 1e-3
        assert_allclose(found, whole - log_integral(~inside), atol=found.error + 1e-6)


def test_only_the_samples_of_the_block_are_gone():
    problem = coloured(centred=True)
    for block in (slice(0, 3), BLOCK, slice(5, 7)):
        rest = without(problem, block)
        retained = np.setdiff1d(np.arange(7), np.arange(7)[block])
        assert_allclose(rest.recording, problem.recording[:, retained])
        assert_allclose(rest.times, problem.times[retained])
        assert_allclose(rest.baseline, problem.baseline)
        assert_allclose(rest.times_of_baseline, problem.times_of_baseline)
        assert rest.baseline_centred
        assert rest.shared is problem.shared
        whole = problem.time_whitening.correlations
        assert_allclose(rest.time_whitening.correlations, whole[:, retained[:, None], retained])


def test_the_prior_stays_what_it_was_for_all_samples():
    """A temporal prior's bounds are those of the whole recording, though the rest is shorter."""
    problem = toy(1, samples=12)
    density = Density.of(build("temporal", problem)[1])
    rest = density.again(without(problem, slice(0, 6)))
    nodes = density.start + np.random.default_rng(1).normal(size=(5, density.dimension))
    assert_allclose(rest.prior(nodes), density.prior(nodes))
    assert rest.observation.bounded == density.observation.bounded
    assert rest.observation.problem.recording.shape[1] == 6


@pytest.mark.parametrize("name", ["hierarchical", pytest.param("temporal", marks=pytest.mark.slow)])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_component_at_many_hyperparameters_is_one_at_each(name, groups):
    posterior = infer(name, coloured(groups), draws=40)
    scales = drawn(posterior, 4)
    every = component_densities(posterior, 4)
    for n, spectrum in each_spectrum(posterior, scales):
        for component in (0, 4):
            found = component_log_density(spectrum, component, scales.variance[[n, n]], scales.noise[[n, n]])
            assert_allclose(found, every[n, component], rtol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hierarchical", "depth_weighted", "temporal"])
def test_the_evidences_of_every_part_add_up_as_the_rule_of_products_says(name):
    """p(first, second) = p(first) p(second | first) = p(second) p(first | second), whatever is integrated over."""
    problem = coloured(samples=9)
    refit = Refit.of(infer(name, problem))
    first, second = slice(0, 4), slice(4, 9)
    for other in (first, second):
        alone = evidence_of(refit.density.again(without(problem, other)))
        assert_allclose(alone + refit.left_out(other), refit.evidence, atol=0.01)


def influential(share):
    """A recording of which one block has a larger amplitude than the others."""
    problem = toy(1, sensors=20, sources=45, samples=150, quiet=40)
    envelope = 1 + share * (np.arange(150) // 15 == 3)
    return problem.again(problem.recording * envelope, problem.times, problem.baseline)


@pytest.mark.parametrize("share", [0.6, pytest.param(2.0, marks=pytest.mark.slow)])
def test_where_importance_sampling_fails_the_model_is_integrated_again(share):
    problem = influential(share)
    posterior = infer("hierarchical", problem)
    found = compare({"a": posterior}, draws=4000)
    assert found.blocks.khat[0, 3] > found.blocks.limit[0]
    assert found.blocks.refitted[0, 3]
    assert not found.blocks.unreliable.any()
    assert not found.blocks.gaussian.any()
    assert not found.warnings
    assert "of the 10 blocks are exact" in found.notes[-1]
    rest = infer("hierarchical", without(problem, slice(45, 60)))
    error = posterior.log_evidence.error + rest.log_evidence.error
    assert_allclose(found.blocks.log_density[0, 3], posterior.log_evidence - rest.log_evidence, atol=2 * error + 1e-6)


@pytest.mark.slow
def test_every_part_can_be_integrated_again_and_agrees_with_sampling():
    posterior = infer("hierarchical", toy(1, sensors=8, sources=15, samples=12), draws=8000)
    exact = compare({"a": posterior}, block=0.03, refit="always")
    sampled = compare({"a": posterior}, block=0.03, refit="never", draws=8000)
    for one, other in ((exact.components, sampled.components), (exact.blocks, sampled.blocks)):
        assert one.refitted.all()
        assert not one.khat.any()
        assert not other.refitted.any()
        # Ratios of a relative sd of up to 2 are off by 2 / sqrt(8000) nats; three of these.
        assert_allclose(one.log_density, other.log_density, atol=3 * 2 / np.sqrt(8000))
    assert exact.cells()[0][-1] == "exact"


def test_a_model_that_its_name_does_not_say_is_asked_for():
    problem = influential(2.0)

    def hierarchical(problem):
        return with_scale(problem)

    posterior = infer(hierarchical, problem)
    assert posterior.model == "hierarchical"
    with pytest.raises(NoRefitError, match="'hierarchical' names another model"):
        Refit.of(posterior)
    found = compare({"a": posterior})
    assert found.blocks.unreliable.any() or found.blocks.gaussian.any()
    assert "not integrated again without them: 'hierarchical' names another model" in found.warnings[-1]
    assert not compare({"a": posterior}, models={"a": hierarchical}).warnings
    with pytest.raises(NoRefitError, match="give the model as it was given to infer"):
        Refit.of(replace(posterior, model="with_scale"))
    with pytest.raises(ValueError, match="models names 'b', but the posteriors are a"):
        compare({"a": posterior}, models={"b": hierarchical})
    with pytest.raises(ValueError, match="no kind of refit named 'often'"):
        compare({"a": posterior}, refit="often")


def test_many_hyperparameters_are_not_integrated_on_a_lattice():
    problem = toy(1)

    def model(problem):
        with pm.Model(coords=problem.coords) as built:
            scales = pm.LogNormal("scales", 0.0, 0.3, shape=5)
            Currents(scales.prod() * 4 / problem.signal_power).observe("recording", problem, noise=1.0)
        return built

    posterior = infer(model, problem, "laplace", draws=50)
    refits = Refits({"a": posterior}, {"a": model})
    for _ in range(2):
        with pytest.raises(NoRefitError, match="its 5 hyperparameters are too many for a lattice"):
            refits.of("a")


@pytest.mark.slow
def test_blocks_of_correlated_courses_are_integrated_again_where_draws_are_dear(monkeypatch):
    posterior = infer("temporal", coloured(samples=9))
    assert not compare({"a": posterior}, block=0.006).blocks.refitted.all()
    monkeypatch.setattr("bayesinv.criticism.left_out_parts.MANY_NUMBERS", 9)
    assert compare({"a": posterior}, block=0.006).blocks.refitted.all()
    assert not compare({"a": posterior}, block=0.006, refit="never").blocks.refitted.any()


def test_a_block_in_noise_of_two_colours_is_the_conditional_of_a_dense_normal():
    """At fixed hyperparameters; modes that both colours share are off by more."""
    problem = coloured(2, samples=12)
    model = with_fixed(time=0.008)
    refit = Refit.of(infer(model, problem), model)
    covariance = of_two_colours(problem, 0.008, "matern", 4 / problem.signal_power, 1.2)
    values = problem.recording.ravel()
    for part, inside in parts_of(problem):
        if isinstance(part, slice):
            rest = log_normal(values[~inside], covariance[np.ix_(~inside, ~inside)])
            wanted = log_normal(values, covariance) - rest
            assert_allclose(refit.left_out(part), wanted, atol=1e-3)
            by_modes = refit.in_modes - evidence_of(refit.density.again(without(problem, part)), apart=False)
            assert abs(by_modes - wanted) > 0.05


def test_blocks_of_currents_coloured_as_the_noise_are_conditionals_of_a_dense_normal():
    """Of two colours: what is whitened by one depends on all samples that the other one whitens."""
    problem = coloured(2, samples=12)
    model, parts = with_fixed(), [slice(0, 4), slice(4, 8), slice(8, 12)]
    found = {"fixed": infer(model, problem)}
    covariance = dense(problem, Structure(), 4 / problem.signal_power, 1.2)[1]
    values, wanted = problem.recording.ravel(), []
    for part in parts:
        inside = np.zeros((5, 12), dtype=bool)
        inside[:, part] = True
        rest = log_normal(values[~inside.ravel()], covariance[np.ix_(~inside.ravel(), ~inside.ravel())])
        wanted.append(log_normal(values, covariance) - rest)
    leaving = LeavingOut(found, Refits(found, {"fixed": model}), "auto", 100, False)
    left, missing = leaving.blocks(parts, ("first", "second", "third"))
    assert left.refitted.all()
    assert not missing
    # Samples before and after a gap are whitened as if there were none between: of one colour exactly, of two nearly.
    assert_allclose(left.log_density[0, 2], wanted[2], atol=1e-3)
    assert_allclose(left.log_density[0], wanted, atol=0.1)


@pytest.mark.parametrize("time", [None, 0.008])
def test_blocks_of_two_colours_that_are_not_integrated_again_are_not_left_out(time):
    """Nothing else leaves them out exactly, so that the comparison goes without and says why."""
    problem, model = coloured(2), with_fixed(time=time)
    posteriors = {"fixed": infer(model, problem)}
    found = compare(posteriors, refit="never", block=0.004)
    assert found.blocks is None
    assert found["fixed"].blocks_elpd is None
    assert "differs in colour are left out by integrating the model again, and it was not: refit is" in found.notes[-1]
    assert "fixed: blocks of MEG and EEG" in str(found)
    with pytest.raises(ValueError, match=r"fixed: blocks of MEG and EEG .* stack over components"):
        compare(posteriors, refit="never", block=0.004, over="blocks")
    # The model is not known by its name, and not given.
    assert "give the model as it was given to infer" in compare(posteriors, block=0.004).notes[-1]
    assert compare(posteriors, block=0.004, models={"fixed": model}).blocks.refitted.all()
    with pytest.raises(ValueError, match="left out by integrating the model again"):
        block_densities(posteriors["fixed"], 10, [slice(0, 2)])


def with_constant(problem):
    """Scale and time constant are learned, and the noise known."""
    with pm.Model(coords=problem.coords) as built:
        scale, constant = pm.LogNormal("scale", 0.0, 0.5), pm.Uniform("constant", 0.002, 0.03)
        Currents(scale**2 * 4 / problem.signal_power, time=constant).observe("recording", problem, noise=1.2)
    return built


@pytest.mark.slow
def test_where_a_time_constant_is_learned_a_block_is_the_ratio_of_two_dense_integrals():
    """At the mean of the hyperparameters alone it would be off by tenths of a nat."""
    problem = coloured(2, samples=9, quiet=0)
    values, block = problem.recording.ravel(), slice(3, 6)
    inside = np.zeros(problem.recording.shape, dtype=bool)
    inside[:, block] = True
    points, shares = np.polynomial.legendre.leggauss(24)
    constants, parts = 0.016 + 0.014 * points, shares / 2
    logs = np.linspace(-4, 4, 41)
    members = np.ones(len(values), dtype=bool), ~inside.ravel()
    heights = np.empty((2, len(constants), len(logs)))
    for i, constant in enumerate(constants):
        for k, log in enumerate(logs):
            covariance = of_two_colours(
                problem, constant, "matern", np.exp(2 * 0.5 * log) * 4 / problem.signal_power, 1.2
            )
            heights[:, i, k] = [log_normal(values[one], covariance[np.ix_(one, one)]) for one in members]
    heights += norm.logpdf(logs) + np.log(logs[1] - logs[0]) + np.log(parts)[:, None]
    whole, rest = logsumexp(heights.reshape(2, -1), axis=1)
    refit = Refit.of(infer(with_constant, problem), with_constant)
    assert_allclose(refit.evidence, whole, atol=3e-3)
    assert_allclose(refit.left_out(block), whole - rest, atol=5e-3)
