"""Chains over active sets against the enumeration of all sets, and what a user sees of them."""

import itertools
from dataclasses import replace
from math import factorial

import numpy as np
import pymc as pm
import pytest
from numpy.testing import assert_allclose
from referee import toy
from scipy.special import betaln, logsumexp
from scipy.stats import multivariate_normal, norm

import bayesinv as bi
from bayesinv.evidence.active import FocalRecording
from bayesinv.evidence.active_modes import FocalModes
from bayesinv.evidence.active_scan import Scan
from bayesinv.inference.active_chain import Chain
from bayesinv.inference.active_checks import MAX_ERROR, _annealing
from bayesinv.inference.active_evidence import annealed_ratio, dense_log_evidence
from bayesinv.inference.active_model import ActiveModel
from bayesinv.inference.active_set import active_model
from bayesinv.prior.catalogue import build
from bayesinv.prior.density import Density
from bayesinv.prior.neighbours import Neighbours

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


def tiny(axes, seed, deviating=False, head=False, levels=2):
    """Tables of a chain that are small enough to go through all that it may visit."""
    rng = np.random.default_rng(seed)
    components, patches, modes, most = 4, 3 if deviating else 5, (3, 2), 2
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
    by_patch = fields.reshape(components, patches, axes).transpose(1, 2, 0)
    return ActiveModel(
        by_patch,
        recordings,
        np.log(rng.dirichlet(5 * np.ones(patches))),
        np.geomspace(0.4, 1.5, levels),
        np.log(np.linspace(0.6, 0.4, levels) / np.linspace(0.6, 0.4, levels).sum()),
        np.array([0.1, 0.8]),
        np.log([0.7, 0.3]),
        Neighbours(np.array([[1, 1], [0, 2], [1, 1]]), rng.normal(size=(3, 1, 2))) if deviating else Neighbours.none(5),
        0.7,
        np.log([0.5, 0.5]),
        (1.0, 1.5),
        most,
        0.5 * rng.normal(size=(patches, 1, axes, components)) if head else None,
    )


def log_prior(nodes):
    """Of the log noise scale, the only coordinate; the variance of dense currents is fixed."""
    return PRIOR.logpdf(nodes[:, 0]), np.full(len(nodes), 0.15), np.exp(np.clip(nodes[:, 0], -9, 9))


def enumerated(given):
    """Probability of every count, patch, time constant and error, and mean log noise, by going through all states.

    And the mean square of the sum of all sources' deviations, half of the head, the share of all strength, and the log
    evidence.
    """
    patches = len(given.log_prior)
    slots = [(-1, 0), *itertools.product(range(patches), range(len(given.strengths)))]
    logs, tables, most = [], [], given.most * given.strengths[-1]
    grid_prior = -0.5 * (NOISE / 0.2) ** 2
    for combination in itertools.combinations_with_replacement(range(len(slots)), given.most):
        repeated = np.unique(combination, return_counts=True)[1]
        ways = factorial(given.most) / np.prod([factorial(n) for n in repeated])
        active = [slots[i] for i in combination if slots[i][0] >= 0]
        count, (a, b) = len(active), given.count_prior
        mass = np.log(ways) + betaln(a + count, b + given.most - count) - betaln(a, b)
        mass += sum(given.log_prior[j] + given.log_strengths[k] for j, k in active)
        held = np.isin(np.arange(patches), [j for j, _ in active]).astype(float)
        fields, total, at, log_weight = _with_heads(given, active)
        for c, e in itertools.product(range(len(given.recordings)), range(len(given.errors))):
            height = mass + given.log_constants[c] + given.log_errors[e] + grid_prior
            height = height + log_weight[:, None] + _log_densities(given.recordings[c], fields, given.errors[e])
            shares = np.exp(height - height.max())
            logs.append(height.max() + np.log(shares.sum()))
            shares /= shares.sum()
            means = shares.sum(axis=1) @ total, shares.sum(axis=1) @ at, shares.sum(axis=0) @ NOISE
            strength = sum(given.strengths[k] for _, k in active) / most
            tables.append(np.r_[np.eye(given.most + 1)[count], held, c, e, means, strength])
    # What all states have in common: the width of the grid, and the prior's constant.
    width = np.log(NOISE[1] - NOISE[0]) - np.log(0.2 * np.sqrt(2 * np.pi))
    weights = np.exp(np.array(logs) - logsumexp(logs))
    return weights @ np.array(tables), float(logsumexp(logs) + width)


