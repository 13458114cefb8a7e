"""A noun is its fields: copied, pickled, or saved and loaded, it gives the same answers."""

import pickle
from dataclasses import fields, is_dataclass, replace
from functools import cache

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from referee import dense_mixture, toy
from test_posterior import deep, mixed

import bayesinv as bi
from bayesinv.covariance.covariance import Structure
from bayesinv.posterior import maps

SAMPLES = 5
WINDOW = (0.11, 0.13)


def saved(noun, folder):
    noun.save(folder / "noun.nc")
    return bi.load(folder / "noun.nc")


COPIES = {
    "itself": lambda noun, folder: noun,
    "replace": lambda noun, folder: replace(noun),
    "pickle": lambda noun, folder: pickle.loads(pickle.dumps(noun)),
    "save and load": saved,
}

POSTERIORS = {
    "independent samples": lambda: mixed(toy(samples=SAMPLES), structures=deep(toy(samples=SAMPLES), 2)),
    "correlated samples": lambda: mixed(toy(samples=SAMPLES), structures=(Structure(time=0.02),)),
    "both": lambda: mixed(toy(samples=SAMPLES), structures=(None, Structure(time=0.02)), nodes=9),
    "free": lambda: mixed(toy(samples=SAMPLES, axes=3), structures=(None, Structure(time=0.01))),
}


def answers(posterior):
    """Numbers that a posterior gives, by the name of the question."""
    sources = posterior.problem.source_count
    region = posterior.region({"a": [0, 3], "b": [2]})
    low, high = posterior.interval(0.8)
    out = {
        "times": posterior.times,
        "mean": posterior.mean,
        "sd": posterior.sd,
        "within": posterior.within_variance,
        "prior": posterior.prior_variance,
        "shrinkage": posterior.shrinkage,
        "fitted": posterior.fitted,
        "fit": posterior.goodness_of_fit,
        "low": low,
        "high": high,
        "exceedance": posterior.exceedance(1e-9),
        "draw": posterior.draw(3, np.random.default_rng(5)),
        "peak": posterior.peak(draws=20).probability,
        "region mean": region.mean,
        "region covariance": region.covariance,
        "region draw": region.draw(4, np.random.default_rng(6)),
        "log likelihood": posterior.log_likelihood(7),
        "weights": np.ones(sources),
    }
    return {name: np.asarray(value) for name, value in out.items()}


@cache
def asked(kind, averaged):
    """A posterior, or its mean over a window, and its answers."""
    posterior = POSTERIORS[kind]()
    posterior = posterior.averaged(WINDOW) if averaged else posterior
    return posterior, answers(posterior)


@pytest.mark.parametrize("copy", [name for name in COPIES if name != "itself"])
@pytest.mark.parametrize("averaged", [False, True], ids=["samples", "mean over a window"])
@pytest.mark.parametrize("kind", POSTERIORS)
def test_a_posterior_gives_the_same_answers_however_it_came(kind, averaged, copy, tmp_path):
    posterior, before = asked(kind, averaged)
    after = answers(COPIES[copy](posterior, tmp_path))
    for name, value in before.items():
        assert_array_equal(after[name], value, err_msg=name)


@pytest.mark.parametrize("copy", COPIES)
def test_the_sd_of_a_mean_is_that_of_a_mean(copy, tmp_path):
    posterior = mixed(toy(samples=SAMPLES), structures=deep(toy(samples=SAMPLES), 2))
    weights, means, covariances = dense_mixture(posterior)
    middle = means[:, :, 1:4].mean(axis=2)
    mean = weights @ middle
    within = np.einsum("n,naa->a", weights, covariances) / 3
    one = COPIES[copy](posterior.averaged(WINDOW), tmp_path)
    assert_allclose(one.times, [0.12])
    assert_allclose(one.mean[:, 0], mean, rtol=1e-9)
    assert_allclose(one.sd[:, 0], np.sqrt(within + weights @ (middle - mean) ** 2), rtol=1e-6)


@pytest.mark.parametrize("kind", ["correlated samples", "both"])
def test_a_mean_of_correlated_samples_has_no_kernel_and_is_no_mean_twice(kind):
    one = POSTERIORS[kind]().averaged(WINDOW)
    with pytest.raises(ValueError, match="no kernel"):
        one.kernel  # noqa: B018
    with pytest.raises(ValueError, match="mean over time already"):
        one.averaged(WINDOW)


def test_time_weights_are_one_a_sample():
    with pytest.raises(ValueError, match=r"time_weights has shape \(3,\), but the recording has time = 5"):
        replace(mixed(toy(samples=SAMPLES)), time_weights=np.ones(3) / 3)


def test_a_pickled_posterior_leaves_what_it_worked_out_behind():
    posterior = mixed(toy(samples=SAMPLES))
    before = len(pickle.dumps(posterior))
    answers(posterior)
    assert len(pickle.dumps(posterior)) <= before * 1.01 + 500


@pytest.mark.parametrize("kind", POSTERIORS)
@pytest.mark.parametrize(
    "noun",
    [
        lambda one: one.region({"a": [0, 1]}),
        lambda one: one.contrast(np.ones((1, *one.mean.shape[:-1])), WINDOW),
        lambda one: one.peak(draws=30),
        lambda one: one.hyper,
        lambda one: one.mixture,
        lambda one: maps.posterior_maps(one, WINDOW, draws=30),
    ],
    ids=["region", "contrast", "peak", "hyper", "mixture", "maps"],
)
def test_answers_survive_the_way_to_another_process(kind, noun):
    found = noun(POSTERIORS[kind]())
    assert is_dataclass(found)
    there = pickle.loads(pickle.dumps(found))
    for one in fields(found):
        assert_same(getattr(there, one.name), getattr(found, one.name))
    for method in ("interval", "draw"):
        if hasattr(found, method):
            args = (0.8,) if method == "interval" else (5, np.random.default_rng(1))
            again = (0.8,) if method == "interval" else (5, np.random.default_rng(1))
            assert_array_equal(getattr(there, method)(*again), getattr(found, method)(*args))


def assert_same(one, other):
    if isinstance(other, dict):
        assert list(one) == list(other)
        for key in other:
            assert_same(one[key], other[key])
    elif isinstance(other, tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    elif is_dataclass(other):
        for item in fields(other):
            assert_same(getattr(one, item.name), getattr(other, item.name))
    else:
        assert_array_equal(np.asarray(one), np.asarray(other))
