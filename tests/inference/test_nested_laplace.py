"""Nested Laplace: exact curvatures, the lattice's integral, and where it is used."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from recovered import disc_problem, simulated
from referee import toy

import bayesinv as bi
from bayesinv.inference import nested_laplace
from bayesinv.inference.nested_laplace import nested, shrinking, slopes_of
from bayesinv.prior.density import Density

pytestmark = pytest.mark.filterwarnings("ignore:the whitened baseline:UserWarning")


def parcels(axes=1, quiet=9, centred=False):
    labels = np.repeat([0, 1, 2, 3, -1], [3, 3, 2, 2, 1])
    return toy(axes=axes, quiet=quiet, centred=centred).with_parcels(labels)


def density_of(problem, name="multiple_sparse_priors"):
    return Density.of(bi.load_model(name)(problem))


class TestLattice:
    @pytest.mark.slow
    def test_it_is_the_same_without_a_closed_form(self, monkeypatch):
        density = density_of(parcels())
        exact = nested(density, slopes_of(density), 1.0)
        monkeypatch.setattr(nested_laplace, "applies", lambda density: False)
        other = nested(density, slopes_of(density), 1.0)
        assert_allclose(other.points, exact.points)
        assert_allclose(other.log_masses, exact.log_masses, atol=0.02)


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

    @pytest.mark.slow
    def test_a_finer_lattice_says_the_same(self):
        _, problem = simulated(disc_problem(np.random.default_rng(0))[1], np.eye(40), np.random.default_rng(1))
        problem = problem.with_parcels(np.repeat(np.arange(5), 8))
        coarse, fine = (
            bi.infer("multiple_sparse_priors", problem, "nested_laplace", step=step, draws=4000) for step in (0.5, 0.2)
        )
        one, other = coarse.hyper["spread"], fine.hyper["spread"]
        # The chains' error is a tenth of an sd or two.
        assert abs(one.mean - other.mean) < 0.5 * other.sd
        assert abs(coarse.log_evidence - fine.log_evidence) < 3 * (coarse.log_evidence.error + fine.log_evidence.error)
