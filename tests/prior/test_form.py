"""Models of one form share their functions, each with its own numbers."""

from dataclasses import replace

import numpy as np
import pymc as pm
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from referee import as_written, toy
from structured import scene

import bayesinv as bi
from bayesinv.covariance.covariance import Structure
from bayesinv.prior import density as density_room
from bayesinv.prior.currents import Currents
from bayesinv.prior.density import Density
from bayesinv.prior.form import signature
from bayesinv.prior.observation import observation

UNITS = 1.2345e3


def bounded_by_the_problem(problem):
    """Numbers of every kind: a scale, bounds, of a vector with a dim, in a potential, beside dependent elements."""
    guess = problem.scale_guess
    with pm.Model(coords={**problem.coords, "two": range(2)}) as built:
        pair = pm.Normal("pair", 0.1 * np.log(guess), 1.0, dims="two")
        rest = pm.MvNormal("rest", np.zeros(2), np.eye(2) + 0.3)
        scale = pm.TruncatedNormal("scale", guess, 2 * guess, lower=guess / 7, upper=9 * guess)
        part = pm.Uniform("part", guess / 3, scale)
        noise = pm.Gamma("noise", mu=1.0, sigma=0.25)
        pm.Deterministic("sum", scale + pm.math.sum(pair) * guess + pm.math.sum(rest))
        pm.Potential("pull", -0.5 * ((part - guess) / (0.7 * guess)) ** 2)
        Currents(scale**2 + part**2).observe("recording", problem, noise=noise)
    return built


def in_two_units(name):
    """Models of a problem, and of one with other numbers in other units."""
    first, second = (scene(seed=seed, quiet=6) for seed in (0, 1))
    load = bounded_by_the_problem if name == "bounded" else bi.load_model(name)
    return [load(one) for one in (first, replace(second, gain=UNITS * second.gain))]


def everything(model, seed=3):
    """All that a density works out from the prior's graphs."""
    density = Density.of(model)
    rng = np.random.default_rng(seed)
    nodes = density.start + 0.3 * rng.standard_normal((4, density.dimension))
    given = {name: rng.standard_normal(np.shape(one)) for name, one in density.learned(nodes).items()}
    values = [density.hyper(nodes)[variable.name] for variable in model.free_RVs]
    return {
        "start": density.start,
        "scales": np.stack(density.prior_and_scales(nodes)),
        **{f"prior {i}": density.log_prior(i, nodes) for i in range(len(model.free_RVs))},
        **density.hyper(nodes),
        **{f"learned {name}": one for name, one in density.learned(nodes).items()},
        "unconstrained": density.unconstrained(values),
        "nodes": nodes,
        "slopes": density.pulled(nodes, *rng.standard_normal((2, 4)), given),
    }


@pytest.fixture
def functions(monkeypatch):
    """A memory of functions that holds none yet."""
    empty = bi.memory.Memory("functions")
    monkeypatch.setattr(density_room, "GRAPH_FUNCTIONS", empty)
    return empty


@pytest.mark.parametrize("name", [pytest.param("smooth", marks=pytest.mark.slow), "multiple_sparse_priors"])
def test_functions_of_one_problem_serve_another_of_other_numbers_in_other_units(name, functions):
    one, other = in_two_units(name)
    everything(one)
    kinds = {kind: functions.count(kind) for kind in ("start", "scales", "hyper", "prior 0", "unconstrained", "pulled")}
    assert set(kinds.values()) == {1}
    shared = everything(other)
    assert {kind: functions.count(kind) for kind in kinds} == kinds
    functions.clear()
    alone = everything(other)
    assert functions.count("scales") == 1
    for part, value in alone.items():
        assert_array_equal(shared[part], value, err_msg=part)
    assert_allclose(shared["unconstrained"], shared["nodes"], rtol=1e-9, atol=1e-12)


def test_the_prior_is_that_of_pymc_whichever_model_came_first(functions):
    one, other = in_two_units("bounded")
    everything(one)
    for model in (other, one):
        density = Density.of(model)
        logp = model.compile_logp(vars=[*model.free_RVs, *model.potentials], mode=as_written())
        start = model.initial_point()
        for value, at, shape in zip(density.values, density.coordinates, density.shapes, strict=True):
            assert_allclose(density.start[at].reshape(shape), start[value.name], rtol=1e-14)
        nodes = density.start + 0.2 * np.random.default_rng(2).standard_normal((3, density.dimension))
        for node, height in zip(nodes, density.prior(nodes), strict=True):
            parts = zip(density.values, density.coordinates, density.shapes, strict=True)
            point = {value.name: node[at].reshape(shape) for value, at, shape in parts}
            assert_allclose(height, logp(point), rtol=1e-9)
    assert functions.count("scales") == functions.count("start") == 1


