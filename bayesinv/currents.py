"""Currents: a Gaussian prior over source currents given hyperparameters, not yet a random variable.

Like `pm.gp.Marginal`, it gives a marginal likelihood first (`observe`: the currents are integrated out) and the
exact conditional of the currents later. `latent` gives the explicit random variable instead.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesinv.axes import Array, Index, one_of, real
from bayesinv.evidence import LOG_2PI, Family, RoughError, Spectrum
from bayesinv.problem import Problem, remembered
from bayesinv.structure import (
    COURSES,
    LengthTable,
    Structure,
    along_normals,
    check_times,
    time_range,
)

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
    return Currents(1.0, depth=exponent).structure(problem).diagonal(problem)


@dataclass(frozen=True, eq=False)
class Currents:
    """Zero-mean Gaussian currents.

        current ~ Normal(0, variance * D),   trace(G D Gᵀ) = trace(G diag(weights) Gᵀ)

    Each of these shapes D, and may be a number, an array, or what a model learns as a PyTensor graph. D is scaled so
    that the signal-to-noise ratio that `variance` stands for depends on none of them.

    variance : (A m)²
    depth : exponent of the depth weighting in [0, 1]; None for none
    weights : (source,) or (amplitude,), positive relative variances, which multiply the depth weighting
    tangential : variance of tangential currents in [0, 1], that of the normal one being 1, with free orientation
    length : m, length-scale of a Matérn field over the cortex; None for independent sources
    components : (source,) labels from 0 of the component that a source belongs to (-1 for none: it stays silent), or
        a sequence of positive semidefinite (amplitude, amplitude) matrices
    shares : (component,), positive relative variances of the components
    time : s, time constant of the currents' courses; None where samples are independent
    course : how these are correlated over time: "matern" (ν = 3/2, smooth) or "autoregressive" (of first order, rough)
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

    def __post_init__(self) -> None:
        if self.weights is not None and not _symbolic(self.weights):
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
            object.__setattr__(self, "components", _checked_components(self.components))
        if (self.components is None) != (self.shares is None):
            raise ValueError("components and shares belong together: what the components are, and their variances")
        if self.length is not None and self.components is not None:
            raise ValueError(
                "currents are either smooth (length) or made of components; a smooth component is a matrix of its own"
            )
        if self.length is not None and any(_symbolic(one) for one in (self.depth, self.weights, self.tangential)):
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
            kept = values > 1e-12 * values[-1]
            parts.append(vectors[:, kept] * np.sqrt(values[kept]))
        return np.hstack(parts), np.repeat(np.arange(len(parts)), [part.shape[1] for part in parts])

    def structure(self, problem: Problem, **learned: Any) -> Structure:
        """The structure in which numbers that are learned have given values; trace kept.

        learned : "depth", "weights", "tangential", "length", "shares" or "time", and their values

        Raises
        ------
        ValueError
            If something is learned and has no value, or does not fit the problem.
        """
        given = {name: learned.get(name, getattr(self, name)) for name in SHAPES}
        for name, value in given.items():
            if _symbolic(value):
                raise ValueError(f"{name} is learned; give its value")
        return Structure(**shaped(self, problem, given, np.exp))

    def relative_variances(self, problem: Problem, depth: float | None) -> Array | None:
        """Diagonal of D (amplitude,) at a depth exponent; None stands for ones."""
        structure = self.structure(problem, **({} if depth is None else {"depth": float(np.clip(depth, 0, 1))}))
        return structure.diagonal(problem) if structure.weighted or not structure.plain else None

    def observe(
        self, name: str, problem: Problem, *, noise: Any = 1.0, baseline: bool = True, error: Number | None = None
    ) -> Any:
        """Add the marginal likelihood of the recording, currents integrated out, to the model in context.

            recording[:, t] ~ Normal(0, variance * (G D Gᵀ + error² A Aᵀ) + noise² N)
            baseline[:, t]  ~ Normal(0, noise² N)

        name : of the observed variable, dims ("component", "time")
        problem : whitened gain and recording
        noise : scale of the whitened noise, a number or a PyTensor scalar; 1 trusts the covariance. A vector
            (kind,) has one scale per kind of sensor, in the order of `problem.kinds`
        baseline : whether the problem's baseline, where it has one, is observed too as pure noise; it pins the
            noise scale, which the response alone would trade for signal
        error : scale of the lead field's error, 1 where `problem.error_factor` is as large as it is believed to be;
            where the problem has one and None is given, "error" ~ HalfNormal(1) is learned

        Returns the observed random variable. Prior and posterior predictive sampling draw whitened recordings.

        Raises
        ------
        ValueError
            If a number lies outside its range or an array does not fit the problem.
        """
        import pymc as pm
        import pytensor.tensor as pt

        if isinstance(noise, int | float | np.number) and not 0 < float(noise) < np.inf:
            raise ValueError(f"noise is {noise}, but the scale of the noise must be positive and finite")
        if error is not None and problem.error_factor is None:
            raise ValueError("error scales the lead field's error, but the problem has none; see bi.forward_error")
        if error is None and problem.error_factor is not None:
            error = pm.HalfNormal("error", 1.0)
        model = pm.modelcontext(None)
        fields = shaped(self, problem, {name: getattr(self, name) for name in SHAPES}, pt.exp)
        level, ratio = _noise_scales(problem, noise)
        fields |= {} if ratio is None else {"noise": ratio}
        fields |= {} if error is None else {"error": error}
        learned = {key: value for key, value in fields.items() if _symbolic(value)}
        base = Structure(**{key: value for key, value in fields.items() if key not in learned})
        variance, level = pt.as_tensor_variable(self.variance), pt.as_tensor_variable(level)
        seen = Observation(problem, self, base, learned, variance, level)
        given = dict(learned) if seen.only is None else {**learned, "only": seen.only[1]}
        keys, ranks = list(given), [f"(n{i})" if one.ndim else "()" for i, one in enumerate(given.values())]

        def logp(value: Any, variance: Any, level: Any, *given: Any) -> Any:
            return seen.graph(value, variance, level, dict(zip(keys, given, strict=True)))

        def random(variance: Any, level: Any, *given: Any, rng: Any = None, size: Any = None) -> Array:
            return seen.random(rng, size, variance, level, dict(zip(keys, given, strict=True)))

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
        quiet = None
        if baseline and problem.baseline is not None:
            quiet = _observe_baseline(f"{name}_baseline", seen)
        model.bayesinv = replace(seen, recording=recording, baseline=quiet)  # type: ignore[attr-defined]
        return recording

    def latent(self, name: str, problem: Problem) -> Any:
        """Add the currents themselves as a random variable with dims ("source", ["axis",] "time").

        For teaching, and as the referee of the marginal likelihood: sampling it is possible at small size only.
        """
        import pymc as pm
        import pytensor.tensor as pt

        structure = self.structure(problem)
        if not structure.plain:
            raise ValueError("latent currents want independent sources along given axes; observe() has them all")
        weights = structure.diagonal(problem)
        free = problem.axes == 3
        spread = np.sqrt(weights).reshape((-1, 3, 1) if free else (-1, 1))
        dims = ("source", "axis", "time") if free else ("source", "time")
        unit = pm.Normal(f"{name}_unit", 0.0, 1.0, dims=dims)
        root = structure.time_root(problem.times)
        if root is not None:
            return pm.Deterministic(name, pt.sqrt(self.variance) * spread * pt.dot(unit, root.T), dims=dims)
        return pm.Deterministic(name, pt.sqrt(self.variance) * spread * unit, dims=dims)


