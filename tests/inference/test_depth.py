"""Currents over depth: scores of halves of the sources are those of dense algebra, and currents all deep are told."""

import numpy as np
import pytest
from coloured import STEP, coloured, dense, fields
from numpy.testing import assert_allclose

import bayesinv as bi
from bayesinv.covariance.covariance import Structure
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.inference.depth import LIMIT, halves

NAME = "currents over depth"
SENSORS, SOURCES, SAMPLES, QUIET = 24, 80, 50, 60


def scene(seed, power=0.0, snr=2.0):
    """White currents, as large as the gain's norm to some power, in white noise."""
    rng = np.random.default_rng(seed)
    gain = rng.standard_normal((SENSORS, SOURCES)) * np.geomspace(3, 0.3, SOURCES)
    # Neighbouring sensors see the same of what is deep.
    gain = np.cumsum(gain, axis=0) * np.linspace(1, 0.2, SENSORS)[:, None]
    norms = np.linalg.norm(gain, axis=0)
    currents = norms[:, None] ** power * rng.standard_normal((SOURCES, SAMPLES))
    signal = gain @ currents
    size = snr / np.sqrt(np.mean(signal**2))
    noise = rng.standard_normal((SENSORS, SAMPLES + QUIET))
    problem = bi.Problem.from_arrays(
        gain,
        size * signal + noise[:, QUIET:],
        times=STEP * np.arange(SAMPLES),
        baseline=noise[:, :QUIET],
        noise_time="white",
    )
    return problem, size * currents, norms


def check_of(posterior):
    return next(one for one in posterior.checks if one.name == NAME)


@pytest.mark.parametrize(("groups", "time"), [(1, None), (1, 0.006), (2, None), (2, 0.006)])
def test_scores_and_their_information_are_those_of_dense_algebra(groups, time):
    problem, structure, variance, noise = coloured(groups, samples=7), Structure(time=time), 0.4, 1.1
    covariance = dense(problem, structure, variance, noise)[1]
    order = np.argsort(np.linalg.norm(problem.gain, axis=0))
    # Nine sources: four of the weaker gain.
    weak, strong = (problem.gain[:, one] for one in (order[:4], order[4:]))
    if time is None:
        parts = [
            dense(bi.Problem(**{**fields(problem), "gain": one}), structure, variance, 0.0)[1] for one in (weak, strong)
        ]
    else:
        # Modes that two colours share depend on the whole gain.
        root = structure.time_root(problem)
        parts = [variance * np.kron(one @ one.T, root @ root.T) for one in (weak, strong)]
    solved, inverse = np.linalg.solve(covariance, problem.recording.ravel()), np.linalg.inv(covariance)
    scores, information = Spectrum.of(problem, structure).scores(variance, noise, halves(problem, structure))
    assert_allclose(scores, [0.5 * (solved @ one @ solved - np.trace(inverse @ one)) for one in parts], rtol=1e-6)
    expected = [[0.5 * np.trace(inverse @ one @ inverse @ other) for other in parts] for one in parts]
    assert_allclose(information, expected, rtol=1e-6)
    traces = Spectrum.of(problem, structure).traces(variance, noise, halves(problem, structure))
    assert_allclose(traces, [np.trace(inverse @ one) for one in parts], rtol=1e-6)


def test_halves_are_all_of_the_gram_matrix_whatever_the_prior():
    problem = coloured(sources=11)
    weights = np.linspace(1, 2, 11)
    for structure in (Structure(), Structure(weights=weights), Structure(depth=0.7, time=0.01)):
        assert_allclose(sum(halves(problem, structure)), structure.gram(problem), rtol=1e-10)


def test_currents_that_are_all_deep_fail_where_all_places_count_as_alike():
    problem, currents, norms = scene(1, power=-2.0)
    alone, weighted = (bi.infer(name, problem, draws=50) for name in ("hierarchical", "depth_weighted"))
    low, high = alone.interval(0.9)
    deep = norms < np.quantile(norms, 0.25)
    # What the check is for: intervals that hold far fewer than they say.
    assert np.mean(((low <= currents) & (currents <= high))[deep]) < 0.75
    check = check_of(alone)
    assert not check.passed
    assert check.value > LIMIT
    assert '"depth_weighted"' in check.note
    assert check_of(weighted).value < check.value


@pytest.mark.parametrize(("model", "power"), [("hierarchical", 0.0), ("depth_weighted", 0.0), ("depth_weighted", -1.0)])
def test_currents_as_the_prior_has_them_pass(model, power):
    check = check_of(bi.infer(model, scene(2, power)[0], draws=50))
    assert check.passed
    assert "of the half of the sources" in check.note


def test_a_single_source_has_no_halves():
    problem = scene(3)[0]
    one = bi.Problem.from_arrays(problem.gain[:, :1], problem.recording, baseline=problem.baseline, noise_time="white")
    assert all(check.name != NAME for check in bi.infer("hierarchical", one, draws=50).checks)
