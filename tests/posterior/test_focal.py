"""Currents given which sources are active, against dense algebra; and questions about the sources."""

from dataclasses import replace

import numpy as np
import pytest
from coloured import coloured, samples_covariance
from numpy.testing import assert_allclose
from referee import toy
from scipy.stats import chi, kstest, multivariate_normal, norm

import bayesinv as bi
from bayesinv.covariance.covariance import Structure
from bayesinv.covariance.time_course import correlation_over_time
from bayesinv.criticism.densities import block_densities, component_densities
from bayesinv.posterior.active import ActiveSets
from bayesinv.posterior.foci import Count
from bayesinv.posterior.hyper import Hyper
from bayesinv.posterior.mixture import Mixture
from bayesinv.posterior.posterior import Posterior

CONSTANTS = (0.006, 0.03)


def unit(problem):
    """Size of currents whose fields are as strong as the noise."""
    return 1 / np.sqrt(np.mean(problem.gain**2))


def sets(deviating):
    """Four draws: nothing, one source, two of which one is a patch, and two that are alike.

    deviating : whether sources are partly of another patch than theirs
    """
    patch = np.array([1, 0, 2, 1, 1])
    other = np.array([0.3, -0.2, 0.5, 0.0, 0.9]) if deviating else np.zeros(5)
    return ActiveSets(
        node=np.array([1, 2, 2, 3, 3]),
        patch=patch,
        parts=np.stack([patch, np.array([2, 1, 0, 1, 0])], axis=1),
        shares=np.stack([1 - other, other], axis=1),
        strength=np.array([1.5, 0.7, 2.0, 1.0, 0.4]),
        constant=np.array([0, 1, 0, 1]),
        constants=np.array(CONSTANTS),
        error=np.array([0.4, 0.1, 0.0, 0.3]),
        chain=np.array([0, 0, 1, 1]),
        centre=np.array([2, 4, 1]),
        extent=np.array([0.0, 0.0, 0.02]),
        starts=np.array([0, 1, 2, 5]),
        members=np.array([2, 4, 0, 1, 3]),
        weights=np.array([1.0, 1.0, 0.2, 0.5, 0.3]),
        most=5,
    )


def posterior(problem, depth=None, deviating=False, head=False):
    """A posterior of four draws, each in a head of its own where `head` is asked for."""
    structure = Structure() if depth is None else bi.Currents(1.0, depth=depth).structure(problem)
    given = sets(deviating)
    if head:
        modes = np.random.default_rng(9).normal(size=(2, *problem.gain.shape))
        problem = replace(problem, gain_modes=0.5 * np.abs(problem.gain).mean() * modes)
        given = replace(given, head=np.array([[0.3, 1.0], [-0.8, 0.4], [1.2, -1.5], [0.1, 0.6]]))
    mixture = Mixture(
        np.array([0.1, 0.2, 0.3, 0.4]),
        unit(problem) ** 2 * np.array([0.3, 0.02, 0.1, 0.05]),
        np.array([1.0, 0.9, 1.1, 1.05]),
        np.zeros(4, dtype=np.int64),
        (structure,),
    )
    nothing = {name: np.zeros(4) for name in ("lambda", "snr")}
    hyper = Hyper(nothing, mixture.weights, nothing)
    active = replace(given, strength=unit(problem) * given.strength)
    return Posterior(problem, "focal", "active_set", mixture, hyper, None, active=active)


