"""Estimates and posteriors of one recording side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from bayesinv.axes import Array
from bayesinv.classical.estimate import Estimate
from bayesinv.posterior.posterior import Posterior
from bayesinv.problem.problem import Problem
from bayesinv.problem.windows import samples_of
from bayesinv.wording import aligned, with_error

ESTIMATE_HEADS = (
    "name",
    "λ",
    "interval of λ",
    "SNR",
    "peak",
    "at (mm)",
    "height",
    "spread (mm)",
    "fit",
    "log evidence",
)


@dataclass(frozen=True)
class Row:
    """The answer of one estimator or model to the recording.

    name, method : as given, and what it is
    lam : λ, 1/(A m)²; of a posterior the median; None where the method has none
    lam_interval : central interval of λ, of a posterior
    snr : amplitude signal-to-noise ratio that λ stands for
    peak : source of largest magnitude at `time`
    position : (x, y, z) of it, m, head coordinates; None where positions are not known
    height : its magnitude in `unit`
    spread : root mean square distance from the peak, weighted by squared magnitude, m
    goodness_of_fit : explained share of the whitened recording's power; None where nothing is fitted
    log_evidence, log_evidence_error : of a posterior, nats; None where there is none
    """

    name: str
    method: str
    lam: float | None
    lam_interval: tuple[float, float] | None
    snr: float | None
    peak: int
    position: tuple[float, float, float] | None
    height: float
    unit: str
    spread: float | None
    goodness_of_fit: float | None
    log_evidence: float | None
    log_evidence_error: float | None


@dataclass(frozen=True, eq=False)
class Comparison:
    """Several answers to one recording at one time.

    problem : the recording
    time : s, at which maps are compared
    rows : one per answer
    maps : name to magnitude (source,)
    """

    problem: Problem = field(repr=False)
    time: float
    rows: tuple[Row, ...]
    maps: Mapping[str, Array] = field(repr=False)

    def __getitem__(self, name: str) -> Row:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"nothing named {name!r} was compared; there are {', '.join(self.maps)}")

    def cells(self) -> list[tuple[str, ...]]:
        """The table as text, a tuple per row in the order of `ESTIMATE_HEADS`."""
        table: list[tuple[str, ...]] = []
        for row in self.rows:
            position = "" if row.position is None else ", ".join(f"{1e3 * x:.0f}" for x in row.position)
            height = f"{1e9 * row.height:.3g} nA m" if row.unit == "A m" else f"{row.height:.3g}"
            evidence = "" if row.log_evidence is None else with_error(row.log_evidence, row.log_evidence_error or 0.0)
            table.append(
                (
                    row.name,
                    "" if row.lam is None else f"{row.lam:.3g}",
                    "" if row.lam_interval is None else "{:.3g} to {:.3g}".format(*row.lam_interval),
                    "" if row.snr is None else f"{row.snr:.2f}",
                    str(row.peak),
                    position,
                    height,
                    "" if row.spread is None else f"{1e3 * row.spread:.1f}",
                    "" if row.goodness_of_fit is None else f"{row.goodness_of_fit:.3f}",
                    evidence,
                )
            )
        return table

    def __str__(self) -> str:
        return f"at {1e3 * self.time:.0f} ms\n{aligned([ESTIMATE_HEADS, *self.cells()])}"


def compare_estimates(
    results: Mapping[str, Estimate | Posterior], time: float | None = None, level: float = 0.9
) -> Comparison:
    """Put estimates and posteriors of one recording side by side.

    results : name to `Estimate` (of `tikhonov` or `baseline`) or `Posterior`
    time : s, at which maps are compared; None takes the sample at which the recording is strongest
    level : of the interval of a posterior's λ

    λ is comparable between priors through the SNR it stands for; heights are in each method's own unit.

    Raises
    ------
    ValueError
        If there is nothing to compare, something is no result, recordings differ, or the time lies outside them.
    """
    if not results:
        raise ValueError("there is nothing to compare; give a dictionary of names to estimates and posteriors")
    for name, result in results.items():
        if not isinstance(result, Estimate | Posterior):
            raise ValueError(f"{name!r} is of type {type(result).__name__}, but must be an Estimate or a Posterior")
    first = next(iter(results.values())).problem
    for name, result in results.items():
        ours = result.problem
        same = ours is first or (
            ours.recording.shape == first.recording.shape and np.allclose(ours.recording, first.recording)
        )
        if not same or ours.source_count != first.source_count:
            raise ValueError(
                f"{name!r} is of another recording or other sources than {next(iter(results))!r}; "
                "compare results of one recording on the same sources"
            )
    strongest = int(np.argmax(np.sum(first.recording**2, axis=0)))
    sample = strongest if time is None else samples_of(first.times, time).start
    maps = {name: _magnitude(result, sample) for name, result in results.items()}
    rows = tuple(_row(name, result, maps[name], level) for name, result in results.items())
    return Comparison(first, float(first.times[sample]), rows, maps)


def _magnitude(result: Estimate | Posterior, sample: int) -> Array:
    """Magnitude (source,) of an estimate or posterior mean at one sample."""
    if isinstance(result, Estimate):
        return np.asarray(result.strength[:, sample])
    mean = result.mean
    return np.asarray(np.linalg.norm(mean[:, :, sample], axis=1) if mean.ndim == 3 else np.abs(mean[:, sample]))


def _row(name: str, result: Estimate | Posterior, magnitude: Array, level: float) -> Row:
    peak = int(magnitude.argmax())
    sources = result.problem.sources
    position, spread = None, None
    if sources is not None:
        x, y, z = (float(value) for value in sources.positions[peak])
        position = (x, y, z)
        squared_distance = np.sum((sources.positions - sources.positions[peak]) ** 2, axis=1)
        power = float(np.sum(magnitude**2))
        spread = float(np.sqrt(np.sum(magnitude**2 * squared_distance) / power)) if power else None
    lam: float | None
    snr: float | None
    fit: float | None
    interval = None
    if isinstance(result, Posterior):
        method, unit, fit = f"{result.model} by {result.method}", "A m", result.goodness_of_fit
        lam, snr = float(result.hyper["lambda"].quantile(0.5)), float(result.hyper["snr"].quantile(0.5))
        if len(result.mixture.weights) > 1:
            interval = result.hyper["lambda"].interval(level)
    else:
        method, unit = f"{result.method} ({result.chosen})", result.unit
        lam = result.lam
        snr = None if lam is None else result.snr
        fit = None if result.fitted is None else result.goodness_of_fit
    evidence = result.log_evidence if isinstance(result, Posterior) else None
    return Row(
        name=name,
        method=method,
        lam=lam,
        lam_interval=interval,
        snr=snr,
        peak=peak,
        position=position,
        height=float(magnitude[peak]),
        unit=unit,
        spread=spread,
        goodness_of_fit=None if fit is None else float(fit),
        log_evidence=None if evidence is None else float(evidence),
        log_evidence_error=None if evidence is None else evidence.error,
    )
