"""The likelihood of noise of several colours, against a dense normal density and that of shared modes."""

import numpy as np
import pytest
from coloured import coloured, of_two_colours
from numpy.testing import assert_allclose
from scipy.stats import multivariate_normal

from bayesinv.covariance.covariance import Structure
from bayesinv.evidence.several_colours import BesideModes, Parts, SeveralColours
from bayesinv.evidence.spectrum import Spectrum

SETTINGS = ((2.0, 1.3), (0.1, 0.6), (40.0, 2.0))
"""Source variances and noise scales."""


def log_density(colours, problem, variance, noise):
    """Log density of the recording from the two terms at a ratio."""
    constant, power, _ = colours.at(variance / noise**2)
    return constant - problem.recording.size * np.log(noise) - 0.5 * power / noise**2


@pytest.mark.parametrize("course", ["matern", "autoregressive"])
@pytest.mark.parametrize("constant", [0.004, 0.02])
def test_the_likelihood_of_two_colours_is_that_of_a_dense_normal(monkeypatch, course, constant):
    problem = coloured(2, samples=12, centred=True)
    colours = SeveralColours.of(problem, Structure(time=constant, course=course))
    values = problem.recording.ravel()
    wanted = [
        multivariate_normal(np.zeros(60), of_two_colours(problem, constant, course, *one)).logpdf(values)
        for one in SETTINGS
    ]
    monkeypatch.setattr("bayesinv.evidence.several_colours.LITTLE", 0.0)
    assert_allclose([log_density(colours, problem, *one) for one in SETTINGS], wanted, rtol=1e-7)
    # Parts below a fiftieth of the noise change next to nothing where they count as independent.
    monkeypatch.setattr("bayesinv.evidence.several_colours.LITTLE", 0.02)
    assert_allclose([log_density(colours, problem, *one) for one in SETTINGS], wanted, atol=5e-3)


def test_kinds_of_sensor_may_have_scales_of_their_own(monkeypatch):
    problem = coloured(2, samples=12)
    scales = np.array([{"mag": 1.5, "eeg": 0.7}[kind] for kind in problem.kinds])
    structure = Structure(time=0.01, noise=scales)
    covariance = of_two_colours(problem, 0.01, "matern", 2.0, 0.0)
    noise = of_two_colours(problem, 0.01, "matern", 0.0, 1.3)
    wider = np.repeat([1.5, 1.5, 1.5, 0.7, 0.7], 12)
    wanted = multivariate_normal(np.zeros(60), covariance + noise * np.outer(wider, wider))
    monkeypatch.setattr("bayesinv.evidence.several_colours.LITTLE", 0.0)
    found = log_density(SeveralColours.of(problem, structure), problem, 2.0, 1.3)
    assert_allclose(found, wanted.logpdf(problem.recording.ravel()), rtol=1e-7)


def test_beside_shared_modes_is_the_difference_to_them():
    problem, structure = coloured(2, samples=9), Structure(time=0.008)
    constant, power, _ = BesideModes.of(problem, structure).at(2.0 / 1.3**2)
    by_modes = Spectrum.of(problem, structure).log_likelihood(np.array([2.0]), np.array([1.3]))[0]
    wanted = log_density(SeveralColours.of(problem, structure), problem, 2.0, 1.3)
    assert_allclose(by_modes + constant - 0.5 * power / 1.3**2, wanted, rtol=1e-10)
    assert abs(by_modes - wanted) > 0.05


@pytest.mark.parametrize("ratio", [2.0, 200.0])
def test_parts_that_are_too_many_are_integrated_to_second_order(monkeypatch, ratio):
    """What is left of the error is of third order, and of where conjugate gradients end; those parts are counted."""
    colours = SeveralColours.of(coloured(2, samples=12), Structure(time=0.008))
    *exact, none = colours.at(ratio, 0.0)
    assert none == 0

    def off(most):
        log_density, power, left = colours.at(ratio, 0.0, most)
        assert left == len(colours.powers) * len(colours.gram) - most
        return abs(log_density - 0.5 * power - exact[0] + 0.5 * exact[1])

    assert max(off(most) for most in (2, 4, 8, 16)) < 1e-4
    monkeypatch.setattr(Parts, "_dependence", lambda self: 0.0)
    first = [off(most) for most in (2, 8, 20)]
    assert 0.3 > first[0] > first[1] > 5 * first[2]
    assert first[0] > 1e-3