def dense(found, totals=None):
    """Per node: weight, mean (amplitude × time) and covariance, by conditioning one large normal distribution.

    totals : what covariances of the recording are appended to
    """
    problem, mixture, active = found.problem, found.mixture, found.active
    axes, times = problem.axes, problem.times
    noise = np.eye(len(times)) if problem.autocorrelation is None else samples_covariance(problem)[1][0]
    diagonal = mixture.structures[0].diagonal(problem)
    out = []
    for n in range(4):
        course = correlation_over_time(times, CONSTANTS[active.constant[n]])
        prior = mixture.variance[n] * np.diag(diagonal)
        # Currents with the recording, and of the recording: dense ones have the mean gain, sources that of the head.
        cross = prior @ problem.gain.T
        field = problem.gain @ cross
        gain = problem.gain
        if active.head is not None:
            gain = gain + np.tensordot(active.head[n], problem.gain_modes, axes=1)
        for i in np.flatnonzero(active.node == n):
            for axis in range(axes):
                patch = np.zeros(len(prior))
                for k, share in zip(active.parts[i], active.shares[i], strict=True):
                    some = slice(active.starts[k], active.starts[k + 1])
                    patch[active.members[some] * axes + axis] += share * active.weights[some]
                power, own = active.strength[i] ** 2, gain @ patch
                prior = prior + power * np.outer(patch, patch)
                cross, field = cross + power * np.outer(patch, own), field + power * np.outer(own, own)
        eye = np.eye(problem.components)
        prior, cross = np.kron(prior, course), np.kron(cross, course)
        total = np.kron(field, course)
        total += np.kron(eye, mixture.noise[n] ** 2 * noise + active.error[n] ** 2 * course)
        if totals is not None:
            totals.append(total)
        weights = np.linalg.solve(total, cross.T).T
        out.append((mixture.weights[n], weights @ problem.recording.ravel(), prior - weights @ cross.T, prior))
    return out


PROBLEMS = {
    "white": lambda: toy(samples=7, sources=8),
    "free": lambda: toy(samples=5, sources=6, axes=3),
    "coloured": lambda: coloured(1),
}


@pytest.fixture(params=PROBLEMS)
def problem(request):
    return PROBLEMS[request.param]()


