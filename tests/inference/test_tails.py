"""Noise of single sensors and samples, held against brute force, against leaving them out, and against the truth."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import multivariate_normal

import bayesinv as bi
from bayesinv.bridges.archive_load import load
from bayesinv.covariance.covariance import Structure
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.inference import tails
from bayesinv.inference.tails import LATTICE, log_conditional, log_prior, on_lattice
from bayesinv.prior.catalogue import build
from bayesinv.prior.density import Density
from bayesinv.prior.samples import draw_noise
from bayesinv.problem.account import account

pytestmark = pytest.mark.filterwarnings(
    "ignore:the whitened baseline:UserWarning", "ignore:the baseline has:UserWarning"
)

SENSORS, SOURCES, SAMPLES, QUIET = 30, 80, 40, 60
STEP = 0.01


def scene(seed, memory=0.0, sensors=SENSORS, samples=SAMPLES):
    """Gain, currents, recording, baseline; noise of scale one that remembers."""
    rng = np.random.default_rng(seed)
    lags = np.abs(np.subtract.outer(np.arange(samples + QUIET), np.arange(samples + QUIET)))
    root = np.linalg.cholesky(memory**lags if memory else np.eye(samples + QUIET))
    gain = rng.standard_normal((sensors, SOURCES))
    both = np.linalg.cholesky(root[QUIET:, :] @ root[QUIET:, :].T)
    currents = 0.3 * rng.standard_normal((SOURCES, samples)) @ both.T
    noise = rng.standard_normal((sensors, samples + QUIET)) @ root.T
    return gain, currents, gain @ currents + noise[:, QUIET:], noise[:, :QUIET]


def problem_of(gain, recording, baseline, noise_tails="student", memory=0.0):
    count = recording.shape[1]
    noise_time = memory ** np.arange(120) if memory else "white"
    return bi.Problem.from_arrays(
        gain,
        recording,
        np.eye(len(gain)),
        baseline=baseline,
        times=STEP * np.arange(count),
        noise_time=noise_time,
        noise_tails=noise_tails,
    )


def spoil(rng, recording, baseline, spike=True, loud=True):
    """A value at 900 sd, and a channel at five times its noise."""
    recording, baseline = recording.copy(), baseline.copy()
    if spike:
        recording[3, 20] += 900
    if loud:
        for table in (recording, baseline):
            table[5] += 5 * rng.standard_normal(table.shape[1])
    return recording, baseline


def away(one, other):
    """Root mean square difference of two maps, in units of the second one's sd."""
    return float(np.sqrt(np.mean(((one.mean - other.mean) / other.sd) ** 2)))


