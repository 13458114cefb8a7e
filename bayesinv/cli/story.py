"""The demo: a response simulated on the template head, and errors of classical and Bayesian answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

from bayesinv.arguments import Randomness, generator_of
from bayesinv.axes import Array, Index
from bayesinv.cli.beside import CHOICES, Beside
from bayesinv.cli.peaks import LEVEL
from bayesinv.forward import gain_files, template_lead_field
from bayesinv.forward.leadfield import LeadField
from bayesinv.head import template, template_cortex, template_mesh
from bayesinv.head.conductivities import ANISOTROPY, RANGES
from bayesinv.head.sensors import Sensors
from bayesinv.head.sources import Sources
from bayesinv.posterior.foci import Focus
from bayesinv.posterior.functionals import Functional
from bayesinv.posterior.maps import averaged
from bayesinv.posterior.peak import Peak
from bayesinv.posterior.posterior import Posterior
from bayesinv.problem.model_error import ForwardError, forward_error
from bayesinv.report.page import html_table
from bayesinv.report.sentences import likely_foci
from bayesinv.simulation.noise import correlated_covariance
from bayesinv.simulation.recording import Simulation
from bayesinv.simulation.recording import simulate as record
from bayesinv.simulation.truths import patch_truth
from bayesinv.wording import not_certain

ACTIVE_MRI = (-0.040, -0.025, 0.055)
"""Position of the truth in m, MRI coordinates: the left hand area on fsaverage."""

TRUE_CONDUCTIVITIES = (0.33, 1.79, 0.006, 0.43)
"""S/m of brain, CSF, skull and scalp; the inversion takes the template's three."""

RATE = 250.0
"""Samples per second."""

HALF_WINDOW = 0.01
"""s before and after the truth's peak over which maps are averaged."""

FOUND_RADIUS = 0.02
"""Largest distance in m from the truth at which a peak counts as found."""

CLASSICAL = {"MNE": ("1/9", "gcv", "l-curve"), "dSPM": ("1/9",)}
"""Classical answers, and how their λ is chosen."""

SHOWN = f"MNE, {CHOICES['1/9']}"
"""The one that is drawn beside a posterior."""

HEADS = 16
"""Heads that the error of the inversion's lead field is learned from."""

ANSWER_HEADS = ("answer", "place (MRI mm)", "off", "how sure")

Stage = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True, eq=False)
class Demo:
    """A simulated recording on the template head, and the lead field that it is inverted with.

    simulation : recording, truth and the truth's lead field
    lead_field : of the inversion, average reference, free orientation
    nearest : (source,), the inversion's sources that are nearest to a vertex of the truth
    """

    simulation: Simulation
    lead_field: LeadField
    nearest: Index

    @property
    def window(self) -> tuple[float, float]:
        """Start and stop in s of the window about the truth's peak."""
        peak = self.simulation.truth.peak_time
        return peak - HALF_WINDOW, peak + HALF_WINDOW

    @property
    def centre_mri(self) -> Array:
        """Centre (3,) of the truth in m, MRI coordinates."""
        truth = self.simulation.truth
        found = truth.sources.in_mri(truth.centre)
        assert found is not None
        return found

    def facts(self) -> dict[str, Any]:
        """Return the truth of the simulation as plain numbers."""
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
            positions = dict(zip(sensors.names, sensors.positions, strict=True))
            info.set_montage(mne.channels.make_dig_montage(positions, coord_frame="head"))
            evoked = mne.EvokedArray(recording.field, info, tmin=float(recording.times[0]), comment="simulated", nave=1)
            evoked.set_eeg_reference("average", projection=True)
            noise = self.simulation.noise.covariance
            covariance = mne.Covariance(noise, names, [], evoked.info["projs"], nfree=1000)
            solution = self.lead_field.to_mne(evoked.info)
        return evoked, solution, covariance


def simulate_demo(
    spacing: str = "oct5",
    electrodes: int = 64,
    snr: float = 0.5,
    rng: Randomness = None,
    stage: Stage = lambda name: nullcontext(),
) -> Demo:
    """Return a simulated recording of a patch in the left hand area, with another head than the inversion's.

    spacing : of the inversion's sources, see `template_cortex.sources`
    electrodes : 32 or 64
    snr : power of the signal over that of the noise, whitened, per component and sample of the response
    rng : of the noise; a generator or a seed, 0 if None
    stage : context manager that is entered with the name of each step

    Lead fields are read from the cache where they are in it.

    Raises
    ------
    ValueError
        If there is no such spacing or number of electrodes, or the ratio is not positive.
    """
    with stage("template head"):
        grid = template_cortex.sources(spacing)
        sensors = template_cortex.electrodes(electrodes)
        cortex = template_cortex.cortex()
    with stage("lead field"):
        lead_field = template_lead_field.lead_field(grid, sensors).rereference("average")
    with stage("truth"):
        times = np.arange(round(-0.2 * RATE), round(0.4 * RATE) + 1) / RATE
        assert cortex.mri_positions is not None
        centre = cortex.positions[cKDTree(cortex.mri_positions).query(ACTIVE_MRI)[1]]
        truth = patch_truth(cortex, centre, times, avoid=grid)
        true_field = true_lead_field(truth.sources, sensors).rereference("average")
    with stage("simulate"):
        rng = generator_of(rng)
        simulation = record(truth, true_field, correlated_covariance(sensors), rng, snr=snr)
    return Demo(simulation, lead_field, np.unique(cKDTree(grid.positions).query(truth.sources.positions)[1]))


