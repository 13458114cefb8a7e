"""Evaluation: every method on every truth, without the inverse crime, resumed where it was left.

A configuration spans a matrix of truths, signal-to-noise ratios, methods and seeds. Every cell of it is a simulation,
an answer and its scores, kept as a file of its own that is named by all that it depends on.
"""

from __future__ import annotations

import hashlib
import json
import time
import tomllib
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesinv.atomic import write_whole
from bayesinv.axes import Array, Index, one_of
from bayesinv.classical.baseline import METHODS as CLASSICAL
from bayesinv.classical.baseline import baseline
from bayesinv.classical.criteria import CHOICES
from bayesinv.classical.estimate import Estimate
from bayesinv.classical.minimum_norm import tikhonov
from bayesinv.criticism.prior_draws import Prior
from bayesinv.forward import template_lead_field
from bayesinv.forward.leadfield import LeadField
from bayesinv.head import template, template_cortex, template_mesh
from bayesinv.head.conductivities import ANISOTROPY
from bayesinv.head.head import Head
from bayesinv.head.parcels import parcels
from bayesinv.head.sources import Sources
from bayesinv.head.template_cortex import LAYOUTS
from bayesinv.memory import Memory
from bayesinv.posterior.posterior import Posterior
from bayesinv.posterior.quantiles import credible_level
from bayesinv.prior.catalogue import find_model
from bayesinv.problem.model_error import ForwardError, forward_error
from bayesinv.problem.problem import Problem
from bayesinv.progress import bars, counted
from bayesinv.scoring.coverage import LEVELS, Pit
from bayesinv.scoring.projection import nearest
from bayesinv.scoring.reliability import Reliability
from bayesinv.scoring.score import score
from bayesinv.scoring.tally import Tally
from bayesinv.simulation.courses import burst
from bayesinv.simulation.inverse_crime import same_lead_field
from bayesinv.simulation.noise import NoiseProcess, background_noise, blend, correlated_covariance, gaussian_noise
from bayesinv.simulation.places import random_places
from bayesinv.simulation.recording import simulate as record
from bayesinv.simulation.truth import Truth, together
from bayesinv.simulation.truths import dipole_truth, patch_truth, prior_truth, sparse_truth, spike_truth
from bayesinv.simulation.world import draw_world
from bayesinv.wording import percent

if TYPE_CHECKING:
    import pandas as pd

CRIME = "inverse crime"
PREFIX = "inverse-crime-"
"""Before the name of every file of an evaluation in which the inversion has the truth's own lead field."""

PRIOR = "prior: "
"""Before the name of the model that a truth is drawn from."""

SPACINGS = ("ico3", "ico4", "oct4", "oct5", "oct6")
HEADS, WORLDS, NOISES = ("template", "sphere"), ("template", "inversion"), ("white", "correlated", "brain")
RADII, ECCENTRICITY = (0.078, 0.082, 0.09), 0.95
"""m, of the sphere head; and where in its innermost sphere the outermost source lies."""

SETTINGS = Memory("lead fields of evaluations")

MODEL, BASELINE, REFEREE = "model", "classical", "referee"

Estimator = Callable[[Problem, Truth], "Posterior | Estimate"]
"""From a problem, and the truth for referees that peek, to an answer."""


# --- truths -----------------------------------------------------------------------------------------------


def _dipole(cortex: Sources, times: Array, rng: np.random.Generator) -> Truth:
    return dipole_truth(cortex, random_places(cortex, 1, rng), times)


def _dipoles(cortex: Sources, times: Array, rng: np.random.Generator) -> Truth:
    places = random_places(cortex, 3, rng)
    return together(*(dipole_truth(cortex, place, times, moment=rng.uniform(10e-9, 30e-9)) for place in places))


def _patch(cortex: Sources, times: Array, rng: np.random.Generator) -> Truth:
    return patch_truth(cortex, random_places(cortex, 1, rng)[0], times, area=6e-4)


def _patches(cortex: Sources, times: Array, rng: np.random.Generator) -> Truth:
    return together(*(patch_truth(cortex, one, times, area=6e-4) for one in random_places(cortex, 2, rng, apart=0.06)))


