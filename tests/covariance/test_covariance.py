"""Structures of currents, noise and time against explicit covariances."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from referee import as_written
from scipy.stats import multivariate_normal
from structured import GAIN, scene

import bayesinv as bi
from bayesinv.covariance.covariance import GRAM_TOLERANCE, LengthTable, Structure
from bayesinv.covariance.time_course import correlation_over_time
from bayesinv.evidence import graph as evidence
from bayesinv.evidence.gradient import FactorisedDensity
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.prior.currents import Currents
from bayesinv.prior.density import Density
from bayesinv.prior.observation import observation

pytestmark = pytest.mark.filterwarnings("ignore:(?s).*ArviZ is undergoing a major refactor:FutureWarning")

FREE = {"oriented"}
MODELS = [
    "minimum_norm",
    "hierarchical",
    "depth_weighted",
    "oriented",
    "sensor_noise",
    "smooth",
    "multiple_sparse_priors",
    "fmri_informed",
    "temporal",
]


def built(name, problem):
    return bi.load_model(name)(problem)


def composed(problem, **given):
    """A model made of learned parts: name to a function that makes the variable."""
    import pymc as pm

    with pm.Model(coords=problem.coords) as model:
        scale = pm.HalfNormal("scale", 3 / GAIN)
        noise = pm.LogNormal("noise", 0, 0.3)
        parts = {key: value(pm) if callable(value) else value for key, value in given.items()}
        error = parts.pop("error", None)
        scales = parts.pop("noise", None)
        noise = noise if scales is None else noise * pm.math.stack([1.0, scales, 1.3])
        Currents(scale**2, **parts).observe("recording", problem, noise=noise, error=error)
    return model


def uniform(name):
    return lambda pm: pm.Uniform(name, 0.0, 1.0)


COMPOSED = {
    "depth and tangential and noise": (
        3,
        {"depth": uniform("depth"), "tangential": uniform("tangential"), "noise": lambda pm: pm.LogNormal("r", 0, 0.3)},
    ),
    "weights and fixed depth": (
        1,
        {"depth": 0.4, "weights": lambda pm: pm.math.exp(pm.Normal("b") * np.linspace(-1, 1, 32))},
    ),
    "matrices": (
        1,
        {
            "components": [np.diag(np.linspace(0.1, 1, 32)), np.ones((32, 32)) + np.eye(32)],
            "shares": lambda pm: pm.LogNormal("h", 0, 1, shape=2),
        },
    ),
    "length and noise": (
        1,
        {"length": lambda pm: 0.005 * 7 ** pm.Uniform("u"), "noise": lambda pm: pm.LogNormal("r", 0, 0.3)},
    ),
    "length and orientation": (3, {"length": lambda pm: 0.005 * 7 ** pm.Uniform("u"), "tangential": 0.3, "depth": 0.5}),
    "rough time courses": (1, {"time": lambda pm: 0.005 * 9 ** pm.Uniform("u"), "course": "autoregressive"}),
    "error": (1, {"depth": uniform("depth"), "error": lambda pm: pm.HalfNormal("e", 1)}),
}


def every():
    yield from ((name, None) for name in MODELS)
    yield from ((name, COMPOSED[name]) for name in COMPOSED)


@pytest.fixture(scope="module", params=list(every()), ids=[name for name, _ in every()])
def given(request):
    """A problem and a model of it: each shipped one, and compositions."""
    name, parts = request.param
    if parts is None:
        problem = scene(3 if name in FREE else 1)
        return problem, built(name, problem)
    axes, fields = parts
    problem = scene(axes, error=name == "error")
    return problem, composed(problem, **fields)


def dense_prior(structure, problem):
    """D (amplitude, amplitude) written out entry by entry."""
    count, axes = problem.source_count, problem.axes
    weights = np.ones(count) if structure.weights is None else np.array(structure.weights)
    if structure.depth is not None:
        norms = np.array([np.linalg.norm(problem.gain[:, s * axes : (s + 1) * axes]) for s in range(count)])
        weights = weights * (norms / np.exp(np.mean(np.log(norms)))) ** (-2 * structure.depth)
    half = np.zeros((count * axes, count * axes))
    for s in range(count):
        block = np.eye(axes)
        if structure.tangential is not None:
            n = problem.sources.normals[s]
            block = np.outer(n, n) + np.sqrt(structure.tangential) * (np.eye(3) - np.outer(n, n))
        half[s * axes : (s + 1) * axes, s * axes : (s + 1) * axes] = np.sqrt(weights[s]) * block
    inner = np.eye(count * axes)
    if structure.length is not None:
        inner = np.kron(structure.field(problem).product(np.eye(count)), np.eye(axes))
    if structure.factor is not None:
        inner = structure.factor @ np.diag(structure.shares) @ structure.factor.T
    return structure.scale * half @ inner @ half


def dense_noise(structure, problem):
    """Relative noise covariance of the components, from the sensors' own."""
    if structure.noise is None:
        return np.eye(problem.components)
    kinds = np.array(problem.noise.kinds)
    spread = np.zeros(len(kinds))
    for kind, scale in zip(problem.kinds, structure.noise, strict=True):
        spread[kinds == kind] = scale
    return problem.whitener @ (spread[:, None] * problem.noise.covariance * spread) @ problem.whitener.T


