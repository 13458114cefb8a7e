"""Posteriors of recordings whose currents and hyperparameters were drawn from the prior.

Averaged over such recordings a credible interval of level q holds the truth with probability q, and the rank of the
truth in the posterior is uniform, whatever the functional. Any mistake in a likelihood, a Jacobian, a quadrature
or a quantile shows here, and the tests of broken models show that it does.

Reference: Talts et al. (2018), arXiv 1804.06788; Modrák et al. (2023), Bayesian Anal.
"""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from referee import toy
from scipy.special import ndtr
from scipy.stats import binom, multinomial
from templates import simulate, template

import bayesinv as bi
from bayesinv import figures
from bayesinv.criticism import calibration
from bayesinv.criticism.bands import band, containment_probability, uniformity_p_value
from bayesinv.criticism.calibration import Calibration, sbc

pytestmark = pytest.mark.filterwarnings(
    "ignore:(?s).*ArviZ is undergoing a major refactor:FutureWarning",
    "ignore:the whitened baseline:UserWarning",
    "ignore:PyTensor could not link to a BLAS:UserWarning",
)

MODELS = sorted(path.stem for path in Path(__file__).parents[2].joinpath("models").glob("[a-z]*.py"))
LEVELS = np.arange(1, 10) / 10  # at 0 and 1 every interval is right

# Simulations in the normal run and in the slow one, and options; what takes longer gets fewer. Two by Laplace's method,
# which the slow run does not take by itself.
QUICK = {"minimum_norm": 20, "hierarchical": 12, "multiple_sparse_priors": 2, "oriented": 2}
SLOW = {
    "minimum_norm": 150,
    "hierarchical": 100,
    "depth_weighted": 50,
    "oriented": 10,
    "smooth": 32,
    "multiple_sparse_priors": 24,
    "temporal": 30,
    "focal": 10,
    "dipoles": 6,
    "horseshoe": 10,
}
CHEAP = {"multiple_sparse_priors": {"method": "laplace"}, "oriented": {"method": "laplace"}}
CHAINS = {
    "focal": {"method": "active_set", "chains": 2, "sweeps": 70, "warm": 30},
    "dipoles": {"method": "active_set", "chains": 2, "sweeps": 70, "warm": 30},
    "horseshoe": {"method": "local_scales", "chains": 2, "sweeps": 150, "warm": 60},
}
QUANTITIES = {"region mean", "single source", "best seen pattern", "largest current"}

BROKEN = '''"""Hierarchical minimum norm that assumes currents twice as large as those drawn.

    current[s, t] ~ Normal(0, (2 scale)²)       scale ~ HalfNormal(problem.scale_guess)

References: none (2026), nowhere 1.
"""

import pymc as pm

from bayesinv import Currents, Problem


def model(problem: Problem) -> pm.Model:
    with pm.Model(coords=problem.coords) as built:
        scale = pm.HalfNormal("scale", problem.scale_guess)
        Currents(variance=(2 * scale) ** 2).observe("recording", problem, noise=1.0)
    return built
'''


def noisier(problem):
    """The hierarchical model with noise 1.5 times as large as its scale says."""
    import pymc as pm

    with pm.Model(coords=problem.coords) as built:
        noise = pm.LogNormal("noise", 0.0, 0.5)
        scale = pm.HalfNormal("scale", problem.scale_guess)
        bi.Currents(scale**2).observe("recording", problem, noise=1.5 * noise)
    return built


def unit_noise(problem):
    """Source scale learned, noise of scale one."""
    import pymc as pm

    with pm.Model(coords=problem.coords) as built:
        scale = pm.HalfNormal("scale", problem.scale_guess)
        bi.Currents(scale**2).observe("recording", problem, noise=1.0)
    return built


@pytest.fixture(scope="module")
def underestimated():
    """Calibration of the model on truths with more noise than it assumes."""
    return sbc("hierarchical", toy(), 15, truth=noisier)


def head(rng, sensors, sources, samples, quiet):
    """A problem whose gain is smooth over neighbours and falls with depth, as a head's does."""
    angle = rng.uniform(0, 2 * np.pi, sources)
    radius = np.sqrt(rng.uniform(0.1, 0.9, sources))
    positions = radius * np.array([np.cos(angle), np.sin(angle)])
    around = 2 * np.pi * np.arange(sensors) / sensors
    ring = 1.2 * np.array([np.cos(around), np.sin(around)])
    offset = ring[:, :, None] - positions[:, None, :]
    orientation = rng.uniform(0, 2 * np.pi, sources)
    along = offset[0] * np.cos(orientation) + offset[1] * np.sin(orientation)
    gain = 1e8 * along / np.sum(offset**2, axis=0)
    return bi.Problem.from_arrays(gain, np.ones((sensors, samples)), baseline=rng.normal(size=(sensors, quiet)))


