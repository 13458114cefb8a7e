"""Scoring: all scores of a result whose truth is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bayesinv.axes import Array, Index
from bayesinv.classical.estimate import Estimate
from bayesinv.classical.resolution import Resolution
from bayesinv.classical.surface_axes import SurfaceProblem
from bayesinv.covariance.covariance import Structure
from bayesinv.head.sources import Sources
from bayesinv.posterior.functionals import Functional
from bayesinv.posterior.hyper import Hyper
from bayesinv.posterior.mixture import Mixture
from bayesinv.posterior.posterior import Posterior
from bayesinv.posterior.quantiles import credible_level
from bayesinv.posterior.regions import regions_of
from bayesinv.problem.problem import Problem
from bayesinv.problem.windows import Window, samples_of
from bayesinv.scoring.compression import GAUSSIANS, ClusterMoments, clusters_of, compressed
from bayesinv.scoring.focal import around, focal_scores, parts_of
from bayesinv.scoring.localisation import (
    area_under_curve,
    average_precision,
    centre_error,
    correlation,
    deviation,
    earth_movers_distance,
    magnitude,
    peak_error,
)
from bayesinv.scoring.projection import nearest, project
from bayesinv.scoring.proper import gaussian_log_density, log_score
from bayesinv.scoring.scores import PeakScore, Scores
from bayesinv.scoring.tally import Points, Tally
from bayesinv.simulation.truth import Truth

BLOCK_ELEMENTS = 2**15
"""Amplitudes times samples that are scored at once."""

SMALLEST_SD = 1e-10
"""Standard deviation that one of 0 counts as, where a source is sure to be still; over the truth's root mean square."""


def naive(estimate: Estimate) -> Posterior | None:
    """Return the posterior that a classical estimate implies at its λ, taken as known, or None.

        current | recording ~ N(estimate, (noise² / λ) (D - D Gᵀ (G D Gᵀ + λ I)⁻¹ G D))

    The noise has the scale that the estimate was made with. Maps without a unit (dSPM, sLORETA), estimates without λ
    (LCMV) and priors that correlate the axes of a source have no such posterior.
    """
    weights = estimate.operator.weights
    if estimate.unit != "A m" or estimate.lam is None or estimate.scan is None or weights.ndim != 1:
        return None
    noise = np.array([float(estimate.scan.noise)])
    variance = noise**2 / estimate.lam
    snr = np.sqrt(estimate.scan.values.mean() / estimate.lam)
    nodes = {"noise": noise, "scale": np.sqrt(variance), "lambda": noise**2 / variance, "snr": np.array([float(snr)])}
    one = np.ones(1)
    mixture = Mixture(one, variance, noise, np.zeros(1, dtype=np.int64), (Structure(weights=weights),))
    return Posterior(estimate.problem, estimate.method, "lam taken for known", mixture, Hyper(nodes, one, nodes), None)


