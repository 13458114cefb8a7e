"""Scores: how far a map lies from the truth, and how well a posterior knows how far.

Point scores compare the magnitude of a map (source,) with the truth, which may live on another grid; distances are in
metres. Probabilistic scores take Gaussian mixtures (node, ...), as posteriors of currents and of their linear
functionals are; of all of them less is better, and all are proper: nobody does better, on average, than by saying what
he believes. Counts and sums are kept, not only means, so that runs can be pooled.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist
from scipy.special import ndtr

from bayesinv.axes import Array, Index, real, same_axes
from bayesinv.classical.estimate import Estimate
from bayesinv.classical.resolution import Resolution
from bayesinv.classical.surface_axes import SurfaceProblem
from bayesinv.covariance.covariance import Structure
from bayesinv.head.sources import Sources
from bayesinv.posterior.functionals import Functional
from bayesinv.posterior.hyper import Hyper
from bayesinv.posterior.mixture import Mixture
from bayesinv.posterior.posterior import Posterior
from bayesinv.posterior.quantiles import credible_level, mixture_quantile
from bayesinv.problem.problem import Problem
from bayesinv.problem.windows import Window, samples_of
from bayesinv.simulation.truth import Truth

LEVELS: Array = np.arange(11) / 10
"""Levels at which coverage is looked at where none are given."""

BINS = 200
"""Bins of a kept PIT histogram; coverage is exact at all levels that are multiples of 2 / BINS."""

FORECASTS = 10
"""Bins of a reliability table."""

GAUSSIANS = 16
"""Gaussians that a mixture is compressed to where pairs of them matter."""

LARGEST = 1500
"""Sources on either side between which mass is moved exactly."""

STRONG = 0.5
"""Share of the truth's largest magnitude from which on a place counts as where the truth is."""

BLOCK = 2**15
"""Numbers of a block of currents that is scored at once."""


# --- maps against the truth


def _sides(
    map: ArrayLike, positions: ArrayLike, truth: ArrayLike, places: ArrayLike
) -> tuple[Array, Array, Array, Array]:
    """Both sides checked, as magnitudes."""
    size, at = np.abs(real("map", map, "source")), real("positions", positions, "source 3")
    true, there = np.abs(real("truth", truth, "vertex")), real("places", places, "vertex 3")
    same_axes(map=(size, "source"), positions=(at, "source 3"))
    same_axes(truth=(true, "vertex"), places=(there, "vertex 3"))
    for name, value in (("map", size), ("truth", true)):
        if not value.any():
            raise ValueError(f"the {name} is zero everywhere, so it has no place; there is nothing to compare")
    return size, at, true, there


def _strong(true: Array, there: Array) -> Array:
    """Places where the truth is strong: (place, 3)."""
    return there[true >= STRONG * true.max()]


def peak_error(map: ArrayLike, positions: ArrayLike, truth: ArrayLike, places: ArrayLike) -> float:
    """Return the peak localisation error, m: how far the map's peak lies from the truth.

        min_k |r_peak - s_k|,   r_peak = r at argmax |map|,   |truth_k| >= `STRONG` max |truth|

    For one dipole it is the distance of the peaks. A patch, or dipoles alike, have no one peak; the nearest of the
    truth's strong places counts.

    map : (source,); positions : (source, 3), m
    truth : (vertex,); places : (vertex, 3), m

    Raises
    ------
    ValueError
        If shapes do not fit, a number is NaN or infinite, or map or truth are zero everywhere.

    Reference: Molins et al. (2008), NeuroImage 42, 1069-1077; Hauk, Stenroos & Treder (2022), NeuroImage 255, 119177.
    """
    size, at, true, there = _sides(map, positions, truth, places)
    return float(np.linalg.norm(_strong(true, there) - at[size.argmax()], axis=1).min())


def centre_error(map: ArrayLike, positions: ArrayLike, truth: ArrayLike, places: ArrayLike) -> float:
    """Return the distance in m of the centres of mass of map and truth.

        |Σ w r / Σ w - Σ v s / Σ v|,   w = |map|, v = |truth|

    Axes, errors and reference as in `peak_error`.
    """
    size, at, true, there = _sides(map, positions, truth, places)
    return float(np.linalg.norm(size @ at / size.sum() - true @ there / true.sum()))


def deviation(map: ArrayLike, positions: ArrayLike, truth: ArrayLike, places: ArrayLike) -> float:
    """Return the spatial deviation, m: how far the map's power is spread about the truth.

        sqrt(Σ w² d² / Σ w²),   w = |map|, d the distance from the nearest strong place of the truth (see `peak_error`)

    Axes, errors and reference as in `peak_error`.
    """
    size, at, true, there = _sides(map, positions, truth, places)
    far = cKDTree(_strong(true, there)).query(at)[0]
    return float(np.sqrt(size**2 @ far**2 / np.sum(size**2)))


def earth_movers_distance(
    map: ArrayLike, positions: ArrayLike, truth: ArrayLike, places: ArrayLike, largest: int = LARGEST
) -> float:
    """Return the earth mover's distance in m: how far mass must travel, on average, to turn the map into the truth.

        min_P Σ P_kl |r_k - s_l|,   P >= 0,   Σ_l P_kl = |map_k| / Σ |map|,   Σ_k P_kl = |truth_l| / Σ |truth|

    largest : on a side that has more sources than this, only the heaviest so many are kept, and the mass of every
        other one moves to the nearest that is kept. The distance is then wrong by no more than that mass times the
        way it moved, and exact where there are fewer.

    Axes and other errors as in `peak_error`.

    Raises
    ------
    ValueError
        If `largest` is below 1.

    Reference: Rubner, Tomasi & Guibas (2000), Int. J. Comput. Vis. 40, 99-121; solved by POT (Flamary et al. 2021).
    """
    if largest < 1:
        raise ValueError(f"largest is {largest}, but at least one source must be kept")
    size, at, true, there = _sides(map, positions, truth, places)
    import ot

    (mine, at), (theirs, there) = _heaviest(size, at, largest), _heaviest(true, there, largest)
    return float(ot.emd2(mine, theirs, cdist(at, there), numItermax=10**7))


