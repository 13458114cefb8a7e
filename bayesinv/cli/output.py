"""Output of commands: a folder that appears complete or not at all, its summary, and tables."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bayesinv
from bayesinv.cli.outcome import PROGRAM
from bayesinv.cli.peaks import LEVEL, peak_facts, peaks
from bayesinv.versions import versions

if TYPE_CHECKING:
    from bayesinv.cli.screen import Stages
    from bayesinv.posterior.maps import Maps
    from bayesinv.posterior.posterior import Posterior

PACKAGES = (PROGRAM, "numpy", "scipy", "pymc", "pytensor", "arviz", "mne", "xarray")
"""Packages whose versions a result depends on."""


class Folder:
    """A folder that appears complete or not at all: written beside its destination and then moved there."""

    def __init__(self, target: Path, overwrite: bool = False) -> None:
        self.target, self.overwrite = target, overwrite
        self.created_parents: list[Path] = []
        self.draft = target

    def __enter__(self) -> Path:
        target = self.target.absolute()
        for parent in (*reversed(target.parents),):
            if not parent.exists():
                parent.mkdir()
                self.created_parents.append(parent)
        self.draft = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
        mask = os.umask(0)
        os.umask(mask)
        self.draft.chmod(0o777 & ~mask)
        return self.draft

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            if error is None:
                # The folder may have changed since the first check.
                check_folder(self.target, self.overwrite)
                self._move()
        finally:
            shutil.rmtree(self.draft, ignore_errors=True)
            for parent in reversed(self.created_parents):
                # A parent folder that stayed empty is removed; one that holds the result stays.
                with contextlib.suppress(OSError):
                    parent.rmdir()

    def _move(self) -> None:
        """Move the draft to its destination; an earlier result is removed only when the new one is there."""
        target = self.target.absolute()
        if not target.exists():
            self.draft.rename(target)
            return
        old = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-old-")) / target.name
        target.rename(old)
        try:
            self.draft.rename(target)
        except BaseException:
            old.rename(target)
            old.parent.rmdir()
            raise
        shutil.rmtree(old.parent, ignore_errors=True)


def _check_place(out: Path) -> None:
    """Raise unless a folder can be made where the output is to be; before the work, and not after it."""
    nearest = next(one for one in out.absolute().parents if one.exists())
    try:
        Path(tempfile.mkdtemp(dir=nearest, prefix=f".{PROGRAM}-")).rmdir()
    except OSError as error:
        words = error.strerror or str(error)
        raise PermissionError(
            f"--out {out}: no folder can be made in {nearest} ({words}); name another place"
        ) from None


def check_folder(out: Path, overwrite: bool) -> None:
    """Raise unless the folder is new, empty, holds nothing but an earlier result, or may be overwritten.

    Raises
    ------
    FileExistsError
        If it is a file, or holds what this program did not write.
    PermissionError
        If no folder can be made there.
    """
    if out.is_file():
        raise FileExistsError(f"--out {out} is a file; name a folder")
    if Path.cwd().resolve().is_relative_to(out.resolve()):
        raise FileExistsError(f"--out {out} is the folder you are in; name one inside it")
    _check_place(out)
    if overwrite or not out.is_dir():
        return
    present = {str(path.relative_to(out)) for path in out.rglob("*") if not path.is_dir()}
    if not present:
        return
    try:
        earlier = json.loads((out / "summary.json").read_text(encoding="utf-8"))
        ours = set(earlier["files"]) if earlier["program"] == PROGRAM else set()
    except (OSError, ValueError, KeyError, TypeError):
        ours = set()
    foreign = sorted(present - ours)
    if foreign:
        raise FileExistsError(
            f"--out {out} holds files that {PROGRAM} did not write ({', '.join(foreign[:3])}"
            f"{', ...' if len(foreign) > 3 else ''}); name another folder, or give --overwrite to replace it"
        )


def write_posterior(
    folder: Path,
    posterior: Posterior,
    maps: tuple[Maps, Maps | None],
    facts: Mapping[str, Any],
    stages: Stages,
    model: str,
    **report_options: Any,
) -> None:
    """Write posterior, report with pictures, and, last, the summary that names all files."""
    # Slow to import.
    from bayesinv import report
    from bayesinv.figures.hyperparameters import prior_draws

    started = time.perf_counter()
    posterior.save(folder / "posterior.nc")
    prior = None
    # Without draws from the prior, only its curves are missing from a picture.
    with contextlib.suppress(NotImplementedError, ValueError):
        prior = prior_draws(model, posterior.problem)
    report.write(posterior, folder, maps=maps, prior=prior, card=bayesinv.read_card(model), **report_options)
    numbers = posterior.summary(LEVEL)
    inference = {f"inference: {name}": took for name, took in numbers.pop("timings").items()}
    peak_summaries = {name: peak_facts(posterior, peak) for name, peak in peaks(posterior, maps).items()}
    stages.seconds["write"] = time.perf_counter() - started
    write_summary(folder, {**facts, **numbers, "peak": peak_summaries}, {**inference, **stages.seconds})


def write_summary(folder: Path, facts: Mapping[str, Any], timings: Mapping[str, float]) -> None:
    """Write `summary.json`, which names all files of the folder."""
    files = sorted([*(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()), "summary.json"])
    made_with = {**versions(*PACKAGES), PROGRAM: bayesinv.__version__}
    summary = {"program": PROGRAM, **facts, "timings": timings, "versions": made_with, "files": files}
    text = json.dumps(summary, indent=2, default=_plain, ensure_ascii=False)
    (folder / "summary.json").write_text(text + "\n", encoding="utf-8")


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows of the same columns as CSV; no file if there are no rows."""
    if not rows:
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _plain(value: Any) -> Any:
    """Return an array or a NumPy number as plain Python."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
