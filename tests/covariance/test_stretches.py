"""Stretches of long recordings: their memory, and how they cover the samples."""

import numpy as np
import pytest
from coloured import STEP, coloured
from numpy.testing import assert_allclose
from scipy.signal import lfilter

from bayesinv.covariance import stretches
from bayesinv.covariance.covariance import Structure
from bayesinv.covariance.stretches import RATIOS, TOLERANCE, Stretches, memory_of
from bayesinv.covariance.time_course import correlation_at

CONSTANT = 0.01


def correlation_of(coefficients, lags):
    """Autocovariance of an autoregressive process, by its impulse response."""
    response = lfilter([1.0], np.append(1.0, -np.asarray(coefficients)), np.eye(1, 4000)[0])
    return np.array([response[k:] @ response[: len(response) - k] for k in range(lags)])


@pytest.fixture
def cut(monkeypatch):
    """Stretches of a recording of 403 samples in coloured noise."""
    monkeypatch.setattr(stretches, "DENSE", 100)
    found = Stretches.of(coloured(samples=403), CONSTANT, "matern")
    assert found.count > 2
    return found


def test_the_memory_of_an_autoregressive_process_is_its_order():
    coefficients = 0.5 * np.ones(11) / np.arange(2, 13) ** 2
    order, lost = memory_of(correlation_of(coefficients, 120)[None], 0.5 * 5 * 403)
    assert order == 11
    assert lost < 1e-12


def test_what_is_lost_is_the_log_ratio_of_prediction_errors():
    """The expected log density that a shorter past costs is T log(σ_p / σ)."""
    lags = np.arange(120)
    for ratio in (0.1, 3.0, 100.0):
        process = ratio * correlation_at(lags * STEP, CONSTANT) + (lags == 0)
        order, lost = memory_of(process[None], 0.5 * 403)
        errors = [_error(process, count) for count in (order, order // 2, 100)]
        assert_allclose(403 * np.log(errors[0] / errors[2]), lost, rtol=0.01, atol=1e-11)
        assert lost <= TOLERANCE
        assert 403 * np.log(errors[1] / errors[2]) > TOLERANCE


def _error(process, count):
    """Standard deviation of the prediction from some samples of the past, by normal equations."""
    lags = np.abs(np.arange(count)[:, None] - np.arange(count))
    past = process[1 : count + 1]
    return np.sqrt(process[0] - past @ np.linalg.solve(process[lags], past))


def test_every_sample_is_owned_once_well_inside_a_stretch(cut):
    owners = np.zeros(403, dtype=int)
    for number in range(cut.count):
        here, inside = cut.owned(number)
        owners[here] += 1
        assert here.start - inside.start == number * cut.step
        assert number == 0 or inside.start >= cut.step
        assert number == cut.count - 1 or inside.stop <= cut.length - cut.step
    assert (owners == 1).all()
    assert cut.total == 403


def test_modes_of_all_stretches_take_a_table_back_to_itself(cut):
    table = np.random.default_rng(0).standard_normal((3, 403))
    assert_allclose(cut.courses(cut.parts[0].coefficients(table)), table, atol=1e-9)


def test_variances_are_those_of_the_process(cut):
    """Of the currents by the modes' powers, of a sample and of sums: of neighbours, and of samples far apart."""
    assert_allclose(cut.variances(cut.modes.powers[None]), 1, atol=1e-9)
    weights = np.zeros((403, 3))
    weights[200:210, 0], weights[:, 1], weights[[0, 402], 2] = 1, np.cos(np.arange(403) / 30), (1, -1)
    correlation = correlation_at(STEP * (np.arange(403)[:, None] - np.arange(403)), CONSTANT)
    wanted = np.einsum("ts,tu,us->s", weights, correlation, weights)
    assert_allclose(cut.modes.powers @ cut.weighted(weights), wanted, rtol=np.sqrt(2 * TOLERANCE))


@pytest.mark.parametrize(("groups", "centred"), [(2, False), (1, True)])
def test_there_are_none_where_samples_share_more_than_a_course(monkeypatch, groups, centred):
    monkeypatch.setattr(stretches, "DENSE", 100)
    assert Stretches.of(coloured(groups, samples=403, centred=centred), CONSTANT, "matern") is None


def test_slow_courses_are_taken_together_while_samples_are_few(monkeypatch):
    monkeypatch.setattr(stretches, "DENSE", 100)
    problem = coloured(samples=403)
    assert Structure(time=0.2).stretches(problem) is None
    assert Structure(time=CONSTANT).stretches(problem) is not None
    assert Structure().stretches(problem) is None


def test_courses_too_slow_for_any_stretch_are_judged_roughly_and_say_so(monkeypatch):
    monkeypatch.setattr(stretches, "MAX_TOGETHER", 500)
    found = Stretches.of(coloured(samples=900), 20.0, "matern")
    assert found.lost > stretches.MAX_LOST
    assert found.step == stretches.ROUGH_MEMORY


def test_the_memory_covers_every_ratio():
    """It is found at ratios a factor of ten apart; between them none is longer by more than a tenth."""
    lags = STEP * np.arange(200)
    courses, noise = correlation_at(lags, CONSTANT), np.eye(1, 200)[0]
    found = memory_of(RATIOS[:, None] * courses + noise, 1000.0)[0]
    between = memory_of(np.geomspace(1e-4, 1e4, 41)[:, None] * courses + noise, 1000.0)[0]
    assert found <= between <= 1.1 * found
