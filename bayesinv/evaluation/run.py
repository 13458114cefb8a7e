"""All cells of an evaluation, resumed where it was left.

A configuration spans a matrix of truths, signal-to-noise ratios, methods and seeds. Every cell of it is a simulation,
an answer and its scores, kept as a file of its own that is named by all that it depends on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from os import PathLike
from pathlib import Path
from typing import Any

from bayesinv.atomic import write_atomically
from bayesinv.evaluation.cell import CRIME, Result, run_cell
from bayesinv.evaluation.configuration import MODEL, PRIOR, Cell, Configuration
from bayesinv.evaluation.results import Evaluation
from bayesinv.evaluation.setting import error_of, prepared, setting_of
from bayesinv.evaluation.truths import Estimator
from bayesinv.prior.catalogue import find_model
from bayesinv.progress import bars, counted


def _key(configuration: Configuration, cell: Cell) -> str:
    """What a cell's file is named by: all that its result depends on."""
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
    """Run a matrix of truths, methods and seeds, and keep every cell in a file of its own.

    Neither table nor page is written; `evaluate` does both, and says what may be given, how a run is continued, and
    what is raised.
    """
    from joblib import Parallel, delayed

    chosen = Configuration.of(configuration)
    if allow_inverse_crime is not None:
        chosen = replace(chosen, allow_inverse_crime=bool(allow_inverse_crime))
    others = dict(referees or {})
    cells, folder = chosen.cells(others), Path(out)
    if chosen.crime and not chosen.allow_inverse_crime:
        raise ValueError(crime_of("truths are made with the inversion's own lead field, as the configuration says"))
    _begin(chosen, folder, others)
    places = {cell: folder / "cells" / f"{_key(chosen, cell)}.json" for cell in cells}
    kept = {cell: Result.read(at) for cell, at in places.items()}
    found: dict[Cell, Result | str] = {cell: one for cell, one in kept.items() if one is not None}
    left = [cell for cell in cells if cell not in found]
    if left:
        seeds = sorted({cell.seed for cell in left if not cell.truth.startswith(PRIOR)})
        with bars(progress) as begin:
            if any(cell.forward_error for cell in left):
                advance = begin("forward error", 1)
                error_of(chosen)
                advance(1)
            setting_of(chosen)
            worlds = Parallel(n_jobs=jobs, return_as="generator")(delayed(prepared)(chosen, seed) for seed in seeds)
            same = dict(zip(seeds, counted(worlds, begin("worlds", len(seeds))), strict=True))
            if any(same.values()) and not chosen.allow_inverse_crime:
                raise ValueError(
                    crime_of(f"the world of seed {next(k for k in same if same[k])} has the inversion's gain")
                )
            tasks = (
                delayed(run_cell)(
                    chosen, cell, places[cell], same.get(cell.seed, True) or cell.truth.startswith(PRIOR), others
                )
                for cell in left
            )
            running = Parallel(n_jobs=jobs, return_as="generator")(tasks)
            found |= dict(zip(left, counted(running, begin("cells", len(left))), strict=True))
    every = [found[cell] for cell in cells]
    results = [one for one in every if isinstance(one, Result)]
    failures = tuple(one for one in every if isinstance(one, str))
    if failures and not results:
        raise RuntimeError(f"all {len(failures)} cells raised; the first: {failures[0]}")
    return Evaluation(chosen, results, failures)


def crime_of(why: str) -> str:
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
            there = json.loads(mark.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            there = {}
        other = [key for key in sorted({*given, *there}) if given.get(key) != there.get(key)]
        if other:
            raise FileExistsError(
                f"{folder} was begun with another configuration ({', '.join(other)} differ); to resume it give that "
                "one, to start anew name another folder or remove this one"
            )
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} holds files of something else; name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(mark, (json.dumps(given, indent=2, ensure_ascii=False) + "\n").encode())