def dense_covariance(structure, problem, variance, noise):
    """Covariance (component × time, component × time) of the recording."""
    count = len(problem.times)
    gram = problem.gain @ dense_prior(structure, problem) @ problem.gain.T
    if structure.error:
        gram = gram + structure.error**2 * problem.error_factor @ problem.error_factor.T
    over = over_time(structure, problem)
    return np.kron(variance * gram, over) + np.kron(noise**2 * dense_noise(structure, problem), np.eye(count))


@pytest.fixture(scope="module")
def density(given):
    return Density.of(given[1])


@pytest.fixture(scope="module")
def posterior(given):
    """The posterior; of a learned structure by Laplace, whose nodes have many structures."""
    problem, model = given
    return bi.infer(model, problem, *(["laplace"] if observation(model).learned else []), draws=200)


def over_time(structure, problem):
    """Correlation (time, time) of the time courses."""
    if structure.time is None:
        return np.eye(len(problem.times))
    return correlation_over_time(problem.times, structure.time, structure.course)


def somewhere(density, rng, count=3):
    return density.start + rng.normal(scale=0.4, size=(count, density.dimension))


class TestEvidence:
    def test_is_that_of_the_explicit_covariance(self, given, density, rng):
        problem, _ = given
        nodes = somewhere(density, rng)
        prior = density._scales(nodes)[0]
        variance, noise = density.scales(nodes)
        for k, node in enumerate(nodes):
            (structure,) = density.structures(density.structural_nodes(node[None])[0])
            explicit = dense_covariance(structure, problem, variance[k], noise[k])
            wanted = multivariate_normal(cov=explicit).logpdf(problem.recording.ravel())
            baseline = multivariate_normal(cov=noise[k] ** 2 * dense_noise(structure, problem))
            wanted += baseline.logpdf(problem.baseline.T).sum()
            assert_allclose(density(node[None])[0], prior[k] + wanted, rtol=1e-6)
            assert_allclose(density.slope(node + 1e-9)[0], prior[k] + wanted, rtol=1e-6)

    def test_keeps_the_sensors_mean_power_for_unit_variance(self, given, density, rng):
        problem, _ = given
        for structure in density.structures(density.structural_nodes(somewhere(density, rng))[0]):
            gram = problem.gain @ dense_prior(structure, problem) @ problem.gain.T
            assert_allclose(np.trace(gram) / problem.components, problem.signal_power, rtol=1e-5)

    def test_is_the_models_own_density(self, request, given, density, rng):
        if request.node.callspec.id in MODELS:
            return  # held against it in test_models
        _, model = given
        logp = model.compile_logp(mode=as_written())
        nodes = somewhere(density, rng, 2)
        for node, height in zip(nodes, density(nodes), strict=True):
            parts = [node[at].reshape(shape) for at, shape in zip(density.coordinates, density.shapes, strict=True)]
            point = {value.name: part for value, part in zip(density.values, parts, strict=True)}
            assert_allclose(logp(point), height, rtol=1e-6)

    @pytest.mark.parametrize("name", ["depth_weighted", "smooth"])
    def test_what_cannot_be_interpolated_is_factorised(self, name, monkeypatch):
        monkeypatch.setattr(evidence, "LIKELIHOOD_TOLERANCE", -1.0)
        model = built(name, scene())
        density = Density.of(model)
        node = density.start + 0.1
        logp = model.compile_logp(mode=as_written())
        point = {value.name: part for value, part in zip(density.values, node, strict=True)}
        assert_allclose(logp(point), density(node[None])[0], rtol=1e-6)

    def test_gradient_is_that_of_differences(self, density, rng):
        if not density.dimension:
            return
        node = somewhere(density, rng, 1)[0]
        step = 1e-4
        shifts = step * np.eye(density.dimension)
        wanted = (density(node + shifts) - density(node - shifts)) / (2 * step)
        assert_allclose(density.slope(node)[1], wanted, rtol=2e-5, atol=1e-5 * np.abs(wanted).max())


