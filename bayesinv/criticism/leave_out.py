"""Leave-one-out predictive density, by importance sampling or by integrating a model again, and weights of models."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from bayesinv.axes import Array
from bayesinv.criticism.draws import thinned
from bayesinv.criticism.refit import NoRefitError
from bayesinv.posterior.posterior import Posterior
from bayesinv.progress import counted, steps

MAX_STACKING_STEPS, STACKING_TOLERANCE = 20000, 1e-7
"""Most steps of the optimiser of stacking weights, and nats per part that they may lie below the optimum."""

MAX_COORDINATES = 6
"""Coordinates of the hyperparameters up to which a log density is fitted by a quadratic in them."""

MAX_RESIDUAL_SD, MAX_SHIFT = 0.5, 0.3
"""Nats, standard deviation over the draws of what a quadratic leaves unexplained of a log density; and shift of the
hyperparameters, of scales by their logarithms, when a part is left out. Beyond either it is not trusted."""


@dataclass(frozen=True, eq=False)
class LeftOut:
    """Predictive density of each part of a recording given all others, by model.

    over : "components" or "blocks"
    names : of the models
    log_density : (model, part), nats
    khat : (model, part), shape of the tail of the importance weights; 0 where there are none
    limit : (model,), largest k̂ up to which importance sampling can be relied upon
    refitted : (model, part), whether the model was integrated again without the part, so that the density is exact
    gaussian : (model, part), whether the hyperparameters' posterior was approximated by a Gaussian, where k̂ is larger
    parts : what the parts are, in words
    seconds : (model,), that integrating again took
    reasons : (model,), why a model could not be integrated again; "" where it could, or did not need to

    References: Vehtari, Gelman & Gabry (2017), Stat. Comput. 27, 1413-1432; Vehtari et al. (2024), J. Mach. Learn.
    Res. 25, 72.
    """

    over: str
    names: tuple[str, ...]
    log_density: Array
    khat: Array
    limit: Array
    refitted: NDArray[np.bool_]
    gaussian: NDArray[np.bool_]
    parts: tuple[str, ...]
    seconds: Array
    reasons: tuple[str, ...]

    @property
    def heavy_tailed(self) -> NDArray[np.bool_]:
        """Whether a part weighs too much on the hyperparameters for importance sampling: (model, part)."""
        return np.asarray(self.khat > self.limit[:, None])

    @property
    def unreliable(self) -> NDArray[np.bool_]:
        """Whether nothing else took the place of importance sampling where it fails: (model, part)."""
        return self.heavy_tailed & ~self.refitted & ~self.gaussian

    @property
    def elpd(self) -> Array:
        """Expected log density of a recording like this one, summed over the parts, nats: (model,)."""
        return np.asarray(self.log_density.sum(axis=1))

    @property
    def se(self) -> Array:
        """Standard error of `elpd` over the finite sample of parts: (model,)."""
        return _summed_error(self.log_density)

    def difference_to(self, reference: int) -> tuple[Array, Array]:
        """`elpd` less that of one model, by its index, and the standard error, parts being paired: both (model,)."""
        apart = self.log_density - self.log_density[reference]
        return np.asarray(apart.sum(axis=1)), _summed_error(apart)

    @property
    def difference(self) -> Array:
        """`elpd` less that of the best model: (model,)."""
        return self.difference_to(int(self.elpd.argmax()))[0]

    @property
    def difference_se(self) -> Array:
        """Standard error of `difference`: (model,)."""
        return self.difference_to(int(self.elpd.argmax()))[1]

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
    def notes(self) -> tuple[str, ...]:
        """Which parts models were integrated again without, and what it took, in words."""
        return tuple(
            f"{name}: densities of {_of(int(refitted.sum()), refitted.size, self.over)} are exact; the model was "
            f"integrated again without them, one at a time, in {seconds:.0f} s"
            for name, refitted, seconds in zip(self.names, self.refitted, self.seconds, strict=True)
            if refitted.any()
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """Where densities are not reliable, in words; empty where they are."""
        texts = []
        for k, name in enumerate(self.names):
            heavy_tailed = self.heavy_tailed[k] & ~self.refitted[k]
            if heavy_tailed.any():
                khat, unreliable = np.where(heavy_tailed, self.khat[k], -np.inf), int(self.unreliable[k].sum())
                worst = int(khat.argmax())
                texts.append(
                    f"{name}: {_of(int(heavy_tailed.sum()), khat.size, self.over)} weigh too much on the "
                    f"hyperparameters for importance sampling (k̂ above {self.limit[k]:.2f}; {khat[worst]:.2f} for "
                    f"{self.parts[worst]}); "
                    + (
                        f"{unreliable} cannot be relied upon"
                        if unreliable
                        else "a Gaussian posterior of these was used instead"
                    )
                    + (f". It was not integrated again without them: {self.reasons[k]}" if self.reasons[k] else "")
                )
        return tuple(texts)


def _of(count: int, total: int, things: str) -> str:
    return f"{count} of the {total} {things}"


def _summed_error(values: Array) -> Array:
    """Standard error (row,) of the sum over the columns of a table, which are independent samples."""
    count = values.shape[1]
    return np.asarray(np.sqrt(count * values.var(axis=1, ddof=1))) if count > 1 else np.zeros(len(values))


class Row(NamedTuple):
    """Leave-one-out of one model; fields as in `LeftOut`."""

    log_density: Array
    khat: Array
    limit: float
    refitted: NDArray[np.bool_]
    gaussian: NDArray[np.bool_]
    seconds: float = 0.0
    reason: str = ""

    def but(self, exact: Row) -> Row:
        """The same, but for the parts without which another was integrated."""
        return self._replace(
            log_density=np.where(exact.refitted, exact.log_density, self.log_density),
            refitted=exact.refitted,
            gaussian=self.gaussian & ~exact.refitted,
            seconds=exact.seconds,
            reason=exact.reason,
        )


def left_out_of(over: str, rows: Mapping[str, Row], parts: tuple[str, ...]) -> LeftOut:
    """Put the leave-one-out of models side by side."""
    every = list(rows.values())

    def stacked(name: str) -> Any:
        return np.array([getattr(row, name) for row in every])

    return LeftOut(
        over,
        tuple(rows),
        stacked("log_density"),
        stacked("khat"),
        stacked("limit"),
        stacked("refitted"),
        stacked("gaussian"),
        parts,
        stacked("seconds"),
        tuple(row.reason for row in every),
    )


def importance_sampled(density: Array, posterior: Posterior) -> Row:
    """Integrate log densities (draw, part) over the posterior of the hyperparameters without each part."""
    found, khat = _smoothed(density, posterior.hyper.chains)
    # Vehtari et al. (2024): the fewer the draws, the lighter the tail must be.
    limit = min(1 - 1 / np.log10(max(len(density), 11)), 0.7) if len(density) > 1 else 0.7
    gaussian = np.zeros(len(found), dtype=bool)
    heavy_tailed = khat > limit
    if heavy_tailed.any():
        extrapolated, trusted = _extrapolated(density[:, heavy_tailed], _coordinates(posterior, len(density)))
        gaussian[heavy_tailed] = trusted
        found[heavy_tailed] = np.where(trusted, extrapolated, found[heavy_tailed])
    return Row(found, khat, limit, np.zeros(len(found), dtype=bool), gaussian)


def nothing_left_out(count: int) -> Row:
    """The row of a model of which no part is left out yet."""
    nothing = np.zeros(count, dtype=bool)
    return Row(np.full(count, np.nan), np.zeros(count), 0.7, nothing, nothing)


def integrated_again(
    row: Row | None, wanted: NDArray[np.bool_], without: Callable[[int], float], name: str, shown: bool | None = None
) -> Row:
    """Replace the densities of some parts (part,) by exact ones.

    row : what there is; None where nothing was sampled
    without : density of a part, by its index, of the model integrated without it
    name, shown : of the progress bar
    """
    started, row = time.perf_counter(), nothing_left_out(len(wanted)) if row is None else row
    found, refitted, reason = row.log_density.copy(), row.refitted.copy(), row.reason
    with steps(name, int(wanted.sum()), shown) as advance:
        for part in counted(np.flatnonzero(wanted), advance):
            try:
                found[part], refitted[part] = without(int(part)), True
            except NoRefitError as error:
                reason = str(error)
    seconds = row.seconds + time.perf_counter() - started
    return row._replace(
        log_density=found, refitted=refitted, gaussian=row.gaussian & ~refitted, seconds=seconds, reason=reason
    )


def _coordinates(posterior: Posterior, count: int) -> tuple[Array, Array] | None:
    """Return uncorrelated coordinates (draw, coordinate) of the hyperparameter draws, of mean 0 and variance 1.

    With them the change (coordinate, hyperparameter) per unit of each, of scales by their logarithms. None where the
    scales of the draws are not known, or there are too many coordinates.
    """
    hyper, scales = posterior.hyper, posterior.hyper.scales
    if scales is None:
        return None
    picked = thinned(len(scales.noise), hyper.chains, count)
    # One hyperparameter and its logarithm would be two coordinates, of which the second is all curvature.
    given = {"lambda", "snr", *(name.removeprefix("log_") for name in hyper.draws if name.startswith("log_"))}
    others = [values for name, values in hyper.draws.items() if name not in given]
    table = np.stack([np.log(scales.variance), np.log(scales.noise), *others], axis=1)[picked]
    table = table - table.mean(axis=0)
    size = table.std(axis=0)
    varied = table[:, size > 1e-12 * np.maximum(1, np.abs(table).max(axis=0))]
    left, values, _ = np.linalg.svd(varied / varied.std(axis=0), full_matrices=False)
    left = left[:, values > 0.03 * values[0]] * np.sqrt(len(picked))
    return (left, left.T @ table / len(left)) if 0 < left.shape[1] <= MAX_COORDINATES else None


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
    standardised, changes = coordinates
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
            trusted[part] = np.abs(shift @ changes).max() < MAX_SHIFT
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
