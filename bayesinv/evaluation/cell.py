"""One truth, one method: run, scored, and its result."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from bayesinv.atomic import write_whole
from bayesinv.axes import Array, Index
from bayesinv.classical.baseline import baseline
from bayesinv.classical.criteria import CRITERIA
from bayesinv.classical.estimate import Estimate
from bayesinv.classical.minimum_norm import tikhonov
from bayesinv.evaluation.configuration import BASELINE, REFEREE, Cell, Configuration
from bayesinv.evaluation.setting import error_of, rng_of, scene_of, setting_of
from bayesinv.evaluation.truths import Estimator
from bayesinv.posterior.posterior import Posterior
from bayesinv.problem.problem import Problem
from bayesinv.scoring.coverage import Pit
from bayesinv.scoring.projection import nearest
from bayesinv.scoring.reliability import Reliability
from bayesinv.scoring.score import score
from bayesinv.scoring.tally import Tally
from bayesinv.simulation.truth import Truth

CRIME = "inverse crime"


def answer_of(
    cell: Cell, configuration: Configuration, problem: Problem, truth: Truth, referees: Mapping[str, Estimator]
) -> Posterior | Estimate:
    if cell.kind == REFEREE:
        return referees[cell.method](problem, truth)
    if cell.kind == BASELINE:
        if cell.method in CRITERIA:
            return tikhonov(problem, cell.method)
        return baseline(problem, cell.method, covariance="recording" if cell.method == "LCMV" else None)
    from bayesinv.inference.infer import infer

    if cell.forward_error:
        problem = error_of(configuration).apply(problem)
    return infer(cell.method, problem, rng=rng_of("infer", cell.seed))


@dataclass(frozen=True, eq=False)
class Result:
    """A cell and what came of it.

    crime : whether the inversion had the truth's lead field
    snr : power of the signal over that of the noise
    row : plain scores; those of regions in which the truth is are named "active regions"
    tallies : probabilistic scores by stratum, which can be pooled
    seconds : of the answer, without simulation and scores
    unsure : checks of the answer that failed, and warnings
    """

    cell: Cell
    crime: bool
    snr: float
    row: Mapping[str, Any]
    tallies: Mapping[str, Tally]
    seconds: float
    unsure: tuple[str, ...] = ()

    def text(self) -> str:
        """As JSON."""
        plain = {one.name: getattr(self, one.name) for one in fields(self)} | {"cell": asdict(self.cell)}
        plain["tallies"] = {name: asdict(one) for name, one in self.tallies.items()}
        return json.dumps({CRIME: self.crime, **plain}, default=lambda value: np.asarray(value).tolist())

    @classmethod
    def read(cls, path: Path) -> Result | None:
        """What a file holds, or None where there is none, or none that is whole."""
        try:
            plain = json.loads(path.read_text(encoding="utf-8"))
            plain.pop(CRIME)
            plain["cell"], plain["unsure"] = Cell(**plain["cell"]), tuple(plain["unsure"])
            plain["tallies"] = {name: _tally(one) for name, one in plain["tallies"].items()}
            return cls(**plain)
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _tally(plain: dict[str, Any]) -> Tally:
    parts: dict[str, Any] = {name: Pit(np.array(plain.pop(name)["counts"])) for name in ("pit", "aggregated")}
    claims = {name: np.array(value, dtype=np.float64) for name, value in plain.pop("exceedance").items()}
    return Tally(**parts, exceedance=Reliability(**claims), **plain)


def run_cell(
    configuration: Configuration, cell: Cell, place: Path, crime: bool, referees: Mapping[str, Estimator]
) -> Result | str:
    """Run a cell and keep it; what it raises is returned, as the other cells are not to be lost with it."""
    try:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            truth, problem, snr = scene_of(configuration, cell)
            started = time.perf_counter()
            result = answer_of(cell, configuration, problem, truth, referees)
            seconds = time.perf_counter() - started
            regions, active = _regions(configuration, truth, problem)
            some = slice(None, None, -(-len(problem.times) // configuration.samples))
            made = score(result, truth, window=some, level=configuration.level, regions=regions, contrasts=active)
        said = [str(one.message) for one in heard if issubclass(one.category, UserWarning)]
        unsure = [check.name for check in result.checks if not check.passed] if isinstance(result, Posterior) else []
        tallies = {"active regions" if name == "contrasts" else name: one for name, one in made.tallies.items()}
        row = {name.replace("contrasts: ", "active regions: "): value for name, value in made.row().items()}
        if isinstance(result, Posterior):
            row |= {f"hyper: {name}": scalar.mean for name, scalar in result.hyper.items()}
        found = Result(cell, crime, snr, row, tallies, seconds, tuple(dict.fromkeys(unsure + said)))
    except Exception as error:
        return f"{cell.name} on {cell.truth} (seed {cell.seed}): {type(error).__name__}: {error}"
    place.parent.mkdir(parents=True, exist_ok=True)
    write_whole(place, found.text().encode())
    return found


def _regions(configuration: Configuration, truth: Truth, problem: Problem) -> tuple[Mapping[str, Index], Array | None]:
    """Every region, and as functionals the means of those in which some, but not all, of the truth is."""
    regions = setting_of(configuration).regions
    assert problem.sources is not None
    lively = np.zeros(problem.source_count, dtype=bool)
    lively[nearest(truth.sources, problem.sources)[np.abs(truth.current).max(axis=1) > 0]] = True
    chosen = [index for index in regions.values() if lively[index].any()]
    if len(chosen) == len(regions):
        return regions, None
    rows = np.zeros((len(chosen), problem.source_count))
    for row, index in zip(rows, chosen, strict=True):
        row[index] = 1 / len(index)
    return regions, rows
