"""Noise that is correlated over time: evidence, posterior, draws and criticism against the dense normal density."""

from dataclasses import replace

import numpy as np
import pytest
from coloured import coloured, dense, fields, groups_of, noise_covariance, time_correlation
from numpy.testing import assert_allclose
from referee import as_written
from scipy.stats import multivariate_normal

import bayesinv as bi
from bayesinv.covariance.covariance import Structure
from bayesinv.criticism.densities import block_densities, component_densities
from bayesinv.criticism.posterior_predictive import _inferred, _new_field
from bayesinv.evidence.gradient import FactorisedDensity
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.posterior.checks import Evidence
from bayesinv.posterior.hyper import Hyper
from bayesinv.posterior.mixture import Mixture
from bayesinv.posterior.posterior import Posterior
from bayesinv.prior.samples import draw_baseline, draw_recording
from bayesinv.problem import time_whitening

STRUCTURES = {
    "independent": Structure(),
    "deep": Structure(depth=0.7),
    "kinds": Structure(noise=np.array([1.0, 1.7])),
    "courses": Structure(time=0.006),
    "courses and kinds": Structure(time=0.01, noise=np.array([1.0, 1.7])),
}
ALL = pytest.mark.parametrize("name", STRUCTURES)
BOTH = pytest.mark.parametrize("groups", [1, 2])


def density(problem, structure, variance, noise):
    """Log density of the recording, and of the baseline, by dense algebra."""
    covariance = dense(problem, structure, variance, noise)[1]
    recording = multivariate_normal(cov=covariance).logpdf(problem.recording.ravel())
    own = structure.noise_covariance(problem)
    sds = np.ones(5) if own is None else np.sqrt(np.diag(own))
    quiet = (
        noise_covariance(problem, 0) * noise**2 * np.kron(np.outer(sds, sds), np.ones((problem.baseline.shape[1],) * 2))
    )
    if problem.baseline_centred:
        # One direction of every component has no variance; it is left out.
        basis = np.kron(np.eye(5), problem.time_whitening.basis)
        quiet, given = basis.T @ quiet @ basis, basis.T @ problem.baseline.ravel()
    else:
        given = problem.baseline.ravel()
    return recording, multivariate_normal(cov=quiet).logpdf(given)


@ALL
@BOTH
@pytest.mark.parametrize("centred", [False, True])
def test_evidence_is_the_dense_density(name, groups, centred):
    problem, structure = coloured(groups, centred=centred), STRUCTURES[name]
    likelihood = Spectrum.of(problem, structure).likelihood
    wanted = density(problem, structure, 0.3, 0.8)
    assert_allclose(likelihood.log_likelihood(np.array([0.3]), np.array([0.8])), wanted[0], rtol=1e-7)
    assert_allclose(likelihood.baseline_log_likelihood(np.array([0.8])), wanted[1], rtol=1e-7)
    if structure.time is None:
        found = FactorisedDensity.of(problem, structure, 0.3, 0.8, baseline=True)
        assert_allclose(found.log_density, sum(wanted), rtol=1e-7)


@BOTH
def test_noise_alone_is_what_was_said(groups):
    """Without currents the density is that of the noise's own correlation; shared modes take it at every mode."""
    problem = coloured(groups, samples=30)
    noise = multivariate_normal(cov=noise_covariance(problem)).logpdf(problem.recording.ravel())
    plain = Spectrum.of(problem, Structure()).log_likelihood(np.zeros(1), np.ones(1))
    assert_allclose(plain, noise, rtol=1e-7)
    if groups == 1:
        slow = Spectrum.of(problem, Structure(time=0.01)).log_likelihood(np.zeros(1), np.ones(1))
        assert_allclose(slow, noise, rtol=1e-7)


def test_courses_of_one_colour_are_exact():
    problem = coloured(1)
    modes = Structure(time=0.006).modes(problem)
    assert_allclose(modes.root @ modes.root.T, time_correlation(problem, 0.006), atol=1e-7)
    assert_allclose(modes.from_modes @ modes.from_modes.T, problem.time_whitening.correlations[0], atol=1e-7)


