"""Currents: a Gaussian prior over source currents given hyperparameters, not yet a random variable.

Like `pm.gp.Marginal`, it gives a marginal likelihood first (`observe`: the currents are integrated out) and the
exact conditional of the currents later. `latent` gives the explicit random variable instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesinv.axes import Array, real
from bayesinv.evidence import LOG_2PI, Family, Spectrum
from bayesinv.problem import Problem

if TYPE_CHECKING:
    import pymc as pm

Number = Any
"""A Python number, or a PyTensor scalar that a model learns."""


def depth_weights(problem: Problem, exponent: float) -> Array:
    """Return relative prior variances (amplitude,) that favour sources whose gain is small.

        D_jj ∝ ‖g_j‖^(-2 exponent),   trace(G D Gᵀ) = trace(G Gᵀ)

    ‖g_j‖ is the norm of the whitened gain of source j, over its axes with free orientation. With the trace kept,
    the signal-to-noise ratio that a source scale implies does not depend on the exponent.

    exponent : 0 (no weighting) to 1 (full compensation)

    Raises
    ------
    ValueError
        If the exponent lies outside [0, 1].
    Reference: Lin et al. (2006), NeuroImage 31, 160-171.
    """
    if not 0 <= exponent <= 1:
        raise ValueError(f"depth exponent is {exponent}, but must lie between 0 and 1")
    norms = problem.source_norms / np.exp(np.mean(np.log(problem.source_norms)))
    weights = norms ** (-2 * exponent)
    weights *= np.sum(norms**2) / np.sum(weights * norms**2)
    return np.repeat(weights, problem.axes)


@dataclass(frozen=True, eq=False)
class Currents:
    """Independent zero-mean Gaussian currents, the same at every sample.

        current[s, t] ~ Normal(0, variance * D_s)

    variance : (A m)², a number or a PyTensor scalar
    depth : exponent of the depth weighting in [0, 1], a number or a PyTensor scalar; None for D = 1
    weights : (source,) or (amplitude,), fixed relative variances, which multiply the depth weighting
    """

    variance: Number
    depth: Number | None = None
    weights: Array | None = None

    def __post_init__(self) -> None:
        if self.weights is not None:
            weights = real("weights", self.weights, "source")
            if not (weights > 0).all():
                raise ValueError(
                    f"weights must be positive, but source {int(np.argmin(weights))} has {weights.min():.3g}"
                )
            object.__setattr__(self, "weights", weights)
        for name, low, high in (("variance", 0.0, np.inf), ("depth", -1e-12, 1 + 1e-12)):
            value = getattr(self, name)
            if isinstance(value, int | float | np.number) and not low < float(value) < high:
                what = "must lie between 0 and 1" if name == "depth" else "must be positive and finite, in (A m)²"
                raise ValueError(f"{name} is {value}, but {what}")

    def relative_variances(self, problem: Problem, depth: float | None) -> Array | None:
        """Diagonal of D (amplitude,) at a depth exponent; None stands for ones."""
        weights = self.weights
        if weights is not None and len(weights) == problem.source_count:
            weights = np.repeat(weights, problem.axes)
        if weights is not None and len(weights) != problem.gain.shape[1]:
            raise ValueError(
                f"weights has source = {len(weights)}, but the problem has source = {problem.source_count}"
            )
        if depth is None:
            return weights
        deep = depth_weights(problem, float(np.clip(depth, 0, 1)))
        return deep if weights is None else weights * deep

    def relative_graph(self, problem: Problem, depth: Any) -> Any:
        """Diagonal of D (amplitude,) at a learned depth exponent, as a PyTensor graph."""
        import pytensor.tensor as pt

        logs = np.log(problem.source_norms)
        logs = logs - logs.mean()
        weights = pt.exp(-2 * depth * logs)
        weights = weights * (np.sum(np.exp(2 * logs)) / pt.sum(weights * np.exp(2 * logs)))
        weights = pt.repeat(weights, problem.axes)
        fixed = self.relative_variances(problem, None)
        return weights if fixed is None else weights * fixed

    def spectrum(self, problem: Problem, depth: float | None = None) -> Spectrum:
        """Decomposed Gram matrix at a depth exponent; decomposed once per problem."""
        return Spectrum.of(problem, self.relative_variances(problem, depth))

    def family(self, problem: Problem) -> Family:
        """Spectra over the learned structure, or the one spectrum of a fixed structure."""
        fixed = self.depth is None or isinstance(self.depth, int | float | np.number)
        if fixed:
            return Family.single(self.spectrum(problem, None if self.depth is None else float(self.depth)))
        key = ("depth family", None if self.weights is None else self.weights.tobytes())
        if key not in problem.memory:
            problem.memory[key] = Family.along(lambda x: self.spectrum(problem, x), 0.0, 1.0)
        family: Family = problem.memory[key]
        return family

    def observe(self, name: str, problem: Problem, *, noise: Number = 1.0, baseline: bool = True) -> Any:
        """Add the marginal likelihood of the recording, currents integrated out, to the model in context.

            recording[:, t] ~ Normal(0, variance * G D Gᵀ + noise² I)
            baseline[:, t]  ~ Normal(0, noise² I)

        name : of the observed variable, dims ("component", "time")
        problem : whitened gain and recording
        noise : scale of the whitened noise, a number or a PyTensor scalar; 1 trusts the covariance
        baseline : whether the problem's baseline, where it has one, is observed too as pure noise; it pins the
            noise scale, which the response alone would trade for signal

        Returns the observed random variable. Prior and posterior predictive sampling draw whitened recordings.
        """
        import pymc as pm
        import pytensor.tensor as pt

        if isinstance(noise, int | float | np.number) and not 0 < float(noise) < np.inf:
            raise ValueError(f"noise is {noise}, but the scale of the noise must be positive and finite")
        family = self.family(problem)
        model = pm.modelcontext(None)
        shape = problem.recording.shape
        parameters = [pt.as_tensor_variable(self.variance), pt.as_tensor_variable(noise)]
        if family.learned:
            parameters.append(pt.as_tensor_variable(self.depth))

        def logp(value: Any, *given: Any) -> Any:
            return family.graph(value, *given)

        def draw(variance: Any, noise: Any, *rest: Any) -> Any:
            if not family.learned:
                spectrum = family.spectra[0]
                spread = pt.sqrt(variance * spectrum.values + noise**2)
                return pt.dot(spectrum.vectors, spread[:, None] * pm.Normal.dist(0.0, 1.0, shape=shape))
            spread = pt.sqrt(variance * self.relative_graph(problem, rest[0]))
            unit = pm.Normal.dist(0.0, 1.0, shape=(problem.gain.shape[1], shape[1]))
            return pt.dot(problem.gain * spread, unit) + noise * pm.Normal.dist(0.0, 1.0, shape=shape)

        recording = pm.CustomDist(
            name,
            *parameters,
            logp=logp,
            dist=lambda *given: draw(*given[:-1]),
            signature=f"{','.join(['()'] * len(parameters))}->(c,t)",
            observed=problem.recording,
            dims=("component", "time") if {"component", "time"} <= set(model.coords) else None,
        )
        quiet = None
        if baseline and problem.baseline is not None:
            quiet = _observe_baseline(f"{name}_baseline", problem, parameters[1])
        model.bayesinv = Observation(problem, self, family, parameters[0], parameters[1], recording, quiet)
        return recording

    def latent(self, name: str, problem: Problem) -> Any:
        """Add the currents themselves as a random variable with dims ("source", ["axis",] "time").

        For teaching, and as the referee of the marginal likelihood: sampling it is possible at small size only.
        """
        import pymc as pm
        import pytensor.tensor as pt

        if self.depth is not None and not isinstance(self.depth, int | float | np.number):
            raise ValueError("latent currents want a fixed depth exponent; a learned one needs observe()")
        fixed = self.relative_variances(problem, None if self.depth is None else float(self.depth))
        weights = np.ones(problem.gain.shape[1]) if fixed is None else fixed
        free = problem.axes == 3
        spread = np.sqrt(weights).reshape((-1, 3, 1) if free else (-1, 1))
        dims = ("source", "axis", "time") if free else ("source", "time")
        unit = pm.Normal(f"{name}_unit", 0.0, 1.0, dims=dims)
        return pm.Deterministic(name, pt.sqrt(self.variance) * spread * unit, dims=dims)


def _observe_baseline(name: str, problem: Problem, noise: Any) -> Any:
    """Add the baseline as pure noise; one term per component."""
    import pymc as pm
    import pytensor.tensor as pt

    model = pm.modelcontext(None)
    assert problem.baseline is not None
    shape = problem.baseline.shape
    free = shape[1] - int(problem.baseline_centred)

    def logp(value: Any, noise: Any) -> Any:
        return -0.5 * (free * (LOG_2PI + 2 * pt.log(noise)) + pt.sum(value**2, axis=1) / noise**2)

    def draw(noise: Any, size: Any) -> Any:
        quiet = noise * pm.Normal.dist(0.0, 1.0, shape=shape)
        return quiet - pt.mean(quiet, axis=1, keepdims=True) if problem.baseline_centred else quiet

    return pm.CustomDist(
        name,
        noise,
        logp=logp,
        dist=draw,
        signature="()->(c,b)",
        observed=problem.baseline,
        dims=("component", "baseline_sample") if "baseline_sample" in model.coords else None,
    )


@dataclass(frozen=True, eq=False)
class Observation:
    """What `Currents.observe` notes on a model, so that the currents can be recovered exactly.

    variance, noise : the PyTensor scalars the model gave
    recording, baseline : the observed random variables
    """

    problem: Problem
    currents: Currents
    family: Family
    variance: Any
    noise: Any
    recording: Any
    baseline: Any = None


def observation(model: pm.Model) -> Observation:
    """Return what `Currents.observe` noted on the model.

    Raises
    ------
    ValueError
        If no recording was observed in it.
    """
    noted = getattr(model, "bayesinv", None)
    if not isinstance(noted, Observation):
        raise ValueError(
            "the model observes no recording; it must call Currents(...).observe('recording', problem, noise=...)"
        )
    return noted


Model = Callable[[Problem], "pm.Model"]