class TestCovariance:
    """Given the variances the posterior is that of one large Gaussian."""

    @pytest.mark.parametrize("memory", [0.0, 0.7])
    @pytest.mark.parametrize("time", [None, 0.03])
    def test_the_likelihood_and_the_mean_are_those_of_a_dense_covariance(self, rng, memory, time):
        sensors, samples, sources = 5, 4, 7
        gain, root = (
            rng.standard_normal((sensors, sources)),
            rng.standard_normal((sensors, sensors)) + 2 * np.eye(sensors),
        )
        cov = root @ root.T
        field = root @ rng.standard_normal((sensors, samples))
        noise_time = memory ** np.arange(60) if memory else "white"
        problem = bi.Problem.from_arrays(gain, field, cov, times=STEP * np.arange(samples), noise_time=noise_time)
        own, at = np.array([0, 3.0, 0, 0, 0.5]), np.array([0, 40.0, 0, 1.0])
        structure = Structure(sensor_noise=own, sample_noise=at, time=time)
        lags = np.abs(np.subtract.outer(np.arange(samples), np.arange(samples)))
        over_time = memory**lags if memory else np.eye(samples)
        far = np.sqrt(3) * STEP * lags / (time or 1)
        currents = over_time if time is None else (1 + far) * np.exp(-far)
        noise = cov + np.diag(own / np.diag(np.linalg.inv(cov)))
        noise_time = over_time + np.diag(at / np.diag(np.linalg.inv(over_time)))
        total = 0.4 * np.kron(gain @ gain.T, currents) + 1.3**2 * np.kron(noise, noise_time)
        wanted = multivariate_normal(cov=total).logpdf(field.ravel())
        # Whitening is a change of unit, whose volume is the same for all.
        wanted += 0.5 * samples * np.linalg.slogdet(cov)[1]
        found = Spectrum.of(problem, structure).log_likelihood(np.array([0.4]), np.array([1.3]))[0]
        assert_allclose(found, wanted, rtol=1e-8)
        mixed = bi.posterior.mixture.Mixture(
            np.ones(1), np.array([0.4]), np.array([1.3]), np.zeros(1, int), (structure,)
        )
        posterior = bi.posterior.posterior.Posterior(problem, "given", "given", mixed, None, None)
        mean = 0.4 * np.kron(gain.T, currents) @ np.linalg.solve(total, field.ravel())
        assert_allclose(posterior.mean, mean.reshape(sources, samples), atol=1e-7)
        within = 0.4 * np.kron(np.eye(sources), currents)
        within = within - within @ np.kron(gain.T, np.eye(samples)) @ np.linalg.solve(
            total, np.kron(gain, np.eye(samples)) @ within
        )
        assert_allclose(posterior.sd**2, np.diag(within).reshape(sources, samples), atol=1e-6)

    @pytest.mark.parametrize("memory", [0.0, 0.7])
    def test_noise_that_is_drawn_has_it(self, rng, memory):
        problem = problem_of(np.eye(2), np.ones((2, 3)), None, memory=memory)
        structure = Structure(sensor_noise=np.array([0, 3.0]), sample_noise=np.array([0, 8.0, 0]))
        drawn = np.stack([draw_noise(problem, structure, 1.0, rng).ravel() for _ in range(8000)])
        over_time = memory ** np.abs(np.subtract.outer(np.arange(3), np.arange(3))) if memory else np.eye(3)
        over_time = over_time + np.diag([0, 8.0, 0]) / np.diag(np.linalg.inv(over_time))
        wanted = np.kron(np.diag([1, 4.0]), over_time)
        assert np.abs(np.cov(drawn.T) - wanted).max() < 5 * wanted.max() * np.sqrt(2 / len(drawn))

    def test_one_variance_changes_the_density_as_its_conditional_says(self, rng):
        table, column = rng.standard_normal((6, 9)), rng.standard_normal(6)
        cov = np.eye(6) + 0.3
        precision, seen = column @ np.linalg.solve(cov, column), column @ np.linalg.solve(cov, table)
        found = log_conditional(precision, seen @ seen, 9)
        for k in (0, 1, 40, 90):
            total = cov + LATTICE[k] * np.outer(column, column)
            wanted = (
                multivariate_normal(cov=total).logpdf(table.T).sum()
                - multivariate_normal(cov=cov).logpdf(table.T).sum()
            )
            assert_allclose(found[k], wanted, rtol=1e-6, atol=1e-8)
        assert_allclose(np.exp(log_prior(0.2)).sum(), 1.0)
        assert_allclose(np.exp(log_prior(0.2))[0], 0.8)

    @pytest.mark.parametrize("share", [0.01, 0.3])
    def test_variances_are_drawn_each_given_all_others(self, rng, share):
        """Several at once, of which the first that changes counts: as with the covariance made anew for each."""
        columns, noise = rng.standard_normal((9, 25)), 3 * rng.standard_normal((9, 7))
        before = on_lattice(np.where(rng.random(25) < share, 4.0, 0.0))
        common, chances = np.eye(9) + 0.3, np.random.default_rng(3).random(25)
        wanted = before.copy()
        for i, column in enumerate(columns.T):
            others = np.where(np.arange(25) == i, 0.0, wanted)
            solved = np.linalg.solve(common + (columns * others) @ columns.T, np.column_stack([column, noise]))
            seen = column @ solved
            shares = np.exp(log_prior(share) + log_conditional(seen[0], seen[1:] @ seen[1:], 7))
            wanted[i] = LATTICE[np.searchsorted(np.cumsum(shares) / shares.sum(), chances[i])]
        chain = SimpleNamespace(rng=np.random.default_rng(3))
        covariance = common + (columns * before) @ columns.T
        found = tails.Chain._scanned(chain, covariance, columns, noise, before, share)
        assert_allclose(found, wanted, rtol=1e-12)
        assert (found != before).any()

    def test_a_density_of_other_noise_is_that_of_the_model_read_anew(self, rng):
        gain, _, recording, baseline = scene(0, sensors=8, samples=6)
        problem = problem_of(gain, recording, baseline)
        density = Density.of(build("depth_weighted", problem)[1])
        nodes = density.start + 0.3 * rng.standard_normal((5, density.dimension))
        plain = density(nodes)
        base = replace(density.observation.base, sensor_noise=np.arange(8.0))
        found, wanted = density.given(base), Density(density.model, replace(density.observation, base=base))
        assert_allclose(found(nodes), wanted(nodes), rtol=1e-12)
        assert np.abs(found(nodes) - plain).min() > 0.1