class TestPosterior:
    def test_is_dense_gaussian_algebra(self, given, posterior, rng):
        problem, _ = given
        mixture, count = posterior.mixture, len(problem.times)
        weights, means, covariances = [], [], []
        for k in np.argsort(mixture.weights)[::-1][:3]:
            structure = mixture.structures[mixture.which[k]]
            over = over_time(structure, problem)
            prior = mixture.variance[k] * np.kron(dense_prior(structure, problem), over)
            gain = np.kron(problem.gain, np.eye(count))
            total = dense_covariance(structure, problem, mixture.variance[k], mixture.noise[k])
            kernel = np.linalg.solve(total, gain @ prior).T
            means.append((kernel @ problem.recording.ravel()).reshape(-1, count))
            covariances.append(prior - kernel @ gain @ prior)
            weights.append(mixture.weights[k])
        from dataclasses import replace

        largest = np.argsort(mixture.weights)[::-1][:3]
        share = np.array(weights) / np.sum(weights)
        small = replace(
            posterior,
            mixture=replace(
                mixture,
                weights=share,
                variance=mixture.variance[largest],
                noise=mixture.noise[largest],
                which=mixture.which[largest],
            ),
        )
        mean = np.tensordot(share, means, axes=1)
        within = [np.diag(one).reshape(-1, count) for one in covariances]
        variance = np.tensordot(share, np.array(within) + (np.array(means) - mean) ** 2, axes=1)
        flat = (-1, count)
        assert_allclose(small.mean.reshape(flat), mean, rtol=1e-5, atol=1e-7 * np.abs(mean).max())
        assert_allclose(small.sd.reshape(flat), np.sqrt(variance), rtol=1e-5)
        # A functional over a window.
        table = rng.normal(size=(2, problem.gain.shape[1]))
        shape = table.shape if problem.axes == 1 else (2, -1, 3)
        window = (problem.times[1], problem.times[3])
        over = np.zeros(count)
        over[1:4] = 1 / 3
        lean = np.einsum("fa,t->fat", table, over).reshape(2, -1)
        found = small.contrast(table.reshape(shape), window)
        wanted = [lean @ one @ lean.T for one in covariances]
        assert_allclose(
            np.tensordot(found.weights, found.covariances[:, 0], axes=1), np.tensordot(share, wanted, axes=1), rtol=1e-4
        )
        assert_allclose(found.mean[:, 0], lean @ mean.ravel(), rtol=1e-4, atol=1e-7 * np.abs(mean).max())

    def test_draws_have_its_mean_and_covariance(self, given, posterior, rng):
        problem, _ = given
        table = rng.normal(size=(1, problem.gain.shape[1]))
        shape = table.shape if problem.axes == 1 else (1, -1, 3)
        course = posterior.contrast(table.reshape(shape))
        drawn = posterior.draw(3000, rng).reshape(3000, -1, len(problem.times))
        projected = np.einsum("a,dat->dt", table[0], drawn)
        error = course.sd[0] / np.sqrt(3000)
        assert (np.abs(projected.mean(axis=0) - course.mean[0]) < 5 * error).all()
        assert_allclose(projected.std(axis=0), course.sd[0], rtol=5 * np.sqrt(0.5 / 3000) + 0.02)
        again = course.draw(3000, rng)[:, 0]
        both = [np.corrcoef(one[:, 0], one[:, 1])[0, 1] for one in (projected, again)]
        assert abs(both[0] - both[1]) < 6 / np.sqrt(3000)
        one = posterior.averaged((problem.times[1], problem.times[3]))
        mean = posterior.contrast(table.reshape(shape), (problem.times[1], problem.times[3]))
        flat = one.draw(3000, rng).reshape(3000, -1) @ table[0]
        assert abs(flat.mean() - mean.mean[0, 0]) < 5 * mean.sd[0, 0] / np.sqrt(3000)
        assert_allclose(flat.std(), mean.sd[0, 0], rtol=5 * np.sqrt(0.5 / 3000) + 0.02)

    def test_prior_draws_have_the_priors_covariance(self, given, density, rng):
        problem, _ = given
        (structure,) = density.structures(density.structural_nodes(somewhere(density, rng, 1))[0])
        prior = dense_prior(structure, problem)
        drawn = structure.sample(problem, rng.standard_normal((structure.sample_size(problem), 20_000)))
        found = drawn @ drawn.T / 20_000
        spread = np.sqrt(np.outer(np.diag(prior), np.diag(prior)) + prior**2)
        assert (np.abs(found - prior) <= 5.5 * spread / np.sqrt(20_000) + 1e-12).all()
        assert_allclose(structure.diagonal(problem), np.diag(prior), rtol=1e-8, atol=1e-12)
        assert_allclose(
            structure.product(problem, np.eye(len(prior))), prior, rtol=1e-7, atol=1e-9 * np.abs(prior).max()
        )