@ALL
@BOTH
def test_slopes_are_those_of_the_density(name, groups):
    problem, structure = coloured(groups), STRUCTURES[name]
    spectrum = Spectrum.of(problem, structure)
    by_gram, by_noise = spectrum.sensitivity(0.3, 0.8)
    step, rng = 1e-5, np.random.default_rng(0)
    change = rng.standard_normal(problem.gain.shape)

    def at(size):
        moved = bi.Problem(**{**fields(problem), "gain": problem.gain + size * change, "noise": problem.noise})
        return Spectrum.of(moved, structure).log_likelihood(np.array([0.3]), np.array([0.8]))[0]

    if structure.depth is None:
        prior = structure.product(problem, np.eye(9))
        wanted = 2 * np.sum(by_gram * (change @ prior @ problem.gain.T))
        assert_allclose((at(step) - at(-step)) / (2 * step), wanted, rtol=1e-5)
    if structure.noise is not None:

        def by_ratio(ratio):
            moved = Spectrum.of(problem, replace(structure, noise=np.array([1.0, ratio]))).likelihood
            values = (
                moved.log_likelihood(np.array([0.3]), np.array([0.8])),
                moved.baseline_log_likelihood(np.array([0.8])),
            )
            return sum(values)[0]

        wanted = structure.slope(problem, "noise", by_gram, by_noise)[1]
        assert_allclose((by_ratio(1.7 + step) - by_ratio(1.7 - step)) / (2 * step), wanted, rtol=1e-5)


@BOTH
@pytest.mark.parametrize("course", ["matern", "autoregressive"])
@pytest.mark.parametrize("samples", [9, 80])
def test_slope_by_the_time_constant_is_that_of_the_density(groups, course, samples):
    problem, structure = coloured(groups, samples=samples, centred=True), Structure(time=0.01, course=course)
    step, at = 1e-7, (np.array([0.3]), np.array([0.8]))
    ends = [Spectrum.of(problem, replace(structure, time=0.01 + size)).log_likelihood(*at)[0] for size in (step, -step)]
    found = Spectrum.of(problem, structure).slope_by_time(0.3, 0.8)
    assert_allclose(found, (ends[0] - ends[1]) / (2 * step), rtol=1e-6)


@BOTH
@pytest.mark.parametrize("centred", [False, True])
def test_long_recordings_have_the_evidence_of_their_matrices(monkeypatch, groups, centred):
    """Innovations, which leave out samples far in the past, to a thousandth of a nat."""
    found = []
    for most in (1000, 100):
        monkeypatch.setattr(time_whitening, "DENSE", most)
        problem = coloured(groups, samples=600, quiet=560, centred=centred)
        likelihood = Spectrum.of(problem, Structure()).likelihood
        found.append(
            likelihood.log_likelihood(np.array([0.3]), np.array([0.8]))
            + likelihood.baseline_log_likelihood(np.array([0.8]))
        )
    assert_allclose(found[1], found[0], rtol=0, atol=1e-3)


@BOTH
def test_courses_of_two_kinds_have_modes_of_their_own(groups):
    """Modes that groups share are kept, but not from one kind of course to another."""
    problem, at = coloured(groups, samples=40), (np.array([0.3]), np.array([0.8]))
    for course in ("autoregressive", "matern"):
        found = Spectrum.of(problem, Structure(time=0.01, course=course)).log_likelihood(*at)
        fresh = Spectrum.of(coloured(groups, samples=40), Structure(time=0.01, course=course)).log_likelihood(*at)
        assert_allclose(found, fresh, rtol=1e-12)


def single(problem, structure, variance=0.3, noise=0.8):
    """Posterior at given hyperparameters."""
    mixture = Mixture(np.ones(1), np.array([variance]), np.array([noise]), np.zeros(1, dtype=int), (structure,))
    values = {"snr": np.ones(1)}
    return Posterior(problem, "given", "given", mixture, Hyper(values, np.ones(1), values, scales=mixture), Evidence(0))


def conditional(problem, structure):
    """Mean (amplitude × time) and covariance of the currents given the recording, by dense algebra."""
    currents, covariance, crossing = dense(problem, structure, 0.3, 0.8)
    solved = np.linalg.solve(covariance, crossing.T).T
    return solved @ problem.recording.ravel(), currents - solved @ crossing.T


EXACT = [(name, groups) for name in STRUCTURES for groups in (1, 2) if groups == 1 or "courses" in name]