class TestCurrents:
    @pytest.mark.parametrize("head", [False, True])
    def test_mean_and_sd_are_those_of_dense_algebra(self, problem, head):
        found = posterior(problem, 0.5, deviating=True, head=head)
        nodes = dense(found)
        mean = sum(w * m for w, m, _, _ in nodes)
        variance = sum(w * (np.diag(c) + m**2) for w, m, c, _ in nodes) - mean**2
        shape = found.mean.shape
        size = np.sqrt(variance).max()
        # Modes of less than 1e-4 of the strongest's power hold no course here.
        assert_allclose(found.mean, mean.reshape(shape), atol=1e-3 * size)
        assert_allclose(found.sd, np.sqrt(variance).reshape(shape), rtol=3e-3)

    def test_functionals_are_jointly_those_of_dense_algebra(self, problem):
        found = posterior(problem, deviating=True)
        nodes, shape = dense(found), (problem.gain.shape[1], len(problem.times))
        rng = np.random.default_rng(1)
        rows = rng.normal(size=(2, shape[0]))
        functional = found.contrast(rows.reshape(2, *found.mean.shape[:-1]))
        table = np.kron(rows, np.eye(shape[1]))
        order = np.argsort(found.active.constant, kind="stable")
        for k, n in enumerate(order):
            weight, mean, covariance, _ = nodes[n]
            assert functional.weights[k] == weight
            wanted = table @ covariance @ table.T
            size = np.sqrt(np.diag(wanted).max())
            assert_allclose(functional.means[k].ravel(), table @ mean, atol=2e-3 * size)
            assert_allclose(functional.course_covariance(k), wanted, atol=5e-3 * size**2)
            each = wanted.reshape(2, shape[1], 2, shape[1])
            assert_allclose(functional.covariances[k], np.einsum("ftgt->tfg", each), atol=5e-3 * size**2)

    def test_windows_patches_and_fits(self, problem):
        found = posterior(problem)
        nodes, count = dense(found), len(problem.times)
        start, stop = problem.times[[1, 3]]
        mean = np.kron(np.eye(problem.gain.shape[1]), np.r_[0, [1 / 3] * 3, np.zeros(count - 4)])
        one = found.averaged((start, stop))
        means = np.array([mean @ m for _, m, _, _ in nodes])
        variances = np.array([np.diag(mean @ c @ mean.T) for _, _, c, _ in nodes])
        weights = np.array([w for w, *_ in nodes])
        total = weights @ (variances + means**2) - (weights @ means) ** 2
        assert_allclose(one.mean.ravel(), weights @ means, atol=2e-3 * np.sqrt(total.max()))
        assert_allclose(one.sd.ravel(), np.sqrt(total), rtol=3e-3)
        priors = np.array([np.diag(mean @ p @ mean.T) for *_, p in nodes])
        shrinkage = weights @ (1 - variances / priors)
        assert_allclose(one.shrinkage.ravel(), shrinkage, atol=3e-3)
        fitted = problem.gain @ (weights @ np.array([m for _, m, _, _ in nodes])).reshape(-1, count)
        assert_allclose(found.fitted, fitted, atol=2e-3 * np.abs(fitted).max())

    def test_quantiles_and_exceedances_are_those_of_the_mixture(self, problem):
        found = posterior(problem)
        nodes = dense(found)
        weights = np.array([w for w, *_ in nodes])
        means = np.array([m for _, m, _, _ in nodes])
        sds = np.sqrt(np.array([np.diag(c) for _, _, c, _ in nodes]))
        low, high = found.interval(0.8)
        for bound, probability in ((low, 0.1), (high, 0.9)):
            reached = weights @ norm.cdf((bound.ravel() - means) / sds)
            assert_allclose(reached, probability, atol=2e-3)
        limit = float(np.median(sds))
        wanted = weights @ (norm.sf((limit - means) / sds) + norm.cdf((-limit - means) / sds))
        assert_allclose(found.exceedance(limit).ravel(), wanted, atol=2e-3)

    def test_draws_have_its_moments(self, problem):
        found = posterior(problem)
        drawn = found.draw(5000, np.random.default_rng(0))
        error = found.sd / np.sqrt(len(drawn))
        assert np.abs((drawn.mean(axis=0) - found.mean) / error).max() < 5
        # The variance of a mixture's square is at most that of its widest node.
        assert_allclose(drawn.std(axis=0), found.sd, rtol=0.06)
        rows = np.random.default_rng(1).normal(size=(1, *found.mean.shape[:-1]))
        functional = found.contrast(rows)
        course = np.tensordot(rows[0], drawn, axes=(range(rows.ndim - 1), range(1, rows.ndim)))
        own = functional.draw(5000, np.random.default_rng(2))[:, 0]
        scale = np.sqrt(np.diag(np.cov(own.T)).max())
        assert_allclose(np.cov(course.T), np.cov(own.T), atol=0.1 * scale**2)

    def test_there_is_no_kernel(self, problem):
        with pytest.raises(ValueError, match="depends on all samples; use a model without a focal part"):
            _ = posterior(problem).kernel


