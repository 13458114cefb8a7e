"""Currents as large over time as a posterior takes them: variances by dense algebra, truths slower than the model."""

import numpy as np
import pytest
from coloured import STEP, ar, coloured, samples_covariance, time_correlation
from numpy.testing import assert_allclose

import bayesinv as bi
from bayesinv.covariance.covariance import Structure
from bayesinv.covariance.time_course import correlation_over_time
from bayesinv.inference.window_means import LIMIT, Series, window_means_checks
from bayesinv.posterior.mixture import Mixture

NAME = "currents over time"
SENSORS, SOURCES, SAMPLES, QUIET = 20, 60, 40, 60


def scene(seed, constant=None, colour=0.8, size=1.0, samples=SAMPLES):
    """Currents of a time constant, or of the noise's own colour, in autoregressive noise."""
    rng = np.random.default_rng(seed)
    gain = rng.standard_normal((SENSORS, SOURCES)) / np.sqrt(SOURCES) * np.geomspace(3, 0.1, SENSORS)[:, None]
    times = STEP * np.arange(-QUIET, samples)
    field = ar([colour], (SENSORS, len(times)), rng)
    if constant is None:
        currents = ar([colour], (SOURCES, samples), rng)
    else:
        root = np.linalg.cholesky(correlation_over_time(times[QUIET:], constant) + 1e-9 * np.eye(samples))
        currents = rng.standard_normal((SOURCES, samples)) @ root.T
    field[:, QUIET:] += gain @ (size * currents)
    problem = bi.Problem.from_arrays(
        gain, field[:, QUIET:], times=times[QUIET:], baseline=field[:, :QUIET], noise_time="auto"
    )
    return problem, size * currents


def check_of(posterior):
    return next(one for one in posterior.checks if one.name == NAME)


def held(posterior, currents):
    low, high = posterior.interval(0.9)
    return np.mean((low <= currents) & (currents <= high))


