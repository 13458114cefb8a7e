"""Maps: from a posterior to one number per source, or per patch of cortex around each source, at one window of time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array, eye_array
from scipy.spatial import cKDTree
from scipy.special import ndtr
from scipy.stats import chi

from bayesinv.axes import Array, Index
from bayesinv.evidence import Spectrum
from bayesinv.posterior import Functional, Peak, Posterior, Window
from bayesinv.problem import Problem

NEIGHBOURHOOD = 0.01
"""Radius in m within which draws of the peak are counted, so that the map does not depend on the source spacing."""

REGION = 0.015
"""Radius in m of the patch of cortex that stands for a region: about what MEG and EEG tell apart."""


BLOCK = 256
"""Patches worked on at once where sources are correlated."""

PRIOR_EXCEEDANCE = 0.1
"""Probability, before the recording, of a current that counts as large."""


@dataclass(frozen=True, eq=False)
class Maps:
    """Posterior maps of the current, or of its mean over a patch around each source, at one window of time.

    mean : (source, [axis]), A m
    sd : (source, [axis]), A m
    prior_sd : (source, [axis]), A m, at the learned scale
    shrinkage : (source,), 1 - posterior variance / prior variance
    exceedance : (source,), P(|current| > threshold)
    prior_exceedance : (source,), the same before the recording is seen, at the learned scale
    peak : (source,), probability that the strongest current lies here; of patches, the current that is strongest
        for the size of its patch, in prior standard deviations, since small patches vary more
    near : (source,), probability that it lies within `NEIGHBOURHOOD` of here; None without positions
    chance : (source,), what `near` would be if every source were as probable; None without positions
    threshold : A m
    radius : m, of the patch; 0 for single sources
    window : (start, stop), s
    draws : joint draws behind `peak` (and behind `exceedance` with free orientation)
    """

    mean: Array
    sd: Array
    prior_sd: Array
    shrinkage: Array
    exceedance: Array
    prior_exceedance: Array
    peak: Array
    near: Array | None
    chance: Array | None
    threshold: float
    radius: float
    window: tuple[float, float]
    draws: int

    @property
    def strength(self) -> Array:
        """Size of the mean current, A m: (source,), its norm with free orientation."""
        return np.abs(self.mean) if self.mean.ndim == 1 else np.linalg.norm(self.mean, axis=1)

    @property
    def strongest(self) -> int:
        """The source, or patch for its size, at which the posterior mean is strongest."""
        expected = np.linalg.norm(self.prior_sd.reshape(len(self.peak), -1), axis=1)
        return int((self.strength / expected if self.radius else self.strength).argmax())

    @property
    def uncertainty(self) -> Array:
        """Standard deviation, A m: (source,), root of the summed variances with free orientation."""
        return self.sd if self.sd.ndim == 1 else np.linalg.norm(self.sd, axis=1)

    def place(self, problem: Problem) -> Peak:
        """Return the posterior of the strongest current's place among the sources of the problem."""
        positions = None if problem.sources is None else problem.sources.positions
        return Peak(self.peak, self.strongest, positions, self.window, self.draws)


def span(posterior: Posterior, window: Window = None) -> tuple[float, float]:
    """Return the first and the last time in s that a window holds, see `averaged`.

    Raises
    ------
    ValueError
        If it holds no sample.
    """
    times = posterior.problem.times[_samples(posterior, window)]
    return float(times[0]), float(times[-1])


def _samples(posterior: Posterior, window: Window) -> slice:
    problem = posterior.problem
    window = loudest(posterior) if window is None else window
    if isinstance(window, int | float):
        nearest = int(np.argmin(np.abs(problem.times - window)))
        return slice(nearest, nearest + 1)
    samples = window if isinstance(window, slice) else problem.window(*window)
    if not len(problem.times[samples]):
        raise ValueError(f"window {window} holds no sample")
    return samples


def loudest(posterior: Posterior) -> float:
    """Return the time in s at which the posterior mean explains most of the recording."""
    return float(posterior.problem.times[int(np.argmax(np.sum(posterior.fitted**2, axis=0)))])


def averaged(posterior: Posterior, window: Window = None) -> Posterior:
    """Return the posterior of the currents' mean over a window, as a posterior of one sample.

    Means, intervals, draws and peaks of what is returned are exact.

    window : (start, stop) in s, one time in s, or None for the sample with most signal

    Raises
    ------
    ValueError
        If the window holds no sample.
    """
    return posterior.averaged(_samples(posterior, window))


def has_patches(problem: Problem) -> bool:
    """Whether positions are known, and with fixed orientation normals, that tell how currents are to be averaged."""
    return problem.sources is not None and (problem.axes == 3 or problem.sources.normals is not None)


