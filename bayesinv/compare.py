"""Compare: several answers to one recording side by side."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp, softmax

from bayesinv.axes import Array, one_of, real
from bayesinv.classical.estimate import Estimate
from bayesinv.covariance.covariance import Structure
from bayesinv.posterior.checks import Evidence
from bayesinv.posterior.hyper import Hyper
from bayesinv.posterior.mixture import Mixture
from bayesinv.posterior.posterior import Posterior
from bayesinv.predictive import aligned, block_densities, component_densities, thinned
from bayesinv.problem.problem import Problem
from bayesinv.problem.windows import samples_of

HEADS = ("name", "λ", "interval of λ", "SNR", "peak", "at (mm)", "height", "spread (mm)", "fit", "log evidence")


@dataclass(frozen=True)
class Row:
    """What one estimator or model says of the recording.

    name, method : as given, and what it is
    lam : λ, 1/(A m)²; of a posterior the median; None where the method has none
    lam_interval : central interval of λ, of a posterior
    snr : amplitude signal-to-noise ratio that λ stands for
    peak : source of largest magnitude at `time`
    position : (x, y, z) of it, m, head coordinates; None where positions are not known
    height : its magnitude in `unit`
    spread : root mean square distance from the peak, weighted by squared magnitude, m
    goodness_of_fit : share of the whitened recording's power that is explained; None where nothing is fitted
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
        """The table as text, a tuple per row in the order of its heads."""
        table: list[tuple[str, ...]] = []
        for row in self.rows:
            place = "" if row.position is None else ", ".join(f"{1e3 * x:.0f}" for x in row.position)
            height = f"{1e9 * row.height:.3g} nA m" if row.unit == "A m" else f"{row.height:.3g}"
            evidence = "" if row.log_evidence is None else f"{row.log_evidence:.1f} ± {row.log_evidence_error:.1g}"
            table.append(
                (
                    row.name,
                    "" if row.lam is None else f"{row.lam:.3g}",
                    "" if row.lam_interval is None else "{:.3g} to {:.3g}".format(*row.lam_interval),
                    "" if row.snr is None else f"{row.snr:.2f}",
                    str(row.peak),
                    place,
                    height,
                    "" if row.spread is None else f"{1e3 * row.spread:.1f}",
                    "" if row.goodness_of_fit is None else f"{row.goodness_of_fit:.3f}",
                    evidence,
                )
            )
        return table

    def __str__(self) -> str:
        return f"at {1e3 * self.time:.0f} ms\n{aligned([HEADS, *self.cells()])}"


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
    if isinstance(result, Estimate):
        return np.asarray(result.strength[:, sample])
    mean = result.mean
    return np.asarray(np.linalg.norm(mean[:, :, sample], axis=1) if mean.ndim == 3 else np.abs(mean[:, sample]))


def _row(name: str, result: Estimate | Posterior, size: Array, level: float) -> Row:
    peak = int(size.argmax())
    sources = result.problem.sources
    position, spread = None, None
    if sources is not None:
        x, y, z = (float(value) for value in sources.positions[peak])
        position = (x, y, z)
        far = np.sum((sources.positions - sources.positions[peak]) ** 2, axis=1)
        power = float(np.sum(size**2))
        spread = float(np.sqrt(np.sum(size**2 * far) / power)) if power else None
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
        height=float(size[peak]),
        unit=unit,
        spread=spread,
        goodness_of_fit=None if fit is None else float(fit),
        log_evidence=None if evidence is None else float(evidence),
        log_evidence_error=None if evidence is None else evidence.error,
    )


# --- models of one recording: evidence, and what each says of what it has not seen

BLOCKS = 10
"""Blocks that a recording is cut into where no length is given."""

CRITERIA = ("components", "blocks")

MODEL_HEADS = (
    "model",
    "log evidence",
    "log Bayes factor",
    "LOO components",
    "to the best",
    "weight",
    "LOO blocks",
    "to the best",
    "weight",
    "largest k̂",
)


