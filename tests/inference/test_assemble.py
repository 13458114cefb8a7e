"""Checks of the baseline that every posterior has."""

import pytest
from numpy.testing import assert_allclose
from referee import toy

from bayesinv.inference.assemble import baseline_checks

pytestmark = pytest.mark.filterwarnings("ignore:the (whitened )?baseline has:UserWarning")


def checks_of(problem):
    return {check.name: check for check in baseline_checks(problem)}


class TestBaseline:
    def moved(self, shift, **given):
        """White noise of 60 samples with a mean."""
        problem = toy(quiet=60, **given)
        return problem.again(problem.recording, baseline=problem.baseline + shift)

    def test_noise_passes(self):
        found = checks_of(self.moved(0.0))
        assert set(found) == {"mean of the baseline", "whitened baseline"}
        assert all(check.passed for check in found.values())

    def test_a_mean_fails_by_its_own_name_and_says_what_to_do(self):
        """A mean of three sd has a power of sqrt(10), of which the covariance is no cause."""
        found = checks_of(self.moved(3.0))
        mean = found["mean of the baseline"]
        assert not mean.passed
        assert_allclose(mean.value, 3.0, rtol=0.1)
        for words in ("--baseline-correct START,STOP", "baseline_correct=(start, stop)", "Evoked.apply_baseline"):
            assert words in mean.note
        assert found["whitened baseline"].passed
        assert_allclose(found["whitened baseline"].value, 1.0, rtol=0.1)

    def test_a_covariance_of_another_recording_fails_by_its_name(self):
        problem = self.moved(0.0)
        found = checks_of(problem.again(problem.recording, baseline=3 * problem.baseline))
        assert found["mean of the baseline"].passed
        assert not found["whitened baseline"].passed

    def test_of_a_mean_that_was_subtracted_only_its_noise_is_looked_at(self):
        checks = checks_of(toy(quiet=60, centred=True))
        assert set(checks) == {"whitened baseline", "noise of the baseline's mean"}
        assert all(check.passed for check in checks.values())

    def test_without_a_baseline_there_is_none(self):
        assert not checks_of(toy(quiet=0))