def neighbours(problem: Problem, radius: float, centre: int) -> Index:
    """Return the sources of one hemisphere within `radius` m of a source, that source among them.

    Only the source itself where there are no patches, see `has_patches`.
    """
    sources = problem.sources
    if sources is None or radius <= 0 or not has_patches(problem):
        return np.array([centre], dtype=np.int64)
    near = np.linalg.norm(sources.positions - sources.positions[centre], axis=1) <= radius
    if sources.hemispheres is not None:
        near &= sources.hemispheres == sources.hemispheres[centre]
    return np.flatnonzero(near)


def patches(problem: Problem, radius: float) -> csr_array:
    """Return the weights (patch, source) that average the currents of the patch around each source.

    A patch is what lies within `radius` m in the same hemisphere. With fixed orientation currents whose normal
    points against that of the patch's centre are turned, so that opposite walls of a sulcus do not cancel.

    Raises
    ------
    ValueError
        If the radius is negative, or there are no positions, or with fixed orientation no normals.
    """
    count, sources = problem.source_count, problem.sources
    if not 0 <= radius < np.inf:
        raise ValueError(f"radius is {radius}, but must be a length of at least 0 m")
    if radius == 0:
        return csr_array(eye_array(count))
    if sources is None or not has_patches(problem):
        missing = "positions" if sources is None else "normals"
        raise ValueError(f"patches want the sources' {missing}, but this problem has none; use radius=0")
    pairs = cKDTree(sources.positions).query_pairs(radius, output_type="ndarray")
    both = np.concatenate([pairs, pairs[:, ::-1], np.repeat(np.arange(count)[:, None], 2, axis=1)])
    row, column = both.T
    if sources.hemispheres is not None:
        same = sources.hemispheres[row] == sources.hemispheres[column]
        row, column = row[same], column[same]
    sign = np.ones(len(row))
    if problem.axes == 1 and sources.normals is not None:
        sign[np.einsum("ni,ni->n", sources.normals[row], sources.normals[column]) < 0] = -1.0
    return csr_array((sign / np.bincount(row, minlength=count)[row], (row, column)), shape=(count, count))


