"""Posteriors of recordings whose currents and hyperparameters were drawn from the prior.

Averaged over such recordings a credible interval of level q holds the truth with probability q, and the place of the
truth among the posterior is uniform, whatever the functional. Any mistake in a likelihood, a Jacobian, a quadrature
or a quantile shows here.

Reference: Talts et al. (2018), arXiv 1804.06788; Modrák et al. (2023), Bayesian Anal.
"""

import numpy as np
import pytest
from scipy.stats import chisquare, kstest

import bayesinv as bi
from bayesinv.evidence import Spectrum
from bayesinv.problem import EXPECTED_SNR

pytestmark = pytest.mark.filterwarnings(
    "ignore:(?s).*ArviZ is undergoing a major refactor:FutureWarning", "ignore:the whitened baseline:UserWarning"
)

LEVELS = np.arange(1, 10) / 10  # at 0 and 1 every interval is right


def lead_field(rng, sensors, sources):
    """A gain that is smooth over neighbours and falls with depth, as a head's is; 1/(A m)."""
    angle = rng.uniform(0, 2 * np.pi, sources)
    radius = np.sqrt(rng.uniform(0.1, 0.9, sources))
    places = radius * np.array([np.cos(angle), np.sin(angle)])
    around = 2 * np.pi * np.arange(sensors) / sensors
    ring = 1.2 * np.array([np.cos(around), np.sin(around)])
    apart = ring[:, :, None] - places[:, None, :]
    turned = rng.uniform(0, 2 * np.pi, sources)
    along = apart[0] * np.cos(turned) + apart[1] * np.sin(turned)
    gain = along / np.sum(apart**2, axis=0)
    return 1e8 * gain


def simulate(rng, model, gain, samples, quiet, wrong=1.0):
    """Hyperparameters and currents from a model's prior, written out here, and the problem they make.

    wrong : factor by which the noise that is simulated differs from what the model believes
    """
    guess = EXPECTED_SNR / np.sqrt(np.sum(gain**2) / len(gain))
    if model == "minimum_norm":
        truth = {"noise": 1.0, "scale": guess, "depth": 0.0}
    else:
        truth = {
            "noise": np.exp((0.5 if quiet else 0.1) * rng.normal()),
            "scale": guess * abs(rng.normal()),
            "depth": rng.uniform() if model == "depth_weighted" else 0.0,
        }
    weights = np.linalg.norm(gain, axis=0) ** (-2 * truth["depth"])
    weights *= np.sum(gain**2) / np.sum(gain**2 * weights)
    current = truth["scale"] * np.sqrt(weights)[:, None] * rng.normal(size=(gain.shape[1], samples))
    noise = wrong * truth["noise"] * rng.normal(size=(len(gain), samples + quiet))
    recording = gain @ current + noise[:, :samples]
    problem = bi.Problem.from_arrays(gain, recording, baseline=noise[:, samples:] if quiet else None)
    return truth, current, weights, problem


def ranks(model, count, seed, *, wrong=1.0, quiet=6, sensors=7, sources=19, samples=3, draws=199):
    """Place of the truth in the posterior, in [0, 1], per functional: name to (simulation,)."""
    rng = np.random.default_rng(seed)
    gain = lead_field(rng, sensors, sources)
    places = {}
    for _ in range(count):
        truth, current, _, problem = simulate(rng, model, gain, samples, quiet, wrong)
        posterior = bi.infer(model, problem, rng=rng, draws=draws)
        region = posterior.region({"region": np.arange(5)})
        found = {
            "region": 1 - region.exceedance(current[:5, 1].mean())[0, 1],
            "source, by draws": np.mean(posterior.draw(draws, rng, slice(0, 1))[:, 8, 0] < current[8, 0]),
            "source, beyond": 1 - posterior.contrast(np.eye(19)[8]).exceedance(current[8, 2])[0, 2],
        }
        for name in ("noise", "scale", "depth"):
            if name in posterior.hyper:
                found[name] = np.mean(posterior.hyper[name].draws < truth[name])
        if model == "hierarchical":
            spectrum = Spectrum.of(problem)
            drawn = spectrum.log_likelihood(posterior.hyper["scale"].draws ** 2, posterior.hyper["noise"].draws)
            true = spectrum.log_likelihood(np.array([truth["scale"] ** 2]), np.array([truth["noise"]]))[0]
            found["log likelihood"] = np.mean(drawn < true)
        for name, place in found.items():
            # A rank among a few draws is spread over its step, so that it is uniform and not only discretely so.
            exact = name in ("region", "source, beyond")
            spread = place if exact else (place * draws + rng.uniform()) / (draws + 1)
            places.setdefault(name, []).append(spread)
    return {name: np.array(values) for name, values in places.items()}


