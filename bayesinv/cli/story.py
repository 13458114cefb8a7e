"""Demo: a response simulated on the template head, and how far classical and Bayesian answers lie from its truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

from bayesinv.axes import Array, Index
from bayesinv.classical.baseline import baseline
from bayesinv.cli.peaks import LEVEL
from bayesinv.forward import gain_files, template_lead_field
from bayesinv.forward.leadfield import LeadField
from bayesinv.head import template, template_cortex, template_mesh
from bayesinv.head.sensors import Sensors
from bayesinv.head.sources import Sources
from bayesinv.posterior.peak import Peak
from bayesinv.posterior.posterior import Posterior
from bayesinv.problem.problem import Problem
from bayesinv.report.page import html_table
from bayesinv.simulation.noise import correlated_covariance
from bayesinv.simulation.recording import Simulation
from bayesinv.simulation.recording import simulate as record
from bayesinv.simulation.truths import patch_truth

ACTIVE_MRI = (-0.040, -0.025, 0.055)
"""Place of the truth in m, MRI coordinates: the left hand area on fsaverage."""

TRUE_CONDUCTIVITIES = (0.33, 1.79, 0.006, 0.43)
"""S/m of brain, CSF, skull and scalp; the inversion takes the template's three."""

RATE = 250.0
"""Samples per second."""

HALF_WINDOW = 0.01
"""s before and after the truth's peak over which maps are averaged."""

NEAR = 0.02
"""m about the truth within which a peak counts as found."""

HEADS = ("answer", "peak (MRI mm)", "off", "how sure")

Stage = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True, eq=False)
class Story:
    """A simulated recording on the template head, and the lead field that it is inverted with.

    simulation : recording, truth and the truth's lead field
    lead_field : of the inversion, average reference, free orientation
    near : (source,), the inversion's sources that are nearest to some vertex of the truth
    """

    simulation: Simulation
    lead_field: LeadField
    near: Index

    @property
    def window(self) -> tuple[float, float]:
        """Start and stop in s of the window about the truth's peak."""
        peak = self.simulation.truth.peak_time
        return peak - HALF_WINDOW, peak + HALF_WINDOW

    @property
    def centre_mri(self) -> Array:
        """Centre (3,) of the truth in m, MRI coordinates."""
        truth = self.simulation.truth
        assert truth.sources.to_mri is not None
        return np.asarray(truth.sources.to_mri[:3, :3] @ truth.centre + truth.sources.to_mri[:3, 3])

    def facts(self) -> dict[str, Any]:
        """Return what is true, as plain numbers."""
        truth, noise = self.simulation.truth, self.simulation.noise
        return {
            "centre_mri_mm": [round(1e3 * x, 1) for x in self.centre_mri.tolist()],
            "sources": len(truth.sources),
            "moment_nAm": 1e9 * float(truth.course.max()),
            "peak_s": truth.peak_time,
            "snr": self.simulation.snr,
            "noise_uV": 1e6 * float(noise.covariance.diagonal().mean() ** 0.5),
            "notes": dict(truth.notes),
            "inversion": dict(self.lead_field.notes),
        }

    def to_mne(self) -> tuple[Any, Any, Any]:
        """Return the recording, the inversion's forward solution and the noise covariance as objects of MNE-Python."""
        import mne

        recording, sensors = self.simulation.recording, self.lead_field.sensors
        names = list(recording.names)
        with mne.use_log_level("ERROR"):
            info = mne.create_info(names, RATE, "eeg")
            places = dict(zip(sensors.names, sensors.positions, strict=True))
            info.set_montage(mne.channels.make_dig_montage(places, coord_frame="head"))
            evoked = mne.EvokedArray(recording.field, info, tmin=float(recording.times[0]), comment="simulated", nave=1)
            evoked.set_eeg_reference("average", projection=True)
            noise = self.simulation.noise.covariance
            covariance = mne.Covariance(noise, names, [], evoked.info["projs"], nfree=1000)
            solution = self.lead_field.to_mne(evoked.info)
        return evoked, solution, covariance