class TestTables:
    def test_depth_table_is_the_gram_matrix(self, rng):
        problem = scene(3)
        for tangential in (None, 0.3):
            for depth in (0.0, 0.31, 1.0):
                one = Structure(depth=depth, tangential=tangential, scale=1.7, tabled=True)
                assert_allclose(one.gram(problem), one.gram(problem, exact=True), rtol=1e-9, atol=1e-10 * GAIN**2)

    def test_depth_table_knows_weights_of_sources_and_of_their_axes(self, rng):
        problem = scene(3)
        for count in (problem.source_count, 3 * problem.source_count):
            one = Structure(depth=0.31, weights=rng.uniform(0.5, 2, count), tabled=True)
            assert_allclose(one.gram(problem), one.gram(problem, exact=True), rtol=1e-9, atol=1e-10 * GAIN**2)

    def test_length_table_is_the_gram_matrix_by_number_and_by_graph(self):
        import pytensor.tensor as pt

        problem = scene()
        low, high = problem.length_range
        table = LengthTable.of(problem, Structure(length=low))
        assert table.error <= GRAM_TOLERANCE
        for length in (low, 0.017, high):
            gram = Structure(length=length).gram(problem, exact=True)
            assert_allclose(table.at(length), gram, atol=2 * GRAM_TOLERANCE * np.abs(gram).max())
            assert_allclose(table.trace(length), np.trace(table.at(length)), rtol=1e-12)
            for graph, number in ((table.at, table.at(length)), (table.trace, table.trace(length))):
                found = graph(pt.constant(length)).eval(mode=as_written())
                assert_allclose(found, number, rtol=1e-7, atol=1e-8 * np.abs(number).max())

    def test_one_factorisation_gives_what_the_spectrum_gives(self):
        problem = scene()
        one = Structure(depth=0.3, noise=np.array([1.0, 0.8, 1.4]))
        spectrum = Spectrum.of(problem, one)
        at = np.array([4 / GAIN**2]), np.array([1.1])
        factorised = FactorisedDensity.of(problem, one, float(at[0][0]), float(at[1][0]), baseline=True)
        total = spectrum.log_likelihood(*at) + spectrum.baseline_log_likelihood(at[1])
        assert_allclose(factorised.log_density, total[0], rtol=1e-10)
        assert_allclose(
            (factorised.by_variance, factorised.by_scale),
            spectrum.likelihood.slopes(*(float(x[0]) for x in at)),
            rtol=1e-8,
        )
        by_gram, by_noise = spectrum.sensitivity(*(float(x[0]) for x in at))
        assert_allclose(factorised.by_gram, by_gram, rtol=1e-7, atol=1e-9 * np.abs(by_gram).max())
        assert_allclose(factorised.by_noise, by_noise, rtol=1e-7, atol=1e-9 * np.abs(by_noise).max())


