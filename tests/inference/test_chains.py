"""Quadrature in four dimensions and chains agree with integrals taken otherwise."""

from functools import cache

import numpy as np
import pytest
from recovered import correlated_currents
from scipy.optimize import minimize
from scipy.special import expit, logsumexp
from scipy.stats import halfcauchy, halfnorm, lognorm, multivariate_t, norm
from structured import scene
from templates import covariances, simulate, template

import bayesinv as bi

pytestmark = pytest.mark.filterwarnings(
    "ignore:(?s).*ArviZ is undergoing a major refactor:FutureWarning", "ignore:the whitened baseline:UserWarning"
)


def kinds_of_noise(problem, values):
    """Whitened noise covariance, sensor by sensor."""
    scales = np.diag([values.get(f"ratio_{kind}", 1.0) for kind in problem.noise.kinds])
    return values["noise"] ** 2 * problem.whitener @ scales @ problem.noise.covariance @ scales @ problem.whitener.T


def log_joint(name, problem, names, point):
    """Log density of hyperparameters, on the logarithmic and the logistic scale, and recording and baseline."""
    values, total = {}, 0.0
    for key, one in zip(names, point, strict=True):
        if key in ("depth", "tangential"):
            values[key] = expit(one)
            total += np.log(values[key] * (1 - values[key]))
        else:
            values[key] = np.exp(one)
            guess = problem.scale_guess
            total += one + (
                halfcauchy.logpdf(values[key], scale=guess) if key == "scale" else lognorm.logpdf(values[key], 0.5)
            )
    if name == "sensor_noise":
        spatial, noise = values["scale"] ** 2 * np.eye(problem.gain.shape[1]), kinds_of_noise(problem, values)
    else:
        spatial, _, noise = covariances(name, problem, values)
    for covariance, observed in (
        (problem.gain @ spatial @ problem.gain.T + noise, problem.recording),
        (noise, problem.baseline),
    ):
        _, logs = np.linalg.slogdet(2 * np.pi * covariance)
        total -= 0.5 * (observed.shape[1] * logs + np.sum(observed * np.linalg.solve(covariance, observed)))
    return total, values


def importance_sampled(name, problem, names, count, rng):
    """Log evidence and its error, and moments of the hyperparameters, by importance sampling from Student's t."""
    start = [np.log(problem.scale_guess) if key == "scale" else 0.0 for key in names]
    found = minimize(lambda point: -log_joint(name, problem, names, point)[0], start, method="BFGS")
    proposal = multivariate_t(found.x, 1.3 * found.hess_inv, df=4, seed=rng)
    points = proposal.rvs(count)
    log_densities, values = zip(*(log_joint(name, problem, names, point) for point in points), strict=True)
    logs = np.array(log_densities) - proposal.logpdf(points)
    weights = np.exp(logs - logsumexp(logs))
    table = np.array([[one[key] for key in names] for one in values])
    mean = weights @ table
    worth = 1 / np.sum(weights**2)
    return logsumexp(logs) - np.log(count), 1 / np.sqrt(worth), mean, np.sqrt(weights @ (table - mean) ** 2), worth


SCENES = {
    "sensor_noise": lambda rng: scene(maps=False),
    "oriented": lambda rng: simulate("oriented", template("oriented"), rng)[2],
    "temporal": lambda rng: correlated_currents(rng)[2],
}


@cache
def on_a_lattice(name):
    """A problem, and its posterior by quadrature."""
    problem = SCENES[name](np.random.default_rng(20))
    return problem, bi.infer(name, problem, draws=4000)


@pytest.mark.slow
class TestQuadratureInFourDimensions:
    @pytest.mark.parametrize(
        ("name", "names"),
        [
            ("sensor_noise", ["noise", "scale", "ratio_mag", "ratio_grad"]),
            ("oriented", ["noise", "scale", "depth", "tangential"]),
        ],
    )
    def test_it_is_what_importance_sampling_finds(self, rng, name, names):
        problem, posterior = on_a_lattice(name)
        log_evidence, error, mean, sd, worth = importance_sampled(name, problem, names, 4000, rng)
        assert error < 0.03
        assert abs(posterior.log_evidence - log_evidence) < 4 * error + posterior.log_evidence.error
        for key, one, spread in zip(names, mean, sd, strict=True):
            assert abs(posterior.hyper[key].mean - one) < 4 * spread / np.sqrt(worth)
            assert abs(posterior.hyper[key].sd / spread - 1) < 6 / np.sqrt(worth)


def standard_errors(draws, scalar, worth):
    """Distance of mean and sd of draws from those of others, in standard errors of so many independent ones."""
    mean, sd = scalar.mean, scalar.sd
    error = np.std((draws - mean) ** 2) / (2 * sd * np.sqrt(worth))
    return abs(draws.mean() - mean) * np.sqrt(worth) / sd, abs(draws.std() - sd) / error


def effective(posterior):
    return next(check.value for check in posterior.checks if check.name == "effective draws")