@pytest.mark.parametrize(("groups", "time"), [(1, None), (1, 0.006), (2, 0.006)])
@pytest.mark.parametrize("centred", [False, True])
def test_variances_and_their_worth_are_those_of_dense_algebra(groups, time, centred):
    problem = coloured(groups, samples=9, quiet=26, centred=centred)
    structure, variance, noise = Structure(time=time), 0.4, 1.1
    over = samples_covariance(problem)[1]
    rows = np.zeros(5, dtype=int) if groups == 1 else problem.autocorrelation.of_component(("meg",) * 3 + ("eeg",) * 2)
    blocks = np.zeros((5, 9, 5, 9))
    for row, group in enumerate(rows):
        blocks[row, :, row] = noise**2 * over[group]
    courses = over[0] if time is None else time_correlation(problem, time)
    signal = np.einsum("ij,tu->itju", variance * problem.gain @ problem.gain.T, courses)
    vectors = np.linalg.eigh(problem.gain @ problem.gain.T)[1]
    finest = Series.of(problem, structure, variance, noise)
    for length, series in ((1, finest), (2, finest.coarser()), (4, finest.coarser().coarser())):
        windows = np.kron(np.eye(9 // length), np.full(length, 1 / length))
        windows = np.pad(windows, ((0, 0), (0, 9 - windows.shape[1])))
        own = [np.einsum("i,itju,j,bt,cu->bc", v, blocks + signal, v, windows, windows) for v in vectors.T]
        currents = [np.einsum("i,itju,j,bt,bu->b", v, signal, v, windows, windows) for v in vectors.T]
        assert_allclose(series.variance, [np.diag(one) for one in own], rtol=1e-7)
        share = np.array([part / np.diag(one) for part, one in zip(currents, own, strict=True)])
        assert_allclose(series.share, share, rtol=1e-7)
        scaled = [weight / np.diag(one) for weight, one in zip(share, own, strict=True)]
        spread = sum(weight @ one**2 @ weight for weight, one in zip(scaled, own, strict=True))
        assert_allclose(series.degrees(), share.sum() ** 2 / spread, rtol=1e-7)
        # Of some samples alone.
        some, part = slice(1, 3), share[:, 1:3]
        own_part = [one[some, some] for one in own]
        scaled = [weight / np.diag(one) for weight, one in zip(part, own_part, strict=True)]
        spread = sum(weight @ one**2 @ weight for weight, one in zip(scaled, own_part, strict=True))
        if series.samples > 2:
            assert_allclose(series.degrees(some), part.sum() ** 2 / spread, rtol=1e-7)
        values = np.stack([windows @ (v @ problem.recording) for v in vectors.T])
        assert_allclose(series.table[:, 0] ** 2, values**2, atol=1e-9)


@pytest.mark.parametrize("time", [None, 0.02])
def test_chance_makes_currents_as_large_as_often_as_it_says(time):
    rng, chances = np.random.default_rng(4), []
    problem, _ = scene(1)
    courses = problem.time_whitening.correlations[0] if time is None else correlation_over_time(problem.times, time)
    roots = [
        np.linalg.cholesky(one + 1e-9 * np.eye(SAMPLES)) for one in (courses, problem.time_whitening.correlations[0])
    ]
    for _ in range(300):
        currents, noise = rng.standard_normal((SOURCES, SAMPLES)), rng.standard_normal((SENSORS, SAMPLES))
        recording = 0.5 * problem.gain @ currents @ roots[0].T + noise @ roots[1].T
        series = Series.of(problem.with_fields(recording=recording), Structure(time=time), 0.25, 1.0)
        chances.append([series.excess()[1], series.coarser().coarser().excess()[1]])
    # The sum is only nearly chi-squared: its tail is the heavier the fewer numbers it is worth.
    assert_allclose(np.mean(np.array(chances) < 0.05, axis=0), 0.05, atol=0.04)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_the_factor_is_that_by_which_currents_are_larger(factor):
    problem, _ = scene(5, 0.02, size=3.0)
    found = Series.of(problem, Structure(time=0.02), (3.0 / factor) ** 2, 1.0).excess()[0]
    assert found == pytest.approx(factor, rel=0.2)


def test_slow_currents_fail_where_each_sample_counts_as_independent():
    problem, currents = scene(2, 0.04)
    alone, slow = bi.infer("hierarchical", problem, draws=50), bi.infer("temporal", problem, draws=50)
    # What the check is for: intervals that hold far fewer than they say.
    assert held(alone, currents) < 0.6 < 0.8 < held(slow, currents)
    found = check_of(alone)
    assert not found.passed
    assert not alone.passed
    assert found.value > LIMIT
    assert "single samples of them are" in found.note
    assert '"temporal"' in found.note
    assert check_of(slow).passed


def test_windows_tell_where_single_samples_do_not():
    problem, _ = scene(3, 0.04, colour=0.0)
    found = check_of(bi.infer("hierarchical", problem, draws=50))
    single = float(found.note.split("are ")[1].split(" times")[0])
    assert single < LIMIT < found.value
    assert not found.passed


def test_a_response_that_fills_a_part_of_the_window_is_found():
    """Its size is that of the whole window, to a prior that is the same throughout."""
    problem, _ = scene(8, 0.02, size=0.0)
    envelope = np.exp(-0.5 * ((np.arange(SAMPLES) - 20) / 3) ** 2)
    currents = scene(8, 0.02, size=2.0)[1] * envelope / np.sqrt(np.mean(envelope**2))
    problem = problem.with_fields(recording=problem.recording + problem.gain @ currents)
    posterior = bi.infer("temporal", problem, draws=50)
    low, high = posterior.interval(0.9)
    inside = (low <= currents) & (currents <= high)
    assert inside[:, 18:23].mean() < 0.7
    found = check_of(posterior)
    assert not found.passed
    assert found.value > 1.5
    assert "those from 30 to 38 ms 2.1 times" in found.note
    assert "give its window" in found.note


@pytest.mark.parametrize("model", ["hierarchical", "minimum_norm", "depth_weighted"])
def test_currents_of_the_noise_s_colour_pass_where_they_are_taken_for_that(model):
    problem, _ = scene(4)
    assert check_of(bi.infer(model, problem, draws=50)).passed


@pytest.mark.parametrize("even", [True, False])
def test_long_recordings_are_judged_by_stretches(even):
    problem, _ = scene(6, 0.04, samples=1100)
    if not even:
        times = problem.times.copy()
        times[-1] += 2 * STEP
        problem = problem.with_fields(times=times)
    mixed = Mixture(np.ones(1), np.array([0.1]), np.ones(1), np.zeros(1, dtype=int), (Structure(),))
    series = Series.of(problem, Structure(), 0.1, 1.0)
    assert series.table.shape[1:] == (2 if even else 1, 512)
    found = window_means_checks(problem, mixed)[0]
    assert not found.passed


def test_a_single_sample_has_no_courses():
    problem, _ = scene(7)
    one = bi.Problem.from_arrays(problem.gain, problem.recording[:, :1])
    assert all(check.name != NAME for check in bi.infer("hierarchical", one, draws=50).checks)
