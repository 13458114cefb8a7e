"""What a prior learns is what was simulated."""

import numpy as np
import pymc as pm
import pytest
from numpy.testing import assert_allclose
from recovered import correlated_currents, covers, disc_problem, fewest_hits, map_correlation, simulated
from structured import cortex
from templates import simulate

import bayesinv as bi
from bayesinv.criticism.bands import uniformity_p_value
from bayesinv.head.cortical_field import Matern

pytestmark = pytest.mark.filterwarnings(
    "ignore:(?s).*ArviZ is undergoing a major refactor:FutureWarning", "ignore:the whitened baseline:UserWarning"
)

TRUTHS = {"follows": 1.5, "contradicts": -1.5, "ignores": 0.0}

OFF = {"mag": 0.6, "grad": 1.5, "eeg": 1.0}


def informed(truth, seed, more=0):
    """A truth whose variances follow, contradict or ignore a map; with and without the map."""
    rng = np.random.default_rng(seed)
    positions, problem = disc_problem(rng)
    centre = positions[rng.integers(len(positions))]
    values = np.exp(-np.sum((positions - centre) ** 2, axis=1) / (2 * 0.35**2))
    values = (values - values.mean()) / values.std()
    current, problem = simulated(problem, np.diag(np.exp(TRUTHS[truth] * values)), rng)
    others = {f"other {i}": rng.normal(size=len(values)) for i in range(more)}
    problem = problem.with_maps({"fmri": values, **others})
    return current, bi.infer("fmri_informed", problem, draws=2000), bi.infer("hierarchical", problem, draws=200)


class TestMap:
    def test_one_that_the_truth_follows_is_believed(self):
        current, with_map, without = informed("follows", 0)
        assert covers(with_map, "weight_fmri", 1.5)
        assert with_map.hyper["weight_fmri"].interval(0.99)[0] > 0
        assert map_correlation(with_map, current) > map_correlation(without, current) + 0.2
        assert with_map.log_evidence > without.log_evidence + 10

    def test_one_that_the_truth_contradicts_is_turned_around(self):
        current, with_map, without = informed("contradicts", 0)
        assert with_map.hyper["weight_fmri"].interval(0.99)[1] < 0
        assert map_correlation(with_map, current) > map_correlation(without, current) - 0.02

    def test_one_that_the_truth_ignores_has_no_say(self):
        current, with_map, without = informed("ignores", 0)
        assert covers(with_map, "weight_fmri", 0.0)
        assert abs(map_correlation(with_map, current) - map_correlation(without, current)) < 0.05
        assert with_map.log_evidence < without.log_evidence

    @pytest.mark.slow
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
            disc_problem(rng)[1].with_maps({"fmri": values})

    def test_without_one_the_model_says_where_to_give_it(self, rng):
        with pytest.raises(ValueError, match=r"there is no map; give some with problem\.with_maps"):
            bi.infer("fmri_informed", disc_problem(rng)[1])

    @pytest.mark.slow
    @pytest.mark.parametrize("truth", ["follows", "ignores"])
    def test_over_many_truths(self, truth):
        hits, gains, factors = [], [], []
        for seed in range(100, 120):
            current, with_map, without = informed(truth, seed)
            hits.append(covers(with_map, "weight_fmri", TRUTHS[truth]))
            gains.append(map_correlation(with_map, current) - map_correlation(without, current))
            factors.append(with_map.log_evidence - without.log_evidence)
        assert sum(hits) >= fewest_hits(20, 0.9)
        if truth == "follows":
            assert np.mean(gains) > 0.1
            assert np.mean(np.array(factors) > 3) > 0.9
        else:
            assert np.mean(gains) > -0.02
            assert np.mean(np.array(factors) < 0) > 0.8


def misjudged(seed, samples=12):
    """A recording whose noise is, by kind of sensor, off the covariance that is given; and its currents.

    Here and below the gain is one for all recordings, of numbers that are none of theirs, and so is what is compiled
    for it.
    """
    rng, same = np.random.default_rng(seed), np.random.default_rng(99)
    kinds = ["mag"] * 4 + ["grad"] * 5 + ["eeg"] * 6
    mixing = np.eye(15) + 0.3 * same.normal(size=(15, 15)) / np.sqrt(15)
    _, problem = disc_problem(same, sensors=15, samples=samples, noise_cov=mixing @ mixing.T, kinds=kinds)
    scales = np.diag([OFF[kind] for kind in kinds])
    whitener = problem.whitener
    return simulated(problem, np.eye(40), rng, noise=whitener @ scales @ mixing @ mixing.T @ scales @ whitener.T)


