"""Chains over focal sources where noise has two colours, against the enumeration of all sets by dense algebra."""

import itertools
from dataclasses import replace
from math import factorial

import numpy as np
import pymc as pm
import pytest
from coloured import coloured, groups_of
from numpy.testing import assert_allclose
from scipy.linalg import block_diag
from scipy.special import betaln, logsumexp

import bayesinv as bi
from bayesinv.covariance.time_course import correlation_over_time
from bayesinv.criticism.focal_replicates import focal_left_out
from bayesinv.evidence.active_modes import FocalModes
from bayesinv.inference import active_apart
from bayesinv.inference.active_apart import Apart, weighted
from bayesinv.inference.active_model import ActiveDraws
from bayesinv.inference.active_set import active_model
from bayesinv.posterior.focal import nodes_of
from bayesinv.posterior.mixture import systematic
from bayesinv.prior.catalogue import build
from bayesinv.prior.density import Density

pytestmark = pytest.mark.filterwarnings("ignore:(?s).*ArviZ is undergoing a major refactor:FutureWarning")

VARIANCE, NOISE = 0.02, 0.9


def model(problem, **options):
    """Scales are fixed but for a noise that has next to no freedom."""
    with pm.Model(coords=problem.coords) as built:
        noise = pm.LogNormal("noise", np.log(NOISE), 1e-4)
        given = {"extents": (0,), "expected": 1.0, "most": 2, "time": 0.006, "error": 0.0, **options}
        focal = bi.Patches(problem, **given)
        bi.Currents(VARIANCE, focal=focal).observe("recording", problem, noise=noise, baseline=None)
    return built


@pytest.fixture
def problem(monkeypatch):
    monkeypatch.setattr("bayesinv.prior.patches.LEVELS", 6)
    made = coloured(2, samples=8, quiet=0, sources=7)
    return made.with_fields(recording=0.45 * made.recording)


@pytest.fixture
def coarse(monkeypatch):
    """Classes of modes that are so wide that what they leave out is seen."""
    monkeypatch.setattr("bayesinv.evidence.active_modes.STEP", 2.0)


def tables(problem, **options):
    density = Density.of(build(lambda problem: model(problem, **options), problem)[1])
    focal = density.observation.currents.focal
    return density, focal, active_model(density, focal)


def states(given):
    """Log prior of all that slots may hold, with patches and levels."""
    most, (a, b) = given.most, given.count_prior
    slots = [(-1, 0), *itertools.product(range(len(given.log_prior)), range(len(given.strengths)))]
    for combination in itertools.combinations_with_replacement(range(len(slots)), most):
        repeated = np.unique(combination, return_counts=True)[1]
        active = [slots[i] for i in combination if slots[i][0] >= 0]
        mass = np.log(factorial(most) / np.prod([factorial(n) for n in repeated]))
        mass += betaln(a + len(active), b + most - len(active)) - betaln(a, b)
        yield mass + sum(given.log_prior[j] + given.log_strengths[k] for j, k in active), active


def enumerated(problem, given, unit, constant=0.006):
    """Log mass of every state by the dense normal density and by modes that are shared, and the states."""
    over, rows, gain = correlation_over_time(problem.times, constant), groups_of(problem), problem.gain
    alone = NOISE**2 * block_diag(*problem.time_whitening.correlations[rows])
    gram, values = VARIANCE * gain @ gain.T, problem.recording.ravel()
    exact, nearly, sets = [], [], []
    for mass, active in states(given):
        places, levels = ([one[i] for one in active] for i in (0, 1))
        fields = unit * given.strengths[levels] * gain[:, places]
        lower = np.linalg.cholesky(alone + np.kron(gram + fields @ fields.T, over))
        white = np.linalg.solve(lower, values)
        logs = np.log(np.diag(lower)).sum() + 0.5 * len(values) * np.log(2 * np.pi)
        exact.append(mass - logs - 0.5 * white @ white)
        stacked = [given.strengths[k] * given.field(j, np.zeros(0)) for j, k in active]
        stacked = np.hstack([np.empty((given.components, 0)), *stacked])
        nearly.append(mass + sum(given.log_density(stacked, 0, VARIANCE, NOISE, 0.0)))
        sets.append(active)
    return np.array(exact), np.array(nearly), sets


def inclusion(sets, weights, places=7):
    """Probability of each place and of each count, by weights of sets."""
    held = np.array([np.isin(np.arange(places), [j for j, _ in one]) for one in sets])
    counts = np.array([np.eye(3)[len(one)] for one in sets])
    return weights @ held, weights @ counts


