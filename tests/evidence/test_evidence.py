import numpy as np
import pytest
from numpy.testing import assert_allclose
from referee import GAIN, depth, toy
from scipy.stats import multivariate_normal, norm

import bayesinv as bi
from bayesinv.covariance.covariance import Structure
from bayesinv.covariance.time_course import correlation_over_time
from bayesinv.evidence.graph import LIKELIHOOD_TOLERANCE, InterpolatedSpectrum
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.prior.currents import Currents, depth_weights
from bayesinv.prior.observation import observation
from bayesinv.prior.structure_fields import STRUCTURAL_NAMES, scaled_fields

pytestmark = pytest.mark.filterwarnings("ignore:(?s).*ArviZ is undergoing a major refactor:FutureWarning")

CASES = {
    "mild": {"sensors": 10, "sources": 60, "samples": 7},
    "wide": {"sensors": 30, "sources": 300, "samples": 40, "spread": 1.5},
    "one sample": {"sensors": 12, "sources": 50, "samples": 1},
    "no signal": {"sensors": 12, "sources": 50, "samples": 30, "amplitude": 1e-3},
    "huge signal": {"sensors": 12, "sources": 50, "samples": 400, "amplitude": 2000.0},
    "free": {"sensors": 20, "sources": 90, "samples": 60, "axes": 3},
}

BOTH = pytest.mark.parametrize("learned_depth", [False, True], ids=["scales", "depth"])
LINKERS = [
    pytest.param(learned_depth, linker, marks=[pytest.mark.slow] * (learned_depth or linker == "FAST_RUN"))
    for learned_depth in (False, True)
    for linker in ("NUMBA", "JAX", "FAST_RUN")
]


def scales(rng, count):
    """Source variances, (A m)², and noise scales as a posterior may hold them."""
    return (np.exp(rng.normal(0, 1.5, count)) / GAIN) ** 2, np.exp(rng.normal(0, 0.3, count))


def density(problem, variance, noise, weights=None):
    """Log density of the recording by SciPy, sample after sample."""
    prior = variance * (np.ones(problem.gain.shape[1]) if weights is None else weights)
    total = problem.gain @ np.diag(prior) @ problem.gain.T + noise**2 * np.eye(problem.components)
    return sum(multivariate_normal(cov=total).logpdf(sample) for sample in problem.recording.T)


class TestSpectrum:
    @pytest.mark.parametrize("axes", [1, 3])
    @pytest.mark.parametrize(("sensors", "sources"), [(6, 11), (9, 2)])
    def test_log_likelihood_is_the_gaussian_density(self, rng, axes, sensors, sources):
        problem = toy(sensors=sensors, sources=sources, axes=axes)
        weights = np.exp(rng.normal(size=sources * axes))
        variance, noise = scales(rng, 5)
        for given in (None, weights):
            found = Spectrum.of(problem, given).log_likelihood(variance, noise)
            wanted = [density(problem, v, n, given) for v, n in zip(variance, noise, strict=True)]
            assert_allclose(found, wanted, rtol=1e-10)

    def test_many_parts_on_a_grid_have_the_gaussian_density(self, rng):
        """Of a time constant: all samples at once, by SciPy."""
        problem = toy(sensors=18, sources=25, samples=31, quiet=0)
        spectrum = Spectrum.of(problem, Structure(time=0.03))
        assert len(spectrum.likelihood.eigenvalues) < problem.recording.size / 3
        variance, noise = scales(rng, 2)
        signal = np.kron(problem.gain @ problem.gain.T, correlation_over_time(problem.times, 0.03))
        wanted = [
            multivariate_normal(cov=v * signal + n**2 * np.eye(len(signal))).logpdf(problem.recording.ravel())
            for v, n in zip(variance, noise, strict=True)
        ]
        assert_allclose(spectrum.log_likelihood(variance, noise), wanted, rtol=1e-10)

    def test_is_made_once(self):
        problem = toy()
        assert Spectrum.of(problem) is Spectrum.of(problem)
        weights = np.linspace(1, 2, 11)
        assert Spectrum.of(problem, weights) is Spectrum.of(problem, weights.copy())
        assert Spectrum.of(problem, weights) is not Spectrum.of(problem)

    def test_back_takes_coefficients_to_currents(self, rng):
        problem = toy(axes=3)
        weights = np.exp(rng.normal(size=33))
        spectrum = Spectrum.of(problem, weights)
        assert_allclose(spectrum.to_sources() @ spectrum.to_components.T, weights[:, None] * problem.gain.T, rtol=1e-9)
        assert_allclose(spectrum.to_sources(slice(4, 9)), spectrum.to_sources()[4:9])