def score(
    result: Posterior | Estimate,
    truth: Truth,
    *,
    window: Window = None,
    level: float = 0.9,
    regions: Any = None,
    contrasts: ArrayLike | None = None,
    threshold: float | None = None,
    active: float = 0.0,
) -> Scores:
    """Return every score of a result whose truth is known.

    result : a posterior, or a classical estimate, whose intervals are `naive`
    truth : on any grid; its times hold those of the recording
    window : (start, stop) in s, one time in s, or None for all samples
    level : of intervals and of the peak's region
    regions : as `Posterior.region` takes them, whose mean currents are scored too, and whether sources are in them
    contrasts : weights of linear functionals, as `Posterior.contrast` takes them
    threshold : A m, that magnitudes may exceed; None takes the root mean square of the truth on the grid
    active : share of the truth's largest magnitude beyond which a source is active

    Where a result is sure of a current, of 0 mostly, and right, its transform is drawn at random (see `Points.of`).
    With free orientation every axis is scored separately in the probabilistic scores. Nodes beyond `GAUSSIANS` are
    `compressed`, except for the log score, which tails decide.

    Raises
    ------
    ValueError
        If positions are not known, the truth is zero in the window but not everywhere, or lacks its samples, or a
        number lies outside its range.
    """
    credible_level(level)
    if not isinstance(result, Posterior | Estimate):
        raise ValueError(f"a {type(result).__name__} was given, but an Estimate or a Posterior is wanted")
    if not 0 <= active < 1:
        raise ValueError(f"active is {active}, but must be a share of the truth's largest magnitude in [0, 1)")
    if threshold is not None and not 0 <= threshold < np.inf:
        raise ValueError(f"threshold is {threshold}, but must be a finite current of at least 0 A m")
    problem = result.problem
    if problem.sources is None:
        raise ValueError("the sources' positions are not known; give positions or sources to the Problem")
    times = result.times if isinstance(result, Posterior) else problem.times
    samples = samples_of(times, window)
    sample_times = times[samples]
    true = _sampled(truth, sample_times)
    if not true.current.any() and truth.current.any():
        raise ValueError("the truth is zero throughout the window; there is nothing to find")
    grid = project(true, problem.sources, problem.axes)
    if isinstance(problem, SurfaceProblem):
        assert problem.directions is not None
        grid = np.einsum("sax,sxt->sat", problem.directions, grid)
    nearest_source = nearest(true.sources, problem.sources)
    is_active = np.abs(true.current) > active * np.abs(true.current).max()
    sample = int(np.argmax(np.sum(true.current**2, axis=0)))
    estimated = (result.mean if isinstance(result, Posterior) else result.current)[..., samples]
    name = result.model if isinstance(result, Posterior) else result.method
    point = _point_scores(estimated, grid, true, sample, problem.sources, nearest_source, is_active)
    point_scores = Scores(name, level, float(sample_times[sample]), **point)
    posterior = result if isinstance(result, Posterior) else naive(result)
    if posterior is None:
        return point_scores
    flat = grid.reshape(-1, len(sample_times))
    limit = float(np.sqrt(np.mean(flat**2))) if threshold is None else threshold
    strata = {key: np.repeat(rows, problem.axes) for key, rows in _strata(problem, nearest_source, is_active).items()}
    tallies: dict[str, Tally] = {}
    floor = SMALLEST_SD * float(np.sqrt(np.mean(true.current**2)))
    for rows, block in _blocks(posterior, samples, flat, level, limit, floor):
        for key, mask in strata.items():
            part = Tally.of(block, np.flatnonzero(mask[rows]), level)
            tallies[key] = tallies[key] + part if key in tallies else part
    region_tally = contrast_tally = current_tally = None
    scored = samples, level, threshold, floor
    parts = parts_of(true)
    if parts:
        sums = around(parts, problem.sources, problem.axes)
        current_tally = _contrast(posterior, sums[..., 0] if problem.axes == 1 else sums, flat, *scored)
    index = None if regions is None else regions_of(regions, problem)
    if index is not None:
        functional = posterior.region(index)
        means = np.stack([grid[sources].mean(axis=0) for sources in index.values()])
        region_tally = _functional(functional, means.reshape(-1, len(sample_times)), *scored)
    if contrasts is not None:
        contrast_tally = _contrast(posterior, contrasts, flat, *scored)
    peak_score = (
        _peak_score(posterior, grid, sample, float(sample_times[sample]), level) if true.current.any() else None
    )
    return replace(
        point_scores,
        strata=tallies,
        peak=peak_score,
        regions=region_tally,
        contrasts=contrast_tally,
        currents=current_tally,
        foci=focal_scores(posterior, _sampled(truth, times), level, index),
    )


def _peak_score(posterior: Posterior, grid: Array, sample: int, time: float, level: float) -> PeakScore:
    peak = posterior.peak(time)
    true_peak, region = int(magnitude(grid)[:, sample].argmax()), peak.region(level)
    inside = bool(np.isin(true_peak, region))
    return PeakScore(inside, float(peak.probability[true_peak]), len(region), peak.radius(level))


def _sampled(truth: Truth, sample_times: Array) -> Truth:
    """Return the truth at the recording's samples, or raise if it lacks one."""
    index = (
        np.abs(truth.times[:, None] - sample_times).argmin(axis=0)
        if len(truth.times)
        else np.zeros(len(sample_times), int)
    )
    steps = np.concatenate([np.diff(truth.times), np.diff(sample_times)])
    step = float(np.min(steps)) if steps.size else 1.0
    missing = np.abs(truth.times[index] - sample_times) > 0.01 * step
    if missing.any():
        raise ValueError(
            f"the truth has no sample at {sample_times[missing][0]:g} s, where the recording has one; it runs from "
            f"{truth.times[0]:g} to {truth.times[-1]:g} s. Both must have the same time origin"
        )
    return Truth(truth.sources, truth.current[:, index], sample_times, truth.notes, truth.parts)