class TestSources:
    def test_count_and_inclusion_are_counted_over_draws(self):
        found = posterior(toy(samples=7, sources=8))
        assert_allclose(found.count.probability, [0.1, 0.2, 0.7, 0, 0, 0])
        assert found.count.interval(0.9) == (0, 2)
        assert found.count.mean == pytest.approx(1.6)
        # Patch 0 is place 2, patch 1 place 4, patch 2 places 0, 1 and 3.
        assert_allclose(found.inclusion(), [0.3, 0.3, 0.3, 0.3, 0.6, 0, 0, 0])
        assert_allclose(found.inclusion({"a": [3, 4], "b": [5, 6]}), [0.9, 0])

    def test_probability_near_counts_sources_within_the_radius(self):
        problem = toy(samples=7, sources=8)
        found = posterior(problem)
        at = problem.sources.positions
        assert found.probability_near(at[4], 1e-4) == pytest.approx(0.6)
        # A patch is at the mean of its places.
        mean = 0.2 * at[0] + 0.5 * at[1] + 0.3 * at[3]
        assert found.probability_near(mean, 1e-4) == pytest.approx(0.3)
        assert posterior(problem, deviating=True).probability_near(mean, 1e-4) == 0
        assert posterior(problem, deviating=True).probability_near(0.5 * (mean + at[2]), 1e-4) == pytest.approx(0.3)
        assert found.probability_near(at[5], 1e-4) == 0
        with pytest.raises(ValueError, match="radius is -1, but must be positive"):
            found.probability_near(at[4], -1)
        with pytest.raises(ValueError, match="position"):
            found.probability_near([0, 0], 0.01)

    @pytest.mark.parametrize("name", ["white", "free"])
    def test_a_focus_has_the_current_of_its_patch_by_dense_algebra(self, name):
        problem = PROBLEMS[name]()
        # Every place far from every other, so that each patch is a focus.
        spaced = np.arange(problem.source_count)[:, None] * np.array([0.1, 0, 0])
        problem = replace(problem, sources=replace(problem.sources, positions=spaced))
        found = posterior(problem)
        # Node 3 has two sources at one place; the second is a focus of its own.
        by_place = {one.place: one for one in reversed(found.foci)}
        assert by_place[4].probability == pytest.approx(0.6)
        assert sorted(by_place[4].draws) == [1, 3]
        assert [one.probability for one in found.foci] == sorted((o.probability for o in found.foci), reverse=True)
        # Of node 2, whose sources are place 2 and a patch, the current of place 2 given the recording.
        one, axes, mixture, active = by_place[2], problem.axes, found.mixture, found.active
        course = correlation_over_time(problem.times, CONSTANTS[0])
        fields = []
        for patch in (0, 2):
            some = slice(active.starts[patch], active.starts[patch + 1])
            column = np.zeros((problem.gain.shape[1], axes))
            for axis in range(axes):
                column[active.members[some] * axes + axis, axis] = active.weights[some]
            fields.append(problem.gain @ column)
        strengths = active.strength[1:3]
        total = mixture.variance[2] * problem.gain @ problem.gain.T
        total += sum(s**2 * f @ f.T for s, f in zip(strengths, fields, strict=True))
        size = problem.components * len(problem.times)
        total = np.kron(total, course) + mixture.noise[2] ** 2 * np.eye(size)
        cross = np.kron(strengths[0] ** 2 * fields[0].T, course)
        mean = cross @ np.linalg.solve(total, problem.recording.ravel())
        covariance = np.kron(strengths[0] ** 2 * np.eye(axes), course) - cross @ np.linalg.solve(total, cross.T)
        sds = np.sqrt(np.diag(covariance)).reshape(axes, -1)
        assert_allclose(one.current.mean, mean.reshape(axes, -1), atol=2e-3 * sds.max())
        assert_allclose(one.current.sd, sds, rtol=3e-3)
        assert one.summary()["probability"] == one.probability
        assert "probable at" in one.describe()
        # In words as in numbers: along normals with its sign where that is known, else its size.
        at = 1e9 * one.current.mean[:, one.peak]
        expected = at[0] if axes == 1 else np.linalg.norm(at)
        if axes == 1 and one.sign_probability < 0.9:
            expected = 1e9 * one.size()[0]
        said = float(one.describe().partition("; ")[2].split(" nA m")[0])
        assert said == pytest.approx(expected, rel=6e-3)

    @pytest.mark.parametrize(("shift", "known"), [(0.0, False), (3.0, True)])
    def test_a_direction_is_said_only_where_it_is_known(self, shift, known):
        one = posterior(toy(samples=7, sources=8)).foci[0]
        nodes = len(one.current.weights)
        means = 1e-9 * (shift + np.linspace(-0.4, 0.6, nodes))[:, None, None] * np.ones((1, 1, 7))
        sds = 1e-9 * np.linspace(0.8, 1.2, nodes)
        one = replace(one, current=replace(one.current, means=means, covariances=(sds**2)[:, None, None, None]))
        drawn = one.current.draw(200_000, np.random.default_rng(5))[:, 0, one.peak]
        assert max((drawn > 0).mean(), (drawn < 0).mean()) == pytest.approx(one.sign_probability, abs=5e-3)
        assert_allclose(one.size(0.8), np.quantile(np.abs(drawn), [0.5, 0.1, 0.9]), rtol=2e-2)
        assert ("ms, its direction not known" not in one.describe()) == known
        with pytest.raises(ValueError, match="three axes"):
            posterior(PROBLEMS["free"]()).foci[0].size()

    @pytest.mark.parametrize(
        ("probability", "words"), [(1.0, "more than 99.9 %"), (0.9964, "99.6 %"), (0.99, "99 %"), (0.123, "12 %")]
    )
    def test_no_source_is_certain(self, probability, words):
        one = posterior(toy(samples=7, sources=8)).foci[0]
        assert replace(one, probability=probability).describe().startswith(f"{words} probable at ")
        assert Count(np.array([1 - probability, probability])).describe().endswith(f"1: {words}")

    def test_foci_count_draws_by_their_weights_and_say_which_are_there_together(self):
        problem = toy(samples=7, sources=8)
        spaced = np.arange(8)[:, None] * np.array([0.1, 0, 0])
        problem = replace(problem, sources=replace(problem.sources, positions=spaced))
        found = posterior(problem)
        # Draws of weight 0.1 to 0.4: nothing; place 4; place 2 and the patch at 1; place 4 twice.
        at_four, again, at_two = found.foci
        assert [one.place for one in found.foci] == [4, 4, 2]
        assert_allclose(at_four.weights, [1 / 3, 2 / 3])
        assert_allclose(at_four.beside, [1, 2 / 3, 0])
        assert_allclose(again.beside, [1, 1, 0])
        assert_allclose(at_two.beside, [0, 0, 1])
        # The current is the mixture of those given each of the draws alone.
        alone = []
        for draw in (1, 3):
            mixture = replace(found.mixture, weights=np.eye(4)[draw])
            only = next(o for o in replace(found, mixture=mixture).foci if draw in o.draws)
            alone.append(only.current.mean)
        assert_allclose(at_four.current.mean, alone[0] / 3 + 2 * alone[1] / 3)

    def test_overlapping_patches_that_swap_are_one_focus(self):
        problem = toy(samples=7, sources=8)
        close = 1e-3 * np.arange(8)[:, None] * np.array([1.0, 0, 0])
        problem = replace(problem, sources=replace(problem.sources, positions=close))
        first = posterior(problem).foci[0]
        assert first.probability == pytest.approx(0.9)
        assert first.radius(0.9) < 8e-3
        assert set(first.credible_set(0.99)) <= {1, 2, 4}

    def test_a_patch_may_lie_anywhere_in_what_its_place_stands_for(self):
        problem = toy(samples=7, sources=8)
        areas = np.pi * (1e-3 * np.arange(1, 9)) ** 2
        problem = replace(problem, sources=replace(problem.sources, areas=areas))
        first = posterior(problem).foci[0]
        assert_allclose(first.cells, 1e-3 * (1 + first.places))
        # Of draws at one place the square of the distance is uniform.
        still = replace(
            first, positions=np.tile(first.centre, (len(first.places), 1)), cells=np.full(len(first.places), 4e-3)
        )
        for level in (0.25, 0.5, 0.9):
            assert still.radius(level) == pytest.approx(4e-3 * np.sqrt(level), rel=0.08)
        rng = np.random.default_rng(0)
        apart = 5e-3 * rng.standard_normal((4000, 3))
        many = replace(
            first, positions=apart, centre=np.zeros(3), cells=np.full(4000, 4e-3), weights=np.full(4000, 1 / 4000)
        )
        angle = rng.uniform(0, 2 * np.pi, 4000)
        disc = 4e-3 * np.sqrt(rng.uniform(size=4000)) * np.array([np.cos(angle), np.sin(angle), 0 * angle])
        assert many.radius(0.9) == pytest.approx(np.quantile(np.linalg.norm(apart + disc.T, axis=1), 0.9), rel=0.03)

    def test_volume_is_that_of_the_ellipsoid_of_normal_draws(self):
        first = posterior(toy(samples=7, sources=8)).foci[0]
        rng = np.random.default_rng(0)
        root = 1e-3 * np.array([[4.0, 0, 0], [1, 2, 0], [0.5, 0.3, 1]])
        positions = rng.standard_normal((20000, 3)) @ root.T
        found = replace(first, positions=positions, centre=positions.mean(axis=0), weights=np.full(20000, 1 / 20000))
        wanted = 4 / 3 * np.pi * np.linalg.det(root) * chi(3).ppf(0.9) ** 3
        assert found.volume() == pytest.approx(wanted, rel=0.03)
        # Of draws on a line it is nothing.
        line = positions[:, :1] * np.array([1.0, 2.0, 0.5])
        assert replace(found, positions=line, centre=line.mean(axis=0)).volume() < 1e-6 * wanted

    def test_it_survives_saving(self, tmp_path):
        found = posterior(toy(samples=7, sources=8), deviating=True, head=True)
        found.save(tmp_path / "focal.nc")
        loaded = bi.load(tmp_path / "focal.nc")
        assert_allclose(loaded.mean, found.mean)
        assert_allclose(loaded.sd, found.sd)
        assert repr(loaded.count) == repr(found.count)
        assert [one.probability for one in loaded.foci] == [one.probability for one in found.foci]

    def test_other_posteriors_have_none(self):
        with pytest.raises(ValueError, match="model 'hierarchical' has no focal sources"):
            _ = bi.infer("hierarchical", toy()).count