class TestBaseline:
    def test_is_pure_noise(self, rng):
        problem = toy()
        noise = scales(rng, 4)[1]
        wanted = [norm(scale=n).logpdf(problem.baseline).sum() for n in noise]
        assert_allclose(Spectrum.of(problem).baseline_log_likelihood(noise), wanted, rtol=1e-12)

    def test_centred_it_lives_on_its_subspace(self, rng):
        problem = toy(centred=True)
        # An orthonormal basis of the time courses whose mean is zero; the density is that of the coordinates.
        centre = np.eye(9) - 1 / 9
        basis = np.linalg.eigh(centre)[1][:, 1:]
        noise = scales(rng, 4)[1]
        wanted = [norm(scale=n).logpdf(problem.baseline @ basis).sum() for n in noise]
        assert_allclose(Spectrum.of(problem).baseline_log_likelihood(noise), wanted, rtol=1e-12)

    def test_without_one_nothing_is_said(self):
        assert_allclose(Spectrum.of(toy(quiet=0)).baseline_log_likelihood(np.array([1.0, 2.0])), [0, 0])


class TestDepthWeights:
    @pytest.mark.parametrize("axes", [1, 3])
    @pytest.mark.parametrize("exponent", [0.0, 0.37, 1.0])
    def test_follow_the_norm_of_the_gain_and_keep_the_trace(self, axes, exponent):
        problem = toy(axes=axes)
        weights = depth_weights(problem, exponent)
        assert_allclose(weights, depth(problem, exponent), rtol=1e-10)
        assert_allclose(np.sum(problem.gain**2 * weights), np.sum(problem.gain**2), rtol=1e-12)

    @pytest.mark.parametrize("exponent", [-0.1, 1.01, np.nan])
    def test_exponent_lies_between_0_and_1(self, exponent):
        with pytest.raises(ValueError, match=r"depth exponent is .*, but must lie between 0 and 1"):
            depth_weights(toy(), exponent)

    @pytest.mark.parametrize("axes", [1, 3])
    def test_as_a_graph_they_are_the_same(self, axes):
        import pytensor.tensor as pt

        problem = toy(axes=axes)
        given = np.linspace(1, 2, 11)
        exponent = pt.dscalar()
        shape = {**dict.fromkeys(STRUCTURAL_NAMES), "depth": exponent, "weights": given}
        graph = scaled_fields(Currents(1.0), problem, shape, pt.exp)["scale"]
        scale = graph.eval({exponent: 0.6}, mode="FAST_COMPILE")
        found = np.repeat(scale * given * np.exp(-1.2 * problem.log_norms), axes)
        wanted = depth(problem, 0.6) * np.repeat(given, axes)
        power = np.sum(problem.gain**2, axis=0)
        assert_allclose(found, wanted * (np.repeat(given, axes) @ power) / (wanted @ power), rtol=1e-10)
        fixed = Currents(1.0, depth=0.6, weights=given).structure(problem)
        assert_allclose(fixed.diagonal(problem), found, rtol=1e-12)


def learned(problem):
    import pymc as pm

    with pm.Model() as built:
        Currents(1.0, depth=pm.Uniform("depth")).observe("recording", problem)
    return observation(built).interpolated_spectrum


