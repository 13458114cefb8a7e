"""Noise of the recording beside that of the baseline: a ratio as of dense densities, and louder noise is told."""

import numpy as np
import pytest
from coloured import STEP, ar, coloured, dense, samples_covariance
from numpy.testing import assert_allclose
from scipy.optimize import minimize_scalar

import bayesinv as bi
from bayesinv.covariance.covariance import Structure
from bayesinv.covariance.time_course import correlation_over_time
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.inference.noise_scales import LIMIT, noise_apart

NAME = "noise in the recording"
SENSORS, SOURCES, SAMPLES, QUIET = 24, 50, 60, 70


def scene(seed, louder=1.0, size=1.0):
    """Slow currents in noise that is some times as loud in the recording as in the baseline."""
    rng = np.random.default_rng(seed)
    gain = rng.standard_normal((SENSORS, SOURCES)) / np.sqrt(SOURCES) * np.geomspace(3, 0.1, SENSORS)[:, None]
    times = STEP * np.arange(-QUIET, SAMPLES)
    field = ar([0.5], (SENSORS, len(times)), rng)
    field[:, QUIET:] *= louder
    root = np.linalg.cholesky(correlation_over_time(times[QUIET:], 0.01) + 1e-9 * np.eye(SAMPLES))
    field[:, QUIET:] += size * gain @ rng.standard_normal((SOURCES, SAMPLES)) @ root.T
    return bi.Problem.from_arrays(
        gain, field[:, QUIET:], times=times[QUIET:], baseline=field[:, :QUIET], noise_time="auto"
    )


def check_of(model, problem):
    return next(one for one in bi.infer(model, problem, draws=50).checks if one.name == NAME)


@pytest.mark.parametrize(("groups", "time"), [(1, None), (1, 0.006), (2, None)])
@pytest.mark.parametrize("centred", [False, True])
def test_ratio_and_evidence_are_those_of_dense_densities(groups, time, centred):
    problem = coloured(groups, samples=11, quiet=26, centred=centred)
    # So that currents are told from the noise.
    problem = problem.with_fields(recording=1.5 * problem.recording * np.array([[3.0], [1], [0.5], [2], [1]]))
    structure = Structure(time=time)
    factor, nats = noise_apart(Spectrum.of(problem, structure), 0.3, 1.1)

    alone = dense(problem, structure, 1e-30, 1.0)[1]
    signal = dense(problem, structure, 1.0, 1e-12)[1]
    kinds = problem.autocorrelation.of_component(problem.noise.component_modality) if groups > 1 else np.zeros(5, int)
    basis = np.linalg.qr(np.eye(26)[:, 1:] - 1 / 26)[0] if problem.baseline_centred else np.eye(26)
    before, count = samples_covariance(problem)[0], 5 * basis.shape[1]
    quiet = sum(
        row @ np.linalg.solve(basis.T @ before[kind] @ basis, row)
        for row, kind in zip(problem.baseline @ basis, kinds, strict=True)
    )
    numbers, table = problem.recording.size, problem.recording.ravel()

    def parts(log_ratio):
        covariance = np.exp(log_ratio) * signal + alone
        return table @ np.linalg.solve(covariance, table), np.linalg.slogdet(covariance)[1]

    def apart(log_ratio):
        squares, volume = parts(log_ratio)
        return 0.5 * (numbers * np.log(squares / numbers) + volume + count * np.log(quiet / count))

    def alike(log_ratio):
        squares, volume = parts(log_ratio)
        return 0.5 * ((numbers + count) * np.log((squares + quiet) / (numbers + count)) + volume)

    def least(function):
        grid = np.linspace(-12, 8, 41)
        middle = grid[int(np.argmin([function(one) for one in grid]))]
        return minimize_scalar(function, bounds=(middle - 1, middle + 1), method="bounded")

    two, one = least(apart), least(alike)
    assert_allclose(nats, one.fun - two.fun, atol=0.01)
    assert_allclose(factor, np.sqrt(parts(two.x)[0] / numbers / (quiet / count)), rtol=0.01)
    assert nats > 0.1


@pytest.mark.parametrize("model", ["hierarchical", "temporal"])
@pytest.mark.parametrize("louder", [1.6, 0.6])
def test_noise_that_is_louder_or_quieter_in_the_recording_fails(model, louder):
    check = check_of(model, scene(1, louder))
    assert not check.passed
    assert check.value == pytest.approx(louder, rel=0.1)
    assert ("too large" if louder > 1 else "passes for noise") in check.note


@pytest.mark.parametrize("model", ["hierarchical", "temporal", "depth_weighted"])
def test_noise_that_is_alike_passes(model):
    check = check_of(model, scene(2, size=2.0))
    assert check.passed
    assert 1 / LIMIT < check.value < LIMIT
    assert "too large" not in check.note


def test_without_a_baseline_there_is_nothing_to_compare():
    problem = scene(3).with_fields(baseline=None)
    assert all(one.name != NAME for one in bi.infer("hierarchical", problem, draws=50).checks)