def covered(count, seed, *, sensors, sources, samples, quiet, looked_at=1):
    """Share of one sample's currents inside the interval of each level, every sample in turn: (problem, level).

    The samples of a problem share its scales, which is what shares of different problems differ by.

    looked_at : one in how many problems has its intervals worked out; those of the others hold a current where its
        distribution function is near enough to a half, and so must these
    """
    rng = np.random.default_rng(seed)
    shares = np.empty((count, len(LEVELS)))
    for i in range(count):
        if i % 10 == 0:
            # Ten truths in each head: what is compiled for a gain serves them all.
            same = head(rng, sensors, sources, samples, quiet)
        _, current, problem = simulate("hierarchical", same, rng)
        posterior, sample = bi.infer("hierarchical", problem, draws=10), current[:, i % samples]
        below = np.zeros(len(sample))
        for weight, mean, sd in posterior.gaussians(slice(None), slice(at := i % samples, at + 1)):
            below += weight * ndtr((sample - mean[:, 0]) / sd[:, 0])
        for j, level in enumerate(LEVELS):
            inside = np.abs(below - 0.5) <= level / 2
            if i % looked_at == 0:
                low, high = posterior.interval(level, posterior.times[at])
                held = (low[:, 0] <= sample) & (sample <= high[:, 0])
                # Bounds are good to a thousandth of an sd, on either side of which a current may lie.
                sure = np.abs(np.abs(below - 0.5) - level / 2) > 1e-3
                assert_array_equal(held[sure], inside[sure])
            shares[i, j] = np.mean(inside)
    return shares


def calibration_error(shares):
    """Mean absolute difference of coverage and level over 0, 0.1 ... 1, and its Monte Carlo standard error."""
    miss = shares.mean(axis=0) - LEVELS
    spread = shares.std(axis=0, ddof=1) / np.sqrt(len(shares))
    return np.abs(miss).sum() / 11, np.sqrt(2 / np.pi) * spread.sum() / 11


def assert_all_are_ranked(model, found):
    """A calibration has every quantity that the model has."""
    assert set(found.ranks) >= QUANTITIES
    if model != "minimum_norm":
        # The log density of focal sources depends on which are active, too, and that of the horseshoe on local scales.
        assert {"noise", "scale", "lambda", *(["log likelihood"] * (model not in CHAINS))} < set(found.ranks)


class TestBand:
    @pytest.mark.parametrize(("low", "high"), [((0, 1, 1, 4), (2, 3, 4, 4)), ((1, 1, 2, 4), (1, 3, 3, 4))])
    def test_the_recursion_is_the_sum_over_all_ways_to_fall(self, low, high):
        total = 0.0
        for cells in product(range(5), repeat=4):
            if sum(cells) == 4 and all(a <= c <= b for a, c, b in zip(low, np.cumsum(cells), high, strict=True)):
                total += multinomial.pmf(cells, 4, [0.25] * 4)
        assert_allclose(containment_probability(np.array(low), np.array(high)), total, rtol=1e-12)

    @pytest.mark.parametrize(("count", "level"), [(20, 0.95), (60, 0.95), (60, 0.995)])
    def test_it_holds_uniform_numbers_as_often_as_it_says(self, rng, count, level):
        lower, upper = band(count, level)
        at = np.arange(1, count + 1) / count
        tries = 4000
        inside = 0
        for _ in range(tries):
            share = np.searchsorted(np.sort(rng.random(count)), at, side="right") / count
            inside += bool(((lower - 1e-12 <= share) & (share <= upper + 1e-12)).all())
        # Counts are integers, so that the coverage is the level or slightly more.
        assert binom.cdf(inside, tries, level) > 1e-3
        assert inside / tries < level + (1 - level) / 3 + 3 * np.sqrt(level * (1 - level) / tries)

    def test_it_is_arviz_s_but_for_its_simulation(self, rng):
        from arviz_stats.ecdf_utils import get_pointwise_confidence_band, simulate_confidence_bands

        count = 100
        at = np.arange(1, count) / count
        inside = simulate_confidence_bands(count, 1, at, 0.95, 2000, rng)
        lower, upper = get_pointwise_confidence_band(inside, count, at)
        mine = band(count, 0.95)
        assert np.abs(mine[0][:-1] - lower).max() <= 1.01 / count
        assert np.abs(mine[1][:-1] - upper).max() <= 1.01 / count

    def test_a_curve_leaves_the_band_where_its_probability_says_so(self, rng):
        lower, upper = band(40, 0.8)
        at = np.arange(1, 41) / 40
        found = []
        for _ in range(200):
            ranks = rng.random(40)
            share = np.searchsorted(np.sort(ranks), at, side="right") / 40
            outside = bool(((share < lower - 1e-12) | (share > upper + 1e-12)).any())
            found.append(uniformity_p_value(ranks))
            assert outside == (found[-1] <= 0.2)
        assert binom.cdf(np.sum(np.array(found) <= 0.2), 200, 0.2) < 0.9999
        assert np.mean(found) > 0.4

    def test_ranks_that_are_all_alike_are_found_out(self):
        assert uniformity_p_value(np.full(30, 0.5)) < 1e-8
        assert uniformity_p_value(np.full(30, 0.001)) < 1e-15
        assert uniformity_p_value((np.arange(30) + 0.5) / 30) > 0.99