def supported(problem, spectrum, rng, count):
    """Scales that the recording does not rule out: the most likely ones, moved by a few nats' worth."""
    ratio = np.geomspace(0.01, 1e5, 400)
    variance_at_unit_noise = ratio**2 / problem.signal_power
    likelihood = spectrum.likelihood
    totals = variance_at_unit_noise[:, None] * likelihood.eigenvalues + 1
    noise = np.sqrt((likelihood.powers / totals).sum(axis=1) / problem.recording.size)
    best = np.argmax(spectrum.log_likelihood(variance_at_unit_noise * noise**2, noise))
    spread = 2 / np.sqrt(problem.recording.size)
    moved = noise[best] * np.exp(spread * rng.normal(size=count))
    return variance_at_unit_noise[best] * moved**2 * np.exp(spread * rng.normal(size=count)), moved


class TestInterpolatedSpectrum:
    @pytest.mark.parametrize("case", CASES)
    def test_interpolation_is_exact_to_its_tolerance(self, rng, case):
        problem = toy(3, **CASES[case])
        interpolated = learned(problem)
        assert interpolated.error <= LIKELIHOOD_TOLERANCE == 1e-6
        for exponent in [*rng.uniform(size=12), 0.0, 1.0, 1e-3, 0.5]:
            spectrum = Spectrum.of(problem, depth(problem, exponent))
            variance, noise = supported(problem, spectrum, rng, 6)
            exact = spectrum.log_likelihood(variance, noise)
            found = interpolated.log_likelihood(variance, noise, np.full(6, exponent))
            rounding = 1e-13 * np.abs(exact).max()
            assert np.abs(found - exact).max() <= 1e-6 + rounding

    def test_its_reported_error_is_that_of_interpolation(self, rng):
        problem = toy(3, **CASES["wide"])
        coarse_points = (1 - np.cos(np.pi * np.arange(6) / 5)) / 2
        at = {x: Spectrum.of(problem, depth(problem, x)) for x in coarse_points}
        coarse = InterpolatedSpectrum(coarse_points, tuple(at.values()))
        claimed = max(coarse._error_at(x, Spectrum.of(problem, depth(problem, x))) for x in coarse.series.between)
        worst = 0.0
        for exponent in rng.uniform(size=30):
            spectrum = Spectrum.of(problem, depth(problem, exponent))
            variance, noise = supported(problem, spectrum, rng, 3)
            found = coarse.log_likelihood(variance, noise, np.full(3, exponent))
            worst = max(worst, np.abs(found - spectrum.log_likelihood(variance, noise)).max())
        assert worst > 1e-3  # six points are far too few here
        assert claimed > worst / 10

    def test_at_its_points_it_is_the_spectrum(self, rng):
        problem = toy()
        interpolated = learned(problem)
        variance, noise = scales(rng, 1)
        for point, spectrum in zip(interpolated.points, interpolated.spectra, strict=True):
            found = interpolated.log_likelihood(variance, noise, np.array([point]))
            assert_allclose(found, spectrum.log_likelihood(variance, noise), rtol=1e-12)

    def test_refuses_what_it_cannot_interpolate(self):
        problem = toy()
        with pytest.raises(ValueError, match=r"could not be interpolated to 1e-06 nats \(65 points leave"):
            InterpolatedSpectrum.along(
                lambda x: Spectrum.of(problem, np.linspace(1, 5, 11) ** np.sin(40 * x)), 0.0, 1.0
            )

    def test_refuses_numbers_beyond_its_ends(self):
        interpolated = learned(toy())
        with pytest.raises(ValueError, match=r"structural number reaches 1\.2, but must stay between 0 and 1"):
            interpolated.log_likelihood(np.ones(2), np.ones(2), np.array([0.5, 1.2]))

    def test_beyond_its_ends_the_graph_has_no_density(self):
        problem = toy()
        found = learned(problem).graph(problem.recording, 1.0 / GAIN**2, 1.0, np.float64(1.2))
        assert found.eval(mode="FAST_COMPILE") == -np.inf


def marginal(problem, learned_depth):
    """A model whose scales are its only free variables, untransformed, for functions of the scales."""
    import pymc as pm

    with pm.Model(coords=problem.coords) as built:
        noise = pm.LogNormal("noise", 0.0, 0.5, default_transform=None)
        scale = pm.HalfNormal("scale", problem.scale_guess, default_transform=None)
        exponent = pm.Uniform("depth", 0.0, 1.0, default_transform=None) if learned_depth else None
        Currents(variance=scale**2, depth=exponent).observe("recording", problem, noise=noise)
    return built


