"""Draws of a model's prior: hyperparameters, currents, recordings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesinv.arguments import Randomness, count_of, generator_of
from bayesinv.axes import Array, same_axes
from bayesinv.covariance.covariance import Structure
from bayesinv.inference.assemble import flattened
from bayesinv.prior.catalogue import build
from bayesinv.prior.density import Density
from bayesinv.prior.local_scales import draw_log_local, with_local
from bayesinv.prior.patches import Patches
from bayesinv.prior.samples import draw_baseline, draw_recording
from bayesinv.prior.vectorised import with_lambda
from bayesinv.problem.problem import Problem

if TYPE_CHECKING:
    import pymc as pm


Model = Any
"""What `infer` takes: a name, the path of a file, a function of a problem, or a `pm.Model`."""


@dataclass(frozen=True, eq=False)
class Prior:
    """Draws from the prior of a model on a problem's gain.

    problem : its gain, times and the size of its baseline are used; its recording is not
    model : name of the prior
    hyper : name to (draw,), on their own scale, with "lambda" and "snr"; named as in `Posterior.hyper`
    free : the names in `hyper` of the model's free variables, in its order
    variance : (draw,), (A m)²
    noise : (draw,), scale of the whitened noise
    structures : relative covariances, one per draw
    focal : the prior of focal sources above these currents; None where there is none
    """

    problem: Problem
    model: str
    hyper: dict[str, Array]
    free: tuple[str, ...]
    variance: Array
    noise: Array
    structures: tuple[Structure, ...]
    focal: Patches | None = None

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
        rng: Randomness = None,
    ) -> Prior:
        """Draw hyperparameters from the prior, and work out scales and structures at them.

        model : as in `infer`
        count : number of draws
        rng : a generator or a seed, 0 if None

        Raises
        ------
        ValueError
            If the count is not positive, the model does not exist or does not fit the problem, or a draw is not
            finite or leaves the range that a structure allows.
        """
        count, rng = count_of("count", count), generator_of(rng)
        name, built = build(model, problem)
        density = Density.of(built)
        free = density.draw(count, rng)
        nodes = density.unconstrained(list(free.values())) if free else np.zeros((count, 0))
        variance, noise = density.scales(nodes)
        invalid = ~(np.isfinite(variance) & np.isfinite(noise) & (variance > 0) & (noise > 0))
        if invalid.any():
            k = int(np.argmax(invalid))
            raise ValueError(
                f"the prior of model {name!r} draws a source variance of {variance[k]:.3g} with a noise scale of "
                f"{noise[k]:.3g}; both must be positive and finite, so its priors are too wide"
            )
        points, which = density.structural_nodes(nodes)
        structures = density.structures(points)
        hyper = flattened({**density.hyper(nodes), **free})
        each = tuple(structures[i] for i in which)
        focal = density.observation.currents.focal
        if density.observation.currents.local is not None:
            local = [with_local(problem, one, np.exp(draw_log_local(problem.source_count, rng))) for one in each]
            each, variance = tuple(one for one, _ in local), variance * np.array([factor for _, factor in local])
            hyper = with_lambda(hyper, variance, noise, density.observation.mean_power)
        return cls(problem, name, hyper, tuple(flattened(free)), variance, noise, each, focal)

    def truth(self, draw: int, rng: np.random.Generator) -> tuple[Array, Problem]:
        """Draw currents (amplitude, time) in A m, and the problem of a recording and baseline drawn for them.

            current ~ Normal(0, variance D)     recording = G current + sqrt(variance) error A u + noise L e

        with L Lᵀ = N, and u and e standard normal; where the structure correlates time courses, those of u and of the
        currents are. All hyperparameters are those of one draw.

        Raises
        ------
        IndexError
            If there is no such draw.
        """
        problem, structure = self.problem, self.structures[draw]
        variance, noise = float(self.variance[draw]), float(self.noise[draw])
        current, field = draw_recording(problem, structure, variance, noise, rng, self.focal)
        baseline = None
        if problem.baseline is not None:
            baseline = draw_baseline(problem, structure, noise, rng)
        return current, problem.again(field, baseline=baseline, baseline_centred=problem.baseline_centred)
