"""Inputs of commands: files and conditions read and checked, and options parsed."""

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
    """Files of a recording, forward solution and noise covariance, and the part of them to invert.

    condition : name or number of the average
    picks : sensors, separated by commas
    tmin, tmax : s
    averages : number of trials; None takes that of the file
    rank : info, full, a number, or meg=N,eeg=N; None estimates it
    baseline_correct : START,STOP in s, whose mean is subtracted first; None for none
    head_moved : "refuse" or "warn" where the head lies elsewhere in the forward solution
    leave_out : channels, separated by commas
    leave_out_times : s, times and windows START,STOP, separated by semicolons
    baseline : "auto", "none" or START,STOP in s

    Reading takes time, so the files' existence is checked first.

    Raises
    ------
    FileNotFoundError
        If a file is not there.
    ValueError
        If the baseline, the rank or the times to leave out cannot be parsed.
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
    noise_time: str = "auto"
    noise_tails: str = "normal"
    averages: float | None = None
    rank: str | None = None
    baseline_correct: str | None = None
    head_moved: str = "refuse"
    leave_out: str | None = None
    leave_out_times: str | None = None

    def __post_init__(self) -> None:
        for what, path in self.files.items():
            check_exists(what, path)
        parse_baseline(self.baseline)
        parse_rank(self.rank)
        parse_times(self.leave_out_times)
        self._correction()

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
                picks=split_names(self.picks),
                tmin=self.tmin,
                tmax=self.tmax,
                baseline=parse_baseline(self.baseline),
                outliers=self.outliers,
                noise_time=read_noise_time(self.noise_time),
                noise_tails=self.noise_tails,
                averages=self.averages,
                rank=parse_rank(self.rank),
                baseline_correct=self._correction(),
                head_moved=self.head_moved,
            )
            assert isinstance(problem, Problem)
            problem = problem.without(split_names(self.leave_out) or (), parse_times(self.leave_out_times))
        return evoked, problem

    def _correction(self) -> tuple[float | None, float | None] | None:
        """Return the window, in s, whose mean is subtracted."""
        return None if self.baseline_correct is None else parse_window("baseline-correct", self.baseline_correct)

    def _objects(self) -> tuple[Any, Any, Any]:
        """Return the average, forward solution and noise covariance as objects of MNE-Python."""
        import mne

        averages = read_fif("average", self.recording, lambda path: mne.read_evokeds(path))
        evoked = pick_condition(averages, self.condition, self.recording)
        solution = read_fif("forward solution", self.forward, lambda path: mne.read_forward_solution(path))
        return evoked, solution, read_fif("noise covariance", self.noise_cov, lambda path: mne.read_cov(path))

    def facts(self, evoked: Any, problem: Problem) -> dict[str, Any]:
        """Return what was inverted, for `summary.json`."""
        from bayesinv.problem.account import account

        return {
            **{what.replace(" ", "_"): str(path) for what, path in self.files.items()},
            "condition": evoked.comment,
            "averages": problem.field.averages if problem.field is not None else float(evoked.nave),
            "orientation": problem.orientation,
            "window": [float(problem.times[0]), float(problem.times[-1])],
            "noise_over_time": problem.noise_over_time,
            "noise_tails": problem.noise_tails,
            "picks": self.picks,
            "baseline": self.baseline,
            "baseline_correct": self.baseline_correct,
            "rank": self.rank,
            "leave_out": self.leave_out,
            "leave_out_times": self.leave_out_times,
            "used": account(problem),
        }


def check_exists(what: str, path: Path) -> None:
    """Raise unless there is such a file.

    what : expected content of the file, for the error text

    Raises
    ------
    FileNotFoundError
        If there is none.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no {what} file {path}" + ("; that is a folder" if path.is_dir() else ""))


def read_fif(what: str, path: Path | str, reader: Callable[[Path], Any]) -> Any:
    """Return the object that a reader of MNE-Python reads from a FIF file.

    what : expected content of the file, for the error text

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no FIF file, or holds nothing of that kind.
    """
    import mne

    path = Path(path)
    check_exists(what, path)
    with path.open("rb") as file:
        start = file.read(16)
    gzipped = start[:2] == b"\x1f\x8b"
    # Every FIF file opens with the tag of its identifier: kind 100, type 31, in big-endian order.
    if not gzipped and start[:8] != b"\x00\x00\x00\x64\x00\x00\x00\x1f":
        raise ValueError(f"{path} is not a FIF file, but the {what} must be one that MNE-Python wrote")
    try:
        with mne.use_log_level("CRITICAL"):
            return reader(path)
    except OSError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"{path} holds no {what} that can be read ({reason}); is it whole, and of that kind?"
        ) from error


