"""A source scale from a hundredth of the guess to a thousand times it: intervals hold what they say, in every model.

The structure of a truth (depth, orientation, length, ...) comes from the model's own prior, its noise is 1, and its
scale is a fixed multiple of the guess. Where the recording determines the scale, 90 % intervals of single currents, of
means of regions and of the scale itself must hold the truth in 87 to 93 % of cases, give or take the error of so few
truths. At a hundredth of the guess the recording says nothing but that the currents are small: there the posterior of
the scale has the shape of the prior, and intervals are as wide as what the sensors would just notice.
"""

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import binom, norm
from templates import covariances, hyper, template

import bayesinv as bi

LEVEL, TOLERANCE = 0.9, 0.03
FULL = {"sensors": 30, "sources": 200, "samples": 20, "quiet": 60}
SMALL = {"sensors": 16, "sources": 60, "samples": 12, "quiet": 40}
# Models of learned structure take seconds where there are many sources.
SIZES = {"hierarchical": FULL, "sensor_noise": FULL, "oriented": SMALL | {"sources": 12, "samples": 8}}
RUNS = {"hierarchical": 8, "oriented": 2, "focal": 2}
FACTORS = (0.1, 1.0, 10.0, 100.0, 1000.0)
# Dipoles are focal sources without extents; local scales of the horseshoe differ by more than these factors.
MODELS = sorted(set(bi.list_models()) - {"minimum_norm", "dipoles", "horseshoe"})
REGIONS = 6


def simulated(name, factor, seed):
    """Hyperparameters, currents (amplitude, time), and the problem they make."""
    rng = np.random.default_rng([seed, int(1000 * factor)])
    problem = template(name, **SIZES.get(name, SMALL))
    values = hyper(name, problem, rng) | {"noise": 1.0}
    values |= {"scale": factor * problem.scale_guess}
    spatial, course, noise = covariances(name, problem, values)
    root = np.linalg.cholesky(spatial + 1e-12 * np.trace(spatial) / len(spatial) * np.eye(len(spatial)))
    current = root @ rng.normal(size=(len(spatial), len(course))) @ np.linalg.cholesky(course).T
    quiet = problem.baseline.shape[1]
    error = np.linalg.cholesky(noise) @ rng.normal(size=(len(noise), len(course) + quiet))
    recording, baseline = problem.gain @ current + error[:, : len(course)], error[:, len(course) :]
    return values, current, problem.again(recording, baseline=baseline)


def posterior_of(name, problem):
    # Long chains would take a minute for each truth; the Gaussian at the mode, or short ones, tell as much of currents.
    options = {"chains": 2, "sweeps": 50, "warm": 30} if name == "focal" else {}
    method = "laplace" if name == "multiple_sparse_priors" else None
    return bi.infer(name, problem, method=method, draws=2000, **options)


def flows(current):
    """Whether an amplitude may hold current at all: what lies in no parcel does not."""
    return np.abs(current).max(axis=1) > 1e-5 * np.abs(current).max()


def inside(posterior, current):
    """Whether the 90 % interval of each current that is not always zero holds it (current, time)."""
    live = flows(current)
    below = np.zeros_like(current)
    with np.errstate(divide="ignore", invalid="ignore"):
        for weight, mean, sd in posterior.gaussians(slice(None), slice(None)):
            below += weight * ndtr((current - mean) / sd)
    return np.abs(below[live] - 0.5) <= LEVEL / 2


def regions_inside(posterior, current):
    """Whether the 90 % interval of the mean over each of some regions holds it (region, time)."""
    axes = posterior.problem.axes
    parts = np.array_split(np.flatnonzero(flows(current)[::axes]), REGIONS)
    found = posterior.region({str(k): part for k, part in enumerate(parts)})
    truth = np.array([current.reshape(-1, axes, current.shape[1])[part].mean(axis=0) for part in parts])
    low, high = found.interval(LEVEL)
    return (low <= truth.reshape(low.shape)) & (truth.reshape(low.shape) <= high)