@dataclass(frozen=True, eq=False)
class LeftOut:
    """What models say of each part of a recording when they have seen all the others.

    over : "components" or "blocks"
    names : of the models
    log_density : (model, part), nats
    khat : (model, part), shape of the tail of the importance weights; 0 where the density is exact
    limit : (model,), largest k̂ up to which importance sampling can be relied upon
    gaussian : (model, part), whether the hyperparameters' posterior was taken for Gaussian instead, beyond that
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
        """Standard error of `elpd` for the parts being few: (model,)."""
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
        """Weights (model,) of the mixture of predictive densities that says most of the parts left out: stacking.

        Reference: Yao et al. (2018), Bayesian Anal. 13, 917-1007.
        """
        # The best of each part is taken out, which changes no weight and keeps the densities within range.
        density = np.exp(self.log_density - self.log_density.max(axis=0))
        weights = np.full(len(density), 1 / len(density))
        for _ in range(STEPS):
            # Expectation-maximisation; no weights say more than log(largest) beyond these per part.
            step = (density / (weights @ density)).mean(axis=1)
            if step.max() < 1 + EXACT:
                break
            weights *= step
        return np.asarray(weights / weights.sum())

    @cached_property
    def pseudo_weights(self) -> Array:
        """Weights (model,) by `elpd`, averaged over which parts could have been recorded: pseudo-BMA+.

        Reference: Yao et al. (2018), Bayesian Anal. 13, 917-1007, §3.4.
        """
        count = self.log_density.shape[1]
        share = np.random.default_rng(0).dirichlet(np.ones(count), size=1000)
        return np.asarray(softmax(count * share @ self.log_density.T, axis=1).mean(axis=0))

    @property
    def warnings(self) -> tuple[str, ...]:
        """Where importance sampling does not carry, in words; empty where it does."""
        said = []
        for name, khat, limit, gaussian in zip(self.names, self.khat, self.limit, self.gaussian, strict=True):
            worst = int(khat.argmax())
            heavy, lost = int(np.sum(khat > limit)), int(np.sum((khat > limit) & ~gaussian))
            if heavy:
                said.append(
                    f"{name}: {heavy} of the {khat.size} {self.over} weigh too much on the hyperparameters for "
                    f"importance sampling (k̂ above {limit:.2f}; {khat[worst]:.2f} for {self.parts[worst]}); "
                    + (f"{lost} cannot be relied upon" if lost else "a Gaussian posterior of these was used instead")
                )
        return tuple(said)


STEPS, EXACT = 20000, 1e-7
"""Most steps that stacking takes, and nats per part that its weights may be from the best."""


def _summed_error(values: Array) -> Array:
    """Standard error (row,) of sums over columns that are a sample."""
    count = values.shape[1]
    return np.asarray(np.sqrt(count * values.var(axis=1, ddof=1))) if count > 1 else np.zeros(len(values))


@dataclass(frozen=True)
class ModelRow:
    """What is known of one model beside the others.

    name, method : as given, and what it is
    log_evidence, log_evidence_error : nats; None where its method gives none
    log_bayes_factor, log_bayes_factor_error : against the model of most evidence, nats; None where one of them lacks
    components..., blocks... : leave-one-out over components and over blocks of time: expected log density, its
        standard error, its difference to the best, that one's standard error, stacking and pseudo-BMA+ weights, and
        the largest k̂; None where the recording is one block
    """

    name: str
    method: str
    log_evidence: float | None
    log_evidence_error: float | None
    log_bayes_factor: float | None
    log_bayes_factor_error: float | None
    components_elpd: float
    components_se: float
    components_difference: float
    components_difference_se: float
    components_weight: float
    components_pseudo_weight: float
    components_khat: float
    blocks_elpd: float | None = None
    blocks_se: float | None = None
    blocks_difference: float | None = None
    blocks_difference_se: float | None = None
    blocks_weight: float | None = None
    blocks_pseudo_weight: float | None = None
    blocks_khat: float | None = None


@dataclass(frozen=True, eq=False)
class ModelComparison:
    """Several models of one recording.

    rows : one per model
    components, blocks : leave-one-out over whitened components, and over blocks of time (None where there is one)
    over : which of the two `weights` are stacked by
    block_times : (block, 2), s, first and last sample of each block
    """

    rows: tuple[ModelRow, ...]
    components: LeftOut = field(repr=False)
    blocks: LeftOut | None = field(repr=False)
    over: str
    block_times: Array = field(repr=False)

    def __getitem__(self, name: str) -> ModelRow:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"no model named {name!r} was compared; there are {', '.join(self.components.names)}")

    @property
    def weights(self) -> dict[str, float]:
        """Stacking weights by name."""
        chosen = self.components if self.over == "components" or self.blocks is None else self.blocks
        return {name: float(weight) for name, weight in zip(chosen.names, chosen.weights, strict=True)}

    @property
    def probabilities(self) -> dict[str, float] | None:
        """Probability of each model, all being as probable before; None where an evidence is not known."""
        known = [row.log_evidence for row in self.rows if row.log_evidence is not None]
        if len(known) < len(self.rows):
            return None
        return {row.name: float(share) for row, share in zip(self.rows, softmax(known), strict=True)}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What cannot be relied upon, in words."""
        return (*self.components.warnings, *(self.blocks.warnings if self.blocks is not None else ()))

    def cells(self) -> list[tuple[str, ...]]:
        """The table as text, a tuple per row in the order of `MODEL_HEADS`."""
        table: list[tuple[str, ...]] = []
        for row in self.rows:
            cells = [
                row.name,
                "" if row.log_evidence is None else f"{row.log_evidence:.1f} ± {row.log_evidence_error:.1g}",
                ""
                if row.log_bayes_factor is None
                else f"{row.log_bayes_factor:.1f} ± {row.log_bayes_factor_error:.1g}",
            ]
            for kind in CRITERIA:
                elpd, se, less, less_se, weight = (
                    getattr(row, f"{kind}_{what}") for what in ("elpd", "se", "difference", "difference_se", "weight")
                )
                if elpd is None:
                    cells += ["", "", ""]
                else:
                    cells += [f"{elpd:.1f} ± {se:.1f}", f"{less:.1f} ± {less_se:.1f}", f"{weight:.2f}"]
            largest = max(row.components_khat, row.blocks_khat or 0.0)
            table.append((*cells, f"{largest:.2f}" if largest else "exact"))
        return table

    def __str__(self) -> str:
        return "\n".join([aligned([MODEL_HEADS, *self.cells()]), *self.warnings])