def true_lead_field(sources: Sources, sensors: Sensors, resolution: str = "fine") -> LeadField:
    """Return the lead field of the template head by finite elements, with CSF below the skull; it is cached.

    resolution : of the mesh, see `template_mesh.finite_elements`
    """

    def solve() -> LeadField:
        from bayesinv.forward.fem_transfer import transfer

        head = template_mesh.finite_elements(resolution, TRUE_CONDUCTIVITIES)
        return transfer(head, sensors, cache=gain_files.transfer_folder()).lead_field(sources)

    # The key holds what the mesh is made from, as making the mesh would dominate the time of a second run.
    mesh = (
        template_mesh.CSF_THICKNESS,
        *np.array(template_mesh.RESOLUTIONS[resolution]),
        template.surfaces(3)[-1].vertices,
    )
    return gain_files.cached_lead_field(
        solve, sensors, sources, "finite elements", *mesh, np.array(TRUE_CONDUCTIVITIES)
    )


def head_error(demo: Demo, progress: bool = False) -> ForwardError:
    """Return the mean of lead fields of uncertain heads, and what they vary by; they are computed once.

    They have CSF below the skull, the inversion's own head has not.

    progress : show a progress bar
    """
    gain = demo.lead_field
    head = template_mesh.boundary_elements()
    return forward_error(head, gain.sensors, gain.sources, HEADS, anisotropy=ANISOTROPY, progress=progress)


def scores(
    demo: Demo,
    posterior: Posterior,
    peaks: Mapping[str, Peak],
    maps: Mapping[str, Array],
    beside: Beside | None = None,
) -> dict[str, dict[str, Any]]:
    """Return each answer's peak, its distance from the truth's centre, and whether its credible set holds the truth.

    peaks : name to posterior of the peak's position; of focal sources none is asked, as each has a statement of its own
    maps : name to (source,) map of a point estimate
    beside : distributed currents beside focal sources
    """
    sources, truth = demo.lead_field.sources, demo.simulation.truth
    assert sources.mri_positions is not None
    positions_mm = 1e3 * sources.mri_positions
    distance = np.linalg.norm(sources.positions - truth.centre, axis=1)

    def at_peak(source: int) -> dict[str, Any]:
        return {"peak_mri_mm": positions_mm[source].round(1).tolist(), "off_mm": 1e3 * float(distance[source])}

    answers: dict[str, dict[str, Any]] = {name: at_peak(int(np.argmax(table))) for name, table in maps.items()}
    if posterior.active is not None:
        likely = likely_foci(averaged(posterior, demo.window))
        answers |= {f"focal source {i}": _focus(demo, one) for i, one in enumerate(likely, 1)}
    for name, peak in peaks.items() if posterior.active is None else ():
        # The ball is centred on the strongest mean, so that the draws do not choose its centre.
        radius = peak.radius(LEVEL)
        answers[f"posterior mean, {name}"] = {
            **at_peak(peak.strongest),
            "level": LEVEL,
            "radius_mm": 1e3 * radius,
            "ball_holds_truth": bool(distance[peak.strongest] <= radius),
            "probability_near_truth": float(peak.probability[distance <= FOUND_RADIUS].sum()),
            "probability_by_chance": float(np.mean(distance <= FOUND_RADIUS)),
        }
    if posterior.active is None:
        answers["current of the patch"] = _current(demo, posterior)
    if beside is not None:
        answers["current of the patch, distributed"] = _current(demo, beside.distributed)
    return answers


def _focus(demo: Demo, focus: Focus) -> dict[str, Any]:
    """What is known of a focal source: how surely it is there and where, and its mean current in the window.

    focus : of the posterior of the mean over the window
    """
    assert focus.centre is not None
    centre_mri = demo.lead_field.sources.in_mri(focus.centre)
    assert centre_mri is not None
    off, radius = float(np.linalg.norm(focus.centre - demo.simulation.truth.centre)), focus.radius(LEVEL)
    return {
        "peak_mri_mm": (1e3 * centre_mri).round(1).tolist(),
        "off_mm": 1e3 * off,
        "probability": focus.probability,
        "radius_mm": 1e3 * radius,
        "ball_holds_truth": off <= radius,
        **_against(demo, focus.current),
    }


def _current(demo: Demo, posterior: Posterior) -> dict[str, Any]:
    """What a posterior says of the sum of currents at the truth's place, and what is true, in the window."""
    weights = np.zeros(len(demo.lead_field.sources))
    weights[demo.nearest] = 1.0
    return _against(demo, posterior.contrast(weights, demo.window))


