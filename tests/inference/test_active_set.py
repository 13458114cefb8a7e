"""Chains over active sets against the enumeration of all sets, and what a user sees of them."""

import itertools
from math import factorial

import numpy as np
import pymc as pm
import pytest
from numpy.testing import assert_allclose
from referee import toy
from scipy.special import betaln, logsumexp
from scipy.stats import multivariate_normal, norm

import bayesinv as bi
from bayesinv.evidence.active import FocalModes, FocalRecording
from bayesinv.inference.active_chain import ActiveModel, Chain
from bayesinv.inference.active_checks import MAX_ERROR
from bayesinv.inference.active_evidence import annealed_ratio, dense_log_evidence
from bayesinv.inference.active_set import active_model
from bayesinv.prior.catalogue import build
from bayesinv.prior.density import Density

pytestmark = pytest.mark.filterwarnings("ignore:(?s).*ArviZ is undergoing a major refactor:FutureWarning")

NOISE = np.linspace(-0.9, 0.9, 31)
"""Grid of the log noise scale that the enumeration integrates over."""

PRIOR = norm(scale=0.2)
"""Of the log noise scale."""


def model(problem, **options):
    with pm.Model(coords=problem.coords) as built:
        noise = bi.noise_scale(problem)
        scale = pm.LogNormal("scale", np.log(0.3 * problem.scale_guess), 0.5)
        given = {"extents": (0, 0.06), "expected": 1.5, "most": 4, **options}
        bi.Currents(scale**2, focal=bi.Patches(problem, **given)).observe("recording", problem, noise=noise)
    return built


def tiny(axes, seed):
    """Tables of a chain that are small enough to go through all that it may visit."""
    rng = np.random.default_rng(seed)
    components, patches, modes, most = 4, 5, (3, 2), 2
    fields = rng.normal(size=(components, patches * axes))
    values = np.sort(rng.uniform(0, 2, components))
    powers = [np.sort(rng.uniform(0.2, 2, count))[::-1] for count in modes]
    course = np.sqrt(powers[0]) * rng.normal(size=modes[0])
    coefficients = rng.normal(size=(components, modes[0])) + 1.5 * np.outer(fields[:, 2 * axes], course)
    # The second time constant has fewer modes: what lies in none of them is noise alone.
    total = float(np.sum(coefficients**2))
    recordings = tuple(
        FocalRecording(
            values,
            power,
            coefficients[:, :count],
            total - float(np.sum(coefficients[:, :count] ** 2)),
            components * (modes[0] - count),
            0.0,
            0,
            -0.5 * coefficients.size * np.log(2 * np.pi),
        )
        for power, count in zip(powers, modes, strict=True)
    )
    return ActiveModel(
        fields,
        recordings,
        np.log(rng.dirichlet(5 * np.ones(patches))),
        np.array([0.4, 1.5]),
        np.log([0.6, 0.4]),
        np.array([0.1, 0.8]),
        np.log([0.7, 0.3]),
        np.log([0.5, 0.5]),
        (1.0, 1.5),
        most,
        axes,
    )


def log_prior(nodes):
    """Of the log noise scale, the only coordinate; the variance of dense currents is fixed."""
    return PRIOR.logpdf(nodes[:, 0]), np.full(len(nodes), 0.15), np.exp(np.clip(nodes[:, 0], -9, 9))


def enumerated(given):
    """Probability of every count, patch, time constant and error, and mean log noise, by going through all states.

    And the log evidence.
    """
    axes, patches = given.axes, len(given.log_prior)
    slots = [(-1, 0), *itertools.product(range(patches), range(len(given.strengths)))]
    logs, tables = [], []
    grid_prior = -0.5 * (NOISE / 0.2) ** 2
    for combination in itertools.combinations_with_replacement(range(len(slots)), given.most):
        repeated = np.unique(combination, return_counts=True)[1]
        ways = factorial(given.most) / np.prod([factorial(n) for n in repeated])
        active = [slots[i] for i in combination if slots[i][0] >= 0]
        count, (a, b) = len(active), given.count_prior
        mass = np.log(ways) + betaln(a + count, b + given.most - count) - betaln(a, b)
        mass += sum(given.log_prior[j] + given.log_strengths[k] for j, k in active)
        held = np.isin(np.arange(patches), [j for j, _ in active]).astype(float)
        for c, recording in enumerate(given.recordings):
            for e, error in enumerate(given.errors):
                height = mass + given.log_constants[c] + given.log_errors[e] + grid_prior
                noise = np.exp(NOISE)
                for covariance, y in _modes(given, recording, active, noise, error, axes):
                    height = height + _log_normal(covariance, y)
                rest = recording.rest_count
                height = height - 0.5 * rest * np.log(2 * np.pi * noise**2) - 0.5 * recording.rest / noise**2
                shares = np.exp(height - logsumexp(height))
                logs.append(logsumexp(height))
                tables.append(np.r_[np.eye(given.most + 1)[count], held, c, e, shares @ NOISE])
    # What all states have in common: the width of the grid, and the prior's constant.
    width = np.log(NOISE[1] - NOISE[0]) - np.log(0.2 * np.sqrt(2 * np.pi))
    weights = np.exp(np.array(logs) - logsumexp(logs))
    return weights @ np.array(tables), float(logsumexp(logs) + width)