def compare(
    posteriors: Mapping[str, Posterior], *, block: float | None = None, over: str = "components", draws: int = 500
) -> ModelComparison:
    """Compare models of one recording by evidence, and by what each says of what it has not seen.

    posteriors : name to posterior
    block : s, length of the blocks of time that are left out; a tenth of the recording if None
    over : "components" or "blocks", which the stacking weights are of
    draws : hyperparameters that leave-one-out densities are averaged over; of learned structures each has the
        mixture's nearest

    Given hyperparameters θ, the density of a component or block given all others is exact (`predictive.left_out`).
    The posterior of θ without the part is reached from that with it by importance weights 1 / p(part | rest, θ),
    whose tail is smoothed and judged by its shape k̂; where that is too heavy, the posterior of θ is taken for
    Gaussian, and if that does not fit either, it is said. The baseline is seen throughout. Where neighbouring samples'
    noise is alike a block hints at the next: long blocks are fairer than short ones.

    Raises
    ------
    ValueError
        If there is nothing to compare, something is no posterior, recordings or their whitening differ, or a number
        is out of range.

    References: Vehtari, Gelman & Gabry (2017), Stat. Comput. 27, 1413-1432; Bürkner, Gabry & Vehtari (2021), Comput.
    Stat. 36, 1243-1261; Kass & Raftery (1995), J. Am. Stat. Assoc. 90, 773-795 (Bayes factors).
    """
    one_of("criterion", over, CRITERIA)
    if draws < 1:
        raise ValueError(f"draws is {draws}, but at least one is wanted")
    _same_recording(posteriors)
    names = tuple(posteriors)
    problem = posteriors[names[0]].problem
    parts = blocks_of(problem, block)
    if over == "blocks" and len(parts) < 2:
        raise ValueError("the recording is one block; stack over components, or give a shorter block")
    bounds = np.array([[problem.times[part.start], problem.times[part.stop - 1]] for part in parts])
    left = _left_out(
        "components",
        {name: component_densities(one, draws) for name, one in posteriors.items()},
        posteriors,
        tuple(f"component {i}" for i in range(problem.components)),
    )
    timed = None
    if len(parts) > 1:
        timed = _left_out(
            "blocks",
            {name: block_densities(one, draws, parts) for name, one in posteriors.items()},
            posteriors,
            tuple(f"{1e3 * start:.0f} to {1e3 * stop:.0f} ms" for start, stop in bounds),
        )
    known = [one.log_evidence for one in posteriors.values() if one.log_evidence is not None]
    best = max(known, default=None)
    rows = []
    for k, (name, one) in enumerate(posteriors.items()):
        evidence = one.log_evidence
        factor, doubt = None, None
        if evidence is not None and best is not None:
            factor = float(evidence) - float(best)
            doubt = 0.0 if evidence is best else evidence.error + best.error
        numbers: dict[str, float] = {}
        for table in (left, timed):
            if table is not None:
                numbers |= {
                    f"{table.over}_elpd": float(table.elpd[k]),
                    f"{table.over}_se": float(table.se[k]),
                    f"{table.over}_difference": float(table.difference[k]),
                    f"{table.over}_difference_se": float(table.difference_se[k]),
                    f"{table.over}_weight": float(table.weights[k]),
                    f"{table.over}_pseudo_weight": float(table.pseudo_weights[k]),
                    f"{table.over}_khat": float(table.khat[k].max()),
                }
        rows.append(
            ModelRow(
                name,
                f"{one.model} by {one.method}",
                None if evidence is None else float(evidence),
                None if evidence is None else evidence.error,
                factor,
                doubt,
                **numbers,
            )
        )
    return ModelComparison(tuple(rows), left, timed, over, bounds)