def _spike(cortex: Sources, times: Array, rng: np.random.Generator) -> Truth:
    onset, spread = random_places(cortex, 2, rng, apart=0.06)
    return spike_truth(cortex, onset, spread, times)


def _everywhere(cortex: Sources, times: Array, rng: np.random.Generator) -> Truth:
    current = 1e-9 * rng.standard_normal((len(cortex), len(times)))
    return replace(prior_truth(cortex, current, times), notes={"truth": "independent currents at every source"})


TRUTHS: dict[str, Callable[[Sources, Array, np.random.Generator], Truth]] = {
    "dipole": _dipole,
    "dipoles": _dipoles,
    "patch": _patch,
    "patches": _patches,
    "spike": _spike,
    "sparse": sparse_truth,
    "bursts": partial(sparse_truth, course=burst),
    "everywhere": _everywhere,
}
"""Truths by name: one dipole, three; a patch of 6 cm², two; a spike that propagates; five sources of all, with
sinusoids of 1 to 5 Hz, or bursts of such; all sources, independent of each other. "prior: MODEL" draws from a model's
prior."""


# --- the configuration ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Configuration:
    """A matrix of truths, signal-to-noise ratios, methods and seeds, and the worlds they live in.

    title : for people
    truths : names in `TRUTHS`, or "prior: MODEL"
    snr : power of the signal over that of the noise, see `simulate`; or alpha, ‖noise‖ / ‖signal‖ = (1 - alpha) / alpha
    models : names of shipped models, or paths of .py files
    baselines : methods of `baseline`, and choices of λ of `tikhonov`; their intervals are naive
    seeds : one world, and one truth of every kind, each; a number stands for as many
    forward_error : whether models learn the lead field's error: false, true or both
    world : "template" draws the truth's head as `draw_world` does; "inversion" takes the inversion's own lead field
    head : of the inversion: "template" (boundary elements), or "sphere", in which the template's cortex is shrunk
    spacing : of the inversion's cortex; electrodes : 32 or 64
    truth_spacing, resolution : of the truth's cortex and its finite elements
    draws : lead fields behind the forward error
    error_solver : of those: "fem", the template with fluid below the skull, or "bem", as the inversion's
    noise : "white"; "correlated" over sensors; "brain" is half that and half background activity, both 1/f over time,
        its covariance estimated from other noise
    duration, baseline, rate : of the response and of the noise before it, s; and samples per second
    samples : of the response that are scored, evenly spread; all of them take longer than the answers
    regions : parcels whose mean currents are scored
    level : of intervals
    allow_inverse_crime : whether the inversion may have the truth's lead field; everything is stamped then

    Raises
    ------
    ValueError
        If a name is unknown, a number lies outside its range, the matrix is empty, or parts do not go together.
    """

    title: str
    truths: tuple[str, ...]
    seeds: tuple[int, ...]
    snr: tuple[float, ...] = ()
    alpha: tuple[float, ...] = ()
    models: tuple[str, ...] = ()
    baselines: tuple[str, ...] = ()
    forward_error: tuple[bool, ...] = (False,)
    world: str = "template"
    head: str = "template"
    spacing: str = "oct4"
    electrodes: int = 64
    truth_spacing: str = "ico4"
    resolution: str = "coarse"
    draws: int = 20
    error_solver: str = "fem"
    noise: str = "correlated"
    duration: float = 0.4
    baseline: float = 0.2
    rate: float = 250.0
    samples: int = 25
    regions: int = 30
    level: float = 0.9
    allow_inverse_crime: bool = False

    def __post_init__(self) -> None:
        for name in ("truths", "seeds", "snr", "alpha", "models", "baselines", "forward_error"):
            given = getattr(self, name)
            if name == "seeds" and isinstance(given, int) and not isinstance(given, bool):
                given = range(given)
            given = (given,) if isinstance(given, str | float | int) else given
            object.__setattr__(self, name, tuple(dict.fromkeys(given)))
        self._check_names()
        self._check_numbers()
        if self.head == "sphere" and self.world == "template":
            raise ValueError(
                "head 'sphere' has a shrunk cortex, which no other world shares; it wants world 'inversion'"
            )
        if self.world == "inversion" and any(self.forward_error):
            raise ValueError("with world 'inversion' the lead field has no error; leave forward_error out")

    def _check_names(self) -> None:
        for name in self.truths:
            if name.startswith(PRIOR):
                find_model(name.removeprefix(PRIOR))
            else:
                one_of("truth", name, TRUTHS, f", and '{PRIOR}MODEL'")
        for name in self.models:
            find_model(name)
        for name in self.baselines:
            one_of("baseline", name, (*CLASSICAL, *CHOICES))
        for what, given, known in (
            ("world", self.world, WORLDS),
            ("head", self.head, HEADS),
            ("noise", self.noise, NOISES),
            ("error_solver", self.error_solver, ("bem", "fem")),
            ("resolution", self.resolution, template_mesh.RESOLUTIONS),
            ("spacing", self.spacing, SPACINGS),
            ("truth_spacing", self.truth_spacing, SPACINGS),
        ):
            one_of(what, given, known)
        if self.electrodes not in LAYOUTS:
            raise ValueError(
                f"electrodes is {self.electrodes}, but there are layouts of {' and '.join(map(str, LAYOUTS))}"
            )

    def _check_numbers(self) -> None:
        drawn = all(name.startswith(PRIOR) for name in self.truths)
        if not (self.truths and self.seeds and self.forward_error and (drawn or self.snr or self.alpha)):
            raise ValueError("the matrix is empty: it wants at least one of truths, seeds, and snr or alpha")
        if self.snr and self.alpha:
            raise ValueError("snr and alpha both say how loud the noise is; give one of them")
        for name, low, high in (("snr", 0.0, np.inf), ("alpha", 0.0, 1.0)):
            for value in getattr(self, name):
                if not low < value < high:
                    raise ValueError(f"{name} is {value}, but must be positive" + f" and below {high:g}" * (high == 1))
        for seed in self.seeds:
            if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
                raise ValueError(f"seed is {seed}, but must be a whole number of at least 0")
        for name in ("duration", "rate"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be positive")
        if not 0 <= self.baseline < np.inf or self.draws < 2 or min(self.samples, self.regions) < 1:
            raise ValueError(
                f"baseline {self.baseline} s must be at least 0, draws {self.draws} at least 2, samples "
                f"{self.samples} and regions {self.regions} at least 1"
            )
        credible_level(self.level)

    @classmethod
    def of(cls, given: Configuration | str | PathLike[str] | Mapping[str, Any]) -> Configuration:
        """Return a checked configuration from a dict, a TOML file or the name of a shipped one.

        Raises
        ------
        ValueError
            If there is no such file or configuration, it is no TOML, or a key is unknown or missing.
        """
        if isinstance(given, Configuration):
            return given
        if not isinstance(given, Mapping):
            path, shipped = Path(given), shipped_configurations()
            if path.suffix != ".toml":
                path = shipped[one_of("configuration", str(given), shipped, ", or give the path of a .toml file")]
            try:
                given = tomllib.loads(path.read_text(encoding="utf-8"))
            except OSError:
                raise ValueError(f"there is no configuration {path}; shipped are {', '.join(shipped)}") from None
            except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
                raise ValueError(f"{path} is no TOML: {error}") from None
        known = [one.name for one in fields(cls)]
        for key in given:
            one_of("key", key, known)
        missing = [key for key in ("title", "truths", "seeds") if key not in given]
        if missing:
            raise ValueError(f"the configuration lacks {', '.join(missing)}")
        for one in fields(cls):
            if one.name in given:
                _check_type(one.name, given[one.name], str(one.type))
        return cls(**given)

    @property
    def crime(self) -> bool:
        """Whether some truths are made with the inversion's own lead field, by what the configuration says."""
        return self.world == "inversion" or any(name.startswith(PRIOR) for name in self.truths)

    @property
    def loudness(self) -> tuple[tuple[str, float], ...]:
        """What the noise is scaled by: ("snr" or "alpha", value)."""
        return tuple(("snr", one) for one in self.snr) + tuple(("alpha", one) for one in self.alpha)

    def cells(self, referees: Iterable[str] = ()) -> list[Cell]:
        """Every cell of the matrix; baselines and referees do without the forward error."""
        methods = [(name, MODEL, lost) for lost in self.forward_error for name in self.models]
        methods += [(name, BASELINE, False) for name in self.baselines]
        methods += [(name, REFEREE, False) for name in referees]
        if not methods:
            raise ValueError("the matrix is empty: it wants at least one of models and baselines")
        return [
            Cell(truth, how, loud, seed, name, kind, lost)
            for seed in self.seeds
            for truth in self.truths
            for how, loud in ([("drawn", 0.0)] if truth.startswith(PRIOR) else self.loudness)
            for name, kind, lost in methods
            # A truth drawn with the inversion's lead field has no error of it.
            if not (lost and truth.startswith(PRIOR))
        ]


def _check_type(name: str, value: Any, kind: str) -> None:
    """Raise unless a value of a configuration has the type that its field says, or is one of several."""
    wanted = {"str": str, "int": int, "float": (int, float), "bool": bool}
    inner = kind.removeprefix("tuple[").split(",")[0].rstrip("]")
    several = kind.startswith("tuple")
    values = list(value) if several and isinstance(value, list | tuple | range) else [value]
    for one in values:
        if not isinstance(one, wanted[inner]) or (isinstance(one, bool) and inner != "bool"):  # type: ignore[arg-type]
            raise ValueError(f"{name} is {value!r}, but wants {'a list of ' * several}{inner}")


def shipped_configurations() -> dict[str, Path]:
    """Configurations that come with the library, by name."""
    folder = Path(__file__).parent / "configurations"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


@dataclass(frozen=True)
class Cell:
    """One answer to one simulation.

    how, loud : "snr" or "alpha" and its value; "drawn" and 0 where a prior says
    method, kind : name, and whether it is a model, a classical estimate or a referee
    forward_error : whether the lead field's error is learned
    """

    truth: str
    how: str
    loud: float
    seed: int
    method: str
    kind: str
    forward_error: bool

    @property
    def name(self) -> str:
        """The method, for people."""
        return Path(self.method).stem + " + forward error" * self.forward_error


# --- one cell ---------------------------------------------------------------------------------------------


def _rng(*words: Any) -> np.random.Generator:
    """A generator that depends on words, not on the order in which cells are run."""
    return np.random.default_rng(int(hashlib.sha256(repr(words).encode()).hexdigest()[:16], 16))


@dataclass(frozen=True, eq=False)
class _Setting:
    """What all cells of a configuration share: the inversion's lead field, and which source lies in which region."""

    lead_field: LeadField
    head: Head
    regions: Mapping[str, Index]


@SETTINGS.keep
def _setting(configuration: Configuration) -> _Setting:
    grid, sensors = template_cortex.sources(configuration.spacing), template_cortex.electrodes(configuration.electrodes)
    if configuration.head == "sphere":
        from bayesinv.forward.sphere import lead_field as sphere

        # The cortex of the template in a sphere: its shape stays, its size is what fits.
        centre = (grid.positions.max(axis=0) + grid.positions.min(axis=0)) / 2
        about = grid.positions - centre
        about *= ECCENTRICITY * RADII[0] / np.linalg.norm(about, axis=1).max()
        away = sensors.positions - centre
        away *= RADII[-1] / np.linalg.norm(away, axis=1, keepdims=True)
        grid, sensors = replace(grid, positions=about), replace(sensors, positions=away)
        head = Head.spheres(RADII, [float(np.mean(one)) for one in template.CONDUCTIVITIES], template.NAMES)
        gain = sphere(head, sensors, grid)
    else:
        head = template.head()
        gain = template_lead_field.lead_field(grid, sensors)
    labels = parcels(grid, min(configuration.regions, len(grid)))
    regions = {f"region {k}": np.flatnonzero(labels == k) for k in range(labels.max() + 1)}
    return _Setting(gain.rereference("average").fixed(), head, regions)


@SETTINGS.keep
def _error(configuration: Configuration) -> ForwardError:
    """The error of the inversion's lead field; the same for all cells, as an analyst would have it."""
    setting = _setting(configuration)
    mine, detailed = setting.lead_field, configuration.error_solver == "fem"
    head = template_mesh.finite_elements("coarse") if detailed else setting.head
    anisotropy = ANISOTROPY if detailed else None
    draws, rng = configuration.draws, _rng("forward error")
    return forward_error(head, mine.sensors, mine.sources, draws, rng, anisotropy=anisotropy)


@SETTINGS.keep
def _world(configuration: Configuration, seed: int) -> LeadField:
    """The truth's lead field."""
    mine = _setting(configuration).lead_field
    if configuration.world == "inversion":
        return mine
    options: dict[str, Any] = {"spacing": configuration.truth_spacing, "resolution": configuration.resolution}
    return draw_world(_rng("world", seed), sensors=mine.sensors, avoid=mine.sources, **options).lead_field


def _prepared(configuration: Configuration, seed: int) -> bool:
    """Have the world of a seed computed; tell whether its lead field is the inversion's."""
    return same_lead_field(_world(configuration, seed), _setting(configuration).lead_field)


def _times(configuration: Configuration) -> Array:
    before = round(configuration.baseline * configuration.rate)
    after = round(configuration.duration * configuration.rate)
    return np.arange(-before, max(after, 1)) / configuration.rate


def _noise(configuration: Configuration, world: LeadField) -> NoiseProcess:
    if configuration.noise == "white":
        return gaussian_noise(_averaged(np.eye(len(world.sensors))))
    exponent = 1.0 if configuration.noise == "brain" else 0.0
    sensor = gaussian_noise(_averaged(correlated_covariance(world.sensors)), exponent=exponent)
    if configuration.noise == "correlated":
        return sensor
    return blend([replace(sensor, names=world.sensors.names), background_noise(world)], [0.5, 0.5])


def _averaged(covariance: Array) -> Array:
    """Covariance of electrodes against their average."""
    centred = covariance - covariance.mean(axis=0)
    return np.asarray(centred - centred.mean(axis=1, keepdims=True))


def _scene(configuration: Configuration, cell: Cell) -> tuple[Truth, Problem, float]:
    """Truth, problem of the inversion, and signal-to-noise ratio of a cell; the same for all its methods."""
    times, mine = _times(configuration), _setting(configuration).lead_field
    if cell.truth.startswith(PRIOR):
        return _drawn(configuration, cell, times, mine)
    world = _world(configuration, cell.seed)
    # Other ratios have the same truth and the same noise, louder.
    rng = _rng(cell.truth, cell.seed)
    truth = TRUTHS[cell.truth](world.sources, times, rng)
    loudness: dict[str, Any] = {cell.how: cell.loud}
    made = record(truth, world, _noise(configuration, world), rng, **loudness)
    return truth, made.problem(mine), made.snr


def _drawn(configuration: Configuration, cell: Cell, times: Array, mine: LeadField) -> tuple[Truth, Problem, float]:
    """A truth, and its recording, from a model's prior."""
    model, rng, after = cell.truth.removeprefix(PRIOR), _rng(cell.truth, cell.seed), times[times >= 0]
    # Only the size of its recording and baseline, and the whitener, play a part.
    field = 1e-6 * _averaged(np.eye(len(mine.sensors))) @ rng.standard_normal((len(mine.sensors), len(times)))
    before = times < 0
    blank = Problem.from_arrays(
        mine.gain[:, :, 0],
        field[:, ~before],
        _averaged(1e-12 * np.eye(len(field))),
        times=after,
        baseline=field[:, before] if before.any() else None,
        sources=mine.sources,
        sensors=mine.sensors,
    )
    prior = Prior.of(model, blank, 1, rng)
    current, problem = prior.truth(0, rng)
    return prior_truth(mine.sources, current, after, model=model), problem, float(prior.hyper["snr"][0]) ** 2


def _answer(
    cell: Cell, configuration: Configuration, problem: Problem, truth: Truth, referees: Mapping[str, Estimator]
) -> Posterior | Estimate:
    if cell.kind == REFEREE:
        return referees[cell.method](problem, truth)
    if cell.kind == BASELINE:
        if cell.method in CHOICES:
            return tikhonov(problem, cell.method)
        return baseline(problem, cell.method, covariance="recording" if cell.method == "LCMV" else None)
    from bayesinv.inference.infer import infer

    if cell.forward_error:
        problem = _error(configuration).apply(problem)
    return infer(cell.method, problem, rng=_rng("infer", cell.seed))


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


def _run(
    configuration: Configuration, cell: Cell, place: Path, crime: bool, referees: Mapping[str, Estimator]
) -> Result | str:
    """Run a cell and keep it; what it raises is returned, as the other cells are not to be lost with it."""
    try:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            truth, problem, snr = _scene(configuration, cell)
            started = time.perf_counter()
            result = _answer(cell, configuration, problem, truth, referees)
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
    regions = _setting(configuration).regions
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


# --- all cells --------------------------------------------------------------------------------------------


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
        raise ValueError(_crime("truths are made with the inversion's own lead field, as the configuration says"))
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
                _error(chosen)
                advance(1)
            _setting(chosen)
            worlds = Parallel(n_jobs=jobs, return_as="generator")(delayed(_prepared)(chosen, seed) for seed in seeds)
            same = dict(zip(seeds, counted(worlds, begin("worlds", len(seeds))), strict=True))
            if any(same.values()) and not chosen.allow_inverse_crime:
                raise ValueError(
                    _crime(f"the world of seed {next(k for k in same if same[k])} has the inversion's gain")
                )
            tasks = (
                delayed(_run)(
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


def _crime(why: str) -> str:
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
    write_whole(mark, (json.dumps(given, indent=2, ensure_ascii=False) + "\n").encode())


# --- what came of it --------------------------------------------------------------------------------------

BETTER_LARGE = ("area_under_curve", "average_precision", "map_correlation", "course_correlation")
"""Point scores of which more is better; of `BETTER_SMALL`, in m, less is."""

BETTER_SMALL = ("peak_error", "centre_error", "deviation", "earth_movers_distance")

LOCALISATION = ("peak_error", "earth_movers_distance", "deviation", "area_under_curve")
STRATA = ("all", "active", "inactive", "regions", "active regions")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Scores of every method on every truth.

    configuration : what was run
    results : one per cell
    failures : what cells raised
    """

    configuration: Configuration
    results: list[Result] = field(repr=False)
    failures: tuple[str, ...] = ()

    @property
    def crime(self) -> bool:
        """Whether some inversion had the truth's own lead field."""
        return any(one.crime for one in self.results)

    @property
    def table(self) -> pd.DataFrame:
        """One row per cell; "inverse crime" is a column."""
        import pandas as pd

        rows = []
        for one in self.results:
            about = {**asdict(one.cell), "method": one.cell.name, CRIME: one.crime, "power snr": one.snr}
            rows.append({**about, "seconds": one.seconds, **one.row, "unsure": "; ".join(one.unsure)})
        return pd.DataFrame(rows)

    def pooled(self) -> dict[tuple[str, str, float, str], dict[str, Tally]]:
        """Tallies by (truth, how, loud, method), pooled over seeds."""
        out: dict[tuple[str, str, float, str], dict[str, Tally]] = {}
        for one in self.results:
            group = out.setdefault((one.cell.truth, one.cell.how, one.cell.loud, one.cell.name), {})
            _pool(group, one.tallies)
        return out

    @property
    def summary(self) -> pd.DataFrame:
        """One row per truth, noise and method: means of point scores, and calibration pooled over seeds.

        Currents in A m, distances in m; nan where a method makes no claim.
        """
        import pandas as pd

        pools, rows = self.pooled(), []
        for (truth, how, loud, method), tallies in pools.items():
            mine = [
                one
                for one in self.results
                if (one.cell.truth, one.cell.how, one.cell.loud, one.cell.name) == (truth, how, loud, method)
            ]
            row: dict[str, Any] = {"truth": truth, how if how != "drawn" else "snr": loud or np.nan, "method": method}
            row |= {CRIME: any(one.crime for one in mine), "cells": len(mine)}
            row |= {name: _mean([one.row[name] for one in mine]) for name in LOCALISATION}
            for stratum in STRATA:
                plain = tallies[stratum].row() if stratum in tallies else {}
                for name in ("coverage", "crps", "interval_score", "log_score", "mad", "aggregated_mad", "brier"):
                    row[f"{stratum}: {name}"] = plain.get(name, np.nan)
            row["seconds"] = _mean([one.seconds for one in mine])
            rows.append(row)
        return pd.DataFrame(rows)

    @property
    def curves(self) -> pd.DataFrame:
        """Coverage at every level, pooled over seeds: a long table."""
        import pandas as pd

        rows = [
            {
                "truth": truth,
                "how": how,
                "loud": loud or np.nan,
                "method": method,
                CRIME: self.crime,
                "stratum": stratum,
                "kind": kind,
                "level": float(level),
                "coverage": float(share),
                "count": pit.count,
            }
            for (truth, how, loud, method), tallies in self.pooled().items()
            for stratum, tally in tallies.items()
            for kind, pit in (("pointwise", tally.pit), ("aggregated", tally.aggregated))
            for level, share in zip(LEVELS, pit.coverage(), strict=True)
        ]
        return pd.DataFrame(rows)

    def ranking(self, by: str = "area_under_curve") -> pd.Series:
        """Mean of a point score by method over all cells, the best first.

        Raises
        ------
        ValueError
            If there is no such score.
        """
        one_of("score", by, (*BETTER_LARGE, *BETTER_SMALL))
        return self.table.groupby("method")[by].mean().sort_values(ascending=by in BETTER_SMALL)

    @property
    def page(self) -> str:
        """Name of the page about it, which tells an inverse crime."""
        return f"{PREFIX if self.crime else ''}report.html"

    def cells_for_people(self) -> tuple[list[str], list[tuple[str, ...]]]:
        """The summary as heads and rows of words: mm, nA m, per cent."""
        table = self.summary
        loud = [name for name in ("snr", "alpha") if name in table and table[name].notna().any()]
        columns: list[tuple[str, str, float, str]] = [(name, name, 1.0, "{:g}") for name in loud]
        columns += [("peak off, mm", "peak_error", 1e3, "{:.0f}"), ("EMD, mm", "earth_movers_distance", 1e3, "{:.0f}")]
        columns += [("AUC", "area_under_curve", 1.0, "{:.2f}")]
        level = percent(self.configuration.level)
        columns += [(f"{level} covers, {name}", f"{name}: coverage", 100.0, "{:.1f}") for name in STRATA[1:]]
        columns += [(f"CRPS {name}, nA·m", f"{name}: crps", 1e9, "{:.3g}") for name in ("active", "all")]
        columns += [("MAD", "all: mad", 1.0, "{:.4f}"), ("MAD aggregated", "all: aggregated_mad", 1.0, "{:.4f}")]
        columns += [("s", "seconds", 1.0, "{:.2f}")]
        rows = []
        for _, row in table.iterrows():
            cells = [
                "–" if row[name] is None or np.isnan(row[name]) else form.format(factor * row[name])
                for _, name, factor, form in columns
            ]
            rows.append((row["truth"], row["method"], *cells))
        return ["truth", "method", *(head for head, *_ in columns)], rows

    @property
    def methods(self) -> list[str]:
        """Methods by name, in the order of the matrix."""
        return list(dict.fromkeys(one.cell.name for one in self.results))

    @property
    def truths(self) -> list[str]:
        """Truths by name, in the order of the matrix."""
        return list(dict.fromkeys(one.cell.truth for one in self.results))

    def by_truth(self, truth: str) -> dict[str, dict[str, Tally]]:
        """Tallies by method, pooled over seeds and noise."""
        out: dict[str, dict[str, Tally]] = {}
        for (name, _, _, method), tallies in self.pooled().items():
            if name == truth and tallies:
                group = out.setdefault(method, {})
                _pool(group, tallies)
        return out


def _pool(group: dict[str, Tally], tallies: Mapping[str, Tally]) -> None:
    """Add tallies to those of a group, stratum by stratum."""
    for stratum, tally in tallies.items():
        group[stratum] = group[stratum] + tally if stratum in group else tally


def _mean(values: Iterable[Any]) -> float:
    """Mean of the numbers among them, nan where there are none."""
    kept = [float(value) for value in values if value is not None and np.isfinite(value)]
    return float(np.mean(kept)) if kept else np.nan
