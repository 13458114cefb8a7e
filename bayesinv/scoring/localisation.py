"""Point scores of a map against the truth: localisation errors, detection and correlation.

They compare the magnitude of a map (source,) with the truth, which may be on another grid; distances are in metres.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from bayesinv.axes import Array, real, same_axes

MAX_SOURCES = 1500
"""Sources of map or truth up to which the earth mover's distance is exact."""

STRONG_SHARE = 0.5
"""Share of the truth's largest magnitude from which a position counts as strong."""


def _checked(
    map: ArrayLike, positions: ArrayLike, truth: ArrayLike, truth_positions: ArrayLike
) -> tuple[Array, Array, Array, Array]:
    """Return the magnitudes of map and truth, each with its positions, checked."""
    size, at = np.abs(real("map", map, "source")), real("positions", positions, "source 3")
    true, there = np.abs(real("truth", truth, "vertex")), real("truth_positions", truth_positions, "vertex 3")
    same_axes(map=(size, "source"), positions=(at, "source 3"))
    same_axes(truth=(true, "vertex"), truth_positions=(there, "vertex 3"))
    for name, value in (("map", size), ("truth", true)):
        if not value.any():
            raise ValueError(f"the {name} is zero everywhere, so it has no position; there is nothing to compare")
    return size, at, true, there


def _strong(true: Array, there: Array) -> Array:
    """Return the positions (vertex, 3) at which the truth is strong."""
    return there[true >= STRONG_SHARE * true.max()]


def peak_error(map: ArrayLike, positions: ArrayLike, truth: ArrayLike, truth_positions: ArrayLike) -> float:
    """Return the peak localisation error, m: the distance of the map's peak from the truth.

        min_k |r_peak - s_k|,   r_peak = r at argmax |map|,   |truth_k| >= `STRONG_SHARE` max |truth|

    For one dipole it is the distance of the peaks. A patch, or dipoles of equal strength, have no single peak; the
    nearest of the truth's strong positions counts.

    map : (source,); positions : (source, 3), m
    truth : (vertex,); truth_positions : (vertex, 3), m

    Raises
    ------
    ValueError
        If shapes do not fit, a number is NaN or infinite, or map or truth are zero everywhere.

    Reference: Molins et al. (2008), NeuroImage 42, 1069-1077; Hauk, Stenroos & Treder (2022), NeuroImage 255, 119177.
    """
    size, at, true, there = _checked(map, positions, truth, truth_positions)
    return float(np.linalg.norm(_strong(true, there) - at[size.argmax()], axis=1).min())


def centre_error(map: ArrayLike, positions: ArrayLike, truth: ArrayLike, truth_positions: ArrayLike) -> float:
    """Return the distance in m of the centres of mass of map and truth.

        |Σ w r / Σ w - Σ v s / Σ v|,   w = |map|, v = |truth|

    Axes, errors and reference as in `peak_error`.
    """
    size, at, true, there = _checked(map, positions, truth, truth_positions)
    return float(np.linalg.norm(size @ at / size.sum() - true @ there / true.sum()))


def deviation(map: ArrayLike, positions: ArrayLike, truth: ArrayLike, truth_positions: ArrayLike) -> float:
    """Return the spatial deviation, m: the root mean square distance of the map's power from the truth.

        sqrt(Σ w² d² / Σ w²),   w = |map|, d the distance from the nearest strong vertex of the truth (see `peak_error`)

    Axes, errors and reference as in `peak_error`.
    """
    size, at, true, there = _checked(map, positions, truth, truth_positions)
    distance = cKDTree(_strong(true, there)).query(at)[0]
    return float(np.sqrt(size**2 @ distance**2 / np.sum(size**2)))


def earth_movers_distance(
    map: ArrayLike, positions: ArrayLike, truth: ArrayLike, truth_positions: ArrayLike, largest: int = MAX_SOURCES
) -> float:
    """Return the earth mover's distance, m: the mean transport distance of mass from the map to the truth.

        min_P Σ P_kl |r_k - s_l|,   P >= 0,   Σ_l P_kl = |map_k| / Σ |map|,   Σ_k P_kl = |truth_l| / Σ |truth|

    largest : where map or truth has more sources than this, only so many of largest mass are retained, and the mass of
        every other one moves to the nearest retained. The error is then at most that mass times the distance that it
        moved; with fewer sources the distance is exact.

    Axes and other errors as in `peak_error`.

    Raises
    ------
    ValueError
        If `largest` is below 1.

    Reference: Rubner, Tomasi & Guibas (2000), Int. J. Comput. Vis. 40, 99-121; solved by POT (Flamary et al. 2021).
    """
    if largest < 1:
        raise ValueError(f"largest is {largest}, but at least one source must be retained")
    size, at, true, there = _checked(map, positions, truth, truth_positions)
    import ot

    (mass, at), (true_mass, there) = _largest_masses(size, at, largest), _largest_masses(true, there, largest)
    return float(ot.emd2(mass, true_mass, cdist(at, there), numItermax=10**7))


def _largest_masses(size: Array, at: Array, count: int) -> tuple[Array, Array]:
    """Return normalised masses (retained,) and positions (retained, 3); other mass is moved to the nearest of them."""
    order = np.argsort(-size, kind="stable")[: np.count_nonzero(size)]
    retained, rest = order[:count], order[count:]
    mass = size[retained].copy()
    if rest.size:
        np.add.at(mass, cKDTree(at[retained]).query(at[rest])[1], size[rest])
    return mass / mass.sum(), at[retained]


def _ranked(map: ArrayLike, active: ArrayLike) -> tuple[Array, NDArray[np.bool_]]:
    """Return the magnitude of a map and which sources are active, (source,) each, checked."""
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


def magnitude(current: Array) -> Array:
    """Length of currents (source, [axis,] time): (source, time)."""
    return np.linalg.norm(current, axis=1) if current.ndim == 3 else np.abs(current)