LOGARITHMIC = ("length", "time")
"""Numbers whose logarithm the likelihood is smooth in."""

SHAPES = ("depth", "weights", "tangential", "length", "shares", "time")
"""What a structure may be learned by."""


def _symbolic(value: Any) -> bool:
    """Whether a value is a graph that a model learns."""
    return hasattr(value, "owner") and not isinstance(value, np.ndarray)


def shaped(currents: Currents, problem: Problem, given: Mapping[str, Any], exp: Callable[[Any], Any]) -> dict[str, Any]:
    """Fields of a `Structure` from what shapes it, scaled so that the trace is kept.

    given : by name in `SHAPES`, a number, an array, a PyTensor graph or None
    exp : of NumPy or PyTensor; the arithmetic is the same for numbers and graphs
    """
    count, size = problem.source_count, problem.gain.shape[1]
    depth, weights, tangential, length = (given[name] for name in SHAPES[:4])
    out: dict[str, Any] = {}
    if given["time"] is not None:
        check_times(problem.times, given["time"])
        out["time"], out["course"] = given["time"], currents.course
    fixed = None if weights is None or _symbolic(weights) else weights
    if fixed is not None and len(fixed) not in (count, size):
        raise ValueError(f"weights has source = {len(fixed)}, but the problem has source = {count}")
    by_axis = fixed is not None and len(fixed) == size != count
    if by_axis and (tangential is not None or length is not None):
        raise ValueError("with a tangential variance or a length-scale, weights are those of sources, not of axes")
    powers = problem.gain_powers if by_axis else problem.gain_powers.reshape(count, -1).sum(axis=1)
    target = float(np.sum(powers) if fixed is None else np.sum(powers * fixed))
    out |= {} if weights is None else {"weights": weights}
    out |= {} if depth is None else {"depth": depth}
    if depth is not None:
        deep = exp(-2 * depth * np.repeat(problem.log_norms, problem.axes if by_axis else 1))
        weights = deep if weights is None else weights * deep
    if currents.components is not None:
        if isinstance(currents.components, np.ndarray):
            inside = currents.components >= 0
            if len(inside) != count:
                raise ValueError(f"components has source = {len(inside)}, but the problem has source = {count}")
            share = given["shares"][np.maximum(currents.components, 0)] * inside
            out["weights"] = share if fixed is None else share * fixed
            weights = share if weights is None else weights * share
        else:
            return out | _by_matrices(currents, problem, given, weights, target)
    if all(given[name] is None for name in SHAPES[:5] if name != "weights") and not _symbolic(weights):
        return out
    weights = np.ones(count) if weights is None else weights
    if tangential is not None:
        out["tangential"] = tangential
    if length is not None:
        fields = {name: value for name, value in out.items() if name not in ("time", "course")}
        power, out["length"] = LengthTable.of(problem, Structure(**fields)).trace(length), length
    elif tangential is not None:
        along = np.sum(along_normals(problem) ** 2, axis=0)
        power = (weights * (tangential * powers + (1 - tangential) * along)).sum()
    else:
        power = (weights * powers).sum()
    return {**out, "scale": target / power}


