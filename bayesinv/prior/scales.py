"""Priors of the noise scale, the source scale and the time constant, which models share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bayesinv.problem.problem import Problem

if TYPE_CHECKING:
    from pytensor.tensor import TensorVariable

WITH_BASELINE, WITHOUT_BASELINE = 0.5, 0.1
"""Standard deviation of the log noise scale. The baseline determines it; without one the prior must be narrow, since
noise alone can explain a response."""

USUAL, WIDTH = 0.02, 1.0
"""Median time constant of a response in s, and standard deviation of its logarithm."""

FORMULAS = {
    "noise_scale(problem)": (
        f"LogNormal(0, {WITH_BASELINE}) where there is a baseline, LogNormal(0, {WITHOUT_BASELINE}) where there is none"
    ),
    "source_scale(problem)": "HalfCauchy(problem.scale_guess)",
    "global_scale(problem)": "HalfCauchy(problem.scale_guess / sqrt(number of sources))",
    "time_constant(problem)": "LogNormal(log 20 ms, 1), between half a sample and five times the recording",
}
"""Priors by the call that a model's card names, written out in full."""


def noise_scale(problem: Problem, name: str = "noise") -> TensorVariable[Any, Any]:
    """Return a noise scale as a variable of the model in context.

        name ~ LogNormal(0, width)      width = WITH_BASELINE where the problem has a baseline, else WITHOUT_BASELINE

    It is 1 where the noise covariance is right. A ratio of the noise scales of two kinds of sensor has the same prior.

    problem : what the model observes
    name : of the variable
    """
    import pymc as pm

    return pm.LogNormal(name, 0.0, WITHOUT_BASELINE if problem.baseline is None else WITH_BASELINE)


def source_scale(problem: Problem, name: str = "scale") -> TensorVariable[Any, Any]:
    """Return the standard deviation of the currents, in A m, as a variable of the model in context.

        name ~ HalfCauchy(problem.scale_guess)

    The guess is the median, and 99.6 % of the prior lies between amplitude SNRs of 0.01 and 1000. Its tail falls off as
    a power, so that a recording far stronger or weaker than the guess determines the scale by itself.

    problem : what the model observes; its guess is the scale at which the expected amplitude SNR is 3
    name : of the variable

    References: Gelman (2006), Bayesian Anal. 1, 515-534; Polson & Scott (2012), Bayesian Anal. 7, 887-902.
    """
    import pymc as pm

    return pm.HalfCauchy(name, problem.scale_guess)


def global_scale(problem: Problem, name: str = "scale") -> TensorVariable[Any, Any]:
    """Return the scale, in A m, that local scales of single sources multiply, as a variable of the model in context.

        name ~ HalfCauchy(problem.scale_guess / sqrt(number of sources))

    Squares of half-Cauchy local scales have no mean: the sum of n is about n², a large part of it of the largest one.
    At this median the field of all together is as strong as that of currents that all have the guess as their scale,
    and what one source would have alone is the guess times the root of n.

    problem : what the model observes; its guess is the scale at which the expected amplitude SNR is 3
    name : of the variable

    Reference: Piironen & Vehtari (2017), Electron. J. Stat. 11, 5018-5051, with one source expected to be active.
    """
    import pymc as pm

    return pm.HalfCauchy(name, problem.scale_guess / problem.source_count**0.5)


def time_constant(problem: Problem, name: str = "constant") -> TensorVariable[Any, Any]:
    """Return the time constant of the currents' courses, in s, as a variable of the model in context.

        name ~ LogNormal(log 20 ms, 1), between half a sample and five times the recording

    For `Currents(..., time=time_constant(problem))`: a response is slower than the noise, and currents of any prior
    that are taken to be as fast come out too small. What is sampled is "log_" and the name.

    problem : what the model observes
    name : of the variable

    Raises
    ------
    ValueError
        If there are fewer than 3 samples.
    """
    import pymc as pm

    if len(problem.times) < 3:
        raise ValueError(f"a time constant wants at least 3 samples, but there are {len(problem.times)}")
    span = float(np.ptp(problem.times))
    low, high = 0.5 * span / (len(problem.times) - 1), 5.0 * span
    middle = float(np.clip(np.log(USUAL), np.log(1.1 * low), np.log(0.9 * high)))
    log_constant = pm.TruncatedNormal(f"log_{name}", middle, WIDTH, lower=np.log(low), upper=np.log(high))
    return pm.Deterministic(name, pm.math.exp(log_constant))