def blocks_of(problem: Problem, length: float | None = None) -> list[slice]:
    """Cut a recording into blocks of samples that follow each other.

    length : s; a tenth of the recording if None

    Raises
    ------
    ValueError
        If the length is not positive or longer than the recording.
    """
    times = problem.times
    count = len(times)
    if length is None:
        edges = np.unique(np.linspace(0, count, min(BLOCKS, count) + 1).round().astype(int))
    else:
        span = float(times[-1] - times[0])
        if not 0 < length <= max(span, 0.0):
            raise ValueError(
                f"block is {length:g} s, but must be positive and no longer than the recording, {span:g} s"
            )
        # A last block of less than half a length joins the one before.
        wanted = max(1, round(span / length))
        which = np.minimum(((times - times[0]) / length + 1e-9).astype(int), wanted - 1)
        edges = np.append(np.flatnonzero(np.diff(which, prepend=-1)), count)
    return [slice(int(start), int(stop)) for start, stop in pairwise(edges)]


def _same_recording(posteriors: Mapping[str, Posterior]) -> None:
    if not posteriors:
        raise ValueError("there is nothing to compare; give a dictionary of names to posteriors")
    for name, one in posteriors.items():
        if not isinstance(one, Posterior):
            raise ValueError(f"{name!r} is of type {type(one).__name__}, but must be a Posterior")
    first, *others = posteriors
    ours = posteriors[first].problem
    for name in others:
        theirs = posteriors[name].problem
        if ours is theirs:
            continue
        for what, mine, yours in (
            ("another whitening", ours.whitener, theirs.whitener),
            ("another recording", ours.recording, theirs.recording),
            ("another baseline", ours.baseline, theirs.baseline),
            ("other times", ours.times, theirs.times),
        ):
            # A whitener that is not known is told by what it made of the recording.
            if what == "another whitening" and (mine is None or yours is None):
                continue
            alike = (mine is None) == (yours is None) and (
                mine is None or yours is None or (mine.shape == yours.shape and np.allclose(mine, yours, rtol=1e-9))
            )
            if not alike:
                raise ValueError(
                    f"{name!r} has {what} than {first!r}; only models of one whitened recording can be compared"
                )


