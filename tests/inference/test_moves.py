"""Chains at values of one number: what they add to Gaussians where the density has a closed form."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import digamma, gammaln
from scipy.stats import multivariate_normal, norm

from bayesinv.inference.gaussians import Gaussians
from bayesinv.inference.moves import moved

MEAN, SD, OTHERS = 0.3, 0.4, 16
"""Of the one number, normal; and how many others there are."""


def skewed(nodes):
    """Log density of (s, x): s is normal, and x the logarithms of gamma variables of shape exp(-s), given s.

    A gamma variable's logarithm has a long tail on the left, and Stirling's formula is Laplace's error.
    """
    s, x = nodes[:, 0], nodes[:, 1:]
    shape = np.exp(-s)[:, None]
    with np.errstate(over="ignore"):
        log_density = norm(MEAN, SD).logpdf(s) + np.sum(shape * x - np.exp(x) - gammaln(shape), axis=1)
        by_s = -(s - MEAN) / SD**2 - np.sum(shape * (x - digamma(shape)), axis=1)
        return log_density, np.column_stack([by_s, shape - np.exp(x)])


def lattice():
    """Modes, curvatures and Laplace's masses of the above."""
    points = np.linspace(-1.7, 2.3, 9)
    shape = np.exp(-points)
    centres = np.column_stack([points, *[-points] * OTHERS])
    roots = np.eye(OTHERS) / np.sqrt(shape)[:, None, None]
    one = shape * -points - shape - gammaln(shape) + 0.5 * np.log(2 * np.pi / shape)
    return Gaussians(0, points, centres, roots, norm(MEAN, SD).logpdf(points) + OTHERS * one)


class TestGaussians:
    def normal(self):
        """A normal number with mean 0.3 and sd 0.7, beside two others that depend on it linearly."""
        points = np.linspace(-4, 5, 19)
        centres = np.column_stack([points, 2 * points, -points])
        roots = np.repeat(np.array([[[0.5, 0.0], [0.2, 0.3]]]), len(points), axis=0)
        return Gaussians(0, points, centres, roots, norm(0.3, 0.7).logpdf(points) + 1.7)

    def test_the_integral_is_exact_for_a_normal_number(self):
        grid, shares, total, error = self.normal().density()
        assert abs(total - 1.7) < 0.01
        assert error < 0.1
        assert_allclose([shares @ grid, np.sqrt(shares @ (grid - shares @ grid) ** 2)], [0.3, 0.7], rtol=0.02)

    def test_nodes_and_volumes_have_their_density(self, rng):
        found = self.normal()
        values, unit = rng.uniform(-3, 4, 5), rng.standard_normal((5, 2))
        nodes = found.along(values).nodes(unit)
        root = np.array([[0.5, 0.0], [0.2, 0.3]])
        wanted = [
            multivariate_normal([2 * value, -value], root @ root.T).logpdf(node[1:])
            for value, node in zip(values, nodes, strict=True)
        ]
        assert_allclose(nodes[:, 0], values)
        assert_allclose(norm.logpdf(unit).sum(axis=1) - found.along(values).log_volume, wanted)

    def test_slopes_are_differences(self, rng):
        found = lattice()
        values, unit, step = rng.uniform(-1.4, 2.2, 5), rng.standard_normal((5, OTHERS)), 1e-6
        centre, root, log_volume = found.along(values).slopes
        change = (found.along(values + step).nodes(unit) - found.along(values - step).nodes(unit))[:, 1:] / (2 * step)
        assert_allclose(centre + np.einsum("nab,nb->na", root, unit), change, atol=1e-7)
        volumes = found.along(values + step).log_volume - found.along(values - step).log_volume
        assert_allclose(log_volume, volumes / (2 * step), atol=1e-7)


@pytest.fixture(scope="module")
def chains():
    return moved(lattice(), skewed, np.random.default_rng(3))


class TestMoved:
    def test_they_correct_the_density_of_the_one(self, chains):
        grid, shares, _, _ = lattice().density()
        ours, theirs = chains.moments()[0], float(shares @ grid / shares.sum())
        # The slopes of 256 draws have a standard error of a few hundredths of an sd.
        assert abs(ours - MEAN) < 0.2 * SD
        assert abs(theirs - MEAN) > 0.5 * SD
        assert abs(chains.moments()[1] / SD - 1) < 0.1

    def test_the_evidence_is_that_of_a_density(self, chains):
        found, error = chains.log_evidence(skewed, np.random.default_rng(4))
        assert error < 0.3
        assert abs(found) < 4 * error

    def test_draws_have_the_moments_of_their_density(self, chains):
        nodes = chains.draw(4000, np.random.default_rng(5))
        assert_allclose([nodes[:, 0].mean(), nodes[:, 0].std()], chains.moments(), atol=0.02 * SD)
        # The mean of exp(x) is the shape; the 256 draws of 16 others that are resampled have an error of a twentieth.
        ratio = np.exp(nodes[:, 1:]) * np.exp(nodes[:, :1])
        assert abs(ratio.mean() - 1) < 0.2

    def test_most_moves_are_accepted(self, chains):
        assert 0.6 < chains.accepted < 0.98

    def test_a_normal_density_is_left_as_it_is(self):
        """Where the Gaussians are exact the slopes of all draws are the density's own, whatever the metric."""
        points = np.linspace(-2, 2, 9)
        centres = np.column_stack([points, *[points] * 3])
        exact = Gaussians(0, points, centres, np.repeat(np.eye(3)[None], 9, axis=0), norm(0, 0.5).logpdf(points))

        def function(nodes):
            rest = nodes[:, 1:] - nodes[:, :1]
            slope = np.column_stack([-nodes[:, 0] / 0.25 + rest.sum(axis=1), -rest])
            return norm(0, 0.5).logpdf(nodes[:, 0]) + norm.logpdf(rest).sum(axis=1), slope

        chains = moved(exact, function, np.random.default_rng(6))
        assert_allclose(chains.moments(), [0, 0.5], atol=1e-3)
        found, error = chains.log_evidence(function, np.random.default_rng(7))
        assert abs(found) < max(4 * error, 1e-3)
