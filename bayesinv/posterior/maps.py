"""Maps: from a posterior to one number per source, or per patch of cortex around each source, at one window of time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.spatial import cKDTree
from scipy.special import chdtrc, ndtr
from scipy.stats import chi

from bayesinv.arguments import Randomness, generator_of
from bayesinv.axes import Array, Index
from bayesinv.posterior.functionals import Functional
from bayesinv.posterior.peak import Peak
from bayesinv.posterior.posterior import Posterior
from bayesinv.posterior.quantiles import checked_threshold
from bayesinv.posterior.regions import has_patches, neighbours, patches
from bayesinv.problem.problem import Problem
from bayesinv.problem.windows import Window, samples_of

NEIGHBOURHOOD = 0.01
"""Radius in m within which draws of the peak are counted, so that the map does not depend on the source spacing."""

REGION = 0.015
"""Radius in m of the patch of cortex that stands for a region: about what MEG and EEG resolve."""


PRIOR_EXCEEDANCE = 0.1
"""Prior probability that a current exceeds the default threshold."""


@dataclass(frozen=True, eq=False)
class Maps:
    """Posterior maps of the current, or of its mean over a patch around each source, at one window of time.

    mean : (source, [axis]), A m
    sd : (source, [axis]), A m
    prior_sd : (source, [axis]), A m, at the learned scale
    shrinkage : (source,), 1 - posterior variance / prior variance
    exceedance : (source,), P(|current| > threshold)
    prior_exceedance : (source,), the same under the prior at the learned scale
    peak : (source,), probability that the strongest current lies here; of patches, the current that is strongest
        for the size of its patch, in prior standard deviations, since small patches vary more; that is strongest by
        itself where there are focal sources, whose sets were drawn given the recording and have no such prior
    near : (source,), probability that it lies within `NEIGHBOURHOOD` of here; None without positions
    chance : (source,), what `near` would be if every source were as probable; None without positions
    threshold : A m
    radius : m, of the patch; 0 for single sources
    window : (start, stop), s
    draws : joint draws behind `peak` (and behind `exceedance` with free orientation)
    inclusion : (source,), probability that a focal source's patch holds this place; None without focal sources
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
    inclusion: Array | None = None

    @property
    def strength(self) -> Array:
        """Size of the mean current, A m: (source,), its norm with free orientation."""
        return np.abs(self.mean) if self.mean.ndim == 1 else np.linalg.norm(self.mean, axis=1)

    @property
    def strongest(self) -> int:
        """The source, or patch for its size, at which the posterior mean is strongest; see `peak`."""
        if not self.radius or self.inclusion is not None:
            return int(self.strength.argmax())
        expected = np.linalg.norm(self.prior_sd.reshape(len(self.peak), -1), axis=1)
        return int((self.strength / expected).argmax())

    @property
    def uncertainty(self) -> Array:
        """Standard deviation, A m: (source,), root of the summed variances with free orientation."""
        return self.sd if self.sd.ndim == 1 else np.linalg.norm(self.sd, axis=1)

    def place(self, problem: Problem) -> Peak:
        """Return the posterior of the strongest current's position among the sources of the problem."""
        positions = None if problem.sources is None else problem.sources.positions
        return Peak(self.peak, self.strongest, positions, self.window, self.draws)


def span(posterior: Posterior, window: Window = None) -> tuple[float, float]:
    """Return the first and the last time in s that a window holds, see `averaged`.

    Raises
    ------
    ValueError
        If it holds no sample.
    """
    times = posterior.times[samples_of(posterior.times, posterior.strongest_time if window is None else window)]
    return float(times[0]), float(times[-1])


def averaged(posterior: Posterior, window: Window = None) -> Posterior:
    """Return the posterior of the currents' mean over a window, as a posterior of one sample.

    Means, intervals, draws and peaks of what is returned are exact.

    window : (start, stop) in s, one time in s, or None for the sample with most signal

    Raises
    ------
    ValueError
        If the window holds no sample.
    """
    return posterior.averaged(posterior.strongest_time if window is None else window)


def posterior_maps(
    posterior: Posterior,
    window: Window = None,
    *,
    radius: float = 0.0,
    threshold: float | None = None,
    draws: int = 1000,
    rng: Randomness = None,
    drawn: Array | None = None,
) -> Maps:
    """Return the posterior maps at one window of time.

    window : (start, stop) in s for the mean over it, one time in s, or None for the sample with most signal
    radius : m; 0 for single sources, otherwise the mean over the patch within this distance of each source
    threshold : A m; None takes what a source (the median one) exceeds with probability `PRIOR_EXCEEDANCE` under the
        prior at the learned scale
    draws : joint draws for the peak, and for the exceedance of the current's norm with free orientation
    rng : a generator or a seed, 0 if None, so that the same posterior gives the same maps
    drawn : (draw, source, [axis,] 1), A m, joint draws of `averaged(posterior, window)` to take instead of new ones

    With fixed orientation all but the peak is exact.

    Raises
    ------
    ValueError
        If the window holds no sample, the threshold or radius is negative, or patches are asked for without
        positions and normals.
    """
    if threshold is not None:
        checked_threshold(threshold)
    rng = generator_of(rng)
    one = averaged(posterior, window)
    drawn = one.draw(draws, rng) if drawn is None else drawn
    return _maps_of(one, span(posterior, window), radius, threshold, drawn)


