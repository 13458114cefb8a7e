"""Observation: what `Currents.observe` notes on a model, so that the currents can be recovered exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesinv.axes import Array, Index
from bayesinv.covariance.covariance import LengthTable, Structure
from bayesinv.covariance.orientation import along_normals
from bayesinv.covariance.time_course import time_range
from bayesinv.evidence.gaussian import LOG_2PI
from bayesinv.evidence.graph import InterpolatedSpectrum, InterpolationError
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.memory import PickledByFields, cached_property
from bayesinv.prior.graphs import symbolic
from bayesinv.prior.local_scales import draw_log_local, with_local
from bayesinv.prior.samples import draw_baseline, draw_recording
from bayesinv.prior.structure_fields import LOG_SCALED, STRUCTURAL_NAMES
from bayesinv.problem.problem import Problem

if TYPE_CHECKING:
    import pymc as pm

    from bayesinv.prior.currents import Currents


@dataclass(frozen=True, eq=False)
class Observation(PickledByFields):
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

    def again(self, problem: Problem) -> Observation:
        """What the same model, with the prior it has, says of other samples of the same sensors and sources.

        The random variables of the model still observe the recording that it was built for.
        """
        other = replace(self, problem=problem)
        # Ranges of what is learned are the prior's, which other samples do not change.
        vars(other)["bounded"] = self.bounded
        return other

    def structure(self, values: Mapping[str, Any]) -> Structure:
        """The structure at values of what is learned."""
        found = {key: np.ascontiguousarray(one) if np.ndim(one) else float(one) for key, one in values.items()}
        return replace(self.base, **found)  # type: ignore[arg-type]

    @cached_property
    def mean_power(self) -> float:
        """trace(G D Gᵀ) per component, 1/(A m)², whatever the structure."""
        fixed = self.currents.weights
        if fixed is None or symbolic(fixed):
            return self.problem.signal_power
        return float(np.sum(Structure(weights=fixed).diagonal(self.problem) * self.problem.gain_powers)) / len(
            self.problem.gain
        )

    @cached_property
    def interpolated_number(self) -> tuple[str, Any, float, float] | None:
        """Name, graph and range of the structural number, where there is one and it is bounded; else None."""
        learned_count = sum(symbolic(getattr(self.currents, name)) for name in STRUCTURAL_NAMES)
        single = learned_count == 1 and not {"noise", "error"} & set(self.learned)
        return self.bounded[0] if single and self.bounded else None

    @cached_property
    def bounded(self) -> list[tuple[str, Any, float, float]]:
        """Name, graph and range of each learned number that must stay within a range."""
        numbers = [(name, getattr(self.currents, name)) for name in ("depth", "tangential", "length", "time")]
        ends = {"length": lambda: self.problem.length_range, "time": lambda: time_range(self.problem)}
        return [(name, one, *ends.get(name, lambda: (0.0, 1.0))()) for name, one in numbers if symbolic(one)]

    @cached_property
    def interpolated_spectrum(self) -> InterpolatedSpectrum:
        """Spectra along the one structural number, or the spectrum of a fixed structure.

        Raises
        ------
        ValueError
            If several numbers shape it.
        """
        problem, currents = self.problem, self.currents
        if not self.learned:
            return InterpolatedSpectrum.single(Spectrum.of(problem, self.base))
        if self.interpolated_number is None:
            raise ValueError("several numbers shape the structure; there is no spectrum interpolated along one")
        name, _, low, high = self.interpolated_number
        logs = name in LOG_SCALED

        def at(x: float) -> Spectrum:
            structure = currents.structure(problem, **{name: float(np.exp(x)) if logs else x})
            return Spectrum.of(problem, replace(structure, noise=self.base.noise, error=self.base.error))

        ends = (float(np.log(low)), float(np.log(high))) if logs else (low, high)
        key = (name, self.base.key, None if currents.weights is None else currents.weights.tobytes())
        return problem.memory.recall("interpolated_spectrum", key, lambda: InterpolatedSpectrum.along(at, *ends))

    def graph(self, value: Any, variance: Any, noise: Any, learned: Mapping[str, Any]) -> Any:
        """Log density of the recording: interpolated along one bounded number, else by a factorisation each time."""
        import pytensor.tensor as pt

        whitening = self.problem.time_whitening
        volumes: Any = 0.0
        if whitening is not None and self.base.time is None and "time" not in self.learned:
            value, volumes = white_over_time(value, whitening.rows, whitening.inverses), whitening.log_volumes
        if not self.learned:
            return self.interpolated_spectrum.graph(value, variance, noise)
        if self.interpolated_number is not None:
            number = learned["interpolated_number"]
            try:
                interpolated = self.interpolated_spectrum
            except InterpolationError:
                # Time courses have no other graph; for other structure a factorisation each time is slower, and exact.
                if "time" in self.learned:
                    raise
            else:
                return interpolated.graph(
                    value, variance, noise, pt.log(number) if self.interpolated_number[0] in LOG_SCALED else number
                )
        if self.base.time is not None or "time" in self.learned:
            raise ValueError("time courses that are correlated have no graph beside other learned structure")
        total = variance * self.gram(learned)
        covariance = self.noise_covariance(learned)
        total = total + noise**2 * (np.eye(len(self.problem.gain)) if covariance is None else covariance)
        lower = pt.linalg.cholesky(total)
        white = pt.linalg.solve_triangular(lower, value, lower=True)
        samples = self.problem.recording.shape[1]
        return -0.5 * (samples * (LOG_2PI + 2 * pt.log(pt.diag(lower))) + volumes + pt.sum(white**2, axis=1))

    def gram(self, learned: Mapping[str, Any]) -> Any:
        """G D Gᵀ + error² A Aᵀ (component, component) as a graph of what is learned."""
        import pytensor.tensor as pt

        problem, base = self.problem, self.base
        scale, weights, depth, tangential, length, error, shares = (
            learned.get(name, getattr(base, name))
            for name in ("scale", "weights", "depth", "tangential", "length", "error", "shares")
        )
        if base.factor is not None:
            projected = problem.gain @ Structure(weights=base.weights, depth=base.depth).sample(problem, base.factor)
            gram = pt.dot(projected * shares, projected.T)
        elif length is not None:
            gram = LengthTable.of(problem, base).at(length)
        else:
            by_axis = weights is not None and not symbolic(weights) and len(weights) == problem.gain.shape[1]
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
        """Random recordings (..., component, time), one for each element of the broadcast hyperparameters."""
        problem = self.problem
        learned = {key: value for key, value in learned.items() if key != "interpolated_number"}
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
            structure, scale = self.structure({key: value[k] for key, value in values.items()}), float(scales[k])
            if self.currents.local is not None:
                structure, factor = with_local(problem, structure, np.exp(draw_log_local(problem.source_count, rng)))
                scale *= factor
            out[k] = draw_recording(problem, structure, scale, float(levels[k]), rng, self.currents.focal)[1]
        return out.reshape(*batch, *problem.recording.shape)


def white_over_time(value: Any, rows: Index, inverses: Array) -> Any:
    """A recording (component, time) that is a graph with its noise made white over time, see `TimeWhitening`.

    rows : (component,), group of each component
    inverses : (group, combination, time)
    """
    import pytensor.tensor as pt

    if len(inverses) == 1:
        return pt.dot(value, inverses[0].T)
    order = np.argsort(rows, kind="stable")
    parts = [pt.dot(value[np.flatnonzero(rows == group)], one.T) for group, one in enumerate(inverses)]
    return pt.concatenate(parts, axis=0)[np.argsort(order)]


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


def check_first_recording(model: pm.Model, name: str) -> None:
    """Raise where a model, or one that it is part of, observes a recording already.

    A posterior is of the currents of one recording.

    Raises
    ------
    ValueError
        If so.
    """
    part: Any = model
    while part is not None:
        noted = getattr(part, "bayesinv", None)
        if isinstance(noted, Observation):
            raise ValueError(
                f"{name!r} is observed in a model that observes the recording {noted.recording.name!r} already, but a "
                "posterior is of one recording; give one Problem that holds all samples and sensors, or infer each of "
                "several recordings, as bi.infer_many does"
            )
        part = part.parent


def observe_baseline(name: str, observation: Observation) -> Any:
    """Add the baseline as noise alone to the model in context; its log density has one term per component."""
    import pymc as pm
    import pytensor.tensor as pt

    model, problem = pm.modelcontext(None), observation.problem
    assert problem.baseline is not None
    shape, free, whitening = problem.baseline.shape, problem.baseline_freedom, problem.time_whitening
    given = [observation.learned["noise"]] if "noise" in observation.learned else []

    def root(given: Any) -> Any:
        covariance = observation.noise_covariance({"noise": given[0]} if given else {})
        return None if covariance is None else pt.linalg.cholesky(covariance)

    def logp(value: Any, noise: Any, *given: Any) -> Any:
        lower = root(given)
        logs = 2 * pt.log(noise)
        volumes: Any = 0.0
        if whitening is not None:
            value = white_over_time(value, whitening.rows, whitening.baseline_inverses)
            volumes = whitening.baseline_log_volumes
        if lower is not None:
            value, logs = pt.linalg.solve_triangular(lower, value, lower=True), logs + 2 * pt.log(pt.diag(lower))
        return -0.5 * (free * (LOG_2PI + logs) + volumes + pt.sum(value**2, axis=1) / noise**2)

    def random(noise: Any, *given: Any, rng: Any = None, size: Any = None) -> Array:
        ratios = np.asarray(given[0]) if given else None
        batch = np.broadcast_shapes(np.shape(noise), () if ratios is None else ratios.shape[:-1])
        batch = batch if size is None else tuple(size)
        levels = np.broadcast_to(noise, batch).ravel()
        each = None if ratios is None else np.broadcast_to(ratios, (*batch, ratios.shape[-1])).reshape(len(levels), -1)
        out = np.empty((len(levels), *shape))
        for k, level in enumerate(levels):
            structure = observation.base if each is None else replace(observation.base, noise=np.array(each[k]))
            out[k] = draw_baseline(problem, structure, float(level), rng)
        return out.reshape(*batch, *shape)

    return pm.CustomDist(
        name,
        observation.noise,
        *given,
        logp=logp,
        random=random,
        signature=f"(){',(k)' * len(given)}->({','.join(map(str, shape))})",
        observed=problem.baseline,
        dims=("component", "baseline_sample") if "baseline_sample" in model.coords else None,
    )
