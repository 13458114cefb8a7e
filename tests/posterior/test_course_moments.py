"""Moments of currents with time constants, summed before they are taken to the sources, against node by node."""

import numpy as np
import pytest
from coloured import coloured, mixed
from numpy.testing import assert_allclose

from bayesinv.covariance.covariance import Structure
from bayesinv.posterior import courses

STRUCTURES = {
    "one constant": (Structure(time=0.006),),
    "constants": (Structure(time=0.006), Structure(time=0.009)),
    "constants and depths": (Structure(time=0.006), Structure(time=0.009, depth=0.5), Structure(time=0.007)),
}


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("name", STRUCTURES)
class TestMoments:
    def by_node(self, posterior):
        """Mean, mean conditional variance and second moment (amplitude, time) of the nodes, one at a time."""
        shape = posterior.mean.shape
        mean, within, square = np.zeros((3, *shape))
        for weight, centre, sd in posterior.gaussians(slice(None), slice(None)):
            mean += weight * centre
            within += weight * sd**2
            square += weight * (sd**2 + centre**2)
        return mean, within, square

    def test_moments_are_those_of_the_nodes(self, groups, name):
        posterior = mixed(coloured(groups, samples=24), STRUCTURES[name])
        mean, within, square = self.by_node(posterior)
        assert_allclose(posterior.mean, mean, atol=1e-9 * np.abs(mean).max())
        # Components are left out below a bound, and axes of the spread below a share of it.
        assert_allclose(posterior.within_variance, within, rtol=1e-5)
        assert_allclose(posterior.sd, np.sqrt(square - mean**2), rtol=1e-5)

    def test_what_is_left_out_stays_below_its_bound(self, groups, name, monkeypatch):
        problem = coloured(groups, samples=24)
        near = mixed(problem, STRUCTURES[name]).within_variance
        for bound in (0.0, 1e-2):
            monkeypatch.setattr(courses, "DROPPED_VARIANCE", bound)
            posterior = mixed(problem, STRUCTURES[name])
            change = np.abs(posterior.within_variance - near)
            largest = max(float(np.max(np.sum(one.modes(problem).root ** 2, axis=1))) for one in STRUCTURES[name])
            assert np.all(change <= (bound + 1e-5) * posterior.prior_variance[:, None] * largest)


def test_structures_of_one_diagonal_are_summed_first():
    posterior = mixed(coloured(2, samples=24), STRUCTURES["constants and depths"])
    found = courses.together(posterior.conditionals)
    assert [len(one.parts) for one in found] == [2, 1]
