"""A matrix of truths, noise, methods and seeds."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from bayesinv.arguments import path_of
from bayesinv.axes import one_of
from bayesinv.classical.baseline import METHODS as CLASSICAL
from bayesinv.classical.criteria import LAMBDA_CRITERIA
from bayesinv.evaluation.truths import TRUTHS
from bayesinv.head import template_mesh
from bayesinv.head.template_cortex import LAYOUTS
from bayesinv.posterior.quantiles import credible_level
from bayesinv.prior.catalogue import find_model

PRIOR = "prior: "
"""Prefix of the name of a model from whose prior a truth is drawn."""

SPACINGS = ("ico3", "ico4", "oct4", "oct5", "oct6")
HEADS, WORLDS, NOISES = ("template", "sphere"), ("template", "inversion"), ("white", "correlated", "brain")

MODEL, BASELINE, REFEREE = "model", "classical", "referee"


@dataclass(frozen=True)
class Configuration:
    """A matrix of truths, signal-to-noise ratios, methods and seeds, with the settings that they share.

    title : for people to read
    truths : names in `TRUTHS`, or "prior: MODEL"
    snr : power of the signal over that of the noise, see `simulate`; or alpha, ‖noise‖ / ‖signal‖ = (1 - alpha) / alpha
    models : names of shipped models, or paths of .py files
    baselines : methods of `baseline`, and choices of λ of `tikhonov`; their intervals are `naive`
    seeds : each gives one world and one truth of every kind; a number n gives seeds 0 to n - 1
    forward_error : whether models learn the lead field's error: false, true or both
    world : "template" draws the truth's head as `draw_world` does; "inversion" takes the inversion's own lead field
    head : of the inversion: "template" (boundary elements), or "sphere", in which the template's cortex is shrunk
    spacing : of the inversion's cortex; electrodes : 32 or 64
    truth_spacing, resolution : of the truth's cortex and its finite elements
    draws : lead fields from which the forward error is estimated
    error_solver : of those: "fem", the template with fluid below the skull, or "bem", as the inversion's
    noise : "white"; "correlated" over sensors; "brain" is half that and half background activity, both 1/f over time,
        its covariance estimated from other noise
    duration, baseline, rate : of the response and of the noise before it, s; and samples per second
    samples : of the response that are scored, evenly spaced; to score all of them takes longer than the inference
    regions : parcels whose mean currents are scored
    level : of intervals
    allow_inverse_crime : whether the inversion may use the truth's lead field; all output is marked then

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
            one_of("baseline", name, (*CLASSICAL, *LAMBDA_CRITERIA))
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
        from_priors = all(name.startswith(PRIOR) for name in self.truths)
        if not (self.truths and self.seeds and self.forward_error and (from_priors or self.snr or self.alpha)):
            raise ValueError("the matrix is empty: it wants at least one of truths, seeds, and snr or alpha")
        if self.snr and self.alpha:
            raise ValueError("snr and alpha both set the scale of the noise; give one of them")
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
            path, shipped = path_of("configuration", given), shipped_configurations()
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
        """Whether the configuration has some truths made with the inversion's own lead field."""
        return self.world == "inversion" or any(name.startswith(PRIOR) for name in self.truths)

    @property
    def noise_levels(self) -> tuple[tuple[str, float], ...]:
        """Ratios that the noise is scaled to: ("snr" or "alpha", value) each."""
        return tuple(("snr", one) for one in self.snr) + tuple(("alpha", one) for one in self.alpha)

    def cells(self, referees: Iterable[str] = ()) -> list[Cell]:
        """Return every cell of the matrix; only models have cells that learn the forward error."""
        methods = [(name, MODEL, learned) for learned in self.forward_error for name in self.models]
        methods += [(name, BASELINE, False) for name in self.baselines]
        methods += [(name, REFEREE, False) for name in referees]
        if not methods:
            raise ValueError("the matrix is empty: it wants at least one of models and baselines")
        return [
            Cell(truth, how, loud, seed, name, kind, learned)
            for seed in self.seeds
            for truth in self.truths
            for how, loud in ([("drawn", 0.0)] if truth.startswith(PRIOR) else self.noise_levels)
            for name, kind, learned in methods
            # A truth that is drawn from a prior has the inversion's lead field, without error.
            if not (learned and truth.startswith(PRIOR))
        ]


def _check_type(name: str, value: Any, kind: str) -> None:
    """Raise unless a value of a configuration has the type of its field, or is a list of such where that is a tuple."""
    wanted = {"str": str, "int": int, "float": (int, float), "bool": bool}
    inner = kind.removeprefix("tuple[").split(",")[0].rstrip("]")
    several = kind.startswith("tuple")
    values = list(value) if several and isinstance(value, list | tuple | range) else [value]
    for one in values:
        if not isinstance(one, wanted[inner]) or (isinstance(one, bool) and inner != "bool"):  # type: ignore[arg-type]
            raise ValueError(f"{name} is {value!r}, but wants {'a list of ' * several}{inner}")


def shipped_configurations() -> dict[str, Path]:
    """Configurations that come with the library, by name."""
    folder = Path(__file__).parents[1] / "configurations"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


@dataclass(frozen=True)
class Cell:
    """One method on one simulated truth.

    how, loud : ratio that the noise is scaled to, "snr" or "alpha", and its value; "drawn" and 0 where a prior sets it
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
        """Name of the method, for people to read."""
        return Path(self.method).stem + " + forward error" * self.forward_error
