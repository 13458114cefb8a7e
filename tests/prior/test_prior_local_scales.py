"""Local scales: what they do to a structure, how they are drawn, and the model before currents are integrated out."""

import numpy as np
import pymc as pm
import pytest
from numpy.testing import assert_allclose
from referee import as_written, toy
from scipy.stats import halfcauchy, norm

import bayesinv as bi
from bayesinv.criticism.prior_draws import Prior
from bayesinv.prior.currents import Currents
from bayesinv.prior.local_scales import log_density, with_local


@pytest.mark.parametrize(
    ("axes", "given"),
    [
        (1, {}),
        (3, {}),
        (1, {"depth": 0.7}),
        (3, {"depth": 0.4, "weights": np.linspace(1, 3, 33)}),
        (3, {"tangential": 0.3}),
    ],
)
def test_variances_are_multiplied_and_the_trace_is_kept(axes, given, rng):
    problem = toy(axes=axes)
    structure = Currents(1.0, **given).structure(problem)
    local = np.exp(rng.normal(size=11))
    found, factor = with_local(problem, structure, local)
    eye = np.eye(11 * axes)
    each = np.repeat(local, axes)
    wanted = each[:, None] * structure.product(problem, eye) * each
    assert_allclose(factor * found.product(problem, eye), wanted, rtol=1e-10, atol=1e-14)
    trace = [
        np.trace(problem.gain @ one @ problem.gain.T) for one in (wanted / factor, structure.product(problem, eye))
    ]
    assert_allclose(trace[0], trace[1], rtol=1e-10)


def test_logarithms_have_the_density_of_half_cauchy_scales():
    logs = np.array([-40.0, -3.0, 0.0, 2.0, 50.0])
    assert_allclose(log_density(logs), halfcauchy.logpdf(np.exp(logs)) + logs, rtol=1e-12)


def test_the_prior_draws_scales_of_sources_that_the_recording_is_made_with():
    problem = toy(sensors=5, sources=40, samples=3)
    prior = Prior.of("horseshoe", problem, 300, np.random.default_rng(0))
    local = []
    for one, variance, scale in zip(prior.structures, prior.variance, prior.hyper["scale"], strict=True):
        local.append(np.sqrt(variance * one.diagonal(problem)) / scale)
    local = np.concatenate(local)
    assert_allclose([np.mean(local < q) for q in (0.4142, 1.0, 2.4142)], [0.25, 0.5, 0.75], atol=0.015)
    snr = np.sqrt(prior.variance * problem.signal_power) / prior.noise
    assert_allclose(prior.hyper["snr"], snr)
    # Half of all signals are stronger than the guess by some, half weaker; none of it depends on the number of sources.
    assert 1 < np.median(snr) < 9


@pytest.mark.parametrize("axes", [1, 3])
def test_latent_currents_have_the_density_of_the_formula(axes, rng):
    problem = toy(sensors=4, sources=5, samples=2, axes=axes)
    with pm.Model(coords=problem.coords) as explicit:
        current = Currents(4e-18, local="half_cauchy").latent("current", problem)
    local = np.exp(rng.normal(size=5))
    unit = rng.normal(size=(5, 2) if axes == 1 else (5, 3, 2))
    point = {"current_unit": unit, "current_local_log__": np.log(local)}
    wanted = norm.logpdf(unit).sum() + np.sum(halfcauchy.logpdf(local) + np.log(local))
    assert_allclose(explicit.compile_logp(mode=as_written())(point), wanted, rtol=1e-6)
    drawn = current.eval({explicit["current_unit"]: unit, explicit["current_local"]: local})
    assert_allclose(drawn, 2e-9 * local.reshape(-1, *[1] * (unit.ndim - 1)) * unit)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"local": "half_cauchi"}, "no distribution of local scales named 'half_cauchi'.*did you mean 'half_cauchy'"),
        ({"local": "half_cauchy", "length": 0.01}, "local scales are those of independent sources"),
        ({"local": "half_cauchy", "components": [np.eye(3)], "shares": np.ones(1)}, "those of independent sources"),
    ],
)
def test_what_cannot_be_is_refused(given, match):
    with pytest.raises(ValueError, match=match):
        Currents(1.0, **given)


def test_recordings_drawn_by_the_model_have_local_scales():
    """Recordings of normal currents alone would have a kurtosis of 3 over draws at one scale."""
    problem = toy(sensors=3, sources=6, samples=1, quiet=0)
    with pm.Model(coords=problem.coords) as built:
        Currents(problem.scale_guess**2, local="half_cauchy").observe("recording", problem, noise=1e-3)
        drawn = pm.draw(built["recording"], 400, random_seed=1, mode="FAST_COMPILE")
    assert np.mean(drawn**4) / np.mean(drawn**2) ** 2 > 10
    assert bi.read_card("horseshoe").startswith("Horseshoe")
