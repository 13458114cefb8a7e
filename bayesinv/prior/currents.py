"""Currents: a Gaussian prior over source currents given hyperparameters, not yet a random variable.

Like `pm.gp.Marginal`, it gives a marginal likelihood first (`observe`: the currents are integrated out) and the
exact conditional of the currents later. `latent` gives the explicit random variable instead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bayesinv.axes import Array, Index, one_of, real
from bayesinv.covariance.covariance import Structure
from bayesinv.covariance.time_course import COURSES
from bayesinv.memory import PickledByFields, cached_property
from bayesinv.prior.graphs import Number, symbolic
from bayesinv.prior.local_scales import LOCAL
from bayesinv.prior.observation import Observation, check_first_recording, observe_baseline
from bayesinv.prior.patches import Patches
from bayesinv.prior.structure_fields import STRUCTURAL_NAMES, scaled_fields
from bayesinv.problem.problem import Problem


def depth_weights(problem: Problem, exponent: float) -> Array:
    """Return relative prior variances (amplitude,) that favour sources whose gain is small.

        D_jj ∝ ‖g_j‖^(-2 exponent),   trace(G D Gᵀ) = trace(G Gᵀ)

    ‖g_j‖ is the norm of the whitened gain of source j, over its axes with free orientation. Because the trace is fixed,
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
    return Currents(1.0, depth=exponent).structure(problem).diagonal(problem)