def _modes(given, recording, active, noise, error, axes):
    """Covariance (noise, component, component) and recording of every mode."""
    for k, power in enumerate(recording.powers):
        covariance = np.diag(power * (error**2 + 0.15 * recording.values))
        for j, level in active:
            field = given.fields[:, j * axes : (j + 1) * axes]
            covariance = covariance + power * given.strengths[level] ** 2 * field @ field.T
        yield noise[:, None, None] ** 2 * np.eye(len(covariance)) + covariance, recording.coefficients[:, k]


def _log_normal(covariance, y):
    """Log density of y by dense algebra, for each covariance."""
    square = np.linalg.solve(covariance, np.broadcast_to(y[:, None], (len(covariance), len(y), 1)))[..., 0] @ y
    return -0.5 * (square + np.linalg.slogdet(covariance)[1] + len(y) * np.log(2 * np.pi))


def visited(given, draws, seed=1):
    """The same by a chain, each draw in a row."""
    found = Chain(given, log_prior, np.zeros(1), np.random.default_rng(seed)).run(100, draws, lambda: None)
    patches = len(given.log_prior)
    rows = []
    for patch, constant, error, point in zip(found.patch, found.constant, found.error, found.points, strict=True):
        held = np.isin(np.arange(patches), patch)
        level = float(np.flatnonzero(given.errors == error)[0])
        rows.append(np.r_[np.eye(given.most + 1)[len(patch)], held, constant, level, point])
    return np.array(rows, dtype=float)


@pytest.mark.slow
@pytest.mark.parametrize("axes", [1, 3])
def test_a_chain_visits_sets_as_often_as_they_are_probable(axes):
    given = tiny(axes, seed=axes)
    wanted, _ = enumerated(given)
    rows = visited(given, 6000)
    batches = rows.reshape(100, -1, rows.shape[1]).mean(axis=1)
    error = batches.std(axis=0, ddof=1) / 10
    # Twelve numbers, each within four standard errors of batch means, and known to better than two per cent.
    assert (np.abs(rows.mean(axis=0) - wanted) < 4 * error + 1e-3).all()
    assert error.max() < 0.03


def test_evidence_of_dense_currents_alone_is_that_of_a_fine_grid():
    problem = toy(sensors=5, sources=7, samples=5)
    density = Density.of(build(model, problem)[1])
    given = active_model(density, density.observation.currents.focal)
    # Wide and fine enough that neither changes a thousandth of a nat.
    axes = [density.start[0] + np.linspace(-2.5, 2.5, 51), density.start[1] + np.linspace(-3.5, 3.5, 51)]
    nodes = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
    log_prior_of_nodes, variance, noise = density.prior_and_scales(nodes)
    logs = []
    for recording, share in zip(given.recordings, given.log_constants, strict=True):
        for error, part in zip(given.errors, given.log_errors, strict=True):
            shape = error**2 + variance[:, None] * recording.values
            spread = noise[:, None, None] ** 2 + shape[:, :, None] * recording.powers
            square = np.sum(np.log(spread) + recording.coefficients**2 / spread, axis=(1, 2))
            rest = recording.rest_count + recording.baseline_count
            square += 2 * rest * np.log(noise) + (recording.rest + recording.baseline) / noise**2
            logs.append(logsumexp(log_prior_of_nodes + recording.constant - 0.5 * square) + share + part)
    wanted = logsumexp(logs) + np.log(np.prod([axis[1] - axis[0] for axis in axes]))
    # Levels eight nats below the best are left out.
    assert_allclose(dense_log_evidence(given, density.prior_and_scales, density.start), wanted, atol=5e-3)