def points(problem, rng, count=4):
    return [
        {
            "noise": float(np.exp(0.2 * rng.normal())),
            "scale": float(problem.scale_guess * np.exp(rng.normal())),
            "depth": float(rng.uniform(0.05, 0.95)),
        }
        for _ in range(count)
    ]


def linked(built, linker, gradient=False):
    """Log likelihood of recording and baseline (and its gradient) compiled by a linker."""
    import pytensor.gradient
    from pytensor import function
    from pytensor.compile.mode import get_mode

    logp = built.logp(vars=built.observed_RVs)
    outputs = [logp, *pytensor.gradient.grad(logp, built.value_vars)] if gradient else logp
    mode = get_mode(linker)
    run = function(built.value_vars, outputs, mode=mode, on_unused_input="ignore")
    return lambda point: run(*[point[value.name] for value in built.value_vars])


class TestGraph:
    def exact(self, problem, point, learned_depth):
        weights = depth(problem, point["depth"]) if learned_depth else None
        return (
            density(problem, point["scale"] ** 2, point["noise"], weights)
            + norm(scale=point["noise"]).logpdf(problem.baseline).sum()
        )

    @BOTH
    def test_is_the_gaussian_density(self, rng, learned_depth):
        problem = toy()
        run = linked(marginal(problem, learned_depth), "FAST_COMPILE")
        for point in points(problem, rng):
            assert_allclose(run(point), self.exact(problem, point, learned_depth), rtol=1e-9)

    @BOTH
    def test_gradient_is_that_of_finite_differences(self, rng, learned_depth):
        problem = toy()
        built = marginal(problem, learned_depth)
        run = linked(built, "FAST_COMPILE", gradient=True)
        for point in points(problem, rng):
            _, *slopes = run(point)
            for value, slope in zip(built.value_vars, slopes, strict=True):
                step = 3e-4 * point[value.name]
                at = [
                    self.exact(problem, {**point, value.name: point[value.name] + k * step}, learned_depth)
                    for k in (-2, -1, 1, 2)
                ]
                assert_allclose(slope, np.dot(at, [1, -8, 8, -1]) / (12 * step), rtol=1e-5)

    @BOTH
    def test_gradient_is_that_of_the_dense_formula(self, rng, learned_depth):
        import pytensor.gradient
        import pytensor.tensor as pt
        from pytensor import function

        problem = toy(axes=3)
        variables = {name: pt.dscalar(name) for name in ("noise", "scale", "depth")}
        norms = np.linalg.norm(problem.gain.reshape(6, 11, 3), axis=(0, 2))
        relative = pt.exp(-2 * variables["depth"] * np.log(norms / norms.mean()))
        relative = relative * np.sum(norms**2) / pt.sum(relative * norms**2)
        gain = pt.constant(problem.gain)
        prior = variables["scale"] ** 2 * (pt.repeat(relative, 3) if learned_depth else pt.ones(33))
        total = (gain * prior) @ gain.T + variables["noise"] ** 2 * pt.eye(6)
        logdet = pt.linalg.slogdet(total)[1]
        power = pt.sum(problem.recording * pt.linalg.solve(total, problem.recording))
        logp = -0.5 * (4 * (6 * np.log(2 * np.pi) + logdet) + power)
        logp -= 0.5 * (
            54 * (np.log(2 * np.pi) + 2 * pt.log(variables["noise"]))
            + np.sum(problem.baseline**2) / variables["noise"] ** 2
        )
        names = ["noise", "scale", "depth"][: 3 if learned_depth else 2]
        dense = function(
            [variables[name] for name in names],
            [logp, *pytensor.gradient.grad(logp, [variables[name] for name in names])],
            mode="FAST_COMPILE",
        )
        run = linked(marginal(problem, learned_depth), "FAST_COMPILE", gradient=True)
        for point in points(problem, rng):
            found, wanted = run(point), dense(*[point[name] for name in names])
            assert_allclose(np.array(found, float), np.array(wanted, float), rtol=1e-7)

    @pytest.mark.parametrize(("learned_depth", "linker"), LINKERS)
    def test_every_linker_agrees(self, rng, learned_depth, linker):
        pytest.importorskip(
            {"NUMBA": "numba", "JAX": "jax"}.get(linker, "pytensor"), reason=f"{linker} is not installed"
        )
        problem = toy()
        built = marginal(problem, learned_depth)
        plain, other = linked(built, "FAST_COMPILE", gradient=True), linked(built, linker, gradient=True)
        for point in points(problem, rng, 2):
            assert_allclose(np.array(other(point), float), np.array(plain(point), float), rtol=1e-9)


