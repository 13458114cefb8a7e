"""Posterior: what every inference method returns.

Given hyperparameters θ the currents are exactly Gaussian; the posterior is the mixture of those Gaussians over the
posterior of θ (Rao-Blackwell). Means, variances, quantiles and functionals of it are sums over sensor components,
so that no array of sources by sources is ever formed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import solve_triangular
from scipy.special import ndtr, ndtri

from bayesinv.axes import Array, Index, one_of, real, same_axes
from bayesinv.evidence import LOG_2PI, Spectrum
from bayesinv.memory import PickledByFields, cached_property
from bayesinv.problem import Problem
from bayesinv.structure import Structure

ROWS = 512
"""Amplitudes worked on at once."""

SMALL = 2**21
"""Numbers in a gain up to which the way back from coefficients to currents is kept."""

LIGHT = 1e-7
"""Probability that quantiles and exceedances of single currents may be off by, for leaving out the lightest nodes."""

KEPT = 1e-10
"""Share of the variance between hyperparameters that may be dropped with its smallest directions."""

KEPT_IN_SD = 1e-8
"""The same where variances are all that is asked, and half the digits are carried."""

Window = tuple[float | None, float | None] | float | slice | None


class Evidence(float):
    """Log marginal likelihood of the recording (and baseline) in nats, with its numerical `error`."""

    error: float

    def __new__(cls, value: float, error: float = 0.0) -> Evidence:
        self = super().__new__(cls, value)
        self.error = float(error)
        return self

    def __getnewargs__(self) -> tuple[float, float]:  # type: ignore[override]
        return float(self), self.error

    def __repr__(self) -> str:
        return f"{float(self):.3f} ± {self.error:.1g}"


@dataclass(frozen=True)
class Check:
    """A fact about a result that must hold for it to be trusted.

    name, value, limit : what was measured and what it was held against
    passed : whether it holds
    note : what it means, for people
    """

    name: str
    value: float
    limit: str
    passed: bool
    note: str = ""


@dataclass(frozen=True, eq=False)
class Scalar:
    """Posterior of one hyperparameter: moments from weighted nodes, quantiles from draws.

    nodes, weights : (node,)
    draws : (draw,), equally weighted
    """

    nodes: Array
    weights: Array
    draws: Array

    @property
    def mean(self) -> float:
        """Posterior mean."""
        return float(self.weights @ self.nodes)

    @property
    def sd(self) -> float:
        """Posterior standard deviation."""
        return float(np.sqrt(self.weights @ (self.nodes - self.mean) ** 2))

    def quantile(self, probability: ArrayLike) -> Any:
        """Posterior quantile."""
        return np.quantile(self.draws, np.asarray(probability, dtype=float))

    def interval(self, level: float = 0.9) -> tuple[float, float]:
        """Central credible interval.

        Raises
        ------
        ValueError
            If the level lies outside (0, 1).
        """
        tail = (1 - credible_level(level)) / 2
        low, high = np.quantile(self.draws, [tail, 1 - tail])
        return float(low), float(high)


@dataclass(frozen=True, eq=False)
class Hyper(Mapping[str, Scalar]):
    """Posterior of the hyperparameters, by name; "lambda" and "snr" are always there.

    nodes : name to (node,) values; weights : (node,)
    draws : name to (draw,) equally weighted values
    chains : number of chains that the draws come from, one after the other
    scales : the prior of the currents and the noise at each draw, where they are known
    """

    nodes: Mapping[str, Array]
    weights: Array
    draws: Mapping[str, Array]
    chains: int = 1
    scales: Mixture | None = None

    def __getitem__(self, name: str) -> Scalar:
        one_of("hyperparameter", name, self.nodes)
        return Scalar(self.nodes[name], self.weights, self.draws[name])

    def __contains__(self, name: object) -> bool:
        return name in self.nodes

    def __iter__(self) -> Iterator[str]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    def summary(self, level: float = 0.9) -> dict[str, dict[str, float]]:
        """Mean, sd, median and interval of every hyperparameter."""
        table = {}
        for name, scalar in self.items():
            low, high = scalar.interval(level)
            table[name] = {
                "mean": scalar.mean,
                "sd": scalar.sd,
                "median": float(scalar.quantile(0.5)),
                "low": low,
                "high": high,
                "level": level,
            }
        return table


@dataclass(frozen=True, eq=False)
class Mixture:
    """Weighted hyperparameters that the posterior of the currents is mixed over.

    weights, variance, noise : (node,)
    which : (node,), index of the structure that a node has
    structures : relative covariances; an array (amplitude,) stands for relative prior variances, None for ones
    """

    weights: Array
    variance: Array
    noise: Array
    which: Index
    structures: tuple[Structure, ...]

    def __post_init__(self) -> None:
        given = tuple(one if isinstance(one, Structure) else Structure(weights=one) for one in self.structures)
        object.__setattr__(self, "structures", given)
        same_axes(
            weights=(self.weights, "node"),
            variance=(self.variance, "node"),
            noise=(self.noise, "node"),
            which=(self.which, "node"),
        )
        if not (np.isfinite(self.variance).all() and np.isfinite(self.noise).all()):
            raise ValueError("hyperparameters are not finite; the model's scales overflow")


@dataclass(frozen=True, eq=False)
class _Group:
    """The nodes that share one structure, and their filters in the eigenbasis.

    For node n the posterior mean is back @ (gains[n] * coefficients), and where samples are independent the posterior
    variance is variance[n] * weights - back² @ losses[n]. Where courses are correlated over time both hold per mode
    of time, and `courses` takes modes to samples.

    weights, variance : (node,)
    gains, losses : (node, component) or (node, component, mode)
    coefficients : (component, time) or (component, mode)
    back : D Gᵀ inward (amplitude, component), given rows
    """

    spectrum: Spectrum
    weights: Array
    variance: Array
    gains: Array
    losses: Array
    coefficients: Array

    @classmethod
    def of(cls, spectrum: Spectrum, weights: Array, variance: Array, noise: Array) -> _Group:
        total = variance[:, None] * spectrum.cells.reach + noise[:, None] ** 2
        power = None if spectrum.modes is None else spectrum.modes[0]
        if power is None:
            gains = variance[:, None] / total
            return cls(spectrum, weights, variance, gains, gains * variance[:, None], spectrum.coefficients)
        spread = variance[:, None, None] * power
        gains = spread / total.reshape(len(variance), -1, len(power))
        return cls(spectrum, weights, variance, gains, gains * spread, spectrum.coefficients)

    @property
    def modal(self) -> bool:
        """Whether filters differ between modes of time."""
        return self.gains.ndim == 3

    def back(self, rows: slice = slice(None)) -> Array:
        """D Gᵀ inward of some amplitudes; kept where it is small or cannot be had by rows."""
        return self.spectrum.back(rows) if self.by_rows else self._whole[rows]

    @property
    def by_rows(self) -> bool:
        """Whether the way back is large, and can be had by rows."""
        return self.spectrum.structure.plain and self.spectrum.problem.gain.size > SMALL

    @cached_property
    def _whole(self) -> Array:
        return self.spectrum.back()

    @cached_property
    def total(self) -> float:
        return float(self.weights.sum())

    @cached_property
    def centre(self) -> Array:
        """Mean filter (component, [mode])."""
        return np.tensordot(self.weights, self.gains, axes=1) / self.total

    @cached_property
    def _reach(self) -> Array:
        """What a unit of a filter brings to the currents, its power seen through `back`: (component, [mode])."""
        power = self.coefficients**2 if self.modal else np.einsum("ct,ct->c", self.coefficients, self.coefficients)
        values = self.spectrum.values
        return np.sqrt(power * (values[:, None] if self.modal else values))

    @cached_property
    def directions(self) -> tuple[Array, Array]:
        """Scores (node, direction) and directions (direction, component, [mode]) of the filters about their mean.

        They are principal axes in units of what a component brings to the currents, so that what is dropped is small
        in the currents and not only in the filters. Their scores are orthonormal under the weights.
        """
        reach = self._reach
        root = np.sqrt(self.weights)[:, None]
        about = root * ((self.gains - self.centre) * reach).reshape(len(self.weights), -1)
        # Whichever of nodes and cells are fewer makes the smaller eigenproblem.
        if len(about) <= about.shape[1]:
            values, vectors = np.linalg.eigh(about @ about.T)
        else:
            values, right = np.linalg.eigh(about.T @ about)
            vectors = np.divide(about @ right, np.sqrt(np.maximum(values, 1e-300)))
        rest = np.cumsum(np.maximum(values, 0))
        few = vectors[:, rest > KEPT * max(rest[-1], 1e-300)] if rest[-1] > 0 else vectors[:, :0]
        axes = (few.T @ about).reshape(-1, *reach.shape)
        return few / root, np.divide(axes, reach, out=np.zeros_like(axes), where=reach > 0)

    def kept(self) -> Callable[[slice, Array], Array]:
        """A function from rows, and the way back to them, to their mean conditional variance (row, 1 or time)."""
        lost = self.lost(np.tensordot(self.weights, self.losses, axes=1), None)
        prior = (self.weights @ self.variance) * self.spectrum.weights[:, None]
        return lambda rows, back: prior[rows] - back**2 @ lost

    def parts(self, centred: bool) -> tuple[Array, list[Array]]:
        """Filtered coefficients by the mean filter, and by directions that make up the variance between nodes.

        What lies between hyperparameters is added to what lies within, so that half the digits will do.
        """
        axes = self.directions[1]
        if len(axes):
            power = np.cumsum(np.sum(((axes * self._reach) ** 2).reshape(len(axes), -1), axis=1))
            axes = axes[power > KEPT_IN_SD * power[-1]]
        centre = self.seen(self.centre, None) if centred else np.zeros((0, 0))
        return centre, [self.seen(axis, None).astype(np.float32) for axis in axes]

    def _filtered(self, gains: Array) -> Array:
        return gains * self.coefficients if self.modal else gains[:, None] * self.coefficients

    def seen(self, gains: Array, courses: Array | None) -> Array:
        """Filtered coefficients (component, column) of samples, or of weighted sums of them.

        courses : (time, column), weights of samples; None for all samples
        """
        found = self._filtered(gains)
        if self.modal:
            found = found @ self._modes.T
        return found if courses is None else found @ courses

    @property
    def _modes(self) -> Array:
        assert self.spectrum.modes is not None
        return self.spectrum.modes[1]

    def spread(self, courses: Array | None) -> Array:
        """Relative prior variance of samples, or of weighted sums of them: (column,), or (1,) where all are alike."""
        if courses is None:
            return np.ones(1)
        if not self.modal:
            return np.sum(courses**2, axis=0)
        powers, modes = self.spectrum.modes or (np.ones(0), np.ones((0, 0)))
        return np.asarray(powers @ (modes.T @ courses) ** 2)

    def lost(self, losses: Array, courses: Array | None) -> Array:
        """Losses (..., component, column) of samples, or of weighted sums of them; one column where all are alike."""
        if not self.modal:
            return losses[..., None] * self.spread(courses)
        square = (self._modes.T if courses is None else self._modes.T @ courses) ** 2
        return np.asarray(losses @ square)


@dataclass(frozen=True, eq=False)
class Posterior(PickledByFields):
    """Posterior of the source currents behind a recording.

    problem : what was inverted
    model : name of the prior
    method : how the hyperparameters were integrated over, and why so
    mixture : hyperparameters and weights of the exact Gaussians
    hyper : posterior of the hyperparameters
    log_evidence : with its error, or None where the method cannot give it
    checks : what was verified
    timings : seconds per stage
    """

    problem: Problem
    model: str
    method: str
    mixture: Mixture
    hyper: Hyper
    log_evidence: Evidence | None
    checks: tuple[Check, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict)

    def __repr__(self) -> str:
        low, high = self.hyper["snr"].interval(0.9)
        return (
            f"<Posterior of {self.problem.source_count} sources ({self.problem.orientation}) x "
            f"{len(self.problem.times)} samples | {self.model} by {self.method} | SNR {low:.2f} to {high:.2f} (90 %)>"
        )

    @property
    def passed(self) -> bool:
        """Whether every check holds."""
        return all(check.passed for check in self.checks)

    @cached_property
    def _groups(self) -> list[_Group]:
        groups = []
        for k, structure in enumerate(self.mixture.structures):
            nodes = np.flatnonzero((self.mixture.which == k) & (self.mixture.weights > 0))
            if nodes.size:
                given = (one[nodes] for one in (self.mixture.weights, self.mixture.variance, self.mixture.noise))
                groups.append(_Group.of(Spectrum.of(self.problem, structure), *given))
        return groups

    @property
    def _modal(self) -> bool:
        """Whether courses are correlated over time, so that uncertainty varies over it."""
        return any(group.modal for group in self._groups)

    def averaged(self, window: Window = None) -> Posterior:
        """Return the posterior of the currents' mean over a window: a posterior of one sample.

        window : (start, stop) in s, one time in s, or None for all samples

        Raises
        ------
        ValueError
            If the window holds no sample.
        """
        samples = self._samples(window)
        times = self.problem.times[samples]
        mean = np.zeros((len(self.problem.times), 1))
        mean[samples] = 1 / len(times)
        one = self.problem.again(self.problem.recording @ mean, [times.mean()])
        made = replace(self, problem=one)
        groups = []
        for group in self._groups:
            spectrum = replace(group.spectrum, problem=one, structure=replace(group.spectrum.structure, time=None))
            if not group.modal:
                spread = float(group.spread(mean)[0])
                seen = group.coefficients @ mean
                groups.append(
                    replace(
                        group,
                        spectrum=spectrum,
                        variance=group.variance * spread,
                        losses=group.losses * spread,
                        coefficients=seen,
                    )
                )
                continue
            shift = np.stack([group.seen(gains, mean)[:, 0] for gains in group.gains])
            losses = np.stack([group.lost(loss, mean)[:, 0] for loss in group.losses])
            variance = group.variance * group.spread(mean)[0]
            ones = np.ones((shift.shape[1], 1))
            groups.append(
                replace(group, spectrum=spectrum, variance=variance, gains=shift, losses=losses, coefficients=ones)
            )
        made.__dict__["_groups"] = groups
        return made

    def _row_blocks(self) -> Iterator[slice]:
        count = self.problem.gain.shape[1]
        for start in range(0, count, ROWS):
            yield slice(start, min(start + ROWS, count))

    def _shaped(self, flat: Array) -> Array:
        """(amplitude, ...) to (source, [axis,] ...)."""
        axes = self.problem.axes
        return flat if axes == 1 else flat.reshape(-1, axes, *flat.shape[1:])

    def _samples(self, window: Window) -> slice:
        if window is None:
            return slice(None)
        times = self.problem.times
        if isinstance(window, slice):
            if not len(times[window]):
                raise ValueError(f"{window} holds none of the {len(times)} samples")
            return window
        if isinstance(window, int | float | np.number):
            nearest = int(np.argmin(np.abs(times - window)))
            step = float(np.diff(times).max()) if len(times) > 1 else 1.0
            if not abs(float(times[nearest]) - float(window)) <= step:
                raise ValueError(
                    f"no sample near {float(window):g} s; the recording runs from {times[0]:g} to {times[-1]:g} s"
                )
            return slice(nearest, nearest + 1)
        return self.problem.window(*window)

    @cached_property
    def mean(self) -> Array:
        """Posterior mean of the currents, A m: (source, [axis,] time)."""
        out = np.zeros((self.problem.gain.shape[1], len(self.problem.times)))
        for group in self._groups:
            wanted = group.seen(group.total * group.centre, None)
            if not group.by_rows:
                for rows in self._row_blocks():
                    out[rows] += group.back(rows) @ wanted
                continue
            # The way back is as wide as the gain: what has been filtered goes through the gain itself.
            wanted = group.spectrum.inward @ wanted
            weights = group.spectrum.weights if group.spectrum.structure.weighted else None
            for rows in self._row_blocks():
                seen = self.problem.gain[:, rows].T @ wanted
                out[rows] += seen if weights is None else weights[rows, None] * seen
        out.flags.writeable = False
        return self._shaped(out)

    @cached_property
    def within_variance(self) -> Array:
        """Mean over hyperparameters of the conditional variance, (A m)².

        (source, [axis]), the same at all times; (source, [axis,] time) where courses are correlated over time.
        """
        out = self._within()
        return self._shaped(out if self._modal else out[:, 0])

    def _within(self) -> Array:
        out = np.zeros((self.problem.gain.shape[1], len(self.problem.times) if self._modal else 1))
        for group in self._groups:
            kept = group.kept()
            for rows in self._row_blocks():
                out[rows] += kept(rows, group.back(rows))
        return np.maximum(out, 0.0)

    @cached_property
    def prior_variance(self) -> Array:
        """Mean over the hyperparameters' posterior of the prior variance, (A m)²: (source, [axis])."""
        total = sum(((group.weights @ group.variance) * group.spectrum.weights for group in self._groups), np.zeros(1))
        return self._shaped(total)

    @cached_property
    def sd(self) -> Array:
        """Posterior standard deviation, A m: (source, [axis,] time), within plus between hyperparameters."""
        shape = (self.problem.gain.shape[1], len(self.problem.times))
        if len(self.mixture.weights) == 1:
            return self._shaped(np.broadcast_to(np.sqrt(self._within()), shape))
        several = len(self._groups) > 1
        mean = self.mean.reshape(shape) if several else None
        ways = [(group, group.kept(), group.parts(several)) for group in self._groups]
        out = np.empty(shape)
        for rows in self._row_blocks():
            within, between = np.zeros((1, 1)), np.zeros((rows.stop - rows.start, shape[1]))
            for group, kept, (centre, parts) in ways:
                back = group.back(rows)
                within = within + kept(rows, back)
                light = back.astype(np.float32)
                for part in parts:
                    seen = light @ part
                    between += np.square(seen, out=seen)
                if mean is not None:
                    between += group.total * (back @ centre) ** 2
            if mean is not None:
                between -= mean[rows] ** 2
            np.maximum(between, 0.0, out=between)
            between += np.maximum(within, 0.0)
            np.sqrt(between, out=out[rows])
        out.flags.writeable = False
        return self._shaped(out)

    @cached_property
    def shrinkage(self) -> Array:
        """1 - posterior variance / prior variance: (source, [axis]), 0 where the recording says nothing.

        It is the diagonal of the resolution matrix, averaged over the hyperparameters (and over time, where courses
        are correlated).
        """
        out = np.zeros(self.problem.gain.shape[1])
        for group in self._groups:
            share = np.tensordot(group.weights / group.variance, group.losses, axes=1)
            share = group.lost(share, None).mean(axis=1)
            prior = group.spectrum.weights
            for rows in self._row_blocks():
                kept = group.back(rows) ** 2 @ share
                out[rows] += np.divide(kept, prior[rows], out=np.zeros_like(kept), where=prior[rows] > 0)
        return self._shaped(out)

    @property
    def kernel(self) -> Array:
        """The posterior mean as a linear function of the whitened recording: (amplitude, component).

        Raises
        ------
        ValueError
            If courses are correlated over time: then a sample's mean leans on all samples.
        """
        if self._modal:
            raise ValueError(
                "currents whose courses are correlated over time have no kernel from one sample's recording to its "
                "currents; use a model without `time`"
            )
        out = np.zeros(self.problem.gain.T.shape)
        for group in self._groups:
            out += (group.back() * (group.total * group.centre)) @ group.spectrum.inward.T
        return out

    @cached_property
    def fitted(self) -> Array:
        """Whitened recording that the posterior mean explains: (component, time)."""
        out = np.zeros_like(self.problem.recording)
        for group in self._groups:
            out += group.spectrum.explained @ group.seen(group.total * group.centre, None)
        return out

    @property
    def goodness_of_fit(self) -> float:
        """Share of the whitened recording's power that the posterior mean explains."""
        power = float(np.sum(self.problem.recording**2))
        return 1.0 - float(np.sum((self.problem.recording - self.fitted) ** 2)) / power if power else 0.0

    @cached_property
    def _lightest(self) -> tuple[float, float]:
        """Weight up to which Gaussians together hold no more than `LIGHT`, and the weight that is left without them."""
        weights = np.sort(self.mixture.weights)
        light = int(np.searchsorted(np.cumsum(weights), LIGHT * weights.sum(), side="right"))
        return (weights[light - 1] if light else 0.0), float(weights[light:].sum())

    def _nodes(self, rows: slice, samples: slice) -> Iterator[tuple[float, Array, Array]]:
        """Weight, mean (row, time) and sd (row, 1 or time) of every Gaussian of the mixture that counts."""
        least, left = self._lightest
        for group in self._groups:
            back = group.back(rows)
            scores, directions = group.directions
            centre = back @ group.seen(group.centre, None)[:, samples]
            parts = [back @ group.seen(direction, None)[:, samples] for direction in directions]
            square = back**2
            for n in np.flatnonzero(group.weights > least):
                mean = centre.copy()
                for score, part in zip(scores[n], parts, strict=True):
                    mean += score * part
                lost = group.lost(group.losses[n], None)
                lost = lost[:, samples] if group.modal else lost
                variance = group.variance[n] * group.spectrum.weights[rows, None] - square @ lost
                sd = np.sqrt(np.maximum(variance, 0.0))
                # Mixtures of models with and without correlated courses have one shape.
                sd = np.broadcast_to(sd, mean.shape) if self._modal else sd
                yield float(group.weights[n]) / left, mean, sd

    def interval(self, level: float = 0.9, window: Window = None) -> tuple[Array, Array]:
        """Central credible interval of every current: lower and upper, each (source, [axis,] time), A m.

        The quantiles are those of the mixture over hyperparameters, not mean ± z sd.

        level : probability inside, in (0, 1)
        window : (start, stop) in s, one time in s, or None for all samples

        Raises
        ------
        ValueError
            If the level lies outside (0, 1) or the window holds no sample.
        """
        tail = (1 - credible_level(level)) / 2
        samples = self._samples(window)
        count = len(self.problem.times[samples])
        bounds = np.empty((2, self.problem.gain.shape[1], count))
        # Many Gaussians for a block are held at once, so that quantiles are searched without computing them again.
        step = max(1, int(2**24 / (max(1, count) * len(self.mixture.weights))))
        for start in range(0, bounds.shape[1], step):
            rows = slice(start, min(start + step, bounds.shape[1]))
            weights, means, sds = (list(part) for part in zip(*self._nodes(rows, samples), strict=True))
            for side, probability in enumerate((tail, 1 - tail)):
                bounds[side, rows] = mixture_quantile(np.array(weights), np.array(means), np.array(sds), probability)
        return self._shaped(bounds[0]), self._shaped(bounds[1])

    def exceedance(self, threshold: float, window: Window = None) -> Array:
        """P(|current| > threshold): (source, [axis,] time).

        threshold : A m, at least 0
        window : as in `interval`

        Raises
        ------
        ValueError
            If the threshold is negative or not finite.
        """
        if not 0 <= threshold < np.inf:
            raise ValueError(f"threshold is {threshold}, but must be a finite current of at least 0 A m")
        samples = self._samples(window)
        out = np.zeros((self.problem.gain.shape[1], len(self.problem.times[samples])))
        for rows in self._row_blocks():
            for weight, mean, sd in self._nodes(rows, samples):
                out[rows] += weight * (ndtr((-threshold - mean) / sd) + ndtr((mean - threshold) / sd))
        return self._shaped(out)

    def contrast(self, weights: ArrayLike, window: Window = None, names: Sequence[str] | None = None) -> Functional:
        """Exact joint posterior of linear functionals of the currents.

        weights : (source,) or (functional, source), with free orientation (..., source, axis)
        window : None gives a course over all samples; (start, stop) in s gives the mean over that window
        names : one per functional

        Raises
        ------
        ValueError
            If the weights do not fit the sources or are all zero.
        """
        table = np.asarray(weights, dtype=np.float64)
        shape = (
            (self.problem.source_count,) if self.problem.axes == 1 else (self.problem.source_count, self.problem.axes)
        )
        table = table[None] if table.shape == shape else table
        if table.shape[1:] != shape:
            raise ValueError(f"weights has shape {table.shape}, but a functional of these currents has shape {shape}")
        table = real("weights", table.reshape(len(table), -1), "functional amplitude")
        if not table.any(axis=1).all():
            raise ValueError("a functional has only zero weights; it would be 0 whatever the currents")
        labels = tuple(names) if names is not None else tuple(f"functional {i}" for i in range(len(table)))
        if len(labels) != len(table):
            raise ValueError(f"names has functional = {len(labels)}, but weights has functional = {len(table)}")
        samples = self._samples(window)
        averaged = window is not None and not isinstance(window, int | float | np.number)
        courses = None
        if averaged or self._modal:
            courses = np.eye(len(self.problem.times))[:, samples]
            courses = courses.mean(axis=1, keepdims=True) if averaged else courses
        means, covariances, mass, courses_of = [], [], [], []
        for group in self._groups:
            gained = np.zeros((len(table), len(group.spectrum.values)))
            for rows in self._row_blocks():
                gained += table[:, rows] @ group.back(rows)
            prior = table @ group.spectrum.structure.times(self.problem, table.T)
            spread = group.spread(courses if averaged else None)
            for n, weight in enumerate(group.weights):
                seen = group.seen(group.gains[n], courses)
                means.append(gained @ (seen if courses is not None else seen[:, samples]))
                lost = group.lost(group.losses[n], courses)
                known = np.einsum("fc,ct,gc->tfg", gained, lost, gained)
                covariances.append(group.variance[n] * spread[:, None, None] * prior - known)
                mass.append(weight)
                courses_of.append((group, n, gained, prior))
        times = self.problem.times[samples]
        times = np.array([times.mean()]) if averaged else times
        joint = None
        if self._modal and not averaged:

            def joint(node: int) -> Array:
                """Covariance (functional time, functional time) of a node's courses."""
                group, n, gained, prior = courses_of[node]
                count = len(self.problem.times)
                powers, modes = group.spectrum.modes or (np.ones(count), np.eye(count))
                modes = modes[samples]
                losses = group.losses[n] if group.modal else np.repeat(group.losses[n][:, None], count, axis=1)
                before = group.variance[n] * np.kron(prior, (modes * powers) @ modes.T)
                known = np.einsum("fc,cu,gc,tu,su->ftgs", gained, losses, gained, modes, modes, optimize=True)
                return np.asarray(before - known.reshape(before.shape))

        return Functional(labels, times, np.array(mass), np.array(means), np.array(covariances), joint)

    def region(self, labels: Mapping[str, ArrayLike], window: Window = None, flip: bool = False) -> Functional:
        """Exact joint posterior of the mean current of regions, A m.

        labels : region name to the indices of its sources
        window : as in `contrast`
        flip : with fixed orientation, turn currents whose normal points against the region's main direction, so
            that opposite walls of a sulcus do not cancel

        With free orientation a region has one functional per axis, named "region x", "region y", "region z".

        Raises
        ------
        ValueError
            If a region is empty or names a source that does not exist, or `flip` has no normals to go by.
        """
        count, axes = self.problem.source_count, self.problem.axes
        rows, names = [], []
        for name, sources in labels.items():
            index = np.asarray(sources)
            if index.dtype == bool and index.shape != (count,):
                raise ValueError(f"region {name!r} marks source = {index.size}, but there are {count} sources")
            index = np.flatnonzero(index) if index.dtype == bool else index
            if not index.size:
                raise ValueError(f"region {name!r} is empty")
            if not np.issubdtype(index.dtype, np.integer):
                raise ValueError(f"region {name!r} must name its sources by whole numbers, but holds {index.dtype}")
            if index.min() < 0 or index.max() >= count:
                wrong = index.min() if index.min() < 0 else index.max()
                raise ValueError(f"region {name!r} names source {wrong}, but there are {count} sources")
            signs = np.ones(len(index))
            if flip and axes == 1:
                normals = None if self.problem.sources is None else self.problem.sources.normals
                if normals is None:
                    raise ValueError("flip wants the sources' normals, but this problem has none")
                main = np.linalg.svd(normals[index], full_matrices=False)[2][0]
                signs = np.where(normals[index] @ main < 0, -1.0, 1.0)
                signs *= 1.0 if signs.sum() >= 0 else -1.0
            for axis in range(axes):
                row = np.zeros((count, axes))
                np.add.at(row[:, axis], index, signs / len(index))
                rows.append(row[:, 0] if axes == 1 else row)
                names.append(name if axes == 1 else f"{name} {'xyz'[axis]}")
        if not rows:
            raise ValueError("no region was given")
        return self.contrast(np.array(rows), window, names)

    def draw(self, count: int, rng: np.random.Generator, window: Window = None) -> Array:
        """Joint draws of the currents, A m: (draw, source, [axis,] time).

        A draw takes hyperparameters from their posterior and then the currents from their exact conditional.

        Raises
        ------
        ValueError
            If the count is not positive or the draws would not fit into 16 GB.
        """
        samples = self._samples(window)
        length = len(self.problem.times[samples])
        size = count * self.problem.gain.shape[1] * length * 8 / 1e9
        if count < 1:
            raise ValueError(f"count is {count}, but at least one draw is wanted")
        if size > 16:
            raise ValueError(f"{count} draws take {size:.0f} GB; draw fewer, or give a window of time")
        if self._modal and length < len(self.problem.times):
            return self.draw(count, rng)[..., samples]
        flat = self._draw(count, rng, samples)
        return np.stack([self._shaped(one) for one in flat])

    def _draw(self, count: int, rng: np.random.Generator, samples: slice = slice(None)) -> Array:
        """Draws (draw, amplitude, time); where courses are correlated over time, of all samples."""
        nodes = [(g, n) for g, group in enumerate(self._groups) for n in range(len(group.weights))]
        mass = np.concatenate([group.weights for group in self._groups])
        picks = np.sort(rng.choice(len(nodes), size=count, p=mass / mass.sum()))
        length = len(self.problem.times[samples])
        out = np.empty((count, self.problem.gain.shape[1], length))
        batch = max(1, int(2**23 / (out.shape[1] * length)))
        for g, group in enumerate(self._groups):
            mine = np.array([i for i, pick in enumerate(picks) if nodes[pick][0] == g], dtype=np.int64)
            for some in np.array_split(mine, range(batch, len(mine), batch)):
                if some.size:
                    out[some] = self._joint(group, np.array([nodes[pick][1] for pick in picks[some]]), rng, samples)
        return np.asarray(rng.permutation(out, axis=0))

    def _joint(self, group: _Group, nodes: Index, rng: np.random.Generator, samples: slice) -> Array:
        """Draws (draw, amplitude, time) of the currents at nodes of a group.

        The prior is perturbed and then corrected by the posterior mean of what its recording, seen in noise, would
        have been. A filter whose loss is l stands for noise of variance v²/l - v s in a component of power s.
        """
        problem, structure = self.problem, group.spectrum.structure
        seen = group.coefficients if group.modal else group.coefficients[:, samples]
        columns = seen.shape[1]
        powers = np.ones(1) if not group.modal or group.spectrum.modes is None else group.spectrum.modes[0]
        spread = group.variance[nodes][:, None] * powers
        losses = group.losses[nodes].transpose(1, 0, 2) if group.modal else group.losses[nodes].T[:, :, None]
        gains = group.gains[nodes].transpose(1, 0, 2) if group.modal else group.gains[nodes].T[:, :, None]
        share = np.divide(losses, spread, out=np.zeros_like(losses), where=spread > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            error = spread / share - spread * group.spectrum.values[:, None, None]
        error = np.sqrt(np.maximum(np.nan_to_num(error, posinf=0.0), 0.0))
        unit = rng.standard_normal((structure.units(problem), len(nodes) * columns))
        prior = structure.colour(problem, unit).reshape(-1, len(nodes), columns) * np.sqrt(spread)
        field = problem.gain @ prior.reshape(len(prior), -1)
        if structure.error and problem.error_factor is not None:
            lost = rng.standard_normal((problem.error_factor.shape[1], len(nodes), columns)) * np.sqrt(spread)
            field += structure.error * (problem.error_factor @ lost.reshape(len(lost), -1))
        supposed = (group.spectrum.inward.T @ field).reshape(-1, len(nodes), columns)
        supposed += error * rng.standard_normal(supposed.shape)
        missing = gains * seen[:, None, :] - share * supposed
        for rows in self._row_blocks():
            prior[rows] += (group.back(rows) @ missing.reshape(len(missing), -1)).reshape(-1, len(nodes), columns)
        flat = prior.transpose(1, 0, 2)
        if group.modal and group.spectrum.modes is not None:
            flat = flat @ group.spectrum.modes[1].T
        return flat

    def peak(self, window: Window = None, draws: int = 2000, rng: np.random.Generator | None = None) -> Peak:
        """Posterior of the place where the current, averaged over a window, is strongest.

        window : (start, stop) in s; a time in s; None takes the sample at which the posterior mean stands out most
        draws : joint draws of the currents
        rng : default_rng(0) if None, so that the same posterior gives the same peak

        Reference: the peak of a joint draw is a draw of the peak.
        """
        if draws < 1:
            raise ValueError(f"draws is {draws}, but at least one is wanted")
        rng = np.random.default_rng(0) if rng is None else rng
        if window is None:
            window = float(self.problem.times[int(np.argmax(np.sum(self.fitted**2, axis=0)))])
        start, stop = self.problem.times[self._samples(window)][[0, -1]]
        one = self.averaged(window)
        tally = np.zeros(self.problem.source_count)
        done = 0
        while done < draws:
            part = min(draws - done, max(1, int(2**26 / self.problem.gain.shape[1])))
            flat = one._draw(part, rng)[:, :, 0]
            strength = (flat.reshape(part, -1, self.problem.axes) ** 2).sum(axis=2)
            tally += np.bincount(strength.argmax(axis=1), minlength=len(tally))
            done += part
        mean = one.mean.ravel()
        strongest = int((mean.reshape(-1, self.problem.axes) ** 2).sum(axis=1).argmax())
        positions = None if self.problem.sources is None else self.problem.sources.positions
        return Peak(tally / draws, strongest, positions, (float(start), float(stop)), draws)

    def log_likelihood(self, count: int | None = None) -> Array:
        """Log density of each sample's whitened recording at equally weighted hyperparameters: (draw, time).

        count : number of hyperparameters, taken from the mixture by weight; None takes the draws of `hyper`, where
            their scales are known. A learned structure is that of the mixture's nearest node.
        """
        drawn = self.hyper.scales
        if count is not None or drawn is None:
            count = count or 1000
            # Systematic resampling: a node comes as often as its weight says, within one.
            order = np.argsort(self.mixture.weights)[::-1]
            share = np.cumsum(self.mixture.weights[order])
            ticks = (np.arange(count) + 0.5) / count
            picked = order[np.minimum(np.searchsorted(share / share[-1], ticks), len(order) - 1)]
            drawn = replace(
                self.mixture,
                weights=np.full(count, 1 / count),
                variance=self.mixture.variance[picked],
                noise=self.mixture.noise[picked],
                which=self.mixture.which[picked],
            )
        out = np.empty((len(drawn.noise), len(self.problem.times)))
        for k in np.unique(drawn.which):
            mine = drawn.which == k
            spectrum = Spectrum.of(self.problem, drawn.structures[k])
            out[mine] = _sample_density(spectrum, drawn.variance[mine], drawn.noise[mine])
        return out

    def summary(self, level: float = 0.9) -> dict[str, Any]:
        """Numbers of the result as plain Python: hyperparameters with intervals, evidence, checks, timings."""
        return {
            "model": self.model,
            "method": self.method,
            "sources": self.problem.source_count,
            "orientation": self.problem.orientation,
            "components": self.problem.components,
            "samples": len(self.problem.times),
            "independent_samples": self.problem.independent_samples,
            "hyper": self.hyper.summary(level),
            "log_evidence": None if self.log_evidence is None else float(self.log_evidence),
            "log_evidence_error": None if self.log_evidence is None else self.log_evidence.error,
            "goodness_of_fit": self.goodness_of_fit,
            "checks": [vars(check) for check in self.checks],
            "passed": self.passed,
            "timings": dict(self.timings),
        }

    def to_arviz(self) -> Any:
        """Hyperparameter draws, pointwise log likelihood over time and observed data as ArviZ's own container."""
        from bayesinv.arviz_bridge import to_arviz

        return to_arviz(self)

    def to_mne(self, what: str = "mean", threshold: float | None = None, level: float = 0.9) -> Any:
        """A map as MNE-Python's SourceEstimate or VectorSourceEstimate; see `mne_bridge.to_mne`."""
        from bayesinv.mne_bridge import to_mne

        return to_mne(self, what, threshold=threshold, level=level)

    def to_inverse_operator(self, **objects: Any) -> Any:
        """MNE-Python's InverseOperator of the posterior mean; see `mne_bridge.to_inverse_operator`.

        objects : `info`, `forward` and `noise_cov` where the problem does not hold them any more
        """
        from bayesinv.mne_bridge import to_inverse_operator

        return to_inverse_operator(self, **objects)

    def save(self, path: str | PathLike[str]) -> None:
        """Write to NetCDF; see `archive.save`."""
        from bayesinv.archive import save

        save(self, path)


@dataclass(frozen=True, eq=False)
class Functional:
    """Joint posterior of linear functionals of the currents: a mixture of Gaussians.

    names : one per functional
    times : (time,), s
    weights : (node,)
    means : (node, functional, time)
    covariances : (node, time or 1, functional, functional); one where it is the same at every time
    joint : from a node to the covariance (functional × time, functional × time) of its courses, where samples are
        not independent given the hyperparameters
    """

    names: tuple[str, ...]
    times: Array
    weights: Array
    means: Array
    covariances: Array
    joint: Callable[[int], Array] | None = None

    @cached_property
    def mean(self) -> Array:
        """(functional, time)."""
        return np.einsum("n,nft->ft", self.weights, self.means)

    @cached_property
    def covariance(self) -> Array:
        """Joint covariance at each time, within plus between hyperparameters: (time, functional, functional)."""
        about = self.means - self.mean
        between = np.einsum("n,nft,ngt->tfg", self.weights, about, about)
        return np.asarray(np.tensordot(self.weights, self.covariances, axes=1) + between)

    @property
    def sd(self) -> Array:
        """(functional, time)."""
        return np.sqrt(np.einsum("tff->ft", self.covariance))

    @cached_property
    def _sds(self) -> Array:
        return np.sqrt(np.maximum(np.einsum("ntff->nft", self.covariances), 0.0))

    def interval(self, level: float = 0.9) -> tuple[Array, Array]:
        """Central credible interval, lower and upper: (functional, time)."""
        tail = (1 - credible_level(level)) / 2
        low, high = (mixture_quantile(self.weights, self.means, self._sds, p) for p in (tail, 1 - tail))
        return low, high

    def exceedance(self, threshold: float = 0.0) -> Array:
        """P(functional > threshold): (functional, time)."""
        return np.einsum("n,nft->ft", self.weights, ndtr((self.means - threshold) / self._sds))

    def draw(self, count: int, rng: np.random.Generator) -> Array:
        """Joint draws (draw, functional, time)."""
        picks = rng.choice(len(self.weights), size=count, p=self.weights / self.weights.sum())
        out = self.means[picks].copy()
        shape = (len(self.names), len(self.times))
        for node in np.unique(picks):
            mine = picks == node
            unit = rng.standard_normal((int(mine.sum()), *shape))
            covariance = self.covariances[node, 0] if self.joint is None else self.joint(int(node))
            values, vectors = np.linalg.eigh(covariance)
            root = vectors * np.sqrt(np.maximum(values, 0.0))
            if self.joint is None:
                out[mine] += np.einsum("fg,dgt->dft", root, unit)
            else:
                out[mine] += (unit.reshape(len(unit), -1) @ root.T).reshape(unit.shape)
        return out


@dataclass(frozen=True, eq=False)
class Peak:
    """Posterior of the place of the strongest current.

    probability : (source,), share of the joint draws whose peak lies there
    strongest : the source at which the posterior mean is strongest
    positions : (source, 3), m, or None
    window : (start, stop), s
    draws : number of joint draws; a probability q has standard error sqrt(q (1 - q) / draws)
    """

    probability: Array
    strongest: int
    positions: Array | None
    window: tuple[float, float]
    draws: int

    @property
    def source(self) -> int:
        """The most probable source."""
        return int(self.probability.argmax())

    def region(self, level: float = 0.9) -> Index:
        """Smallest set of sources that holds the peak with this probability.

        One half of the draws, picked at random, orders the sources and the other half is counted: a set chosen and
        counted by the same draws would hold too little. Sources with equal counts come nearest first.
        """
        wanted = credible_level(level)
        counts = np.round(self.probability * self.draws).astype(np.int64)
        first = np.random.default_rng(0).multivariate_hypergeometric(counts, int(counts.sum()) // 2)
        second = counts - first
        near = np.arange(len(counts)) if self.positions is None else self._distance(None)
        order = np.lexsort((near, -first))
        share = np.cumsum(second[order]) / second.sum()
        return np.sort(order[: int(np.searchsorted(share, wanted - 1e-12)) + 1])

    def within(self, radius: float, centre: int | None = None) -> float:
        """Probability that the peak lies within `radius` m of a source (the strongest mean if None)."""
        return float(self.probability[self._distance(centre) <= radius].sum())

    def radius(self, level: float = 0.9, centre: int | None = None) -> float:
        """Radius in m about a source (the strongest mean if None) that holds the peak with this probability."""
        distance = self._distance(centre)
        order = np.argsort(distance)
        count = int(np.searchsorted(np.cumsum(self.probability[order]), credible_level(level) - 1e-12))
        return float(distance[order[min(count, len(order) - 1)]])

    def _distance(self, centre: int | None) -> Array:
        if self.positions is None:
            raise ValueError("the sources' positions are not known; give them to the Problem")
        return np.asarray(
            np.linalg.norm(self.positions - self.positions[self.strongest if centre is None else centre], axis=1)
        )


def _sample_density(spectrum: Spectrum, variance: Array, noise: Array) -> Array:
    """Log density (node, time) of each sample; of courses that are correlated over time, given those before it."""
    volume = spectrum.decomposition.log_volume
    if spectrum.modes is None:
        totals = variance[:, None] * spectrum.values + noise[:, None] ** 2
        constant = np.log(totals).sum(axis=1, keepdims=True) + totals.shape[1] * LOG_2PI + volume
        return np.asarray(-0.5 * ((1 / totals) @ spectrum.coefficients**2 + constant))
    powers, modes = spectrum.modes
    seen = spectrum.coefficients @ modes.T
    correlation = (modes * powers) @ modes.T
    out = np.full((len(variance), len(modes)), -0.5 * (len(spectrum.values) * LOG_2PI + volume))
    for n, (scale, error) in enumerate(zip(variance, noise, strict=True)):
        for value, course in zip(spectrum.values, seen, strict=True):
            # The root's rows take each sample's part that those before it do not tell.
            root = np.linalg.cholesky(scale * value * correlation + error**2 * np.eye(len(modes)))
            innovation = solve_triangular(root, course, lower=True)
            out[n] -= 0.5 * innovation**2 + np.log(np.diag(root))
    return out


def credible_level(level: float) -> float:
    """Return the level of an interval, checked.

    Raises
    ------
    ValueError
        If it lies outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}, but must be a probability between 0 and 1, such as 0.9")
    return level


def mixture_quantile(weights: Array, means: Array, sds: Array, probability: float) -> Array:
    """Return quantiles of Gaussian mixtures by Newton's method inside a bracket.

    weights : (node,), sum to 1
    means, sds : (node, ...), broadcast against each other

    Returns the quantile, of the remaining shape.
    """
    total = weights.sum()
    if len(weights) == 1:
        return np.asarray(means[0] + ndtri(probability) * sds[0])
    sizes = np.broadcast_to(sds, means.shape) if sds.shape != means.shape else sds
    share = weights / total
    corners = means + ndtri(probability) * sizes
    low, high = corners.min(axis=0), corners.max(axis=0)
    x = np.tensordot(share, corners, axes=1)
    width = sizes.min(axis=0)
    for _ in range(60):
        z = (x - means) / sizes
        excess = np.tensordot(share, ndtr(z), axes=1) - probability
        low, high = np.where(excess < 0, x, low), np.where(excess > 0, x, high)
        slope = np.tensordot(share, np.exp(-0.5 * z**2) / sizes, axes=1) / np.sqrt(2 * np.pi)
        with np.errstate(divide="ignore", invalid="ignore"):
            step = x - excess / slope
        step = np.where((step > low) & (step < high), step, (low + high) / 2)
        done = np.abs(step - x) <= 1e-9 * width
        x = step
        if done.all():
            break
    return np.asarray(x)