def _heaviest(size: Array, at: Array, count: int) -> tuple[Array, Array]:
    """Normalised mass (kept,) at positions (kept, 3), light sources' mass moved to the nearest that is kept."""
    order = np.argsort(-size, kind="stable")[: np.count_nonzero(size)]
    kept, rest = order[:count], order[count:]
    mass = size[kept].copy()
    if rest.size:
        np.add.at(mass, cKDTree(at[kept]).query(at[rest])[1], size[rest])
    return mass / mass.sum(), at[kept]


def _ranked(map: ArrayLike, active: ArrayLike) -> tuple[Array, NDArray[np.bool_]]:
    size, wanted = np.abs(real("map", map, "source")), np.asarray(active)
    if wanted.dtype != bool:
        raise ValueError(f"active must mark every source true or false, but holds {wanted.dtype}")
    same_axes(map=(size, "source"), active=(wanted, "source"))
    if wanted.all() or not wanted.any():
        raise ValueError(f"{int(wanted.sum())} of {len(wanted)} sources are active; some must be, and some must not")
    return size, wanted


def area_under_curve(map: ArrayLike, active: ArrayLike) -> float:
    """Return the area under the receiver operating characteristic: P(|map| of an active > that of an inactive source).

    Ties count a half, so a constant map gets 0.5.

    map : (source,); active : (source,), bool

    Raises
    ------
    ValueError
        If shapes do not fit, a number is NaN or infinite, or all or none of the sources are active.

    Reference: Hanley & McNeil (1982), Radiology 143, 29-36; computed by scikit-learn.
    """
    from sklearn.metrics import roc_auc_score

    size, wanted = _ranked(map, active)
    return float(roc_auc_score(wanted, size))


def average_precision(map: ArrayLike, active: ArrayLike) -> float:
    """Return the average precision Σ_k (R_k - R_{k-1}) P_k over thresholds on |map|, P precision and R recall.

    A constant map gets the share of sources that are active. Axes and errors as in `area_under_curve`.

    Reference: scikit-learn's `average_precision_score` (no interpolation).
    """
    from sklearn.metrics import average_precision_score

    size, wanted = _ranked(map, active)
    return float(average_precision_score(wanted, size))


def correlation(one: ArrayLike, other: ArrayLike) -> float:
    """Return Pearson's correlation of two arrays of one shape; 0 where one of them is constant.

    Raises
    ------
    ValueError
        If shapes differ or a number is NaN or infinite.
    """
    if np.shape(one) != np.shape(other):
        raise ValueError(f"shapes {np.shape(one)} and {np.shape(other)} differ; a correlation wants them alike")
    a, b = (real(name, np.ravel(value), "value") for name, value in (("one", one), ("other", other)))
    if not a.size:
        raise ValueError("there is nothing to correlate: the arrays are empty")
    # Scaled first, as squares of currents are near the smallest numbers there are.
    a, b = (value - value.mean() for value in (a / max(np.abs(a).max(), 1e-300), b / max(np.abs(b).max(), 1e-300)))
    power = float(np.sqrt(a @ a) * np.sqrt(b @ b))
    return float(a @ b) / power if power > 1e-12 * len(a) else 0.0


# --- the truth on the inversion's grid


def nearest(truth: Sources, sources: Sources) -> Index:
    """Return for every vertex of the truth the nearest source of a grid: (vertex,), within its own hemisphere.

    The hemispheres count where both know them.
    """
    own, other = sources.positions, truth.positions
    if sources.hemispheres is not None and truth.hemispheres is not None:
        # A metre apart, so that the medial walls, which nearly touch, do not lend each other their sources.
        own = np.column_stack([own, sources.hemispheres])
        other = np.column_stack([other, truth.hemispheres])
    return np.asarray(cKDTree(own).query(other)[1], dtype=np.int64)


def project(truth: Truth, sources: Sources, axes: int) -> Array:
    """Return the truth as currents of another grid, A m: (source, [axis,] time).

    Every vertex's current goes, as a vector, to the nearest source and is added up there. With fixed orientation its
    part along that source's normal is kept: what little lies across it, no current of that grid could stand for.

    truth : currents along normals
    sources : the inversion's grid
    axes : 1 for currents along the grid's normals, 3 for x, y, z

    Raises
    ------
    ValueError
        If axes is neither, or normals are not known. With fixed orientation both may lack them: currents are then
        added as they are.
    """
    if axes not in (1, 3):
        raise ValueError(f"axes is {axes}, but a source has 1 amplitude (fixed) or 3 (free orientation)")
    goal, turned = nearest(truth.sources, sources), truth.sources.normals
    if axes == 1 and turned is None and sources.normals is None:
        parts = [np.ones(len(goal))]
    elif turned is None or (axes == 1 and sources.normals is None):
        whose = "truth's" if turned is None else "grid's"
        raise ValueError(f"the {whose} normals are not known, so its currents have no direction; give them to Sources")
    elif axes == 1:
        assert sources.normals is not None
        parts = [np.einsum("vx,vx->v", turned, sources.normals[goal])]
    else:
        parts = list(turned.T)
    shape = (len(sources), len(goal))
    flat = [csr_array((part, (goal, np.arange(len(goal)))), shape=shape) @ truth.current for part in parts]
    return np.asarray(flat[0]) if axes == 1 else np.stack(flat, axis=1)


# --- Gaussian mixtures against the truth