def test_draws_are_those_of_pymc_whichever_model_came_first(functions):
    one, other = in_two_units("bounded")
    for model in (one, other, one):
        for count in (1, 3):
            seed = int(np.random.default_rng(5).integers(2**31))
            wanted = pm.draw(model.free_RVs, count, random_seed=seed, mode="FAST_COMPILE")
            found = Density.of(model).draw(count, np.random.default_rng(5))
            assert list(found) == [variable.name for variable in model.free_RVs]
            for name, value in zip(found, wanted, strict=True):
                assert_array_equal(found[name], value if count > 1 else value[None], err_msg=name)
    assert functions.count("draws") == 1


def test_tails_are_those_of_the_models_own_prior(functions):
    """One prior ends at 3.1234567, the other at ten times that: of a posterior at 2.9, only the first can complain."""

    def ending(scale):
        with pm.Model() as model:
            Currents(pm.HalfNormal("scale", scale) ** 2).observe("recording", toy(0), noise=1.0)
        return Density.of(model)

    from bayesinv.inference.conflict import prior_checks

    narrow, wide, draws = ending(0.1234567), ending(12.34567), np.full((100, 1), np.log(1.0))
    assert not prior_checks(narrow, draws)[0].passed
    assert prior_checks(wide, draws)[0].passed
    assert not prior_checks(narrow, draws)[0].passed


def described(problem, scale, shift=0.0, parcels=3, weight=2.0):
    with pm.Model(coords={**problem.coords, "parcel": range(parcels)}) as model:
        given = pm.Data("weight", np.array(weight))
        pm.Deterministic("share", given * pm.Normal("raw", shift, dims="parcel"), dims="parcel")
        Currents(pm.HalfCauchy("scale", scale) ** 2).observe("recording", problem, noise=1.0)
    key, constants = signature(model, observation(model))
    return key, [float(one.data) for one in constants]


def test_a_form_has_round_numbers_and_lengths_and_takes_out_the_others():
    first, second = toy(0), toy(1)
    key, numbers = described(first, 1.0)
    assert described(second, 1.0) == (key, []) == (key, numbers)
    assert hash(described(second, 1.0)[0]) == hash(key)
    for other in ({"scale": 2.0}, {"scale": 1.0, "parcels": 4}, {"scale": 1.0, "weight": 2.5}):
        assert described(first, **other)[0] != key
    worked, numbers = described(first, 1.5e-8, 9.87654321)
    assert worked != key
    assert sorted(numbers) == [1.5e-8, 9.87654321]
    assert described(second, 4e18, -0.1)[0] == worked
    # An exponent or a bound could be meant.
    assert described(first, 1.5e-8, 9.5)[0] != worked


def test_models_that_observe_something_else_as_well_share_nothing():
    def height(seen):
        with pm.Model() as model:
            scale = pm.HalfNormal("scale", 1.0)
            pm.Normal("other", scale, 1.0, observed=seen)
            Currents(scale**2).observe("recording", toy(0), noise=1.0)
        return Density.of(model).prior(np.array([[0.0]]))[0]

    # The log density of what is seen at a mean of 1.
    assert_allclose(height(3.0) - height(1.0), -0.5 * 2.0**2, rtol=1e-12)


def test_a_structure_that_is_learned_comes_out_of_the_shared_function(functions):
    one, other = in_two_units("smooth")
    Density.of(one).structures(np.array([[0.0]]))
    found = Density.of(other).structures(np.array([[0.0]]))[0]
    assert isinstance(found, Structure)
    low, high = observation(other).problem.length_range
    assert_allclose(found.length, np.sqrt(low * high), rtol=1e-12)


def test_a_random_variable_without_a_name_is_refused():
    with pm.Model() as model:
        scale = pm.HalfNormal("scale", 1.0) * pm.LogNormal.dist(0.0, 1.0)
        Currents(scale**2).observe("recording", toy(0), noise=1.0)
    with pytest.raises(ValueError, match=r"none of its own, such as one made with \.dist\(\); hyperpara"):
        Density.of(model).prior(np.zeros((1, 1)))