@pytest.mark.slow
class TestBruteForce:
    """Tiny: the currents' posterior is summed over a coarse lattice of every variance, hyperparameters fixed."""

    @pytest.mark.parametrize("seed", [0, 1])
    def test_gibbs_is_the_sum_over_all_variances(self, monkeypatch, seed):
        coarse = np.array([0.0, 3.0, 60.0])
        monkeypatch.setattr(tails, "LATTICE", coarse)
        monkeypatch.setattr(tails, "KEPT", 3000)
        monkeypatch.setattr(tails, "THIN", 1)
        monkeypatch.setattr(tails, "SHARE", (4e5, 6e5))
        rng = np.random.default_rng(seed)
        gain = rng.standard_normal((4, 6))
        field = gain @ rng.standard_normal((6, 3)) + rng.standard_normal((4, 3))
        field[1, 2] += 5
        problem = bi.Problem.from_arrays(gain, field, np.eye(4), noise_tails="student")
        found = bi.infer(fixed, problem, rng=np.random.default_rng(seed))
        prior = log_prior(0.4)
        every = np.array(np.meshgrid(*[np.arange(3)] * 7)).reshape(7, -1).T
        own, at = np.split(coarse[every], [4], axis=1)
        # White over time: each sample has a noise covariance of its own.
        total = 0.5 * gain @ gain.T + ((1 + at)[:, :, None] * (1 + own)[:, None])[..., None] * np.eye(4)
        filtered = np.linalg.solve(total, np.broadcast_to(field.T[..., None], (*total.shape[:3], 1)))[..., 0]
        each = np.linalg.slogdet(total)[1] + np.sum(filtered * field.T, axis=2)
        logs = prior[every].sum(axis=1) - 0.5 * each.sum(axis=1)
        means = 0.5 * np.einsum("cs,ktc->kst", gain, filtered)
        weights = np.exp(logs - logs.max())
        weights /= weights.sum()
        wanted = np.einsum("k,kst->st", weights, means)
        spread = np.sqrt(np.einsum("k,kst->st", weights, (means - wanted) ** 2))
        # Rounds follow one another closely: their worth is taken to be a tenth of their number.
        assert np.abs(found.mean - wanted).max() < 4 * spread.max() / np.sqrt(300)
        own, at = found.own_noise
        wanted = weights @ coarse[every]
        error = 4 * np.sqrt(weights @ (coarse[every] - wanted) ** 2 / 300)
        assert (np.abs(np.append(own, at) - wanted) < error).all()


