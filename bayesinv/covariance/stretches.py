"""Stretches: overlapping parts of a long recording, from which all of it is known at a cost linear in its samples.

A sample depends on those far from it only through those between. With a memory of h samples, stretches that share at
least 2h, and what neighbours share,

    log p(recording) = Σ log p(stretch) - Σ log p(overlap),   p(current_t | recording) = p(current_t | stretch around t)

where the stretch around t reaches h beyond it on either side. All stretches have the same modes of time, so that one
eigendecomposition of few samples serves any number of them. The memory is where the prediction of currents and noise
together from their past no longer gains from a longer past, whatever the ratio of the two.

References: Durbin (1960), Rev. Int. Stat. Inst. 28, 233-244 (partial correlations); Vecchia (1988), J. R. Stat. Soc. B
50, 297-312 (likelihoods by conditioning on few neighbours).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from bayesinv.axes import Array, Index
from bayesinv.covariance.time_course import correlation_at, correlation_over_time, equally_spaced
from bayesinv.covariance.time_modes import TimeModes
from bayesinv.memory import PickledByFields, cached_property
from bayesinv.problem.problem import Problem
from bayesinv.problem.time_whitening import DENSE, JITTER

TOLERANCE = 1e-6
"""Expected loss of log density, in nats over all components, at which samples further away are left out."""

MAX_MEMORY = 512
"""Longest memory, in samples."""

MAX_LOST = 1e-2
"""Largest expected loss of log density, in nats, at which currents are given."""

ROUGH_MEMORY = 160
"""Memory, in samples, by which courses are judged that lose more than that whatever the memory."""

MAX_TOGETHER = 2048
"""Most samples that are taken together where the memory is so long that stretches would be no shorter."""

SETTLED = 16
"""Fewest partial correlations in a row, beside a quarter of all, that are nothing before the rest is taken for it."""

RATIOS = np.append(0.0, 10.0 ** np.arange(-4, 5))
"""Ratios of the currents' variance in a component to the noise's at which the memory is looked for."""


@dataclass(frozen=True, eq=False)
class Part:
    """Stretches, or overlaps, of a recording.

    sign : 1 of stretches, -1 of overlaps, whose log density is subtracted
    modes : of time, of each of them
    starts : (stretch,), the first sample of each
    """

    sign: int
    modes: TimeModes
    starts: Index

    @property
    def length(self) -> int:
        """Samples in each."""
        return len(self.modes.powers)

    def coefficients(self, table: Array) -> Array:
        """A table (component, time) in the modes of every stretch: (component, stretch, mode)."""
        cut = sliding_window_view(table, self.length, axis=1)[:, self.starts]
        flat = cut.reshape(-1, self.length) @ self.modes.to_modes
        return np.asarray(flat.reshape(len(table), len(self.starts), -1))


@dataclass(frozen=True, eq=False)
class Stretches(PickledByFields):
    """Overlapping stretches of equally spaced samples whose noise has one colour.

    modes, shared : modes of time of a stretch, and of what two neighbours share
    step : samples from the start of one stretch to that of the next
    count : number of stretches
    lost : expected loss of log density, in nats, by what the memory leaves out
    """

    modes: TimeModes
    shared: TimeModes
    step: int
    count: int
    lost: float

    @classmethod
    def of(cls, problem: Problem, constant: float, course: str) -> Stretches | None:
        """Return the stretches for currents with a time constant in s; None where samples are taken together."""
        times, whitening = problem.times, problem.time_whitening
        total = len(times)
        if total <= DENSE or not equally_spaced(times):
            return None
        if whitening is not None and (whitening.groups > 1 or whitening.centred):
            return None
        lags = times[: MAX_MEMORY + 1] - times[0]
        noise = np.eye(1, len(lags))[0] if whitening is None else whitening.known.at(lags)[0]
        noise = noise + JITTER * (np.arange(len(lags)) == 0)
        courses = correlation_at(lags, constant, course)
        # An autocorrelation that was cut off tells more at its last lag than before it.
        least = int(np.flatnonzero(noise)[-1]) + SETTLED
        memory, lost = memory_of(RATIOS[:, None] * courses + noise, 0.5 * problem.components * total, least)
        if lost > TOLERANCE and total <= MAX_TOGETHER:
            return None
        if lost > MAX_LOST:
            memory = ROUGH_MEMORY
        if total < 5 * memory:
            return None
        count = (total - 3 * memory) // memory + 1
        length = total - (count - 1) * memory

        def modes(size: int) -> TimeModes:
            known = None if whitening is None else replace(whitening, times=times[:size])
            return TimeModes.exact(correlation_over_time(times[:size], constant, course), known)

        return cls(modes(length), modes(length - memory), memory, count, lost)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self.modes.nbytes + self.shared.nbytes

    @property
    def length(self) -> int:
        """Samples in a stretch."""
        return len(self.modes.powers)

    @property
    def total(self) -> int:
        """Samples of the recording."""
        return self.length + (self.count - 1) * self.step

    @cached_property
    def parts(self) -> tuple[Part, Part]:
        """The stretches, and the overlaps."""
        starts = self.step * np.arange(self.count)
        return Part(1, self.modes, starts), Part(-1, self.shared, starts[1:])

    @property
    def _margin(self) -> int:
        """Samples of a stretch before those that are its own."""
        return (self.length - self.step) // 2

    def owned(self, number: int) -> tuple[slice, slice]:
        """The samples of the recording that a stretch is asked for, and where they are in the stretch."""
        first = 0 if number == 0 else self._margin
        last = self.length if number == self.count - 1 else self._margin + self.step
        start = number * self.step
        return slice(start + first, start + last), slice(first, last)

    def courses(self, table: Array) -> Array:
        """Time courses (component, time) of coefficients (component, stretch, mode)."""
        courses = self.modes.from_modes
        head, tail = self._margin, self._margin + self.step
        inner = table.reshape(-1, self.length) @ courses[head:tail].T
        return np.hstack(
            [table[:, 0] @ courses[:head].T, inner.reshape(len(table), -1), table[:, -1] @ courses[tail:].T]
        )

    def variances(self, table: Array) -> Array:
        """Variance (..., time) at every sample of modes with variances (..., mode)."""
        each = table @ self.modes.from_modes.T**2
        head, tail = self._margin, self._margin + self.step
        inner = np.tile(each[..., head:tail], self.count)
        return np.concatenate([each[..., :head], inner, each[..., tail:]], axis=-1)

    def weighted(self, time_weights: Array) -> Array:
        """Variance (mode, sum) that each mode contributes to weighted sums of the samples (time, sum), per its own.

        Σ_tu w_t cov(t, u) w_u, with the covariance of a sample t with all others in the stretch that it is owned by.
        """
        courses, out = self.modes.from_modes.T, np.zeros((self.length, time_weights.shape[1]))
        for number in range(self.count):
            here, inside = self.owned(number)
            own = time_weights[here]
            if own.any():
                start = number * self.step
                out += (courses[:, inside] @ own) * (courses @ time_weights[start : start + self.length])
        return out


def memory_of(correlations: Array, each: float, least: int = 0) -> tuple[int, float]:
    """Return how many samples of the past predict processes as well as all, and the nats that are lost all the same.

    correlations : (process, lag)
    each : log density that a partial correlation is worth, by its square
    least : lags that are looked at in any case
    """
    known = np.zeros((len(correlations), 0))
    power = correlations[:, 0].copy()
    lost: list[float] = []
    while len(lost) < correlations.shape[1] - 1:
        order = len(lost) + 1
        past = np.einsum("pk,pk->p", known, correlations[:, order - 1 : 0 : -1])
        partial = (correlations[:, order] - past) / power
        lost.append(each * float(np.max(partial**2)))
        known = np.column_stack([known - partial[:, None] * known[:, ::-1], partial])
        power = power * (1 - partial**2)
        if order >= least and sum(lost[-SETTLED - order // 4 :]) < 0.1 * TOLERANCE:
            break
    return _shortest(lost)


def _shortest(lost: Sequence[float]) -> tuple[int, float]:
    """The least order beyond which no more than the tolerance is lost, and what is; the last where all lose more."""
    beyond = np.cumsum(np.append(lost, 0.0)[::-1])[::-1]
    enough = np.flatnonzero(beyond <= TOLERANCE)
    order = max(int(enough[0]), 8)
    if order < len(lost):
        return order, float(beyond[order])
    # What lies beyond the last order is at least as much as a memory's quarter before it.
    return order, float(sum(lost[-(SETTLED + order // 4) :]))