class TestCalibration:
    @pytest.fixture
    def found(self, rng):
        ranks = {"right": rng.random(200), "too narrow": rng.beta(0.5, 0.5, 200), "too high": rng.beta(1, 2, 200)}
        return Calibration("mine", "exact", ranks | {"too wide": rng.beta(2.5, 2.5, 200)})

    def test_what_is_wrong_is_named(self, found):
        assert found.failed == ["too narrow", "too high", "too wide"]
        assert not found.passed
        for row in found.table():
            assert row["quantity"] in (row["finding"] or "right")
            assert row["passed"] == (row["quantity"] == "right")
        assert found.table()[-1]["quantity"] == "right"
        assert "NOT calibrated in 3 of them" in found.verdict()
        for name in found.failed:
            assert f"{name}: the posterior" in found.verdict()

    def test_what_is_right_passes(self, rng):
        found = Calibration("mine", "exact", {str(i): rng.random(50) for i in range(8)}, unsure={"R-hat": 3})
        assert found.passed
        assert "calibrated as far as these tell" in found.verdict()
        assert "R-hat did not pass in 3 of 50" in found.verdict()

    @pytest.mark.slow
    def test_all_curves_together_pass_as_often_as_the_level_says(self, rng):
        passed = [
            Calibration("mine", "exact", {str(i): rng.random(30) for i in range(6)}, 0.8).passed for _ in range(300)
        ]
        assert 0.8 - 3 * 0.023 < np.mean(passed) < 0.95

    def test_coverage_counts(self, found):
        ranks = found.ranks["too narrow"]
        assert_allclose(found.coverage(0.5)["too narrow"], np.mean((ranks >= 0.25) & (ranks <= 0.75)))

    @pytest.mark.slow
    def test_the_picture_shows_the_curves(self, found, tmp_path):
        figure = figures.rank_curves(found)
        figure.savefig(tmp_path / "curves.png")
        shown = [axes for axes in figure.axes if axes.get_visible()]
        assert [axes.get_title(loc="left") for axes in shown] == list(found.ranks)
        for axes, ranks in zip(shown, found.ranks.values(), strict=True):
            at, curve = axes.get_lines()[-1].get_data()
            assert_allclose(curve, [np.mean(ranks <= x) - x for x in at], atol=1e-12)

    def test_there_is_something_to_rank(self):
        with pytest.raises(ValueError, match="no quantity whose truth could be ranked"):
            Calibration("mine", "exact", {})


class TestSmall:
    @pytest.mark.slow
    def test_intervals_hold_the_truth_as_often_as_they_say(self):
        shares = covered(24, 0, sensors=12, sources=60, samples=4, quiet=10)
        error, noise = calibration_error(shares)
        assert error < 0.01 + 3 * noise
        assert noise < 0.02

    @pytest.mark.parametrize(
        "model", [pytest.param(name, marks=pytest.mark.slow) if name in CHEAP else name for name in QUICK]
    )
    def test_ranks_of_the_truth_are_uniform(self, model, rng):
        found = sbc(model, template(model), QUICK[model], level=0.999, rng=rng, **CHEAP.get(model, {}))
        assert found.passed, found.verdict()
        assert_all_are_ranked(model, found)

    def test_ranks_of_truths_drawn_by_hand_are_uniform(self):
        rng = np.random.default_rng(1)
        problem, ranks = template("hierarchical"), {"noise": [], "scale": [], "region": [], "source": []}
        for _ in range(12):
            values, current, other = simulate("hierarchical", problem, rng)
            posterior = bi.infer("hierarchical", other, draws=199, rng=rng)
            for name in ("noise", "scale"):
                ranks[name].append(np.mean(posterior.hyper[name].draws < values[name]))
            mean = current[:5, 1].mean()
            ranks["region"].append(1 - posterior.region({"region": np.arange(5)}).exceedance(mean)[0, 1])
            ranks["source"].append(np.mean(posterior.draw(199, rng, slice(2, 3))[:, 8, 0] < current[8, 2]))
        found = Calibration("hierarchical", "quadrature", {name: np.array(one) for name, one in ranks.items()}, 0.999)
        assert found.passed, found.verdict()


