"""What comes in: files and conditions read and checked, and words and numbers in options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bayesinv.axes import one_of

if TYPE_CHECKING:
    from bayesinv.cli.screen import Stages
    from bayesinv.problem.problem import Problem

Window = Literal["auto"] | tuple[float | None, float | None] | None


@dataclass(frozen=True)
class Inputs:
    """What is to be inverted: files that are there, and what of them.

    condition : name or number of the average
    picks : sensors, separated by commas
    tmin, tmax : s
    baseline : "auto", "none" or START,STOP in s

    Reading takes time, so all files are looked for first.

    Raises
    ------
    FileNotFoundError
        If a file is not there.
    ValueError
        If the baseline is none.
    """

    recording: Path
    forward: Path
    noise_cov: Path
    condition: str | None
    picks: str | None
    orientation: Literal["fixed", "free"]
    tmin: float | None
    tmax: float | None
    baseline: str
    outliers: str

    def __post_init__(self) -> None:
        for what, path in self.files.items():
            look_for(what, path)
        window(self.baseline)

    @property
    def files(self) -> dict[str, Path]:
        """The files by what they hold."""
        return {"recording": self.recording, "forward": self.forward, "noise covariance": self.noise_cov}

    def read(self, stages: Stages) -> tuple[Any, Problem]:
        """Return the average as an object of MNE-Python, and the whitened problem of inverting it."""
        with stages("load libraries"):
            import mne

            from bayesinv.bridges.mne_in import from_mne
            from bayesinv.problem.problem import Problem
        with stages("read files"):
            evoked, solution, covariance = self._objects()
        with stages("whiten"), mne.use_log_level("ERROR"):
            problem = from_mne(
                evoked,
                solution,
                covariance,
                orientation=self.orientation,
                picks=words(self.picks),
                tmin=self.tmin,
                tmax=self.tmax,
                baseline=window(self.baseline),
                outliers=self.outliers,
            )
        assert isinstance(problem, Problem)
        return evoked, problem

    def _objects(self) -> tuple[Any, Any, Any]:
        """Return the average, forward solution and noise covariance as objects of MNE-Python."""
        import mne

        averages = read_fif("average", self.recording, lambda path: mne.read_evokeds(path))
        evoked = pick_condition(averages, self.condition, self.recording)
        solution = read_fif("forward solution", self.forward, lambda path: mne.read_forward_solution(path))
        return evoked, solution, read_fif("noise covariance", self.noise_cov, lambda path: mne.read_cov(path))

    def facts(self, evoked: Any, problem: Problem) -> dict[str, Any]:
        """Return what was inverted, for the summary."""
        return {
            **{what.replace(" ", "_"): str(path) for what, path in self.files.items()},
            "condition": evoked.comment,
            "averages": int(evoked.nave),
            "orientation": problem.orientation,
            "window": [float(problem.times[0]), float(problem.times[-1])],
        }


def look_for(what: str, path: Path) -> None:
    """Raise unless there is such a file.

    what : what the file should hold, for people to read

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no {what} file {path}" + ("; that is a folder" if path.is_dir() else ""))


def read_fif(what: str, path: Path | str, reader: Callable[[Path], Any]) -> Any:
    """Return what a reader of MNE-Python makes of a FIF file.

    what : what the file should hold, for people to read

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no FIF file, or holds nothing of that kind.
    """
    import mne

    path = Path(path)
    look_for(what, path)
    with path.open("rb") as file:
        start = file.read(16)
    packed = start[:2] == b"\x1f\x8b"
    # Every FIF file opens with the tag of its identifier: kind 100, type 31, in big-endian order.
    if not packed and start[:8] != b"\x00\x00\x00\x64\x00\x00\x00\x1f":
        raise ValueError(f"{path} is not a FIF file, but the {what} must be one that MNE-Python wrote")
    try:
        with mne.use_log_level("CRITICAL"):
            return reader(path)
    except OSError:
        raise
    except Exception as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} holds no {what} that can be read ({said}); is it whole, and of that kind?") from error


def pick_condition(averages: Any, condition: str | None, path: Path) -> Any:
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


def window(text: str) -> Window:
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


def words(text: str | None) -> list[str] | None:
    """Return what commas separate."""
    return None if text is None else [word.strip() for word in text.split(",") if word.strip()]


def numbers(what: str, text: str | None) -> list[float] | None:
    """Return numbers that commas separate.

    Raises
    ------
    ValueError
        If one is none.
    """
    parts = words(text)
    try:
        return None if parts is None else [float(part) for part in parts]
    except ValueError:
        raise ValueError(f"--{what} {text} holds what is no number; give numbers separated by commas") from None


def chosen(text: str) -> list[str]:
    """Return names that commas separate, each once; none of them for "none"."""
    return [] if text.strip().lower() == "none" else list(dict.fromkeys(words(text) or []))


def check_method(method: str | None) -> None:
    """Raise if there is no such method of inference.

    Raises
    ------
    ValueError
        If it is named, and none has that name.
    """
    if method is not None:
        from bayesinv.inference.methods import METHODS

        one_of("method", method, METHODS)


def check_seed(seed: int) -> None:
    """Raise unless a random generator takes this seed.

    Raises
    ------
    ValueError
        If it is negative.
    """
    if seed < 0:
        raise ValueError(f"seed is {seed}, but must not be negative")