@pytest.mark.parametrize(("name", "groups"), EXACT)
class TestPosterior:
    def test_moments_are_dense_conditionals(self, name, groups):
        problem, structure = coloured(groups, samples=24), STRUCTURES[name]
        posterior = single(problem, structure)
        mean, covariance = conditional(problem, structure)
        assert_allclose(posterior.mean.ravel(), mean, atol=1e-6)
        sd = np.broadcast_to(posterior.sd, posterior.mean.shape).ravel()
        assert_allclose(sd, np.sqrt(np.diag(covariance)), rtol=1e-5)
        assert_allclose(posterior.fitted, problem.gain @ posterior.mean, atol=1e-8)

    def test_functionals_over_a_window_are_dense_conditionals(self, name, groups):
        problem, structure = coloured(groups, samples=24), STRUCTURES[name]
        posterior = single(problem, structure)
        mean, covariance = conditional(problem, structure)
        pick = np.zeros((9, 24))
        pick[2:5, 5:15] = 1 / 30
        found = posterior.region({"some": np.arange(2, 5)}, slice(5, 15))
        average = posterior.averaged(slice(5, 15)).region({"some": np.arange(2, 5)})
        for one in (found, average):
            assert_allclose(one.mean[0], pick.ravel() @ mean, atol=1e-6)
            assert_allclose(one.sd[0], np.sqrt(pick.ravel() @ covariance @ pick.ravel()), rtol=1e-5)

    def test_draws_have_the_dense_covariance(self, name, groups):
        problem, structure = coloured(groups, samples=9, sources=4), STRUCTURES[name]
        posterior, rng = single(problem, structure), np.random.default_rng(0)
        mean, covariance = conditional(problem, structure)
        drawn = posterior.draw(20_000, rng).reshape(20_000, -1)
        sds = np.sqrt(np.diag(covariance))
        assert np.abs((drawn.mean(axis=0) - mean) / sds).max() < 5 / np.sqrt(20_000)
        assert np.abs(np.cov(drawn.T) - covariance).max() < 6 * sds.max() ** 2 / np.sqrt(20_000)
        summed = posterior.averaged(slice(2, 7))
        weights = np.kron(np.eye(4), np.r_[np.zeros(2), np.ones(5), np.zeros(2)] / 5)
        few = summed.draw(20_000, rng).reshape(20_000, -1)
        wanted = weights @ covariance @ weights.T
        assert np.abs(np.cov(few.T) - wanted).max() < 6 * np.diag(wanted).max() / np.sqrt(20_000)
        course = posterior.region({"one": np.array([1])}).draw(20_000, rng)[:, 0]
        assert np.abs(np.cov(course.T) - covariance[9:18, 9:18]).max() < 6 * sds.max() ** 2 / np.sqrt(20_000)


@pytest.mark.parametrize("name", ["independent", "kinds"])
def test_two_colours_and_independent_samples_give_the_conditional_of_each_sample(name):
    """Maps of a sample are given that sample alone; the scales are learned from all of them together."""
    problem, structure = coloured(2, samples=12), STRUCTURES[name]
    posterior = single(problem, structure)
    own = structure.noise_covariance(problem)
    total = 0.3 * problem.gain @ problem.gain.T + 0.64 * (np.eye(5) if own is None else own)
    assert_allclose(posterior.mean, 0.3 * problem.gain.T @ np.linalg.solve(total, problem.recording), atol=1e-9)


class OneOfThem:
    """In place of a generator: all random numbers are zero but one, which is one; they are counted."""

    def __init__(self, which=-1):
        self.which, self.count = which, 0

    def standard_normal(self, shape):
        table = np.zeros(int(np.prod(shape)))
        if 0 <= self.which - self.count < len(table):
            table[self.which - self.count] = 1
        self.count += len(table)
        return table.reshape(shape)


def covariance_of(draw):
    """Covariance of what is drawn with normal numbers, of which it must be a linear function."""
    counted = OneOfThem()
    assert not draw(counted).any()
    table = np.array([draw(OneOfThem(k)) for k in range(counted.count)])
    numbers = np.random.default_rng(0).standard_normal(len(table))
    assert_allclose(draw(np.random.default_rng(0)), numbers @ table, rtol=1e-9, atol=1e-12 * np.abs(table).max())
    return table.T @ table