def fixed(problem):
    """A model whose scales are known."""
    import pymc as pm

    with pm.Model() as model:
        bi.Currents(variance=0.5).observe("recording", problem, noise=1.0)
    return model


@pytest.mark.slow
class TestGoodData:
    @pytest.mark.parametrize("memory", [0.0, 0.8])
    def test_they_are_normal(self, memory):
        gain, _, recording, baseline = scene(0, memory)
        one, other = (
            bi.infer("hierarchical", problem_of(gain, recording, baseline, name, memory))
            for name in ("student", "normal")
        )
        assert_allclose(one.sd.mean() / other.sd.mean(), 1, atol=0.03)
        assert away(one, other) < 0.05
        assert one.log_evidence is None


@pytest.mark.slow
class TestChain:
    """The start is bad: half of the sensors are taken to have noise of their own, and none has."""

    def start(self, monkeypatch):
        """The problem with normal noise and with heavy tails, of few sources, so that the noise scale is well known."""
        monkeypatch.setattr(tails, "_excess", lambda power: np.where(np.arange(len(power)) % 2, 3.0, 0.0))
        rng = np.random.default_rng(7)
        gain = rng.standard_normal((40, 8))
        currents = 0.3 * rng.standard_normal((8, 60))
        recording, baseline = gain @ currents + rng.standard_normal((40, 60)), rng.standard_normal((40, 60))
        return (problem_of(gain, recording, baseline, name) for name in ("normal", "student"))

    def test_candidates_follow_the_mode(self, monkeypatch):
        """The scale of currents is that of normal noise, and the noise's moves by sds, not by crumbs of one."""
        normal, student = self.start(monkeypatch)
        wanted = bi.infer("hierarchical", normal).hyper["scale"]
        effective, whole = [], tails.Chain.round

        def counted(chain, adapts):
            found = whole(chain, adapts)
            effective.append(1 / np.sum(found.weights**2))
            return found

        monkeypatch.setattr(tails.Chain, "round", counted)
        for seed in (0, 1):
            found = bi.infer("hierarchical", student, rng=np.random.default_rng(seed))
            assert_allclose(found.hyper["scale"].sd / wanted.sd, 1, atol=0.25)
            assert abs(found.hyper["scale"].mean - wanted.mean) < 0.5 * wanted.sd
            checks = {check.name: check for check in found.checks}
            assert checks["chain moves"].passed
            assert checks["chain width"].passed
            # Where one is all that counts the step is none; this is so of candidates about the first mode.
            assert np.quantile(effective, 0.05) > 5

    def test_two_that_disagree_are_told(self, monkeypatch):
        """Noise of all and of each is told apart slowly: the chain that has not got there says that it drifts."""
        normal, student = self.start(monkeypatch)
        monkeypatch.setattr(tails, "THIN", 1)
        wanted = bi.infer("hierarchical", normal).hyper["noise"]
        for seed in (0, 1):
            found = bi.infer("hierarchical", student, rng=np.random.default_rng(seed))
            near = abs(found.hyper["noise"].mean - wanted.mean) < wanted.sd
            assert near or not {check.name: check for check in found.checks}["chain drift"].passed

    @pytest.mark.parametrize(("failing", "away", "narrower"), [("chain moves", 30.0, 1.0), ("chain width", 0.0, 1e-3)])
    def test_one_that_is_stuck_is_told(self, monkeypatch, failing, away, narrower):
        """Candidates far from the mode are never taken; ones close about a point draw too little."""
        whole = tails.Chain._proposal
        first = []

        def stuck(chain, given, adapts):
            if not first:
                first.append(whole(chain, given, adapts))
            centre, covariance = first[0]
            return centre + away * np.sqrt(np.diag(covariance)), narrower**2 * covariance

        monkeypatch.setattr(tails.Chain, "_proposal", stuck)
        monkeypatch.setattr(tails, "BURN", 10)
        gain, _, recording, baseline = scene(7)
        found = bi.infer("hierarchical", problem_of(gain, recording, baseline))
        assert not found.passed
        assert failing in [check.name for check in found.checks if not check.passed]


