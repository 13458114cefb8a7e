"""Recordings whose mean was subtracted over other samples than the baseline's, and baselines that are centred."""

import numpy as np
import pytest
from coloured import SLOW, coloured, fields
from numpy.testing import assert_allclose
from scipy.linalg import toeplitz

import bayesinv as bi


@pytest.mark.parametrize("first", [0, 2])
def test_noise_is_that_of_the_recording_less_the_mean_of_others(first):
    problem = coloured(samples=7, quiet=6, centred=True)
    # Three of the samples before the recording, or two of those and two of its own.
    every = np.concatenate([problem.times_of_baseline, problem.times])
    some = np.arange(first, first + 3) if not first else np.arange(4, 8)
    other = bi.Problem(**{**fields(problem), "corrected_times": every[some]})
    remove = np.eye(13)
    remove[:, some] -= 1 / len(some)
    wanted = (remove @ toeplitz(SLOW[:13]) @ remove.T)[6:, 6:]
    whitening = other.time_whitening
    assert_allclose(whitening.correlations[0], wanted, atol=1e-12)
    assert_allclose(whitening.variances, np.diag(wanted), atol=1e-12)
    # What the baseline says is the same: of its own mean it says nothing.
    assert_allclose(other.white_baseline, problem.white_baseline)
    assert f"corrected by {1e3 * every[some[0]]:g} to" in str(other)


def test_leaving_out_of_the_baseline_leaves_the_mean_that_was_subtracted():
    problem = coloured(samples=7, quiet=6, centred=True)
    before = problem.times_of_baseline
    other = bi.Problem(**{**fields(problem), "corrected_times": before[:3], "baseline_times": before})
    left = other.without(times=before[1])
    assert_allclose(left.recording, other.recording)
    assert_allclose(left.corrected_times, before[:3])
    assert_allclose(left.baseline.mean(axis=1), 0, atol=1e-12)


class TestArrays:
    def given(self, rng, **options):
        baseline = rng.standard_normal((4, 30))
        baseline -= baseline.mean(axis=1, keepdims=True)
        return bi.Problem.from_arrays(
            rng.standard_normal((4, 6)), rng.standard_normal((4, 5)), baseline=baseline, **options
        )

    def test_a_baseline_without_mean_is_recognised(self, rng):
        problem = self.given(rng)
        assert problem.baseline_centred
        assert problem.baseline_freedom == 29
        assert not self.given(rng, baseline_centred=False).baseline_centred

    def test_one_with_a_mean_is_not(self, rng):
        for baseline in (rng.standard_normal((4, 30)), np.ones((4, 1))):
            problem = bi.Problem.from_arrays(
                rng.standard_normal((4, 6)), rng.standard_normal((4, 5)), baseline=baseline
            )
            assert not problem.baseline_centred

    def test_white_noise_of_its_mean_is_in_all_samples(self, rng):
        assert_allclose(self.given(rng).time_whitening.correlations[0], np.eye(5) + 1 / 30, atol=1e-12)

    def test_but_not_where_it_is_white_by_choice_which_a_check_says(self, rng):
        problem = self.given(rng, noise_time="white")
        assert problem.time_whitening is None
        (check,) = (
            one for one in bi.infer("hierarchical", problem).checks if one.name == "noise of the baseline's mean"
        )
        assert check.value == pytest.approx(5 / 30)
        assert check.passed
        longer = bi.Problem.from_arrays(
            problem.gain,
            rng.standard_normal((4, 40)),
            baseline=problem.baseline,
            baseline_centred=True,
            noise_time="white",
        )
        (check,) = (
            one for one in bi.infer("hierarchical", longer).checks if one.name == "noise of the baseline's mean"
        )
        assert not check.passed


def test_another_recording_of_as_many_samples_was_corrected_by_the_same(rng):
    problem = coloured(samples=7, quiet=6, centred=True)
    before = problem.times_of_baseline - 0.02
    other = bi.Problem(**{**fields(problem), "corrected_times": before[:3], "baseline_times": before})
    again = other.again(rng.standard_normal((5, 7)), baseline=problem.baseline, baseline_centred=True)
    assert_allclose(again.corrected_times, before[:3])
    assert_allclose(again.times_of_baseline, before)
    assert_allclose(again.time_whitening.correlations, other.time_whitening.correlations)
    fewer = other.again(rng.standard_normal((5, 6)), baseline=problem.baseline, baseline_centred=True)
    assert fewer.corrected_times is None
    assert fewer.baseline_times is None