def test_density_of_a_component_given_the_others_is_that_of_dense_algebra(problem):
    found, totals = posterior(problem), []
    dense(found, totals)
    got = component_densities(found, 100)
    y, size = problem.recording, len(problem.times)
    for n, total in enumerate(totals):
        whole = multivariate_normal(cov=total).logpdf(y.ravel())
        for i in (0, len(y) - 1):
            others = np.setdiff1d(np.arange(total.shape[0]), np.arange(i * size, (i + 1) * size))
            rest = multivariate_normal(cov=total[np.ix_(others, others)]).logpdf(y.ravel()[others])
            # Modes of less than 1e-4 of the strongest's power hold no course here.
            assert_allclose(got[n, i], whole - rest, atol=0.02)


@pytest.mark.parametrize("head", [False, True])
def test_density_of_a_block_given_the_other_samples_is_that_of_dense_algebra(problem, head):
    found, totals = posterior(problem, deviating=True, head=head), []
    dense(found, totals)
    size = len(problem.times)
    blocks = [slice(0, 3), slice(2, 3), slice(size - 2, size)]
    got = block_densities(found, 100, blocks)
    y = problem.recording.ravel()
    for n, total in enumerate(totals):
        whole = multivariate_normal(cov=total).logpdf(y)
        for k, block in enumerate(blocks):
            rest = np.delete(np.arange(y.size).reshape(-1, size), block, axis=1).ravel()
            # Modes of less than 1e-4 of the strongest's power hold no course here.
            wanted = whole - multivariate_normal(cov=total[np.ix_(rest, rest)]).logpdf(y[rest])
            assert_allclose(got[n, k], wanted, atol=0.02)


