"""Nested Laplace: exact curvatures, the lattice's integral, and where it is used."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from recovered import disc_problem, simulated
from referee import toy
from scipy.stats import norm

import bayesinv as bi
from bayesinv.inference import nested_laplace
from bayesinv.inference.curvature import applies, exact_curvature
from bayesinv.inference.nested_laplace import Gaussians, nested, shrinking
from bayesinv.prior.density import Density

pytestmark = pytest.mark.filterwarnings("ignore:the whitened baseline:UserWarning")


def parcels(axes=1, quiet=9, centred=False):
    labels = np.repeat([0, 1, 2, 3, -1], [3, 3, 2, 2, 1])
    return toy(axes=axes, quiet=quiet, centred=centred).with_parcels(labels)


def density_of(problem, name="multiple_sparse_priors"):
    return Density.of(bi.load_model(name)(problem))


class TestCurvature:
    @pytest.mark.parametrize("given", [{}, {"quiet": 0}, {"centred": True}, {"axes": 3}], ids=str)
    def test_it_is_the_difference_of_slopes(self, rng, given):
        density = density_of(parcels(**given))
        assert applies(density)
        point = density.start + 0.3 * rng.standard_normal(density.dimension)
        shifts = 1e-3 * np.eye(density.dimension)
        wanted = [(density.slope(point + one)[1] - density.slope(point - one)[1]) / 2e-3 for one in shifts]
        found = exact_curvature(density, point, np.arange(density.dimension))
        assert_allclose(found, wanted, atol=1e-4 * np.abs(wanted).max())

    def test_of_other_structure_there_is_none(self):
        assert not applies(density_of(toy(), "depth_weighted"))

    def test_the_lattice_is_the_same_without_it(self, monkeypatch):
        density = density_of(parcels())
        exact = nested(density, 1.0)
        monkeypatch.setattr(nested_laplace, "applies", lambda density: False)
        other = nested(density, 1.0)
        assert_allclose(other.points, exact.points)
        assert_allclose(other.log_masses, exact.log_masses, atol=0.02)


class TestGaussians:
    def lattice(self):
        """Of a normal number with mean 0.3 and sd 0.7, beside two others that depend on it linearly."""
        points = np.linspace(-4, 5, 19)
        centres = np.column_stack([points, 2 * points, -points])
        roots = np.repeat(np.array([[[0.5, 0.0], [0.2, 0.3]]]), len(points), axis=0)
        return Gaussians(0, points, centres, roots, norm(0.3, 0.7).logpdf(points) + 1.7)

    def test_the_integral_is_exact_for_a_normal_number(self):
        grid, shares, total, error = self.lattice().density()
        assert abs(total - 1.7) < 0.01
        assert error < 0.1
        assert_allclose([shares @ grid, np.sqrt(shares @ (grid - shares @ grid) ** 2)], [0.3, 0.7], rtol=0.02)

    def test_draws_have_its_moments_and_their_density(self, rng):
        nodes, log_density = self.lattice().draw(20_000, rng)
        assert_allclose(nodes.mean(axis=0), [0.3, 0.6, -0.3], atol=0.05)
        centred = nodes[:, 1:] - nodes[:, :1] * [2, -1]
        root = np.array([[0.5, 0.0], [0.2, 0.3]])
        assert_allclose(np.cov(centred.T), root @ root.T, atol=0.01)
        from scipy.stats import multivariate_normal

        wanted = norm(0.3, 0.7).logpdf(nodes[:, 0]) + multivariate_normal(cov=root @ root.T).logpdf(centred)
        assert np.median(np.abs(log_density - wanted)) < 0.02


class TestChoice:
    def test_a_spread_of_many_is_chosen_for(self):
        problem = parcels()
        assert density_of(problem).names[shrinking(density_of(problem))].startswith("spread")
        choice = bi.choose_method("multiple_sparse_priors", problem)
        assert choice.method == "nested_laplace"
        assert "shrinks many" in choice.reason

    def test_without_one_it_is_refused(self):
        with pytest.raises(ValueError, match="wants one number that shapes the prior beside a vector"):
            bi.infer("hierarchical", toy(), "nested_laplace")
        with pytest.raises(ValueError, match="step is 3"):
            bi.infer("multiple_sparse_priors", parcels(), "nested_laplace", step=3)

    def test_a_finer_lattice_says_the_same(self):
        _, problem = simulated(disc_problem(np.random.default_rng(0))[1], np.eye(40), np.random.default_rng(1))
        problem = problem.with_parcels(np.repeat(np.arange(5), 8))
        coarse, fine = (
            bi.infer("multiple_sparse_priors", problem, "nested_laplace", step=step, draws=4000) for step in (0.5, 0.2)
        )
        one, other = coarse.hyper["spread"], fine.hyper["spread"]
        assert abs(one.mean - other.mean) < 0.1 * other.sd
        assert abs(coarse.log_evidence - fine.log_evidence) < coarse.log_evidence.error