class TestCost:
    def test_an_evaluation_uses_no_array_as_long_as_time_or_sources(self):
        import pytensor.gradient
        from pytensor import function

        problem = toy(sensors=6, sources=31, samples=17, quiet=23)
        built = marginal(problem, False)
        logp = built.logp(vars=built.observed_RVs)
        run = function(built.value_vars, [logp, *pytensor.gradient.grad(logp, built.value_vars)])
        lengths = set()
        for node in run.maker.fgraph.apply_nodes:
            for variable in [*node.inputs, *node.outputs]:
                held = getattr(variable, "data", None)
                lengths |= set(np.shape(held)) if held is not None else set()
                lengths |= {size for size in getattr(variable.type, "shape", ()) if size}
                assert getattr(variable.type, "ndim", 0) <= 1
        assert 6 in lengths
        assert not lengths & {17, 23, 31}


class TestCurrentsDoor:
    @pytest.mark.parametrize("variance", [0.0, -1.0, np.nan, np.inf])
    def test_variance(self, variance):
        with pytest.raises(ValueError, match=r"variance is .*, but must be positive and finite, in \(A m\)²"):
            Currents(variance)

    @pytest.mark.parametrize("exponent", [-0.5, 1.5, np.nan])
    def test_depth(self, exponent):
        with pytest.raises(ValueError, match=r"depth is .*, but must lie between 0 and 1"):
            Currents(1.0, depth=exponent)

    def test_weights(self):
        with pytest.raises(ValueError, match="weights must be positive, but source 1 has 0"):
            Currents(1.0, weights=[1.0, 0.0])
        with pytest.raises(ValueError, match="weights holds 1 NaN"):
            Currents(1.0, weights=[1.0, np.nan])
        with pytest.raises(ValueError, match="weights has source = 3, but the problem has source = 11"):
            Currents(1.0, weights=np.ones(3)).structure(toy())

    @pytest.mark.parametrize("noise", [0.0, -1.0, np.nan])
    def test_noise(self, noise):
        import pymc as pm

        with pm.Model(), pytest.raises(ValueError, match=r"noise is .*, but the scale of the noise must be positive"):
            Currents(1.0).observe("recording", toy(), noise=noise)

    def test_latent_wants_a_fixed_depth(self):
        import pymc as pm

        with pm.Model(), pytest.raises(ValueError, match="depth is learned; give its value"):
            Currents(1.0, depth=pm.Uniform("depth")).latent("current", toy())

    def test_a_model_without_a_recording(self):
        import pymc as pm

        with pytest.raises(ValueError, match="observes no recording; it must call Currents"):
            observation(pm.Model())

    def test_weights_of_sources_or_of_amplitudes(self):
        problem = toy(axes=3)
        by_source = Spectrum.of(problem, Currents(1.0, weights=np.linspace(1, 2, 11)).structure(problem))
        by_amplitude = Spectrum.of(
            problem, Currents(1.0, weights=np.repeat(np.linspace(1, 2, 11), 3)).structure(problem)
        )
        assert_allclose(by_source.values, by_amplitude.values)


def test_a_baseline_may_be_left_out():
    import pymc as pm

    problem = toy()
    with pm.Model() as built:
        Currents((1 / GAIN) ** 2).observe("recording", problem, noise=1.0, baseline=False)
    assert [variable.name for variable in built.observed_RVs] == ["recording"]
    assert_allclose(float(bi.infer(built, problem).log_evidence), density(problem, (1 / GAIN) ** 2, 1.0), rtol=1e-10)
