"""`bayesinv compare`: classical estimates and models of one recording side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import bayesinv
from bayesinv.axes import one_of
from bayesinv.cli.inputs import Inputs, check_seed, parse_names
from bayesinv.cli.options import (
    Averages,
    Baseline,
    BaselineCorrect,
    Condition,
    ForwardSolution,
    HeadMoved,
    LeaveOut,
    LeaveOutTimes,
    NoiseCovariance,
    NoiseTails,
    NoiseTime,
    Orientation,
    OutFolder,
    Outliers,
    Overwrite,
    Picks,
    Rank,
    Recording,
    Seed,
    Start,
    Stop,
)
from bayesinv.cli.outcome import PASSED, on_one_processor, verdict
from bayesinv.cli.output import Folder, check_folder, write_summary, write_table
from bayesinv.cli.peaks import LEVEL
from bayesinv.cli.screen import Stages, show_table, show_text
from bayesinv.wording import span

if TYPE_CHECKING:
    from bayesinv.criticism.comparison import ModelComparison
    from bayesinv.criticism.estimates import Comparison
    from bayesinv.posterior.posterior import Posterior
    from bayesinv.problem.problem import Problem


MODELS = ("minimum_norm", "hierarchical", "depth_weighted")
"""Models that are compared by default, beside that for distributed currents."""


def compare(
    recording: Recording,
    *,
    forward: ForwardSolution,
    noise_cov: NoiseCovariance,
    condition: Condition = None,
    methods: str = "MNE,dSPM,sLORETA,eLORETA,l-curve,gcv",
    models: str | None = None,
    at: float | None = None,
    block: float | None = None,
    coloured: Literal["refuse", "rank"] = "refuse",
    out: OutFolder = Path("bayesinv-compare"),
    picks: Picks = None,
    orientation: Orientation = "fixed",
    tmin: Start = None,
    tmax: Stop = None,
    baseline: Baseline = "auto",
    outliers: Outliers = "warn",
    noise_time: NoiseTime = "auto",
    noise_tails: NoiseTails = "normal",
    averages: Averages = None,
    rank: Rank = None,
    baseline_correct: BaselineCorrect = None,
    head_moved: HeadMoved = "refuse",
    leave_out: LeaveOut = None,
    leave_out_times: LeaveOutTimes = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> int:
    """Put classical estimates and models of one recording side by side.

    Prints a table (λ, peak, spread, fit, evidence), and writes it as `table.csv` and `summary.json`, with all maps on
    one scale in `compare.png`. Of models it prints, and writes as `comparison.csv` and `comparison.png`, evidence,
    Bayes factors, and how well each says what it has not seen: leave-one-out over components and blocks of time, with
    stacking weights. Failed checks of every model are printed; the exit code is 1 if there is none that passed its own.

    Parameters
    ----------
    methods
        MNE, dSPM, sLORETA, eLORETA and LCMV as MNE-Python has them (λ² = 1/9), minimum norm with λ by l-curve, gcv,
        discrepancy, evidence or snr, and champagne, which learns a variance per source; separated by commas, or none.
    models
        Names of shipped models, or paths of .py files, separated by commas, or none. minimum_norm, hierarchical,
        depth_weighted and, of more than a few samples, temporal by default.
    at
        Time in s at which maps are compared. That of the strongest recording by default.
    block
        Length in s of the blocks of time that are left out. A tenth of the recording by default.
    coloured
        What to do where checks of the noise over time fail: evidence and leave-one-out are shown, but refuse to rank
        models by them, or rank them all the same.
    """
    from bayesinv.prior.catalogue import read_card

    classical, model_names = parse_names(methods), None if models is None else parse_names(models)
    for name in model_names or ():
        read_card(name)
    inputs = Inputs(
        recording,
        forward,
        noise_cov,
        condition,
        picks,
        orientation,
        tmin,
        tmax,
        baseline=baseline,
        outliers=outliers,
        noise_time=noise_time,
        noise_tails=noise_tails,
        averages=averages,
        rank=rank,
        baseline_correct=baseline_correct,
        head_moved=head_moved,
        leave_out=leave_out,
        leave_out_times=leave_out_times,
    )
    check_seed(seed)
    check_folder(out, overwrite)
    _check_methods(classical)
    if not classical and model_names is not None and not model_names:
        raise ValueError("there is nothing to compare; name some --methods or --models")
    return _compared(inputs, (classical, model_names), (at, block, coloured), seed, out, overwrite)


@on_one_processor
def _compared(
    inputs: Inputs,
    names: tuple[list[str], list[str] | None],
    how: tuple[float | None, float | None, str],
    seed: int,
    out: Path,
    overwrite: bool,
) -> int:
    """Estimate, infer, compare, write and show; see `compare`.

    names : of classical estimates, and of models; None for the default ones
    how : `at`, `block` and `coloured`
    """
    (classical, model_names), (at, block, coloured) = names, how
    stages = Stages()
    evoked, problem = inputs.read(stages)
    from bayesinv.criticism.comparison import blocks_of
    from bayesinv.criticism.comparison import compare as compare_models
    from bayesinv.criticism.estimates import compare_estimates
    from bayesinv.prior.catalogue import default_model

    if model_names is None:
        model_names = list(dict.fromkeys([*MODELS, default_model(problem)]))
    if model_names:
        # An invalid block length is an error before any model is inferred.
        blocks_of(problem, block)
    with stages("classical"):
        estimates = _estimates(problem, classical)
    with stages("infer"):
        posteriors = _posteriors(problem, model_names, seed)
    table = compare_estimates({**estimates, **posteriors}, at, LEVEL)
    comparison = None
    if posteriors:
        with stages("leave out"):
            comparison = compare_models(posteriors, block=block, coloured=coloured)
    given = {**inputs.facts(evoked, problem), "seed": seed}
    with Folder(out, overwrite) as folder:
        with stages("draw"):
            _draw(folder, table, comparison, problem)
        _write(folder, table, comparison, given, stages)
    _show(table, comparison, f"{evoked.comment} ({inputs.recording.name}) {span(table.time, table.time)}")
    written = ["compare.png", *(["comparison.png", "comparison.csv"] if comparison is not None else []), "table.csv"]
    show_text(f"wrote {', '.join(str(out / name) for name in written)} and {out / 'summary.json'}")
    # Failed checks of every model are printed; that some models do not fit is what a comparison is for.
    return min([verdict(one, name) for name, one in posteriors.items()], default=PASSED)


def _check_methods(names: Sequence[str]) -> None:
    """Raise if a name is not that of a classical method or criterion."""
    from bayesinv.classical.baseline import METHODS
    from bayesinv.classical.criteria import LAMBDA_CRITERIA

    for name in names:
        one_of("method", name, (*METHODS, *LAMBDA_CRITERIA))


def _estimates(problem: Problem, names: Sequence[str]) -> dict[str, Any]:
    """Return classical estimates by their names in the table."""
    from bayesinv.classical.baseline import baseline
    from bayesinv.classical.criteria import LAMBDA_CRITERIA
    from bayesinv.classical.minimum_norm import tikhonov

    found: dict[str, Any] = {}
    for name in names:
        if name in LAMBDA_CRITERIA:
            found[f"λ by {name}"] = tikhonov(problem, name)
        elif name == "champagne":
            found[name] = baseline(problem, name)
        else:
            covariance = "recording" if name == "LCMV" else None
            found[name] = baseline(problem, name, convention="mne", covariance=covariance)
    return found


def _posteriors(problem: Problem, names: Sequence[str], seed: int) -> dict[str, Posterior]:
    """Return the posterior of each model, all with the same random seed."""
    import numpy as np

    return {Path(name).stem: bayesinv.infer(name, problem, rng=np.random.default_rng(seed)) for name in names}


def _draw(folder: Path, table: Comparison, comparison: ModelComparison | None, problem: Problem) -> None:
    """Draw all maps as shares of their peaks, and the models beside each other."""
    from bayesinv.figures.cortex import compare_maps
    from bayesinv.figures.side_by_side import model_comparison

    unit = "% of peak"
    shares = {name: 100 * size / max(float(size.max()), 1e-300) for name, size in table.maps.items()}
    figure = compare_maps(shares, problem, units=dict.fromkeys(shares, unit), common=True)
    figure.savefig(folder / "compare.png", dpi=140)
    if comparison is not None:
        model_comparison(comparison).savefig(folder / "comparison.png", dpi=140)


def _write(
    folder: Path, table: Comparison, comparison: ModelComparison | None, inputs: Mapping[str, Any], stages: Stages
) -> None:
    """Write the tables, and last the summary."""
    rows = [vars(row) for row in table.rows]
    write_table(folder / "table.csv", [_flat(row) for row in rows])
    facts = {"command": "compare", "inputs": inputs, "time_s": table.time, "table": rows}
    if comparison is not None:
        models = [vars(row) for row in comparison.rows]
        write_table(folder / "comparison.csv", models)
        facts["comparison"] = {
            "rows": models,
            "unranked": comparison.unranked,
            "warnings": comparison.warnings,
            "notes": comparison.notes,
        }
    write_summary(folder, facts, stages.seconds)


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row whose intervals and positions have a column for each number."""
    parts = {"lam_interval": ("lam_low", "lam_high"), "position": ("x", "y", "z")}
    cells: dict[str, Any] = {}
    for name, value in row.items():
        columns = parts.get(name, (name,))
        values = value if name in parts and value is not None else [value] * len(columns)
        cells.update(zip(columns, values, strict=True))
    return cells


def _show(table: Comparison, comparison: ModelComparison | None, title: str) -> None:
    """Print the tables."""
    from bayesinv.criticism.comparison import MODEL_HEADS
    from bayesinv.criticism.estimates import ESTIMATE_HEADS

    show_table(ESTIMATE_HEADS, table.cells(), title)
    if comparison is not None:
        show_table(MODEL_HEADS, comparison.cells(), "predictive density of left-out parts, nats")
        for words in comparison.said:
            show_text(words)
