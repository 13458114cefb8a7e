"""`bayesinv demo`: the whole story on the template head, with a known truth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import bayesinv
from bayesinv.cli.inputs import check_seed
from bayesinv.cli.options import Model, OutFolder, Overwrite, Seed
from bayesinv.cli.outcome import PROGRAM, on_one_processor, verdict
from bayesinv.cli.output import Folder, check_folder, write_posterior
from bayesinv.cli.peaks import DRAWS, peaks
from bayesinv.cli.screen import Stages, show_posterior, show_table, show_text
from bayesinv.progress import on_terminal

if TYPE_CHECKING:
    import numpy as np

    from bayesinv.cli.story import Demo
    from bayesinv.posterior.posterior import Posterior
    from bayesinv.problem.problem import Problem


def demo(
    *,
    out: OutFolder = Path("bayesinv-demo"),
    model: Model = "focal",
    snr: float = 0.5,
    spacing: Literal["oct4", "oct5", "ico3", "oct6", "ico4"] = "oct5",
    electrodes: Literal[32, 64] = 64,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> int:
    """Show the whole story on a template head: a known truth, focal sources, distributed currents and MNE.

    A patch of cortex in the left hand area is active. What it gives at the electrodes is computed by finite elements
    (brain, CSF, skull, scalp); the inversion has other sources, boundary elements without CSF and other
    conductivities. Focal sources are inferred with what the head's conductivities and the electrodes' places may be off
    by. Lead fields are computed once (a minute or two) and then read from the cache (folder $BAYESINV_CACHE). The
    simulated files are written too, for `bayesinv fit`.

    Parameters
    ----------
    snr
        Power of the signal over that of the noise, whitened, per component and sample of the response.
    spacing
        Source grid of the inversion.
    electrodes
        How many.
    """
    from bayesinv.prior.catalogue import read_card

    read_card(model)
    check_seed(seed)
    if not 0 < snr < float("inf"):
        raise ValueError(f"snr is {snr}, but a ratio of powers is positive")
    check_folder(out, overwrite)
    stages = Stages()
    with stages("load libraries"):
        import numpy as np

        from bayesinv.cli import story
    rng = np.random.default_rng(seed)
    simulated = story.simulate_demo(spacing, electrodes, snr, rng, stages)
    inputs = {"model": model, "snr": snr, "spacing": spacing, "electrodes": electrodes, "seed": seed}
    return _answered(simulated, inputs, rng, stages, out, overwrite)


@on_one_processor
def _answered(
    simulated: Demo, inputs: dict[str, Any], rng: np.random.Generator, stages: Stages, out: Path, overwrite: bool
) -> int:
    """Infer the currents, write what was found and show it; see `demo`."""
    with stages("load libraries"):
        import mne

        from bayesinv.bridges.mne_in import from_mne
        from bayesinv.cli import story
        from bayesinv.cli.beside import BESIDE, HEADS, classical, infer_beside
        from bayesinv.posterior.maps import both
        from bayesinv.prior.catalogue import default_model
        from bayesinv.problem.problem import Problem
    model = inputs["model"]
    evoked, solution, covariance = simulated.to_mne()
    with stages("whiten"), mne.use_log_level("ERROR"):
        problem = from_mne(evoked, solution, covariance, orientation="fixed", baseline="auto")
        assert isinstance(problem, Problem)
    with stages("classical"):
        others = classical(problem, simulated.window, story.CLASSICAL)
    posterior = _inferred(simulated, problem, model, rng, stages)
    beside = None
    if posterior.active is not None:
        with stages("distributed currents"):
            beside = infer_beside(posterior, default_model(problem), problem, rng)
    with stages("maps"):
        maps = both(posterior, simulated.window, draws=DRAWS, rng=rng)
        answers = story.scores(simulated, posterior, peaks(posterior, maps), others, beside)
    facts = {
        "command": "demo",
        "inputs": inputs,
        "truth": simulated.facts(),
        "answers": answers,
    }
    title = "Simulated response on the template head"
    with Folder(out, overwrite) as folder, stages("write"):
        with mne.use_log_level("ERROR"):
            mne.write_evokeds(folder / "demo-ave.fif", evoked)
            mne.write_forward_solution(folder / "demo-fwd.fif", solution)
            mne.write_cov(folder / "demo-cov.fif", covariance)
        report_options: dict[str, Any] = {
            "truth": simulated.simulation.truth.centre,
            "others": {name: table for name, table in others.items() if name == story.SHOWN},
            "sections": [("Truth and answers", story.page(simulated, answers))],
        }
        if beside is not None:
            facts["distributed"] = beside.facts()
            report_options["others"] = beside.maps(maps[0].window)
            report_options["sections"] += [(BESIDE, beside.page())]
            beside.distributed.save(folder / "distributed.nc")
        write_posterior(folder, posterior, maps, facts, stages, model, title=title, **report_options)
    show_posterior(posterior, maps, stages, title)
    if beside is not None:
        show_table(HEADS, beside.rows(), f"\n{beside.words}")
    show_table(story.ANSWER_HEADS, story.rows(simulated, answers), "\nTruth and answers")
    for text in story.words(simulated, answers):
        show_text(text)
    show_text(f"wrote {out / 'report.html'}")
    files = f"{out / 'demo-ave.fif'} --forward {out / 'demo-fwd.fif'} --noise-cov {out / 'demo-cov.fif'}"
    known = "" if posterior.active is None else "\n(fit takes the head for known; here it was uncertain)"
    show_text(f"the same files by hand: {PROGRAM} fit {files} --model {model}{known}")
    return verdict(posterior)


def _inferred(simulated: Demo, problem: Problem, model: str, rng: np.random.Generator, stages: Stages) -> Posterior:
    """Infer the currents; focal ones with what the head may be off by."""
    from bayesinv.cli import story

    sampled = model in ("focal", "dipoles")
    options: dict[str, Any] = {"progress": on_terminal()} if sampled else {}
    if sampled:
        with stages("error of the head", True):
            problem = story.head_error(simulated, on_terminal()).apply(problem)
    with stages("infer", sampled):
        return bayesinv.infer(model, problem, rng=rng, **options)
