"""What explains a sample best: currents of whatever strength, a few strong sources, or single sensors that are off.

A dense prior explains anything, once the sample is taken for a strong response. So explanations are compared by the
likelihood of the sample, in which those that could explain much else lose: with the fields of some sensors and of some
sources shifted by whatever size, and currents of whatever strength beside them,

    log L = max_r log Normal(y - shifts; 0, r variance G D Gᵀ + noise² I)

Shifts are taken one by one, the best first. A sensor is off where its shift gains more than that of every source, and
more than every strength.

References: Cook & Weisberg (1982), Residuals and Influence in Regression, §2.2; Mallat & Zhang (1993), IEEE Trans.
Signal Process. 41, 3397-3415.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bayesinv.axes import Array, Index
from bayesinv.inference.residuals import DETERMINED, PlugIn

WEAKEST, STEP = 1e-2, 2.5
"""Least variance of the currents, relative to the usual sample's and to the noise's, and ratio of each that is tried to
the one before."""

STRONGEST = 10.0
"""Largest variance, relative to the one which explains all power of the strongest sample."""

MOST_SAMPLES = 16
"""Samples for which single sources are tried: those that strengths alone explain worst."""

CAPPED = 0.99
"""Size, relative to the limit, that is told of a sensor where it is not known whether sources do better."""

SHIFTS = 6
"""Most sources and sensors that are shifted in one sample."""


@dataclass(frozen=True, eq=False)
class Shifts:
    """Log likelihood of samples at every strength of the currents, and what a shift of the field of each row gains.

    project : (row, part), fields of sensors or sources in a basis of independent coefficients
    inverse : (part, strength), inverse variances of these
    weighted, precision : (row, sample, strength) and (row, strength): a shift gains weighted² / precision / 2
    whole : (row, strength), the precision before shifts were taken
    log_likelihood : (sample, strength), with the shifts that were taken
    taken : (row, strength) for each of these, its column of the precision over its root
    """

    project: Array
    inverse: Array
    weighted: Array
    precision: Array
    whole: Array
    log_likelihood: Array
    taken: tuple[Array, ...] = ()

    @classmethod
    def of(cls, project: Array, coefficients: Array, totals: Array) -> Shifts:
        """Return the shifts of rows (row, part).

        coefficients, totals : (part, sample), and their variances (part, strength)
        """
        inverse = 1 / totals
        each = (coefficients[:, :, None] * inverse[:, None, :]).reshape(len(inverse), -1)
        weighted = (project @ each).reshape(len(project), coefficients.shape[1], -1)
        precision = project**2 @ inverse
        log_likelihood = -0.5 * ((coefficients**2).T @ inverse + np.log(totals).sum(axis=0))
        return cls(project, inverse, weighted, precision, precision, log_likelihood)

    @property
    def gains(self) -> Array:
        """Log likelihood that a shift of each row gains: (row, sample, strength)."""
        # What those taken determine has nothing left but rounding.
        inside = self.precision > DETERMINED * self.whole
        units = np.divide(0.5, self.precision, where=inside, out=np.zeros_like(self.precision))
        return np.asarray(self.weighted**2 * units[:, None, :])

    @property
    def residuals(self) -> Array:
        """Standardised residuals of the rows at the most probable strength of each sample: (row, sample)."""
        best = self.log_likelihood.argmax(axis=1)
        return np.asarray(np.sqrt(2 * np.take_along_axis(self.gains, best[None, :, None], axis=2)[:, :, 0]))

    def without(self, row: int) -> Shifts:
        """Return what is left when the shift of a row is taken, in every sample."""
        column = self.project @ (self.project[row][:, None] * self.inverse)
        for one in self.taken:
            column = column - one * one[row]
        own = np.maximum(column[row], 1e-300)
        return replace(
            self,
            weighted=self.weighted - (column / own)[:, None, :] * self.weighted[row],
            precision=self.precision - column**2 / own,
            log_likelihood=self.log_likelihood + self.gains[row],
            taken=(*self.taken, column / np.sqrt(own)),
        )


@dataclass(frozen=True, eq=False)
class Explained:
    """What is left of some samples by the best explanation of each.

    sizes : (sensor, sample), by how much a sensor is off in units of chance: the root of twice what its shift gains in
        log likelihood over all rivals, chi of one degree where it is not off; of sensors that are not, the largest one
    sds : (sensor, sample), of those that are off, in standard deviations
    left : (sensor, sample), standardised residuals
    """

    sizes: Array
    sds: Array
    left: Array

    @classmethod
    def of(cls, plugged: PlugIn, samples: Index, scale: float, limit: float, bad: Sequence[int]) -> Explained:
        """Return it for some samples of a recording.

        scale : of residuals, robust
        limit : size beyond which a sensor is off
        bad : sensors that are left out
        """
        whitener = plugged.problem.whitener
        count = plugged.problem.components if whitener is None else whitener.shape[1]
        self = cls(*np.zeros((3, count, len(samples))))
        if not samples.size:
            return self
        table = plugged.spectrum.to_components.T @ plugged.problem.recording[:, samples]
        totals = plugged.variance * plugged.spectrum.eigenvalues * _strengths(plugged, table) + plugged.noise**2
        sensors = Shifts.of(plugged.project, table, totals)
        for sensor in bad:
            sensors = sensors.without(sensor)
        most, known = _peak(sensors.log_likelihood + sensors.gains), _peak(sensors.log_likelihood)
        size = np.sqrt(np.maximum(2 * (most - known), 0)) / scale
        each, first = np.arange(len(samples)), size.argmax(axis=0)
        # Beyond these it is not known whether sources do better.
        self.sizes[first, each] = np.minimum(size[first, each], CAPPED * limit)
        self.left[:] = sensors.residuals / scale
        worst = np.argsort(-size[first, each])[:MOST_SAMPLES]
        worst = worst[size[first, each][worst] > limit]
        if worst.size:
            fields = plugged.spectrum.to_components.T @ plugged.problem.gain
            for one in worst:
                rows = np.concatenate(
                    [plugged.project, _directed(table[:, [one]], totals, fields, plugged.problem.axes).T]
                )
                self._pursue(int(one), Shifts.of(rows, table[:, [one]], totals), scale, limit, bad)
        return self

    def _pursue(self, sample: int, shifts: Shifts, scale: float, limit: float, bad: Sequence[int]) -> None:
        """Take the best shifts of sensors and sources of one sample."""
        count = len(self.sizes)
        self.sizes[:, sample] = 0.0
        for sensor in bad:
            shifts = shifts.without(sensor)
        for _ in range(SHIFTS):
            gains, known = shifts.gains[:, 0], shifts.log_likelihood[0]
            each = 2 * (_peak(known + gains) - _peak(known)) / scale**2
            sensor, source = int(np.argmax(each[:count])), count + int(np.argmax(each[count:]))
            size = float(np.sqrt(max(0.0, each[sensor] - max(0.0, each[source]))))
            self.sizes[sensor, sample] = max(self.sizes[sensor, sample], size)
            if size > limit:
                self.sds[sensor, sample] = np.sqrt(2 * gains[sensor, np.argmax(known + gains[sensor])]) / scale
                shifts = shifts.without(sensor)
            elif each[source] > limit**2:
                shifts = shifts.without(source)
            else:
                break
        self.left[:, [sample]] = shifts.residuals[:count] / scale


def _strengths(plugged: PlugIn, table: Array) -> Array:
    """Variances of the currents (strength,), relative to the plug-in's, that samples of a table may have."""
    signal = max(plugged.variance * float(plugged.spectrum.eigenvalues.mean()), 1e-300)
    least = WEAKEST * min(1.0, plugged.noise**2 / signal)
    most = STRONGEST * float((table**2).mean(axis=0).max()) / signal
    count = 3 + max(0, int(np.log(max(most, 1e-300) / least) / np.log(STEP)))
    return np.asarray(least * STEP ** np.arange(count))