def _against(demo: Demo, current: Functional) -> dict[str, Any]:
    """What is known of a mean current in the window, and what is true."""
    truth = demo.simulation.truth
    low, high = (1e9 * float(bound[0, 0]) for bound in current.interval(LEVEL))
    inside = (truth.times >= demo.window[0]) & (truth.times <= demo.window[1])
    moment = 1e9 * float(truth.course[inside].mean())
    return {
        "level": LEVEL,
        "interval_nAm": [low, high],
        "mean_nAm": 1e9 * float(current.mean[0, 0]),
        "truth_nAm": moment,
        "interval_holds_truth": low <= moment <= high,
        "sign_probability": min(float(current.exceedance(0.0)[0, 0]), 1.0),
    }


def rows(demo: Demo, found: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return the truth and the answers as rows of a table with the columns `ANSWER_HEADS`."""

    def in_words(position: ArrayLike) -> str:
        return f"({', '.join(f'{x:.0f}' for x in np.asarray(position))})".replace("-", "−")

    table: list[tuple[str, ...]] = [("truth", in_words(1e3 * demo.centre_mri), "", "")]
    for name, answer in found.items():
        if "off_mm" not in answer:
            continue
        statement = "no statement"
        if "probability" in answer:
            statement = (
                f"{not_certain(answer['probability'])} probable there; {LEVEL:.0%} ball of "
                f"{answer['radius_mm']:.0f} mm {_holds(answer['ball_holds_truth'])}"
            )
        elif "radius_mm" in answer:
            statement = (
                f"{LEVEL:.0%} ball of {answer['radius_mm']:.0f} mm {_holds(answer['ball_holds_truth'])}; "
                f"{answer['probability_near_truth']:.2f} within {1e3 * FOUND_RADIUS:.0f} mm of it "
                f"({answer['probability_by_chance']:.2f} by chance)"
            )
        table.append((name, in_words(answer["peak_mri_mm"]), f"{answer['off_mm']:.0f} mm", statement))
    return table


def words(demo: Demo, found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the paragraphs below the table."""
    facts, paragraphs = demo.facts(), []
    focal = "current of the patch, distributed" in found
    times = demo.simulation.truth.times
    start, *_, stop = times[(times >= demo.window[0]) & (times <= demo.window[1])]
    for name, answer in found.items():
        if "interval_nAm" not in answer:
            continue
        (low, high), sign = answer["interval_nAm"], round(answer["sign_probability"], 3)
        by = ", by distributed currents" if "distributed" in name else ""
        whose = f"Current of {name}" if name.startswith("focal") else f"Current of the active patch{by}"
        paragraphs.append(
            f"{whose}, mean of {1e3 * start:.0f} to {1e3 * stop:.0f} ms: {low:.2f} to {high:.2f} nA m ({LEVEL:.0%} "
            f"interval), positive with probability {sign if sign < 1 else 'above 0.999'}; the truth's mean is "
            f"{answer['truth_nAm']:.1f} nA m, and the interval {_holds(answer['interval_holds_truth'])}."
        )
    spread = found.get("current of the patch" + ", distributed" * focal)
    if spread is not None and not spread["interval_holds_truth"]:
        paragraphs.append(
            "An interval is as good as the prior behind it: distributed currents take all of the cortex to be equally "
            "active, so that a focal current is spread over many sources, and its size cannot be estimated."
        )
    if focal:
        low, high = RANGES["skull"]
        paragraphs.append(
            "How large a current is that makes a field depends on the head. Focal sources were inferred with an "
            f"uncertain one, with fluid below a skull that conducts {low:g} to {high:g} S/m, brain and scalp that "
            "conduct what the literature has, and electrodes some millimetres off. What that does to all fields alike "
            "is learned. MNE and distributed currents take the inversion's head for known."
        )
    paragraphs.append(
        f"Simulated: {facts['notes']['truth']}, at {1e3 * facts['peak_s']:.0f} ms; power ratio of signal to noise "
        f"{facts['snr']:.3g} per whitened component; noise {facts['noise_uV']:.2g} µV."
    )
    paragraphs.append(
        "Truth and inversion differ in their sources, in the fluid below the skull, in their conductivities and in how "
        f"their lead field was computed. Truth: {_method(facts['notes'])}. Inversion: {_method(facts['inversion'])}."
    )
    return paragraphs


def _holds(covered: bool) -> str:
    return "holds the truth" if covered else "does not hold the truth"


def _method(notes: Mapping[str, str]) -> str:
    """How a lead field was computed, in words."""
    method = notes.get("method") or notes.get("solver", "")
    parts = [method, *(notes[key] for key in ("mesh nodes", "mesh", "conductivities") if key in notes)]
    return "; ".join(text + (" nodes" if text.isdigit() else "") for text in parts)


def page(demo: Demo, found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the truth and the answers as HTML."""
    text = "".join(f"<p>{escape(part)}</p>" for part in words(demo, found))
    return html_table(ANSWER_HEADS, rows(demo, found), numbers=False) + text
