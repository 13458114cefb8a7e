"""Estimates and posteriors of one recording side by side."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pymc as pm
import pytest
from numpy.testing import assert_allclose
from referee import dense_mixture, toy
from scipy.special import logsumexp

from bayesinv import Currents, Problem, Sources, figures, infer
from bayesinv.classical.baseline import baseline
from bayesinv.classical.minimum_norm import tikhonov
from bayesinv.criticism.averaging import average
from bayesinv.criticism.comparison import blocks_of, compare
from bayesinv.criticism.densities import block_densities, component_densities
from bayesinv.criticism.estimates import compare_estimates
from bayesinv.criticism.leave_out import LeftOut, _coordinates, _extrapolated, _smoothed
from bayesinv.criticism.prior_draws import Prior
from bayesinv.inference.assemble import mixture
from bayesinv.inference.integration import integrate
from bayesinv.posterior.checks import Check
from bayesinv.prior.catalogue import build
from bayesinv.prior.density import Density


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(20)
    gain = rng.standard_normal((9, 16))
    sources = Sources(rng.standard_normal((16, 3)) / 20)
    recording = gain[:, [4]] * np.array([1.0, 8.0, 3.0]) + rng.standard_normal((9, 3))
    return Problem(gain, recording, np.array([0.01, 0.02, 0.03]), sources=sources)


@pytest.fixture(scope="module")
def results(problem):
    return {
        "plain": tikhonov(problem, 2.0),
        "sLORETA": baseline(problem, "sLORETA"),
        "LCMV": baseline(problem, "LCMV", covariance="recording"),
        "hierarchical": infer("hierarchical", problem),
        "fixed": infer("minimum_norm", problem),
    }


def test_rows_hold_what_the_results_say(problem, results):
    table = compare_estimates(results)
    assert table.time == 0.02
    assert table["sLORETA"].peak == 4
    assert_allclose(table["sLORETA"].position, problem.sources.positions[4])
    assert table["plain"].lam == results["plain"].lam
    assert_allclose(table["plain"].snr, np.sqrt(problem.signal_power / results["plain"].lam), rtol=1e-10)
    assert table["plain"].lam_interval is None
    assert table["plain"].log_evidence is None
    row, posterior = table["hierarchical"], results["hierarchical"]
    assert row.lam_interval == posterior.hyper["lambda"].interval(0.9)
    assert row.lam_interval[0] < row.lam < row.lam_interval[1]
    assert row.log_evidence == float(posterior.log_evidence)
    assert row.goodness_of_fit == posterior.goodness_of_fit
    assert_allclose(row.height, np.abs(posterior.mean[:, 1]).max())
    assert table["fixed"].lam_interval is None
    assert table["LCMV"].lam is None
    assert table["LCMV"].goodness_of_fit is None
    size = np.abs(results["plain"].current[:, 1])
    distance = np.linalg.norm(problem.sources.positions - problem.sources.positions[size.argmax()], axis=1)
    assert_allclose(table["plain"].spread, np.sqrt(np.sum((size * distance) ** 2) / np.sum(size**2)))


def test_the_table_reads(results):
    text = str(compare_estimates(results, 0.02))
    assert text.startswith("at 20 ms\nname")
    assert len(text.splitlines()) == 7
    assert "nA m" in text


def test_the_figure_has_a_row_per_result(problem, results):
    figure = figures.comparison(compare_estimates(results))
    assert len(figure.axes) == 3 * 5 + 1
    assert [figure.axes[3 * i].get_ylabel() for i in range(5)] == list(results)
    limits = {axes.collections[0].get_clim() for axes in figure.axes[:-1]}
    assert limits == {(0.0, 1.0)}
    figure.canvas.draw()


def test_without_positions_the_maps_are_curves(problem):
    bare = Problem(problem.gain, problem.recording, problem.times)
    table = compare_estimates({"a": tikhonov(bare, 1.0)})
    assert table["a"].position is None
    assert table["a"].spread is None
    assert len(figures.comparison(table).axes) == 1


def test_says_what_is_wrong(problem, results, rng):
    with pytest.raises(ValueError, match="there is nothing to compare"):
        compare_estimates({})
    with pytest.raises(ValueError, match="'a' is of type float"):
        compare_estimates({"a": 1.0})
    other = Problem(problem.gain, problem.recording + 1, problem.times)
    with pytest.raises(ValueError, match="'b' is of another recording or other sources than 'plain'"):
        compare_estimates({**results, "b": tikhonov(other, 1.0)})
    with pytest.raises(ValueError, match=r"no sample near 0.5 s; the recording runs from 0.01 to 0.03 s"):
        compare_estimates(results, 0.5)
    with pytest.raises(KeyError, match="nothing named 'c'"):
        compare_estimates(results)["c"]


@pytest.fixture(scope="module")
def recorded():
    return toy(1, sensors=8, sources=15, samples=12)


@pytest.fixture(scope="module")
def posteriors(recorded):
    return {name: infer(name, recorded, draws=4000) for name in ("minimum_norm", "hierarchical", "temporal")}


@pytest.fixture(scope="module")
def few(posteriors):
    """Those of one structure, which are compared in less time."""
    return {name: posteriors[name] for name in ("minimum_norm", "hierarchical")}


@pytest.fixture(scope="module")
def compared(posteriors):
    return compare(posteriors)


def by_nodes(posterior, densities):
    """Leave-one-out densities with every node of the lattice weighted by its posterior without the part."""
    density = Density.of(build(posterior.model, posterior.problem)[1])
    lattice = integrate(density)
    every, _ = mixture(density, lattice.weights, lattice.nodes, merged=0.0)
    table = densities(replace(posterior, hyper=replace(posterior.hyper, scales=every)), len(every.weights))
    weights = every.weights / every.weights.sum()
    assert len(table) == len(weights)
    log_ratio = np.log(weights, out=np.full(len(weights), -np.inf), where=weights > 0)[:, None] - table
    share = np.exp(log_ratio - logsumexp(log_ratio, axis=0))
    return np.log(np.sum(share * np.exp(table), axis=0))


@pytest.mark.parametrize("name", ["hierarchical", pytest.param("temporal", marks=pytest.mark.slow)])
def test_smoothed_importance_sampling_agrees_with_the_nodes(recorded, name):
    parts = blocks_of(recorded, 0.03)
    posterior = infer(name, recorded, draws=8000)
    found = compare({name: posterior}, block=0.03, draws=8000)
    # Ratios of a relative sd of up to 2 are off by 2 / sqrt(8000) nats; three of these.
    error = 3 * 2 / np.sqrt(8000)
    # A draw has the nearest of a few structures, which moves the tail of a time constant.
    error += 0.05 if name == "temporal" else 0.0
    exact = by_nodes(posterior, component_densities)
    assert_allclose(found.components.log_density[0], exact, atol=error)
    exact = by_nodes(posterior, lambda one, count: block_densities(one, count, parts))
    assert_allclose(found.blocks.log_density[0], exact, atol=error)
    assert found.blocks.khat.max() < 0.7
    assert not found.warnings


def without(problem, block):
    remaining = np.ones(len(problem.times), dtype=bool)
    remaining[block] = False
    return problem.again(problem.recording[:, remaining], problem.times[remaining], problem.baseline)


def test_a_block_left_out_is_the_difference_of_evidence(posteriors, recorded):
    """p(block | rest) is a ratio of evidences: the model is inferred anew without the block."""
    posterior = posteriors["hierarchical"]
    found = compare({"a": posterior}, block=0.03, draws=4000).blocks
    for k, block in enumerate(blocks_of(recorded, 0.03)):
        difference = posterior.log_evidence - infer("hierarchical", without(recorded, block)).log_evidence
        assert_allclose(found.log_density[0, k], difference, atol=0.05)


@pytest.mark.parametrize(
    ("name", "atol"), [("hierarchical", 1.0), pytest.param("depth_weighted", 2.5, marks=pytest.mark.slow)]
)
def test_where_importance_sampling_fails_a_gaussian_takes_over(name, atol):
    """One block has a larger amplitude than the others: without it the scales lie outside the range of the draws.

    A depth exponent near its bound has no Gaussian posterior, and the answer is less accurate.
    """
    problem = toy(1, sensors=20, sources=45, samples=150, quiet=40)
    blocks = blocks_of(problem)
    envelope = 1 + 0.6 * (np.arange(150) // 15 == 3)
    problem = problem.again(problem.recording * envelope, problem.times, problem.baseline)
    posterior = infer(name, problem)
    found = compare({"a": posterior}, draws=4000, refit="never").blocks
    assert found.khat[0].argmax() == 3
    assert found.gaussian[0, 3]
    assert "of the 10 blocks weigh too much" in found.warnings[0]
    assert "a Gaussian posterior of these was used instead" in found.warnings[0]
    difference = posterior.log_evidence - infer(name, without(problem, blocks[3])).log_evidence
    assert_allclose(found.log_density[0, 3], difference, atol=atol)
    # Importance sampling alone is several nats off.
    assert _smoothed(block_densities(posterior, 500, blocks), 1)[0][3] - difference > 4


@pytest.mark.parametrize(("weight", "trusted"), [(3.0, True), (40.0, False)])
def test_a_time_constant_given_twice_is_one_and_must_not_move_far(weight, trusted):
    """A Gaussian posterior, and a part that is Gaussian in the logarithm of a time constant: known in closed form."""
    rng = np.random.default_rng(0)
    logs = -3.5 + 0.1 * rng.standard_normal(4000)
    logs = -3.5 + 0.1 * (logs - logs.mean()) / logs.std()
    scales = SimpleNamespace(variance=np.exp(0.05 * rng.standard_normal(4000)), noise=np.ones(4000))
    hyper = {"log_constant": logs, "constant": np.exp(logs)}
    posterior = SimpleNamespace(hyper=SimpleNamespace(draws=hyper, scales=scales, chains=1))
    density = (weight * (logs + 3.4) - 0.5 * weight * (logs + 3.4) ** 2)[:, None]
    found, believed = _extrapolated(density, _coordinates(posterior, 4000))
    assert believed.tolist() == [trusted]
    # -log E[1 / p] over z ~ Normal(0, 1), log p = a + g z + h z² / 2.
    gradient, curvature = 0.1 * weight * (1 + 0.1), -(0.1**2) * weight
    constant = -weight * 0.1 - 0.5 * weight * 0.1**2
    exact = constant + 0.5 * (np.log1p(curvature) - gradient**2 / (1 + curvature))
    assert_allclose(found[0], exact, rtol=1e-2)


def test_what_neither_carries_is_said():
    problem = toy(1, sensors=20, sources=45, samples=150, quiet=40)
    envelope = 1 + 2 * (np.arange(150) // 15 == 3)
    posterior = infer("hierarchical", problem.again(problem.recording * envelope, problem.times, problem.baseline))
    found = compare({"a": posterior}, refit="never")
    assert found.blocks.khat[0].argmax() == 3
    assert not found.blocks.gaussian[0, 3]
    assert "cannot be relied upon" in found.warnings[-1]


def test_bayes_factors_are_differences_of_evidence(posteriors, few, compared):
    found = compared
    best = max(one.log_evidence for one in posteriors.values())
    for name, one in posteriors.items():
        assert_allclose(found[name].log_bayes_factor, float(one.log_evidence) - float(best), rtol=1e-12)
        assert found[name].log_bayes_factor_error <= one.log_evidence.error + best.error
    evidence = np.array([float(one.log_evidence) for one in posteriors.values()])
    assert_allclose(list(found.probabilities.values()), np.exp(evidence - logsumexp(evidence)), rtol=1e-9)
    fixed = posteriors["minimum_norm"]
    assert found["minimum_norm"].components_khat == 0
    assert_allclose(found.components.log_density[0], component_densities(fixed, 1)[0])
    without_evidence = {**few, "hierarchical": replace(few["hierarchical"], log_evidence=None)}
    found = compare(without_evidence)
    assert found.probabilities is None
    assert found["hierarchical"].log_bayes_factor is None
    assert found["minimum_norm"].log_bayes_factor is not None
    assert found.cells()[1][1:3] == ("", "")


@pytest.fixture
def of_coloured_noise(few):
    """The posteriors, one of which has failed a check of the noise over time."""
    failed = Check("noise over time, baseline", 0.8, "at most 0.1", False)
    one = few["hierarchical"]
    return {**few, "hierarchical": replace(one, checks=(*one.checks, failed))}


def test_models_of_coloured_noise_are_shown_but_not_ranked(few, of_coloured_noise):
    found, right = compare(of_coloured_noise), compare(few)
    assert not right.unranked
    failed = "noise over time, baseline failed for hierarchical"
    for word in ("not ranked", failed, 'noise_time="auto"', 'coloured="rank"'):
        assert word in found.unranked
        assert word in str(found)
    for name in few:
        assert found[name].log_evidence == right[name].log_evidence
        assert_allclose(found[name].components_elpd, right[name].components_elpd)
        assert_allclose(found[name].blocks_elpd, right[name].blocks_elpd)
        for what in ("difference", "difference_se", "weight", "pseudo_weight"):
            assert getattr(right[name], f"components_{what}") is not None
            assert getattr(found[name], f"components_{what}") is None
            assert getattr(found[name], f"blocks_{what}") is None
        assert found[name].log_bayes_factor is found[name].log_bayes_factor_error is None
    assert [cell[2] for cell in found.cells()] == ["", ""]
    for what in ("weights", "probabilities"):
        with pytest.raises(ValueError, match="models are not ranked"):
            getattr(found, what)
    figure = figures.model_comparison(found)
    figure.canvas.draw()
    assert not figure.axes[1].patches
    assert "less that of minimum_norm" in figure.axes[0].get_xlabel()
    told = compare(of_coloured_noise, coloured="rank")
    assert not told.unranked
    assert told.rows == right.rows
    with pytest.raises(ValueError, match="no way with coloured noise named 'hide'"):
        compare(few, coloured="hide")


@pytest.mark.parametrize("weights", ["evidence", "stacking"])
def test_models_of_coloured_noise_are_not_averaged_by_rank(few, of_coloured_noise, weights):
    with pytest.raises(ValueError, match=r"models are not ranked.*or give weights as numbers"):
        average(of_coloured_noise, weights)
    told = average(of_coloured_noise, weights, coloured="rank")
    assert_allclose(told.hyper["model"].mean, average(few, weights).hyper["model"].mean)
    assert_allclose(average(of_coloured_noise, [1, 3]).hyper["model"].mean, 0.75)


def table_of(values):
    values = np.asarray(values, dtype=float)
    names = tuple("abcdef"[: len(values)])
    parts = tuple(map(str, range(values.shape[1])))
    no, zero = values > np.inf, np.zeros(len(values))
    return LeftOut("components", names, values, 0 * values, zero + 1, no, no, parts, zero, ("",) * len(values))


def test_stacking_says_most_of_what_was_left_out(rng):
    values = rng.normal(size=(2, 40)) - 1
    found = table_of(values)
    grid = np.linspace(0, 1, 20001)
    score = np.sum(np.log(grid[:, None] * np.exp(values[0]) + (1 - grid)[:, None] * np.exp(values[1])), axis=1)
    assert_allclose(found.weights[0], grid[score.argmax()], atol=1e-3)
    # A constant of each part changes nothing, however large; neither does another unit of the recording.
    assert_allclose(table_of(values - 5000 * rng.random(40)).weights, found.weights, atol=1e-6)
    assert_allclose(table_of(np.repeat(values[:1], 3, axis=0)).weights, 1 / 3)


@pytest.mark.filterwarnings("ignore:The inplace keyword")
def test_stacking_and_errors_are_those_of_arviz(rng):
    import arviz_stats
    import xarray as xr

    base = rng.normal(size=30) - 1.0
    tables = {
        name: base + shift * rng.normal(size=30) + 0.02 * rng.normal(size=(400, 30))
        for name, shift in (("a", 0.3), ("b", 0.6), ("c", 0.6))
    }
    trees = {}
    for name, values in tables.items():
        pointwise = xr.Dataset({"recording": (("chain", "draw", "part"), values[None])})
        trees[name] = xr.DataTree.from_dict(
            {"posterior": xr.Dataset({"x": (("chain", "draw"), values[None, :, 0])}), "log_likelihood": pointwise}
        )
    theirs = arviz_stats.compare(trees)
    ours = table_of([np.asarray(arviz_stats.loo(trees[name], pointwise=True).elpd_i) for name in tables])
    theirs = theirs.loc[list(tables)]
    # Newer tables are rounded to two digits.
    assert_allclose(ours.weights, theirs["weight"], atol=6e-3)
    assert_allclose(ours.se, theirs["se"], rtol=0.05)
    dse = [float(value) for value in theirs["dse"]]
    assert_allclose(ours.difference_se, dse, rtol=0.05, atol=1e-12)
    assert_allclose(ours.pseudo_weights.sum(), 1)


def test_what_made_the_recording_is_preferred():
    """Recordings of a slow prior and of one without memory: evidence and leave-one-out identify the prior of each."""
    rng = np.random.default_rng(7)

    def fixed(**shape):
        def model(problem):
            with pm.Model(coords=problem.coords) as built:
                Currents(4 / problem.signal_power, **shape).observe("recording", problem, noise=1.0)
            return built

        return model

    models = {"slow": fixed(time=0.05), "quick": fixed()}
    problem = toy(2, sensors=12, sources=25, samples=40, noise_time="white")
    for truth in models:
        _, made = Prior.of(models[truth], problem, 1).truth(0, rng)
        found = compare({name: infer(model, made) for name, model in models.items()}, over="blocks")
        other = next(name for name in models if name != truth)
        assert found[truth].log_bayes_factor == 0 > found[other].log_bayes_factor + 10
        assert found[truth].blocks_difference == 0 > found[other].blocks_difference
        assert found.weights[truth] > 0.9
        assert_allclose(sum(found.weights.values()), 1)
        assert_allclose(found.components.weights.sum(), 1)


def test_blocks_cover_the_recording_once(recorded):
    for length in (None, 0.01, 0.025, 0.05, 0.11):
        blocks = blocks_of(recorded, length)
        assert [i for block in blocks for i in range(block.start, block.stop)] == list(range(12))
    assert [block.stop - block.start for block in blocks_of(recorded, 0.05)] == [5, 7]
    assert len(blocks_of(recorded)) == 10
    assert len(blocks_of(toy(samples=1))) == 1


def test_the_models_table_and_figure_read(posteriors, compared):
    found = compared
    lines = str(found).splitlines()
    assert lines[0].startswith("model")
    assert [line.split()[0] for line in lines[1:4]] == list(posteriors)
    assert "exact" in lines[1]
    figure = figures.model_comparison(found)
    assert len(figure.axes) == 3
    figure.canvas.draw()
    one = infer("minimum_norm", toy(samples=1))
    found = compare({"a": one})
    assert found.blocks is None
    assert found["a"].blocks_elpd is None
    assert len(figures.model_comparison(found).axes) == 2
    with pytest.raises(ValueError, match="the recording is one block"):
        compare({"a": one}, over="blocks")


def test_an_average_has_the_moments_of_total_probability(posteriors):
    two = {name: posteriors[name] for name in ("minimum_norm", "hierarchical")}
    share = np.array([0.3, 0.7])
    found = average(two, share)
    means, seconds = [], []
    for one in two.values():
        weights, centres, covariances = dense_mixture(one)
        means.append(np.einsum("n,nat->at", weights, centres))
        inside = np.einsum("n,naa->a", weights, covariances)[:, None]
        seconds.append(inside + np.einsum("n,nat->at", weights, centres**2))
    mean = np.tensordot(share, means, axes=1)
    assert_allclose(found.mean, mean, rtol=1e-8, atol=1e-8 * np.abs(mean).max())
    assert_allclose(found.sd, np.sqrt(np.tensordot(share, seconds, axes=1) - mean**2), rtol=1e-5)
    low, high = found.interval(0.8)
    inside = found.draw(4000, np.random.default_rng(1))
    assert_allclose(np.mean((inside >= low) & (inside <= high)), 0.8, atol=0.01)
    assert_allclose(inside.mean(axis=0), mean, atol=5 * found.sd.max() / np.sqrt(4000))
    assert_allclose(found.peak().probability.sum(), 1)
    region = found.region({"a": [1, 4]})
    assert_allclose(region.mean[0], mean[[1, 4]].mean(axis=0), rtol=1e-8)


def test_an_average_weighs_by_evidence_stacking_or_as_told(posteriors, compared):
    evidence = np.array([float(one.log_evidence) for one in posteriors.values()])
    found = average(posteriors)
    assert_allclose(found.log_evidence, logsumexp(evidence) - np.log(3))
    model = found.hyper["model"]
    probability = np.exp(evidence - logsumexp(evidence))
    assert_allclose(model.mean, probability @ np.arange(3), rtol=1e-9)
    assert_allclose(model.draws.mean(), probability @ np.arange(3), atol=2e-3)
    before = {"temporal": 0.0, "minimum_norm": 0.9, "hierarchical": 0.1}
    found = average(posteriors, prior=before)
    assert_allclose(found.log_evidence, logsumexp(evidence[:2] + np.log([0.9, 0.1])))
    stacked = average(posteriors, "stacking")
    assert stacked.log_evidence is None
    expected = np.array(list(compared.weights.values())) @ np.arange(3)
    assert_allclose(stacked.hyper["model"].mean, expected, rtol=1e-9)
    mean = 0.25 * posteriors["temporal"].mean + 0.75 * posteriors["minimum_norm"].mean
    mixed = average(posteriors, {"temporal": 1, "minimum_norm": 3, "hierarchical": 0})
    assert_allclose(mixed.mean, mean, rtol=1e-9, atol=1e-9 * np.abs(mean).max())
    assert set(mixed.hyper) == {"lambda", "snr", "model"}
    assert len(mixed.hyper.draws["snr"]) == len(mixed.hyper.scales.noise) == 4000


def test_an_average_of_one_is_itself(posteriors):
    one = posteriors["hierarchical"]
    found = average({"a": one})
    assert_allclose(found.mean, one.mean)
    assert_allclose(found.sd, one.sd)
    assert found.hyper["scale"].interval() == one.hyper["scale"].interval()
    assert_allclose(float(found.log_evidence), float(one.log_evidence))


def test_models_of_other_recordings_are_refused(posteriors, recorded, rng):
    one = posteriors["minimum_norm"]
    for other, words in (
        (recorded.again(recorded.recording + 1, baseline=recorded.baseline), "'b' has another recording than 'a'"),
        (
            recorded.again(recorded.recording[:, 1:], recorded.times[1:], recorded.baseline),
            "'b' has another recording than 'a'",
        ),
        (recorded.again(recorded.recording), "'b' has another baseline than 'a'"),
        (recorded.again(recorded.recording, 2 * recorded.times, recorded.baseline), "'b' has other times than 'a'"),
    ):
        with pytest.raises(ValueError, match=words):
            compare({"a": one, "b": infer("minimum_norm", other)})
    whitened = [infer("minimum_norm", toy(0, sensors=6, quiet=0, noise_cov=scale * np.eye(6))) for scale in (1.0, 2.0)]
    with pytest.raises(ValueError, match="'b' has another whitening than 'a'"):
        average(dict(zip("ab", whitened, strict=True)))
    gain = infer("minimum_norm", replace(recorded, gain=2 * recorded.gain))
    assert compare({"a": one, "b": gain}).weights.keys() == {"a", "b"}
    with pytest.raises(ValueError, match="'b' has another gain than 'a'"):
        average({"a": one, "b": gain})


def test_says_what_is_wrong_with_models(posteriors):
    one = {"a": posteriors["minimum_norm"], "b": posteriors["hierarchical"]}
    with pytest.raises(ValueError, match="there is nothing to compare"):
        compare({})
    with pytest.raises(ValueError, match="'a' is of type int"):
        compare({"a": 1})
    with pytest.raises(ValueError, match="no criterion named 'sensors'"):
        compare(one, over="sensors")
    with pytest.raises(ValueError, match="block is 7 s"):
        compare(one, block=7.0)
    with pytest.raises(ValueError, match="draws is 0"):
        compare(one, draws=0)
    with pytest.raises(KeyError, match="no model named 'c'"):
        compare(one)["c"]
    with pytest.raises(ValueError, match="no kind of weights named 'equal'"):
        average(one, "equal")
    with pytest.raises(ValueError, match="weights has model = 3, but there are 2 models"):
        average(one, [1, 2, 3])
    with pytest.raises(ValueError, match="weights must not be negative"):
        average(one, [1, -2])
    with pytest.raises(ValueError, match="weights are of a, c, but the models are a, b"):
        average(one, {"a": 1, "c": 2})
    with pytest.raises(ValueError, match="prior probabilities of models go with"):
        average(one, [1, 2], prior=[1, 2])
    with pytest.raises(ValueError, match="b gives no evidence"):
        average({**one, "b": replace(one["b"], log_evidence=None)})
