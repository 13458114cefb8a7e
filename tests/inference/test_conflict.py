"""Conflict of prior and recording: the tail of each prior in which the posterior lies, and the check that names it."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from referee import GAIN, toy
from scipy import stats
from templates import simulate, template

import bayesinv as bi
from bayesinv.inference.conflict import FALSE_ALARMS, INSIDE, prior_checks
from bayesinv.prior.currents import Currents
from bayesinv.prior.density import Density


def observed(problem, add):
    """A model of noise and scale with whatever else `add` puts into it."""
    import pymc as pm

    with pm.Model(coords=problem.coords) as model:
        add(pm)
        Currents(bi.source_scale(problem) ** 2).observe("recording", problem, noise=1.0)
    return model


def checks_at(model, values):
    """The check of each variable for a posterior that is one point, by the variable's name."""
    density = Density.of(model)
    given = [
        np.broadcast_to(np.asarray(values.get(one.name, 1 / GAIN)), (50, *np.shape(values.get(one.name, 1.0))))
        for one in density.model.free_RVs
    ]
    found = prior_checks(density, density.unconstrained([np.array(one, dtype=float) for one in given]))
    return {check.name.removeprefix("prior of "): check for check in found}


def two_sided(distribution, value):
    return 2 * min(distribution.sf(value), distribution.cdf(value))


def assert_near(found, wanted):
    """Between points a sixteenth of the distance apart the logarithm of the tail is a straight line."""
    assert_allclose(np.log(found), np.log(wanted), rtol=0.01, atol=0.03)


class TestTails:
    def test_they_are_those_of_scipys_distributions(self):
        problem = toy()
        guess = problem.scale_guess
        known = {
            "a": (lambda pm: pm.HalfNormal("a", 2.0), stats.halfnorm(scale=2), 7.0),
            "b": (lambda pm: pm.LogNormal("b", 0.3, 0.1), stats.lognorm(0.1, scale=np.exp(0.3)), 1.0),
            "c": (lambda pm: pm.Uniform("c", -1.0, 3.0), stats.uniform(-1, 4), 2.999),
            "d": (lambda pm: pm.Gamma("d", 3.0, 2.0), stats.gamma(3, scale=0.5), 0.02),
            "e": (lambda pm: pm.StudentT("e", nu=3, mu=5.0, sigma=1e-9), stats.t(3, 5.0, 1e-9), 5.0 - 1e-8),
            "f": (lambda pm: pm.Beta("f", 2.0, 9.0), stats.beta(2, 9), 0.8),
            "g": (lambda pm: pm.Normal("g", -1e-12, 1e-12, initval=1e-11), stats.norm(-1e-12, 1e-12), 3e-12),
            "h": (lambda pm: pm.Cauchy("h", 0.0, 1e3), stats.cauchy(0, 1e3), -2e6),
            "scale": (lambda pm: None, stats.halfcauchy(scale=guess), 1000 * guess),
        }
        model = observed(problem, lambda pm: [make(pm) for make, _, _ in known.values()])
        found = checks_at(model, {name: value for name, (_, _, value) in known.items()})
        assert set(found) == set(known)
        for name, (_, distribution, value) in known.items():
            assert_near(found[name].value, two_sided(distribution, value))
            assert found[name].passed == (found[name].value >= FALSE_ALARMS / len(known))

    def test_a_vector_is_judged_by_the_element_farthest_out_which_is_named(self):
        model = observed(toy(), lambda pm: pm.Normal("v", [0.0, 1.0, 2.0], 1.0))
        check = checks_at(model, {"v": np.array([1.0, -4.0, 3.0])})["v"]
        assert_near(check.value, two_sided(stats.norm(), 5.0))
        assert not check.passed
        assert "v[1]" in check.note

    def test_a_variable_that_depends_on_another_is_judged_given_that(self):
        model = observed(toy(), lambda pm: pm.Normal("h", 0.0, pm.HalfNormal("spread", 1.0), shape=4))
        found = checks_at(model, {"h": np.array([0.1, -0.2, 30.0, 0.0]), "spread": 10.0})
        assert_near(found["h"].value, two_sided(stats.norm(0, 10), 30.0))
        assert_near(found["spread"].value, two_sided(stats.halfnorm(), 10.0))
        assert found["h"].passed
        assert not found["spread"].passed

    def test_elements_that_depend_on_each_other_are_judged_given_the_others(self):
        cov = np.array([[1.0, 0.9], [0.9, 1.0]])
        model = observed(toy(), lambda pm: pm.MvNormal("pair", np.zeros(2), cov))
        # Each is within its own prior; together they are not.
        check = checks_at(model, {"pair": np.array([1.5, -1.5])})["pair"]
        given = stats.norm(0.9 * 1.5, np.sqrt(1 - 0.81))
        assert_near(check.value, two_sided(given, -1.5))

    def test_an_improper_prior_is_in_no_conflict(self):
        model = observed(toy(), lambda pm: [pm.Flat("any"), pm.HalfFlat("positive")])
        found = checks_at(model, {"any": 1e6, "positive": 1e9})
        assert found["any"].value == found["positive"].value == 1

    def test_the_near_end_counts(self):
        density = Density.of(observed(toy(), lambda pm: pm.Normal("x", 0.0, 1.0)))
        draws = np.stack([np.linspace(2, 9, 5001), np.full(5001, np.log(density.observation.problem.scale_guess))], 1)
        check = prior_checks(density, draws)[0]
        assert check.name == "prior of x"
        assert_near(check.value, two_sided(stats.norm(), 2 + 7 * (1 - INSIDE)))


