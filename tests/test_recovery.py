"""What a prior learns is what was simulated; its evidence and its chains agree with integrals taken otherwise.

Truths are drawn by NumPy; the integrals are sums over draws of densities that SciPy and dense algebra give.
"""

import numpy as np
import pymc as pm
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import minimize
from scipy.special import expit, logsumexp
from scipy.stats import binom, halfnorm, lognorm, multivariate_t, norm
from structured import cortex, scene
from templates import covariances, simulate, template

import bayesinv as bi
from bayesinv.covariance.cortical_field import Matern
from bayesinv.criticism.bands import probability

pytestmark = pytest.mark.filterwarnings(
    "ignore:(?s).*ArviZ is undergoing a major refactor:FutureWarning", "ignore:the whitened baseline:UserWarning"
)


def enough(count, level):
    """Hits of right intervals of a level, as few of which come once in two hundred times."""
    return binom.ppf(0.005, count, level)


def ring(rng, *, sensors=18, sources=40, samples=12, quiet=40, **given):
    """A problem in a disc, whose gain is smooth over neighbours and falls with depth; and where its sources are."""
    angle, radius = rng.uniform(0, 2 * np.pi, sources), np.sqrt(rng.uniform(0.1, 0.9, sources))
    places = np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])
    around = 2 * np.pi * np.arange(sensors) / sensors
    apart = 1.2 * np.column_stack([np.cos(around), np.sin(around)])[:, None] - places
    turned = rng.uniform(0, 2 * np.pi, sources)
    gain = 1e8 * (apart[..., 0] * np.cos(turned) + apart[..., 1] * np.sin(turned)) / np.sum(apart**2, axis=2)
    field = np.ones((sensors, samples))
    return places, bi.Problem.from_arrays(
        gain, field, times=0.01 * np.arange(samples), baseline=np.ones((sensors, quiet)), **given
    )


def root(covariance):
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0))


def heard(problem, relative, rng, *, snr=3.0, course=None, noise=None):
    """Currents (amplitude, time) of a relative covariance that reach the sensors with an SNR, and their recording."""
    gain, (components, samples) = problem.gain, problem.recording.shape
    scale = snr / np.sqrt(np.trace(gain @ relative @ gain.T) / components)
    current = scale * root(relative) @ rng.normal(size=(len(relative), samples))
    if course is not None:
        current = current @ root(course).T
    quiet = problem.baseline.shape[1]
    error = rng.normal(size=(components, samples + quiet))
    error = error if noise is None else root(noise) @ error
    return current, problem.again(gain @ current + error[:, :samples], problem.times, baseline=error[:, samples:])


def likeness(posterior, current):
    """Correlation, over sources, of the size of the posterior mean with that of the truth."""
    found, truth = np.linalg.norm(posterior.mean, axis=-1), np.linalg.norm(current, axis=-1)
    return float(np.corrcoef(found, truth)[0, 1])


def covers(posterior, name, value, level=0.9):
    low, high = posterior.hyper[name].interval(level)
    return low <= value <= high


def share_covered(posterior, current, level=0.9):
    low, high = posterior.interval(level)
    return float(np.mean((low <= current) & (current <= high)))


# --- maps of another modality


TRUTHS = {"follows": 1.5, "contradicts": -1.5, "ignores": 0.0}


def informed(truth, seed, more=0):
    """A truth whose variances follow, contradict or ignore a map; with and without the map."""
    rng = np.random.default_rng(seed)
    places, problem = ring(rng)
    centre = places[rng.integers(len(places))]
    values = np.exp(-np.sum((places - centre) ** 2, axis=1) / (2 * 0.35**2))
    values = (values - values.mean()) / values.std()
    current, problem = heard(problem, np.diag(np.exp(TRUTHS[truth] * values)), rng)
    others = {f"other {i}": rng.normal(size=len(values)) for i in range(more)}
    problem = problem.with_maps({"fmri": values, **others})
    return current, bi.infer("fmri_informed", problem, draws=2000), bi.infer("hierarchical", problem, draws=200)


