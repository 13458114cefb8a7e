"""Posterior: what every inference method returns.

Given hyperparameters θ the currents are exactly Gaussian; the posterior is the mixture of those Gaussians over the
posterior of θ (Rao-Blackwell). Means, variances, quantiles and functionals of it are sums over sensor components,
so that no array of sources by sources is ever formed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bayesinv.arguments import Randomness, count_of, generator_of
from bayesinv.axes import Array, Index
from bayesinv.evidence.spectrum import Spectrum
from bayesinv.exits import exporter
from bayesinv.memory import PickledByFields, cached_property
from bayesinv.posterior import foci as focal_questions
from bayesinv.posterior import moments
from bayesinv.posterior.active import NONE, ActiveSets
from bayesinv.posterior.checks import Check, Evidence
from bayesinv.posterior.condensed import exceedances, intervals
from bayesinv.posterior.conditional import Conditional, Gaussian, Moments
from bayesinv.posterior.courses import together
from bayesinv.posterior.draws import check_count, draw_mixture
from bayesinv.posterior.focal import focal_gaussians, nodes_of
from bayesinv.posterior.foci import Count, Focus
from bayesinv.posterior.functionals import Functional
from bayesinv.posterior.hyper import Hyper
from bayesinv.posterior.mixture import Mixture
from bayesinv.posterior.peak import Peak
from bayesinv.posterior.predictions import sample_log_density
from bayesinv.posterior.quantiles import checked_threshold, credible_level, significant_nodes
from bayesinv.posterior.regions import region_notes, region_weights, regions_of
from bayesinv.posterior.stretched import gaussians_of
from bayesinv.problem.problem import Problem
from bayesinv.problem.windows import Window, samples_of

DEFAULT_LIKELIHOOD_NODES = 1000
"""Number of hyperparameters at which samples' log density is computed where the draws have no scales."""

MAX_DRAW_NUMBERS = 2**26
"""Largest number of drawn currents in memory at once while peaks are counted."""


