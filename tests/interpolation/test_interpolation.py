"""Interpolation of functions of one variable and of several, and Gauss rules of a discrete distribution."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from bayesinv.interpolation.chebyshev import POINT_COUNTS, Chebyshev, refined, terms_of_exponential, weighted
from bayesinv.interpolation.gauss_rules import gauss_rule
from bayesinv.interpolation.scattered import (
    FEW_POINTS,
    LOG_DENSITY_RANGE,
    interpolant_on_lattice,
    interpolate_scattered,
    measured_error,
)


class TestChebyshev:
    @pytest.mark.parametrize("kind", [Chebyshev.nested, Chebyshev.inner])
    def test_a_polynomial_of_its_degree_is_met_exactly(self, kind, rng):
        series = kind(-0.3, 2.2, 7)
        truth = np.polynomial.Polynomial(rng.normal(size=7))
        places = np.linspace(-0.3, 2.2, 23)
        coefficients = series.coefficients(truth(series.points))
        assert series.degree == 6
        assert_allclose(series.cardinal(places) @ truth(series.points), truth(places), rtol=1e-11, atol=1e-11)
        assert_allclose(series.polynomials(places) @ coefficients, truth(places), rtol=1e-11, atol=1e-11)
        for place in (-0.3, 0.4, 2.2):
            assert_allclose(series.slopes(place) @ coefficients, truth.deriv()(place), rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize("kind", [Chebyshev.nested, Chebyshev.inner])
    def test_one_degree_more_is_not(self, kind):
        series = kind(-1.0, 1.0, 5)
        assert (
            np.abs(series.cardinal(np.linspace(-1, 1, 9)) @ series.points**5 - np.linspace(-1, 1, 9) ** 5).max() > 0.01
        )

    def test_sets_of_points_are_nested(self):
        for count, next_count in pairwise(POINT_COUNTS):
            assert next_count == 2 * count - 1
            assert_array_equal(
                Chebyshev.nested(-4.2, -2.3, count).points, Chebyshev.nested(-4.2, -2.3, next_count).points[::2]
            )
        assert_allclose(Chebyshev.nested(-4.2, -2.3, 17).points[[0, -1]], [-4.2, -2.3])

    def test_of_matrices_sums_them(self, rng):
        series = Chebyshev.inner(0.0, 1.0, 4)
        fixed, moved = rng.normal(size=(2, 3, 5))
        table = series.coefficients(np.stack([fixed + x**2 * moved for x in series.points]))
        assert_allclose(weighted(series.polynomials(0.3).ravel(), table), fixed + 0.09 * moved, rtol=1e-12)

    def test_a_graph_is_the_polynomials_and_beyond_the_ends_those_of_the_end(self):
        import pytensor
        import pytensor.tensor as pt

        series = Chebyshev.nested(0.5, 3.0, 33)
        place = pt.dscalar("place")
        value = series.graph(place)
        slope = pytensor.grad(value[5], place)
        run = pytensor.function([place], [value, slope], mode="FAST_COMPILE")
        for x in (0.5, 0.51, 1.7, 3.0):
            found, by_place = run(x)
            # The ends are approached to a part in 1e12, where the 32nd polynomial has slope 1024.
            assert_allclose(found, series.polynomials(x).ravel(), atol=2e-9)
            assert x in (0.5, 3.0) or abs(by_place - series.slopes(x)[5]) < 1e-8
        assert_array_equal(run(-7.0)[0], run(0.5)[0])
        assert_array_equal(run(9.0)[0], run(3.0)[0])

    def test_terms_of_an_exponential_leave_out_less_than_the_tolerance(self):
        for rate in (0.5, 4.0, 20.0):
            count = terms_of_exponential(rate, 1e-12)
            series = Chebyshev.inner(-1.0, 1.0, count)
            places = np.linspace(-1, 1, 41)
            off = series.cardinal(places) @ np.exp(rate * series.points) - np.exp(rate * places)
            assert np.abs(off).max() < 1e-11 * np.exp(rate)
            fewer = Chebyshev.inner(-1.0, 1.0, count - 3)
            off = fewer.cardinal(places) @ np.exp(rate * fewer.points) - np.exp(rate * places)
            assert np.abs(off).max() > 1e-12 * np.exp(rate)


def along(function, tolerance):
    """The series and values of `refined` for a function on [0, 2], its measured error, and the places evaluated."""
    places = []

    def at(x):
        places.append(x)
        return float(function(x))

    def off(found, place, value):
        series, values = found
        return float(np.abs(series.cardinal(np.array([place])) @ np.array(values) - value)[0])

    return *refined(0.0, 2.0, at, lambda *both: both, off, tolerance), places


class TestRefined:
    def test_stops_at_the_first_set_that_is_exact_enough(self):
        for rate, count in ((4.0, 17), (12.0, 33), (45.0, 65)):
            (series, _), error, places = along(lambda x, rate=rate: np.sin(rate * x), 1e-6)
            assert len(series.points) == count
            assert error <= 1e-6
            assert len(places) == len(set(places)) == count + 2 * (POINT_COUNTS.index(count) + 1)

    def test_the_measured_error_is_about_the_true_error(self):
        (series, values), error, _ = along(lambda x: 1 / (1 + 4 * (x - 1) ** 2), 1e-4)
        inside = np.linspace(0, 2, 301)
        worst = np.abs(series.cardinal(inside) @ np.array(values) - 1 / (1 + 4 * (inside - 1) ** 2)).max()
        assert worst / 10 < error <= 1e-4

    def test_reports_the_error_of_the_finest(self):
        (series, _), error, _ = along(lambda x: np.cos(300 * x + 1), 1e-6)
        assert len(series.points) == POINT_COUNTS[-1]
        assert error > 0.1


class TestScattered:
    def test_parabolas_are_met_exactly(self, rng):
        known, wanted = rng.normal(size=(12, 2)), rng.normal(size=(5, 2))
        bends = np.array([[1.0, 0.3], [0.3, 2.0]])

        def heights(x):
            fall = np.einsum("pi,ij,pj->p", x, bends, x)
            return np.column_stack([-fall, 3 - 2 * fall + x[:, 0]])

        assert_allclose(interpolate_scattered(known, heights(known), wanted), heights(wanted), rtol=1e-8, atol=1e-8)

    def test_it_converges_as_points_do(self):
        def heights(x):
            return -np.log(np.cosh(2 * x))

        wanted = np.linspace(-1, 1, 31)[:, None]
        errors = []
        for count in (17, 33, 65):
            known = np.linspace(-2, 2, count)[:, None]
            errors.append(np.abs(interpolate_scattered(known, heights(known), wanted) - heights(wanted)).max())
        # Quintic splines: of order six, and less where places end.
        assert errors[2] < errors[1] / 2**5 < errors[0] / 2**10

    @pytest.mark.parametrize("count", [3, 5, FEW_POINTS])
    def test_through_few_points_along_one_axis_goes_their_polynomial(self, count, rng):
        truths = [np.polynomial.Polynomial(rng.normal(size=count)) for _ in range(2)]
        known, wanted = np.sort(rng.uniform(-1.5, 1.5, count)), np.array([-1.2, 0.1, 1.3])
        known += 0.1 * np.arange(count)
        found = interpolate_scattered(
            known[:, None], np.column_stack([one(known) for one in truths]), np.append(wanted, known[1])[:, None]
        )
        places = np.append(wanted, known[1])
        assert_allclose(found, np.column_stack([one(places) for one in truths]), rtol=1e-7, atol=1e-7)

    def test_minus_infinity_causes_no_oscillation(self):
        known = np.arange(-6.0, 7)[:, None]
        heights = -0.5 * known**2
        gone = np.where(np.abs(known) > 5, -np.inf, heights)
        found = interpolate_scattered(known, gone, known)
        assert np.isfinite(found).all()
        assert_allclose(found[1:-1], heights[1:-1], atol=1e-6 * LOG_DENSITY_RANGE)

    def test_an_error_counts_in_proportion_to_mass(self):
        heights = np.log(np.array([[0.25, 0.75], [0.01, 0.01]]))
        assert measured_error(heights[:1], heights[:1], heights) == 0
        off = np.array([[0.0, 0.2]])
        assert_allclose(measured_error(heights[:1] + off, heights[:1], heights), 0.75 * 0.2)
        assert_allclose(measured_error(heights[1:] + off, heights[1:], heights), 0.01 * 0.2)
        # However wrong where there is next to nothing, it is no worse than so.
        assert_allclose(measured_error(heights[1:] + 1e3 * off, heights[1:], heights), 0.01 * 10)


class TestOnALattice:
    def test_meets_the_nodes_and_is_close_between_them(self, rng):
        axis = np.arange(-8.0, 9)
        index = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)

        def heights(x):
            x = 0.5 * x
            return -0.5 * x[:, 0] ** 2 - np.log(np.cosh(x[:, 1])) - 0.2 * x[:, 0] * x[:, 1]

        at = interpolant_on_lattice(index, heights(index))
        inside = index[np.abs(index).max(axis=1) < 5]
        assert_allclose(at(inside), heights(inside), atol=1e-3)
        wanted = rng.uniform(-3, 3, (40, 2))
        assert_allclose(at(wanted), heights(wanted), atol=1e-3)

    def test_nodes_may_be_missing(self):
        index = np.array([[i, j] for i in range(-14, 15) for j in range(-14, 15) if i * i + j * j <= 196], dtype=float)

        def heights(x):
            return -0.1 * (x**2).sum(axis=1)

        wanted = np.array([[0.3, -0.7], [2.5, 1.5]])
        assert_allclose(interpolant_on_lattice(index, heights(index))(wanted), heights(wanted), atol=1e-3)


class TestGaussRule:
    def test_of_a_normal_mass_is_that_of_gauss_and_hermite(self):
        places = np.linspace(-12, 12, 241)
        points, weights = gauss_rule(places, np.exp(-(places**2) / 2), 5)
        nodes, shares = np.polynomial.hermite_e.hermegauss(5)
        assert_allclose(points, nodes, atol=1e-10)
        assert_allclose(weights, shares / shares.sum(), atol=1e-12)

    @pytest.mark.parametrize("count", [1, 2, 4, 7])
    def test_has_the_moments_of_the_mass(self, rng, count):
        places, mass = rng.normal(3, 0.5, 20), rng.exponential(size=20)
        points, weights = gauss_rule(places, mass, count)
        for order in range(2 * count):
            assert_allclose(weights @ points**order, mass @ places**order / mass.sum(), rtol=1e-9)
        wrong = weights @ points ** (2 * count) - mass @ places ** (2 * count) / mass.sum()
        assert abs(wrong) > 1e-9

    def test_of_one_point_is_that_point(self):
        points, weights = gauss_rule(np.array([2.0]), np.array([0.3]), 4)
        assert_allclose([points, weights], [[2.0], [1.0]])

    def test_has_no_more_points_than_there_is_mass(self):
        points, weights = gauss_rule(np.arange(5.0), np.array([0, 1, 0, 3, 0.0]), 5)
        assert_allclose(np.sort(points), [1, 3])
        assert_allclose(np.sort(weights), [0.25, 0.75])


def test_points_of_no_weight_are_left_out():
    """A long tail has points whose weights are below the smallest number."""
    points = np.linspace(0.0, 60.0, 121)
    found, weights = gauss_rule(points, np.exp(-0.4 * points**2), 60)
    assert len(found) == len(weights) < 60
    assert (weights > 0).all()
    assert_allclose(weights.sum(), 1.0)
