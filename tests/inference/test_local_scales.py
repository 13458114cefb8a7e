"""Chains over local scales against quadrature, the prior, and models without local scales; what a user sees of them."""

import numpy as np
import pymc as pm
import pytest
from numpy.testing import assert_allclose
from referee import toy
from scipy.stats import ks_2samp, kstest, norm

import bayesinv as bi
from bayesinv.inference import local_chain
from bayesinv.inference.local_chain import LocalChain
from bayesinv.inference.local_scales import alike, local_model
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
    x, step = np.linspace(-9, 9, 49, retstep=True)
    assert step < 0.5
    first, second = np.meshgrid(x, x, indexing="ij")
    prior = -np.logaddexp(first, -first) - np.logaddexp(second, -second)
    unit = problem.gain.reshape(2, 2, problem.axes)
    blocks = [unit[:, j] @ unit[:, j].T for j in range(2)]
    median = problem.scale_guess / np.sqrt(2)
    moment, count, (y0, y1) = problem.recording @ problem.recording.T, len(problem.times), problem.recording[:, 0]
    quiet, power = problem.baseline.size, np.sum(problem.baseline**2)
    heights, rows = [], []
    for u in np.linspace(-8, 6, 31):
        variance = (median * np.exp(u)) ** 2
        shape = variance * (
            np.exp(2 * first) * blocks[0][..., None, None] + np.exp(2 * second) * blocks[1][..., None, None]
        )
        for s in np.linspace(-1.2, 1.2, 17):
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
    found = chain.run(100, 1200, 1200, lambda: None)
    hyper = density.hyper(np.array(found.points))
    median = problem.scale_guess / np.sqrt(2)
    rows = np.column_stack([found.logs, np.log(hyper["scale"] / median), np.log(hyper["noise"])])
    batches = rows.reshape(50, -1, 4).mean(axis=1)
    error = batches.std(axis=0, ddof=1) / np.sqrt(50)
    # Of so few samples of so small a recording the grid and its ends are good to a hundredth.
    assert (np.abs(rows.mean(axis=0) - wanted[:4]) < 4 * error + 0.01).all()
    assert error.max() < 0.2
    posterior = bi.infer("horseshoe", problem, chains=2, sweeps=400, warm=60)
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
    pairs = np.array([joint(seed, axes, 3) for seed in range(200)])
    before, after = pairs[:, 0], pairs[:, 1]
    for column in range(before.shape[1]):
        assert ks_2samp(before[:, column], after[:, column]).pvalue > 1e-3, column
        # What is paired has smaller errors: means must agree, too.
        change = after[:, column] - before[:, column]
        assert abs(change.mean()) < 4 * change.std() / np.sqrt(len(change)), column
    assert kstest(after[:, 0], lambda x: 2 / np.pi * np.arctan(np.exp(x))).pvalue > 1e-3
    assert (np.abs(after - before)[:, :4] > 1e-6).mean() > 0.95