class TestBadData:
    @pytest.mark.slow
    @pytest.mark.parametrize("memory", [0.0, 0.8])
    def test_currents_are_those_without_what_is_bad(self, memory):
        gain, _, recording, baseline = scene(1, memory)
        bad = spoil(np.random.default_rng(5), recording, baseline)
        found = bi.infer("hierarchical", problem_of(gain, *bad, "student", memory))
        given = problem_of(gain, *bad, "normal", memory)
        kept = np.delete(np.arange(SAMPLES), 20)
        wanted = bi.infer("hierarchical", given.without(sensors=[5], times=[0.2]))
        spoilt = bi.infer("hierarchical", given)
        difference = (found.mean[:, kept] - wanted.mean) / wanted.sd
        assert np.sqrt(np.mean(difference**2)) < 0.12
        assert np.sqrt(np.mean(((spoilt.mean[:, kept] - wanted.mean) / wanted.sd) ** 2)) > 0.3
        assert_allclose(found.sd[:, kept].mean() / wanted.sd.mean(), 1, atol=0.05)
        own, at = found.own_noise
        assert own.argmax() == 5 or at.argmax() == 20
        note = {check.name: check.note for check in found.checks}["noise of their own"]
        assert "sensor 5 (" in note
        assert "200 ms (" in note

    @pytest.mark.slow
    def test_it_is_archived_and_told(self, tmp_path):
        gain, _, recording, baseline = scene(2)
        problem = problem_of(gain, *spoil(np.random.default_rng(5), recording, baseline))
        posterior = bi.infer("minimum_norm", problem)
        posterior.save(tmp_path / "posterior.nc")
        again = load(tmp_path / "posterior.nc")
        assert again.problem.noise_tails == "student"
        assert again.method == "gibbs"
        assert_allclose(again.sd, posterior.sd)
        for one, other in zip(again.own_noise, posterior.own_noise, strict=True):
            assert_allclose(one, other)
        assert "Student" in account(again.problem)["noise"]
        low, high = posterior.interval(0.9)
        assert (low < posterior.mean).all()
        assert (high > posterior.mean).all()
        assert posterior.draw(3, np.random.default_rng(0)).shape == (3, SOURCES, SAMPLES)
        with pytest.raises(ValueError, match="no kernel"):
            _ = posterior.kernel
        assert posterior.region({"some": [1, 2, 3]}).mean.shape == (1, SAMPLES)

    def test_what_cannot_be_is_refused(self):
        gain, _, recording, baseline = scene(3)
        with pytest.raises(ValueError, match="no noise_tails named 'cauchy'"):
            problem_of(gain, recording, baseline, "cauchy")
        with pytest.raises(ValueError, match="is for noise_tails='student'"):
            bi.infer("hierarchical", problem_of(gain, recording, baseline, "normal"), "gibbs")


@pytest.mark.slow
class TestCoverage:
    @pytest.mark.parametrize("bad", [False, True])
    def test_intervals_hold_the_truth(self, bad):
        """Ninety per cent of the currents, within what 5 worlds tell; normal noise fails by far where data are bad."""
        hits = []
        for seed in range(5):
            gain, currents, recording, baseline = scene(100 + seed, sensors=20, samples=24)
            if bad:
                recording, baseline = spoil(np.random.default_rng(seed), recording, baseline)
            low, high = bi.infer("hierarchical", problem_of(gain, recording, baseline)).interval(0.9)
            hits.append(np.mean((low < currents) & (currents < high)))
        error = 3 * np.std(hits) / np.sqrt(len(hits))
        assert abs(np.mean(hits) - 0.9) < error + 0.005


def test_the_lattice_holds_any_variance(rng):
    wanted = np.exp(rng.uniform(0, 20, 50))
    assert_allclose(on_lattice(wanted), wanted, rtol=0.09)