def verdict(places):
    """Smaller p-value of a chi-square over ten bins and of the largest distance of the ECDF from the diagonal."""
    counts = np.histogram(places, bins=10, range=(0, 1))[0]
    return min(chisquare(counts).pvalue, kstest(places, "uniform").pvalue)


def coverage(count, seed, *, sensors, sources, samples, quiet):
    """Share of currents inside the interval of each level: (problem, level)."""
    rng = np.random.default_rng(seed)
    shares = np.empty((count, len(LEVELS)))
    for i in range(count):
        gain = lead_field(rng, sensors, sources)
        _, current, _, problem = simulate(rng, "hierarchical", gain, samples, quiet)
        posterior = bi.infer("hierarchical", problem, draws=10)
        for j, level in enumerate(LEVELS):
            low, high = posterior.interval(level)
            shares[i, j] = np.mean((low <= current) & (current <= high))
    return shares


def calibration_error(shares):
    """Mean absolute difference of coverage and level over 0, 0.1 ... 1, and its Monte Carlo standard error."""
    miss = shares.mean(axis=0) - LEVELS
    spread = shares.std(axis=0, ddof=1) / np.sqrt(len(shares))
    return np.abs(miss).sum() / 11, np.sqrt(2 / np.pi) * spread.sum() / 11


class TestSmall:
    def test_intervals_hold_the_truth_as_often_as_they_say(self):
        shares = coverage(25, 0, sensors=12, sources=60, samples=4, quiet=10)
        error, noise = calibration_error(shares)
        assert error < 0.01 + 3 * noise
        assert noise < 0.02

    @pytest.mark.parametrize("model", ["minimum_norm", "hierarchical"])
    def test_ranks_of_the_truth_are_uniform(self, model):
        for name, places in ranks(model, 40, 1).items():
            assert verdict(places) > 1e-4, name

    def test_a_noise_that_is_wrong_by_half_is_found_out(self):
        found = ranks("hierarchical", 30, 2, wrong=1.5)
        assert verdict(found["noise"]) < 1e-8


@pytest.mark.slow
class TestLarge:
    def test_calibration_error_of_pointwise_intervals(self):
        shares = coverage(200, 3, sensors=60, sources=800, samples=3, quiet=40)
        error, noise = calibration_error(shares)
        print(f"calibration error {error:.4f}, of which Monte Carlo about {noise:.4f}")
        assert error <= 0.01

    @pytest.mark.parametrize(
        ("model", "count"), [("minimum_norm", 300), ("hierarchical", 300), ("depth_weighted", 120)]
    )
    @pytest.mark.parametrize("quiet", [0, 6])
    def test_simulation_based_calibration(self, model, count, quiet):
        found = ranks(model, count, 4, quiet=quiet)
        values = {name: verdict(places) for name, places in found.items()}
        print(model, quiet, {name: round(value, 4) for name, value in values.items()})
        assert min(values.values()) > 1e-3 / len(values)

    @pytest.mark.parametrize(("model", "count"), [("hierarchical", 150), ("depth_weighted", 60)])
    def test_a_broken_model_fails(self, model, count):
        found = ranks(model, count, 5, wrong=1.5)
        assert verdict(found["noise"]) < 1e-12

    def test_a_broken_model_without_hyperparameters_fails(self):
        assert verdict(ranks("minimum_norm", 500, 6, wrong=3.0)["region"]) < 1e-3