class TestLimits:
    def test_scales_of_one_are_those_of_hierarchical_currents(self):
        """With λ held at one a chain draws scale and noise as quadrature integrates over them."""
        problem = toy(sensors=8, sources=15, samples=6, quiet=12)

        def plain(problem):
            with pm.Model(coords=problem.coords) as built:
                noise = bi.noise_scale(problem)
                scale = bi.global_scale(problem)
                bi.Currents(scale**2).observe("recording", problem, noise=noise)
            return built

        wanted = bi.infer(plain, problem).hyper
        chain, density = started(problem)
        chain.of_variance, found = [], []
        values, vectors = np.linalg.eigh(problem.gain @ problem.gain.T)
        powers = np.sum((vectors.T @ problem.recording) ** 2, axis=1)
        for _ in range(1500):
            chain.draw_scales(values, powers)
            found.append(chain.point)
        hyper = density.hyper(np.array(found))
        for name in ("noise", "scale"):
            batches = hyper[name].reshape(30, -1).mean(axis=1)
            assert abs(batches.mean() - wanted[name].mean) < 4 * batches.std(ddof=1) / np.sqrt(30)
            assert_allclose(hyper[name].std(), wanted[name].sd, rtol=0.15)

    @pytest.mark.parametrize("axes", [1, 3])
    def test_given_a_draw_currents_are_those_of_dense_algebra(self, axes):
        problem = toy(sensors=6, sources=9, samples=5, axes=axes)
        posterior = bi.infer("horseshoe", problem, **QUICK)
        mixture, node = posterior.mixture, 7
        structure = mixture.structures[mixture.which[node]]
        prior = mixture.variance[node] * np.diag(structure.diagonal(problem))
        total = problem.gain @ prior @ problem.gain.T + mixture.noise[node] ** 2 * np.eye(6)
        back = prior @ problem.gain.T @ np.linalg.inv(total)
        _, mean, sd = next(posterior.conditionals[node].gaussians(slice(None), slice(None), 0.0))
        assert_allclose(mean, back @ problem.recording, rtol=1e-7, atol=1e-9 * np.abs(mean).max())
        assert_allclose(
            sd[:, 0] ** 2, np.diag(prior - back @ problem.gain @ prior), rtol=1e-5, atol=1e-12 * prior.max()
        )
        # The variance of the mixture is that of all currents without local scales whose field is as strong.
        power = mixture.variance[node] * np.trace(problem.gain @ problem.gain.T)
        assert_allclose(np.trace(problem.gain @ prior @ problem.gain.T), power, rtol=1e-10)
        snr = np.sqrt(power / 6) / mixture.noise[node]
        assert np.abs(posterior.hyper["snr"].draws / snr - 1).min() < 1e-6

    def test_a_recording_as_strong_as_noise_has_no_currents(self, rng):
        problem = toy(sensors=12, sources=30, samples=8, quiet=40)
        quiet = problem.again(rng.normal(size=(12, 8)), baseline=problem.baseline)
        posterior = bi.infer("horseshoe", quiet, **QUICK)
        assert posterior.hyper["snr"].quantile(0.9) < 1
        assert (np.abs(posterior.mean) < 2 * posterior.sd).all()


@pytest.fixture(scope="module")
def posterior():
    return bi.infer("horseshoe", toy(sensors=10, sources=24, samples=5), chains=2, sweeps=200, warm=80)


class TestAnswers:
    def test_it_is_chosen_checked_and_told(self, posterior):
        assert str(bi.choose_method("horseshoe", posterior.problem)).startswith(
            "local_scales: a scale for every source"
        )
        assert posterior.method == "local_scales"
        assert posterior.log_evidence is None
        names = [check.name for check in posterior.checks]
        assert {"R-hat", "effective draws", "chains on places", "prior of scale", "noise scale"} <= set(names)
        assert set(posterior.hyper) == {"noise", "scale", "lambda", "snr", "places"}
        assert 1 <= posterior.hyper["places"].quantile(0.05) <= posterior.hyper["places"].quantile(0.95) <= 24
        assert posterior.hyper.chains == 2
        assert len(posterior.mixture.structures) == 200

    def test_chains_that_end_at_different_places_are_told(self):
        from bayesinv.inference.local_checks import local_checks

        problem = toy(sources=4)
        share = np.array([0.7, 0.1, 0.1, 0.1])
        drawn = {"scale": np.random.default_rng(0).uniform(1, 2, 400)}
        for other, passed in ((share, True), (share[::-1], False)):
            check = local_checks(problem, drawn, [share, other])[-1]
            assert check.name == "chains on places"
            assert check.passed == passed
        drawn["scale"][200:] += 1
        assert not local_checks(problem, drawn, [share, share])[0].passed

    def test_the_archive_has_the_same_answers(self, posterior, tmp_path):
        posterior.save(tmp_path / "posterior.nc")
        again = bi.load(tmp_path / "posterior.nc")
        assert_allclose(again.mean, posterior.mean, rtol=1e-12)
        assert_allclose(again.sd, posterior.sd, rtol=1e-6)
        assert again.checks == posterior.checks
        assert_allclose(again.hyper["places"].draws, posterior.hyper["places"].draws)

    def test_other_questions_have_answers(self, posterior):
        region = posterior.region({"some": np.arange(4)})
        low, high = region.interval(0.9)
        assert (low < high).all()
        assert posterior.draw(20, np.random.default_rng(0)).shape == (20, 24, 5)
        assert np.isfinite(posterior.log_likelihood(20)).all()
        assert_allclose(posterior.kernel @ posterior.problem.recording, posterior.mean, rtol=1e-8, atol=1e-20)
        assert bi.posterior_predictive(posterior, draws=50, rng=np.random.default_rng(0)).quantities
        found = bi.compare({"horseshoe": posterior, "hierarchical": bi.infer("hierarchical", posterior.problem)})
        assert np.isfinite(found["horseshoe"].components_elpd)

    def test_neighbours_are_those_whose_fields_are_most_alike(self, rng):
        fields = rng.normal(size=(30, 3, 5))
        starts, neighbours = alike(fields)
        pairs = {(j, int(k)) for j in range(30) for k in neighbours[starts[j] : starts[j + 1]]}
        assert pairs == {(k, j) for j, k in pairs}
        blocks = np.einsum("sac,sad->scd", fields, fields).reshape(30, -1)
        blocks /= np.linalg.norm(blocks, axis=1, keepdims=True)
        likeness = blocks @ blocks.T - 2 * np.eye(30)
        for j in range(30):
            assert {(j, int(k)) for k in np.argsort(-likeness[j])[:20]} <= pairs
            assert (j, j) not in pairs