@dataclass(frozen=True, eq=False)
class Posterior(PickledByFields):
    """Posterior of the source currents behind a recording.

    problem : what was inverted
    model : name of the prior
    method : name of the method by which the hyperparameters were integrated over
    mixture : hyperparameters and weights of the exact Gaussians
    hyper : posterior of the hyperparameters
    log_evidence : with its error, or None where the method cannot give it
    checks : of the inference and the recording
    timings : seconds per stage
    time_weights : (time,), where this is the posterior of one weighted sum of the samples' currents, see `averaged`;
        None where it is that of the samples
    active : which focal sources are active at each node of the mixture; None where the prior has none
    """

    problem: Problem
    model: str
    method: str
    mixture: Mixture
    hyper: Hyper
    log_evidence: Evidence | None
    checks: tuple[Check, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict)
    time_weights: Array | None = None
    active: ActiveSets | None = None

    def __post_init__(self) -> None:
        if self.time_weights is not None and np.shape(self.time_weights) != (len(self.problem.times),):
            raise ValueError(
                f"time_weights has shape {np.shape(self.time_weights)}, but the recording has "
                f"time = {len(self.problem.times)}"
            )

    def __repr__(self) -> str:
        low, high = self.hyper["snr"].interval(0.9)
        known = f"SNR {low:.2f} to {high:.2f} (90 %)"
        if self.active is not None:
            known = f"number of focal sources: {self.count.describe()}"
        return (
            f"<Posterior of {self.problem.source_count} sources ({self.problem.orientation}) x "
            f"{len(self.times)} samples | {self.model} by {self.method} | {known}>"
        )

    @property
    def passed(self) -> bool:
        """Whether every check holds."""
        return all(check.passed for check in self.checks)

    @property
    def times(self) -> Array:
        """Times (time,) in s of the samples that this is the posterior of; of a weighted sum, their weighted mean."""
        if self.time_weights is None:
            return self.problem.times
        return np.array([self.time_weights @ self.problem.times / self.time_weights.sum()])

    @cached_property
    def conditionals(self) -> tuple[Conditional, ...]:
        """The exact Gaussians of the mixture, those of each structure together."""
        made: list[Conditional] = []
        dense = self.mixture.weights > 0
        if self.active is not None:
            made += focal_gaussians(self.problem, self.mixture, self.active)
            dense &= self.active.constant == NONE
        for k, structure in enumerate(self.mixture.structures):
            nodes = np.flatnonzero((self.mixture.which == k) & dense)
            if nodes.size:
                given = (one[nodes] for one in (self.mixture.weights, self.mixture.variance, self.mixture.noise))
                made.append(gaussians_of(Spectrum.of(self.problem, structure), *given))
        if self.time_weights is not None:
            made = [one.averaged(self.time_weights) for one in made]
        return tuple(made)

    @cached_property
    def _parts(self) -> tuple[Moments, ...]:
        """The conditionals, those that are summed before they are taken to the sources as one."""
        return together(self.conditionals)

    @property
    def varies(self) -> bool:
        """Whether uncertainty varies over time.

        It does where the currents' time courses have a correlation of their own, or where a baseline's mean was
        subtracted whose noise is correlated with that of the samples beside it.
        """
        return any(one.varies for one in self.conditionals)

    def averaged(self, window: Window = None) -> Posterior:
        """Return the posterior of the currents' mean over a window: a posterior of one sample.

        window : (start, stop) in s, one time in s, or None for all samples

        Raises
        ------
        ValueError
            If the window holds no sample, or this is the posterior of such a mean already.
        """
        if self.time_weights is not None:
            raise ValueError("this is the posterior of a mean over time already; ask the posterior of the samples")
        samples = samples_of(self.problem.times, window)
        weights = np.zeros(len(self.problem.times))
        weights[samples] = 1 / len(self.problem.times[samples])
        return replace(self, time_weights=weights)

    @property
    def _size(self) -> int:
        return self.problem.gain.shape[1]

    def _shaped(self, flat: Array) -> Array:
        """(amplitude, ...) to (source, [axis,] ...)."""
        axes = self.problem.axes
        return flat if axes == 1 else flat.reshape(-1, axes, *flat.shape[1:])

    @cached_property
    def mean(self) -> Array:
        """Posterior mean of the currents, A m: (source, [axis,] time)."""
        return self._shaped(moments.mean(self._parts, self._size, len(self.times)))

    @cached_property
    def within_variance(self) -> Array:
        """Mean over hyperparameters of the conditional variance, (A m)².

        (source, [axis]), the same at all times; (source, [axis,] time) where it `varies`.
        """
        out = moments.within(self._parts, self._size, len(self.times))
        return self._shaped(out if self.varies else out[:, 0])

    @cached_property
    def prior_variance(self) -> Array:
        """Mean over the hyperparameters' posterior (and over time) of the prior variance, (A m)²: (source, [axis])."""
        return self._shaped(sum((one.prior_variance for one in self.conditionals), np.zeros(1)))

    @cached_property
    def sd(self) -> Array:
        """Posterior standard deviation, A m: (source, [axis,] time), within plus between hyperparameters."""
        shape = (self._size, len(self.times))
        if len(self.mixture.weights) == 1:
            return self._shaped(np.broadcast_to(np.sqrt(moments.within(self._parts, *shape)), shape))
        mean = self.mean.reshape(shape) if len(self._parts) > 1 else None
        return self._shaped(moments.sd(self._parts, *shape, mean))

    @cached_property
    def shrinkage(self) -> Array:
        """1 - posterior variance / prior variance: (source, [axis]), 0 where the recording is not informative.

        It is the diagonal of the resolution matrix, averaged over the hyperparameters (and over time, where time
        courses are correlated).
        """
        out = np.zeros(self._size)
        for one in self.conditionals:
            one.add_reduction(out)
        return self._shaped(out)

    @property
    def kernel(self) -> Array:
        """The posterior mean as a linear function of the whitened recording: (amplitude, component).

        Raises
        ------
        ValueError
            If time courses are correlated: then a sample's mean depends on all samples.
        """
        if any(
            structure.time is not None or structure.sample_noise is not None for structure in self.mixture.structures
        ):
            raise ValueError(
                "currents whose time courses are correlated, or samples whose noise differs, have no kernel from one "
                "sample's recording to its currents; use a model without `time`, and noise_tails='normal'"
            )
        out = np.zeros(self.problem.gain.T.shape)
        for one in self.conditionals:
            out += one.kernel()
        return out

    @cached_property
    def fitted(self) -> Array:
        """Whitened recording that the posterior mean explains: (component, time)."""
        out = np.zeros((self.problem.components, len(self.times)))
        for one in self.conditionals:
            out += one.fitted()
        return out

    @property
    def recording(self) -> Array:
        """Whitened recording (component, time) of the samples that this is the posterior of."""
        field = self.problem.recording
        return field if self.time_weights is None else field @ self.time_weights[:, None]

    @property
    def goodness_of_fit(self) -> float:
        """Share of the whitened recording's power that the posterior mean explains."""
        power = float(np.sum(self.recording**2))
        return 1.0 - float(np.sum((self.recording - self.fitted) ** 2)) / power if power else 0.0

    @property
    def own_noise(self) -> tuple[Array, Array]:
        """Posterior means (sensor,) and (time,) of variance of noise of their own, relative to that of all."""
        whitener = self.problem.whitener
        count = self.problem.components if whitener is None else whitener.shape[1]
        mass = np.bincount(self.mixture.which, self.mixture.weights, minlength=len(self.mixture.structures))
        found = np.zeros(count), np.zeros(len(self.problem.times))
        for one, name in zip(found, ("sensor_noise", "sample_noise"), strict=True):
            given = [getattr(structure, name) for structure in self.mixture.structures]
            one += sum(m * s for m, s in zip(mass / mass.sum(), given, strict=True) if s is not None)
        return found

    def gaussians(self, rows: slice | Index, samples: slice | Index) -> Iterator[Gaussian]:
        """Weight, mean (row, time) and sd (row, 1 or time) of every Gaussian of the mixture that counts.

        rows : of the amplitudes; samples : of the times
        """
        least, left = significant_nodes(self.mixture.weights)
        for one in self.conditionals:
            for weight, mean, sd in one.gaussians(rows, samples, least):
                # Mixtures of models with and without correlated time courses have one shape.
                yield weight / left, mean, np.broadcast_to(sd, mean.shape) if self.varies else sd

    def interval(self, level: float = 0.9, window: Window = None) -> tuple[Array, Array]:
        """Central credible interval of every current: lower and upper, each (source, [axis,] time), A m.

        The quantiles are those of the mixture over hyperparameters, not mean ± z sd, to a thousandth of an sd.

        level : probability inside, in (0, 1)
        window : (start, stop) in s, one time in s, or None for all samples

        Raises
        ------
        ValueError
            If the level lies outside (0, 1) or the window holds no sample.
        """
        low, high = intervals(self, credible_level(level), samples_of(self.times, window))
        return self._shaped(low), self._shaped(high)

    def exceedance(self, threshold: float, window: Window = None) -> Array:
        """P(|current| > threshold): (source, [axis,] time).

        threshold : A m, at least 0
        window : as in `interval`

        Raises
        ------
        ValueError
            If the threshold is negative or not finite.
        """
        threshold = checked_threshold(threshold)
        return self._shaped(exceedances(self, threshold, samples_of(self.times, window)))

    def contrast(self, weights: ArrayLike, window: Window = None, names: Sequence[str] | None = None) -> Functional:
        """Exact joint posterior of linear functionals of the currents.

        weights : (source,) or (functional, source), with free orientation (..., source, axis)
        window : None gives a time course over all samples; (start, stop) in s gives the mean over that window
        names : one per functional

        Raises
        ------
        ValueError
            If the weights do not fit the sources or are all zero, or functionals do not fit into 16 GB together.
        """
        return Functional.of(self.conditionals, self.problem, self.times, weights, window, names)

    def region(self, labels: Any, window: Window = None, flip: bool = False) -> Functional:
        """Exact joint posterior of the mean current of regions, A m.

        labels : region name to the indices of its sources, to a mask of them, or to an `mne.Label`; or such labels,
            which are the sources at their vertices; how many these are is in the answer's `notes`
        window : as in `contrast`
        flip : with fixed orientation, flip the sign of currents whose normal points against the region's main
            direction, so that opposite walls of a sulcus do not cancel

        With free orientation a region has one functional per axis, named "region x", "region y", "region z".

        Raises
        ------
        ValueError
            If a region is empty, names a source that does not exist or is of another hemisphere or subject than all
            sources, or `flip` has no normals to go by.
        """
        regions = regions_of(labels, self.problem)
        weights, names = region_weights(self.problem, regions, flip)
        return replace(self.contrast(weights, window, names), notes=region_notes(labels, regions))

    def draw(self, count: int, rng: Randomness, window: Window = None) -> Array:
        """Joint draws of the currents, A m: (draw, source, [axis,] time).

        A draw takes hyperparameters from their posterior and then the currents from their exact conditional.

        Raises
        ------
        ValueError
            If the count is not positive or the draws would not fit into 16 GB.
        """
        samples = samples_of(self.times, window)
        length = len(self.times[samples])
        check_count(count, self._size, length)
        rng = generator_of(rng)
        at_once = len(self.times) if any(one.by_mode for one in self.conditionals) else length
        flat = draw_mixture(self.conditionals, count, rng, samples, self._size, at_once)
        return np.stack([self._shaped(one) for one in flat])

    def peak(self, window: Window = None, draws: int = 2000, rng: Randomness = None) -> Peak:
        """Posterior of the position where the current, averaged over a window, is strongest.

        window : (start, stop) in s; a time in s; None takes `strongest_time`
        draws : joint draws of the currents
        rng : a generator or a seed, 0 if None, so that the same posterior gives the same peak

        Reference: the peak of a joint draw is a draw of the peak.
        """
        draws, rng = count_of("draws", draws), generator_of(rng)
        window = self.strongest_time if window is None else window
        start, stop = self.times[samples_of(self.times, window)][[0, -1]]
        one = self if self.time_weights is not None else self.averaged(window)
        shape = (self.problem.source_count, self.problem.axes)
        tally, done = np.zeros(shape[0]), 0
        while done < draws:
            part = min(draws - done, max(1, int(MAX_DRAW_NUMBERS / self._size)))
            drawn = draw_mixture(one.conditionals, part, rng, slice(0, 1), self._size, 1)
            strength = (drawn[:, :, 0].reshape(part, *shape) ** 2).sum(axis=2)
            tally += np.bincount(strength.argmax(axis=1), minlength=len(tally))
            done += part
        strongest = int((one.mean.reshape(shape) ** 2).sum(axis=1).argmax())
        positions = None if self.problem.sources is None else self.problem.sources.positions
        return Peak(tally / draws, strongest, positions, (float(start), float(stop)), draws)

    # --- focal sources

    @property
    def _active(self) -> ActiveSets:
        if self.active is None:
            raise ValueError(
                f"model {self.model!r} has no focal sources, so there is none to count or to place; infer 'focal', or "
                "a model with Currents(..., focal=Patches(problem))"
            )
        return self.active

    @property
    def count(self) -> Count:
        """Posterior of the number of focal sources."""
        weights = self.mixture.weights / self.mixture.weights.sum()
        return Count(np.bincount(self._active.counts, weights, self._active.most + 1).astype(np.float64))

    @cached_property
    def foci(self) -> tuple[Focus, ...]:
        """Focal sources, matched over draws by place, the most probable first; see `posterior.foci`."""
        active, weights = self._active, self.mixture.weights
        return focal_questions.foci(self.problem, active, weights, nodes_of(self.conditionals), self.times)

    def inclusion(self, labels: ArrayLike | Mapping[str, ArrayLike] | None = None) -> Array:
        """Probability that a focal source's patch holds a place: (source,), or any place of each label: (label,).

        labels : as `Problem.with_parcels` takes them; None for every place

        Raises
        ------
        ValueError
            If there are no focal sources in the model, or labels do not fit the sources.
        """
        return focal_questions.inclusion(self.problem, self._active, self.mixture.weights, labels)

    def probability_near(self, position: ArrayLike, radius: float) -> float:
        """Probability that the centre of a focal source lies within a radius of a position.

        position : (3,), m, in the frame of the problem's sources
        radius : m

        Raises
        ------
        ValueError
            If there are no focal sources in the model, positions are not known, or these are no place and no radius.
        """
        return focal_questions.probability_near(self.problem, self._active, self.mixture.weights, position, radius)

    @property
    def strongest_time(self) -> float:
        """Time in s at which the posterior mean explains most of the recording."""
        return float(self.times[int(np.argmax(np.sum(self.fitted**2, axis=0)))])

    def log_likelihood(self, count: int | None = None) -> Array:
        """Log density of each sample's whitened recording at equally weighted hyperparameters: (draw, time).

        count : number of hyperparameters, taken from the mixture by weight; None takes the draws of `hyper`, where
            their scales are known. A learned structure is that of the mixture's nearest node.

        It is of the recording's samples, also where this is the posterior of their weighted sum.

        Raises
        ------
        ValueError
            If the prior has focal sources, whose density of a single sample is not worked out, or the count is none.
        """
        if self.active is not None:
            raise ValueError("a posterior with focal sources has no log density of single samples")
        drawn = self.hyper.scales
        if count is not None or drawn is None:
            order = np.argsort(self.mixture.weights)[::-1]
            number = DEFAULT_LIKELIHOOD_NODES if count is None else count_of("count", count)
            drawn = self.mixture.resampled(number, order)
        return sample_log_density(self.problem, drawn)

    def summary(self, level: float = 0.9) -> dict[str, Any]:
        """Numbers of the result as plain Python: hyperparameters with intervals, evidence, checks, timings."""
        focal = {} if self.active is None else focal_questions.summary(self.count, self.foci, self.active, level)
        return {
            "model": self.model,
            "method": self.method,
            "sources": self.problem.source_count,
            "orientation": self.problem.orientation,
            "components": self.problem.components,
            "samples": len(self.times),
            "noise_over_time": self.problem.noise_over_time,
            "hyper": self.hyper.summary(level),
            "log_evidence": None if self.log_evidence is None else float(self.log_evidence),
            "log_evidence_error": None if self.log_evidence is None else self.log_evidence.error,
            "goodness_of_fit": self.goodness_of_fit,
            "checks": [vars(check) for check in self.checks],
            "passed": self.passed,
            "timings": dict(self.timings),
            **focal,
        }

    def to_arviz(self) -> Any:
        """Hyperparameter draws, pointwise log likelihood over time and observed data as ArviZ's own container."""
        return exporter("to_arviz")(self)

    def to_mne(self, what: str = "mean", threshold: float | None = None, level: float = 0.9) -> Any:
        """A map as MNE-Python's SourceEstimate or VectorSourceEstimate; see `bridges.mne_maps.to_mne`."""
        return exporter("to_mne")(self, what, threshold=threshold, level=level)

    def to_inverse_operator(self, **objects: Any) -> Any:
        """MNE-Python's InverseOperator of the posterior mean; see `bridges.mne_operator.to_inverse_operator`.

        objects : `info`, `forward` and `noise_cov` where the problem does not hold them any more
        """
        return exporter("to_inverse_operator")(self, **objects)

    def save(self, path: str | PathLike[str]) -> None:
        """Write to NetCDF; see `bridges.archive.save`."""
        exporter("save")(self, path)