def monte_carlo_error(posterior, cells):
    """Standard error of the share inside, of one truth.

    A scale that is off by a factor 1 + δ moves all ends of intervals at once, and coverage by 2 z φ(z) δ, with z the
    normal quantile of an end; δ has the sd of the posterior of log scale. Beside it, so many cells of their own count.
    """
    z = norm.ppf((1 + LEVEL) / 2)
    nodes, weights = np.log(posterior.hyper["scale"].nodes), posterior.hyper.weights
    sd = np.sqrt(weights @ (nodes - weights @ nodes) ** 2)
    return np.hypot(2 * z * norm.pdf(z) * sd, np.sqrt(LEVEL * (1 - LEVEL) / cells))


def assert_covered(shares, errors, what):
    error = np.sqrt(np.mean(np.square(errors)) / len(shares))
    assert abs(np.mean(shares) - LEVEL) < TOLERANCE + 3 * error, (what, np.mean(shares), error)


def assert_hits(hits, what):
    """Hits of 90 % intervals, neither too few for 87 % nor too many for 93 %, of which one in a thousand would fail."""
    least, most = binom.ppf(5e-4, len(hits), LEVEL - TOLERANCE), binom.ppf(1 - 5e-4, len(hits), LEVEL + TOLERANCE)
    assert least <= np.sum(hits) <= most, (what, np.sum(hits), len(hits))


def check_coverage(name, factors, runs):
    hits = []
    for factor in factors:
        places, regions, errors, region_errors = [], [], [], []
        for seed in range(runs):
            values, current, problem = simulated(name, factor, seed)
            posterior = posterior_of(name, problem)
            # Neighbouring samples of slow currents tell the same.
            samples = problem.recording.shape[1] / (4 if name == "temporal" else 1)
            places.append(np.mean(inside(posterior, current)))
            regions.append(np.mean(regions_inside(posterior, current)))
            errors.append(monte_carlo_error(posterior, problem.components * samples))
            region_errors.append(monte_carlo_error(posterior, REGIONS * samples))
            low, high = posterior.hyper["scale"].interval(LEVEL)
            hits.append(low <= values["scale"] <= high)
            assert all(check.passed for check in posterior.checks if check.name.startswith("prior of"))
            if posterior.method == "quadrature":
                # The lattice of four hyperparameters can be halved once only, and then reports the error before that.
                spared = [
                    "whitened baseline",
                    "outlying sources",
                    *(["quadrature drift"] if name == "oriented" else []),
                ]
                # Slow currents that are weak may be in a short baseline as well, for all that it tells.
                spared += ["currents in the baseline"] if name == "temporal" and factor <= 1 else []
                assert [check for check in posterior.checks if not check.passed and check.name not in spared] == []
                assert len(posterior.hyper.weights) < 30 ** (len(posterior.hyper) - 2)
        assert_covered(places, errors, (name, factor, "places"))
        assert_covered(regions, region_errors, (name, factor, "regions"))
    assert_hits(hits, name)


def test_hierarchical_covers_far_above_the_guess():
    check_coverage("hierarchical", (10.0, 1000.0), 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_model_covers_from_a_tenth_to_a_thousand_times_the_guess(name):
    check_coverage(name, FACTORS, RUNS.get(name, 3))


def test_minimum_norm_covers_at_the_scale_that_it_takes_as_given():
    _, current, problem = simulated("minimum_norm", 1.0, 0)
    posterior = bi.infer("minimum_norm", problem)
    cells = problem.components * problem.recording.shape[1]
    assert_covered([np.mean(inside(posterior, current))], [0.3 / np.sqrt(cells)], "places")
    cells = REGIONS * problem.recording.shape[1]
    assert_covered([np.mean(regions_inside(posterior, current))], [0.3 / np.sqrt(cells)], "regions")


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_scale_that_the_recording_does_not_show_has_its_prior(name):
    _, current, problem = simulated(name, 0.01, 0)
    posterior = posterior_of(name, problem)
    assert np.mean(inside(posterior, current)) > LEVEL
    if posterior.method in ("laplace", "active_set"):
        # A Gaussian on the logarithmic scale has not the tail of the prior, and short chains visit it too seldom.
        return
    # Far below the guess the prior is flat: half of what lies below a small value lies below half of it.
    draws = posterior.hyper["scale"].draws
    top = np.quantile(draws, 0.2)
    assert top < 0.1 * problem.scale_guess
    below = draws[draws < top]
    assert abs(np.mean(below < top / 2) - 0.5) < 3.5 * 0.5 / np.sqrt(len(below))