@dataclass(frozen=True, eq=False)
class Currents(PickledByFields):
    """Zero-mean Gaussian currents.

        current ~ Normal(0, variance * D),   trace(G D Gᵀ) = trace(G diag(weights) Gᵀ)

    Each of these shapes D, and may be a number, an array, or what a model learns as a PyTensor graph. D is scaled so
    that the signal-to-noise ratio that `variance` stands for depends on none of them.

    variance : (A m)²
    depth : exponent of the depth weighting in [0, 1]; None for none
    weights : (source,) or (amplitude,), positive relative variances, which multiply the depth weighting
    tangential : variance of tangential currents in [0, 1], that of the normal one being 1, with free orientation
    length : m, length-scale of a Matérn field over the cortex; None for independent sources
    components : (source,) labels from 0 of the component that a source belongs to (-1 for none: no current), or
        a sequence of positive semidefinite (amplitude, amplitude) matrices
    shares : (component,), positive relative variances of the components
    time : s, time constant of the currents' time courses; None where they are correlated over time as the noise is
    course : how these are correlated over time: "matern" (ν = 3/2, smooth) or "autoregressive" (of first order, rough)
    focal : a few focal sources above these currents, whose courses are their own; None for none
    local : "half_cauchy" for a factor λ on the currents of every source, shared by its axes and all samples, which is
        half-Cauchy; variances are then variance λ² D, with D without them as above. None for none
    """

    variance: Number
    depth: Number | None = None
    weights: Any = None
    tangential: Number | None = None
    length: Number | None = None
    components: Any = None
    shares: Any = None
    time: Number | None = None
    course: str = "matern"
    focal: Patches | None = None
    local: str | None = None

    def __post_init__(self) -> None:
        if self.weights is not None and not symbolic(self.weights):
            weights = real("weights", self.weights, "source")
            if not (weights > 0).all():
                raise ValueError(
                    f"weights must be positive, but source {int(np.argmin(weights))} has {weights.min():.3g}"
                )
            object.__setattr__(self, "weights", weights)
        for name, low, high, what in (
            ("variance", 0.0, np.inf, "must be positive and finite, in (A m)²"),
            ("depth", -1e-12, 1 + 1e-12, "must lie between 0 and 1"),
            ("tangential", -1e-12, 1 + 1e-12, "must lie between 0 and 1"),
            ("length", 0.0, np.inf, "must be positive and finite, in m"),
            ("time", 0.0, np.inf, "must be positive and finite, in s"),
        ):
            value = getattr(self, name)
            if isinstance(value, int | float | np.number) and not low < float(value) < high:
                raise ValueError(f"{name} is {value}, but {what}")
        one_of("course", self.course, COURSES)
        if self.components is not None:
            object.__setattr__(self, "components", checked_components(self.components))
        if self.local is not None:
            one_of("distribution of local scales", self.local, LOCAL)
            if self.focal is not None or self.length is not None or isinstance(self.components, tuple):
                raise ValueError(
                    "local scales are those of independent sources; leave out length, matrices of components and focal "
                    "sources, or `local`"
                )
        if (self.components is None) != (self.shares is None):
            raise ValueError("components and shares belong together: what the components are, and their variances")
        if self.length is not None and self.components is not None:
            raise ValueError(
                "currents are either smooth (length) or made of components; a smooth component is a matrix of its own"
            )
        if self.length is not None and any(symbolic(one) for one in (self.depth, self.weights, self.tangential)):
            raise ValueError(
                "a smooth field wants fixed depth, weights and tangential variance, because its Gram matrix is made "
                "once per length-scale; give numbers, or leave the length-scale out"
            )

    @cached_property
    def roots(self) -> tuple[Array, Index]:
        """Roots of the component matrices side by side (amplitude, part), and the component of each column."""
        parts = []
        for matrix in self.components:
            values, vectors = np.linalg.eigh(matrix)
            retained = values > 1e-12 * values[-1]
            parts.append(vectors[:, retained] * np.sqrt(values[retained]))
        return np.hstack(parts), np.repeat(np.arange(len(parts)), [part.shape[1] for part in parts])

    def structure(self, problem: Problem, **learned: Any) -> Structure:
        """The structure at given values of the hyperparameters that are learned.

        learned : "depth", "weights", "tangential", "length", "shares" or "time", and their values

        Raises
        ------
        ValueError
            If something is learned and has no value, or does not fit the problem.
        """
        given = {name: learned.get(name, getattr(self, name)) for name in STRUCTURAL_NAMES}
        for name, value in given.items():
            if symbolic(value):
                raise ValueError(f"{name} is learned; give its value")
        return Structure(**scaled_fields(self, problem, given, np.exp))

    def relative_variances(self, problem: Problem, depth: float | None) -> Array | None:
        """Diagonal of D (amplitude,) at a depth exponent; None stands for ones."""
        structure = self.structure(problem, **({} if depth is None else {"depth": float(np.clip(depth, 0, 1))}))
        return structure.diagonal(problem) if structure.weighted or not structure.diagonal_only else None

    def observe(
        self, name: str, problem: Problem, *, noise: Any = 1.0, baseline: bool = True, error: Number | None = None
    ) -> Any:
        """Add the marginal likelihood of the recording, currents integrated out, to the model in context.

            recording[:, t] ~ Normal(0, variance * (G D Gᵀ + error² A Aᵀ) + noise² N)
            baseline[:, t]  ~ Normal(0, noise² N)

        independently over the samples of the recording whose noise is white over time, see `Problem.autocorrelation`:
        currents without a `time` have the noise's correlation over time.

        name : of the observed variable, dims ("component", "time")
        problem : whitened gain and recording
        noise : scale of the whitened noise, a number or a PyTensor scalar; 1 takes the covariance as it is. A vector
            (kind,) has one scale per kind of sensor, in the order of `problem.kinds`
        baseline : whether the problem's baseline, where it has one, is observed too as pure noise; it determines
            the noise scale, which the response alone confounds with the source scale
        error : scale of the lead field's error, 1 for `problem.error_factor` as it is; where the problem has one and
            None is given, "error" ~ HalfNormal(1) is learned; with a focal part, see `Patches`, it is 0

        Returns the observed random variable. Prior and posterior predictive sampling draw whitened recordings.

        Raises
        ------
        ValueError
            If a number lies outside its range, an array does not fit the problem, or the model observes a recording
            already.
        """
        import pymc as pm
        import pytensor.tensor as pt

        model = pm.modelcontext(None)
        check_first_recording(model, name)
        if isinstance(noise, int | float | np.number) and not 0 < float(noise) < np.inf:
            raise ValueError(f"noise is {noise}, but the scale of the noise must be positive and finite")
        if error is not None and problem.error_factor is None:
            raise ValueError("error scales the lead field's error, but the problem has none; see bi.forward_error")
        # A focal part has an error of its own, and what the head does to all sources.
        if error is None and problem.error_factor is not None and self.focal is None:
            error = pm.HalfNormal("error", 1.0)
        fields = scaled_fields(self, problem, {name: getattr(self, name) for name in STRUCTURAL_NAMES}, pt.exp)
        level, ratio = noise_scales(problem, noise)
        fields |= {} if ratio is None else {"noise": ratio}
        fields |= {} if error is None else {"error": error}
        learned = {key: value for key, value in fields.items() if symbolic(value)}
        base = Structure(**{key: value for key, value in fields.items() if key not in learned})
        variance, level = pt.as_tensor_variable(self.variance), pt.as_tensor_variable(level)
        observed = Observation(problem, self, base, learned, variance, level)
        given = dict(learned)
        if observed.interpolated_number is not None:
            given["interpolated_number"] = observed.interpolated_number[1]
        keys, ranks = list(given), [f"(n{i})" if one.ndim else "()" for i, one in enumerate(given.values())]

        def logp(value: Any, variance: Any, level: Any, *given: Any) -> Any:
            if self.focal is not None:
                raise ValueError(
                    "focal currents have no log density in closed form, as which sources are active is unknown; use "
                    "bi.infer(model, problem), whose method is 'active_set'"
                )
            if self.local is not None:
                raise ValueError(
                    "currents with local scales have no log density in closed form, as these are unknown; use "
                    "bi.infer(model, problem), whose method is 'local_scales'"
                )
            return observed.graph(value, variance, level, dict(zip(keys, given, strict=True)))

        def random(variance: Any, level: Any, *given: Any, rng: Any = None, size: Any = None) -> Array:
            return observed.random(rng, size, variance, level, dict(zip(keys, given, strict=True)))

        recording = pm.CustomDist(
            name,
            variance,
            level,
            *given.values(),
            logp=logp,
            random=random,
            signature=f"{','.join(['()', '()', *ranks])}->({','.join(map(str, problem.recording.shape))})",
            observed=problem.recording,
            dims=("component", "time") if {"component", "time"} <= set(model.coords) else None,
        )
        observed_baseline = None
        if baseline and problem.baseline is not None:
            observed_baseline = observe_baseline(f"{name}_baseline", observed)
        model.bayesinv = replace(observed, recording=recording, baseline=observed_baseline)  # type: ignore[attr-defined]
        return recording

    def latent(self, name: str, problem: Problem) -> Any:
        """Add the currents themselves as a random variable with dims ("source", ["axis",] "time").

        For teaching, and as the referee of the marginal likelihood: sampling it is possible at small size only.
        """
        import pymc as pm
        import pytensor.tensor as pt

        structure = self.structure(problem)
        if not structure.diagonal_only:
            raise ValueError("latent currents want independent sources along given axes; observe() has them all")
        weights = structure.diagonal(problem)
        free = problem.axes == 3
        spread: Any = np.sqrt(weights).reshape((-1, 3, 1) if free else (-1, 1))
        if self.local is not None:
            local = pm.HalfCauchy(f"{name}_local", 1.0, dims="source")
            spread = spread * local.reshape((-1, 1, 1) if free else (-1, 1))
        dims = ("source", "axis", "time") if free else ("source", "time")
        unit = pm.Normal(f"{name}_unit", 0.0, 1.0, dims=dims)
        root = structure.time_root(problem)
        if root is not None:
            return pm.Deterministic(name, pt.sqrt(self.variance) * spread * pt.dot(unit, root.T), dims=dims)
        return pm.Deterministic(name, pt.sqrt(self.variance) * spread * unit, dims=dims)