def tell(
    spacing: str = "oct5",
    electrodes: int = 64,
    snr: float = 0.5,
    rng: np.random.Generator | None = None,
    stage: Stage = lambda name: nullcontext(),
) -> Story:
    """Return the story: a patch in the left hand area, recorded with another head than the inversion's.

    spacing : of the inversion's sources, see `template_cortex.sources`
    electrodes : 32 or 64
    snr : power of the signal over that of the noise, whitened, per component and sample of the response
    rng : of the noise; default_rng(0) if None
    stage : opened with the name of each step

    Lead fields come from the cache where they are there.

    Raises
    ------
    ValueError
        If the spacing, the number of electrodes or the ratio is none.
    """
    with stage("template head"):
        grid = template_cortex.sources(spacing)
        sensors = template_cortex.electrodes(electrodes)
        cortex = template_cortex.cortex()
    with stage("lead field"):
        gain = template_lead_field.lead_field(grid, sensors).rereference("average")
    with stage("truth"):
        times = np.arange(round(-0.2 * RATE), round(0.4 * RATE) + 1) / RATE
        assert cortex.mri_positions is not None
        centre = cortex.positions[cKDTree(cortex.mri_positions).query(ACTIVE_MRI)[1]]
        truth = patch_truth(cortex, centre, times, avoid=grid)
        true_gain = true_lead_field(truth.sources, sensors).rereference("average")
    with stage("simulate"):
        rng = np.random.default_rng(0) if rng is None else rng
        made = record(truth, true_gain, correlated_covariance(sensors), rng, snr=snr)
    return Story(made, gain, np.unique(cKDTree(grid.positions).query(truth.sources.positions)[1]))


def true_lead_field(sources: Sources, sensors: Sensors, resolution: str = "fine") -> LeadField:
    """Return the gain of the template head in finite elements, with fluid below the skull; cached as the template's is.

    resolution : of the mesh, see `template_mesh.finite_elements`
    """

    def solve() -> LeadField:
        from bayesinv.forward.fem_transfer import transfer

        head = template_mesh.finite_elements(resolution, TRUE_CONDUCTIVITIES)
        return transfer(head, sensors, cache=gain_files.transfer_folder()).lead_field(sources)

    # The mesh is named by what it is made from, for making it takes longer than all else of a second run.
    mesh = (
        template_mesh.CSF_THICKNESS,
        *np.array(template_mesh.RESOLUTIONS[resolution]),
        template.surfaces(3)[-1].vertices,
    )
    return gain_files.cached_lead_field(
        solve, sensors, sources, "finite elements", *mesh, np.array(TRUE_CONDUCTIVITIES)
    )


def classical(problem: Problem, window: tuple[float, float]) -> dict[str, Array]:
    """Return MNE-Python's minimum norm and dSPM with its defaults, absolute and averaged over a window: (source,)."""
    maps = {}
    for name in ("MNE", "dSPM"):
        current = baseline(problem, name, 1 / 9, convention="mne").current[:, problem.window(*window)]
        maps[f"{name} as of MNE-Python (λ² = 1/9)"] = np.abs(current.mean(axis=1))
    return maps