class TestRefusals:
    @pytest.mark.parametrize(
        ("given", "match"),
        [
            ({"method": "quadrature"}, "the model has local scales, which are sampled; use method='local_scales'"),
            ({"chains": 1}, "1 chains of 500 draws are too short to be trusted"),
        ],
    )
    def test_of_the_horseshoe(self, given, match):
        with pytest.raises(ValueError, match=match):
            bi.infer("horseshoe", toy(), **given)

    def test_a_model_without_local_scales(self):
        with pytest.raises(ValueError, match="method 'local_scales' wants a model with local scales"):
            bi.infer("hierarchical", toy(), "local_scales")

    def test_a_structure_that_is_learned(self):
        problem = toy()
        with pm.Model(coords=problem.coords) as built:
            depth = pm.Uniform("depth", 0.0, 1.0)
            bi.Currents(bi.global_scale(problem) ** 2, depth=depth, local="half_cauchy").observe("recording", problem)
        with pytest.raises(ValueError, match="wants currents of a structure that is fixed but for these"):
            bi.infer(built, problem, "local_scales")
        with pytest.raises(ValueError, match="no method fits the model"):
            bi.infer(built, problem)

    def test_noise_of_other_tails(self):
        with pytest.raises(ValueError, match="'local_scales' takes noise_tails='normal'"):
            bi.infer("horseshoe", toy(noise_tails="student"), "local_scales")


def sparse(seed, strength):
    """A recording of two sources of many, in a line of sensors and sources."""
    rng = np.random.default_rng(seed)
    at, sensors = np.linspace(0, 1, 80), np.linspace(0, 1, 16)
    gain = 1e8 / (0.15**2 + (sensors[:, None] - at) ** 2) / 40
    current = np.zeros((80, 12))
    for place in rng.choice(80, 2, replace=False):
        current[place] = strength / np.linalg.norm(gain[:, place]) * rng.normal(size=12)
    recording = gain @ current + rng.normal(size=(16, 12))
    return current, bi.Problem.from_arrays(gain, recording, baseline=rng.normal(size=(16, 30)))


@pytest.mark.slow
def test_few_sources_keep_their_size_where_dense_currents_spread_them():
    sizes, inside = {"horseshoe": [], "hierarchical": []}, {"horseshoe": [], "hierarchical": []}
    for seed in range(2):
        current, problem = sparse(seed, 20.0)
        active = np.flatnonzero(current.any(axis=1))
        for name in sizes:
            posterior = bi.infer(
                name, problem, **({"chains": 2, "sweeps": 120, "warm": 80} if name == "horseshoe" else {})
            )
            low, high = posterior.interval(0.9)
            inside[name] += list(((low <= current) & (current <= high))[active].mean(axis=1))
            sizes[name] += list(
                np.sum(posterior.mean[active] * current[active], axis=1) / np.sum(current[active] ** 2, axis=1)
            )
    assert np.mean(sizes["horseshoe"]) > 2 * np.mean(sizes["hierarchical"])
    assert np.mean(inside["horseshoe"]) > 0.7
    assert np.mean(inside["hierarchical"]) < 0.4