def noise_scales(problem: Problem, noise: Any) -> tuple[Any, Any]:
    """Scale of the noise, and those of the kinds of sensors relative to it; None where there is one for all."""
    if not (symbolic(noise) and noise.ndim) and not np.ndim(0 if symbolic(noise) else noise):
        return noise, None
    problem.noise_parts  # noqa: B018  raises where kinds or covariance are missing
    count = len(problem.kinds)
    if not symbolic(noise):
        noise = real("noise", noise, "kind")
        if len(noise) != count or not (noise > 0).all():
            raise ValueError(f"noise must have one positive scale per kind of sensor ({', '.join(problem.kinds)})")
    elif noise.type.shape[0] not in (None, count):
        raise ValueError(f"noise has kind = {noise.type.shape[0]}, but the sensors are {', '.join(problem.kinds)}")
    return noise[0], noise / noise[0]


def checked_components(components: Any) -> Any:
    """Labels as an integer array, or matrices as a tuple of arrays.

    Raises
    ------
    ValueError
        If labels are no whole numbers, skip a component or cover nothing, or a matrix is not positive semidefinite.
    """
    if isinstance(components, np.ndarray) and components.ndim == 1:
        if not np.issubdtype(components.dtype, np.integer):
            raise ValueError(f"components has type {components.dtype}, but labels are whole numbers from 0")
        if components.max(initial=-1) < 0:
            raise ValueError("components covers no source: every label is negative")
        missing = np.setdiff1d(np.arange(components.max() + 1), components)
        if missing.size:
            raise ValueError(f"component {missing[0]} holds no source; number components without gaps")
        return components
    matrices = tuple(real(f"component {i}", one, "amplitude amplitude") for i, one in enumerate(components))
    if not matrices:
        raise ValueError("components is empty; give labels of the sources or at least one matrix")
    for i, matrix in enumerate(matrices):
        if matrix.shape != (len(matrices[0]),) * 2:
            raise ValueError(f"component {i} has shape {matrix.shape}, but must be {(len(matrices[0]),) * 2}")
        values = np.linalg.eigvalsh((matrix + matrix.T) / 2)
        if not np.allclose(matrix, matrix.T, rtol=1e-6, atol=1e-9 * abs(values[-1])) or values[0] < -1e-8 * values[-1]:
            raise ValueError(
                f"component {i} is not positive semidefinite (smallest eigenvalue {values[0]:.2g}, largest "
                f"{values[-1]:.2g}); a covariance is"
            )
    return matrices