def scores(
    story: Story, posterior: Posterior, peaks: Mapping[str, Peak], maps: Mapping[str, Array]
) -> dict[str, dict[str, Any]]:
    """Return where each answer peaks, how far from the truth's centre, and whether it holds the truth.

    peaks : name to posterior of the peak's place
    maps : name to (source,) map of a point estimate
    """
    sources, truth = story.lead_field.sources, story.simulation.truth
    assert sources.mri_positions is not None
    places = 1e3 * sources.mri_positions
    away = np.linalg.norm(sources.positions - truth.centre, axis=1)

    def peaking(source: int) -> dict[str, Any]:
        return {"peak_mri_mm": places[source].round(1).tolist(), "off_mm": 1e3 * float(away[source])}

    answers: dict[str, dict[str, Any]] = {name: peaking(int(np.argmax(table))) for name, table in maps.items()}
    for name, peak in peaks.items():
        # A ball about the posterior mean: the draws do not choose what they are then counted in.
        radius = peak.radius(LEVEL)
        answers[f"posterior mean, {name}"] = {
            **peaking(peak.strongest),
            "level": LEVEL,
            "radius_mm": 1e3 * radius,
            "ball_holds_truth": bool(away[peak.strongest] <= radius),
            "probability_near_truth": float(peak.probability[away <= NEAR].sum()),
            "probability_by_chance": float(np.mean(away <= NEAR)),
        }
    weights = np.zeros(len(sources))
    weights[story.near] = 1.0
    total = posterior.contrast(weights, story.window)
    low, high = (1e9 * float(bound[0, 0]) for bound in total.interval(LEVEL))
    inside = (truth.times >= story.window[0]) & (truth.times <= story.window[1])
    moment = 1e9 * float(truth.course[inside].mean())
    answers["current of the patch"] = {
        "level": LEVEL,
        "interval_nAm": [low, high],
        "mean_nAm": 1e9 * float(total.mean[0, 0]),
        "truth_nAm": moment,
        "interval_holds_truth": low <= moment <= high,
        "sign_probability": float(total.exceedance(0.0)[0, 0]),
    }
    return answers


def rows(story: Story, found: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return the truth and the answers as rows of a table with the columns `HEADS`."""

    def at(place: ArrayLike) -> str:
        return f"({', '.join(f'{x:.0f}' for x in np.asarray(place))})".replace("-", "−")

    table: list[tuple[str, ...]] = [("truth", at(1e3 * story.centre_mri), "", "")]
    for name, answer in found.items():
        if "off_mm" not in answer:
            continue
        said = "no statement"
        if "radius_mm" in answer:
            said = (
                f"{LEVEL:.0%} ball of {answer['radius_mm']:.0f} mm {_holds(answer['ball_holds_truth'])}; "
                f"{answer['probability_near_truth']:.2f} within {1e3 * NEAR:.0f} mm of it "
                f"({answer['probability_by_chance']:.2f} by chance)"
            )
        table.append((name, at(answer["peak_mri_mm"]), f"{answer['off_mm']:.0f} mm", said))
    return table


def words(story: Story, found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return what is to be said below the table, a sentence or two each."""
    patch, facts = found["current of the patch"], story.facts()
    low, high = patch["interval_nAm"]
    said = [
        f"Current of the active patch: {low:.2f} to {high:.2f} nA m ({LEVEL:.0%} interval), positive with probability "
        f"{patch['sign_probability']:.3f}; the truth is {patch['truth_nAm']:.1f} nA m, and the interval "
        f"{_holds(patch['interval_holds_truth'])}."
    ]
    if not patch["interval_holds_truth"]:
        said.append(
            "An interval is as good as the prior behind it: this one holds all of the cortex for equally active, so it "
            "spreads a focal current over many sources, and the size of a focal truth is not what it can tell."
        )
    said.append(
        f"Simulated: {facts['notes']['truth']}, at {1e3 * facts['peak_s']:.0f} ms; power ratio of signal to noise "
        f"{facts['snr']:.3g} per whitened component; noise {facts['noise_uV']:.2g} µV."
    )
    said.append(
        "Truth and inversion differ in their sources, in the fluid below the skull, in their conductivities and in how "
        f"their lead field was computed. Truth: {_made(facts['notes'])}. Inversion: {_made(facts['inversion'])}."
    )
    return said


def _holds(held: bool) -> str:
    return "holds the truth" if held else "does not hold the truth"


def _made(notes: Mapping[str, str]) -> str:
    """How a lead field came, in words."""
    kind = notes.get("method") or notes.get("solver", "")
    told = [kind, *(notes[key] for key in ("mesh nodes", "mesh", "conductivities") if key in notes)]
    return "; ".join(text + (" nodes" if text.isdigit() else "") for text in told)


def page(story: Story, found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the truth and the answers as HTML."""
    text = "".join(f"<p>{escape(part)}</p>" for part in words(story, found))
    return html_table(HEADS, rows(story, found), numbers=False) + text
