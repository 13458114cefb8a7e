"""Chains over local scales against quadrature, the prior, and models without local scales; what a user sees of them."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from referee import toy
from scipy.stats import ks_2samp, kstest, norm

import bayesinv as bi
from bayesinv.inference import local_chain
from bayesinv.inference.local_chain import LocalChain
from bayesinv.inference.local_scales import local_model
from bayesinv.prior.catalogue import build
from bayesinv.prior.density import Density

pytestmark = pytest.mark.filterwarnings("ignore:(?s).*ArviZ is undergoing a major refactor:FutureWarning")

QUICK = {"chains": 2, "sweeps": 60, "warm": 40}


def started(problem, seed=0, model="horseshoe"):
    """A chain, and the density that it draws from."""
    density = Density.of(build(model, problem)[1])
    chain = LocalChain(local_model(density), density.prior_and_scales, density.start, np.random.default_rng(seed))
    return chain, density


def by_quadrature(problem):
    """Means of log λ of two sources, log scale over its median, log noise, and of the first current, its square.

    By a grid over all four hyperparameters, with two components, so that inverses are written out.
    """
    x, step = np.linspace(-9, 9, 61, retstep=True)
    assert step < 0.5
    first, second = np.meshgrid(x, x, indexing="ij")
    prior = -np.logaddexp(first, -first) - np.logaddexp(second, -second)
    unit = problem.gain.reshape(2, 2, problem.axes)
    blocks = [unit[:, j] @ unit[:, j].T for j in range(2)]
    median = problem.scale_guess / np.sqrt(2)
    moment, count, (y0, y1) = problem.recording @ problem.recording.T, len(problem.times), problem.recording[:, 0]
    quiet, power = problem.baseline.size, np.sum(problem.baseline**2)
    heights, rows = [], []
    for u in np.linspace(-8, 6, 43):
        variance = (median * np.exp(u)) ** 2
        shape = variance * (
            np.exp(2 * first) * blocks[0][..., None, None] + np.exp(2 * second) * blocks[1][..., None, None]
        )
        for s in np.linspace(-1.2, 1.2, 21):
            a, b, d = shape[0, 0] + np.exp(2 * s), shape[0, 1], shape[1, 1] + np.exp(2 * s)
            det = a * d - b**2
            square = (d * moment[0, 0] - 2 * b * moment[0, 1] + a * moment[1, 1]) / det
            height = prior - 0.5 * (count * np.log(det) + square) - np.logaddexp(u, -u) + norm(0, 0.5).logpdf(s)
            height = height - quiet * s - 0.5 * power / np.exp(2 * s)
            g0, g1 = unit[:, 0, 0]
            own = variance * np.exp(2 * first)
            mean = own * (g0 * (d * y0 - b * y1) + g1 * (a * y1 - b * y0)) / det
            left = own - own**2 * (g0**2 * d - 2 * g0 * g1 * b + g1**2 * a) / det
            top = height.max()
            mass = np.exp(height - top)
            each = [first, second, np.full_like(first, u), np.full_like(first, s), mean, left + mean**2]
            heights.append(top + np.log(mass.sum()))
            rows.append([np.sum(mass * one) / mass.sum() for one in each])
    weights = np.exp(np.array(heights) - np.max(heights))
    return weights @ np.array(rows) / weights.sum()


@pytest.mark.slow
@pytest.mark.parametrize("axes", [1, 3])
def test_a_chain_has_the_means_of_a_fine_grid(axes):
    problem = toy(axes, sensors=2, sources=2, samples=3, quiet=8, axes=axes)
    wanted = by_quadrature(problem)
    chain, density = started(problem)
    found = chain.run(100, 6000, 6000, lambda: None)
    hyper = density.hyper(np.array(found.points))
    median = problem.scale_guess / np.sqrt(2)
    rows = np.column_stack([found.logs, np.log(hyper["scale"] / median), np.log(hyper["noise"])])
    batches = rows.reshape(50, -1, 4).mean(axis=1)
    error = batches.std(axis=0, ddof=1) / np.sqrt(50)
    # Of so few samples of so small a recording the grid and its ends are good to a hundredth.
    assert (np.abs(rows.mean(axis=0) - wanted[:4]) < 4 * error + 0.01).all()
    assert error.max() < 0.1
    posterior = bi.infer("horseshoe", problem, sweeps=2000)
    flat = posterior.mean.reshape(2 * axes, -1)[0, 0], posterior.sd.reshape(2 * axes, -1)[0, 0]
    sd = np.sqrt(wanted[5] - wanted[4] ** 2)
    # The mixture has 200 nodes.
    assert abs(flat[0] - wanted[4]) < 0.15 * sd
    assert_allclose(flat[1], sd, rtol=0.15)


def joint(seed, axes, sweeps):
    """Hyperparameters drawn from the prior, the recording that they make, and what sweeps make of them given that.

    Numbers of both: log λ of two sources, log scale and noise, the power of all currents, log likelihood.
    """
    rng = np.random.default_rng(seed)
    problem = toy(axes, sensors=4, sources=7, samples=3, quiet=5, axes=axes)
    chain, density = started(problem, seed)
    drawn = density.draw(1, rng)
    chain.point = density.unconstrained(list(drawn.values()))[0]
    chain.variance, chain.noise = (float(one[0]) for one in density.scales(chain.point[None]))
    fields = chain.model.fields

    def covariance():
        columns = fields * np.exp(chain.logs)[:, None, None]
        return chain.variance * np.einsum("sac,sad->cd", columns, columns) + chain.noise**2 * np.eye(4)

    recording = np.linalg.cholesky(covariance()) @ rng.normal(size=(4, 3))
    baseline = chain.noise * rng.normal(size=(4, 5))

    def numbers():
        total = covariance()
        square = np.sum(recording * np.linalg.solve(total, recording)) + np.sum(baseline**2) / chain.noise**2
        volume = 3 * np.linalg.slogdet(total)[1] + 40 * np.log(chain.noise)
        return [*chain.logs[:2], *chain.point, np.log(chain.variance * np.exp(2 * chain.logs).sum()), square, volume]

    before = numbers()
    chain.model = local_chain.LocalModel(
        fields,
        chain.model.powers,
        recording,
        3,
        float(np.sum(baseline**2)),
        20,
        chain.model.starts,
        chain.model.neighbours,
    )
    for _ in range(sweeps):
        chain.sweep()
    return before, numbers()


@pytest.mark.slow
@pytest.mark.parametrize("axes", [1, 3])
def test_sweeps_leave_the_joint_distribution_of_all_as_it_is(axes):
    """Geweke (2004), J. Am. Stat. Assoc. 99, 799-804: it needs no convergence, only that every step is right."""
    pairs = np.array([joint(seed, axes, 3) for seed in range(700)])
    before, after = pairs[:, 0], pairs[:, 1]
    for column in range(before.shape[1]):
        assert ks_2samp(before[:, column], after[:, column]).pvalue > 1e-3, column
        # What is paired has smaller errors: means must agree, too.
        change = after[:, column] - before[:, column]
        assert abs(change.mean()) < 4 * change.std() / np.sqrt(len(change)), column
    assert kstest(after[:, 0], lambda x: 2 / np.pi * np.arctan(np.exp(x))).pvalue > 1e-3
    assert (np.abs(after - before)[:, :4] > 1e-6).mean() > 0.95