@pytest.mark.parametrize("axes", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_evidence_by_annealing_is_that_of_all_sets(axes):
    given = tiny(axes, seed=axes)
    _, wanted = enumerated(given)
    ratios = [
        Chain(given, log_prior, np.zeros(1), rng).anneal(30 * axes, lambda: None)
        for rng in np.random.default_rng(3).spawn(16)
    ]
    ratio = annealed_ratio(ratios)
    assert ratio.error < 0.3 * axes
    assert abs(dense_log_evidence(given, log_prior, np.zeros(1)) + ratio - wanted) < 4 * ratio.error


def test_the_error_of_the_evidence_knows_a_chain_that_outweighs_the_others():
    # Of chains that differ little it is the relative error of their mean, of two chains half of what they differ by.
    rng = np.random.default_rng(0)
    near = 0.01 * rng.standard_normal(12)
    assert annealed_ratio(near).error == pytest.approx(near.std(ddof=1) / np.sqrt(12), rel=0.02)
    for apart in (0.1, 4.0, 30.0):
        assert annealed_ratio([7.0, 7.0 + apart]).error == pytest.approx(apart / 2)
    assert annealed_ratio([0.0, -8.0, -9.0]).error > MAX_ERROR


def test_what_one_more_source_adds_is_the_difference_of_two_densities():
    problem = toy(sensors=7, sources=9, samples=6, axes=3)
    density = Density.of(build(model, problem)[1])
    given = active_model(density, density.observation.currents.focal)
    chain = Chain(given, density.prior_and_scales, density.start, np.random.default_rng(0))
    for sweep in range(20):
        chain.sweep(sweep)
    chain.patch[:], chain.level[:] = [3, 8, 5, -1], [16, 14, 18, 20]
    chain._refresh()
    # One that was there and is no more leaves all as if it had never been.
    chain.scan.take(chain.order.index(2))
    found = chain.scan.log_factors(given.strengths[17])
    scales = chain.constant, chain.variance, chain.noise, float(given.errors[chain.error])
    strengths = given.strengths[[16, 14]]
    base = sum(given.log_density(np.array([3, 8]), strengths, *scales))
    for patch in range(0, len(given.log_prior), 4):
        more = sum(given.log_density(np.array([3, 8, patch]), np.r_[strengths, given.strengths[17]], *scales))
        assert_allclose(found[patch], more - base, atol=1e-3)
    levels = chain.scan.log_factors_of(4, given.strengths)
    assert_allclose(levels[17], found[4], atol=1e-3)


@pytest.mark.parametrize("options", [{}, {"quiet": 0}, {"axes": 3}, {"centred": True}])
def test_density_of_a_set_is_that_of_dense_algebra(options):
    problem = toy(sensors=5, sources=7, samples=6, **options)
    density = Density.of(build(model, problem)[1])
    focal = density.observation.currents.focal
    given = active_model(density, focal)
    patches, strengths = np.array([2, 9]), given.strengths[[15, 17]]
    variance, noise, error = problem.scale_guess**2 * 0.1, 1.1, 0.4
    # The chain's unit of currents is the median strength.
    unit = focal.median_strength
    constant = int(np.argmin(np.abs(np.array(focal.constants[0]) - 0.02)))
    found = sum(given.log_density(patches, strengths, constant, variance, noise, error))
    course = focal.correlation(focal.constants[0][constant])
    prior = variance * np.eye(problem.gain.shape[1])
    table = focal.table.toarray()
    for patch, strength in zip(patches, strengths, strict=True):
        for axis in range(problem.axes):
            column = np.zeros(len(prior))
            column[axis :: problem.axes] = table[:, patch]
            prior += (unit * strength) ** 2 * np.outer(column, column)
    total = np.kron(problem.gain @ prior @ problem.gain.T + error**2 * np.eye(5), course)
    total += noise**2 * np.eye(len(total))
    wanted = multivariate_normal(cov=total).logpdf(problem.recording.ravel())
    if problem.baseline is not None:
        freedom = problem.baseline_freedom
        wanted -= 0.5 * (5 * freedom * np.log(2 * np.pi * noise**2) + np.sum(problem.baseline**2) / noise**2)
    # Modes of less than 1e-4 of the strongest's power hold no course here.
    assert_allclose(found, wanted, atol=0.05)
    assert FocalModes.of(problem, 0.02).powers.min() > 0


@pytest.mark.slow
def test_a_noisy_sensor_is_named_beside_a_focal_source():
    rng = np.random.default_rng(5)
    clean = toy(sensors=24, sources=40, samples=60, quiet=60, amplitude=0.0)
    course = np.sin(2 * np.pi * 3 * clean.times)
    recording = rng.normal(size=(24, 60)) + 3 * np.outer(clean.gain[:, 7] / np.linalg.norm(clean.gain[:, 7]), course)
    spoilt = recording.copy()
    spoilt[3] *= 8

    def failed(table):
        problem = bi.Problem.from_arrays(
            clean.gain, table, times=clean.times, baseline=clean.baseline, positions=clean.sources.positions
        )
        found = bi.infer(model, problem, chains=2, sweeps=50, warm=30)
        names = ("effective draws", "R-hat", "chains on places", "room for sources")
        return {one.name: one.note for one in found.checks if not one.passed and one.name not in names}

    assert failed(recording) == {}
    assert any("3" in note for note in failed(spoilt).values())