def _maps_of(one: Posterior, window: tuple[float, float], radius: float, threshold: float | None, drawn: Array) -> Maps:
    """Return the maps of the currents' mean over a window, see `posterior_maps`."""
    problem = one.problem
    weights, axes = patches(problem, radius), problem.axes
    mass, means, variances, priors = _sums(one, weights)
    mean = np.einsum("n,pn->p", mass, means)
    variance = np.einsum("n,pn->p", mass, variances + means**2) - mean**2
    within, prior = variances @ mass, priors @ mass
    per_source = (len(mean) // axes, axes)
    shrinkage = 1 - within.reshape(per_source).sum(axis=1) / prior.reshape(per_source).sum(axis=1)
    if threshold is None:
        typical = float(np.sqrt(np.median(prior.reshape(per_source).mean(axis=1))))
        threshold = typical * float(chi.isf(PRIOR_EXCEEDANCE, axes))
    limit = float(threshold)

    draws = len(drawn)
    flat = drawn.reshape(draws, *per_source)
    patch_means = flat
    if radius:
        # One product for all draws.
        patch_means = (weights @ flat.swapaxes(0, 1).reshape(per_source[0], -1)).reshape(per_source[0], draws, axes)
        patch_means = patch_means.swapaxes(0, 1)
    sizes = np.linalg.norm(patch_means, axis=2)
    by_size = radius and one.active is None
    expected = np.sqrt(prior.reshape(per_source).sum(axis=1)) if by_size else 1.0
    peak = np.bincount((sizes / expected).argmax(axis=1), minlength=per_source[0]) / draws
    if axes == 1:
        sds = np.sqrt(np.maximum(variances, 0))
        exceedance = (ndtr((-limit - means) / sds) + ndtr((means - limit) / sds)) @ mass
    else:
        exceedance = (sizes > limit).mean(axis=0)
    prior_exceedance = _norm_exceeds(limit / np.sqrt(priors.reshape(*per_source, -1).mean(axis=1)), axes) @ mass
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
        window=window,
        draws=draws,
        inclusion=None if one.active is None else one.inclusion(),
    )


def _norm_exceeds(limit: Array, axes: int) -> Array:
    """Probability that the norm of independent standard normals exceeds a limit: that of a chi variable."""
    if axes == 1:
        return np.asarray(2 * ndtr(-limit))
    return np.asarray(chdtrc(axes, limit**2))


def both(
    posterior: Posterior,
    window: Window = None,
    *,
    radius: float = REGION,
    draws: int = 1000,
    rng: Randomness = None,
) -> tuple[Maps, Maps | None]:
    """Return the maps of single sources, and of patches where there can be any, from the same joint draws.

    window, radius, draws, rng : as in `posterior_maps`

    Raises
    ------
    ValueError
        As `posterior_maps` does.
    """
    one, times = averaged(posterior, window), span(posterior, window)
    drawn = one.draw(draws, rng)
    patched = radius > 0 and has_patches(posterior.problem)
    return _maps_of(one, times, 0.0, None, drawn), _maps_of(one, times, radius, None, drawn) if patched else None


def _sums(one: Posterior, weights: csr_array) -> tuple[Array, Array, Array, Array]:
    """Weights (node,), means, variances and prior variances (amplitude, node) of weighted sums of the currents."""
    found = [part.sums(weights) for part in one.conditionals]
    total = np.concatenate([part.weights for part in one.conditionals])
    means, variances, priors = (np.hstack(part) for part in zip(*found, strict=True))
    return total / total.sum(), means, variances, priors


def strongest_region(
    posterior: Posterior, window: Window = None, radius: float = REGION, maps: Maps | None = None
) -> tuple[int, Index, Functional]:
    """Return the centre of the strongest patch at a window, its sources, and its time course.

    The patch is the one whose posterior mean is strongest for its size, see `Maps.strongest`, or strongest by itself
    where there are focal sources; a single source where positions or normals are not known. The time course is the
    exact joint posterior of the mean current over the patch: with fixed orientation along the normals, with the same
    signs as when the patch was picked, see `regions.patches`; with free orientation along the direction of the patch's
    posterior mean at the window.

    window : as in `averaged`
    radius : m
    maps : of these patches at this window, if worked out before

    Raises
    ------
    ValueError
        If the window holds no sample or the radius is negative.
    """
    problem = posterior.problem
    known = has_patches(problem)
    weights = patches(problem, radius if known else 0.0)
    if maps is None:
        one = averaged(posterior, window)
        mass, means, _, priors = _sums(one, weights)
        mean = (means @ mass).reshape(problem.source_count, problem.axes)
        by_size = known and radius and posterior.active is None
        expected = np.sqrt((priors @ mass).reshape(mean.shape).sum(axis=1)) if by_size else 1.0
        centre = int((np.linalg.norm(mean, axis=1) / expected).argmax())
    else:
        mean, centre = maps.mean.reshape(problem.source_count, problem.axes), maps.strongest
    index = neighbours(problem, radius, centre)
    names = ["strongest region"]
    if problem.axes == 1:
        return centre, index, posterior.contrast(weights[[centre]].toarray(), names=names)
    size = np.linalg.norm(mean[centre])
    along = np.zeros(mean.shape)
    along[index] = (mean[centre] / size if size else np.eye(problem.axes)[2]) / len(index)
    return centre, index, posterior.contrast(along, names=names)