class TestSensorNoise:
    @pytest.mark.slow
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
            # What each sensor would show without noise: functionals of the currents that it determines well.
            rows, kinds = np.linalg.inv(problem.whitener) @ problem.gain, np.array(problem.noise.kinds)
            posterior = bi.infer("sensor_noise", problem, draws=1000)
            hits.append([covers(posterior, f"noise_of[{i}]", OFF[kind]) for i, kind in enumerate(problem.kinds)])
            for shares, one in ((ours, posterior), (theirs, bi.infer("hierarchical", problem, draws=200))):
                low, high = one.contrast(rows).interval(0.9)
                inside = (low <= rows @ current) & (rows @ current <= high)
                shares.append([inside[kinds == kind].mean() for kind in problem.kinds])
        assert np.sum(hits) >= fewest_hits(36, 0.9)
        # Of 4 to 6 sensors at 12 samples of 12 recordings, correlated as they are, about 200 count.
        error = np.abs(np.mean(ours, axis=0) - 0.9), np.abs(np.mean(theirs, axis=0) - 0.9)
        assert error[0].max() < 4 * np.sqrt(0.09 / 200)
        mag, grad = problem.kinds.index("mag"), problem.kinds.index("grad")
        assert np.mean(theirs, axis=0)[mag] > 0.95
        assert np.mean(theirs, axis=0)[grad] < 0.85
        assert error[0].max() < error[1].max() / 2


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
    same = np.random.default_rng(99)
    gain = 1e8 * same.normal(size=(16, 25)) * np.exp(same.normal(size=25))
    problem = bi.Problem.from_arrays(gain, np.ones((16, 20)), baseline=np.ones((16, 40)))
    return simulated(problem, np.diag(np.linalg.norm(gain, axis=0) ** (-2 * value)), rng)[1]