def _mixture(
    weights: ArrayLike, means: ArrayLike, sds: ArrayLike, truth: ArrayLike
) -> tuple[Array, Array, Array, Array]:
    """A mixture and what it is held against, checked; weights sum to 1."""
    mass = real("weights", weights, "node")
    middle, spread, true = (np.asarray(value, dtype=np.float64) for value in (means, sds, truth))
    if middle.shape[:1] != mass.shape or spread.shape[:1] != mass.shape:
        raise ValueError(f"means {middle.shape} and sds {spread.shape} must have node = {len(mass)} first, as weights")
    try:
        fits = np.broadcast_shapes(middle.shape[1:], spread.shape[1:], true.shape) == true.shape
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"means {middle.shape} and sds {spread.shape} do not fit the truth {true.shape}, node aside")
    if not (np.isfinite(middle).all() and np.isfinite(spread).all() and np.isfinite(true).all()):
        raise ValueError("means, sds or truth hold NaN or infinite values; there is no score of them")
    if not len(mass) or (mass < 0).any() or not mass.sum() > 0:
        raise ValueError("weights must be at least 0 and some positive; this mixture holds no probability")
    if not (spread > 0).all():
        raise ValueError(f"sds must be positive, but the smallest is {spread.min():.3g}")
    return mass / mass.sum(), middle, spread, true


def pit(weights: ArrayLike, means: ArrayLike, sds: ArrayLike, truth: ArrayLike) -> Array:
    """Return the probability integral transform F(truth) = Σ_n w_n Φ((truth - m_n) / s_n), of the truth's shape.

    It is uniform if what was claimed is true, and says at which levels a central interval holds the truth: at all
    from |2 F - 1| on.

    weights : (node,); means, sds : (node, ...), broadcast against the truth (...)

    Raises
    ------
    ValueError
        If shapes do not fit, a number is NaN or infinite, an sd is not positive or all weights are zero.

    Reference: Dawid (1984), J. R. Stat. Soc. A 147, 278-292.
    """
    mass, middle, spread, true = _mixture(weights, means, sds, truth)
    out = np.zeros(true.shape)
    for w, m, s in zip(mass, middle, spread, strict=True):
        out += w * ndtr((true - m) / s)
    return np.minimum(out, 1.0)


def log_score(weights: ArrayLike, means: ArrayLike, sds: ArrayLike, truth: ArrayLike) -> Array:
    """Return the log score -log Σ_n w_n N(truth; m_n, s_n²), nats, of the truth's shape.

    Axes and errors as in `pit`.

    Reference: Good (1952), J. R. Stat. Soc. B 14, 107-114.
    """
    mass, middle, spread, true = _mixture(weights, means, sds, truth)
    out = np.full(true.shape, -np.inf)
    for w, m, s in zip(mass, middle, spread, strict=True):
        if w > 0:
            out = np.logaddexp(out, np.log(w) + _log_normal(true, m, s))
    return -out


def _log_normal(true: Array, middle: Array, spread: Array) -> Array:
    return np.asarray(-0.5 * ((true - middle) / spread) ** 2 - np.log(np.sqrt(2 * np.pi) * spread))


def crps(weights: ArrayLike, means: ArrayLike, sds: ArrayLike, truth: ArrayLike) -> Array:
    """Return the continuous ranked probability score ∫ (F(x) - 1[x >= truth])² dx, in the truth's unit and shape.

        Σ_n w_n A(truth - m_n, s_n²) - ½ Σ_n Σ_k w_n w_k A(m_n - m_k, s_n² + s_k²)
        A(μ, σ²) = 2 σ φ(μ/σ) + μ (2 Φ(μ/σ) - 1), the mean absolute value of N(μ, σ²)

    Every pair of nodes is a term; `compressed` leaves few of them.

    Axes and errors as in `pit`.

    Reference: Grimit et al. (2006), Q. J. R. Meteorol. Soc. 132, 2925-2942.
    """
    mass, middle, spread, true = _mixture(weights, means, sds, truth)
    out = np.zeros(true.shape)
    for n, w in enumerate(mass):
        out += w * _absolute(true - middle[n], spread[n])
        # A Gaussian against itself: A(0, 2 s²) = 2 s / sqrt(π).
        out -= w**2 * spread[n] / np.sqrt(np.pi)
        for k in range(n):
            out -= w * mass[k] * _absolute(middle[n] - middle[k], np.hypot(spread[n], spread[k]))
    return np.maximum(out, 0.0)


def _absolute(mean: Array, sd: Array) -> Array:
    """Mean absolute value of a Gaussian."""
    z = mean / sd
    return np.asarray(sd * np.sqrt(2 / np.pi) * np.exp(-0.5 * z**2) + mean * (2 * ndtr(z) - 1))


def interval_score(low: ArrayLike, high: ArrayLike, truth: ArrayLike, level: float = 0.9) -> Array:
    """Return the interval score, in the truth's unit and shape: the width, and a fine for missing the truth.

        (high - low) + 2/α (low - truth)₊ + 2/α (truth - high)₊,   α = 1 - level

    On average the quantiles (1 ± level) / 2 have the smallest.

    low, high, truth : of one shape

    Raises
    ------
    ValueError
        If shapes differ, a number is NaN, an interval ends before it begins, or the level lies outside (0, 1).

    Reference: Gneiting & Raftery (2007), J. Am. Stat. Assoc. 102, 359-378, eq. 43.
    """
    fine = 2 / (1 - credible_level(level))
    one, two, true = (np.asarray(value, dtype=np.float64) for value in (low, high, truth))
    if not one.shape == two.shape == true.shape:
        raise ValueError(f"low {one.shape}, high {two.shape} and truth {true.shape} must have one shape")
    if np.isnan(one).any() or np.isnan(two).any() or not np.isfinite(true).all():
        raise ValueError("low, high or truth hold NaN; there is no score of them")
    if (two < one).any():
        raise ValueError(f"{int((two < one).sum())} intervals end before they begin; low must not exceed high")
    return np.asarray(two - one + fine * np.maximum(one - true, 0) + fine * np.maximum(true - two, 0))