class TestBroken:
    def test_a_noise_that_is_wrong_by_half_is_found_out(self, underestimated):
        assert not underestimated.passed
        assert underestimated.probabilities["noise"] < 1e-8
        assert "noise: the posterior lies too high" in underestimated.verdict()

    def test_coverage_of_a_broken_model_is_not_what_it_says(self, underestimated):
        assert binom.cdf(15 * underestimated.coverage(0.9)["noise"], 15, 0.9) < 1e-6
        assert binom.cdf(15 * underestimated.coverage(0.9)["region mean"], 15, 0.9) > 1e-3

    @pytest.mark.slow
    def test_a_prior_variance_that_is_wrong_is_found_out(self, tmp_path):
        (tmp_path / "twice.py").write_text(BROKEN, encoding="utf-8")
        problem = toy(sensors=7, sources=19, samples=3, quiet=0)
        found = sbc(tmp_path / "twice.py", problem, 20, truth=unit_noise)
        assert found.probabilities["scale"] < 1e-8
        assert "scale: the posterior lies too low" in found.verdict()
        assert sbc(unit_noise, problem, 10, truth=unit_noise).passed


class TestSbc:
    def test_the_same_generator_gives_the_same_ranks_however_they_are_split(self, monkeypatch):
        one = sbc("minimum_norm", toy(), 6, rng=np.random.default_rng(3))
        monkeypatch.setattr(calibration, "CHUNK", 2)
        two = sbc("minimum_norm", toy(), 6, rng=np.random.default_rng(3))
        for name, ranks in one.ranks.items():
            assert_array_equal(ranks, two.ranks[name])
        other = sbc("minimum_norm", toy(), 6, rng=np.random.default_rng(4))
        assert not np.array_equal(one.ranks["region mean"], other.ranks["region mean"])

    def test_functionals_are_the_user_s(self):
        weights = np.linspace(-1, 1, 11)
        given = {"linear": weights, "the same by draws": lambda current: weights @ current}
        found = sbc("minimum_norm", toy(), 12, functionals=given, draws=3000)
        assert set(found.ranks) == set(given)
        assert_allclose(found.ranks["linear"], found.ranks["the same by draws"], atol=4 * 0.5 / np.sqrt(3000))

    def test_a_simulation_that_raises_is_reported(self):
        def wrong(current):
            raise ArithmeticError("no such number")

        message = (
            r"3 of 3 simulations raised; the first, number 0, .*lambda = .* raised ArithmeticError: no such number"
        )
        with pytest.raises(RuntimeError, match=message):
            sbc("minimum_norm", toy(), 3, functionals={"wrong": wrong})

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"simulations": 1}, "simulations is 1, but their ranks want at least 2"),
            ({"draws": 0}, "draws is 0, but at least one draw is wanted"),
            ({"level": 1.0}, "level is 1.0"),
            ({"functionals": {"mine": np.ones(5)}}, r"functional 'mine' has shape \(5,\), but .* shape \(11,\)"),
            ({"functionals": {"mine": np.zeros(11)}}, "not all zero"),
            ({"truth": "no such"}, "no model named"),
        ],
    )
    def test_what_cannot_be_is_refused(self, given, message):
        with pytest.raises(ValueError, match=message):
            sbc("minimum_norm", toy(), **given)

    def test_a_model_built_already_is_refused(self):
        problem = toy()
        with pytest.raises(ValueError, match="must be built anew for every recording"):
            sbc(bi.load_model("minimum_norm")(problem), problem)


@pytest.mark.slow
class TestLarge:
    def test_calibration_error_of_pointwise_intervals(self):
        shares = covered(200, 3, sensors=60, sources=800, samples=3, quiet=40, looked_at=100)
        error, noise = calibration_error(shares)
        print(f"calibration error {error:.4f}, of which Monte Carlo about {noise:.4f}")
        assert error <= 0.01

    @pytest.mark.parametrize("model", MODELS)
    def test_simulation_based_calibration(self, model):
        rng = np.random.default_rng(4)
        found = sbc(model, template(model), SLOW.get(model, 32), level=0.99, rng=rng, **CHAINS.get(model, {}))
        print(found.verdict())
        assert found.passed, found.verdict()
        assert_all_are_ranked(model, found)

    @pytest.mark.parametrize("model", ["minimum_norm", "hierarchical"])
    def test_without_a_baseline(self, model):
        found = sbc(model, template(model, quiet=0), 100, level=0.99)
        print(found.verdict())
        assert found.passed, found.verdict()

    def test_processes_give_the_ranks_of_one(self):
        one, two = (sbc("hierarchical", toy(), 8, n_jobs=jobs, progress=True) for jobs in (1, 2))
        for name, ranks in one.ranks.items():
            assert_array_equal(ranks, two.ranks[name])