def _with_heads(given, active):
    """The same as `_deviating`, at the nodes of Gauss-Legendre quadrature over the head's coordinate, if it has one."""
    if not given.heads:
        made, total, log_weight = _deviating(given, active)
        return made, total, np.zeros(len(made)), log_weight
    nodes, weights = np.polynomial.legendre.leggauss(12)
    weights = weights * np.exp(-0.5 * (2 * nodes) ** 2)
    found = []
    for at, weight in zip(2 * nodes, weights / weights.sum(), strict=True):
        moved = replace(given, by_patch=given.by_patch + at * given.modes_by_patch[:, 0], modes_by_patch=None)
        made, total, log_weight = _deviating(moved, active)
        found.append((made, total, np.full(len(made), at / 2), log_weight + np.log(weight)))
    return tuple(np.concatenate(one) for one in zip(*found, strict=True))


def _deviating(given, active):
    """Fields times strengths of the active sources (node, component, amplitude), the square of the deviations' sum.

    And log weights, at the nodes of Gauss-Hermite quadrature over each source's deviation.
    """
    fields = given.by_patch.transpose(2, 0, 1)
    strengths = [given.strengths[level] for _, level in active]
    if not given.neighbours.count:
        made = [v * fields[:, j] for (j, _), v in zip(active, strengths, strict=True)]
        return np.concatenate([np.empty((len(fields), 0)), *made], axis=1)[None], np.zeros(1), np.zeros(1)
    nodes, weights = np.polynomial.hermite_e.hermegauss(9)
    picked = np.array([*itertools.product(range(len(nodes)), repeat=len(active))], dtype=int)
    made = [np.empty((len(picked), len(fields), 0))]
    for (j, _), v, at in zip(active, strengths, picked.T, strict=True):
        one = np.repeat(fields[None, :, j], len(picked), axis=0)
        for other, share in zip(given.neighbours.patches[j], given.neighbours.directions[j, 0], strict=True):
            one += given.deviation * share * nodes[at, None, None] * (fields[:, other] - fields[:, j])
        made.append(v * one)
    total = given.deviation * nodes[picked].sum(axis=1)
    return np.concatenate(made, axis=2), total**2, np.log(weights / weights.sum())[picked].sum(axis=1)


def _log_densities(recording, fields, error):
    """Log density (node, noise) of a recording, whose covariance is diagonalised by dense algebra at every node."""
    noise = np.exp(2 * NOISE)[:, None, None]
    shape = np.diag(error**2 + 0.15 * recording.values) + fields @ fields.transpose(0, 2, 1)
    values, vectors = np.linalg.eigh(shape)
    squares = (vectors.transpose(0, 2, 1) @ recording.coefficients) ** 2
    spread = noise + (values[:, :, None] * recording.powers)[:, None]
    found = -0.5 * np.sum(squares[:, None] / spread + np.log(2 * np.pi * spread), axis=(2, 3))
    noise, rest = noise.ravel(), recording.rest_count
    return found - 0.5 * (rest * np.log(2 * np.pi * noise) + recording.rest / noise)


def visited(given, draws, seed=1):
    """The same by a chain, each draw in a row."""
    chain = Chain(given, log_prior, np.zeros(1), np.random.default_rng(seed))
    chain.anneal(100, lambda: None)
    found = chain.run(draws, lambda: None)
    patches, most = len(given.log_prior), given.most * given.strengths[-1]
    rows = []
    for i, (patch, constant, error) in enumerate(zip(found.patch, found.constant, found.error, strict=True)):
        held = np.isin(np.arange(patches), patch)
        level = float(np.flatnonzero(given.errors == error)[0])
        total = found.deviation[i].sum()
        at = found.head[i].sum() / 2
        numbers = constant, level, total**2, at, *found.points[i], found.strength[i].sum() / most
        rows.append(np.r_[np.eye(given.most + 1)[len(patch)], held, numbers])
    return np.array(rows, dtype=float)