def shares(logs):
    return np.exp(logs - logsumexp(logs))


def as_draws(given, sets, rng, weights, count, points):
    """Independent draws of sets, as a chain would give them."""
    picked = [sets[i] for i in rng.choice(len(sets), size=count, p=weights)]
    patch = tuple(np.array([j for j, _ in one], dtype=np.int64) for one in picked)
    strength = tuple(given.strengths[[k for _, k in one]] for one in picked)
    deviation = tuple(np.zeros((len(one), 0)) for one in picked)
    zeros = np.zeros(count)
    return ActiveDraws(
        patch, strength, deviation, zeros.astype(int), zeros, np.tile(points, (count, 1)), np.zeros((count, 0))
    )


def test_weighted_draws_are_those_of_the_dense_density(problem, coarse, monkeypatch):
    density, focal, given = tables(problem)
    exact, nearly, sets = enumerated(problem, given, focal.median_strength)
    wanted, before = inclusion(sets, shares(exact)), inclusion(sets, shares(nearly))
    ratio = np.exp(exact - nearly - np.max(exact - nearly))
    share = (shares(nearly) @ ratio) ** 2 / (shares(nearly) @ ratio**2)
    # Both differ by more than draws may be off.
    assert np.abs(wanted[0] - before[0]).max() > 0.1
    monkeypatch.setattr(active_apart, "MOST_DRAWS", 1000)
    rng, start = np.random.default_rng(0), density.start
    found = [as_draws(given, sets, rng, shares(nearly), 500, start) for _ in range(2)]
    out = weighted(Apart.of(density, focal, given), density, found, rng)
    assert out.check.passed
    assert_allclose(out.check.value, share, atol=0.1)
    places = np.mean([np.isin(np.arange(7), one) for draws in out.draws for one in draws.patch], axis=0)
    counts = np.bincount([len(one) for draws in out.draws for one in draws.patch], minlength=3) / 1000
    assert_allclose(places, wanted[0], atol=0.05)
    assert_allclose(counts, wanted[1], atol=0.05)
    assert_allclose(out.log_ratio, logsumexp(exact) - logsumexp(nearly), atol=0.15)


def test_shared_modes_alone_give_nearly_the_same(problem):
    _, focal, given = tables(problem)
    exact, nearly, sets = enumerated(problem, given, focal.median_strength)
    wanted, found = inclusion(sets, shares(exact)), inclusion(sets, shares(nearly))
    assert_allclose(found[0], wanted[0], atol=0.02)
    assert_allclose(found[1], wanted[1], atol=0.03)


@pytest.mark.slow
def test_chains_visit_sets_as_often_as_the_dense_density_has_them(problem, coarse, monkeypatch):
    monkeypatch.setattr(active_apart, "MOST_DRAWS", 4000)
    _, focal, given = tables(problem)
    exact, _, sets = enumerated(problem, given, focal.median_strength)
    wanted = inclusion(sets, shares(exact))
    found = bi.infer(model(problem), problem, chains=2, sweeps=2000, warm=200, rng=np.random.default_rng(1))
    active = found.active
    held = np.zeros((len(active.constant), 7), dtype=bool)
    held[active.node, active.centre[active.patch]] = True
    assert_allclose(held.mean(axis=0), wanted[0], atol=0.06)
    assert abs(float(found.log_evidence) - logsumexp(exact)) < 4 * found.log_evidence.error + 0.1


def test_steps_through_shares_draw_in_proportion_and_in_order():
    rng = np.random.default_rng(0)
    each = np.array([0.0, 1.0, 3.0, 0.5, 0.5, 0.0, 3.0])
    drawn = np.array([systematic(each, len(each), offset=rng.random()) for _ in range(4000)])
    assert (np.diff(drawn, axis=1) >= 0).all()
    counts = np.stack([np.sum(drawn == k, axis=1) for k in range(7)], axis=1)
    assert_allclose(counts.mean(axis=0), 7 * each / each.sum(), atol=0.05)
    assert (np.abs(counts - 7 * each / each.sum()) < 1).all()