def _point_scores(
    estimated: Array,
    grid: Array,
    true: Truth,
    sample: int,
    sources: Sources,
    nearest_source: Index,
    is_active: NDArray[np.bool_],
) -> dict[str, Any]:
    """Return the point scores by their names in `Scores`; nan where one is not defined."""
    size = magnitude(estimated)[:, sample]
    map_and_truth = (size, sources.positions, true.current[:, sample], true.sources.positions)
    distances = (peak_error, centre_error, deviation, earth_movers_distance)
    known = size.any() and true.current.any()
    out: dict[str, Any] = {measure.__name__: measure(*map_and_truth) if known else np.nan for measure in distances}
    active = np.zeros(len(sources), dtype=bool)
    active[nearest_source[is_active[:, sample]]] = True
    defined = active.any() and not active.all()
    out |= {
        which.__name__: which(size, active) if defined else np.nan for which in (area_under_curve, average_precision)
    }
    one, other = (estimated, grid) if grid.ndim == 2 else (magnitude(estimated), magnitude(grid))
    out["map_correlation"] = correlation(one[..., sample], other[..., sample]) if known else np.nan
    ever_active = np.unique(nearest_source[is_active.any(axis=1)])
    power = np.sum(magnitude(grid)[ever_active] ** 2, axis=1)
    out["course_correlation"] = np.nan
    if grid.shape[-1] > 1 and power.any():
        correlations = np.array([correlation(one[k], other[k]) for k in ever_active])
        out["course_correlation"] = float(correlations @ power / power.sum())
    return out


def _strata(problem: Problem, nearest_source: Index, is_active: NDArray[np.bool_]) -> dict[str, NDArray[np.bool_]]:
    """Return every stratum by name, as a mask (source,)."""
    active = np.zeros(problem.source_count, dtype=bool)
    active[nearest_source[is_active.any(axis=1)]] = True
    out = {"all": np.ones_like(active), "active": active, "inactive": ~active}
    if problem.sensors is None:
        # Without sensor positions, a source counts as deeper the smaller its gain.
        depth = -problem.source_norms
    else:
        depth = Resolution(problem, "", problem.gain.T, problem.gain, problem.axes, problem.axes).depth
    quarter = np.searchsorted(np.quantile(depth, [0.25, 0.5, 0.75]), depth, side="left")
    return out | {f"depth {k + 1}": quarter == k for k in range(4)}


def _blocks(
    posterior: Posterior, samples: slice, truth: Array, level: float, threshold: float, floor: float
) -> Iterator[tuple[slice, Points]]:
    """Yield scores of the currents (amplitude, time) by blocks of amplitudes."""
    rows, count = truth.shape
    # Nodes are clustered by some amplitudes and samples, evenly spaced.
    probe = slice(0, rows, -(-rows // 32))
    probe_samples = slice(samples.start, samples.stop, (samples.step or 1) * -(-count // 8))
    mass, means, sds = (np.array(part) for part in zip(*posterior.gaussians(probe, probe_samples), strict=True))
    cluster = clusters_of(mass, means, np.maximum(sds, max(1e-10 * sds.max(), floor)), GAUSSIANS)
    step = max(1, BLOCK_ELEMENTS // count)
    for start in range(0, rows, step):
        block = slice(start, min(start + step, rows))
        at = truth[block]
        moments = ClusterMoments.zeros(int(cluster.max()) + 1, at.shape)
        logs, sure = np.full(at.shape, -np.inf), np.ones(at.shape, dtype=bool)
        for k, (w, m, s) in zip(cluster, posterior.gaussians(block, samples), strict=True):
            least = max(1e-10 * s.max(), floor)
            sd = np.maximum(s, least)
            moments.add(k, w, m, sd)
            logs = np.logaddexp(logs, np.log(w) + gaussian_log_density(at, m, sd))
            sure &= (s <= least) & (np.abs(at - m) <= least)
        yield block, Points.of(*moments.gaussians(), at, -logs, level, threshold, sure)


def _contrast(
    posterior: Posterior,
    weights: ArrayLike,
    truth: Array,
    samples: slice,
    level: float,
    threshold: float | None,
    floor: float,
) -> Tally:
    """Return the scores of weighted sums of the currents, whose truth is of the currents (amplitude, time)."""
    functional = posterior.contrast(weights)
    table = np.asarray(weights, dtype=np.float64).reshape(len(functional.names), -1)
    return _functional(functional, table @ truth, samples, level, threshold, floor)


def _functional(
    functional: Functional, truth: Array, samples: slice, level: float, threshold: float | None, floor: float
) -> Tally:
    """Return the scores of linear functionals (functional, time)."""
    means = functional.means[:, :, samples]
    sds = np.maximum(np.broadcast_to(functional.node_sds, functional.means.shape)[:, :, samples], floor)
    sure = np.all((sds <= floor) & (np.abs(truth - means) <= floor), axis=0)
    logs = log_score(functional.weights, means, sds, truth)
    limit = float(np.sqrt(np.mean(truth**2))) if threshold is None else threshold
    mixture = compressed(functional.weights, means, sds)
    return Tally.of(Points.of(*mixture, truth, logs, level, limit, sure), slice(None), level)