class TestDoor:
    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ({"components": np.zeros(32, dtype=int)}, "components and shares belong together"),
            ({"components": np.full(32, -1), "shares": np.ones(1)}, "covers no source"),
            ({"components": np.repeat([0, 2], 16), "shares": np.ones(3)}, "component 1 holds no source"),
            ({"components": np.zeros(32), "shares": np.ones(1)}, "labels are whole numbers"),
            ({"components": [-np.eye(32)], "shares": np.ones(1)}, "component 0 is not positive semidefinite"),
            ({"components": [], "shares": np.ones(1)}, "components is empty"),
            (
                {"components": np.zeros(32, dtype=int), "shares": np.ones(1), "length": 0.02},
                "either smooth .* or made of",
            ),
            ({"tangential": 1.5}, "tangential is 1.5, but must lie between 0 and 1"),
            ({"length": -1.0}, "length is -1.0, but must be positive"),
            ({"time": 0.0}, "time is 0.0, but must be positive"),
            ({"time": 0.1, "course": "rough"}, "no course named 'rough'; there are autoregressive, matern"),
        ],
    )
    def test_currents(self, given, words):
        with pytest.raises(ValueError, match=words):
            Currents(1.0, **given)

    @pytest.mark.parametrize(
        ("axes", "given", "words"),
        [
            (1, {"tangential": 0.5}, "fixed orientation: there are no tangential currents"),
            (3, {"tangential": 0.5, "weights": np.ones(96)}, "weights are those of sources, not of axes"),
            (1, {"weights": np.ones(5)}, "weights has source = 5, but the problem has source = 32"),
            (1, {"length": 0.2}, "length-scale is 200 mm, but on this cortex it must stay between 5 and 37"),
            (1, {"components": [np.eye(5)], "shares": np.ones(1)}, "component matrices have amplitude = 5"),
        ],
    )
    def test_structure(self, axes, given, words):
        with pytest.raises(ValueError, match=words):
            Currents(1.0, **given).structure(scene(axes))

    def test_times(self):
        problem = scene()
        uneven = problem.again(problem.recording, [0.0, 0.01, 0.03, 0.04, 0.05])
        with pytest.raises(ValueError, match=r"equally spaced samples, but the steps run from 10 to 20 ms"):
            Currents(1.0, time=0.02).structure(uneven)
        with pytest.raises(ValueError, match="want at least 3 samples, but there are 2"):
            Currents(1.0, time=0.02).structure(problem.again(problem.recording[:, :2]))

    def test_noise_scales(self):
        import pymc as pm

        with pm.Model(), pytest.raises(ValueError, match="one positive scale per kind of sensor"):
            Currents(1.0).observe("recording", scene(), noise=np.ones(2))

    def test_what_cannot_be_learned_together(self):
        import pymc as pm

        with pm.Model(), pytest.raises(ValueError, match="a smooth field wants fixed depth"):
            Currents(1.0, length=0.02, depth=pm.Uniform("depth"))