def test_where_colours_cannot_be_told_apart_draws_stay_with_a_failed_check(problem, monkeypatch):
    monkeypatch.setattr("bayesinv.evidence.active_apart.MAX_PARTS", 0)
    density, focal, given = tables(problem)
    rng = np.random.default_rng(0)
    _, nearly, sets = enumerated(problem, given, focal.median_strength)
    found = [as_draws(given, sets, rng, shares(nearly), 60, density.start) for _ in range(2)]
    out = weighted(Apart.of(density, focal, given), density, found, rng)
    assert not out.check.passed
    assert "at most 0 are integrated" in out.check.note
    assert [len(one.patch) for one in out.draws] == [60, 60]


def of_modes(problem, modes, patterns, strengths, variance, noise, error):
    """Mean (amplitude, time) and covariances (amplitude, amplitude, time) of currents by dense algebra in each mode."""
    gain, count = problem.gain, problem.gain.shape[1]
    table, mean, covariance = modes.taken(problem.recording), 0.0, 0.0
    for k, power in enumerate(modes.powers):
        spread = np.ones(len(gain)) if modes.spread(k) is None else modes.spread(k)
        prior = power * (variance * np.eye(count) + (patterns * strengths**2) @ patterns.T)
        total = gain @ prior @ gain.T + np.diag((noise**2 + power * error**2) * spread**2)
        kernel = prior @ gain.T @ np.linalg.inv(total)
        mean = mean + np.outer(kernel @ table[:, k], modes.courses[k])
        covariance = covariance + (prior - kernel @ gain @ prior)[..., None] * modes.courses[k] ** 2
    return mean, covariance


def test_currents_are_those_of_dense_algebra_in_each_mode(problem):
    options = {"time": 0.006, "error": 0.4}
    found = bi.infer(model(problem, **options), problem, chains=2, sweeps=50, warm=20, rng=np.random.default_rng(1))
    nodes = nodes_of(found.conditionals)
    gaussians, node = max(nodes.values(), key=lambda one: one[1].patches.shape[1])
    assert node.patches.shape[1] == 2
    assert len(gaussians.recording.parts) > 2
    modes = FocalModes.of(problem, 0.006)
    strengths = np.ones(2)
    wanted, covariance = of_modes(
        problem, modes, node.patches.toarray(), strengths, node.variance, node.noise, node.error
    )
    alone = replace(gaussians, nodes=(node,), members=gaussians.members[:1])
    mean = np.zeros_like(wanted)
    alone.add_mean(mean)
    assert_allclose(mean, node.weight * wanted, atol=1e-9)
    variance = np.zeros_like(wanted)
    alone.add_variance(variance)
    assert_allclose(variance, node.weight * np.einsum("aat->at", covariance), atol=1e-9)
    ((_, some, sd),) = alone.gaussians(slice(2, 5), slice(1, 6), 0.0)
    assert_allclose(some, wanted[2:5, 1:6], atol=1e-9)
    assert_allclose(sd**2, np.einsum("aat->at", covariance)[2:5, 1:6], atol=1e-9)
    table = np.random.default_rng(0).normal(size=(2, 7))
    (of_sums,), (spread,), _ = alone.functionals(table, slice(0, 8), None, False, False)
    assert_allclose(of_sums, table @ wanted, atol=1e-8)
    assert_allclose(spread, np.einsum("fa,abt,gb->tfg", table, covariance, table), atol=1e-8)
    assert_allclose(alone.fitted(), node.weight * problem.gain @ wanted, atol=1e-8)
    residual, precision, outside = focal_left_out(gaussians, node)
    assert_allclose(outside, 0.0, atol=1e-9)
    for k, power in enumerate(modes.powers):
        spread = np.ones(5) if modes.spread(k) is None else modes.spread(k)
        currents = node.variance * np.eye(7) + node.patches.toarray() @ node.patches.toarray().T
        total = power * problem.gain @ currents @ problem.gain.T / np.outer(spread, spread)
        inverse = np.linalg.inv(total + (node.noise**2 + power * node.error**2) * np.eye(5))
        assert_allclose(precision[:, k], np.diag(inverse), rtol=1e-7)
        assert_allclose(residual[:, k], inverse @ (modes.taken(problem.recording)[:, k] / spread), atol=1e-8)
    draws = alone.draw(np.zeros(4000, dtype=int), np.random.default_rng(1), slice(None))
    error = np.sqrt(np.einsum("aat->at", covariance) / 4000)
    assert np.abs((draws.mean(axis=0) - wanted) / error).max() < 4.5
    assert_allclose(draws.var(axis=0), np.einsum("aat->at", covariance), rtol=0.15)