class TestMap:
    def test_one_that_the_truth_follows_is_believed(self):
        current, with_map, without = informed("follows", 0)
        assert covers(with_map, "weight_fmri", 1.5)
        assert with_map.hyper["weight_fmri"].interval(0.99)[0] > 0
        assert likeness(with_map, current) > likeness(without, current) + 0.2
        assert with_map.log_evidence > without.log_evidence + 10

    def test_one_that_the_truth_contradicts_is_turned_around(self):
        current, with_map, without = informed("contradicts", 0)
        assert with_map.hyper["weight_fmri"].interval(0.99)[1] < 0
        assert likeness(with_map, current) > likeness(without, current) - 0.02

    def test_one_that_the_truth_ignores_has_no_say(self):
        current, with_map, without = informed("ignores", 0)
        assert covers(with_map, "weight_fmri", 0.0)
        assert abs(likeness(with_map, current) - likeness(without, current)) < 0.05
        assert with_map.log_evidence < without.log_evidence

    def test_of_several_only_the_right_one_gets_weight(self):
        _, with_maps, without = informed("follows", 1, more=1)
        assert with_maps.method == "quadrature"
        assert with_maps.hyper["weight_fmri"].interval(0.99)[0] > 0
        assert covers(with_maps, "weight_other 0", 0.0)
        assert with_maps.log_evidence > without.log_evidence + 5

    @pytest.mark.parametrize(
        ("values", "match"),
        [
            (np.r_[np.nan, np.arange(39.0)], "map 'fmri' holds 1 NaN or infinite value of 40"),
            (np.arange(41.0), "map 'fmri' has source = 41, but the problem has source = 40"),
            (np.full(40, 2.5), "map 'fmri' is the same at every source; it tells nothing"),
        ],
    )
    def test_one_that_cannot_be_read_is_refused(self, rng, values, match):
        with pytest.raises(ValueError, match=match):
            ring(rng)[1].with_maps({"fmri": values})

    def test_without_one_the_model_says_where_to_give_it(self, rng):
        with pytest.raises(ValueError, match=r"there is no map; give some with problem\.with_maps"):
            bi.infer("fmri_informed", ring(rng)[1])

    @pytest.mark.slow
    @pytest.mark.parametrize("truth", ["follows", "ignores"])
    def test_over_many_truths(self, truth):
        hits, gains, factors = [], [], []
        for seed in range(100, 120):
            current, with_map, without = informed(truth, seed)
            hits.append(covers(with_map, "weight_fmri", TRUTHS[truth]))
            gains.append(likeness(with_map, current) - likeness(without, current))
            factors.append(with_map.log_evidence - without.log_evidence)
        assert sum(hits) >= enough(20, 0.9)
        if truth == "follows":
            assert np.mean(gains) > 0.1
            assert np.mean(np.array(factors) > 3) > 0.9
        else:
            assert np.mean(gains) > -0.02
            assert np.mean(np.array(factors) < 0) > 0.8


# --- noise by kind of sensor


OFF = {"mag": 0.6, "grad": 1.5, "eeg": 1.0}


def misjudged(seed, samples=12):
    """A recording whose noise is, by kind of sensor, off the covariance that is given; and its currents."""
    rng = np.random.default_rng(seed)
    kinds = ["mag"] * 4 + ["grad"] * 5 + ["eeg"] * 6
    mixing = np.eye(15) + 0.3 * rng.normal(size=(15, 15)) / np.sqrt(15)
    _, problem = ring(rng, sensors=15, samples=samples, noise_cov=mixing @ mixing.T, kinds=kinds)
    scales = np.diag([OFF[kind] for kind in kinds])
    whitener = problem.whitener
    return heard(problem, np.eye(40), rng, noise=whitener @ scales @ mixing @ mixing.T @ scales @ whitener.T)