def leaning(rng, value):
    """A recording of currents with free orientation, of which the tangential ones have a share of the variance."""
    same = np.random.default_rng(99)
    gain = 1e8 * same.normal(size=(20, 9, 3))
    normals = same.normal(size=(9, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    problem = bi.Problem.from_arrays(
        gain, np.ones((20, 8)), baseline=np.ones((20, 40)), positions=same.normal(size=(9, 3)), normals=normals
    )
    blocks = [np.outer(n, n) + value * (np.eye(3) - np.outer(n, n)) for n in normals]
    relative = np.zeros((27, 27))
    for i, block in enumerate(blocks):
        relative[3 * i : 3 * i + 3, 3 * i : 3 * i + 3] = block
    return simulated(problem, relative, rng)[1]


def spread_out(rng, value):
    """A recording of a smooth field on two sheets, whose length-scale lies between the shortest and longest."""
    sources = cortex(7)
    gain = 1e8 * np.random.default_rng(99).normal(size=(20, len(sources)))
    problem = bi.Problem.from_arrays(gain, np.ones((20, 10)), baseline=np.ones((20, 40)), sources=sources)
    low, high = problem.length_range
    return simulated(problem, Matern.of(sources).at(low * (high / low) ** value).product(np.eye(len(sources))), rng)[1]


NUMBERS = {
    "depth": ("depth_weighted", deep, 24),
    "tangential": (tilted, leaning, 20),
    "extent": ("smooth", spread_out, 14),
}


def drawn(name, count, seed=0):
    """Truths drawn from the uniform prior of a number, their posterior means and sds, and ranks in the posterior."""
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
    @pytest.mark.parametrize(
        "name",
        [
            "tangential",
            pytest.param("depth", marks=pytest.mark.slow),
            pytest.param("extent", marks=pytest.mark.slow),
        ],
    )
    def test_they_are_found(self, name):
        truth, mean, sd, _, _ = drawn(name, 2, seed=5)
        assert (np.abs(mean - truth) < 2.6 * sd).all()
        # The prior's sd is 0.29.
        assert (sd < 0.2).all()

    @pytest.mark.slow
    @pytest.mark.parametrize("name", NUMBERS)
    def test_their_intervals_hold_the_truth_as_often_as_they_say(self, name):
        truth, mean, _, ranks, inside = drawn(name, NUMBERS[name][2])
        assert inside.sum() >= fewest_hits(len(truth), 0.9)
        assert uniformity_p_value(ranks) > 0.005
        assert np.corrcoef(truth, mean)[0, 1] > 0.7


def unchanging(problem):
    """Hierarchical currents that are constant over time."""
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
        _, problem = disc_problem(rng, samples=6, quiet=9)
        _, problem = simulated(problem, np.eye(40), rng)
        # Rotated so that the mean comes first, samples of noise stay samples of noise.
        turn = np.linalg.qr(np.column_stack([np.ones(6), rng.normal(size=(6, 5))]))[0]
        rotated = problem.recording @ turn * np.sign(turn[0, 0])
        once = problem.again(rotated[:, :1], baseline=np.hstack([rotated[:, 1:], problem.baseline]))
        ours, theirs = bi.infer(unchanging, problem), bi.infer(often, once)
        assert_allclose(ours.log_evidence, theirs.log_evidence, atol=2e-3)
        for name in ("noise", "scale"):
            assert_allclose(ours.hyper[name].mean, theirs.hyper[name].mean, atol=0.01 * theirs.hyper[name].sd)
            assert_allclose(ours.hyper[name].sd, theirs.hyper[name].sd, rtol=0.01)
        size = np.abs(theirs.mean).max()
        assert_allclose(ours.mean, np.repeat(theirs.mean / np.sqrt(6), 6, axis=1), atol=2e-3 * size)
        assert_allclose(ours.sd, np.repeat(theirs.sd / np.sqrt(6), 6, axis=1), rtol=1e-2)

    def test_how_long_they_last_is_found(self):
        values, _, problem = correlated_currents(np.random.default_rng(4), samples=40)
        posterior = bi.infer("temporal", problem, draws=1000)
        assert covers(posterior, "constant", np.exp(values["log_constant"]), 0.98)
        assert posterior.log_evidence > bi.infer("hierarchical", problem, draws=200).log_evidence + 5

    @pytest.mark.slow
    def test_intervals_of_scales_hold_where_those_of_independent_samples_do_not(self):
        """The others hold three quarters, for which many truths are needed, at little cost of each."""
        rng = np.random.default_rng(0)
        constant, ours, theirs = [], [], []
        for number in range(120):
            if number % 20 == 0:
                head = correlated_currents(rng)[2]
            values, _, problem = simulate("temporal", head, rng)
            snr = values["scale"] * np.sqrt(problem.signal_power) / values["noise"]
            theirs.append(covers(bi.infer("hierarchical", problem, draws=1000), "snr", snr))
            if number % 3 == 0:
                posterior = bi.infer("temporal", problem, draws=1000)
                constant.append(covers(posterior, "constant", np.exp(values["log_constant"])))
                ours.append(covers(posterior, "snr", snr))
        assert min(sum(constant), sum(ours)) >= fewest_hits(40, 0.9)
        assert sum(theirs) < fewest_hits(120, 0.9)


def parcelled(seed, spread):
    """A recording of 20 parcels, the logarithms of whose variances are spread."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(20), 3)
    gain = 2e8 * np.random.default_rng(99).standard_normal((24, 60)) / np.sqrt(60)
    shares = np.exp(spread * rng.standard_normal(20))[labels]
    problem = bi.Problem.from_arrays(gain, np.ones((24, 12)), baseline=np.ones((24, 24))).with_parcels(labels)
    return simulated(problem, np.diag(shares), rng)[1]


class TestSpreadOfParcels:
    @pytest.mark.slow
    def test_it_is_found(self):
        posterior = bi.infer("multiple_sparse_priors", parcelled(0, 1.0), draws=1000)
        assert posterior.method == "nested_laplace"
        assert posterior.passed
        assert covers(posterior, "spread", 1.0, 0.98)

    @pytest.mark.slow
    @pytest.mark.parametrize("spread", [0.5, 1.0, 2.0, 3.0])
    def test_its_intervals_hold_the_truth_as_often_as_they_say(self, spread):
        """Of 12 simulations, with a tail of 0.005 on the low side."""
        posteriors = [bi.infer("multiple_sparse_priors", parcelled(seed, spread), draws=1000) for seed in range(12)]
        assert sum(covers(one, "spread", spread) for one in posteriors) >= fewest_hits(12, 0.9)
        assert all(one.passed for one in posteriors)