def coverage(places: ArrayLike, levels: ArrayLike = LEVELS) -> Array:
    """Return the share of truths inside the central interval of every level: (level,).

        g(c) = mean 1[|2 F(truth) - 1| <= c]

    places : F(truth), as `pit` gives them, of any shape
    levels : (level,), in [0, 1]

    Raises
    ------
    ValueError
        If there is no place, one lies outside [0, 1], or a level does.
    """
    wanted = real("levels", levels, "level")
    share = np.ravel(np.asarray(places, dtype=np.float64))
    if not share.size:
        raise ValueError("there are no places, so nothing is covered or not")
    for name, value in (("levels", wanted), ("places", share)):
        if not ((value >= 0) & (value <= 1)).all():
            raise ValueError(
                f"{name} must be probabilities in [0, 1], but one is {value[~((value >= 0) & (value <= 1))][0]}"
            )
    # Rounding of 2 F - 1 must not put the end of an interval outside.
    return np.searchsorted(np.sort(np.abs(2 * share - 1)), wanted + 1e-12, side="right") / share.size


class Miscalibration(NamedTuple):
    """Four numbers of a coverage curve g(c); zero if every interval holds what it says.

    mad : mean |g - c|; msd : mean (g - c)
    under : largest under-coverage max (c - g)₊; over : largest over-coverage max (g - c)₊
    """

    mad: float
    msd: float
    under: float
    over: float


def miscalibration(shares: ArrayLike, levels: ArrayLike = LEVELS) -> Miscalibration:
    """Return the calibration error of a coverage curve, in four forms.

    shares, levels : (level,)

    Raises
    ------
    ValueError
        If lengths differ, there is no level, or a number is NaN.
    """
    got, wanted = real("shares", shares, "level"), real("levels", levels, "level")
    same_axes(shares=(got, "level"), levels=(wanted, "level"))
    if not wanted.size:
        raise ValueError("there are no levels to compare coverage with")
    miss = got - wanted
    return Miscalibration(
        float(np.abs(miss).mean()), float(miss.mean()), float(max((-miss).max(), 0.0)), float(max(miss.max(), 0.0))
    )


