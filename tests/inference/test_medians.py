"""The distribution of ratios of medians, held against simulation and integrals by other rules."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.integrate import quad
from scipy.stats import beta, binom, f, norm

from bayesinv.inference.medians import UNIT, exceeded, largest_ratio, median_size, smallest_ratio


@pytest.mark.parametrize(("first", "second", "ratio"), [(1, 5, 4.0), (7, 3, 2.0), (46, 500, 1.5), (1, 2000, 8.0)])
def test_it_is_the_integral_over_the_second_median(first, second, ratio):
    def above(size):
        return binom.sf((first - 1) / 2, first, 2 * norm.sf(size)) if first % 2 else np.nan

    half = (second + 1) / 2
    if first % 2:
        wanted = quad(lambda u: beta(half, half).pdf(u) * above(ratio * norm.ppf((1 + u) / 2)), 0, 1, limit=500)[0]
        assert_allclose(exceeded(ratio, first, second), wanted, rtol=1e-4, atol=1e-12)
    # Of two single numbers, and of any counts by symmetry.
    assert_allclose(exceeded(1.0, second, second), 0.5, rtol=1e-9)


def test_of_single_numbers_it_is_fishers():
    assert_allclose(exceeded(3.0, 1, 1), f(1, 1).sf(9.0), rtol=1e-4)


@pytest.mark.parametrize(("first", "second"), [(5, 9), (8, 41)])
def test_it_is_what_chance_does(rng, first, second):
    """Of an even count the order statistic is interpolated, so the law is held to a tenth of the tail."""
    limit = largest_ratio(0.02, first, second)
    count = 100_000
    ratios = [median_size(rng.standard_normal((count, n))) for n in (first, second)]
    found = np.mean(ratios[0] > limit * ratios[1])
    assert abs(found - 0.02) < 4 * np.sqrt(0.02 / count) + (0.005 if first % 2 == 0 else 0)


@pytest.mark.parametrize("probability", [1e-3, 1e-8])
@pytest.mark.parametrize(("first", "second"), [(1, 1), (1, 2000), (40, 2000), (5, 3)])
def test_limits_are_inverses(probability, first, second):
    assert_allclose(exceeded(largest_ratio(probability, first, second), first, second), probability, rtol=5e-3)


def test_the_smallest_ratio_is_one_that_chance_stays_below(rng):
    medians = median_size(rng.standard_normal((100_000, 21))) / UNIT
    assert abs(np.mean(medians < smallest_ratio(0.01, 21)) - 0.01) < 4 * np.sqrt(0.01 / 100_000)


@pytest.mark.parametrize("count", [1, 2, 7, 8])
def test_median_of_sizes(rng, count):
    table = rng.standard_normal((5, count))
    assert_allclose(median_size(table), np.median(np.abs(table), axis=1), rtol=1e-15)