class TestSensorNoise:
    def test_how_far_the_covariance_is_off_is_found(self):
        _, problem = misjudged(0)
        posterior = bi.infer("sensor_noise", problem, draws=2000)
        for i, kind in enumerate(problem.kinds):
            low, high = posterior.hyper[f"noise_of[{i}]"].interval(0.98)
            assert low < OFF[kind] < high
            assert high - low < 0.25 * OFF[kind]
        assert posterior.log_evidence > bi.infer("hierarchical", problem, draws=200).log_evidence + 50

    @pytest.mark.slow
    def test_intervals_of_every_kind_are_right_again(self):
        hits, ours, theirs = [], [], []
        for seed in range(12):
            current, problem = misjudged(seed)
            # What each sensor would show without noise: functionals of the currents that it tells much about.
            rows, kinds = np.linalg.inv(problem.whitener) @ problem.gain, np.array(problem.noise.kinds)
            posterior = bi.infer("sensor_noise", problem, draws=1000)
            hits.append([covers(posterior, f"noise_of[{i}]", OFF[kind]) for i, kind in enumerate(problem.kinds)])
            for shares, one in ((ours, posterior), (theirs, bi.infer("hierarchical", problem, draws=200))):
                low, high = one.contrast(rows).interval(0.9)
                inside = (low <= rows @ current) & (rows @ current <= high)
                shares.append([inside[kinds == kind].mean() for kind in problem.kinds])
        assert np.sum(hits) >= enough(36, 0.9)
        # Of 4 to 6 sensors at 12 samples of 12 recordings, correlated as they are, about 200 count.
        error = np.abs(np.mean(ours, axis=0) - 0.9), np.abs(np.mean(theirs, axis=0) - 0.9)
        assert error[0].max() < 4 * np.sqrt(0.09 / 200)
        mag, grad = problem.kinds.index("mag"), problem.kinds.index("grad")
        assert np.mean(theirs, axis=0)[mag] > 0.95
        assert np.mean(theirs, axis=0)[grad] < 0.85
        assert error[0].max() < error[1].max() / 2


# --- numbers that shape the covariance


def tilted(problem):
    """The oriented model without depth."""
    with pm.Model(coords=problem.coords) as built:
        noise = pm.LogNormal("noise", 0.0, 0.5)
        scale = pm.HalfNormal("scale", problem.scale_guess)
        tangential = pm.Uniform("tangential", 0.0, 1.0)
        bi.Currents(scale**2, tangential=tangential).observe("recording", problem, noise=noise)
    return built


def deep(rng, value):
    """A recording of currents whose variances fall with the norm of the gain to the power 2 * value."""
    gain = 1e8 * rng.normal(size=(16, 25)) * np.exp(rng.normal(size=25))
    problem = bi.Problem.from_arrays(gain, np.ones((16, 20)), baseline=np.ones((16, 40)))
    return heard(problem, np.diag(np.linalg.norm(gain, axis=0) ** (-2 * value)), rng)[1]