def assert_visited(rows, wanted):
    """A dozen numbers, each within four standard errors of batch means, and known to better than 1.5 per cent."""
    batches = rows.reshape(-1, 30, rows.shape[1]).mean(axis=1)
    error = batches.std(axis=0, ddof=1) / np.sqrt(len(batches))
    assert (np.abs(rows.mean(axis=0) - wanted) < 4 * error + 1e-3).all()
    assert error.max() < 0.015


@pytest.mark.slow
@pytest.mark.parametrize(
    ("axes", "deviating", "head", "draws"), [(3, False, False, 1200), (1, True, False, 3000), (1, False, True, 2400)]
)
def test_a_chain_visits_sets_as_often_as_they_are_probable(axes, deviating, head, draws):
    given = tiny(axes, axes, deviating, head)
    wanted, _ = enumerated(given)
    assert_visited(visited(given, draws, seed=2 if head else 1), wanted)


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("axes", "levels", "deviating", "head"), [(1, 9, False, False), (1, 2, False, True), (1, 2, True, False)]
)
def test_so_does_one_that_looks_at_some_patches_at_a_time(monkeypatch, axes, levels, deviating, head):
    monkeypatch.setattr("bayesinv.inference.active_tables.LIKELY", 2)
    monkeypatch.setattr("bayesinv.inference.active_tables.OTHERS", 1)
    monkeypatch.setattr("bayesinv.inference.active_slot.EXACT", 1)
    if deviating:
        monkeypatch.setattr("bayesinv.inference.active_tables.LIKELY", 1)
    given = tiny(axes, axes, deviating, head, levels)
    assert [len(given.parts.patches(i)) for i in range(given.parts.count)] == ([2, 2] if deviating else [3, 3, 3])
    wanted, _ = enumerated(given)
    assert_visited(visited(given, 3000 if deviating else 2400), wanted)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("axes", "deviating", "head"), [(1, False, False), (1, True, False), (3, False, False), (1, False, True)]
)
def test_evidence_by_annealing_is_that_of_all_sets(axes, deviating, head):
    given = tiny(axes, axes, deviating, head)
    _, wanted = enumerated(given)
    ratios = [
        Chain(given, log_prior, np.zeros(1), rng).anneal(40 * axes, lambda: None)
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
    # It matters beside what it is to tell.
    assert not _annealing(annealed_ratio([8.0, 0.0, -1.0])).passed
    assert _annealing(annealed_ratio([208.0, 200.0, 199.0])).passed


def test_what_one_more_source_adds_is_the_difference_of_two_densities():
    problem = toy(sensors=7, sources=9, samples=6, axes=3)
    density = Density.of(build(model, problem)[1])
    given = active_model(density, density.observation.currents.focal)
    chain = Chain(given, density.prior_and_scales, density.start, np.random.default_rng(0))
    for sweep in range(20):
        chain.sweep(sweep)
    deviations = 0.4 * np.random.default_rng(1).standard_normal(chain.deviation.shape)
    for slot, (patch, level) in enumerate([(3, 16), (8, 14), (5, 18), (-1, 20)]):
        chain.hold(slot, patch, level, deviations[slot])
    chain.refresh()
    # One that was there and is no more leaves all as if it had never been.
    chain.scan.take(chain.order.index(2))
    found = chain.scan.log_factors(given.strengths[[17]])[0]
    scales = chain.constant, chain.variance, chain.noise, float(given.errors[chain.error])
    active = [given.strengths[16] * chain.fields[0], given.strengths[14] * chain.fields[1]]
    base = sum(given.log_density(np.hstack(active), *scales))

    def added(patch, deviation, level=17):
        field = given.strengths[level] * given.field(patch, deviation)
        return sum(given.log_density(np.hstack([*active, field]), *scales)) - base

    straight = np.zeros(given.neighbours.count)
    for patch in range(0, len(given.log_prior), 4):
        assert_allclose(found[patch], added(patch, straight), atol=1e-3)
    # And as a function of how sources deviate, with its slopes.
    some = np.array([4, 11])
    products = chain.scan.deviations(given.neighbours.fields_along(given.of_patches, some))
    strengths = given.strengths[[17, 17]]
    exact = [added(patch, deviation) for patch, deviation in zip(some, deviations, strict=False)]
    assert_allclose(products.log_factors(deviations[:2], strengths), exact, atol=1e-8)
    levels = products.profiles(deviations[:2], given.strengths)
    assert_allclose(levels[9], [added(*one, 9) for one in zip(some, deviations, strict=False)], atol=1e-8)
    factors, gradient, _ = products.expansion(deviations[:2], strengths)
    assert_allclose(factors, exact, atol=1e-8)
    for direction, step in enumerate(1e-5 * np.eye(given.neighbours.count)):
        ahead, behind = (products.log_factors(deviations[:2] + way * step, strengths) for way in (1, -1))
        assert_allclose(gradient[:, direction], (ahead - behind) / 2e-5, rtol=1e-4, atol=1e-5)


def test_tables_are_those_of_what_is_active_whatever_came_and_went():
    problem = toy(sensors=7, sources=9, samples=6)
    density = Density.of(build(model, problem)[1])
    given = active_model(density, density.observation.currents.focal)
    rng = np.random.default_rng(0)
    pool = [given.field(patch, rng.normal(size=given.neighbours.count)) for patch in range(6)]
    recording = given.recordings[3]
    spread = recording.spread(0.1 * problem.scale_guess**2, 1.1, 0.3)
    at = recording, spread
    scan, order = Scan(given.tables(0).fields, given.tables(0).pairs), []
    scan.begin(*at)
    for _ in range(60):
        one = int(rng.integers(6))
        if one in order:
            scan.take(order.index(one))
            order[order.index(one)] = order[-1]
            del order[-1]
        else:
            scan.put([pool[one]], given.strengths[[15 + one]])
            order.append(one)
        anew = Scan(given.tables(0).fields, given.tables(0).pairs)
        anew.begin(*at)
        anew.put([pool[one] for one in order], given.strengths[[15 + one for one in order]])
        assert_allclose(scan.log_factors(np.array([2.0])), anew.log_factors(np.array([2.0])), atol=1e-3)
        assert_allclose(scan.columns, anew.columns)


@pytest.mark.slow
def test_deviations_are_proposed_with_the_density_that_is_said():
    problem = toy(sensors=7, sources=9, samples=6)
    density = Density.of(build(model, problem)[1])
    given = active_model(density, density.observation.currents.focal)
    chain = Chain(given, density.prior_and_scales, density.start, np.random.default_rng(0))
    products = chain.scan.deviations(given.neighbours.fields_along(given.of_patches, np.array([2, 12])))
    strengths, spread = given.strengths[[20, 20]], 0.6
    proposal = products.proposal(strengths, 1.0, spread)
    rng = np.random.default_rng(1)
    # The integral of what a source adds by importance sampling, whose weights are bounded if the density is right.
    logs = []
    for _ in range(4000):
        one = proposal.draw(1, rng)
        exact = products.picked(np.array([1])).log_factors(one[None], strengths[1:])[0]
        logs.append(exact + norm.logpdf(one, scale=spread).sum() - proposal.log_density(1, one))
    shares = np.exp(logs - np.max(logs))
    assert shares.sum() ** 2 / np.sum(shares**2) > 1500
    # By draws from the prior, as a referee that knows nothing of the proposal.
    plain = spread * rng.standard_normal((20000, given.neighbours.count))
    both = np.repeat(np.array([1]), len(plain))
    straight = products.picked(both).log_factors(plain, np.repeat(strengths[:1], len(plain)))
    wanted = logsumexp(straight) - np.log(len(plain))
    error = np.exp(straight - logsumexp(straight)) @ np.exp(straight - logsumexp(straight))
    assert abs(logsumexp(logs) - np.log(len(logs)) - wanted) < 4 * np.sqrt(error) + 0.05
    assert abs(proposal.log_mass[1] - wanted) < 0.5


@pytest.mark.parametrize(
    "options", [{}, {"quiet": 0}, {"axes": 3}, {"axes": 3, "head": (0.7, -1.1)}, {"centred": True}]
)
def test_density_of_a_set_is_that_of_dense_algebra(options):
    head = np.array(options.pop("head", ()))
    problem = toy(sensors=5, sources=7, samples=6, **options)
    modes = 0.4 * np.random.default_rng(3).normal(size=(len(head), *problem.gain.shape))
    problem = replace(problem, gain_modes=modes * np.abs(problem.gain).mean()) if len(head) else problem
    density = Density.of(build(model, problem)[1])
    focal = density.observation.currents.focal
    given = active_model(density, focal).in_head(head)
    patches, strengths = np.array([2, 9]), given.strengths[[15, 17]]
    variance, noise, error = problem.scale_guess**2 * 0.1, 1.1, 0.4
    # The chain's unit of currents is the median strength.
    unit = focal.median_strength
    constant = int(np.argmin(np.abs(np.array(focal.constants[0]) - 0.02)))
    deviations = np.random.default_rng(2).normal(size=(2, given.neighbours.count))
    fields = [v * given.field(j, one) for j, v, one in zip(patches, strengths, deviations, strict=True)]
    if len(head):
        varied = given.field_modes(9, deviations[1])
        assert_allclose(given.nominal.field(9, deviations[1]) + np.tensordot(head, varied, 1), fields[1] / strengths[1])
        wanted = given.of_patches(np.arange(14)).transpose(2, 1, 0)
        assert_allclose(
            given.nominal.tables(0).in_head(head).fields, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max()
        )
    found = sum(given.log_density(np.hstack(fields), constant, variance, noise, error))
    course = focal.correlation(focal.constants[0][constant])
    # Dense currents have the mean gain, sources that of the head.
    gain = problem.gain if not len(head) else problem.gain + np.tensordot(head, problem.gain_modes, axes=1)
    total = np.kron(variance * problem.gain @ problem.gain.T + error**2 * np.eye(5), course)
    for pattern, strength in zip(focal.patterns(patches, deviations).toarray().T, strengths, strict=True):
        for axis in range(problem.axes):
            field = unit * strength * gain[:, axis :: problem.axes] @ pattern
            total += np.kron(np.outer(field, field), course)
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
    # With more sources than these, a few of them imitate a sensor.
    clean = toy(sensors=24, sources=12, samples=60, quiet=60, amplitude=0.0)
    course = np.sin(2 * np.pi * 3 * clean.times)
    recording = rng.normal(size=(24, 60)) + 3 * np.outer(clean.gain[:, 7] / np.linalg.norm(clean.gain[:, 7]), course)
    spoilt = recording.copy()
    spoilt[3] *= 8

    def failed(table):
        problem = bi.Problem.from_arrays(
            clean.gain, table, times=clean.times, baseline=clean.baseline, positions=clean.sources.positions
        )
        found = bi.infer(model, problem, chains=2, sweeps=50, warm=30)
        names = ("effective draws", "R-hat", "chains on places", "room for sources", "error of the evidence")
        return {one.name: one.note for one in found.checks if not one.passed and one.name not in names}

    assert failed(recording) == {}
    assert any("sensor 3 " in note for note in failed(spoilt).values())


def test_same_seed_same_chains():
    problem = toy(sensors=5, sources=7, samples=6)
    one, other, third = (
        bi.infer(model, problem, chains=2, sweeps=50, warm=5, rng=np.random.default_rng(seed)) for seed in (3, 3, 4)
    )
    # The same sets; sums may round otherwise where tables lie elsewhere in memory.
    assert np.array_equal(one.active.patch, other.active.patch)
    assert np.array_equal(one.active.node, other.active.node)
    assert_allclose(one.mean, other.mean, rtol=0, atol=1e-9 * np.abs(other.mean).max())
    assert_allclose(one.log_evidence, other.log_evidence, rtol=1e-12)
    assert np.abs(one.mean - third.mean).max() > 1e-3 * np.abs(one.mean).max()


@pytest.mark.slow
def test_chains_run_on_until_they_agree_up_to_a_bound(monkeypatch):
    answers = iter([True, False, True, False, False])
    monkeypatch.setattr("bayesinv.inference.active_set.PART", 10)
    monkeypatch.setattr("bayesinv.inference.active_set.PARTS", 5)
    monkeypatch.setattr("bayesinv.inference.active_set.agree", lambda *_: next(answers, False))
    problem = toy(sensors=5, sources=7, samples=5)
    found = [bi.infer("focal", problem, chains=2, warm=5, rng=np.random.default_rng(1)) for _ in range(3)]
    assert [len(one.hyper["noise"].draws) for one in found] == [20, 40, 100]
    # As many sweeps at once give the same chains.
    whole = bi.infer("focal", problem, chains=2, warm=5, sweeps=50, rng=np.random.default_rng(1))
    assert_allclose(found[2].hyper["noise"].draws, whole.hyper["noise"].draws)
    assert_allclose(found[2].mean, whole.mean)