class TestReplicates:
    @pytest.mark.parametrize("currents", ["inferred", "new"])
    @pytest.mark.parametrize("n", [0, 3])
    def test_they_have_the_distribution_of_dense_algebra(self, problem, currents, n):
        found, totals = posterior(problem, deviating=True), []
        priors = [prior for *_, prior in dense(found, totals)]
        weights = np.eye(4)[n]
        one = replace(found, mixture=replace(found.mixture, weights=weights))
        drawn = bi.posterior_predictive(one, 400, np.random.default_rng(n), currents=currents).replicated
        gain = np.kron(problem.gain, np.eye(len(problem.times)))
        noise = np.eye(len(problem.times)) if problem.autocorrelation is None else samples_covariance(problem)[1][0]
        noise = np.kron(np.eye(problem.components), found.mixture.noise[n] ** 2 * noise)
        mean, total = np.zeros(len(noise)), totals[n]
        if currents == "inferred":
            # What fields are off by belongs to the signal.
            signal = total - noise
            gained = signal @ np.linalg.inv(total)
            mean, total = gained @ problem.recording.ravel(), signal - gained @ signal + noise
        assert np.linalg.eigvalsh(totals[n] - noise - gain @ priors[n] @ gain.T).min() > -1e-9 * np.trace(noise)
        white = np.linalg.solve(np.linalg.cholesky(total), (drawn.reshape(400, -1) - mean).T)
        # Modes of less than 1e-4 of the strongest's power hold no course here.
        assert kstest(white.ravel(), "norm").pvalue > 1e-3
        assert abs(np.mean(white**2) - 1) < 5 * np.sqrt(2 / white.size) + 1e-3

    def test_what_a_component_leaves_given_all_others_is_that_of_dense_algebra(self, problem):
        found, totals = posterior(problem, deviating=True), []
        dense(found, totals)
        one = replace(found, mixture=replace(found.mixture, weights=np.eye(4)[2]))
        got = bi.posterior_predictive(one, 3, np.random.default_rng(0)).residual
        precision, size = np.linalg.inv(totals[2]), len(problem.times)
        solved = (precision @ problem.recording.ravel()).reshape(-1, size)
        for i, residual in enumerate(solved):
            block = precision[i * size : (i + 1) * size, i * size : (i + 1) * size]
            square = residual @ np.linalg.solve(block, residual)
            assert got[i] == pytest.approx(np.sqrt(square / size), rel=2e-3)

    def test_an_average_with_other_models_is_refused(self, problem):
        both = bi.average({"focal": posterior(problem), "other": bi.infer("hierarchical", problem)}, [0.5, 0.5])
        with pytest.raises(ValueError, match="an average of models with and without focal sources; ask each of these"):
            bi.posterior_predictive(both, 10)


