"""Run of an evaluation: all cells of its matrix, resumed where an earlier run stopped.

A configuration spans a matrix of truths, signal-to-noise ratios, methods and seeds. Every cell of it is a simulation,
an inference and its scores, stored in a file of its own that is named by a hash of all that it depends on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from os import PathLike
from pathlib import Path
from typing import Any

from bayesinv.arguments import path_of
from bayesinv.atomic import write_atomically
from bayesinv.evaluation.cell import CRIME, Result, run_cell
from bayesinv.evaluation.configuration import MODEL, PRIOR, Cell, Configuration
from bayesinv.evaluation.results import Evaluation
from bayesinv.evaluation.setting import error_of, prepared, setting_of
from bayesinv.evaluation.truths import Estimator
from bayesinv.prior.catalogue import find_model
from bayesinv.progress import bars, counted


def _key(configuration: Configuration, cell: Cell) -> str:
    """Return the name of a cell's file: a hash of all that its result depends on."""
    import bayesinv

    matrix = {"title", "truths", "seeds", "snr", "alpha", "models", "baselines", "forward_error", "allow_inverse_crime"}
    shared = {name: value for name, value in asdict(configuration).items() if name not in matrix}
    texts = []
    for name in (cell.truth.removeprefix(PRIOR) if cell.truth.startswith(PRIOR) else None, cell.method):
        if name is not None and (name != cell.method or cell.kind == MODEL):
            texts.append(find_model(name).read_text(encoding="utf-8"))
    parts = json.dumps([bayesinv.__version__, asdict(cell), shared, texts], sort_keys=True)
    return hashlib.sha256(parts.encode()).hexdigest()[:24]


def run(
    configuration: Configuration | str | PathLike[str] | Mapping[str, Any],
    out: str | PathLike[str],
    *,
    jobs: int = 1,
    allow_inverse_crime: bool | None = None,
    referees: Mapping[str, Estimator] | None = None,
    progress: bool = False,
) -> Evaluation:
    """Run a matrix of truths, methods and seeds, and store every cell in a file of its own.

    Neither tables nor a report are written; `evaluate` does both, and documents arguments, resumption and errors.
    """
    from joblib import Parallel, delayed

    chosen = Configuration.of(configuration)
    if allow_inverse_crime is not None:
        chosen = replace(chosen, allow_inverse_crime=bool(allow_inverse_crime))
    referees = dict(referees or {})
    cells, folder = chosen.cells(referees), path_of("out", out)
    if chosen.crime and not chosen.allow_inverse_crime:
        raise ValueError(crime_of("truths are made with the inversion's own lead field, as the configuration says"))
    _begin(chosen, folder, referees)
    paths = {cell: folder / "cells" / f"{_key(chosen, cell)}.json" for cell in cells}
    stored = {cell: Result.read(path) for cell, path in paths.items()}
    found: dict[Cell, Result | str] = {cell: one for cell, one in stored.items() if one is not None}
    remaining = [cell for cell in cells if cell not in found]
    if remaining:
        seeds = sorted({cell.seed for cell in remaining if not cell.truth.startswith(PRIOR)})
        if any(cell.forward_error for cell in remaining):
            error_of(chosen, progress)
        with bars(progress) as begin:
            setting_of(chosen)
            worlds = Parallel(n_jobs=jobs, return_as="generator")(delayed(prepared)(chosen, seed) for seed in seeds)
            crimes = dict(zip(seeds, counted(worlds, begin("worlds", len(seeds))), strict=True))
            if any(crimes.values()) and not chosen.allow_inverse_crime:
                raise ValueError(
                    crime_of(f"the world of seed {next(k for k in crimes if crimes[k])} has the inversion's gain")
                )
            tasks = (
                delayed(run_cell)(
                    chosen, cell, paths[cell], crimes.get(cell.seed, True) or cell.truth.startswith(PRIOR), referees
                )
                for cell in remaining
            )
            running = Parallel(n_jobs=jobs, return_as="generator")(tasks)
            found |= dict(zip(remaining, counted(running, begin("cells", len(remaining))), strict=True))
    outcomes = [found[cell] for cell in cells]
    results = [one for one in outcomes if isinstance(one, Result)]
    failures = tuple(one for one in outcomes if isinstance(one, str))
    if failures and not results:
        raise RuntimeError(f"all {len(failures)} cells raised; the first: {failures[0]}")
    return Evaluation(chosen, results, failures)


def crime_of(why: str) -> str:
    """Return the message that refuses an inverse crime."""
    return (
        f"{CRIME}: {why}. Scores of such a run say nothing about real recordings; give the truth another world, or "
        f"allow_inverse_crime, which stamps '{CRIME}' on everything that is written"
    )


def _begin(configuration: Configuration, folder: Path, referees: Iterable[str]) -> None:
    """Mark a new folder with its configuration, or raise if it belongs to another one."""
    mark = folder / "configuration.json"
    given = json.loads(json.dumps({**asdict(configuration), "referees": sorted(referees)}))
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; name a folder")
    if mark.exists():
        try:
            stored = json.loads(mark.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            stored = {}
        different = [key for key in sorted({*given, *stored}) if given.get(key) != stored.get(key)]
        if different:
            raise FileExistsError(
                f"{folder} was begun with another configuration ({', '.join(different)} differ); to resume it give "
                "that one, to start anew name another folder or remove this one"
            )
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} holds files of something else; name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(mark, (json.dumps(given, indent=2, ensure_ascii=False) + "\n").encode())
