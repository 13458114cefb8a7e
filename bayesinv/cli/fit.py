"""`bayesinv fit`: infer the currents behind one recording."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bayesinv
from bayesinv.cli.inputs import Inputs, check_method, check_seed
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
    Switch,
)
from bayesinv.cli.outcome import on_one_processor, verdict
from bayesinv.cli.output import Folder, check_folder, write_posterior
from bayesinv.cli.peaks import DRAWS
from bayesinv.cli.screen import Stages, show_posterior, show_table, show_text
from bayesinv.progress import on_terminal

if TYPE_CHECKING:
    from bayesinv.problem.problem import Problem


def fit(
    recording: Recording,
    *,
    forward: ForwardSolution,
    noise_cov: NoiseCovariance,
    condition: Condition = None,
    model: str | None = None,
    out: OutFolder = Path("bayesinv-fit"),
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
    method: str | None = None,
    draws: int | None = None,
    sweeps: int | None = None,
    warm: int | None = None,
    predictive: Switch = False,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> int:
    """Infer the currents behind an average of MNE-Python.

    Writes `posterior.nc`, `summary.json`, pictures, a self-contained `report.html`, and `distributed.nc` where
    distributed currents stand beside. The exit code is 0 if all checks passed and 1 if one did not.

    Parameters
    ----------
    model
        Name of a shipped model (see `bayesinv models`) or path of a .py file. By default focal sources, with
        distributed currents and MNE beside them, and which the recording prefers; only distributed currents (temporal,
        or hierarchical of few samples) where focal sources cannot be inferred or would take long, which is said.
    method
        exact, quadrature, nested_laplace, laplace, nuts, gibbs, local_scales or active_set. By default what fits.
    draws
        Draws of the hyperparameters (per chain with nuts).
    sweeps
        Sweeps of each chain, where focal sources or local scales are sampled. By default as many as they want to agree.
    warm
        Sweeps of each chain before these, in which sources come in.
    predictive
        Draw recordings from the posterior, and report how test quantities of the recorded one compare with theirs.
    """
    from bayesinv.arguments import count_of
    from bayesinv.prior.catalogue import read_card

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
    if model is not None:
        read_card(model)
    check_method(method)
    given = {"draws": (draws, "draw"), "sweeps": (sweeps, "sweep"), "warm": (warm, "warm sweep")}
    options: dict[str, Any] = {}
    for name, (one, what) in given.items():
        if one is not None:
            options[name] = count_of(name, one, what)
    check_seed(seed)
    check_folder(out, overwrite)
    return _fitted(inputs, model, method, options, predictive, seed, out, overwrite)


@on_one_processor
def _fitted(
    inputs: Inputs,
    model: str | None,
    method: str | None,
    options: dict[str, Any],
    predictive: bool,
    seed: int,
    out: Path,
    overwrite: bool,
) -> int:
    """Infer the currents, write what was found and show it; see `fit`."""
    stages = Stages()
    evoked, problem = inputs.read(stages)
    import numpy as np

    from bayesinv.cli.beside import BESIDE, HEADS, classical, infer_beside
    from bayesinv.criticism.posterior_predictive import QUANTITY_HEADS
    from bayesinv.posterior.maps import both
    from bayesinv.problem.account import account

    rng = np.random.default_rng(seed)
    model, distributed, why_not = (model, None, None) if model is not None else _by_default(problem, method)
    sampled = model in ("focal", "dipoles")
    with stages("infer", sampled):
        if sampled:
            options["progress"] = on_terminal()
        posterior = bayesinv.infer(model, problem, method, rng=rng, **options)
    beside = None
    if distributed is not None:
        with stages("distributed currents"):
            beside = infer_beside(posterior, distributed, problem, rng)
    with stages("maps"):
        maps = both(posterior, draws=DRAWS, rng=rng)
    checked = None
    if predictive:
        with stages("predict"):
            checked = bayesinv.posterior_predictive(posterior, rng=rng)
    facts = {"command": "fit", "inputs": {**inputs.facts(evoked, problem), "model": model, "seed": seed}}
    title = f"{evoked.comment} ({inputs.recording.name})"
    more: dict[str, Any] = {}
    if why_not is not None:
        facts["no_focal_sources"] = why_not
        more = {
            "others": classical(problem, maps[0].window, {"MNE": ("1/9",)}),
            "sections": [(BESIDE, f"<p>{escape(f'No focal sources: {why_not}.')}</p>")],
        }
    if beside is not None:
        facts["distributed"] = beside.facts()
        more = {"others": beside.maps(maps[0].window), "sections": [(BESIDE, beside.page())]}
    with Folder(out, overwrite) as folder, stages("write"):
        if beside is not None:
            beside.distributed.save(folder / "distributed.nc")
        write_posterior(folder, posterior, maps, facts, stages, model, title=title, predictive=checked, **more)
    show_table(("", ""), account(problem).items(), "What is used")
    show_posterior(posterior, maps, stages, title)
    if why_not is not None:
        show_text(f"no focal sources: {why_not}")
    if beside is not None:
        show_table(HEADS, beside.rows(), f"\n{beside.words}")
    if checked is not None:
        show_table(QUANTITY_HEADS, checked.cells(), checked.verdict)
    show_text(f"wrote {out / 'report.html'}")
    return verdict(posterior)


def _by_default(problem: Problem, method: str | None) -> tuple[str, str | None, str | None]:
    """Return the model where none is named, that of distributed currents beside it, and why it is not focal."""
    from bayesinv.prior.catalogue import default_model, why_not_focal

    why_not = why_not_focal(problem)
    if method not in (None, "active_set"):
        why_not = f"method {method!r} is for distributed currents"
    distributed = default_model(problem)
    return ("focal", distributed, None) if why_not is None else (distributed, None, why_not)