def light_tailed(problem):
    import pymc as pm

    with pm.Model(coords=problem.coords) as model:
        noise = bi.noise_scale(problem)
        scale = pm.HalfNormal("scale", problem.scale_guess)
        Currents(scale**2).observe("recording", problem, noise=noise)
    return model


def failed(posterior):
    return [check.name for check in posterior.checks if not check.passed and check.name.startswith("prior of")]


@pytest.mark.parametrize("method", ["quadrature", "laplace", pytest.param("nuts", marks=pytest.mark.slow)])
def test_a_light_tail_that_the_recording_contradicts_fails_and_is_named(method):
    problem = toy(amplitude=60.0, samples=20)
    options = {"draws": 500, "tune": 500} if method == "nuts" else {}
    posterior = bi.infer(light_tailed, problem, method, **options)
    assert failed(posterior) == ["prior of scale"]
    assert not posterior.passed
    (note,) = [check.note for check in posterior.checks if check.name == "prior of scale"]
    assert "the recording puts scale (" in note
    assert "give scale, or noise if that is what scale stands in for, a prior with a heavy tail" in note
    assert failed(bi.infer("hierarchical", problem, method, **options)) == []


def test_where_noise_stands_in_for_the_scale_the_note_names_both():
    problem = toy(amplitude=3000.0, samples=20)
    posterior = bi.infer(light_tailed, problem)
    assert failed(posterior) == ["prior of noise"]
    (note,) = [check.note for check in posterior.checks if check.name == "prior of noise"]
    assert "give noise, or scale if that is what noise stands in for, a prior with a heavy tail" in note
    assert failed(bi.infer("hierarchical", problem)) == []


def test_there_is_a_check_for_every_free_variable():
    for name, variables in (
        ("minimum_norm", []),
        ("hierarchical", ["noise", "scale"]),
        ("depth_weighted", ["noise", "scale", "depth"]),
    ):
        found = [check.name for check in bi.infer(name, template(name)).checks]
        assert [one for one in found if one.startswith("prior of")] == [f"prior of {one}" for one in variables]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hierarchical", "fmri_informed"])
def test_truths_from_the_prior_seldom_fail(name):
    rng = np.random.default_rng(5)
    problem = template(name)
    runs = 200 if name == "hierarchical" else 60
    count = sum(bool(failed(bi.infer(name, simulate(name, problem, rng)[2], draws=500))) for _ in range(runs))
    # As many as would come with a probability of one in a thousand at the bound that Markov's inequality gives.
    assert count <= stats.binom.ppf(0.999, runs, FALSE_ALARMS / INSIDE)
