"""Predictive: what a model believes before it has seen the recording, as draws."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.linalg import cholesky

from bayesinv.axes import Array, same_axes
from bayesinv.catalogue import build
from bayesinv.inference.density import Density
from bayesinv.inference.result import flattened
from bayesinv.problem import Problem
from bayesinv.structure import Structure, correlation_over_time

if TYPE_CHECKING:
    from collections.abc import Callable

    import pymc as pm

Model = Any
"""What `infer` takes: a name, the path of a file, a function of a problem, or a `pm.Model`."""


@dataclass(frozen=True, eq=False)
class Prior:
    """Draws from the prior of a model on a problem's gain.

    problem : its gain, times and the size of its baseline are what is drawn for; its recording plays no part
    model : name of the prior
    hyper : name to (draw,), on their own scale, with "lambda" and "snr"; named as in `Posterior.hyper`
    free : the names in `hyper` that the model has a prior for, in its order
    variance : (draw,), (A m)²
    noise : (draw,), scale of the whitened noise
    structures : relative covariances, one per draw
    """

    problem: Problem
    model: str
    hyper: dict[str, Array]
    free: tuple[str, ...]
    variance: Array
    noise: Array
    structures: tuple[Structure, ...]

    def __post_init__(self) -> None:
        same_axes(variance=(self.variance, "draw"), noise=(self.noise, "draw"))
        if len(self.structures) != len(self.noise):
            raise ValueError(f"structures has draw = {len(self.structures)}, but noise has draw = {len(self.noise)}")

    def __len__(self) -> int:
        return len(self.noise)

    @classmethod
    def of(
        cls,
        model: str | PathLike[str] | pm.Model | Callable[[Problem], pm.Model],
        problem: Problem,
        count: int = 1000,
        rng: np.random.Generator | None = None,
    ) -> Prior:
        """Draw hyperparameters, and what they make of scales and structure.

        model : as in `infer`
        count : number of draws
        rng : default_rng(0) if None

        Raises
        ------
        ValueError
            If the count is not positive, the model does not exist or does not fit the problem, or a draw is not
            finite or leaves the range that a structure allows.
        """
        import pymc as pm

        if count < 1:
            raise ValueError(f"count is {count}, but at least one draw is wanted")
        rng = np.random.default_rng(0) if rng is None else rng
        name, built = build(model, problem)
        density = Density.of(built)
        nodes, free = np.zeros((count, 0)), {}
        if built.free_RVs:
            # Seldom drawn and small: what compiling takes would never come back.
            drawn = pm.draw(built.free_RVs, draws=count, random_seed=int(rng.integers(2**31)), mode="FAST_COMPILE")
            values = [np.asarray(one, dtype=float).reshape(count, *np.shape(one)[count > 1 :]) for one in drawn]
            free = {variable.name: value for variable, value in zip(built.free_RVs, values, strict=True)}
            nodes = density.unconstrained(values)
        variance, noise = density.scales(nodes)
        wrong = ~(np.isfinite(variance) & np.isfinite(noise) & (variance > 0) & (noise > 0))
        if wrong.any():
            k = int(np.argmax(wrong))
            raise ValueError(
                f"the prior of model {name!r} draws a source variance of {variance[k]:.3g} with a noise scale of "
                f"{noise[k]:.3g}; both must be positive and finite, so its priors are too wide"
            )
        places, which = density.places(nodes)
        every = density.structures(places)
        hyper = flattened({**density.hyper(nodes), **free})
        return cls(problem, name, hyper, tuple(flattened(free)), variance, noise, tuple(every[i] for i in which))

    def truth(self, draw: int, rng: np.random.Generator) -> tuple[Array, Problem]:
        """Draw currents (amplitude, time) in A m, and the problem of a recording and baseline that they make.

            current ~ Normal(0, variance D)     recording = G current + sqrt(variance) error A u + noise L e

        with courses of u and of the currents that are correlated over time where the structure says so, L Lᵀ = N,
        and u and e standard normal. Everything has the hyperparameters of one draw.

        Raises
        ------
        IndexError
            If there is no such draw.
        """
        problem, structure = self.problem, self.structures[draw]
        scale, samples = np.sqrt(self.variance[draw]), len(problem.times)
        course = None
        if structure.time is not None:
            course = cholesky(correlation_over_time(problem.times, structure.time), lower=True)

        def unit(count: int) -> Array:
            white = rng.standard_normal((count, samples))
            return white if course is None else white @ course.T

        current = scale * structure.colour(problem, unit(structure.units(problem)))
        field = problem.gain @ current
        if structure.error and problem.error_factor is not None:
            field += scale * structure.error * (problem.error_factor @ unit(problem.error_factor.shape[1]))
        root = structure.noise_root(problem)

        def error(count: int) -> Array:
            white = rng.standard_normal((problem.components, count))
            return np.asarray(self.noise[draw] * (white if root is None else root @ white))

        field += error(samples)
        quiet = None
        if problem.baseline is not None:
            quiet = error(problem.baseline.shape[1])
            if problem.baseline_centred:
                quiet -= quiet.mean(axis=1, keepdims=True)
        return current, problem.again(field, baseline=quiet, baseline_centred=problem.baseline_centred)