def posterior_maps(
    posterior: Posterior,
    window: Window = None,
    *,
    radius: float = 0.0,
    threshold: float | None = None,
    draws: int = 1000,
    rng: np.random.Generator | None = None,
    drawn: Array | None = None,
) -> Maps:
    """Return the posterior maps at one window of time.

    window : (start, stop) in s for the mean over it, one time in s, or None for the sample with most signal
    radius : m; 0 for single sources, otherwise the mean over the patch within this distance of each source
    threshold : A m; None takes what a source (the median one) exceeds with probability `PRIOR_EXCEEDANCE` before the
        recording is seen, at the learned scale
    draws : joint draws for the peak, and for the exceedance of the current's norm with free orientation
    rng : default_rng(0) if None, so that the same posterior gives the same maps
    drawn : (draw, source, [axis,] 1), A m, joint draws of `averaged(posterior, window)` to take instead of new ones

    With fixed orientation all but the peak is exact.

    Raises
    ------
    ValueError
        If the window holds no sample, the threshold or radius is negative, or patches are asked for without
        positions and normals.
    """
    if threshold is not None and not 0 <= threshold < np.inf:
        raise ValueError(f"threshold is {threshold}, but must be a finite current of at least 0 A m")
    rng = np.random.default_rng(0) if rng is None else rng
    one = averaged(posterior, window)
    problem = one.problem
    weights, axes = patches(problem, radius), problem.axes
    mass, means, variances, priors = _gaussians(one, weights)
    mean = np.einsum("n,pn->p", mass, means)
    variance = np.einsum("n,pn->p", mass, variances + means**2) - mean**2
    within, prior = variances @ mass, priors @ mass
    per_source = (len(mean) // axes, axes)
    shrinkage = 1 - within.reshape(per_source).sum(axis=1) / prior.reshape(per_source).sum(axis=1)
    if threshold is None:
        typical = float(np.sqrt(np.median(prior.reshape(per_source).mean(axis=1))))
        threshold = typical * float(chi.isf(PRIOR_EXCEEDANCE, axes))
    limit = float(threshold)

    flat = one.draw(draws, rng) if drawn is None else drawn
    draws = len(flat)
    flat = flat.reshape(draws, *per_source)
    turned = flat
    if radius:
        # One product for all draws.
        turned = (weights @ flat.swapaxes(0, 1).reshape(per_source[0], -1)).reshape(per_source[0], draws, axes)
        turned = turned.swapaxes(0, 1)
    sizes = np.linalg.norm(turned, axis=2)
    expected = np.sqrt(prior.reshape(per_source).sum(axis=1)) if radius else 1.0
    peak = np.bincount((sizes / expected).argmax(axis=1), minlength=per_source[0]) / draws
    if axes == 1:
        sds = np.sqrt(np.maximum(variances, 0))
        exceedance = (ndtr((-limit - means) / sds) + ndtr((means - limit) / sds)) @ mass
    else:
        exceedance = (sizes > limit).mean(axis=0)
    # The norm of independent normals is a chi variable; of one, its absolute value.
    prior_exceedance = chi.sf(limit / np.sqrt(priors.reshape(*per_source, -1).mean(axis=1)), axes) @ mass
    near = chance = None
    if problem.sources is not None:
        tree = cKDTree(problem.sources.positions)
        around = tree.query_ball_point(problem.sources.positions, NEIGHBOURHOOD)
        near = np.array([peak[index].sum() for index in around])
        chance = np.array([len(index) for index in around]) / len(peak)
    shape = (-1,) if axes == 1 else per_source
    return Maps(
        mean=mean.reshape(shape),
        sd=np.sqrt(np.maximum(variance, 0)).reshape(shape),
        prior_sd=np.sqrt(prior).reshape(shape),
        shrinkage=shrinkage,
        exceedance=exceedance,
        prior_exceedance=prior_exceedance,
        peak=peak,
        near=near,
        chance=chance,
        threshold=limit,
        radius=float(radius),
        window=span(posterior, window),
        draws=draws,
    )


def both(
    posterior: Posterior,
    window: Window = None,
    *,
    radius: float = REGION,
    draws: int = 1000,
    rng: np.random.Generator | None = None,
) -> tuple[Maps, Maps | None]:
    """Return the maps of single sources, and of patches where there can be any, from the same joint draws.

    window, radius, draws, rng : as in `posterior_maps`

    Raises
    ------
    ValueError
        As `posterior_maps` does.
    """
    drawn = averaged(posterior, window).draw(draws, np.random.default_rng(0) if rng is None else rng)
    single = posterior_maps(posterior, window, drawn=drawn)
    patched = radius > 0 and has_patches(posterior.problem)
    return single, posterior_maps(posterior, window, radius=radius, drawn=drawn) if patched else None


def _spread(problem: Problem, spectrum: Spectrum, weights: csr_array) -> Array:
    """Relative prior variance (amplitude,) of weighted sums of the currents."""
    axes, structure = problem.axes, spectrum.structure
    out = np.empty(problem.gain.shape[1])
    if structure.plain:
        squared = weights.multiply(weights)
        for axis in range(axes):
            out[axis::axes] = squared @ spectrum.weights[axis::axes]
        return out
    for start in range(0, problem.source_count, BLOCK):
        some = weights[start : start + BLOCK].toarray().T
        for axis in range(axes):
            sums = np.zeros((len(some), axes, some.shape[1]))
            sums[:, axis] = some
            flat = sums.reshape(-1, some.shape[1])
            out[start * axes + axis : (start + some.shape[1]) * axes : axes] = np.sum(
                flat * structure.times(problem, flat), axis=0
            )
    return out


def _gaussians(one: Posterior, weights: csr_array) -> tuple[Array, Array, Array, Array]:
    """Weights (node,), means, variances and prior variances (amplitude, node) of weighted sums of the currents."""
    axes = one.problem.axes
    mass, means, variances, priors = [], [], [], []
    for group in one._groups:
        back = group.back()
        # One amplitude of every source at a time, so that an axis is averaged with itself.
        gained = np.empty_like(back)
        for axis in range(axes):
            gained[axis::axes] = weights @ back[axis::axes]
        means.append(gained @ (group.gains * group.coefficients[:, 0]).T)
        prior = np.outer(_spread(one.problem, group.spectrum, weights), group.variance)
        priors.append(prior)
        variances.append(prior - gained**2 @ group.losses.T)
        mass.append(group.weights)
    total = np.concatenate(mass)
    return total / total.sum(), np.hstack(means), np.hstack(variances), np.hstack(priors)


def strongest_region(
    posterior: Posterior, window: Window = None, radius: float = REGION
) -> tuple[int, Index, Functional]:
    """Return the centre of the strongest patch at a window, its sources, and its course over time.

    The patch is the one whose posterior mean is strongest for its size, see `Maps.strongest`; a single source where
    positions or normals are not known. The course is the exact joint posterior of the mean current over the patch:
    with fixed orientation along the normals, turned where they point against the patch's main direction; with free
    orientation along the direction of the patch's posterior mean at the window.

    window : as in `averaged`
    radius : m

    Raises
    ------
    ValueError
        If the window holds no sample or the radius is negative.
    """
    problem = posterior.problem
    one = averaged(posterior, window)
    known = has_patches(problem)
    mass, means, _, priors = _gaussians(one, patches(problem, radius if known else 0.0))
    mean = (means @ mass).reshape(problem.source_count, problem.axes)
    expected = np.sqrt((priors @ mass).reshape(mean.shape).sum(axis=1)) if known and radius else 1.0
    centre = int((np.linalg.norm(mean, axis=1) / expected).argmax())
    index = neighbours(problem, radius, centre)
    if problem.axes == 1:
        return centre, index, posterior.region({"strongest region": index}, flip=len(index) > 1)
    size = np.linalg.norm(mean[centre])
    weights = np.zeros(mean.shape)
    weights[index] = (mean[centre] / size if size else np.eye(problem.axes)[2]) / len(index)
    return centre, index, posterior.contrast(weights, names=["strongest region"])
