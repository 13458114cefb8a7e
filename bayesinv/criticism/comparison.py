"""Models of one recording side by side: evidence, and predictive density of left-out parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.special import softmax

from bayesinv.arguments import count_of, of_type
from bayesinv.axes import Array, one_of
from bayesinv.criticism.leave_out import LeftOut
from bayesinv.criticism.left_out_parts import REFIT, LeavingOut
from bayesinv.criticism.refit import Refits
from bayesinv.inference.colour import OVER_TIME
from bayesinv.inference.one_processor import one_processor
from bayesinv.posterior.posterior import Posterior
from bayesinv.problem.problem import Problem
from bayesinv.wording import aligned, listed, with_error

BLOCKS = 10
"""Blocks that a recording is cut into where no length is given."""

CRITERIA = ("components", "blocks")

COLOURED = ("refuse", "rank")
"""What is done where checks of the noise over time failed: models are not ranked, or all the same."""

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


@dataclass(frozen=True)
class ModelRow:
    """Evidence and predictive density of one model, and their differences to the other models.

    name, method : as given, and what it is
    log_evidence, log_evidence_error : nats; None where its method gives none
    log_bayes_factor, log_bayes_factor_error : against the model of largest evidence, nats; None without evidence, or
        where models are not ranked
    components..., blocks... : leave-one-out over components and over blocks of time: expected log density, its
        standard error, its difference to the best, the standard error of the difference, stacking and pseudo-BMA+
        weights, and the largest k̂; None where the recording is one block
    """

    name: str
    method: str
    log_evidence: float | None
    log_evidence_error: float | None
    components_elpd: float
    components_se: float
    components_khat: float
    log_bayes_factor: float | None = None
    log_bayes_factor_error: float | None = None
    components_difference: float | None = None
    components_difference_se: float | None = None
    components_weight: float | None = None
    components_pseudo_weight: float | None = None
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
    unranked : why the models are not ranked, in words; "" where they are
    without_blocks : why blocks were not left out of some models, by name
    """

    rows: tuple[ModelRow, ...]
    components: LeftOut = field(repr=False)
    blocks: LeftOut | None = field(repr=False)
    over: str
    block_times: Array = field(repr=False)
    unranked: str = ""
    without_blocks: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> ModelRow:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"no model named {name!r} was compared; there are {', '.join(self.components.names)}")

    @property
    def weights(self) -> dict[str, float]:
        """Stacking weights by name.

        Raises
        ------
        ValueError
            If the models are not ranked.
        """
        self._check_ranked()
        chosen = self.components if self.over == "components" or self.blocks is None else self.blocks
        return {name: float(weight) for name, weight in zip(chosen.names, chosen.weights, strict=True)}

    @property
    def probabilities(self) -> dict[str, float] | None:
        """Probability of each model, all being equally probable before; None where a model has no evidence.

        Raises
        ------
        ValueError
            If the models are not ranked.
        """
        self._check_ranked()
        known = [row.log_evidence for row in self.rows if row.log_evidence is not None]
        if len(known) < len(self.rows):
            return None
        return {row.name: float(share) for row, share in zip(self.rows, softmax(known), strict=True)}

    def _check_ranked(self) -> None:
        if self.unranked:
            raise ValueError(self.unranked)

    @property
    def notes(self) -> tuple[str, ...]:
        """Which parts models were integrated again without, and which are not left out, in words."""
        names: dict[str, list[str]] = {}
        for name, why in self.without_blocks.items():
            names.setdefault(why, []).append(name)
        words = [f"{listed(whose)}: {why}" for why, whose in names.items()]
        return (*self.components.notes, *(self.blocks.notes if self.blocks is not None else ()), *words)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Where leave-one-out is not reliable, in words."""
        return (*self.components.warnings, *(self.blocks.warnings if self.blocks is not None else ()))

    @property
    def said(self) -> tuple[str, ...]:
        """All that there is to say beside the table."""
        return (*([self.unranked] if self.unranked else []), *self.warnings, *self.notes)

    def cells(self) -> list[tuple[str, ...]]:
        """The table as text, a tuple per row in the order of `MODEL_HEADS`."""
        table: list[tuple[str, ...]] = []
        for row in self.rows:
            cells = [
                row.name,
                "" if row.log_evidence is None else with_error(row.log_evidence, row.log_evidence_error or 0.0),
                ""
                if row.log_bayes_factor is None
                else with_error(row.log_bayes_factor, row.log_bayes_factor_error or 0.0),
            ]
            for kind in CRITERIA:
                elpd, se, difference, difference_se, weight = (
                    getattr(row, f"{kind}_{what}") for what in ("elpd", "se", "difference", "difference_se", "weight")
                )
                if elpd is None:
                    cells += ["", "", ""]
                else:
                    cells += [f"{elpd:.1f} ± {se:.1f}"]
                    ranked = difference is not None
                    cells += [f"{difference:.1f} ± {difference_se:.1f}", f"{weight:.2f}"] if ranked else ["", ""]
            largest = max(row.components_khat, row.blocks_khat or 0.0)
            table.append((*cells, f"{largest:.2f}" if largest else "exact"))
        return table

    def __str__(self) -> str:
        return "\n".join([aligned([MODEL_HEADS, *self.cells()]), *self.said])


@one_processor()
def compare(
    posteriors: Mapping[str, Posterior],
    *,
    block: float | None = None,
    over: str = "components",
    draws: int = 500,
    refit: str = "auto",
    models: Mapping[str, Any] | None = None,
    coloured: str = "refuse",
    progress: bool | None = None,
) -> ModelComparison:
    """Compare models of one recording by evidence, and by the predictive density of parts that are left out.

    posteriors : name to posterior
    block : s, length of the blocks of time that are left out; a tenth of the recording if None
    over : "components" or "blocks", which the stacking weights are of
    draws : draws of the hyperparameters that leave-one-out densities are averaged over; learned structures are those of
        the mixture's nearest nodes
    refit : "auto" integrates a model again without a part where importance sampling fails, and without blocks of long
        recordings where time courses are correlated, which is quicker than sampling, or where MEG and EEG have noise
        of different colour, which nothing else does. "always" does for every part; "never" for none.
        Without one part it takes about as long as `infer`, and it wants at most four hyperparameters
    models : name to model, as it was given to `infer`, of those that are neither shipped nor in a file: a posterior
        knows these by name only
    coloured : what to do where checks of the noise over time failed: "refuse" gives evidence and leave-one-out, but
        ranks nothing by them; "rank" does all the same
    progress : whether to show a bar while models are integrated again; None shows it on a terminal

    Given hyperparameters θ, the density of a component or block given all others is exact (`predictive.left_out`).
    The posterior of θ without the part is obtained from that with it by importance weights 1 / p(part | rest, θ),
    whose tail is smoothed and judged by its shape k̂. Where the tail is too heavy, p(part | rest) is the ratio of the
    evidence with and without the part, each integrated on a lattice of its own. Where that cannot be had, the
    posterior of θ is approximated by a Gaussian, and where that does not fit either, `warnings` says so. The baseline
    is never left out. Where noise is correlated over time a block informs the next, so that long blocks are fairer
    than short ones.

    Raises
    ------
    ValueError
        If there is nothing to compare, something is no posterior, recordings or their whitening differ, or an option
        is out of range.

    References: Vehtari, Gelman & Gabry (2017), Stat. Comput. 27, 1413-1432; Bürkner, Gabry & Vehtari (2021), Comput.
    Stat. 36, 1243-1261; Kass & Raftery (1995), J. Am. Stat. Assoc. 90, 773-795 (Bayes factors).
    """
    one_of("criterion", over, CRITERIA)
    one_of("kind of refit", refit, REFIT)
    one_of("way with coloured noise", coloured, COLOURED)
    draws = count_of("draws", draws)
    same_recording(posteriors)
    foreign = [name for name in models or {} if name not in posteriors]
    if foreign:
        raise ValueError(f"models names {foreign[0]!r}, but the posteriors are {', '.join(posteriors)}")
    problem = next(iter(posteriors.values())).problem
    parts = blocks_of(problem, block)
    if over == "blocks" and len(parts) < 2:
        raise ValueError("the recording is one block; stack over components, or give a shorter block")
    bounds = np.array([[problem.times[part.start], problem.times[part.stop - 1]] for part in parts])
    leaving = LeavingOut(posteriors, Refits(posteriors, models or {}), refit, draws, progress)
    blocks: LeftOut | None = None
    missing: dict[str, str] = {}
    if len(parts) > 1:
        blocks, missing = leaving.blocks(parts, tuple(f"{1e3 * a:.0f} to {1e3 * b:.0f} ms" for a, b in bounds))
    if over == "blocks" and missing:
        name, why = next(iter(missing.items()))
        raise ValueError(f"{name}: {why}; stack over components")
    components = leaving.components()
    unranked = "" if coloured == "rank" else why_unranked(posteriors)
    rows = _rows(posteriors, [table for table in (components, blocks) if table is not None], not unranked)
    return ModelComparison(rows, components, blocks, over, bounds, unranked, missing)


def _rows(posteriors: Mapping[str, Posterior], tables: Sequence[LeftOut], ranked: bool) -> tuple[ModelRow, ...]:
    """One row per model; without what ranks them, if they are not ranked."""
    known = [one.log_evidence for one in posteriors.values() if one.log_evidence is not None]
    best = max(known, default=None)
    rows = []
    for name, one in posteriors.items():
        evidence = one.log_evidence
        numbers: dict[str, float] = {}
        if ranked and evidence is not None and best is not None:
            numbers["log_bayes_factor"] = float(evidence) - float(best)
            numbers["log_bayes_factor_error"] = 0.0 if evidence is best else evidence.error + best.error
        for table in tables:
            if name not in table.names:
                continue
            k = table.names.index(name)
            whole = {"elpd": table.elpd, "se": table.se, "khat": table.khat.max(axis=1)}
            if ranked:
                whole |= {
                    "difference": table.difference,
                    "difference_se": table.difference_se,
                    "weight": table.weights,
                    "pseudo_weight": table.pseudo_weights,
                }
            numbers |= {f"{table.over}_{what}": float(values[k]) for what, values in whole.items()}
        rows.append(
            ModelRow(
                name,
                f"{one.model} by {one.method}",
                None if evidence is None else float(evidence),
                None if evidence is None else evidence.error,
                **numbers,
            )
        )
    return tuple(rows)


def why_unranked(posteriors: Mapping[str, Posterior]) -> str:
    """Why models are not ranked, in words; "" where no check of the noise over time failed."""
    failed = {
        name: [check.name for check in one.checks if OVER_TIME in check.name and not check.passed]
        for name, one in posteriors.items()
    }
    names = [name for name, checks in failed.items() if checks]
    if not names:
        return ""
    which = " and ".join(dict.fromkeys(check for checks in failed.values() for check in checks))
    return (
        f"models are not ranked: noise is correlated over time in another way than they take it to be ({which} failed "
        f"for {listed(names)}), so that evidence and leave-one-out count samples as independent that are not, which "
        'outweighs what sets priors apart. Give noise_time="auto" and a longer baseline, trials, or an empty room; or '
        'rank them all the same, coloured="rank"'
    )


def blocks_of(problem: Problem, length: float | None = None) -> list[slice]:
    """Cut a recording into contiguous blocks of samples.

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


def same_recording(posteriors: Mapping[str, Posterior]) -> None:
    """Raise unless all are posteriors of one whitened recording."""
    of_type("posteriors", posteriors, Mapping, "give a dictionary of names to posteriors")
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
            ("another colour of the noise", _colour(ours), _colour(theirs)),
            ("other times", ours.times, theirs.times),
        ):
            # Where a whitener is not known, the whitened recordings are compared.
            if what == "another whitening" and (mine is None or yours is None):
                continue
            equal = (mine is None) == (yours is None) and (
                mine is None or yours is None or (mine.shape == yours.shape and np.allclose(mine, yours, rtol=1e-9))
            )
            if not equal:
                raise ValueError(
                    f"{name!r} has {what} than {first!r}; only models of one whitened recording can be compared"
                )


def _colour(problem: Problem) -> Array | None:
    known = problem.autocorrelation
    return None if known is None else known.values