def read_noise_time(given: str) -> Any:
    """Return what `from_mne` takes for "auto", "white" or the path of a file.

    given : a FIF file of trials (-epo.fif) or of a continuous recording without a subject, or a table of numbers
        (.txt, .csv, .npy), the autocorrelation by lag

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it holds nothing of these kinds.
    """
    if given in ("auto", "white"):
        return given
    import numpy as np

    path = Path(given)
    if path.suffix in (".npy", ".txt", ".csv"):
        check_exists("noise", path)
        try:
            if path.suffix == ".npy":
                return np.load(path, allow_pickle=False)
            return np.loadtxt(path, delimiter="," if path.suffix == ".csv" else None, ndmin=1)
        except (ValueError, EOFError) as error:
            raise ValueError(
                f"{path} holds no table of numbers that can be read ({error}), but the noise's autocorrelation is one "
                "number per lag, 1 at lag 0; is it whole, and of that kind?"
            ) from error
    if not path.suffix and not path.exists():
        one_of("noise over time", given, ("auto", "white"), ", or give the path of a file that is there")
    import mne

    def read(path: Path | str) -> Any:
        if Path(path).name.endswith(("-epo.fif", "_epo.fif", "-epo.fif.gz", "_epo.fif.gz")):
            return mne.read_epochs(path)
        return mne.io.read_raw_fif(path)

    return read_fif("noise", path, read)


def pick_condition(averages: Any, condition: str | None, path: Path) -> Any:
    """Return the average with this name or number.

    Raises
    ------
    ValueError
        If the file holds none, or none of that name, or several and none is named.
    """
    averages = averages if isinstance(averages, list) else [averages]
    if not averages:
        raise ValueError(
            f"{path} holds no average; it may be of epochs or a continuous recording: average it first, e.g. "
            "mne.read_epochs(path).average().save(...)"
        )
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


def parse_baseline(text: str) -> Window:
    """Return the baseline window that an option gives.

    Raises
    ------
    ValueError
        If it is neither "auto", "none" nor START,STOP.
    """
    name = text.strip().lower()
    if name == "auto":
        return "auto"
    if name == "none":
        return None
    return parse_window("baseline", text, ", 'auto' or 'none'")


def parse_window(option: str, text: str, others: str = "") -> tuple[float | None, float | None]:
    """Return the window START,STOP in s that an option gives; an end that is left out is open.

    others : what else the option may be, for the error text

    Raises
    ------
    ValueError
        If it is none, or ends before it starts.
    """
    parts = [part.strip() for part in text.split(",")]
    try:
        start, stop = (float(part) if part and part.lower() != "none" else None for part in parts)
    except ValueError:
        raise ValueError(f"--{option} {text} is not START,STOP in s (such as -0.2,0){others}") from None
    if start is not None and stop is not None and not start < stop:
        raise ValueError(f"--{option} {text} ends before it starts; give START,STOP in s, such as -0.2,0")
    return start, stop


def parse_times(text: str | None) -> list[float | tuple[float | None, float | None]]:
    """Return the times and windows in s that an option gives, separated by semicolons.

    Raises
    ------
    ValueError
        If a part is neither.
    """
    found: list[float | tuple[float | None, float | None]] = []
    for part in filter(None, (part.strip() for part in (text or "").split(";"))):
        if "," in part:
            found.append(parse_window("leave-out-times", part))
            continue
        try:
            found.append(float(part))
        except ValueError:
            raise ValueError(
                f"--leave-out-times {part} is no time in s, nor START,STOP; separate several by semicolons"
            ) from None
    return found


def parse_rank(text: str | None) -> Any:
    """Return the rank that an option gives: None, "info", "full", a number, or numbers by group of sensors.

    Raises
    ------
    ValueError
        If it is none of these.
    """
    name = None if text is None else text.strip().lower()
    if name is None or name in ("info", "full"):
        return name
    try:
        if "=" not in name:
            return int(name)
        pairs = [part.split("=") for part in name.split(",") if part.strip()]
        given = [(group.strip(), int(number)) for group, number in pairs]
    except ValueError:
        raise ValueError(f"--rank {text} is not info, full, a number, or meg=N,eeg=N") from None
    groups = [group for group, _ in given]
    twice = sorted({group for group in groups if groups.count(group) > 1})
    if twice:
        raise ValueError(f"--rank {text} gives {', '.join(twice)} more than once; give each kind of sensor one rank")
    return dict(given)


def split_names(text: str | None) -> list[str] | None:
    """Return names separated by commas."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def parse_numbers(what: str, text: str | None) -> list[float] | None:
    """Return numbers separated by commas.

    Raises
    ------
    ValueError
        If a part is no number.
    """
    parts = split_names(text)
    try:
        return None if parts is None else [float(part) for part in parts]
    except ValueError:
        raise ValueError(f"--{what} {text} holds what is no number; give numbers separated by commas") from None


def parse_names(text: str) -> list[str]:
    """Return names separated by commas, each once; an empty list for "none"."""
    return [] if text.strip().lower() == "none" else list(dict.fromkeys(split_names(text) or []))


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