class TestWithOtherModels:
    def test_an_average_is_the_mixture_of_both(self, problem):
        focal, other = posterior(problem, 0.5), bi.infer("hierarchical", problem)
        both = bi.average({"focal": focal, "other": other}, [0.3, 0.7])
        assert_allclose(
            both.mean, 0.3 * focal.mean + 0.7 * other.mean, rtol=1e-9, atol=1e-12 * np.abs(focal.mean).max()
        )
        second = 0.3 * (focal.sd**2 + focal.mean**2) + 0.7 * (other.sd**2 + other.mean**2)
        assert_allclose(both.sd, np.sqrt(second - both.mean**2), rtol=1e-6)
        # A model without focal sources has none for sure.
        assert_allclose(both.count.probability[1:], 0.3 * focal.count.probability[1:])
        assert_allclose([one.probability for one in both.foci], [0.3 * one.probability for one in focal.foci])
        level = unit(problem)
        wanted = 0.3 * focal.exceedance(level) + 0.7 * other.exceedance(level)
        assert_allclose(both.exceedance(level), wanted, atol=2e-4)
        # Twice the same model is that model.
        twice = bi.average({"one": focal, "other": focal}, [0.5, 0.5])
        assert_allclose(twice.sd, focal.sd, rtol=1e-9)


@pytest.mark.slow
def test_a_comparison_leaves_parts_out_of_models_with_focal_sources_too():
    problem = toy(samples=7, sources=8)
    focal = bi.infer("focal", problem, chains=2, sweeps=50, warm=20)
    found = bi.compare({"focal": focal, "other": bi.infer("hierarchical", problem)})
    assert found["focal"].components_elpd is not None
    assert found["focal"].blocks_elpd < 0
    assert found["other"].blocks_elpd < 0
    assert found.probabilities is not None
    weights = bi.compare({"focal": focal, "other": bi.infer("hierarchical", problem)}, over="blocks").weights
    assert sum(weights.values()) == pytest.approx(1)