def leaning(rng, value):
    """A recording of currents with free orientation, of which the tangential ones have a share of the variance."""
    gain = 1e8 * rng.normal(size=(20, 9, 3))
    normals = rng.normal(size=(9, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    problem = bi.Problem.from_arrays(
        gain, np.ones((20, 8)), baseline=np.ones((20, 40)), positions=rng.normal(size=(9, 3)), normals=normals
    )
    blocks = [np.outer(n, n) + value * (np.eye(3) - np.outer(n, n)) for n in normals]
    relative = np.zeros((27, 27))
    for i, block in enumerate(blocks):
        relative[3 * i : 3 * i + 3, 3 * i : 3 * i + 3] = block
    return heard(problem, relative, rng)[1]


def spread_out(rng, value):
    """A recording of a smooth field on two sheets, whose length-scale is a place between the shortest and longest."""
    sources = cortex(7)
    gain = 1e8 * rng.normal(size=(20, len(sources)))
    problem = bi.Problem.from_arrays(gain, np.ones((20, 10)), baseline=np.ones((20, 40)), sources=sources)
    low, high = problem.length_range
    return heard(problem, Matern.of(sources).at(low * (high / low) ** value).times(np.eye(len(sources))), rng)[1]


NUMBERS = {
    "depth": ("depth_weighted", deep, 16),
    "tangential": (tilted, leaning, 40),
    "extent": ("smooth", spread_out, 14),
}


def drawn(name, count, seed=0):
    """Truths drawn from the uniform prior of a number, their posterior means and sds, and places in the posterior."""
    model, make, _ = NUMBERS[name]
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        value = rng.uniform()
        posterior = bi.infer(model, make(rng, value), draws=1000, rng=rng)
        found = posterior.hyper[name]
        rows.append((value, found.mean, found.sd, np.mean(found.draws < value), covers(posterior, name, value)))
    return np.array(rows).T


class TestNumbers:
    @pytest.mark.parametrize("name", NUMBERS)
    def test_they_are_found(self, name):
        truth, mean, sd, _, _ = drawn(name, 2, seed=5)
        assert (np.abs(mean - truth) < 2.6 * sd).all()
        # The prior's sd is 0.29.
        assert (sd < 0.2).all()

    @pytest.mark.slow
    @pytest.mark.parametrize("name", NUMBERS)
    def test_their_intervals_hold_the_truth_as_often_as_they_say(self, name):
        truth, mean, _, places, inside = drawn(name, NUMBERS[name][2])
        assert inside.sum() >= enough(len(truth), 0.9)
        assert probability(places) > 0.005
        assert np.corrcoef(truth, mean)[0, 1] > 0.7


# --- courses


def slow(rng, samples=16, quiet=24):
    """A recording of currents whose courses are correlated, all of it drawn from the temporal model's own prior."""
    _, problem = ring(rng, sensors=10, sources=15, samples=samples, quiet=quiet)
    return simulate("temporal", problem, rng)


def unchanging(problem):
    """Hierarchical currents whose courses never change."""
    with pm.Model(coords=problem.coords) as built:
        noise = pm.LogNormal("noise", 0.0, 0.5)
        scale = pm.HalfNormal("scale", problem.scale_guess)
        bi.Currents(scale**2, time=1e9).observe("recording", problem, noise=noise)
    return built


def often(problem):
    """Hierarchical currents of one sample that was measured 6 times: √6 as large, in noise of scale one."""
    with pm.Model(coords=problem.coords) as built:
        noise = pm.LogNormal("noise", 0.0, 0.5)
        scale = pm.HalfNormal("scale", problem.scale_guess)
        bi.Currents(6 * scale**2).observe("recording", problem, noise=noise)
    return built


class TestCourses:
    def test_one_that_never_changes_is_one_sample_and_noise(self, rng):
        _, problem = ring(rng, samples=6, quiet=9)
        _, problem = heard(problem, np.eye(40), rng)
        # Rotated so that the mean comes first, samples of noise stay samples of noise.
        turn = np.linalg.qr(np.column_stack([np.ones(6), rng.normal(size=(6, 5))]))[0]
        turned = problem.recording @ turn * np.sign(turn[0, 0])
        once = problem.again(turned[:, :1], baseline=np.hstack([turned[:, 1:], problem.baseline]))
        ours, theirs = bi.infer(unchanging, problem), bi.infer(often, once)
        assert_allclose(ours.log_evidence, theirs.log_evidence, atol=2e-3)
        for name in ("noise", "scale"):
            assert_allclose(ours.hyper[name].mean, theirs.hyper[name].mean, atol=0.01 * theirs.hyper[name].sd)
            assert_allclose(ours.hyper[name].sd, theirs.hyper[name].sd, rtol=0.01)
        size = np.abs(theirs.mean).max()
        assert_allclose(ours.mean, np.repeat(theirs.mean / np.sqrt(6), 6, axis=1), atol=2e-3 * size)
        assert_allclose(ours.sd, np.repeat(theirs.sd / np.sqrt(6), 6, axis=1), rtol=1e-2)

    def test_how_long_they_last_is_found(self):
        values, _, problem = slow(np.random.default_rng(4), samples=40)
        posterior = bi.infer("temporal", problem, draws=1000)
        assert covers(posterior, "constant", np.exp(values["log_constant"]), 0.98)
        assert posterior.log_evidence > bi.infer("hierarchical", problem, draws=200).log_evidence + 5

    @pytest.mark.slow
    def test_intervals_of_scales_hold_where_those_of_independent_samples_do_not(self):
        rng = np.random.default_rng(0)
        inside = []
        for _ in range(40):
            values, _, problem = slow(rng)
            posterior, other = bi.infer("temporal", problem, draws=1000), bi.infer("hierarchical", problem, draws=1000)
            snr = values["scale"] * np.sqrt(problem.signal_power) / values["noise"]
            inside.append(
                [
                    covers(posterior, "constant", np.exp(values["log_constant"])),
                    covers(posterior, "snr", snr),
                    covers(other, "snr", snr),
                ]
            )
        constant, ours, theirs = np.sum(inside, axis=0)
        assert min(constant, ours) >= enough(40, 0.9)
        assert theirs < enough(40, 0.9)


# --- evidence and moments, summed over draws


def kinds_of_noise(problem, values):
    """Whitened noise covariance, sensor by sensor."""
    scales = np.diag([values.get(f"ratio_{kind}", 1.0) for kind in problem.noise.kinds])
    return values["noise"] ** 2 * problem.whitener @ scales @ problem.noise.covariance @ scales @ problem.whitener.T


def log_joint(name, problem, names, place):
    """Log density of hyperparameters, on the logarithmic and the logistic scale, and recording and baseline."""
    values, total = {}, 0.0
    for key, one in zip(names, place, strict=True):
        if key in ("depth", "tangential"):
            values[key] = expit(one)
            total += np.log(values[key] * (1 - values[key]))
        else:
            values[key] = np.exp(one)
            guess = problem.scale_guess
            total += one + (
                halfnorm.logpdf(values[key], scale=guess) if key == "scale" else lognorm.logpdf(values[key], 0.5)
            )
    if name == "sensor_noise":
        spatial, noise = values["scale"] ** 2 * np.eye(problem.gain.shape[1]), kinds_of_noise(problem, values)
    else:
        spatial, _, noise = covariances(name, problem, values)
    for covariance, seen in (
        (problem.gain @ spatial @ problem.gain.T + noise, problem.recording),
        (noise, problem.baseline),
    ):
        _, logs = np.linalg.slogdet(2 * np.pi * covariance)
        total -= 0.5 * (seen.shape[1] * logs + np.sum(seen * np.linalg.solve(covariance, seen)))
    return total, values


def weighed(name, problem, names, count, rng):
    """Log evidence and its error, and moments of the hyperparameters, by importance sampling from Student's t."""
    start = [np.log(problem.scale_guess) if key == "scale" else 0.0 for key in names]
    found = minimize(lambda place: -log_joint(name, problem, names, place)[0], start, method="BFGS")
    proposal = multivariate_t(found.x, 1.3 * found.hess_inv, df=4, seed=rng)
    places = proposal.rvs(count)
    heights, values = zip(*(log_joint(name, problem, names, place) for place in places), strict=True)
    logs = np.array(heights) - proposal.logpdf(places)
    weights = np.exp(logs - logsumexp(logs))
    table = np.array([[one[key] for key in names] for one in values])
    mean = weights @ table
    worth = 1 / np.sum(weights**2)
    return logsumexp(logs) - np.log(count), 1 / np.sqrt(worth), mean, np.sqrt(weights @ (table - mean) ** 2), worth


def three_kinds(rng):
    return scene(maps=False), ["noise", "scale", "ratio_mag", "ratio_grad"]


def free(rng):
    problem = simulate("oriented", template("oriented"), rng)[2]
    return problem, ["noise", "scale", "depth", "tangential"]


class TestQuadratureInFourDimensions:
    @pytest.mark.parametrize(
        ("name", "make"),
        [("sensor_noise", three_kinds), pytest.param("oriented", free, marks=pytest.mark.slow)],
    )
    def test_it_is_what_importance_sampling_finds(self, rng, name, make):
        problem, names = make(rng)
        posterior = bi.infer(name, problem, draws=4000)
        log_evidence, error, mean, sd, worth = weighed(name, problem, names, 4000, rng)
        assert error < 0.03
        assert abs(posterior.log_evidence - log_evidence) < 4 * error + posterior.log_evidence.error
        for key, one, spread in zip(names, mean, sd, strict=True):
            assert abs(posterior.hyper[key].mean - one) < 4 * spread / np.sqrt(worth)
            assert abs(posterior.hyper[key].sd / spread - 1) < 6 / np.sqrt(worth)


# --- chains


def far(draws, scalar, worth):
    """How far mean and sd of draws lie from others, in standard errors of so many independent ones."""
    mean, sd = scalar.mean, scalar.sd
    error = np.std((draws - mean) ** 2) / (2 * sd * np.sqrt(worth))
    return abs(draws.mean() - mean) * np.sqrt(worth) / sd, abs(draws.std() - sd) / error


def effective(posterior):
    return next(check.value for check in posterior.checks if check.name == "effective draws")


def bridged(problem, chains):
    """Log evidence of the parcels' model and its error, by importance sampling about the draws of chains."""
    names = ["noise", "scale", "spread", *(f"raw[{k}]" for k in range(4))]
    draws = np.array(
        [np.log(chains.hyper[name].draws) if i < 3 else chains.hyper[name].draws for i, name in enumerate(names)]
    )
    proposal = multivariate_t(draws.mean(axis=1), 1.2 * np.cov(draws), df=4, seed=np.random.default_rng(1))
    places = proposal.rvs(20_000)
    heights = np.empty(len(places))
    member = np.equal.outer(np.arange(4), problem.parcels).astype(float)
    grams = [(problem.gain * one) @ problem.gain.T for one in member]
    full = np.trace(problem.gain @ problem.gain.T)
    prior = (
        lognorm(0.5).logpdf(np.exp(places[:, 0]))
        + halfnorm(scale=problem.scale_guess).logpdf(np.exp(places[:, 1]))
        + halfnorm(scale=2).logpdf(np.exp(places[:, 2]))
        + places[:, :3].sum(axis=1)
        + norm.logpdf(places[:, 3:]).sum(axis=1)
    )
    for i, (log_noise, log_scale, log_spread, *raw) in enumerate(places):
        logs = np.exp(log_spread) * np.array(raw)
        gram = np.tensordot(np.exp(logs - logs.max()), grams, axes=1)
        total = np.exp(2 * log_scale) * full / np.trace(gram) * gram + np.exp(2 * log_noise) * np.eye(len(gram))
        _, logs = np.linalg.slogdet(2 * np.pi * total)
        field = problem.recording
        heights[i] = -0.5 * (field.shape[1] * logs + np.sum(field * np.linalg.solve(total, field)))
    noise = np.exp(places[:, 0])
    quiet = -0.5 * (problem.baseline.size * np.log(2 * np.pi * noise**2) + np.sum(problem.baseline**2) / noise**2)
    logs = prior + heights + quiet - proposal.logpdf(places)
    weights = np.exp(logs - logsumexp(logs))
    return logsumexp(logs) - np.log(len(logs)), float(np.sqrt(np.sum(weights**2)))


@pytest.mark.slow
class TestChains:
    @pytest.mark.parametrize(
        ("name", "make"), [("sensor_noise", three_kinds), ("oriented", free), ("temporal", lambda rng: (slow(rng)[2],))]
    )
    def test_they_find_what_quadrature_finds(self, rng, name, make):
        problem = make(rng)[0]
        lattice = bi.infer(name, problem, draws=200)
        chains = bi.infer(name, problem, "nuts", rng=rng, draws=1000, chains=2)
        worth = effective(chains)
        assert worth > 300
        for key in (variable.name for variable in bi.load_model(name)(problem).free_RVs):
            assert max(far(chains.hyper[key].draws, lattice.hyper[key], worth)) < 4

    def test_of_shares_of_parcels_agree_with_a_gaussian_at_the_mode_as_far_as_one_goes(self):
        """Spread and shares bend around each other, which no Gaussian does: its check says so, and it is too wide."""
        problem = scene(maps=False, samples=30, quiet=60)
        gaussian = bi.infer("multiple_sparse_priors", problem, "laplace", draws=4000)
        chains = bi.infer("multiple_sparse_priors", problem, "nuts", draws=1000, chains=2)
        ours, theirs = (np.log([one.hyper[f"share[{k}]"].draws for k in range(4)]) for one in (gaussian, chains))
        # The trace is kept, so that only the shares relative to one another mean anything.
        ours, theirs = ours[1:] - ours[0], theirs[1:] - theirs[0]
        assert effective(chains) > 300
        sd = theirs.std(axis=1)
        assert (np.abs(ours.mean(axis=1) - theirs.mean(axis=1)) < 0.6 * sd).all()
        ratio = ours.std(axis=1) / sd
        assert ((ratio > 0.8) & (ratio < 2.5)).all()
        log_evidence, error = bridged(problem, chains)
        assert error < 0.1
        # Draws that do not reach around the bend cannot tell how much of the mass lies there.
        assert abs(gaussian.log_evidence - log_evidence) < 3
        assert not gaussian.passed