def _peak(values: Array) -> Array:
    """Largest value along the last axis, that of a parabola through it and its neighbours."""
    top = np.clip(values.argmax(axis=-1), 1, values.shape[-1] - 2)[..., None]
    before, middle, after = (np.take_along_axis(values, top + k, axis=-1)[..., 0] for k in (-1, 0, 1))
    bend = before + after - 2 * middle
    rise = np.divide((after - before) ** 2, 8 * bend, where=bend < 0, out=np.zeros_like(bend))
    return np.asarray(np.where((middle >= before) & (middle >= after), middle - rise, values.max(axis=-1)))


def _directed(field: Array, totals: Array, fields: Array, axes: int) -> Array:
    """Fields of the sources (part, source), of free ones along the direction that explains a sample (part, 1) best."""
    if axes == 1:
        return fields
    inverse = 1 / totals[:, [totals.shape[1] // 2]]
    each = fields.reshape(len(fields), -1, axes)
    products = np.einsum("psa,psb->sab", each * inverse[:, :, None], each, optimize=True)
    weighted = np.einsum("psa,p->sa", each, (field * inverse)[:, 0], optimize=True)
    small = 1e-6 * np.trace(products, axis1=1, axis2=2)[:, None, None] * np.eye(axes)
    moments = np.linalg.solve(products + small, weighted[:, :, None])
    return np.asarray(np.einsum("psa,sa->ps", each, moments[:, :, 0], optimize=True))