@ALL
@BOTH
def test_draws_of_recordings_have_the_dense_covariance(name, groups):
    problem, structure = coloured(groups, samples=6, quiet=5, centred=True, sources=4), STRUCTURES[name]

    def both(rng):
        return np.concatenate([one.ravel() for one in draw_recording(problem, structure, 0.3, 0.8, rng)])

    currents, covariance, crossing = dense(problem, structure, 0.3, 0.8)
    wanted = np.block([[currents, crossing], [crossing.T, covariance]])
    # The correlation of courses and of noise over time has some jitter, or few enough modes.
    assert_allclose(covariance_of(both), wanted, rtol=0, atol=1e-6 * np.diag(wanted).max())
    own = structure.noise_covariance(problem)
    sds = 0.8 * (np.ones(5) if own is None else np.sqrt(np.diag(own)))
    expected = noise_covariance(problem, 0) * np.kron(np.outer(sds, sds), np.ones((5, 5)))
    quiet = covariance_of(lambda rng: draw_baseline(problem, structure, 0.8, rng).ravel())
    assert_allclose(quiet, expected, rtol=0, atol=1e-6 * expected.max())


@ALL
@BOTH
class TestCriticism:
    def test_left_out_components_are_dense_conditionals(self, name, groups):
        problem, structure = coloured(groups), STRUCTURES[name]
        posterior = single(problem, structure)
        covariance = dense(problem, structure, 0.3, 0.8)[1]
        found = component_densities(posterior, 1)[0]
        for component in range(5):
            inside = np.repeat(np.arange(5) == component, 7)
            assert_allclose(found[component], left_out(covariance, problem.recording.ravel(), inside), rtol=1e-6)

    def test_left_out_blocks_are_dense_conditionals(self, name, groups):
        problem, structure = coloured(groups), STRUCTURES[name]
        posterior = single(problem, structure)
        covariance = dense(problem, structure, 0.3, 0.8)[1]
        blocks = [slice(0, 3), slice(3, 5), slice(5, 7)]
        if groups == 2:
            # What one colour whitens depends on all that another one does.
            with pytest.raises(ValueError, match="integrating the model again"):
                block_densities(posterior, 1, blocks)
            return
        found = block_densities(posterior, 1, blocks)[0]
        for k, block in enumerate(blocks):
            inside = np.zeros((5, 7), dtype=bool)
            inside[:, block] = True
            assert_allclose(found[k], left_out(covariance, problem.recording.ravel(), inside.ravel()), rtol=1e-6)

    def test_samples_sum_to_the_density(self, name, groups):
        problem, structure = coloured(groups), STRUCTURES[name]
        found = single(problem, structure).log_likelihood()[0]
        wanted = multivariate_normal(cov=dense(problem, structure, 0.3, 0.8)[1]).logpdf(problem.recording.ravel())
        assert_allclose(found.sum(), wanted, rtol=1e-7)

    def test_new_replicates_have_the_dense_covariance(self, name, groups):
        problem, structure = coloured(groups, samples=5), STRUCTURES[name]
        spectrum = Spectrum.of(problem, structure)

        def drawn_once(rng):
            field = _new_field(spectrum, 0.3, rng)
            return (field + _inferred(spectrum, 0.3, 0.8, rng)[1]).ravel()

        wanted = dense(problem, structure, 0.3, 0.8)[1]
        assert_allclose(covariance_of(drawn_once), wanted, rtol=0, atol=1e-6 * np.diag(wanted).max())


def left_out(covariance, values, inside):
    """Log density of some values given the others."""
    rest = np.linalg.solve(covariance[np.ix_(~inside, ~inside)], covariance[np.ix_(~inside, inside)]).T
    mean = rest @ values[~inside]
    spread = covariance[np.ix_(inside, inside)] - rest @ covariance[np.ix_(~inside, inside)]
    return multivariate_normal(mean, spread, allow_singular=False).logpdf(values[inside])


@BOTH
@pytest.mark.parametrize("model", ["hierarchical", "depth_weighted", "sensor_noise", "temporal"])
def test_numpy_evidence_is_the_models_own_density(model, groups):
    from bayesinv.prior.catalogue import build
    from bayesinv.prior.density import Density

    problem = coloured(groups, samples=8, quiet=30, centred=True)
    built = build(model, problem)[1]
    density = Density.of(built)
    logp = built.compile_logp(mode=as_written())
    start = built.initial_point()
    nodes = np.array(
        [np.concatenate([np.ravel(value) + shift for value in start.values()]) for shift in (0.0, 0.1, -0.2)]
    )
    for node in nodes:
        point = dict(zip(start, node, strict=True))
        assert_allclose(density(node[None])[0], logp(point), rtol=1e-6)
    assert len(groups_of(problem)) == 5