def bridged(problem, chains):
    """Log evidence of the parcels' model and its error, by importance sampling about the draws of chains."""
    names = ["noise", "scale", "spread", *(f"raw[{k}]" for k in range(4))]
    draws = np.array(
        [np.log(chains.hyper[name].draws) if i < 3 else chains.hyper[name].draws for i, name in enumerate(names)]
    )
    proposal = multivariate_t(draws.mean(axis=1), 1.2 * np.cov(draws), df=4, seed=np.random.default_rng(1))
    points = proposal.rvs(20_000)
    log_densities = np.empty(len(points))
    member = np.equal.outer(np.arange(4), problem.parcels).astype(float)
    grams = [(problem.gain * one) @ problem.gain.T for one in member]
    full = np.trace(problem.gain @ problem.gain.T)
    prior = (
        lognorm(0.5).logpdf(np.exp(points[:, 0]))
        + halfcauchy(scale=problem.scale_guess).logpdf(np.exp(points[:, 1]))
        + halfnorm(scale=2).logpdf(np.exp(points[:, 2]))
        + points[:, :3].sum(axis=1)
        + norm.logpdf(points[:, 3:]).sum(axis=1)
    )
    for i, (log_noise, log_scale, log_spread, *raw) in enumerate(points):
        logs = np.exp(log_spread) * np.array(raw)
        gram = np.tensordot(np.exp(logs - logs.max()), grams, axes=1)
        total = np.exp(2 * log_scale) * full / np.trace(gram) * gram + np.exp(2 * log_noise) * np.eye(len(gram))
        _, logs = np.linalg.slogdet(2 * np.pi * total)
        field = problem.recording
        log_densities[i] = -0.5 * (field.shape[1] * logs + np.sum(field * np.linalg.solve(total, field)))
    noise = np.exp(points[:, 0])
    baseline = -0.5 * (problem.baseline.size * np.log(2 * np.pi * noise**2) + np.sum(problem.baseline**2) / noise**2)
    logs = prior + log_densities + baseline - proposal.logpdf(points)
    weights = np.exp(logs - logsumexp(logs))
    return logsumexp(logs) - np.log(len(logs)), float(np.sqrt(np.sum(weights**2)))


@pytest.fixture(scope="module")
def parcels():
    """A problem with parcels, chains over their shares, and the log evidence about these chains with its error."""
    problem = scene(maps=False, samples=30, quiet=60)
    chains = bi.infer("multiple_sparse_priors", problem, "nuts", draws=1000, chains=2)
    return problem, chains, bridged(problem, chains)


@pytest.mark.slow
class TestChains:
    @pytest.mark.parametrize("name", SCENES)
    def test_they_find_what_quadrature_finds(self, rng, name):
        problem, lattice = on_a_lattice(name)
        chains = bi.infer(name, problem, "nuts", rng=rng, draws=1000, chains=2)
        worth = effective(chains)
        assert worth > 300
        for key in (variable.name for variable in bi.load_model(name)(problem).free_RVs):
            assert max(standard_errors(chains.hyper[key].draws, lattice.hyper[key], worth)) < 4

    def test_of_shares_of_parcels_agree_with_a_lattice_of_gaussians(self, parcels):
        problem, chains, (log_evidence, error) = parcels
        nested = bi.infer("multiple_sparse_priors", problem, draws=4000)
        assert nested.method == "nested_laplace"
        assert nested.passed
        assert effective(chains) > 300
        ours, theirs = (np.log(one.hyper["spread"].draws) for one in (nested, chains))
        # Laplace's error is of the order of the skewness of the others, a fraction of an sd.
        assert abs(ours.mean() - theirs.mean()) < 0.3 * theirs.std()
        assert 0.8 < ours.std() / theirs.std() < 1.25
        # Of chains worth 300 draws, and of short ones worth some 80, a normal's tail quantiles scatter by 0.27 sd.
        for level, limit in ((0.05, 0.7), (0.5, 0.4), (0.95, 0.7)):
            assert abs(np.quantile(ours, level) - np.quantile(theirs, level)) < limit * theirs.std()
        assert abs(nested.log_evidence - log_evidence) < nested.log_evidence.error + 3 * error

    def test_of_shares_of_parcels_agree_with_a_gaussian_at_the_mode_as_far_as_one_goes(self, parcels):
        """Spread and shares bend around each other, which no Gaussian does: its check says so, and it is too wide."""
        problem, chains, (log_evidence, error) = parcels
        gaussian = bi.infer("multiple_sparse_priors", problem, "laplace", draws=4000)
        ours, theirs = (np.log([one.hyper[f"share[{k}]"].draws for k in range(4)]) for one in (gaussian, chains))
        # The trace is kept, so that only the shares relative to one another mean anything.
        ours, theirs = ours[1:] - ours[0], theirs[1:] - theirs[0]
        assert effective(chains) > 300
        sd = theirs.std(axis=1)
        assert (np.abs(ours.mean(axis=1) - theirs.mean(axis=1)) < 0.6 * sd).all()
        ratio = ours.std(axis=1) / sd
        assert ((ratio > 0.8) & (ratio < 2.5)).all()
        assert error < 0.1
        # Draws that do not reach around the bend cannot tell how much of the mass lies there.
        assert abs(gaussian.log_evidence - log_evidence) < 3
        assert not gaussian.passed
