"""A model observes one recording; what else it observes counts, whichever models came before it."""

import numpy as np
import pymc as pm
import pytest
from numpy.testing import assert_allclose
from referee import toy
from scipy.integrate import trapezoid
from scipy.stats import norm

import bayesinv as bi


def observing(problem, rating=None, potential=False):
    """Scale of the currents learned from a recording, and perhaps from a number that somebody gave for it."""
    with pm.Model() as model:
        scale = pm.LogNormal("scale", np.log(problem.scale_guess), 1.0)
        if rating is not None and potential:
            pm.Potential("rating", pm.logp(pm.Normal.dist(pm.math.log(scale), 0.1), rating))
        elif rating is not None:
            pm.Normal("rating", pm.math.log(scale), 0.1, observed=rating)
        bi.Currents(scale**2).observe("recording", problem, noise=1.0, baseline=False)
    return model


def wanted(problem, rating):
    """Mean and standard deviation of the logarithm of the scale, and the log evidence, by a grid over it."""
    values, vectors = np.linalg.eigh(problem.gain @ problem.gain.T)
    logs = np.log(problem.scale_guess) + np.linspace(-6, 6, 2401)[:, None, None]
    heights = norm(0, np.sqrt(np.exp(2 * logs) * values[:, None] + 1)).logpdf(vectors.T @ problem.recording).sum((1, 2))
    logs = logs.ravel()
    heights += norm(np.log(problem.scale_guess), 1.0).logpdf(logs)
    if rating is not None:
        heights += norm(logs, 0.1).logpdf(rating)
    density = np.exp(heights - heights.max())
    mass = trapezoid(density, logs)
    mean = trapezoid(density * logs, logs) / mass
    return mean, np.sqrt(trapezoid(density * (logs - mean) ** 2, logs) / mass), np.log(mass) + heights.max()


def found(posterior):
    scale = posterior.hyper["scale"]
    weights, logs = scale.weights / scale.weights.sum(), np.log(scale.nodes)
    mean = weights @ logs
    return mean, np.sqrt(weights @ (logs - mean) ** 2), float(posterior.log_evidence)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0)])
def test_what_else_is_observed_counts_whatever_came_before(order):
    problem = toy()
    guess = np.log(problem.scale_guess)
    cases = [(None, False), (guess + 0.4, False), (guess - 0.7, False), (guess - 0.7, True)]
    for k in order:
        rating, potential = cases[k]
        mean, sd, evidence = found(bi.infer(observing(problem, rating, potential), problem))
        at, width, height = wanted(problem, rating)
        assert_allclose(mean, at, atol=1e-3 * width)
        assert_allclose(sd, width, rtol=2e-3)
        assert_allclose(evidence, height, atol=1e-4)


def test_a_second_recording_is_refused():
    one, other = toy(), toy(samples=3)
    words = "'b' is observed in a model that observes the recording 'a' already, .*; give one Problem that holds all"
    with pm.Model():
        scale = pm.HalfNormal("scale", one.scale_guess)
        bi.Currents(scale**2).observe("a", one, noise=1.0)
        for problem in (one, other):
            with pytest.raises(ValueError, match=words):
                bi.Currents(scale**2).observe("b", problem, noise=1.0)
        with pm.Model(name="part"), pytest.raises(ValueError, match=words):
            bi.Currents(1.0).observe("b", other, noise=1.0)
