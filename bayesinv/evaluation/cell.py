"""One cell of an evaluation: one method on one truth, run, scored and stored."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from bayesinv.atomic import write_atomically
from bayesinv.axes import Array, Index
from bayesinv.classical.baseline import baseline
from bayesinv.classical.criteria import LAMBDA_CRITERIA
from bayesinv.classical.estimate import Estimate
from bayesinv.classical.minimum_norm import tikhonov
from bayesinv.evaluation.configuration import BASELINE, REFEREE, Cell, Configuration
from bayesinv.evaluation.setting import error_of, rng_of, scene_of, setting_of
from bayesinv.evaluation.truths import Estimator
from bayesinv.posterior.posterior import Posterior
from bayesinv.problem.problem import Problem
from bayesinv.scoring.coverage import Pit
from bayesinv.scoring.focal import FocalScores
from bayesinv.scoring.projection import nearest
from bayesinv.scoring.reliability import Reliability
from bayesinv.scoring.score import score
from bayesinv.scoring.tally import Tally
from bayesinv.simulation.truth import Truth

CRIME = "inverse crime"
"""Name of it in tables, files and messages."""


def invert(
    cell: Cell, configuration: Configuration, problem: Problem, truth: Truth, referees: Mapping[str, Estimator]
) -> Posterior | Estimate:
    """Return the posterior or estimate of a cell's method on its problem."""
    if cell.kind == REFEREE:
        return referees[cell.method](problem, truth)
    if cell.kind == BASELINE:
        if cell.method in LAMBDA_CRITERIA:
            return tikhonov(problem, cell.method)
        return baseline(problem, cell.method, covariance="recording" if cell.method == "LCMV" else None)
    from bayesinv.inference.infer import infer

    if cell.forward_error:
        problem = error_of(configuration).apply(problem)
    return infer(cell.method, problem, rng=rng_of("infer", cell.seed))


@dataclass(frozen=True, eq=False)
class Result:
    """A cell and its scores.

    crime : whether the inversion used the truth's lead field
    snr : power of the signal over that of the noise
    row : scores as plain numbers; those of regions that hold part of the truth are named "active regions"
    tallies : probabilistic scores by stratum, which can be pooled
    foci : scores of focal sources, likewise; None where the method or the truth has none
    seconds : of the inference, without simulation and scores
    unsure : checks of the inference that failed, and warnings
    """

    cell: Cell
    crime: bool
    snr: float
    row: Mapping[str, Any]
    tallies: Mapping[str, Tally]
    seconds: float
    unsure: tuple[str, ...] = ()
    foci: FocalScores | None = None

    def text(self) -> str:
        """As JSON."""
        plain = {one.name: getattr(self, one.name) for one in fields(self)} | {"cell": asdict(self.cell)}
        plain["tallies"] = {name: asdict(one) for name, one in self.tallies.items()}
        plain["foci"] = None if self.foci is None else asdict(self.foci)
        return json.dumps({CRIME: self.crime, **plain}, default=lambda value: np.asarray(value).tolist())

    @classmethod
    def read(cls, path: Path) -> Result | None:
        """Return the result in a file, or None where there is no file or an incomplete one."""
        try:
            plain = json.loads(path.read_text(encoding="utf-8"))
            plain.pop(CRIME)
            plain["cell"], plain["unsure"] = Cell(**plain["cell"]), tuple(plain["unsure"])
            plain["tallies"] = {name: _tally(one) for name, one in plain["tallies"].items()}
            plain["foci"] = None if plain["foci"] is None else _foci(plain["foci"])
            return cls(**plain)
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _tally(plain: dict[str, Any]) -> Tally:
    """Return a tally from its fields in JSON."""
    parts: dict[str, Any] = {name: Pit(np.array(plain.pop(name)["counts"])) for name in ("pit", "aggregated")}
    return Tally(**parts, exceedance=_reliability(plain.pop("exceedance")), **plain)


def _reliability(plain: dict[str, Any]) -> Reliability:
    return Reliability(**{name: np.array(value, dtype=np.float64) for name, value in plain.items()})


def _foci(plain: dict[str, Any]) -> FocalScores:
    """Return scores of focal sources from their fields in JSON."""
    parts: dict[str, Any] = {name: _reliability(plain.pop(name)) for name in ("places", "regions")}
    return FocalScores(**parts, **plain)


def run_cell(
    configuration: Configuration, cell: Cell, path: Path, crime: bool, referees: Mapping[str, Estimator]
) -> Result | str:
    """Run a cell and store its result; an exception is returned as text, so that the other cells still run."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            truth, problem, snr = scene_of(configuration, cell)
            started = time.perf_counter()
            result = invert(cell, configuration, problem, truth, referees)
            seconds = time.perf_counter() - started
            regions, active = _regions(configuration, truth, problem)
            scored = slice(None, None, -(-len(problem.times) // configuration.samples))
            scores = score(result, truth, window=scored, level=configuration.level, regions=regions, contrasts=active)
        messages = [str(one.message) for one in caught if issubclass(one.category, UserWarning)]
        unsure = [check.name for check in result.checks if not check.passed] if isinstance(result, Posterior) else []
        tallies = {"active regions" if name == "contrasts" else name: one for name, one in scores.tallies.items()}
        row = {name.replace("contrasts: ", "active regions: "): value for name, value in scores.row().items()}
        if isinstance(result, Posterior):
            row |= {f"hyper: {name}": scalar.mean for name, scalar in result.hyper.items()}
        found = Result(cell, crime, snr, row, tallies, seconds, tuple(dict.fromkeys(unsure + messages)), scores.foci)
    except Exception as error:
        return f"{cell.name} on {cell.truth} (seed {cell.seed}): {type(error).__name__}: {error}"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, found.text().encode())
    return found


def _regions(configuration: Configuration, truth: Truth, problem: Problem) -> tuple[Mapping[str, Index], Array | None]:
    """Return all regions, and the mean currents of those that hold part of the truth as functionals (region, source).

    There are no functionals where all regions hold part of it, or none does.
    """
    regions = setting_of(configuration).regions
    assert problem.sources is not None
    active = np.zeros(problem.source_count, dtype=bool)
    active[nearest(truth.sources, problem.sources)[np.abs(truth.current).max(axis=1) > 0]] = True
    active_regions = [index for index in regions.values() if active[index].any()]
    if len(active_regions) in (0, len(regions)):
        return regions, None
    rows = np.zeros((len(active_regions), problem.source_count))
    for row, index in zip(rows, active_regions, strict=True):
        row[index] = 1 / len(index)
    return regions, rows
