"""Leave-one-out predictive density by importance sampling, and weights of models."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from bayesinv.axes import Array
from bayesinv.criticism.draws import thinned
from bayesinv.posterior.posterior import Posterior

MAX_STACKING_STEPS, STACKING_TOLERANCE = 20000, 1e-7
"""Most steps of the optimiser of stacking weights, and nats per part that they may lie below the optimum."""

MAX_COORDINATES = 6
"""Coordinates of the hyperparameters up to which a log density is fitted by a quadratic in them."""

MAX_RESIDUAL_SD, MAX_SHIFT = 0.5, 0.3
"""Nats, standard deviation over the draws of what a quadratic leaves unexplained of a log density; and shift of the
logarithms of source variance and noise scale when a part is left out. Beyond either the quadratic is not trusted."""


@dataclass(frozen=True, eq=False)
class LeftOut:
    """Predictive density of each part of a recording given all others, by model.

    over : "components" or "blocks"
    names : of the models
    log_density : (model, part), nats
    khat : (model, part), shape of the tail of the importance weights; 0 where the density is exact
    limit : (model,), largest k̂ up to which importance sampling can be relied upon
    gaussian : (model, part), whether the hyperparameters' posterior was approximated by a Gaussian, where k̂ is larger
    parts : what the parts are, in words

    References: Vehtari, Gelman & Gabry (2017), Stat. Comput. 27, 1413-1432; Vehtari et al. (2024), J. Mach. Learn.
    Res. 25, 72.
    """

    over: str
    names: tuple[str, ...]
    log_density: Array
    khat: Array
    limit: Array
    gaussian: NDArray[np.bool_]
    parts: tuple[str, ...]

    @property
    def elpd(self) -> Array:
        """Expected log density of a recording like this one, summed over the parts, nats: (model,)."""
        return np.asarray(self.log_density.sum(axis=1))

    @property
    def se(self) -> Array:
        """Standard error of `elpd` over the finite sample of parts: (model,)."""
        return _summed_error(self.log_density)

    @property
    def difference(self) -> Array:
        """`elpd` less that of the best model: (model,)."""
        return self.elpd - self.elpd.max()

    @property
    def difference_se(self) -> Array:
        """Standard error of `difference`, parts being paired: (model,)."""
        return _summed_error(self.log_density - self.log_density[self.elpd.argmax()])

    @cached_property
    def weights(self) -> Array:
        """Weights (model,) of the mixture of predictive densities with the largest leave-one-out density: stacking.

        Reference: Yao et al. (2018), Bayesian Anal. 13, 917-1007.
        """
        # Dividing by the largest density of each part changes no weight and avoids underflow.
        density = np.exp(self.log_density - self.log_density.max(axis=0))
        weights = np.full(len(density), 1 / len(density))
        for _ in range(MAX_STACKING_STEPS):
            # Expectation-maximisation; the optimum lies at most log(largest step) nats per part above these weights.
            step = (density / (weights @ density)).mean(axis=1)
            if step.max() < 1 + STACKING_TOLERANCE:
                break
            weights *= step
        return np.asarray(weights / weights.sum())

    @cached_property
    def pseudo_weights(self) -> Array:
        """Weights (model,) by `elpd`, averaged over the Bayesian bootstrap of the parts: pseudo-BMA+.

        Reference: Yao et al. (2018), Bayesian Anal. 13, 917-1007, §3.4.
        """
        count = self.log_density.shape[1]
        share = np.random.default_rng(0).dirichlet(np.ones(count), size=1000)
        return np.asarray(softmax(count * share @ self.log_density.T, axis=1).mean(axis=0))

    @property
    def warnings(self) -> tuple[str, ...]:
        """Where importance sampling is not reliable, in words; empty where it is."""
        texts = []
        for name, khat, limit, gaussian in zip(self.names, self.khat, self.limit, self.gaussian, strict=True):
            worst = int(khat.argmax())
            heavy_tailed, unreliable = int(np.sum(khat > limit)), int(np.sum((khat > limit) & ~gaussian))
            if heavy_tailed:
                texts.append(
                    f"{name}: {heavy_tailed} of the {khat.size} {self.over} weigh too much on the hyperparameters for "
                    f"importance sampling (k̂ above {limit:.2f}; {khat[worst]:.2f} for {self.parts[worst]}); "
                    + (
                        f"{unreliable} cannot be relied upon"
                        if unreliable
                        else "a Gaussian posterior of these was used instead"
                    )
                )
        return tuple(texts)


def _summed_error(values: Array) -> Array:
    """Standard error (row,) of the sum over the columns of a table, which are independent samples."""
    count = values.shape[1]
    return np.asarray(np.sqrt(count * values.var(axis=1, ddof=1))) if count > 1 else np.zeros(len(values))


def left_out_of(
    over: str, densities: Mapping[str, Array], posteriors: Mapping[str, Posterior], parts: tuple[str, ...]
) -> LeftOut:
    """Integrate log densities (draw, part), by model, over the posterior of the hyperparameters without each part."""
    shape = (len(posteriors), len(parts))
    found, khat, limits, gaussian = (
        np.empty(shape),
        np.empty(shape),
        np.full(shape[0], 0.7),
        np.zeros(shape, dtype=bool),
    )
    for k, (name, one) in enumerate(posteriors.items()):
        density = densities[name]
        found[k], khat[k] = _smoothed(density, one.hyper.chains)
        if len(density) > 1:
            # Vehtari et al. (2024): the fewer the draws, the lighter the tail must be.
            limits[k] = min(1 - 1 / np.log10(max(len(density), 11)), 0.7)
        heavy_tailed = khat[k] > limits[k]
        if heavy_tailed.any():
            extrapolated, trusted = _extrapolated(density[:, heavy_tailed], _coordinates(one, len(density)))
            gaussian[k, heavy_tailed] = trusted
            found[k, heavy_tailed] = np.where(trusted, extrapolated, found[k, heavy_tailed])
    return LeftOut(over, tuple(posteriors), found, khat, limits, gaussian, parts)


def _coordinates(posterior: Posterior, count: int) -> tuple[Array, Array] | None:
    """Return uncorrelated coordinates (draw, coordinate) of the hyperparameter draws, of mean 0 and variance 1.

    With them the change (coordinate, 2) of the logarithms of source variance and noise scale per unit of each. None
    where the scales of the draws are not known, or there are too many coordinates.
    """
    hyper, scales = posterior.hyper, posterior.hyper.scales
    if scales is None:
        return None
    picked = thinned(len(scales.noise), hyper.chains, count)
    others = [values for name, values in hyper.draws.items() if name not in ("lambda", "snr")]
    table = np.stack([np.log(scales.variance), np.log(scales.noise), *others], axis=1)[picked]
    table = table - table.mean(axis=0)
    logs = table[:, :2]
    size = table.std(axis=0)
    table = table[:, size > 1e-12 * np.maximum(1, np.abs(table).max(axis=0))]
    left, values, _ = np.linalg.svd(table / table.std(axis=0), full_matrices=False)
    left = left[:, values > 0.03 * values[0]] * np.sqrt(len(picked))
    return (left, left.T @ logs / len(left)) if 0 < left.shape[1] <= MAX_COORDINATES else None


def _extrapolated(density: Array, coordinates: tuple[Array, Array] | None) -> tuple[Array, NDArray[np.bool_]]:
    """Leave-one-out log density (part,) by a Gaussian posterior and a quadratic log density, and whether to trust it.

        log p(part | rest, z) = a + g z + z H z / 2,    z ~ Normal(0, 1)
        -log E[1 / p(part | rest, z)] = a + log|1 + H| / 2 - g (1 + H)⁻¹ g / 2

    Where a part is influential, importance sampling fails because draws are rare where the hyperparameters would lie
    without it; the posterior is then usually narrow enough for this approximation to be accurate.
    """
    count = density.shape[1]
    out, trusted = np.full(count, np.nan), np.zeros(count, dtype=bool)
    if coordinates is None:
        return out, trusted
    standardised, log_changes = coordinates
    size = standardised.shape[1]
    rows, columns = np.triu_indices(size)
    design = np.column_stack(
        [np.ones(len(standardised)), standardised, standardised[:, rows] * standardised[:, columns]]
    )
    if 2 * design.shape[1] > len(design):
        return out, trusted
    coefficients = np.linalg.lstsq(design, density, rcond=None)[0]
    residual_sd = np.std(density - design @ coefficients, axis=0)
    for part, (constant, gradient, quadratic) in enumerate(
        zip(coefficients[0], coefficients[1 : 1 + size].T, coefficients[1 + size :].T, strict=True)
    ):
        upper = np.zeros((size, size))
        upper[rows, columns] = quadratic
        precision = np.eye(size) + upper + upper.T
        values, vectors = np.linalg.eigh(precision)
        if values[0] > 0.1 and residual_sd[part] < MAX_RESIDUAL_SD:
            shift = vectors @ (vectors.T @ gradient / values)
            out[part] = constant + 0.5 * (np.log(values).sum() - gradient @ shift)
            trusted[part] = np.abs(shift @ log_changes).max() < MAX_SHIFT
    return out, trusted


def _smoothed(density: Array, chains: int) -> tuple[Array, Array]:
    """Return leave-one-out log density and k̂ of each part, both (part,), by Pareto smoothed importance sampling."""
    if len(density) < 2 or not np.ptp(density, axis=0).any():
        return density[0], np.zeros(density.shape[1])
    import arviz_stats
    import xarray as xr

    shaped = density.reshape(chains, -1, density.shape[1])
    dims = ("chain", "draw")
    coords = {name: np.arange(size) for name, size in zip((*dims, "part"), shaped.shape, strict=True)}
    tree = xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset({"total": (dims, shaped.sum(axis=2))}, coords={key: coords[key] for key in dims}),
            "log_likelihood": xr.Dataset({"recording": ((*dims, "part"), shaped)}, coords=coords),
        }
    )
    with warnings.catch_warnings():
        # `LeftOut.warnings` reports what it warns of.
        warnings.simplefilter("ignore")
        found: Any = arviz_stats.loo(tree, pointwise=True)
    return np.asarray(found.elpd_i, dtype=float), np.asarray(found.pareto_k, dtype=float)
