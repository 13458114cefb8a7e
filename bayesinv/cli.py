"""Command line: from files to a folder with posterior, numbers, pictures and a report."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter

import bayesinv
from bayesinv.axes import one_of

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from bayesinv.maps import Maps
    from bayesinv.posterior import Peak, Posterior
    from bayesinv.problem import Problem

PROGRAM = "bayesinv"
PASSED, FAILED, REFUSED, BROKEN, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes: checks passed; a check failed; bad input; an error of this program; interrupted by the user."""

LEVEL = 0.9
DRAWS = 2000
"""Joint draws behind the peak."""

app = App(
    name=PROGRAM,
    help="Bayesian EEG/MEG source imaging: from a recording to the posterior of the currents behind it.",
    help_epilogue="Exit codes: 0 all checks passed, 1 a check failed, 2 bad input, 130 interrupted.",
    version=bayesinv.__version__,
    suppress_keyboard_interrupt=False,
)


def main() -> None:
    """Run the command line and exit."""
    sys.exit(run())


def run(tokens: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; errors become one line on the error stream."""
    try:
        with _tidy_warnings():
            code = app(
                None if tokens is None else list(tokens),
                exit_on_error=False,
                print_error=False,
                result_action="return_value",
            )
        return code if isinstance(code, int) else PASSED
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # Whoever read the output has enough; Python would complain once more when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PASSED
    except CycloptsError as error:
        return _fail(f"{error} (try '{PROGRAM} --help')", REFUSED)
    except (ValueError, OSError) as error:
        return _fail(str(error) or type(error).__name__, REFUSED)
    except Exception as error:
        if os.environ.get("BAYESINV_DEBUG"):
            raise
        words = f"{type(error).__name__}: {error} (an error of this program; BAYESINV_DEBUG=1 shows where)"
        return _fail(words, BROKEN)


@app.command
def fit(
    recording: Path,
    *,
    forward: Path,
    noise_cov: Path,
    condition: str | None = None,
    model: str = "hierarchical",
    out: Path = Path("bayesinv-fit"),
    picks: str | None = None,
    orientation: Literal["fixed", "free"] = "fixed",
    tmin: float | None = None,
    tmax: float | None = None,
    baseline: Annotated[str, Parameter(allow_leading_hyphen=True)] = "auto",
    outliers: Literal["warn", "drop", "keep"] = "warn",
    method: str | None = None,
    draws: int | None = None,
    seed: int = 0,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Infer the currents behind an average of MNE-Python.

    Writes `posterior.nc`, `summary.json`, pictures and a self-contained `report.html`. The exit code is 0 if all
    checks passed and 1 if one did not.

    Parameters
    ----------
    recording
        FIF file of averages (-ave.fif).
    forward
        FIF file of the forward solution (-fwd.fif).
    noise_cov
        FIF file of the noise covariance (-cov.fif).
    condition
        Name of the average, or its number from 0; may be left out if the file holds one.
    model
        Name of a shipped model (see `bayesinv models`) or path of a .py file.
    out
        Folder to write. An earlier result of this program in it is replaced.
    picks
        Sensors to use: meg, eeg, mag, grad or channel names, separated by commas. All by default.
    orientation
        Currents along the normals of the cortex (fixed), or in any direction (free).
    tmin
        Start of the recording to explain, s. After the baseline by default.
    tmax
        End of the recording to explain, s.
    baseline
        START,STOP in s, where there is no response, to learn the noise from; "none"; or "auto", what the file
        says, else all before 0 s.
    outliers
        What to do about sources on or outside the skull of the head model, whose gain is an artefact.
    method
        exact, quadrature, laplace or nuts. By default what fits the model.
    draws
        Draws of the hyperparameters (per chain with nuts).
    seed
        Of all randomness.
    overwrite
        Replace the folder whatever it holds.
    """
    from bayesinv.catalogue import read_card

    files = _files(recording, forward, noise_cov)
    quiet = _window(baseline)
    read_card(model)
    _check_method(method)
    if draws is not None and draws < 1:
        raise ValueError(f"draws is {draws}, but at least one is wanted")
    _check_seed(seed)
    _check_folder(out, overwrite)
    stages = Stages()
    evoked, problem = _problem(files, condition, orientation, picks, tmin, tmax, quiet, outliers, stages)
    import numpy as np

    from bayesinv.maps import both

    rng = np.random.default_rng(seed)
    options = {} if draws is None else {"draws": draws}
    with stages("infer"):
        posterior = bayesinv.infer(model, problem, method, rng=rng, **options)
    with stages("maps"):
        maps = both(posterior, draws=DRAWS, rng=rng)
    inputs = {**_inputs(files, evoked, problem), "model": model, "picks": picks, "baseline": baseline, "seed": seed}
    facts = {"command": "fit", "inputs": inputs}
    title = f"{evoked.comment} ({recording.name})"
    with Folder(out, overwrite) as folder, stages("write"):
        _write(folder, posterior, maps, facts, stages, model, title=title)
    _show(posterior, maps, stages, title)
    _tell(f"wrote {out / 'report.html'}")
    return _verdict(posterior)


@app.command
def demo(
    *,
    out: Path = Path("bayesinv-demo"),
    model: str = "hierarchical",
    snr: float = 0.5,
    spacing: Literal["oct4", "oct5", "ico3", "oct6", "ico4"] = "oct5",
    electrodes: Literal[32, 64] = 64,
    seed: int = 0,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Show the whole story on a template head: a known truth, MNE and Bayes side by side.

    A patch of cortex in the left hand area is active. What it gives at the electrodes is computed by finite elements
    (brain, CSF, skull, scalp); the inversion has other sources, boundary elements without CSF and other
    conductivities. Lead fields are computed once (a minute or two) and then read from the cache (folder
    $BAYESINV_CACHE). The simulated files are written too, for `bayesinv fit`.

    Parameters
    ----------
    out
        Folder to write. An earlier result of this program in it is replaced.
    model
        Name of a shipped model or path of a .py file.
    snr
        Power of the signal over that of the noise, whitened, per component and sample of the response.
    spacing
        Source grid of the inversion.
    electrodes
        How many.
    seed
        Of all randomness.
    overwrite
        Replace the folder whatever it holds.
    """
    from bayesinv.catalogue import read_card

    read_card(model)
    _check_seed(seed)
    if not 0 < snr < float("inf"):
        raise ValueError(f"snr is {snr}, but a ratio of powers is positive")
    _check_folder(out, overwrite)
    stages = Stages()
    with stages("load libraries"):
        import mne
        import numpy as np

        from bayesinv import demo as scene
        from bayesinv.maps import both
        from bayesinv.mne_bridge import from_mne
        from bayesinv.problem import Problem
    rng = np.random.default_rng(seed)
    story = scene.tell(spacing, electrodes, snr, rng, stages)
    evoked, solution, covariance = story.to_mne()
    with stages("whiten"), mne.use_log_level("ERROR"):
        problem = from_mne(evoked, solution, covariance, orientation="fixed", baseline="auto")
        assert isinstance(problem, Problem)
    with stages("classical"):
        others = scene.classical(problem, story.window)
    with stages("infer"):
        posterior = bayesinv.infer(model, problem, rng=rng)
    with stages("maps"):
        maps = both(posterior, story.window, draws=DRAWS, rng=rng)
        answers = scene.scores(story, posterior, _peaks(posterior, maps), others)
    facts = {
        "command": "demo",
        "inputs": {"model": model, "snr": snr, "spacing": spacing, "electrodes": electrodes, "seed": seed},
        "truth": story.facts(),
        "answers": answers,
    }
    title = "Simulated response on the template head"
    with Folder(out, overwrite) as folder, stages("write"):
        with mne.use_log_level("ERROR"):
            mne.write_evokeds(folder / "demo-ave.fif", evoked)
            mne.write_forward_solution(folder / "demo-fwd.fif", solution)
            mne.write_cov(folder / "demo-cov.fif", covariance)
        marked = {
            "truth": story.simulation.truth.centre,
            "others": {name: table for name, table in others.items() if name.startswith("MNE")},
            "sections": [("Truth and answers", scene.page(story, answers))],
        }
        _write(folder, posterior, maps, facts, stages, model, title=title, **marked)
    _show(posterior, maps, stages, title)
    table = _table(*scene.HEADS, title="\nTruth and answers")
    for row in scene.rows(story, answers):
        table.add_row(*row)
    _console().print(table)
    for text in scene.words(story, answers):
        _tell(text)
    _tell(f"wrote {out / 'report.html'}")
    inputs = f"--forward {out / 'demo-fwd.fif'} --noise-cov {out / 'demo-cov.fif'}"
    _tell(f"the same files by hand: {PROGRAM} fit {out / 'demo-ave.fif'} {inputs} --model {model}")
    return _verdict(posterior)


@app.command
def compare(
    recording: Path,
    *,
    forward: Path,
    noise_cov: Path,
    condition: str | None = None,
    methods: str = "MNE,dSPM,sLORETA,eLORETA,l-curve,gcv",
    models: str = "minimum_norm,hierarchical,depth_weighted",
    at: float | None = None,
    block: float | None = None,
    out: Path = Path("bayesinv-compare"),
    picks: str | None = None,
    orientation: Literal["fixed", "free"] = "fixed",
    tmin: float | None = None,
    tmax: float | None = None,
    baseline: Annotated[str, Parameter(allow_leading_hyphen=True)] = "auto",
    outliers: Literal["warn", "drop", "keep"] = "warn",
    seed: int = 0,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Put classical estimates and models of one recording side by side.

    Prints a table (λ, peak, spread, fit, evidence), and writes it as `table.csv` and `summary.json`, with all maps on
    one scale in `compare.png`. Of models it prints, and writes as `comparison.csv` and `comparison.png`, evidence,
    Bayes factors, and how well each says what it has not seen: leave-one-out over components and blocks of time, with
    stacking weights.

    Parameters
    ----------
    recording
        FIF file of averages (-ave.fif).
    forward
        FIF file of the forward solution (-fwd.fif).
    noise_cov
        FIF file of the noise covariance (-cov.fif).
    condition
        Name of the average, or its number from 0; may be left out if the file holds one.
    methods
        MNE, dSPM, sLORETA, eLORETA and LCMV as MNE-Python has them (λ² = 1/9), and minimum norm with λ by l-curve,
        gcv, discrepancy, evidence or snr; separated by commas, or none.
    models
        Names of shipped models, or paths of .py files, separated by commas, or none.
    at
        Time in s at which maps are compared. That of the strongest recording by default.
    block
        Length in s of the blocks of time that are left out. A tenth of the recording by default.
    out
        Folder to write. An earlier result of this program in it is replaced.
    picks
        Sensors to use: meg, eeg, mag, grad or channel names, separated by commas. All by default.
    orientation
        Currents along the normals of the cortex (fixed), or in any direction (free).
    tmin
        Start of the recording to explain, s. After the baseline by default.
    tmax
        End of the recording to explain, s.
    baseline
        START,STOP in s, where there is no response, to learn the noise from; "none"; or "auto", what the file
        says, else all before 0 s.
    outliers
        What to do about sources on or outside the skull of the head model, whose gain is an artefact.
    seed
        Of all randomness.
    overwrite
        Replace the folder whatever it holds.
    """
    from bayesinv.catalogue import read_card

    classical, beliefs = (_chosen(text) for text in (methods, models))
    for name in beliefs:
        read_card(name)
    files = _files(recording, forward, noise_cov)
    quiet = _window(baseline)
    _check_seed(seed)
    _check_folder(out, overwrite)
    from bayesinv.baselines import METHODS
    from bayesinv.baselines import baseline as estimate
    from bayesinv.tikhonov import CHOICES, tikhonov

    for name in classical:
        one_of("method", name, (*METHODS, *CHOICES))
    if not classical and not beliefs:
        raise ValueError("there is nothing to compare; name some --methods or --models")
    stages = Stages()
    evoked, problem = _problem(files, condition, orientation, picks, tmin, tmax, quiet, outliers, stages)
    import numpy as np

    from bayesinv.compare import HEADS, MODEL_HEADS, blocks_of, compare_estimates
    from bayesinv.compare import compare as compare_models
    from bayesinv.figures import compare_maps

    if beliefs:
        # What does not fit is said before models are inferred.
        blocks_of(problem, block)
    results: dict[str, Any] = {}
    with stages("classical"):
        for name in classical:
            if name in CHOICES:
                results[f"λ by {name}"] = tikhonov(problem, name)
            else:
                covariance = "recording" if name == "LCMV" else None
                results[name] = estimate(problem, name, convention="mne", covariance=covariance)
    with stages("infer"):
        for name in beliefs:
            results[Path(name).stem] = bayesinv.infer(name, problem, rng=np.random.default_rng(seed))
    table = compare_estimates(results, at, LEVEL)
    posteriors = {Path(name).stem: results[Path(name).stem] for name in beliefs}
    comparison = None
    if posteriors:
        with stages("leave out"):
            comparison = compare_models(posteriors, block=block)
    with Folder(out, overwrite) as folder:
        with stages("draw"):
            unit = "% of peak"
            shares = {name: 100 * size / max(float(size.max()), 1e-300) for name, size in table.maps.items()}
            figure = compare_maps(shares, problem, units=dict.fromkeys(shares, unit), common=True)
            figure.savefig(folder / "compare.png", dpi=140)
            if comparison is not None:
                comparison.figure().savefig(folder / "comparison.png", dpi=140)
        rows = [vars(row) for row in table.rows]
        models_rows = [] if comparison is None else [vars(row) for row in comparison.rows]
        for name, flat in (("table.csv", [_flat(row) for row in rows]), ("comparison.csv", models_rows)):
            if flat:
                with (folder / name).open("w", encoding="utf-8", newline="") as file:
                    writer = csv.DictWriter(file, list(flat[0]))
                    writer.writeheader()
                    writer.writerows(flat)
        inputs = {**_inputs(files, evoked, problem), "picks": picks, "baseline": baseline, "seed": seed}
        facts = {"command": "compare", "inputs": inputs, "time_s": table.time, "table": rows}
        if comparison is not None:
            facts["comparison"] = {"rows": models_rows, "warnings": comparison.warnings}
        _summarise(folder, facts, stages.seconds)
    shown = _table(*HEADS, title=f"{evoked.comment} ({recording.name}) {_span(table.time, table.time)}")
    for cells in table.cells():
        shown.add_row(*cells)
    _console().print(shown)
    if comparison is not None:
        shown = _table(*MODEL_HEADS, title="what each model says of what it has not seen, nats")
        for cells in comparison.cells():
            shown.add_row(*cells)
        _console().print(shown)
        for words in comparison.warnings:
            _tell(words)
    written = ["compare.png", *(["comparison.png", "comparison.csv"] if comparison is not None else []), "table.csv"]
    _tell(f"wrote {', '.join(str(out / name) for name in written)} and {out / 'summary.json'}")
    # All are told of, whichever fails.
    return max([_verdict(result) for result in results.values() if hasattr(result, "checks")], default=PASSED)


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row whose intervals and places have a column for each number."""
    parts = {"lam_interval": ("lam_low", "lam_high"), "position": ("x", "y", "z")}
    cells: dict[str, Any] = {}
    for name, value in row.items():
        columns = parts.get(name, (name,))
        values = value if name in parts and value is not None else [value] * len(columns)
        cells.update(zip(columns, values, strict=True))
    return cells


def _chosen(text: str) -> list[str]:
    """Return names that commas separate, each once; none of them for "none"."""
    return [] if text.strip().lower() == "none" else list(dict.fromkeys(_words(text) or []))


@app.command
def forward(
    *,
    out: Path,
    head: str = "template",
    method: Literal["sphere", "bem", "fem"] | None = None,
    sensors: str = "64",
    sources: str | None = None,
    conductivities: str | None = None,
    radii: str | None = None,
    resolution: Literal["coarse", "fine"] = "fine",
    unit: Literal["m", "cm", "mm"] = "m",
    subject: str | None = None,
    subjects_dir: Path | None = None,
    trans: Path | None = None,
    reference: str | None = None,
    overwrite: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Compute a lead field: what every sensor reads of a current at every source.

    Prints, and stores in the file, how it was computed: mesh, conductivities, degree of the series, and how near the
    closest source comes to the surface of its compartment.

    Parameters
    ----------
    out
        File to write: .nc (for `bayesinv.load`), or -fwd.fif (for MNE-Python and `bayesinv fit`).
    head
        template; spheres; subject (of FreeSurfer); or a mesh file (.msh, .vtu ...) in head coordinates.
    method
        sphere, bem or fem. By default what suits the head: bem, sphere, bem, fem.
    sensors
        64 or 32 electrodes; a montage of MNE-Python by name; or a FIF file with channels (EEG, MEG or both).
    sources
        Spacing of the template's cortex (oct4, oct5, oct6, ico3, ico4); a number for a grid of so many mm; or a
        source space of MNE-Python (-src.fif). By default oct5, the subject's own, or a grid of 10 mm.
    conductivities
        S/m, one per compartment from the innermost on, separated by commas.
    radii
        Of the spheres in m, innermost first, separated by commas.
    resolution
        Of the template's finite elements.
    unit
        Of the mesh file.
    subject
        Name of a FreeSurfer subject with surfaces in its folder bem.
    subjects_dir
        Folder of FreeSurfer's subjects.
    trans
        FIF file of the transform between MRI and head (-trans.fif). By default the one in the subject's folder.
    reference
        Of the electrodes: average, or the name of one. By default the solver's (mean over the scalp).
    overwrite
        Replace the file if it is there.
    """
    native, foreign = out.suffix == ".nc", out.name.endswith(("-fwd.fif", "_fwd.fif"))
    if not (native or foreign):
        raise ValueError(f"--out {out} is neither a .nc nor a -fwd.fif file; name it by what is to be in it")
    if out.is_dir() or (out.exists() and not overwrite):
        raise FileExistsError(f"--out {out} is there already; name another file, or give --overwrite to replace it")
    if not out.absolute().parent.is_dir():
        raise FileNotFoundError(f"there is no folder {out.absolute().parent} to write {out.name} in; make it first")
    stages = Stages()
    with stages("set scene"):
        from bayesinv import scene
        from bayesinv.forward.gain_files import transfer_folder

        layout = _numbers("radii", radii)
        set_up, chosen = scene.set_scene(
            head,
            method,
            sensors,
            sources,
            conductivities=_numbers("conductivities", conductivities),
            radii=scene.RADII if layout is None else layout,
            resolution=resolution,
            unit=unit,
            subject=subject,
            subjects_dir=subjects_dir,
            trans=trans,
        )
    with stages(f"solve ({chosen})"):
        made = scene.solve(set_up, chosen, cache=transfer_folder(), progress=stages.console.is_terminal)
        made = made if reference is None else made.rereference(reference)
    with stages("write"), tempfile.TemporaryDirectory(dir=out.absolute().parent, prefix=f".{out.name}-") as draft:
        place = Path(draft) / out.name
        if native:
            from bayesinv.archive import save

            save(made, place)
        else:
            scene.write_fif(made, place, set_up.info)
        place.replace(out)
    table = _table("", "", title=f"Lead field: {len(made.sensors)} sensors, {len(made.sources)} sources")
    for key, text in made.notes.items():
        table.add_row(key, text)
    _console().print(table)
    _tell(f"wrote {out}")
    return PASSED


@app.command
def evaluate(
    config: str,
    *,
    out: Path,
    jobs: int = 1,
    allow_inverse_crime: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Run every method on simulated recordings whose truth is known, and say how far each is off and how sure it was.

    The truths lie in another head than the inversion's. Writes `table.csv` (one row per answer), `summary.csv`,
    `curves.csv`, pictures and a self-contained `report.html`. A run that was interrupted is continued by the same
    command. The exit code is 1 if a cell raised.

    Parameters
    ----------
    config
        small (ten minutes on two cores), full, peers (the protocol of other toolboxes), or a .toml file.
    out
        Folder to write, new or begun with the same configuration.
    jobs
        Cells that run at once; -1 for as many as there are processors.
    allow_inverse_crime
        Let the inversion have the truth's own lead field. Everything that is written is stamped then.
    """
    if jobs == 0:
        raise ValueError("jobs is 0, but at least one is wanted, or -1 for all processors")
    stages = Stages()
    with stages("load libraries"):
        from bayesinv import evaluation
    chosen = evaluation.Configuration.of(config)
    shown = stages.console.is_terminal
    allowed = True if allow_inverse_crime else None
    found = evaluation.evaluate(chosen, out, jobs=jobs, allow_inverse_crime=allowed, progress=shown)
    heads, rows = found.cells_for_people()
    table = _table(*heads, title=f"{evaluation.CRIME.upper() + ': ' if found.crime else ''}{chosen.title}")
    for row in rows:
        table.add_row(*row)
    _console().print(table)
    _tell(f"wrote {out / found.page}")
    for text in found.failures:
        _fail(f"a cell raised: {text}", FAILED)
    return FAILED if found.failures else PASSED


@app.command
def models(name: str | None = None) -> int:
    """List the shipped models, or show the card of one.

    Parameters
    ----------
    name
        Name of a shipped model or path of a .py file.
    """
    from rich.table import Table

    if name is not None:
        print(bayesinv.read_card(name))
        return PASSED
    table = Table("model", "what it believes", box=None, pad_edge=False)
    for model, title in bayesinv.list_models().items():
        table.add_row(model, title.removesuffix("."))
    _console().print(table)
    return PASSED


# --- what is written ---------------------------------------------------------------------------------------


class Stages:
    """Shows what is being done, and keeps how long it took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.console = _console(error=True)

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        if self.console.is_terminal:
            with self.console.status(f"{name} ..."):
                yield
        else:
            yield
        took = time.perf_counter() - started
        self.seconds[name] = self.seconds.get(name, 0.0) + took
        self.console.print(f"{name:<24s} {took:6.1f} s", highlight=False, style="dim")


class Folder:
    """A folder that appears whole or not at all: written beside its place and then moved there."""

    def __init__(self, place: Path, overwrite: bool = False) -> None:
        self.place, self.overwrite = place, overwrite
        self.made: list[Path] = []
        self.draft = place

    def __enter__(self) -> Path:
        place = self.place.absolute()
        for parent in (*reversed(place.parents),):
            if not parent.exists():
                parent.mkdir()
                self.made.append(parent)
        self.draft = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}-"))
        mask = os.umask(0)
        os.umask(mask)
        self.draft.chmod(0o777 & ~mask)
        return self.draft

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            if error is None:
                # Time has passed since the first look.
                _check_folder(self.place, self.overwrite)
                self._move()
        finally:
            shutil.rmtree(self.draft, ignore_errors=True)
            for parent in reversed(self.made):
                # A folder that was made for nothing goes; one that holds the result stays.
                with contextlib.suppress(OSError):
                    parent.rmdir()

    def _move(self) -> None:
        """Put the draft in its place; an earlier result goes only when the new one is there."""
        place = self.place.absolute()
        if not place.exists():
            self.draft.rename(place)
            return
        old = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}-old-")) / place.name
        place.rename(old)
        try:
            self.draft.rename(place)
        except BaseException:
            old.rename(place)
            old.parent.rmdir()
            raise
        shutil.rmtree(old.parent, ignore_errors=True)


def _check_folder(out: Path, overwrite: bool) -> None:
    """Raise unless the folder is new, empty, holds nothing but an earlier result, or may be overwritten.

    Raises
    ------
    FileExistsError
        If it is a file, or holds what this program did not write.
    """
    if out.is_file():
        raise FileExistsError(f"--out {out} is a file; name a folder")
    if Path.cwd().resolve().is_relative_to(out.resolve()):
        raise FileExistsError(f"--out {out} is the folder you are in; name one inside it")
    if overwrite or not out.is_dir():
        return
    there = {str(path.relative_to(out)) for path in out.rglob("*") if not path.is_dir()}
    if not there:
        return
    try:
        earlier = json.loads((out / "summary.json").read_text(encoding="utf-8"))
        ours = set(earlier["files"]) if earlier["program"] == PROGRAM else set()
    except (OSError, ValueError, KeyError, TypeError):
        ours = set()
    foreign = sorted(there - ours)
    if foreign:
        raise FileExistsError(
            f"--out {out} holds files that {PROGRAM} did not write ({', '.join(foreign[:3])}"
            f"{', ...' if len(foreign) > 3 else ''}); name another folder, or give --overwrite to replace it"
        )


def _write(
    folder: Path,
    posterior: Posterior,
    maps: tuple[Maps, Maps | None],
    facts: Mapping[str, Any],
    stages: Stages,
    model: str,
    **marked: Any,
) -> None:
    """Write posterior, report with pictures, and, last, the summary that names all files."""
    from bayesinv import report
    from bayesinv.figures import prior_draws

    started = time.perf_counter()
    posterior.save(folder / "posterior.nc")
    prior = None
    # A prior that cannot be drawn from is only missing from a picture.
    with contextlib.suppress(NotImplementedError, ValueError):
        prior = prior_draws(model, posterior.problem)
    report.write(posterior, folder, maps=maps, prior=prior, card=bayesinv.read_card(model), **marked)
    numbers = posterior.summary(LEVEL)
    inference = {f"inference: {name}": took for name, took in numbers.pop("timings").items()}
    peaks = {name: _peak_facts(posterior, peak) for name, peak in _peaks(posterior, maps).items()}
    stages.seconds["write"] = time.perf_counter() - started
    _summarise(folder, {**facts, **numbers, "peak": peaks}, {**inference, **stages.seconds})


def _summarise(folder: Path, facts: Mapping[str, Any], timings: Mapping[str, float]) -> None:
    """Write `summary.json`, which names all files of the folder."""
    files = sorted([*(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()), "summary.json"])
    summary = {"program": PROGRAM, **facts, "timings": timings, "versions": _versions(), "files": files}
    text = json.dumps(summary, indent=2, default=_plain, ensure_ascii=False)
    (folder / "summary.json").write_text(text + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    """Return an array or a NumPy number as plain Python."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def _peaks(posterior: Posterior, maps: tuple[Maps, Maps | None]) -> dict[str, Peak]:
    """Return the posterior of the peak's place, of patches of cortex where there are any and of single sources."""
    single, regional = maps
    peaks = {"single sources": single.place(posterior.problem)}
    if regional is None:
        return peaks
    return {f"{1e3 * regional.radius:.0f} mm patches": regional.place(posterior.problem), **peaks}


def _peak_facts(posterior: Posterior, peak: Peak) -> dict[str, Any]:
    """Return where the current is strongest, and how sure that is; places in mm."""
    sources = posterior.problem.sources
    facts: dict[str, Any] = {
        "source": peak.source,
        "probability": float(peak.probability.max()),
        "strongest_mean": peak.strongest,
        "window_s": list(peak.window),
        "draws": peak.draws,
        "level": LEVEL,
    }
    if sources is not None:
        places = sources.positions if sources.mri_positions is None else sources.mri_positions
        facts["frame"] = "head" if sources.mri_positions is None else "MRI (surface RAS)"
        facts["position_mm"] = [round(1e3 * x, 2) for x in places[peak.source].tolist()]
        facts["strongest_mean_position_mm"] = [round(1e3 * x, 2) for x in places[peak.strongest].tolist()]
        facts["radius_mm"] = 1e3 * peak.radius(LEVEL)
        facts["probability_within_20_mm_of_strongest_mean"] = peak.within(0.02)
        if sources.hemispheres is not None:
            facts["hemisphere"] = ("left", "right")[int(sources.hemispheres[peak.source])]
            left = sources.hemispheres == 0
            facts["probability_left"] = float(peak.probability[left].sum())
    return facts


def _versions() -> dict[str, str]:
    """Return the versions of what a result depends on."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version(), PROGRAM: bayesinv.__version__}
    for name in ("numpy", "scipy", "pymc", "pytensor", "arviz", "mne", "xarray"):
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


# --- what is shown -----------------------------------------------------------------------------------------


def _console(error: bool = False) -> Console:
    from rich.console import Console

    stream = sys.stderr if error else sys.stdout
    # Into a file or pipe nobody's window tells how wide a table may be.
    return Console(file=stream, soft_wrap=True, width=None if stream.isatty() else 120)


def _span(start: float, stop: float) -> str:
    """Return a window of time in ms, for people."""
    first, last = round(1e3 * start), round(1e3 * stop)
    return f"{first} ms" if first == last else f"{first} to {last} ms"


def _tell(text: str) -> None:
    print(text)


def _fail(text: str, code: int) -> int:
    """Print one line on the error stream and return the code."""
    print(f"{PROGRAM}: {' '.join(text.split())}", file=sys.stderr)
    return code


@contextlib.contextmanager
def _tidy_warnings() -> Iterator[None]:
    """Show each warning once, as one line on the error stream; those for developers not at all."""
    seen: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        text = " ".join(str(message).split())
        if issubclass(category, UserWarning | RuntimeWarning) and text not in seen:
            seen.add(text)
            print(f"{PROGRAM}: warning: {text}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        # It tells how a file should be named, not what is in it.
        warnings.filterwarnings("ignore", message="This filename")
        warnings.showwarning = show
        yield


def _table(*columns: str, title: str | None = None) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column)
    return table


def _show(posterior: Posterior, maps: tuple[Maps, Maps | None], stages: Stages, title: str) -> None:
    """Print the short table of a result."""
    problem = posterior.problem
    table = _table("", "", title=title)
    table.add_row("model", f"{posterior.model}, by {posterior.method}")
    table.add_row(
        "recording",
        f"{problem.components} components, {len(problem.times)} samples, "
        f"{_span(float(problem.times[0]), float(problem.times[-1]))}",
    )
    table.add_row("sources", f"{problem.source_count}, {problem.orientation} orientation")
    names = {"lambda": "λ", "snr": "SNR (amplitude)"}
    for name in (*names, *(key for key in posterior.hyper if key not in names)):
        scalar = posterior.hyper[name]
        low, high = scalar.interval(LEVEL)
        text = f"{scalar.mean:.3g}"
        table.add_row(names.get(name, name), text if low == high else f"{text} ({LEVEL:.0%} {low:.3g} to {high:.3g})")
    for name, peak in _peaks(posterior, maps).items():
        facts = _peak_facts(posterior, peak)
        where = f"source {peak.source}"
        if "position_mm" in facts:
            where = f"({', '.join(f'{x:.0f}' for x in facts['position_mm'])}) mm {facts['frame']}"
        lines = [f"{where}, probability {facts['probability']:.2g}"]
        if "position_mm" in facts:
            mean = ", ".join(f"{x:.0f}" for x in facts["strongest_mean_position_mm"])
            lines.append(f"{LEVEL:.0%} within {facts['radius_mm']:.0f} mm of the strongest mean ({mean})")
        if "probability_left" in facts:
            left = facts["probability_left"]
            side, share = ("left", left) if left >= 0.5 else ("right", 1 - left)
            lines.append(f"in the {side} hemisphere with probability {share:.2g}")
        table.add_row(f"peak at {_span(*peak.window)}, {name}", "\n".join(lines))
    evidence = "not given by this method" if posterior.log_evidence is None else f"{posterior.log_evidence!r} nats"
    table.add_row("log evidence", evidence)
    table.add_row("fit", f"{posterior.goodness_of_fit:.0%} of the whitened power")
    for check in posterior.checks:
        mark = "[green]passed[/green]" if check.passed else "[bold red]FAILED[/bold red]"
        table.add_row(f"check {check.name}", f"{mark} {check.value:.3g} (wanted {check.limit})")
    took = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in stages.seconds.items())
    table.add_row("time", f"{sum(stages.seconds.values()):.1f} s: {took}")
    _console().print(table)


def _verdict(posterior: Posterior) -> int:
    """Return the exit code of a result, and say on the error stream what failed."""
    failed = [check for check in posterior.checks if not check.passed]
    for check in failed:
        _fail(f"check failed: {check.name} is {check.value:.3g}, wanted {check.limit}; {check.note}", FAILED)
    return FAILED if failed else PASSED


# --- what comes in -----------------------------------------------------------------------------------------


def _files(recording: Path, forward: Path, noise_cov: Path) -> dict[str, Path]:
    """Return the files of an inversion by what they hold.

    Raises
    ------
    FileNotFoundError
        If one is not there. Reading them takes time, so all are looked for first.
    """
    files = {"recording": recording, "forward": forward, "noise covariance": noise_cov}
    for what, path in files.items():
        if not path.is_file():
            raise FileNotFoundError(f"no {what} file {path}" + ("; that is a folder" if path.is_dir() else ""))
    return files


def _read(files: Mapping[str, Path], condition: str | None) -> tuple[Any, Any, Any]:
    """Return the average of a condition, forward solution and noise covariance as objects of MNE-Python."""
    import mne

    from bayesinv.scene import read_fif

    path = files["recording"]
    averages = read_fif("average", path, lambda path: mne.read_evokeds(path))
    evoked = _pick_condition(averages, condition, path)
    solution = read_fif("forward solution", files["forward"], lambda path: mne.read_forward_solution(path))
    return evoked, solution, read_fif("noise covariance", files["noise covariance"], lambda path: mne.read_cov(path))


def _problem(
    files: Mapping[str, Path],
    condition: str | None,
    orientation: Literal["fixed", "free"],
    picks: str | None,
    tmin: float | None,
    tmax: float | None,
    baseline: Literal["auto"] | tuple[float | None, float | None] | None,
    outliers: str,
    stages: Stages,
) -> tuple[Any, Problem]:
    """Return the average as an object of MNE-Python, and the whitened problem of inverting it."""
    with stages("load libraries"):
        import mne

        from bayesinv.mne_bridge import from_mne
        from bayesinv.problem import Problem
    with stages("read files"):
        evoked, solution, covariance = _read(files, condition)
    with stages("whiten"), mne.use_log_level("ERROR"):
        problem = from_mne(
            evoked,
            solution,
            covariance,
            orientation=orientation,
            picks=_words(picks),
            tmin=tmin,
            tmax=tmax,
            baseline=baseline,
            outliers=outliers,
        )
    assert isinstance(problem, Problem)
    return evoked, problem


def _inputs(files: Mapping[str, Path], evoked: Any, problem: Problem) -> dict[str, Any]:
    """Return what was inverted, for the summary."""
    return {
        **{what.replace(" ", "_"): str(path) for what, path in files.items()},
        "condition": evoked.comment,
        "averages": int(evoked.nave),
        "orientation": problem.orientation,
        "window": [float(problem.times[0]), float(problem.times[-1])],
    }


def _words(text: str | None) -> list[str] | None:
    """Return what commas separate."""
    return None if text is None else [word.strip() for word in text.split(",") if word.strip()]


def _numbers(what: str, text: str | None) -> list[float] | None:
    """Return numbers that commas separate.

    Raises
    ------
    ValueError
        If one is none.
    """
    words = _words(text)
    try:
        return None if words is None else [float(word) for word in words]
    except ValueError:
        raise ValueError(f"--{what} {text} holds what is no number; give numbers separated by commas") from None


def _pick_condition(averages: Any, condition: str | None, path: Path) -> Any:
    """Return the average with this name or number.

    Raises
    ------
    ValueError
        If there is none, or several and none is named.
    """
    averages = averages if isinstance(averages, list) else [averages]
    names = [average.comment for average in averages]
    listed = ", ".join(repr(name) for name in names)
    if condition is None:
        if len(averages) > 1:
            raise ValueError(f"{path} holds {len(averages)} conditions: {listed}; choose one with --condition")
        return averages[0]
    if condition in names:
        return averages[names.index(condition)]
    if condition.isdigit():
        if int(condition) < len(averages):
            return averages[int(condition)]
        raise ValueError(f"{path} has no condition number {condition}; it holds {len(names)}, from 0: {listed}")
    one_of(f"condition in {path}", condition, names)
    raise AssertionError


def _window(text: str) -> Literal["auto"] | tuple[float | None, float | None] | None:
    """Return the baseline that a text means.

    Raises
    ------
    ValueError
        If it is neither "auto", "none" nor START,STOP.
    """
    word = text.strip().lower()
    if word == "auto":
        return "auto"
    if word == "none":
        return None
    parts = [part.strip() for part in text.split(",")]
    try:
        start, stop = (float(part) if part and part.lower() != "none" else None for part in parts)
    except ValueError:
        raise ValueError(f"--baseline {text} is not START,STOP in s (such as -0.2,0), 'auto' or 'none'") from None
    if start is not None and stop is not None and not start < stop:
        raise ValueError(f"--baseline {text} ends before it starts; give START,STOP in s, such as -0.2,0")
    return start, stop


def _check_method(method: str | None) -> None:
    if method is not None:
        from bayesinv.inference import METHODS

        one_of("method", method, METHODS)


def _check_seed(seed: int) -> None:
    if seed < 0:
        raise ValueError(f"seed is {seed}, but must not be negative")