def _left_out(
    over: str, densities: Mapping[str, Array], posteriors: Mapping[str, Posterior], parts: tuple[str, ...]
) -> LeftOut:
    """Integrate densities (draw, part) over the hyperparameters' posterior without each part."""
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
            # Vehtari et al. (2024): with few draws a tail must be lighter still.
            limits[k] = min(1 - 1 / np.log10(max(len(density), 11)), 0.7)
        bad = khat[k] > limits[k]
        if bad.any():
            other, good = _extrapolated(density[:, bad], _coordinates(one, len(density)))
            gaussian[k, bad] = good
            found[k, bad] = np.where(good, other, found[k, bad])
    return LeftOut(over, tuple(posteriors), found, khat, limits, gaussian, parts)


MOST = 6
"""Coordinates of the hyperparameters up to which a density is fitted by a quadratic of them."""

RESIDUAL, MOVED = 0.5, 0.3
"""Nats that a quadratic may leave of a density, as standard deviation over the draws; and how far the logarithms of
source variance and noise scale may move when a part is left out. Beyond, a quadratic is not to be trusted."""


def _coordinates(posterior: Posterior, count: int) -> tuple[Array, Array] | None:
    """Uncorrelated coordinates (draw, coordinate) of mean 0 and variance 1 of the hyperparameters drawn.

    With them, what a unit of each moves the logarithms of source variance and noise scale by: (coordinate, 2). None
    where their draws are not known one by one, or there are too many.
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
    return (left, left.T @ logs / len(left)) if 0 < left.shape[1] <= MOST else None


def _extrapolated(density: Array, coordinates: tuple[Array, Array] | None) -> tuple[Array, NDArray[np.bool_]]:
    """Leave-one-out log density (part,) by a Gaussian posterior and a quadratic log density, and whether both fit.

        log p(part | rest, z) = a + g z + z H z / 2,    z ~ Normal(0, 1)
        -log E[1 / p(part | rest, z)] = a + log|1 + H| / 2 - g (1 + H)⁻¹ g / 2

    Where a part weighs much on the hyperparameters, these are so well known that this is all but exact, while the
    draws hardly reach to where they would be without the part.
    """
    count = density.shape[1]
    out, good = np.full(count, np.nan), np.zeros(count, dtype=bool)
    if coordinates is None:
        return out, good
    places, logs = coordinates
    size = places.shape[1]
    rows, columns = np.triu_indices(size)
    design = np.column_stack([np.ones(len(places)), places, places[:, rows] * places[:, columns]])
    if 2 * design.shape[1] > len(design):
        return out, good
    found = np.linalg.lstsq(design, density, rcond=None)[0]
    rest = np.std(density - design @ found, axis=0)
    for part, (constant, slope, bend) in enumerate(
        zip(found[0], found[1 : 1 + size].T, found[1 + size :].T, strict=True)
    ):
        curved = np.zeros((size, size))
        curved[rows, columns] = bend
        precision = np.eye(size) + curved + curved.T
        values, vectors = np.linalg.eigh(precision)
        if values[0] > 0.1 and rest[part] < RESIDUAL:
            moved = vectors @ (vectors.T @ slope / values)
            out[part] = constant + 0.5 * (np.log(values).sum() - slope @ moved)
            good[part] = np.abs(moved @ logs).max() < MOVED
    return out, good


def _smoothed(density: Array, chains: int) -> tuple[Array, Array]:
    """Leave-one-out log density and k̂ of each part, both (part,), by Pareto smoothed importance sampling."""
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
        # What it warns of is said by `LeftOut.warnings`.
        warnings.simplefilter("ignore")
        found: Any = arviz_stats.loo(tree, pointwise=True)
    return np.asarray(found.elpd_i, dtype=float), np.asarray(found.pareto_k, dtype=float)


def average(
    posteriors: Mapping[str, Posterior],
    weights: str | ArrayLike | Mapping[str, float] = "evidence",
    *,
    prior: ArrayLike | Mapping[str, float] | None = None,
) -> Posterior:
    """Average models: the posterior of the currents when the model itself is not known.

        p(current | recording) = Σ_k weight_k p(current | recording, model k)

    posteriors : name to posterior, of one recording and the same sources
    weights : "evidence" gives each model its posterior probability, "stacking" what predicts components that were
        left out best (see `compare`); or numbers, one per model
    prior : probability of each model beforehand, with "evidence"; all alike if None

    The result has every method of a `Posterior`. Its `hyper` holds what all models have in common, and "model", the
    index of the model; its log evidence is that of the prior over models, with "evidence" alone.

    Raises
    ------
    ValueError
        If recordings, whitenings or gains differ, a weight is negative or all are zero, or a model lacks evidence.

    References: Hoeting et al. (1999), Stat. Sci. 14, 382-417; Trujillo-Barreto, Aubert-Vázquez & Valdés-Sosa (2004),
    NeuroImage 21, 1300-1319 (of source maps); Yao et al. (2018), Bayesian Anal. 13, 917-1007 (stacking).
    """
    _same_recording(posteriors)
    _same_lead_field(posteriors)
    names, every = tuple(posteriors), list(posteriors.values())
    share, evidence = _model_weights(posteriors, weights, prior)
    structures = _all_structures(every)
    masses = [part * one.mixture.weights / one.mixture.weights.sum() for part, one in zip(share, every, strict=True)]
    mixtures = [one.mixture.picked(np.arange(len(mass)), mass) for one, mass in zip(every, masses, strict=True)]
    said = ", ".join(f"{name} {part:.3g}" for name, part in zip(names, share, strict=True))
    return Posterior(
        problem=every[0].problem,
        model=f"average of {', '.join(names)}",
        method=f"{weights if isinstance(weights, str) else 'weights'}: {said}",
        mixture=_joined(mixtures, structures),
        hyper=_joined_hyper(every, share, structures),
        log_evidence=evidence,
        checks=tuple(
            replace(check, name=f"{name}: {check.name}") for name, one in posteriors.items() for check in one.checks
        ),
        timings={
            stage: sum(one.timings.get(stage, 0.0) for one in every)
            for stage in dict.fromkeys(stage for one in every for stage in one.timings)
        },
        time_weights=every[0].time_weights,
    )


def _same_lead_field(posteriors: Mapping[str, Posterior]) -> None:
    """Raise unless all posteriors are of the same currents seen by the same gain."""
    first, *others = posteriors
    ours = posteriors[first]

    def same(mine: Array | None, yours: Array | None) -> bool:
        return mine is yours or (mine is not None and yours is not None and np.array_equal(mine, yours))

    for name in others:
        theirs = posteriors[name]
        if (
            ours.problem.axes != theirs.problem.axes
            or not same(ours.problem.gain, theirs.problem.gain)
            or not same(ours.problem.error_factor, theirs.problem.error_factor)
        ):
            raise ValueError(
                f"{name!r} has another gain than {first!r}; only maps of the same sources by the same lead field "
                "can be averaged"
            )
        if not same(ours.time_weights, theirs.time_weights):
            raise ValueError(f"{name!r} is of another mean over time than {first!r}; take the means after averaging")


def _all_structures(posteriors: Sequence[Posterior]) -> dict[Any, Structure]:
    """Every structure of the posteriors, once, by its key."""
    mixtures = [mixture for one in posteriors for mixture in (one.mixture, one.hyper.scales) if mixture is not None]
    return {structure.key: structure for mixture in mixtures for structure in mixture.structures}


def _joined(mixtures: Sequence[Mixture], structures: Mapping[Any, Structure]) -> Mixture:
    """One mixture of all nodes, with the weights that they have."""
    index = {key: i for i, key in enumerate(structures)}
    which = [
        np.array([index[structure.key] for structure in one.structures], dtype=np.int64)[one.which] for one in mixtures
    ]
    weights, variance, noise = (
        np.concatenate([getattr(one, name) for one in mixtures]) for name in ("weights", "variance", "noise")
    )
    return Mixture(weights, variance, noise, np.concatenate(which), tuple(structures.values()))


def _joined_hyper(posteriors: Sequence[Posterior], share: Array, structures: Mapping[Any, Structure]) -> Hyper:
    """Hyperparameters that all models have, each model's weighted by its share, and the model itself as one of them.

    A model has as many equally weighted draws as its weight says, spread evenly over its own.
    """
    hypers = [one.hyper for one in posteriors]
    lengths = [len(one["lambda"].draws) for one in hypers]
    ends = np.round(max(lengths) * np.cumsum(share)).astype(int)
    picked = [
        np.linspace(0, length - 1, count).round().astype(int) if count > 1 else np.zeros(count, dtype=int)
        for length, count in zip(lengths, np.diff(ends, prepend=0), strict=True)
    ]
    common = [name for name in hypers[0] if all(name in one for one in hypers)]
    nodes = {name: np.concatenate([one.nodes[name] for one in hypers]) for name in common}
    drawn = {
        name: np.concatenate([one.draws[name][some] for one, some in zip(hypers, picked, strict=True)])
        for name in common
    }
    weights = [part * one.weights / one.weights.sum() for part, one in zip(share, hypers, strict=True)]
    nodes["model"] = np.repeat(np.arange(len(hypers), dtype=float), [len(one) for one in weights])
    drawn["model"] = np.repeat(np.arange(len(hypers), dtype=float), [len(some) for some in picked])
    scales = None
    known = [one.scales for one in hypers if one.scales is not None]
    if len(known) == len(hypers):
        total = sum(len(some) for some in picked)
        thinned = [one.picked(some, np.full(len(some), 1 / total)) for one, some in zip(known, picked, strict=True)]
        scales = _joined(thinned, structures)
    return Hyper(nodes, np.concatenate(weights), drawn, scales=scales)


def _model_weights(posteriors: Mapping[str, Posterior], weights: Any, prior: Any) -> tuple[Array, Evidence | None]:
    """Weights (model,) that sum to one, and the evidence of the average where they come from evidence."""
    if isinstance(weights, str):
        one_of("kind of weights", weights, ("evidence", "stacking"))
    if prior is not None and weights != "evidence":
        raise ValueError("prior probabilities of models go with weights='evidence' alone")
    if isinstance(weights, str) and weights == "stacking":
        return np.array(list(compare(posteriors).weights.values())), None
    if not isinstance(weights, str):
        return _shares("weights", weights, tuple(posteriors)), None
    known = [one.log_evidence for one in posteriors.values() if one.log_evidence is not None]
    if len(known) < len(posteriors):
        lacking = [name for name, one in posteriors.items() if one.log_evidence is None]
        raise ValueError(f"{', '.join(lacking)} gives no evidence; use weights='stacking', or infer by quadrature")
    before = np.full(len(known), 1 / len(known)) if prior is None else _shares("prior", prior, tuple(posteriors))
    with np.errstate(divide="ignore"):
        joint = np.array([float(one) for one in known]) + np.log(before)
    share = softmax(joint)
    return share, Evidence(float(logsumexp(joint)), float(share @ [one.error for one in known]))


def _shares(what: str, given: Any, names: tuple[str, ...]) -> Array:
    if isinstance(given, Mapping):
        if set(given) != set(names):
            raise ValueError(f"{what} are of {', '.join(map(str, given))}, but the models are {', '.join(names)}")
        given = [given[name] for name in names]
    share = real(what, given, "model")
    if len(share) != len(names):
        raise ValueError(f"{what} has model = {len(share)}, but there are {len(names)} models")
    if share.min() < 0 or not share.sum() > 0:
        raise ValueError(f"{what} must not be negative and not all be zero, but are {share.tolist()}")
    return np.asarray(share / share.sum())
