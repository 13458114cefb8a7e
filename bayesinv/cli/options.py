"""Options that several commands share: types and help texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

Recording = Annotated[Path, Parameter(help="FIF file of averages (-ave.fif).")]

ForwardSolution = Annotated[Path, Parameter(help="FIF file of the forward solution (-fwd.fif).")]

NoiseCovariance = Annotated[Path, Parameter(help="FIF file of the noise covariance (-cov.fif).")]

Condition = Annotated[
    str | None,
    Parameter(help="Name of the average, or its number from 0; may be left out if the file holds one."),
]

Picks = Annotated[
    str | None,
    Parameter(
        help="Sensors to use: meg, eeg, mag, grad or channel names, separated by commas. All by default.",
    ),
]

Orientation = Annotated[
    Literal["fixed", "free"],
    Parameter(help="Currents along the normals of the cortex (fixed), or in any direction (free)."),
]

Start = Annotated[
    float | None,
    Parameter(help="Start of the recording to explain, s. After the baseline by default."),
]

Stop = Annotated[float | None, Parameter(help="End of the recording to explain, s.")]

Baseline = Annotated[
    str,
    Parameter(
        help='START,STOP in s, where there is no response, to learn the noise from; "none"; or "auto", what the file '
        "says, else all before 0 s.",
        allow_leading_hyphen=True,
    ),
]

BaselineCorrect = Annotated[
    str | None,
    Parameter(
        help="START,STOP in s: subtract the mean over this window first. By default the average is taken as it is.",
        allow_leading_hyphen=True,
    ),
]

Outliers = Annotated[
    Literal["warn", "drop", "keep"],
    Parameter(
        help="Sources on or outside the skull of the head model, whose gain is an artefact: left out with a warning or "
        "without (drop), or kept.",
    ),
]

LeaveOut = Annotated[
    str | None,
    Parameter(help="Channels to leave out, such as a check has named, separated by commas."),
]

LeaveOutTimes = Annotated[
    str | None,
    Parameter(
        help="Samples to leave out: times in s, or START,STOP; separated by semicolons, as in 0.1;-0.05,-0.03.",
        allow_leading_hyphen=True,
    ),
]

NoiseTime = Annotated[
    str,
    Parameter(
        help="Autocorrelation of the noise: auto (from the baseline), white, or a FILE of trials (-epo.fif), of an "
        "empty room (raw FIF), or of numbers by lag (.txt, .csv, .npy).",
    ),
]

NoiseTails = Annotated[
    Literal["normal", "student"],
    Parameter(help="Tails of the noise: normal, or student, by which bad channels and samples count for less."),
]

Averages = Annotated[
    float | None,
    Parameter(
        help="Trials that were averaged; 1.2 say, for combined averages, which files round. As filed by default."
    ),
]

Rank = Annotated[
    str | None,
    Parameter(
        help="Of the noise covariance: info (channels less projectors), full (all that projectors leave), a number, "
        "or meg=N,eeg=N. Estimated by default, without interpolated channels and added references.",
    ),
]

HeadMoved = Annotated[
    Literal["refuse", "warn"],
    Parameter(
        help="What to do where the head lies more than 5 mm elsewhere in the forward solution than in the recording.",
    ),
]

Model = Annotated[str, Parameter(help="Name of a shipped model or path of a .py file.")]

Seed = Annotated[int, Parameter(help="Of all randomness.")]

OutFolder = Annotated[
    Path,
    Parameter(help="Folder to write. An earlier result of this program in it is replaced."),
]

Switch = Annotated[bool, Parameter(negative=())]
"""An option without a value that can only be switched on."""

Overwrite = Annotated[bool, Parameter(help="Replace the folder whatever it holds.", negative=())]