@dataclass(frozen=True, eq=False)
class Pit:
    """Histogram of the probability integral transform over [0, 1]; flat if calibrated. Runs are pooled by +.

    counts : (bin,), `BINS` of them
    """

    counts: Index

    def __post_init__(self) -> None:
        counts = np.asarray(self.counts, dtype=np.int64)
        if counts.shape != (BINS,) or (counts < 0).any():
            raise ValueError(f"counts has shape {counts.shape}, but wants {BINS} counts of at least 0")
        object.__setattr__(self, "counts", counts)

    @classmethod
    def of(cls, places: ArrayLike) -> Pit:
        """Count places F(truth), of any shape.

        Raises
        ------
        ValueError
            If one lies outside [0, 1].
        """
        share = np.ravel(np.asarray(places, dtype=np.float64))
        if not ((share >= 0) & (share <= 1)).all():
            raise ValueError("places must be probabilities in [0, 1]")
        return cls(np.bincount(np.minimum((share * BINS).astype(np.int64), BINS - 1), minlength=BINS))

    def __add__(self, other: Pit) -> Pit:
        return Pit(self.counts + other.counts)

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.counts.sum())

    def histogram(self, bins: int = 20) -> Index:
        """Counts in fewer bins: (bin,).

        Raises
        ------
        ValueError
            If the bins kept cannot be joined to that many.
        """
        if bins < 1 or BINS % bins:
            raise ValueError(f"bins is {bins}, but must divide {BINS}")
        return np.asarray(self.counts.reshape(bins, -1).sum(axis=1))

    def coverage(self, levels: ArrayLike = LEVELS) -> Array:
        """Share of truths inside the central interval of every level: (level,), nan where there is none.

        Raises
        ------
        ValueError
            If a level lies outside [0, 1] or between those that the bins can tell.
        """
        wanted = real("levels", levels, "level")
        half = np.round(wanted * BINS / 2).astype(np.int64)
        if not (np.abs(half * 2 / BINS - wanted) < 1e-9).all() or (half < 0).any() or (half > BINS // 2).any():
            raise ValueError(f"levels must be multiples of {2 / BINS:g} in [0, 1]; use coverage(places) for others")
        rising = np.concatenate([[0], np.cumsum(self.counts)])
        inside = rising[BINS // 2 + half] - rising[BINS // 2 - half]
        return np.asarray(inside / self.count if self.count else np.full(len(wanted), np.nan))

    @property
    def miscalibration(self) -> Miscalibration:
        """Calibration error over `LEVELS`; nan where there is no count."""
        return miscalibration(self.coverage()) if self.count else Miscalibration(np.nan, np.nan, np.nan, np.nan)


@dataclass(frozen=True, eq=False)
class Reliability:
    """Probabilities that were claimed against how often it happened, in bins of the probability. Pooled by +.

    counts : (bin,); happened : (bin,), how often
    claimed, squares, hits : (bin,), sums of p, p² and p over what happened
    """

    counts: Array
    happened: Array
    claimed: Array
    squares: Array
    hits: Array

    @classmethod
    def of(cls, probability: ArrayLike, happened: ArrayLike, bins: int = FORECASTS) -> Reliability:
        """Tally claims of any shape against what happened, bool of the same shape.

        Raises
        ------
        ValueError
            If shapes differ, a probability lies outside [0, 1], or what happened is not true or false.
        """
        claim, event = np.asarray(probability, dtype=np.float64), np.asarray(happened)
        if claim.shape != event.shape or event.dtype != bool:
            raise ValueError(
                f"happened ({event.dtype}, {event.shape}) must be true or false for every probability {claim.shape}"
            )
        if not ((claim >= 0) & (claim <= 1)).all():
            raise ValueError("a probability lies outside [0, 1]")
        p, o = claim.ravel(), event.ravel().astype(float)
        which = np.minimum((p * bins).astype(np.int64), bins - 1)
        parts = (np.ones_like(p), o, p, p * p, p * o)
        return cls(*(np.bincount(which, part, minlength=bins).astype(np.float64) for part in parts))

    def __add__(self, other: Reliability) -> Reliability:
        return Reliability(*(getattr(self, part.name) + getattr(other, part.name) for part in fields(self)))

    @property
    def count(self) -> int:
        """How many probabilities were claimed."""
        return int(self.counts.sum())

    @property
    def table(self) -> Array:
        """Mean probability claimed, frequency of what happened and count: (bin, 3), nan in empty bins."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.stack([self.claimed / self.counts, self.happened / self.counts, self.counts], axis=1)

    @property
    def brier(self) -> float:
        """Brier score, mean (p - o)² with o = 1 where it happened and 0 where not.

        Reference: Brier (1950), Mon. Weather Rev. 78, 1-3.
        """
        if not self.count:
            return np.nan
        return float(np.sum(self.squares - 2 * self.hits + self.happened) / self.counts.sum())

    @property
    def decomposition(self) -> Mapping[str, float]:
        """Parts of the Brier score: reliability - resolution + uncertainty + within.

            reliability  Σ n_k (p̄_k - ō_k)² / n       claims against frequencies; 0 if calibrated
            resolution   Σ n_k (ō_k - ō)² / n         what the claims tell apart; more is better
            uncertainty  ō (1 - ō)                    what there was to tell
            within       Σ n_k [var_k(p) - 2 cov_k(p, o)] / n      what the bins hide; 0 for as many claims as bins

        References: Murphy (1973), J. Appl. Meteorol. 12, 595-600; Stephenson, Coelho & Jolliffe (2008), Weather
        Forecast. 23, 752-757, for the last.
        """
        total = float(self.counts.sum())
        if not total:
            return dict.fromkeys(("reliability", "resolution", "uncertainty", "within"), np.nan)
        n = np.where(self.counts > 0, self.counts, 1.0)
        p, o, rate = self.claimed / n, self.happened / n, float(self.happened.sum()) / total
        hidden = self.squares - n * p * p - 2 * (self.hits - n * p * o)
        return {
            "reliability": float(self.counts @ (p - o) ** 2 / total),
            "resolution": float(self.counts @ (o - rate) ** 2 / total),
            "uncertainty": rate * (1 - rate),
            "within": float(hidden[self.counts > 0].sum() / total),
        }


# --- few Gaussians for many


def compressed(
    weights: ArrayLike, means: ArrayLike, sds: ArrayLike, count: int = GAUSSIANS
) -> tuple[Array, Array, Array]:
    """Return a mixture of few Gaussians that stands for one of many: weights, means, sds, (node, ...) each.

    Nodes that look alike are joined to one Gaussian of their mean and variance, so that mean and variance of the
    mixture stay exact. What is alike is measured as Fisher's metric does, by (m - m') / s and sqrt(2) log(s / s'),
    over all numbers at once: the set of nodes is halved across its widest direction until there are `count`.

    Far out in the tails, where only the widest node has any density left, the few are no substitute.

    weights : (node,); means, sds : (node, ...), of the same number of axes

    Raises
    ------
    ValueError
        If shapes do not fit, a number is NaN or infinite, an sd is not positive, or no node is to be left.
    """
    shape = np.broadcast_shapes(np.shape(means)[1:], np.shape(sds)[1:])
    mass, middle, spread, _ = _mixture(weights, means, sds, np.zeros(shape))
    cell = _cells(mass, middle, spread, count)
    gathered = _Gathered.of(int(cell.max()) + 1, shape)
    for n, w, m, s in zip(cell, mass, middle, spread, strict=True):
        gathered.take(n, w, m, s)
    return gathered.gaussians()


def _cells(mass: Array, means: Array, sds: Array, count: int) -> Index:
    """The cell (node,) that every node belongs to."""
    if count < 1:
        raise ValueError(f"count is {count}, but a mixture wants at least one Gaussian")
    nodes = len(mass)
    if nodes <= count:
        return np.arange(nodes)
    spread = np.broadcast_to(sds, means.shape)
    typical = np.tensordot(mass, spread, axes=1)
    looks = np.concatenate(
        [(means / typical).reshape(nodes, -1), np.sqrt(2) * np.log(spread / typical).reshape(nodes, -1)], axis=1
    )
    looks -= mass @ looks
    # Of thousands of numbers some hundreds tell the nodes apart as well.
    looks = looks[:, :: -(-looks.shape[1] // 512)]
    looks = looks @ np.linalg.svd(np.sqrt(mass)[:, None] * looks, full_matrices=False)[2][:3].T
    cells = [np.arange(nodes)]
    while len(cells) < count:
        about = [looks[c] - np.average(looks[c], axis=0, weights=mass[c] + 1e-300) for c in cells]
        widths = np.array([mass[c] @ a**2 for c, a in zip(cells, about, strict=True)])
        widest, axis = np.unravel_index(int(widths.argmax()), widths.shape)
        up = about[widest][:, axis] > 0
        if not widths[widest, axis] > 0 or up.all() or not up.any():
            break
        chosen = cells.pop(int(widest))
        cells += [chosen[up], chosen[~up]]
    out = np.empty(nodes, dtype=np.int64)
    for k, c in enumerate(cells):
        out[c] = k
    return out


@dataclass(frozen=True, eq=False)
class _Gathered:
    """Moments of the Gaussians that were joined in each cell: mass (cell,), Σ w m and Σ w (m² + s²) (cell, ...)."""

    mass: Array
    first: Array
    second: Array

    @classmethod
    def of(cls, cells: int, shape: tuple[int, ...]) -> _Gathered:
        return cls(np.zeros(cells), np.zeros((cells, *shape)), np.zeros((cells, *shape)))

    def take(self, cell: int, weight: float, mean: Array, sd: Array) -> None:
        self.mass[cell] += weight
        self.first[cell] += weight * mean
        self.second[cell] += weight * (mean**2 + sd**2)

    def gaussians(self) -> tuple[Array, Array, Array]:
        kept = self.mass > 0
        mass = self.mass[kept]
        lifted = mass.reshape(-1, *[1] * (self.first.ndim - 1))
        means = self.first[kept] / lifted
        variances = self.second[kept] / lifted - means**2
        return mass, means, np.sqrt(np.maximum(variances, 1e-20 * variances.max()))


# --- sums that can be pooled


class _Points(NamedTuple):
    """Scores of every number of a block: (row, time), `whole` of its mean over time (row,)."""

    places: Array
    whole: Array
    crps: Array
    interval: Array
    width: Array
    log: Array
    error: Array
    claimed: Array
    happened: NDArray[np.bool_]

    @classmethod
    def of(
        cls, weights: Array, means: Array, sds: Array, truth: Array, logs: Array, level: float, threshold: float
    ) -> _Points:
        """Score a mixture of few Gaussians (node, row, time); logs are its log scores, which want all nodes."""
        tail = (1 - level) / 2
        low, high = (mixture_quantile(weights, means, sds, p) for p in (tail, 1 - tail))
        count = truth.shape[1]
        whole = pit(weights, means.mean(axis=2), np.sqrt(np.sum(sds**2, axis=2)) / count, truth.mean(axis=1))
        beyond = np.zeros(truth.shape)
        for w, m, s in zip(weights, means, sds, strict=True):
            beyond += w * (ndtr((m - threshold) / s) + ndtr((-threshold - m) / s))
        return cls(
            pit(weights, means, sds, truth),
            whole,
            crps(weights, means, sds, truth),
            interval_score(low, high, truth, level),
            high - low,
            logs,
            (truth - np.tensordot(weights, means, axes=1)) ** 2,
            np.clip(beyond, 0.0, 1.0),
            np.abs(truth) > threshold,
        )


@dataclass(frozen=True, eq=False)
class Tally:
    """Probabilistic scores of many numbers, as counts and sums; those of several runs are pooled by +.

    level : of the interval
    pit : pointwise, of every source (axis) and sample
    aggregated : of means over the window, whose variance is taken as the mean variance over the number of samples
    exceedance : of the probability that a magnitude exceeds a threshold
    inside : how many truths lie in the interval
    crps, interval_score, width, log_score, squares : sums of the scores, the intervals' widths and squared errors
    """

    level: float
    pit: Pit
    aggregated: Pit
    exceedance: Reliability
    inside: int
    crps: float
    interval_score: float
    width: float
    log_score: float
    squares: float

    @classmethod
    def _of(cls, points: _Points, rows: Index | slice, level: float) -> Tally:
        return cls(
            level,
            Pit.of(points.places[rows]),
            Pit.of(points.whole[rows]),
            Reliability.of(points.claimed[rows], points.happened[rows]),
            int(np.count_nonzero(np.abs(2 * points.places[rows] - 1) <= level)),
            *(
                float(part[rows].sum())
                for part in (points.crps, points.interval, points.width, points.log, points.error)
            ),
        )

    def __add__(self, other: Tally) -> Tally:
        if self.level != other.level:
            raise ValueError(f"intervals of {self.level} and {other.level} cannot be pooled; score both at one level")
        parts = (part.name for part in fields(self) if part.name != "level")
        return Tally(self.level, *(getattr(self, name) + getattr(other, name) for name in parts))

    @property
    def count(self) -> int:
        """How many numbers were scored."""
        return self.pit.count

    def row(self) -> dict[str, float]:
        """Counts, mean scores, coverage and calibration errors as plain numbers; nan where nothing was scored."""
        n = self.count or np.nan
        out: dict[str, float] = {
            "count": self.count,
            "coverage": self.inside / n,
            "crps": self.crps / n,
            "interval_score": self.interval_score / n,
            "width": self.width / n,
            "log_score": self.log_score / n,
            "rmse": float(np.sqrt(self.squares / n)),
        }
        out |= self.pit.miscalibration._asdict()
        out |= {f"aggregated_{name}": value for name, value in self.aggregated.miscalibration._asdict().items()}
        out["brier"] = self.exceedance.brier
        return out | {f"brier_{name}": value for name, value in self.exceedance.decomposition.items()}


@dataclass(frozen=True)
class PeakScore:
    """The credible region of the peak against the truth's.

    inside : whether the region holds the source nearest to the truth's peak
    probability : that the peak lies at that source
    size : sources in the region
    radius : of the ball about the strongest source that holds the peak with the region's probability, m
    """

    inside: bool
    probability: float
    size: int
    radius: float


@dataclass(frozen=True, eq=False)
class Scores:
    """Everything that can be said of one result when the truth is known.

    name : of model or method
    level : of the intervals
    time : s, at which maps are compared: where the truth is strongest inside the window
    peak_error, centre_error, deviation, earth_movers_distance : m; nan where the map is zero
    area_under_curve, average_precision : nan where all sources are active, or none
    map_correlation : of map and truth on the grid at that time; of magnitudes with free orientation
    course_correlation : the same over time at each active source, averaged with the truth's power for weight
    strata : probabilistic scores per stratum, or None where the result makes no claim: "all", "active", "inactive",
        and "depth 1" (shallow) to "depth 4", quartiles of the sources
    peak, regions, contrasts : of the peak's credible region and of linear functionals, where there are any
    """

    name: str
    level: float
    time: float
    peak_error: float
    centre_error: float
    deviation: float
    earth_movers_distance: float
    area_under_curve: float
    average_precision: float
    map_correlation: float
    course_correlation: float
    strata: Mapping[str, Tally] | None = field(default=None, repr=False)
    peak: PeakScore | None = None
    regions: Tally | None = field(default=None, repr=False)
    contrasts: Tally | None = field(default=None, repr=False)

    @property
    def tallies(self) -> Mapping[str, Tally]:
        """All tallies by name: the strata, "regions" and "contrasts", as far as there are any."""
        more = {"regions": self.regions, "contrasts": self.contrasts}
        return {**(self.strata or {}), **{name: tally for name, tally in more.items() if tally is not None}}

    def row(self) -> dict[str, float | str]:
        """One flat row of plain numbers: point scores, then "stratum: score" of every tally."""
        plain = [part.name for part in fields(self) if part.type in ("str", "float")]
        out: dict[str, float | str] = {name: getattr(self, name) for name in plain}
        if self.peak is not None:
            out |= {f"peak_region_{part.name}": float(getattr(self.peak, part.name)) for part in fields(self.peak)}
        for stratum, tally in self.tallies.items():
            out |= {f"{stratum}: {name}": value for name, value in tally.row().items()}
        return out

    def curves(self) -> list[dict[str, float | str]]:
        """Coverage curves as a long table, with counts, so that those of many runs can be pooled."""
        return [
            {"stratum": stratum, "kind": kind, "level": float(level), "coverage": float(share), "count": found.count}
            for stratum, tally in self.tallies.items()
            for kind, found in (("pointwise", tally.pit), ("aggregated", tally.aggregated))
            for level, share in zip(LEVELS, found.coverage(), strict=True)
        ]


def pool(runs: Iterable[Scores]) -> dict[str, Tally]:
    """Return the tallies of several runs, pooled by name.

    Raises
    ------
    ValueError
        If intervals have different levels.
    """
    out: dict[str, Tally] = {}
    for scores in runs:
        for name, tally in scores.tallies.items():
            out[name] = out[name] + tally if name in out else tally
    return out


# --- a result against the truth


def naive(estimate: Estimate) -> Posterior | None:
    """Return the posterior that a classical estimate implies if its λ is taken for known, or None.

        current | recording ~ N(estimate, (noise² / λ) (D - D Gᵀ (G D Gᵀ + λ I)⁻¹ G D))

    The noise has the scale that the estimate was made with. There is none of maps without a unit (dSPM, sLORETA), of
    estimates without λ (LCMV) and of priors that couple the axes of a source.
    """
    turn = estimate.operator.turn
    if estimate.unit != "A m" or estimate.lam is None or estimate.scan is None or turn.ndim != 1:
        return None
    noise = np.array([float(estimate.scan.noise)])
    variance = noise**2 / estimate.lam
    snr = np.sqrt(estimate.scan.values.mean() / estimate.lam)
    nodes = {"noise": noise, "scale": np.sqrt(variance), "lambda": noise**2 / variance, "snr": np.array([float(snr)])}
    one = np.ones(1)
    mixture = Mixture(one, variance, noise, np.zeros(1, dtype=np.int64), (Structure(weights=turn),))
    return Posterior(estimate.problem, estimate.method, "lam taken for known", mixture, Hyper(nodes, one, nodes), None)


def score(
    result: Posterior | Estimate,
    truth: Truth,
    *,
    window: Window = None,
    level: float = 0.9,
    regions: Mapping[str, ArrayLike] | None = None,
    contrasts: ArrayLike | None = None,
    threshold: float | None = None,
    active: float = 0.0,
) -> Scores:
    """Return every score of a result whose truth is known.

    result : a posterior, or a classical estimate, whose intervals are `naive`
    truth : on any grid; its times hold those of the recording
    window : (start, stop) in s, one time in s, or None for all samples
    level : of intervals and of the peak's region
    regions : region name to the indices of its sources, whose mean currents are scored too
    contrasts : weights of linear functionals, as `Posterior.contrast` takes them
    threshold : A m, that magnitudes may exceed; None takes the root mean square of the truth on the grid
    active : share of the truth's largest magnitude beyond which a place is active

    With free orientation every axis counts on its own in the probabilistic scores. Nodes beyond `GAUSSIANS` are
    `compressed`, except for the log score, which tails decide.

    Raises
    ------
    ValueError
        If positions are not known, the truth is zero in the window or lacks its samples, or a number lies outside its
        range.
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
    clock = times[samples]
    true = _sampled(truth, clock)
    if not true.current.any():
        raise ValueError("the truth is zero throughout the window; there is nothing to find")
    grid = project(true, problem.sources, problem.axes)
    if isinstance(problem, SurfaceProblem):
        assert problem.directions is not None
        grid = np.einsum("sax,sxt->sat", problem.directions, grid)
    goal = nearest(true.sources, problem.sources)
    marks = np.abs(true.current) > active * np.abs(true.current).max()
    sample = int(np.argmax(np.sum(true.current**2, axis=0)))
    found = (result.mean if isinstance(result, Posterior) else result.current)[..., samples]
    name = result.model if isinstance(result, Posterior) else result.method
    point = _point_scores(found, grid, true, sample, problem.sources, goal, marks)
    scores = Scores(name, level, float(clock[sample]), **point)
    posterior = result if isinstance(result, Posterior) else naive(result)
    if posterior is None:
        return scores
    flat = grid.reshape(-1, len(clock))
    limit = float(np.sqrt(np.mean(flat**2))) if threshold is None else threshold
    strata = {key: np.repeat(rows, problem.axes) for key, rows in _strata(problem, goal, marks).items()}
    tallies: dict[str, Tally] = {}
    for rows, block in _blocks(posterior, samples, flat, level, limit):
        for key, mask in strata.items():
            part = Tally._of(block, np.flatnonzero(mask[rows]), level)
            tallies[key] = tallies[key] + part if key in tallies else part
    areas = others = None
    if regions is not None:
        index = {name: np.asarray(sources) for name, sources in regions.items()}
        functional = posterior.region(index)
        means = np.stack([grid[sources].mean(axis=0) for sources in index.values()])
        areas = _functional(functional, means.reshape(-1, len(clock)), samples, level, threshold)
    if contrasts is not None:
        functional = posterior.contrast(contrasts)
        table = np.asarray(contrasts, dtype=np.float64).reshape(len(functional.names), -1)
        others = _functional(functional, table @ flat, samples, level, threshold)
    peak = posterior.peak(float(clock[sample]))
    place, region = int(_magnitude(grid)[:, sample].argmax()), peak.region(level)
    held = PeakScore(bool(np.isin(place, region)), float(peak.probability[place]), len(region), peak.radius(level))
    return replace(scores, strata=tallies, peak=held, regions=areas, contrasts=others)


def _sampled(truth: Truth, clock: Array) -> Truth:
    """The truth at the recording's samples."""
    near = np.abs(truth.times[:, None] - clock).argmin(axis=0) if len(truth.times) else np.zeros(len(clock), int)
    both = np.concatenate([np.diff(truth.times), np.diff(clock)])
    step = float(np.min(both)) if both.size else 1.0
    late = np.abs(truth.times[near] - clock) > 0.01 * step
    if late.any():
        raise ValueError(
            f"the truth has no sample at {clock[late][0]:g} s, where the recording has one; it runs from "
            f"{truth.times[0]:g} to {truth.times[-1]:g} s. Both must count time alike"
        )
    return Truth(truth.sources, truth.current[:, near], clock, truth.notes)


def _magnitude(current: Array) -> Array:
    """Length of currents (source, [axis,] time): (source, time)."""
    return np.linalg.norm(current, axis=1) if current.ndim == 3 else np.abs(current)


def _point_scores(
    found: Array, grid: Array, true: Truth, sample: int, sources: Sources, goal: Index, marks: NDArray[np.bool_]
) -> dict[str, Any]:
    """Point scores by their names in `Scores`; nan where one is not defined."""
    size = _magnitude(found)[:, sample]
    sides = (size, sources.positions, true.current[:, sample], true.sources.positions)
    where = (peak_error, centre_error, deviation, earth_movers_distance)
    out: dict[str, Any] = {measure.__name__: measure(*sides) if size.any() else np.nan for measure in where}
    wanted = np.zeros(len(sources), dtype=bool)
    wanted[goal[marks[:, sample]]] = True
    both = wanted.any() and not wanted.all()
    out |= {which.__name__: which(size, wanted) if both else np.nan for which in (area_under_curve, average_precision)}
    one, other = (found, grid) if grid.ndim == 2 else (_magnitude(found), _magnitude(grid))
    out["map_correlation"] = correlation(one[..., sample], other[..., sample])
    lively = np.unique(goal[marks.any(axis=1)])
    power = np.sum(_magnitude(grid)[lively] ** 2, axis=1)
    out["course_correlation"] = np.nan
    if grid.shape[-1] > 1 and power.any():
        each = np.array([correlation(one[k], other[k]) for k in lively])
        out["course_correlation"] = float(each @ power / power.sum())
    return out


def _strata(problem: Problem, goal: Index, marks: NDArray[np.bool_]) -> dict[str, NDArray[np.bool_]]:
    """Name to the sources of a stratum (source,)."""
    active = np.zeros(problem.source_count, dtype=bool)
    active[goal[marks.any(axis=1)]] = True
    out = {"all": np.ones_like(active), "active": active, "inactive": ~active}
    if problem.sensors is None:
        # Without sensors to measure from, a source is the deeper the less reaches them.
        depth = -problem.source_norms
    else:
        depth = Resolution(problem, "", problem.gain.T, problem.gain, problem.axes, problem.axes).depth
    quarter = np.searchsorted(np.quantile(depth, [0.25, 0.5, 0.75]), depth, side="left")
    return out | {f"depth {k + 1}": quarter == k for k in range(4)}


def _blocks(
    posterior: Posterior, samples: slice, truth: Array, level: float, threshold: float
) -> Iterator[tuple[slice, _Points]]:
    """Scores of the currents (amplitude, time), some amplitudes at a time."""
    rows, count = truth.shape
    # The nodes are told apart by a few amplitudes and samples, far from each other.
    probe = slice(0, rows, -(-rows // 32))
    some = slice(samples.start, samples.stop, (samples.step or 1) * -(-count // 8))
    mass, means, sds = (np.array(part) for part in zip(*posterior.gaussians(probe, some), strict=True))
    cell = _cells(mass, means, np.maximum(sds, 1e-10 * sds.max()), GAUSSIANS)
    step = max(1, BLOCK // count)
    for start in range(0, rows, step):
        block = slice(start, min(start + step, rows))
        at = truth[block]
        gathered = _Gathered.of(int(cell.max()) + 1, at.shape)
        logs = np.full(at.shape, -np.inf)
        for n, (w, m, s) in zip(cell, posterior.gaussians(block, samples), strict=True):
            gathered.take(n, w, m, s)
            logs = np.logaddexp(logs, np.log(w) + _log_normal(at, m, np.maximum(s, 1e-10 * s.max())))
        yield block, _Points.of(*gathered.gaussians(), at, -logs, level, threshold)


def _functional(functional: Functional, truth: Array, samples: slice, level: float, threshold: float | None) -> Tally:
    """Scores of linear functionals (functional, time)."""
    means = functional.means[:, :, samples]
    sds = np.broadcast_to(functional.node_sds, functional.means.shape)[:, :, samples]
    logs = log_score(functional.weights, means, sds, truth)
    limit = float(np.sqrt(np.mean(truth**2))) if threshold is None else threshold
    few = compressed(functional.weights, means, sds)
    return Tally._of(_Points.of(*few, truth, logs, level, limit), slice(None), level)