def _by_matrices(
    currents: Currents, problem: Problem, given: Mapping[str, Any], weights: Any, target: float
) -> dict[str, Any]:
    """Fields of a structure made of component matrices: their roots side by side, and a variance per column."""
    if _symbolic(weights) or given["tangential"] is not None:
        raise ValueError("components given as matrices hold depth, weights and orientation themselves; learn shares")
    factor, owner = currents.roots
    if len(factor) != problem.gain.shape[1]:
        raise ValueError(f"component matrices have amplitude = {len(factor)}, but the problem {problem.gain.shape[1]}")
    seen = problem.gain @ (
        factor if weights is None else np.sqrt(np.repeat(weights, len(factor) // len(weights)))[:, None] * factor
    )
    shares = given["shares"][owner]
    power = (shares * np.sum(seen**2, axis=0)).sum()
    return {"factor": factor, "shares": shares, "scale": target / power}


def _noise_scales(problem: Problem, noise: Any) -> tuple[Any, Any]:
    """Scale of the noise, and those of the kinds of sensors relative to it; None where there is one for all."""
    if not (_symbolic(noise) and noise.ndim) and not np.ndim(0 if _symbolic(noise) else noise):
        return noise, None
    problem.noise_parts  # noqa: B018  says what is missing
    count = len(problem.kinds)
    if not _symbolic(noise):
        noise = real("noise", noise, "kind")
        if len(noise) != count or not (noise > 0).all():
            raise ValueError(f"noise must have one positive scale per kind of sensor ({', '.join(problem.kinds)})")
    elif noise.type.shape[0] not in (None, count):
        raise ValueError(f"noise has kind = {noise.type.shape[0]}, but the sensors are {', '.join(problem.kinds)}")
    return noise[0], noise / noise[0]


def _checked_components(components: Any) -> Any:
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


def _observe_baseline(name: str, seen: Observation) -> Any:
    """Add the baseline as pure noise; one term per component, in the basis of the noise."""
    import pymc as pm
    import pytensor.tensor as pt

    model, problem = pm.modelcontext(None), seen.problem
    assert problem.baseline is not None
    shape = problem.baseline.shape
    free = shape[1] - int(problem.baseline_centred)
    given = [seen.learned["noise"]] if "noise" in seen.learned else []

    def root(given: Any) -> Any:
        covariance = seen.noise_covariance({"noise": given[0]} if given else {})
        return None if covariance is None else pt.linalg.cholesky(covariance)

    def logp(value: Any, noise: Any, *given: Any) -> Any:
        lower = root(given)
        logs = 2 * pt.log(noise)
        if lower is not None:
            value, logs = pt.linalg.solve_triangular(lower, value, lower=True), logs + 2 * pt.log(pt.diag(lower))
        return -0.5 * (free * (LOG_2PI + logs) + pt.sum(value**2, axis=1) / noise**2)

    def random(noise: Any, *given: Any, rng: Any = None, size: Any = None) -> Array:
        ratios = np.asarray(given[0]) if given else None
        batch = np.broadcast_shapes(np.shape(noise), () if ratios is None else ratios.shape[:-1])
        batch = batch if size is None else tuple(size)
        levels = np.broadcast_to(noise, batch).ravel()
        each = None if ratios is None else np.broadcast_to(ratios, (*batch, ratios.shape[-1])).reshape(len(levels), -1)
        out = np.empty((len(levels), *shape))
        for k, level in enumerate(levels):
            structure = seen.base if each is None else replace(seen.base, noise=np.array(each[k]))
            quiet = draw_noise(problem, structure, float(level), shape[1], rng)
            out[k] = quiet - quiet.mean(axis=1, keepdims=True) if problem.baseline_centred else quiet
        return out.reshape(*batch, *shape)

    return pm.CustomDist(
        name,
        seen.noise,
        *given,
        logp=logp,
        random=random,
        signature=f"(){',(k)' * len(given)}->({','.join(map(str, shape))})",
        observed=problem.baseline,
        dims=("component", "baseline_sample") if "baseline_sample" in model.coords else None,
    )


@dataclass(frozen=True, eq=False)
class Observation:
    """What `Currents.observe` notes on a model, so that the currents can be recovered exactly.

    base : the fields of the structure that are fixed
    learned : field of the structure to the PyTensor graph that the model gave
    variance, noise : the PyTensor scalars the model gave
    recording, baseline : the observed random variables
    """

    problem: Problem
    currents: Currents
    base: Structure
    learned: dict[str, Any]
    variance: Any
    noise: Any
    recording: Any = None
    baseline: Any = None

    def structure(self, values: Mapping[str, Any]) -> Structure:
        """The structure at values of what is learned."""
        found = {key: np.ascontiguousarray(one) if np.ndim(one) else float(one) for key, one in values.items()}
        return replace(self.base, **found)  # type: ignore[arg-type]

    @cached_property
    def mean_power(self) -> float:
        """trace(G D Gᵀ) per component, 1/(A m)², whatever the structure."""
        fixed = self.currents.weights
        if fixed is None or _symbolic(fixed):
            return self.problem.signal_power
        return float(np.sum(Structure(weights=fixed).diagonal(self.problem) * self.problem.gain_powers)) / len(
            self.problem.gain
        )

    @cached_property
    def only(self) -> tuple[str, Any, float, float] | None:
        """Name, graph and range of the one bounded number that shapes the structure; None where it is not so."""
        loose = sum(_symbolic(getattr(self.currents, name)) for name in SHAPES)
        alone = loose == 1 and not {"noise", "error"} & set(self.learned)
        return self.bounded[0] if alone and self.bounded else None

    @cached_property
    def bounded(self) -> list[tuple[str, Any, float, float]]:
        """Name, graph and range of the learned numbers that must stay within one."""
        loose = [(name, getattr(self.currents, name)) for name in ("depth", "tangential", "length", "time")]
        ends = {"length": lambda: self.problem.length_range, "time": lambda: time_range(self.problem)}
        return [(name, one, *ends.get(name, lambda: (0.0, 1.0))()) for name, one in loose if _symbolic(one)]

    @cached_property
    def family(self) -> Family:
        """Spectra over the one number that shapes the structure, or the spectrum of a fixed structure.

        Raises
        ------
        ValueError
            If several numbers shape it.
        """
        problem, currents = self.problem, self.currents
        if not self.learned:
            return Family.single(Spectrum.of(problem, self.base))
        if self.only is None:
            raise ValueError("several numbers shape the structure; there is no family of spectra along one")
        name, _, low, high = self.only
        logs = name in LOGARITHMIC

        def at(x: float) -> Spectrum:
            structure = currents.structure(problem, **{name: float(np.exp(x)) if logs else x})
            return Spectrum.of(problem, replace(structure, noise=self.base.noise, error=self.base.error))

        ends = (float(np.log(low)), float(np.log(high))) if logs else (low, high)
        key = (name, self.base.key, None if currents.weights is None else currents.weights.tobytes())
        family: Family = remembered(problem.memory, "family", key, lambda: Family.along(at, *ends))
        return family

    def graph(self, value: Any, variance: Any, noise: Any, learned: Mapping[str, Any]) -> Any:
        """Log density of the recording: interpolated along one bounded number, else by a factorisation each time."""
        import pytensor.tensor as pt

        if not self.learned:
            return self.family.graph(value, variance, noise)
        if self.only is not None:
            place = learned["only"]
            try:
                family = self.family
            except RoughError:
                # Courses have nothing else; for the rest a factorisation each time is slower, and exact.
                if "time" in self.learned:
                    raise
            else:
                return family.graph(value, variance, noise, pt.log(place) if self.only[0] in LOGARITHMIC else place)
        if self.base.time is not None or "time" in self.learned:
            raise ValueError("courses that are correlated over time have no graph beside other learned structure")
        total = variance * self.gram(learned)
        covariance = self.noise_covariance(learned)
        total = total + noise**2 * (np.eye(len(self.problem.gain)) if covariance is None else covariance)
        lower = pt.linalg.cholesky(total)
        white = pt.linalg.solve_triangular(lower, value, lower=True)
        samples = self.problem.recording.shape[1]
        return -0.5 * (samples * (LOG_2PI + 2 * pt.log(pt.diag(lower))) + pt.sum(white**2, axis=1))

    def gram(self, learned: Mapping[str, Any]) -> Any:
        """G D Gᵀ + error² A Aᵀ (component, component) as a graph of what is learned."""
        import pytensor.tensor as pt

        problem, base = self.problem, self.base
        scale, weights, depth, tangential, length, error, shares = (
            learned.get(name, getattr(base, name))
            for name in ("scale", "weights", "depth", "tangential", "length", "error", "shares")
        )
        if base.factor is not None:
            seen = problem.gain @ Structure(weights=base.weights, depth=base.depth).colour(problem, base.factor)
            gram = pt.dot(seen * shares, seen.T)
        elif length is not None:
            gram = LengthTable.of(problem, base).at(length)
        else:
            by_axis = weights is not None and not _symbolic(weights) and len(weights) == problem.gain.shape[1]
            spread = np.ones(problem.source_count) if weights is None else weights
            if depth is not None:
                spread = spread * pt.exp(-2 * depth * np.repeat(problem.log_norms, problem.axes if by_axis else 1))
            spread = pt.as_tensor_variable(spread)
            gram = pt.dot(problem.gain * (spread if by_axis else pt.repeat(spread, problem.axes)), problem.gain.T)
            if tangential is not None:
                along = along_normals(problem)
                gram = tangential * gram + (1 - tangential) * pt.dot(along * spread, along.T)
        gram = scale * gram
        if problem.error_factor is not None:
            gram = gram + error**2 * (problem.error_factor @ problem.error_factor.T)
        return gram

    def noise_covariance(self, learned: Mapping[str, Any]) -> Any:
        """N (component, component) as a graph of what is learned; None for the identity."""
        import pytensor.tensor as pt

        if "noise" not in learned:
            return self.base.noise_covariance(self.problem)
        ratio, parts = learned["noise"], self.problem.noise_parts
        pairs = pt.outer(ratio, ratio).reshape((-1,))
        return pt.dot(pairs, parts.reshape(len(parts) ** 2, -1)).reshape(parts.shape[2:])

    def random(self, rng: Any, size: Any, variance: Any, noise: Any, learned: Mapping[str, Any]) -> Array:
        """Random recordings (..., component, time), one for every element of what may be batched."""
        problem = self.problem
        learned = {key: value for key, value in learned.items() if key != "only"}
        ranks = {key: self.learned[key].ndim for key in learned}
        batch = np.broadcast_shapes(
            np.shape(variance),
            np.shape(noise),
            *(np.shape(one)[: np.ndim(one) - ranks[key]] for key, one in learned.items()),
        )
        batch = tuple(size) if size is not None else batch
        count = int(np.prod(batch))
        scales, levels = (np.broadcast_to(one, batch).ravel() for one in (variance, noise))
        values = {
            key: np.broadcast_to(one, (*batch, *np.shape(one)[np.ndim(one) - ranks[key] :])).reshape(
                count, *np.shape(one)[np.ndim(one) - ranks[key] :]
            )
            for key, one in learned.items()
        }
        out = np.empty((count, *problem.recording.shape))
        for k in range(count):
            structure = self.structure({key: value[k] for key, value in values.items()})
            out[k] = draw_recording(problem, structure, float(scales[k]), float(levels[k]), rng)[1]
        return out.reshape(*batch, *problem.recording.shape)


def draw_noise(problem: Problem, structure: Structure, noise: float, samples: int, rng: np.random.Generator) -> Array:
    """Random noise (component, sample) of a structure."""
    unit = noise * rng.standard_normal((problem.components, samples))
    root = structure.noise_root(problem)
    return unit if root is None else root @ unit


def draw_recording(
    problem: Problem, structure: Structure, variance: float, noise: float, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Random currents (amplitude, time) of a structure and the recording (component, time) that they make."""
    count = len(problem.times)
    current = np.sqrt(variance) * structure.colour(problem, rng.standard_normal((structure.units(problem), count)))
    lost = None
    if structure.error and problem.error_factor is not None:
        factor = problem.error_factor
        lost = structure.error * np.sqrt(variance) * (factor @ rng.standard_normal((factor.shape[1], count)))
    root = structure.time_root(problem.times)
    if root is not None:
        current = current @ root.T
        lost = None if lost is None else lost @ root.T
    recording = problem.gain @ current + draw_noise(problem, structure, noise, count, rng)
    return current, recording if lost is None else recording + lost


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
